/* random.c: random tensors. The result depends on the key (seed, stream, position), the parameters and the shape alone:
 * element i is number position + i of a Philox stream, on any device and any number of threads. The key is inputs, so
 * that a program which runs again draws anew, a loop's step by the number of the step, and whoever computes something
 * again draws the same. */
#include <math.h>
#include <string.h>

#include "../../kernels/shapes.h"
#include "../schedule.h"
#include "elementwise.h"

enum { KEY = 3 }; /* inputs: position (i64 of any shape: that many tensors, stacked along its axes), seed, stream */

/* The key's, and the attribute `shape` behind the positions'. */
static bool draw_shape(const pl_call *call, pl_spec *out) {
  const pl_attr *shape = &call->attrs[0];
  for (int i = 0; i < KEY; i++)
    if (call->in[i]->dtype != PL_I64 || (i && call->in[i]->rank)) {
      pl_error(call->c, PL_ERROR_TYPE, "%s: position, seed and stream are i64, and the last two single numbers",
               call->op->name);
      return false;
    }
  out->dtype = PL_F64;
  out->rank = call->in[0]->rank;
  memcpy(out->shape, call->in[0]->shape, (size_t)out->rank * sizeof *out->shape);
  if (shape->n < 0 || shape->n + out->rank > PL_MAX_RANK) {
    pl_error(call->c, PL_ERROR_ARGUMENT, "%s: a shape of at most %d axes is needed", call->op->name,
             PL_MAX_RANK - out->rank);
    return false;
  }
  for (int i = 0; i < shape->n; i++) {
    if (shape->list[i] < 0 || shape->list[i] > INT32_MAX) {
      pl_error(call->c, PL_ERROR_SHAPE, "%s: %lld is no size of an axis", call->op->name, (long long)shape->list[i]);
      return false;
    }
    out->shape[out->rank++] = (int32_t)shape->list[i];
  }
  return true;
}
/* attributes behind the shape: lo, hi */
static bool range_shape(const pl_call *call, pl_spec *out) {
  const double lo = call->attrs[1].r, hi = call->attrs[2].r;
  if (!draw_shape(call, out)) return false;
  if (!(hi >= lo)) {
    pl_error(call->c, PL_ERROR_ARGUMENT, "%s: the range %g to %g is empty", call->op->name, lo, hi);
    return false;
  }
  if (call->op != PL_OP(random_integers)) return true;
  out->dtype = PL_I64;
  if (fabs(lo) <= 0x1p53 && fabs(hi) <= 0x1p53) return true;
  pl_error(call->c, PL_ERROR_ARGUMENT, "%s: %g to %g are not all whole numbers of f64", call->op->name, lo, hi);
  return false;
}
/* inputs behind the key: parameters, f64 numbers or tensors of the result's shape */
static bool parameters_shape(const pl_call *call, pl_spec *out) {
  if (!draw_shape(call, out)) return false;
  for (int i = KEY; i < call->n; i++) {
    const pl_slot *p = call->in[i];
    if (p->dtype == PL_F64 &&
        (p->rank == 0 || (p->rank == out->rank && !memcmp(p->shape, out->shape, p->rank * sizeof *p->shape))))
      continue;
    pl_shape_error(call, "parameters are f64, single numbers or tensors of the result's shape");
    return false;
  }
  return true;
}

static void draw_run(const pl_call *call, pl_slot **out) {
  const pl_slot *position = call->in[0];
  const bool ranged = call->n == KEY && call->attrs[1].type == PL_ATTR_REAL;
  if (out[0]->count == 0) return;
  random_args a = {.y = out[0]->data,
                   .seed = *(const uint64_t *)call->in[1]->data,
                   .stream = *(const uint64_t *)call->in[2]->data,
                   .position = *(const uint64_t *)position->data,
                   .lo = ranged ? call->attrs[1].r : 0,
                   .hi = ranged ? call->attrs[2].r : 0,
                   .positions = position->count == 1 ? NULL : position->data,
                   .count = out[0]->count / position->count,
                   .n = out[0]->count};
  for (int i = KEY; i < call->n; i++) {
    a.p[i - KEY] = call->in[i]->data;
    a.one[i - KEY] = call->in[i]->count == 1;
  }
  const double work = call->n > KEY ? 40 : 10;
  pl_for(call->c, call->op->fn[out[0]->dtype], &a, (a.n + PL_RANDOM_LANES - 1) / PL_RANDOM_LANES, 1,
         work * PL_RANDOM_LANES);
}

/* ---- permutations, along the last axis ---- */

static bool permutation_shape(const pl_call *call, pl_spec *out) {
  if (!draw_shape(call, out)) return false;
  out->dtype = PL_I64;
  if (call->attrs[0].n == 1) return true;
  pl_error(call->c, PL_ERROR_SHAPE, "%s: the shape is {n}; it has %d axes", call->op->name, call->attrs[0].n);
  return false;
}
static void shuffle_line(pl_context *c, shuffle_args *a) {
  const double block = (double)a->block * 10, bucket = (double)(a->n / a->buckets) * 15;
  pl_for(c, PL_KERNEL_OF(shuffle_classify, PL_I64), a, a->blocks, 1, block);
  pl_bucket_starts(a->counts, a->blocks, a->buckets);
  pl_for(c, PL_KERNEL_OF(shuffle_scatter, PL_I64), a, a->blocks, 1, block);
  pl_for(c, PL_KERNEL_OF(shuffle_buckets, PL_I64), a, a->buckets, 1, bucket);
}
static void permutation_run(const pl_call *call, pl_slot **out) {
  const int64_t lines = call->in[0]->count, n = call->attrs[0].list[0];
  pl_context *c = call->c;
  shuffle_args a = {.y = out[0]->data,
                    .seed = *(const uint64_t *)call->in[1]->data,
                    .stream = *(const uint64_t *)call->in[2]->data,
                    .positions = call->in[0]->data,
                    .n = n};
  if (out[0]->count == 0) return;
  if (n <= PL_SHUFFLE_LONG) {
    pl_for(c, call->op->fn[PL_I64], &a, lines, 1, 20 * (double)n);
    return;
  }
  a.buckets = PL_SHUFFLE_BUCKETS;
  a.block = (n + 63) / 64;
  a.blocks = (n + a.block - 1) / a.block;
  a.counts = pl_memory_new(c, (size_t)(a.buckets * a.blocks) * sizeof *a.counts);
  a.bucket = pl_memory_new(c, (size_t)n * sizeof *a.bucket);
  for (int64_t i = 0; i < lines && a.counts && a.bucket && !c->status; i++, a.positions++, a.y += n)
    shuffle_line(c, &a);
  pl_memory_free(c, a.counts);
  pl_memory_free(c, a.bucket);
}

/* ---- gamma ---- */

static void loggamma_vjp(pl_vjp *v) {
  pl_vjp_give(v, KEY, pl_chain(v->c, v->g[0], pl_call2(v->c, PL_OP(loggamma_slope), v->in[KEY], v->out[0], NULL)));
}
static void loggamma_jvp(pl_jvp *j) {
  j->dt[0] = pl_chain(j->c, j->t[KEY], pl_call2(j->c, PL_OP(loggamma_slope), j->in[KEY], j->out[0], NULL));
}

/* ---- truncated normal ---- */

static pl_value gaussian_ratio(pl_context *c, pl_value z, pl_value edge) { /* phi(edge)/phi(z) */
  return CALL1(exp, CALL2(mul, CALL2(mul, CALL2(sub, z, edge), CALL2(add, z, edge)), pl_like(c, z, 0.5)));
}
PARTIAL(truncated_normal_quantile) {
  UNUSED;
  pl_value u = in[0], lo = in[1], hi = in[2];
  if (k == 1) return CALL2(mul, CALL2(sub, NUMBER(1), u), gaussian_ratio(c, y, lo));
  if (k == 2) return CALL2(mul, u, gaussian_ratio(c, y, hi));
  pl_value log_phi = CALL2(sub, CALL2(mul, CALL1(square, y), NUMBER(-0.5)), NUMBER(0.91893853320467274178));
  return CALL1(exp, CALL2(sub, CALL2(log_normal_mass, lo, hi), log_phi));
}
PARTIAL(log_normal_mass) {
  UNUSED;
  pl_value log_phi =
      CALL2(sub, CALL2(mul, CALL1(square, k == 0 ? X : Z), NUMBER(-0.5)), NUMBER(0.91893853320467274178));
  pl_value ratio = CALL1(exp, CALL2(sub, log_phi, y));
  return k == 0 ? CALL1(neg, ratio) : ratio;
}

/* ---- weights: those of at least `positive` entries along the last axis are positive, none is negative ---- */

static bool weights_shape(const pl_call *call, pl_spec *out) {
  const pl_slot *w = call->in[0];
  out->dtype = (pl_dtype)w->dtype;
  out->rank = w->rank;
  memcpy(out->shape, w->shape, sizeof out->shape);
  if (w->rank > 0 && w->dtype == PL_F64) return true;
  pl_error(call->c, PL_ERROR_SHAPE, "weights are a vector, or vectors along the last axis, not a single number");
  return false;
}
static void weights_run(const pl_call *call, pl_slot **out) {
  const pl_slot *w = call->in[0];
  const double *x = w->data;
  const int64_t n = w->shape[w->rank - 1], wanted = call->attrs[0].i;
  for (int64_t lo = 0; lo < w->count; lo += n) {
    int64_t positive = 0;
    for (int64_t k = lo; k < lo + n; k++) {
      if (!(x[k] >= 0 && x[k] < INFINITY)) {
        pl_error(call->c, PL_ERROR_ARGUMENT, "weights: number %lld is %g; they are finite and none is negative",
                 (long long)(k - lo + 1), x[k]);
        return;
      }
      positive += x[k] > 0;
    }
    if (positive < wanted) {
      pl_error(call->c, PL_ERROR_ARGUMENT, "weights: %lld of %lld are positive; %lld must be", (long long)positive,
               (long long)n, (long long)wanted);
      return;
    }
  }
  memcpy(out[0]->data, x, (size_t)w->count * sizeof *x);
}

/* ---- samples ---- */

static bool key_sample(pl_context *c, int k, pl_sample *s) {
  static const int64_t shape[] = {3, 4}, positions[] = {5, -3, 17};
  const int64_t n = 3;
  s->n = KEY;
  s->in[0] = k ? pl_tensor(c, PL_I64, 1, &n, positions) : pl_scalar(c, PL_I64, 5);
  s->in[1] = pl_scalar(c, PL_I64, 7);
  s->in[2] = pl_scalar(c, PL_I64, 0);
  s->attrs[0] = PL_INTS(2, shape);
  return k < 2;
}
static bool draw_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  (void)r;
  s->attrs[1] = PL_REALV(-1);
  s->attrs[2] = PL_REALV(2);
  return k < 2 && key_sample(c, k, s);
}
/* A single number, then one for each number drawn. */
static bool parameter_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s, double lo, double hi) {
  s->in[s->n++] = k == 2   ? pl_sample_tensor(c, r, lo, hi, 0)
                  : k == 0 ? pl_sample_tensor(c, r, lo, hi, 2, 3, 4)
                           : pl_sample_tensor(c, r, lo, hi, 3, 3, 3, 4);
  return true;
}
static bool permutation_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  static const int64_t sizes[] = {7, 1, 20000};
  (void)r;
  if (k > 2) return false;
  key_sample(c, k == 0, s);
  s->attrs[0] = PL_INTS(1, &sizes[k]);
  return true;
}
static bool loggamma_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  return k < 3 && (key_sample(c, k == 1, s), parameter_sample(c, r, k, s, 0.4, 3));
}
static bool slope_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  return k < 8 && sample_binary(c, r, k, s, 0.4, 3, -2, 2);
}
static bool poisson_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  return k < 3 && (key_sample(c, k == 1, s), parameter_sample(c, r, k, s, 0.5, 20));
}
static bool binomial_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  if (k > 2) return false;
  key_sample(c, k == 1, s);
  s->in[s->n++] = pl_scalar(c, PL_F64, 50);
  return parameter_sample(c, r, k, s, 0.01, 0.9);
}
static bool quantile_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) { /* astride, above, below 0 */
  const double lo[] = {-1, 0.5, -4, -1}, hi[] = {1.5, 2, -2.5, 1.5};
  if (k > 3) return false;
  s->n = 3;
  s->in[0] = k == 3 ? pl_sample_tensor(c, r, 0.2, 0.8, 2, 2, 1) : pl_sample_tensor(c, r, 0.2, 0.8, 2, 2, 3);
  s->in[1] = k == 3 ? pl_sample_tensor(c, r, lo[k], lo[k] + 0.3, 1, 3) : pl_sample_tensor(c, r, lo[k], lo[k] + 0.3, 0);
  s->in[2] = pl_sample_tensor(c, r, hi[k], hi[k] + 0.3, 1, 3);
  return true;
}
static bool mass_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  const double lo[] = {-1, 0.5, -8}, hi[] = {1.5, 2, -6};
  return k < 8 && sample_binary(c, r, k, s, lo[k % 3], lo[k % 3] + 0.3, hi[k % 3], hi[k % 3] + 0.3);
}
static bool weights_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  s->n = 1;
  s->attrs[0] = PL_INT(2);
  if (k < 2) s->in[0] = k ? pl_sample_tensor(c, r, 0, 1, 2, 3, 4) : pl_sample_tensor(c, r, 0, 1, 1, 5);
  return k < 2;
}

#define STEPS                                                                                                   \
  "the draws of whole numbers move in steps; give the parameters by stop_gradient, and multiply with log_prob " \
  "(the score function) where the expectation's gradient is wanted"
#define RANDOM(op, text, more, shp, smp)                                                                          \
  .name = #op, .formula = text, .shapes = "positions and shape -> {positions..., shape...}", .kind = PL_OPAQUE,   \
  .inputs = KEY + (more), .outputs = 1, .internal = true, .dtypes = PL_ANY, .keeps = PL_KEEPS_ALL, .draws = true, \
  .shape = shp, .run = draw_run, .sample = smp##_sample
#define SHAPE \
  { "shape", PL_AS_SHAPE, true, 0 }

pl_op pl_ops_random[] = {
    {RANDOM(random_uniform, "uniform in (lo, hi)", 0, range_shape, draw),
     .attrs = {SHAPE, {"lo", PL_AS_REAL, false, 0}, {"hi", PL_AS_REAL, false, 1}}},
    {RANDOM(random_normal, "standard normal", 0, draw_shape, draw), .source = "Box and Muller 1958", .attrs = {SHAPE}},
    {RANDOM(random_integers, "uniform integers lo to hi, both included", 0, range_shape, draw),
     .attrs = {SHAPE, {"lo", PL_AS_REAL, true, 0}, {"hi", PL_AS_REAL, true, 0}}},
    {.name = "random_permutation",
     .formula = "the numbers 1 to n in random order",
     .shapes = "positions and {n} -> {positions..., n}, i64",
     .source = "C. Rao, Sankhya A 23, 1961; R. Durstenfeld, Communications of the ACM 7(7), 1964",
     .kind = PL_OPAQUE,
     .inputs = KEY,
     .outputs = 1,
     .internal = true,
     .dtypes = PL_ANY,
     .keeps = PL_KEEPS_ALL,
     .draws = true,
     .shape = permutation_shape,
     .run = permutation_run,
     .sample = permutation_sample,
     .attrs = {SHAPE}},
    {RANDOM(random_loggamma, "logarithm of gamma variates of a shape", 1, parameters_shape, loggamma),
     .derivative = "in the shape, that of the quantile (implicit reparametrization, M. Figurnov, S. Mohamed, A. Mnih, "
                   "NeurIPS 2018)",
     .source = "G. Marsaglia, W. Tsang, ACM Transactions on Mathematical Software 26(3), 2000", .attrs = {SHAPE},
     .vjp = loggamma_vjp, .jvp = loggamma_jvp},
    {RANDOM(random_poisson, "Poisson counts of a mean, as f64", 1, parameters_shape, poisson), .no_derivative = STEPS,
     .discrete = true,
     .source = "W. Hormann, Insurance: Mathematics and Economics 12, 1993 (PTRS); below 10 by inversion",
     .attrs = {SHAPE}},
    {RANDOM(random_binomial, "successes of n trials of probability p, as f64", 2, parameters_shape, binomial),
     .no_derivative = STEPS, .discrete = true,
     .source = "W. Hormann, Journal of Statistical Computation and Simulation 46, 1993 (BTRS); of a mean below 10 by "
               "inversion",
     .attrs = {SHAPE}},
    {.name = "check_weights",
     .formula = "the weights, which must be finite and not negative, and so many of them positive along the last axis",
     .shapes = "{..., n} -> {..., n}",
     .kind = PL_OPAQUE,
     .inputs = 1,
     .outputs = 1,
     .dtypes = PL_IN_F64,
     .no_derivative = STEPS,
     .discrete = true,
     .attrs = {{"positive", PL_AS_INT, true, 0}},
     .shape = weights_shape,
     .run = weights_run,
     .sample = weights_sample},
    {.name = "loggamma_slope",
     .formula = "how log x of a gamma variate moves with its shape at a fixed probability: inputs shape, log x",
     .accuracy = "40 ulp, and what an ulp of the inputs makes of the result",
     .source = "M. Figurnov, S. Mohamed, A. Mnih, Implicit reparameterization gradients, NeurIPS 2018",
     .kind = PL_ELEMENTWISE,
     .inputs = 2,
     .outputs = 1,
     .internal = true,
     .dtypes = PL_FLOATS,
     .result = -1,
     .work = 100,
     .no_derivative = "gamma variates are differentiated once in their shape",
     .sample = slope_sample},
    {.name = "truncated_normal_quantile",
     .formula = "z with Phi(z) = Phi(lo) + u (Phi(hi) - Phi(lo)): inputs u, lo, hi",
     .accuracy = "in the tails too; 1e-14 relative to the distribution's width",
     .kind = PL_ELEMENTWISE,
     .inputs = 3,
     .outputs = 1,
     .dtypes = PL_FLOATS,
     .result = -1,
     .work = 100,
     .partial = truncated_normal_quantile_partial,
     .sample = quantile_sample},
    {.name = "log_normal_mass",
     .formula = "log(Phi(hi) - Phi(lo)): inputs lo, hi; -inf where hi < lo",
     .accuracy = "a few ulp in the tails too, less for narrow intervals away from 0",
     .kind = PL_ELEMENTWISE,
     .inputs = 2,
     .outputs = 1,
     .dtypes = PL_FLOATS,
     .result = -1,
     .work = 50,
     .partial = log_normal_mass_partial,
     .sample = mass_sample},
    {0},
};
