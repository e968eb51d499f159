/* optimizer.h: minimizes a function by asking its caller for evaluations. Whatever the method:
 *
 *   pl_optimizer *o = pl_optimizer_new(c, "lbfgs", (pl_setting[]){{"iterations", 50}, {NULL, 0}}, n, x0, lower, upper);
 *   while ((x = pl_optimizer_ask(o))) { f = ...; pl_optimizer_tell(o, f, gradient); }
 *   ... pl_optimizer_report(o), pl_optimizer_free(o)
 *
 * The methods are rows of a table (method.h); their names and settings can be listed. Every method has these settings:
 * iterations and evaluations (at most so many) and atol (stop when the projected gradient's largest entry is at most
 * this). Results depend on what is told alone. */
#ifndef PL_OPTIMIZER_H
#define PL_OPTIMIZER_H

#include "perilune.h"

typedef struct pl_optimizer pl_optimizer;

typedef struct {
  const char *name;
  double value;
} pl_setting; /* a list ends with a NULL name */

typedef enum {
  PL_MIN_RUNNING,
  PL_MIN_GRADIENT,  /* converged: the gradient */
  PL_MIN_VALUE,     /* converged: the value */
  PL_MIN_PRECISION, /* converged as far as floating point goes */
  PL_MIN_ITERATIONS,
  PL_MIN_EVALUATIONS,
  PL_MIN_LINE_SEARCH, /* no lower value along a descent direction: the gradient is wrong, or f is not smooth */
  PL_MIN_STOPPED,     /* by the caller */
  PL_MIN_BAD_START,   /* f or its gradient is not finite at x0 */
  PL_MIN_DIVERGED,    /* f or its gradient is not finite later on, and the method cannot step back */
} pl_min_status;

/* A point and what is known of it. x and gradient live as long as the optimizer and change with tell. */
typedef struct {
  const double *x, *gradient;
  double value, gradient_norm; /* norm: largest entry of the projected gradient */
} pl_min_point;

typedef struct {
  pl_min_status status;
  bool converged;
  const char *name, *message;
  pl_min_point best, last; /* the lowest value seen, and where the last iteration ended */
  double step;
  int64_t iterations, evaluations;
} pl_min_report;

/* x0 is moved into the bounds; lower and upper may be NULL, entries infinite; so may settings. NULL, and the error set,
 * for an unknown method or setting, a setting out of its range, lower > upper, or when memory is short. */
PL_API pl_optimizer *pl_optimizer_new(pl_context *c, const char *method, const pl_setting *settings, int64_t n,
                                      const double *x0, const double *lower, const double *upper);
PL_API void pl_optimizer_free(pl_optimizer *o);
PL_API const double *pl_optimizer_ask(pl_optimizer *o); /* where to evaluate; NULL when done */
/* Returns whether an iteration was completed: the report's last point is then the new one. f and g may be NaN. */
PL_API bool pl_optimizer_tell(pl_optimizer *o, double f, const double *gradient);
/* Changes a setting on the way: a rate by schedule, say (what sizes memory is read at the start alone). False, and the
 * error set, as in pl_optimizer_new. */
PL_API bool pl_optimizer_set(pl_optimizer *o, const char *setting, double value);
PL_API void pl_optimizer_stop(pl_optimizer *o);
PL_API pl_min_report pl_optimizer_report(const pl_optimizer *o);

/* The methods and their settings, from 0 on; NULL beyond the last. */
PL_API const char *pl_optimizer_method(int i);
PL_API const char *pl_optimizer_text(const char *method); /* what it does, in a line */
typedef struct {
  const char *name, *text;
  double value, least, most; /* the default (NAN: it follows from others), and the range */
  bool whole;
  const char *range; /* in words */
} pl_setting_info;
PL_API const pl_setting_info *pl_optimizer_setting(const char *method, int i);

#endif
