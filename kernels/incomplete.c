/* The incomplete gamma functions P(a, x) and Q = 1 - P, and dP/da, in double precision whatever the dtype. Notation and
 * formulas: NIST Digital library of mathematical functions (DLMF), chapter 8. What multiplies them all is
 * x^a e^-x/Gamma(a + 1). Each of the three ways gives P or Q, whichever it has to all digits, and dP/da by differentiating
 * term by term; where each is used, the terms of the derivative have one sign:
 *   x < a or x <= 1.5: the series 8.7.1 for P;
 *   else: the continued fraction 8.9.2 for Q, of as many levels as its values there need;
 *   a >= 20 and x within 30 % of a: N. Temme's expansion, uniform in x (8.12). */
#include "elementwise.h"
#include "gamma.h"

#if PL_FLOATING
typedef struct { double p, q, slope; } incomplete; /* slope: -dP/da over x dP/dx */
enum { WANT_P, WANT_Q, WANT_SLOPE }; /* what is not wanted is not always computed */

/* x^a e^-x/Gamma(a + 1) */
PL_FN double gamma_factor(double a, double x) {
  if (a < 20) {
    const double half = exp(-x/2);
    return half == 0 ? 0 : half*(pow(x, a)*reciprocal_gamma_1p(a))*half;
  }
  const double u = (x - a)/a, half = fabs(u) < 0.35 ? u_less_log1p(u) : u - log(x/a);
  return exp(-a*half - stirling(a))/(2.50662827463100050242*sqrt(a));
}

/* Q = erfc(eta sqrt(a/2))/2 + e^(-a eta^2/2)/sqrt(2 pi a) sum over k of c_k(eta)/a^k, with u = x/a - 1 and
 * eta^2/2 = u - log(1 + u): DLMF 8.12.4 and 8.12.7. In dQ/da both terms have the exponential as a factor. */
PL_FN incomplete gamma_temme(double a, double x, int want) {
  static const double c[17][12] = { /* Taylor coefficients of c_k, from those of eta^16 on */
      {-5.8307721325504251e-11},
      {-2.551419399494625e-11, 4.1627929918425826e-10},
      {9.1476995822367902e-10, -1.0091543710600413e-9},
      {-4.3820360184533532e-9, -1.7543241719747648e-11, 6.228974084922022e-9},
      {1.0261809784240308e-8, 1.1951628599778147e-8, -1.4092529910867521e-8, -1.9111168485973654e-8},
      {6.7078535434014986e-9, -5.752545603517705e-8, -2.0477098421990866e-10, 8.0994649053880824e-8},
      {-1.7665952736826079e-7, 1.378633446915721e-7, 1.4280614206064242e-7, -1.6958404091930277e-7, -2.2929348340008049e-7,
       3.4652846491085265e-7},
      {8.296711340953086e-7, 4.6471278028074343e-9, -6.298992138380055e-7, -2.7861080291528142e-11, 8.9075075322053097e-7,
       -3.252473551298454e-10, -2.0291327396058604e-6},
      {-1.85406221071516e-6, -1.6120900894563446e-6, 1.3721957309062933e-6, 1.4230900732435884e-6, -1.6954149536558306e-6,
       -2.2914811765080952e-6, 3.4651553688036091e-6},
      {-2.1854485106799922e-6, 7.6491609160811101e-6, 3.4235787340961381e-8, -5.6749528269915966e-6, 2.5074972262375328e-10,
       8.0184702563342015e-6, -3.0796134506033048e-9, -1.8263488805711333e-5},
      {3.9192631785224378e-5, -1.8098550334489978e-5, -1.2760635188618728e-5, 1.1082654115347302e-5, 1.1375726970678419e-5,
       -1.3594048189768693e-5, -1.8329116582843376e-5, 2.7744451511563644e-5, 4.6299532636913043e-5},
      {-0.00017875514403292181, -4.0187757201646091e-7, 5.2923448829120125e-5, -2.3965051138672967e-7, -3.9683650471794347e-5,
       1.419062920643967e-7, 5.6116827531062497e-5, -1.2741009095484485e-7, -0.00012783517679769219},
      {0.0003527336860670194, 0.00020576131687242798, -0.00010736653226365161, -7.5618016718839764e-5, 6.6414982154651222e-5,
       6.7977804779372078e-5, -8.1539693675619688e-5, -0.00010976582244684731, 0.00016644846642067548, 0.00027750107634328704},
      {0.0011574074074074074, -0.00099022633744855967, 2.0093878600823045e-6, 0.00026772063206283885, -1.4638452578843418e-6,
       -0.00019932570516188848, 7.9023532326603279e-7, 0.0002812695154763237, -6.969091458420552e-7, -0.00064014752602627585},
      {-0.014814814814814815, 0.0026455026455026455, 0.00077160493827160494, -0.00046918949439525571, -0.00029907248030319018,
       0.00027727532449593921, 0.00027087820967180448, -0.00033493161081142236, -0.00043829709854172101,
       0.00067823088376673284, 0.0011089369134596637},
      {0.083333333333333333, -0.0034722222222222222, -0.0026813271604938272, 0.00022947209362139918, 0.00078403922172006663,
       -6.9728137583658578e-5, -0.00059216643735369388, 5.1717909082605922e-5, 0.00083949872067208728, -7.2048954160200106e-5,
       -0.0019144384985654775},
      {-0.33333333333333333, -0.0018518518518518519, 0.0041335978835978836, 0.00064943415637860082, -0.0008618882909167117,
       -0.00033679855336635815, 0.00053130793646399222, 0.00034436760689237767, -0.00065262391859530942,
       -0.00059676129019274625, 0.0013324454494800656, 0.001579727660730835},
  };
  const double r = 1/a, u = (x - a)/a, half = u_less_log1p(u), eta = u < 0 ? -sqrt(2*half) : sqrt(2*half);
  double s[12] = {0}, sum = 0; /* c_k(eta), sum of c_k/a^k */
  for (int n = 0; n < 17; n++)
    for (int k = 0; k < 12; k++) s[k] = s[k]*eta + c[n][k];
  for (int k = 11; k >= 0; k--) sum = sum*r + s[k];
  const double e = exp(-a*half)/(2.50662827463100050242*sqrt(a)), z = eta*sqrt(a/2), rest = e*sum;
  if (want != WANT_SLOPE) return (incomplete){0.5*erfc(-z) - rest, 0.5*erfc(z) + rest, 0};

  double t[12] = {0}, in_eta = 0, in_a = 0; /* c_k'(eta), sums of c_k'/a^k and -k c_k/a^k */
  for (int n = 0; n < 16; n++)
    for (int k = 0; k < 12; k++) t[k] = t[k]*eta + (16 - n)*c[n][k];
  for (int k = 11; k >= 0; k--) {
    in_eta = in_eta*r + t[k];
    in_a = in_a*r - k*s[k];
  }
  const double step = u != 0 ? u/eta : 1; /* -a d eta/da */
  return (incomplete){0, 0, exp(stirling(a))/a*(step - eta/2 + (u - half - 0.5/a)*sum + (in_a - step*in_eta)/a)};
}

/* P = x^a e^-x/Gamma(a + 1) sum over n of x^n/((a + 1) ... (a + n)) */
PL_FN incomplete gamma_series(double a, double x, double log_x, int want) {
  double term = 1, rate = 0, sum = 1, in_a = 0; /* rate: d log(term)/da */
  for (double n = 1; term > 1e-18*sum; n += 1) {
    const double r = 1/(a + n);
    term *= x*r;
    rate -= r;
    sum += term;
    in_a += term*rate;
  }
  if (want == WANT_SLOPE) return (incomplete){0, 0, ((psi(a + 1) - log_x)*sum - in_a)/a};
  const double p = gamma_factor(a, x)*sum;
  return (incomplete){p, 1 - p, 0};
}

/* Q = x^a e^-x/Gamma(a) 1/(x + 1 - a - 1(1 - a)/(x + 3 - a - 2(2 - a)/(x + 5 - a - ...))), from the last level up */
PL_FN incomplete gamma_fraction(double a, double x, double log_x, int want) {
  double r = 0, dr = 0; /* what a level adds to the one above, and its derivative in a */
  for (double i = floor(24 + 72/x); i > 0; i -= 1) {
    const double d = 1/(x + 1 - a + 2*i + r);
    r = i*(a - i)*d;
    dr = (i - r*(dr - 1))*d;
  }
  const double d = 1/(x + 1 - a + r);
  if (want == WANT_SLOPE) return (incomplete){0, 0, d*(log_x - psi(a) + (1 - dr)*d)};
  const double q = a*gamma_factor(a, x)*d;
  return (incomplete){1 - q, q, 0};
}

/* Q where P is near 1 and x <= 1.5: 1 - x^a/Gamma(1 + a) without cancellation, less the rest of the series 8.7.1 */
PL_FN double gamma_small_q(double a, double x) {
  double power = 1, sum = 0;
  for (double n = 1; n < 24; n += 1) {
    power *= -x/n;
    sum += power*a/(a + n);
  }
  const double l = a*log(x) - log_gamma_1p(a);
  return -expm1(l) - exp(l)*sum;
}

PL_FN incomplete gamma_inside(double a, double x, double log_x, int want) { /* of finite a and x > 0 */
  if (a >= 20 && fabs(x - a) < 0.3*a) return gamma_temme(a, x, want);
  return x > a && x > 1.5 ? gamma_fraction(a, x, log_x, want) : gamma_series(a, x, log_x, want);
}
PL_FN incomplete incomplete_gamma(double a, double x, int want) {
  const double nan = 0.0/0.0;
  if (!(a >= 0 && x >= 0) || (a == 0 && x == 0) || (a == INFINITY && x == INFINITY)) return (incomplete){nan, nan, nan};
  if (a == 0 || x == INFINITY) return (incomplete){1, 0, a == 0 ? nan : 0};
  if (x == 0 || a == INFINITY) return (incomplete){0, 1, 0};
  incomplete g = gamma_inside(a, x, want == WANT_SLOPE ? log(x) : 0, want);
  if (g.p > 1) g.p = 1;
  if (want == WANT_Q && g.p > 0.75 && x <= 1.5) g.q = gamma_small_q(a, x);
  return g;
}
/* The logarithm y of a gamma variate of shape a moves with a at a fixed probability by -(dP/da)/(dP/dy) (M. Figurnov,
 * S. Mohamed, A. Mnih, Implicit reparameterization gradients, NeurIPS 2018). */
PL_FN double log_variate_slope(double a, double y) {
  return a > 0 && a < INFINITY && y < 700 ? gamma_inside(a, exp(y), y, WANT_SLOPE).slope : 0.0/0.0;
}
PL_FN double slope_in_a(double a, double x) {
  const double slope = incomplete_gamma(a, x, WANT_SLOPE).slope;
  return slope == 0 || slope != slope ? slope : -slope*(a*gamma_factor(a, x));
}
BINARY(gammainc, (real)incomplete_gamma((double)x, (double)z, WANT_P).p)
BINARY(gammaincc, (real)incomplete_gamma((double)x, (double)z, WANT_Q).q)
/* x^(a - 1) e^-x/Gamma(a) */
PL_FN double density(double a, double x) {
  if (!(x >= 0) || a != a || (a < 0 && x > 0)) return 0.0/0.0;
  if (a <= 0 && a == floor(a)) return 0; /* 1/Gamma */
  if (x > 0) return x - x == 0 && a - a == 0 ? gamma_factor(a, x)/x*a : 0;
  return a < 1 ? 1/tgamma(a)*(1.0/0.0) : a == 1;
}
BINARY(gamma_density, (real)density((double)x, (double)z))
BINARY(gammainc_da, (real)slope_in_a((double)x, (double)z))
BINARY(loggamma_slope, (real)log_variate_slope((double)x, (double)z))
#endif
