/* The normal distribution between two bounds: quantiles and the mass, in double precision whatever the dtype, without
 * loss in the tails. With Mills' ratio M(x) = Phi(-x)/phi(x) (M. Abramowitz, I. Stegun, Handbook of mathematical
 * functions, 26.2) probabilities below -h are compared by what they differ by in logarithm,
 * fall(h, t) = log Phi(-h) - log Phi(-h - t) = t^2/2 + h t + log(M(h)/M(h + t)), h >= 0. */
#include "elementwise.h"
#include "double.h"

#if PL_FLOATING

PL_FN double mills(double x) { /* x >= 0; from 5 on by as much of its continued fraction, 26.2.14, as is needed there */
  if (x < 5) return 1.2533141373155002512*exp(0.5*x*x)*erfc(0.70710678118654752440*x);
  double f = x;
  for (int k = 8 + (int)(400/(x*x)); k > 0; k--) f = x + k/f;
  return 1/f;
}
/* fall(h, t), with M(h) and M(h + t) */
PL_FN double fall_between(double h, double t, double m, double n) {
  if (!(t*(h + 1) < 0.5)) return t < INFINITY ? t*(0.5*t + h) + log(m/n) : t;
  /* 1 - e^-fall is the integral of e^-(h s + s^2/2) to t, divided by M(h): Gauss's rule of six points */
  const double node[] = {0.23861918608319690863, 0.66120938646626451366, 0.93246951420315202781};
  const double weight[] = {0.46791393457269104739, 0.36076157304813860757, 0.17132449237917034504};
  double sum = 0;
  for (int k = 0; k < 6; k++) {
    const double s = 0.5*t*(1 + (k < 3 ? node[k] : -node[k - 3]));
    sum += weight[k % 3]*exp(-s*(h + 0.5*s));
  }
  return -log1p(-0.5*t*sum/m);
}
PL_FN double fall(double h, double t) { return fall_between(h, t, mills(h), mills(h + t)); }
/* t with fall(h, t) = e by Halley's method: the slope is r = 1/M(h + t), its slope r (r - h - t). */
PL_FN double fall_inverse(double h, double e) {
  if (!(e < INFINITY)) return e;
  const double m = mills(h), slope = 1/m;
  double t = 2*e/(slope + sqrt(slope*slope + 2*e));
  for (int k = 0; k < 20; k++) {
    const double n = mills(h + t), newton = (fall_between(h, t, m, n) - e)*n, step = newton/(1 - 0.5*newton*(1/n - h - t));
    t -= step;
    if (!(fabs(step) > 1e-6*t)) break; /* cubic: the next would be below rounding */
  }
  return t;
}
PL_FN double below(double x) { return 0.5*erfc(-0.70710678118654752440*x); }
/* of lo <= 0 <= hi */
PL_FN double between(double lo, double hi) { return 0.5*(erf(0.70710678118654752440*hi) - erf(0.70710678118654752440*lo)); }

PL_FN double truncated_quantile(double u, double lo, double hi) {
  if (!(lo <= hi && u >= 0 && u <= 1) || lo == INFINITY || hi == -INFINITY) return NAN;
  double z;
  if (hi < 0) z = hi - fall_inverse(-hi, -log1p((1 - u)*expm1(-fall(-hi, hi - lo))));
  else if (lo > 0) z = lo + fall_inverse(lo, -log1p(u*expm1(-fall(lo, hi - lo))));
  else { /* from 0 outwards, and in the tails from their ends */
    const double left = between(lo, 0), mass = left + between(0, hi), from = u*mass - left;
    if (from < 0) z = -fall_inverse(0, from > -0.25 ? -log1p(2*from) : -log(2*(below(lo) + u*mass)));
    else z = fall_inverse(0, from < 0.25 ? -log1p(-2*from) : -log(2*(below(-hi) + (1 - u)*mass)));
  }
  return z < lo ? lo : z > hi ? hi : z;
}
PL_FN double log_mass(double lo, double hi) {
  if (!(lo <= hi)) return lo > hi ? -INFINITY : NAN;
  if (lo <= 0 && hi >= 0) { /* of the middle and two tails */
    const double mass = between(lo, hi);
    return mass < 0.5 ? log(mass) : log1p(-(below(lo) + below(-hi)));
  }
  const double h = hi < 0 ? -hi : lo;
  if (!(h < INFINITY)) return -INFINITY;
  return log(-expm1(-fall(h, hi - lo))) + log(mills(h)) - 0.5*h*h - 0.91893853320467274178;
}

typedef ternary_args truncated_normal_quantile_args;
PL_KERNEL(truncated_normal_quantile) { a.y[i] = (real)truncated_quantile((double)a.x[i], (double)a.z[i], (double)a.w[i]); }
BINARY(log_normal_mass, (real)log_mass((double)x, (double)z))
#endif
