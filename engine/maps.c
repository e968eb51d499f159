/* maps.c: the plans that are maps of values: which pattern comes out, and where each of its values comes from or goes
 * to. Made once for each pattern or pair and list of indices (plan.c). */
#include <stdlib.h>
#include <string.h>

#include "op.h"
#include "pattern.h"

/* An i64 tensor of n numbers to fill, owned by the plan; NULL on an error. */
static int64_t *places(pl_context *c, int64_t n, pl_value *out) {
  pl_pause(c);
  *out = pl_tensor(c, PL_I64, 1, &n, NULL);
  pl_resume(c);
  pl_slot *s = *out == PL_NONE ? NULL : pl_slot_find(c, *out);
  return s ? s->data : NULL;
}

/* The same from 0-based places. */
static bool positions(pl_context *c, int64_t n, const int32_t *zero_based, pl_value *out) {
  int64_t *p = places(c, n, out);
  for (int64_t i = 0; p && i < n; i++) p[i] = zero_based[i] + 1;
  return p;
}

bool pl_patterns_differ(pl_context *c, const char *what, const pl_pattern *a, const pl_pattern *b) {
  pl_error(c, PL_ERROR_SHAPE, "%s: sparse matrices of shapes {%d, %d} and {%d, %d} do not fit", what, a->rows, a->cols,
           b->rows, b->cols);
  return false;
}

static bool too_many(pl_context *c, const char *what, int64_t n) {
  if (n < INT32_MAX) return false;
  pl_error(c, PL_ERROR_SHAPE, "%s: %lld are too many: at most 2^31 - 2 are possible", what, (long long)n);
  return true;
}

int32_t pl_pattern_entry(const pl_pattern *p, int32_t i, int32_t j) {
  int32_t lo = p->row_ptr[i], hi = p->row_ptr[i + 1];
  while (lo < hi) {
    int32_t mid = lo + (hi - lo) / 2;
    if (p->col[mid] < j) lo = mid + 1;
    else hi = mid;
  }
  return lo < p->row_ptr[i + 1] && p->col[lo] == j ? lo : -1;
}

/* What a map is made into: rows one after another, each entry with the place that it comes from. */
typedef struct {
  int32_t *ptr, *col, *from;
} building;

static bool begin(pl_context *c, building *b, int64_t rows, int64_t nnz) {
  *b = (building){pl_ints_new(c, rows + 1), pl_ints_new(c, nnz), pl_ints_new(c, nnz)};
  if (b->ptr) b->ptr[0] = 0;
  return b->ptr && b->col && b->from;
}

static bool finish(pl_context *c, building *b, pl_plan *p, int32_t rows, int32_t cols, bool ok) {
  if (ok && positions(c, b->ptr[rows], b->from, &p->map_a)) {
    p->out = pl_pattern_adopt(c, rows, cols, b->ptr, b->col);
  } else {
    pl_memory_free(c, b->ptr);
    pl_memory_free(c, b->col);
  }
  pl_memory_free(c, b->from);
  return p->out != NULL;
}

/* ---- of two patterns ---- */

PL_MAKER(pl_make_sum) {
  (void)number;
  const pl_pattern *a = (pl_pattern *)of, *b = (pl_pattern *)with;
  if (a->rows != b->rows || a->cols != b->cols) return pl_patterns_differ(c, "sum", a, b);
  int64_t most = (int64_t)a->nnz + b->nnz;
  int32_t *ptr = pl_ints_new(c, a->rows + 1), *col = pl_ints_new(c, most);
  int64_t *ma = places(c, a->nnz, &p->map_a), *mb = places(c, b->nnz, &p->map_b);
  if (!ptr || !col || !ma || !mb) {
    pl_memory_free(c, ptr);
    pl_memory_free(c, col);
    return false;
  }
  int64_t n = 0;
  ptr[0] = 0;
  for (int32_t i = 0; i < a->rows; i++) {
    int32_t k = a->row_ptr[i], l = b->row_ptr[i], ke = a->row_ptr[i + 1], le = b->row_ptr[i + 1];
    while (k < ke || l < le) {
      int32_t ca = k < ke ? a->col[k] : INT32_MAX, cb = l < le ? b->col[l] : INT32_MAX;
      if (ca <= cb) ma[k++] = n + 1;
      if (cb <= ca) mb[l++] = n + 1;
      col[n++] = ca < cb ? ca : cb;
    }
    ptr[i + 1] = (int32_t)n;
  }
  if (too_many(c, "sum: entries", n)) {
    pl_memory_free(c, ptr);
    pl_memory_free(c, col);
    return false;
  }
  return (p->out = pl_pattern_adopt(c, a->rows, a->cols, ptr, col)) != NULL;
}

/* The entries that both have. */
PL_MAKER(pl_make_hadamard) {
  (void)number;
  const pl_pattern *a = (pl_pattern *)of, *b = (pl_pattern *)with;
  if (a->rows != b->rows || a->cols != b->cols) return pl_patterns_differ(c, "hadamard", a, b);
  int32_t most = a->nnz < b->nnz ? a->nnz : b->nnz, n = 0, *second = pl_ints_new(c, most);
  building t;
  bool ok = begin(c, &t, a->rows, most) && second;
  for (int32_t i = 0; ok && i < a->rows; i++) {
    int32_t k = a->row_ptr[i], l = b->row_ptr[i], ke = a->row_ptr[i + 1], le = b->row_ptr[i + 1];
    while (k < ke && l < le) {
      if (a->col[k] == b->col[l]) {
        t.col[n] = a->col[k];
        t.from[n] = k++;
        second[n++] = l++;
      } else if (a->col[k] < b->col[l]) {
        k++;
      } else {
        l++;
      }
    }
    t.ptr[i + 1] = n;
  }
  ok = finish(c, &t, p, a->rows, a->cols, ok) && positions(c, n, second, &p->map_b);
  pl_memory_free(c, second);
  return ok;
}

/* ---- of one pattern ---- */

PL_MAKER(pl_make_transpose) {
  (void)with, (void)number;
  pl_pattern *a = (pl_pattern *)of;
  if (!pl_pattern_columns(c, a) || !positions(c, a->nnz, a->ours, &p->map_a)) return false;
  return (p->out = pl_pattern_new(c, a->cols, a->rows, a->col_ptr, a->row)) != NULL;
}

static pl_pattern *itself(pl_object *x) {
  pl_object_retain(x);
  return (pl_pattern *)x;
}

PL_MAKER(pl_make_flat) {
  (void)with, (void)number;
  pl_pattern *a = p->out = itself(of);
  int64_t *m = places(c, a->nnz, &p->map_a);
  for (int32_t i = 0; m && i < a->rows; i++)
    for (int32_t k = a->row_ptr[i]; k < a->row_ptr[i + 1]; k++) m[k] = (int64_t)i * a->cols + a->col[k] + 1;
  return m;
}

PL_MAKER(pl_make_indices) {
  (void)with, (void)number;
  pl_pattern *a = p->out = itself(of);
  int64_t *m = places(c, a->nnz, &p->map_a);
  for (int32_t i = 0; m && i < a->rows; i++)
    for (int32_t k = a->row_ptr[i]; k < a->row_ptr[i + 1]; k++) m[k] = i + 1;
  return m && positions(c, a->nnz, a->col, &p->map_b);
}

/* The diagonal j - i = number. */
PL_MAKER(pl_make_diagonal) {
  (void)with;
  pl_pattern *a = p->out = itself(of);
  int64_t first = number < 0 ? -number : 0, last = a->cols - number < a->rows ? a->cols - number : a->rows, n = 0;
  int64_t length = last > first ? last - first : 0;
  int32_t *where = pl_ints_new(c, 2 * length), *place = where ? where + length : NULL;
  for (int64_t i = first; where && i < last; i++) {
    int32_t k = pl_pattern_entry(a, (int32_t)i, (int32_t)(i + number));
    if (k < 0) continue;
    where[n] = k;
    place[n++] = (int32_t)(i - first);
  }
  bool ok = where && positions(c, n, where, &p->map_a) && positions(c, n, place, &p->map_b);
  pl_memory_free(c, where);
  return ok;
}

/* ---- lists of indices ---- */

static bool read_index(pl_context *c, const char *what, const char *which, pl_value v, int64_t most, int64_t n,
                       int32_t *out) {
  pl_info info;
  const void *data = pl_describe(c, v, &info) ? pl_data(c, v) : NULL;
  for (int64_t k = 0; data && k < n; k++) {
    double x = info.dtype == PL_F64   ? ((const double *)data)[k]
               : info.dtype == PL_F32 ? (double)((const float *)data)[k]
                                      : (double)((const int64_t *)data)[k];
    if (!(x >= 1 && x <= (double)most) || x != (double)(int64_t)x) {
      pl_error(c, PL_ERROR_INDEX, "%s: %s %.17g (entry %lld) is out of range 1 to %lld", what, which, x,
               (long long)k + 1, (long long)most);
      return false;
    }
    out[k] = (int32_t)x - 1;
  }
  return data;
}

pl_list *pl_list_indices(pl_context *c, const char *what, int n, const char *const *names, const pl_value *index,
                         const int64_t *size) {
  int64_t count[2], total = n;
  for (int k = 0; k < n; k++) {
    pl_info info;
    count[k] = -1;
    if (index[k] == PL_NONE) continue;
    if (!pl_describe(c, index[k], &info)) return NULL;
    if (!pl_known(c, index[k])) {
      pl_error(
          c, PL_ERROR_STATE,
          "%s: the %s indices are not known while a function is being traced: they must not depend on its arguments",
          what, names[k]);
      return NULL;
    }
    if (info.resource || info.dtype == PL_BOOL || info.rank > 1) {
      pl_error(c, PL_ERROR_TYPE, "%s: the %s indices must be a vector of whole numbers", what, names[k]);
      return NULL;
    }
    count[k] = info.count;
    total += info.count;
    if (too_many(c, what, info.count)) return NULL;
  }
  int32_t *data = pl_ints_new(c, total), *at = data ? data + n : NULL;
  for (int k = 0; at && k < n; k++) {
    data[k] = (int32_t)count[k];
    if (count[k] > 0 && !read_index(c, what, names[k], index[k], size[k], count[k], at)) {
      pl_memory_free(c, data);
      return NULL;
    }
    if (count[k] > 0) at += count[k];
  }
  return pl_list_new(c, total, data, 0, NULL);
}

/* Stable counting sorts, by column then by row; duplicates are one entry. */
PL_MAKER(pl_make_triplets) {
  (void)with;
  const pl_list *list = (pl_list *)of;
  int64_t rows = number >> 32, cols = number & INT32_MAX, n = list->data[0];
  const int32_t *ii = list->data + 2, *jj = ii + n;
  if (n != list->data[1]) {
    pl_error(c, PL_ERROR_SHAPE, "triplets: %lld row and %lld column indices", (long long)n, (long long)list->data[1]);
    return false;
  }
  int32_t *ptr = pl_ints_new(c, rows + 1), *col = pl_ints_new(c, n), *order = pl_ints_new(c, n),
          *by_column = pl_ints_new(c, n), *count = pl_ints_new(c, (rows > cols ? rows : cols) + 1);
  int64_t *map = places(c, n, &p->map_a);
  if (ptr && col && order && by_column && count && map) {
    memset(count, 0, ((size_t)cols + 1) * sizeof *count);
    for (int64_t k = 0; k < n; k++) count[jj[k] + 1]++;
    for (int64_t k = 0; k < cols; k++) count[k + 1] += count[k];
    for (int64_t k = 0; k < n; k++) by_column[count[jj[k]]++] = (int32_t)k;
    memset(count, 0, ((size_t)rows + 1) * sizeof *count);
    for (int64_t k = 0; k < n; k++) count[ii[k] + 1]++;
    for (int64_t k = 0; k < rows; k++) count[k + 1] += count[k];
    for (int64_t k = 0; k < n; k++) order[count[ii[by_column[k]]]++] = by_column[k];
    int32_t nnz = 0, row = 0;
    ptr[0] = 0;
    for (int64_t k = 0; k < n; k++) {
      int32_t q = order[k];
      while (row < ii[q]) ptr[++row] = nnz;
      if (nnz == ptr[row] || col[nnz - 1] != jj[q]) col[nnz++] = jj[q];
      map[q] = nnz;
    }
    while (row < rows) ptr[++row] = nnz;
    p->out = pl_pattern_adopt(c, (int32_t)rows, (int32_t)cols, ptr, col);
    ptr = col = NULL;
  }
  pl_memory_free(c, ptr);
  pl_memory_free(c, col);
  pl_memory_free(c, order);
  pl_memory_free(c, by_column);
  pl_memory_free(c, count);
  return p->out != NULL;
}

/* Where each column of the matrix stands among the selected ones: those of column j are at[ptr[j]] ... */
typedef struct {
  int32_t *ptr, *at;
} selected;
static bool invert(pl_context *c, selected *s, int32_t cols, int64_t n, const int32_t *list) {
  *s = (selected){pl_ints_new(c, cols + 1), pl_ints_new(c, n)};
  if (!s->ptr || !s->at) return false;
  memset(s->ptr, 0, ((size_t)cols + 1) * sizeof *s->ptr);
  for (int64_t k = 0; k < n; k++) s->ptr[list[k] + 1]++;
  for (int32_t j = 0; j < cols; j++) s->ptr[j + 1] += s->ptr[j];
  for (int64_t k = n; k-- > 0;) s->at[--s->ptr[list[k] + 1]] = (int32_t)k; /* ptr[j + 1] is now where j begins */
  for (int32_t j = 0; j < cols; j++) s->ptr[j] = s->ptr[j + 1];
  s->ptr[cols] = (int32_t)n;
  return true;
}

typedef struct {
  int32_t column, from;
} placed;
static int by_column(const void *x, const void *y) {
  int32_t a = ((const placed *)x)->column, b = ((const placed *)y)->column;
  return (a > b) - (a < b);
}

PL_MAKER(pl_make_select) {
  (void)number;
  const pl_pattern *a = (pl_pattern *)of;
  const pl_list *list = (pl_list *)with;
  bool all_rows = list->data[0] < 0, all_cols = list->data[1] < 0;
  int64_t m = all_rows ? a->rows : list->data[0], n = all_cols ? a->cols : list->data[1], nnz = 0, longest = 0;
  const int32_t *rows = list->data + 2, *cols = rows + (all_rows ? 0 : m);
  selected s = {NULL, NULL};
  bool ok = all_cols || invert(c, &s, a->cols, n, cols);
  for (int64_t r = 0; ok && r < m; r++) {
    int32_t i = all_rows ? (int32_t)r : rows[r];
    int64_t before = nnz;
    if (all_cols) nnz += a->row_ptr[i + 1] - a->row_ptr[i];
    else
      for (int32_t k = a->row_ptr[i]; k < a->row_ptr[i + 1]; k++) nnz += s.ptr[a->col[k] + 1] - s.ptr[a->col[k]];
    if (nnz - before > longest) longest = nnz - before;
  }
  ok = ok && !too_many(c, "a selection: entries", nnz);
  building t = {NULL, NULL, NULL};
  placed *line = ok ? pl_memory_new(c, (size_t)(longest + 1) * sizeof *line) : NULL;
  ok = ok && line && begin(c, &t, m, nnz);
  for (int64_t r = 0; ok && r < m; r++) {
    int32_t i = all_rows ? (int32_t)r : rows[r], to = t.ptr[r], count = 0;
    bool sorted = true;
    for (int32_t k = a->row_ptr[i]; k < a->row_ptr[i + 1]; k++) {
      int32_t j = a->col[k];
      for (int32_t q = all_cols ? 0 : s.ptr[j]; q < (all_cols ? 1 : s.ptr[j + 1]); q++) {
        line[count] = (placed){all_cols ? j : s.at[q], k};
        sorted = sorted && (count == 0 || line[count - 1].column < line[count].column);
        count++;
      }
    }
    if (!sorted) qsort(line, (size_t)count, sizeof *line, by_column);
    for (int32_t q = 0; q < count; q++) {
      t.col[to + q] = line[q].column;
      t.from[to + q] = line[q].from;
    }
    t.ptr[r + 1] = to + count;
  }
  pl_memory_free(c, line);
  pl_memory_free(c, s.ptr);
  pl_memory_free(c, s.at);
  return finish(c, &t, p, (int32_t)m, (int32_t)n, ok);
}

PL_MAKER(pl_make_pick) {
  (void)number;
  const pl_list *list = (pl_list *)with;
  pl_pattern *a = p->out = itself(of);
  int64_t n = list->data[0];
  const int32_t *rows = list->data + 2, *cols = rows + n;
  int64_t *m = places(c, n, &p->map_a);
  for (int64_t k = 0; m && k < n; k++) {
    int32_t at = pl_pattern_entry(a, rows[k], cols[k]);
    m[k] = (at < 0 ? a->nnz : at) + 1;
  }
  return m;
}

/* ---- blocks: the list holds them row by row, its data: how many rows and columns of them, heights, widths ---- */

PL_MAKER(pl_make_block) {
  (void)with, (void)number;
  const pl_list *list = (pl_list *)of;
  int32_t R = list->data[0], C = list->data[1], n = 0, r = 0;
  const int32_t *heights = list->data + 2, *widths = heights + R;
  int64_t rows = 0, cols = 0, nnz = 0;
  for (int32_t k = 0; k < R; k++) rows += heights[k];
  for (int32_t k = 0; k < C; k++) cols += widths[k];
  for (int k = 0; k < list->n_held; k++) nnz += list->held[k] ? ((pl_pattern *)list->held[k])->nnz : 0;
  if (too_many(c, "block: rows", rows) || too_many(c, "block: columns", cols) || too_many(c, "block: entries", nnz))
    return false;
  building t;
  bool ok = begin(c, &t, rows, nnz);
  int64_t before = 0; /* values of the rows of blocks above */
  for (int32_t I = 0; ok && I < R; I++) {
    pl_object *const *blocks = list->held + (int64_t)I * C;
    for (int32_t i = 0; i < heights[I]; i++) {
      int32_t left = 0;
      int64_t base = before;
      for (int32_t J = 0; J < C; left += widths[J++]) {
        const pl_pattern *a = (pl_pattern *)blocks[J];
        if (!a) continue;
        for (int32_t k = a->row_ptr[i]; k < a->row_ptr[i + 1]; k++) {
          t.col[n] = left + a->col[k];
          t.from[n++] = (int32_t)(base + k);
        }
        base += a->nnz;
      }
      t.ptr[++r] = n;
    }
    for (int32_t J = 0; J < C; J++) before += blocks[J] ? ((pl_pattern *)blocks[J])->nnz : 0;
  }
  return finish(c, &t, p, (int32_t)rows, (int32_t)cols, ok);
}

/* ---- fixed unknowns: a list of indices among `number` ---- */

/* 1 at the fixed ones; NULL, and the error set, where one is given twice. */
static int32_t *mark(pl_context *c, const pl_list *list, int64_t n) {
  int32_t *fixed = pl_ints_new(c, n);
  if (!fixed) return NULL;
  memset(fixed, 0, (size_t)n * sizeof *fixed);
  for (int64_t k = 0; k < list->data[0]; k++) {
    int32_t i = list->data[k + 1];
    if (fixed[i]++) {
      pl_error(c, PL_ERROR_INDEX, "unknown %d (entry %lld) is fixed twice", i + 1, (long long)k + 1);
      pl_memory_free(c, fixed);
      return NULL;
    }
  }
  return fixed;
}

PL_MAKER(pl_make_free) {
  (void)with;
  const pl_list *list = (pl_list *)of;
  int64_t n_fixed = list->data[0];
  int32_t *fixed = mark(c, list, number);
  int64_t *m = fixed ? places(c, number - n_fixed, &p->map_a) : NULL;
  for (int64_t i = 0; m && i < number; i++)
    if (!fixed[i]) *m++ = i + 1;
  pl_memory_free(c, fixed);
  return m && positions(c, n_fixed, list->data + 1, &p->map_b);
}

PL_MAKER(pl_make_dirichlet) {
  (void)number;
  const pl_pattern *a = (pl_pattern *)of;
  int32_t *fixed = mark(c, (pl_list *)with, a->rows), n = 0;
  building t = {NULL, NULL, NULL};
  int64_t most = (int64_t)a->nnz + a->rows;
  bool ok = fixed && !too_many(c, "dirichlet: entries", most) && begin(c, &t, a->rows, most);
  for (int32_t i = 0; ok && i < a->rows; i++) {
    if (fixed[i]) {
      t.col[n] = i;
      t.from[n++] = a->nnz;
    }
    for (int32_t k = a->row_ptr[i]; !fixed[i] && k < a->row_ptr[i + 1]; k++) {
      if (fixed[a->col[k]]) continue;
      t.col[n] = a->col[k];
      t.from[n++] = k;
    }
    t.ptr[i + 1] = n;
  }
  pl_memory_free(c, fixed);
  return finish(c, &t, p, a->rows, a->rows, ok);
}
