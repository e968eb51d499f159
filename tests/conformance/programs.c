/* Random programs of 5 to 50 ops over the table: a program traced from them, optimized or not, gives the bits of eager
 * execution, forward and in its gradient; and the gradient has slope 2. Seeded; PERILUNE_PROGRAMS sets how many (1000),
 * PERILUNE_SEED the first. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "execute.h"

typedef struct {
  pl_context *c;
  pl_sampler_random r;
  pl_value pool[64];
  int n;
  int depth;  /* of bodies within bodies */
  bool stops; /* with stop_gradient: then there is no slope */
} generator;

static double uniform(generator *g, double lo, double hi) { return pl_sample_uniform(&g->r, lo, hi); }
static int choose(generator *g, int n) { return (int)uniform(g, 0, n); }

static pl_value one(generator *g, const char *op, pl_value x, const pl_attr *attrs) {
  return pl_apply1(g->c, pl_op_find(op), 1, &x, attrs);
}
static pl_value two(generator *g, const char *op, pl_value x, pl_value y, const pl_attr *attrs) {
  pl_value in[] = {x, y};
  return pl_apply1(g->c, pl_op_find(op), 2, in, attrs);
}
static pl_value three(generator *g, const char *op, pl_value x, pl_value y, pl_value z, const pl_attr *attrs) {
  pl_value in[] = {x, y, z};
  return pl_apply1(g->c, pl_op_find(op), 3, in, attrs);
}
static pl_slot *slot(generator *g, pl_value v) { return pl_slot_get(g->c, v); }
static int64_t count(generator *g, pl_value v) { return slot(g, v)->count; }

static bool broadcasts(const pl_slot *a, const pl_slot *b) {
  for (int i = 1; i <= a->rank && i <= b->rank; i++) {
    int32_t m = a->shape[a->rank - i], n = b->shape[b->rank - i];
    if (m != n && m != 1 && n != 1) return false;
  }
  return true;
}

static pl_value pick(generator *g) { return g->pool[choose(g, g->n)]; }
/* One that broadcasts with x. */
static pl_value partner(generator *g, pl_value x) {
  for (int tries = 0; tries < 12; tries++) {
    pl_value y = pick(g);
    if (broadcasts(slot(g, x), slot(g, y))) return y;
  }
  return x;
}
static pl_value bounded(generator *g, pl_value x) { return one(g, "tanh", x, NULL); }
static pl_value number(generator *g, double x) { return pl_number(g->c, PL_F64, x); }

static int region(generator *g, pl_value x, int64_t *start, int64_t *step, int64_t *size) {
  const pl_slot *s = slot(g, x);
  for (int a = 0; a < s->rank; a++) {
    int m = s->shape[a];
    size[a] = m ? 1 + choose(g, m) : 0;
    bool back = choose(g, 4) == 0, skip = size[a] > 1 && (m - 1) / (size[a] - 1) >= 2 && choose(g, 3) == 0;
    step[a] = (back ? -1 : 1) * (skip ? 2 : 1);
    int64_t reach = (size[a] - 1) * (skip ? 2 : 1), first = m > reach ? choose(g, (int)(m - reach)) : 0;
    start[a] = back ? first + reach : first;
  }
  return s->rank;
}

static pl_value index_of(generator *g, int64_t m, int64_t n) {
  /* made of whole numbers that are known while tracing too */
  int64_t data[16];
  for (int64_t i = 0; i < n; i++) data[i] = 1 + choose(g, (int)m);
  return pl_tensor(g->c, PL_I64, 1, &n, data);
}

static pl_value step_ops(generator *g, int ops);

/* A body of a few ops over copies of some values; what it captures joins its inputs. */
typedef struct {
  pl_body *body;
  pl_value in[PL_MAX_INPUTS];
  int n;
} closure;

static closure trace_body(generator *g, int n, const pl_value *models, bool state_like) {
  closure k = {NULL, {0}, n};
  memcpy(k.in, models, (size_t)n * sizeof *models);
  pl_value inputs[8], out;
  pl_trace *t = pl_trace_like(g->c, n, models, n, inputs);
  if (!t) return k;
  generator inner = *g;
  inner.depth++;
  inner.n = 0;
  for (int i = 0; i < n; i++) inner.pool[inner.n++] = inputs[i];
  if (choose(&inner, 2)) inner.pool[inner.n++] = g->pool[0]; /* captured */
  out = step_ops(&inner, 2 + choose(&inner, 4));
  g->r = inner.r;
  if (state_like && out != PL_NONE) { /* back in the first input's shape */
    pl_value s = one(&inner, "sum", out, (pl_attr[]){PL_INTS(-1, NULL), PL_INT(0)});
    out = two(&inner, "add", two(&inner, "mul", inputs[0], number(&inner, 0.7), NULL), bounded(&inner, s), NULL);
  }
  if (!g->c->status) k.body = pl_trace_end(g->c, t, 1, &out);
  int m = k.body ? pl_trace_captures(g->c, t, k.in + n) : 0;
  for (int i = 0; i < m; i++) pl_retain(g->c, k.in[n + i]);
  k.n += m;
  pl_trace_free(g->c, t);
  return k;
}
static void closure_free(generator *g, closure *k, int first) {
  for (int i = first; i < k->n; i++) pl_release(g->c, k->in[i]);
  pl_body_release(k->body);
}

static pl_value random_op(generator *g) {
  pl_context *c = g->c;
  pl_value x = pick(g), y;
  const pl_slot *s = slot(g, x);
  int64_t start[8], step[8], size[8], list[8];
  switch (choose(g, 26)) {
    case 0:
    case 1: {
      static const char *const names[] = {"sin", "cos", "tanh",  "sigmoid",         "square",
                                          "neg", "exp", "expm1", "one_minus_square"};
      return one(g, names[choose(g, 9)], bounded(g, x), NULL);
    }
    case 2: {
      static const char *const names[] = {"log", "sqrt", "log1p"};
      return one(g, names[choose(g, 3)], two(g, "add", one(g, "square", x, NULL), number(g, 0.6), NULL), NULL);
    }
    case 3:
    case 4:
    case 5: {
      static const char *const names[] = {"add", "sub", "mul", "chain"};
      return two(g, names[choose(g, 4)], x, partner(g, x), NULL);
    }
    case 6: return two(g, "div", x, two(g, "add", one(g, "square", partner(g, x), NULL), number(g, 1.1), NULL), NULL);
    case 7: return two(g, choose(g, 2) ? "mul" : "add", number(g, uniform(g, -1, 1)), x, NULL);
    case 8: return one(g, "softplus", x, &PL_REALV(uniform(g, 0.5, 2)));
    case 9: {
      y = partner(g, x);
      pl_value mask = two(g, choose(g, 2) ? "lt" : "ge", number(g, 0.3), number(g, 0.4), NULL);
      return three(g, "where", mask, x, y, NULL);
    }
    case 10:
    case 11: {
      static const char *const names[] = {"sum", "mean", "sum", "norm"};
      const char *name = names[choose(g, 4)];
      if (!strcmp(name, "norm"))
        return one(g, "norm", two(g, "add", x, number(g, 0.01), NULL), (pl_attr[]){PL_INTS(-1, NULL), PL_REALV(2)});
      if (s->rank == 0 || choose(g, 3) == 0) return one(g, name, x, (pl_attr[]){PL_INTS(-1, NULL), PL_INT(0)});
      list[0] = choose(g, s->rank);
      return one(g, name, x, (pl_attr[]){PL_INTS(1, list), PL_INT(choose(g, 2))});
    }
    case 12:
      return s->rank ? one(g, "cumsum", x, (pl_attr[]){PL_INT(choose(g, s->rank)), PL_INT(choose(g, 2))}) : PL_NONE;
    case 13: return one(g, "transpose", x, &PL_INTS(-1, NULL));
    case 14: {
      int rank = region(g, x, start, step, size);
      return one(g, "slice", x, (pl_attr[]){PL_INTS(rank, start), PL_INTS(rank, step), PL_INTS(rank, size)});
    }
    case 15:
    case 16: {
      int rank = region(g, x, start, step, size);
      pl_attr attrs[] = {PL_INTS(rank, start), PL_INTS(rank, step), PL_INTS(rank, size)};
      pl_value w = one(g, choose(g, 2) ? "sin" : "neg", one(g, "slice", x, attrs), NULL);
      return two(g, choose(g, 2) ? "slice_add" : "slice_set", choose(g, 2) ? x : two(g, "mul", x, number(g, 0.5), NULL),
                 w, attrs);
    }
    case 17:
      list[0] = 1;
      return count(g, x) < 200 && s->rank
                 ? one(g, "pad", x, (pl_attr[]){PL_INTS(1, list), PL_REALV(choose(g, 2) ? 0 : 0.25)})
                 : PL_NONE;
    case 18: {
      int64_t n = count(g, x);
      return one(g, "reshape", x, &PL_INTS(1, &n));
    }
    case 19: {
      if (s->rank > 2 || count(g, x) > 60) return PL_NONE;
      list[0] = 2 + choose(g, 2);
      for (int a = 0; a < s->rank; a++) list[a + 1] = s->shape[a];
      return one(g, "broadcast_to", x, &PL_INTS(s->rank + 1, list));
    }
    case 20: {
      if (!s->rank || !s->shape[0]) return PL_NONE;
      pl_value index = index_of(g, s->shape[0], 3), taken = two(g, "gather", x, index, &PL_INT(0));
      return choose(g, 2) ? taken : three(g, "add_at", x, index, one(g, "sin", taken, NULL), &PL_INT(0));
    }
    case 21: {
      pl_value list_in[] = {x, x};
      return s->rank && count(g, x) < 100
                 ? pl_apply1(c, pl_op_find(choose(g, 2) ? "concat" : "stack"), 2, list_in, &PL_INT(0))
                 : PL_NONE;
    }
    case 22:
      if (s->rank != 2) return PL_NONE;
      return two(g, "matmul", bounded(g, x), bounded(g, one(g, "transpose", x, &PL_INTS(-1, NULL))), NULL);
    case 23: return g->stops ? one(g, "stop_gradient", x, NULL) : one(g, "square", bounded(g, x), NULL);
    case 24: {
      if (g->depth > 1) return PL_NONE;
      pl_value models[] = {x, partner(g, x)};
      closure k = trace_body(g, 2, models, false);
      if (!k.body) return PL_NONE;
      pl_value out = pl_apply1(c, pl_op_find("call"), k.n, k.in,
                               (pl_attr[]){PL_OBJECT(pl_body_object(k.body)), PL_INT(choose(g, 2))});
      closure_free(g, &k, 2);
      return out;
    }
    default: {
      if (g->depth > 1) return PL_NONE;
      closure k = trace_body(g, 1, &x, true);
      if (!k.body) return PL_NONE;
      int64_t length = 1 + choose(g, 5), layout[] = {1, 0, 0, length, 0, 0}, checkpoints = 1 + choose(g, 3);
      pl_value out = pl_apply1(
          c, pl_op_find("scan"), k.n, k.in,
          (pl_attr[]){PL_OBJECT(pl_body_object(k.body)), PL_INTS(6, layout), PL_INTS(choose(g, 2), &checkpoints)});
      closure_free(g, &k, 1);
      return out;
    }
  }
}

static pl_value step_ops(generator *g, int ops) {
  for (int i = 0; i < ops && !g->c->status; i++) {
    pl_value v = random_op(g);
    if (v == PL_NONE) continue;
    const pl_slot *s = slot(g, v);
    if (!s || s->dtype != PL_F64 || s->count > 400 || s->rank > 4) continue;
    if (g->n == 64) g->n = 3;
    g->pool[g->n++] = v;
  }
  /* everything counts */
  pl_value total = number(g, 0.5);
  for (int i = 0; i < g->n && !g->c->status; i++)
    total =
        two(g, "add", total, one(g, "sum", bounded(g, g->pool[i]), (pl_attr[]){PL_INTS(-1, NULL), PL_INT(0)}), NULL);
  return total;
}

enum { INPUTS = 3, STEPS = 10 };

static pl_value program(pl_context *c, uint64_t seed, const pl_value *x) {
  generator g = {.c = c, .r = {seed * 0x9e3779b97f4a7c15u + 12345}, .stops = seed % 5 == 0};
  for (int i = 0; i < INPUTS; i++) g.pool[g.n++] = x[i];
  return step_ops(&g, 5 + choose(&g, 46));
}

static bool same_bits(pl_context *c, pl_value a, pl_value b) {
  pl_slot *s = pl_slot_get(c, a), *t = pl_slot_get(c, b);
  return s && t && s->count == t->count && !memcmp(s->data, t->data, (size_t)s->count * 8);
}

static double eager_value(pl_context *c, uint64_t seed, const pl_value *x) {
  pl_scope_begin(c);
  double f = pl_item(c, program(c, seed, x));
  pl_scope_end(c);
  return f;
}

static void check_program(pl_context *c, uint64_t seed, double *worst, int64_t *ops) {
  pl_sampler_random r = {seed ^ 0xabcdef};
  pl_value x[INPUTS];
  int rows = 1 + (int)pl_sample_uniform(&r, 0, 5), columns = 1 + (int)pl_sample_uniform(&r, 0, 70);
  x[0] = pl_sample_tensor(c, &r, -1, 1, 2, rows, columns > 12 ? columns % 13 + 1 : columns);
  x[1] =
      pl_sample_tensor(c, &r, -1, 1, 1, seed % 3 ? columns % 7 + 1 : columns); /* rows long enough to be walked, too */
  x[2] = pl_sample_tensor(c, &r, -1, 1, 0);
  uint8_t need[PL_MAX_INPUTS] = {1, 1, 1}, reached[PL_MAX_INPUTS];

  /* eager, with its gradient */
  pl_value in[INPUTS], g[INPUTS], y;
  pl_region *region = pl_region_open(c, INPUTS, x, NULL, in);
  y = program(c, seed, in);
  pl_region_close(region);
  if (c->status) fail_msg("program %d: %s", (int)seed, c->message);
  double value = pl_item(c, y);
  if (!pl_region_vjp(region, 1, &y, NULL, g, NULL, true)) fail_msg("program %d: gradient: %s", (int)seed, c->message);
  pl_region_free(region);
  double plain = eager_value(c, seed, x);
  if (memcmp(&plain, &value, 8)) fail_msg("program %d: %.17g recorded, %.17g not", (int)seed, value, plain);

  /* traced, plain and optimized */
  pl_value inputs[INPUTS], all[PL_MAX_INPUTS], out[8];
  pl_trace *t = pl_trace_like(c, INPUTS, x, INPUTS, inputs);
  pl_value traced = program(c, seed, inputs);
  pl_body *b = pl_trace_end(c, t, 1, &traced);
  if (!b) fail_msg("program %d: trace: %s", (int)seed, c->message);
  memcpy(all, x, sizeof x);
  int n = INPUTS + pl_trace_captures(c, t, all + INPUTS);
  *ops += b->code.n;
  pl_body *with = pl_body_with_gradient(c, b, need, reached);
  if (!with) fail_msg("program %d: gradient of the program: %s", (int)seed, c->message);
  for (int how = 0; how < 2; how++) {
    pl_set_plain(c, how == 0, false);
    if (!pl_apply(c, pl_op_find("call"), n, all, (pl_attr[]){PL_OBJECT(pl_body_object(with)), PL_INT(0)}, out))
      fail_msg("program %d: run: %s", (int)seed, c->message);
    double f = pl_item(c, out[0]);
    if (memcmp(&f, &value, 8))
      fail_msg("program %d, %s: %.17g instead of %.17g", (int)seed, how ? "optimized" : "plain", f, value);
    for (int i = 0; i < INPUTS; i++)
      if (!same_bits(c, out[1 + i], g[i])) {
        double a = 0;
        for (int64_t k = 0; k < pl_slot_get(c, g[i])->count; k++)
          a = fmax(a, fabs(((const double *)pl_data(c, g[i]))[k] - ((const double *)pl_data(c, out[1 + i]))[k]));
        fail_msg("program %d, %s: gradient %d differs by %.3g", (int)seed, how ? "optimized" : "plain", i + 1, a);
      }
    for (int i = 0; i < 1 + INPUTS; i++) pl_release(c, out[i]);
  }
  pl_body_release(with);
  pl_body_release(b);
  pl_trace_free(c, t);

  /* slope 2 along a random direction */
  pl_value moved[INPUTS], d[INPUTS];
  double slope = 0, remainder[STEPS], h = 0.01, floor_ = 3e-14 * (fabs(value) + 1);
  for (int i = 0; i < INPUTS; i++) {
    pl_slot *s = pl_slot_get(c, x[i]);
    int64_t shape[8];
    for (int a = 0; a < s->rank; a++) shape[a] = s->shape[a];
    d[i] = pl_tensor(c, PL_F64, s->rank, shape, NULL);
    for (int64_t k = 0; k < s->count; k++) {
      ((double *)pl_data(c, d[i]))[k] = pl_sample_uniform(&r, -1, 1);
      slope += ((const double *)pl_data(c, d[i]))[k] * ((const double *)pl_data(c, g[i]))[k];
    }
  }
  for (int s = 0; s < STEPS; s++, h /= 2) {
    for (int i = 0; i < INPUTS; i++) {
      pl_value hs = pl_scalar(c, PL_F64, h), step = pl_call2(c, PL_OP(mul), d[i], hs, NULL);
      moved[i] = pl_call2(c, PL_OP(add), x[i], step, NULL);
      pl_release(c, hs);
      pl_release(c, step);
    }
    remainder[s] = fabs(eager_value(c, seed, moved) - value - h * slope);
    for (int i = 0; i < INPUTS; i++) pl_release(c, moved[i]);
  }
  double best = 9;
  bool exact = false;
  for (int s = 0; s + 1 < STEPS; s++) {
    exact = exact || remainder[s + 1] <= floor_ * 100;
    if (remainder[s] > floor_ && remainder[s + 1] > floor_)
      best = fmin(best, fmax(0, 2 - log2(remainder[s] / remainder[s + 1])));
  }
  if (seed % 5 && !exact) {
    if (best > *worst) *worst = best;
    if (best > 0.3)
      fail_msg("program %d: the remainder's slope is %.2f below 2 (%.3g, %.3g, %.3g)", (int)seed, best, remainder[0],
               remainder[1], remainder[2]);
  }
  for (int i = 0; i < INPUTS; i++) {
    pl_release(c, g[i]);
    pl_release(c, d[i]);
    pl_release(c, x[i]);
  }
  if (c->status) fail_msg("program %d: %s", (int)seed, c->message);
}

static void random_programs(void **state) {
  (void)state;
  const char *many = getenv("PERILUNE_PROGRAMS"), *first = getenv("PERILUNE_SEED");
  int n = many ? atoi(many) : 1000, start = first ? atoi(first) : 1;
  double worst = 0;
  pl_context *c = pl_context_new();
  pl_set_threads(c, 2);
  int64_t live = 0, ops = 0;
  for (int k = 0; k < n; k++) {
    check_program(c, (uint64_t)(start + k), &worst, &ops);
    if (k == n / 10) live = pl_live_values(c);
  }
  printf(
      "%d random programs of %.0f instructions on average: eager, plain and optimized agree bit for bit; slopes at "
      "most %.2f below 2\n",
      n, (double)ops / n, worst);
  if (pl_live_values(c) > live + 600)
    fail_msg("%d programs leave %lld values behind", n, (long long)(pl_live_values(c) - live));
  pl_context_free(c);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(random_programs)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
