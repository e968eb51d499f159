/* random.c: random tensors. The result depends on the key (seed, stream, position) and the shape alone: element i is
 * number position + i of a Philox stream, on any device and any number of threads. In the rows whose key is attributes
 * it is known when they are recorded; in those that end in _at it is inputs, so that a program which runs again draws
 * anew, a loop's step by the number of the step, and whoever computes something again draws the same. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../../kernels/shapes.h"
#include "../op.h"
#include "../schedule.h"

static bool is_integer(const pl_call *call) {
  return call->op == PL_OP(random_integers) || call->op == PL_OP(random_integers_at);
}
/* The attribute `shape` behind what stands in out already; lo and hi. */
static bool fits(const pl_call *call, const pl_attr *lo, pl_spec *out) {
  const pl_attr *shape = &call->attrs[0];
  if (shape->n < 0 || shape->n + out->rank > PL_MAX_RANK) {
    pl_error(call->c, PL_ERROR_ARGUMENT, "%s: a shape of at most %d axes is needed", call->op->name,
             PL_MAX_RANK - out->rank);
    return false;
  }
  out->dtype = is_integer(call) ? PL_I64 : PL_F64;
  for (int i = 0; i < shape->n; i++) {
    if (shape->list[i] < 0 || shape->list[i] > INT32_MAX) {
      pl_error(call->c, PL_ERROR_SHAPE, "%s: %lld is no size of an axis", call->op->name, (long long)shape->list[i]);
      return false;
    }
    out->shape[out->rank++] = (int32_t)shape->list[i];
  }
  if (!(lo[1].r >= lo[0].r)) {
    pl_error(call->c, PL_ERROR_ARGUMENT, "%s: the range %g to %g is empty", call->op->name, lo[0].r, lo[1].r);
    return false;
  }
  if (is_integer(call) && !(fabs(lo[0].r) <= 0x1p53 && fabs(lo[1].r) <= 0x1p53)) {
    pl_error(call->c, PL_ERROR_ARGUMENT, "%s: %g to %g are not all whole numbers of f64", call->op->name, lo[0].r,
             lo[1].r);
    return false;
  }
  return true;
}

/* attributes: shape, key {seed, stream, position}, lo, hi */
static bool random_shape(const pl_call *call, pl_spec *out) {
  if (call->attrs[1].n != 3) {
    pl_error(call->c, PL_ERROR_ARGUMENT, "%s: a key {seed, stream, position} is needed", call->op->name);
    return false;
  }
  return fits(call, &call->attrs[2], out);
}
static void random_run(const pl_call *call, pl_slot **out) {
  const int64_t *key = call->attrs[1].list;
  random_args a = {
      out[0]->data, (uint64_t)key[0], (uint64_t)key[1], (uint64_t)key[2], call->attrs[2].r, call->attrs[3].r, NULL, 0};
  pl_for(call->c, pl_kernel_find(call->op->name, (pl_dtype)out[0]->dtype), &a, out[0]->count, 1, 40);
}
static bool random_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  (void)c, (void)r;
  static const int64_t shape[] = {3, 4}, key[] = {7, 0, 5};
  s->n = 0;
  s->attrs[0] = PL_INTS(2, shape);
  s->attrs[1] = PL_INTS(3, key);
  s->attrs[2] = PL_REALV(0);
  s->attrs[3] = PL_REALV(1);
  return k < 1;
}

/* inputs: position (i64 of any shape: that many tensors, stacked along its axes), seed, stream; attributes: shape, lo,
 * hi */
static bool at_shape(const pl_call *call, pl_spec *out) {
  for (int i = 0; i < 3; i++)
    if (call->in[i]->dtype != PL_I64 || (i && call->in[i]->rank)) {
      pl_error(call->c, PL_ERROR_TYPE, "%s: position, seed and stream are i64, and the last two single numbers",
               call->op->name);
      return false;
    }
  out->rank = call->in[0]->rank;
  memcpy(out->shape, call->in[0]->shape, (size_t)out->rank * sizeof *out->shape);
  return fits(call, &call->attrs[1], out);
}
static void at_run(const pl_call *call, pl_slot **out) {
  const pl_slot *position = call->in[0];
  bool one = position->count == 1;
  if (out[0]->count == 0) return;
  random_args a = {.y = out[0]->data,
                   .seed = *(const uint64_t *)call->in[1]->data,
                   .stream = *(const uint64_t *)call->in[2]->data,
                   .position = *(const uint64_t *)position->data,
                   .lo = call->attrs[1].r,
                   .hi = call->attrs[2].r,
                   .positions = one ? NULL : position->data,
                   .count = out[0]->count / position->count};
  char name[32];
  snprintf(name, sizeof name, "%.*s", (int)strlen(call->op->name) - 3, call->op->name); /* without _at */
  pl_for(call->c, pl_kernel_find(name, (pl_dtype)out[0]->dtype), &a, out[0]->count, 1, 40);
}
static bool at_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  static const int64_t shape[] = {3, 4}, positions[] = {5, -3, 17};
  const int64_t n = 3;
  (void)r;
  if (k > 1) return false;
  s->n = 3;
  s->in[0] = k ? pl_tensor(c, PL_I64, 1, &n, positions) : pl_scalar(c, PL_I64, 5);
  s->in[1] = pl_scalar(c, PL_I64, 7);
  s->in[2] = pl_scalar(c, PL_I64, 0);
  s->attrs[0] = PL_INTS(2, shape);
  s->attrs[1] = PL_REALV(0);
  s->attrs[2] = PL_REALV(1);
  return true;
}

#define RANDOM(op, text)                                                                                           \
  {                                                                                                                \
    .name = op, .formula = text, .kind = PL_OPAQUE, .inputs = 0, .outputs = 1, .internal = true, .dtypes = PL_ANY, \
    .attrs = {{"shape", PL_AS_SHAPE, true, 0},                                                                     \
              {"key", PL_AS_INTS, true, 0},                                                                        \
              {"lo", PL_AS_REAL, false, 0},                                                                        \
              {"hi", PL_AS_REAL, false, 1}},                                                                       \
    .shape = random_shape, .run = random_run, .sample = random_sample                                              \
  }

#define RANDOM_AT(op, text)                                                                                        \
  {                                                                                                                \
    .name = op, .formula = text, .kind = PL_OPAQUE, .inputs = 3, .outputs = 1, .internal = true, .dtypes = PL_ANY, \
    .keeps = PL_KEEPS_ALL,                                                                                         \
    .attrs = {{"shape", PL_AS_SHAPE, true, 0}, {"lo", PL_AS_REAL, false, 0}, {"hi", PL_AS_REAL, false, 1}},        \
    .shape = at_shape, .run = at_run, .sample = at_sample                                                          \
  }

pl_op pl_ops_random[] = {
    RANDOM("random_uniform", "uniform in (lo, hi)"),
    RANDOM("random_normal", "standard normal"),
    RANDOM("random_integers", "uniform integers lo to hi, both included"),
    RANDOM_AT("random_uniform_at", "uniform in (lo, hi), from a position of a stream on"),
    RANDOM_AT("random_normal_at", "standard normal, from a position of a stream on"),
    RANDOM_AT("random_integers_at", "uniform integers lo to hi, both included, from a position of a stream on"),
    {0},
};
