/* jvp.c: forward mode: a region's tangent program, run (and recorded, where a recording is open) after it. */
#include <string.h>

#include "record.h"

/* An elementwise op's rule: the sum over inputs of tangent times partial derivative. */
static void elementwise(pl_jvp *j) {
  pl_context *c = j->c;
  pl_value sum = PL_ZERO;
  for (int k = 0; k < j->n; k++)
    if (j->t[k] != PL_ZERO)
      sum = pl_plus(c, sum, pl_chain(c, j->t[k], j->op->partial(c, k, j->in, j->out[0], j->attrs)));
  j->dt[0] = sum;
}

/* A linear op is its own tangent; inputs that are no floats stay as they are. */
static void linear(pl_jvp *j) {
  pl_value in[PL_MAX_INPUTS];
  for (int k = 0; k < j->n; k++) {
    pl_slot *s = pl_slot_get(j->c, j->in[k]);
    bool moves = s && s->dtype <= PL_F32 && !(k < 8 && (j->op->masks | j->op->keeps) >> k & 1);
    in[k] = !moves ? j->in[k] : j->t[k] == PL_ZERO ? pl_zeros_like(j->c, j->in[k]) : j->t[k];
  }
  pl_apply(j->c, j->op, j->n, in, j->attrs, j->dt);
}

static void set_tangent(pl_context *c, pl_slot *s, pl_value t) {
  if (!c->recording) pl_retain(c, t);
  s->adjoint = t;
}

bool pl_region_jvp(pl_region *r, int n_y, const pl_value *y, const pl_value *t, pl_value *dy) {
  if (!r) return false;
  pl_context *c = r->context;
  for (int i = 0; i < n_y; i++) dy[i] = PL_NONE;
  if (c->status) return false;
  if (r->spent || pl_region_gone(r)) {
    pl_error(c, PL_ERROR_STATE, "this derivative's recording has been used up");
    return false;
  }
  pl_tape *rec = r->recording;
  pl_program *p = &rec->program;
  bool recording = c->recording != NULL;
  pl_scope scratch = {0}, *saved = c->scope;
  uint32_t saved_line = c->line;
  if (!recording) c->scope = &scratch;
  int64_t stop = r->open ? p->n : r->stop;

  uint32_t stamp = ++c->stamp;
  for (int i = 0; i < r->n && !c->status; i++) {
    if (t[i] == PL_ZERO) continue;
    pl_slot *s = pl_slot_find(c, r->inputs[i]), *u = pl_slot_get(c, t[i]);
    if (!u) break;
    if (u->rank != s->rank || memcmp(u->shape, s->shape, s->rank * sizeof *s->shape)) {
      char a[PL_TEXT], b[PL_TEXT];
      pl_error(c, PL_ERROR_SHAPE, "the tangent's shape %s differs from the parameter's %s",
               pl_shape_text(a, u->rank, u->shape), pl_shape_text(b, s->rank, s->shape));
      break;
    }
    s->stamp = stamp;
    set_tangent(c, s, pl_cast(c, t[i], (pl_dtype)s->dtype));
  }
  for (int64_t k = r->start; k < stop && !c->status; k++) {
    pl_instruction q = p->instructions[k]; /* a copy: recorded rules append to the program */
    const uint32_t *o = p->operands + q.operands;
    pl_value in[PL_MAX_INPUTS], tangents[PL_MAX_INPUTS], out[PL_MAX_OUTPUTS], dt[PL_MAX_OUTPUTS];
    bool active = false;
    for (int i = 0; i < q.n_in; i++) {
      pl_slot *s = pl_slot_at(c, o[i]);
      in[i] = s->handle;
      tangents[i] = s->stamp == stamp ? s->adjoint : PL_ZERO;
      active = active || tangents[i] != PL_ZERO;
    }
    if (!active) continue;
    bool moves = q.op->discrete;
    for (int i = 0; i < q.n_out; i++) {
      pl_slot *s = pl_slot_at(c, o[q.n_in + i]);
      out[i] = s->handle;
      dt[i] = PL_ZERO;
      moves = moves || (s->dtype <= PL_F32 && !(s->flags & PL_FLAG_RESOURCE));
    }
    if (!moves) continue;
    c->line = q.line;
    pl_jvp j = {c, q.op, q.n_in, in, out, tangents, dt, q.attrs};
    if (q.op->partial) elementwise(&j);
    else if (q.op->jvp) q.op->jvp(&j);
    else if (q.op->linear) linear(&j);
    else pl_no_derivative(c, q.op);
    for (int i = 0; i < q.n_out && !c->status; i++) {
      if (dt[i] == PL_ZERO) continue;
      pl_value u = pl_broadcast_like(c, dt[i], out[i]);
      pl_slot *s = pl_slot_find(c, out[i]);
      if (u == PL_NONE) break;
      s->stamp = stamp;
      set_tangent(c, s, u);
    }
    if (!recording) { /* what the rule made on the way dies, tangents are retained */
      for (int64_t i = scratch.n; i-- > 0;)
        if (scratch.slots[i]) pl_release(c, pl_slot_at(c, scratch.slots[i])->handle);
      scratch.n = 0;
    }
  }
  for (int j = 0; j < n_y && !c->status; j++) {
    pl_slot *s = pl_slot_get(c, y[j]);
    if (!s) break;
    dy[j] = s->stamp == stamp ? s->adjoint : PL_ZERO;
    if (!recording && dy[j] != PL_ZERO) pl_retain(c, dy[j]);
  }
  if (!recording) {
    for (int i = 0; i < r->n; i++) {
      pl_slot *s = pl_slot_find(c, r->inputs[i]);
      if (s && s->stamp == stamp) {
        pl_release(c, s->adjoint);
        s->stamp = 0;
      }
    }
    for (int64_t k = r->start; k < stop; k++) {
      const pl_instruction *q = &p->instructions[k];
      for (int i = q->n_in; i < q->n_in + q->n_out; i++) {
        pl_slot *s = pl_slot_at(c, p->operands[q->operands + (uint32_t)i]);
        if (s->handle && s->stamp == stamp) {
          pl_release(c, s->adjoint);
          s->stamp = 0;
        }
      }
    }
    for (int64_t i = scratch.n; i-- > 0;)
      if (scratch.slots[i]) pl_release(c, pl_slot_at(c, scratch.slots[i])->handle);
    pl_memory_free(c, scratch.slots);
    c->scope = saved;
    for (int j = 0; j < n_y; j++)
      if (dy[j] > PL_ZERO) {
        if (c->status) {
          pl_release(c, dy[j]);
          dy[j] = PL_NONE;
        } else if (saved) {
          pl_scope_push(c, saved, pl_slot_index(dy[j]));
        }
      }
  }
  c->line = saved_line;
  return c->status == PL_OK;
}
