/* How the logarithm y of a gamma variate of shape a moves with a at a fixed probability (M. Figurnov, S. Mohamed, A. Mnih,
 * Implicit reparameterization gradients, NeurIPS 2018): g = -F_a/F_y. With the density p(y) = exp(a y - e^y)/Gamma(a),
 * whose derivative in a is (y - psi(a)) p, that is
 *   g(y) = integral of (s - psi(a)) p(s)/p(y) over s > y, or minus that over s < y.
 * The side is taken on which s - psi(a) keeps its sign, so that nothing cancels. Where x = e^y is below 1, by the series
 * F = x p/a sum of x^k/((a + 1) ... (a + k)) instead. In double precision whatever the dtype. */
#include "elementwise.h"
#include "double.h"

#if PL_FLOATING

PL_FN double slope_by_series(double a, double y, double psi1) {
  const double x = exp(y);
  double term = 1, harmonic = 0, sum = 1, derivative = 0;
  for (int k = 1; k < 30; k++) {
    term *= x/(a + k);
    harmonic += 1/(a + k);
    sum += term;
    derivative -= term*harmonic;
  }
  return (sum*(psi1 - y) - derivative)/a;
}

/* side 1: s = y + t, side -1: s = y - t; log p(s)/p(y) = -side (x - a) t - x (e^(side t) - 1 - side t) */
PL_FN double log_ratio(double a, double x, double side, double t) {
  const double w = side*t;
  return -(x - a)*w - x*(fabs(w) < 1e-5 ? w*w*(0.5 + w*(1./6)) : expm1(w) - w);
}
PL_FN double slope_by_integral(double a, double y, double psi) {
  /* nodes and weights of Gauss's rule of 32 points on (-1, 1), the upper half */
  const double node[] = {
      0.048307665687738316235, 0.14447196158279649349, 0.23928736225213707454, 0.33186860228212764978,
      0.42135127613063534536, 0.50689990893222939002, 0.58771575724076232904, 0.66304426693021520098,
      0.73218211874028968039, 0.79448379596794240696, 0.84936761373256997013, 0.89632115576605212397,
      0.93490607593773968917, 0.96476225558750643077, 0.9856115115452683354, 0.99726386184948156354};
  const double weight[] = {
      0.096540088514727800567, 0.095638720079274859419, 0.093844399080804565639, 0.091173878695763884713,
      0.087652093004403811143, 0.083311924226946755222, 0.078193895787070306472, 0.072345794108848506225,
      0.065822222776361846838, 0.058684093478535547145, 0.050998059262376176196, 0.042835898022226680657,
      0.034273862913021433103, 0.025392065309262059456, 0.016274394730905670605, 0.0070186100094700966004};
  const double x = exp(y), side = y > psi ? 1 : -1, distance = fabs(y - psi), slope = side*(x - a) > 0 ? side*(x - a) : 0;
  double end = 2*40/(slope + sqrt(slope*slope + 2*40*x)), sum = 0;
  while (log_ratio(a, x, side, end) < -45) end *= 0.8; /* so that what is beyond is below rounding */
  while (log_ratio(a, x, side, end) > -38) end *= 1.1;
  for (int k = 0; k < 32; k++) {
    const double t = 0.5*end*(1 + (k < 16 ? node[k] : -node[k - 16]));
    sum += weight[k % 16]*exp(log_ratio(a, x, side, t))*(distance + t);
  }
  return 0.5*end*sum;
}
PL_FN double loggamma_slope_of(double a, double y, double psi1) {
  if (!(a > 0 && a < INFINITY && psi1 == psi1)) return NAN;
  return y < 0 ? slope_by_series(a, y, psi1) : y < 700 ? slope_by_integral(a, y, psi1 - 1/a) : NAN;
}

typedef ternary_args loggamma_slope_args;
PL_KERNEL(loggamma_slope) { a.y[i] = (real)loggamma_slope_of((double)a.x[i], (double)a.z[i], (double)a.w[i]); }
#endif
