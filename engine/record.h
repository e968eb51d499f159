/* record.h: recordings, their regions, and traces. There is one program for each outermost recording; an inner
 * derivative is a region of it. A trace is a recording in which only shape rules run: it becomes a body (body.h). */
#ifndef PL_RECORD_H
#define PL_RECORD_H

#include "program.h"

typedef struct pl_tape pl_tape;

struct pl_tape {
  pl_program program;
  pl_scope scope;    /* values born in it */
  pl_scope captured; /* owned values that it reads, retained once */
  uint32_t serial;
  pl_region *open; /* innermost open region */

  bool traced;           /* only shape rules run */
  struct pl_tape *outer; /* a trace: what was being recorded around it */
  pl_scope *outer_scope;
  uint32_t outer_line;
  int n_given;
  pl_value *given;  /* its inputs */
  pl_value numbers; /* the input whose cells are the numbers met while tracing, or PL_NONE */
  pl_value vector;  /* the numbers as a tensor, made when they are asked for */
  uint64_t *cells;  /* what they are now */
  int64_t n_cells, cells_capacity;
  int n_saved, depth; /* scopes and pauses, and users' ops, around it */
  struct pl_tape *doomed;
};

struct pl_region {
  pl_context *context;
  pl_tape *recording;
  pl_region *outer; /* the next open one outwards */
  bool outermost, open, spent;
  int64_t start, stop; /* its instructions */
  int n;
  pl_value *x, *inputs; /* x: PL_NONE where it was not flagged */
  char **names;
  pl_scope *saved_scope;       /* of the context, while an outermost region is open */
  uint32_t saved_line, serial; /* serial: of its recording, which may be gone */
  int n_saved, depth;          /* scopes and pauses, and users' ops, around it */
  pl_region *doomed;
};

/* Has the recording that an inner region lies in ended? Its address may be another's by now. */
static inline bool pl_region_gone(const pl_region *r) {
  const pl_tape *t = r->context->recording;
  return !r->outermost && (!t || t->serial != r->serial);
}
/* Frees what a host's collector gave back within a pause, a scope or a user's op which would have come back to it. */
void pl_doomed_free(pl_context *c);

/* Appends a call that ran. */
bool pl_record(pl_context *c, const pl_op *op, int n_in, pl_slot *const *in, const pl_attr *attrs, int n_out,
               pl_slot *const *out);
/* The name under which an open region differentiates with respect to v; "" when unknown. */
const char *pl_parameter_name(pl_context *c, pl_value v);
void pl_tape_free(pl_context *c, pl_tape *t);
bool pl_slot_finite(const pl_slot *s);
/* Runs instruction k again on its recorded inputs; writes handles of fresh outputs. For tests of replay. */
bool pl_replay(pl_region *r, int64_t k, pl_value *outputs);

#endif
