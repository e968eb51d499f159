/* banded.c: tridiagonal systems by Gaussian elimination with exchanges of neighbouring rows, as LAPACK's gtsv. Written
 * without branches: eight systems side by side run in vectors, each with the bits that it has alone. */
#include "kernel.h"
#include "shapes.h"

#if PL_FLOATING
/* A row of the upper triangle: its diagonal entry and the two on the right of it. */
typedef struct {
  real d, u, v;
} triangle_row;

/* The row that is open (d, u) and the next one (l, e, r) make a row of the triangle and another open one; f is the
 * multiple of the former's right side that the latter's loses, swap tells whether the rows change places. */
PL_FN triangle_row eliminate(real *d, real *u, real l, real e, real r, real *f, int *swap) {
  const int s = fabs(l) > fabs(*d);
  const triangle_row top = {s ? l : *d, s ? e : *u, s ? r : 0};
  const real t = (s ? *d : l) / top.d;
  *d = (s ? *u : e) - t * top.u;
  *u = (s ? 0 : r) - t * top.v;
  *f = t;
  *swap = s;
  return top;
}

enum { LANES = 8 };
#define EACH_LANE _Pragma("omp simd") for (int w = 0; w < lanes; w++)

/* Systems of one right side each, `lanes` of them from lanes*i on; of the last piece, those that are left. */
PL_FN __attribute__((always_inline)) void side_by_side(const tridiagonal_lanes_args a, int64_t i, const int lanes) {
  const int64_t n = a.n, first = i * lanes, left = a.batch - first;
  const real *below = (const real *)a.below, *diagonal = (const real *)a.diagonal, *above = (const real *)a.above,
             *b = (const real *)a.b;
  real *x = (real *)a.x, *pd = (real *)a.work + i * a.stride, *pu = pd + n * lanes, *pv = pu + n * lanes,
       *py = pv + n * lanes;
  int64_t at[LANES];
  real d[LANES], u[LANES], y[LANES], zero[LANES];
  for (int w = 0; w < lanes; w++) {
    at[w] = (first + (w < left ? w : left - 1)) * n;
    d[w] = diagonal[at[w]];
    u[w] = n > 1 ? above[at[w]] : 0;
    y[w] = b[at[w]];
    zero[w] = 1;
  }
  for (int64_t p = 0; p + 1 < n; p++) {
    real l[LANES], e[LANES], r[LANES], c[LANES];
    for (int w = 0; w < lanes; w++) {
      l[w] = below[at[w] + p + 1];
      e[w] = diagonal[at[w] + p + 1];
      r[w] = p + 2 < n ? above[at[w] + p + 1] : 0;
      c[w] = b[at[w] + p + 1];
    }
    real *qd = pd + p * lanes, *qu = pu + p * lanes, *qv = pv + p * lanes, *qy = py + p * lanes;
    EACH_LANE {
      int s;
      real f;
      const triangle_row top = eliminate(&d[w], &u[w], l[w], e[w], r[w], &f, &s);
      qd[w] = top.d;
      qu[w] = top.u;
      qv[w] = top.v;
      qy[w] = s ? c[w] : y[w];
      y[w] = (s ? y[w] : c[w]) - f * qy[w];
      zero[w] = top.d == 0 ? 0 : zero[w];
    }
  }
  real one[LANES], two[LANES];
  for (int w = 0; w < lanes; w++) {
    one[w] = y[w] / d[w];
    two[w] = 0;
    if (w >= left) continue;
    x[at[w] + n - 1] = one[w];
    a.bad[first + w] = d[w] == 0 || zero[w] == 0;
  }
  for (int64_t p = n - 2; p >= 0; p--) {
    const real *qd = pd + p * lanes, *qu = pu + p * lanes, *qv = pv + p * lanes, *qy = py + p * lanes;
    EACH_LANE {
      const real t = (qy[w] - qu[w] * one[w] - qv[w] * two[w]) / qd[w];
      two[w] = one[w];
      one[w] = t;
    }
    for (int w = 0; w < lanes && w < left; w++) x[at[w] + p] = one[w];
  }
}
PL_ROW_KERNEL(tridiagonal_lanes) { side_by_side(a, i, LANES); }
PL_ROW_KERNEL(tridiagonal_one) { side_by_side(a, i, 1); }

/* System i/blocks, and of its right sides a block of columns. */
PL_ROW_KERNEL(tridiagonal_columns) {
  const int64_t n = a.n, k = a.k, system = i / a.blocks, from = i % a.blocks * a.width, at = system * n;
  const int64_t columns = k - from < a.width ? k - from : a.width;
  const real *below = (const real *)a.below + at, *diagonal = (const real *)a.diagonal + at,
             *above = (const real *)a.above + at, *b = (const real *)a.b + at * k + from;
  real *x = (real *)a.x + at * k + from;
  triangle_row *top = (triangle_row *)((real *)a.work + i * a.stride);
  real d = diagonal[0], u = n > 1 ? above[0] : 0;
  int bad = 0;
  for (int64_t q = 0; q < columns; q++) x[q] = b[q];
  for (int64_t p = 0; p + 1 < n; p++) {
    int s;
    real f, *y = x + p * k, *z = y + k;
    const real *c = b + (p + 1) * k;
    top[p] = eliminate(&d, &u, below[p + 1], diagonal[p + 1], p + 2 < n ? above[p + 1] : 0, &f, &s);
    bad |= top[p].d == 0;
    for (int64_t q = 0; q < columns; q++) {
      const real open = y[q];
      y[q] = s ? c[q] : open;
      z[q] = (s ? open : c[q]) - f * y[q];
    }
  }
  for (int64_t q = 0; q < columns; q++) x[(n - 1) * k + q] /= d;
  for (int64_t p = n - 2; p >= 0; p--) {
    real *y = x + p * k;
    const triangle_row t = top[p];
    if (p == n - 2) /* nothing is two rows further */
      for (int64_t q = 0; q < columns; q++) y[q] = (y[q] - t.u * y[k + q]) / t.d;
    else
      for (int64_t q = 0; q < columns; q++) y[q] = (y[q] - t.u * y[k + q] - t.v * y[2 * k + q]) / t.d;
  }
  if (bad || d == 0) a.bad[system] = 1;
}
#endif
