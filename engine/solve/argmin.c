/* argmin.c: the u where phi(u, theta) is least nearby, by Newton's method: (H + t I) p = -grad phi, H the Hessian by
 * star colouring, t = 0 where H is positive definite and else raised until H + t I is (Cholesky's factorization tells);
 * then backtracking until phi has fallen enough (Armijo, constant 1e-4).
 *   J. Nocedal, S. J. Wright, Numerical optimization, 2006, algorithms 3.2 and 3.3.
 * Derivatives are those of grad phi (u, theta) = 0. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "../ops/control.h"
#include "direct.h"
#include "implicit.h"
#include "report.h"

/* Attributes: both (u, theta... -> phi, gradient), gradient, hessian (u, theta... -> values), pattern, options, names.
 * Inputs: where to start, theta. Outputs: u, the record. */
enum { O_ITERATIONS, O_ATOL, O_RTOL, O_FLAGS, N_OPTIONS };
enum { UNCHECKED = 1 };
#define BOTH(attrs) ((pl_body *)(attrs)[0].object)
#define GRADIENT(attrs) ((pl_body *)(attrs)[1].object)
#define HESSIAN(attrs) ((pl_body *)(attrs)[2].object)
#define PATTERN(attrs) ((pl_pattern *)(attrs)[3].object)
#define OPTION(attrs, k) ((attrs)[4].list[k])

static double real_option(const pl_attr *attrs, int k) {
  double x;
  memcpy(&x, &OPTION(attrs, k), sizeof x);
  return x;
}

static bool takes(const pl_body *b, const pl_body *like, int n_out) {
  if (b->n_in != like->n_in || b->n_out != n_out || b->n_in < 1) return false;
  for (int i = 0; i < b->n_in; i++)
    if (!pl_spec_equal(&b->specs[i], &like->specs[i])) return false;
  return true;
}
static bool argmin_fits(const pl_attr *attrs) {
  if (!are_programs(attrs, 3) || attrs[3].type != PL_ATTR_OBJECT || !attrs[3].object ||
      attrs[3].object->type != &pl_pattern_type || attrs[4].type != PL_ATTR_INTS || attrs[4].n != N_OPTIONS ||
      attrs[5].type != PL_ATTR_INTS || OPTION(attrs, O_ITERATIONS) < 0 || OPTION(attrs, O_ITERATIONS) > INT32_MAX / 2)
    return false;
  const pl_body *b = BOTH(attrs), *g = GRADIENT(attrs), *h = HESSIAN(attrs);
  if (!takes(b, b, 2) || !takes(g, b, 1) || !takes(h, b, 1)) return false;
  const pl_spec *u = &b->specs[0], *phi = &b->specs[b->outputs[0]], *values = &h->specs[h->outputs[0]];
  const pl_pattern *p = PATTERN(attrs);
  return u->rank == 1 && u->dtype == PL_F64 && phi->rank == 0 && phi->dtype == PL_F64 &&
         pl_spec_equal(&b->specs[b->outputs[1]], u) && pl_spec_equal(&g->specs[g->outputs[0]], u) &&
         values->rank == 1 && values->dtype == PL_F64 && values->shape[0] == p->nnz && p->rows == u->shape[0] &&
         p->cols == p->rows;
}
static bool argmin_shape(const pl_call *call, pl_spec *out) {
  if (!argmin_fits(call->attrs)) return pl_misfit(call->c, call->op);
  const pl_body *b = BOTH(call->attrs);
  if (pl_count_error(call, b->n_in) || !pl_check_inputs(call, b, 0, 0, call->n)) return false;
  out[0] = b->specs[0];
  out[1] = pl_record_spec(OPTION(call->attrs, O_ITERATIONS));
  return true;
}

typedef struct {
  enum { START, STARTED, DIFFERENTIATED, TRIED } phase;
  pl_frame *both, *hessian;
  double *memory, *u, *g, *trial, *g_trial, *step, *phi, *values, *shifted;
  pl_plan *shift;
  double least, slope, s;
  int tries;
  bool close;
  pl_progress p;
} argmin;

static pl_next finish(pl_activation *a, argmin *s) { return pl_progress_end(a, &s->p, s->u, PL_CONVERGED); }

static pl_next evaluate(pl_activation *a, argmin *s, double *u, double *g, int phase) {
  s->phase = phase;
  s->p.evaluations++;
  pl_frame_input_at(s->both, 0, u);
  pl_frame_output(s->both, 0, s->phi);
  pl_frame_output(s->both, 1, g);
  pl_frame_start(s->both);
  a->child = s->both;
  return PL_NEXT_CALL;
}

static pl_next prepare(pl_context *c, pl_activation *a, argmin *s) {
  pl_pattern *p = PATTERN(a->attrs);
  int64_t n = a->in[0]->count, each = (n + 15) & ~(int64_t)7;
  s->p = (pl_progress){.n = n,
                       .most = OPTION(a->attrs, O_ITERATIONS),
                       .unchecked = OPTION(a->attrs, O_FLAGS) & UNCHECKED,
                       .name = "argmin",
                       .names = &a->attrs[5]};
  if (!(s->shift = pl_plan_shift(c, p))) return PL_NEXT_FAIL;
  size_t count = (size_t)(5 * each + 16 + p->nnz + 16 + s->shift->out->nnz + 16);
  if (!(s->memory = pl_memory_new(c, count * sizeof *s->memory))) return PL_NEXT_FAIL;
  double **parts[] = {&s->u, &s->g, &s->trial, &s->g_trial, &s->step, &s->phi};
  for (int i = 0; i < 6; i++) *parts[i] = s->memory + i * each;
  s->values = s->phi + 8;
  s->shifted = s->values + ((p->nnz + 15) & ~7);
  memcpy(s->u, a->in[0]->data, (size_t)n * sizeof *s->u);
  if (!(s->both = pl_frame_new(c, BOTH(a->attrs))) || !(s->hessian = pl_frame_new(c, HESSIAN(a->attrs))))
    return PL_NEXT_FAIL;
  for (int i = 1; i < a->n_in; i++) {
    pl_frame_input(s->both, i, a->in[i]);
    pl_frame_input(s->hessian, i, a->in[i]);
  }
  return evaluate(a, s, s->u, s->g, STARTED);
}

static pl_next next_step(pl_context *c, pl_activation *a, argmin *s) {
  pl_progress_note(a, &s->p);
  if (s->close || s->p.norm == 0) return finish(a, s);
  s->close = s->p.norm <= real_option(a->attrs, O_ATOL) + real_option(a->attrs, O_RTOL) * s->p.first;
  if (s->p.iteration >= s->p.most) {
    if (s->close) return finish(a, s);
    return pl_progress_fail(c, a, &s->p, s->u, s->g, PL_TOO_MANY_ITERATIONS,
                            "did not converge (the residual is the gradient)",
                            "Start nearer to the minimum, scale the unknowns, or allow more iterations");
  }
  s->phase = DIFFERENTIATED;
  s->p.jacobians++;
  pl_frame_input_at(s->hessian, 0, s->u);
  pl_frame_output(s->hessian, 0, s->values);
  pl_frame_start(s->hessian);
  a->child = s->hessian;
  return PL_NEXT_CALL;
}

static pl_next attempt(pl_activation *a, argmin *s) {
  for (int64_t i = 0; i < s->p.n; i++) s->trial[i] = s->u[i] - s->s * s->step[i];
  return evaluate(a, s, s->trial, s->g_trial, TRIED);
}

#ifdef PL_HAVE_GPL
static const pl_solver method = PL_SOLVER_CHOLMOD;
#else
static const pl_solver method = PL_SOLVER_AUTO; /* then the direction tells alone */
#endif

/* (H + t I) step = gradient with the least of the tried t >= 0 for which H + t I is positive definite. */
static pl_next solve(pl_context *c, pl_activation *a, argmin *s) {
  const pl_pattern *p = PATTERN(a->attrs);
  const int64_t *of_h = pl_slot_get(c, s->shift->map_a)->data, *of_i = pl_slot_get(c, s->shift->map_b)->data;
  double size = pl_largest(s->values, p->nnz), least = INFINITY, t = 0;
  memset(s->shifted, 0, (size_t)s->shift->out->nnz * sizeof *s->shifted);
  for (int32_t k = 0; k < p->nnz; k++) s->shifted[of_h[k] - 1] = s->values[k];
  for (int64_t i = 0; i < s->p.n; i++) least = fmin(least, s->shifted[of_i[i] - 1]);
  if (!isfinite(size))
    return pl_progress_fail(c, a, &s->p, s->u, s->g, PL_NOT_FINITE, "stops: the Hessian is not finite",
                            "Start nearer to the minimum");
  double beta = fmax(1e-3 * size, DBL_MIN), added = 0;
  if (!(least > 0)) t = beta - least;
  for (int tries = 0; tries < 80; tries++) {
    for (int64_t i = 0; i < s->p.n; i++) s->shifted[of_i[i] - 1] += t - added;
    added = t;
    pl_resource *f = pl_direct_factor(c, s->shift->out, s->shifted, method);
    bool solved = f && pl_direct_solve(c, f, s->shifted, false, 1, s->g, s->step);
    if (f) f->destroy(c, f);
    if (!solved && c->status != PL_ERROR_NUMERIC) return PL_NEXT_FAIL;
    pl_clear(c);
    s->slope = 0;
    for (int64_t i = 0; solved && i < s->p.n; i++) s->slope += s->step[i] * s->g[i];
    s->p.linear++;
    if (solved && s->slope > 0 && isfinite(s->slope)) {
      s->s = 1;
      s->tries = 0;
      return attempt(a, s);
    }
    if (s->close) return finish(a, s);
    t = fmax(4 * t, beta);
  }
  return pl_progress_fail(c, a, &s->p, s->u, s->g, PL_SINGULAR_JACOBIAN, "stops: the Hessian cannot be made definite",
                          "Is the function bounded below, and smooth there?");
}

static pl_next tried(pl_context *c, pl_activation *a, argmin *s) {
  double phi = *s->phi,
         norm = pl_all_finite(s->g_trial, s->p.n) && isfinite(phi) ? pl_norm2(s->g_trial, s->p.n) : INFINITY;
  double rounding = 8 * DBL_EPSILON * fabs(s->least); /* near the minimum phi says nothing: the gradient does */
  bool lower = phi <= s->least - 1e-4 * s->s * s->slope || (phi <= s->least + rounding && norm < s->p.norm);
  if (isfinite(norm) && (s->close ? norm < s->p.norm : lower)) {
    double *u = s->u, *g = s->g;
    s->u = s->trial;
    s->trial = u;
    s->g = s->g_trial;
    s->g_trial = g;
    s->p.norm = norm;
    s->least = phi;
    s->p.iteration++;
    return next_step(c, a, s);
  }
  if (s->close) return finish(a, s);
  s->s /= 2;
  if (s->tries++ < 50) return attempt(a, s);
  if (s->slope <= 1e3 * DBL_EPSILON * fabs(s->least) &&
      pl_largest(s->step, s->p.n) <= 1e-7 * fmax(pl_largest(s->u, s->p.n), DBL_MIN))
    return finish(a, s);
  return pl_progress_fail(
      c, a, &s->p, s->u, s->g, PL_NO_DESCENT,
      "stops: no step along the Newton direction lowers the function (the residual is the gradient)",
      "Is the function smooth there, and bounded below?");
}

static pl_next argmin_step(pl_context *c, pl_activation *a) {
  argmin *s = a->state;
  switch (s->phase) {
    case START: return prepare(c, a, s);
    case STARTED:
      s->least = *s->phi;
      s->p.norm = s->p.first = pl_norm2(s->g, s->p.n);
      if (isfinite(s->least) && pl_all_finite(s->g, s->p.n)) return next_step(c, a, s);
      pl_progress_note(a, &s->p);
      return pl_progress_fail(c, a, &s->p, s->u, s->g, PL_NOT_FINITE,
                              "cannot begin: the function or its gradient is not finite where it starts",
                              "Start where the function is defined");
    case DIFFERENTIATED: return solve(c, a, s);
    default: return tried(c, a, s);
  }
}
static void argmin_stop(pl_context *c, pl_activation *a) {
  argmin *s = a->state;
  pl_frame_free(c, s->both);
  pl_frame_free(c, s->hessian);
  pl_object_release((pl_object *)s->shift);
  pl_memory_free(c, s->memory);
  a->child = NULL;
}

static pl_implicit rule(const pl_attr *attrs) {
  return (pl_implicit){.residual = GRADIENT(attrs),
                       .kind = PL_JACOBIAN_MATRIX,
                       .jacobian = HESSIAN(attrs),
                       .pattern = PATTERN(attrs),
                       .method = PL_SOLVER_AUTO,
                       .unproved = OPTION(attrs, O_FLAGS) & UNCHECKED,
                       .name = "argmin"};
}
static void argmin_vjp(pl_vjp *v) {
  pl_implicit i = rule(v->attrs);
  pl_implicit_vjp(v, &i);
}
static void argmin_jvp(pl_jvp *j) {
  pl_implicit i = rule(j->attrs);
  pl_implicit_jvp(j, &i);
}

/* ---- making the call ---- */

pl_argmin_options pl_argmin_defaults(void) {
  return (pl_argmin_options){.iterations = 100, .atol = 1e-12, .rtol = 1e-10};
}

static bool attributes(pl_context *c, pl_body *phi, const pl_argmin_options *o, const pl_value *inputs, int64_t *list,
                       pl_attr *attrs) {
  uint8_t need[PL_MAX_INPUTS] = {1};
  pl_derived *d = pl_body_gradient(c, phi, need);
  if (!d || !d->body) return false;
  if (!d->list[0]) {
    pl_error(c, PL_ERROR_NUMERIC, "argmin: the function does not depend on the unknown");
    return false;
  }
  pl_body *gradient = pl_implicit_part(c, d->body, 1);
  pl_compression k;
  if (!gradient || !pl_body_compression(c, phi, inputs, 0, 0, true, &k)) return false;
  pl_body *hessian = pl_implicit_values(c, gradient, &k, "argmin");
  if (!hessian) return false;
  int64_t values[N_OPTIONS] = {[O_ITERATIONS] = o->iterations, [O_FLAGS] = o->unchecked ? UNCHECKED : 0};
  memcpy(list, values, sizeof values);
  memcpy(&list[O_ATOL], &o->atol, sizeof o->atol);
  memcpy(&list[O_RTOL], &o->rtol, sizeof o->rtol);
  pl_attr all[] = {PL_OBJECT(&d->body->base), PL_OBJECT(&gradient->base), PL_OBJECT(&hessian->base),
                   PL_OBJECT(k.pattern),      PL_INTS(N_OPTIONS, list),   pl_names(o->n_names, o->names)};
  memcpy(attrs, all, sizeof all);
  return true;
}

bool pl_argmin(pl_context *c, pl_body *phi, const pl_argmin_options *options, int n, const pl_value *inputs,
               pl_value *outputs) {
  pl_argmin_options o = options ? *options : pl_argmin_defaults();
  if (c->status) return false;
  const pl_spec *u = phi->n_in > 0 ? &phi->specs[0] : NULL, *y = phi->n_out == 1 ? &phi->specs[phi->outputs[0]] : NULL;
  if (n != phi->n_in || !u || !y || u->rank != 1 || u->dtype != PL_F64 || y->rank != 0 || y->dtype != PL_F64) {
    pl_error(c, PL_ERROR_ARGUMENT, "argmin: a function of the unknown, f64 {n}, and %d tensors returns one f64 number",
             n - 1);
    return false;
  }
  int64_t list[N_OPTIONS];
  pl_attr attrs[6];
  return attributes(c, phi, &o, inputs, list, attrs) && pl_apply(c, PL_OP(argmin_of), n, inputs, attrs, outputs);
}

/* sum of cosh(u - theta) + (u - flip(u))^2/4 */
static int sample_function(pl_context *c, const pl_value *x, pl_value *out) {
  pl_value flip = pl_call1(c, PL_OP(flip), x[0], &PL_INTS(-1, NULL));
  pl_value pull = PL_UNARY(square, c, PL_BINARY(sub, c, x[0], flip));
  pl_value all = PL_BINARY(add, c, PL_UNARY(cosh, c, PL_BINARY(sub, c, x[0], x[1])),
                           PL_BINARY(mul, c, pull, pl_constant(c, PL_F64, 0.25)));
  out[0] = pl_sample_total(c, all);
  return 1;
}
PL_SAMPLE(argmin) {
  if (k > 1) return false;
  pl_body *phi = pl_sample_body(c, 2, (pl_spec[]){three, three}, sample_function);
  pl_argmin_options o = pl_argmin_defaults();
  o.unchecked = k == 1;
  s->n = 2;
  s->object = (pl_object *)phi;
  s->in[0] = pl_sample_tensor(c, r, -1, 1, 1, 3);
  s->in[1] = pl_sample_tensor(c, r, -1, 1, 1, 3);
  return phi && attributes(c, phi, &o, s->in, s->lists[0], s->attrs);
}

pl_op pl_ops_argmin[] = {
    {.name = "argmin_of",
     .formula = "u where phi(u, theta) is least",
     .attrs = {{"both", PL_AS_OBJECT, true, 0},
               {"gradient", PL_AS_OBJECT, true, 0},
               {"hessian", PL_AS_OBJECT, true, 0},
               {"pattern", PL_AS_OBJECT, true, 0},
               {"options", PL_AS_INTS, true, 0},
               {"names", PL_AS_INTS, true, 0}},
     PL_IMPLICIT_ROW(argmin)},
    {0},
};
