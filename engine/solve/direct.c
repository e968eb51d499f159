/* direct.c: KLU, UMFPACK and CHOLMOD. Our rows are their columns: they are given A', and the question is turned round.
 */
#include "direct.h"

#include <float.h>
#include <math.h>
#include <klu.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef PL_HAVE_GPL
#include <cholmod.h>
#include <umfpack.h>
#include <cblas.h>
#endif

/* What depends on the pattern alone; hangs on it. */
struct pl_symbolic {
  klu_common klu;
  klu_symbolic *klu_symbolic;
#ifdef PL_HAVE_GPL
  void *umfpack;
  double umfpack_flops;
  cholmod_common cholmod;
  bool cholmod_started;
  cholmod_factor *cholmod_symbolic;
  cholmod_dense *x, *y, *e; /* a solve's result and work, used again */
#endif
};

typedef struct {
  pl_resource base;
  pl_pattern *pattern; /* held */
  pl_solver method;
  klu_numeric *klu;
#ifdef PL_HAVE_GPL
  void *umfpack;
  cholmod_factor *cholmod;
#endif
} factor;

void pl_symbolic_free(pl_context *c, struct pl_symbolic *s) {
  klu_free_symbolic(&s->klu_symbolic, &s->klu);
#ifdef PL_HAVE_GPL
  if (s->umfpack) umfpack_di_free_symbolic(&s->umfpack);
  if (s->cholmod_started) {
    cholmod_free_factor(&s->cholmod_symbolic, &s->cholmod);
    cholmod_free_dense(&s->x, &s->cholmod);
    cholmod_free_dense(&s->y, &s->cholmod);
    cholmod_free_dense(&s->e, &s->cholmod);
    cholmod_finish(&s->cholmod);
  }
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

static void destroy(pl_context *c, pl_resource *r) {
  factor *f = (factor *)r;
  struct pl_symbolic *s = f->pattern->symbolic;
  if (f->klu) klu_free_numeric(&f->klu, &s->klu);
#ifdef PL_HAVE_GPL
  if (f->umfpack) umfpack_di_free_numeric(&f->umfpack);
  if (f->cholmod) cholmod_free_factor(&f->cholmod, &s->cholmod);
#endif
  (void)s;
  pl_memory_count(c, -f->base.bytes);
  pl_object_release(&f->pattern->base);
  pl_memory_free(c, f);
}

static bool singular(pl_context *c, const pl_pattern *p, int64_t row, const char *why) {
  pl_error(c, PL_ERROR_NUMERIC,
           "the matrix {%d, %d} is singular at row %lld (%s): is an equation missing, given twice, or a boundary value "
           "free? "
           "A pure Neumann problem needs one fixed value",
           p->rows, p->cols, (long long)row + 1, why);
  return false;
}

static bool no_memory(pl_context *c, const char *what) {
  pl_error(c, PL_ERROR_MEMORY, "%s is out of memory for the matrix's factor", what);
  return false;
}

static bool analyse_klu(pl_context *c, pl_pattern *p, struct pl_symbolic *s) {
  if (s->klu_symbolic) return true;
  s->klu_symbolic = klu_analyze(p->rows, p->row_ptr, p->col, &s->klu);
  if (s->klu_symbolic) return true;
  if (s->klu.status == KLU_OUT_OF_MEMORY || s->klu.status == KLU_TOO_LARGE) return no_memory(c, "KLU");
  return singular(c, p, s->klu.singular_col >= 0 && s->klu.singular_col < p->rows ? s->klu.singular_col : 0,
                  "by its pattern alone");
}

/* An empty row or column is singular whatever the values. */
static bool check_structure(pl_context *c, pl_pattern *p) {
  for (int32_t i = 0; i < p->rows; i++)
    if (p->row_ptr[i] == p->row_ptr[i + 1]) return singular(c, p, i, "it has no entry");
  return true;
}

static bool factor_klu(pl_context *c, factor *f, const double *values) {
  pl_pattern *p = f->pattern;
  struct pl_symbolic *s = p->symbolic;
  if (!analyse_klu(c, p, s)) return false;
  f->klu = klu_factor(p->row_ptr, p->col, (double *)values, s->klu_symbolic, &s->klu);
  if (!f->klu || s->klu.status == KLU_SINGULAR) {
    if (s->klu.status == KLU_OUT_OF_MEMORY || s->klu.status == KLU_TOO_LARGE) return no_memory(c, "KLU");
    int row = s->klu.singular_col;
    return singular(c, p, row >= 0 && row < p->rows ? row : 0, "a pivot is zero");
  }
  klu_rcond(s->klu_symbolic, f->klu, &s->klu);
  if (!(s->klu.rcond > DBL_EPSILON)) {
    const double *u = f->klu->Udiag;
    int worst = 0;
    for (int i = 1; i < p->rows; i++)
      if (!(fabs(u[i]) >= fabs(u[worst]))) worst = i;
    char why[80];
    snprintf(why, sizeof why, "to working precision: pivots differ by %.1e", s->klu.rcond);
    return singular(c, p, s->klu_symbolic->Q[worst], why);
  }
  f->base.bytes = ((int64_t)f->klu->lnz + f->klu->unz) * 12 + (int64_t)p->rows * 48;
  return true;
}

#ifdef PL_HAVE_GPL
/* The factor's many small products gain nothing from threads, and waking them costs several times the factorization:
 * BLAS, and CHOLMOD's own loops (which ask for four threads, on any machine), run on one unless the work is large. Both
 * settings belong to the process. */
typedef struct {
  int blas, levels;
} thread_setting;

static thread_setting few_threads(double flops) {
  thread_setting old = {openblas_get_num_threads(), omp_get_max_active_levels()};
  if (flops < 5e10) {
    openblas_set_num_threads(1);
    omp_set_max_active_levels(0);
  }
  return old;
}

static void restore_threads(thread_setting old) {
  openblas_set_num_threads(old.blas);
  omp_set_max_active_levels(old.levels);
}

static bool factor_umfpack(pl_context *c, factor *f, const double *values) {
  pl_pattern *p = f->pattern;
  struct pl_symbolic *s = p->symbolic;
  double control[UMFPACK_CONTROL], info[UMFPACK_INFO] = {0};
  umfpack_di_defaults(control);
  control[UMFPACK_IRSTEP] = 0;
  int status = UMFPACK_OK;
  if (!s->umfpack) {
    status = umfpack_di_symbolic(p->rows, p->cols, p->row_ptr, p->col, NULL, &s->umfpack, control, info);
    s->umfpack_flops = info[UMFPACK_FLOPS_ESTIMATE];
  }
  if (status == UMFPACK_OK) {
    thread_setting threads = few_threads(s->umfpack_flops);
    status = umfpack_di_numeric(p->row_ptr, p->col, values, s->umfpack, &f->umfpack, control, info);
    restore_threads(threads);
  }
  if (status == UMFPACK_ERROR_out_of_memory) return no_memory(c, "UMFPACK");
  if (status != UMFPACK_OK && status != UMFPACK_WARNING_singular_matrix) {
    pl_error(c, PL_ERROR_NUMERIC, "UMFPACK fails with status %d", status);
    return false;
  }
  if (status != UMFPACK_OK || !(info[UMFPACK_RCOND] > DBL_EPSILON)) {
    int *q = pl_memory_new(c, (size_t)p->rows * sizeof *q);
    double *d = pl_memory_new(c, (size_t)p->rows * sizeof *d);
    int worst = 0, scaled;
    if (q && d) {
      umfpack_di_get_numeric(NULL, NULL, NULL, NULL, NULL, NULL, NULL, q, d, &scaled, NULL, f->umfpack);
      for (int i = 1; i < p->rows; i++)
        if (!(fabs(d[i]) >= fabs(d[worst]))) worst = i;
      worst = q[worst];
    }
    pl_memory_free(c, q);
    pl_memory_free(c, d);
    char why[80];
    snprintf(why, sizeof why, "to working precision: pivots differ by %.1e", info[UMFPACK_RCOND]);
    return singular(c, p, worst, status == UMFPACK_OK ? why : "a pivot is zero");
  }
  f->base.bytes = (int64_t)(info[UMFPACK_NUMERIC_SIZE] * info[UMFPACK_SIZE_OF_UNIT]);
  return true;
}

/* A view of our arrays; only one triangle is read. */
static cholmod_sparse as_cholmod(pl_pattern *p, const double *values) {
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

static bool factor_cholmod(pl_context *c, factor *f, const double *values) {
  pl_pattern *p = f->pattern;
  struct pl_symbolic *s = p->symbolic;
  if (!s->cholmod_started) {
    cholmod_start(&s->cholmod);
    s->cholmod.print = 0;
    s->cholmod.final_ll = 1; /* so that what is not positive definite is found */
    s->cholmod.quick_return_if_not_posdef = 1;
    s->cholmod_started = true;
  }
  if (!s->cholmod_symbolic) {
    cholmod_sparse structure = as_cholmod(p, NULL);
    s->cholmod_symbolic = cholmod_analyze(&structure, &s->cholmod);
    if (!s->cholmod_symbolic) return no_memory(c, "CHOLMOD");
  }
  f->cholmod = cholmod_copy_factor(s->cholmod_symbolic, &s->cholmod);
  cholmod_sparse a = as_cholmod(p, values);
  thread_setting threads = few_threads(s->cholmod.fl);
  bool done = f->cholmod && cholmod_factorize(&a, f->cholmod, &s->cholmod);
  restore_threads(threads);
  if (!done) return no_memory(c, "CHOLMOD");
  if (s->cholmod.status == CHOLMOD_NOT_POSDEF || f->cholmod->minor < (size_t)p->rows) {
    int row = ((int *)f->cholmod->Perm)[f->cholmod->minor];
    pl_error(c, PL_ERROR_NUMERIC,
             "the matrix {%d, %d} is not positive definite: the pivot of row %d is not positive; without `definite` it "
             "is solved as a general one",
             p->rows, p->cols, row + 1);
    return false;
  }
  double rcond = cholmod_rcond(f->cholmod, &s->cholmod);
  if (!(rcond > DBL_EPSILON)) {
    char why[80];
    snprintf(why, sizeof why, "to working precision: pivots differ by %.1e", rcond);
    return singular(c, p, ((int *)f->cholmod->Perm)[p->rows - 1], why);
  }
  f->base.bytes =
      (int64_t)(f->cholmod->is_super ? f->cholmod->xsize * 8 + f->cholmod->ssize * 4 : f->cholmod->nzmax * 12);
  return true;
}
#endif

enum { KLU_FLOPS = 50000000 }; /* above, UMFPACK's dense kernels pay */

pl_resource *pl_direct_factor(pl_context *c, pl_pattern *p, const double *values, pl_solver method) {
  if (p->rows != p->cols) {
    pl_error(c, PL_ERROR_SHAPE, "solve: the matrix {%d, %d} is not square", p->rows, p->cols);
    return NULL;
  }
  for (int32_t k = 0; k < p->nnz; k++)
    if (!isfinite(values[k])) {
      int32_t row = 0;
      while (p->row_ptr[row + 1] <= k) row++;
      pl_error(c, PL_ERROR_NUMERIC, "solve: the matrix's entry in row %d, column %d is %g", row + 1, p->col[k] + 1,
               values[k]);
      return NULL;
    }
  struct pl_symbolic *s = symbolic(c, p);
  if (!s || !check_structure(c, p)) return NULL;
  factor *f = pl_memory_new(c, sizeof *f);
  if (!f) return NULL;
  *f = (factor){.base = {.destroy = destroy, .name = "matrix factor"}, .pattern = p, .method = method};
  pl_object_retain(&p->base);
  bool ok = true;
#ifdef PL_HAVE_GPL
  if (method == PL_SOLVER_AUTO && p->rows > 0) {
    ok = analyse_klu(c, p, s);
    f->method = ok && s->klu_symbolic->est_flops > KLU_FLOPS ? PL_SOLVER_UMFPACK : PL_SOLVER_KLU;
  }
#else
  f->method = PL_SOLVER_KLU;
#endif
  if (ok && p->rows > 0) {
#ifdef PL_HAVE_GPL
    if (f->method == PL_SOLVER_CHOLMOD) ok = factor_cholmod(c, f, values);
    else if (f->method == PL_SOLVER_UMFPACK) ok = factor_umfpack(c, f, values);
    else
#endif
      ok = factor_klu(c, f, values);
  }
  int64_t bytes = f->base.bytes;
  f->base.bytes = 0;
  if (ok && (ok = pl_memory_count(c, bytes))) f->base.bytes = bytes;
  if (ok) return &f->base;
  destroy(c, &f->base);
  return NULL;
}

pl_pattern *pl_direct_pattern(pl_resource *r) { return ((factor *)r)->pattern; }

static void flip(int64_t n, int64_t k, const double *from, double *to) { /* {n, k} to {k, n} */
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < k; j++) to[j * n + i] = from[i * k + j];
}

bool pl_direct_solve(pl_context *c, pl_resource *r, const double *values, bool transpose, int64_t k, const double *b,
                     double *x) {
  factor *f = (factor *)r;
  pl_pattern *p = f->pattern;
  struct pl_symbolic *s = p->symbolic;
  int64_t n = p->rows;
  if (n == 0 || k == 0) return true;
  double *work = k > 1 ? pl_memory_new(c, (size_t)(2 * n * k) * sizeof *work) : NULL;
  if (k > 1 && !work) return false;
  const double *columns = b; /* column-major right-hand sides and results */
  double *out = x;
  if (k > 1) {
    flip(n, k, b, work);
    columns = work;
    out = work + n * k;
  }
  bool ok = true;
  (void)values;
#ifdef PL_HAVE_GPL
  if (f->method == PL_SOLVER_UMFPACK) {
    double control[UMFPACK_CONTROL], info[UMFPACK_INFO];
    umfpack_di_defaults(control);
    control[UMFPACK_IRSTEP] = 0;
    for (int64_t j = 0; j < k && ok; j++)
      ok = umfpack_di_solve(transpose ? UMFPACK_A : UMFPACK_At, p->row_ptr, p->col, values, out + j * n,
                            columns + j * n, f->umfpack, control, info) == UMFPACK_OK;
    if (!ok) no_memory(c, "UMFPACK");
  } else if (f->method == PL_SOLVER_CHOLMOD) {
    cholmod_dense rhs = {.nrow = (size_t)n,
                         .ncol = (size_t)k,
                         .nzmax = (size_t)(n * k),
                         .d = (size_t)n,
                         .x = (double *)columns,
                         .xtype = CHOLMOD_REAL,
                         .dtype = CHOLMOD_DOUBLE};
    ok = cholmod_solve2(CHOLMOD_A, f->cholmod, &rhs, NULL, &s->x, NULL, &s->y, &s->e, &s->cholmod);
    if (ok) memcpy(out, s->x->x, (size_t)(n * k) * sizeof *out);
    else no_memory(c, "CHOLMOD");
  } else
#endif
  {
    memcpy(out, columns, (size_t)(n * k) * sizeof *out);
    ok = transpose ? klu_solve(s->klu_symbolic, f->klu, (int)n, (int)k, out, &s->klu)
                   : klu_tsolve(s->klu_symbolic, f->klu, (int)n, (int)k, out, &s->klu);
    if (!ok) no_memory(c, "KLU");
  }
  if (k > 1) flip(k, n, out, x);
  pl_memory_free(c, work);
  return ok;
}

const char *pl_factor_name(pl_context *c, pl_value v) {
  static const char *const names[] = {"none", "KLU", "UMFPACK", "CHOLMOD"};
  factor *f = (factor *)pl_resource_get(c, v, "matrix factor");
  return f ? names[f->method] : "";
}
