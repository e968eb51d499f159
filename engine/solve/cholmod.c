/* cholmod.c: CHOLMOD's Cholesky factorization LL' of definite matrices, by supernodes where that pays, and its LDL' of
 * symmetric ones (Y. Chen, T. Davis, W. Hager, S. Rajamanickam, ACM TOMS 35, 2008). LDL' does not pivot: it is exact
 * for quasi-definite matrices; for others the factor is tried on a vector before it is trusted. */
#ifdef PL_HAVE_GPL
#include <cholmod.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "factor.h"

/* A view of our arrays; only one triangle is read. */
static cholmod_sparse view(pl_pattern *p, const double *values) {
  return (cholmod_sparse){.nrow = (size_t)p->rows,
                          .ncol = (size_t)p->cols,
                          .nzmax = (size_t)p->nnz,
                          .p = p->row_ptr,
                          .i = p->col,
                          .x = (double *)values,
                          .stype = -1,
                          .itype = CHOLMOD_INT,
                          .xtype = values ? CHOLMOD_REAL : CHOLMOD_PATTERN,
                          .dtype = CHOLMOD_DOUBLE,
                          .sorted = 1,
                          .packed = 1};
}

static void start(struct pl_symbolic *s) {
  if (s->cholmod_started) return;
  cholmod_start(&s->cholmod);
  s->cholmod.print = 0;
  s->cholmod.quick_return_if_not_posdef = 1;
  s->cholmod_started = true;
}

/* Analyses once and factors; `ll`: so that what is not positive definite is found. */
static bool factorize(pl_context *c, pl_factor *f, const double *values, bool ll) {
  pl_pattern *p = f->pattern;
  struct pl_symbolic *s = p->symbolic;
  start(s);
  cholmod_common *m = &s->cholmod;
  m->final_ll = ll;
  m->supernodal = ll ? CHOLMOD_AUTO : CHOLMOD_SIMPLICIAL;
  cholmod_factor **analysed = ll ? &s->cholmod_symbolic : &s->ldl_symbolic;
  if (!*analysed) {
    c->analyses++;
    cholmod_sparse structure = view(p, NULL);
    if (!(*analysed = cholmod_analyze(&structure, m))) return pl_solver_memory(c, "CHOLMOD");
  }
  f->cholmod = cholmod_copy_factor(*analysed, m);
  cholmod_sparse a = view(p, values);
  pl_thread_setting threads = pl_few_threads(m->fl);
  bool done = f->cholmod && cholmod_factorize(&a, f->cholmod, m);
  pl_restore_threads(threads);
  if (!done) return pl_solver_memory(c, "CHOLMOD");
  f->base.bytes =
      (int64_t)(f->cholmod->is_super ? f->cholmod->xsize * 8 + f->cholmod->ssize * 4 : f->cholmod->nzmax * 12);
  return true;
}

/* The row whose pivot failed, or -1. */
static int64_t failed_row(const pl_factor *f) {
  const cholmod_factor *l = f->cholmod;
  return l->minor < l->n ? ((const int *)l->Perm)[l->minor] : -1;
}

static bool factor_ll(pl_context *c, pl_factor *f, const double *values) {
  if (!factorize(c, f, values, true)) return false;
  int64_t row = failed_row(f);
  if (row >= 0) return pl_indefinite(c, f->pattern, row);
  double rcond = cholmod_rcond(f->cholmod, &f->pattern->symbolic->cholmod);
  if (!(rcond > DBL_EPSILON)) {
    const int *perm = f->cholmod->Perm;
    return pl_pivots_differ(c, f->pattern, perm[f->pattern->rows - 1], rcond);
  }
  return true;
}

static bool solve(pl_context *c, pl_factor *f, const double *values, bool transpose, int64_t k, const double *b,
                  double *x) {
  (void)values, (void)transpose;
  struct pl_symbolic *s = f->pattern->symbolic;
  size_t n = (size_t)f->pattern->rows, count = n * (size_t)k;
  cholmod_dense rhs = {.nrow = n,
                       .ncol = (size_t)k,
                       .nzmax = count,
                       .d = n,
                       .x = (double *)b,
                       .xtype = CHOLMOD_REAL,
                       .dtype = CHOLMOD_DOUBLE};
  if (!cholmod_solve2(CHOLMOD_A, f->cholmod, &rhs, NULL, &s->x, NULL, &s->y, &s->e, &s->cholmod))
    return pl_solver_memory(c, "CHOLMOD");
  memcpy(x, s->x->x, count * sizeof *x);
  return true;
}

/* Backward error of a solve whose solution is 1, -1, 1 ...: is it that of a stable factorization? */
static bool trusted(pl_context *c, pl_factor *f, const double *values) {
  const pl_pattern *p = f->pattern;
  int32_t n = p->rows;
  double *b = pl_memory_new(c, (size_t)n * 2 * sizeof *b), *x = b + n;
  double error = INFINITY, norm = 0, size = 0, residual = 0;
  if (b) {
    for (int32_t i = 0; i < n; i++) {
      double sum = 0, row = 0;
      for (int32_t k = p->row_ptr[i]; k < p->row_ptr[i + 1]; k++) {
        sum += p->col[k] & 1 ? -values[k] : values[k];
        row += fabs(values[k]);
      }
      b[i] = sum;
      norm = fmax(norm, row);
    }
    if (solve(c, f, values, false, 1, b, x)) {
      for (int32_t i = 0; i < n; i++) {
        double r = b[i];
        for (int32_t k = p->row_ptr[i]; k < p->row_ptr[i + 1]; k++) r -= values[k] * x[p->col[k]];
        residual = isfinite(r) ? fmax(residual, fabs(r)) : INFINITY;
        size = fmax(size, fabs(x[i]));
      }
      error = residual / (norm * (size + 1));
    }
  }
  pl_memory_free(c, b);
  return error <= 1e-13;
}

static bool factor_ldl(pl_context *c, pl_factor *f, const double *values) {
  if (!factorize(c, f, values, false)) return false;
  int64_t row = failed_row(f);
  if (row >= 0) {
    pl_error(c, PL_ERROR_NUMERIC,
             "LDL' without pivoting fails: the pivot of row %lld is zero, so the matrix {%d, %d} is singular or needs "
             "pivoting; leave the method out, and it is solved by LU where that is so",
             (long long)row + 1, f->pattern->rows, f->pattern->cols);
    return false;
  }
  if (!trusted(c, f, values)) {
    if (c->status == PL_OK)
      pl_error(c, PL_ERROR_NUMERIC,
               "LDL' without pivoting is not accurate for this matrix {%d, %d}; leave the method out, and it is solved "
               "by LU",
               f->pattern->rows, f->pattern->cols);
    return false;
  }
  return true;
}

static void free_numeric(pl_context *c, pl_factor *f) {
  (void)c;
  if (f->cholmod) cholmod_free_factor(&f->cholmod, &f->pattern->symbolic->cholmod);
}

void pl_cholmod_forget(struct pl_symbolic *s) {
  if (!s->cholmod_started) return;
  cholmod_free_factor(&s->cholmod_symbolic, &s->cholmod);
  cholmod_free_factor(&s->ldl_symbolic, &s->cholmod);
  cholmod_free_dense(&s->x, &s->cholmod);
  cholmod_free_dense(&s->y, &s->cholmod);
  cholmod_free_dense(&s->e, &s->cholmod);
  cholmod_finish(&s->cholmod);
}

static double logdet(pl_context *c, pl_factor *f, double *sign) {
  (void)c;
  const cholmod_factor *l = f->cholmod;
  const double *x = l->x;
  double sum = 0;
  *sign = 1;
  if (l->is_super) {
    const int *super = l->super, *pi = l->pi, *px = l->px;
    for (size_t s = 0; s < l->nsuper; s++)
      for (int j = 0, rows = pi[s + 1] - pi[s]; j < super[s + 1] - super[s]; j++)
        sum += 2 * log(x[px[s] + j * rows + j]);
    return sum;
  }
  const int *p = l->p;
  for (size_t j = 0; j < l->n; j++) {
    double d = x[p[j]];
    if (d < 0) *sign = -*sign;
    sum += (l->is_ll ? 2 : 1) * log(fabs(d));
  }
  return sum;
}

bool pl_cholmod_triangles(pl_context *c, pl_factor *f, pl_triangles *t) {
  struct pl_symbolic *s = f->pattern->symbolic;
  int32_t n = f->pattern->rows;
  cholmod_factor *l = cholmod_copy_factor(f->cholmod, &s->cholmod);
  bool ok = (l && cholmod_change_factor(CHOLMOD_REAL, false, false, true, true, l, &s->cholmod)) ||
            pl_solver_memory(c, "CHOLMOD");
  const int *p = ok ? l->p : NULL, *row = ok ? l->i : NULL, *nz = ok ? l->nz : NULL;
  const double *x = ok ? l->x : NULL;
  ok = ok && pl_triangles_new(c, t, n, (int64_t)l->nzmax, -1);
  int32_t at = 0;
  for (int32_t j = 0; ok && j < n; j++) {
    t->d[j] = x[p[j]];
    t->l_ptr[j] = at;
    for (int e = p[j] + 1; e < p[j] + nz[j]; e++) t->l_row[at] = row[e], t->l[at++] = x[e];
    t->scale[j] = 1;
    t->left[((const int *)l->Perm)[j]] = t->right[((const int *)l->Perm)[j]] = j;
  }
  if (ok) t->l_ptr[n] = at;
  cholmod_free_factor(&l, &s->cholmod);
  return ok;
}

const pl_method pl_method_cholmod = {"CHOLMOD", factor_ll, solve, free_numeric, logdet};
const pl_method pl_method_ldl = {"LDL", factor_ldl, solve, free_numeric, logdet};
#endif
