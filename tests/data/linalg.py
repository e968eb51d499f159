# Matrix functions to 60 digits by mpmath, rounded to the nearest double: `python tests/data/linalg.py > tests/data/linalg.csv`.
# Columns: name, rows, columns, entries by rows. Entries of the arguments are whole numbers or binary fractions.
from mpmath import mp, mpf, matrix, expm, svd_r, eig, lu_solve, qr_solve, diag

mp.dps = 60


def put(name, a):
    print(",".join([name, str(a.rows), str(a.cols)] + [repr(float(a[i, j])) for i in range(a.rows) for j in range(a.cols)]))


def whole(m, n, seed, scale=1):  # a linear congruential generator: -8 ... 8
    a = matrix(m, n)
    for i in range(m):
        for j in range(n):
            seed = (1103515245 * seed + 12345) % 2**31
            a[i, j] = mpf(seed // 65536 % 17 - 8) / scale
    return a


def column(values):
    return matrix([[v] for v in values])


# Exponentials: of norms for each approximant, large, far from normal, nilpotent; and the derivative along E.
for k, a in enumerate([whole(4, 4, 1, 2048), whole(4, 4, 2, 128), whole(4, 4, 3, 32), whole(4, 4, 4, 16), whole(5, 5, 5, 4), whole(6, 6, 6),
                       matrix([[1, 2**20, 0], [0, -1, 2**20], [0, 0, mpf(1) / 2]]), matrix([[-49, 24], [-64, 31]])]):
    put(f"expm{k}.A", a)
    put(f"expm{k}.Y", expm(a, method="taylor"))
a, e = whole(4, 4, 7, 4), whole(4, 4, 8, 4)
block = matrix(8, 8)
for i in range(4):
    for j in range(4):
        block[i, j] = block[i + 4, j + 4] = a[i, j]
        block[i, j + 4] = e[i, j]
put("along.A", a)
put("along.E", e)
put("along.Y", expm(block, method="taylor")[0:4, 4:8])

# Singular values, the pseudo-inverse at rank 2, and the condition.
for k, a in enumerate([whole(6, 4, 9), whole(3, 5, 10), whole(5, 2, 11) * whole(2, 5, 12)]):
    u, s, v = svd_r(a)
    put(f"svd{k}.A", a)
    put(f"svd{k}.S", column(s))
    inverse = diag([1 / x if x > mpf(10) ** -40 else mpf(0) for x in s])
    put(f"svd{k}.P", v.T * inverse * u.T)

# Least squares: a polynomial through noisy places; the shortest solution.
a = matrix(9, 4)
for i in range(9):
    for j in range(4):
        a[i, j] = (mpf(i) / 8) ** j
b = whole(9, 1, 13)
put("fit.A", a)
put("fit.b", b)
put("fit.x", qr_solve(a, b)[0])
a, b = whole(3, 5, 14), whole(3, 1, 15)
put("short.A", a)
put("short.b", b)
put("short.x", a.T * lu_solve(a * a.T, b))

# Eigenvalues, as (real, imaginary) in ascending order.
for k, a in enumerate([whole(5, 5, 16), whole(6, 6, 18)]):
    w = sorted(eig(a, left=False, right=False), key=lambda z: (round(float(z.real), 20), z.imag))
    put(f"eig{k}.A", a)
    put(f"eig{k}.w", matrix([[z.real, z.imag] for z in w]))

# Systems with bands, that need exchanges: small numbers on the diagonal.
n = 9
a = whole(n, n, 77)
for i in range(n):
    for j in range(n):
        if j - i > 1 or i - j > 2:
            a[i, j] = 0
    a[i, i] = mpf(1 + i % 3) / 1024
b = whole(n, 2, 41)
bands = matrix(4, n)
for j in range(n):
    for i in range(n):
        if -2 <= j - i <= 1:
            bands[1 + i - j, j] = a[i, j]
put("band.A", bands)
put("band.b", b)
x = matrix(n, 2)
x[:, 0], x[:, 1] = lu_solve(a, b[:, 0]), lu_solve(a, b[:, 1])
put("band.x", x)
for i in range(2, n):
    a[i, i - 2] = 0
put("three.A", matrix([[a[i, i - 1] if i else 0 for i in range(n)], [a[i, i] for i in range(n)], [a[i, i + 1] if i + 1 < n else 0 for i in range(n)]]))
put("three.b", b)
x[:, 0], x[:, 1] = lu_solve(a, b[:, 0]), lu_solve(a, b[:, 1])
put("three.x", x)
