/* program.c: traces, programs and the ops that hold them, for the language's scan, while_loop, cond, checkpoint and
 * compile. The lists of tensors that go in and out are flat; trees are the language's. */
#include "binding.h"

#include <stdlib.h>
#include <string.h>

#include "solve/krylov.h"

typedef struct {
  binding *b;
  pl_trace *trace;
  bool closed;
} trace_data;

typedef struct {
  binding *b;
  pl_body *body;
} body_data;

static trace_data *check_trace(lua_State *L) {
  trace_data *t = check_object(L, 1, binding_of(L)->traces, "trace");
  if (!t->trace) fail(L, "this trace has ended");
  return t;
}

typedef struct {
  pl_body *body;
  pl_object *object;
  int n_in, n_out;
  int64_t instructions, values;
} program_info;

static program_info check_body(lua_State *L, int i) {
  body_data *d = check_object(L, i, binding_of(L)->programs, "program");
  program_info p = {.body = d->body, .object = pl_body_object(d->body)};
  pl_body_size(d->body, &p.n_in, &p.n_out, &p.instructions, &p.values);
  return p;
}

pl_body *program_at(lua_State *L, int i, int *n_in, int *n_out) {
  program_info p = check_body(L, i);
  *n_in = p.n_in;
  *n_out = p.n_out;
  return p.body;
}

int push_body(lua_State *L, binding *b, pl_body *body) {
  if (!body) fail_engine(L, b);
  body_data *d = lua_newuserdata(L, sizeof *d);
  *d = (body_data){b, body};
  lua_rawgeti(L, LUA_REGISTRYINDEX, b->programs);
  lua_setmetatable(L, -2);
  return 1;
}

pl_body *take_body(lua_State *L, int i) {
  pl_body *body = check_body(L, i).body;
  pl_body_retain(body);
  return body;
}

static int collect_body(lua_State *L) {
  body_data *d = check_object(L, 1, binding_of(L)->programs, "program");
  if (d->body && d->b->c) pl_body_release(d->body);
  d->body = NULL;
  return 0;
}

pl_value *read_tensors(lua_State *L, binding *b, int i, int *n, const char *what) {
  luaL_checktype(L, i, LUA_TTABLE);
  *n = (int)lua_objlen(L, i);
  if (*n > PL_MAX_INPUTS) fail(L, "%s: %d tensors; at most %d are possible", what, *n, PL_MAX_INPUTS);
  pl_value *v = lua_newuserdata(L, (size_t)(*n + 1) * sizeof *v);
  for (int k = 0; k < *n; k++) {
    lua_rawgeti(L, i, k + 1);
    v[k] = check_tensor(L, b, lua_gettop(L), what);
    lua_pop(L, 1);
  }
  return v;
}

int push_tensors(lua_State *L, binding *b, int n, const pl_value *v) {
  lua_createtable(L, n, 0);
  for (int k = 0; k < n; k++) {
    push_value(L, b, v[k]);
    lua_rawseti(L, -2, k + 1);
  }
  return 1;
}

/* program.open(models, rows) -> trace, inputs: shaped like the models; from model number rows + 1 on, like one entry of
 * their first axis */
static int open_trace(lua_State *L) {
  binding *b = binding_of(L);
  lua_settop(L, 2);
  int n;
  pl_value *models = read_tensors(L, b, 1, &n, "a traced function");
  int64_t whole = lua_isnoneornil(L, 2) ? n : check_integer(L, 2, "program.open");
  trace_data *t = lua_newuserdata(L, sizeof *t);
  *t = (trace_data){b, NULL, false};
  lua_rawgeti(L, LUA_REGISTRYINDEX, b->traces);
  lua_setmetatable(L, -2);
  pl_value *inputs = lua_newuserdata(L, (size_t)(n + 1) * sizeof *inputs);
  t->trace = pl_trace_like(b->c, n, models, (int)whole, inputs);
  if (!t->trace) fail_engine(L, b);
  lua_pushvalue(L, -2);
  push_tensors(L, b, n, inputs);
  return 2;
}

/* trace:close(outputs) -> program, captured tensors */
static int close_trace(lua_State *L) {
  binding *b = binding_of(L);
  trace_data *t = check_trace(L);
  if (t->closed) fail(L, "this trace has been closed");
  int n;
  const pl_value *out = read_tensors(L, b, 2, &n, "a traced function's result");
  mark_line(L, b);
  t->closed = true;
  push_body(L, b, pl_trace_end(b->c, t->trace, n, out));
  int m = pl_trace_captures(b->c, t->trace, NULL);
  pl_value *captured = lua_newuserdata(L, (size_t)(m + 1) * sizeof *captured);
  pl_trace_captures(b->c, t->trace, captured);
  if (pl_error_status(b->c)) fail_engine(L, b);
  lua_createtable(L, m, 0);
  for (int k = 0; k < m; k++) {
    push_handle(L, b, captured[k], false);
    lua_rawseti(L, -2, k + 1);
  }
  lua_remove(L, -2);
  return 2;
}

/* trace:integer(x) -> an i64 tensor that stands for x in the program, the number of its cell in the last captured
 * tensor */
static int trace_integer(lua_State *L) {
  binding *b = binding_of(L);
  trace_data *t = check_trace(L);
  int64_t cell, x = check_integer(L, 2, "a number of a trace");
  pl_value v = pl_trace_integer(b->c, t->trace, x, &cell);
  if (v == PL_NONE) fail_engine(L, b);
  push_handle(L, b, v, false);
  lua_pushnumber(L, (double)cell);
  return 2;
}

/* trace:set(cell, x), before the trace is closed */
static int trace_set(lua_State *L) {
  binding *b = binding_of(L);
  trace_data *t = check_trace(L);
  int64_t cell = check_integer(L, 2, "a number of a trace"), x = check_integer(L, 3, "a number of a trace");
  if (!pl_trace_set_integer(b->c, t->trace, cell, x)) fail_engine(L, b);
  return 0;
}

/* trace:drop(): the last input, which nothing has read, is none */
static int trace_drop(lua_State *L) {
  binding *b = binding_of(L);
  trace_data *t = check_trace(L);
  if (!pl_trace_drop(b->c, t->trace)) fail_engine(L, b);
  return 0;
}

static int free_trace(lua_State *L) {
  trace_data *t = check_object(L, 1, binding_of(L)->traces, "trace");
  if (t->trace && t->b->c) pl_trace_free(t->b->c, t->trace);
  t->trace = NULL;
  return 0;
}

/* Runs an op that holds programs; pushes the list of its results. */
static int run_control(lua_State *L, binding *b, const char *name, int n, const pl_value *in, const pl_attr *attrs) {
  const pl_op *op = pl_op_find(name);
  pl_value *out = lua_newuserdata(L, PL_MAX_OUTPUTS * sizeof *out);
  mark_line(L, b);
  if (!run_op(L, b, op, n, in, attrs, out)) fail_engine(L, b);
  return push_tensors(L, b, pl_op_count(op, attrs), out);
}

static void same_count(lua_State *L, int n, int want) {
  if (n != want) fail(L, "the program takes %d inputs, not %d", want, n);
}

/* program.call(program, inputs, save) */
static int call(lua_State *L) {
  binding *b = binding_of(L);
  lua_settop(L, 3);
  program_info body = check_body(L, 1);
  int n;
  const pl_value *in = read_tensors(L, b, 2, &n, "a program");
  same_count(L, n, body.n_in);
  return run_control(L, b, "call", n, in, (pl_attr[]){PL_OBJECT(body.object), PL_INT(lua_toboolean(L, 3) ? 1 : 0)});
}

enum { MOST_PATH = 4096 };
static const char *check_path(lua_State *L, int i) {
  size_t n;
  const char *path = lua_type(L, i) == LUA_TSTRING ? lua_tolstring(L, i, &n) : NULL;
  if (!path) fail(L, "the path of a file is a string, not %s", luaL_typename(L, i));
  if (n == 0 || strlen(path) != n) fail(L, "a path of a file has some characters, and no zero among them");
  return path;
}

/* program.scan(program, inputs, states, xs, length, checkpoints[, path]): with a path, segments of so many steps, whose
 * first states are on disk there */
static int scan(lua_State *L) {
  binding *b = binding_of(L);
  lua_settop(L, 7);
  program_info body = check_body(L, 1);
  int n;
  const pl_value *in = read_tensors(L, b, 2, &n, "scan");
  int64_t states = check_integer(L, 3, "scan"), xs = check_integer(L, 4, "scan"),
          length = check_integer(L, 5, "scan: the number of steps"),
          checkpoints = check_integer(L, 6, "scan: checkpoints");
  same_count(L, n, body.n_in);
  if (states < 0 || xs < 0 || states + xs > n || states > body.n_out || length < 0 || checkpoints < 0)
    fail(L, "scan: %lld steps of a program with %d inputs", (long long)length, n);
  int64_t layout[] = {states, xs, body.n_out - states, length, 0, 0}, schedule[1 + MOST_PATH] = {checkpoints};
  const char *path = checkpoints && !lua_isnoneornil(L, 7) ? check_path(L, 7) : "";
  int bytes = (int)strlen(path);
  if (bytes > MOST_PATH) fail(L, "scan: a path of %d bytes; at most %d are possible", bytes, MOST_PATH);
  for (int k = 0; k < bytes; k++) schedule[1 + k] = (unsigned char)path[k];
  pl_attr attrs[] = {PL_OBJECT(body.object), PL_INTS(6, layout), PL_INTS(checkpoints ? 1 + bytes : 0, schedule)};
  return run_control(L, b, "scan", n, in, attrs);
}

/* program.loop(condition, program, inputs, states, captured by the condition, most, memory) */
static int loop(lua_State *L) {
  binding *b = binding_of(L);
  lua_settop(L, 7);
  program_info cond = check_body(L, 1), body = check_body(L, 2);
  int n;
  const pl_value *in = read_tensors(L, b, 3, &n, "while_loop");
  int64_t layout[] = {check_integer(L, 4, "while_loop"), check_integer(L, 5, "while_loop"),
                      check_integer(L, 6, "while_loop: iterations"), check_integer(L, 7, "while_loop: memory")};
  if (layout[0] < 0 || layout[1] < 0 || layout[0] + layout[1] != cond.n_in || cond.n_out != 1 ||
      body.n_out != layout[0] || body.n_in < layout[0])
    fail(L, "while_loop: the condition and the step take different states");
  same_count(L, n, body.n_in + (int)layout[1]);
  pl_attr attrs[] = {PL_OBJECT(cond.object), PL_OBJECT(body.object), PL_INTS(4, layout)};
  return run_control(L, b, "while", n, in, attrs);
}

/* program.cond(yes, no, inputs) */
static int cond(lua_State *L) {
  binding *b = binding_of(L);
  lua_settop(L, 3);
  program_info yes = check_body(L, 1), no = check_body(L, 2);
  int n;
  const pl_value *in = read_tensors(L, b, 3, &n, "cond");
  if (yes.n_out != no.n_out) fail(L, "cond: the branches return %d and %d values", yes.n_out, no.n_out);
  same_count(L, n, 1 + yes.n_in + no.n_in);
  return run_control(L, b, "cond", n, in, (pl_attr[]){PL_OBJECT(yes.object), PL_OBJECT(no.object)});
}

/* program.krylov(apply, theta, transpose, precondition, phi, b, start, options) -> x, iterations, residual, converged[,
 * history]; apply, transpose and precondition are programs, the last two may be nil, start too. The options are
 * complete. */
static int krylov(lua_State *L) {
  binding *b = binding_of(L);
  lua_settop(L, 8);
  pl_krylov_system s = {.apply = check_body(L, 1).body};
  if (!lua_isnil(L, 3)) s.transpose = check_body(L, 3).body;
  if (!lua_isnil(L, 4)) s.precondition = check_body(L, 4).body;
  s.theta = read_tensors(L, b, 2, &s.n_theta, "solve");
  s.phi = read_tensors(L, b, 5, &s.n_phi, "solve");
  pl_value rhs = check_tensor(L, b, 6, "solve"), start = PL_NONE;
  if (!lua_isnil(L, 7)) start = check_tensor(L, b, 7, "solve");
  pl_krylov_options o = pl_krylov_defaults();
  static const char *const methods[] = {"cg", "minres", "gmres", "bicgstab", NULL};
  const char *const fields[] = {"iterations", "restart", "rtol", "atol"};
  double numbers[] = {(double)o.iterations, (double)o.restart, o.rtol, o.atol};
  for (int k = 0; k < 4; k++) {
    lua_getfield(L, 8, fields[k]);
    numbers[k] = luaL_optnumber(L, -1, numbers[k]);
  }
  lua_getfield(L, 8, "method");
  o.method = (pl_krylov_method)luaL_checkoption(L, lua_gettop(L), NULL, methods);
  lua_getfield(L, 8, "check");
  o.check = lua_isnil(L, -1) || lua_toboolean(L, -1);
  lua_getfield(L, 8, "history");
  o.history = lua_toboolean(L, -1);
  o.iterations = (int64_t)numbers[0];
  o.restart = (int64_t)numbers[1];
  o.rtol = numbers[2];
  o.atol = numbers[3];
  pl_value out[5];
  mark_line(L, b);
  if (!pl_krylov(b->c, &s, rhs, start, &o, out)) fail_engine(L, b);
  return push_tensors(L, b, o.history ? 5 : 4, out);
}

static const uint8_t *read_flags(lua_State *L, int i, int n) {
  luaL_checktype(L, i, LUA_TTABLE);
  uint8_t *flags = lua_newuserdata(L, (size_t)n + 1);
  for (int k = 0; k < n; k++) {
    lua_rawgeti(L, i, k + 1);
    flags[k] = (uint8_t)lua_toboolean(L, -1);
    lua_pop(L, 1);
  }
  return flags;
}

/* program:gradient(needed) -> program, reached */
static int gradient(lua_State *L) {
  binding *b = binding_of(L);
  program_info body = check_body(L, 1);
  const uint8_t *need = read_flags(L, 2, body.n_in);
  uint8_t *reached = lua_newuserdata(L, (size_t)body.n_in + 1);
  push_body(L, b, pl_body_with_gradient(b->c, body.body, need, reached));
  lua_createtable(L, body.n_in, 0);
  for (int k = 0; k < body.n_in; k++) {
    lua_pushboolean(L, reached[k]);
    lua_rawseti(L, -2, k + 1);
  }
  return 2;
}

/* program:pushforward(active) -> program */
static int pushforward(lua_State *L) {
  binding *b = binding_of(L);
  program_info body = check_body(L, 1);
  const uint8_t *active = read_flags(L, 2, body.n_in);
  return push_body(L, b, pl_body_with_tangents(b->c, body.body, active));
}

/* program:transpose() -> program: of a linear one, in its first input */
static int transpose(lua_State *L) {
  binding *b = binding_of(L);
  return push_body(L, b, pl_body_transpose(b->c, check_body(L, 1).body));
}

/* program:map(n, k) -> program: over n entries, which its first k inputs and its results have along a new first axis */
static int map(lua_State *L) {
  binding *b = binding_of(L);
  program_info body = check_body(L, 1);
  int64_t n = check_integer(L, 2, "map"), k = check_integer(L, 3, "map");
  if (k < 0 || k > body.n_in) fail(L, "map: the program has %d inputs, not %lld", body.n_in, (long long)k);
  uint8_t *flags = lua_newuserdata(L, (size_t)body.n_in + 1);
  for (int i = 0; i < body.n_in; i++) flags[i] = i < k;
  return push_body(L, b, pl_body_mapped(b->c, body.body, n, flags));
}

/* program:inline(inputs) -> results: its instructions one by one, here and now */
static int inline_body(lua_State *L) {
  binding *b = binding_of(L);
  program_info body = check_body(L, 1);
  int n;
  const pl_value *in = read_tensors(L, b, 2, &n, "a program");
  same_count(L, n, body.n_in);
  pl_value *values = lua_newuserdata(L, ((size_t)body.values + 1) * sizeof *values);
  pl_value *out = lua_newuserdata(L, ((size_t)body.n_out + 1) * sizeof *out);
  bool alone = pl_owns(b->c);
  if (alone) pl_scope_begin(b->c);
  bool ok = pl_body_inline(b->c, body.body, in, values, out);
  for (int k = 0; ok && alone && k < body.n_out; k++) pl_retain(b->c, out[k]);
  if (alone) pl_scope_end(b->c);
  if (!ok) fail_engine(L, b);
  return push_tensors(L, b, body.n_out, out);
}

/* program:size() -> inputs, results, instructions */
static int body_size(lua_State *L) {
  program_info p = check_body(L, 1);
  lua_pushnumber(L, p.n_in);
  lua_pushnumber(L, p.n_out);
  lua_pushnumber(L, (double)p.instructions);
  return 3;
}

/* program:text() */
static int program_text(lua_State *L) {
  binding *b = binding_of(L);
  char *text = pl_body_text(b->c, check_body(L, 1).body);
  if (!text) fail_engine(L, b);
  lua_pushstring(L, text);
  pl_text_free(b->c, text);
  return 1;
}

static int continue_run(lua_State *L) {
  binding *b = binding_of(L);
  pl_value *out = lua_newuserdata(L, PL_MAX_OUTPUTS * sizeof *out);
  int n = pl_continue(b->c, PL_MAX_OUTPUTS, out);
  if (n < 0) fail_engine(L, b);
  return push_tensors(L, b, n, out);
}

static int suspended(lua_State *L) { return lua_pushnumber(L, (double)pl_suspended(binding_of(L)->c)), 1; }

static int interrupt(lua_State *L) { /* as Ctrl-C does, for tests */
  pl_interrupt(binding_of(L)->c);
  return 0;
}
static int tracing(lua_State *L) { return lua_pushboolean(L, pl_tracing(binding_of(L)->c)), 1; }
static int split(lua_State *L) {
  lua_pushnumber(L, (double)pl_checkpoint_split(check_integer(L, 1, "steps"), check_integer(L, 2, "checkpoints")));
  return 1;
}

/* program.plain(flag, check): programs run instruction by instruction; and the first NaN is an error */
static int set_plain(lua_State *L) {
  pl_set_plain(binding_of(L)->c, lua_toboolean(L, 1), lua_toboolean(L, 2));
  return 0;
}

/* program:save(path, captured, text): the captured tensors are its last inputs */
static int save_body(lua_State *L) {
  binding *b = binding_of(L);
  lua_settop(L, 4);
  program_info body = check_body(L, 1);
  const char *path = check_path(L, 2);
  int n;
  const pl_value *captured = read_tensors(L, b, 3, &n, "a program's captured values");
  size_t length = 0;
  const char *text = lua_isnoneornil(L, 4) ? "" : luaL_checklstring(L, 4, &length);
  if (!pl_body_save(b->c, body.body, n, captured, text, length, path)) fail_engine(L, b);
  return 0;
}

/* program.load(path) -> program, captured, text */
static int load_body(lua_State *L) {
  binding *b = binding_of(L);
  const char *path = check_path(L, 1);
  pl_value *captured = lua_newuserdata(L, PL_MAX_INPUTS * sizeof *captured);
  int n;
  char *text;
  size_t length;
  pl_body *body = pl_body_load(b->c, path, PL_MAX_INPUTS, captured, &n, &text, &length);
  push_body(L, b, body);
  lua_createtable(L, n, 0);
  for (int k = 0; k < n; k++) {
    push_handle(L, b, captured[k], true);
    lua_rawseti(L, -2, k + 1);
  }
  lua_pushlstring(L, text, length);
  free(text);
  return 3;
}

static int body_text(lua_State *L) {
  program_info b = check_body(L, 1);
  lua_pushfstring(L, "program of %d instructions, %d inputs, %d results", (int)b.instructions, b.n_in, b.n_out);
  return 1;
}
static int same_body(lua_State *L) { return lua_pushboolean(L, check_body(L, 1).body == check_body(L, 2).body), 1; }

void open_programs(lua_State *L, binding *b, int core) {
  static const luaL_Reg traces[] = {
      {"close", close_trace}, {"integer", trace_integer}, {"set", trace_set}, {"drop", trace_drop},
      {"free", free_trace},   {"__gc", free_trace},       {NULL, NULL}};
  static const luaL_Reg bodies[] = {{"gradient", gradient},
                                    {"pushforward", pushforward},
                                    {"inline", inline_body},
                                    {"text", program_text},
                                    {"save", save_body},
                                    {"size", body_size},
                                    {"map", map},
                                    {"transpose", transpose},
                                    {"__gc", collect_body},
                                    {"__tostring", body_text},
                                    {"__eq", same_body},
                                    {NULL, NULL}};
  const luaL_Reg *lists[] = {traces, bodies};
  int *refs[] = {&b->traces, &b->programs};
  for (int i = 0; i < 2; i++) {
    *refs[i] = new_metatable(L, b, lists[i]);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
  }
  static const luaL_Reg functions[] = {{"open", open_trace},
                                       {"call", call},
                                       {"scan", scan},
                                       {"loop", loop},
                                       {"cond", cond},
                                       {"krylov", krylov},
                                       {"continue", continue_run},
                                       {"suspended", suspended},
                                       {"tracing", tracing},
                                       {"interrupt", interrupt},
                                       {"plain", set_plain},
                                       {"split", split},
                                       {"load", load_body},
                                       {NULL, NULL}};
  lua_newtable(L);
  register_functions(L, b, lua_gettop(L), functions);
  open_compiled(L, b, lua_gettop(L));
  open_nonlinear(L, b, lua_gettop(L));
  lua_setfield(L, core, "program");
}
