/* scatter.c: what goes by index data, which is 1-based: gathers, scatters and what segments make of them. Gathering,
 * adding and putting are linear in their float inputs; results do not depend on the order in which threads come. */
#include <math.h>
#include <string.h>

#include "../../kernels/shapes.h"
#include "../op.h"
#include "../schedule.h"

/* ---- gather and scatter: attribute axis; index is input 1, 1-based ---- */

static void index_error(const pl_call *call, const pl_slot *index, int64_t k, int64_t m) {
  pl_error(call->c, PL_ERROR_INDEX, "%s: index %lld (entry %lld) is out of range 1 to %lld", call->op->name,
           (long long)((const int64_t *)index->data)[k], (long long)k + 1, (long long)m);
}
static bool check_index(const pl_call *call, const pl_slot *index, int64_t m) {
  const int64_t *i = index->data;
  int64_t bad = 0;
  for (int64_t k = 0; k < index->count; k++) bad |= i[k] < 1 || i[k] > m;
  for (int64_t k = 0; k < index->count && bad; k++)
    if (i[k] < 1 || i[k] > m) {
      index_error(call, index, k, m);
      return false;
    }
  return true;
}
static bool gather_spec(const pl_call *call, const pl_slot *x, pl_spec *out) {
  const pl_slot *index = call->in[1];
  int axis = pl_axis(call, call->attrs[0].i, x->rank);
  if (axis < 0) return false;
  if (x->rank - 1 + index->rank > PL_MAX_RANK) {
    pl_shape_error(call, "the result has more than 8 axes");
    return false;
  }
  out->dtype = (pl_dtype)x->dtype;
  out->rank = 0;
  for (int a = 0; a < axis; a++) out->shape[out->rank++] = x->shape[a];
  for (int a = 0; a < index->rank; a++) out->shape[out->rank++] = index->shape[a];
  for (int a = axis + 1; a < x->rank; a++) out->shape[out->rank++] = x->shape[a];
  if (index->dtype == PL_I64) return true;
  pl_error(call->c, PL_ERROR_TYPE, "%s: indices are i64, not %s", call->op->name,
           pl_dtype_name((pl_dtype)index->dtype));
  return false;
}
static bool gather_shape(const pl_call *call, pl_spec *out) { return gather_spec(call, call->in[0], out); }
/* Each piece of the index leaves the number of its first entry out of range, or 0. */
static void gather_run(const pl_call *call, pl_slot **out) {
  const pl_slot *x = call->in[0], *index = call->in[1];
  int64_t outer, few[16];
  gather_args a = {.x = x->data, .index = index->data, .y = out[0]->data, .k = index->count, .bad = few};
  pl_split_axis(x, pl_axis(call, call->attrs[0].i, x->rank), &outer, &a.m, &a.inner);
  if (out[0]->count == 0 || a.m == 0) {
    check_index(call, index, a.m);
    return;
  }
  a.piece = 1 + PL_GATHER_PIECE / a.inner;
  a.pieces = (a.k + a.piece - 1) / a.piece;
  if (a.pieces > 16 && !(a.bad = pl_memory_new(call->c, (size_t)a.pieces * sizeof *a.bad))) return;
  int64_t each = a.k < a.piece ? a.k : a.piece;
  pl_for(call->c, PL_KERNEL_OF(gather, x->dtype), &a, outer * a.pieces, 1, (double)(each * (a.inner + 2)));
  for (int64_t p = 0; p < a.pieces && call->c->status == PL_OK; p++)
    if (a.bad[p]) index_error(call, index, a.bad[p] - 1, a.m);
  if (a.bad != few) pl_memory_free(call->c, a.bad);
}
static void gather_vjp(pl_vjp *v) {
  pl_value more[] = {v->in[1], v->g[0]};
  pl_vjp_give_into(v, 0, PL_OP(add_at), 2, more, v->attrs);
}

/* add_at(base, index, w), put, max_at, min_at */
static bool scatter_shape(const pl_call *call, pl_spec *out) {
  pl_spec region = {.rank = 0};
  const pl_slot *x = call->in[0], *w = call->in[2];
  if (!gather_spec(call, x, &region)) return false;
  if (w->rank != region.rank || memcmp(w->shape, region.shape, w->rank * sizeof *w->shape)) {
    char a[PL_TEXT], b[PL_TEXT];
    pl_error(call->c, PL_ERROR_SHAPE, "%s: the selection has shape %s, what goes into it %s", call->op->name,
             pl_shape_text(a, region.rank, region.shape), pl_shape_text(b, w->rank, w->shape));
    return false;
  }
  pl_dtype dtype = out->dtype;
  pl_spec_of(x, out);
  out->dtype = dtype;
  return true;
}
/* Long indices with few rows go in pieces, each into rows of its own, wide rows in strips of columns: how is a matter
 * of the sizes alone, so results do not depend on threads. `join`: the kernel that puts pieces together; NULL: the
 * order of all entries matters. */
static void scatter(const pl_call *call, pl_slot *out, const pl_slot *index, const pl_slot *x, int64_t outer, int64_t m,
                    int64_t inner, pl_kernel kernel, pl_kernel join) {
  enum { PIECE = 1 << 15, STRIP = 64 };
  pl_context *c = call->c;
  int64_t few[16];
  index_args a = {.x = x->data,
                  .index = index->data,
                  .y = out->data,
                  .m = m,
                  .k = index->count,
                  .inner = inner,
                  .piece = index->count,
                  .pieces = 1,
                  .width = inner,
                  .strips = 1,
                  .bad = few};
  if (outer * inner == 0 || a.k == 0) {
    check_index(call, index, m);
    return;
  }
  if (inner >= 2 * STRIP) {
    a.width = STRIP;
    a.strips = (inner + STRIP - 1) / STRIP;
  } else if (join && 8 * m * inner <= PIECE && a.k * inner > PIECE) {
    a.piece = PIECE / inner;
    a.pieces = (a.k + a.piece - 1) / a.piece;
  }
  size_t own = (size_t)(outer * a.pieces * m * inner) * pl_dtype_size((pl_dtype)out->dtype);
  if (a.pieces > 1) a.y = pl_memory_new(c, own + 64);
  if (a.pieces > 16) a.bad = pl_memory_new(c, (size_t)a.pieces * sizeof *a.bad);
  if (a.y && a.bad) pl_for(c, kernel, &a, outer * a.pieces * a.strips, 1, (double)(a.piece * (a.width + 2)));
  for (int64_t p = 0; p < a.pieces && c->status == PL_OK; p++)
    if (a.bad[p]) index_error(call, index, a.bad[p] - 1, m);
  if (a.pieces > 1 && c->status == PL_OK) {
    a.x = a.y;
    a.y = out->data;
    pl_for(c, join, &a, outer, 1, (double)(a.pieces * m * inner));
    a.y = (void *)a.x;
  }
  if (a.pieces > 1) pl_memory_free(c, a.y);
  if (a.bad != few) pl_memory_free(c, a.bad);
}
static void scatter_onto(const pl_call *call, pl_slot *out, pl_kernel kernel, pl_kernel join) {
  int64_t outer, m, inner;
  const pl_slot *x = call->in[0];
  pl_split_axis(x, pl_axis(call, call->attrs[0].i, x->rank), &outer, &m, &inner);
  if (out->data != x->data) memcpy(out->data, x->data, (size_t)out->count * pl_dtype_size((pl_dtype)out->dtype));
  scatter(call, out, call->in[1], call->in[2], outer, m, inner, kernel, join);
}
#define SCATTER(op, kernel, join)                                                    \
  static void op##_run(const pl_call *call, pl_slot **out) {                         \
    scatter_onto(call, out[0], PL_KERNEL_OF(scatter_##kernel, out[0]->dtype), join); \
  }
#define JOIN(kernel) PL_KERNEL_OF(scatter_join_##kernel, out[0]->dtype)
SCATTER(add_at, add, JOIN(add))
SCATTER(put, set, NULL)
SCATTER(max_at, max, JOIN(max))
SCATTER(min_at, min, JOIN(min))

static void add_at_vjp(pl_vjp *v) {
  pl_vjp_give(v, 0, v->g[0]);
  if (v->need[2]) pl_vjp_give(v, 2, pl_call2(v->c, PL_OP(gather), v->g[0], v->in[1], v->attrs));
}
/* With repeated indices the last one stays: only it has a derivative. The winner is found by putting entry numbers. */
static void put_vjp(pl_vjp *v) {
  pl_context *c = v->c;
  if (v->need[0]) pl_vjp_give(v, 0, pl_call3(c, PL_OP(put), v->g[0], v->in[1], pl_zeros_like(c, v->in[2]), v->attrs));
  pl_slot *index = pl_slot_get(c, v->in[1]), *x = pl_slot_get(c, v->in[0]);
  if (!v->need[2] || !index || !x) return;
  pl_value g = pl_call2(c, PL_OP(gather), v->g[0], v->in[1], v->attrs);
  int64_t k = index->count, m = x->shape[v->attrs[0].i < 0 ? v->attrs[0].i + x->rank : v->attrs[0].i];
  pl_value number =
      pl_call1(c, PL_OP(reshape),
               pl_apply1(c, PL_OP(range), 0, NULL, (pl_attr[]){PL_REALV(1), PL_REALV(1), PL_INT(k), PL_INT(PL_F64)}),
               &PL_INTS(1, &k));
  pl_value flat = pl_reshape_to(c, v->in[1], 1, &k);
  pl_value none = pl_apply1(c, PL_OP(zeros), 0, NULL, (pl_attr[]){PL_INTS(1, &m), PL_INT(PL_F64)});
  pl_value winner = pl_call3(c, PL_OP(put), none, flat, number, &PL_INT(0));
  pl_value wins = PL_BINARY(eq, c, pl_call2(c, PL_OP(gather), winner, flat, &PL_INT(0)), number);
  /* as index, then ones for the axes behind it */
  int64_t shape[2 * PL_MAX_RANK];
  int rank = 0, axis = (int)(v->attrs[0].i < 0 ? v->attrs[0].i + x->rank : v->attrs[0].i);
  for (int a = 0; a < index->rank; a++) shape[rank++] = index->shape[a];
  for (int a = axis + 1; a < x->rank; a++) shape[rank++] = 1;
  pl_vjp_give(v, 2, PL_WHERE(c, pl_reshape_to(c, wins, rank, shape), g, pl_like(c, g, 0)));
}

/* ---- max_at, min_at: all that equal the result share the derivative ---- */

typedef struct {
  pl_value base, entries, ties; /* which of x and of w equal the result (1 or 0); how many do, at each place of x */
} sharing;
static sharing shared(pl_context *c, const pl_value *in, pl_value y, const pl_attr *attrs) {
  pl_slot *s = pl_slot_get(c, y);
  if (!s) return (sharing){PL_NONE, PL_NONE, PL_NONE};
  pl_dtype dtype = (pl_dtype)s->dtype;
  sharing h = {.base = pl_cast(c, PL_BINARY(eq, c, in[0], y), dtype)};
  h.entries = pl_cast(c, PL_BINARY(eq, c, in[2], pl_call2(c, PL_OP(gather), y, in[1], attrs)), dtype);
  h.ties = pl_call3(c, PL_OP(add_at), h.base, in[1], h.entries, attrs);
  return h;
}
static void extreme_at_vjp(pl_vjp *v) {
  pl_context *c = v->c;
  sharing h = shared(c, v->in, v->out[0], v->attrs);
  pl_value each = PL_BINARY(div, c, v->g[0], h.ties);
  if (v->need[0]) pl_vjp_give(v, 0, pl_times(c, each, h.base));
  if (v->need[2]) pl_vjp_give(v, 2, pl_times(c, pl_call2(c, PL_OP(gather), each, v->in[1], v->attrs), h.entries));
}
static void extreme_at_jvp(pl_jvp *j) {
  pl_context *c = j->c;
  sharing h = shared(c, j->in, j->out[0], j->attrs);
  pl_value t = pl_times(c, j->t[0], h.base), w = pl_times(c, j->t[2], h.entries);
  if (w != PL_ZERO) t = pl_call3(c, PL_OP(add_at), t == PL_ZERO ? pl_zeros_like(c, h.base) : t, j->in[1], w, j->attrs);
  j->dt[0] = PL_BINARY(div, c, t, h.ties);
}

/* ---- mul_at: the entries sorted by place, running products within each place by doubling; of each place the last one
 * is the product of all. No division: zeros are right to any order. ---- */

/* How many neighbours of a sorted index are equal, at most; all where it is not known. */
static int64_t longest_run(pl_context *c, pl_value sorted) {
  pl_slot *s = pl_slot_get(c, sorted);
  if (!s || s->flags & PL_FLAG_TRACED) return s ? s->count : 0;
  const int64_t *i = s->data;
  int64_t longest = 0;
  for (int64_t k = 0, run = 0; k < s->count; k++) {
    run = k && i[k] == i[k - 1] ? run + 1 : 1;
    if (run > longest) longest = run;
  }
  return longest;
}
static bool mul_at_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                          pl_value *out) {
  pl_slot *slots[3];
  for (int i = 0; i < 3; i++)
    if (!(slots[i] = pl_slot_get(c, in[i]))) return false;
  pl_call call = {c, op, n, slots, in, attrs};
  pl_spec spec;
  if (!scatter_shape(&call, &spec)) return false;
  int64_t outer, m, inner, k = slots[1]->count;
  pl_split_axis(slots[0], pl_axis(&call, attrs[0].i, slots[0]->rank), &outer, &m, &inner);
  pl_attr first = PL_INT(0), middle = PL_INT(1);
  pl_value index = pl_reshape_to(c, in[1], 1, &k), w = pl_reshape_to(c, in[2], 3, (int64_t[]){outer, k, inner});
  pl_value order = pl_call1(c, PL_OP(argsort), index, (pl_attr[]){first, PL_INT(0)});
  index = pl_call2(c, PL_OP(gather), index, order, &first);
  w = pl_call2(c, PL_OP(gather), w, order, &middle);
  int64_t run = longest_run(c, index);
  for (int64_t d = 1; d < run && !c->status; d *= 2) {
    pl_value same = PL_BINARY(eq, c, pl_part(c, index, 0, d, 1, k - d), pl_part(c, index, 0, 0, 1, k - d));
    pl_value here = pl_part(c, w, 1, d, 1, k - d), both = PL_BINARY(mul, c, pl_part(c, w, 1, 0, 1, k - d), here);
    same = pl_reshape_to(c, same, 2, (int64_t[]){k - d, 1});
    pl_value parts[] = {pl_part(c, w, 1, 0, 1, d), PL_WHERE(c, same, both, here)};
    w = pl_apply1(c, PL_OP(concat), 2, parts, &middle);
  }
  pl_value ones = pl_call1(c, PL_OP(broadcast_to), pl_like(c, w, 1), &PL_INTS(3, ((int64_t[]){outer, m, inner})));
  pl_value factor = pl_call3(c, PL_OP(put), ones, index, w, &middle);
  out[0] = PL_BINARY(mul, c, in[0], pl_reshape_like(c, factor, in[0]));
  return out[0] != PL_NONE;
}

/* ---- segment_sum ...: rows of x joined by their segment ---- */

static bool segments_fit(pl_context *c, const pl_op *op, int64_t n) {
  if (n >= 0 && n <= INT32_MAX) return true;
  pl_error(c, PL_ERROR_ARGUMENT, "%s: %lld is no number of segments", op->name, (long long)n);
  return false;
}
/* x, in floats where `whole`, goes with `op` into n rows of `start`. */
static pl_value segments(pl_context *c, const pl_op *op, const pl_value *in, int64_t n, const pl_op *into, bool whole,
                         double start) {
  pl_slot *slots[] = {pl_slot_get(c, in[0]), pl_slot_get(c, in[1])};
  if (!slots[0] || !slots[1]) return PL_NONE;
  pl_slot x = *slots[0];
  pl_call call = {c, op, 2, slots, in, NULL};
  if (x.rank == 0 || slots[1]->rank != 1 || slots[1]->shape[0] != x.shape[0] || slots[1]->dtype != PL_I64) {
    pl_shape_error(&call, "the segments are an i64 vector, one for each row of x");
    return PL_NONE;
  }
  if (!segments_fit(c, op, n)) return PL_NONE;
  int64_t shape[PL_MAX_RANK];
  for (int a = 0; a < x.rank; a++) shape[a] = a ? x.shape[a] : n;
  pl_value rows = whole ? pl_floats(c, in[0]) : in[0];
  pl_value base = pl_call1(c, PL_OP(broadcast_to), pl_like(c, rows, start), &PL_INTS(x.rank, shape));
  return pl_call3(c, into, base, in[1], rows, &PL_INT(0));
}
#define SEGMENTS(name, into, whole, start)                                                                   \
  static bool name##_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs, \
                            pl_value *out) {                                                                 \
    (void)n;                                                                                                 \
    return (out[0] = segments(c, op, in, attrs[0].i, PL_OP(into), whole, start)) != PL_NONE;                 \
  }
SEGMENTS(segment_sum, add_at, false, 0)
SEGMENTS(segment_max, max_at, true, -INFINITY)
SEGMENTS(segment_min, min_at, true, INFINITY)

static bool segment_mean_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                                pl_value *out) {
  (void)n;
  pl_value sum = segments(c, op, in, attrs[0].i, PL_OP(add_at), true, 0);
  pl_slot *s = pl_slot_get(c, sum);
  if (!s) return false;
  int64_t shape[PL_MAX_RANK] = {s->shape[0], 1, 1, 1, 1, 1, 1, 1};
  int rank = s->rank;
  pl_value counts = pl_cast(c, pl_call1(c, PL_OP(bincount), in[1], attrs), (pl_dtype)s->dtype);
  out[0] = PL_BINARY(div, c, sum, pl_reshape_to(c, counts, rank, shape));
  return out[0] != PL_NONE;
}

/* ---- bincount: how often each of 1 ... n stands in an index ---- */

static bool bincount_shape(const pl_call *call, pl_spec *out) {
  int64_t n = call->attrs[0].i;
  if (call->in[0]->dtype != PL_I64) {
    pl_error(call->c, PL_ERROR_TYPE, "%s: places are i64, not %s", call->op->name,
             pl_dtype_name((pl_dtype)call->in[0]->dtype));
    return false;
  }
  *out = (pl_spec){PL_I64, 1, {(int32_t)n}};
  return segments_fit(call->c, call->op, n);
}
static void bincount_run(const pl_call *call, pl_slot **out) {
  memset(out[0]->data, 0, (size_t)out[0]->count * sizeof(int64_t));
  scatter(call, out[0], call->in[0], call->in[0], 1, out[0]->count, 1, PL_KERNEL_OF(scatter_count, PL_I64),
          PL_KERNEL_OF(scatter_join_add, PL_I64));
}

/* ---- nonzero ---- */

static bool nonzero_shape(const pl_call *call, pl_spec *out) {
  if (pl_slot_unknown(call->c, call->in[0])) return false;
  const uint8_t *x = call->in[0]->data;
  int64_t n = 0;
  for (int64_t i = 0; i < call->in[0]->count; i++) n += x[i] != 0;
  *out = (pl_spec){PL_I64, 1, {(int32_t)n}};
  return true;
}
static void nonzero_run(const pl_call *call, pl_slot **out) {
  const uint8_t *x = call->in[0]->data;
  int64_t *y = out[0]->data;
  for (int64_t i = 0; i < call->in[0]->count; i++)
    if (x[i]) *y++ = i + 1;
}
/* ---- samples ---- */

static pl_value random_tensor(pl_context *c, pl_sampler_random *r, int rank, const int64_t *shape) {
  pl_value v = pl_tensor(c, PL_F64, rank, shape, NULL);
  pl_slot *s = pl_slot_get(c, v);
  for (int64_t i = 0; s && i < s->count; i++) ((double *)s->data)[i] = pl_sample_uniform(r, -1, 1);
  return v;
}
static pl_value sample_index(pl_context *c, pl_sampler_random *r, int64_t m, int rank, const int64_t *shape) {
  pl_value v = pl_tensor(c, PL_I64, rank, shape, NULL);
  pl_slot *s = pl_slot_get(c, v);
  for (int64_t i = 0; s && i < s->count; i++) ((int64_t *)s->data)[i] = 1 + (int64_t)pl_sample_uniform(r, 0, (double)m);
  return v;
}
PL_SAMPLE(gather) {
  s->n = 2;
  s->attrs[0] = PL_INT(k == 1 ? -1 : k == 2 ? 1 : 0);
  if (k == 0) s->in[0] = pl_sample_tensor(c, r, -1, 1, 1, 5), s->in[1] = sample_index(c, r, 5, 1, (int64_t[]){9});
  if (k == 1) s->in[0] = pl_sample_tensor(c, r, -1, 1, 2, 3, 4), s->in[1] = sample_index(c, r, 4, 2, (int64_t[]){2, 3});
  if (k == 2) s->in[0] = pl_sample_tensor(c, r, -1, 1, 3, 2, 4, 3), s->in[1] = sample_index(c, r, 4, 0, NULL);
  if (k == 3) s->in[0] = pl_sample_tensor(c, r, -1, 1, 1, 5), s->in[1] = sample_index(c, r, 5, 1, (int64_t[]){0});
  return k <= 3;
}
PL_SAMPLE(scatter) {
  if (!gather_sample(c, r, k, s)) return false;
  pl_value g = pl_apply1(c, PL_OP(gather), 2, s->in, s->attrs);
  pl_slot *t = pl_slot_get(c, g);
  int64_t shape[PL_MAX_RANK];
  for (int a = 0; t && a < t->rank; a++) shape[a] = t->shape[a];
  s->n = 3;
  s->in[2] = random_tensor(c, r, t ? t->rank : 0, shape);
  pl_release(c, g);
  return true;
}
PL_SAMPLE(nonzero) {
  if (k > 0) return false;
  pl_value x = pl_sample_tensor(c, r, -1, 1, 2, 3, 5), zero = pl_constant(c, PL_F64, 0);
  s->n = 1;
  s->in[0] = PL_BINARY(gt, c, x, zero);
  pl_release(c, x);
  return true;
}
/* all entries apart, so that no step of the test changes which is the largest */
PL_SAMPLE(extreme) {
  if (!scatter_sample(c, r, k, s)) return false;
  for (int i = 0, number = 0; i < 3; i += 2) {
    pl_slot *x = pl_slot_get(c, s->in[i]);
    for (int64_t j = 0; x && j < x->count; j++) ((double *)x->data)[j] = 0.1 * (11 * number++ % 31);
  }
  return true;
}
PL_SAMPLE(segment) { /* each has a row: what is not finite has no slope */
  if (k > 1) return false;
  s->n = 2;
  s->in[0] = k ? pl_sample_tensor(c, r, -1, 1, 1, 6) : pl_sample_tensor(c, r, -1, 1, 2, 6, 2);
  pl_slot *x = pl_slot_get(c, s->in[0]);
  for (int64_t j = 0; x && j < x->count; j++) ((double *)x->data)[j] = 0.1 * (double)(5 * j % 13);
  s->in[1] = pl_tensor(c, PL_I64, 1, (int64_t[]){6}, (int64_t[]){2, 1, 2, 3, 1, 2});
  s->attrs[0] = PL_INT(3);
  return true;
}
PL_SAMPLE(places) {
  (void)r;
  if (k > 0) return false;
  s->n = 1;
  s->in[0] = pl_tensor(c, PL_I64, 2, (int64_t[]){2, 2}, (int64_t[]){2, 1, 2, 5});
  s->attrs[0] = PL_INT(5);
  return true;
}

#define AXIS .attrs = {{"axis", PL_AS_AXIS, false, 0}}
#define INTO "{..., m, ...}, {index...}, {..., index..., ...} -> {..., m, ...}"
#define SCATTERED(op, text, smp)                                                                         \
  .name = #op, .formula = "x with w " text, .shapes = INTO, .inputs = 3, .outputs = 1, .keeps = 2, AXIS, \
  .shape = scatter_shape, .run = op##_run, .in_place = true, .sample = smp##_sample
#define LINEAR(op) .kind = PL_MOVE, .dtypes = PL_ANY, .linear = true, .vjp = op##_vjp
#define EXTREME                                                                          \
  .kind = PL_OPAQUE, .dtypes = PL_NUMBERS, .vjp = extreme_at_vjp, .jvp = extreme_at_jvp, \
  .derivative = "shared by all that equal the result"
#define SEGMENT(op, text)                                                                                        \
  .name = #op, .formula = "row k of n: the " text " of x's rows whose segment (1-based) is k",                   \
  .shapes = "{m, ...}, {m} -> {n, ...}", .kind = PL_COMPOSITE, .inputs = 2, .outputs = 1, .expand = op##_expand, \
  .attrs = {{"n", PL_AS_INT, true, 0}}, .sample = segment_sample

pl_op pl_ops_scatter[] = {
    {.name = "gather",
     .formula = "x at 1-based indices along an axis (the first by default)",
     .shapes = "{..., m, ...}, {index...} -> {..., index..., ...}",
     .kind = PL_MOVE,
     .inputs = 2,
     .outputs = 1,
     .dtypes = PL_ANY,
     .keeps = 2,
     .linear = true,
     AXIS,
     .shape = gather_shape,
     .run = gather_run,
     .vjp = gather_vjp,
     .sample = gather_sample},
    {SCATTERED(add_at, "added at 1-based indices along an axis; repeated ones add up", scatter), LINEAR(add_at)},
    {SCATTERED(put, "put at 1-based indices along an axis; of repeated ones the last stays", scatter), LINEAR(put)},
    {SCATTERED(max_at, "at 1-based indices along an axis where that is larger, of repeated ones the largest", extreme),
     EXTREME},
    {SCATTERED(min_at, "at 1-based indices along an axis where that is smaller, of repeated ones the smallest",
               extreme),
     EXTREME},
    {.name = "mul_at",
     .formula = "x times w at 1-based indices along an axis; repeated ones all multiply",
     .shapes = INTO,
     .source = "prefix products: W. Hillis, G. Steele, Data parallel algorithms, CACM 29(12), 1986",
     .kind = PL_COMPOSITE,
     .inputs = 3,
     .outputs = 1,
     AXIS,
     .expand = mul_at_expand,
     .sample = scatter_sample},
    {SEGMENT(segment_sum, "sum")},
    {SEGMENT(segment_mean, "mean (NaN where there is none)")},
    {SEGMENT(segment_max, "largest (-inf where there is none)"), .derivative = "ties share it"},
    {SEGMENT(segment_min, "smallest (inf where there is none)"), .derivative = "ties share it"},
    {.name = "bincount",
     .formula = "how often each of 1 to n stands among i64 places",
     .shapes = "{...} -> {n}, i64",
     .derivative = "none: counts are whole numbers",
     .kind = PL_MOVE,
     .inputs = 1,
     .outputs = 1,
     .dtypes = PL_ANY,
     .attrs = {{"n", PL_AS_INT, true, 0}},
     .shape = bincount_shape,
     .run = bincount_run,
     .sample = places_sample},
    {.name = "nonzero",
     .formula = "1-based places of the true elements in row-major order",
     .shapes = "{...} -> {count of true}, i64",
     .derivative = "none: places are whole numbers",
     .kind = PL_MOVE,
     .inputs = 1,
     .outputs = 1,
     .dtypes = PL_ANY,
     .masks = 1,
     .shape = nonzero_shape,
     .run = nonzero_run,
     .sample = nonzero_sample},
    {0},
};
