# The constants in kernels/incomplete.c and kernels/bessel.c: `python tests/data/coefficients.py` prints them.
from mpmath import mp, mpf, zeta

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
        keep = max([j + 1 for j in range(len(c)) if size[j] > 2e-18], default=0)
        if not keep:
            break
        rows.append(c[:keep])
        d = [(j + 1) * c[j + 1] for j in range(len(c) - 1)]  # c', and c_(k+1) = (c' - c'(0) eta/mu)/eta
        c = [d[j] - d[0] * inverse[j] for j in range(1, len(d))]
    return rows


def write(name, rows):
    print(name)
    for row in rows:
        print("  {" + ", ".join(mp.nstr(x, 20) for x in row) + "},")


if __name__ == "__main__":
    write("temme", temme(20, 0.349))
    write("lgamma1p", [[(-1) ** k * (zeta(k) - 1) / k for k in range(2, 16)]])
