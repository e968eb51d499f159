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

const pl_method pl_method_klu = {"KLU", factor, solve, free_numeric};
