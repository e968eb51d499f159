/* Programs under stress: wide fused groups, long programs, too many inputs, arguments that do not fit. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "execute.h"
#include "helpers.h"
#include "pattern.h"

static bool call(pl_context *c, pl_body *b, int n, const pl_value *in, pl_value *out) {
  return pl_apply(c, pl_op_find("call"), n, in, (pl_attr[]){PL_OBJECT(pl_body_object(b)), PL_INT(0)}, out);
}

/* The sum over k of x_2k x_2k+1, where x_k is every third element from k on. */
static pl_value windows(pl_context *c, pl_value x, int n, int64_t count) {
  pl_value sum = PL_NONE;
  for (int k = 0; k + 1 < n; k += 2) {
    pl_value part = two(c, "mul", slice(c, x, k, 3, count), slice(c, x, k + 1, 3, count));
    sum = k ? two(c, "add", sum, part) : part;
  }
  return sum;
}

/* Groups that read more views at once than there is room for registers are split: for every number of views the numbers
 * are those of the sum. */
static void many_views(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  for (int n = 20; n <= 300; n += n < 110 ? 1 : 37)
    for (int64_t count = 40; count <= 2000; count *= 50) {
      pl_value x = ramp(c, 3 * count + n, 0.5, 0.25), in, out = PL_NONE;
      pl_trace *t = pl_trace_like(c, 1, &x, 1, &in);
      pl_value y = windows(c, in, n, count);
      pl_body *b = pl_trace_end(c, t, 1, &y);
      pl_trace_free(c, t);
      if (!b || !call(c, b, 1, &x, &out)) fail_msg("%d views: %s", n, pl_error_message(c));
      const double *p = pl_data(c, x), *q = pl_data(c, out);
      for (int64_t i = 0; i < count; i++) {
        double sum = 0; /* in binary fractions: exact */
        for (int k = 0; k + 1 < n; k += 2) sum += p[k + 3 * i] * p[k + 1 + 3 * i];
        if (q[i] != sum) fail_msg("%d views, element %d: %.17g instead of %.17g", n, (int)i, q[i], sum);
      }
      pl_release(c, out);
      pl_release(c, x);
      pl_body_release(b);
    }
  pl_context_free(c);
}

/* ---- as many inputs as there may be, and more ---- */

enum { MANY = 1024 };

/* x_i y for all inputs but the last, y. */
static pl_body *wide(pl_context *c, int n, bool sum) {
  pl_value like = ramp(c, 2, 1, 1), models[MANY], in[MANY], out[MANY];
  for (int i = 0; i < n; i++) models[i] = like;
  pl_trace *t = pl_trace_like(c, n, models, n, in);
  for (int i = 0; i < n - 1; i++) out[i] = two(c, "mul", in[i], in[n - 1]);
  for (int i = 1; sum && i < n - 1; i++) out[0] = two(c, "add", out[0], out[i]);
  pl_body *b = pl_trace_end(c, t, sum ? 1 : n - 1, out);
  pl_trace_free(c, t);
  pl_release(c, like);
  return b;
}

typedef bool (*applied)(pl_context *c, int n, const pl_value *in, pl_value *out);
static pl_body *used;
static int used_n;

static bool as_call(pl_context *c, int n, const pl_value *in, pl_value *out) { return call(c, used, n, in, out); }
/* as many states as results */
static bool as_scan(pl_context *c, int n, const pl_value *in, pl_value *out) {
  int64_t layout[] = {used_n - 1, 0, 0, 3, 0, 0};
  pl_attr attrs[] = {PL_OBJECT(pl_body_object(used)), PL_INTS(6, layout), PL_INTS(0, NULL)};
  return pl_apply(c, pl_op_find("scan"), n, in, attrs, out);
}
static bool as_checkpoints(pl_context *c, int n, const pl_value *in, pl_value *out) {
  int64_t layout[] = {used_n - 1, 0, 0, 3, 0, 0}, two_ = 2;
  pl_attr attrs[] = {PL_OBJECT(pl_body_object(used)), PL_INTS(6, layout), PL_INTS(1, &two_)};
  return pl_apply(c, pl_op_find("scan"), n, in, attrs, out);
}
/* nothing is walked but the last input is, so results are stacked */
static bool as_map(pl_context *c, int n, const pl_value *in, pl_value *out) {
  int64_t layout[] = {0, 0, used_n - 1, 3, 0, 0};
  pl_attr attrs[] = {PL_OBJECT(pl_body_object(used)), PL_INTS(6, layout), PL_INTS(0, NULL)};
  return pl_apply(c, pl_op_find("scan"), n, in, attrs, out);
}
static bool as_while(pl_context *c, int n, const pl_value *in, pl_value *out) {
  pl_value inner[MANY], answer;
  pl_trace *t = pl_trace_like(c, n - 1, in, n - 1, inner);
  answer = two(c, "lt", total(c, inner[0]), pl_constant(c, PL_F64, 40));
  pl_body *cond = pl_trace_end(c, t, 1, &answer);
  pl_trace_free(c, t);
  if (!cond) return false;
  int64_t layout[] = {n - 1, 0, 100, 0};
  pl_attr attrs[] = {PL_OBJECT(pl_body_object(cond)), PL_OBJECT(pl_body_object(used)), PL_INTS(4, layout)};
  bool ok = pl_apply(c, pl_op_find("while"), n, in, attrs, out);
  pl_body_release(cond);
  return ok;
}
static bool as_cond(pl_context *c, int n, const pl_value *in, pl_value *out) {
  if (2 * n + 1 > MANY) return pl_error(c, PL_ERROR_ARGUMENT, "not possible"), false;
  pl_value all[MANY] = {two(c, "lt", pl_constant(c, PL_F64, 1), pl_constant(c, PL_F64, 2))};
  memcpy(all + 1, in, (size_t)n * sizeof *in);
  memcpy(all + 1 + n, in, (size_t)n * sizeof *in);
  pl_attr attrs[] = {PL_OBJECT(pl_body_object(used)), PL_OBJECT(pl_body_object(used))};
  return pl_apply(c, pl_op_find("cond"), 2 * n + 1, all, attrs, out);
}

/* The gradient of the sum of all results, each scaled, and the tangent of the first, or an error that says how many are
 * possible; the context goes on either way. */
static bool differentiated(pl_context *c, applied f, int n, double *g_last) {
  pl_value x[MANY], in[MANY], out[MANY + 1], g[MANY], t[MANY], dy[MANY];
  for (int i = 0; i < n; i++) x[i] = ramp(c, 2, 1, 0.5);
  pl_region *r = pl_region_open(c, n, x, NULL, in);
  bool ok = f(c, n, in, out), forward = false;
  pl_value y = PL_NONE;
  for (int i = 0; i < used_n - 1 && ok; i++) {
    pl_value part = two(c, "mul", total(c, out[i]), pl_constant(c, PL_F64, i % 3 + 1));
    y = i ? two(c, "add", y, part) : part;
  }
  pl_region_close(r);
  if (ok && c->status == PL_OK) {
    for (int i = 0; i < n; i++) t[i] = x[i];
    forward = pl_region_jvp(r, used_n - 1, out, t, dy);
    if (forward)
      for (int i = 0; i < used_n - 1; i++) pl_release(c, dy[i]);
    else assert_error(c, PL_ERROR_ARGUMENT, "possible");
    ok = pl_region_vjp(r, 1, &y, NULL, g, NULL, true);
    if (ok) *g_last = ((const double *)pl_data(c, g[n - 1]))[1];
    for (int i = 0; i < n && ok; i++) pl_release(c, g[i]);
  }
  pl_region_free(r);
  if (!ok) assert_error(c, PL_ERROR_ARGUMENT, "possible");
  for (int i = 0; i < n; i++) pl_release(c, x[i]);
  return ok && forward;
}

static void many_inputs(void **state) {
  (void)state;
  static const applied forms[] = {as_call, as_scan, as_checkpoints, as_map, as_while, as_cond};
  static const char *const names[] = {"call", "scan", "checkpoints", "stacked", "while", "cond"};
  static const int sizes[] = {3,   100, 150, 250, 300, 342, 350, 400,  480, 505,
                              510, 512, 520, 600, 683, 690, 800, 1023, 1024};
  pl_context *c = pl_context_new();
  for (size_t k = 0; k < sizeof forms / sizeof *forms; k++) {
    int last_fine = 0;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
      int64_t live = pl_live_values(c);
      used_n = sizes[s];
      used = wide(c, used_n, false);
      assert_non_null(used);
      double g = 0, want = 0; /* the sum of the weights times d(x y^p)/dy = p x y^(p-1) at x = y = 3/2 */
      int p = k == 0 || k == 3 || k == 5 ? 1 : k == 4 ? 0 : 3;
      for (int i = 0; i < used_n - 1; i++) want += (i % 3 + 1) * (k == 3 ? 3 : 1) * (p == 3 ? 3 * pow(1.5, 3) : 1.5);
      if (differentiated(c, forms[k], used_n, &g)) {
        if (p && fabs(g - want) > 1e-9 * want)
          fail_msg("%s of %d: gradient %g instead of %g", names[k], used_n, g, want);
        last_fine = used_n;
      }
      pl_body_release(used);
      assert_true(pl_live_values(c) <= live + 40); /* constants */
    }
    printf("%s: derivatives of up to %d inputs and as many results\n", names[k], last_fine);
    assert_true(last_fine >= 150);
  }
  assert_null(wide(c, MANY, false) ? NULL : (void *)c); /* 1,024 may be traced */
  pl_value like = ramp(c, 2, 1, 1), models[1] = {like}, in, sum;
  pl_trace *t = pl_trace_like(c, 1, models, 1, &in);
  sum = in;
  pl_value captured[MANY + 8];
  pl_pause(c);
  for (int i = 0; i < MANY + 8; i++) captured[i] = ramp(c, 2, i, 1);
  pl_resume(c);
  for (int i = 0; i < MANY + 8; i++) sum = two(c, "add", sum, captured[i]);
  assert_null(pl_trace_end(c, t, 1, &sum));
  assert_error(c, PL_ERROR_ARGUMENT, "takes and captures 1033 tensors");
  pl_trace_free(c, t);
  assert_false(pl_tracing(c));
  pl_context_free(c);
}

/* A call whose program has thousands of results that a derivative would rather keep: some are computed again. */
static void many_kept(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  pl_value x = ramp(c, 3, 0.3, 0.1), in, out, g[2];
  for (int how = 0; how < 2; how++) {
    pl_body *b = NULL;
    if (how) {
      pl_trace *t = pl_trace_like(c, 1, &x, 1, &in);
      out = in;
      for (int i = 0; i < 3000; i++) out = one(c, i % 2 ? "sin" : "exp", i % 3 ? out : two(c, "mul", out, in));
      b = pl_trace_end(c, t, 1, &out);
      pl_trace_free(c, t);
      assert_non_null(b);
    }
    pl_region *r = pl_region_open(c, 1, &x, NULL, &in);
    if (how) assert_true(call(c, b, 1, &in, &out));
    else {
      out = in;
      for (int i = 0; i < 3000; i++) out = one(c, i % 2 ? "sin" : "exp", i % 3 ? out : two(c, "mul", out, in));
    }
    out = total(c, out);
    pl_region_close(r);
    if (!pl_region_vjp(r, 1, &out, NULL, &g[how], NULL, true)) fail_msg("%s", pl_error_message(c));
    pl_region_free(r);
    if (b) pl_body_release(b);
  }
  assert_memory_equal(pl_data(c, g[0]), pl_data(c, g[1]), 3 * sizeof(double));
  pl_context_free(c);
}

/* ---- arguments that do not fit are errors ---- */

static void misfits(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  pl_value x = ramp(c, 2, 1, 1), m = pl_tensor(c, PL_F64, 2, (int64_t[]){3, 2}, NULL), out[4];
  pl_value bad[] = {pl_tensor(c, PL_F64, 2, (int64_t[]){4, 2}, NULL), pl_tensor(c, PL_F64, 2, (int64_t[]){3, 3}, NULL),
                    pl_tensor(c, PL_F32, 2, (int64_t[]){3, 2}, NULL), x};
  static const char *const said[] = {"first axis must have the 3 steps", "made for steps of f64 {2}",
                                     "an input is f32 {3, 2}", "first axis must have"};
  pl_value models[] = {x, x}, in[2], made[3];
  pl_trace *t = pl_trace_like(c, 2, models, 2, in);
  made[0] = two(c, "mul", in[0], in[1]);
  made[1] = total(c, made[0]);
  made[2] = two(c, "lt", made[1], pl_constant(c, PL_F64, 1));
  pl_body *step = pl_trace_end(c, t, 2, made);
  pl_trace_free(c, t);
  t = pl_trace_like(c, 2, models, 2, in);
  made[0] = two(c, "mul", in[0], in[1]);
  pl_body *one_ = pl_trace_end(c, t, 1, made);
  pl_trace_free(c, t);
  t = pl_trace_like(c, 1, (pl_value[]){bad[1]}, 1, in);
  made[0] = two(c, "lt", total(c, in[0]), pl_constant(c, PL_F64, 1));
  pl_body *other = pl_trace_end(c, t, 1, made);
  pl_trace_free(c, t);
  t = pl_trace_like(c, 1, &x, 1, in);
  made[0] = two(c, "lt", total(c, in[0]), pl_constant(c, PL_F64, 1));
  pl_body *cond = pl_trace_end(c, t, 1, made);
  pl_trace_free(c, t);
  pl_object *pattern = (pl_object *)pl_pattern_new(c, 2, 2, (int32_t[]){0, 1, 2}, (int32_t[]){0, 1});
  assert_true(step && one_ && other && cond && pattern);
  const pl_op *scan = pl_op_find("scan"), *loop = pl_op_find("while"), *choice = pl_op_find("cond");
  int64_t layout[] = {1, 1, 1, 3, 0, 0};
  pl_attr attrs[] = {PL_OBJECT(pl_body_object(step)), PL_INTS(6, layout), PL_INTS(0, NULL)};
  for (int k = 0; k < 4; k++) {
    assert_false(pl_apply(c, scan, 2, (pl_value[]){x, bad[k]}, attrs, out));
    assert_error(c, PL_ERROR_SHAPE, said[k]);
  }
  assert_true(pl_apply(c, scan, 2, (pl_value[]){x, m}, attrs, out));
  static const int64_t wrong[][6] = {{2, 1, 0, 3, 0, 0}, {-1, 2, 3, 3, 0, 0}, {1, 1, 2, 3, 0, 0},  {1, 1, 1, -3, 0, 0},
                                     {1, 1, 1, 3, 2, 0}, {1, 1, 1, 3, 0, 7},  {3, 1, -1, 3, 0, 0}, {1, 2, 1, 3, 0, 0}};
  for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++) {
    memcpy(layout, wrong[k], sizeof layout);
    assert_false(pl_apply(c, scan, 2, (pl_value[]){x, m}, attrs, out));
    assert_error(c, PL_ERROR_ARGUMENT, "do not fit");
  }
  memcpy(layout, (int64_t[]){1, 1, 1, 3, 0, 0}, sizeof layout);
  attrs[1] = (pl_attr)PL_INTS(3, layout);
  assert_false(pl_apply(c, scan, 2, (pl_value[]){x, m}, attrs, out));
  assert_error(c, PL_ERROR_ARGUMENT, "do not fit");
  static const char *const ops[] = {"call", "scan", "while", "cond", "scan_reverse", "newton", "krylov"};
  for (int k = 0; k < 7; k++) { /* a pattern is no program */
    pl_attr no[PL_MAX_ATTRS] = {PL_OBJECT(pattern), PL_OBJECT(pattern), PL_INTS(0, NULL), PL_INTS(0, NULL),
                                PL_INTS(0, NULL)};
    assert_false(pl_apply(c, pl_op_find(ops[k]), 2, (pl_value[]){x, m}, no, out));
    assert_error(c, PL_ERROR_ARGUMENT, "do not fit");
  }
  /* a condition of another state, results that are not the state, a program of two results for it */
  int64_t while_[] = {1, 0, 10, 0};
  pl_attr loops[] = {PL_OBJECT(pl_body_object(cond)), PL_OBJECT(pl_body_object(one_)), PL_INTS(4, while_)};
  assert_true(pl_apply(c, loop, 2, (pl_value[]){x, x}, loops, out));
  pl_release(c, out[0]);
  pl_release(c, out[1]);
  loops[0] = (pl_attr)PL_OBJECT(pl_body_object(other));
  assert_false(pl_apply(c, loop, 2, (pl_value[]){bad[1], x}, loops, out));
  assert_error(c, PL_ERROR_ARGUMENT, "do not fit");
  loops[0] = (pl_attr)PL_OBJECT(pl_body_object(step));
  assert_false(pl_apply(c, loop, 2, (pl_value[]){x, x}, loops, out));
  assert_error(c, PL_ERROR_ARGUMENT, "do not fit");
  pl_value yes = two(c, "lt", x, x), chosen[] = {pl_constant(c, PL_F64, 1), x, x, x, x};
  pl_attr both[] = {PL_OBJECT(pl_body_object(one_)), PL_OBJECT(pl_body_object(step))};
  assert_false(pl_apply(c, choice, 5, chosen, both, out));
  assert_error(c, PL_ERROR_TYPE, "one bool");
  chosen[0] = pl_scalar(c, PL_BOOL, 1);
  for (int k = 0; k < 2; k++) {
    assert_false(pl_apply(c, choice, 5, chosen, both, out));
    assert_error(c, PL_ERROR_ARGUMENT, "the other");
    pl_attr first = both[0];
    both[0] = both[1];
    both[1] = first;
  }
  pl_release(c, yes);
  pl_object_release(pattern);
  pl_context_free(c);
}

static pl_value nested(pl_context *c, int depth, pl_value x) {
  if (depth == 0) return one(c, "tanh", x);
  pl_value in, out, y = PL_NONE;
  pl_trace *t = pl_trace_like(c, 1, &x, 1, &in);
  if (!t) return PL_NONE;
  out = nested(c, depth - 1, in);
  pl_body *b = pl_trace_end(c, t, 1, &out);
  pl_trace_free(c, t);
  int64_t layout[] = {1, 0, 0, 1, 0, 0};
  if (b)
    y = pl_apply1(c, pl_op_find("scan"), 1, &x,
                  (pl_attr[]){PL_OBJECT(pl_body_object(b)), PL_INTS(6, layout), PL_INTS(0, NULL)});
  if (b) pl_body_release(b);
  return y;
}

static void deep(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  pl_value x = ramp(c, 1, 0.5, 0), in, y, g;
  for (int depth = 1; depth < 200; depth += depth < 40 ? 3 : 53) {
    pl_region *r = pl_region_open(c, 1, &x, NULL, &in);
    y = nested(c, depth, in);
    if (y != PL_NONE) y = total(c, y);
    pl_region_close(r);
    if (pl_region_vjp(r, 1, &y, NULL, &g, NULL, true)) {
      double t = tanh(0.5);
      assert_true(depth < 40 && fabs(*(const double *)pl_data(c, g) - (1 - t * t)) < 1e-15);
      pl_release(c, g);
    } else {
      assert_true(depth > 30);
      assert_error(c, PL_ERROR_STATE, "programs within programs");
    }
    pl_region_free(r);
    assert_false(pl_recording(c) || pl_tracing(c));
  }
  pl_context_free(c);
}

/* ---- long programs ---- */

static pl_value long_function(pl_context *c, int kind, int n, pl_value x) {
  pl_value y = x;
  for (int i = 0; i < n; i += 3) {
    if (kind == 0) y = one(c, "tanh", two(c, "mul", one(c, "sin", y), x));             /* one chain */
    else if (kind == 1) y = two(c, "mul", one(c, "sin", y), total(c, y));              /* a sum at every turn */
    else y = two(c, "add", y, total(c, one(c, "sin", slice(c, y, 0, 1, 2 + i % 29)))); /* groups of many shapes */
  }
  return total(c, y);
}

/* Tracing, differentiating and optimizing take time in proportion to the program, not to its square. */
static void long_programs(void **state) {
  (void)state;
  for (int kind = 0; kind < 3; kind++) {
    double seconds[2] = {1e9, 1e9};
    /* least times: both lengths in turn, again while another process may have disturbed them */
    for (int repeat = 0; repeat < 4 || (repeat < 40 && seconds[1] > 24 * seconds[0]); repeat++)
      for (int long_ = 0; long_ < 2; long_++) {
        pl_context *c = pl_context_new();
        pl_value x = ramp(c, 32, 0.1, 0.01), in, y;
        uint8_t need[] = {1}, reached[1];
        clock_t start = clock();
        pl_trace *t = pl_trace_like(c, 1, &x, 1, &in);
        y = long_function(c, kind, long_ ? 20000 : 2500, in);
        pl_body *b = pl_trace_end(c, t, 1, &y);
        pl_trace_free(c, t);
        assert_non_null(b);
        pl_body *g = pl_body_with_gradient(c, b, need, reached);
        assert_non_null(g);
        assert_true(pl_body_executable(c, b, PL_OPTIMIZED) && pl_body_executable(c, g, PL_OPTIMIZED));
        seconds[long_] = fmin(seconds[long_], (double)(clock() - start) / CLOCKS_PER_SEC);
        pl_body_release(g);
        pl_body_release(b);
        pl_context_free(c);
      }
    printf("program %d: %.1f ms for 2,500 instructions, %.1f ms for 20,000\n", kind, 1e3 * seconds[0],
           1e3 * seconds[1]);
    /* 8 if in proportion, 64 if quadratic */
    if (seconds[1] > 24 * seconds[0])
      fail_msg("8 times the instructions take %.1f times as long", seconds[1] / seconds[0]);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(many_views), cmocka_unit_test(many_inputs), cmocka_unit_test(many_kept),
      cmocka_unit_test(misfits),    cmocka_unit_test(deep),        cmocka_unit_test(long_programs),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
