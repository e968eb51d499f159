/* plan.c: what is known about patterns together: products, which ops refer to (the maps of values stand in maps.c), and
 * the memo in front. */
#include <stdlib.h>
#include <string.h>

#include "op.h"
#include "pattern.h"

static void plan_destroy(pl_context *c, pl_object *o) {
  pl_plan *p = (pl_plan *)o;
  pl_object_release((pl_object *)p->out);
  pl_object_release((pl_object *)p->via);
  pl_release(c, p->map_a);
  pl_release(c, p->map_b);
  for (int k = 0; k < PL_PLAN_VALUES; k++) {
    pl_release(c, p->made[k].values);
    pl_release(c, p->made[k].of);
  }
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

static bool take_triples(pl_context *c, pl_plan *p, int64_t n) {
  if (n > INT32_MAX) {
    pl_error(c, PL_ERROR_MEMORY, "a sparse product with %lld terms: at most 2^31 - 1 are possible", (long long)n);
    return false;
  }
  p->n = n;
  for (int r = 0; r < 3; r++)
    if (!(p->triple[r] = pl_ints_new(c, n))) return false;
  return true;
}

static int ascending(const void *x, const void *y) {
  int32_t a = *(const int32_t *)x, b = *(const int32_t *)y;
  return (a > b) - (a < b);
}
static void sort(int32_t n, int32_t *list) {
  if (n > 32) {
    qsort(list, (size_t)n, sizeof *list, ascending);
    return;
  }
  for (int32_t x = 1; x < n; x++) {
    int32_t j = list[x], y = x;
    for (; y > 0 && list[y - 1] > j; y--) list[y] = list[y - 1];
    list[y] = j;
  }
}

/* C = A B, row by row (Gustavson): first its pattern, then the terms in the order of C's entries. */
static PL_MAKER(make_product) {
  (void)number;
  const pl_pattern *a = (pl_pattern *)of, *b = (pl_pattern *)with;
  if (a->cols != b->rows) return pl_patterns_differ(c, "product", a, b);
  int64_t terms = 0;
  for (int32_t k = 0; k < a->nnz; k++) terms += b->row_ptr[a->col[k] + 1] - b->row_ptr[a->col[k]];
  if (!take_triples(c, p, terms)) return false;
  int32_t *ptr = pl_ints_new(c, a->rows + 1), *col = pl_ints_new(c, terms), *where = pl_ints_new(c, b->cols),
          *count = pl_ints_new(c, b->cols), *list = pl_ints_new(c, b->cols);
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
    sort(m, list);
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
  return (p->out = pl_pattern_adopt(c, a->rows, b->cols, ptr, col)) != NULL;
}

static PL_MAKER(make_kron) {
  (void)number;
  const pl_pattern *a = (pl_pattern *)of, *b = (pl_pattern *)with;
  int64_t rows = (int64_t)a->rows * b->rows, cols = (int64_t)a->cols * b->cols, n = (int64_t)a->nnz * b->nnz;
  if (rows >= INT32_MAX || cols >= INT32_MAX) {
    pl_error(c, PL_ERROR_SHAPE, "kron: {%d, %d} by {%d, %d} is too large", a->rows, a->cols, b->rows, b->cols);
    return false;
  }
  if (!take_triples(c, p, n)) return false;
  int32_t *ptr = pl_ints_new(c, rows + 1), *col = pl_ints_new(c, n);
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
  return (p->out = pl_pattern_adopt(c, (int32_t)rows, (int32_t)cols, ptr, col)) != NULL;
}

/* K = B' D B for D of blocks of k rows (k = 1: a diagonal): K[x, y] = sum over rows q, r of a block of D[q, r] B[q, x]
 * B[r, y]. The triples make the values B[q, x] B[r, y] of the map `via` from D, block by block, to K's values. */
static PL_MAKER(make_gram) {
  (void)with;
  pl_pattern *b = (pl_pattern *)of;
  int64_t k = number;
  if (!pl_pattern_columns(c, b)) return false;
  int64_t terms = 0;
  for (int32_t q = 0; q < b->rows; q += (int32_t)k) {
    int64_t m = b->row_ptr[q + k] - b->row_ptr[q];
    terms += m * m;
  }
  if (b->rows * k > INT32_MAX) {
    pl_error(c, PL_ERROR_SHAPE, "gram: %lld weights are too many", (long long)(b->rows * k));
    return false;
  }
  if (!take_triples(c, p, terms)) return false;
  /* K's pattern: a row x meets, through its entries of B, the columns of those blocks of rows of B */
  int32_t *ptr = pl_ints_new(c, b->cols + 1), *col = pl_ints_new(c, terms), *via_ptr = pl_ints_new(c, terms),
          *via_col = pl_ints_new(c, terms);
  int32_t *where = pl_ints_new(c, b->cols), *count = pl_ints_new(c, b->cols), *list = pl_ints_new(c, b->cols);
  bool ok = ptr && col && via_ptr && via_col && where && count && list;
  int32_t n = 0, t = 0;
  if (ok) {
    for (int32_t j = 0; j < b->cols; j++) where[j] = -1;
    ptr[0] = via_ptr[0] = 0;
  }
  for (int32_t x = 0; ok && x < b->cols; x++) {
    int32_t m = 0;
    for (int32_t e = b->col_ptr[x]; e < b->col_ptr[x + 1]; e++) {
      int64_t q = b->row[e] / k * k;
      for (int32_t l = b->row_ptr[q]; l < b->row_ptr[q + k]; l++) {
        int32_t y = b->col[l];
        if (where[y] < 0) {
          where[y] = 0;
          count[y] = 0;
          list[m++] = y;
        }
        count[y]++;
      }
    }
    sort(m, list);
    int32_t start = t;
    for (int32_t u = 0; u < m; u++) {
      col[n + u] = list[u];
      where[list[u]] = start;
      start += count[list[u]];
      via_ptr[n + u + 1] = start;
    }
    for (int32_t e = b->col_ptr[x]; e < b->col_ptr[x + 1];
         e++) { /* rows q ascend, and in a block r: so do via's columns */
      int64_t q = b->row[e], first = q / k * k;
      for (int64_t r = first; r < first + k; r++)
        for (int32_t l = b->row_ptr[r]; l < b->row_ptr[r + 1]; l++) {
          int32_t at = where[b->col[l]]++;
          via_col[at] = (int32_t)(q * k + r - first);
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
  p->out = pl_pattern_adopt(c, b->cols, b->cols, ptr, col);
  p->via = pl_pattern_adopt(c, n, (int32_t)(b->rows * k), via_ptr, via_col);
  return p->out && p->via;
}

/* For each value of output r the products that make it, in a fixed order. */
bool pl_plan_role(pl_context *c, pl_plan *p, int r) {
  if (p->role[r].ptr) return true;
  int s1 = r == 0 ? 1 : 0, s2 = r == 2 ? 1 : 2;
  int32_t *ptr = pl_ints_new(c, (int64_t)p->sizes[r] + 1), *first = pl_ints_new(c, p->n),
          *second = pl_ints_new(c, p->n);
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

/* ---- the memo: a bounded table in front of the plans, in sets of a few entries; the one not used for longest goes
 * ---- */

enum { SETS = 64, WAYS = 8 };

typedef struct {
  pl_plan_kind kind;
  int64_t number;
  pl_object *a, *b; /* held, so that their addresses stay theirs */
  pl_value of[2];   /* instead of them, for triplets: the index tensors */
  pl_plan *plan;
  int64_t used, bytes;
} memo_entry;

struct pl_memo {
  memo_entry entries[SETS * WAYS];
  int64_t clock, bytes;
};

static memo_entry *memo_set(pl_context *c, const memo_entry *key) {
  if (!c->memo) {
    if (!(c->memo = pl_memory_new(c, sizeof *c->memo))) return NULL;
    memset(c->memo, 0, sizeof *c->memo);
  }
  uint64_t h[] = {
      (uint64_t)key->kind, (uint64_t)key->number, (uint64_t)(uintptr_t)key->a, (uint64_t)(uintptr_t)key->b, key->of[0],
      key->of[1]};
  return c->memo->entries + pl_hash(1, h, sizeof h) % SETS * WAYS;
}

static void memo_clear(pl_context *c, memo_entry *e) {
  c->memo->bytes -= e->bytes;
  pl_object_release((pl_object *)e->plan);
  pl_object_release(e->a);
  pl_object_release(e->b);
  *e = (memo_entry){.plan = NULL};
}

void pl_memo_free(pl_context *c) {
  for (int i = 0; c->memo && i < SETS * WAYS; i++) memo_clear(c, &c->memo->entries[i]);
  pl_memory_free(c, c->memo);
  c->memo = NULL;
}

/* The plan of this key, with a reference for the caller; or NULL, where there is none yet. */
static pl_plan *memo_find(pl_context *c, const memo_entry *key) {
  memo_entry *set = memo_set(c, key);
  for (int i = 0; set && i < WAYS; i++) {
    memo_entry *e = set + i;
    if (!e->plan || e->kind != key->kind || e->number != key->number || e->a != key->a || e->b != key->b ||
        e->of[0] != key->of[0] || e->of[1] != key->of[1])
      continue;
    c->memo_hits++;
    e->used = ++c->memo->clock;
    pl_object_retain(&e->plan->base);
    return e->plan;
  }
  return NULL;
}

/* Remembers it; plans that pass a quarter of the memory budget together push out older ones. */
static pl_plan *memo_store(pl_context *c, const memo_entry *key, pl_plan *plan) {
  memo_entry *set = memo_set(c, key), *e = set;
  if (!set) return plan;
  for (int i = 1; i < WAYS; i++)
    if (set[i].used < e->used) e = set + i;
  memo_clear(c, e);
  *e = *key;
  if (e->a) pl_object_retain(e->a);
  if (e->b) pl_object_retain(e->b);
  e->plan = plan;
  pl_object_retain(&plan->base);
  e->used = ++c->memo->clock;
  e->bytes = 24 * plan->n + 8 * (plan->out ? plan->out->nnz : 0);
  c->memo->bytes += e->bytes;
  while (c->memo->bytes > (int64_t)(pl_budget(c) / 4)) {
    memo_entry *oldest = NULL;
    for (memo_entry *q = c->memo->entries; q < c->memo->entries + SETS * WAYS; q++)
      if (q->bytes && q != e && (!oldest || q->used < oldest->used)) oldest = q;
    if (!oldest) break;
    memo_clear(c, oldest);
  }
  return plan;
}

pl_plan *pl_plan_make(pl_context *c, pl_plan_kind kind, pl_object *a, pl_object *b, int64_t number) {
  if (c->status) return NULL;
  memo_entry key = {.kind = kind, .number = number, .a = a, .b = b};
  pl_plan *p = memo_find(c, &key);
  if (p || c->status || !(p = plan_new(c, kind))) return p;
  c->memo_misses++;
  static PL_MAKER((*const makers[])) = {
      [PL_PLAN_PRODUCT] = make_product,
      [PL_PLAN_KRON] = make_kron,
      [PL_PLAN_GRAM] = make_gram,
      [PL_PLAN_SUM] = pl_make_sum,
      [PL_PLAN_HADAMARD] = pl_make_hadamard,
      [PL_PLAN_TRANSPOSE] = pl_make_transpose,
      [PL_PLAN_TRIPLETS] = pl_make_triplets,
      [PL_PLAN_FLAT] = pl_make_flat,
      [PL_PLAN_INDICES] = pl_make_indices,
      [PL_PLAN_DIAGONAL] = pl_make_diagonal,
      [PL_PLAN_SELECT] = pl_make_select,
      [PL_PLAN_PICK] = pl_make_pick,
      [PL_PLAN_BLOCK] = pl_make_block,
      [PL_PLAN_FREE] = pl_make_free,
      [PL_PLAN_DIRICHLET] = pl_make_dirichlet,
  };
  if (!makers[kind](c, p, a, b, number) || c->status) {
    pl_object_release(&p->base);
    return NULL;
  }
  if (p->triple[0] && !(p = plan_intern(c, p))) return NULL;
  return memo_store(c, &key, p);
}

/* By the tensors where they were seen before and have not changed, else by what is in them. */
pl_plan *pl_plan_triplets(pl_context *c, pl_value i, pl_value j, int64_t rows, int64_t cols) {
  if (c->status) return NULL;
  if (rows < 0 || cols < 0 || rows >= INT32_MAX || cols >= INT32_MAX) {
    pl_error(c, PL_ERROR_SHAPE, "triplets: {%lld, %lld} is no shape of a sparse matrix", (long long)rows,
             (long long)cols);
    return NULL;
  }
  memo_entry key = {.kind = PL_PLAN_TRIPLETS, .number = rows << 32 | cols, .of = {i, j}};
  bool fresh = pl_fresh(c, i) && pl_fresh(c, j);
  pl_plan *p = fresh ? memo_find(c, &key) : NULL;
  if (p || c->status) return p;
  int64_t size[] = {rows, cols};
  pl_list *list = pl_list_indices(c, "triplets", 2, (const char *[]){"row", "column"}, (pl_value[]){i, j}, size);
  p = list ? pl_plan_make(c, PL_PLAN_TRIPLETS, &list->base, NULL, key.number) : NULL;
  pl_object_release((pl_object *)list);
  return p && fresh ? memo_store(c, &key, p) : p;
}
