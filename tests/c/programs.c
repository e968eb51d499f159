/* Programs under stress: wide fused groups, long programs, too many inputs, arguments that do not fit. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "execute.h"

static pl_value vector(pl_context *c, int64_t n, double first, double step) {
  pl_value v = pl_tensor(c, PL_F64, 1, &n, NULL);
  for (int64_t i = 0; i < n; i++) ((double *)pl_data(c, v))[i] = first + step * (double)i;
  return v;
}
static pl_value one(pl_context *c, const char *op, pl_value x) { return pl_apply1(c, pl_op_find(op), 1, &x, NULL); }
static pl_value two(pl_context *c, const char *op, pl_value x, pl_value y) {
  return pl_apply1(c, pl_op_find(op), 2, (pl_value[]){x, y}, NULL);
}
static pl_value slice(pl_context *c, pl_value x, int64_t start, int64_t step, int64_t count) {
  pl_attr attrs[] = {PL_INTS(1, &start), PL_INTS(1, &step), PL_INTS(1, &count)};
  return pl_apply1(c, pl_op_find("slice"), 1, &x, attrs);
}
static pl_value total(pl_context *c, pl_value x) {
  return pl_apply1(c, pl_op_find("sum"), 1, &x, (pl_attr[]){PL_INTS(-1, NULL), PL_INT(0)});
}
static bool call(pl_context *c, pl_body *b, int n, const pl_value *in, pl_value *out) {
  return pl_apply(c, pl_op_find("call"), n, in, (pl_attr[]){PL_OBJECT(pl_body_object(b)), PL_INT(0)}, out);
}

#define assert_error(c, code, text)                                                       \
  do {                                                                                    \
    assert_int_equal(pl_error_status(c), code);                                           \
    if (!strstr(pl_error_message(c), text)) fail_msg("message: %s", pl_error_message(c)); \
    pl_clear(c);                                                                          \
  } while (0)

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
      pl_value x = vector(c, 3 * count + n, 0.5, 0.25), in, out;
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

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(many_views),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
