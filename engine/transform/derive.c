/* derive.c: derivatives of bodies: the body is inlined into a trace, where the transforms of regions (vjp.c, jvp.c) run
 * on its shapes. What they need again of the body's own computation is recomputed by the result, except for what its
 * outputs already hold: so whoever runs a body for a derivative lets it put out what is dear to make again
 * (pl_body_saving). */
#include <string.h>

#include "body.h"

enum { DERIVED_VJP = 1, DERIVED_JVP, DERIVED_SAVING, DERIVED_GRADIENT, DERIVED_PUSHFORWARD };

/* Flags as a key. */
static int pack(uint64_t *key, const uint8_t *a, int n, const uint8_t *b, int m, const uint8_t *d, int l) {
  int words = (n + m + l + 63) / 64, bit = 0;
  memset(key, 0, (size_t)words * 8);
  for (int i = 0; i < n; i++, bit++) key[bit / 64] |= (uint64_t)(a[i] != 0) << bit % 64;
  for (int i = 0; i < m; i++, bit++) key[bit / 64] |= (uint64_t)(b[i] != 0) << bit % 64;
  for (int i = 0; i < l; i++, bit++) key[bit / 64] |= (uint64_t)(d && d[i]) << bit % 64;
  return words;
}

/* Work space of one derivation, from one block. */
typedef struct {
  void *block;
  uint64_t *key;
  pl_spec *specs;
  pl_value *inputs, *aliases, *x, *values, *outs, *list_a, *list_b;
  int32_t *list;
} work;

static bool work_new(pl_context *c, const pl_body *b, work *w) {
  size_t n = (size_t)(2 * (b->n_in + b->n_out) + 8), v = (size_t)b->n_values + 1;
  w->block =
      pl_memory_new(c, n * (sizeof(pl_spec) + 6 * sizeof(pl_value) + sizeof(int32_t) + 8) + v * sizeof(pl_value));
  if (!w->block) return false;
  char *p = w->block;
#define TAKE(field, count) (w->field = (void *)p, p += (count) * sizeof *w->field)
  TAKE(key, n);
  TAKE(inputs, n);
  TAKE(aliases, n);
  TAKE(x, n);
  TAKE(outs, n);
  TAKE(list_a, n);
  TAKE(list_b, n);
  TAKE(values, v);
  TAKE(specs, n);
  TAKE(list, n);
#undef TAKE
  return true;
}

static bool is_float(const pl_spec *s) { return s->dtype <= PL_F32; }

void pl_body_activity(const pl_body *b, const uint8_t *active_in, uint8_t *active_out) {
  pl_context *c = b->base.context;
  uint8_t *moves = pl_memory_new(c, (size_t)b->n_values + 1);
  if (!moves) return;
  memset(moves, 0, (size_t)b->n_values + 1);
  for (int i = 0; i < b->n_in; i++) moves[i] = active_in[i] && is_float(&b->specs[i]);
  for (int64_t k = 0; k < b->code.n; k++) {
    const pl_instruction *q = &b->code.instructions[k];
    const uint32_t *o = b->code.operands + q->operands;
    bool any = false;
    for (int i = 0; i < q->n_in; i++) any = any || moves[o[i]];
    if (!any || q->op->constant) continue;
    for (int i = q->n_in; i < q->n_in + q->n_out; i++) moves[o[i]] = is_float(&b->specs[o[i]]);
  }
  for (int i = 0; i < b->n_out; i++) active_out[i] = moves[b->outputs[i]];
  pl_memory_free(c, moves);
}

/* The trace of x, y (where asked for) and the seeds (whose specs stand behind already), with b inlined in a region of
 * the flagged inputs. */
static pl_tape *open_derivation(pl_context *c, pl_body *b, const uint8_t *flags, bool outputs, int n_seeds, work *w,
                                pl_region **region) {
  int n = 0, n_x = 0;
  for (int i = 0; i < b->n_in; i++) w->specs[n++] = b->specs[i];
  for (int i = 0; outputs && i < b->n_out; i++) w->specs[n++] = b->specs[b->outputs[i]];
  pl_tape *t = pl_trace_open(c, n + n_seeds, w->specs, w->inputs);
  if (!t) return NULL;
  for (int i = 0; i < b->n_in; i++)
    if (flags[i]) w->list_a[n_x++] = w->inputs[i];
  *region = pl_region_open(c, n_x, w->list_a, NULL, w->aliases);
  for (int i = 0, k = 0; i < b->n_in; i++) w->x[i] = flags[i] ? w->aliases[k++] : w->inputs[i];
  if (*region && pl_body_inline(c, b, w->x, w->values, w->outs)) return t;
  pl_region_free(*region);
  *region = NULL;
  pl_trace_abandon(c, t);
  pl_tape_free(c, t);
  return NULL;
}

/* Known outputs are read from the inputs y. */
static int replacements(const pl_body *b, const uint8_t *known, work *w) {
  int n = 0;
  for (int i = 0; i < b->n_out; i++)
    if (known && known[i] && b->specs[b->outputs[i]].dtype != PL_DTYPES) {
      w->list_a[n] = w->outs[i];
      w->list_b[n++] = w->inputs[b->n_in + i];
    }
  return n;
}

pl_derived *pl_body_vjp(pl_context *c, pl_body *b, const uint8_t *need, const uint8_t *given, const uint8_t *known) {
  work w;
  if (c->status || !work_new(c, b, &w)) return NULL;
  int n_key = pack(w.key, need, b->n_in, given, b->n_out, known, b->n_out);
  pl_derived *d = pl_derived_find(b, DERIVED_VJP, n_key, w.key);
  if (!d) {
    int n_seeds = 0, n_need = 0, n_out = 0;
    for (int i = 0; i < b->n_out; i++)
      if (given[i]) w.specs[b->n_in + b->n_out + n_seeds++] = b->specs[b->outputs[i]];
    for (int i = 0; i < b->n_in; i++) n_need += need[i] != 0;
    pl_region *r = NULL;
    pl_tape *t = open_derivation(c, b, need, true, n_seeds, &w, &r);
    bool *reached = pl_memory_new(c, (size_t)n_need + 1);
    pl_body *made = NULL;
    if (t && reached) {
      pl_region_close(r);
      int k = 0;
      for (int i = 0; i < b->n_out; i++)
        if (given[i]) {
          w.list_a[k] = w.outs[i];
          w.list_b[k] = w.inputs[b->n_in + b->n_out + k];
          k++;
        }
      pl_region_vjp(r, n_seeds, w.list_a, w.list_b, w.aliases, reached, false);
      for (int i = 0, j = 0; i < b->n_in; i++) {
        w.list[i] = -1;
        if (!need[i]) continue;
        if (reached[j]) {
          w.x[n_out] = w.aliases[j];
          w.list[i] = n_out++;
        }
        j++;
      }
      int n_known = replacements(b, known, &w);
      made = pl_trace_close(c, t, n_out, w.x, true, n_known, w.list_a, w.list_b);
    }
    pl_region_free(r);
    if (t) {
      pl_trace_abandon(c, t);
      pl_tape_free(c, t);
    }
    pl_memory_free(c, reached);
    if (made) d = pl_derived_keep(c, b, DERIVED_VJP, n_key, w.key, made, b->n_in, w.list);
  }
  pl_memory_free(c, w.block);
  return d;
}

pl_derived *pl_body_jvp(pl_context *c, pl_body *b, const uint8_t *active, const uint8_t *known) {
  work w;
  if (c->status || !work_new(c, b, &w)) return NULL;
  int n_key = pack(w.key, active, b->n_in, NULL, 0, known, b->n_out);
  pl_derived *d = pl_derived_find(b, DERIVED_JVP, n_key, w.key);
  if (!d) {
    int n_seeds = 0, n_out = 0;
    for (int i = 0; i < b->n_in; i++)
      if (active[i]) w.specs[b->n_in + b->n_out + n_seeds++] = b->specs[i];
    pl_region *r = NULL;
    pl_tape *t = open_derivation(c, b, active, true, n_seeds, &w, &r);
    pl_body *made = NULL;
    if (t) {
      pl_region_close(r);
      int n_y = 0;
      for (int i = 0; i < b->n_out; i++)
        if (b->specs[b->outputs[i]].dtype != PL_DTYPES) w.list_a[n_y++] = w.outs[i];
      pl_region_jvp(r, n_y, w.list_a, w.inputs + b->n_in + b->n_out, w.aliases);
      for (int i = 0, j = 0; i < b->n_out; i++) {
        w.list[i] = -1;
        if (b->specs[b->outputs[i]].dtype == PL_DTYPES) continue;
        if (w.aliases[j] != PL_ZERO && is_float(&b->specs[b->outputs[i]])) {
          w.x[n_out] = w.aliases[j];
          w.list[i] = n_out++;
        }
        j++;
      }
      int n_known = replacements(b, known, &w);
      made = pl_trace_close(c, t, n_out, w.x, true, n_known, w.list_a, w.list_b);
      pl_region_free(r);
      pl_tape_free(c, t);
    }
    if (made) d = pl_derived_keep(c, b, DERIVED_JVP, n_key, w.key, made, b->n_out, w.list);
  }
  pl_memory_free(c, w.block);
  return d;
}

/* ---- values and derivatives in one program ---- */

pl_derived *pl_body_gradient(pl_context *c, pl_body *b, const uint8_t *need) {
  work w;
  if (c->status || !work_new(c, b, &w)) return NULL;
  int n_key = pack(w.key, need, b->n_in, NULL, 0, NULL, 0);
  pl_derived *d = pl_derived_find(b, DERIVED_GRADIENT, n_key, w.key);
  pl_region *r = NULL;
  pl_tape *t = d ? NULL : open_derivation(c, b, need, false, 0, &w, &r);
  bool *reached = t ? pl_memory_new(c, (size_t)b->n_in + 1) : NULL;
  if (reached) {
    pl_region_close(r);
    int n = b->n_out;
    if (pl_region_vjp(r, 1, w.outs, NULL, w.aliases, reached, false)) {
      for (int i = 0, k = 0; i < b->n_in; i++) {
        w.list[i] = need[i] ? reached[k] : 0;
        if (need[i]) w.outs[n++] = w.aliases[k++];
      }
      pl_body *made = pl_trace_close(c, t, n, w.outs, true, 0, NULL, NULL);
      if (made) d = pl_derived_keep(c, b, DERIVED_GRADIENT, n_key, w.key, made, b->n_in, w.list);
    }
  }
  if (t) {
    pl_region_free(r);
    pl_trace_abandon(c, t);
    pl_tape_free(c, t);
  }
  pl_memory_free(c, reached);
  pl_memory_free(c, w.block);
  return d;
}

pl_derived *pl_body_pushforward(pl_context *c, pl_body *b, const uint8_t *active) {
  work w;
  if (c->status || !work_new(c, b, &w)) return NULL;
  int n_key = pack(w.key, active, b->n_in, NULL, 0, NULL, 0);
  pl_derived *d = pl_derived_find(b, DERIVED_PUSHFORWARD, n_key, w.key);
  pl_region *r = NULL;
  int n_seeds = 0;
  for (int i = 0; i < b->n_in; i++)
    if (active[i]) w.specs[b->n_in + n_seeds++] = b->specs[i];
  pl_tape *t = d ? NULL : open_derivation(c, b, active, false, n_seeds, &w, &r);
  if (t) {
    pl_region_close(r);
    if (pl_region_jvp(r, b->n_out, w.outs, w.inputs + b->n_in, w.aliases)) {
      for (int i = 0; i < b->n_out; i++)
        w.outs[b->n_out + i] = w.aliases[i] == PL_ZERO ? pl_zeros_like(c, w.outs[i]) : w.aliases[i];
      pl_body *made = pl_trace_close(c, t, 2 * b->n_out, w.outs, true, 0, NULL, NULL);
      if (made) d = pl_derived_keep(c, b, DERIVED_PUSHFORWARD, n_key, w.key, made, 0, NULL);
    }
    pl_region_free(r);
    pl_trace_abandon(c, t);
    pl_tape_free(c, t);
  }
  pl_memory_free(c, w.block);
  return d;
}

/* ---- what to keep ---- */

/* Cheaper to compute again from what it reads than to write and read once more. */
static bool is_cheap(const pl_op *op) {
  if (op->kind == PL_MOVE || op == PL_OP(cast)) return true;
  return op->kind == PL_ELEMENTWISE && !op->work;
}

typedef struct {
  pl_context *c;
  const pl_tape *t;
  const pl_body *b;
  int64_t end;            /* of the inlined instructions */
  int32_t *maker;         /* by slot: instruction, or -1 */
  int32_t *number;        /* by slot: the value of b, or -1 */
  uint8_t *seen, *is_out; /* by slot; by value of b: 2 when it is read */
  uint32_t *saved;
  int n_saved, most;
  int32_t *reads; /* by input, then by output of b */
} search;

/* What the reverse sweep reads; an inlined instruction that must run again for it is flagged in `again`. */
static void want(search *s, uint32_t slot, uint8_t *again) {
  if (s->seen[slot]) return;
  s->seen[slot] = 1;
  int32_t k = s->maker[slot], v = s->number[slot];
  if (v >= 0 && v < s->b->n_in) {
    s->reads[v] = 1;
    return;
  }
  if (k < 0 || k >= s->end) return;
  if (v >= 0 && s->is_out[v]) {
    s->is_out[v] = 2;
    return;
  }
  const pl_op *op = s->t->program.instructions[k].op;
  if (v >= 0 && !is_cheap(op) && !op->make && s->n_saved < s->most) s->saved[s->n_saved++] = (uint32_t)v;
  else again[k] = 1; /* v < 0: made on the way (augment, casts) */
}

pl_derived *pl_body_saving(pl_context *c, pl_body *b, const uint8_t *need) {
  work w;
  if (c->status || !work_new(c, b, &w)) return NULL;
  int n_key = pack(w.key, need, b->n_in, NULL, 0, NULL, 0);
  pl_derived *d = pl_derived_find(b, DERIVED_SAVING, n_key, w.key);
  if (d) {
    pl_memory_free(c, w.block);
    return d;
  }
  uint8_t *moves = pl_memory_new(c, (size_t)b->n_out + 1);
  int n_seeds = 0;
  if (moves) pl_body_activity(b, need, moves);
  for (int i = 0; moves && i < b->n_out; i++)
    if (moves[i]) w.specs[b->n_in + b->n_out + n_seeds++] = b->specs[b->outputs[i]];
  pl_region *r = NULL;
  search s = {.c = c, .b = b};
  pl_tape *t = moves ? open_derivation(c, b, need, true, n_seeds, &w, &r) : NULL;
  pl_body *made = NULL;
  if (t) {
    s.t = t;
    s.end = t->program.n;
    pl_region_close(r);
    int k = 0;
    for (int i = 0; i < b->n_out; i++)
      if (moves[i]) {
        w.list_a[k] = w.outs[i];
        w.list_b[k] = w.inputs[b->n_in + b->n_out + k];
        k++;
      }
    pl_region_vjp(r, n_seeds, w.list_a, w.list_b, w.aliases, NULL, false);
    size_t n_slots = c->n_slots;
    s.maker = pl_memory_new(c, n_slots * sizeof *s.maker);
    s.number = pl_memory_new(c, n_slots * sizeof *s.number);
    s.seen = pl_memory_new(c, n_slots);
    s.is_out = pl_memory_new(c, (size_t)b->n_values + 1);
    s.saved = pl_memory_new(c, ((size_t)b->n_values + 1) * sizeof *s.saved);
    uint8_t *live = pl_memory_new(c, (size_t)t->program.n + 1);
    s.reads = w.list;
    if (s.maker && s.number && s.seen && s.is_out && s.saved && live && !c->status) {
      memset(s.maker, -1, n_slots * sizeof *s.maker);
      memset(s.number, -1, n_slots * sizeof *s.number);
      memset(s.seen, 0, n_slots);
      memset(s.is_out, 0, (size_t)b->n_values + 1);
      memset(live, 0, (size_t)t->program.n + 1);
      memset(w.list, 0, (size_t)(b->n_in + b->n_out) * sizeof *w.list);
      for (int i = 0; i < b->n_out; i++) s.is_out[b->outputs[i]] = 1;
      for (int64_t j = 0; j < t->program.n; j++) {
        const pl_instruction *q = &t->program.instructions[j];
        for (int i = q->n_in; i < q->n_in + q->n_out; i++)
          s.maker[t->program.operands[q->operands + (uint32_t)i]] = (int32_t)j;
      }
      for (int v = b->n_values - 1; v >= 0; v--) {
        pl_slot *slot = pl_slot_find(c, w.values[v]);
        if (slot && slot->recording == t->serial) s.number[pl_slot_index(slot->handle)] = v;
      }
      for (int i = 0; i < b->n_in; i++) { /* aliases too */
        s.number[pl_slot_index(w.inputs[i])] = i;
        s.number[pl_slot_index(w.x[i])] = i;
      }
      int n_need = 0;
      for (int i = 0; i < b->n_in; i++) n_need += need[i] != 0;
      s.most = PL_MAX_OUTPUTS - 2 * (b->n_in + b->n_out); /* so that a derivative can have all of them as inputs */
      for (int i = 0; i < n_need; i++) {
        int32_t j = s.maker[pl_slot_index(w.aliases[i])];
        if (j >= s.end) live[j] = 1;
        else want(&s, pl_slot_index(w.aliases[i]), live);
      }
      for (int64_t j = t->program.n - 1; j >= 0; j--) { /* the sweep, then what it computes again */
        const pl_instruction *q = &t->program.instructions[j];
        const uint32_t *o = t->program.operands + q->operands;
        for (int i = 0; live[j] && i < q->n_in; i++) {
          if (s.maker[o[i]] >= s.end) live[s.maker[o[i]]] = 1;
          else want(&s, o[i], live);
        }
      }
      for (int i = 0; i < b->n_out; i++) w.list[b->n_in + i] = s.is_out[b->outputs[i]] == 2;
      pl_trace_abandon(c, t);
      if (s.n_saved) {
        made = pl_body_extend(c, b, s.n_saved, s.saved);
      } else {
        pl_object_retain(&b->base);
        made = b;
      }
    }
    pl_memory_free(c, live);
    pl_trace_abandon(c, t);
    pl_region_free(r);
    pl_tape_free(c, t);
  }
  if (made == b) { /* nothing to keep: remembered without holding itself */
    pl_object_release(&b->base);
    d = pl_derived_keep(c, b, DERIVED_SAVING, n_key, w.key, NULL, b->n_in + b->n_out, w.list);
  } else if (made) {
    d = pl_derived_keep(c, b, DERIVED_SAVING, n_key, w.key, made, b->n_in + b->n_out, w.list);
  }
  pl_memory_free(c, moves);
  pl_memory_free(c, s.maker);
  pl_memory_free(c, s.number);
  pl_memory_free(c, s.seen);
  pl_memory_free(c, s.is_out);
  pl_memory_free(c, s.saved);
  pl_memory_free(c, w.block);
  return d;
}
