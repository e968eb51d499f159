/* sparse.c: sparse matrices (pattern and values) and their solves for the language. */
#include "binding.h"

#include <string.h>

#include "solve/krylov.h"

/* Functions take and return (pattern, values) pairs. */

typedef struct {
  uint64_t magic;
  binding *b;
  pl_object *object;
} pattern_data;

#define PATTERN_MAGIC 0x94d049bb133111ebu

pl_object *check_pattern(lua_State *L, int i) {
  pattern_data *p = lua_type(L, i) == LUA_TUSERDATA && lua_objlen(L, i) == sizeof *p ? lua_touserdata(L, i) : NULL;
  if (!p || p->magic != PATTERN_MAGIC) fail(L, "a sparse matrix is needed, not %s", luaL_typename(L, i));
  return p->object;
}

pl_sparse check_sparse(lua_State *L, binding *b, int i) {
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

int push_sparse(lua_State *L, binding *b, pl_sparse a) {
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
static int sparse_subtract(lua_State *L) { return pair(L, pl_sparse_subtract); }
static int sparse_hadamard(lua_State *L) { return pair(L, pl_sparse_hadamard); }

static int sparse_transpose(lua_State *L) {
  binding *b = binding_of(L);
  pl_sparse a = check_sparse(L, b, 1);
  mark_line(L, b);
  return push_sparse(L, b, pl_sparse_transpose(b->c, a));
}

typedef pl_sparse (*weighted_function)(pl_context *, pl_sparse, pl_value);
/* f(pattern, values, tensor); literals follow the matrix's dtype */
static int weighted(lua_State *L, weighted_function f, const char *what) {
  binding *b = binding_of(L);
  pl_sparse a = check_sparse(L, b, 1);
  pl_value d = check_value(L, b, 3, pl_dtype_of(b->c, a.values), what);
  mark_line(L, b);
  return push_sparse(L, b, f(b->c, a, d));
}
static int sparse_scale(lua_State *L) { return weighted(L, pl_sparse_scale, "scaling a sparse matrix"); }
static int sparse_gram(lua_State *L) { return weighted(L, pl_sparse_gram, "gram"); }
static int sparse_scale_rows(lua_State *L) { return weighted(L, pl_sparse_scale_rows, "scale_rows"); }
static int sparse_scale_columns(lua_State *L) { return weighted(L, pl_sparse_scale_columns, "scale_columns"); }

/* apply(pattern, values, x, transpose) */
static int sparse_apply(lua_State *L) {
  binding *b = binding_of(L);
  pl_sparse a = check_sparse(L, b, 1);
  bool transpose = lua_toboolean(L, 4);
  pl_value x = check_value(L, b, 3, -1, "a sparse product");
  mark_line(L, b);
  return push_value(L, b, transpose ? pl_sparse_apply_transposed(b->c, a, x) : pl_sparse_apply(b->c, a, x));
}
static int sparse_dense(lua_State *L) {
  binding *b = binding_of(L);
  pl_sparse a = check_sparse(L, b, 1);
  mark_line(L, b);
  return push_value(L, b, pl_sparse_dense(b->c, a));
}
static int sparse_cast(lua_State *L) {
  binding *b = binding_of(L);
  pl_sparse a = check_sparse(L, b, 1);
  pl_dtype dtype = check_dtype(L, 3);
  mark_line(L, b);
  return push_sparse(L, b, pl_sparse_cast(b->c, a, dtype));
}
/* from_dense(t, tolerance or pattern) */
static int sparse_from_dense(lua_State *L) {
  binding *b = binding_of(L);
  lua_settop(L, 2);
  pl_value t = check_value(L, b, 1, -1, "from_dense");
  mark_line(L, b);
  return push_sparse(L, b,
                     lua_type(L, 2) == LUA_TNUMBER ? pl_sparse_from_dense(b->c, t, lua_tonumber(L, 2))
                                                   : pl_sparse_sample(b->c, t, check_pattern(L, 2)));
}
static int sparse_incidence(lua_State *L) {
  binding *b = binding_of(L);
  lua_settop(L, 3);
  pl_value left = check_value(L, b, 1, -1, "incidence"), right = check_value(L, b, 2, -1, "incidence");
  int64_t n = check_integer(L, 3, "incidence: the number of cells");
  mark_line(L, b);
  return push_sparse(L, b, pl_sparse_incidence(b->c, left, right, n));
}
/* block(rows, columns, {pattern or false, ...}, {values or false, ...}) */
static int sparse_block(lua_State *L) {
  binding *b = binding_of(L);
  int64_t rows = check_integer(L, 1, "block"), columns = check_integer(L, 2, "block");
  if (rows < 1 || columns < 1 || rows > PL_MAX_INPUTS || columns > PL_MAX_INPUTS || rows * columns > PL_MAX_INPUTS)
    fail(L, "block: %lld by %lld blocks; 1 to %d are possible", (long long)rows, (long long)columns, PL_MAX_INPUTS);
  pl_sparse blocks[PL_MAX_INPUTS] = {{NULL, PL_NONE}};
  for (int k = 0; k < rows * columns; k++) {
    lua_rawgeti(L, 3, k + 1);
    lua_rawgeti(L, 4, k + 1);
    if (lua_toboolean(L, -1)) blocks[k] = check_sparse(L, b, lua_gettop(L) - 1);
    lua_pop(L, 2);
  }
  mark_line(L, b);
  return push_sparse(L, b, pl_sparse_block(b->c, (int)rows, (int)columns, blocks));
}
static int push_part(lua_State *L, binding *b, pl_sparse part) {
  return part.pattern ? push_sparse(L, b, part) : push_value(L, b, part.values);
}
/* index(pattern, values, subscripts...) -> a tensor, or pattern and values */
static int sparse_index(lua_State *L) {
  binding *b = binding_of(L);
  pl_sparse a = check_sparse(L, b, 1);
  mark_line(L, b);
  return push_part(L, b, subscript_sparse(L, b, a, 3, lua_gettop(L) - 2));
}
static int sparse_diagonal(lua_State *L) {
  binding *b = binding_of(L);
  pl_sparse a = check_sparse(L, b, 1);
  int64_t k = check_integer(L, 3, "diag");
  mark_line(L, b);
  return push_value(L, b, pl_sparse_diagonal(b->c, a, k));
}
static int sparse_trace(lua_State *L) {
  binding *b = binding_of(L);
  pl_sparse a = check_sparse(L, b, 1);
  mark_line(L, b);
  return push_value(L, b, pl_sparse_trace(b->c, a));
}
/* sum(pattern, values, axis), of all where there is none */
static int sparse_sum(lua_State *L) {
  binding *b = binding_of(L);
  pl_sparse a = check_sparse(L, b, 1);
  int64_t axis = lua_isnoneornil(L, 3) ? 0 : check_integer(L, 3, "sum: the axis");
  if (!lua_isnoneornil(L, 3) && (axis < -2 || axis > 2 || axis == 0))
    fail(L, "sum: a sparse matrix has axes 1 and 2, not %lld", (long long)axis);
  mark_line(L, b);
  return push_value(L, b, pl_sparse_sum(b->c, a, axis == 0 ? PL_SPARSE_ALL : (int)(axis < 0 ? axis + 2 : axis - 1)));
}
/* norm(pattern, values, place in the list of norms) */
static int sparse_norm(lua_State *L) {
  binding *b = binding_of(L);
  pl_sparse a = check_sparse(L, b, 1);
  int64_t kind = check_integer(L, 3, "norm");
  mark_line(L, b);
  return push_value(L, b, pl_sparse_norm(b->c, a, (pl_sparse_norm_kind)kind));
}
/* dirichlet(pattern, values, fixed, b, value) -> pattern, values, b */
static int sparse_dirichlet(lua_State *L) {
  binding *b = binding_of(L);
  lua_settop(L, 5);
  pl_sparse a = check_sparse(L, b, 1);
  pl_value fixed = check_value(L, b, 3, -1, "dirichlet"), rhs = check_value(L, b, 4, -1, "dirichlet"),
           value = check_value(L, b, 5, pl_dtype_of(b->c, rhs), "dirichlet"), out;
  mark_line(L, b);
  push_sparse(L, b, pl_sparse_dirichlet(b->c, a, fixed, rhs, value, &out));
  return 2 + push_value(L, b, out);
}
/* load(path) -> a tensor, or pattern and values */
static int sparse_load(lua_State *L) {
  binding *b = binding_of(L);
  const char *path = luaL_checkstring(L, 1);
  pl_sparse part;
  pl_value dense;
  mark_line(L, b);
  pl_sparse_load(b->c, path, &part, &dense);
  if (!part.pattern) part.values = dense;
  return push_part(L, b, part);
}
/* save(path, tensor) or save(path, pattern, values) */
static int sparse_save(lua_State *L) {
  binding *b = binding_of(L);
  const char *path = luaL_checkstring(L, 1);
  bool done = lua_gettop(L) > 2 ? pl_sparse_save(b->c, path, check_sparse(L, b, 2))
                                : pl_sparse_save_dense(b->c, path, check_tensor(L, b, 2, "save"));
  if (!done) fail_engine(L, b);
  return 0;
}
/* preconditioner(pattern, values, kind, options, vectors) */
static int sparse_preconditioner(lua_State *L) {
  binding *b = binding_of(L);
  lua_settop(L, 6);
  pl_sparse a = check_sparse(L, b, 1);
  static const char *const kinds[] = {"jacobi", "ilu", "ichol", "multigrid", "hypre", NULL};
  int kind = luaL_checkoption(L, 3, NULL, kinds);
  pl_preconditioner_options o = pl_preconditioner_defaults();
  lua_getfield(L, 4, "strength");
  o.strength = luaL_optnumber(L, -1, o.strength);
  lua_getfield(L, 4, "block");
  o.block = (int64_t)luaL_optnumber(L, -1, (double)o.block);
  lua_getfield(L, 4, "degree");
  o.degree = (int64_t)luaL_optnumber(L, -1, (double)o.degree);
  pl_value vectors = lua_isnil(L, 5) ? PL_NONE : check_tensor(L, b, 5, "multigrid's vectors");
  mark_line(L, b);
  return push_value(L, b, pl_sparse_preconditioner(b->c, a, (pl_preconditioner_kind)kind, &o, vectors));
}
/* precondition(preconditioner, r, transpose) */
static int sparse_precondition(lua_State *L) {
  binding *b = binding_of(L);
  pl_value m = check_tensor(L, b, 1, "precondition"), r = check_tensor(L, b, 2, "precondition");
  mark_line(L, b);
  return push_value(L, b, pl_precondition(b->c, m, r, lua_toboolean(L, 3)));
}
static int sparse_preconditioners(lua_State *L) { /* how many were made, for tests */
  lua_pushnumber(L, (double)pl_preconditioners_made(binding_of(L)->c));
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
/* memo() -> how often structure was found again, how often made */
static int sparse_memo(lua_State *L) {
  int64_t found, made;
  pl_sparse_memo(binding_of(L)->c, &found, &made);
  lua_pushnumber(L, (double)found);
  lua_pushnumber(L, (double)made);
  return 2;
}
static int sparse_indices(lua_State *L) {
  binding *b = binding_of(L);
  return push_value(L, b, pl_sparse_indices(b->c, check_pattern(L, 1), lua_toboolean(L, 2)));
}

void open_sparse(lua_State *L, binding *b, int core) {
  static const luaL_Reg patterns[] = {{"__gc", collect_pattern}, {"__eq", same_pattern}, {NULL, NULL}};
  b->patterns = new_metatable(L, b, patterns);
  lua_pop(L, 1);
  static const luaL_Reg sparse[] = {{"triplets", sparse_triplets},
                                    {"add", sparse_add},
                                    {"subtract", sparse_subtract},
                                    {"hadamard", sparse_hadamard},
                                    {"multiply", sparse_multiply},
                                    {"kron", sparse_kron},
                                    {"transpose", sparse_transpose},
                                    {"scale", sparse_scale},
                                    {"scale_rows", sparse_scale_rows},
                                    {"scale_columns", sparse_scale_columns},
                                    {"gram", sparse_gram},
                                    {"apply", sparse_apply},
                                    {"dense", sparse_dense},
                                    {"cast", sparse_cast},
                                    {"from_dense", sparse_from_dense},
                                    {"incidence", sparse_incidence},
                                    {"block", sparse_block},
                                    {"index", sparse_index},
                                    {"diagonal", sparse_diagonal},
                                    {"trace", sparse_trace},
                                    {"sum", sparse_sum},
                                    {"norm", sparse_norm},
                                    {"dirichlet", sparse_dirichlet},
                                    {"load", sparse_load},
                                    {"save", sparse_save},
                                    {"size", sparse_size},
                                    {"indices", sparse_indices},
                                    {"memo", sparse_memo},
                                    {"preconditioner", sparse_preconditioner},
                                    {"precondition", sparse_precondition},
                                    {"preconditioners", sparse_preconditioners},
                                    {"same", same_pattern},
                                    {NULL, NULL}};
  lua_newtable(L);
  register_functions(L, b, lua_gettop(L), sparse);
  register_functions(L, b, lua_gettop(L), sparse_solves);
  lua_setfield(L, core, "sparse");
}
