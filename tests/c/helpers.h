/* helpers.h: what the engine's tests are written with. */
#ifndef HELPERS_H
#define HELPERS_H

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "programs.h"

static inline pl_value vector(pl_context *c, int n, const double *x) {
  return pl_tensor(c, PL_F64, 1, (int64_t[]){n}, x);
}
/* first, first + step, ... */
static inline pl_value ramp(pl_context *c, int64_t n, double first, double step) {
  pl_value v = pl_tensor(c, PL_F64, 1, &n, NULL);
  for (int64_t i = 0; v != PL_NONE && i < n; i++) ((double *)pl_data(c, v))[i] = first + step * (double)i;
  return v;
}
static inline pl_value one(pl_context *c, const char *op, pl_value x) {
  return pl_apply1(c, pl_op_find(op), 1, &x, NULL);
}
static inline pl_value two(pl_context *c, const char *op, pl_value x, pl_value y) {
  return pl_apply1(c, pl_op_find(op), 2, (pl_value[]){x, y}, NULL);
}
static inline pl_value total(pl_context *c, pl_value x) {
  return pl_apply1(c, pl_op_find("sum"), 1, &x, (pl_attr[]){PL_INTS(-1, NULL), PL_INT(0)});
}
static inline pl_value slice(pl_context *c, pl_value x, int64_t start, int64_t step, int64_t count) {
  pl_attr attrs[] = {PL_INTS(1, &start), PL_INTS(1, &step), PL_INTS(1, &count)};
  return pl_apply1(c, pl_op_find("slice"), 1, &x, attrs);
}

/* The context has this error, whose message contains the text; it is cleared. */
#define assert_error(c, code, text)                                                       \
  do {                                                                                    \
    assert_int_equal(pl_error_status(c), code);                                           \
    if (!strstr(pl_error_message(c), text)) fail_msg("message: %s", pl_error_message(c)); \
    pl_clear(c);                                                                          \
  } while (0)

#endif
