/* least_squares.h: least squares and minimum norm by sparse QR. */
#ifndef PL_LEAST_SQUARES_H
#define PL_LEAST_SQUARES_H

#include "pattern.h"
#include "value.h"

/* A resource named "least-squares factor" of a matrix with no more columns than rows. NULL, and the error set, where
 * its rank is less than its columns. */
pl_resource *pl_qr_factor(pl_context *c, pl_pattern *p, const double *values);
/* x {columns, k} = A^+ b, or x {rows, k} = A^+' b, row-major. */
bool pl_qr_solve(pl_context *c, pl_resource *factor, bool transpose, int64_t k, const double *b, double *x);
pl_pattern *pl_qr_pattern(pl_resource *factor);

#endif
