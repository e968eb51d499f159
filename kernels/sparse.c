/* Sparse rows: products with vectors, their adjoint in the values, and products of values. */
#include "kernel.h"
#include "shapes.h"

#if PL_FLOATING
typedef csr_args spmv_args;
PL_ROW_KERNEL(spmv) {
  const real *v = (const real *)a.v, *x = (const real *)a.x;
  real *y = (real *)a.y + i*a.k;
  for (int64_t c = 0; c < a.k; c++) {
    real s = 0;
    for (int32_t t = a.ptr[i]; t < a.ptr[i + 1]; t++) s += v[a.map ? a.map[t] : t]*x[a.index[t]*a.k + c];
    y[c] = s;
  }
}

typedef csr_args sddmm_args;
PL_ROW_KERNEL(sddmm) {
  const real *g = (const real *)a.v + i*a.k, *x = (const real *)a.x;
  real *y = (real *)a.y;
  for (int32_t t = a.ptr[i]; t < a.ptr[i + 1]; t++) {
    real s = 0;
    for (int64_t c = 0; c < a.k; c++) s += g[c]*x[a.index[t]*a.k + c];
    y[t] = s;
  }
}

typedef triple_args sparse_product_args;
PL_ROW_KERNEL(sparse_product) {
  const real *p = (const real *)a.p, *q = (const real *)a.q;
  real s = 0;
  for (int32_t t = a.ptr[i]; t < a.ptr[i + 1]; t++) s += p[a.first[t]]*q[a.second[t]];
  ((real *)a.y)[i] = s;
}
#endif
