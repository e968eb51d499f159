/* Special functions, in double precision whatever the dtype. */
#include "elementwise.h"
#include "gamma.h"

#if PL_FLOATING
UNARY(lgamma, (real)log_gamma((double)x))

UNARY(digamma, (real)psi((double)x))

/* Hurwitz's zeta(s, x) by Euler and Maclaurin's formula: N terms, the integral, corrections with Bernoulli's numbers. */
PL_FN double hurwitz(double s, double x) {
  const double bernoulli[] = {1./12, -1./720, 1./30240, -1./1209600, 1./47900160, -691./1307674368000.,
                              1./74724249600., -3617./10670622842880000.}; /* B_2k/(2k)! */
  double sum = 0;
  for (; x < 12 + s; x += 1) sum += pow(x, -s);
  const double p = pow(x, -s);
  double term = s*p/x, all = sum + p*x/(s - 1) + p/2;
  for (int k = 0; k < 8; k++) {
    all += bernoulli[k]*term;
    term *= (s + 2*k + 1)*(s + 2*k + 2)/(x*x);
  }
  return all;
}
PL_FN double poly_gamma(double n, double x) { /* (-1)^(n+1) n! zeta(n + 1, x); of the first also left of 0, by reflection */
  const double pi = 3.14159265358979323846;
  if (n == 0) return psi(x);
  if (!(n > 0 && n <= 1000 && n == floor(n))) return 0.0/0.0;
  if (!(x > 0)) {
    const double s = sin(pi*(x - floor(x)));
    return n == 1 && x != floor(x) ? pi*pi/(s*s) - hurwitz(2, 1 - x) : 0.0/0.0;
  }
  double factorial = 1;
  for (double k = 2; k <= n; k += 1) factorial *= k;
  return (n/2 == floor(n/2) ? -1 : 1)*factorial*hurwitz(n + 1, x);
}
typedef struct { const real *x; real *y; real n; } polygamma_args;
PL_KERNEL(polygamma) { a.y[i] = (real)poly_gamma((double)a.n, (double)a.x[i]); }

/* The normal distribution's quantile: M. Wichura, Algorithm AS 241, Applied Statistics 37(3), 1988 (PPND16). */
PL_FN double inverse_erf(double y) {
  const double q = 0.5*y, root = 0.70710678118654752440;
  if (!(fabs(y) <= 1)) return 0.0/0.0;
  if (fabs(y) == 1) return y/0.0;
  if (fabs(q) <= 0.425) {
    const double r = 0.180625 - q*q;
    return root*q*(((((((r*2509.0809287301226727 + 33430.575583588128105)*r + 67265.770927008700853)*r + 45921.953931549871457)*r +
                      13731.693765509461125)*r + 1971.5909503065514427)*r + 133.14166789178437745)*r + 3.387132872796366608)/
           (((((((r*5226.495278852854561 + 28729.085735721942674)*r + 39307.89580009271061)*r + 21213.794301586595867)*r +
               5394.1960214247511077)*r + 687.1870074920579083)*r + 42.313330701600911252)*r + 1);
  }
  double r = sqrt(-log(0.5*(1 - fabs(y)))), z;
  if (r <= 5) {
    r -= 1.6;
    z = (((((((r*7.7454501427834140764e-4 + 0.0227238449892691845833)*r + 0.24178072517745061177)*r + 1.27045825245236838258)*r +
            3.64784832476320460504)*r + 5.7694972214606914055)*r + 4.6303378461565452959)*r + 1.42343711074968357734)/
        (((((((r*1.05075007164441684324e-9 + 5.475938084995344946e-4)*r + 0.0151986665636164571966)*r + 0.14810397642748007459)*r +
            0.68976733498510000455)*r + 1.6763848301838038494)*r + 2.05319162663775882187)*r + 1);
  } else {
    r -= 5;
    z = (((((((r*2.01033439929228813265e-7 + 2.71155556874348757815e-5)*r + 0.0012426609473880784386)*r + 0.026532189526576123093)*r +
            0.29656057182850489123)*r + 1.7848265399172913358)*r + 5.4637849111641143699)*r + 6.6579046435011037772)/
        (((((((r*2.04426310338993978564e-15 + 1.4215117583164458887e-7)*r + 1.8463183175100546818e-5)*r + 7.868691311456132591e-4)*r +
            0.0148753612908506148525)*r + 0.13692988092273580531)*r + 0.59983220655588793769)*r + 1);
  }
  return y < 0 ? -root*z : root*z;
}
UNARY(erfinv, (real)inverse_erf((double)x))
#endif
