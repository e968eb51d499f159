/* Extreme places and orders along the middle axis of {outer, r, inner}; i counts {outer, inner}. Places are 1-based. A NaN
 * counts as larger than all numbers; equal elements keep their order. */
#include "kernel.h"
#include "shapes.h"

#if PL_DTYPE_ID <= 2
#if PL_FLOATING
#define IS_NAN(x) ((x) != (x))
#else
#define IS_NAN(x) 0
#endif
PL_FN int before(real x, real z) { return x < z || (!IS_NAN(x) && IS_NAN(z)); }

typedef order_args argmax_args;
PL_ROW_KERNEL(argmax) {
  const real *x = (const real *)a.x + i/a.inner*a.r*a.inner + i % a.inner;
  int64_t best = 0;
  for (int64_t k = 1; k < a.r; k++)
    if (before(x[best*a.inner], x[k*a.inner])) best = k;
  a.y[i] = best + 1;
}

typedef order_args argmin_args;
PL_ROW_KERNEL(argmin) { /* of a NaN, if there is one, as for the largest */
  const real *x = (const real *)a.x + i/a.inner*a.r*a.inner + i % a.inner;
  int64_t best = 0;
  for (int64_t k = 1; k < a.r; k++) {
    const real s = x[best*a.inner], t = x[k*a.inner];
    if (!IS_NAN(s) && (t < s || IS_NAN(t))) best = k;
  }
  a.y[i] = best + 1;
}

/* Merges runs of 1, 2, 4 ... places, between two rows of a.work for each i. */
typedef order_args argsort_args;
PL_ROW_KERNEL(argsort) {
  const real *x = (const real *)a.x + i/a.inner*a.r*a.inner + i % a.inner;
  int64_t *from = a.work + 2*a.r*i, *to = from + a.r;
  for (int64_t k = 0; k < a.r; k++) from[k] = k;
  for (int64_t run = 1; run < a.r; run *= 2) {
    for (int64_t lo = 0; lo < a.r; lo += 2*run) {
      const int64_t middle = lo + run < a.r ? lo + run : a.r, hi = lo + 2*run < a.r ? lo + 2*run : a.r;
      int64_t p = lo, q = middle;
      for (int64_t k = lo; k < hi; k++) {
        int second = p == middle;
        if (p < middle && q < hi) {
          const real s = x[from[p]*a.inner], t = x[from[q]*a.inner];
          second = a.descending ? before(s, t) : before(t, s);
        }
        to[k] = second ? from[q++] : from[p++];
      }
    }
    int64_t *swap = from;
    from = to;
    to = swap;
  }
  int64_t *y = a.y + i/a.inner*a.r*a.inner + i % a.inner;
  for (int64_t k = 0; k < a.r; k++) y[k*a.inner] = from[k] + 1;
}

/* How many of the r sorted numbers of x lie before z_i (or at it: descending). */
typedef order_args searchsorted_args;
PL_ROW_KERNEL(searchsorted) {
  const real *x = (const real *)a.x, z = ((const real *)a.z)[i];
  int64_t lo = 0, hi = a.r;
  while (lo < hi) {
    const int64_t middle = (lo + hi)/2;
    if (a.descending ? !before(z, x[middle]) : before(x[middle], z)) lo = middle + 1;
    else hi = middle;
  }
  a.y[i] = lo + 1;
}
#endif
