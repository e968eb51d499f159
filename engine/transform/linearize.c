/* linearize.c: the pushforward of a body, split into what depends on the tangents and what does not (partial
 * evaluation), and the transpose of the former. */
#include "linearize.h"

#include <string.h>

#include "../body.h"

enum { DERIVED_EARLY = 80, DERIVED_TANGENT, DERIVED_TRANSPOSED, NOWHERE = 0xffffffffu };

/* The part of a body that makes the values `outs` from the values `in`, by the instructions that are flagged. */
static pl_body *extract(pl_context *c, const pl_body *a, int n_in, const uint32_t *in, const uint8_t *take, int n_out,
                        const uint32_t *outs) {
  uint32_t *place = pl_memory_new(c, ((size_t)a->n_values + 1) * sizeof *place), n = 0;
  uint32_t *ids = pl_memory_new(c, (PL_MAX_INPUTS + PL_MAX_OUTPUTS) * sizeof *ids);
  pl_body *b = place && ids ? pl_body_new(c, n_in, n_out, a->n_constants, a->n_values + n_in) : NULL;
  if (!b) goto done;
  for (int v = 0; v < a->n_values; v++) place[v] = NOWHERE;
  for (int i = 0; i < n_in; i++) {
    b->specs[n] = a->specs[in[i]];
    place[in[i]] = n++;
  }
  /* constants that are read: one that is an input here stays one */
  uint8_t *read = pl_memory_new(c, (size_t)a->n_values + 1);
  if (!read) goto failed;
  memset(read, 0, (size_t)a->n_values + 1);
  for (int i = 0; i < n_out; i++) read[outs[i]] = 1;
  for (int64_t k = 0; k < a->code.n; k++)
    for (int i = 0; take[k] && i < a->code.instructions[k].n_in; i++)
      read[a->code.operands[a->code.instructions[k].operands + (uint32_t)i]] = 1;
  for (int i = 0; i < a->n_constants; i++)
    if (read[a->n_in + i] && place[a->n_in + i] == NOWHERE) {
      b->specs[n] = a->specs[a->n_in + i];
      place[a->n_in + i] = n++;
      b->constants[b->n_constants++] = a->constants[i];
      pl_retain(c, a->constants[i]);
    }
  pl_memory_free(c, read);
  uint32_t saved = c->line;
  for (int64_t k = 0; k < a->code.n && !c->status; k++) {
    if (!take[k]) continue;
    const pl_instruction *q = &a->code.instructions[k];
    const uint32_t *o = a->code.operands + q->operands;
    for (int i = 0; i < q->n_in; i++) ids[i] = place[o[i]];
    for (int i = q->n_in; i < q->n_in + q->n_out; i++) {
      b->specs[n] = a->specs[o[i]];
      ids[i] = n;
      if (place[o[i]] == NOWHERE) place[o[i]] = n;
      n++;
    }
    c->line = q->line;
    pl_program_append(c, &b->code, q->op, q->n_in, ids, q->attrs, q->n_out, ids + q->n_in);
  }
  c->line = saved;
  b->n_values = (int32_t)n;
  for (int i = 0; i < n_out; i++) b->outputs[i] = place[outs[i]];
  if (!c->status) {
    b = pl_body_intern(c, b);
    goto done;
  }
failed:
  pl_object_release(&b->base);
  b = NULL;
done:
  pl_memory_free(c, place);
  pl_memory_free(c, ids);
  return b;
}

/* Costs less to make again than to keep. */
static bool is_view(const pl_op *op) {
  return op == PL_OP(broadcast_to) || op == PL_OP(reshape) || op == PL_OP(identity) || op == PL_OP(zeros);
}

typedef struct {
  const pl_body *a;
  bool again;       /* keep nothing but inputs */
  int32_t *maker;   /* one a value: its instruction, or -1 */
  uint8_t *late;    /* one a value: it depends on the tangents */
  uint8_t *take[2]; /* by instruction: what early and tangent have */
  uint8_t *seen;
  uint32_t *kept;
  int n_kept, n_made;
} division;

/* The tangent part reads value v. Operands come before results, so a sweep from the end sees all readers first. */
static void read_late(division *d, uint32_t v) {
  if (d->seen[v]) return;
  d->seen[v] = 1;
  int32_t k = d->maker[v];
  if (k >= 0 && (d->late[v] || d->again || is_view(d->a->code.instructions[k].op))) {
    d->take[1][k] = 1;
    return;
  }
  if (k < 0 && v >= (uint32_t)d->a->n_in) return; /* a constant */
  if (d->late[v]) return;                         /* a tangent */
  d->kept[d->n_kept++] = v;
  d->n_made += k >= 0;
}

static void sweep(division *d, int part, const uint32_t *outs, int n_out) {
  const pl_body *a = d->a;
  for (int i = 0; i < n_out; i++) {
    if (part) read_late(d, outs[i]);
    else if (d->maker[outs[i]] >= 0) d->take[0][d->maker[outs[i]]] = 1;
  }
  for (int64_t k = a->code.n; k-- > 0;) {
    const pl_instruction *q = &a->code.instructions[k];
    const uint32_t *o = a->code.operands + q->operands;
    for (int i = 0; d->take[part][k] && i < q->n_in; i++) {
      if (part) read_late(d, o[i]);
      else if (d->maker[o[i]] >= 0) d->take[0][d->maker[o[i]]] = 1;
    }
  }
}

static bool divide(pl_context *c, pl_body *b, pl_body *J, int n_key, const uint64_t *key) {
  size_t n = (size_t)J->n_values + 1, m = (size_t)J->code.n + 1;
  int n_t = J->n_in - b->n_in;
  division d = {.a = J};
  void *block = pl_memory_new(c, n * (3 * sizeof(uint32_t) + 2 + sizeof(int32_t)) + 2 * m + 64);
  if (!block) return false;
  uint32_t *in = block, *outs = in + n; /* at most one a value beside the outputs */
  d.kept = outs + n;
  d.maker = (int32_t *)(d.kept + n);
  d.late = (uint8_t *)(d.maker + n);
  d.seen = d.late + n;
  d.take[0] = d.seen + n;
  d.take[1] = d.take[0] + m;
  memset(d.late, 0, 2 * n + 2 * m);
  for (int v = 0; v < J->n_values; v++) d.maker[v] = -1;
  for (int i = 0; i < n_t; i++) d.late[b->n_in + i] = 1;
  for (int64_t k = 0; k < J->code.n; k++) {
    const pl_instruction *q = &J->code.instructions[k];
    const uint32_t *o = J->code.operands + q->operands;
    bool late = false;
    for (int i = 0; i < q->n_in; i++) late = late || d.late[o[i]];
    for (int i = q->n_in; i < q->n_in + q->n_out; i++) {
      d.late[o[i]] = late;
      d.maker[o[i]] = (int32_t)k;
    }
  }
  sweep(&d, 1, J->outputs + b->n_out, b->n_out);
  if (d.n_kept + n_t > PL_MAX_INPUTS || d.n_made + b->n_out > PL_MAX_OUTPUTS) {
    d.again = true;
    d.n_kept = d.n_made = 0;
    memset(d.seen, 0, n + 2 * m);
    sweep(&d, 1, J->outputs + b->n_out, b->n_out);
  }
  /* early: the outputs, and what is kept and made */
  uint32_t *list = pl_memory_new(c, ((size_t)b->n_out + n) * sizeof *list);
  int32_t *kept = pl_memory_new(c, n * sizeof *kept);
  pl_body *early = NULL, *tangent = NULL;
  if (list && kept) {
    int n_out = b->n_out;
    memcpy(list, J->outputs, (size_t)n_out * sizeof *list);
    for (int i = 0; i < n_t; i++) in[i] = (uint32_t)(b->n_in + i);
    for (int i = 0; i < d.n_kept; i++) {
      in[n_t + i] = d.kept[i];
      kept[i] = d.maker[d.kept[i]] < 0 ? (int32_t)d.kept[i] : b->n_in + n_out;
      if (d.maker[d.kept[i]] >= 0) list[n_out++] = d.kept[i];
    }
    sweep(&d, 0, list, n_out);
    tangent = extract(c, J, n_t + d.n_kept, in, d.take[1], b->n_out, J->outputs + b->n_out);
    for (int i = 0; i < b->n_in; i++) in[i] = (uint32_t)i;
    if (tangent) early = extract(c, J, b->n_in, in, d.take[0], n_out, list);
  }
  bool ok = early && tangent;
  if (early == b) { /* it must not hold itself */
    pl_object_release(&early->base);
    early = NULL;
  }
  if (ok) {
    ok = pl_derived_keep(c, b, DERIVED_EARLY, n_key, key, early, d.n_kept, kept) != NULL;
    early = NULL;
    ok = pl_derived_keep(c, b, DERIVED_TANGENT, n_key, key, tangent, 0, NULL) != NULL && ok;
    tangent = NULL;
  }
  pl_object_release((pl_object *)early);
  pl_object_release((pl_object *)tangent);
  pl_memory_free(c, list);
  pl_memory_free(c, kept);
  pl_memory_free(c, block);
  return ok;
}

bool pl_body_linearize(pl_context *c, pl_body *b, const uint8_t *active, pl_linearization *l) {
  if (c->status) return false;
  int n_key = (b->n_in + 7) / 8;
  uint64_t *key = pl_memory_new(c, ((size_t)n_key + 1) * sizeof *key);
  if (!key) return false;
  memset(key, 0, ((size_t)n_key + 1) * sizeof *key);
  for (int i = 0; i < b->n_in; i++) ((uint8_t *)key)[i] = active[i] != 0;
  pl_derived *early = pl_derived_find(b, DERIVED_EARLY, n_key, key);
  if (!early) {
    pl_body *J = pl_body_with_tangents(c, b, active);
    if (J && divide(c, b, J, n_key, key)) early = pl_derived_find(b, DERIVED_EARLY, n_key, key);
    pl_object_release((pl_object *)J);
  }
  pl_derived *tangent = pl_derived_find(b, DERIVED_TANGENT, n_key, key);
  pl_memory_free(c, key);
  if (!early || !tangent) return false;
  *l = (pl_linearization){early->body ? early->body : b, tangent->body, false, early->n_list, early->list};
  for (int i = 0; i < l->early->n_out; i++)
    l->resources = l->resources || l->early->specs[l->early->outputs[i]].dtype == PL_DTYPES;
  return true;
}

pl_body *pl_body_transposed(pl_context *c, pl_body *b, int n) {
  if (c->status) return NULL;
  if (n < 0 || n > b->n_in) {
    pl_error(c, PL_ERROR_ARGUMENT, "a program with %d inputs is not linear in the first %d", b->n_in, n);
    return NULL;
  }
  uint64_t key = (uint64_t)n;
  pl_derived *d = pl_derived_find(b, DERIVED_TRANSPOSED, 1, &key);
  if (d) return d->body;
  size_t room = (size_t)(b->n_in + b->n_out) + 1;
  pl_spec *specs = pl_memory_new(c, room * sizeof *specs);
  pl_value *inputs = pl_memory_new(c, (4 * room + (size_t)b->n_values) * sizeof *inputs);
  bool *reached = pl_memory_new(c, room);
  pl_tape *t = NULL;
  pl_region *r = NULL;
  pl_body *made = NULL;
  if (specs && inputs && reached) {
    pl_value *x = inputs + room, *y = x + room, *g = y + room, *values = g + room;
    int m = 0, n_y = 0;
    for (int i = 0; i < b->n_out; i++) specs[m++] = b->specs[b->outputs[i]];
    for (int i = n; i < b->n_in; i++) specs[m++] = b->specs[i];
    t = pl_trace_open(c, m, specs, inputs);
    for (int i = 0; t && i < n; i++) { /* where it is zero: linear maps have no other point */
      int64_t shape[PL_MAX_RANK];
      for (int a = 0; a < b->specs[i].rank; a++) shape[a] = b->specs[i].shape[a];
      y[i] =
          pl_apply1(c, PL_OP(zeros), 0, NULL, (pl_attr[]){PL_INTS(b->specs[i].rank, shape), PL_INT(b->specs[i].dtype)});
    }
    if (t && !c->status) r = pl_region_open(c, n, y, NULL, x);
    for (int i = n; i < b->n_in; i++) x[i] = inputs[b->n_out + i - n];
    if (r && pl_body_inline(c, b, x, values, y)) {
      pl_region_close(r);
      for (int i = 0; i < b->n_out; i++)
        if (b->specs[b->outputs[i]].dtype <= PL_F32) {
          y[n_y] = y[i];
          g[n_y++] = inputs[i];
        }
      if (pl_region_vjp(r, n_y, y, g, x, reached, false)) made = pl_trace_close(c, t, n, x, true, 0, NULL, NULL);
    }
  }
  if (t) {
    pl_region_free(r);
    pl_trace_abandon(c, t);
    pl_tape_free(c, t);
  }
  pl_memory_free(c, specs);
  pl_memory_free(c, inputs);
  pl_memory_free(c, reached);
  if (made) d = pl_derived_keep(c, b, DERIVED_TRANSPOSED, 1, &key, made, 0, NULL);
  return d ? d->body : NULL;
}
