/* statistics.c: moments, sums of exponentials, integrals: composites of reductions, which have the derivatives. */
#include <math.h>
#include <string.h>

#include "../op.h"

static pl_value over(pl_context *c, const pl_op *op, pl_value x, const pl_attr *axes, bool keep) {
  return pl_call1(c, op, x, (pl_attr[]){*axes, PL_INT(keep)});
}
static int64_t count_of(pl_context *c, pl_value v) {
  pl_slot *s = pl_slot_get(c, v);
  return s ? s->count : 0;
}

/* ---- var, std: attributes axis, keep, ddof ---- */

static bool deviations(pl_context *c, const pl_op *op, pl_value v, const pl_attr *attrs, pl_value *d, double *n) {
  pl_value x = pl_floats(c, v), mean = over(c, PL_OP(mean), x, &attrs[0], true);
  int64_t groups = count_of(c, mean);
  *d = PL_BINARY(sub, c, x, mean);
  *n = groups ? (double)(count_of(c, x) / groups) - (double)attrs[2].i : 1;
  if (c->status) return false;
  if (*n > 0) return true;
  pl_error(c, PL_ERROR_ARGUMENT, "%s: %g elements are too few for ddof %lld", op->name, *n + (double)attrs[2].i,
           (long long)attrs[2].i);
  return false;
}
static bool var_expand(pl_context *c, const pl_op *op, int n_in, const pl_value *in, const pl_attr *attrs,
                       pl_value *out) {
  (void)n_in;
  pl_value d;
  double n;
  if (!deviations(c, op, in[0], attrs, &d, &n)) return false;
  pl_value s = over(c, PL_OP(sum), PL_UNARY(square, c, d), &attrs[0], attrs[1].i);
  out[0] = PL_BINARY(div, c, s, pl_like(c, s, n));
  return out[0] != PL_NONE;
}
static bool std_expand(pl_context *c, const pl_op *op, int n_in, const pl_value *in, const pl_attr *attrs,
                       pl_value *out) { /* by the norm, whose derivative is 0 at 0 */
  (void)n_in;
  pl_value d;
  double n;
  if (!deviations(c, op, in[0], attrs, &d, &n)) return false;
  pl_value s = over(c, PL_OP(norm2), d, &attrs[0], attrs[1].i);
  out[0] = PL_BINARY(div, c, s, pl_like(c, s, sqrt(n)));
  return out[0] != PL_NONE;
}

/* ---- logsumexp, softmax, log_softmax ---- */

/* x less its largest element: finite where that is, and without a derivative, which cancels. */
static pl_value shifted(pl_context *c, pl_value x, const pl_attr *axes, pl_value *m) {
  pl_value most = PL_UNARY(stop_gradient, c, over(c, PL_OP(max), x, axes, true)), zero = pl_like(c, most, 0);
  *m = PL_WHERE(c, PL_UNARY(isfinite, c, most), most, zero);
  return PL_BINARY(sub, c, x, *m);
}
static bool logsumexp_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                             pl_value *out) {
  (void)op, (void)n;
  pl_value m, x = shifted(c, pl_floats(c, in[0]), &attrs[0], &m);
  pl_value s = PL_UNARY(log, c, over(c, PL_OP(sum), PL_UNARY(exp, c, x), &attrs[0], attrs[1].i));
  pl_slot *shape = pl_slot_get(c, s);
  if (!shape) return false;
  int64_t sizes[PL_MAX_RANK];
  for (int a = 0; a < shape->rank; a++) sizes[a] = shape->shape[a];
  out[0] = PL_BINARY(add, c, s, pl_reshape_to(c, m, shape->rank, sizes));
  return out[0] != PL_NONE;
}
static bool softmax_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                           pl_value *out) {
  (void)op, (void)n;
  pl_attr axis = PL_INTS(1, &attrs[0].i);
  pl_value m, e = PL_UNARY(exp, c, shifted(c, pl_floats(c, in[0]), &axis, &m));
  out[0] = PL_BINARY(div, c, e, over(c, PL_OP(sum), e, &axis, true));
  return out[0] != PL_NONE;
}
static bool log_softmax_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                               pl_value *out) {
  (void)op, (void)n;
  pl_attr axis = PL_INTS(1, &attrs[0].i);
  pl_value m, x = shifted(c, pl_floats(c, in[0]), &axis, &m);
  out[0] = PL_BINARY(sub, c, x, PL_UNARY(log, c, over(c, PL_OP(sum), PL_UNARY(exp, c, x), &axis, true)));
  return out[0] != PL_NONE;
}

/* ---- trapezoid: y, and x of one axis where the places are not dx apart ---- */

static bool trapezoid_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                             pl_value *out) {
  pl_slot *slots[] = {pl_slot_get(c, in[0]), n > 1 ? pl_slot_get(c, in[1]) : NULL};
  if (!slots[0] || (n > 1 && !slots[1])) return false;
  pl_call call = {c, op, n > 2 ? 2 : n, slots, in, attrs};
  if (n > 2 || slots[0]->rank == 0) {
    pl_shape_error(&call, n > 2 ? "it takes y, or y and x" : "y has no axis to integrate along");
    return false;
  }
  int axis = pl_axis(&call, attrs[0].i, slots[0]->rank), rank = slots[0]->rank;
  if (axis < 0) return false;
  int64_t shape[PL_MAX_RANK], m = slots[0]->shape[axis], less = m > 0 ? m - 1 : 0;
  if (n > 1 && (slots[1]->rank != 1 || slots[1]->count != m)) {
    pl_shape_error(&call, "x is a vector, as long as y along the axis");
    return false;
  }
  pl_value y = pl_floats(c, in[0]),
           sums = PL_BINARY(add, c, pl_part(c, y, axis, m > 0, 1, less), pl_part(c, y, axis, 0, 1, less));
  pl_value half = pl_like(c, sums, 0.5 * (n > 1 ? 1 : attrs[1].r));
  if (n > 1) {
    pl_value x = pl_floats(c, in[1]);
    for (int a = 0; a < rank; a++) shape[a] = a == axis ? less : 1;
    pl_value h = PL_BINARY(sub, c, pl_part(c, x, 0, m > 0, 1, less), pl_part(c, x, 0, 0, 1, less));
    sums = PL_BINARY(mul, c, sums, pl_reshape_to(c, h, rank, shape));
  }
  int64_t along = axis;
  pl_value s = over(c, PL_OP(sum), sums, &PL_INTS(1, &along), false);
  out[0] = PL_BINARY(mul, c, s, half);
  return out[0] != PL_NONE;
}

/* ---- samples ---- */

/* entries apart, so that no step of the test changes which is the largest */
static bool tensors(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  s->n = 1;
  if (k == 0) s->in[0] = pl_sample_tensor(c, r, 0, 1, 1, 7);
  if (k == 1) s->in[0] = pl_sample_tensor(c, r, 0, 1, 2, 3, 5);
  if (k == 2) s->in[0] = pl_sample_tensor(c, r, 0, 1, 3, 3, 4, 2);
  if (k > 2) return false;
  pl_slot *x = pl_slot_get(c, s->in[0]);
  for (int64_t i = 0; x && i < x->count; i++) ((double *)x->data)[i] = 0.1 * (double)(11 * i % x->count) - 0.4;
  return true;
}
PL_SAMPLE(reduced) {
  if (!tensors(c, r, k, s)) return false;
  s->lists[0][0] = 1;
  s->attrs[0] = k == 2 ? PL_INTS(1, s->lists[0]) : PL_INTS(-1, NULL);
  s->attrs[1] = PL_INT(k == 2);
  s->attrs[2] = PL_INT(k == 1);
  return true;
}
PL_SAMPLE(axis) {
  if (!tensors(c, r, k, s)) return false;
  s->attrs[0] = PL_INT(k == 2 ? 1 : -1);
  return true;
}
PL_SAMPLE(trapezoid) {
  if (!axis_sample(c, r, k, s)) return false;
  s->attrs[1] = PL_REALV(0.3);
  if (k == 2) s->in[s->n++] = pl_tensor(c, PL_F64, 1, (int64_t[]){4}, (double[]){-1, -0.2, 0.5, 2});
  return true;
}
#define COMPOSED(op, text, n, smp)                                                                      \
  .name = #op, .formula = text, .kind = PL_COMPOSITE, .inputs = n, .outputs = 1, .expand = op##_expand, \
  .sample = smp##_sample
#define AXES \
  {"axis", PL_AS_AXES, false, 0}, { "keep", PL_AS_FLAG, false, 0 }
#define AXIS \
  { "axis", PL_AS_AXIS, false, -1 }

pl_op pl_ops_statistics[] = {
    {COMPOSED(var, "mean square deviation from the mean over axes (all by default), divided by n - ddof", 1, reduced),
     .shapes = PL_REDUCED, .attrs = {AXES, {"ddof", PL_AS_INT, false, 0}}},
    {COMPOSED(std, "the root of var", 1, reduced), .shapes = PL_REDUCED, .derivative = "0 where all are equal",
     .attrs = {AXES, {"ddof", PL_AS_INT, false, 0}}},
    {COMPOSED(logsumexp, "log of the sum of e^x over axes (all by default), without overflow", 1, reduced),
     .shapes = PL_REDUCED, .attrs = {AXES}},
    {COMPOSED(softmax, "e^x divided by its sum along an axis (the last by default)", 1, axis),
     .shapes = "{...} -> {...}", .attrs = {AXIS}},
    {COMPOSED(log_softmax, "log of softmax along an axis (the last by default)", 1, axis), .shapes = "{...} -> {...}",
     .attrs = {AXIS}},
    {COMPOSED(
         trapezoid,
         "integral by trapezoids along an axis (the last by default) of values dx apart, or at the places of a second "
         "argument",
         -1, trapezoid),
     .shapes = "{..., m, ...}, perhaps {m} -> the other axes", .attrs = {AXIS, {"dx", PL_AS_REAL, false, 1}}},
    {0},
};
