/* Elementwise arithmetic and functions: y_i = f(x_i). */
#include "elementwise.h"

#if PL_DTYPE_ID <= 2
EXACT2(add, x + z)
EXACT2(sub, x - z)
EXACT2(mul, x*z)
EXACT1(neg, -x)
EXACT1(square, x*x)
EXACT1(sign, x > 0 ? 1 : x < 0 ? -1 : x) /* a NaN stays */
/* A NaN in either is the result. */
EXACT2(maximum, x > z || x != x ? x : z)
EXACT2(minimum, x < z || x != x ? x : z)
#endif

#if PL_FLOATING
EXACT1(abs, fabs(x))
EXACT2(div, x/z)
BINARY(mod, x - z*floor(x/z)) /* of the divisor's sign, as in Lua */
BINARY(pow, pow(x, z))
UNARY(exp, exp(x))
UNARY(log, log(x))
UNARY(log1p, log1p(x))
UNARY(expm1, expm1(x))
EXACT1(sqrt, sqrt(x))
UNARY(sin, sin(x))
UNARY(cos, cos(x))
UNARY(tan, tan(x))
UNARY(tanh, tanh(x))
EXACT1(one_minus_square, 1 - x*x)
UNARY(sigmoid, 1/(1 + exp(-x)))
/* g*d of the chain rule, 0 where g is 0 whatever d is: what a mask cut off contributes nothing, be it infinite. */
EXACT2(chain, x == 0 ? 0 : x*z)
EXACT2(neg_chain, x == 0 ? 0 : -x*z)

/* Two ops in one pass of a fused group, each rounded as it would be alone. */
#define TERNARY(name, expression)              \
  typedef ternary_args name##_args;            \
  PL_EXACT_KERNEL(name) { const real x = a.x[i], z = a.z[i], w = a.w[i]; a.y[i] = (expression); } \
  PL_ONE(static void name##_one(const void *p, const void *q, const void *r, void *y) {           \
    const real x = *(const real *)p, z = *(const real *)q, w = *(const real *)r;                  \
    *(real *)y = (expression);                                                                    \
  })
TERNARY(add_add, x + (z + w))
TERNARY(mul_add, x + z*w)
TERNARY(mul_sub, x - z*w)
TERNARY(sub_mul, z*w - x)
TERNARY(chain_add, x + (z == 0 ? 0 : z*w))

typedef struct { const real *x; real *y; real b; } softplus_args;
PL_KERNEL(softplus) { /* log(1 + exp(b x))/b without overflow */
  const real z = a.b*a.x[i], e = log1p(exp(-fabs(z)));
  a.y[i] = ((z > 0 ? z : 0) + e)/a.b;
  a.y[i] = z != z ? z : a.y[i];
}
#elif PL_DTYPE_ID == 2
EXACT1(abs, x < 0 ? -x : x)
/* floored; 0 for a zero divisor, and for -1 (whose quotient may overflow) */
typedef binary_args mod_args;
PL_ROW_KERNEL(mod) {
  const real x = a.x[i], z = a.z[i];
  real m = z == 0 || z == -1 ? 0 : x % z;
  if (m != 0 && (m < 0) != (z < 0)) m += z;
  a.y[i] = m;
}
#endif

/* Comparisons give bytes. */
typedef struct { const real *x, *z; uint8_t *y; } compare_args;
#define COMPARE(name, operator)             \
  typedef compare_args name##_args;         \
  PL_KERNEL(name) { a.y[i] = a.x[i] operator a.z[i]; }
COMPARE(lt, <)
COMPARE(le, <=)
COMPARE(gt, >)
COMPARE(ge, >=)
COMPARE(eq, ==)
COMPARE(ne, !=)

typedef struct { const uint8_t *c; const real *x, *z; real *y; } where_args;
PL_KERNEL(where) { a.y[i] = a.c[i] ? a.x[i] : a.z[i]; }

#if PL_DTYPE_ID == 3
BINARY(logical_and, x && z)
BINARY(logical_or, x || z)
BINARY(logical_xor, !x != !z)
UNARY(logical_not, !x)
#endif

/* Casts to `real`: exact, and between types of different size, so never more than the given elements. Floats to i64 truncate; what does not fit becomes the most negative number. */
#if PL_DTYPE_ID == 2
#define FROM_FLOAT(x) ((x) >= -9.2e18 && (x) <= 9.2e18 ? (real)(x) : INT64_MIN)
#elif PL_DTYPE_ID == 3
#define FROM_FLOAT(x) ((x) != 0)
#else
#define FROM_FLOAT(x) ((real)(x))
#endif
#define CAST(name, type, expression)                                       \
  typedef struct { const type *x; real *y; } name##_args;                  \
  PL_ROW_KERNEL(name) { const type x = a.x[i]; a.y[i] = (expression); }
CAST(cast_f64, double, FROM_FLOAT(x))
CAST(cast_f32, float, FROM_FLOAT(x))
CAST(cast_i64, int64_t, PL_DTYPE_ID == 3 ? x != 0 : (real)x)
CAST(cast_bool, uint8_t, (real)x)
