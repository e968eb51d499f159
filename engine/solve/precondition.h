/* precondition.h: preconditioners of sparse matrices behind one door: resources, made once from a matrix's values, that
 * turn a residual into about A^-1 r, or A'^-1 r. */
#ifndef PL_PRECONDITION_H
#define PL_PRECONDITION_H

#include "../pattern.h"
#include "../value.h"
#include "krylov.h"

typedef struct {
  pl_preconditioner_options base;
  const double *vectors; /* {n, k}: what a stiff A hardly sees; NULL: constants of each unknown of a node */
  int64_t n_vectors;
} pl_precondition_setup;

typedef struct pl_preconditioner {
  pl_resource base; /* named "preconditioner" */
  pl_preconditioner_kind kind;
  int32_t n;
  void (*apply)(pl_context *c, struct pl_preconditioner *m, bool transpose, const double *r, double *z);
} pl_preconditioner;

/* Each makes one of its kind, or returns NULL with the error set; values: pattern->nnz numbers, all finite; the matrix
 * is square. */
typedef pl_preconditioner *pl_precondition_maker(pl_context *c, pl_pattern *p, const double *values,
                                                 const pl_precondition_setup *o);
pl_precondition_maker pl_jacobi, pl_ilu, pl_ichol, pl_multigrid, pl_hypre;

/* The entries of the diagonal; an error that names the first row without one, or with 0. */
bool pl_diagonal(pl_context *c, const pl_pattern *p, const double *values, const char *who, double *d);

#endif
