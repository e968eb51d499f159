/* binding.h: what the parts of the binding share. Tensors are userdata made through the Lua C API: a magic number and a
 * handle. Outside recordings the userdata owns a reference and has a finalizer; inside one the value belongs to the
 * recording and the userdata is plain. */
#ifndef PL_BINDING_H
#define PL_BINDING_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "perilune.h"
#include "sparse.h"
#include "programs.h"
#include "sparse.h"

enum { PL_SOURCES = 64, PL_LIST = 2 * PL_MAX_RANK };

/* One a Lua state, in a userdata that the registry keeps; every closure has it as its first upvalue. */
typedef struct {
  pl_context *c; /* NULL once the state is closing */
  lua_State *L;  /* that runs */
  int owning, borrowed, methods, places, buffers, regions, patterns, optimizers, traces, programs, compiled, tracer,
      stopped;            /* registry references of metatables */
  int printer, functions; /* the function that prints tensors; functions whose pointers stand in `sources` */
  struct {
    const void *function;
    int source;
    bool internal;
  } sources[PL_SOURCES];
  pl_status failed;             /* of the last error that was raised in Lua */
  char message[1024];           /* and its message */
  int depth;                    /* of core.call; the functions called stand in `functions` from index PL_SOURCES + 1 */
  const pl_op *call;            /* that runs a program */
  size_t next_step, soft_limit; /* of bytes in use: when to step the collector, when to collect */
} binding;

typedef struct {
  uint64_t magic;
  pl_value handle;
} tensor_data;

typedef struct {
  uint64_t magic;
  binding *b;
  double *data;
  uint64_t *version; /* in front of the data, in memory counted by references */
  int rank;
  int64_t shape[PL_MAX_RANK], count;
  pl_dtype dtype;
  pl_value frozen; /* the tensor made of this version, or PL_NONE */
} buffer_data;

#define PL_TENSOR_MAGIC 0x9e3779b97f4a7c15u
#define PL_BUFFER_MAGIC 0xbf58476d1ce4e5b9u

/* Every function of ours begins with it: the engine may call back into Lua (a user's op), on the state that runs. */
static inline binding *binding_of(lua_State *L) {
  binding *b = lua_touserdata(L, lua_upvalueindex(1));
  b->L = L;
  return b;
}

static inline tensor_data *to_tensor(lua_State *L, int i) {
  tensor_data *t = lua_touserdata(L, i); /* light userdata have length 0 */
  return t && lua_objlen(L, i) == sizeof *t && t->magic == PL_TENSOR_MAGIC ? t : NULL;
}
static inline buffer_data *to_buffer(lua_State *L, int i) {
  if (lua_type(L, i) != LUA_TUSERDATA || lua_objlen(L, i) != sizeof(buffer_data)) return NULL;
  buffer_data *t = lua_touserdata(L, i);
  return t->magic == PL_BUFFER_MAGIC ? t : NULL;
}

/* The userdata at an index, which must have this metatable (a registry reference). */
void *check_object(lua_State *L, int i, int metatable, const char *what);
/* Raises an error at the user's line: the nearest Lua frame outside Perilune. */
int fail(lua_State *L, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));
/* Raises the context's error there, and clears it. */
int fail_engine(lua_State *L, binding *b) __attribute__((noreturn));
/* Pushes a tensor for a handle; owning: with a reference that its finalizer drops. */
int push_handle(lua_State *L, binding *b, pl_value v, bool owning);
/* Pushes a tensor for a value that an engine call returned, or raises its error. */
int push_value(lua_State *L, binding *b, pl_value v);
/* Pushes a program, taking the reference over; or raises the engine's error. */
int push_body(lua_State *L, binding *b, pl_body *body);
pl_body *take_body(lua_State *L, int i); /* a reference to the program at an index */
/* Tells the engine where in the script the next op stands, when one is being recorded. */
void mark_line(lua_State *L, binding *b);
/* The tensor at an index; numbers, booleans, tables and buffers are converted (and replaced on the stack). like: dtype
 * that literals follow, or -1. */
pl_value check_value(lua_State *L, binding *b, int i, int like, const char *what);
pl_value check_tensor(lua_State *L, binding *b, int i, const char *what); /* a tensor only */
int64_t check_integer(lua_State *L, int i, const char *what);
/* A list of integers from a table, or one number. */
int check_list(lua_State *L, int i, int64_t *list, int most, const char *what);
pl_dtype check_dtype(lua_State *L, int i);
/* One step of the collector for each 16 MB newly in use; a full collection above a limit that grows with what survives.
 */
void step_collector(lua_State *L, binding *b);
/* Runs an op on values; retries once after a full collection when memory was short. */
bool run_op(lua_State *L, binding *b, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs, pl_value *out);
/* A tensor from nested tables, pushed. */
pl_value tensor_from_table(lua_State *L, binding *b, int i, int dtype);
pl_value freeze_buffer(lua_State *L, binding *b, buffer_data *t);

void register_functions(lua_State *L, binding *b, int table, const luaL_Reg *functions);
int new_metatable(lua_State *L, binding *b, const luaL_Reg *functions); /* left on the stack; returns a reference */

/* subscript.c: x(...) for the n subscripts from stack index `first`; t:at(...) */
pl_value subscript(lua_State *L, binding *b, pl_value x, int first, int n);
/* A(...): a sparse matrix, or, without a pattern, a tensor */
pl_sparse subscript_sparse(lua_State *L, binding *b, pl_sparse a, int first, int n);
void open_subscripts(lua_State *L, binding *b, int core);
void open_constructors(lua_State *L, binding *b, int core); /* construct.c */
void open_derivatives(lua_State *L, binding *b, int core);  /* derive.c */
void open_programs(lua_State *L, binding *b, int core);     /* program.c */
void open_compiled(lua_State *L, binding *b, int table);    /* compiled.c, into program.c's table */
void open_sparse(lua_State *L, binding *b, int core);       /* sparse.c */
void open_optimizer(lua_State *L, binding *b, int core);    /* optimizer.c */
void open_jacobians(lua_State *L, binding *b, int core);    /* jacobian.c: behind open_programs */
void open_nonlinear(lua_State *L, binding *b, int table);   /* nonlinear.c, into program.c's table */
/* A list of tensors; pushes memory: callers that look at optional arguments behind it have set the top. */
pl_value *read_tensors(lua_State *L, binding *b, int i, int *n, const char *what);
int push_tensors(lua_State *L, binding *b, int n, const pl_value *v);
pl_object *check_pattern(lua_State *L, int i); /* of a sparse matrix */
pl_body *program_at(lua_State *L, int i, int *n_in, int *n_out);
int push_pattern(lua_State *L, binding *b, pl_object *pattern); /* takes a reference of its own */
/* A matrix is a pattern and, behind it, values. */
pl_sparse check_sparse(lua_State *L, binding *b, int i);
int push_sparse(lua_State *L, binding *b, pl_sparse a);
extern const luaL_Reg sparse_solves[];                  /* solves.c */
void open_user_ops(lua_State *L, binding *b, int core); /* user_ops.c */
/* Pushes the function of an op: tensors, then attributes by position, or by name in a last table. */
void push_op_function(lua_State *L, binding *b, const pl_op *op);

pl_context *perilune_context(lua_State *L);
int luaopen_perilune(lua_State *L);

#endif
