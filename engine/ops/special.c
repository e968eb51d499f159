/* special.c: special functions, elementwise: gamma's kin and the incomplete ones. Their kernels compute in double
 * precision whatever the dtype. */
#include "elementwise.h"

#define ONE NUMBER(1)
#define PL_WHERE(mask, x, z) pl_call3(c, PL_OP(where), mask, x, z, NULL)

PARTIAL(lgamma) {
  UNUSED;
  return CALL1(digamma, X);
}
PARTIAL(digamma) {
  UNUSED;
  return pl_call1(c, PL_OP(polygamma), X, &PL_REALV(1));
}
PARTIAL(polygamma) {
  UNUSED;
  return pl_call1(c, PL_OP(polygamma), X, &PL_REALV(attrs[0].r + 1));
}
PARTIAL(erfinv) { /* sqrt(pi)/2 e^(y^2) */
  UNUSED;
  return CALL2(mul, CALL1(exp, CALL1(square, y)), NUMBER(0.88622692545275801365));
}
PARTIAL(gamma_density) { /* f (log x - psi(a)), f ((a - 1)/x - 1), also where f = 0 */
  UNUSED;
  pl_value zero = NUMBER(0);
  if (k == 0) return PL_WHERE(CALL2(eq, y, zero), zero, CALL2(mul, y, CALL2(sub, CALL1(log, Z), CALL1(digamma, X))));
  pl_value at_0 = CALL2(eq, Z, zero), before = CALL2(sub, X, ONE);
  pl_value slope = CALL2(sub, CALL2(div, before, PL_WHERE(at_0, ONE, Z)), ONE);
  return PL_WHERE(at_0, CALL2(sub, CALL2(gamma_density, before, zero), y), CALL2(mul, y, slope));
}
PARTIAL(gammainc) {
  UNUSED;
  return k == 0 ? CALL2(gammainc_da, X, Z) : CALL2(gamma_density, X, Z);
}
PARTIAL(gammaincc) {
  UNUSED;
  return CALL1(neg, gammainc_partial(c, k, in, y, attrs));
}
PARTIAL(gammainc_da) {
  UNUSED;
  if (k == 1) return gamma_density_partial(c, 0, in, CALL2(gamma_density, X, Z), attrs);
  pl_error(c, PL_ERROR_TYPE, "gammainc: the second derivative in a is not offered, only the first");
  return PL_NONE;
}

/* B(x, z) = Gamma(x) Gamma(z)/Gamma(x + z), of positive x and z */
static bool betaln_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                          pl_value *out) {
  (void)op, (void)n, (void)attrs;
  out[0] = CALL2(sub, CALL2(add, CALL1(lgamma, X), CALL1(lgamma, Z)), CALL1(lgamma, CALL2(add, X, Z)));
  return out[0] != PL_NONE;
}
/* ---- samples ---- */

SAMPLE1(fraction, 0.1, 0.8)
static bool polygamma_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  s->attrs[0] = PL_REALV(k);
  return positive_sample(c, r, k, s);
}
SAMPLE2(both, 0.5, 3, 0.5, 3)

static bool whole_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) { /* a whole: no derivative in a */
  if (!sample_binary(c, r, k, s, 1.5, 4, 0.5, 3)) return false;
  if (k == 8) pl_release(c, s->in[1]), s->in[1] = pl_sample_tensor(c, r, 0.5, 3, 1, 6);
  pl_value a = s->in[0];
  s->in[0] = pl_cast(c, a, PL_I64);
  pl_release(c, a);
  return true;
}
static bool incomplete_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  return k < 9 ? both_sample(c, r, k, s) : whole_sample(c, r, k - 9, s);
}

#define INCOMPLETE_GAMMA                                                                                           \
  .work = 200, .derivative = "in x of any order; in a once: the second derivative in a is an error",               \
  .accuracy = "a few ulps, and what an ulp of a and x makes of the result",                                        \
  .source =                                                                                                        \
      "DLMF chapter 8; N. Temme, The asymptotic expansion of the incomplete gamma functions, SIAM J. Math. Anal. " \
      "10(4), 1979"

pl_op pl_ops_special[] = {
    COSTLY(lgamma, "log of the gamma function's absolute value", PL_FLOATS, positive),
    COSTLY(digamma, "derivative of lgamma; NaN at 0, -1, -2 ...", PL_FLOATS, positive),
    {.name = "polygamma",
     .formula = "n-th derivative of digamma, for x > 0 (n = 0 and 1 for any); else NaN",
     .kind = PL_ELEMENTWISE,
     .inputs = 1,
     .outputs = 1,
     .dtypes = PL_FLOATS,
     .result = -1,
     .attrs = {{"n", PL_AS_REAL, true, 0}},
     .partial = polygamma_partial,
     .sample = polygamma_sample,
     .work = 100},
    COSTLY(erfinv, "inverse of erf, for |x| <= 1", PL_FLOATS, fraction),
    {.name = "betaln",
     .formula = "log of the beta function of positive x and z",
     .kind = PL_COMPOSITE,
     .inputs = 2,
     .outputs = 1,
     .expand = betaln_expand,
     .sample = both_sample},
    BINARY(gammainc, "P(a, x), the integral of t^(a-1) e^-t from 0 to x over Gamma(a); NaN for a or x below 0",
           PL_FLOATS, incomplete, INCOMPLETE_GAMMA),
    BINARY(gammaincc, "Q(a, x) = 1 - P(a, x), accurate where it is small; NaN for a or x below 0", PL_FLOATS,
           incomplete, INCOMPLETE_GAMMA),
    BINARY(gammainc_da, "dP(a, x)/da, P as of gammainc", PL_FLOATS, whole, .internal = true, .work = 200),
    BINARY(gamma_density, "x^(a-1) e^-x/Gamma(a): dP(a, x)/dx, P as of gammainc", PL_FLOATS, both, .internal = true,
           .work = 100),
    {0},
};
