# Writes fourier.csv: transforms of the numbers x_j = ((7 j^2 + 3 j + 1) mod 11 - 5)/4 by SciPy (pocketfft), whose conventions are NumPy's
# Each line: name, arguments, shape of the input, result (pairs: real, imaginary).
import numpy as np
import scipy.fft as sf


def numbers(*shape):
    j = np.arange(int(np.prod(shape)))
    return (((7 * j * j + 3 * j + 1) % 11 - 5) / 4).reshape(shape)


def pairs(*shape):
    x = numbers(*shape, 2)
    return x[..., 0] + 1j * x[..., 1]


def line(name, arguments, shape, y):
    y = np.asarray(y)
    if np.iscomplexobj(y):
        y = np.stack([y.real, y.imag], -1)
    print(name, arguments, " ".join(map(str, shape)), " ".join(f"{v:.17g}" for v in y.ravel()), sep=";", file=out)


def norms():
    return ("backward", ""), ("ortho", ", ortho = true"), ("forward", ", forward = true")


with open(__file__.replace(".py", ".csv"), "w") as out:
    for norm, word in norms():
        for n in (1, 2, 3, 8, 12, 17):
            line("fft", "axis = 1" + word, (n, 2), sf.fft(pairs(n), norm=norm))
            line("ifft", "axis = -1" + word, (n, 2), sf.ifft(pairs(n), norm=norm))
            line("rfft", "axis = 1" + word, (n,), sf.rfft(numbers(n), norm=norm))
            line("irfft", f"n = {n}" + word, (n // 2 + 1, 2), sf.irfft(pairs(n // 2 + 1), n, norm=norm))
        line("fft", "axis = 2, n = 3" + word, (2, 5, 2, 2), sf.fft(pairs(2, 5, 2), 3, axis=1, norm=norm))
        line("fft", "axis = -2, n = 7" + word, (2, 5, 2, 2), sf.fft(pairs(2, 5, 2), 7, axis=-2, norm=norm))
        line("rfft", "axis = -2, n = 6" + word, (2, 5, 2), sf.rfft(numbers(2, 5, 2), 6, axis=-2, norm=norm))
        line("irfft", "axis = 2, n = 7" + word, (2, 4, 2, 2), sf.irfft(pairs(2, 4, 2), 7, axis=1, norm=norm))
        line("fft2", word[2:], (2, 3, 4, 2), sf.fft2(pairs(2, 3, 4), norm=norm))
        line("ifft2", "axis = {3, 1}" + word, (2, 3, 4, 2), sf.ifft2(pairs(2, 3, 4), axes=(2, 0), norm=norm))
        line("rfft2", word[2:], (2, 3, 4), sf.rfft2(numbers(2, 3, 4), norm=norm))
        line("irfft2", "n = 5" + word, (2, 3, 3, 2), sf.irfft2(pairs(2, 3, 3), s=(3, 5), norm=norm))
        line("fftn", word[2:], (2, 3, 4, 2), sf.fftn(pairs(2, 3, 4), norm=norm))
        line("ifftn", "axis = {-1, 1}" + word, (2, 3, 4, 2), sf.ifftn(pairs(2, 3, 4), axes=(-1, 0), norm=norm))
        line("rfftn", "axis = {3, 2}" + word, (2, 5, 4), sf.rfftn(numbers(2, 5, 4), axes=(2, 1), norm=norm))
        line("irfftn", word[2:], (2, 3, 4, 2), sf.irfftn(pairs(2, 3, 4), norm=norm))
    for name in ("dct", "idct", "dst", "idst"):
        f = getattr(sf, name)
        for kind in (1, 2, 3):
            for ortho in (None, "ortho"):
                word = f"type = {kind}" + (", ortho = true" if ortho else "")
                for n in (1, 2, 3, 8, 12, 17):
                    if kind > 1 or n > 1 or "s" in name:
                        line(name, word, (n,), f(numbers(n), kind, norm=ortho))
                line(name, word + ", axis = 2", (2, 6, 3), f(numbers(2, 6, 3), kind, axis=1, norm=ortho))
