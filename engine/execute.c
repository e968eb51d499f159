#include "execute.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "schedule.h"

/* ---- executables ---- */

static void frame_destroy(pl_context *c, pl_frame *f);

static void free_executable(pl_context *c, pl_executable *e) {
  if (!e) return;
  if (e->idle) frame_destroy(c, e->idle);
  for (int k = 0; k < e->n_units; k++)
    if (e->units[k].group) {
      pl_memory_free(c, e->units[k].group->micro);
      pl_memory_free(c, e->units[k].group->external);
      pl_memory_free(c, e->units[k].group);
    }
  for (int i = 0; i < e->n_constants; i++) pl_release(c, e->constants[i]);
  void *parts[] = {e->specs, e->places, e->operands, e->units, e->late, e->made, e->copies, e->constants};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) pl_memory_free(c, parts[i]);
  pl_memory_free(c, e);
}

void pl_executable_free(pl_context *c, pl_executable *e) { free_executable(c, e); }

pl_executable *pl_body_executable(pl_context *c, pl_body *b, int how) {
  if (!b->executable[how]) {
    uint32_t line = c->line;
    int pending =
        atomic_exchange(&c->interrupted, 0); /* answered when it is made: an op that asked for it goes on then */
    b->executable[how] = pl_executable_build(c, b, how);
    if (pending) atomic_store(&c->interrupted, pending);
    c->line = line;
    b->executable_free = free_executable;
  }
  return b->executable[how];
}

/* ---- frames ---- */

enum { IDLE_BYTES = 4 << 20 };

pl_frame *pl_frame_new(pl_context *c, pl_body *b) {
  pl_executable *e = pl_body_executable(c, b, c->plain ? PL_PLAIN : PL_OPTIMIZED);
  if (!e) return NULL;
  if (e->idle) {
    pl_frame *f = e->idle;
    e->idle = NULL;
    return f;
  }
  size_t n = (size_t)e->n_values, bytes = sizeof(pl_frame) + n * sizeof(pl_slot) + 64;
  bytes += ((size_t)e->n_operands + 1) * sizeof(pl_slot *) + ((size_t)b->n_out + 1) * sizeof(void *);
  pl_frame *f = pl_memory_new(c, bytes);
  if (!f) return NULL;
  memset(f, 0, bytes);
  f->exe = e;
  f->slots = (pl_slot *)(f + 1);
  f->operands = (pl_slot **)(f->slots + n);
  f->outputs = (void **)(f->operands + e->n_operands + 1);
  if (e->arena && !(f->arena = pl_memory_new(c, (size_t)e->arena))) {
    pl_memory_free(c, f);
    return NULL;
  }
  for (int v = 0; v < e->n_values; v++) {
    pl_slot *s = &f->slots[v];
    const pl_spec *t = &e->specs[v];
    if (t->dtype == PL_DTYPES) {
      s->flags = PL_FLAG_RESOURCE;
      continue;
    }
    s->dtype = (uint8_t)t->dtype;
    s->rank = (uint8_t)t->rank;
    memcpy(s->shape, t->shape, sizeof s->shape);
    s->count = pl_spec_count(t);
  }
  for (int v = 0; v < e->n_values; v++) {
    const pl_place *p = &e->places[v];
    if (p->kind == PL_AT_ARENA) f->slots[v].data = f->arena + p->offset;
    if (p->kind == PL_AT_CONSTANT) {
      pl_slot *s = pl_slot_find(c, e->constants[p->index]);
      f->slots[v].data = s ? s->data : NULL;
    }
  }
  for (int v = 0; v < e->n_values; v++)
    if (e->places[v].kind == PL_AT_ALIAS && f->slots[e->places[v].index].data)
      f->slots[v].data = (char *)f->slots[e->places[v].index].data + e->places[v].offset;
  for (int i = 0; i < e->n_operands; i++) f->operands[i] = &f->slots[e->operands[i]];
  return f;
}

static void drop_resource(pl_context *c, pl_slot *s) {
  pl_resource *r = s->data;
  s->data = NULL;
  if (r && --r->refs < 0) r->destroy(c, r);
}

/* Resources that a run made die when it starts again, or with the frame. */
static void drop_resources(pl_context *c, pl_frame *f) {
  for (int i = 0; i < f->exe->n_made; i++)
    if (f->slots[f->exe->made[i]].data) drop_resource(c, &f->slots[f->exe->made[i]]);
}

static void frame_destroy(pl_context *c, pl_frame *f) {
  drop_resources(c, f);
  pl_memory_free(c, f->arena);
  pl_memory_free(c, f);
}

void pl_frame_free(pl_context *c, pl_frame *f) {
  if (!f) return;
  pl_executable *e = (pl_executable *)f->exe;
  f->started = false;
  if (!e->idle && e->arena < IDLE_BYTES && !c->freeing) {
    drop_resources(c, f);
    e->idle = f;
  } else {
    frame_destroy(c, f);
  }
}

void pl_frame_input(pl_frame *f, int k, const pl_slot *from) { f->slots[k].data = from->data; }
void pl_frame_input_at(pl_frame *f, int k, void *data) { f->slots[k].data = data; }
void pl_frame_output(pl_frame *f, int k, void *data) { f->outputs[k] = data; }

const pl_slot *pl_frame_result(const pl_frame *f, int k) {
  int32_t v = (int32_t)f->exe->body->outputs[k];
  return &f->slots[v];
}

void pl_frame_start(pl_frame *f) {
  f->pc = 0;
  f->started = false;
}

static void begin(pl_context *c, pl_frame *f) {
  const pl_executable *e = f->exe;
  drop_resources(c, f);
  for (int i = 0; i < e->n_late; i++) {
    int32_t v = e->late[i];
    const pl_place *p = &e->places[v];
    f->slots[v].data = p->kind == PL_AT_OUTPUT ? f->outputs[p->index] : (char *)f->slots[p->index].data + p->offset;
  }
  f->started = true;
}

static void finish(pl_frame *f) {
  const pl_executable *e = f->exe;
  for (int i = 0; i < e->n_copies; i++) {
    const pl_slot *s = &f->slots[e->copies[2 * i + 1]];
    void *to = f->outputs[e->copies[2 * i]];
    if (to != s->data) memcpy(to, s->data, (size_t)s->count * pl_dtype_size((pl_dtype)s->dtype));
  }
  f->started = false;
}

/* ---- the runner ---- */

static pl_activation *activation_new(pl_context *c, const pl_op *op, const pl_attr *attrs, uint32_t line, int n_in,
                                     pl_slot **in, int n_out, pl_slot **out) {
  pl_activation *a = pl_memory_new(c, sizeof *a + op->state_size + 16);
  if (!a) return NULL;
  memset(a, 0, sizeof *a + op->state_size + 16);
  *a = (pl_activation){
      .op = op, .attrs = attrs, .line = line, .n_in = n_in, .n_out = n_out, .in = in, .out = out, .state = a + 1};
  return a;
}

static void activation_free(pl_context *c, pl_activation *a) {
  if (a->op->stop) a->op->stop(c, a);
  pl_frame_free(c, a->child);
  pl_memory_free(c, a);
}

/* Adds where in the script the failed op stands. */
static void locate(pl_context *c, uint32_t line) {
  char text[PL_TEXT];
  if (c->status == PL_OK || c->status == PL_ERROR_INTERRUPT || c->located || !*pl_line_text(c, line, text)) return;
  size_t n = strlen(c->message);
  snprintf(c->message + n, sizeof c->message - n, " (at %s)", text);
  c->located = true;
}

static void describe_nan(pl_context *c, const pl_op *op, uint32_t at, int n_in, pl_slot *const *in, char *text,
                         size_t size) {
  char line[PL_TEXT], shape[PL_TEXT];
  int n = snprintf(text, size, "%s%s%s first gave a NaN or infinity", op->name,
                   *pl_line_text(c, at, line) ? " at " : "", line);
  for (int i = 0; i < n_in && i < 3 && n > 0 && (size_t)n < size; i++) {
    const pl_slot *s = in[i];
    if (s->flags & PL_FLAG_RESOURCE) continue;
    double lo = INFINITY, hi = -INFINITY;
    for (int64_t j = 0; j < s->count && s->dtype <= PL_I64; j++) {
      double x = s->dtype == PL_F64   ? ((const double *)s->data)[j]
                 : s->dtype == PL_F32 ? (double)((const float *)s->data)[j]
                                      : (double)((const int64_t *)s->data)[j];
      if (x < lo) lo = x;
      if (x > hi) hi = x;
    }
    if (s->count > 0 && s->dtype <= PL_I64)
      n += snprintf(text + n, size - (size_t)n, "%s argument %d %s from %g to %g", i ? "," : ":", i + 1,
                    pl_shape_text(shape, s->rank, s->shape), lo, hi);
  }
}

bool pl_check_finite(pl_context *c, const pl_op *op, uint32_t line, int n_in, pl_slot *const *in, int n_out,
                     pl_slot *const *out) {
  for (int i = 0; i < n_out; i++) {
    if (out[i]->flags & PL_FLAG_RESOURCE || pl_slot_finite(out[i])) continue;
    char text[512];
    describe_nan(c, op, line, n_in, in, text, sizeof text);
    pl_error(c, PL_ERROR_NUMERIC, "%s", text);
    c->located = true;
    return false;
  }
  return true;
}

/* Runs units until one has sub-programs (its activation is returned), or the frame is done (NULL), or an error (NULL).
 */
static pl_activation *run_units(pl_context *c, pl_frame *f) {
  const pl_executable *e = f->exe;
  if (!f->started) begin(c, f);
  while (f->pc < e->n_units) {
    const pl_unit *q = &e->units[f->pc];
    if (pl_interrupted(c)) return NULL;
    pl_slot **in = f->operands + q->operands, **out = in + q->n_in;
    switch (q->kind) {
      case PL_UNIT_GROUP: pl_group_run(c, q->group, f->slots); break;
      case PL_UNIT_RUN: {
        pl_call call = {c, q->op, q->n_in, in, NULL, q->attrs};
        if (q->op->kind == PL_ELEMENTWISE) {
          const pl_slot *s = in[q->op->masks & 1 && q->n_in > 1 && !(q->op->masks & 2) ? 1 : 0];
          pl_elementwise(&call, (pl_dtype)s->dtype, out[0]);
        } else {
          q->op->run(&call, out);
        }
        break;
      }
      case PL_UNIT_MAKE: {
        pl_call call = {c, q->op, q->n_in, in, NULL, q->attrs};
        if (out[0]->data) drop_resource(c, out[0]);
        out[0]->data = q->op->make(&call);
        break;
      }
      case PL_UNIT_STEP: {
        pl_activation *a = activation_new(c, q->op, q->attrs, q->line, q->n_in, in, q->n_out, out);
        return a;
      }
    }
    if (c->status) {
      locate(c, q->line);
      return NULL;
    }
    if (c->check_finite && q->kind != PL_UNIT_GROUP) pl_check_finite(c, q->op, q->line, q->n_in, in, q->n_out, out);
    if (c->status) return NULL;
    f->pc++;
  }
  finish(f);
  return NULL;
}

/* One activation of the op at the top, and what it needs to go on after an interrupt. */
struct pl_run {
  pl_activation *top, *now;
  bool in_child; /* now's child frame is running */
  int n_in, n_out;
  pl_value *inputs, *outputs; /* held while the run is suspended */
  pl_program program;         /* and its attributes */
  int64_t serial;
};

/* True: done. False: an error; on an interrupt the state is as it was. */
static bool drive(pl_context *c, struct pl_run *r) {
  while (r->now) {
    pl_activation *a = r->now;
    if (r->in_child) {
      pl_activation *inner = run_units(c, a->child);
      if (c->status) return false;
      if (inner) {
        inner->parent = a;
        r->now = inner;
        r->in_child = false;
        continue;
      }
    }
    r->in_child = false;
    if (pl_interrupted(c)) { /* between steps */
      r->in_child = a->child && a->child->started;
      return false;
    }
    pl_next next = a->op->step(c, a);
    if (next == PL_NEXT_CALL) {
      r->in_child = true;
    } else if (next == PL_NEXT_DONE && c->status == PL_OK) {
      pl_activation *parent = a->parent;
      if (parent) {
        activation_free(c, a);
        parent->child->pc++;
        r->in_child = true;
      }
      r->now = parent;
    } else {
      locate(c, a->line);
      return false;
    }
  }
  return true;
}

static void run_free(pl_context *c, struct pl_run *r) {
  for (pl_activation *a = r->now, *parent; a; a = parent) {
    parent = a->parent;
    if (a == r->top) r->top = NULL;
    activation_free(c, a);
  }
  if (r->top) activation_free(c, r->top);
  r->top = r->now = NULL;
}

void pl_suspended_free(pl_context *c) {
  struct pl_run *r = c->suspended;
  if (!r) return;
  c->suspended = NULL;
  run_free(c, r);
  for (int i = 0; i < r->n_in; i++) pl_release(c, r->inputs[i]);
  for (int i = 0; i < r->n_out; i++) pl_release(c, r->outputs[i]);
  pl_program_free(c, &r->program);
  pl_memory_free(c, r);
}

/* Keeps an interrupted run; without the memory to, that is the error. */
static void suspend(pl_context *c, struct pl_run *r, const pl_call *call, const pl_value *outputs, int n_out) {
  pl_suspended_free(c);
  pl_status status = c->status;
  c->status = PL_OK;
  size_t each = sizeof(pl_value) + sizeof(pl_slot *);
  struct pl_run *kept = pl_memory_new(c, sizeof *kept + (size_t)(call->n + n_out) * each);
  if (!kept) return;
  pl_program holds = {0}; /* the attributes: the caller's may go */
  if (!pl_program_append(c, &holds, call->op, 0, NULL, call->attrs, 0, NULL)) {
    pl_program_free(c, &holds);
    pl_memory_free(c, kept);
    return;
  }
  *kept = *r;
  kept->serial = ++c->stops;
  kept->n_in = call->n;
  kept->n_out = n_out;
  kept->inputs = (pl_value *)(kept + 1);
  kept->outputs = kept->inputs + call->n;
  pl_slot **slots = (pl_slot **)(kept->outputs + n_out);
  for (int i = 0; i < call->n; i++) {
    kept->inputs[i] = call->handles[i];
    slots[i] = call->in[i];
    pl_retain(c, kept->inputs[i]);
  }
  for (int i = 0; i < n_out; i++) {
    kept->outputs[i] = outputs[i];
    slots[call->n + i] = pl_slot_find(c, outputs[i]);
    pl_retain(c, outputs[i]);
  }
  kept->top->in = slots;
  kept->top->out = slots + call->n;
  kept->program = holds;
  kept->top->attrs = holds.instructions[0].attrs;
  c->status = status;
  c->suspended = kept;
  r->top = r->now = NULL;
}

bool pl_run_op(pl_context *c, const pl_call *call, int n_out, const pl_value *outputs, pl_slot **out) {
  pl_activation *a = activation_new(c, call->op, call->attrs, c->line, call->n, (pl_slot **)call->in, n_out, out);
  if (!a) return false;
  struct pl_run r = {.top = a, .now = a};
  c->located = false;
  c->running++;
  bool done = drive(c, &r);
  c->running--;
  if (!done && c->status == PL_ERROR_INTERRUPT && c->running == 0) suspend(c, &r, call, outputs, n_out);
  if (done) activation_free(c, a);
  else run_free(c, &r);
  return done;
}

bool pl_body_is_short(pl_context *c, pl_body *b) {
  const pl_executable *e = c->status ? NULL : pl_body_executable(c, b, c->plain ? PL_PLAIN : PL_OPTIMIZED);
  return e && e->simple;
}

bool pl_body_run(pl_context *c, pl_body *b, const void *const *inputs, void *const *outputs) {
  if (c->status) return false;
  pl_frame *f = pl_frame_new(c, b);
  if (!f) return false;
  for (int i = 0; i < b->n_in; i++) f->slots[i].data = (void *)inputs[i];
  for (int i = 0; i < b->n_out; i++) f->outputs[i] = outputs[i];
  pl_frame_start(f);
  c->located = false;
  c->running++;
  int pending = atomic_exchange(&c->interrupted, 0); /* answered by the next op: this one is soon over */
  run_units(c, f);
  if (pending) atomic_store(&c->interrupted, pending);
  c->running--;
  pl_frame_free(c, f);
  return c->status == PL_OK;
}

int64_t pl_suspended(const pl_context *c) { return c->suspended ? c->suspended->serial : 0; }

int pl_continue(pl_context *c, int most, pl_value *outputs) {
  struct pl_run *r = c->suspended;
  if (c->status) return -1;
  if (!r) {
    pl_error(c, PL_ERROR_STATE, "there is no interrupted program to continue");
    return -1;
  }
  pl_tape *recording = c->recording; /* it belongs to none */
  pl_scope *scope = c->scope;
  c->recording = NULL;
  c->scope = NULL;
  c->located = false;
  c->running++;
  bool done = drive(c, r);
  c->running--;
  c->recording = recording;
  c->scope = scope;
  if (!done) {
    if (c->status != PL_ERROR_INTERRUPT) {
      pl_status status = c->status;
      c->status = PL_OK;
      pl_suspended_free(c);
      c->status = status;
    }
    return -1;
  }
  int n = r->n_out < most ? r->n_out : most;
  for (int i = 0; i < n; i++) {
    outputs[i] = r->outputs[i];
    pl_retain(c, outputs[i]);
  }
  r->now = NULL;
  pl_suspended_free(c);
  return n;
}
