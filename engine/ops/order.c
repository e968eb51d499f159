/* order.c: extreme places, sorting and what follows from it. Places are 1-based i64 and have no derivative; what is
 * taken from them is moved, so its derivative is the permutation's. */
#include <math.h>
#include <string.h>

#include "../../kernels/shapes.h"
#include "../op.h"
#include "../schedule.h"

/* ---- argmax, argmin: attributes axis (none: the flat place), keep ---- */

static bool place_axis(const pl_call *call, int *axis) {
  const pl_attr *list = &call->attrs[0];
  *axis = -1;
  if (list->n < 0) return true;
  if (list->n != 1) {
    pl_error(call->c, PL_ERROR_ARGUMENT, "%s: it goes along one axis, or (without any) over all elements; %d are given",
             call->op->name, list->n);
    return false;
  }
  return (*axis = pl_axis(call, list->list[0], call->in[0]->rank)) >= 0;
}
static bool place_shape(const pl_call *call, pl_spec *out) {
  const pl_slot *x = call->in[0];
  int axis;
  if (!place_axis(call, &axis)) return false;
  out->dtype = PL_I64;
  for (int a = 0; a < x->rank; a++)
    if (a != axis && axis >= 0) out->shape[out->rank++] = x->shape[a];
    else if (call->attrs[1].i) out->shape[out->rank++] = 1;
  if (x->count > 0 || pl_spec_count(out) == 0) return true;
  char text[PL_TEXT];
  pl_error(call->c, PL_ERROR_SHAPE, "%s of an empty tensor of shape %s", call->op->name,
           pl_shape_text(text, x->rank, x->shape));
  return false;
}
static void find_places(const pl_call *call, pl_slot **out, pl_kernel kernel) {
  int axis;
  int64_t outer, r, inner;
  if (!place_axis(call, &axis)) return;
  outer = inner = 1; /* without an axis all are one */
  r = call->in[0]->count;
  if (axis >= 0) pl_split_axis(call->in[0], axis, &outer, &r, &inner);
  order_args a = {.x = call->in[0]->data, .y = out[0]->data, .r = r, .inner = inner};
  pl_for(call->c, kernel, &a, outer * inner, 1, (double)r);
}
static void argmax_run(const pl_call *call, pl_slot **out) {
  find_places(call, out, PL_KERNEL_OF(argmax, call->in[0]->dtype));
}
static void argmin_run(const pl_call *call, pl_slot **out) {
  find_places(call, out, PL_KERNEL_OF(argmin, call->in[0]->dtype));
}

/* ---- argsort: attributes axis, descending ---- */

enum { FEW = 256 }; /* which are sorted as fast as searched */

static bool argsort_shape(const pl_call *call, pl_spec *out) {
  const pl_slot *x = call->in[0];
  out->dtype = PL_I64;
  out->rank = x->rank;
  memcpy(out->shape, x->shape, sizeof out->shape);
  if (x->rank == 0) {
    pl_error(call->c, PL_ERROR_SHAPE, "%s needs an axis; this is a single number", call->op->name);
    return false;
  }
  return pl_axis(call, call->attrs[0].i, x->rank) >= 0;
}
/* A long line in buckets of about a thousand. There is one order, whoever does what. */
static void sort_line(pl_context *c, pl_dtype dtype, sort_args *a) {
  const double per_block = (double)a->block * 20, bucket = (double)(a->r / a->buckets);
  pl_for(c, PL_KERNEL_OF(sort_sample, dtype), a, 1, 1, 0);
  pl_for(c, PL_KERNEL_OF(sort_classify, dtype), a, a->blocks, 1, per_block);
  pl_bucket_starts(a->counts, a->blocks, a->buckets);
  pl_for(c, PL_KERNEL_OF(sort_scatter, dtype), a, a->blocks, 1, per_block);
  pl_for(c, PL_KERNEL_OF(sort_buckets, dtype), a, a->buckets, 1, 4 * bucket * log2(bucket));
}
static void sort_long_lines(pl_context *c, pl_dtype dtype, sort_args *a, int64_t lines) {
  a->buckets = 16;
  while (a->buckets < PL_SORT_BUCKETS && a->buckets * 2 * PL_SORT_BUCKETS <= a->r) a->buckets *= 2;
  a->block = (a->r + 63) / 64;
  a->blocks = (a->r + a->block - 1) / a->block;
  a->tree = pl_memory_new(c, (size_t)(a->buckets * (1 + a->blocks)) * sizeof *a->tree);
  a->bucket = pl_memory_new(c, (size_t)a->r * sizeof *a->bucket);
  if (a->tree && a->bucket) {
    a->counts = a->tree + a->buckets;
    for (a->line = 0; a->line < lines && !c->status; a->line++) sort_line(c, dtype, a);
  }
  pl_memory_free(c, a->tree);
  pl_memory_free(c, a->bucket);
}

/* Places of those with `first` and more before them in the order along the axis. */
static void find_order(const pl_call *call, pl_slot *out, int64_t first, int64_t count) {
  const pl_slot *x = call->in[0];
  const pl_dtype dtype = (pl_dtype)x->dtype;
  pl_context *c = call->c;
  sort_args a = {.x = x->data, .y = out->data, .descending = call->attrs[1].i, .first = first, .count = count};
  int64_t outer;
  pl_split_axis(x, pl_axis(call, call->attrs[0].i, x->rank), &outer, &a.r, &a.inner);
  if (out->count == 0) return;
  const bool few = a.r >= FEW && 4 * count < a.r, in_buckets = !few && a.r > PL_SORT_LONG;
  const size_t items = (size_t)(in_buckets ? a.r : x->count), bytes = 2 * items * sizeof(int64_t);
  char *work = pl_memory_new(c, 2 * bytes);
  if (!work) return;
  a.from = work;
  a.to = work + bytes;
  if (in_buckets) sort_long_lines(c, dtype, &a, outer * a.inner);
  else if (few) pl_for(c, PL_KERNEL_OF(select_places, dtype), &a, outer * a.inner, 1, 4 * (double)a.r);
  else pl_for(c, PL_KERNEL_OF(sort_lines, dtype), &a, outer * a.inner, 1, 10 * (double)a.r * log2((double)a.r + 1));
  pl_memory_free(c, work);
}
static void argsort_run(const pl_call *call, pl_slot **out) {
  find_order(call, out[0], 0, out[0]->count ? out[0]->shape[pl_axis(call, call->attrs[0].i, out[0]->rank)] : 0);
}

/* ---- select_places: attributes axis, descending, first, count ---- */

static bool select_shape(const pl_call *call, pl_spec *out) {
  if (!argsort_shape(call, out)) return false;
  int axis = pl_axis(call, call->attrs[0].i, out->rank);
  int64_t first = call->attrs[2].i, count = call->attrs[3].i, r = out->shape[axis];
  out->shape[axis] = (int32_t)count;
  if (first >= 0 && count >= 0 && count <= r && first <= r - count) return true;
  pl_error(call->c, PL_ERROR_ARGUMENT, "%s: %lld elements from number %lld of %lld", call->op->name, (long long)count,
           (long long)first + 1, (long long)r);
  return false;
}
static void select_places_run(const pl_call *call, pl_slot **out) {
  find_order(call, out[0], call->attrs[2].i, call->attrs[3].i);
}
static pl_value selected(pl_context *c, pl_value x, int64_t axis, bool descending, int64_t first, int64_t count) {
  return pl_call1(c, PL_OP(select_places), x,
                  (pl_attr[]){PL_INT(axis), PL_INT(descending), PL_INT(first), PL_INT(count)});
}

/* ---- searchsorted: sorted numbers, values; attribute right ---- */

static bool searchsorted_shape(const pl_call *call, pl_spec *out) {
  if (call->in[0]->rank != 1) {
    pl_shape_error(call, "the sorted numbers are a vector");
    return false;
  }
  out->dtype = PL_I64;
  out->rank = call->in[1]->rank;
  memcpy(out->shape, call->in[1]->shape, sizeof out->shape);
  return true;
}
static void searchsorted_run(const pl_call *call, pl_slot **out) {
  order_args a = {.x = call->in[0]->data,
                  .z = call->in[1]->data,
                  .y = out[0]->data,
                  .r = call->in[0]->count,
                  .inner = 1,
                  .descending = call->attrs[0].i};
  pl_for(call->c, PL_KERNEL_OF(searchsorted, call->in[0]->dtype), &a, out[0]->count, 1, 60);
}

/* ---- taking: composites of gather ---- */

static pl_value count_up(pl_context *c, double start, double step, int64_t n, int64_t before, int64_t after) {
  pl_value v =
      pl_apply1(c, PL_OP(range), 0, NULL, (pl_attr[]){PL_REALV(start), PL_REALV(step), PL_INT(n), PL_INT(PL_I64)});
  return pl_reshape_to(c, v, 3, (int64_t[]){before, n, after});
}
/* x {outer, r, inner} at index {outer, m, inner}: at the flat places (outer r + index - 1) inner + inner's, 1-based. */
static bool take_along_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                              pl_value *out) {
  pl_slot *slots[] = {pl_slot_get(c, in[0]), pl_slot_get(c, in[1])};
  if (!slots[0] || !slots[1]) return false;
  pl_slot x = *slots[0], index = *slots[1];
  pl_call call = {c, op, n, slots, in, attrs};
  int axis = x.rank ? pl_axis(&call, attrs[0].i, x.rank) : -1;
  if (x.rank && axis < 0) return false;
  bool fits = index.dtype == PL_I64 && index.rank == x.rank && x.rank > 0;
  for (int a = 0; fits && a < x.rank; a++) fits = a == axis || index.shape[a] == x.shape[a];
  if (!fits) {
    pl_shape_error(&call, "the index is i64, of the tensor's shape but along the axis");
    return false;
  }
  if (x.rank == 1) return (out[0] = pl_call2(c, PL_OP(gather), in[0], in[1], &PL_INT(0))) != PL_NONE;
  int64_t outer, r, inner, shape[PL_MAX_RANK];
  pl_split_axis(&x, axis, &outer, &r, &inner);
  pl_value three = pl_reshape_to(c, in[1], 3, (int64_t[]){outer, index.shape[axis], inner});
  pl_value offset = PL_BINARY(add, c, count_up(c, (double)(1 - inner), (double)(r * inner), outer, 1, 1),
                              pl_reshape_to(c, count_up(c, 0, 1, inner, 1, 1), 3, (int64_t[]){1, 1, inner}));
  offset = pl_reshape_to(c, offset, 3, (int64_t[]){outer, 1, inner});
  pl_value flat = PL_BINARY(add, c, PL_BINARY(mul, c, three, pl_like(c, in[1], (double)inner)), offset);
  for (int a = 0; a < x.rank; a++) shape[a] = index.shape[a];
  flat = pl_reshape_to(c, flat, x.rank, shape);
  pl_value both[] = {PL_UNARY(ravel, c, in[0]), flat};
  out[0] = pl_apply1(c, PL_OP(gather), 2, both, &PL_INT(0));
  return out[0] != PL_NONE;
}
static bool sort_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                        pl_value *out) {
  (void)op, (void)n;
  pl_value both[] = {in[0], pl_call1(c, PL_OP(argsort), in[0], attrs)};
  out[0] = pl_apply1(c, PL_OP(take_along), 2, both, attrs);
  return out[0] != PL_NONE;
}

static bool topk_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                        pl_value *out) {
  (void)n;
  pl_slot *s = pl_slot_get(c, in[0]);
  if (!s) return false;
  pl_call call = {c, op, 1, &s, in, attrs};
  int axis = pl_axis(&call, attrs[1].i, s->rank);
  if (axis < 0) return false;
  if (attrs[0].i < 0 || attrs[0].i > s->shape[axis]) {
    pl_error(c, PL_ERROR_ARGUMENT, "%s: %lld of %d elements", op->name, (long long)attrs[0].i, s->shape[axis]);
    return false;
  }
  out[1] = selected(c, in[0], axis, !attrs[2].i, 0, attrs[0].i);
  out[0] = pl_call2(c, PL_OP(take_along), in[0], out[1], &PL_INT(axis));
  return out[0] != PL_NONE;
}

/* Element k along an axis, which is dropped. */
static pl_value element(pl_context *c, pl_value x, int axis, int64_t k) {
  pl_slot *s = pl_slot_get(c, x);
  if (!s) return PL_NONE;
  int64_t shape[PL_MAX_RANK];
  int kept = 0;
  for (int a = 0; a < s->rank; a++)
    if (a != axis) shape[kept++] = s->shape[a];
  return pl_reshape_to(c, pl_part(c, x, axis, k, 1, 1), kept, shape);
}
/* Linear between the order statistics next to place 1 + q (n - 1): R. Hyndman, Y. Fan, Sample quantiles in statistical
 * packages, The American Statistician 50(4), 1996, type 7. */
static bool quantile(pl_context *c, const pl_op *op, pl_value v, double q, const pl_attr *axes, pl_value *out) {
  pl_slot *s = pl_slot_get(c, v);
  if (!s) return false;
  pl_call call = {c, op, 1, &s, &v, axes};
  int axis;
  if (!place_axis(&call, &axis)) return false;
  if (!(q >= 0 && q <= 1)) {
    pl_error(c, PL_ERROR_ARGUMENT, "%s: q is between 0 and 1, not %g", op->name, q);
    return false;
  }
  pl_value x = pl_floats(c, v);
  if (axis < 0) {
    x = PL_UNARY(ravel, c, x);
    axis = 0;
  }
  if (!(s = pl_slot_get(c, x))) return false;
  int64_t n = s->shape[axis];
  if (n == 0) {
    pl_error(c, PL_ERROR_SHAPE, "%s of no elements", op->name);
    return false;
  }
  double place = q * (double)(n - 1);
  int64_t k = (int64_t)floor(place);
  bool between = place > (double)k;
  x = pl_call2(c, PL_OP(take_along), x, selected(c, x, axis, false, k, 1 + between), &PL_INT(axis));
  pl_value lo = element(c, x, axis, 0);
  if (between) {
    pl_value step = PL_BINARY(sub, c, element(c, x, axis, 1), lo);
    lo = PL_BINARY(add, c, lo, PL_BINARY(mul, c, step, pl_like(c, lo, place - (double)k)));
  }
  out[0] = lo;
  return lo != PL_NONE;
}
static bool quantile_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                            pl_value *out) {
  (void)n;
  return quantile(c, op, in[0], attrs[0].r, &attrs[1], out);
}
static bool median_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                          pl_value *out) {
  (void)n;
  return quantile(c, op, in[0], 0.5, &attrs[0], out);
}

/* ---- samples ---- */

/* entries 0.1 apart, so that no step of the test changes their order */
static bool apart(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  s->n = 1;
  if (k == 0) s->in[0] = pl_sample_tensor(c, r, 0, 1, 1, 7);
  if (k == 1) s->in[0] = pl_sample_tensor(c, r, 0, 1, 2, 3, 5);
  if (k == 2) s->in[0] = pl_sample_tensor(c, r, 0, 1, 3, 3, 4, 2);
  if (k == 3) s->in[0] = pl_sample_tensor(c, r, 0, 1, 1, 1);
  if (k > 3) return false;
  pl_slot *x = pl_slot_get(c, s->in[0]);
  for (int64_t i = 0; x && i < x->count; i++) ((double *)x->data)[i] = 0.1 * (double)(11 * i % x->count) - 0.4;
  return true;
}
PL_SAMPLE(place) {
  if (!apart(c, r, k, s)) return false;
  s->lists[0][0] = k == 2 ? 1 : -1;
  s->attrs[0] = k == 1 ? PL_INTS(-1, NULL) : PL_INTS(1, s->lists[0]);
  s->attrs[1] = PL_INT(k == 2);
  return true;
}
PL_SAMPLE(sorting) {
  if (!apart(c, r, k, s)) return false;
  s->attrs[0] = PL_INT(k == 2 ? 1 : -1);
  s->attrs[1] = PL_INT(k == 1);
  return true;
}
PL_SAMPLE(selecting) {
  if (!sorting_sample(c, r, k, s)) return false;
  s->attrs[2] = PL_INT(k == 0 ? 2 : 0);
  s->attrs[3] = PL_INT(k == 0 ? 3 : 1);
  return true;
}
PL_SAMPLE(along) {
  if (!apart(c, r, k, s)) return false;
  s->attrs[0] = PL_INT(k == 2 ? 1 : -1);
  s->in[1] = pl_call1(c, PL_OP(argsort), s->in[0], (pl_attr[]){s->attrs[0], PL_INT(0)});
  s->n = 2;
  return true;
}
PL_SAMPLE(median) {
  if (!apart(c, r, k, s)) return false;
  s->lists[0][0] = 1;
  s->attrs[0] = k == 2 ? PL_INTS(1, s->lists[0]) : PL_INTS(-1, NULL);
  return true;
}
PL_SAMPLE(quantile) {
  if (!median_sample(c, r, k, s)) return false;
  s->attrs[1] = s->attrs[0];
  s->attrs[0] = PL_REALV(k == 1 ? 1 : 0.3);
  return true;
}
PL_SAMPLE(top) {
  if (!apart(c, r, k, s)) return false;
  s->attrs[0] = PL_INT(k == 3 ? 1 : 2);
  s->attrs[1] = PL_INT(k == 2 ? 1 : -1);
  s->attrs[2] = PL_INT(k == 1);
  return true;
}
PL_SAMPLE(search) {
  if (k > 1) return false;
  s->n = 2;
  s->in[0] = pl_tensor(c, PL_F64, 1, (int64_t[]){4}, (double[]){-1, 0, 0.5, 2});
  s->in[1] = pl_sample_tensor(c, r, -2, 3, 2, 3, 2);
  s->attrs[0] = PL_INT(k);
  return true;
}

#define PLACES(op, text, shp, smp)                                                                                    \
  .name = #op, .formula = text, .kind = PL_OPAQUE, .outputs = 1, .dtypes = PL_NUMBERS, .shape = shp, .run = op##_run, \
  .sample = smp##_sample
#define COMPOSED(op, text, smp) \
  .name = #op, .formula = text, .kind = PL_COMPOSITE, .expand = op##_expand, .sample = smp##_sample
#define ORDER \
  {"axis", PL_AS_AXIS, false, -1}, { "descending", PL_AS_FLAG, false, 0 }

pl_op pl_ops_order[] = {
    {PLACES(argmax, "1-based place of the largest along an axis (without one, among all elements); the first of equals",
            place_shape, place),
     .shapes = "{...} -> {} or the other axes, i64", .derivative = "none: places are whole numbers", .inputs = 1,
     .attrs = {{"axis", PL_AS_AXES, false, 0}, {"keep", PL_AS_FLAG, false, 0}}},
    {PLACES(argmin,
            "1-based place of the smallest along an axis (without one, among all elements); the first of equals",
            place_shape, place),
     .shapes = "{...} -> {} or the other axes, i64", .derivative = "none: places are whole numbers", .inputs = 1,
     .attrs = {{"axis", PL_AS_AXES, false, 0}, {"keep", PL_AS_FLAG, false, 0}}},
    {PLACES(argsort,
            "1-based places in ascending order along an axis (the last by default), equals in theirs; NaN last",
            argsort_shape, sorting),
     .shapes = "{...} -> {...}, i64", .derivative = "none: places are whole numbers", .inputs = 1, .attrs = {ORDER}},
    {PLACES(select_places, "count of argsort's places behind the first ones", select_shape, selecting),
     .shapes = "{..., m, ...} -> {..., count, ...}, i64", .derivative = "none: places are whole numbers",
     .source = "R. Floyd, R. Rivest, Communications of the ACM 18(3), 1975", .internal = true, .inputs = 1,
     .attrs = {ORDER, {"first", PL_AS_INT, true, 0}, {"count", PL_AS_INT, true, 0}}},
    {PLACES(searchsorted,
            "1-based place in sorted x before which z belongs: behind those smaller, with right also behind its equals",
            searchsorted_shape, search),
     .shapes = "{m}, {...} -> {...}, i64", .derivative = "none: places are whole numbers", .leading = 1 << 1,
     .inputs = 2, .attrs = {{"right", PL_AS_FLAG, false, 0}}},
    {COMPOSED(take_along, "x at the 1-based places of an index of its shape, along an axis (the last by default)",
              along),
     .shapes = "{..., m, ...}, {..., k, ...} -> {..., k, ...}", .inputs = 2, .outputs = 1,
     .attrs = {{"axis", PL_AS_AXIS, false, -1}}},
    {COMPOSED(sort, "ascending along an axis (the last by default)", sorting), .shapes = "{...} -> {...}",
     .derivative = "moved along", .inputs = 1, .outputs = 1, .attrs = {ORDER}},
    {COMPOSED(median, "the middle one along an axis (of all by default), the mean of two", median),
     .shapes = "{...} -> {} or the other axes", .derivative = "goes to the elements that are taken", .inputs = 1,
     .outputs = 1, .attrs = {{"axis", PL_AS_AXES, false, 0}}},
    {COMPOSED(quantile, "of q between 0 and 1 along an axis (of all by default), linear between order statistics",
              quantile),
     .shapes = "{...} -> {} or the other axes", .derivative = "goes to the elements that are taken",
     .source = "R. Hyndman, Y. Fan, American Statistician 50(4), 1996: definition 7", .inputs = 1, .outputs = 1,
     .attrs = {{"q", PL_AS_REAL, true, 0}, {"axis", PL_AS_AXES, false, 0}}},
    {COMPOSED(topk, "the k largest along an axis (the last by default), descending, and their places; or smallest",
              top),
     .shapes = "{..., m, ...} -> {..., k, ...} twice", .derivative = "goes to the elements that are taken", .inputs = 1,
     .outputs = 2,
     .attrs = {{"k", PL_AS_INT, true, 0}, {"axis", PL_AS_AXIS, false, -1}, {"smallest", PL_AS_FLAG, false, 0}}},
    {0},
};
