/* least_squares.c: the op rows of least squares and minimum norm. P = A^+ for A of full column rank; with r = b - A x:
 * x = P b: dx = P(db - dA x) + P P' dA' r; y = P'b: dy = P'(db - dA'y) + (I - A P) dA P y (G. Golub, V. Pereyra, SIAM
 * J. Numer. Anal. 10, 1973). */
#include "sparse_rows.h"

#include "../solve/least_squares.h"

static pl_resource *qr_make(const pl_call *call) {
  pl_pattern *p = PATTERN(call->attrs);
  if (!pl_sparse_is_vector(call, 0, p->nnz, "the matrix's values")) return NULL;
  return pl_qr_factor(call->c, p, call->in[0]->data);
}

static bool belongs(const pl_call *call, pl_resource *f) {
  if (f && pl_qr_pattern(f) == PATTERN(call->attrs)) return true;
  if (f) pl_error(call->c, PL_ERROR_ARGUMENT, "lstsq: the factor belongs to another matrix");
  return false;
}
static bool qr_solve_shape(const pl_call *call, pl_spec *out) {
  pl_pattern *p = PATTERN(call->attrs);
  bool t = call->attrs[1].i, traced = call->in[0]->flags & PL_FLAG_TRACED;
  if (!traced && !belongs(call, pl_slot_resource(call->c, call->in[0], "least-squares factor"))) return false;
  if (!pl_sparse_is_vector(call, 1, p->nnz, "the matrix's values") ||
      !pl_sparse_is_block(call, 2, t ? p->cols : p->rows, "the right-hand side"))
    return false;
  out->rank = call->in[2]->rank;
  memcpy(out->shape, call->in[2]->shape, sizeof out->shape);
  out->shape[0] = t ? p->rows : p->cols;
  return true;
}
static void qr_solve_run(const pl_call *call, pl_slot **out) {
  const pl_slot *b = call->in[2];
  pl_resource *f = pl_slot_resource(call->c, call->in[0], "least-squares factor");
  if (!belongs(call, f)) return;
  pl_qr_solve(call->c, f, call->attrs[1].i, b->rank == 2 ? b->shape[1] : 1, b->data, out[0]->data);
}

/* P b or P'b; A x or A'x */
static pl_value inverse(pl_context *c, const pl_value *in, const pl_attr *attrs, pl_value b, bool transpose) {
  return b == PL_ZERO ? b
                      : pl_call3(c, PL_OP(sparse_qr_solve), in[0], in[1], b, (pl_attr[]){attrs[0], PL_INT(transpose)});
}
static pl_value outside(pl_context *c, const pl_value *in, const pl_attr *attrs, pl_value x) { /* (I - A P) x */
  return pl_minus(c, x, pl_spmv(c, in[1], inverse(c, in, attrs, x, false), attrs, false));
}

static void qr_solve_vjp(pl_vjp *v) {
  pl_context *c = v->c;
  pl_value g = v->g[0], x = v->out[0], b = v->in[2];
  bool t = v->attrs[1].i;
  pl_value lambda = inverse(c, v->in, v->attrs, g, !t);
  if (v->need[2]) pl_vjp_give(v, 2, lambda);
  if (!v->need[1]) return;
  pl_value more;
  if (t) {
    more = pl_sddmm(c, outside(c, v->in, v->attrs, g), inverse(c, v->in, v->attrs, x, false), v->attrs);
    pl_vjp_give(v, 1, pl_minus(c, more, pl_sddmm(c, x, lambda, v->attrs)));
  } else {
    pl_value r = pl_minus(c, b, pl_spmv(c, v->in[1], x, v->attrs, false));
    more = pl_sddmm(c, r, inverse(c, v->in, v->attrs, lambda, false), v->attrs);
    pl_vjp_give(v, 1, pl_minus(c, more, pl_sddmm(c, lambda, x, v->attrs)));
  }
}
static void qr_solve_jvp(pl_jvp *j) {
  pl_context *c = j->c;
  pl_value da = j->t[1], x = j->out[0], more;
  bool t = j->attrs[1].i;
  pl_value d = inverse(c, j->in, j->attrs, pl_minus(c, j->t[2], pl_spmv(c, da, x, j->attrs, t)), t);
  if (da == PL_ZERO) {
    j->dt[0] = d;
    return;
  }
  if (t) {
    more = outside(c, j->in, j->attrs, pl_spmv(c, da, inverse(c, j->in, j->attrs, x, false), j->attrs, false));
  } else {
    pl_value r = pl_minus(c, j->in[2], pl_spmv(c, j->in[1], x, j->attrs, false));
    pl_value s = inverse(c, j->in, j->attrs, pl_spmv(c, da, r, j->attrs, true), true);
    more = inverse(c, j->in, j->attrs, s, false);
  }
  j->dt[0] = pl_plus(c, d, more);
}

/* ---- factor and solve; samples: see solve.c ---- */

static bool least_squares_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                                 pl_value *out) {
  (void)op, (void)n;
  pl_value f = pl_call1(c, PL_OP(sparse_qr), in[0], attrs);
  out[0] = pl_call3(c, PL_OP(sparse_qr_solve), f, in[0], in[1], attrs);
  return out[0] != PL_NONE;
}
static bool least_squares_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  if (k > 3) return false;
  pl_pattern *p = pl_sample_pattern(c, 6, 4);
  if (!p) return false;
  s->n = 2;
  s->object = &p->base;
  s->attrs[0] = PL_OBJECT(s->object);
  s->attrs[1] = PL_INT(k & 1);
  s->in[0] = pl_sample_diagonal(c, r, p, 4);
  s->in[1] = pl_sample_tensor(c, r, -1, 1, k & 2 ? 2 : 1, k & 1 ? 4 : 6, 3);
  return true;
}
static bool qr_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  if (k > 0 || !least_squares_sample(c, r, 0, s)) return false;
  pl_release(c, s->in[1]);
  s->n = 1;
  return true;
}
static bool qr_solve_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  if (k > 0 || !least_squares_sample(c, r, 0, s)) return false;
  pl_value values = s->in[0];
  s->n = 3;
  s->in[2] = s->in[1];
  s->in[1] = pl_call1(c, PL_OP(cast), values, &PL_INT(PL_I64)); /* whole numbers are not active */
  pl_value whole = pl_call1(c, PL_OP(cast), s->in[1], &PL_INT(PL_F64));
  s->in[0] = pl_call1(c, PL_OP(sparse_qr), whole, s->attrs);
  pl_release(c, whole);
  pl_release(c, values);
  return true;
}

pl_op pl_ops_least_squares[] = {
    {ROW("sparse_qr", "the QR factors of a sparse matrix with no more columns than rows", 1), .kind = PL_OPAQUE,
     .dtypes = PL_IN_F64, .attrs = {OBJECT("pattern")}, .make = qr_make, .sample = qr_sample},
    {ROW("sparse_qr_solve", "A^+ b, or A^+' b, by the QR factors of A", 3), .kind = PL_OPAQUE, .keeps = 1,
     .dtypes = PL_IN_F64, .attrs = {OBJECT("pattern"), FLAG("transpose")}, .shape = qr_solve_shape, .run = qr_solve_run,
     .vjp = qr_solve_vjp, .jvp = qr_solve_jvp, .sample = qr_solve_sample},
    {ROW("sparse_lstsq", "QR factors and solve", 2), .kind = PL_COMPOSITE,
     .attrs = {OBJECT("pattern"), FLAG("transpose")}, .expand = least_squares_expand, .sample = least_squares_sample},
    {0},
};
