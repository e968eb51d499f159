/* sparse.c: sparse matrices (pattern and values) and their solves for the language. */
#include "binding.h"

#include <string.h>

#include "sparse.h"

/* Functions take and return (pattern, values) pairs. */

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
/* factor(pattern, values, method, what is known) */
static int sparse_factor(lua_State *L) {
  binding *b = binding_of(L);
  pl_sparse a = check_sparse(L, b, 1);
  static const char *const names[PL_SOLVERS] = {"auto", "klu",         "umfpack", "cholmod",
                                                "ldl",  "tridiagonal", "banded",  "dense"};
  const char *name = luaL_optstring(L, 3, "auto"), *known = luaL_optstring(L, 4, "");
  int method = -1;
  for (int i = 0; i < PL_SOLVERS; i++)
    if (!strcmp(name, names[i])) method = i;
  if (method < 0)
    fail(L, "there is no solver '%s': it is auto, klu, umfpack, cholmod, ldl, tridiagonal, banded or dense", name);
  if (*known) method |= *known == 'd' ? PL_SOLVER_DEFINITE : PL_SOLVER_SYMMETRIC;
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
  pl_value f = check_tensor(L, b, 1, "solver");
  lua_pushstring(L, pl_factor_name(b->c, f));
  lua_pushstring(L, pl_factor_reason(b->c, f));
  if (pl_error_status(b->c)) fail_engine(L, b);
  return 2;
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

void open_sparse(lua_State *L, binding *b, int core) {
  static const luaL_Reg patterns[] = {{"__gc", collect_pattern}, {"__eq", same_pattern}, {NULL, NULL}};
  b->patterns = new_metatable(L, b, patterns);
  lua_pop(L, 1);
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
