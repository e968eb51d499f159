# Interpolants by SciPy: `python tests/data/interpolation.py > tests/data/interpolation.csv`. Lines: name, then numbers; a curve's
# values at `x` are of `values` at `places`, a grid's at (x, y[, z]) of values[i][j] = sin(1 + i*j) + i/(1 + j) at places_x, places_y.
import numpy as np
from scipy.interpolate import CubicSpline, PchipInterpolator, RegularGridInterpolator
from scipy.ndimage import map_coordinates


def row(name, numbers):
    print(name + "," + ",".join(repr(float(v)) for v in np.ravel(numbers)))


places = np.array([0, 0.3, 1, 1.1, 2, 3.5, 4])
values = np.array([0.5, 1.5, 1.4, 1.4, -2, -2.5, 3])
x = np.array([0, 0.1, 0.3, 0.77, 1.05, 1.1, 1.9, 2.5, 3.4, 3.75, 3.99])
row("places", places)
row("values", values)
row("x", x)
for name, f in (("natural", CubicSpline(places, values, bc_type="natural")), ("not_a_knot", CubicSpline(places, values)), ("pchip", PchipInterpolator(places, values))):
    row(name, f(x))
    row(name + "_slope", f(x, 1))
row("pchip_two", PchipInterpolator([1, 3], [2, 5])([1.5, 2, 2.5]))
row("pchip_three", PchipInterpolator([0, 1, 3], [0, 4, 5])([0.3, 1.2, 2.9]))
row("pchip_turn", PchipInterpolator([0, 1, 1.2, 3], [0, 0.1, 5, -20])([0.1, 0.6, 0.9, 1.1, 1.7, 2.6]))

i, j, k = np.meshgrid(np.arange(6.0), np.arange(5.0), np.arange(4.0), indexing="ij")
solid = np.sin(1 + i * j) + i / (1 + j) + np.cos(k * (1 + i))
plane = solid[:, :, 0]
px, py, pz = np.array([0, 0.5, 2, 2.5, 4, 5]), np.array([-1, 0, 0.2, 2, 3]), np.array([1, 2, 2.5, 7])
qx, qy, qz = np.array([0.1, 1.7, 2.2, 4.9, 3]), np.array([-0.5, 0.1, 1, 2.9, -1]), np.array([1.5, 2.2, 2.6, 6.9, 7])
for name, v in (("places_x", px), ("places_y", py), ("places_z", pz), ("query_x", qx), ("query_y", qy), ("query_z", qz)):
    row(name, v)
row("bilinear", RegularGridInterpolator((px, py), plane)(np.stack([qx, qy], -1)))
row("trilinear", RegularGridInterpolator((px, py, pz), solid)(np.stack([qx, qy, qz], -1)))
# indices from 1; beyond the edge, too
u, v, w = np.array([1, 1.2, 3.7, 5.9, 6, 9, -2]), np.array([1, 2.5, 4.9, 1.01, 5, 3.3, 2.2]), np.array([1, 3.9, 2.5, 1.5, 4, 8, 1.7])
for name, t in (("index_x", u), ("index_y", v), ("index_z", w)):
    row(name, t)
row("bilinear_index", map_coordinates(plane, [u - 1, v - 1], order=1, mode="nearest"))
row("trilinear_index", map_coordinates(solid, [u - 1, v - 1, w - 1], order=1, mode="nearest"))
