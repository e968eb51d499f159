/* nonlinear.c: solves of nonlinear equations, for nonlinear.lua. Options come as a table whose names and defaults are
 * the language's. */
#include "binding.h"

static double number_option(lua_State *L, int i, const char *name) {
  lua_getfield(L, i, name);
  double x = lua_tonumber(L, -1);
  lua_pop(L, 1);
  return x;
}
static bool flag_option(lua_State *L, int i, const char *name) {
  lua_getfield(L, i, name);
  bool x = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return x;
}

/* Pushes memory. */
static const int64_t *names_option(lua_State *L, int i, int *n) {
  lua_getfield(L, i, "names");
  *n = lua_istable(L, -1) ? (int)lua_objlen(L, -1) : 0;
  int64_t *list = lua_newuserdata(L, ((size_t)*n + 1) * sizeof *list);
  for (int k = 0; k < *n; k++) {
    lua_rawgeti(L, -2, k + 1);
    list[k] = (int64_t)lua_tonumber(L, -1);
    lua_pop(L, 1);
  }
  return list;
}

/* What all are given: (program, inputs, options). */
typedef struct {
  binding *b;
  pl_body *body;
  int n;
  const pl_value *in;
} problem;

static problem read_problem(lua_State *L, const char *name) {
  problem q = {.b = binding_of(L)};
  int n_in, n_out;
  lua_settop(L, 3);
  luaL_checktype(L, 3, LUA_TTABLE);
  q.body = program_at(L, 1, &n_in, &n_out);
  q.in = read_tensors(L, q.b, 2, &q.n, name);
  mark_line(L, q.b);
  return q;
}

/* The solution, and the record as numbers. */
static int push_solution(lua_State *L, binding *b, bool solved, pl_value *out) {
  if (!solved) fail_engine(L, b);
  pl_value record = out[1];
  out[1] = pl_solve_reals(b->c, record);
  if (pl_owns(b->c)) pl_release(b->c, record);
  if (pl_error_status(b->c)) fail_engine(L, b);
  return push_tensors(L, b, 2, out);
}

/* program.newton(program, inputs, options) -> {u, record as numbers} */
static int newton(lua_State *L) {
  problem q = read_problem(L, "newton");
  pl_newton_options o = pl_newton_defaults();
  o.iterations = (int64_t)number_option(L, 3, "iterations");
  o.atol = number_option(L, 3, "atol");
  o.rtol = number_option(L, 3, "rtol");
  o.search = (pl_search)number_option(L, 3, "search");
  o.step_limit = number_option(L, 3, "step_limit");
  o.bounded = flag_option(L, 3, "bounded");
  o.unchecked = flag_option(L, 3, "unchecked");
  o.krylov = flag_option(L, 3, "krylov");
  o.names = names_option(L, 3, &o.n_names);
  lua_getfield(L, 3, "pattern");
  if (!lua_isnil(L, -1)) o.pattern = check_pattern(L, lua_gettop(L));
  pl_value out[PL_NEWTON_OUTPUTS];
  bool solved = pl_newton(q.b->c, q.body, &o, q.n, q.in, out);
  return push_solution(L, q.b, solved, out);
}

/* program.newton_jacobian(program, inputs) -> program of the Jacobian's values, for measurements */
static int newton_jacobian(lua_State *L) {
  binding *b = binding_of(L);
  int n_in, n_out, n;
  pl_body *f = program_at(L, 1, &n_in, &n_out);
  const pl_value *in = read_tensors(L, b, 2, &n, "newton");
  if (n != n_in || n < 1 || n_out != 1) fail(L, "newton: the program takes %d inputs, not %d", n_in, n);
  pl_body *j = pl_newton_jacobian(b->c, f, in);
  if (j) pl_body_retain(j);
  return push_body(L, b, j);
}

/* program.root(program, inputs, options) -> {y, record as numbers} */
static int root(lua_State *L) {
  problem q = read_problem(L, "root");
  pl_root_options o = {.iterations = (int64_t)number_option(L, 3, "iterations"),
                       .rtol = number_option(L, 3, "rtol"),
                       .bracketed = flag_option(L, 3, "bracketed"),
                       .unchecked = flag_option(L, 3, "unchecked")};
  pl_value out[PL_NEWTON_OUTPUTS];
  bool solved = pl_root(q.b->c, q.body, &o, q.n, q.in, out);
  return push_solution(L, q.b, solved, out);
}

/* program.fixed_point(program, inputs, options) -> {u, record as numbers} */
static int fixed_point(lua_State *L) {
  problem q = read_problem(L, "fixed_point");
  pl_fixed_point_options o = {.iterations = (int64_t)number_option(L, 3, "iterations"),
                              .depth = (int64_t)number_option(L, 3, "anderson"),
                              .damping = number_option(L, 3, "damping"),
                              .atol = number_option(L, 3, "atol"),
                              .rtol = number_option(L, 3, "rtol"),
                              .unchecked = flag_option(L, 3, "unchecked"),
                              .krylov = flag_option(L, 3, "krylov")};
  o.names = names_option(L, 3, &o.n_names);
  pl_value out[PL_NEWTON_OUTPUTS];
  bool solved = pl_fixed_point(q.b->c, q.body, &o, q.n, q.in, out);
  return push_solution(L, q.b, solved, out);
}

/* program.argmin(program, inputs, options) -> {u, record as numbers} */
static int argmin(lua_State *L) {
  problem q = read_problem(L, "argmin");
  pl_argmin_options o = {.iterations = (int64_t)number_option(L, 3, "iterations"),
                         .atol = number_option(L, 3, "atol"),
                         .rtol = number_option(L, 3, "rtol"),
                         .unchecked = flag_option(L, 3, "unchecked")};
  o.names = names_option(L, 3, &o.n_names);
  pl_value out[PL_NEWTON_OUTPUTS];
  bool solved = pl_argmin(q.b->c, q.body, &o, q.n, q.in, out);
  return push_solution(L, q.b, solved, out);
}

void open_nonlinear(lua_State *L, binding *b, int table) {
  static const luaL_Reg functions[] = {{"newton", newton}, {"newton_jacobian", newton_jacobian},
                                       {"root", root},     {"fixed_point", fixed_point},
                                       {"argmin", argmin}, {NULL, NULL}};
  register_functions(L, b, table, functions);
}
