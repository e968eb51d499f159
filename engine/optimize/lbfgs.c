/* lbfgs.c: L-BFGS with bounds.
 *
 * Byrd, Lu, Nocedal, Zhu: A limited memory algorithm for bound constrained optimization, SIAM J. Sci. Comput. 16, 1995,
 * with the projected subspace step of Morales and Nocedal, ACM TOMS 38(1), 2011. */
#include <string.h>

#include "line_search.h"
#include "method.h"

enum { MOST_MEMORY = 50 };
enum { AT_RTOL = PL_MIN_OWN, AT_MEMORY };

typedef struct {
  pl_optimizer base;
  double *d, *cauchy, *r, *breaks;
  int64_t *order;
  double *s, *y;                                                     /* the pairs, n each, oldest first */
  int k, memory;                                                     /* how many, and at most */
  double sy[MOST_MEMORY][MOST_MEMORY], ss[MOST_MEMORY][MOST_MEMORY]; /* s_i'y_j, s_i's_j */
  double middle[4 * MOST_MEMORY * MOST_MEMORY];                      /* LU of the inverse of M, 2k x 2k */
  int pivot[2 * MOST_MEMORY];
  double theta, slope;
  bool fresh; /* the history was just dropped */
  pl_line_search search;
} lbfgs;

static int vectors(const pl_optimizer *o) { return 4 + 2 * (int)o->settings[AT_MEMORY]; }

static bool open_lbfgs(pl_optimizer *base, double *at) {
  lbfgs *o = (lbfgs *)base;
  int64_t n = base->n;
  o->memory = (int)base->settings[AT_MEMORY];
  o->theta = 1;
  double **own[] = {&o->d, &o->cauchy, &o->r, &o->breaks};
  for (int i = 0; i < 4; i++, at += n) *own[i] = at;
  o->s = at;
  o->y = at + o->memory * n;
  o->order = pl_memory_new(base->c, (size_t)(n + 1) * sizeof *o->order);
  return o->order != NULL;
}

static void close_lbfgs(pl_optimizer *base) { pl_memory_free(base->c, ((lbfgs *)base)->order); }

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

static double w(const lbfgs *o, int64_t i, int j) {
  return j < o->k ? o->y[j * o->base.n + i] : o->theta * o->s[(j - o->k) * o->base.n + i];
}

static void w_transpose(const lbfgs *o, const double *v, double *p) {
  for (int j = 0; j < o->k; j++) {
    p[j] = pl_min_dot(o->base.n, o->y + j * o->base.n, v);
    p[o->k + j] = o->theta * pl_min_dot(o->base.n, o->s + j * o->base.n, v);
  }
}

static double small_dot(int n, const double *a, const double *b) {
  double s = 0;
  for (int i = 0; i < n; i++) s += a[i] * b[i];
  return s;
}

static void forget(lbfgs *o) {
  o->k = 0;
  o->theta = 1;
  o->fresh = true;
}

/* inv(M) = [-D, L'; L, theta S'S] with L the part of S'Y below the diagonal D */
static void make_middle(lbfgs *o) {
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

static void add_pair(lbfgs *o, const double *x, const double *g) { /* the new point; o->base.x, o->base.g the old */
  int64_t n = o->base.n;
  if (o->k == o->memory) { /* the oldest goes */
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
    s[i] = x[i] - o->base.x[i];
    y[i] = g[i] - o->base.g[i];
  }
  double sy = pl_min_dot(n, s, y), yy = pl_min_dot(n, y, y);
  if (!(sy > DBL_EPSILON * yy)) { /* no positive curvature: the pair is left out */
    make_middle(o);
    return;
  }
  int k = o->k++;
  for (int j = 0; j <= k; j++) {
    o->sy[k][j] = pl_min_dot(n, s, o->y + j * n);
    o->sy[j][k] = pl_min_dot(n, o->s + j * n, y);
    o->ss[k][j] = o->ss[j][k] = pl_min_dot(n, s, o->s + j * n);
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
static void cauchy_point(lbfgs *o, double *c) {
  int64_t n = o->base.n, m = 0;
  int k2 = 2 * o->k;
  double p[2 * MOST_MEMORY] = {0}, mp[2 * MOST_MEMORY], row[2 * MOST_MEMORY], mw[2 * MOST_MEMORY];
  double *d = o->d, *t = o->breaks;
  for (int64_t i = 0; i < n; i++) {
    double g = o->base.g[i];
    t[i] = g < 0 ? (o->base.x[i] - o->base.upper[i]) / g : g > 0 ? (o->base.x[i] - o->base.lower[i]) / g : INFINITY;
    d[i] = t[i] <= 0 ? 0 : -g;
    o->cauchy[i] = o->base.x[i];
    if (t[i] > 0 && isfinite(t[i])) o->order[m++] = i;
  }
  sort_breaks(m, o->order, t);
  w_transpose(o, d, p);
  memset(c, 0, (size_t)k2 * sizeof *c);
  double f1 = -pl_min_dot(n, d, d);
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
    double gb = o->base.g[b];
    o->cauchy[b] = d[b] > 0 ? o->base.upper[b] : o->base.lower[b];
    double z = o->cauchy[b] - o->base.x[b];
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
    if (d[i] != 0) o->cauchy[i] = pl_min_clip(&o->base, i, o->base.x[i] + (old + go) * d[i]);
  for (int j = 0; j < k2; j++) c[j] += go * p[j];
}

/* Minimizes the model over the variables that are free at the Cauchy point; leaves the target in o->cauchy. */
static void subspace(lbfgs *o, const double *c) {
  int64_t n = o->base.n;
  int k2 = 2 * o->k;
  double mc[2 * MOST_MEMORY] = {0}, v[2 * MOST_MEMORY] = {0}, nm[4 * MOST_MEMORY * MOST_MEMORY],
                column[2 * MOST_MEMORY];
  int pivot[2 * MOST_MEMORY];
  memcpy(mc, c, (size_t)k2 * sizeof *c);
  if (k2) back_solve(o->middle, k2, o->pivot, mc);
  double *r = o->r, *step = o->breaks; /* the break points are done with */
  int64_t n_free = 0;
  for (int64_t i = 0; i < n; i++) {
    if (o->cauchy[i] <= o->base.lower[i] || o->cauchy[i] >= o->base.upper[i]) continue;
    o->order[n_free++] = i;
    double wm = 0;
    for (int j = 0; j < k2; j++) wm += w(o, i, j) * mc[j];
    r[i] = o->base.g[i] + o->theta * (o->cauchy[i] - o->base.x[i]) - wm;
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
    o->d[i] = pl_min_clip(&o->base, i, o->cauchy[i] + step[i]);
  }
  for (int64_t i = 0; i < n; i++) slope += (o->d[i] - o->base.x[i]) * o->base.g[i];
  if (!(slope < 0)) {
    double alpha = 1;
    for (int64_t q = 0; q < n_free; q++) {
      int64_t i = o->order[q];
      if (step[i] > 0 && o->cauchy[i] + step[i] > o->base.upper[i])
        alpha = fmin(alpha, (o->base.upper[i] - o->cauchy[i]) / step[i]);
      if (step[i] < 0 && o->cauchy[i] + step[i] < o->base.lower[i])
        alpha = fmin(alpha, (o->base.lower[i] - o->cauchy[i]) / step[i]);
    }
    for (int64_t q = 0; q < n_free; q++) {
      int64_t i = o->order[q];
      o->d[i] = o->cauchy[i] + alpha * step[i];
    }
  }
  for (int64_t i = 0; i < n; i++) o->d[i] -= o->base.x[i];
}

static void set_trial(lbfgs *o) {
  double a = o->search.step;
  for (int64_t i = 0; i < o->base.n; i++) o->base.trial[i] = pl_min_clip(&o->base, i, o->base.x[i] + a * o->d[i]);
}

/* A direction from o->base.x and the first trial along it. */
static void start_search(lbfgs *o) {
  for (int pass = 0; pass < 2; pass++) {
    double c[2 * MOST_MEMORY] = {0}, length = sqrt(pl_min_dot(o->base.n, o->base.g, o->base.g));
    if (o->k == 0) o->theta = length > 0 ? length : 1; /* without curvature: a step of length 1, however f is scaled */
    cauchy_point(o, c);
    subspace(o, c);
    o->slope = pl_min_dot(o->base.n, o->base.g, o->d);
    if (o->slope < 0 && isfinite(o->slope)) break;
    if (o->k == 0) {
      o->base.status = PL_MIN_PRECISION; /* not even steepest descent goes down */
      return;
    }
    forget(o);
  }
  double most = 1e20;
  if (o->base.bounded) {
    for (int64_t i = 0; i < o->base.n; i++) {
      if (o->d[i] > 0 && isfinite(o->base.upper[i])) most = fmin(most, (o->base.upper[i] - o->base.x[i]) / o->d[i]);
      if (o->d[i] < 0 && isfinite(o->base.lower[i])) most = fmin(most, (o->base.lower[i] - o->base.x[i]) / o->d[i]);
    }
    most = fmax(most, 1);
  }
  pl_line_search_start(&o->search, o->base.f, o->slope, 1, most);
  set_trial(o);
}

/* Nothing lower was found. Is that floating point's end, or a wrong gradient? At the end the decrease that the slope
 * promises drowns in the rounding of f, or f and its gradient have fallen by so much that they are rounding themselves.
 */
static void search_failed(lbfgs *o) {
  if (o->k > 0) {
    forget(o);
    start_search(o);
    return;
  }
  bool drowned = fabs(o->slope) * o->search.step <= 1e4 * DBL_EPSILON * fabs(o->base.f);
  bool fallen = fabs(o->base.f) <= 1e-16 * fabs(o->base.f_start) ||
                (o->base.norm <= 1e-7 * o->base.norm_start && o->base.iterations > 0);
  o->base.status = drowned && o->base.iterations > 0 ? PL_MIN_PRECISION
                   : fallen                          ? PL_MIN_PRECISION
                                                     : PL_MIN_LINE_SEARCH;
}

static void accept(lbfgs *o, double f) {
  add_pair(o, o->base.trial, o->base.trial_g);
  o->base.step = o->search.step;
  pl_min_accept(&o->base, f, o->base.settings[AT_RTOL]);
}

static void next(pl_optimizer *base) { start_search((lbfgs *)base); }

static bool tell(pl_optimizer *b, double f, bool finite) {
  lbfgs *o = (lbfgs *)b;
  double slope = finite ? pl_min_dot(b->n, b->trial_g, o->d) : NAN;
  pl_search_status s = pl_line_search_next(&o->search, finite ? f : NAN, slope);
  if (s == PL_SEARCH_DONE || s == PL_SEARCH_LIMIT) {
    accept(o, f);
    return true;
  }
  if (s == PL_SEARCH_EVALUATE) {
    if ((double)b->evaluations >= b->settings[PL_MIN_AT_EVALUATIONS]) b->status = PL_MIN_EVALUATIONS;
    else set_trial(o);
    return false;
  }
  /* The strong conditions cannot be met: a lower point that was seen is still progress. */
  if (b->best_f < b->f && !(b->best_f > b->f + 1e-4 * o->search.best * o->slope)) {
    memcpy(b->trial, b->best_x, (size_t)b->n * sizeof *b->trial);
    memcpy(b->trial_g, b->best_g, (size_t)b->n * sizeof *b->trial_g);
    o->search.step = o->search.best;
    accept(o, b->best_f);
    return true;
  }
  search_failed(o);
  return false;
}

static const pl_setting_info settings[] = {
    PL_MIN_LIMITS,
    {"rtol", "stop when an iteration lowers the value by less than rtol*|value|", 1e-12, 0, INFINITY, false,
     "0 or above"},
    {"memory", "pairs of steps and gradients kept", 10, 1, MOST_MEMORY, true, "a whole number, 1 to 50"},
    {.name = NULL}};
const pl_min_method pl_lbfgs_method = {
    "lbfgs",    "quasi-Newton with limited memory, line searches and bounds: the method for smooth functions",
    settings,   sizeof(lbfgs),
    vectors,    open_lbfgs,
    next,       tell,
    close_lbfgs};
