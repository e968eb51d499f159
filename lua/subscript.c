/* subscript.c: x(i, j, ...) and x:at(i, j, ...):set(v) / :add(v).
 *
 * A subscript is a number (drops its axis), a range "first:last:step" or {first, last, step} (inclusive, 1-based,
 * negatives from the end), an index tensor, a mask, or pl.ix(a, b). Ranges and numbers of one call are a single slice;
 * index tensors pair up, except those of pl.ix, which make a product. */
#include "binding.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum { NUMBER, RANGE, INDEX } kind;

typedef struct {
  kind kind;
  bool product; /* an index of pl.ix */
  int64_t start, step, count;
  pl_value index;
} axis_sub;

typedef struct {
  int n; /* axes */
  axis_sub axis[PL_MAX_RANK];
  pl_value x; /* with the axes of a mask merged; or PL_NONE, where only a shape is selected from */
  int rank;   /* its shape */
  int64_t shape[PL_MAX_RANK];
} selection;

#define OP(name) pl_op_find(name)

static pl_value apply(pl_context *c, const char *op, int n, const pl_value *in, const pl_attr *attrs) {
  return pl_apply1(c, OP(op), n, in, attrs);
}

/* An index that int64 and arithmetic on it hold. */
static bool is_whole(double x) { return x == floor(x) && fabs(x) < 9e15; }

static bool range_error(pl_context *c, int64_t i, int64_t m, int axis) {
  pl_error(c, PL_ERROR_INDEX, "index %lld is out of range 1 to %lld on axis %d", (long long)i, (long long)m, axis + 1);
  return false;
}

/* first, last, step -> start, step, count; an empty range ends one step before it begins */
static bool set_range(pl_context *c, axis_sub *s, int64_t first, int64_t last, int64_t step, int64_t m, int axis) {
  if (step == 0) {
    pl_error(c, PL_ERROR_INDEX, "a range with step 0 on axis %d", axis + 1);
    return false;
  }
  int64_t a = first < 0 ? first + m + 1 : first, z = last < 0 ? last + m + 1 : last;
  *s = (axis_sub){.kind = RANGE, .start = a - 1, .step = step};
  int64_t count = step > 0 ? (z - a) / step + 1 : (a - z) / -step + 1;
  if (step > 0 ? z < a : z > a) count = 0;
  if (count == 0) {
    if ((step > 0 ? z != a - 1 : z != a + 1) || a < 1 || a > m + 1) {
      pl_error(c, PL_ERROR_INDEX, "the range %lld:%lld:%lld is out of order on axis %d of size %lld", (long long)first,
               (long long)last, (long long)step, axis + 1, (long long)m);
      return false;
    }
    s->start = 0;
    return true;
  }
  if (a < 1 || a > m) return range_error(c, first, m, axis);
  if (z < 1 || z > m) return range_error(c, last, m, axis);
  s->count = count;
  return true;
}

static bool parse_text(pl_context *c, axis_sub *s, const char *text, int64_t m, int axis) {
  int64_t part[3] = {0, 0, 1};
  bool given[3] = {false, false, false};
  const char *p = text;
  int k = 0;
  for (;; p++) {
    while (*p == ' ') p++;
    char *end;
    long long v = strtoll(p, &end, 10);
    if (end != p) {
      if ((v == 0 && k < 2) || !is_whole((double)v)) break;
      part[k] = v;
      given[k] = true;
    }
    p = end;
    while (*p == ' ') p++;
    if (*p != ':' || k == 2) break;
    k++;
  }
  if (*p || k == 0) {
    pl_error(
        c, PL_ERROR_INDEX,
        "bad slice \"%s\": write \"first:last\" or \"first:last:step\", 1-based, both included, negatives from the end",
        text);
    return false;
  }
  bool down = part[2] < 0;
  if (!given[0]) part[0] = down ? m : 1;
  if (!given[1]) part[1] = down ? 1 : m;
  if (m == 0 && !given[0] && !given[1]) {
    *s = (axis_sub){.kind = RANGE, .step = 1};
    return true;
  }
  return set_range(c, s, part[0], part[1], part[2], m, axis);
}

/* Index data as i64; f64 must be whole. */
static pl_value index_values(pl_context *c, pl_value v, const pl_info *info) {
  if (info->dtype == PL_I64) return v;
  if (info->dtype == PL_BOOL) return PL_NONE;
  for (int64_t i = 0; i < info->count && pl_known(c, v); i++) {
    double x = info->dtype == PL_F64 ? ((const double *)pl_data(c, v))[i] : (double)((const float *)pl_data(c, v))[i];
    if (!is_whole(x)) {
      pl_error(c, PL_ERROR_TYPE, "index %g (entry %lld) is not a whole number", x, (long long)i + 1);
      return PL_NONE;
    }
  }
  return apply(c, "cast", 1, &v, &PL_INT(PL_I64));
}

static void set_shape(selection *s, int rank, const int64_t *shape) {
  s->rank = rank;
  memcpy(s->shape, shape, (size_t)rank * sizeof *shape);
}

/* Merges axes a .. a+r-1 of x into one. */
static pl_value merge_axes(pl_context *c, pl_value x, const pl_info *info, int a, int r) {
  int64_t shape[PL_MAX_RANK];
  int rank = 0;
  for (int i = 0; i < info->rank; i++) {
    if (i > a && i < a + r) shape[rank - 1] *= info->shape[i];
    else shape[rank++] = info->shape[i];
  }
  return apply(c, "reshape", 1, &x, &PL_INTS(rank, shape));
}

static bool parse_one(lua_State *L, binding *b, selection *s, int i, bool product);

static bool parse_tensor(binding *b, selection *s, pl_value v, bool product) {
  pl_context *c = b->c;
  pl_info info, x;
  if (!pl_describe(c, v, &info)) return false;
  axis_sub *sub = &s->axis[s->n];
  *sub = (axis_sub){.kind = INDEX, .product = product};
  if (info.dtype == PL_BOOL) {
    for (int a = 0; a < info.rank; a++)
      if (s->n + a >= s->rank || s->shape[s->n + a] != info.shape[a]) {
        pl_error(c, PL_ERROR_SHAPE, "a mask must have the size of the axes it selects from: axis %d differs",
                 s->n + a + 1);
        return false;
      }
    if (info.rank == 0) {
      pl_error(c, PL_ERROR_SHAPE, "a 0-d mask selects nothing");
      return false;
    }
    if (info.rank > 1) {
      if (s->x == PL_NONE) {
        pl_error(c, PL_ERROR_SHAPE, "a mask of a sparse matrix's rows, or of its columns, is a vector");
        return false;
      }
      if (!pl_describe(c, s->x, &x)) return false;
      s->x = merge_axes(c, s->x, &x, s->n, info.rank);
      if (!pl_describe(c, s->x, &x)) return false;
      set_shape(s, x.rank, x.shape);
    }
    sub->index = apply(c, "nonzero", 1, &v, NULL);
  } else if (info.rank == 0 && pl_known(c, v)) { /* a number that happens to be a tensor */
    double number = pl_item(c, v);
    int64_t k = is_whole(number) ? (int64_t)number : 0, m = s->shape[s->n];
    if (k == 0 || k > m || k < -m) return range_error(c, k, m, s->n);
    *sub = (axis_sub){.kind = NUMBER, .start = k < 0 ? k + m : k - 1, .step = 1, .count = 1};
  } else {
    sub->index = index_values(c, v, &info);
  }
  s->n++;
  return pl_error_status(c) == PL_OK;
}

static bool parse_one(lua_State *L, binding *b, selection *s, int i, bool product) {
  pl_context *c = b->c;
  if (s->n >= s->rank) {
    pl_error(c, PL_ERROR_INDEX, "more subscripts than the tensor's %d axes", s->rank);
    return false;
  }
  int64_t m = s->shape[s->n];
  switch (lua_type(L, i)) {
    case LUA_TNUMBER: {
      double k = lua_tonumber(L, i);
      if (!is_whole(k)) {
        pl_error(c, PL_ERROR_INDEX, "index %g is not a whole number", k);
        return false;
      }
      int64_t at = k < 0 ? (int64_t)k + m : (int64_t)k - 1;
      if (at < 0 || at >= m || k == 0) return range_error(c, (int64_t)k, m, s->n);
      s->axis[s->n++] = (axis_sub){.kind = NUMBER, .start = at, .step = 1, .count = 1};
      return true;
    }
    case LUA_TSTRING:
      if (!parse_text(c, &s->axis[s->n], lua_tostring(L, i), m, s->n)) return false;
      s->n++;
      return true;
    case LUA_TTABLE: {
      lua_pushliteral(L, "product");
      lua_rawget(L, i); /* raw: no error may pass the scope around us */
      bool ix = lua_toboolean(L, -1);
      lua_pop(L, 1);
      int n = (int)lua_objlen(L, i);
      if (ix) {
        for (int k = 1; k <= n; k++) {
          lua_rawgeti(L, i, k);
          bool ok = parse_one(L, b, s, lua_gettop(L), true);
          lua_pop(L, 1);
          if (!ok) return false;
        }
        return true;
      }
      int64_t part[3] = {0, 0, 1};
      if (n < 2 || n > 3) {
        pl_error(c, PL_ERROR_INDEX, "a range is {first, last} or {first, last, step}, not a list of %d", n);
        return false;
      }
      for (int k = 0; k < n; k++) {
        lua_rawgeti(L, i, k + 1);
        double v = lua_tonumber(L, -1);
        bool whole = lua_type(L, -1) == LUA_TNUMBER && is_whole(v);
        lua_pop(L, 1);
        if (!whole) {
          pl_error(c, PL_ERROR_INDEX, "a range {first, last, step} holds whole numbers");
          return false;
        }
        part[k] = (int64_t)v;
      }
      if (!set_range(c, &s->axis[s->n], part[0], part[1], part[2], m, s->n)) return false;
      s->n++;
      return true;
    }
    default: {
      tensor_data *t = to_tensor(L, i);
      if (t) return parse_tensor(b, s, t->handle, product);
      pl_error(c, PL_ERROR_INDEX, "a subscript is a number, a range, an index tensor or a mask, not %s",
               lua_isnoneornil(L, i) ? "nil" : luaL_typename(L, i));
      return false;
    }
  }
}

static bool parse_all(lua_State *L, binding *b, selection *s, int first, int n) {
  for (int k = 0; k < n; k++)
    if (!parse_one(L, b, s, first + k, false)) return false;
  for (; s->n < s->rank; s->n++) s->axis[s->n] = (axis_sub){.kind = RANGE, .step = 1, .count = s->shape[s->n]};
  return true;
}
static bool parse(lua_State *L, binding *b, selection *s, pl_value x, int first, int n) {
  *s = (selection){.x = x};
  pl_info info;
  if (!pl_describe(b->c, x, &info)) return false;
  set_shape(s, info.rank, info.shape);
  return parse_all(L, b, s, first, n);
}

/* The slice's attributes: index axes whole. Returns whether it selects everything as it is. */
static bool slice_attrs(const selection *s, const pl_info *info, int64_t *start, int64_t *step, int64_t *count) {
  bool whole = true;
  for (int a = 0; a < s->n; a++) {
    const axis_sub *q = &s->axis[a];
    bool index = q->kind == INDEX;
    start[a] = index ? 0 : q->start;
    step[a] = index ? 1 : q->step;
    count[a] = index ? info->shape[a] : q->count;
    whole = whole && start[a] == 0 && step[a] == 1 && count[a] == info->shape[a];
  }
  return whole;
}

static pl_value gather_axis(pl_context *c, pl_value x, pl_value index, int axis) {
  pl_value in[] = {x, index};
  return apply(c, "gather", 2, in, &PL_INT(axis));
}

/* Paired index tensors on several axes: one gather along the merged axes. */
static pl_value gather_paired(pl_context *c, pl_value x, int n, const int *axes, const pl_value *index) {
  pl_info info;
  if (!pl_describe(c, x, &info)) return PL_NONE;
  int first = axes[0];
  bool adjacent = axes[n - 1] - axes[0] == n - 1;
  if (!adjacent) { /* as NumPy: separated indices go in front */
    int64_t order[PL_MAX_RANK];
    int k = 0;
    for (int i = 0; i < n; i++) order[k++] = axes[i];
    for (int a = 0; a < info.rank; a++) {
      bool indexed = false;
      for (int i = 0; i < n; i++) indexed = indexed || axes[i] == a;
      if (!indexed) order[k++] = a;
    }
    x = apply(c, "transpose", 1, &x, &PL_INTS(info.rank, order));
    if (!pl_describe(c, x, &info)) return PL_NONE;
    first = 0;
  }
  pl_value flat = PL_NONE;
  for (int i = 0; i < n; i++) {
    int64_t m = info.shape[first + i];
    pl_info list;
    const int64_t *p = pl_describe(c, index[i], &list) && pl_known(c, index[i]) ? pl_data(c, index[i]) : NULL;
    for (int64_t k = 0; p && k < list.count; k++)
      if (p[k] < 1 || p[k] > m) return range_error(c, p[k], m, axes[i]), PL_NONE;
    pl_value zero_based[] = {index[i], pl_constant(c, PL_I64, 1)};
    pl_value here = apply(c, "sub", 2, zero_based, NULL);
    if (i) {
      pl_value wide[] = {flat, pl_constant(c, PL_I64, (double)m)};
      pl_value sum[] = {apply(c, "mul", 2, wide, NULL), here};
      flat = apply(c, "add", 2, sum, NULL);
    } else {
      flat = here;
    }
  }
  pl_value one_based[] = {flat, pl_constant(c, PL_I64, 1)};
  flat = apply(c, "add", 2, one_based, NULL);
  return gather_axis(c, merge_axes(c, x, &info, first, n), flat, first);
}

static pl_value select_from(pl_context *c, const selection *s) {
  pl_info info;
  if (!pl_describe(c, s->x, &info)) return PL_NONE;
  int64_t start[PL_MAX_RANK], step[PL_MAX_RANK], count[PL_MAX_RANK], shape[PL_MAX_RANK];
  pl_value x = s->x;
  if (!slice_attrs(s, &info, start, step, count)) {
    pl_attr attrs[] = {PL_INTS(s->n, start), PL_INTS(s->n, step), PL_INTS(s->n, count)};
    x = apply(c, "slice", 1, &x, attrs);
  }
  int rank = 0, n_index = 0, axes[PL_MAX_RANK];
  pl_value index[PL_MAX_RANK];
  bool product = true;
  for (int a = 0; a < s->n; a++) {
    if (s->axis[a].kind == NUMBER) continue;
    if (s->axis[a].kind == INDEX) {
      axes[n_index] = rank;
      index[n_index++] = s->axis[a].index;
      product = product && s->axis[a].product;
    }
    shape[rank++] = count[a];
  }
  if (rank < s->n) x = apply(c, "reshape", 1, &x, &PL_INTS(rank, shape));
  if (n_index > 1 && !product) return gather_paired(c, x, n_index, axes, index);
  for (int i = n_index; i-- > 0;) x = gather_axis(c, x, index[i], axes[i]);
  if (x == s->x) x = apply(c, "reshape", 1, &x, &PL_INTS(rank, shape)); /* a value of its own */
  return x;
}

pl_value subscript(lua_State *L, binding *b, pl_value x, int first, int n) {
  pl_context *c = b->c;
  bool alone = pl_owns(c); /* then what is made on the way dies here */
  if (alone) pl_scope_begin(c);
  selection s;
  pl_value y = parse(L, b, &s, x, first, n) ? select_from(c, &s) : PL_NONE;
  if (alone) {
    if (y != PL_NONE) pl_retain(c, y);
    pl_scope_end(c);
  }
  return y;
}

/* ---- A(i, j) of a sparse matrix: what has the shape that the same subscripts give of a dense one ---- */

/* An axis's places as 1-based indices; PL_NONE: all. */
static pl_value places(pl_context *c, const axis_sub *q, int64_t m) {
  if (q->kind == INDEX) return q->index;
  if (q->kind == RANGE && q->start == 0 && q->step == 1 && q->count == m) return PL_NONE;
  pl_attr attrs[] = {PL_REALV((double)q->start + 1), PL_REALV((double)q->step), PL_INT(q->count), PL_INT(PL_I64)};
  return apply(c, "range", 0, NULL, attrs);
}

static pl_sparse select_sparse(pl_context *c, const selection *s, pl_sparse a) {
  const axis_sub *i = &s->axis[0], *j = &s->axis[1];
  if (i->kind == NUMBER && j->kind == NUMBER)
    return (pl_sparse){NULL, pl_sparse_element(c, a, i->start + 1, j->start + 1)};
  pl_value rows = places(c, i, s->shape[0]), columns = places(c, j, s->shape[1]);
  if (i->kind == INDEX && j->kind == INDEX && !(i->product && j->product))
    return (pl_sparse){NULL, pl_sparse_pick(c, a, rows, columns)};
  pl_sparse part = pl_sparse_select(c, a, rows, columns);
  if (!part.pattern || (i->kind != NUMBER && j->kind != NUMBER)) return part;
  int64_t m, n, nnz, count;
  pl_sparse_size(part.pattern, &m, &n, &nnz);
  count = m * n;
  pl_value t = pl_sparse_dense(c, part);
  t = apply(c, "reshape", 1, &t, &PL_INTS(1, &count));
  pl_sparse_release(c, (pl_sparse){part.pattern, PL_NONE});
  return (pl_sparse){NULL, t};
}

pl_sparse subscript_sparse(lua_State *L, binding *b, pl_sparse a, int first, int n) {
  pl_context *c = b->c;
  bool alone = pl_owns(c);
  if (alone) pl_scope_begin(c);
  selection s = {.x = PL_NONE};
  int64_t shape[2], nnz;
  pl_sparse_size(a.pattern, &shape[0], &shape[1], &nnz);
  set_shape(&s, 2, shape);
  pl_sparse y = parse_all(L, b, &s, first, n) ? select_sparse(c, &s, a) : (pl_sparse){NULL, PL_NONE};
  if (alone) {
    if (y.values != PL_NONE) pl_retain(c, y.values);
    pl_scope_end(c);
  }
  return y;
}

/* ---- t:at(...):set(v), :add(v): the place is a list {t, subscripts ...} ---- */

static int tensor_at(lua_State *L) {
  binding *b = binding_of(L);
  check_tensor(L, b, 1, "at");
  int n = lua_gettop(L);
  if (n < 2) fail(L, "at: subscripts are missing");
  lua_createtable(L, n, 1);
  lua_insert(L, 1);
  for (int i = n; i >= 1; i--) lua_rawseti(L, 1, i);
  lua_rawgeti(L, LUA_REGISTRYINDEX, b->places);
  lua_setmetatable(L, 1);
  return 1;
}

/* How t:at(...) changes elements: the ops on a slice (of the selected and the new, where it is not one already) and at
 * places. */
typedef struct {
  const char *name, *slice, *combine, *places;
} manner;
static const manner SET = {"set", "slice_set", NULL, "put"}, ADD = {"add", "slice_add", NULL, "add_at"},
                    MUL = {"mul", "slice_set", "mul", "mul_at"}, MAX = {"max", "slice_set", "maximum", "max_at"},
                    MIN = {"min", "slice_set", "minimum", "min_at"};

static pl_value change(lua_State *L, binding *b, pl_value t, int first, int n, pl_value v, const manner *how) {
  pl_context *c = b->c;
  pl_info info, sel;
  selection s;
  if (!parse(L, b, &s, t, first, n) || !pl_describe(c, t, &info)) return PL_NONE;
  /* v takes t's dtype: what is set must fit there */
  pl_value cast = v;
  if (pl_dtype_of(c, v) != (int)info.dtype) cast = apply(c, "cast", 1, &v, &PL_INT(info.dtype));
  bool indexed = false;
  for (int a = 0; a < s.n; a++) indexed = indexed || s.axis[a].kind == INDEX;
  if (!indexed) {
    int64_t start[PL_MAX_RANK], step[PL_MAX_RANK], count[PL_MAX_RANK], kept[PL_MAX_RANK];
    slice_attrs(&s, &info, start, step, count);
    int rank = 0;
    for (int a = 0; a < s.n; a++)
      if (s.axis[a].kind != NUMBER) kept[rank++] = count[a];
    cast = apply(c, "broadcast_to", 1, &cast, &PL_INTS(rank, kept));
    if (rank < s.n) cast = apply(c, "reshape", 1, &cast, &PL_INTS(s.n, count));
    pl_attr attrs[] = {PL_INTS(s.n, start), PL_INTS(s.n, step), PL_INTS(s.n, count)};
    pl_value in[] = {t, cast};
    if (how->combine) {
      pl_value both[] = {apply(c, "slice", 1, &t, attrs), cast};
      in[1] = apply(c, how->combine, 2, both, NULL);
    }
    return apply(c, how->slice, 2, in, attrs);
  }
  /* the flat numbers of the selected elements, by the same subscripts */
  pl_attr numbers[] = {PL_REALV(1), PL_REALV(1), PL_INT(info.count), PL_INT(PL_I64)};
  pl_value all = apply(c, "range", 0, NULL, numbers);
  all = apply(c, "reshape", 1, &all, &PL_INTS(info.rank, info.shape));
  if (!parse(L, b, &s, all, first, n)) return PL_NONE;
  pl_value flat = select_from(c, &s);
  if (!pl_describe(c, flat, &sel)) return PL_NONE;
  cast = apply(c, "broadcast_to", 1, &cast, &PL_INTS(sel.rank, sel.shape));
  pl_value base = apply(c, "ravel", 1, &t, NULL), index = apply(c, "ravel", 1, &flat, NULL),
           w = apply(c, "ravel", 1, &cast, NULL);
  pl_value in[] = {base, index, w};
  pl_value out = apply(c, how->places, 3, in, &PL_INT(0));
  return apply(c, "reshape", 1, &out, &PL_INTS(info.rank, info.shape));
}

static int change_place(lua_State *L, const manner *how) {
  binding *b = binding_of(L);
  lua_settop(L, 2);
  if (!lua_istable(L, 1)) fail(L, "write t:at(...):set(v)");
  int n = (int)lua_objlen(L, 1);
  luaL_checkstack(L, n + 4, "at");
  lua_rawgeti(L, 1, 1);
  pl_value t = check_tensor(L, b, 3, "at");
  for (int i = 2; i <= n; i++) lua_rawgeti(L, 1, i);
  pl_value v = check_value(L, b, 2, pl_dtype_of(b->c, t), how->name);
  mark_line(L, b);
  bool alone = pl_owns(b->c);
  if (alone) pl_scope_begin(b->c);
  pl_value y = change(L, b, t, 4, n - 1, v, how);
  if (alone) {
    if (y != PL_NONE) pl_retain(b->c, y);
    pl_scope_end(b->c);
  }
  return push_value(L, b, y);
}
static int place_set(lua_State *L) { return change_place(L, &SET); }
static int place_add(lua_State *L) { return change_place(L, &ADD); }
static int place_mul(lua_State *L) { return change_place(L, &MUL); }
static int place_max(lua_State *L) { return change_place(L, &MAX); }
static int place_min(lua_State *L) { return change_place(L, &MIN); }

/* pl.ix(a, b, ...): the product of index lists */
static int ix(lua_State *L) {
  int n = lua_gettop(L);
  lua_createtable(L, n, 1);
  lua_insert(L, 1);
  for (int i = n; i >= 1; i--) lua_rawseti(L, 1, i);
  lua_pushboolean(L, 1);
  lua_setfield(L, 1, "product");
  return 1;
}

void open_subscripts(lua_State *L, binding *b, int core) {
  static const luaL_Reg places[] = {{"set", place_set}, {"add", place_add}, {"mul", place_mul},
                                    {"max", place_max}, {"min", place_min}, {NULL, NULL}};
  b->places = new_metatable(L, b, places);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  static const luaL_Reg functions[] = {{"ix", ix}, {NULL, NULL}};
  register_functions(L, b, core, functions);
  static const luaL_Reg methods[] = {{"at", tensor_at}, {NULL, NULL}};
  lua_rawgeti(L, LUA_REGISTRYINDEX, b->methods);
  register_functions(L, b, lua_gettop(L), methods);
  lua_pop(L, 1);
}
