/* matmul.c: matrix products by BLAS. */
#include <cblas.h>
#include <string.h>

#include "../../kernels/shapes.h"
#include "../op.h"
#include "../schedule.h"

/* gemm: op(A) op(B) for {m, k} or {batch, m, k} matrices of one rank; attributes transpose_a, transpose_b. */
typedef struct {
  int64_t batch, m, n, k;
} sizes;

static bool gemm_sizes(const pl_call *call, sizes *z) {
  const pl_slot *a = call->in[0], *b = call->in[1];
  int r = a->rank;
  bool ta = call->attrs[0].i, tb = call->attrs[1].i;
  if (r != b->rank || r < 2 || r > 3 || (r == 3 && a->shape[0] != b->shape[0])) {
    pl_shape_error(call, "matrices, or stacks of equally many, are needed");
    return false;
  }
  z->batch = r == 3 ? a->shape[0] : 1;
  z->m = a->shape[ta ? r - 1 : r - 2];
  z->k = a->shape[ta ? r - 2 : r - 1];
  z->n = b->shape[tb ? r - 2 : r - 1];
  if (z->k != b->shape[tb ? r - 1 : r - 2]) {
    pl_shape_error(call, "the inner sizes differ");
    return false;
  }
  return true;
}
static bool gemm_shape(const pl_call *call, pl_spec *out) {
  sizes z;
  if (!gemm_sizes(call, &z)) return false;
  out->rank = call->in[0]->rank;
  out->shape[0] = (int32_t)z.batch;
  out->shape[out->rank - 2] = (int32_t)z.m;
  out->shape[out->rank - 1] = (int32_t)z.n;
  return true;
}
/* One matrix product, rows lo .. hi of the result. */
typedef struct {
  const sizes *z;
  bool ta, tb;
  pl_dtype dtype;
  const char *a, *b;
  char *c;
  int64_t rows; /* a block; batch*blocks pieces of work */
} product_args;

static void product_rows(const product_args *p, int64_t batch, int64_t lo, int64_t hi) {
  const sizes *z = p->z;
  CBLAS_TRANSPOSE ta = p->ta ? CblasTrans : CblasNoTrans, tb = p->tb ? CblasTrans : CblasNoTrans;
  int64_t size = (int64_t)pl_dtype_size(p->dtype);
  int m = (int)(hi - lo), n = (int)z->n, k = (int)z->k, lda = p->ta ? (int)z->m : k, ldb = p->tb ? k : n;
  const void *a = p->a + (batch * z->m * z->k + lo * (p->ta ? 1 : z->k)) * size, *b = p->b + batch * z->k * z->n * size;
  void *c = p->c + (batch * z->m + lo) * z->n * size;
  if (p->dtype == PL_F64) {
    if (n == 1) cblas_dgemv(CblasRowMajor, ta, p->ta ? k : m, p->ta ? m : k, 1, a, lda, b, 1, 0, c, 1);
    else cblas_dgemm(CblasRowMajor, ta, tb, m, n, k, 1, a, lda, b, ldb, 0, c, n);
  } else {
    if (n == 1) cblas_sgemv(CblasRowMajor, ta, p->ta ? k : m, p->ta ? m : k, 1, a, lda, b, 1, 0, c, 1);
    else cblas_sgemm(CblasRowMajor, ta, tb, m, n, k, 1, a, lda, b, ldb, 0, c, n);
  }
}

static void product_blocks(const void *args, int64_t lo, int64_t hi) {
  const product_args *p = args;
  int64_t blocks = (p->z->m + p->rows - 1) / p->rows;
  for (int64_t i = lo; i < hi; i++) {
    int64_t first = i % blocks * p->rows, end = first + p->rows;
    product_rows(p, i / blocks, first, end < p->z->m ? end : p->z->m);
  }
}

/* Products below this many operations are no work for BLAS's own threads: it wakes them for each. They are cut into
 * blocks of rows that depend on the sizes alone, so that the result does not depend on threads. */
enum { BLAS_THREADS = 50000000, ROW_BLOCK = 200000 };

/* ---- few columns: kernels/gemm.c ---- */

static bool narrow(const sizes *z, pl_dtype dtype) {
  return z->n > 1 && z->n <= (dtype == PL_F64 ? 96 : 192) && z->k <= 4096;
}

/* The product over entries from .. to of the inner axis, at y; b: {k, n}. */
static gemm_args narrow_args(const product_args *p, int64_t batch, int64_t from, int64_t to, const char *b, char *y) {
  const sizes *z = p->z;
  int64_t size = (int64_t)pl_dtype_size(p->dtype), row = p->ta ? 1 : z->k, column = p->ta ? z->m : 1;
  return (gemm_args){.x = p->a + (batch * z->m * z->k + from * column) * size,
                     .z = b + from * z->n * size,
                     .y = y,
                     .m = z->m,
                     .n = z->n,
                     .k = to - from,
                     .row = row,
                     .column = column,
                     .block = 48};
}

/* Long sums of small results (gradients of weights) are cut into pieces of the inner axis that depend on its length
 * alone. */
typedef struct {
  const product_args *p;
  const char *b;
  char *parts;
  int64_t depth;
} depth_args;
static void narrow_depths(const void *args, int64_t lo, int64_t hi) {
  const depth_args *d = args;
  const sizes *z = d->p->z;
  for (int64_t i = lo; i < hi; i++) {
    int64_t from = i * d->depth, to = from + d->depth < z->k ? from + d->depth : z->k;
    gemm_args a =
        narrow_args(d->p, 0, from, to, d->b, d->parts + i * z->m * z->n * (int64_t)pl_dtype_size(d->p->dtype));
    PL_KERNEL_OF(narrow_gemm, d->p->dtype)(&a, 0, (a.m + a.block - 1) / a.block);
  }
}

static void narrow_run(pl_context *c, const product_args *p) {
  const sizes *z = p->z;
  int64_t size = (int64_t)pl_dtype_size(p->dtype), count = z->m * z->n, depth = (z->k + 7) / 8;
  bool deep = z->batch == 1 && z->k >= 8 * z->m && z->k >= 256;
  char *turned = p->tb ? pl_memory_new(c, (size_t)(z->k * z->n * size) + 64) : NULL;
  char *parts = deep ? pl_memory_new(c, (size_t)(8 * count * size) + 64) : NULL;
  for (int64_t batch = 0; batch < z->batch && !c->status; batch++) {
    const char *b = p->b + batch * z->k * z->n * size;
    char *y = p->c + batch * count * size;
    for (int64_t j = 0; p->tb && j < z->n; j++)
      for (int64_t k = 0; k < z->k; k++) {
        if (size == 8) ((uint64_t *)turned)[k * z->n + j] = ((const uint64_t *)b)[j * z->k + k];
        else ((uint32_t *)turned)[k * z->n + j] = ((const uint32_t *)b)[j * z->k + k];
      }
    if (p->tb) b = turned;
    if (!deep) {
      gemm_args a = narrow_args(p, batch, 0, z->k, b, y);
      pl_for(c, PL_KERNEL_OF(narrow_gemm, p->dtype), &a, (z->m + a.block - 1) / a.block, 1,
             (double)(a.block * z->n * z->k) / 4);
      continue;
    }
    int64_t pieces = (z->k + depth - 1) / depth;
    pl_for(c, narrow_depths, &(depth_args){p, b, parts, depth}, pieces, 1, (double)(count * depth) / 4);
    memcpy(y, parts, (size_t)(count * size));
    for (int64_t i = 1; i < pieces; i++) { /* in this order, whoever computed them */
      const void *args[] = {y, parts + i * count * size, y};
      PL_OP(add)->fn[p->dtype](args, 0, count);
    }
  }
  pl_memory_free(c, turned);
  pl_memory_free(c, parts);
}

static void gemm_run(const pl_call *call, pl_slot **out) {
  sizes z;
  if (!gemm_sizes(call, &z)) return;
  size_t size = pl_dtype_size((pl_dtype)out[0]->dtype);
  if (out[0]->count == 0) return;
  if (z.k == 0) {
    memset(out[0]->data, 0, (size_t)out[0]->count * size);
    return;
  }
  product_args p = {&z,
                    call->attrs[0].i,
                    call->attrs[1].i,
                    (pl_dtype)out[0]->dtype,
                    call->in[0]->data,
                    call->in[1]->data,
                    out[0]->data,
                    z.m};
  double flops = 2.0 * (double)z.m * (double)z.n * (double)z.k;
  if (flops >= BLAS_THREADS) {
    pl_blas_threads(call->c->threads);
    for (int64_t i = 0; i < z.batch && !pl_interrupted(call->c); i++) product_rows(&p, i, 0, z.m);
    return;
  }
  if (narrow(&z, p.dtype)) {
    narrow_run(call->c, &p);
    return;
  }
  pl_blas_threads(1);
  if (flops > 2.0 * ROW_BLOCK) {
    int64_t blocks = (int64_t)(flops / ROW_BLOCK) < 8 ? (int64_t)(flops / ROW_BLOCK) : 8;
    p.rows = ((z.m + blocks - 1) / blocks + 7) & ~(int64_t)7;
  }
  int64_t pieces = z.batch * ((z.m + p.rows - 1) / p.rows);
  pl_for(call->c, product_blocks, &p, pieces, 1, flops * (double)z.batch / (double)pieces / 8);
}
static void gemm_vjp(pl_vjp *v) {
  pl_context *c = v->c;
  pl_value a = v->in[0], b = v->in[1], g = v->g[0];
  bool ta = v->attrs[0].i, tb = v->attrs[1].i;
  if (v->need[0]) pl_vjp_give(v, 0, ta ? pl_product(c, b, g, tb, true) : pl_product(c, g, b, false, !tb));
  if (v->need[1]) pl_vjp_give(v, 1, tb ? pl_product(c, g, a, true, ta) : pl_product(c, a, g, !ta, false));
}
static void gemm_jvp(pl_jvp *j) {
  bool ta = j->attrs[0].i, tb = j->attrs[1].i;
  j->dt[0] = pl_plus(j->c, pl_product(j->c, j->t[0], j->in[1], ta, tb), pl_product(j->c, j->in[0], j->t[1], ta, tb));
}

/* NumPy's ranks: vectors are rows on the left and columns on the right, leading axes broadcast. */
static bool matmul_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                          pl_value *out) {
  pl_slot *a = pl_slot_get(c, in[0]), *b = pl_slot_get(c, in[1]);
  if (!a || !b) return false;
  pl_slot *both[] = {a, b};
  pl_call call = {c, op, n, both, in, attrs};
  if (a->rank == 0 || b->rank == 0) {
    pl_shape_error(&call, "numbers are multiplied with *");
    return false;
  }
  int64_t ka = a->shape[a->rank - 1], kb = b->shape[b->rank > 1 ? b->rank - 2 : 0];
  if (ka != kb) {
    pl_shape_error(&call, "the last axis of the first and the last but one of the second must agree");
    return false;
  }
  int64_t m = a->rank > 1 ? a->shape[a->rank - 2] : 1, k = b->rank > 1 ? b->shape[b->rank - 1] : 1;
  bool row = a->rank == 1, column = b->rank == 1;
  int64_t shape[PL_MAX_RANK + 2];
  int rank = 0;
  pl_value p;
  pl_attr plain[] = {PL_INT(0), PL_INT(0)};
  if (b->rank <= 2) { /* one matrix on the right: the left is one tall matrix */
    for (int i = 0; i < a->rank - 1; i++) shape[rank++] = a->shape[i];
    if (!column) shape[rank++] = k;
    int64_t rows = ka ? a->count / ka : 1;
    if (!ka)
      for (int i = rows = 1, e = a->rank - 1; i <= e; i++) rows *= a->shape[i - 1];
    p = pl_call2(c, PL_OP(gemm), pl_reshape_to(c, in[0], 2, (int64_t[]){rows, ka}),
                 pl_reshape_to(c, in[1], 2, (int64_t[]){kb, k}), plain);
  } else {
    pl_slot la = *a, lb = *b; /* the leading axes */
    la.rank = (uint8_t)(row ? 0 : a->rank - 2);
    lb.rank = (uint8_t)(b->rank - 2);
    pl_slot *leading[] = {&la, &lb};
    pl_spec lead = {.rank = 0};
    call.in = leading;
    if (!pl_broadcast_shapes(&call, 2, leading, &lead)) return false;
    int64_t batch = 1, sa[PL_MAX_RANK], sb[PL_MAX_RANK];
    for (int i = 0; i < lead.rank; i++) batch *= sa[i] = sb[i] = shape[rank++] = lead.shape[i];
    sa[lead.rank] = m, sa[lead.rank + 1] = ka, sb[lead.rank] = kb, sb[lead.rank + 1] = k;
    pl_value x = row ? pl_reshape_to(c, in[0], 2, (int64_t[]){1, ka}) : in[0];
    x = pl_call1(c, PL_OP(broadcast_to), x, &PL_INTS(lead.rank + 2, sa));
    pl_value y = pl_call1(c, PL_OP(broadcast_to), in[1], &PL_INTS(lead.rank + 2, sb));
    p = pl_call2(c, PL_OP(gemm), pl_reshape_to(c, x, 3, (int64_t[]){batch, m, ka}),
                 pl_reshape_to(c, y, 3, (int64_t[]){batch, kb, k}), plain);
    if (!row) shape[rank++] = m;
    shape[rank++] = k;
  }
  out[0] = pl_reshape_to(c, p, rank, shape);
  return out[0] != PL_NONE;
}

static bool gemm_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  s->n = 2;
  s->attrs[0] = PL_INT(k & 1);
  s->attrs[1] = PL_INT(k >> 1 & 1);
#define T(...) pl_sample_tensor(c, r, -1, 1, __VA_ARGS__)
  if (k < 4) s->in[0] = k & 1 ? T(2, 4, 3) : T(2, 3, 4), s->in[1] = k & 2 ? T(2, 5, 4) : T(2, 4, 5);
  if (k >= 4 && k < 8)
    s->in[0] = k & 1 ? T(3, 2, 4, 3) : T(3, 2, 3, 4), s->in[1] = k & 2 ? T(3, 2, 1, 4) : T(3, 2, 4, 1);
  if (k == 8) s->in[0] = T(2, 3, 0), s->in[1] = T(2, 0, 2);
  return k <= 8;
}
static bool matmul_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  s->n = 2;
  switch (k) {
    case 0: s->in[0] = T(2, 3, 4), s->in[1] = T(2, 4, 2); return true;
    case 1: s->in[0] = T(1, 4), s->in[1] = T(1, 4); return true;
    case 2: s->in[0] = T(1, 4), s->in[1] = T(2, 4, 2); return true;
    case 3: s->in[0] = T(3, 2, 3, 4), s->in[1] = T(1, 4); return true;
    case 4: s->in[0] = T(3, 2, 3, 4), s->in[1] = T(2, 4, 5); return true;
    case 5: s->in[0] = T(3, 2, 3, 4), s->in[1] = T(4, 3, 1, 4, 2); return true;
    case 6: s->in[0] = T(1, 4), s->in[1] = T(3, 2, 4, 2); return true;
    case 7: s->in[0] = T(2, 1, 1), s->in[1] = T(2, 1, 1); return true;
    case 8: s->in[0] = T(2, 2, 0), s->in[1] = T(1, 0); return true;
    default: return false;
  }
}

pl_op pl_ops_matmul[] = {
    {.name = "gemm",
     .formula = "matrix product of matrices or stacks of them, either transposed",
     .kind = PL_LINEAR,
     .inputs = 2,
     .outputs = 1,
     .internal = true,
     .dtypes = PL_FLOATS,
     .attrs = {{"transpose_a", PL_AS_FLAG, false, 0}, {"transpose_b", PL_AS_FLAG, false, 0}},
     .shape = gemm_shape,
     .run = gemm_run,
     .vjp = gemm_vjp,
     .jvp = gemm_jvp,
     .sample = gemm_sample},
    {.name = "matmul",
     .formula = "matrix product; leading axes broadcast, vectors are rows on the left and columns on the right",
     .shapes = "{..., m, k}, {..., k, n} -> {..., m, n}",
     .kind = PL_COMPOSITE,
     .inputs = 2,
     .outputs = 1,
     .expand = matmul_expand,
     .sample = matmul_sample},
    {0},
};
