/* Ops that a host defines, and ops from C files, without Lua. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "body.h"
#include "helpers.h"
#include "user_op.h"

static double at(pl_context *c, pl_value v, int i) { return ((const double *)pl_data(c, v))[i]; }

/* y = x^3, its vjp in operations */
static int calls, released;
static pl_value last;
static bool cube(const pl_rule *r, const pl_value *in, pl_value *out) {
  const double *x = pl_data(r->c, in[0]);
  if (!x) return false;
  calls++;
  last = in[0];
  out[0] = pl_tensor(r->c, PL_F64, r->expected[0].rank, r->expected[0].shape, NULL);
  double *y = (double *)pl_data(r->c, out[0]);
  for (int64_t i = 0; y && i < r->expected[0].count; i++) y[i] = x[i] * x[i] * x[i];
  return y != NULL;
}
static bool cube_vjp(const pl_rule *r, const pl_value *in, pl_value *out) {
  pl_context *c = r->c;
  bool alone = pl_owns(c);
  if (alone) pl_scope_begin(c);
  pl_value x2 = two(c, "mul", in[2], in[2]), gx2 = two(c, "mul", in[0], x2);
  out[0] = two(c, "mul", gx2, pl_constant(c, PL_F64, 3));
  pl_retain(c, out[0]);
  if (alone) pl_scope_end(c);
  return out[0] != PL_NONE;
}
static void release(void *data) { ++*(int *)data; }

static pl_value second(pl_context *c, const pl_op *op, pl_value x, pl_value t, bool forward_first) {
  pl_value in, y, g = PL_NONE, dy;
  pl_region *r = pl_region_open(c, 1, &x, NULL, &in);
  y = total(c, pl_apply1(c, op, 1, &in, NULL));
  if (forward_first) {
    pl_region_jvp(r, 1, &y, &t, &dy);
    pl_region_close(r);
    pl_region_vjp(r, 1, &dy, NULL, &g, NULL, true);
  } else {
    pl_region *inner;
    pl_value alias, ga;
    inner = pl_region_open(c, 1, &in, NULL, &alias);
    y = total(c, pl_apply1(c, op, 1, &alias, NULL));
    pl_region_close(inner);
    pl_region_vjp(inner, 1, &y, NULL, &ga, NULL, false);
    pl_region_free(inner);
    pl_value dot = total(c, two(c, "mul", ga, t));
    pl_region_close(r);
    pl_region_vjp(r, 1, &dot, NULL, &g, NULL, true);
  }
  pl_region_free(r);
  return g;
}

static void defined(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  calls = released = 0;
  pl_op_definition d = {.name = "cube",
                        .inputs = 1,
                        .outputs = 1,
                        .data = &released,
                        .release = release,
                        .forward = cube,
                        .vjp = cube_vjp};
  const pl_op *op = pl_op_define(c, &d);
  assert_non_null(op);
  assert_ptr_equal(pl_op_find_in(c, "cube"), op);
  assert_null(pl_op_find_in(c, "sphere"));
  assert_null(pl_op_find("cube"));
  assert_string_equal(pl_op_identity(c, op), "cube");
  pl_value x = vector(c, 2, (double[]){2, -3}), t = vector(c, 2, (double[]){1, 10});
  pl_value y = pl_apply1(c, op, 1, &x, NULL);
  assert_true(at(c, y, 0) == 8 && at(c, y, 1) == -27);
  assert_int_equal(calls, 1);
  assert_int_equal(pl_live_values(c), 3);
  assert_true(pl_data(c, last) == NULL); /* the input's handle died with the call */
  assert_error(c, PL_ERROR_STALE, "op's call");
  for (int way = 0; way < 2; way++) { /* 6 x t, through the jvp made of the vjp, and through the vjp's own derivative */
    pl_value h = second(c, op, x, t, way);
    assert_int_equal(pl_error_status(c), PL_OK);
    assert_true(at(c, h, 0) == 12 && at(c, h, 1) == -180);
    pl_release(c, h);
  }
  pl_release(c, y);
  assert_int_equal(pl_live_values(c), 4); /* and the constant 3 */

  assert_null(pl_op_define(c, &(pl_op_definition){.name = "add", .inputs = 1, .outputs = 1, .forward = cube}));
  assert_error(c, PL_ERROR_ARGUMENT, "already");
  d.inputs = 0;
  assert_null(pl_op_define(c, &d));
  assert_int_equal(released, 1); /* what a definition brought goes with it */
  assert_error(c, PL_ERROR_ARGUMENT, "1 to 32 inputs");
  d.inputs = 1;
  d.name = "plain";
  d.vjp = NULL;
  op = pl_op_define(c, &d);
  pl_value in, g;
  pl_region *r = pl_region_open(c, 1, &x, NULL, &in);
  y = total(c, pl_apply1(c, op, 1, &in, NULL));
  pl_region_close(r);
  pl_region_vjp(r, 1, &y, NULL, &g, NULL, true);
  assert_error(c, PL_ERROR_TYPE, "op plain has no derivative; give vjp or jvp");
  pl_region_free(r);
  pl_context_free(c);
  assert_int_equal(released, 3);
}

/* In a scan and its gradient; an allocation that fails at any point is an error and leaves nothing. */
static void in_programs(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  const pl_op *op =
      pl_op_define(c, &(pl_op_definition){.name = "cube", .inputs = 1, .outputs = 1, .forward = cube, .vjp = cube_vjp});
  pl_value x = vector(c, 3, (double[]){0.5, 0.9, 1}), traced, y, in, g;
  pl_trace *t = pl_trace_like(c, 1, &x, 1, &traced);
  y = pl_apply1(c, op, 1, &traced, NULL);
  pl_body *b = pl_trace_end(c, t, 1, &y);
  pl_trace_free(c, t);
  pl_attr attrs[] = {PL_OBJECT(pl_body_object(b)), PL_INTS(6, ((int64_t[]){1, 0, 0, 2, 0, 0})), PL_INTS(0, NULL)};
  int64_t live = 0;
  bool done = false;
  for (int fault = -1; !done; fault++) {
    c->fail_after = fault;
    pl_region *r = pl_region_open(c, 1, &x, NULL, &in);
    bool ok = r != NULL;
    ok = ok && pl_apply(c, pl_op_find("scan"), 1, &in, attrs, &y);
    if (ok) y = total(c, y);
    pl_region_close(r);
    ok = ok && pl_region_vjp(r, 1, &y, NULL, &g, NULL, true);
    pl_region_free(r);
    c->fail_after = -1;
    if (ok) { /* d x^9 = 9 x^8 */
      for (int i = 0; i < 3; i++) assert_true(fabs(at(c, g, i) - 9 * pow((double[]){0.5, 0.9, 1}[i], 8)) < 1e-14);
      pl_release(c, g);
      done = fault >= 0;
    } else {
      assert_int_equal(pl_error_status(c), PL_ERROR_MEMORY);
      pl_clear(c);
    }
    if (fault == -1) live = pl_live_values(c);
    assert_int_equal(pl_live_values(c), live);
  }
  pl_body_release(b);
  pl_context_free(c);
}

/* ---- from C files ---- */

static char folder[64];

static const char *write_file(const char *name, const char *text) {
  static char path[128];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *f = fopen(path, "w");
  assert_non_null(f);
  fputs(text, f);
  fclose(f);
  return path;
}

static const char SOFT[] =
    "#include \"perilune_op.h\"\n"
    "PL_OP(soft, \"b log(1 + exp(x/b))\", 2)\n"
    "PL_FORWARD { return x[1]*log1p(exp(x[0]/x[1])); }\n"
    "PL_PARTIALS {\n"
    "  const real z = x[0]/x[1], s = 1/(1 + exp(-z));\n"
    "  d[0] = s;\n"
    "  d[1] = y/x[1] - z*s;\n"
    "}\n"
    "PL_SECOND {\n"
    "  const real z = x[0]/x[1], s = 1/(1 + exp(-z)), u = s*(1 - s)/x[1];\n"
    "  h[0][0] = u;\n"
    "  h[1][0] = -z*u;\n"
    "  h[1][1] = z*z*u;\n"
    "}\n";

static void loaded(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  const char *path = write_file("soft.c", SOFT);
  const pl_op *op = pl_op_load(c, path);
  if (!op) fail_msg("%s", pl_error_message(c));
  assert_ptr_equal(pl_op_load(c, path), op);
  assert_ptr_equal(pl_op_find_in(c, "soft"), op);
  assert_ptr_equal(pl_op_find_in(c, pl_op_identity(c, op)), op);
  assert_memory_equal(pl_op_identity(c, op), "soft#", 5);
  enum { N = 1003 };
  double x[N];
  for (int i = 0; i < N; i++) x[i] = (i - 500) * 0.01;
  pl_value in[] = {vector(c, N, x), pl_scalar(c, PL_F64, 0.5)}, aliases[2], g[2];
  pl_region *r = pl_region_open(c, 2, in, NULL, aliases);
  pl_value y = pl_apply1(c, op, 2, aliases, NULL), dy, t[] = {PL_ZERO, pl_scalar(c, PL_F64, 1)};
  for (int i = 0; i < N; i++) assert_true(fabs(at(c, y, i) - 0.5 * log1p(exp(x[i] / 0.5))) < 1e-14);
  y = total(c, y);
  pl_region_jvp(r, 1, &y, t, &dy);
  pl_region_close(r);
  double db = at(c, dy, 0), expected = 0;
  pl_region_vjp(r, 1, &y, NULL, g, NULL, true);
  pl_region_free(r);
  for (int i = 0; i < N; i++) {
    double z = x[i] / 0.5, s = 1 / (1 + exp(-z));
    assert_true(fabs(at(c, g[0], i) - s) < 1e-15);
    expected += log1p(exp(z)) - z * s;
  }
  assert_true(fabs(at(c, g[1], 0) - expected) < 1e-10 && fabs(db - expected) < 1e-10);
  pl_context_free(c);

  c = pl_context_new(); /* compiled already: no compiler is needed */
  setenv("CC", "/nowhere/cc", 1);
  assert_non_null(pl_op_load(c, path));
  assert_null(pl_op_load(
      c, write_file("other.c", "#include \"perilune_op.h\"\nPL_OP(other, \"x\", 1)\nPL_FORWARD { return x[0]; }\n")));
  assert_error(c, PL_ERROR_STATE, "/nowhere/cc is not found");
  unsetenv("CC");
  op = pl_op_load(
      c, write_file("other.c", "#include \"perilune_op.h\"\nPL_OP(other, \"x\", 1)\nPL_FORWARD { return x[0]; }\n"));
  assert_non_null(op);
  pl_value one = pl_scalar(c, PL_F64, 1), alias;
  r = pl_region_open(c, 1, &one, NULL, &alias);
  y = pl_apply1(c, op, 1, &alias, NULL);
  pl_region_close(r);
  pl_region_vjp(r, 1, &y, NULL, g, NULL, true);
  assert_error(c, PL_ERROR_TYPE, "add PL_PARTIALS");
  pl_region_free(r);
  assert_null(pl_op_load(c, write_file("none.c", "#include \"perilune_op.h\"\n")));
  assert_error(c, PL_ERROR_ARGUMENT, "defines no op");
  assert_null(pl_op_load(c, write_file("half.c", "#include \"perilune_op.h\"\nPL_OP(half, \"x\", 1)\n")));
  assert_error(c, PL_ERROR_ARGUMENT, "no PL_FORWARD");
  assert_null(pl_op_load(c, write_file("wrong.c", "#include \"perilune_op.h\"\n\nPL_OP(wrong, \"x\", 1) wrong\n")));
  assert_error(c, PL_ERROR_ARGUMENT, "wrong.c:3:");
  assert_null(pl_op_load(c, "/nowhere/op.c"));
  assert_error(c, PL_ERROR_ARGUMENT, "cannot read /nowhere/op.c");
  assert_null(pl_op_load(c, "/tmp"));
  assert_error(c, PL_ERROR_ARGUMENT, "no C file");
  pl_context_free(c);
}

int main(void) {
  snprintf(folder, sizeof folder, "/tmp/perilune-user-ops-XXXXXX");
  if (!mkdtemp(folder)) return 1;
  setenv("XDG_CACHE_HOME", folder, 1);
  unsetenv("CC");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(defined),
      cmocka_unit_test(in_programs),
      cmocka_unit_test(loaded),
  };
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  char command[128];
  snprintf(command, sizeof command, "rm -rf %s", folder);
  return system(command) || failed;
}
