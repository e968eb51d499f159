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

/* Running along the middle axis of {outer, r, inner}; line i = outer*inner. */
typedef struct {
  const void *x;
  void *y;
  int64_t r, inner, reverse;
} scan_args;

/* Places along the middle axis of {outer, r, inner}; work: 2 r numbers with their places for each of {outer, inner}. */
typedef struct {
  const void *x, *z;
  int64_t *y, *work;
  int64_t r, inner, descending;
} order_args;

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

/* Rows of `inner` along the middle axis of {outer, m, inner} by 1-based index {k}; i = outer*k for gather, outer for the
 * scatters, whose order (repeated indices) is that of the index. */
typedef struct {
  const void *x;
  const int64_t *index;
  void *y;
  int64_t m, k, inner;
} index_args;

/* y {m, n} = x z: element (i, k) of x at i*row + k*column, z {k, n}, which may be read 64 bytes beyond its end. */
typedef struct {
  const void *x, *z;
  void *y;
  int64_t m, n, k, row, column, block;
} gemm_args;

/* y_i for i in counters: key and position of a Philox stream; or of `count` numbers from each of the positions. */
typedef struct {
  void *y;
  uint64_t seed, stream, position;
  double lo, hi;
  const int64_t *positions;
  int64_t count;
} random_args;

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

/* Rows of a sparse matrix: entry t of row i is in column index[t], its value is v[map ? map[t] : t]; k columns. */
typedef struct {
  const void *v, *x; /* sddmm: the left and the right factor */
  void *y;
  const int32_t *ptr, *index, *map;
  int64_t k;
} csr_args;

/* y_i = sum over t of p[first[t]] q[second[t]] */
typedef struct {
  const void *p, *q;
  void *y;
  const int32_t *ptr, *first, *second;
} triple_args;

#endif
