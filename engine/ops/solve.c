/* solve.c: the op rows of direct solves: a factor is a resource, made once; solves with it, their tangents and adjoints
 * use it again. */
#include <math.h>

#include "sparse_rows.h"

#include "../solve/direct.h"

static pl_resource *factor_make(const pl_call *call) {
  pl_pattern *p = PATTERN(call->attrs);
  if (!pl_sparse_is_vector(call, 0, p->nnz, "the matrix's values")) return NULL;
  return pl_direct_factor(call->c, p, call->in[0]->data, (pl_solver)call->attrs[1].i);
}

static bool solve_shape(const pl_call *call, pl_spec *out) {
  pl_pattern *p = PATTERN(call->attrs);
  bool traced = call->in[0]->flags & PL_FLAG_TRACED;
  pl_resource *f = traced ? NULL : pl_slot_resource(call->c, call->in[0], "matrix factor");
  if (!pl_sparse_is_vector(call, 1, p->nnz, "the matrix's values") ||
      !pl_sparse_is_block(call, 2, p->rows, "the right-hand side"))
    return false;
  if (f && pl_direct_pattern(f) != p) {
    pl_error(call->c, PL_ERROR_ARGUMENT, "solve: the factor belongs to another matrix");
    return false;
  }
  if (!f && !traced) return false;
  out->rank = call->in[2]->rank;
  memcpy(out->shape, call->in[2]->shape, sizeof out->shape);
  return true;
}
static void solve_run(const pl_call *call, pl_slot **out) {
  const pl_slot *b = call->in[2];
  pl_resource *f = pl_slot_resource(call->c, call->in[0], "matrix factor");
  if (f && pl_direct_pattern(f) != PATTERN(call->attrs)) /* the shape rule could not see it in a trace */
    pl_error(call->c, PL_ERROR_ARGUMENT, "solve: the factor belongs to another matrix");
  if (!f || call->c->status) return;
  pl_direct_solve(call->c, f, call->in[1]->data, call->attrs[1].i, b->rank == 2 ? b->shape[1] : 1, b->data,
                  out[0]->data);
}
static pl_value solve(pl_context *c, const pl_value *in, pl_value b, const pl_attr *attrs, bool transpose) {
  return b == PL_ZERO ? b
                      : pl_call3(c, PL_OP(factored_solve), in[0], in[1], b, (pl_attr[]){attrs[0], PL_INT(transpose)});
}
/* A x = b: lambda = A'^-1 g, b_bar = lambda, A_bar = -lambda x' on the pattern; for A' the factors change places */
static void solve_vjp(pl_vjp *v) {
  pl_context *c = v->c;
  bool t = v->attrs[1].i;
  pl_value lambda = solve(c, v->in, v->g[0], v->attrs, !t);
  if (v->need[1])
    pl_vjp_give(
        v, 1, pl_negative(c, t ? pl_sddmm(c, v->out[0], lambda, v->attrs) : pl_sddmm(c, lambda, v->out[0], v->attrs)));
  if (v->need[2]) pl_vjp_give(v, 2, lambda);
}
static void solve_jvp(pl_jvp *j) {
  bool t = j->attrs[1].i;
  j->dt[0] = solve(j->c, j->in, pl_minus(j->c, j->t[2], pl_spmv(j->c, j->t[1], j->out[0], j->attrs, t)), j->attrs, t);
}

/* ---- check_null: b, where A Q = 0 and A'Q = 0; an error where not. Nothing flows to A and Q ---- */

static bool check_null_shape(const pl_call *call, pl_spec *out) {
  pl_pattern *p = PATTERN(call->attrs);
  if (!pl_sparse_is_vector(call, 0, p->nnz, "the matrix's values") ||
      !pl_sparse_is_block(call, 1, p->rows, "the null space") ||
      !pl_sparse_is_block(call, 2, p->rows, "the right-hand side"))
    return false;
  out->rank = call->in[2]->rank;
  memcpy(out->shape, call->in[2]->shape, sizeof out->shape);
  return true;
}
static void check_null_run(const pl_call *call, pl_slot **out) {
  const pl_pattern *p = PATTERN(call->attrs);
  int64_t n = p->rows, k = call->in[1]->rank == 2 ? call->in[1]->shape[1] : 1;
  const double *a = call->in[0]->data, *q = call->in[1]->data;
  double *sum = pl_memory_new(call->c, (size_t)n * 2 * sizeof *sum), *across = sum + n, most = 0, size = 0;
  for (int64_t j = 0; sum && j < k; j++) {
    memset(sum, 0, (size_t)n * 2 * sizeof *sum);
    for (int32_t i = 0; i < n; i++)
      for (int32_t t = p->row_ptr[i]; t < p->row_ptr[i + 1]; t++) {
        sum[i] += a[t] * q[p->col[t] * k + j];
        across[p->col[t]] += a[t] * q[i * k + j];
        size = fmax(size, fabs(a[t] * q[i * k + j]));
      }
    for (int64_t i = 0; i < 2 * n; i++) most = fmax(most, fabs(sum[i]));
  }
  pl_memory_free(call->c, sum);
  if (most > 1e-8 * size)
    pl_error(
        call->c, PL_ERROR_NUMERIC,
        "solve: the matrix times its null space is not zero: up to %.3g beside entries of %.3g (A and its transpose "
        "must both map it to zero)",
        most, size);
  memcpy(out[0]->data, call->in[2]->data, (size_t)out[0]->count * sizeof(double));
}
static void check_null_vjp(pl_vjp *v) {
  for (int k = 0; k < 2; k++)
    if (v->need[k]) pl_vjp_give(v, k, PL_ZERO);
  if (v->need[2]) pl_vjp_give(v, 2, v->g[0]);
}
static void check_null_jvp(pl_jvp *j) { j->dt[0] = j->t[2]; }
static bool check_null_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  if (k > 0) return false;
  pl_pattern *p = pl_pattern_new(c, 2, 2, (int32_t[]){0, 2, 4}, (int32_t[]){0, 1, 0, 1});
  if (!p) return false;
  s->n = 3;
  s->object = &p->base;
  s->attrs[0] = PL_OBJECT(s->object);
  s->in[0] = pl_tensor(c, PL_I64, 1, (int64_t[]){4}, (int64_t[]){3, -3, -3, 3}); /* whole numbers are not active */
  s->in[1] = pl_tensor(c, PL_I64, 2, (int64_t[]){2, 1}, (int64_t[]){1, 1});
  s->in[2] = pl_sample_tensor(c, r, -1, 1, 1, 2);
  return true;
}

/* ---- samples ---- */

pl_value pl_sample_diagonal(pl_context *c, pl_sampler_random *r, const pl_pattern *p, double most) {
  pl_value v = pl_sample_tensor(c, r, -1, 1, 1, p->nnz);
  pl_slot *s = pl_slot_get(c, v);
  for (int32_t i = 0; s && i < p->rows; i++)
    for (int32_t k = p->row_ptr[i]; k < p->row_ptr[i + 1]; k++)
      if (p->col[k] == i) ((double *)s->data)[k] += most;
  return v;
}
static bool factor_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  if (k > 0) return false;
  pl_pattern *p = pl_sample_pattern(c, 6, 6);
  if (!p) return false;
  s->n = 1;
  s->object = &p->base;
  s->attrs[0] = PL_OBJECT(s->object);
  s->attrs[1] = PL_INT(PL_SOLVER_AUTO);
  s->in[0] = pl_sample_diagonal(c, r, p, 6);
  return true;
}
/* The conformance test moves the values: its solve must factor them anew, so it goes through a composite. */
static bool solve_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                         pl_value *out) {
  (void)op, (void)n;
  pl_value f = pl_call1(c, PL_OP(factor), in[0], (pl_attr[]){attrs[0], PL_INT(attrs[2].i)});
  out[0] = pl_call3(c, PL_OP(factored_solve), f, in[0], in[1], attrs);
  return out[0] != PL_NONE;
}
static bool solve_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  static const pl_solver methods[] = {PL_SOLVER_KLU, PL_SOLVER_KLU, PL_SOLVER_UMFPACK, PL_SOLVER_BANDED,
                                      PL_SOLVER_DENSE};
  if (k > 9) return false;
  pl_pattern *p = pl_sample_pattern(c, 6, 6);
  if (!p) return false;
  s->n = 2;
  s->object = &p->base;
  s->attrs[0] = PL_OBJECT(s->object);
  s->attrs[1] = PL_INT(k & 1);
  s->attrs[2] = PL_INT(methods[k / 2]);
  s->in[0] = pl_sample_diagonal(c, r, p, 6);
  s->in[1] = pl_sample_tensor(c, r, -1, 1, k & 2 ? 2 : 1, 6, 3);
  return true;
}
/* solve itself is sampled where it is not moved: at a fixed factor it is linear in b */
static bool bare_solve_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  if (k > 0 || !factor_sample(c, r, k, s)) return false;
  pl_value values = s->in[0];
  s->n = 3;
  s->in[1] = pl_call1(c, PL_OP(cast), values, &PL_INT(PL_I64)); /* whole numbers are not active */
  pl_value whole = pl_call1(c, PL_OP(cast), s->in[1], &PL_INT(PL_F64));
  s->in[0] = pl_call1(c, PL_OP(factor), whole, s->attrs);
  pl_release(c, whole);
  pl_release(c, values);
  s->in[2] = pl_sample_tensor(c, r, -1, 1, 1, 6);
  s->attrs[1] = PL_INT(1);
  return true;
}

pl_op pl_ops_solve[] = {
    {ROW("factor", "the factor of a sparse matrix", 1), .kind = PL_OPAQUE, .dtypes = PL_IN_F64,
     .attrs = {OBJECT("pattern"), INT("method")}, .make = factor_make, .sample = factor_sample},
    {ROW("factored_solve", "A^-1 b, or A'^-1 b, by the factor of A", 3), .kind = PL_OPAQUE, .keeps = 1,
     .dtypes = PL_IN_F64, .attrs = {OBJECT("pattern"), FLAG("transpose")}, .shape = solve_shape, .run = solve_run,
     .vjp = solve_vjp, .jvp = solve_jvp, .sample = bare_solve_sample},
    {ROW("check_null", "b, where the matrix maps the columns of Q to zero, and an error where not", 3),
     .kind = PL_OPAQUE, .dtypes = PL_IN_F64, .attrs = {OBJECT("pattern")}, .shape = check_null_shape,
     .run = check_null_run, .vjp = check_null_vjp, .jvp = check_null_jvp, .sample = check_null_sample},
    {ROW("factor_solve", "factor and solve", 2), .kind = PL_COMPOSITE,
     .attrs = {OBJECT("pattern"), FLAG("transpose"), INT("method")}, .expand = solve_expand, .sample = solve_sample},
    {0},
};
