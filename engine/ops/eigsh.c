/* eigsh.c: the op rows of a few eigenpairs of a sparse symmetric pencil, A V = M V diag(w), V'MV = I. With H_i = (dA -
 * w_i dM) v_i and C = V'H: dw = diag C, dV = V K - G H, K_ji = C_ji/(w_i - w_j), K_ii = -v_i'dM v_i/2, G_i the inverse
 * of A - w_i M between what is orthogonal to V (solve/eigen.h; R. Nelson, AIAA J. 14, 1976, says it with one vector).
 * With B_i = A - w_i M, E = dM V + M dV: d(G r) = G (dr - dB G r - E V'r) - V E'G r. Tangents of A and M are
 * symmetrized. Where eigenvalues coincide vectors have no derivative; a function that does not turn with them has, in
 * reverse. */
#include "sparse_rows.h"

#include "../solve/eigen.h"
#include "linalg.h"

static bool eigs_shape(const pl_call *call, pl_spec *out) {
  pl_pattern *p = PATTERN(call->attrs);
  int64_t k = call->attrs[1].i;
  if (!pl_sparse_is_vector(call, 0, p->nnz, "A's values") || !pl_sparse_is_vector(call, 1, p->nnz, "M's values"))
    return false;
  if (p->rows != p->cols) {
    pl_error(call->c, PL_ERROR_SHAPE, "eigsh: the matrix {%d, %d} is not square", p->rows, p->cols);
    return false;
  }
  if (k < 1 || k > p->rows || (k > 300 && 3 * k < p->rows) || (3 * k >= p->rows && p->rows > 5000)) {
    pl_error(call->c, PL_ERROR_ARGUMENT, "eigsh: %lld eigenvalues of a matrix {%d, %d}: 1 to %d are possible",
             (long long)k, p->rows, p->cols,
             p->rows < 900 || p->rows > 5000 ? (p->rows < 300 ? p->rows : 300) : p->rows);
    return false;
  }
  if (call->attrs[2].i < PL_EIGEN_SMALLEST || call->attrs[2].i > PL_EIGEN_NEAR) {
    pl_error(call->c, PL_ERROR_ARGUMENT, "eigsh: no such choice of eigenvalues, %lld", (long long)call->attrs[2].i);
    return false;
  }
  pl_spec_shape(&out[0], 1, k, 0, 0);
  pl_spec_shape(&out[1], 2, p->rows, k, 0);
  return true;
}
static void eigs_run(const pl_call *call, pl_slot **out) {
  const pl_attr *t = call->attrs;
  pl_eigen_options o = {
      .k = t[1].i, .which = (pl_eigen_which)t[2].i, .sigma = t[3].r, .rtol = t[4].r, .restarts = t[5].i};
  pl_eigen_symmetric(call->c, PATTERN(t), call->in[0]->data, call->in[1]->data, &o, out[0]->data, out[1]->data);
}

/* ---- what the rules are written with ---- */

static pl_value half(pl_context *c, pl_value x) { return x == PL_ZERO ? x : PL_BINARY(mul, c, x, pl_like(c, x, 0.5)); }
static pl_value times(pl_context *c, pl_value v, pl_value x, const pl_attr *attrs) { /* (T + T')/2 x */
  return half(c, pl_plus(c, pl_spmv(c, v, x, attrs, false), pl_spmv(c, v, x, attrs, true)));
}
static pl_value outer(pl_context *c, pl_value x, pl_value y, const pl_attr *attrs) { /* its adjoint in T */
  return half(c, pl_plus(c, pl_sddmm(c, x, y, attrs), pl_sddmm(c, y, x, attrs)));
}
static pl_value turned(pl_context *c, pl_value x) { return x == PL_ZERO ? x : pl_transpose_last(c, x); }
static pl_value inner(pl_context *c, pl_value x, pl_value y) { return pl_product(c, x, y, true, false); } /* x'y */
static pl_value by(pl_context *c, pl_value x, pl_value y) { return pl_product(c, x, y, false, false); }
static pl_value gaps(pl_context *c, pl_value w, pl_value m, pl_gaps of) { /* M_ij/(w_j - w_i) */
  if (m == PL_ZERO) return m;
  pl_slot *s = pl_slot_get(c, w);
  if (!s) return PL_NONE;
  int64_t k = s->shape[0];
  pl_value g =
      pl_over_gaps(c, pl_reshape_to(c, w, 2, (int64_t[]){1, k}), pl_reshape_to(c, m, 3, (int64_t[]){1, k, k}), of);
  return pl_reshape_to(c, g, 2, (int64_t[]){k, k});
}
static pl_value diagonal(pl_context *c, pl_value m) {
  return m == PL_ZERO ? m : pl_call1(c, PL_OP(diagonal), m, &PL_INT(0));
}
static pl_value resolvent(pl_context *c, pl_value a, pl_value m, pl_value w, pl_value v, pl_value r,
                          const pl_attr *attrs) {
  return r == PL_ZERO ? r : pl_apply1(c, PL_OP(eigen_resolvent), 5, (pl_value[]){a, m, w, v, r}, attrs);
}

static void eigs_jvp(pl_jvp *j) {
  pl_context *c = j->c;
  pl_value w = j->out[0], v = j->out[1], dmv = times(c, j->t[1], v, j->attrs);
  pl_value h = pl_minus(c, times(c, j->t[0], v, j->attrs), pl_times(c, dmv, w)), k = inner(c, v, h);
  pl_value d = half(c, diagonal(c, inner(c, v, dmv)));
  j->dt[0] = diagonal(c, k);
  j->dt[1] = pl_minus(c, by(c, v, gaps(c, w, k, PL_GAPS_SPARSE)), pl_times(c, v, d));
  j->dt[1] = pl_minus(c, j->dt[1], resolvent(c, j->in[0], j->in[1], w, v, h, j->attrs));
}
static void eigs_vjp(pl_vjp *b) {
  pl_context *c = b->c;
  pl_value w = b->out[0], v = b->out[1], s = b->g[1] == PL_ZERO ? PL_ZERO : inner(c, v, b->g[1]);
  pl_value k = gaps(c, w, s, PL_GAPS_TURNING);
  k = half(c, pl_plus(c, k, turned(c, k)));
  pl_value z = resolvent(c, b->in[0], b->in[1], w, v, b->g[1], b->attrs);
  if (b->need[0]) {
    pl_value left = pl_plus(c, by(c, v, k), pl_times(c, v, b->g[0]));
    pl_vjp_give(b, 0, pl_minus(c, outer(c, left, v, b->attrs), outer(c, z, v, b->attrs)));
  }
  if (b->need[1]) {
    pl_value kw = pl_times(c, k, w), x = half(c, pl_plus(c, kw, turned(c, kw)));
    x = pl_plus(c, x, half(c, half(c, pl_plus(c, s, turned(c, s)))));
    pl_value left = pl_plus(c, by(c, v, x), pl_times(c, v, pl_times(c, b->g[0], w)));
    pl_vjp_give(b, 1, pl_minus(c, outer(c, pl_times(c, z, w), v, b->attrs), outer(c, left, v, b->attrs)));
  }
}

/* ---- eigen_resolvent: a, m, w, V, r -> G_i r_i ---- */

static bool resolvent_shape(const pl_call *call, pl_spec *out) {
  pl_pattern *p = PATTERN(call->attrs);
  const pl_slot *v = call->in[3];
  if (!pl_sparse_is_vector(call, 0, p->nnz, "A's values") || !pl_sparse_is_vector(call, 1, p->nnz, "M's values") ||
      !pl_sparse_is_block(call, 3, p->rows, "the eigenvectors") || !pl_sparse_is_block(call, 4, p->rows, "the vectors"))
    return false;
  if (v->rank != 2 || call->in[4]->rank != 2 || call->in[4]->shape[1] != v->shape[1] ||
      !pl_sparse_is_vector(call, 2, v->shape[1], "the eigenvalues")) {
    if (!call->c->status) pl_shape_error(call, "a vector for each eigenvalue is needed");
    return false;
  }
  pl_spec_shape(out, 2, p->rows, v->shape[1], 0);
  return true;
}
static void resolvent_run(const pl_call *call, pl_slot **out) {
  pl_slot *const *in = call->in;
  pl_eigen_resolvent(call->c, PATTERN(call->attrs), in[0]->data, in[1]->data, in[3]->shape[1], in[2]->data, in[3]->data,
                     in[4]->data, out[0]->data);
}
static pl_value at_same(pl_context *c, const pl_value *in, pl_value r, const pl_attr *attrs) {
  return resolvent(c, in[0], in[1], in[2], in[3], r, attrs);
}
static void resolvent_jvp(pl_jvp *j) {
  pl_context *c = j->c;
  const pl_value *in = j->in, *t = j->t;
  pl_value y = j->out[0], w = in[2], v = in[3];
  pl_value e = pl_plus(c, times(c, t[1], v, j->attrs), times(c, in[1], t[3], j->attrs));
  pl_value r = pl_minus(c, t[4], times(c, t[0], y, j->attrs));
  r = pl_plus(c, r, pl_times(c, times(c, t[1], y, j->attrs), w));
  if (t[2] != PL_ZERO) r = pl_plus(c, r, pl_times(c, times(c, in[1], y, j->attrs), t[2]));
  if (e != PL_ZERO) r = pl_minus(c, r, by(c, e, inner(c, v, in[4])));
  j->dt[0] = at_same(c, in, r, j->attrs);
  if (e != PL_ZERO) j->dt[0] = pl_minus(c, j->dt[0], by(c, v, inner(c, e, y)));
}
static void resolvent_vjp(pl_vjp *b) {
  pl_context *c = b->c;
  const pl_value *in = b->in;
  pl_value y = b->out[0], g = b->g[0], v = in[3], z = at_same(c, in, g, b->attrs);
  pl_value q = pl_plus(c, by(c, z, turned(c, inner(c, v, in[4]))), by(c, y, turned(c, inner(c, v, g))));
  if (b->need[0]) pl_vjp_give(b, 0, pl_negative(c, outer(c, z, y, b->attrs)));
  if (b->need[1])
    pl_vjp_give(b, 1, pl_minus(c, outer(c, pl_times(c, z, in[2]), y, b->attrs), outer(c, q, v, b->attrs)));
  if (b->need[2]) pl_vjp_give(b, 2, pl_sum_axis(c, pl_times(c, z, times(c, in[1], y, b->attrs)), 0));
  if (b->need[3]) pl_vjp_give(b, 3, pl_negative(c, times(c, in[1], q, b->attrs)));
  if (b->need[4]) pl_vjp_give(b, 4, z);
}

/* ---- samples: of a symmetrized matrix, for the conformance test moves each entry ---- */

static pl_value symmetrized(pl_context *c, pl_value v, const pl_attr *attrs) {
  pl_plan *p = pl_plan_get(c, PL_PLAN_TRANSPOSE, PATTERN(attrs), NULL);
  if (!p) return PL_NONE;
  pl_value r = half(c, pl_plus(c, v, pl_call2(c, PL_OP(gather), v, p->map_a, &PL_INT(0))));
  pl_object_release(&p->base);
  return r;
}
static bool anew_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                        pl_value *out) {
  (void)op, (void)n;
  pl_value both[2], of[] = {symmetrized(c, in[0], attrs), symmetrized(c, in[1], attrs)};
  if (!pl_apply(c, PL_OP(sparse_eigs), 2, of,
                (pl_attr[]){attrs[0], PL_INT(2), PL_INT(0), PL_REALV(0), PL_REALV(0), PL_INT(0)}, both))
    return false;
  out[0] = both[attrs[1].i];
  return out[0] != PL_NONE;
}
static bool anew_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  if (k > 1) return false;
  pl_pattern *p = pl_pattern_new(c, 4, 4, (int32_t[]){0, 2, 5, 8, 10}, (int32_t[]){0, 1, 0, 1, 2, 1, 2, 3, 2, 3});
  if (!p) return false;
  s->n = 2;
  s->object = &p->base;
  s->attrs[0] = PL_OBJECT(s->object);
  s->attrs[1] = PL_INT(k);
  s->in[0] = pl_sample_diagonal(c, r, p, 2);
  s->in[1] = pl_sample_diagonal(c, r, p, 4);
  for (int64_t i = 0; i < 2; i++) ((double *)pl_slot_get(c, s->in[0])->data)[9 * i] += 4 * i + 2;
  return true;
}
/* Whole numbers are not active: diagonal matrices have whole eigenvectors. */
static bool whole_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s, bool vectors) {
  if (k > 0) return false;
  pl_pattern *p = pl_pattern_new(c, 3, 3, (int32_t[]){0, 1, 2, 3}, (int32_t[]){0, 1, 2});
  if (!p) return false;
  s->n = vectors ? 5 : 2;
  s->object = &p->base;
  s->attrs[0] = PL_OBJECT(s->object);
  s->attrs[1] = PL_INT(1);
  s->attrs[4] = PL_REALV(1e-12);
  s->attrs[3] = PL_REALV(0);
  s->attrs[2] = s->attrs[5] = PL_INT(0);
  s->in[0] = pl_tensor(c, PL_I64, 1, (int64_t[]){3}, (int64_t[]){2, 5, 9});
  s->in[1] = pl_tensor(c, PL_I64, 1, (int64_t[]){3}, (int64_t[]){1, 1, 1});
  if (!vectors) return true;
  s->in[2] = pl_tensor(c, PL_I64, 1, (int64_t[]){1}, (int64_t[]){2});
  s->in[3] = pl_tensor(c, PL_I64, 2, (int64_t[]){3, 1}, (int64_t[]){1, 0, 0});
  s->in[4] = pl_sample_tensor(c, r, -1, 1, 2, 3, 1);
  return true;
}
static bool eigs_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  return whole_sample(c, r, k, s, false);
}
static bool resolvent_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  return whole_sample(c, r, k, s, true);
}

pl_op pl_ops_eigsh[] = {
    {.name = "sparse_eigs",
     .formula = "k eigenvalues and M-orthonormal eigenvectors of A x = w M x",
     .kind = PL_OPAQUE,
     .inputs = 2,
     .outputs = 2,
     .internal = true,
     .dtypes = PL_IN_F64,
     .attrs = {OBJECT("pattern"),
               INT("k"),
               INT("which"),
               {"sigma", PL_AS_REAL, false, 0},
               {"rtol", PL_AS_REAL, false, 0},
               INT("restarts")},
     .shape = eigs_shape,
     .run = eigs_run,
     .vjp = eigs_vjp,
     .jvp = eigs_jvp,
     .sample = eigs_sample},
    {ROW("eigen_resolvent", "the inverse of A - w_i M between what is M-orthogonal to V, times r_i", 5),
     .kind = PL_OPAQUE, .dtypes = PL_IN_F64, .attrs = {OBJECT("pattern")}, .shape = resolvent_shape,
     .run = resolvent_run, .vjp = resolvent_vjp, .jvp = resolvent_jvp, .sample = resolvent_sample},
    {ROW("sparse_eigs_symmetrized", "eigenvalues or eigenvectors of symmetrized matrices", 2), .kind = PL_COMPOSITE,
     .attrs = {OBJECT("pattern"), INT("vectors")}, .expand = anew_expand, .sample = anew_sample},
    {0},
};
