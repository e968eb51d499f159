#include "schedule.h"

#include <cblas.h>
#include <omp.h>
#include <string.h>

void pl_set_threads(pl_context *c, int threads) { c->threads = threads > 0 ? threads : omp_get_num_procs(); }
void pl_blas_threads(int threads) {
  if (openblas_get_num_threads() != threads) openblas_set_num_threads(threads);
}

int pl_threads(const pl_context *c) { return c->threads; }

enum {
  WORTH_THREADS = 3 << 14
}; /* operations: about 20 us of arithmetic against 2 us to wake a team, and what moves between cores */

void pl_for(pl_context *c, pl_kernel kernel, const void *args, int64_t n, int64_t grain, double work) {
  if (n <= 0) return;
  double total = (double)n * work;
  if (total < WORTH_THREADS) {
    kernel(args, 0, n);
    return;
  }
  /* Pieces of about WORTH_THREADS/4 operations: small enough to answer an interrupt, large enough to amortize the call.
   */
  int64_t piece = (int64_t)(WORTH_THREADS / 4 / work) / grain * grain;
  /* Blocks share what a kernel sets up for each piece (a number spread over a block), where that leaves each thread
   * some. */
  int64_t most = grain > 1 ? n / (4 * c->threads) / grain * grain : grain;
  if (most > 16 * grain) most = 16 * grain;
  if (piece < most) piece = most;
  if (piece < grain) piece = grain;
  /* As many for each thread, and all of a length to within a grain. */
  int64_t grains = (n + grain - 1) / grain, pieces = (n + piece - 1) / piece;
  int threads = pieces < c->threads ? (int)pieces : c->threads;
  pieces = (pieces + threads - 1) / threads * threads;
  if (pieces > grains) pieces = grains;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int64_t k = 0; k < pieces; k++) {
    if (pl_to_stop(c)) continue;
    int64_t lo = grains * k / pieces * grain, hi = grains * (k + 1) / pieces * grain;
    kernel(args, lo, hi < n ? hi : n);
  }
  pl_interrupted(c);
}

void pl_bucket_starts(int64_t *counts, int64_t blocks, int64_t buckets) {
  int64_t start = 0;
  for (int64_t b = 0; b < buckets; b++)
    for (int64_t k = 0; k < blocks; k++) {
      int64_t *count = &counts[k * buckets + b], n = *count;
      *count = start;
      start += n;
    }
}

char *pl_kernel_reals(char *p, pl_dtype dtype, int n, const double *x) {
  for (int i = 0; i < n; i++) {
    if (dtype == PL_F32) {
      float f = (float)x[i];
      memcpy(p, &f, sizeof f);
      p += sizeof f;
    } else {
      memcpy(p, &x[i], sizeof x[i]);
      p += sizeof x[i];
    }
  }
  return p;
}

enum { MAX_IN = 8 }; /* an op loaded from C has up to 6 inputs, its derivatives one more */

/* How an input is read: as it lies, one number for all, or through strides of 0 where it is broadcast. */
typedef enum { WHOLE, NUMBER, STRIDED } reading;

typedef struct {
  int n;
  pl_kernel fn;
  struct {
    reading how;
    const char *data;
    int size;
    int64_t stride[PL_MAX_RANK];
  } in[MAX_IN];
  char *out;
  int out_size, rank;
  int32_t shape[PL_MAX_RANK];
  char reals[4 * sizeof(double)];
} job;

/* Elements lo .. hi of a broadcast input, contiguous in dst. The last stride is 0 or 1. */
static void gather_block(const job *j, int k, char *dst, int64_t lo, int64_t hi) {
  int size = j->in[k].size, last = j->rank - 1;
  int64_t index[PL_MAX_RANK], rest = lo, offset = 0, width = j->shape[last];
  for (int a = last; a >= 0; a--) {
    index[a] = rest % j->shape[a];
    rest /= j->shape[a];
    offset += index[a] * j->in[k].stride[a];
  }
  while (lo < hi) {
    int64_t run = width - index[last];
    if (run > hi - lo) run = hi - lo;
    const char *src = j->in[k].data + offset * size;
    if (j->in[k].stride[last]) {
      memcpy(dst, src, (size_t)(run * size));
    } else if (size == 8) {
      uint64_t x;
      memcpy(&x, src, 8);
      for (int64_t i = 0; i < run; i++) memcpy(dst + 8 * i, &x, 8);
    } else {
      for (int64_t i = 0; i < run; i++) memcpy(dst + size * i, src, (size_t)size);
    }
    dst += run * size;
    lo += run;
    offset += run * j->in[k].stride[last];
    index[last] += run;
    for (int a = last; a > 0 && index[a] == j->shape[a]; a--) {
      offset += j->in[k].stride[a - 1] - index[a] * j->in[k].stride[a];
      index[a] = 0;
      index[a - 1]++;
    }
  }
}

static void fill_number(char *dst, const char *src, int size, int64_t n) {
  if (size == 8) {
    uint64_t x;
    memcpy(&x, src, 8);
    for (int64_t i = 0; i < n; i++) memcpy(dst + 8 * i, &x, 8);
  } else {
    for (int64_t i = 0; i < n; i++) memcpy(dst + size * i, src, (size_t)size);
  }
}

/* A kernel in the scheduler's eyes: elements lo .. hi, lo a multiple of PL_BLOCK. */
static void run_blocks(const void *args, int64_t lo, int64_t hi) {
  const job *j = args;
  _Alignas(64) char scratch[MAX_IN][PL_BLOCK * 8];
  int64_t first = hi - lo < PL_BLOCK ? hi - lo : PL_BLOCK;
  first = (first + 15) & ~(int64_t)15; /* whole vectors */
  for (int k = 0; k < j->n; k++)
    if (j->in[k].how == NUMBER) fill_number(scratch[k], j->in[k].data, j->in[k].size, first);
  struct {
    const void *p[MAX_IN + 1];
    char reals[sizeof j->reals];
  } a;
  char *reals = (char *)&a.p[j->n + 1];
  for (int64_t b = lo; b < hi; b += PL_BLOCK) {
    int64_t end = b + PL_BLOCK < hi ? b + PL_BLOCK : hi;
    for (int k = 0; k < j->n; k++) {
      if (j->in[k].how == STRIDED) gather_block(j, k, scratch[k], b, end);
      a.p[k] = j->in[k].how == WHOLE ? j->in[k].data + b * j->in[k].size : scratch[k];
    }
    a.p[j->n] = j->out + b * j->out_size;
    memcpy(reals, j->reals, sizeof j->reals);
    j->fn(&a, 0, end - b);
  }
}

void pl_elementwise(const pl_call *call, pl_dtype dtype, pl_slot *out) {
  const pl_op *op = call->op;
  pl_context *c = call->c;
  pl_kernel fn = op->fn[dtype];
  if (!fn) {
    pl_error(c, PL_ERROR_TYPE, "%s does not compute in %s", op->name, pl_dtype_name(dtype));
    return;
  }
  job j;
  j.n = call->n;
  j.fn = fn;
  double reals[4];
  int n_reals = 0;
  for (int i = 0; op->attrs[i].name; i++) reals[n_reals++] = call->attrs[i].r;
  if (n_reals) pl_kernel_reals(j.reals, dtype, n_reals, reals);

  bool whole = true;
  for (int k = 0; k < call->n; k++) {
    const pl_slot *s = call->in[k];
    bool same = s->rank == out->rank;
    for (int a = 0; same && a < out->rank; a++) same = s->shape[a] == out->shape[a];
    j.in[k].how = same ? WHOLE : s->count == 1 ? NUMBER : STRIDED;
    j.in[k].data = s->data;
    j.in[k].size = s->dtype == PL_BOOL ? 1 : s->dtype == PL_F32 ? 4 : 8;
    whole = whole && same;
    if (j.in[k].how == STRIDED) {
      int64_t stride = 1;
      for (int a = out->rank - 1; a >= 0; a--) {
        int b = a - (out->rank - s->rank);
        j.in[k].stride[a] = b < 0 || s->shape[b] == 1 ? 0 : stride;
        if (b >= 0) stride *= s->shape[b];
      }
    }
  }
  if (whole && out->count <= 4 * PL_BLOCK) {
    struct {
      const void *p[MAX_IN + 1];
      char reals[sizeof j.reals];
    } a;
    for (int k = 0; k < call->n; k++) a.p[k] = call->in[k]->data;
    a.p[call->n] = out->data;
    if (n_reals) memcpy(&a.p[call->n + 1], j.reals, sizeof j.reals);
    fn(&a, 0, out->count);
    return;
  }
  j.out = out->data;
  j.out_size = (int)pl_dtype_size(out->dtype);
  j.rank = out->rank;
  memcpy(j.shape, out->shape, sizeof j.shape);
  if (out->count <= PL_BLOCK) run_blocks(&j, 0, out->count);
  else pl_for(c, run_blocks, &j, out->count, PL_BLOCK, op->work ? op->work : 2);
}
