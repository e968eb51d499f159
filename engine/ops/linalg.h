/* linalg.h: what the families of dense linear algebra share: LAPACK on stacks of matrices {batch, m, n}, each matrix by
 * one thread, so that results do not depend on their number; and rows for users, which take any leading axes. */
#ifndef PL_LINALG_H
#define PL_LINALG_H

#include <string.h>

#include "../op.h"
#include "../schedule.h"

/* Fortran: matrices by columns, so ours are seen transposed; the lengths of texts come last. */
extern void dgetrf_(const int *m, const int *n, double *a, const int *lda, int *pivots, int *info);
extern void dgesdd_(const char *job, const int *m, const int *n, double *a, const int *lda, double *s, double *u,
                    const int *ldu, double *vt, const int *ldvt, double *work, const int *lwork, int *iwork, int *info,
                    size_t);

/* ---- primitives ---- */

/* One call of LAPACK for each matrix; what the letters mean is the op's. */
typedef struct {
  pl_dtype dtype;
  int m, n, k, lower, upper;
  bool flag;
  double tolerance;
  const char *a, *b, *c, *d;
  char *out[4];
  size_t each; /* bytes of work memory for one matrix, */
  char *work;  /* for each thread */
  int *info;   /* one a matrix: 0, or what went wrong; */
  int failure; /* that of the first that failed */
} pl_stack_job;

/* Runs over the batch; the first matrix that failed, or -1 (and where the error is set). */
int64_t pl_stack_run(const pl_call *call, pl_kernel kernel, pl_stack_job *j, int64_t batch, double work);
void *pl_stack_work(const pl_stack_job *j);                            /* of the calling thread */
const char *pl_stack_which(char *text, int64_t failed, int64_t batch); /* "", or " 2 of 3"; text has PL_TEXT bytes */
/* Matrix i, of `count` numbers, of x to doubles; are all finite? (Of what is not, LAPACK need not come back.) */
bool pl_stack_load(const pl_stack_job *j, const char *x, int64_t i, int64_t count, double *to);
void pl_stack_store(const pl_stack_job *j, char *y, int64_t i, int64_t count, const double *from); /* NULL: NaN */

/* Is input `at` {batch, m, n}, or square? Sets the error. */
bool pl_is_stack(const pl_call *call, int at, bool square);
void pl_spec_shape(pl_spec *spec, int rank, int64_t a, int64_t b, int64_t c);

/* ---- ops ---- */

pl_value pl_solved(pl_context *c, pl_value a, pl_value b, bool transpose); /* A^-1 B, A^-T B */
pl_value pl_substituted(pl_context *c, pl_value t, pl_value b, bool upper, bool transpose);
pl_value pl_over_triangle(pl_context *c, pl_value x, pl_value u, bool transpose); /* X U^-1, X U^-T; PL_ZERO stays */
pl_value pl_half_of(pl_context *c, pl_value x, bool upper);                       /* a triangle, with the diagonal */
pl_value pl_eye_like(pl_context *c, pl_value x, int64_t n);                       /* {n, n} of x's dtype */
pl_value pl_sum_axis(pl_context *c, pl_value x, int64_t axis);                    /* negative: from the end */
pl_value pl_joined(pl_context *c, pl_value x, pl_value y, int axis);              /* one behind the other */
/* M_ij/(w_j - w_i), 0 on the diagonal; an error where a gap is 0 and M_ij is not, that speaks of whose values they are.
 * Those of iterations are equal to fewer digits, and what M_ij has left there is rounding; turning: what M_ij - M_ji
 * has.
 */
typedef enum { PL_GAPS_EIGH, PL_GAPS_SVD, PL_GAPS_SPARSE, PL_GAPS_TURNING } pl_gaps;
pl_value pl_over_gaps(pl_context *c, pl_value w, pl_value m, pl_gaps of);

/* ---- rows for users ---- */

/* x as {batch, m, n} in floats; shape: what it was. PL_NONE, and the error set, where it is no matrix, or not square.
 */
pl_value pl_stacked(pl_context *c, const pl_op *op, pl_value x, bool square, pl_slot *shape);
/* Back: lead's axes but the last two, then `more`. */
pl_value pl_unstacked(pl_context *c, pl_value x, const pl_slot *lead, int more, const int64_t *sizes);
/* A {..., m, n} and b {m}, {..., m, k} on the same leading axes: those of either, where the other has none. A vector is
 * one column. sizes: {n, k}, for pl_unstacked with column ? 1 : 2 axes. */
bool pl_both_stacked(pl_context *c, const pl_op *op, const pl_value *in, bool square, pl_value *a, pl_value *b,
                     pl_slot *lead, int64_t *sizes, bool *column);

/* Entries in [-spread, spread), and first, first + step, ... more on the diagonal. */
pl_value pl_sample_matrices(pl_context *c, pl_sampler_random *r, double spread, double first, double step, int rank,
                            ...);

#define PL_STACK_ROW(op, text, inputs_, outputs_, smp)                                                         \
  .name = #op, .formula = text, .kind = PL_OPAQUE, .inputs = inputs_, .outputs = outputs_, .internal = true,   \
  .stacks = true, .dtypes = PL_FLOATS, .shape = op##_shape, .run = op##_run, .vjp = op##_vjp, .jvp = op##_jvp, \
  .sample = smp##_sample
#define PL_USER_ROW(op, text, inputs_, outputs_, smp)                                                                \
  .name = #op, .formula = text, .kind = PL_COMPOSITE, .inputs = inputs_, .outputs = outputs_, .expand = op##_expand, \
  .sample = smp##_sample

#endif
