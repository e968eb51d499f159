/* derive.c: regions of recordings for the language's grad, jvp and hvp; pausing and scopes. */
#include "binding.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
  binding *b;
  pl_region *region;
  int n;
} region_data;

static region_data *check_region(lua_State *L) {
  region_data *r = check_object(L, 1, binding_of(L)->regions, "derivative");
  if (!r->region) fail(L, "this derivative has ended");
  return r;
}

static const pl_value *read_values(lua_State *L, binding *b, int i, int *n, const char *what) {
  luaL_checktype(L, i, LUA_TTABLE);
  *n = (int)lua_objlen(L, i);
  pl_value *v = lua_newuserdata(L, (size_t)(*n + 1) * sizeof *v);
  for (int k = 0; k < *n; k++) {
    lua_rawgeti(L, i, k + 1);
    v[k] = lua_toboolean(L, -1) ? check_tensor(L, b, lua_gettop(L), what) : PL_ZERO;
    lua_pop(L, 1);
  }
  return v;
}

/* core.open(tensors, names) -> region, inputs */
static int open_region(lua_State *L) {
  binding *b = binding_of(L);
  int n;
  lua_settop(L, 2);
  const pl_value *x = read_values(L, b, 1, &n, "a derivative");
  luaL_checktype(L, 2, LUA_TTABLE);
  const char **names = lua_newuserdata(L, (size_t)(n + 1) * sizeof *names);
  for (int k = 0; k < n; k++) {
    lua_rawgeti(L, 2, k + 1);
    names[k] = lua_tostring(L, -1); /* the list holds the string */
    lua_pop(L, 1);
  }
  pl_value *inputs = lua_newuserdata(L, (size_t)(n + 1) * sizeof *inputs);
  region_data *r = lua_newuserdata(L, sizeof *r);
  *r = (region_data){b, NULL, n};
  lua_rawgeti(L, LUA_REGISTRYINDEX, b->regions);
  lua_setmetatable(L, -2);
  mark_line(L, b);
  r->region = pl_region_open(b->c, n, x, names, inputs);
  if (!r->region) fail_engine(L, b);
  lua_createtable(L, n, 0);
  for (int k = 0; k < n; k++) {
    push_value(L, b, inputs[k]);
    lua_rawseti(L, -2, k + 1);
  }
  return 2;
}

static int close_region(lua_State *L) {
  pl_region_close(check_region(L)->region);
  return 0;
}

static int free_region(lua_State *L) {
  region_data *r = check_object(L, 1, binding_of(L)->regions, "derivative");
  if (r->region && r->b->c) pl_region_free(r->region);
  r->region = NULL;
  return 0;
}

static void push_list(lua_State *L, binding *b, int n, const pl_value *v) {
  lua_createtable(L, n, 0);
  for (int k = 0; k < n; k++) {
    if (v[k] == PL_ZERO) lua_pushboolean(L, 0);
    else push_value(L, b, v[k]);
    lua_rawseti(L, -2, k + 1);
  }
}

/* region:vjp(y, seeds|nil, last) -> gradients, reached */
static int region_vjp(lua_State *L) {
  binding *b = binding_of(L);
  region_data *r = check_region(L);
  lua_settop(L, 4);
  int n_y, n_s;
  const pl_value *y = read_values(L, b, 2, &n_y, "a gradient"), *seeds = NULL;
  if (lua_istable(L, 3)) {
    seeds = read_values(L, b, 3, &n_s, "a gradient");
    if (n_s != n_y) fail(L, "%d cotangents for %d values", n_s, n_y);
  }
  pl_value *g = lua_newuserdata(L, (size_t)(r->n + 1) * sizeof *g);
  bool *reached = lua_newuserdata(L, (size_t)r->n + 1);
  if (!pl_region_vjp(r->region, n_y, y, seeds, g, reached, lua_toboolean(L, 4))) fail_engine(L, b);
  push_list(L, b, r->n, g);
  lua_createtable(L, r->n, 0);
  for (int k = 0; k < r->n; k++) {
    lua_pushboolean(L, reached[k]);
    lua_rawseti(L, -2, k + 1);
  }
  return 2;
}

/* region:jvp(y, tangents) -> tangents of y, false where they are zero */
static int region_jvp(lua_State *L) {
  binding *b = binding_of(L);
  region_data *r = check_region(L);
  int n_y, n_t;
  const pl_value *y = read_values(L, b, 2, &n_y, "a tangent"), *t = read_values(L, b, 3, &n_t, "a tangent");
  if (n_t != r->n) fail(L, "%d tangents for %d parameters", n_t, r->n);
  pl_value *dy = lua_newuserdata(L, (size_t)(n_y + 1) * sizeof *dy);
  if (!pl_region_jvp(r->region, n_y, y, t, dy)) fail_engine(L, b);
  push_list(L, b, n_y, dy);
  return 1;
}

/* core.pause(f, ...): f runs unrecorded and what it makes is the caller's */
static int pause_recording(lua_State *L) {
  binding *b = binding_of(L);
  luaL_checkany(L, 1);
  pl_pause(b->c);
  if (pl_error_status(b->c)) fail_engine(L, b);
  int status = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
  pl_resume(b->c);
  if (status) return lua_error(L);
  return lua_gettop(L);
}

static int recording(lua_State *L) {
  lua_pushboolean(L, pl_recording(binding_of(L)->c));
  return 1;
}

void open_derivatives(lua_State *L, binding *b, int core) {
  static const luaL_Reg functions[] = {
      {"open", open_region}, {"pause", pause_recording}, {"recording", recording}, {NULL, NULL}};
  register_functions(L, b, core, functions);
  static const luaL_Reg methods[] = {{"close", close_region}, {"vjp", region_vjp},   {"jvp", region_jvp},
                                     {"free", free_region},   {"__gc", free_region}, {NULL, NULL}};
  b->regions = new_metatable(L, b, methods);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}
