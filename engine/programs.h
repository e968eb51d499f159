/* programs.h: programs made by tracing, for hosts. See body.h for what they are inside.
 *
 *   pl_trace *t = pl_trace_like(c, n, models, n, x);       // from here on ops are recorded by their shapes alone
 *   y = pl_apply1(c, op, 1, x, NULL);
 *   pl_body *b = pl_trace_end(t, 1, &y);
 *   m = pl_trace_captures(c, t, captured);                 // inputs of b behind the n given ones; they live as long as
 * t pl_apply(c, pl_op_find("call"), n + m, inputs, (pl_attr[]){PL_OBJECT(pl_body_object(b)), PL_INT(0)}, out);
 *   pl_trace_free(c, t); pl_body_release(b);
 *
 * The ops that run programs are rows of the op table: call, scan, scan_reverse, while, cond (ops/control.c states their
 * inputs and attributes). */
#ifndef PL_PROGRAMS_H
#define PL_PROGRAMS_H

#include "perilune.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pl_tape pl_trace;
typedef struct pl_body pl_body;

/* Inputs shaped like the models; from number `whole` on like one entry of their first axis. NULL, and the error set. */
PL_API pl_trace *pl_trace_like(pl_context *c, int n, const pl_value *models, int whole, pl_value *inputs);
PL_API pl_body *pl_trace_end(pl_context *c, pl_trace *t, int n_out, const pl_value *outputs);
/* What the body reads beside the inputs given; list may be NULL, to count. */
PL_API int pl_trace_captures(pl_context *c, pl_trace *t, pl_value *list);
PL_API void pl_trace_free(pl_context *c, pl_trace *t); /* also without having ended it */
/* A number of t, which may lie further out than the innermost trace, as a value: i64 in cell `cell` of the vector of
 * t's numbers, its last capture. It may be set until the captures are asked for. */
PL_API pl_value pl_trace_integer(pl_context *c, pl_trace *t, int64_t x, int64_t *cell);
PL_API bool pl_trace_set_integer(pl_context *c, pl_trace *t, int64_t cell, int64_t x);
/* Before t ends: takes back its last input, which nothing has read. */
PL_API bool pl_trace_drop(pl_context *c, pl_trace *t);
PL_API bool pl_tracing(const pl_context *c);

PL_API pl_object *pl_body_object(pl_body *b);
PL_API void pl_body_retain(pl_body *b);
PL_API void pl_body_release(pl_body *b);
PL_API void pl_body_size(const pl_body *b, int *inputs, int *outputs, int64_t *instructions, int64_t *values);
PL_API int pl_op_count(const pl_op *op, const pl_attr *attrs); /* of outputs, which may depend on the attributes */
/* The program of b's outputs and then the gradient of the first in each flagged input; reached tells which have a path.
 */
PL_API pl_body *pl_body_with_gradient(pl_context *c, pl_body *b, const uint8_t *need, uint8_t *reached);
/* The program of b's outputs and then their tangents; its inputs are b's and then a tangent for each flagged input. */
PL_API pl_body *pl_body_with_tangents(pl_context *c, pl_body *b, const uint8_t *active);
/* Runs a body over arrays of the caller, without making values; for bodies that are short (some thousands of
 * operations, no loops). Arrays are 64-byte aligned and may be read, and for outputs written, to the end of their last
 * 64 bytes. */
PL_API bool pl_body_is_short(pl_context *c, pl_body *b);
PL_API bool pl_body_run(pl_context *c, pl_body *b, const void *const *inputs, void *const *outputs);
/* The program for n entries at once: its flagged inputs, at least one, and all its outputs have a new first axis of n.
 */
PL_API pl_body *pl_body_mapped(pl_context *c, pl_body *b, int64_t n, const uint8_t *flags);
/* The body's instructions one by one as ops of their own. values has room for as many as it has values. */
PL_API bool pl_body_inline(pl_context *c, const pl_body *b, const pl_value *inputs, pl_value *values,
                           pl_value *outputs);

/* A program on disk: the body, the values of its last n_captured inputs and a text of the host's (any bytes), in one
 * file that holds no code; ops are found by their names. An older file at the path stays whole until the new one is.
 * All of the body's inputs, constants and results must be tensors. False, and the error set, on an error. */
PL_API bool pl_body_save(pl_context *c, const pl_body *b, int n_captured, const pl_value *captured, const char *text,
                         size_t text_length, const char *path);
/* Reads one, trusting nothing in it. Writes the captured values, at most that many, as the caller's own, and the text,
 * which ends in a 0 that is not counted and is given back to free(). NULL, and the error set, on an error. */
PL_API pl_body *pl_body_load(pl_context *c, const char *path, int most, pl_value *captured, int *n_captured,
                             char **text, size_t *text_length);

/* F(u, theta...) = 0 for a body F of one output {n} (or two: its Jacobian, checked where it starts) and the inputs {n},
 * theta...; inputs[0] is where to start; with bounds, two more inputs {n}, lo and hi, follow. Outputs: u; the record,
 * the bits of f64 numbers as i64: why it ended (pl_solve_end), counts, and the residuals' norms. Derivatives are the
 * implicit function's; the record has none. pl_solve_reals gives all of the record as f64. */
enum { PL_NEWTON_OUTPUTS = 2 };
typedef enum {
  PL_CONVERGED,
  PL_TOO_MANY_ITERATIONS,
  PL_NO_DESCENT,
  PL_NOT_FINITE,
  PL_SINGULAR_JACOBIAN,
  PL_LINEAR_STAGNATION
} pl_solve_end;
enum { R_END, R_ITERATIONS, R_RESIDUAL, R_FIRST, R_EVALUATIONS, R_JACOBIANS, R_LINEAR, R_HISTORY }; /* the record */
typedef enum { PL_SEARCH_NONE, PL_SEARCH_BACKTRACK, PL_SEARCH_DOGLEG, PL_SEARCH_TRANSIENT, PL_SEARCHES } pl_search;
typedef struct {
  int64_t iterations; /* at most; 50 */
  double atol, rtol; /* converged when |F| <= atol + rtol |F at the start|; 1e-12, 1e-10; then one more step is tried */
  pl_search search;  /* backtrack */
  double step_limit; /* the largest change of a component in a step; 0: any */
  bool bounded;      /* steps are projected on bounds, the last two inputs */
  bool unchecked;    /* a failure is told in the record, and is an error only where it is differentiated */
  bool krylov;       /* the Jacobian's products with vectors are enough (GMRES) */
  pl_object *pattern; /* of a Jacobian that is given: then F's second output are its values; without, a tensor {n, n} */
  /* The equations' names, for messages: for each part in turn its number of equations, its rank, shape, the length of
   * its name and the name's bytes. */
  int n_names;
  const int64_t *names;
} pl_newton_options;
PL_API pl_newton_options pl_newton_defaults(void);
PL_API bool pl_newton(pl_context *c, pl_body *f, const pl_newton_options *options, int n, const pl_value *inputs,
                      pl_value *outputs);

/* f(y, theta) = 0 for each element of y by itself; f elementwise in y. inputs: lo or a start, theta..., then hi where
 * bracketed. Outputs as newton's. */
typedef struct {
  int64_t iterations; /* 100 */
  double rtol;        /* of y; 4 roundings */
  bool bracketed, unchecked;
} pl_root_options;
PL_API pl_root_options pl_root_defaults(void);
PL_API bool pl_root(pl_context *c, pl_body *f, const pl_root_options *options, int n, const pl_value *inputs,
                    pl_value *outputs);

/* u = g(u, theta) for a body g of one output {n} and the inputs {n}, theta...; by Anderson's acceleration. Outputs as
 * newton's. */
typedef struct {
  int64_t iterations, depth; /* 200; how many differences are kept, 5 (at most 50; 0: plain iteration) */
  double damping;            /* of g(u) - u, 1 */
  double atol, rtol;         /* converged when |g(u) - u| <= atol + rtol |that at the start|; 1e-14, 1e-12 */
  bool unchecked, krylov;    /* krylov: derivatives by products with the Jacobian alone */
  int n_names;
  const int64_t *names;
} pl_fixed_point_options;
PL_API pl_fixed_point_options pl_fixed_point_defaults(void);
PL_API bool pl_fixed_point(pl_context *c, pl_body *g, const pl_fixed_point_options *options, int n,
                           const pl_value *inputs, pl_value *outputs);

/* The u where phi(u, theta), a body with one result of rank 0, is least nearby. Outputs as newton's; the residual is
 * the gradient. */
typedef struct {
  int64_t iterations; /* 100 */
  double atol, rtol;  /* of the gradient's norm; 1e-12, 1e-10 */
  bool unchecked;
  int n_names;
  const int64_t *names;
} pl_argmin_options;
PL_API pl_argmin_options pl_argmin_defaults(void);
PL_API bool pl_argmin(pl_context *c, pl_body *phi, const pl_argmin_options *options, int n, const pl_value *inputs,
                      pl_value *outputs);
/* The program of F's Jacobian's values, in its pattern's order, as newton runs it; it is f's. */
PL_API pl_body *pl_newton_jacobian(pl_context *c, pl_body *f, const pl_value *inputs);
PL_API pl_value pl_solve_reals(pl_context *c, pl_value record);

/* For tests and for looking into programs: they run instruction by instruction, as they were traced; and the first
 * result that is not finite is an error that names its op and line. */
PL_API void pl_set_plain(pl_context *c, bool plain, bool check_finite);
/* The optimized program as text, to be freed by pl_text_free. NULL, and the error set, when memory is short. */
PL_API char *pl_body_text(pl_context *c, pl_body *b);
PL_API void pl_text_free(pl_context *c, char *text);
/* The optimal schedule's first checkpoint for that many steps. */
PL_API int64_t pl_checkpoint_split(int64_t steps, int64_t checkpoints);

#ifdef __cplusplus
}
#endif
#endif
