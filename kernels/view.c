/* Blocks of a strided view (a slice, a transpose, a broadcast), made contiguous for a fused group. */
#include "kernel.h"
#include "shapes.h"

/* Elements lo .. hi in row-major order of the shape. Along a row of stride 1 whole vectors are copied where x has them: dst
 * may be overrun by one. */
typedef view_args view_block_args;
PL_ROW_KERNEL(view_block) {
  (void)i;
  enum { VECTOR = 64/sizeof(real) };
  const int last = (int)a.rank - 1;
  const int64_t step = a.stride[last], width = a.shape[last];
  int64_t index[8], rest = a.lo, offset = 0, lo = a.lo;
  for (int d = last; d >= 0; d--) {
    index[d] = rest % a.shape[d];
    rest /= a.shape[d];
    offset += index[d]*a.stride[d];
  }
  real *y = (real *)a.y;
  while (lo < a.hi) {
    int64_t run = width - index[last];
    if (run > a.hi - lo) run = a.hi - lo;
    const real *x = (const real *)a.x + offset;
    if (step == 1 && offset + (run + VECTOR - 1)/VECTOR*VECTOR <= a.limit) {
      for (int64_t k = 0; k < run; k += VECTOR)
        for (int64_t j = 0; j < (int64_t)VECTOR; j++) y[k + j] = x[k + j];
    } else if (step == 0) {
      const real z = x[0];
      for (int64_t k = 0; k < run; k++) y[k] = z;
    } else {
      for (int64_t k = 0; k < run; k++) y[k] = x[k*step];
    }
    y += run;
    lo += run;
    offset += run*step;
    index[last] += run;
    for (int d = last; d > 0 && index[d] == a.shape[d]; d--) {
      offset += a.stride[d - 1] - index[d]*a.stride[d];
      index[d] = 0;
      index[d - 1]++;
    }
  }
}

/* What is put lies elsewhere than what it is put into. */
PL_FN void put_row(real *__restrict__ y, const real *__restrict__ w, int64_t n, int64_t add) {
  if (add)
    for (int64_t j = 0; j < n; j++) y[j] += w[j];
  else
    for (int64_t j = 0; j < n; j++) y[j] = w[j];
}

/* y may be x. */
PL_ROW_KERNEL(slice_block) {
  (void)i;
  enum { VECTOR = 64/sizeof(real) };
  const int last = (int)a.rank - 1;
  const int64_t width = a.shape[last], first = a.start[last], step = a.step[last], count = a.count[last];
  real *y = (real *)a.y;
  if (a.x != a.y) {
    const real *x = (const real *)a.x;
    for (int64_t k = 0; k < a.hi - a.lo; k += VECTOR)
      for (int64_t j = 0; j < (int64_t)VECTOR; j++) y[k + j] = x[k + j];
  }
  int64_t index[8], rest = a.lo;
  for (int d = last; d >= 0; d--) {
    index[d] = rest % a.shape[d];
    rest /= a.shape[d];
  }
  for (int64_t lo = a.lo; lo < a.hi;) {
    int64_t run = width - index[last];
    if (run > a.hi - lo) run = a.hi - lo;
    int64_t row = 0;
    int inside = 1;
    for (int d = 0; d < last && inside; d++) {
      int64_t from = index[d] - a.start[d];
      if (a.step[d] != 1) { /* a division costs as much as the row */
        if (a.step[d] < 0) from = -from;
        const int64_t by = a.step[d] < 0 ? -a.step[d] : a.step[d];
        from = from >= 0 && from % by == 0 ? from/by : -1;
      }
      inside = from >= 0 && from < a.count[d];
      row = row*a.count[d] + from;
    }
    if (inside && step == 1) {
      const int64_t j0 = index[last] > first ? index[last] : first;
      const int64_t j1 = index[last] + run < first + count ? index[last] + run : first + count;
      put_row(y + (lo - a.lo) - index[last] + j0, (const real *)a.w + row*count - first + j0, j1 - j0, a.add);
    } else if (inside) {
      const real *w = (const real *)a.w + row*count;
      for (int64_t k = 0; k < count; k++) {
        const int64_t j = first + k*step - index[last];
        if (j < 0 || j >= run) continue;
        real *to = y + (lo - a.lo) + j;
        *to = a.add ? *to + w[k] : w[k];
      }
    }
    lo += run;
    index[last] += run;
    for (int d = last; d > 0 && index[d] == a.shape[d]; d--) {
      index[d] = 0;
      index[d - 1]++;
    }
  }
}
