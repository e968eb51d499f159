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

/* The first place of the extreme value, which is found before it: both passes are plain loops over lanes. */
enum { LANES = 8 };
#define PLACE(name, BETTER)                                                                             \
  typedef order_args name##_args;                                                                       \
  PL_ROW_KERNEL(name) {                                                                                 \
    const real *x = (const real *)a.x + i/a.inner*a.r*a.inner + i % a.inner;                            \
    real lane[LANES], best = x[0];                                                                      \
    int64_t k = 0;                                                                                      \
    int nan = 0;                                                                                        \
    if (a.inner == 1 && a.r >= LANES) {                                                                 \
      for (int l = 0; l < LANES; l++) lane[l] = best;                                                   \
      for (; k + LANES <= a.r; k += LANES)                                                              \
        for (int l = 0; l < LANES; l++) {                                                               \
          const real s = x[k + l];                                                                      \
          nan |= IS_NAN(s);                                                                             \
          lane[l] = s BETTER lane[l] ? s : lane[l];                                                     \
        }                                                                                               \
      for (int l = 0; l < LANES; l++) best = lane[l] BETTER best ? lane[l] : best;                      \
    }                                                                                                   \
    for (; k < a.r; k++) {                                                                              \
      const real s = x[k*a.inner];                                                                      \
      nan |= IS_NAN(s);                                                                                 \
      best = s BETTER best ? s : best;                                                                  \
    }                                                                                                   \
    k = 0;                                                                                              \
    if (nan)                                                                                            \
      while (!IS_NAN(x[k*a.inner])) k++;                                                                \
    else                                                                                                \
      while (x[k*a.inner] != best) k++;                                                                 \
    a.y[i] = k + 1;                                                                                     \
  }
PLACE(argmax, >)
PLACE(argmin, <)

/* A whole number that is ordered as x is: comparing those takes no branch. */
PL_FN int64_t order_key(real x, int64_t descending) {
#if PL_FLOATING
  union { double x; int64_t bits; } u;
  u.x = x == 0 ? 0 : (double)x; /* both zeros are one */
  int64_t key = IS_NAN(x) ? INT64_MAX : u.bits < 0 ? u.bits ^ INT64_MAX : u.bits;
#else
  int64_t key = x;
#endif
  return descending ? ~key : key;
}

/* Merges runs of 8, 16 ... of keys with their places, between two rows of a.work for each i. */
typedef struct { int64_t key, place; } item;
typedef order_args argsort_args;
PL_ROW_KERNEL(argsort) {
  enum { RUN = 8 };
  const real *x = (const real *)a.x + i/a.inner*a.r*a.inner + i % a.inner;
  item *from = (item *)a.work + 2*a.r*i, *to = from + a.r;
  for (int64_t lo = 0; lo < a.r; lo += RUN) { /* by insertion */
    const int64_t hi = lo + RUN < a.r ? lo + RUN : a.r;
    for (int64_t k = lo; k < hi; k++) {
      const item t = {order_key(x[k*a.inner], a.descending), k + 1};
      int64_t p = k;
      for (; p > lo && t.key < from[p - 1].key; p--) from[p] = from[p - 1];
      from[p] = t;
    }
  }
  for (int64_t run = RUN; run < a.r; run *= 2) {
    for (int64_t lo = 0; lo < a.r; lo += 2*run) {
      const int64_t middle = lo + run < a.r ? lo + run : a.r, hi = lo + 2*run < a.r ? lo + 2*run : a.r;
      int64_t p = lo, q = middle, k = lo;
      while (p < middle && q < hi) {
        const item s = from[p], t = from[q];
        const int second = t.key < s.key;
        to[k].key = second ? t.key : s.key;
        to[k++].place = second ? t.place : s.place;
        q += second;
        p += !second;
      }
      for (; p < middle; p++) to[k++] = from[p];
      for (; q < hi; q++) to[k++] = from[q];
    }
    item *swap = from;
    from = to;
    to = swap;
  }
  int64_t *y = a.y + i/a.inner*a.r*a.inner + i % a.inner;
  for (int64_t k = 0; k < a.r; k++) y[k*a.inner] = from[k].place;
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
