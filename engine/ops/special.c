/* special.c: special functions, elementwise: gamma's kin and the incomplete ones. Their kernels compute in double
 * precision whatever the dtype. */
#include <math.h>

#include "elementwise.h"

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
  if (k == 0) return PL_WHERE(c, CALL2(eq, y, zero), zero, CALL2(mul, y, CALL2(sub, CALL1(log, Z), CALL1(digamma, X))));
  pl_value at_0 = CALL2(eq, Z, zero), before = CALL2(sub, X, ONE);
  pl_value slope = CALL2(sub, CALL2(div, before, PL_WHERE(c, at_0, ONE, Z)), ONE);
  return PL_WHERE(c, at_0, CALL2(sub, CALL2(gamma_density, before, zero), y), CALL2(mul, y, slope));
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

/* Bessel functions: DLMF 10.6.2, 10.6.3, 10.29.2, 10.29.3. f/x, f = J1 (sign -1) or I1, near 0 by its series: what is
 * differentiated then is a polynomial, right to any order also at 0. */
static pl_value over_x(pl_context *c, pl_value x, pl_value f, double sign, pl_value scale) {
  double series[8] = {0.5}; /* sign^k/(2 4^k k! (k + 1)!) */
  for (int k = 1; k < 8; k++) series[k] = sign * series[k - 1] / (4. * k * (k + 1));
  pl_value near = CALL2(lt, CALL1(abs, x), pl_like(c, x, 0.25)), sum = even_series(c, x, 8, series);
  if (scale != PL_NONE) sum = CALL2(mul, sum, scale);
  return PL_WHERE(c, near, sum, CALL2(div, f, PL_WHERE(c, near, pl_like(c, x, 1), x)));
}
PARTIAL(j0) {
  UNUSED;
  return CALL1(neg, CALL1(j1, X));
}
PARTIAL(j1) {
  UNUSED;
  return CALL2(sub, CALL1(j0, X), over_x(c, X, y, -1, PL_NONE));
}
PARTIAL(y0) {
  UNUSED;
  return CALL1(neg, CALL1(y1, X));
}
PARTIAL(y1) {
  UNUSED;
  return CALL2(sub, CALL1(y0, X), CALL2(div, y, X));
}
PARTIAL(i0) {
  UNUSED;
  return CALL1(i1, X);
}
PARTIAL(i1) {
  UNUSED;
  return CALL2(sub, CALL1(i0, X), over_x(c, X, y, 1, PL_NONE));
}
PARTIAL(i0e) {
  UNUSED;
  return CALL2(sub, CALL1(i1e, X), CALL2(mul, CALL1(sign, X), y));
}
PARTIAL(i1e) {
  UNUSED;
  pl_value ratio = over_x(c, X, y, 1, CALL1(exp, CALL1(neg, CALL1(abs, X))));
  return CALL2(sub, CALL2(sub, CALL1(i0e, X), ratio), CALL2(mul, CALL1(sign, X), y));
}
PARTIAL(k0) {
  UNUSED;
  return CALL1(neg, CALL1(k1, X));
}
PARTIAL(k1) {
  UNUSED;
  return CALL1(neg, CALL2(add, CALL1(k0, X), CALL2(div, y, X)));
}
PARTIAL(k0e) {
  UNUSED;
  return CALL2(sub, y, CALL1(k1e, X));
}
PARTIAL(k1e) {
  UNUSED;
  return CALL2(sub, CALL2(sub, y, CALL1(k0e, X)), CALL2(div, y, X));
}

/* ---- B(x, z) = Gamma(x) Gamma(z)/Gamma(x + z) and its incomplete kin ---- */

PARTIAL(betaln) {
  UNUSED;
  return CALL2(sub, CALL1(digamma, in[k]), CALL1(digamma, CALL2(add, X, Z)));
}
static bool beta_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                        pl_value *out) {
  (void)op, (void)n, (void)attrs;
  out[0] = CALL1(exp, CALL2(betaln, X, Z));
  return out[0] != PL_NONE;
}
#define BETA(op, a, b, x) pl_call3(c, PL_OP(op), a, b, x, NULL)
/* x^(a-1) (1-x)^(b-1)/B(a, b) = f: f (log x + psi(a + b) - psi(a)), the same of 1 - x and b; f ((a - 1)/x - (b - 1)/(1
 * - x)), at the ends as (a + b - 1) (f of a - 1 and b, less f of a and b - 1) */
PARTIAL(beta_density) {
  UNUSED;
  pl_value a = in[0], b = in[1], x = in[2], zero = NUMBER(0), sum = CALL2(add, a, b);
  if (k < 2) {
    pl_value rest = CALL2(sub, CALL1(digamma, sum), CALL1(digamma, in[k]));
    pl_value power = k ? CALL1(log1p, CALL1(neg, x)) : CALL1(log, x);
    return PL_WHERE(c, CALL2(eq, y, zero), zero, CALL2(mul, y, CALL2(add, power, rest)));
  }
  pl_value before = CALL2(sub, a, ONE), other = CALL2(sub, b, ONE), complement = CALL2(sub, ONE, x);
  pl_value at_end = CALL2(le, CALL2(mul, x, complement), zero), half = NUMBER(0.5);
  pl_value slope = CALL2(sub, CALL2(div, before, PL_WHERE(c, at_end, half, x)),
                         CALL2(div, other, PL_WHERE(c, at_end, half, complement)));
  pl_value ends = CALL2(sub, BETA(beta_density, before, b, x), BETA(beta_density, a, other, x));
  return PL_WHERE(c, at_end, CALL2(mul, CALL2(sub, sum, ONE), ends), CALL2(mul, y, slope));
}
PARTIAL(betainc) {
  UNUSED;
  if (k == 2) return BETA(beta_density, in[0], in[1], in[2]);
  return k == 0 ? BETA(betainc_da, in[0], in[1], in[2]) : BETA(betainc_db, in[0], in[1], in[2]);
}
static pl_value of_density(pl_context *c, int which, int k, const pl_value *in, const pl_attr *attrs) {
  if (k == 2) return beta_density_partial(c, which, in, BETA(beta_density, in[0], in[1], in[2]), attrs);
  pl_error(c, PL_ERROR_TYPE, "betainc: a second derivative in a and b is not offered, only the first");
  return PL_NONE;
}
PARTIAL(betainc_da) {
  UNUSED;
  return of_density(c, 0, k, in, attrs);
}
PARTIAL(betainc_db) {
  UNUSED;
  return of_density(c, 1, k, in, attrs);
}

/* Student's density: f = exp(-(n + 1)/2 log(1 + t^2/n))/(sqrt(n) B(1/2, n/2)) */
static pl_value student_density(pl_context *c, pl_value n, pl_value t) {
  pl_value half = pl_like(c, n, 0.5), h = CALL2(mul, n, half);
  pl_value power = CALL2(mul, CALL2(add, h, half), CALL1(log1p, CALL2(div, CALL1(square, t), n)));
  return CALL2(div, CALL1(exp, CALL1(neg, CALL2(add, CALL2(betaln, half, h), power))), CALL1(sqrt, n));
}
PARTIAL(stdtr) {
  UNUSED;
  return k == 0 ? CALL2(stdtr_ddf, X, Z) : student_density(c, X, Z);
}
PARTIAL(stdtr_ddf) { /* df/dn = f/2 (psi((n + 1)/2) - psi(n/2) - log(1 + t^2/n) + (t^2 - 1)/(n + t^2)) */
  UNUSED;
  if (k == 0) {
    pl_error(c, PL_ERROR_TYPE, "stdtr: the second derivative in df is not offered, only the first");
    return PL_NONE;
  }
  pl_value half = NUMBER(0.5), h = CALL2(mul, X, half), square = CALL1(square, Z);
  pl_value steps = CALL2(sub, CALL1(digamma, CALL2(add, h, half)), CALL1(digamma, h));
  pl_value rest =
      CALL2(sub, CALL2(div, CALL2(sub, square, ONE), CALL2(add, X, square)), CALL1(log1p, CALL2(div, square, X)));
  return CALL2(mul, CALL2(mul, student_density(c, X, Z), half), CALL2(add, steps, rest));
}

/* ---- exponential integrals: DLMF 8.19.13, 6.2.5 ---- */

static pl_value exp_over(pl_context *c, pl_value x, double sign) { /* e^(sign x)/x */
  return CALL2(div, CALL1(exp, sign < 0 ? CALL1(neg, x) : x), x);
}
PL_EXPAND(expint) {
  (void)op, (void)n;
  const int64_t order = attrs[0].i;
  if (order < 0) {
    pl_error(c, PL_ERROR_ARGUMENT, "expint: E_n of n = 0, 1, 2 ...; n is %lld", (long long)order);
    return false;
  }
  if (order == 0) out[0] = exp_over(c, X, -1);
  else out[0] = order == 1 ? CALL1(exp1, X) : pl_call1(c, PL_OP(expn), X, &PL_REALV((double)order));
  return out[0] != PL_NONE;
}
PARTIAL(exp1) {
  UNUSED;
  return CALL1(neg, exp_over(c, X, -1));
}
PARTIAL(expn) {
  UNUSED;
  return CALL1(neg, pl_call1(c, PL_OP(expint), X, &PL_INT((int64_t)fmax(-1, fmin(attrs[0].r - 1, 1e15)))));
}
PARTIAL(expi) {
  UNUSED;
  return exp_over(c, X, 1);
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

/* a, b, x; or a and b whole */
static bool beta_sample_of(pl_context *c, pl_sampler_random *r, int k, pl_sample *s, bool whole) {
  static const double lo[] = {0.4, 1, 20, 600, 2}, hi[] = {0.9, 4, 40, 700, 5};
  const int j = k % 5;
  s->n = 3;
  if (k > 5) return false;
  s->in[0] = k == 5 ? pl_sample_tensor(c, r, 1, 3, 0) : pl_sample_tensor(c, r, lo[j], hi[j], 2, 2, 3);
  s->in[1] = k == 5 ? pl_sample_tensor(c, r, 1, 3, 1, 700) : pl_sample_tensor(c, r, lo[j], hi[j], 1, 3);
  s->in[2] = k == 4 ? pl_sample_tensor(c, r, 0.05, 0.95, 3, 0, 2, 3)
                    : pl_sample_tensor(c, r, j == 3 ? 0.48 : 0.2, j == 3 ? 0.52 : 0.8, 0);
  for (int i = 0; whole && i < 2; i++) {
    pl_value v = s->in[i];
    s->in[i] = pl_cast(c, v, PL_I64);
    pl_release(c, v);
  }
  return true;
}
static bool betainc_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  return beta_sample_of(c, r, k, s, false);
}
static bool whole_beta_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  return k < 4 && beta_sample_of(c, r, k + 1, s, true);
}
SAMPLE2(student, 0.5, 6, -3, 3)
static bool whole_student_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  if (k > 7 || !sample_binary(c, r, k, s, 1, 6, -3, 3)) return false;
  pl_value a = s->in[0];
  s->in[0] = pl_cast(c, a, PL_I64);
  pl_release(c, a);
  return true;
}

static bool expint_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  s->attrs[0] = PL_INT((k + 1) % 4);
  return sample_unary(c, r, k, s, 0.3, k == 4 ? 7 : 2);
}
static bool expn_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  s->attrs[0] = PL_REALV(k + 2);
  return sample_unary(c, r, k, s, 0.3, k == 4 ? 7 : 2);
}

/* either side of 0 and of where the kernels change over */
static bool shifted_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  return sample_unary(c, r, k, s, -1, k == 4 ? 12 : 2);
}
static bool away_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  return sample_unary(c, r, k, s, k == 0 ? -2 : 0.1, k == 0 ? -0.1 : k == 4 ? 12 : 2);
}

#define GAMMA_ULPS "6 ulp, and what an ulp of x makes of the result"
#define BESSEL_ULPS "4 ulp, of J and Y those of the larger of the value and sqrt(2/(pi x))"
#define BESSEL(op, text, smp, convention)                                                        \
  UNARY(op, text, PL_FLOATS, smp, .work = 40, .derivative = convention, .accuracy = BESSEL_ULPS, \
        .source = "DLMF chapter 10; approximations: tests/data/coefficients.py")
#define INCOMPLETE_GAMMA                                                                                           \
  .work = 200, .derivative = "in x of any order; in a once: the second derivative in a is an error",               \
  .accuracy = "4 ulp, the derivative in a 10, and what an ulp of a and x makes of the result",                     \
  .source =                                                                                                        \
      "DLMF chapter 8; N. Temme, The asymptotic expansion of the incomplete gamma functions, SIAM J. Math. Anal. " \
      "10(4), 1979"

#define EXPONENTIAL                                              \
  .accuracy = "6 ulp, and what an ulp of x makes of the result", \
  .source = "DLMF chapters 6 and 8.19; approximations: tests/data/coefficients.py"
#define INCOMPLETE_BETA                                                                                      \
  .work = 200, .derivative = "in x of any order; in a and b once: second derivatives in these are an error", \
  .accuracy = "4 ulp, derivatives in a and b 10, and what an ulp of a, b and x makes of the result",         \
  .source = "A. DiDonato, A. Morris, Algorithm 708, ACM Transactions on Mathematical Software 18(3), 1992; DLMF 8.17"
#define TERNARY(op, text, smp, ...)                                                                       \
  {                                                                                                       \
    .name = #op, .formula = text, .kind = PL_ELEMENTWISE, .inputs = 3, .outputs = 1, .dtypes = PL_FLOATS, \
    .result = -1, .partial = op##_partial, .sample = smp##_sample, __VA_ARGS__                            \
  }

pl_op pl_ops_special[] = {
    COSTLY(lgamma, "log of the gamma function's absolute value", PL_FLOATS, positive, .accuracy = GAMMA_ULPS),
    COSTLY(digamma, "derivative of lgamma; NaN at 0, -1, -2 ...", PL_FLOATS, positive, .accuracy = GAMMA_ULPS),
    {.name = "polygamma",
     .formula = "n-th derivative of digamma, n = 0, 1 ... 1000, for x > 0 (n = 0 and 1 for any); else NaN",
     .kind = PL_ELEMENTWISE,
     .inputs = 1,
     .outputs = 1,
     .dtypes = PL_FLOATS,
     .result = -1,
     .attrs = {{"n", PL_AS_REAL, true, 0}},
     .accuracy = GAMMA_ULPS,
     .partial = polygamma_partial,
     .sample = polygamma_sample,
     .work = 100},
    COSTLY(erfinv, "inverse of erf, for |x| <= 1", PL_FLOATS, fraction, .accuracy = GAMMA_ULPS),
    BINARY(betaln, "log of the beta function of positive x and z", PL_FLOATS, both, .work = 40,
           .accuracy = "6 ulp, near 0 of 1; and what an ulp of x and z makes of the result"),
    {.name = "beta",
     .formula = "the beta function Gamma(x) Gamma(z)/Gamma(x + z) of positive x and z",
     .shapes = "inputs broadcast",
     .kind = PL_COMPOSITE,
     .inputs = 2,
     .outputs = 1,
     .expand = beta_expand,
     .sample = both_sample},
    BINARY(gammainc, "P(a, x), the integral of t^(a-1) e^-t from 0 to x over Gamma(a); NaN for a or x below 0",
           PL_FLOATS, incomplete, INCOMPLETE_GAMMA),
    BINARY(gammaincc, "Q(a, x) = 1 - P(a, x), accurate where it is small; NaN for a or x below 0", PL_FLOATS,
           incomplete, INCOMPLETE_GAMMA),
    BINARY(gammainc_da, "dP(a, x)/da, P as of gammainc", PL_FLOATS, whole, .internal = true, .work = 200),
    BINARY(gamma_density, "x^(a-1) e^-x/Gamma(a): dP(a, x)/dx, P as of gammainc", PL_FLOATS, both, .internal = true,
           .work = 100),
    TERNARY(
        betainc,
        "I_x(a, b) of a, b, x: the integral of t^(a-1) (1-t)^(b-1) from 0 to x over B(a, b); NaN for a or b below 0 "
        "or x outside of [0, 1]",
        betainc, INCOMPLETE_BETA),
    TERNARY(betainc_da, "d I_x(a, b)/da", whole_beta, .internal = true, .work = 250),
    TERNARY(betainc_db, "d I_x(a, b)/db", whole_beta, .internal = true, .work = 250),
    TERNARY(beta_density, "x^(a-1) (1-x)^(b-1)/B(a, b) of a, b, x: d I_x(a, b)/dx", betainc, .internal = true,
            .work = 100),
    BINARY(stdtr, "P(T <= t) of Student's t of df degrees of freedom: inputs df, t; NaN where df is not positive",
           PL_FLOATS, student, .work = 200,
           .derivative = "in t of any order; in df once: the second derivative in df is an error",
           .accuracy =
               "6 ulp in both tails, and what an ulp of df and t makes of the result; the derivative in df 25, and "
               "df times as many",
           .source = "by the incomplete beta function"),
    BINARY(stdtr_ddf, "d stdtr(df, t)/d df", PL_FLOATS, whole_student, .internal = true, .work = 250),
    {.name = "expint",
     .formula = "E_n(x), the integral of e^(-x t)/t^n over t > 1, n = 0, 1, 2 ...; NaN for x < 0 but where n = 0",
     .shapes = "{...} -> {...}",
     .kind = PL_COMPOSITE,
     .inputs = 1,
     .outputs = 1,
     .attrs = {{"n", PL_AS_INT, false, 1}},
     EXPONENTIAL,
     .expand = expint_expand,
     .sample = expint_sample},
    UNARY(exp1, "E_1(x)", PL_FLOATS, positive, .internal = true, .work = 20),
    UNARY(expn, "E_n(x), n = 2, 3 ...", PL_FLOATS, expn, .internal = true, .work = 150,
          .attrs = {{"n", PL_AS_REAL, true, 0}}),
    UNARY(expi, "Ei(x), the principal value of the integral of e^t/t from -infinity to x", PL_FLOATS, away, .work = 40,
          EXPONENTIAL),
    BESSEL(j0, "Bessel function J of order 0", shifted, NULL),
    BESSEL(j1, "Bessel function J of order 1", shifted, NULL),
    BESSEL(y0, "Bessel function Y of order 0; NaN below 0", positive, NULL),
    BESSEL(y1, "Bessel function Y of order 1; NaN below 0", positive, NULL),
    BESSEL(i0, "modified Bessel function I of order 0", shifted, NULL),
    BESSEL(i1, "modified Bessel function I of order 1", shifted, NULL),
    BESSEL(i0e, "e^-|x| I0(x)", away, "0 at 0"),
    BESSEL(i1e, "e^-|x| I1(x)", away, "1/2 at 0; the second is 0 there"),
    BESSEL(k0, "modified Bessel function K of order 0; NaN below 0", positive, NULL),
    BESSEL(k1, "modified Bessel function K of order 1; NaN below 0", positive, NULL),
    BESSEL(k0e, "e^x K0(x); NaN below 0", positive, NULL),
    BESSEL(k1e, "e^x K1(x); NaN below 0", positive, NULL),
    {0},
};
