"""bench/nonlinear.lua with NumPy and SciPy."""
import time
import numpy as np
import scipy.optimize
import scipy.sparse as sp
import scipy.sparse.linalg


def least(f, runs=5):
    best = float("inf")
    for _ in range(runs):
        start = time.perf_counter()
        f()
        best = min(best, time.perf_counter() - start)
    return best * 1e3


def row(name, ms):
    print(f"{name:<42} {ms:10.3f}")


n = 100000
h = 1 / (n + 1)
x = np.linspace(0, 1, n + 2)[1:-1]
f = 10 * np.sin(3 * x) * h**2


def residual(u):
    v = np.pad(u, 1)
    m = (v[1:] + v[:-1]) / 2
    return -np.diff((1 + m**2) * np.diff(v)) - f


def jacobian(u):  # by hand
    v = np.pad(u, 1)
    m, d = (v[1:] + v[:-1]) / 2, np.diff(v)
    right, left = 1 + m**2 + m * d, -(1 + m**2) + m * d  # of the flux by the right and the left value
    return sp.diags([left[1:-1], left[1:] * -1 + right[:-1], -right[1:-1]], [-1, 0, 1], format="csc")


def newton():
    u = np.zeros(n)
    r = residual(u)
    first = np.linalg.norm(r)
    while np.linalg.norm(r) > 1e-12 + 1e-8 * first:
        u = u - scipy.sparse.linalg.spsolve(jacobian(u), r)
        r = residual(u)
    return u


u = 0.1 * np.sin(np.pi * x)
row("residual, 1e5 unknowns", least(lambda: residual(u), 50))
row("Jacobian by hand", least(lambda: jacobian(u), 50))
row("newton, 1e5 unknowns", least(newton))
y = np.linspace(-10, 10, 1000000)
row("root of y^3 + y = x, 1e6", least(
    lambda: scipy.optimize.newton(lambda s: s**3 + s - y, np.zeros_like(y), lambda s: 3 * s**2 + 1, maxiter=60)))
