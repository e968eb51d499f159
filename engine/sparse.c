#include "sparse.h"

#include "op.h"
#include "pattern.h"

#define PATTERN(a) ((pl_pattern *)(a).pattern)
static const pl_sparse none;

void pl_sparse_retain(pl_sparse a) {
  if (a.pattern) pl_object_retain(a.pattern);
}

void pl_sparse_release(pl_context *c, pl_sparse a) {
  pl_object_release(a.pattern);
  if (!c->scope) pl_release(c, a.values);
}

void pl_sparse_size(pl_object *pattern, int64_t *rows, int64_t *cols, int64_t *nnz) {
  pl_pattern *p = (pl_pattern *)pattern;
  *rows = p->rows;
  *cols = p->cols;
  *nnz = p->nnz;
}

pl_value pl_sparse_indices(pl_context *c, pl_object *pattern, bool columns) {
  pl_pattern *p = (pl_pattern *)pattern;
  int64_t n = p->nnz;
  pl_value v = pl_tensor(c, PL_I64, 1, &n, NULL);
  pl_slot *s = pl_slot_get(c, v);
  for (int32_t i = 0; s && i < p->rows; i++)
    for (int32_t k = p->row_ptr[i]; k < p->row_ptr[i + 1]; k++) ((int64_t *)s->data)[k] = (columns ? p->col[k] : i) + 1;
  return v;
}

/* The result of a plan: its pattern, with a reference, and the values. Drops the plan. */
static pl_sparse finish(pl_context *c, pl_plan *plan, pl_value values) {
  pl_sparse r = none;
  if (values != PL_NONE && !c->status) {
    r.pattern = &plan->out->base;
    r.values = values;
    pl_object_retain(r.pattern);
  }
  pl_object_release(&plan->base);
  return r;
}

/* Makes values with temporaries that die, outside recordings. */
static bool begin(pl_context *c) {
  bool alone = !c->scope;
  if (alone) pl_scope_begin(c);
  return alone;
}
static pl_value end(pl_context *c, bool alone, pl_value v) {
  if (!alone) return v;
  if (v != PL_NONE) pl_retain(c, v);
  pl_scope_end(c);
  return v;
}

static pl_value scatter(pl_context *c, pl_value base, pl_value map, pl_value v) {
  return pl_call3(c, PL_OP(add_at), base, map, v, &PL_INT(0));
}

static pl_value zeros(pl_context *c, int64_t n, pl_value like) {
  pl_slot *s = pl_slot_get(c, like);
  return s ? pl_apply1(c, PL_OP(zeros), 0, NULL, (pl_attr[]){PL_INTS(1, &n), PL_INT(s->dtype)}) : PL_NONE;
}

pl_sparse pl_sparse_triplets(pl_context *c, pl_value i, pl_value j, pl_value v, int64_t rows, int64_t cols) {
  pl_plan *p = pl_plan_triplets(c, i, j, rows, cols);
  if (!p) return none;
  pl_info info;
  int64_t n = pl_slot_get(c, p->map_a)->count;
  bool alone = begin(c);
  pl_value values = PL_NONE;
  if (pl_describe(c, v, &info)) {
    if (info.rank == 0) v = pl_call1(c, PL_OP(broadcast_to), v, &PL_INTS(1, &n));
    else if (info.rank != 1 || info.count != n)
      pl_error(c, PL_ERROR_SHAPE, "triplets: %lld values for %lld indices", (long long)info.count, (long long)n);
    if (info.dtype > PL_F32) v = pl_cast(c, v, PL_F64);
    values = scatter(c, zeros(c, p->out->nnz, v), p->map_a, v);
  }
  return finish(c, p, end(c, alone, values));
}

pl_sparse pl_sparse_add(pl_context *c, pl_sparse a, pl_sparse b) {
  if (a.pattern == b.pattern) {
    pl_value v = PL_BINARY(add, c, a.values, b.values);
    if (v == PL_NONE) return none;
    pl_object_retain(a.pattern);
    return (pl_sparse){a.pattern, v};
  }
  pl_plan *p = pl_plan_get(c, PL_PLAN_SUM, PATTERN(a), PATTERN(b));
  if (!p) return none;
  bool alone = begin(c);
  pl_dtype dtype = pl_dtype_of(c, a.values) == PL_F32 && pl_dtype_of(c, b.values) == PL_F32 ? PL_F32 : PL_F64;
  pl_value va = pl_cast(c, a.values, dtype), vb = pl_cast(c, b.values, dtype);
  pl_value v = scatter(c, scatter(c, zeros(c, p->out->nnz, va), p->map_a, va), p->map_b, vb);
  return finish(c, p, end(c, alone, v));
}

pl_sparse pl_sparse_scale(pl_context *c, pl_sparse a, pl_value s) {
  pl_info info;
  if (!pl_describe(c, s, &info)) return none;
  if (info.rank != 0) {
    pl_error(c, PL_ERROR_SHAPE, "a sparse matrix is scaled by a number or a 0-d tensor, not by a tensor with %d axes",
             info.rank);
    return none;
  }
  pl_value v = PL_BINARY(mul, c, a.values, s);
  if (v == PL_NONE) return none;
  pl_object_retain(a.pattern);
  return (pl_sparse){a.pattern, v};
}

static pl_value terms(pl_context *c, pl_plan *p, pl_value a, pl_value b) {
  return pl_call2(c, PL_OP(sparse_product), a, b, (pl_attr[]){PL_OBJECT(&p->base), PL_INT(0)});
}

pl_sparse pl_sparse_multiply(pl_context *c, pl_sparse a, pl_sparse b) {
  pl_plan *p = pl_plan_get(c, PL_PLAN_PRODUCT, PATTERN(a), PATTERN(b));
  return p ? finish(c, p, terms(c, p, a.values, b.values)) : none;
}

pl_sparse pl_sparse_kron(pl_context *c, pl_sparse a, pl_sparse b) {
  pl_plan *p = pl_plan_get(c, PL_PLAN_KRON, PATTERN(a), PATTERN(b));
  return p ? finish(c, p, terms(c, p, a.values, b.values)) : none;
}

pl_sparse pl_sparse_transpose(pl_context *c, pl_sparse a) {
  pl_plan *p = pl_plan_get(c, PL_PLAN_TRANSPOSE, PATTERN(a), NULL);
  return p ? finish(c, p, pl_call2(c, PL_OP(gather), a.values, p->map_a, &PL_INT(0))) : none;
}

pl_sparse pl_sparse_gram(pl_context *c, pl_sparse b, pl_value d) {
  pl_info info;
  pl_slot *s = pl_slot_get(c, b.values);
  if (!s || !pl_describe(c, d, &info)) return none;
  if (info.rank != 0 && (info.rank != 1 || info.shape[0] != PATTERN(b)->rows)) {
    char text[PL_TEXT];
    pl_slot *t = pl_slot_get(c, d);
    pl_error(c, PL_ERROR_SHAPE,
             "gram: the weights have shape %s, the matrix {%d, %d}: one weight for each row is needed",
             pl_shape_text(text, t->rank, t->shape), PATTERN(b)->rows, PATTERN(b)->cols);
    return none;
  }
  pl_plan *p = pl_plan_get(c, PL_PLAN_GRAM, PATTERN(b), NULL);
  if (!p) return none;
  bool alone = begin(c);
  int64_t n = PATTERN(b)->rows;
  if (info.rank == 0) d = pl_call1(c, PL_OP(broadcast_to), d, &PL_INTS(1, &n));
  pl_value map;
  bool recorded = c->recording && s->recording != 0; /* then its gradient may be asked for */
  if (recorded || !pl_slot_check(c, s)) {
    map = terms(c, p, b.values, b.values);
  } else {
    if (p->of != b.values || !pl_slot_find(c, p->values)) {
      pl_pause(c);
      map = terms(c, p, b.values, b.values);
      pl_resume(c);
      if (map != PL_NONE) {
        pl_release(c, p->values);
        pl_release(c, p->of);
        p->values = map;
        p->of = b.values;
        pl_retain(c, p->of);
      }
    }
    map = p->values;
  }
  pl_value v = pl_call2(c, PL_OP(spmv), map, d, (pl_attr[]){PL_OBJECT(&p->via->base), PL_INT(0)});
  return finish(c, p, end(c, alone, v));
}

pl_value pl_sparse_apply(pl_context *c, pl_sparse a, pl_value x) {
  return pl_call2(c, PL_OP(spmv), a.values, x, (pl_attr[]){PL_OBJECT(a.pattern), PL_INT(0)});
}

pl_value pl_sparse_dense(pl_context *c, pl_sparse a) {
  pl_pattern *p = PATTERN(a);
  int64_t n = (int64_t)p->rows * p->cols, shape[] = {p->rows, p->cols};
  bool alone = begin(c);
  pl_value flat = pl_tensor(c, PL_I64, 1, (int64_t[]){p->nnz}, NULL);
  pl_slot *s = flat == PL_NONE ? NULL : pl_slot_get(c, flat);
  for (int32_t i = 0; s && i < p->rows; i++)
    for (int32_t k = p->row_ptr[i]; k < p->row_ptr[i + 1]; k++)
      ((int64_t *)s->data)[k] = (int64_t)i * p->cols + p->col[k] + 1;
  pl_value v = s ? pl_reshape_to(c, scatter(c, zeros(c, n, a.values), flat, a.values), 2, shape) : PL_NONE;
  return end(c, alone, v);
}

pl_value pl_sparse_factor(pl_context *c, pl_sparse a, pl_solver method) {
  return pl_call1(c, PL_OP(factor), a.values, (pl_attr[]){PL_OBJECT(a.pattern), PL_INT(method)});
}

pl_value pl_sparse_solve(pl_context *c, pl_value factor, pl_sparse a, pl_value b, bool transpose) {
  return pl_call3(c, PL_OP(factored_solve), factor, a.values, b, (pl_attr[]){PL_OBJECT(a.pattern), PL_INT(transpose)});
}
