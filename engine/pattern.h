/* pattern.h: where a sparse matrix has entries. A pattern is immutable and interned: equal structure is one object, so
 * that what depends on structure alone (transposes, unions, products, symbolic factors) is made once and found again.
 */
#ifndef PL_PATTERN_H
#define PL_PATTERN_H

#include "object.h"

typedef struct pl_pattern {
  pl_object base;
  int32_t rows, cols, nnz;
  int32_t *row_ptr, *col; /* CSR: columns of row i are col[row_ptr[i]] ..., sorted, without repeats; 0-based */
  /* by columns, made when first needed: entry t of column j is ours[t], in row row[t] */
  int32_t *col_ptr, *row, *ours;
  struct pl_symbolic *symbolic; /* the direct solvers' analyses (solve/direct.c) */
} pl_pattern;

/* What is known about a pair of patterns (or one, or a list of triplets): the resulting pattern, and either maps of
 * values (sum, transpose, triplets) or the triples of a product: entry c of the result gets a[i]*b[j]. */
typedef enum {
  PL_PLAN_SUM,
  PL_PLAN_TRANSPOSE,
  PL_PLAN_PRODUCT,
  PL_PLAN_KRON,
  PL_PLAN_GRAM,
  PL_PLAN_TRIPLETS
} pl_plan_kind;

typedef struct pl_plan {
  pl_object base;
  pl_plan_kind kind;
  pl_pattern *out;
  pl_pattern *via;       /* gram: the linear map from weights to values; out is then K */
  pl_value map_a, map_b; /* 1-based i64: where the values of a (of b) go, or, for a transpose, come from */
  int64_t n;             /* triples */
  int32_t *triple[3];    /* c, a, b, in the order of c */
  int32_t sizes[3];      /* how many values c, a and b have */
  struct {
    int32_t *ptr, *first, *second; /* for output r: its triples, and the other two indices in the order c, a, b */
  } role[3];
  pl_value of, values; /* gram: the map's values for B's values `of` */
} pl_plan;

extern const pl_object_type pl_pattern_type, pl_plan_type;

/* Takes copies of the arrays. NULL, and the error set, on an error. */
pl_pattern *pl_pattern_new(pl_context *c, int32_t rows, int32_t cols, const int32_t *row_ptr, const int32_t *col);
bool pl_pattern_columns(pl_context *c, pl_pattern *p); /* makes col_ptr, row, ours */

/* Plans are remembered by the context, a bounded number of them; those with triples, which ops refer to, are interned
 * too. The returned reference is the caller's. */
pl_plan *pl_plan_get(pl_context *c, pl_plan_kind kind, pl_pattern *a, pl_pattern *b);
/* A plan with triples from its parts; takes the arrays (of pl_memory_new) over, retains the patterns (via may be NULL).
 */
pl_plan *pl_plan_new(pl_context *c, pl_plan_kind kind, pl_pattern *out, pl_pattern *via, const int32_t *sizes,
                     int64_t n, int32_t *const *triple);
/* From 1-based index tensors; duplicates are summed. */
pl_plan *pl_plan_triplets(pl_context *c, pl_value i, pl_value j, int64_t rows, int64_t cols);
bool pl_plan_role(pl_context *c, pl_plan *plan, int role);
void pl_memo_free(pl_context *c);

void pl_symbolic_free(pl_context *c, struct pl_symbolic *s); /* solve/direct.c */

#endif
