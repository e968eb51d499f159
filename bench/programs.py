# Whole programs in PyTorch and JAX, float64 on the CPU: `python bench/programs.py ROW [threads]` prints one line: median seconds,
# then numbers to check ours against, then versions as one word. Without a thread count it runs itself with one and with two threads
# and prints the line whose first number is smaller. Where a row runs in both, they must agree to 1e-10 or it fails.
#   scalar40     jax; value, d/da, d/db, d/dx
#   heat         torch; loss, sum of the gradient, gradient[10, 20]
#   heat_jax     jax; the same
#   elementwise  torch chain, torch exp, jax chain; y[12345]
#   network      torch and torch compiled, the faster, jax; loss, sum of squares of the gradient
#   mlp20, mlp256, pinn  torch, jax; loss, sum of squares of the gradient
import os
import statistics
import subprocess
import sys
import time

row = sys.argv[1]
if len(sys.argv) < 3:
    lines = []
    for n in "12":
        done = subprocess.run([sys.executable, __file__, row, n], capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        lines.append(done.stdout.strip())
    print(min(lines, key=lambda line: float(line.split()[0])))
    sys.exit()

threads = int(sys.argv[2])
os.environ.update(NPROC=str(threads), OMP_NUM_THREADS=str(threads), JAX_PLATFORMS="cpu", JAX_ENABLE_X64="1")
if threads == 1:
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
versions = []
if row not in ("scalar40", "heat_jax"):
    import torch

    torch.set_num_threads(threads)
    versions.append("torch-" + torch.__version__)
if row != "heat":
    import jax
    import jax.numpy as jnp

    versions.append("jax-" + jax.__version__)
import numpy as np


def seconds(f):
    """Median over at least 20 calls and 0.5 s, or 5 calls of more than 0.5 s, after a warm-up; with the last result. Calls of
    less than 20 us are timed by the hundred."""
    f()
    for _ in range(3):
        t = time.perf_counter()
        f()
        once = time.perf_counter() - t
    times, end, batch = [], time.perf_counter() + 0.5, 100 if once < 2e-5 else 1
    while len(times) < (5 if once > 0.5 else 20) or time.perf_counter() < end:
        t = time.perf_counter()
        for _ in range(batch):
            result = f()
        times.append((time.perf_counter() - t) / batch)
    return statistics.median(times), result


def jitted(f, *arguments):
    """A call that waits for the first result: all results of one program become ready together, and waiting for each costs 2 us."""
    f = jax.jit(f)

    def run():
        result = f(*arguments)
        (result[0] if isinstance(result, tuple) else result).block_until_ready()
        return result

    return run


def show(times, numbers, others=None):
    if others is not None:
        np.testing.assert_allclose(numbers, others, rtol=1e-10)
    print(*(f"{t:.6g}" for t in times), *(f"{float(x):.17g}" for x in numbers), ",".join(versions))


def scalar40():
    def f(p):
        y = p["x"]
        for _ in range(10):
            y = y * p["a"]
            y = y + p["b"]
            y = jnp.tanh(y)
            y = y * p["x"]
        return y

    p = {"a": 0.9, "b": 0.05, "x": 0.7}  # numbers, or arrays, which are faster
    arrays = {name: jnp.asarray(value, jnp.float64) for name, value in p.items()}
    t, (y, g) = min((seconds(jitted(jax.value_and_grad(f), x)) for x in (p, arrays)), key=lambda r: r[0])
    show([t], [y, g["a"], g["b"], g["x"]])


def lap(u):
    return u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2] - 4 * u[1:-1, 1:-1]


def bump():
    x, y = np.meshgrid(np.linspace(0, 1, 64), np.linspace(0, 1, 64), indexing="ij")
    return np.exp(-100 * ((x - 0.5) ** 2 + (y - 0.5) ** 2))


def heat():
    u0 = torch.from_numpy(bump())
    k = torch.full((62, 62), 0.2, dtype=torch.float64, requires_grad=True)

    def run():
        u = u0
        for _ in range(1000):
            u = u + torch.nn.functional.pad(k * lap(u), (1, 1, 1, 1))
        loss = (u**2).mean()
        return loss.detach(), torch.autograd.grad(loss, k)[0]

    t, (loss, g) = seconds(run)
    show([t], [loss, g.sum(), g[10, 20]])


def heat_jax():
    u0 = jnp.asarray(bump())

    def f(k):
        u, _ = jax.lax.scan(lambda u, _: (u + jnp.pad(k * lap(u), 1), None), u0, length=1000)
        return jnp.mean(u**2)

    t, (loss, g) = seconds(jitted(jax.value_and_grad(f), jnp.full((62, 62), 0.2)))
    show([t], [loss, g.sum(), g[10, 20]])


def elementwise():
    n, a, b = 10**7, 1.3, 0.2
    x = torch.linspace(-2, 2, n, dtype=torch.float64)
    out = torch.empty_like(x)
    chain, y = seconds(lambda: torch.tanh(a * x + b) * torch.exp(-x * x) + torch.sqrt(torch.abs(x)) / (1 + x * x))
    exp, _ = seconds(lambda: torch.exp(x, out=out))
    f = lambda x: jnp.tanh(a * x + b) * jnp.exp(-x * x) + jnp.sqrt(jnp.abs(x)) / (1 + x * x)
    jax_chain, z = seconds(jitted(f, jnp.linspace(-2, 2, n)))
    show([chain, exp, jax_chain], [y[12345]], [z[12345]])


def net(w, x, tanh):
    for W, b in zip(w[:-2:2], w[1:-2:2]):
        x = tanh(x @ W + b)
    return (x @ w[-2] + w[-1])[:, 0]


def weights(width, points=1000):
    w, sizes = [], [2, width, width, width, 1]
    for l, (rows, cols) in enumerate(zip(sizes, sizes[1:])):
        w.append(0.5 * np.sin(1 + np.arange(rows * cols) + 7 * l).reshape(rows, cols) / np.sqrt(rows))
        w.append(0.1 * np.cos(np.arange(cols) + l))
    i = np.arange(points)
    return w, np.stack([np.sin(0.1 * i), np.cos(0.2 * i)], axis=1)


def both(torch_loss, jax_loss, w, compiled=False):
    """Times loss and gradient in PyTorch and in JAX and prints the row."""
    p, q = [torch.from_numpy(a).requires_grad_() for a in w], [jnp.asarray(a) for a in w]

    def run():
        loss = torch_loss(p)
        return loss.detach(), torch.autograd.grad(loss, p, allow_unused=True)

    ours, (loss, g) = seconds(run)
    if compiled:
        torch_loss = torch.compile(torch_loss)
        ours = min(ours, seconds(run)[0])
    theirs, (value, h) = seconds(jitted(jax.value_and_grad(jax_loss), q))
    square = lambda g: sum(float((a**2).sum()) for a in g if a is not None)
    show([ours, theirs], [float(loss), square(g)], [float(value), square(h)])


def mlp(width, points=1000, compiled=False):
    w, X = weights(width, points)
    t = np.sin(X[:, 0]) * np.cos(X[:, 1])
    X1, t1, X2, t2 = torch.from_numpy(X), torch.from_numpy(t), jnp.asarray(X), jnp.asarray(t)
    both(lambda w: ((net(w, X1, torch.tanh) - t1) ** 2).mean(), lambda w: jnp.mean((net(w, X2, jnp.tanh) - t2) ** 2), w, compiled)


def pinn():
    w, X = weights(20)
    X1, X2 = torch.from_numpy(X).requires_grad_(), jnp.asarray(X)

    def torch_loss(w):
        d = lambda y: torch.autograd.grad(y.sum(), X1, create_graph=True)[0]
        g = d(net(w, X1, torch.tanh))
        return ((d(g[:, 0])[:, 0] + d(g[:, 1])[:, 1]) ** 2).mean()

    def jax_loss(w):
        def second(v):
            v = jnp.broadcast_to(v, X2.shape)
            d = lambda f: lambda x: jax.jvp(f, (x,), (v,))[1]
            return d(d(lambda x: net(w, x, jnp.tanh)))(X2)

        return jnp.mean((second(jnp.array([1.0, 0.0])) + second(jnp.array([0.0, 1.0]))) ** 2)

    both(torch_loss, jax_loss, w)


rows = dict(scalar40=scalar40, heat=heat, heat_jax=heat_jax, elementwise=elementwise, pinn=pinn)
rows.update(mlp20=lambda: mlp(20), mlp256=lambda: mlp(256), network=lambda: mlp(20, 10000, True))
rows[row]()
