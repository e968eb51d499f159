/* chain.c: a fixed chain of 200 ops on 8 doubles through the engine alone: ns an op, forward (recorded) and forward
 * with the gradient; the smallest of many rounds. Prints "forward both value gradient". */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "perilune.h"

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

enum { ROUNDS = 3000, OPS = 200 };

int main(void) {
  pl_context *c = pl_context_new();
  const pl_op *add = pl_op_find("add"), *mul = pl_op_find("mul"), *sub = pl_op_find("sub"), *th = pl_op_find("tanh"),
              *sum = pl_op_find("sum");
  double data[3][8];
  for (int i = 0; i < 8; i++) {
    data[0][i] = 0.1 * (i + 1);
    data[1][i] = 0.9 + 0.01 * i;
    data[2][i] = 0.05 * i;
  }
  pl_value v[3];
  for (int k = 0; k < 3; k++) v[k] = pl_tensor(c, PL_F64, 1, (int64_t[]){8}, data[k]);
  static double forward[ROUNDS], both[ROUNDS];
  double value = 0, gradient = 0;
  int source = pl_source(c, "chain");
  for (int r = 0; r < ROUNDS; r++) {
    pl_value p[3], g[3];
    double t0 = now();
    pl_region *region = pl_region_open(c, 3, v, NULL, p);
    pl_value x = p[0];
    for (int k = 0; k < OPS / 4; k++) {
      pl_set_line(c, source, k);
      pl_value in[2] = {x, p[1]};
      x = pl_apply1(c, mul, 2, in, NULL);
      in[0] = x, in[1] = p[2];
      x = pl_apply1(c, add, 2, in, NULL);
      x = pl_apply1(c, th, 1, &x, NULL);
      in[0] = x, in[1] = p[2];
      x = pl_apply1(c, sub, 2, in, NULL);
    }
    double t1 = now();
    pl_attr all[] = {PL_INTS(-1, NULL), PL_INT(0)};
    pl_value y = pl_apply1(c, sum, 1, &x, all);
    pl_region_close(region);
    value = pl_item(c, y);
    pl_region_vjp(region, 1, &y, NULL, g, NULL, true);
    pl_region_free(region);
    double t2 = now();
    gradient = ((const double *)pl_data(c, g[1]))[3];
    for (int k = 0; k < 3; k++) pl_release(c, g[k]);
    forward[r] = (t1 - t0) / OPS;
    both[r] = (t2 - t0) / OPS;
  }
  qsort(forward, ROUNDS, sizeof *forward, compare);
  qsort(both, ROUNDS, sizeof *both, compare);
  printf("%.1f %.1f %.17g %.17g\n", 1e9 * forward[ROUNDS / 2], 1e9 * both[ROUNDS / 2], value, gradient);
  if (pl_error_status(c)) return fprintf(stderr, "%s\n", pl_error_message(c)), 1;
  pl_context_free(c);
  return 0;
}
