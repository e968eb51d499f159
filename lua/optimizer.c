/* optimizer.c: the optimizers for the language: ask gives a list of tensors like the parameters, tell takes the value
 * and a list of gradients. */
#include "binding.h"

#include <string.h>

#include "optimize/optimizer.h"

typedef struct {
  binding *b;
  pl_optimizer *o;
  int n;
  int64_t total;
  pl_info info[1]; /* n of them */
} optimizer_data;

static optimizer_data *check_optimizer(lua_State *L) {
  optimizer_data *o = check_object(L, 1, binding_of(L)->optimizers, "optimizer");
  if (!o->o) fail(L, "this optimizer has ended");
  return o;
}

static void read_numbers(lua_State *L, binding *b, pl_value v, const pl_info *info, double *to) {
  pl_info own;
  if (!pl_describe(b->c, v, &own)) fail_engine(L, b);
  if (own.count != info->count && own.count != 1)
    fail(L, "a parameter has %lld elements, what belongs to it %lld", (long long)info->count, (long long)own.count);
  const void *p = pl_data(b->c, v);
  if (!p) fail_engine(L, b);
  for (int64_t i = 0; i < info->count; i++) {
    int64_t k = own.count == 1 ? 0 : i;
    to[i] = own.dtype == PL_F64   ? ((const double *)p)[k]
            : own.dtype == PL_F32 ? (double)((const float *)p)[k]
            : own.dtype == PL_I64 ? (double)((const int64_t *)p)[k]
                                  : ((const uint8_t *)p)[k];
  }
}

static double *read_list(lua_State *L, optimizer_data *o, int i, double missing) {
  luaL_checktype(L, i, LUA_TTABLE);
  double *to = lua_newuserdata(L, (size_t)(o->total + 1) * sizeof *to), *p = to;
  for (int k = 0; k < o->n; k++) {
    lua_rawgeti(L, i, k + 1);
    if (lua_toboolean(L, -1))
      read_numbers(L, o->b, check_value(L, o->b, lua_gettop(L), -1, "the optimizer"), &o->info[k], p);
    else
      for (int64_t j = 0; j < o->info[k].count; j++) p[j] = missing;
    p += o->info[k].count;
    lua_pop(L, 1);
  }
  return to;
}

static int push_vector(lua_State *L, optimizer_data *o, const double *x) {
  binding *b = o->b;
  lua_createtable(L, o->n, 0);
  for (int k = 0; k < o->n; k++) {
    const pl_info *info = &o->info[k];
    pl_value v = pl_tensor(b->c, PL_F64, info->rank, info->shape, x);
    if (v != PL_NONE && info->dtype == PL_F32) {
      pl_value wide = v;
      v = pl_apply1(b->c, pl_op_find("cast"), 1, &wide, &PL_INT(PL_F32));
      if (pl_owns(b->c)) pl_release(b->c, wide);
    }
    push_value(L, b, v);
    lua_rawseti(L, -2, k + 1);
    x += info->count;
  }
  return 1;
}

/* The settings in the table at index i, ended by a NULL name; on the stack. */
static const pl_setting *read_settings(lua_State *L, int i) {
  int n = 0;
  for (lua_pushnil(L); lua_next(L, i); lua_pop(L, 1)) n++;
  pl_setting *list = lua_newuserdata(L, ((size_t)n + 1) * sizeof *list);
  n = 0;
  for (lua_pushnil(L); lua_next(L, i); lua_pop(L, 1)) {
    if (lua_type(L, -2) != LUA_TSTRING) fail(L, "settings have names");
    if (lua_type(L, -1) != LUA_TNUMBER)
      fail(L, "the option %s is a number, not %s", lua_tostring(L, -2), luaL_typename(L, -1));
    list[n++] = (pl_setting){lua_tostring(L, -2), lua_tonumber(L, -1)};
  }
  list[n].name = NULL;
  return list;
}

/* core.optimizer(method, x, lower, upper, settings): lists of tensors; bounds may be false, or numbers */
static int new_optimizer(lua_State *L) {
  binding *b = binding_of(L);
  const char *method = luaL_checkstring(L, 1);
  lua_settop(L, 5);
  luaL_checktype(L, 2, LUA_TTABLE);
  luaL_checktype(L, 5, LUA_TTABLE);
  int n = (int)lua_objlen(L, 2);
  optimizer_data *o = lua_newuserdata(L, sizeof *o + (size_t)n * sizeof o->info[0]);
  memset(o, 0, sizeof *o);
  o->b = b;
  o->n = n;
  lua_rawgeti(L, LUA_REGISTRYINDEX, b->optimizers);
  lua_setmetatable(L, -2);
  for (int k = 0; k < n; k++) {
    lua_rawgeti(L, 2, k + 1);
    if (!pl_describe(b->c, check_tensor(L, b, lua_gettop(L), "minimize"), &o->info[k])) fail_engine(L, b);
    o->total += o->info[k].count;
    lua_pop(L, 1);
  }
  const pl_setting *settings = read_settings(L, 5);
  double *x = read_list(L, o, 2, 0);
  double *lower = read_list(L, o, 3, -__builtin_inf());
  double *upper = read_list(L, o, 4, __builtin_inf());
  o->o = pl_optimizer_new(b->c, method, settings, o->total, x, lower, upper);
  if (!o->o) fail_engine(L, b);
  lua_pushvalue(L, 6);
  return 1;
}

/* core.methods() -> {{name, text, settings = {{name, text, value}, ...}}, ...} */
static int list_methods(lua_State *L) {
  lua_newtable(L);
  const char *name;
  for (int k = 0; (name = pl_optimizer_method(k)); k++) {
    lua_createtable(L, 0, 3);
    lua_pushstring(L, name), lua_setfield(L, -2, "name");
    lua_pushstring(L, pl_optimizer_text(name)), lua_setfield(L, -2, "text");
    lua_newtable(L);
    const pl_setting_info *s;
    for (int i = 0; (s = pl_optimizer_setting(name, i)); i++) {
      lua_createtable(L, 0, 3);
      lua_pushstring(L, s->name), lua_setfield(L, -2, "name");
      lua_pushstring(L, s->text), lua_setfield(L, -2, "text");
      if (s->value == s->value) lua_pushnumber(L, s->value), lua_setfield(L, -2, "value");
      lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "settings");
    lua_rawseti(L, -2, k + 1);
  }
  return 1;
}

static int collect_optimizer(lua_State *L) {
  optimizer_data *o = check_object(L, 1, binding_of(L)->optimizers, "optimizer");
  if (o->b->c && o->o) pl_optimizer_free(o->o);
  o->o = NULL;
  return 0;
}

static int optimizer_ask(lua_State *L) {
  optimizer_data *o = check_optimizer(L);
  const double *x = pl_optimizer_ask(o->o);
  return x ? push_vector(L, o, x) : 0;
}
static int optimizer_tell(lua_State *L) {
  optimizer_data *o = check_optimizer(L);
  double f = luaL_checknumber(L, 2);
  double *g = read_list(L, o, 3, 0);
  lua_pushboolean(L, pl_optimizer_tell(o->o, f, g));
  return 1;
}
static int optimizer_set(lua_State *L) {
  optimizer_data *o = check_optimizer(L);
  if (!pl_optimizer_set(o->o, luaL_checkstring(L, 2), luaL_checknumber(L, 3))) fail_engine(L, o->b);
  return 0;
}
static int optimizer_stop(lua_State *L) {
  pl_optimizer_stop(check_optimizer(L)->o);
  return 0;
}

static void push_point(lua_State *L, const pl_min_point *p) { /* into the table at the top */
  lua_pushnumber(L, p->value), lua_setfield(L, -2, "value");
  lua_pushnumber(L, p->gradient_norm), lua_setfield(L, -2, "gradient_norm");
}
/* report() -> the report, with value and gradient_norm of the best point; report("last") -> with those of the last */
static int optimizer_report(lua_State *L) {
  optimizer_data *o = check_optimizer(L);
  pl_min_report r = pl_optimizer_report(o->o);
  bool last = lua_toboolean(L, 2);
  lua_createtable(L, 0, 10);
  lua_pushstring(L, r.name), lua_setfield(L, -2, "status");
  lua_pushstring(L, r.message), lua_setfield(L, -2, "message");
  lua_pushboolean(L, r.converged), lua_setfield(L, -2, "converged");
  lua_pushnumber(L, (double)r.iterations), lua_setfield(L, -2, "iterations");
  lua_pushnumber(L, (double)r.evaluations), lua_setfield(L, -2, "evaluations");
  lua_pushnumber(L, r.step), lua_setfield(L, -2, "step");
  push_point(L, last ? &r.last : &r.best);
  return 1;
}
/* x(), gradient(): of the best point; x("last") ... of the last */
static int optimizer_x(lua_State *L) {
  optimizer_data *o = check_optimizer(L);
  pl_min_report r = pl_optimizer_report(o->o);
  return push_vector(L, o, lua_toboolean(L, 2) ? r.last.x : r.best.x);
}
static int optimizer_gradient(lua_State *L) {
  optimizer_data *o = check_optimizer(L);
  return push_vector(L, o, pl_optimizer_report(o->o).best.gradient);
}

void open_optimizer(lua_State *L, binding *b, int core) {
  static const luaL_Reg optimizers[] = {
      {"__gc", collect_optimizer}, {"ask", optimizer_ask},           {"tell", optimizer_tell},
      {"stop", optimizer_stop},    {"set", optimizer_set},           {"report", optimizer_report},
      {"x", optimizer_x},          {"gradient", optimizer_gradient}, {NULL, NULL}};
  b->optimizers = new_metatable(L, b, optimizers);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  static const luaL_Reg functions[] = {{"optimizer", new_optimizer}, {"methods", list_methods}, {NULL, NULL}};
  register_functions(L, b, core, functions);
}
