/* fixed_point.c: u = g(u, theta) by Anderson's acceleration. The next point is that combination of the last m values
 * g(u_k) whose residuals f_k = g(u_k) - u_k combine to the least; the least-squares problem is solved by QR of the
 * residuals' differences, the oldest of which are dropped while they are nearly dependent.
 *   H. F. Walker, P. Ni, Anderson acceleration for fixed-point iterations, SIAM J. Numer. Anal. 49 (2011) 1715.
 * Derivatives are those of F(u, theta) = u - g(u, theta) = 0. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "../ops/control.h"
#include "implicit.h"
#include "report.h"

/* Attributes: g (u, theta... -> g), residual (u, theta... -> u - g), options, names. Inputs: where to start, theta.
 * Outputs: u, the record. */
enum { O_ITERATIONS, O_ATOL, O_RTOL, O_DEPTH, O_DAMPING, O_FLAGS, N_OPTIONS };
enum { UNCHECKED = 1, KRYLOV = 2, DEPTH = 50 };
#define G(attrs) ((pl_body *)(attrs)[0].object)
#define RESIDUAL(attrs) ((pl_body *)(attrs)[1].object)
#define OPTION(attrs, k) ((attrs)[2].list[k])
#define HAS(attrs, flag) ((OPTION(attrs, O_FLAGS) & (flag)) != 0)

static double real_option(const pl_attr *attrs, int k) {
  double x;
  memcpy(&x, &OPTION(attrs, k), sizeof x);
  return x;
}

static bool maps(const pl_body *g, const pl_body *b) {
  if (b->n_in != g->n_in || b->n_out != 1 || g->n_in < 1) return false;
  for (int i = 0; i < g->n_in; i++)
    if (!pl_spec_equal(&b->specs[i], &g->specs[i])) return false;
  const pl_spec *u = &g->specs[0];
  return u->rank == 1 && u->dtype == PL_F64 && pl_spec_equal(&b->specs[b->outputs[0]], u);
}
static bool fixed_shape(const pl_call *call, pl_spec *out) {
  const pl_attr *attrs = call->attrs;
  if (!are_programs(attrs, 2) || attrs[2].type != PL_ATTR_INTS || attrs[2].n != N_OPTIONS ||
      attrs[3].type != PL_ATTR_INTS || OPTION(attrs, O_ITERATIONS) < 0 || OPTION(attrs, O_ITERATIONS) > INT32_MAX / 2 ||
      OPTION(attrs, O_DEPTH) < 0 || OPTION(attrs, O_DEPTH) > DEPTH || !maps(G(attrs), G(attrs)) ||
      !maps(G(attrs), RESIDUAL(attrs)))
    return pl_misfit(call->c, call->op);
  if (pl_count_error(call, G(attrs)->n_in) || !pl_check_inputs(call, G(attrs), 0, 0, call->n)) return false;
  out[0] = G(attrs)->specs[0];
  out[1] = pl_record_spec(OPTION(attrs, O_ITERATIONS));
  return true;
}

typedef struct {
  bool running;
  pl_frame *g;
  double *memory, *u, *value, *f; /* f = g(u) - u */
  double *du, *df, *q;            /* differences of values and of residuals, columns in a ring; an orthonormal basis */
  int64_t each;
  int columns, newest;
  pl_progress p;
} fixed;

static pl_next evaluate(pl_activation *a, fixed *s) {
  s->p.evaluations++;
  pl_frame_input_at(s->g, 0, s->u);
  pl_frame_output(s->g, 0, s->value);
  pl_frame_start(s->g);
  a->child = s->g;
  return PL_NEXT_CALL;
}

static pl_next prepare(pl_context *c, pl_activation *a, fixed *s) {
  int64_t n = a->in[0]->count, each = s->each = (n + 15) & ~(int64_t)7, m = OPTION(a->attrs, O_DEPTH);
  s->p = (pl_progress){.n = n,
                       .most = OPTION(a->attrs, O_ITERATIONS),
                       .unchecked = HAS(a->attrs, UNCHECKED),
                       .name = "fixed_point",
                       .names = &a->attrs[3]};
  if (!(s->memory = pl_memory_new(c, (size_t)((3 + 3 * m) * each + 1) * sizeof *s->memory))) return PL_NEXT_FAIL;
  double **parts[] = {&s->u, &s->value, &s->f};
  for (int i = 0; i < 3; i++) *parts[i] = s->memory + i * each;
  s->du = s->memory + 3 * each;
  s->df = s->du + m * each;
  s->q = s->df + m * each;
  memcpy(s->u, a->in[0]->data, (size_t)n * sizeof *s->u);
  if (!(s->g = pl_frame_new(c, G(a->attrs)))) return PL_NEXT_FAIL;
  for (int i = 1; i < a->n_in; i++) pl_frame_input(s->g, i, a->in[i]);
  s->running = true;
  return evaluate(a, s);
}

static double *column(const fixed *s, double *of, int m, int k) { /* the k-th newest */
  return of + (int64_t)((s->newest - k + m) % m) * s->each;
}

/* Coefficients of the least |f - dF gamma|, for as many of the newest columns as are independent: how many. */
static int least(const fixed *s, int m, double *gamma) {
  double r[DEPTH][DEPTH], y[DEPTH];
  int n = 0;
  for (; n < s->columns; n++) {
    double *q = s->q + n * s->each;
    memcpy(q, column(s, s->df, m, n), (size_t)s->p.n * sizeof *q);
    double before = sqrt(pl_dot(q, q, s->p.n));
    for (int k = 0; k < n; k++) {
      const double *old = s->q + k * s->each;
      r[k][n] = pl_dot(old, q, s->p.n);
      for (int64_t i = 0; i < s->p.n; i++) q[i] -= r[k][n] * old[i];
    }
    r[n][n] = sqrt(pl_dot(q, q, s->p.n));
    if (!(r[n][n] > 1e-10 * before)) break;
    for (int64_t i = 0; i < s->p.n; i++) q[i] /= r[n][n];
    y[n] = pl_dot(q, s->f, s->p.n);
  }
  for (int k = n; k-- > 0;) {
    gamma[k] = y[k];
    for (int j = k + 1; j < n; j++) gamma[k] -= r[k][j] * gamma[j];
    gamma[k] /= r[k][k];
  }
  return n;
}

static pl_next fixed_step(pl_context *c, pl_activation *a) {
  fixed *s = a->state;
  if (!s->running) return prepare(c, a, s);
  int64_t n = s->p.n;
  int m = (int)OPTION(a->attrs, O_DEPTH);
  if (pl_interrupted(c)) return PL_NEXT_FAIL;
  bool first = s->p.evaluations == 1;
  double *df = NULL;
  if (!first && m > 0) { /* the step that led here stands in the new column already */
    s->newest = (s->newest + 1) % m;
    if (s->columns < m) s->columns++;
    df = column(s, s->df, m, 0);
    memcpy(df, s->f, (size_t)n * sizeof *df);
  }
  for (int64_t i = 0; i < n; i++) {
    double f = s->value[i] - s->u[i];
    if (df) df[i] = f - df[i];
    s->f[i] = f;
  }
  s->p.norm = pl_norm2(s->f, n);
  if (first) s->p.first = s->p.norm;
  pl_progress_note(a, &s->p);
  if (!pl_all_finite(s->f, n))
    return pl_progress_fail(c, a, &s->p, s->u, s->f, PL_NOT_FINITE, "stops: the function is not finite",
                            "Start nearer to the fixed point, or take a smaller damping");
  if (s->p.norm <= real_option(a->attrs, O_ATOL) + real_option(a->attrs, O_RTOL) * s->p.first ||
      s->p.norm <= 8 * DBL_EPSILON * pl_norm2(s->u, n))
    return pl_progress_end(a, &s->p, s->value, PL_CONVERGED);
  if (s->p.iteration >= s->p.most)
    return pl_progress_fail(c, a, &s->p, s->u, s->f, PL_TOO_MANY_ITERATIONS, "did not converge",
                            "Start nearer, take another depth (anderson) or damping, or allow more iterations; newton "
                            "solves u - g(u) = 0 too");
  double gamma[DEPTH], beta = real_option(a->attrs, O_DAMPING);
  int used = m > 0 ? least(s, m, gamma) : 0;
  /* u + beta f - (dU + beta dF) gamma, the step kept where the next column's difference goes */
  double *step = m > 0 ? s->q : s->value;
  for (int64_t i = 0; i < n; i++) step[i] = beta * s->f[i];
  for (int k = 0; k < used; k++) {
    const double *x = column(s, s->du, m, k), *y = column(s, s->df, m, k);
    for (int64_t i = 0; i < n; i++) step[i] -= gamma[k] * (x[i] + beta * y[i]);
  }
  for (int64_t i = 0; i < n; i++) s->u[i] += step[i];
  if (m > 0) memcpy(s->du + (int64_t)((s->newest + 1) % m) * s->each, step, (size_t)n * sizeof *step);
  s->p.iteration++;
  return evaluate(a, s);
}
static void fixed_stop(pl_context *c, pl_activation *a) {
  fixed *s = a->state;
  pl_frame_free(c, s->g);
  pl_memory_free(c, s->memory);
  a->child = NULL;
}

/* ---- derivatives: the Jacobian is found where one is asked for ---- */

static bool rule(pl_context *c, const pl_attr *attrs, int n, const pl_value *in, pl_value u, pl_implicit *i) {
  *i = (pl_implicit){.residual = RESIDUAL(attrs),
                     .kind = HAS(attrs, KRYLOV) ? PL_JACOBIAN_PRODUCTS : PL_JACOBIAN_MATRIX,
                     .method = PL_SOLVER_AUTO,
                     .unproved = HAS(attrs, UNCHECKED),
                     .name = "fixed_point"};
  if (HAS(attrs, KRYLOV)) return true;
  pl_value at[PL_MAX_INPUTS];
  memcpy(at, in, (size_t)n * sizeof *at);
  at[0] = u;
  pl_compression k;
  if (!pl_body_compression(c, i->residual, at, 0, 0, false, &k)) return false;
  i->pattern = (pl_pattern *)k.pattern;
  i->jacobian = pl_implicit_values(c, i->residual, &k, i->name);
  return i->jacobian != NULL;
}
static void fixed_vjp(pl_vjp *v) {
  pl_implicit i;
  if (rule(v->c, v->attrs, v->n, v->in, v->out[0], &i)) pl_implicit_vjp(v, &i);
}
static void fixed_jvp(pl_jvp *j) {
  pl_implicit i;
  if (rule(j->c, j->attrs, j->n, j->in, j->out[0], &i)) pl_implicit_jvp(j, &i);
}

/* ---- making the call ---- */

pl_fixed_point_options pl_fixed_point_defaults(void) {
  return (pl_fixed_point_options){.iterations = 200, .depth = 5, .damping = 1, .atol = 1e-14, .rtol = 1e-12};
}

static bool attributes(pl_context *c, pl_body *g, const pl_fixed_point_options *o, int64_t *list, pl_attr *attrs) {
  pl_body *f = pl_implicit_defect(c, g);
  if (!f) return false;
  int64_t values[N_OPTIONS] = {[O_ITERATIONS] = o->iterations,
                               [O_DEPTH] = o->depth,
                               [O_FLAGS] = (o->unchecked ? UNCHECKED : 0) | (o->krylov ? KRYLOV : 0)};
  memcpy(list, values, sizeof values);
  memcpy(&list[O_ATOL], &o->atol, sizeof o->atol);
  memcpy(&list[O_RTOL], &o->rtol, sizeof o->rtol);
  memcpy(&list[O_DAMPING], &o->damping, sizeof o->damping);
  pl_attr all[] = {PL_OBJECT(&g->base), PL_OBJECT(&f->base), PL_INTS(N_OPTIONS, list), pl_names(o->n_names, o->names)};
  memcpy(attrs, all, sizeof all);
  return true;
}

bool pl_fixed_point(pl_context *c, pl_body *g, const pl_fixed_point_options *options, int n, const pl_value *inputs,
                    pl_value *outputs) {
  pl_fixed_point_options o = options ? *options : pl_fixed_point_defaults();
  if (c->status) return false;
  if (n != g->n_in || !maps(g, g) || o.depth < 0 || o.depth > DEPTH) {
    pl_error(
        c, PL_ERROR_ARGUMENT,
        "fixed_point: the function takes the unknown, f64 {n}, and %d tensors, and returns {n}; anderson is 0 to %d",
        n - 1, DEPTH);
    return false;
  }
  int64_t list[N_OPTIONS];
  pl_attr attrs[4];
  return attributes(c, g, &o, list, attrs) && pl_apply(c, PL_OP(fixed_point), n, inputs, attrs, outputs);
}

/* 0.4 sin(u roll) + theta */
static int sample_map(pl_context *c, const pl_value *x, pl_value *out) {
  pl_value flip = pl_call1(c, PL_OP(flip), x[0], &PL_INTS(-1, NULL));
  out[0] = PL_BINARY(add, c, PL_BINARY(mul, c, PL_UNARY(sin, c, flip), pl_constant(c, PL_F64, 0.4)), x[1]);
  return 1;
}
PL_SAMPLE(fixed) {
  if (k > 2) return false;
  pl_body *g = pl_sample_body(c, 2, (pl_spec[]){three, three}, sample_map);
  pl_fixed_point_options o = pl_fixed_point_defaults();
  o.atol = 0;
  o.rtol = 0; /* to rounding */
  if (k == 1) o.depth = 0;
  o.krylov = o.unchecked = k == 2;
  s->n = 2;
  s->object = (pl_object *)g;
  s->in[0] = pl_sample_tensor(c, r, -1, 1, 1, 3);
  s->in[1] = pl_sample_tensor(c, r, -1, 1, 1, 3);
  return g && attributes(c, g, &o, s->lists[0], s->attrs);
}

pl_op pl_ops_fixed_point[] = {
    {.name = "fixed_point",
     .formula = "u with u = g(u, theta)",
     .attrs = {{"g", PL_AS_OBJECT, true, 0},
               {"residual", PL_AS_OBJECT, true, 0},
               {"options", PL_AS_INTS, true, 0},
               {"names", PL_AS_INTS, true, 0}},
     PL_IMPLICIT_ROW(fixed)},
    {0},
};
