/* report.h: what iterations have in common: how far they are, their record (an output of each such op: PL_R_... in
 * programs.h), and how they end. */
#ifndef PL_REPORT_H
#define PL_REPORT_H

#include "../execute.h"

typedef struct {
  int64_t n;    /* equations */
  int64_t most; /* iterations; the record has room for the norms of so many */
  double norm, first;
  int64_t iteration, evaluations, jacobians, linear;
  bool unchecked;       /* a failure is no error */
  const char *name;     /* of the op */
  const pl_attr *names; /* of the equations, as pl_newton_options has them; may be NULL */
} pl_progress;

double pl_dot(const double *x, const double *y, int64_t n);
double pl_norm2(const double *x, int64_t n);
double pl_largest(const double *x, int64_t n); /* magnitude */
bool pl_all_finite(const double *x, int64_t n);

pl_spec pl_record_spec(int64_t iterations);
void pl_progress_note(const pl_activation *a, const pl_progress *p); /* the norm of this iteration */
pl_next pl_progress_end(pl_activation *a, const pl_progress *p, const double *u, pl_solve_end end);
/* The end without success: u goes out where that is wanted, else an error that tells norms and the worst equations r.
 */
pl_next pl_progress_fail(pl_context *c, pl_activation *a, const pl_progress *p, const double *u, const double *r,
                         pl_solve_end end, const char *what, const char *advice);
/* The names of equations as an attribute; without any, list may be NULL. */
pl_attr pl_names(int n, const int64_t *list);
/* "equation 3" or "u[2, 1]"; text has PL_TEXT bytes */
void pl_equation_name(const pl_attr *names, int64_t k, char *text);

#endif
