/* direct.h: sparse direct solvers behind one door: analyse a pattern once, factor values whole, solve with the factor
 * or its transpose. */
#ifndef PL_DIRECT_H
#define PL_DIRECT_H

#include "pattern.h"
#include "sparse.h"
#include "value.h"

/* A resource named "matrix factor". NULL, and the error set, when the matrix is singular (the row is named), is not
 * what `method` says (symmetric, definite), or memory is short. values: pattern->nnz numbers. Which library is taken
 * depends on pattern and values alone. */
pl_resource *pl_direct_factor(pl_context *c, pl_pattern *p, const double *values, pl_solver method);
/* x {n, k} = A^-1 b or A'^-1 b, row-major; values are those that were factored. */
bool pl_direct_solve(pl_context *c, pl_resource *factor, const double *values, bool transpose, int64_t k,
                     const double *b, double *x);
pl_pattern *pl_direct_pattern(pl_resource *factor);
double pl_direct_logdet(pl_context *c, pl_resource *factor, double *sign); /* log |det A| */
/* out_k = M_ji at each entry k = (i, j) of A, for M = A^-1 T_1 A^-1 ... T_m A^-1, T_l with A's pattern and the values
 * t[l]. Without T by recurrences on the factor; else by solves, a block of columns at a time. */
bool pl_direct_inverse(pl_context *c, pl_resource *factor, const double *values, int m, const double *const *t,
                       double *out);

#endif
