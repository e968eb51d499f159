/* binding.c: the op table as Lua functions, tensors as userdata. */
#include "binding.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- where the user is ---- */

static bool is_internal(const char *source) { return !strncmp(source, "@perilune:", 10); }

static int call_function(lua_State *L);

/* Pushes "file:line: " of the nearest Lua frame outside Perilune. A function that ended in a tail call has no frame:
 * then core.call is met first, and its function's lines are named. */
static void push_where(lua_State *L) {
  lua_Debug ar;
  char lost[256] = "";
  lua_getfield(L, LUA_REGISTRYINDEX, "perilune.binding");
  binding *b = lua_touserdata(L, -1);
  lua_pop(L, 1);
  int depth = b ? b->depth : 0;
  for (int level = 0; lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "Slf", &ar);
    lua_CFunction f = lua_tocfunction(L, -1);
    lua_pop(L, 1);
    if (f == call_function && depth > 0) {
      if (!*lost) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, b->functions);
        lua_rawgeti(L, -1, PL_SOURCES + depth);
        lua_Debug of;
        if (lua_isfunction(L, -1)) {
          lua_getinfo(L, ">S", &of);
          if (of.what[0] != 'C' && !is_internal(of.source))
            snprintf(lost, sizeof lost, "(in a tail call of the function at %s:%d-%d) ", of.short_src, of.linedefined,
                     of.lastlinedefined);
        } else {
          lua_pop(L, 1);
        }
        lua_pop(L, 1);
      }
      depth--;
      continue;
    }
    if (ar.currentline <= 0 || is_internal(ar.source)) continue;
    lua_pushfstring(L, "%s:%d: %s", ar.short_src, ar.currentline, lost);
    return;
  }
  lua_pushstring(L, lost);
}

int fail(lua_State *L, const char *format, ...) {
  char text[1024];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  push_where(L);
  lua_pushstring(L, text);
  lua_concat(L, 2);
  lua_error(L);
  __builtin_unreachable();
}

int fail_engine(lua_State *L, binding *b) {
  push_where(L);
  lua_pushstring(L, pl_error_message(b->c));
  b->failed = pl_error_status(b->c);
  snprintf(b->message, sizeof b->message, "%s", pl_error_message(b->c));
  lua_pushstring(L, pl_error_status(b->c) == PL_ERROR_INTERRUPT && pl_suspended(b->c) ? " pl.resume() goes on" : "");
  pl_clear(b->c);
  lua_concat(L, 3);
  lua_error(L);
  __builtin_unreachable();
}

/* The script's line goes with each recorded op: about 15 ns, so the function's file is looked up once, by the address
 * of a function that `functions` keeps alive. */
static void mark_recorded(lua_State *L, binding *b) {
  lua_Debug ar;
  for (int level = 1; lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "fl", &ar);
    const void *f = lua_topointer(L, -1);
    unsigned k = (unsigned)(((uintptr_t)f >> 4) * 0x9e3779b1u) % PL_SOURCES;
    if (b->sources[k].function != f) {
      lua_Debug of;
      lua_pushvalue(L, -1);
      lua_getinfo(L, ">S", &of);
      b->sources[k].function = f;
      b->sources[k].internal = of.what[0] == 'C' || is_internal(of.source);
      b->sources[k].source = b->sources[k].internal ? 0 : pl_source(b->c, of.short_src);
      lua_rawgeti(L, LUA_REGISTRYINDEX, b->functions);
      lua_pushvalue(L, -2);
      lua_rawseti(L, -2, (int)k + 1);
      lua_pop(L, 1);
    }
    lua_pop(L, 1);
    if (b->sources[k].internal) continue;
    pl_set_line(b->c, b->sources[k].source, ar.currentline > 0 ? ar.currentline : 0);
    return;
  }
}

void mark_line(lua_State *L, binding *b) {
  if (pl_recording(b->c)) mark_recorded(L, b);
}

void *check_object(lua_State *L, int i, int metatable, const char *what) {
  void *p = lua_type(L, i) == LUA_TUSERDATA && lua_getmetatable(L, i) ? lua_touserdata(L, i) : NULL;
  if (p) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, metatable);
    if (!lua_rawequal(L, -1, -2)) p = NULL;
    lua_pop(L, 2);
  }
  if (!p) fail(L, "a %s is needed, not %s", what, luaL_typename(L, i));
  return p;
}

/* ---- values ---- */

enum { STEP_BYTES = 16 << 20 };

void step_collector(lua_State *L, binding *b) {
  size_t used = pl_bytes_used(b->c);
  if (used < b->next_step) return;
  if (used > b->soft_limit) {
    lua_gc(L, LUA_GCCOLLECT, 0);
    used = pl_bytes_used(b->c);
    if (used > b->soft_limit / 5 * 4) b->soft_limit = b->soft_limit / 5 * 7;
  } else {
    lua_gc(L, LUA_GCSTEP, 400);
    used = pl_bytes_used(b->c);
  }
  b->next_step = used + STEP_BYTES;
}

int push_handle(lua_State *L, binding *b, pl_value v, bool owning) {
  tensor_data *t = lua_newuserdata(L, sizeof *t);
  t->magic = PL_TENSOR_MAGIC;
  t->handle = v;
  lua_rawgeti(L, LUA_REGISTRYINDEX, owning ? b->owning : b->borrowed);
  lua_setmetatable(L, -2);
  return 1;
}

int push_value(lua_State *L, binding *b, pl_value v) {
  if (v == PL_NONE) fail_engine(L, b);
  bool owning = pl_owns(b->c);
  if (owning) step_collector(L, b);
  return push_handle(L, b, v, owning);
}

static int collect_tensor(lua_State *L) {
  binding *b = binding_of(L);
  tensor_data *t = to_tensor(L, 1);
  if (!t) return 0;
  if (b->c) pl_release(b->c, t->handle);
  t->handle = PL_NONE;
  return 0;
}

/* Keeps a recorded value beyond its recording: the userdata becomes an owner. */
static int promote(lua_State *L) {
  binding *b = binding_of(L);
  tensor_data *t = to_tensor(L, 1);
  if (!t) fail(L, "promote needs a tensor");
  lua_settop(L, 1);
  lua_getmetatable(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, b->borrowed);
  bool borrowed = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  if (borrowed) {
    pl_retain(b->c, t->handle);
    lua_rawgeti(L, LUA_REGISTRYINDEX, b->owning);
    lua_setmetatable(L, 1);
  }
  return 1;
}

static const char *type_name(lua_State *L, int i) { return lua_isnoneornil(L, i) ? "nil" : luaL_typename(L, i); }

int64_t check_integer(lua_State *L, int i, const char *what) {
  if (to_tensor(L, i)) {
    binding *b = binding_of(L);
    lua_pushnumber(L, pl_item(b->c, to_tensor(L, i)->handle));
    if (pl_error_status(b->c)) fail_engine(L, b);
    lua_replace(L, i);
  }
  if (lua_type(L, i) != LUA_TNUMBER) fail(L, "%s must be a whole number, not %s", what, type_name(L, i));
  double x = lua_tonumber(L, i);
  if (x != floor(x) || fabs(x) > 9e15) fail(L, "%s must be a whole number, not %g", what, x);
  return (int64_t)x;
}

int check_list(lua_State *L, int i, int64_t *list, int most, const char *what) {
  if (lua_type(L, i) == LUA_TNUMBER) {
    list[0] = check_integer(L, i, what);
    return 1;
  }
  if (!lua_istable(L, i)) fail(L, "%s must be a number or a list of numbers, not %s", what, type_name(L, i));
  int n = (int)lua_objlen(L, i);
  if (n > most) fail(L, "%s has %d entries; at most %d are possible", what, n, most);
  for (int k = 0; k < n; k++) {
    lua_rawgeti(L, i, k + 1);
    list[k] = check_integer(L, lua_gettop(L), what);
    lua_pop(L, 1);
  }
  return n;
}

pl_dtype check_dtype(lua_State *L, int i) {
  const char *name = lua_tostring(L, i);
  for (int d = 0; name && d < PL_DTYPES; d++)
    if (!strcmp(name, pl_dtype_name((pl_dtype)d))) return (pl_dtype)d;
  fail(L, "there is no dtype %s: it is \"f64\", \"f32\", \"i64\" or \"bool\"", name ? name : type_name(L, i));
}

pl_value check_value(lua_State *L, binding *b, int i, int like, const char *what) {
  tensor_data *t = to_tensor(L, i);
  if (t) return t->handle;
  switch (lua_type(L, i)) {
    case LUA_TNUMBER: {
      double x = lua_tonumber(L, i);
      pl_dtype dtype = like == PL_F32 ? PL_F32 : like == PL_I64 && x == floor(x) && fabs(x) < 9e15 ? PL_I64 : PL_F64;
      pl_value v = pl_number(b->c, dtype, x);
      if (v == PL_NONE) fail_engine(L, b);
      return v;
    }
    case LUA_TBOOLEAN: {
      pl_value v = pl_number(b->c, PL_BOOL, lua_toboolean(L, i));
      if (v == PL_NONE) fail_engine(L, b);
      return v;
    }
    case LUA_TTABLE:
      if (!luaL_getmetafield(L, i, "__index")) {
        pl_value v = tensor_from_table(L, b, i, like == PL_F32 ? PL_F32 : -1);
        lua_replace(L, i);
        return v;
      }
      lua_pop(L, 1);
      break;
    case LUA_TUSERDATA: {
      buffer_data *t2 = to_buffer(L, i);
      if (t2) {
        pl_value v = freeze_buffer(L, b, t2);
        push_handle(L, b, v, false); /* the buffer holds it */
        lua_replace(L, i);
        return v;
      }
    }
  }
  if (lua_isnoneornil(L, i)) fail(L, "%s: argument %d is nil; a tensor or a number is needed", what, i);
  fail(L, "%s: argument %d is a %s; a tensor or a number is needed", what, i,
       lua_istable(L, i) && luaL_callmeta(L, i, "__name") ? lua_tostring(L, -1) : luaL_typename(L, i));
}

pl_value check_tensor(lua_State *L, binding *b, int i, const char *what) {
  tensor_data *t = to_tensor(L, i);
  if (t) return t->handle;
  if (to_buffer(L, i)) return check_value(L, b, i, -1, what);
  fail(L, "%s needs a tensor, not %s", what, type_name(L, i));
}

/* ---- ops ---- */

bool run_op(lua_State *L, binding *b, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs, pl_value *out) {
  if (pl_apply(b->c, op, n, in, attrs, out)) return true;
  if (pl_error_status(b->c) != PL_ERROR_MEMORY) return false;
  pl_clear(b->c);
  lua_gc(L, LUA_GCCOLLECT, 0);
  return pl_apply(b->c, op, n, in, attrs, out);
}

static const char *event_name(const char *op) {
  static const char *const events[][2] = {{"add", "__add"}, {"sub", "__sub"}, {"mul", "__mul"}, {"div", "__div"},
                                          {"mod", "__mod"}, {"pow", "__pow"}, {"neg", "__unm"}};
  for (size_t i = 0; i < sizeof events / sizeof *events; i++)
    if (!strcmp(events[i][0], op)) return events[i][1];
  return "";
}

typedef struct {
  binding *b;
  const pl_op *op;
  int inputs;
} operator_data;

/* The operators of tensors. A table operand's own metamethod wins. */
static int arithmetic(lua_State *L) {
  const operator_data *o = lua_touserdata(L, lua_upvalueindex(1));
  binding *b = o->b;
  b->L = L;
  const pl_op *op = o->op;
  tensor_data *t[2] = {to_tensor(L, 1), to_tensor(L, 2)};
  pl_value in[2], out;
  if (t[0] && t[1] && o->inputs == 2) {
    in[0] = t[0]->handle;
    in[1] = t[1]->handle;
    bool recorded = pl_recording(b->c);
    if (recorded) mark_recorded(L, b);
    if (!run_op(L, b, op, 2, in, NULL, &out)) fail_engine(L, b);
    return recorded ? push_handle(L, b, out, false) : push_value(L, b, out);
  }
  int n = o->inputs;
  lua_settop(L, n);
  if (n == 1) t[1] = NULL;
  for (int i = 0; i < n; i++) {
    if (t[i]) {
      in[i] = t[i]->handle;
      continue;
    }
    if (lua_istable(L, i + 1)) {
      const char *event = event_name(pl_op_name(op));
      if (luaL_getmetafield(L, i + 1, event)) {
        lua_pushvalue(L, 1);
        lua_pushvalue(L, 2);
        lua_call(L, 2, 1);
        return 1;
      }
    }
    pl_value other = t[1 - i] ? t[1 - i]->handle : PL_NONE;
    int like = pl_dtype_of(b->c, other);
    if (i == 1 && lua_type(L, 2) == LUA_TNUMBER && lua_tonumber(L, 2) == 2 && !strcmp(pl_op_name(op), "pow")) {
      op = pl_op_find("square"); /* x^2: exact, for integers too */
      n = 1;
      break;
    }
    in[i] = check_value(L, b, i + 1, like, pl_op_name(op));
  }
  mark_line(L, b);
  if (!run_op(L, b, op, n, in, NULL, &out)) fail_engine(L, b);
  return push_value(L, b, out);
}

static void unknown_option(lua_State *L, const pl_op *op, const char *key) {
  char valid[256] = "";
  for (const pl_attr_spec *s = pl_op_attrs(op); s->name; s++) {
    strcat(valid, *valid ? ", " : "");
    strcat(valid, s->name);
  }
  fail(L, "%s has no option '%s'; it has %s", pl_op_name(op), key, *valid ? valid : "none");
}

/* Reads one attribute from the stack index i, which holds a value; returns how many arguments it took. */
static int read_attr(lua_State *L, const pl_op *op, const pl_attr_spec *spec, int i, int top, pl_attr *attr,
                     int64_t *list) {
  char what[96];
  snprintf(what, sizeof what, "%s: %s", pl_op_name(op), spec->name);
  int taken = 1;
  switch (spec->kind) {
    case PL_AS_REAL:
      if (to_tensor(L, i)) {
        binding *b = binding_of(L);
        *attr = PL_REALV(pl_item(b->c, to_tensor(L, i)->handle));
        if (pl_error_status(b->c)) fail_engine(L, b);
        break;
      }
      if (lua_type(L, i) == LUA_TSTRING && !strcmp(lua_tostring(L, i), "max")) {
        *attr = PL_REALV(INFINITY); /* norm(x, {order = "max"}) */
        break;
      }
      if (lua_type(L, i) != LUA_TNUMBER) fail(L, "%s must be a number, not %s", what, type_name(L, i));
      *attr = PL_REALV(lua_tonumber(L, i));
      break;
    case PL_AS_FLAG:
      if (!lua_isboolean(L, i)) fail(L, "%s must be true or false, not %s", what, type_name(L, i));
      *attr = PL_INT(lua_toboolean(L, i));
      break;
    case PL_AS_DTYPE: *attr = PL_INT(check_dtype(L, i)); break;
    case PL_AS_INT: *attr = PL_INT(check_integer(L, i, what)); break;
    case PL_AS_AXIS: {
      int64_t axis = check_integer(L, i, what);
      if (axis == 0) fail(L, "%s: axes count from 1 (or from the end: -1)", what);
      *attr = PL_INT(axis > 0 ? axis - 1 : axis);
      break;
    }
    case PL_AS_AXES: {
      int n = check_list(L, i, list, PL_MAX_RANK, what);
      for (int k = 0; k < n; k++) {
        if (list[k] == 0) fail(L, "%s: axes count from 1 (or from the end: -1)", what);
        if (list[k] > 0) list[k]--;
      }
      *attr = PL_INTS(n, list);
      break;
    }
    case PL_AS_SHAPE:
      if (lua_type(L, i) == LUA_TNUMBER) {
        taken = 0;
        while (i + taken <= top && lua_type(L, i + taken) == LUA_TNUMBER && taken < PL_MAX_RANK) {
          list[taken] = check_integer(L, i + taken, what);
          taken++;
        }
        *attr = PL_INTS(taken, list);
        break;
      } /* fall through */
    case PL_AS_INTS: *attr = PL_INTS(check_list(L, i, list, PL_LIST, what), list); break;
    default: fail(L, "%s cannot be given here", what);
  }
  return taken;
}

/* What an attribute is when it is not given. */
static pl_attr standard_of(const pl_attr_spec *spec) {
  if (spec->kind == PL_AS_REAL) return PL_REALV(spec->standard);
  if (spec->kind == PL_AS_AXES || spec->kind == PL_AS_INTS) return PL_INTS(-1, NULL);
  return PL_INT((int64_t)spec->standard);
}

static bool has_string_key(lua_State *L, int i) {
  for (lua_pushnil(L); lua_next(L, i); lua_pop(L, 1))
    if (lua_type(L, -2) == LUA_TSTRING) {
      lua_pop(L, 2);
      return true;
    }
  return false;
}

/* Any op of the table: tensors, then attributes by position, or by name in a last table. */
static int call_op(lua_State *L) {
  binding *b = binding_of(L);
  const pl_op *op = lua_touserdata(L, lua_upvalueindex(2));
  const char *name = pl_op_name(op);
  int n = pl_op_inputs(op), top = lua_gettop(L), next;
  pl_value small[4], *in = small, out[PL_MAX_OUTPUTS];
  const pl_attr_spec *specs = pl_op_attrs(op);
  tensor_data *x = n == 1 && top == 1 && !specs[0].name && pl_op_outputs(op) == 1 ? to_tensor(L, 1) : NULL;
  if (x) { /* exp(x) and its like */
    mark_line(L, b);
    if (!run_op(L, b, op, 1, &x->handle, NULL, out)) fail_engine(L, b);
    return push_value(L, b, out[0]);
  }
  if (n < 0) {
    if (!lua_istable(L, 1)) fail(L, "%s needs a list of tensors, not %s", name, type_name(L, 1));
    n = (int)lua_objlen(L, 1);
    if (n < 1 || n > PL_MAX_INPUTS)
      fail(L, "%s: the list has %d tensors; 1 to %d are possible", name, n, PL_MAX_INPUTS);
    in = lua_newuserdata(L, (size_t)n * sizeof *in);
    luaL_checkstack(L, n + 8, "too many tensors");
    int like = -1;
    for (int i = 0; i < n; i++) {
      lua_rawgeti(L, 1, i + 1);
      if (like < 0 && to_tensor(L, -1)) like = pl_dtype_of(b->c, to_tensor(L, -1)->handle);
    }
    for (int i = 0; i < n; i++) in[i] = check_value(L, b, top + 2 + i, like, name);
    next = 2;
  } else {
    if (top < n) {
      lua_settop(L, n);
      top = n;
    }
    int like = -1;
    for (int i = 1; i <= n; i++)
      if (to_tensor(L, i)) {
        int d = pl_dtype_of(b->c, to_tensor(L, i)->handle);
        if (d >= 0 && d != PL_BOOL && (like < 0 || d == PL_F32)) like = d;
      }
    for (int i = 0; i < n; i++) in[i] = check_value(L, b, i + 1, like, name);
    next = n + 1;
  }

  pl_attr attrs[PL_MAX_ATTRS];
  int64_t lists[PL_MAX_ATTRS][PL_LIST];
  for (int k = 0; specs[k].name; k++) {
    const pl_attr_spec *s = &specs[k];
    if (next <= top && lua_istable(L, next) && has_string_key(L, next)) {
      for (lua_pushnil(L); lua_next(L, next); lua_pop(L, 1)) {
        bool known = false;
        for (int j = 0; specs[j].name; j++)
          known = known || (lua_type(L, -2) == LUA_TSTRING && !strcmp(specs[j].name, lua_tostring(L, -2)));
        if (!known) unknown_option(L, op, lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "(a list entry)");
      }
      for (; specs[k].name; k++) {
        lua_getfield(L, next, specs[k].name);
        if (lua_isnil(L, -1)) {
          if (specs[k].required) fail(L, "%s: %s is missing", name, specs[k].name);
          attrs[k] = standard_of(&specs[k]);
        } else {
          read_attr(L, op, &specs[k], lua_gettop(L), lua_gettop(L), &attrs[k], lists[k]);
        }
        lua_pop(L, 1);
      }
      next++;
      break;
    }
    if (next <= top && !lua_isnil(L, next)) {
      next += read_attr(L, op, s, next, top, &attrs[k], lists[k]);
      continue;
    }
    if (next <= top) next++;
    if (s->required) fail(L, "%s: %s is missing", name, s->name);
    attrs[k] = standard_of(s);
  }
  if (next <= top && !specs[0].name && lua_istable(L, next) && has_string_key(L, next)) {
    lua_pushnil(L);
    lua_next(L, next);
    unknown_option(L, op, lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?");
  }
  if (next <= top) fail(L, "%s: too many arguments: %d instead of %d", name, top, next - 1);
  mark_line(L, b);
  if (!run_op(L, b, op, n, in, specs[0].name ? attrs : NULL, out)) fail_engine(L, b);
  for (int i = 0; i < pl_op_outputs(op); i++) push_value(L, b, out[i]);
  return pl_op_outputs(op);
}

/* ---- methods ---- */

static pl_value self(lua_State *L, binding *b, pl_info *info) {
  pl_value v = check_tensor(L, b, 1, "this method");
  if (!pl_describe(b->c, v, info)) fail_engine(L, b);
  return v;
}

static int push_shape(lua_State *L, const pl_info *info) {
  lua_createtable(L, info->rank, 0);
  for (int i = 0; i < info->rank; i++) {
    lua_pushnumber(L, (double)info->shape[i]);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

static int tensor_size(lua_State *L) {
  pl_info info;
  self(L, binding_of(L), &info);
  for (int i = 0; i < info.rank; i++) lua_pushnumber(L, (double)info.shape[i]);
  return info.rank;
}

static int tensor_length(lua_State *L) {
  pl_info info;
  self(L, binding_of(L), &info);
  if (info.rank == 0) fail(L, "a 0-d tensor has no length; :item() gives its number");
  lua_pushnumber(L, (double)info.shape[0]);
  return 1;
}

static void push_element(lua_State *L, pl_dtype dtype, const void *p, int64_t i) {
  switch (dtype) {
    case PL_F64: lua_pushnumber(L, ((const double *)p)[i]); break;
    case PL_F32: lua_pushnumber(L, ((const float *)p)[i]); break;
    case PL_I64: lua_pushnumber(L, (double)((const int64_t *)p)[i]); break;
    default: lua_pushboolean(L, ((const uint8_t *)p)[i]);
  }
}

/* t:item() the only number; t:item(i, j) the one there */
static int tensor_item(lua_State *L) {
  binding *b = binding_of(L);
  pl_info info;
  pl_value v = self(L, b, &info);
  const void *p = pl_data(b->c, v);
  if (!p) fail_engine(L, b);
  int n = lua_gettop(L) - 1;
  int64_t offset = 0;
  if (n == 0 && info.count != 1) {
    pl_item(b->c, v);
    fail_engine(L, b);
  }
  if (n > 0) {
    if (n != info.rank) fail(L, "item: %d indices for a tensor with %d axes", n, info.rank);
    for (int a = 0; a < n; a++) {
      int64_t i = check_integer(L, a + 2, "item: the index"), m = info.shape[a];
      if (i < 0) i += m + 1;
      if (i < 1 || i > m)
        fail(L, "item: index %lld is out of range 1 to %lld on axis %d", (long long)check_integer(L, a + 2, ""),
             (long long)m, a + 1);
      offset = offset * m + i - 1;
    }
  }
  push_element(L, info.dtype, p, offset);
  return 1;
}

static void push_nested(lua_State *L, const pl_info *info, const void *p, int axis, int64_t *offset) {
  if (axis == info->rank) {
    push_element(L, info->dtype, p, (*offset)++);
    return;
  }
  luaL_checkstack(L, 3, "nested");
  lua_createtable(L, (int)info->shape[axis], 0);
  for (int i = 0; i < info->shape[axis]; i++) {
    push_nested(L, info, p, axis + 1, offset);
    lua_rawseti(L, -2, i + 1);
  }
}

static int tensor_totable(lua_State *L) {
  binding *b = binding_of(L);
  pl_info info;
  const void *p = pl_data(b->c, self(L, b, &info));
  if (!p) fail_engine(L, b);
  int64_t offset = 0;
  push_nested(L, &info, p, 0, &offset);
  return 1;
}

static int tensor_bytes(lua_State *L) {
  binding *b = binding_of(L);
  pl_info info;
  const void *p = pl_data(b->c, self(L, b, &info));
  if (!p) fail_engine(L, b);
  lua_pushlstring(L, p, (size_t)info.count * pl_dtype_size(info.dtype));
  return 1;
}

static int tensor_detach(lua_State *L) {
  binding *b = binding_of(L);
  pl_value v = pl_detach(b->c, check_tensor(L, b, 1, "detach"));
  if (v == PL_NONE) fail_engine(L, b);
  return push_handle(L, b, v, true);
}

static int tensor_to(lua_State *L) {
  binding *b = binding_of(L);
  pl_value v = check_tensor(L, b, 1, "to"), out;
  pl_attr attr = PL_INT(check_dtype(L, 2));
  mark_line(L, b);
  if (!run_op(L, b, pl_op_find("cast"), 1, &v, &attr, &out)) fail_engine(L, b);
  return push_value(L, b, out);
}

/* x:expand(n, m): new trailing axes along which x repeats */
static int tensor_expand(lua_State *L) {
  binding *b = binding_of(L);
  pl_info info;
  pl_value v = self(L, b, &info), out;
  int extra = lua_gettop(L) - 1;
  if (info.rank + extra > PL_MAX_RANK) fail(L, "expand: %d axes are too many; 8 are possible", info.rank + extra);
  int64_t shape[PL_MAX_RANK], ones[PL_MAX_RANK];
  for (int a = 0; a < info.rank + extra; a++) {
    shape[a] = a < info.rank ? info.shape[a] : check_integer(L, a - info.rank + 2, "expand: a size");
    ones[a] = a < info.rank ? shape[a] : 1;
  }
  pl_attr as_ones = PL_INTS(info.rank + extra, ones), as_shape = PL_INTS(info.rank + extra, shape);
  mark_line(L, b);
  if (!run_op(L, b, pl_op_find("reshape"), 1, &v, &as_ones, &out)) fail_engine(L, b);
  push_value(L, b, out);
  v = out;
  if (!run_op(L, b, pl_op_find("broadcast_to"), 1, &v, &as_shape, &out)) fail_engine(L, b);
  return push_value(L, b, out);
}

static int tensor_text(lua_State *L) {
  binding *b = binding_of(L);
  lua_rawgeti(L, LUA_REGISTRYINDEX, b->printer);
  lua_pushvalue(L, 1);
  lua_call(L, 1, 1);
  return 1;
}

static int tensor_compare(lua_State *L) {
  fail(L, "Lua compares only to true or false: use x:lt(y), le, gt, ge for a mask, or x:item() < y in an if");
}

static int tensor_assign(lua_State *L) {
  binding *b = binding_of(L);
  if (lua_type(L, 2) == LUA_TNUMBER)
    fail(L, "tensors do not change: t:at(%g):set(v) gives a new one; pl.buffer makes an array to be filled in a loop",
         lua_tonumber(L, 2));
  (void)b;
  fail(L, "tensors do not change: t:at(...):set(v) gives a new one; pl.buffer makes an array to be filled in a loop");
}

static bool is_slice_text(const char *s) {
  bool colon = false;
  for (; *s; s++) {
    if (*s == ':') colon = true;
    else if (!(*s == '-' || *s == '+' || *s == ' ' || (*s >= '0' && *s <= '9'))) return false;
  }
  return colon;
}

/* t.field, t:method, t[subscript] */
static int tensor_index(lua_State *L) {
  binding *b = binding_of(L);
  tensor_data *t = to_tensor(L, 1);
  if (!t) fail(L, "a tensor is needed, not %s", type_name(L, 1));
  if (lua_type(L, 2) == LUA_TSTRING) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, b->methods);
    lua_pushvalue(L, 2);
    lua_rawget(L, -2);
    if (!lua_isnil(L, -1)) return 1;
    const char *key = lua_tostring(L, 2);
    pl_info info;
    if (!pl_describe(b->c, t->handle, &info)) fail_engine(L, b);
    if (!strcmp(key, "shape")) return push_shape(L, &info);
    if (!strcmp(key, "dtype")) return lua_pushstring(L, pl_dtype_name(info.dtype)), 1;
    if (!strcmp(key, "rank")) return lua_pushnumber(L, info.rank), 1;
    if (!strcmp(key, "count")) return lua_pushnumber(L, (double)info.count), 1;
    if (!strcmp(key, "T")) {
      int64_t order[PL_MAX_RANK];
      for (int i = 0; i < info.rank; i++) order[i] = i;
      if (info.rank > 1) {
        order[info.rank - 1] = info.rank - 2;
        order[info.rank - 2] = info.rank - 1;
      }
      pl_attr attr = PL_INTS(info.rank, order);
      pl_value out;
      mark_line(L, b);
      if (!run_op(L, b, pl_op_find("transpose"), 1, &t->handle, &attr, &out)) fail_engine(L, b);
      return push_value(L, b, out);
    }
    if (!is_slice_text(key) && !strchr(key, ':')) fail(L, "a tensor has no field or method '%s'", key);
  }
  lua_settop(L, 2);
  mark_line(L, b);
  return push_value(L, b, subscript(L, b, t->handle, 2, 1));
}

static int tensor_call(lua_State *L) {
  binding *b = binding_of(L);
  pl_value t = check_tensor(L, b, 1, "a subscript");
  mark_line(L, b);
  return push_value(L, b, subscript(L, b, t, 2, lua_gettop(L) - 1));
}

/* ---- calling the user ---- */

/* core.call(f, ...) -> true, results ... | false, error. Errors below it know f when a tail call hid its frame. */
static int call_function(lua_State *L) {
  binding *b = binding_of(L);
  luaL_checkany(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, b->functions);
  lua_pushvalue(L, 1);
  lua_rawseti(L, -2, PL_SOURCES + ++b->depth);
  lua_pop(L, 1);
  int depth = b->depth;
  int status = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
  b->depth = depth - 1;
  lua_pushboolean(L, status == 0);
  lua_insert(L, 1);
  return lua_gettop(L);
}

static int is_tensor(lua_State *L) { return lua_pushboolean(L, to_tensor(L, 1) != NULL), 1; }
static int is_buffer(lua_State *L) { return lua_pushboolean(L, to_buffer(L, 1) != NULL), 1; }
static int handle_of(lua_State *L) { /* a number that is the same for the same value: for trees */
  tensor_data *t = to_tensor(L, 1);
  return lua_pushnumber(L, t ? (double)(t->handle & 0xfffffffffffffu) : 0), 1;
}

static int set_printer(lua_State *L) {
  binding *b = binding_of(L);
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  lua_rawseti(L, LUA_REGISTRYINDEX, b->printer);
  return 0;
}

static int raise(lua_State *L) { /* core.fail(message): an error at the user's line */
  fail(L, "%s", luaL_checkstring(L, 1));
}

static int memory(lua_State *L) {
  binding *b = binding_of(L);
  lua_createtable(L, 0, 4);
  lua_pushnumber(L, (double)pl_bytes_used(b->c)), lua_setfield(L, -2, "used");
  lua_pushnumber(L, (double)pl_bytes_peak(b->c)), lua_setfield(L, -2, "peak");
  lua_pushnumber(L, (double)pl_budget(b->c)), lua_setfield(L, -2, "budget");
  lua_pushnumber(L, (double)pl_live_values(b->c)), lua_setfield(L, -2, "live");
  return 1;
}
static int set_budget(lua_State *L) {
  double bytes = luaL_checknumber(L, 1);
  pl_set_budget(binding_of(L)->c, bytes > 0 ? (size_t)bytes : 0);
  return 0;
}
static int threads(lua_State *L) {
  binding *b = binding_of(L);
  if (!lua_isnoneornil(L, 1)) pl_set_threads(b->c, (int)check_integer(L, 1, "threads"));
  return lua_pushnumber(L, pl_threads(b->c)), 1;
}
static int fft_backend(lua_State *L) {
  binding *b = binding_of(L);
  if (!pl_fft_backend(b->c, luaL_checkstring(L, 1))) fail_engine(L, b);
  return 0;
}

/* core.op_help(name) -> {formula, shapes, derivative, accuracy, source, attributes}; core.ops() -> names */
static int op_help(lua_State *L) {
  const pl_op *op = pl_op_find(luaL_checkstring(L, 1));
  if (!op || pl_op_internal(op)) return 0;
  const pl_op_doc doc = pl_op_help(op);
  lua_createtable(L, 0, 6);
  lua_pushstring(L, doc.formula), lua_setfield(L, -2, "formula");
  lua_pushstring(L, doc.shapes), lua_setfield(L, -2, "shapes"); /* of NULL: nil */
  lua_pushstring(L, doc.derivative), lua_setfield(L, -2, "derivative");
  lua_pushstring(L, doc.accuracy), lua_setfield(L, -2, "accuracy");
  lua_pushstring(L, doc.source), lua_setfield(L, -2, "source");
  lua_newtable(L);
  for (int i = 0; pl_op_attrs(op)[i].name; i++) {
    lua_pushstring(L, pl_op_attrs(op)[i].name);
    lua_rawseti(L, -2, i + 1);
  }
  lua_setfield(L, -2, "attributes");
  return 1;
}
static int op_names(lua_State *L) {
  lua_newtable(L);
  int n = 0;
  for (int i = 0; pl_op_at(i); i++) {
    if (pl_op_internal(pl_op_at(i))) continue;
    lua_pushstring(L, pl_op_name(pl_op_at(i)));
    lua_rawseti(L, -2, ++n);
  }
  return 1;
}

/* core.is_failed_solve(message): is it that of the last error, and was that numeric (a singular matrix, a solve that
 * did not converge)? */
static int is_failed_solve(lua_State *L) {
  binding *b = binding_of(L);
  const char *message = lua_tostring(L, 1);
  lua_pushboolean(L, message && b->failed == PL_ERROR_NUMERIC && strstr(message, b->message));
  return 1;
}

/* ---- opening ---- */

void register_functions(lua_State *L, binding *b, int table, const luaL_Reg *functions) {
  for (; functions->name; functions++) {
    lua_pushlightuserdata(L, b);
    lua_pushcclosure(L, functions->func, 1);
    lua_setfield(L, table, functions->name);
  }
}

int new_metatable(lua_State *L, binding *b, const luaL_Reg *functions) {
  lua_newtable(L);
  register_functions(L, b, lua_gettop(L), functions);
  lua_pushvalue(L, -1);
  return luaL_ref(L, LUA_REGISTRYINDEX);
}

static int collect_binding(lua_State *L) {
  binding *b = lua_touserdata(L, 1);
  pl_context_free(b->c);
  b->c = NULL; /* tensors that are finalized later see it */
  return 0;
}

pl_context *perilune_context(lua_State *L) {
  lua_getfield(L, LUA_REGISTRYINDEX, "perilune.binding");
  binding *b = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return b ? b->c : NULL;
}

extern const struct pl_lua_module {
  const char *name;
  const char *source;
  size_t length;
} pl_lua_modules[];

static int load_module(lua_State *L) {
  const struct pl_lua_module *m = lua_touserdata(L, lua_upvalueindex(2));
  char chunk[128];
  snprintf(chunk, sizeof chunk, "@perilune:%s", m->name);
  if (luaL_loadbuffer(L, m->source, m->length, chunk)) return lua_error(L);
  lua_pushstring(L, m->name);
  lua_call(L, 1, 1);
  return 1;
}

/* core.module_text(name) -> the source of a module of the language, or nil */
static int module_text(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  for (const struct pl_lua_module *m = pl_lua_modules; m->name; m++)
    if (!strcmp(m->name, name)) return lua_pushlstring(L, m->source, m->length), 1;
  return 0;
}

void push_op_function(lua_State *L, binding *b, const pl_op *op) {
  lua_pushlightuserdata(L, b);
  lua_pushlightuserdata(L, (void *)op);
  lua_pushcclosure(L, call_op, 2);
}

static void open_tensors(lua_State *L, binding *b, int core) {
  static const luaL_Reg meta[] = {
      {"__index", tensor_index},   {"__call", tensor_call},  {"__len", tensor_length}, {"__newindex", tensor_assign},
      {"__tostring", tensor_text}, {"__lt", tensor_compare}, {"__le", tensor_compare}, {NULL, NULL}};
  static const char *const operators[] = {"add", "sub", "mul", "div", "mod", "pow", "neg"};
  for (int owning = 0; owning < 2; owning++) {
    int ref = new_metatable(L, b, meta);
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
      operator_data *o = lua_newuserdata(L, sizeof *o);
      *o = (operator_data){b, pl_op_find(operators[i]), pl_op_inputs(pl_op_find(operators[i]))};
      lua_pushcclosure(L, arithmetic, 1);
      lua_setfield(L, -2, event_name(operators[i]));
    }
    lua_pushliteral(L, "tensor");
    lua_setfield(L, -2, "__name");
    if (owning) {
      lua_pushlightuserdata(L, b);
      lua_pushcclosure(L, collect_tensor, 1);
      lua_setfield(L, -2, "__gc");
    }
    lua_pop(L, 1);
    *(owning ? &b->owning : &b->borrowed) = ref;
  }
  static const luaL_Reg methods[] = {{"size", tensor_size},     {"item", tensor_item},     {"totable", tensor_totable},
                                     {"bytes", tensor_bytes},   {"detach", tensor_detach}, {"to", tensor_to},
                                     {"expand", tensor_expand}, {"promote", promote},      {NULL, NULL}};
  b->methods = new_metatable(L, b, methods);
  int table = lua_gettop(L);
  for (int i = 0; pl_op_at(i); i++) {
    const pl_op *op = pl_op_at(i);
    if (pl_op_internal(op)) continue;
    push_op_function(L, b, op);
    lua_pushvalue(L, -1);
    lua_setfield(L, core, pl_op_name(op));
    if (pl_op_inputs(op) > 0) lua_setfield(L, table, pl_op_name(op));
    else lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

__attribute__((visibility("default"))) int luaopen_perilune(lua_State *L) {
  lua_getfield(L, LUA_REGISTRYINDEX, "perilune.binding");
  bool again = !lua_isnil(L, -1);
  lua_pop(L, 1);
  if (!again) {
    binding *b = lua_newuserdata(L, sizeof *b);
    memset(b, 0, sizeof *b);
    b->c = pl_context_new();
    if (!b->c) return luaL_error(L, "perilune: out of memory");
    b->soft_limit = (size_t)300 << 20;
    b->next_step = STEP_BYTES;
    lua_newtable(L);
    lua_pushcfunction(L, collect_binding);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_setfield(L, LUA_REGISTRYINDEX, "perilune.binding");
    lua_newtable(L);
    b->functions = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushboolean(L, 0);
    b->printer = luaL_ref(L, LUA_REGISTRYINDEX);

    lua_newtable(L);
    int core = lua_gettop(L);
    static const luaL_Reg functions[] = {{"call", call_function},
                                         {"is_tensor", is_tensor},
                                         {"is_buffer", is_buffer},
                                         {"handle", handle_of},
                                         {"set_printer", set_printer},
                                         {"fail", raise},
                                         {"memory", memory},
                                         {"set_budget", set_budget},
                                         {"threads", threads},
                                         {"fft_backend", fft_backend},
                                         {"op_help", op_help},
                                         {"ops", op_names},
                                         {"is_failed_solve", is_failed_solve},
                                         {"module_text", module_text},
                                         {NULL, NULL}};
    register_functions(L, b, core, functions);
    open_tensors(L, b, core);
    open_subscripts(L, b, core);
    open_constructors(L, b, core);
    open_derivatives(L, b, core);
    open_programs(L, b, core);
    open_sparse(L, b, core);
    open_optimizer(L, b, core);
    open_jacobians(L, b, core);
    open_user_ops(L, b, core);
    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    lua_pushvalue(L, core);
    lua_setfield(L, -2, "perilune.core");
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "preload");
    for (const struct pl_lua_module *m = pl_lua_modules; m->name; m++) {
      lua_pushlightuserdata(L, b);
      lua_pushlightuserdata(L, (void *)m);
      lua_pushcclosure(L, load_module, 2);
      lua_setfield(L, -2, strcmp(m->name, "perilune") ? m->name : "perilune.init");
    }
    lua_settop(L, core - 1);
  }
  lua_getglobal(L, "require");
  lua_pushliteral(L, "perilune.init");
  lua_call(L, 1, 1);
  return 1;
}
