/* compiled.c: compiled functions: a Lua function with the programs it was traced to, one for each signature (the trees
 * of arguments, their shapes and dtypes) and for each set of numbers, tensors and functions among its upvalues. A call
 * that finds its program does nothing else in Lua: arguments are matched, the program runs, results are built, here. */
#include "binding.h"

#include <stdlib.h>
#include <string.h>

/* A tree flattened in the order of tree.leaves (lists, then names sorted bytewise); keys stand in a table in the order
 * in which they are met. */
typedef enum { LEAF_TENSOR, LEAF_NUMBER, STATIC, TABLE, MODULE } node_kind;
typedef struct {
  uint8_t kind, dtype, rank;
  int32_t n; /* TABLE, MODULE: children; a module's metatable and model stand before its keys */
  int32_t shape[PL_MAX_RANK];
} node;

typedef struct {
  node *list;
  int n, capacity, leaves, keys;
} form;

typedef struct {
  pl_body *body;
  uint8_t *need; /* which inputs: the leaves of argument wrt */
  int wrt, first, n;
  bool *reached;
} gradient_program;

typedef struct entry {
  struct entry *next;
  form arguments, results; /* results: of all of them, one after the other */
  int n_args, n_results, n_captured, n_upvalues;
  int keys; /* registry: keys of arguments, keys of results, then function, index, value of each upvalue looked at */
  pl_value *captured;
  pl_body *body;
  gradient_program *gradients;
  int n_gradients;
  bool draws;             /* from random streams that the function captured */
  int32_t *cells;         /* their positions, in the vector of numbers that is captured last */
  int n_cells, positions; /* registry: the key under which the function stands that says what they are in this call */
  int32_t *spans;         /* of arguments, then of results: nodes, leaves and keys before each */
} entry;

typedef struct {
  binding *b;
  entry *entries;
} compiled_data;

enum { MOST_LEAVES = PL_MAX_INPUTS, DEEPEST = 100 };

static compiled_data *check_compiled(lua_State *L, int i) {
  return check_object(L, i, binding_of(L)->compiled, "compiled function");
}

/* ---- forms ---- */

static node *add_node(lua_State *L, form *f) {
  if (f->n == f->capacity) {
    int capacity = 2 * f->capacity + 16;
    node *grown = realloc(f->list, (size_t)capacity * sizeof *grown);
    if (!grown) fail(L, "out of memory for a compiled function's arguments");
    f->list = grown;
    f->capacity = capacity;
  }
  node *q = &f->list[f->n++];
  memset(q, 0, sizeof *q);
  return q;
}

static void add_key(lua_State *L, form *f, int keys, int offset) { /* pops it */
  lua_rawseti(L, keys, offset + ++f->keys);
}

static int compare_names(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Is the child at the top of the stack a parameter's place? Of a module only tensors and modules are. */
static bool takes_part(lua_State *L, bool module, bool named) {
  if (!module || to_tensor(L, -1)) return true;
  if (!lua_istable(L, -1)) return false;
  if (!named) return true;
  if (!lua_getmetatable(L, -1)) return false;
  lua_pop(L, 1);
  return true;
}

static void read_form(lua_State *L, binding *b, int i, form *f, int keys, int offset, int depth) {
  luaL_checkstack(L, 8, "nested tables");
  tensor_data *t = to_tensor(L, i);
  if (t) {
    pl_info info;
    if (!pl_describe(b->c, t->handle, &info)) fail_engine(L, b);
    if (info.resource) fail(L, "a compiled function takes tensors and numbers, not matrix factors: make them inside");
    node *q = add_node(L, f);
    q->kind = LEAF_TENSOR;
    q->dtype = (uint8_t)info.dtype;
    q->rank = (uint8_t)info.rank;
    for (int a = 0; a < info.rank; a++) q->shape[a] = (int32_t)info.shape[a];
    f->leaves++;
  } else if (lua_type(L, i) == LUA_TNUMBER) {
    add_node(L, f)->kind = LEAF_NUMBER;
    f->leaves++;
  } else if (lua_istable(L, i)) {
    if (depth == DEEPEST) fail(L, "the argument contains itself, or is nested more than %d deep", DEEPEST);
    bool module = lua_getmetatable(L, i);
    int at = f->n;
    add_node(L, f)->kind = module ? MODULE : TABLE;
    if (module) {
      add_key(L, f, keys, offset);
      lua_pushvalue(L, i);
      add_key(L, f, keys, offset);
    }
    int n = (int)lua_objlen(L, i), children = 0, names = 0;
    for (int k = 1; k <= n; k++) {
      lua_rawgeti(L, i, k);
      if (takes_part(L, module, false)) {
        lua_pushnumber(L, k);
        add_key(L, f, keys, offset);
        read_form(L, b, lua_gettop(L), f, keys, offset, depth + 1);
        children++;
      }
      lua_pop(L, 1);
    }
    for (lua_pushnil(L); lua_next(L, i); lua_pop(L, 1))
      if (lua_type(L, -2) == LUA_TSTRING) names += takes_part(L, module, true);
      else if (!module && (lua_type(L, -2) != LUA_TNUMBER || lua_tonumber(L, -2) < 1 || lua_tonumber(L, -2) > n ||
                           lua_tonumber(L, -2) != (double)(int)lua_tonumber(L, -2)))
        fail(L, "the tree has a hole or a strange key (%s): keys are positions and names", luaL_typename(L, -2));
    const char **sorted = lua_newuserdata(L, ((size_t)names + 1) * sizeof *sorted);
    names = 0;
    for (lua_pushnil(L); lua_next(L, i); lua_pop(L, 1))
      if (lua_type(L, -2) == LUA_TSTRING && takes_part(L, module, true)) sorted[names++] = lua_tostring(L, -2);
    qsort(sorted, (size_t)names, sizeof *sorted, compare_names);
    for (int k = 0; k < names; k++) {
      lua_pushstring(L, sorted[k]);
      lua_pushvalue(L, -1);
      lua_rawget(L, i);
      lua_insert(L, -2);
      add_key(L, f, keys, offset);
      read_form(L, b, lua_gettop(L), f, keys, offset, depth + 1);
      lua_pop(L, 1);
    }
    lua_pop(L, 1);
    f->list[at].n = children + names;
  } else {
    add_node(L, f)->kind = STATIC;
    lua_pushvalue(L, i);
    if (lua_isnil(L, -1)) {
      lua_pop(L, 1);
      lua_pushlightuserdata(L, NULL);
    }
    add_key(L, f, keys, offset);
  }
  if (f->leaves > MOST_LEAVES) fail(L, "more than %d tensors in a compiled function's arguments", MOST_LEAVES);
}

/* The leaves of a call's arguments: handles, or PL_NONE for a number, which stands in `number`. */
typedef struct {
  pl_value handle[2 * PL_MAX_INPUTS];
  double number[MOST_LEAVES];
  int n;
} leaves_;

typedef struct {
  lua_State *L;
  binding *b;
  int keys, key;
  const node *at;
  leaves_ *leaves;
  int n;
} matcher;

/* Do two modules agree in what is no parameter of theirs: names of functions, sizes and the like? */
static bool same_fields(lua_State *L, int one, int other) {
  int balance = 0;
  for (lua_pushnil(L); lua_next(L, one);) {
    if (!takes_part(L, true, lua_type(L, -2) == LUA_TSTRING)) {
      lua_pushvalue(L, -2);
      lua_rawget(L, other);
      if (!lua_rawequal(L, -1, -2)) return false;
      lua_pop(L, 1);
      balance++;
    }
    lua_pop(L, 1);
  }
  for (lua_pushnil(L); lua_next(L, other); lua_pop(L, 1))
    if (!takes_part(L, true, lua_type(L, -2) == LUA_TSTRING)) balance--;
  return balance == 0;
}

/* Does the value at index i have the form? Its leaves are collected. Where it does not, things stay on the stack. */
static bool match(matcher *m, int i) {
  lua_State *L = m->L;
  const node *q = m->at++;
  switch (q->kind) {
    case LEAF_TENSOR: {
      tensor_data *t = to_tensor(L, i);
      pl_info info;
      if (!t) return false;
      if (!pl_describe(m->b->c, t->handle, &info)) return false;
      if (info.dtype != (pl_dtype)q->dtype || info.rank != q->rank || info.resource) return false;
      for (int a = 0; a < q->rank; a++)
        if (info.shape[a] != q->shape[a]) return false;
      m->leaves->handle[m->n++] = t->handle;
      return true;
    }
    case LEAF_NUMBER:
      if (lua_type(L, i) != LUA_TNUMBER) return false;
      m->leaves->handle[m->n] = PL_NONE;
      m->leaves->number[m->n++] = lua_tonumber(L, i);
      return true;
    case STATIC: {
      lua_rawgeti(L, m->keys, ++m->key);
      bool same =
          lua_isnoneornil(L, i) ? lua_touserdata(L, -1) == NULL && lua_islightuserdata(L, -1) : lua_rawequal(L, i, -1);
      lua_pop(L, 1);
      return same;
    }
    default: {
      if (!lua_istable(L, i)) return false;
      bool has_meta = lua_getmetatable(L, i);
      if (has_meta != (q->kind == MODULE)) {
        if (has_meta) lua_pop(L, 1);
        return false;
      }
      if (has_meta) {
        lua_rawgeti(L, m->keys, m->key + 1);
        bool same = lua_rawequal(L, -1, -2);
        lua_pop(L, 2);
        luaL_checkstack(L, 8, "nested tables");
        lua_rawgeti(L, m->keys, m->key + 2);
        if (!same || !same_fields(L, lua_gettop(L), i)) return false;
        lua_pop(L, 1);
        m->key += 2;
      } else {
        int n = 0;
        for (lua_pushnil(L); lua_next(L, i); lua_pop(L, 1)) n++;
        if (n != q->n) return false;
      }
      luaL_checkstack(L, 6, "nested tables");
      for (int k = 0; k < q->n; k++) {
        lua_rawgeti(L, m->keys, ++m->key);
        lua_rawget(L, i);
        if (!match(m, m->at->kind <= LEAF_NUMBER ? -1 : lua_gettop(L))) return false;
        lua_pop(L, 1);
      }
      return true;
    }
  }
}

/* Pushes a tree of a form. numbers (may be NULL): where a number went in, a number comes out: that of its value, which
 * is released, or, without one, of `numbers`, 8 apart. There a tensor without a value becomes its number of `numbers`
 * too. */
static void push_form(lua_State *L, binding *b, const node **at, int keys, int *key, const pl_value **v,
                      const double **numbers) {
  const node *q = (*at)++;
  switch (q->kind) {
    case LEAF_NUMBER:
      if (numbers) {
        if (*(*v)++ == PL_NONE) {
          lua_pushnumber(L, **numbers);
        } else {
          pl_value x = (*v)[-1];
          lua_pushnumber(L, pl_item(b->c, x));
          pl_release(b->c, x);
        }
        *numbers += 8;
        return;
      } /* fall through */
    case LEAF_TENSOR:
      if (numbers && **v == PL_NONE) lua_pushnumber(L, **numbers);
      else push_value(L, b, **v);
      ++*v;
      if (numbers) *numbers += 8;
      return;
    case STATIC:
      lua_rawgeti(L, keys, ++*key);
      if (lua_islightuserdata(L, -1) && lua_touserdata(L, -1) == NULL) {
        lua_pop(L, 1);
        lua_pushnil(L);
      }
      return;
    default: {
      luaL_checkstack(L, 10, "nested tables");
      lua_createtable(L, 0, q->n);
      if (q->kind == MODULE) {
        lua_rawgeti(L, keys, *key + 2);
        for (lua_pushnil(L); lua_next(L, -2);) {
          lua_pushvalue(L, -2);
          lua_insert(L, -2);
          lua_rawset(L, -5);
        }
        lua_pop(L, 1);
        lua_rawgeti(L, keys, *key + 1);
        lua_setmetatable(L, -2);
        *key += 2;
      }
      for (int k = 0; k < q->n; k++) {
        lua_rawgeti(L, keys, ++*key);
        push_form(L, b, at, keys, key, v, numbers);
        lua_rawset(L, -3);
      }
    }
  }
}

/* Replaces the number at the top by a tensor. */
static pl_value check_scalar(lua_State *L, binding *b) {
  double x = lua_tonumber(L, -1);
  lua_pop(L, 1);
  luaL_checkstack(L, 4, "too many arguments");
  push_value(L, b, pl_scalar(b->c, PL_F64, x));
  return to_tensor(L, -1)->handle;
}

/* ---- entries ---- */

static void free_entry(lua_State *L, binding *b, entry *e) {
  if (b->c) {
    for (int i = 0; i < e->n_captured; i++) pl_release(b->c, e->captured[i]);
    for (int i = 0; i < e->n_gradients; i++) pl_body_release(e->gradients[i].body);
    if (e->body) pl_body_release(e->body);
  }
  for (int i = 0; i < e->n_gradients; i++) {
    free(e->gradients[i].need);
    free(e->gradients[i].reached);
  }
  luaL_unref(L, LUA_REGISTRYINDEX, e->keys);
  free(e->gradients);
  free(e->arguments.list);
  free(e->results.list);
  free(e->captured);
  free(e->cells);
  free(e->spans);
  free(e);
}

/* Are upvalues (function, index) and globals (environment, name) what they were when the entry was traced? */
static bool upvalues_same(lua_State *L, const entry *e, int keys) {
  int base = e->arguments.keys + e->results.keys, top = lua_gettop(L);
  bool same = true;
  for (int i = 0; i < e->n_upvalues && same; i++) {
    lua_rawgeti(L, keys, base + 3 * i + 1);
    lua_rawgeti(L, keys, base + 3 * i + 2);
    if (lua_istable(L, -2)) lua_rawget(L, -2);
    else if (!lua_getupvalue(L, -2, (int)lua_tointeger(L, -1))) same = false;
    lua_rawgeti(L, keys, base + 3 * i + 3);
    same = same && lua_rawequal(L, -1, -2);
    lua_settop(L, top);
  }
  return same;
}

/* What was captured may have gone (a value of a recording that ended), or been written (a buffer). */
static bool captured_alive(binding *b, const entry *e) {
  for (int i = 0; i < e->n_captured; i++)
    if (!pl_fresh(b->c, e->captured[i])) return false;
  return true;
}

/* The entry that fits the arguments first .. first + n - 1; its keys are pushed. NULL: nothing is. */
static entry *find_entry(lua_State *L, compiled_data *f, int first, int n, leaves_ *leaves) {
  for (entry *e = f->entries, **link = &f->entries; e; link = &e->next, e = e->next) {
    if (e->n_args != n) continue;
    lua_rawgeti(L, LUA_REGISTRYINDEX, e->keys);
    matcher m = {L, f->b, lua_gettop(L), 0, e->arguments.list, leaves, 0};
    bool fits = true;
    for (int i = 0; i < n && fits; i++) fits = match(&m, first + i);
    if (fits && upvalues_same(L, e, m.keys) && captured_alive(f->b, e)) {
      leaves->n = m.n;
      lua_settop(L, m.keys);
      *link = e->next; /* the last used comes first */
      e->next = f->entries;
      f->entries = e;
      return e;
    }
    lua_settop(L, m.keys - 1);
  }
  return NULL;
}

/* program.entry(compiled, program, captured, arguments, results, upvalues[, cells, positions]): arguments and results
 * are packed lists with n; upvalues a flat list function, index, value, ...; cells of the last captured tensor hold
 * positions of random streams, which positions() lists for each call */
static int new_entry(lua_State *L) {
  binding *b = binding_of(L);
  compiled_data *f = check_compiled(L, 1);
  lua_settop(L, 8);
  for (int i = 3; i <= 6; i++) luaL_checktype(L, i, LUA_TTABLE);
  bool draws = !lua_isnil(L, 7);
  if (draws) {
    luaL_checktype(L, 7, LUA_TTABLE);
    luaL_checktype(L, 8, LUA_TFUNCTION);
  }
  entry *e = calloc(1, sizeof *e);
  if (!e) fail(L, "out of memory");
  e->keys = LUA_NOREF;
  e->next = f->entries;
  f->entries = e; /* from here on the compiled function frees it */
  e->n_args = -1; /* and nothing finds it before it is whole */
  lua_newtable(L);
  int keys = 9;
  for (int part = 0; part < 2; part++) {
    lua_getfield(L, 4 + part, "n");
    int n = (int)lua_tointeger(L, -1);
    lua_pop(L, 1);
    if (n < 0 || n > 250) fail(L, "a compiled function has at most 250 arguments and results");
    form *to = part ? &e->results : &e->arguments;
    for (int i = 1; i <= n; i++) {
      lua_rawgeti(L, 4 + part, i);
      read_form(L, b, lua_gettop(L), to, keys, part ? e->arguments.keys : 0, 0);
      lua_settop(L, keys);
    }
    if (part) e->n_results = n;
  }
  int base = e->arguments.keys + e->results.keys, n_up = (int)lua_objlen(L, 6) / 3;
  for (int i = 1; i <= 3 * n_up; i++) {
    lua_rawgeti(L, 6, i);
    lua_rawseti(L, keys, base + i);
  }
  e->n_upvalues = n_up;
  int n = (int)lua_objlen(L, 3);
  e->captured = calloc((size_t)n + 1, sizeof *e->captured);
  if (!e->captured) fail(L, "out of memory");
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, 3, i + 1);
    pl_value v = check_tensor(L, b, lua_gettop(L), "a compiled function");
    pl_retain(b->c, v);
    e->captured[e->n_captured++] = v;
    lua_pop(L, 1);
  }
  if (draws) {
    e->draws = true;
    e->positions = base + 3 * n_up + 1;
    lua_pushvalue(L, 8);
    lua_rawseti(L, keys, e->positions);
    e->n_cells = (int)lua_objlen(L, 7);
    e->cells = calloc((size_t)e->n_cells + 1, sizeof *e->cells);
    if (!e->cells) fail(L, "out of memory");
    pl_info info = {0};
    if (e->n_cells && (n < 1 || !pl_describe(b->c, e->captured[n - 1], &info))) fail(L, "a program has no numbers");
    for (int i = 0; i < e->n_cells; i++) {
      lua_rawgeti(L, 7, i + 1);
      int64_t cell = check_integer(L, lua_gettop(L), "a number of a program");
      lua_pop(L, 1);
      if (cell < 0 || cell >= info.count || info.dtype != PL_F64) fail(L, "a program has no number %d", (int)cell);
      e->cells[i] = (int32_t)cell;
    }
  }
  e->body = take_body(L, 2);
  int inputs, outputs;
  int64_t instructions, values;
  pl_body_size(e->body, &inputs, &outputs, &instructions, &values);
  if (inputs > PL_MAX_INPUTS)
    fail(L, "a compiled function takes and captures %d tensors; at most %d are possible", inputs, PL_MAX_INPUTS);
  if (inputs != e->arguments.leaves + e->n_captured || outputs != e->results.leaves)
    fail(L, "a compiled function's program does not fit its arguments");
  lua_pushvalue(L, keys);
  e->keys = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_getfield(L, 4, "n");
  e->n_args = (int)lua_tointeger(L, -1);
  return 0;
}

static int collect_compiled(lua_State *L) {
  compiled_data *f = check_compiled(L, 1);
  for (entry *e = f->entries, *next; e; e = next) {
    next = e->next;
    free_entry(L, f->b, e);
  }
  f->entries = NULL;
  return 0;
}

/* program.compiled(function) -> a compiled function; program.tracer traces one when no entry fits */
static int new_compiled(lua_State *L) {
  binding *b = binding_of(L);
  luaL_checkany(L, 1);
  compiled_data *f = lua_newuserdata(L, sizeof *f);
  *f = (compiled_data){b, NULL};
  lua_rawgeti(L, LUA_REGISTRYINDEX, b->compiled);
  lua_setmetatable(L, -2);
  lua_createtable(L, 1, 0);
  lua_pushvalue(L, 1);
  lua_rawseti(L, -2, 1);
  lua_setfenv(L, -2);
  return 1;
}

static int source_function(lua_State *L) { /* compiled:source() -> the Lua function */
  check_compiled(L, 1);
  lua_getfenv(L, 1);
  lua_rawgeti(L, -1, 1);
  return 1;
}

/* Finds or traces the entry for the arguments from `first` on, of the compiled function at index self. */
static entry *need_entry(lua_State *L, int self, compiled_data *f, int first, leaves_ *leaves) {
  binding *b = f->b;
  int n = lua_gettop(L) - first + 1;
  if (pl_error_status(b->c)) fail_engine(L, b);
  entry *e = find_entry(L, f, first, n, leaves);
  if (e) return e;
  lua_rawgeti(L, LUA_REGISTRYINDEX, b->tracer);
  lua_pushvalue(L, self);
  for (int i = 0; i < n; i++) lua_pushvalue(L, first + i);
  lua_call(L, n + 1, 0);
  e = find_entry(L, f, first, n, leaves);
  if (!e) fail(L, "a compiled function's arguments changed while it was traced");
  return e;
}

/* An interrupted run can go on (pl.resume): tells the language what is to be made of its results. */
static void note_stop(lua_State *L, binding *b, int self, const entry *e, int wrt, int64_t before) {
  if (pl_error_status(b->c) != PL_ERROR_INTERRUPT || pl_suspended(b->c) == before) return;
  lua_rawgeti(L, LUA_REGISTRYINDEX, b->stopped);
  lua_pushvalue(L, self);
  lua_pushlightuserdata(L, (void *)e);
  lua_pushnumber(L, wrt);
  lua_call(L, 3, 0);
}

/* The numbers of a program that draws from streams, with where these stand in this call; the stack holds them. */
static pl_value draw_numbers(lua_State *L, binding *b, const entry *e) {
  pl_value old = e->captured[e->n_captured - 1];
  pl_info info;
  luaL_checkstack(L, 6, "too many arguments");
  lua_rawgeti(L, LUA_REGISTRYINDEX, e->keys);
  lua_rawgeti(L, -1, e->positions);
  lua_call(L, 0, 1);
  luaL_checktype(L, -1, LUA_TTABLE);
  if (!pl_describe(b->c, old, &info)) fail_engine(L, b);
  pl_value v = pl_tensor(b->c, PL_F64, 1, info.shape, pl_data(b->c, old));
  int64_t *cells = (int64_t *)pl_data(b->c, v);
  if (!cells) fail_engine(L, b);
  push_value(L, b, v);
  for (int i = 0; i < e->n_cells; i++) {
    lua_rawgeti(L, -2, i + 1);
    cells[e->cells[i]] = (int64_t)lua_tonumber(L, -1);
    lua_pop(L, 1);
  }
  return v;
}

/* Runs the body on the leaves and what was captured; results are the caller's (or the recording's). wrt: the argument
 * that the body has the gradient of, or 0. */
static void run_body(lua_State *L, binding *b, int self, const entry *e, pl_body *body, int wrt, leaves_ *leaves,
                     pl_value *out) {
  int n = leaves->n;
  for (int i = 0; i < n; i++)
    if (leaves->handle[i] == PL_NONE) {
      lua_pushnumber(L, leaves->number[i]);
      leaves->handle[i] = check_scalar(L, b); /* a tensor that the stack holds */
    }
  memcpy(leaves->handle + n, e->captured, (size_t)e->n_captured * sizeof *leaves->handle);
  if (e->n_cells) leaves->handle[n + e->n_captured - 1] = draw_numbers(L, b, e);
  pl_attr attrs[] = {PL_OBJECT(pl_body_object(body)), PL_INT(0)};
  mark_line(L, b);
  int64_t before = pl_suspended(b->c);
  if (run_op(L, b, b->call, n + e->n_captured, leaves->handle, attrs, out)) return;
  note_stop(L, b, self, e, wrt, before);
  fail_engine(L, b);
}

/* The same without values for numbers, outside recordings, for short programs; numbers come out in `numbers`, 8 apart,
 * for which of the outputs says. False: it is none. */
enum { SHORT = 128 };
static bool run_short(lua_State *L, binding *b, const entry *e, pl_body *body, const leaves_ *leaves, int n_out,
                      const node *const *spec, pl_value *out, double *numbers) {
  int n = leaves->n, n_in = n + e->n_captured;
  if (n_in > SHORT || n_out > SHORT || e->n_cells || pl_recording(b->c) || !pl_owns(b->c) ||
      !pl_body_is_short(b->c, body))
    return false;
  _Alignas(64) double cells[SHORT][8];
  const void *in[SHORT];
  void *to[SHORT];
  for (int i = 0; i < n_in; i++) {
    pl_value v = i < n ? leaves->handle[i] : e->captured[i - n];
    if (v == PL_NONE) {
      cells[i][0] = leaves->number[i];
      in[i] = cells[i];
    } else {
      in[i] = pl_data(b->c, v);
      if (!in[i]) return pl_clear(b->c), false; /* a resource */
    }
  }
  for (int i = 0; i < n_out; i++) {
    if (!spec[i] || spec[i]->kind == LEAF_NUMBER) {
      to[i] = numbers + 8 * i;
      continue;
    }
    int64_t shape[PL_MAX_RANK];
    for (int a = 0; a < spec[i]->rank; a++) shape[a] = spec[i]->shape[a];
    out[i] = pl_tensor(b->c, (pl_dtype)spec[i]->dtype, spec[i]->rank, shape, NULL);
    to[i] = (void *)pl_data(b->c, out[i]);
  }
  if (pl_error_status(b->c) == PL_OK && pl_body_run(b->c, body, in, to)) return true;
  pl_status status = pl_error_status(b->c);
  char text[1024];
  strncpy(text, pl_error_message(b->c), sizeof text - 1);
  text[sizeof text - 1] = 0;
  pl_clear(b->c);
  for (int i = 0; i < n_out; i++)
    if (spec[i] && spec[i]->kind != LEAF_NUMBER) pl_release(b->c, out[i]);
  pl_error(b->c, status, "%s", text);
  fail_engine(L, b);
}

/* The leaves of a form's nodes. */
static int leaf_nodes(const node *at, const node *end, const node **list, int most) {
  int n = 0;
  for (; at < end; at++)
    if (at->kind <= LEAF_NUMBER) {
      if (n < most) list[n] = at;
      n++;
    }
  return n;
}

static int push_results(lua_State *L, binding *b, const entry *e, int keys, const pl_value *out) {
  const node *at = e->results.list;
  int key = e->arguments.keys;
  luaL_checkstack(L, e->n_results + 8, "too many results");
  for (int i = 0; i < e->n_results; i++) push_form(L, b, &at, keys, &key, &out, NULL);
  return e->n_results;
}

static int call_compiled(lua_State *L) {
  binding *b = binding_of(L);
  compiled_data *f = check_compiled(L, 1);
  leaves_ leaves;
  pl_value out[PL_MAX_OUTPUTS];
  entry *e = need_entry(L, 1, f, 2, &leaves);
  int keys = lua_gettop(L);
  if (e->draws &&
      pl_tracing(b->c)) { /* where the streams stand is known to nobody yet: it becomes part of what is traced */
    lua_settop(L, keys - 1);
    source_function(L);
    lua_replace(L, 1);
    lua_settop(L, keys - 1);
    lua_call(L, keys - 2, LUA_MULTRET);
    return lua_gettop(L);
  }
  const node *specs[SHORT];
  int n_out = leaf_nodes(e->results.list, e->results.list + e->results.n, specs, SHORT);
  if (!run_short(L, b, e, e->body, &leaves, n_out, specs, out, NULL)) run_body(L, b, 1, e, e->body, 0, &leaves, out);
  return push_results(L, b, e, keys, out);
}

/* loss, gradient in argument wrt, the other results. cells: where numbers stand that have no value. */
static int push_gradient(lua_State *L, binding *b, const entry *e, int wrt, int keys, const pl_value *out,
                         const double (*cells)[8]) {
  int n_out = e->results.leaves;
  const pl_value *values = out, *gradients = out + n_out;
  const node *result = e->results.list;
  int key = e->arguments.keys;
  const double *numbers = cells ? cells[n_out] : NULL;
  push_form(L, b, &result, keys, &key, &values, NULL);
  const node *at = e->arguments.list;
  int skip = 0;
  for (int i = 1; i < wrt; i++) {
    int open = 1;
    while (open-- > 0) {
      if (at->kind == STATIC) skip++;
      if (at->kind >= TABLE) {
        open += at->n;
        skip += at->n + (at->kind == MODULE ? 2 : 0);
      }
      at++;
    }
  }
  push_form(L, b, &at, keys, &skip, &gradients, &numbers);
  for (int i = 1; i < e->n_results; i++) push_form(L, b, &result, keys, &key, &values, NULL);
  return e->n_results + 1;
}

enum {
  SELF = lua_upvalueindex(2),
  WRT = lua_upvalueindex(3),
  GENERAL = lua_upvalueindex(4),
  NOTICE = lua_upvalueindex(5)
};

/* The language takes the gradient: inside a recording, or when one tensor stands at two places. */
static int call_general(lua_State *L, int n) {
  lua_settop(L, n);
  lua_pushvalue(L, GENERAL);
  lua_insert(L, 1);
  lua_call(L, n, LUA_MULTRET);
  return lua_gettop(L);
}

/* What gradient_function makes: (...) -> loss, gradient, other results */
static int call_gradient(lua_State *L) {
  binding *b = binding_of(L);
  compiled_data *f = lua_touserdata(L, SELF);
  int wrt = (int)lua_tointeger(L, WRT), n_args = lua_gettop(L);
  if (pl_recording(b->c) || wrt > n_args) return call_general(L, n_args);
  leaves_ leaves;
  pl_value out[PL_MAX_OUTPUTS];
  luaL_checkstack(L, 300, "too many results");
  entry *e = need_entry(L, SELF, f, 1, &leaves);
  int n = leaves.n, keys = lua_gettop(L);
  gradient_program *g = NULL;
  for (int i = 0; i < e->n_gradients; i++)
    if (e->gradients[i].wrt == wrt) g = &e->gradients[i];
  const node *at = e->arguments.list;
  if (!g) {
    int leaf = 0, first = 0, last = 0;
    for (int i = 1; i <= e->n_args; i++) { /* the leaves of argument i */
      if (i == wrt) first = leaf;
      int open = 1;
      while (open-- > 0) {
        if (at->kind <= LEAF_NUMBER) leaf++;
        if (at->kind >= TABLE) open += at->n;
        at++;
      }
      if (i == wrt) last = leaf;
    }
    gradient_program *grown = realloc(e->gradients, ((size_t)e->n_gradients + 1) * sizeof *grown);
    if (!grown) fail(L, "out of memory");
    e->gradients = grown;
    size_t inputs = (size_t)(n + e->n_captured) + 1;
    uint8_t *need = calloc(inputs, 1), *reached = calloc(inputs, 1);
    if (!need || !reached) {
      free(need);
      free(reached);
      fail(L, "out of memory");
    }
    memset(need + first, 1, (size_t)(last - first));
    pl_body *body = pl_body_with_gradient(b->c, e->body, need, reached);
    if (!body) {
      free(need);
      free(reached);
      fail_engine(L, b);
    }
    g = &e->gradients[e->n_gradients++];
    *g = (gradient_program){body, need, wrt, first, last - first, (bool *)reached};
  }
  for (int i = g->first; i < g->first + g->n; i++) /* one variable at two places is the language's business */
    for (int k = g->first; k < i && g->n <= 64; k++)
      if (leaves.handle[i] == leaves.handle[k] && leaves.handle[i] != PL_NONE) return call_general(L, n_args);
  const node *specs[SHORT];
  _Alignas(64) double cells[SHORT + 1][8];
  int n_specs = leaf_nodes(e->results.list, e->results.list + e->results.n, specs, SHORT);
  if (n_specs + g->n <= SHORT) {
    const node *all_leaves[SHORT];
    if (leaf_nodes(e->arguments.list, e->arguments.list + e->arguments.n, all_leaves, SHORT) <= SHORT)
      memcpy(specs + n_specs, all_leaves + g->first, (size_t)g->n * sizeof *specs);
    for (int i = 0; i < g->n; i++) out[n_specs + i] = PL_NONE;
  }
  if (e->arguments.leaves > SHORT || !run_short(L, b, e, g->body, &leaves, n_specs + g->n, specs, out, cells[0]))
    run_body(L, b, SELF, e, g->body, wrt, &leaves, out);
  bool all = true;
  for (int i = 0; i < g->n; i++) all = all && g->reached[g->first + i];
  if (!all) {
    lua_pushvalue(L, NOTICE);
    lua_createtable(L, g->n, 0);
    for (int i = 0; i < g->n; i++) {
      lua_pushboolean(L, g->reached[g->first + i]);
      lua_rawseti(L, -2, i + 1);
    }
    lua_pushvalue(L, wrt);
    lua_call(L, 2, 0);
  }
  return push_gradient(L, b, e, wrt, keys, out, cells);
}

/* program.gradient_function(compiled, wrt, general, notice) -> the function (...) -> loss, gradient in argument wrt,
 * other results; general(...) does the same in other ways, notice(which leaves reach the loss, argument) hears when not
 * all do */
static int gradient_function(lua_State *L) {
  binding *b = binding_of(L);
  check_compiled(L, 1);
  if (check_integer(L, 2, "wrt") < 1) fail(L, "wrt is the number of an argument, from 1 on");
  luaL_checktype(L, 3, LUA_TFUNCTION);
  luaL_checktype(L, 4, LUA_TFUNCTION);
  lua_settop(L, 4);
  lua_pushlightuserdata(L, b);
  lua_insert(L, 1);
  lua_pushcclosure(L, call_gradient, 5);
  return 1;
}

/* program.finish(compiled, entry, wrt): continues the run that was stopped and makes its results */
static int finish_stopped(lua_State *L) {
  binding *b = binding_of(L);
  compiled_data *f = check_compiled(L, 1);
  const entry *e = f->entries;
  while (e && e != lua_touserdata(L, 2)) e = e->next;
  if (!e) fail(L, "the interrupted program is gone: its compiled function was traced anew");
  int wrt = (int)check_integer(L, 3, "wrt");
  pl_value out[PL_MAX_OUTPUTS];
  if (pl_continue(b->c, PL_MAX_OUTPUTS, out) < 0) {
    note_stop(L, b, 1, e, wrt, 0);
    fail_engine(L, b);
  }
  luaL_checkstack(L, 300, "too many results");
  lua_rawgeti(L, LUA_REGISTRYINDEX, e->keys);
  int keys = lua_gettop(L);
  return wrt ? push_gradient(L, b, e, wrt, keys, out, NULL) : push_results(L, b, e, keys, out);
}

/* compiled:program(...) -> the program for these arguments, its inputs as a list */
static int entry_program(lua_State *L) {
  binding *b = binding_of(L);
  compiled_data *f = check_compiled(L, 1);
  leaves_ leaves;
  entry *e = need_entry(L, 1, f, 2, &leaves);
  pl_body_retain(e->body);
  push_body(L, b, e->body);
  lua_createtable(L, leaves.n + e->n_captured, 0);
  for (int i = 0; i < leaves.n + e->n_captured; i++) {
    pl_value v = i < leaves.n ? leaves.handle[i] : e->captured[i - leaves.n];
    if (v == PL_NONE) {
      lua_pushnumber(L, leaves.number[i]);
      check_scalar(L, b);
    } else {
      pl_retain(b->c, v);
      push_handle(L, b, v, true);
    }
    lua_rawseti(L, -2, i + 1);
  }
  lua_pushnumber(L, leaves.n);
  return 3;
}

/* compiled:results(...) -> number of results, what it returns for these arguments, the numbers of its program's results
 * in the place of tensors */
static int entry_results(lua_State *L) {
  binding *b = binding_of(L);
  leaves_ leaves;
  entry *e = need_entry(L, 1, check_compiled(L, 1), 2, &leaves);
  luaL_checkstack(L, 300, "too many results");
  int n = e->results.leaves, keys = lua_gettop(L), key = e->arguments.keys;
  pl_value *none = lua_newuserdata(L, ((size_t)n + 1) * sizeof *none);
  double *numbers = lua_newuserdata(L, ((size_t)n + 1) * 8 * sizeof *numbers);
  for (int i = 0; i < n; i++) {
    none[i] = PL_NONE;
    numbers[8 * i] = i + 1;
  }
  const node *at = e->results.list;
  const pl_value *v = none;
  const double *number = numbers;
  lua_pushnumber(L, e->n_results);
  for (int i = 0; i < e->n_results; i++) push_form(L, b, &at, keys, &key, &v, &number);
  return e->n_results + 1;
}

/* program.hooks(tracer, stopped): called when no program fits, and when a run is interrupted */
static int set_hooks(lua_State *L) {
  binding *b = binding_of(L);
  luaL_checktype(L, 1, LUA_TFUNCTION);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_settop(L, 2);
  lua_rawseti(L, LUA_REGISTRYINDEX, b->stopped);
  lua_rawseti(L, LUA_REGISTRYINDEX, b->tracer);
  return 0;
}

static int is_compiled(lua_State *L) {
  binding *b = binding_of(L);
  bool is = false;
  if (lua_type(L, 1) == LUA_TUSERDATA && lua_getmetatable(L, 1)) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, b->compiled);
    is = lua_rawequal(L, -1, -2);
  }
  return lua_pushboolean(L, is), 1;
}

/* program.methods(table): further methods of compiled functions */
static int set_methods(lua_State *L) {
  binding *b = binding_of(L);
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_rawgeti(L, LUA_REGISTRYINDEX, b->compiled);
  for (lua_pushnil(L); lua_next(L, 1);) {
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, -4);
  }
  return 0;
}

void open_compiled(lua_State *L, binding *b, int table) {
  static const luaL_Reg methods[] = {{"__gc", collect_compiled},  {"__call", call_compiled},
                                     {"program", entry_program},  {"results", entry_results},
                                     {"source", source_function}, {NULL, NULL}};
  b->compiled = new_metatable(L, b, methods);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  lua_pushboolean(L, 0);
  b->tracer = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushboolean(L, 0);
  b->stopped = luaL_ref(L, LUA_REGISTRYINDEX);
  b->call = pl_op_find("call");
  static const luaL_Reg functions[] = {{"compiled", new_compiled},
                                       {"entry", new_entry},
                                       {"hooks", set_hooks},
                                       {"finish", finish_stopped},
                                       {"is_compiled", is_compiled},
                                       {"methods", set_methods},
                                       {"gradient_function", gradient_function},
                                       {NULL, NULL}};
  register_functions(L, b, table, functions);
}
