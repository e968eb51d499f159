/* program.h: a list of instructions. While it is being recorded its operands are slots of live values; everything
 * needed to run an instruction again stands in it. A sub-program is an attribute (an interned object), and what it
 * captures are further inputs of the instruction that holds it. */
#ifndef PL_PROGRAM_H
#define PL_PROGRAM_H

#include "op.h"

typedef struct {
  const pl_op *op;
  const pl_attr *attrs; /* in the program's arena */
  uint32_t line;        /* source << 20 | line in the user's script; 0: unknown */
  uint32_t operands;    /* where its inputs, then its outputs, start in pl_program.operands */
  uint16_t n_in, n_out;
} pl_instruction;

typedef struct pl_arena_block {
  struct pl_arena_block *next;
  size_t used, size;
} pl_arena_block;

typedef struct {
  pl_instruction *instructions;
  uint32_t *operands;
  int64_t n, capacity, n_operands, operands_capacity;
  pl_arena_block *arena;
} pl_program;

/* False, and the error set, when there is no memory. Attributes are copied, objects in them retained. */
bool pl_program_append(pl_context *c, pl_program *p, const pl_op *op, int n_in, const uint32_t *in,
                       const pl_attr *attrs, int n_out, const uint32_t *out);
/* A copy of attributes in p's arena, for pl_program_append: objects in them are retained. */
const pl_attr *pl_program_attrs(pl_context *c, pl_program *p, const pl_op *op, const pl_attr *attrs);
void pl_program_free(pl_context *c, pl_program *p);
/* "script.lua:12" or "" */
const char *pl_line_text(const pl_context *c, uint32_t line, char *text);

#endif
