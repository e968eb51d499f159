# The ops of families.lua in PyTorch (cubic_spline: SciPy), float64 on the CPU: `python bench/families.py THREADS`.
import sys
import time

import scipy.linalg
import numpy as np
import scipy.interpolate
# The ops of families.lua in PyTorch, float64 on the CPU: `python bench/families.py THREADS`; transforms in SciPy too, the better counts.
import sys
import time

import scipy.fft
import torch

threads = int(sys.argv[1])
torch.set_num_threads(threads)
torch.set_default_dtype(torch.float64)


def hashed(n, scale):
    k = torch.arange(1, n + 1, dtype=torch.float64) * scale
    return k - torch.floor(k)


for n in (1000, 1000000):
    m = 32 if n == 1000 else 1000
    x, A = hashed(n, 0.6180339887498949), hashed(m * m, 0.41421356237309515).reshape(m, m) + m * torch.eye(m)
    S, rows = A @ A.T, x.reshape(n // 100, 100)
    places = torch.floor(hashed(n, 0.7320508075688772) * n).long()
    T, b = hashed(m * m, 0.2360679774997898).reshape(m // 4, m // 4, 16), x[:m]
    shape, mean = torch.full((n,), 2.5), torch.full((n,), 3.0)
    M = hashed(10000, 0.2360679774997898).reshape(100, 100) if n == 1000 else hashed(64000, 0.2360679774997898).reshape(1000, 8, 8)
    M = M - 0.5 + 2 * torch.eye(M.shape[-1])
    bands = torch.stack([x, x + 2, x]).numpy()
    bands[0, 1:], bands[2, :-1] = bands[0, :-1].copy(), bands[2, 1:].copy()
    V = hashed(m * m, 0.2360679774997898).reshape(1, 1, m, m)
    points = torch.stack([2 * hashed(n, 0.7320508075688772) - 1, 2 * x - 1], -1).reshape(1, 1, n, 2)
    knots = np.linspace(0, 1, m)

    def bent(V, points):
        return torch.nn.functional.grid_sample(V, points, align_corners=True)

    def bent_gradient():
        at = (V.detach().requires_grad_(), points.detach().requires_grad_())
        bent(*at).sum().backward()
        return at[1].grad[..., 1] * (2 / (m - 1))

    z = torch.view_as_complex(hashed(2 * n, 0.6457513110645906).reshape(n, 2))
    lines, plane = z.reshape(n // 1000, 1000), x.reshape((25, 40) if n == 1000 else (1000, 1000))
    ops = {
        "erf": lambda: torch.erf(x),
        "gelu": lambda: torch.nn.functional.gelu(x),
        "lgamma": lambda: torch.lgamma(x),
        "sum": lambda: torch.sum(rows, 1),
        "argmax": lambda: torch.argmax(rows, 1),
        "softmax": lambda: torch.softmax(rows, 1),
        "sort": lambda: torch.sort(x)[0],
        "roll": lambda: torch.roll(x, 5),
        "take": lambda: torch.take(x, places),
        "einsum": lambda: torch.einsum("ijb,jkb->ikb", T, T),
        "solve": lambda: torch.linalg.solve(A, b),
        "cholesky": lambda: torch.linalg.cholesky(S),
        "uniform": lambda: torch.rand(n),
        "normal": lambda: torch.randn(n),
        "gamma": lambda: torch._standard_gamma(shape),
        "poisson": lambda: torch.poisson(mean),
        "qr": lambda: torch.linalg.qr(M)[1],
        "lu": lambda: torch.linalg.lu(M)[2],
        "svd": lambda: torch.linalg.svd(M, full_matrices=False)[1],
        "svdvals": lambda: torch.linalg.svdvals(M),
        "eigvals": lambda: torch.view_as_real(torch.linalg.eigvals(M)),
        "pinv": lambda: torch.linalg.pinv(M),
        "lstsq": lambda: torch.linalg.lstsq(M, M)[0],
        "expm": lambda: torch.linalg.matrix_exp(M),
        "tridiagonal_solve": lambda: torch.from_numpy(scipy.linalg.solve_banded((1, 1), bands, x.numpy())),  # PyTorch has none
        "bilinear": lambda: bent(V, points),
        "bilinear_gradient": bent_gradient,
        "cubic_spline": lambda: torch.from_numpy(scipy.interpolate.CubicSpline(knots, np.sin(7 * knots), bc_type="natural")(x.numpy())),
    }
    for name, f in ops.items():
        y = f()
        best, count, stop = float("inf"), 0, time.perf_counter() + 0.2
        while count < 3 or time.perf_counter() < stop:
            t = time.perf_counter()
            f()
            best = min(best, time.perf_counter() - t)
            count += 1
        y = y * y if name == "normal" else y
        "fft": (lambda: torch.fft.fft(lines), lambda: scipy.fft.fft(lines.numpy(), workers=threads)),
        "fft_long": (lambda: torch.fft.fft(z), lambda: scipy.fft.fft(z.numpy(), workers=threads)),
        "rfft2": (lambda: torch.fft.rfft2(plane), lambda: scipy.fft.rfft2(plane.numpy(), workers=threads)),
        "dct": lambda: scipy.fft.dct(plane.numpy(), workers=threads),
    }
    for name, peers in ops.items():
        best = float("inf")
        for f in peers if isinstance(peers, tuple) else (peers,):
            y = torch.as_tensor(f())
            count, stop = 0, time.perf_counter() + 0.2
            while count < 3 or time.perf_counter() < stop:
                t = time.perf_counter()
                f()
                best = min(best, time.perf_counter() - t)
                count += 1
        if y.is_complex():
            y = torch.view_as_real(y)
        total = torch.sum(y * 1.0).item() + (y.numel() if name == "argmax" else 0)  # places count from 0
        total = torch.sum(torch.abs(y) if name == "qr" else y * 1.0).item() + (y.numel() if name == "argmax" else 0)  # places count from 0
        print(n, name, f"{best:.17g}", f"{total:.17g}")
