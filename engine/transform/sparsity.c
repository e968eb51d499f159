/* sparsity.c: structural sparsity of derivatives. Each element of each value of a body carries the set of input
 * elements that it depends on. Sets are sorted lists of numbers in one pool, interned, so that a set is a number, moves
 * copy numbers, and a thousand equal rows cost one list. For second derivatives, pairs of sets are collected where an
 * op is not linear in what it reads (Walther, Computing sparse Hessians with automatic differentiation, ACM TOMS 34(1),
 * 2008): the Hessian of a sum of compositions has its entries among them.
 *
 * Entries may be listed that are always zero, never the reverse. Index data are read where they do not depend on the
 * input; where they do, or are not known, and in the ops that run programs or solve systems, every result depends on
 * all that moves. */
#include "sparsity.h"

#include <stdlib.h>
#include <string.h>

#include "../body.h"
#include "../pattern.h"
#include "colour.h"

enum { MEMO = 1 << 14, DEPTH = 200, DERIVED_READS = 64, DERIVED_COMPRESSION };

typedef struct {
  pl_context *c;
  int32_t n;
  int64_t n_sets, sets_capacity, pool_capacity;
  int64_t *start; /* set k is pool[start[k]] to pool[start[k + 1]] */
  int32_t *pool;
  int32_t *table; /* of sets by content, open addressing; 0 (the empty set) is a free place */
  int64_t table_size;
  struct {
    int32_t a, b, both;
  } * memo;
  int32_t *mark, stamp, *list; /* n each */
  bool second;
  uint64_t *pairs; /* open addressing; 0: free */
  int64_t n_pairs, pairs_size;
  uint8_t *reads; /* which inputs of the outermost body were looked into */
} sets;

/* ---- sets ---- */

static bool no_room(sets *s) {
  pl_context *c = s->c;
  if (c->status && c->status != PL_ERROR_MEMORY) return false;
  pl_clear(c);
  pl_error(c, PL_ERROR_MEMORY,
           "the derivative's sparsity pattern passes the memory budget of %.4g MB (%lld different rows so far, of %d "
           "columns): "
           "it is too dense to be kept as a sparse matrix; linearize gives its products with vectors",
           (double)pl_budget(c) / 1e6, (long long)s->n_sets, s->n);
  return false;
}

static int32_t size_of(const sets *s, int32_t a) { return (int32_t)(s->start[a + 1] - s->start[a]); }

static bool grow_table(sets *s) {
  int64_t size = s->table_size ? 2 * s->table_size : 1024;
  int32_t *table = pl_memory_new(s->c, (size_t)size * sizeof *table);
  if (!table) return no_room(s);
  memset(table, 0, (size_t)size * sizeof *table);
  for (int32_t a = 1; a < s->n_sets; a++) {
    uint64_t k = pl_hash(7, s->pool + s->start[a], (size_t)size_of(s, a) * 4) & (uint64_t)(size - 1);
    while (table[k]) k = (k + 1) & (uint64_t)(size - 1);
    table[k] = a;
  }
  pl_memory_free(s->c, s->table);
  s->table = table;
  s->table_size = size;
  return true;
}

/* Room for a set of that many numbers behind the last one. */
static int32_t *room(sets *s, int64_t count) {
  int64_t need = s->start[s->n_sets] + count + 1;
  if (need > s->pool_capacity) {
    int64_t capacity = need + need / 2 + 1024;
    int32_t *grown = pl_memory_grow(s->c, s->pool, (size_t)capacity * sizeof *grown);
    if (!grown) return no_room(s), NULL;
    s->pool = grown;
    s->pool_capacity = capacity;
  }
  return s->pool + s->start[s->n_sets];
}

/* The set of the count numbers that lie in the room; -1 on an error. */
static int32_t intern(sets *s, int32_t count) {
  if (count == 0) return 0;
  if (2 * (s->n_sets + 1) > s->table_size && !grow_table(s)) return -1;
  const int32_t *p = s->pool + s->start[s->n_sets];
  uint64_t mask = (uint64_t)(s->table_size - 1), k = pl_hash(7, p, (size_t)count * 4) & mask;
  for (; s->table[k]; k = (k + 1) & mask) {
    int32_t a = s->table[k];
    if (size_of(s, a) == count && !memcmp(s->pool + s->start[a], p, (size_t)count * 4)) return a;
  }
  if (s->n_sets + 2 > s->sets_capacity) {
    int64_t capacity = 2 * s->sets_capacity + 64;
    int64_t *grown = pl_memory_grow(s->c, s->start, (size_t)capacity * sizeof *grown);
    if (!grown) return no_room(s), -1;
    s->start = grown;
    s->sets_capacity = capacity;
  }
  s->start[s->n_sets + 1] = s->start[s->n_sets] + count;
  s->table[k] = (int32_t)s->n_sets;
  return (int32_t)s->n_sets++;
}

static int32_t join(sets *s, int32_t a, int32_t b) {
  if (a == b || b == 0) return a;
  if (a == 0) return b;
  if (a < 0 || b < 0) return -1;
  if (a > b) {
    int32_t t = a;
    a = b;
    b = t;
  }
  uint32_t at = ((uint32_t)a * 0x9e3779b1u ^ (uint32_t)b * 0x85ebca6bu) >> 18;
  if (s->memo[at].a == a && s->memo[at].b == b) return s->memo[at].both;
  int32_t *out = room(s, (int64_t)size_of(s, a) + size_of(s, b));
  if (!out) return -1;
  const int32_t *p = s->pool + s->start[a], *q = s->pool + s->start[b], *pe = p + size_of(s, a),
                *qe = q + size_of(s, b);
  int32_t n = 0;
  while (p < pe && q < qe) {
    int32_t x = *p, y = *q;
    out[n++] = x < y ? x : y;
    p += x <= y;
    q += y <= x;
  }
  while (p < pe) out[n++] = *p++;
  while (q < qe) out[n++] = *q++;
  int32_t both = intern(s, n);
  if (both >= 0) {
    s->memo[at].a = a;
    s->memo[at].b = b;
    s->memo[at].both = both;
  }
  return both;
}

static int compare(const void *a, const void *b) {
  int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
  return (x > y) - (x < y);
}

/* The union of count sets, each `stride` apart. */
static int32_t join_all(sets *s, const int32_t *list, int64_t count, int64_t stride) {
  if (s->c->status) return -1;
  int32_t n = 0, stamp = ++s->stamp, last = 0;
  for (int64_t k = 0; k < count; k++) {
    int32_t a = list[k * stride];
    if (a == last || a == 0) continue;
    last = a;
    for (int64_t e = s->start[a]; e < s->start[a + 1]; e++)
      if (s->mark[s->pool[e]] != stamp) {
        s->mark[s->pool[e]] = stamp;
        s->list[n++] = s->pool[e];
      }
    if (n == s->n) break;
  }
  int32_t *out = room(s, n);
  if (!out) return -1;
  if (n > s->n / 16) {
    for (int32_t i = 0, k = 0; i < s->n; i++)
      if (s->mark[i] == stamp) out[k++] = i;
  } else {
    memcpy(out, s->list, (size_t)n * 4);
    qsort(out, (size_t)n, 4, compare);
  }
  return intern(s, n);
}

/* Second derivatives between all of a and all of b. */
static bool pair(sets *s, int32_t a, int32_t b) {
  if (!s->second || a <= 0 || b <= 0) return true;
  if (2 * (s->n_pairs + 1) > s->pairs_size) {
    int64_t size = s->pairs_size ? 2 * s->pairs_size : 1024;
    uint64_t *grown = pl_memory_new(s->c, (size_t)size * sizeof *grown);
    if (!grown) return no_room(s);
    memset(grown, 0, (size_t)size * sizeof *grown);
    for (int64_t i = 0; i < s->pairs_size; i++) {
      if (!s->pairs[i]) continue;
      uint64_t k = pl_hash(3, &s->pairs[i], 8) & (uint64_t)(size - 1);
      while (grown[k]) k = (k + 1) & (uint64_t)(size - 1);
      grown[k] = s->pairs[i];
    }
    pl_memory_free(s->c, s->pairs);
    s->pairs = grown;
    s->pairs_size = size;
  }
  uint64_t key = a < b ? (uint64_t)a << 32 | (uint64_t)b : (uint64_t)b << 32 | (uint64_t)a;
  uint64_t mask = (uint64_t)(s->pairs_size - 1), k = pl_hash(3, &key, 8) & mask;
  while (s->pairs[k] && s->pairs[k] != key) k = (k + 1) & mask;
  s->n_pairs += s->pairs[k] == 0;
  s->pairs[k] = key;
  return true;
}

/* out[k] gets the union of what it is and of the sets of the items that go to k. */
static void group(sets *s, int64_t n, const int32_t *to, const int32_t *set, int64_t m, int32_t *out) {
  pl_context *c = s->c;
  int64_t *ptr = pl_memory_new(c, (size_t)(m + 2) * sizeof *ptr);
  int32_t *list = pl_memory_new(c, (size_t)(n + m + 1) * sizeof *list);
  if (ptr && list) {
    memset(ptr, 0, (size_t)(m + 2) * sizeof *ptr);
    for (int64_t i = 0; i < n; i++) ptr[to[i] + 2]++;
    for (int64_t k = 0; k <= m; k++) ptr[k + 1] += ptr[k] + (k > 0);
    for (int64_t k = 0; k < m; k++) list[ptr[k + 1]++] = out[k];
    for (int64_t i = 0; i < n; i++) list[ptr[to[i] + 1]++] = set[i];
    for (int64_t k = 0; k < m && !c->status; k++) out[k] = join_all(s, list + ptr[k], ptr[k + 1] - ptr[k], 1);
  } else {
    no_room(s);
  }
  pl_memory_free(c, ptr);
  pl_memory_free(c, list);
}

/* ---- a body on its way ---- */

#define CHANGES UINT32_MAX /* as an operand: another one in each step of a loop */

typedef struct frame {
  const pl_body *b;
  struct frame *outer; /* the body whose call this is, and the call's operands */
  const uint32_t *operands;
  const pl_value *inputs; /* of the outermost body */
  int32_t **rows;         /* one a value: a set for each element, or NULL: it does not depend on the input */
  uint8_t *moves;         /* one a value: it may change with the input, in steps too */
  pl_value *known;        /* values of instructions that were needed */
  int32_t *maker;
} frame;

/* The data of a value that does not depend on the input; PL_NONE where they are not known. */
static pl_value value_of(sets *s, frame *f, uint32_t v, int depth) {
  pl_context *c = s->c;
  const pl_body *b = f->b;
  if (f->moves[v] || depth > DEPTH || c->status) return PL_NONE;
  if (v < (uint32_t)b->n_in) {
    if (f->outer) return f->operands[v] == CHANGES ? PL_NONE : value_of(s, f->outer, f->operands[v], depth + 1);
    s->reads[v] = 1;
    return f->inputs && pl_known(c, f->inputs[v]) ? f->inputs[v] : PL_NONE;
  }
  if (v < (uint32_t)(b->n_in + b->n_constants)) return b->constants[v - (uint32_t)b->n_in];
  if (f->known[v] != PL_NONE) return f->known[v];
  const pl_instruction *q = &b->code.instructions[f->maker[v]];
  const uint32_t *o = b->code.operands + q->operands;
  pl_value *work = pl_memory_new(c, (size_t)(q->n_in + q->n_out) * sizeof *work);
  bool ok = work != NULL;
  for (int i = 0; work && i < q->n_in; i++) ok = (work[i] = value_of(s, f, o[i], depth + 1)) != PL_NONE && ok;
  if (ok && pl_apply(c, q->op, q->n_in, work, q->attrs, work + q->n_in))
    for (int i = 0; i < q->n_out; i++) f->known[o[q->n_in + i]] = work[q->n_in + i];
  pl_memory_free(c, work);
  return f->known[v];
}

static int64_t count_of(const pl_spec *s) {
  int64_t n = 1;
  for (int a = 0; a < s->rank; a++) n *= s->shape[a];
  return n;
}
static bool is_float(const pl_spec *s) { return s->dtype <= PL_F32; }

static int32_t *new_rows(sets *s, int64_t count) {
  int32_t *rows = pl_memory_new(s->c, (size_t)(count + 1) * sizeof *rows);
  if (rows) memset(rows, 0, (size_t)(count + 1) * sizeof *rows);
  else no_room(s);
  return rows;
}

/* One instruction: operands o, their specs and rows, and the first result's rows, made by the rule. */
typedef struct {
  sets *s;
  frame *f;
  const pl_instruction *q;
  const uint32_t *o;
  int32_t **out;
} step;

static const pl_spec *spec_in(const step *t, int k) { return &t->f->b->specs[t->o[k]]; }
static const pl_spec *spec_out(const step *t, int k) { return &t->f->b->specs[t->o[t->q->n_in + k]]; }
static const int32_t *rows_in(const step *t, int k) { return t->f->rows[t->o[k]]; }
static int64_t count_in(const step *t, int k) { return count_of(spec_in(t, k)); }
static int64_t count_out(const step *t) { return count_of(spec_out(t, 0)); }

/* The union of all rows of input k. */
static int32_t all_of(const step *t, int k) {
  return rows_in(t, k) ? join_all(t->s, rows_in(t, k), count_in(t, k), 1) : 0;
}

/* Every result depends on all that moves. */
static void dense(const step *t, bool linear) {
  sets *s = t->s;
  int32_t all = 0;
  for (int k = 0; k < t->q->n_in; k++) all = join(s, all, all_of(t, k));
  if (all < 0) return;
  if (!linear) pair(s, all, all);
  for (int k = 0; k < t->q->n_out; k++) {
    if (!is_float(spec_out(t, k))) continue;
    int64_t n = count_of(spec_out(t, k));
    if (!t->out[k] && !(t->out[k] = new_rows(s, n))) return;
    for (int64_t i = 0; i < n; i++) t->out[k][i] = all;
  }
}

enum { LINEAR, PRODUCT, QUOTIENT, CURVED };
static int curvature(const pl_op *op) {
  static const char *const linear[] = {"add", "sub", "neg", "abs", "mod", "where", "maximum", "minimum", NULL};
  for (int i = 0; linear[i]; i++)
    if (!strcmp(op->name, linear[i])) return LINEAR;
  if (op == PL_OP(mul) || op == PL_OP(chain)) return PRODUCT;
  return op == PL_OP(div) ? QUOTIENT : CURVED;
}

/* Broadcasting: for each element of `to` the one of `from` that it reads. */
typedef struct {
  int rank;
  int64_t at, index[PL_MAX_RANK], shape[PL_MAX_RANK], stride[PL_MAX_RANK];
} walk;
static walk walk_new(const pl_spec *from, const pl_spec *to) {
  walk w = {.rank = to->rank};
  int64_t stride = 1;
  for (int a = to->rank - 1; a >= 0; a--) {
    int b = a - (to->rank - from->rank);
    w.shape[a] = to->shape[a];
    w.stride[a] = b < 0 || from->shape[b] == 1 ? 0 : stride;
    if (b >= 0) stride *= from->shape[b];
  }
  return w;
}
static void walk_on(walk *w) {
  for (int a = w->rank - 1; a >= 0; a--) {
    w->at += w->stride[a];
    if (++w->index[a] < w->shape[a]) return;
    w->at -= w->stride[a] * w->shape[a];
    w->index[a] = 0;
  }
}

enum { FEW = 8 };
static void elementwise(const step *t) {
  sets *s = t->s;
  int n_in = t->q->n_in, how = curvature(t->q->op);
  int64_t n = count_out(t);
  walk w[FEW];
  for (int k = 0; k < n_in; k++) w[k] = walk_new(spec_in(t, k), spec_out(t, 0));
  for (int64_t i = 0; i < n && !s->c->status; i++) {
    int32_t set[FEW] = {0}, all = 0;
    for (int k = 0; k < n_in; k++) {
      set[k] = rows_in(t, k) ? rows_in(t, k)[w[k].at] : 0;
      all = join(s, all, set[k]);
      walk_on(&w[k]);
    }
    t->out[0][i] = all;
    if (!s->second || how == LINEAR) continue;
    if (how == CURVED) pair(s, all, all);
    else pair(s, set[0], set[1]);
    if (how == QUOTIENT) pair(s, set[1], set[1]);
  }
}

/* ---- moves: the op itself, run on numbers of elements ---- */

static pl_value labels(pl_context *c, const pl_spec *spec, int64_t first) {
  int64_t shape[PL_MAX_RANK];
  for (int a = 0; a < spec->rank; a++) shape[a] = spec->shape[a];
  pl_value v = pl_tensor(c, PL_I64, spec->rank, shape, NULL);
  pl_slot *s = pl_slot_find(c, v);
  for (int64_t i = 0; s && first && i < s->count; i++) ((int64_t *)s->data)[i] = first + i;
  return v;
}

static const int64_t *label_data(pl_context *c, pl_value v) {
  pl_slot *s = c->status ? NULL : pl_slot_find(c, v);
  return s ? s->data : NULL;
}

/* index: the operand that holds indices, or -1. False where they are not known. */
static bool moved(const step *t, int index) {
  sets *s = t->s;
  pl_context *c = s->c;
  int n = t->q->n_in;
  int64_t first = 1, total = 1;
  for (int k = 0; k < n; k++) total += rows_in(t, k) ? count_in(t, k) : 0;
  pl_value *in = pl_memory_new(c, (size_t)n * sizeof *in), out;
  int32_t *flat = new_rows(s, total);
  bool known = in && flat;
  for (int k = 0; known && k < n; k++) {
    bool here = rows_in(t, k) != NULL;
    if (k == index) known = (in[k] = value_of(s, t->f, t->o[k], 0)) != PL_NONE;
    else in[k] = labels(c, spec_in(t, k), here ? first : 0);
    if (!here) continue;
    memcpy(flat + first, rows_in(t, k), (size_t)count_in(t, k) * sizeof *flat);
    first += count_in(t, k);
  }
  if (known && pl_apply(c, t->q->op, n, in, t->q->attrs, &out)) {
    const int64_t *label = label_data(c, out);
    for (int64_t i = 0, m = count_out(t); label && i < m; i++) t->out[0][i] = flat[label[i]];
  }
  pl_memory_free(c, in);
  pl_memory_free(c, flat);
  return known;
}

/* add_at and slice_add: the base, and what is added where taking (gather, slice) finds it. */
static bool added(const step *t, const pl_op *take, int index) {
  sets *s = t->s;
  pl_context *c = s->c;
  int w = t->q->n_in - 1;
  pl_value in[2] = {labels(c, spec_in(t, 0), 1), PL_NONE}, place;
  if (index >= 0 && (in[1] = value_of(s, t->f, t->o[index], 0)) == PL_NONE) return false;
  if (!pl_apply(c, take, index >= 0 ? 2 : 1, in, t->q->attrs, &place)) return true;
  const int64_t *at = label_data(c, place);
  if (rows_in(t, 0)) memcpy(t->out[0], rows_in(t, 0), (size_t)count_out(t) * sizeof *t->out[0]);
  int64_t n = count_in(t, w);
  int32_t *to = at && rows_in(t, w) ? new_rows(s, n) : NULL;
  for (int64_t i = 0; to && i < n; i++) to[i] = (int32_t)(at[i] - 1);
  if (to) group(s, n, to, rows_in(t, w), count_out(t), t->out[0]);
  pl_memory_free(c, to);
  return true;
}

/* ---- reductions, running sums, products ---- */

static void reduced(const step *t) {
  sets *s = t->s;
  const pl_spec *x = spec_in(t, 0);
  const pl_attr *axes = &t->q->attrs[0];
  pl_spec kept = *x;
  for (int a = 0; axes->n < 0 && a < x->rank; a++) kept.shape[a] = 1;
  for (int i = 0; i < axes->n; i++) kept.shape[axes->list[i] < 0 ? axes->list[i] + x->rank : axes->list[i]] = 1;
  const pl_op *op = t->q->op;
  bool linear = op == PL_OP(sum) || op == PL_OP(max) || op == PL_OP(min);
  int64_t n = count_of(x), m = count_out(t);
  int32_t *to = new_rows(s, n);
  walk w = walk_new(&kept, x);
  for (int64_t i = 0; to && i < n; i++, walk_on(&w)) to[i] = (int32_t)w.at;
  if (to) group(s, n, to, rows_in(t, 0), m, t->out[0]);
  for (int64_t k = 0; !linear && k < m; k++) pair(s, t->out[0][k], t->out[0][k]);
  pl_memory_free(s->c, to);
}

static void running(const step *t) { /* sums are linear, recurrences too where their factors stand still */
  const pl_spec *x = spec_in(t, 0);
  const bool linear = t->q->op == PL_OP(cumsum) || (t->q->op == PL_OP(recurrence) && !rows_in(t, 0));
  int64_t axis = t->q->attrs[0].i, inner = 1, outer = 1, r = 1;
  if (x->rank) {
    if (axis < 0) axis += x->rank;
    for (int a = 0; a < x->rank; a++) *(a < axis ? &outer : a > axis ? &inner : &r) *= x->shape[a];
  }
  for (int64_t o = 0; o < outer; o++)
    for (int64_t i = 0; i < inner && !t->s->c->status; i++)
      for (int64_t k = 0, set = 0; k < r; k++) {
        int64_t at = (o * r + (t->q->attrs[1].i ? r - 1 - k : k)) * inner + i;
        for (int j = 0; j < t->q->n_in; j++)
          if (rows_in(t, j)) set = join(t->s, (int32_t)set, rows_in(t, j)[at]);
        if (!linear) pair(t->s, (int32_t)set, (int32_t)set);
        t->out[0][at] = (int32_t)set;
      }
}

/* rolling_sum, rolling_max, rolling_min: windows of 1, 2, 4 ... elements in pairs; the last two overlap. */
static void windowed(const step *t) {
  const pl_spec *x = spec_in(t, 0);
  int64_t w = t->q->attrs[0].i, axis = t->q->attrs[1].i, inner = 1, outer = 1, r = 1, n = count_in(t, 0);
  int32_t *sets = new_rows(t->s, n);
  if (!sets) return;
  memcpy(sets, rows_in(t, 0), (size_t)n * sizeof *sets);
  if (axis < 0) axis += x->rank;
  for (int a = 0; a < x->rank; a++) *(a < axis ? &outer : a > axis ? &inner : &r) *= x->shape[a];
  for (int64_t size = 1, shift; size < w; size += shift) {
    shift = 2 * size <= w ? size : w - size;
    for (int64_t o = 0; o < outer; o++)
      for (int64_t i = 0; i < (r - size - shift + 1) * inner && !t->s->c->status; i++)
        sets[o * r * inner + i] = join(t->s, sets[o * r * inner + i], sets[o * r * inner + i + shift * inner]);
  }
  int64_t ends = (r - w + 1) * inner;
  for (int64_t o = 0; o < outer; o++) memcpy(t->out[0] + o * ends, sets + o * r * inner, (size_t)ends * sizeof *sets);
  pl_memory_free(t->s->c, sets);
}

static void matrix_product(const step *t) {
  sets *s = t->s;
  const pl_spec *a = spec_in(t, 0), *b = spec_in(t, 1);
  int r = a->rank;
  bool ta = t->q->attrs[0].i, tb = t->q->attrs[1].i;
  int64_t batch = r == 3 ? a->shape[0] : 1, m = a->shape[ta ? r - 1 : r - 2], l = a->shape[ta ? r - 2 : r - 1],
          n = b->shape[tb ? r - 2 : r - 1];
  int32_t *left = new_rows(s, m), *right = new_rows(s, n);
  for (int64_t z = 0; left && right && z < batch && !s->c->status; z++) {
    const int32_t *A = rows_in(t, 0) ? rows_in(t, 0) + z * m * l : NULL,
                  *B = rows_in(t, 1) ? rows_in(t, 1) + z * l * n : NULL;
    for (int64_t i = 0; A && i < m; i++) left[i] = ta ? join_all(s, A + i, l, m) : join_all(s, A + i * l, l, 1);
    for (int64_t j = 0; B && j < n; j++) right[j] = tb ? join_all(s, B + j * l, l, 1) : join_all(s, B + j, l, n);
    for (int64_t i = 0; i < m; i++)
      for (int64_t j = 0; j < n; j++) t->out[0][(z * m + i) * n + j] = join(s, left[i], right[j]);
    if (s->second && A && B)
      for (int64_t k = 0; k < l; k++)
        pair(s, ta ? join_all(s, A + k * m, m, 1) : join_all(s, A + k, m, l),
             tb ? join_all(s, B + k, n, l) : join_all(s, B + k * n, n, 1));
  }
  pl_memory_free(s->c, left);
  pl_memory_free(s->c, right);
}

/* Products of elements in pairs: result to[i] reads left[i] and right[i]. */
typedef struct {
  int64_t n;
  int32_t *to, *left, *right;
} terms;
static bool terms_new(const step *t, int64_t n, terms *z) {
  *z = (terms){n, new_rows(t->s, n), new_rows(t->s, n), new_rows(t->s, n)};
  return z->to && z->left && z->right;
}
static void terms_end(const step *t, terms *z) {
  sets *s = t->s;
  bool ok = z->to && z->left && z->right;
  for (int64_t i = 0; ok && i < z->n; i++) pair(s, z->left[i], z->right[i]);
  if (ok) group(s, z->n, z->to, z->left, count_out(t), t->out[0]);
  if (ok) group(s, z->n, z->to, z->right, count_out(t), t->out[0]);
  pl_memory_free(s->c, z->to);
  pl_memory_free(s->c, z->left);
  pl_memory_free(s->c, z->right);
}

static void sparse_times(const step *t) {
  const pl_pattern *p = (pl_pattern *)t->q->attrs[0].object;
  bool back = t->q->attrs[1].i;
  const int32_t *v = rows_in(t, 0), *x = rows_in(t, 1);
  int64_t k = spec_in(t, 1)->rank == 2 ? spec_in(t, 1)->shape[1] : 1, n = 0;
  terms z;
  if (terms_new(t, p->nnz * k, &z))
    for (int32_t i = 0; i < p->rows; i++)
      for (int32_t e = p->row_ptr[i]; e < p->row_ptr[i + 1]; e++)
        for (int64_t j = 0; j < k; j++, n++) {
          z.to[n] = (int32_t)((back ? p->col[e] : i) * k + j);
          z.left[n] = v ? v[e] : 0;
          z.right[n] = x ? x[(back ? i : p->col[e]) * k + j] : 0;
        }
  terms_end(t, &z);
}

static void sampled_product(const step *t) {
  const pl_pattern *p = (pl_pattern *)t->q->attrs[0].object;
  const int32_t *g = rows_in(t, 0), *x = rows_in(t, 1);
  int64_t k = spec_in(t, 1)->rank == 2 ? spec_in(t, 1)->shape[1] : 1, n = 0;
  terms z;
  if (terms_new(t, p->nnz * k, &z))
    for (int32_t i = 0; i < p->rows; i++)
      for (int32_t e = p->row_ptr[i]; e < p->row_ptr[i + 1]; e++)
        for (int64_t j = 0; j < k; j++, n++) {
          z.to[n] = e;
          z.left[n] = g ? g[i * k + j] : 0;
          z.right[n] = x ? x[p->col[e] * k + j] : 0;
        }
  terms_end(t, &z);
}

static void planned_product(const step *t) {
  pl_plan *p = (pl_plan *)t->q->attrs[0].object;
  int r = (int)t->q->attrs[1].i;
  terms z;
  if (!pl_plan_role(t->s->c, p, r)) return;
  if (terms_new(t, p->n, &z))
    for (int32_t i = 0; i < p->sizes[r]; i++)
      for (int32_t e = p->role[r].ptr[i]; e < p->role[r].ptr[i + 1]; e++) {
        z.to[e] = i;
        z.left[e] = rows_in(t, 0) ? rows_in(t, 0)[p->role[r].first[e]] : 0;
        z.right[e] = rows_in(t, 1) ? rows_in(t, 1)[p->role[r].second[e]] : 0;
      }
  terms_end(t, &z);
}

/* ---- bodies ---- */

static void propagate(sets *s, frame *outer, const uint32_t *operands, const pl_value *inputs, const pl_body *b,
                      const uint8_t *moves, int32_t *const *in, const uint8_t *wanted, int32_t **out);

/* What a body needs to be walked from inside of an op that holds it. */
typedef struct {
  const pl_body *b;
  int32_t **in, **out; /* rows */
  uint32_t *operands;
  uint8_t *moves, *wanted;
} inner;

static bool inner_new(const step *t, const pl_body *b, inner *w) {
  pl_context *c = t->s->c;
  size_t n = (size_t)(b->n_in + b->n_out) + 1;
  w->b = b;
  w->in = pl_memory_new(c, n * sizeof *w->in);
  w->operands = pl_memory_new(c, n * sizeof *w->operands);
  w->moves = pl_memory_new(c, n);
  if (!w->in || !w->operands || !w->moves) return false;
  memset(w->in, 0, n * sizeof *w->in);
  memset(w->moves, 1, n);
  w->out = w->in + b->n_in;
  w->wanted = w->moves + b->n_in;
  return true;
}
/* Input i is operand k of the op. */
static void inner_input(const step *t, inner *w, int i, int k) {
  w->operands[i] = t->o[k];
  w->moves[i] = t->f->moves[t->o[k]];
  w->in[i] = t->f->rows[t->o[k]];
}
/* A state of a loop: its rows are the loop's own. */
static void inner_state(const step *t, inner *w, int i, int k) {
  const int32_t *rows = rows_in(t, k);
  size_t n = (size_t)count_in(t, k);
  w->operands[i] = CHANGES;
  if (rows && (w->in[i] = new_rows(t->s, (int64_t)n))) memcpy(w->in[i], rows, n * sizeof *rows);
}
static void inner_walk(const step *t, inner *w) {
  propagate(t->s, t->f, w->operands, NULL, w->b, w->moves, w->in, w->wanted, w->out);
}
static void inner_end(const step *t, inner *w) {
  pl_context *c = t->s->c;
  pl_memory_free(c, w->in);
  pl_memory_free(c, w->operands);
  pl_memory_free(c, w->moves);
}

static void called(const step *t, const uint8_t *needed) {
  const pl_body *b = (pl_body *)t->q->attrs[0].object;
  inner w = {0};
  if (inner_new(t, b, &w)) {
    for (int i = 0; i < b->n_in; i++) inner_input(t, &w, i, i);
    for (int j = 0; j < b->n_out; j++) w.wanted[j] = needed[t->o[t->q->n_in + j]];
    inner_walk(t, &w);
    memcpy(t->out, w.out, (size_t)b->n_out * sizeof *w.out);
  }
  inner_end(t, &w);
}

/* to gets the union of both (either may be NULL, and `more` is let go); did it grow? */
static bool joined(sets *s, int32_t **to, int32_t *more, int64_t n) {
  bool grew = false;
  if (!*to) {
    *to = more;
    return more != NULL;
  }
  for (int64_t i = 0; more && i < n; i++) {
    int32_t both = join(s, (*to)[i], more[i]);
    grew = grew || both != (*to)[i];
    (*to)[i] = both;
  }
  pl_memory_free(s->c, more);
  return grew;
}
static bool same_rows(const int32_t *a, const int32_t *b, int64_t n) {
  return a == b || (a && b && !memcmp(a, b, (size_t)n * sizeof *a));
}

/* scan: step by step, until a step changes nothing and the others cannot either. */
static void scanned(const step *t, const uint8_t *needed) {
  sets *s = t->s;
  const pl_body *b = (pl_body *)t->q->attrs[0].object;
  const int64_t *l = t->q->attrs[1].list, length = l[3];
  int states = (int)l[0], xs = (int)l[1], ys = (int)l[2];
  bool walks = false;
  inner w = {0};
  if (inner_new(t, b, &w)) {
    for (int i = 0; i < states; i++) inner_state(t, &w, i, i);
    for (int i = states; i < states + xs; i++) {
      w.operands[i] = CHANGES;
      walks = walks || rows_in(t, i);
    }
    for (int i = states + xs; i < b->n_in; i++) inner_input(t, &w, i, i);
    for (int j = 0; j < ys; j++) w.wanted[states + j] = needed[t->o[t->q->n_in + states + j]];
    bool still = false;
    for (int64_t k = 0; k < length && !s->c->status && !pl_interrupted(s->c); k++) {
      int64_t at = l[4] ? length - 1 - k : k;
      for (int i = states; i < states + xs; i++)
        w.in[i] = rows_in(t, i) ? t->f->rows[t->o[i]] + at * count_of(&b->specs[i]) : NULL;
      if (!still) {
        for (int j = 0; j < ys; j++) {
          pl_memory_free(s->c, w.out[states + j]);
          w.out[states + j] = NULL;
        }
        inner_walk(t, &w);
        still = !walks;
        for (int i = 0; i < states; i++) {
          still = still && same_rows(w.in[i], w.out[i], count_of(&b->specs[i]));
          pl_memory_free(s->c, w.in[i]);
          w.in[i] = w.out[i];
          w.out[i] = NULL;
        }
      }
      for (int j = states; j < states + ys; j++) {
        int64_t n = count_of(&b->specs[b->outputs[j]]);
        if (!w.out[j] || (!t->out[j] && !(t->out[j] = new_rows(s, n * length)))) continue;
        memcpy(t->out[j] + at * n, w.out[j], (size_t)n * sizeof *w.out[j]);
      }
    }
    for (int i = 0; i < states; i++) t->out[i] = w.in[i];
    for (int j = 0; j < ys; j++) pl_memory_free(s->c, w.out[states + j]);
  }
  inner_end(t, &w);
  int32_t all = 0; /* what is stacked at checkpoints: of all */
  for (int k = 0; k < t->q->n_in && t->q->n_out > states + ys; k++) all = join(s, all, all_of(t, k));
  for (int j = states + ys; j < t->q->n_out && !s->c->status; j++) {
    if (!is_float(spec_out(t, j))) continue;
    int64_t n = count_of(spec_out(t, j));
    if (!(t->out[j] = new_rows(s, n))) return;
    for (int64_t i = 0; i < n; i++) t->out[j][i] = all;
  }
}

/* while: the union over any number of steps. */
static void repeated(const step *t) {
  sets *s = t->s;
  const pl_body *b = (pl_body *)t->q->attrs[1].object;
  const int64_t *l = t->q->attrs[2].list;
  int states = (int)l[0], condition = (int)l[1];
  inner w = {0};
  if (inner_new(t, b, &w)) {
    for (int i = 0; i < states; i++) inner_state(t, &w, i, i);
    for (int i = states; i < b->n_in; i++) inner_input(t, &w, i, i + condition);
    for (bool grew = true; grew && !s->c->status && !pl_interrupted(s->c);) {
      grew = false;
      inner_walk(t, &w);
      for (int i = 0; i < states; i++) {
        grew = joined(s, &w.in[i], w.out[i], count_of(&b->specs[i])) || grew;
        w.out[i] = NULL;
      }
    }
    for (int i = 0; i < states; i++) t->out[i] = w.in[i];
  }
  inner_end(t, &w);
}

/* cond: the union of both branches. */
static void branched(const step *t, const uint8_t *needed) {
  int first = 1;
  for (int side = 0; side < 2; side++) {
    const pl_body *b = (pl_body *)t->q->attrs[side].object;
    inner w = {0};
    if (inner_new(t, b, &w)) {
      for (int i = 0; i < b->n_in; i++) inner_input(t, &w, i, first + i);
      for (int j = 0; j < b->n_out; j++) w.wanted[j] = needed[t->o[t->q->n_in + j]];
      inner_walk(t, &w);
      for (int j = 0; j < b->n_out; j++) joined(t->s, &t->out[j], w.out[j], count_of(&b->specs[b->outputs[j]]));
    }
    inner_end(t, &w);
    first += b->n_in;
  }
}

static bool passes_on(const pl_op *op) { return op == PL_OP(identity) || op == PL_OP(reshape) || op == PL_OP(cast); }

/* Fills t->out, which stands allocated for one float result. */
static void rule(const step *t, const uint8_t *needed) {
  const pl_op *op = t->q->op;
  bool known = true;
  if (op == PL_OP(call)) called(t, needed);
  else if (op == PL_OP(scan)) scanned(t, needed);
  else if (op == PL_OP(while)) repeated(t);
  else if (op == PL_OP(cond)) branched(t, needed);
  else if ((op->kind == PL_ELEMENTWISE || op->draws) && t->q->n_in <= FEW) elementwise(t);
  else if (passes_on(op)) memcpy(t->out[0], rows_in(t, 0), (size_t)count_out(t) * sizeof *t->out[0]);
  else if (op == PL_OP(gather) || op == PL_OP(put)) known = moved(t, 1);
  else if (op == PL_OP(transpose) || op == PL_OP(broadcast_to) || op == PL_OP(slice) || op == PL_OP(slice_set) ||
           op == PL_OP(concat) || op == PL_OP(roll))
    moved(t, -1);
  else if (op == PL_OP(add_at) || op == PL_OP(max_at) || op == PL_OP(min_at)) known = added(t, PL_OP(gather), 1);
  else if (op == PL_OP(slice_add)) added(t, PL_OP(slice), -1);
  else if (op->kind == PL_REDUCE) reduced(t);
  else if (op == PL_OP(cumsum) || op == PL_OP(cumprod) || op == PL_OP(recurrence)) running(t);
  else if (op == PL_OP(rolling_sum) || op == PL_OP(rolling_max) || op == PL_OP(rolling_min)) windowed(t);
  else if (op == PL_OP(gemm)) matrix_product(t);
  else if (op == PL_OP(spmv)) sparse_times(t);
  else if (op == PL_OP(sddmm)) sampled_product(t);
  else if (op == PL_OP(sparse_product)) planned_product(t);
  else dense(t, op->linear || (op == PL_OP(factored_solve) && !rows_in(t, 1)));
  if (!known) dense(t, true);
}

static bool holds_programs(const pl_op *op) {
  return op == PL_OP(call) || op == PL_OP(scan) || op == PL_OP(while) || op == PL_OP(cond);
}
static bool ends_here(const pl_op *op) {
  return op->constant || op == PL_OP(sign) || op == PL_OP(floor) || op == PL_OP(ceil) || op == PL_OP(trunc) ||
         op == PL_OP(round);
}

static void propagate(sets *s, frame *outer, const uint32_t *operands, const pl_value *inputs, const pl_body *b,
                      const uint8_t *moves, int32_t *const *in, const uint8_t *wanted, int32_t **out) {
  pl_context *c = s->c;
  size_t n = (size_t)b->n_values + 1;
  frame f = {.b = b, .outer = outer, .operands = operands, .inputs = inputs};
  f.rows = pl_memory_new(c, n * sizeof *f.rows);
  f.known = pl_memory_new(c, n * sizeof *f.known);
  f.maker = pl_memory_new(c, n * sizeof *f.maker);
  f.moves = pl_memory_new(c, n);
  int64_t *last = pl_memory_new(c, n * sizeof *last); /* who reads it last */
  uint8_t *needed = pl_memory_new(c, n);
  if (!f.rows || !f.known || !f.maker || !f.moves || !last || !needed) goto done;
  memset(f.rows, 0, n * sizeof *f.rows);
  memset(f.known, 0, n * sizeof *f.known);
  memset(f.moves, 0, n);
  memset(needed, 0, n);
  for (size_t v = 0; v < n; v++) last[v] = -1;
  for (int i = 0; i < b->n_out; i++)
    if (wanted[i]) {
      needed[b->outputs[i]] = 1;
      last[b->outputs[i]] = INT64_MAX;
    }
  for (int64_t k = b->code.n; k-- > 0;) {
    const pl_instruction *q = &b->code.instructions[k];
    const uint32_t *o = b->code.operands + q->operands;
    bool live = false;
    for (int i = q->n_in; i < q->n_in + q->n_out; i++) {
      live = live || needed[o[i]];
      f.maker[o[i]] = (int32_t)k;
    }
    for (int i = 0; live && i < q->n_in; i++) {
      needed[o[i]] = 1;
      if (last[o[i]] < k) last[o[i]] = k;
    }
  }
  for (int i = 0; i < b->n_in; i++) {
    f.rows[i] = in[i];
    f.moves[i] = moves[i];
    last[i] = INT64_MAX; /* theirs */
  }
  for (int64_t k = 0; k < b->code.n && !c->status; k++) {
    const pl_instruction *q = &b->code.instructions[k];
    const uint32_t *o = b->code.operands + q->operands;
    bool any = false, active = false, live = false;
    for (int i = 0; i < q->n_in; i++) {
      any = any || f.moves[o[i]];
      active = active || f.rows[o[i]];
    }
    for (int i = q->n_in; i < q->n_in + q->n_out; i++) {
      f.moves[o[i]] = any;
      live = live || needed[o[i]];
    }
    if (active && live && !ends_here(q->op) && !pl_interrupted(c)) {
      int32_t *one = NULL,
              **results = q->n_out == 1 ? &one : pl_memory_new(c, ((size_t)q->n_out + 1) * sizeof *results);
      step t = {s, &f, q, o, results};
      if (results) {
        if (q->n_out != 1) memset(results, 0, ((size_t)q->n_out + 1) * sizeof *results);
        bool several = holds_programs(q->op) || q->n_out != 1;
        if (several || (is_float(spec_out(&t, 0)) && (one = new_rows(s, count_out(&t))))) rule(&t, needed);
        for (int i = 0; i < q->n_out; i++) f.rows[o[q->n_in + i]] = results[i];
        if (results != &one) pl_memory_free(c, results);
      }
    }
    for (int i = 0; i < q->n_in + q->n_out; i++)
      if (last[o[i]] <= k && o[i] >= (uint32_t)b->n_in) {
        pl_memory_free(c, f.rows[o[i]]);
        f.rows[o[i]] = NULL;
      }
  }
  for (int i = 0; i < b->n_out && !c->status; i++) {
    const int32_t *rows = wanted[i] ? f.rows[b->outputs[i]] : NULL;
    int64_t count = count_of(&b->specs[b->outputs[i]]);
    out[i] = rows ? new_rows(s, count) : NULL;
    if (out[i]) memcpy(out[i], rows, (size_t)count * sizeof *rows);
  }
  for (int v = b->n_in; v < b->n_values; v++) pl_memory_free(c, f.rows[v]);
done:
  pl_memory_free(c, f.rows);
  pl_memory_free(c, f.known);
  pl_memory_free(c, f.maker);
  pl_memory_free(c, f.moves);
  pl_memory_free(c, last);
  pl_memory_free(c, needed);
}

static bool start(sets *s, int64_t n) {
  pl_context *c = s->c;
  size_t m = (size_t)n + 1;
  s->n = (int32_t)n;
  s->sets_capacity = n + 64;
  s->start = pl_memory_new(c, (size_t)s->sets_capacity * sizeof *s->start);
  s->memo = pl_memory_new(c, MEMO * sizeof *s->memo);
  s->mark = pl_memory_new(c, m * sizeof *s->mark);
  s->list = pl_memory_new(c, m * sizeof *s->list);
  if (!s->start || !s->memo || !s->mark || !s->list) return false;
  memset(s->memo, 0, MEMO * sizeof *s->memo);
  memset(s->mark, 0, m * sizeof *s->mark);
  s->start[0] = s->start[1] = 0;
  s->n_sets = 1;
  for (int32_t i = 0; i < n; i++) { /* set i + 1 is {i} */
    int32_t *p = room(s, 1);
    if (!p) return false;
    *p = i;
    if (intern(s, 1) < 0) return false;
  }
  return true;
}

static void finish(sets *s) {
  void *parts[] = {s->start, s->pool, s->table, s->memo, s->mark, s->list, s->pairs, s->reads};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) pl_memory_free(s->c, parts[i]);
}

static bool check(pl_context *c, const pl_body *b, int out, int in, bool second) {
  if (c->status) return false;
  if (out < 0 || out >= b->n_out || in < 0 || in >= b->n_in) {
    pl_error(c, PL_ERROR_ARGUMENT, "sparsity: output %d by input %d of a program with %d outputs and %d inputs",
             out + 1, in + 1, b->n_out, b->n_in);
    return false;
  }
  const pl_spec *y = &b->specs[b->outputs[out]], *x = &b->specs[in];
  char text[PL_TEXT];
  if (!is_float(y) || !is_float(x)) {
    pl_error(c, PL_ERROR_TYPE, "only f64 and f32 tensors have derivatives, not %s",
             is_float(y) ? pl_dtype_name(x->dtype) : pl_dtype_name(y->dtype));
    return false;
  }
  if (second && count_of(y) != 1) {
    pl_error(c, PL_ERROR_SHAPE, "a Hessian is that of a single number, not of a tensor of shape %s",
             pl_shape_text(text, y->rank, y->shape));
    return false;
  }
  return true;
}

/* Runs the body on sets; the output's rows in *rows. */
static bool analyse(sets *s, pl_context *c, const pl_body *b, const pl_value *inputs, int out, int in, int32_t **rows) {
  size_t n = (size_t)(b->n_in + b->n_out) + 1;
  int32_t **lists = pl_memory_new(c, n * sizeof *lists);
  uint8_t *flags = pl_memory_new(c, n);
  s->reads = pl_memory_new(c, n);
  int64_t columns = count_of(&b->specs[in]);
  bool ok = lists && flags && s->reads && start(s, columns);
  int32_t *own = ok ? new_rows(s, columns) : NULL;
  *rows = NULL;
  if (own) {
    memset(lists, 0, n * sizeof *lists);
    memset(flags, 0, n);
    memset(s->reads, 0, n);
    for (int32_t i = 0; i < columns; i++) own[i] = i + 1;
    lists[in] = own;
    flags[in] = flags[b->n_in + out] = 1;
    pl_pause(c);
    pl_scope_begin(c);
    propagate(s, NULL, NULL, inputs, b, flags, lists, flags + b->n_in, lists + b->n_in);
    pl_scope_end(c);
    pl_resume(c);
    *rows = lists[b->n_in + out];
  }
  pl_memory_free(c, own);
  pl_memory_free(c, lists);
  pl_memory_free(c, flags);
  return c->status == PL_OK;
}

static pl_pattern *from_lists(sets *s, const int32_t *rows, int64_t m) {
  int64_t nnz = 0;
  for (int64_t i = 0; rows && i < m; i++) nnz += size_of(s, rows[i]);
  if (nnz > INT32_MAX - 1) {
    pl_error(s->c, PL_ERROR_MEMORY,
             "the derivative has %lld entries; a sparse matrix has at most 2^31 - 2: linearize gives its "
             "products with vectors",
             (long long)nnz);
    return NULL;
  }
  int32_t *ptr = pl_memory_new(s->c, (size_t)(m + 1) * sizeof *ptr),
          *col = pl_memory_new(s->c, (size_t)(nnz + 1) * sizeof *col);
  pl_pattern *p = NULL;
  if (ptr && col) {
    ptr[0] = 0;
    for (int64_t i = 0; i < m; i++) {
      int32_t n = rows ? size_of(s, rows[i]) : 0;
      if (n) memcpy(col + ptr[i], s->pool + s->start[rows[i]], (size_t)n * sizeof *col);
      ptr[i + 1] = ptr[i] + n;
    }
    p = pl_pattern_new(s->c, (int32_t)m, s->n, ptr, col);
  }
  if (!p) no_room(s);
  pl_memory_free(s->c, ptr);
  pl_memory_free(s->c, col);
  return p;
}

/* The rows of the Hessian from the pairs: first for each element the sets that it is paired with. */
static int32_t *rows_of_pairs(sets *s) {
  pl_context *c = s->c;
  int64_t n = s->n, total = 0, *ptr = pl_memory_new(c, (size_t)(n + 2) * sizeof *ptr);
  int32_t *rows = new_rows(s, n), *partner = NULL;
  if (!ptr || !rows) goto done;
  memset(ptr, 0, (size_t)(n + 2) * sizeof *ptr);
  for (int pass = 0; pass < 2; pass++) {
    for (int64_t k = 0; k < s->pairs_size; k++) {
      int32_t set[2] = {(int32_t)(s->pairs[k] >> 32), (int32_t)s->pairs[k]};
      for (int side = 0; s->pairs[k] && side < (set[0] == set[1] ? 1 : 2); side++)
        for (int64_t e = s->start[set[side]]; e < s->start[set[side] + 1]; e++) {
          if (pass) partner[ptr[s->pool[e] + 1]++] = set[1 - side];
          else ptr[s->pool[e] + 2]++;
        }
    }
    if (pass) break;
    for (int64_t i = 0; i <= n; i++) ptr[i + 1] += ptr[i];
    total = ptr[n + 1];
    if (!(partner = new_rows(s, total))) goto done;
  }
  for (int64_t i = 0; i < n && !c->status; i++) rows[i] = join_all(s, partner + ptr[i], ptr[i + 1] - ptr[i], 1);
done:
  pl_memory_free(c, ptr);
  pl_memory_free(c, partner);
  return rows;
}

/* reads: which inputs' data went into it; may be NULL */
static pl_pattern *pattern_of(pl_context *c, const pl_body *b, const pl_value *inputs, int out, int in, bool second,
                              uint8_t *reads) {
  if (!check(c, b, out, in, second)) return NULL;
  sets s = {.c = c, .second = second};
  int32_t *rows;
  pl_pattern *p = NULL;
  if (analyse(&s, c, b, inputs, out, in, &rows)) {
    if (second) {
      pl_memory_free(c, rows);
      rows = rows_of_pairs(&s);
    }
    if (!c->status) p = from_lists(&s, rows, second ? s.n : count_of(&b->specs[b->outputs[out]]));
    if (p && reads) memcpy(reads, s.reads, (size_t)b->n_in);
  }
  pl_memory_free(c, rows);
  finish(&s);
  return p;
}

pl_pattern *pl_body_jacobian_pattern(pl_context *c, const pl_body *b, const pl_value *inputs, int out, int in) {
  return pattern_of(c, b, inputs, out, in, false, NULL);
}

pl_pattern *pl_body_hessian_pattern(pl_context *c, const pl_body *b, const pl_value *inputs, int out, int in) {
  return pattern_of(c, b, inputs, out, in, true, NULL);
}

/* ---- compressions, remembered by the body ---- */

typedef struct {
  pl_object base;
  pl_compression k;
} compression;

static void compression_destroy(pl_context *c, pl_object *o) {
  compression *k = (compression *)o;
  pl_object_release(k->k.pattern);
  pl_release(c, k->k.seeds);
  pl_release(c, k->k.map);
  pl_memory_free(c, k);
}
static const pl_object_type compression_type = {"compression", NULL, compression_destroy, NULL};

static int32_t longest(int32_t n, const int32_t *ptr) {
  int32_t most = 0;
  for (int32_t i = 0; i < n; i++)
    if (ptr[i + 1] - ptr[i] > most) most = ptr[i + 1] - ptr[i];
  return most;
}

/* Takes the pattern over. */
static compression *compress(pl_context *c, pl_pattern *p, bool symmetric) {
  compression *k = pl_memory_new(c, sizeof *k);
  if (!k) {
    pl_object_release(&p->base);
    return NULL;
  }
  *k = (compression){.base = {.type = &compression_type, .context = c, .refs = 1}, .k = {.pattern = &p->base}};
  bool rows = !symmetric && pl_pattern_columns(c, p) && longest(p->cols, p->col_ptr) < longest(p->rows, p->row_ptr);
  int32_t n = rows ? p->rows : p->cols, *colour = pl_memory_new(c, ((size_t)n + 1) * sizeof *colour);
  int32_t colours = !colour     ? -1
                    : symmetric ? pl_colour_star(c, p, colour)
                    : rows      ? pl_colour_rows(c, p, colour)
                                : pl_colour_columns(c, p, colour);
  if (colours >= 0) {
    pl_pause(c);
    k->k.colours = colours;
    k->k.reverse = rows;
    k->k.seeds = pl_tensor(c, PL_F64, 2, (int64_t[]){colours, n}, NULL);
    k->k.map = pl_tensor(c, PL_I64, 1, (int64_t[]){p->nnz}, NULL);
    pl_resume(c);
    pl_slot *seeds = pl_slot_find(c, k->k.seeds), *map = pl_slot_find(c, k->k.map);
    if (seeds && map) {
      for (int32_t j = 0; j < n; j++) ((double *)seeds->data)[(int64_t)colour[j] * n + j] = 1;
      if (symmetric) pl_recover_star(c, p, colour, colours, map->data);
      else if (rows) pl_recover_rows(p, colour, map->data);
      else pl_recover_columns(p, colour, map->data);
      for (int32_t e = 0; e < p->nnz; e++) ((int64_t *)map->data)[e]++;
    }
  }
  pl_memory_free(c, colour);
  if (!c->status) return k;
  pl_object_release(&k->base);
  return NULL;
}

/* What the compression depends on beside the body: which output and input, and the data that were read. */
static uint64_t *key_of(pl_context *c, const pl_body *b, const pl_value *inputs, const uint64_t *what,
                        const pl_derived *reads, int *n_key) {
  int64_t words = 3;
  for (int i = 0; i < reads->n_list; i++) words += 1 + (count_of(&b->specs[reads->list[i]]) * 8 + 7) / 8;
  if (words > INT32_MAX) {
    pl_error(c, PL_ERROR_MEMORY, "sparsity: too many indices");
    return NULL;
  }
  uint64_t *key = pl_memory_new(c, (size_t)words * sizeof *key);
  if (!key) return NULL;
  memcpy(key, what, 3 * sizeof *key);
  int64_t n = 3;
  for (int i = 0; i < reads->n_list; i++) {
    const pl_slot *s = inputs ? pl_slot_find(c, inputs[reads->list[i]]) : NULL;
    bool known = s && !(s->flags & (PL_FLAG_TRACED | PL_FLAG_RESOURCE));
    key[n++] = known;
    size_t bytes = known ? (size_t)s->count * pl_dtype_size((pl_dtype)s->dtype) : 0;
    if (bytes % 8) key[n + (int64_t)(bytes / 8)] = 0;
    if (bytes) memcpy(key + n, s->data, bytes);
    n += (int64_t)(bytes + 7) / 8;
  }
  *n_key = (int)n;
  return key;
}

bool pl_body_compression(pl_context *c, pl_body *b, const pl_value *inputs, int out, int in, bool hessian,
                         pl_compression *k) {
  if (!check(c, b, out, in, hessian)) return false;
  uint64_t what[3] = {(uint64_t)out, (uint64_t)in, hessian}, *key = NULL;
  int n_key = 0;
  pl_derived *reads = pl_derived_find(b, DERIVED_READS, 3, what), *d = NULL;
  if (reads && !(key = key_of(c, b, inputs, what, reads, &n_key))) return false;
  if (reads) d = pl_derived_find(b, DERIVED_COMPRESSION, n_key, key);
  if (!d) {
    uint8_t *flags = pl_memory_new(c, (size_t)b->n_in + 1);
    pl_pattern *p = flags ? pattern_of(c, b, inputs, out, in, hessian, flags) : NULL;
    compression *made = p ? compress(c, p, hessian) : NULL;
    if (made && !reads) {
      int32_t *list = pl_memory_new(c, ((size_t)b->n_in + 1) * sizeof *list), n = 0;
      for (int i = 0; list && i < b->n_in; i++)
        if (flags[i]) list[n++] = i;
      if (list && (reads = pl_derived_keep(c, b, DERIVED_READS, 3, what, NULL, n, list)))
        key = key_of(c, b, inputs, what, reads, &n_key);
      pl_memory_free(c, list);
    }
    /* what a derivation holds is any object */
    if (made && key) d = pl_derived_keep(c, b, DERIVED_COMPRESSION, n_key, key, (pl_body *)made, 0, NULL);
    else pl_object_release((pl_object *)made);
    pl_memory_free(c, flags);
  }
  pl_memory_free(c, key);
  if (d) *k = ((compression *)d->body)->k;
  return d != NULL;
}
