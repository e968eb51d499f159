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

static void pattern_destroy(pl_context *c, pl_object *o) {
  pl_pattern *p = (pl_pattern *)o;
  if (p->symbolic) pl_symbolic_free(c, p->symbolic);
  pl_memory_free(c, p->row_ptr);
  pl_memory_free(c, p->col);
  pl_memory_free(c, p->col_ptr);
  pl_memory_free(c, p->row);
  pl_memory_free(c, p->ours);
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
