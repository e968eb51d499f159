#include "line_search.h"

#include <math.h>

enum { MOST_EVALUATIONS = 60 };

void pl_line_search_start(pl_line_search *s, double f0, double g0, double step, double most) {
  *s = (pl_line_search){.step = step < most ? step : most,
                        .f_best = f0,
                        .c1 = 1e-4,
                        .c2 = 0.9,
                        .most = most,
                        .f0 = f0,
                        .g0 = g0,
                        .fx = f0,
                        .gx = g0,
                        .fy = f0,
                        .gy = g0,
                        .first_stage = true};
  s->width = most;
  s->width1 = 2 * most;
  s->high = s->step * 5;
}

static double max3(double a, double b, double c) { return fmax(fabs(a), fmax(fabs(b), fabs(c))); }

/* The next trial from the interval and the trial (t, ft, gt); updates the interval. Section 4 of the paper. */
static double trial(pl_line_search *s, double *fx, double *gx, double *fy, double *gy, double t, double ft, double gt) {
  double sign = gt * (*gx / fabs(*gx)), theta, q, gamma, p, r, cubic, quadratic, next;
  if (ft > *fx) { /* case 1: a higher value; the minimum is bracketed */
    theta = 3 * (*fx - ft) / (t - s->x) + *gx + gt;
    q = max3(theta, *gx, gt);
    gamma = q * sqrt((theta / q) * (theta / q) - (*gx / q) * (gt / q));
    if (t < s->x) gamma = -gamma;
    p = (gamma - *gx) + theta;
    r = p / (((gamma - *gx) + gamma) + gt);
    cubic = s->x + r * (t - s->x);
    quadratic = s->x + *gx / ((*fx - ft) / (t - s->x) + *gx) / 2 * (t - s->x);
    next = fabs(cubic - s->x) < fabs(quadratic - s->x) ? cubic : cubic + (quadratic - cubic) / 2;
    s->bracketed = true;
  } else if (sign < 0) { /* case 2: derivatives of opposite sign */
    theta = 3 * (*fx - ft) / (t - s->x) + *gx + gt;
    q = max3(theta, *gx, gt);
    gamma = q * sqrt((theta / q) * (theta / q) - (*gx / q) * (gt / q));
    if (t > s->x) gamma = -gamma;
    p = (gamma - gt) + theta;
    r = p / (((gamma - gt) + gamma) + *gx);
    cubic = t + r * (s->x - t);
    quadratic = t + gt / (gt - *gx) * (s->x - t);
    next = fabs(cubic - t) > fabs(quadratic - t) ? cubic : quadratic;
    s->bracketed = true;
  } else if (fabs(gt) < fabs(*gx)) { /* case 3: the derivative shrinks */
    theta = 3 * (*fx - ft) / (t - s->x) + *gx + gt;
    q = max3(theta, *gx, gt);
    gamma = q * sqrt(fmax(0, (theta / q) * (theta / q) - (*gx / q) * (gt / q)));
    if (t > s->x) gamma = -gamma;
    p = (gamma - gt) + theta;
    r = p / ((gamma + (*gx - gt)) + gamma);
    cubic = r < 0 && gamma != 0 ? t + r * (s->x - t) : t > s->x ? s->high : s->low;
    quadratic = t + gt / (gt - *gx) * (s->x - t);
    if (s->bracketed) {
      next = fabs(cubic - t) < fabs(quadratic - t) ? cubic : quadratic;
      double bound = t + 0.66 * (s->y - t);
      next = t > s->x ? fmin(bound, next) : fmax(bound, next);
    } else {
      next = fabs(cubic - t) > fabs(quadratic - t) ? cubic : quadratic;
      next = fmax(s->low, fmin(s->high, next));
    }
  } else if (s->bracketed) { /* case 4: the derivative does not shrink */
    theta = 3 * (ft - *fy) / (s->y - t) + *gy + gt;
    q = max3(theta, *gy, gt);
    gamma = q * sqrt(fmax(0, (theta / q) * (theta / q) - (*gy / q) * (gt / q)));
    if (t > s->y) gamma = -gamma;
    p = (gamma - gt) + theta;
    r = p / (((gamma - gt) + gamma) + *gy);
    next = t + r * (s->y - t);
  } else {
    next = t > s->x ? s->high : s->low;
  }
  if (ft > *fx) {
    s->y = t;
    *fy = ft;
    *gy = gt;
  } else {
    if (sign < 0) {
      s->y = s->x;
      *fy = *fx;
      *gy = *gx;
    }
    s->x = t;
    *fx = ft;
    *gx = gt;
  }
  return next;
}

pl_search_status pl_line_search_next(pl_line_search *s, double f, double g) {
  double t = s->step;
  if (++s->evaluations > MOST_EVALUATIONS) return PL_SEARCH_FAILED;
  if (!isfinite(f) || !isfinite(g)) { /* outside the function's domain: no step may go so far again */
    s->most = t;
    if (s->high > t) s->high = t;
    s->step = s->x + 0.2 * (t - s->x);
    s->width = fabs(s->most - s->x);
    s->width1 = 2 * s->width;
    return fabs(t - s->x) <= 1e-16 * fabs(s->x) || t < 1e-300 ? PL_SEARCH_FAILED : PL_SEARCH_EVALUATE;
  }
  if (f < s->f_best) {
    s->f_best = f;
    s->best = t;
  }
  double sufficient = s->f0 + t * s->c1 * s->g0;
  if (f <= sufficient && fabs(g) <= s->c2 * -s->g0) return PL_SEARCH_DONE;
  if (t >= s->most && f <= sufficient && g <= s->c1 * s->g0) return PL_SEARCH_LIMIT;
  if (s->bracketed && (t <= s->low || t >= s->high || s->high - s->low <= 1e-16 * s->high)) return PL_SEARCH_FAILED;
  if (t <= 1e-300) return PL_SEARCH_FAILED;

  if (s->first_stage && f <= sufficient && g >= fmin(s->c1, s->c2) * s->g0) s->first_stage = false;
  double next;
  if (s->first_stage && f <= s->fx && f > sufficient) { /* on psi(a) = phi(a) - phi(0) - c1 a phi'(0) */
    double tilt = s->c1 * s->g0, fx = s->fx - s->x * tilt, fy = s->fy - s->y * tilt, gx = s->gx - tilt,
           gy = s->gy - tilt;
    next = trial(s, &fx, &gx, &fy, &gy, t, f - t * tilt, g - tilt);
    s->fx = fx + s->x * tilt;
    s->fy = fy + s->y * tilt;
    s->gx = gx + tilt;
    s->gy = gy + tilt;
  } else {
    next = trial(s, &s->fx, &s->gx, &s->fy, &s->gy, t, f, g);
  }
  if (s->bracketed) {
    if (fabs(s->y - s->x) >= 0.66 * s->width1) next = s->x + 0.5 * (s->y - s->x);
    s->width1 = s->width;
    s->width = fabs(s->y - s->x);
    s->low = fmin(s->x, s->y);
    s->high = fmax(s->x, s->y);
  } else {
    s->low = next + 1.1 * (next - s->x);
    s->high = next + 4 * (next - s->x);
  }
  if (!(next <= s->most)) next = s->most;
  if (!(next >= 0)) next = 0.5 * (s->low + s->high);
  if (s->bracketed && (next <= s->low || next >= s->high)) next = s->x + 0.5 * (s->y - s->x);
  s->step = next;
  return PL_SEARCH_EVALUATE;
}
