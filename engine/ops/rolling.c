/* rolling.c: sums and moments of all windows of w neighbours along an axis. Windows of 1, 2, 4 ... elements are joined
 * in pairs, and those that w's binary digits name are put together: O(n log w) work, errors that grow with log w, and
 * no difference of large sums. Composites of slices, which have the derivatives. */
#include "../op.h"

/* Of the windows of `size` elements that begin at each place: sums (or means, and sums of squared deviations). */
typedef struct {
  pl_value first, second;
  int64_t size, count;
} windows;

/* Places start to start + count - 1 along the axis. */
static pl_value part(pl_context *c, pl_value x, int axis, int64_t start, int64_t count) {
  return x == PL_ZERO ? x : pl_part(c, x, axis, start, 1, count);
}
/* Windows of a followed by those of b. T. Chan, G. Golub, R. LeVeque, American Statistician 37(3), 1983, eq. 1.5. */
static windows join(pl_context *c, windows a, windows b, int axis, bool moments) {
  windows y = {.size = a.size + b.size, .count = a.count - b.size};
  pl_value x = part(c, a.first, axis, 0, y.count), z = part(c, b.first, axis, a.size, y.count);
  y.second = PL_ZERO;
  if (!moments) {
    y.first = PL_BINARY(add, c, x, z);
    return y;
  }
  double p = (double)a.size, q = (double)b.size;
  pl_value d = PL_BINARY(sub, c, z, x), square = PL_UNARY(square, c, d);
  y.first = PL_BINARY(add, c, x, PL_BINARY(mul, c, d, pl_like(c, d, q / (p + q))));
  y.second = pl_plus(c, part(c, a.second, axis, 0, y.count), part(c, b.second, axis, a.size, y.count));
  y.second = pl_plus(c, y.second, PL_BINARY(mul, c, square, pl_like(c, d, p * q / (p + q))));
  return y;
}
static bool roll_windows(pl_context *c, const pl_op *op, const pl_value *in, const pl_attr *attrs, bool moments,
                         windows *all) {
  pl_slot *s = pl_slot_get(c, in[0]);
  if (!s) return false;
  pl_call call = {c, op, 1, &s, in, attrs};
  if (s->rank == 0) {
    pl_error(c, PL_ERROR_SHAPE, "%s needs an axis; this is a single number", op->name);
    return false;
  }
  int axis = pl_axis(&call, attrs[1].i, s->rank);
  if (axis < 0) return false;
  int64_t n = s->shape[axis], w = attrs[0].i;
  if (w < 1 || w > n) {
    pl_error(c, PL_ERROR_ARGUMENT, "%s: a window of %lld does not fit the %lld elements of axis %d", op->name,
             (long long)w, (long long)n, axis + 1);
    return false;
  }
  bool whole = moments && s->dtype > PL_F32;
  windows block = {.first = whole ? pl_cast(c, in[0], PL_F64) : in[0], .second = PL_ZERO, .size = 1, .count = n};
  *all = (windows){.size = 0};
  for (;;) {
    if (w & block.size) *all = all->size ? join(c, *all, block, axis, moments) : block;
    if (w < 2 * block.size) break;
    block = join(c, block, block, axis, moments);
  }
  return c->status == PL_OK;
}

#define EXPAND(name)                                                                                         \
  static bool name##_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs, \
                            pl_value *out)

EXPAND(rolling_sum) {
  (void)n;
  windows all;
  if (!roll_windows(c, op, in, attrs, false, &all)) return false;
  out[0] = all.first == in[0] ? PL_UNARY(identity, c, in[0]) : all.first;
  return out[0] != PL_NONE;
}
EXPAND(rolling_mean) {
  (void)n;
  windows all;
  if (!roll_windows(c, op, in, attrs, false, &all)) return false;
  out[0] = PL_BINARY(div, c, all.first, pl_like(c, all.first, (double)all.size));
  return out[0] != PL_NONE;
}
EXPAND(rolling_var) {
  (void)n;
  windows all;
  if (attrs[0].i <= attrs[2].i) {
    pl_error(c, PL_ERROR_ARGUMENT, "%s: a window of %lld is too short for ddof %lld", op->name, (long long)attrs[0].i,
             (long long)attrs[2].i);
    return false;
  }
  if (!roll_windows(c, op, in, attrs, true, &all)) return false;
  pl_value m = all.second == PL_ZERO ? pl_zeros_like(c, all.first) : all.second;
  out[0] = PL_BINARY(div, c, m, pl_like(c, m, (double)(attrs[0].i - attrs[2].i)));
  return out[0] != PL_NONE;
}
EXPAND(rolling_std) {
  (void)op;
  pl_value v = PL_NONE;
  if (!rolling_var_expand(c, op, n, in, attrs, &v)) return false;
  pl_value none = PL_BINARY(eq, c, v, pl_like(c, v, 0)),
           safe = pl_call3(c, PL_OP(where), none, pl_like(c, v, 1), v, NULL);
  out[0] = pl_call3(c, PL_OP(where), none, pl_like(c, v, 0), PL_UNARY(sqrt, c, safe), NULL);
  return out[0] != PL_NONE;
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

#define ROLLING(op, text)                                                                            \
  .name = #op, .formula = text ", of all windows of neighbours along an axis (the last by default)", \
  .kind = PL_COMPOSITE, .inputs = 1, .outputs = 1, .expand = op##_expand, .sample = windows_sample,  \
  .shapes = "{..., m, ...} -> {..., m - window + 1, ...}"
#define WINDOW \
  {"window", PL_AS_INT, true, 0}, { "axis", PL_AS_AXIS, false, -1 }
#define DDOF \
  { "ddof", PL_AS_INT, false, 0 }
#define PAIRWISE "T. Chan, G. Golub, R. LeVeque, American Statistician 37(3), 1983"

pl_op pl_ops_rolling[] = {
    {ROLLING(rolling_sum, "sum"), .accuracy = "log2(window) eps times the sum of |x|", .attrs = {WINDOW}},
    {ROLLING(rolling_mean, "mean"), .accuracy = "log2(window) eps times the mean of |x|", .attrs = {WINDOW}},
    {ROLLING(rolling_var, "mean square deviation from the mean, divided by window - ddof"), .source = PAIRWISE,
     .attrs = {WINDOW, DDOF}},
    {ROLLING(rolling_std, "root of rolling_var"), .derivative = "0 where all are equal", .source = PAIRWISE,
     .attrs = {WINDOW, DDOF}},
    {0},
};
