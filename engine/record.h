/* record.h: recordings and their regions. There is one program for each outermost recording; an inner derivative is a
 * region of it. */
#ifndef PL_RECORD_H
#define PL_RECORD_H

#include "program.h"

typedef struct pl_tape {
  pl_program program;
  pl_scope scope;    /* values born in it */
  pl_scope captured; /* owned values that it reads, retained once */
  uint32_t serial;
  pl_region *open; /* innermost open region */
} pl_tape;

struct pl_region {
  pl_context *context;
  pl_tape *recording;
  pl_region *outer; /* the next open one outwards */
  bool outermost, open, spent;
  int64_t start, stop; /* its instructions */
  int n;
  pl_value *x, *inputs; /* x: PL_NONE where it was not flagged */
  char **names;
  pl_scope *saved_scope; /* of the context, while an outermost region is open */
  uint32_t saved_line;
};

/* Appends a call that ran. */
bool pl_record(pl_context *c, const pl_op *op, int n_in, pl_slot *const *in, const pl_attr *attrs, int n_out,
               pl_slot *const *out);
/* The name under which an open region differentiates with respect to v; "" when unknown. */
const char *pl_parameter_name(pl_context *c, pl_value v);
/* Runs instruction k again on its recorded inputs; writes handles of fresh outputs. For tests of replay. */
bool pl_replay(pl_region *r, int64_t k, pl_value *outputs);

#endif
