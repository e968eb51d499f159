"""The 5-point Laplacian of bench/krylov.lua by SciPy: conjugate gradients preconditioned by an incomplete factor, to 1e-8.
Prints n, iterations, least seconds of set-up and of the solve with it."""
import sys
import time

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as sl

for n in (250, int(sys.argv[1]) if len(sys.argv) > 1 else 1000):
    T = sp.diags([2.0, -1.0, -1.0], [0, 1, -1], shape=(n, n))
    A = (sp.kron(T, sp.eye(n)) + sp.kron(sp.eye(n), T)).tocsc()
    rows = A.tocsr()
    b = np.random.default_rng(1).standard_normal(n * n)
    setup, solve, count = np.inf, np.inf, [0]
    for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 3):
        count[0] = 0
        t = time.perf_counter()
        f = sl.spilu(A, drop_tol=1e-3, fill_factor=10, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
        setup = min(setup, time.perf_counter() - t)
        x, info = sl.cg(rows, b, rtol=1e-8, maxiter=2000, M=sl.LinearOperator(A.shape, f.solve), callback=lambda x: count.__setitem__(0, count[0] + 1))
        solve = min(solve, time.perf_counter() - t)
    print(f"{n}: {count[0]} iterations, set-up {setup:.3f}, solve {solve:.3f}, residual {np.linalg.norm(b - rows @ x) / np.linalg.norm(b):.1e}", flush=True)
