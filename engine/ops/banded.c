/* banded.c: tridiagonal and banded systems. Their solutions, products and the derivatives by entries take memory and
 * operations in proportion to the bands. With A x = b: gb = A^-T g, gA = -gb x' at the entries of the bands. */
#include "../../kernels/shapes.h"
#include "linalg.h"

extern void dgbtrf_(const int *m, const int *n, const int *kl, const int *ku, double *ab, const int *ldab, int *pivots,
                    int *info);
extern void dgbtrs_(const char *trans, const int *n, const int *kl, const int *ku, const int *k, const double *ab,
                    const int *ldab, const int *pivots, double *b, const int *ldb, int *info, size_t);

/* ---- tridiagonal: lower, diagonal, upper {batch, n}, B {batch, n, k}; attribute transpose ---- */

enum { LANES = 8, WIDTH = 128 }; /* systems side by side; columns of a block */

typedef struct {
  tridiagonal_lanes_args a;
  const pl_stack_job *job;
  pl_kernel kernel;
} pieces;

static void tridiagonal_pieces(const void *args, int64_t lo, int64_t hi) {
  const pieces *p = args;
  tridiagonal_lanes_args a = p->a;
  a.work = pl_stack_work(p->job);
  p->kernel(&a, lo, hi);
}
static void tridiagonal_run(const pl_call *call, pl_slot **out) {
  pl_context *c = call->c;
  const pl_slot *l = call->in[0], *b = call->in[3];
  pl_dtype dtype = (pl_dtype)l->dtype;
  int64_t batch = l->shape[0], n = l->shape[1], k = b->shape[2], size = (int64_t)pl_dtype_size(dtype);
  if (b->count == 0) return;
  int lanes = k > 1 ? 0 : batch >= LANES ? LANES : 1;
  bool t = call->attrs[0].i;
  const char *below = l->data, *above = call->in[2]->data;
  pl_stack_job j = {.each = (size_t)((lanes ? 4 * lanes : 3) * n * size)};
  pieces p = {.job = &j,
              .kernel = lanes == LANES ? PL_KERNEL_OF(tridiagonal_lanes, dtype)
                        : lanes        ? PL_KERNEL_OF(tridiagonal_one, dtype)
                                       : PL_KERNEL_OF(tridiagonal_columns, dtype),
              .a = {.below = t ? above - size : below, /* of A': the entry below row i's diagonal is in row i - 1 */
                    .above = t ? below + size : above,
                    .diagonal = call->in[1]->data,
                    .b = b->data,
                    .x = out[0]->data,
                    .batch = batch,
                    .n = n,
                    .k = k,
                    .width = WIDTH,
                    .blocks = (k + WIDTH - 1) / WIDTH}};
  int64_t count = lanes ? (batch + lanes - 1) / lanes : batch * p.a.blocks, columns = k < WIDTH ? k : WIDTH;
  p.a.bad = pl_memory_new(c, (size_t)batch * sizeof *p.a.bad);
  j.work = pl_memory_new(c, (size_t)c->threads * (j.each = (j.each + 127) / 64 * 64));
  if (p.a.bad && j.work) {
    memset(p.a.bad, 0, (size_t)batch * sizeof *p.a.bad);
    pl_for(c, tridiagonal_pieces, &p, count, 1, (double)n * (lanes ? 40 + 5 * lanes : 40 + 2 * (double)columns));
    char which[PL_TEXT];
    for (int64_t i = 0; i < batch && !c->status; i++)
      if (p.a.bad[i])
        pl_error(c, PL_ERROR_NUMERIC, "tridiagonal_solve: the %lld x %lld matrix%s is singular: a pivot is zero",
                 (long long)n, (long long)n, pl_stack_which(which, i, batch));
  }
  pl_memory_free(c, p.a.bad);
  pl_memory_free(c, j.work);
}
static bool tridiagonal_shape(const pl_call *call, pl_spec *out) {
  const pl_slot *d = call->in[1], *b = call->in[3];
  bool fits = d->rank == 2 && b->rank == 3 && b->shape[0] == d->shape[0] && b->shape[1] == d->shape[1];
  for (int i = 0; i < 3; i += 2)
    fits = fits && call->in[i]->rank == 2 && !memcmp(call->in[i]->shape, d->shape, 2 * sizeof *d->shape);
  if (!fits) pl_shape_error(call, "three bands of one shape and right sides are needed");
  if (fits) pl_spec_shape(out, 3, b->shape[0], b->shape[1], b->shape[2]);
  return fits;
}

/* x {batch, n, ...} without its first, or its last row */
static pl_value tail(pl_context *c, pl_value x, int64_t n) { return pl_part(c, x, 1, 1, 1, n - 1); }
static pl_value head(pl_context *c, pl_value x, int64_t n) { return pl_part(c, x, 1, 0, 1, n - 1); }
/* and with a row of zeros instead: x {batch, n - 1, ...} -> {batch, n, ...} */
static pl_value with_zeros(pl_context *c, pl_value x, int rank, bool first) {
  int64_t width[] = {0, 0, first, !first, 0, 0};
  return pl_call1(c, PL_OP(pad), x, (pl_attr[]){PL_INTS(2 * rank, width), PL_REALV(0)});
}
static int64_t rows_of(pl_context *c, pl_value x) {
  pl_slot *s = pl_slot_get(c, x);
  return s ? s->shape[1] : 0;
}
/* A x of the bands, any of them PL_ZERO */
static pl_value tridiagonal_times(pl_context *c, const pl_value *bands, pl_value x, bool transpose) {
  pl_value sum = PL_ZERO;
  int64_t n = rows_of(c, x);
  for (int i = 0; i < 3 && !c->status; i++) {
    if (bands[i] == PL_ZERO || (i != 1 && n < 2)) continue;
    pl_slot *s = pl_slot_get(c, bands[i]);
    if (!s) return PL_NONE;
    pl_value band = pl_reshape_to(c, bands[i], 3, (int64_t[]){s->shape[0], n, 1});
    if (i == 1) {
      sum = pl_plus(c, sum, PL_BINARY(mul, c, band, x));
      continue;
    }
    bool low = i == 0; /* row r reads column r - 1; of A', row r - 1 reads column r */
    pl_value product =
        PL_BINARY(mul, c, low ? tail(c, band, n) : head(c, band, n), low == transpose ? tail(c, x, n) : head(c, x, n));
    sum = pl_plus(c, sum, with_zeros(c, product, 3, low != transpose));
  }
  return sum;
}
static pl_value tridiagonal(pl_context *c, const pl_value *bands, pl_value b, bool transpose) {
  pl_value in[] = {bands[0], bands[1], bands[2], b};
  return pl_apply1(c, PL_OP(tridiagonal), 4, in, &PL_INT(transpose));
}
static void tridiagonal_vjp(pl_vjp *v) {
  pl_context *c = v->c;
  bool t = v->attrs[0].i;
  pl_value gb = tridiagonal(c, v->in, v->g[0], !t);
  if (v->need[3]) pl_vjp_give(v, 3, gb);
  pl_value row = pl_negative(c, t ? v->out[0] : gb), column = t ? gb : v->out[0];
  int64_t n = rows_of(c, row);
  if (v->need[1]) pl_vjp_give(v, 1, pl_sum_axis(c, PL_BINARY(mul, c, row, column), 2));
  for (int i = 0; i < 3 && n > 1; i += 2) {
    if (!v->need[i]) continue;
    pl_value product = i == 0 ? PL_BINARY(mul, c, tail(c, row, n), head(c, column, n))
                              : PL_BINARY(mul, c, head(c, row, n), tail(c, column, n));
    pl_vjp_give(v, i, with_zeros(c, pl_sum_axis(c, product, 2), 2, i == 0));
  }
}
static void tridiagonal_jvp(pl_jvp *j) {
  pl_context *c = j->c;
  bool t = j->attrs[0].i;
  pl_value right = pl_minus(c, j->t[3], tridiagonal_times(c, j->t, j->out[0], t));
  j->dt[0] = right == PL_ZERO ? PL_ZERO : tridiagonal(c, j->in, right, t);
}

/* ---- bands {batch, n, w}, w = lower + upper + 1: A_ij at [j, upper + i - j], as LAPACK has them ---- */

/* Rows of column j that are in the band and in the matrix. */
#define EACH_ROW(j_, i_) \
  for (int64_t i_ = j_ > upper ? j_ - upper : 0, end_ = j_ + lower + 1 < n ? j_ + lower + 1 : n; i_ < end_; i_++)

/* banded: A^-1 B, A^-T B; attributes lower, upper, transpose */
static void banded_each(const void *args, int64_t lo, int64_t hi) {
  const pl_stack_job *j = args;
  const int n = j->n, k = j->k, lower = j->lower, upper = j->upper, ld = 2 * lower + upper + 1;
  const int64_t w = lower + upper + 1;
  for (int64_t i = lo; i < hi; i++) {
    double *lu = pl_stack_work(j), *x = lu + (int64_t)n * ld, *y = x + (int64_t)n * k;
    int *pivots = (int *)(y + n * (w > k ? w : k));
    bool finite = pl_stack_load(j, j->a, i, n * w, y);
    for (int64_t p = 0; p < n; p++) memcpy(lu + p * ld + lower, y + p * w, (size_t)w * sizeof *y);
    finite = pl_stack_load(j, j->b, i, (int64_t)n * k, y) && finite;
    if (!finite) {
      pl_stack_store(j, j->out[0], i, (int64_t)n * k, NULL);
      continue;
    }
    for (int64_t p = 0; p < n; p++)
      for (int64_t q = 0; q < k; q++) x[q * n + p] = y[p * k + q];
    dgbtrf_(&n, &n, &lower, &upper, lu, &ld, pivots, &j->info[i]);
    if (j->info[i]) continue;
    dgbtrs_(j->flag ? "T" : "N", &n, &lower, &upper, &k, lu, &ld, pivots, x, &n, &j->info[i], 1);
    for (int64_t p = 0; p < n; p++)
      for (int64_t q = 0; q < k; q++) y[p * k + q] = x[q * n + p];
    pl_stack_store(j, j->out[0], i, (int64_t)n * k, y);
  }
}
/* band_times: A X, A' X; attributes lower, upper, transpose */
static void times_each(const void *args, int64_t lo, int64_t hi) {
  const pl_stack_job *j = args;
  const int64_t n = j->n, k = j->k, lower = j->lower, upper = j->upper, w = lower + upper + 1;
  for (int64_t b = lo; b < hi; b++) {
    double *a = pl_stack_work(j), *x = a + n * w, *y = x + n * k;
    pl_stack_load(j, j->a, b, n * w, a);
    pl_stack_load(j, j->b, b, n * k, x);
    memset(y, 0, (size_t)(n * k) * sizeof *y);
    for (int64_t p = 0; p < n; p++) EACH_ROW(p, i) {
        double entry = a[p * w + upper + i - p], *to = y + (j->flag ? p : i) * k;
        const double *from = x + (j->flag ? i : p) * k;
        for (int64_t q = 0; q < k; q++) to[q] += entry * from[q];
      }
    pl_stack_store(j, j->out[0], b, n * k, y);
  }
}
/* band_outer: the entries of Y X' in the bands; attributes lower, upper */
static void outer_each(const void *args, int64_t lo, int64_t hi) {
  const pl_stack_job *j = args;
  const int64_t n = j->n, k = j->k, lower = j->lower, upper = j->upper, w = lower + upper + 1;
  for (int64_t b = lo; b < hi; b++) {
    double *a = pl_stack_work(j), *y = a + n * w, *x = y + n * k;
    pl_stack_load(j, j->a, b, n * k, y);
    pl_stack_load(j, j->b, b, n * k, x);
    memset(a, 0, (size_t)(n * w) * sizeof *a);
    for (int64_t p = 0; p < n; p++) EACH_ROW(p, i) {
        double sum = 0;
        for (int64_t q = 0; q < k; q++) sum += y[i * k + q] * x[p * k + q];
        a[p * w + upper + i - p] = sum;
      }
    pl_stack_store(j, j->out[0], b, n * w, a);
  }
}
static int64_t run_bands(const pl_call *call, pl_kernel kernel, pl_slot *out, bool transpose, int64_t work) {
  const pl_slot *a = call->in[0], *b = call->in[1];
  int64_t lower = call->attrs[0].i, upper = call->attrs[1].i, w = lower + upper + 1, n = a->shape[1], k = b->shape[2];
  if (out->count == 0) return -1;
  pl_stack_job j = {.dtype = (pl_dtype)a->dtype,
                    .n = (int)n,
                    .k = (int)k,
                    .lower = (int)lower,
                    .upper = (int)upper,
                    .flag = transpose,
                    .a = a->data,
                    .b = b->data,
                    .out = {out->data},
                    .each = (size_t)(n * (3 * w + 2 * k + 1)) * 8};
  return pl_stack_run(call, kernel, &j, a->shape[0], (double)(n * w) * (double)work);
}
static void banded_run(const pl_call *call, pl_slot **out) {
  char which[PL_TEXT];
  int64_t work = 2 * (call->attrs[0].i + 1) + 4 * call->in[1]->shape[2];
  if ((2 * call->attrs[0].i + call->attrs[1].i + 1) * call->in[0]->shape[1] > INT32_MAX) {
    pl_error(call->c, PL_ERROR_SHAPE, "banded_solve: the bands, %lld of them with the fill, of %d columns are too many",
             (long long)(2 * call->attrs[0].i + call->attrs[1].i + 1), call->in[0]->shape[1]);
    return;
  }
  int64_t failed = run_bands(call, banded_each, out[0], call->attrs[2].i, work);
  if (failed >= 0)
    pl_error(call->c, PL_ERROR_NUMERIC, "banded_solve: the %d x %d matrix%s is singular: a pivot is zero",
             call->in[1]->shape[1], call->in[1]->shape[1], pl_stack_which(which, failed, call->in[0]->shape[0]));
}
static void band_times_run(const pl_call *call, pl_slot **out) {
  run_bands(call, times_each, out[0], call->attrs[2].i, 2 * call->in[1]->shape[2]);
}
static void band_outer_run(const pl_call *call, pl_slot **out) {
  run_bands(call, outer_each, out[0], false, 2 * call->in[1]->shape[2]);
}
static bool bands_shape(const pl_call *call, pl_spec *out, bool outer) {
  const pl_slot *a = call->in[0], *b = call->in[1];
  int64_t lower = call->attrs[0].i, upper = call->attrs[1].i;
  bool fits = a->rank == 3 && b->rank == 3 && a->shape[0] == b->shape[0] && a->shape[1] == b->shape[1] && lower >= 0 &&
              upper >= 0 && lower < INT32_MAX / 4 && upper < INT32_MAX / 4 &&
              (outer ? a->shape[2] == b->shape[2] : a->shape[2] == lower + upper + 1);
  if (!fits) pl_shape_error(call, "bands and right sides do not fit");
  if (fits) pl_spec_shape(out, 3, b->shape[0], b->shape[1], outer ? lower + upper + 1 : b->shape[2]);
  return fits;
}
static bool banded_shape(const pl_call *call, pl_spec *out) { return bands_shape(call, out, false); }
static bool band_times_shape(const pl_call *call, pl_spec *out) { return bands_shape(call, out, false); }
static bool band_outer_shape(const pl_call *call, pl_spec *out) { return bands_shape(call, out, true); }

/* ---- derivatives: the three are each other's ---- */

static pl_value banded(pl_context *c, pl_value a, pl_value b, const pl_attr *attrs, bool transpose) {
  return b == PL_ZERO ? b : pl_call2(c, PL_OP(banded), a, b, (pl_attr[]){attrs[0], attrs[1], PL_INT(transpose)});
}
static pl_value times(pl_context *c, pl_value a, pl_value x, const pl_attr *attrs, bool transpose) {
  if (a == PL_ZERO || x == PL_ZERO) return PL_ZERO;
  return pl_call2(c, PL_OP(band_times), a, x, (pl_attr[]){attrs[0], attrs[1], PL_INT(transpose)});
}
static pl_value outer(pl_context *c, pl_value y, pl_value x, const pl_attr *attrs) {
  return y == PL_ZERO || x == PL_ZERO ? PL_ZERO : pl_call2(c, PL_OP(band_outer), y, x, attrs);
}
static void banded_vjp(pl_vjp *v) {
  pl_context *c = v->c;
  bool t = v->attrs[2].i;
  pl_value gb = banded(c, v->in[0], v->g[0], v->attrs, !t), x = v->out[0];
  if (v->need[0]) pl_vjp_give(v, 0, pl_negative(c, t ? outer(c, x, gb, v->attrs) : outer(c, gb, x, v->attrs)));
  if (v->need[1]) pl_vjp_give(v, 1, gb);
}
static void banded_jvp(pl_jvp *j) {
  bool t = j->attrs[2].i;
  pl_value right = pl_minus(j->c, j->t[1], times(j->c, j->t[0], j->out[0], j->attrs, t));
  j->dt[0] = banded(j->c, j->in[0], right, j->attrs, t);
}
static void band_times_vjp(pl_vjp *v) {
  bool t = v->attrs[2].i;
  pl_value x = v->in[1], g = v->g[0];
  if (v->need[0]) pl_vjp_give(v, 0, t ? outer(v->c, x, g, v->attrs) : outer(v->c, g, x, v->attrs));
  if (v->need[1]) pl_vjp_give(v, 1, times(v->c, v->in[0], g, v->attrs, !t));
}
static void band_times_jvp(pl_jvp *j) {
  bool t = j->attrs[2].i;
  j->dt[0] = pl_plus(j->c, times(j->c, j->t[0], j->in[1], j->attrs, t), times(j->c, j->in[0], j->t[1], j->attrs, t));
}
static void band_outer_vjp(pl_vjp *v) {
  if (v->need[0]) pl_vjp_give(v, 0, times(v->c, v->g[0], v->in[1], v->attrs, false));
  if (v->need[1]) pl_vjp_give(v, 1, times(v->c, v->g[0], v->in[0], v->attrs, true));
}
static void band_outer_jvp(pl_jvp *j) {
  j->dt[0] = pl_plus(j->c, outer(j->c, j->t[0], j->in[1], j->attrs), outer(j->c, j->in[0], j->t[1], j->attrs));
}

/* ---- what users see ---- */

PL_EXPAND(tridiagonal_solve) {
  (void)attrs;
  pl_slot *s[4];
  for (int i = 0; i < 4; i++)
    if (!(s[i] = pl_slot_get(c, in[i]))) return false;
  pl_call call = {c, op, n, s, in, NULL};
  pl_spec bands = {.rank = 0};
  pl_slot b = *s[3];
  if (!pl_broadcast_shapes(&call, 3, s, &bands)) return false;
  int rank = bands.rank ? bands.rank : b.rank, k = 1;
  bool vectors = b.rank == rank;
  if (rank < 1 || (!vectors && b.rank != rank + 1)) {
    pl_shape_error(&call, "the right side has the bands' shape {..., n}, or one more axis, of several right sides");
    return false;
  }
  if (!vectors) k = b.shape[rank];
  int64_t shape[PL_MAX_RANK], batch = 1;
  for (int a = 0; a < rank; a++) {
    shape[a] = b.shape[a];
    if (a < rank - 1) batch *= shape[a];
    if (bands.rank && bands.shape[a] != shape[a] && bands.shape[a] != 1) {
      pl_shape_error(&call, "the bands broadcast to the right side's shape, {..., n} or {..., n, k}");
      return false;
    }
  }
  pl_value three[3];
  for (int i = 0; i < 3; i++) {
    three[i] = pl_call1(c, PL_OP(broadcast_to), in[i], &PL_INTS(rank, shape));
    three[i] = pl_reshape_to(c, three[i], 2, (int64_t[]){batch, shape[rank - 1]});
  }
  pl_value x = tridiagonal(c, three, pl_reshape_to(c, in[3], 3, (int64_t[]){batch, shape[rank - 1], k}), false);
  if (!vectors) shape[rank] = k;
  out[0] = pl_reshape_to(c, x, vectors ? rank : rank + 1, shape);
  return out[0] != PL_NONE;
}
PL_EXPAND(banded_solve) {
  int64_t lower = attrs[0].i, upper = attrs[1].i, sizes[2];
  pl_slot *s[] = {pl_slot_get(c, in[0]), pl_slot_get(c, in[1])}, lead;
  if (!s[0] || !s[1]) return false;
  pl_call call = {c, op, n, s, in, attrs};
  int rank = s[0]->rank;
  const int64_t columns = rank < 2 ? 0 : s[0]->shape[rank - 1]; /* slots move when values are made */
  if (lower < 0 || upper < 0 || lower > INT32_MAX || upper > INT32_MAX || rank < 2 ||
      s[0]->shape[rank - 2] != lower + upper + 1) {
    pl_shape_error(&call, "the bands are {..., lower + upper + 1, n}, from the uppermost to the lowest");
    return false;
  }
  int z = s[1]->rank;
  if (z < 1 || s[1]->shape[z > 1 ? z - 2 : 0] != columns) {
    pl_shape_error(&call, "the right side has as many rows as the bands have columns");
    return false;
  }
  pl_value a, b, both[] = {pl_transpose_last(c, in[0]), in[1]};
  bool column;
  if (!pl_both_stacked(c, op, both, false, &a, &b, &lead, sizes, &column)) return false;
  sizes[0] = columns;
  out[0] = pl_unstacked(c, banded(c, a, b, attrs, false), &lead, column ? 1 : 2, sizes);
  return out[0] != PL_NONE;
}

/* ---- samples ---- */

PL_SAMPLE(bands) {
  if (k > 2) return false;
  s->n = 4;
  s->attrs[0] = PL_INT(k & 1);
  int batch = k == 2 ? 9 : 2, rows = k == 1 ? 1 : 4; /* nine systems: in vectors */
  for (int i = 0; i < 3; i++) s->in[i] = pl_sample_tensor(c, r, i == 1 ? 1 : -0.9, i == 1 ? 2 : 0.9, 2, batch, rows);
  s->in[3] = pl_sample_tensor(c, r, -1, 1, 3, batch, rows, k == 2 ? 1 : 3);
  return true;
}
PL_SAMPLE(tridiagonals) {
  if (k > 3) return false;
  s->n = 4;
  for (int i = 0; i < 3; i++) {
    double lo = i == 1 ? 1 : -0.9, hi = i == 1 ? 2 : 0.9;
    s->in[i] = k == 0   ? pl_sample_tensor(c, r, lo, hi, 1, 5)
               : k == 1 ? pl_sample_tensor(c, r, lo, hi, 2, 3, 4)
               : k == 2 ? pl_sample_tensor(c, r, lo, hi, 0)
                        : pl_sample_tensor(c, r, lo, hi, 2, 1, 2);
  }
  s->in[3] = k == 0   ? pl_sample_tensor(c, r, -1, 1, 1, 5)
             : k == 1 ? pl_sample_tensor(c, r, -1, 1, 3, 3, 4, 2)
             : k == 2 ? pl_sample_tensor(c, r, -1, 1, 2, 2, 3)
                      : pl_sample_tensor(c, r, -1, 1, 2, 3, 2);
  return true;
}
/* A matrix {n, n} with two bands below and one above the diagonal, its diagonal large. */
static pl_value banded_matrix(pl_context *c, pl_sampler_random *r, bool columns, int rank, int batch) {
  pl_value v = columns     ? pl_sample_tensor(c, r, -0.4, 0.4, 3, batch, 5, 4)
               : rank == 2 ? pl_sample_tensor(c, r, -0.4, 0.4, 2, 4, 5)
                           : pl_sample_tensor(c, r, -0.4, 0.4, 3, batch, 4, 5);
  pl_slot *s = pl_slot_get(c, v);
  for (int64_t i = 0; s && i < s->count; i++)
    if (columns ? i % 4 == 1 : i / 5 % 4 == 1) ((double *)s->data)[i] += 2;
  return v;
}
PL_SAMPLE(entries) {
  if (k > 1) return false;
  s->n = 2;
  s->attrs[0] = PL_INT(2);
  s->attrs[1] = PL_INT(1);
  s->attrs[2] = PL_INT(k);
  s->in[0] = banded_matrix(c, r, true, 3, 2);
  s->in[1] = pl_sample_tensor(c, r, -1, 1, 3, 2, 5, k ? 1 : 3);
  return true;
}
PL_SAMPLE(vectors) {
  if (k > 1) return false;
  s->n = 2;
  s->attrs[0] = PL_INT(k);
  s->attrs[1] = PL_INT(2);
  for (int i = 0; i < 2; i++) s->in[i] = pl_sample_tensor(c, r, -1, 1, 3, 2, k ? 2 : 5, 3);
  return true;
}
PL_SAMPLE(systems) {
  if (k > 2) return false;
  s->n = 2;
  s->attrs[0] = PL_INT(2);
  s->attrs[1] = PL_INT(1);
  s->in[0] = banded_matrix(c, r, false, k == 2 ? 3 : 2, 2);
  s->in[1] = k == 0   ? pl_sample_tensor(c, r, -1, 1, 1, 5)
             : k == 1 ? pl_sample_tensor(c, r, -1, 1, 2, 5, 2)
                      : pl_sample_tensor(c, r, -1, 1, 3, 2, 5, 2);
  return true;
}

#define WIDTHS(...) \
  { {"lower", PL_AS_INT, true, 0}, {"upper", PL_AS_INT, true, 0}, __VA_ARGS__ }
pl_op pl_ops_banded[] = {
    {PL_STACK_ROW(tridiagonal, "A^-1 B of stacks, or A^-T B, of the three bands of A", 4, 1, bands),
     .attrs = {{"transpose", PL_AS_FLAG, false, 0}}},
    {PL_STACK_ROW(banded, "A^-1 B of stacks, or A^-T B, of the bands of A", 2, 1, entries),
     .attrs = WIDTHS({"transpose", PL_AS_FLAG, false, 0})},
    {PL_STACK_ROW(band_times, "A X of stacks, or A' X, of the bands of A", 2, 1, entries),
     .attrs = WIDTHS({"transpose", PL_AS_FLAG, false, 0})},
    {PL_STACK_ROW(band_outer, "the bands of Y X'", 2, 1, vectors), .attrs = WIDTHS()},
    {PL_USER_ROW(
         tridiagonal_solve,
         "x with lower_i x_(i-1) + diagonal_i x_i + upper_i x_(i+1) = b_i; bands of n entries, of which lower_1 and "
         "upper_n are not used; with exchanges of rows",
         4, 1, tridiagonals),
     .shapes = "{..., n}, {..., n}, {..., n}, {..., n} or {..., n, k} -> {..., n} or {..., n, k}; bands broadcast",
     .derivative = "by every band and b; any order", .accuracy = "backward stable",
     .source = "L. Thomas 1949; LAPACK gtsv"},
    {PL_USER_ROW(
         banded_solve,
         "A^-1 b for A with `lower` bands below its diagonal and `upper` above, given as rows from the uppermost band "
         "to the lowest: bands(upper + 1 + i - j, j) = A(i, j); places outside A are not used",
         2, 1, systems),
     .shapes = "{..., lower + upper + 1, n}, {n} or {..., n, k} -> {..., n} or {..., n, k}",
     .derivative = "by every band and b; any order", .accuracy = "backward stable; in f64, whatever the dtype",
     .source = "LAPACK gbtrf; the bands as in SciPy's solve_banded", .attrs = WIDTHS()},
    {0},
};
