/* shapes.h: arguments of the row kernels. Pointers are to the kernel's dtype. */
#ifndef PL_SHAPES_H
#define PL_SHAPES_H

#include <stdint.h>

/* {outer, r, inner} -> {outer, blocks, inner}: block b reduces entries b*block .. min((b+1)*block, r). */
typedef struct {
  const void *x;
  void *y;
  int64_t r, block, blocks, inner;
} reduce_args;

enum { PL_REDUCE_BLOCK = 4096, PL_REDUCE_COLUMNS = 256 };

/* Running along the middle axis of {outer, r, inner}; i counts {outer, chunks of PL_SCAN_LINES}. z: the factors of a
 * recurrence, or NULL. */
typedef struct {
  const void *x, *z;
  void *y;
  int64_t r, inner, reverse;
} scan_args;

enum { PL_SCAN_LINES = 8 };

/* From lines of n numbers, `stride` apart, sums or extremes of q of them that are s apart: i counts {lines, blocks of rows of s, chunks
 * of columns}, with (rows + q - 1) columns <= PL_ROLLING_SPACE. */
typedef struct {
  const void *x;
  void *y;
  int64_t n, stride, s, q, rows, columns, blocks, chunks;
} rolling_args;

enum { PL_ROLLING_SPACE = 2048, PL_ROLLING_WINDOW = 512 };

/* Places along the middle axis of {outer, r, inner}. */
typedef struct {
  const void *x, *z;
  int64_t *y;
  int64_t r, inner, descending;
} order_args;

/* Places of those with `first` and more before them in the order along the middle axis of {outer, r, inner}, `count` of
 * them. from, to: r keys with their places for each line, or for the line that is sorted in buckets: tree, the keys
 * between these; bucket {r}; counts {blocks, buckets}. */
typedef struct {
  const void *x;
  int64_t *y;
  void *from, *to;
  int64_t r, inner, descending, first, count;
  int64_t line, block, blocks, buckets, *tree, *counts;
  uint16_t *bucket;
} sort_args;

enum { PL_SORT_LONG = 1 << 14, PL_SORT_BUCKETS = 1024, PL_SORT_OVERSAMPLING = 8 };

/* y[ys] (op) x[xs] over shape; row i of the axes before the last. */
typedef struct {
  const void *x;
  void *y;
  int64_t rank, shape[8], xs[8], ys[8];
} strided_args;

/* Elements lo .. hi (in row-major order of the shape) of x seen through strides. x has `limit` elements from its first. */
typedef struct {
  const void *x;
  void *y;
  int64_t lo, hi, rank, limit, shape[8], stride[8];
} view_args;

/* Elements lo .. hi of y: those of x, with w set or added on a slice of the whole; x and y point at element lo. */
typedef struct {
  const void *x, *w;
  void *y;
  int64_t lo, hi, rank, add, shape[8], start[8], step[8], count[8];
} slice_block_args;

/* Rows of `inner` along the middle axis of {outer, m, inner}, m > 0, by 1-based index {k}, `piece` entries of it at a
 * time: i counts {outer, pieces}. bad[piece]: the number of the first entry out of range (from 1), which is read as 1; or
 * 0. */
typedef struct {
  const void *x;
  const int64_t *index;
  void *y;
  int64_t m, k, inner, piece, pieces, *bad;
} gather_args;

enum { PL_GATHER_PIECE = 4096 };

/* The same rows of y are changed by x's, `width` of their columns at a time: i counts {outer, pieces, strips}. Repeated
 * indices come in their order. Where there are several pieces of the index, each has rows of its own in y {outer, pieces, m,
 * inner}, which are joined to those of x in the order of the pieces by scatter_join_...; there i counts outer. */
typedef struct {
  const void *x;
  const int64_t *index;
  void *y;
  int64_t m, k, inner, piece, pieces, width, strips, *bad; /* as above */
} index_args;

/* y {m, n} = x z: element (i, k) of x at i*row + k*column, z {k, n}, which may be read 64 bytes beyond its end. */
typedef struct {
  const void *x, *z;
  void *y;
  int64_t m, n, k, row, column, block;
} gemm_args;

/* Numbers i of n, PL_RANDOM_LANES at a time: number position + i of a Philox stream; or `count` numbers from each of the
 * positions on. Parameters p of each number, or one for all. */
#ifdef __CUDACC__
enum { PL_RANDOM_LANES = 1 };
#else
enum { PL_RANDOM_LANES = 64 };
#endif
typedef struct {
  void *y;
  uint64_t seed, stream, position;
  double lo, hi;
  const int64_t *positions;
  int64_t count, n;
  const void *p[2];
  int64_t one[2];
} random_args;

/* Permutations of 1 .. n by a Philox stream: y {positions, n}; or of the first position, in blocks and buckets: bucket {n},
 * counts {blocks, buckets}. */
typedef struct {
  int64_t *y;
  uint64_t seed, stream;
  const int64_t *positions;
  int64_t n, block, blocks, buckets, *counts;
  uint16_t *bucket;
} shuffle_args;

enum { PL_SHUFFLE_LONG = 1 << 14, PL_SHUFFLE_BUCKETS = 256 };

/* One axis of a convolution. Output j (of count) stands at out_first + j*out_stride of y's `out` elements and reads x, which
 * is 0 beyond its `in` elements, at first + (j + shift)*stride + phase for each tap: shift <= reach, phase < phases. Outputs
 * are made in boxes of `box`. */
typedef struct {
  int64_t in, stride, first, phases, reach;
  int64_t count, out, out_first, out_stride;
  int64_t box, boxes;
} conv_axis;

enum { PL_CONV_PANEL = 8 };

/* y {batch, groups, rows, out...} = the sum over `terms` of w times x {batch, groups, channels, in...}, whose box is copied to
 * `work`, where term t of output 0 lies at offset[t]. w: panels of PL_CONV_PANEL rows, {panel, term, row}. conv_weights: w is
 * the adjoint of y, and y gets the sums over positions, {piece, groups, rows, terms}; a piece is `depth` boxes of the
 * batch, whose images, where they are one box, are summed `images` at a time, `space` apart in `work`. A unit of work has
 * `block` rows. */
typedef struct {
  const void *x, *w;
  void *y, *work;
  const int64_t *offset;
  conv_axis axis[3];
  int64_t batch, groups, channels, rows, terms, block, blocks, depth, images, space;
} conv_args;

/* The place of the largest in each window of rows {in} -> {out}: flat, 1-based; i = row. */
typedef struct {
  const void *x;
  int64_t *y;
  int64_t in[3], out[3], window[3], stride[3], before[3];
} pool_args;

typedef struct {
  void *y;
  double start, step, last; /* last: exact last element */
  int64_t n;
} range_args;

/* ---- Fourier transforms (engine/fft.c); lines and steps are strides in reals ---- */

enum { FOURIER_LANES = 8, FOURIER_PASSES = 16, FOURIER_ALONE = 3 };

/* n = radix[0] radix[1] ...; twiddle[i]: w_len^(p j) for j = 1 ... radix - 1, p < len/radix (real parts, then imaginary
 * ones), len = n/(radix[0] ... radix[i-1]); root[i]: of an odd radix r, cos and sin of 2 pi k/r for k < r;
 * spread[i]: each twiddle as often as numbers lie behind, where these are 2 to 7. alone: up to FOURIER_ALONE lines are done one
 * by one, since 8 neighbours fit each pass. */
typedef struct {
  int64_t n, passes, alone, radix[FOURIER_PASSES];
  const void *twiddle[FOURIER_PASSES], *root[FOURIER_PASSES], *spread[FOURIER_PASSES];
} fourier_plan;

/* Up to FOURIER_LANES lines of n complex numbers; swap: the imaginary part is first. Where `lane` is given, entry k of
 * line l is multiplied by lane[k][l] block[k*index] before it goes out. work: 32 n reals. */
typedef struct {
  const fourier_plan *plan;
  const void *x;
  int64_t x_line, x_step, x_swap;
  void *y;
  int64_t y_line, y_step, y_swap, count;
  double scale;
  const void *lane, *block;
  int64_t index;
  void *work;
} fourier_args;

/* y_i = scale x_i z_i, complex, i < n */
typedef struct {
  const void *x, *z;
  int64_t x_step, x_swap;
  void *y;
  int64_t y_step, y_swap;
  double scale;
} fourier_product_args;

/* Between h complex numbers, which are n = 2h real ones, and the n/2 + 1 frequencies of these, or back; group
 * i of 8 pairs. */
typedef struct {
  const void *x, *z;
  void *y;
  int64_t n, backward;
  double edge, interior;
} fourier_fold_args;

/* Between n/2 + 1 frequencies of n real numbers x and the n coefficients of cosines y (or back); group i
 * of 8 pairs. */
typedef struct {
  const void *x, *z;
  void *y;
  int64_t n;
  double scale, first;
} fourier_cosine_args;

/* `count` lines of n reals from one place to another; element i */
typedef struct {
  const void *x;
  int64_t x_line, x_step;
  void *y;
  int64_t y_line, y_step, count;
} fourier_copy_args;

/* y_i = factor x_i, complex, i < n; but x_0, and x_(n-1) where `last`, are real and times `edge` where `ends` */
typedef struct {
  const void *x;
  void *y;
  int64_t n, ends, last;
  double factor, edge;
} fourier_weigh_args;

/* y_i = x_i z_i, complex; sign -1: x_i times the conjugate of z_i */
typedef struct {
  const void *x, *z;
  void *y;
  double sign;
} complex_args;

/* Rows of a sparse matrix: entry t of row i is in column index[t], its value is v[map ? map[t] : t]; k columns. */
typedef struct {
  const void *v, *x; /* sddmm: the left and the right factor */
  void *y;
  const int32_t *ptr, *index, *map;
  int64_t k;
} csr_args;

/* The same for one column, of rows in runs: from row start[r] on, terms first[r] ... have the column of their row plus off,
 * and the value from + step (row - start[r]). PL_CSR_ROWS of the n rows are one piece of work. */
enum { PL_CSR_ROWS = 256 };
typedef struct {
  const void *v, *x;
  void *y;
  const int32_t *start, *first, *off, *from, *step;
  int64_t runs, n;
} csr_run_args;

/* z_i = the dot product of block i of vectors x and y {n} */
typedef struct {
  const void *x, *y;
  void *z;
  int64_t n;
} krylov_dot_args;

enum { KRYLOV_BLOCK = 2048 };

/* y_i = sum over t of p[first[t]] q[second[t]] */
typedef struct {
  const void *p, *q;
  void *y;
  const int32_t *ptr, *first, *second;
} triple_args;

/* Tridiagonal systems {batch, n}: entries below[1 ...], diagonal, above[... n - 2], right sides b and solutions x {batch,
 * n, k}; bad: of each system, is it singular? Eight systems or one, of one column, or blocks of `width` columns; each with
 * work memory of 32 n, 4 n or 3 n numbers, `stride` apart (0: they are done one after another). */
typedef struct {
  const void *below, *diagonal, *above, *b;
  void *x, *work;
  int32_t *bad;
  int64_t batch, n, k, width, blocks, stride;
} tridiagonal_lanes_args;
typedef tridiagonal_lanes_args tridiagonal_one_args, tridiagonal_columns_args;

/* y {fields, points} of values {fields, n...} of `size` each, at x_d {points} along axis d of a grid with these places
 * (none: 1 ... n); or the adjoint, of values {fields, points} into y {fields, n...}. nu: order of the derivative in x_d. */
typedef struct {
  const void *values, *x[3], *places[3];
  void *y;
  int64_t n[3], nu[3], fields, size, points, stripes, lo, hi;
} grid_args;

#endif
