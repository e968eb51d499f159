/* solvers.c: sparse matrices (pattern and values) and the optimizer for the language. */
#include "binding.h"

#include <string.h>

#include "optimize/lbfgs.h"
#include "sparse.h"

/* ---- sparse: functions take and return (pattern, values) pairs ---- */

typedef struct {
  uint64_t magic;
  binding *b;
  pl_object *object;
} pattern_data;

#define PATTERN_MAGIC 0x94d049bb133111ebu

static pl_object *check_pattern(lua_State *L, int i) {
  pattern_data *p = lua_type(L, i) == LUA_TUSERDATA && lua_objlen(L, i) == sizeof *p ? lua_touserdata(L, i) : NULL;
  if (!p || p->magic != PATTERN_MAGIC) fail(L, "a sparse matrix is needed, not %s", luaL_typename(L, i));
  return p->object;
}

static pl_sparse check_sparse(lua_State *L, binding *b, int i) {
  pl_object *pattern = check_pattern(L, i);
  return (pl_sparse){pattern, check_tensor(L, b, i + 1, "a sparse matrix")};
}

int push_pattern(lua_State *L, binding *b, pl_object *pattern) {
  pattern_data *p = lua_newuserdata(L, sizeof *p);
  *p = (pattern_data){PATTERN_MAGIC, b, pattern};
  pl_sparse_retain((pl_sparse){pattern, PL_NONE});
  lua_rawgeti(L, LUA_REGISTRYINDEX, b->patterns);
  lua_setmetatable(L, -2);
  return 1;
}

static int push_sparse(lua_State *L, binding *b, pl_sparse a) {
  if (!a.pattern) fail_engine(L, b);
  push_pattern(L, b, a.pattern);
  pl_sparse_release(b->c, (pl_sparse){a.pattern, PL_NONE});
  push_value(L, b, a.values);
  return 2;
}

static int collect_pattern(lua_State *L) {
  pattern_data *p = check_object(L, 1, binding_of(L)->patterns, "sparse pattern");
  if (p->magic && p->b->c) pl_sparse_release(p->b->c, (pl_sparse){p->object, PL_NONE});
  p->magic = 0;
  return 0;
}

static int same_pattern(lua_State *L) {
  lua_pushboolean(L, check_pattern(L, 1) == check_pattern(L, 2));
  return 1;
}

static int sparse_triplets(lua_State *L) {
  binding *b = binding_of(L);
  lua_settop(L, 5);
  pl_value i = check_value(L, b, 1, -1, "triplets"), j = check_value(L, b, 2, -1, "triplets"),
           v = check_value(L, b, 3, -1, "triplets");
  int64_t m = check_integer(L, 4, "triplets: the number of rows"),
          n = check_integer(L, 5, "triplets: the number of columns");
  mark_line(L, b);
  return push_sparse(L, b, pl_sparse_triplets(b->c, i, j, v, m, n));
}

typedef pl_sparse (*pair_function)(pl_context *, pl_sparse, pl_sparse);
static int pair(lua_State *L, pair_function f) {
  binding *b = binding_of(L);
  pl_sparse x = check_sparse(L, b, 1), y = check_sparse(L, b, 3);
  mark_line(L, b);
  return push_sparse(L, b, f(b->c, x, y));
}
static int sparse_add(lua_State *L) { return pair(L, pl_sparse_add); }
static int sparse_multiply(lua_State *L) { return pair(L, pl_sparse_multiply); }
static int sparse_kron(lua_State *L) { return pair(L, pl_sparse_kron); }

static int sparse_transpose(lua_State *L) {
  binding *b = binding_of(L);
  pl_sparse a = check_sparse(L, b, 1);
  mark_line(L, b);
  return push_sparse(L, b, pl_sparse_transpose(b->c, a));
}
static int sparse_scale(lua_State *L) {
  binding *b = binding_of(L);
  pl_sparse a = check_sparse(L, b, 1);
  pl_value s = check_value(L, b, 3, pl_dtype_of(b->c, a.values), "scaling a sparse matrix");
  mark_line(L, b);
  return push_sparse(L, b, pl_sparse_scale(b->c, a, s));
}
static int sparse_gram(lua_State *L) {
  binding *b = binding_of(L);
  pl_sparse a = check_sparse(L, b, 1);
  pl_value d = check_value(L, b, 3, -1, "gram");
  mark_line(L, b);
  return push_sparse(L, b, pl_sparse_gram(b->c, a, d));
}
static int sparse_apply(lua_State *L) {
  binding *b = binding_of(L);
  pl_sparse a = check_sparse(L, b, 1);
  pl_value x = check_value(L, b, 3, -1, "a sparse product");
  mark_line(L, b);
  return push_value(L, b, pl_sparse_apply(b->c, a, x));
}
static int sparse_dense(lua_State *L) {
  binding *b = binding_of(L);
  pl_sparse a = check_sparse(L, b, 1);
  mark_line(L, b);
  return push_value(L, b, pl_sparse_dense(b->c, a));
}
static int sparse_factor(lua_State *L) {
  binding *b = binding_of(L);
  pl_sparse a = check_sparse(L, b, 1);
  static const char *const names[] = {"auto", "klu", "umfpack", "cholmod"};
  const char *name = luaL_optstring(L, 3, "auto");
  int method = -1;
  for (int i = 0; i < PL_SOLVERS; i++)
    if (!strcmp(name, names[i])) method = i;
  if (method < 0) fail(L, "there is no solver '%s': it is auto, klu, umfpack or cholmod", name);
  mark_line(L, b);
  return push_value(L, b, pl_sparse_factor(b->c, a, (pl_solver)method));
}
/* solve(factor, pattern, values, rhs, transpose) */
static int sparse_solve(lua_State *L) {
  binding *b = binding_of(L);
  pl_value f = check_tensor(L, b, 1, "solve"), rhs = check_value(L, b, 4, -1, "solve");
  pl_sparse a = check_sparse(L, b, 2);
  mark_line(L, b);
  return push_value(L, b, pl_sparse_solve(b->c, f, a, rhs, lua_toboolean(L, 5)));
}
static int sparse_solver_name(lua_State *L) {
  binding *b = binding_of(L);
  lua_pushstring(L, pl_factor_name(b->c, check_tensor(L, b, 1, "solver")));
  if (pl_error_status(b->c)) fail_engine(L, b);
  return 1;
}
static int sparse_size(lua_State *L) {
  int64_t rows, cols, nnz;
  pl_sparse_size(check_pattern(L, 1), &rows, &cols, &nnz);
  lua_pushnumber(L, (double)rows);
  lua_pushnumber(L, (double)cols);
  lua_pushnumber(L, (double)nnz);
  return 3;
}
static int sparse_indices(lua_State *L) {
  binding *b = binding_of(L);
  return push_value(L, b, pl_sparse_indices(b->c, check_pattern(L, 1), lua_toboolean(L, 2)));
}

/* ---- the optimizer: ask gives a list of tensors like the parameters, tell takes the value and a list of gradients
 * ---- */

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

void open_solvers(lua_State *L, binding *b, int core) {
  static const luaL_Reg patterns[] = {{"__gc", collect_pattern}, {"__eq", same_pattern}, {NULL, NULL}};
  b->patterns = new_metatable(L, b, patterns);
  lua_pop(L, 1);
  static const luaL_Reg optimizers[] = {
      {"__gc", collect_optimizer},  {"ask", optimizer_ask}, {"tell", optimizer_tell},         {"stop", optimizer_stop},
      {"report", optimizer_report}, {"x", optimizer_x},     {"gradient", optimizer_gradient}, {NULL, NULL}};
  b->optimizers = new_metatable(L, b, optimizers);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  static const luaL_Reg functions[] = {{"lbfgs", new_lbfgs}, {NULL, NULL}};
  register_functions(L, b, core, functions);
  static const luaL_Reg sparse[] = {{"triplets", sparse_triplets},   {"add", sparse_add},
                                    {"multiply", sparse_multiply},   {"kron", sparse_kron},
                                    {"transpose", sparse_transpose}, {"scale", sparse_scale},
                                    {"gram", sparse_gram},           {"apply", sparse_apply},
                                    {"dense", sparse_dense},         {"factor", sparse_factor},
                                    {"solve", sparse_solve},         {"solver", sparse_solver_name},
                                    {"size", sparse_size},           {"indices", sparse_indices},
                                    {"same", same_pattern},          {NULL, NULL}};
  lua_newtable(L);
  register_functions(L, b, lua_gettop(L), sparse);
  lua_setfield(L, core, "sparse");
}
