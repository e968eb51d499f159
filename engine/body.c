#include "body.h"

#include <string.h>

/* ---- the object ---- */

static bool attrs_equal(const pl_op *op, const pl_attr *a, const pl_attr *b) {
  for (int i = pl_attr_count(op); i-- > 0;) {
    if (a[i].type != b[i].type) return false;
    switch (a[i].type) {
      case PL_ATTR_INTS:
        if (a[i].n != b[i].n || (a[i].n > 0 && memcmp(a[i].list, b[i].list, (size_t)a[i].n * sizeof *a[i].list)))
          return false;
        break;
      case PL_ATTR_REAL:
        if (memcmp(&a[i].r, &b[i].r, sizeof a[i].r)) return false;
        break;
      default:
        if (a[i].i != b[i].i) return false; /* numbers, and addresses of interned objects */
    }
  }
  return true;
}

bool pl_instruction_equal(const pl_instruction *p, const pl_instruction *q) {
  return p->op == q->op && p->n_in == q->n_in && p->n_out == q->n_out && attrs_equal(p->op, p->attrs, q->attrs);
}

uint64_t pl_instruction_hash(uint64_t h, const pl_instruction *q) {
  h = pl_hash(h, &q->op, sizeof q->op);
  for (int i = pl_attr_count(q->op); i-- > 0;) {
    const pl_attr *a = &q->attrs[i];
    if (a->type == PL_ATTR_INTS) h = pl_hash(h + (uint64_t)a->n, a->list, a->n > 0 ? (size_t)a->n * 8 : 0);
    else h = pl_hash(h, &a->i, 8);
  }
  return h;
}

static bool specs_equal(const pl_spec *a, const pl_spec *b) {
  return a->dtype == b->dtype && a->rank == b->rank && !memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape);
}

static bool constants_equal(const pl_body *a, const pl_body *b) {
  for (int i = 0; i < a->n_constants; i++) {
    if (a->constants[i] == b->constants[i]) continue;
    pl_slot *s = pl_slot_find(a->base.context, a->constants[i]), *t = pl_slot_find(a->base.context, b->constants[i]);
    pl_spec u, v;
    if (!s || !t || ((s->flags | t->flags) & PL_FLAG_RESOURCE)) return false;
    pl_spec_of(s, &u);
    pl_spec_of(t, &v);
    if (!specs_equal(&u, &v) || memcmp(s->data, t->data, (size_t)s->count * pl_dtype_size((pl_dtype)s->dtype)))
      return false;
  }
  return true;
}

static bool body_equal(const pl_object *x, const pl_object *y) {
  const pl_body *a = (const pl_body *)x, *b = (const pl_body *)y;
  if (a->n_in != b->n_in || a->n_out != b->n_out || a->n_constants != b->n_constants || a->n_values != b->n_values ||
      a->code.n != b->code.n || a->code.n_operands != b->code.n_operands)
    return false;
  if (memcmp(a->outputs, b->outputs, (size_t)a->n_out * sizeof *a->outputs) ||
      (a->code.n_operands &&
       memcmp(a->code.operands, b->code.operands, (size_t)a->code.n_operands * sizeof *a->code.operands)))
    return false;
  for (int i = 0; i < a->n_in; i++)
    if (!specs_equal(&a->specs[i], &b->specs[i])) return false;
  for (int64_t k = 0; k < a->code.n; k++)
    if (a->code.instructions[k].line != b->code.instructions[k].line ||
        !pl_instruction_equal(&a->code.instructions[k], &b->code.instructions[k]))
      return false;
  return constants_equal(a, b);
}

/* Lets go of what belongs to others. */
static void body_clear(pl_context *c, pl_object *o) {
  pl_body *b = (pl_body *)o;
  for (int i = 0; i < 2; i++)
    if (b->executable[i]) b->executable_free(c, b->executable[i]);
  b->executable[0] = b->executable[1] = NULL;
  for (pl_derived *d = b->derived, *next; d; d = next) {
    next = d->next;
    pl_object_release((pl_object *)d->body);
    pl_memory_free(c, d->key);
    pl_memory_free(c, d->list);
    pl_memory_free(c, d);
  }
  b->derived = NULL;
  for (int i = 0; i < b->n_constants; i++) pl_release(c, b->constants[i]);
  b->n_constants = 0;
  pl_program_free(c, &b->code);
}

static void body_destroy(pl_context *c, pl_object *o) {
  pl_body *b = (pl_body *)o;
  body_clear(c, o);
  pl_memory_free(c, b->specs);
  pl_memory_free(c, b->outputs);
  pl_memory_free(c, b->constants);
  pl_memory_free(c, b->used);
  pl_memory_free(c, b);
}

const pl_object_type pl_body_type = {"program", body_equal, body_destroy, body_clear};

pl_body *pl_body_intern(pl_context *c, pl_body *b) {
  uint64_t h = (uint64_t)b->n_in << 32 | (uint64_t)b->n_out;
  for (int i = 0; i < b->n_in; i++) {
    h = h * 31 + (uint64_t)b->specs[i].dtype;
    h = pl_hash(h, b->specs[i].shape, (size_t)b->specs[i].rank * sizeof *b->specs[i].shape);
  }
  for (int64_t k = 0; k < b->code.n; k++)
    h = pl_instruction_hash(h + b->code.instructions[k].line, &b->code.instructions[k]);
  h = pl_hash(h, b->code.operands, (size_t)b->code.n_operands * sizeof *b->code.operands);
  b->base.hash = pl_hash(h, b->outputs, (size_t)b->n_out * sizeof *b->outputs);
  for (int i = 0; i < b->n_out; i++)
    if (b->outputs[i] < (uint32_t)b->n_in) b->used[b->outputs[i]] = 1;
  for (int64_t k = 0; k < b->code.n; k++) {
    const pl_instruction *q = &b->code.instructions[k];
    for (int i = 0; i < q->n_in; i++)
      if (b->code.operands[q->operands + (uint32_t)i] < (uint32_t)b->n_in)
        b->used[b->code.operands[q->operands + (uint32_t)i]] = 1;
  }
  return (pl_body *)pl_object_intern(c, &b->base);
}

pl_body *pl_body_new(pl_context *c, int n_in, int n_out, int n_constants, int n_values) {
  pl_body *b = pl_memory_new(c, sizeof *b);
  if (!b) return NULL;
  *b = (pl_body){
      .base = {.type = &pl_body_type, .context = c, .refs = 1}, .n_in = n_in, .n_out = n_out, .n_values = n_values};
  b->specs = pl_memory_new(c, ((size_t)n_values + 1) * sizeof *b->specs);
  b->outputs = pl_memory_new(c, ((size_t)n_out + 1) * sizeof *b->outputs);
  b->constants = pl_memory_new(c, ((size_t)n_constants + 1) * sizeof *b->constants);
  b->used = pl_memory_new(c, (size_t)n_in + 1);
  if (!b->specs || !b->outputs || !b->constants || !b->used) {
    body_destroy(c, &b->base);
    return NULL;
  }
  memset(b->used, 0, (size_t)n_in + 1);
  return b;
}

/* ---- tracing ---- */

enum { DEEPEST = 32 };

pl_tape *pl_trace_open(pl_context *c, int n, const pl_spec *specs, pl_value *inputs) {
  if (c->status) return NULL;
  int depth = 0;
  for (const pl_tape *q = c->recording; q; q = q->outer) depth++;
  if (depth > DEEPEST) { /* their derivatives are made by recursion */
    pl_error(c, PL_ERROR_STATE, "programs within programs, more than %d deep", DEEPEST);
    return NULL;
  }
  pl_tape *t = pl_memory_new(c, sizeof *t);
  if (!t) return NULL;
  *t = (pl_tape){.serial = ++c->recordings,
                 .traced = true,
                 .outer = c->recording,
                 .outer_scope = c->scope,
                 .outer_line = c->line,
                 .n_given = n,
                 .n_saved = c->n_saved,
                 .depth = c->host.depth};
  t->given = pl_memory_new(c, ((size_t)n + 1) * sizeof *t->given);
  if (!t->given) {
    pl_memory_free(c, t);
    return NULL;
  }
  c->recording = t;
  c->scope = &t->scope;
  for (int i = 0; i < n; i++) inputs[i] = t->given[i] = pl_value_traced(c, &specs[i]);
  if (c->status) {
    c->recording = t->outer;
    c->scope = t->outer_scope;
    pl_tape_free(c, t);
    return NULL;
  }
  return t;
}

pl_value pl_number(pl_context *c, pl_dtype dtype, double x) {
  if (c->status || !c->recording || !c->recording->traced) return pl_constant(c, dtype, x);
  pl_value v = pl_scalar(c, dtype, x);
  pl_slot *s = pl_slot_find(c, v);
  if (s) s->flags |= PL_FLAG_NUMBER;
  return v;
}

static pl_value new_cell(pl_context *c, pl_tape *t, pl_dtype dtype, const void *data) {
  if (t->numbers == PL_NONE) {
    pl_spec spec = {PL_F64, 1, {0}}; /* how many there are is known at the end */
    if ((t->numbers = pl_value_traced(c, &spec)) == PL_NONE) return PL_NONE;
  }
  if (t->n_cells == t->cells_capacity) {
    int64_t capacity = 2 * t->cells_capacity + 32;
    uint64_t *grown = pl_memory_grow(c, t->cells, (size_t)capacity * sizeof *grown);
    if (!grown) return PL_NONE;
    t->cells = grown;
    t->cells_capacity = capacity;
  }
  t->cells[t->n_cells] = 0;
  memcpy(&t->cells[t->n_cells], data, pl_dtype_size(dtype));
  return pl_call1(c, PL_OP(number), t->numbers, (pl_attr[]){PL_INT(t->n_cells++), PL_INT(dtype)});
}

pl_value pl_trace_cell(pl_context *c, const pl_slot *number) {
  return new_cell(c, c->recording, (pl_dtype)number->dtype, number->data);
}

static bool is_open(pl_context *c, const pl_tape *t) {
  const pl_tape *q = c->recording;
  while (q && q != t) q = q->outer;
  if (!q) pl_error(c, PL_ERROR_STATE, "this trace is not open");
  return q != NULL;
}

pl_value pl_trace_integer(pl_context *c, pl_trace *t, int64_t x, int64_t *cell) {
  if (c->status || !is_open(c, t)) return PL_NONE;
  pl_tape *inner = c->recording;
  pl_scope *scope = c->scope;
  c->recording = t; /* t may be further out than what is being recorded */
  c->scope = &t->scope;
  pl_value v = new_cell(c, t, PL_I64, &x);
  c->recording = inner;
  c->scope = scope;
  *cell = t->n_cells - 1;
  return v;
}

bool pl_trace_set_integer(pl_context *c, pl_trace *t, int64_t cell, int64_t x) {
  if (cell < 0 || cell >= t->n_cells || t->vector != PL_NONE) {
    pl_error(c, PL_ERROR_STATE, "this trace has no number %lld that could be set", (long long)cell);
    return false;
  }
  memcpy(&t->cells[cell], &x, sizeof x);
  return true;
}

bool pl_trace_drop(pl_context *c, pl_trace *t) {
  if (c->status || !is_open(c, t)) return false;
  bool read = t->n_given < 1;
  for (int64_t k = 0; k < t->program.n && !read; k++) {
    const pl_instruction *q = &t->program.instructions[k];
    for (int i = 0; i < q->n_in; i++)
      read = read || t->program.operands[q->operands + (uint32_t)i] == pl_slot_index(t->given[t->n_given - 1]);
  }
  if (read) pl_error(c, PL_ERROR_STATE, "the last input of this trace is read");
  else t->n_given--;
  return !read;
}

/* Ends the recording of ops; what it holds stays until pl_tape_free. */
static void leave(pl_context *c, pl_tape *t) {
  if (c->recording != t) return;
  while (t->open) pl_region_close(t->open);
  c->recording = t->outer;
  c->scope = t->outer_scope;
  c->line = t->outer_line;
}

bool pl_trace_unwind(pl_context *c, const pl_tape *t) {
  const pl_tape *q = c->recording;
  while (q && q != t) q = q->outer;
  while (q && c->recording != t) leave(c, c->recording); /* traces: nothing else has an outer one */
  return q != NULL;
}

void pl_trace_abandon(pl_context *c, pl_tape *t) {
  if (pl_trace_unwind(c, t)) leave(c, t);
}

enum { DEAD = 0xffffffffu };

/* Numbers for all values of a tape, in slot->local: inputs, constants, results (dead ones too). */
typedef struct {
  int n_in, n_constants, n;
  uint32_t *rename; /* one a value: what is read in its place */
  int64_t *maker;   /* one a value: its instruction, or -1 */
} numbering;

static bool is_constant(const pl_tape *t, const pl_slot *s, bool closed) {
  (void)t;
  return closed || (s->flags & PL_FLAG_CONSTANT);
}

static bool number_values(pl_context *c, pl_tape *t, bool closed, numbering *m) {
  int64_t total = t->n_given + t->captured.n + 1;
  for (int64_t k = 0; k < t->program.n; k++) total += t->program.instructions[k].n_out;
  m->rename = pl_memory_new(c, (size_t)(total + 1) * sizeof *m->rename);
  m->maker = pl_memory_new(c, (size_t)(total + 1) * sizeof *m->maker);
  if (!m->rename || !m->maker) return false;
  int n = 0;
  for (int i = 0; i < t->n_given; i++) pl_slot_find(c, t->given[i])->local = (uint32_t)n++;
  for (int64_t i = 0; i < t->captured.n; i++) {
    pl_slot *s = pl_slot_at(c, t->captured.slots[i]);
    if (!is_constant(t, s, closed)) s->local = (uint32_t)n++;
  }
  if (t->numbers != PL_NONE) pl_slot_find(c, t->numbers)->local = (uint32_t)n++;
  m->n_in = n;
  for (int64_t i = 0; i < t->captured.n; i++) {
    pl_slot *s = pl_slot_at(c, t->captured.slots[i]);
    if (is_constant(t, s, closed)) s->local = (uint32_t)n++;
  }
  m->n_constants = n - m->n_in;
  for (int i = 0; i < n; i++) {
    m->rename[i] = (uint32_t)i;
    m->maker[i] = -1;
  }
  for (int64_t k = 0; k < t->program.n; k++) {
    const pl_instruction *q = &t->program.instructions[k];
    const uint32_t *o = t->program.operands + q->operands;
    for (int i = q->n_in; i < q->n_in + q->n_out; i++) {
      m->rename[n] = (uint32_t)n;
      m->maker[n] = k;
      pl_slot_at(c, o[i])->local = (uint32_t)n++;
    }
  }
  m->n = n;
  return true;
}

pl_body *pl_trace_close(pl_context *c, pl_tape *t, int n_out, const pl_value *outputs, bool closed, int n_replaced,
                        const pl_value *from, const pl_value *to) {
  numbering m = {0};
  pl_body *b = NULL, *result = NULL;
  uint8_t *live = NULL;
  uint32_t *compact = NULL;
  pl_value *own = pl_memory_new(c, ((size_t)n_out + 1) * sizeof *own);
  /* outputs that the trace did not make pass through it */
  for (int i = 0; i < n_out && own && !c->status; i++) {
    pl_slot *s = pl_slot_get(c, outputs[i]);
    own[i] = s && s->recording != t->serial ? pl_call1(c, PL_OP(identity), outputs[i], NULL) : outputs[i];
  }
  pl_trace_abandon(c, t);
  if (c->status || !own || !number_values(c, t, closed, &m)) goto done;
  live = pl_memory_new(c, (size_t)t->program.n + 1);
  compact = pl_memory_new(c, ((size_t)m.n + 1) * sizeof *compact);
  if (!live || !compact) goto done;
  memset(live, 0, (size_t)t->program.n + 1);

  /* aliases are read through; results that are known otherwise are read there */
  for (int64_t k = 0; k < t->program.n; k++) {
    const pl_instruction *q = &t->program.instructions[k];
    const uint32_t *o = t->program.operands + q->operands;
    if (q->op == PL_OP(identity)) m.rename[pl_slot_at(c, o[1])->local] = m.rename[pl_slot_at(c, o[0])->local];
  }
  for (int i = 0; i < n_replaced; i++) {
    pl_slot *s = pl_slot_find(c, from[i]), *r = pl_slot_find(c, to[i]);
    if (s && s->recording == t->serial && m.maker[m.rename[s->local]] >= 0) m.rename[m.rename[s->local]] = r->local;
  }
#define READ(slot) m.rename[m.rename[(slot)->local]]
  for (int i = 0; i < n_out; i++) {
    int64_t k = m.maker[READ(pl_slot_find(c, own[i]))];
    if (k >= 0) live[k] = 1;
  }
  for (int64_t k = t->program.n - 1; k >= 0; k--) {
    const pl_instruction *q = &t->program.instructions[k];
    const uint32_t *o = t->program.operands + q->operands;
    for (int i = 0; live[k] && i < q->n_in; i++) {
      int64_t l = m.maker[READ(pl_slot_at(c, o[i]))];
      if (l >= 0) live[l] = 1;
    }
  }
  /* count what stays */
  int n_values = m.n_in + m.n_constants;
  for (int i = 0; i < n_values; i++) compact[i] = (uint32_t)i;
  for (int64_t k = 0; k < t->program.n; k++) {
    const pl_instruction *q = &t->program.instructions[k];
    const uint32_t *o = t->program.operands + q->operands;
    for (int i = q->n_in; i < q->n_in + q->n_out; i++)
      compact[pl_slot_at(c, o[i])->local] = live[k] ? (uint32_t)n_values++ : DEAD;
  }
  b = pl_body_new(c, m.n_in, n_out, m.n_constants, n_values);
  if (!b) goto done;
  for (int i = 0; i < t->n_given; i++) pl_spec_of(pl_slot_find(c, t->given[i]), &b->specs[i]);
  for (int64_t i = 0; i < t->captured.n; i++) {
    pl_slot *s = pl_slot_at(c, t->captured.slots[i]);
    pl_spec_of(s, &b->specs[s->local]);
    if (s->local >= (uint32_t)m.n_in) {
      b->constants[b->n_constants++] = s->handle;
      pl_retain(c, s->handle);
    }
  }
  if (t->numbers != PL_NONE)
    b->specs[pl_slot_find(c, t->numbers)->local] = (pl_spec){PL_F64, 1, {(int32_t)(t->n_cells + PL_CELL_MARGIN)}};
  uint32_t small[64], *ids = small;
  uint32_t saved = c->line;
  for (int64_t k = 0; k < t->program.n && !c->status; k++) {
    if (!live[k]) continue;
    const pl_instruction *q = &t->program.instructions[k];
    const uint32_t *o = t->program.operands + q->operands;
    int n = q->n_in + q->n_out;
    if (n > 64 && !(ids = pl_memory_new(c, (size_t)n * sizeof *ids))) break;
    for (int i = 0; i < q->n_in; i++) ids[i] = compact[READ(pl_slot_at(c, o[i]))];
    for (int i = q->n_in; i < n; i++) {
      pl_slot *s = pl_slot_at(c, o[i]);
      ids[i] = compact[s->local];
      pl_spec_of(s, &b->specs[ids[i]]);
    }
    c->line = q->line;
    pl_program_append(c, &b->code, q->op, q->n_in, ids, q->attrs, q->n_out, ids + q->n_in);
    if (ids != small) pl_memory_free(c, ids);
    ids = small;
  }
  c->line = saved;
  for (int i = 0; i < n_out; i++) b->outputs[i] = compact[READ(pl_slot_find(c, own[i]))];
  if (!c->status) {
    result = pl_body_intern(c, b);
    b = NULL;
  }
done:
  if (b) body_destroy(c, &b->base);
  pl_memory_free(c, own);
  pl_memory_free(c, live);
  pl_memory_free(c, compact);
  pl_memory_free(c, m.rename);
  pl_memory_free(c, m.maker);
  return result;
}

int pl_trace_captures(pl_context *c, pl_tape *t, pl_value *list) {
  int n = 0;
  for (int64_t i = 0; i < t->captured.n; i++) {
    pl_slot *s = pl_slot_at(c, t->captured.slots[i]);
    if (is_constant(t, s, false)) continue;
    if (list) list[n] = s->handle;
    n++;
  }
  if (t->numbers == PL_NONE) return n;
  if (t->vector == PL_NONE && !c->status) {
    int64_t count = t->n_cells + PL_CELL_MARGIN;
    pl_pause(c);
    t->vector = pl_tensor(c, PL_F64, 1, &count, NULL);
    pl_resume(c);
    pl_slot *s = pl_slot_find(c, t->vector);
    if (s) memcpy(s->data, t->cells, (size_t)t->n_cells * sizeof *t->cells);
  }
  if (list) list[n] = t->vector;
  return n + 1;
}

pl_body *pl_body_extend(pl_context *c, const pl_body *a, int n, const uint32_t *values) {
  pl_body *b = pl_body_new(c, a->n_in, a->n_out + n, a->n_constants, a->n_values);
  if (!b) return NULL;
  memcpy(b->specs, a->specs, (size_t)a->n_values * sizeof *a->specs);
  memcpy(b->outputs, a->outputs, (size_t)a->n_out * sizeof *a->outputs);
  memcpy(b->outputs + a->n_out, values, (size_t)n * sizeof *values);
  for (int i = 0; i < a->n_constants; i++) {
    b->constants[b->n_constants++] = a->constants[i];
    pl_retain(c, a->constants[i]);
  }
  uint32_t saved = c->line;
  for (int64_t k = 0; k < a->code.n && !c->status; k++) {
    const pl_instruction *q = &a->code.instructions[k];
    const uint32_t *o = a->code.operands + q->operands;
    c->line = q->line;
    pl_program_append(c, &b->code, q->op, q->n_in, o, q->attrs, q->n_out, o + q->n_in);
  }
  c->line = saved;
  if (!c->status) return pl_body_intern(c, b);
  body_destroy(c, &b->base);
  return NULL;
}

bool pl_body_inline(pl_context *c, const pl_body *b, const pl_value *inputs, pl_value *values, pl_value *outputs) {
  memcpy(values, inputs, (size_t)b->n_in * sizeof *values);
  memcpy(values + b->n_in, b->constants, (size_t)b->n_constants * sizeof *values);
  uint32_t saved = c->line;
  for (int64_t k = 0; k < b->code.n && !c->status; k++) {
    const pl_instruction *q = &b->code.instructions[k];
    const uint32_t *o = b->code.operands + q->operands;
    pl_value in[PL_MAX_INPUTS], out[PL_MAX_OUTPUTS];
    for (int i = 0; i < q->n_in; i++) in[i] = values[o[i]];
    c->line = q->line;
    if (!pl_apply(c, q->op, q->n_in, in, q->attrs, out)) break;
    for (int i = 0; i < q->n_out; i++) values[o[q->n_in + i]] = out[i];
  }
  c->line = saved;
  for (int i = 0; i < b->n_out; i++) outputs[i] = c->status ? PL_NONE : values[b->outputs[i]];
  return c->status == PL_OK;
}

/* ---- what was derived ---- */

pl_derived *pl_derived_find(const pl_body *b, int kind, int n_key, const uint64_t *key) {
  for (pl_derived *d = b->derived; d; d = d->next)
    if (d->kind == kind && d->n_key == n_key && (!n_key || !memcmp(d->key, key, (size_t)n_key * sizeof *key))) return d;
  return NULL;
}

pl_derived *pl_derived_keep(pl_context *c, pl_body *b, int kind, int n_key, const uint64_t *key, pl_body *body,
                            int n_list, const int32_t *list) {
  pl_derived *d = c->status ? NULL : pl_memory_new(c, sizeof *d);
  if (d) {
    *d = (pl_derived){.kind = kind, .n_key = n_key, .body = body, .n_list = n_list};
    d->key = pl_memory_new(c, ((size_t)n_key + 1) * sizeof *key);
    d->list = pl_memory_new(c, ((size_t)n_list + 1) * sizeof *list);
  }
  if (!d || !d->key || !d->list) {
    pl_object_release((pl_object *)body);
    if (d) {
      pl_memory_free(c, d->key);
      pl_memory_free(c, d->list);
      pl_memory_free(c, d);
    }
    return NULL;
  }
  if (n_key) memcpy(d->key, key, (size_t)n_key * sizeof *key);
  if (n_list) memcpy(d->list, list, (size_t)n_list * sizeof *list);
  d->next = b->derived;
  b->derived = d;
  return d;
}

/* ---- for hosts (programs.h) ---- */

pl_trace *pl_trace_like(pl_context *c, int n, const pl_value *models, int whole, pl_value *inputs) {
  if (c->status) return NULL;
  pl_spec *specs = pl_memory_new(c, ((size_t)n + 1) * sizeof *specs);
  pl_tape *t = NULL;
  for (int k = 0; specs && k < n; k++) {
    pl_slot *s = pl_slot_get(c, models[k]);
    if (!s) break;
    pl_spec_of(s, &specs[k]);
    if (k < whole) continue;
    if (s->rank == 0) {
      pl_error(c, PL_ERROR_SHAPE, "a number cannot be walked along its first axis");
      break;
    }
    specs[k].rank--;
    memmove(specs[k].shape, specs[k].shape + 1, (size_t)specs[k].rank * sizeof *specs[k].shape);
  }
  if (specs && !c->status) t = pl_trace_open(c, n, specs, inputs);
  pl_memory_free(c, specs);
  return t;
}

pl_body *pl_trace_end(pl_context *c, pl_trace *t, int n_out, const pl_value *outputs) {
  int64_t n_in = t->n_given + (t->numbers != PL_NONE);
  for (int64_t i = 0; i < t->captured.n; i++) n_in += !is_constant(t, pl_slot_at(c, t->captured.slots[i]), false);
  if (n_in > PL_MAX_INPUTS || n_out > PL_MAX_OUTPUTS) {
    pl_error(c, PL_ERROR_ARGUMENT,
             "the traced function takes and captures %lld tensors and returns %d; at most %d and %d are possible: join "
             "tensors (stack, concat)",
             (long long)n_in, n_out, PL_MAX_INPUTS, PL_MAX_OUTPUTS);
    pl_trace_abandon(c, t);
    return NULL;
  }
  return pl_trace_close(c, t, n_out, outputs, false, 0, NULL, NULL);
}

bool pl_tracing(const pl_context *c) { return c->recording && c->recording->traced; }
pl_object *pl_body_object(pl_body *b) { return &b->base; }
void pl_body_retain(pl_body *b) { pl_object_retain(&b->base); }
void pl_body_release(pl_body *b) { pl_object_release((pl_object *)b); }
int pl_op_count(const pl_op *op, const pl_attr *attrs) { return pl_op_results(op, attrs); }

void pl_body_size(const pl_body *b, int *inputs, int *outputs, int64_t *instructions, int64_t *values) {
  *inputs = b->n_in;
  *outputs = b->n_out;
  *instructions = b->code.n;
  *values = b->n_values;
}

static bool only_floats(pl_context *c, const pl_body *b, const uint8_t *flags) {
  for (int i = 0; i < b->n_in; i++)
    if (flags[i] && b->specs[i].dtype > PL_F32) {
      pl_error(c, PL_ERROR_TYPE, "only f64 and f32 tensors can be differentiated, not %s",
               b->specs[i].dtype == PL_DTYPES ? "a resource" : pl_dtype_name(b->specs[i].dtype));
      return false;
    }
  return true;
}

pl_body *pl_body_with_gradient(pl_context *c, pl_body *b, const uint8_t *need, uint8_t *reached) {
  if (b->n_out < 1) pl_error(c, PL_ERROR_ARGUMENT, "a program without results has no gradient");
  pl_derived *d = only_floats(c, b, need) ? pl_body_gradient(c, b, need) : NULL;
  if (!d) return NULL;
  for (int i = 0; i < b->n_in; i++) reached[i] = d->list[i] != 0;
  pl_object_retain(&d->body->base);
  return d->body;
}

pl_body *pl_body_with_tangents(pl_context *c, pl_body *b, const uint8_t *active) {
  pl_derived *d = only_floats(c, b, active) ? pl_body_pushforward(c, b, active) : NULL;
  if (d) pl_object_retain(&d->body->base);
  return d ? d->body : NULL;
}

void pl_set_plain(pl_context *c, bool plain, bool check_finite) {
  c->plain = plain || check_finite;
  c->check_finite = check_finite;
}
