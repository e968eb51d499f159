/* krylov.h: A x = b by Krylov methods for an operator A that is a program, as one op. Derivatives are those of the
 * exact solution: one more solve for a tangent (with A) or a cotangent (with A'), to the same tolerance, however many
 * iterations were needed. Preconditioners change how fast, not what: they receive no derivative. */
#ifndef PL_KRYLOV_H
#define PL_KRYLOV_H

#include "../programs.h"
#include "../sparse.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { PL_CG, PL_MINRES, PL_GMRES, PL_BICGSTAB, PL_KRYLOV_METHODS } pl_krylov_method;

typedef struct {
  pl_krylov_method method; /* cg: A symmetric positive definite; minres: symmetric; these check that A is symmetric */
  int64_t iterations;      /* at most; 0: 10 n, but 100 at least and 10000 at most */
  int64_t restart;         /* of gmres; 30 */
  double rtol, atol;       /* converged when |b - A x| <= max(rtol |b|, atol); 1e-10, 0 */
  bool check;              /* not converged: an error; else x of the least residual, without derivatives; true */
  bool history;            /* one more output; false */
} pl_krylov_options;
PL_API pl_krylov_options pl_krylov_defaults(void);

/* Programs with their further inputs. */
typedef struct {
  pl_body *apply, *transpose; /* (x {n}, theta...) -> A x {n}, f64, linear in x; -> A' x, or NULL: from apply */
  int n_theta;
  const pl_value *theta;
  pl_body *precondition; /* (r {n}, phi...) -> about A^-1 r; cg and minres: positive definite; or NULL */
  int n_phi;
  const pl_value *phi;
} pl_krylov_system;

/* start: x to begin with, or PL_NONE: zero. Outputs: x {n}, iterations (i64), |b - A x| (f64), converged (bool), and
 * where it was asked for the history {iterations + 1} of residuals, NaN behind the last. */
PL_API bool pl_krylov(pl_context *c, const pl_krylov_system *s, pl_value b, pl_value start, const pl_krylov_options *o,
                      pl_value *outputs);

/* (y, theta...) -> A' y for a program (x, theta...) -> A x that is linear in x. The reference is the caller's. */
PL_API pl_body *pl_body_transpose(pl_context *c, pl_body *b);

/* A preconditioner of a sparse matrix, made from its values: a resource. */
typedef enum {
  PL_PRECONDITION_JACOBI,
  PL_PRECONDITION_ILU,       /* ILU(0) */
  PL_PRECONDITION_ICHOL,     /* IC(0) */
  PL_PRECONDITION_MULTIGRID, /* smoothed aggregation */
  PL_PRECONDITION_HYPRE,     /* BoomerAMG, where hypre is installed */
  PL_PRECONDITIONERS
} pl_preconditioner_kind;
typedef struct { /* of multigrid */
  double
      strength;   /* entries below strength sqrt(a_ii a_jj) connect nothing; half as much on each further level; 0.08 */
  int64_t block;  /* neighbouring unknowns that form a node; 1 */
  int64_t degree; /* of the smoothing polynomial; 2 */
} pl_preconditioner_options;
PL_API pl_preconditioner_options pl_preconditioner_defaults(void);
/* vectors {n, k}: what the matrix nearly maps to zero (rigid motions); PL_NONE: constants of each unknown of a node. */
PL_API pl_value pl_sparse_preconditioner(pl_context *c, pl_sparse a, pl_preconditioner_kind kind,
                                         const pl_preconditioner_options *o, pl_value vectors);
PL_API pl_value pl_precondition(pl_context *c, pl_value preconditioner, pl_value r, bool transpose);
PL_API int64_t pl_preconditioners_made(const pl_context *c);

#ifdef __cplusplus
}
#endif
#endif
