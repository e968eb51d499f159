/* perilune_op.h: an op in a C file, for pl.load_op and pl_op_load. The file includes this header and <math.h> at most, and is
 * compiled once for f64 and once for f32: numbers are of type `real`, and exp, log ... are those of `real`.
 *
 * An elementwise op of up to six broadcast inputs is given for one element:
 *
 *   #include "perilune_op.h"
 *   PL_OP(soft_clip, "b*tanh(x/b)", 2)
 *   PL_FORWARD { return x[1]*tanh(x[0]/x[1]); }                    // x: the inputs
 *   PL_PARTIALS {                                                  // d[k] = dy/dx[k]: gradients and tangents follow
 *     const real t = y/x[1];
 *     d[0] = 1 - t*t;
 *     d[1] = t - x[0]/x[1]*(1 - t*t);
 *   }
 *   PL_SECOND { h[0][0] = ...; h[1][0] = ...; h[1][1] = ...; }     // optional: h[k][j], j <= k: second derivatives
 *
 * The bodies are vectorized: no state, no branches that matter for speed, `?:` instead. They may be called on padding.
 *
 * Any other op, with an output like its first input, is given for whole arrays (row-major, of one dtype; vjp and jvp find
 * their results filled with zeros and add to them):
 *
 *   PL_ARRAY_OP(running_sum, "sum of x_j, j <= i", 1)
 *   PL_ARRAY_FORWARD { real s = 0; for (int64_t i = 0; i < x->count; i++) y->data[i] = s += x->data[i]; }
 *   PL_ARRAY_VJP { real s = 0; for (int64_t i = x->count; i-- > 0;) gx->data[i] += s += g->data[i]; }   // reads g, y, x
 *   PL_ARRAY_JVP { real s = 0; for (int64_t i = 0; i < x->count; i++) dy->data[i] += s += t->data[i]; } // reads t, y, x
 *
 * x, gx and t are arrays of arrays, one an input: x[1].data is the second one's. Functions of your own are `static`. */
#ifndef PERILUNE_OP_H
#define PERILUNE_OP_H

#include <stdbool.h>
#include <stddef.h>

#include "kernel.h"

#define PL_BODY static inline __attribute__((always_inline)) /* else the loops around it are not vectorized */
#define PL_EXPORT __attribute__((visibility("default")))

/* What the engine asks the file for, by symbol. */
typedef struct {
  const char *name, *formula;
  int inputs, array;
} pl_file_op;

typedef struct {
  real *data;
  int64_t count;
  const int64_t *shape;
  int32_t rank;
} pl_array;

typedef void (*pl_file_kernel)(const void *args, int64_t lo, int64_t hi);

#define PL_JOIN_(a, b) a##_##b
#define PL_JOIN(a, b) PL_JOIN_(a, b)
#define PL_SYMBOL(name) PL_JOIN(name, PL_DTYPE)

enum { PL_FILE_INPUTS = 6 };

#if PL_DTYPE_ID == 0
#define PL_FILE_OP(name, formula, inputs, array) PL_EXPORT const pl_file_op pl_file = {#name, formula, inputs, array};
#else
#define PL_FILE_OP(name, formula, inputs, array)
#endif
#define PL_OP(name, formula, inputs)                                                   \
  enum { PL_INPUTS = inputs };                                                         \
  _Static_assert(inputs >= 1 && inputs <= 6, "an elementwise op has 1 to 6 inputs");   \
  PL_FILE_OP(name, formula, inputs, 0)
#define PL_ARRAY_OP(name, formula, inputs)                                             \
  enum { PL_INPUTS = inputs };                                                         \
  _Static_assert(inputs >= 1 && inputs <= 32, "an array op has 1 to 32 inputs");       \
  PL_FILE_OP(name, formula, inputs, 1)

/* One kernel: args are the n_in inputs' pointers and the output's; whole vectors are computed. Inputs that an op does not have
 * repeat the first, and are not used. (Arrays of a loop's own would keep it from being vectorized: those of an inlined function
 * do not.) */
typedef struct {
  const real *x0, *x1, *x2, *x3, *x4, *x5, *y;
} pl_pointers;
#define PL_AT(k) p[k < PL_INPUTS ? k : 0]
#define PL_LOOP(name, n_in, result)                                              \
  PL_BODY real name##_one(const pl_pointers a, int64_t i) {                                      \
    const real x[] = {a.x0[i], a.x1[i], a.x2[i], a.x3[i], a.x4[i], a.x5[i]};                     \
    return result;                                                                               \
  }                                                                                              \
  static void name(const void *args, int64_t lo, int64_t hi) {                                  \
    const real *const *p = (const real *const *)args;                                            \
    const pl_pointers a = {PL_AT(0), PL_AT(1), PL_AT(2), PL_AT(3), PL_AT(4), PL_AT(5), p[(n_in)-1]}; \
    real *const out = (real *)p[n_in];                                                           \
    const int64_t whole = 64 / (int64_t)sizeof(real);                                            \
    hi = lo + ((hi - lo + whole - 1) & -whole);                                                  \
    _Pragma("omp simd") for (int64_t i = lo; i < hi; i++) out[i] = name##_one(a, i);             \
  }

#define PL_FORWARD                                                                              \
  PL_BODY real pl_forward(const real *x);                                                         \
  PL_LOOP(pl_forward_range, PL_INPUTS, pl_forward(x))                              \
  PL_EXPORT const pl_file_kernel PL_SYMBOL(pl_forward) = pl_forward_range;                       \
  PL_BODY real pl_forward(const real *x)

/* Partial k reads the inputs and the output y. */
#define PL_PARTIAL(k)                                                                           \
  PL_LOOP(pl_partial_##k, PL_INPUTS + 1, pl_partial_at(x, a.y[i], k < PL_INPUTS ? k : 0))
#define PL_PARTIALS                                                                             \
  PL_BODY void pl_partials(const real *x, real y, real *d);                                       \
  PL_BODY real pl_partial_at(const real *x, real y, int k) {                                      \
    real d[PL_INPUTS] = {0};                                                                    \
    pl_partials(x, y, d);                                                                       \
    return d[k];                                                                                \
  }                                                                                             \
  PL_PARTIAL(0) PL_PARTIAL(1) PL_PARTIAL(2) PL_PARTIAL(3) PL_PARTIAL(4) PL_PARTIAL(5)            \
  PL_EXPORT const pl_file_kernel PL_SYMBOL(pl_partial)[PL_FILE_INPUTS] = {                      \
      pl_partial_0, pl_partial_1, pl_partial_2, pl_partial_3, pl_partial_4, pl_partial_5};      \
  PL_BODY void pl_partials(const real *x, real y, real *d)

#define PL_SECOND_KERNEL(k, j)                                                                  \
  PL_LOOP(pl_second_##k##j, PL_INPUTS + 1,                                        \
                 pl_second_at(x, a.y[i], k < PL_INPUTS ? k : 0, j < PL_INPUTS ? j : 0))
#define PL_SECOND                                                                               \
  PL_BODY void pl_seconds(const real *x, real y, real (*h)[PL_INPUTS]);                           \
  PL_BODY real pl_second_at(const real *x, real y, int k, int j) {                                \
    real h[PL_INPUTS][PL_INPUTS] = {{0}};                                                       \
    pl_seconds(x, y, h);                                                                        \
    return h[k][j];                                                                             \
  }                                                                                             \
  PL_SECOND_KERNEL(0, 0) PL_SECOND_KERNEL(1, 0) PL_SECOND_KERNEL(1, 1) PL_SECOND_KERNEL(2, 0)    \
  PL_SECOND_KERNEL(2, 1) PL_SECOND_KERNEL(2, 2) PL_SECOND_KERNEL(3, 0) PL_SECOND_KERNEL(3, 1)    \
  PL_SECOND_KERNEL(3, 2) PL_SECOND_KERNEL(3, 3) PL_SECOND_KERNEL(4, 0) PL_SECOND_KERNEL(4, 1)    \
  PL_SECOND_KERNEL(4, 2) PL_SECOND_KERNEL(4, 3) PL_SECOND_KERNEL(4, 4) PL_SECOND_KERNEL(5, 0)    \
  PL_SECOND_KERNEL(5, 1) PL_SECOND_KERNEL(5, 2) PL_SECOND_KERNEL(5, 3) PL_SECOND_KERNEL(5, 4)    \
  PL_SECOND_KERNEL(5, 5)                                                                        \
  PL_EXPORT const pl_file_kernel PL_SYMBOL(pl_second)[] = {                                     \
      pl_second_00, pl_second_10, pl_second_11, pl_second_20, pl_second_21, pl_second_22, pl_second_30, \
      pl_second_31, pl_second_32, pl_second_33, pl_second_40, pl_second_41, pl_second_42, pl_second_43, \
      pl_second_44, pl_second_50, pl_second_51, pl_second_52, pl_second_53, pl_second_54, pl_second_55}; \
  PL_BODY void pl_seconds(const real *x, real y, real (*h)[PL_INPUTS])

#define PL_ARRAY_FORWARD PL_EXPORT void PL_SYMBOL(pl_array_forward)(const pl_array *x, const pl_array *y)
#define PL_ARRAY_VJP \
  PL_EXPORT void PL_SYMBOL(pl_array_vjp)(const pl_array *g, const pl_array *y, const pl_array *x, const pl_array *gx)
#define PL_ARRAY_JVP \
  PL_EXPORT void PL_SYMBOL(pl_array_jvp)(const pl_array *t, const pl_array *y, const pl_array *x, const pl_array *dy)

#endif
