/* reduce.c: reductions over any axes and running sums. */
#include <math.h>
#include <string.h>

#include "../../kernels/shapes.h"
#include "../op.h"
#include "../schedule.h"

/* Attributes of all reductions: axes (n = -1: all), keep. */

static bool reduce_shape(const pl_call *call, pl_spec *out) {
  const pl_slot *x = call->in[0];
  uint32_t set;
  if (!pl_axes(call, &call->attrs[0], x->rank, &set)) return false;
  for (int a = 0; a < x->rank; a++) {
    if (!(set >> a & 1)) out->shape[out->rank++] = x->shape[a];
    else if (call->attrs[1].i) out->shape[out->rank++] = 1;
  }
  return true;
}

/* max and min of nothing are nothing */
static bool extreme_shape(const pl_call *call, pl_spec *out) {
  if (!reduce_shape(call, out)) return false;
  if (call->in[0]->count == 0 && pl_spec_count(out) > 0) {
    char text[PL_TEXT];
    pl_error(call->c, PL_ERROR_SHAPE, "%s of an empty tensor of shape %s", call->op->name,
             pl_shape_text(text, call->in[0]->rank, call->in[0]->shape));
    return false;
  }
  return true;
}

/* {outer, r, inner} -> {outer, inner}, by blocks, level by level. */
static void reduce_middle(pl_context *c, pl_kernel rows, pl_kernel columns, pl_dtype dtype, const void *x, void *y,
                          int64_t outer, int64_t r, int64_t inner) {
  int64_t blocks = r > PL_REDUCE_BLOCK ? (r + PL_REDUCE_BLOCK - 1) / PL_REDUCE_BLOCK : 1;
  void *partial = NULL;
  if (blocks > 1 && !(partial = pl_memory_new(c, (size_t)(outer * blocks * inner) * 8))) return;
  reduce_args a = {x, partial ? partial : y, r, PL_REDUCE_BLOCK, blocks, inner};
  int64_t per = r < PL_REDUCE_BLOCK ? r : PL_REDUCE_BLOCK;
  if (inner == 1) {
    pl_for(c, rows, &a, outer * blocks, 1, (double)per + 1);
  } else {
    int64_t chunks = (inner + PL_REDUCE_COLUMNS - 1) / PL_REDUCE_COLUMNS;
    pl_for(c, columns, &a, outer * blocks * chunks, 1,
           (double)per * (inner < PL_REDUCE_COLUMNS ? (double)inner : PL_REDUCE_COLUMNS) + 1);
  }
  if (partial && c->status == PL_OK) reduce_middle(c, rows, columns, dtype, partial, y, outer, blocks, inner);
  pl_memory_free(c, partial);
}

/* Adjacent reduced axes go at once; the last group first, for it lies closest. */
static void reduce(const pl_call *call, pl_slot *out, pl_kernel rows, pl_kernel columns) {
  pl_context *c = call->c;
  const pl_slot *x = call->in[0];
  uint32_t set;
  if (!pl_axes(call, &call->attrs[0], x->rank, &set)) return;
  int64_t shape[PL_MAX_RANK + 1];
  int rank = 0;
  bool reduced[PL_MAX_RANK + 1];
  for (int a = 0; a < x->rank; a++) {
    bool is = set >> a & 1;
    if (rank && reduced[rank - 1] == is) {
      shape[rank - 1] *= x->shape[a];
    } else {
      shape[rank] = x->shape[a];
      reduced[rank++] = is;
    }
  }
  int groups = 0;
  for (int a = 0; a < rank; a++) groups += reduced[a];
  const void *from = x->data;
  void *old = NULL;
  pl_dtype dtype = (pl_dtype)x->dtype;
  if (groups == 0) {
    memcpy(out->data, x->data, (size_t)x->count * pl_dtype_size(dtype));
    return;
  }
  for (int a = rank - 1; a >= 0 && c->status == PL_OK; a--) {
    if (!reduced[a]) continue;
    int64_t outer = 1, inner = 1;
    for (int b = 0; b < a; b++) outer *= shape[b];
    for (int b = a + 1; b < rank; b++) inner *= shape[b];
    void *to = --groups == 0 ? out->data : pl_memory_new(c, (size_t)(outer * inner) * 8 + 8);
    if (to && outer * inner > 0) reduce_middle(c, rows, columns, dtype, from, to, outer, shape[a], inner);
    pl_memory_free(c, old);
    old = to == out->data ? NULL : to;
    from = to;
    shape[a] = 1;
  }
  pl_memory_free(c, old);
}

#define KERNELS(name) PL_KERNEL_OF(name##_rows, call->in[0]->dtype), PL_KERNEL_OF(name##_columns, call->in[0]->dtype)
static void sum_run(const pl_call *call, pl_slot **out) { reduce(call, out[0], KERNELS(sum)); }
static void prod_run(const pl_call *call, pl_slot **out) { reduce(call, out[0], KERNELS(prod)); }
static void max_run(const pl_call *call, pl_slot **out) { reduce(call, out[0], KERNELS(max)); }
static void min_run(const pl_call *call, pl_slot **out) { reduce(call, out[0], KERNELS(min)); }

/* The shape of x with reduced axes 1. */
static int kept_shape(pl_context *c, pl_value x, const pl_attr *axes, int64_t *shape, int64_t *count) {
  pl_slot *s = pl_slot_get(c, x);
  if (!s) return -1;
  pl_call call = {c, PL_OP(sum), 1, &s, &x, axes};
  uint32_t set;
  if (!pl_axes(&call, axes, s->rank, &set)) return -1;
  *count = 1;
  for (int a = 0; a < s->rank; a++) {
    shape[a] = set >> a & 1 ? 1 : s->shape[a];
    if (set >> a & 1) *count *= s->shape[a];
  }
  return s->rank;
}

/* A reduced value back in x's shape, repeated. */
static pl_value spread(pl_context *c, pl_value g, pl_value x, const pl_attr *axes) {
  int64_t shape[PL_MAX_RANK], count;
  int rank = kept_shape(c, x, axes, shape, &count);
  if (rank < 0) return PL_NONE;
  return pl_broadcast_like(c, pl_reshape_to(c, g, rank, shape), x);
}

static void sum_vjp(pl_vjp *v) { pl_vjp_give(v, 0, spread(v->c, v->g[0], v->in[0], v->attrs)); }

static bool mean_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                        pl_value *out) {
  (void)n;
  int64_t shape[PL_MAX_RANK], count;
  pl_slot *s = pl_slot_get(c, in[0]);
  if (!s || kept_shape(c, in[0], attrs, shape, &count) < 0) return false;
  if (count == 0) {
    pl_error(c, PL_ERROR_SHAPE, "%s of no elements", op->name);
    return false;
  }
  pl_value x = pl_floats(c, in[0]);
  out[0] = PL_BINARY(div, c, pl_call1(c, PL_OP(sum), x, attrs), pl_like(c, x, (double)count));
  return out[0] != PL_NONE;
}

/* Ties share the derivative equally. */
static pl_value extreme_weights(pl_context *c, pl_value x, pl_value y, const pl_attr *attrs) {
  pl_slot *s = pl_slot_get(c, x);
  if (!s) return PL_NONE;
  pl_value mask = pl_cast(c, PL_BINARY(eq, c, x, spread(c, y, x, attrs)), (pl_dtype)s->dtype);
  pl_value ties = pl_call1(c, PL_OP(sum), mask, attrs);
  return PL_BINARY(div, c, mask, spread(c, ties, x, attrs));
}
static void extreme_vjp(pl_vjp *v) {
  pl_value g = spread(v->c, v->g[0], v->in[0], v->attrs);
  pl_vjp_give(v, 0, pl_times(v->c, g, extreme_weights(v->c, v->in[0], v->out[0], v->attrs)));
}
static void extreme_jvp(pl_jvp *j) {
  pl_value w = extreme_weights(j->c, j->in[0], j->out[0], j->attrs);
  j->dt[0] = pl_call1(j->c, PL_OP(sum), pl_times(j->c, j->t[0], w), j->attrs);
}

/* ---- prod: a balanced tree of products, so that zeros need no division and every order of derivative is right ---- */

/* {m, n} from x: reduced axes last. */
static pl_value to_rows(pl_context *c, pl_value x, const pl_attr *axes, int64_t *order, int64_t *moved, int *rank,
                        int64_t *n) {
  pl_slot *s = pl_slot_get(c, x);
  if (!s) return PL_NONE;
  pl_call call = {c, PL_OP(prod), 1, &s, &x, axes};
  uint32_t set;
  if (!pl_axes(&call, axes, s->rank, &set)) return PL_NONE;
  int k = 0;
  int64_t m = 1;
  *n = 1;
  *rank = s->rank;
  for (int pass = 0; pass < 2; pass++)
    for (int a = 0; a < s->rank; a++)
      if ((int)(set >> a & 1) == pass) {
        moved[k] = s->shape[a];
        order[k++] = a;
        if (pass) *n *= s->shape[a];
        else m *= s->shape[a];
      }
  pl_value t = s->rank > 1 ? pl_call1(c, PL_OP(transpose), x, &PL_INTS(s->rank, order)) : x;
  return pl_reshape_to(c, t, 2, (int64_t[]){m, *n});
}

enum { LEVELS = 40 };

/* level[0] = x {m, n}; level[l+1] = even*odd columns, an odd one carried over. Returns the number of products' levels.
 */
static int product_tree(pl_context *c, pl_value x, int64_t n, pl_value *level, int64_t *width) {
  int l = 0;
  level[0] = x;
  width[0] = n;
  while (width[l] > 1 && c->status == PL_OK) {
    int64_t half = width[l] / 2;
    pl_value p = PL_BINARY(mul, c, pl_part(c, level[l], 1, 0, 2, half), pl_part(c, level[l], 1, 1, 2, half));
    if (width[l] % 2) {
      pl_value both[] = {p, pl_part(c, level[l], 1, width[l] - 1, 1, 1)};
      p = pl_apply1(c, PL_OP(concat), 2, both, &PL_INT(1));
    }
    level[++l] = p;
    width[l] = half + width[l - 1] % 2;
  }
  return l;
}

/* For each entry the product of the others in its row. */
static pl_value others(pl_context *c, pl_value x, int64_t m, int64_t n) {
  pl_value level[LEVELS];
  int64_t width[LEVELS];
  int l = product_tree(c, x, n, level, width);
  pl_value g = pl_broadcast_like(c, pl_like(c, x, 1), level[l]);
  while (l-- > 0 && c->status == PL_OK) {
    int64_t half = width[l] / 2;
    pl_value h = pl_part(c, g, 1, 0, 1, half);
    pl_value pair[] = {PL_BINARY(mul, c, h, pl_part(c, level[l], 1, 1, 2, half)),
                       PL_BINARY(mul, c, h, pl_part(c, level[l], 1, 0, 2, half))};
    pl_value both = pl_apply1(c, PL_OP(stack), 2, pair, &PL_INT(2)); /* {m, half, 2}: interleaved */
    both = pl_reshape_to(c, both, 2, (int64_t[]){m, 2 * half});
    if (width[l] % 2) {
      pl_value parts[] = {both, pl_part(c, g, 1, half, 1, 1)};
      both = pl_apply1(c, PL_OP(concat), 2, parts, &PL_INT(1));
    }
    g = both;
  }
  return g;
}

/* The derivative of prod in x's own layout. */
static pl_value prod_weights(pl_context *c, pl_value x, const pl_attr *attrs) {
  int64_t order[PL_MAX_RANK], moved[PL_MAX_RANK], back[PL_MAX_RANK], n = 0;
  int rank = 0;
  pl_value rows = to_rows(c, x, attrs, order, moved, &rank, &n);
  pl_slot *s = pl_slot_get(c, rows);
  if (!s) return PL_NONE;
  if (s->count == 0) return pl_zeros_like(c, x);
  pl_value w = pl_reshape_to(c, others(c, rows, s->shape[0], n), rank, moved);
  for (int a = 0; a < rank; a++) back[order[a]] = a;
  return rank > 1 ? pl_call1(c, PL_OP(transpose), w, &PL_INTS(rank, back)) : w;
}
static void prod_vjp(pl_vjp *v) {
  pl_value g = spread(v->c, v->g[0], v->in[0], v->attrs);
  pl_vjp_give(v, 0, pl_times(v->c, g, prod_weights(v->c, v->in[0], v->attrs)));
}
static void prod_jvp(pl_jvp *j) {
  j->dt[0] = pl_call1(j->c, PL_OP(sum), pl_times(j->c, j->t[0], prod_weights(j->c, j->in[0], j->attrs)), j->attrs);
}

/* ---- norm ---- */

static bool norm_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                        pl_value *out) {
  (void)op, (void)n;
  pl_slot *s = pl_slot_get(c, in[0]);
  if (!s) return false;
  pl_value x = pl_floats(c, in[0]);
  double order = attrs[1].r;
  pl_attr over[] = {attrs[0], PL_INT(0)};
  if (order == 1) out[0] = pl_call1(c, PL_OP(sum), PL_UNARY(abs, c, x), over);
  else if (isinf(order) && order > 0) out[0] = pl_call1(c, PL_OP(max), PL_UNARY(abs, c, x), over);
  else if (order == 2) out[0] = pl_call1(c, PL_OP(norm2), x, over);
  else pl_error(c, PL_ERROR_ARGUMENT, "norm: the order is 1, 2 or infinity, not %g", order);
  return c->status == PL_OK;
}
static void norm2_run(const pl_call *call, pl_slot **out) {
  pl_context *c = call->c;
  pl_slot squares = *call->in[0]; /* a stand-in with the same shape */
  if (!(squares.data = pl_memory_new(c, (size_t)squares.count * 8 + 64))) return;
  const void *args[] = {call->in[0]->data, squares.data};
  PL_OP(square)->fn[squares.dtype](args, 0, squares.count);
  pl_slot *in[] = {&squares};
  pl_call inner = *call;
  inner.in = in;
  reduce(&inner, out[0], PL_KERNEL_OF(sum_rows, squares.dtype), PL_KERNEL_OF(sum_columns, squares.dtype));
  const void *root[] = {out[0]->data, out[0]->data};
  PL_OP(sqrt)->fn[squares.dtype](root, 0, out[0]->count);
  pl_memory_free(c, squares.data);
}
/* x/|x|; 0 at 0 */
static pl_value norm2_weights(pl_context *c, pl_value x, pl_value y, const pl_attr *attrs) {
  pl_value zero = pl_like(c, y, 0), one = pl_like(c, y, 1);
  pl_value safe = PL_WHERE(c, PL_BINARY(eq, c, y, zero), one, y);
  return PL_BINARY(div, c, x, spread(c, safe, x, attrs));
}
static void norm2_vjp(pl_vjp *v) {
  pl_value g = spread(v->c, v->g[0], v->in[0], v->attrs);
  pl_vjp_give(v, 0, pl_times(v->c, g, norm2_weights(v->c, v->in[0], v->out[0], v->attrs)));
}
static void norm2_jvp(pl_jvp *j) {
  pl_value w = norm2_weights(j->c, j->in[0], j->out[0], j->attrs);
  j->dt[0] = pl_call1(j->c, PL_OP(sum), pl_times(j->c, j->t[0], w), j->attrs);
}

/* ---- samples ---- */

static bool sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  s->n = 1;
  s->attrs[1] = PL_INT(k == 3);
  s->attrs[0] = PL_INTS(-1, NULL);
  static const int64_t axes[][3] = {{0}, {1}, {2, 0}, {-1}};
  static const int counts[] = {1, 1, 2, 1};
  if (k == 0) s->in[0] = pl_sample_tensor(c, r, 0.5, 1.5, 2, 3, 4);
  if (k >= 1 && k <= 4) {
    s->in[0] = pl_sample_tensor(c, r, 0.5, 1.5, 3, 3, 4, 5);
    s->attrs[0] = PL_INTS(counts[k - 1], axes[k - 1]);
  }
  if (k == 5) s->in[0] = pl_sample_tensor(c, r, 0.5, 1.5, 0);
  if (k == 6) s->in[0] = pl_sample_tensor(c, r, 0.5, 1.5, 1, 1);
  if (k == 7) s->in[0] = pl_sample_tensor(c, r, 0.99, 1.01, 1, 203);
  return k <= 7;
}
static bool sum_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  if (k == 8) {
    s->in[0] = pl_sample_tensor(c, r, 0.5, 1.5, 2, 0, 3);
    s->n = 1;
    s->attrs[0] = PL_INTS(-1, NULL);
    s->attrs[1] = PL_INT(0);
    return true;
  }
  if (k == 9) { /* several blocks and chunks */
    s->in[0] = pl_sample_tensor(c, r, 0.5, 1.5, 2, 4099, 3);
    s->n = 1;
    s->lists[0][0] = 0;
    s->attrs[0] = PL_INTS(1, s->lists[0]);
    s->attrs[1] = PL_INT(0);
    return true;
  }
  return sample(c, r, k, s);
}
/* entries at least 0.1 apart, so that no step of the test crosses a tie */
static bool apart_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  if (!sample(c, r, k, s)) return false;
  pl_slot *x = pl_slot_get(c, s->in[0]);
  for (int64_t i = 0; x && i < x->count; i++) ((double *)x->data)[i] = 0.5 + 0.1 * (double)(37 * i % x->count);
  return true;
}
static bool norm_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  if (!apart_sample(c, r, k, s)) return false;
  s->attrs[1] = PL_REALV(k == 1 ? 1 : k == 2 ? (double)INFINITY : 2);
  return true;
}
#define AXES \
  {"axis", PL_AS_AXES, false, 0}, { "keep", PL_AS_FLAG, false, 0 }
#define REDUCE(op, text, set, shp, smp)                                                                         \
  {                                                                                                             \
    .name = #op, .formula = text, .kind = PL_REDUCE, .inputs = 1, .outputs = 1, .dtypes = set, .attrs = {AXES}, \
    .shape = shp, .run = op##_run, .sample = smp

pl_op pl_ops_reduce[] = {REDUCE(sum, "sum over axes (all by default)", PL_NUMBERS, reduce_shape, sum_sample),
                         .shapes = PL_REDUCED, .vjp = sum_vjp, .linear = true},
      {.name = "mean",
       .formula = "mean over axes (all by default)",
       .shapes = PL_REDUCED,
       .kind = PL_COMPOSITE,
       .inputs = 1,
       .outputs = 1,
       .attrs = {AXES},
       .expand = mean_expand,
       .sample = sample},
      REDUCE(prod, "product over axes (all by default)", PL_NUMBERS, reduce_shape, sum_sample), .shapes = PL_REDUCED,
      .derivative = "exact with any number of zeros", .vjp = prod_vjp, .jvp = prod_jvp
}
, REDUCE(max, "largest over axes (all by default)", PL_NUMBERS, extreme_shape, apart_sample),
    .shapes = PL_REDUCED, .derivative = "shared by ties", .vjp = extreme_vjp, .jvp = extreme_jvp
}
, REDUCE(min, "smallest over axes (all by default)", PL_NUMBERS, extreme_shape, apart_sample),
    .shapes = PL_REDUCED, .derivative = "shared by ties", .vjp = extreme_vjp, .jvp = extreme_jvp
}
,
    {.name = "norm",
     .formula = "norm over axes (all by default): order 1, 2 (default) or infinity",
     .shapes = "{...} -> the axes that stay; {} of all",
     .derivative = "0 at 0 for order 2",
     .kind = PL_COMPOSITE,
     .inputs = 1,
     .outputs = 1,
     .attrs = {{"axis", PL_AS_AXES, false, 0}, {"order", PL_AS_REAL, false, 2}},
     .expand = norm_expand,
     .sample = norm_sample},
    REDUCE(norm2, "Euclidean norm over axes", PL_FLOATS, reduce_shape, sample), .shapes = PL_REDUCED, .internal = true,
                                                                                .vjp = norm2_vjp, .jvp = norm2_jvp
}
, {0},
}
;
