/* Exponential integrals E_n(x) = integral of e^(-x t)/t^n over t > 1 and Ei(x) = -E_1(-x), in double precision whatever the
 * dtype: NIST Digital library of mathematical functions (DLMF), chapter 8.19 and 6. */
#include "elementwise.h"
#include "gamma.h"

#if PL_FLOATING
#include "expint.h"

PL_FN double e1_of(double x) {
  const double u = 1/x, decay = exp(-x)*u;
  const double near = e1_near(x) - log(x), middle = decay*e1_middle_p(u)/e1_middle_q(u), far = decay*e1_far_p(u)/e1_far_q(u);
  return x > 4 ? far : x > 1 ? middle : near;
}
UNARY(exp1, (real)e1_of((double)x))

/* n = 2, 3 ...: the series 8.19.8 up to 1, then the continued fraction 8.19.17, contracted, of as many levels as are needed */
PL_FN double en_of(double n, double x) {
  if (!(x >= 0)) return 0.0/0.0;
  if (x <= 1) {
    double power = 1, sum = 0; /* (-x)^k/k! */
    for (double k = 0; fabs(power) > 1e-18; k += 1) {
      sum += k == n - 1 ? power*(psi(n) - log(x)) : power/(n - 1 - k);
      power *= -x/(k + 1);
    }
    return sum;
  }
  double r = 0;
  for (double k = floor(9 + 90/x); k > 0; k -= 1) r = k*(n + k - 1)/(x + n + 2*k - r);
  const double e = exp(-x);
  return e == 0 ? 0 : e/(x + n - r);
}
typedef struct { const real *x; real *y; real n; } expn_args;
PL_KERNEL(expn) { a.y[i] = (real)en_of((double)a.n, (double)a.x[i]); }

PL_FN double ei_of(double x) {
  if (x < 0) return -e1_of(-x);
  if (x <= 6) {
    const double root = 0.37250741078136662132, d = x - root - 1.3140183414386028201e-17; /* what it lacks */
    return (fabs(d) < 0.1 ? log1p(d/root) : log(x/root)) + d*ei_near(x);
  }
  if (!(x < INFINITY)) return x;
  const double u = 1/x, half = exp(0.5*x);
  return half*(x > 24 ? ei_from_24(48*u - 1) : x > 12 ? ei_from_12(48*u - 3) : ei_from_6(24*u - 3))*u*half;
}
UNARY(expi, (real)ei_of((double)x))
#endif
