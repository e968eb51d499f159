/* The engine's own rules: handles, ownership, budget, recordings, derivatives. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "helpers.h"
#include "programs.h"
#include "record.h"

static void handles(void **state) {
  (void)state;
  pl_context *c = pl_context_new(), *other = pl_context_new();
  pl_value x = vector(c, 3, (double[]){1, 2, 3});
  pl_release(c, x);
  assert_int_equal(pl_live_values(c), 0);
  assert_true(pl_data(c, x) == NULL);
  assert_error(c, PL_ERROR_STALE, "detach");
  pl_value y = vector(c, 3, (double[]){4, 5, 6}); /* the same slot, another generation */
  assert_int_equal(pl_slot_index(x), pl_slot_index(y));
  assert_int_not_equal(x, y);
  two(c, "add", x, y);
  assert_error(c, PL_ERROR_STALE, "ended");
  pl_value z = vector(other, 3, (double[]){1, 1, 1});
  two(c, "add", y, z);
  assert_error(c, PL_ERROR_STALE, "another context");
  two(c, "add", y, PL_NONE);
  assert_error(c, PL_ERROR_ARGUMENT, "missing");
  pl_release(c, y);
  pl_release(other, z);
  pl_context_free(other);
  pl_context_free(c);
}

static void errors_stick(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  pl_value x = vector(c, 3, (double[]){1, 2, 3}), y = vector(c, 4, (double[]){1, 2, 3, 4});
  assert_int_equal(two(c, "mul", x, y), PL_NONE);
  assert_int_equal(two(c, "mul", x, x), PL_NONE); /* a no-op while the error is set */
  assert_error(c, PL_ERROR_SHAPE, "{3} and {4}");
  pl_value z = two(c, "mul", x, x);
  assert_true(((const double *)pl_data(c, z))[2] == 9);
  pl_context_free(c);
}

static void budget(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  pl_value small = vector(c, 1, (double[]){1});
  size_t used = pl_bytes_used(c);
  pl_set_budget(c, used + (1 << 20));
  assert_int_equal(pl_tensor(c, PL_F64, 1, (int64_t[]){1 << 18}, NULL), PL_NONE);
  assert_error(c, PL_ERROR_MEMORY, "budget");
  assert_int_equal(pl_bytes_used(c), used);
  pl_value fits = pl_tensor(c, PL_F64, 1, (int64_t[]){1 << 16}, NULL);
  assert_true(pl_bytes_used(c) > used + (1 << 19));
  pl_release(c, fits);
  assert_int_equal(pl_bytes_used(c), used);
  pl_release(c, small);
  pl_context_free(c);
}

/* Every allocation of a recorded gradient fails in turn: an error, no leak, and the next try works. */
static void failing_allocations(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  double data[40] = {1};
  pl_value x = vector(c, 40, data);
  bool done = false;
  for (int k = 0; k < 400 && !done; k++) {
    int64_t live = pl_live_values(c);
    size_t used = pl_bytes_used(c);
    c->fail_after = k;
    pl_value in, g = PL_NONE;
    pl_region *r = pl_region_open(c, 1, &x, NULL, &in);
    pl_value y = PL_NONE;
    if (r) {
      y = in;
      for (int i = 0; i < 40; i++) y = one(c, "tanh", two(c, "mul", y, in));
      y = total(c, y);
      pl_region_close(r);
      done = pl_region_vjp(r, 1, &y, NULL, &g, NULL, true);
      pl_region_free(r);
    }
    c->fail_after = -1;
    if (done) {
      pl_release(c, g);
    } else {
      assert_error(c, PL_ERROR_MEMORY, "out of memory");
      assert_true(pl_live_values(c) <= live + 2); /* constants may stay */
      assert_true(pl_bytes_used(c) <= used + 70000);
    }
  }
  assert_true(done);
  pl_release(c, x);
  pl_context_free(c);
}

static void captured_parameter(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  pl_value x = vector(c, 2, (double[]){1, 2}), in;
  const char *names[] = {"b"};
  pl_region *r = pl_region_open(c, 1, &x, names, &in);
  two(c, "mul", in, x);
  assert_error(c, PL_ERROR_STATE, "parameter b is used directly");
  pl_region_close(r);
  pl_region_free(r);
  pl_value y = two(c, "mul", x, x); /* fine again */
  assert_true(y != PL_NONE);
  pl_context_free(c);
}

static void recording_owns(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  pl_value x = vector(c, 2, (double[]){1, 2}), in, g;
  int64_t live = pl_live_values(c);
  pl_region *r = pl_region_open(c, 1, &x, NULL, &in);
  pl_value a = two(c, "mul", in, in), kept = one(c, "exp", in), y = total(c, a);
  pl_retain(c, kept);
  pl_region_close(r);
  assert_true(pl_region_vjp(r, 1, &y, NULL, &g, NULL, true));
  assert_true(pl_data(c, a) == NULL); /* freed by the sweep */
  pl_clear(c);
  pl_region_free(r);
  assert_true(fabs(((const double *)pl_data(c, kept))[1] - exp(2)) < 1e-14);
  assert_true(((const double *)pl_data(c, g))[1] == 4);
  pl_release(c, kept);
  pl_release(c, g);
  assert_int_equal(pl_live_values(c), live + 1); /* the seed's constant */
  pl_context_free(c);
}

/* d/dx x^n three times over, by regions within regions: third derivative of x^4 at 2 is 48 */
static void third_derivative(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  pl_value x = pl_scalar(c, PL_F64, 2), in[3], g[3];
  pl_region *r[3];
  for (int k = 0; k < 3; k++) r[k] = pl_region_open(c, 1, k ? &in[k - 1] : &x, NULL, &in[k]);
  pl_value y = one(c, "square", one(c, "square", in[2]));
  for (int k = 2; k >= 0; k--) {
    pl_region_close(r[k]);
    assert_true(pl_region_vjp(r[k], 1, &y, NULL, &g[k], NULL, true));
    y = g[k];
  }
  assert_true(fabs(pl_item(c, g[0]) - 48) < 1e-12);
  for (int k = 2; k >= 0; k--) pl_region_free(r[k]);
  pl_context_free(c);
}

/* A derivative masked by where contributes nothing, infinite or not. */
static void masked_branch(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  pl_value x = vector(c, 3, (double[]){0, 1, 4}), in, g;
  pl_region *r = pl_region_open(c, 1, &x, NULL, &in);
  pl_value zero = pl_constant(c, PL_F64, 0);
  pl_value mask = two(c, "gt", in, zero), root = one(c, "sqrt", in);
  pl_value quotient = two(c, "div", root, in); /* NaN at 0 */
  pl_value parts[] = {mask, quotient, zero};
  pl_value y = total(c, pl_apply1(c, pl_op_find("where"), 3, parts, NULL));
  pl_region_close(r);
  assert_true(pl_region_vjp(r, 1, &y, NULL, &g, NULL, true));
  const double *d = pl_data(c, g);
  assert_true(d[0] == 0);
  assert_true(fabs(d[1] + 0.5) < 1e-14 && fabs(d[2] + 0.0625) < 1e-14); /* d x^-1/2 */
  pl_region_free(r);
  pl_context_free(c);
}

/* f(x_i) does not depend on i, n or threads: bit for bit. */
static void whole_vectors(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  static const char *const ops[] = {"exp", "log", "tanh", "sin", "sigmoid", "softplus", "expm1", "log1p", "tan", "cos"};
  enum { N = 100003 };
  double *x = malloc(N * sizeof *x);
  for (int i = 0; i < N; i++) x[i] = 0.7310585786300049; /* one number everywhere */
  for (size_t k = 0; k < sizeof ops / sizeof *ops; k++) {
    pl_attr attr = PL_REALV(1.5);
    pl_value one = vector(c, 1, x), y1 = pl_apply1(c, pl_op_find(ops[k]), 1, &one, &attr);
    for (int n = 1; n <= N; n = n * 7 + 1) {
      for (int threads = 1; threads <= 2; threads++) {
        pl_set_threads(c, threads);
        pl_value v = vector(c, n, x), y = pl_apply1(c, pl_op_find(ops[k]), 1, &v, &attr);
        const double *p = pl_data(c, y), *q = pl_data(c, y1);
        for (int i = 0; i < n; i++)
          if (memcmp(&p[i], q, 8)) fail_msg("%s differs at %d of %d", ops[k], i, n);
        pl_release(c, v);
        pl_release(c, y);
      }
    }
  }
  free(x);
  pl_context_free(c);
}

static void sums_without_threads(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  enum { N = 1000003 };
  pl_value x = pl_tensor(c, PL_F64, 1, (int64_t[]){N}, NULL);
  double *p = (double *)pl_data(c, x), exact = 0;
  for (int i = 0; i < N; i++) exact += p[i] = sin(i);
  pl_set_threads(c, 1);
  double one = pl_item(c, total(c, x));
  pl_set_threads(c, 2);
  double two = pl_item(c, total(c, x));
  assert_true(one == two);
  assert_true(fabs(one - exact) < 1e-9);
  pl_context_free(c);
}

static int late;
static void stop_soon(pl_context *c) {
  late = 1;
  pl_interrupt(c);
}

static void interrupts(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  pl_value x = vector(c, 2, (double[]){1, 2});
  stop_soon(c);
  assert_int_equal(two(c, "matmul", x, x), PL_NONE);
  assert_error(c, PL_ERROR_INTERRUPT, "interrupted");
  assert_true(two(c, "matmul", x, x) != PL_NONE);
  assert_true(late);
  pl_context_free(c);
}

/* A host's collector may give a region back anywhere: within a pause, a scope or a trace that has begun inside it. */
static void freed_within(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  pl_value x = vector(c, 2, (double[]){1, 2}), in;
  int64_t live = pl_live_values(c);
  pl_region *r = pl_region_open(c, 1, &x, NULL, &in);
  pl_scope_begin(c);
  pl_pause(c);
  pl_scope_begin(c);
  pl_value y = two(c, "mul", x, x);
  pl_region_free(r);
  assert_true(two(c, "mul", y, y) != PL_NONE);
  pl_scope_end(c);
  assert_true(pl_data(c, y) == NULL);
  pl_clear(c);
  pl_resume(c);
  assert_true(pl_recording(c) && two(c, "mul", in, in) != PL_NONE); /* it is still there */
  pl_scope_end(c);
  assert_false(pl_recording(c));
  r = pl_region_open(c, 1, &x, NULL, &in);
  pl_trace *t = pl_trace_like(c, 1, &x, 1, &y);
  pl_region_free(r);
  assert_false(pl_recording(c) || pl_tracing(c));
  pl_trace_free(c, t);
  assert_true(pl_owns(c));
  assert_int_equal(pl_live_values(c), live);
  /* opened in a pause and left open: what is recorded around it goes on */
  r = pl_region_open(c, 1, &x, NULL, &in);
  pl_pause(c);
  pl_value w = vector(c, 2, (double[]){3, 4});
  pl_region *inner = pl_region_open(c, 1, &w, NULL, &y);
  assert_true(inner != NULL);
  pl_resume(c);
  pl_region_free(inner);
  pl_release(c, w);
  assert_true(pl_recording(c) && two(c, "mul", in, in) != PL_NONE);
  pl_region_free(r);
  assert_int_equal(pl_live_values(c), live);
  pl_context_free(c);
}

/* A region within a recording that has ended is not taken for one within the next, which may lie at the same place. */
static void ended_within(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  pl_value x = vector(c, 2, (double[]){1, 2}), in, inner, g;
  pl_region *r = pl_region_open(c, 1, &x, NULL, &in), *q = pl_region_open(c, 1, &in, NULL, &inner);
  pl_value y = total(c, two(c, "mul", inner, inner));
  pl_region_close(q);
  pl_region_free(r);
  r = pl_region_open(c, 1, &x, NULL, &in);
  assert_false(pl_region_vjp(q, 1, &y, NULL, &g, NULL, false));
  assert_error(c, PL_ERROR_STATE, "has ended");
  assert_false(pl_region_jvp(q, 1, &y, &x, &g));
  assert_error(c, PL_ERROR_STATE, "used up");
  pl_region_free(r);
  pl_region_free(q);
  pl_context_free(c);
}

static int released;
static void release(void *owner) { *(int *)owner += 1; }

static void borrowed(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  _Alignas(64) double data[16] = {1, 2, 3, 4, 5, 6, 7, 8};
  uint64_t version = 0;
  pl_value x = pl_borrow(c, PL_F64, 1, (int64_t[]){8}, data, &version, release, &released), in, g;
  assert_true(pl_data(c, x) == data); /* not copied */
  pl_value w = vector(c, 8, data);
  pl_region *r = pl_region_open(c, 1, &w, NULL, &in);
  pl_value y = total(c, two(c, "mul", in, x));
  pl_region_close(r);
  data[0] = 100;
  version++;
  assert_false(pl_region_vjp(r, 1, &y, NULL, &g, NULL, true));
  assert_error(c, PL_ERROR_STATE, "buffer was written");
  pl_region_free(r);
  pl_release(c, x);
  assert_int_equal(released, 1);
  pl_context_free(c);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(handles),
      cmocka_unit_test(errors_stick),
      cmocka_unit_test(budget),
      cmocka_unit_test(failing_allocations),
      cmocka_unit_test(captured_parameter),
      cmocka_unit_test(recording_owns),
      cmocka_unit_test(third_derivative),
      cmocka_unit_test(masked_branch),
      cmocka_unit_test(whole_vectors),
      cmocka_unit_test(sums_without_threads),
      cmocka_unit_test(interrupts),
      cmocka_unit_test(borrowed),
      cmocka_unit_test(freed_within),
      cmocka_unit_test(ended_within),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
