"""Figures for tests/lua/distributions_spec.lua, from SciPy and (the truncated normal) mpmath: python distributions.py > distributions.csv

Lines: what,name,parameters with spaces between,numbers with spaces between
  log_prob, cdf: x and value in turn
  quantiles: probability and quantile in turn
  bins: critical value of chi-square at 1e-4, then last number of a bin and its probability in turn
"""
import mpmath
import numpy as np
from scipy import stats

mpmath.mp.dps = 50
inf = np.inf


def line(what, name, parameters, numbers):
    print(what, name, " ".join(f"{p:.17g}" for p in parameters), " ".join(f"{x:.17g}" for x in numbers), sep=",")


def pairs(x, y):
    return [v for pair in zip(x, y) for v in pair]


P = np.concatenate(([1e-4, 1e-3], np.linspace(0.01, 0.99, 50), [0.999, 0.9999]))
continuous = {
    "uniform": (lambda lo, hi: stats.uniform(lo, hi - lo), [(0, 1), (-2, 5)]),
    "normal": (stats.norm, [(0, 1), (-3, 0.2)]),
    "lognormal": (lambda mu, sigma: stats.lognorm(sigma, scale=np.exp(mu)), [(0, 1), (2, 0.1)]),
    "exponential": (lambda scale: stats.expon(scale=scale), [(1,), (0.02,)]),
    "laplace": (stats.laplace, [(0, 1), (3, 0.5)]),
    "cauchy": (stats.cauchy, [(0, 1), (3, 0.5)]),
    "gamma": (lambda a, scale: stats.gamma(a, scale=scale), [(0.01, 1), (0.5, 2), (1, 1), (2.5, 0.1), (1e4, 1)]),
    "beta": (stats.beta, [(0.1, 0.1), (0.5, 2), (1, 1), (3, 5), (1000, 1)]),
    "student_t": (stats.t, [(0.5,), (1,), (2.5,), (30,)]),
}
for name, (make, list_) in continuous.items():
    for p in list_:
        d = make(*p)
        q = d.ppf(P)
        line("quantiles", name, p, pairs(P, q))
        x = q[::6]
        x = x[(x > 1e-300) | (x < 0) | (name not in ("gamma", "beta", "lognormal"))]
        x = x[x < 1] if name == "beta" else x
        line("log_prob", name, p, pairs(x, d.logpdf(x)))
        line("cdf", name, p, pairs(x, d.cdf(x)))


def Phi(x):
    return mpmath.ncdf(x) if x < 5 else 1 - mpmath.erfc(x / mpmath.sqrt(2)) / 2


def mass(lo, hi):  # without loss in the upper tail
    if lo > 0:
        return mass(-hi, -lo)
    return Phi(hi) - Phi(lo)


for lo, hi in [(-1, 2), (8, 9), (-inf, -10), (50, inf), (-40, -39.5), (-1e-9, 1e-9), (-inf, inf), (0, inf), (-6, 0.1), (200, 201)]:
    a, b = mpmath.mpf(lo), mpmath.mpf(hi)
    total = mass(a, b)
    line("mass", "truncated_normal", (lo, hi), [float(mpmath.log(total))])
    z = []
    for u in P:
        if lo > 0:  # mirrored: of the upper tail
            low, high, target = lo, (hi if hi < inf else lo + 30), (1 - mpmath.mpf(u)) * total
            f = lambda x: mass(x, b) - target
        else:
            low, high, target = (lo if lo > -inf else (hi if hi < 0 else 0) - 30), (hi if hi < inf else 30), mpmath.mpf(u) * total
            f = lambda x: mass(a, x) - target
        lo_, hi_ = mpmath.mpf(low), mpmath.mpf(high)
        sign = f(lo_) > 0
        for _ in range(110):
            m = (lo_ + hi_) / 2
            if (f(m) > 0) == sign:
                lo_ = m
            else:
                hi_ = m
        z.append(float(lo_))
    line("quantiles", "truncated_normal", (lo, hi), pairs(P, z))
    x = z[::6]
    log_prob = [float(-mpmath.mpf(v) ** 2 / 2 - mpmath.log(2 * mpmath.pi) / 2 - mpmath.log(total)) for v in x]
    line("log_prob", "truncated_normal", (lo, hi), pairs(x, log_prob))
    cdf = [float(1 - mass(v, b) / total if lo > 0 else mass(a, v) / total) for v in x]
    line("cdf", "truncated_normal", (lo, hi), pairs(x, cdf))

discrete = {
    "poisson": (stats.poisson, [(1e-3,), (3,), (9.99,), (10,), (40,), (1e6,)]),
    "binomial": (stats.binom, [(10, 0.3), (5, 0.9), (100, 0.3), (40, 0.5), (1e6, 0.5), (1e6, 1e-6), (300, 0.98)]),
}
N = 100000
for name, (make, list_) in discrete.items():
    for p in list_:
        d = make(*p)
        edges = np.unique(d.ppf(np.linspace(0.005, 0.995, 60)))
        mass_ = np.diff(np.concatenate(([0], d.cdf(edges), [1])))
        keep, at, rest = [], [], 0
        for e, m in zip(np.concatenate((edges, [inf])), mass_):
            rest += m
            if rest * N >= 20:
                keep.append(rest)
                at.append(e)
                rest = 0
        keep[-1] += rest
        at[-1] = inf
        line("bins", name, p, [stats.chi2.ppf(1 - 1e-4, max(len(keep) - 1, 1))] + pairs(at, keep))
        k = np.unique(d.ppf([1e-6, 0.1, 0.5, 0.9, 1 - 1e-6]))
        line("log_prob", name, p, pairs(k, d.logpmf(k)))
x = np.array([[0.3, -1.0, 2.0], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
C = np.array([[2, 0.5, 0.1], [0.5, 1, -0.3], [0.1, -0.3, 0.7]])
line("vectors", "multivariate_normal", C.ravel(), pairs(x.ravel(), np.repeat(stats.multivariate_normal([1, 0, -1], C).logpdf(x), 3)))
