/* direct.c: which direct solver, and what all of them need: checks of the matrix, memory, right-hand sides by columns.
 * The choice depends on pattern and values alone (measured: docs/design.md, "As built"). */
#include "factor.h"

#include <btf.h>
#include <cblas.h>
#include <math.h>
#include <omp.h>
#include <string.h>

/* ---- what depends on the pattern ---- */

void pl_symbolic_free(pl_context *c, struct pl_symbolic *s) {
  klu_free_symbolic(&s->klu_symbolic, &s->klu);
#ifdef PL_HAVE_GPL
  pl_umfpack_forget(s);
  pl_cholmod_forget(s);
#endif
  pl_memory_free(c, s);
}

static struct pl_symbolic *symbolic(pl_context *c, pl_pattern *p) {
  if (!p->symbolic && (p->symbolic = pl_memory_new(c, sizeof *p->symbolic))) {
    memset(p->symbolic, 0, sizeof *p->symbolic);
    klu_defaults(&p->symbolic->klu);
  }
  return p->symbolic;
}

/* The first row that no permutation brings a diagonal entry to, by a maximum matching; -1: there is none. */
static int32_t unmatched_row(pl_context *c, const pl_pattern *p) {
  int32_t n = p->rows, found = -1;
  int32_t *work = pl_memory_new(c, (size_t)n * 7 * sizeof *work), *match = work + 5 * (int64_t)n, *seen = match + n;
  if (!work) return -1;
  double flops;
  if (btf_maxtrans(n, n, p->row_ptr, p->col, 0, &flops, match, work) < n) {
    memset(seen, 0, (size_t)n * sizeof *seen);
    for (int32_t j = 0; j < n; j++)
      if (match[j] >= 0) seen[match[j]] = 1;
    for (found = 0; found < n && seen[found];) found++;
  }
  pl_memory_free(c, work);
  return found;
}

/* Bandwidths and symmetry; a structure that is singular whatever the values is an error. */
static bool inspect(pl_context *c, pl_pattern *p, struct pl_symbolic *s) {
  if (s->known) return true;
  int32_t diagonals = 0;
  s->lower = s->upper = 0;
  for (int32_t i = 0; i < p->rows; i++) {
    int32_t first = p->row_ptr[i], last = p->row_ptr[i + 1] - 1;
    if (first > last) return pl_singular(c, p, i, "it has no entry");
    if (i - p->col[first] > s->lower) s->lower = i - p->col[first];
    if (p->col[last] - i > s->upper) s->upper = p->col[last] - i;
    for (int32_t k = first; k <= last; k++) diagonals += p->col[k] == i;
  }
  s->has_diagonal = diagonals == p->rows;
  int32_t row = s->has_diagonal ? -1 : unmatched_row(c, p);
  if (row >= 0)
    return pl_singular(c, p, row, "whatever its values: these rows have entries in fewer columns than they are");
  if (c->status || !pl_pattern_columns(c, p)) return false;
  s->symmetric = !memcmp(p->row_ptr, p->col_ptr, ((size_t)p->rows + 1) * sizeof *p->row_ptr) &&
                 !memcmp(p->col, p->row, (size_t)p->nnz * sizeof *p->col);
  return s->known = true;
}

/* ---- errors ---- */

bool pl_singular(pl_context *c, const pl_pattern *p, int64_t row, const char *why) {
  pl_error(c, PL_ERROR_NUMERIC,
           "the matrix {%d, %d} is singular at row %lld (%s): is an equation missing, given twice, or a boundary value "
           "free? "
           "A pure Neumann problem needs one fixed value, or nullspace = \"constant\"",
           p->rows, p->cols, (long long)row + 1, why);
  return false;
}

bool pl_pivots_differ(pl_context *c, const pl_pattern *p, int64_t row, double ratio) {
  char why[80];
  snprintf(why, sizeof why, "to working precision: pivots differ by %.1e", ratio);
  return pl_singular(c, p, row, why);
}

bool pl_indefinite(pl_context *c, const pl_pattern *p, int64_t row) {
  pl_error(c, PL_ERROR_NUMERIC,
           "the matrix {%d, %d} is not positive definite: the pivot of row %lld is not positive; without `definite` it "
           "is solved as a general one",
           p->rows, p->cols, (long long)row + 1);
  return false;
}

bool pl_solver_memory(pl_context *c, const char *library) {
  pl_error(c, PL_ERROR_MEMORY, "%s is out of memory for the matrix's factor", library);
  return false;
}

double pl_largest_entry(pl_context *c, const pl_pattern *p, const double *values) {
  double most = 0;
  for (int32_t k = 0; k < p->nnz; k++) {
    double x = fabs(values[k]);
    if (!(x <= 1.7976931348623157e308)) {
      int32_t row = 0;
      while (p->row_ptr[row + 1] <= k) row++;
      pl_error(c, PL_ERROR_NUMERIC, "solve: the matrix's entry in row %d, column %d is %g", row + 1, p->col[k] + 1,
               isnan(values[k]) ? x : values[k]); /* without NaN's sign */
      return -1;
    }
    if (x > most) most = x;
  }
  return most;
}

/* Is A = A', each pair to `relative` of itself or to `absolute`? Else the pair's row and column. Entries that have no
 * partner count as pairs with 0. */
static bool is_symmetric(const pl_pattern *p, const double *values, double relative, double absolute, int32_t *row,
                         int32_t *col, double *above, double *below) {
  const struct pl_symbolic *s = p->symbolic;
  for (int32_t i = 0; i < p->rows; i++) {
    int32_t k = p->row_ptr[i], l = p->col_ptr[i], k_end = p->row_ptr[i + 1], l_end = p->col_ptr[i + 1];
    while (k < k_end || l < l_end) {
      int32_t a = k < k_end ? p->col[k] : INT32_MAX, b = s->symmetric ? a : l < l_end ? p->row[l] : INT32_MAX;
      double x = a <= b ? values[k++] : 0, y = b <= a ? values[p->ours[l++]] : 0;
      if (fabs(x - y) <= relative * (fabs(x) + fabs(y)) || fabs(x - y) <= absolute) continue;
      *row = i, *col = a < b ? a : b;
      *above = x, *below = y;
      return false;
    }
  }
  return true;
}

static bool check_symmetric(pl_context *c, const pl_pattern *p, const double *values, double most, bool definite) {
  int32_t i, j;
  double x, y;
  if (is_symmetric(p, values, 1e-10, 1e-13 * most, &i, &j, &x, &y)) return true;
  pl_error(c, PL_ERROR_NUMERIC,
           "the matrix {%d, %d} is not symmetric: entry (%d, %d) is %.9g, entry (%d, %d) is %.9g; without `%s` it is "
           "solved as a general one",
           p->rows, p->cols, i + 1, j + 1, x, j + 1, i + 1, y, definite ? "definite" : "symmetric");
  return false;
}

bool pl_direct_check(pl_context *c, pl_pattern *p, const double *values, const char *name) {
  double most = pl_largest_entry(c, p, values);
  struct pl_symbolic *s = most < 0 ? NULL : symbolic(c, p);
  if (!s || !inspect(c, p, s)) return false;
  int32_t i, j;
  double x, y;
  if (is_symmetric(p, values, 1e-10, 1e-13 * most, &i, &j, &x, &y)) return true;
  pl_error(c, PL_ERROR_NUMERIC, "eigsh: %s is not symmetric: entry (%d, %d) is %.9g, entry (%d, %d) is %.9g", name,
           i + 1, j + 1, x, j + 1, i + 1, y);
  return false;
}

/* ---- threads ---- */

pl_thread_setting pl_few_threads(double flops) {
  pl_thread_setting old = {openblas_get_num_threads(), omp_get_max_active_levels()};
  if (flops < 5e10) {
    openblas_set_num_threads(1);
    omp_set_max_active_levels(0);
  }
  return old;
}

void pl_restore_threads(pl_thread_setting old) {
  openblas_set_num_threads(old.blas);
  omp_set_max_active_levels(old.levels);
}

/* ---- the choice ---- */

static const pl_method *const methods[PL_SOLVERS] = {
    [PL_SOLVER_KLU] = &pl_method_klu,
#ifdef PL_HAVE_GPL
    [PL_SOLVER_UMFPACK] = &pl_method_umfpack,
    [PL_SOLVER_CHOLMOD] = &pl_method_cholmod,
    [PL_SOLVER_LDL] = &pl_method_ldl,
#endif
    [PL_SOLVER_TRIDIAGONAL] = &pl_method_tridiagonal,
    [PL_SOLVER_BANDED] = &pl_method_banded,
    [PL_SOLVER_DENSE] = &pl_method_dense,
};

typedef struct {
  pl_solver method;
  bool definite;
  const char *why;
} candidate;

/* Methods to try, the best first; how many. Those for large matrices: */
#ifdef PL_HAVE_GPL
static int large_candidates(pl_context *c, pl_pattern *p, const double *values, pl_solver asked, candidate *list) {
  enum { KLU_FLOPS = 50000000 };
  const struct pl_symbolic *s = p->symbolic;
  bool symmetric = asked & PL_SOLVER_SYMMETRIC, positive = s->has_diagonal;
  int n = 0;
  if (asked & PL_SOLVER_DEFINITE) {
    list[n++] = (candidate){PL_SOLVER_CHOLMOD, true, "it is said to be definite"};
    return n;
  }
  if (!symmetric) {
    int32_t i, j;
    double x, y;
    symmetric = s->symmetric && s->has_diagonal && is_symmetric(p, values, 1e-14, 0, &i, &j, &x, &y);
  }
  for (int32_t i = 0; symmetric && positive && i < p->rows; i++)
    for (int32_t k = p->row_ptr[i]; k < p->row_ptr[i + 1]; k++)
      if (p->col[k] == i) positive = values[k] > 0;
  if (symmetric && positive)
    list[n++] = (candidate){PL_SOLVER_CHOLMOD, true, "it is symmetric with a positive diagonal"};
  if (asked & PL_SOLVER_SYMMETRIC) list[n++] = (candidate){PL_SOLVER_LDL, false, "it is said to be symmetric"};
  if (!pl_klu_analyse(c, p)) return 0;
  list[n++] = s->klu_symbolic->est_flops > KLU_FLOPS
                  ? (candidate){PL_SOLVER_UMFPACK, false, "it fills: dense kernels pay"}
                  : (candidate){PL_SOLVER_KLU, false, "its factors stay sparse"};
  return n;
}
#else
static int large_candidates(pl_context *c, pl_pattern *p, const double *values, pl_solver asked, candidate *list) {
  (void)c, (void)p, (void)values, (void)asked;
  list[0] = (candidate){PL_SOLVER_KLU, false, "this build has no CHOLMOD and UMFPACK"};
  return 1;
}
#endif
static int candidates(pl_context *c, pl_pattern *p, const double *values, pl_solver asked, candidate *list) {
  pl_solver method = asked & 0xff;
  bool definite = asked & PL_SOLVER_DEFINITE;
  if (method != PL_SOLVER_AUTO && !methods[method]) return large_candidates(c, p, values, asked, list);
  enum { SMALL = 16, MIDDLE = 100, DENSE = 1000, NARROW = 8, WIDE = 32 };
  const struct pl_symbolic *s = p->symbolic;
  double full = (double)p->nnz / p->rows / p->rows, band = (double)p->nnz / p->rows / (s->lower + s->upper + 1);
  if (method != PL_SOLVER_AUTO) list[0] = (candidate){method, definite, ""};
  else if (p->rows <= SMALL || (p->rows <= DENSE && full > (p->rows < MIDDLE ? 0.2 : 0.05)))
    list[0] = (candidate){PL_SOLVER_DENSE, definite, "it is small or full"};
  else if (s->lower <= 1 && s->upper <= 1) list[0] = (candidate){PL_SOLVER_TRIDIAGONAL, definite, "it is tridiagonal"};
  else if (s->lower <= (band > 0.5 ? WIDE : NARROW) && s->upper <= (band > 0.5 ? WIDE : NARROW))
    list[0] = (candidate){PL_SOLVER_BANDED, definite, "its band is narrow"};
  else return large_candidates(c, p, values, asked, list);
  return 1;
}

static void destroy(pl_context *c, pl_resource *r) {
  pl_factor *f = (pl_factor *)r;
  if (methods[f->method]) methods[f->method]->free(c, f);
  pl_memory_count(c, -f->base.bytes);
  pl_object_release(&f->pattern->base);
  pl_memory_free(c, f);
}

static pl_factor *attempt(pl_context *c, pl_pattern *p, const double *values, candidate by) {
  pl_factor *f = pl_memory_new(c, sizeof *f);
  if (!f) return NULL;
  *f = (pl_factor){.base = {.destroy = destroy, .name = "matrix factor"},
                   .pattern = p,
                   .method = by.method,
                   .definite = by.definite,
                   .why = by.why};
  pl_object_retain(&p->base);
  bool ok = p->rows == 0 || methods[by.method]->factor(c, f, values);
  int64_t bytes = f->base.bytes;
  f->base.bytes = 0;
  if (ok && (ok = pl_memory_count(c, bytes))) f->base.bytes = bytes;
  if (ok) return f;
  destroy(c, &f->base);
  return NULL;
}

pl_resource *pl_direct_factor(pl_context *c, pl_pattern *p, const double *values, pl_solver asked) {
  if (p->rows != p->cols) {
    pl_error(c, PL_ERROR_SHAPE, "solve: the matrix {%d, %d} is not square", p->rows, p->cols);
    return NULL;
  }
  pl_solver method = asked & 0xff;
  if (asked & ~(0xff | PL_SOLVER_SYMMETRIC | PL_SOLVER_DEFINITE) || method >= PL_SOLVERS) {
    pl_error(c, PL_ERROR_ARGUMENT, "solve: there is no direct solver %d", (int)asked);
    return NULL;
  }
  if (method == PL_SOLVER_CHOLMOD) asked |= PL_SOLVER_DEFINITE;
  if (method == PL_SOLVER_LDL) asked |= PL_SOLVER_SYMMETRIC;
  double most = pl_largest_entry(c, p, values);
  struct pl_symbolic *s = most < 0 ? NULL : symbolic(c, p);
  if (!s || !inspect(c, p, s)) return NULL;
  if (method == PL_SOLVER_TRIDIAGONAL && (s->lower > 1 || s->upper > 1)) {
    pl_error(c, PL_ERROR_ARGUMENT,
             "solve: the matrix {%d, %d} is not tridiagonal: its band reaches %d below and %d above", p->rows, p->cols,
             s->lower, s->upper);
    return NULL;
  }
  if (asked & (PL_SOLVER_DEFINITE | PL_SOLVER_SYMMETRIC) &&
      !check_symmetric(c, p, values, most, asked & PL_SOLVER_DEFINITE))
    return NULL;
  candidate list[4];
  int n = candidates(c, p, values, asked, list);
  pl_factor *f = NULL;
  for (int k = 0; k < n && !f; k++) {
    f = attempt(c, p, values, list[k]);
    if (f || c->status != PL_ERROR_NUMERIC || k + 1 == n) break;
    pl_clear(c); /* not definite, or not stable without pivoting: the next */
  }
  return f ? &f->base : NULL;
}

pl_pattern *pl_direct_pattern(pl_resource *r) { return ((pl_factor *)r)->pattern; }

/* ---- solving ---- */

static void flip(int64_t n, int64_t k, const double *from, double *to) { /* {n, k} to {k, n} */
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < k; j++) to[j * n + i] = from[i * k + j];
}

bool pl_direct_solve(pl_context *c, pl_resource *r, const double *values, bool transpose, int64_t k, const double *b,
                     double *x) {
  pl_factor *f = (pl_factor *)r;
  int64_t n = f->pattern->rows;
  if (n == 0 || k == 0) return true;
  if (k == 1) return methods[f->method]->solve(c, f, values, transpose, k, b, x);
  double *work = pl_memory_new(c, (size_t)(2 * n * k) * sizeof *work);
  if (!work) return false;
  flip(n, k, b, work);
  bool ok = methods[f->method]->solve(c, f, values, transpose, k, work, work + n * k);
  if (ok) flip(k, n, work + n * k, x);
  pl_memory_free(c, work);
  return ok;
}

const char *pl_factor_name(pl_context *c, pl_value v) {
  pl_factor *f = (pl_factor *)pl_resource_get(c, v, "matrix factor");
  return f ? methods[f->method]->name : "";
}

const char *pl_factor_reason(pl_context *c, pl_value v) {
  pl_factor *f = (pl_factor *)pl_resource_get(c, v, "matrix factor");
  return f ? f->why : "";
}

double pl_direct_logdet(pl_context *c, pl_resource *r, double *sign) {
  pl_factor *f = (pl_factor *)r;
  *sign = 1;
  return f->pattern->rows ? methods[f->method]->logdet(c, f, sign) : 0;
}

/* ---- the inverse on the pattern ---- */

/* Column i of M for a block of i: solve, multiply, solve ... */
static bool chain(pl_context *c, pl_factor *f, const double *values, int m, const double *const *t, double *out) {
  const pl_pattern *p = f->pattern;
  enum { BLOCK = 32 };
  int64_t n = p->rows;
  double flops = (double)n * (m + 1) * (double)f->base.bytes / 4;
  if (flops > 4e12) {
    pl_error(c, PL_ERROR_NUMERIC,
             "logdet: this derivative needs %lld solves with a matrix {%d, %d}, %.1g operations: too many",
             (long long)n, p->rows, p->cols, flops);
    return false;
  }
  double *x = pl_memory_new(c, (size_t)n * 2 * BLOCK * sizeof *x), *y = x + n * BLOCK;
  for (int64_t from = 0; x && from < n && !pl_interrupted(c); from += BLOCK) {
    int64_t k = n - from < BLOCK ? n - from : BLOCK;
    memset(x, 0, (size_t)(n * k) * sizeof *x);
    for (int64_t j = 0; j < k; j++) x[j * n + from + j] = 1;
    for (int l = m; methods[f->method]->solve(c, f, values, false, k, x, y) && l > 0; l--)
      for (int64_t j = 0; j < k; j++)
        for (int64_t i = 0; i < n; i++) {
          double sum = 0;
          for (int32_t e = p->row_ptr[i]; e < p->row_ptr[i + 1]; e++) sum += t[l - 1][e] * y[j * n + p->col[e]];
          x[j * n + i] = sum;
        }
    for (int64_t j = 0; j < k; j++)
      for (int32_t e = p->row_ptr[from + j]; e < p->row_ptr[from + j + 1]; e++) out[e] = y[j * n + p->col[e]];
  }
  pl_memory_free(c, x);
  return c->status == PL_OK;
}

bool pl_direct_inverse(pl_context *c, pl_resource *r, const double *values, int m, const double *const *t,
                       double *out) {
  pl_factor *f = (pl_factor *)r, *own = NULL;
  if (f->pattern->rows == 0) return true;
  if (m > 0) return chain(c, f, values, m, t, out);
  bool symmetric = false;
#ifdef PL_HAVE_GPL
  symmetric = f->method == PL_SOLVER_CHOLMOD || f->method == PL_SOLVER_LDL;
#endif
  if (!symmetric && f->method != PL_SOLVER_KLU) /* of the others' factors the triangles are not to be had */
    f = own = attempt(c, f->pattern, values, (candidate){PL_SOLVER_KLU, false, ""});
  pl_triangles triangles = {0};
  bool ok = f != NULL;
#ifdef PL_HAVE_GPL
  if (symmetric) ok = pl_cholmod_triangles(c, f, &triangles);
  else
#endif
    ok = ok && pl_klu_triangles(c, f, &triangles);
  ok = ok && pl_selected_inverse(c, f->pattern, &triangles, out);
  pl_triangles_free(c, &triangles);
  if (own) destroy(c, &own->base);
  return ok;
}
