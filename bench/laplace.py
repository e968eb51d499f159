# The forward solve of laplace.lua by SciPy's sparse LU (SuperLU), and with the adjoint solve by another spsolve: seconds, medians.
import statistics
import sys
import time

import numpy as np
import scipy
import scipy.sparse as sp
import scipy.sparse.linalg as sla

n = int(sys.argv[1]) if len(sys.argv) > 1 else 300
D = sp.diags([1.0, -1.0], [0, -1], shape=(n + 1, n))
G, H = sp.kron(D, sp.eye(n)).tocsr(), sp.kron(sp.eye(n), D).tocsr()
rng = np.random.default_rng(1)
kx, ky = 1 + rng.random((n + 1) * n), 1 + rng.random((n + 1) * n)
f = np.ones(n * n) / (n + 1) ** 2
times, both = [], []
for _ in range(3):
    t = time.perf_counter()
    A = (G.T @ sp.diags(kx) @ G + H.T @ sp.diags(ky) @ H).tocsc()
    u = sla.spsolve(A, f, permc_spec="MMD_AT_PLUS_A")
    times.append(time.perf_counter() - t)
    w = sla.spsolve(A.T.tocsc(), 2 * u, permc_spec="MMD_AT_PLUS_A")
    both.append(time.perf_counter() - t)
print(f"{statistics.median(times):.6f} {scipy.__version__} {statistics.median(both):.6f}")
