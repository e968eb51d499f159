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
enum { RUN = 16, WIDTH = 32 };

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
/* z where second is 1, else x: by a mask, for compilers make a branch of ?:, which is mispredicted half of the time. */
PL_FN item pick(const item *x, const item *z, int64_t second) {
  return *(const item *)((const char *)x + (((const char *)z - (const char *)x) & -second));
}
/* What is left of two runs: from x to p and from z to q. */
typedef struct { const item *x, *z, *p, *q; } runs;
PL_FN runs runs_of(const item *x, int64_t m, int64_t n) { return (runs){x, x + m, x + m - 1, x + m + n - 1}; }
/* The first of them goes to y and the last to w. */
PL_FN void merge_ends(runs *e, item *y, item *w) {
  const int64_t second = e->z->key < e->x->key, first = e->q->key < e->p->key;
  *y = pick(e->x, e->z, second);
  *w = pick(e->q, e->p, first);
  e->z += second;
  e->x += 1 - second;
  e->p -= first;
  e->q -= 1 - first;
}
/* In as many steps from both ends as the shorter run has items neither is used up. */
PL_FN void merge(const item *x, int64_t m, int64_t n, item *y) {
  runs e = runs_of(x, m, n);
  const int64_t steps = m < n ? m : n;
  item *w = y + m + n;
  for (int64_t k = 0; k < steps; k++) merge_ends(&e, y++, --w);
  while (e.x <= e.p && e.z <= e.q) {
    const int64_t second = e.z->key < e.x->key;
    *y++ = pick(e.x, e.z, second);
    e.z += second;
    e.x += 1 - second;
  }
  while (e.x <= e.p) *y++ = *e.x++;
  while (e.z <= e.q) *y++ = *e.z++;
}
/* Two pairs of runs of m, whose steps do not wait for each other. */
PL_FN void merge_two(const item *x, int64_t m, item *y) {
  runs e = runs_of(x, m, m), f = runs_of(x + 2*m, m, m);
  item *v = y + 2*m, *w = y + 4*m;
  for (int64_t k = 0; k < m; k++) {
    merge_ends(&e, y + k, v - 1 - k);
    merge_ends(&f, v + k, w - 1 - k);
  }
}
/* Sorted runs until all are one, between x and y; where that is. */
PL_FN item *sort_items(item *x, item *y, int64_t n) {
  int64_t k = 0;
  for (; k + RUN <= n; k += RUN) sort_run(x + k, RUN);
  if (k < n) sort_run(x + k, n - k);
  for (int64_t run = RUN; run < n; run *= 2) {
    for (k = 0; k + 4*run <= n; k += 4*run) merge_two(x + k, run, y + k);
    for (; k < n; k += 2*run) {
      const int64_t left = n - k, m = left < run ? left : run;
      merge(x + k, m, left - m < run ? left - m : run, y + k);
    }
    item *swap = x;
    x = y;
    y = swap;
  }
  return x;
}

typedef sort_args sort_lines_args, sort_sample_args, sort_classify_args, sort_scatter_args, sort_buckets_args,
    select_places_args;
PL_FN const real *line_of(const sort_args *a, int64_t i) {
  return (const real *)a->x + i/a->inner*a->r*a->inner + i % a->inner;
}
/* Those wanted of items lo .. lo + n - 1 of line i's order. */
PL_FN void put_places(const sort_args *a, int64_t i, const item *x, int64_t lo, int64_t n) {
  int64_t *y = a->y + i/a->inner*a->count*a->inner + i % a->inner;
  const int64_t k0 = a->first > lo ? a->first - lo : 0, k1 = a->first + a->count - lo;
  for (int64_t k = k0; k < n && k < k1; k++) y[(lo + k - a->first)*a->inner] = x[k].place;
}
PL_FN item item_of(const sort_args *a, const real *x, int64_t k) {
  return (item){order_key(x[k*a->inner], a->descending), k + 1};
}
PL_ROW_KERNEL(sort_lines) {
  const real *x = line_of(&a, i);
  item *from = (item *)a.from + i*a.r;
  for (int64_t k = 0; k < a.r; k++) from[k] = item_of(&a, x, k);
  put_places(&a, i, sort_items(from, (item *)a.to + i*a.r, a.r), 0, a.r);
}
/* Evenly, but with no period. */
PL_FN int64_t sampled(int64_t j, int64_t n) {
  return (int64_t)(((uint64_t)(uint32_t)((uint64_t)j*0x9E3779B97F4A7C15u >> 32)*(uint64_t)n) >> 32);
}

/* A long line, a.line: its items go to buckets between keys of a sample (W. Frazer, A. McKellar, Samplesort, Journal of
 * the ACM 17(3), 1970), in blocks, each of which knows where its part of a bucket begins; then buckets are sorted. */
PL_ROW_KERNEL(sort_sample) { /* keys between buckets, as a tree: the children of j are 2j and 2j + 1 */
  const real *x = line_of(&a, a.line);
  const int64_t m = a.buckets*PL_SORT_OVERSAMPLING;
  item *s = (item *)a.from;
  for (int64_t j = 0; j < m; j++) s[j] = item_of(&a, x, sampled(j, a.r));
  s = sort_items(s, (item *)a.to, m);
  int64_t k = 1;
  for (int64_t level = a.buckets/2; level >= 1; level /= 2)
    for (int64_t j = level; j < a.buckets; j += 2*level) a.tree[k++] = s[j*PL_SORT_OVERSAMPLING].key;
  (void)i;
}
PL_ROW_KERNEL(sort_classify) { /* i: a block */
  const real *x = line_of(&a, a.line);
  const int64_t lo = i*a.block, hi = lo + a.block < a.r ? lo + a.block : a.r;
  int64_t *count = a.counts + i*a.buckets;
  for (int64_t b = 0; b < a.buckets; b++) count[b] = 0;
  for (int64_t k = lo; k < hi; k += WIDTH) {
    int64_t key[WIDTH], at[WIDTH];
    const int64_t n = hi - k < WIDTH ? hi - k : WIDTH;
    for (int64_t l = 0; l < WIDTH; l++) {
      key[l] = order_key(x[(k + (l < n ? l : 0))*a.inner], a.descending);
      at[l] = 1;
    }
    for (int64_t level = 1; level < a.buckets; level *= 2)
      _Pragma("omp simd") for (int64_t l = 0; l < WIDTH; l++) at[l] = 2*at[l] + (a.tree[at[l]] < key[l]);
    for (int64_t l = 0; l < n; l++) {
      const int64_t b = at[l] - a.buckets;
      a.bucket[k + l] = (uint16_t)b;
      count[b]++;
    }
  }
}
PL_ROW_KERNEL(sort_scatter) { /* i: a block; its counts are now where it begins in each bucket */
  const real *x = line_of(&a, a.line);
  const int64_t lo = i*a.block, hi = lo + a.block < a.r ? lo + a.block : a.r;
  int64_t *start = a.counts + i*a.buckets;
  for (int64_t k = lo; k < hi; k++) ((item *)a.from)[start[a.bucket[k]]++] = item_of(&a, x, k);
}
PL_ROW_KERNEL(sort_buckets) { /* i: a bucket, which ends where its last block has ended */
  const int64_t *end = a.counts + (a.blocks - 1)*a.buckets, lo = i ? end[i - 1] : 0, n = end[i] - lo;
  put_places(&a, a.line, sort_items((item *)a.from + lo, (item *)a.to + lo, n), lo, n);
}

/* Selection: most items lie outside of two keys of a sample, between which those wanted are to be expected (R. Floyd,
 * R. Rivest, Expected time bounds for selection, CACM 18(3), 1975). What is found does not depend on the sample. */
enum { NARROWED = 512 };
/* The keys lo and hi around those with `first` to `last` of n before them, from m sampled keys in s, s + m free. */
PL_FN void bracket(item *s, int64_t m, int64_t n, int64_t first, int64_t last, int64_t *lo, int64_t *hi) {
  const item *y = sort_items(s, s + m, m);
  const double p = (double)first/(double)n, q = (double)last/(double)n, size = (double)m;
  const double l = p*size - 3*(double)sqrt(size*p*(1 - p)) - 1, h = q*size + 3*(double)sqrt(size*q*(1 - q)) + 1;
  *lo = l < 0 ? INT64_MIN : y[(int64_t)l].key;
  *hi = h >= size - 1 ? INT64_MAX : y[(int64_t)h + 1].key;
}
PL_FN int64_t sample_size(int64_t n) {
  const double c = (double)cbrt((double)n);
  return (int64_t)(c*c);
}
/* The items of the line between both keys; counts those before them. */
PL_FN int64_t gather_apart(const sort_args *a, const real *x, int64_t step, int64_t lo, int64_t hi, item *w, int64_t *below) {
  int64_t n = 0, k = 0, under = 0;
  for (; k + WIDTH <= a->r; k += WIDTH) {
    int64_t key[WIDTH], after = 0, behind = 0;
    _Pragma("omp simd reduction(+ : after, behind)") for (int64_t l = 0; l < WIDTH; l++) {
      key[l] = order_key(x[(k + l)*step], a->descending);
      after += key[l] >= lo;
      behind += key[l] > hi;
    }
    under += WIDTH - after;
    for (int64_t l = 0; behind < after && l < WIDTH; l++)
      if (key[l] >= lo && key[l] <= hi) w[n++] = (item){key[l], k + l + 1};
  }
  for (; k < a->r; k++) {
    w[n] = item_of(a, x, k);
    under += w[n].key < lo;
    n += (w[n].key >= lo) & (w[n].key <= hi);
  }
  *below = under;
  return n;
}
PL_FN int64_t gather_between(const sort_args *a, const real *x, int64_t lo, int64_t hi, item *w, int64_t *below) {
  return a->inner == 1 ? gather_apart(a, x, 1, lo, hi, w, below) : gather_apart(a, x, a->inner, lo, hi, w, below);
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
  put_places(&a, i, sort_items(w, s, n), a.first - first, n);
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
