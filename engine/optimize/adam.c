/* adam.c: Adam,
 *   m <- b1 m + (1 - b1) g,  v <- b2 v + (1 - b2) g^2,  x <- x - rate (m/(1 - b1^k) / (sqrt(v/(1 - b2^k)) + epsilon) +
 * decay x), clipped to the bounds.
 *
 * Kingma and Ba: Adam, a method for stochastic optimization, ICLR 2015, algorithm 1; the decay of weights apart from
 * the gradient as in Loshchilov and Hutter, Decoupled weight decay regularization, ICLR 2019, algorithm 2. */
#include "method.h"

enum { AT_RATE = PL_MIN_OWN, AT_BETA1, AT_BETA2, AT_EPSILON, AT_DECAY };

typedef struct {
  pl_optimizer base;
  double *m, *v;
} adam;

static int vectors(const pl_optimizer *o) {
  (void)o;
  return 2;
}

static bool open_adam(pl_optimizer *o, double *at) {
  ((adam *)o)->m = at;
  ((adam *)o)->v = at + o->n;
  return true;
}

static void next(pl_optimizer *o) {
  const double *s = o->settings;
  double *m = ((adam *)o)->m, *v = ((adam *)o)->v, k = (double)o->iterations + 1, longest = 0;
  double b1 = s[AT_BETA1], b2 = s[AT_BETA2], first = 1 - pow(b1, k), second = 1 - pow(b2, k);
  for (int64_t i = 0; i < o->n; i++) {
    double g = o->g[i];
    m[i] = b1 * m[i] + (1 - b1) * g;
    v[i] = b2 * v[i] + (1 - b2) * g * g;
    double d = m[i] / first / (sqrt(v[i] / second) + s[AT_EPSILON]) + s[AT_DECAY] * o->x[i];
    o->trial[i] = pl_min_clip(o, i, o->x[i] - s[AT_RATE] * d);
    longest = fmax(longest, fabs(o->trial[i] - o->x[i]));
  }
  o->step = longest;
}

static bool tell(pl_optimizer *o, double f, bool finite) {
  if (!finite) {
    o->status = PL_MIN_DIVERGED;
    return false;
  }
  pl_min_accept(o, f, NAN);
  return true;
}

#define BELOW_1 (1 - DBL_EPSILON / 2)
static const pl_setting_info settings[] = {
    PL_MIN_LIMITS,
    {"rate", "length of a step in each variable", 1e-3, DBL_MIN, DBL_MAX, false, "a positive number"},
    {"beta1", "memory of the gradient", 0.9, 0, BELOW_1, false, "0 or above and below 1"},
    {"beta2", "memory of its square", 0.999, 0, BELOW_1, false, "0 or above and below 1"},
    {"epsilon", "added to the root of the square", 1e-8, 0, DBL_MAX, false, "0 or above"},
    {"decay", "weight decay: x shrinks by rate*decay*x a step", 0, 0, DBL_MAX, false, "0 or above"},
    {.name = NULL}};
const pl_min_method pl_adam_method = {
    "adam",
    "a step of about the rate in each variable, whatever the gradient's size: rough or noisy functions, first steps",
    settings,
    sizeof(adam),
    vectors,
    open_adam,
    next,
    tell,
    NULL};
