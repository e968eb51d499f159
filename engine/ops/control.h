/* control.h: what the ops that hold sub-programs (control.c, loops.c) share. */
#ifndef PERILUNE_OPS_CONTROL_H
#define PERILUNE_OPS_CONTROL_H

#include <string.h>

#include "../body.h"
#include "../op.h"

#define BODY(attrs) ((pl_body *)(attrs)[0].object)
#define STEP(attrs) ((pl_body *)(attrs)[1].object) /* of those with two */
enum { SAVE_ASK, SAVE_NEVER, SAVE_DONE };          /* may be augmented; checkpoint: recompute all; has been augmented */

static inline bool is_float(const pl_spec *s) { return s->dtype <= PL_F32; }

static inline bool are_programs(const pl_attr *attrs, int n) {
  for (int i = 0; i < n; i++)
    if (attrs[i].type != PL_ATTR_OBJECT || !attrs[i].object || attrs[i].object->type != &pl_body_type) return false;
  return true;
}
static inline const char *spec_name(const pl_spec *s) {
  return s->dtype == PL_DTYPES ? "resource" : pl_dtype_name(s->dtype);
}

static inline int flagged(const uint8_t *flags, int from, int to) {
  int n = 0;
  for (int k = from; k < to; k++) n += flags[k] != 0;
  return n;
}

static inline void all_flags(uint8_t *flags, int n, int value) { memset(flags, value, (size_t)n); }

/* What hosts and files may get wrong: raises, and returns false. */
bool pl_misfit(pl_context *c, const pl_op *op);
bool pl_count_error(const pl_call *call, int n);
/* Inputs from `first` on against those of a body from `from` on. */
bool pl_check_inputs(const pl_call *call, const pl_body *b, int first, int from, int n);

/* The derivative of such an op is an op with these numbers of inputs and results: are they possible? Else raises. */
bool pl_derivative_possible(pl_context *c, const char *name, int64_t inputs, int64_t outputs);
bool pl_not_saving(pl_context *c); /* what augment returns when there is no program that saves */
/* The results of a body's instructions one by one. */
bool pl_inlined(pl_context *c, const pl_body *b, const pl_value *in, pl_value *out);
pl_value pl_zeros_of(pl_context *c, const pl_spec *s);
/* Flags of a list of values: floats with an active slot. How many. */
int pl_active_flags(pl_context *c, int n, const pl_value *in, uint8_t *flags);

/* ---- samples ---- */

/* A body made of a few ops on traced inputs of the given specs. */
typedef int (*pl_sample_function)(pl_context *c, const pl_value *x, pl_value *out);
pl_body *pl_sample_body(pl_context *c, int n, const pl_spec *specs, pl_sample_function f);
bool pl_sampled(pl_sample *s, pl_body *a, pl_body *b);
pl_value pl_sample_total(pl_context *c, pl_value x);
int pl_sample_step(pl_context *c, const pl_value *x, pl_value *out); /* state, x, captured -> state, y */
int pl_sample_grow(pl_context *c, const pl_value *x, pl_value *out); /* x, y -> x*y */
static const pl_spec three = {PL_F64, 1, {3}}, scalar_spec = {PL_F64, 0, {0}};

#define OBJECT(name) \
  { name, PL_AS_OBJECT, true, 0 }
#define LIST(name) \
  { name, PL_AS_INTS, true, 0 }
#define CONTROL(op, text)                                                                                          \
  .name = op, .formula = text, .kind = PL_OPAQUE, .inputs = -1, .outputs = -1, .internal = true, .dtypes = PL_ANY, \
  .keeps = PL_KEEPS_ALL

#endif
