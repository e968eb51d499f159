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

static int32_t *new_ints(pl_context *c, int64_t n) { return pl_memory_new(c, (size_t)(n + 1) * sizeof(int32_t)); }

/* Takes the arrays over. */
static pl_pattern *adopt(pl_context *c, int32_t rows, int32_t cols, int32_t *row_ptr, int32_t *col) {
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
  int32_t *p = new_ints(c, rows + 1), *q = p ? new_ints(c, row_ptr[rows]) : NULL;
  if (q) {
    memcpy(p, row_ptr, ((size_t)rows + 1) * sizeof *p);
    memcpy(q, col, (size_t)row_ptr[rows] * sizeof *q);
  }
  return adopt(c, rows, cols, p, q);
}

bool pl_pattern_columns(pl_context *c, pl_pattern *p) {
  if (p->ours) return true;
  int32_t *ptr = new_ints(c, p->cols + 1), *row = new_ints(c, p->nnz), *ours = new_ints(c, p->nnz);
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

/* ---- plans ---- */

static void plan_destroy(pl_context *c, pl_object *o) {
  pl_plan *p = (pl_plan *)o;
  pl_object_release((pl_object *)p->out);
  pl_object_release((pl_object *)p->via);
  pl_release(c, p->map_a);
  pl_release(c, p->map_b);
  pl_release(c, p->values);
  pl_release(c, p->of);
  for (int r = 0; r < 3; r++) {
    pl_memory_free(c, p->triple[r]);
    pl_memory_free(c, p->role[r].ptr);
    pl_memory_free(c, p->role[r].first);
    pl_memory_free(c, p->role[r].second);
  }
  pl_memory_free(c, p);
}

static void plan_clear(pl_context *c, pl_object *o) {
  (void)c;
  pl_plan *p = (pl_plan *)o;
  pl_object_release((pl_object *)p->out);
  pl_object_release((pl_object *)p->via);
  p->out = p->via = NULL;
}

static bool plan_equal(const pl_object *x, const pl_object *y) {
  const pl_plan *a = (const pl_plan *)x, *b = (const pl_plan *)y;
  bool same = a->kind == b->kind && a->out == b->out && a->via == b->via && a->n == b->n &&
              !memcmp(a->sizes, b->sizes, sizeof a->sizes);
  for (int r = 0; r < 3 && same && a->n; r++)
    same = !memcmp(a->triple[r], b->triple[r], (size_t)a->n * sizeof(int32_t));
  return same;
}

const pl_object_type pl_plan_type = {"plan", plan_equal, plan_destroy, plan_clear};

static pl_plan *plan_new(pl_context *c, pl_plan_kind kind) {
  pl_plan *p = pl_memory_new(c, sizeof *p);
  if (p) *p = (pl_plan){.base = {.type = &pl_plan_type, .context = c, .refs = 1}, .kind = kind};
  return p;
}

/* Ops refer to plans with triples: equal ones are one, so that programs which hold them are equal too. */
static pl_plan *plan_intern(pl_context *c, pl_plan *p) {
  uint64_t h = pl_hash((uint64_t)p->kind, p->sizes, sizeof p->sizes);
  for (int r = 0; r < 3 && p->n; r++) h = pl_hash(h, p->triple[r], (size_t)p->n * sizeof(int32_t));
  p->base.hash = h;
  return (pl_plan *)pl_object_intern(c, &p->base);
}

pl_plan *pl_plan_new(pl_context *c, pl_plan_kind kind, pl_pattern *out, pl_pattern *via, const int32_t *sizes,
                     int64_t n, int32_t *const *triple) {
  pl_plan *p = plan_new(c, kind);
  if (!p) {
    for (int r = 0; r < 3; r++) pl_memory_free(c, triple[r]);
    return NULL;
  }
  p->n = n;
  memcpy(p->sizes, sizes, sizeof p->sizes);
  for (int r = 0; r < 3; r++) p->triple[r] = triple[r];
  pl_object_retain(&(p->out = out)->base);
  if ((p->via = via)) pl_object_retain(&via->base);
  return plan_intern(c, p);
}

/* An i64 tensor of 1-based positions, owned by the plan. */
static pl_value positions(pl_context *c, int64_t n, const int32_t *zero_based) {
  pl_pause(c);
  pl_value v = pl_tensor(c, PL_I64, 1, &n, NULL);
  pl_resume(c);
  pl_slot *s = v == PL_NONE ? NULL : pl_slot_find(c, v);
  for (int64_t i = 0; s && i < n; i++) ((int64_t *)s->data)[i] = zero_based[i] + 1;
  return v;
}

static bool shapes_error(pl_context *c, const char *what, const pl_pattern *a, const pl_pattern *b) {
  pl_error(c, PL_ERROR_SHAPE, "%s: sparse matrices of shapes {%d, %d} and {%d, %d} do not fit", what, a->rows, a->cols,
           b->rows, b->cols);
  return false;
}

static bool make_sum(pl_context *c, pl_plan *p, const pl_pattern *a, const pl_pattern *b) {
  if (a->rows != b->rows || a->cols != b->cols) return shapes_error(c, "sum", a, b);
  int32_t *ptr = new_ints(c, a->rows + 1), *col = new_ints(c, (int64_t)a->nnz + b->nnz), *ma = new_ints(c, a->nnz),
          *mb = new_ints(c, b->nnz);
  if (ptr && col && ma && mb) {
    int32_t n = 0;
    ptr[0] = 0;
    for (int32_t i = 0; i < a->rows; i++) {
      int32_t k = a->row_ptr[i], l = b->row_ptr[i], ke = a->row_ptr[i + 1], le = b->row_ptr[i + 1];
      while (k < ke || l < le) {
        int32_t ca = k < ke ? a->col[k] : INT32_MAX, cb = l < le ? b->col[l] : INT32_MAX;
        if (ca <= cb) ma[k++] = n;
        if (cb <= ca) mb[l++] = n;
        col[n++] = ca < cb ? ca : cb;
      }
      ptr[i + 1] = n;
    }
    p->map_a = positions(c, a->nnz, ma);
    p->map_b = positions(c, b->nnz, mb);
    p->out = adopt(c, a->rows, a->cols, ptr, col);
    ptr = col = NULL;
  }
  pl_memory_free(c, ptr);
  pl_memory_free(c, col);
  pl_memory_free(c, ma);
  pl_memory_free(c, mb);
  return p->out != NULL;
}

static bool make_transpose(pl_context *c, pl_plan *p, pl_pattern *a) {
  if (!pl_pattern_columns(c, a)) return false;
  p->map_a = positions(c, a->nnz, a->ours);
  return (p->out = pl_pattern_new(c, a->cols, a->rows, a->col_ptr, a->row)) != NULL;
}

static bool take_triples(pl_context *c, pl_plan *p, int64_t n) {
  if (n > INT32_MAX) {
    pl_error(c, PL_ERROR_MEMORY, "a sparse product with %lld terms: at most 2^31 - 1 are possible", (long long)n);
    return false;
  }
  p->n = n;
  for (int r = 0; r < 3; r++)
    if (!(p->triple[r] = new_ints(c, n))) return false;
  return true;
}

/* C = A B, row by row (Gustavson): first its pattern, then the terms in the order of C's entries. */
static bool make_product(pl_context *c, pl_plan *p, const pl_pattern *a, const pl_pattern *b) {
  if (a->cols != b->rows) return shapes_error(c, "product", a, b);
  int64_t terms = 0;
  for (int32_t k = 0; k < a->nnz; k++) terms += b->row_ptr[a->col[k] + 1] - b->row_ptr[a->col[k]];
  if (!take_triples(c, p, terms)) return false;
  int32_t *ptr = new_ints(c, a->rows + 1), *col = new_ints(c, terms), *where = new_ints(c, b->cols),
          *count = new_ints(c, b->cols), *list = new_ints(c, b->cols);
  bool ok = ptr && col && where && count && list;
  int32_t n = 0;
  int64_t t = 0;
  if (ok) {
    for (int32_t j = 0; j < b->cols; j++) where[j] = -1;
    ptr[0] = 0;
  }
  for (int32_t i = 0; ok && i < a->rows; i++) {
    int32_t m = 0; /* columns of this row of C */
    for (int32_t k = a->row_ptr[i]; k < a->row_ptr[i + 1]; k++)
      for (int32_t l = b->row_ptr[a->col[k]]; l < b->row_ptr[a->col[k] + 1]; l++) {
        int32_t j = b->col[l];
        if (where[j] < 0) {
          where[j] = 0;
          count[j] = 0;
          list[m++] = j;
        }
        count[j]++;
      }
    for (int32_t x = 1; x < m; x++) { /* rows are short: insertion sort */
      int32_t j = list[x], y = x;
      for (; y > 0 && list[y - 1] > j; y--) list[y] = list[y - 1];
      list[y] = j;
    }
    int64_t start = t;
    for (int32_t x = 0; x < m; x++) {
      col[n + x] = list[x];
      where[list[x]] = (int32_t)(start - t); /* offset of its first term */
      start += count[list[x]];
      count[list[x]] = n + x;
    }
    for (int32_t k = a->row_ptr[i]; k < a->row_ptr[i + 1]; k++)
      for (int32_t l = b->row_ptr[a->col[k]]; l < b->row_ptr[a->col[k] + 1]; l++) {
        int32_t j = b->col[l];
        int64_t at = t + where[j]++;
        p->triple[0][at] = count[j];
        p->triple[1][at] = k;
        p->triple[2][at] = l;
      }
    for (int32_t x = 0; x < m; x++) where[list[x]] = -1;
    t = start;
    n += m;
    ptr[i + 1] = n;
  }
  p->sizes[0] = n;
  p->sizes[1] = a->nnz;
  p->sizes[2] = b->nnz;
  pl_memory_free(c, where);
  pl_memory_free(c, count);
  pl_memory_free(c, list);
  if (!ok) {
    pl_memory_free(c, ptr);
    pl_memory_free(c, col);
    return false;
  }
  return (p->out = adopt(c, a->rows, b->cols, ptr, col)) != NULL;
}

static bool make_kron(pl_context *c, pl_plan *p, const pl_pattern *a, const pl_pattern *b) {
  int64_t rows = (int64_t)a->rows * b->rows, cols = (int64_t)a->cols * b->cols, n = (int64_t)a->nnz * b->nnz;
  if (rows > INT32_MAX || cols > INT32_MAX) {
    pl_error(c, PL_ERROR_SHAPE, "kron: {%d, %d} by {%d, %d} is too large", a->rows, a->cols, b->rows, b->cols);
    return false;
  }
  if (!take_triples(c, p, n)) return false;
  int32_t *ptr = new_ints(c, rows + 1), *col = new_ints(c, n);
  if (ptr && col) {
    int32_t t = 0;
    ptr[0] = 0;
    for (int32_t i = 0; i < a->rows; i++)
      for (int32_t j = 0; j < b->rows; j++) {
        for (int32_t k = a->row_ptr[i]; k < a->row_ptr[i + 1]; k++)
          for (int32_t l = b->row_ptr[j]; l < b->row_ptr[j + 1]; l++, t++) {
            col[t] = a->col[k] * b->cols + b->col[l];
            p->triple[0][t] = t;
            p->triple[1][t] = k;
            p->triple[2][t] = l;
          }
        ptr[(int64_t)i * b->rows + j + 1] = t;
      }
  }
  p->sizes[0] = (int32_t)n;
  p->sizes[1] = a->nnz;
  p->sizes[2] = b->nnz;
  return (p->out = adopt(c, (int32_t)rows, (int32_t)cols, ptr, col)) != NULL;
}

/* K = B' diag(d) B: K[x, y] = sum_q d_q B[q, x] B[q, y]. The triples make the values B[q, x] B[q, y] of the map `via`
 * from d to K's values. */
static bool make_gram(pl_context *c, pl_plan *p, pl_pattern *b) {
  if (!pl_pattern_columns(c, b)) return false;
  int64_t terms = 0;
  for (int32_t q = 0; q < b->rows; q++) {
    int64_t m = b->row_ptr[q + 1] - b->row_ptr[q];
    terms += m * m;
  }
  if (!take_triples(c, p, terms)) return false;
  /* K's pattern: a row x meets, through its entries of B, the columns of those rows of B */
  int32_t *ptr = new_ints(c, b->cols + 1), *col = new_ints(c, terms), *via_ptr = new_ints(c, terms),
          *via_col = new_ints(c, terms);
  int32_t *where = new_ints(c, b->cols), *count = new_ints(c, b->cols), *list = new_ints(c, b->cols);
  bool ok = ptr && col && via_ptr && via_col && where && count && list;
  int32_t n = 0, t = 0;
  if (ok) {
    for (int32_t j = 0; j < b->cols; j++) where[j] = -1;
    ptr[0] = via_ptr[0] = 0;
  }
  for (int32_t x = 0; ok && x < b->cols; x++) {
    int32_t m = 0;
    for (int32_t e = b->col_ptr[x]; e < b->col_ptr[x + 1]; e++) {
      int32_t q = b->row[e];
      for (int32_t l = b->row_ptr[q]; l < b->row_ptr[q + 1]; l++) {
        int32_t y = b->col[l];
        if (where[y] < 0) {
          where[y] = 0;
          count[y] = 0;
          list[m++] = y;
        }
        count[y]++;
      }
    }
    for (int32_t u = 1; u < m; u++) {
      int32_t j = list[u], v = u;
      for (; v > 0 && list[v - 1] > j; v--) list[v] = list[v - 1];
      list[v] = j;
    }
    int32_t start = t;
    for (int32_t u = 0; u < m; u++) {
      col[n + u] = list[u];
      where[list[u]] = start;
      start += count[list[u]];
      via_ptr[n + u + 1] = start;
    }
    for (int32_t e = b->col_ptr[x]; e < b->col_ptr[x + 1]; e++) { /* rows q ascend: so do via's columns */
      int32_t q = b->row[e];
      for (int32_t l = b->row_ptr[q]; l < b->row_ptr[q + 1]; l++) {
        int32_t at = where[b->col[l]]++;
        via_col[at] = q;
        p->triple[0][at] = at;
        p->triple[1][at] = b->ours[e];
        p->triple[2][at] = l;
      }
    }
    for (int32_t u = 0; u < m; u++) where[list[u]] = -1;
    t = start;
    n += m;
    ptr[x + 1] = n;
  }
  p->sizes[0] = t;
  p->sizes[1] = p->sizes[2] = b->nnz;
  pl_memory_free(c, where);
  pl_memory_free(c, count);
  pl_memory_free(c, list);
  if (!ok) {
    pl_memory_free(c, ptr);
    pl_memory_free(c, col);
    pl_memory_free(c, via_ptr);
    pl_memory_free(c, via_col);
    return false;
  }
  p->out = adopt(c, b->cols, b->cols, ptr, col);
  p->via = adopt(c, n, b->rows, via_ptr, via_col);
  return p->out && p->via;
}

/* For each value of output r the products that make it, in a fixed order. */
bool pl_plan_role(pl_context *c, pl_plan *p, int r) {
  if (p->role[r].ptr) return true;
  int s1 = r == 0 ? 1 : 0, s2 = r == 2 ? 1 : 2;
  int32_t *ptr = new_ints(c, (int64_t)p->sizes[r] + 1), *first = new_ints(c, p->n), *second = new_ints(c, p->n);
  if (!ptr || !first || !second) {
    pl_memory_free(c, ptr);
    pl_memory_free(c, first);
    pl_memory_free(c, second);
    return false;
  }
  memset(ptr, 0, ((size_t)p->sizes[r] + 1) * sizeof *ptr);
  for (int64_t t = 0; t < p->n; t++) ptr[p->triple[r][t] + 1]++;
  for (int32_t k = 0; k < p->sizes[r]; k++) ptr[k + 1] += ptr[k];
  for (int64_t t = 0; t < p->n; t++) {
    int32_t at = ptr[p->triple[r][t]]++;
    first[at] = p->triple[s1][t];
    second[at] = p->triple[s2][t];
  }
  for (int32_t k = p->sizes[r]; k > 0; k--) ptr[k] = ptr[k - 1];
  ptr[0] = 0;
  p->role[r].ptr = ptr;
  p->role[r].first = first;
  p->role[r].second = second;
  return true;
}

/* ---- the memo: a bounded table in front of the plans ---- */

enum { MEMO = 256 };

typedef struct pl_memo_entry {
  uint64_t key[4];
  pl_pattern *a, *b; /* held, so that their addresses stay theirs */
  pl_plan *plan;
} memo_entry;

static memo_entry *memo_find(pl_context *c, const uint64_t *key) {
  if (!c->memo) {
    if (!(c->memo = pl_memory_new(c, MEMO * sizeof *c->memo))) return NULL;
    memset(c->memo, 0, MEMO * sizeof *c->memo);
  }
  return &c->memo[pl_hash(1, key, 4 * sizeof *key) % MEMO];
}

static void memo_clear(memo_entry *e) {
  pl_object_release((pl_object *)e->plan);
  pl_object_release((pl_object *)e->a);
  pl_object_release((pl_object *)e->b);
  *e = (memo_entry){{0}, NULL, NULL, NULL};
}

void pl_memo_free(pl_context *c) {
  for (int i = 0; c->memo && i < MEMO; i++) memo_clear(&c->memo[i]);
  pl_memory_free(c, c->memo);
  c->memo = NULL;
}

static pl_plan *memo_store(memo_entry *e, const uint64_t *key, pl_pattern *a, pl_pattern *b, pl_plan *plan) {
  memo_clear(e);
  memcpy(e->key, key, sizeof e->key);
  if ((e->a = a)) pl_object_retain(&a->base);
  if ((e->b = b)) pl_object_retain(&b->base);
  e->plan = plan;
  pl_object_retain(&plan->base);
  return plan;
}

pl_plan *pl_plan_get(pl_context *c, pl_plan_kind kind, pl_pattern *a, pl_pattern *b) {
  if (c->status) return NULL;
  uint64_t key[4] = {(uint64_t)kind + 1, (uint64_t)(uintptr_t)a, (uint64_t)(uintptr_t)b, 0};
  memo_entry *e = memo_find(c, key);
  if (!e) return NULL;
  if (e->plan && !memcmp(e->key, key, sizeof key)) {
    c->memo_hits++;
    pl_object_retain(&e->plan->base);
    return e->plan;
  }
  c->memo_misses++;
  pl_plan *p = plan_new(c, kind);
  if (!p) return NULL;
  bool ok = kind == PL_PLAN_SUM         ? make_sum(c, p, a, b)
            : kind == PL_PLAN_TRANSPOSE ? make_transpose(c, p, a)
            : kind == PL_PLAN_PRODUCT   ? make_product(c, p, a, b)
            : kind == PL_PLAN_KRON      ? make_kron(c, p, a, b)
                                        : make_gram(c, p, a);
  if (!ok || c->status) {
    pl_object_release(&p->base);
    return NULL;
  }
  if (p->triple[0] && !(p = plan_intern(c, p))) return NULL;
  return memo_store(e, key, a, b, p);
}

static bool read_index(pl_context *c, pl_value v, int64_t most, const char *which, int64_t *n, int32_t **out) {
  pl_info info;
  const void *data = pl_describe(c, v, &info) ? pl_data(c, v) : NULL;
  if (!data) return false;
  if (info.dtype == PL_BOOL || info.rank > 1) {
    pl_error(c, PL_ERROR_TYPE, "triplets: the %s indices must be a vector of whole numbers", which);
    return false;
  }
  *n = info.count;
  if (!(*out = new_ints(c, *n))) return false;
  for (int64_t k = 0; k < *n; k++) {
    double x = info.dtype == PL_F64   ? ((const double *)data)[k]
               : info.dtype == PL_F32 ? (double)((const float *)data)[k]
                                      : (double)((const int64_t *)data)[k];
    if (!(x >= 1 && x <= (double)most) || x != (double)(int64_t)x) {
      pl_error(c, PL_ERROR_INDEX, "triplets: %s %g (entry %lld) is out of range 1 to %lld", which, x, (long long)k + 1,
               (long long)most);
      return false;
    }
    (*out)[k] = (int32_t)x - 1;
  }
  return true;
}

pl_plan *pl_plan_triplets(pl_context *c, pl_value i, pl_value j, int64_t rows, int64_t cols) {
  if (c->status) return NULL;
  if (rows < 0 || cols < 0 || rows > INT32_MAX - 1 || cols > INT32_MAX - 1) {
    pl_error(c, PL_ERROR_SHAPE, "triplets: {%lld, %lld} is no shape of a sparse matrix", (long long)rows,
             (long long)cols);
    return NULL;
  }
  uint64_t key[4] = {(uint64_t)PL_PLAN_TRIPLETS + 1, i, j, (uint64_t)rows << 32 | (uint64_t)cols};
  memo_entry *e = memo_find(c, key);
  if (!e) return NULL;
  if (e->plan && !memcmp(e->key, key, sizeof key) && pl_slot_find(c, i) && pl_slot_find(c, j)) {
    c->memo_hits++;
    pl_object_retain(&e->plan->base);
    return e->plan;
  }
  c->memo_misses++;
  pl_plan *p = plan_new(c, PL_PLAN_TRIPLETS);
  int32_t *ii = NULL, *jj = NULL, *ptr = NULL, *col = NULL, *order = NULL, *map = NULL, *count = NULL;
  int64_t n = 0, n_j = 0;
  bool ok = p && read_index(c, i, rows, "row", &n, &ii) && read_index(c, j, cols, "column", &n_j, &jj);
  if (ok && n != n_j) {
    pl_error(c, PL_ERROR_SHAPE, "triplets: %lld row and %lld column indices", (long long)n, (long long)n_j);
    ok = false;
  }
  if (ok && n > INT32_MAX - 1) {
    pl_error(c, PL_ERROR_SHAPE, "triplets: %lld are too many", (long long)n);
    ok = false;
  }
  ok = ok && (ptr = new_ints(c, rows + 1)) && (col = new_ints(c, n)) && (order = new_ints(c, n)) &&
       (map = new_ints(c, n)) && (count = new_ints(c, (rows > cols ? rows : cols) + 1));
  if (ok) { /* stable counting sorts, by column then by row */
    memset(count, 0, ((size_t)cols + 1) * sizeof *count);
    for (int64_t k = 0; k < n; k++) count[jj[k] + 1]++;
    for (int64_t k = 0; k < cols; k++) count[k + 1] += count[k];
    for (int64_t k = 0; k < n; k++) map[count[jj[k]]++] = (int32_t)k;
    memset(count, 0, ((size_t)rows + 1) * sizeof *count);
    for (int64_t k = 0; k < n; k++) count[ii[k] + 1]++;
    for (int64_t k = 0; k < rows; k++) count[k + 1] += count[k];
    for (int64_t k = 0; k < n; k++) order[count[ii[map[k]]]++] = map[k];
    int32_t nnz = 0, row = 0;
    ptr[0] = 0;
    for (int64_t k = 0; k < n; k++) {
      int32_t q = order[k];
      while (row < ii[q]) ptr[++row] = nnz;
      if (nnz == ptr[row] || col[nnz - 1] != jj[q]) col[nnz++] = jj[q];
      map[q] = nnz - 1; /* read above this point only through order */
    }
    while (row < rows) ptr[++row] = nnz;
    p->map_a = positions(c, n, map);
    p->out = adopt(c, (int32_t)rows, (int32_t)cols, ptr, col);
    ptr = col = NULL;
    ok = p->out && !c->status;
  }
  pl_memory_free(c, ii);
  pl_memory_free(c, jj);
  pl_memory_free(c, ptr);
  pl_memory_free(c, col);
  pl_memory_free(c, order);
  pl_memory_free(c, map);
  pl_memory_free(c, count);
  if (!ok) {
    if (p) pl_object_release(&p->base);
    return NULL;
  }
  return memo_store(e, key, NULL, NULL, p);
}
