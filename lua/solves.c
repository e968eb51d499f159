/* solves.c: solves with sparse matrices for the language. */
#include "binding.h"

#include <string.h>

#include "sparse.h"

/* The method at i, and behind it what is known of the matrix: "definite", "symmetric" or nil. */
static pl_solver check_method(lua_State *L, int i) {
  static const char *const names[PL_SOLVERS] = {"auto", "klu",         "umfpack", "cholmod",
                                                "ldl",  "tridiagonal", "banded",  "dense"};
  const char *name = luaL_optstring(L, i, "auto"), *known = luaL_optstring(L, i + 1, "");
  for (int k = 0; k < PL_SOLVERS; k++)
    if (!strcmp(name, names[k]))
      return (pl_solver)(k | (*known == 'd' ? PL_SOLVER_DEFINITE : *known == 's' ? PL_SOLVER_SYMMETRIC : 0));
  fail(L, "there is no direct solver '%s': it is auto, klu, umfpack, cholmod, ldl, tridiagonal, banded or dense", name);
}

/* factor(pattern, values, method, known) */
static int solve_factor(lua_State *L) {
  binding *b = binding_of(L);
  pl_sparse a = check_sparse(L, b, 1);
  pl_solver method = check_method(L, 3);
  mark_line(L, b);
  return push_value(L, b, pl_sparse_factor(b->c, a, method));
}

/* solve(pattern, values, factor, rhs, transpose) */
static int solve_solve(lua_State *L) {
  binding *b = binding_of(L);
  pl_sparse a = check_sparse(L, b, 1);
  pl_value f = check_tensor(L, b, 3, "solve"), rhs = check_value(L, b, 4, -1, "solve");
  mark_line(L, b);
  return push_value(L, b, pl_sparse_solve(b->c, f, a, rhs, lua_toboolean(L, 5)));
}

/* solve_fixed(pattern, values, rhs, method, known, transpose, fixed, value) */
static int solve_fixed(lua_State *L) {
  binding *b = binding_of(L);
  lua_settop(L, 8);
  pl_sparse a = check_sparse(L, b, 1);
  pl_value rhs = check_value(L, b, 3, -1, "solve");
  pl_solver method = check_method(L, 4);
  pl_value fixed = check_value(L, b, 7, -1, "solve: the fixed unknowns"),
           value = lua_isnil(L, 8) ? PL_NONE : check_value(L, b, 8, -1, "solve: the fixed unknowns' values");
  mark_line(L, b);
  return push_value(L, b, pl_sparse_solve_fixed(b->c, a, rhs, fixed, value, method, lua_toboolean(L, 6)));
}

/* solve_null(pattern, values, rhs, method, known, null space or nil for the constants) */
static int solve_null(lua_State *L) {
  binding *b = binding_of(L);
  lua_settop(L, 6);
  pl_sparse a = check_sparse(L, b, 1);
  pl_value rhs = check_value(L, b, 3, -1, "solve");
  pl_solver method = check_method(L, 4);
  pl_value null = lua_isnil(L, 6) ? PL_NONE : check_value(L, b, 6, -1, "solve: the null space");
  mark_line(L, b);
  return push_value(L, b, pl_sparse_solve_null(b->c, a, rhs, null, method));
}

/* lstsq(pattern, values, rhs) */
static int solve_lstsq(lua_State *L) {
  binding *b = binding_of(L);
  pl_sparse a = check_sparse(L, b, 1);
  pl_value rhs = check_value(L, b, 3, -1, "lstsq");
  mark_line(L, b);
  return push_value(L, b, pl_sparse_lstsq(b->c, a, rhs));
}

/* logdet(pattern, values, factor) -> log |det|, sign */
static int solve_logdet(lua_State *L) {
  binding *b = binding_of(L);
  pl_sparse a = check_sparse(L, b, 1);
  pl_value f = check_tensor(L, b, 3, "logdet"), sign;
  mark_line(L, b);
  push_value(L, b, pl_sparse_logdet(b->c, f, a, &sign));
  push_value(L, b, sign);
  return 2;
}

/* eigsh(pattern, values, k, which, sigma, rtol, restarts, M's pattern, values) -> w, V */
static int solve_eigsh(lua_State *L) {
  binding *b = binding_of(L);
  lua_settop(L, 9);
  pl_sparse a = check_sparse(L, b, 1), m = {NULL, PL_NONE};
  int64_t k = check_integer(L, 3, "eigsh: how many"), which = check_integer(L, 4, "eigsh"),
          restarts = check_integer(L, 7, "eigsh: iterations");
  if (!lua_isnil(L, 8)) m = check_sparse(L, b, 8);
  pl_value w, v;
  mark_line(L, b);
  pl_sparse_eigsh(b->c, a, m, k, (int)which, lua_tonumber(L, 5), lua_tonumber(L, 6), restarts, &w, &v);
  push_value(L, b, w);
  push_value(L, b, v);
  return 2;
}

/* counts() -> analyses, plans */
static int solve_counts(lua_State *L) {
  int64_t analyses, plans;
  pl_sparse_counts(binding_of(L)->c, &analyses, &plans);
  lua_pushnumber(L, (double)analyses);
  lua_pushnumber(L, (double)plans);
  return 2;
}

/* solver(factor) -> name, reason */
static int solve_name(lua_State *L) {
  binding *b = binding_of(L);
  pl_value f = check_tensor(L, b, 1, "solver");
  lua_pushstring(L, pl_factor_name(b->c, f));
  lua_pushstring(L, pl_factor_reason(b->c, f));
  if (pl_error_status(b->c)) fail_engine(L, b);
  return 2;
}

const luaL_Reg sparse_solves[] = {{"factor", solve_factor},     {"solve", solve_solve},
                                  {"solve_fixed", solve_fixed}, {"solve_null", solve_null},
                                  {"solver", solve_name},       {"counts", solve_counts},
                                  {"lstsq", solve_lstsq},       {"logdet", solve_logdet},
                                  {"eigsh", solve_eigsh},       {NULL, NULL}};
