/* loops.c: scan, its reverse sweep from checkpoints, while. What is said of ops with sub-programs in control.c holds.
 */
#include <string.h>

#include "../body.h"
#include "../disk.h"
#include "../execute.h"
#include "control.h"

/* Is it a stack of n of those? */
static bool is_stack(const pl_spec *s, const pl_spec *of, int64_t n) {
  return s->dtype == of->dtype && s->rank == of->rank + 1 && s->shape[0] == n &&
         !memcmp(s->shape + 1, of->shape, (size_t)of->rank * sizeof *of->shape);
}

static bool is_layout(const pl_attr *attr, int n) {
  if (attr->type != PL_ATTR_INTS || attr->n != n) return false;
  for (int i = 0; i < n; i++) /* counts and flags, but for a loop's length or limit and its memory */
    if (attr->list[i] < -1 || (attr->list[i] > INT32_MAX && i != n - 1 && !(n == 4 && i == 2))) return false;
  return true;
}
/* {} or {checkpoints}, of which there are not so many that counting them takes long; or those and a path. */
static bool is_schedule(const pl_attr *attr) {
  for (int i = 1; i < attr->n; i++)
    if (attr->list[i] < 1 || attr->list[i] > 255) return false;
  return attr->n < 1 || (attr->n <= 4097 && attr->list[0] >= 1 && attr->list[0] <= 1 << 26);
}
/* States that a step takes are those that it returns. */
static bool check_states(const pl_call *call, const char *name, const pl_body *b, int n) {
  for (int k = 0; k < n; k++) {
    const pl_spec *from = &b->specs[k], *to = &b->specs[b->outputs[k]];
    if (pl_spec_equal(from, to)) continue;
    char x[PL_TEXT], y[PL_TEXT];
    pl_error(call->c, PL_ERROR_SHAPE,
             "%s: the step takes a state of %s %s and returns one of %s %s (part %d): they must agree", name,
             spec_name(from), pl_shape_text(x, from->rank, from->shape), spec_name(to),
             pl_shape_text(y, to->rank, to->shape), k + 1);
    return false;
  }
  return true;
}

/* ---- scan: state, xs -> state, ys over the first axis of the xs ----
 * Attributes: body (state, x, captured -> state, y), layout, schedule. Inputs: states, xs, captured. Outputs: final
 * states, ys stacked along a new first axis; behind them, when checkpoints are asked for, a stack of each state at the
 * steps of the first sweep, or a file of all states at every so many steps. */

typedef struct {
  int states, xs, ys, captured;
  int64_t length;
  bool reverse;
  int save;
} layout_;
enum { LAYOUT = 6 };

static layout_ layout_of(const pl_attr *attrs) {
  const int64_t *l = attrs[1].list;
  layout_ y = {
      .states = (int)l[0], .xs = (int)l[1], .ys = (int)l[2], .length = l[3], .reverse = l[4], .save = (int)l[5]};
  y.captured = BODY(attrs)->n_in - y.states - y.xs;
  return y;
}
#define LAYOUT_OF(states, xs, ys, length, reverse, save) \
  PL_INTS(LAYOUT, ((int64_t[]){states, xs, ys, length, reverse, save}))

/* schedule: {} store all, or {checkpoints}, or {steps of a segment, bytes of a path ...}: the states that segments
 * start with are written to a file there, those inside are computed again, once, and stored in memory meanwhile */
static int64_t checkpoints_of(const pl_attr *attrs) { return attrs[2].n > 0 ? attrs[2].list[0] : 0; }
static bool on_disk(const pl_attr *schedule) { return schedule->n > 1; }

/* How far the first checkpoint of `steps` steps with `free` checkpoints lies: A. Griewank, A. Walther, Algorithm 799:
 * revolve, ACM TOMS 26(1), 2000: with them the least number of forward steps. */
int64_t pl_checkpoint_split(int64_t steps, int64_t free_) {
  if (free_ < 1 || steps < 1) return 1;
  if (steps > INT32_MAX) steps = INT32_MAX; /* no loop is longer */
  if (free_ >= steps - 1) return 1;
  int64_t reps = 0, range = 1, s = free_ + 1; /* with the one at the start */
  while (range < steps) {
    reps++;
    range = range * (reps + s) / reps;
  }
  int64_t bino1 = range * reps / (s + reps);
  int64_t bino2 = s > 1 ? bino1 * s / (s + reps - 1) : 1;
  int64_t bino3 = s == 1 ? 0 : s > 2 ? bino2 * (s - 1) / (s + reps - 2) : 1;
  int64_t bino4 = bino2 * (reps - 1) / s;
  int64_t bino5 = s < 3 ? 0 : s > 3 ? bino3 * (s - 2) / reps : 1;
  int64_t m = steps <= bino1 + bino3 ? bino4 : steps >= range - bino5 ? bino1 : steps - bino2 - bino3;
  return m < 1 ? 1 : m;
}

/* Steps before which the first sweep stores a state, the first of them 0; how many. at may be NULL. */
static int first_sweep(int64_t length, int64_t checkpoints, int64_t *at) {
  int n = 0;
  int64_t lo = 0;
  if (checkpoints < 1 || length < 1) return 0;
  if (at) at[n] = 0;
  n++;
  while (n < checkpoints && lo + 1 < length) {
    lo += pl_checkpoint_split(length - lo, checkpoints - n);
    if (at) at[n] = lo;
    n++;
  }
  return n;
}

static int stacks(const pl_attr *attrs, const layout_ *l) {
  return l->save != SAVE_DONE || checkpoints_of(attrs) < 1 ? 0 : on_disk(&attrs[2]) ? 1 : l->states;
}
static int scan_results(const pl_attr *attrs) {
  if (!are_programs(attrs, 1) || !is_layout(&attrs[1], LAYOUT) || !is_schedule(&attrs[2])) return 0;
  layout_ l = layout_of(attrs);
  return l.states + l.ys + stacks(attrs, &l);
}
static bool stacked(const pl_call *call, const pl_spec *s, int64_t n, pl_spec *out) {
  if (s->rank == PL_MAX_RANK) {
    pl_error(call->c, PL_ERROR_SHAPE, "%s: what a step puts out has too many axes to be stacked", call->op->name);
    return false;
  }
  *out = (pl_spec){s->dtype, s->rank + 1, {(int32_t)n}};
  memcpy(out->shape + 1, s->shape, (size_t)s->rank * sizeof *s->shape);
  return true;
}
static bool scan_fits(const pl_attr *attrs, int n) {
  if (!are_programs(attrs, 1) || !is_layout(&attrs[1], LAYOUT) || !is_schedule(&attrs[2])) return false;
  const pl_body *b = BODY(attrs);
  const int64_t *l = attrs[1].list;
  return l[0] >= 0 && l[1] >= 0 && l[2] >= 0 && l[3] >= 0 && l[3] <= INT32_MAX && l[0] + l[1] <= b->n_in &&
         l[0] + l[2] == b->n_out && n == b->n_in && l[4] >= 0 && l[4] <= 1 && l[5] >= 0 && l[5] <= SAVE_DONE;
}
static bool scan_shape(const pl_call *call, pl_spec *out) {
  if (!are_programs(call->attrs, 1)) return pl_misfit(call->c, call->op);
  const pl_body *b = BODY(call->attrs);
  if (pl_count_error(call, b->n_in)) return false;
  if (!scan_fits(call->attrs, call->n)) return pl_misfit(call->c, call->op);
  layout_ l = layout_of(call->attrs);
  if (!pl_check_inputs(call, b, 0, 0, l.states) ||
      !pl_check_inputs(call, b, l.states + l.xs, l.states + l.xs, l.captured))
    return false;
  for (int k = 0; k < l.xs; k++) {
    const pl_spec *entry = &b->specs[l.states + k];
    pl_spec x;
    pl_spec_of(call->in[l.states + k], &x);
    if (is_stack(&x, entry, l.length)) continue;
    char t[PL_TEXT], u[PL_TEXT];
    if (x.rank < 1 || x.shape[0] != l.length)
      pl_error(call->c, PL_ERROR_SHAPE, "scan: an input has shape %s; its first axis must have the %lld steps",
               pl_shape_text(t, x.rank, x.shape), (long long)l.length);
    else
      pl_error(call->c, PL_ERROR_SHAPE, "scan: an input is %s %s; the program was made for steps of %s %s",
               spec_name(&x), pl_shape_text(t, x.rank, x.shape), spec_name(entry),
               pl_shape_text(u, entry->rank, entry->shape));
    return false;
  }
  if (!check_states(call, call->op->name, b, l.states)) return false;
  memcpy(out, b->specs, (size_t)l.states * sizeof *out);
  for (int k = 0; k < l.ys; k++)
    if (!stacked(call, &b->specs[b->outputs[l.states + k]], l.length, &out[l.states + k])) return false;
  if (stacks(call->attrs, &l) && on_disk(&call->attrs[2])) {
    out[l.states + l.ys] = (pl_spec){.dtype = PL_DTYPES};
  } else if (stacks(call->attrs, &l)) {
    int n = first_sweep(l.length, checkpoints_of(call->attrs), NULL);
    for (int k = 0; k < l.states; k++)
      if (!stacked(call, &b->specs[k], n, &out[l.states + l.ys + k])) return false;
  }
  return true;
}

static size_t bytes_of(const pl_spec *s) { return (size_t)pl_spec_count(s) * pl_dtype_size(s->dtype); }
static size_t padded(size_t bytes) { return (bytes + 127) & ~(size_t)63; }

/* A loop's state in the runner. */
typedef struct {
  int64_t i;
  bool entered;
  char *memory;        /* ping-pong states, then rows that cannot be written in place */
  char **now, **spare; /* where each state is; where its next one may go, alternating */
  char **row;          /* for each y: its row, or NULL where it is written in place */
  int32_t *row_state;  /* for each y: the state whose value at the step's start it is, or -1 */
  int64_t *at;         /* steps of checkpoints */
  int n_at, next_at;
} loop;

static void *loop_memory(pl_context *c, const pl_body *b, const layout_ *l, loop *s) {
  size_t bytes = 0, lists = (size_t)(3 * l->states + l->ys) * sizeof(char *) + (size_t)l->ys * sizeof(int32_t) + 64;
  for (int k = 0; k < l->states; k++) bytes += 2 * padded(bytes_of(&b->specs[k]));
  for (int k = 0; k < l->ys; k++) bytes += padded(bytes_of(&b->specs[b->outputs[l->states + k]]));
  char *p = s->memory = pl_memory_new(c, bytes + lists + 64);
  if (!p) return NULL;
  char *list = p + bytes;
  s->now = (char **)list;
  s->spare = s->now + l->states;
  s->row = s->spare + 2 * l->states;
  s->row_state = (int32_t *)(s->row + l->ys);
  for (int k = 0; k < l->states; k++)
    for (int side = 0; side < 2; side++) {
      s->spare[2 * k + side] = p;
      p += padded(bytes_of(&b->specs[k]));
    }
  for (int k = 0; k < l->ys; k++) {
    size_t size = bytes_of(&b->specs[b->outputs[l->states + k]]);
    s->row[k] =
        size % 64 ? p : NULL; /* kernels write whole vectors: a row may be written in place only if it is some */
    p += padded(size);
    uint32_t v = b->outputs[l->states + k];
    s->row_state[k] = v < (uint32_t)l->states ? (int32_t)v : -1;
  }
  return s->memory;
}

/* States to place k of a file, or back. */
static bool to_disk(pl_context *c, const pl_body *b, int states, pl_resource *file, int64_t k, char *const *state,
                    bool back) {
  int64_t at = 0;
  for (int i = 0; i < states; i++) at += k * (int64_t)bytes_of(&b->specs[i]);
  for (int i = 0; file && i < states && !c->status; at += (int64_t)bytes_of(&b->specs[i++]))
    if (back) pl_disk_read(c, file, at, state[i], bytes_of(&b->specs[i]));
    else pl_disk_write(c, file, at, state[i], bytes_of(&b->specs[i]));
  return c->status == PL_OK;
}

static char *row_of(const pl_slot *stack, int64_t t, size_t bytes) { return (char *)stack->data + (size_t)t * bytes; }

/* Where the state that starts step t is kept, if ys keep it in place; else NULL. */
static char *kept_at(const pl_activation *a, const pl_body *b, const layout_ *l, const loop *s, int state, int64_t t) {
  for (int k = 0; k < l->ys; k++)
    if (s->row_state[k] == state && !s->row[k]) return row_of(a->out[l->states + k], t, bytes_of(&b->specs[state]));
  return NULL;
}

static pl_next scan_step(pl_context *c, pl_activation *a) {
  pl_body *b = BODY(a->attrs);
  layout_ l = layout_of(a->attrs);
  loop *s = a->state;
  if (!s->entered) {
    s->entered = true;
    if (!loop_memory(c, b, &l, s)) return PL_NEXT_FAIL;
    for (int k = 0; k < l.states; k++) s->now[k] = a->in[k]->data;
    if (stacks(a->attrs, &l) && on_disk(&a->attrs[2])) {
      pl_slot *file = a->out[l.states + l.ys];
      if (!(file->data = pl_disk_new(c, a->attrs[2].n - 1, a->attrs[2].list + 1))) return PL_NEXT_FAIL;
    } else if (stacks(a->attrs, &l)) {
      s->at = pl_memory_new(c, ((size_t)checkpoints_of(a->attrs) + 1) * sizeof *s->at);
      if (!s->at) return PL_NEXT_FAIL;
      s->n_at = first_sweep(l.length, checkpoints_of(a->attrs), s->at);
    }
    if (l.length > 0) {
      if (!(a->child = pl_frame_new(c, b))) return PL_NEXT_FAIL;
      for (int k = 0; k < l.captured; k++) pl_frame_input(a->child, l.states + l.xs + k, a->in[l.states + l.xs + k]);
    }
  } else { /* a step ran */
    int64_t t = l.reverse ? l.length - 1 - s->i : s->i;
    for (int k = 0; k < l.ys; k++)
      if (s->row[k]) {
        size_t size = bytes_of(&b->specs[b->outputs[l.states + k]]);
        memcpy(row_of(a->out[l.states + k], t, size), s->row[k], size);
      }
    for (int k = 0; k < l.states; k++) s->now[k] = a->child->outputs[k];
    s->i++;
  }
  if (s->i == l.length) {
    for (int k = 0; k < l.states; k++)
      if (s->now[k] != a->out[k]->data) memcpy(a->out[k]->data, s->now[k], bytes_of(&b->specs[k]));
    return PL_NEXT_DONE;
  }
  int64_t t = l.reverse ? l.length - 1 - s->i : s->i, after = l.reverse ? t - 1 : t + 1;
  if (s->next_at < s->n_at && s->at[s->next_at] == s->i) {
    for (int k = 0; k < l.states; k++)
      memcpy(row_of(a->out[l.states + l.ys + k], s->next_at, bytes_of(&b->specs[k])), s->now[k],
             bytes_of(&b->specs[k]));
    s->next_at++;
  }
  if (stacks(a->attrs, &l) && on_disk(&a->attrs[2]) && s->i % checkpoints_of(a->attrs) == 0 &&
      !to_disk(c, b, l.states, a->out[l.states + l.ys]->data, s->i / checkpoints_of(a->attrs), s->now, false))
    return PL_NEXT_FAIL;
  for (int k = 0; k < l.states; k++) {
    char *kept = kept_at(a, b, &l, s, k, t);
    if (kept && kept != s->now[k]) memcpy(kept, s->now[k], bytes_of(&b->specs[k]));
    pl_frame_input_at(a->child, k, s->now[k]);
    char *to = s->i + 1 == l.length ? a->out[k]->data : kept_at(a, b, &l, s, k, after);
    pl_frame_output(a->child, k, to ? to : s->spare[2 * k + (s->i & 1)]);
  }
  for (int k = 0; k < l.xs; k++) {
    const pl_slot *x = a->in[l.states + k];
    pl_frame_input_at(a->child, l.states + k, row_of(x, t, bytes_of(&b->specs[l.states + k])));
  }
  for (int k = 0; k < l.ys; k++) {
    size_t size = bytes_of(&b->specs[b->outputs[l.states + k]]);
    pl_frame_output(a->child, l.states + k, s->row[k] ? s->row[k] : row_of(a->out[l.states + k], t, size));
  }
  pl_frame_start(a->child);
  return PL_NEXT_CALL;
}
static void scan_stop(pl_context *c, pl_activation *a) {
  loop *s = a->state;
  pl_memory_free(c, s->memory);
  pl_memory_free(c, s->at);
}

/* Which states move, given which inputs do: what the step makes of one may move another. */
static void close_activity(const pl_body *b, const layout_ *l, uint8_t *in, uint8_t *out) {
  bool grew = true;
  while (grew) {
    grew = false;
    pl_body_activity(b, in, out);
    for (int k = 0; k < l->states; k++)
      if (out[k] && !in[k]) in[k] = grew = true;
  }
}

static bool scan_augment(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs, pl_value *out,
                         bool *done) {
  pl_body *b = BODY(attrs);
  layout_ l = layout_of(attrs);
  uint8_t need[PL_MAX_INPUTS], moves[PL_MAX_OUTPUTS];
  if (l.save != SAVE_ASK || !pl_active_flags(c, n, in, need)) return true;
  close_activity(b, &l, need, moves);
  pl_value all[PL_MAX_OUTPUTS];
  int n_out = l.states + l.ys;
  if (checkpoints_of(attrs) > 0 && checkpoints_of(attrs) < l.length) {
    pl_attr more[] = {attrs[0], LAYOUT_OF(l.states, l.xs, l.ys, l.length, l.reverse, SAVE_DONE), attrs[2]};
    *done = true;
    if (!pl_apply(c, op, n, in, more, all)) return false;
  } else {
    pl_derived *saving = pl_body_saving(c, b, need);
    if (!saving) return pl_not_saving(c);
    pl_body *plus = saving->body ? saving->body : b;
    uint32_t states[PL_MAX_OUTPUTS];
    int n_states = 0;
    for (int k = 0; k < l.states; k++) /* read at the step's start, or at its end, which is the next one's start */
      if (saving->list[k] || saving->list[b->n_in + k]) states[n_states++] = (uint32_t)k;
    if (plus->n_out + n_states > PL_MAX_OUTPUTS) return true; /* then all is computed again */
    *done = true;
    pl_body *full = pl_body_extend(c, plus, n_states, states);
    if (!full) return false;
    pl_attr more[] = {PL_OBJECT(&full->base),
                      LAYOUT_OF(l.states, l.xs, full->n_out - l.states, l.length, l.reverse, SAVE_DONE), attrs[2]};
    bool ok = pl_apply(c, op, n, in, more, all);
    pl_object_release(&full->base);
    if (!ok) return false;
  }
  memcpy(out, all, (size_t)n_out * sizeof *out);
  return true;
}

/* ---- the reverse of scan ---- */

/* The program of one reverse step, and how it is laid out. Its states: cotangents of the active states, then sums of
 * those of the needed captured values, then, where `next` says so, states as they were after the step. */
typedef struct {
  uint8_t need[PL_MAX_INPUTS], moves[PL_MAX_OUTPUTS], given[PL_MAX_OUTPUTS]; /* of the forward body */
  int n_active, n_sums;
  pl_derived *v;
} reversal;

static bool plan_reversal(pl_vjp *v, const pl_body *b, const layout_ *l, bool trust_outputs, reversal *r) {
  pl_context *c = v->c;
  uint8_t known[PL_MAX_OUTPUTS];
  for (int i = 0; i < b->n_in; i++) r->need[i] = v->need[i] && is_float(&b->specs[i]);
  close_activity(b, l, r->need, r->moves);
  r->n_active = r->n_sums = 0;
  for (int k = 0; k < b->n_out; k++) r->given[k] = k < l->states ? r->need[k] : v->g[k] != PL_ZERO;
  for (int k = 0; k < l->states; k++) r->n_active += r->need[k];
  for (int k = l->states + l->xs; k < b->n_in; k++) r->n_sums += r->need[k];
  all_flags(known, b->n_out, trust_outputs);
  if (!(r->v = pl_body_vjp(c, (pl_body *)b, r->need, r->given, known)) || !r->v->body) return false;
  int n = r->v->body->n_in;
  return n <= PL_MAX_INPUTS + PL_MAX_OUTPUTS ||
         pl_derivative_possible(c, "scan", n, 0); /* it is inlined from lists of so many */
}

/* Zeros for each active state whose final value has no cotangent, and for the sums. */
static int start_states(pl_vjp *v, const pl_body *b, const layout_ *l, const reversal *r, pl_value *in) {
  int n = 0;
  for (int k = 0; k < l->states; k++)
    if (r->need[k]) in[n++] = v->g[k] == PL_ZERO ? pl_zeros_of(v->c, &b->specs[k]) : v->g[k];
  for (int k = l->states + l->xs; k < b->n_in; k++)
    if (r->need[k]) in[n++] = pl_zeros_of(v->c, &b->specs[k]);
  return n;
}

/* What V made, in the order of the reverse step's outputs: cotangents of states, sums; then those of the xs. */
static int step_outputs(pl_context *c, const pl_body *b, const layout_ *l, const reversal *r, const pl_value *made,
                        const pl_value *sums, pl_value *out, bool xs) {
  int n = 0, s = 0;
  for (int k = 0; k < l->states && !xs; k++)
    if (r->need[k]) out[n++] = r->v->list[k] >= 0 ? made[r->v->list[k]] : pl_zeros_of(c, &b->specs[k]);
  for (int k = l->states + l->xs; k < b->n_in && !xs; k++)
    if (r->need[k]) {
      out[n++] = r->v->list[k] >= 0 ? PL_BINARY(add, c, sums[s], made[r->v->list[k]]) : sums[s];
      s++;
    }
  for (int k = l->states; k < l->states + l->xs && xs; k++)
    if (r->need[k]) out[n++] = r->v->list[k] >= 0 ? made[r->v->list[k]] : pl_zeros_of(c, &b->specs[k]);
  return n;
}

static void give_results(pl_vjp *v, const pl_body *b, const layout_ *l, const reversal *r, const pl_value *out,
                         const pl_value *xs) {
  int n = 0, m = 0;
  for (int k = 0; k < l->states; k++)
    if (r->need[k]) {
      if (v->need[k]) pl_vjp_give(v, k, out[n]);
      n++;
    }
  for (int k = l->states + l->xs; k < b->n_in; k++)
    if (r->need[k]) pl_vjp_give(v, k, out[n++]);
  for (int k = l->states; k < l->states + l->xs; k++)
    if (r->need[k]) pl_vjp_give(v, k, xs[m++]);
}

/* False: a state is read that was not kept. */
static bool scan_vjp_stored(pl_vjp *v, const layout_ *l) {
  pl_context *c = v->c;
  pl_body *b = BODY(v->attrs);
  reversal r;
  if (!plan_reversal(v, b, l, true, &r)) return true;
  const pl_body *V = r.v->body;
  /* which y is a state at the step's start; which states are read as they are after it */
  int32_t start_of[PL_MAX_INPUTS];
  uint8_t next[PL_MAX_INPUTS];
  for (int k = 0; k < l->states; k++) {
    start_of[k] = -1;
    for (int j = 0; j < l->ys; j++)
      if (b->outputs[l->states + j] == (uint32_t)k) start_of[k] = j;
    next[k] = V->used[b->n_in + k];
    if ((next[k] || V->used[k]) && start_of[k] < 0) return false;
  }
  bool read_y[PL_MAX_OUTPUTS];
  int n = r.n_active + r.n_sums + flagged(next, 0, l->states), n_states, n_xs;
  int n_wanted = flagged(r.need, l->states, l->states + l->xs), n_results = n + n_wanted;
  for (int j = 0; j < l->ys; j++) {
    read_y[j] = V->used[b->n_in + l->states + j];
    for (int k = 0; k < l->states; k++) read_y[j] = read_y[j] || (start_of[k] == j && (V->used[k] || next[k]));
    n += read_y[j];
  }
  n += flagged(r.given, l->states, b->n_out) + flagged(V->used, l->states, b->n_in);
  if (!pl_derivative_possible(c, "scan", n, n_results)) return true;
  /* the reverse step's inputs: states, xs, captured */
  pl_spec specs[PL_MAX_INPUTS];
  pl_value outer[PL_MAX_INPUTS], in[PL_MAX_INPUTS];
  n = start_states(v, b, l, &r, outer);
  if (c->status) return true;
  for (int k = 0; k < n; k++) pl_spec_of(pl_slot_find(c, outer[k]), &specs[k]);
  for (int k = 0; k < l->states; k++)
    if (next[k]) {
      specs[n] = b->specs[k];
      outer[n++] = v->out[k];
    }
  n_states = n;
  for (int j = 0; j < l->ys; j++) {
    if (!read_y[j]) continue;
    specs[n] = b->specs[b->outputs[l->states + j]];
    outer[n++] = v->out[l->states + j];
  }
  for (int k = 0; k < l->xs; k++)
    if (V->used[l->states + k]) {
      specs[n] = b->specs[l->states + k];
      outer[n++] = v->in[l->states + k];
    }
  for (int j = 0; j < l->ys; j++)
    if (r.given[l->states + j]) {
      specs[n] = b->specs[b->outputs[l->states + j]];
      outer[n++] = v->g[l->states + j];
    }
  n_xs = n - n_states;
  for (int k = l->states + l->xs; k < b->n_in; k++)
    if (V->used[k]) {
      specs[n] = b->specs[k];
      outer[n++] = v->in[k];
    }
  if (c->status) return true;
  pl_tape *t = pl_trace_open(c, n, specs, in);
  if (!t) return true;
  /* V's inputs: x, y, cotangents */
  pl_value x[PL_MAX_INPUTS + PL_MAX_OUTPUTS], made[PL_MAX_OUTPUTS], out[PL_MAX_OUTPUTS], y_in[PL_MAX_OUTPUTS];
  const pl_value *p = in + n_states;
  int m = 0;
  for (int j = 0; j < l->ys; j++) y_in[j] = read_y[j] ? *p++ : PL_NONE;
  const pl_value *x_in = p;
  for (int k = 0; k < l->xs; k++) p += V->used[l->states + k];
  const pl_value *g_in = p;
  for (int j = 0; j < l->ys; j++) p += r.given[l->states + j];
  for (int k = 0; k < l->states; k++) {
    x[m] = V->used[k] ? y_in[start_of[k]] : pl_zeros_of(c, &b->specs[k]);
    m++;
  }
  for (int k = l->states; k < b->n_in; k++) {
    const pl_value **list = k < l->states + l->xs ? &x_in : &p;
    x[m++] = V->used[k] ? *(*list)++ : b->specs[k].dtype == PL_DTYPES ? v->in[k] : pl_zeros_of(c, &b->specs[k]);
  }
  int after = r.n_active + r.n_sums;
  for (int k = 0; k < l->states; k++) x[m++] = next[k] ? in[after++] : pl_zeros_of(c, &b->specs[k]);
  for (int j = 0; j < l->ys; j++)
    x[m++] = V->used[b->n_in + l->states + j] ? y_in[j] : pl_zeros_of(c, &b->specs[b->outputs[l->states + j]]);
  for (int k = 0, a = 0; k < l->states; k++)
    if (r.given[k]) x[m++] = in[a++];
  for (int j = 0; j < l->ys; j++)
    if (r.given[l->states + j]) x[m++] = *g_in++;
  pl_body *R = NULL;
  int n_out = 0, n_ys = 0;
  if (pl_inlined(c, V, x, made)) {
    n_out = step_outputs(c, b, l, &r, made, in + r.n_active, out, false);
    for (int k = 0; k < l->states; k++)
      if (next[k]) out[n_out++] = y_in[start_of[k]];
    n_ys = step_outputs(c, b, l, &r, made, NULL, out + n_out, true);
    R = pl_trace_close(c, t, n_out + n_ys, out, true, 0, NULL, NULL);
  }
  pl_trace_free(c, t);
  if (!R) return true;
  pl_attr attrs[] = {PL_OBJECT(&R->base), LAYOUT_OF(n_states, n_xs, n_ys, l->length, !l->reverse, SAVE_ASK),
                     PL_INTS(0, NULL)};
  if (pl_apply(c, v->op, n, outer, attrs, out)) give_results(v, b, l, &r, out, out + n_states);
  pl_object_release(&R->base);
  return true;
}

/* ---- scan_reverse: the reverse sweep when states are computed again ----
 * Attributes: body (the forward step), reverse (s, x, captured, cotangents of s', of ys, sums -> cotangents of s, sums,
 * cotangents of x), layout of the forward scan plus the numbers {active, given, sums, xs wanted, stacks}, schedule.
 * Inputs: states, xs, captured, cotangents of final states, stacked ones of ys, sums, checkpoint stacks (or a file);
 * for a while loop, instead of those, the number of steps it took. Outputs: cotangents of initial states, sums, stacked
 * ones of xs. */

enum { R_ACTIVE = LAYOUT, R_GIVEN, R_SUMS, R_XS, R_STACKS, R_MEMORY, R_LAYOUT };

static int reverse_results(const pl_attr *attrs) {
  if (!is_layout(&attrs[2], R_LAYOUT)) return 0;
  const int64_t *l = attrs[2].list;
  return (int)(l[R_ACTIVE] + l[R_SUMS] + l[R_XS]);
}
static layout_ reverse_layout(const pl_attr *attrs) {
  pl_attr two[] = {attrs[0], attrs[2]};
  return layout_of(two);
}
static bool keeps_states(const pl_body *b, int64_t states) {
  for (int k = 0; k < states; k++)
    if (!pl_spec_equal(&b->specs[k], &b->specs[b->outputs[k]])) return false;
  return true;
}
static bool reverse_fits(const pl_attr *attrs, int n, const pl_spec *in) {
  if (!are_programs(attrs, 2) || !is_layout(&attrs[2], R_LAYOUT)) return false;
  const pl_body *b = BODY(attrs), *R = STEP(attrs);
  const int64_t *m = attrs[2].list;
  const pl_attr *schedule = &attrs[3];
  int64_t states = m[0], xs = m[1], length = m[3];
  for (int i = 0; i < R_MEMORY; i++)
    if (m[i] < 0 && i != 3) return false;
  if (states + xs > b->n_in || states > b->n_out || m[4] > 1 || !is_schedule(schedule) || !keeps_states(b, states))
    return false;
  bool loop_ = length < 0; /* of a number of steps that is its last input */
  if (loop_ && (states < 1 || xs || m[R_GIVEN] || m[R_XS] || m[R_STACKS])) return false;
  bool file = on_disk(schedule);
  if (file ? m[R_STACKS] != 1 || loop_ : m[R_STACKS] && m[R_STACKS] != states) return false;
  if (n != b->n_in + m[R_ACTIVE] + m[R_GIVEN] + m[R_SUMS] + (loop_ ? 1 : m[R_STACKS]) ||
      R->n_in != b->n_in + m[R_ACTIVE] + m[R_GIVEN] + m[R_SUMS] || R->n_out != m[R_ACTIVE] + m[R_SUMS] + m[R_XS])
    return false;
  for (int k = 0; k < R->n_in; k++) {
    const pl_spec *want = &R->specs[k];
    int64_t active = k - b->n_in, given = active - m[R_ACTIVE], sum = given - m[R_GIVEN];
    bool walked = k < b->n_in ? k >= states && k < states + xs : given >= 0 && sum < 0;
    if (walked ? !is_stack(&in[k], want, length) : !pl_spec_equal(&in[k], want)) return false;
    if (k < b->n_in && !pl_spec_equal(want, &b->specs[k])) return false;
    int64_t out = k < b->n_in || walked ? -1 : given < 0 ? active : m[R_ACTIVE] + sum; /* what it becomes */
    if (out >= 0 && !pl_spec_equal(want, &R->specs[R->outputs[out]])) return false;
  }
  if (loop_) return in[R->n_in].dtype == PL_I64 && in[R->n_in].rank == 0;
  if (file) return in[R->n_in].dtype == PL_DTYPES;
  if (!m[R_STACKS]) return true;
  if (schedule->n != 1) return false;
  int64_t slots = schedule->list[0] < length ? schedule->list[0] : length;
  int stored = first_sweep(length, slots, NULL);
  for (int k = 0; k < states; k++)
    if (!is_stack(&in[R->n_in + k], &b->specs[k], stored)) return false;
  return true;
}
static bool reverse_shape(const pl_call *call, pl_spec *out) {
  pl_spec *in = pl_memory_new(call->c, ((size_t)call->n + 1) * sizeof *in);
  if (!in) return false;
  for (int i = 0; i < call->n; i++) pl_spec_of(call->in[i], &in[i]);
  bool fits = reverse_fits(call->attrs, call->n, in);
  pl_memory_free(call->c, in);
  if (!fits) return pl_misfit(call->c, call->op);
  layout_ l = reverse_layout(call->attrs);
  const int64_t *m = call->attrs[2].list;
  const pl_body *R = STEP(call->attrs);
  int n = 0;
  for (int k = 0; k < m[R_ACTIVE] + m[R_SUMS]; k++, n++) out[n] = R->specs[R->outputs[n]];
  for (int k = 0; k < m[R_XS]; k++, n++)
    if (!stacked(call, &R->specs[R->outputs[n]], l.length, &out[n])) return false;
  return true;
}

typedef struct {
  int phase; /* 0: to start, 1: a forward step ran, 2: a reverse step ran */
  pl_frame *forward, *reverse;
  char *memory;
  char **slots; /* checkpoint memory: [slot*states + k] */
  int64_t *pos; /* positions of the stored ones, ascending */
  int n_slots, n_stored;
  int64_t length, hi;  /* steps below hi are to be reversed */
  int64_t at, target;  /* of the running advance */
  bool store;          /* the advance ends in a checkpoint */
  char **now, **spare; /* states of the advance */
  char **g, **sum;     /* 2 sides each */
  char **row;          /* of xs' cotangents */
  char *sinks;         /* for the step's outputs that nobody wants */
  int side;
} sweep;

static void sweep_forward(pl_activation *a, const layout_ *l, sweep *s) {
  pl_body *b = BODY(a->attrs);
  for (int k = 0; k < l->states; k++) {
    pl_frame_input_at(s->forward, k, s->now[k]);
    char *to =
        s->store && s->at + 1 == s->target ? s->slots[s->n_stored * l->states + k] : s->spare[2 * k + (int)(s->at & 1)];
    pl_frame_output(s->forward, k, to);
  }
  int64_t t = l->reverse ? s->length - 1 - s->at : s->at;
  for (int k = 0; k < l->xs; k++)
    pl_frame_input_at(s->forward, l->states + k, row_of(a->in[l->states + k], t, bytes_of(&b->specs[l->states + k])));
  a->child = s->forward;
  pl_frame_start(s->forward);
  s->phase = 1;
}

static void sweep_reverse(pl_activation *a, const layout_ *l, sweep *s) {
  pl_body *b = BODY(a->attrs), *R = STEP(a->attrs);
  const int64_t *m = a->attrs[2].list;
  int64_t step = s->hi - 1, t = l->reverse ? s->length - 1 - step : step;
  int n = 0, given = l->states + l->xs + l->captured + (int)m[R_ACTIVE];
  for (int k = 0; k < l->states; k++) pl_frame_input_at(s->reverse, n++, s->now[k]);
  for (int k = 0; k < l->xs; k++)
    pl_frame_input_at(s->reverse, n++, row_of(a->in[l->states + k], t, bytes_of(&b->specs[l->states + k])));
  n += l->captured;
  for (int k = 0; k < m[R_ACTIVE]; k++) pl_frame_input_at(s->reverse, n++, s->g[2 * k + s->side]);
  for (int k = 0; k < m[R_GIVEN]; k++, n++)
    pl_frame_input_at(s->reverse, n, row_of(a->in[given + k], t, bytes_of(&R->specs[n])));
  for (int k = 0; k < m[R_SUMS]; k++) pl_frame_input_at(s->reverse, n++, s->sum[2 * k + s->side]);
  int o = 0;
  for (int k = 0; k < m[R_ACTIVE]; k++) pl_frame_output(s->reverse, o++, s->g[2 * k + 1 - s->side]);
  for (int k = 0; k < m[R_SUMS]; k++) pl_frame_output(s->reverse, o++, s->sum[2 * k + 1 - s->side]);
  for (int k = 0; k < m[R_XS]; k++, o++)
    pl_frame_output(s->reverse, o, s->row[k] ? s->row[k] : row_of(a->out[o], t, bytes_of(&R->specs[R->outputs[o]])));
  a->child = s->reverse;
  pl_frame_start(s->reverse);
  s->phase = 2;
}

static bool sweep_memory(pl_context *c, pl_activation *a, const layout_ *l, sweep *s) {
  pl_body *b = BODY(a->attrs), *R = STEP(a->attrs);
  const int64_t *m = a->attrs[2].list;
  size_t state = 0, bytes = 0;
  for (int k = 0; k < l->states; k++) state += padded(bytes_of(&b->specs[k]));
  int64_t checkpoints = a->attrs[3].n > 0 ? a->attrs[3].list[0] : 0;
  if (checkpoints <= 0) { /* as many as the memory allows */
    size_t room = m[R_MEMORY] > 0 ? (size_t)m[R_MEMORY] : (c->budget - c->used) / 2;
    checkpoints = state ? (int64_t)(room / state) : s->length;
  }
  if (checkpoints < 1) checkpoints = 1;
  if (checkpoints > s->length) checkpoints = s->length > 0 ? s->length : 1;
  s->n_slots = (int)checkpoints;
  int rows = (int)m[R_XS], sides = (int)(m[R_ACTIVE] + m[R_SUMS]);
  bytes = (size_t)(s->n_slots + 2) * state;
  for (int k = 0; k < sides; k++) bytes += 2 * padded(bytes_of(&R->specs[R->outputs[k]]));
  for (int k = 0; k < rows; k++) bytes += padded(bytes_of(&R->specs[R->outputs[sides + k]]));
  for (int k = l->states; k < b->n_out; k++) bytes += padded(bytes_of(&b->specs[b->outputs[k]]));
  size_t lists =
      ((size_t)(s->n_slots + 3) * (size_t)l->states + 2 * (size_t)sides + (size_t)rows + (size_t)s->n_slots + 8) * 8;
  char *p = s->memory = pl_memory_new(c, bytes + lists + 128);
  if (!p) return false;
  char **list = (char **)(p + bytes);
  s->slots = list, list += (size_t)s->n_slots * (size_t)l->states;
  s->now = list, list += l->states;
  s->spare = list, list += 2 * l->states;
  s->g = list, list += 2 * m[R_ACTIVE];
  s->sum = list, list += 2 * m[R_SUMS];
  s->row = list, list += rows;
  s->pos = (int64_t *)list;
  for (int i = 0; i < s->n_slots; i++)
    for (int k = 0; k < l->states; k++) {
      s->slots[i * l->states + k] = p;
      p += padded(bytes_of(&b->specs[k]));
    }
  for (int k = 0; k < l->states; k++)
    for (int side = 0; side < 2; side++, p += padded(bytes_of(&b->specs[k]))) s->spare[2 * k + side] = p;
  for (int k = 0; k < sides; k++)
    for (int side = 0; side < 2; side++, p += padded(bytes_of(&R->specs[R->outputs[k]])))
      (k < m[R_ACTIVE] ? s->g : s->sum - 2 * m[R_ACTIVE])[2 * k + side] = p;
  for (int k = 0; k < rows; k++) {
    size_t size = bytes_of(&R->specs[R->outputs[sides + k]]);
    s->row[k] = size % 64 ? p : NULL;
    p += padded(size);
  }
  s->sinks = p;
  return true;
}

static pl_next reverse_step(pl_context *c, pl_activation *a) {
  layout_ l = reverse_layout(a->attrs);
  pl_body *b = BODY(a->attrs), *R = STEP(a->attrs);
  const int64_t *m = a->attrs[2].list;
  sweep *s = a->state;
  int first_g = l.states + l.xs + l.captured, first_sum = first_g + (int)(m[R_ACTIVE] + m[R_GIVEN]),
      first_stack = first_sum + (int)m[R_SUMS];
  if (s->phase == 0) {
    s->length = s->hi = l.length >= 0 ? l.length : *(const int64_t *)a->in[first_stack]->data;
    if (s->length < 0 || s->length > INT32_MAX) {
      pl_error(c, PL_ERROR_NUMERIC, "a loop of %lld steps cannot be reversed", (long long)s->length);
      return PL_NEXT_FAIL;
    }
    if (!sweep_memory(c, a, &l, s)) return PL_NEXT_FAIL;
    if (!(s->forward = pl_frame_new(c, b)) || !(s->reverse = pl_frame_new(c, R))) return PL_NEXT_FAIL;
    for (int k = 0; k < l.captured; k++) {
      pl_frame_input(s->forward, l.states + l.xs + k, a->in[l.states + l.xs + k]);
      pl_frame_input(s->reverse, l.states + l.xs + k, a->in[l.states + l.xs + k]);
    }
    char *sink = s->sinks;
    for (int k = l.states; k < b->n_out; sink += padded(bytes_of(&b->specs[b->outputs[k++]])))
      pl_frame_output(s->forward, k, sink);
    for (int k = 0; k < m[R_ACTIVE]; k++)
      memcpy(s->g[2 * k], a->in[first_g + k]->data, bytes_of(&R->specs[R->outputs[k]]));
    for (int k = 0; k < m[R_SUMS]; k++)
      memcpy(s->sum[2 * k], a->in[first_sum + k]->data, bytes_of(&R->specs[R->outputs[m[R_ACTIVE] + k]]));
    if (on_disk(&a->attrs[3])) {
      s->n_stored = 0; /* the last segment is read first */
    } else if (m[R_STACKS]) {
      s->n_stored = first_sweep(s->length, s->n_slots, s->pos);
      for (int i = 0; i < s->n_stored; i++)
        for (int k = 0; k < l.states; k++)
          memcpy(s->slots[i * l.states + k], row_of(a->in[first_stack + k], i, bytes_of(&b->specs[k])),
                 bytes_of(&b->specs[k]));
    } else if (s->length > 0) {
      s->pos[0] = 0;
      s->n_stored = 1;
      for (int k = 0; k < l.states; k++) memcpy(s->slots[k], a->in[k]->data, bytes_of(&b->specs[k]));
    }
  } else if (s->phase == 1) {
    for (int k = 0; k < l.states; k++) s->now[k] = s->forward->outputs[k];
    s->at++;
    if (s->at < s->target) {
      sweep_forward(a, &l, s);
      return PL_NEXT_CALL;
    }
    if (s->store) {
      s->pos[s->n_stored++] = s->at;
    } else { /* arrived below what is to be reversed */
      sweep_reverse(a, &l, s);
      return PL_NEXT_CALL;
    }
  } else {
    int64_t step = s->hi - 1, t = l.reverse ? s->length - 1 - step : step;
    for (int k = 0, o = (int)(m[R_ACTIVE] + m[R_SUMS]); k < m[R_XS]; k++, o++)
      if (s->row[k]) {
        size_t size = bytes_of(&R->specs[R->outputs[o]]);
        memcpy(row_of(a->out[o], t, size), s->row[k], size);
      }
    s->side = 1 - s->side;
    s->hi--;
    while (s->n_stored && s->pos[s->n_stored - 1] >= s->hi) s->n_stored--;
  }
  if (s->hi == 0) {
    for (int k = 0; k < m[R_ACTIVE]; k++)
      memcpy(a->out[k]->data, s->g[2 * k + s->side], bytes_of(&R->specs[R->outputs[k]]));
    for (int k = 0, o = (int)m[R_ACTIVE]; k < m[R_SUMS]; k++, o++)
      memcpy(a->out[o]->data, s->sum[2 * k + s->side], bytes_of(&R->specs[R->outputs[o]]));
    return PL_NEXT_DONE;
  }
  if (s->n_stored == 0) { /* a segment begins: it has a slot for each of its states */
    int64_t segment = (s->hi - 1) / a->attrs[3].list[0];
    if (!to_disk(c, b, l.states, pl_disk_of(c, a->in[first_stack]), segment, s->slots, true)) return PL_NEXT_FAIL;
    s->pos[0] = segment * a->attrs[3].list[0];
    s->n_stored = 1;
  }
  s->at = s->pos[s->n_stored - 1];
  for (int k = 0; k < l.states; k++) s->now[k] = s->slots[(s->n_stored - 1) * l.states + k];
  if (s->at == s->hi - 1) {
    sweep_reverse(a, &l, s);
    return PL_NEXT_CALL;
  }
  int free_ = s->n_slots - s->n_stored;
  s->store = free_ > 0;
  s->target = s->store ? s->at + pl_checkpoint_split(s->hi - s->at, free_) : s->hi - 1;
  sweep_forward(a, &l, s);
  return PL_NEXT_CALL;
}
static void reverse_stop(pl_context *c, pl_activation *a) {
  sweep *s = a->state;
  pl_frame_free(c, s->forward);
  pl_frame_free(c, s->reverse);
  pl_memory_free(c, s->memory);
  a->child = NULL;
}
/* Recomputing reversal for scan and while. */
static void scan_vjp_recomputed(pl_vjp *v, pl_body *b, const layout_ *l, const pl_attr *schedule, int n_stacks,
                                const pl_value *stacks_, int64_t memory) {
  pl_context *c = v->c;
  reversal r;
  if (!plan_reversal(v, b, l, false, &r)) return;
  const pl_body *V = r.v->body;
  int n_given = 0, n_wanted = 0, n = 0;
  pl_spec specs[PL_MAX_INPUTS];
  pl_value in[PL_MAX_INPUTS], x[PL_MAX_INPUTS + PL_MAX_OUTPUTS], made[PL_MAX_OUTPUTS], out[PL_MAX_OUTPUTS];
  n_given = flagged(r.given, l->states, b->n_out);
  n_wanted = flagged(r.need, l->states, l->states + l->xs);
  if (!pl_derivative_possible(c, "scan", b->n_in + r.n_active + n_given + r.n_sums + n_stacks, 0)) return;
  for (int k = 0; k < b->n_in; k++) specs[n++] = b->specs[k];
  for (int k = 0; k < b->n_out; k++)
    if (r.given[k]) specs[n++] = b->specs[b->outputs[k]];
  for (int k = l->states + l->xs; k < b->n_in; k++)
    if (r.need[k]) specs[n++] = b->specs[k];
  pl_tape *t = pl_trace_open(c, n, specs, in);
  if (!t) return;
  int m = 0, g = b->n_in;
  for (int k = 0; k < b->n_in; k++) x[m++] = in[k];
  for (int k = 0; k < b->n_out; k++) x[m++] = pl_zeros_of(c, &b->specs[b->outputs[k]]); /* not read */
  for (int k = 0; k < b->n_out; k++)
    if (r.given[k]) x[m++] = in[g++];
  pl_body *R = NULL;
  if (pl_inlined(c, V, x, made)) {
    int n_out = step_outputs(c, b, l, &r, made, in + g, out, false);
    n_out += step_outputs(c, b, l, &r, made, NULL, out + n_out, true);
    R = pl_trace_close(c, t, n_out, out, true, 0, NULL, NULL);
  }
  pl_trace_free(c, t);
  if (!R) return;
  pl_value outer[PL_MAX_INPUTS], start[PL_MAX_INPUTS];
  n = 0;
  for (int k = 0; k < b->n_in; k++) outer[n++] = v->in[k];
  start_states(v, b, l, &r, start);
  for (int k = 0; k < r.n_active; k++) outer[n++] = start[k];
  for (int k = l->states; k < b->n_out; k++)
    if (r.given[k]) outer[n++] = v->g[k];
  for (int k = 0; k < r.n_sums; k++) outer[n++] = start[r.n_active + k];
  for (int k = 0; k < n_stacks; k++) outer[n++] = stacks_[k];
  int64_t list[R_LAYOUT] = {l->states,
                            l->xs,
                            l->ys,
                            l->length,
                            l->reverse,
                            0,
                            r.n_active,
                            n_given,
                            r.n_sums,
                            n_wanted,
                            l->length >= 0 ? n_stacks : 0,
                            memory};
  pl_attr attrs[] = {PL_OBJECT(&b->base), PL_OBJECT(&R->base), PL_INTS(R_LAYOUT, list), *schedule};
  if (pl_apply(c, PL_OP(scan_reverse), n, outer, attrs, out))
    give_results(v, b, l, &r, out, out + r.n_active + r.n_sums);
  pl_object_release(&R->base);
}

static void scan_vjp(pl_vjp *v) {
  layout_ l = layout_of(v->attrs);
  if (l.save == SAVE_DONE && !stacks(v->attrs, &l) && scan_vjp_stored(v, &l)) return;
  int n = stacks(v->attrs, &l);
  pl_attr none = PL_INTS(0, NULL);
  scan_vjp_recomputed(v, BODY(v->attrs), &l, n ? &v->attrs[2] : &none, n, v->out + l.states + l.ys, 0);
}

/* ---- tangents beside the values that they belong to ---- */

/* What goes in and comes out of a joint program: of each part of the inputs the values, then the tangents of the active
 * ones; of each part of the outputs those values and tangents that are asked for. */
typedef struct {
  int n_parts, n_out_parts;
  int part[7], out_part[4];      /* where they begin, and the end */
  uint8_t active[PL_MAX_INPUTS]; /* which inputs have a tangent */
  uint8_t value[PL_MAX_OUTPUTS], tangent[PL_MAX_OUTPUTS];
} joint;

static pl_derived *tangents_of(pl_context *c, pl_body *b, const uint8_t *active) {
  uint8_t known[PL_MAX_OUTPUTS];
  all_flags(known, b->n_out, 1);
  pl_derived *d = pl_body_jvp(c, b, active, known);
  return d && d->body ? d : NULL;
}

static pl_body *joint_body(pl_context *c, pl_body *b, const joint *q) {
  pl_derived *d = tangents_of(c, b, q->active);
  if (!d || !pl_derivative_possible(c, "scan", b->n_in + flagged(q->active, 0, b->n_in), b->n_out + d->body->n_out))
    return NULL;
  pl_spec specs[PL_MAX_INPUTS];
  pl_value in[PL_MAX_INPUTS], x[PL_MAX_INPUTS + PL_MAX_OUTPUTS], tangent[PL_MAX_INPUTS], made[PL_MAX_OUTPUTS],
      out[PL_MAX_OUTPUTS];
  int n = 0;
  for (int p = 0; p < q->n_parts; p++)
    for (int pass = 0; pass < 2; pass++)
      for (int k = q->part[p]; k < q->part[p + 1]; k++)
        if (pass == 0 || q->active[k]) specs[n++] = b->specs[k];
  pl_tape *t = pl_trace_open(c, n, specs, in);
  if (!t) return NULL;
  n = 0;
  for (int p = 0; p < q->n_parts; p++)
    for (int pass = 0; pass < 2; pass++)
      for (int k = q->part[p]; k < q->part[p + 1]; k++)
        if (pass == 0) x[k] = in[n++];
        else if (q->active[k]) tangent[k] = in[n++];
  pl_body *J = NULL;
  if (pl_inlined(c, b, x, x + b->n_in)) {
    int m = b->n_in + b->n_out, n_out = 0;
    for (int k = 0; k < b->n_in; k++)
      if (q->active[k]) x[m++] = tangent[k];
    if (pl_inlined(c, d->body, x, made)) {
      for (int p = 0; p < q->n_out_parts; p++)
        for (int pass = 0; pass < 2; pass++)
          for (int k = q->out_part[p]; k < q->out_part[p + 1]; k++)
            if (pass == 0 && q->value[k]) out[n_out++] = x[b->n_in + k];
            else if (pass == 1 && q->tangent[k])
              out[n_out++] = d->list[k] >= 0 ? made[d->list[k]] : pl_zeros_of(c, &b->specs[b->outputs[k]]);
      J = pl_trace_close(c, t, n_out, out, true, 0, NULL, NULL);
    }
  }
  pl_trace_free(c, t);
  return J;
}

/* Values beside tangents, in the order of a joint program's inputs. */
static int joint_inputs(pl_context *c, const joint *q, const pl_value *in, const pl_value *t, pl_value *outer) {
  int n = 0;
  for (int p = 0; p < q->n_parts; p++)
    for (int pass = 0; pass < 2; pass++)
      for (int k = q->part[p]; k < q->part[p + 1]; k++)
        if (pass == 0) outer[n++] = in[k];
        else if (q->active[k]) {
          pl_spec spec;
          pl_spec_of(pl_slot_find(c, in[k]), &spec);
          outer[n++] = t[k] == PL_ZERO ? pl_zeros_of(c, &spec) : t[k];
        }
  return n;
}

/* A step and the tangents of its states; those of its ys where they are wanted. Inputs that move are t's. */
static void joint_step(const pl_body *b, const layout_ *l, const pl_value *t, joint *q) {
  uint8_t moves[PL_MAX_OUTPUTS];
  *q = (joint){.n_parts = 3,
               .part = {0, l->states, l->states + l->xs, b->n_in},
               .n_out_parts = 2,
               .out_part = {0, l->states, b->n_out}};
  for (int k = 0; k < b->n_in; k++) q->active[k] = t[k] != PL_ZERO;
  close_activity(b, l, q->active, moves);
  for (int k = 0; k < l->states; k++) {
    q->value[k] = 1;
    q->tangent[k] = q->active[k];
  }
}

static void scan_jvp(pl_jvp *j) {
  pl_context *c = j->c;
  pl_body *b = BODY(j->attrs);
  layout_ l = layout_of(j->attrs);
  joint q;
  joint_step(b, &l, j->t, &q);
  pl_derived *d = tangents_of(c, b, q.active);
  if (!d) return;
  for (int k = l.states; k < b->n_out; k++) q.tangent[k] = d->list[k] >= 0;
  pl_body *J = joint_body(c, b, &q);
  if (!J) return;
  pl_value outer[PL_MAX_INPUTS], out[PL_MAX_OUTPUTS];
  int n = joint_inputs(c, &q, j->in, j->t, outer), n_states = l.states + flagged(q.active, 0, l.states);
  int n_xs = l.xs + flagged(q.active, l.states, l.states + l.xs);
  pl_attr attrs[] = {PL_OBJECT(&J->base), LAYOUT_OF(n_states, n_xs, J->n_out - n_states, l.length, l.reverse, SAVE_ASK),
                     j->attrs[2]};
  if (pl_apply(c, j->op, n, outer, attrs, out))
    for (int k = 0, o = l.states; k < b->n_out; k++)
      if (q.tangent[k]) j->dt[k] = out[o++];
  pl_object_release(&J->base);
}

/* The reverse sweep of the joint loop: states and cotangents each beside their tangents. Checkpoints that the forward
 * loop left hold no tangents: this one starts from the beginning. */
static void reverse_jvp(pl_jvp *j) {
  pl_context *c = j->c;
  pl_body *b = BODY(j->attrs), *R = STEP(j->attrs);
  layout_ l = reverse_layout(j->attrs);
  const int64_t *m = j->attrs[2].list;
  int n_a = (int)m[R_ACTIVE], n_s = (int)m[R_SUMS], a = b->n_in, g = a + n_a, s = g + (int)m[R_GIVEN];
  joint q, r = {.n_parts = 6,
                .part = {0, l.states, l.states + l.xs, a, g, s, R->n_in},
                .n_out_parts = 3,
                .out_part = {0, n_a, n_a + n_s, R->n_out}};
  joint_step(b, &l, j->t, &q);
  memcpy(r.active, q.active, (size_t)b->n_in);
  for (int k = a; k < R->n_in; k++) r.active[k] = j->t[k] != PL_ZERO;
  for (bool grew = true; grew;) { /* what the step makes of a cotangent or a sum is its next one */
    grew = false;
    pl_body_activity(R, r.active, r.tangent);
    for (int k = 0; k < n_a + n_s; k++) {
      int in = k < n_a ? a + k : s + k - n_a;
      if (r.tangent[k] && !r.active[in]) r.active[in] = grew = true;
    }
  }
  all_flags(r.value, R->n_out, 1);
  for (int k = 0; k < n_a + n_s; k++) r.tangent[k] = r.active[k < n_a ? a + k : s + k - n_a];
  int n_states = l.states + flagged(q.active, 0, l.states), n_out = R->n_out + flagged(r.tangent, 0, R->n_out);
  if (!pl_derivative_possible(c, "scan", R->n_in + flagged(r.active, 0, R->n_in) + 1, n_out)) return;
  pl_body *J = joint_body(c, b, &q), *JR = J ? joint_body(c, R, &r) : NULL;
  if (JR) {
    pl_value outer[PL_MAX_INPUTS], out[PL_MAX_OUTPUTS];
    int n = joint_inputs(c, &r, j->in, j->t, outer);
    if (l.length < 0) outer[n++] = j->in[R->n_in]; /* the number of steps */
    int64_t list[R_LAYOUT] = {n_states,
                              l.xs + flagged(q.active, l.states, l.states + l.xs),
                              0,
                              l.length,
                              l.reverse,
                              0,
                              n_a + flagged(r.active, a, g),
                              m[R_GIVEN] + flagged(r.active, g, s),
                              n_s + flagged(r.active, s, R->n_in),
                              m[R_XS] + flagged(r.tangent, n_a + n_s, R->n_out),
                              0,
                              m[R_MEMORY]};
    int64_t checkpoints[] = {j->attrs[3].n > 0 ? j->attrs[3].list[0] : 0};
    pl_attr attrs[] = {PL_OBJECT(&J->base), PL_OBJECT(&JR->base), PL_INTS(R_LAYOUT, list),
                       PL_INTS(j->attrs[3].n > 0, checkpoints)};
    if (pl_apply(c, j->op, n, outer, attrs, out))
      for (int p = 0, o = 0; p < 3; p++) {
        o += r.out_part[p + 1] - r.out_part[p];
        for (int k = r.out_part[p]; k < r.out_part[p + 1]; k++)
          if (r.tangent[k]) j->dt[k] = out[o++];
      }
  }
  pl_object_release((pl_object *)J);
  pl_object_release((pl_object *)JR);
}

/* ---- while: attributes condition, body, layout {states, captured of the condition, most} ----
 * Inputs: states, captured of the condition, captured of the body. Outputs: final states, the number of steps (i64). */

static int while_results(const pl_attr *attrs) { return is_layout(&attrs[2], 4) ? (int)attrs[2].list[0] + 1 : 0; }
static bool while_fits(const pl_attr *attrs, int n) {
  if (!are_programs(attrs, 2) || !is_layout(&attrs[2], 4)) return false;
  const pl_body *cond = BODY(attrs), *b = STEP(attrs);
  const int64_t *l = attrs[2].list;
  if (l[0] < 0 || l[1] < 0 || l[0] + l[1] != cond->n_in || cond->n_out != 1 || b->n_out != l[0] || b->n_in < l[0] ||
      n != b->n_in + l[1])
    return false;
  for (int k = 0; k < l[0]; k++)
    if (!pl_spec_equal(&cond->specs[k], &b->specs[k])) return false;
  return true;
}
static bool while_shape(const pl_call *call, pl_spec *out) {
  if (!while_fits(call->attrs, call->n)) return pl_misfit(call->c, call->op);
  const pl_body *cond = BODY(call->attrs), *b = STEP(call->attrs);
  int s = (int)call->attrs[2].list[0], k = (int)call->attrs[2].list[1];
  if (!pl_check_inputs(call, cond, 0, 0, cond->n_in) || !pl_check_inputs(call, b, s + k, s, b->n_in - s)) return false;
  const pl_spec *p = &cond->specs[cond->outputs[0]];
  if (p->dtype != PL_BOOL || pl_spec_count(p) != 1) {
    pl_error(call->c, PL_ERROR_TYPE, "while_loop: the condition must be one bool (a comparison's result), not %s",
             pl_dtype_name(p->dtype));
    return false;
  }
  if (!check_states(call, "while_loop", b, s)) return false;
  memcpy(out, b->specs, (size_t)s * sizeof *out);
  out[s] = (pl_spec){PL_I64, 0, {0}};
  return true;
}
typedef struct {
  loop loop;
  pl_frame *cond, *step;
  bool asked;
  _Alignas(64) uint8_t answer[64];
} while_state;
static pl_next while_step(pl_context *c, pl_activation *a) {
  pl_body *cond = BODY(a->attrs), *b = STEP(a->attrs);
  int n = (int)a->attrs[2].list[0], k = (int)a->attrs[2].list[1];
  int64_t most = a->attrs[2].list[2];
  layout_ l = {.states = n};
  while_state *s = (while_state *)(((uintptr_t)a->state + 63) & ~(uintptr_t)63);
  if (!s->loop.entered) {
    s->loop.entered = true;
    if (!loop_memory(c, b, &l, &s->loop)) return PL_NEXT_FAIL;
    if (!(s->cond = pl_frame_new(c, cond)) || !(s->step = pl_frame_new(c, b))) return PL_NEXT_FAIL;
    for (int i = n; i < cond->n_in; i++) pl_frame_input(s->cond, i, a->in[i]);
    for (int i = n; i < b->n_in; i++) pl_frame_input(s->step, i, a->in[k + i]);
    pl_frame_output(s->cond, 0, s->answer);
    for (int i = 0; i < n; i++) s->loop.now[i] = a->in[i]->data;
  } else if (s->asked) {
    s->asked = false;
    if (!s->answer[0]) {
      for (int i = 0; i < n; i++) memcpy(a->out[i]->data, s->loop.now[i], bytes_of(&b->specs[i]));
      *(int64_t *)a->out[n]->data = s->loop.i;
      return PL_NEXT_DONE;
    }
    if (s->loop.i >= most) {
      pl_error(c, PL_ERROR_NUMERIC, "while_loop: the condition still holds after %lld steps", (long long)most);
      return PL_NEXT_FAIL;
    }
    for (int i = 0; i < n; i++) {
      pl_frame_input_at(s->step, i, s->loop.now[i]);
      pl_frame_output(s->step, i, s->loop.spare[2 * i + (s->loop.i & 1)]);
    }
    a->child = s->step;
    pl_frame_start(s->step);
    return PL_NEXT_CALL;
  } else {
    for (int i = 0; i < n; i++) s->loop.now[i] = s->step->outputs[i];
    s->loop.i++;
  }
  for (int i = 0; i < n; i++) pl_frame_input_at(s->cond, i, s->loop.now[i]);
  a->child = s->cond;
  pl_frame_start(s->cond);
  s->asked = true;
  return PL_NEXT_CALL;
}
static void while_stop(pl_context *c, pl_activation *a) {
  while_state *s = (while_state *)(((uintptr_t)a->state + 63) & ~(uintptr_t)63);
  pl_frame_free(c, s->cond);
  pl_frame_free(c, s->step);
  pl_memory_free(c, s->loop.memory);
  a->child = NULL;
}
/* As a scan of as many steps as the loop took. */
static void while_vjp(pl_vjp *v) {
  pl_body *b = STEP(v->attrs);
  int n = (int)v->attrs[2].list[0], k = (int)v->attrs[2].list[1];
  layout_ l = {.states = n, .captured = b->n_in - n, .length = -1};
  pl_value in[PL_MAX_INPUTS], g[PL_MAX_OUTPUTS];
  bool need[PL_MAX_INPUTS];
  for (int i = 0; i < b->n_in; i++) {
    in[i] = v->in[i < n ? i : i + k];
    need[i] = v->need[i < n ? i : i + k];
  }
  for (int i = 0; i < n; i++) g[i] = v->g[i];
  pl_vjp w = *v;
  w.n = b->n_in;
  w.in = in;
  w.g = g;
  w.need = need;
  pl_attr none = PL_INTS(0, NULL);
  scan_vjp_recomputed(&w, b, &l, &none, 1, &v->out[n], v->attrs[2].list[3]);
}
static void while_jvp(pl_jvp *j) {
  pl_context *c = j->c;
  pl_body *cond = BODY(j->attrs), *b = STEP(j->attrs);
  int n = (int)j->attrs[2].list[0], k = (int)j->attrs[2].list[1];
  layout_ l = {.states = n, .captured = b->n_in - n, .length = -1};
  pl_value in[PL_MAX_INPUTS], t[PL_MAX_INPUTS];
  for (int i = 0; i < b->n_in; i++) {
    in[i] = j->in[i < n ? i : i + k];
    t[i] = j->t[i < n ? i : i + k];
  }
  joint q;
  joint_step(b, &l, t, &q);
  int n_active = flagged(q.active, 0, n);
  if (!n_active) return;
  if (!pl_derivative_possible(c, "while_loop", b->n_in + flagged(q.active, 0, b->n_in) + k, 0)) return;
  pl_body *J = joint_body(c, b, &q);
  if (!J) return;
  /* the condition does not look at the tangents */
  pl_spec specs[PL_MAX_INPUTS];
  pl_value traced[PL_MAX_INPUTS], x[PL_MAX_INPUTS], holds;
  int m = 0;
  for (int i = 0; i < n; i++) specs[m++] = b->specs[i];
  for (int i = 0; i < n; i++)
    if (q.active[i]) specs[m++] = b->specs[i];
  for (int i = n; i < cond->n_in; i++) specs[m++] = cond->specs[i];
  pl_tape *tape = pl_trace_open(c, m, specs, traced);
  pl_body *C = NULL;
  if (tape) {
    for (int i = 0; i < cond->n_in; i++) x[i] = traced[i < n ? i : i + n_active];
    if (pl_inlined(c, cond, x, &holds)) C = pl_trace_close(c, tape, 1, &holds, true, 0, NULL, NULL);
    pl_trace_free(c, tape);
  }
  if (C) {
    pl_value outer[PL_MAX_INPUTS], joint_in[PL_MAX_INPUTS], out[PL_MAX_OUTPUTS];
    int n_joint = joint_inputs(c, &q, in, t, joint_in), o = 0;
    for (int i = 0; i < n + n_active; i++) outer[o++] = joint_in[i];
    for (int i = n; i < cond->n_in; i++) outer[o++] = j->in[i];
    for (int i = n + n_active; i < n_joint; i++) outer[o++] = joint_in[i];
    int64_t list[] = {n + n_active, k, j->attrs[2].list[2], j->attrs[2].list[3]};
    pl_attr attrs[] = {PL_OBJECT(&C->base), PL_OBJECT(&J->base), PL_INTS(4, list)};
    if (pl_apply(c, j->op, o, outer, attrs, out))
      for (int i = 0, s = n; i < n; i++)
        if (q.active[i]) j->dt[i] = out[s++];
  }
  pl_object_release((pl_object *)C);
  pl_object_release(&J->base);
}

/* ---- samples ---- */

static int below_function(pl_context *c, const pl_value *x, pl_value *out) {
  out[0] = PL_BINARY(lt, c, pl_sample_total(c, x[0]), pl_constant(c, PL_F64, 16.5));
  return 1;
}
static int reverse_function(pl_context *c, const pl_value *x, pl_value *out) { /* s, captured, cotangent, sum */
  out[0] = PL_BINARY(mul, c, x[2], x[1]);
  out[1] = PL_BINARY(add, c, x[3], PL_BINARY(mul, c, x[2], x[0]));
  return 2;
}
static bool scan_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  if (k > 4) return false;
  pl_body *b = pl_sample_body(c, 3, (pl_spec[]){three, scalar_spec, three}, pl_sample_step);
  int length = k == 3 ? 0 : k == 4 ? 1 : 6;
  s->n = 3;
  memcpy(s->lists[1], (int64_t[]){1, 1, 1, length, k == 1, SAVE_ASK}, LAYOUT * sizeof(int64_t));
  s->attrs[0] = PL_OBJECT((pl_object *)b);
  s->attrs[1] = PL_INTS(LAYOUT, s->lists[1]);
  s->attrs[2] = PL_INTS(0, s->lists[2]);
  s->in[0] = pl_sample_tensor(c, r, -1, 1, 1, 3);
  s->in[1] = pl_sample_tensor(c, r, -1, 1, 1, length);
  s->in[2] = pl_sample_tensor(c, r, -1, 1, 1, 3);
  return pl_sampled(s, b, NULL);
}
static bool while_sample(pl_context *c, pl_sampler_random *r, int k,
                         pl_sample *s) { /* three steps, far from two and four */
  if (k > 0) return false;
  pl_body *cond = pl_sample_body(c, 1, &three, below_function),
          *b = pl_sample_body(c, 2, (pl_spec[]){three, three}, pl_sample_grow);
  s->n = 2;
  memcpy(s->lists[2], (int64_t[]){1, 0, 100, 0}, 4 * sizeof(int64_t));
  s->attrs[0] = PL_OBJECT((pl_object *)cond);
  s->attrs[1] = PL_OBJECT((pl_object *)b);
  s->attrs[2] = PL_INTS(4, s->lists[2]);
  s->in[0] = pl_sample_tensor(c, r, 1, 1.05, 1, 3);
  s->in[1] = pl_sample_tensor(c, r, 1.95, 2, 1, 3);
  return pl_sampled(s, cond, b);
}
static bool reverse_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  if (k > 1) return false;
  pl_body *b = pl_sample_body(c, 2, (pl_spec[]){three, three}, pl_sample_grow),
          *R = pl_sample_body(c, 4, (pl_spec[]){three, three, three, three}, reverse_function);
  s->n = 4;
  s->attrs[0] = PL_OBJECT((pl_object *)b);
  s->attrs[1] = PL_OBJECT((pl_object *)R);
  static const int64_t layout[R_LAYOUT] = {1, 0, 0, 5, 0, 0, 1, 0, 1, 0, 0, 0};
  s->attrs[2] = PL_INTS(R_LAYOUT, layout);
  s->lists[3][0] = k ? 2 : 100;
  s->attrs[3] = PL_INTS(1, s->lists[3]);
  for (int i = 0; i < 4; i++) s->in[i] = pl_sample_tensor(c, r, -1, 1, 1, 3);
  return pl_sampled(s, b, R);
}

pl_op pl_ops_loops[] = {
    {CONTROL("scan", "a program repeated over the first axis of its inputs"),
     .attrs = {OBJECT("body"), LIST("layout"), LIST("schedule")}, .shape = scan_shape, .results = scan_results,
     .step = scan_step, .state_size = sizeof(loop), .stop = scan_stop, .augment = scan_augment, .vjp = scan_vjp,
     .jvp = scan_jvp, .sample = scan_sample},
    {CONTROL("scan_reverse", "the reverse of scan, states computed again from checkpoints"),
     .attrs = {OBJECT("body"), OBJECT("reverse"), LIST("layout"), LIST("schedule")}, .shape = reverse_shape,
     .results = reverse_results, .jvp = reverse_jvp, .step = reverse_step, .state_size = sizeof(sweep),
     .stop = reverse_stop,
     .no_derivative = "a loop whose states are computed again (checkpoints, memory, while_loop) has no reverse-mode "
                      "derivative of its gradient; take it by forward over reverse (pl.hvp, pl.hessian, pl.jvp of "
                      "pl.grad), or store all states",
     .sample = reverse_sample},
    {CONTROL("while", "a program repeated while another says so"),
     .attrs = {OBJECT("condition"), OBJECT("body"), LIST("layout")}, .shape = while_shape, .results = while_results,
     .step = while_step, .state_size = sizeof(while_state) + 64, .stop = while_stop, .vjp = while_vjp, .jvp = while_jvp,
     .sample = while_sample},
    {0},
};
