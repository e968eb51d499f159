/* Data movement: strided copies and sums, gathers and scatters, ranges. */
#include "kernel.h"
#include "shapes.h"

PL_FN void offsets(const strided_args *a, int64_t i, int64_t *x, int64_t *y) {
  *x = *y = 0;
  for (int64_t d = a->rank - 2; d >= 0; d--) {
    const int64_t k = i % a->shape[d];
    i /= a->shape[d];
    *x += k*a->xs[d];
    *y += k*a->ys[d];
  }
}

typedef strided_args copy_strided_args;
PL_ROW_KERNEL(copy_strided) {
  int64_t ox, oy;
  offsets(&a, i, &ox, &oy);
  const real *x = (const real *)a.x + ox;
  real *y = (real *)a.y + oy;
  const int64_t n = a.shape[a.rank - 1], sx = a.xs[a.rank - 1], sy = a.ys[a.rank - 1];
  if (sx == 1 && sy == 1)
    for (int64_t k = 0; k < n; k++) y[k] = x[k];
  else if (sx == 0 && sy == 1)
    for (int64_t k = 0; k < n; k++) y[k] = x[0];
  else
    for (int64_t k = 0; k < n; k++) y[k*sy] = x[k*sx];
}

typedef strided_args add_strided_args;
PL_ROW_KERNEL(add_strided) {
  int64_t ox, oy;
  offsets(&a, i, &ox, &oy);
  const real *x = (const real *)a.x + ox;
  real *y = (real *)a.y + oy;
  const int64_t n = a.shape[a.rank - 1], sx = a.xs[a.rank - 1], sy = a.ys[a.rank - 1];
  if (sx == 1 && sy == 1)
    for (int64_t k = 0; k < n; k++) y[k] += x[k];
  else
    for (int64_t k = 0; k < n; k++) y[k*sy] += x[k*sx];
}

PL_ROW_KERNEL(gather) {
  const int64_t o = i/a.pieces, piece = i % a.pieces, lo = piece*a.piece, hi = lo + a.piece < a.k ? lo + a.piece : a.k;
  const real *x = (const real *)a.x + o*a.m*a.inner;
  real *y = (real *)a.y + o*a.k*a.inner;
  int64_t bad = 0;
  if (a.inner == 1)
    for (int64_t k = hi; k-- > lo;) {
      const uint64_t at = (uint64_t)a.index[k] - 1;
      const int out = at >= (uint64_t)a.m;
      bad = out ? k + 1 : bad;
      y[k] = x[out ? 0 : at];
    }
  else for (int64_t k = hi; k-- > lo;) {
    const uint64_t at = (uint64_t)a.index[k] - 1;
    const int out = at >= (uint64_t)a.m;
    const real *from = x + (out ? 0 : at)*(uint64_t)a.inner;
    bad = out ? k + 1 : bad;
    for (int64_t j = 0; j < a.inner; j++) y[k*a.inner + j] = from[j];
  }
  if (o == 0) a.bad[piece] = bad;
}

/* y has been filled with the base: s, which x joins. */
#define SCATTER(name, JOINED)                                       \
  typedef index_args scatter_##name##_args;                         \
  PL_ROW_KERNEL(scatter_##name) {                                   \
    for (int64_t k = 0; k < a.k; k++) {                             \
      const real *from = (const real *)a.x + (i*a.k + k)*a.inner;   \
      real *y = (real *)a.y + (i*a.m + a.index[k] - 1)*a.inner;     \
      for (int64_t j = 0; j < a.inner; j++) {                       \
        const real x = from[j], s = y[j];                           \
        (void)s;                                                    \
        y[j] = (JOINED);                                            \
      }                                                             \
    }                                                               \
  }
SCATTER(add, s + x)
SCATTER(set, x)
#if PL_DTYPE_ID <= 2
SCATTER(max, x > s || x != x ? x : s) /* a NaN stays */
SCATTER(min, x < s || x != x ? x : s)
#endif

#if PL_DTYPE_ID <= 2
PL_ROW_KERNEL(range) {
  ((real *)a.y)[i] = (real)(i == a.n - 1 ? a.last : a.start + (double)i*a.step);
}
#endif
