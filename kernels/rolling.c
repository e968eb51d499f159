/* Sums and extremes of all windows of neighbours: y[t] = x[t] + x[t + s] + ... + x[t + (q - 1) s]. In blocks of rows of s, a
 * few columns at a time, windows of 1, 2, 4 ... elements are joined in pairs, and those that q's binary digits name are put
 * together: O(log q) steps an element, in L1, and errors of sums that grow with log q. The order is fixed by q alone. */
#include "kernel.h"
#include "shapes.h"

#if PL_DTYPE_ID <= 2
/* JOIN(x, z): of two windows, x the one in front */
#define ROLLING(name, JOIN)                                                                                             \
  typedef rolling_args name##_args;                                                                                     \
  PL_ROW_KERNEL(name) {                                                                                                 \
    const int64_t chunk = i % a.chunks, b = i/a.chunks % a.blocks, o = i/a.chunks/a.blocks, ends = a.n - (a.q - 1)*a.s; \
    const int64_t j0 = chunk*a.columns, first = b*a.rows*a.s + j0, m = a.s - j0 < a.columns ? a.s - j0 : a.columns;     \
    const int64_t left = (ends - b*a.rows*a.s + a.s - 1)/a.s, rows = left < a.rows ? left : a.rows, n = rows*m;         \
    const real *x = (const real *)a.x + o*a.stride + first;                                                             \
    real *y = (real *)a.y + o*ends + first;                                                                             \
    real work[2][PL_ROLLING_SPACE], all[PL_ROLLING_SPACE], *from = work[0], *to = work[1];                              \
    const int whole = m == a.s; /* rows lie one behind another */                                                       \
    const int64_t lines = whole ? 1 : rows + a.q - 1, width = whole ? (rows + a.q - 1)*m : m;                           \
    for (int64_t k = 0; k < lines; k++) {                                                                               \
      const int64_t rest = a.n - first - k*a.s, there = rest < width ? rest : width;                                    \
      for (int64_t j = 0; j < there; j++) from[k*m + j] = x[k*a.s + j];                                                 \
      for (int64_t j = there < 0 ? 0 : there; j < width; j++) from[k*m + j] = 0;                                        \
    }                                                                                                                   \
    int64_t done = 0, size = 1;                                                                                         \
    for (;;) {                                                                                                          \
      if (a.q & size) {                                                                                                 \
        const real *p = from + done*m;                                                                                  \
        if (done)                                                                                                       \
          for (int64_t t = 0; t < n; t++) all[t] = JOIN(all[t], p[t]);                                                  \
        else                                                                                                            \
          for (int64_t t = 0; t < n; t++) all[t] = p[t];                                                                \
        done += size;                                                                                                   \
      }                                                                                                                 \
      if (a.q < 2*size) break;                                                                                          \
      const int64_t count = (rows + a.q - 2*size)*m;                                                                    \
      const real *p = from + size*m;                                                                                    \
      for (int64_t t = 0; t < count; t++) to[t] = JOIN(from[t], p[t]);                                                  \
      real *swap = from;                                                                                                \
      from = to;                                                                                                        \
      to = swap;                                                                                                        \
      size *= 2;                                                                                                        \
    }                                                                                                                   \
    for (int64_t k = 0; k < (whole ? 1 : rows); k++) {                                                                  \
      const int64_t rest = ends - first - k*a.s, there = rest < (whole ? n : m) ? rest : whole ? n : m;                 \
      for (int64_t j = 0; j < there; j++) y[k*a.s + j] = all[k*m + j];                                                  \
    }                                                                                                                   \
  }
#define SUM(x, z) ((x) + (z))
#define LARGER(x, z) ((x) > (z) || (x) != (x) ? (x) : (z)) /* as maximum and minimum choose */
#define SMALLER(x, z) ((x) < (z) || (x) != (x) ? (x) : (z))
ROLLING(rolling_sum, SUM)
ROLLING(rolling_max, LARGER)
ROLLING(rolling_min, SMALLER)
#endif
