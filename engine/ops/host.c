/* host.c: ops whose rules are functions of the host (user_op.h). Such an op is three rows: the op itself, "name.vjp"
 * and "name.jvp", which run the host's rules on values. Differentiating one of the latter, or deriving the rule that
 * the host did not give from the one it gave, traces the host's rule into a body (body.h), and the derivative is that
 * of `call` on this body. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "../body.h"
#include "user.h"

enum { FORWARD, VJP, JVP, RULES };
enum { MOST = 2 * PL_USER_OUTPUTS + 2 * PL_USER_INPUTS, NESTED = 32 };

typedef struct {
  pl_user_op base;
  pl_op row[RULES];
  pl_op_definition d;
} hosted;

static const hosted *hosted_of(const pl_op *op) { return (const hosted *)op->user; }
static int which_of(const pl_op *op) { return (int)(op - hosted_of(op)->row); }
static bool is_float(const pl_spec *s) { return s->dtype <= PL_F32; }

/* ---- the list of them ---- */

bool pl_user_op_name(pl_context *c, const char *name) {
  bool good = name && (isalpha((unsigned char)*name) || *name == '_') && strlen(name) < 64;
  for (const char *p = name; good && *p; p++) good = isalnum((unsigned char)*p) || *p == '_';
  if (!good) {
    pl_error(c, PL_ERROR_ARGUMENT, "an op's name is letters, digits and _, at most 63, and no digit first, not '%.80s'",
             name ? name : "");
  } else if (pl_op_find(name)) {
    pl_error(c, PL_ERROR_ARGUMENT, "there is an op %s already: find another name", name);
    good = false;
  }
  return good;
}

void pl_user_op_add(pl_context *c, pl_user_op *u) {
  u->next = c->user_ops;
  c->user_ops = u;
}

void pl_user_ops_free(pl_context *c) {
  for (pl_user_op *u = c->user_ops, *next; u; u = next) {
    next = u->next;
    u->free(c, u);
  }
  c->user_ops = NULL;
}

const pl_op *pl_op_find_in(const pl_context *c, const char *name) {
  for (const pl_user_op *u = c->user_ops; u; u = u->next)
    if (!strcmp(u->op->name, name) || !strcmp(u->identity, name)) return u->op;
  return NULL;
}

const char *pl_op_identity(const pl_context *c, const pl_op *op) {
  for (const pl_user_op *u = c->user_ops; u; u = u->next)
    if (u->op == op) return u->identity;
  return op->name;
}

/* ---- shapes ---- */

static void info_of(const pl_spec *s, pl_info *info) {
  *info = (pl_info){.dtype = s->dtype, .rank = s->rank, .count = pl_spec_count(s)};
  for (int a = 0; a < s->rank; a++) info->shape[a] = s->shape[a];
}

static const char *describe(char *text, pl_dtype dtype, int rank, const int32_t *shape) {
  char s[PL_TEXT];
  snprintf(text, PL_TEXT, "%s %.140s", pl_dtype_name(dtype), pl_shape_text(s, rank, shape));
  return text;
}

static const char *rule_text(const pl_op *op, char *text) {
  static const char *const names[] = {"", "the vjp of ", "the jvp of "};
  snprintf(text, PL_TEXT, "%sop %s", names[which_of(op)], hosted_of(op)->row[FORWARD].name);
  return text;
}

/* While the host runs: nothing is recorded, new values are its own. */
typedef struct {
  struct pl_tape *recording;
  pl_scope *scope;
  uint32_t line, serial;
  int paused, n_saved, host_paused;
  bool located;
} visit;

static bool enter(pl_context *c, visit *v) {
  if (c->host.depth >= NESTED) {
    pl_error(c, PL_ERROR_STATE, "user-defined ops call each other more than %d deep", NESTED);
    return false;
  }
  *v = (visit){.recording = c->recording,
               .scope = c->scope,
               .line = c->line,
               .serial = c->host.serial,
               .paused = c->paused,
               .n_saved = c->n_saved,
               .host_paused = c->host.paused,
               .located = c->located};
  c->host.serial = c->recording && !c->recording->traced ? c->recording->serial : 0;
  c->host.paused = c->paused;
  c->host.depth++;
  c->running++; /* a program that it runs is not to be continued without it */
  c->recording = NULL;
  c->scope = NULL;
  return true;
}

static void leave(pl_context *c, const visit *v) {
  while (c->recording) { /* left open by an error */
    pl_region *r = c->recording->open;
    while (r && r->outer) r = r->outer;
    if (c->recording->traced) pl_trace_abandon(c, c->recording);
    else if (r && r->outermost) pl_region_close(r);
    else c->recording = NULL;
  }
  c->recording = v->recording;
  c->scope = v->scope;
  c->line = v->line;
  c->paused = v->paused;
  c->n_saved = v->n_saved;
  c->host.serial = v->serial;
  c->host.paused = v->host_paused;
  c->host.depth--;
  c->located = v->located;
  c->running--;
  pl_doomed_free(c);
}

/* The host failed: with its message, or an interrupt that stopped it. */
static void failed(pl_context *c, const char *what) {
  if (atomic_load(&c->interrupted) > 0) {
    c->status = PL_OK;
    pl_interrupted(c);
  }
  pl_error(c, PL_ERROR_ARGUMENT, "%s failed", what);
}

/* What each result must look like. */
static bool expect(pl_context *c, const pl_op *op, int n, const pl_spec *in, pl_spec *out) {
  const hosted *h = hosted_of(op);
  int which = which_of(op);
  if (which == VJP) memcpy(out, in + 2 * h->d.outputs, (size_t)h->d.inputs * sizeof *out);
  else if (which == JVP) memcpy(out, in + h->d.inputs, (size_t)h->d.outputs * sizeof *out);
  if (which != FORWARD) return true;
  for (int k = 0; k < h->d.outputs; k++) out[k] = in[0];
  if (!h->d.shape) return true;
  pl_info from[PL_USER_INPUTS], to[PL_USER_OUTPUTS];
  for (int i = 0; i < n; i++) info_of(&in[i], &from[i]);
  for (int k = 0; k < h->d.outputs; k++) to[k] = from[0];
  pl_rule rule = {.c = c, .op = op, .data = h->d.data, .n_in = n, .n_out = h->d.outputs};
  visit v;
  if (!enter(c, &v)) return false;
  bool ok = h->d.shape(&rule, from, to) && c->status == PL_OK;
  char text[PL_TEXT];
  snprintf(text, sizeof text, "the shape rule of op %s", op->name);
  if (!ok) failed(c, text);
  leave(c, &v);
  for (int k = 0; k < h->d.outputs && ok; k++) {
    ok = (unsigned)to[k].dtype < PL_DTYPES && to[k].rank >= 0 && to[k].rank <= PL_MAX_RANK;
    out[k] = (pl_spec){.dtype = to[k].dtype, .rank = to[k].rank};
    for (int a = 0; a < to[k].rank && ok; a++) {
      ok = to[k].shape[a] >= 0 && to[k].shape[a] <= INT32_MAX;
      out[k].shape[a] = (int32_t)to[k].shape[a];
    }
    if (!ok || pl_spec_count(&out[k]) < 0) {
      pl_error(c, PL_ERROR_SHAPE, "%s gives a shape that no tensor has", text);
      return false;
    }
  }
  return ok;
}

static bool row_shape(const pl_call *call, pl_spec *out) {
  pl_spec in[MOST];
  for (int i = 0; i < call->n; i++) {
    if (call->in[i]->flags & PL_FLAG_RESOURCE) {
      pl_error(call->c, PL_ERROR_TYPE, "%s: argument %d is not a tensor", call->op->name, i + 1);
      return false;
    }
    pl_spec_of(call->in[i], &in[i]);
  }
  return expect(call->c, call->op, call->n, in, out);
}

/* ---- calling the host ---- */

/* Applies a rule; results are of the expected shapes or, of derivatives, PL_ZERO. The caller holds a reference of each.
 */
static bool apply_rule(pl_context *c, const pl_op *op, const pl_value *in, const pl_spec *want, pl_value *out) {
  const hosted *h = hosted_of(op);
  int which = which_of(op), n_out = op->outputs;
  bool (*f)(const pl_rule *, const pl_value *, pl_value *) = which == FORWARD ? h->d.forward
                                                             : which == VJP   ? h->d.vjp
                                                                              : h->d.jvp;
  pl_info expected[PL_USER_INPUTS + PL_USER_OUTPUTS];
  for (int k = 0; k < n_out; k++) {
    info_of(&want[k], &expected[k]);
    out[k] = PL_NONE;
  }
  pl_rule rule = {c, op, h->d.data, op->inputs, n_out, expected};
  char what[PL_TEXT], a[PL_TEXT], b[PL_TEXT];
  rule_text(op, what);
  if (!f(&rule, in, out)) {
    failed(c, what);
    for (int k = 0; k < n_out; k++) out[k] = PL_NONE; /* it gave nothing */
    return false;
  }
  for (int k = 0; k < n_out && c->status == PL_OK; k++) {
    if (which != FORWARD && (out[k] == PL_ZERO || !is_float(&want[k]))) {
      pl_release(c, out[k]);
      out[k] = PL_ZERO;
      continue;
    }
    pl_slot *s = pl_slot_find(c, out[k]);
    describe(b, want[k].dtype, want[k].rank, want[k].shape);
    if (!s || (s->flags & PL_FLAG_RESOURCE)) {
      pl_error(c, PL_ERROR_TYPE, "%s: result %d is %s; a tensor %s was expected", what, k + 1,
               out[k] <= PL_ZERO ? "missing"
               : s               ? "not a tensor"
                                 : "a tensor that is gone",
               b);
    } else if (s->dtype != (uint8_t)want[k].dtype || s->rank != want[k].rank ||
               memcmp(s->shape, want[k].shape, (size_t)s->rank * sizeof *s->shape)) {
      pl_error(c, PL_ERROR_SHAPE, "%s: result %d is %s; %s was expected%s", what, k + 1,
               describe(a, (pl_dtype)s->dtype, s->rank, s->shape), b,
               which == VJP   ? ", as the argument is"
               : which == JVP ? ", as the result of the op is"
               : h->d.shape   ? ", as the shape rule says"
                              : ", as the first argument is: give a shape rule if that is not meant");
    } else if ((s->flags & PL_FLAG_BORROWED) && !pl_slot_check(c, s)) {
      /* written after it was made */
    } else if (!(c->recording && c->recording->traced)) {
      pl_slot_unknown(c, s);
    }
  }
  return c->status == PL_OK;
}

static void release_all(pl_context *c, int n, const pl_value *v) {
  for (int i = 0; i < n; i++)
    if (v[i] > PL_ZERO) pl_release(c, v[i]);
}

static void row_run(const pl_call *call, pl_slot **out) {
  pl_context *c = call->c;
  pl_value in[MOST], results[PL_USER_INPUTS + PL_USER_OUTPUTS] = {PL_NONE};
  pl_spec want[PL_USER_INPUTS + PL_USER_OUTPUTS];
  visit v;
  if (!enter(c, &v)) return;
  int n_out = call->op->outputs;
  for (int i = 0; i < call->n; i++) in[i] = pl_value_over(c, call->in[i]);
  for (int k = 0; k < n_out; k++) pl_spec_of(out[k], &want[k]);
  bool ok = c->status == PL_OK && apply_rule(c, call->op, in, want, results);
  for (int k = 0; k < n_out && ok; k++) {
    size_t bytes = (size_t)out[k]->count * pl_dtype_size((pl_dtype)out[k]->dtype);
    if (!bytes) continue;
    if (results[k] == PL_ZERO) memset(out[k]->data, 0, bytes);
    else memcpy(out[k]->data, pl_slot_find(c, results[k])->data, bytes);
  }
  release_all(c, n_out, results);
  leave(c, &v);
  for (int i = 0; i < call->n; i++) pl_value_over_end(c, in[i]);
}

/* ---- rules as programs ---- */

static pl_value or_zeros(pl_context *c, pl_value v, pl_value model) {
  return v == PL_ZERO ? pl_zeros_like(c, model) : v;
}

/* In a trace: the wanted rule, which is linear in its first inputs, as the transpose of the given one. Results to be
 * released when the trace has been closed are written behind `out`. */
static bool transpose(pl_context *c, const hosted *h, int which, const pl_value *in, pl_value *out, int *n_held) {
  const pl_op *other = &h->row[which == VJP ? JVP : VJP];
  int m = h->d.outputs, n = h->d.inputs, n_seeds = which == VJP ? m : n, n_free = which == VJP ? n : m, n_x = 0,
      n_y = 0;
  const pl_value *models = in + n_seeds + (which == VJP ? m : 0); /* of what is free: x for a vjp, y for a jvp */
  pl_value args[MOST], zeros[MOST], aliases[MOST], seeds[MOST], ys[MOST], g[MOST];
  pl_spec want[PL_USER_INPUTS + PL_USER_OUTPUTS], spec;
  for (int i = 0; i < n_free; i++) {
    args[i] = pl_zeros_like(c, models[i]);
    pl_slot *s = pl_slot_get(c, models[i]);
    if (!s) return false;
    if (s->dtype <= PL_F32) zeros[n_x++] = args[i];
  }
  pl_region *r = pl_region_open(c, n_x, zeros, NULL, aliases);
  if (!r) return false;
  for (int i = 0, k = 0; i < n_free; i++)
    if (pl_slot_find(c, args[i])->dtype <= PL_F32) args[i] = aliases[k++];
  memcpy(args + n_free, in + n_seeds, (size_t)(m + n) * sizeof *args);
  for (int k = 0; k < n_seeds; k++) pl_spec_of(pl_slot_find(c, in[k]), &want[k]);
  pl_value *results = out + n_free;
  bool ok = apply_rule(c, other, args, want, results);
  *n_held = n_seeds;
  for (int k = 0; k < n_seeds && ok; k++)
    if (results[k] != PL_ZERO) {
      ys[n_y] = results[k];
      seeds[n_y++] = in[k];
    }
  pl_region_close(r);
  ok = ok && pl_region_vjp(r, n_y, ys, seeds, g, NULL, false);
  for (int i = 0, k = 0; i < n_free && ok; i++) {
    pl_spec_of(pl_slot_find(c, models[i]), &spec);
    out[i] = is_float(&spec) ? g[k++] : pl_zeros_like(c, models[i]);
  }
  pl_region_free(r);
  return ok && c->status == PL_OK;
}

/* The rule traced for values like these: a body of them and of what it captured, whose trace must be freed behind it.
 */
static pl_body *trace_rule(pl_context *c, const hosted *h, int which, const pl_value *in, pl_tape **trace) {
  const pl_op *op = &h->row[which];
  bool given = which == VJP ? h->d.vjp != NULL : h->d.jvp != NULL;
  int n = op->inputs, n_held = 0;
  pl_spec specs[MOST], want[PL_USER_INPUTS + PL_USER_OUTPUTS];
  pl_value x[MOST], out[2 * (PL_USER_INPUTS + PL_USER_OUTPUTS)];
  for (int i = 0; i < n; i++) {
    pl_slot *s = pl_slot_get(c, in[i]);
    if (!s) return NULL;
    pl_spec_of(s, &specs[i]);
  }
  if (!expect(c, op, n, specs, want)) return NULL;
  if (c->host.depth >= NESTED) {
    pl_error(c, PL_ERROR_STATE, "user-defined ops call each other more than %d deep", NESTED);
    return NULL;
  }
  pl_tape *t = pl_trace_open(c, n, specs, x);
  if (!t) return NULL;
  uint32_t serial = c->host.serial;
  c->host.serial = 0;
  c->host.depth++;
  c->running++;
  c->read_unknown = false;
  pl_body *b = NULL;
  if (given) {
    bool ok = apply_rule(c, op, x, want, out);
    pl_value results[PL_USER_INPUTS + PL_USER_OUTPUTS];
    for (int k = 0; k < op->outputs && ok; k++) {
      pl_value model = x[(which == VJP ? 2 * h->d.outputs : h->d.inputs) + k];
      results[k] = or_zeros(c, out[k], model);
    }
    if (ok && c->status == PL_OK) b = pl_trace_close(c, t, op->outputs, results, false, 0, NULL, NULL);
    pl_trace_abandon(c, t);
    release_all(c, op->outputs, out);
  } else {
    if (transpose(c, h, which, x, out, &n_held)) b = pl_trace_close(c, t, op->outputs, out, false, 0, NULL, NULL);
    pl_trace_abandon(c, t);
    release_all(c, n_held, out + op->outputs);
  }
  c->host.serial = serial;
  c->host.depth--;
  c->running--;
  if (!b && c->status && c->read_unknown) {
    char why[512];
    snprintf(why, sizeof why, "%.511s", c->message);
    pl_status status = c->status;
    c->status = PL_OK;
    const char *name = h->row[FORWARD].name, *rule = which == VJP ? "vjp" : "jvp",
               *other = which == VJP ? "jvp" : "vjp";
    if (given)
      pl_error(c, status, "the second derivative of op %s needs its %s written in operations, but it reads values: %s",
               name, rule, why);
    else
      pl_error(
          c, status,
          "op %s gives no %s: %s mode or the second derivative of op %s needs its %s written in operations, but it "
          "reads values: %s",
          name, rule, which == VJP ? "reverse" : "forward", name, other, why);
  }
  if (!b) {
    pl_tape_free(c, t);
    return NULL;
  }
  *trace = t;
  return b;
}

/* A body's inputs: those of the rule, then what it captured. */
static int gather(pl_context *c, const pl_op *op, const pl_value *in, pl_tape *t, pl_value *list) {
  int m = pl_trace_captures(c, t, NULL);
  if (op->inputs + m > PL_MAX_INPUTS) {
    pl_error(c, PL_ERROR_ARGUMENT,
             "op %s: its derivative reads %d tensors beside its arguments; at most %d are possible", op->name, m,
             PL_MAX_INPUTS - op->inputs);
    return -1;
  }
  memcpy(list, in, (size_t)op->inputs * sizeof *list);
  pl_trace_captures(c, t, list + op->inputs);
  return c->status == PL_OK ? op->inputs + m : -1;
}

/* The derived rule's results for these inputs. */
static bool call_rule(pl_context *c, const hosted *h, int which, const pl_value *in, pl_value *out) {
  pl_tape *t;
  pl_body *b = trace_rule(c, h, which, in, &t);
  if (!b) return false;
  pl_value list[PL_MAX_INPUTS];
  int n = gather(c, &h->row[which], in, t, list);
  bool ok = n >= 0 && pl_apply(c, PL_OP(call), n, list, (pl_attr[]){PL_OBJECT(&b->base), PL_INT(0)}, out);
  pl_tape_free(c, t);
  pl_object_release(&b->base);
  return ok;
}

/* ---- derivatives ---- */

static bool has_derivative(pl_context *c, const hosted *h) {
  if (h->d.vjp || h->d.jvp) return true;
  pl_error(c, PL_ERROR_TYPE, "op %s has no derivative; give vjp or jvp", h->row[FORWARD].name);
  return false;
}

static void forward_vjp(pl_vjp *v) {
  pl_context *c = v->c;
  const hosted *h = hosted_of(v->op);
  int m = h->d.outputs, n = h->d.inputs;
  pl_value in[MOST], out[PL_USER_INPUTS];
  if (!has_derivative(c, h)) return;
  for (int k = 0; k < m; k++) in[k] = or_zeros(c, v->g[k], v->out[k]);
  memcpy(in + m, v->out, (size_t)m * sizeof *in);
  memcpy(in + 2 * m, v->in, (size_t)n * sizeof *in);
  if (!(h->d.vjp ? pl_apply(c, &h->row[VJP], 2 * m + n, in, NULL, out) : call_rule(c, h, VJP, in, out))) return;
  for (int i = 0; i < n; i++) pl_vjp_give(v, i, out[i]);
}

static void forward_jvp(pl_jvp *j) {
  pl_context *c = j->c;
  const hosted *h = hosted_of(j->op);
  int m = h->d.outputs, n = h->d.inputs;
  pl_value in[MOST], out[PL_USER_OUTPUTS];
  if (!has_derivative(c, h)) return;
  for (int i = 0; i < n; i++) in[i] = or_zeros(c, j->t[i], j->in[i]);
  memcpy(in + n, j->out, (size_t)m * sizeof *in);
  memcpy(in + n + m, j->in, (size_t)n * sizeof *in);
  if (!(h->d.jvp ? pl_apply(c, &h->row[JVP], 2 * n + m, in, NULL, out) : call_rule(c, h, JVP, in, out))) return;
  for (int k = 0; k < m; k++) {
    pl_slot *s = pl_slot_find(c, j->out[k]);
    if (s && s->dtype <= PL_F32) j->dt[k] = out[k];
  }
}

/* A rule's own derivatives: those of `call` on the traced rule. Its results are the host's and stand for the body's. */
static void rule_vjp(pl_vjp *v) {
  pl_context *c = v->c;
  pl_tape *t;
  pl_body *b = trace_rule(c, hosted_of(v->op), which_of(v->op), v->in, &t);
  if (!b) return;
  pl_value list[PL_MAX_INPUTS];
  bool need[PL_MAX_INPUTS] = {false};
  int n = gather(c, v->op, v->in, t, list);
  memcpy(need, v->need, (size_t)v->n * sizeof *need);
  pl_attr attrs[] = {PL_OBJECT(&b->base), PL_INT(0)};
  pl_vjp inner = {c, PL_OP(call), n, list, v->out, v->g, need, attrs};
  if (n >= 0) PL_OP(call)->vjp(&inner);
  pl_tape_free(c, t);
  pl_object_release(&b->base);
}

static void rule_jvp(pl_jvp *j) {
  pl_context *c = j->c;
  pl_tape *t;
  pl_body *b = trace_rule(c, hosted_of(j->op), which_of(j->op), j->in, &t);
  if (!b) return;
  pl_value list[PL_MAX_INPUTS], tangents[PL_MAX_INPUTS];
  int n = gather(c, j->op, j->in, t, list);
  for (int i = 0; i < n; i++) tangents[i] = i < j->n ? j->t[i] : PL_ZERO;
  pl_attr attrs[] = {PL_OBJECT(&b->base), PL_INT(0)};
  pl_jvp inner = {c, PL_OP(call), n, list, j->out, tangents, j->dt, attrs};
  if (n >= 0) PL_OP(call)->jvp(&inner);
  pl_tape_free(c, t);
  pl_object_release(&b->base);
}

/* ---- definition ---- */

static void free_hosted(pl_context *c, pl_user_op *u) {
  hosted *h = (hosted *)u;
  if (h->d.release) h->d.release(h->d.data);
  pl_memory_free(c, h);
}

const pl_op *pl_op_define(pl_context *c, const pl_op_definition *d) {
  bool ok = c->status == PL_OK && pl_user_op_name(c, d->name);
  if (ok &&
      (d->inputs < 1 || d->inputs > PL_USER_INPUTS || d->outputs < 1 || d->outputs > PL_USER_OUTPUTS || !d->forward)) {
    pl_error(c, PL_ERROR_ARGUMENT,
             "op %s: it needs a forward rule, 1 to %d inputs (not %d) and 1 to %d outputs (not %d)", d->name,
             PL_USER_INPUTS, d->inputs, PL_USER_OUTPUTS, d->outputs);
    ok = false;
  }
  const char *formula = d->formula ? d->formula : "";
  size_t name_size = ok ? strlen(d->name) + 1 : 0, formula_size = strlen(formula) + 1;
  hosted *h = ok ? pl_memory_new(c, sizeof *h + 3 * (name_size + 4) + formula_size) : NULL;
  if (!h) {
    if (d->release) d->release(d->data);
    return NULL;
  }
  *h = (hosted){.d = *d};
  char *text = (char *)(h + 1);
  static const char *const suffix[] = {"", ".vjp", ".jvp"};
  int n = d->inputs, m = d->outputs;
  for (int k = 0; k < RULES; k++) {
    h->row[k] = (pl_op){.name = text,
                        .kind = PL_OPAQUE,
                        .inputs = (int8_t)(k == FORWARD ? n
                                           : k == VJP   ? 2 * m + n
                                                        : 2 * n + m),
                        .outputs = (int8_t)(k == VJP ? n : m),
                        .dtypes = d->floats ? PL_FLOATS : PL_ANY,
                        .keeps = d->floats ? 0 : PL_KEEPS_ALL,
                        .shape = row_shape,
                        .run = row_run,
                        .vjp = k == FORWARD ? forward_vjp : rule_vjp,
                        .jvp = k == FORWARD ? forward_jvp : rule_jvp,
                        .internal = k != FORWARD,
                        .user = &h->base};
    text += snprintf(text, name_size + 4, "%s%s", d->name, suffix[k]) + 1;
  }
  memcpy(text, formula, formula_size);
  for (int k = 0; k < RULES; k++) h->row[k].formula = text;
  h->d.name = h->row[FORWARD].name;
  h->d.formula = text;
  h->base = (pl_user_op){.op = h->row, .n_rows = RULES, .identity = h->d.name, .free = free_hosted};
  pl_user_op_add(c, &h->base);
  return &h->row[FORWARD];
}
