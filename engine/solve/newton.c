/* newton.c: F(u, theta) = 0 by Newton's method as one op. It converges first; its derivatives are those of the implicit
 * function at the solution, du/dtheta = -J^-1 dF/dtheta with J = dF/du there: one linear solve with J for a tangent,
 * one with J' for a cotangent, however many iterations were needed. J has the sparsity found from F's program and is
 * computed by as many directional derivatives as the pattern has colours (transform/sparsity.h). The iteration is
 *   u <- u - s J^-1 F(u),   s = 1, 1/2, 1/4 ... until |F| decreases enough (Armijo, constant 1e-4),
 * after C. T. Kelley, Solving nonlinear equations with Newton's method, SIAM, 2003. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "../body.h"
#include "../execute.h"
#include "../pattern.h"
#include "../transform/sparsity.h"
#include "direct.h"

/* Attributes: residual (u, theta... -> F), jacobian (u, theta... -> values), pattern, options. Inputs: where to start,
 * theta. Outputs: u, the number of iterations (i64). */
enum { O_ITERATIONS, O_ATOL, O_RTOL, O_SEARCH, N_OPTIONS };
#define RESIDUAL(attrs) ((pl_body *)(attrs)[0].object)
#define JACOBIAN(attrs) ((pl_body *)(attrs)[1].object)
#define PATTERN(attrs) ((pl_pattern *)(attrs)[2].object)

static double real_option(const pl_attr *attrs, int k) {
  double x;
  memcpy(&x, &attrs[3].list[k], sizeof x); /* a list holds whole numbers: the bits of one */
  return x;
}

static int newton_results(const pl_attr *attrs) {
  (void)attrs;
  return 2;
}
/* The iteration takes it for granted: from elsewhere than pl_newton anything may come. */
static bool newton_fits(const pl_attr *attrs) {
  for (int i = 0; i < 3; i++)
    if (attrs[i].type != PL_ATTR_OBJECT || !attrs[i].object ||
        attrs[i].object->type != (i < 2 ? &pl_body_type : &pl_pattern_type))
      return false;
  if (attrs[3].type != PL_ATTR_INTS || attrs[3].n != N_OPTIONS) return false;
  const pl_body *f = RESIDUAL(attrs), *j = JACOBIAN(attrs);
  const pl_pattern *p = PATTERN(attrs);
  if (f->n_in < 1 || f->n_out != 1 || j->n_in != f->n_in || j->n_out != 1) return false;
  for (int i = 0; i < f->n_in; i++)
    if (!pl_spec_equal(&f->specs[i], &j->specs[i])) return false;
  const pl_spec *u = &f->specs[0], *values = &j->specs[j->outputs[0]];
  return u->rank == 1 && u->dtype == PL_F64 && pl_spec_equal(&f->specs[f->outputs[0]], u) && values->rank == 1 &&
         values->dtype == PL_F64 && values->shape[0] == p->nnz && p->rows == u->shape[0] && p->cols == p->rows;
}
static bool newton_shape(const pl_call *call, pl_spec *out) {
  if (!newton_fits(call->attrs)) {
    pl_error(call->c, PL_ERROR_ARGUMENT, "newton: its programs, its pattern and its options do not fit each other");
    return false;
  }
  const pl_body *f = RESIDUAL(call->attrs);
  if (call->n != f->n_in) {
    pl_error(call->c, PL_ERROR_ARGUMENT, "newton: the residual takes %d inputs, not %d", f->n_in, call->n);
    return false;
  }
  for (int i = 0; i < call->n; i++) {
    pl_spec s;
    pl_spec_of(call->in[i], &s);
    if (!pl_spec_equal(&s, &f->specs[i])) {
      pl_error(call->c, PL_ERROR_SHAPE, "newton: input %d differs from what the residual was traced for", i + 1);
      return false;
    }
  }
  out[0] = f->specs[0];
  out[1] = (pl_spec){PL_I64, 0, {0}};
  return true;
}

typedef struct {
  enum { START, EVALUATED, FACTORED, TRIED } phase; /* what the last call computed */
  pl_frame *residual, *jacobian;
  double *memory, *u, *r, *trial, *r_trial, *step, *values;
  double norm, first, s;
  int64_t iteration;
  int halvings;
  bool close; /* converged: one more step takes what quadratic convergence offers */
} newton;

static double norm2(const double *x, int64_t n) {
  double sum = 0, scale = 0;
  for (int64_t i = 0; i < n; i++) scale = fmax(scale, fabs(x[i]));
  if (!(scale > 0) || isinf(scale)) return isnan(scale) ? NAN : scale;
  for (int64_t i = 0; i < n; i++) sum += x[i] / scale * (x[i] / scale);
  return scale * sqrt(sum);
}
static bool all_finite(const double *x, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    if (!isfinite(x[i])) return false;
  return true;
}

static pl_next evaluate(pl_activation *a, newton *s, double *u, double *r, int phase) {
  s->phase = phase;
  pl_frame_input_at(s->residual, 0, u);
  pl_frame_output(s->residual, 0, r);
  pl_frame_start(s->residual);
  a->child = s->residual;
  return PL_NEXT_CALL;
}

static pl_next finish(pl_activation *a, newton *s, int64_t n) {
  memcpy(a->out[0]->data, s->u, (size_t)n * sizeof *s->u);
  *(int64_t *)a->out[1]->data = s->iteration;
  return PL_NEXT_DONE;
}

/* J at u, or the end. */
static pl_next next_step(pl_context *c, pl_activation *a, newton *s, int64_t n) {
  if (s->close || s->norm == 0) return finish(a, s, n);
  s->close = s->norm <= real_option(a->attrs, O_ATOL) + real_option(a->attrs, O_RTOL) * s->first;
  if (!s->close && s->iteration >= a->attrs[3].list[O_ITERATIONS]) {
    pl_error(
        c, PL_ERROR_NUMERIC,
        "newton did not converge: after %lld iterations the residual is %.3g, at the start it was %.3g; start nearer "
        "to the solution, take smaller load or time steps, or allow more iterations",
        (long long)s->iteration, s->norm, s->first);
    return PL_NEXT_FAIL;
  }
  s->phase = FACTORED;
  pl_frame_input_at(s->jacobian, 0, s->u);
  pl_frame_output(s->jacobian, 0, s->values);
  pl_frame_start(s->jacobian);
  a->child = s->jacobian;
  return PL_NEXT_CALL;
}

static pl_next newton_step(pl_context *c, pl_activation *a) {
  newton *s = a->state;
  pl_pattern *p = PATTERN(a->attrs);
  int64_t n = a->in[0]->count;
  switch (s->phase) {
    case START: {
      int64_t each = (n + 15) & ~(int64_t)7; /* whole vectors, and one more */
      if (!(s->memory = pl_memory_new(c, (size_t)(5 * each + p->nnz + 16) * sizeof *s->memory))) return PL_NEXT_FAIL;
      double **parts[] = {&s->u, &s->r, &s->trial, &s->r_trial, &s->step, &s->values};
      for (int i = 0; i < 6; i++) *parts[i] = s->memory + i * each;
      memcpy(s->u, a->in[0]->data, (size_t)n * sizeof *s->u);
      if (!(s->residual = pl_frame_new(c, RESIDUAL(a->attrs)))) return PL_NEXT_FAIL;
      if (!(s->jacobian = pl_frame_new(c, JACOBIAN(a->attrs)))) return PL_NEXT_FAIL;
      for (int i = 1; i < a->n_in; i++) {
        pl_frame_input(s->residual, i, a->in[i]);
        pl_frame_input(s->jacobian, i, a->in[i]);
      }
      return evaluate(a, s, s->u, s->r, EVALUATED);
    }
    case EVALUATED:
      s->norm = s->first = norm2(s->r, n);
      if (!all_finite(s->r, n)) {
        pl_error(c, PL_ERROR_NUMERIC, "newton: the residual is not finite where it starts");
        return PL_NEXT_FAIL;
      }
      return next_step(c, a, s, n);
    case FACTORED: {
      pl_resource *f = pl_direct_factor(c, p, s->values, PL_SOLVER_AUTO);
      bool solved = f && pl_direct_solve(c, f, s->values, false, 1, s->r, s->step);
      if (f) f->destroy(c, f);
      if (!solved) {
        if (c->status == PL_ERROR_NUMERIC && s->close) { /* it had converged already */
          c->status = PL_OK;
          return finish(a, s, n);
        }
        return PL_NEXT_FAIL;
      }
      s->s = 1;
      s->halvings = 0;
      for (int64_t i = 0; i < n; i++) s->trial[i] = s->u[i] - s->step[i];
      return evaluate(a, s, s->trial, s->r_trial, TRIED);
    }
    default: {
      double norm = all_finite(s->r_trial, n) ? norm2(s->r_trial, n) : INFINITY;
      if (s->close) { /* taken only if it is better */
        if (norm < s->norm) {
          memcpy(s->u, s->trial, (size_t)n * sizeof *s->u);
          s->iteration++;
        }
        return finish(a, s, n);
      }
      bool enough = a->attrs[3].list[O_SEARCH] ? norm <= (1 - 1e-4 * s->s) * s->norm : isfinite(norm);
      if (!enough && s->halvings < 40) {
        s->s /= 2;
        s->halvings++;
        for (int64_t i = 0; i < n; i++) s->trial[i] = s->u[i] - s->s * s->step[i];
        return evaluate(a, s, s->trial, s->r_trial, TRIED);
      }
      if (!enough) {
        if (s->norm <= 1e3 * DBL_EPSILON * fmax(s->first, 1)) return finish(a, s, n); /* as far as rounding lets it */
        pl_error(
            c, PL_ERROR_NUMERIC,
            "newton: no step along the Newton direction lowers the residual %.3g (iteration %lld, it was %.3g at the "
            "start): is the residual smooth there, and its derivative right? Start nearer to the solution",
            s->norm, (long long)s->iteration + 1, s->first);
        return PL_NEXT_FAIL;
      }
      double *u = s->u, *r = s->r;
      s->u = s->trial;
      s->trial = u;
      s->r = s->r_trial;
      s->r_trial = r;
      s->norm = norm;
      s->iteration++;
      return next_step(c, a, s, n);
    }
  }
}
static void newton_stop(pl_context *c, pl_activation *a) {
  newton *s = a->state;
  pl_frame_free(c, s->residual);
  pl_frame_free(c, s->jacobian);
  pl_memory_free(c, s->memory);
  a->child = NULL;
}

/* ---- derivatives: implicit function theorem ---- */

static pl_value call1(pl_context *c, pl_body *b, int n, const pl_value *in) {
  return pl_apply1(c, PL_OP(call), n, in, (pl_attr[]){PL_OBJECT(&b->base), PL_INT(0)});
}

/* J^-1 x or J'^-1 x at the solution; in: u and theta. */
static pl_value solve_at(pl_context *c, const pl_attr *attrs, int n, const pl_value *in, pl_value x, bool transpose) {
  pl_body *j = JACOBIAN(attrs);
  pl_value values[PL_MAX_OUTPUTS];
  if (!pl_apply(c, PL_OP(call), n, in, (pl_attr[]){PL_OBJECT(&j->base), PL_INT(0)}, values)) return PL_NONE;
  pl_value f = pl_call1(c, PL_OP(factor), values[0], (pl_attr[]){attrs[2], PL_INT(PL_SOLVER_AUTO)});
  return pl_call3(c, PL_OP(factored_solve), f, values[0], x, (pl_attr[]){attrs[2], PL_INT(transpose)});
}

static void newton_vjp(pl_vjp *v) {
  pl_context *c = v->c;
  pl_body *f = RESIDUAL(v->attrs);
  pl_value in[PL_MAX_INPUTS + 2], gx[PL_MAX_OUTPUTS];
  uint8_t need[PL_MAX_INPUTS] = {0}, given[] = {1};
  if (v->g[0] == PL_ZERO) return;
  for (int i = 0; i < v->n; i++) {
    in[i] = i ? v->in[i] : v->out[0];
    need[i] = i && v->need[i] && f->specs[i].dtype <= PL_F32; /* where it started does not matter */
  }
  pl_derived *d = pl_body_vjp(c, f, need, given, NULL);
  if (!d || !d->body || d->body->n_out == 0) return;
  pl_value lambda = solve_at(c, v->attrs, v->n, in, v->g[0], true);
  in[v->n] = lambda; /* stands for F, which is not read */
  in[v->n + 1] = pl_negative(c, lambda);
  if (!pl_apply(c, PL_OP(call), v->n + 2, in, (pl_attr[]){PL_OBJECT(&d->body->base), PL_INT(0)}, gx)) return;
  for (int i = 1; i < v->n; i++)
    if (d->list[i] >= 0) pl_vjp_give(v, i, gx[d->list[i]]);
}

static void newton_jvp(pl_jvp *j) {
  pl_context *c = j->c;
  pl_body *f = RESIDUAL(j->attrs);
  pl_value in[2 * PL_MAX_INPUTS + 1];
  uint8_t active[PL_MAX_INPUTS] = {0};
  int n = j->n;
  for (int i = 0; i < j->n; i++) in[i] = i ? j->in[i] : j->out[0];
  in[n++] = j->out[0]; /* stands for F, which is not read */
  for (int i = 1; i < j->n; i++)
    if (j->t[i] != PL_ZERO) {
      active[i] = 1;
      in[n++] = j->t[i];
    }
  pl_derived *d = n > j->n + 1 ? pl_body_jvp(c, f, active, NULL) : NULL;
  if (!d || !d->body || d->list[0] < 0) return;
  pl_value df = call1(c, d->body, n, in);
  j->dt[0] = pl_negative(c, solve_at(c, j->attrs, j->n, in, df, false));
}

/* ---- making the call ---- */

enum { DERIVED_JACOBIAN = 90 };

/* The body (u, theta...) -> J's values in the pattern's order. */
static pl_body *values_body(pl_context *c, pl_body *f, const pl_compression *k) {
  uint64_t key[] = {(uint64_t)(uintptr_t)k->pattern, k->map};
  pl_derived *old = pl_derived_find(f, DERIVED_JACOBIAN, 2, key);
  if (old) return old->body;
  uint8_t flags[2 * PL_MAX_INPUTS + 2] = {0}, only_u[PL_MAX_INPUTS] = {1}, one[] = {1}, wanted[] = {1};
  int n_seed = f->n_in + 1; /* u, theta, F (not read), the seed */
  pl_derived *d = k->reverse ? pl_body_vjp(c, f, only_u, one, NULL) : pl_body_jvp(c, f, only_u, NULL);
  if (!d || !d->body) return NULL;
  if (d->body->n_out == 0) {
    pl_error(c, PL_ERROR_NUMERIC, "newton: the residual does not depend on the unknown");
    return NULL;
  }
  flags[n_seed] = 1;
  pl_derived *many = pl_body_batch(c, d->body, k->colours, flags, wanted);
  if (!many || !many->body) return NULL;
  pl_value in[PL_MAX_INPUTS + 2], out[PL_MAX_OUTPUTS], *values = NULL;
  pl_tape *t = pl_trace_open(c, f->n_in, f->specs, in);
  if (!t) return NULL;
  pl_body *b = NULL;
  int64_t shape[PL_MAX_RANK];
  const pl_spec *s = &f->specs[f->outputs[0]];
  for (int a = 0; a < s->rank; a++) shape[a] = s->shape[a];
  in[f->n_in] = pl_apply1(c, PL_OP(zeros), 0, NULL, (pl_attr[]){PL_INTS(s->rank, shape), PL_INT(s->dtype)});
  in[n_seed] = k->seeds;
  values = pl_memory_new(c, ((size_t)many->body->n_values + 1) * sizeof *values);
  if (values && pl_body_inline(c, many->body, in, values, out)) {
    int64_t all = k->colours * f->specs[0].shape[0];
    pl_value flat = pl_reshape_to(c, out[0], 1, &all);
    pl_value v = pl_call2(c, PL_OP(gather), flat, k->map, &PL_INT(0));
    b = pl_trace_close(c, t, 1, &v, true, 0, NULL, NULL);
  }
  pl_memory_free(c, values);
  pl_trace_abandon(c, t);
  pl_tape_free(c, t);
  if (!b) return NULL;
  pl_derived *kept = pl_derived_keep(c, f, DERIVED_JACOBIAN, 2, key, b, 0, NULL);
  return kept ? kept->body : NULL;
}

pl_newton_options pl_newton_defaults(void) { return (pl_newton_options){50, 1e-12, 1e-10, true}; }

bool pl_newton(pl_context *c, pl_body *f, const pl_newton_options *options, int n, const pl_value *inputs,
               pl_value *outputs) {
  pl_newton_options o = options ? *options : pl_newton_defaults();
  if (c->status) return false;
  if (n < 1 || n > PL_MAX_INPUTS || f->n_in != n || f->n_out != 1) {
    pl_error(
        c, PL_ERROR_ARGUMENT,
        "newton: a residual of %d inputs and %d results is given %d; it takes the unknown and up to %d tensors and "
        "returns one",
        f->n_in, f->n_out, n, PL_MAX_INPUTS - 1);
    return false;
  }
  const pl_spec *u = &f->specs[0], *r = &f->specs[f->outputs[0]];
  if (u->rank != 1 || r->rank != 1 || u->shape[0] != r->shape[0] || u->dtype != PL_F64 || r->dtype != PL_F64) {
    char a[PL_TEXT], b[PL_TEXT];
    pl_error(c, PL_ERROR_SHAPE,
             "newton: the unknown has shape %s (%s), the residual %s (%s): both must be as many f64 numbers",
             pl_shape_text(a, u->rank, u->shape), u->dtype == PL_DTYPES ? "a resource" : pl_dtype_name(u->dtype),
             pl_shape_text(b, r->rank, r->shape), r->dtype == PL_DTYPES ? "a resource" : pl_dtype_name(r->dtype));
    return false;
  }
  pl_compression k;
  if (!pl_body_compression(c, f, inputs, 0, 0, false, &k)) return false;
  pl_body *j = values_body(c, f, &k);
  if (!j) return false;
  int64_t list[N_OPTIONS] = {o.iterations, 0, 0, o.line_search};
  memcpy(&list[O_ATOL], &o.atol, sizeof o.atol);
  memcpy(&list[O_RTOL], &o.rtol, sizeof o.rtol);
  pl_attr attrs[] = {PL_OBJECT(&f->base), PL_OBJECT(&j->base), PL_OBJECT(k.pattern), PL_INTS(N_OPTIONS, list)};
  return pl_apply(c, PL_OP(newton), n, inputs, attrs, outputs);
}

/* ---- sample ---- */

/* u + 0.3 tanh(u roll) - theta^2: diagonally dominant */
static bool newton_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  if (k > 0) return false;
  pl_spec specs[] = {{PL_F64, 1, {4}}, {PL_F64, 1, {4}}};
  pl_value in[2], flip;
  pl_tape *t = pl_trace_open(c, 2, specs, in);
  if (!t) return false;
  flip = pl_call1(c, PL_OP(flip), in[0], &PL_INTS(-1, NULL));
  pl_value f = PL_BINARY(
      sub, c, PL_BINARY(add, c, in[0], PL_BINARY(mul, c, PL_UNARY(tanh, c, flip), pl_constant(c, PL_F64, 0.3))),
      PL_UNARY(square, c, in[1]));
  pl_body *b = pl_trace_close(c, t, 1, &f, true, 0, NULL, NULL);
  pl_trace_abandon(c, t);
  pl_tape_free(c, t);
  pl_compression comp;
  s->n = 2;
  s->in[0] = pl_tensor(c, PL_F64, 1, (int64_t[]){4}, NULL);
  s->in[1] = pl_sample_tensor(c, r, 0.5, 1.5, 1, 4);
  if (!b || !pl_body_compression(c, b, s->in, 0, 0, false, &comp)) return false;
  pl_body *j = values_body(c, b, &comp);
  if (!j) return false;
  s->object = &b->base;
  s->attrs[0] = PL_OBJECT(&b->base);
  s->attrs[1] = PL_OBJECT(&j->base);
  s->attrs[2] = PL_OBJECT(comp.pattern);
  pl_newton_options o = pl_newton_defaults();
  s->lists[3][O_ITERATIONS] = o.iterations;
  s->lists[3][O_SEARCH] = 1;
  memcpy(&s->lists[3][O_ATOL], &o.atol, 8);
  memcpy(&s->lists[3][O_RTOL], &o.rtol, 8);
  s->attrs[3] = PL_INTS(N_OPTIONS, s->lists[3]);
  return true;
}

pl_op pl_ops_newton[] = {
    {.name = "newton",
     .formula = "u with F(u, theta) = 0",
     .kind = PL_OPAQUE,
     .inputs = -1,
     .outputs = -1,
     .internal = true,
     .dtypes = PL_ANY,
     .keeps = PL_KEEPS_ALL,
     .attrs = {{"residual", PL_AS_OBJECT, true, 0},
               {"jacobian", PL_AS_OBJECT, true, 0},
               {"pattern", PL_AS_OBJECT, true, 0},
               {"options", PL_AS_INTS, true, 0}},
     .shape = newton_shape,
     .results = newton_results,
     .step = newton_step,
     .state_size = sizeof(newton),
     .stop = newton_stop,
     .vjp = newton_vjp,
     .jvp = newton_jvp,
     .sample = newton_sample},
    {0},
};
