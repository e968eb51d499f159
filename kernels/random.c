/* Counter-based random numbers: Philox4x32-10 (J. Salmon, M. Moraes, R. Dror, D. Shaw: Parallel random numbers: as easy
 * as 1, 2, 3, SC11). Number i depends on (seed, stream, position + i) and its parameters alone: the same on any device
 * and number of threads. Positions are below 2^52: the 12 bits above count the calls of what needs more than one, so
 * that an acceptance-rejection method has a private stream for each number. Work is done for PL_RANDOM_LANES numbers at
 * a time, always for all of them, so that a number's bits do not depend on its place. */
#include "kernel.h"
#include "shapes.h"

#if PL_DTYPE_ID == 0 || PL_DTYPE_ID == 2
#ifdef __CUDACC__
#define LANES(k) for (int k = 0; k < PL_RANDOM_LANES; k++)
#else
#define LANES(k) _Pragma("omp simd") for (int k = 0; k < PL_RANDOM_LANES; k++)
#endif
enum { N = PL_RANDOM_LANES };

typedef struct {
  uint32_t a, b, c, d;
} quad;

PL_FN quad philox(uint64_t seed, uint64_t stream, uint64_t counter) {
  uint32_t a = (uint32_t)counter, b = (uint32_t)(counter >> 32), c = (uint32_t)stream, d = (uint32_t)(stream >> 32);
  uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
  for (int r = 0; r < 10; r++) {
    const uint64_t p0 = (uint64_t)0xD2511F53u*a, p1 = (uint64_t)0xCD9E8D57u*c;
    a = (uint32_t)(p1 >> 32) ^ b ^ k0;
    b = (uint32_t)p1;
    c = (uint32_t)(p0 >> 32) ^ d ^ k1;
    d = (uint32_t)p0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return (quad){a, b, c, d};
}

/* The numbers lo .. lo + n - 1 of a draw; the lanes behind repeat the last. */
typedef struct {
  int64_t lo;
  int n;
  uint64_t counter[N];
} lanes;
typedef struct {
  uint32_t a[N], b[N], c[N], d[N];
} quads;

PL_FN void take_lanes(const random_args *a, int64_t i, lanes *l) {
  l->lo = i*N;
  l->n = a->n - l->lo < N ? (int)(a->n - l->lo) : N;
  const uint64_t below = 0xfffffffffffffu, first = a->position + (uint64_t)l->lo;
  const int64_t last = l->n - 1;
  if (a->positions) {
    for (int64_t k = 0; k < N; k++) {
      const int64_t j = l->lo + (k < last ? k : last);
      l->counter[k] = ((uint64_t)a->positions[j/a->count] + (uint64_t)(j % a->count)) & below;
    }
  } else {
    LANES(k) l->counter[k] = (first + (uint64_t)(k < last ? k : last)) & below;
  }
}
PL_FN uint64_t call_of(uint64_t counter, int call) { return counter | (uint64_t)call << 52; }
PL_FN void draw(const random_args *a, const lanes *l, int call, quads *w) {
  const uint64_t seed = a->seed, stream = a->stream, which = call_of(0, call);
  LANES(k) {
    const quad q = philox(seed, stream, l->counter[k] | which);
    w->a[k] = q.a;
    w->b[k] = q.b;
    w->c[k] = q.c;
    w->d[k] = q.d;
  }
}

/* In (0, 1): 52 bits, centred, so that neither end is met. The bits are the fraction of a number in (1, 2), for there
 * are not everywhere vectors that convert whole numbers. */
PL_FN double unit(uint32_t hi, uint32_t lo) {
  union {
    uint64_t bits;
    double x;
  } u;
  u.bits = 0x3ff0000000000000u | (uint64_t)hi << 20 | lo >> 12;
  return u.x - (1 - 0x1p-53);
}
#endif

#if PL_DTYPE_ID == 0
PL_FN void put(const random_args *a, const lanes *l, const double *y) {
  for (int k = 0; k < l->n; k++) ((double *)a->y)[l->lo + k] = y[k];
}
/* Parameter p of the lanes. */
PL_FN void parameter(const random_args *a, const lanes *l, int p, double *x) {
  for (int k = 0; k < N; k++) x[k] = ((const double *)a->p[p])[a->one[p] ? 0 : l->lo + (k < l->n ? k : l->n - 1)];
}

typedef random_args random_uniform_args;
PL_ROW_KERNEL(random_uniform) {
  lanes l;
  quads w;
  double y[N];
  const double lo = a.lo, width = a.hi - a.lo;
  take_lanes(&a, i, &l);
  draw(&a, &l, 0, &w);
  LANES(k) y[k] = lo + width*unit(w.a[k], w.b[k]);
  put(&a, &l, y);
}

/* G. Box, M. Muller, A note on the generation of random normal deviates, Annals of Mathematical Statistics 29, 1958;
 * one of the two. */
PL_FN double box_muller(double u, double v) { return sqrt(-2*log(u))*cos(6.283185307179586477*v); }
typedef random_args random_normal_args;
PL_ROW_KERNEL(random_normal) {
  lanes l;
  quads w;
  double y[N];
  take_lanes(&a, i, &l);
  draw(&a, &l, 0, &w);
  LANES(k) y[k] = box_muller(unit(w.a[k], w.b[k]), unit(w.c[k], w.d[k]));
  put(&a, &l, y);
}

/* The logarithm of gamma variates of a shape: G. Marsaglia, W. Tsang, A simple method for generating gamma variables,
 * ACM Transactions on Mathematical Software 26(3), 2000: d (1 + t)^3 with d = shape - 1/3 and t = z/sqrt(9 d) is
 * accepted where log u < z^2/2 + d (1 - (1 + t)^3 + 3 log(1 + t)) = 3 d (log(1 + t) - t + t^2/2 - t^3/3), of which the
 * first term remains where t is small. Of a shape below 1: that of shape + 1, times u^(1/shape). */
typedef struct {
  double y;
  int accepted;
} attempt;
PL_FN attempt marsaglia_tsang(double shape, double z, double u, double boost) {
  const double d = (shape < 1 ? shape + 1 : shape) - 0.33333333333333333333, t = z/(3*sqrt(d)), g = log1p(t < -1 ? -1 : t);
  const double rest = 3*(g - t*(1 - t*(0.5 - t*0.33333333333333333333))), small = -0.75*(t*t)*(t*t);
  const double y = log(d) + 3*g, lower = y + log(boost)/shape;
  return (attempt){shape < 1 ? lower : y, log(u) < d*(fabs(t) < 1e-4 ? small : rest)};
}
typedef random_args random_loggamma_args;
PL_ROW_KERNEL(random_loggamma) {
  lanes l;
  quads w, v;
  double shape[N], y[N];
  int64_t accepted[N];
  take_lanes(&a, i, &l);
  parameter(&a, &l, 0, shape);
  draw(&a, &l, 0, &w);
  draw(&a, &l, 1, &v);
  LANES(k) {
    const double z = box_muller(unit(w.a[k], w.b[k]), unit(w.c[k], w.d[k]));
    const attempt t = marsaglia_tsang(shape[k], z, unit(v.a[k], v.b[k]), unit(v.c[k], v.d[k]));
    y[k] = t.y;
    accepted[k] = t.accepted;
  }
  for (int k = 0; k < l.n; k++) {
    if (!(shape[k] >= 0)) y[k] = NAN;
    for (int call = 2; shape[k] >= 0 && !accepted[k] && call < 4096; call += 2) {
      const quad q = philox(a.seed, a.stream, call_of(l.counter[k], call)), r = philox(a.seed, a.stream, call_of(l.counter[k], call + 1));
      const attempt t = marsaglia_tsang(shape[k], box_muller(unit(q.a, q.b), unit(q.c, q.d)), unit(r.a, r.b), unit(r.c, r.d));
      y[k] = t.y;
      accepted[k] = t.accepted;
    }
  }
  put(&a, &l, y);
}

/* C. Loader, Fast and accurate computation of binomial probabilities, 2000: log n! less Stirling's approximation, and
 * x log(x/m) + m - x. */
PL_FN double stirling_rest(double n) {
  if (n > 15) {
    const double s = 1/(n*n);
    return (1./12 - s*(1./360 - s*(1./1260 - s*(1./1680))))/n;
  }
  double factorial = 1;
  for (double k = 2; k <= n; k += 1) factorial *= k;
  return log(factorial) - (n + 0.5)*log(n) + n - 0.91893853320467274178;
}
PL_FN double deviance(double x, double m) {
  if (fabs(x - m) >= 0.1*(x + m)) return x*log(x/m) + m - x;
  const double v = (x - m)/(x + m);
  double sum = (x - m)*v, term = 2*x*v;
  for (int j = 1; j < 1000; j++) {
    term *= v*v;
    const double next = sum + term/(2*j + 1);
    if (next == sum) break;
    sum = next;
  }
  return sum;
}
PL_FN double log_poisson(double k, double m) {
  return k == 0 ? -m : -stirling_rest(k) - deviance(k, m) - 0.5*log(6.283185307179586477*k);
}
PL_FN double log_binomial(double k, double n, double p) {
  if (k == 0) return n*log1p(-p);
  if (k == n) return n*log(p);
  return stirling_rest(n) - stirling_rest(k) - stirling_rest(n - k) - deviance(k, n*p) - deviance(n - k, n*(1 - p)) +
         0.5*log(n/(6.283185307179586477*k*(n - k)));
}

/* Transformed rejection with squeeze: W. Hormann, The transformed rejection method for generating Poisson random
 * variables, Insurance: Mathematics and Economics 12, 1993 (PTRS); The generation of binomial random variates, Journal
 * of Statistical Computation and Simulation 46, 1993 (BTRS). The two differ in their constants: the hat's a, b, alpha,
 * the squeeze v. log_pmf is relative to that of the mode for the binomial. */
typedef struct {
  double a, b, alpha, v, centre, most, peak, n, p; /* n 0: Poisson of mean p */
} hat;
PL_FN hat poisson_hat(double m) {
  hat h = {.b = 0.931 + 2.53*sqrt(m), .centre = m + 0.43, .most = INFINITY, .p = m};
  h.a = -0.059 + 0.02483*h.b;
  h.alpha = 1.1239 + 1.1328/(h.b - 3.4);
  h.v = 0.9277 - 3.6224/(h.b - 2);
  return h;
}
PL_FN hat binomial_hat(double n, double p) {
  const double s = sqrt(n*p*(1 - p));
  hat h = {.b = 1.15 + 2.53*s, .centre = n*p + 0.5, .most = n, .n = n, .p = p};
  h.a = -0.0873 + 0.0248*h.b + 0.01*p;
  h.alpha = (2.83 + 5.1/h.b)*s;
  h.v = 0.92 - 4.2/h.b;
  h.peak = log_binomial(floor((n + 1)*p), n, p);
  return h;
}
PL_FN double transformed_rejection(const random_args *a, uint64_t counter, quad q, const hat *h) {
  double k = NAN;
  for (int call = 1; call <= 4096; call++) {
    const double u = unit(q.a, q.b) - 0.5, v = unit(q.c, q.d), us = 0.5 - fabs(u);
    k = floor((2*h->a/us + h->b)*u + h->centre);
    if (us >= 0.07 && v <= h->v) return k;
    if (k >= 0 && k <= h->most) {
      const double bound = log(v*h->alpha/(h->a/(us*us) + h->b));
      if (bound <= (h->n > 0 ? log_binomial(k, h->n, h->p) - h->peak : log_poisson(k, h->p))) return k;
    }
    q = philox(a->seed, a->stream, call_of(counter, call));
  }
  return k;
}

/* The distribution function is summed until it exceeds u, from its first term on; each is the last times
 * (odds*(n - k) or, without n, odds)/(k + 1). It ends also where what is left of the sum is rounding. */
PL_FN double sum_until(double u, double first, double odds, double n, double mean) {
  double k = 0;
  for (double p = first; u > p && !(p < 1e-17 && k > mean); k += 1) {
    u -= p;
    p *= (n > 0 ? odds*(n - k) : odds)/(k + 1);
  }
  return k;
}

typedef random_args random_poisson_args;
PL_ROW_KERNEL(random_poisson) {
  lanes l;
  quads w;
  double m[N], y[N];
  take_lanes(&a, i, &l);
  parameter(&a, &l, 0, m);
  draw(&a, &l, 0, &w);
  hat h;
  for (int k = 0; k < l.n; k++) {
    if (!(m[k] >= 0 && m[k] <= 1e300)) {
      y[k] = NAN;
    } else if (m[k] < 10) {
      y[k] = sum_until(unit(w.a[k], w.b[k]), exp(-m[k]), m[k], 0, m[k]);
    } else {
      if (k == 0 || m[k] != m[k - 1]) h = poisson_hat(m[k]);
      y[k] = transformed_rejection(&a, l.counter[k], (quad){w.a[k], w.b[k], w.c[k], w.d[k]}, &h);
    }
  }
  put(&a, &l, y);
}

typedef random_args random_binomial_args;
PL_ROW_KERNEL(random_binomial) { /* of n trials that succeed with p; more likely failures are counted instead */
  lanes l;
  quads w;
  double n[N], p[N], y[N];
  take_lanes(&a, i, &l);
  parameter(&a, &l, 0, n);
  parameter(&a, &l, 1, p);
  draw(&a, &l, 0, &w);
  hat h;
  for (int k = 0; k < l.n; k++) {
    const double less = p[k] > 0.5 ? 1 - p[k] : p[k], mean = n[k]*less;
    if (!(n[k] >= 0 && n[k] <= 0x1p53 && n[k] == floor(n[k]) && p[k] >= 0 && p[k] <= 1)) {
      y[k] = NAN;
      continue;
    }
    if (mean < 10) {
      y[k] = sum_until(unit(w.a[k], w.b[k]), exp(n[k]*log1p(-less)), less/(1 - less), n[k], mean);
    } else {
      if (k == 0 || n[k] != n[k - 1] || p[k] != p[k - 1]) h = binomial_hat(n[k], less);
      y[k] = transformed_rejection(&a, l.counter[k], (quad){w.a[k], w.b[k], w.c[k], w.d[k]}, &h);
    }
    if (p[k] > 0.5) y[k] = n[k] - y[k];
  }
  put(&a, &l, y);
}
#elif PL_DTYPE_ID == 2
/* lo .. hi inclusive: the high word of a 64 x 64 bit product; its bias is below 2^-64 times the width. */
typedef random_args random_integers_args;
PL_ROW_KERNEL(random_integers) {
  lanes l;
  quads w;
  take_lanes(&a, i, &l);
  draw(&a, &l, 0, &w);
  const uint64_t width = (uint64_t)((int64_t)a.hi - (int64_t)a.lo) + 1, wl = (uint32_t)width, wh = width >> 32;
  for (int k = 0; k < l.n; k++) {
    const uint64_t xl = w.b[k], xh = w.a[k];
    const uint64_t middle = ((xl*wl) >> 32) + (uint32_t)(xh*wl) + (xl*wh & 0xffffffffu);
    const uint64_t high = xh*wh + (xh*wl >> 32) + (xl*wh >> 32) + (middle >> 32);
    ((real *)a.y)[l.lo + k] = (int64_t)a.lo + (int64_t)high;
  }
}

/* Permutations: each entry goes to a bucket by its first word, and buckets are shuffled (C. Rao, Sankhya A 23, 1961; M.
 * Sandelius, Journal of the Royal Statistical Society B 24, 1962), which is in cache and in parallel. */
typedef shuffle_args random_permutation_args, shuffle_classify_args, shuffle_scatter_args, shuffle_buckets_args;

/* R. Durstenfeld, Algorithm 235, CACM 7(7), 1964: entry k changes places with one of 0 .. k, by its last two words. */
PL_FN void shuffle(const shuffle_args *a, int64_t *y, int64_t n, uint64_t position) {
  uint32_t c[N], d[N];
  for (int64_t top = n - 1; top > 0; top -= N) {
    const uint64_t seed = a->seed, stream = a->stream, first = position + (uint64_t)top;
    LANES(l) {
      const quad q = philox(seed, stream, (first - (uint64_t)l) & 0xfffffffffffffu);
      c[l] = q.c;
      d[l] = q.d;
    }
    for (int64_t l = 0; l < N && l < top; l++) {
      const uint64_t k = (uint64_t)(top - l), one = k + 1, j = (c[l]*one + (d[l]*one >> 32)) >> 32;
      const int64_t t = y[k];
      y[k] = y[j];
      y[j] = t;
    }
  }
}
PL_ROW_KERNEL(random_permutation) { /* i: a short line */
  int64_t *y = a.y + i*a.n;
  for (int64_t k = 0; k < a.n; k++) y[k] = k + 1;
  shuffle(&a, y, a.n, (uint64_t)a.positions[i]);
}
PL_ROW_KERNEL(shuffle_classify) { /* i: a block of a long one */
  const int64_t lo = i*a.block, hi = lo + a.block < a.n ? lo + a.block : a.n;
  int64_t *count = a.counts + i*a.buckets;
  const uint64_t seed = a.seed, stream = a.stream, first = (uint64_t)a.positions[0] + (uint64_t)lo;
  const uint32_t buckets = (uint32_t)a.buckets;
  for (int64_t b = 0; b < a.buckets; b++) count[b] = 0;
  for (int64_t k = lo; k < hi; k += N) {
    uint32_t at[N];
    LANES(l) at[l] = (uint32_t)((uint64_t)philox(seed, stream, (first + (uint64_t)(k - lo + l)) & 0xfffffffffffffu).a*buckets >> 32);
    for (int64_t l = 0; l < N && k + l < hi; l++) {
      a.bucket[k + l] = (uint16_t)at[l];
      count[at[l]]++;
    }
  }
}
PL_ROW_KERNEL(shuffle_scatter) { /* i: a block; its counts are now where it begins in each bucket */
  const int64_t lo = i*a.block, hi = lo + a.block < a.n ? lo + a.block : a.n;
  int64_t *start = a.counts + i*a.buckets;
  for (int64_t k = lo; k < hi; k++) a.y[start[a.bucket[k]]++] = k + 1;
}
PL_ROW_KERNEL(shuffle_buckets) { /* i: a bucket, which ends where its last block has ended */
  const int64_t *end = a.counts + (a.blocks - 1)*a.buckets, lo = i ? end[i - 1] : 0;
  shuffle(&a, a.y + lo, end[i] - lo, (uint64_t)(a.positions[0] + lo));
}
#endif
