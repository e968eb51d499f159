/* schedule.h: who runs a kernel where. Owns threads and blocks; results never depend on either. */
#ifndef PL_SCHEDULE_H
#define PL_SCHEDULE_H

#include "op.h"

enum { PL_BLOCK = 1024 }; /* elements that stay in L1 across the operands of a program of elementwise ops */

/* Calls kernel(args, lo, hi) over [0, n) in pieces of a whole number of `grain` indices, on threads where n*work (in
 * elementary operations) is worth it. Stops early, with the error set, on an interrupt. */
void pl_for(pl_context *c, pl_kernel kernel, const void *args, int64_t n, int64_t grain, double work);

/* Blocks of work put what they hold into buckets, one block's behind another's: turns how many go from each block to
 * each bucket, {blocks, buckets}, into where the first of them stands. */
void pl_bucket_starts(int64_t *counts, int64_t blocks, int64_t buckets);

/* Of BLAS, where it differs from what was set last: it belongs to the process. */
void pl_blas_threads(int threads);

/* Runs an elementwise op's kernel for n elements of the output's shape, broadcasting inputs as it goes. */
void pl_elementwise(const pl_call *call, pl_dtype dtype, pl_slot *out);

/* The same without ceremony for few elements of equal shapes and no parameters. */
static inline bool pl_elementwise_small(const pl_op *op, int n, pl_slot *const *in, pl_slot *out) {
  pl_kernel fn = op->fn[in[0]->dtype];
  if (out->count > 4 * PL_BLOCK || op->attrs[0].name || !fn) return false;
  const void *p[3];
  for (int k = 0; k < n; k++) p[k] = in[k]->data;
  p[n] = out->data;
  fn(p, 0, out->count);
  return true;
}

/* Sets the kernel's real parameters at p, in dtype; returns the end. */
char *pl_kernel_reals(char *p, pl_dtype dtype, int n, const double *x);

#endif
