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
/* Structure (patterns of results, maps of values) is remembered: how often it was found again, how often made. */
PL_API void pl_sparse_memo(const pl_context *c, int64_t *found, int64_t *made);
PL_API pl_value pl_sparse_indices(pl_context *c, pl_object *pattern, bool columns); /* of each entry: i64, 1-based */

/* Entries (i[k], j[k]) += v[k]; duplicates add up. */
PL_API pl_sparse pl_sparse_triplets(pl_context *c, pl_value i, pl_value j, pl_value v, int64_t rows, int64_t cols);
/* The entries of a matrix {m, n} whose absolute value is above the tolerance (NaN counts); or those of a pattern, which
 * works while tracing too. */
PL_API pl_sparse pl_sparse_from_dense(pl_context *c, pl_value t, double tolerance);
PL_API pl_sparse pl_sparse_sample(pl_context *c, pl_value t, pl_object *pattern);
/* rows x columns blocks, row by row; one without a pattern is zero, its size that of those beside it. */
PL_API pl_sparse pl_sparse_block(pl_context *c, int rows, int columns, const pl_sparse *blocks);
/* {faces, n}: (G p)_f = p[right_f] - p[left_f] */
PL_API pl_sparse pl_sparse_incidence(pl_context *c, pl_value left, pl_value right, int64_t n);

PL_API pl_sparse pl_sparse_add(pl_context *c, pl_sparse a, pl_sparse b);
PL_API pl_sparse pl_sparse_subtract(pl_context *c, pl_sparse a, pl_sparse b);
PL_API pl_sparse pl_sparse_hadamard(pl_context *c, pl_sparse a, pl_sparse b);     /* elementwise: the entries of both */
PL_API pl_sparse pl_sparse_scale(pl_context *c, pl_sparse a, pl_value s);         /* s: rank 0 */
PL_API pl_sparse pl_sparse_scale_rows(pl_context *c, pl_sparse a, pl_value d);    /* diag(d) A */
PL_API pl_sparse pl_sparse_scale_columns(pl_context *c, pl_sparse a, pl_value d); /* A diag(d) */
PL_API pl_sparse pl_sparse_cast(pl_context *c, pl_sparse a, pl_dtype dtype);
PL_API pl_sparse pl_sparse_multiply(pl_context *c, pl_sparse a, pl_sparse b);
PL_API pl_sparse pl_sparse_transpose(pl_context *c, pl_sparse a);
PL_API pl_sparse pl_sparse_kron(pl_context *c, pl_sparse a, pl_sparse b);
/* B' D B for a D of weights: one number, one for each row, or a block for each k rows, {rows/k, k, k} (stiffness
 * assembly). One linear map of D, made once for constant B. */
PL_API pl_sparse pl_sparse_gram(pl_context *c, pl_sparse b, pl_value d);

/* Rows and columns by index vectors, 1-based, in any order, repeated or not; PL_NONE: all. The index data must be
 * known: while tracing it must not depend on the inputs. */
PL_API pl_sparse pl_sparse_select(pl_context *c, pl_sparse a, pl_value rows, pl_value columns);
PL_API pl_value pl_sparse_pick(pl_context *c, pl_sparse a, pl_value rows, pl_value columns); /* entry k: (i_k, j_k) */
PL_API pl_value pl_sparse_element(pl_context *c, pl_sparse a, int64_t row, int64_t column);  /* rank 0; 1-based */
PL_API pl_value pl_sparse_diagonal(pl_context *c, pl_sparse a, int64_t k); /* the entries with j - i = k, dense */
PL_API pl_value pl_sparse_trace(pl_context *c, pl_sparse a);
enum { PL_SPARSE_ALL = -1 };
PL_API pl_value pl_sparse_sum(pl_context *c, pl_sparse a, int axis); /* 0: {columns}; 1: {rows}; all: one number */
typedef enum { PL_NORM_FROBENIUS, PL_NORM_ONE, PL_NORM_INFINITY, PL_NORM_MAX } pl_sparse_norm_kind;
/* The largest column sum, row sum or entry of absolute values, or Frobenius' norm. */
PL_API pl_value pl_sparse_norm(pl_context *c, pl_sparse a, pl_sparse_norm_kind kind);

PL_API pl_value pl_sparse_apply(pl_context *c, pl_sparse a, pl_value x);            /* A x, x {n} or {n, k} */
PL_API pl_value pl_sparse_apply_transposed(pl_context *c, pl_sparse a, pl_value x); /* A' x, without a transpose */
PL_API pl_value pl_sparse_dense(pl_context *c, pl_sparse a);

/* Unknowns `fixed` (a vector of different indices) of A u = b. split: the parts of A with rows and columns free, and
 * with rows free and columns fixed (in the order of `fixed`), and the indices of the free ones: A_ff u_f = b_f - A_fc
 * u_c. All three are the caller's. dirichlet: the matrix with their rows and columns replaced by the identity's,
 * symmetric where A is, and the right-hand side b - A u_c with the values (one number, {fixed} or {fixed, k}) in their
 * rows. */
PL_API bool pl_sparse_split(pl_context *c, pl_sparse a, pl_value fixed, pl_sparse *ff, pl_sparse *fc, pl_value *free);
PL_API pl_sparse pl_sparse_dirichlet(pl_context *c, pl_sparse a, pl_value fixed, pl_value b, pl_value value,
                                     pl_value *rhs);

/* Files of MatrixMarket: coordinates (real, integer, pattern; general, symmetric, skew-symmetric) give *a, arrays give
 * *dense, a tensor {m, n}; the other one is empty. */
PL_API bool pl_sparse_load(pl_context *c, const char *path, pl_sparse *a, pl_value *dense);
PL_API bool pl_sparse_save(pl_context *c, const char *path, pl_sparse a);
PL_API bool pl_sparse_save_dense(pl_context *c, const char *path, pl_value matrix); /* in the array format */

/* How many symbolic analyses and how many plans (unions, products, parts ...) this context has made: what stays the
 * same when only values change. */
PL_API void pl_sparse_counts(const pl_context *c, int64_t *analyses, int64_t *plans);

/* A resource; solve reuses it, also for derivatives. */
PL_API pl_value pl_sparse_factor(pl_context *c, pl_sparse a, pl_solver method);
PL_API pl_value pl_sparse_solve(pl_context *c, pl_value factor, pl_sparse a, pl_value b, bool transpose);
/* x with x = value at the unknowns `fixed` (indices or a mask) and A x = b in the other rows. value: a number, {fixed}
 * or {fixed, k}; PL_NONE: 0. What is left of A stays definite where A is. */
PL_API pl_value pl_sparse_solve_fixed(pl_context *c, pl_sparse a, pl_value b, pl_value fixed, pl_value value,
                                      pl_solver method, bool transpose);
/* For a symmetric A whose null space is spanned by `null` ({n} or {n, k}; PL_NONE: the constants): the x orthogonal to
 * it that solves A x = b, b without its part in the null space. */
PL_API pl_value pl_sparse_solve_null(pl_context *c, pl_sparse a, pl_value b, pl_value null, pl_solver method);
/* The x of least |A x - b|, or, where A has fewer rows than columns, the least x with A x = b; A has full rank. */
PL_API pl_value pl_sparse_lstsq(pl_context *c, pl_sparse a, pl_value b);
/* log |det A| by A's factor; sign (may be NULL): of the determinant. */
PL_API pl_value pl_sparse_logdet(pl_context *c, pl_value factor, pl_sparse a, pl_value *sign);
/* k eigenvalues w {k}, ascending, and vectors v {n, k} of A x = w M x, A symmetric, M definite (without a pattern: the
 * identity): the smallest (which = 0), the largest (1), or those nearest to sigma (2). */
PL_API bool pl_sparse_eigsh(pl_context *c, pl_sparse a, pl_sparse m, int64_t k, int which, double sigma, double rtol,
                            int64_t restarts, pl_value *w, pl_value *v);
PL_API const char *pl_factor_name(pl_context *c, pl_value factor);   /* "KLU" ... */
PL_API const char *pl_factor_reason(pl_context *c, pl_value factor); /* why that; "": it was asked for */

#ifdef __cplusplus
}
#endif
#endif
