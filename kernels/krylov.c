/* Vectors of Krylov methods: sums of two, and dot products by blocks, whose sums do not depend on threads. */
#include "kernel.h"
#include "shapes.h"

typedef struct { const real *x, *y; real *z; real a, b; } krylov_combine_args;
PL_KERNEL(krylov_combine) { a.z[i] = a.a*a.x[i] + a.b*a.y[i]; }

PL_ROW_KERNEL(krylov_dot) {
  const real *x = (const real *)a.x + i*KRYLOV_BLOCK, *y = (const real *)a.y + i*KRYLOV_BLOCK;
  int64_t n = a.n - i*KRYLOV_BLOCK, k = 0;
  if (n > KRYLOV_BLOCK) n = KRYLOV_BLOCK;
  real s[8] = {0};
  for (; k + 8 <= n; k += 8)
    for (int l = 0; l < 8; l++) s[l] += x[k + l]*y[k + l];
  for (int l = 0; k < n; k++, l++) s[l] += x[k]*y[k];
  ((real *)a.z)[i] = ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}
