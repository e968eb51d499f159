/* newton.c: F(u, theta) = 0 by Newton's method as one op. It converges first; its derivatives are those of the implicit
 * function (implicit.h). J has the sparsity found from F's program and is computed by as many directional derivatives
 * as the pattern has colours (transform/sparsity.h); or it is given, or only its products with vectors are formed. The
 * iteration is u <- P(u - s J^-1 F(u)), P the projection on the bounds, with
 *   backtracking       s = 1, 1/2, 1/4 ... until |F| decreases enough (Armijo, constant 1e-4),
 *   dogleg             Powell's path of least |F - J p| in a ball, whose radius follows the agreement of |F| with it,
 *   pseudo-transient   (J + I/t) in place of J, t growing as |F| falls (switched evolution relaxation),
 * after C. T. Kelley, Solving nonlinear equations with Newton's method, SIAM, 2003; J. Nocedal, S. J. Wright, Numerical
 * optimization, 2006, ch. 11; C. T. Kelley, D. E. Keyes, SIAM J. Numer. Anal. 35 (1998) 508. Krylov's tolerance follows
 * S. C. Eisenstat, H. F. Walker, SIAM J. Sci. Comput. 17 (1996) 16, choice 2. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../execute.h"
#include "../ops/control.h"
#include "direct.h"
#include "gmres.h"
#include "implicit.h"
#include "report.h"

/* Attributes: residual (u, theta... -> F), jacobian (u, theta... -> values), tangent (u, theta..., F, du -> J du),
 * pattern, options, names of the equations. For Krylov's method the residual stands for the jacobian, elsewhere it may
 * stand for the tangent. Inputs: where to start, theta, bounds. Outputs: u, the record. */
enum { O_ITERATIONS, O_ATOL, O_RTOL, O_SEARCH, O_STEP_LIMIT, O_FLAGS, N_OPTIONS };
enum { BOUNDED = 1, UNCHECKED = 2, KRYLOV = 4, GIVEN = 8 };
#define RESIDUAL(attrs) ((pl_body *)(attrs)[0].object)
#define JACOBIAN(attrs) ((pl_body *)(attrs)[1].object)
#define TANGENT(attrs) ((pl_body *)(attrs)[2].object)
#define PATTERN(attrs) ((pl_pattern *)(attrs)[3].object)
#define OPTION(attrs, k) ((attrs)[4].list[k])
#define HAS(attrs, flag) ((OPTION(attrs, O_FLAGS) & (flag)) != 0)

static double real_option(const pl_attr *attrs, int k) {
  double x;
  memcpy(&x, &OPTION(attrs, k), sizeof x); /* a list holds whole numbers: the bits of one */
  return x;
}

static bool vector_body(const pl_body *b, int n_in, const pl_body *like) {
  if (b->n_in != n_in || b->n_out != 1) return false;
  for (int i = 0; i < like->n_in; i++)
    if (!pl_spec_equal(&b->specs[i], &like->specs[i])) return false;
  const pl_spec *s = &b->specs[b->outputs[0]];
  return s->rank == 1 && s->dtype == PL_F64;
}
static int64_t length(const pl_body *b) { return b->specs[b->outputs[0]].shape[0]; }

/* The iteration takes it for granted: from elsewhere than pl_newton anything may come. */
static bool newton_fits(const pl_attr *attrs) {
  for (int i = 0; i < 4; i++)
    if (attrs[i].type != PL_ATTR_OBJECT || !attrs[i].object ||
        attrs[i].object->type != (i < 3 ? &pl_body_type : &pl_pattern_type))
      return false;
  if (attrs[4].type != PL_ATTR_INTS || attrs[4].n != N_OPTIONS || attrs[5].type != PL_ATTR_INTS) return false;
  if (OPTION(attrs, O_SEARCH) < 0 || OPTION(attrs, O_SEARCH) >= PL_SEARCHES || OPTION(attrs, O_ITERATIONS) < 0 ||
      OPTION(attrs, O_ITERATIONS) > INT32_MAX / 2)
    return false;
  const pl_body *f = RESIDUAL(attrs);
  const pl_pattern *p = PATTERN(attrs);
  if (f->n_in < 1 || !vector_body(f, f->n_in, f)) return false;
  const pl_spec *u = &f->specs[0];
  if (u->rank != 1 || u->dtype != PL_F64 || length(f) != u->shape[0]) return false;
  bool krylov = HAS(attrs, KRYLOV);
  if ((krylov || HAS(attrs, GIVEN)) &&
      (!vector_body(TANGENT(attrs), f->n_in + 2, f) || length(TANGENT(attrs)) != u->shape[0] ||
       !pl_spec_equal(&TANGENT(attrs)->specs[f->n_in], u) || !pl_spec_equal(&TANGENT(attrs)->specs[f->n_in + 1], u)))
    return false;
  return krylov || (vector_body(JACOBIAN(attrs), f->n_in, f) && length(JACOBIAN(attrs)) == p->nnz &&
                    p->rows == u->shape[0] && p->cols == p->rows);
}
static bool newton_shape(const pl_call *call, pl_spec *out) {
  const pl_attr *attrs = call->attrs;
  if (!newton_fits(attrs)) {
    pl_error(call->c, PL_ERROR_ARGUMENT, "newton: its programs, its pattern and its options do not fit each other");
    return false;
  }
  const pl_body *f = RESIDUAL(attrs);
  int bounds = HAS(attrs, BOUNDED) ? 2 : 0;
  if (call->n != f->n_in + bounds) {
    pl_error(call->c, PL_ERROR_ARGUMENT, "newton: the residual takes %d inputs, not %d", f->n_in, call->n - bounds);
    return false;
  }
  for (int i = 0; i < call->n; i++) {
    pl_spec s;
    pl_spec_of(call->in[i], &s);
    if (!pl_spec_equal(&s, &f->specs[i < f->n_in ? i : 0])) {
      pl_error(call->c, PL_ERROR_SHAPE, "newton: input %d differs from what the residual was traced for", i + 1);
      return false;
    }
  }
  out[0] = f->specs[0];
  out[1] = pl_record_spec(OPTION(attrs, O_ITERATIONS));
  return true;
}

typedef struct {
  enum { START, STARTED, PROBED, DIFFERENTIATED, MULTIPLIED, TRIED } phase; /* what the last call computed */
  pl_frame *residual, *jacobian, *tangent;
  double *memory, *u, *r, *trial, *r_trial, *step, *values, *gradient, *probe;
  const double *lo, *hi;
  pl_gmres krylov;
  pl_plan *shift; /* pseudo-transient: the pattern with a diagonal */
  pl_progress p;
  double s, radius, time, forcing, predicted, cauchy;
  int tries;
  bool close; /* converged: one more step takes what quadratic convergence offers */
} newton;

/* ---- ends ---- */

static pl_next finish(pl_activation *a, newton *s, pl_solve_end end) { return pl_progress_end(a, &s->p, s->u, end); }
static pl_next fail(pl_context *c, pl_activation *a, newton *s, pl_solve_end end, const char *what,
                    const char *advice) {
  return pl_progress_fail(c, a, &s->p, s->u, s->r, end, what, advice);
}

/* A singular matrix: the error is set. */
static pl_next singular(pl_context *c, pl_activation *a, newton *s) {
  if (c->status != PL_ERROR_NUMERIC) return PL_NEXT_FAIL;
  if (s->close) { /* it had converged already */
    pl_clear(c);
    return finish(a, s, PL_CONVERGED);
  }
  char what[320];
  snprintf(what, sizeof what, "cannot solve with the Jacobian: %.280s", c->message);
  return fail(c, a, s, PL_SINGULAR_JACOBIAN, what,
              "Start elsewhere, take smaller load or time steps (continuation), or line_search = \"pseudo_transient\"");
}

/* ---- what is called ---- */

static pl_next call(pl_activation *a, newton *s, pl_frame *f, const double *u, double *out, int phase) {
  s->phase = phase;
  pl_frame_input_at(f, 0, (double *)u);
  pl_frame_output(f, 0, out);
  pl_frame_start(f);
  a->child = f;
  return PL_NEXT_CALL;
}
static pl_next evaluate(pl_activation *a, newton *s, double *u, double *r, int phase) {
  s->p.evaluations++;
  return call(a, s, s->residual, u, r, phase);
}
static pl_next multiply(pl_activation *a, newton *s, double *v, double *out, int phase) {
  int n_in = RESIDUAL(a->attrs)->n_in;
  pl_frame_input_at(s->tangent, n_in, s->r); /* stands for F, which is not read */
  pl_frame_input_at(s->tangent, n_in + 1, v);
  return call(a, s, s->tangent, s->u, out, phase);
}

/* A solution at the limit of rounding: a step that moves nothing. */
static bool at_rounding(const newton *s) {
  return s->p.norm <= 1e3 * DBL_EPSILON * fmax(s->p.first, 1) ||
         pl_largest(s->step, s->p.n) <= 64 * DBL_EPSILON * pl_largest(s->u, s->p.n);
}

/* r = J x of the matrix at hand, or J' x. */
static void apply(const newton *s, const pl_pattern *p, bool transpose, const double *x, double *y) {
  memset(y, 0, (size_t)s->p.n * sizeof *y);
  for (int32_t i = 0; i < p->rows; i++)
    for (int32_t k = p->row_ptr[i]; k < p->row_ptr[i + 1]; k++) {
      if (transpose) y[p->col[k]] += s->values[k] * x[i];
      else y[i] += s->values[k] * x[p->col[k]];
    }
}

/* The dogleg's step p in a ball of the radius, in s->trial: along the gradient J'r to the least |r - J p| there, from
 * there to Newton's step. The predicted |r - J p| goes into s->predicted. */
static void dogleg(newton *s, const pl_pattern *p) {
  double *q = s->trial, whole = pl_norm2(s->step, s->p.n), steep = pl_norm2(s->gradient, s->p.n);
  if (whole <= s->radius) memcpy(q, s->step, (size_t)s->p.n * sizeof *q);
  else if (s->cauchy * steep >= s->radius)
    for (int64_t i = 0; i < s->p.n; i++) q[i] = s->gradient[i] * (s->radius / steep);
  else {
    double a = 0, b = 0, d = s->cauchy * steep * s->cauchy * steep - s->radius * s->radius;
    for (int64_t i = 0; i < s->p.n; i++) {
      double g = s->cauchy * s->gradient[i], t = s->step[i] - g;
      a += t * t;
      b += t * g;
    }
    double tau = (-b + sqrt(fmax(b * b - a * d, 0))) / a;
    for (int64_t i = 0; i < s->p.n; i++) {
      double g = s->cauchy * s->gradient[i];
      q[i] = g + tau * (s->step[i] - g);
    }
  }
  apply(s, p, false, q, s->r_trial);
  for (int64_t i = 0; i < s->p.n; i++) s->r_trial[i] = s->r[i] - s->r_trial[i];
  s->predicted = pl_norm2(s->r_trial, s->p.n);
}

/* The next point to look at. */
static pl_next attempt(pl_activation *a, newton *s) {
  if (OPTION(a->attrs, O_SEARCH) == PL_SEARCH_DOGLEG) {
    dogleg(s, PATTERN(a->attrs));
    for (int64_t i = 0; i < s->p.n; i++) s->trial[i] = s->u[i] - s->trial[i];
  } else
    for (int64_t i = 0; i < s->p.n; i++) s->trial[i] = s->u[i] - s->s * s->step[i];
  for (int64_t i = 0; s->lo && i < s->p.n; i++) s->trial[i] = fmin(fmax(s->trial[i], s->lo[i]), s->hi[i]);
  return evaluate(a, s, s->trial, s->r_trial, TRIED);
}

/* Newton's step is known. */
static pl_next stepped(pl_activation *a, newton *s) {
  double limit = real_option(a->attrs, O_STEP_LIMIT), most = pl_largest(s->step, s->p.n);
  s->s = limit > 0 && most > limit ? limit / most : 1;
  s->tries = 0;
  if (OPTION(a->attrs, O_SEARCH) == PL_SEARCH_DOGLEG) {
    apply(s, PATTERN(a->attrs), true, s->r, s->gradient);
    apply(s, PATTERN(a->attrs), false, s->gradient, s->trial);
    double g = pl_norm2(s->gradient, s->p.n), jg = pl_norm2(s->trial, s->p.n);
    s->cauchy = jg > 0 ? g / jg * (g / jg) : 0;
    if (s->p.iteration == 0) s->radius = s->s * pl_norm2(s->step, s->p.n);
    else if (limit > 0) s->radius = fmin(s->radius, s->s * pl_norm2(s->step, s->p.n));
  }
  return attempt(a, s);
}

/* The step from the values of J. */
static pl_next solve(pl_context *c, pl_activation *a, newton *s) {
  pl_pattern *p = PATTERN(a->attrs);
  double *values = s->values;
  if (s->shift) { /* J + I/t */
    const int64_t *of_j = pl_slot_get(c, s->shift->map_a)->data, *of_i = pl_slot_get(c, s->shift->map_b)->data;
    values += p->nnz;
    memset(values, 0, (size_t)s->shift->out->nnz * sizeof *values);
    for (int32_t k = 0; k < p->nnz; k++) values[of_j[k] - 1] = s->values[k];
    for (int64_t k = 0; k < s->p.n; k++) values[of_i[k] - 1] += 1 / s->time;
    p = s->shift->out;
  }
  pl_resource *f = pl_direct_factor(c, p, values, PL_SOLVER_AUTO);
  bool solved = f && pl_direct_solve(c, f, values, false, 1, s->r, s->step);
  if (f) f->destroy(c, f);
  if (!solved) return singular(c, a, s);
  s->p.linear++;
  return stepped(a, s);
}

static pl_next multiplied(pl_context *c, pl_activation *a, newton *s, bool more) {
  pl_gmres *g = &s->krylov;
  if (more) {
    s->p.linear++;
    return multiply(a, s, g->in, g->out, MULTIPLIED);
  }
  if (!pl_all_finite(g->x, s->p.n) || !(g->residual <= fmax(g->tolerance, 0.9 * s->p.norm))) {
    if (s->close) return finish(a, s, PL_CONVERGED);
    return fail(c, a, s, PL_LINEAR_STAGNATION, "stops: GMRES does not lower the residual of its linear system",
                "Is the Jacobian singular there? Without jacobian = \"krylov\" it is found and solved directly");
  }
  memcpy(s->step, g->x, (size_t)s->p.n * sizeof *s->step);
  return stepped(a, s);
}

/* J at u, or the end. */
static pl_next next_step(pl_context *c, pl_activation *a, newton *s) {
  pl_progress_note(a, &s->p);
  if (s->close || s->p.norm == 0) return finish(a, s, PL_CONVERGED);
  s->close = s->p.norm <= real_option(a->attrs, O_ATOL) + real_option(a->attrs, O_RTOL) * s->p.first;
  if (s->p.iteration >= OPTION(a->attrs, O_ITERATIONS)) {
    if (s->close) return finish(a, s, PL_CONVERGED);
    return fail(
        c, a, s, PL_TOO_MANY_ITERATIONS, "did not converge",
        "Start nearer to the solution, take smaller load or time steps (continuation), or allow more iterations");
  }
  if (s->time > 0 && s->close) s->time = INFINITY;
  s->p.jacobians++;
  if (!HAS(a->attrs, KRYLOV)) return call(a, s, s->jacobian, s->u, s->values, DIFFERENTIATED);
  double tolerance = fmax(s->forcing * s->p.norm, 1e-14 * s->p.norm);
  return multiplied(c, a, s,
                    pl_gmres_begin(&s->krylov, s->r, s->close ? fmin(1e-8 * s->p.norm, tolerance) : tolerance));
}

/* ---- the given Jacobian is compared with a directional derivative where it starts ---- */

static pl_next probe(pl_activation *a, newton *s) {
  uint64_t x = 0x9e3779b97f4a7c15u;
  for (int64_t i = 0; i < s->p.n; i++) {
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    s->probe[i] = 0.5 + (double)(x >> 11) * 0x1p-53;
  }
  return multiply(a, s, s->probe, s->trial, PROBED);
}
static pl_next probed(pl_context *c, pl_activation *a, newton *s) {
  const pl_pattern *p = PATTERN(a->attrs);
  double scale = 0;
  for (int64_t i = 0; i < s->p.n; i++) scale = fmax(scale, fabs(s->trial[i]));
  for (int32_t i = 0; i < p->rows; i++) {
    double sum = 0, size = 0;
    for (int32_t k = p->row_ptr[i]; k < p->row_ptr[i + 1]; k++) {
      sum += s->values[k] * s->probe[p->col[k]];
      size += fabs(s->values[k] * s->probe[p->col[k]]);
    }
    if (fabs(sum - s->trial[i]) <= 1e-6 * fmax(size, fabs(s->trial[i])) + 1e-12 * scale) continue;
    char name[PL_TEXT];
    pl_equation_name(&a->attrs[5], i, name);
    pl_error(c, PL_ERROR_ARGUMENT,
             "newton: the given Jacobian is not the residual's derivative: in a test direction its row %d (%s) gives "
             "%.6g, the derivative is %.6g; leave jacobian out, and it is found",
             i + 1, name, sum, s->trial[i]);
    return PL_NEXT_FAIL;
  }
  return solve(c, a, s);
}

/* ---- steps ---- */

static bool prepare(pl_context *c, pl_activation *a, newton *s) {
  const pl_attr *attrs = a->attrs;
  pl_body *f = RESIDUAL(attrs);
  pl_pattern *p = PATTERN(attrs);
  int64_t n = a->in[0]->count, each = (n + 15) & ~(int64_t)7; /* whole vectors, and one more */
  s->p = (pl_progress){.n = n,
                       .most = OPTION(attrs, O_ITERATIONS),
                       .unchecked = HAS(attrs, UNCHECKED),
                       .name = "newton",
                       .names = &attrs[5]};
  bool krylov = HAS(attrs, KRYLOV), given = HAS(attrs, GIVEN);
  int64_t entries = 2 * (int64_t)p->nnz + n + 32;
  if (!(s->memory = pl_memory_new(c, (size_t)(7 * each + entries) * sizeof *s->memory))) return false;
  double **parts[] = {&s->u, &s->r, &s->trial, &s->r_trial, &s->step, &s->gradient, &s->probe, &s->values};
  for (int i = 0; i < 8; i++) *parts[i] = s->memory + i * each;
  if (HAS(attrs, BOUNDED)) {
    s->lo = a->in[f->n_in]->data;
    s->hi = a->in[f->n_in + 1]->data;
  }
  for (int64_t i = 0; i < n; i++) {
    double x = ((const double *)a->in[0]->data)[i];
    s->u[i] = s->lo ? fmin(fmax(x, s->lo[i]), s->hi[i]) : x;
  }
  pl_frame **frames[] = {&s->residual, &s->jacobian, &s->tangent};
  for (int k = 0; k < 3; k++) {
    if ((k == 1 && krylov) || (k == 2 && !krylov && !given)) continue;
    if (!(*frames[k] = pl_frame_new(c, (pl_body *)attrs[k].object))) return false;
    for (int i = 1; i < f->n_in; i++) pl_frame_input(*frames[k], i, a->in[i]);
  }
  s->forcing = length(f) > 0 ? 0.1 : 0;
  return !krylov || pl_gmres_new(c, &s->krylov, n);
}

static pl_next started(pl_context *c, pl_activation *a, newton *s) {
  if (!pl_all_finite(s->r, s->p.n)) {
    s->p.norm = s->p.first = NAN;
    pl_progress_note(a, &s->p);
    return fail(c, a, s, PL_NOT_FINITE, "cannot begin: the residual is not finite where it starts",
                "Start where the residual is defined");
  }
  s->p.norm = s->p.first = pl_norm2(s->r, s->p.n);
  if (OPTION(a->attrs, O_SEARCH) == PL_SEARCH_TRANSIENT) {
    if (!HAS(a->attrs, KRYLOV) && !(s->shift = pl_plan_shift(c, PATTERN(a->attrs)))) return PL_NEXT_FAIL;
    s->time = fmax(pl_largest(s->u, s->p.n), 1) / fmax(pl_largest(s->r, s->p.n), DBL_MIN);
  }
  return next_step(c, a, s);
}

static pl_next accept(pl_context *c, pl_activation *a, newton *s, double norm) {
  double *u = s->u, *r = s->r, ratio = norm / s->p.norm;
  s->u = s->trial;
  s->trial = u;
  s->r = s->r_trial;
  s->r_trial = r;
  s->p.norm = norm;
  s->p.iteration++;
  s->time /= fmax(ratio, DBL_MIN);
  double least = 0.9 * s->forcing * s->forcing, wanted = 0.9 * ratio * ratio;
  s->forcing = fmin(fmax(wanted, least > 0.1 ? least : 0), 0.1);
  return next_step(c, a, s);
}

static pl_next shorter(pl_context *c, pl_activation *a, newton *s) {
  if (at_rounding(s)) return finish(a, s, PL_CONVERGED);
  return fail(c, a, s, PL_NO_DESCENT, "stops: no step along the Newton direction lowers the residual",
              "Is the residual smooth there? Start nearer to the solution, or take smaller load or time steps "
              "(continuation)");
}

static pl_next tried(pl_context *c, pl_activation *a, newton *s) {
  double norm = pl_all_finite(s->r_trial, s->p.n) ? pl_norm2(s->r_trial, s->p.n) : INFINITY;
  if (s->close) { /* taken only if it is better */
    if (norm < s->p.norm && s->p.iteration < OPTION(a->attrs, O_ITERATIONS)) return accept(c, a, s, norm);
    return finish(a, s, PL_CONVERGED);
  }
  switch (OPTION(a->attrs, O_SEARCH)) {
    case PL_SEARCH_DOGLEG: {
      double ratio =
          (s->p.norm - norm) * (s->p.norm + norm) / ((s->p.norm - s->predicted) * (s->p.norm + s->predicted));
      double step = 0;
      for (int64_t i = 0; i < s->p.n; i++) step = fmax(step, fabs(s->trial[i] - s->u[i]));
      if (!(ratio > 0.25)) s->radius *= 0.25;
      else if (ratio > 0.75) s->radius *= 2;
      if (ratio > 1e-4) return accept(c, a, s, norm);
      return step > 8 * DBL_EPSILON * pl_largest(s->u, s->p.n) && s->tries++ < 60 ? attempt(a, s) : shorter(c, a, s);
    }
    case PL_SEARCH_TRANSIENT:
      if (isfinite(norm)) return accept(c, a, s, norm);
      s->time /= 10;
      if (s->tries++ >= 20) return shorter(c, a, s);
      if (!HAS(a->attrs, KRYLOV)) {
        int tries = s->tries;
        pl_next next = solve(c, a, s);
        s->tries = tries;
        return next;
      }
      break;
    case PL_SEARCH_BACKTRACK:
      if (norm <= (1 - 1e-4 * s->s) * s->p.norm) return accept(c, a, s, norm);
      break;
    default:
      if (isfinite(norm)) return accept(c, a, s, norm);
  }
  s->s /= 2;
  return s->tries++ < 40 ? attempt(a, s) : shorter(c, a, s);
}

static pl_next newton_step(pl_context *c, pl_activation *a) {
  newton *s = a->state;
  switch (s->phase) {
    case START: return prepare(c, a, s) ? evaluate(a, s, s->u, s->r, STARTED) : PL_NEXT_FAIL;
    case STARTED: return started(c, a, s);
    case DIFFERENTIATED: return HAS(a->attrs, GIVEN) && s->p.iteration == 0 ? probe(a, s) : solve(c, a, s);
    case PROBED: return probed(c, a, s);
    case MULTIPLIED:
      if (s->time > 0)
        for (int64_t i = 0; i < s->p.n; i++) s->krylov.out[i] += s->krylov.in[i] / s->time;
      return multiplied(c, a, s, pl_gmres_next(&s->krylov));
    default: return tried(c, a, s);
  }
}
static void newton_stop(pl_context *c, pl_activation *a) {
  newton *s = a->state;
  pl_frame_free(c, s->residual);
  pl_frame_free(c, s->jacobian);
  pl_frame_free(c, s->tangent);
  pl_gmres_free(c, &s->krylov);
  pl_object_release((pl_object *)s->shift);
  pl_memory_free(c, s->memory);
  a->child = NULL;
}

/* ---- derivatives ---- */

static pl_implicit rule(const pl_attr *attrs) {
  return (pl_implicit){.residual = RESIDUAL(attrs),
                       .kind = HAS(attrs, KRYLOV) ? PL_JACOBIAN_PRODUCTS : PL_JACOBIAN_MATRIX,
                       .jacobian = JACOBIAN(attrs),
                       .pattern = PATTERN(attrs),
                       .method = PL_SOLVER_AUTO,
                       .unproved = HAS(attrs, UNCHECKED),
                       .name = "newton"};
}
static void newton_vjp(pl_vjp *v) {
  pl_implicit i = rule(v->attrs);
  pl_implicit_vjp(v, &i);
}
static void newton_jvp(pl_jvp *j) {
  pl_implicit i = rule(j->attrs);
  pl_implicit_jvp(j, &i);
}

/* ---- making the call ---- */

pl_newton_options pl_newton_defaults(void) {
  return (pl_newton_options){.iterations = 50, .atol = 1e-12, .rtol = 1e-10, .search = PL_SEARCH_BACKTRACK};
}

static bool check_vectors(pl_context *c, const pl_body *f) {
  const pl_spec *u = &f->specs[0], *r = &f->specs[f->outputs[0]];
  if (u->rank == 1 && r->rank == 1 && u->shape[0] == r->shape[0] && u->dtype == PL_F64 && r->dtype == PL_F64)
    return true;
  char a[PL_TEXT], b[PL_TEXT];
  pl_error(c, PL_ERROR_SHAPE,
           "newton: the unknown has shape %s (%s), the residual %s (%s): both must be as many f64 numbers",
           pl_shape_text(a, u->rank, u->shape), u->dtype == PL_DTYPES ? "a resource" : pl_dtype_name(u->dtype),
           pl_shape_text(b, r->rank, r->shape), r->dtype == PL_DTYPES ? "a resource" : pl_dtype_name(r->dtype));
  return false;
}

static bool check_options(pl_context *c, const pl_newton_options *o, const pl_body *f) {
  if (o->search == PL_SEARCH_DOGLEG && o->krylov) {
    pl_error(c, PL_ERROR_ARGUMENT, "newton: the dogleg needs the Jacobian's transpose: not with jacobian = \"krylov\"");
    return false;
  }
  if (f->n_out == 1) return true;
  const pl_spec *u = &f->specs[0], *j = &f->specs[f->outputs[1]];
  int64_t rows = j->rank == 2 ? j->shape[0] : -1, cols = j->rank == 2 ? j->shape[1] : -1, nnz = rows * cols;
  if (o->pattern) pl_sparse_size(o->pattern, &rows, &cols, &nnz);
  if (rows == u->shape[0] && cols == rows && j->dtype == PL_F64 &&
      (!o->pattern || (j->rank == 1 && j->shape[0] == nnz)))
    return true;
  char text[PL_TEXT];
  pl_error(c, PL_ERROR_SHAPE,
           "newton: the given Jacobian has shape %s; with %d unknowns it is a sparse matrix or an f64 tensor {%d, %d}",
           o->pattern ? "of another matrix" : pl_shape_text(text, j->rank, j->shape), u->shape[0], u->shape[0],
           u->shape[0]);
  return false;
}

static pl_object *full_pattern(pl_context *c, int32_t n) {
  if ((int64_t)n * n > INT32_MAX - 1) {
    pl_error(c, PL_ERROR_MEMORY, "newton: a dense Jacobian of %d unknowns; give it as a sparse matrix", n);
    return NULL;
  }
  int32_t *ptr = pl_memory_new(c, ((size_t)n + 1) * sizeof *ptr),
          *col = pl_memory_new(c, ((size_t)n * n + 1) * sizeof *col);
  for (int32_t i = 0; ptr && i <= n; i++) ptr[i] = i * n;
  for (int32_t k = 0; col && k < n * n; k++) col[k] = k % n;
  pl_pattern *p = ptr && col ? pl_pattern_new(c, n, n, ptr, col) : NULL;
  pl_memory_free(c, ptr);
  pl_memory_free(c, col);
  return (pl_object *)p;
}

/* Those of the op; what they refer to is f's, the caller's, or held (may be NULL). */
static bool attributes(pl_context *c, pl_body *f, const pl_newton_options *o, const pl_value *inputs, int64_t *list,
                       pl_attr *attrs, pl_object **held) {
  pl_body *j = NULL, *tangent = f;
  pl_object *pattern = o->pattern;
  bool given = f->n_out == 2;
  *held = NULL;
  if (given) {
    if (!(j = pl_implicit_part(c, f, 1)) || !(f = pl_implicit_part(c, f, 0))) return false;
    if (!pattern && !(pattern = *held = full_pattern(c, f->specs[0].shape[0]))) return false;
  }
  if ((o->krylov || given) && !(tangent = pl_implicit_tangent(c, f, "newton"))) return false;
  if (o->krylov) {
    j = f;
    pattern = *held = (pl_object *)pl_pattern_new(c, 0, 0, (int32_t[]){0}, (int32_t[]){0});
  } else if (!j) {
    pl_compression k;
    if (!pl_body_compression(c, f, inputs, 0, 0, false, &k) || !(j = pl_implicit_values(c, f, &k, "newton")))
      return false;
    pattern = k.pattern;
  }
  int64_t flags =
      (o->bounded ? BOUNDED : 0) | (o->unchecked ? UNCHECKED : 0) | (o->krylov ? KRYLOV : 0) | (given ? GIVEN : 0);
  int64_t values[N_OPTIONS] = {[O_ITERATIONS] = o->iterations, [O_SEARCH] = o->search, [O_FLAGS] = flags};
  memcpy(list, values, sizeof values);
  memcpy(&list[O_ATOL], &o->atol, sizeof o->atol);
  memcpy(&list[O_RTOL], &o->rtol, sizeof o->rtol);
  memcpy(&list[O_STEP_LIMIT], &o->step_limit, sizeof o->step_limit);
  pl_attr all[] = {PL_OBJECT(&f->base), PL_OBJECT(&j->base),      PL_OBJECT(&tangent->base),
                   PL_OBJECT(pattern),  PL_INTS(N_OPTIONS, list), pl_names(o->n_names, o->names)};
  memcpy(attrs, all, sizeof all);
  return pattern != NULL;
}

bool pl_newton(pl_context *c, pl_body *f, const pl_newton_options *options, int n, const pl_value *inputs,
               pl_value *outputs) {
  pl_newton_options o = options ? *options : pl_newton_defaults();
  if (c->status) return false;
  int n_f = o.bounded ? n - 2 : n;
  if (n_f < 1 || n > PL_MAX_INPUTS || f->n_in != n_f || f->n_out < 1 || f->n_out > 2) {
    pl_error(
        c, PL_ERROR_ARGUMENT,
        "newton: a residual of %d inputs and %d results is given %d; it takes the unknown and up to %d tensors and "
        "returns one",
        f->n_in, f->n_out, n_f, PL_MAX_INPUTS - 1);
    return false;
  }
  if (!check_vectors(c, f) || !check_options(c, &o, f)) return false;
  int64_t list[N_OPTIONS];
  pl_attr attrs[6];
  pl_object *held;
  bool ok = attributes(c, f, &o, inputs, list, attrs, &held) && pl_apply(c, PL_OP(newton), n, inputs, attrs, outputs);
  pl_object_release(held);
  return ok;
}

pl_body *pl_newton_jacobian(pl_context *c, pl_body *f, const pl_value *inputs) {
  pl_compression k;
  if (c->status || !check_vectors(c, f) || !pl_body_compression(c, f, inputs, 0, 0, false, &k)) return NULL;
  return pl_implicit_values(c, f, &k, "newton");
}

pl_value pl_solve_reals(pl_context *c, pl_value record) { return PL_UNARY(reals_of, c, record); }

/* ---- sample ---- */

/* u + 0.3 tanh(u roll) - theta^2: diagonally dominant */
static int sample_residual(pl_context *c, const pl_value *x, pl_value *out) {
  pl_value flip = pl_call1(c, PL_OP(flip), x[0], &PL_INTS(-1, NULL));
  pl_value f = PL_BINARY(mul, c, PL_UNARY(tanh, c, flip), pl_constant(c, PL_F64, 0.3));
  out[0] = PL_BINARY(sub, c, PL_BINARY(add, c, x[0], f), PL_UNARY(square, c, x[1]));
  return 1;
}
PL_SAMPLE(newton) {
  if (k > 6) return false;
  static const pl_spec four = {PL_F64, 1, {4}};
  pl_body *f = pl_sample_body(c, 2, (pl_spec[]){four, four}, sample_residual);
  pl_newton_options o = pl_newton_defaults();
  o.search = k < PL_SEARCHES ? (pl_search)k : PL_SEARCH_BACKTRACK;
  o.krylov = k == 4;
  o.bounded = o.unchecked = k == 5;
  o.step_limit = k == 6 ? 0.1 : 0;
  s->n = o.bounded ? 4 : 2;
  s->object = (pl_object *)f;
  s->in[0] = pl_tensor(c, PL_F64, 1, (int64_t[]){4}, NULL);
  s->in[1] = pl_sample_tensor(c, r, 0.5, 1.5, 1, 4);
  for (int i = 2; i < s->n; i++) s->in[i] = pl_broadcast_like(c, pl_constant(c, PL_F64, i == 2 ? -1 : 3), s->in[0]);
  return f && attributes(c, f, &o, s->in, s->lists[0], s->attrs, &s->second);
}

pl_op pl_ops_newton[] = {
    {.name = "newton",
     .formula = "u with F(u, theta) = 0",
     .attrs = {{"residual", PL_AS_OBJECT, true, 0},
               {"jacobian", PL_AS_OBJECT, true, 0},
               {"tangent", PL_AS_OBJECT, true, 0},
               {"pattern", PL_AS_OBJECT, true, 0},
               {"options", PL_AS_INTS, true, 0},
               {"names", PL_AS_INTS, true, 0}},
     PL_IMPLICIT_ROW(newton)},
    {0},
};
