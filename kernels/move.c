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

/* s, which is the base or, of a piece's own rows, START, is joined by x. The loop ends at an index out of range. */
#define SCATTER(name, START, JOINED)                                                                    \
  typedef index_args scatter_##name##_args;                                                             \
  PL_ROW_KERNEL(scatter_##name) {                                                                       \
    const int64_t strip = i % a.strips, piece = i/a.strips % a.pieces, o = i/a.strips/a.pieces;         \
    const int64_t lo = piece*a.piece, hi = lo + a.piece < a.k ? lo + a.piece : a.k, j0 = strip*a.width; \
    const int64_t n = a.inner - j0 < a.width ? a.inner - j0 : a.width;                                  \
    const real *from = (const real *)a.x + o*a.k*a.inner + j0;                                          \
    real *to = (real *)a.y + (o*a.pieces + piece)*a.m*a.inner + j0;                                     \
    if (a.pieces > 1)                                                                                   \
      for (int64_t j = 0; j < a.m*a.inner; j++) to[j] = (START);                                        \
    int64_t k = lo;                                                                                     \
    if (a.inner == 1) {                                                                                 \
      for (uint64_t at; k < hi && (at = (uint64_t)a.index[k] - 1) < (uint64_t)a.m; k++) {               \
        const real x = from[k], s = to[at];                                                             \
        (void)x, (void)s;                                                                               \
        to[at] = (JOINED);                                                                              \
      }                                                                                                 \
    } else {                                                                                            \
      for (uint64_t at; k < hi && (at = (uint64_t)a.index[k] - 1) < (uint64_t)a.m; k++)                 \
        for (int64_t j = 0; j < n; j++) {                                                               \
          const real x = from[k*a.inner + j], s = to[(int64_t)at*a.inner + j];                          \
          (void)x, (void)s;                                                                             \
          to[(int64_t)at*a.inner + j] = (JOINED);                                                       \
        }                                                                                               \
    }                                                                                                   \
    if (o == 0 && strip == 0) a.bad[piece] = k < hi ? k + 1 : 0;                                        \
  }
#define SCATTER_JOIN(name, JOINED)                                    \
  typedef index_args scatter_join_##name##_args;                      \
  PL_ROW_KERNEL(scatter_join_##name) {                                \
    const int64_t n = a.m*a.inner;                                    \
    const real *from = (const real *)a.x + i*a.pieces*n;              \
    real *to = (real *)a.y + i*n;                                     \
    for (int64_t k = 0; k < a.pieces; k++)                            \
      for (int64_t j = 0; j < n; j++) {                               \
        const real x = from[k*n + j], s = to[j];                      \
        to[j] = (JOINED);                                             \
      }                                                               \
  }
#if PL_FLOATING
#define LOWEST ((real)-INFINITY)
#define HIGHEST ((real)INFINITY)
#define ZERO ((real)-0.0) /* which changes no number, and no sign of one */
#else
#define LOWEST INT64_MIN
#define HIGHEST INT64_MAX
#define ZERO 0
#endif
#define LARGER (x > s || x != x ? x : s) /* a NaN stays */
#define SMALLER (x < s || x != x ? x : s)
SCATTER(add, ZERO, s + x)
SCATTER(set, 0, x)
SCATTER_JOIN(add, s + x)
#if PL_DTYPE_ID <= 2
SCATTER(max, LOWEST, LARGER)
SCATTER(min, HIGHEST, SMALLER)
SCATTER_JOIN(max, LARGER)
SCATTER_JOIN(min, SMALLER)
#endif
#if PL_DTYPE_ID == 2
SCATTER(count, 0, s + 1)
#endif

#if PL_DTYPE_ID <= 2
PL_ROW_KERNEL(range) {
  ((real *)a.y)[i] = (real)(i == a.n - 1 ? a.last : a.start + (double)i*a.step);
}
#endif
