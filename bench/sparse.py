# The rows of sparse.lua in SciPy, which uses one thread: prints lines of name, least seconds and a number.
import time

import numpy as np
import scipy.sparse as sp


def hashed(n, scale):
    k = np.arange(1, n + 1) * scale
    return k - np.floor(k)


n = 1000
D = sp.diags([1.0, -1.0], [0, -1], shape=(n + 1, n))
G = sp.vstack([sp.kron(D, sp.eye(n)), sp.kron(sp.eye(n), D)]).tocsr()
k = 1 + hashed(2 * n * (n + 1), 0.6180339887498949)
Gt = G.T.tocsr()
A = (Gt @ sp.diags(k) @ G).tocsr()
A.sort_indices()
x = hashed(n * n, 0.41421356237309515)
diagonal = sp.diags(x).tocsr()
X, q = x.reshape(n * n // 4, 4), hashed(2 * n * (n + 1), 0.7320508075688772)
m = 250000
W = sp.diags([x[:m], 1.0, -1.0, 0.5], [0, -500, 1, 500], shape=(m, m)).tocsr()

rows = {
    "spmv": lambda: A @ x,
    "spmv_transposed": lambda: G.T @ q,
    "spmm": lambda: W @ X,
    "sum": lambda: A + diagonal,
    "assembly": lambda: Gt @ sp.diags(k) @ G,
    "product": lambda: W @ W,
}
for name, f in rows.items():
    y = f()
    best, count, stop = float("inf"), 0, time.perf_counter() + 0.5
    while count < 3 or time.perf_counter() < stop:
        t = time.perf_counter()
        f()
        best = min(best, time.perf_counter() - t)
        count += 1
    print(name, f"{best:.17g}", f"{y.sum():.17g}")
