# Values of special functions to 40 digits by mpmath, rounded to the nearest double: `python tests/data/special.py > tests/data/special.csv`.
# Columns: function, n of polygamma and expint, a of the incomplete gamma functions, a and b of the incomplete beta function, df of
# stdtr, the first argument of betaln (else 0), x, value, and how many roundings of the value may be
# owed to those of the arguments: the condition |x f'(x)/f(x)|, with that in a; of oscillating functions their envelope's size instead.
from mpmath import besseli, besselj, besselk, bessely, diff, ei, erfinv, exp, expint, expm1, gammainc, hyp2f1, log, log1p, loggamma, mp, mpf, pi, psi, quad, re, sqrt

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

mp.dps = 40
for n in (1, 2, 3, 7, 40, 1000):
    for x in [1e-300, 1e-10, 0.01, 0.3, 0.7, 0.99, 1.01, 1.5, 2.3, 3.99, 4.01, 7.7, 19.3, 88.8, 600.0]:
        row("expint", n, lambda t, n=n: expint(n, t), x)
for x in [-600.5, -9.9, -1.2, -0.3, -1e-9, 1e-300, 1e-10, 0.01, 0.2, 0.3725, 0.37250741078136661, 0.38, 0.6, 1.5, 3.3, 5.99, 6.01, 8.8, 11.9, 12.1,
          17.7, 23.9, 24.1, 39.4, 99.9, 650.0]:
    row("expi", 0, ei, x)


def front(a, b, x):
    return exp(a * log(x) + b * log1p(-x) + loggamma(a + b) - loggamma(a) - loggamma(b))


def tail(a, b, x):  # I_x(a, b) for x below the mean
    if max(a, b) < 2e5:
        return front(a, b, x) / a * hyp2f1(a + b, 1, a + 1, x)
    density, end = lambda t: exp(-a * t - (a + b) * log1p(x * expm1(-t))), mpf(1)  # along the logit
    while density(end) > mpf(10) ** -45:
        end *= 2
    while density(end) < mpf(10) ** -60:
        end *= 0.8
    return front(a, b, x) * quad(density, [end * k / 8 for k in range(9)])


def incomplete_beta(a, b, x):
    a, b, x = mpf(a), mpf(b), mpf(x)
    mirrored = x * (a + b) > a
    p, q, y = (b, a, 1 - x) if mirrored else (a, b, x)
    value = tail(p, q, y)
    if not value > 1e-290:
        return
    steps = [v * mpf(10) ** -15 for v in (p, q)]
    in_p = (tail(p + steps[0], q, y) - tail(p - steps[0], q, y)) / (2 * steps[0])
    in_q = (tail(p, q + steps[1], y) - tail(p, q - steps[1], y)) / (2 * steps[1])
    moved = abs(p * in_p) + abs(q * in_q) + front(a, b, x) / min(x, 1 - x)
    label = f"{float(a)!r} {float(b)!r},{float(x)!r}"
    total = 1 - value if mirrored else value
    print(f"betainc,{label},{float(total)!r},{float(moved / total):.3g}")
    for name, d in (("betainc_da", -in_q if mirrored else in_p), ("betainc_db", -in_p if mirrored else in_q)):
        print(f"{name},{label},{float(d)!r},{float(moved / value):.3g}")


mp.dps = 60
shapes = [(1e-8, 1e-8), (1e-8, 0.3), (0.3, 1e-8), (1e-3, 20), (1e-3, 1e5), (0.01, 0.02), (0.1, 0.9), (0.5, 0.5), (0.3, 5), (1, 1), (1, 5), (2, 0.5), (5, 0.5),
          (3, 3), (12, 1), (12, 0.1), (12, 12), (30, 5), (41.5, 40), (499, 700), (1000, 30), (30, 1000), (1e4, 1), (1e4, 0.5), (1e4, 1e-6), (20, 1e5), (520, 520),
          (600, 1e5), (1e5, 1e5), (0.5, 1e7), (1e7, 30), (1e6, 1e9), (1e10, 1e10)]
for a, b in shapes:
    m = a / (a + b)
    s = (a * b / (a + b + 1)) ** 0.5 / (a + b)
    xs = [1e-10, 0.02, 0.2, 0.29, 0.31, 0.5, 0.69, 0.71, 0.9, 1 - 1e-9] if s > 0.1 else [m + k * s for k in (-8, -4, -1, -0.1, 0, 0.3, 1, 3, 8)]
    if m < 0.5 and a < 100:
        xs += [m * 0.1, m * 0.5, m * 3]
    for x in xs:
        if 0 < x < 1:
            incomplete_beta(a, b, x)


def student(n, t):  # below 0
    return tail(n / 2, mpf(1) / 2, n / (n + t * t)) / 2 if t * t > n else mpf(1) / 2 - tail(mpf(1) / 2, n / 2, t * t / (n + t * t)) / 2


for n in (0.1, 1, 2.5, 10, 77.7, 999, 1e5):
    for t in (-1e-9, -0.01, -0.7, -1.5, -3, -8, -36):
        if n >= 1e5 and t < -10:
            continue
        n, t = mpf(n), mpf(t)
        h = n * mpf(10) ** -15
        p, in_n = student(n, t), (student(n + h, t) - student(n - h, t)) / (2 * h)
        in_t = exp(-(n + 1) / 2 * log1p(t * t / n) - loggamma(n / 2) - loggamma(mpf(1) / 2) + loggamma(n / 2 + mpf(1) / 2)) / sqrt(n)
        print(f"stdtr,{float(n)!r},{float(t)!r},{float(p)!r},{float((abs(n * in_n) + abs(t * in_t)) / p):.3g}")
        print(f"stdtr_ddf,{float(n)!r},{float(t)!r},{float(in_n)!r},{float(abs(t * in_t) / p + n):.3g}")

for a in (1e-200, 1e-8, 0.01, 0.7, 1, 3.3, 9.99, 10.01, 25, 1e3, 1e8, 1e30):
    for b in (1e-8, 0.02, 0.5, 2, 9.99, 11, 40, 1e4, 1e12, 1e100):
        mp.dps = 400
        y = loggamma(mpf(a)) + loggamma(mpf(b)) - loggamma(mpf(a) + mpf(b))
        moved = abs(a * (psi(0, mpf(a)) - psi(0, mpf(a) + b))) + abs(b * (psi(0, mpf(b)) - psi(0, mpf(a) + b)))
        mp.dps = 60
        print(f"betaln,{float(a)!r},{float(b)!r},{float(y)!r},{float((moved + 1) / abs(y)):.3g}")
