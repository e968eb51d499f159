/* runner.c: runs one instruction: checks its inputs, promotes their dtypes, finds the result's shape, makes it, calls
 * the kernel and appends the instruction to the open recording. Eager execution and replay share this path. */
#include <stdio.h>
#include <string.h>

#include "body.h"
#include "execute.h"
#include "schedule.h"

static bool count_error(pl_context *c, const pl_op *op, int n) {
  pl_error(c, PL_ERROR_ARGUMENT, "%s takes %d tensor%s, not %d", op->name, op->inputs, op->inputs == 1 ? "" : "s", n);
  return false;
}

/* The dtype that the op computes in: the common one of its numeric inputs, or f64 when the op lacks it. */
static pl_dtype common_dtype(const pl_op *op, int n, pl_slot *const *in) {
  static const uint8_t rank[] = {3, 2, 1, 0}; /* f64 > f32 > i64 > bool */
  if (op->keeps == PL_KEEPS_ALL) return PL_F64;
  int best = -1;
  bool has_f32 = false, has_i64 = false;
  for (int i = 0; i < n; i++) {
    if (i < 8 && (op->masks | op->keeps) >> i & 1) continue;
    has_f32 = has_f32 || in[i]->dtype == PL_F32;
    has_i64 = has_i64 || in[i]->dtype == PL_I64;
    if (best < 0 || rank[in[i]->dtype] > rank[best]) best = in[i]->dtype;
  }
  if (best < 0) return op->masks ? PL_BOOL : PL_F64;
  if (best == PL_F32 && has_f32 && has_i64) best = PL_F64; /* as NumPy: f32 does not hold an i64 */
  if (!(op->dtypes >> best & 1)) return best == PL_BOOL && (op->dtypes & PL_IN_I64) ? PL_I64 : PL_F64;
  return (pl_dtype)best;
}

static bool apply_general(pl_context *c, const pl_op *op, int n, const pl_value *inputs, const pl_attr *attrs,
                          pl_value *outputs, bool donate);

bool pl_execute(pl_context *c, const pl_op *op, int n, const pl_value *inputs, const pl_attr *attrs, pl_value *outputs,
                bool donate) {
  /* The common case, kept short: elementwise on tensors of one shape and dtype. */
  if ((c->recording && c->recording->traced) || c->check_finite)
    return apply_general(c, op, n, inputs, attrs, outputs, false);
  if (op->kind == PL_ELEMENTWISE && n <= 2 && !op->masks && !donate && op->result < 0 && c->status == PL_OK &&
      !c->host.serial && !atomic_load_explicit(&c->interrupted, memory_order_relaxed) && n == op->inputs) {
    pl_slot *in[2] = {pl_slot_find(c, inputs[0]), n == 2 ? pl_slot_find(c, inputs[1]) : NULL};
    pl_slot *x = in[0], *y = in[1];
    if (x && !(x->flags & (PL_FLAG_CHECK | PL_FLAG_RESOURCE | PL_FLAG_TRACED)) && (op->dtypes >> x->dtype & 1)) {
      bool same = true;
      if (n == 2) {
        same = y && !(y->flags & (PL_FLAG_CHECK | PL_FLAG_RESOURCE | PL_FLAG_TRACED)) && y->dtype == x->dtype;
        if (same && y->rank == 0) {
          /* x (op) number */
        } else if (same) {
          same = x->rank == y->rank;
          for (int a = 0; same && a < x->rank; a++) same = x->shape[a] == y->shape[a];
        }
      }
      if (same) {
        pl_spec spec;
        spec.dtype = x->dtype;
        spec.rank = x->rank;
        memcpy(spec.shape, x->shape, sizeof spec.shape);
        pl_value v = pl_value_new(c, &spec, NULL);
        *outputs = v;
        if (v == PL_NONE) return false;
        pl_slot *out = pl_slot_at(c, pl_slot_index(v));
        if ((n == 2 && y->rank != x->rank) || !pl_elementwise_small(op, n, in, out)) {
          pl_call call = {c, op, n, in, inputs, attrs};
          pl_elementwise(&call, spec.dtype, out);
        }
        if (c->recording && c->status == PL_OK) pl_record(c, op, n, in, attrs, 1, &out);
        if (c->status == PL_OK) return true;
        *outputs = PL_NONE;
        return false;
      }
    }
  }
  return apply_general(c, op, n, inputs, attrs, outputs, donate);
}

bool pl_apply(pl_context *c, const pl_op *op, int n, const pl_value *inputs, const pl_attr *attrs, pl_value *outputs) {
  return pl_execute(c, op, n, inputs, attrs, outputs, false);
}

pl_value pl_apply1(pl_context *c, const pl_op *op, int n, const pl_value *inputs, const pl_attr *attrs) {
  if (op->outputs == 1) {
    pl_value v = PL_NONE;
    return pl_execute(c, op, n, inputs, attrs, &v, false) ? v : PL_NONE;
  }
  pl_value out[PL_MAX_OUTPUTS];
  return pl_execute(c, op, n, inputs, attrs, out, false) ? out[0] : PL_NONE;
}

/* A user's op reads a value that the derivative around it depends on, and which is no input of the op. */
static bool lost(pl_context *c, const pl_slot *s) {
  if (!(s->flags & PL_FLAG_ACTIVE) || s->recording != c->host.serial || c->paused != c->host.paused) return false;
  pl_error(
      c, PL_ERROR_STATE,
      "a tensor of the enclosing derivative is used inside an op of which it is no argument, so its gradient would "
      "be lost: pass it as an argument, or :detach() it first if it is meant as a constant");
  return true;
}

static bool prepare_inputs(pl_context *c, const pl_op *op, int n, const pl_value *inputs, pl_value *handles,
                           pl_slot **in, pl_dtype *dtype) {
  for (int i = 0; i < n; i++) {
    pl_slot *s = pl_slot_get(c, inputs[i]);
    if (!s || ((s->flags & PL_FLAG_CHECK) && !pl_slot_check(c, s))) return false;
    in[i] = s;
    if (c->host.serial && lost(c, s)) return false;
    if ((s->flags & PL_FLAG_TRACED) && !(c->recording && c->recording->traced)) return !pl_slot_unknown(c, s);
    if ((s->flags & PL_FLAG_RESOURCE) && !(op->keeps >> (i < 8 ? i : 7) & 1)) { /* PL_KEEPS_ALL has all bits */
      pl_error(c, PL_ERROR_TYPE, "%s: argument %d is a %s, not a tensor", op->name, i + 1,
               s->data ? ((pl_resource *)s->data)->name : "resource");
      return false;
    }
    if (i < 8 && (op->masks >> i & 1) && s->dtype != PL_BOOL) {
      pl_error(c, PL_ERROR_TYPE, "%s: argument %d must be bool (a comparison's result), not %s", op->name, i + 1,
               pl_dtype_name(s->dtype));
      return false;
    }
  }
  *dtype = common_dtype(op, n, in);
  if (op->keeps == PL_KEEPS_ALL) return true;
  for (int i = 0; i < n; i++) {
    if ((i < 8 && (op->masks | op->keeps) >> i & 1) || in[i]->dtype == (uint8_t)*dtype) continue;
    handles[i] = pl_cast(c, inputs[i], *dtype);
    if (!(in[i] = pl_slot_get(c, handles[i]))) return false;
  }
  return true;
}

static bool run(pl_context *c, const pl_op *op, const pl_call *call, pl_dtype dtype, pl_value *outputs, bool donate) {
  if (op->make) {
    pl_resource *r = op->make(call);
    outputs[0] = r ? pl_value_resource(c, r) : PL_NONE;
    return outputs[0] != PL_NONE;
  }
  int n_out = pl_op_results(op, call->attrs);
  pl_spec specs[PL_MAX_OUTPUTS];
  for (int i = 0; i < n_out; i++) specs[i] = (pl_spec){.dtype = dtype};
  if (op->kind == PL_ELEMENTWISE) {
    if (!pl_broadcast_shapes(call, call->n, call->in, specs)) return false;
    if (op->result >= 0) specs[0].dtype = (pl_dtype)op->result;
  } else if (!op->shape(call, specs) || c->status) {
    return false;
  }
  pl_slot *out[PL_MAX_OUTPUTS];
  donate = donate && op->in_place && pl_value_unique(c, call->handles[0]) &&
           specs[0].dtype == (pl_dtype)call->in[0]->dtype && pl_spec_count(&specs[0]) == call->in[0]->count;
  for (int i = 0; i < n_out; i++) {
    if (specs[i].dtype == PL_DTYPES) outputs[i] = pl_value_resource(c, NULL); /* which the op is to make */
    else if (op->share && (call->in[0]->flags & PL_FLAG_LENT)) outputs[i] = pl_value_copy(c, &specs[i], call->in[0]);
    else outputs[i] = pl_value_new(c, &specs[i], op->share || (donate && i == 0) ? call->in[0] : NULL);
    if (outputs[i] == PL_NONE) return false;
    out[i] = pl_slot_at(c, pl_slot_index(outputs[i]));
  }
  if (op->share) {
    if (call->in[0]->flags & PL_FLAG_BORROWED) out[0]->flags |= PL_FLAG_BORROWED;
  } else if (op->kind == PL_ELEMENTWISE) {
    pl_elementwise(call, dtype, out[0]);
  } else if (op->step) {
    return pl_run_op(c, call, n_out, outputs, out);
  } else {
    op->run(call, out);
  }
  return c->status == PL_OK;
}

/* In a trace only the shape rule runs. */
static bool trace(pl_context *c, const pl_op *op, const pl_call *call, pl_dtype dtype, pl_value *outputs) {
  int n_out = pl_op_results(op, call->attrs);
  pl_spec specs[PL_MAX_OUTPUTS];
  for (int i = 0; i < n_out; i++) specs[i] = (pl_spec){.dtype = dtype};
  if (op->make) {
    specs[0].dtype = PL_DTYPES;
  } else if (op->kind == PL_ELEMENTWISE) {
    if (!op->fn[dtype]) {
      pl_error(c, PL_ERROR_TYPE, "%s does not compute in %s", op->name, pl_dtype_name(dtype));
      return false;
    }
    if (!pl_broadcast_shapes(call, call->n, call->in, specs)) return false;
    if (op->result >= 0) specs[0].dtype = (pl_dtype)op->result;
  } else if (!op->shape(call, specs) || c->status) {
    return false;
  }
  for (int i = 0; i < n_out; i++)
    if ((outputs[i] = pl_value_traced(c, &specs[i])) == PL_NONE) return false;
  return true;
}

/* Is everything that the op reads known, and of no recording that is open? Then it runs now, in a trace too. */
static bool known(pl_context *c, const pl_op *op, int n, pl_slot *const *in) {
  if (op == PL_OP(identity)) return false; /* it makes a recording's own value of another's */
  if (n == 0) return op != PL_OP(zeros);   /* which costs less where it stands */
  bool constants = true;
  for (int i = 0; i < n; i++) {
    if (in[i]->flags & PL_FLAG_TRACED) return false;
    constants = constants && (in[i]->flags & PL_FLAG_CONSTANT);
    for (const pl_tape *t = c->recording; in[i]->recording && t; t = t->outer)
      if (t->serial == in[i]->recording) return false;
  }
  return !constants;
}

static bool apply_op(pl_context *c, const pl_op *op, int n, const pl_value *inputs, const pl_attr *attrs,
                     pl_value *outputs, bool donate);

/* What went wrong inside of an op is an error of the op that the caller called: it names that. */
static void name_error(pl_context *c, const pl_op *op) {
  bool of_caller = c->status == PL_ERROR_STALE || c->status == PL_ERROR_STATE || c->status == PL_ERROR_INTERRUPT;
  if (op->step || op->user || of_caller || strstr(c->message, op->name)) return;
  char inner[sizeof c->message];
  memcpy(inner, c->message, sizeof inner);
  snprintf(c->message, sizeof c->message, "%s: %.*s", op->name, (int)(sizeof inner - 1 - PL_TEXT), inner);
}
static bool apply_general(pl_context *c, const pl_op *op, int n, const pl_value *inputs, const pl_attr *attrs,
                          pl_value *outputs, bool donate) {
  if (c->status) return apply_op(c, op, n, inputs, attrs, outputs, donate);
  c->applying++;
  bool ok = apply_op(c, op, n, inputs, attrs, outputs, donate);
  if (--c->applying == 0 && c->status) name_error(c, op);
  return ok;
}

static bool apply_op(pl_context *c, const pl_op *op, int n, const pl_value *inputs, const pl_attr *attrs,
                     pl_value *outputs, bool donate) {
  int n_out = pl_op_results(op, attrs);
  for (int i = 0; i < n_out && i < PL_MAX_OUTPUTS; i++) outputs[i] = PL_NONE;
  if (c->status || pl_interrupted(c)) return false;
  if (n_out > PL_MAX_OUTPUTS) {
    pl_error(c, PL_ERROR_ARGUMENT, "%s: %d results; at most %d are possible", op->name, n_out, PL_MAX_OUTPUTS);
    return false;
  }
  if (op->inputs >= 0 && n != op->inputs) return count_error(c, op, n);
  if (n > PL_MAX_INPUTS || (op->inputs < 0 && n < 1 && op->keeps != PL_KEEPS_ALL)) {
    pl_error(c, PL_ERROR_ARGUMENT, "%s takes 1 to %d tensors, not %d", op->name, PL_MAX_INPUTS, n);
    return false;
  }
  if (op->expand) {
    bool alone = !c->scope; /* then what it makes on the way must die here */
    if (alone) pl_scope_begin(c);
    bool made = op->expand(c, op, n, inputs, attrs, outputs) && c->status == PL_OK;
    for (int i = 0; i < n_out && alone && made; i++) pl_retain(c, outputs[i]);
    if (alone) pl_scope_end(c);
    for (int i = 0; i < n_out && !made; i++) outputs[i] = PL_NONE;
    return made;
  }

  if (op->augment && c->recording && c->recording->open) {
    bool done = false;
    if (!op->augment(c, op, n, inputs, attrs, outputs, &done) || done) return c->status == PL_OK;
  }
  pl_value handles[PL_MAX_INPUTS];
  for (int i = 0; i < n; i++) handles[i] = inputs[i];
  pl_slot *in[PL_MAX_INPUTS];
  pl_dtype dtype = PL_F64;
  bool ok = prepare_inputs(c, op, n, inputs, handles, in, &dtype);
  bool recorded = c->recording != NULL;
  if (ok) {
    pl_call call = {c, op, n, in, handles, attrs};
    if (recorded && c->recording->traced) {
      if (known(c, op, n, in)) {
        pl_tape *t = c->recording;
        c->recording = NULL;
        ok = run(c, op, &call, dtype, outputs, false);
        c->recording = t;
        recorded = false;
      } else {
        for (int i = 0; i < n; i++)
          if (in[i]->flags & PL_FLAG_NUMBER) {
            handles[i] = pl_trace_cell(c, in[i]);
            if (!(in[i] = pl_slot_get(c, handles[i]))) return false;
          }
        ok = trace(c, op, &call, dtype, outputs);
      }
    } else {
      ok = run(c, op, &call, dtype, outputs, donate);
      if (ok && c->check_finite) {
        pl_slot *out[PL_MAX_OUTPUTS];
        for (int i = 0; i < n_out; i++) out[i] = pl_slot_at(c, pl_slot_index(outputs[i]));
        ok = pl_check_finite(c, op, c->line, n, in, n_out, out);
      }
    }
  }
  if (ok && recorded) {
    pl_slot *out[PL_MAX_OUTPUTS];
    for (int i = 0; i < n_out; i++) out[i] = pl_slot_at(c, pl_slot_index(outputs[i]));
    ok = pl_record(c, op, n, in, attrs, n_out, out);
  }
  if (!c->scope) {
    for (int i = 0; i < n; i++) /* casts made on the way */
      if (handles[i] != inputs[i]) pl_release(c, handles[i]);
    if (!ok)
      for (int i = 0; i < n_out; i++) pl_release(c, outputs[i]);
  }
  if (!ok)
    for (int i = 0; i < n_out; i++) outputs[i] = PL_NONE;
  return ok;
}
