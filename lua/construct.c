/* construct.c: tensors from numbers, tables and bytes; buffers; random tensors. */
#include "binding.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- nested tables ---- */

typedef struct {
  int rank;
  int64_t shape[PL_MAX_RANK];
  bool booleans, numbers;
} nest;

static void measure(lua_State *L, int i, nest *t) {
  lua_pushvalue(L, i);
  while (lua_istable(L, -1)) {
    if (t->rank == PL_MAX_RANK) fail(L, "tensor: tables nested more than %d deep", PL_MAX_RANK);
    t->shape[t->rank++] = (int64_t)lua_objlen(L, -1);
    lua_rawgeti(L, -1, 1);
    lua_remove(L, -2);
  }
  lua_pop(L, 1);
}

static void fill(lua_State *L, int i, nest *t, int axis, double **p, int64_t *at) {
  if (axis == t->rank) {
    if (lua_type(L, i) == LUA_TNUMBER) {
      *(*p)++ = lua_tonumber(L, i);
      t->numbers = true;
    } else if (lua_isboolean(L, i)) {
      *(*p)++ = lua_toboolean(L, i);
      t->booleans = true;
    } else if (to_tensor(L, i)) {
      fail(L, "tensor: a table of tensors is joined by pl.stack or pl.concat");
    } else {
      fail(L, "tensor: entry %lld of axis %d is %s, not a number", (long long)at[axis ? axis - 1 : 0], axis,
           luaL_typename(L, i));
    }
    return;
  }
  if (!lua_istable(L, i) || (int64_t)lua_objlen(L, i) != t->shape[axis])
    fail(L, "tensor: the nested tables are ragged: entry %lld of axis %d has %lld elements instead of %lld",
         (long long)(axis ? at[axis - 1] : 1), axis, lua_istable(L, i) ? (long long)lua_objlen(L, i) : 0LL,
         (long long)t->shape[axis]);
  for (int64_t k = 1; k <= t->shape[axis]; k++) {
    at[axis] = k;
    lua_rawgeti(L, i, (int)k);
    fill(L, lua_gettop(L), t, axis + 1, p, at);
    lua_pop(L, 1);
  }
}

pl_value tensor_from_table(lua_State *L, binding *b, int i, int dtype) {
  nest t = {0};
  luaL_checkstack(L, 2 * PL_MAX_RANK + 8, "tensor");
  if (lua_istable(L, i)) measure(L, i, &t);
  int64_t count = 1, at[PL_MAX_RANK + 1] = {0};
  for (int a = 0; a < t.rank; a++) count *= t.shape[a];
  double *numbers = lua_newuserdata(L, (size_t)(count + 1) * sizeof *numbers),
         *p = numbers; /* collected, also on an error */
  fill(L, i, &t, 0, &p, at);
  if (t.booleans && t.numbers) fail(L, "tensor: numbers and booleans are mixed");
  pl_value v = pl_tensor(b->c, PL_F64, t.rank, t.shape, numbers);
  if (dtype < 0) dtype = t.booleans ? PL_BOOL : PL_F64;
  if (v != PL_NONE && dtype != PL_F64) {
    pl_value wide = v;
    v = pl_apply1(b->c, pl_op_find("cast"), 1, &wide, &PL_INT(dtype));
    if (pl_owns(b->c)) pl_release(b->c, wide);
  }
  lua_pop(L, 1);
  push_value(L, b, v);
  return v;
}

/* ---- constructors: f(a, b, ..., {dtype = ...}) or f{a, b, dtype = ...} ---- */

/* Spreads f{a, b, dtype = ...} over the stack; returns the dtype asked for, or the default. */
static pl_dtype read_options(lua_State *L, pl_dtype standard) {
  int top = lua_gettop(L);
  if (top == 0 || !lua_istable(L, top)) return standard;
  bool list = lua_objlen(L, top) > 0, options = false;
  for (lua_pushnil(L); lua_next(L, top); lua_pop(L, 1)) {
    if (lua_type(L, -2) == LUA_TNUMBER) continue;
    options = true;
    if (lua_type(L, -2) != LUA_TSTRING || strcmp(lua_tostring(L, -2), "dtype"))
      fail(L, "unknown option '%s'; there is dtype", lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?");
  }
  if (!list && !options) return standard;
  if (list && top > 1 && !options) return standard; /* a shape, say */
  lua_getfield(L, top, "dtype");
  pl_dtype dtype = lua_isnil(L, -1) ? standard : check_dtype(L, -1);
  lua_pop(L, 1);
  if (list && top == 1) {
    int n = (int)lua_objlen(L, 1);
    luaL_checkstack(L, n, "options");
    for (int k = 1; k <= n; k++) lua_rawgeti(L, 1, k);
    lua_remove(L, 1);
  } else if (!list) {
    lua_pop(L, 1);
  }
  return dtype;
}

static int default_dtype(lua_State *L) {
  lua_getfield(L, LUA_REGISTRYINDEX, "perilune.dtype");
  int d = lua_isnumber(L, -1) ? (int)lua_tointeger(L, -1) : PL_F64;
  lua_pop(L, 1);
  return d;
}
static int set_default_dtype(lua_State *L) {
  lua_pushnumber(L, check_dtype(L, 1));
  lua_setfield(L, LUA_REGISTRYINDEX, "perilune.dtype");
  return 0;
}

static int read_shape(lua_State *L, int first, int last, int64_t *shape, const char *what) {
  if (first <= last && lua_istable(L, first)) return check_list(L, first, shape, PL_MAX_RANK, what);
  int rank = last - first + 1;
  if (rank > PL_MAX_RANK) fail(L, "%s: %d axes; at most %d are possible", what, rank, PL_MAX_RANK);
  for (int i = 0; i < rank; i++) shape[i] = check_integer(L, first + i, what);
  for (int i = 0; i < rank; i++)
    if (shape[i] < 0) fail(L, "%s: %lld is no size of an axis", what, (long long)shape[i]);
  return rank;
}

static int make(lua_State *L, binding *b, const char *op, const pl_attr *attrs) {
  pl_value out;
  mark_line(L, b);
  if (!run_op(L, b, pl_op_find(op), 0, NULL, attrs, &out)) fail_engine(L, b);
  return push_value(L, b, out);
}

static int tensor(lua_State *L) {
  binding *b = binding_of(L);
  int dtype = -1;
  if (lua_gettop(L) > 1 && lua_istable(L, 2)) {
    lua_getfield(L, 2, "dtype");
    if (!lua_isnil(L, -1)) dtype = check_dtype(L, -1);
  } else if (lua_gettop(L) == 1 && lua_istable(L, 1)) {
    lua_getfield(L, 1, "dtype");
    if (!lua_isnil(L, -1)) dtype = check_dtype(L, -1);
  }
  if (to_tensor(L, 1) || to_buffer(L, 1)) {
    pl_value v = check_tensor(L, b, 1, "tensor");
    if (dtype >= 0) {
      pl_value out;
      if (!run_op(L, b, pl_op_find("cast"), 1, &v, &PL_INT(dtype), &out)) fail_engine(L, b);
      return push_value(L, b, out);
    }
    lua_settop(L, 1);
    return 1;
  }
  if (lua_isnoneornil(L, 1)) fail(L, "tensor needs a number or nested tables of numbers, not nil");
  tensor_from_table(L, b, 1,
                    dtype >= 0                                ? dtype
                    : lua_istable(L, 1) || lua_isnumber(L, 1) ? (default_dtype(L) == PL_F64 ? -1 : default_dtype(L))
                                                              : -1);
  return 1;
}

static int zeros(lua_State *L) {
  int64_t shape[PL_MAX_RANK];
  pl_dtype dtype = read_options(L, (pl_dtype)default_dtype(L));
  int rank = read_shape(L, 1, lua_gettop(L), shape, "zeros");
  return make(L, binding_of(L), "zeros", (pl_attr[]){PL_INTS(rank, shape), PL_INT(dtype)});
}

static int filled(lua_State *L, pl_value v, int rank, const int64_t *shape) {
  binding *b = binding_of(L);
  pl_value out;
  mark_line(L, b);
  if (!run_op(L, b, pl_op_find("broadcast_to"), 1, &v, &PL_INTS(rank, shape), &out)) fail_engine(L, b);
  return push_value(L, b, out);
}

static int ones(lua_State *L) {
  binding *b = binding_of(L);
  int64_t shape[PL_MAX_RANK];
  pl_dtype dtype = read_options(L, (pl_dtype)default_dtype(L));
  int rank = read_shape(L, 1, lua_gettop(L), shape, "ones");
  return filled(L, pl_constant(b->c, dtype, 1), rank, shape);
}

/* full(n, v), full({n, m}, v) */
static int full(lua_State *L) {
  binding *b = binding_of(L);
  int64_t shape[PL_MAX_RANK];
  pl_dtype dtype = lua_gettop(L) > 2 ? read_options(L, (pl_dtype)default_dtype(L)) : (pl_dtype)default_dtype(L);
  if (lua_gettop(L) != 2) fail(L, "full needs a shape and a number: full({n, m}, x)");
  int rank = lua_istable(L, 1) ? check_list(L, 1, shape, PL_MAX_RANK, "full") : read_shape(L, 1, 1, shape, "full");
  return filled(L, check_value(L, b, 2, dtype, "full"), rank, shape);
}

/* arange(a, b[, step]): a, a + step, ... not beyond b */
static int arange(lua_State *L) {
  pl_dtype dtype = read_options(L, (pl_dtype)default_dtype(L));
  int n = lua_gettop(L);
  if (n < 2 || n > 3) fail(L, "arange needs a first and a last number, and perhaps a step");
  for (int i = 1; i <= n; i++)
    if (lua_type(L, i) != LUA_TNUMBER) fail(L, "arange: argument %d is %s, not a number", i, luaL_typename(L, i));
  double a = lua_tonumber(L, 1), z = lua_tonumber(L, 2), step = n > 2 ? lua_tonumber(L, 3) : 1;
  if (step == 0) fail(L, "arange: the step is 0");
  double count = floor((z - a) / step * (1 + 4e-16) + 1e-10) + 1; /* 0 to 1 by 0.1 has 11 */
  if (!(count < 2147483648.0)) fail(L, "arange: %g to %g by %g is too long", a, z, step);
  if (count < 0) count = 0;
  return make(L, binding_of(L), "range",
              (pl_attr[]){PL_REALV(a), PL_REALV(step), PL_INT((int64_t)count), PL_INT(dtype)});
}

static int linspace(lua_State *L) {
  pl_dtype dtype = read_options(L, (pl_dtype)default_dtype(L));
  if (lua_gettop(L) != 3 || lua_type(L, 1) != LUA_TNUMBER || lua_type(L, 2) != LUA_TNUMBER)
    fail(L, "linspace needs a first and a last number and how many");
  int64_t n = check_integer(L, 3, "linspace: how many");
  if (n < 0) fail(L, "linspace: %lld numbers", (long long)n);
  return make(L, binding_of(L), "linspace",
              (pl_attr[]){PL_REALV(lua_tonumber(L, 1)), PL_REALV(lua_tonumber(L, 2)), PL_INT(n), PL_INT(dtype)});
}

static int eye(lua_State *L) {
  pl_dtype dtype = read_options(L, (pl_dtype)default_dtype(L));
  int64_t n = check_integer(L, 1, "eye: the size"), m = lua_gettop(L) > 1 ? check_integer(L, 2, "eye: the size") : n;
  return make(L, binding_of(L), "eye", (pl_attr[]){PL_INT(n), PL_INT(m), PL_INT(dtype)});
}

/* core.from_bytes(string, dtype, shape) */
static int from_bytes(lua_State *L) {
  binding *b = binding_of(L);
  size_t length;
  const char *bytes = luaL_checklstring(L, 1, &length);
  pl_dtype dtype = check_dtype(L, 2);
  int64_t shape[PL_MAX_RANK], count = 1;
  int rank = check_list(L, 3, shape, PL_MAX_RANK, "from_bytes: the shape");
  for (int i = 0; i < rank; i++) {
    if (shape[i] < 0 || (shape[i] && count > INT32_MAX / shape[i])) fail(L, "from_bytes: the shape is too large");
    count *= shape[i];
  }
  if (length != (size_t)count * pl_dtype_size(dtype))
    fail(L, "from_bytes: %zu bytes for %lld numbers of %s", length, (long long)count, pl_dtype_name(dtype));
  return push_value(L, b, pl_tensor(b->c, dtype, rank, shape, bytes));
}

/* ---- random ---- */

/* f(shape, position, seed, stream, ...): the key is whole numbers or i64 tensors, the rest the op's parameters, numbers
 * or tensors, or its attributes. */
static int draw(lua_State *L) {
  binding *b = binding_of(L);
  const pl_op *op = lua_touserdata(L, lua_upvalueindex(2));
  enum { FIRST = 2, KEY = 3 };
  int64_t shape[PL_MAX_RANK], key[KEY];
  int n = pl_op_inputs(op);
  pl_attr attrs[PL_MAX_ATTRS] = {PL_INTS(check_list(L, 1, shape, PL_MAX_RANK, "the shape"), shape)};
  for (int i = 1; pl_op_attrs(op)[i].name; i++) attrs[i] = PL_REALV(luaL_checknumber(L, FIRST + KEY + i - 1));
  for (int i = 0; i < KEY; i++)
    if (!to_tensor(L, FIRST + i)) key[i] = check_integer(L, FIRST + i, "the key");
  pl_value in[8], out;
  for (int i = KEY; i < n; i++) in[i] = check_value(L, b, FIRST + i, PL_F64, pl_op_name(op));
  bool made[KEY], owned = pl_owns(b->c);
  for (int i = 0; i < KEY; i++) {
    made[i] = !to_tensor(L, FIRST + i);
    in[i] = made[i] ? pl_tensor(b->c, PL_I64, 0, NULL, &key[i]) : to_tensor(L, FIRST + i)->handle;
  }
  mark_line(L, b);
  bool ok = run_op(L, b, op, n, in, attrs, &out);
  for (int i = 0; i < KEY; i++)
    if (made[i] && owned) pl_release(b->c, in[i]);
  if (!ok) fail_engine(L, b);
  return push_value(L, b, out);
}

/* core.random(name) -> a function that draws by op random_<name> */
static int random_op(lua_State *L) {
  lua_pushfstring(L, "random_%s", luaL_checkstring(L, 1));
  const pl_op *op = pl_op_find(lua_tostring(L, -1));
  if (!op) fail(L, "there are no random numbers called %s", lua_tostring(L, 1));
  lua_pushlightuserdata(L, binding_of(L));
  lua_pushlightuserdata(L, (void *)op);
  lua_pushcclosure(L, draw, 2);
  return 1;
}

/* ---- buffers: mutable arrays, filled in loops, read as tensors ---- */

/* The memory of a buffer, shared by the tensors made of it. */
typedef struct {
  uint64_t version;
  int refs;
} shared;

static void release_shared(void *owner) {
  shared *s = owner;
  if (--s->refs == 0) free(s);
}

static buffer_data *check_buffer(lua_State *L) {
  buffer_data *t = to_buffer(L, 1);
  if (!t) fail(L, "this method needs a buffer");
  return t;
}

static int new_buffer(lua_State *L) {
  binding *b = binding_of(L);
  int64_t shape[PL_MAX_RANK], count = 1;
  pl_dtype dtype = read_options(L, PL_F64);
  if (dtype != PL_F64) fail(L, "buffers are f64; :tensor():to(\"%s\") converts", pl_dtype_name(dtype));
  int rank = read_shape(L, 1, lua_gettop(L), shape, "buffer");
  for (int i = 0; i < rank; i++) {
    if (shape[i] && count > INT32_MAX / shape[i]) fail(L, "buffer: too large");
    count *= shape[i];
  }
  if ((size_t)count * 8 > pl_budget(b->c)) fail(L, "buffer: %lld numbers pass the memory budget", (long long)count);
  size_t bytes = ((size_t)count * 8 + 127) & ~(size_t)63;
  shared *s = aligned_alloc(64, 64 + bytes);
  if (!s) fail(L, "buffer: out of memory");
  memset(s, 0, 64 + bytes);
  s->refs = 1;
  buffer_data *t = lua_newuserdata(L, sizeof *t);
  memset(t, 0, sizeof *t);
  t->magic = PL_BUFFER_MAGIC;
  t->b = b;
  t->data = (double *)((char *)s + 64);
  t->version = &s->version;
  t->rank = rank;
  t->count = count;
  t->dtype = dtype;
  memcpy(t->shape, shape, sizeof shape);
  lua_rawgeti(L, LUA_REGISTRYINDEX, b->buffers);
  lua_setmetatable(L, -2);
  return 1;
}

static int collect_buffer(lua_State *L) {
  buffer_data *t = check_buffer(L);
  if (t->b->c && t->frozen != PL_NONE) pl_release(t->b->c, t->frozen);
  release_shared(t->version);
  t->magic = 0;
  return 0;
}

pl_value freeze_buffer(lua_State *L, binding *b, buffer_data *t) {
  if (t->frozen != PL_NONE) return t->frozen;
  pl_context *c = b->c;
  shared *s = (shared *)t->version;
  s->refs++;
  pl_pause(c); /* the tensor is the buffer's, also inside a recording */
  t->frozen = pl_borrow(c, t->dtype, t->rank, t->shape, t->data, t->version, release_shared, s);
  pl_resume(c);
  if (t->frozen == PL_NONE) fail_engine(L, b);
  return t->frozen;
}

static void written(binding *b, buffer_data *t) {
  if (t->frozen == PL_NONE) return;
  ++*t->version;
  pl_release(b->c, t->frozen);
  t->frozen = PL_NONE;
}

static int buffer_tensor(lua_State *L) {
  binding *b = binding_of(L);
  pl_value v = freeze_buffer(L, b, check_buffer(L));
  pl_retain(b->c, v);
  tensor_data *u = lua_newuserdata(L, sizeof *u);
  u->magic = PL_TENSOR_MAGIC;
  u->handle = v;
  lua_rawgeti(L, LUA_REGISTRYINDEX, b->owning);
  lua_setmetatable(L, -2);
  return 1;
}

static int64_t buffer_offset(lua_State *L, const buffer_data *t, int first, int n) {
  int64_t offset = 0;
  if (n != t->rank) fail(L, "%d indices for a buffer with %d axes", n, t->rank);
  for (int a = 0; a < n; a++) {
    int64_t k = check_integer(L, first + a, "the index"), i = k < 0 ? k + t->shape[a] + 1 : k;
    if (i < 1 || i > t->shape[a])
      fail(L, "index %lld is out of range 1 to %lld on axis %d", (long long)k, (long long)t->shape[a], a + 1);
    offset = offset * t->shape[a] + i - 1;
  }
  return offset;
}

static int buffer_index(lua_State *L) {
  buffer_data *t = check_buffer(L);
  if (lua_type(L, 2) == LUA_TNUMBER) return lua_pushnumber(L, t->data[buffer_offset(L, t, 2, 1)]), 1;
  const char *key = lua_tostring(L, 2);
  if (key && !strcmp(key, "shape")) {
    lua_createtable(L, t->rank, 0);
    for (int i = 0; i < t->rank; i++) {
      lua_pushnumber(L, (double)t->shape[i]);
      lua_rawseti(L, -2, i + 1);
    }
    return 1;
  }
  lua_getmetatable(L, 1);
  lua_pushvalue(L, 2);
  lua_rawget(L, -2);
  if (lua_isnil(L, -1)) fail(L, "a buffer has no field or method '%s'", key ? key : luaL_typename(L, 2));
  return 1;
}
static int buffer_assign(lua_State *L) {
  buffer_data *t = check_buffer(L);
  int64_t k = buffer_offset(L, t, 2, 1);
  if (lua_type(L, 3) != LUA_TNUMBER) fail(L, "a buffer holds numbers, not %s", luaL_typename(L, 3));
  written(binding_of(L), t);
  t->data[k] = lua_tonumber(L, 3);
  return 0;
}
static int buffer_call(lua_State *L) {
  buffer_data *t = check_buffer(L);
  return lua_pushnumber(L, t->data[buffer_offset(L, t, 2, lua_gettop(L) - 1)]), 1;
}
static int buffer_set(lua_State *L) {
  buffer_data *t = check_buffer(L);
  int n = lua_gettop(L);
  int64_t k = buffer_offset(L, t, 2, n - 2);
  if (lua_type(L, n) != LUA_TNUMBER) fail(L, "a buffer holds numbers, not %s", luaL_typename(L, n));
  written(binding_of(L), t);
  t->data[k] = lua_tonumber(L, n);
  return 0;
}
static int buffer_fill(lua_State *L) {
  buffer_data *t = check_buffer(L);
  double x = luaL_checknumber(L, 2);
  written(binding_of(L), t);
  for (int64_t i = 0; i < t->count; i++) t->data[i] = x;
  lua_settop(L, 1);
  return 1;
}
static int buffer_length(lua_State *L) {
  buffer_data *t = check_buffer(L);
  return lua_pushnumber(L, t->rank ? (double)t->shape[0] : 0), 1;
}
static int buffer_pointer(lua_State *L) { /* for ffi.cast("double *", ...): counts as a write */
  buffer_data *t = check_buffer(L);
  written(binding_of(L), t);
  return lua_pushlightuserdata(L, t->data), 1;
}

void open_constructors(lua_State *L, binding *b, int core) {
  static const luaL_Reg functions[] = {{"tensor", tensor},
                                       {"zeros", zeros},
                                       {"ones", ones},
                                       {"full", full},
                                       {"arange", arange},
                                       {"linspace", linspace},
                                       {"eye", eye},
                                       {"from_bytes", from_bytes},
                                       {"random", random_op},
                                       {"buffer", new_buffer},
                                       {"set_default_dtype", set_default_dtype},
                                       {NULL, NULL}};
  register_functions(L, b, core, functions);
  static const luaL_Reg meta[] = {{"__gc", collect_buffer},      {"__index", buffer_index},
                                  {"__newindex", buffer_assign}, {"__call", buffer_call},
                                  {"__len", buffer_length},      {"set", buffer_set},
                                  {"fill", buffer_fill},         {"pointer", buffer_pointer},
                                  {"tensor", buffer_tensor},     {NULL, NULL}};
  b->buffers = new_metatable(L, b, meta);
  /* arithmetic as for the tensor it stands for */
  static const char *const events[] = {"__add", "__sub", "__mul", "__div", "__mod", "__pow", "__unm"};
  lua_rawgeti(L, LUA_REGISTRYINDEX, b->owning);
  for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
    lua_getfield(L, -1, events[i]);
    lua_setfield(L, -3, events[i]);
  }
  lua_pop(L, 2);
}
