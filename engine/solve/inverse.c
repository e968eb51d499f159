/* inverse.c: entries of an inverse on the pattern of its matrix, by recurrences on the factors: with A = L D U,
 * Z = A^-1 = D^-1 L^-1 + (I - U) Z = U^-1 D^-1 + Z (I - L), so that from the last column on
 *
 *   Z_ij = -sum_k Z_ik L_kj,  Z_ji = -sum_k U_jk Z_ki (i > j),  Z_jj = 1/d_j - sum_k U_jk Z_kj,  k > j,
 *
 * and only entries where L + U' has fill are needed (K. Takahashi, J. Fagan, M.-S. Chen, 8th PICA Conference, 1973;
 * A. Erisman, W. Tinney, CACM 18, 1975). Off the symmetric case they stand on the fill of both triangles together. */
#include <stdlib.h>
#include <string.h>

#include "factor.h"

bool pl_triangles_new(pl_context *c, pl_triangles *t, int32_t n, int64_t nl, int64_t nu) {
  size_t m = (size_t)n + 1;
  *t = (pl_triangles){.n = n, .symmetric = nu < 0};
  bool ok = (t->l_ptr = pl_memory_new(c, m * 4)) && (t->l_row = pl_memory_new(c, (size_t)(nl + 1) * 4)) &&
            (t->l = pl_memory_new(c, (size_t)(nl + 1) * 8)) && (t->d = pl_memory_new(c, m * 8)) &&
            (t->left = pl_memory_new(c, m * 4)) && (t->right = pl_memory_new(c, m * 4)) &&
            (t->scale = pl_memory_new(c, m * 8));
  if (ok && nu >= 0)
    ok = (t->u_ptr = pl_memory_new(c, m * 4)) && (t->u_col = pl_memory_new(c, (size_t)(nu + 1) * 4)) &&
         (t->u = pl_memory_new(c, (size_t)(nu + 1) * 8));
  return ok;
}

void pl_triangles_free(pl_context *c, pl_triangles *t) {
  void *all[] = {t->l_ptr, t->l_row, t->u_ptr, t->u_col, t->l, t->u, t->d, t->left, t->right, t->scale};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) pl_memory_free(c, all[i]);
}

double pl_parity(pl_context *c, int32_t n, const int *p) {
  char *seen = pl_memory_new(c, (size_t)n + 1);
  double sign = 1;
  if (!seen) return 1;
  memset(seen, 0, (size_t)n);
  for (int32_t i = 0; i < n; i++)
    for (int32_t j = p[i]; !seen[i] && j != i; j = p[j]) {
      seen[j] = 1;
      sign = -sign;
    }
  pl_memory_free(c, seen);
  return sign;
}

/* The rows below the diagonal of each column, closed under elimination and sorted. */
typedef struct {
  int32_t *ptr, *row;
  int64_t capacity;
} structure;

static int ascending(const void *a, const void *b) {
  int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
  return (x > y) - (x < y);
}

static bool close_structure(pl_context *c, const pl_triangles *t, structure *s) {
  int32_t n = t->n, *mark = pl_memory_new(c, (size_t)(3 * n + 1) * sizeof *mark), *child = mark + n, *next = child + n;
  int64_t at = 0;
  s->capacity = (int64_t)t->l_ptr[n] + t->u_ptr[n] + n;
  s->ptr = pl_memory_new(c, ((size_t)n + 1) * sizeof *s->ptr);
  s->row = pl_memory_new(c, (size_t)(s->capacity + 1) * sizeof *s->row);
  bool ok = mark && s->ptr && s->row;
  for (int32_t j = 0; ok && j < n; j++) mark[j] = child[j] = -1;
  for (int32_t j = 0; ok && j < n; j++) {
    if (at > INT32_MAX - 2 * (int64_t)n) {
      pl_error(c, PL_ERROR_MEMORY, "logdet: the factors' structure has more than 2^31 entries");
      break;
    }
    if (at + n > s->capacity) {
      s->capacity = 2 * s->capacity + n;
      int32_t *more = pl_memory_grow(c, s->row, (size_t)(s->capacity + 1) * sizeof *more);
      if (!(ok = more != NULL)) break;
      s->row = more;
    }
    s->ptr[j] = (int32_t)at;
    mark[j] = j;
#define TAKE(list, from, to)                     \
  for (int32_t e = (from); e < (to); e++)        \
    if (mark[(list)[e]] != j && (list)[e] > j) { \
      mark[(list)[e]] = j;                       \
      s->row[at++] = (list)[e];                  \
    }
    TAKE(t->l_row, t->l_ptr[j], t->l_ptr[j + 1])
    TAKE(t->u_col, t->u_ptr[j], t->u_ptr[j + 1])
    for (int32_t k = child[j]; k >= 0; k = next[k]) TAKE(s->row, s->ptr[k], s->ptr[k + 1])
#undef TAKE
    qsort(s->row + s->ptr[j], (size_t)(at - s->ptr[j]), sizeof *s->row, ascending);
    s->ptr[j + 1] = (int32_t)at;
    if (at > s->ptr[j]) {
      int32_t parent = s->row[s->ptr[j]];
      next[j] = child[parent];
      child[parent] = j;
    }
  }
  pl_memory_free(c, mark);
  return ok && c->status == PL_OK;
}

/* Columns of L (or rows of U) spread over the structure. */
static void spread(const structure *s, int32_t n, const int32_t *ptr, const int32_t *row, const double *x, double *work,
                   double *to) {
  for (int32_t j = 0; j < n; j++) {
    for (int32_t e = ptr[j]; e < ptr[j + 1]; e++) work[row[e]] = x[e];
    for (int32_t e = s->ptr[j]; e < s->ptr[j + 1]; e++) to[e] = work[s->row[e]];
    for (int32_t e = ptr[j]; e < ptr[j + 1]; e++) work[row[e]] = 0;
  }
}

/* zl: Z below the diagonal by columns, zu: beyond it by rows (symmetric: zl). work: 5 n numbers, the first zero. */
static void recur(const structure *s, const pl_triangles *t, int32_t j, const double *l, const double *u, double *zl,
                  double *zu, double *zd, double *work) {
  int32_t n = t->n, from = s->ptr[j], to = s->ptr[j + 1];
  double *in = work, *lj = in + n, *uj = lj + n, *y = uj + n, *w = y + n;
  for (int32_t e = from; e < to; e++) {
    int32_t k = s->row[e];
    in[k] = 1;
    lj[k] = l[e];
    uj[k] = u[e];
    y[k] = zd[k] * l[e];
    w[k] = zd[k] * u[e];
  }
  for (int32_t e = from; e < to; e++) {
    int32_t k = s->row[e];
    double lk = lj[k], uk = uj[k], yk = 0, wk = 0;
    if (t->symmetric) {
      for (int32_t g = s->ptr[k]; g < s->ptr[k + 1]; g++) {
        int32_t i = s->row[g];
        if (in[i] == 0) continue;
        y[i] += zl[g] * lk;
        yk += zl[g] * lj[i];
      }
    } else {
      for (int32_t g = s->ptr[k]; g < s->ptr[k + 1]; g++) {
        int32_t i = s->row[g];
        if (in[i] == 0) continue;
        y[i] += zl[g] * lk;
        yk += zu[g] * lj[i];
        w[i] += zu[g] * uk;
        wk += zl[g] * uj[i];
      }
    }
    y[k] += yk;
    w[k] += wk;
  }
  double diagonal = 1 / t->d[j];
  for (int32_t e = from; e < to; e++) {
    int32_t k = s->row[e];
    zl[e] = -y[k];
    if (!t->symmetric) zu[e] = -w[k];
    diagonal += y[k] * u[e];
    in[k] = 0;
  }
  zd[j] = diagonal;
}

static double look_up(const structure *s, int32_t j, int32_t i, const double *z) { /* i > j */
  int32_t lo = s->ptr[j], hi = s->ptr[j + 1];
  while (lo < hi) {
    int32_t middle = lo + (hi - lo) / 2;
    if (s->row[middle] < i) lo = middle + 1;
    else hi = middle;
  }
  return lo < s->ptr[j + 1] && s->row[lo] == i ? z[lo] : 0; /* another diagonal block: zero */
}

bool pl_selected_inverse(pl_context *c, const pl_pattern *p, const pl_triangles *t, double *out) {
  int32_t n = t->n;
  structure s = {t->l_ptr, t->l_row, 0};
  bool ok = t->symmetric || close_structure(c, t, &s);
  size_t count = ok ? (size_t)s.ptr[n] : 0, sides = t->symmetric ? 1 : 4;
  double *z = ok ? pl_memory_new(c, (count * sides + (size_t)n * 6 + 1) * sizeof *z) : NULL;
  if (z) {
    double *zd = z + count, *work = zd + n, *zu = t->symmetric ? z : work + 5 * (int64_t)n, *lx = t->l, *ux = t->l;
    memset(work, 0, (size_t)n * 5 * sizeof *work);
    if (!t->symmetric) {
      lx = zu + count;
      ux = lx + count;
      spread(&s, n, t->l_ptr, t->l_row, t->l, work, lx);
      spread(&s, n, t->u_ptr, t->u_col, t->u, work, ux);
    }
    for (int32_t j = n - 1; j >= 0 && !(j % 64 == 0 && pl_interrupted(c)); j--)
      recur(&s, t, j, lx, ux, z, zu, zd, work);
    for (int32_t i = 0; i < p->rows && !c->status; i++)
      for (int32_t k = p->row_ptr[i]; k < p->row_ptr[i + 1]; k++) {
        int32_t a = t->left[i], b = t->right[p->col[k]];
        double x = a == b ? zd[a] : a > b ? look_up(&s, b, a, z) : look_up(&s, a, b, zu);
        out[k] = x / t->scale[b];
      }
  }
  pl_memory_free(c, z);
  if (!t->symmetric) {
    pl_memory_free(c, s.ptr);
    pl_memory_free(c, s.row);
  }
  return ok && c->status == PL_OK;
}
