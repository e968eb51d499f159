/* rolling.c: sums, moments and extremes of all windows of w neighbours along an axis. Windows of 1, 2, 4 ... elements
 * are joined in pairs, and those that w's binary digits name are put together: O(n log w) work, errors that grow with
 * log w, and no difference of large sums. Sums and extremes have kernels; the others are composites of slices, which
 * have the derivatives. */
#include <math.h>
#include <string.h>

#include "../../kernels/shapes.h"
#include "../op.h"
#include "../schedule.h"

/* The axis and its size, where the window fits it; -1, and the error set, where not. */
static int window_axis(const pl_call *call, int64_t *n) {
  const pl_slot *x = call->in[0];
  int64_t w = call->attrs[0].i;
  if (x->rank == 0) {
    pl_error(call->c, PL_ERROR_SHAPE, "%s needs an axis; this is a single number", call->op->name);
    return -1;
  }
  int axis = pl_axis(call, call->attrs[1].i, x->rank);
  if (axis < 0) return -1;
  *n = x->shape[axis];
  if (w >= 1 && w <= *n) return axis;
  pl_error(call->c, PL_ERROR_ARGUMENT, "%s: a window of %lld does not fit the %lld elements of axis %d", call->op->name,
           (long long)w, (long long)*n, axis + 1);
  return -1;
}

/* ---- sums and extremes ---- */

static bool rolling_shape(const pl_call *call, pl_spec *out) {
  int64_t n;
  int axis = window_axis(call, &n);
  if (axis < 0) return false;
  out->rank = call->in[0]->rank;
  memcpy(out->shape, call->in[0]->shape, sizeof out->shape);
  out->shape[axis] = (int32_t)(n - call->attrs[0].i + 1);
  return true;
}
/* How two windows become one (an elementwise op), and all windows of a block (its kernel), of so many lines. */
typedef struct {
  pl_context *c;
  pl_kernel join, roll;
  int64_t size, lines;
} rolling;
/* y {lines, n - (w - 1) s}: windows of w numbers s apart from lines of n, `stride` apart. A window too wide for the
 * kernel's space is one of its widest windows, and what is left over. */
static void roll(const rolling *r, const void *x, void *y, int64_t n, int64_t stride, int64_t s, int64_t w) {
  int64_t ends = n - (w - 1) * s;
  int64_t widest = s < 8 ? PL_ROLLING_WINDOW : PL_ROLLING_WINDOW / 8; /* leaves columns that fill cache lines */
  if (w <= widest) {
    rolling_args a = {.x = x, .y = y, .n = n, .stride = stride, .s = s, .q = w, .columns = PL_ROLLING_WINDOW / w};
    if (a.columns > s) a.columns = s;
    a.rows = PL_ROLLING_SPACE / a.columns - w + 1;
    a.blocks = (ends + a.rows * s - 1) / (a.rows * s);
    a.chunks = (s + a.columns - 1) / a.columns;
    double block = (double)(a.rows < ends / s + 1 ? a.rows : ends / s + 1) * (double)a.columns;
    pl_for(r->c, r->roll, &a, r->lines * a.blocks * a.chunks, 1, block * 2 * log2((double)w + 1));
    return;
  }
  int64_t q = w / widest, rest = w % widest, m = n - (widest - 1) * s;
  void *wide = pl_memory_new(r->c, (size_t)(r->lines * m * r->size)),
       *more = rest ? pl_memory_new(r->c, (size_t)(r->lines * ends * r->size) + 64) : NULL;
  if (wide && (more || !rest)) {
    roll(r, x, wide, n, stride, s, widest);
    roll(r, wide, y, m - rest * s, m, s * widest, q);
    int64_t before = q * widest * s;
    if (rest && r->c->status == PL_OK) {
      roll(r, (const char *)x + before * r->size, more, n - before, stride, s, rest);
      pl_for(r->c, r->join, (const void *[]){y, more, y}, r->lines * ends, PL_BLOCK, 1);
    }
  }
  pl_memory_free(r->c, wide);
  pl_memory_free(r->c, more);
}
static void rolling_run(const pl_call *call, pl_slot *out, const pl_op *join, pl_kernel kernel) {
  const pl_slot *x = call->in[0];
  rolling r = {call->c, join->fn[x->dtype], kernel, (int64_t)pl_dtype_size((pl_dtype)x->dtype), 0};
  int64_t n, inner;
  pl_split_axis(x, pl_axis(call, call->attrs[1].i, x->rank), &r.lines, &n, &inner);
  if (out->count) roll(&r, x->data, out->data, n * inner, n * inner, inner, call->attrs[0].i);
}
#define ROLL(op, join)                                                            \
  static void op##_run(const pl_call *call, pl_slot **out) {                      \
    rolling_run(call, out[0], PL_OP(join), PL_KERNEL_OF(op, call->in[0]->dtype)); \
  }
ROLL(rolling_sum, add)
ROLL(rolling_max, maximum)
ROLL(rolling_min, minimum)

/* The sums of the windows of g that hold an element. */
static void rolling_sum_vjp(pl_vjp *v) {
  pl_slot *x = pl_slot_get(v->c, v->in[0]);
  if (!x) return;
  int64_t width[2 * PL_MAX_RANK] = {0}, axis = v->attrs[1].i + (v->attrs[1].i < 0 ? x->rank : 0);
  width[2 * axis] = width[2 * axis + 1] = v->attrs[0].i - 1;
  pl_attr margin[] = {PL_INTS(2 * x->rank, width), PL_REALV(0)};
  pl_value g = v->attrs[0].i > 1 ? pl_call1(v->c, PL_OP(pad), v->g[0], margin) : v->g[0];
  pl_vjp_give(v, 0, pl_call1(v->c, PL_OP(rolling_sum), g, v->attrs));
}

static int axis_of(pl_context *c, const pl_op *op, const pl_value *in, const pl_attr *attrs, int64_t *n) {
  pl_slot *s = pl_slot_get(c, in[0]);
  return s ? window_axis(&(pl_call){c, op, 1, &s, in, attrs}, n) : -1;
}

PL_EXPAND(rolling_mean) {
  (void)n;
  int64_t m;
  if (axis_of(c, op, in, attrs, &m) < 0) return false;
  pl_value sum = pl_call1(c, PL_OP(rolling_sum), pl_floats(c, in[0]), attrs);
  out[0] = PL_BINARY(div, c, sum, pl_like(c, sum, (double)attrs[0].i));
  return out[0] != PL_NONE;
}

/* ---- moments: joined as the sums are ---- */

/* Of the windows of `size` elements that begin at each place: means and sums of squared deviations. */
typedef struct {
  pl_value mean, squares;
  int64_t size, count;
} windows;

/* Places start to start + count - 1 along the axis. */
static pl_value part(pl_context *c, pl_value x, int axis, int64_t start, int64_t count) {
  return x == PL_ZERO ? x : pl_part(c, x, axis, start, 1, count);
}
/* x with w added to the places from `start`. */
static pl_value part_add(pl_context *c, pl_value x, int axis, int64_t start, pl_value w) {
  pl_slot *s = pl_slot_get(c, w);
  if (!s) return PL_NONE;
  int64_t starts[PL_MAX_RANK] = {0}, steps[PL_MAX_RANK], counts[PL_MAX_RANK];
  for (int a = 0; a < s->rank; a++) steps[a] = 1, counts[a] = s->shape[a];
  starts[axis] = start;
  return pl_call2(c, PL_OP(slice_add), x, w,
                  (pl_attr[]){PL_INTS(s->rank, starts), PL_INTS(s->rank, steps), PL_INTS(s->rank, counts)});
}
/* Windows of a followed by those of b. T. Chan, G. Golub, R. LeVeque, American Statistician 37(3), 1983, eq. 1.5. */
static windows join(pl_context *c, windows a, windows b, int axis) {
  windows y = {.size = a.size + b.size, .count = a.count - b.size};
  pl_value x = part(c, a.mean, axis, 0, y.count), z = part(c, b.mean, axis, a.size, y.count);
  double p = (double)a.size, q = (double)b.size;
  pl_value d = PL_BINARY(sub, c, z, x), square = PL_UNARY(square, c, d);
  y.mean = PL_BINARY(add, c, x, PL_BINARY(mul, c, d, pl_like(c, d, q / (p + q))));
  y.squares = pl_plus(c, part(c, a.squares, axis, 0, y.count), part(c, b.squares, axis, a.size, y.count));
  y.squares = pl_plus(c, y.squares, PL_BINARY(mul, c, square, pl_like(c, d, p * q / (p + q))));
  return y;
}
static bool roll_windows(pl_context *c, const pl_op *op, const pl_value *in, const pl_attr *attrs, windows *all) {
  int64_t n, w = attrs[0].i;
  int axis = axis_of(c, op, in, attrs, &n);
  if (axis < 0) return false;
  windows block = {.mean = pl_floats(c, in[0]), .squares = PL_ZERO, .size = 1, .count = n};
  *all = (windows){.size = 0};
  for (;;) {
    if (w & block.size) *all = all->size ? join(c, *all, block, axis) : block;
    if (w < 2 * block.size) break;
    block = join(c, block, block, axis);
  }
  return c->status == PL_OK;
}

PL_EXPAND(rolling_var) {
  (void)n;
  windows all;
  if (attrs[0].i <= attrs[2].i) {
    pl_error(c, PL_ERROR_ARGUMENT, "%s: a window of %lld is too short for ddof %lld", op->name, (long long)attrs[0].i,
             (long long)attrs[2].i);
    return false;
  }
  if (!roll_windows(c, op, in, attrs, &all)) return false;
  pl_value m = all.squares == PL_ZERO ? pl_zeros_like(c, all.mean) : all.squares;
  out[0] = PL_BINARY(div, c, m, pl_like(c, m, (double)attrs[0].i - (double)attrs[2].i));
  return out[0] != PL_NONE;
}
PL_EXPAND(rolling_std) {
  (void)op;
  pl_value v = PL_NONE;
  if (!rolling_var_expand(c, op, n, in, attrs, &v)) return false;
  pl_value none = PL_BINARY(eq, c, v, pl_like(c, v, 0)), safe = PL_WHERE(c, none, pl_like(c, v, 1), v);
  out[0] = PL_WHERE(c, none, pl_like(c, v, 0), PL_UNARY(sqrt, c, safe));
  return out[0] != PL_NONE;
}

/* ---- derivatives of extremes: of windows of 1, 2, 4 ... elements, the last two of which may overlap ---- */

enum { STEPS = 32 };
/* Windows k + 1 are the better of two windows k, `shift` apart. */
typedef struct {
  int axis, n;
  int64_t shift[STEPS], count[STEPS];
  pl_value level[STEPS], d[STEPS][2]; /* windows k; the derivative of their better by either */
} ladder;
static bool climb(pl_context *c, const pl_op *op, const pl_value *in, const pl_attr *attrs, ladder *l) {
  const pl_op *better = op == PL_OP(rolling_max) ? PL_OP(maximum) : PL_OP(minimum);
  int64_t n, w = attrs[0].i, size = 1;
  l->axis = axis_of(c, op, in, attrs, &n);
  l->n = 0;
  pl_value y = in[0];
  for (int k = 0; size < w && !c->status; k = l->n) {
    l->level[k] = y;
    l->shift[k] = 2 * size <= w ? size : w - size;
    l->count[k] = n - size - l->shift[k] + 1;
    pl_value two[] = {part(c, y, l->axis, 0, l->count[k]), part(c, y, l->axis, l->shift[k], l->count[k])};
    y = pl_call2(c, better, two[0], two[1], NULL);
    for (int i = 0; i < 2; i++) l->d[k][i] = better->partial(c, i, two, y, NULL);
    size += l->shift[k];
    l->n++;
  }
  return c->status == PL_OK;
}
static void extreme_vjp(pl_vjp *v) {
  pl_context *c = v->c;
  ladder l;
  pl_value g = v->g[0];
  if (!climb(c, v->op, v->in, v->attrs, &l)) return;
  for (int k = l.n; k-- > 0;) {
    pl_value all = pl_zeros_like(c, l.level[k]);
    for (int i = 0; i < 2; i++) all = part_add(c, all, l.axis, i * l.shift[k], pl_chain(c, g, l.d[k][i]));
    g = all;
  }
  pl_vjp_give(v, 0, g);
}
static void extreme_jvp(pl_jvp *j) {
  pl_context *c = j->c;
  ladder l;
  pl_value t = j->t[0];
  if (!climb(c, j->op, j->in, j->attrs, &l)) return;
  for (int k = 0; k < l.n; k++)
    t = pl_plus(c, pl_chain(c, part(c, t, l.axis, 0, l.count[k]), l.d[k][0]),
                pl_chain(c, part(c, t, l.axis, l.shift[k], l.count[k]), l.d[k][1]));
  j->dt[0] = t;
}

static bool windows_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  if (k > 3) return false;
  s->n = 1;
  s->in[0] = k == 1 ? pl_sample_tensor(c, r, -1, 1, 3, 2, 6, 3) : pl_sample_tensor(c, r, -1, 1, 1, 11);
  s->attrs[0] = PL_INT(k == 0 ? 7 : k == 1 ? 5 : k == 2 ? 11 : 2);
  s->attrs[1] = PL_INT(k == 1 ? 1 : -1);
  s->attrs[2] = PL_INT(k & 1);
  return true;
}

static bool apart_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  if (!windows_sample(c, r, k, s)) return false;
  pl_slot *x = pl_slot_get(c, s->in[0]);
  for (int64_t i = 0; x && i < x->count; i++) ((double *)x->data)[i] = 0.1 * (double)(11 * i % 37);
  return true;
}

#define ROLLING(op, text, smp)                                                                                    \
  .name = #op, .formula = text ", of all windows of neighbours along an axis (the last by default)", .inputs = 1, \
  .outputs = 1, .shapes = "{..., m, ...} -> {..., m - window + 1, ...}", .sample = smp##_sample
#define WINDOWS(op) .dtypes = PL_NUMBERS, .shape = rolling_shape, .run = op##_run
#define SUM .kind = PL_LINEAR, .linear = true, WINDOWS(rolling_sum), .vjp = rolling_sum_vjp
#define EXTREME(op) \
  .kind = PL_OPAQUE, WINDOWS(op), .vjp = extreme_vjp, .jvp = extreme_jvp, .derivative = TIES, .accuracy = "exact"
#define MADE(op) .kind = PL_COMPOSITE, .expand = op##_expand
#define WINDOW \
  {"window", PL_AS_INT, true, 0}, { "axis", PL_AS_AXIS, false, -1 }
#define DDOF \
  { "ddof", PL_AS_INT, false, 0 }
#define TIES "shared by ties, not equally where there are more than two"
#define PAIRWISE "T. Chan, G. Golub, R. LeVeque, American Statistician 37(3), 1983"

pl_op pl_ops_rolling[] = {
    {ROLLING(rolling_sum, "sum", windows), SUM, .accuracy = "log2(window) eps times the sum of |x|", .attrs = {WINDOW}},
    {ROLLING(rolling_mean, "mean", windows), MADE(rolling_mean), .accuracy = "log2(window) eps times the mean of |x|",
     .attrs = {WINDOW}},
    {ROLLING(rolling_var, "mean square deviation from the mean, divided by window - ddof", windows), MADE(rolling_var),
     .source = PAIRWISE, .attrs = {WINDOW, DDOF}},
    {ROLLING(rolling_std, "root of rolling_var", windows), MADE(rolling_std), .derivative = "0 where all are equal",
     .source = PAIRWISE, .attrs = {WINDOW, DDOF}},
    {ROLLING(rolling_max, "largest", apart), EXTREME(rolling_max), .attrs = {WINDOW}},
    {ROLLING(rolling_min, "smallest", apart), EXTREME(rolling_min), .attrs = {WINDOW}},
    {0},
};
