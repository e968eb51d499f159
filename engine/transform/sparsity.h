/* sparsity.h: where derivatives of programs can be different from zero, and how to get all of their entries from a few
 * products.
 *
 *   pl_compression k;
 *   pl_body_compression(c, b, inputs, 0, 0, false, &k);  // of d output 0 / d input 0: made once, then remembered
 *   ... C = the rows k.seeds pushed (or, reverse, pulled) through the derivative: {colours, rows or columns}
 *   values = gather(C as a vector, k.map)                // in the order of k.pattern's entries
 *
 * Elements of tensors are counted row by row. Inputs are those of the body; their data are read where they are indices
 * that do not depend on the input in question. Where such data are not known (in a trace), all entries are taken as
 * possible. */
#ifndef PL_SPARSITY_H
#define PL_SPARSITY_H

#include "programs.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A reference to a pattern (pl_sparse_size and the like take it), the caller's; NULL, and the error set. */
typedef struct pl_pattern pl_pattern;
PL_API pl_pattern *pl_body_jacobian_pattern(pl_context *c, const pl_body *b, const pl_value *inputs, int out, int in);
/* Of the second derivatives of an output with one element: symmetric. */
PL_API pl_pattern *pl_body_hessian_pattern(pl_context *c, const pl_body *b, const pl_value *inputs, int out, int in);

typedef struct {
  pl_object *pattern;
  pl_value seeds; /* {colours, columns}, or {colours, rows} where reverse: f64 */
  pl_value map;   /* {entries}, i64, 1-based: where each entry stands in C as a vector */
  int64_t colours;
  bool reverse; /* the seeds are cotangents: fewer are needed */
} pl_compression;

/* What is in k is the body's, and stays as long as it. */
PL_API bool pl_body_compression(pl_context *c, pl_body *b, const pl_value *inputs, int out, int in, bool hessian,
                                pl_compression *k);

#ifdef __cplusplus
}
#endif
#endif
