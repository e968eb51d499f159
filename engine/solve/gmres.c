/* gmres.c: modified Gram-Schmidt, applied twice, and Givens rotations. At a restart the residual comes out of the
 * basis: r = V Q' (0, ..., 0, gamma), so that it costs no product. */
#include "gmres.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "report.h"

static double *vector(const pl_gmres *g, int j) { return g->basis + j * g->stride; }

bool pl_gmres_new(pl_context *c, pl_gmres *g, int64_t n) {
  memset(g, 0, sizeof *g);
  g->n = n;
  g->stride = (n + 15) & ~(int64_t)7;
  g->memory = pl_memory_new(c, (size_t)((PL_GMRES_COLUMNS + 2) * g->stride) * sizeof *g->memory);
  g->basis = g->memory;
  if (g->memory) g->x = vector(g, PL_GMRES_COLUMNS + 1);
  return g->memory != NULL;
}

void pl_gmres_free(pl_context *c, pl_gmres *g) { pl_memory_free(c, g->memory); }

/* The first column is the residual divided by its norm. */
static bool start(pl_gmres *g, double norm) {
  double *v = vector(g, 0);
  for (int64_t i = 0; i < g->n; i++) v[i] /= norm;
  memset(g->g, 0, sizeof g->g);
  g->g[0] = norm;
  g->columns = 0;
  g->in = v;
  g->out = vector(g, 1);
  return true;
}

bool pl_gmres_begin(pl_gmres *g, const double *b, double tolerance) {
  memset(g->x, 0, (size_t)g->n * sizeof *g->x);
  memcpy(vector(g, 0), b, (size_t)g->n * sizeof *b);
  g->products = 0;
  g->tolerance = tolerance;
  g->residual = sqrt(pl_dot(b, b, g->n));
  return g->residual > tolerance && start(g, g->residual);
}

static void rotate(double c, double s, double *a, double *b) {
  double x = c * *a + s * *b;
  *b = c * *b - s * *a;
  *a = x;
}

/* x += V y with R y = g. */
static void update(pl_gmres *g) {
  double y[PL_GMRES_COLUMNS];
  for (int i = g->columns; i-- > 0;) {
    y[i] = g->g[i];
    for (int j = i + 1; j < g->columns; j++) y[i] -= g->h[j * (PL_GMRES_COLUMNS + 1) + i] * y[j];
    double d = g->h[i * (PL_GMRES_COLUMNS + 1) + i];
    y[i] = d != 0 ? y[i] / d : 0;
  }
  for (int j = 0; j < g->columns; j++) {
    const double *v = vector(g, j);
    for (int64_t i = 0; i < g->n; i++) g->x[i] += y[j] * v[i];
  }
}

static bool restart(pl_gmres *g) {
  int m = g->columns;
  double q[PL_GMRES_COLUMNS + 1] = {0};
  q[m] = g->g[m];
  for (int i = m; i-- > 0;) rotate(g->cosine[i], -g->sine[i], &q[i], &q[i + 1]);
  double *r = vector(g, 0);
  for (int64_t i = 0; i < g->n; i++) r[i] *= q[0];
  for (int j = 1; j <= m; j++) {
    const double *v = vector(g, j);
    for (int64_t i = 0; i < g->n; i++) r[i] += q[j] * v[i];
  }
  double norm = sqrt(pl_dot(r, r, g->n));
  return norm > 0 && start(g, norm);
}

bool pl_gmres_next(pl_gmres *g) {
  int j = g->columns;
  double *w = g->out, *h = g->h + j * (PL_GMRES_COLUMNS + 1), before = sqrt(pl_dot(w, w, g->n));
  memset(h, 0, (PL_GMRES_COLUMNS + 1) * sizeof *h);
  for (int pass = 0; pass < 2; pass++)
    for (int k = 0; k <= j; k++) {
      const double *v = vector(g, k);
      double a = pl_dot(v, w, g->n);
      h[k] += a;
      for (int64_t i = 0; i < g->n; i++) w[i] -= a * v[i];
    }
  h[j + 1] = sqrt(pl_dot(w, w, g->n));
  bool exhausted =
      !(h[j + 1] > 4 * DBL_EPSILON * before); /* the space has all of the solution, or the operator is bad */
  if (!exhausted)
    for (int64_t i = 0; i < g->n; i++) w[i] /= h[j + 1];
  else h[j + 1] = 0;
  for (int k = 0; k < j; k++) rotate(g->cosine[k], g->sine[k], &h[k], &h[k + 1]);
  double d = hypot(h[j], h[j + 1]);
  g->cosine[j] = d > 0 ? h[j] / d : 1;
  g->sine[j] = d > 0 ? h[j + 1] / d : 0;
  rotate(g->cosine[j], g->sine[j], &h[j], &h[j + 1]);
  rotate(g->cosine[j], g->sine[j], &g->g[j], &g->g[j + 1]);
  g->columns++;
  g->products++;
  double old = g->residual;
  g->residual = d > 0 || isnan(d) ? fabs(g->g[j + 1]) : old;
  bool done = !(g->residual > g->tolerance) || exhausted || g->products >= PL_GMRES_PRODUCTS;
  if (!done && g->columns < PL_GMRES_COLUMNS) {
    g->in = vector(g, g->columns);
    g->out = vector(g, g->columns + 1);
    return true;
  }
  update(g);
  return !done && restart(g);
}
