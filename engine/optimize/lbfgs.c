#include "lbfgs.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "context.h"
#include "line_search.h"

enum { MOST_MEMORY = 50 };

struct pl_lbfgs {
  pl_context *c;
  pl_lbfgs_options options;
  int64_t n;
  double *memory; /* holds all vectors */
  double *x, *g, *lower, *upper, *trial, *trial_g, *d, *cauchy, *r, *breaks, *best_x, *best_g;
  int64_t *order;
  double *s, *y;                                                     /* the pairs, n each, oldest first */
  int k;                                                             /* how many */
  double sy[MOST_MEMORY][MOST_MEMORY], ss[MOST_MEMORY][MOST_MEMORY]; /* s_i'y_j, s_i's_j */
  double middle[4 * MOST_MEMORY * MOST_MEMORY];                      /* LU of the inverse of M, 2k x 2k */
  int pivot[2 * MOST_MEMORY];
  double theta;
  bool bounded, fresh; /* fresh: the history was just dropped */
  double f, slope, f_start, norm_start, norm, step, best_f;
  int64_t iterations, evaluations;
  pl_line_search search;
  pl_min_status status;
  bool asked;
};

pl_lbfgs_options pl_lbfgs_defaults(void) { return (pl_lbfgs_options){10, 1000, 10000, 1e-12, 1e-12}; }

/* Sums in fixed blocks: accurate, and the same on any machine of one instruction set. */
static double dot(int64_t n, const double *a, const double *b) {
  double total = 0;
  for (int64_t lo = 0; lo < n; lo += 512) {
    int64_t hi = lo + 512 < n ? lo + 512 : n;
    double s = 0;
    for (int64_t i = lo; i < hi; i++) s += a[i] * b[i];
    total += s;
  }
  return total;
}

pl_lbfgs *pl_lbfgs_new(pl_context *c, const pl_lbfgs_options *options, int64_t n, const double *x0, const double *lower,
                       const double *upper) {
  if (pl_error_status(c)) return NULL;
  pl_lbfgs_options p = options ? *options : pl_lbfgs_defaults();
  if (p.memory < 1 || p.memory > MOST_MEMORY) {
    pl_error(c, PL_ERROR_ARGUMENT, "lbfgs: memory is 1 to %d pairs, not %d", MOST_MEMORY, p.memory);
    return NULL;
  }
  for (int64_t i = 0; i < n; i++) {
    double lo = lower ? lower[i] : -INFINITY, hi = upper ? upper[i] : INFINITY;
    if (!(lo <= hi)) {
      pl_error(c, PL_ERROR_ARGUMENT, "the bounds of variable %lld are empty: %g to %g", (long long)i + 1, lo, hi);
      return NULL;
    }
  }
  pl_lbfgs *o = pl_memory_new(c, sizeof *o);
  if (!o) return NULL;
  memset(o, 0, sizeof *o);
  o->c = c;
  o->options = p;
  o->n = n;
  o->theta = 1;
  size_t vectors = 12 + 2 * (size_t)p.memory, bytes = (size_t)(n + 8) * sizeof(double);
  o->memory = pl_memory_new(c, vectors * bytes);
  o->order = pl_memory_new(c, bytes);
  if (!o->memory || !o->order) {
    pl_lbfgs_free(o);
    return NULL;
  }
  memset(o->memory, 0, vectors * bytes);
  double *at = o->memory;
  double **all[] = {&o->x, &o->g,      &o->lower, &o->upper,  &o->trial,  &o->trial_g,
                    &o->d, &o->cauchy, &o->r,     &o->breaks, &o->best_x, &o->best_g};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++, at += n) *all[i] = at;
  o->s = at;
  o->y = at + (int64_t)p.memory * n;
  for (int64_t i = 0; i < n; i++) {
    o->lower[i] = lower ? lower[i] : -INFINITY;
    o->upper[i] = upper ? upper[i] : INFINITY;
    o->bounded = o->bounded || isfinite(o->lower[i]) || isfinite(o->upper[i]);
    o->x[i] = o->trial[i] = o->best_x[i] = fmax(o->lower[i], fmin(o->upper[i], x0[i]));
  }
  o->f = o->best_f = NAN;
  return o;
}

void pl_lbfgs_free(pl_lbfgs *o) {
  if (!o) return;
  pl_memory_free(o->c, o->memory);
  pl_memory_free(o->c, o->order);
  pl_memory_free(o->c, o);
}

const double *pl_lbfgs_ask(pl_lbfgs *o) {
  if (o->status != PL_MIN_RUNNING) return NULL;
  o->asked = true;
  return o->trial;
}

void pl_lbfgs_stop(pl_lbfgs *o) {
  if (o->status == PL_MIN_RUNNING) o->status = PL_MIN_STOPPED;
}

/* ---- the compact representation: B = theta I - W M W', W = [Y, theta S] ---- */

/* LU with partial pivoting of a (n x n, leading dimension n); false when singular. */
static bool factor(double *a, int n, int *pivot) {
  for (int j = 0; j < n; j++) {
    int p = j;
    for (int i = j + 1; i < n; i++)
      if (fabs(a[i * n + j]) > fabs(a[p * n + j])) p = i;
    pivot[j] = p;
    if (!(fabs(a[p * n + j]) > 0)) return false;
    for (int i = 0; i < n && p != j; i++) {
      double t = a[p * n + i];
      a[p * n + i] = a[j * n + i];
      a[j * n + i] = t;
    }
    for (int i = j + 1; i < n; i++) {
      double l = a[i * n + j] /= a[j * n + j];
      for (int m = j + 1; m < n; m++) a[i * n + m] -= l * a[j * n + m];
    }
  }
  return true;
}
static void back_solve(const double *a, int n, const int *pivot, double *x) {
  for (int i = 0; i < n; i++) {
    double t = x[pivot[i]];
    x[pivot[i]] = x[i];
    x[i] = t;
  }
  for (int i = 0; i < n; i++)
    for (int j = 0; j < i; j++) x[i] -= a[i * n + j] * x[j];
  for (int i = n - 1; i >= 0; i--) {
    for (int j = i + 1; j < n; j++) x[i] -= a[i * n + j] * x[j];
    x[i] /= a[i * n + i];
  }
}

static double w(const pl_lbfgs *o, int64_t i, int j) {
  return j < o->k ? o->y[j * o->n + i] : o->theta * o->s[(j - o->k) * o->n + i];
}

static void w_transpose(const pl_lbfgs *o, const double *v, double *p) {
  for (int j = 0; j < o->k; j++) {
    p[j] = dot(o->n, o->y + j * o->n, v);
    p[o->k + j] = o->theta * dot(o->n, o->s + j * o->n, v);
  }
}

static double small_dot(int n, const double *a, const double *b) {
  double s = 0;
  for (int i = 0; i < n; i++) s += a[i] * b[i];
  return s;
}

static void forget(pl_lbfgs *o) {
  o->k = 0;
  o->theta = 1;
  o->fresh = true;
}

/* inv(M) = [-D, L'; L, theta S'S] with L the part of S'Y below the diagonal D */
static void make_middle(pl_lbfgs *o) {
  int k = o->k, m = 2 * k;
  for (int i = 0; i < k; i++)
    for (int j = 0; j < k; j++) {
      o->middle[i * m + j] = i == j ? -o->sy[i][i] : 0;
      o->middle[(k + i) * m + j] = i > j ? o->sy[i][j] : 0;
      o->middle[j * m + k + i] = i > j ? o->sy[i][j] : 0;
      o->middle[(k + i) * m + k + j] = o->theta * o->ss[i][j];
    }
  if (k && !factor(o->middle, m, o->pivot)) forget(o);
}

static void add_pair(pl_lbfgs *o, const double *x, const double *g) { /* the new point; o->x, o->g the old */
  int64_t n = o->n;
  if (o->k == o->options.memory) { /* the oldest goes */
    memmove(o->s, o->s + n, (size_t)((o->k - 1) * n) * sizeof *o->s);
    memmove(o->y, o->y + n, (size_t)((o->k - 1) * n) * sizeof *o->y);
    for (int i = 1; i < o->k; i++)
      for (int j = 1; j < o->k; j++) {
        o->sy[i - 1][j - 1] = o->sy[i][j];
        o->ss[i - 1][j - 1] = o->ss[i][j];
      }
    o->k--;
  }
  double *s = o->s + o->k * n, *y = o->y + o->k * n;
  for (int64_t i = 0; i < n; i++) {
    s[i] = x[i] - o->x[i];
    y[i] = g[i] - o->g[i];
  }
  double sy = dot(n, s, y), yy = dot(n, y, y);
  if (!(sy > DBL_EPSILON * yy)) { /* no positive curvature: the pair is left out */
    make_middle(o);
    return;
  }
  int k = o->k++;
  for (int j = 0; j <= k; j++) {
    o->sy[k][j] = dot(n, s, o->y + j * n);
    o->sy[j][k] = dot(n, o->s + j * n, y);
    o->ss[k][j] = o->ss[j][k] = dot(n, s, o->s + j * n);
  }
  o->theta = yy / sy;
  o->fresh = false;
  make_middle(o);
}

/* ---- the direction ---- */

/* Heap sort of indices by their break points. */
static void sort_breaks(int64_t m, int64_t *order, const double *t) {
  for (int64_t start = m / 2 - 1, end = m; end > 1;) {
    int64_t root;
    if (start >= 0) {
      root = start--;
    } else {
      end--;
      int64_t swap = order[0];
      order[0] = order[end];
      order[end] = swap;
      root = 0;
    }
    for (int64_t child; (child = 2 * root + 1) < end; root = child) {
      if (child + 1 < end && t[order[child + 1]] > t[order[child]]) child++;
      if (!(t[order[child]] > t[order[root]])) break;
      int64_t swap = order[root];
      order[root] = order[child];
      order[child] = swap;
    }
  }
}

/* The first minimizer of the quadratic model along the projected steepest descent path, and c = W'(cauchy - x). */
static void cauchy_point(pl_lbfgs *o, double *c) {
  int64_t n = o->n, m = 0;
  int k2 = 2 * o->k;
  double p[2 * MOST_MEMORY], mp[2 * MOST_MEMORY], row[2 * MOST_MEMORY], mw[2 * MOST_MEMORY];
  double *d = o->d, *t = o->breaks;
  for (int64_t i = 0; i < n; i++) {
    double g = o->g[i];
    t[i] = g < 0 ? (o->x[i] - o->upper[i]) / g : g > 0 ? (o->x[i] - o->lower[i]) / g : INFINITY;
    d[i] = t[i] <= 0 ? 0 : -g;
    o->cauchy[i] = o->x[i];
    if (t[i] > 0 && isfinite(t[i])) o->order[m++] = i;
  }
  sort_breaks(m, o->order, t);
  w_transpose(o, d, p);
  memset(c, 0, (size_t)k2 * sizeof *c);
  double f1 = -dot(n, d, d);
  memcpy(mp, p, sizeof mp);
  if (k2) back_solve(o->middle, k2, o->pivot, mp);
  double f2 = -o->theta * f1 - small_dot(k2, p, mp), f2_start = -o->theta * f1;
  double go = f2 > 0 ? -f1 / f2 : 0, old = 0;
  int64_t next = 0;
  for (; next < m; next++) {
    int64_t b = o->order[next];
    double dt = t[b] - old;
    if (go < dt) break;
    /* variable b meets its bound */
    double gb = o->g[b];
    o->cauchy[b] = d[b] > 0 ? o->upper[b] : o->lower[b];
    double z = o->cauchy[b] - o->x[b];
    for (int j = 0; j < k2; j++) {
      c[j] += dt * p[j];
      row[j] = w(o, b, j);
    }
    double mc[2 * MOST_MEMORY];
    memcpy(mc, c, sizeof mc);
    memcpy(mp, p, sizeof mp);
    memcpy(mw, row, sizeof mw);
    if (k2) {
      back_solve(o->middle, k2, o->pivot, mc);
      back_solve(o->middle, k2, o->pivot, mp);
      back_solve(o->middle, k2, o->pivot, mw);
    }
    f1 += dt * f2 + gb * gb + o->theta * gb * z - gb * small_dot(k2, row, mc);
    f2 += -o->theta * gb * gb - 2 * gb * small_dot(k2, row, mp) - gb * gb * small_dot(k2, row, mw);
    f2 = fmax(f2, DBL_EPSILON * f2_start);
    for (int j = 0; j < k2; j++) p[j] += gb * row[j];
    d[b] = 0;
    go = f1 < 0 && f2 > 0 ? -f1 / f2 : 0;
    old = t[b];
  }
  if (go < 0) go = 0;
  for (int64_t i = 0; i < n; i++)
    if (d[i] != 0) o->cauchy[i] = fmax(o->lower[i], fmin(o->upper[i], o->x[i] + (old + go) * d[i]));
  for (int j = 0; j < k2; j++) c[j] += go * p[j];
}

/* Minimizes the model over the variables that are free at the Cauchy point; leaves the target in o->cauchy. */
static void subspace(pl_lbfgs *o, const double *c) {
  int64_t n = o->n;
  int k2 = 2 * o->k;
  double mc[2 * MOST_MEMORY] = {0}, v[2 * MOST_MEMORY] = {0}, nm[4 * MOST_MEMORY * MOST_MEMORY],
                column[2 * MOST_MEMORY];
  int pivot[2 * MOST_MEMORY];
  memcpy(mc, c, (size_t)k2 * sizeof *c);
  if (k2) back_solve(o->middle, k2, o->pivot, mc);
  double *r = o->r, *step = o->breaks; /* the break points are done with */
  int64_t n_free = 0;
  for (int64_t i = 0; i < n; i++) {
    if (o->cauchy[i] <= o->lower[i] || o->cauchy[i] >= o->upper[i]) continue;
    o->order[n_free++] = i;
    double wm = 0;
    for (int j = 0; j < k2; j++) wm += w(o, i, j) * mc[j];
    r[i] = o->g[i] + o->theta * (o->cauchy[i] - o->x[i]) - wm;
  }
  if (n_free == 0 || k2 == 0) {
    if (k2 == 0) { /* B = theta I: the Cauchy point is the minimizer, once its free variables go on */
      for (int64_t q = 0; q < n_free; q++) {
        int64_t i = o->order[q];
        step[i] = -r[i] / o->theta;
      }
    }
  } else {
    memset(nm, 0, sizeof(double) * (size_t)(k2 * k2));
    for (int64_t q = 0; q < n_free; q++) {
      int64_t i = o->order[q];
      double row[2 * MOST_MEMORY];
      for (int j = 0; j < k2; j++) row[j] = w(o, i, j);
      for (int j = 0; j < k2; j++) {
        v[j] += row[j] * r[i];
        for (int l = 0; l <= j; l++) nm[j * k2 + l] += row[j] * row[l] / o->theta;
      }
    }
    for (int j = 0; j < k2; j++)
      for (int l = 0; l < j; l++) nm[l * k2 + j] = nm[j * k2 + l];
    /* (I - M N) by columns of M N */
    double full[4 * MOST_MEMORY * MOST_MEMORY];
    for (int l = 0; l < k2; l++) {
      for (int j = 0; j < k2; j++) column[j] = nm[j * k2 + l];
      back_solve(o->middle, k2, o->pivot, column);
      for (int j = 0; j < k2; j++) full[j * k2 + l] = (j == l) - column[j];
    }
    back_solve(o->middle, k2, o->pivot, v);
    if (factor(full, k2, pivot)) back_solve(full, k2, pivot, v);
    for (int64_t q = 0; q < n_free; q++) {
      int64_t i = o->order[q];
      double wv = 0;
      for (int j = 0; j < k2; j++) wv += w(o, i, j) * v[j];
      step[i] = -r[i] / o->theta - wv / (o->theta * o->theta);
    }
  }
  /* the projected point, if it is downhill; else as far as the bounds allow */
  double slope = 0;
  for (int64_t i = 0; i < n; i++) o->d[i] = o->cauchy[i];
  for (int64_t q = 0; q < n_free; q++) {
    int64_t i = o->order[q];
    o->d[i] = fmax(o->lower[i], fmin(o->upper[i], o->cauchy[i] + step[i]));
  }
  for (int64_t i = 0; i < n; i++) slope += (o->d[i] - o->x[i]) * o->g[i];
  if (!(slope < 0)) {
    double alpha = 1;
    for (int64_t q = 0; q < n_free; q++) {
      int64_t i = o->order[q];
      if (step[i] > 0 && o->cauchy[i] + step[i] > o->upper[i])
        alpha = fmin(alpha, (o->upper[i] - o->cauchy[i]) / step[i]);
      if (step[i] < 0 && o->cauchy[i] + step[i] < o->lower[i])
        alpha = fmin(alpha, (o->lower[i] - o->cauchy[i]) / step[i]);
    }
    for (int64_t q = 0; q < n_free; q++) {
      int64_t i = o->order[q];
      o->d[i] = o->cauchy[i] + alpha * step[i];
    }
  }
  for (int64_t i = 0; i < n; i++) o->d[i] -= o->x[i];
}

static double projected_norm(const pl_lbfgs *o) {
  double norm = 0;
  for (int64_t i = 0; i < o->n; i++) {
    double p = fmax(o->lower[i], fmin(o->upper[i], o->x[i] - o->g[i])) - o->x[i];
    if (!isfinite(o->g[i])) return INFINITY;
    norm = fmax(norm, fabs(p));
  }
  return norm;
}

static void set_trial(pl_lbfgs *o) {
  double a = o->search.step;
  for (int64_t i = 0; i < o->n; i++) o->trial[i] = fmax(o->lower[i], fmin(o->upper[i], o->x[i] + a * o->d[i]));
}

/* A direction from o->x and the first trial along it. */
static void start_search(pl_lbfgs *o) {
  for (int pass = 0; pass < 2; pass++) {
    double c[2 * MOST_MEMORY] = {0}, length = sqrt(dot(o->n, o->g, o->g));
    if (o->k == 0) o->theta = length > 0 ? length : 1; /* without curvature: a step of length 1, however f is scaled */
    cauchy_point(o, c);
    subspace(o, c);
    o->slope = dot(o->n, o->g, o->d);
    if (o->slope < 0 && isfinite(o->slope)) break;
    if (o->k == 0) {
      o->status = PL_MIN_PRECISION; /* not even steepest descent goes down */
      return;
    }
    forget(o);
  }
  double most = 1e20;
  if (o->bounded) {
    for (int64_t i = 0; i < o->n; i++) {
      if (o->d[i] > 0 && isfinite(o->upper[i])) most = fmin(most, (o->upper[i] - o->x[i]) / o->d[i]);
      if (o->d[i] < 0 && isfinite(o->lower[i])) most = fmin(most, (o->lower[i] - o->x[i]) / o->d[i]);
    }
    most = fmax(most, 1);
  }
  pl_line_search_start(&o->search, o->f, o->slope, 1, most);
  set_trial(o);
}

/* Nothing lower was found. Is that floating point's end, or a wrong gradient? At the end the decrease that the slope
 * promises drowns in the rounding of f, or f and its gradient have fallen by so much that they are rounding themselves.
 */
static void search_failed(pl_lbfgs *o) {
  if (o->k > 0) {
    forget(o);
    start_search(o);
    return;
  }
  bool drowned = fabs(o->slope) * o->search.step <= 1e4 * DBL_EPSILON * fabs(o->f);
  bool fallen = fabs(o->f) <= 1e-16 * fabs(o->f_start) || (o->norm <= 1e-7 * o->norm_start && o->iterations > 0);
  o->status = drowned && o->iterations > 0 ? PL_MIN_PRECISION : fallen ? PL_MIN_PRECISION : PL_MIN_LINE_SEARCH;
}

static void accept(pl_lbfgs *o, double f) {
  double old = o->f;
  add_pair(o, o->trial, o->trial_g);
  memcpy(o->x, o->trial, (size_t)o->n * sizeof *o->x);
  memcpy(o->g, o->trial_g, (size_t)o->n * sizeof *o->g);
  o->f = f;
  o->step = o->search.step;
  o->iterations++;
  o->norm = projected_norm(o);
  if (o->norm <= o->options.atol) o->status = PL_MIN_GRADIENT;
  else if (old - f <= o->options.rtol * fmax(fabs(old), fabs(f))) o->status = PL_MIN_VALUE;
  else if (o->iterations >= o->options.iterations) o->status = PL_MIN_ITERATIONS;
  else if (o->evaluations >= o->options.evaluations) o->status = PL_MIN_EVALUATIONS;
  else start_search(o);
}

bool pl_lbfgs_tell(pl_lbfgs *o, double f, const double *gradient) {
  if (o->status != PL_MIN_RUNNING || !o->asked) return false;
  o->asked = false;
  o->evaluations++;
  memcpy(o->trial_g, gradient, (size_t)o->n * sizeof *gradient);
  bool finite = isfinite(f);
  for (int64_t i = 0; i < o->n && finite; i++) finite = isfinite(gradient[i]);
  if (finite && !(o->best_f <= f)) {
    o->best_f = f;
    memcpy(o->best_x, o->trial, (size_t)o->n * sizeof *o->best_x);
    memcpy(o->best_g, gradient, (size_t)o->n * sizeof *gradient);
  }
  if (o->evaluations == 1) {
    o->f = o->f_start = f;
    memcpy(o->g, gradient, (size_t)o->n * sizeof *gradient);
    o->norm = o->norm_start = projected_norm(o);
    if (!finite) o->status = PL_MIN_BAD_START;
    else if (o->norm <= o->options.atol) o->status = PL_MIN_GRADIENT;
    else if (o->options.iterations < 1) o->status = PL_MIN_ITERATIONS;
    else if (o->options.evaluations < 2) o->status = PL_MIN_EVALUATIONS;
    else start_search(o);
    return false;
  }
  double slope = finite ? dot(o->n, gradient, o->d) : NAN;
  pl_search_status s = pl_line_search_next(&o->search, finite ? f : NAN, slope);
  if (s == PL_SEARCH_DONE || s == PL_SEARCH_LIMIT) {
    accept(o, f);
    return true;
  }
  if (s == PL_SEARCH_EVALUATE) {
    if (o->evaluations >= o->options.evaluations) o->status = PL_MIN_EVALUATIONS;
    else set_trial(o);
    return false;
  }
  /* The strong conditions cannot be met: a lower point that was seen is still progress. */
  if (o->best_f < o->f && !(o->best_f > o->f + 1e-4 * o->search.best * o->slope)) {
    memcpy(o->trial, o->best_x, (size_t)o->n * sizeof *o->trial);
    memcpy(o->trial_g, o->best_g, (size_t)o->n * sizeof *o->trial_g);
    o->search.step = o->search.best;
    accept(o, o->best_f);
    return true;
  }
  search_failed(o);
  return false;
}

pl_min_report pl_lbfgs_report(const pl_lbfgs *o) {
  static const struct {
    const char *name, *message;
    bool converged;
  } texts[] = {
      [PL_MIN_RUNNING] = {"running", "not finished", false},
      [PL_MIN_GRADIENT] = {"gradient", "converged: the gradient is below atol", true},
      [PL_MIN_VALUE] = {"value", "converged: the value changes by less than rtol", true},
      [PL_MIN_PRECISION] = {"precision", "converged: no further decrease is possible in floating point", true},
      [PL_MIN_ITERATIONS] = {"iterations", "stopped: the limit of iterations is reached", false},
      [PL_MIN_EVALUATIONS] = {"evaluations", "stopped: the limit of evaluations is reached", false},
      [PL_MIN_LINE_SEARCH] = {"line search",
                              "failed: no lower value along a descent direction; the gradient may be wrong (check_grad "
                              "tells) or the function not smooth",
                              false},
      [PL_MIN_STOPPED] = {"stopped", "stopped by the caller", false},
      [PL_MIN_BAD_START] = {"bad start", "failed: the value or the gradient is not finite at the start", false},
  };
  return (pl_min_report){o->status,
                         texts[o->status].converged,
                         texts[o->status].name,
                         texts[o->status].message,
                         o->best_x,
                         o->best_g,
                         o->best_f,
                         o->norm,
                         o->step,
                         o->iterations,
                         o->evaluations};
}
