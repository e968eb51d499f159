/* vjp.c: reverse mode, from a region of a program to more program.
 *
 * Activity is computed from the region's own inputs, so nested derivatives cannot be confused. Where nothing is being
 * recorded (an outermost region), what rules make on the way is freed after each instruction, adjoints are accumulated
 * in place when nobody else sees them, and, at the last sweep, the region's values are freed as the sweep passes them.
 */
#include <stdlib.h>
#include <string.h>

#include "record.h"
#include "schedule.h"

static void set_adjoint(pl_context *c, pl_slot *s, pl_value g) {
  /* Recorded values are held by the recording; only a free sweep counts references. */
  if (!c->recording) pl_retain(c, g);
  s->adjoint = g;
}

static void drop_adjoint(pl_context *c, pl_slot *s) {
  if (!c->recording && s->adjoint != PL_NONE) pl_release(c, s->adjoint);
  s->adjoint = PL_NONE;
}

/* adjoint += g or -= g in the adjoint's own memory, where nobody else sees it. */
static bool in_place(pl_context *c, pl_slot *s, pl_value g, const pl_op *op) {
  if (c->recording) return false;
  pl_slot *a = pl_slot_find(c, s->adjoint), *b = pl_slot_find(c, g);
  if (a->refs != 1 || a->buffer->refs != 1 || (a->flags & PL_FLAG_CHECK) || (b->flags & PL_FLAG_CHECK)) return false;
  if (a->dtype != b->dtype || a->rank != b->rank || memcmp(a->shape, b->shape, a->rank * sizeof *a->shape))
    return false;
  pl_slot *in[] = {a, b};
  if (pl_elementwise_small(op, 2, in, a)) return true;
  pl_value handles[] = {s->adjoint, g};
  pl_call call = {c, op, 2, in, handles, NULL};
  pl_elementwise(&call, (pl_dtype)a->dtype, a);
  return true;
}

static void accumulate(pl_context *c, pl_slot *s, pl_value g) {
  if (s->adjoint == PL_NONE) {
    set_adjoint(c, s, g);
    return;
  }
  if (in_place(c, s, g, PL_OP(add))) return;
  pl_value in[] = {s->adjoint, g}, sum;
  if (!pl_execute(c, PL_OP(add), 2, in, NULL, &sum, !c->recording)) return;
  drop_adjoint(c, s);
  set_adjoint(c, s, sum);
}

void pl_vjp_give(pl_vjp *v, int k, pl_value g) {
  pl_context *c = v->c;
  if (g == PL_ZERO || g == PL_NONE || c->status || !v->need[k]) return;
  pl_slot *s = pl_slot_find(c, v->in[k]);
  pl_slot *t = pl_slot_find(c, g);
  if (t->dtype != s->dtype || t->rank != s->rank || memcmp(t->shape, s->shape, s->rank * sizeof *s->shape))
    g = pl_sum_to(c, pl_cast(c, g, (pl_dtype)s->dtype), v->in[k]);
  if (g != PL_NONE) accumulate(c, s, g);
}

void pl_vjp_give_into(pl_vjp *v, int k, const pl_op *op, int n_more, const pl_value *more, const pl_attr *attrs) {
  pl_context *c = v->c;
  if (c->status || !v->need[k]) return;
  pl_slot *s = pl_slot_find(c, v->in[k]);
  if (s->adjoint == PL_NONE) {
    pl_value zeros = pl_zeros_like(c, v->in[k]);
    if (zeros == PL_NONE) return;
    set_adjoint(c, s, zeros);
    /* The scope's reference would make it look shared. */
    if (!c->recording && c->scope && c->scope->n) {
      c->scope->slots[--c->scope->n] = 0;
      pl_release(c, zeros);
    }
  }
  pl_value in[PL_MAX_SAMPLE] = {s->adjoint}, sum;
  for (int i = 0; i < n_more; i++) in[i + 1] = more[i];
  if (!pl_execute(c, op, n_more + 1, in, attrs, &sum, !c->recording)) return;
  drop_adjoint(c, s);
  set_adjoint(c, s, sum);
}

/* g*d in g's own memory: the adjoint of the output is not read again after its last use. */
static bool chain_in_place(pl_context *c, pl_value g, pl_value d) {
  if (c->recording || d <= PL_MINUS_ONE) return false;
  pl_slot *a = pl_slot_find(c, g), *b = pl_slot_find(c, d);
  if (a->refs != 1 || a->buffer->refs != 1 || ((a->flags | b->flags) & PL_FLAG_CHECK)) return false;
  if (a->dtype != b->dtype || a->rank != b->rank || memcmp(a->shape, b->shape, a->rank * sizeof *a->shape))
    return false;
  pl_slot *in[] = {a, b};
  if (pl_elementwise_small(PL_OP(chain), 2, in, a)) return true;
  pl_value handles[] = {g, d};
  pl_call call = {c, PL_OP(chain), 2, in, handles, NULL};
  pl_elementwise(&call, (pl_dtype)a->dtype, a);
  return true;
}

/* An elementwise op's rule: each input gets g times its partial derivative. */
static void elementwise(pl_vjp *v) {
  pl_context *c = v->c;
  int last = -1;
  for (int k = 0; k < v->n; k++)
    if (v->need[k]) last = k;
  for (int k = 0; k < v->n; k++)
    if (v->need[k]) {
      pl_value d = v->op->partial(c, k, v->in, v->out[0], v->attrs);
      if (c->status) return;
      if (d == PL_MINUS_ONE) { /* subtracted where it goes, without a negated copy */
        pl_slot *s = pl_slot_find(c, v->in[k]);
        if (s->adjoint != PL_NONE && in_place(c, s, v->g[0], PL_OP(sub))) continue;
      }
      pl_vjp_give(v, k, k == last && chain_in_place(c, v->g[0], d) ? v->g[0] : pl_chain(c, v->g[0], d));
    }
}

static void free_scratch(pl_context *c, pl_scope *s) {
  for (int64_t i = s->n; i-- > 0;)
    if (s->slots[i]) pl_release(c, pl_slot_at(c, s->slots[i])->handle);
  s->n = 0;
}

/* Frees what the recording made at instruction k or later. */
static void free_passed(pl_context *c, pl_tape *r, int64_t k) {
  pl_scope *s = &r->scope;
  while (s->n) {
    uint32_t i = s->slots[s->n - 1];
    if (i) {
      pl_slot *slot = pl_slot_at(c, i);
      if (slot->instruction < (uint64_t)k) break;
      pl_release(c, slot->handle);
    }
    s->n--;
  }
}

bool pl_region_vjp(pl_region *r, int n_y, const pl_value *y, const pl_value *seeds, pl_value *g, bool *reached,
                   bool last) {
  if (!r) return false;
  pl_context *c = r->context;
  for (int i = 0; i < r->n; i++) g[i] = PL_NONE;
  if (c->status) return false;
  if (r->open || r->spent || pl_region_gone(r)) {
    pl_error(c, PL_ERROR_STATE,
             r->open    ? "the region is still open"
             : r->spent ? "this derivative's recording has been used up"
                        : "the recording of this inner derivative has ended");
    return false;
  }
  pl_tape *rec = r->recording;
  pl_program *p = &rec->program;
  bool recording = c->recording != NULL; /* then the sweep is recorded too, and nothing is freed */
  last = last && r->outermost && !recording;
  pl_scope scratch = {0}, *saved = c->scope;
  uint32_t saved_line = c->line;
  if (!recording) c->scope = &scratch;

  /* Forward: which values depend on the region's inputs. */
  uint32_t stamp = ++c->stamp;
  for (int i = 0; i < r->n; i++) {
    pl_slot *s = pl_slot_find(c, r->inputs[i]);
    s->stamp = stamp;
    s->adjoint = PL_NONE;
  }
  for (int64_t k = r->start; k < r->stop; k++) {
    const pl_instruction *q = &p->instructions[k];
    const uint32_t *o = p->operands + q->operands;
    bool active = false;
    for (int i = 0; i < q->n_in; i++) active = active || pl_slot_at(c, o[i])->stamp == stamp;
    if (!active || q->op->constant) continue;
    if (q->op->discrete) {
      c->line = q->line;
      pl_no_derivative(c, q->op);
      break;
    }
    for (int i = q->n_in; i < q->n_in + q->n_out; i++) {
      pl_slot *s = pl_slot_at(c, o[i]);
      if (s->dtype > PL_F32 || (s->flags & PL_FLAG_RESOURCE)) continue;
      s->stamp = stamp;
      s->adjoint = PL_NONE;
    }
  }

  for (int j = 0; j < n_y && !c->status; j++) {
    pl_slot *s = pl_slot_get(c, y[j]);
    if (!s || s->stamp != stamp) continue;
    pl_value seed = seeds ? seeds[j] : pl_like(c, y[j], 1.0);
    if (seed == PL_ZERO) continue;
    pl_slot *t = pl_slot_get(c, seed);
    if (!t) break;
    if (!seeds && s->count != 1) {
      char text[PL_TEXT];
      pl_error(c, PL_ERROR_SHAPE,
               "only a single number has a gradient, not a tensor of shape %s: sum it, or give a cotangent",
               pl_shape_text(text, s->rank, s->shape));
      break;
    }
    if (seeds && (t->rank != s->rank || memcmp(t->shape, s->shape, s->rank * sizeof *s->shape))) {
      char a[PL_TEXT], b[PL_TEXT];
      pl_error(c, PL_ERROR_SHAPE, "the cotangent's shape %s differs from the value's %s",
               pl_shape_text(a, t->rank, t->shape), pl_shape_text(b, s->rank, s->shape));
      break;
    }
    seed = pl_cast(c, seeds ? seed : pl_broadcast_like(c, seed, y[j]), (pl_dtype)s->dtype);
    if (seed != PL_NONE) accumulate(c, s, seed);
  }

  pl_value small_in[8], *in = small_in, out[PL_MAX_OUTPUTS], og[PL_MAX_OUTPUTS];
  bool small_need[8], *need = small_need;
  pl_value *large = NULL;
  for (int64_t k = r->stop - 1; k >= r->start && !c->status; k--) {
    pl_instruction q = p->instructions[k]; /* a copy: recorded rules append to the program */
    const uint32_t *o = p->operands + q.operands;
    bool any = false;
    for (int i = 0; i < q.n_out; i++) {
      pl_slot *s = pl_slot_at(c, o[q.n_in + i]);
      out[i] = s->handle;
      og[i] = s->stamp == stamp && s->adjoint != PL_NONE ? s->adjoint : PL_ZERO;
      any = any || og[i] != PL_ZERO;
    }
    if (any) {
      if (q.n_in > 8 && !large) {
        large = pl_memory_new(c, PL_MAX_INPUTS * (sizeof *in + sizeof *need));
        if (!large) break;
      }
      in = q.n_in > 8 ? large : small_in;
      need = q.n_in > 8 ? (bool *)(large + PL_MAX_INPUTS) : small_need;
      any = false;
      for (int i = 0; i < q.n_in; i++) {
        pl_slot *s = pl_slot_at(c, o[i]);
        in[i] = s->handle;
        need[i] = s->stamp == stamp;
        any = any || need[i];
      }
      c->line = q.line;
      pl_vjp v = {c, q.op, q.n_in, in, out, og, need, q.attrs};
      if (!any) {
        /* an output that is active by an earlier instruction only: impossible, outputs are born once */
      } else if (q.op->partial) {
        elementwise(&v);
      } else if (q.op->vjp) {
        q.op->vjp(&v);
      } else {
        pl_no_derivative(c, q.op);
      }
      o = p->operands + q.operands;
      for (int i = 0; i < q.n_out; i++) {
        pl_slot *s = pl_slot_at(c, o[q.n_in + i]);
        if (s->stamp == stamp) drop_adjoint(c, s);
      }
      if (!recording) free_scratch(c, &scratch);
    }
    if (last) free_passed(c, rec, k);
  }
  pl_memory_free(c, large);

  for (int i = 0; i < r->n; i++) {
    pl_slot *s = pl_slot_find(c, r->inputs[i]);
    if (reached) reached[i] = s->adjoint != PL_NONE;
    g[i] = s->adjoint;
    if (g[i] == PL_NONE && !c->status) {
      g[i] = pl_zeros_like(c, r->inputs[i]);
      if (!recording) pl_retain(c, g[i]);
    } else if (g[i] != PL_NONE) {
      /* one input may stand in the list twice: each entry gets its own reference */
      if (!recording) pl_retain(c, g[i]);
    }
  }
  for (int i = 0; i < r->n; i++) {
    pl_slot *s = pl_slot_find(c, r->inputs[i]);
    if (s->stamp == stamp) drop_adjoint(c, s);
  }
  if (!recording) {
    /* After an error adjoints are left in the middle: they are dropped here. */
    if (c->status) {
      for (int64_t k = r->start; k < r->stop; k++) {
        const pl_instruction *q = &p->instructions[k];
        for (int i = q->n_in; i < q->n_in + q->n_out; i++) {
          pl_slot *s = pl_slot_at(c, p->operands[q->operands + (uint32_t)i]);
          if (s->handle && s->stamp == stamp) drop_adjoint(c, s);
        }
      }
      for (int i = 0; i < r->n; i++) {
        if (g[i] != PL_NONE) pl_release(c, g[i]);
        g[i] = PL_NONE;
      }
    }
    free_scratch(c, &scratch);
    pl_memory_free(c, scratch.slots);
    c->scope = saved;
    if (saved)
      for (int i = 0; i < r->n; i++)
        if (g[i] != PL_NONE) pl_scope_push(c, saved, pl_slot_index(g[i]));
  }
  c->line = saved_line;
  if (last) r->spent = true;
  return c->status == PL_OK;
}
