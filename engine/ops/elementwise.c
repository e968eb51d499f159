/* elementwise.c: y_i = f(x_i, ...) with broadcasting. A row is a name, a kernel of that name and partial derivatives;
 * the chain rule, broadcasting and its adjoint are the transforms' and the scheduler's. */
#include "elementwise.h"

PARTIAL(add) {
  UNUSED;
  return PL_ONE;
}
PARTIAL(sub) {
  UNUSED;
  return k == 0 ? PL_ONE : PL_MINUS_ONE;
}
PARTIAL(mul) {
  UNUSED;
  return k == 0 ? Z : X;
}
PARTIAL(div) {
  UNUSED;
  if (k == 0) return CALL2(div, NUMBER(1), Z);
  return CALL1(neg, CALL2(div, y, Z));
}
PARTIAL(mod) { /* x - floor(x/z) z; the jumps have no derivative and are left out */
  UNUSED;
  return k == 0 ? PL_ONE : CALL2(div, CALL2(sub, y, X), Z);
}
PARTIAL(pow) {
  UNUSED;
  pl_value zero = NUMBER(0);
  if (k == 0) { /* z x^(z-1); 0 where z = 0, also at x = 0 */
    pl_value d = CALL2(mul, Z, CALL2(pow, X, CALL2(sub, Z, NUMBER(1))));
    return PL_WHERE(c, CALL2(eq, Z, zero), zero, d);
  }
  /* y log x; 0 at x = 0, where the power is flat in z > 0 */
  return PL_WHERE(c, CALL2(eq, X, zero), zero, CALL2(mul, y, CALL1(log, X)));
}
PARTIAL(neg) {
  UNUSED;
  return PL_MINUS_ONE;
}
PARTIAL(abs) {
  UNUSED;
  return CALL1(sign, X);
}
PARTIAL(sign) {
  UNUSED;
  return PL_ZERO;
}
PARTIAL(exp) {
  UNUSED;
  return y;
}
PARTIAL(log) {
  UNUSED;
  return CALL2(div, NUMBER(1), X);
}
PARTIAL(log1p) {
  UNUSED;
  return CALL2(div, NUMBER(1), CALL2(add, X, NUMBER(1)));
}
PARTIAL(expm1) {
  UNUSED;
  return CALL2(add, y, NUMBER(1));
}
PARTIAL(sqrt) {
  UNUSED;
  return CALL2(div, NUMBER(0.5), y);
}
PARTIAL(square) {
  UNUSED;
  return CALL2(mul, X, NUMBER(2));
}
PARTIAL(sin) {
  UNUSED;
  return CALL1(cos, X);
}
PARTIAL(cos) {
  UNUSED;
  return CALL1(neg, CALL1(sin, X));
}
PARTIAL(tan) {
  UNUSED;
  return CALL2(add, CALL1(square, y), NUMBER(1));
}
PARTIAL(tanh) {
  UNUSED;
  return CALL1(one_minus_square, y);
}
PARTIAL(one_minus_square) {
  UNUSED;
  return CALL2(mul, X, NUMBER(-2));
}
PARTIAL(sigmoid) {
  UNUSED;
  return CALL2(mul, y, CALL2(sub, NUMBER(1), y));
}
PARTIAL(softplus) {
  UNUSED;
  return CALL1(sigmoid, CALL2(mul, X, NUMBER(attrs[0].r)));
}
PARTIAL(chain) {
  UNUSED;
  return k == 0 ? Z : X;
}

/* 1 where the first is chosen, 1/2 at a tie */
static pl_value chosen(pl_context *c, pl_value above, pl_value at_least, pl_value like) {
  return CALL2(mul, CALL2(add, mask_number(c, above, like), mask_number(c, at_least, like)), pl_like(c, like, 0.5));
}
PARTIAL(maximum) {
  UNUSED;
  return k == 0 ? chosen(c, CALL2(gt, X, Z), CALL2(ge, X, Z), X) : chosen(c, CALL2(gt, Z, X), CALL2(ge, Z, X), X);
}
PARTIAL(minimum) {
  UNUSED;
  return k == 0 ? chosen(c, CALL2(lt, X, Z), CALL2(le, X, Z), X) : chosen(c, CALL2(lt, Z, X), CALL2(le, Z, X), X);
}

/* where: selected, not multiplied, so that a NaN on the other side stays there */
static void where_vjp(pl_vjp *v) {
  pl_value zero = pl_like(v->c, v->g[0], 0);
  if (v->need[1]) pl_vjp_give(v, 1, PL_WHERE(v->c, v->in[0], v->g[0], zero));
  if (v->need[2]) pl_vjp_give(v, 2, PL_WHERE(v->c, v->in[0], zero, v->g[0]));
}
static void where_jvp(pl_jvp *j) {
  pl_value zero = pl_like(j->c, j->out[0], 0);
  j->dt[0] = PL_WHERE(j->c, j->in[0], j->t[1] == PL_ZERO ? zero : j->t[1], j->t[2] == PL_ZERO ? zero : j->t[2]);
}

static bool clip_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                        pl_value *out) {
  (void)op, (void)n, (void)attrs;
  out[0] = CALL2(minimum, CALL2(maximum, in[0], in[1]), in[2]);
  return out[0] != PL_NONE;
}

/* ---- cast ---- */

static bool cast_shape(const pl_call *call, pl_spec *out) {
  int64_t dtype = call->attrs[0].i;
  if (dtype < 0 || dtype >= PL_DTYPES) {
    pl_error(call->c, PL_ERROR_TYPE, "cast: there is no dtype %lld", (long long)dtype);
    return false;
  }
  out->dtype = (pl_dtype)dtype;
  out->rank = call->in[0]->rank;
  for (int i = 0; i < out->rank; i++) out->shape[i] = call->in[0]->shape[i];
  return true;
}
static void cast_run(const pl_call *call, pl_slot **out) {
  static const char *const names[] = {"cast_f64", "cast_f32", "cast_i64", "cast_bool"};
  const void *args[] = {call->in[0]->data, out[0]->data};
  pl_kernel_find(names[call->in[0]->dtype], (pl_dtype)out[0]->dtype)(args, 0, out[0]->count);
}
static void cast_vjp(pl_vjp *v) { pl_vjp_give(v, 0, v->g[0]); }
static void cast_jvp(pl_jvp *j) {
  pl_dtype to = (pl_dtype)j->attrs[0].i;
  j->dt[0] = to <= PL_F32 ? pl_cast(j->c, j->t[0], to) : PL_ZERO;
}

/* ---- samples ---- */

SAMPLE1(above, 0.2, 1.4) /* away from kinks and poles */
SAMPLE2(power, 0.4, 2, -1.5, 2.5)
static bool softplus_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  s->attrs[0] = PL_REALV(k % 2 ? 1 : 2.5);
  return sample_unary(c, r, k, s, -3, 3);
}
static bool ordered_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) { /* no ties, no near ties */
  if (k >= 8 || !sample_binary(c, r, k, s, -2, 2, 0, 1)) return false;
  pl_slot *x = pl_slot_get(c, s->in[0]), *z = pl_slot_get(c, s->in[1]);
  for (int64_t i = 0; x && z && i < x->count; i++) ((double *)x->data)[i] = 0.5 * (double)(i % 7) - 1.6;
  for (int64_t i = 0; x && z && i < z->count; i++) ((double *)z->data)[i] = 0.5 * (double)(i % 5) - 0.9;
  return true;
}
static bool where_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  pl_sample t;
  if (!sample_binary(c, r, k, &t, -2, 2, -2, 2)) return false;
  s->n = 3;
  s->in[0] = CALL2(lt, t.in[0], t.in[1]);
  s->in[1] = t.in[0];
  s->in[2] = t.in[1];
  return true;
}
static bool clip_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  pl_sample t;
  if (!ordered_sample(c, r, k, &t)) return false;
  s->n = 3;
  s->in[0] = t.in[0];
  s->in[1] = pl_scalar(c, PL_F64, -0.75);
  s->in[2] = pl_scalar(c, PL_F64, 0.8);
  pl_release(c, t.in[1]);
  return true;
}
static bool logical_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  pl_sample t;
  if (!sample_binary(c, r, k, &t, -1, 1, -1, 1)) return false;
  pl_value zero = pl_constant(c, PL_F64, 0);
  s->n = 2;
  for (int i = 0; i < 2; i++) {
    s->in[i] = CALL2(lt, t.in[i], zero);
    pl_release(c, t.in[i]);
  }
  return true;
}
static bool not_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  if (!logical_sample(c, r, k, s)) return false;
  s->n = 1;
  pl_release(c, s->in[1]);
  return true;
}
static bool cast_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  s->attrs[0] = PL_INT(k % 2 ? PL_F64 : PL_F32);
  return sample_unary(c, r, k, s, -2, 2);
}

#define TRUTH .result = PL_BOOL, .derivative = "none: the result is true or false"
#define COMPARE(op, text)                                                                                     \
  {                                                                                                           \
    .name = #op, .formula = text, .kind = PL_ELEMENTWISE, .inputs = 2, .outputs = 1, .dtypes = PL_ANY, TRUTH, \
    .sample = ordered_sample                                                                                  \
  }
#define LOGICAL(op, text)                                                                                              \
  {                                                                                                                    \
    .name = #op, .formula = text, .kind = PL_ELEMENTWISE, .inputs = 2, .outputs = 1, .masks = 3, .dtypes = PL_IN_BOOL, \
    .result = PL_BOOL, .derivative = "none: the result is true or false", .sample = logical_sample                     \
  }

pl_op pl_ops_elementwise[] = {
    BINARY(add, "x + z", PL_NUMBERS, pair, .accuracy = "correctly rounded"),
    BINARY(sub, "x - z", PL_NUMBERS, pair, .accuracy = "correctly rounded"),
    BINARY(mul, "x*z", PL_NUMBERS, pair, .accuracy = "correctly rounded"),
    BINARY(div, "x/z; f64 for integers", PL_FLOATS, quotient, .accuracy = "correctly rounded"),
    BINARY(mod, "x - floor(x/z)*z: the remainder, of z's sign", PL_NUMBERS, remainder,
           .derivative = "without the jumps", .accuracy = "exact where it can be"),
    {.name = "pow",
     .formula = "x^z",
     .derivative = "in z 0 at x = 0",
     .accuracy = "4 ulp",
     .kind = PL_ELEMENTWISE,
     .inputs = 2,
     .outputs = 1,
     .dtypes = PL_FLOATS,
     .result = -1,
     .partial = pow_partial,
     .sample = power_sample,
     .in_place = true,
     .work = 20},
    UNARY(neg, "-x", PL_NUMBERS, wide, .accuracy = "exact"),
    UNARY(abs, "|x|", PL_NUMBERS, above, .derivative = "0 at 0", .accuracy = "exact"),
    UNARY(sign, "-1, 0 or 1", PL_NUMBERS, above, .derivative = "0", .accuracy = "exact"),
    COSTLY(exp, "e^x", PL_FLOATS, wide, .accuracy = "4 ulp"),
    COSTLY(log, "natural logarithm", PL_FLOATS, positive, .accuracy = "4 ulp"),
    COSTLY(log1p, "log(1 + x), accurate near 0", PL_FLOATS, positive, .accuracy = "4 ulp"),
    COSTLY(expm1, "e^x - 1, accurate near 0", PL_FLOATS, wide, .accuracy = "4 ulp"),
    UNARY(sqrt, "square root", PL_FLOATS, positive, .accuracy = "correctly rounded"),
    UNARY(square, "x*x", PL_NUMBERS, wide, .accuracy = "correctly rounded"),
    COSTLY(sin, "sine", PL_FLOATS, wide, .accuracy = "4 ulp"),
    COSTLY(cos, "cosine", PL_FLOATS, wide, .accuracy = "4 ulp"),
    COSTLY(tan, "tangent", PL_FLOATS, above, .accuracy = "4 ulp"),
    COSTLY(tanh, "hyperbolic tangent", PL_FLOATS, wide, .accuracy = "4 ulp"),
    {.name = "one_minus_square",
     .formula = "1 - x*x: the derivative of tanh in its value",
     .kind = PL_ELEMENTWISE,
     .inputs = 1,
     .outputs = 1,
     .dtypes = PL_FLOATS,
     .result = -1,
     .internal = true,
     .partial = one_minus_square_partial,
     .sample = wide_sample},
    COSTLY(sigmoid, "1/(1 + e^-x)", PL_FLOATS, wide, .accuracy = "6 ulp"),
    {.name = "softplus",
     .formula = "log(1 + e^(sharpness x))/sharpness",
     .accuracy = "6 ulp",
     .kind = PL_ELEMENTWISE,
     .inputs = 1,
     .outputs = 1,
     .dtypes = PL_FLOATS,
     .result = -1,
     .attrs = {{"sharpness", PL_AS_REAL, false, 1}},
     .partial = softplus_partial,
     .sample = softplus_sample,
     .work = 20},
    BINARY(maximum, "the larger of x and z", PL_NUMBERS, ordered, .derivative = "shared at a tie", .accuracy = "exact"),
    BINARY(minimum, "the smaller of x and z", PL_NUMBERS, ordered, .derivative = "shared at a tie",
           .accuracy = "exact"),
    {.name = "chain",
     .formula = "x*z, and 0 where x is 0 whatever z is: the chain rule's product",
     .kind = PL_ELEMENTWISE,
     .inputs = 2,
     .outputs = 1,
     .dtypes = PL_FLOATS,
     .result = -1,
     .internal = true,
     .partial = chain_partial,
     .sample = pair_sample},
    {.name = "clip",
     .formula = "x kept within lo and hi",
     .shapes = "x, lo, hi broadcast",
     .derivative = "shared by ties",
     .kind = PL_COMPOSITE,
     .inputs = 3,
     .outputs = 1,
     .expand = clip_expand,
     .sample = clip_sample},
    COMPARE(lt, "x < z"),
    COMPARE(le, "x <= z"),
    COMPARE(gt, "x > z"),
    COMPARE(ge, "x >= z"),
    COMPARE(eq, "x = z"),
    COMPARE(ne, "x differs from z"),
    LOGICAL(logical_and, "both"),
    LOGICAL(logical_or, "either"),
    LOGICAL(logical_xor, "one, not both"),
    {.name = "logical_not",
     .formula = "not",
     .kind = PL_ELEMENTWISE,
     .inputs = 1,
     .outputs = 1,
     .masks = 1,
     .dtypes = PL_IN_BOOL,
     TRUTH,
     .sample = not_sample},
    {.name = "where",
     .formula = "x where the mask is true, else z",
     .kind = PL_ELEMENTWISE,
     .inputs = 3,
     .outputs = 1,
     .masks = 1,
     .dtypes = PL_ANY,
     .result = -1,
     .vjp = where_vjp,
     .jvp = where_jvp,
     .sample = where_sample},
    {.name = "cast",
     .formula = "the same numbers in another dtype",
     .shapes = "{...} -> {...}",
     .kind = PL_LINEAR,
     .inputs = 1,
     .outputs = 1,
     .keeps = 1,
     .attrs = {{"dtype", PL_AS_DTYPE, true, 0}},
     .shape = cast_shape,
     .run = cast_run,
     .vjp = cast_vjp,
     .jvp = cast_jvp,
     .sample = cast_sample},
    {0},
};
