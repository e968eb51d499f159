/* running.c: sums, products and linear recurrences that run along an axis, in one pass. Recurrences are closed under
 * both derivatives: the tangent of s is the recurrence of tangents, the adjoint one that runs back, its factors moved
 * by one place; with them go the products, without a division, so that zeros are right to any order. */
#include <string.h>

#include "../../kernels/shapes.h"
#include "../op.h"
#include "../schedule.h"

static void run(const pl_call *call, const pl_slot *x, const pl_slot *z, pl_slot *out, pl_kernel kernel) {
  int64_t outer = 1, r = 1, inner = 1;
  if (x->count == 0) return;
  if (x->rank) pl_split_axis(x, pl_axis(call, call->attrs[0].i, x->rank), &outer, &r, &inner);
  scan_args s = {
      .x = x->data, .z = z ? z->data : NULL, .y = out->data, .r = r, .inner = inner, .reverse = call->attrs[1].i};
  int64_t chunks = (inner + PL_SCAN_LINES - 1) / PL_SCAN_LINES;
  pl_for(call->c, kernel, &s, outer * chunks, 1, (double)r * (inner < PL_SCAN_LINES ? (double)inner : PL_SCAN_LINES));
}
static bool same_shape(const pl_call *call, pl_spec *out) {
  out->rank = call->in[0]->rank;
  memcpy(out->shape, call->in[0]->shape, sizeof out->shape);
  return true;
}
/* The value before each along the axis, or behind it; `first` where there is none. */
static pl_value neighbour(pl_context *c, pl_value x, int64_t axis, bool behind, double first) {
  const pl_slot *s = pl_slot_get(c, x);
  if (!s || s->count == 0) return x;
  int64_t shape[PL_MAX_RANK];
  const int at = (int)(axis < 0 ? axis + s->rank : axis), rank = s->rank;
  for (int a = 0; a < rank; a++) shape[a] = a == at ? 1 : s->shape[a];
  pl_value edge = pl_call1(c, PL_OP(broadcast_to), pl_like(c, x, first), &PL_INTS(rank, shape));
  pl_value moved = pl_part(c, x, at, behind, 1, s->shape[at] - 1);
  pl_value parts[] = {behind ? moved : edge, behind ? edge : moved};
  return pl_apply1(c, PL_OP(concat), 2, parts, &PL_INT(at));
}
/* What arrives at each s_i of s_i = a_i s_(i-1) + ...: its own g and a_(i+1) times what arrives at the next. */
static pl_value run_back(const pl_vjp *v, pl_value a) {
  const bool reverse = v->attrs[1].i;
  a = neighbour(v->c, a, v->attrs[0].i, !reverse, 0);
  return pl_call2(v->c, PL_OP(recurrence), a, v->g[0], (pl_attr[]){v->attrs[0], PL_INT(!reverse)});
}

/* ---- cumsum, cumprod: attributes axis, reverse ---- */

static bool cumsum_shape(const pl_call *call, pl_spec *out) {
  return same_shape(call, out) && (out->rank == 0 || pl_axis(call, call->attrs[0].i, out->rank) >= 0);
}
static void cumsum_run(const pl_call *call, pl_slot **out) {
  run(call, call->in[0], NULL, out[0], PL_KERNEL_OF(cumsum, call->in[0]->dtype));
}
static void cumsum_vjp(pl_vjp *v) {
  pl_attr attrs[] = {v->attrs[0], PL_INT(!v->attrs[1].i)};
  pl_vjp_give(v, 0, pl_call1(v->c, PL_OP(cumsum), v->g[0], attrs));
}

static bool cumprod_shape(const pl_call *call, pl_spec *out) {
  return same_shape(call, out) && pl_axis(call, call->attrs[0].i, out->rank) >= 0;
}
static void cumprod_run(const pl_call *call, pl_slot **out) {
  run(call, call->in[0], NULL, out[0], PL_KERNEL_OF(cumprod, call->in[0]->dtype));
}
static pl_value products_before(pl_context *c, pl_value y, const pl_attr *attrs) {
  return neighbour(c, y, attrs[0].i, attrs[1].i, 1);
}
static void cumprod_vjp(pl_vjp *v) {
  pl_vjp_give(v, 0, pl_chain(v->c, run_back(v, v->in[0]), products_before(v->c, v->out[0], v->attrs)));
}
static void cumprod_jvp(pl_jvp *j) {
  pl_value b = pl_chain(j->c, j->t[0], products_before(j->c, j->out[0], j->attrs));
  j->dt[0] = pl_call2(j->c, PL_OP(recurrence), j->in[0], b, j->attrs);
}

/* ---- recurrence: factors a and terms b of one shape; attributes axis, reverse ---- */

static bool recurrence_shape(const pl_call *call, pl_spec *out) {
  const pl_slot *a = call->in[0], *b = call->in[1];
  if (!same_shape(call, out) || pl_axis(call, call->attrs[0].i, out->rank) < 0) return false;
  if (a->rank == b->rank && !memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape)) return true;
  pl_shape_error(call, "factors and terms are of one shape");
  return false;
}
static void recurrence_run(const pl_call *call, pl_slot **out) {
  run(call, call->in[1], call->in[0], out[0], PL_KERNEL_OF(recurrence, call->in[1]->dtype));
}
static pl_value states_before(pl_context *c, pl_value y, const pl_attr *attrs) {
  return neighbour(c, y, attrs[0].i, attrs[1].i, 0);
}
static void recurrence_vjp(pl_vjp *v) {
  pl_value g = run_back(v, v->in[0]);
  if (v->need[0]) pl_vjp_give(v, 0, pl_chain(v->c, g, states_before(v->c, v->out[0], v->attrs)));
  if (v->need[1]) pl_vjp_give(v, 1, g);
}
static void recurrence_jvp(pl_jvp *j) {
  pl_value b = j->t[0] == PL_ZERO ? PL_ZERO : pl_chain(j->c, j->t[0], states_before(j->c, j->out[0], j->attrs));
  j->dt[0] = pl_call2(j->c, PL_OP(recurrence), j->in[0], pl_plus(j->c, b, j->t[1]), j->attrs);
}

/* The axis is counted from the end, so that `recurrence` may get more axes in front. */
PL_EXPAND(linear_recurrence) {
  pl_slot *slots[] = {pl_slot_get(c, in[0]), pl_slot_get(c, in[1])};
  if (!slots[0] || !slots[1]) return false;
  pl_call call = {c, op, n, slots, in, attrs};
  pl_spec spec;
  if (!pl_broadcast_shapes(&call, 2, slots, &spec)) return false;
  int64_t shape[PL_MAX_RANK];
  int axis = pl_axis(&call, attrs[0].i, spec.rank);
  if (axis < 0) return false;
  for (int a = 0; a < spec.rank; a++) shape[a] = spec.shape[a];
  pl_value both[2];
  for (int k = 0; k < 2; k++) both[k] = pl_call1(c, PL_OP(broadcast_to), in[k], &PL_INTS(spec.rank, shape));
  out[0] = pl_apply1(c, PL_OP(recurrence), 2, both, (pl_attr[]){PL_INT(axis - spec.rank), attrs[1]});
  return out[0] != PL_NONE;
}

/* ---- samples ---- */

PL_SAMPLE(running) {
  s->n = 1;
  s->attrs[0] = PL_INT(k == 1 ? 1 : k == 2 || k == 5 ? -1 : 0);
  s->attrs[1] = PL_INT(k == 1 || k == 5);
  if (k < 3) s->in[0] = pl_sample_tensor(c, r, -1, 1, 3, 3, 4, 2);
  if (k == 3) s->in[0] = pl_sample_tensor(c, r, -1, 1, 1, 1);
  if (k == 4) s->in[0] = pl_sample_tensor(c, r, -1, 1, 1, 0);
  if (k == 5) s->in[0] = pl_sample_tensor(c, r, -1, 1, 1, 7);
  if (k == 6) s->in[0] = pl_sample_tensor(c, r, -1, 1, 2, 5, 19);
  return k < 7;
}
PL_SAMPLE(pair) {
  if (!running_sample(c, r, k, s)) return false;
  s->in[1] = s->in[0];
  running_sample(c, r, k, s);
  s->n = 2;
  return true;
}
PL_SAMPLE(broadcast) {
  if (k < 7) return pair_sample(c, r, k, s);
  s->n = 2;
  s->in[0] = k == 7 ? pl_sample_tensor(c, r, -1, 1, 0) : pl_sample_tensor(c, r, -1, 1, 2, 4, 1);
  s->in[1] = k == 7 ? pl_sample_tensor(c, r, -1, 1, 1, 6) : pl_sample_tensor(c, r, -1, 1, 1, 3);
  s->attrs[0] = PL_INT(0);
  s->attrs[1] = PL_INT(k == 8);
  return k < 9;
}

#define RUNNING(op, text, n, set, shp, smp)                                                                      \
  .name = #op, .formula = text, .inputs = n, .outputs = 1, .dtypes = set, .shape = shp##_shape, .run = op##_run, \
  .vjp = op##_vjp, .attrs = {ALONG}, .sample = smp##_sample
#define ALONG \
  {"axis", PL_AS_AXIS, false, 0}, { "reverse", PL_AS_FLAG, false, 0 }

pl_op pl_ops_running[] = {
    {RUNNING(cumsum, "running sum along an axis (the first by default), or from its end", 1, PL_NUMBERS, cumsum,
             running),
     .shapes = "{...} -> {...}", .kind = PL_LINEAR, .linear = true},
    {RUNNING(cumprod, "running product along an axis (the first by default), or from its end", 1, PL_NUMBERS, cumprod,
             running),
     .shapes = "{...} -> {...}", .derivative = "exact with any number of zeros", .kind = PL_OPAQUE, .jvp = cumprod_jvp},
    {RUNNING(recurrence, "s_i = a_i s_(i-1) + b_i of factors a and terms b", 2, PL_FLOATS, recurrence, pair),
     .shapes = "{...}, {...} -> {...}", .kind = PL_OPAQUE, .internal = true, .leading = 3, .jvp = recurrence_jvp},
    {.name = "linear_recurrence",
     .formula = "s_i = a_i s_(i-1) + b_i along an axis (the first by default), or from its end, of factors a and terms "
                "b; 0 comes before the first",
     .shapes = "{...}, {...} -> {...}, broadcast",
     .accuracy = "as of a loop: the terms are added in their order",
     .kind = PL_COMPOSITE,
     .inputs = 2,
     .outputs = 1,
     .attrs = {ALONG},
     .expand = linear_recurrence_expand,
     .sample = broadcast_sample},
    {0},
};
