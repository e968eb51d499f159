/* logdet.c: the op rows of determinants of sparse matrices: d log|det A| = tr(A^-1 dA). The derivative is the inverse
 * on A's pattern; the derivatives of that are chains A^-1 T_1 A^-1 ... T_m A^-1 on the pattern, T_l with A's pattern:
 * one op, closed under its derivatives, for <G, chain(T_1 ... T_m)> = tr(G A^-1 T_1 ... T_m A^-1) is cyclic. */
#include "sparse_rows.h"

#include "../solve/direct.h"

static bool belongs(const pl_call *call, bool running) {
  if (!running && call->in[0]->flags & PL_FLAG_TRACED) return true;
  pl_resource *f = pl_slot_resource(call->c, call->in[0], "matrix factor");
  if (f && pl_direct_pattern(f) == PATTERN(call->attrs)) return true;
  if (f) pl_error(call->c, PL_ERROR_ARGUMENT, "logdet: the factor belongs to another matrix");
  return false;
}
static bool fits(const pl_call *call) {
  for (int k = 1; k < call->n; k++)
    if (!pl_sparse_is_vector(call, k, PATTERN(call->attrs)->nnz, "the matrix's values")) return false;
  if (call->n >= 2) return belongs(call, false);
  pl_error(call->c, PL_ERROR_ARGUMENT, "%s: a factor and its values are needed", call->op->name);
  return false;
}

/* ---- factor_logdet: log |det A| and the sign ---- */

static bool logdet_shape(const pl_call *call, pl_spec *out) {
  out[0].rank = out[1].rank = 0;
  return fits(call);
}
static void logdet_run(const pl_call *call, pl_slot **out) {
  if (!belongs(call, true)) return;
  pl_resource *f = pl_slot_resource(call->c, call->in[0], "matrix factor");
  ((double *)out[0]->data)[0] = pl_direct_logdet(call->c, f, out[1]->data);
}
static pl_value inverse(pl_context *c, const pl_value *in, const pl_attr *attrs) {
  return pl_call2(c, PL_OP(inverse_chain), in[0], in[1], attrs);
}
static void logdet_vjp(pl_vjp *v) {
  if (v->need[1]) pl_vjp_give(v, 1, pl_times(v->c, v->g[0], inverse(v->c, v->in, v->attrs)));
}
static void logdet_jvp(pl_jvp *j) {
  pl_value product = pl_times(j->c, inverse(j->c, j->in, j->attrs), j->t[1]);
  j->dt[0] = pl_sum_to(j->c, product, j->out[0]);
}

/* ---- inverse_chain: factor, values, T_1, ..., T_m -> M_ji at the entry (i, j) ---- */

static bool chain_shape(const pl_call *call, pl_spec *out) {
  out->rank = 1;
  out->shape[0] = PATTERN(call->attrs)->nnz;
  return fits(call);
}
static void chain_run(const pl_call *call, pl_slot **out) {
  if (!belongs(call, true)) return;
  const double *t[PL_MAX_INPUTS];
  for (int k = 1; k < call->n; k++) t[k - 1] = call->in[k]->data;
  pl_direct_inverse(call->c, pl_slot_resource(call->c, call->in[0], "matrix factor"), t[0], call->n - 2, t + 1,
                    out[0]->data);
}

/* The chain of m matrices; PL_ZERO where one is. */
static pl_value chain(pl_context *c, const pl_value *in, int m, const pl_value *t, const pl_attr *attrs) {
  pl_value all[PL_MAX_INPUTS];
  if (m > PL_MAX_INPUTS - 2) {
    pl_error(c, PL_ERROR_ARGUMENT, "logdet: derivatives of this order are not offered");
    return PL_NONE;
  }
  all[0] = in[0], all[1] = in[1];
  for (int k = 0; k < m; k++) {
    if (t[k] == PL_ZERO) return PL_ZERO;
    all[k + 2] = t[k];
  }
  return pl_apply1(c, PL_OP(inverse_chain), m + 2, all, attrs);
}
static void chain_vjp(pl_vjp *v) {
  int m = v->n - 2;
  const pl_value *t = v->in + 2;
  pl_value around[PL_MAX_INPUTS];
  for (int k = 0; k < m; k++) { /* T_k: chain(T_k+1 ... T_m, G, T_1 ... T_k-1) */
    if (!v->need[k + 2]) continue;
    int n = 0;
    for (int l = k + 1; l < m; l++) around[n++] = t[l];
    around[n++] = v->g[0];
    for (int l = 0; l < k; l++) around[n++] = t[l];
    pl_vjp_give(v, k + 2, chain(v->c, v->in, m, around, v->attrs));
  }
  for (int k = 0; v->need[1] && k <= m; k++) { /* A: minus the chains around each of its m + 1 inverses */
    int n = 0;
    for (int l = k; l < m; l++) around[n++] = t[l];
    around[n++] = v->g[0];
    for (int l = 0; l < k; l++) around[n++] = t[l];
    pl_vjp_give(v, 1, pl_negative(v->c, chain(v->c, v->in, m + 1, around, v->attrs)));
  }
}
static void chain_jvp(pl_jvp *j) {
  int m = j->n - 2;
  const pl_value *t = j->in + 2;
  pl_value with[PL_MAX_INPUTS], d = PL_ZERO;
  for (int k = 0; k < m; k++) {
    memcpy(with, t, (size_t)m * sizeof *t);
    with[k] = j->t[k + 2];
    d = pl_plus(j->c, d, chain(j->c, j->in, m, with, j->attrs));
  }
  for (int k = 0; k <= m; k++) {
    memcpy(with, t, (size_t)k * sizeof *t);
    with[k] = j->t[1];
    memcpy(with + k + 1, t + k, (size_t)(m - k) * sizeof *t);
    d = pl_minus(j->c, d, chain(j->c, j->in, m + 1, with, j->attrs));
  }
  j->dt[0] = d;
}

/* ---- with the factor made anew, for the conformance test ---- */

static bool anew_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                        pl_value *out) {
  (void)op;
  pl_value all[PL_MAX_SAMPLE] = {pl_call1(c, PL_OP(factor), in[0], (pl_attr[]){attrs[0], PL_INT(attrs[1].i)})};
  memcpy(all + 1, in, (size_t)n * sizeof *in);
  if (n > 1) {
    out[0] = pl_apply1(c, PL_OP(inverse_chain), n + 1, all, attrs);
    return out[0] != PL_NONE;
  }
  pl_value both[2];
  if (!pl_apply(c, PL_OP(factor_logdet), 2, all, attrs, both)) return false;
  out[0] = both[0];
  return true;
}
static bool anew_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  static const pl_solver methods[] = {PL_SOLVER_KLU, PL_SOLVER_UMFPACK, PL_SOLVER_DENSE};
  if (k > 7) return false;
  pl_pattern *p = pl_sample_pattern(c, 6, 6);
  if (!p) return false;
  s->n = 1 + k / 3;
  s->object = &p->base;
  s->attrs[0] = PL_OBJECT(s->object);
  s->attrs[1] = PL_INT(methods[k % 3]);
  s->in[0] = pl_sample_diagonal(c, r, p, 6);
  for (int l = 1; l < s->n; l++) s->in[l] = pl_sample_tensor(c, r, -1, 1, 1, p->nnz);
  return true;
}
static bool fixed_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s, int most) {
  if (k > most || !anew_sample(c, r, 3 * k, s)) return false;
  pl_value values = s->in[0];
  for (int l = s->n; l > 1; l--) s->in[l] = s->in[l - 1];
  s->in[1] = pl_call1(c, PL_OP(cast), values, &PL_INT(PL_I64)); /* whole numbers are not active */
  pl_value whole = pl_call1(c, PL_OP(cast), s->in[1], &PL_INT(PL_F64));
  s->in[0] = pl_call1(c, PL_OP(factor), whole, s->attrs);
  s->n++;
  pl_release(c, whole);
  pl_release(c, values);
  return true;
}
static bool logdet_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  return fixed_sample(c, r, k, s, 0);
}
static bool chain_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  return fixed_sample(c, r, k, s, 2);
}

pl_op pl_ops_logdet[] = {
    {.name = "factor_logdet",
     .formula = "log |det A| and the sign of det A by the factor of A",
     .kind = PL_OPAQUE,
     .inputs = 2,
     .outputs = 2,
     .internal = true,
     .keeps = 1,
     .dtypes = PL_IN_F64,
     .attrs = {OBJECT("pattern")},
     .shape = logdet_shape,
     .run = logdet_run,
     .vjp = logdet_vjp,
     .jvp = logdet_jvp,
     .sample = logdet_sample},
    {ROW("inverse_chain", "M_ji at each entry (i, j) of A, M = A^-1 T_1 A^-1 ... T_m A^-1", -1), .kind = PL_OPAQUE,
     .keeps = 1, .dtypes = PL_IN_F64, .attrs = {OBJECT("pattern")}, .shape = chain_shape, .run = chain_run,
     .vjp = chain_vjp, .jvp = chain_jvp, .sample = chain_sample},
    {ROW("logdet_anew", "factor and log |det A|, or a chain of inverses", -1), .kind = PL_COMPOSITE,
     .attrs = {OBJECT("pattern"), INT("method")}, .expand = anew_expand, .sample = anew_sample},
    {0},
};
