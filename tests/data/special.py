# Values of special functions to 40 digits by mpmath, rounded to the nearest double: `python tests/data/special.py > tests/data/special.csv`.
# Columns: function, n of polygamma or a of the incomplete gamma functions (else 0), x, value, and how many roundings of the value may be
# owed to those of the arguments: the condition |x f'(x)/f(x)|, with that in a; of oscillating functions their envelope's size instead.
from mpmath import besseli, besselj, besselk, bessely, diff, erfinv, exp, gammainc, loggamma, mp, mpf, pi, psi, re, sqrt

mp.dps = 40


def row(name, label, f, x):
    y = f(mpf(x))
    condition = abs(mpf(x) * diff(f, mpf(x)) / y) if y else mpf(0)
    print(f"{name},{label},{float(x)!r},{float(y)!r},{float(condition):.3g}")


positive = [1e-300, 1e-20, 1e-8, 1e-3, 0.1, 0.3, 0.5, 0.9, 1.1, 1.3, 1.7, 1.9, 2.2, 2.5, 3.7, 5.5, 9.9, 10.0, 10.1, 33.3, 171.5, 1e4, 1e10, 1e100]
negative = [-0.1, -0.5, -0.9, -1.3, -2.6, -7.7, -20.2]
for x in positive + negative:
    row("lgamma", 0, lambda t: re(loggamma(t)), x)
    row("digamma", 0, lambda t: psi(0, t), x)
    if -100 < x and x > -100 and abs(x) > 1e-100:
        row("polygamma", 1, lambda t: psi(1, t), x)
for n in (2, 3, 5, 8):
    for x in positive[3:22]:
        row("polygamma", n, lambda t, n=n: psi(n, t), x)
for x in [1e-300, 1e-10, 0.01, 0.1, 0.3, 0.5, 0.7, 0.84, 0.86, 0.95, 0.99, 0.9999, 1 - 1e-8, 1 - 1e-13, 1 - 2.0**-53]:
    row("erfinv", 0, erfinv, x)
    row("erfinv", 0, erfinv, -x)


def oscillating(name, f, x):
    y, envelope = f(mpf(x)), sqrt(2 / (pi * mpf(x)))
    print(f"{name},0,{float(x)!r},{float(y)!r},{float(envelope / abs(y)) if x > 0.3 else 0:.3g}")


wide = [1e-300, 1e-150, 1e-20, 1e-9, 1e-4, 0.01, 0.2, 0.26, 0.7, 0.999, 1.001, 1.8, 2.4, 2.404825557695773, 3.8317, 5.5200781, 7.99, 8.01, 8.6537,
        11.7, 14.93, 22.5, 50.3, 99.9, 313.7, 1000.5, 12345.6, 1e6, 1e9]
for x in wide:
    oscillating("j0", lambda t: besselj(0, t), x)
    oscillating("j1", lambda t: besselj(1, t), x)
    oscillating("y0", lambda t: bessely(0, t), x)
    oscillating("y1", lambda t: bessely(1, t), x)
    if x < 700:
        row("i0", 0, lambda t: besseli(0, t), x)
        row("i1", 0, lambda t: besseli(1, t), x)
        row("i1", 0, lambda t: besseli(1, t), -x)
        row("k0", 0, lambda t: besselk(0, t), x)
        row("k1", 0, lambda t: besselk(1, t), x)
    row("i0e", 0, lambda t: exp(-abs(t)) * besseli(0, t), x)
    row("i1e", 0, lambda t: exp(-abs(t)) * besseli(1, t), x)
    row("i1e", 0, lambda t: exp(-abs(t)) * besseli(1, t), -x)
    row("k0e", 0, lambda t: exp(t) * besselk(0, t), x)
    row("k1e", 0, lambda t: exp(t) * besselk(1, t), x)

mp.dps = 60


def incomplete(name, f, a, x):
    a, x = mpf(a), mpf(x)
    y = f(a, x)
    if not 1e-290 < abs(y) < 1e290:
        return
    condition = abs(x * diff(lambda t: f(a, t), x) / y) + abs(a * diff(lambda t: f(t, x), a) / y)
    print(f"{name},{float(a)!r},{float(x)!r},{float(y)!r},{float(condition):.3g}")


def lower(a, x):
    return gammainc(a, 0, x, regularized=True)


def upper(a, x):
    return gammainc(a, x, mp.inf, regularized=True)


for a in [1e-3, 0.07, 0.5, 0.95, 1, 1.7, 4.2, 12, 19.9, 20.1, 55.5, 300.25, 2000]:
    for ratio in [1e-6, 0.01, 0.2, 0.6, 0.69, 0.71, 0.9, 1 - 1e-9, 1, 1.03, 1.29, 1.31, 1.6, 2.5, 8, 40]:
        incomplete("gammainc", lower, a, float(a * ratio))
        incomplete("gammaincc", upper, a, float(a * ratio))
        if ratio < 8:  # the derivative in a, as pl.grad takes it
            incomplete("slope", lambda t, u: diff(lambda w: lower(w, u), t), a, float(a * ratio))
