/* elementwise.h: kernels of one and two operands, written as an expression in x and z. */
#ifndef PL_KERNELS_ELEMENTWISE_H
#define PL_KERNELS_ELEMENTWISE_H

#include "kernel.h"

typedef struct { const real *x; real *y; } unary_args;
typedef struct { const real *x, *z; real *y; } binary_args;
typedef struct { const real *x, *z, *w; real *y; } ternary_args;

#define UNARY(name, expression)              \
  typedef unary_args name##_args;            \
  PL_KERNEL(name) { const real x = a.x[i]; a.y[i] = (expression); }
/* The same for expressions that are rounded alike alone and in vectors. */
#define EXACT1(name, expression)                                                      \
  typedef unary_args name##_args;                                                     \
  PL_EXACT_KERNEL(name) { const real x = a.x[i]; a.y[i] = (expression); }             \
  PL_ONE(static void name##_one(const void *p, const void *q, const void *r, void *y) { \
    const real x = *(const real *)p;                                                  \
    (void)q, (void)r;                                                                 \
    *(real *)y = (expression);                                                        \
  })
#define EXACT2(name, expression)                                                      \
  typedef binary_args name##_args;                                                    \
  PL_EXACT_KERNEL(name) { const real x = a.x[i], z = a.z[i]; a.y[i] = (expression); } \
  PL_ONE(static void name##_one(const void *p, const void *q, const void *r, void *y) { \
    const real x = *(const real *)p, z = *(const real *)q;                            \
    (void)r;                                                                          \
    *(real *)y = (expression);                                                        \
  })
#define BINARY(name, expression)             \
  typedef binary_args name##_args;           \
  PL_KERNEL(name) { const real x = a.x[i], z = a.z[i]; a.y[i] = (expression); }

#endif
