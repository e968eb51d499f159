/* qr.c: orthogonal factors and least squares by Householder reflections (LAPACK). Our matrices, by rows, are LAPACK's
 * transposed: A = Q R is A' = R' Q', its LQ factorization. Derivatives: of Q and R, S. Walter, L. Lehmann, Algorithmic
 * differentiation of linear algebra functions, 2010; of A^+ b, G. Golub, V. Pereyra, The differentiation of
 * pseudo-inverses and nonlinear least squares problems whose variables separate, SIAM J. Numer. Anal. 10, 1973. */
#include <cblas.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "linalg.h"

extern void dgelqf_(const int *m, const int *n, double *a, const int *lda, double *tau, double *work, const int *lwork,
                    int *info);
extern void dorglq_(const int *m, const int *n, const int *k, double *a, const int *lda, const double *tau,
                    double *work, const int *lwork, int *info);
extern void dormlq_(const char *side, const char *trans, const int *m, const int *n, const int *k, const double *a,
                    const int *lda, const double *tau, double *c, const int *ldc, double *work, const int *lwork,
                    int *info, size_t, size_t);
extern void dtrcon_(const char *norm, const char *uplo, const char *diag, const int *n, const double *a, const int *lda,
                    double *rcond, double *work, int *iwork, int *info, size_t, size_t, size_t);

/* Columns that LAPACK takes together: the work memory it wants is so many columns, and to apply reflections APPLY more.
 */
enum { BLOCK = 32, APPLY = 65 * 64 };

/* ---- qr_factor: {batch, m, n}, m >= n -> Q {batch, m, n}, R {batch, n, n}, its diagonal not negative ---- */

static void factor_each(const void *args, int64_t lo, int64_t hi) {
  const pl_stack_job *j = args;
  const int m = j->m, n = j->n, lwork = BLOCK * n;
  for (int64_t i = lo; i < hi; i++) {
    double *q = pl_stack_work(j), *r = q + (int64_t)m * n, *tau = r + (int64_t)n * n, *work = tau + n;
    if (!pl_stack_load(j, j->a, i, (int64_t)m * n, q)) {
      pl_stack_store(j, j->out[0], i, (int64_t)m * n, NULL);
      pl_stack_store(j, j->out[1], i, (int64_t)n * n, NULL);
      continue;
    }
    dgelqf_(&n, &m, q, &n, tau, work, &lwork, &j->info[i]);
    for (int64_t p = 0; p < n; p++)
      for (int64_t k = 0; k < n; k++) r[p * n + k] = k < p ? 0 : q[p * n + k];
    dorglq_(&n, &m, &n, q, &n, tau, work, &lwork, &j->info[i]);
    for (int64_t p = 0; p < n; p++) {
      if (r[p * n + p] >= 0) continue;
      for (int64_t k = p; k < n; k++) r[p * n + k] = -r[p * n + k];
      for (int64_t k = 0; k < m; k++) q[k * n + p] = -q[k * n + p];
    }
    pl_stack_store(j, j->out[0], i, (int64_t)m * n, q);
    pl_stack_store(j, j->out[1], i, (int64_t)n * n, r);
  }
}
static void qr_factor_run(const pl_call *call, pl_slot **out) {
  const pl_slot *a = call->in[0];
  int64_t m = a->shape[1], n = a->shape[2];
  if (a->count == 0) return;
  pl_stack_job j = {.dtype = (pl_dtype)a->dtype,
                    .m = (int)m,
                    .n = (int)n,
                    .a = a->data,
                    .out = {out[0]->data, out[1]->data},
                    .each = (size_t)((m + n + 1 + BLOCK) * n) * 8};
  pl_stack_run(call, factor_each, &j, a->shape[0], 2 * (double)m * (double)n * (double)n);
}
static bool tall(const pl_call *call) {
  if (!pl_is_stack(call, 0, false)) return false;
  if (call->in[0]->shape[1] >= call->in[0]->shape[2]) return true;
  pl_shape_error(call, "as many rows as columns, or more, are needed");
  return false;
}
static bool qr_factor_shape(const pl_call *call, pl_spec *out) {
  if (!tall(call)) return false;
  const int32_t *a = call->in[0]->shape;
  pl_spec_shape(&out[0], 3, a[0], a[1], a[2]);
  pl_spec_shape(&out[1], 3, a[0], a[2], a[2]);
  return true;
}

/* The reciprocal condition of a triangle below which columns count as dependent. */
static double least_condition(int64_t m, int64_t n, pl_dtype dtype) {
  return (double)(m > n ? m : n) * (dtype == PL_F64 ? DBL_EPSILON : (double)FLT_EPSILON);
}
/* Estimated, in the 1-norm, of R {n, n} by rows, with work memory of 4 n numbers. */
static double triangle_condition(int n, const double *r, int ld, double *work) {
  double rcond = 0;
  int info = 0;
  dtrcon_("I", "L", "N", &n, r, &ld, &rcond, work, (int *)(work + 3 * n), &info, 1, 1, 1);
  return info ? 0 : rcond;
}

/* ---- full_rank: R as it is; an error where it has no inverse to working accuracy ---- */

static bool full_rank_shape(const pl_call *call, pl_spec *out) {
  const int32_t *r = call->in[0]->shape;
  pl_spec_shape(out, 3, r[0], r[1], r[2]);
  return pl_is_stack(call, 0, true);
}
static void full_rank_run(const pl_call *call, pl_slot **out) {
  pl_context *c = call->c;
  const pl_slot *r = call->in[0];
  int n = r->shape[1];
  int64_t count = (int64_t)n * n;
  if (r->count == 0) return;
  memcpy(out[0]->data, r->data, (size_t)r->count * pl_dtype_size((pl_dtype)r->dtype));
  double *one = pl_memory_new(c, (size_t)(count + 4 * n) * sizeof *one);
  pl_stack_job j = {.dtype = (pl_dtype)r->dtype};
  for (int64_t i = 0; one && i < r->shape[0] && !c->status; i++) {
    if (!pl_stack_load(&j, r->data, i, count, one)) continue; /* NaN passes on */
    if (triangle_condition(n, one, n, one + count) > least_condition(n, n, j.dtype)) continue;
    char which[PL_TEXT];
    pl_error(
        c, PL_ERROR_NUMERIC,
        "qr, lu: the leading %d columns (of lu: or rows) of the matrix%s are linearly dependent: its factors have no "
        "derivative there",
        n, pl_stack_which(which, i, r->shape[0]));
  }
  pl_memory_free(c, one);
}
static void full_rank_vjp(pl_vjp *v) { pl_vjp_give(v, 0, v->g[0]); }
static void full_rank_jvp(pl_jvp *j) { j->dt[0] = j->t[0]; }
static pl_value checked(pl_context *c, pl_value r) { return PL_UNARY(full_rank, c, r); }

/* The lower triangle and its mirror image. */
static pl_value mirrored(pl_context *c, pl_value x) {
  pl_value below = pl_call1(c, PL_OP(tril), x, &PL_INT(-1));
  return PL_BINARY(add, c, pl_half_of(c, x, false), pl_transpose_last(c, below));
}
static void qr_factor_vjp(pl_vjp *v) { /* (gQ + Q mirrored(R gR' - gQ' Q)) R^-T */
  pl_context *c = v->c;
  pl_value Q = v->out[0], R = checked(c, v->out[1]);
  pl_value gR = v->g[1] == PL_ZERO ? PL_ZERO : pl_half_of(c, v->g[1], true);
  pl_value M = pl_minus(c, pl_product(c, R, gR, false, true), pl_product(c, v->g[0], Q, true, false));
  pl_vjp_give(v, 0, pl_over_triangle(c, pl_plus(c, v->g[0], pl_product(c, Q, mirrored(c, M), false, false)), R, true));
}
static void qr_factor_jvp(
    pl_jvp *j) { /* T = dR R^-1, the upper triangle of C + C', C = Q' dA R^-1, without C's diagonal */
  pl_context *c = j->c;
  pl_value Q = j->out[0], R = checked(c, j->out[1]), W = pl_over_triangle(c, j->t[0], R, false);
  pl_value C = pl_product(c, Q, W, true, false);
  pl_value below = pl_call1(c, PL_OP(tril), C, &PL_INT(-1));
  pl_value T = PL_BINARY(add, c, pl_half_of(c, C, true), pl_transpose_last(c, below));
  j->dt[0] = PL_BINARY(sub, c, W, pl_product(c, Q, T, false, false));
  j->dt[1] = pl_product(c, T, R, false, false);
}

/* ---- least_squares: A {batch, m, n}, m >= n, of full rank. A^+ B, B {batch, m, k}; transpose: A^+' B, B {batch, n,
 * k}, the shortest X with A' X = B ---- */

/* The rank by singular values, of A {m, n} that is lost; memory of its own, for who gets here gets an error. */
static int rank_of(const pl_stack_job *j, int64_t i, double *a, double least) {
  int m = j->m, n = j->n, info = 0, rank = 0, query = -1, one = 1;
  double size = 0;
  pl_stack_load(j, j->a, i, (int64_t)m * n, a);
  dgesdd_("N", &n, &m, a, &n, NULL, NULL, &one, NULL, &one, &size, &query, NULL, &info, 1);
  int lwork = (int)size;
  double *s = malloc((size_t)(n + lwork) * sizeof *s + (size_t)(8 * n) * sizeof(int));
  if (!s) return n - 1;
  dgesdd_("N", &n, &m, a, &n, s, NULL, &one, NULL, &one, s + n, &lwork, (int *)(s + n + lwork), &info, 1);
  for (int k = 0; k < n; k++) rank += s[k] > least * s[0];
  free(s);
  return rank;
}
static void least_squares_each(const void *args, int64_t lo, int64_t hi) {
  const pl_stack_job *j = args;
  const int m = j->m, n = j->n, k = j->k, lwork = BLOCK * (n > k ? n : k) + APPLY;
  const int64_t rows_in = j->flag ? n : m, rows_out = j->flag ? m : n;
  const double least = least_condition(m, n, j->dtype);
  for (int64_t i = lo; i < hi; i++) {
    double *a = pl_stack_work(j), *x = a + (int64_t)m * n, *tau = x + (int64_t)m * k, *work = tau + n;
    bool finite = pl_stack_load(j, j->a, i, (int64_t)m * n, a);
    finite = pl_stack_load(j, j->b, i, rows_in * k, x) && finite;
    if (!finite) {
      pl_stack_store(j, j->out[0], i, rows_out * k, NULL);
      continue;
    }
    dgelqf_(&n, &m, a, &n, tau, work, &lwork, &j->info[i]);
    if (triangle_condition(n, a, n, work) <= least) {
      int rank = rank_of(j, i, a, least);
      if (rank < n) {
        j->info[i] = rank + 1;
        continue;
      }
      pl_stack_load(j, j->a, i, (int64_t)m * n, a);
      dgelqf_(&n, &m, a, &n, tau, work, &lwork, &j->info[i]);
    }
    /* X by rows is X' for LAPACK, so that factors are applied from the right: A' = L P, P = Q'. */
    if (j->flag) {
      memset(x + (int64_t)n * k, 0, (size_t)((m - n) * (int64_t)k) * sizeof *x);
      cblas_dtrsm(CblasColMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit, k, n, 1, a, n, x, k);
      dormlq_("R", "N", &k, &m, &n, a, &n, tau, x, &k, work, &lwork, &j->info[i], 1, 1);
    } else {
      dormlq_("R", "T", &k, &m, &n, a, &n, tau, x, &k, work, &lwork, &j->info[i], 1, 1);
      cblas_dtrsm(CblasColMajor, CblasRight, CblasLower, CblasNoTrans, CblasNonUnit, k, n, 1, a, n, x, k);
    }
    pl_stack_store(j, j->out[0], i, rows_out * k, x);
  }
}
static void least_squares_run(const pl_call *call, pl_slot **out) {
  const pl_slot *a = call->in[0], *b = call->in[1];
  int64_t m = a->shape[1], n = a->shape[2], k = b->shape[2];
  if (out[0]->count == 0) return;
  if (n == 0) {
    memset(out[0]->data, 0, (size_t)out[0]->count * pl_dtype_size((pl_dtype)a->dtype));
    return;
  }
  pl_stack_job j = {.dtype = (pl_dtype)a->dtype,
                    .m = (int)m,
                    .n = (int)n,
                    .k = (int)k,
                    .flag = call->attrs[0].i,
                    .a = a->data,
                    .b = b->data,
                    .out = {out[0]->data},
                    .each = (size_t)(m * (n + k) + n + BLOCK * (n > k ? n : k) + APPLY) * 8};
  int64_t failed = pl_stack_run(call, least_squares_each, &j, a->shape[0], 2 * (double)(m * n) * (double)(n + 2 * k));
  if (failed < 0) return;
  char which[PL_TEXT];
  pl_error(
      call->c, PL_ERROR_NUMERIC,
      "lstsq: the matrix%s has rank %d to working accuracy, not %lld: multiply by pinv(A), which takes any rank, or "
      "add a regularization to the matrix",
      pl_stack_which(which, failed, a->shape[0]), j.failure - 1, (long long)n);
}
static bool least_squares_shape(const pl_call *call, pl_spec *out) {
  if (!tall(call)) return false;
  const int32_t *a = call->in[0]->shape, *b = call->in[1]->shape;
  bool t = call->attrs[0].i;
  if (call->in[1]->rank != 3 || b[0] != a[0] || b[1] != a[t ? 2 : 1]) {
    pl_shape_error(call, "the right side does not fit");
    return false;
  }
  pl_spec_shape(out, 3, a[0], a[t ? 1 : 2], b[2]);
  return true;
}
static pl_value fitted(pl_context *c, pl_value a, pl_value b, bool transpose) {
  return b == PL_ZERO ? b : pl_call2(c, PL_OP(least_squares), a, b, &PL_INT(transpose));
}
static void least_squares_vjp(pl_vjp *v) {
  pl_context *c = v->c;
  pl_value A = v->in[0], B = v->in[1], X = v->out[0], g = v->g[0];
  bool t = v->attrs[0].i;
  pl_value gB = fitted(c, A, g, !t);
  if (v->need[1]) pl_vjp_give(v, 1, gB);
  if (!v->need[0]) return;
  /* the same formula with the roles of X and gB changed: residuals of B, or of g */
  pl_value residual = t ? PL_BINARY(sub, c, g, pl_product(c, A, gB, false, false))
                        : PL_BINARY(sub, c, B, pl_product(c, A, X, false, false));
  pl_value Y = fitted(c, A, t ? X : gB, false);
  pl_value across = t ? pl_product(c, X, gB, false, true) : pl_product(c, gB, X, false, true);
  pl_vjp_give(v, 0, PL_BINARY(sub, c, pl_product(c, residual, Y, false, true), across));
}
static void least_squares_jvp(pl_jvp *j) {
  pl_context *c = j->c;
  pl_value A = j->in[0], X = j->out[0], dA = j->t[0], dB = j->t[1];
  if (j->attrs[0].i) { /* A' X = B, X = A W: A^+' (dB - dA' X) + (I - A A^+) dA W */
    pl_value first = fitted(c, A, pl_minus(c, dB, pl_product(c, dA, X, true, false)), true);
    pl_value E = dA == PL_ZERO ? PL_ZERO : pl_product(c, dA, fitted(c, A, X, false), false, false);
    j->dt[0] = pl_plus(c, first, pl_minus(c, E, pl_product(c, A, fitted(c, A, E, false), false, false)));
  } else { /* A^+ (dB - dA X) + A^+ A^+' dA' (B - A X) */
    pl_value first = pl_minus(c, dB, pl_product(c, dA, X, false, false)), second = PL_ZERO;
    if (dA != PL_ZERO) {
      pl_value residual = PL_BINARY(sub, c, j->in[1], pl_product(c, A, X, false, false));
      second = fitted(c, A, pl_product(c, dA, residual, true, false), true);
    }
    j->dt[0] = fitted(c, A, pl_plus(c, first, second), false);
  }
}

/* ---- what users see ---- */

PL_EXPAND(qr) {
  (void)n, (void)attrs;
  pl_slot x;
  pl_value both[2], a = pl_stacked(c, op, in[0], false, &x);
  if (a == PL_NONE) return false;
  int64_t m = x.shape[x.rank - 2], columns = x.shape[x.rank - 1], k = m < columns ? m : columns;
  pl_value square = m < columns ? pl_part(c, a, 2, 0, 1, m) : a;
  if (!pl_apply(c, PL_OP(qr_factor), 1, &square, NULL, both)) return false;
  if (m < columns) { /* the first columns give Q, and R = Q' A of the others */
    pl_value rest = pl_part(c, a, 2, m, 1, columns - m);
    both[1] = pl_joined(c, both[1], pl_product(c, both[0], rest, true, false), 2);
  }
  out[0] = pl_unstacked(c, both[0], &x, 2, (int64_t[]){m, k});
  out[1] = pl_unstacked(c, both[1], &x, 2, (int64_t[]){k, columns});
  return c->status == PL_OK;
}
PL_EXPAND(lstsq) {
  (void)n, (void)attrs;
  pl_value a, b;
  pl_slot lead;
  int64_t sizes[2];
  bool column;
  if (!pl_both_stacked(c, op, in, false, &a, &b, &lead, sizes, &column)) return false;
  pl_slot *s = pl_slot_get(c, a);
  bool wide = s && s->shape[1] < s->shape[2];
  out[0] = pl_unstacked(c, fitted(c, wide ? pl_transpose_last(c, a) : a, b, wide), &lead, column ? 1 : 2, sizes);
  return out[0] != PL_NONE;
}

/* ---- samples ---- */

#define NEAR(...) pl_sample_matrices(c, r, 0.4, 1.5, 0.3, __VA_ARGS__)
PL_SAMPLE(stack) {
  if (k > 1) return false;
  s->n = 1;
  s->in[0] = k ? NEAR(3, 1, 5, 3) : NEAR(3, 2, 3, 3);
  return true;
}
PL_SAMPLE(triangle) {
  (void)r;
  if (k > 0) return false;
  s->n = 1;
  s->in[0] = pl_tensor(c, PL_F64, 3, (int64_t[]){1, 2, 2}, (double[]){2, 1, 0, 0.5});
  return true;
}
PL_SAMPLE(right) {
  if (k > 3) return false;
  s->n = 2;
  s->attrs[0] = PL_INT(k & 1);
  s->in[0] = k > 1 ? NEAR(3, 1, 5, 3) : NEAR(3, 2, 4, 2);
  s->in[1] = k == 0   ? pl_sample_tensor(c, r, -1, 1, 3, 2, 4, 2)
             : k == 1 ? pl_sample_tensor(c, r, -1, 1, 3, 2, 2, 3)
             : k == 2 ? pl_sample_tensor(c, r, -1, 1, 3, 1, 5, 1)
                      : pl_sample_tensor(c, r, -1, 1, 3, 1, 3, 1);
  return true;
}
PL_SAMPLE(matrices) {
  if (k > 3) return false;
  s->n = 1;
  s->in[0] = k == 0 ? NEAR(2, 4, 4) : k == 1 ? NEAR(4, 2, 1, 4, 3) : k == 2 ? NEAR(2, 3, 5) : NEAR(3, 2, 1, 1);
  return true;
}
PL_SAMPLE(systems) {
  if (k > 4) return false;
  s->n = 2;
  s->in[0] = k == 0   ? NEAR(2, 3, 3)
             : k == 1 ? NEAR(2, 5, 3)
             : k == 2 ? NEAR(2, 3, 5)
             : k == 3 ? NEAR(3, 2, 4, 2)
                      : NEAR(2, 4, 2);
  if (k == 0 || k == 2) s->in[1] = pl_sample_tensor(c, r, -1, 1, 1, 3);
  if (k == 1) s->in[1] = pl_sample_tensor(c, r, -1, 1, 2, 5, 2);
  if (k == 3) s->in[1] = pl_sample_tensor(c, r, -1, 1, 1, 4);
  if (k == 4) s->in[1] = pl_sample_tensor(c, r, -1, 1, 3, 2, 4, 2);
  return true;
}

pl_op pl_ops_qr[] = {
    {PL_STACK_ROW(qr_factor, "Q and R of tall stacks", 1, 2, stack)},
    {PL_STACK_ROW(full_rank, "upper triangular R; an error where it has no inverse", 1, 1, triangle)},
    {PL_STACK_ROW(least_squares, "A^+ B of tall stacks of full rank, or A^+' B", 2, 1, right),
     .attrs = {{"transpose", PL_AS_FLAG, false, 0}}},
    {PL_USER_ROW(
         qr,
         "Q and R with A = Q R, Q' Q = I, R upper triangular with a diagonal that is not negative; reduced: Q has "
         "min(m, n) columns",
         1, 2, matrices),
     .shapes = "{..., m, n} -> {..., m, k}, {..., k, n}, k = min(m, n)",
     .derivative = "where the first k columns are independent, else an error; any order",
     .accuracy = "backward stable; |Q'Q - I| of some n eps; in f64, whatever the dtype",
     .source = "LAPACK geqrf; Walter & Lehmann 2010"},
    {PL_USER_ROW(
         lstsq,
         "x with the least |A x - b|; where A has fewer rows than columns, the shortest x with A x = b; A of full "
         "rank",
         2, 1, systems),
     .shapes = "{..., m, n}, {m} or {..., m, k} -> {..., n} or {..., n, k}",
     .derivative = "with the residual's term; any order",
     .accuracy = "backward stable; a rank below min(m, n), to max(m, n) eps of the largest singular value, is an error",
     .source = "LAPACK geqrf, ormqr; Golub & Pereyra 1973"},
    {0},
};
