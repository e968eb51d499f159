/* gamma.h: the gamma function's logarithm and its kin, in double precision whatever the dtype. */
#ifndef PL_KERNELS_GAMMA_H
#define PL_KERNELS_GAMMA_H

#include "double.h"

#if PL_FLOATING
/* log |Gamma(x)|; the C library's, without its global sign. */
PL_FN double log_gamma(double x) {
#ifdef __CUDACC__
  return lgamma(x);
#else
  int sign;
  extern double lgamma_r(double, int *);
  return lgamma_r(x, &sign);
#endif
}

/* M. Abramowitz, I. Stegun, Handbook of mathematical functions, 6.3.5 (recurrence), 6.3.7 (reflection), 6.3.18 (series):
 * from 10 on the first term left out is below 1e-17. */
PL_FN double psi(double x) {
  const double pi = 3.14159265358979323846;
  double sum = 0;
  if (!(x > 0)) {
    if (x == floor(x)) return 0.0/0.0;
    sum = -pi/tan(pi*(x - floor(x)));
    x = 1 - x;
  }
  for (; x < 10; x += 1) sum -= 1/x;
  const double s = 1/(x*x);
  const double series = s*(1./12 - s*(1./120 - s*(1./252 - s*(1./240 - s*(1./132 - s*(691./32760 - s*(1./12)))))));
  return x > 1e300 ? log(x) : sum + log(x) - 0.5/x - series;
}

/* log Gamma(x) - (x - 1/2) log x + x - log(2 pi)/2, for x >= 10: DLMF 5.11.1. */
PL_FN double stirling(double x) {
  const double s = 1/(x*x);
  return (1./12 - s*(1./360 - s*(1./1260 - s*(1./1680 - s*(1./1188 - s*(691./360360 - s*(1./156)))))))/x;
}

/* u - log(1 + u) for |u| < 0.35, to the last digits also near 0, from log(1 + u) = 2 atanh(u/(2 + u)). */
PL_FN double u_less_log1p(double u) {
  const double s = u/(2 + u), t = s*s;
  double sum = 0;
  for (int k = 27; k >= 3; k -= 2) sum = sum*t + 1./k;
  return u*s - 2*s*t*sum;
}
#endif
#endif
