/* jacobian.c: what jacobian.lua is made of: linearized and transposed programs, and compressions of sparse derivatives.
 */
#include "binding.h"

#include <string.h>

#include "sparse.h"
#include "transform/linearize.h"
#include "transform/sparsity.h"

static int push_kept(lua_State *L, binding *b, pl_body *body) {
  if (!body || pl_error_status(b->c)) fail_engine(L, b);
  pl_body_retain(body);
  return push_body(L, b, body);
}

static int push_shared(lua_State *L, binding *b, pl_value v) {
  pl_retain(b->c, v);
  return push_handle(L, b, v, true);
}

/* program.linearize(program, n) -> early program, tangent program, resources, list of the kept operands (numbers of
 * inputs, then of results of the early program): for the first n inputs */
static int linearize(lua_State *L) {
  binding *b = binding_of(L);
  int n_in, n_out;
  pl_body *body = program_at(L, 1, &n_in, &n_out);
  int64_t n = check_integer(L, 2, "linearize");
  if (n < 1 || n > n_in) fail(L, "linearize: a program with %d inputs has no first %lld", n_in, (long long)n);
  uint8_t *active = lua_newuserdata(L, (size_t)n_in);
  for (int k = 0; k < n_in; k++) active[k] = k < n;
  pl_linearization l;
  if (!pl_body_linearize(b->c, body, active, &l)) fail_engine(L, b);
  push_kept(L, b, l.early);
  push_kept(L, b, l.tangent);
  lua_pushboolean(L, l.resources);
  lua_createtable(L, l.n_kept, 0);
  for (int k = 0; k < l.n_kept; k++) {
    lua_pushinteger(L, l.kept[k] + 1);
    lua_rawseti(L, -2, k + 1);
  }
  return 4;
}

/* program.transposed(program, n) -> program */
static int transposed(lua_State *L) {
  binding *b = binding_of(L);
  int n_in, n_out;
  pl_body *body = program_at(L, 1, &n_in, &n_out);
  int64_t n = check_integer(L, 2, "transposed");
  if (n < 1 || n > n_in) fail(L, "transposed: a program with %d inputs has no first %lld", n_in, (long long)n);
  return push_kept(L, b, pl_body_transposed(b->c, body, (int)n));
}

/* program.compression(program, inputs, hessian) -> pattern, map, seeds, colours, reverse: of the first output by the
 * first input */
static int compression(lua_State *L) {
  binding *b = binding_of(L);
  int n_in, n_out;
  pl_body *body = program_at(L, 1, &n_in, &n_out);
  luaL_checktype(L, 2, LUA_TTABLE);
  if ((int)lua_objlen(L, 2) != n_in) fail(L, "the program takes %d inputs, not %d", n_in, (int)lua_objlen(L, 2));
  pl_value *inputs = lua_newuserdata(L, ((size_t)n_in + 1) * sizeof *inputs);
  for (int k = 0; k < n_in; k++) {
    lua_rawgeti(L, 2, k + 1);
    inputs[k] = check_tensor(L, b, lua_gettop(L), "a program");
    lua_pop(L, 1);
  }
  pl_compression k;
  if (!pl_body_compression(b->c, body, inputs, 0, 0, lua_toboolean(L, 3), &k)) fail_engine(L, b);
  push_pattern(L, b, k.pattern);
  push_shared(L, b, k.map);
  push_shared(L, b, k.seeds);
  lua_pushnumber(L, (double)k.colours);
  lua_pushboolean(L, k.reverse);
  return 5;
}

void open_jacobians(lua_State *L, binding *b, int core) {
  static const luaL_Reg functions[] = {
      {"linearize", linearize}, {"transposed", transposed}, {"compression", compression}, {NULL, NULL}};
  lua_getfield(L, core, "program");
  register_functions(L, b, lua_gettop(L), functions);
  lua_pop(L, 1);
}
