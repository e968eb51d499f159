#include "body.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool pl_record(pl_context *c, const pl_op *op, int n_in, pl_slot *const *in, const pl_attr *attrs, int n_out,
               pl_slot *const *out) {
  pl_tape *r = c->recording;
  uint32_t slots_in[8], slots_out[PL_MAX_OUTPUTS], *ids = slots_in;
  if (n_in > 8 && !(ids = pl_memory_new(c, (size_t)n_in * sizeof *ids))) return false;
  bool ok = true;
  uint8_t active = 0;
  for (int i = 0; i < n_in; i++) {
    ids[i] = pl_slot_index(in[i]->handle);
    active |= in[i]->flags & PL_FLAG_ACTIVE;
    if (in[i]->recording != r->serial && in[i]->captured != r->serial) {
      in[i]->captured = r->serial;
      bool again = false; /* a trace inside this one has put its own mark over ours */
      for (int64_t k = 0; r->traced && k < r->captured.n && !again; k++) again = r->captured.slots[k] == ids[i];
      if (again) continue;
      if (!pl_scope_push(c, &r->captured, ids[i])) {
        ok = false;
        break;
      }
      in[i]->refs++;
    }
  }
  if (active)
    for (int i = 0; i < n_out; i++)
      if (out[i]->dtype <= PL_F32) out[i]->flags |= PL_FLAG_ACTIVE;
  for (int i = 0; i < n_out; i++) slots_out[i] = pl_slot_index(out[i]->handle);
  ok = ok && pl_program_append(c, &r->program, op, n_in, ids, attrs, n_out, slots_out);
  if (ids != slots_in) pl_memory_free(c, ids);
  return ok;
}

const char *pl_parameter_name(pl_context *c, pl_value v) {
  for (pl_region *r = c->recording ? c->recording->open : NULL; r; r = r->outer)
    for (int i = 0; i < r->n; i++)
      if (r->x[i] == v) return r->names && r->names[i] ? r->names[i] : "";
  return "";
}

void pl_tape_free(pl_context *c, pl_tape *r) {
  for (int64_t i = r->scope.n; i-- > 0;)
    if (r->scope.slots[i]) pl_release(c, pl_slot_at(c, r->scope.slots[i])->handle);
  for (int64_t i = 0; i < r->captured.n; i++) pl_release(c, pl_slot_at(c, r->captured.slots[i])->handle);
  pl_program_free(c, &r->program);
  pl_memory_free(c, r->scope.slots);
  pl_memory_free(c, r->captured.slots);
  pl_release(c, r->vector);
  pl_memory_free(c, r->given);
  pl_memory_free(c, r->cells);
  pl_memory_free(c, r);
}

pl_region *pl_region_open(pl_context *c, int n, const pl_value *x, const char *const *names, pl_value *inputs) {
  if (c->status) return NULL;
  pl_region *r = pl_memory_new(c, sizeof *r + (size_t)n * (2 * sizeof(pl_value) + sizeof(char *)));
  if (!r) return NULL;
  *r = (pl_region){.context = c,
                   .n = n,
                   .outermost = !c->recording,
                   .saved_line = c->line,
                   .n_saved = c->n_saved,
                   .depth = c->host.depth};
  r->x = (pl_value *)(r + 1);
  r->inputs = r->x + n;
  r->names = (char **)(r->inputs + n);
  for (int i = 0; i < n; i++) {
    r->x[i] = r->inputs[i] = PL_NONE;
    r->names[i] = names && names[i] ? strdup(names[i]) : NULL;
  }
  if (r->outermost) {
    pl_tape *rec = pl_memory_new(c, sizeof *rec);
    if (!rec) {
      pl_region_free(r);
      return NULL;
    }
    *rec = (pl_tape){.serial = ++c->recordings};
    r->recording = rec;
    r->saved_scope = c->scope;
    c->recording = rec;
    c->scope = &rec->scope;
  } else {
    r->recording = c->recording;
  }
  r->open = true;
  r->serial = r->recording->serial;
  for (int i = 0; i < n; i++) {
    pl_slot *s = pl_slot_get(c, x[i]);
    if (s && (s->flags & PL_FLAG_BORROWED)) pl_slot_check(c, s);
    if (!s || c->status) break;
    if ((s->flags & PL_FLAG_RESOURCE) || s->dtype > PL_F32) {
      pl_error(c, PL_ERROR_TYPE, "the parameter%s%s is %s: only f64 and f32 tensors can be differentiated",
               r->names[i] ? " " : "", r->names[i] ? r->names[i] : "",
               s->flags & PL_FLAG_RESOURCE ? "not a tensor" : pl_dtype_name(s->dtype));
      break;
    }
    inputs[i] = r->inputs[i] = pl_call1(c, PL_OP(identity), x[i], NULL);
    if ((s = pl_slot_get(c, inputs[i]))) s->flags |= PL_FLAG_ACTIVE;
  }
  if (c->status) {
    pl_region_free(r);
    return NULL;
  }
  /* Flag after making the aliases: x[i] may stand in the list twice. */
  for (int i = 0; i < n; i++) {
    pl_slot *s = pl_slot_find(c, x[i]);
    if (s->recording == r->recording->serial || (s->flags & (PL_FLAG_TRACED | PL_FLAG_CONSTANT)))
      continue; /* an enclosing derivative's own value: a partial derivative */
    r->x[i] = x[i];
    s->flags |= PL_FLAG_PARAMETER;
    s->parameters++;
  }
  r->outer = r->recording->open;
  r->recording->open = r;
  r->start = r->stop = r->recording->program.n;
  return r;
}

void pl_region_close(pl_region *r) {
  if (!r || !r->open) return;
  pl_context *c = r->context;
  pl_tape *rec = r->recording;
  while (rec && rec->open && rec->open != r) pl_region_close(rec->open); /* inner ones left open by an error */
  if (rec && rec->open == r) rec->open = r->outer;
  r->open = false;
  if (rec) r->stop = rec->program.n;
  for (int i = 0; i < r->n; i++) {
    pl_slot *s = r->x[i] == PL_NONE ? NULL : pl_slot_find(c, r->x[i]);
    if (s && s->parameters && --s->parameters == 0) s->flags &= (uint8_t)~PL_FLAG_PARAMETER;
  }
  if (r->outermost && rec && pl_trace_unwind(c, rec)) {
    c->recording = NULL;
    c->scope = r->saved_scope;
    c->line = r->saved_line;
  }
}

static bool inside(const pl_context *c, int n_saved, int depth) {
  return !c->freeing && (c->n_saved > n_saved || c->host.depth > depth);
}

void pl_region_free(pl_region *r) {
  if (!r) return;
  pl_context *c = r->context;
  if (r->open && inside(c, r->n_saved, r->depth)) { /* what is around us would come back to its recording */
    r->doomed = c->doomed.regions;
    c->doomed.regions = r;
    return;
  }
  pl_region_close(r);
  if (r->outermost && r->recording) pl_tape_free(c, r->recording);
  for (int i = 0; i < r->n; i++) free(r->names[i]);
  pl_memory_free(c, r);
}

void pl_trace_free(pl_context *c, pl_trace *t) {
  if (!t) return;
  if (inside(c, t->n_saved, t->depth)) {
    t->doomed = c->doomed.traces;
    c->doomed.traces = t;
    return;
  }
  pl_trace_abandon(c, t);
  pl_tape_free(c, t);
}

void pl_doomed_free(pl_context *c) {
  for (pl_region **r = &c->doomed.regions, *free_; (free_ = *r);) {
    if (inside(c, free_->n_saved, free_->depth)) {
      r = &free_->doomed;
      continue;
    }
    *r = free_->doomed;
    pl_region_free(free_);
  }
  for (pl_tape **t = &c->doomed.traces, *free_; (free_ = *t);) {
    if (inside(c, free_->n_saved, free_->depth)) {
      t = &free_->doomed;
      continue;
    }
    *t = free_->doomed;
    pl_trace_free(c, free_);
  }
}

bool pl_slot_finite(const pl_slot *s) {
  if (s->flags & (PL_FLAG_RESOURCE | PL_FLAG_TRACED)) return true;
  if (s->dtype == PL_F64) {
    const double *x = s->data;
    for (int64_t i = 0; i < s->count; i++)
      if (!isfinite(x[i])) return false;
  } else if (s->dtype == PL_F32) {
    const float *x = s->data;
    for (int64_t i = 0; i < s->count; i++)
      if (!isfinite(x[i])) return false;
  }
  return true;
}

bool pl_replay(pl_region *r, int64_t k, pl_value *outputs) {
  pl_context *c = r->context;
  const pl_program *p = &r->recording->program;
  const pl_instruction *q = &p->instructions[k];
  pl_value in[PL_MAX_INPUTS];
  for (int i = 0; i < q->n_in; i++) in[i] = pl_slot_at(c, p->operands[q->operands + (uint32_t)i])->handle;
  return pl_apply(c, q->op, q->n_in, in, q->attrs, outputs);
}
