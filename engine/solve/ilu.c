/* ilu.c: incomplete factors without fill: L U and L L' on the matrix's own pattern (J. A. Meijerink and H. A. van der
 * Vorst, Mathematics of Computation 31, 1977; Y. Saad, Iterative methods for sparse linear systems, SIAM 2003, section
 * 10.3). Where L L' meets a pivot that is not positive, it is that of A + s diag(A) for the first s that helps (T. A.
 * Manteuffel, Mathematics of Computation 34, 1980). One thread: rows wait for each other. */
#include <math.h>
#include <string.h>

#include "precondition.h"

typedef struct {
  pl_preconditioner base;
  pl_pattern *pattern; /* held */
  double *lu;          /* in the pattern's order; of L L' the lower triangle */
  int32_t *diagonal;   /* places */
} incomplete;

enum { POLL = 1 << 12 }; /* rows between two questions whether to stop */

static void destroy(pl_context *c, pl_resource *r) {
  incomplete *f = (incomplete *)r;
  pl_memory_free(c, f->lu);
  pl_memory_free(c, f->diagonal);
  pl_object_release(&f->pattern->base);
  pl_memory_free(c, f);
}

static bool stop(pl_context *c, int32_t i) { return i % POLL == 0 && pl_interrupted(c); }

/* (L U) z = r with L's diagonal 1, or its transpose */
static void ilu_apply(pl_context *c, pl_preconditioner *m, bool transpose, const double *r, double *z) {
  const incomplete *f = (const incomplete *)m;
  const int32_t *ptr = f->pattern->row_ptr, *col = f->pattern->col, *diagonal = f->diagonal;
  int32_t n = m->n;
  memcpy(z, r, (size_t)n * sizeof *z);
  if (!transpose) {
    for (int32_t i = 0; i < n && !stop(c, i); i++)
      for (int32_t k = ptr[i]; k < diagonal[i]; k++) z[i] -= f->lu[k] * z[col[k]];
    for (int32_t i = n - 1; i >= 0 && !stop(c, i); i--) {
      for (int32_t k = diagonal[i] + 1; k < ptr[i + 1]; k++) z[i] -= f->lu[k] * z[col[k]];
      z[i] /= f->lu[diagonal[i]];
    }
    return;
  }
  for (int32_t i = 0; i < n && !stop(c, i); i++) {
    z[i] /= f->lu[diagonal[i]];
    for (int32_t k = diagonal[i] + 1; k < ptr[i + 1]; k++) z[col[k]] -= f->lu[k] * z[i];
  }
  for (int32_t i = n - 1; i >= 0 && !stop(c, i); i--)
    for (int32_t k = ptr[i]; k < diagonal[i]; k++) z[col[k]] -= f->lu[k] * z[i];
}

static void ichol_apply(pl_context *c, pl_preconditioner *m, bool transpose, const double *r, double *z) {
  const incomplete *f = (const incomplete *)m;
  const int32_t *ptr = f->pattern->row_ptr, *col = f->pattern->col, *diagonal = f->diagonal;
  (void)transpose; /* symmetric */
  memcpy(z, r, (size_t)m->n * sizeof *z);
  for (int32_t i = 0; i < m->n && !stop(c, i); i++) {
    for (int32_t k = ptr[i]; k < diagonal[i]; k++) z[i] -= f->lu[k] * z[col[k]];
    z[i] /= f->lu[diagonal[i]];
  }
  for (int32_t i = m->n - 1; i >= 0 && !stop(c, i); i--) {
    z[i] /= f->lu[diagonal[i]];
    for (int32_t k = ptr[i]; k < diagonal[i]; k++) z[col[k]] -= f->lu[k] * z[i];
  }
}

/* With the places of the diagonal; lu is not filled. */
static incomplete *incomplete_new(pl_context *c, pl_pattern *p, const double *values, pl_preconditioner_kind kind,
                                  const char *who) {
  incomplete *f = pl_memory_new(c, sizeof *f);
  if (!f) return NULL;
  *f = (incomplete){.base = {.base = {.destroy = destroy, .name = "preconditioner"}, .kind = kind, .n = p->rows},
                    .pattern = p};
  pl_object_retain(&p->base);
  f->base.apply = kind == PL_PRECONDITION_ILU ? ilu_apply : ichol_apply;
  f->lu = pl_memory_new(c, ((size_t)p->nnz + (size_t)p->rows + 1) * sizeof *f->lu);
  f->diagonal = pl_memory_new(c, ((size_t)p->rows + 1) * sizeof *f->diagonal);
  if (f->lu && f->diagonal && pl_diagonal(c, p, values, who, f->lu)) {
    for (int32_t i = 0; i < p->rows; i++) {
      f->diagonal[i] = p->row_ptr[i];
      while (p->col[f->diagonal[i]] != i) f->diagonal[i]++;
    }
    return f;
  }
  destroy(c, &f->base.base);
  return NULL;
}

static bool factor_lu(pl_context *c, incomplete *f, const double *values, int32_t *place) {
  const pl_pattern *p = f->pattern;
  const int32_t *ptr = p->row_ptr, *col = p->col;
  memcpy(f->lu, values, (size_t)p->nnz * sizeof *values);
  for (int32_t j = 0; j < p->cols; j++) place[j] = -1;
  for (int32_t i = 0; i < p->rows; i++) {
    if (stop(c, i)) return false;
    for (int32_t k = ptr[i]; k < ptr[i + 1]; k++) place[col[k]] = k;
    for (int32_t k = ptr[i]; k < f->diagonal[i]; k++) {
      int32_t row = col[k];
      double l = f->lu[k] /= f->lu[f->diagonal[row]];
      for (int32_t t = f->diagonal[row] + 1; t < ptr[row + 1]; t++)
        if (place[col[t]] >= 0) f->lu[place[col[t]]] -= l * f->lu[t];
    }
    for (int32_t k = ptr[i]; k < ptr[i + 1]; k++) place[col[k]] = -1;
    double pivot = f->lu[f->diagonal[i]];
    if (pivot == 0 || !isfinite(pivot)) {
      pl_error(c, PL_ERROR_NUMERIC,
               "ilu: the pivot of row %d is %g; number the unknowns in another order, or use jacobi or multigrid",
               i + 1, pivot);
      return false;
    }
  }
  return true;
}

pl_preconditioner *pl_ilu(pl_context *c, pl_pattern *p, const double *values, const pl_precondition_setup *o) {
  (void)o;
  incomplete *f = incomplete_new(c, p, values, PL_PRECONDITION_ILU, "ilu");
  int32_t *place = f ? pl_memory_new(c, ((size_t)p->cols + 1) * sizeof *place) : NULL;
  bool ok = place && factor_lu(c, f, values, place);
  pl_memory_free(c, place);
  if (ok) return &f->base;
  if (f) destroy(c, &f->base.base);
  return NULL;
}

/* The first row whose pivot is not positive, n if there is none, -1 when stopped. */
static int32_t factor_ll(pl_context *c, incomplete *f, const double *values, double shift) {
  const pl_pattern *p = f->pattern;
  const int32_t *ptr = p->row_ptr, *col = p->col;
  double *l = f->lu;
  for (int32_t i = 0; i < p->rows; i++) {
    if (stop(c, i)) return -1;
    double pivot = values[f->diagonal[i]] * (1 + shift);
    for (int32_t k = ptr[i]; k < f->diagonal[i]; k++) {
      int32_t row = col[k], s = ptr[i], t = ptr[row], end = f->diagonal[row];
      double sum = values[k];
      while (s < k && t < end) { /* two sorted rows */
        if (col[s] == col[t]) sum -= l[s] * l[t];
        int32_t a = col[s], b = col[t];
        s += a <= b;
        t += b <= a;
      }
      l[k] = sum / l[end];
      pivot -= l[k] * l[k];
    }
    if (!(pivot > 0) || isinf(pivot)) return i;
    l[f->diagonal[i]] = sqrt(pivot);
  }
  return p->rows;
}

pl_preconditioner *pl_ichol(pl_context *c, pl_pattern *p, const double *values, const pl_precondition_setup *o) {
  (void)o;
  incomplete *f = incomplete_new(c, p, values, PL_PRECONDITION_ICHOL, "ichol");
  if (!f) return NULL;
  int32_t row = -1;
  for (double shift = 0; shift < 100; shift = shift == 0 ? 1e-3 : 2 * shift) {
    row = factor_ll(c, f, values, shift);
    if (row == p->rows) return &f->base;
    if (row < 0 || !(values[f->diagonal[row]] > 0)) break; /* no shift helps */
  }
  if (row >= 0)
    pl_error(
        c, PL_ERROR_NUMERIC,
        "ichol: the pivot of row %d is not positive, for any shift of the diagonal, whose entry there is %g; is the "
        "matrix positive definite? Use ilu where it is not",
        row + 1, values[f->diagonal[row]]);
  destroy(c, &f->base.base);
  return NULL;
}
