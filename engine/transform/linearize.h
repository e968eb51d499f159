/* linearize.h: a program's derivative at a point, as a program: what does not depend on the tangent is computed once.
 */
#ifndef PL_LINEARIZE_H
#define PL_LINEARIZE_H

#include "programs.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  pl_body *early;   /* b's inputs -> b's outputs, then what is kept */
  pl_body *tangent; /* a tangent for each active input, then the operands `kept` -> the tangents of b's outputs */
  bool resources;   /* early puts out resources, which only pl_body_inline can */
  int n_kept;
  const int32_t *kept; /* number of an input of b, or behind those of an output of early */
} pl_linearization;

/* What is in l is b's, and stays as long as it. Flags are one byte an input. */
PL_API bool pl_body_linearize(pl_context *c, pl_body *b, const uint8_t *active, pl_linearization *l);
/* The transpose of a body that is linear in its first n inputs: a cotangent for each output, then b's other inputs ->
 * those of the first n (zeros where no path leads). It is b's. */
PL_API pl_body *pl_body_transposed(pl_context *c, pl_body *b, int n);

#ifdef __cplusplus
}
#endif
#endif
