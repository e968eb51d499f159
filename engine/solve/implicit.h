/* implicit.h: derivatives of what is found by iteration, once for all ops that solve F(u, theta) = 0: newton,
 * fixed_point, root and argmin. By the implicit function theorem, with J = dF/du at the solution,
 *   du = -J^-1 (dF/dtheta) dtheta,      theta_bar = -(dF/dtheta)' J'^-1 u_bar,
 * one linear solve each, however many iterations were needed. Everything is written with ops, so both modes hold to
 * any order. Input 0 of such an op is where it starts, which its derivatives do not depend on. */
#ifndef PL_IMPLICIT_H
#define PL_IMPLICIT_H

#include "../body.h"
#include "../op.h"
#include "../pattern.h"
#include "../sparse.h"
#include "../transform/sparsity.h"

typedef enum {
  PL_JACOBIAN_MATRIX,   /* sparse, solved directly */
  PL_JACOBIAN_DIAGONAL, /* of equations that do not know of each other: its diagonal */
  PL_JACOBIAN_PRODUCTS  /* its products with vectors, by Krylov's method */
} pl_jacobian_kind;

typedef struct {
  pl_body *residual; /* (u, theta...) -> F */
  pl_jacobian_kind kind;
  pl_body *jacobian;   /* (u, theta...) -> values in the pattern's order, or the diagonal; not read for products */
  pl_pattern *pattern; /* of the matrix */
  pl_solver method;
  bool unproved;    /* output 1 begins with what is not 0 where the solve failed: then derivatives are errors */
  const char *name; /* of the op, for messages */
} pl_implicit;

/* The op's inputs behind those of the residual (bounds) have no derivative. */
void pl_implicit_vjp(pl_vjp *v, const pl_implicit *i);
void pl_implicit_jvp(pl_jvp *j, const pl_implicit *i);

/* Derived bodies; they are f's. Where F does not depend on u: an error that names the op. */
/* (u, theta..., F, du) -> dF/du du; F is not read. */
pl_body *pl_implicit_tangent(pl_context *c, pl_body *f, const char *name);
/* (u, theta...) -> the values of dF/du, from the compression of its pattern (or of a Hessian's, for F a gradient). */
pl_body *pl_implicit_values(pl_context *c, pl_body *f, const pl_compression *k, const char *name);
/* (u, theta...) -> output k as a vector. */
pl_body *pl_implicit_part(pl_context *c, pl_body *f, int k);
/* (u, theta...) -> the diagonal of dF/du. */
pl_body *pl_implicit_diagonal(pl_context *c, pl_body *f, const char *name);
/* (u, theta...) -> u - f(u, theta...). */
pl_body *pl_implicit_defect(pl_context *c, pl_body *f);
/* f's output and the diagonal side by side. */
pl_body *pl_implicit_both(pl_context *c, pl_body *f, pl_body *diagonal);

/* The plan of J + t I, which the caller releases. */
pl_plan *pl_plan_shift(pl_context *c, pl_pattern *p);

/* What the rows of such ops have in common; `stem` is the type of the state and begins the names of the functions.
 * Inputs: where it starts, theta...; outputs: the solution and the record of the iteration. */
int pl_implicit_results(const pl_attr *attrs);
#define PL_IMPLICIT_ROW(stem)                                                                                \
  .kind = PL_OPAQUE, .inputs = -1, .outputs = -1, .internal = true, .dtypes = PL_ANY, .keeps = PL_KEEPS_ALL, \
  .shape = stem##_shape, .results = pl_implicit_results, .step = stem##_step, .state_size = sizeof(stem),    \
  .stop = stem##_stop, .vjp = stem##_vjp, .jvp = stem##_jvp, .sample = stem##_sample

#endif
