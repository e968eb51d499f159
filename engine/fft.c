#include "fft.h"

#include <math.h>
#include <omp.h>
#include <string.h>

#include "../kernels/shapes.h"
#include "fft_library.h"
#include "schedule.h"

/* How a plan goes about n numbers:
 * PASSES  smooth n: passes over blocks of 8 lines, or lines of 8 m numbers (kernels/fourier.c)
 * SPLIT   long smooth n = a b, by a x b matrices: columns, twiddles, a transpose, rows (D. Bailey, FFTs in external or
 *         hierarchical memory, J. Supercomputing 4, 1990)
 * CHIRP   other n: a convolution with e^(i pi k^2/n), of smooth length (L. Bluestein, 1970)
 * HALVED  even n real numbers as n/2 complex ones
 * WIDENED odd n real numbers as complex ones
 * COSINE  by the transform of the n real numbers x_0, x_2, x_4 ... x_3, x_1
 * GIVEN   complex or real numbers, to a library that the user chose (fft_library.h) */
typedef enum { PASSES, SPLIT, CHIRP, HALVED, WIDENED, COSINE, GIVEN } method;

enum {
  LONGEST = 8192, /* in passes: two buffers of that many numbers stay in L2, of 8 lines in L3 */
  CACHED = 16,
  CACHED_BYTES = 1 << 26
};

typedef struct pl_fft_plan {
  pl_fft_kind kind;
  pl_dtype dtype;
  int64_t n;
  int64_t longest; /* in passes */
  method how;
  bool wide;                 /* so long that threads share a line */
  size_t bytes;              /* of all tables */
  int64_t front, each;       /* scratch in reals: of a line; of a thread for a block of lines */
  fourier_plan passes;       /* PASSES */
  struct pl_fft_plan *a, *b; /* of the parts */
  void *table, *second;      /* SPLIT: twiddles of lanes and of blocks; CHIRP: chirp, its transform; else twiddles */
  const pl_fft_library *library; /* NULL: none */
  void *given[2];                /* GIVEN: its plans, forward and backward */
  struct pl_fft_plan *earlier;   /* in the context */
} plan;

/* ---- tables ---- */

/* e^(-2 pi i k/n), 0 <= k, by an angle of at most pi/4 */
static void root_of_unity(int64_t k, int64_t n, long double *re, long double *im) {
  int64_t eighth = 8 * (k %= n) / n; /* octants 0 ... 7; the angle from the nearest multiple of pi/2: */
  int64_t quarter = (eighth + 1) / 2, rest = 4 * k - quarter * n;
  long double angle = 1.57079632679489661923132169163975144L * (long double)rest / (long double)n;
  long double c = cosl(angle), s = sinl(angle), t[4] = {c, -s, -c, s};
  *re = t[quarter % 4];
  *im = -t[(quarter + 3) % 4];
}
static void set(void *table, pl_dtype dtype, int64_t i, long double x) {
  if (dtype == PL_F64) ((double *)table)[i] = (double)x;
  else ((float *)table)[i] = (float)x;
}
/* Entry i, complex, is e^(-2 pi i k/n). */
static void set_root(void *table, pl_dtype dtype, int64_t i, int64_t k, int64_t n) {
  long double re, im;
  root_of_unity(k, n, &re, &im);
  set(table, dtype, 2 * i, re);
  set(table, dtype, 2 * i + 1, im);
}
static void *reals(pl_context *c, plan *f, int64_t n) {
  size_t bytes = ((size_t)n + FOURIER_LANES) * pl_dtype_size(f->dtype);
  void *p = pl_memory_new(c, bytes);
  if (p) f->bytes += bytes;
  return p;
}

/* Its prime factors are at most 13. */
static bool is_smooth(int64_t n) {
  static const int primes[] = {2, 3, 5, 7, 11, 13};
  for (int i = 0; i < 6; i++)
    while (n % primes[i] == 0) n /= primes[i];
  return n == 1;
}

static void make_radices(fourier_plan *f) {
  static const int radices[] = {8, 4, 2, 13, 11, 7, 5, 3};
  int64_t rest = f->n;
  for (int i = 0; i < 8; i++)
    for (; rest % radices[i] == 0; rest /= radices[i]) f->radix[f->passes++] = radices[i];
  if (f->passes == 0) f->radix[f->passes++] = 1;
  for (int64_t i = 2; i < f->passes; i++) /* 8, 8, 2 is 8, 4, 4 */
    if (f->radix[i] == 2 && f->radix[i - 1] == 8) f->radix[i] = f->radix[i - 1] = 4;
}
/* Each of `count` numbers k times. */
static void *repeated(pl_context *c, plan *f, const void *table, int64_t count, int64_t k) {
  char *y = reals(c, f, count * k);
  size_t size = pl_dtype_size(f->dtype);
  for (int64_t i = 0; y && i < count * k; i++)
    memcpy(y + (size_t)i * size, (const char *)table + (size_t)(i / k) * size, size);
  return y;
}
static bool make_passes(pl_context *c, plan *f) {
  fourier_plan *p = &f->passes;
  p->n = f->n;
  make_radices(p);
  p->alone = p->passes > 1;
  for (int64_t i = 0; i < p->passes; i++) p->alone = p->alone && f->n >= p->radix[i] * FOURIER_LANES;
  f->each = 4 * FOURIER_LANES * f->n;
  for (int64_t i = 0, length = f->n; i < p->passes; length /= p->radix[i++]) {
    int64_t r = p->radix[i], m = length / r;
    void *twiddle = reals(c, f, m > 1 ? 2 * (r - 1) * m : 0), *root = reals(c, f, r & 1 ? 2 * r : 0);
    p->twiddle[i] = twiddle;
    p->root[i] = root;
    if (!twiddle || !root) return false;
    for (int64_t j = 1; j < r && m > 1; j++)
      for (int64_t k = 0; k < m; k++) {
        long double re, im;
        root_of_unity(j * k, length, &re, &im);
        set(twiddle, f->dtype, (j - 1) * m + k, re);
        set(twiddle, f->dtype, (r - 1 + j - 1) * m + k, im);
      }
    int64_t behind = f->n / length;
    bool narrow = behind > 1 && behind < FOURIER_LANES && m > 1;
    if (narrow && !(p->spread[i] = repeated(c, f, twiddle, 2 * (r - 1) * m, behind))) return false;
    for (int64_t k = 0; k < r && r & 1; k++) {
      set_root(root, f->dtype, k, k, r);
      long double re, im; /* the sine is that of +2 pi k/r */
      root_of_unity(k, r, &re, &im);
      set(root, f->dtype, 2 * k + 1, -im);
    }
  }
  return true;
}

static void plan_free(pl_context *c, plan *f) {
  if (!f) return;
  for (int64_t i = 0; i < f->passes.passes; i++) {
    pl_memory_free(c, (void *)f->passes.twiddle[i]);
    pl_memory_free(c, (void *)f->passes.root[i]);
    pl_memory_free(c, (void *)f->passes.spread[i]);
  }
  for (int i = 0; i < 2; i++)
    if (f->given[i]) f->library->free(f->dtype, f->given[i]);
  plan_free(c, f->a);
  plan_free(c, f->b);
  pl_memory_free(c, f->table);
  pl_memory_free(c, f->second);
  pl_memory_free(c, f);
}
static bool make(pl_context *c, plan *f);
static plan *plan_new(pl_context *c, pl_fft_kind kind, pl_dtype dtype, int64_t n, int64_t longest) {
  plan *f = pl_memory_new(c, sizeof *f);
  if (!f) return NULL;
  memset(f, 0, sizeof *f);
  f->kind = kind;
  f->dtype = dtype;
  f->n = n;
  f->longest = longest;
  f->library = c->fft;
  if (make(c, f) && c->status == PL_OK) return f;
  plan_free(c, f);
  return NULL;
}
/* A plan of a part, whose scratch and tables are f's too. */
static plan *part(pl_context *c, plan *f, pl_fft_kind kind, int64_t n, int64_t longest) {
  plan *a = plan_new(c, kind, f->dtype, n, longest);
  if (!a) return NULL;
  f->front += a->front;
  f->each = a->each > f->each ? a->each : f->each;
  f->bytes += a->bytes;
  f->wide = f->wide || a->wide;
  return a;
}

static bool make_split(pl_context *c, plan *f) {
  int64_t n = f->n, a = (int64_t)sqrtl((long double)n), lanes = n % 64 ? 1 : FOURIER_LANES;
  while (n % a || a % lanes || n / a % lanes) a--;
  int64_t b = n / a, blocks = (b + FOURIER_LANES - 1) / FOURIER_LANES;
  f->a = part(c, f, PL_FFT_COMPLEX, a, a);
  f->b = f->a ? part(c, f, PL_FFT_COMPLEX, b, b) : NULL;
  f->table = reals(c, f, 2 * FOURIER_LANES * a);
  f->second = reals(c, f, 2 * blocks * a);
  if (!f->b || !f->table || !f->second) return false;
  f->wide = true;
  f->front += 2 * n;
  for (int64_t k = 0; k < a; k++)
    for (int64_t l = 0; l < FOURIER_LANES; l++) {
      long double re, im;
      root_of_unity(k * l, n, &re, &im);
      set(f->table, f->dtype, 2 * FOURIER_LANES * k + l, re);
      set(f->table, f->dtype, 2 * FOURIER_LANES * k + FOURIER_LANES + l, im);
    }
  for (int64_t i = 0; i < blocks * a && !pl_interrupted(c); i++) set_root(f->second, f->dtype, i, FOURIER_LANES * i, n);
  return true;
}

/* ---- a run: what its parts have in common ---- */

typedef struct {
  pl_context *c;
  const plan *f;
  pl_fft_job job;
  int level; /* of OpenMP's parallel regions where it was called */
  int64_t lines, size;
  char *front, *each; /* scratch of each thread */
  bool wide;
} task;

/* Lines of a tensor or of scratch; strides in reals. */
typedef struct {
  char *p;
  int64_t line, step;
} lines;

static lines moved(const task *t, lines x, int64_t line, int64_t step) {
  x.p += (line * x.line + step) * t->size;
  return x;
}
static int thread_of(const task *t) { return omp_get_level() > t->level ? omp_get_thread_num() : 0; }

/* A step of n pieces: shared out, where the whole line is; else this thread is one of many. */
static void step(const task *t, pl_kernel kernel, const void *args, int64_t n, double work) {
  if (!t->wide) kernel(args, 0, n);
  else if (t->c->status == PL_OK) pl_for(t->c, kernel, args, n, 1, work);
}
#define STEP(t, name, args, n) step(t, PL_KERNEL_OF(name, (t)->job.dtype), args, n, 4)

static void product(const task *t, lines x, bool x_swap, const void *z, lines y, bool y_swap, double scale, int64_t n) {
  fourier_product_args a = {x.p, z, x.step, x_swap, y.p, y.step, y_swap, scale};
  STEP(t, fourier_product, &a, n);
}
static void copy(const task *t, lines x, lines y, int64_t count, int64_t n) {
  fourier_copy_args a = {x.p, x.line, x.step, y.p, y.line, y.step, count};
  STEP(t, fourier_copy, &a, n);
}
static void copy_complex(const task *t, lines x, lines y, int64_t count, int64_t n) {
  copy(t, x, y, count, n);
  copy(t, moved(t, x, 0, 1), moved(t, y, 0, 1), count, n);
}

/* ---- lines by a library ---- */

/* How many lines go together: long ones alone, for the sake of scratch. */
static int64_t block_of(const plan *f) { return f->wide || (f->library && f->n > LONGEST) ? 1 : FOURIER_LANES; }
static int64_t given_row(int64_t n) { return (2 * n + 2 + 15) / 16 * 16; } /* whole cache lines */

/* One line a plan, whatever stands beside it, so that bits depend on n alone. */
static bool make_given(pl_context *c, plan *f) {
  bool real = f->kind == PL_FFT_REAL;
  f->how = GIVEN;
  f->front = block_of(f) * (2 * given_row(f->n) + (real ? 2 * (f->n + FOURIER_LANES) : 0)) + 32;
  f->bytes = 8 * (size_t)f->n * pl_dtype_size(f->dtype); /* a guess */
  for (int i = 0; i < 2; i++)
    if (!(f->given[i] = f->library->plan(f->dtype, real, i, f->n))) {
      pl_error(c, PL_ERROR_MEMORY, "the library of Fourier transforms has no plan for %lld numbers", (long long)f->n);
      return false;
    }
  return true;
}
static bool aligned(const task *t, const plan *f, lines x) {
  size_t mask = f->library->alignment - 1;
  return !((uintptr_t)x.p & mask) && !((size_t)(x.line * t->size) & mask);
}
static void run_given(const task *t, const plan *f, lines x, lines y, int64_t count, bool backward) {
  for (int64_t l = 0; l < count; l++)
    f->library->run(t->job.dtype, f->kind == PL_FFT_REAL, backward, f->given[backward], moved(t, x, l, 0).p,
                    moved(t, y, l, 0).p);
}
static void weigh(const task *t, lines x, lines y, int64_t count, fourier_weigh_args a) {
  for (int64_t l = 0; l < count; l++) {
    a.x = moved(t, x, l, 0).p;
    a.y = moved(t, y, l, 0).p;
    STEP(t, fourier_weigh, &a, a.n);
  }
}
/* Two blocks of lines in scratch, where the library takes them. */
static void given_scratch(const task *t, const plan *f, int64_t count, char *front, lines *one, lines *two) {
  *one = (lines){(char *)(((uintptr_t)front + 63) & ~(uintptr_t)63), given_row(f->n), 2};
  *two = moved(t, *one, count, 0);
}
static void given_complex(const task *t, const plan *f, lines x, lines y, int64_t count, double scale, bool backward,
                          char *front) {
  lines one, two;
  given_scratch(t, f, count, front, &one, &two);
  bool from = x.step == 2 && aligned(t, f, x) && x.p != y.p, to = y.step == 2 && aligned(t, f, y);
  if (!from) copy_complex(t, x, one, count, f->n);
  if (to) two = y;
  run_given(t, f, from ? x : one, two, count, backward);
  if (scale != 1) weigh(t, two, two, count, (fourier_weigh_args){.n = f->n, .factor = scale});
  if (!to) copy_complex(t, two, y, count, f->n);
}
/* As run_real. */
static void given_real(const task *t, const plan *f, lines x, lines y, int64_t count, double scale, char *front) {
  bool back = t->job.backward;
  lines one, two;
  given_scratch(t, f, count, front, &one, &two);
  *(back ? &two.step : &one.step) = 1;
  fourier_weigh_args a = {.n = f->n / 2 + 1,
                          .ends = true,
                          .last = f->n % 2 == 0,
                          .factor = scale * (t->job.once ? 1 : 2) * (back ? 0.5 : 1),
                          .edge = scale};
  bool from = !back && aligned(t, f, x), to = aligned(t, f, y);
  if (back) weigh(t, x, one, count, a);
  else if (!from) copy(t, x, one, count, f->n);
  if (to) two = y;
  run_given(t, f, from ? x : one, two, count, back);
  if (back && !to) copy(t, two, y, count, f->n);
  if (!back && (!to || a.factor != 1 || a.edge != 1)) weigh(t, two, y, count, a);
}

/* ---- complex lines ---- */

typedef struct {
  const task *t;
  fourier_args a;
  int64_t count;
} sweep_args;
static void sweep(const void *args, int64_t lo, int64_t hi) {
  const sweep_args *s = args;
  const task *t = s->t;
  pl_kernel kernel = PL_KERNEL_OF(fourier_lines, t->job.dtype);
  for (int64_t i = lo; i < hi; i++) {
    fourier_args a = s->a;
    int64_t first = i * FOURIER_LANES, left = s->count - first;
    a.x = (const char *)a.x + first * a.x_line * t->size;
    a.y = (char *)a.y + first * a.y_line * t->size;
    a.count = left < FOURIER_LANES ? left : FOURIER_LANES;
    a.index = i;
    a.work = t->each + thread_of(t) * t->f->each * t->size;
    kernel(&a, 0, 1);
  }
}
static void run_passes(const task *t, const plan *f, lines x, bool x_swap, lines y, bool y_swap, int64_t count,
                       double scale, const plan *split) {
  sweep_args s = {.t = t,
                  .count = count,
                  .a = {.plan = &f->passes,
                        .x = x.p,
                        .x_line = x.line,
                        .x_step = x.step,
                        .x_swap = x_swap,
                        .y = y.p,
                        .y_line = y.line,
                        .y_step = y.step,
                        .y_swap = y_swap,
                        .scale = scale,
                        .lane = split ? split->table : NULL,
                        .block = split ? split->second : NULL}};
  step(t, sweep, &s, (count + FOURIER_LANES - 1) / FOURIER_LANES, 12 * (double)f->n * log2((double)f->n + 1));
}

/* Backward transforms exchange real and imaginary parts on the way in and out. */
static void run_complex(const task *t, const plan *f, lines x, lines y, int64_t count, double scale, bool backward,
                        char *front) {
  if (f->how == PASSES) {
    run_passes(t, f, x, backward, y, backward, count, scale, NULL);
    return;
  }
  if (f->how == GIVEN) {
    given_complex(t, f, x, y, count, scale, backward, front);
    return;
  }
  for (int64_t l = 0; l < count; l++) {
    lines from = moved(t, x, l, 0), to = moved(t, y, l, 0), one = {front, 0, 2};
    if (f->how == SPLIT) { /* x_(b j + q) to X_(k + a r): by columns q to {q, k}, by columns k to {r, k} */
      int64_t a = f->a->n, b = f->b->n;
      run_passes(t, f->a, (lines){from.p, from.step, b * from.step}, backward, (lines){front, 2 * a, 2}, false, b, 1,
                 f);
      run_passes(t, f->b, (lines){front, 2, 2 * a}, false, (lines){to.p, to.step, a * to.step}, backward, a, scale,
                 NULL);
      continue;
    }
    int64_t m = f->a->n;
    lines two = moved(t, one, 0, 2 * m);
    product(t, from, backward, f->table, one, false, 1, f->n);
    memset(one.p + 2 * f->n * t->size, 0, (size_t)(2 * (m - f->n) * t->size));
    run_complex(t, f->a, one, two, 1, 1, false, front + 4 * m * t->size);
    product(t, two, false, f->second, two, false, 1, m);
    run_complex(t, f->a, two, one, 1, 1, true, front + 4 * m * t->size);
    product(t, one, false, f->table, to, backward, scale, f->n);
  }
}

/* e^(i pi k^2/n) over m places around 0, transformed and divided by m: a filter. */
static bool make_chirp(pl_context *c, plan *f) {
  int64_t n = f->n, m = (2 * n - 1 + 63) / 64 * 64;
  while (!is_smooth(m)) m += 64;
  f->a = part(c, f, PL_FFT_COMPLEX, m, LONGEST);
  f->table = reals(c, f, 2 * n);
  f->second = reals(c, f, 2 * m);
  if (!f->a || !f->table || !f->second) return false;
  f->front += 4 * m;
  int64_t size = (int64_t)pl_dtype_size(f->dtype), square = 0; /* k^2 mod 2n */
  char *scratch = pl_memory_new(c, (size_t)((f->front + 2 * m + pl_threads(c) * f->each) * size));
  if (!scratch) return false;
  memset(scratch, 0, (size_t)(2 * m * size));
  for (int64_t k = 0; k < n && !pl_interrupted(c); k++) {
    long double re, im;
    root_of_unity(square, 2 * n, &re, &im);
    set_root(f->table, f->dtype, k, square, 2 * n);
    for (int64_t side = 0; side < 2; side++) {
      int64_t at = side && k ? m - k : k;
      set(scratch, f->dtype, 2 * at, re);
      set(scratch, f->dtype, 2 * at + 1, -im);
    }
    square = (square + 2 * k + 1) % (2 * n);
  }
  char *front = scratch + 2 * m * size;
  task t = {.c = c,
            .f = f,
            .job = {.dtype = f->dtype},
            .level = omp_get_level(),
            .size = size,
            .front = front,
            .each = front + f->front * size,
            .wide = true};
  run_complex(&t, f->a, (lines){scratch, 0, 2}, (lines){f->second, 0, 2}, 1, 1 / (double)m, false, front);
  pl_memory_free(c, scratch);
  return true;
}

/* ---- real lines ---- */

/* Of the numbers 0 ... last. */
static int64_t groups(int64_t last) { return last / FOURIER_LANES + 1; }

/* Contiguous lines of n reals (y: n/2 + 1 pairs), or back. */
static void run_real(const task *t, const plan *f, lines x, lines y, int64_t count, double scale, char *front) {
  const pl_fft_job *j = &t->job;
  if (f->how == GIVEN) {
    given_real(t, f, x, y, count, scale, front);
    return;
  }
  bool halved = f->how == HALVED, back = j->backward;
  int64_t n = f->n, h = halved ? n / 2 : n, row = 2 * h;
  /* how often an inner frequency counts: a fold halves the sums that go forward */
  double interior = scale * (j->once ? 0.5 : 1) * (halved || back ? 1 : 2);
  fourier_fold_args fold = {.z = f->table, .n = n, .backward = back, .edge = scale, .interior = interior};
  lines one = {front, row, 2}, two = {front + count * row * t->size, row, 2};
  char *rest = two.p + count * row * t->size;
  if (back || !halved) {
    lines source = back ? x : two;
    lines target = back ? one : y;
    if (!back) {
      memset(one.p, 0, (size_t)(count * row * t->size));
      copy(t, x, one, count, n);
      run_complex(t, f->a, one, two, count, 1, false, rest);
    }
    for (int64_t l = 0; l < count; l++) {
      fold.x = moved(t, source, l, 0).p;
      fold.y = moved(t, target, l, 0).p;
      STEP(t, fourier_fold, &fold, groups(h / 2));
    }
    if (!back) return;
    lines packed = {y.p, y.line, 2};
    run_complex(t, f->a, one, halved ? packed : two, count, 1, true, rest);
    if (!halved) copy(t, two, y, count, n);
    return;
  }
  run_complex(t, f->a, (lines){x.p, x.line, 2}, y, count, 1, false, rest);
  for (int64_t l = 0; l < count; l++) {
    fold.x = fold.y = moved(t, y, l, 0).p;
    STEP(t, fourier_fold, &fold, groups(h / 2));
  }
}

/* x_0, x_2 ... x_3, x_1 of lines, or back */
static void reorder(const task *t, lines x, lines y, int64_t count, int64_t n, bool back) {
  lines even = back ? y : x, ascending = back ? x : y, odd = moved(t, even, 0, even.step),
        descending = moved(t, ascending, 0, (n - 1) * ascending.step);
  even.step = odd.step *= 2;
  descending.step = -descending.step;
  copy(t, back ? ascending : even, back ? even : ascending, count, (n + 1) / 2);
  copy(t, back ? descending : odd, back ? odd : descending, count, n / 2);
}
static void run_cosine(const task *t, const plan *f, lines x, lines y, int64_t count, char *front) {
  const pl_fft_job *j = &t->job;
  int64_t n = f->n, row = n + FOURIER_LANES;
  lines one = {front, row, 1}, two = {front + count * row * t->size, row, 2};
  char *rest = two.p + count * row * t->size;
  fourier_cosine_args a = {.z = f->table, .n = n, .scale = j->scale, .first = j->first};
  if (!j->backward) {
    reorder(t, x, one, count, n, false);
    run_real(t, f->a, one, two, count, 1, rest);
  } else if (x.step != 1) {
    copy(t, x, one, count, n);
    x = one;
  }
  lines from = j->backward ? x : two, to = j->backward ? two : y.step == 1 ? y : one;
  for (int64_t l = 0; l < count; l++) {
    a.x = moved(t, from, l, 0).p;
    a.y = moved(t, to, l, 0).p;
    if (j->backward) STEP(t, fourier_cosine_back, &a, groups(n / 2));
    else STEP(t, fourier_cosine, &a, groups(n / 2));
  }
  if (j->backward) {
    run_real(t, f->a, two, one, count, 1, rest);
    reorder(t, one, y, count, n, true);
  } else if (y.step != 1) {
    copy(t, one, y, count, n);
  }
}

/* As run_real, of lines that need not be contiguous. */
static void run_spread(const task *t, const plan *f, lines x, lines y, int64_t count, char *front) {
  bool back = t->job.backward, apart = x.step != (back ? 2 : 1);
  int64_t n = f->n, m = n / 2 + 1, row = n + FOURIER_LANES;
  lines one = {front, row, back ? 2 : 1}, two = {front + count * row * t->size, row, back ? 1 : 2};
  char *rest = two.p + count * row * t->size;
  if (apart && back) copy_complex(t, x, one, count, m);
  if (apart && !back) copy(t, x, one, count, n);
  run_real(t, f, apart ? one : x, apart ? two : y, count, t->job.scale, rest);
  if (apart && back) copy(t, two, y, count, n);
  if (apart && !back) copy_complex(t, two, y, count, m);
}

/* ---- plans ---- */

static bool make_real(pl_context *c, plan *f) {
  int64_t n = f->n;
  f->how = n % 2 ? WIDENED : HALVED;
  f->a = part(c, f, PL_FFT_COMPLEX, n % 2 ? n : n / 2, LONGEST);
  f->table = reals(c, f, n + 2);
  if (!f->a || !f->table) return false;
  f->front += block_of(f) * (2 * (n + FOURIER_LANES) + (n % 2 ? 4 * n : 2 * n));
  for (int64_t k = 0; k <= n / 2 && !pl_interrupted(c); k++) set_root(f->table, f->dtype, k, k, n);
  return true;
}
static bool make_cosine(pl_context *c, plan *f) {
  f->how = COSINE;
  f->a = part(c, f, PL_FFT_REAL, f->n, LONGEST);
  f->table = reals(c, f, f->n + 2);
  if (!f->a || !f->table) return false;
  for (int64_t k = 0; k <= f->n / 2 && !pl_interrupted(c); k++) set_root(f->table, f->dtype, k, k, 4 * f->n);
  return true;
}
static bool make(pl_context *c, plan *f) {
  if (f->library && f->kind != PL_FFT_COSINE) return make_given(c, f);
  if (f->kind == PL_FFT_REAL) return make_real(c, f);
  if (f->kind == PL_FFT_COSINE) return make_cosine(c, f);
  f->how = !is_smooth(f->n) ? CHIRP : f->n > f->longest ? SPLIT : PASSES;
  return f->how == PASSES ? make_passes(c, f) : f->how == SPLIT ? make_split(c, f) : make_chirp(c, f);
}

void pl_fft_plans_free(pl_context *c) {
  while (c->transforms) {
    plan *f = c->transforms;
    c->transforms = f->earlier;
    plan_free(c, f);
  }
}
/* The latest plan comes first; the oldest ones beyond the bounds go. */
static const plan *plan_find(pl_context *c, pl_fft_kind kind, pl_dtype dtype, int64_t n) {
  plan **at = &c->transforms, *f;
  while ((f = *at) && (f->kind != kind || f->dtype != dtype || f->n != n || f->library != c->fft)) at = &f->earlier;
  if (f) *at = f->earlier;
  else if (!(f = plan_new(c, kind, dtype, n, LONGEST))) return NULL;
  f->earlier = c->transforms;
  c->transforms = f;
  size_t bytes = f->bytes;
  int count = 1;
  for (at = &f->earlier; *at && ++count <= CACHED && (bytes += (*at)->bytes) <= CACHED_BYTES;) at = &(*at)->earlier;
  while (*at) {
    plan *old = *at;
    *at = old->earlier;
    plan_free(c, old);
  }
  return f;
}

/* ---- {outer, n, inner} ---- */

/* Block i of lines. */
static void run_blocks(const void *args, int64_t lo, int64_t hi) {
  const task *t = args;
  const pl_fft_job *j = &t->job;
  int64_t in = j->kind == PL_FFT_REAL && j->backward ? j->n / 2 + 1 : j->n,
          out = j->kind == PL_FFT_REAL && !j->backward ? j->n / 2 + 1 : j->n;
  int64_t x_unit = j->kind == PL_FFT_COMPLEX || (j->kind == PL_FFT_REAL && j->backward) ? 2 : 1,
          y_unit = j->kind == PL_FFT_COMPLEX || (j->kind == PL_FFT_REAL && !j->backward) ? 2 : 1;
  bool flat = j->inner == 1; /* lines that follow each other are a block, else those beside each other */
  int64_t total = flat ? j->outer : j->inner, blocks = (total + t->lines - 1) / t->lines;
  for (int64_t i = lo; i < hi; i++) {
    int64_t first = i % blocks * t->lines, count = total - first < t->lines ? total - first : t->lines;
    lines x = {(char *)j->x, x_unit * (flat ? in : 1), x_unit * j->inner},
          y = {j->y, y_unit * (flat ? out : 1), y_unit * j->inner};
    x = moved(t, x, first, i / blocks * in * j->inner * x_unit);
    y = moved(t, y, first, i / blocks * out * j->inner * y_unit);
    char *front = t->front + thread_of(t) * t->f->front * t->size;
    if (j->kind == PL_FFT_COMPLEX) run_complex(t, t->f, x, y, count, j->scale, j->backward, front);
    else if (j->kind == PL_FFT_REAL) run_spread(t, t->f, x, y, count, front);
    else run_cosine(t, t->f, x, y, count, front);
  }
}

void pl_fft(pl_context *c, const pl_fft_job *job) {
  if (job->outer == 0 || job->inner == 0 || c->status) return;
  const plan *f = plan_find(c, job->kind, job->dtype, job->n);
  if (!f) return;
  task t = {.c = c,
            .f = f,
            .job = *job,
            .level = omp_get_level(),
            .size = (int64_t)pl_dtype_size(job->dtype),
            .lines = block_of(f),
            .wide = f->wide};
  int64_t total =
      job->inner == 1 ? (job->outer + t.lines - 1) / t.lines : job->outer * ((job->inner + t.lines - 1) / t.lines);
  int64_t threads = pl_threads(c) < total || f->wide ? pl_threads(c) : total, fronts = f->wide ? 1 : threads;
  char *scratch = pl_memory_new(c, (size_t)((fronts * f->front + threads * f->each) * t.size) + 64);
  if (!scratch) return;
  t.front = scratch;
  t.each = scratch + fronts * f->front * t.size;
  if (!f->wide) {
    pl_for(c, run_blocks, &t, total, 1, 12 * (double)job->n * log2((double)job->n + 1));
  } else {
    for (int64_t i = 0; i < total && c->status == PL_OK; i++) run_blocks(&t, i, i + 1);
  }
  pl_memory_free(c, scratch);
}
