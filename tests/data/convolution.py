# Convolutions, pooling and filters by PyTorch and SciPy in double precision: `python tests/data/convolution.py > tests/data/convolution.txt`.
# A line: op; shapes of the inputs; its options, as Lua has them; values; and, where PyTorch gives them, the gradients of
# sum(c y) with respect to each input. Inputs and c are hashed(n, k): the fractional part of i k for i = 1 ... n, less 1/2.
import numpy as np
import scipy.ndimage
import scipy.signal
import torch
import torch.nn.functional as F

SCALES = (0.6180339887498949, 0.41421356237309515, 0.7320508075688772)


def hashed(shape, scale):
    k = np.arange(1, int(np.prod(shape)) + 1) * scale
    return (k - np.floor(k) - 0.5).reshape(shape)


def lua(options):
    def text(v):
        if isinstance(v, tuple):
            return "{" + ", ".join(map(str, v)) + "}"
        return f'"{v}"' if isinstance(v, str) else str(v)

    return "{" + ", ".join(f"{key} = {text(v)}" for key, v in options.items()) + "}"


def row(op, shapes, options, *values):
    fields = [op, " | ".join(",".join(map(str, s)) for s in shapes), lua(options)]
    fields += [" ".join(repr(float(t)) for t in np.asarray(v).ravel()) for v in values]
    print("; ".join(fields))


def network(op, shapes, f=None, **options):
    x = [torch.tensor(hashed(s, k), requires_grad=True) for s, k in zip(shapes, SCALES)]
    names = {"window": "kernel_size"}
    y = (f or getattr(F, op))(*x, **{names.get(k, k): v for k, v in options.items()})
    c = torch.tensor(hashed(tuple(y.shape), SCALES[2]))
    g = torch.autograd.grad((c * y).sum(), x) if y.numel() else [torch.zeros(s) for s in shapes]
    row(op, shapes, options, y.detach().numpy(), *[t.numpy() for t in g])


network("conv1d", [(2, 3, 9), (4, 3, 3)])
network("conv1d", [(2, 4, 10), (6, 2, 3)], stride=2, padding=2, dilation=2, groups=2)
network("conv1d", [(1, 2, 40), (3, 2, 7)], stride=3)
network("conv2d", [(2, 3, 6, 7), (4, 3, 3, 3)], padding=1)
network("conv2d", [(2, 3, 6, 7), (5, 3, 2, 4)], stride=(3, 2), padding=(1, 2))
network("conv2d", [(1, 2, 9, 8), (3, 2, 3, 2)], dilation=(2, 3))
network("conv2d", [(1, 2, 9, 8), (3, 2, 3, 2)], stride=2, dilation=(4, 3), padding=1)
network("conv2d", [(2, 4, 5, 5), (4, 1, 3, 3)], padding=1, groups=4)
network("conv2d", [(2, 4, 5, 5), (8, 1, 3, 3)], padding=1, groups=4, stride=2)
network("conv2d", [(2, 3, 4, 5), (9, 3, 1, 1)])
network("conv2d", [(2, 3, 4, 5), (2, 3, 1, 1)], stride=3, padding=1)
network("conv2d", [(1, 3, 4, 5), (2, 3, 4, 5)])
network("conv2d", [(0, 3, 4, 5), (2, 3, 3, 3)])
network("conv2d", [(1, 5, 3, 33), (17, 5, 2, 3)], padding=(0, 1))
network("conv3d", [(1, 2, 4, 3, 5), (3, 2, 2, 3, 2)], stride=(1, 2, 2), padding=(1, 1, 0))
network("conv3d", [(2, 2, 4, 5, 4), (2, 1, 2, 2, 2)], dilation=(2, 1, 2), groups=2)
network("conv_transpose1d", [(2, 3, 5), (3, 4, 3)])
network("conv_transpose1d", [(2, 4, 5), (4, 3, 3)], stride=3, padding=1, output_padding=2, groups=2)
network("conv_transpose1d", [(1, 1, 4), (1, 2, 2)], stride=4)
network("conv_transpose2d", [(2, 3, 3, 4), (3, 2, 3, 2)], stride=2, padding=1)
network("conv_transpose2d", [(1, 2, 3, 4), (2, 3, 2, 3)], stride=(3, 2), dilation=(2, 1), output_padding=(1, 1))
network("conv_transpose3d", [(1, 2, 2, 3, 2), (2, 2, 2, 2, 3)], stride=(2, 1, 2), padding=(0, 1, 1))
network("avg_pool1d", [(2, 3, 9)], window=3, stride=2, padding=1)
network("avg_pool2d", [(2, 3, 6, 7)], window=2)
network("avg_pool2d", [(2, 1, 6, 7)], window=(3, 2), stride=(1, 3), padding=(1, 0))
network("avg_pool3d", [(1, 2, 4, 5, 4)], window=(2, 3, 2), stride=1, padding=1)
network("max_pool1d", [(2, 3, 9)], window=3, stride=2, padding=1)
network("max_pool2d", [(2, 3, 6, 7)], window=2)
network("max_pool2d", [(2, 1, 6, 7)], window=(3, 2), stride=(1, 3), padding=(1, 0))
network("max_pool3d", [(1, 2, 4, 5, 4)], window=(2, 3, 2), stride=1, padding=1)

for shapes in ([(9,), (4,)], [(9,), (5,)], [(3,), (8,)], [(1,), (6,)], [(70,), (33,)], [(4, 6), (3, 2)], [(3, 4, 5), (2, 2, 4)]):
    x, h = (hashed(s, k) for s, k in zip(shapes, SCALES))
    for mode in ("full", "same", "valid"):
        row("convolve", shapes, {"mode": mode}, scipy.signal.convolve(x, h, mode, method="direct"))
        row("correlate", shapes, {"mode": mode}, scipy.signal.correlate(x, h, mode, method="direct"))

for shape, sigma in (((17,), 1.3), ((5,), 3.0), ((6, 7), 0.8), ((6, 7), (2.5, 0.6)), ((3, 4, 5), 1.0), ((2, 30), (0.0, 4.0))):
    for mode in ("reflect", "nearest", "constant", "wrap"):
        for truncate in (4.0, 2.5):
            y = scipy.ndimage.gaussian_filter(hashed(shape, SCALES[0]), sigma, mode=mode, truncate=truncate)
            row("gaussian_filter", [shape], {"sigma": sigma, "mode": mode, "truncate": truncate}, y)
