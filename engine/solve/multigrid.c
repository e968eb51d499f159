/* multigrid.c: algebraic multigrid by smoothed aggregation (P. Vanek, J. Mandel, M. Brezina, Computing 56, 1996), one V
 * cycle as a preconditioner. On each level unknowns that are strongly connected form aggregates; the vectors that A
 * hardly sees (constants, or the user's: rigid motions) are cut up among them and smoothed by one Jacobi step, which
 * gives the interpolation P; the next matrix is P' A P. Smoothers are Chebyshev polynomials of D^-1 A (M. Adams et al.,
 * Journal of Computational Physics 188, 2003), the same before and after, so that the cycle is symmetric where A is.
 * Rows are independent in all that runs on threads: results do not depend on how many there are. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "../schedule.h"
#include "direct.h"
#include "precondition.h"

typedef struct {
  int32_t rows, cols;
  int32_t *ptr, *col;
  double *value;
} csr;

enum { MOST_LEVELS = 25, COARSEST = 400 };

typedef struct {
  csr a, p, r, turned; /* turned: A', made when first needed; without ptr where A' = A */
  bool is_turned;
  double *inverse; /* of the diagonal */
  double radius;   /* bound of the spectral radius of D^-1 A */
  double *x, *y, *b, *d;
} level;

typedef struct {
  pl_preconditioner base;
  pl_pattern *pattern; /* held: the finest level's, whose arrays it uses */
  int n_levels;
  int64_t degree;
  level levels[MOST_LEVELS];
  pl_pattern *coarse; /* and the factor of the coarsest matrix */
  double *coarse_values;
  pl_resource *factor;
  double *kernel; /* {n_kernel, n}: what the coarsest matrix maps to zero, orthonormal; NULL where it is not singular */
  int32_t n_kernel;
} multigrid;

/* ---- sparse matrices ---- */

static bool csr_new(pl_context *c, csr *m, int32_t rows, int32_t cols) {
  *m = (csr){.rows = rows, .cols = cols};
  if ((m->ptr = pl_memory_new(c, ((size_t)rows + 1) * sizeof *m->ptr)))
    memset(m->ptr, 0, ((size_t)rows + 1) * sizeof *m->ptr);
  return m->ptr != NULL;
}
static bool csr_room(pl_context *c, csr *m) { /* ptr is known */
  m->col = pl_memory_new(c, ((size_t)m->ptr[m->rows] + 1) * sizeof *m->col);
  m->value = pl_memory_new(c, ((size_t)m->ptr[m->rows] + 1) * sizeof *m->value);
  return m->col && m->value;
}
static void csr_free(pl_context *c, csr *m) {
  pl_memory_free(c, m->ptr);
  pl_memory_free(c, m->col);
  pl_memory_free(c, m->value);
  *m = (csr){0};
}
static double work_of(const csr *a) { return a->rows ? 2.0 * a->ptr[a->rows] / a->rows + 4 : 1; }

/* Rows of A' are sorted. */
static bool csr_transpose(pl_context *c, const csr *a, csr *t) {
  if (!csr_new(c, t, a->cols, a->rows)) return false;
  for (int32_t k = 0; k < a->ptr[a->rows]; k++) t->ptr[a->col[k] + 1]++;
  for (int32_t j = 0; j < a->cols; j++) t->ptr[j + 1] += t->ptr[j];
  if (!csr_room(c, t)) return false;
  for (int32_t i = 0; i < a->rows; i++)
    for (int32_t k = a->ptr[i]; k < a->ptr[i + 1]; k++) {
      int32_t to = t->ptr[a->col[k]]++;
      t->col[to] = i;
      t->value[to] = a->value[k];
    }
  memmove(t->ptr + 1, t->ptr, (size_t)a->cols * sizeof *t->ptr);
  t->ptr[0] = 0;
  return true;
}

/* C = A B, row by row; each thread has a place for every column. */
typedef struct {
  const csr *a, *b;
  csr *c;
  int32_t *place; /* {threads, columns} */
} product_args;

static void count_rows(const void *args, int64_t lo, int64_t hi) {
  const product_args *q = args;
  const csr *a = q->a, *b = q->b;
  int32_t *seen = q->place + (int64_t)omp_get_thread_num() * b->cols;
  memset(seen, 0xff, (size_t)b->cols * sizeof *seen);
  for (int32_t i = (int32_t)lo; i < hi; i++) {
    int32_t n = 0;
    for (int32_t k = a->ptr[i]; k < a->ptr[i + 1]; k++)
      for (int32_t t = b->ptr[a->col[k]]; t < b->ptr[a->col[k] + 1]; t++)
        if (seen[b->col[t]] != i) {
          seen[b->col[t]] = i;
          n++;
        }
    q->c->ptr[i + 1] = n;
  }
}
static void fill_rows(const void *args, int64_t lo, int64_t hi) {
  const product_args *q = args;
  const csr *a = q->a, *b = q->b;
  csr *out = q->c;
  int32_t *place = q->place + (int64_t)omp_get_thread_num() * b->cols;
  memset(place, 0xff, (size_t)b->cols * sizeof *place);
  for (int32_t i = (int32_t)lo; i < hi; i++) {
    int32_t first = out->ptr[i], n = first;
    for (int32_t k = a->ptr[i]; k < a->ptr[i + 1]; k++) {
      double v = a->value[k];
      for (int32_t t = b->ptr[a->col[k]]; t < b->ptr[a->col[k] + 1]; t++) {
        int32_t j = b->col[t];
        if (place[j] < first) {
          place[j] = n;
          out->col[n] = j;
          out->value[n++] = v * b->value[t];
        } else {
          out->value[place[j]] += v * b->value[t];
        }
      }
    }
  }
}

/* Few large pieces, since each clears its thread's places. */
static void for_rows(pl_context *c, pl_kernel f, const product_args *q, double work) {
  int64_t rows = q->a->rows, grain = rows / (4 * c->threads) + 1;
  pl_for(c, f, q, rows, grain < 1024 ? 1024 : grain, work);
}
static bool csr_multiply(pl_context *c, const csr *a, const csr *b, csr *out) {
  if (!csr_new(c, out, a->rows, b->cols)) return false;
  int32_t *place = pl_memory_new(c, ((size_t)b->cols * (size_t)c->threads + 1) * sizeof *place);
  if (!place) return false;
  product_args q = {a, b, out, place};
  double work = work_of(a) * work_of(b) / 2;
  for_rows(c, count_rows, &q, work);
  int64_t total = 0;
  for (int32_t i = 0; i < a->rows && !c->status; i++) {
    total += out->ptr[i + 1];
    if (total > INT32_MAX) pl_error(c, PL_ERROR_MEMORY, "multigrid: a level has more entries than can be numbered");
    else out->ptr[i + 1] = (int32_t)total;
  }
  bool ok = !c->status && csr_room(c, out);
  if (ok) for_rows(c, fill_rows, &q, work);
  pl_memory_free(c, place);
  return ok && !c->status;
}

/* ---- products with vectors ---- */

typedef struct {
  const csr *a;
  const double *b, *x, *inverse;
  double *d, *y;
  double old, new;
} rows_args;

/* y = A x, or y + A x */
static void multiply_rows(const void *args, int64_t lo, int64_t hi) {
  const rows_args *q = args;
  const csr *a = q->a;
  for (int64_t i = lo; i < hi; i++) {
    double s = 0;
    for (int32_t k = a->ptr[i]; k < a->ptr[i + 1]; k++) s += a->value[k] * q->x[a->col[k]];
    q->y[i] = q->old == 0 ? s : q->old * q->y[i] + s;
  }
}
static void residual_rows(const void *args, int64_t lo, int64_t hi) {
  const rows_args *q = args;
  const csr *a = q->a;
  for (int64_t i = lo; i < hi; i++) {
    double s = q->b[i];
    for (int32_t k = a->ptr[i]; k < a->ptr[i + 1]; k++) s -= a->value[k] * q->x[a->col[k]];
    q->y[i] = s;
  }
}
/* d <- old d + new D^-1 (b - A x), y = x + d */
static void smooth_rows(const void *args, int64_t lo, int64_t hi) {
  const rows_args *q = args;
  const csr *a = q->a;
  for (int64_t i = lo; i < hi; i++) {
    double s = q->b[i];
    for (int32_t k = a->ptr[i]; k < a->ptr[i + 1]; k++) s -= a->value[k] * q->x[a->col[k]];
    s *= q->new * q->inverse[i];
    if (q->old != 0) s += q->old * q->d[i];
    q->d[i] = s;
    q->y[i] = q->x[i] + s;
  }
}
static void first_rows(const void *args, int64_t lo, int64_t hi) { /* the same for x = 0 */
  const rows_args *q = args;
  for (int64_t i = lo; i < hi; i++) q->y[i] = q->d[i] = q->new * q->inverse[i] * q->b[i];
}
static void for_vector(pl_context *c, pl_kernel f, rows_args q) { pl_for(c, f, &q, q.a->rows, 8, work_of(q.a)); }

/* ---- aggregates ---- */

/* The graph of nodes of d unknowns: the norms of their blocks of A. */
static bool node_graph(pl_context *c, const csr *a, int32_t d, csr *g) {
  int32_t nodes = a->rows / d;
  if (!csr_new(c, g, nodes, nodes)) return false;
  int32_t *place = pl_memory_new(c, ((size_t)nodes + 1) * sizeof *place);
  if (!place) return false;
  for (int pass = 0; pass < 2; pass++) {
    int32_t n = 0;
    memset(place, 0xff, (size_t)nodes * sizeof *place);
    for (int32_t i = 0; i < nodes; i++) {
      int32_t first = n;
      for (int32_t k = a->ptr[i * d]; k < a->ptr[(i + 1) * d]; k++) {
        int32_t j = a->col[k] / d;
        if (place[j] < first) {
          place[j] = n++;
          if (pass) {
            g->col[place[j]] = j;
            g->value[place[j]] = 0;
          }
        }
        if (pass) g->value[place[j]] += a->value[k] * a->value[k];
      }
      g->ptr[i + 1] = n;
    }
    if (!pass && !csr_room(c, g)) break;
  }
  pl_memory_free(c, place);
  for (int32_t k = 0; g->value && k < g->ptr[nodes]; k++) g->value[k] = sqrt(g->value[k]);
  return g->value != NULL;
}

/* member[i]: the aggregate of node i, or -1 for one without strong connections. Returns how many. */
static int32_t aggregate(const csr *g, double strength, double *diagonal, int32_t *member) {
  int32_t n = g->rows, count = 0;
  for (int32_t i = 0; i < n; i++) {
    diagonal[i] = 0;
    member[i] = -1;
    for (int32_t k = g->ptr[i]; k < g->ptr[i + 1]; k++)
      if (g->col[k] == i) diagonal[i] = fabs(g->value[k]);
  }
#define STRONG(i, k)                     \
  (g->col[k] != i && g->value[k] != 0 && \
   g->value[k] * g->value[k] >= strength * strength * diagonal[i] * diagonal[g->col[k]])
  for (int32_t i = 0; i < n; i++) { /* whole neighbourhoods */
    bool some = false, free = member[i] == -1;
    for (int32_t k = g->ptr[i]; free && k < g->ptr[i + 1]; k++)
      if (STRONG(i, k)) {
        some = true;
        free = member[g->col[k]] == -1;
      }
    if (!free || !some) continue;
    member[i] = count;
    for (int32_t k = g->ptr[i]; k < g->ptr[i + 1]; k++)
      if (STRONG(i, k)) member[g->col[k]] = count;
    count++;
  }
  for (int32_t i = 0; i < n;
       i++) { /* the others join what they are connected to most, of the first pass: -2 - its number */
    if (member[i] != -1) continue;
    double most = 0;
    for (int32_t k = g->ptr[i]; k < g->ptr[i + 1]; k++)
      if (STRONG(i, k) && member[g->col[k]] >= 0 && fabs(g->value[k]) > most) {
        most = fabs(g->value[k]);
        member[i] = -2 - member[g->col[k]];
      }
  }
  for (int32_t i = 0; i < n; i++)
    if (member[i] <= -2) member[i] = -2 - member[i];
  for (int32_t i = 0; i < n; i++) { /* what is left together */
    if (member[i] != -1) continue;
    bool some = false;
    for (int32_t k = g->ptr[i]; k < g->ptr[i + 1]; k++)
      if (STRONG(i, k)) {
        some = true;
        if (member[g->col[k]] == -1) member[g->col[k]] = count;
      }
    if (some) member[i] = count++;
  }
  return count;
}

/* The vectors {n, k} on each aggregate, orthonormal there (modified Gram-Schmidt, twice): the rows of T, and the
 * factors, which are the vectors of the next level {count k, k}. A vector that depends on others there gets zeros. */
static bool tentative(pl_context *c, int32_t n, int32_t d, int32_t count, const int32_t *member, int32_t k,
                      const double *vectors, csr *t, double *next) {
  int32_t *first = pl_memory_new(c, ((size_t)count + 2) * sizeof *first);
  int32_t *list = pl_memory_new(c, ((size_t)n + 1) * sizeof *list);
  bool ok = first && list && csr_new(c, t, n, count * k);
  if (ok) {
    memset(first, 0, ((size_t)count + 2) * sizeof *first);
    for (int32_t i = 0; i < n; i++) {
      t->ptr[i + 1] = t->ptr[i] + (member[i / d] < 0 ? 0 : k);
      if (member[i / d] >= 0) first[member[i / d] + 2]++;
    }
    for (int32_t g = 0; g < count; g++) first[g + 2] += first[g + 1];
    for (int32_t i = 0; i < n; i++)
      if (member[i / d] >= 0) list[first[member[i / d] + 1]++] = i;
    ok = csr_room(c, t);
  }
  if (ok) memset(next, 0, (size_t)count * (size_t)k * (size_t)k * sizeof *next);
  for (int32_t g = 0; ok && g < count; g++) {
    double *r = next + (int64_t)g * k * k;
#define Q(s, q) t->value[t->ptr[list[s]] + (q)]
    for (int32_t s = first[g]; s < first[g + 1]; s++)
      for (int32_t q = 0; q < k; q++) {
        Q(s, q) = vectors[(int64_t)list[s] * k + q];
        t->col[t->ptr[list[s]] + q] = g * k + q;
      }
    for (int32_t q = 0; q < k; q++) {
      double before = 0, after = 0;
      for (int32_t s = first[g]; s < first[g + 1]; s++) before += Q(s, q) * Q(s, q);
      for (int twice = 0; twice < 2; twice++)
        for (int32_t p = 0; p < q; p++) {
          double h = 0;
          for (int32_t s = first[g]; s < first[g + 1]; s++) h += Q(s, p) * Q(s, q);
          for (int32_t s = first[g]; s < first[g + 1]; s++) Q(s, q) -= h * Q(s, p);
          r[p * k + q] += h;
        }
      for (int32_t s = first[g]; s < first[g + 1]; s++) after += Q(s, q) * Q(s, q);
      bool depends = !(after > 1e-20 * before);
      r[q * k + q] = depends ? 0 : sqrt(after);
      for (int32_t s = first[g]; s < first[g + 1]; s++) Q(s, q) = depends ? 0 : Q(s, q) / r[q * k + q];
    }
#undef Q
  }
  pl_memory_free(c, first);
  pl_memory_free(c, list);
  return ok;
}

/* ---- levels ---- */

/* A bound of the spectral radius of D^-1 A: its norm by rows where that says 2, as for M-matrices, else a few steps of
 * the power method with a margin. */
static double spectral_radius(pl_context *c, level *l) {
  const csr *a = &l->a;
  double bound = 0;
  for (int32_t i = 0; i < a->rows; i++) {
    double sum = 0;
    for (int32_t k = a->ptr[i]; k < a->ptr[i + 1]; k++) sum += fabs(a->value[k]);
    bound = fmax(bound, sum * fabs(l->inverse[i]));
  }
  if (bound <= 2 + 1e-9) return bound;
  double size = 1, estimate = bound;
  for (int32_t i = 0; i < a->rows; i++) l->x[i] = (double)((uint32_t)(i + 1) * 2654435761u) * 0x1p-32 - 0.5;
  for (int step = 0; step < 12; step++) {
    for_vector(c, multiply_rows, (rows_args){.a = a, .x = l->x, .y = l->y});
    double square = 0, before = 0;
    for (int32_t i = 0; i < a->rows; i++) {
      before += l->x[i] * l->x[i];
      l->x[i] = l->y[i] * l->inverse[i];
      square += l->x[i] * l->x[i];
    }
    if (!(square > 0) || !isfinite(square)) return bound;
    estimate = sqrt(square / before);
    size = 1 / sqrt(square);
    for (int32_t i = 0; i < a->rows; i++) l->x[i] *= size;
  }
  return fmin(bound, 1.1 * estimate);
}

static bool level_start(pl_context *c, level *l) {
  int32_t n = l->a.rows;
  double **parts[] = {&l->x, &l->y, &l->b, &l->d, &l->inverse};
  for (int i = 0; i < 5; i++)
    if (!(*parts[i] = pl_memory_new(c, ((size_t)n + 16) * sizeof(double)))) return false;
  for (int32_t i = 0; i < n; i++) {
    double d = 0;
    for (int32_t k = l->a.ptr[i]; k < l->a.ptr[i + 1]; k++)
      if (l->a.col[k] == i) d = l->a.value[k];
    l->inverse[i] = d == 0 ? 0 : 1 / d;
  }
  l->radius = spectral_radius(c, l);
  return !pl_interrupted(c);
}

static void destroy(pl_context *c, pl_resource *r) {
  multigrid *m = (multigrid *)r;
  for (int i = 0; i < m->n_levels; i++) {
    level *l = &m->levels[i];
    if (i == 0) l->a.ptr = l->a.col = NULL; /* the pattern's */
    csr *parts[] = {&l->a, &l->p, &l->r, &l->turned};
    for (int k = 0; k < 4; k++) csr_free(c, parts[k]);
    double *vectors[] = {l->x, l->y, l->b, l->d, l->inverse};
    for (int k = 0; k < 5; k++) pl_memory_free(c, vectors[k]);
  }
  if (m->factor) m->factor->destroy(c, m->factor);
  pl_memory_free(c, m->coarse_values);
  pl_memory_free(c, m->kernel);
  pl_object_release((pl_object *)m->coarse);
  pl_object_release(&m->pattern->base);
  pl_memory_free(c, m);
}

/* Interpolation from the next level, whose matrix and vectors it makes. False where nothing gets coarser, or on an
 * error. *vectors {n, k} are given back for new ones. */
static bool coarsen(pl_context *c, multigrid *m, double strength, int32_t block, int32_t k, double **vectors) {
  level *l = &m->levels[m->n_levels - 1], *next = l + 1;
  const csr *a = &l->a;
  int32_t n = a->rows, nodes = n / block;
  csr graph = {0}, t = {0}, at = {0}, ap = {0};
  int32_t *member = pl_memory_new(c, ((size_t)nodes + 1) * sizeof *member), count = 0;
  double *below = NULL;
  bool ok = member && (block == 1 || node_graph(c, a, block, &graph));
  if (ok) count = aggregate(block == 1 ? a : &graph, strength, l->d, member);
  ok = ok && count > 0 && (int64_t)count * k < 0.9 * n;
  ok = ok && (below = pl_memory_new(c, ((size_t)count * (size_t)k * (size_t)k + 1) * sizeof *below)) != NULL &&
       tentative(c, n, block, count, member, k, *vectors, &t, below) && csr_multiply(c, a, &t, &at);
  if (ok) { /* P = T - 4/(3 radius) D^-1 A T: the columns of T's row are among those of A T's, for A has a diagonal */
    double omega = 4 / (3 * l->radius);
    for (int32_t i = 0; i < n; i++) {
      double w = omega * l->inverse[i];
      for (int32_t q = at.ptr[i]; q < at.ptr[i + 1]; q++) {
        at.value[q] *= -w;
        if (t.ptr[i] < t.ptr[i + 1] && at.col[q] / k == t.col[t.ptr[i]] / k)
          at.value[q] += t.value[t.ptr[i] + at.col[q] % k];
      }
    }
    l->p = at;
    at = (csr){0};
  }
  ok = ok && csr_transpose(c, &l->p, &l->r) && csr_multiply(c, a, &l->p, &ap) && csr_multiply(c, &l->r, &ap, &next->a);
  if (next->a.ptr) m->n_levels++;
  csr *parts[] = {&graph, &t, &at, &ap};
  for (int i = 0; i < 4; i++) csr_free(c, parts[i]);
  pl_memory_free(c, member);
  pl_memory_free(c, ok ? *vectors : below);
  if (ok) *vectors = below;
  return ok;
}

/* x loses what the coarsest matrix maps to zero. */
static void project(const multigrid *m, int32_t n, double *x) {
  for (int32_t q = 0; q < m->n_kernel; q++) {
    const double *v = m->kernel + (int64_t)q * n;
    double h = 0;
    for (int32_t i = 0; i < n; i++) h += v[i] * x[i];
    for (int32_t i = 0; i < n; i++) x[i] -= h * v[i];
  }
}

/* Those of the vectors {n, k} that the coarsest matrix maps to zero. */
static bool find_kernel(pl_context *c, multigrid *m, int32_t k, const double *vectors, double largest) {
  const csr *a = &m->levels[m->n_levels - 1].a;
  int32_t n = a->rows;
  double *v = m->kernel = pl_memory_new(c, ((size_t)n * (size_t)k + 1) * sizeof *m->kernel);
  if (!v) return false;
  for (int32_t q = 0; q < k; q++) {
    double square = 0, moved = 0;
    for (int32_t i = 0; i < n; i++) v[i] = vectors[(int64_t)i * k + q];
    for (int twice = 0; twice < 2; twice++) project(m, n, v);
    for (int32_t i = 0; i < n; i++) square += v[i] * v[i];
    if (!(square > 0)) continue;
    for (int32_t i = 0; i < n; i++) {
      double s = 0;
      for (int32_t t = a->ptr[i]; t < a->ptr[i + 1]; t++) s += a->value[t] * v[a->col[t]];
      moved += s * s;
    }
    if (sqrt(moved) > 1e-10 * largest * sqrt(square)) continue;
    for (int32_t i = 0; i < n; i++) v[i] /= sqrt(square);
    m->n_kernel++;
    v += n;
  }
  return true;
}

/* The coarsest matrix, sorted, with a whole diagonal; where it is singular (a pure Neumann problem), shifted a little,
 * and its kernel is kept out of solves. */
static bool factor_coarsest(pl_context *c, multigrid *m, int32_t k, const double *vectors) {
  csr once = {0}, a = {0};
  const csr *from = &m->levels[m->n_levels - 1].a;
  int32_t n = from->rows, *ptr = NULL, *col = NULL, filled = 0;
  double largest = 0;
  bool ok = csr_transpose(c, from, &once) && csr_transpose(c, &once, &a) &&
            (ptr = pl_memory_new(c, ((size_t)n + 1) * sizeof *ptr)) &&
            (col = pl_memory_new(c, ((size_t)a.ptr[n] + (size_t)n + 1) * sizeof *col)) &&
            (m->coarse_values = pl_memory_new(c, ((size_t)a.ptr[n] + (size_t)n + 1) * sizeof(double)));
  if (ok) {
    ptr[0] = 0;
    for (int32_t i = 0; i < n; i++) {
      bool seen = false, zero = true;
      for (int32_t t = a.ptr[i]; t <= a.ptr[i + 1]; t++) {
        bool end = t == a.ptr[i + 1];
        if (!seen && (end || a.col[t] >= i)) {
          seen = true;
          if (end || a.col[t] > i) { /* absent */
            m->coarse_values[filled] = 0;
            col[filled++] = i;
          }
        }
        if (end) break;
        m->coarse_values[filled] = a.value[t];
        col[filled++] = a.col[t];
        zero = zero && a.value[t] == 0;
        if (a.col[t] == i) largest = fmax(largest, fabs(a.value[t]));
      }
      for (int32_t t = ptr[i]; zero && t < filled; t++)
        if (col[t] == i) m->coarse_values[t] = 1;
      ptr[i + 1] = filled;
    }
    ok = (m->coarse = pl_pattern_new(c, n, n, ptr, col)) != NULL;
  }
  ok = ok && find_kernel(c, m, k, vectors, largest);
  for (bool shift = m->n_kernel > 0; ok && !m->factor; shift = true) {
    for (int32_t i = 0; shift && i < n; i++)
      for (int32_t t = ptr[i]; t < ptr[i + 1]; t++)
        if (col[t] == i) m->coarse_values[t] += 1e-8 * (largest > 0 ? largest : 1);
    m->factor = pl_direct_factor(c, m->coarse, m->coarse_values, PL_SOLVER_AUTO);
    ok = m->factor || (!shift && c->status == PL_ERROR_NUMERIC);
    if (ok) c->status = PL_OK;
  }
  pl_memory_free(c, ptr);
  pl_memory_free(c, col);
  csr_free(c, &once);
  csr_free(c, &a);
  return ok;
}

/* ---- the cycle ---- */

/* The Chebyshev polynomial that is small on [radius/ratio, radius]; x and y change places at each step; returns where
 * the result is. */
static double *smooth(pl_context *c, const level *l, const csr *a, int64_t degree, const double *b, double *x,
                      double *y, bool zero) {
  const double ratio = degree < 2 ? 3 : 4;
  double hi = l->radius, lo = hi / ratio, middle = (hi + lo) / 2, half = (hi - lo) / 2;
  double sigma = middle / half, rho = 1 / sigma;
  rows_args q = {.a = a, .b = b, .x = x, .inverse = l->inverse, .d = l->d, .y = y, .old = 0, .new = 1 / middle};
  for (int64_t step = 0; step < degree; step++) {
    for_vector(c, step == 0 && zero ? first_rows : smooth_rows, q);
    double *swap = (double *)q.x, next = 1 / (2 * sigma - rho);
    q.x = q.y;
    q.y = swap;
    q.old = next * rho;
    q.new = 2 * next / half;
    rho = next;
  }
  return (double *)q.x;
}

static const csr *matrix_of(const level *l, bool transpose) { return transpose && l->turned.ptr ? &l->turned : &l->a; }

/* A' of each level, but where it is A. */
static bool turn(pl_context *c, multigrid *m) {
  for (int i = 0; i < m->n_levels; i++) {
    level *l = &m->levels[i];
    if (l->is_turned) continue;
    csr once = {0}, same = {0};
    const csr *a = &l->a;
    bool ok = csr_transpose(c, a, &once) && csr_transpose(c, &once, &same); /* A, sorted as A' is */
    if (ok && memcmp(once.ptr, same.ptr, ((size_t)a->rows + 1) * sizeof *once.ptr) == 0 &&
        memcmp(once.col, same.col, (size_t)a->ptr[a->rows] * sizeof *once.col) == 0) {
      bool equal = true;
      for (int32_t k = 0; equal && k < a->ptr[a->rows]; k++)
        equal = fabs(once.value[k] - same.value[k]) <= 1e-14 * fabs(once.value[k]);
      if (equal) csr_free(c, &once);
    }
    csr_free(c, &same);
    l->turned = once;
    if (!ok) {
      csr_free(c, &l->turned);
      return false;
    }
    l->is_turned = true;
  }
  return true;
}

static void cycle(pl_context *c, multigrid *m, int i, bool transpose, const double *b, double *x) {
  level *l = &m->levels[i];
  if (i == m->n_levels - 1) {
    int32_t n = l->a.rows;
    memcpy(l->y, b, (size_t)n * sizeof *b);
    project(m, n, l->y);
    pl_direct_solve(c, m->factor, m->coarse_values, transpose, 1, l->y, x);
    project(m, n, x);
    return;
  }
  const csr *a = matrix_of(l, transpose);
  level *next = l + 1;
  double *now = smooth(c, l, a, m->degree, b, x, l->y, true), *other = now == x ? l->y : x;
  for_vector(c, residual_rows, (rows_args){.a = a, .b = b, .x = now, .y = other});
  for_vector(c, multiply_rows, (rows_args){.a = &l->r, .x = other, .y = next->b});
  cycle(c, m, i + 1, transpose, next->b, next->x);
  if (c->status) return;
  for_vector(c, multiply_rows, (rows_args){.a = &l->p, .x = next->x, .y = now, .old = 1});
  double *end = smooth(c, l, a, m->degree, b, now, other, false);
  if (end != x) memcpy(x, end, (size_t)a->rows * sizeof *x);
}

static void multigrid_apply(pl_context *c, pl_preconditioner *base, bool transpose, const double *r, double *z) {
  multigrid *m = (multigrid *)base;
  if (transpose && !turn(c, m)) return;
  if (base->n > 0) cycle(c, m, 0, transpose, r, z);
}

pl_preconditioner *pl_multigrid(pl_context *c, pl_pattern *p, const double *values, const pl_precondition_setup *o) {
  int32_t n = p->rows, k = o->vectors ? (int32_t)o->n_vectors : (int32_t)o->base.block, block = (int32_t)o->base.block;
  if (n % block) {
    pl_error(c, PL_ERROR_ARGUMENT, "multigrid: %d unknowns are no whole number of nodes of %d", n, block);
    return NULL;
  }
  multigrid *m = pl_memory_new(c, sizeof *m);
  if (!m) return NULL;
  memset(m, 0, sizeof *m);
  m->base = (pl_preconditioner){.base = {.destroy = destroy, .name = "preconditioner"},
                                .kind = PL_PRECONDITION_MULTIGRID,
                                .n = n,
                                .apply = multigrid_apply};
  m->pattern = p;
  m->degree = o->base.degree;
  m->n_levels = 1;
  pl_object_retain(&p->base);
  level *l = &m->levels[0];
  l->a = (csr){n, n, p->row_ptr, p->col, pl_memory_new(c, ((size_t)p->nnz + 1) * sizeof(double))};
  double *vectors = pl_memory_new(c, ((size_t)n * (size_t)k + 1) * sizeof *vectors);
  bool ok = l->a.value && vectors && pl_diagonal(c, p, values, "multigrid", vectors);
  if (ok) {
    memcpy(l->a.value, values, (size_t)p->nnz * sizeof *values);
    if (o->vectors) memcpy(vectors, o->vectors, (size_t)n * (size_t)k * sizeof *vectors);
    else
      for (int64_t i = 0; i < (int64_t)n * k; i++) vectors[i] = (i / k) % block == i % k;
  }
  double strength = o->base.strength;
  for (int i = 0; ok; i++) {
    ok = level_start(c, &m->levels[i]);
    if (!ok || m->levels[i].a.rows <= COARSEST || i == MOST_LEVELS - 1) break;
    if (!coarsen(c, m, strength, i == 0 ? block : k, k, &vectors)) {
      ok = !c->status;
      break;
    }
    strength /= 2;
  }
  ok = ok && (n == 0 || factor_coarsest(c, m, k, vectors));
  pl_memory_free(c, vectors);
  if (ok) return &m->base;
  destroy(c, &m->base.base);
  return NULL;
}
