#include "pattern.h"

#include <stdlib.h>
#include <string.h>

#include "op.h"

/* ---- patterns ---- */

static bool pattern_equal(const pl_object *x, const pl_object *y) {
  const pl_pattern *a = (const pl_pattern *)x, *b = (const pl_pattern *)y;
  return a->rows == b->rows && a->cols == b->cols && a->nnz == b->nnz &&
         !memcmp(a->row_ptr, b->row_ptr, ((size_t)a->rows + 1) * sizeof *a->row_ptr) &&
         !memcmp(a->col, b->col, (size_t)a->nnz * sizeof *a->col);
}

static void runs_free(pl_context *c, pl_runs *r) {
  int32_t *const arrays[] = {r->start, r->first, r->off, r->from, r->step};
  for (int k = 0; k < 5; k++) pl_memory_free(c, arrays[k]);
  *r = (pl_runs){.looked = r->looked};
}

static void pattern_destroy(pl_context *c, pl_object *o) {
  pl_pattern *p = (pl_pattern *)o;
  if (p->symbolic) pl_symbolic_free(c, p->symbolic);
  pl_memory_free(c, p->row_ptr);
  pl_memory_free(c, p->col);
  pl_memory_free(c, p->col_ptr);
  pl_memory_free(c, p->row);
  pl_memory_free(c, p->ours);
  for (int k = 0; k < 2; k++) runs_free(c, &p->runs[k]);
  pl_memory_free(c, p);
}

const pl_object_type pl_pattern_type = {"pattern", pattern_equal, pattern_destroy, NULL};

int32_t *pl_ints_new(pl_context *c, int64_t n) { return pl_memory_new(c, (size_t)(n + 1) * sizeof(int32_t)); }

pl_pattern *pl_pattern_adopt(pl_context *c, int32_t rows, int32_t cols, int32_t *row_ptr, int32_t *col) {
  pl_pattern *p = row_ptr && col ? pl_memory_new(c, sizeof *p) : NULL;
  if (!p) {
    pl_memory_free(c, row_ptr);
    pl_memory_free(c, col);
    return NULL;
  }
  *p = (pl_pattern){.base = {.type = &pl_pattern_type, .context = c, .refs = 1},
                    .rows = rows,
                    .cols = cols,
                    .nnz = row_ptr[rows],
                    .row_ptr = row_ptr,
                    .col = col};
  p->base.hash = pl_hash(pl_hash((uint64_t)cols, row_ptr, ((size_t)rows + 1) * sizeof *row_ptr), col,
                         (size_t)p->nnz * sizeof *col);
  return (pl_pattern *)pl_object_intern(c, &p->base);
}

pl_pattern *pl_pattern_new(pl_context *c, int32_t rows, int32_t cols, const int32_t *row_ptr, const int32_t *col) {
  int32_t *p = pl_ints_new(c, rows + 1), *q = p ? pl_ints_new(c, row_ptr[rows]) : NULL;
  if (q) {
    memcpy(p, row_ptr, ((size_t)rows + 1) * sizeof *p);
    memcpy(q, col, (size_t)row_ptr[rows] * sizeof *q);
  }
  return pl_pattern_adopt(c, rows, cols, p, q);
}

bool pl_pattern_columns(pl_context *c, pl_pattern *p) {
  if (p->ours) return true;
  int32_t *ptr = pl_ints_new(c, p->cols + 1), *row = pl_ints_new(c, p->nnz), *ours = pl_ints_new(c, p->nnz);
  if (!ptr || !row || !ours) {
    pl_memory_free(c, ptr);
    pl_memory_free(c, row);
    pl_memory_free(c, ours);
    return false;
  }
  memset(ptr, 0, ((size_t)p->cols + 1) * sizeof *ptr);
  for (int32_t k = 0; k < p->nnz; k++) ptr[p->col[k] + 1]++;
  for (int32_t j = 0; j < p->cols; j++) ptr[j + 1] += ptr[j];
  for (int32_t i = 0; i < p->rows; i++)
    for (int32_t k = p->row_ptr[i]; k < p->row_ptr[i + 1]; k++) {
      int32_t t = ptr[p->col[k]]++;
      row[t] = i;
      ours[t] = k;
    }
  for (int32_t j = p->cols; j > 0; j--) ptr[j] = ptr[j - 1];
  ptr[0] = 0;
  p->col_ptr = ptr;
  p->row = row;
  p->ours = ours;
  return true;
}

/* ---- runs ---- */

typedef struct {
  int32_t rows;
  const int32_t *ptr, *index, *map;
} csr;

static int32_t place(const csr *a, int32_t t) { return a->map ? a->map[t] : t; }

/* Does row i go on with the run that began at `start`? */
static bool goes_on(const csr *a, int32_t start, int32_t i) {
  int32_t here = a->ptr[i], above = a->ptr[i - 1], n = a->ptr[i + 1] - here;
  if (here - above != n) return false;
  for (int32_t t = 0; t < n; t++) {
    if (a->index[here + t] - a->index[above + t] != 1) return false;
    if (a->map && i > start + 1 && a->map[here + t] - a->map[above + t] != a->map[above + t] - a->map[above - n + t])
      return false;
  }
  return true;
}

enum { RUN = 8 }; /* rows in a run, on the average, that make it worth while */

static bool find_runs(pl_context *c, const csr *a, pl_runs *r) {
  int32_t n = 0, start = 0;
  int64_t terms = 0;
  for (int32_t i = 0; i < a->rows; i++) {
    if (i && goes_on(a, start, i)) continue;
    if (++n > a->rows / RUN) return true;
    start = i;
    terms += a->ptr[i + 1] - a->ptr[i];
  }
  r->start = pl_ints_new(c, n);
  r->first = pl_ints_new(c, n);
  r->off = pl_ints_new(c, terms);
  r->from = pl_ints_new(c, terms);
  r->step = pl_ints_new(c, terms);
  if (!r->start || !r->first || !r->off || !r->from || !r->step) return false;
  int32_t k = 0;
  n = 0;
  for (int32_t i = 0; i < a->rows; i++) {
    if (i && goes_on(a, r->start[n - 1], i)) continue;
    r->start[n] = i;
    r->first[n++] = k;
    int32_t next = a->ptr[i + 1], length = next - a->ptr[i];
    bool more = i + 1 < a->rows && goes_on(a, i, i + 1);
    for (int32_t t = a->ptr[i]; t < next; t++, k++) {
      r->off[k] = a->index[t] - i;
      r->from[k] = place(a, t);
      r->step[k] = more ? place(a, t + length) - r->from[k] : 0;
    }
  }
  r->start[n] = a->rows;
  r->first[n] = k;
  r->n = n;
  return true;
}

const pl_runs *pl_pattern_runs(pl_context *c, pl_pattern *p, bool columns) {
  pl_runs *r = &p->runs[columns];
  if (!r->looked) {
    if (columns && !pl_pattern_columns(c, p)) return NULL;
    csr a = columns ? (csr){p->cols, p->col_ptr, p->row, p->ours} : (csr){p->rows, p->row_ptr, p->col, NULL};
    r->looked = true;
    if (!find_runs(c, &a, r)) runs_free(c, r);
  }
  return r->n ? r : NULL;
}

/* ---- lists ---- */

static bool list_equal(const pl_object *x, const pl_object *y) {
  const pl_list *a = (const pl_list *)x, *b = (const pl_list *)y;
  return a->n == b->n && a->n_held == b->n_held && !memcmp(a->data, b->data, (size_t)a->n * sizeof *a->data) &&
         !memcmp(a->held, b->held, (size_t)a->n_held * sizeof(pl_object *));
}

static void list_clear(pl_context *c, pl_object *o) {
  (void)c;
  pl_list *l = (pl_list *)o;
  for (int k = 0; k < l->n_held; k++) pl_object_release(l->held[k]);
  l->n_held = 0;
}

static void list_destroy(pl_context *c, pl_object *o) {
  list_clear(c, o);
  pl_memory_free(c, ((pl_list *)o)->data);
  pl_memory_free(c, o);
}

const pl_object_type pl_list_type = {"list", list_equal, list_destroy, list_clear};

pl_list *pl_list_new(pl_context *c, int64_t n, int32_t *data, int n_held, pl_pattern *const *held) {
  pl_list *l = data ? pl_memory_new(c, sizeof *l + (size_t)n_held * sizeof *l->held) : NULL;
  if (!l) {
    pl_memory_free(c, data);
    return NULL;
  }
  *l = (pl_list){.base = {.type = &pl_list_type, .context = c, .refs = 1}, .n = n, .data = data, .n_held = n_held};
  for (int k = 0; k < n_held; k++) {
    l->held[k] = (pl_object *)held[k];
    if (held[k]) pl_object_retain(&held[k]->base);
  }
  l->base.hash =
      pl_hash(pl_hash((uint64_t)n_held, data, (size_t)n * sizeof *data), l->held, (size_t)n_held * sizeof(pl_object *));
  return (pl_list *)pl_object_intern(c, &l->base);
}
