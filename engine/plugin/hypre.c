/* hypre.c: for now, what is said where hypre is not installed. */
#include "../solve/precondition.h"

pl_preconditioner *pl_hypre(pl_context *c, pl_pattern *p, const double *values, const pl_precondition_setup *o) {
  (void)p, (void)values, (void)o;
  pl_error(c, PL_ERROR_STATE, "hypre is not installed; \"multigrid\" is Perilune's own algebraic multigrid");
  return NULL;
}
