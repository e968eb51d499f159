/* The optimizers on problems with known solutions, with and without bounds; L-BFGS's line search on More and Thuente's
 * functions; Adam beside figures of PyTorch 2 (torch.optim.Adam and AdamW). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "context.h"
#include "op.h"
#include "optimize/optimizer.h"
#include "optimize/line_search.h"

typedef double (*objective)(int n, const double *x, double *g, void *data);

static pl_min_report minimize_by(const char *method, pl_context *c, pl_optimizer **out, objective f, void *data, int n,
                                 const double *x0, const double *lo, const double *hi, const pl_setting *p) {
  pl_optimizer *o = pl_optimizer_new(c, method, p, n, x0, lo, hi);
  assert_non_null(o);
  double *g = malloc((size_t)n * sizeof *g);
  for (const double *x; (x = pl_optimizer_ask(o));) {
    for (int i = 0; i < n; i++) {
      assert_true(!lo || x[i] >= lo[i]);
      assert_true(!hi || x[i] <= hi[i]);
    }
    double v = f(n, x, g, data);
    pl_optimizer_tell(o, v, g);
  }
  free(g);
  *out = o;
  return pl_optimizer_report(o);
}
static pl_min_report minimize(pl_context *c, pl_optimizer **out, objective f, void *data, int n, const double *x0,
                              const double *lo, const double *hi, const pl_setting *p) {
  return minimize_by("lbfgs", c, out, f, data, n, x0, lo, hi, p);
}

static double rosenbrock(int n, const double *x, double *g, void *data) {
  double f = 0, scale = data ? *(double *)data : 1;
  for (int i = 0; i < n; i++) g[i] = 0;
  for (int i = 0; i + 1 < n; i++) {
    double a = x[i + 1] - x[i] * x[i], b = 1 - x[i];
    f += scale * (100 * a * a + b * b);
    g[i] += scale * (-400 * a * x[i] - 2 * b);
    g[i + 1] += scale * 200 * a;
  }
  return f;
}

static void test_rosenbrock(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  double x0[100];
  pl_optimizer *o;
  for (int n = 2; n <= 100; n += 98) {
    for (int i = 0; i < n; i++) x0[i] = i % 2 ? 1 : -1.2;
    pl_min_report r = minimize(c, &o, rosenbrock, NULL, n, x0, NULL, NULL, NULL);
    printf("Rosenbrock %d: %s, %lld iterations, %lld evaluations, f %.1e\n", n, r.name, (long long)r.iterations,
           (long long)r.evaluations, r.best.value);
    assert_true(r.converged);
    for (int i = 0; i < n; i++) assert_true(fabs(r.best.x[i] - 1) < 1e-6);
    assert_true(r.evaluations < (n == 2 ? 60 : 700));
    pl_optimizer_free(o);
  }
  pl_context_free(c);
}

/* The loss times 1e10 or 1e-10 must not change where it ends, nor how. */
static void test_scaling(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  double x0[2] = {-1.2, 1}, scales[] = {1, 1e10, 1e-10};
  int64_t evaluations[3];
  for (int k = 0; k < 3; k++) {
    pl_optimizer *o;
    const pl_setting p[] = {{"atol", 0}, {NULL, 0}};
    pl_min_report r = minimize(c, &o, rosenbrock, &scales[k], 2, x0, NULL, NULL, p);
    evaluations[k] = r.evaluations;
    assert_true(r.converged);
    assert_true(fabs(r.best.x[0] - 1) < 1e-7);
    pl_optimizer_free(o);
  }
  for (int k = 1; k < 3; k++) assert_true(evaluations[k] < evaluations[0] + 25);
  pl_context_free(c);
}

/* f = sum w_i (x_i - t_i)^2 / 2 + coupling; the solution and its multipliers are chosen, the linear term follows. */
typedef struct {
  double h[50][50], b[50];
} quadratic;
static double evaluate_quadratic(int n, const double *x, double *g, void *data) {
  quadratic *q = data;
  double f = 0;
  for (int i = 0; i < n; i++) {
    double hx = 0;
    for (int j = 0; j < n; j++) hx += q->h[i][j] * x[j];
    g[i] = hx - q->b[i];
    f += x[i] * (0.5 * hx - q->b[i]);
  }
  return f;
}

static void test_bounds(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  pl_sampler_random r = {3};
  for (int trial = 0; trial < 10; trial++) {
    enum { n = 50 };
    quadratic *q = calloc(1, sizeof *q);
    double root[n][n], solution[n], lo[n], hi[n], x0[n];
    for (int i = 0; i < n; i++)
      for (int j = 0; j < n; j++) root[i][j] = pl_sample_uniform(&r, -1, 1) / sqrt(n) + (i == j ? 0.5 : 0);
    for (int i = 0; i < n; i++)
      for (int j = 0; j < n; j++)
        for (int k = 0; k < n; k++) q->h[i][j] += root[k][i] * root[k][j];
    for (int i = 0; i < n; i++) {
      lo[i] = -1 - pl_sample_uniform(&r, 0, 1);
      hi[i] = 1 + pl_sample_uniform(&r, 0, 1);
      solution[i] = i % 3 == 0 ? lo[i] : i % 3 == 1 ? hi[i] : pl_sample_uniform(&r, -0.9, 0.9);
      x0[i] = pl_sample_uniform(&r, -3, 3); /* some outside the box */
    }
    if (trial == 9) hi[5] = lo[5] = solution[5]; /* a fixed variable */
    for (int i = 0; i < n; i++) {
      double hx = 0, push = i % 3 == 2 ? 0 : pl_sample_uniform(&r, 0.1, 1) * (i % 3 == 0 ? 1 : -1);
      for (int j = 0; j < n; j++) hx += q->h[i][j] * solution[j];
      q->b[i] = hx - push; /* gradient at the solution: push */
    }
    pl_optimizer *o;
    const pl_setting p[] = {{"rtol", 0}, {"atol", 1e-9}, {NULL, 0}};
    pl_min_report s = minimize(c, &o, evaluate_quadratic, q, n, x0, lo, hi, p);
    if (!s.converged) fail_msg("trial %d: %s after %lld", trial, s.message, (long long)s.evaluations);
    for (int i = 0; i < n; i++)
      if (fabs(s.best.x[i] - solution[i]) > 1e-5)
        fail_msg("trial %d: x[%d] = %g, not %g", trial, i, s.best.x[i], solution[i]);
    pl_optimizer_free(o);
    free(q);
  }
  pl_context_free(c);
}

/* Hock and Schittkowski 5 (solution -pi/3 + 1/2, -pi/3 - 1/2) and 38 (Wood's function, solution 1) */
static double hs5(int n, const double *x, double *g, void *data) {
  (void)n, (void)data;
  double s = x[0] + x[1], d = x[0] - x[1];
  g[0] = cos(s) + 2 * d - 1.5;
  g[1] = cos(s) - 2 * d + 2.5;
  return sin(s) + d * d - 1.5 * x[0] + 2.5 * x[1] + 1;
}
static double wood(int n, const double *x, double *g, void *data) {
  (void)n, (void)data;
  double a = x[1] - x[0] * x[0], b = 1 - x[0], d = x[3] - x[2] * x[2], e = 1 - x[2], p = x[1] - 1, q = x[3] - 1;
  g[0] = -400 * a * x[0] - 2 * b;
  g[1] = 200 * a + 20.2 * p + 19.8 * q;
  g[2] = -360 * d * x[2] - 2 * e;
  g[3] = 180 * d + 20.2 * q + 19.8 * p;
  return 100 * a * a + b * b + 90 * d * d + e * e + 10.1 * (p * p + q * q) + 19.8 * p * q;
}
static void test_published(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  pl_optimizer *o;
  pl_min_report r = minimize(c, &o, hs5, NULL, 2, (double[]){0, 0}, (double[]){-1.5, -3}, (double[]){4, 3}, NULL);
  assert_true(r.converged);
  assert_true(fabs(r.best.value + 1.9132229549810) < 1e-10);
  assert_true(fabs(r.best.x[0] - (0.5 - acos(-1) / 3)) < 1e-6);
  pl_optimizer_free(o);
  r = minimize(c, &o, wood, NULL, 4, (double[]){-3, -1, -3, -1}, (double[]){-10, -10, -10, -10},
               (double[]){10, 10, 10, 10}, NULL);
  printf("Wood: %s, %lld evaluations\n", r.name, (long long)r.evaluations);
  assert_true(r.converged && r.best.value < 1e-12);
  pl_optimizer_free(o);
  pl_context_free(c);
}

static double barrier(int n, const double *x, double *g, void *data) {
  (void)n, (void)data;
  g[0] = 1 - 1 / x[0];
  return x[0] > 0 ? x[0] - log(x[0]) : NAN;
}
static double wrong(int n, const double *x, double *g, void *data) {
  double f = rosenbrock(n, x, g, data);
  for (int i = 0; i < n; i++) g[i] = -g[i];
  return f;
}
static void test_faults(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  pl_optimizer *o;
  pl_min_report r = minimize(c, &o, barrier, NULL, 1, (double[]){500}, NULL, NULL, NULL);
  assert_true(r.converged && fabs(r.best.x[0] - 1) < 1e-6);
  pl_optimizer_free(o);
  r = minimize(c, &o, barrier, NULL, 1, (double[]){-1}, NULL, NULL, NULL);
  assert_int_equal(r.status, PL_MIN_BAD_START);
  pl_optimizer_free(o);
  r = minimize(c, &o, wrong, NULL, 2, (double[]){-1.2, 1}, NULL, NULL, NULL);
  assert_int_equal(r.status, PL_MIN_LINE_SEARCH);
  assert_non_null(strstr(r.message, "check_grad"));
  pl_optimizer_free(o);
  r = minimize(c, &o, rosenbrock, NULL, 2, (double[]){-1.2, 1}, NULL, NULL,
               (pl_setting[]){{"iterations", 3}, {NULL, 0}});
  assert_int_equal(r.status, PL_MIN_ITERATIONS);
  assert_int_equal(r.iterations, 3);
  pl_optimizer_free(o);
  r = minimize(c, &o, rosenbrock, NULL, 2, (double[]){-1.2, 1}, NULL, NULL,
               (pl_setting[]){{"evaluations", 7}, {NULL, 0}});
  assert_int_equal(r.status, PL_MIN_EVALUATIONS);
  assert_int_equal(r.evaluations, 7);
  pl_optimizer_free(o);
  assert_null(pl_optimizer_new(c, "lbfgs", NULL, 1, (double[]){0}, (double[]){1}, (double[]){0}));
  assert_non_null(strstr(pl_error_message(c), "bounds of variable 1"));
  pl_clear(c);
  pl_context_free(c);
}

static void test_determinism(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  double x0[100], first[100];
  pl_optimizer *o;
  for (int i = 0; i < 100; i++) x0[i] = i % 2 ? 1 : -1.2;
  for (int k = 0; k < 2; k++) {
    pl_min_report r = minimize(c, &o, rosenbrock, NULL, 100, x0, NULL, NULL, NULL);
    if (k) assert_memory_equal(first, r.best.x, sizeof first);
    else memcpy(first, r.best.x, sizeof first);
    pl_optimizer_free(o);
  }
  pl_context_free(c);
}

/* Rosenbrock's function, 20 steps: PyTorch's figures. */
static void test_adam_steps(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  pl_optimizer *o;
  const pl_setting plain[] = {{"rate", 0.05}, {"iterations", 20}, {NULL, 0}};
  const pl_setting decay[] = {{"rate", 0.05}, {"beta1", 0.8},     {"beta2", 0.95}, {"epsilon", 1e-6},
                              {"decay", 0.1}, {"iterations", 20}, {NULL, 0}};
  const struct {
    const pl_setting *settings;
    double x[2];
  } cases[] = {{plain, {-1.0595395714182134, 1.0660051669986632}},
               {decay, {-0.95606975649399839, 0.96417493882505023}}};
  for (int k = 0; k < 2; k++) {
    pl_min_report r =
        minimize_by("adam", c, &o, rosenbrock, NULL, 2, (double[]){-1.2, 1}, NULL, NULL, cases[k].settings);
    assert_int_equal(r.status, PL_MIN_ITERATIONS);
    assert_int_equal(r.iterations, 20);
    assert_int_equal(r.evaluations, 21);
    for (int i = 0; i < 2; i++) assert_true(fabs(r.last.x[i] - cases[k].x[i]) < 1e-14);
    assert_true(r.best.value <= r.last.value);
    pl_optimizer_free(o);
  }
  pl_context_free(c);
}

static void test_adam_ends(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  pl_optimizer *o;
  /* bounds hold at every trial (minimize_by looks), and the solution is on them */
  pl_min_report r = minimize_by("adam", c, &o, hs5, NULL, 2, (double[]){0, 0}, (double[]){-0.5, -1.5}, (double[]){4, 3},
                                (pl_setting[]){{"rate", 0.01}, {"iterations", 2000}, {"atol", 1e-7}, {NULL, 0}});
  assert_int_equal(r.status, PL_MIN_GRADIENT);
  assert_true(r.best.x[0] == -0.5 && r.best.gradient_norm <= 1e-7);
  pl_optimizer_free(o);
  /* a step across the domain's end */
  r = minimize_by("adam", c, &o, barrier, NULL, 1, (double[]){5}, NULL, NULL, (pl_setting[]){{"rate", 10}, {NULL, 0}});
  assert_int_equal(r.status, PL_MIN_DIVERGED);
  assert_true(!r.converged && r.best.x[0] == 5 && r.evaluations == 2);
  pl_optimizer_free(o);
  /* a rate changed on the way: the next steps are that long */
  o = pl_optimizer_new(c, "adam", (pl_setting[]){{"rate", 0.5}, {NULL, 0}}, 1, (double[]){4}, NULL, NULL);
  double x[3], slope = 1;
  for (int k = 0; k < 3; k++) {
    x[k] = *pl_optimizer_ask(o);
    if (k == 1) assert_true(pl_optimizer_set(o, "rate", 0.25));
    pl_optimizer_tell(o, x[k], &slope);
  }
  assert_true(fabs(x[0] - x[1] - 0.5) < 1e-7 && fabs(x[1] - x[2] - 0.25) < 1e-7);
  pl_optimizer_stop(o);
  assert_null(pl_optimizer_ask(o));
  assert_int_equal(pl_optimizer_report(o).status, PL_MIN_STOPPED);
  pl_optimizer_free(o);
  pl_context_free(c);
}

static void fails(pl_context *c, const char *text, pl_optimizer *o) {
  assert_null(o);
  if (!strstr(pl_error_message(c), text)) fail_msg("%s", pl_error_message(c));
  pl_clear(c);
}
static void test_settings(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  double x = 1;
  fails(c, "there is no method 'newton'; there are lbfgs, adam",
        pl_optimizer_new(c, "newton", NULL, 1, &x, NULL, NULL));
  fails(c, "adam has no option 'memory'; it has iterations, evaluations, atol, rate, beta1, beta2, epsilon, decay",
        pl_optimizer_new(c, "adam", (pl_setting[]){{"memory", 3}, {NULL, 0}}, 1, &x, NULL, NULL));
  fails(c, "lbfgs: memory is a whole number, 1 to 50, not 51",
        pl_optimizer_new(c, "lbfgs", (pl_setting[]){{"memory", 51}, {NULL, 0}}, 1, &x, NULL, NULL));
  fails(c, "lbfgs: iterations is a whole number, 0 or above, not 2.5",
        pl_optimizer_new(c, "lbfgs", (pl_setting[]){{"iterations", 2.5}, {NULL, 0}}, 1, &x, NULL, NULL));
  fails(c, "adam: rate is a positive number, not 0",
        pl_optimizer_new(c, "adam", (pl_setting[]){{"rate", 0}, {NULL, 0}}, 1, &x, NULL, NULL));
  fails(c, "adam: beta1 is 0 or above and below 1, not 1",
        pl_optimizer_new(c, "adam", (pl_setting[]){{"beta1", 1}, {NULL, 0}}, 1, &x, NULL, NULL));
  fails(c, "adam: decay is 0 or above, not nan",
        pl_optimizer_new(c, "adam", (pl_setting[]){{"decay", NAN}, {NULL, 0}}, 1, &x, NULL, NULL));
  /* every method says what it is and has the limits that all have */
  for (int k = 0; pl_optimizer_method(k); k++) {
    const char *name = pl_optimizer_method(k);
    assert_non_null(pl_optimizer_text(name));
    assert_string_equal(pl_optimizer_setting(name, 0)->name, "iterations");
    for (int i = 0; pl_optimizer_setting(name, i); i++) {
      const pl_setting_info *s = pl_optimizer_setting(name, i);
      assert_true(s->text && s->range && (isnan(s->value) || (s->value >= s->least && s->value <= s->most)));
    }
  }
  assert_null(pl_optimizer_setting("newton", 0));
  pl_context_free(c);
}

/* The paper's test functions 1 to 3 (its section 5), from first steps over six decades: the conditions hold at the end.
 */
static double phi(int which, double a, double *d) {
  const double pi = acos(-1);
  switch (which) {
    case 0: *d = (a * a - 2) / ((a * a + 2) * (a * a + 2)); return -a / (a * a + 2);
    case 1: {
      double b = 0.004, s = a + b;
      *d = pow(s, 3) * (5 * s - 8);
      return pow(s, 5) - 2 * pow(s, 4);
    }
    default: {
      double b = 0.01, l = 39, p = a <= 1 - b ? 1 - a : a >= 1 + b ? a - 1 : (a - 1) * (a - 1) / (2 * b) + b / 2;
      double q = a <= 1 - b ? -1 : a >= 1 + b ? 1 : (a - 1) / b;
      *d = q + (1 - b) * cos(l * pi * a / 2);
      return p + 2 * (1 - b) / (l * pi) * sin(l * pi * a / 2);
    }
  }
}
static void test_line_search(void **state) {
  (void)state;
  for (int which = 0; which < 3; which++)
    for (double first = 1e-3; first < 2e3; first *= 10) {
      double d0, d, f0 = phi(which, 0, &d0), f;
      pl_line_search s;
      pl_line_search_start(&s, f0, d0, first, 1e10);
      pl_search_status status;
      do {
        f = phi(which, s.step, &d);
        status = pl_line_search_next(&s, f, d);
      } while (status == PL_SEARCH_EVALUATE);
      if (status != PL_SEARCH_DONE) fail_msg("function %d from %g: status %d", which + 1, first, (int)status);
      assert_true(f <= f0 + 1e-4 * s.step * d0 && fabs(d) <= 0.9 * fabs(d0));
      assert_true(s.evaluations <= 15);
    }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_rosenbrock),  cmocka_unit_test(test_scaling),
                                     cmocka_unit_test(test_bounds),      cmocka_unit_test(test_published),
                                     cmocka_unit_test(test_faults),      cmocka_unit_test(test_determinism),
                                     cmocka_unit_test(test_line_search), cmocka_unit_test(test_adam_steps),
                                     cmocka_unit_test(test_adam_ends),   cmocka_unit_test(test_settings)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
