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

/* 1/Gamma(1 + (s + 1)/2), |s| <= 1: by tests/data/coefficients.py, within 1e-17 */
PL_FN double reciprocal_gamma_1_2(double s) {
  return ((((((((((((((5.131033939660537245e-13*s - 5.494526824267023845e-12)*s + 7.088662914563049823e-12)*s
         + 5.265033028381590469e-10)*s - 6.785564183706894961e-9)*s + 2.476086975259896287e-8)*s + 2.975734857523557638e-7)*s
         - 4.338790023175904659e-6)*s + 0.00001656821439279107237)*s + 0.0001033265285355440642)*s
         - 0.001317349042766369718)*s + 0.003185428765482700011)*s + 0.0218877532554917939)*s - 0.1316636088813861707)*s
         - 0.02058726322264155018)*s + 1.128379167095512574;
}
/* 1/Gamma(a + 1), for 0 <= a <= 20 or so */
PL_FN double reciprocal_gamma_1p(double a) {
  double product = 1;
  for (; a >= 1; a -= 1) product *= a;
  return reciprocal_gamma_1_2(2*a - 1)/product;
}

/* log Gamma(1 + a), a >= 0, to the last digits also near 0: DLMF 5.7.3. */
PL_FN double log_gamma_1p(double a) {
  static const double zeta[] = { /* (-1)^k (zeta(k) - 1)/k */
      0.322467033424113218, -0.0673523010531980951, 0.0205808084277845479, -0.00738555102867398527, 0.00289051033074152329,
      -0.00119275391170326098, 5.09669524743042422e-4, -2.2315475845357938e-4, 9.94575127818085337e-5,
      -4.49262367381331417e-5, 2.05072127756706916e-5, -9.4394882752683959e-6, 4.3748667899074878e-6};
  if (!(a < 0.2)) return log_gamma(1 + a);
  double sum = 0;
  for (int k = 12; k >= 0; k--) sum = sum*a + zeta[k];
  return a*(0.42278433509846713939 + a*sum) - log1p(a);
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
