/* sparse.c: the op rows of sparse algebra. All are linear in each of their float inputs, and closed under derivatives.
 */
#include "sparse_rows.h"

#include "../../kernels/shapes.h"
#include "../schedule.h"

bool pl_sparse_is_vector(const pl_call *call, int k, int64_t n, const char *what) {
  const pl_slot *s = call->in[k];
  if (s->rank == 1 && s->shape[0] == n) return true;
  char text[PL_TEXT];
  pl_error(call->c, PL_ERROR_SHAPE, "%s: %s has shape %s, {%lld} is needed", call->op->name, what,
           pl_shape_text(text, s->rank, s->shape), (long long)n);
  return false;
}
bool pl_sparse_is_block(const pl_call *call, int k, int64_t n, const char *what) {
  const pl_slot *s = call->in[k];
  if ((s->rank == 1 || s->rank == 2) && s->shape[0] == n) return true;
  char text[PL_TEXT];
  pl_error(call->c, PL_ERROR_SHAPE, "%s: %s has shape %s; the matrix is {%d, %d}, so {%lld} or {%lld, k} is needed",
           call->op->name, what, pl_shape_text(text, s->rank, s->shape), PATTERN(call->attrs)->rows,
           PATTERN(call->attrs)->cols, (long long)n, (long long)n);
  return false;
}

/* ---- y = A x or A' x ---- */

static bool spmv_shape(const pl_call *call, pl_spec *out) {
  pl_pattern *p = PATTERN(call->attrs);
  bool t = call->attrs[1].i;
  if (!pl_sparse_is_vector(call, 0, p->nnz, "the matrix's values") ||
      !pl_sparse_is_block(call, 1, t ? p->rows : p->cols, "the vector"))
    return false;
  out->rank = call->in[1]->rank;
  out->shape[0] = t ? p->cols : p->rows;
  out->shape[1] = call->in[1]->shape[1];
  return true;
}
static void spmv_run(const pl_call *call, pl_slot **out) {
  pl_pattern *p = PATTERN(call->attrs);
  bool t = call->attrs[1].i;
  if (t && !pl_pattern_columns(call->c, p)) return;
  int64_t k = call->in[1]->rank == 2 ? call->in[1]->shape[1] : 1, n = out[0]->shape[0];
  double work = n ? 2.0 * (double)p->nnz * (double)k / (double)n + 1 : 1;
  const pl_runs *r = k == 1 && n >= 64 ? pl_pattern_runs(call->c, p, t) : NULL;
  if (call->c->status) return;
  if (r) {
    csr_run_args b = {call->in[0]->data, call->in[1]->data, out[0]->data, r->start, r->first, r->off,
                      r->from,           r->step,           r->n,         n};
    pl_for(call->c, PL_KERNEL_OF(spmv_runs, out[0]->dtype), &b, (n + PL_CSR_ROWS - 1) / PL_CSR_ROWS, 1,
           work * PL_CSR_ROWS);
    return;
  }
  csr_args a = {call->in[0]->data,
                call->in[1]->data,
                out[0]->data,
                t ? p->col_ptr : p->row_ptr,
                t ? p->row : p->col,
                t ? p->ours : NULL,
                k};
  pl_for(call->c, PL_KERNEL_OF(spmv, out[0]->dtype), &a, n, 1, work);
}
pl_value pl_spmv(pl_context *c, pl_value v, pl_value x, const pl_attr *attrs, bool transpose) {
  return v == PL_ZERO || x == PL_ZERO ? PL_ZERO
                                      : pl_call2(c, PL_OP(spmv), v, x, (pl_attr[]){attrs[0], PL_INT(transpose)});
}
pl_value pl_sddmm(pl_context *c, pl_value g, pl_value x, const pl_attr *attrs) {
  return g == PL_ZERO || x == PL_ZERO ? PL_ZERO : pl_call2(c, PL_OP(sddmm), g, x, attrs);
}
static void spmv_vjp(pl_vjp *v) {
  bool t = v->attrs[1].i;
  if (v->need[0])
    pl_vjp_give(v, 0, t ? pl_sddmm(v->c, v->in[1], v->g[0], v->attrs) : pl_sddmm(v->c, v->g[0], v->in[1], v->attrs));
  if (v->need[1]) pl_vjp_give(v, 1, pl_spmv(v->c, v->in[0], v->g[0], v->attrs, !t));
}
static void spmv_jvp(pl_jvp *j) {
  bool t = j->attrs[1].i;
  j->dt[0] =
      pl_plus(j->c, pl_spmv(j->c, j->t[0], j->in[1], j->attrs, t), pl_spmv(j->c, j->in[0], j->t[1], j->attrs, t));
}

/* ---- v_k = sum_c g[row k, c] x[col k, c]: the adjoint of spmv in the values ---- */

static bool sddmm_shape(const pl_call *call, pl_spec *out) {
  pl_pattern *p = PATTERN(call->attrs);
  if (!pl_sparse_is_block(call, 0, p->rows, "the left factor") ||
      !pl_sparse_is_block(call, 1, p->cols, "the right factor"))
    return false;
  if (call->in[0]->rank != call->in[1]->rank ||
      (call->in[0]->rank == 2 && call->in[0]->shape[1] != call->in[1]->shape[1])) {
    pl_shape_error(call, "both need the same number of columns");
    return false;
  }
  out->rank = 1;
  out->shape[0] = p->nnz;
  return true;
}
static void sddmm_run(const pl_call *call, pl_slot **out) {
  pl_pattern *p = PATTERN(call->attrs);
  int64_t k = call->in[0]->rank == 2 ? call->in[0]->shape[1] : 1;
  csr_args a = {call->in[0]->data, call->in[1]->data, out[0]->data, p->row_ptr, p->col, NULL, k};
  pl_for(call->c, PL_KERNEL_OF(sddmm, out[0]->dtype), &a, p->rows, 1,
         p->rows ? 2.0 * (double)p->nnz * (double)k / (double)p->rows + 1 : 1);
}
static void sddmm_vjp(pl_vjp *v) {
  if (v->need[0]) pl_vjp_give(v, 0, pl_spmv(v->c, v->g[0], v->in[1], v->attrs, false));
  if (v->need[1]) pl_vjp_give(v, 1, pl_spmv(v->c, v->g[0], v->in[0], v->attrs, true));
}
static void sddmm_jvp(pl_jvp *j) {
  j->dt[0] = pl_plus(j->c, pl_sddmm(j->c, j->t[0], j->in[1], j->attrs), pl_sddmm(j->c, j->in[0], j->t[1], j->attrs));
}

/* ---- products by a plan's triples; attribute role: which of c, a, b is the output ---- */

static bool product_shape(const pl_call *call, pl_spec *out) {
  pl_plan *p = (pl_plan *)call->attrs[0].object;
  int r = (int)call->attrs[1].i, s1 = r == 0 ? 1 : 0, s2 = r == 2 ? 1 : 2;
  if (!pl_sparse_is_vector(call, 0, p->sizes[s1], "the first values") ||
      !pl_sparse_is_vector(call, 1, p->sizes[s2], "the second values"))
    return false;
  out->rank = 1;
  out->shape[0] = p->sizes[r];
  return true;
}
static void product_run(const pl_call *call, pl_slot **out) {
  pl_plan *p = (pl_plan *)call->attrs[0].object;
  int r = (int)call->attrs[1].i;
  if (!pl_plan_role(call->c, p, r)) return;
  triple_args a = {call->in[0]->data, call->in[1]->data, out[0]->data,
                   p->role[r].ptr,    p->role[r].first,  p->role[r].second};
  pl_for(call->c, PL_KERNEL_OF(sparse_product, out[0]->dtype), &a, p->sizes[r], 1,
         p->sizes[r] ? 2.0 * (double)p->n / p->sizes[r] + 1 : 1);
}
static pl_value product(pl_context *c, pl_value x, pl_value y, const pl_attr *attrs, int role) {
  return x == PL_ZERO || y == PL_ZERO ? PL_ZERO
                                      : pl_call2(c, PL_OP(sparse_product), x, y, (pl_attr[]){attrs[0], PL_INT(role)});
}
static void product_vjp(pl_vjp *v) {
  int r = (int)v->attrs[1].i, slot[2] = {r == 0 ? 1 : 0, r == 2 ? 1 : 2};
  for (int k = 0; k < 2; k++) {
    if (!v->need[k]) continue;
    pl_value other = v->in[1 - k];
    bool g_first = r < slot[1 - k]; /* inputs go in the order c, a, b */
    pl_vjp_give(v, k, product(v->c, g_first ? v->g[0] : other, g_first ? other : v->g[0], v->attrs, slot[k]));
  }
}
static void product_jvp(pl_jvp *j) {
  int r = (int)j->attrs[1].i;
  j->dt[0] =
      pl_plus(j->c, product(j->c, j->t[0], j->in[1], j->attrs, r), product(j->c, j->in[0], j->t[1], j->attrs, r));
}

/* ---- samples ---- */

pl_pattern *pl_sample_pattern(pl_context *c, int32_t rows, int32_t cols) {
  int32_t ptr[16] = {0}, col[128], n = 0;
  for (int32_t i = 0; i < rows; i++) {
    for (int32_t j = 0; j < cols; j++)
      if (i == j || (i * 7 + j * 5) % 3 == 0) col[n++] = j;
    ptr[i + 1] = n;
  }
  return pl_pattern_new(c, rows, cols, ptr, col);
}
/* Three diagonals: rows in runs. */
static pl_pattern *stencil(pl_context *c) {
  int32_t ptr[81] = {0}, col[240], n = 0;
  for (int32_t i = 0; i < 80; i++) {
    for (int32_t j = i - 1; j <= i + 1; j++)
      if (j >= 0 && j < 78) col[n++] = j;
    ptr[i + 1] = n;
  }
  return pl_pattern_new(c, 80, 78, ptr, col);
}
static bool sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s, bool outer) {
  if (k > (outer ? 3 : 5)) return false;
  pl_pattern *p = k < 4 ? pl_sample_pattern(c, 5, 4) : stencil(c);
  if (!p) return false;
  int columns = k & 1 && k < 4 ? 3 : 0, t = outer ? 0 : k < 4 ? k >> 1 : k & 1;
  s->n = 2;
  s->object = &p->base;
  s->attrs[0] = PL_OBJECT(s->object);
  s->attrs[1] = PL_INT(t);
  s->in[0] = outer ? pl_sample_tensor(c, r, -1, 1, columns ? 2 : 1, p->rows, columns)
                   : pl_sample_tensor(c, r, -1, 1, 1, p->nnz);
  s->in[1] = pl_sample_tensor(c, r, -1, 1, columns ? 2 : 1, t ? p->rows : p->cols, columns);
  return true;
}
static bool spmv_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) { return sample(c, r, k, s, false); }
static bool sddmm_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) { return sample(c, r, k, s, true); }
static bool product_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  if (k > 5) return false;
  static const pl_plan_kind kinds[] = {PL_PLAN_PRODUCT, PL_PLAN_PRODUCT, PL_PLAN_PRODUCT,
                                       PL_PLAN_KRON,    PL_PLAN_GRAM,    PL_PLAN_GRAM};
  pl_pattern *a = pl_sample_pattern(c, k == 5 ? 6 : 5, 4), *b = pl_sample_pattern(c, 4, 6);
  pl_plan *p = a && b ? pl_plan_make(c, kinds[k], &a->base, k < 4 ? &b->base : NULL, k < 4 ? 0 : k == 4 ? 1 : 3) : NULL;
  pl_object_release((pl_object *)a);
  pl_object_release((pl_object *)b);
  if (!p) return false;
  int role = k < 3 ? k : 0;
  s->n = 2;
  s->object = &p->base;
  s->attrs[0] = PL_OBJECT(s->object);
  s->attrs[1] = PL_INT(role);
  s->in[0] = pl_sample_tensor(c, r, -1, 1, 1, p->sizes[role == 0 ? 1 : 0]);
  s->in[1] = pl_sample_tensor(c, r, -1, 1, 1, p->sizes[role == 2 ? 1 : 2]);
  return true;
}

pl_op pl_ops_sparse[] = {
    {ROW("spmv", "A x, or A' x, for a sparse A of the given values", 2), .kind = PL_LINEAR, .dtypes = PL_FLOATS,
     .attrs = {OBJECT("pattern"), FLAG("transpose")}, .shape = spmv_shape, .run = spmv_run, .vjp = spmv_vjp,
     .jvp = spmv_jvp, .sample = spmv_sample},
    {ROW("sddmm", "sum over c of g[row k, c] x[col k, c] at each entry k of a pattern", 2), .kind = PL_LINEAR,
     .dtypes = PL_FLOATS, .attrs = {OBJECT("pattern"), FLAG("transpose")}, .shape = sddmm_shape, .run = sddmm_run,
     .vjp = sddmm_vjp, .jvp = sddmm_jvp, .sample = sddmm_sample},
    {ROW("sparse_product", "values of a sparse product: sums of products of values", 2), .kind = PL_LINEAR,
     .dtypes = PL_FLOATS, .attrs = {OBJECT("plan"), INT("role")}, .shape = product_shape, .run = product_run,
     .vjp = product_vjp, .jvp = product_jvp, .sample = product_sample},
    {0},
};
