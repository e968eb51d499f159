/* Interpolation on a grid of places, 1 ... n or ascending numbers, at points anywhere, and its adjoint.
 *
 * Along an axis, in the cell between places k and k + 1 at t = (x - x_k)/h, the interpolant weighs nearby nodes:
 *   linear: (1 - t) y_k + t y_{k+1}
 *   cubic:  Hermite's cubic with y's slopes at both ends those of the parabola through the place and its neighbours, at the
 *           grid's edge through the first three: cubic convolution (R. Keys, IEEE Trans. ASSP 29(6), 1981, a = -1/2, with his
 *           edge condition), written for uneven places. Third order, exact for quadratics, once continuously differentiable.
 * Over the axes it is the product. Points beyond the grid are moved to its edge: the result is constant, derivatives 0. At a
 * place the derivative is that of the cell to its right, at the last one of the cell to its left. A NaN gives NaN. */
#include "kernel.h"
#include "shapes.h"

#if PL_FLOATING
/* The cell, 0 to n - 2, and where in it x is; is it beyond the grid? */
PL_FN int64_t find_cell(const real *places, int64_t n, real x, real *t, real *h, int *beyond) {
  const real lo = places ? places[0] : 1, hi = places ? places[n - 1] : (real)n;
  const real c = x < lo ? lo : x > hi ? hi : x;
  int64_t k = 0;
  *beyond = x < lo || x > hi;
  *h = 1;
  if (places) {
    const real guess = (c - lo)/(hi - lo)*(real)(n - 1); /* right where places are even; or NaN */
    k = guess >= 0 && guess < (real)(n - 1) ? (int64_t)guess : 0;
    if (!(places[k] <= c && c < places[k + 1])) {
      k = 0;
      for (int64_t size = n - 1; size > 1; size -= size/2) k = places[k + size/2] <= c ? k + size/2 : k;
    }
    *h = places[k + 1] - places[k];
    *t = (c - places[k]) / *h;
  } else {
    k = c == c ? (int64_t)c - 1 : 0;
    if (k > n - 2) k = n - 2;
    *t = c - (real)(k + 1);
  }
  return k;
}

/* Adds s times the weights, of three neighbours, of the slope at the one in `middle` of the parabola through them; their
 * distances are g and h. */
PL_FN void slope(real *w, real g, real h, int middle, real s) {
  const real both = g + h;
  if (middle == 0) { w[0] -= s*(g + both)/(g*both); w[1] += s*both/(g*h); w[2] -= s*g/(h*both); }
  if (middle == 1) { w[0] -= s*h/(g*both); w[1] += s*(h - g)/(g*h); w[2] += s*g/(h*both); }
  if (middle == 2) { w[0] += s*h/(g*both); w[1] -= s*both/(g*h); w[2] += s*(h + both)/(h*both); }
}

/* The nodes that x reads along an axis, two or four, and their weights, or the weights' nu-th derivatives in x. */
PL_FN void stencil(const void *x, const void *grid, int64_t n, int64_t nu, int cubic, int64_t point, int64_t *at, real *w) {
  const real *places = (const real *)grid;
  real t, h;
  int beyond;
  const int64_t k = find_cell(places, n, ((const real *)x)[point], &t, &h, &beyond);
  if (!cubic) {
    at[0] = k;
    at[1] = k + 1;
    w[0] = nu ? -1/h : 1 - t;
    w[1] = nu ? 1/h : t;
  } else {
    real start, end, left, right; /* of Hermite's four: value and slope at the ends */
    if (nu == 0) {
      end = t*t*(3 - 2*t);
      start = 1 - end;
      left = t*(1 - t)*(1 - t)*h;
      right = t*t*(t - 1)*h;
    } else if (nu == 1) {
      end = 6*t*(1 - t)/h;
      left = (1 - t)*(1 - 3*t);
      right = t*(3*t - 2);
    } else if (nu == 2) {
      end = (6 - 12*t)/(h*h);
      left = (6*t - 4)/h;
      right = (6*t - 2)/h;
    } else {
      end = -12/(h*h*h);
      left = right = 6/(h*h);
    }
    if (nu) start = -end;
    const int first = k == 0, last = k == n - 2;
    for (int j = 0; j < 4; j++) at[j] = k - 1 + j;
    if (first) at[0] = 0; /* weight 0 */
    if (last) at[3] = n - 1;
    w[0] = w[3] = 0;
    w[1] = start;
    w[2] = end;
    if (places) {
      const real g = first ? h : places[k] - places[k - 1], f = last ? h : places[k + 2] - places[k + 1];
      if (first) slope(w + 1, h, f, 0, left);
      else slope(w, g, h, 1, left);
      if (last) slope(w, g, h, 2, right);
      else slope(w + 1, h, f, 1, right);
    } else {
      if (first) slope(w + 1, 1, 1, 0, left);
      else slope(w, 1, 1, 1, left);
      if (last) slope(w, 1, 1, 2, right);
      else slope(w + 1, 1, 1, 1, right);
    }
  }
  const int m = cubic ? 4 : 2;
  if (nu && beyond)
    for (int j = 0; j < m; j++) w[j] = 0;
  if (nu && t != t)
    for (int j = 0; j < m; j++) w[j] = t;
}

PL_FN void interpolate_at(const grid_args a, int64_t i, int axes, int cubic) {
  enum { MOST = 4 };
  const int m = cubic ? 4 : 2;
  const int64_t f = a.fields == 1 ? 0 : i/a.points, k = i - f*a.points;
  const real *z = (const real *)a.values + f*a.size;
  int64_t r[MOST], s[MOST], l[2];
  real u[MOST], v[MOST], w[2], sum = 0;
  stencil(a.x[0], a.places[0], a.n[0], a.nu[0], cubic, k, r, u);
  stencil(a.x[1], a.places[1], a.n[1], a.nu[1], cubic, k, s, v);
  if (axes == 3) stencil(a.x[2], a.places[2], a.n[2], a.nu[2], 0, k, l, w);
  for (int p = 0; p < m; p++) {
    real row = 0;
    for (int q = 0; q < m; q++) {
      const int64_t o = r[p]*a.n[1] + s[q];
      if (axes == 2) row += v[q]*z[o];
      else row += v[q]*(w[0]*z[o*a.n[2] + l[0]] + w[1]*z[o*a.n[2] + l[1]]);
    }
    sum += u[p]*row;
  }
  ((real *)a.y)[i] = sum;
}

/* y += what the points lo ... hi send to it. i counts fields and stripes of rows of the grid: whoever has a stripe looks at
 * all points in their order, so that sums do not depend on the number of stripes. A point whose weight is 0 adds nothing. */
PL_FN void interpolate_add_at(const grid_args a, int64_t i, int axes, int cubic) {
  enum { MOST = 4 };
  const int m = cubic ? 4 : 2;
  const int64_t f = i/a.stripes, part = i % a.stripes;
  const int64_t first = part*a.n[0]/a.stripes, last = (part + 1)*a.n[0]/a.stripes;
  const real *z = (const real *)a.values + f*a.points;
  real *y = (real *)a.y + f*a.size;
  for (int64_t k = a.lo; k < a.hi; k++) {
    int64_t r[MOST], s[MOST], l[2] = {0, 0};
    real u[MOST], v[MOST], w[2] = {0, 0};
    if (z[k] == 0) continue;
    stencil(a.x[0], a.places[0], a.n[0], a.nu[0], cubic, k, r, u);
    if (r[m - 1] < first || r[0] >= last) continue;
    stencil(a.x[1], a.places[1], a.n[1], a.nu[1], cubic, k, s, v);
    if (axes == 3) stencil(a.x[2], a.places[2], a.n[2], a.nu[2], 0, k, l, w);
    for (int p = 0; p < m; p++) {
      if (r[p] < first || r[p] >= last) continue;
      for (int q = 0; q < m; q++) {
        const int64_t o = r[p]*a.n[1] + s[q];
        const real g = z[k]*u[p]*v[q];
        if (axes == 2) y[o] += g;
        else {
          y[o*a.n[2] + l[0]] += g*w[0];
          y[o*a.n[2] + l[1]] += g*w[1];
        }
      }
    }
  }
}

#define GRID_KERNELS(name, axes, cubic)                                              \
  typedef grid_args name##_args;                                                     \
  PL_ROW_KERNEL(name) { interpolate_at(a, i, axes, cubic); }                        \
  typedef grid_args name##_add_args;                                                 \
  PL_ROW_KERNEL(name##_add) { interpolate_add_at(a, i, axes, cubic); }
GRID_KERNELS(bilinear, 2, 0)
GRID_KERNELS(bicubic, 2, 1)
GRID_KERNELS(trilinear, 3, 0)

/* The interval, 1 to r - 1, of r places x that z_i is in. */
typedef order_args interval_args;
PL_ROW_KERNEL(interval) {
  real t, h;
  int beyond;
  a.y[i] = find_cell((const real *)a.x, a.r, ((const real *)a.z)[i], &t, &h, &beyond) + 1;
}
#endif
