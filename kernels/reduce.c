/* Reductions and running sums. The order of summation is fixed by the shape alone: blocks of 4096, in each eight (or the
 * columns') running sums, so that results do not depend on threads. */
#include "kernel.h"
#include "shapes.h"

#if PL_DTYPE_ID <= 2
enum { LANES = 8 };

#define BOUNDS                                                        \
  const int64_t lo = b*a.block, hi = lo + a.block < a.r ? lo + a.block : a.r;

/* Rows: inner = 1, i = outer*blocks. Columns: i counts {outer, blocks, chunks of 256 columns}. JOIN combines s and x. */
#define REDUCE(name, START, JOIN)                                                                  \
  typedef reduce_args name##_rows_args;                                                            \
  PL_ROW_KERNEL(name##_rows) {                                                                     \
    const int64_t b = i % a.blocks;                                                                \
    BOUNDS                                                                                         \
    const real *p = (const real *)a.x + (i/a.blocks)*a.r;                                          \
    real lane[LANES], s = (START);                                                                 \
    for (int l = 0; l < LANES; l++) lane[l] = (START);                                             \
    int64_t k = lo;                                                                                \
    for (; k + LANES <= hi; k += LANES)                                                            \
      _Pragma("omp simd") for (int l = 0; l < LANES; l++) { const real x = p[k + l], t = lane[l]; lane[l] = JOIN(t, x); } \
    for (; k < hi; k++) s = JOIN(s, p[k]);                                                         \
    for (int l = 0; l < LANES; l++) s = JOIN(s, lane[l]);                                          \
    ((real *)a.y)[i] = s;                                                                          \
  }                                                                                                \
  typedef reduce_args name##_columns_args;                                                         \
  PL_ROW_KERNEL(name##_columns) {                                                                  \
    const int64_t chunks = (a.inner + PL_REDUCE_COLUMNS - 1)/PL_REDUCE_COLUMNS;                    \
    const int64_t j0 = i % chunks*PL_REDUCE_COLUMNS, b = i/chunks % a.blocks, o = i/chunks/a.blocks; \
    const int64_t m = a.inner - j0 < PL_REDUCE_COLUMNS ? a.inner - j0 : PL_REDUCE_COLUMNS;         \
    BOUNDS                                                                                         \
    real acc[PL_REDUCE_COLUMNS];                                                                   \
    for (int64_t j = 0; j < m; j++) acc[j] = (START);                                              \
    for (int64_t k = lo; k < hi; k++) {                                                            \
      const real *p = (const real *)a.x + (o*a.r + k)*a.inner + j0;                                \
      for (int64_t j = 0; j < m; j++) { const real t = acc[j]; acc[j] = JOIN(t, p[j]); }           \
    }                                                                                              \
    real *y = (real *)a.y + (o*a.blocks + b)*a.inner + j0;                                         \
    for (int64_t j = 0; j < m; j++) y[j] = acc[j];                                                 \
  }

#define JOIN_SUM(s, x) ((s) + (x))
#define JOIN_PROD(s, x) ((s)*(x))
#define JOIN_MAX(s, x) ((((x) > (s)) | ((x) != (x))) ? (x) : (s)) /* a NaN stays */
#define JOIN_MIN(s, x) ((((x) < (s)) | ((x) != (x))) ? (x) : (s))
#if PL_FLOATING
#define LOWEST ((real)-INFINITY)
#define HIGHEST ((real)INFINITY)
#else
#define LOWEST INT64_MIN
#define HIGHEST INT64_MAX
#endif
REDUCE(sum, 0, JOIN_SUM)
REDUCE(prod, 1, JOIN_PROD)
REDUCE(max, LOWEST, JOIN_MAX)
REDUCE(min, HIGHEST, JOIN_MIN)

/* Along lines, up to eight neighbours at a time: line l goes on from s[l] with x[l] and, of a recurrence, z[l]. */
#define RUNNING(name, NEXT)                                                                            \
  PL_FN void name##_lines(const real *x, const real *z, real *y, int64_t r, int64_t step, int64_t m) { \
    real s[PL_SCAN_LINES];                                                                                   \
    for (int64_t l = 0; l < m; l++) y[l] = s[l] = x[l];                                                \
    for (int64_t k = 1; k < r; k++) {                                                                  \
      x += step, z += step, y += step;                                                                 \
      _Pragma("omp simd") for (int64_t l = 0; l < m; l++) y[l] = s[l] = NEXT;                          \
    }                                                                                                  \
  }                                                                                                    \
  typedef scan_args name##_args;                                                                       \
  PL_ROW_KERNEL(name) {                                                                                \
    const int64_t chunks = (a.inner + PL_SCAN_LINES - 1)/PL_SCAN_LINES, j = i % chunks*PL_SCAN_LINES, m = a.inner - j;         \
    const int64_t at = (i/chunks*a.r + (a.reverse ? a.r - 1 : 0))*a.inner + j;                         \
    const int64_t step = a.reverse ? -a.inner : a.inner;                                               \
    const real *x = (const real *)a.x + at, *z = a.z ? (const real *)a.z + at : x;                     \
    real *y = (real *)a.y + at;                                                                        \
    if (m == 1) name##_lines(x, z, y, a.r, step, 1);                                                   \
    else if (m >= PL_SCAN_LINES) name##_lines(x, z, y, a.r, step, PL_SCAN_LINES);                                      \
    else name##_lines(x, z, y, a.r, step, m);                                                          \
  }
RUNNING(cumsum, s[l] + x[l])
RUNNING(cumprod, s[l]*x[l])
RUNNING(recurrence, z[l]*s[l] + x[l])
#endif
