/* factor.h: what the direct solvers share. Each method is one row of a table: how it factors, solves and frees. Our
 * rows are the columns of SuiteSparse, which is given A' and asked the question turned round; LAPACK is given A. */
#ifndef PL_FACTOR_H
#define PL_FACTOR_H

#include <klu.h>
#ifdef PL_HAVE_GPL
#include <cholmod.h>
#endif

#include "direct.h"

/* What depends on the pattern alone; hangs on it. */
struct pl_symbolic {
  bool known;                   /* are the next four? */
  bool symmetric, has_diagonal; /* of the structure */
  int32_t lower, upper;         /* bandwidths */
  klu_common klu;
  klu_symbolic *klu_symbolic;
#ifdef PL_HAVE_GPL
  void *umfpack;
  double umfpack_flops;
  cholmod_common cholmod;
  bool cholmod_started;
  cholmod_factor *cholmod_symbolic, *ldl_symbolic;
  cholmod_dense *x, *y, *e; /* a solve's result and work, used again */
#endif
};

typedef struct {
  pl_resource base;
  pl_pattern *pattern; /* held */
  pl_solver method;
  const char *why; /* the method was chosen; "" where it was asked for */
  bool definite;   /* Cholesky's factors (LAPACK's) */
  klu_numeric *klu;
#ifdef PL_HAVE_GPL
  void *umfpack;
  cholmod_factor *cholmod;
#endif
  double *entries; /* LAPACK's factors */
  int *pivots;
} pl_factor;

/* In all of these the values are those of the pattern; b and x are {k} columns of n numbers. factor sets the error
 * where it fails. */
typedef struct {
  const char *name;
  bool (*factor)(pl_context *c, pl_factor *f, const double *values);
  bool (*solve)(pl_context *c, pl_factor *f, const double *values, bool transpose, int64_t k, const double *b,
                double *x);
  void (*free)(pl_context *c, pl_factor *f);
  double (*logdet)(pl_context *c, pl_factor *f, double *sign); /* of |det| */
} pl_method;

extern const pl_method pl_method_klu, pl_method_umfpack, pl_method_cholmod, pl_method_ldl, pl_method_tridiagonal,
    pl_method_banded, pl_method_dense;

/* Errors; all return false. `row` is 0-based. */
bool pl_singular(pl_context *c, const pl_pattern *p, int64_t row, const char *why);
bool pl_pivots_differ(pl_context *c, const pl_pattern *p, int64_t row, double ratio);
bool pl_indefinite(pl_context *c, const pl_pattern *p, int64_t row);
bool pl_solver_memory(pl_context *c, const char *library);

/* The largest entry; -1, and the error set, where one is not finite. */
double pl_largest_entry(pl_context *c, const pl_pattern *p, const double *values);

/* Finite, symmetric, not singular by its pattern? Sets the error. */
bool pl_direct_check(pl_context *c, pl_pattern *p, const double *values, const char *name);

bool pl_klu_analyse(pl_context *c, pl_pattern *p);
void pl_umfpack_forget(struct pl_symbolic *s);
void pl_cholmod_forget(struct pl_symbolic *s);

/* BLAS's threads and OpenMP's levels belong to the process. Many small products gain nothing from threads, and waking
 * them costs several times the factorization: they run on one unless the work is large. */
typedef struct {
  int blas, levels;
} pl_thread_setting;
pl_thread_setting pl_few_threads(double flops);
void pl_restore_threads(pl_thread_setting old);

/* Triangles for the recurrences of inverse.c: an L U = A up to permutations and a scaling, or L D L'. By columns of L
 * and rows of U, both with a unit diagonal, what is off it; D between them. Z = (L D U)^-1 holds the entry (i, j) of
 * A's inverse at (col[j]...): see pl_direct_selected. */
typedef struct {
  int32_t n;
  bool symmetric;         /* U = L': there are no u */
  int32_t *l_ptr, *l_row; /* of each column, below the diagonal */
  int32_t *u_ptr, *u_col; /* of each row, beyond the diagonal */
  double *l, *u, *d;
  int32_t *left, *right; /* (A^-1)_ji for the entry (i, j) of A is Z[left[i], right[j]]/scale[right[j]] */
  double *scale;
} pl_triangles;

bool pl_klu_triangles(pl_context *c, pl_factor *f, pl_triangles *t);
bool pl_cholmod_triangles(pl_context *c, pl_factor *f, pl_triangles *t);
bool pl_triangles_new(pl_context *c, pl_triangles *t, int32_t n, int64_t nl, int64_t nu); /* room, by pl_memory_new */
void pl_triangles_free(pl_context *c, pl_triangles *t);
bool pl_selected_inverse(pl_context *c, const pl_pattern *p, const pl_triangles *t, double *out);
double pl_parity(pl_context *c, int32_t n, const int *permutation); /* 1 or -1 */

#endif
