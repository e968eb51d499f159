/* optimizer.c: the optimizers for the language: ask gives a list of tensors like the parameters, tell takes the value
 * and a list of gradients. */
#include "binding.h"

#include <string.h>

#include "optimize/lbfgs.h"

typedef struct {
  binding *b;
  pl_lbfgs *o;
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

/* core.lbfgs(x, lower|nil, upper|nil, {iterations, evaluations, rtol, atol, memory}); bounds: lists of tensors, numbers
 * or false */
static int new_lbfgs(lua_State *L) {
  binding *b = binding_of(L);
  lua_settop(L, 4);
  luaL_checktype(L, 1, LUA_TTABLE);
  int n = (int)lua_objlen(L, 1);
  optimizer_data *o = lua_newuserdata(L, sizeof *o + (size_t)n * sizeof o->info[0]);
  memset(o, 0, sizeof *o);
  o->b = b;
  o->n = n;
  lua_rawgeti(L, LUA_REGISTRYINDEX, b->optimizers);
  lua_setmetatable(L, -2);
  for (int k = 0; k < n; k++) {
    lua_rawgeti(L, 1, k + 1);
    if (!pl_describe(b->c, check_tensor(L, b, lua_gettop(L), "lbfgs"), &o->info[k])) fail_engine(L, b);
    o->total += o->info[k].count;
    lua_pop(L, 1);
  }
  pl_lbfgs_options p = pl_lbfgs_defaults();
  if (lua_istable(L, 4)) {
    lua_getfield(L, 4, "iterations"), p.iterations = (int64_t)luaL_optnumber(L, -1, (double)p.iterations);
    lua_getfield(L, 4, "evaluations"), p.evaluations = (int64_t)luaL_optnumber(L, -1, (double)p.iterations * 10 + 10);
    lua_getfield(L, 4, "rtol"), p.rtol = luaL_optnumber(L, -1, p.rtol);
    lua_getfield(L, 4, "atol"), p.atol = luaL_optnumber(L, -1, p.atol);
    lua_getfield(L, 4, "memory"), p.memory = (int)luaL_optnumber(L, -1, p.memory);
    lua_pop(L, 5);
  }
  double *x = read_list(L, o, 1, 0);
  double *lower = lua_istable(L, 2) ? read_list(L, o, 2, -__builtin_inf()) : NULL;
  double *upper = lua_istable(L, 3) ? read_list(L, o, 3, __builtin_inf()) : NULL;
  o->o = pl_lbfgs_new(b->c, &p, o->total, x, lower, upper);
  if (!o->o) fail_engine(L, b);
  lua_pushvalue(L, 5);
  return 1;
}

static int collect_optimizer(lua_State *L) {
  optimizer_data *o = check_object(L, 1, binding_of(L)->optimizers, "optimizer");
  if (o->b->c && o->o) pl_lbfgs_free(o->o);
  o->o = NULL;
  return 0;
}

static int optimizer_ask(lua_State *L) {
  optimizer_data *o = check_optimizer(L);
  const double *x = pl_lbfgs_ask(o->o);
  return x ? push_vector(L, o, x) : 0;
}
static int optimizer_tell(lua_State *L) {
  optimizer_data *o = check_optimizer(L);
  double f = luaL_checknumber(L, 2);
  double *g = read_list(L, o, 3, 0);
  lua_pushboolean(L, pl_lbfgs_tell(o->o, f, g));
  return 1;
}
static int optimizer_stop(lua_State *L) {
  pl_lbfgs_stop(check_optimizer(L)->o);
  return 0;
}
/* the report as a table; x and gradient are lists of tensors */
static int optimizer_report(lua_State *L) {
  optimizer_data *o = check_optimizer(L);
  pl_min_report r = pl_lbfgs_report(o->o);
  lua_createtable(L, 0, 10);
  lua_pushstring(L, r.name), lua_setfield(L, -2, "status");
  lua_pushstring(L, r.message), lua_setfield(L, -2, "message");
  lua_pushboolean(L, r.converged), lua_setfield(L, -2, "converged");
  lua_pushnumber(L, r.value), lua_setfield(L, -2, "value");
  lua_pushnumber(L, r.gradient_norm), lua_setfield(L, -2, "gradient_norm");
  lua_pushnumber(L, (double)r.iterations), lua_setfield(L, -2, "iterations");
  lua_pushnumber(L, (double)r.evaluations), lua_setfield(L, -2, "evaluations");
  lua_pushnumber(L, r.step), lua_setfield(L, -2, "step");
  return 1;
}
static int optimizer_x(lua_State *L) {
  optimizer_data *o = check_optimizer(L);
  return push_vector(L, o, pl_lbfgs_report(o->o).x);
}
static int optimizer_gradient(lua_State *L) {
  optimizer_data *o = check_optimizer(L);
  return push_vector(L, o, pl_lbfgs_report(o->o).gradient);
}

void open_optimizer(lua_State *L, binding *b, int core) {
  static const luaL_Reg optimizers[] = {
      {"__gc", collect_optimizer},  {"ask", optimizer_ask}, {"tell", optimizer_tell},         {"stop", optimizer_stop},
      {"report", optimizer_report}, {"x", optimizer_x},     {"gradient", optimizer_gradient}, {NULL, NULL}};
  b->optimizers = new_metatable(L, b, optimizers);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  static const luaL_Reg functions[] = {{"lbfgs", new_lbfgs}, {NULL, NULL}};
  register_functions(L, b, core, functions);
}
