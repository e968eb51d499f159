/* sparse_rows.h: what the families of sparse ops share: their rules' words, products as rules call them, rows. */
#ifndef PL_SPARSE_ROWS_H
#define PL_SPARSE_ROWS_H

#include <stdlib.h>
#include <string.h>

#include "../op.h"
#include "../pattern.h"

/* the pattern is the first attribute */
#define PATTERN(attrs) ((pl_pattern *)(attrs)[0].object)

/* Is input k of shape {n}; of shape {n} or {n, k}? Else the error is set. */
bool pl_sparse_is_vector(const pl_call *call, int k, int64_t n, const char *what);
bool pl_sparse_is_block(const pl_call *call, int k, int64_t n, const char *what);
/* A x or A' x, and its adjoint in the values, sum over c of g[row k, c] x[col k, c]; symbolic zeros go through. attrs:
 * the pattern first. */
pl_value pl_spmv(pl_context *c, pl_value v, pl_value x, const pl_attr *attrs, bool transpose);
pl_value pl_sddmm(pl_context *c, pl_value g, pl_value x, const pl_attr *attrs);
/* for samples; its diagonal is there where it is square */
pl_pattern *pl_sample_pattern(pl_context *c, int32_t rows, int32_t cols);
/* values in [-1, 1), and `most` more on the diagonal */
pl_value pl_sample_diagonal(pl_context *c, pl_sampler_random *r, const pl_pattern *p, double most);

#define OBJECT(name) \
  { name, PL_AS_OBJECT, true, 0 }
#define FLAG(name) \
  { name, PL_AS_FLAG, false, 0 }
#define INT(name) \
  { name, PL_AS_INT, false, 0 }
#define ROW(op, text, ins) .name = op, .formula = text, .inputs = ins, .outputs = 1, .internal = true

#endif
