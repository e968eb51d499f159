/* svd.c: singular values and vectors by LAPACK, and what is made of them: norms, rank, condition, pseudo-inverse. With
 * P = U' dA V: dS = diag(P), dU = U (D + N) + (I - U U') dA V S^-1, dV = V (D - N) + (I - V V') dA' U S^-1 with
 * D_ij = (P_ij + P_ji)/(2 (s_j - s_i)), N_ij = (P_ij - P_ji)/(2 (s_j + s_i)) (J. Townsend, Differentiating the singular
 * value decomposition, 2016, his terms rearranged so that each divides by what it must). Functions of U V' need only N,
 * singular values neither. A singular value at zero, to working accuracy, has derivative 0, as |x| at 0 has. Of the
 * pseudo-inverse: G. Golub, V. Pereyra, SIAM J. Numer. Anal. 10, 1973. */
#include <cblas.h>
#include <float.h>
#include <math.h>

#include "linalg.h"

/* ---- singular: {batch, m, n} -> U {batch, m, k}, S {batch, k} descending, V' {batch, k, n}; singular_values: S ----
 */

typedef struct {
  double *a, *s, *u, *v; /* {m, n}; {k}, {m, k}, {k, n} by rows */
  bool finite;
} svd;

/* Of matrix i, in work memory. A by rows is A' = V S U' for LAPACK. */
static svd decomposed(const pl_stack_job *j, int64_t i, bool vectors) {
  const int m = j->m, n = j->n, k = m < n ? m : n, lwork = j->upper;
  const int64_t count = (int64_t)m * n;
  double *a = pl_stack_work(j), *s = a + count, *u = s + k, *v = u + (int64_t)m * k, *work = v + (int64_t)n * k;
  svd d = {a, s, u, v, pl_stack_load(j, j->a, i, count, a)};
  if (d.finite)
    dgesdd_(vectors ? "S" : "N", &n, &m, a, &n, s, v, &n, u, &k, work, &lwork, (int *)(work + lwork), &j->info[i], 1);
  for (int64_t q = 0; d.finite && vectors && q < k; q++) { /* the largest component of u is positive */
    int64_t most = 0;
    for (int64_t p = 1; p < m; p++)
      if (fabs(u[p * k + q]) > fabs(u[most * k + q]) * (1 + 1e-8)) most = p;
    if (u[most * k + q] >= 0) continue;
    for (int64_t p = 0; p < m; p++) u[p * k + q] = -u[p * k + q];
    for (int64_t p = 0; p < n; p++) v[q * n + p] = -v[q * n + p];
  }
  return d;
}
static void singular_each(const void *args, int64_t lo, int64_t hi) {
  const pl_stack_job *j = args;
  const int64_t m = j->m, n = j->n, k = m < n ? m : n;
  for (int64_t i = lo; i < hi; i++) {
    svd d = decomposed(j, i, j->flag);
    pl_stack_store(j, j->out[0], i, k, d.finite ? d.s : NULL);
    if (!j->flag) continue;
    pl_stack_store(j, j->out[1], i, m * k, d.finite ? d.u : NULL);
    pl_stack_store(j, j->out[2], i, k * n, d.finite ? d.v : NULL);
  }
}
/* The number below which singular values of an {m, n} matrix are zero, relative to the largest; rtol 0: to rounding. */
static double relative_least(int64_t m, int64_t n, int dtype, double rtol) {
  return rtol > 0 ? rtol : (double)(m > n ? m : n) * (dtype == PL_F64 ? DBL_EPSILON : (double)FLT_EPSILON);
}
/* V S^+ U' {n, m} */
static void inverse_each(const void *args, int64_t lo, int64_t hi) {
  const pl_stack_job *j = args;
  const int m = j->m, n = j->n, k = m < n ? m : n;
  for (int64_t i = lo; i < hi; i++) {
    svd d = decomposed(j, i, true);
    for (int64_t q = 0; d.finite && q < k; q++) {
      double w = d.s[q] > j->tolerance * d.s[0] ? 1 / d.s[q] : 0;
      for (int64_t p = 0; p < n; p++) d.v[q * n + p] *= w;
    }
    if (d.finite) cblas_dgemm(CblasRowMajor, CblasTrans, CblasTrans, n, m, k, 1, d.v, n, d.u, k, 0, d.a, m);
    pl_stack_store(j, j->out[0], i, (int64_t)m * n, d.finite ? d.a : NULL);
  }
}
static void run_stack(const pl_call *call, pl_kernel kernel, pl_stack_job *j) {
  const pl_slot *a = call->in[0];
  int m = a->shape[1], n = a->shape[2], k = m < n ? m : n, query = -1, info = 0;
  double size = 0, none = 0;
  if (a->count == 0) return;
  dgesdd_(j->flag ? "S" : "N", &n, &m, &none, &n, &none, &none, &n, &none, &k, &size, &query, &info, &info, 1);
  if (!(size >= 1 && size < INT32_MAX)) {
    pl_error(call->c, PL_ERROR_SHAPE, "svd: {%d, %d} is too large for LAPACK's 32-bit sizes", m, n);
    return;
  }
  j->dtype = (pl_dtype)a->dtype;
  j->m = m;
  j->n = n;
  j->a = a->data;
  j->upper = (int)size + 1;
  j->each =
      ((size_t)m * (size_t)n + (size_t)k * (size_t)(m + n + 1) + (size_t)j->upper) * 8 + (size_t)k * 8 * sizeof(int);
  int64_t failed = pl_stack_run(call, kernel, j, a->shape[0], (j->flag ? 10 : 3) * (double)m * (double)n * (double)k);
  char which[PL_TEXT];
  if (failed >= 0)
    pl_error(call->c, PL_ERROR_NUMERIC, "svd: the iteration for the matrix%s did not converge (LAPACK's gesdd: %d)",
             pl_stack_which(which, failed, a->shape[0]), j->failure);
}
static void singular_run(const pl_call *call, pl_slot **out) {
  run_stack(call, singular_each, &(pl_stack_job){.flag = true, .out = {out[1]->data, out[0]->data, out[2]->data}});
}
static bool singular_shape(const pl_call *call, pl_spec *out) {
  if (!pl_is_stack(call, 0, false)) return false;
  const int32_t *a = call->in[0]->shape;
  int32_t k = a[1] < a[2] ? a[1] : a[2];
  pl_spec_shape(&out[0], 3, a[0], a[1], k);
  pl_spec_shape(&out[1], 2, a[0], k, 0);
  pl_spec_shape(&out[2], 3, a[0], k, a[2]);
  return true;
}
static void singular_values_run(const pl_call *call, pl_slot **out) {
  run_stack(call, singular_each, &(pl_stack_job){.out = {out[0]->data}});
}
static bool singular_values_shape(const pl_call *call, pl_spec *out) {
  pl_spec three[3];
  if (!singular_shape(call, three)) return false;
  pl_spec_shape(out, 2, three[1].shape[0], three[1].shape[1], 0);
  return true;
}

/* ---- derivatives ---- */

typedef struct {
  pl_value U, S, Vh, row, column; /* S as {batch, 1, k}, {batch, k, 1} */
  int64_t batch, m, n, k;
} factors;

static bool factors_of(pl_context *c, const pl_value *out, factors *f) {
  pl_slot *u = pl_slot_get(c, out[0]), *v = pl_slot_get(c, out[2]);
  if (!u || !v) return false;
  f->U = out[0], f->S = out[1], f->Vh = out[2];
  f->batch = u->shape[0], f->m = u->shape[1], f->k = u->shape[2], f->n = v->shape[2];
  f->row = pl_reshape_to(c, f->S, 3, (int64_t[]){f->batch, 1, f->k});
  f->column = pl_reshape_to(c, f->S, 3, (int64_t[]){f->batch, f->k, 1});
  return c->status == PL_OK;
}
/* Which of S {batch, k}, of matrices {m, n}, are not zero? k > 0. */
static pl_value counted(pl_context *c, pl_value S, int64_t m, int64_t n, double rtol) {
  pl_slot *s = pl_slot_get(c, S);
  if (!s) return PL_NONE;
  double least = relative_least(m, n, s->dtype, rtol);
  pl_value most = pl_part(c, S, 1, 0, 1, 1);
  return PL_BINARY(gt, c, S, PL_BINARY(mul, c, most, pl_like(c, most, least)));
}
/* x {batch, k} where S is above zero, 0 elsewhere */
static pl_value above_zero(pl_context *c, const factors *f, pl_value x) {
  if (x == PL_ZERO || f->k == 0) return x;
  return PL_WHERE(c, counted(c, f->S, f->m, f->n, 0), x, pl_like(c, x, 0));
}
/* x_ij/(s_i + s_j); where both are zero, x is */
static pl_value over_sums(pl_context *c, const factors *f, pl_value x) {
  pl_value sums = PL_BINARY(add, c, f->column, f->row), zero = pl_like(c, sums, 0);
  sums = PL_WHERE(c, PL_BINARY(eq, c, sums, zero), pl_like(c, sums, 1), sums);
  return PL_BINARY(div, c, x, sums);
}
static pl_value over_gaps(pl_context *c, const factors *f, pl_value x) { return pl_over_gaps(c, f->S, x, PL_GAPS_SVD); }
static pl_value half(pl_context *c, pl_value x) { return PL_BINARY(mul, c, x, pl_like(c, x, 0.5)); }
/* x less its part in the columns of Q */
static pl_value beyond(pl_context *c, pl_value Q, pl_value x, bool rows) {
  return PL_BINARY(sub, c, x, pl_product(c, Q, pl_product(c, Q, x, !rows, false), rows, false));
}
/* S^-1, with an error where there is none */
static pl_value inverted(pl_context *c, const factors *f) { return PL_UNARY(singular_reciprocal, c, f->row); }

static void singular_jvp(pl_jvp *j) {
  pl_context *c = j->c;
  factors f;
  if (!factors_of(c, j->out, &f)) return;
  pl_value dAV = pl_product(c, j->t[0], f.Vh, false, true), P = pl_product(c, f.U, dAV, true, false);
  pl_value Pt = pl_transpose_last(c, P);
  pl_value D = half(c, over_gaps(c, &f, PL_BINARY(add, c, P, Pt)));
  pl_value N = half(c, over_sums(c, &f, PL_BINARY(sub, c, P, Pt)));
  pl_value dU = pl_product(c, f.U, PL_BINARY(add, c, D, N), false, false);
  pl_value dVh = pl_product(c, PL_BINARY(sub, c, D, N), f.Vh, true, false);
  if (f.m > f.k) dU = PL_BINARY(add, c, dU, PL_BINARY(mul, c, beyond(c, f.U, dAV, false), inverted(c, &f)));
  if (f.n > f.k) {
    pl_value dAU = PL_BINARY(mul, c, pl_product(c, j->t[0], f.U, true, false), inverted(c, &f));
    dVh = PL_BINARY(add, c, dVh, pl_transpose_last(c, beyond(c, f.Vh, dAU, true)));
  }
  j->dt[0] = dU;
  j->dt[1] = above_zero(c, &f, pl_call1(c, PL_OP(diagonal), P, &PL_INT(0)));
  j->dt[2] = dVh;
}
/* U diag(g) V' */
static pl_value weighted(pl_context *c, const factors *f, pl_value g) {
  if (g == PL_ZERO) return g;
  pl_value w = pl_reshape_to(c, above_zero(c, f, g), 3, (int64_t[]){f->batch, 1, f->k});
  return pl_product(c, PL_BINARY(mul, c, f->U, w), f->Vh, false, false);
}
static void singular_vjp(pl_vjp *v) {
  pl_context *c = v->c;
  factors f;
  if (!factors_of(c, v->out, &f)) return;
  pl_value gU = v->g[0], gV = pl_transpose_last(c, v->g[2]), g = weighted(c, &f, v->g[1]);
  if (gU != PL_ZERO || gV != PL_ZERO) {
    pl_value a = pl_product(c, f.U, gU, true, false), b = pl_product(c, f.Vh, gV, false, false);
    pl_value D = half(c, over_gaps(c, &f, pl_plus(c, a, b))), N = half(c, over_sums(c, &f, pl_minus(c, a, b)));
    pl_value gP =
        PL_BINARY(add, c, PL_BINARY(add, c, D, pl_transpose_last(c, D)), PL_BINARY(sub, c, N, pl_transpose_last(c, N)));
    g = pl_plus(c, g, pl_product(c, pl_product(c, f.U, gP, false, false), f.Vh, false, false));
  }
  if (gU != PL_ZERO && f.m > f.k)
    g = pl_plus(c, g, pl_product(c, PL_BINARY(mul, c, beyond(c, f.U, gU, false), inverted(c, &f)), f.Vh, false, false));
  if (gV != PL_ZERO && f.n > f.k)
    g = pl_plus(c, g, pl_product(c, f.U, PL_BINARY(mul, c, beyond(c, f.Vh, gV, true), inverted(c, &f)), false, true));
  pl_vjp_give(v, 0, g);
}
static bool factored(pl_context *c, pl_value a, factors *f) {
  pl_value three[3];
  return pl_apply(c, PL_OP(singular), 1, &a, NULL, three) && factors_of(c, three, f);
}
static void singular_values_vjp(pl_vjp *v) {
  factors f;
  if (factored(v->c, v->in[0], &f)) pl_vjp_give(v, 0, weighted(v->c, &f, v->g[0]));
}
static void singular_values_jvp(pl_jvp *j) { /* diag(U' dA V): row sums of (dA V) o U, transposed */
  pl_context *c = j->c;
  factors f;
  if (!factored(c, j->in[0], &f)) return;
  pl_value dAV = pl_product(c, j->t[0], f.Vh, false, true);
  j->dt[0] = above_zero(c, &f, pl_sum_axis(c, PL_BINARY(mul, c, f.U, dAV), 1));
}

/* ---- singular_reciprocal: 1/S {batch, 1, k}; an error at a zero ---- */

static bool singular_reciprocal_shape(const pl_call *call, pl_spec *out) {
  const int32_t *s = call->in[0]->shape;
  pl_spec_shape(out, 3, s[0], s[1], s[2]);
  return pl_is_stack(call, 0, false);
}
static void singular_reciprocal_run(const pl_call *call, pl_slot **out) {
  const pl_slot *s = call->in[0];
  int64_t k = s->shape[2];
  pl_stack_job j = {.dtype = (pl_dtype)s->dtype};
  double least = 0, x;
  for (int64_t i = 0; i < s->count; i++) {
    pl_stack_load(&j, s->data, i, 1, &x);
    if (i % k == 0) least = x * relative_least(k, k, s->dtype, 0);
    if (x <= least) {
      pl_error(
          call->c, PL_ERROR_NUMERIC,
          "svd: singular value %lld is zero (%g), and the matrix is not square: its vectors have no derivative; use "
          "the singular values alone, or a function of the matrix that does not go through them",
          (long long)(i % k) + 1, x);
      return;
    }
    x = 1 / x;
    pl_stack_store(&j, out[0]->data, i, 1, &x);
  }
}
static void singular_reciprocal_vjp(pl_vjp *v) {
  pl_value y = v->out[0];
  pl_vjp_give(v, 0, pl_negative(v->c, PL_BINARY(mul, v->c, v->g[0], PL_UNARY(square, v->c, y))));
}
static void singular_reciprocal_jvp(pl_jvp *j) {
  j->dt[0] = pl_negative(j->c, PL_BINARY(mul, j->c, j->t[0], PL_UNARY(square, j->c, j->out[0])));
}

/* ---- pseudo_inverse: {batch, m, n} -> {batch, n, m}; attribute rtol ---- */

static void pseudo_inverse_run(const pl_call *call, pl_slot **out) {
  const pl_slot *a = call->in[0];
  run_stack(call, inverse_each,
            &(pl_stack_job){.flag = true,
                            .out = {out[0]->data},
                            .tolerance = relative_least(a->shape[1], a->shape[2], a->dtype, call->attrs[0].r)});
}
static bool pseudo_inverse_shape(const pl_call *call, pl_spec *out) {
  const int32_t *a = call->in[0]->shape;
  pl_spec_shape(out, 3, a[0], a[2], a[1]);
  return pl_is_stack(call, 0, false);
}
/* A B C, the small product of the two first or the two last made first; bits of turned: which are transposed */
static pl_value triple(pl_context *c, pl_value A, pl_value B, pl_value C, int turned, bool last) {
  bool a = turned & 1, b = turned & 2, d = turned & 4;
  return last ? pl_product(c, A, pl_product(c, B, C, b, d), a, false)
              : pl_product(c, pl_product(c, A, B, a, b), C, false, d);
}
/* X' P P' - A P X' P P', and P' P X' - P' P X' P A: what both rules add to the derivative of an inverse */
static pl_value ends(pl_context *c, pl_value A, pl_value P, pl_value X, bool tall, bool left) {
  if (left) {
    pl_value Y = triple(c, X, P, P, 1 | 4, tall);
    return PL_BINARY(sub, c, Y, triple(c, A, P, Y, 0, true));
  }
  pl_value Y = triple(c, P, P, X, 1 | 4, tall);
  return PL_BINARY(sub, c, Y, triple(c, Y, P, A, 0, false));
}
static bool is_tall(pl_context *c, pl_value a) {
  pl_slot *s = pl_slot_get(c, a);
  return s && s->shape[1] >= s->shape[2];
}
static void pseudo_inverse_vjp(pl_vjp *v) { /* -P' g P' + (I - A P) g' P P' + P' P g' (I - P A) */
  pl_context *c = v->c;
  pl_value A = v->in[0], P = v->out[0], g = v->g[0];
  bool tall = is_tall(c, A);
  pl_value more = PL_BINARY(add, c, ends(c, A, P, g, tall, true), ends(c, A, P, g, tall, false));
  pl_vjp_give(v, 0, PL_BINARY(sub, c, more, triple(c, P, g, P, 1 | 4, !tall)));
}
static void pseudo_inverse_jvp(
    pl_jvp *j) { /* -P dA P + P P' dA' (I - A P) + (I - P A) dA' P' P: A and P change places */
  pl_context *c = j->c;
  pl_value A = j->in[0], P = j->out[0], E = j->t[0];
  bool tall = is_tall(c, A);
  pl_value D = PL_BINARY(sub, c, pl_transpose_last(c, E), triple(c, E, A, P, 1, true));
  pl_value first = triple(c, P, P, D, 2, !tall);
  pl_value F = triple(c, E, P, P, 1 | 2, !tall);
  pl_value last = PL_BINARY(sub, c, F, triple(c, P, A, F, 0, true));
  j->dt[0] = PL_BINARY(sub, c, PL_BINARY(add, c, first, last), triple(c, P, E, P, 0, tall));
}

/* ---- what users see ---- */

PL_EXPAND(svd) {
  (void)n, (void)attrs;
  pl_slot x;
  pl_value three[3], a = pl_stacked(c, op, in[0], false, &x);
  if (a == PL_NONE || !pl_apply(c, PL_OP(singular), 1, &a, NULL, three)) return false;
  int64_t rows = x.shape[x.rank - 2], columns = x.shape[x.rank - 1], k = rows < columns ? rows : columns;
  out[0] = pl_unstacked(c, three[0], &x, 2, (int64_t[]){rows, k});
  out[1] = pl_unstacked(c, three[1], &x, 1, &k);
  out[2] = pl_unstacked(c, three[2], &x, 2, (int64_t[]){k, columns});
  return c->status == PL_OK;
}
PL_EXPAND(svdvals) {
  (void)n, (void)attrs;
  pl_slot x;
  pl_value a = pl_stacked(c, op, in[0], false, &x);
  if (a == PL_NONE) return false;
  int64_t rows = x.shape[x.rank - 2], columns = x.shape[x.rank - 1], k = rows < columns ? rows : columns;
  out[0] = pl_unstacked(c, PL_UNARY(singular_values, c, a), &x, 1, &k);
  return out[0] != PL_NONE;
}
static bool bad_rtol(pl_context *c, const pl_op *op, double rtol) {
  if (rtol >= 0 && rtol < 1) return false;
  pl_error(c, PL_ERROR_ARGUMENT, "%s: rtol is at least 0 and below 1, not %g", op->name, rtol);
  return true;
}
PL_EXPAND(pinv) {
  (void)n;
  pl_slot x;
  pl_value a = pl_stacked(c, op, in[0], false, &x);
  if (a == PL_NONE || bad_rtol(c, op, attrs[0].r)) return false;
  out[0] = pl_unstacked(c, pl_call1(c, PL_OP(pseudo_inverse), a, attrs), &x, 2,
                        (int64_t[]){x.shape[x.rank - 1], x.shape[x.rank - 2]});
  return out[0] != PL_NONE;
}
PL_EXPAND(matrix_rank) {
  (void)n;
  pl_slot x;
  pl_value a = pl_stacked(c, op, in[0], false, &x);
  if (a == PL_NONE || bad_rtol(c, op, attrs[0].r)) return false;
  int64_t rows = x.shape[x.rank - 2], columns = x.shape[x.rank - 1];
  pl_value S = PL_UNARY(singular_values, c, PL_UNARY(stop_gradient, c, a));
  pl_value above = rows && columns ? counted(c, S, rows, columns, attrs[0].r) : S;
  out[0] = pl_unstacked(c, pl_sum_axis(c, pl_cast(c, above, PL_I64), 1), &x, 0, NULL);
  return out[0] != PL_NONE;
}
/* The norm of {batch, m, n}: 0 Frobenius, 1, 2, infinity. */
static pl_value norm_of(pl_context *c, pl_value a, double order) {
  static const int64_t both[] = {1, 2}, last = 1;
  if (order == 0) return pl_call1(c, PL_OP(norm2), a, (pl_attr[]){PL_INTS(2, both), PL_INT(0)});
  pl_value sums =
      order == 2 ? PL_UNARY(singular_values, c, a) : pl_sum_axis(c, PL_UNARY(abs, c, a), order == 1 ? 1 : 2);
  return pl_call1(c, PL_OP(max), sums, (pl_attr[]){PL_INTS(1, &last), PL_INT(0)});
}
static bool bad_order(pl_context *c, const pl_op *op, double order) {
  if (order == 0 || order == 1 || order == 2 || order == INFINITY) return false;
  pl_error(c, PL_ERROR_ARGUMENT, "%s: the order is 1, 2, infinity, or 0 for Frobenius' norm, not %g", op->name, order);
  return true;
}
/* x as {batch, m, n} with m, n > 0 */
static pl_value not_empty(pl_context *c, const pl_op *op, pl_value in, bool square, pl_slot *x) {
  pl_value a = pl_stacked(c, op, in, square, x);
  if (a == PL_NONE || (x->shape[x->rank - 2] && x->shape[x->rank - 1])) return a;
  char text[PL_TEXT];
  pl_error(c, PL_ERROR_SHAPE, "%s: matrices of shape %s have no elements", op->name,
           pl_shape_text(text, x->rank, x->shape));
  return PL_NONE;
}
PL_EXPAND(matrix_norm) {
  (void)n;
  pl_slot x;
  if (bad_order(c, op, attrs[0].r)) return false;
  if (attrs[1].i && attrs[0].r != 0) {
    pl_error(c, PL_ERROR_ARGUMENT, "%s: the nuclear norm has no order", op->name);
    return false;
  }
  pl_value a = not_empty(c, op, in[0], false, &x);
  if (a == PL_NONE) return false;
  out[0] = attrs[1].i ? pl_sum_axis(c, PL_UNARY(singular_values, c, a), 1) : norm_of(c, a, attrs[0].r);
  out[0] = pl_unstacked(c, out[0], &x, 0, NULL);
  return out[0] != PL_NONE;
}
PL_EXPAND(condition_number) {
  (void)n;
  pl_slot x;
  double order = attrs[0].r;
  if (bad_order(c, op, order)) return false;
  pl_value a = not_empty(c, op, in[0], order != 2, &x), y;
  if (a == PL_NONE) return false;
  if (order == 2) {
    int64_t k = x.shape[x.rank - 2] < x.shape[x.rank - 1] ? x.shape[x.rank - 2] : x.shape[x.rank - 1];
    pl_value S = PL_UNARY(singular_values, c, a);
    y = PL_BINARY(div, c, pl_part(c, S, 1, 0, 1, 1), pl_part(c, S, 1, k - 1, 1, 1));
  } else {
    y = PL_BINARY(mul, c, norm_of(c, a, order), norm_of(c, PL_UNARY(inv, c, a), order));
  }
  out[0] = pl_unstacked(c, y, &x, 0, NULL);
  return out[0] != PL_NONE;
}

/* ---- samples: singular values about 1, 2, 3 ... ---- */

#define APART(...) pl_sample_matrices(c, r, 0.15, 1, 1, __VA_ARGS__)
PL_SAMPLE(stack) {
  if (k > 2) return false;
  s->n = 1;
  s->attrs[0] = PL_REALV(0);
  s->in[0] = k == 0 ? APART(3, 2, 3, 3) : k == 1 ? APART(3, 1, 5, 3) : APART(3, 2, 2, 4);
  return true;
}
PL_SAMPLE(row) {
  if (k > 0) return false;
  s->n = 1;
  s->in[0] = pl_sample_tensor(c, r, 1, 2, 3, 2, 1, 3);
  return true;
}
PL_SAMPLE(matrices) {
  if (k > 3) return false;
  s->n = 1;
  s->attrs[0] = PL_REALV(0);
  s->attrs[1] = PL_INT(0);
  s->in[0] = k == 0   ? APART(2, 4, 4)
             : k == 1 ? APART(4, 2, 1, 4, 3)
             : k == 2 ? APART(2, 3, 5)
                      : pl_sample_tensor(c, r, 1, 2, 3, 2, 1, 1);
  return true;
}
PL_SAMPLE(norms) {
  static const double orders[] = {0, 1, 2, INFINITY, 0};
  if (k > 4) return false;
  s->n = 1;
  s->attrs[0] = PL_REALV(orders[k]);
  s->attrs[1] = PL_INT(k == 4);
  s->in[0] = k & 1 ? APART(2, 3, 3) : APART(3, 2, 3, 3);
  return true;
}

#define RTOL                         \
  {                                  \
    { "rtol", PL_AS_REAL, false, 0 } \
  }
pl_op pl_ops_svd[] = {
    {PL_STACK_ROW(singular, "U, S, V' of stacks", 1, 3, stack)},
    {PL_STACK_ROW(singular_values, "S of stacks", 1, 1, stack)},
    {PL_STACK_ROW(singular_reciprocal, "1/S; an error at a zero", 1, 1, row)},
    {PL_STACK_ROW(pseudo_inverse, "V S^+ U' of stacks", 1, 1, stack), .attrs = RTOL},
    {PL_USER_ROW(svd,
                 "U, S, V' with A = U diag(S) V', S descending, reduced to min(m, n) columns of U and V; the largest "
                 "component of each column of U is positive",
                 1, 3, matrices),
     .shapes = "{..., m, n} -> {..., m, k}, {..., k}, {..., k, n}, k = min(m, n)",
     .derivative =
         "of vectors whose singular values coincide, or vanish where m is not n: an error; of a singular value at "
         "zero: 0; any order",
     .accuracy = "backward stable; in f64, whatever the dtype", .source = "LAPACK gesdd; Townsend 2016"},
    {PL_USER_ROW(svdvals, "singular values, descending", 1, 1, matrices), .shapes = "{..., m, n} -> {..., min(m, n)}",
     .derivative = "0 of a singular value at zero, to max(m, n) eps of the largest; any order where they are distinct",
     .source = "LAPACK gesdd"},
    {PL_USER_ROW(
         pinv,
         "the pseudo-inverse; singular values up to rtol times the largest count as zero (0, the default: max(m, n) "
         "eps)",
         1, 1, matrices),
     .shapes = "{..., m, n} -> {..., n, m}", .derivative = "at constant rank; any order",
     .source = "LAPACK gesdd; Golub & Pereyra 1973", .attrs = RTOL},
    {PL_USER_ROW(matrix_rank,
                 "how many singular values are above rtol times the largest (0, the default: max(m, n) eps); i64", 1, 1,
                 matrices),
     .shapes = "{..., m, n} -> {...}", .source = "LAPACK gesdd", .attrs = RTOL},
    {PL_USER_ROW(
         matrix_norm,
         "norm of matrices: Frobenius' (order 0, the default), of order 1 (largest column sum), 2 (largest singular "
         "value) or infinity (largest row sum); or nuclear, the sum of singular values",
         1, 1, norms),
     .shapes = "{..., m, n} -> {...}",
     .derivative =
         "Frobenius' is 0 at 0; nuclear: U V' of the singular values above zero; where the largest tie, of sums it "
         "is shared, of singular values each takes its share with the vectors that LAPACK gives",
     .attrs = {{"order", PL_AS_REAL, false, 0}, {"nuclear", PL_AS_FLAG, false, 0}}},
    {PL_USER_ROW(condition_number,
                 "condition number |A| |A^-1| of order 2 (the default: the largest by the least singular value), 1, "
                 "infinity, or 0 for Frobenius' norm",
                 1, 1, norms),
     .shapes = "{..., m, n} -> {...}; m = n unless the order is 2",
     .accuracy = "infinite where a singular value is exactly 0; of other orders a singular matrix is an error",
     .attrs = {{"order", PL_AS_REAL, false, 2}}},
    {0},
};
