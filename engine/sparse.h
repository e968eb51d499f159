/* sparse.h: differentiable algebra of sparse matrices. A matrix is a pattern (an interned pl_object) and a vector of
 * values, a tensor like any other: derivatives flow through it.
 *
 * A pl_sparse that a call returns holds a reference to its pattern, dropped by pl_sparse_release; its values follow the
 * rule of all values (the caller's outside a recording). On an error the pattern is NULL. Indices in tensors are
 * 1-based. */
#ifndef PL_SPARSE_H
#define PL_SPARSE_H

#include "perilune.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  pl_object *pattern;
  pl_value values;
} pl_sparse;

/* A method, and what is known of the matrix (added to it): symmetric, or symmetric positive definite. It is checked. */
typedef enum {
  PL_SOLVER_AUTO,
  PL_SOLVER_KLU,
  PL_SOLVER_UMFPACK,
  PL_SOLVER_CHOLMOD, /* definite */
  PL_SOLVER_LDL,     /* symmetric; without pivoting */
  PL_SOLVER_TRIDIAGONAL,
  PL_SOLVER_BANDED,
  PL_SOLVER_DENSE,
  PL_SOLVERS,
  PL_SOLVER_SYMMETRIC = 0x100,
  PL_SOLVER_DEFINITE = 0x200
} pl_solver;

PL_API void pl_sparse_retain(pl_sparse a);                 /* the pattern only */
PL_API void pl_sparse_release(pl_context *c, pl_sparse a); /* pattern, and the values where nothing else owns them */
PL_API void pl_sparse_size(pl_object *pattern, int64_t *rows, int64_t *cols, int64_t *nnz);
PL_API pl_value pl_sparse_indices(pl_context *c, pl_object *pattern, bool columns); /* of each entry: i64, 1-based */

/* Entries (i[k], j[k]) += v[k]; duplicates add up. */
PL_API pl_sparse pl_sparse_triplets(pl_context *c, pl_value i, pl_value j, pl_value v, int64_t rows, int64_t cols);
PL_API pl_sparse pl_sparse_add(pl_context *c, pl_sparse a, pl_sparse b);
PL_API pl_sparse pl_sparse_scale(pl_context *c, pl_sparse a, pl_value s); /* s: rank 0 */
PL_API pl_sparse pl_sparse_multiply(pl_context *c, pl_sparse a, pl_sparse b);
PL_API pl_sparse pl_sparse_transpose(pl_context *c, pl_sparse a);
PL_API pl_sparse pl_sparse_kron(pl_context *c, pl_sparse a, pl_sparse b);
/* B' diag(d) B: one linear map of d, made once for constant B. */
PL_API pl_sparse pl_sparse_gram(pl_context *c, pl_sparse b, pl_value d);
PL_API pl_value pl_sparse_apply(pl_context *c, pl_sparse a, pl_value x); /* A x, x {n} or {n, k} */
PL_API pl_value pl_sparse_dense(pl_context *c, pl_sparse a);
/* A resource; solve reuses it, also for derivatives. definite: symmetric positive definite, by Cholesky. */
PL_API pl_value pl_sparse_factor(pl_context *c, pl_sparse a, pl_solver method);
PL_API pl_value pl_sparse_solve(pl_context *c, pl_value factor, pl_sparse a, pl_value b, bool transpose);
PL_API const char *pl_factor_name(pl_context *c, pl_value factor);   /* "KLU" ... */
PL_API const char *pl_factor_reason(pl_context *c, pl_value factor); /* why that; "": it was asked for */

#ifdef __cplusplus
}
#endif
#endif
