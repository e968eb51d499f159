# The constants of special functions, by mpmath: `python tests/data/coefficients.py > kernels/bessel.h` makes that header,
# with the argument `expint` kernels/expint.h; with any other it prints those in kernels/incomplete.c and kernels/gamma.h.
import sys
from mpmath import mp, mpf, besseli, besselj, bessely, besselk, cos, digamma, e1, ei, euler, exp, factorial, findroot, harmonic, hankel1, log, lu_solve
from mpmath import matrix, pi, rf, rgamma, sqrt, zeta

mp.dps = 60


def temme(smallest_a, largest_eta):
    """Taylor coefficients of c_k(eta), DLMF 8.12.10 and 8.12.11, as far as they matter for a and |eta| within the bounds."""
    n = 80
    mu = [mpf(0), mpf(1)]  # lambda - 1 in powers of eta, from mu' mu = eta (1 + mu)
    for k in range(2, n + 1):
        rest = sum(j * mu[j] * mu[k + 1 - j] for j in range(2, k))
        mu.append((mu[k - 1] - rest) / (k + 1))
    inverse = [mpf(1)]  # eta/mu
    for k in range(1, n):
        inverse.append(-sum(mu[j + 1] * inverse[k - j] for j in range(1, k + 1)))
    c, rows = inverse[1:], []  # 1/mu - 1/eta
    for k in range(12):
        size = [abs(c[j]) * mpf(largest_eta) ** j * mpf(smallest_a) ** -k for j in range(len(c))]
        rows.append(c[: max(j + 1 for j in range(len(c)) if size[j] > 2e-18)])
        d = [(j + 1) * c[j + 1] for j in range(len(c) - 1)]  # c', and c_(k+1) = (c' - c'(0) eta/mu)/eta
        c = [d[j] - d[0] * inverse[j] for j in range(1, len(d))]
    return rows


def chebyshev(f, lo, hi, tolerance=1e-18, nodes=48):
    """Powers of s in -1 .. 1 that interpolate f(lo + (hi - lo)(s + 1)/2), cut where Chebyshev's coefficients are small."""
    lo, hi = mpf(lo), mpf(hi)
    angles = [pi * (k + mpf(1) / 2) / nodes for k in range(nodes)]
    v = [f((lo + hi) / 2 + (hi - lo) / 2 * cos(t)) for t in angles]
    c = [(2 if j else 1) * sum(v[k] * cos(j * angles[k]) for k in range(nodes)) / nodes for j in range(nodes)]
    n = 1 + max(j for j in range(nodes) if abs(c[j]) > tolerance * max(map(abs, c)))
    t, powers = [[mpf(1)], [mpf(0), mpf(1)]], [mpf(0)] * n
    while len(t) < n:
        new = [mpf(0)] + [2 * x for x in t[-1]]
        for i, x in enumerate(t[-2]):
            new[i] -= x
        t.append(new)
    for k in range(n):
        for i, x in enumerate(t[k]):
            powers[i] += c[k] * x
    return powers


def rational(f, lo, hi, degree):
    """Numerator and denominator that interpolate f at Chebyshev's nodes."""
    n = 2 * degree + 1
    a, b = matrix(n, n), matrix(n, 1)
    for i in range(n):
        x = mpf(lo + hi) / 2 + mpf(hi - lo) / 2 * cos(pi * (2 * i + 1) / (2 * n))
        b[i] = f(x)
        for j in range(degree + 1):
            a[i, j] = x**j
            if j:
                a[i, degree + j] = -b[i] * x**j
    s = list(lu_solve(a, b))
    return s[: degree + 1], [mpf(1)] + s[degree + 1 :]


def function(name, variable, powers):
    """A C function by Horner's rule."""
    words = [mp.nstr(x, 19) for x in powers[::-1]]
    text = [f"  return {'(' * (len(words) - 2)}{words[0]}*{variable}"]
    for k, word in enumerate(words[1:]):
        last = k == len(words) - 2
        piece = (" - " + word[1:] if word[0] == "-" else " + " + word) + (";" if last else f")*{variable}")
        if len(text[-1]) + len(piece) > 126:
            text.append("        ")
        text[-1] += piece
    print(f"PL_FN double {name}(double {variable}) {{\n" + "\n".join(text) + "\n}")


def asymptotic(n, sign, u):  # sum of a_k(n) (sign u)^k, DLMF 10.40.1: for small u
    return sum(rf(mpf(1) / 2 - n, k) * rf(mpf(1) / 2 + n, k) / factorial(k) * (-sign * u / 2) ** k for k in range(12))


def scaled_i(n):
    return lambda u: besseli(n, 1 / u) * exp(-1 / u) / sqrt(u) if u > 1e-4 else asymptotic(n, -1, u) / sqrt(2 * pi)


def scaled_k(n):
    return lambda u: besselk(n, 1 / u) * exp(1 / u) / sqrt(u) if u > 1e-4 else asymptotic(n, 1, u) * sqrt(pi / 2)


def hankel(n, part):  # P and x Q of w = 1/x^2, DLMF 10.17.5
    def f(w):
        x = 1 / sqrt(w)
        h = hankel1(n, x) * sqrt(pi * x / 2) * exp(-1j * (x - (2 * n + 1) * pi / 4))
        return x * h.imag if part else h.real

    return f


def bessel():
    print("/* bessel.h: the approximations in bessel.c, made by tests/data/coefficients.py. */")
    print("#ifndef PL_KERNELS_BESSEL_H\n#define PL_KERNELS_BESSEL_H\n")
    print("/* of t = x^2/4: I0(x) and 2 I1(x)/x for |x| <= 8, by their series */")
    for n in (0, 1):
        function(f"i{n}_near", "t", [1 / (factorial(k) * factorial(k + n)) for k in range(24)])
    print("/* of s = 16/x - 1: sqrt(x) e^-x I(x) for x >= 8 */")
    for n in (0, 1):
        function(f"i{n}_far", "s", chebyshev(scaled_i(n), 0, mpf(1) / 8))
    print("/* of t = x^2/4: K0(x) + (log(x/2) + gamma) I0(x), and (K1(x) - log(x/2) I1(x) - 1/x)/x for x <= 1 */")
    function("k0_near", "t", [harmonic(k) / factorial(k) ** 2 for k in range(10)])
    psi = [-(digamma(k + 1) + digamma(k + 2)) / (4 * factorial(k) * factorial(k + 1)) for k in range(10)]
    function("k1_near", "t", psi)
    print("/* of u = 1/x: sqrt(x) e^x K(x) = p/q for x >= 1; all coefficients are positive */")
    for n in (0, 1):
        for part, powers in zip("pq", rational(scaled_k(n), 0, 1, 11)):
            function(f"k{n}_far_{part}", "u", powers)
    print("/* of s = x^2/32 - 1, |x| <= 8: J0, J1/x, Y0 - 2/pi log(x) J0, (Y1 - 2/pi (log(x) J1 - 1/x))/x */")
    function("j0_near", "s", chebyshev(lambda v: besselj(0, sqrt(v)), 0, 64))
    function("j1_near", "s", chebyshev(lambda v: besselj(1, sqrt(v)) / sqrt(v), 0, 64))
    function("y0_near", "s", chebyshev(lambda v: bessely(0, sqrt(v)) - log(v) / pi * besselj(0, sqrt(v)), 0, 64))
    y1 = lambda v: (bessely(1, sqrt(v)) - (log(v) * besselj(1, sqrt(v)) - 2 / sqrt(v)) / pi) / sqrt(v)
    function("y1_near", "s", chebyshev(y1, 0, 64))
    print("/* of s = 128/x^2 - 1, x >= 8: P and x Q of Hankel's expansion */")
    for n in (0, 1):
        for part, name in enumerate("pq"):
            function(f"{name}{n}_far", "s", chebyshev(hankel(n, part), 0, mpf(1) / 64))
    print("#endif")


def scaled_e1(u):  # x e^x E1(x), u = 1/x
    return e1(1 / u) * exp(1 / u) / u if u > 1e-3 else sum((-u) ** k * factorial(k) for k in range(40))


def scaled_ei(u):
    return ei(1 / u) * exp(-1 / u) / u if u > 1 / mpf(200) else sum(u**k * factorial(k) for k in range(60))


def exponential_integrals():
    print("/* expint.h: the approximations in expint.c, made by tests/data/coefficients.py. */")
    print("#ifndef PL_KERNELS_EXPINT_H\n#define PL_KERNELS_EXPINT_H\n")
    print("/* E1(x) + log(x) for x <= 1, by its series */")
    function("e1_near", "x", [-euler] + [-((-1) ** k) / (k * factorial(k)) for k in range(1, 18)])
    print("/* of u = 1/x: x e^x E1(x) = p/q for 1 <= x <= 4 and for x >= 4; all coefficients are positive */")
    for name, lo, hi, degree in (("middle", mpf(1) / 4, 1, 8), ("far", 0, mpf(1) / 4, 9)):
        for part, powers in zip("pq", rational(scaled_e1, lo, hi, degree)):
            function(f"e1_{name}_{part}", "u", powers)
    root = findroot(ei, 0.3725)
    print(f"/* (Ei(x) - log(x/r))/(x - r) for x <= 6, by its series, r = {mp.nstr(root, 36)} */")
    g = [sum(root ** (k - 1 - j) / (k * factorial(k)) for k in range(j + 1, j + 60)) for j in range(38)]
    function("ei_near", "x", g)
    for n, lo, hi in ((6, mpf(1) / 12, mpf(1) / 6), (12, mpf(1) / 24, mpf(1) / 12), (24, 0, mpf(1) / 24)):
        a, b = 2 / (hi - lo), (hi + lo) / (hi - lo)
        print(f"/* of s = {mp.nstr(a, 17)}/x - {mp.nstr(b, 17)}: x e^-x Ei(x) from x = {n} on */")
        function(f"ei_from_{n}", "s", chebyshev(scaled_ei, lo, hi))
    print("#endif")


if len(sys.argv) == 1:
    bessel()
elif sys.argv[1] == "expint":
    exponential_integrals()
elif __name__ == "__main__":
    print("c_k(eta) in powers of eta:", *[[mp.nstr(x, 17) for x in row] for row in temme(20, 0.349)], sep="\n")
    function("reciprocal_gamma_1_2", "s", chebyshev(lambda f: rgamma(1 + f), 0, 1))
    print("(-1)^k (zeta(k) - 1)/k:", [mp.nstr((-1) ** k * (zeta(k) - 1) / k, 18) for k in range(2, 16)])
