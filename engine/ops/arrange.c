/* arrange.c: repeating, triangles, diagonals, products of all pairs: composites of moves, which have the
 * derivatives. */
#include <math.h>
#include <string.h>

#include "../op.h"

#define UNUSED (void)op, (void)n, (void)attrs

/* A copy of the shape: slots move when values are made. False: an error is set. */
static bool shape_of(pl_context *c, pl_value x, pl_slot *copy) {
  pl_slot *s = pl_slot_get(c, x);
  if (s) *copy = *s;
  return s != NULL;
}
static int axis_of(pl_context *c, const pl_op *op, const pl_value *in, int64_t axis, int rank) {
  pl_slot *s = pl_slot_get(c, in[0]);
  pl_call call = {c, op, 1, &s, in, NULL};
  return pl_axis(&call, axis, rank);
}
/* x with size r along an axis that had another. */
static pl_value with_size(pl_context *c, pl_value x, const pl_slot *like, int axis, int64_t r) {
  int64_t shape[PL_MAX_RANK];
  for (int a = 0; a < like->rank; a++) shape[a] = a == axis ? r : like->shape[a];
  return pl_reshape_to(c, x, like->rank, shape);
}
static pl_value spread(pl_context *c, pl_value x, int rank, const int64_t *shape) {
  return pl_call1(c, PL_OP(broadcast_to), x, &PL_INTS(rank, shape));
}
static bool done(pl_value out) { return out != PL_NONE; }
/* Is it a number of times? */
static bool count_fits(pl_context *c, const pl_op *op, int64_t n) {
  if (n >= 0 && n <= INT32_MAX) return true;
  pl_error(c, PL_ERROR_ARGUMENT, "%s: %lld is no number of times", op->name, (long long)n);
  return false;
}

PL_EXPAND(tile) { /* axis by axis: {outer, r inner} -> {outer, times, r inner} */
  (void)n;
  pl_slot x;
  if (!shape_of(c, in[0], &x)) return false;
  int times = attrs[0].n, rank = times > x.rank ? times : x.rank;
  int64_t shape[PL_MAX_RANK];
  if (rank > PL_MAX_RANK) {
    pl_error(c, PL_ERROR_SHAPE, "tile: %d axes; at most %d are possible", rank, PL_MAX_RANK);
    return false;
  }
  for (int a = 0; a < rank; a++) shape[a] = a < rank - x.rank ? 1 : x.shape[a - (rank - x.rank)];
  pl_value v = pl_reshape_to(c, in[0], rank, shape);
  for (int a = rank - times; a < rank; a++) {
    int64_t k = attrs[0].list[a - (rank - times)], outer = 1, inner = 1;
    if (c->status || !count_fits(c, op, k)) return false;
    for (int b = 0; b < a; b++) outer *= shape[b];
    for (int b = a; b < rank; b++) inner *= shape[b];
    if (k != 1) {
      v = spread(c, pl_reshape_to(c, v, 3, (int64_t[]){outer, 1, inner}), 3, (int64_t[]){outer, k, inner});
      shape[a] *= k;
      v = pl_reshape_to(c, v, rank, shape);
    }
  }
  return done(out[0] = v);
}
PL_EXPAND(repeat_interleave) {
  (void)n;
  pl_slot x;
  int64_t k = attrs[0].i, outer, r, inner;
  if (!shape_of(c, in[0], &x)) return false;
  int axis = axis_of(c, op, in, attrs[1].i, x.rank);
  if (axis < 0) return false;
  if (!count_fits(c, op, k)) return false;
  pl_split_axis(&x, axis, &outer, &r, &inner);
  int64_t rows = outer * r;
  pl_value v = spread(c, pl_reshape_to(c, in[0], 3, (int64_t[]){rows, 1, inner}), 3, (int64_t[]){rows, k, inner});
  return done(out[0] = with_size(c, v, &x, axis, k * r));
}
/* ---- triangles and diagonals of the last two axes ---- */

/* A diagonal outside of every matrix is as good as any other. */
static int64_t bounded(int64_t offset) {
  return offset > INT32_MAX ? INT32_MAX : offset < -INT32_MAX ? -INT32_MAX : offset;
}

static bool matrices(pl_context *c, const pl_op *op, const pl_value *in, pl_slot *x) {
  if (!shape_of(c, in[0], x)) return false;
  if (x->rank >= 2) return true;
  pl_slot *s = pl_slot_get(c, in[0]);
  pl_call call = {c, op, 1, &s, in, NULL};
  pl_shape_error(&call, "matrices are needed, on the last two axes");
  return false;
}
static bool triangle(pl_context *c, const pl_op *op, const pl_value *in, int64_t k, bool lower, pl_value *out) {
  pl_slot x;
  if (!matrices(c, op, in, &x)) return false;
  int64_t m = x.shape[x.rank - 2], columns = x.shape[x.rank - 1];
  pl_attr rows[] = {PL_REALV((double)bounded(k)), PL_REALV(1), PL_INT(m), PL_INT(PL_I64)},
          across[] = {PL_REALV(0), PL_REALV(1), PL_INT(columns), PL_INT(PL_I64)};
  pl_value i = pl_reshape_to(c, pl_apply1(c, PL_OP(range), 0, NULL, rows), 2, (int64_t[]){m, 1}); /* row + k */
  pl_value j = pl_apply1(c, PL_OP(range), 0, NULL, across);
  pl_value inside = lower ? PL_BINARY(le, c, j, i) : PL_BINARY(ge, c, j, i);
  return done(*out = PL_WHERE(c, inside, in[0], pl_like(c, in[0], 0)));
}
PL_EXPAND(tril) {
  (void)n;
  return triangle(c, op, in, attrs[0].i, true, out);
}
PL_EXPAND(triu) {
  (void)n;
  return triangle(c, op, in, attrs[0].i, false, out);
}
PL_EXPAND(diagonal) { /* every (columns + 1)-th of the rows laid end to end */
  (void)n;
  pl_slot x;
  if (!matrices(c, op, in, &x)) return false;
  int rank = x.rank - 1;
  int64_t m = x.shape[rank - 1], q = x.shape[rank], k = bounded(attrs[0].i);
  int64_t length = k >= 0 ? (m < q - k ? m : q - k) : (m + k < q ? m + k : q), first = k >= 0 ? k : -k * q;
  int64_t shape[PL_MAX_RANK];
  if (length < 0) length = 0;
  for (int a = 0; a < rank; a++) shape[a] = x.shape[a];
  shape[rank - 1] = m * q;
  pl_value flat = pl_reshape_to(c, in[0], rank, shape);
  return done(out[0] = pl_part(c, flat, rank - 1, length ? first : 0, q + 1, length));
}
PL_EXPAND(trace) {
  (void)n, (void)op;
  pl_value d = pl_call1(c, PL_OP(diagonal), in[0], attrs);
  int64_t last = -1;
  return done(out[0] = pl_call1(c, PL_OP(sum), d, (pl_attr[]){PL_INTS(1, &last), PL_INT(0)}));
}
PL_EXPAND(diag) {
  (void)n;
  pl_slot x;
  if (!shape_of(c, in[0], &x)) return false;
  if (x.rank == 2) return done(out[0] = pl_call1(c, PL_OP(diagonal), in[0], attrs));
  if (x.rank != 1) {
    pl_slot *s = pl_slot_get(c, in[0]);
    pl_call call = {c, op, 1, &s, in, NULL};
    pl_shape_error(&call, "it takes a vector, or a matrix");
    return false;
  }
  int64_t k = bounded(attrs[0].i), size = x.shape[0] + (k < 0 ? -k : k);
  if (size * size > INT32_MAX) {
    pl_error(c, PL_ERROR_ARGUMENT, "%s: a matrix of %lld rows has too many elements", op->name, (long long)size);
    return false;
  }
  int64_t flat = size * size;
  int64_t start = x.shape[0] ? (k < 0 ? -k * size : k) : 0, step = size + 1, count = x.shape[0];
  pl_value both[] = {pl_apply1(c, PL_OP(zeros), 0, NULL, (pl_attr[]){PL_INTS(1, &flat), PL_INT(x.dtype)}), in[0]};
  pl_attr region[] = {PL_INTS(1, &start), PL_INTS(1, &step), PL_INTS(1, &count)};
  pl_value v = pl_apply1(c, PL_OP(slice_set), 2, both, region);
  return done(out[0] = pl_reshape_to(c, v, 2, (int64_t[]){size, size}));
}

/* ---- all pairs ---- */

PL_EXPAND(outer) {
  UNUSED;
  pl_slot x, z;
  if (!shape_of(c, in[0], &x) || !shape_of(c, in[1], &z)) return false;
  return done(out[0] = PL_BINARY(mul, c, pl_reshape_to(c, in[0], 2, (int64_t[]){x.count, 1}),
                                 pl_reshape_to(c, in[1], 2, (int64_t[]){1, z.count})));
}
PL_EXPAND(kron) {
  pl_slot x, z;
  if (!shape_of(c, in[0], &x) || !shape_of(c, in[1], &z)) return false;
  (void)n, (void)attrs;
  if (x.rank != 2 || z.rank != 2) {
    pl_slot *s[] = {pl_slot_get(c, in[0]), pl_slot_get(c, in[1])};
    pl_call call = {c, op, 2, s, in, NULL};
    pl_shape_error(&call, "two matrices are needed");
    return false;
  }
  pl_value a = pl_reshape_to(c, in[0], 4, (int64_t[]){x.shape[0], 1, x.shape[1], 1}),
           b = pl_reshape_to(c, in[1], 4, (int64_t[]){1, z.shape[0], 1, z.shape[1]});
  int64_t shape[] = {(int64_t)x.shape[0] * z.shape[0], (int64_t)x.shape[1] * z.shape[1]};
  return done(out[0] = pl_reshape_to(c, PL_BINARY(mul, c, a, b), 2, shape));
}

/* ---- axes ---- */

PL_EXPAND(unsqueeze) {
  (void)n;
  pl_slot x;
  if (!shape_of(c, in[0], &x)) return false;
  int axis = axis_of(c, op, in, attrs[0].i, x.rank + 1);
  if (axis < 0) return false;
  if (x.rank == PL_MAX_RANK) {
    pl_error(c, PL_ERROR_SHAPE, "unsqueeze: at most %d axes are possible", PL_MAX_RANK);
    return false;
  }
  int64_t shape[PL_MAX_RANK];
  for (int a = 0, b = 0; a <= x.rank; a++) shape[a] = a == axis ? 1 : x.shape[b++];
  return done(out[0] = pl_reshape_to(c, in[0], x.rank + 1, shape));
}
PL_EXPAND(squeeze) {
  (void)n;
  pl_slot x;
  if (!shape_of(c, in[0], &x)) return false;
  pl_slot *s = pl_slot_get(c, in[0]);
  pl_call call = {c, op, 1, &s, in, attrs};
  uint32_t set;
  if (!pl_axes(&call, &attrs[0], x.rank, &set)) return false;
  int64_t shape[PL_MAX_RANK];
  int rank = 0;
  for (int a = 0; a < x.rank; a++) {
    bool named = set >> a & 1;
    if (named && attrs[0].n >= 0 && x.shape[a] != 1) {
      char text[PL_TEXT];
      pl_error(c, PL_ERROR_SHAPE, "squeeze: axis %d of shape %s has %d elements, not one", a + 1,
               pl_shape_text(text, x.rank, x.shape), x.shape[a]);
      return false;
    }
    if (!named || x.shape[a] != 1) shape[rank++] = x.shape[a];
  }
  return done(out[0] = pl_reshape_to(c, in[0], rank, shape));
}
PL_EXPAND(expand) {
  (void)n;
  pl_slot x;
  if (!shape_of(c, in[0], &x)) return false;
  int64_t shape[PL_MAX_RANK], ones[PL_MAX_RANK];
  int rank = x.rank + attrs[0].n;
  if (rank > PL_MAX_RANK) {
    pl_error(c, PL_ERROR_SHAPE, "%s: %d axes; at most %d are possible", op->name, rank, PL_MAX_RANK);
    return false;
  }
  for (int a = 0; a < rank; a++) {
    ones[a] = a < x.rank ? x.shape[a] : 1;
    shape[a] = a < x.rank ? x.shape[a] : attrs[0].list[a - x.rank];
  }
  return done(out[0] = spread(c, pl_reshape_to(c, in[0], rank, ones), rank, shape));
}
PL_EXPAND(take) {
  UNUSED;
  pl_value both[] = {PL_UNARY(ravel, c, in[0]), in[1]};
  return done(out[0] = pl_apply1(c, PL_OP(gather), 2, both, &PL_INT(0)));
}
PL_EXPAND(rms) { /* by the norm, whose derivative is 0 at 0 */
  (void)n;
  pl_slot x, y;
  if (!shape_of(c, in[0], &x)) return false;
  pl_value v = pl_floats(c, in[0]), s = pl_call1(c, PL_OP(norm2), v, attrs);
  if (!shape_of(c, s, &y)) return false;
  if (x.count == 0 && y.count > 0) {
    pl_error(c, PL_ERROR_SHAPE, "%s of no elements", op->name);
    return false;
  }
  double each = y.count ? (double)x.count / (double)y.count : 1;
  return done(out[0] = PL_BINARY(div, c, s, pl_like(c, s, sqrt(each))));
}

/* ---- margins: attribute width, one number for every side, one an axis, or two an axis (before, after) ---- */

static bool pad_widths(pl_context *c, const pl_op *op, const pl_slot *x, const pl_attr *width, int64_t *before,
                       int64_t *after) {
  int rank = x->rank, given = width->n;
  char text[PL_TEXT];
  if (given != 1 && given != rank && given != 2 * rank) {
    pl_error(c, PL_ERROR_ARGUMENT,
             "%s: the width is one number, one an axis, or {before, after} for each axis of shape %s", op->name,
             pl_shape_text(text, rank, x->shape));
    return false;
  }
  for (int a = 0; a < rank; a++) {
    before[a] = width->list[given == 1 ? 0 : given == rank ? a : 2 * a];
    after[a] = width->list[given == 1 ? 0 : given == rank ? a : 2 * a + 1];
    if (before[a] < 0 || after[a] < 0 || before[a] > INT32_MAX || after[a] > INT32_MAX) {
      pl_error(c, PL_ERROR_ARGUMENT, "%s: widths of %lld and %lld on axis %d are not possible", op->name,
               (long long)before[a], (long long)after[a], a + 1);
      return false;
    }
  }
  return true;
}
PL_EXPAND(pad) {
  (void)n;
  pl_slot x;
  int64_t start[PL_MAX_RANK], after[PL_MAX_RANK], step[PL_MAX_RANK], count[PL_MAX_RANK], shape[PL_MAX_RANK];
  if (!shape_of(c, in[0], &x) || !pad_widths(c, op, &x, &attrs[0], start, after)) return false;
  for (int a = 0; a < x.rank; a++) {
    step[a] = 1;
    count[a] = x.shape[a];
    shape[a] = start[a] + count[a] + after[a];
  }
  pl_value base = spread(c, pl_like(c, in[0], attrs[1].r), x.rank, shape);
  return done(out[0] = pl_call2(c, PL_OP(slice_set), base, in[0],
                                (pl_attr[]){PL_INTS(x.rank, start), PL_INTS(x.rank, step), PL_INTS(x.rank, count)}));
}
/* Axis by axis: what `margin` makes in front and behind, of at most m - `short_by` entries (any number: -1). */
typedef pl_value pad_margin(pl_context *c, pl_value x, const pl_slot *shape, int axis, int64_t width, bool behind);
static bool pad_by(pl_context *c, const pl_op *op, const pl_value *in, const pl_attr *attrs, pad_margin *margin,
                   int64_t short_by, pl_value *out) {
  pl_slot x;
  int64_t width[2][PL_MAX_RANK];
  if (!shape_of(c, in[0], &x) || !pad_widths(c, op, &x, &attrs[0], width[0], width[1])) return false;
  pl_value y = in[0];
  for (int a = 0; a < x.rank; a++) {
    pl_value parts[3];
    int k = 0;
    if (!shape_of(c, y, &x)) return false;
    for (int behind = 0; behind < 2; behind++) {
      int64_t w = width[behind][a];
      if (behind) parts[k++] = y;
      if (w > 0 && (x.shape[a] == 0 || (short_by >= 0 && w > x.shape[a] - short_by))) {
        pl_error(c, PL_ERROR_ARGUMENT, "%s: a margin of %lld is too wide for the %d elements of axis %d", op->name,
                 (long long)w, x.shape[a], a + 1);
        return false;
      }
      if (w > 0) parts[k++] = margin(c, y, &x, a, w, behind);
    }
    if (k > 1) y = pl_apply1(c, PL_OP(concat), k, parts, &PL_INT(a));
  }
  return done(out[0] = y == in[0] ? PL_UNARY(identity, c, y) : y);
}
static pl_value wrap_margin(pl_context *c, pl_value x, const pl_slot *s, int axis, int64_t w, bool behind) {
  return pl_part(c, x, axis, behind ? 0 : s->shape[axis] - w, 1, w);
}
static pl_value reflect_margin(pl_context *c, pl_value x, const pl_slot *s, int axis, int64_t w, bool behind) {
  return pl_part(c, x, axis, behind ? s->shape[axis] - 2 : w, -1, w);
}
static pl_value edge_margin(pl_context *c, pl_value x, const pl_slot *s, int axis, int64_t w, bool behind) {
  int64_t shape[PL_MAX_RANK];
  for (int a = 0; a < s->rank; a++) shape[a] = a == axis ? w : s->shape[a];
  return spread(c, pl_part(c, x, axis, behind ? s->shape[axis] - 1 : 0, 1, 1), s->rank, shape);
}
PL_EXPAND(pad_wrap) { return (void)n, pad_by(c, op, in, attrs, wrap_margin, 0, out); }
PL_EXPAND(pad_reflect) { return (void)n, pad_by(c, op, in, attrs, reflect_margin, 1, out); }
PL_EXPAND(pad_edge) { return (void)n, pad_by(c, op, in, attrs, edge_margin, -1, out); }

/* ---- samples ---- */

static bool tensors(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  s->n = 1;
  if (k == 0) s->in[0] = pl_sample_tensor(c, r, 0.5, 1.5, 2, 3, 4);
  if (k == 1) s->in[0] = pl_sample_tensor(c, r, 0.5, 1.5, 3, 2, 3, 3);
  if (k == 2) s->in[0] = pl_sample_tensor(c, r, 0.5, 1.5, 2, 4, 1);
  return k <= 2;
}
PL_SAMPLE(tile) {
  if (k == 0) PL_SAMPLE_LIST(0, 2, 3);
  if (k == 1) PL_SAMPLE_LIST(0, 2);
  if (k == 2) PL_SAMPLE_LIST(0, 2, 1, 3);
  return tensors(c, r, k, s);
}
PL_SAMPLE(repeat) {
  s->attrs[0] = PL_INT(k + 1);
  s->attrs[1] = PL_INT(k == 1 ? 1 : -1);
  return tensors(c, r, k, s);
}
PL_SAMPLE(offset) {
  s->attrs[0] = PL_INT(k == 0 ? 0 : k == 1 ? 1 : -1);
  return tensors(c, r, k, s);
}
PL_SAMPLE(diag) {
  s->n = 1;
  s->attrs[0] = PL_INT(k == 0 ? 0 : k == 1 ? 2 : -1);
  s->in[0] = k < 2 ? pl_sample_tensor(c, r, -1, 1, 1, 4) : pl_sample_tensor(c, r, -1, 1, 2, 3, 4);
  return k <= 2;
}
PL_SAMPLE(pairs) {
  if (k > 0) return false;
  s->n = 2;
  s->in[0] = pl_sample_tensor(c, r, -1, 1, 2, 2, 3);
  s->in[1] = pl_sample_tensor(c, r, -1, 1, 2, 3, 2);
  return true;
}
PL_SAMPLE(unsqueeze) {
  s->attrs[0] = PL_INT(k - 1);
  return tensors(c, r, k, s);
}
PL_SAMPLE(squeeze) {
  s->attrs[0] = PL_INTS(-1, NULL);
  if (k == 2) PL_SAMPLE_LIST(0, 1);
  return tensors(c, r, k, s);
}
PL_SAMPLE(expand) {
  PL_SAMPLE_LIST(0, 2, 3);
  return tensors(c, r, k, s);
}
PL_SAMPLE(take) {
  if (!tensors(c, r, k, s)) return false;
  s->in[s->n++] = pl_tensor(c, PL_I64, 2, (int64_t[]){2, 2}, (int64_t[]){1, 3, 3, 4});
  return true;
}
PL_SAMPLE(rms) {
  s->attrs[0] = PL_INTS(-1, NULL);
  if (k == 1) PL_SAMPLE_LIST(0, 0, 2);
  s->attrs[1] = PL_INT(k == 1);
  return tensors(c, r, k, s);
}

PL_SAMPLE(pad) {
  s->n = 1;
  s->attrs[1] = PL_REALV(k == 1 ? 2.5 : 0);
  if (k == 0) s->in[0] = pl_sample_tensor(c, r, -1, 1, 2, 3, 5), PL_SAMPLE_LIST(0, 1);
  if (k == 1) s->in[0] = pl_sample_tensor(c, r, -1, 1, 2, 4, 3), PL_SAMPLE_LIST(0, 0, 2, 1, 0);
  if (k == 2) s->in[0] = pl_sample_tensor(c, r, -1, 1, 1, 0), PL_SAMPLE_LIST(0, 2);
  return k <= 2;
}
PL_SAMPLE(margin) {
  s->n = 1;
  if (k == 0) s->in[0] = pl_sample_tensor(c, r, -1, 1, 2, 3, 5), PL_SAMPLE_LIST(0, 2);
  if (k == 1) s->in[0] = pl_sample_tensor(c, r, -1, 1, 2, 4, 3), PL_SAMPLE_LIST(0, 0, 2, 1, 0);
  if (k == 2) s->in[0] = pl_sample_tensor(c, r, -1, 1, 0), PL_SAMPLE_LIST(0, 2);
  if (k == 3) s->in[0] = pl_sample_tensor(c, r, -1, 1, 1, 3), PL_SAMPLE_LIST(0, 0);
  return k <= 3;
}

#define ARRANGE(op, text, inputs_, smp)                                                                       \
  .name = #op, .formula = text, .kind = PL_COMPOSITE, .inputs = inputs_, .outputs = 1, .expand = op##_expand, \
  .sample = smp##_sample
#define OFFSET                        \
  {                                   \
    { "offset", PL_AS_INT, false, 0 } \
  }

#define WIDTH \
  { "width", PL_AS_INTS, true, 0 }
#define PADDED "{m, ...} -> {before + m + after, ...}"
#define SIDES ": width for all sides, one an axis, or before and after for each axis"

pl_op pl_ops_arrange[] = {
    {ARRANGE(tile, "repeated as a whole, so many times along each axis (of the last ones, or new leading ones)", 1,
             tile),
     .shapes = "{n1, ...} -> {times1 n1, ...}", .attrs = {{"times", PL_AS_INTS, true, 0}}},
    {ARRANGE(repeat_interleave, "each element n times along an axis (the last by default)", 1, repeat),
     .shapes = "{..., m, ...} -> {..., n m, ...}",
     .attrs = {{"n", PL_AS_INT, true, 0}, {"axis", PL_AS_AXIS, false, -1}}},
    {ARRANGE(tril, "the lower triangle of matrices, 0 above the diagonal `offset`", 1, offset),
     .shapes = "{..., m, n} -> {..., m, n}", .attrs = OFFSET},
    {ARRANGE(triu, "the upper triangle of matrices, 0 below the diagonal `offset`", 1, offset),
     .shapes = "{..., m, n} -> {..., m, n}", .attrs = OFFSET},
    {ARRANGE(diagonal, "the diagonal of matrices, `offset` columns to the right", 1, offset),
     .shapes = "{..., m, n} -> {..., length}", .attrs = OFFSET},
    {ARRANGE(trace, "the sum of the diagonal of matrices", 1, offset), .shapes = "{..., n, n} -> {...}",
     .attrs = OFFSET},
    {ARRANGE(diag, "a matrix with a vector on its diagonal; of a matrix, its diagonal", 1, diag),
     .shapes = "{n} -> {n, n}; {m, n} -> {length}", .attrs = OFFSET},
    {ARRANGE(outer, "x_i z_j of all elements", 2, pairs), .shapes = "{...}, {...} -> {count of x, count of z}"},
    {ARRANGE(kron, "the Kronecker product of two matrices", 2, pairs), .shapes = "{m, n}, {p, q} -> {m p, n q}"},
    {ARRANGE(unsqueeze, "with a new axis of size 1", 1, unsqueeze), .shapes = "{...} -> {..., 1, ...}",
     .attrs = {{"axis", PL_AS_AXIS, true, 0}}},
    {ARRANGE(squeeze, "without axes of size 1 (all by default)", 1, squeeze), .shapes = "{..., 1, ...} -> {...}",
     .attrs = {{"axis", PL_AS_AXES, false, 0}}},
    {ARRANGE(expand, "repeated along new axes behind the others", 1, expand), .shapes = "{...} -> {..., shape}",
     .attrs = {{"shape", PL_AS_SHAPE, true, 0}}},
    {ARRANGE(take, "elements at 1-based places in row-major order", 2, take),
     .shapes = "{...}, {index...} -> {index...}"},
    {ARRANGE(rms, "root of the mean square over axes (all by default)", 1, rms), .shapes = PL_REDUCED,
     .derivative = "0 at 0", .attrs = {{"axis", PL_AS_AXES, false, 0}, {"keep", PL_AS_FLAG, false, 0}}},
    {ARRANGE(pad, "with a margin of value (0) around" SIDES, 1, pad), .shapes = PADDED,
     .attrs = {WIDTH, {"value", PL_AS_REAL, false, 0}}},
    {ARRANGE(pad_wrap, "with a margin as if x went on periodically" SIDES, 1, margin), .shapes = PADDED,
     .attrs = {WIDTH}},
    {ARRANGE(pad_reflect, "with a margin of x mirrored at its first and last elements, which are not repeated" SIDES, 1,
             margin),
     .shapes = PADDED, .attrs = {WIDTH}},
    {ARRANGE(pad_edge, "with a margin of x's first and last elements repeated" SIDES, 1, margin), .shapes = PADDED,
     .attrs = {WIDTH}},
    {0},
};
