/* augmented.c: least squares where the build has no SPQR, by the augmented system (A. Bjorck, Numerical methods for
 * least squares problems, SIAM, 1996, section 2.5.3), [I  A] [r]   [b]                                         [I  A]
 * [u]   [0] [A' 0] [x] = [0]:  x = A^+ b, r = b - A x;   and with    [A' 0] [v] = [y]:  u = A^+' y, which is regular
 * exactly if A has full column rank. */
#include "least_squares.h"

#include "factor.h"
#ifndef PL_HAVE_GPL
#include <string.h>

typedef struct {
  pl_resource base;
  pl_pattern *pattern, *whole; /* held */
  double *values;              /* of the augmented matrix */
  pl_resource *of;             /* its factor */
} factor;

static void destroy(pl_context *c, pl_resource *r) {
  factor *f = (factor *)r;
  if (f->of) f->of->destroy(c, f->of);
  pl_memory_free(c, f->values);
  pl_object_release((pl_object *)f->whole);
  pl_object_release(&f->pattern->base);
  pl_memory_free(c, f);
}

/* [I A; A' 0] and its values. */
static bool augment(pl_context *c, factor *f, const double *values) {
  pl_pattern *p = f->pattern;
  int64_t n = (int64_t)p->rows + p->cols, nnz = (int64_t)p->rows + 2 * (int64_t)p->nnz;
  if (n > INT32_MAX - 1 || nnz > INT32_MAX - 1) {
    pl_error(c, PL_ERROR_SHAPE, "lstsq: the matrix {%d, %d} is too large", p->rows, p->cols);
    return false;
  }
  int32_t *ptr = pl_memory_new(c, (size_t)(n + 1) * sizeof *ptr),
          *col = pl_memory_new(c, (size_t)(nnz + 1) * sizeof *col);
  f->values = pl_memory_new(c, (size_t)(nnz + 1) * sizeof *f->values);
  bool ok = ptr && col && f->values && pl_pattern_columns(c, p);
  int32_t k = 0;
  if (ok) ptr[0] = 0;
  for (int32_t i = 0; ok && i < p->rows; i++) {
    col[k] = i;
    f->values[k++] = 1;
    for (int32_t e = p->row_ptr[i]; e < p->row_ptr[i + 1]; e++) {
      col[k] = p->rows + p->col[e];
      f->values[k++] = values[e];
    }
    ptr[i + 1] = k;
  }
  for (int32_t j = 0; ok && j < p->cols; j++) {
    for (int32_t t = p->col_ptr[j]; t < p->col_ptr[j + 1]; t++) {
      col[k] = p->row[t];
      f->values[k++] = values[p->ours[t]];
    }
    ptr[p->rows + j + 1] = k;
  }
  if (ok) f->whole = pl_pattern_new(c, (int32_t)n, (int32_t)n, ptr, col);
  pl_memory_free(c, ptr);
  pl_memory_free(c, col);
  return ok && f->whole;
}

pl_resource *pl_qr_factor(pl_context *c, pl_pattern *p, const double *values) {
  factor *f = pl_largest_entry(c, p, values) < 0 ? NULL : pl_memory_new(c, sizeof *f);
  if (!f) return NULL;
  *f = (factor){.base = {.destroy = destroy, .name = "least-squares factor"}, .pattern = p};
  pl_object_retain(&p->base);
  if (augment(c, f, values)) f->of = pl_direct_factor(c, f->whole, f->values, PL_SOLVER_KLU);
  if (f->of) return &f->base;
  if (c->status == PL_ERROR_NUMERIC) {
    c->status = PL_OK;
    pl_error(
        c, PL_ERROR_NUMERIC,
        "lstsq: the matrix's rank is less than %d: its %d unknowns (or equations, where these are fewer) depend on "
        "each other; leave some out, or add rows that keep the solution small",
        p->cols, p->cols);
  }
  destroy(c, &f->base);
  return NULL;
}

bool pl_qr_solve(pl_context *c, pl_resource *r, bool transpose, int64_t k, const double *b, double *x) {
  factor *f = (factor *)r;
  size_t m = (size_t)f->pattern->rows * (size_t)k, n = (size_t)f->pattern->cols * (size_t)k;
  double *work = pl_memory_new(c, (2 * (m + n) + 1) * sizeof *work), *y = work + m + n;
  if (!work) return false;
  memset(work, 0, (m + n) * sizeof *work);
  if (m + n) memcpy(transpose ? work + m : work, b, (transpose ? n : m) * sizeof *work);
  bool ok = pl_direct_solve(c, f->of, f->values, false, k, work, y);
  if (ok && m + n) memcpy(x, transpose ? y : y + m, (transpose ? m : n) * sizeof *x);
  pl_memory_free(c, work);
  return ok;
}

pl_pattern *pl_qr_pattern(pl_resource *r) { return ((factor *)r)->pattern; }
#endif
