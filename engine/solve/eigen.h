/* eigen.h: a few eigenvalues and eigenvectors of a symmetric pencil A x = lambda M x, M definite. */
#ifndef PL_SOLVE_EIGEN_H
#define PL_SOLVE_EIGEN_H

#include "pattern.h"

typedef enum { PL_EIGEN_SMALLEST, PL_EIGEN_LARGEST, PL_EIGEN_NEAR } pl_eigen_which;

typedef struct {
  int64_t k;
  pl_eigen_which which;
  double sigma, rtol; /* near sigma; of residuals */
  int64_t restarts;   /* at most */
} pl_eigen_options;

/* A and M by their values on one pattern, which has the diagonal. w {k} ascending, v {n, k} in columns with V'MV = I,
 * the largest component of each positive. Not converged: the error set. */
bool pl_eigen_symmetric(pl_context *c, pl_pattern *p, const double *a, const double *m, const pl_eigen_options *o,
                        double *w, double *v);
/* Columns y_i = G_i r_i, G_i the inverse of A - w_i M between what is M-orthogonal to all columns of v: (A - w_i M) y_i
 * = r_i - M V V'r_i, V'M y_i = 0. All are {n, k}. */
bool pl_eigen_resolvent(pl_context *c, pl_pattern *p, const double *a, const double *m, int64_t k, const double *w,
                        const double *v, const double *r, double *y);

#endif
