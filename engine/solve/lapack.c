/* lapack.c: tridiagonal, banded and small dense matrices by LAPACK, on one thread: its own threads change bits with
 * their number. Definite ones by Cholesky's method. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "factor.h"

/* Fortran: lengths of texts come last. */
extern void dgttrf_(const int *n, double *dl, double *d, double *du, double *du2, int *pivots, int *info);
extern void dgttrs_(const char *t, const int *n, const int *k, const double *dl, const double *d, const double *du,
                    const double *du2, const int *pivots, double *b, const int *ldb, int *info, size_t);
extern void dpttrf_(const int *n, double *d, double *e, int *info);
extern void dpttrs_(const int *n, const int *k, const double *d, const double *e, double *b, const int *ldb, int *info);
extern void dgbtrf_(const int *m, const int *n, const int *kl, const int *ku, double *a, const int *lda, int *pivots,
                    int *info);
extern void dgbtrs_(const char *t, const int *n, const int *kl, const int *ku, const int *k, const double *a,
                    const int *lda, const int *pivots, double *b, const int *ldb, int *info, size_t);
extern void dpbtrf_(const char *uplo, const int *n, const int *kd, double *a, const int *lda, int *info, size_t);
extern void dpbtrs_(const char *uplo, const int *n, const int *kd, const int *k, const double *a, const int *lda,
                    double *b, const int *ldb, int *info, size_t);
extern void dgetrf_(const int *m, const int *n, double *a, const int *lda, int *pivots, int *info);
extern void dgetrs_(const char *t, const int *n, const int *k, const double *a, const int *lda, const int *pivots,
                    double *b, const int *ldb, int *info, size_t);
extern void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info, size_t);
extern void dpotrs_(const char *uplo, const int *n, const int *k, const double *a, const int *lda, double *b,
                    const int *ldb, int *info, size_t);

/* Room for the factors, zeroed. */
static bool make_room(pl_context *c, pl_factor *f, int64_t count) {
  f->entries = pl_memory_new(c, (size_t)count * sizeof *f->entries);
  f->pivots = f->definite ? NULL : pl_memory_new(c, (size_t)f->pattern->rows * sizeof *f->pivots);
  if (!f->entries || (!f->definite && !f->pivots)) return false;
  memset(f->entries, 0, (size_t)count * sizeof *f->entries);
  return true;
}

static void free_entries(pl_context *c, pl_factor *f) {
  pl_memory_free(c, f->entries);
  pl_memory_free(c, f->pivots);
}

/* Pivot j is f->entries[at + j step]: of a Cholesky factor (squares: roots of pivots), or of U after the interchanges
 * `pivots`. One that is lost beside what its row and column held makes the matrix singular; rows and columns may be
 * scaled apart. */
static bool check_pivots(pl_context *c, pl_factor *f, const double *values, int64_t at, int64_t step, bool roots) {
  const pl_pattern *p = f->pattern;
  int32_t n = p->rows;
  double *row = pl_memory_new(c, (size_t)n * 2 * sizeof *row), *col = row + n;
  int32_t *order = row ? pl_memory_new(c, (size_t)n * sizeof *order) : NULL;
  bool ok = order != NULL;
  if (ok) memset(row, 0, (size_t)n * 2 * sizeof *row);
  for (int32_t i = 0; ok && i < n; i++) {
    order[i] = i;
    for (int32_t k = p->row_ptr[i]; k < p->row_ptr[i + 1]; k++) {
      row[i] = fmax(row[i], fabs(values[k]));
      col[p->col[k]] = fmax(col[p->col[k]], fabs(values[k]));
    }
  }
  for (int32_t j = 0; ok && j < n; j++) {
    if (f->pivots) {
      int32_t with = f->pivots[j] - 1, swap = order[j];
      order[j] = order[with];
      order[with] = swap;
    }
    double u = fabs(f->entries[at + j * step]), size = fmin(row[order[j]], col[j]);
    if (roots) u *= u;
    if (!(u > DBL_EPSILON * size)) {
      ok = u == 0 ? pl_singular(c, p, order[j], "a pivot is zero") : pl_pivots_differ(c, p, order[j], u / size);
    }
  }
  pl_memory_free(c, row);
  pl_memory_free(c, order);
  return ok;
}

/* info of a factorization: an error of Cholesky's names the row; a zero pivot is found by check_pivots. */
static bool definite_so_far(pl_context *c, const pl_factor *f, int info) {
  return !f->definite || info <= 0 || pl_indefinite(c, f->pattern, info - 1);
}

/* ---- tridiagonal: d, then what is above and below; general: a second row above, by interchanges ---- */

static bool factor_tridiagonal(pl_context *c, pl_factor *f, const double *values) {
  const pl_pattern *p = f->pattern;
  const int n = p->rows;
  if (!make_room(c, f, (f->definite ? 2 : 4) * (int64_t)n)) return false;
  double *d = f->entries, *du = d + n, *dl = f->definite ? NULL : du + n;
  for (int32_t i = 0; i < n; i++)
    for (int32_t k = p->row_ptr[i]; k < p->row_ptr[i + 1]; k++) {
      int32_t j = p->col[k];
      if (j == i) d[i] = values[k];
      else if (j > i) du[i] = values[k];
      else if (dl) dl[j] = values[k];
    }
  int info;
  if (f->definite) dpttrf_(&n, d, du, &info);
  else dgttrf_(&n, dl, d, du, dl + n, f->pivots, &info);
  f->base.bytes = (f->definite ? 2 : 4) * (int64_t)n * 8;
  return definite_so_far(c, f, info) && check_pivots(c, f, values, 0, 1, false);
}
static bool solve_tridiagonal(pl_context *c, pl_factor *f, const double *values, bool transpose, int64_t k,
                              const double *b, double *x) {
  (void)c, (void)values;
  const int n = f->pattern->rows, columns = (int)k;
  const double *d = f->entries, *du = d + n, *dl = du + n;
  int info;
  memcpy(x, b, (size_t)(n * k) * sizeof *x);
  if (f->definite) dpttrs_(&n, &columns, d, du, x, &n, &info);
  else dgttrs_(transpose ? "T" : "N", &n, &columns, dl, d, du, dl + n, f->pivots, x, &n, &info, 1);
  return true;
}

/* ---- banded: a_ij at row upper + i - j of column j (general: `lower` more rows in front, for interchanges) ---- */

static bool factor_banded(pl_context *c, pl_factor *f, const double *values) {
  const pl_pattern *p = f->pattern;
  const int n = p->rows, kl = p->symbolic->lower, ku = p->symbolic->upper;
  const int rows = f->definite ? kl + 1 : 2 * kl + ku + 1, diagonal = f->definite ? 0 : kl + ku;
  if (!make_room(c, f, (int64_t)rows * n)) return false;
  for (int32_t i = 0; i < n; i++)
    for (int32_t k = p->row_ptr[i]; k < p->row_ptr[i + 1]; k++) {
      int32_t j = p->col[k];
      if (!f->definite || j <= i) f->entries[(int64_t)j * rows + diagonal + i - j] = values[k];
    }
  int info;
  pl_thread_setting threads = pl_few_threads(0);
  if (f->definite) dpbtrf_("L", &n, &kl, f->entries, &rows, &info, 1);
  else dgbtrf_(&n, &n, &kl, &ku, f->entries, &rows, f->pivots, &info);
  pl_restore_threads(threads);
  f->base.bytes = (int64_t)rows * n * 8;
  return definite_so_far(c, f, info) && check_pivots(c, f, values, diagonal, rows, f->definite);
}
static bool solve_banded(pl_context *c, pl_factor *f, const double *values, bool transpose, int64_t k, const double *b,
                         double *x) {
  (void)c, (void)values;
  const int n = f->pattern->rows, kl = f->pattern->symbolic->lower, ku = f->pattern->symbolic->upper, columns = (int)k;
  const int rows = f->definite ? kl + 1 : 2 * kl + ku + 1;
  int info;
  memcpy(x, b, (size_t)(n * k) * sizeof *x);
  pl_thread_setting threads = pl_few_threads(0);
  if (f->definite) dpbtrs_("L", &n, &kl, &columns, f->entries, &rows, x, &n, &info, 1);
  else dgbtrs_(transpose ? "T" : "N", &n, &kl, &ku, &columns, f->entries, &rows, f->pivots, x, &n, &info, 1);
  pl_restore_threads(threads);
  return true;
}

/* ---- dense, by columns ---- */

static bool factor_dense(pl_context *c, pl_factor *f, const double *values) {
  const pl_pattern *p = f->pattern;
  const int n = p->rows;
  if (!make_room(c, f, (int64_t)n * n)) return false;
  for (int32_t i = 0; i < n; i++)
    for (int32_t k = p->row_ptr[i]; k < p->row_ptr[i + 1]; k++) f->entries[(int64_t)p->col[k] * n + i] = values[k];
  int info;
  pl_thread_setting threads = pl_few_threads(0);
  if (f->definite) dpotrf_("L", &n, f->entries, &n, &info, 1);
  else dgetrf_(&n, &n, f->entries, &n, f->pivots, &info);
  pl_restore_threads(threads);
  f->base.bytes = (int64_t)n * n * 8;
  return definite_so_far(c, f, info) && check_pivots(c, f, values, 0, (int64_t)n + 1, f->definite);
}
static bool solve_dense(pl_context *c, pl_factor *f, const double *values, bool transpose, int64_t k, const double *b,
                        double *x) {
  (void)c, (void)values;
  const int n = f->pattern->rows, columns = (int)k;
  int info;
  memcpy(x, b, (size_t)(n * k) * sizeof *x);
  pl_thread_setting threads = pl_few_threads(0);
  if (f->definite) dpotrs_("L", &n, &columns, f->entries, &n, x, &n, &info, 1);
  else dgetrs_(transpose ? "T" : "N", &n, &columns, f->entries, &n, f->pivots, x, &n, &info, 1);
  pl_restore_threads(threads);
  return true;
}

/* ---- determinants: pivots at + j step, squares of Cholesky's; an interchange changes the sign ---- */

static double logdet(pl_factor *f, int64_t at, int64_t step, bool roots, double *sign) {
  double sum = 0;
  *sign = 1;
  for (int32_t j = 0; j < f->pattern->rows; j++) {
    double u = f->entries[at + j * step];
    if (u < 0) *sign = -*sign;
    if (f->pivots && f->pivots[j] != j + 1) *sign = -*sign;
    sum += (roots ? 2 : 1) * log(fabs(u));
  }
  return sum;
}
static double logdet_tridiagonal(pl_context *c, pl_factor *f, double *sign) {
  (void)c;
  return logdet(f, 0, 1, false, sign);
}
static double logdet_banded(pl_context *c, pl_factor *f, double *sign) {
  (void)c;
  int64_t kl = f->pattern->symbolic->lower, ku = f->pattern->symbolic->upper;
  return f->definite ? logdet(f, 0, kl + 1, true, sign) : logdet(f, kl + ku, 2 * kl + ku + 1, false, sign);
}
static double logdet_dense(pl_context *c, pl_factor *f, double *sign) {
  (void)c;
  return logdet(f, 0, (int64_t)f->pattern->rows + 1, f->definite, sign);
}

const pl_method pl_method_tridiagonal = {"tridiagonal", factor_tridiagonal, solve_tridiagonal, free_entries,
                                         logdet_tridiagonal};
const pl_method pl_method_banded = {"banded", factor_banded, solve_banded, free_entries, logdet_banded};
const pl_method pl_method_dense = {"dense", factor_dense, solve_dense, free_entries, logdet_dense};
