#include "program.h"

#include <stdio.h>
#include <string.h>

static void *arena_take(pl_context *c, pl_program *p, size_t bytes) {
  bytes = (bytes + 15) & ~(size_t)15;
  pl_arena_block *b = p->arena;
  if (!b || b->used + bytes > b->size) {
    size_t size = bytes > 4000 ? bytes : 4000;
    b = pl_memory_new(c, sizeof *b + 16 + size);
    if (!b) return NULL;
    *b = (pl_arena_block){p->arena, 0, size};
    p->arena = b;
  }
  char *start = (char *)(((uintptr_t)(b + 1) + 15) & ~(uintptr_t)15) + b->used;
  b->used += bytes;
  return start;
}

const pl_attr *pl_program_attrs(pl_context *c, pl_program *p, const pl_op *op, const pl_attr *attrs) {
  int n = pl_attr_count(op);
  size_t lists = 0;
  for (int i = 0; i < n; i++)
    if (attrs[i].type == PL_ATTR_INTS && attrs[i].n > 0) lists += (size_t)attrs[i].n;
  pl_attr *copy = arena_take(c, p, (size_t)n * sizeof *copy + lists * sizeof(int64_t));
  if (!copy) return NULL;
  int64_t *list = (int64_t *)(copy + n);
  for (int i = 0; i < n; i++) {
    copy[i] = attrs[i];
    if (attrs[i].type == PL_ATTR_INTS && attrs[i].n > 0) {
      memcpy(list, attrs[i].list, (size_t)attrs[i].n * sizeof *list);
      copy[i].list = list;
      list += attrs[i].n;
    }
    if (attrs[i].type == PL_ATTR_OBJECT && attrs[i].object) pl_object_retain(attrs[i].object);
  }
  return copy;
}

bool pl_program_append(pl_context *c, pl_program *p, const pl_op *op, int n_in, const uint32_t *in,
                       const pl_attr *attrs, int n_out, const uint32_t *out) {
  if (p->n == p->capacity) {
    int64_t capacity = p->capacity ? 2 * p->capacity : 64;
    void *grown = pl_memory_grow(c, p->instructions, (size_t)capacity * sizeof *p->instructions);
    if (!grown) return false;
    p->instructions = grown;
    p->capacity = capacity;
  }
  if (p->n_operands + n_in + n_out > p->operands_capacity) {
    int64_t capacity = 2 * p->operands_capacity + n_in + n_out + 128;
    void *grown = pl_memory_grow(c, p->operands, (size_t)capacity * sizeof *p->operands);
    if (!grown) return false;
    p->operands = grown;
    p->operands_capacity = capacity;
  }
  const pl_attr *copy = NULL;
  if (op->attrs[0].name && !(copy = pl_program_attrs(c, p, op, attrs))) return false;
  uint32_t *o = p->operands + p->n_operands;
  for (int i = 0; i < n_in; i++) o[i] = in[i];
  for (int i = 0; i < n_out; i++) o[n_in + i] = out[i];
  p->instructions[p->n++] =
      (pl_instruction){op, copy, c->line, (uint32_t)p->n_operands, (uint16_t)n_in, (uint16_t)n_out};
  p->n_operands += n_in + n_out;
  return true;
}

void pl_program_free(pl_context *c, pl_program *p) {
  for (int64_t k = 0; k < p->n; k++) {
    const pl_instruction *q = &p->instructions[k];
    if (!q->attrs) continue;
    for (int i = pl_attr_count(q->op) - 1; i >= 0; i--)
      if (q->attrs[i].type == PL_ATTR_OBJECT) pl_object_release(q->attrs[i].object);
  }
  for (pl_arena_block *b = p->arena, *next; b; b = next) {
    next = b->next;
    pl_memory_free(c, b);
  }
  pl_memory_free(c, p->instructions);
  pl_memory_free(c, p->operands);
  *p = (pl_program){0};
}

const char *pl_line_text(const pl_context *c, uint32_t line, char *text) {
  int source = (int)(line >> 20);
  text[0] = 0;
  if (source > 0 && source <= c->n_sources)
    snprintf(text, PL_TEXT, "%.140s:%u", c->sources[source - 1], line & 0xfffff);
  return text;
}
