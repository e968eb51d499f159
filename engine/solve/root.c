/* root.c: many scalar equations f(y, theta) = 0 at once, each for itself: Newton's method inside a bracket, which is
 * bisected where a step leaves it or is not half of the last but one (W. H. Press et al., Numerical Recipes, 9.4, on
 * all elements side by side). f and df/dy come from one program. Without a bracket steps are halved until |f| falls,
 * and the first change of sign makes a bracket. Derivatives are the implicit function's with a diagonal Jacobian. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../ops/control.h"
#include "../schedule.h"
#include "implicit.h"
#include "report.h"

/* Attributes: f (y, theta... -> f), both (y, theta... -> f, df/dy), diagonal (y, theta... -> df/dy), options. Inputs:
 * lo or where to start, theta, hi where bracketed. Outputs: y, the record. */
enum { O_ITERATIONS, O_RTOL, O_FLAGS, N_OPTIONS };
enum { BRACKETED = 1, UNCHECKED = 2 };
#define F(attrs) ((pl_body *)(attrs)[0].object)
#define BOTH(attrs) ((pl_body *)(attrs)[1].object)
#define DIAGONAL(attrs) ((pl_body *)(attrs)[2].object)
#define OPTION(attrs, k) ((attrs)[3].list[k])
#define HAS(attrs, flag) ((OPTION(attrs, O_FLAGS) & (flag)) != 0)

static bool like_f(const pl_body *f, const pl_body *b, int n_out) {
  if (b->n_in != f->n_in || b->n_out != n_out || f->n_in < 1) return false;
  for (int i = 0; i < f->n_in; i++)
    if (!pl_spec_equal(&b->specs[i], &f->specs[i])) return false;
  for (int k = 0; k < n_out; k++)
    if (!pl_spec_equal(&b->specs[b->outputs[k]], &f->specs[0])) return false;
  return f->specs[0].dtype == PL_F64;
}

static bool root_shape(const pl_call *call, pl_spec *out) {
  const pl_attr *attrs = call->attrs;
  if (!are_programs(attrs, 3) || attrs[3].type != PL_ATTR_INTS || attrs[3].n != N_OPTIONS ||
      OPTION(attrs, O_ITERATIONS) < 0 || OPTION(attrs, O_ITERATIONS) > INT32_MAX / 2 ||
      !like_f(F(attrs), F(attrs), 1) || !like_f(F(attrs), BOTH(attrs), 2) || !like_f(F(attrs), DIAGONAL(attrs), 1))
    return pl_misfit(call->c, call->op);
  const pl_body *f = F(attrs);
  bool bracketed = HAS(attrs, BRACKETED);
  if (pl_count_error(call, f->n_in + bracketed) || !pl_check_inputs(call, f, 0, 0, f->n_in) ||
      (bracketed && !pl_check_inputs(call, f, f->n_in, 0, 1)))
    return false;
  out[0] = f->specs[0];
  out[1] = pl_record_spec(0);
  return true;
}

typedef struct {
  double *y, *f, *d;           /* the last point, with its values */
  double *lo, *hi, *f_old;     /* the bracket, f(lo) < 0 < f(hi), or NaN; |f| at the point before */
  double *last, *last_but_one; /* steps */
  uint8_t *done;
  double rtol;
  int64_t iteration, *left, *moves; /* of each block: what is not found, and how often it moved */
} advance_args;

typedef struct {
  enum { START, AT_HI, MOVED } phase;
  pl_frame *both;
  double *memory;
  advance_args a;
  pl_progress p;
} root;

enum { BLOCK = 4096 };

/* One step of element i; true when it is found. */
static bool move(const advance_args *a, int64_t i) {
  double y = a->y[i], f = a->f[i], d = a->d[i], lo = a->lo[i], hi = a->hi[i];
  if (f == 0) return true;
  bool bracketed = !isnan(lo) && !isnan(hi);
  if (!bracketed && a->iteration > 0 && !(fabs(f) < a->f_old[i])) { /* back, unless the sign has changed */
    double end = !isnan(lo) ? lo : hi;
    if (isfinite(f) && (f < 0) == isnan(lo)) bracketed = true;
    else {
      a->y[i] = 0.5 * (y + end);
      return false;
    }
  }
  if (isnan(f)) { /* inside a bracket: towards its middle from the other side */
    a->y[i] = 0.5 * (y + (fabs(y - lo) > fabs(y - hi) ? lo : hi));
    return false;
  }
  if (f < 0) a->lo[i] = lo = y;
  else a->hi[i] = hi = y;
  if (!bracketed) bracketed = !isnan(lo) && !isnan(hi);
  double step = f / d, next = y - step, size = fabs(step), last = a->last[i];
  bool near = size <= 1e-7 * fabs(y);
  if (near && size >= last && a->iteration > 1) return true; /* no more digits */
  bool found = size <= a->rtol * fabs(y);
  if (bracketed && !found && (!((next - lo) * (next - hi) < 0) || (!near && size > 0.5 * a->last_but_one[i]))) {
    next = lo + 0.5 * (hi - lo);
    if (!((next - lo) * (next - hi) < 0)) return true; /* neighbours */
  }
  a->last_but_one[i] = last;
  a->last[i] = fabs(next - y);
  a->f_old[i] = fabs(f);
  a->y[i] = next;
  return found;
}

static void advance(const void *args, int64_t first, int64_t last) {
  const advance_args *a = args;
  for (int64_t b = first; b < last; b++) {
    if (a->moves[b] > a->iteration) continue; /* before an interrupt */
    int64_t n = a->left[-1], end = (b + 1) * BLOCK < n ? (b + 1) * BLOCK : n, left = 0;
    for (int64_t i = b * BLOCK; i < end; i++)
      if (!a->done[i]) left += !(a->done[i] = move(a, i));
    a->left[b] = left;
    a->moves[b]++;
  }
}

static pl_next evaluate(pl_activation *a, root *s, int phase) {
  s->phase = phase;
  s->p.evaluations++;
  pl_frame_input_at(s->both, 0, s->a.y);
  pl_frame_output(s->both, 0, s->a.f);
  pl_frame_output(s->both, 1, s->a.d);
  pl_frame_start(s->both);
  a->child = s->both;
  return PL_NEXT_CALL;
}

static pl_next prepare(pl_context *c, pl_activation *a, root *s) {
  int64_t n = a->in[0]->count, each = (n + 15) & ~(int64_t)7, blocks = (n + BLOCK - 1) / BLOCK;
  s->p = (pl_progress){.n = n, .unchecked = HAS(a->attrs, UNCHECKED), .name = "root"};
  size_t bytes = (size_t)(9 * each + 2 * blocks + 8) * sizeof *s->memory;
  if (!(s->memory = pl_memory_new(c, bytes))) return PL_NEXT_FAIL;
  double **parts[] = {&s->a.y, &s->a.f, &s->a.d, &s->a.lo, &s->a.hi, &s->a.f_old, &s->a.last, &s->a.last_but_one};
  for (int k = 0; k < 8; k++) *parts[k] = s->memory + k * each;
  s->a.done = (uint8_t *)(s->memory + 8 * each);
  memset(s->a.done, 0, (size_t)n);
  s->a.left = (int64_t *)(s->memory + 9 * each) + 1;
  s->a.left[-1] = n;
  s->a.moves = s->a.left + blocks;
  memset(s->a.moves, 0, (size_t)blocks * sizeof *s->a.moves);
  s->a.rtol = 0;
  memcpy(&s->a.rtol, &OPTION(a->attrs, O_RTOL), sizeof s->a.rtol);
  memcpy(s->a.y, a->in[0]->data, (size_t)n * sizeof *s->a.y);
  for (int64_t i = 0; i < n; i++) {
    s->a.lo[i] = s->a.hi[i] = NAN;
    s->a.last[i] = s->a.last_but_one[i] = INFINITY;
  }
  if (!(s->both = pl_frame_new(c, BOTH(a->attrs)))) return PL_NEXT_FAIL;
  for (int i = 1; i < F(a->attrs)->n_in; i++) pl_frame_input(s->both, i, a->in[i]);
  return evaluate(a, s, HAS(a->attrs, BRACKETED) ? AT_HI : MOVED);
}

static pl_next unfit(pl_context *c, int64_t i, const char *what, double x, double f, double y, double g) {
  pl_error(c, PL_ERROR_NUMERIC,
           "root: %s in equation %lld: f(%.6g) = %.6g, f(%.6g) = %.6g; give a bracket {lo, hi} at whose ends f has "
           "different signs",
           what, (long long)i + 1, x, f, y, g);
  return PL_NEXT_FAIL;
}

/* f at lo stands in s->a.f, f at hi is due; then the brackets are turned so that f(lo) < 0. */
static pl_next at_hi(pl_context *c, pl_activation *a, root *s) {
  const double *lo = a->in[0]->data, *hi = a->in[a->n_in - 1]->data;
  int64_t n = s->p.n;
  if (s->p.evaluations == 1) {
    memcpy(s->a.f_old, s->a.f, (size_t)n * sizeof *s->a.f);
    memcpy(s->a.y, hi, (size_t)n * sizeof *hi);
    return evaluate(a, s, AT_HI);
  }
  for (int64_t i = 0; i < n; i++) {
    double f = s->a.f_old[i], g = s->a.f[i];
    if (f == 0 || g == 0) {
      s->a.lo[i] = s->a.hi[i] = s->a.y[i] = f == 0 ? lo[i] : hi[i];
      s->a.done[i] = 1;
      continue;
    }
    if (!(f * g < 0) && !((f < 0) != (g < 0) && !isnan(f) && !isnan(g))) {
      if (!s->p.unchecked) return unfit(c, i, "no change of sign", lo[i], f, hi[i], g);
      s->a.y[i] = NAN;
      s->a.done[i] = 2;
      continue;
    }
    s->a.lo[i] = f < 0 ? lo[i] : hi[i];
    s->a.hi[i] = f < 0 ? hi[i] : lo[i];
    s->a.y[i] = lo[i] + (hi[i] - lo[i]) * 0.5;
    s->a.last[i] = s->a.last_but_one[i] = fabs(hi[i] - lo[i]);
  }
  return evaluate(a, s, MOVED);
}

static pl_next moved(pl_context *c, pl_activation *a, root *s) {
  int64_t n = s->p.n, blocks = (n + BLOCK - 1) / BLOCK, left = 0, failed = -1;
  pl_for(c, advance, &s->a, blocks, 1, BLOCK * 10.0);
  if (pl_interrupted(c)) return PL_NEXT_FAIL;
  for (int64_t b = 0; b < blocks; b++) left += s->a.left[b];
  s->a.iteration++;
  s->p.iteration++;
  if (left && s->p.iteration < OPTION(a->attrs, O_ITERATIONS)) return evaluate(a, s, MOVED);
  for (int64_t i = 0; i < n; i++) {
    s->p.norm = fmax(s->p.norm, fabs(s->a.f[i]));
    if (failed < 0 && s->a.done[i] != 1) failed = i;
  }
  if (failed >= 0 && !s->p.unchecked) {
    pl_error(c, PL_ERROR_NUMERIC,
             "root: after %lld iterations %lld of %lld equations are not solved; equation %lld is at y = %.6g with f = "
             "%.6g; give a bracket {lo, hi} at whose ends f has different signs, or allow more iterations",
             (long long)s->p.iteration, (long long)left, (long long)n, (long long)failed + 1, s->a.y[failed],
             s->a.f[failed]);
    return PL_NEXT_FAIL;
  }
  ((double *)a->out[1]->data)[R_HISTORY] = s->p.norm;
  s->p.jacobians = s->p.evaluations;
  return pl_progress_end(a, &s->p, s->a.y, failed < 0 ? PL_CONVERGED : PL_TOO_MANY_ITERATIONS);
}

static pl_next root_step(pl_context *c, pl_activation *a) {
  root *s = a->state;
  switch (s->phase) {
    case START: return prepare(c, a, s);
    case AT_HI: return at_hi(c, a, s);
    default: return moved(c, a, s);
  }
}
static void root_stop(pl_context *c, pl_activation *a) {
  root *s = a->state;
  pl_frame_free(c, s->both);
  pl_memory_free(c, s->memory);
  a->child = NULL;
}

static pl_implicit rule(const pl_attr *attrs) {
  return (pl_implicit){.residual = F(attrs),
                       .kind = PL_JACOBIAN_DIAGONAL,
                       .jacobian = DIAGONAL(attrs),
                       .unproved = HAS(attrs, UNCHECKED),
                       .name = "root"};
}
static void root_vjp(pl_vjp *v) {
  pl_implicit i = rule(v->attrs);
  pl_implicit_vjp(v, &i);
}
static void root_jvp(pl_jvp *j) {
  pl_implicit i = rule(j->attrs);
  pl_implicit_jvp(j, &i);
}

/* ---- making the call ---- */

/* Elementwise in y? Where ops alone do not say it, the pattern does. */
static bool separate(pl_context *c, const pl_body *f, const pl_value *inputs) {
  uint8_t *moves = pl_memory_new(c, (size_t)f->n_values + 1);
  if (!moves) return false;
  memset(moves, 0, (size_t)f->n_values + 1);
  moves[0] = 1;
  bool plain = true;
  for (int64_t k = 0; k < f->code.n && plain; k++) {
    const pl_instruction *q = &f->code.instructions[k];
    const uint32_t *o = f->code.operands + q->operands;
    bool active = false;
    for (int i = 0; i < q->n_in; i++) active = active || moves[o[i]];
    for (int i = q->n_in; active && i < q->n_in + q->n_out; i++) {
      moves[o[i]] = 1;
      const pl_spec *x = &f->specs[o[i]], *y = &f->specs[0];
      plain = plain && q->op->kind == PL_ELEMENTWISE && x->rank == y->rank &&
              !memcmp(x->shape, y->shape, sizeof *x->shape * (size_t)x->rank);
    }
  }
  pl_memory_free(c, moves);
  if (plain) return true;
  pl_pattern *p = pl_body_jacobian_pattern(c, f, inputs, 0, 0);
  int32_t row = -1, column = -1;
  for (int32_t i = 0; p && i < p->rows && row < 0; i++)
    for (int32_t e = p->row_ptr[i]; e < p->row_ptr[i + 1]; e++)
      if (p->col[e] != i) row = i, column = p->col[e];
  if (row >= 0)
    pl_error(c, PL_ERROR_ARGUMENT,
             "root: its equations are independent of each other, but equation %d depends on unknown %d; newton solves "
             "systems",
             row + 1, column + 1);
  bool ok = p && row < 0;
  pl_object_release((pl_object *)p);
  return ok;
}

static bool attributes(pl_context *c, pl_body *f, const pl_root_options *o, const pl_value *inputs, int64_t *list,
                       pl_attr *attrs) {
  if (!separate(c, f, inputs)) return false;
  pl_body *diagonal = pl_implicit_diagonal(c, f, "root"), *both = diagonal ? pl_implicit_both(c, f, diagonal) : NULL;
  if (!both) return false;
  memcpy(list, (int64_t[]){o->iterations, 0, (o->bracketed ? BRACKETED : 0) | (o->unchecked ? UNCHECKED : 0)},
         N_OPTIONS * sizeof *list);
  memcpy(&list[O_RTOL], &o->rtol, sizeof o->rtol);
  pl_attr all[] = {PL_OBJECT(&f->base), PL_OBJECT(&both->base), PL_OBJECT(&diagonal->base), PL_INTS(N_OPTIONS, list)};
  memcpy(attrs, all, sizeof all);
  return true;
}

pl_root_options pl_root_defaults(void) { return (pl_root_options){.iterations = 100, .rtol = 4 * DBL_EPSILON}; }

bool pl_root(pl_context *c, pl_body *f, const pl_root_options *options, int n, const pl_value *inputs,
             pl_value *outputs) {
  pl_root_options o = options ? *options : pl_root_defaults();
  if (c->status) return false;
  if (f->n_in < 1 || n != f->n_in + o.bracketed || f->n_out != 1 || f->specs[0].dtype != PL_F64 ||
      !pl_spec_equal(&f->specs[0], &f->specs[f->outputs[0]])) {
    char x[PL_TEXT] = "?", y[PL_TEXT] = "?";
    if (f->n_in > 0) pl_shape_text(x, f->specs[0].rank, f->specs[0].shape);
    if (f->n_out > 0) pl_shape_text(y, f->specs[f->outputs[0]].rank, f->specs[f->outputs[0]].shape);
    pl_error(c, PL_ERROR_SHAPE,
             "root: the unknown has shape %s, the function %s; they are f64 numbers, one equation each", x, y);
    return false;
  }
  int64_t list[N_OPTIONS];
  pl_attr attrs[4];
  return attributes(c, f, &o, inputs, list, attrs) && pl_apply(c, PL_OP(root), n, inputs, attrs, outputs);
}

/* y^3 + y - x */
static int sample_cubic(pl_context *c, const pl_value *x, pl_value *out) {
  pl_value cube = PL_BINARY(mul, c, x[0], PL_UNARY(square, c, x[0]));
  out[0] = PL_BINARY(sub, c, PL_BINARY(add, c, cube, x[0]), x[1]);
  return 1;
}
PL_SAMPLE(root) {
  if (k > 2) return false;
  pl_body *f = pl_sample_body(c, 2, (pl_spec[]){three, three}, sample_cubic);
  pl_root_options o = pl_root_defaults();
  o.bracketed = k != 1;
  o.unchecked = k == 2;
  s->n = o.bracketed ? 3 : 2;
  s->object = (pl_object *)f;
  s->in[0] = pl_sample_tensor(c, r, -3, -2, 1, 3);
  s->in[1] = pl_sample_tensor(c, r, -1, 1, 1, 3);
  if (o.bracketed) s->in[2] = pl_sample_tensor(c, r, 2, 3, 1, 3);
  return f && attributes(c, f, &o, s->in, s->lists[0], s->attrs);
}

pl_op pl_ops_root[] = {
    {.name = "root",
     .formula = "y with f(y, theta) = 0, element by element",
     .attrs = {{"f", PL_AS_OBJECT, true, 0},
               {"both", PL_AS_OBJECT, true, 0},
               {"diagonal", PL_AS_OBJECT, true, 0},
               {"options", PL_AS_INTS, true, 0}},
     PL_IMPLICIT_ROW(root)},
    {0},
};
