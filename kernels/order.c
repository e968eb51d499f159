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

/* Numbers with their places, compared by their keys; equals stay in their order. */
typedef struct { int64_t key, place; } item;
enum { RUN = 16, WIDTH = 16 };

/* Runs of RUN items: the rank of each is the number of those before it, which takes no branch. */
PL_FN void sort_run(item *x, int64_t n) {
  int64_t key[RUN], place[RUN], rank[RUN] = {0};
  for (int64_t l = 0; l < RUN; l++) {
    key[l] = l < n ? x[l].key : INT64_MAX;
    place[l] = l < n ? x[l].place : 0;
  }
  for (int64_t j = 0; j < RUN; j++)
    _Pragma("omp simd") for (int64_t l = 0; l < RUN; l++)
      rank[l] += (key[j] < key[l]) | ((key[j] == key[l]) & (j < l));
  for (int64_t l = 0; l < n; l++) x[rank[l]] = (item){key[l], place[l]};
}
PL_FN void merge(const item *x, int64_t m, int64_t n, item *y) {
  int64_t p = 0, q = m;
  while (p < m && q < n) {
    const int second = x[q].key < x[p].key;
    *y++ = x[second ? q : p];
    q += second;
    p += !second;
  }
  while (p < m) *y++ = x[p++];
  while (q < n) *y++ = x[q++];
}
/* The first and the last m of two runs of m: neither end meets the end of a run. */
PL_FN void merge_up(const item *x, int64_t m, item *y) {
  const item *z = x + m;
  for (int64_t k = 0; k < m; k++) {
    const int second = z->key < x->key;
    y[k] = second ? *z : *x;
    z += second;
    x += !second;
  }
}
PL_FN void merge_down(const item *x, int64_t m, item *y) {
  const item *z = x + 2*m - 1;
  x += m - 1;
  for (int64_t k = 2*m - 1; k >= m; k--) {
    const int first = z->key < x->key;
    y[k] = first ? *x : *z;
    x -= first;
    z -= !first;
  }
}
/* Both at once: two chains of work that do not wait for each other. */
PL_FN void merge_both(const item *x, int64_t m, item *y) {
  const item *z = x + m, *p = x + m - 1, *q = x + 2*m - 1;
  item *w = y + 2*m - 1;
  for (int64_t k = 0; k < m; k++) {
    const int second = z->key < x->key, first = q->key < p->key;
    *y++ = second ? *z : *x;
    *w-- = first ? *p : *q;
    z += second;
    x += !second;
    p -= first;
    q -= !first;
  }
}
/* Sorted runs until they are as long as `end`, between x and y; where they are. */
PL_FN item *sort_items(item *x, item *y, int64_t n, int64_t end) {
  for (int64_t k = 0; k < n; k += RUN) sort_run(x + k, n - k < RUN ? n - k : RUN);
  for (int64_t run = RUN; run < end; run *= 2) {
    for (int64_t k = 0; k < n; k += 2*run) {
      const int64_t left = n - k;
      if (left >= 2*run) merge_both(x + k, run, y + k);
      else merge(x + k, left < run ? left : run, left, y + k);
    }
    item *swap = x;
    x = y;
    y = swap;
  }
  return x;
}

typedef sort_args sort_chunks_args, sort_merge_args, sort_places_args, select_places_args;
PL_FN const real *line_of(const sort_args *a, int64_t i) {
  return (const real *)a->x + i/a->inner*a->r*a->inner + i % a->inner;
}
PL_FN void put_places(const sort_args *a, int64_t i, const item *x, int64_t lo, int64_t hi) {
  int64_t *y = a->y + i/a->inner*a->count*a->inner + i % a->inner;
  for (int64_t k = lo; k < hi; k++) y[k*a->inner] = x[k].place;
}
/* i counts {line, chunk}; after that, as after an even number of passes, items are where they were. */
PL_ROW_KERNEL(sort_chunks) {
  const int64_t line = i/a.chunks, lo = i % a.chunks*PL_SORT_CHUNK;
  const int64_t n = a.r - lo < PL_SORT_CHUNK ? a.r - lo : PL_SORT_CHUNK;
  const real *x = line_of(&a, line);
  item *from = (item *)a.from + line*a.r + lo;
  for (int64_t k = 0; k < n; k++) from[k] = (item){order_key(x[(lo + k)*a.inner], a.descending), lo + k + 1};
  const item *y = sort_items(from, (item *)a.to + line*a.r + lo, n, a.chunks > 1 ? PL_SORT_CHUNK : n);
  if (a.chunks == 1) put_places(&a, line, y + a.first, 0, a.count);
}
/* i counts {line, pair of runs, end to begin from} */
PL_ROW_KERNEL(sort_merge) {
  const int64_t pairs = (a.r + 2*a.run - 1)/(2*a.run), down = i % 2, lo = i/2 % pairs*2*a.run;
  const int64_t at = i/2/pairs*a.r + lo, left = a.r - lo;
  const item *x = (const item *)a.from + at;
  item *y = (item *)a.to + at;
  if (left < 2*a.run) {
    if (!down) merge(x, left < a.run ? left : a.run, left, y);
  } else if (down) merge_down(x, a.run, y);
  else merge_up(x, a.run, y);
}
/* i counts {line, chunk of those wanted} */
PL_ROW_KERNEL(sort_places) {
  const int64_t chunks = (a.count + PL_SORT_CHUNK - 1)/PL_SORT_CHUNK, lo = i % chunks*PL_SORT_CHUNK;
  const int64_t hi = lo + PL_SORT_CHUNK < a.count ? lo + PL_SORT_CHUNK : a.count;
  put_places(&a, i/chunks, (const item *)a.from + i/chunks*a.r + a.first, lo, hi);
}

/* Selection: most items lie outside of two keys of a sample, between which those wanted are to be expected (R. Floyd,
 * R. Rivest, Expected time bounds for selection, CACM 18(3), 1975). What is found does not depend on the sample. */
enum { NARROWED = 512 };
PL_FN int64_t sampled(int64_t j, int64_t n) { /* evenly, but with no period */
  return (int64_t)(((uint64_t)(uint32_t)((uint64_t)j*0x9E3779B97F4A7C15u >> 32)*(uint64_t)n) >> 32);
}
/* The keys lo and hi around those with `first` to `last` of n before them, from m sampled keys in s, s + m free. */
PL_FN void bracket(item *s, int64_t m, int64_t n, int64_t first, int64_t last, int64_t *lo, int64_t *hi) {
  const item *y = sort_items(s, s + m, m, m);
  const double p = (double)first/(double)n, q = (double)last/(double)n, size = (double)m;
  const double l = p*size - 4*(double)sqrt(size*p*(1 - p)) - 1, h = q*size + 4*(double)sqrt(size*q*(1 - q)) + 1;
  *lo = l < 0 ? INT64_MIN : y[(int64_t)l].key;
  *hi = h >= size - 1 ? INT64_MAX : y[(int64_t)h + 1].key;
}
PL_FN int64_t sample_size(int64_t n) {
  const double c = (double)cbrt((double)n);
  return (int64_t)(c*c);
}
/* The items of the line between both keys; counts those before them. */
PL_FN int64_t gather_between(const sort_args *a, const real *x, int64_t lo, int64_t hi, item *w, int64_t *below) {
  int64_t n = 0, k = 0;
  *below = 0;
  for (; k + WIDTH <= a->r; k += WIDTH) {
    int64_t key[WIDTH], under = 0, inside = 0;
    _Pragma("omp simd reduction(+ : under, inside)") for (int64_t l = 0; l < WIDTH; l++) {
      key[l] = order_key(x[(k + l)*a->inner], a->descending);
      under += key[l] < lo;
      inside += (key[l] >= lo) & (key[l] <= hi);
    }
    *below += under;
    for (int64_t l = 0; inside && l < WIDTH; l++) {
      w[n] = (item){key[l], k + l + 1};
      n += (key[l] >= lo) & (key[l] <= hi);
    }
  }
  for (; k < a->r; k++) {
    w[n] = (item){order_key(x[k*a->inner], a->descending), k + 1};
    *below += w[n].key < lo;
    n += (w[n].key >= lo) & (w[n].key <= hi);
  }
  return n;
}
/* i: a line */
PL_ROW_KERNEL(select_places) {
  const real *x = line_of(&a, i);
  item *w = (item *)a.from + i*a.r, *s = (item *)a.to + i*a.r;
  int64_t n = a.r, first = a.first, lo, hi, below;
  const int64_t m = sample_size(n);
  for (int64_t j = 0; j < m; j++) s[j].key = order_key(x[sampled(j, n)*a.inner], a.descending);
  bracket(s, m, n, first, first + a.count - 1, &lo, &hi);
  n = gather_between(&a, x, lo, hi, w, &below);
  if (first < below || first + a.count > below + n) { /* not there: all of them */
    n = gather_between(&a, x, INT64_MIN, INT64_MAX, w, &below);
  }
  first -= below;
  while (n > NARROWED && 4*a.count < n) {
    const int64_t size = sample_size(n);
    for (int64_t j = 0; j < size; j++) s[j].key = w[sampled(j, n)].key;
    bracket(s, size, n, first, first + a.count - 1, &lo, &hi);
    int64_t inside = 0;
    below = 0;
    for (int64_t k = 0; k < n; k++) {
      below += w[k].key < lo;
      inside += (w[k].key >= lo) & (w[k].key <= hi);
    }
    if (first < below || first + a.count > below + inside || 2*inside > n) break;
    inside = 0;
    for (int64_t k = 0; k < n; k++) {
      w[inside] = w[k];
      inside += (w[k].key >= lo) & (w[k].key <= hi);
    }
    n = inside;
    first -= below;
  }
  put_places(&a, i, sort_items(w, s, n, n) + first, 0, a.count);
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
