/* eigen.c: Lanczos's method with thick restarts (K. Wu, H. Simon, SIAM J. Matrix Anal. Appl. 22, 2000) and full
 * orthogonalization, on (A - sigma M)^-1 M (T. Ericsson, A. Ruhe, Math. Comp. 35, 1980) or M^-1 A, in M's inner
 * product. A Krylov space of one vector sees one vector of a multiple eigenvalue: what converged is locked, and runs
 * from other vectors, orthogonal to it, go on until the best that is left is no better than the k-th. */
#include "eigen.h"

#include <cblas.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "direct.h"
#include "factor.h"

extern void dsyevd_(const char *job, const char *uplo, const int *n, double *a, const int *lda, double *w, double *work,
                    const int *lwork, int *iwork, const int *liwork, int *info, size_t, size_t);
extern void dsygvd_(const int *type, const char *job, const char *uplo, const int *n, double *a, const int *lda,
                    double *b, const int *ldb, double *w, double *work, const int *lwork, int *iwork, const int *liwork,
                    int *info, size_t, size_t);

typedef struct {
  pl_context *c;
  pl_pattern *p;
  const double *a, *m;
  const pl_eigen_options *o;
  pl_resource *factor; /* of A - sigma M, or M; NULL: M is diagonal */
  double *shifted;     /* the values that it is of */
  double sigma;
  int n, most;      /* of the space */
  int locked, room; /* vectors found, and room for them */
  double *basis, *mbasis, *x, *mx, *key, *t, *ritz, *y, *work;
} lanczos;

static void times(const pl_pattern *p, const double *a, const double *x, double *y) {
  for (int32_t i = 0; i < p->rows; i++) {
    double sum = 0;
    for (int32_t k = p->row_ptr[i]; k < p->row_ptr[i + 1]; k++) sum += a[k] * x[p->col[k]];
    y[i] = sum;
  }
}

static double diagonal(const pl_pattern *p, const double *a, int32_t i) {
  for (int32_t k = p->row_ptr[i]; k < p->row_ptr[i + 1]; k++)
    if (p->col[k] == i) return a[k];
  return 0;
}

static bool is_diagonal(const pl_pattern *p, const double *a) {
  for (int32_t i = 0; i < p->rows; i++)
    for (int32_t k = p->row_ptr[i]; k < p->row_ptr[i + 1]; k++)
      if (p->col[k] != i && a[k] != 0) return false;
  return true;
}

/* Is theta nearer to what is asked for? Larger is. */
static double merit(const lanczos *l, double theta) { return l->o->which == PL_EIGEN_NEAR ? fabs(theta) : theta; }
static double lambda(const lanczos *l, double theta) {
  return l->o->which == PL_EIGEN_LARGEST ? theta : l->sigma + 1 / theta;
}

/* ---- the operator ---- */

static bool shift(lanczos *l, double sigma, pl_solver method) {
  l->sigma = sigma;
  for (int32_t k = 0; k < l->p->nnz; k++) l->shifted[k] = l->a[k] - sigma * l->m[k];
  return (l->factor = pl_direct_factor(l->c, l->p, l->shifted, method)) != NULL;
}

/* Below the spectrum: 0 where A is definite, else far enough down that A - sigma M is. */
static bool shift_below(lanczos *l) {
  double size = 0;
  for (int32_t i = 0; i < l->n; i++) {
    double sum = 0;
    for (int32_t k = l->p->row_ptr[i]; k < l->p->row_ptr[i + 1]; k++) sum += fabs(l->a[k]);
    size = fmax(size, sum / diagonal(l->p, l->m, i));
  }
  for (double s = 0; s <= 1e4 * size; s = s == 0 ? 1e-6 * size : 10 * s) {
    if (shift(l, -s, PL_SOLVER_DEFINITE)) return true;
    if (l->c->status != PL_ERROR_NUMERIC) return false;
    pl_clear(l->c);
  }
  pl_error(l->c, PL_ERROR_NUMERIC, "eigsh: no shift makes A - sigma M positive definite: is M?");
  return false;
}

static bool operate(lanczos *l, const double *x, const double *mx, double *y) {
  if (l->o->which != PL_EIGEN_LARGEST) return pl_direct_solve(l->c, l->factor, l->shifted, false, 1, mx, y);
  if (!l->factor) {
    times(l->p, l->a, x, y);
    for (int32_t i = 0; i < l->n; i++) y[i] /= diagonal(l->p, l->m, i);
    return true;
  }
  times(l->p, l->a, x, l->work);
  return pl_direct_solve(l->c, l->factor, l->shifted, false, 1, l->work, y);
}

/* ---- the space ---- */

/* x -= Q (MQ)'x, twice; h (may be NULL) adds up the coefficients. */
static void orthogonalize(lanczos *l, int count, const double *q, const double *mq, double *x, double *h) {
  double *d = l->work;
  for (int pass = 0; pass < 2 && count > 0; pass++) {
    cblas_dgemv(CblasRowMajor, CblasNoTrans, count, l->n, 1, mq, l->n, x, 1, 0, d, 1);
    cblas_dgemv(CblasRowMajor, CblasTrans, count, l->n, -1, q, l->n, d, 1, 1, x, 1);
    for (int i = 0; h && i < count; i++) h[i] += d[i];
  }
}

/* Vector j of the basis from x: its norm before it was made 1. */
static double append(lanczos *l, int j, double *x) {
  double *v = l->basis + (int64_t)j * l->n, *mv = l->mbasis + (int64_t)j * l->n;
  times(l->p, l->m, x, mv);
  double square = cblas_ddot(l->n, x, 1, mv, 1);
  if (square < 0) {
    pl_error(l->c, PL_ERROR_NUMERIC, "eigsh: M is not positive definite");
    return 0;
  }
  double norm = sqrt(square), scale = norm > 0 ? 1 / norm : 0;
  for (int i = 0; i < l->n; i++) v[i] = x[i] * scale, mv[i] *= scale;
  return norm;
}

/* A new direction for vector j, the same each time. False: there is none. */
static bool fresh(lanczos *l, int j, uint64_t seed, double *x) {
  uint64_t s = 0x9e3779b97f4a7c15u * (seed + 1);
  for (int i = 0; i < l->n; i++) {
    s ^= s << 13, s ^= s >> 7, s ^= s << 17;
    x[i] = (double)(s >> 11) / 9007199254740992.0 - 0.5;
  }
  double before = append(l, j, x);
  cblas_dcopy(l->n, l->basis + (int64_t)j * l->n, 1, x, 1);
  orthogonalize(l, l->locked, l->x, l->mx, x, NULL);
  orthogonalize(l, j, l->basis, l->mbasis, x, NULL);
  return append(l, j, x) > 1e-10 && before > 0 && !l->c->status;
}

/* Eigenpairs of the projection {size}, best first: l->ritz, rows of l->y. */
static bool project(lanczos *l, int size) {
  int lwork = 1 + 6 * size + 2 * size * size, liwork = 3 + 5 * size, info = 0;
  double *work = pl_memory_new(l->c, (size_t)(lwork + size) * sizeof *work + (size_t)liwork * sizeof(int));
  if (!work) return false;
  double *w = work + lwork;
  for (int i = 0; i < size; i++)
    for (int j = 0; j < size; j++) l->y[i * size + j] = l->t[(i > j ? j : i) * l->most + (i > j ? i : j)];
  dsyevd_("V", "U", &size, l->y, &size, w, work, &lwork, (int *)(w + size), &liwork, &info, 1, 1);
  for (int i = 0; i < size; i++) l->ritz[i] = w[i];
  pl_memory_free(l->c, work);
  for (int i = 0; i < size; i++) { /* selection sort, best first */
    int best = i;
    for (int j = i + 1; j < size; j++)
      if (merit(l, l->ritz[j]) > merit(l, l->ritz[best])) best = j;
    if (best == i) continue;
    double swap = l->ritz[i];
    l->ritz[i] = l->ritz[best], l->ritz[best] = swap;
    cblas_dswap(size, l->y + (int64_t)i * size, 1, l->y + (int64_t)best * size, 1);
  }
  if (info) pl_error(l->c, PL_ERROR_NUMERIC, "eigsh: LAPACK's syevd fails (%d)", info);
  return info == 0;
}

/* The first `count` Ritz vectors, into to {count, n} from basis {size, n}. */
static void combine(lanczos *l, int count, int size, const double *basis, double *to) {
  cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, count, l->n, size, 1, l->y, size, basis, l->n, 0, to, l->n);
}

/* Locks the best `want` eigenvectors orthogonal to those that are locked. `bar`: stop as soon as none can be better. */
static bool sweep(lanczos *l, int want, double bar, bool *found) {
  int left = l->n - l->locked, size = l->most < left ? l->most : left, kept = 0, n = l->n;
  double *x = pl_memory_new(l->c, (size_t)n * sizeof *x), *next = NULL;
  uint64_t seed = (uint64_t)l->locked * 1000;
  *found = false;
  if (want > left) want = left;
  bool ok = x && want > 0 && fresh(l, 0, seed, x);
  memset(l->t, 0, (size_t)l->most * (size_t)l->most * sizeof *l->t);
  for (int64_t restart = 0; ok; restart++) {
    double beta = 0;
    for (int j = kept; ok && j < size; j++) {
      double *h = l->t + j, column[1024] = {0};
      ok = !pl_interrupted(l->c) && operate(l, l->basis + (int64_t)j * n, l->mbasis + (int64_t)j * n, x);
      if (!ok) break;
      orthogonalize(l, l->locked, l->x, l->mx, x, NULL);
      orthogonalize(l, j + 1, l->basis, l->mbasis, x, column);
      for (int i = 0; i <= j; i++) h[i * l->most] = column[i];
      beta = append(l, j + 1, x);
      if (l->c->status) ok = false;
      if (j + 1 < size) l->t[j * l->most + j + 1] = beta;
      if (beta <= 1e-14 * fabs(column[j]) && j + 1 < size) { /* an invariant space: on in a new direction */
        l->t[j * l->most + j + 1] = beta = 0;
        if (!fresh(l, j + 1, ++seed, x)) size = j + 1;
      }
    }
    if (!ok || !project(l, size)) break;
    if (size == left) beta = 0;
    int done = 0;
    while (done < want && fabs(beta * l->y[done * size + size - 1]) <= l->o->rtol * fabs(l->ritz[done])) done++;
    double residual = fabs(beta * l->y[size - 1]);
    if (merit(l, l->ritz[0]) + residual < bar || (done == want && merit(l, l->ritz[0]) <= bar)) break; /* no better */
    if (done == want) {
      combine(l, want, size, l->basis, l->x + (int64_t)l->locked * n);
      combine(l, want, size, l->mbasis, l->mx + (int64_t)l->locked * n);
      for (int i = 0; i < want; i++) l->key[l->locked++] = l->ritz[i];
      *found = true;
      break;
    }
    if (restart == l->o->restarts) {
      pl_error(
          l->c, PL_ERROR_NUMERIC,
          "eigsh: %d of %d eigenvalues converged to rtol = %.1e in %lld restarts: allow more iterations, or give a "
          "sigma near them",
          done, want, l->o->rtol, (long long)restart);
      ok = false;
      break;
    }
    kept = want + (size - want) / 2;
    if (kept > size - 1) kept = size - 1;
    if (!next && !(next = pl_memory_new(l->c, (size_t)size * (size_t)n * sizeof *next))) break;
    double *const spaces[] = {l->basis, l->mbasis};
    for (int s = 0; s < 2; s++) {
      combine(l, kept, size, spaces[s], next);
      memcpy(spaces[s], next, (size_t)kept * (size_t)n * sizeof *next);
      memmove(spaces[s] + (int64_t)kept * n, spaces[s] + (int64_t)size * n, (size_t)n * sizeof *next);
    }
    memset(l->t, 0, (size_t)l->most * (size_t)l->most * sizeof *l->t);
    for (int i = 0; i < kept; i++) l->t[i * l->most + i] = l->ritz[i];
  }
  pl_memory_free(l->c, x);
  pl_memory_free(l->c, next);
  return ok && !l->c->status;
}

/* ---- results ---- */

/* The k best of `count` eigenpairs with vectors by rows: w ascending, v {n, k}. */
static bool deliver(lanczos *l, int count, const double *value, const double *vectors, const double *badness, double *w,
                    double *v) {
  int k = (int)l->o->k, *order = pl_memory_new(l->c, (size_t)count * sizeof *order);
  if (!order) return false;
  for (int i = 0; i < count; i++) {
    int j = i;
    for (; j > 0 && badness[order[j - 1]] > badness[i]; j--) order[j] = order[j - 1];
    order[j] = i;
  }
  for (int i = 1; i < k; i++)
    for (int j = i, at = order[i]; j > 0 && value[order[j - 1]] > value[at]; j--)
      order[j] = order[j - 1], order[j - 1] = at;
  for (int i = 0; i < k; i++) {
    const double *x = vectors + (int64_t)order[i] * l->n;
    int64_t most = 0;
    for (int64_t j = 1; j < l->n; j++)
      if (fabs(x[j]) > fabs(x[most]) * (1 + 1e-8)) most = j;
    w[i] = value[order[i]];
    for (int64_t j = 0; j < l->n; j++) v[j * k + i] = x[most] < 0 ? -x[j] : x[j];
  }
  pl_memory_free(l->c, order);
  return true;
}

static double badness(const lanczos *l, double value) {
  return l->o->which == PL_EIGEN_SMALLEST  ? value
         : l->o->which == PL_EIGEN_LARGEST ? -value
                                           : fabs(value - l->o->sigma);
}

static bool by_lapack(lanczos *l, double *w, double *v) {
  int n = l->n, type = 1, lwork = 1 + 6 * n + 2 * n * n, liwork = 3 + 5 * n, info = 0;
  size_t nn = (size_t)n * (size_t)n;
  double *a = pl_memory_new(l->c, (2 * nn + 2 * (size_t)n + (size_t)lwork) * sizeof *a + (size_t)liwork * sizeof(int));
  if (!a) return false;
  double *m = a + nn, *all = m + nn, *bad = all + n, *work = bad + n;
  memset(a, 0, 2 * nn * sizeof *a);
  for (int32_t i = 0; i < n; i++)
    for (int32_t k = l->p->row_ptr[i]; k < l->p->row_ptr[i + 1]; k++) {
      int64_t at = (int64_t)i * n + l->p->col[k];
      a[at] = l->a[k];
      m[at] = l->m[k];
    }
  dsygvd_(&type, "V", "U", &n, a, &n, m, &n, all, work, &lwork, (int *)(work + lwork), &liwork, &info, 1, 1);
  bool ok = info == 0;
  if (info > n) pl_error(l->c, PL_ERROR_NUMERIC, "eigsh: M is not positive definite (row %d)", info - n);
  else if (info) pl_error(l->c, PL_ERROR_NUMERIC, "eigsh: LAPACK's sygvd fails (%d)", info);
  for (int i = 0; ok && i < n; i++) bad[i] = badness(l, all[i]);
  ok = ok && deliver(l, n, all, a, bad, w, v);
  pl_memory_free(l->c, a);
  return ok;
}

static bool iterate(lanczos *l, double *w, double *v) {
  pl_context *c = l->c;
  int k = (int)l->o->k, n = l->n;
  size_t rows = (size_t)n * sizeof(double);
  l->most = 2 * k + 10 < 24 ? 24 : 2 * k + 10;
  if (l->most > n) l->most = n;
  l->room = 3 * k + 8;
  size_t square = (size_t)l->most * (size_t)l->most;
  bool ok = (l->basis = pl_memory_new(c, rows * (size_t)(l->most + 1))) &&
            (l->mbasis = pl_memory_new(c, rows * (size_t)(l->most + 1))) &&
            (l->x = pl_memory_new(c, rows * (size_t)l->room)) && (l->mx = pl_memory_new(c, rows * (size_t)l->room)) &&
            (l->t = pl_memory_new(c, (2 * square + (size_t)(l->most + 2 * l->room)) * sizeof(double))) &&
            (l->work = pl_memory_new(c, rows + 1024 * sizeof(double))) &&
            (l->shifted = pl_memory_new(c, (size_t)(l->p->nnz + 1) * sizeof(double)));
  if (ok) {
    l->y = l->t + square;
    l->ritz = l->y + square;
    l->key = l->ritz + l->most;
    if (l->o->which == PL_EIGEN_SMALLEST) ok = shift_below(l);
    else if (l->o->which == PL_EIGEN_NEAR) ok = shift(l, l->o->sigma, PL_SOLVER_SYMMETRIC);
    else if (!is_diagonal(l->p, l->m)) {
      memcpy(l->shifted, l->m, (size_t)l->p->nnz * sizeof(double));
      ok = (l->factor = pl_direct_factor(c, l->p, l->shifted, PL_SOLVER_DEFINITE)) != NULL;
    }
  }
  bool found = ok;
  if (ok) ok = sweep(l, k, -INFINITY, &found);
  while (ok && found && l->locked < n && l->locked < l->room) { /* is there a better one? */
    double bar = INFINITY;
    for (int i = 0, better; i < l->locked; i++) { /* the k-th best */
      better = 0;
      for (int j = 0; j < l->locked; j++) better += merit(l, l->key[j]) > merit(l, l->key[i]);
      if (better < k) bar = fmin(bar, merit(l, l->key[i]));
    }
    ok = sweep(l, 1, bar * (bar > 0 ? 1 + 1e-9 : 1 - 1e-9), &found);
  }
  if (ok) {
    double *value = l->key + l->room;
    for (int i = 0; i < l->locked; i++) value[i] = lambda(l, l->key[i]), l->key[i] = -merit(l, l->key[i]);
    ok = deliver(l, l->locked, value, l->x, l->key, w, v);
  }
  if (l->factor) l->factor->destroy(c, l->factor);
  void *all[] = {l->basis, l->mbasis, l->x, l->mx, l->t, l->work, l->shifted};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) pl_memory_free(c, all[i]);
  return ok && !c->status;
}

bool pl_eigen_symmetric(pl_context *c, pl_pattern *p, const double *a, const double *m, const pl_eigen_options *o,
                        double *w, double *v) {
  if (!pl_direct_check(c, p, a, "A") || !pl_direct_check(c, p, m, "M")) return false;
  for (int32_t i = 0; i < p->rows; i++)
    if (!(diagonal(p, m, i) > 0)) {
      pl_error(c, PL_ERROR_NUMERIC, "eigsh: M is not positive definite: its diagonal entry in row %d is %g", i + 1,
               diagonal(p, m, i));
      return false;
    }
  enum { SMALL = 64 };
  lanczos l = {.c = c, .p = p, .a = a, .m = m, .o = o, .n = p->rows};
  pl_thread_setting threads = pl_few_threads(0);
  bool ok = p->rows <= SMALL || 3 * o->k >= p->rows ? by_lapack(&l, w, v) : iterate(&l, w, v);
  pl_restore_threads(threads);
  return ok;
}

/* ---- the reduced resolvent ---- */

/* Rows that determine the combinations of `count` columns of v, starting at `from`: elimination with row pivoting. */
static bool pivots(pl_context *c, int64_t n, int64_t k, const double *v, int64_t from, int64_t count, char *out) {
  double *q = pl_memory_new(c, (size_t)(n * count) * sizeof *q);
  if (!q) return false;
  for (int64_t i = 0; i < n; i++) memcpy(q + i * count, v + i * k + from, (size_t)count * sizeof *q);
  memset(out, 0, (size_t)n);
  for (int64_t j = 0; j < count; j++) {
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
      if (fabs(q[i * count + j]) > fabs(q[best * count + j])) best = i;
    out[best] = 1;
    for (int64_t l = j + 1; l < count; l++) {
      double by = q[best * count + l] / q[best * count + j];
      for (int64_t i = 0; i < n; i++) q[i * count + l] -= by * q[i * count + j];
    }
  }
  pl_memory_free(c, q);
  return true;
}

/* A - w M without the rows and columns that are `out`, factored. place: of each row in it. */
static pl_resource *reduced(pl_context *c, const pl_pattern *p, const double *a, const double *m, double w,
                            const char *out, int32_t *place, double *values) {
  int32_t n = 0, nnz = 0, *ptr = pl_memory_new(c, ((size_t)p->rows + p->nnz + 2) * sizeof *ptr);
  if (!ptr) return NULL;
  int32_t *col = ptr + p->rows + 1;
  for (int32_t i = 0; i < p->rows; i++) place[i] = out[i] ? -1 : n++;
  n = 0;
  ptr[0] = 0;
  for (int32_t i = 0; i < p->rows; i++) {
    if (out[i]) continue;
    for (int32_t k = p->row_ptr[i]; k < p->row_ptr[i + 1]; k++)
      if (!out[p->col[k]]) {
        col[nnz] = place[p->col[k]];
        values[nnz++] = a[k] - w * m[k];
      }
    ptr[++n] = nnz;
  }
  pl_pattern *q = pl_pattern_new(c, n, n, ptr, col);
  pl_memory_free(c, ptr);
  pl_resource *f = q ? pl_direct_factor(c, q, values, PL_SOLVER_SYMMETRIC) : NULL;
  pl_object_release((pl_object *)q);
  return f;
}

/* x -= L R'x, {n, k} by rows */
static void project_out(int64_t n, int64_t k, const double *left, const double *right, double *x, double *dots) {
  for (int64_t j = 0; j < k; j++) dots[j] = 0;
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < k; j++) dots[j] += right[i * k + j] * x[i];
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < k; j++) x[i] -= left[i * k + j] * dots[j];
}

static void coincide(pl_context *c, int64_t at, int64_t k, const double *w) {
  pl_error(
      c, PL_ERROR_NUMERIC,
      "eigsh: eigenvalue %lld (%g) and one beyond the %lld asked for coincide: their vectors have no derivative; ask "
      "for all of them, or use the values alone",
      (long long)at, w[at - 1], (long long)k);
}

bool pl_eigen_resolvent(pl_context *c, pl_pattern *p, const double *a, const double *m, int64_t k, const double *w,
                        const double *v, const double *r, double *y) {
  int64_t n = p->rows;
  size_t count = (size_t)(n * k + 5 * n + k + p->nnz + 1);
  double *mv = pl_memory_new(c, count * sizeof *mv + (size_t)(n + 1) * sizeof(int32_t) + (size_t)n);
  if (!mv) return false;
  double *x = mv + n * k, *b = x + n, *z = b + n, *t = z + n, *dots = t + n, *values = dots + k, scale = 0;
  int32_t *place = (int32_t *)(mv + count);
  char *out = (char *)(place + n + 1);
  memset(mv, 0, (size_t)(n * k) * sizeof *mv);
  for (int64_t i = 0; i < n; i++)
    for (int32_t e = p->row_ptr[i]; e < p->row_ptr[i + 1]; e++)
      for (int64_t j = 0; j < k; j++) mv[i * k + j] += m[e] * v[p->col[e] * k + j];
  for (int64_t j = 0; j < k; j++) scale = fmax(scale, fabs(w[j]));
  for (int64_t from = 0, to; from < k && !pl_interrupted(c); from = to) {
    for (to = from + 1; to < k && fabs(w[to] - w[to - 1]) <= 1e-9 * scale;) to++;
    pl_resource *f = pivots(c, n, k, v, from, to - from, out) ? reduced(c, p, a, m, w[from], out, place, values) : NULL;
    if (!f && c->status == PL_ERROR_NUMERIC) {
      pl_clear(c);
      coincide(c, to, k, w);
    }
    for (int64_t j = from; f && j < to; j++) {
      for (int64_t i = 0; i < n; i++) x[i] = r[i * k + j];
      project_out(n, k, mv, v, x, dots);
      for (int64_t i = 0; i < n; i++)
        if (!out[i]) b[place[i]] = x[i];
      if (!pl_direct_solve(c, f, values, false, 1, b, z)) break;
      for (int64_t i = 0; i < n; i++) t[i] = out[i] ? 0 : z[place[i]];
      project_out(n, k, v, mv, t, dots);
      times(p, m, t, b);
      if (cblas_dnrm2((int)n, x, 1) < 1e-9 * scale * cblas_dnrm2((int)n, b, 1)) { /* (A - w M) y = gap M y there */
        coincide(c, to, k, w);
        break;
      }
      for (int64_t i = 0; i < n; i++) y[i * k + j] = t[i];
    }
    if (f) f->destroy(c, f);
    if (c->status) break;
  }
  pl_memory_free(c, mv);
  return c->status == PL_OK;
}
