/* filters.c: pooling over windows and Gaussian filters. Means and filters are convolutions (convolution.c), maxima are
 * gathered at places that an op of its own finds; so all have derivatives of any order. */
#include <math.h>
#include <string.h>

#include "../../kernels/shapes.h"
#include "../schedule.h"
#include "convolution.h"

/* ---- pool_places: x {rows, d, h, w} -> flat places {rows, sizes...}, 1-based ---- */

enum { WINDOW, STRIDE, PADDING, SIZES };

static bool pool_places_shape(const pl_call *call, pl_spec *out) {
  const pl_slot *x = call->in[0];
  bool ok = x->rank == 4;
  *out = (pl_spec){PL_I64, 4, {x->shape[0]}};
  for (int i = WINDOW; ok && i <= SIZES; i++) ok = call->attrs[i].n == 3;
  for (int d = 0; ok && d < 3; d++) {
    int64_t size = call->attrs[SIZES].list[d], stride = call->attrs[STRIDE].list[d], n = x->shape[1 + d];
    int64_t before = call->attrs[PADDING].list[d], window = call->attrs[WINDOW].list[d];
    ok = size >= 0 && size <= INT32_MAX && stride >= 1 && stride <= INT32_MAX && before >= 0 && window > before &&
         window <= INT32_MAX && (size == 0 || (n > 0 && (size - 1) * stride - before < n)); /* none is empty */
    out->shape[1 + d] = (int32_t)size;
  }
  if (ok && pl_spec_count(out) >= 0) return true;
  pl_shape_error(call, "the windows do not fit");
  return false;
}
static void pool_places_run(const pl_call *call, pl_slot **out) {
  pool_args a = {.x = call->in[0]->data, .y = out[0]->data};
  if (out[0]->count == 0) return;
  double work = 1;
  for (int d = 0; d < 3; d++) {
    a.in[d] = call->in[0]->shape[1 + d];
    a.out[d] = out[0]->shape[1 + d];
    a.window[d] = call->attrs[WINDOW].list[d];
    a.stride[d] = call->attrs[STRIDE].list[d];
    a.before[d] = call->attrs[PADDING].list[d];
    work *= (double)a.out[d] * (double)(a.window[d] < a.in[d] ? a.window[d] : a.in[d]);
  }
  pl_for(call->c, PL_KERNEL_OF(pool_places, call->in[0]->dtype), &a, out[0]->shape[0], 1, 4 * work);
}

/* ---- pooling: attributes window, stride, padding ---- */

typedef struct {
  pl_triple window, stride, padding, sizes;
  int64_t rows, shape[PL_MAX_RANK]; /* of what comes before the axes; of the result */
} pool;

static bool pool_of(const pl_call *call, int axes, pool *p) {
  const pl_slot *x = call->in[0];
  if (x->rank < axes) {
    pl_window_error(call, "%d axes or more are needed", axes);
    return false;
  }
  if (!pl_triple_of(call, WINDOW, axes, 1, 1, ones, &p->window) ||
      !pl_triple_of(call, STRIDE, axes, 1, 1, p->window, &p->stride) ||
      !pl_triple_of(call, PADDING, axes, 0, 0, zeros, &p->padding))
    return false;
  p->rows = 1;
  for (int a = 0; a < x->rank - axes; a++) p->rows *= p->shape[a] = x->shape[a];
  for (int d = 0; d < 3; d++) {
    int64_t window = p->window.at[d], padding = p->padding.at[d];
    if (2 * padding > window) {
      pl_window_error(call, "padding %lld is more than half of the window, %lld", (long long)padding,
                      (long long)window);
      return false;
    }
    p->sizes.at[d] = pl_window_count(call, axes, d, window, 1, p->stride.at[d], padding);
    if (p->sizes.at[d] < 0) return false;
    if (d >= 3 - axes) p->shape[x->rank - 3 + d] = p->sizes.at[d];
  }
  return true;
}
static bool average(pl_context *c, const pl_op *op, int axes, const pl_value *in, const pl_attr *attrs, pl_value *out) {
  pl_slot *s = pl_slot_get(c, in[0]);
  if (!s) return false;
  pl_slot x = *s, *slots[] = {&x};
  pl_call call = {c, op, 1, slots, in, attrs};
  pool p;
  if (!pool_of(&call, axes, &p)) return false;
  int64_t shape[] = {1, 1, p.window.at[0], p.window.at[1], p.window.at[2]};
  pl_value v = pl_floats(c, in[0]);
  pl_value w = pl_call1(c, PL_OP(broadcast_to), pl_like(c, v, 1), &PL_INTS(5, shape));
  v = pl_convolution(c, PL_OP(conv), pl_as_images(c, v, axes, p.rows, 1), w, p.stride, p.padding, ones, p.sizes, 1);
  v = PL_BINARY(div, c, v, pl_like(c, v, (double)shape[2] * (double)shape[3] * (double)shape[4]));
  return (*out = pl_reshape_to(c, v, x.rank, p.shape)) != PL_NONE;
}
static bool largest(pl_context *c, const pl_op *op, int axes, const pl_value *in, const pl_attr *attrs, pl_value *out) {
  pl_slot *s = pl_slot_get(c, in[0]);
  if (!s) return false;
  pl_slot x = *s, *slots[] = {&x};
  pl_call call = {c, op, 1, slots, in, attrs};
  pool p;
  if (!pool_of(&call, axes, &p)) return false;
  int64_t shape[] = {p.rows, 1, 1, 1};
  for (int a = 1; a <= axes; a++) shape[4 - a] = x.shape[x.rank - a];
  pl_attr windows[] = {PL_INTS(3, p.window.at), PL_INTS(3, p.stride.at), PL_INTS(3, p.padding.at),
                       PL_INTS(3, p.sizes.at)};
  pl_value places = pl_call1(c, PL_OP(pool_places), pl_reshape_to(c, in[0], 4, shape), windows);
  pl_value v = pl_call2(c, PL_OP(gather), PL_UNARY(ravel, c, in[0]), places, &PL_INT(0));
  return (*out = pl_reshape_to(c, v, x.rank, p.shape)) != PL_NONE;
}
#define POOL(name, axes, f)                                                                                  \
  static bool name##_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs, \
                            pl_value *out) {                                                                 \
    (void)n;                                                                                                 \
    return f(c, op, axes, in, attrs, out);                                                                   \
  }
POOL(avg_pool1d, 1, average)
POOL(avg_pool2d, 2, average)
POOL(avg_pool3d, 3, average)
POOL(max_pool1d, 1, largest)
POOL(max_pool2d, 2, largest)
POOL(max_pool3d, 3, largest)

/* ---- gaussian_filter: attributes sigma, axis, truncate, nearest, constant, wrap ---- */

enum { SIGMA, AXIS, TRUNCATE, NEAREST, CONSTANT, WRAP };

static pl_value whole_numbers(pl_context *c, int64_t first, int64_t n, pl_dtype dtype) {
  return pl_apply1(c, PL_OP(range), 0, NULL,
                   (pl_attr[]){PL_REALV((double)first), PL_REALV(1), PL_INT(n), PL_INT(dtype)});
}
/* exp(-k^2/2 sigma^2) for |k| <= radius, of sum 1 */
static pl_value bell(pl_context *c, double sigma, int64_t radius, pl_dtype dtype) {
  pl_value k = whole_numbers(c, -radius, 2 * radius + 1, PL_F64);
  pl_value z = PL_BINARY(mul, c, PL_BINARY(mul, c, k, k), pl_like(c, k, -0.5 / sigma / sigma)), e = PL_UNARY(exp, c, z);
  pl_value total = pl_call1(c, PL_OP(sum), e, (pl_attr[]){PL_INTS(-1, NULL), PL_INT(0)});
  return pl_cast(c, PL_BINARY(div, c, e, total), dtype);
}
/* Elements first ... first + r - 1 of x {outer, n, inner} continued beyond its ends. */
static pl_value margin(pl_context *c, pl_value x, int64_t n, int64_t first, int64_t r, const pl_attr *attrs) {
  pl_value k = whole_numbers(c, first, r, PL_I64);
  if (attrs[NEAREST].i) {
    k = PL_BINARY(minimum, c, PL_BINARY(maximum, c, k, pl_like(c, k, 0)), pl_like(c, k, (double)(n - 1)));
  } else if (attrs[WRAP].i) {
    k = PL_BINARY(mod, c, k, pl_like(c, k, (double)n));
  } else { /* ... c b a a b c c b a ..., of period 2n */
    k = PL_BINARY(mod, c, k, pl_like(c, k, (double)(2 * n)));
    k = PL_BINARY(minimum, c, k, PL_BINARY(sub, c, pl_like(c, k, (double)(2 * n - 1)), k));
  }
  return pl_call2(c, PL_OP(gather), x, PL_BINARY(add, c, k, pl_like(c, k, 1)), &PL_INT(1));
}
static pl_value filter_axis(pl_context *c, pl_value x, int axis, int64_t radius, const pl_attr *attrs) {
  const pl_slot *s = pl_slot_get(c, x);
  if (!s) return PL_NONE;
  int64_t outer, n, inner;
  pl_dtype dtype = (pl_dtype)s->dtype;
  pl_split_axis(s, axis, &outer, &n, &inner);
  pl_value v = pl_reshape_to(c, x, 3, (int64_t[]){outer, n, inner});
  bool constant = attrs[CONSTANT].i;
  if (!constant) {
    pl_value parts[] = {margin(c, v, n, -radius, radius, attrs), v, margin(c, v, n, n, radius, attrs)};
    v = pl_apply1(c, PL_OP(concat), 3, parts, &PL_INT(1));
  }
  pl_value w = bell(c, attrs[SIGMA].r, radius, dtype);
  pl_triple before = zeros, sizes = ones;
  int64_t images[] = {outer, 1, 1, constant ? n : n + 2 * radius, inner}, window[] = {1, 1, 1, 2 * radius + 1, 1};
  int d = 1;
  if (inner == 1) { /* along rows */
    images[4] = images[3], images[3] = 1;
    window[4] = window[3], window[3] = 1;
    d = 2;
  }
  sizes.at[1] = n, sizes.at[2] = inner;
  if (inner == 1) sizes.at[1] = 1, sizes.at[2] = n;
  if (constant) before.at[d] = radius;
  v = pl_convolution(c, PL_OP(conv), pl_reshape_to(c, v, 5, images), pl_reshape_to(c, w, 5, window), ones, before, ones,
                     sizes, 1);
  return pl_reshape_like(c, v, x);
}
static bool gaussian_filter_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                                   pl_value *out) {
  (void)n;
  pl_slot *s = pl_slot_get(c, in[0]);
  if (!s) return false;
  pl_slot x = *s, *slots[] = {&x};
  pl_call call = {c, op, 1, slots, in, attrs};
  double sigma = attrs[SIGMA].r, truncate = attrs[TRUNCATE].r, radius = floor(truncate * sigma + 0.5);
  uint32_t set;
  if (!pl_axes(&call, &attrs[AXIS], x.rank, &set)) return false;
  if (!(sigma >= 0) || !(truncate >= 0) || !(radius <= 1e9)) {
    pl_error(c, PL_ERROR_ARGUMENT, "%s: sigma %g and truncate %g: neither may be negative, nor a window of 10^9",
             op->name, sigma, truncate);
    return false;
  }
  if (!!attrs[NEAREST].i + !!attrs[CONSTANT].i + !!attrs[WRAP].i > 1) {
    pl_error(c, PL_ERROR_ARGUMENT, "%s: of nearest, constant and wrap at most one holds", op->name);
    return false;
  }
  for (int a = 0; a < x.rank; a++)
    if ((set >> a & 1) && (double)x.count / fmax(x.shape[a], 1) * (x.shape[a] + 2 * radius) > INT32_MAX) {
      pl_window_error(&call, "with margins of %g elements it has more than 2^31 - 1", radius);
      return false;
    }
  pl_value v = pl_floats(c, in[0]);
  if (v == in[0]) v = PL_UNARY(identity, c, v);
  for (int a = 0; a < x.rank; a++)
    if ((set >> a & 1) && radius > 0 && x.count > 0) v = filter_axis(c, v, a, (int64_t)radius, attrs);
  return (*out = v) != PL_NONE;
}

/* ---- samples ---- */

/* entries apart, so that no step of the test changes which is the largest */
static pl_value apart(pl_context *c, int rank, int64_t a, int64_t b, int64_t d, int64_t e) {
  pl_value v = pl_tensor(c, PL_F64, rank, (int64_t[]){a, b, d, e}, NULL);
  pl_slot *x = pl_slot_get(c, v);
  for (int64_t i = 0; x && i < x->count; i++) ((double *)x->data)[i] = 0.1 * (double)(37 * i % 101) - 4;
  return v;
}
PL_SAMPLE(pool_places) {
  (void)r;
  s->n = 1;
  if (k > 0) return false;
  s->in[0] = apart(c, 4, 2, 3, 4, 4);
  PL_SAMPLE_LIST(WINDOW, 1, 2, 3), PL_SAMPLE_LIST(STRIDE, 1, 2, 1), PL_SAMPLE_LIST(PADDING, 0, 1, 1),
      PL_SAMPLE_LIST(SIZES, 3, 3, 4);
  return true;
}
PL_SAMPLE(pool) {
  (void)r;
  s->n = 1;
  s->attrs[1] = s->attrs[2] = PL_INTS(-1, NULL);
  PL_SAMPLE_LIST(WINDOW, 2);
  if (k == 0) s->in[0] = apart(c, 3, 3, 4, 5, 0);
  if (k == 1) s->in[0] = apart(c, 4, 2, 2, 3, 4), PL_SAMPLE_LIST(STRIDE, 1), PL_SAMPLE_LIST(PADDING, 1);
  if (k == 2) s->in[0] = apart(c, 4, 0, 2, 3, 4);
  return k <= 2;
}
PL_SAMPLE(gaussian) {
  s->n = 1;
  s->attrs[SIGMA] = PL_REALV(k == 1 ? 2.5 : 0.7);
  s->attrs[AXIS] = PL_INTS(-1, NULL);
  s->attrs[TRUNCATE] = PL_REALV(k == 2 ? 2 : 4);
  for (int i = NEAREST; i <= WRAP; i++) s->attrs[i] = PL_INT(k - 1 == i - NEAREST);
  if (k == 4) PL_SAMPLE_LIST(AXIS, 0);
  if (k == 5) s->attrs[SIGMA] = PL_REALV(0);
  s->in[0] = k == 6 ? pl_sample_tensor(c, r, -1, 1, 2, 0, 3) : pl_sample_tensor(c, r, -1, 1, 2, 4, 7);
  return k <= 6;
}

#define POOL_ROW(op, text, what, in, out)                                                             \
  .name = #op, .formula = text, .shapes = "{..., " in "} -> {..., " out "}", .derivative = what,      \
  .source = "PyTorch's " #op, .kind = PL_COMPOSITE, .inputs = 1, .outputs = 1, .expand = op##_expand, \
  .sample = pool_sample,                                                                              \
  .attrs = {{"window", PL_AS_INTS, true, 0}, {"stride", PL_AS_INTS, false, 0}, {"padding", PL_AS_INTS, false, 0}}
#define AVERAGE "the mean over windows, a stride (by default the window) apart; zeros of the padding count"
#define LARGEST \
  "the largest of each window, a stride (by default the window) apart; padding never is; a NaN is the largest"
#define FIRST "that of the first of equals"

pl_op pl_ops_filters[] = {
    {.name = "pool_places",
     .formula = "1-based flat places of the largest of each window, the first of equals",
     .kind = PL_OPAQUE,
     .inputs = 1,
     .outputs = 1,
     .internal = true,
     .dtypes = PL_NUMBERS,
     .attrs = {{"window", PL_AS_INTS, true, 0},
               {"stride", PL_AS_INTS, true, 0},
               {"padding", PL_AS_INTS, true, 0},
               {"sizes", PL_AS_INTS, true, 0}},
     .shape = pool_places_shape,
     .run = pool_places_run,
     .sample = pool_places_sample},
    {POOL_ROW(avg_pool1d, AVERAGE, NULL, "n", "m")},
    {POOL_ROW(avg_pool2d, AVERAGE, NULL, "h, w", "m, n")},
    {POOL_ROW(avg_pool3d, AVERAGE, NULL, "d, h, w", "l, m, n")},
    {POOL_ROW(max_pool1d, LARGEST, FIRST, "n", "m")},
    {POOL_ROW(max_pool2d, LARGEST, FIRST, "h, w", "m, n")},
    {POOL_ROW(max_pool3d, LARGEST, FIRST, "d, h, w", "l, m, n")},
    {.name = "gaussian_filter",
     .formula =
         "convolved along axes (all by default) with exp(-k^2/2 sigma^2), |k| <= truncate sigma, of sum 1; beyond "
         "its ends x is reflected (c b a a b c), the nearest, constant 0 or periodic (wrap)",
     .shapes = "{...} -> {...}",
     .accuracy = "a sum of products, in order",
     .source = "SciPy's ndimage.gaussian_filter",
     .kind = PL_COMPOSITE,
     .inputs = 1,
     .outputs = 1,
     .attrs = {{"sigma", PL_AS_REAL, true, 0},
               {"axis", PL_AS_AXES, false, 0},
               {"truncate", PL_AS_REAL, false, 4},
               {"nearest", PL_AS_FLAG, false, 0},
               {"constant", PL_AS_FLAG, false, 0},
               {"wrap", PL_AS_FLAG, false, 0}},
     .expand = gaussian_filter_expand,
     .sample = gaussian_sample},
    {0},
};
