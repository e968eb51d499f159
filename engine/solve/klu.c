/* klu.c: KLU, for circuit-like matrices and all that fill little: block triangular form, then sparse columns without
 * dense kernels (T. Davis, E. Palamadai Natarajan, ACM TOMS 37, 2010). */
#include <float.h>
#include <math.h>
#include <string.h>

#include "factor.h"

static bool no_room(const klu_common *k) { return k->status == KLU_OUT_OF_MEMORY || k->status == KLU_TOO_LARGE; }

bool pl_klu_analyse(pl_context *c, pl_pattern *p) {
  struct pl_symbolic *s = p->symbolic;
  if (s->klu_symbolic) return true;
  c->analyses++;
  s->klu_symbolic = klu_analyze(p->rows, p->row_ptr, p->col, &s->klu);
  if (s->klu_symbolic) return true;
  if (no_room(&s->klu)) return pl_solver_memory(c, "KLU");
  return pl_singular(c, p, 0, "by its pattern alone");
}

static bool factor(pl_context *c, pl_factor *f, const double *values) {
  pl_pattern *p = f->pattern;
  struct pl_symbolic *s = p->symbolic;
  if (!pl_klu_analyse(c, p)) return false;
  f->klu = klu_factor(p->row_ptr, p->col, (double *)values, s->klu_symbolic, &s->klu);
  if (!f->klu || s->klu.status == KLU_SINGULAR) {
    if (no_room(&s->klu)) return pl_solver_memory(c, "KLU");
    int row = s->klu.singular_col;
    return pl_singular(c, p, row >= 0 && row < p->rows ? row : 0, "a pivot is zero");
  }
  klu_rcond(s->klu_symbolic, f->klu, &s->klu);
  if (!(s->klu.rcond > DBL_EPSILON)) {
    const double *u = f->klu->Udiag;
    int worst = 0;
    for (int i = 1; i < p->rows; i++)
      if (!(fabs(u[i]) >= fabs(u[worst]))) worst = i;
    return pl_pivots_differ(c, p, s->klu_symbolic->Q[worst], s->klu.rcond);
  }
  f->base.bytes = ((int64_t)f->klu->lnz + f->klu->unz) * 12 + (int64_t)p->rows * 48;
  return true;
}

static bool solve(pl_context *c, pl_factor *f, const double *values, bool transpose, int64_t k, const double *b,
                  double *x) {
  (void)values;
  struct pl_symbolic *s = f->pattern->symbolic;
  int n = f->pattern->rows;
  memcpy(x, b, (size_t)(n * k) * sizeof *x);
  return (transpose ? klu_solve(s->klu_symbolic, f->klu, n, (int)k, x, &s->klu)
                    : klu_tsolve(s->klu_symbolic, f->klu, n, (int)k, x, &s->klu)) ||
         pl_solver_memory(c, "KLU");
}

static void free_numeric(pl_context *c, pl_factor *f) {
  (void)c;
  if (f->klu) klu_free_numeric(&f->klu, &f->pattern->symbolic->klu);
}

/* P R^-1 A' Q = L U + what is outside the diagonal blocks */
static double logdet(pl_context *c, pl_factor *f, double *sign) {
  int n = f->pattern->rows;
  const double *u = f->klu->Udiag, *r = f->klu->Rs;
  double sum = 0;
  *sign = pl_parity(c, n, f->klu->Pnum) * pl_parity(c, n, f->pattern->symbolic->klu_symbolic->Q);
  for (int i = 0; i < n; i++) {
    if (u[i] < 0) *sign = -*sign;
    sum += log(fabs(u[i])) + (r ? log(r[i]) : 0);
  }
  return sum;
}

bool pl_klu_triangles(pl_context *c, pl_factor *f, pl_triangles *t) {
  int32_t n = f->pattern->rows;
  klu_numeric *k = f->klu;
  struct pl_symbolic *s = f->pattern->symbolic;
  int64_t nl = k->lnz, nu = k->unz, nf = k->nzoff;
  if (!pl_triangles_new(c, t, n, nl, nu)) return false;
  size_t ints = (size_t)(3 * (n + 1) + nl + nu + nf + 3 * n + 1) + 8;
  int *work = pl_memory_new(c, ints * sizeof *work);
  double *x = pl_memory_new(c, (size_t)(nl + nu + nf + n + 1) * sizeof *x);
  bool ok = work && x;
  if (ok) {
    int *lp = work, *up = lp + n + 1, *fp = up + n + 1, *li = fp + n + 1, *ui = li + nl, *fi = ui + nu, *p = fi + nf,
        *q = p + n, *blocks = q + n;
    double *lx = x, *ux = lx + nl, *fx = ux + nu, *rs = fx + nf;
    for (int32_t i = 0; i < n; i++) rs[i] = 1;
    ok =
        klu_extract(k, s->klu_symbolic, lp, li, lx, up, ui, ux, fp, fi, fx, p, q, k->Rs ? rs : NULL, blocks, &s->klu) ||
        pl_solver_memory(c, "KLU");
    int64_t at = 0;
    for (int32_t j = 0; ok && j < n; j++) {
      t->l_ptr[j] = (int32_t)at;
      for (int e = lp[j]; e < lp[j + 1]; e++)
        if (li[e] > j) t->l_row[at] = li[e], t->l[at++] = lx[e];
    }
    if (ok) t->l_ptr[n] = (int32_t)at;
    memset(t->u_ptr, 0, ((size_t)n + 1) * sizeof *t->u_ptr);
    for (int32_t j = 0; ok && j < n; j++)
      for (int e = up[j]; e < up[j + 1]; e++) {
        if (ui[e] == j) t->d[j] = ux[e];
        else t->u_ptr[ui[e] + 1]++;
      }
    for (int32_t i = 0; ok && i < n; i++) t->u_ptr[i + 1] += t->u_ptr[i];
    for (int32_t j = 0; ok && j < n; j++)
      for (int e = up[j]; e < up[j + 1]; e++)
        if (ui[e] != j) {
          int32_t to = t->u_ptr[ui[e]]++;
          t->u_col[to] = j, t->u[to] = ux[e] / t->d[ui[e]];
        }
    for (int32_t i = n; ok && i > 0; i--) t->u_ptr[i] = t->u_ptr[i - 1];
    t->u_ptr[0] = 0;
    for (int32_t i = 0; ok && i < n; i++) {
      t->left[q[i]] = i;
      t->right[p[i]] = i;
      t->scale[i] = rs[i];
    }
  }
  pl_memory_free(c, work);
  pl_memory_free(c, x);
  return ok;
}

const pl_method pl_method_klu = {"KLU", factor, solve, free_numeric, logdet};
