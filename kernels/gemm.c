/* Products with narrow matrices (networks of 10 to 100 neurons): C = A B, where a library's packing costs as much as the
 * product. Eight rows of C by up to four vectors are summed in registers, each element along k in order, so that its bits
 * do not depend on where it stands or on threads. On a GPU this is cuBLAS's. */
#include "kernel.h"
#include "shapes.h"

#if PL_FLOATING && !defined __CUDACC__
typedef real vec __attribute__((vector_size(64), aligned(sizeof(real)), may_alias));
enum { LANES = 64/sizeof(real) };
#ifdef __clang__
#pragma clang fp contract(fast)
#define FUSED
#else
#define FUSED __attribute__((optimize("fp-contract=fast"))) /* one rounding for a product and its sum */
#endif

/* R rows of C from row i on, N vectors from column j on. */
#define TILE(R, N)                                                                                      \
  FUSED static void tile_##R##_##N(const gemm_args *a, int64_t i, int64_t j, int64_t columns) {         \
    const real *x = (const real *)a->x + i*a->row, *z = (const real *)a->z + j;                         \
    vec sum[R][N];                                                                                      \
    for (int r = 0; r < R; r++)                                                                         \
      for (int v = 0; v < N; v++) sum[r][v] = (vec){0};                                                 \
    for (int64_t k = 0; k < a->k; k++) {                                                                \
      vec w[N];                                                                                         \
      for (int v = 0; v < N; v++) w[v] = *(const vec *)(z + k*a->n + v*LANES);                          \
      for (int r = 0; r < R; r++) {                                                                     \
        const real s = x[r*a->row + k*a->column];                                                       \
        for (int v = 0; v < N; v++) sum[r][v] += s*w[v];                                                \
      }                                                                                                 \
    }                                                                                                   \
    for (int r = 0; r < R; r++) {                                                                       \
      real *y = (real *)a->y + (i + r)*a->n + j;                                                        \
      for (int v = 0; v + 1 < N; v++) *(vec *)(y + v*LANES) = sum[r][v];                                \
      if (columns == N*LANES) *(vec *)(y + (N - 1)*LANES) = sum[r][N - 1];                              \
      else                                                                                              \
        for (int c = 0; c < (int)LANES - 1; c++) /* no more: the next row begins there */               \
          if ((N - 1)*LANES + c < columns) y[(N - 1)*LANES + c] = sum[r][N - 1][c];                     \
    }                                                                                                   \
  }
TILE(8, 1) TILE(8, 2) TILE(8, 3) TILE(6, 4)
TILE(4, 1) TILE(4, 2) TILE(4, 3)
TILE(1, 1) TILE(1, 2) TILE(1, 3) TILE(1, 4)

static void tiles(const gemm_args *a, int64_t i, int64_t rows, int64_t j, int64_t columns) {
  const int64_t n = (columns + LANES - 1)/LANES;
  for (; n < 4 && rows >= 8; i += 8, rows -= 8)
    if (n == 1) tile_8_1(a, i, j, columns);
    else if (n == 2) tile_8_2(a, i, j, columns);
    else tile_8_3(a, i, j, columns);
  if (n < 4 && rows >= 4) {
    if (n == 1) tile_4_1(a, i, j, columns);
    else if (n == 2) tile_4_2(a, i, j, columns);
    else tile_4_3(a, i, j, columns);
    i += 4;
    rows -= 4;
  }
  for (; n == 4 && rows >= 6; i += 6, rows -= 6) tile_6_4(a, i, j, columns);
  for (; rows > 0; i++, rows--)
    if (n == 1) tile_1_1(a, i, j, columns);
    else if (n == 2) tile_1_2(a, i, j, columns);
    else if (n == 3) tile_1_3(a, i, j, columns);
    else tile_1_4(a, i, j, columns);
}

typedef gemm_args narrow_gemm_args;
PL_ROW_KERNEL(narrow_gemm) { /* rows i*block ... of C */
  const int64_t first = i*a.block, rows = a.m - first < a.block ? a.m - first : a.block;
  for (int64_t j = 0; j < a.n; j += 4*LANES) tiles(&a, first, rows, j, a.n - j < 4*LANES ? a.n - j : 4*LANES);
}
#endif
