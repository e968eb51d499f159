/* linalg.c: dense linear algebra by LAPACK, on stacks of matrices {batch, n, n}; the rows that users see take any
 * leading axes. Each matrix is factored by one thread, so that results do not depend on their number. Derivatives: M.
 * Giles, Collected matrix derivative results for forward and reverse mode AD, LNCSE 64, 2008; of the Cholesky factor:
 * I. Murray, Differentiation of the Cholesky decomposition, arXiv:1602.07527. */
#include <cblas.h>
#include <math.h>
#include <omp.h>
#include <stdarg.h>
#include <string.h>

#include "linalg.h"

extern void sgetrf_(const int *m, const int *n, float *a, const int *lda, int *pivots, int *info);
extern void dgetrs_(const char *trans, const int *n, const int *k, const double *a, const int *lda, const int *pivots,
                    double *b, const int *ldb, int *info, size_t length);
extern void sgetrs_(const char *trans, const int *n, const int *k, const float *a, const int *lda, const int *pivots,
                    float *b, const int *ldb, int *info, size_t length);
extern void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info, size_t length);
extern void spotrf_(const char *uplo, const int *n, float *a, const int *lda, int *info, size_t length);

/* ---- stacks ---- */

int64_t pl_stack_run(const pl_call *call, pl_kernel kernel, pl_stack_job *j, int64_t batch, double work) {
  pl_context *c = call->c;
  int64_t failed = -1;
  j->each = (j->each + 127) / 64 * 64;
  j->work = pl_memory_new(c, (size_t)c->threads * j->each);
  j->info = pl_memory_new(c, (size_t)(batch + 1) * sizeof *j->info);
  if (j->work && j->info) {
    memset(j->info, 0, (size_t)(batch + 1) * sizeof *j->info);
    pl_blas_threads(1);
    pl_for(c, kernel, j, batch, 1, work);
    for (int64_t i = batch; i-- > 0;)
      if (j->info[i]) failed = i;
    if (failed >= 0) j->failure = j->info[failed];
  }
  pl_memory_free(c, j->work);
  pl_memory_free(c, j->info);
  return c->status ? -1 : failed;
}
void *pl_stack_work(const pl_stack_job *j) { return j->work + (size_t)omp_get_thread_num() * j->each; }
const char *pl_stack_which(char *text, int64_t failed, int64_t batch) {
  text[0] = 0;
  if (batch > 1) snprintf(text, PL_TEXT, " %lld of %lld", (long long)failed + 1, (long long)batch);
  return text;
}
bool pl_stack_load(const pl_stack_job *j, const char *x, int64_t i, int64_t count, double *to) {
  double sum = 0;
  if (j->dtype == PL_F64) memcpy(to, (const double *)x + i * count, (size_t)count * sizeof *to);
  else
    for (int64_t p = 0; p < count; p++) to[p] = (double)((const float *)x)[i * count + p];
  for (int64_t p = 0; p < count; p++) sum += to[p] - to[p]; /* NaN of what is not finite */
  return sum == 0;
}
void pl_stack_store(const pl_stack_job *j, char *y, int64_t i, int64_t count, const double *from) {
  double *wide = (double *)y + i * count;
  float *single = (float *)y + i * count;
  if (j->dtype == PL_F64 && from) memcpy(wide, from, (size_t)count * sizeof *wide);
  else if (j->dtype == PL_F64)
    for (int64_t p = 0; p < count; p++) wide[p] = NAN;
  else
    for (int64_t p = 0; p < count; p++) single[p] = from ? (float)from[p] : NAN;
}

bool pl_is_stack(const pl_call *call, int at, bool square) {
  const pl_slot *a = call->in[at];
  if (a->rank == 3 && (!square || a->shape[1] == a->shape[2])) return true;
  pl_shape_error(call, square ? "square matrices are needed" : "matrices are needed");
  return false;
}
void pl_spec_shape(pl_spec *spec, int rank, int64_t a, int64_t b, int64_t c) {
  spec->rank = rank;
  spec->shape[0] = (int32_t)a;
  spec->shape[1] = (int32_t)b;
  spec->shape[2] = (int32_t)c;
}
static bool right_stack(const pl_call *call, pl_spec *out) {
  const pl_slot *a = call->in[0], *b = call->in[1];
  if (!pl_is_stack(call, 0, true)) return false;
  if (b->rank != 3 || b->shape[0] != a->shape[0] || b->shape[1] != a->shape[1]) {
    pl_shape_error(call, "the right side has as many rows as the matrix");
    return false;
  }
  out->rank = 3;
  memcpy(out->shape, b->shape, sizeof out->shape);
  return true;
}

/* ---- dense_solve: A, B; attribute transpose ---- */

#define SOLVE(real, getrf, getrs)                                                   \
  {                                                                                 \
    real *lu = (real *)pl_stack_work(j), *x = lu + (size_t)n * (size_t)n;           \
    int *pivots = (int *)(x + (size_t)n * (size_t)k);                               \
    const real *b = (const real *)j->b + i * n * k;                                 \
    real *y = (real *)j->out[0] + i * n * k;                                        \
    memcpy(lu, (const real *)j->a + i * n * n, (size_t)n * (size_t)n * sizeof *lu); \
    getrf(&n, &n, lu, &n, pivots, &j->info[i]);                                     \
    if (j->info[i]) continue;                                                       \
    for (int64_t p = 0; p < n; p++)                                                 \
      for (int64_t q = 0; q < k; q++) x[q * n + p] = b[p * k + q];                  \
    getrs(j->flag ? "N" : "T", &n, &k, lu, &n, pivots, x, &n, &j->info[i], 1);      \
    for (int64_t p = 0; p < n; p++)                                                 \
      for (int64_t q = 0; q < k; q++) y[p * k + q] = x[q * n + p];                  \
  }
static void solve_each(const void *args, int64_t lo, int64_t hi) {
  const pl_stack_job *j = args;
  const int n = j->n, k = j->k;
  for (int64_t i = lo; i < hi; i++)
    if (j->dtype == PL_F64) SOLVE(double, dgetrf_, dgetrs_)
    else SOLVE(float, sgetrf_, sgetrs_)
}
static void dense_solve_run(const pl_call *call, pl_slot **out) {
  const pl_slot *a = call->in[0], *b = call->in[1];
  int64_t n = a->shape[1], k = b->shape[2];
  if (out[0]->count == 0) return;
  pl_stack_job j = {.dtype = (pl_dtype)a->dtype,
                    .n = (int)n,
                    .k = (int)k,
                    .flag = call->attrs[0].i,
                    .a = a->data,
                    .b = b->data,
                    .out = {out[0]->data},
                    .each = (size_t)(n * (n + k)) * 8 + ((size_t)n * sizeof(int) + 71) / 64 * 64};
  int64_t failed = pl_stack_run(call, solve_each, &j, a->shape[0], (double)n * (double)n * ((double)n / 3 + (double)k));
  if (failed >= 0) {
    char which[PL_TEXT];
    pl_error(call->c, PL_ERROR_NUMERIC, "solve: the matrix%s is singular: pivot %d is zero",
             pl_stack_which(which, failed, a->shape[0]), j.failure);
  }
}
static bool dense_solve_shape(const pl_call *call, pl_spec *out) { return right_stack(call, out); }

pl_value pl_solved(pl_context *c, pl_value a, pl_value b, bool transpose) {
  return pl_call2(c, PL_OP(dense_solve), a, b, &PL_INT(transpose));
}
static void dense_solve_vjp(pl_vjp *v) { /* A X = B: gB = A^-T g, gA = -gB X' */
  pl_context *c = v->c;
  bool t = v->attrs[0].i;
  pl_value gb = pl_solved(c, v->in[0], v->g[0], !t);
  if (v->need[0])
    pl_vjp_give(
        v, 0,
        PL_UNARY(neg, c, t ? pl_product(c, v->out[0], gb, false, true) : pl_product(c, gb, v->out[0], false, true)));
  if (v->need[1]) pl_vjp_give(v, 1, gb);
}
static void dense_solve_jvp(pl_jvp *j) { /* A dX = dB - dA X */
  pl_context *c = j->c;
  bool t = j->attrs[0].i;
  pl_value right = pl_product(c, j->t[0], j->out[0], t, false);
  j->dt[0] = pl_solved(c, j->in[0], pl_minus(c, j->t[1], right), t);
}

/* ---- triangular: T, B; attributes upper, transpose ---- */

static void triangular_each(const void *args, int64_t lo, int64_t hi) {
  const pl_stack_job *j = args;
  const int n = j->n, k = j->k;
  enum CBLAS_UPLO half = j->lower ? CblasLower : CblasUpper;
  enum CBLAS_TRANSPOSE turn = j->flag ? CblasTrans : CblasNoTrans;
  for (int64_t i = lo; i < hi; i++)
    if (j->dtype == PL_F64)
      cblas_dtrsm(CblasRowMajor, CblasLeft, half, turn, CblasNonUnit, n, k, 1, (const double *)j->a + i * n * n, n,
                  (double *)j->out[0] + i * n * k, k);
    else
      cblas_strsm(CblasRowMajor, CblasLeft, half, turn, CblasNonUnit, n, k, 1, (const float *)j->a + i * n * n, n,
                  (float *)j->out[0] + i * n * k, k);
}
static void triangular_run(const pl_call *call, pl_slot **out) {
  const pl_slot *a = call->in[0], *b = call->in[1];
  int64_t n = a->shape[1], k = b->shape[2];
  if (out[0]->count == 0) return;
  pl_stack_job j = {.dtype = (pl_dtype)a->dtype,
                    .n = (int)n,
                    .k = (int)k,
                    .lower = !call->attrs[0].i,
                    .flag = call->attrs[1].i,
                    .a = a->data,
                    .out = {out[0]->data}};
  for (int64_t i = 0; i < a->shape[0] * n; i++) { /* BLAS divides by a zero */
    int64_t at = i * n + i % n;
    double d = a->dtype == PL_F64 ? ((const double *)a->data)[at] : (double)((const float *)a->data)[at];
    if (d != 0) continue;
    pl_error(call->c, PL_ERROR_NUMERIC, "triangular_solve: the matrix is singular: diagonal entry %lld is zero",
             (long long)(i % n) + 1);
    return;
  }
  memcpy(out[0]->data, b->data, (size_t)b->count * pl_dtype_size(j.dtype));
  pl_stack_run(call, triangular_each, &j, a->shape[0], (double)n * (double)n * (double)k / 2);
}
static bool triangular_shape(const pl_call *call, pl_spec *out) { return right_stack(call, out); }
pl_value pl_half_of(pl_context *c, pl_value x, bool upper) {
  return upper ? pl_call1(c, PL_OP(triu), x, &PL_INT(0)) : pl_call1(c, PL_OP(tril), x, &PL_INT(0));
}
pl_value pl_substituted(pl_context *c, pl_value t, pl_value b, bool upper, bool transpose) {
  return pl_call2(c, PL_OP(triangular), t, b, (pl_attr[]){PL_INT(upper), PL_INT(transpose)});
}
pl_value pl_over_triangle(pl_context *c, pl_value x, pl_value u, bool transpose) {
  if (x == PL_ZERO) return x;
  return pl_transpose_last(c, pl_substituted(c, u, pl_transpose_last(c, x), true, !transpose));
}
static void triangular_vjp(pl_vjp *v) {
  pl_context *c = v->c;
  bool upper = v->attrs[0].i, t = v->attrs[1].i;
  pl_value gb = pl_substituted(c, v->in[0], v->g[0], upper, !t);
  if (v->need[0]) {
    pl_value g = t ? pl_product(c, v->out[0], gb, false, true) : pl_product(c, gb, v->out[0], false, true);
    pl_vjp_give(v, 0, PL_UNARY(neg, c, pl_half_of(c, g, upper)));
  }
  if (v->need[1]) pl_vjp_give(v, 1, gb);
}
static void triangular_jvp(pl_jvp *j) {
  pl_context *c = j->c;
  bool upper = j->attrs[0].i, t = j->attrs[1].i;
  pl_value right = j->t[0] == PL_ZERO ? PL_ZERO : pl_product(c, pl_half_of(c, j->t[0], upper), j->out[0], t, false);
  j->dt[0] = pl_substituted(c, j->in[0], pl_minus(c, j->t[1], right), upper, t);
}

/* ---- cholesky_factor: L of (A + A')/2 ---- */

#define FACTOR(real, potrf)                                                     \
  {                                                                             \
    const real *a = (const real *)j->a + i * n * n;                             \
    real *y = (real *)j->out[0] + i * n * n, sum = 0;                           \
    for (int64_t p = 0; p < n; p++)                                             \
      for (int64_t q = 0; q < n; q++) {                                         \
        y[p * n + q] = q > p ? 0 : (real)0.5 * (a[p * n + q] + a[q * n + p]);   \
        sum += a[p * n + q] - a[p * n + q];                                     \
      }                                                                         \
    if (sum == 0) potrf("U", &n, y, &n, &j->info[i], 1);                        \
    else /* of what is not finite nothing is */                                 \
      for (int64_t p = 0; p < n * n; p++) y[p] = p % n > p / n ? 0 : (real)NAN; \
  }
static void cholesky_each(const void *args, int64_t lo, int64_t hi) {
  const pl_stack_job *j = args;
  const int n = j->n;
  for (int64_t i = lo; i < hi; i++)
    if (j->dtype == PL_F64) FACTOR(double, dpotrf_)
    else FACTOR(float, spotrf_)
}
static void cholesky_factor_run(const pl_call *call, pl_slot **out) {
  const pl_slot *a = call->in[0];
  int64_t n = a->shape[1];
  if (out[0]->count == 0) return;
  pl_stack_job j = {.dtype = (pl_dtype)a->dtype, .n = (int)n, .a = a->data, .out = {out[0]->data}};
  int64_t failed = pl_stack_run(call, cholesky_each, &j, a->shape[0], (double)n * (double)n * (double)n / 6);
  if (failed >= 0)
    pl_error(call->c, PL_ERROR_NUMERIC,
             "cholesky: the matrix is not positive definite: its leading %d x %d part is not", j.failure, j.failure);
}
static bool cholesky_factor_shape(const pl_call *call, pl_spec *out) {
  out->rank = 3;
  memcpy(out->shape, call->in[0]->shape, sizeof out->shape);
  return pl_is_stack(call, 0, true);
}
/* The lower triangle with half the diagonal. */
static pl_value half_lower(pl_context *c, pl_value x) {
  pl_value both = PL_BINARY(add, c, pl_call1(c, PL_OP(tril), x, &PL_INT(0)), pl_call1(c, PL_OP(tril), x, &PL_INT(-1)));
  return PL_BINARY(mul, c, both, pl_like(c, x, 0.5));
}
static void cholesky_factor_vjp(pl_vjp *v) { /* the symmetric part of L^-T Phi(L' g) L^-1 */
  pl_context *c = v->c;
  pl_value L = v->out[0], P = half_lower(c, pl_product(c, L, pl_half_of(c, v->g[0], false), true, false));
  pl_value Y = pl_substituted(c, L, P, false, true);
  pl_vjp_give(v, 0, pl_symmetric(c, pl_substituted(c, L, pl_transpose_last(c, Y), false, true)));
}
static void cholesky_factor_jvp(pl_jvp *j) { /* L Phi(L^-1 dA L^-T) */
  pl_context *c = j->c;
  pl_value L = j->out[0], W = pl_substituted(c, L, pl_symmetric(c, j->t[0]), false, false);
  pl_value M = pl_substituted(c, L, pl_transpose_last(c, W), false, false);
  j->dt[0] = pl_product(c, L, half_lower(c, M), false, false);
}

/* ---- log_det: sign and log |det|, 0 and -infinity of a singular matrix ---- */

#define DETERMINANT(real, getrf)                                                    \
  {                                                                                 \
    real *lu = (real *)pl_stack_work(j), sign = 1, sum = 0;                         \
    int *pivots = (int *)(lu + (size_t)n * (size_t)n), info = 0;                    \
    memcpy(lu, (const real *)j->a + i * n * n, (size_t)n * (size_t)n * sizeof *lu); \
    if (n) getrf(&n, &n, lu, &n, pivots, &info);                                    \
    for (int64_t p = 0; p < n; p++) {                                               \
      real d = lu[p * n + p];                                                       \
      if ((d < 0) != (pivots[p] != (int)p + 1)) sign = -sign;                       \
      sum += (real)log(fabs((double)d));                                            \
    }                                                                               \
    ((real *)j->out[1])[i] = info > 0 ? 0 : sum != sum ? sum : sign;                \
    ((real *)j->out[0])[i] = info > 0 ? (real)-INFINITY : sum;                      \
  }
static void det_each(const void *args, int64_t lo, int64_t hi) {
  const pl_stack_job *j = args;
  const int n = j->n;
  for (int64_t i = lo; i < hi; i++)
    if (j->dtype == PL_F64) DETERMINANT(double, dgetrf_)
    else DETERMINANT(float, sgetrf_)
}
static void log_det_run(const pl_call *call, pl_slot **out) {
  const pl_slot *a = call->in[0];
  int64_t n = a->shape[1];
  pl_stack_job j = {.dtype = (pl_dtype)a->dtype,
                    .n = (int)n,
                    .a = a->data,
                    .out = {out[1]->data, out[0]->data},
                    .each = (size_t)(n * n) * 8 + ((size_t)n * sizeof(int) + 71) / 64 * 64};
  if (a->shape[0]) pl_stack_run(call, det_each, &j, a->shape[0], (double)n * (double)n * (double)n / 3);
}
static bool log_det_shape(const pl_call *call, pl_spec *out) {
  if (!pl_is_stack(call, 0, true)) return false;
  for (int i = 0; i < 2; i++) {
    out[i].dtype = (pl_dtype)call->in[0]->dtype;
    out[i].rank = 1;
    out[i].shape[0] = call->in[0]->shape[0];
  }
  return true;
}
pl_value pl_eye_like(pl_context *c, pl_value x, int64_t n) {
  pl_slot *s = pl_slot_get(c, x);
  return s ? pl_apply1(c, PL_OP(eye), 0, NULL, (pl_attr[]){PL_INT(n), PL_INT(n), PL_INT(s->dtype)}) : PL_NONE;
}
pl_value pl_sum_axis(pl_context *c, pl_value x, int64_t axis) {
  return pl_call1(c, PL_OP(sum), x, (pl_attr[]){PL_INTS(1, &axis), PL_INT(0)});
}
pl_value pl_joined(pl_context *c, pl_value x, pl_value y, int axis) {
  return pl_apply1(c, PL_OP(concat), 2, (pl_value[]){x, y}, &PL_INT(axis));
}
/* A^-T */
static pl_value inverse_transposed(pl_context *c, pl_value a) {
  pl_slot *s = pl_slot_get(c, a);
  if (!s) return PL_NONE;
  return pl_solved(c, a, pl_broadcast_like(c, pl_eye_like(c, a, s->shape[1]), a), true);
}
static void log_det_vjp(pl_vjp *v) {
  pl_context *c = v->c;
  if (v->g[1] == PL_ZERO) return; /* the sign has no derivative */
  pl_slot *s = pl_slot_get(c, v->in[0]);
  if (!s) return;
  pl_value g = pl_reshape_to(c, v->g[1], 3, (int64_t[]){s->shape[0], 1, 1});
  pl_vjp_give(v, 0, PL_BINARY(mul, c, inverse_transposed(c, v->in[0]), g));
}
static void log_det_jvp(pl_jvp *j) {
  pl_context *c = j->c;
  static const int64_t last[] = {1, 2};
  pl_value p = PL_BINARY(mul, c, inverse_transposed(c, j->in[0]), j->t[0]);
  j->dt[0] = PL_ZERO;
  j->dt[1] = pl_call1(c, PL_OP(sum), p, (pl_attr[]){PL_INTS(2, last), PL_INT(0)});
}

/* ---- what users see: any leading axes ---- */

pl_value pl_stacked(pl_context *c, const pl_op *op, pl_value x, bool square, pl_slot *shape) {
  pl_slot *s = pl_slot_get(c, x);
  if (!s) return PL_NONE;
  *shape = *s;
  if (s->rank < 2 || (square && s->shape[s->rank - 1] != s->shape[s->rank - 2])) {
    char text[PL_TEXT];
    pl_error(c, PL_ERROR_SHAPE, "%s: %smatrices are needed, not %s", op->name, square ? "square " : "",
             pl_shape_text(text, s->rank, s->shape));
    return PL_NONE;
  }
  int64_t batch = 1;
  for (int a = 0; a < s->rank - 2; a++) batch *= s->shape[a];
  pl_value v = pl_floats(c, x);
  return pl_reshape_to(c, v, 3, (int64_t[]){batch, shape->shape[shape->rank - 2], shape->shape[shape->rank - 1]});
}
pl_value pl_unstacked(pl_context *c, pl_value x, const pl_slot *lead, int more, const int64_t *sizes) {
  int64_t shape[PL_MAX_RANK];
  int rank = lead->rank - 2;
  for (int a = 0; a < rank; a++) shape[a] = lead->shape[a];
  for (int a = 0; a < more; a++) shape[rank + a] = sizes[a];
  return pl_reshape_to(c, x, rank + more, shape);
}
bool pl_both_stacked(pl_context *c, const pl_op *op, const pl_value *in, bool square, pl_value *a, pl_value *b,
                     pl_slot *lead, int64_t *sizes, bool *column) {
  pl_slot x, z;
  if ((*a = pl_stacked(c, op, in[0], square, &x)) == PL_NONE) return false;
  pl_slot *s = pl_slot_get(c, in[1]);
  if (!s) return false;
  z = *s;
  *column = z.rank == 1;
  int64_t m = x.shape[x.rank - 2], n = x.shape[x.rank - 1], batch_a = 1, batch_b = 1;
  bool fits = z.rank >= 1 && z.shape[*column ? 0 : z.rank - 2] == m;
  for (int i = 0; i < x.rank - 2; i++) batch_a *= x.shape[i];
  for (int i = 0; i < z.rank - 2; i++) batch_b *= z.shape[i];
  if (fits && x.rank > 2 && z.rank > 2) {
    fits = x.rank == z.rank;
    for (int i = 0; fits && i < x.rank - 2; i++) fits = x.shape[i] == z.shape[i];
  }
  if (!fits) {
    char t[PL_TEXT], u[PL_TEXT];
    pl_error(c, PL_ERROR_SHAPE, "%s: a right side of shape %s does not fit matrices of shape %s", op->name,
             pl_shape_text(u, z.rank, z.shape), pl_shape_text(t, x.rank, x.shape));
    return false;
  }
  int64_t k = *column ? 1 : z.shape[z.rank - 1], batch = x.rank > 2 ? batch_a : batch_b;
  *lead = x.rank > 2 || z.rank < 2 ? x : z;
  *b = pl_floats(c, in[1]);
  *b = pl_reshape_to(c, *b, 3, (int64_t[]){z.rank > 2 ? batch_b : 1, m, k});
  if (x.rank > 2 && z.rank <= 2) *b = pl_call1(c, PL_OP(broadcast_to), *b, &PL_INTS(3, ((int64_t[]){batch, m, k})));
  if (x.rank == 2 && z.rank > 2) *a = pl_call1(c, PL_OP(broadcast_to), *a, &PL_INTS(3, ((int64_t[]){batch, m, n})));
  sizes[0] = n;
  sizes[1] = k;
  return c->status == PL_OK;
}
PL_EXPAND(solve) {
  (void)n, (void)attrs;
  pl_value a, b;
  pl_slot lead;
  int64_t sizes[2];
  bool column;
  if (!pl_both_stacked(c, op, in, true, &a, &b, &lead, sizes, &column)) return false;
  out[0] = pl_unstacked(c, pl_solved(c, a, b, false), &lead, column ? 1 : 2, sizes);
  return out[0] != PL_NONE;
}
PL_EXPAND(triangular_solve) {
  (void)n;
  pl_value a, b;
  pl_slot lead;
  int64_t sizes[2];
  bool column;
  if (!pl_both_stacked(c, op, in, true, &a, &b, &lead, sizes, &column)) return false;
  out[0] = pl_unstacked(c, pl_substituted(c, a, b, attrs[0].i, attrs[1].i), &lead, column ? 1 : 2, sizes);
  return out[0] != PL_NONE;
}
PL_EXPAND(cholesky) {
  (void)n, (void)attrs;
  pl_slot x;
  pl_value a = pl_stacked(c, op, in[0], true, &x);
  if (a == PL_NONE) return false;
  out[0] =
      pl_unstacked(c, PL_UNARY(cholesky_factor, c, a), &x, 2, (int64_t[]){x.shape[x.rank - 1], x.shape[x.rank - 1]});
  return out[0] != PL_NONE;
}
PL_EXPAND(inv) {
  (void)n, (void)attrs;
  pl_slot x;
  pl_value a = pl_stacked(c, op, in[0], true, &x);
  if (a == PL_NONE) return false;
  pl_value t = pl_transpose_last(c, inverse_transposed(c, a));
  out[0] = pl_unstacked(c, t, &x, 2, (int64_t[]){x.shape[x.rank - 1], x.shape[x.rank - 1]});
  return out[0] != PL_NONE;
}
PL_EXPAND(slogdet) {
  (void)n, (void)attrs;
  pl_slot x;
  pl_value both[2], a = pl_stacked(c, op, in[0], true, &x);
  if (a == PL_NONE || !pl_apply(c, PL_OP(log_det), 1, &a, NULL, both)) return false;
  out[0] = pl_unstacked(c, both[0], &x, 0, NULL);
  out[1] = pl_unstacked(c, both[1], &x, 0, NULL);
  return out[1] != PL_NONE;
}
PL_EXPAND(det) {
  (void)n, (void)attrs, (void)op;
  pl_value both[2];
  if (!pl_apply(c, PL_OP(slogdet), 1, in, NULL, both)) return false;
  out[0] = PL_BINARY(mul, c, both[0], PL_UNARY(exp, c, both[1]));
  return out[0] != PL_NONE;
}

/* ---- samples ---- */

pl_value pl_sample_matrices(pl_context *c, pl_sampler_random *r, double spread, double first, double step, int rank,
                            ...) {
  int64_t shape[PL_MAX_RANK];
  va_list args;
  va_start(args, rank);
  for (int i = 0; i < rank; i++) shape[i] = va_arg(args, int);
  va_end(args);
  pl_value v = pl_tensor(c, PL_F64, rank, shape, NULL);
  pl_slot *s = pl_slot_get(c, v);
  int64_t m = shape[rank - 2], n = shape[rank - 1];
  for (int64_t i = 0; s && i < s->count; i++) {
    int64_t row = i / n % m;
    ((double *)s->data)[i] = pl_sample_uniform(r, -spread, spread) + (row == i % n ? first + step * (double)row : 0);
  }
  return v;
}
#define NEAR(...) pl_sample_matrices(c, r, 0.3, 2, 0, __VA_ARGS__)
PL_SAMPLE(stack) {
  if (k > 1) return false;
  s->n = 1;
  s->in[0] = k ? NEAR(3, 1, 5, 5) : NEAR(3, 2, 3, 3);
  return true;
}
PL_SAMPLE(right) {
  if (k > 3) return false;
  s->n = 2;
  s->attrs[0] = PL_INT(k & 1);
  s->attrs[1] = PL_INT(k >> 1);
  s->in[0] = k == 3 ? NEAR(3, 1, 5, 5) : NEAR(3, 2, 3, 3);
  s->in[1] = k == 3 ? pl_sample_tensor(c, r, -1, 1, 3, 1, 5, 1) : pl_sample_tensor(c, r, -1, 1, 3, 2, 3, 2);
  return true;
}
PL_SAMPLE(matrices) {
  if (k > 2) return false;
  s->n = 1;
  s->in[0] = k == 0 ? NEAR(2, 4, 4) : k == 1 ? NEAR(4, 2, 1, 3, 3) : NEAR(3, 2, 1, 1);
  return true;
}
PL_SAMPLE(systems) {
  if (k > 4) return false;
  s->n = 2;
  s->attrs[0] = PL_INT(k & 1);
  s->attrs[1] = PL_INT(k >> 1 & 1);
  s->in[0] = k == 3 || k == 2 ? NEAR(3, 2, 3, 3) : NEAR(2, 3, 3);
  if (k == 0 || k == 3) s->in[1] = pl_sample_tensor(c, r, -1, 1, 1, 3);
  if (k == 1) s->in[1] = pl_sample_tensor(c, r, -1, 1, 2, 3, 2);
  if (k == 2 || k == 4) s->in[1] = pl_sample_tensor(c, r, -1, 1, 3, 2, 3, 2);
  return true;
}

#define TRIANGLE                                                           \
  {                                                                        \
    {"upper", PL_AS_FLAG, false, 0}, { "transpose", PL_AS_FLAG, false, 0 } \
  }

pl_op pl_ops_linalg[] = {
    {PL_STACK_ROW(dense_solve, "A^-1 B of stacks, or A^-T B", 2, 1, right),
     .attrs = {{"transpose", PL_AS_FLAG, false, 0}}},
    {PL_STACK_ROW(triangular, "T^-1 B of stacks, or T^-T B", 2, 1, right), .attrs = TRIANGLE},
    {PL_STACK_ROW(cholesky_factor, "L with L L' = (A + A')/2, of stacks", 1, 1, stack)},
    {PL_STACK_ROW(log_det, "sign and log of the absolute value of determinants, of stacks", 1, 2, stack)},
    {PL_USER_ROW(solve, "A^-1 b for square A, b a vector or matrix; leading axes are stacks", 2, 1, systems),
     .shapes = "{..., n, n}, {n} or {..., n, k} -> that of b", .source = "LAPACK getrf, getrs"},
    {PL_USER_ROW(triangular_solve,
                 "T^-1 b for lower (or upper) triangular T, or T^-T b; the other triangle is not read", 2, 1, systems),
     .shapes = "{..., n, n}, {n} or {..., n, k} -> that of b", .attrs = TRIANGLE},
    {PL_USER_ROW(cholesky, "lower triangular L with L L' = A, of A's symmetric part, which is positive definite", 1, 1,
                 matrices),
     .shapes = "{..., n, n} -> {..., n, n}", .derivative = "that of the symmetric part", .source = "LAPACK potrf"},
    {PL_USER_ROW(inv, "the inverse of square matrices; solving is faster and more accurate", 1, 1, matrices),
     .shapes = "{..., n, n} -> {..., n, n}"},
    {PL_USER_ROW(slogdet, "sign and log of the absolute value of the determinant; 0 and -infinity of a singular matrix",
                 1, 2, matrices),
     .shapes = "{..., n, n} -> {...}, {...}", .source = "LAPACK getrf"},
    {PL_USER_ROW(det, "the determinant", 1, 1, matrices), .shapes = "{..., n, n} -> {...}",
     .derivative = "that of a matrix which can be inverted"},
    {0},
};
