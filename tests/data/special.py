# Values of special functions to 40 digits by mpmath, rounded to the nearest double: `python tests/data/special.py > tests/data/special.csv`.
# Columns: function, x (of polygamma: n:x), value, the function's condition |x f'(x)/f(x)|, all in hexadecimal or decimal.
from mpmath import mp, mpf, loggamma, psi, erfinv, diff, re

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
