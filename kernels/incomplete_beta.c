/* The incomplete beta function I_x(a, b) and its derivatives, and the beta function's logarithm, in double precision
 * whatever the dtype. References: NIST Digital library of mathematical functions (DLMF), chapter 8.17; A. DiDonato,
 * A. Morris, Algorithm 708, ACM Transactions on Mathematical Software 18(3), 1992. Everywhere y = 1 - x is carried beside x,
 * so that neither end loses digits, and I_x(a, b) = 1 - I_y(b, a) is used to stay on the side of the smaller of the two:
 *   b < 1 and y so small that I is near 1 already: the power series in y;
 *   a and b >= 500: the integral by Gauss's rule, whose cost does not grow with a and b;
 *   else: DiDonato and Morris' continued fraction (9), of as many levels as its values there need.
 * Derivatives in a and b are those of the same expressions, term by term; the side is such that their terms have one sign,
 * or nearly. */
#include "elementwise.h"
#include "gamma.h"

#if PL_FLOATING
/* The value of c[0] + c[1] v + ... + c[n - 1] v^(n - 1) at w, and what it differs by at v, divided by v - w. */
typedef struct { double value, slope; } difference;
PL_FN difference polynomial_difference(const double *c, int n, double v, double w) {
  difference d = {0, 0};
  for (int k = n - 1; k >= 0; k--) {
    d.slope = d.slope*v + d.value;
    d.value = d.value*w + c[k];
  }
  return d;
}

/* psi(a + b) - psi(a) - log((a + b)/a), a >= 10, relative to b: by the series of psi. */
PL_FN double psi_rest(double a, double b) {
  const double c[] = {0, 1./12, -1./120, 1./252, -1./240, 1./132, -691./32760, 1./12};
  const double r = 1/a, q = 1/(a + b);
  return b*q*r*(0.5 + (r + q)*polynomial_difference(c, 8, r*r, q*q).slope);
}
/* log x + psi(a + b) - psi(a + 1): by how much log x exceeds its mean, less 1/a */
PL_FN double log_excess(double a, double b, double x, double y) {
  double sum = -1/(a + b), m = a + 1;
  for (; m < 10; m += 1) sum += b/(m*(m + b));
  const double u = (b*x - m*y)/m; /* x (m + b)/m - 1 */
  return sum + (u < -0.5 ? log(x*(1 + b/m)) : log1p(u)) + psi_rest(m, b);
}
/* psi(a + b) - psi(a), relative to b */
PL_FN double psi_step(double a, double b) {
  double sum = 0;
  for (; a < 10; a += 1) sum += b/(a*(a + b));
  return sum + log1p(b/a) + psi_rest(a, b);
}
PL_FN double phi(double u) { return fabs(u) < 0.35 ? u_less_log1p(u) : u - log1p(u); }
/* log(Gamma(a + b)/Gamma(b)) - a log b for b >= 10, relative to a: by Stirling's series */
PL_FN double stirling_step(double a, double b) {
  const double c[] = {1./12, -1./360, 1./1260, -1./1680, 1./1188, -691./360360, 1./156};
  const double r = 1/b, q = 1/(a + b);
  const difference d = polynomial_difference(c, 7, r*r, q*q);
  return (a - 0.5)*log1p(a/b) - b*phi(a/b) - (a/b)*q*(d.value + r*(q + r)*d.slope);
}
/* log(Gamma(a + b)/Gamma(b)), relative to a, 0 <= a < 1 */
PL_FN double log_gamma_step(double a, double b) {
  double more = 0; /* the product of (b + k + a)/(b + k), less 1 */
  for (; b < 10; b += 1) more += (1 + more)*(a/b);
  return a*log(b) + stirling_step(a, b) - log1p(more);
}

/* log B(a, b) */
PL_FN double log_beta(double a, double b) {
  if (!(a > 0 && b > 0 && a < INFINITY && b < INFINITY)) return log_gamma(a) + log_gamma(b) - log_gamma(a + b);
  if (a > b) {
    const double swap = a;
    a = b;
    b = swap;
  }
  if (b < 10) return -log(a*(b/(a + b))*reciprocal_gamma_1p(a)*reciprocal_gamma_1p(b)/reciprocal_gamma_1p(a + b));
  if (a < 10) return log_gamma(a) - a*log(b) - stirling_step(a, b);
  const double corrections = stirling(a) + stirling(b) - stirling(a + b);
  return corrections - a*log1p(b/a) - b*log1p(a/b) + 0.5*log(6.283185307179586477*(1/a + 1/b));
}
BINARY(betaln, (real)log_beta((double)x, (double)z))

/* x^a y^b/B(a, b); for large a or b nothing large is exponentiated */
PL_FN double beta_front(double a, double b, double x, double y) {
  if (a > b) {
    const double c = a, z = x;
    a = b, b = c, x = y, y = z;
  }
  if (a >= 10) { /* DiDonato and Morris' BRCOMP */
    const double l = a*y - b*x, u = -l/a, v = l/b;
    const double first = u < -0.35 ? u - log(x*(1 + b/a)) : phi(u), second = v < -0.35 ? v - log(y*(1 + a/b)) : phi(v);
    const double corrections = stirling(a) + stirling(b) - stirling(a + b);
    return 0.39894228040143267794*sqrt(a*(b/(a + b)))*exp(-(a*first + b*second + corrections));
  }
  if (b >= 10) {
    const double e = exp(b*(x < 0.5 ? log1p(-x) : log(y)) + stirling_step(a, b));
    return e == 0 ? 0 : pow(b*x, a)*e*a*reciprocal_gamma_1p(a);
  }
  return pow(x, a)*pow(y, b)*(a*(b/(a + b)))*reciprocal_gamma_1p(a)*reciprocal_gamma_1p(b)/reciprocal_gamma_1p(a + b);
}

typedef struct { double p, q, da, db; } incomplete; /* derivatives of p, where they are wanted */

/* p = x^a y^b/B(a, b) 1/(beta_1 + alpha_2/(beta_2 + ...)), DiDonato and Morris (9), from the last level up */
PL_FN incomplete beta_fraction(double a, double b, double x, double y, int want) {
  const double l = a*y - b*x, least = a < b ? a : b;
  const double near = 2.8*sqrt(least)/(1 + 0.6*l/sqrt(a*(b/(a + b)))), far = a < 8/sqrt(y) ? 9/sqrt(y) : 72/(a*y);
  double level, t = 0, t_a = 0, t_b = 0, in_a = 0, in_b = 0; /* t: what a level adds to the one above; derivatives */
  for (double n = floor(14 + near + far);; n -= 1) {
    const double d = n > 0 ? 1/(a + 2*n - 1) : 0, c = 1/(a + 2*n + 1), m = l + 1 + n*(1 + y), e = n*x*d, f = (a + n)*c;
    level = n + (b - n)*e + f*m + t;
    if (want) {
      in_a = (n + 1)*c*c*m + f*y - (b - n)*e*d + t_a;
      in_b = e - f*x + t_b;
    }
    if (n == 0) break;
    const double k = a + (n - 1), h = a + b + (n - 1), g = k*d*(h*d)*n*x*x, alpha = g*(b - n), inverse = 1/level;
    t = alpha*inverse;
    if (want) {
      t_a = (alpha*(1/k + 1/h - 2*d) - t*in_a)*inverse;
      t_b = (alpha/h + g - t*in_b)*inverse;
    }
  }
  const double p = beta_front(a, b, x, y)/level;
  if (!want) return (incomplete){p, 1 - p, 0, 0};
  return (incomplete){p, 1 - p, p*(log_excess(a, b, x, y) + 1/a - in_a/level), p*(log_excess(b, a, y, x) + 1/b - in_b/level)};
}

/* p = x^a/(a B(a, b)) (1 + a sum over n of (1 - b) ... (n - b)/(n! (a + n)) x^n), DLMF 8.17.7, for a < 1 */
PL_FN incomplete beta_series(double a, double b, double x, int want) {
  double power = 1, power_b = 0, sum = 0, in_a = 0, in_b = 0; /* sum of power/(a + n) and its derivatives */
  for (double n = 1; n < 60 && fabs(power) + fabs(power_b) > 1e-18; n += 1) {
    const double r = 1/(a + n);
    if (want) power_b = (power_b*(n - b) - power)*(x/n);
    power *= (n - b)*(x/n);
    sum += power*r;
    in_a -= power*r*r;
    in_b += power_b*r;
  }
  const double log_front = a*log(x) + log_gamma_step(a, b) - log_gamma_1p(a), front = exp(log_front), rest = front*(a*sum);
  const incomplete r = {front + rest, -expm1(log_front) - rest, 0, 0};
  if (!want) return r;
  const double log_a = log(x) + psi(a + b) - psi(a + 1), log_b = psi_step(b, a);
  return (incomplete){r.p, r.q, r.p*log_a + front*(sum + a*in_a), r.p*log_b + front*(a*in_b)};
}

/* p as the integral over the logit of s, s = x at t = 0: the density's logarithm is less there by
 * -l t - (a + b) (log(y + x e^-t) + x t), and the bracket is written such that it does not cancel. */
PL_FN double fall(double a, double b, double x, double y, double l, double t) {
  const double v = x < 0.5 ? -t : t, z = x < 0.5 ? x : y, e = expm1(v);
  const double rest = fabs(v) < 0.5 ? v*v*(1./2 + v*(1./6 + v*(1./24 + v*(1./120 + v*(1./720 + v*(1./5040 + v*(1./40320 + v*(1./362880 +
    v*(1./3628800 + v*(1./39916800 + v*(1./479001600 + v*(1./6227020800))))))))))))
    : e - v;
  return -l*t - (a + b)*(z*rest - phi(z*e));
}
PL_FN incomplete beta_integral(double a, double b, double x, double y, int want) {
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
  const double l = a*y - b*x, curvature = (a + b)*x*y;
  double end = 2*40/(l + hypot(l, sqrt(2*40*curvature))), sum = 0, in_a = 0, in_b = 0;
  while (fall(a, b, x, y, l, end) > -38) end *= 1.1;
  while (fall(a, b, x, y, l, end) < -45) end *= 0.9;
  const double log_a = log_excess(a, b, x, y) + 1/a, log_b = log_excess(b, a, y, x) + 1/b;
  for (int k = 0; k < 32; k++) {
    const double t = 0.5*end*(1 + (k < 16 ? node[k] : -node[k - 16])), w = weight[k%16]*exp(fall(a, b, x, y, l, t));
    sum += w;
    if (want) { /* s over x, and 1 - s over y */
      in_a += w*(log_a - log1p(y*expm1(t)));
      in_b += w*(log_b - log1p(x*expm1(-t)));
    }
  }
  const double front = beta_front(a, b, x, y)*(0.5*end);
  return (incomplete){front*sum, 1 - front*sum, front*in_a, front*in_b};
}

/* from I_y(b, a) */
PL_FN incomplete other_side(incomplete g) { return (incomplete){g.q, g.p, -g.db, -g.da}; }
PL_FN incomplete incomplete_beta(double a, double b, double x, double y, int want) {
  const double nan = 0.0/0.0;
  if (!(a >= 0 && b >= 0 && x >= 0 && y >= 0) || (a == 0 && b == 0) || (a == INFINITY && b == INFINITY))
    return (incomplete){nan, nan, nan, nan};
  if (x == 0 || y == 0) return (incomplete){y == 0 ? 1.0 : 0.0, x == 0 ? 1.0 : 0.0, 0, 0};
  if (a == 0 || b == INFINITY) return (incomplete){1, 0, a == 0 ? nan : 0, 0};
  if (b == 0 || a == INFINITY) return (incomplete){0, 1, 0, b == 0 ? nan : 0};
  if (b < 1 && y < 0.3 && a*y < 1.5) return other_side(beta_series(b, a, y, want));
  if (a < 1 && x < 0.3 && b*x < 1.5) return beta_series(a, b, x, want);
  if (!(a + b < 1e300)) { /* a step */
    const double p = a*y < b*x ? 1 : a*y > b*x ? 0 : 0.5;
    return (incomplete){p, 1 - p, 0, 0};
  }
  const int lower = a*y >= b*x, large = a >= 500 && b >= 500;
  if (lower) return large ? beta_integral(a, b, x, y, want) : beta_fraction(a, b, x, y, want);
  return other_side(large ? beta_integral(b, a, y, x, want) : beta_fraction(b, a, y, x, want));
}
#define BETA(name, expression)                                                               \
  typedef ternary_args name##_args;                                                          \
  PL_KERNEL(name) {                                                                          \
    const double p = (double)a.x[i], q = (double)a.z[i], x = (double)a.w[i];                 \
    a.y[i] = (real)(expression);                                                             \
  }
BETA(betainc, incomplete_beta(p, q, x, 1 - x, 0).p)
BETA(betainc_da, incomplete_beta(p, q, x, 1 - x, 1).da)
BETA(betainc_db, incomplete_beta(p, q, x, 1 - x, 1).db)

/* x^(a - 1) y^(b - 1)/B(a, b); at the ends also of the a and b >= -1 that its derivative asks for there */
PL_FN double end_density(double a, double b) { return a > 1 || a == 0 ? 0 : a == 1 ? b : a > 0 ? INFINITY : -INFINITY; }
PL_FN double beta_density_of(double a, double b, double x) {
  if (!(x >= 0 && x <= 1) || a != a || b != b) return 0.0/0.0;
  if (x == 0) return end_density(a, b);
  if (x == 1) return end_density(b, a);
  if (!(a >= 0 && b >= 0)) return 0.0/0.0;
  return a > 0 && b > 0 && a + b < INFINITY ? beta_front(a, b, x, 1 - x)/x/(1 - x) : 0;
}
BETA(beta_density, beta_density_of(p, q, x))

/* Student's distribution function, with x = n/(n + t^2): I_x(n/2, 1/2)/2 for t < 0 */
PL_FN double student(double n, double t, int want) {
  if (!(n > 0) || t != t) return 0.0/0.0;
  if (n == INFINITY) return want ? 0 : 0.5*erfc(-0.70710678118654752440*t);
  const double s = t*t/n, x = 1/(1 + s), y = s < INFINITY ? s*x : 1;
  const incomplete g = incomplete_beta(0.5*n, 0.5, x, y, want);
  if (!want) return t < 0 ? 0.5*g.p : 1 - 0.5*g.p;
  const double slope = x > 0 && y > 0 ? 0.25*g.da + 0.5*beta_front(0.5*n, 0.5, x, y)/n : 0;
  return t < 0 ? slope : -slope;
}
BINARY(stdtr, (real)student((double)x, (double)z, 0))
BINARY(stdtr_ddf, (real)student((double)x, (double)z, 1))
#endif
