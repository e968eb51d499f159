/* krylov.h: A x = b by Krylov methods for an operator A that is a program, as one op. Derivatives are those of the
 * exact solution: one more solve for a tangent (with A) or a cotangent (with A'), to the same tolerance, however many
 * iterations were needed. Preconditioners change how fast, not what: they receive no derivative. */
#ifndef PL_KRYLOV_H
#define PL_KRYLOV_H

#include "programs.h"

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

#ifdef __cplusplus
}
#endif
#endif
