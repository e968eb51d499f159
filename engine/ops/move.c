/* move.c: what rearranges data: shapes, slices, joins; and constructors. All are linear in their float inputs; indices
 * in attributes are 0-based. */
#include <string.h>

#include "../../kernels/shapes.h"
#include "../op.h"
#include "../schedule.h"

/* ---- strided copies ---- */

/* Runs copy_strided or add_strided over the shape, after merging axes that lie together in both. */
static void strided(pl_context *c, bool add, pl_dtype dtype, const void *x, const int64_t *xs, void *y,
                    const int64_t *ys, int rank, const int64_t *shape) {
  strided_args a = {.x = x, .y = y};
  int n = 0;
  for (int d = 0; d < rank; d++) {
    if (shape[d] == 0) return;
    if (shape[d] == 1) continue;
    if (n && a.xs[n - 1] == xs[d] * shape[d] && a.ys[n - 1] == ys[d] * shape[d]) {
      a.shape[n - 1] *= shape[d];
    } else {
      a.shape[n++] = shape[d];
    }
    a.xs[n - 1] = xs[d];
    a.ys[n - 1] = ys[d];
  }
  if (n == 0) {
    a.shape[n] = a.xs[n] = a.ys[n] = 1;
    n = 1;
  }
  a.rank = n;
  int64_t rows = 1;
  for (int d = 0; d < n - 1; d++) rows *= a.shape[d];
  /* One long row is split so that threads and interrupts can reach into it. */
  if (rows == 1 && n < PL_MAX_RANK && a.shape[0] >= 1 << 17) {
    int64_t piece = 1 << 14, whole = a.shape[0] / piece, rest = a.shape[0] % piece;
    strided_args b = {.x = x,
                      .y = y,
                      .rank = 2,
                      .shape = {whole, piece},
                      .xs = {a.xs[0] * piece, a.xs[0]},
                      .ys = {a.ys[0] * piece, a.ys[0]}};
    pl_kernel fn = add ? PL_KERNEL_OF(add_strided, dtype) : PL_KERNEL_OF(copy_strided, dtype);
    pl_for(c, fn, &b, whole, 1, (double)piece);
    if (rest) {
      size_t size = pl_dtype_size(dtype);
      b.x = (const char *)x + whole * piece * a.xs[0] * (int64_t)size;
      b.y = (char *)y + whole * piece * a.ys[0] * (int64_t)size;
      b.shape[0] = 1;
      b.shape[1] = rest;
      fn(&b, 0, 1);
    }
    return;
  }
  pl_for(c, add ? PL_KERNEL_OF(add_strided, dtype) : PL_KERNEL_OF(copy_strided, dtype), &a, rows, 1,
         (double)a.shape[n - 1] + 4);
}

static void strides_of(const pl_slot *s, int64_t *strides) {
  int64_t stride = 1;
  for (int d = s->rank - 1; d >= 0; d--) {
    strides[d] = stride;
    stride *= s->shape[d];
  }
}

static char *at(const pl_slot *s, int64_t offset) {
  return (char *)s->data + offset * (int64_t)pl_dtype_size((pl_dtype)s->dtype);
}

static void copy_shape(const pl_slot *x, pl_spec *out) {
  out->dtype = (pl_dtype)x->dtype;
  out->rank = x->rank;
  memcpy(out->shape, x->shape, sizeof out->shape);
}

/* ---- numbers and derivatives that end ---- */

/* number: cell `cell` of a vector of 8-byte cells, as a 0-d tensor of the dtype (body.h) */
static bool number_shape(const pl_call *call, pl_spec *out) {
  out->dtype = (pl_dtype)call->attrs[1].i;
  return true;
}
static void number_run(const pl_call *call, pl_slot **out) {
  memcpy(out[0]->data, (const double *)call->in[0]->data + call->attrs[0].i, 8);
}
static void no_vjp(pl_vjp *v) { (void)v; }
static void no_jvp(pl_jvp *j) { j->dt[0] = PL_ZERO; }

/* ---- shapes ---- */

static bool identity_shape(const pl_call *call, pl_spec *out) { return copy_shape(call->in[0], out), true; }
static void reshape_vjp(pl_vjp *v) { pl_vjp_give(v, 0, pl_reshape_like(v->c, v->g[0], v->in[0])); }

static bool list_shape(const pl_call *call, const pl_attr *list, pl_spec *out) {
  char text[PL_TEXT];
  if (list->n > PL_MAX_RANK || list->n < 0) {
    pl_error(call->c, PL_ERROR_SHAPE, "%s: a shape has 0 to %d sizes", call->op->name, PL_MAX_RANK);
    return false;
  }
  out->rank = list->n;
  for (int i = 0; i < list->n; i++) {
    if (list->list[i] > INT32_MAX || list->list[i] < 0) {
      pl_error(call->c, PL_ERROR_SHAPE, "%s: %lld is no size of an axis", call->op->name, (long long)list->list[i]);
      return false;
    }
    out->shape[i] = (int32_t)list->list[i];
  }
  if (pl_spec_count(out) < 0) {
    pl_error(call->c, PL_ERROR_SHAPE, "%s: a tensor of shape %s has more than 2^31 - 1 elements", call->op->name,
             pl_shape_text(text, out->rank, out->shape));
    return false;
  }
  return true;
}
static bool reshape_shape(const pl_call *call, pl_spec *out) {
  const pl_slot *x = call->in[0];
  const pl_attr *list = &call->attrs[0];
  int64_t sizes[PL_MAX_RANK];
  int free_axis = -1;
  if (list->n > PL_MAX_RANK || list->n < 0) return list_shape(call, list, out);
  for (int i = 0; i < list->n; i++) {
    bool is_free = list->list[i] == -1 && free_axis < 0;
    sizes[i] = is_free ? 1 : list->list[i];
    if (is_free) free_axis = i;
  }
  pl_attr filled = PL_INTS(list->n, sizes);
  if (!list_shape(call, &filled, out)) return false;
  int64_t known = pl_spec_count(out);
  if (free_axis >= 0) out->shape[free_axis] = (int32_t)(known ? x->count / known : 0);
  if (pl_spec_count(out) != x->count) {
    char a[PL_TEXT], b[PL_TEXT];
    int32_t asked[PL_MAX_RANK];
    for (int i = 0; i < list->n; i++) asked[i] = (int32_t)list->list[i];
    pl_error(call->c, PL_ERROR_SHAPE, "%s: shape %s has %lld elements and does not become %s", call->op->name,
             pl_shape_text(a, x->rank, x->shape), (long long)x->count, pl_shape_text(b, list->n, asked));
    return false;
  }
  return true;
}
static bool ravel_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                         pl_value *out) {
  (void)op, (void)n, (void)attrs;
  pl_slot *s = pl_slot_get(c, in[0]);
  return s && (out[0] = pl_reshape_to(c, in[0], 1, (int64_t[]){s->count})) != PL_NONE;
}

/* attribute: the order of axes (n = -1: reversed) */
static bool transpose_order(const pl_call *call, int *order) {
  const pl_slot *x = call->in[0];
  const pl_attr *list = &call->attrs[0];
  uint32_t seen = 0;
  if (list->n >= 0 && list->n != x->rank) {
    char text[PL_TEXT];
    pl_error(call->c, PL_ERROR_ARGUMENT, "transpose: %d axes are given for shape %s", list->n,
             pl_shape_text(text, x->rank, x->shape));
    return false;
  }
  for (int i = 0; i < x->rank; i++) {
    order[i] = list->n < 0 ? x->rank - 1 - i : pl_axis(call, list->list[i], x->rank);
    if (order[i] < 0) return false;
    if (seen >> order[i] & 1) {
      pl_error(call->c, PL_ERROR_ARGUMENT, "transpose: axis %d is given twice", order[i] + 1);
      return false;
    }
    seen |= 1u << order[i];
  }
  return true;
}
static bool transpose_shape(const pl_call *call, pl_spec *out) {
  int order[PL_MAX_RANK];
  if (!transpose_order(call, order)) return false;
  copy_shape(call->in[0], out);
  for (int i = 0; i < out->rank; i++) out->shape[i] = call->in[0]->shape[order[i]];
  return true;
}
static void transpose_run(const pl_call *call, pl_slot **out) {
  int order[PL_MAX_RANK];
  int64_t from[PL_MAX_RANK], xs[PL_MAX_RANK], ys[PL_MAX_RANK], shape[PL_MAX_RANK];
  if (!transpose_order(call, order)) return;
  strides_of(call->in[0], from);
  strides_of(out[0], ys);
  for (int i = 0; i < out[0]->rank; i++) {
    xs[i] = from[order[i]];
    shape[i] = out[0]->shape[i];
  }
  strided(call->c, false, (pl_dtype)out[0]->dtype, call->in[0]->data, xs, out[0]->data, ys, out[0]->rank, shape);
}
static void transpose_vjp(pl_vjp *v) {
  int64_t back[PL_MAX_RANK];
  const pl_attr *list = &v->attrs[0];
  for (int i = 0; i < list->n; i++) back[list->list[i] < 0 ? list->list[i] + list->n : list->list[i]] = i;
  pl_vjp_give(v, 0, pl_call1(v->c, PL_OP(transpose), v->g[0], &PL_INTS(list->n, back)));
}

static bool broadcast_shape(const pl_call *call, pl_spec *out) {
  const pl_slot *x = call->in[0];
  if (!list_shape(call, &call->attrs[0], out)) return false;
  for (int a = 0; a < x->rank; a++) {
    int b = out->rank - x->rank + a;
    if (b >= 0 && (x->shape[a] == 1 || x->shape[a] == out->shape[b])) continue;
    char s[PL_TEXT], t[PL_TEXT];
    pl_error(call->c, PL_ERROR_SHAPE, "broadcast_to: shape %s does not broadcast to %s",
             pl_shape_text(s, x->rank, x->shape), pl_shape_text(t, out->rank, out->shape));
    return false;
  }
  return true;
}
static void broadcast_run(const pl_call *call, pl_slot **out) {
  const pl_slot *x = call->in[0];
  int64_t own[PL_MAX_RANK], xs[PL_MAX_RANK], ys[PL_MAX_RANK], shape[PL_MAX_RANK];
  strides_of(x, own);
  strides_of(out[0], ys);
  for (int a = 0; a < out[0]->rank; a++) {
    int b = a - (out[0]->rank - x->rank);
    xs[a] = b < 0 || x->shape[b] == 1 ? 0 : own[b];
    shape[a] = out[0]->shape[a];
  }
  strided(call->c, false, (pl_dtype)x->dtype, x->data, xs, out[0]->data, ys, out[0]->rank, shape);
}
static void broadcast_vjp(pl_vjp *v) { pl_vjp_give(v, 0, pl_sum_to(v->c, v->g[0], v->in[0])); }

/* ---- slices: attributes start, step, count, one entry an axis ---- */

static bool slice_check(const pl_call *call, const pl_slot *x, pl_spec *out) {
  const pl_attr *start = &call->attrs[0], *step = &call->attrs[1], *count = &call->attrs[2];
  if (start->n != x->rank || step->n != x->rank || count->n != x->rank) {
    char text[PL_TEXT];
    pl_error(call->c, PL_ERROR_ARGUMENT, "%s: start, step and count need one entry for each axis of shape %s",
             call->op->name, pl_shape_text(text, x->rank, x->shape));
    return false;
  }
  out->rank = x->rank;
  for (int a = 0; a < x->rank; a++) {
    int64_t n = count->list[a], first = start->list[a], last;
    bool far =
        __builtin_mul_overflow(n - (n > INT64_MIN), step->list[a], &last) || __builtin_add_overflow(first, last, &last);
    if (far || n < 0 || n > INT32_MAX ||
        (n > 0 && (first < 0 || first >= x->shape[a] || last < 0 || last >= x->shape[a]))) {
      char text[PL_TEXT];
      pl_error(call->c, PL_ERROR_INDEX, "%s: %lld to %lld is out of range on axis %d of shape %s", call->op->name,
               (long long)first + 1, (long long)last + 1, a + 1, pl_shape_text(text, x->rank, x->shape));
      return false;
    }
    out->shape[a] = (int32_t)n;
  }
  return true;
}
static bool slice_shape(const pl_call *call, pl_spec *out) {
  out->dtype = (pl_dtype)call->in[0]->dtype;
  return slice_check(call, call->in[0], out);
}
/* The region's shape, its strides in x and its first element. */
static int64_t slice_region(const pl_call *call, const pl_slot *x, int64_t *shape, int64_t *strides) {
  int64_t own[PL_MAX_RANK], offset = 0;
  strides_of(x, own);
  for (int a = 0; a < x->rank; a++) {
    shape[a] = call->attrs[2].list[a];
    strides[a] = own[a] * call->attrs[1].list[a];
    if (shape[a]) offset += own[a] * call->attrs[0].list[a];
  }
  return offset;
}
static void slice_run(const pl_call *call, pl_slot **out) {
  int64_t shape[PL_MAX_RANK], xs[PL_MAX_RANK], ys[PL_MAX_RANK];
  int64_t offset = slice_region(call, call->in[0], shape, xs);
  strides_of(out[0], ys);
  strided(call->c, false, (pl_dtype)out[0]->dtype, at(call->in[0], offset), xs, out[0]->data, ys, out[0]->rank, shape);
}
static void slice_vjp(pl_vjp *v) { pl_vjp_give_into(v, 0, PL_OP(slice_add), 1, &v->g[0], v->attrs); }

static bool slice_into_shape(const pl_call *call, pl_spec *out) {
  pl_spec region = {.rank = 0};
  if (!slice_check(call, call->in[0], &region)) return false;
  const pl_slot *w = call->in[1];
  if (w->rank != region.rank || memcmp(w->shape, region.shape, w->rank * sizeof *w->shape)) {
    char a[PL_TEXT], b[PL_TEXT];
    pl_error(call->c, PL_ERROR_SHAPE, "%s: the selection has shape %s, what goes into it %s", call->op->name,
             pl_shape_text(a, region.rank, region.shape), pl_shape_text(b, w->rank, w->shape));
    return false;
  }
  copy_shape(call->in[0], out);
  return true;
}
static void fill_base(const pl_call *call, pl_slot *out) {
  if (out->data != call->in[0]->data)
    memcpy(out->data, call->in[0]->data, (size_t)out->count * pl_dtype_size((pl_dtype)out->dtype));
}
static void slice_into(const pl_call *call, pl_slot *out, bool add) {
  int64_t shape[PL_MAX_RANK], xs[PL_MAX_RANK], ys[PL_MAX_RANK];
  fill_base(call, out);
  int64_t offset = slice_region(call, out, shape, ys);
  strides_of(call->in[1], xs);
  strided(call->c, add, (pl_dtype)out->dtype, call->in[1]->data, xs, at(out, offset), ys, out->rank, shape);
}
static void slice_add_run(const pl_call *call, pl_slot **out) { slice_into(call, out[0], true); }
static void slice_set_run(const pl_call *call, pl_slot **out) { slice_into(call, out[0], false); }
static void slice_add_vjp(pl_vjp *v) {
  pl_vjp_give(v, 0, v->g[0]);
  if (v->need[1]) pl_vjp_give(v, 1, pl_call1(v->c, PL_OP(slice), v->g[0], v->attrs));
}
static void slice_set_vjp(pl_vjp *v) {
  pl_context *c = v->c;
  if (v->need[0]) pl_vjp_give(v, 0, pl_call2(c, PL_OP(slice_set), v->g[0], pl_zeros_like(c, v->in[1]), v->attrs));
  if (v->need[1]) pl_vjp_give(v, 1, pl_call1(c, PL_OP(slice), v->g[0], v->attrs));
}

static bool flip_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                        pl_value *out) {
  pl_slot *s = pl_slot_get(c, in[0]);
  if (!s) return false;
  pl_call call = {c, op, n, &s, in, attrs};
  uint32_t set;
  if (!pl_axes(&call, &attrs[0], s->rank, &set)) return false;
  int64_t start[PL_MAX_RANK], step[PL_MAX_RANK], count[PL_MAX_RANK];
  for (int a = 0; a < s->rank; a++) {
    bool turned = set >> a & 1;
    count[a] = s->shape[a];
    start[a] = turned ? count[a] - 1 : 0;
    step[a] = turned ? -1 : 1;
  }
  out[0] = pl_call1(c, PL_OP(slice), in[0],
                    (pl_attr[]){PL_INTS(s->rank, start), PL_INTS(s->rank, step), PL_INTS(s->rank, count)});
  return out[0] != PL_NONE;
}

static bool diff_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                        pl_value *out) {
  pl_value x = in[0];
  pl_slot *s = pl_slot_get(c, x);
  if (!s) return false;
  pl_call call = {c, op, n, &s, &x, attrs};
  int axis = pl_axis(&call, attrs[1].i, s->rank);
  if (axis < 0) return false;
  if (attrs[0].i < 0) {
    pl_error(c, PL_ERROR_ARGUMENT, "%s: %lld is no number of times", op->name, (long long)attrs[0].i);
    return false;
  }
  int64_t size = s->shape[axis], times = attrs[0].i < size ? attrs[0].i : size; /* then nothing is left */
  for (int64_t k = 1; k <= times; k++) {
    pl_value hi = pl_part(c, x, axis, size > k, 1, size - k), lo = pl_part(c, x, axis, 0, 1, size - k);
    x = PL_BINARY(sub, c, hi, lo);
  }
  out[0] = x == in[0] ? PL_UNARY(identity, c, x) : x;
  return out[0] != PL_NONE;
}

/* ---- roll: attributes shift, axis ---- */

static bool roll_shape(const pl_call *call, pl_spec *out) {
  copy_shape(call->in[0], out);
  return pl_axis(call, call->attrs[1].i, out->rank) >= 0;
}
/* The last `shift` go in front of the others. */
static void roll_run(const pl_call *call, pl_slot **out) {
  const pl_slot *x = call->in[0];
  int axis = pl_axis(call, call->attrs[1].i, x->rank);
  int64_t s[PL_MAX_RANK], shape[PL_MAX_RANK], r = x->shape[axis], shift = r ? (call->attrs[0].i % r + r) % r : 0;
  strides_of(x, s);
  for (int a = 0; a < x->rank; a++) shape[a] = x->shape[a];
  shape[axis] = shift;
  strided(call->c, false, (pl_dtype)x->dtype, at(x, (r - shift) * s[axis]), s, out[0]->data, s, x->rank, shape);
  shape[axis] = r - shift;
  strided(call->c, false, (pl_dtype)x->dtype, x->data, s, at(out[0], shift * s[axis]), s, x->rank, shape);
}
static void roll_vjp(pl_vjp *v) {
  pl_slot *x = pl_slot_get(v->c, v->in[0]);
  if (!x) return;
  int64_t axis = v->attrs[1].i + (v->attrs[1].i < 0 ? x->rank : 0), r = x->shape[axis];
  pl_attr back[] = {PL_INT(r ? -(v->attrs[0].i % r) : 0), PL_INT(axis)};
  pl_vjp_give(v, 0, pl_call1(v->c, PL_OP(roll), v->g[0], back));
}

/* ---- joins ---- */

static bool concat_shape(const pl_call *call, pl_spec *out) {
  const pl_slot *x = call->in[0];
  int axis = pl_axis(call, call->attrs[0].i, x->rank);
  if (axis < 0) return false;
  copy_shape(x, out);
  int64_t total = 0;
  for (int k = 0; k < call->n; k++) {
    const pl_slot *s = call->in[k];
    bool fits = s->rank == x->rank;
    for (int a = 0; fits && a < x->rank; a++) fits = a == axis || s->shape[a] == x->shape[a];
    if (!fits) {
      char t[PL_TEXT], u[PL_TEXT];
      pl_error(call->c, PL_ERROR_SHAPE, "%s: shapes %s and %s (tensor %d) differ on another axis than %d",
               call->op->name, pl_shape_text(t, x->rank, x->shape), pl_shape_text(u, s->rank, s->shape), k + 1,
               axis + 1);
      return false;
    }
    total += s->shape[axis];
  }
  if (total > INT32_MAX) {
    pl_error(call->c, PL_ERROR_SHAPE, "concat: an axis of %lld", (long long)total);
    return false;
  }
  out->shape[axis] = (int32_t)total;
  return true;
}
static void concat_run(const pl_call *call, pl_slot **out) {
  int axis = pl_axis(call, call->attrs[0].i, out[0]->rank);
  int64_t ys[PL_MAX_RANK], xs[PL_MAX_RANK], shape[PL_MAX_RANK], offset = 0;
  strides_of(out[0], ys);
  for (int k = 0; k < call->n; k++) {
    const pl_slot *s = call->in[k];
    strides_of(s, xs);
    for (int a = 0; a < s->rank; a++) shape[a] = s->shape[a];
    strided(call->c, false, (pl_dtype)s->dtype, s->data, xs, at(out[0], offset * ys[axis]), ys, s->rank, shape);
    offset += s->shape[axis];
  }
}
static void concat_vjp(pl_vjp *v) {
  pl_context *c = v->c;
  pl_slot *y = pl_slot_get(c, v->out[0]);
  if (!y) return;
  int axis = (int)(v->attrs[0].i < 0 ? v->attrs[0].i + y->rank : v->attrs[0].i), rank = y->rank;
  int64_t start[PL_MAX_RANK] = {0}, step[PL_MAX_RANK], count[PL_MAX_RANK];
  for (int a = 0; a < rank; a++) {
    step[a] = 1;
    count[a] = y->shape[a];
  }
  for (int k = 0; k < v->n && c->status == PL_OK; k++) {
    count[axis] = pl_slot_get(c, v->in[k])->shape[axis];
    if (v->need[k])
      pl_vjp_give(v, k,
                  pl_call1(c, PL_OP(slice), v->g[0],
                           (pl_attr[]){PL_INTS(rank, start), PL_INTS(rank, step), PL_INTS(rank, count)}));
    start[axis] += count[axis];
  }
}
static bool stack_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                         pl_value *out) {
  pl_value parts[PL_MAX_INPUTS];
  pl_slot *x = pl_slot_get(c, in[0]);
  if (!x) return false;
  int rank = x->rank;
  int64_t axis = attrs[0].i < 0 ? attrs[0].i + rank + 1 : attrs[0].i;
  if (axis < 0 || axis > rank || rank == PL_MAX_RANK) {
    char text[PL_TEXT];
    pl_error(c, PL_ERROR_INDEX, "stack: there is no new axis %lld (from 0) in shape %s", (long long)attrs[0].i,
             pl_shape_text(text, rank, x->shape));
    return false;
  }
  for (int k = 0; k < n; k++) {
    pl_slot *s = pl_slot_get(c, in[k]);
    if (!s) return false;
    if (s->rank != rank || memcmp(s->shape, x->shape, (size_t)rank * sizeof *s->shape)) {
      pl_slot *two[] = {x, s};
      pl_call call = {c, op, 2, two, in, attrs};
      pl_shape_error(&call, "only equal shapes can be stacked");
      return false;
    }
    int64_t shape[PL_MAX_RANK + 1];
    for (int a = 0, b = 0; a <= rank; a++) shape[a] = a == axis ? 1 : s->shape[b++];
    parts[k] = pl_reshape_to(c, in[k], rank + 1, shape);
  }
  out[0] = pl_apply1(c, PL_OP(concat), n, parts, &PL_INT(axis));
  return out[0] != PL_NONE;
}

/* ---- constructors ---- */

static bool zeros_shape(const pl_call *call, pl_spec *out) {
  out->dtype = (pl_dtype)call->attrs[1].i;
  return list_shape(call, &call->attrs[0], out);
}
static void zeros_run(const pl_call *call, pl_slot **out) {
  (void)call;
  memset(out[0]->data, 0, (size_t)out[0]->count * pl_dtype_size((pl_dtype)out[0]->dtype));
}
/* range: start, step, n, dtype. The last is start + (n-1)*step rounded once, so that linspace ends where it should. */
static bool range_shape(const pl_call *call, pl_spec *out) { /* of linspace, too */
  int64_t n = call->attrs[2].i, dtype = call->attrs[3].i;
  pl_attr list = PL_INTS(1, &n);
  if (dtype < 0 || dtype > PL_I64) {
    pl_error(call->c, PL_ERROR_TYPE, "%s: there are no numbers of dtype %s", call->op->name,
             pl_dtype_name((pl_dtype)dtype));
    return false;
  }
  out->dtype = (pl_dtype)dtype;
  return list_shape(call, &list, out);
}
static void range_run(const pl_call *call, pl_slot **out) {
  double start = call->attrs[0].r, step = call->attrs[1].r;
  range_args a = {out[0]->data, start, step, start + (double)(out[0]->count - 1) * step, out[0]->count};
  pl_for(call->c, PL_KERNEL_OF(range, out[0]->dtype), &a, out[0]->count, 1, 2);
}
static void linspace_run(const pl_call *call, pl_slot **out) {
  double start = call->attrs[0].r, last = call->attrs[1].r;
  int64_t n = out[0]->count;
  range_args a = {out[0]->data, start, n > 1 ? (last - start) / (double)(n - 1) : 0, n > 1 ? last : start, n};
  pl_for(call->c, PL_KERNEL_OF(range, out[0]->dtype), &a, n, 1, 2);
}
static bool eye_shape(const pl_call *call, pl_spec *out) {
  int64_t sizes[] = {call->attrs[0].i, call->attrs[1].i};
  pl_attr list = PL_INTS(2, sizes);
  out->dtype = (pl_dtype)call->attrs[2].i;
  return list_shape(call, &list, out);
}
static void eye_run(const pl_call *call, pl_slot **out) {
  zeros_run(call, out);
  int64_t n = out[0]->shape[0], m = out[0]->shape[1];
  for (int64_t i = 0; i < n && i < m; i++) {
    char *p = at(out[0], i * m + i);
    switch (out[0]->dtype) {
      case PL_F64: *(double *)p = 1; break;
      case PL_F32: *(float *)p = 1; break;
      case PL_I64: *(int64_t *)p = 1; break;
      default: *p = 1;
    }
  }
}

/* ---- samples ---- */

static pl_value random_tensor(pl_context *c, pl_sampler_random *r, int rank, const int64_t *shape) {
  pl_value v = pl_tensor(c, PL_F64, rank, shape, NULL);
  pl_slot *s = pl_slot_get(c, v);
  for (int64_t i = 0; s && i < s->count; i++) ((double *)s->data)[i] = pl_sample_uniform(r, -1, 1);
  return v;
}

PL_SAMPLE(plain) {
  s->n = 1;
  s->attrs[0] = PL_INTS(-1, NULL);
  s->attrs[1] = PL_INT(0);
  if (k == 0) s->in[0] = pl_sample_tensor(c, r, -1, 1, 3, 2, 3, 4);
  if (k == 1) s->in[0] = pl_sample_tensor(c, r, -1, 1, 0);
  if (k == 2) s->in[0] = pl_sample_tensor(c, r, -1, 1, 2, 0, 3);
  if (k == 3) s->in[0] = pl_sample_tensor(c, r, -1, 1, 1, 1);
  return k <= 3;
}
PL_SAMPLE(number) {
  (void)r;
  s->n = 1;
  s->attrs[0] = PL_INT(1);
  s->attrs[1] = PL_INT(PL_F64);
  if (k == 0) s->in[0] = pl_tensor(c, PL_I64, 1, (int64_t[]){10}, NULL); /* not active: cells are constants */
  return k == 0;
}
PL_SAMPLE(stopped) { /* whole numbers: what is not differentiated has no slope to test */
  if (k > 0 || !plain_sample(c, r, k, s)) return false;
  pl_value x = s->in[0];
  s->in[0] = pl_call1(c, PL_OP(cast), x, &PL_INT(PL_I64));
  pl_release(c, x);
  return true;
}
PL_SAMPLE(reshape) {
  s->n = 1;
  if (k == 0) s->in[0] = pl_sample_tensor(c, r, -1, 1, 2, 4, 6), PL_SAMPLE_LIST(0, 2, -1, 3);
  if (k == 1) s->in[0] = pl_sample_tensor(c, r, -1, 1, 2, 0, 6), PL_SAMPLE_LIST(0, 3, 0);
  if (k == 2) s->in[0] = pl_sample_tensor(c, r, -1, 1, 2, 1, 1), s->attrs[0] = PL_INTS(0, s->lists[0]);
  return k <= 2;
}
PL_SAMPLE(transpose) {
  if (k < 4) return plain_sample(c, r, k, s);
  s->n = 1;
  if (k == 4) s->in[0] = pl_sample_tensor(c, r, -1, 1, 3, 2, 3, 4), PL_SAMPLE_LIST(0, 1, -1, 0);
  if (k == 5) s->in[0] = pl_sample_tensor(c, r, -1, 1, 4, 2, 3, 1, 5), PL_SAMPLE_LIST(0, 2, 0, 3, 1);
  return k <= 5;
}
PL_SAMPLE(broadcast) {
  s->n = 1;
  if (k == 0) s->in[0] = pl_sample_tensor(c, r, -1, 1, 2, 3, 1), PL_SAMPLE_LIST(0, 2, 3, 4);
  if (k == 1) s->in[0] = pl_sample_tensor(c, r, -1, 1, 0), PL_SAMPLE_LIST(0, 5);
  if (k == 2) s->in[0] = pl_sample_tensor(c, r, -1, 1, 1, 1), PL_SAMPLE_LIST(0, 0);
  if (k == 3) s->in[0] = pl_sample_tensor(c, r, -1, 1, 1, 3), PL_SAMPLE_LIST(0, 3);
  return k <= 3;
}
static bool slice_attrs(int k, pl_sample *s, int64_t *shape, int *rank) {
  static const int64_t shapes[][3] = {{5, 6, 0}, {7, 0, 0}, {4, 3, 2}, {6, 0, 0}, {300000, 0, 0}};
  static const int ranks[] = {2, 1, 3, 1, 1};
  if (k > 4) return false;
  *rank = ranks[k];
  memcpy(shape, shapes[k], sizeof shapes[k]);
  if (k == 0) PL_SAMPLE_LIST(0, 1, 5), PL_SAMPLE_LIST(1, 1, -2), PL_SAMPLE_LIST(2, 3, 3);
  if (k == 1) PL_SAMPLE_LIST(0, 6), PL_SAMPLE_LIST(1, -3), PL_SAMPLE_LIST(2, 3);
  if (k == 2) PL_SAMPLE_LIST(0, 0, 1, 1), PL_SAMPLE_LIST(1, 2, 1, 1), PL_SAMPLE_LIST(2, 2, 2, 1);
  if (k == 3) PL_SAMPLE_LIST(0, 2), PL_SAMPLE_LIST(1, 1), PL_SAMPLE_LIST(2, 0);
  if (k == 4) PL_SAMPLE_LIST(0, 1), PL_SAMPLE_LIST(1, 2), PL_SAMPLE_LIST(2, 140000);
  return true;
}
PL_SAMPLE(slice) {
  int64_t shape[3];
  int rank;
  if (!slice_attrs(k, s, shape, &rank)) return false;
  s->n = 1;
  s->in[0] = random_tensor(c, r, rank, shape);
  return true;
}
PL_SAMPLE(slice_into) {
  int64_t shape[3];
  int rank;
  if (!slice_attrs(k, s, shape, &rank)) return false;
  s->n = 2;
  s->in[0] = random_tensor(c, r, rank, shape);
  s->in[1] = random_tensor(c, r, rank, s->lists[2]);
  return true;
}
PL_SAMPLE(flip) {
  if (!plain_sample(c, r, k, s)) return false;
  if (k == 0) PL_SAMPLE_LIST(0, 0, -1);
  return true;
}
PL_SAMPLE(diff) {
  s->n = 1;
  s->attrs[0] = PL_INT(k == 1 ? 2 : 1);
  s->attrs[1] = PL_INT(k == 1 ? 0 : -1);
  if (k == 0) s->in[0] = pl_sample_tensor(c, r, -1, 1, 2, 3, 5);
  if (k == 1) s->in[0] = pl_sample_tensor(c, r, -1, 1, 2, 4, 3);
  if (k == 2) s->in[0] = pl_sample_tensor(c, r, -1, 1, 1, 1);
  return k <= 2;
}
PL_SAMPLE(roll) {
  s->n = 1;
  s->attrs[0] = PL_INT(k == 0 ? 1 : k == 1 ? -2 : 5);
  s->attrs[1] = PL_INT(k == 2 ? 0 : -1);
  if (k == 0) s->in[0] = pl_sample_tensor(c, r, 0.5, 1.5, 2, 3, 4);
  if (k == 1) s->in[0] = pl_sample_tensor(c, r, 0.5, 1.5, 3, 2, 3, 3);
  if (k == 2) s->in[0] = pl_sample_tensor(c, r, 0.5, 1.5, 2, 4, 1);
  if (k == 3) s->in[0] = pl_sample_tensor(c, r, 0.5, 1.5, 2, 2, 0);
  return k <= 3;
}
PL_SAMPLE(concat) {
  s->n = 3;
  s->attrs[0] = PL_INT(k == 1 ? -1 : 0);
  if (k == 0)
    s->in[0] = pl_sample_tensor(c, r, -1, 1, 2, 2, 3), s->in[1] = pl_sample_tensor(c, r, -1, 1, 2, 0, 3),
    s->in[2] = pl_sample_tensor(c, r, -1, 1, 2, 1, 3);
  if (k == 1)
    s->in[0] = pl_sample_tensor(c, r, -1, 1, 2, 2, 3), s->in[1] = pl_sample_tensor(c, r, -1, 1, 2, 2, 1),
    s->in[2] = pl_sample_tensor(c, r, -1, 1, 2, 2, 2);
  return k <= 1;
}
PL_SAMPLE(stack) {
  s->n = 2;
  s->attrs[0] = PL_INT(k == 1 ? -1 : 0);
  if (k == 0) s->in[0] = pl_sample_tensor(c, r, -1, 1, 1, 3), s->in[1] = pl_sample_tensor(c, r, -1, 1, 1, 3);
  if (k == 1) s->in[0] = pl_sample_tensor(c, r, -1, 1, 2, 2, 3), s->in[1] = pl_sample_tensor(c, r, -1, 1, 2, 2, 3);
  if (k == 2) s->in[0] = pl_sample_tensor(c, r, -1, 1, 0), s->in[1] = pl_sample_tensor(c, r, -1, 1, 0);
  return k <= 2;
}
PL_SAMPLE(zeros) {
  (void)c, (void)r;
  s->n = 0;
  s->attrs[1] = PL_INT(k);
  PL_SAMPLE_LIST(0, 3, 4);
  return k < PL_DTYPES;
}
PL_SAMPLE(range) {
  (void)c, (void)r;
  s->n = 0;
  s->attrs[0] = PL_REALV(-1), s->attrs[1] = PL_REALV(0.5), s->attrs[2] = PL_INT(k == 0 ? 7 : 0),
  s->attrs[3] = PL_INT(PL_F64);
  return k < 2;
}
PL_SAMPLE(eye) {
  (void)c, (void)r;
  s->n = 0;
  s->attrs[0] = PL_INT(3), s->attrs[1] = PL_INT(k), s->attrs[2] = PL_INT(k % PL_DTYPES);
  return k < 5;
}

#define MOVE(op, text, n) .name = op, .formula = text, .kind = PL_MOVE, .inputs = n, .outputs = 1, .dtypes = PL_ANY
#define JOIN(op, text, ...) \
  { .name = op, .formula = text, .kind = PL_COMPOSITE, .outputs = 1, __VA_ARGS__ }
#define REGION \
  {"start", PL_AS_INTS, true, 0}, {"step", PL_AS_INTS, true, 0}, { "count", PL_AS_INTS, true, 0 }
#define AXIS(standard)                      \
  {                                         \
    { "axis", PL_AS_AXIS, false, standard } \
  }

pl_op pl_ops_move[] = {
    {MOVE("identity", "x", 1), .internal = true, .share = true, .linear = true, .shape = identity_shape,
     .vjp = reshape_vjp, .sample = plain_sample},
    {MOVE("number", "a number that a traced function met", 1), .internal = true, .keeps = 1, .constant = true,
     .attrs = {{"cell", PL_AS_INT, true, 0}, {"dtype", PL_AS_DTYPE, true, 0}}, .shape = number_shape, .run = number_run,
     .vjp = no_vjp, .jvp = no_jvp, .sample = number_sample},
    {MOVE("stop_gradient", "x, with derivative 0", 1), .shapes = "{...} -> {...}", .derivative = "0", .share = true,
     .constant = true, .shape = identity_shape, .vjp = no_vjp, .jvp = no_jvp, .sample = stopped_sample},
    {MOVE("reshape", "the same elements in another shape; one size may be -1", 1), .shapes = "{...} -> shape",
     .share = true, .linear = true, .attrs = {{"shape", PL_AS_SHAPE, true, 0}}, .shape = reshape_shape,
     .vjp = reshape_vjp, .sample = reshape_sample},
    JOIN("ravel", "the elements as a vector", .inputs = 1, .expand = ravel_expand, .sample = plain_sample,
         .shapes = "{...} -> {count}"),
    {MOVE("transpose", "axes in another order (reversed by default)", 1),
     .shapes = "{n1, ..., nr} -> {n_axes[1], ..., n_axes[r]}", .linear = true,
     .attrs = {{"axes", PL_AS_AXES, false, 0}}, .shape = transpose_shape, .run = transpose_run, .vjp = transpose_vjp,
     .sample = transpose_sample},
    {MOVE("broadcast_to", "repeated along axes of size 1 and new leading axes", 1), .shapes = "{...} -> shape",
     .linear = true, .attrs = {{"shape", PL_AS_SHAPE, true, 0}}, .shape = broadcast_shape, .run = broadcast_run,
     .vjp = broadcast_vjp, .sample = broadcast_sample},
    {MOVE("slice", "x[start + step*k] on each axis", 1), .internal = true, .linear = true, .attrs = {REGION},
     .shape = slice_shape, .run = slice_run, .vjp = slice_vjp, .sample = slice_sample},
    {MOVE("slice_add", "x with w added to a slice", 2), .internal = true, .in_place = true, .linear = true,
     .attrs = {REGION}, .shape = slice_into_shape, .run = slice_add_run, .vjp = slice_add_vjp,
     .sample = slice_into_sample},
    {MOVE("slice_set", "x with a slice replaced by w", 2), .internal = true, .in_place = true, .linear = true,
     .attrs = {REGION}, .shape = slice_into_shape, .run = slice_set_run, .vjp = slice_set_vjp,
     .sample = slice_into_sample},
    JOIN("flip", "reversed along axes (all by default)", .inputs = 1, .attrs = {{"axis", PL_AS_AXES, false, 0}},
         .expand = flip_expand, .sample = flip_sample, .shapes = "{...} -> {...}"),
    JOIN("diff", "n-th differences along an axis (the last by default)", .inputs = 1,
         .attrs = {{"n", PL_AS_INT, false, 1}, {"axis", PL_AS_AXIS, false, -1}}, .expand = diff_expand,
         .sample = diff_sample, .shapes = "{..., m, ...} -> {..., m - n, ...}"),
    {MOVE("roll", "shifted around along an axis (the last by default): element k goes to k + shift", 1),
     .shapes = "{...} -> {...}", .linear = true,
     .attrs = {{"shift", PL_AS_INT, true, 0}, {"axis", PL_AS_AXIS, false, -1}}, .shape = roll_shape, .run = roll_run,
     .vjp = roll_vjp, .sample = roll_sample},
    {MOVE("concat", "joined along an axis (the first by default)", -1),
     .shapes = "{..., m_k, ...} each -> {..., sum of m_k, ...}", .linear = true, .attrs = AXIS(0),
     .shape = concat_shape, .run = concat_run, .vjp = concat_vjp, .sample = concat_sample},
    JOIN("stack", "joined along a new axis (the first by default)", .inputs = -1, .attrs = AXIS(0),
         .expand = stack_expand, .sample = stack_sample, .shapes = "k times {...} -> {..., k, ...}"),
    {MOVE("zeros", "zeros", 0), .internal = true,
     .attrs = {{"shape", PL_AS_SHAPE, true, 0}, {"dtype", PL_AS_DTYPE, false, 0}}, .shape = zeros_shape,
     .run = zeros_run, .sample = zeros_sample},
    {MOVE("range", "start, start + step, ... : n numbers", 0), .internal = true,
     .attrs = {{"start", PL_AS_REAL, true, 0},
               {"step", PL_AS_REAL, true, 0},
               {"n", PL_AS_INT, true, 0},
               {"dtype", PL_AS_DTYPE, false, 0}},
     .shape = range_shape, .run = range_run, .sample = range_sample},
    {MOVE("linspace", "n numbers from a to b, both included", 0), .internal = true,
     .attrs = {{"a", PL_AS_REAL, true, 0},
               {"b", PL_AS_REAL, true, 0},
               {"n", PL_AS_INT, true, 0},
               {"dtype", PL_AS_DTYPE, false, 0}},
     .shape = range_shape, .run = linspace_run, .sample = range_sample},
    {MOVE("eye", "ones on the diagonal", 0), .internal = true,
     .attrs = {{"n", PL_AS_INT, true, 0}, {"m", PL_AS_INT, true, 0}, {"dtype", PL_AS_DTYPE, false, 0}},
     .shape = eye_shape, .run = eye_run, .sample = eye_sample},
    {0},
};
