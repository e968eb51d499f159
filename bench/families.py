# The ops of families.lua in PyTorch, float64 on the CPU where not said: `python bench/families.py THREADS`; in SciPy what PyTorch lacks, and
# transforms in both: the better counts.
import sys
import time

import numpy as np
import scipy.fft
import scipy.interpolate
import scipy.linalg
import scipy.ndimage
import scipy.special
import torch

threads = int(sys.argv[1])
torch.set_num_threads(threads)
torch.set_default_dtype(torch.float64)


def hashed(n, scale):
    k = torch.arange(1, n + 1, dtype=torch.float64) * scale
    return k - torch.floor(k)


def conv(x, w):
    return torch.nn.functional.conv2d(x, w, padding=1)


def conv_grad(x, w):
    return torch.autograd.grad(conv(x, w).sum(), (x, w))[1]


for n in (1000, 1000000):
    m = 32 if n == 1000 else 1000
    x, A = hashed(n, 0.6180339887498949), hashed(m * m, 0.41421356237309515).reshape(m, m) + m * torch.eye(m)
    S, rows = A @ A.T, x.reshape(n // 100, 100)
    places = torch.floor(hashed(n, 0.7320508075688772) * n).long()
    T, b = hashed(m * m, 0.2360679774997898).reshape(m // 4, m // 4, 16), x[:m]
    B, D = x.reshape(n // 100, 10, 10), hashed(100, 0.4142135623730949).reshape(10, 10)
    second = hashed(n, 0.7320508075688772).numpy()
    near, mask, ordered, bins = 1 + (x - 0.5) / n, x > 0.5, torch.sort(x)[0], torch.floor(x * 100).long()
    sizes = (1, 4, 16, 16) if n == 1000 else (32, 32, 32, 32)
    images = hashed(sizes[0] * sizes[1] * sizes[2] * sizes[3], 0.6180339887498949).reshape(sizes)
    weights = hashed(18 * sizes[1] ** 2, 0.7320508075688772).reshape(2 * sizes[1], sizes[1], 3, 3)
    images32, weights32 = images.float(), weights.float()
    steps = near.clone().requires_grad_()
    active = [t.clone().requires_grad_() for t in (images, weights, images32, weights32)]
    field = x[: 992 if m == 32 else n].reshape(-1, m).numpy()
    shape, mean = torch.full((n,), 2.5), torch.full((n,), 3.0)
    M = hashed(10000, 0.2360679774997898).reshape(100, 100) if n == 1000 else hashed(64000, 0.2360679774997898).reshape(1000, 8, 8)
    M = M - 0.5 + 2 * torch.eye(M.shape[-1])
    bands = torch.stack([x, x + 2, x]).numpy()
    bands[0, 1:], bands[2, :-1] = bands[0, :-1].copy(), bands[2, 1:].copy()
    V = hashed(m * m, 0.2360679774997898).reshape(1, 1, m, m)
    points = torch.stack([2 * hashed(n, 0.7320508075688772) - 1, 2 * x - 1], -1).reshape(1, 1, n, 2)
    knots = np.linspace(0, 1, m)

    generator = np.random.default_rng(1)

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
        "betainc": lambda: torch.from_numpy(scipy.special.betainc(5 * second + 0.5, 5.5 - 5 * second, x.numpy())),
        "expint": lambda: torch.from_numpy(scipy.special.exp1(10 * x.numpy())),
        "sum": lambda: torch.sum(rows, 1),
        "argmax": lambda: torch.argmax(rows, 1),
        "softmax": lambda: torch.softmax(rows, 1),
        "sort": lambda: torch.sort(x)[0],
        "roll": lambda: torch.roll(x, 5),
        "take": lambda: torch.take(x, places),
        "einsum": lambda: torch.einsum("ijb,jkb->ikb", T, T),
        "solve": lambda: torch.linalg.solve(A, b),
        "einsum_batch": lambda: torch.einsum("bij,bjk->bik", B, B),
        "einsum_matrix": lambda: torch.einsum("abc,cd->abd", B, D),
        "einsum_rows": lambda: torch.einsum("ij,ij->i", rows, rows),
        "cumsum": lambda: torch.cumsum(x, 0),
        "cumprod": lambda: torch.cumprod(near, 0),
        "cumprod_gradient": lambda: torch.autograd.grad(torch.cumprod(steps, 0).sum(), steps)[0],
        "median": lambda: torch.quantile(x, 0.5) if n == 1000 else torch.kthvalue(x, n // 2)[0],
        "topk": lambda: torch.topk(x, 10)[0],
        "searchsorted": lambda: torch.searchsorted(ordered, x) + 1,
        "where": lambda: torch.where(mask, x, near),
        "segment_sum": lambda: torch.zeros(100).index_add(0, bins, x),
        "segment_max": lambda: torch.full((100,), -float("inf")).scatter_reduce(0, bins, x, "amax"),
        "bincount": lambda: torch.bincount(bins, minlength=100),
        "var": lambda: torch.var(rows, 1, correction=0),
        "logsumexp": lambda: torch.logsumexp(rows, 1),
        "rolling_sum": lambda: x.unfold(0, 50, 1).sum(1),
        "rolling_var": lambda: x.unfold(0, 50, 1).var(1, correction=0),
        "rolling_max": lambda: x.unfold(0, 50, 1).amax(1),
        "conv2d": lambda: conv(images, weights),
        "conv2d_grad": lambda: conv_grad(active[0], active[1]),
        "conv2d_f32": lambda: conv(images32, weights32),
        "conv2d_grad_f32": lambda: conv_grad(active[2], active[3]),
        "max_pool2d": lambda: torch.nn.functional.max_pool2d(images, 2),
        "gaussian_filter": lambda: torch.from_numpy(scipy.ndimage.gaussian_filter(field, 3)),
        "cholesky": lambda: torch.linalg.cholesky(S),
        "uniform": lambda: torch.rand(n),
        "normal": lambda: torch.randn(n),
        "permutation": (lambda: torch.randperm(n) + 1, lambda: generator.permutation(n) + 1),
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
        "tridiagonal_solve": lambda: torch.from_numpy(scipy.linalg.solve_banded((1, 1), bands, x.numpy())),
        "bilinear": lambda: bent(V, points),
        "bilinear_gradient": bent_gradient,
        "cubic_spline": lambda: torch.from_numpy(scipy.interpolate.CubicSpline(knots, np.sin(7 * knots), bc_type="natural")(x.numpy())),
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
        y = {"normal": torch.square, "qr": torch.abs, "argmax": lambda t: t + 1}.get(name, lambda t: t)(y)  # places count from 0
        total = torch.sum(y.double()).item()
        print(n, name, f"{best:.17g}", f"{total:.17g}")
