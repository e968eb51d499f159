/* pattern.h: where a sparse matrix has entries. A pattern is immutable and interned: equal structure is one object, so
 * that what depends on structure alone (transposes, unions, products, symbolic factors) is made once and found again.
 */
#ifndef PL_PATTERN_H
#define PL_PATTERN_H

#include "object.h"

/* Rows (columns) one after another with entries at the same distances from the diagonal, as a stencil's: see
 * csr_run_args. */
typedef struct {
  bool looked;
  int32_t n; /* 0: there are none worth it */
  int32_t *start, *first, *off, *from, *step;
} pl_runs;

typedef struct pl_pattern {
  pl_object base;
  int32_t rows, cols, nnz;
  int32_t *row_ptr, *col; /* CSR: columns of row i are col[row_ptr[i]] ..., sorted, without repeats; 0-based */
  /* by columns, made when first needed: entry t of column j is ours[t], in row row[t] */
  int32_t *col_ptr, *row, *ours;
  pl_runs runs[2];              /* by rows, by columns, when first needed */
  struct pl_symbolic *symbolic; /* the direct solvers' analyses (solve/direct.c) */
} pl_pattern;

/* Whole numbers and patterns, interned: what a plan is made from where that is more than two patterns. */
typedef struct pl_list {
  pl_object base;
  int64_t n;
  int32_t *data;
  int n_held;
  pl_object *held[]; /* patterns; NULL is allowed */
} pl_list;

/* What is known about patterns together (or one, or with lists of indices): the resulting pattern, and either maps of
 * values or the triples of a product: entry c of the result gets a[i]*b[j]. */
typedef enum {
  PL_PLAN_SUM,       /* map_a, map_b: where the values of each go */
  PL_PLAN_TRANSPOSE, /* map_a: where values come from */
  PL_PLAN_PRODUCT,
  PL_PLAN_KRON,
  PL_PLAN_GRAM,
  PL_PLAN_TRIPLETS,  /* map_a: where values go */
  PL_PLAN_HADAMARD,  /* map_a, map_b: where the values of each come from */
  PL_PLAN_FLAT,      /* map_a: places in the dense matrix, row by row */
  PL_PLAN_INDICES,   /* map_a, map_b: rows, columns */
  PL_PLAN_DIAGONAL,  /* map_a: its values; map_b: their places on it */
  PL_PLAN_SELECT,    /* rows and columns; map_a: where values come from */
  PL_PLAN_PICK,      /* single entries; map_a: where they come from, nnz + 1 where there is none */
  PL_PLAN_BLOCK,     /* map_a: where values come from in those of all blocks, one after another */
  PL_PLAN_FREE,      /* map_a: the indices that are not in a list; map_b: those that are */
  PL_PLAN_DIRICHLET, /* rows and columns replaced by those of the identity; map_a: nnz + 1 is a one */
} pl_plan_kind;

enum { PL_PLAN_VALUES = 4 };

typedef struct pl_plan {
  pl_object base;
  pl_plan_kind kind;
  pl_pattern *out;
  pl_pattern *via;       /* gram: the linear map from weights to values; out is then K */
  pl_value map_a, map_b; /* 1-based i64 */
  int64_t n;             /* triples */
  int32_t *triple[3];    /* c, a, b, in the order of c */
  int32_t sizes[3];      /* how many values c, a and b have */
  struct {
    int32_t *ptr, *first, *second; /* for output r: its triples, and the other two indices in the order c, a, b */
  } role[3];
  struct {
    pl_value of, values; /* gram: the map's values for B's values `of`, the last few */
  } made[PL_PLAN_VALUES];
  int last;
} pl_plan;

extern const pl_object_type pl_pattern_type, pl_plan_type, pl_list_type;

/* Takes copies of the arrays. NULL, and the error set, on an error. */
pl_pattern *pl_pattern_new(pl_context *c, int32_t rows, int32_t cols, const int32_t *row_ptr, const int32_t *col);
/* Takes over arrays of pl_memory_new, also on an error. */
pl_pattern *pl_pattern_adopt(pl_context *c, int32_t rows, int32_t cols, int32_t *row_ptr, int32_t *col);
bool pl_pattern_columns(pl_context *c, pl_pattern *p); /* makes col_ptr, row, ours */
/* NULL where most rows (columns) differ from the one before, or on an error. */
const pl_runs *pl_pattern_runs(pl_context *c, pl_pattern *p, bool columns);
int32_t pl_pattern_entry(const pl_pattern *p, int32_t row, int32_t col); /* 0-based; -1 where there is none */

int32_t *pl_ints_new(pl_context *c, int64_t n); /* room for n, and one more */
/* Takes the array over; retains what is held. */
pl_list *pl_list_new(pl_context *c, int64_t n, int32_t *data, int n_held, pl_pattern *const *held);
/* For each of n 1-based index vectors, or PL_NONE for all (1 ... size[k]): its length, -1 for all; then their entries,
 * 0-based, one vector after another. `what` names the operation in
 * errors, `names` what each of them counts. */
pl_list *pl_list_indices(pl_context *c, const char *what, int n, const char *const *names, const pl_value *index,
                         const int64_t *size);

/* Plans are remembered by the context, a bounded number of them; those with triples, which ops refer to, are interned
 * too. The returned reference is the caller's. a and b are patterns or lists, number one more whole number, as the kind
 * wants them. */
pl_plan *pl_plan_make(pl_context *c, pl_plan_kind kind, pl_object *a, pl_object *b, int64_t number);
static inline pl_plan *pl_plan_get(pl_context *c, pl_plan_kind kind, pl_pattern *a, pl_pattern *b) {
  return pl_plan_make(c, kind, (pl_object *)a, (pl_object *)b, kind == PL_PLAN_GRAM);
}
/* A plan with triples from its parts; takes the arrays (of pl_memory_new) over, retains the patterns (via may be NULL).
 */
pl_plan *pl_plan_new(pl_context *c, pl_plan_kind kind, pl_pattern *out, pl_pattern *via, const int32_t *sizes,
                     int64_t n, int32_t *const *triple);
/* From 1-based index tensors; duplicates are summed. */
pl_plan *pl_plan_triplets(pl_context *c, pl_value i, pl_value j, int64_t rows, int64_t cols);
bool pl_plan_role(pl_context *c, pl_plan *plan, int role);
void pl_memo_free(pl_context *c);

/* maps.c: the plans that are maps of values */
bool pl_patterns_differ(pl_context *c, const char *what, const pl_pattern *a, const pl_pattern *b); /* false */
#define PL_MAKER(name) bool name(pl_context *c, pl_plan *p, pl_object *of, pl_object *with, int64_t number)
PL_MAKER(pl_make_sum);
PL_MAKER(pl_make_hadamard);
PL_MAKER(pl_make_transpose);
PL_MAKER(pl_make_triplets);
PL_MAKER(pl_make_flat);
PL_MAKER(pl_make_indices);
PL_MAKER(pl_make_diagonal);
PL_MAKER(pl_make_select);
PL_MAKER(pl_make_pick);
PL_MAKER(pl_make_block);
PL_MAKER(pl_make_free);
PL_MAKER(pl_make_dirichlet);

void pl_symbolic_free(pl_context *c, struct pl_symbolic *s); /* solve/direct.c */

#endif
