/* control.c: ops that hold sub-programs (bodies): call, scan, while, cond. All inputs keep their dtypes; a body's
 * inputs are those of its op in a stated order, what it captured behind what it was given. Their derivatives are ops of
 * the same family on derived bodies, so they close under both modes; what is dear to compute again is kept by the
 * forward op as further outputs when it is recorded inside a region (augment). */
#include <string.h>

#include "../body.h"
#include "../execute.h"
#include "control.h"

/* ---- what hosts and files may get wrong in attributes ---- */

bool pl_misfit(pl_context *c, const pl_op *op) {
  pl_error(c, PL_ERROR_ARGUMENT, "%s: its programs, its layout and its inputs do not fit each other", op->name);
  return false;
}

/* Inputs from `first` on against those of a body from `from` on. */
bool pl_check_inputs(const pl_call *call, const pl_body *b, int first, int from, int n) {
  for (int i = 0; i < n; i++) {
    pl_spec spec;
    pl_spec_of(call->in[first + i], &spec);
    const pl_spec *want = &b->specs[from + i];
    if (pl_spec_equal(&spec, want)) continue;
    char x[PL_TEXT], y[PL_TEXT];
    pl_error(call->c, PL_ERROR_SHAPE, "%s: input %d is %s %s, the program was made for %s %s", call->op->name,
             first + i + 1, spec_name(&spec), pl_shape_text(x, spec.rank, spec.shape), spec_name(want),
             pl_shape_text(y, want->rank, want->shape));
    return false;
  }
  return true;
}

/* The derivative of such an op is an op with these numbers of inputs and results: are they possible? */
bool pl_derivative_possible(pl_context *c, const char *name, int64_t inputs, int64_t outputs) {
  if (inputs <= PL_MAX_INPUTS && outputs <= PL_MAX_OUTPUTS) return true;
  pl_error(c, PL_ERROR_ARGUMENT,
           "%s: its derivative needs a program of %lld inputs and %lld results; at most %d and %d are possible: join "
           "tensors (stack, concat), so that fewer are passed, captured and returned",
           name, (long long)inputs, (long long)outputs, PL_MAX_INPUTS, PL_MAX_OUTPUTS);
  return false;
}
/* The results of a body's instructions one by one. */
bool pl_inlined(pl_context *c, const pl_body *b, const pl_value *in, pl_value *out) {
  pl_value *values = pl_memory_new(c, ((size_t)b->n_values + 1) * sizeof *values);
  bool ok = values && pl_body_inline(c, b, in, values, out);
  pl_memory_free(c, values);
  return ok;
}
bool pl_count_error(const pl_call *call, int n) {
  if (call->n == n) return false;
  pl_error(call->c, PL_ERROR_ARGUMENT, "%s: the program takes %d inputs, not %d", call->op->name, n, call->n);
  return true;
}

pl_value pl_zeros_of(pl_context *c, const pl_spec *s) {
  int64_t shape[PL_MAX_RANK];
  for (int a = 0; a < s->rank; a++) shape[a] = s->shape[a];
  return pl_apply1(c, PL_OP(zeros), 0, NULL, (pl_attr[]){PL_INTS(s->rank, shape), PL_INT(s->dtype)});
}

/* Flags of a list of values: floats with an active slot. */
int pl_active_flags(pl_context *c, int n, const pl_value *in, uint8_t *flags) {
  int any = 0;
  for (int i = 0; i < n; i++) {
    const pl_slot *s = pl_slot_find(c, in[i]);
    any += flags[i] = s && (s->flags & PL_FLAG_ACTIVE) && !(s->flags & PL_FLAG_RESOURCE) && s->dtype <= PL_F32;
  }
  return any;
}

/* An op of the body may have no adjoint (that of a loop with checkpoints): nothing is kept, and only who asks for one
 * hears of it. */
bool pl_not_saving(pl_context *c) {
  if (c->status == PL_ERROR_TYPE) return pl_clear(c), true;
  if (c->status == PL_OK) pl_error(c, PL_ERROR_STATE, "a derived program could not be made");
  return false;
}

/* ---- call: outputs of a body; attributes body, save ---- */

static int call_results(const pl_attr *attrs) { return are_programs(attrs, 1) ? BODY(attrs)->n_out : 0; }
static bool call_shape(const pl_call *call, pl_spec *out) {
  if (!are_programs(call->attrs, 1) || call->attrs[1].i < 0 || call->attrs[1].i > SAVE_DONE)
    return pl_misfit(call->c, call->op);
  const pl_body *b = BODY(call->attrs);
  if (pl_count_error(call, b->n_in) || !pl_check_inputs(call, b, 0, 0, b->n_in)) return false;
  for (int i = 0; i < b->n_out; i++) out[i] = b->specs[b->outputs[i]];
  return true;
}
static pl_next call_step(pl_context *c, pl_activation *a) {
  bool *ran = a->state;
  if (*ran) return PL_NEXT_DONE;
  if (!(a->child = pl_frame_new(c, BODY(a->attrs)))) return PL_NEXT_FAIL;
  for (int i = 0; i < a->n_in; i++) pl_frame_input(a->child, i, a->in[i]);
  for (int i = 0; i < a->n_out; i++) pl_frame_output(a->child, i, a->out[i]->data);
  pl_frame_start(a->child);
  *ran = true;
  return PL_NEXT_CALL;
}
static bool call_augment(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs, pl_value *out,
                         bool *done) {
  pl_body *b = BODY(attrs);
  uint8_t need[PL_MAX_INPUTS];
  if (attrs[1].i != SAVE_ASK || !pl_active_flags(c, n, in, need)) return true;
  pl_derived *saving = pl_body_saving(c, b, need);
  if (!saving) return pl_not_saving(c);
  pl_value all[PL_MAX_OUTPUTS];
  pl_attr more[] = {PL_OBJECT(saving->body ? &saving->body->base : &b->base), PL_INT(SAVE_DONE)};
  *done = true;
  if (!pl_apply(c, op, n, in, more, all)) return false;
  memcpy(out, all, (size_t)b->n_out * sizeof *out);
  return true;
}
/* x, y and the seeds, as the derived bodies take them. */
static int gather_inputs(int n, const pl_value *in, int n_out, const pl_value *out, const uint8_t *flags, int n_seeds,
                         const pl_value *seeds, pl_value *list) {
  int k = 0;
  for (int i = 0; i < n; i++) list[k++] = in[i];
  for (int i = 0; i < n_out; i++) list[k++] = out[i];
  for (int i = 0; i < n_seeds; i++)
    if (flags[i]) list[k++] = seeds[i];
  return k;
}
static void call_vjp(pl_vjp *v) {
  pl_context *c = v->c;
  pl_body *b = BODY(v->attrs);
  uint8_t need[PL_MAX_INPUTS], given[PL_MAX_OUTPUTS], known[PL_MAX_OUTPUTS];
  for (int i = 0; i < b->n_in; i++) need[i] = v->need[i] && is_float(&b->specs[i]);
  for (int i = 0; i < b->n_out; i++) given[i] = v->g[i] != PL_ZERO;
  all_flags(known, b->n_out, v->attrs[1].i != SAVE_NEVER);
  pl_derived *d = pl_body_vjp(c, b, need, given, known);
  if (!d || !d->body || d->body->n_out == 0 || !pl_derivative_possible(c, "call", d->body->n_in, d->body->n_out))
    return;
  pl_value in[PL_MAX_INPUTS + PL_MAX_OUTPUTS], out[PL_MAX_OUTPUTS];
  int n = gather_inputs(b->n_in, v->in, b->n_out, v->out, given, b->n_out, v->g, in);
  if (!pl_apply(c, v->op, n, in, (pl_attr[]){PL_OBJECT(&d->body->base), PL_INT(SAVE_ASK)}, out)) return;
  for (int i = 0; i < b->n_in; i++)
    if (d->list[i] >= 0) pl_vjp_give(v, i, out[d->list[i]]);
}
static void call_jvp(pl_jvp *j) {
  pl_context *c = j->c;
  pl_body *b = BODY(j->attrs);
  uint8_t active[PL_MAX_INPUTS], known[PL_MAX_OUTPUTS];
  for (int i = 0; i < b->n_in; i++) active[i] = j->t[i] != PL_ZERO;
  all_flags(known, b->n_out, 1);
  pl_derived *d = pl_body_jvp(c, b, active, known);
  if (!d || !d->body || d->body->n_out == 0 || !pl_derivative_possible(c, "call", d->body->n_in, d->body->n_out))
    return;
  pl_value in[PL_MAX_INPUTS + PL_MAX_OUTPUTS], out[PL_MAX_OUTPUTS];
  int n = gather_inputs(b->n_in, j->in, b->n_out, j->out, active, b->n_in, j->t, in);
  if (!pl_apply(c, j->op, n, in, (pl_attr[]){PL_OBJECT(&d->body->base), PL_INT(SAVE_ASK)}, out)) return;
  for (int i = 0; i < b->n_out; i++)
    if (d->list[i] >= 0) j->dt[i] = out[d->list[i]];
}

/* ---- cond: attributes yes, no, layout {inputs of yes}; inputs: a bool, those of yes, those of no ---- */

static int cond_results(const pl_attr *attrs) { return are_programs(attrs, 2) ? BODY(attrs)->n_out : 0; }
static bool cond_shape(const pl_call *call, pl_spec *out) {
  if (!are_programs(call->attrs, 2)) return pl_misfit(call->c, call->op);
  const pl_body *yes = BODY(call->attrs), *no = STEP(call->attrs);
  if (pl_count_error(call, 1 + yes->n_in + no->n_in) || !pl_check_inputs(call, yes, 1, 0, yes->n_in) ||
      !pl_check_inputs(call, no, 1 + yes->n_in, 0, no->n_in))
    return false;
  if (call->in[0]->dtype != PL_BOOL || call->in[0]->count != 1) {
    pl_error(call->c, PL_ERROR_TYPE, "cond: the condition must be one bool (a comparison's result)");
    return false;
  }
  if (yes->n_out != no->n_out) {
    pl_error(call->c, PL_ERROR_ARGUMENT, "cond: one branch returns %d values, the other %d: they must agree",
             yes->n_out, no->n_out);
    return false;
  }
  for (int i = 0; i < yes->n_out; i++) {
    const pl_spec *a = &yes->specs[yes->outputs[i]], *b = &no->specs[no->outputs[i]];
    if (!pl_spec_equal(a, b)) {
      char x[PL_TEXT], y[PL_TEXT];
      pl_error(call->c, PL_ERROR_SHAPE, "cond: one branch returns %s %s, the other %s %s (result %d): they must agree",
               spec_name(a), pl_shape_text(x, a->rank, a->shape), spec_name(b), pl_shape_text(y, b->rank, b->shape),
               i + 1);
      return false;
    }
    out[i] = *a;
  }
  return true;
}
static pl_next cond_step(pl_context *c, pl_activation *a) {
  bool *ran = a->state;
  if (*ran) return PL_NEXT_DONE;
  bool yes = *(const uint8_t *)a->in[0]->data;
  pl_body *b = yes ? BODY(a->attrs) : STEP(a->attrs);
  int first = yes ? 1 : 1 + BODY(a->attrs)->n_in;
  if (!(a->child = pl_frame_new(c, b))) return PL_NEXT_FAIL;
  for (int i = 0; i < b->n_in; i++) pl_frame_input(a->child, i, a->in[first + i]);
  for (int i = 0; i < a->n_out; i++) pl_frame_output(a->child, i, a->out[i]->data);
  pl_frame_start(a->child);
  *ran = true;
  return PL_NEXT_CALL;
}

/* A branch's derivative with results for all that either branch has, zeros where this one has none. list: for each
 * result the derived body's output, or -1; specs: of the results. */
static pl_body *branch(pl_context *c, const pl_body *d, int n, const int32_t *list, const pl_spec *specs) {
  pl_value in[PL_MAX_INPUTS + PL_MAX_OUTPUTS], made[PL_MAX_OUTPUTS], out[PL_MAX_OUTPUTS];
  pl_tape *t = pl_trace_open(c, d->n_in, d->specs, in);
  if (!t) return NULL;
  pl_body *result = NULL;
  if (pl_inlined(c, d, in, made)) {
    for (int i = 0; i < n; i++) out[i] = list[i] >= 0 ? made[list[i]] : pl_zeros_of(c, &specs[i]);
    result = pl_trace_close(c, t, n, out, true, 0, NULL, NULL);
  }
  pl_trace_free(c, t);
  return result;
}
static void cond_vjp(pl_vjp *v) {
  pl_context *c = v->c;
  pl_body *side[] = {BODY(v->attrs), STEP(v->attrs)}, *made[2] = {NULL, NULL};
  uint8_t need[PL_MAX_INPUTS], given[PL_MAX_OUTPUTS];
  int n_wanted = 0, total = side[0]->n_in + side[1]->n_in;
  pl_spec wanted[PL_MAX_INPUTS];
  for (int i = 0; i < side[0]->n_out; i++) given[i] = v->g[i] != PL_ZERO;
  for (int i = 0; i < total; i++)
    if (v->need[1 + i]) pl_spec_of(pl_slot_find(c, v->in[1 + i]), &wanted[n_wanted++]);
  pl_value outer[PL_MAX_INPUTS + PL_MAX_OUTPUTS], out[PL_MAX_OUTPUTS];
  int n = 0, first = 0, rank = 0;
  outer[n++] = v->in[0];
  for (int s = 0; s < 2; s++) {
    pl_body *b = side[s];
    for (int i = 0; i < b->n_in; i++) need[i] = v->need[1 + first + i] && is_float(&b->specs[i]);
    pl_derived *d = pl_body_vjp(c, b, need, given, NULL);
    if (!d || !d->body || !pl_derivative_possible(c, "cond", n + d->body->n_in, n_wanted)) goto done;
    int32_t list[PL_MAX_INPUTS];
    for (int i = 0; i < n_wanted; i++) list[i] = -1;
    for (int i = 0; i < b->n_in; i++)
      if (v->need[1 + first + i]) list[rank++] = d->list[i];
    if (!(made[s] = branch(c, d->body, n_wanted, list, wanted))) goto done;
    n += gather_inputs(b->n_in, v->in + 1 + first, b->n_out, v->out, given, b->n_out, v->g, outer + n);
    first += b->n_in;
  }
  pl_attr attrs[] = {PL_OBJECT(&made[0]->base), PL_OBJECT(&made[1]->base)};
  if (pl_apply(c, v->op, n, outer, attrs, out))
    for (int i = 0, k = 0; i < total; i++)
      if (v->need[1 + i]) pl_vjp_give(v, 1 + i, out[k++]);
done:
  pl_object_release((pl_object *)made[0]);
  pl_object_release((pl_object *)made[1]);
}
static void cond_jvp(pl_jvp *j) {
  pl_context *c = j->c;
  pl_body *side[] = {BODY(j->attrs), STEP(j->attrs)}, *made[2] = {NULL, NULL};
  pl_derived *d[2];
  uint8_t active[PL_MAX_INPUTS], moves[PL_MAX_OUTPUTS] = {0};
  int n_out = side[0]->n_out, first = 0, n = 0, n_wanted = 0;
  pl_value outer[PL_MAX_INPUTS + PL_MAX_OUTPUTS], out[PL_MAX_OUTPUTS];
  outer[n++] = j->in[0];
  for (int s = 0; s < 2; s++) {
    for (int i = 0; i < side[s]->n_in; i++) active[i] = j->t[1 + first + i] != PL_ZERO;
    if (!(d[s] = pl_body_jvp(c, side[s], active, NULL)) || !d[s]->body ||
        !pl_derivative_possible(c, "cond", n + d[s]->body->n_in, 0))
      return;
    for (int i = 0; i < n_out; i++) moves[i] |= d[s]->list[i] >= 0;
    n += gather_inputs(side[s]->n_in, j->in + 1 + first, n_out, j->out, active, side[s]->n_in, j->t + 1 + first,
                       outer + n);
    first += side[s]->n_in;
  }
  pl_spec wanted[PL_MAX_OUTPUTS];
  for (int i = 0; i < n_out; i++)
    if (moves[i]) wanted[n_wanted++] = side[0]->specs[side[0]->outputs[i]];
  for (int s = 0; s < 2; s++) {
    int32_t list[PL_MAX_OUTPUTS];
    for (int i = 0, k = 0; i < n_out; i++)
      if (moves[i]) list[k++] = d[s]->list[i];
    if (!(made[s] = branch(c, d[s]->body, n_wanted, list, wanted))) goto done;
  }
  if (n_wanted && pl_apply(c, j->op, n, outer, (pl_attr[]){PL_OBJECT(&made[0]->base), PL_OBJECT(&made[1]->base)}, out))
    for (int i = 0, k = 0; i < n_out; i++)
      if (moves[i]) j->dt[i] = out[k++];
done:
  pl_object_release((pl_object *)made[0]);
  pl_object_release((pl_object *)made[1]);
}

/* ---- samples ---- */

/* A body made of a few ops on traced inputs of the given specs. */
pl_body *pl_sample_body(pl_context *c, int n, const pl_spec *specs, pl_sample_function f) {
  pl_value in[PL_MAX_SAMPLE], out[PL_MAX_SAMPLE];
  pl_tape *t = pl_trace_open(c, n, specs, in);
  if (!t) return NULL;
  int n_out = f(c, in, out);
  pl_body *b = pl_trace_close(c, t, n_out, out, true, 0, NULL, NULL);
  pl_trace_free(c, t);
  return b;
}
pl_value pl_sample_total(pl_context *c, pl_value x) {
  return pl_call1(c, PL_OP(sum), x, (pl_attr[]){PL_INTS(-1, NULL), PL_INT(0)});
}
int pl_sample_step(pl_context *c, const pl_value *x, pl_value *out) { /* state, x, captured */
  pl_value z = PL_BINARY(add, c, PL_BINARY(mul, c, x[0], x[2]), x[1]);
  out[0] = PL_UNARY(tanh, c, z);
  out[1] = PL_BINARY(mul, c, pl_sample_total(c, PL_UNARY(sin, c, z)), x[1]);
  return 2;
}
int pl_sample_grow(pl_context *c, const pl_value *x, pl_value *out) {
  out[0] = PL_BINARY(mul, c, x[0], x[1]);
  return 1;
}
static int sine_function(pl_context *c, const pl_value *x, pl_value *out) {
  out[0] = PL_UNARY(sin, c, PL_BINARY(mul, c, x[0], x[1]));
  return 1;
}
bool pl_sampled(pl_sample *s, pl_body *a, pl_body *b) {
  s->object = (pl_object *)a;
  s->second = (pl_object *)b;
  return a != NULL;
}
static bool call_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  if (k > 1) return false;
  pl_body *b = pl_sample_body(c, 3, (pl_spec[]){three, scalar_spec, three}, pl_sample_step);
  s->n = 3;
  s->attrs[0] = PL_OBJECT((pl_object *)b);
  s->attrs[1] = PL_INT(k ? SAVE_NEVER : SAVE_ASK);
  s->in[0] = pl_sample_tensor(c, r, -1, 1, 1, 3);
  s->in[1] = pl_sample_tensor(c, r, -1, 1, 0);
  s->in[2] = pl_sample_tensor(c, r, -1, 1, 1, 3);
  return pl_sampled(s, b, NULL);
}
static bool cond_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  if (k > 1) return false;
  pl_body *yes = pl_sample_body(c, 2, (pl_spec[]){three, three}, pl_sample_grow),
          *no = pl_sample_body(c, 2, (pl_spec[]){three, three}, sine_function);
  s->n = 5;
  s->attrs[0] = PL_OBJECT((pl_object *)yes);
  s->attrs[1] = PL_OBJECT((pl_object *)no);
  s->in[0] = pl_scalar(c, PL_BOOL, k);
  for (int i = 1; i < 5; i++) s->in[i] = pl_sample_tensor(c, r, -1, 1, 1, 3);
  return pl_sampled(s, yes, no);
}
pl_op pl_ops_control[] = {
    {CONTROL("call", "the outputs of a program"), .attrs = {OBJECT("body"), {"save", PL_AS_INT, false, 0}},
     .shape = call_shape, .results = call_results, .step = call_step, .state_size = sizeof(bool),
     .augment = call_augment, .vjp = call_vjp, .jvp = call_jvp, .sample = call_sample},
    {CONTROL("cond", "one of two programs"), .attrs = {OBJECT("yes"), OBJECT("no")}, .shape = cond_shape,
     .results = cond_results, .step = cond_step, .state_size = sizeof(bool), .vjp = cond_vjp, .jvp = cond_jvp,
     .sample = cond_sample},
    {0},
};
