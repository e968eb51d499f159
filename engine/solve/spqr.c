/* spqr.c: multifrontal sparse QR, A E = Q R (T. Davis, ACM TOMS 38, 2011): A^+ = E R^-1 Q' of full column rank, and its
 * transpose Q R^-T E'. */
#include "least_squares.h"

#include "factor.h"
#ifdef PL_HAVE_GPL
#include <SuiteSparseQR_C.h>
#include <string.h>

typedef struct {
  pl_resource base;
  pl_pattern *pattern; /* held */
  cholmod_common common;
  SuiteSparseQR_C_factorization *qr;
} factor;

static void destroy(pl_context *c, pl_resource *r) {
  factor *f = (factor *)r;
  if (f->qr) SuiteSparseQR_C_free(&f->qr, &f->common);
  cholmod_l_finish(&f->common);
  pl_memory_count(c, -f->base.bytes);
  pl_object_release(&f->pattern->base);
  pl_memory_free(c, f);
}

/* Its columns, with the library's indices; NULL when out of memory. */
static cholmod_sparse *by_columns(pl_pattern *p, const double *values, cholmod_common *common) {
  cholmod_sparse *a =
      cholmod_l_allocate_sparse((size_t)p->rows, (size_t)p->cols, (size_t)p->nnz, true, true, 0, CHOLMOD_REAL, common);
  if (!a) return NULL;
  SuiteSparse_long *ptr = a->p, *row = a->i;
  double *x = a->x;
  for (int32_t j = 0; j <= p->cols; j++) ptr[j] = p->col_ptr[j];
  for (int32_t t = 0; t < p->nnz; t++) {
    row[t] = p->row[t];
    x[t] = values[p->ours[t]];
  }
  return a;
}

static bool factorize(pl_context *c, factor *f, const double *values) {
  pl_pattern *p = f->pattern;
  cholmod_sparse *a = by_columns(p, values, &f->common);
  if (!a) return pl_solver_memory(c, "SPQR");
  c->analyses++;
  pl_thread_setting threads = pl_few_threads(0);
  f->qr = SuiteSparseQR_C_factorize(SPQR_ORDERING_DEFAULT, SPQR_DEFAULT_TOL, a, &f->common);
  pl_restore_threads(threads);
  cholmod_l_free_sparse(&a, &f->common);
  if (!f->qr) return pl_solver_memory(c, "SPQR");
  int64_t rank = f->common.SPQR_istat[4], bytes = (int64_t)f->common.memory_inuse;
  if (rank < p->cols) {
    pl_error(c, PL_ERROR_NUMERIC,
             "lstsq: the matrix has rank %lld, not %d: its %d unknowns (or equations, where these are fewer) depend on "
             "each other; leave some out, or add rows that keep the solution small",
             (long long)rank, p->cols, p->cols);
    return false;
  }
  if (!pl_memory_count(c, bytes)) return false;
  f->base.bytes = bytes;
  return true;
}

pl_resource *pl_qr_factor(pl_context *c, pl_pattern *p, const double *values) {
  if (pl_largest_entry(c, p, values) < 0 || !pl_pattern_columns(c, p)) return NULL;
  factor *f = pl_memory_new(c, sizeof *f);
  if (!f) return NULL;
  memset(f, 0, sizeof *f);
  f->base = (pl_resource){.destroy = destroy, .name = "least-squares factor"};
  f->pattern = p;
  pl_object_retain(&p->base);
  cholmod_l_start(&f->common);
  f->common.print = 0;
  if (p->cols == 0 || factorize(c, f, values)) return &f->base;
  destroy(c, &f->base);
  return NULL;
}

pl_pattern *pl_qr_pattern(pl_resource *r) { return ((factor *)r)->pattern; }

static void flip(int64_t n, int64_t k, const double *from, double *to) {
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < k; j++) to[j * n + i] = from[i * k + j];
}

bool pl_qr_solve(pl_context *c, pl_resource *r, bool transpose, int64_t k, const double *b, double *x) {
  factor *f = (factor *)r;
  const pl_pattern *p = f->pattern;
  int64_t n_in = transpose ? p->cols : p->rows, n_out = transpose ? p->rows : p->cols;
  memset(x, 0, (size_t)(n_out * k) * sizeof *x);
  if (!f->qr || k == 0) return true;
  pl_thread_setting threads = pl_few_threads(0);
  cholmod_dense *in = cholmod_l_allocate_dense((size_t)n_in, (size_t)k, (size_t)n_in, CHOLMOD_REAL, &f->common),
                *middle = NULL, *out = NULL;
  if (in) {
    flip(n_in, k, b, in->x);
    middle = transpose ? SuiteSparseQR_C_solve(SPQR_RTX_EQUALS_ETB, f->qr, in, &f->common)
                       : SuiteSparseQR_C_qmult(SPQR_QTX, f->qr, in, &f->common);
  }
  if (middle)
    out = transpose ? SuiteSparseQR_C_qmult(SPQR_QX, f->qr, middle, &f->common)
                    : SuiteSparseQR_C_solve(SPQR_RETX_EQUALS_B, f->qr, middle, &f->common);
  pl_restore_threads(threads);
  if (out) flip(k, n_out, out->x, x);
  else pl_solver_memory(c, "SPQR");
  cholmod_l_free_dense(&in, &f->common);
  cholmod_l_free_dense(&middle, &f->common);
  cholmod_l_free_dense(&out, &f->common);
  return c->status == PL_OK;
}
#endif
