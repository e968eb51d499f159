#include "sparse.h"

#include <math.h>

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

void pl_sparse_memo(const pl_context *c, int64_t *found, int64_t *made) {
  *found = c->memo_hits;
  *made = c->memo_misses;
}

static pl_plan *indices(pl_context *c, pl_pattern *p) { return pl_plan_get(c, PL_PLAN_INDICES, p, NULL); }

/* One of a plan's maps as a value of its own. Drops the plan. */
static pl_value taken(pl_context *c, pl_plan *plan, pl_value map) {
  pl_slot *s = plan ? pl_slot_get(c, map) : NULL;
  pl_value v = s ? pl_reshape_to(c, map, 1, (int64_t[]){s->count}) : PL_NONE;
  pl_object_release((pl_object *)plan);
  return v;
}

pl_value pl_sparse_indices(pl_context *c, pl_object *pattern, bool columns) {
  pl_plan *p = indices(c, (pl_pattern *)pattern);
  return taken(c, p, !p ? PL_NONE : columns ? p->map_b : p->map_a);
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

static pl_value scatter(pl_context *c, pl_value base, pl_value map, pl_value v) {
  return pl_call3(c, PL_OP(add_at), base, map, v, &PL_INT(0));
}

static pl_value gather(pl_context *c, pl_value v, pl_value map) {
  return pl_call2(c, PL_OP(gather), v, map, &PL_INT(0));
}

/* v's values, then x once, so that a map can say n + 1 where there is no entry. */
static pl_value and_one_more(pl_context *c, pl_value v, double x) {
  int64_t one = 1;
  pl_value parts[] = {v, pl_reshape_to(c, pl_like(c, v, x), 1, &one)};
  return pl_apply1(c, PL_OP(concat), 2, parts, &PL_INT(0));
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
  bool alone = pl_temporaries_begin(c);
  pl_value values = PL_NONE;
  if (pl_describe(c, v, &info)) {
    if (info.rank == 0) v = pl_call1(c, PL_OP(broadcast_to), v, &PL_INTS(1, &n));
    else if (info.rank != 1 || info.count != n)
      pl_error(c, PL_ERROR_SHAPE, "triplets: %lld values for %lld indices", (long long)info.count, (long long)n);
    if (info.dtype > PL_F32) v = pl_cast(c, v, PL_F64);
    values = scatter(c, zeros(c, p->out->nnz, v), p->map_a, v);
  }
  return finish(c, p, pl_temporaries_end(c, alone, values));
}

/* The same pattern with other values. */
static pl_sparse with_values(pl_sparse a, pl_value v) {
  if (v == PL_NONE) return none;
  pl_object_retain(a.pattern);
  return (pl_sparse){a.pattern, v};
}

pl_sparse pl_sparse_add(pl_context *c, pl_sparse a, pl_sparse b) {
  if (a.pattern == b.pattern) return with_values(a, PL_BINARY(add, c, a.values, b.values));
  pl_plan *p = pl_plan_get(c, PL_PLAN_SUM, PATTERN(a), PATTERN(b));
  if (!p) return none;
  bool alone = pl_temporaries_begin(c);
  pl_dtype dtype = pl_dtype_of(c, a.values) == PL_F32 && pl_dtype_of(c, b.values) == PL_F32 ? PL_F32 : PL_F64;
  pl_value va = pl_cast(c, a.values, dtype), vb = pl_cast(c, b.values, dtype);
  pl_value v = scatter(c, scatter(c, zeros(c, p->out->nnz, va), p->map_a, va), p->map_b, vb);
  return finish(c, p, pl_temporaries_end(c, alone, v));
}

pl_sparse pl_sparse_scale(pl_context *c, pl_sparse a, pl_value s) {
  pl_info info;
  if (!pl_describe(c, s, &info)) return none;
  if (info.rank != 0) {
    pl_error(c, PL_ERROR_SHAPE, "a sparse matrix is scaled by a number or a 0-d tensor, not by a tensor with %d axes",
             info.rank);
    return none;
  }
  return with_values(a, PL_BINARY(mul, c, a.values, s));
}

pl_sparse pl_sparse_subtract(pl_context *c, pl_sparse a, pl_sparse b) {
  if (a.pattern == b.pattern) return with_values(a, PL_BINARY(sub, c, a.values, b.values));
  bool alone = pl_temporaries_begin(c);
  pl_sparse r = pl_sparse_add(c, a, (pl_sparse){b.pattern, PL_UNARY(neg, c, b.values)});
  r.values = pl_temporaries_end(c, alone, r.values);
  return r;
}

pl_sparse pl_sparse_hadamard(pl_context *c, pl_sparse a, pl_sparse b) {
  if (a.pattern == b.pattern) return with_values(a, PL_BINARY(mul, c, a.values, b.values));
  pl_plan *p = pl_plan_get(c, PL_PLAN_HADAMARD, PATTERN(a), PATTERN(b));
  if (!p) return none;
  bool alone = pl_temporaries_begin(c);
  pl_value v = PL_BINARY(mul, c, gather(c, a.values, p->map_a), gather(c, b.values, p->map_b));
  return finish(c, p, pl_temporaries_end(c, alone, v));
}

pl_sparse pl_sparse_cast(pl_context *c, pl_sparse a, pl_dtype dtype) {
  if (dtype != PL_F64 && dtype != PL_F32)
    pl_error(c, PL_ERROR_TYPE, "a sparse matrix has values of f64 or f32, not %s", pl_dtype_name(dtype));
  if (pl_dtype_of(c, a.values) != (int)dtype) return with_values(a, pl_cast(c, a.values, dtype));
  pl_value v = pl_reshape_to(c, a.values, 1, (int64_t[]){PATTERN(a)->nnz}); /* a value of its own */
  return with_values(a, v);
}

/* A vector for each row or column, multiplied into its entries. */
static pl_sparse scale_along(pl_context *c, pl_sparse a, pl_value d, bool columns) {
  pl_info info;
  int64_t n = columns ? PATTERN(a)->cols : PATTERN(a)->rows;
  if (!pl_describe(c, d, &info)) return none;
  if (info.rank != 1 || info.count != n) {
    char text[PL_TEXT];
    pl_slot *t = pl_slot_get(c, d);
    pl_error(c, PL_ERROR_SHAPE, "%s: the factors have shape %s, the matrix {%d, %d}: {%lld} is needed",
             columns ? "scale_columns" : "scale_rows", pl_shape_text(text, t->rank, t->shape), PATTERN(a)->rows,
             PATTERN(a)->cols, (long long)n);
    return none;
  }
  pl_plan *p = indices(c, PATTERN(a));
  if (!p) return none;
  bool alone = pl_temporaries_begin(c);
  pl_value v = PL_BINARY(mul, c, a.values, gather(c, d, columns ? p->map_b : p->map_a));
  return finish(c, p, pl_temporaries_end(c, alone, v));
}
pl_sparse pl_sparse_scale_rows(pl_context *c, pl_sparse a, pl_value d) { return scale_along(c, a, d, false); }
pl_sparse pl_sparse_scale_columns(pl_context *c, pl_sparse a, pl_value d) { return scale_along(c, a, d, true); }

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
  return p ? finish(c, p, gather(c, a.values, p->map_a)) : none;
}

/* How many rows a weight of the shape stands for, and how many weights there are; 0, and the error set, for others. */
static int64_t gram_block(pl_context *c, pl_pattern *b, pl_value d) {
  pl_slot *t = pl_slot_get(c, d);
  if (!t) return 0;
  if (t->rank == 0 || (t->rank == 1 && t->shape[0] == b->rows)) return 1;
  if (t->rank == 3 && t->shape[1] == t->shape[2] && t->shape[1] > 0 && (int64_t)t->shape[0] * t->shape[1] == b->rows)
    return t->shape[1];
  char text[PL_TEXT];
  pl_error(c, PL_ERROR_SHAPE,
           "gram: the weights have shape %s, the matrix {%d, %d}: one weight for each row, {%d}, or a block for each k "
           "rows, {%d/k, k, k}, is needed",
           pl_shape_text(text, t->rank, t->shape), b->rows, b->cols, b->rows, b->rows);
  return 0;
}

/* The values of the map from weights to B' D B, made once for values of B that no derivative is taken by. */
static pl_value gram_map(pl_context *c, pl_plan *p, pl_value b) {
  pl_slot *s = pl_slot_get(c, b);
  if (!s) return PL_NONE;
  bool recorded = c->recording && s->recording != 0; /* then its gradient may be asked for */
  if (recorded || !pl_slot_check(c, s)) return terms(c, p, b, b);
  for (int k = 0; k < PL_PLAN_VALUES; k++)
    if (p->made[k].of == b && pl_slot_find(c, p->made[k].values)) return p->made[k].values;
  pl_pause(c);
  pl_value map = terms(c, p, b, b);
  pl_resume(c);
  if (map == PL_NONE) return PL_NONE;
  int k = p->last = (p->last + 1) % PL_PLAN_VALUES;
  pl_release(c, p->made[k].values);
  pl_release(c, p->made[k].of);
  p->made[k].values = map;
  p->made[k].of = b;
  pl_retain(c, b);
  return map;
}

pl_sparse pl_sparse_gram(pl_context *c, pl_sparse b, pl_value d) {
  int64_t block = gram_block(c, PATTERN(b), d);
  pl_plan *p = block ? pl_plan_make(c, PL_PLAN_GRAM, b.pattern, NULL, block) : NULL;
  if (!p) return none;
  bool alone = pl_temporaries_begin(c);
  int64_t n = p->via->cols;
  d = pl_slot_get(c, d)->rank ? pl_reshape_to(c, d, 1, &n) : pl_call1(c, PL_OP(broadcast_to), d, &PL_INTS(1, &n));
  pl_value v = pl_call2(c, PL_OP(spmv), gram_map(c, p, b.values), d, (pl_attr[]){PL_OBJECT(&p->via->base), PL_INT(0)});
  return finish(c, p, pl_temporaries_end(c, alone, v));
}

pl_value pl_sparse_apply(pl_context *c, pl_sparse a, pl_value x) {
  return pl_call2(c, PL_OP(spmv), a.values, x, (pl_attr[]){PL_OBJECT(a.pattern), PL_INT(0)});
}

pl_value pl_sparse_apply_transposed(pl_context *c, pl_sparse a, pl_value x) {
  return pl_call2(c, PL_OP(spmv), a.values, x, (pl_attr[]){PL_OBJECT(a.pattern), PL_INT(1)});
}

/* ---- to and from dense tensors ---- */

static pl_value dense(pl_context *c, pl_plan *p, pl_value values) {
  int64_t n = (int64_t)p->out->rows * p->out->cols, shape[] = {p->out->rows, p->out->cols};
  return pl_reshape_to(c, scatter(c, zeros(c, n, values), p->map_a, values), 2, shape);
}

pl_value pl_sparse_dense(pl_context *c, pl_sparse a) {
  pl_plan *p = pl_plan_get(c, PL_PLAN_FLAT, PATTERN(a), NULL);
  if (!p) return PL_NONE;
  bool alone = pl_temporaries_begin(c);
  pl_value v = dense(c, p, a.values);
  pl_object_release(&p->base);
  return pl_temporaries_end(c, alone, v);
}

static bool is_matrix(pl_context *c, pl_value t, pl_info *info) {
  if (!pl_describe(c, t, info)) return false;
  if (info->rank == 2) return true;
  char text[PL_TEXT];
  pl_slot *s = pl_slot_get(c, t);
  pl_error(c, PL_ERROR_SHAPE, "from_dense: a matrix is needed, not a tensor of shape %s",
           pl_shape_text(text, s->rank, s->shape));
  return false;
}

pl_sparse pl_sparse_sample(pl_context *c, pl_value t, pl_object *pattern) {
  pl_pattern *q = (pl_pattern *)pattern;
  pl_info info;
  if (!is_matrix(c, t, &info)) return none;
  if (info.shape[0] != q->rows || info.shape[1] != q->cols) {
    pl_error(c, PL_ERROR_SHAPE, "from_dense: the tensor has shape {%lld, %lld}, the pattern {%d, %d}",
             (long long)info.shape[0], (long long)info.shape[1], q->rows, q->cols);
    return none;
  }
  pl_plan *p = pl_plan_get(c, PL_PLAN_FLAT, q, NULL);
  if (!p) return none;
  bool alone = pl_temporaries_begin(c);
  pl_value v = gather(c, PL_UNARY(ravel, c, pl_floats(c, t)), p->map_a);
  return finish(c, p, pl_temporaries_end(c, alone, v));
}

pl_sparse pl_sparse_from_dense(pl_context *c, pl_value t, double tolerance) {
  pl_info info;
  if (!is_matrix(c, t, &info)) return none;
  if (!(tolerance >= 0)) {
    pl_error(c, PL_ERROR_ARGUMENT, "from_dense: the tolerance is %g; it is at least 0", tolerance);
    return none;
  }
  if (!pl_known(c, t)) {
    pl_error(c, PL_ERROR_STATE,
             "from_dense: which entries are zero is not known while a function is being traced; give the pattern");
    return none;
  }
  const void *data = pl_data(c, t);
  int32_t rows = (int32_t)info.shape[0], cols = (int32_t)info.shape[1], n = 0;
  int32_t *ptr = pl_ints_new(c, rows), *col = ptr ? pl_ints_new(c, info.count) : NULL;
  if (!col) {
    pl_memory_free(c, ptr);
    return none;
  }
  ptr[0] = 0;
  for (int64_t k = 0; k < info.count; k++) {
    double x = info.dtype == PL_F64   ? ((const double *)data)[k]
               : info.dtype == PL_F32 ? (double)((const float *)data)[k]
               : info.dtype == PL_I64 ? (double)((const int64_t *)data)[k]
                                      : (double)((const uint8_t *)data)[k];
    if (!(fabs(x) <= tolerance)) col[n++] = (int32_t)(k % cols);
    if (k % cols == cols - 1) ptr[k / cols + 1] = n;
  }
  for (int32_t i = 0; cols == 0 && i < rows; i++) ptr[i + 1] = 0;
  pl_pattern *p = pl_pattern_adopt(c, rows, cols, ptr, col);
  pl_sparse r = p ? pl_sparse_sample(c, t, &p->base) : none;
  pl_object_release((pl_object *)p);
  return r;
}

/* ---- parts ---- */

static pl_list *selection(pl_context *c, pl_sparse a, pl_value rows, pl_value columns) {
  int64_t size[] = {PATTERN(a)->rows, PATTERN(a)->cols};
  return pl_list_indices(c, "a selection", 2, (const char *[]){"row", "column"}, (pl_value[]){rows, columns}, size);
}

pl_sparse pl_sparse_select(pl_context *c, pl_sparse a, pl_value rows, pl_value columns) {
  pl_list *list = selection(c, a, rows, columns);
  pl_plan *p = list ? pl_plan_make(c, PL_PLAN_SELECT, a.pattern, &list->base, 0) : NULL;
  pl_object_release((pl_object *)list);
  return p ? finish(c, p, gather(c, a.values, p->map_a)) : none;
}

pl_value pl_sparse_pick(pl_context *c, pl_sparse a, pl_value rows, pl_value columns) {
  pl_list *list = selection(c, a, rows, columns);
  if (!list) return PL_NONE;
  if (list->data[0] < 0 || list->data[0] != list->data[1])
    pl_error(c, PL_ERROR_SHAPE,
             "a selection of entries: %d row and %d column indices; pl.ix(rows, columns) takes all pairs",
             list->data[0], list->data[1]);
  pl_plan *p = pl_plan_make(c, PL_PLAN_PICK, a.pattern, &list->base, 0);
  pl_object_release(&list->base);
  if (!p) return PL_NONE;
  bool alone = pl_temporaries_begin(c);
  pl_value v = gather(c, and_one_more(c, a.values, 0), p->map_a);
  pl_object_release(&p->base);
  return pl_temporaries_end(c, alone, v);
}

pl_value pl_sparse_element(pl_context *c, pl_sparse a, int64_t row, int64_t column) {
  pl_pattern *p = PATTERN(a);
  if (row < 1 || row > p->rows || column < 1 || column > p->cols) {
    pl_error(c, PL_ERROR_INDEX, "entry (%lld, %lld) is outside of a matrix {%d, %d}", (long long)row, (long long)column,
             p->rows, p->cols);
    return PL_NONE;
  }
  int32_t k = pl_pattern_entry(p, (int32_t)row - 1, (int32_t)column - 1);
  bool alone = pl_temporaries_begin(c);
  pl_value v = pl_reshape_to(c, k < 0 ? zeros(c, 1, a.values) : pl_part(c, a.values, 0, k, 1, 1), 0, NULL);
  return pl_temporaries_end(c, alone, v);
}

/* Sizes of rows (columns) of blocks, or an error. */
static bool block_size(pl_context *c, int32_t *size, int32_t found, const char *what, int I, int J) {
  if (*size >= 0 && *size != found) {
    pl_error(c, PL_ERROR_SHAPE, "block (%d, %d) has %d %s, a block beside it %d", I + 1, J + 1, found, what, *size);
    return false;
  }
  *size = found;
  return true;
}

pl_sparse pl_sparse_block(pl_context *c, int rows, int columns, const pl_sparse *blocks) {
  if (c->status) return none;
  if (rows < 1 || columns < 1 || (int64_t)rows * columns > PL_MAX_INPUTS) {
    pl_error(c, PL_ERROR_ARGUMENT, "block: %d by %d blocks; 1 to %d are possible", rows, columns, PL_MAX_INPUTS);
    return none;
  }
  int n = rows * columns, n_values = 0;
  int32_t *sizes = pl_ints_new(c, 2 + rows + columns);
  if (!sizes) return none;
  pl_pattern *held[PL_MAX_INPUTS];
  pl_value values[PL_MAX_INPUTS];
  int32_t *heights = sizes + 2, *widths = heights + rows;
  sizes[0] = rows;
  sizes[1] = columns;
  for (int k = 0; k < rows + columns; k++) heights[k] = -1;
  bool ok = true, single = true;
  for (int k = 0; ok && k < n; k++) {
    held[k] = PATTERN(blocks[k]);
    if (!held[k]) continue;
    int I = k / columns, J = k % columns;
    ok = block_size(c, &heights[I], held[k]->rows, "rows", I, J) &&
         block_size(c, &widths[J], held[k]->cols, "columns", I, J);
    values[n_values++] = blocks[k].values;
    single = single && pl_dtype_of(c, blocks[k].values) == PL_F32;
  }
  for (int k = 0; ok && k < rows + columns; k++)
    if (heights[k] < 0) {
      pl_error(c, PL_ERROR_SHAPE, "block: no block says the size of %s %d of blocks", k < rows ? "row" : "column",
               k < rows ? k + 1 : k - rows + 1);
      ok = false;
    }
  if (!ok) {
    pl_memory_free(c, sizes);
    return none;
  }
  pl_list *list = pl_list_new(c, 2 + rows + columns, sizes, n, held);
  pl_plan *p = list ? pl_plan_make(c, PL_PLAN_BLOCK, &list->base, NULL, 0) : NULL;
  pl_object_release((pl_object *)list);
  if (!p) return none;
  bool alone = pl_temporaries_begin(c);
  for (int k = 0; k < n_values; k++) values[k] = pl_cast(c, values[k], single ? PL_F32 : PL_F64);
  pl_value v = gather(c, pl_apply1(c, PL_OP(concat), n_values, values, &PL_INT(0)), p->map_a);
  return finish(c, p, pl_temporaries_end(c, alone, v));
}

pl_sparse pl_sparse_incidence(pl_context *c, pl_value left, pl_value right, int64_t n) {
  pl_info l, r;
  if (!pl_describe(c, left, &l) || !pl_describe(c, right, &r)) return none;
  if (l.rank != 1 || r.rank != 1 || l.count != r.count) {
    pl_error(c, PL_ERROR_SHAPE, "incidence: %lld left and %lld right cells: two vectors, an entry for each face",
             (long long)l.count, (long long)r.count);
    return none;
  }
  pl_list *checked = pl_list_indices(c, "incidence", 2, (const char *[]){"left cell", "right cell"},
                                     (pl_value[]){left, right}, (int64_t[]){n, n});
  pl_object_release((pl_object *)checked);
  bool alone = pl_temporaries_begin(c);
  int64_t m = l.count;
  pl_value face = pl_apply1(c, PL_OP(range), 0, NULL, (pl_attr[]){PL_REALV(1), PL_REALV(1), PL_INT(m), PL_INT(PL_I64)});
  pl_value one = pl_call1(c, PL_OP(broadcast_to), pl_constant(c, PL_F64, 1), &PL_INTS(1, &m));
  pl_value both[] = {face, face}, cells[] = {left, right}, signs[] = {PL_UNARY(neg, c, one), one};
  pl_value i = pl_apply1(c, PL_OP(concat), 2, both, &PL_INT(0)), j = pl_apply1(c, PL_OP(concat), 2, cells, &PL_INT(0));
  pl_sparse g = pl_sparse_triplets(c, i, j, pl_apply1(c, PL_OP(concat), 2, signs, &PL_INT(0)), m, n);
  g.values = pl_temporaries_end(c, alone, g.values);
  return g;
}

/* ---- sums and norms ---- */

pl_value pl_sparse_sum(pl_context *c, pl_sparse a, int axis) {
  if (axis == PL_SPARSE_ALL) return pl_call1(c, PL_OP(sum), a.values, (pl_attr[]){PL_INTS(-1, NULL), PL_INT(0)});
  if (axis != 0 && axis != 1) {
    pl_error(c, PL_ERROR_ARGUMENT, "sum: a sparse matrix has no axis %d", axis + 1);
    return PL_NONE;
  }
  int64_t n = axis == 0 ? PATTERN(a)->rows : PATTERN(a)->cols;
  bool alone = pl_temporaries_begin(c);
  pl_value ones = pl_call1(c, PL_OP(broadcast_to), pl_like(c, a.values, 1), &PL_INTS(1, &n));
  return pl_temporaries_end(c, alone, axis == 0 ? pl_sparse_apply_transposed(c, a, ones) : pl_sparse_apply(c, a, ones));
}

pl_value pl_sparse_diagonal(pl_context *c, pl_sparse a, int64_t k) {
  if (c->status) return PL_NONE;
  int64_t rows = PATTERN(a)->rows, cols = PATTERN(a)->cols;
  if (k <= -rows - 1 || k >= cols + 1) {
    pl_error(c, PL_ERROR_ARGUMENT, "diag: a matrix {%lld, %lld} has no diagonal %lld", (long long)rows, (long long)cols,
             (long long)k);
    return PL_NONE;
  }
  pl_plan *p = pl_plan_make(c, PL_PLAN_DIAGONAL, a.pattern, NULL, k);
  if (!p) return PL_NONE;
  int64_t first = k < 0 ? -k : 0, last = cols - k < rows ? cols - k : rows;
  bool alone = pl_temporaries_begin(c);
  pl_value v = scatter(c, zeros(c, last - first, a.values), p->map_b, gather(c, a.values, p->map_a));
  pl_object_release(&p->base);
  return pl_temporaries_end(c, alone, v);
}

pl_value pl_sparse_trace(pl_context *c, pl_sparse a) {
  bool alone = pl_temporaries_begin(c);
  pl_value d = pl_sparse_diagonal(c, a, 0);
  return pl_temporaries_end(c, alone, pl_call1(c, PL_OP(sum), d, (pl_attr[]){PL_INTS(-1, NULL), PL_INT(0)}));
}

pl_value pl_sparse_norm(pl_context *c, pl_sparse a, pl_sparse_norm_kind kind) {
  pl_attr all[] = {PL_INTS(-1, NULL), PL_INT(0)};
  if (PATTERN(a)->nnz == 0) return pl_call1(c, PL_OP(sum), a.values, all);
  bool alone = pl_temporaries_begin(c);
  pl_value v;
  if (kind == PL_NORM_FROBENIUS) {
    v = pl_call1(c, PL_OP(norm), a.values, (pl_attr[]){all[0], PL_REALV(2), PL_INT(0)});
  } else {
    v = PL_UNARY(abs, c, a.values);
    if (kind != PL_NORM_MAX) v = pl_sparse_sum(c, (pl_sparse){a.pattern, v}, kind == PL_NORM_ONE ? 0 : 1);
    v = pl_call1(c, PL_OP(max), v, all);
  }
  return pl_temporaries_end(c, alone, v);
}

/* ---- fixed unknowns ---- */

static pl_list *fixed_list(pl_context *c, pl_sparse a, pl_value fixed) {
  int64_t n = PATTERN(a)->rows;
  if (PATTERN(a)->cols != n) {
    pl_error(c, PL_ERROR_SHAPE, "fixed unknowns: the matrix {%d, %d} is not square", PATTERN(a)->rows,
             PATTERN(a)->cols);
    return NULL;
  }
  return pl_list_indices(c, "fixed unknowns", 1, (const char *[]){"unknown"}, &fixed, &n);
}

bool pl_sparse_split(pl_context *c, pl_sparse a, pl_value fixed, pl_sparse *ff, pl_sparse *fc, pl_value *free) {
  *ff = *fc = none;
  *free = PL_NONE;
  pl_list *list = fixed_list(c, a, fixed);
  pl_plan *p = list ? pl_plan_make(c, PL_PLAN_FREE, &list->base, NULL, PATTERN(a)->rows) : NULL;
  pl_object_release((pl_object *)list);
  if (!p) return false;
  *ff = pl_sparse_select(c, a, p->map_a, p->map_a);
  *fc = pl_sparse_select(c, a, p->map_a, p->map_b);
  *free = taken(c, p, p->map_a);
  if (*free != PL_NONE) return true;
  pl_sparse_release(c, *ff);
  pl_sparse_release(c, *fc);
  *ff = *fc = none;
  return false;
}

/* The fixed values as the right-hand side has them: {fixed} or {fixed, k}. */
static pl_value fixed_values(pl_context *c, pl_value value, pl_value b, int64_t n) {
  pl_info info, rhs;
  if (!pl_describe(c, value, &info) || !pl_describe(c, b, &rhs)) return PL_NONE;
  int64_t shape[] = {n, rhs.shape[1]};
  value = pl_cast(c, value, rhs.dtype);
  if (info.rank == 1 && rhs.rank == 2) value = pl_reshape_to(c, value, 2, (int64_t[]){info.count, 1});
  return pl_call1(c, PL_OP(broadcast_to), value, &PL_INTS(rhs.rank, shape));
}

pl_sparse pl_sparse_dirichlet(pl_context *c, pl_sparse a, pl_value fixed, pl_value b, pl_value value, pl_value *rhs) {
  *rhs = PL_NONE;
  pl_list *list = fixed_list(c, a, fixed);
  pl_plan *q = list ? pl_plan_make(c, PL_PLAN_FREE, &list->base, NULL, PATTERN(a)->rows) : NULL;
  pl_plan *p = q ? pl_plan_make(c, PL_PLAN_DIRICHLET, a.pattern, &list->base, 0) : NULL;
  pl_object_release((pl_object *)list);
  pl_sparse r = none;
  if (p) {
    bool alone = pl_temporaries_begin(c);
    b = pl_floats(c, b);
    pl_value u = fixed_values(c, value, b, pl_slot_get(c, q->map_b)->count);
    pl_value known = pl_call3(c, PL_OP(put), pl_zeros_like(c, b), q->map_b, u, &PL_INT(0));
    pl_value left = pl_minus(c, b, pl_sparse_apply(c, a, known));
    *rhs = pl_temporaries_end(c, alone, pl_call3(c, PL_OP(put), left, q->map_b, u, &PL_INT(0)));
    alone = pl_temporaries_begin(c);
    r = finish(c, p, pl_temporaries_end(c, alone, gather(c, and_one_more(c, a.values, 1), p->map_a)));
    if (!r.pattern && alone) pl_release(c, *rhs);
    if (!r.pattern) *rhs = PL_NONE;
  }
  pl_object_release((pl_object *)q);
  return r;
}
