/* body.h: closed programs. A body is a program whose operands are numbers of values instead of slots: inputs first,
 * then constants, then results. It is immutable and interned by content, so that a loss which traces its loop's step at
 * each evaluation finds the same body, and with it whatever was derived from it: its derivatives, its optimized form.
 *
 *   pl_tape *t = pl_trace_open(c, n, specs, inputs);     // from here on ops are recorded by their shape rules alone
 *   y = pl_apply1(c, op, ...);
 *   pl_body *b = pl_trace_close(c, t, 1, &y, ...);    // NULL, and the error set, on an error
 *   n = pl_trace_captures(t, captured);                  // what it reads from outside: its inputs after the given ones
 *   ... pl_tape_free(c, t)
 *
 * Whatever the traced code touches of the world outside becomes an input, once: a value of an enclosing recording, an
 * owned tensor, and the numbers that pl_number met, which are cells of one vector, the last input. So the body does not
 * depend on what those are. An op whose inputs are all known and of no recording runs at once: its result is captured.
 */
#ifndef PL_BODY_H
#define PL_BODY_H

#include "programs.h"
#include "record.h"

typedef struct pl_derived {
  struct pl_derived *next;
  int kind;      /* of transform */
  uint64_t *key; /* n_key words: masks, options */
  int n_key;
  struct pl_body *body; /* held; NULL: there is none (all results are zero) */
  int32_t *list;        /* what belongs to it, by kind */
  int n_list;
} pl_derived;

struct pl_body {
  pl_object base;
  pl_program code; /* operands: numbers of values */
  int32_t n_in, n_out, n_constants, n_values;
  pl_spec *specs;      /* one a value */
  uint32_t *outputs;   /* numbers */
  pl_value *constants; /* values n_in ... */
  uint8_t *used;       /* which inputs are read, or returned */
  pl_derived *derived;
  struct pl_executable *executable[2]; /* plain and optimized (execute.h) */
  void (*executable_free)(pl_context *c, struct pl_executable *e);
};

extern const pl_object_type pl_body_type;

/* Cells beyond the last number, so that whole vectors may be read at any of them. */
enum { PL_CELL_MARGIN = 8 };

pl_tape *pl_trace_open(pl_context *c, int n, const pl_spec *specs, pl_value *inputs);
/* What stands for a number (pl_number) in the ops of the open trace: a cell of its last input. */
pl_value pl_trace_cell(pl_context *c, const pl_slot *number);
/* Ends the tracing. closed: whatever was captured becomes a constant of the body. from[i] (results of instructions) are
 * replaced by to[i] wherever they are read. What has no effect on the outputs is left out. */
pl_body *pl_trace_close(pl_context *c, pl_tape *t, int n_out, const pl_value *outputs, bool closed, int n_replaced,
                        const pl_value *from, const pl_value *to);
void pl_trace_abandon(pl_context *c, pl_tape *t); /* ends the tracing without a result; pl_tape_free is still due */
/* Ends the traces that were left open inside t; false when t itself is no longer open. */
bool pl_trace_unwind(pl_context *c, const pl_tape *t);
/* The same body with further outputs (numbers of its values). The reference is the caller's. */
pl_body *pl_body_extend(pl_context *c, const pl_body *b, int n, const uint32_t *values);

/* For those who make bodies otherwise: a body with room, to be filled (code by pl_program_append) and interned. */
pl_body *pl_body_new(pl_context *c, int n_in, int n_out, int n_constants, int n_values);
pl_body *pl_body_intern(pl_context *c, pl_body *b);
/* Of op and attributes, not of operands. */
bool pl_instruction_equal(const pl_instruction *p, const pl_instruction *q);
uint64_t pl_instruction_hash(uint64_t seed, const pl_instruction *q);

/* A remembered derivation, or NULL; and remembering one (body may be NULL; the list is copied; the reference to body is
 * taken over). */
pl_derived *pl_derived_find(const pl_body *b, int kind, int n_key, const uint64_t *key);
pl_derived *pl_derived_keep(pl_context *c, pl_body *b, int kind, int n_key, const uint64_t *key, pl_body *body,
                            int n_list, const int32_t *list);

/* ---- derivatives of bodies (transform/derive.c) ---- */

/* Flags are one byte an input or output of b. Inputs of what they make: b's inputs x, b's outputs y (those `known` are
 * read instead of being computed again; the others are not read), then a cotangent for each given output, or a tangent
 * for each active input. */
/* -> gx for each needed input that is reached. derived->list: for each input of b the output's number, or -1 (zero). */
pl_derived *pl_body_vjp(pl_context *c, pl_body *b, const uint8_t *need, const uint8_t *given, const uint8_t *known);
/* -> dy for each output that moves. derived->list: for each output of b its number here, or -1 (zero). */
pl_derived *pl_body_jvp(pl_context *c, pl_body *b, const uint8_t *active, const uint8_t *known);
/* b with those further outputs that its derivatives in `need` had better find ready: results that they read and that
 * cost more to make again than to keep. derived->list: for each input of b, then for each output, whether they read it
 * too. */
pl_derived *pl_body_saving(pl_context *c, pl_body *b, const uint8_t *need);
/* -> b's outputs (the first of one element), then the gradient of the first for each needed input (zeros where it is
 * not reached); inputs are b's. derived->list: for each input of b whether it is reached. */
pl_derived *pl_body_gradient(pl_context *c, pl_body *b, const uint8_t *need);
/* -> b's outputs, then their tangents (zeros where they do not move); inputs: b's, then a tangent for each active one.
 */
pl_derived *pl_body_pushforward(pl_context *c, pl_body *b, const uint8_t *active);
/* Which outputs depend on the active inputs. */
void pl_body_activity(const pl_body *b, const uint8_t *active_in, uint8_t *active_out);

/* ---- entries side by side (transform/batch.c) ---- */

/* -> b's outputs for n entries at once: flagged inputs (one at least) have a first axis of n, and so have the outputs
 * that depend on them and the `wanted` ones (may be NULL). derived->list: for each output whether it has. */
pl_derived *pl_body_batch(pl_context *c, pl_body *b, int64_t n, const uint8_t *flags, const uint8_t *wanted);

#endif
