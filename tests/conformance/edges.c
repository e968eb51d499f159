/* Elementwise ops against the C library's scalar functions on an edge grid: zeros of both signs, tiny, huge, near the
 * edges of domains, infinities and NaN; in f64 and f32. Prints the worst error in units in the last place. Then
 * reductions and moves on empty and single elements, and the conventions that the help states. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "op.h"

static long double sigmoid_(long double x) { return 1 / (1 + expl(-x)); }
static long double softplus_(long double x) { return (x > 0 ? x : 0) + log1pl(expl(-fabsl(x))); }
static long double sign_(long double x) { return x > 0 ? 1 : x < 0 ? -1 : x; }
static long double square_(long double x) { return x * x; }
static long double neg_(long double x) { return -x; }
static long double reciprocal_(long double x) { return 1 / x; }
static long double relu_(long double x) { return x > 0 || isnan(x) ? x : 0; }
static long double leaky_(long double x) { return x; } /* of slope 1 */
static long double elu_(long double x) { return x < 0 ? expm1l(x) : x; }
static long double silu_(long double x) { return x < -12000 ? 0 : x / (1 + expl(-x)); }
static long double gelu_(long double x) { return x < -200 ? 0 : x * 0.5L * erfcl(-x * M_SQRT1_2l); }
static long double softsign_(long double x) { return isinf(x) ? sign_(x) : x / (1 + fabsl(x)); }
static long double sinc_(long double x) {
  long double k = rintl(x), s = sinl(M_PIl * (x - k)) * (fmodl(k, 2) == 0 ? 1 : -1);
  return x == 0 ? 1 : isinf(x) ? 0 : s / (M_PIl * x);
}

static const struct {
  const char *name;
  long double (*f)(long double);
  double ulps; /* glibc promises 4 for its vector functions; sigmoid and softplus are composed of several */
} unary[] = {
    {"exp", expl, 4},           {"log", logl, 4},
    {"log1p", log1pl, 4},       {"expm1", expm1l, 4},
    {"sqrt", sqrtl, 0.51},      {"sin", sinl, 4},
    {"cos", cosl, 4},           {"tan", tanl, 4},
    {"tanh", tanhl, 4},         {"abs", fabsl, 0},
    {"sign", sign_, 0},         {"square", square_, 0.51},
    {"neg", neg_, 0},           {"sigmoid", sigmoid_, 6},
    {"softplus", softplus_, 6}, {"asin", asinl, 4},
    {"acos", acosl, 4},         {"atan", atanl, 4},
    {"sinh", sinhl, 4},         {"cosh", coshl, 4},
    {"asinh", asinhl, 4},       {"acosh", acoshl, 4},
    {"atanh", atanhl, 4},       {"exp2", exp2l, 4},
    {"log2", log2l, 4},         {"log10", log10l, 4},
    {"cbrt", cbrtl, 4},         {"erf", erfl, 4},
    {"erfc", erfcl, 4},         {"floor", floorl, 0},
    {"ceil", ceill, 0},         {"trunc", truncl, 0},
    {"round", rintl, 0},        {"reciprocal", reciprocal_, 0.51},
    {"sinc", sinc_, 6},         {"relu", relu_, 0},
    {"leaky_relu", leaky_, 0},  {"elu", elu_, 4},
    {"silu", silu_, 6},         {"softsign", softsign_, 2},
    {"gelu", gelu_, 6},
};

static const double grid[] = {0.0,  -0.0,  5e-324,  -5e-324,  1e-310, 2.3e-308, 1e-300,  -1e-300, 1e-17, -1e-17,
                              1e-8, -1e-8, 0.1,     -0.1,     0.5,    -0.5,     1,       -1,      1.5,   -1.5,
                              2,    -2,    3.14159, -3.14159, 10,     -10,      19,      -19,     36.7,  -36.7,
                              88,   -88,   700,     -700,     709.7,  -709.7,   745,     -745,    1e4,   -1e4,
                              1e8,  1e15,  1e100,   -1e100,   1e300,  -1e300,   1.7e308, -1.7e308};
enum { GRID = sizeof grid / sizeof *grid, ALL = GRID + 3 };

static double ulp(double x, int dtype) {
  x = fabs(x);
  if (dtype == PL_F32) return fmax((double)(nextafterf((float)x, INFINITY) - (float)x), FLT_TRUE_MIN);
  return nextafter(x, INFINITY) - x;
}

/* The grid, then what is not finite. */
static void whole_grid(double *x) {
  memcpy(x, grid, sizeof grid);
  x[GRID] = INFINITY;
  x[GRID + 1] = -INFINITY;
  x[GRID + 2] = NAN;
}
static double entry(pl_context *c, pl_value v, int dtype, int i) {
  return dtype == PL_F64 ? ((const double *)pl_data(c, v))[i] : (double)((const float *)pl_data(c, v))[i];
}
/* A result for arguments u and (of two) v against the exact one, within so many ulps; the worst error so far. */
static void compare(const char *name, int dtype, double u, double v, double got, long double exact, double ulps,
                    double *worst) {
  const char *in = pl_dtype_name((pl_dtype)dtype);
  double want = dtype == PL_F64 ? (double)exact : (double)(float)exact;
  if (isnan(want) != isnan(got) || (isinf(want) && got != want))
    fail_msg("%s(%g, %g) in %s is %g, not %g", name, u, v, in, got, want);
  if (!isfinite(want)) return;
  /* glibc's vector functions may flush results below the smallest normal number */
  double tiny = dtype == PL_F64 ? DBL_MIN : FLT_MIN;
  if (fabs(want) < tiny && fabs(got) < tiny * 1.001) return;
  double error = (double)fabsl((long double)got - exact) / ulp(want, dtype);
  if (error > *worst) *worst = error;
  if (error > (ulps > 0 ? ulps + 0.01 : 0))
    fail_msg("%s(%.17g, %.17g) in %s is %.17g, not %.17g: %.1f ulp", name, u, v, in, got, want, error);
}

static void functions(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  double x[ALL];
  whole_grid(x);
  for (size_t k = 0; k < sizeof unary / sizeof *unary; k++)
    for (int dtype = PL_F64; dtype <= PL_F32; dtype++) {
      pl_value wide = pl_tensor(c, PL_F64, 1, (int64_t[]){ALL}, x), v = pl_cast(c, wide, (pl_dtype)dtype);
      pl_attr sharpness = PL_REALV(1);
      pl_value y = pl_apply1(c, pl_op_find(unary[k].name), 1, &v, &sharpness);
      double worst = 0;
      for (int i = 0; i < ALL; i++) {
        double in = dtype == PL_F64 ? x[i] : (double)(float)x[i];
        double got = entry(c, y, dtype, i), most = dtype == PL_F64 ? DBL_MAX : FLT_MAX;
        long double exact = unary[k].f(in);
        bool over = isinf(dtype == PL_F64 ? (double)exact : (double)(float)exact) && (got > 0) == (exact > 0);
        if (over && fabs(got) >= most * (1 - 1e-6)) continue; /* one rounding below overflow is none */
        double more = unary[k].f == gelu_ ? in * in : 0;      /* the argument's rounding in e^(-x^2/2) */
        compare(unary[k].name, dtype, in, 0, got, exact, unary[k].ulps > 0 ? unary[k].ulps + more : 0, &worst);
      }
      printf("%-8s %s: %.2f ulp\n", unary[k].name, pl_dtype_name((pl_dtype)dtype), worst);
      pl_release(c, wide);
      if (v != wide) pl_release(c, v);
      pl_release(c, y);
    }
  pl_context_free(c);
}

static long double logaddexp_(long double x, long double z) {
  if (x == z) return x + M_LN2l;
  return fmaxl(x, z) + log1pl(expl(-fabsl(x - z)));
}
static long double heaviside_(long double x, long double z) { return x < 0 ? 0 : x > 0 ? 1 : x == 0 ? z : x; }

static const struct {
  const char *name;
  long double (*f)(long double, long double);
  double ulps;
} binary[] = {{"atan2", atan2l, 4}, {"hypot", hypotl, 4},         {"fmod", fmodl, 0},
              {"pow", powl, 4},     {"logaddexp", logaddexp_, 6}, {"heaviside", heaviside_, 0}};

/* Every pair of the grid. */
static void pairs(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  double x[ALL];
  whole_grid(x);
  for (size_t k = 0; k < sizeof binary / sizeof *binary; k++)
    for (int dtype = PL_F64; dtype <= PL_F32; dtype++) {
      pl_value column = pl_tensor(c, PL_F64, 2, (int64_t[]){ALL, 1}, x),
               row = pl_tensor(c, PL_F64, 1, (int64_t[]){ALL}, x);
      pl_value in[] = {pl_cast(c, column, (pl_dtype)dtype), pl_cast(c, row, (pl_dtype)dtype)};
      pl_value out = pl_apply1(c, pl_op_find(binary[k].name), 2, in, NULL);
      double worst = 0;
      for (int i = 0; i < ALL * ALL; i++) {
        double u = x[i / ALL], v = x[i % ALL];
        if (dtype == PL_F32) u = (float)u, v = (float)v;
        compare(binary[k].name, dtype, u, v, entry(c, out, dtype, i), binary[k].f(u, v), binary[k].ulps, &worst);
      }
      printf("%-9s %s: %.2f ulp\n", binary[k].name, pl_dtype_name((pl_dtype)dtype), worst);
    }
  pl_context_free(c);
}

static pl_value tensor(pl_context *c, int n, const double *x) { return pl_tensor(c, PL_F64, 1, (int64_t[]){n}, x); }
static pl_value reduce(pl_context *c, const char *op, pl_value x) {
  pl_attr attrs[] = {PL_INTS(-1, NULL), PL_INT(0)};
  return pl_apply1(c, pl_op_find(op), 1, &x, attrs);
}
static pl_value gradient(pl_context *c, const char *op, int n, const double *x, double *g) {
  pl_value v = tensor(c, n, x), in, grad, y;
  pl_region *r = pl_region_open(c, 1, &v, NULL, &in);
  y = reduce(c, op, in);
  pl_region_close(r);
  if (!pl_region_vjp(r, 1, &y, NULL, &grad, NULL, true)) fail_msg("%s", c->message);
  memcpy(g, pl_data(c, grad), (size_t)n * sizeof *g);
  pl_region_free(r);
  return grad;
}

static void conventions(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  double g[4];
  pl_value empty = tensor(c, 0, NULL);
  assert_true(pl_item(c, reduce(c, "sum", empty)) == 0);
  assert_true(pl_item(c, reduce(c, "prod", empty)) == 1);
  assert_int_equal(reduce(c, "max", empty), PL_NONE);
  assert_non_null(strstr(c->message, "empty"));
  pl_clear(c);
  assert_true(isnan(pl_item(c, reduce(c, "max", tensor(c, 3, (double[]){1, NAN, 3})))));
  assert_true(isnan(pl_item(c, reduce(c, "min", tensor(c, 3, (double[]){NAN, 1, 3})))));
  gradient(c, "max", 4, (double[]){2, 5, 5, 1}, g); /* ties share */
  assert_true(g[0] == 0 && g[1] == 0.5 && g[2] == 0.5 && g[3] == 0);
  gradient(c, "prod", 4, (double[]){2, 0, 3, 4}, g); /* one zero: no division */
  assert_true(g[0] == 0 && g[1] == 24 && g[2] == 0 && g[3] == 0);
  gradient(c, "prod", 4, (double[]){0, 0, 3, 4}, g);
  assert_true(g[0] == 0 && g[1] == 0 && g[2] == 0);
  gradient(c, "norm2", 3, (double[]){0, 0, 0}, g);
  assert_true(g[0] == 0 && g[1] == 0 && g[2] == 0);
  /* x^z at the edges: powers 0, 1, 2 of 0 */
  pl_value v = tensor(c, 3, (double[]){0, 0, 0}), z = tensor(c, 3, (double[]){0, 1, 2}), in[2], grad[2];
  pl_region *r = pl_region_open(c, 2, (pl_value[]){v, z}, NULL, in);
  pl_value y = reduce(c, "sum", pl_apply1(c, pl_op_find("pow"), 2, in, NULL));
  pl_region_close(r);
  assert_true(pl_region_vjp(r, 1, &y, NULL, grad, NULL, true));
  const double *d = pl_data(c, grad[0]), *e = pl_data(c, grad[1]);
  assert_true(d[0] == 0 && d[1] == 1 && d[2] == 0);
  assert_true(e[0] == 0 && e[1] == 0 && e[2] == 0);
  pl_region_free(r);
  /* whole numbers */
  int64_t a[] = {7, -7, 7, -7, 5, INT64_MIN}, b[] = {3, 3, -3, -3, 0, -1}, m[] = {1, 2, -2, -1, 0, 0};
  pl_value i[] = {pl_tensor(c, PL_I64, 1, (int64_t[]){6}, a), pl_tensor(c, PL_I64, 1, (int64_t[]){6}, b)};
  assert_memory_equal(pl_data(c, pl_apply1(c, pl_op_find("mod"), 2, i, NULL)), m, sizeof m);
  pl_context_free(c);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(functions), cmocka_unit_test(pairs),
                                     cmocka_unit_test(conventions)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
