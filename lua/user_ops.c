/* user_ops.c: ops whose rules are Lua functions (pl.op), ops from C files (pl.load_op), and pointers to tensors' data.
 *
 * Rules run on the Lua thread that called into the engine (b->L), which may be a coroutine: LuaJIT loses track of the
 * running thread when C code calls into another one. */
#include "binding.h"

#include <stdio.h>
#include <string.h>

#include "user_op.h"

/* The rules of one op: a table in the registry. */
typedef struct {
  binding *b;
  int rules;
} lua_rules;

typedef struct {
  const pl_rule *rule;
  const char *name; /* of the function in the table */
  const pl_value *in;
  pl_value *out;
  const pl_info *from; /* of the shape rule */
  pl_info *to;
  bool zeros; /* nil and false stand for zero */
} request;

static void push_rule(lua_State *T, const lua_rules *u, const char *name) {
  luaL_checkstack(T, PL_USER_INPUTS + PL_USER_OUTPUTS + 80, "too many tensors");
  lua_rawgeti(T, LUA_REGISTRYINDEX, u->rules);
  lua_getfield(T, -1, name);
  lua_remove(T, -2);
}

static int extra_results(lua_State *T, int n, const request *q, const char *of) {
  fail(T, "%s returns %d results; %d %s expected%s", q->name, n, q->rule->n_out, q->rule->n_out == 1 ? "is" : "are",
       of);
}

/* Runs a tensor rule; what it returned is converted and held. */
static int answer(lua_State *T) {
  request *q = lua_touserdata(T, 1);
  const lua_rules *u = q->rule->data;
  binding *b = u->b;
  lua_settop(T, 0);
  push_rule(T, u, q->name);
  for (int i = 0; i < q->rule->n_in; i++) push_handle(T, b, q->in[i], false);
  lua_call(T, q->rule->n_in, LUA_MULTRET);
  int n = lua_gettop(T), want = q->rule->n_out;
  if (n > want || (n < want && !q->zeros)) extra_results(T, n, q, q->zeros ? ", one for each argument" : "");
  lua_settop(T, want);
  pl_value v[PL_USER_INPUTS + PL_USER_OUTPUTS];
  bool cast[PL_USER_INPUTS + PL_USER_OUTPUTS];
  for (int k = 0; k < want; k++) {
    v[k] = PL_ZERO;
    if (q->zeros && !lua_toboolean(T, k + 1)) continue;
    char what[64];
    snprintf(what, sizeof what, "the results of %s", q->name);
    cast[k] = !to_tensor(T, k + 1);
    v[k] = check_value(T, b, k + 1, q->rule->expected[k].dtype, what);
  }
  for (int k = 0; k < want; k++) { /* from here on nothing raises an error */
    q->out[k] = v[k];
    pl_dtype dtype = q->rule->expected[k].dtype;
    if (v[k] == PL_ZERO) continue;
    if (cast[k] &&
        pl_dtype_of(b->c, v[k]) != (int)dtype) { /* a buffer is f64: a tensor's dtype is as the rule made it */
      q->out[k] = pl_apply1(b->c, pl_op_find("cast"), 1, &v[k], &PL_INT(dtype));
      if (pl_owns(b->c)) continue;
    }
    pl_retain(b->c, q->out[k]);
  }
  return 0;
}

static void push_shape_of(lua_State *T, const pl_info *info) {
  lua_createtable(T, info->rank, 1);
  for (int a = 0; a < info->rank; a++) {
    lua_pushnumber(T, (double)info->shape[a]);
    lua_rawseti(T, -2, a + 1);
  }
  lua_pushstring(T, pl_dtype_name(info->dtype));
  lua_setfield(T, -2, "dtype");
}

static int answer_shape(lua_State *T) {
  request *q = lua_touserdata(T, 1);
  const lua_rules *u = q->rule->data;
  lua_settop(T, 0);
  push_rule(T, u, q->name);
  for (int i = 0; i < q->rule->n_in; i++) push_shape_of(T, &q->from[i]);
  lua_call(T, q->rule->n_in, LUA_MULTRET);
  int n = lua_gettop(T);
  if (n != q->rule->n_out) extra_results(T, n, q, ", a list of sizes for each output");
  for (int k = 1; k <= n; k++) {
    pl_info *to = &q->to[k - 1];
    if (!lua_istable(T, k)) fail(T, "shape must return lists of sizes, not %s", luaL_typename(T, k));
    to->rank = (int)lua_objlen(T, k);
    if (to->rank > PL_MAX_RANK) fail(T, "shape returns %d sizes; at most %d are possible", to->rank, PL_MAX_RANK);
    for (int a = 0; a < to->rank; a++) {
      lua_rawgeti(T, k, a + 1);
      double size = lua_tonumber(T, -1);
      if (lua_type(T, -1) != LUA_TNUMBER || !(size >= 0 && size <= INT32_MAX) || size != (double)(int64_t)size)
        fail(T, "shape: size %d is no whole number from 0 to 2^31 - 1", a + 1);
      to->shape[a] = (int64_t)size;
      lua_pop(T, 1);
    }
    lua_getfield(T, k, "dtype");
    if (!lua_isnil(T, -1)) to->dtype = check_dtype(T, lua_gettop(T));
    lua_pop(T, 1);
  }
  return 0;
}

/* Lua's errors become the context's: the message with its line, the status of the engine's error behind it. */
static bool ask(lua_CFunction f, request *q) {
  const lua_rules *u = q->rule->data;
  binding *b = u->b;
  lua_State *T = b->L;
  if (!lua_checkstack(T, 8)) return false;
  int top = lua_gettop(T);
  b->failed = PL_OK;
  int status = lua_cpcall(T, f, q);
  b->L = T;
  if (status) {
    const char *text = lua_tostring(T, -1);
    char other[64];
    snprintf(other, sizeof other, "(error object is a %s)", luaL_typename(T, -1));
    if (b->failed == PL_ERROR_INTERRUPT) pl_error(b->c, PL_ERROR_INTERRUPT, "interrupted!");
    if (b->failed && !strncmp(b->message, "op ", 3)) /* of an op within this one: said once is enough */
      pl_error(b->c, b->failed, "%s", b->message);
    else
      pl_error(b->c, b->failed ? b->failed : PL_ERROR_ARGUMENT, "op %s: %s", pl_op_name(q->rule->op),
               text ? text : other);
  }
  lua_settop(T, top);
  return status == 0 && pl_error_status(b->c) == PL_OK;
}

static bool forward(const pl_rule *r, const pl_value *in, pl_value *out) {
  return ask(answer, &(request){.rule = r, .name = "forward", .in = in, .out = out});
}
static bool vjp(const pl_rule *r, const pl_value *in, pl_value *out) {
  return ask(answer, &(request){.rule = r, .name = "vjp", .in = in, .out = out, .zeros = true});
}
static bool jvp(const pl_rule *r, const pl_value *in, pl_value *out) {
  return ask(answer, &(request){.rule = r, .name = "jvp", .in = in, .out = out, .zeros = true});
}
static bool shape(const pl_rule *r, const pl_info *in, pl_info *out) {
  return ask(answer_shape, &(request){.rule = r, .name = "shape", .from = in, .to = out});
}

static bool has_rule(lua_State *L, const char *name) {
  lua_getfield(L, 4, name);
  bool has = lua_isfunction(L, -1);
  lua_pop(L, 1);
  return has;
}

/* user_ops.define(name, inputs, outputs, {forward =, vjp =, jvp =, shape =}) -> function. The table is kept as long as
 * the context lives: so do the rows that call its functions. */
static int define(lua_State *L) {
  binding *b = binding_of(L);
  lua_settop(L, 4);
  pl_op_definition d = {.name = luaL_checkstring(L, 1)};
  int64_t inputs = check_integer(L, 2, "op: inputs"), outputs = check_integer(L, 3, "op: outputs");
  luaL_checktype(L, 4, LUA_TTABLE);
  d.inputs = inputs < 0 || inputs > 1000 ? 0 : (int)inputs;
  d.outputs = outputs < 0 || outputs > 1000 ? 0 : (int)outputs;
  d.forward = has_rule(L, "forward") ? forward : NULL;
  d.vjp = has_rule(L, "vjp") ? vjp : NULL;
  d.jvp = has_rule(L, "jvp") ? jvp : NULL;
  d.shape = has_rule(L, "shape") ? shape : NULL;
  lua_rules *u = lua_newuserdata(L, sizeof *u);
  lua_pushvalue(L, 4);
  *u = (lua_rules){b, luaL_ref(L, LUA_REGISTRYINDEX)};
  d.data = u;
  const pl_op *op = pl_op_define(b->c, &d);
  if (!op) {
    luaL_unref(L, LUA_REGISTRYINDEX, u->rules);
    fail_engine(L, b);
  }
  luaL_ref(L, LUA_REGISTRYINDEX);
  push_op_function(L, b, op);
  return 1;
}

/* user_ops.load(path) -> function, name, identity */
static int load(lua_State *L) {
  binding *b = binding_of(L);
  const pl_op *op = pl_op_load(b->c, luaL_checkstring(L, 1));
  if (!op) fail_engine(L, b);
  push_op_function(L, b, op);
  lua_pushstring(L, pl_op_name(op));
  lua_pushstring(L, pl_op_identity(b->c, op));
  return 3;
}

/* x:pointer() for ffi.cast("const double *", x:pointer()): valid as long as x; x does not change, so it must not be
 * written */
static int pointer(lua_State *L) {
  binding *b = binding_of(L);
  const void *p = pl_data(b->c, check_tensor(L, b, 1, "pointer"));
  if (!p) fail_engine(L, b);
  return lua_pushlightuserdata(L, (void *)p), 1;
}

void open_user_ops(lua_State *L, binding *b, int core) {
  lua_newtable(L);
  register_functions(L, b, lua_gettop(L), (const luaL_Reg[]){{"define", define}, {"load", load}, {NULL, NULL}});
  lua_setfield(L, core, "user_ops");
  lua_rawgeti(L, LUA_REGISTRYINDEX, b->methods);
  register_functions(L, b, lua_gettop(L), (const luaL_Reg[]){{"pointer", pointer}, {NULL, NULL}});
  lua_pop(L, 1);
}
