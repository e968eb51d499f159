/* Programs when something goes wrong in the middle: every allocation fails in turn, and every question whether to stop
 * is answered with yes. Nothing leaks, the next try works, and what was interrupted goes on to the same bits. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "execute.h"
#include "helpers.h"
#include "solve/krylov.h"

/* Half of 2a: a product that is computed when the program is made ready. */
static pl_value times(pl_context *c, double a, pl_value x) {
  return two(c, "mul", x, two(c, "mul", pl_constant(c, PL_F64, 2 * a), pl_constant(c, PL_F64, 0.5)));
}
static pl_value number(pl_context *c, double a, pl_value x) { return two(c, "add", x, pl_number(c, PL_F64, a)); }

/* ---- programs of functions, with what they capture ---- */

enum { MOST = 16 };
typedef int (*function)(pl_context *c, const pl_value *in, pl_value *out);
typedef struct {
  pl_body *body;
  pl_value in[MOST]; /* the models, then what was captured */
  int n, given;
} closure;
static pl_value outside; /* that the functions capture */

static closure trace(pl_context *c, function f, int n, const pl_value *models, int whole) {
  closure k = {.n = n, .given = n};
  pl_value in[MOST], out[MOST];
  memcpy(k.in, models, (size_t)n * sizeof *models);
  pl_trace *t = pl_trace_like(c, n, models, whole, in);
  if (!t) return k;
  int n_out = f(c, in, out);
  k.body = pl_trace_end(c, t, n_out, out);
  int m = k.body ? pl_trace_captures(c, t, k.in + n) : 0;
  for (int i = 0; i < m; i++) pl_retain(c, k.in[n + i]);
  k.n += m;
  pl_trace_free(c, t);
  return k;
}
static void drop(pl_context *c, closure *k) {
  for (int i = k->given; i < k->n; i++) pl_release(c, k->in[i]);
  pl_body_release(k->body);
}
static bool run(pl_context *c, const char *op, const closure *k, const pl_attr *more, pl_value *out) {
  pl_attr attrs[4] = {PL_OBJECT((pl_object *)k->body)};
  if (!k->body) return false;
  if (more) memcpy(attrs + 1, more, 2 * sizeof *more);
  else attrs[1] = (pl_attr)PL_INT(0);
  return pl_apply(c, pl_op_find(op), k->n, k->in, attrs, out);
}
static pl_value scanned(pl_context *c, function f, pl_value state, pl_value xs, int64_t length, int64_t checkpoints) {
  pl_value models[] = {state, xs}, out[MOST];
  closure k = trace(c, f, 2, models, 1);
  int n_out = k.body ? k.body->n_out : 0;
  int64_t layout[] = {1, 1, n_out - 1, length, 0, 0};
  bool ok = run(c, "scan", &k, (pl_attr[]){PL_INTS(6, layout), PL_INTS(checkpoints ? 1 : 0, &checkpoints)}, out);
  drop(c, &k);
  if (!ok) return PL_NONE;
  pl_value y = total(c, out[0]);
  for (int i = 1; i < n_out; i++) y = two(c, "add", y, total(c, one(c, "sin", out[i])));
  return y;
}

static int inner(pl_context *c, const pl_value *in, pl_value *out) {
  out[0] = one(c, "tanh", two(c, "mul", in[0], in[1]));
  return 1;
}
static int step(pl_context *c, const pl_value *in, pl_value *out) { /* state, x -> state, x's, state's */
  pl_value called = PL_NONE;
  closure k = trace(c, inner, 2, (pl_value[]){in[0], outside}, 2);
  run(c, "call", &k, NULL, &called);
  drop(c, &k);
  out[0] = two(c, "add", times(c, 0.6, called), number(c, 0.1, in[1]));
  out[1] = two(c, "mul", one(c, "exp", times(c, 0.1, in[0])), in[1]);
  out[2] = one(c, "square", out[0]);
  return 3;
}
static int scan(pl_context *c, const pl_value *in, pl_value *out) {
  out[0] = scanned(c, step, in[0], in[1], 6, 0);
  return 1;
}
static int checkpointed(pl_context *c, const pl_value *in, pl_value *out) {
  out[0] = scanned(c, step, in[0], in[1], 6, 2);
  return 1;
}

static int below(pl_context *c, const pl_value *in, pl_value *out) {
  out[0] = two(c, "lt", total(c, in[0]), pl_constant(c, PL_F64, 60));
  return 1;
}
static int grow(pl_context *c, const pl_value *in, pl_value *out) {
  out[0] = two(c, "add", times(c, 1.5, in[0]), two(c, "mul", one(c, "sin", in[0]), outside));
  return 1;
}
static pl_value looped(pl_context *c, pl_value x) {
  closure k = trace(c, below, 1, &x, 1), s = trace(c, grow, 1, &x, 1);
  pl_value out[2] = {PL_NONE}, in[MOST];
  int n = 0, m = k.n - 1;
  for (int i = 0; i < k.n; i++) in[n++] = k.in[i];
  for (int i = 1; i < s.n; i++) in[n++] = s.in[i];
  int64_t layout[] = {1, m, 100, 0};
  if (k.body && s.body)
    pl_apply(c, pl_op_find("while"), n, in,
             (pl_attr[]){PL_OBJECT(&k.body->base), PL_OBJECT(&s.body->base), PL_INTS(4, layout)}, out);
  drop(c, &k);
  drop(c, &s);
  return out[0];
}
static int loop(pl_context *c, const pl_value *in, pl_value *out) {
  out[0] = total(c, one(c, "sin", looped(c, two(c, "add", one(c, "square", in[0]), pl_constant(c, PL_F64, 1)))));
  return 1;
}

static int branch(pl_context *c, const pl_value *in, pl_value *out) {
  pl_value yes = two(c, "gt", total(c, in[0]), pl_constant(c, PL_F64, 1));
  closure k = trace(c, grow, 1, in, 1), s = trace(c, inner, 2, in, 2);
  pl_value all[MOST] = {yes}, y = PL_NONE;
  int n = 1;
  for (int i = 0; i < k.n; i++) all[n++] = k.in[i];
  for (int i = 0; i < s.n; i++) all[n++] = s.in[i];
  if (k.body && s.body)
    pl_apply(c, pl_op_find("cond"), n, all, (pl_attr[]){PL_OBJECT(&k.body->base), PL_OBJECT(&s.body->base)}, &y);
  drop(c, &k);
  drop(c, &s);
  out[0] = y;
  return 1;
}
static int choice(pl_context *c, const pl_value *in, pl_value *out) {
  branch(c, in, out);
  out[0] = total(c, out[0]);
  return 1;
}
static int deep_step(pl_context *c, const pl_value *in, pl_value *out) { /* a while and a cond inside a scan */
  pl_value grown = looped(c, two(c, "add", one(c, "square", in[0]), pl_constant(c, PL_F64, 1))), chosen;
  branch(c, (pl_value[]){in[0], in[1]}, &chosen);
  out[0] = two(c, "add", times(c, 0.01, one(c, "tanh", grown)), one(c, "tanh", chosen));
  return 1;
}
static int nested(pl_context *c, const pl_value *in, pl_value *out) {
  out[0] = scanned(c, deep_step, in[0], in[1], 3, 0);
  return 1;
}
static int nested_checkpointed(pl_context *c, const pl_value *in, pl_value *out) {
  out[0] = scanned(c, deep_step, in[0], in[1], 5, 2);
  return 1;
}

static int residual(pl_context *c, const pl_value *in,
                    pl_value *out) { /* u + tanh(u)/2 + the neighbours' squares - theta */
  pl_value left = slice(c, in[0], 0, 1, 5), zero = pl_tensor(c, PL_F64, 1, (int64_t[]){1}, NULL);
  pl_value shifted = pl_apply1(c, pl_op_find("concat"), 2, (pl_value[]){zero, left}, &PL_INT(0));
  pl_value f = two(c, "add", in[0], times(c, 0.5, one(c, "tanh", in[0])));
  out[0] = two(c, "sub", two(c, "add", f, times(c, 0.1, one(c, "square", shifted))), in[1]);
  return 1;
}
static int cubic(pl_context *c, const pl_value *in, pl_value *out) { /* u^3 + u - theta */
  pl_value cube = two(c, "mul", in[0], one(c, "square", in[0]));
  out[0] = two(c, "sub", two(c, "add", cube, in[0]), in[1]);
  return 1;
}
static int halved(pl_context *c, const pl_value *in, pl_value *out) { /* sin(u)/2 + theta */
  out[0] = two(c, "add", times(c, 0.5, one(c, "sin", in[0])), in[1]);
  return 1;
}
static int hanging(pl_context *c, const pl_value *in, pl_value *out) { /* sum of cosh(u) - u theta */
  out[0] = total(c, two(c, "sub", one(c, "cosh", in[0]), two(c, "mul", in[0], in[1])));
  return 1;
}
typedef bool (*solver)(pl_context *c, pl_body *f, int n, const pl_value *in, pl_value *out);
static bool by_newton(pl_context *c, pl_body *f, int n, const pl_value *in, pl_value *out) {
  return pl_newton(c, f, NULL, n, in, out);
}
static bool by_krylov(pl_context *c, pl_body *f, int n, const pl_value *in, pl_value *out) {
  pl_newton_options o = pl_newton_defaults();
  o.krylov = o.unchecked = true;
  return pl_newton(c, f, &o, n, in, out);
}
static bool by_transient(pl_context *c, pl_body *f, int n, const pl_value *in, pl_value *out) {
  pl_newton_options o = pl_newton_defaults();
  o.search = PL_SEARCH_TRANSIENT;
  return pl_newton(c, f, &o, n, in, out);
}
static bool by_root(pl_context *c, pl_body *f, int n, const pl_value *in, pl_value *out) {
  return pl_root(c, f, NULL, n, in, out);
}
static bool by_iteration(pl_context *c, pl_body *f, int n, const pl_value *in, pl_value *out) {
  return pl_fixed_point(c, f, NULL, n, in, out);
}
static bool by_descent(pl_context *c, pl_body *f, int n, const pl_value *in, pl_value *out) {
  return pl_argmin(c, f, NULL, n, in, out);
}
static int solved(pl_context *c, const pl_value *in, pl_value *out, function f, solver by) {
  pl_value models[] = {in[0], in[0]}, u[PL_NEWTON_OUTPUTS] = {PL_NONE, PL_NONE};
  closure k = trace(c, f, 2, models, 2);
  if (k.body) {
    pl_value args[MOST];
    memcpy(args, k.in, sizeof args);
    args[1] = one(c, "square", in[0]);
    by(c, k.body, k.n, args, u);
  }
  drop(c, &k);
  out[0] = total(c, two(c, "mul", u[0], in[0]));
  return 1;
}
static int newton(pl_context *c, const pl_value *in, pl_value *out) { return solved(c, in, out, residual, by_newton); }
static int newton_krylov(pl_context *c, const pl_value *in, pl_value *out) {
  return solved(c, in, out, residual, by_krylov);
}
static int transient(pl_context *c, const pl_value *in, pl_value *out) {
  return solved(c, in, out, residual, by_transient);
}
static int root(pl_context *c, const pl_value *in, pl_value *out) { return solved(c, in, out, cubic, by_root); }
static int fixed_point(pl_context *c, const pl_value *in, pl_value *out) {
  return solved(c, in, out, halved, by_iteration);
}
static int argmin(pl_context *c, const pl_value *in, pl_value *out) { return solved(c, in, out, hanging, by_descent); }

static int product(pl_context *c, const pl_value *in, pl_value *out) { /* 4 x + theta (theta' x) */
  pl_value inside = total(c, two(c, "mul", in[0], in[1]));
  out[0] = two(c, "add", times(c, 4, in[0]), two(c, "mul", in[1], inside));
  return 1;
}
static int quarter(pl_context *c, const pl_value *in, pl_value *out) {
  out[0] = two(c, "mul", times(c, 0.2, in[0]), outside);
  return 1;
}
static int krylov(pl_context *c, const pl_value *in, pl_value *out) {
  closure k = trace(c, product, 2, (pl_value[]){in[0], in[0]}, 2), m = trace(c, quarter, 1, in, 1);
  pl_value x[5] = {PL_NONE}, sum = PL_NONE;
  for (int method = 0; k.body && m.body && method < PL_KRYLOV_METHODS; method++) {
    pl_value theta = one(c, "square", in[0]);
    pl_krylov_system s = {.apply = k.body, .n_theta = 1, .theta = &theta};
    if (method >= PL_GMRES) s.precondition = m.body, s.n_phi = m.n - 1, s.phi = m.in + 1;
    pl_krylov_options o = pl_krylov_defaults();
    o.method = (pl_krylov_method)method;
    o.rtol = 1e-13;
    if (!pl_krylov(c, &s, in[0], PL_NONE, &o, x)) break;
    sum = sum == PL_NONE ? x[0] : two(c, "add", sum, x[0]);
  }
  drop(c, &k);
  drop(c, &m);
  out[0] = total(c, two(c, "mul", sum, in[0]));
  return 1;
}
/* Each preconditioner, made and used both ways; two levels of multigrid, and a matrix that is not symmetric. */
static int preconditioners(pl_context *c, const pl_value *in, pl_value *out) {
  enum { N = 500 };
  int64_t n = N, three = 3 * N;
  static int64_t i[3 * N], j[3 * N];
  static double v[3 * N];
  for (int k = 0; k < 3 * N; k++) {
    int64_t row = k / 3, column = row + k % 3 - 1;
    i[k] = row + 1;
    j[k] = column < 0 ? 2 : column >= n ? n - 1 : column + 1;
    v[k] = k % 3 == 1 ? 3 : k % 3 - 1.4;
  }
  pl_value at[] = {pl_tensor(c, PL_I64, 1, &three, i), pl_tensor(c, PL_I64, 1, &three, j)};
  pl_value values = pl_tensor(c, PL_F64, 1, &three, v), sum = in[0];
  pl_sparse a = pl_sparse_triplets(c, at[0], at[1], values, n, n);
  for (int kind = 0; a.pattern && kind < PL_PRECONDITION_HYPRE; kind++) {
    pl_value m = pl_sparse_preconditioner(c, a, (pl_preconditioner_kind)kind, NULL, PL_NONE);
    for (int t = 0; t < 2; t++) sum = two(c, "add", sum, pl_precondition(c, m, in[0], t));
  }
  if (a.pattern) pl_sparse_release(c, a);
  out[0] = total(c, two(c, "mul", sum, in[0]));
  return 1;
}

/* Groups of many blocks, slices that are put into and added to, sums by index. */
static int wide(pl_context *c, const pl_value *in, pl_value *out) {
  pl_value x = in[0], y = one(c, "sin", x);
  for (int i = 0; i < 4; i++) {
    int64_t start = i, step_ = 2, count = 12000;
    pl_attr where[] = {PL_INTS(1, &start), PL_INTS(1, &step_), PL_INTS(1, &count)};
    pl_value part = slice(c, y, 3 * i, 1, count);
    y = two(c, "add", two(c, "mul", y, x), times(c, 0.3, one(c, "cos", y)));
    y = pl_apply1(c, pl_op_find(i % 2 ? "slice_add" : "slice_set"), 2, (pl_value[]){y, part}, where);
  }
  pl_value index = pl_apply1(
      c, pl_op_find("cast"), 1,
      (pl_value[]){number(c, 1.5, two(c, "mul", one(c, "square", y), pl_constant(c, PL_F64, 0)))}, &PL_INT(PL_I64));
  y = pl_apply1(c, pl_op_find("add_at"), 3, (pl_value[]){y, index, times(c, 0.5, y)}, &PL_INT(0));
  out[0] = two(c, "add", total(c, y), times(c, 1e-3, total(c, one(c, "square", y))));
  return 1;
}

/* ---- what is tried ---- */

typedef struct {
  const char *name;
  function f;
  int64_t n, rows; /* x {n}, xs {rows, n} or {n} */
} scenario;
static const scenario scenarios[] = {
    {"scan", scan, 6, 6},
    {"checkpoints", checkpointed, 6, 6},
    {"while", loop, 6, 0},
    {"cond", choice, 6, 0},
    {"nested", nested, 6, 3},
    {"nested, again", nested_checkpointed, 6, 5},
    {"newton", newton, 6, 0},
    {"newton_krylov", newton_krylov, 6, 0},
    {"transient", transient, 6, 0},
    {"root", root, 6, 0},
    {"fixed_point", fixed_point, 6, 0},
    {"argmin", argmin, 6, 0},
    {"wide", wide, 26000, 0},
    {"krylov", krylov, 6, 0},
    {"preconditioners", preconditioners, 500, 0},
};
enum { SCENARIOS = sizeof scenarios / sizeof *scenarios, RESULTS = 3 };

typedef struct {
  pl_value x[3]; /* the two arguments, and what is captured */
} arguments;

static arguments arguments_of(pl_context *c, const scenario *s) {
  arguments a = {{ramp(c, s->n, 0.2, 0.8 / (double)s->n), PL_NONE, PL_NONE}};
  pl_value flat = ramp(c, s->n * (s->rows ? s->rows : 1), 0.9, 0.4 / (double)s->n);
  a.x[1] = s->rows ? pl_apply1(c, pl_op_find("reshape"), 1, &flat, &PL_INTS(2, ((int64_t[]){s->rows, s->n}))) : flat;
  if (s->rows) pl_release(c, flat);
  a.x[2] = ramp(c, s->n, 1.1, -0.3 / (double)s->n);
  outside = a.x[2];
  return a;
}
static void arguments_free(pl_context *c, arguments *a) {
  for (int i = 0; i < 3; i++) pl_release(c, a->x[i]);
}

/* The function's program with its gradient, or its tangents, in both arguments and what it captures; its inputs. */
static closure program_of(pl_context *c, const scenario *s, const arguments *a, bool tangents) {
  closure k = trace(c, s->f, 2, a->x, 2);
  if (!k.body) return k;
  uint8_t need[MOST] = {1, 1}, reached[MOST];
  int n = k.n;
  for (int i = 2; i < n; i++) need[i] = k.in[i] == a->x[2];
  pl_body *with = tangents ? pl_body_with_tangents(c, k.body, need) : pl_body_with_gradient(c, k.body, need, reached);
  for (int i = 0; i < n && tangents; i++)
    if (need[i]) {
      pl_retain(c, k.in[i]);
      k.in[k.n++] = k.in[i];
    }
  pl_body_release(k.body);
  k.body = with;
  return k;
}

static double *copied(pl_context *c, int n, const pl_value *v, size_t *count) {
  size_t total_ = 0;
  for (int i = 0; i < n; i++) total_ += (size_t)pl_slot_find(c, v[i])->count;
  double *data = malloc((total_ + 1) * sizeof *data);
  *count = 0;
  for (int i = 0; i < n; i++) {
    const pl_slot *s = pl_slot_find(c, v[i]);
    memcpy(data + *count, s->data, (size_t)s->count * sizeof *data);
    *count += (size_t)s->count;
  }
  return data;
}
static void release_all(pl_context *c, int n, const pl_value *v) {
  for (int i = 0; i < n; i++) pl_release(c, v[i]);
}

enum { GRADIENT, TANGENTS, RECORDED, MODES }; /* of a program, run; of the function, in a recording */

/* Everything from the trace to the results; NULL, and the error set. */
static double *attempt(pl_context *c, const scenario *s, arguments *a, int mode, size_t *count) {
  double *data = NULL;
  pl_value out[MOST];
  outside = a->x[2];
  if (mode == RECORDED) {
    pl_value in[3], y[1] = {PL_NONE}, g[3];
    pl_region *r = pl_region_open(c, 3, a->x, NULL, in);
    if (!r) return NULL;
    outside = in[2];
    s->f(c, in, y);
    pl_region_close(r);
    if (pl_region_vjp(r, 1, y, NULL, g, NULL, true)) {
      data = copied(c, 3, g, count);
      release_all(c, 3, g);
    }
    pl_region_free(r);
    return data;
  }
  closure k = program_of(c, s, a, mode == TANGENTS);
  if (run(c, "call", &k, NULL, out)) {
    data = copied(c, k.body->n_out, out, count);
    release_all(c, k.body->n_out, out);
  }
  drop(c, &k);
  return data;
}

static void same(const scenario *s, int at, const double *a, const double *b, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (memcmp(&a[i], &b[i], 8))
      fail_msg("%s, stopped at %d: result %d is %.17g instead of %.17g", s->name, at, (int)i, b[i], a[i]);
}

static void nothing_left(pl_context *c, const scenario *s, int mode, int at, int64_t live, size_t used) {
  assert_false(pl_recording(c) || pl_tracing(c) || c->running);
  assert_true(pl_owns(c));
  if (pl_live_values(c) > live || pl_bytes_used(c) > used)
    fail_msg("%s (%d), stopped at %d: %lld values and %lld bytes are left", s->name, mode, at,
             (long long)(pl_live_values(c) - live), (long long)(pl_bytes_used(c) - used));
}

static void failing_allocations(void **state) {
  (void)state;
  for (int k = 0; k < SCENARIOS; k++)
    for (int mode = 0; mode < MODES; mode++) {
      const scenario *s = &scenarios[k];
      pl_context *c = pl_context_new();
      arguments a = arguments_of(c, s);
      size_t n, m;
      double *want = attempt(c, s, &a, mode, &n), *got = NULL;
      if (!want) fail_msg("%s (%d): %s", s->name, mode, pl_error_message(c));
      free(attempt(c, s, &a, mode, &n)); /* what is kept is kept by now */
      int64_t live = pl_live_values(c);
      size_t used = pl_bytes_used(c);
      int tries = 0;
      for (int at = 0; !got; at += 1 + at / 400) {
        c->fail_after = at;
        got = attempt(c, s, &a, mode, &m);
        c->fail_after = -1;
        if (!got) assert_error(c, PL_ERROR_MEMORY, "memory");
        nothing_left(c, s, mode, at, live, used);
        if (++tries % 50 || got) continue;
        double *again = attempt(c, s, &a, mode, &m);
        if (!again) fail_msg("%s (%d), after %d: %s", s->name, mode, at, pl_error_message(c));
        same(s, at, want, again, n);
        free(again);
      }
      same(s, -1, want, got, n);
      free(want);
      free(got);
      arguments_free(c, &a);
      pl_context_free(c);
    }
}

/* Each question whether to stop is answered with yes once; then, in one run, every few. */
static void interrupts(void **state) {
  (void)state;
  for (int k = 0; k < SCENARIOS; k++)
    for (int mode = 0; mode < RECORDED; mode++)
      for (int fresh = 0; fresh < 2; fresh++) {
        const scenario *s = &scenarios[k];
        pl_context *c = pl_context_new();
        pl_set_threads(c, 2);
        arguments a = arguments_of(c, s);
        size_t n, m;
        double *want = attempt(c, s, &a, mode, &n);
        free(attempt(c, s, &a, mode, &n));
        int64_t live = pl_live_values(c);
        size_t used = pl_bytes_used(c);
        closure p = program_of(c, s, &a, mode == TANGENTS);
        assert_non_null(p.body);
        int continued = 0;
        bool finished = false;
        for (int at = 1; !finished && at < 100000; at += 1 + at / 300) {
          if (fresh) { /* its executable is made anew */
            drop(c, &p);
            p = program_of(c, s, &a, mode == TANGENTS);
          }
          pl_value out[MOST];
          atomic_store(&c->interrupted, -at);
          finished = run(c, "call", &p, NULL, out);
          int n_out = finished ? p.body->n_out : -1;
          pl_clear_interrupt(c);
          if (!finished) assert_error(c, PL_ERROR_INTERRUPT, "interrupted");
          for (int again = 0; n_out < 0 && pl_suspended(c); again++) {
            continued++;
            if (at % 3 == 0 && again < 5) atomic_store(&c->interrupted, -at / 3 - 20); /* and again */
            n_out = pl_continue(c, MOST, out);
            pl_clear_interrupt(c);
            if (n_out < 0) assert_error(c, PL_ERROR_INTERRUPT, "interrupted");
          }
          if (n_out < 0) continue; /* before it began */
          assert_int_equal(n_out, p.body->n_out);
          double *got = copied(c, n_out, out, &m);
          assert_int_equal(m, n);
          same(s, at, want, got, n);
          free(got);
          release_all(c, n_out, out);
        }
        assert_true(finished);
        if (continued < 10) fail_msg("%s was continued %d times only", s->name, continued);
        drop(c, &p);
        nothing_left(c, s, mode, -1, live, used);
        free(want);
        arguments_free(c, &a);
        pl_context_free(c);
      }
}

/* Both: an interrupted run that cannot be kept, or goes on without memory, and one that is given up. */
static void interrupts_without_memory(void **state) {
  (void)state;
  for (int k = 0; k < SCENARIOS; k++) {
    const scenario *s = &scenarios[k];
    pl_context *c = pl_context_new();
    arguments a = arguments_of(c, s);
    size_t n;
    double *want = attempt(c, s, &a, GRADIENT, &n);
    free(attempt(c, s, &a, GRADIENT, &n));
    int64_t live = pl_live_values(c);
    size_t used = pl_bytes_used(c);
    for (int at = 2; at < 60; at += 3)
      for (int after = 0; after < 30; after++) {
        closure p = program_of(c, s, &a, false);
        pl_value out[MOST];
        if (after % 2) c->fail_after = after / 2;
        atomic_store(&c->interrupted, -at);
        bool ok = run(c, "call", &p, NULL, out);
        pl_clear_interrupt(c);
        pl_clear(c);
        if (!ok && pl_suspended(c) && after % 3) {
          c->fail_after = after / 2;
          int n_out = pl_continue(c, MOST, out);
          ok = n_out >= 0;
          if (!ok) assert_error(c, PL_ERROR_MEMORY, "out of memory");
        }
        c->fail_after = -1;
        if (ok) {
          double *got = copied(c, p.body->n_out, out, &n);
          same(s, at, want, got, n);
          free(got);
          release_all(c, p.body->n_out, out);
        }
        drop(c, &p);
        pl_suspended_free(c);
        nothing_left(c, s, GRADIENT, at, live, used);
      }
    free(want);
    arguments_free(c, &a);
    pl_context_free(c);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(failing_allocations),
      cmocka_unit_test(interrupts),
      cmocka_unit_test(interrupts_without_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
