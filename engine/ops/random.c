/* random.c: random tensors. The result depends on the key (seed, stream, position) and the shape alone: element i is
 * number position + i of a Philox stream, on any device and any number of threads. */
#include "../../kernels/shapes.h"
#include "../op.h"
#include "../schedule.h"

/* attributes: shape, key {seed, stream, position, dtype}, lo, hi */
static bool random_shape(const pl_call *call, pl_spec *out) {
  const pl_attr *shape = &call->attrs[0], *key = &call->attrs[1];
  if (shape->n < 0 || shape->n > PL_MAX_RANK || key->n != 3) {
    pl_error(call->c, PL_ERROR_ARGUMENT, "%s: a shape and a key {seed, stream, position} are needed", call->op->name);
    return false;
  }
  out->rank = shape->n;
  out->dtype = call->op == PL_OP(random_integers) ? PL_I64 : PL_F64;
  for (int i = 0; i < shape->n; i++) {
    if (shape->list[i] < 0 || shape->list[i] > INT32_MAX) {
      pl_error(call->c, PL_ERROR_SHAPE, "%s: %lld is no size of an axis", call->op->name, (long long)shape->list[i]);
      return false;
    }
    out->shape[i] = (int32_t)shape->list[i];
  }
  if (call->attrs[3].r < call->attrs[2].r) {
    pl_error(call->c, PL_ERROR_ARGUMENT, "%s: the range %g to %g is empty", call->op->name, call->attrs[2].r,
             call->attrs[3].r);
    return false;
  }
  return true;
}
static void random_run(const pl_call *call, pl_slot **out) {
  const int64_t *key = call->attrs[1].list;
  random_args a = {out[0]->data,     (uint64_t)key[0], (uint64_t)key[1],
                   (uint64_t)key[2], call->attrs[2].r, call->attrs[3].r};
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

#define RANDOM(op, text)                                                                                           \
  {                                                                                                                \
    .name = op, .formula = text, .kind = PL_OPAQUE, .inputs = 0, .outputs = 1, .internal = true, .dtypes = PL_ANY, \
    .attrs = {{"shape", PL_AS_SHAPE, true, 0},                                                                     \
              {"key", PL_AS_INTS, true, 0},                                                                        \
              {"lo", PL_AS_REAL, false, 0},                                                                        \
              {"hi", PL_AS_REAL, false, 1}},                                                                       \
    .shape = random_shape, .run = random_run, .sample = random_sample                                              \
  }

pl_op pl_ops_random[] = {
    RANDOM("random_uniform", "uniform in (lo, hi)"),
    RANDOM("random_normal", "standard normal"),
    RANDOM("random_integers", "uniform integers lo to hi, both included"),
    {0},
};
