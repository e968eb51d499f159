/* Elementwise functions beyond arithmetic: inverse, hyperbolic and error functions, rounding, activations. glibc's vector
 * functions (libmvec) where there are such, at most 4 ulp. */
#include "elementwise.h"

#if PL_FLOATING
UNARY(asin, asin(x))
UNARY(acos, acos(x))
UNARY(atan, atan(x))
UNARY(sinh, sinh(x))
UNARY(cosh, cosh(x))
UNARY(asinh, asinh(x))
UNARY(acosh, acosh(x))
UNARY(atanh, atanh(x))
UNARY(exp2, exp2(x))
UNARY(log2, log2(x))
UNARY(log10, log10(x))
UNARY(cbrt, cbrt(x))
UNARY(erf, erf(x))
UNARY(erfc, erfc(x))
BINARY(atan2, atan2(x, z))
BINARY(hypot, hypot(x, z))
EXACT2(fmod, fmod(x, z))
EXACT1(floor, floor(x))
EXACT1(ceil, ceil(x))
EXACT1(trunc, trunc(x))
EXACT1(round, rint(x)) /* halves to the even one */
EXACT1(reciprocal, 1/x)
EXACT2(heaviside, x < 0 ? 0 : x > 0 ? 1 : x == 0 ? z : x)

typedef binary_args logaddexp_args;
PL_KERNEL(logaddexp) { /* log(e^x + e^z) without overflow */
  const real x = a.x[i], z = a.z[i], m = x > z || x != x ? x : z, d = log1p(exp(-fabs(x - z)));
  a.y[i] = x == z ? x + (real)0.69314718055994530942 : m + d;
}

typedef unary_args sinc_args;
PL_KERNEL(sinc) { /* sin(pi x)/(pi x), 1 at 0; the argument of sin is reduced exactly, to half a period */
  const real pi = (real)3.14159265358979323846, x = a.x[i], k = rint(x), s = sin(pi*(x - k));
  const real odd = k - 2*floor(k/2), y = (odd != 0 ? -s : s)/(pi*x);
  a.y[i] = x == 0 ? 1 : fabs(x) > (real)1e17 ? 0 : y;
}

EXACT1(relu, x > 0 || x != x ? x : 0)
EXACT1(softsign, fabs(x) > (real)1e30 ? (x > 0 ? 1 : -1) : x/(1 + fabs(x)))
UNARY(silu, x < -800 ? 0 : x/(1 + exp(-x)))
UNARY(gelu, x < -40 ? 0 : x*((real)0.5*erfc(x*(real)-0.70710678118654752440)))
typedef struct { const real *x; real *y; real b; } scaled_args;
typedef scaled_args leaky_relu_args;
PL_KERNEL(leaky_relu) { const real x = a.x[i]; a.y[i] = x < 0 ? a.b*x : x; }
typedef scaled_args elu_args;
PL_KERNEL(elu) { const real x = a.x[i], e = a.b*expm1(x); a.y[i] = x < 0 ? e : x; }

typedef struct { const real *x; uint8_t *y; } test_args;
#define TEST(name, expression)    \
  typedef test_args name##_args;  \
  PL_KERNEL(name) { const real x = a.x[i]; a.y[i] = (expression); }
TEST(isnan, x != x)
TEST(isinf, x - x != 0 && x == x)
TEST(isfinite, x - x == 0)
#endif
