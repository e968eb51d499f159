/* functions.c: elementwise functions beyond arithmetic. Where a derivative is a convention, the formula says so. */
#include "elementwise.h"

/* 1/sqrt((1 - x)(1 + x)): the factors, not 1 - x*x, keep their digits near 1 */
static pl_value inverse_root(pl_context *c, const pl_value *in) {
  return CALL2(div, ONE, CALL1(sqrt, CALL2(mul, CALL2(sub, ONE, X), CALL2(add, ONE, X))));
}
PARTIAL(asin) {
  UNUSED;
  return inverse_root(c, in);
}
PARTIAL(acos) {
  UNUSED;
  return CALL1(neg, inverse_root(c, in));
}
PARTIAL(atan) {
  UNUSED;
  return CALL2(div, ONE, CALL2(add, CALL1(square, X), ONE));
}
PARTIAL(sinh) {
  UNUSED;
  return CALL1(cosh, X);
}
PARTIAL(cosh) {
  UNUSED;
  return CALL1(sinh, X);
}
PARTIAL(asinh) {
  UNUSED;
  return CALL2(div, ONE, CALL2(hypot, X, ONE));
}
PARTIAL(acosh) {
  UNUSED;
  return CALL2(div, ONE, CALL1(sqrt, CALL2(mul, CALL2(sub, X, ONE), CALL2(add, X, ONE))));
}
PARTIAL(atanh) {
  UNUSED;
  return CALL2(div, ONE, CALL2(mul, CALL2(sub, ONE, X), CALL2(add, ONE, X)));
}
PARTIAL(exp2) {
  UNUSED;
  return CALL2(mul, y, NUMBER(0.69314718055994530942));
}
PARTIAL(log2) {
  UNUSED;
  return CALL2(div, NUMBER(1.44269504088896340736), X);
}
PARTIAL(log10) {
  UNUSED;
  return CALL2(div, NUMBER(0.43429448190325182765), X);
}
PARTIAL(cbrt) {
  UNUSED;
  return CALL2(div, NUMBER(1. / 3), CALL1(square, y));
}
static pl_value bell(pl_context *c, const pl_value *in, double scale) { /* scale e^(-x^2) */
  return CALL2(mul, CALL1(exp, CALL1(neg, CALL1(square, X))), NUMBER(scale));
}
PARTIAL(erf) {
  UNUSED;
  return bell(c, in, 1.12837916709551257390);
}
PARTIAL(erfc) {
  UNUSED;
  return bell(c, in, -1.12837916709551257390);
}
/* a hypotenuse to divide by, 1 at the origin */
static pl_value divisor(pl_context *c, pl_value h) {
  return PL_WHERE(c, CALL2(eq, h, pl_like(c, h, 0)), pl_like(c, h, 1), h);
}
PARTIAL(hypot) {
  UNUSED;
  return CALL2(div, k == 0 ? X : Z, divisor(c, y));
}
PARTIAL(atan2) { /* z/h^2, -x/h^2 */
  UNUSED;
  pl_value h = divisor(c, CALL2(hypot, X, Z)), d = CALL2(div, CALL2(div, k == 0 ? Z : X, h), h);
  return k == 0 ? d : CALL1(neg, d);
}
PARTIAL(fmod) { /* x - trunc(x/z) z */
  UNUSED;
  return k == 0 ? PL_ONE : CALL2(div, CALL2(sub, y, X), Z);
}
PARTIAL(steps) {
  UNUSED;
  return PL_ZERO;
}
PARTIAL(heaviside) {
  UNUSED;
  return k == 0 ? PL_ZERO : mask_number(c, CALL2(eq, X, NUMBER(0)), Z);
}
PARTIAL(reciprocal) {
  UNUSED;
  return CALL1(neg, CALL1(square, y));
}
PARTIAL(logaddexp) { /* e^(x - y): no difference of infinities where one is finite */
  UNUSED;
  return CALL1(exp, CALL2(sub, k == 0 ? X : Z, y));
}
PARTIAL(sinc) { /* (cos(pi x) - y)/x, near 0 its series: what cancels there is of the size of x^2 */
  UNUSED;
  const double p2 = 9.86960440108935861883; /* pi^2; sum over n of (-1)^n 2n pi^2n x^(2n-1)/(2n + 1)! */
  const double series[] = {-2 * p2 / 6,
                           4 * p2 * p2 / 120,
                           -6 * p2 * p2 * p2 / 5040,
                           8 * p2 * p2 * p2 * p2 / 362880,
                           -10 * p2 * p2 * p2 * p2 * p2 / 39916800,
                           12 * p2 * p2 * p2 * p2 * p2 * p2 / 6227020800.};
  pl_value near = CALL2(lt, CALL1(abs, X), NUMBER(0.25)), sum = even_series(c, X, 6, series);
  pl_value x = PL_WHERE(c, near, ONE, X), cosine = CALL1(cos, CALL2(mul, x, NUMBER(3.14159265358979323846)));
  return PL_WHERE(c, near, CALL2(mul, sum, X), CALL2(div, CALL2(sub, cosine, CALL1(sinc, x)), x));
}
PARTIAL(relu) {
  UNUSED;
  return mask_number(c, CALL2(gt, X, NUMBER(0)), X);
}
PARTIAL(leaky_relu) {
  UNUSED;
  return PL_WHERE(c, CALL2(lt, X, NUMBER(0)), NUMBER(attrs[0].r), ONE);
}
PARTIAL(elu) {
  UNUSED;
  return PL_WHERE(c, CALL2(lt, X, NUMBER(0)), CALL2(add, y, NUMBER(attrs[0].r)), ONE);
}
PARTIAL(silu) { /* s + y (1 - s) */
  UNUSED;
  pl_value s = CALL1(sigmoid, X);
  return CALL2(add, s, CALL2(mul, y, CALL2(sub, ONE, s)));
}
PARTIAL(gelu) { /* Phi(x) + x phi(x) */
  UNUSED;
  pl_value phi = CALL1(exp, CALL2(mul, CALL1(square, X), NUMBER(-0.5)));
  pl_value Phi = CALL2(mul, CALL1(erfc, CALL2(mul, X, NUMBER(-0.70710678118654752440))), NUMBER(0.5));
  return CALL2(add, Phi, CALL2(mul, CALL2(mul, X, phi), NUMBER(0.39894228040143267794)));
}
PARTIAL(softsign) {
  UNUSED;
  return CALL1(square, CALL2(sub, ONE, CALL1(abs, y)));
}

static bool selu_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                        pl_value *out) { /* G. Klambauer et al., Self-normalizing neural networks, NeurIPS 2017 */
  (void)op, (void)n, (void)attrs;
  pl_value e = pl_call1(c, PL_OP(elu), X, (pl_attr[]){PL_REALV(1.67326324235437728481)});
  out[0] = CALL2(mul, e, NUMBER(1.05070098735548049342));
  return out[0] != PL_NONE;
}
static bool hard_tanh_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                             pl_value *out) {
  (void)op, (void)n, (void)attrs;
  out[0] = CALL2(minimum, CALL2(maximum, X, NUMBER(-1)), ONE);
  return out[0] != PL_NONE;
}

/* ---- samples ---- */

SAMPLE1(inside, -0.9, 0.9)
SAMPLE1(beyond, 1.2, 3)
SAMPLE1(between, 0.6, 0.9) /* away from whole numbers and halves */
SAMPLE2(quadrant, 0.3, 2, 0.5, 2)
static bool kinked_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) { /* both sides of 0, 0.2 away */
  if (!sample_unary(c, r, k, s, 0.2, 0.8)) return false;
  pl_slot *x = pl_slot_get(c, s->in[0]);
  for (int64_t i = 0; x && i < x->count; i += 2) ((double *)x->data)[i] *= -1;
  return true;
}
static bool leaky_relu_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  s->attrs[0] = PL_REALV(k % 2 ? 0.01 : 0.3);
  return kinked_sample(c, r, k, s);
}
static bool elu_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  s->attrs[0] = PL_REALV(k % 2 ? 1 : 0.5);
  return kinked_sample(c, r, k, s);
}
static bool step_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  return k < 8 && sample_binary(c, r, k, s, 0.2, 1, -1, 1);
}
#define STEPS(op, text, ...)                                                                            \
  {                                                                                                     \
    .name = #op, .formula = text, .derivative = "0", .kind = PL_ELEMENTWISE, .inputs = 1, .outputs = 1, \
    .dtypes = PL_FLOATS, .result = -1, .partial = steps_partial, .sample = between_sample, __VA_ARGS__  \
  }
#define TEST(op, text, ...)                                                                               \
  {                                                                                                       \
    .name = #op, .formula = text, .kind = PL_ELEMENTWISE, .inputs = 1, .outputs = 1, .dtypes = PL_FLOATS, \
    .result = PL_BOOL, .sample = wide_sample, __VA_ARGS__                                                 \
  }
#define SCALED(op, text, name_, default_, ...)                                                                     \
  {                                                                                                                \
    .name = #op, .formula = text, .kind = PL_ELEMENTWISE, .inputs = 1, .outputs = 1, .dtypes = PL_FLOATS,          \
    .result = -1, .attrs = {{name_, PL_AS_REAL, false, default_}}, .partial = op##_partial, .sample = op##_sample, \
    __VA_ARGS__                                                                                                    \
  }
#define COMPOSED(op, text, smp, ...)                                                                      \
  {                                                                                                       \
    .name = #op, .formula = text, .kind = PL_COMPOSITE, .inputs = 1, .outputs = 1, .expand = op##_expand, \
    .sample = smp##_sample, __VA_ARGS__                                                                   \
  }

pl_op pl_ops_functions[] = {
    COSTLY(asin, "inverse sine, radians", PL_FLOATS, inside, .accuracy = "4 ulp"),
    COSTLY(acos, "inverse cosine, radians", PL_FLOATS, inside, .accuracy = "4 ulp"),
    COSTLY(atan, "inverse tangent, radians", PL_FLOATS, wide, .accuracy = "4 ulp"),
    COSTLY(sinh, "hyperbolic sine", PL_FLOATS, wide, .accuracy = "4 ulp"),
    COSTLY(cosh, "hyperbolic cosine", PL_FLOATS, wide, .accuracy = "4 ulp"),
    COSTLY(asinh, "inverse hyperbolic sine", PL_FLOATS, wide, .accuracy = "4 ulp"),
    COSTLY(acosh, "inverse hyperbolic cosine, x >= 1", PL_FLOATS, beyond, .accuracy = "4 ulp"),
    COSTLY(atanh, "inverse hyperbolic tangent, |x| <= 1", PL_FLOATS, inside, .accuracy = "4 ulp"),
    COSTLY(exp2, "2^x", PL_FLOATS, wide, .accuracy = "4 ulp"),
    COSTLY(log2, "logarithm to base 2", PL_FLOATS, positive, .accuracy = "4 ulp"),
    COSTLY(log10, "logarithm to base 10", PL_FLOATS, positive, .accuracy = "4 ulp"),
    COSTLY(cbrt, "cube root", PL_FLOATS, positive, .accuracy = "4 ulp"),
    COSTLY(erf, "the error function, 2/sqrt(pi) times the integral of e^(-t^2) from 0 to x", PL_FLOATS, wide,
           .accuracy = "4 ulp"),
    COSTLY(erfc, "1 - erf(x), accurate where that is small", PL_FLOATS, wide, .accuracy = "4 ulp"),
    BINARY(atan2, "the angle of the point (z, x), -pi to pi", PL_FLOATS, quadrant, .derivative = "0 at the origin",
           .accuracy = "4 ulp"),
    BINARY(hypot, "sqrt(x^2 + z^2) without overflow", PL_FLOATS, quotient, .derivative = "0 at the origin",
           .accuracy = "4 ulp"),
    BINARY(fmod, "x - trunc(x/z)*z: the remainder, of x's sign", PL_FLOATS, remainder,
           .derivative = "without the jumps", .accuracy = "exact"),
    BINARY(logaddexp, "log(e^x + e^z) without overflow", PL_FLOATS, pair, .accuracy = "6 ulp"),
    BINARY(heaviside, "0 below 0, 1 above, z at 0", PL_FLOATS, step, .derivative = "0 in x", .accuracy = "exact"),
    STEPS(floor, "the largest whole number not above x", .accuracy = "exact"),
    STEPS(ceil, "the smallest whole number not below x", .accuracy = "exact"),
    STEPS(trunc, "the whole number next to x towards 0", .accuracy = "exact"),
    STEPS(round, "the nearest whole number, halves to the even one", .accuracy = "exact"),
    UNARY(reciprocal, "1/x", PL_FLOATS, positive, .accuracy = "correctly rounded"),
    COSTLY(sinc, "sin(pi x)/(pi x), 1 at 0", PL_FLOATS, wide, .accuracy = "6 ulp"),
    TEST(isnan, "is it NaN", .derivative = "none"),
    TEST(isinf, "is it infinite", .derivative = "none"),
    TEST(isfinite, "is it neither infinite nor NaN", .derivative = "none"),
    UNARY(relu, "x above 0, else 0", PL_FLOATS, kinked, .derivative = "0 at 0", .accuracy = "exact"),
    SCALED(leaky_relu, "x above 0, slope x below", "slope", 0.01, .derivative = "1 at 0"),
    SCALED(elu, "x above 0, alpha (e^x - 1) below", "alpha", 1, .derivative = "1 at 0", .accuracy = "4 ulp",
           .source = "D.-A. Clevert et al., ICLR 2016"),
    COSTLY(silu, "x/(1 + e^-x)", PL_FLOATS, wide, .accuracy = "6 ulp",
           .source = "S. Elfwing et al., Neural Networks 107, 2018"),
    COSTLY(gelu, "x Phi(x), Phi the normal distribution function", PL_FLOATS, wide, .accuracy = "6 ulp, and x^2 more",
           .source = "D. Hendrycks, K. Gimpel, arXiv:1606.08415"),
    UNARY(softsign, "x/(1 + |x|)", PL_FLOATS, kinked, .accuracy = "2 ulp"),
    COMPOSED(selu, "1.0507 elu(x, 1.6733): the scaled elu that keeps mean 0 and variance 1", kinked,
             .shapes = "{...} -> {...}", .source = "G. Klambauer et al., NeurIPS 2017"),
    COMPOSED(hard_tanh, "x kept within -1 and 1", kinked, .shapes = "{...} -> {...}", .derivative = "shared by ties"),
    {0},
};
