/* Sparse rows: products with vectors, their adjoint in the values, and products of values. */
#include "kernel.h"
#include "shapes.h"

#if PL_FLOATING
typedef csr_args spmv_args;
PL_ROW_KERNEL(spmv) {
  const real *v = (const real *)a.v, *x = (const real *)a.x;
  real *y = (real *)a.y;
  const int32_t lo = a.ptr[i], hi = a.ptr[i + 1];
  if (a.k == 1) {
    real s = 0;
    if (a.map)
      for (int32_t t = lo; t < hi; t++) s += v[a.map[t]]*x[a.index[t]];
    else
      for (int32_t t = lo; t < hi; t++) s += v[t]*x[a.index[t]];
    y[i] = s;
    return;
  }
  int64_t c = 0;
  for (; c + 4 <= a.k; c += 4) { /* four columns at a time */
    real s[4] = {0, 0, 0, 0};
    for (int32_t t = lo; t < hi; t++) {
      const real w = v[a.map ? a.map[t] : t], *z = x + a.index[t]*a.k + c;
      for (int q = 0; q < 4; q++) s[q] += w*z[q];
    }
    for (int q = 0; q < 4; q++) y[i*a.k + c + q] = s[q];
  }
  for (; c < a.k; c++) {
    real s = 0;
    for (int32_t t = lo; t < hi; t++) s += v[a.map ? a.map[t] : t]*x[a.index[t]*a.k + c];
    y[i*a.k + c] = s;
  }
}

/* Without reading columns: a stencil's matrix is read half as much. The sums are those of spmv, in its order. */
typedef csr_run_args spmv_runs_args;
PL_ROW_KERNEL(spmv_runs) {
  const real *v = (const real *)a.v, *x = (const real *)a.x;
  real *y = (real *)a.y;
  int64_t row = i*PL_CSR_ROWS, end = row + PL_CSR_ROWS < a.n ? row + PL_CSR_ROWS : a.n, lo = 0, hi = a.runs - 1;
  while (lo < hi) { /* the last run that starts at the row or before */
    int64_t mid = lo + (hi - lo + 1)/2;
    if (a.start[mid] <= row) lo = mid;
    else hi = mid - 1;
  }
  for (; row < end; lo++) {
    const int64_t start = a.start[lo], stop = a.start[lo + 1] < end ? a.start[lo + 1] : end;
    const int32_t from = a.first[lo], to = a.first[lo + 1];
    for (; row + 8 <= stop; row += 8) {
      real s[8] = {0, 0, 0, 0, 0, 0, 0, 0};
      for (int32_t t = from; t < to; t++) {
        const int64_t step = a.step[t];
        const real *w = v + a.from[t] + step*(row - start), *z = x + row + a.off[t];
        for (int q = 0; q < 8; q++) s[q] += w[q*step]*z[q];
      }
      for (int q = 0; q < 8; q++) y[row + q] = s[q];
    }
    for (; row < stop; row++) {
      real s = 0;
      for (int32_t t = from; t < to; t++) s += v[a.from[t] + a.step[t]*(row - start)]*x[row + a.off[t]];
      y[row] = s;
    }
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
