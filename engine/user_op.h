/* user_op.h: ops that a host defines while it runs, and ops loaded from C files.
 *
 *   static bool forward(const pl_rule *r, const pl_value *in, pl_value *out) {
 *     out[0] = pl_apply1(r->c, pl_op_find("square"), 1, in, NULL);
 *     return out[0] != PL_NONE;
 *   }
 *   const pl_op *op = pl_op_define(c, &(pl_op_definition){.name = "f", .inputs = 1, .outputs = 1, .forward = forward});
 *   y = pl_apply1(c, op, 1, &x, NULL);                     // like any op: in recordings, loops, programs
 *
 * A rule is called with tensors that have data, nothing is recorded and new values are its own. Its inputs live as long
 * as the call: kept beyond it they are stale (pl_detach copies one), and so are pointers to their data. It may apply
 * ops, take derivatives and run programs. It gives one reference of each result away; results are copied. Equal calls
 * may be made once, and calls whose results nobody reads not at all: rules are functions of their inputs alone. What a
 * rule reads beside its inputs is a constant to derivatives; a value that an open derivative depends on is refused.
 *
 * Derivatives. vjp: g.., y.., x.. -> a cotangent for each x; jvp: t.., y.., x.. -> a tangent for each y. Each result
 * may be PL_ZERO; inputs that do not matter are zeros; results for tensors that are not f64 or f32 are dropped. One of
 * the two is enough: the other is its transpose. For that, and when a derivative is differentiated again, the rule is
 * called while its ops are traced: its tensors then have shapes but no data, and a rule that reads data is refused with
 * a message that says so. */
#ifndef PL_USER_OP_H
#define PL_USER_OP_H

#include "perilune.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { PL_USER_INPUTS = 32, PL_USER_OUTPUTS = 16 };

/* What a rule knows of its call. */
typedef struct {
  pl_context *c;
  const pl_op *op;
  void *data;
  int n_in, n_out;         /* lengths of its two lists */
  const pl_info *expected; /* dtype and shape of each result */
} pl_rule;

/* Rules return false when they fail, with or without the context's error set. */
typedef struct {
  const char *name, *formula; /* copied; formula may be NULL */
  int inputs, outputs;
  bool floats; /* inputs are promoted to their common float dtype, as for built-in ops; else each keeps its own */
  void *data;  /* the rules' own; `release` is called when the context ends, or when the definition fails */
  void (*release)(void *data);
  /* out[k] comes in as a copy of in[0]; NULL: it stays that */
  bool (*shape)(const pl_rule *r, const pl_info *in, pl_info *out);
  bool (*forward)(const pl_rule *r, const pl_value *in, pl_value *out);
  bool (*vjp)(const pl_rule *r, const pl_value *in, pl_value *out); /* may be NULL */
  bool (*jvp)(const pl_rule *r, const pl_value *in, pl_value *out); /* may be NULL */
} pl_op_definition;

/* The row lives as long as the context. NULL, and the error set, when the definition makes no sense. */
PL_API const pl_op *pl_op_define(pl_context *c, const pl_op_definition *d);

/* The op of a C file in the kernels' dialect (perilune_op.h says how to write one). It is compiled for this machine by
 * $CC or cc the first time; later loads take it from $XDG_CACHE_HOME/perilune/ops or ~/.cache/perilune/ops. */
PL_API const pl_op *pl_op_load(pl_context *c, const char *path);

/* The latest op defined or loaded in the context with this name or identity; NULL, without an error, when there is
 * none. */
PL_API const pl_op *pl_op_find_in(const pl_context *c, const char *name);
/* The name by which a saved program finds the op again: "name#hash of the file's content" for a loaded one, else its
 * name. */
PL_API const char *pl_op_identity(const pl_context *c, const pl_op *op);

#ifdef __cplusplus
}
#endif
#endif
