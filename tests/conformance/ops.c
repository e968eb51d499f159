/* The op table against its own samples: every row's derivatives by slope, by the dot product of forward and reverse
 * mode and to second order; replay bit for bit; f32 near f64. An op without a sampler fails. Prints one line an op with
 * its worst figures. */
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#include "execute.h"

typedef struct {
  double slope, dot, second, single; /* worst: distance of a slope from 2; relative mismatches */
  int cases, derivatives;
} figures;

static bool is_float(pl_context *c, pl_value v) {
  pl_slot *s = pl_slot_find(c, v);
  return s && s->dtype <= PL_F32 && !(s->flags & PL_FLAG_RESOURCE);
}

static void fail_with(pl_context *c, const char *op, int k, const char *what) {
  fail_msg("%s, sample %d: %s: %s", op, k, what, c->status ? c->message : "");
}

static pl_value random_like(pl_context *c, pl_sampler_random *r, pl_value x) {
  pl_slot *s = pl_slot_get(c, x);
  int64_t shape[PL_MAX_RANK];
  for (int i = 0; i < s->rank; i++) shape[i] = s->shape[i];
  pl_value v = pl_tensor(c, (pl_dtype)s->dtype, s->rank, shape, NULL);
  pl_slot *t = pl_slot_get(c, v);
  for (int64_t i = 0; i < t->count; i++) {
    double u = pl_sample_uniform(r, -1, 1);
    if (t->dtype == PL_F64) ((double *)t->data)[i] = u;
    else ((float *)t->data)[i] = (float)u;
  }
  return v;
}

static double at(pl_context *c, pl_value v, int64_t i) {
  pl_slot *s = pl_slot_get(c, v);
  switch (s->dtype) {
    case PL_F64: return ((double *)s->data)[i];
    case PL_F32: return ((float *)s->data)[i];
    case PL_I64: return (double)((int64_t *)s->data)[i];
    default: return ((uint8_t *)s->data)[i];
  }
}

static double dot(pl_context *c, pl_value a, pl_value b) {
  if (a == PL_ZERO || b == PL_ZERO) return 0;
  double sum = 0;
  int64_t n = pl_slot_get(c, a)->count;
  for (int64_t i = 0; i < n; i++) sum += at(c, a, i) * at(c, b, i);
  return sum;
}

/* x + h t */
static pl_value shifted(pl_context *c, pl_value x, pl_value t, double h) {
  pl_value v = random_like(c, &(pl_sampler_random){1}, x);
  pl_slot *s = pl_slot_get(c, v);
  for (int64_t i = 0; i < s->count; i++) {
    double y = at(c, x, i) + h * at(c, t, i);
    if (s->dtype == PL_F64) ((double *)s->data)[i] = y;
    else ((float *)s->data)[i] = (float)y;
  }
  return v;
}

typedef struct {
  const pl_op *op;
  pl_sample s;
  int n_active, active[PL_MAX_SAMPLE];
  int output;      /* the one that is looked at, */
  pl_value weight; /* and its weights, for a scalar */
} problem;

/* <w, op(x)> as seen by plain evaluation. */
static double evaluate(pl_context *c, const problem *p, const pl_value *x) {
  pl_value in[PL_MAX_SAMPLE], out[PL_MAX_OUTPUTS];
  memcpy(in, p->s.in, sizeof in);
  for (int i = 0; i < p->n_active; i++) in[p->active[i]] = x[i];
  if (!pl_apply(c, p->op, p->s.n, in, p->s.attrs, out)) return NAN;
  double d = dot(c, p->weight, out[p->output]);
  for (int i = 0; i < pl_op_results(p->op, p->s.attrs); i++) pl_release(c, out[i]);
  return d;
}

/* The region of op at x; returns it open, with inputs and output. */
static pl_region *record(pl_context *c, const problem *p, const pl_value *x, pl_value *y) {
  pl_value in[PL_MAX_SAMPLE], inputs[PL_MAX_SAMPLE], out[PL_MAX_OUTPUTS];
  pl_region *r = pl_region_open(c, p->n_active, x, NULL, inputs);
  if (!r) return NULL;
  memcpy(in, p->s.in, sizeof in);
  for (int i = 0; i < p->n_active; i++) in[p->active[i]] = inputs[i];
  pl_apply(c, p->op, p->s.n, in, p->s.attrs, out);
  *y = out[p->output];
  return r;
}

/* Smallest relative deviation from slope 2 over shrinking steps, or 0 when the remainder is rounding. */
static double slope_error(const double *remainder, double floor_) {
  double best = 1e9;
  for (int k = 0; k + 1 < 6; k++) {
    if (remainder[k] <= floor_ || remainder[k + 1] <= floor_)
      return best < 0.3 || k == 0 ? (best > 1e8 ? 0 : best) : best;
    double e = fabs(log2(remainder[k] / remainder[k + 1]) - 2);
    if (e < best) best = e;
  }
  return best;
}

/* Slope 2 of the remainder of <w, y> along t, whose derivative is `forward`. */
static void check_slope(pl_context *c, const problem *p, int k, figures *f, const pl_value *x, const pl_value *t,
                        double forward, double magnitude) {
  double f0 = evaluate(c, p, x), remainder[6], h = 0.02, size = fabs(f0) + magnitude;
  for (int s = 0; s < 6; s++, h /= 2) {
    pl_value moved[PL_MAX_SAMPLE];
    for (int i = 0; i < p->n_active; i++) moved[i] = shifted(c, x[i], t[i], h);
    double fh = evaluate(c, p, moved);
    remainder[s] = fabs(fh - f0 - h * forward);
    size = fmax(size, fabs(fh));
    for (int i = 0; i < p->n_active; i++) pl_release(c, moved[i]);
  }
  double e = slope_error(remainder, 4e-14 * size);
  if (e > f->slope) f->slope = e;
  if (e > 0.3)
    fail_msg("%s, sample %d: the remainder's slope is off by %.2f (%.3g, %.3g, %.3g, ...)", p->op->name, k, e,
             remainder[0], remainder[1], remainder[2]);
}

/* An op that has a tangent and no adjoint. */
static void check_forward(pl_context *c, const problem *p, int k, figures *f, pl_sampler_random *r) {
  pl_value x[PL_MAX_SAMPLE], t[PL_MAX_SAMPLE], y, dy;
  for (int i = 0; i < p->n_active; i++) {
    x[i] = p->s.in[p->active[i]];
    t[i] = random_like(c, r, x[i]);
  }
  pl_region *region = record(c, p, x, &y);
  if (!region || c->status) fail_with(c, p->op->name, k, "record");
  pl_region_close(region);
  if (!pl_region_jvp(region, 1, &y, t, &dy)) fail_with(c, p->op->name, k, "jvp");
  double forward = dot(c, p->weight, dy);
  if (dy != PL_ZERO) pl_release(c, dy);
  pl_region_free(region);
  check_slope(c, p, k, f, x, t, forward, 0);
  for (int i = 0; i < p->n_active; i++) pl_release(c, t[i]);
}

static void check_first(pl_context *c, problem *p, int k, figures *f, pl_sampler_random *r) {
  pl_value x[PL_MAX_SAMPLE], t[PL_MAX_SAMPLE], y, g[PL_MAX_SAMPLE], dy;
  for (int i = 0; i < p->n_active; i++) {
    x[i] = p->s.in[p->active[i]];
    t[i] = random_like(c, r, x[i]);
  }
  /* aliased inputs are one variable twice: move both alike */
  if (p->n_active == 2 && x[0] == x[1]) {
    pl_release(c, t[1]);
    t[1] = t[0];
    pl_retain(c, t[0]);
  }
  pl_region *region = record(c, p, x, &y);
  if (!region || c->status) fail_with(c, p->op->name, k, "record");
  pl_region_close(region);
  if (!pl_region_jvp(region, 1, &y, t, &dy)) fail_with(c, p->op->name, k, "jvp");
  if (dy != PL_ZERO) {
    pl_slot *a = pl_slot_get(c, dy), *b = pl_slot_get(c, y);
    if (a->rank != b->rank || memcmp(a->shape, b->shape, a->rank * sizeof *a->shape) || a->dtype != b->dtype)
      fail_with(c, p->op->name, k, "the tangent's shape or dtype is not the result's");
  }
  if (!pl_region_vjp(region, 1, &y, &p->weight, g, NULL, false)) fail_with(c, p->op->name, k, "vjp");
  double forward = dot(c, p->weight, dy), reverse = 0, scale = 1e-300;
  double magnitude = 0; /* what rounding in <w, y> is relative to */
  for (int64_t j = 0, n = pl_slot_get(c, y)->count; j < n; j++) magnitude += fabs(at(c, p->weight, j) * at(c, y, j));
  for (int i = 0; i < p->n_active; i++) {
    double d = dot(c, t[i], g[i]);
    reverse += d;
    for (int64_t j = 0, n = pl_slot_get(c, g[i])->count; j < n; j++) scale += fabs(at(c, t[i], j) * at(c, g[i], j));
  }
  if (p->n_active == 2 && x[0] == x[1]) reverse = dot(c, t[0], g[0]) + dot(c, t[1], g[1]);
  double mismatch = fabs(forward - reverse) / fmax(fmax(scale, fabs(forward)), 1e-30);
  bool single = pl_slot_get(c, y)->dtype == PL_F32;
  if (mismatch > f->dot && scale > 1e-280) f->dot = mismatch;
  if (scale > 1e-280 && mismatch > (single ? 1e-5 : 1e-12))
    fail_msg("%s, sample %d: <Jv, w> = %.17g but <v, J'w> = %.17g", p->op->name, k, forward, reverse);

  /* replay gives the same bits */
  for (int64_t i = region->start; i < region->stop; i++) {
    const pl_instruction *q = &region->recording->program.instructions[i];
    if (q->op->make) continue;
    pl_value again[PL_MAX_OUTPUTS];
    if (!pl_replay(region, i, again)) fail_with(c, p->op->name, k, "replay");
    pl_slot *old = pl_slot_at(c, region->recording->program.operands[q->operands + q->n_in]),
            *new = pl_slot_get(c, again[0]);
    if (memcmp(old->data, new->data, (size_t)old->count * pl_dtype_size((pl_dtype)old->dtype)))
      fail_with(c, p->op->name, k, "replay gives other bits");
    for (int o = 0; o < q->n_out; o++) pl_release(c, again[o]);
  }

  if (!single) check_slope(c, p, k, f, x, t, forward, magnitude);
  for (int i = 0; i < p->n_active; i++) {
    pl_release(c, g[i]);
    pl_release(c, t[i]);
  }
  if (dy != PL_ZERO) pl_release(c, dy);
  pl_region_free(region);
}

/* d/dh <t, grad F(x + h t)> against the Hessian product, reverse over forward; F = <w, op(x)>. */
static void check_second(pl_context *c, problem *p, int k, figures *f, pl_sampler_random *r) {
  pl_value x[PL_MAX_SAMPLE], t[PL_MAX_SAMPLE], hv[PL_MAX_SAMPLE], y, dy = PL_ZERO;
  for (int i = 0; i < p->n_active; i++) {
    x[i] = p->s.in[p->active[i]];
    t[i] = random_like(c, r, x[i]);
  }
  pl_region *region = record(c, p, x, &y);
  if (!region || !pl_region_jvp(region, 1, &y, t, &dy)) fail_with(c, p->op->name, k, "recorded jvp");
  pl_region_close(region);
  if (dy == PL_ZERO) {
    for (int i = 0; i < p->n_active; i++) pl_release(c, t[i]);
    pl_region_free(region);
    return;
  }
  bool offered = pl_region_vjp(region, 1, &dy, &p->weight, hv, NULL, true);
  pl_region_free(region);
  if (!offered && strstr(c->message, "is not offered")) { /* of the first order only, and says so */
    pl_clear(c);
    for (int i = 0; i < p->n_active; i++) pl_release(c, t[i]);
    return;
  }
  if (!offered) fail_with(c, p->op->name, k, "vjp of jvp");

  /* the same product by reverse over reverse: vjp of <t, vjp> */
  pl_value rr[PL_MAX_SAMPLE], inner[PL_MAX_SAMPLE], in[PL_MAX_SAMPLE], out[PL_MAX_OUTPUTS], ig[PL_MAX_SAMPLE],
      seeds[PL_MAX_SAMPLE];
  pl_value outer_in[PL_MAX_SAMPLE];
  pl_region *outer = pl_region_open(c, p->n_active, x, NULL, outer_in);
  pl_region *nested = pl_region_open(c, p->n_active, outer_in, NULL, inner);
  memcpy(in, p->s.in, sizeof in);
  for (int i = 0; i < p->n_active; i++) in[p->active[i]] = inner[i];
  pl_apply(c, p->op, p->s.n, in, p->s.attrs, out);
  pl_region_close(nested);
  if (!pl_region_vjp(nested, 1, &out[p->output], &p->weight, ig, NULL, true))
    fail_with(c, p->op->name, k, "recorded vjp");
  pl_region_close(outer);
  for (int i = 0; i < p->n_active; i++) seeds[i] = t[i];
  bool twice = pl_region_vjp(outer, p->n_active, ig, seeds, rr, NULL, true);
  /* a loop of unknown length is reversed once, and says how to go on */
  if (!twice && !strcmp(p->op->name, "while") && strstr(c->message, "forward over reverse")) pl_clear(c);
  else if (!twice) fail_with(c, p->op->name, k, "vjp of vjp");
  pl_region_free(nested);
  pl_region_free(outer);
  double a = 0, b = 0, scale = 1e-300;
  for (int i = 0; twice && i < p->n_active; i++) {
    int64_t n = pl_slot_get(c, hv[i])->count;
    for (int64_t j = 0; j < n; j++) {
      double u = at(c, hv[i], j), v = at(c, rr[i], j);
      a = fmax(a, fabs(u - v));
      scale = fmax(scale, fabs(u));
    }
  }
  bool single = pl_slot_get(c, p->weight)->dtype == PL_F32;
  if (a > (single ? 1e-4 : 1e-10) * (scale + 1))
    fail_msg("%s, sample %d: Hessian products differ by %.3g of %.3g", p->op->name, k, a, scale);

  /* central difference of the gradient */
  if (!single) {
    double h = 1e-5, worst = 0, size = 1;
    pl_value gp[PL_MAX_SAMPLE], gm[PL_MAX_SAMPLE];
    for (int side = 0; side < 2; side++) {
      pl_value moved[PL_MAX_SAMPLE];
      for (int i = 0; i < p->n_active; i++) moved[i] = shifted(c, x[i], t[i], side ? -h : h);
      pl_region *q = record(c, p, moved, &y);
      pl_region_close(q);
      pl_region_vjp(q, 1, &y, &p->weight, side ? gm : gp, NULL, true);
      pl_region_free(q);
      for (int i = 0; i < p->n_active; i++) pl_release(c, moved[i]);
    }
    for (int i = 0; i < p->n_active; i++) {
      int64_t n = pl_slot_get(c, hv[i])->count;
      for (int64_t j = 0; j < n; j++) {
        b = (at(c, gp[i], j) - at(c, gm[i], j)) / (2 * h);
        worst = fmax(worst, fabs(b - at(c, hv[i], j)));
        size = fmax(size, fabs(b));
      }
      pl_release(c, gp[i]);
      pl_release(c, gm[i]);
    }
    if (worst / size > f->second) f->second = worst / size;
    if (worst > 2e-5 * size)
      fail_msg("%s, sample %d: the Hessian product is off by %.3g of %.3g", p->op->name, k, worst, size);
  }
  for (int i = 0; i < p->n_active; i++) {
    pl_release(c, hv[i]);
    if (twice) pl_release(c, rr[i]);
    pl_release(c, t[i]);
  }
}

/* Traced, and run plain and optimized: the same bits, also with the gradient. */
static void check_compiled(pl_context *c, const problem *p, int k) {
  pl_value in[PL_MAX_SAMPLE], x[PL_MAX_INPUTS], eager[PL_MAX_OUTPUTS], traced[PL_MAX_OUTPUTS], out[PL_MAX_OUTPUTS];
  if (!pl_apply(c, p->op, p->s.n, p->s.in, p->s.attrs, eager)) fail_with(c, p->op->name, k, "run");
  int n_out = pl_op_results(p->op, p->s.attrs);
  pl_trace *t = pl_trace_like(c, p->s.n, p->s.in, p->s.n, in);
  if (!t || !pl_apply(c, p->op, p->s.n, in, p->s.attrs, traced)) fail_with(c, p->op->name, k, "trace");
  pl_body *b = pl_trace_end(c, t, n_out, traced);
  if (!b) fail_with(c, p->op->name, k, "end of the trace");
  memcpy(x, p->s.in, (size_t)p->s.n * sizeof *x);
  int n = p->s.n + pl_trace_captures(c, t, x + p->s.n);
  for (int how = 0; how < 2; how++) {
    pl_set_plain(c, how == 0, false);
    if (!pl_apply(c, pl_op_find("call"), n, x, (pl_attr[]){PL_OBJECT(pl_body_object(b)), PL_INT(0)}, out))
      fail_with(c, p->op->name, k, "run of the program");
    for (int o = 0; o < n_out; o++) {
      pl_slot *a = pl_slot_get(c, eager[o]), *d = pl_slot_get(c, out[o]);
      if (a->count != d->count || memcmp(a->data, d->data, (size_t)a->count * pl_dtype_size((pl_dtype)a->dtype)))
        fail_with(c, p->op->name, k, how ? "optimized gives other bits" : "plain gives other bits");
      pl_release(c, out[o]);
    }
  }
  for (int o = 0; o < n_out; o++) pl_release(c, eager[o]);
  pl_body_release(b);
  pl_trace_free(c, t);
}

/* f32 near f64; the f32 problem then goes through the first-order checks itself. */
static void check_single(pl_context *c, const problem *p, int k, figures *f, pl_sampler_random *r) {
  problem q = *p;
  for (int i = 0; i < p->n_active; i++) q.s.in[p->active[i]] = pl_cast(c, p->s.in[p->active[i]], PL_F32);
  pl_value a[PL_MAX_OUTPUTS], b[PL_MAX_OUTPUTS];
  if (!pl_apply(c, p->op, p->s.n, p->s.in, p->s.attrs, a) || !pl_apply(c, q.op, q.s.n, q.s.in, q.s.attrs, b))
    fail_with(c, p->op->name, k, "f32");
  if (is_float(c, b[p->output])) {
    int64_t n = pl_slot_get(c, a[p->output])->count;
    double worst = 0, size = 1;
    for (int64_t i = 0; i < n; i++) {
      worst = fmax(worst, fabs(at(c, a[p->output], i) - at(c, b[p->output], i)));
      size = fmax(size, fabs(at(c, a[p->output], i)));
    }
    if (worst / size > f->single) f->single = worst / size;
    if (worst / size > 2e-5) fail_msg("%s, sample %d: f32 is %.3g of %.3g away from f64", p->op->name, k, worst, size);
    if (pl_slot_get(c, b[p->output])->dtype == PL_F32) {
      q.weight = random_like(c, r, b[p->output]);
      figures ignored = {0};
      check_first(c, &q, k, &ignored, r);
      pl_release(c, q.weight);
    }
  }
  for (int o = 0; o < pl_op_results(p->op, p->s.attrs); o++) {
    pl_release(c, a[o]);
    pl_release(c, b[o]);
  }
  for (int i = 0; i < p->n_active; i++)
    if (i == 0 || q.s.in[p->active[i]] != q.s.in[p->active[i - 1]]) pl_release(c, q.s.in[p->active[i]]);
}

static void check_op(pl_context *c, const pl_op *op, figures *f) {
  pl_sampler_random random = {0x1234567}, *r = &random;
  if (!op->sample) fail_msg("%s has no sampler", op->name);
  if (!op->internal && !pl_op_help(op).shapes) fail_msg("%s does not say its shapes", op->name);
  for (int k = 0;; k++) {
    problem p = {.op = op};
    if (!op->sample(c, r, k, &p.s)) break;
    if (c->status) fail_with(c, op->name, k, "sample");
    f->cases++;
    pl_value out[PL_MAX_OUTPUTS];
    if (!pl_apply(c, op, p.s.n, p.s.in, p.s.attrs, out)) fail_with(c, op->name, k, "run");
    for (int i = 0; i < p.s.n; i++)
      if (is_float(c, p.s.in[i])) p.active[p.n_active++] = i;
    if (!op->make && strcmp(op->name, "nonzero")) check_compiled(c, &p, k); /* its result's size depends on the data */
    /* the derivative of a draw is its distribution's, not that of the number at a fixed key, which may jump */
    int outputs = op->draws ? 0 : op->step ? 1 : pl_op_results(op, p.s.attrs);
    for (p.output = 0; p.output < outputs; p.output++) {
      if (!is_float(c, out[p.output]) || !p.n_active) continue;
      bool derivative = op->partial || op->vjp || op->expand;
      if (!derivative && !op->jvp) continue;
      p.weight = random_like(c, r, out[p.output]);
      f->derivatives++;
      if (derivative) {
        check_first(c, &p, k, f, r);
        check_second(c, &p, k, f, r);
        if (!op->step) check_single(c, &p, k, f, r); /* a program keeps its dtypes */
      } else {
        check_forward(c, &p, k, f, r);
      }
      pl_release(c, p.weight);
    }
    for (int i = 0; i < pl_op_results(op, p.s.attrs); i++) pl_release(c, out[i]);
    for (int i = 0; i < p.s.n; i++) pl_release(c, p.s.in[i]);
    pl_object_release(p.s.object);
    pl_object_release(p.s.second);
    if (c->status) fail_with(c, op->name, k, "after");
  }
  if (!f->cases) fail_msg("%s has no sample", op->name);
}

static void conformance(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  const char *only = getenv("PL_OP");
  for (int pass = 0; pass < 2; pass++)
    for (int i = 0; pl_op_at(i); i++) {
      const pl_op *op = pl_op_at(i);
      if (only && strcmp(only, op->name)) continue;
      figures f = {0};
      int64_t live = pl_live_values(c);
      check_op(c, op, &f);
      if (pass == 0)
        printf("%-16s %2d samples, %2d with derivatives: slope %.2f, dot %.1e, second %.1e, f32 %.1e\n", op->name,
               f.cases, f.derivatives, f.slope, f.dot, f.second, f.single);
      /* the second pass finds all constants in place, but for the 16 retired ones that the context holds: nothing else
       * may stay */
      if (pass == 1 && pl_live_values(c) > live + 16)
        fail_msg("%s leaks %lld values", op->name, (long long)(pl_live_values(c) - live));
    }
  pl_context_free(c);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(conformance)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
