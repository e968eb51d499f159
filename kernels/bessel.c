/* Bessel functions of orders 0 and 1, in double precision whatever the dtype. Both ways are computed for every x and one is
 * chosen, so that whole vectors go through: near 0 a polynomial in x^2, or the series; far from it what multiplies the
 * asymptotic form, as a function of 1/x. Formulas: NIST Digital library of mathematical functions (DLMF), chapter 10. The
 * approximations (bessel.h) interpolate at Chebyshev's nodes and are within 1e-17 of the largest value. */
#include "elementwise.h"
#include "double.h"

#if PL_FLOATING
#include "bessel.h"

#define CALL(name) UNARY(name, (real)bessel_##name((double)x))

/* ---- I: DLMF 10.25.2, 10.40.1 ---- */

PL_FN double bessel_i0e(double x) {
  const double z = fabs(x), near = exp(-z)*i0_near(x*x/4), far = i0_far(16/z - 1)/sqrt(z);
  return z <= 8 ? near : far;
}
PL_FN double bessel_i1e(double x) {
  const double z = fabs(x), near = exp(-z)*(x/2)*i1_near(x*x/4), far = i1_far(16/z - 1)/sqrt(z);
  return z <= 8 ? near : x < 0 ? -far : far;
}
PL_FN double bessel_i0(double x) { /* e^x in two halves: it overflows before I does */
  const double z = fabs(x) > 1500 ? 1500 : fabs(x), half = exp(z/2);
  const double near = i0_near(x*x/4), far = half*(i0_far(16/z - 1)/sqrt(z))*half;
  return z <= 8 ? near : far;
}
PL_FN double bessel_i1(double x) {
  const double z = fabs(x) > 1500 ? 1500 : fabs(x), half = exp(z/2);
  const double near = x/2*i1_near(x*x/4), far = half*(i1_far(16/z - 1)/sqrt(z))*half;
  return z <= 8 ? near : x < 0 ? -far : far;
}
CALL(i0e) CALL(i1e) CALL(i0) CALL(i1)

/* ---- K: DLMF 10.31.1, 10.31.2, 10.40.2 ---- */

PL_FN double k0_up_to_1(double x) {
  const double t = x*x/4;
  return k0_near(t) - (log(x/2) + 0.57721566490153286061)*i0_near(t);
}
PL_FN double k1_up_to_1(double x) {
  const double t = x*x/4;
  return x == 0 ? 1/x : 1/x + x*(log(x/2)*0.5*i1_near(t) + k1_near(t));
}
PL_FN double k0_beyond(double x) { return k0_far_p(1/x)/(k0_far_q(1/x)*sqrt(x)); }
PL_FN double k1_beyond(double x) { return k1_far_p(1/x)/(k1_far_q(1/x)*sqrt(x)); }
PL_FN double bessel_k0(double x) {
  const double near = k0_up_to_1(x), far = exp(-x)*k0_beyond(x);
  return x > 1 ? far : near;
}
PL_FN double bessel_k1(double x) {
  const double near = k1_up_to_1(x), far = exp(-x)*k1_beyond(x);
  return x > 1 ? far : near;
}
PL_FN double bessel_k0e(double x) {
  const double near = exp(x)*k0_up_to_1(x), far = k0_beyond(x);
  return x > 1 ? far : near;
}
PL_FN double bessel_k1e(double x) {
  const double near = exp(x)*k1_up_to_1(x), far = k1_beyond(x);
  return x > 1 ? far : near;
}
CALL(k0) CALL(k1) CALL(k0e) CALL(k1e)

/* ---- J and Y: DLMF 10.17.3 and 10.17.4, with cos(x - pi/4) = (cos x + sin x)/sqrt(2) ..., so that the phase of a large
 * x has no rounding of its own. Of cos(x) and sin(x) gcc would make one call of sincos, which has no vector version: hence
 * sin |x|. ---- */

PL_FN double far_sum(double x, double p, double q, double first, double second) { /* (p first + q/x second)/sqrt(pi x) */
  const double amplitude = 0.56418958354775628695/sqrt(x);
  return amplitude == 0 ? 0 : amplitude*(p*first + q/x*second);
}
PL_FN double bessel_j0(double x) {
  const double z = fabs(x), c = cos(x), s = sin(z), w = 128/(x*x) - 1;
  const double near = z < 1e-8 ? 1 : j0_near(x*x/32 - 1), far = far_sum(z, p0_far(w), q0_far(w), c + s, c - s);
  return z <= 8 ? near : far;
}
PL_FN double bessel_j1(double x) {
  const double z = fabs(x), c = cos(x), s = sin(z), w = 128/(x*x) - 1;
  const double near = x*j1_near(x*x/32 - 1), far = far_sum(z, p1_far(w), q1_far(w), s - c, s + c);
  return z <= 8 ? near : x < 0 ? -far : far;
}
PL_FN double bessel_y0(double x) {
  const double c = cos(x), s = sin(fabs(x)), w = 128/(x*x) - 1, v = x*x/32 - 1;
  const double near = 0.63661977236758134308*log(x)*j0_near(v) + y0_near(v);
  const double far = far_sum(x, p0_far(w), q0_far(w), s - c, c + s);
  return x > 8 ? far : near;
}
PL_FN double bessel_y1(double x) {
  const double c = cos(x), s = sin(fabs(x)), w = 128/(x*x) - 1, v = x*x/32 - 1;
  const double near = x == 0 ? -1/x : x*(0.63661977236758134308*log(x)*j1_near(v) + y1_near(v)) - 0.63661977236758134308/x;
  const double far = far_sum(x, p1_far(w), q1_far(w), -s - c, s - c);
  return x > 8 ? far : near;
}
CALL(j0) CALL(j1) CALL(y0) CALL(y1)
#endif
