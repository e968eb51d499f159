/* umfpack.c: UMFPACK, unsymmetric multifrontal LU: dense kernels, for matrices that fill (T. Davis, ACM TOMS 30, 2004).
 */
#ifdef PL_HAVE_GPL
#include <float.h>
#include <math.h>
#include <umfpack.h>

#include "factor.h"

static void settings(double *control) {
  umfpack_di_defaults(control);
  control[UMFPACK_IRSTEP] = 0;
}

/* The row of A whose pivot is smallest. */
static int weakest(pl_context *c, const pl_factor *f) {
  int n = f->pattern->rows, worst = 0, scaled;
  int *q = pl_memory_new(c, (size_t)n * sizeof *q);
  double *d = pl_memory_new(c, (size_t)n * sizeof *d);
  if (q && d) {
    umfpack_di_get_numeric(NULL, NULL, NULL, NULL, NULL, NULL, NULL, q, d, &scaled, NULL, f->umfpack);
    for (int i = 1; i < n; i++)
      if (!(fabs(d[i]) >= fabs(d[worst]))) worst = i;
    worst = q[worst];
  }
  pl_memory_free(c, q);
  pl_memory_free(c, d);
  return worst;
}

static bool factor(pl_context *c, pl_factor *f, const double *values) {
  pl_pattern *p = f->pattern;
  struct pl_symbolic *s = p->symbolic;
  double control[UMFPACK_CONTROL], info[UMFPACK_INFO] = {0};
  settings(control);
  int status = UMFPACK_OK;
  if (!s->umfpack) {
    c->analyses++;
    status = umfpack_di_symbolic(p->rows, p->cols, p->row_ptr, p->col, NULL, &s->umfpack, control, info);
    s->umfpack_flops = info[UMFPACK_FLOPS_ESTIMATE];
  }
  if (status == UMFPACK_OK) {
    pl_thread_setting threads = pl_few_threads(s->umfpack_flops);
    status = umfpack_di_numeric(p->row_ptr, p->col, values, s->umfpack, &f->umfpack, control, info);
    pl_restore_threads(threads);
  }
  if (status == UMFPACK_ERROR_out_of_memory) return pl_solver_memory(c, "UMFPACK");
  if (status == UMFPACK_WARNING_singular_matrix) return pl_singular(c, p, weakest(c, f), "a pivot is zero");
  if (status != UMFPACK_OK) {
    pl_error(c, PL_ERROR_NUMERIC, "UMFPACK fails with status %d", status);
    return false;
  }
  if (!(info[UMFPACK_RCOND] > DBL_EPSILON)) return pl_pivots_differ(c, p, weakest(c, f), info[UMFPACK_RCOND]);
  f->base.bytes = (int64_t)(info[UMFPACK_NUMERIC_SIZE] * info[UMFPACK_SIZE_OF_UNIT]);
  return true;
}

static bool solve(pl_context *c, pl_factor *f, const double *values, bool transpose, int64_t k, const double *b,
                  double *x) {
  pl_pattern *p = f->pattern;
  double control[UMFPACK_CONTROL], info[UMFPACK_INFO];
  settings(control);
  for (int64_t j = 0; j < k; j++)
    if (umfpack_di_solve(transpose ? UMFPACK_A : UMFPACK_At, p->row_ptr, p->col, values, x + j * p->rows,
                         b + j * p->rows, f->umfpack, control, info) != UMFPACK_OK)
      return pl_solver_memory(c, "UMFPACK");
  return true;
}

static void free_numeric(pl_context *c, pl_factor *f) {
  (void)c;
  if (f->umfpack) umfpack_di_free_numeric(&f->umfpack);
}

void pl_umfpack_forget(struct pl_symbolic *s) {
  if (s->umfpack) umfpack_di_free_symbolic(&s->umfpack);
}

static double logdet(pl_context *c, pl_factor *f, double *sign) {
  (void)c;
  double mantissa = 1, exponent = 0, info[UMFPACK_INFO];
  umfpack_di_get_determinant(&mantissa, &exponent, f->umfpack, info);
  *sign = mantissa < 0 ? -1 : 1;
  return log(fabs(mantissa)) + exponent * log(10);
}

const pl_method pl_method_umfpack = {"UMFPACK", factor, solve, free_numeric, logdet};
#endif
