/* lbfgs.h: L-BFGS with bounds, asking its caller for evaluations.
 *
 *   pl_lbfgs *o = pl_lbfgs_new(c, NULL, n, x0, lower, upper);
 *   while ((x = pl_lbfgs_ask(o))) { f = ...; pl_lbfgs_tell(o, f, gradient); }
 *   ... pl_lbfgs_report(o), pl_lbfgs_free(o)
 *
 * Byrd, Lu, Nocedal, Zhu: A limited memory algorithm for bound constrained optimization, SIAM J. Sci. Comput. 16, 1995,
 * with the projected subspace step of Morales and Nocedal, ACM TOMS 38(1), 2011. Results depend on the inputs alone. */
#ifndef PL_LBFGS_H
#define PL_LBFGS_H

#include "perilune.h"

typedef struct pl_lbfgs pl_lbfgs;

typedef struct {
  int memory;                      /* pairs kept; 10 */
  int64_t iterations, evaluations; /* at most; 1000 and 10 times as many */
  double rtol;                     /* stop when an iteration lowers f by less than rtol*|f|; 1e-12 */
  double atol;                     /* stop when the projected gradient's largest entry is at most this; 1e-12 */
} pl_lbfgs_options;

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
} pl_min_status;

typedef struct {
  pl_min_status status;
  bool converged;
  const char *name, *message;
  const double *x, *gradient;        /* of the best point; they live as long as the optimizer */
  double value, gradient_norm, step; /* norm: largest entry of the projected gradient */
  int64_t iterations, evaluations;
} pl_min_report;

PL_API pl_lbfgs_options pl_lbfgs_defaults(void);
/* x0 is moved into the bounds; lower and upper may be NULL, entries infinite. NULL, and the error set, when lower >
 * upper or memory is short. */
PL_API pl_lbfgs *pl_lbfgs_new(pl_context *c, const pl_lbfgs_options *options, int64_t n, const double *x0,
                              const double *lower, const double *upper);
PL_API void pl_lbfgs_free(pl_lbfgs *o);
PL_API const double *pl_lbfgs_ask(pl_lbfgs *o); /* where to evaluate; NULL when done */
/* Returns whether an iteration was completed: the report's x is then the new point. f and g may be NaN. */
PL_API bool pl_lbfgs_tell(pl_lbfgs *o, double f, const double *gradient);
PL_API void pl_lbfgs_stop(pl_lbfgs *o);
PL_API pl_min_report pl_lbfgs_report(const pl_lbfgs *o);

#endif
