/* batch.c: a body for many entries at once. Each value that depends on a batched input gets a first axis of n, the
 * entries; the others stay as they are and are computed once. The body is traced again, every instruction by a rule of
 * its op's class; what has no rule (another op, a matrix factored for each entry) is a scan over the entries. A rule
 * lets an op work on entries side by side, so sums of products may be taken in another order; elementwise results have
 * the same bits. */
#include <string.h>

#include "../body.h"

enum { DERIVED_BATCH = 64, WIDE = PL_MAX_RANK + 1 };

typedef struct {
  pl_context *c;
  const pl_body *b;
  int64_t n;
  void *block;
  /* one a value of b */
  pl_value *values; /* what stands for it here; PL_NONE for a resource of each entry, which is made where it is read */
  pl_value *inner;  /* what stands for it in the body of a scan */
  int32_t *maker;   /* its instruction, or -1 */
  uint8_t *batched;
  uint8_t *chosen; /* one an instruction */
} batch;

static bool is_resource(const batch *w, uint32_t v) { return w->b->specs[v].dtype == PL_DTYPES; }

/* {n, the entry's shape}; returns its length. */
static int shape_of(const batch *w, uint32_t v, int64_t *shape) {
  const pl_spec *s = &w->b->specs[v];
  shape[0] = w->n;
  for (int a = 0; a < s->rank; a++) shape[a + 1] = s->shape[a];
  return s->rank + 1;
}

/* The value with the axis of entries, repeated where it is the same for all. */
static pl_value stacked(const batch *w, uint32_t v) {
  int64_t shape[WIDE];
  if (w->batched[v]) return w->values[v];
  int rank = shape_of(w, v, shape);
  return pl_call1(w->c, PL_OP(broadcast_to), w->values[v], &PL_INTS(rank, shape));
}

static pl_value reshape_to_entry(const batch *w, pl_value x, uint32_t v) {
  int64_t shape[WIDE];
  int rank = shape_of(w, v, shape);
  return pl_reshape_to(w->c, x, rank, shape);
}

/* Exchanges the p axes from `at` on and the q axes behind them. */
static pl_value exchange(pl_context *c, pl_value x, int at, int p, int q) {
  const pl_slot *s = pl_slot_get(c, x);
  if (!s || p == 0 || q == 0) return x;
  int64_t order[PL_MAX_RANK], shape[PL_MAX_RANK], first = 1, second = 1;
  for (int a = 0; a < s->rank; a++) {
    order[a] = a < at || a >= at + p + q ? a : a < at + q ? a + p : a - q;
    shape[a] = s->shape[order[a]];
    if (a >= at && a < at + q) second *= shape[a];
    if (a >= at + q && a < at + p + q) first *= shape[a];
  }
  if (first == 1 || second == 1) return pl_reshape_to(c, x, s->rank, shape);
  return pl_call1(c, PL_OP(transpose), x, &PL_INTS(s->rank, order));
}

/* ---- rules: PL_NONE, without an error, where they do not apply ---- */

static pl_value elementwise(const batch *w, const pl_instruction *q, const uint32_t *o) {
  pl_value in[PL_MAX_INPUTS];
  int rank = w->b->specs[o[q->n_in]].rank;
  for (int i = 0; i < q->n_in; i++) {
    in[i] = w->values[o[i]];
    const pl_spec *s = &w->b->specs[o[i]];
    if (!w->batched[o[i]] || s->rank == rank) continue;
    int64_t shape[WIDE] = {w->n};
    for (int a = 0; a < rank; a++) shape[a + 1] = a < rank - s->rank ? 1 : s->shape[a - (rank - s->rank)];
    in[i] = pl_reshape_to(w->c, in[i], rank + 1, shape);
  }
  return pl_apply1(w->c, q->op, q->n_in, in, q->attrs);
}

/* Ops of one tensor that say in their attributes along which axes they work. */
static pl_value along_axes(const batch *w, const pl_instruction *q, const uint32_t *o) {
  pl_attr attrs[PL_MAX_ATTRS];
  int64_t lists[PL_MAX_ATTRS][WIDE];
  int rank = w->b->specs[o[0]].rank, found = 0;
  for (int i = 0; i < pl_attr_count(q->op); i++) {
    attrs[i] = q->attrs[i];
    switch (q->op->attrs[i].kind) {
      case PL_AS_AXIS:
        if (rank == 0) return PL_NONE;
        attrs[i].i += attrs[i].i < 0 ? rank + 1 : 1;
        found++;
        break;
      case PL_AS_AXES:
        attrs[i] = PL_INTS(q->attrs[i].n < 0 ? rank : q->attrs[i].n, lists[i]);
        for (int a = 0; a < attrs[i].n; a++) {
          int64_t axis = q->attrs[i].n < 0 ? a : q->attrs[i].list[a];
          lists[i][a] = axis + (axis < 0 ? rank + 1 : 1);
        }
        found++;
        break;
      case PL_AS_FLAG:
      case PL_AS_INT:
      case PL_AS_REAL:
      case PL_AS_DTYPE: break;
      default: return PL_NONE;
    }
  }
  return found ? pl_apply1(w->c, q->op, 1, &w->values[o[0]], attrs) : PL_NONE;
}

static pl_value transposed(const batch *w, const pl_instruction *q, const uint32_t *o) {
  int64_t order[WIDE] = {0};
  const pl_attr *list = &q->attrs[0];
  int rank = w->b->specs[o[0]].rank;
  for (int a = 0; a < rank; a++) {
    int64_t axis = list->n < 0 ? rank - 1 - a : list->list[a];
    order[a + 1] = axis + (axis < 0 ? rank + 1 : 1);
  }
  return pl_call1(w->c, PL_OP(transpose), w->values[o[0]], &PL_INTS(rank + 1, order));
}

static pl_value broadcast(const batch *w, const uint32_t *o) {
  int64_t shape[WIDE] = {w->n};
  const pl_spec *x = &w->b->specs[o[0]], *y = &w->b->specs[o[1]];
  for (int a = 0; a < y->rank; a++) shape[a + 1] = a < y->rank - x->rank ? 1 : x->shape[a - (y->rank - x->rank)];
  pl_value v = pl_reshape_to(w->c, w->values[o[0]], y->rank + 1, shape);
  shape_of(w, o[1], shape);
  return pl_call1(w->c, PL_OP(broadcast_to), v, &PL_INTS(y->rank + 1, shape));
}

/* slice, slice_add, slice_set: start, step and count of the new axis go in front. */
static pl_value sliced(const batch *w, const pl_instruction *q, const uint32_t *o) {
  int64_t lists[3][WIDE] = {{0}, {1}, {w->n}};
  pl_attr attrs[3];
  pl_value in[2];
  for (int i = 0; i < 3; i++) {
    memcpy(lists[i] + 1, q->attrs[i].list, (size_t)q->attrs[i].n * sizeof *lists[i]);
    attrs[i] = PL_INTS(q->attrs[i].n + 1, lists[i]);
  }
  for (int i = 0; i < q->n_in; i++) in[i] = stacked(w, o[i]);
  return pl_apply1(w->c, q->op, q->n_in, in, attrs);
}

static pl_value joined(const batch *w, const pl_instruction *q, const uint32_t *o) {
  pl_value in[PL_MAX_INPUTS];
  int64_t axis = q->attrs[0].i;
  for (int i = 0; i < q->n_in; i++) in[i] = stacked(w, o[i]);
  return pl_apply1(w->c, q->op, q->n_in, in, &PL_INT(axis + (axis < 0 ? w->b->specs[o[0]].rank + 1 : 1)));
}

/* Indices into entries of m that lie one behind another. One out of its own entry's range must not reach into
 * another's: it becomes one that is out of any range. */
static pl_value shifted(const batch *w, uint32_t v, int64_t m) {
  pl_context *c = w->c;
  pl_value index = stacked(w, v);
  int64_t shape[WIDE] = {w->n};
  int rank = w->b->specs[v].rank + 1;
  for (int a = 1; a < rank; a++) shape[a] = 1;
  pl_value first =
      pl_apply1(c, PL_OP(range), 0, NULL, (pl_attr[]){PL_REALV(0), PL_REALV((double)m), PL_INT(w->n), PL_INT(PL_I64)});
  pl_value moved = PL_BINARY(add, c, index, pl_reshape_to(c, first, rank, shape));
  pl_value fits = PL_BINARY(logical_and, c, PL_BINARY(ge, c, index, pl_like(c, index, 1)),
                            PL_BINARY(le, c, index, pl_like(c, index, (double)m)));
  return PL_WHERE(c, fits, moved, PL_UNARY(neg, c, PL_UNARY(abs, c, index)));
}

/* gather(x, index); add_at(x, index, z), put, max_at, min_at */
static pl_value indexed(const batch *w, const pl_instruction *q, const uint32_t *o) {
  pl_context *c = w->c;
  const pl_spec *x = &w->b->specs[o[0]], *index = &w->b->specs[o[1]];
  bool into = q->n_in == 3;
  int axis = (int)(q->attrs[0].i + (q->attrs[0].i < 0 ? x->rank : 0));
  pl_value in[3];
  if (!w->batched[o[1]]) {
    for (int i = 0; i < q->n_in; i++) in[i] = i == 1 ? w->values[o[1]] : stacked(w, o[i]);
    return pl_apply1(c, q->op, q->n_in, in, &PL_INT(axis + 1));
  }
  if (!into && !w->batched[o[0]]) /* {before, n, index, behind} */
    return exchange(c, pl_call2(c, q->op, w->values[o[0]], w->values[o[1]], &PL_INT(axis)), 0, axis, 1);
  /* the indexed axes of all entries as one, {n m, before, behind} */
  int64_t shape[WIDE], flat[PL_MAX_RANK], m = x->shape[axis];
  shape[0] = w->n;
  shape[1] = m;
  for (int a = 0, k = 2; a < x->rank; a++)
    if (a != axis) shape[k++] = x->shape[a];
  flat[0] = w->n * m;
  for (int a = 1; a < x->rank; a++) flat[a] = shape[a + 1];
  in[0] = pl_reshape_to(c, exchange(c, stacked(w, o[0]), 1, axis, 1), x->rank, flat);
  in[1] = shifted(w, o[1], m);
  if (!into) return exchange(c, pl_call2(c, q->op, in[0], in[1], &PL_INT(0)), 1, index->rank, axis);
  in[2] = exchange(c, stacked(w, o[2]), 1, axis, index->rank);
  pl_value y = pl_apply1(c, q->op, 3, in, &PL_INT(0));
  return exchange(c, pl_reshape_to(c, y, x->rank + 1, shape), 1, 1, axis);
}

static pl_value product(pl_context *c, pl_value a, pl_value b, int64_t ta, int64_t tb) {
  return pl_call2(c, PL_OP(gemm), a, b, (pl_attr[]){PL_INT(ta), PL_INT(tb)});
}

/* Two batched matrices, or stacks, are one stack. A batched matrix times one that is the same for all is one tall
 * product. */
static pl_value multiplied(const batch *w, const pl_instruction *q, const uint32_t *o) {
  pl_context *c = w->c;
  const pl_spec *a = &w->b->specs[o[0]], *b = &w->b->specs[o[1]], *y = &w->b->specs[o[2]];
  int64_t ta = q->attrs[0].i, tb = q->attrs[1].i;
  if (a->rank == 3 || (w->batched[o[0]] && w->batched[o[1]])) {
    int64_t stack = w->n * (a->rank == 3 ? a->shape[0] : 1);
    int ra = a->rank, rb = b->rank;
    pl_value A = pl_reshape_to(c, stacked(w, o[0]), 3, (int64_t[]){stack, a->shape[ra - 2], a->shape[ra - 1]});
    pl_value B = pl_reshape_to(c, stacked(w, o[1]), 3, (int64_t[]){stack, b->shape[rb - 2], b->shape[rb - 1]});
    return reshape_to_entry(w, product(c, A, B, ta, tb), o[2]);
  }
  int64_t m = y->shape[0], p = y->shape[1], k = a->shape[ta ? 0 : 1];
  if (w->batched[o[0]]) {
    pl_value A = ta ? exchange(c, w->values[o[0]], 1, 1, 1) : w->values[o[0]];
    A = pl_reshape_to(c, A, 2, (int64_t[]){w->n * m, k});
    return reshape_to_entry(w, product(c, A, w->values[o[1]], 0, tb), o[2]);
  }
  /* the transpose of it: {n p, k} {k, m} */
  pl_value B = tb ? w->values[o[1]] : exchange(c, w->values[o[1]], 1, 1, 1);
  B = product(c, pl_reshape_to(c, B, 2, (int64_t[]){w->n * p, k}), w->values[o[0]], 0, !ta);
  return exchange(c, pl_reshape_to(c, B, 3, (int64_t[]){w->n, p, m}), 1, 1, 1);
}

/* spmv, solve: right-hand sides {m} or {m, k} become columns of one matrix's. */
static pl_value columns(const batch *w, const pl_instruction *q, const uint32_t *o) {
  pl_context *c = w->c;
  int last = q->n_in - 1;
  const pl_spec *x = &w->b->specs[o[last]], *y = &w->b->specs[o[q->n_in]];
  int64_t k = x->rank == 2 ? x->shape[1] : 1;
  pl_value in[3];
  for (int i = 0; i < last; i++) {
    if (w->batched[o[i]]) return PL_NONE;
    in[i] = w->values[o[i]];
  }
  in[last] = pl_reshape_to(c, exchange(c, w->values[o[last]], 0, 1, 1), 2, (int64_t[]){x->shape[0], w->n * k});
  pl_value v = pl_apply1(c, q->op, q->n_in, in, q->attrs);
  v = pl_reshape_to(c, v, x->rank + 1, (int64_t[]){y->shape[0], w->n, k});
  return exchange(c, v, 0, 1, 1);
}

/* Each entry has a position of its own, in one stream, and parameters. */
static pl_value drawn(const batch *w, const pl_instruction *q, const uint32_t *o) {
  pl_value in[PL_MAX_SAMPLE];
  if (w->batched[o[1]] || w->batched[o[2]]) return PL_NONE;
  in[0] = stacked(w, o[0]);
  for (int i = 1; i < q->n_in; i++) {
    const pl_spec *p = &w->b->specs[o[i]];
    const uint32_t both[] = {o[i], o[q->n_in]};
    in[i] = w->batched[o[i]] ? broadcast(w, both) : i > 2 && p->rank > 0 ? stacked(w, o[i]) : w->values[o[i]];
  }
  return pl_apply1(w->c, q->op, q->n_in, in, q->attrs);
}

/* Inputs that may be batched, no others: their axis of entries is in front of the result's. */
static pl_value in_front(const batch *w, const pl_instruction *q, const uint32_t *o, uint32_t may) {
  pl_value in[PL_MAX_SAMPLE];
  for (int i = 0; i < q->n_in; i++) {
    bool is = may >> i & 1;
    if (w->batched[o[i]] && !is) return PL_NONE;
    in[i] = is ? stacked(w, o[i]) : w->values[o[i]];
  }
  return pl_apply1(w->c, q->op, q->n_in, in, q->attrs);
}
/* Stacks of all entries in one. */
static pl_value longer_stack(const batch *w, const pl_instruction *q, const uint32_t *o) {
  pl_value in[PL_MAX_SAMPLE];
  for (int i = 0; i < q->n_in; i++) {
    int64_t shape[WIDE];
    int rank = shape_of(w, o[i], shape);
    shape[1] *= w->n;
    in[i] = pl_reshape_to(w->c, stacked(w, o[i]), rank - 1, shape + 1);
  }
  return reshape_to_entry(w, pl_apply1(w->c, q->op, q->n_in, in, q->attrs), o[q->n_in]);
}
/* interpolate(values, points along each axis, ...): entries' values are fields; their points are more points. */
static pl_value interpolated(const batch *w, const pl_instruction *q, const uint32_t *o) {
  int axes = q->attrs[1].n;
  pl_value y = in_front(w, q, o, w->batched[o[0]] ? 1 : (2u << axes) - 2);
  return y == PL_NONE || w->batched[o[0]] ? y : exchange(w->c, y, 0, w->b->specs[o[0]].rank - axes, 1);
}

static pl_value by_rule(const batch *w, const pl_instruction *q, const uint32_t *o) {
  const pl_op *op = q->op;
  if (op->step || op->make || q->n_out != 1) return PL_NONE;
  if (op->kind == PL_ELEMENTWISE) return elementwise(w, q, o);
  if (op == PL_OP(cast) || op == PL_OP(identity) || op == PL_OP(stop_gradient))
    return pl_call1(w->c, op, w->values[o[0]], q->attrs);
  if (op == PL_OP(reshape)) return reshape_to_entry(w, w->values[o[0]], o[1]);
  if (op == PL_OP(broadcast_to)) return broadcast(w, o);
  if (op == PL_OP(transpose)) return transposed(w, q, o);
  if (op == PL_OP(slice) || op == PL_OP(slice_add) || op == PL_OP(slice_set)) return sliced(w, q, o);
  if (op == PL_OP(concat)) return joined(w, q, o);
  if (op == PL_OP(gather) || op == PL_OP(add_at) || op == PL_OP(put) || op == PL_OP(max_at) || op == PL_OP(min_at))
    return indexed(w, q, o);
  if (op == PL_OP(gemm)) return multiplied(w, q, o);
  if (op == PL_OP(spmv) || op == PL_OP(factored_solve) || op == PL_OP(sparse_qr_solve)) return columns(w, q, o);
  if (op->draws) return drawn(w, q, o);
  if (op->stacks) return longer_stack(w, q, o);
  if (op->leading) return in_front(w, q, o, op->leading);
  if (op == PL_OP(interpolate)) return interpolated(w, q, o);
  if (op == PL_OP(interpolate_add)) return in_front(w, q, o, 1 | 1 << (q->n_in - 1));
  bool rolls = op == PL_OP(roll) || op == PL_OP(rolling_max) || op == PL_OP(rolling_min);
  if (op->inputs == 1 && (op->kind == PL_REDUCE || op->kind == PL_LINEAR || rolls)) return along_axes(w, q, o);
  if (op == PL_OP(cumprod) || op == PL_OP(argsort) || op == PL_OP(select_places)) return along_axes(w, q, o);
  return PL_NONE;
}

/* ---- programs in programs ---- */

static void keep(batch *w, uint32_t v, pl_value x, bool batched) {
  w->values[v] = x;
  w->batched[v] = batched;
}

static bool call_batched(batch *w, const pl_instruction *q, const uint32_t *o) {
  pl_value in[PL_MAX_INPUTS], out[PL_MAX_OUTPUTS];
  uint8_t flags[PL_MAX_INPUTS];
  for (int i = 0; i < q->n_in; i++) {
    in[i] = w->values[o[i]];
    flags[i] = w->batched[o[i]];
  }
  pl_derived *d = pl_body_batch(w->c, (pl_body *)q->attrs[0].object, w->n, flags, NULL);
  if (!d || !pl_apply(w->c, q->op, q->n_in, in, (pl_attr[]){PL_OBJECT(pl_body_object(d->body)), q->attrs[1]}, out))
    return false;
  for (int i = 0; i < q->n_out; i++) keep(w, o[q->n_in + i], out[i], d->list[i]);
  return true;
}

/* Which outputs depend on flagged inputs. */
static bool reach(pl_context *c, const pl_body *b, const uint8_t *in, uint8_t *out) {
  uint8_t *flags = pl_memory_new(c, (size_t)b->n_values + 1);
  if (!flags) return false;
  memset(flags, 0, (size_t)b->n_values + 1);
  memcpy(flags, in, (size_t)b->n_in);
  for (int64_t k = 0; k < b->code.n; k++) {
    const pl_instruction *q = &b->code.instructions[k];
    const uint32_t *o = b->code.operands + q->operands;
    uint8_t any = 0;
    for (int i = 0; i < q->n_in; i++) any |= flags[o[i]];
    for (int i = q->n_in; i < q->n_in + q->n_out; i++) flags[o[i]] = any;
  }
  for (int i = 0; i < b->n_out; i++) out[i] = flags[b->outputs[i]];
  pl_memory_free(c, flags);
  return true;
}

/* A loop over entries is a loop whose step works on all of them. Its layout: states, xs, ys, length, reverse, save
 * (ops/control.c). */
static bool scan_batched(batch *w, const pl_instruction *q, const uint32_t *o) {
  pl_context *c = w->c;
  pl_body *b = (pl_body *)q->attrs[0].object;
  int states = (int)q->attrs[1].list[0], xs = (int)q->attrs[1].list[1], ys = (int)q->attrs[1].list[2];
  uint8_t in_flags[PL_MAX_INPUTS], out_flags[PL_MAX_OUTPUTS];
  pl_value in[PL_MAX_INPUTS], out[PL_MAX_OUTPUTS];
  for (int i = 0; i < q->n_in; i++) in_flags[i] = w->batched[o[i]];
  bool grew = true;
  while (grew) { /* a state is batched as soon as a step makes it so */
    grew = false;
    if (!reach(c, b, in_flags, out_flags)) return false;
    for (int i = 0; i < states; i++)
      if (out_flags[i] && !in_flags[i]) in_flags[i] = grew = true;
  }
  for (int i = 0; i < states; i++) out_flags[i] = in_flags[i];
  for (int i = states; i < b->n_out; i++) out_flags[i] = 0;
  pl_derived *d = pl_body_batch(c, b, w->n, in_flags, out_flags);
  if (!d) return false;
  for (int i = 0; i < q->n_in; i++) {
    in[i] = i < states && in_flags[i] ? stacked(w, o[i]) : w->values[o[i]];
    if (i >= states && i < states + xs && in_flags[i]) in[i] = exchange(c, in[i], 0, 1, 1); /* steps first */
  }
  if (!pl_apply(c, q->op, q->n_in, in, (pl_attr[]){PL_OBJECT(pl_body_object(d->body)), q->attrs[1], q->attrs[2]}, out))
    return false;
  for (int i = 0; i < q->n_out; i++) {
    bool is = d->list[i < states + ys ? i : i - states - ys]; /* behind the ys, checkpoints of the states */
    keep(w, o[q->n_in + i], is && i >= states ? exchange(c, out[i], 0, 1, 1) : out[i], is);
  }
  return c->status == PL_OK;
}

/* ---- what has no rule ---- */

static void choose(batch *w, int64_t k) {
  if (w->chosen[k]) return;
  w->chosen[k] = 1;
  const pl_instruction *q = &w->b->code.instructions[k];
  const uint32_t *o = w->b->code.operands + q->operands;
  for (int i = 0; i < q->n_in; i++)
    if (w->batched[o[i]] && is_resource(w, o[i])) choose(w, w->maker[o[i]]);
}

/* Instruction k for one entry after another. With it go those that make the resources it reads, for a resource cannot
 * be stacked; that is also why one which makes nothing else is left for later. */
static bool one_by_one(batch *w, int64_t k) {
  pl_context *c = w->c;
  const pl_body *b = w->b;
  const pl_instruction *last = &b->code.instructions[k];
  const uint32_t *made = b->code.operands + last->operands + last->n_in;
  uint32_t ids[PL_MAX_INPUTS], results[PL_MAX_OUTPUTS];
  pl_value in[PL_MAX_INPUTS], out[PL_MAX_OUTPUTS], traced[PL_MAX_INPUTS];
  pl_spec specs[PL_MAX_INPUTS];
  int n_in = 0, n_xs = 0, n_out = 0;
  for (int i = 0; i < last->n_out; i++) {
    keep(w, made[i], PL_NONE, true);
    if (!is_resource(w, made[i])) results[n_out++] = made[i];
  }
  if (n_out == 0) return true;
  memset(w->chosen, 0, (size_t)k + 1);
  choose(w, k);
  memset(w->inner, 0, (size_t)b->n_values * sizeof *w->inner);
  for (int pass = 0; pass < 2; pass++) { /* batched first: they are walked along */
    for (int64_t j = 0; j <= k; j++) {
      const pl_instruction *q = &b->code.instructions[j];
      const uint32_t *o = b->code.operands + q->operands;
      for (int i = 0; w->chosen[j] && i < q->n_in; i++) {
        uint32_t v = o[i];
        if (w->inner[v] || w->batched[v] == pass || (w->batched[v] && is_resource(w, v))) continue;
        if (n_in == PL_MAX_INPUTS) {
          pl_error(c, PL_ERROR_ARGUMENT, "map: %s reads too many tensors", last->op->name);
          return false;
        }
        w->inner[v] = PL_ZERO; /* seen */
        specs[n_in] = b->specs[v];
        in[n_in] = w->values[v];
        ids[n_in++] = v;
      }
    }
    if (!pass) n_xs = n_in;
  }
  pl_tape *t = pl_trace_open(c, n_in, specs, traced);
  if (!t) return false;
  for (int i = 0; i < n_in; i++) w->inner[ids[i]] = traced[i];
  bool ok = true;
  for (int64_t j = 0; ok && j <= k; j++) {
    if (!w->chosen[j]) continue;
    const pl_instruction *q = &b->code.instructions[j];
    const uint32_t *o = b->code.operands + q->operands;
    pl_value read[PL_MAX_INPUTS], write[PL_MAX_OUTPUTS];
    for (int i = 0; i < q->n_in; i++) read[i] = w->inner[o[i]];
    c->line = q->line;
    ok = pl_apply(c, q->op, q->n_in, read, q->attrs, write);
    for (int i = 0; ok && i < q->n_out; i++) w->inner[o[q->n_in + i]] = write[i];
  }
  for (int i = 0; i < n_out; i++) out[i] = w->inner[results[i]];
  pl_body *one = ok ? pl_trace_close(c, t, n_out, out, true, 0, NULL, NULL) : NULL;
  pl_trace_abandon(c, t);
  pl_tape_free(c, t);
  if (!one) return false;
  c->line = last->line;
  int64_t layout[] = {0, n_xs, n_out, w->n, 0, 0};
  ok = pl_apply(c, PL_OP(scan), n_in, in,
                (pl_attr[]){PL_OBJECT(pl_body_object(one)), PL_INTS(6, layout), PL_INTS(0, NULL)}, out);
  pl_body_release(one);
  for (int i = 0; ok && i < n_out; i++) keep(w, results[i], out[i], true);
  return ok;
}

/* ---- the body ---- */

static bool instruction(batch *w, int64_t k) {
  pl_context *c = w->c;
  const pl_instruction *q = &w->b->code.instructions[k];
  const uint32_t *o = w->b->code.operands + q->operands;
  bool any = false, resources = false;
  c->line = q->line;
  for (int i = 0; i < q->n_in; i++) {
    any = any || w->batched[o[i]];
    resources = resources || (w->batched[o[i]] && is_resource(w, o[i]));
  }
  if (!any) {
    pl_value in[PL_MAX_INPUTS], out[PL_MAX_OUTPUTS];
    for (int i = 0; i < q->n_in; i++) in[i] = w->values[o[i]];
    if (!pl_apply(c, q->op, q->n_in, in, q->attrs, out)) return false;
    for (int i = 0; i < q->n_out; i++) keep(w, o[q->n_in + i], out[i], false);
    return true;
  }
  for (int i = q->n_in; i < q->n_in + q->n_out; i++) {
    const pl_spec *s = &w->b->specs[o[i]];
    char text[PL_TEXT];
    resources = resources || is_resource(w, o[i]);
    if (s->dtype == PL_DTYPES || s->rank < PL_MAX_RANK) continue;
    pl_error(c, PL_ERROR_SHAPE,
             "map: %s makes a tensor of shape %s of each entry; the axis of entries would be its ninth", q->op->name,
             pl_shape_text(text, s->rank, s->shape));
    return false;
  }
  if (resources) return one_by_one(w, k);
  if (q->op == PL_OP(call)) return call_batched(w, q, o);
  if (q->op == PL_OP(scan)) return scan_batched(w, q, o);
  pl_value v = by_rule(w, q, o);
  if (c->status) return false;
  if (v == PL_NONE) return one_by_one(w, k);
  keep(w, o[q->n_in], v, true);
  return true;
}

static bool batch_new(pl_context *c, const pl_body *b, int64_t n, batch *w) {
  size_t v = (size_t)b->n_values + 1, k = (size_t)b->code.n + 1;
  *w = (batch){.c = c, .b = b, .n = n};
  char *p = w->block = pl_memory_new(c, v * (2 * sizeof(pl_value) + sizeof(int32_t) + 1) + k);
  if (!p) return false;
  w->values = (pl_value *)p;
  w->inner = w->values + v;
  w->maker = (int32_t *)(w->inner + v);
  w->batched = (uint8_t *)(w->maker + v);
  w->chosen = w->batched + v;
  memset(w->maker, -1, v * sizeof *w->maker);
  memset(w->batched, 0, v);
  for (int64_t j = 0; j < b->code.n; j++) {
    const pl_instruction *q = &b->code.instructions[j];
    for (int i = q->n_in; i < q->n_in + q->n_out; i++)
      w->maker[b->code.operands[q->operands + (uint32_t)i]] = (int32_t)j;
  }
  return true;
}

pl_derived *pl_body_batch(pl_context *c, pl_body *b, int64_t n, const uint8_t *flags, const uint8_t *wanted) {
  if (c->status) return NULL;
  int words = 1 + (b->n_in + b->n_out + 63) / 64;
  uint64_t *key = pl_memory_new(c, (size_t)words * sizeof *key);
  if (!key) return NULL;
  memset(key, 0, (size_t)words * sizeof *key);
  key[0] = (uint64_t)n;
  for (int i = 0; i < b->n_in + b->n_out; i++)
    if (i < b->n_in ? flags[i] : wanted && wanted[i - b->n_in]) key[1 + i / 64] |= (uint64_t)1 << i % 64;
  pl_derived *d = pl_derived_find(b, DERIVED_BATCH, words, key);
  batch w = {0};
  pl_spec *specs = NULL;
  pl_value *outputs = NULL;
  int32_t *list = NULL;
  pl_tape *t = NULL;
  if (d || !batch_new(c, b, n, &w)) goto done;
  specs = pl_memory_new(c, ((size_t)b->n_in + 1) * sizeof *specs);
  outputs = pl_memory_new(c, ((size_t)b->n_out + 1) * sizeof *outputs);
  list = pl_memory_new(c, ((size_t)b->n_out + 1) * sizeof *list);
  if (!specs || !outputs || !list) goto done;
  for (int i = 0; i < b->n_in; i++) {
    specs[i] = b->specs[i];
    w.batched[i] = flags[i] != 0;
    if (!flags[i]) continue;
    if (specs[i].dtype == PL_DTYPES || specs[i].rank == PL_MAX_RANK) {
      pl_error(c, PL_ERROR_SHAPE, "map: input %d cannot have a further axis", i + 1);
      goto done;
    }
    memmove(specs[i].shape + 1, specs[i].shape, (size_t)specs[i].rank * sizeof *specs[i].shape);
    specs[i].shape[0] = (int32_t)n;
    specs[i].rank++;
  }
  t = pl_trace_open(c, b->n_in, specs, w.values);
  if (!t) goto done;
  memcpy(w.values + b->n_in, b->constants, (size_t)b->n_constants * sizeof *w.values);
  uint32_t saved = c->line;
  bool ok = true;
  for (int64_t k = 0; ok && k < b->code.n; k++) ok = instruction(&w, k);
  c->line = saved;
  for (int i = 0; ok && i < b->n_out; i++) {
    uint32_t v = b->outputs[i];
    if (w.batched[v] && is_resource(&w, v)) {
      pl_error(c, PL_ERROR_TYPE, "map: a matrix factor of each entry cannot be a result");
      break;
    }
    list[i] = w.batched[v] || (wanted && wanted[i]);
    outputs[i] = list[i] ? stacked(&w, v) : w.values[v];
  }
  if (ok && !c->status) {
    pl_body *made = pl_trace_close(c, t, b->n_out, outputs, true, 0, NULL, NULL);
    if (made) d = pl_derived_keep(c, b, DERIVED_BATCH, words, key, made, b->n_out, list);
  }
done:
  if (t) {
    pl_trace_abandon(c, t);
    pl_tape_free(c, t);
  }
  pl_memory_free(c, w.block);
  pl_memory_free(c, specs);
  pl_memory_free(c, outputs);
  pl_memory_free(c, list);
  pl_memory_free(c, key);
  return d;
}

pl_body *pl_body_mapped(pl_context *c, pl_body *b, int64_t n, const uint8_t *flags) {
  bool any = false;
  for (int i = 0; i < b->n_in; i++) any = any || flags[i];
  if (!any || n < 0 || n > INT32_MAX) {
    pl_error(c, PL_ERROR_ARGUMENT, "map: %lld entries along %s", (long long)n, any ? "the first axis" : "no input");
    return NULL;
  }
  uint8_t *wanted = pl_memory_new(c, (size_t)b->n_out + 1);
  if (!wanted) return NULL;
  memset(wanted, 1, (size_t)b->n_out + 1);
  pl_derived *d = pl_body_batch(c, b, n, flags, wanted);
  pl_memory_free(c, wanted);
  if (d) pl_object_retain(&d->body->base);
  return d ? d->body : NULL;
}
