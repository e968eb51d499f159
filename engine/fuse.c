/* fuse.c: runs a group of elementwise ops over one index space block by block: what passes between them stays in
 * registers, blocks of at most a thousand elements that lie in L1. Slices, transposes and broadcasts are read in place. The
 * kernels are those of eager execution and f(x_i) depends on x_i alone, so the results have the same bits. */
#include <string.h>

#include "execute.h"
#include "schedule.h"

typedef struct {
  const pl_group *g;
  char *base[PL_GROUP_MICRO + 64]; /* of each external, at element 0 */
} bound;

/* Elements lo .. hi of a view, contiguous in dst, which may be overrun by a vector. */
static void gather_view(const pl_group *g, const pl_external *e, const char *base, char *dst, int64_t lo, int64_t hi) {
  int last = g->rank - 1, size = e->size;
  int64_t index[PL_MAX_RANK], rest = lo, offset = 0, width = g->shape[last], step = e->stride[last];
  for (int a = last; a >= 0; a--) {
    index[a] = rest % g->shape[a];
    rest /= g->shape[a];
    offset += index[a] * e->stride[a];
  }
  while (lo < hi) {
    int64_t run = width - index[last];
    if (run > hi - lo) run = hi - lo;
    if (size == 8) {
      const uint64_t *src = (const uint64_t *)base + offset;
      uint64_t *to = (uint64_t *)dst;
      if (step == 1) {
        for (int64_t i = 0; i < run; i++) to[i] = src[i];
      } else if (step == 0) {
        uint64_t x = src[0];
        for (int64_t i = 0; i < run; i++) to[i] = x;
      } else {
        for (int64_t i = 0; i < run; i++) to[i] = src[i * step];
      }
    } else if (size == 4) {
      const uint32_t *src = (const uint32_t *)base + offset;
      uint32_t *to = (uint32_t *)dst;
      for (int64_t i = 0; i < run; i++) to[i] = src[i * step];
    } else {
      const uint8_t *src = (const uint8_t *)base + offset;
      for (int64_t i = 0; i < run; i++) ((uint8_t *)dst)[i] = src[i * step];
    }
    dst += run * size;
    lo += run;
    offset += run * step;
    index[last] += run;
    for (int a = last; a > 0 && index[a] == g->shape[a]; a--) {
      offset += e->stride[a - 1] - index[a] * e->stride[a];
      index[a] = 0;
      index[a - 1]++;
    }
  }
}

static void fill(char *dst, const char *src, int size, int64_t n) {
  if (size == 8) {
    uint64_t x;
    memcpy(&x, src, 8);
    for (int64_t i = 0; i < n; i++) ((uint64_t *)dst)[i] = x;
  } else if (size == 4) {
    uint32_t x;
    memcpy(&x, src, 4);
    for (int64_t i = 0; i < n; i++) ((uint32_t *)dst)[i] = x;
  } else {
    memset(dst, *src, (size_t)n);
  }
}

/* A kernel in the scheduler's eyes: elements lo .. hi. */
static void run_blocks(const void *args, int64_t lo, int64_t hi) {
  const bound *u = args;
  const pl_group *g = u->g;
  _Alignas(64) char scratch[PL_GROUP_SCRATCH + 64 * PL_GROUP_REGISTERS];
  char *p[PL_GROUP_REGISTERS + PL_GROUP_MICRO + 64];
  int64_t block = g->block, width = block * 8 + 64; /* room behind each, for whole vectors */
  for (int r = 0; r < g->n_registers; r++) p[r] = scratch + r * width;
  char **outside = p + g->n_registers;
  int64_t first = hi - lo < block ? hi - lo : block;
  first = (first + 15) & ~(int64_t)15;
  for (int k = 0; k < g->n_external; k++) {
    const pl_external *e = &g->external[k];
    if (e->how == PL_READ_WHOLE) continue;
    outside[k] = scratch + e->scratch * width;
    if (e->how == PL_READ_NUMBER) fill(outside[k], u->base[k], e->size, e->size == 1 ? 8 * first : first);
  }
  for (int64_t b = lo; b < hi; b += block) {
    int64_t end = b + block < hi ? b + block : hi;
    for (int k = 0; k < g->n_external; k++) {
      const pl_external *e = &g->external[k];
      if (e->how == PL_READ_WHOLE) outside[k] = u->base[k] + b * e->size;
      else if (e->how == PL_READ_VIEW) gather_view(g, e, u->base[k], outside[k], b, end);
    }
    for (int m = 0; m < g->n_micro; m++) {
      const pl_micro *q = &g->micro[m];
      struct {
        const void *p[PL_GROUP_IN + 1 + 2];
      } a;
      int n = q->n_in;
      a.p[0] = p[q->in[0]];
      a.p[1] = p[q->in[1]];
      a.p[2] = p[q->in[2]];
      a.p[n] = p[q->out];
      if (q->n_reals_bytes) memcpy(&a.p[n + 1], q->reals, sizeof q->reals);
      q->fn(&a, 0, end - b);
    }
  }
}

bool pl_group_run(pl_context *c, const pl_group *g, const pl_slot *slots) {
  if (g->count == 0) return true;
  bound u;
  u.g = g;
  for (int k = 0; k < g->n_external; k++) {
    const pl_external *e = &g->external[k];
    u.base[k] = (char *)slots[e->value].data + e->offset * e->size;
  }
  if (g->count <= g->block) run_blocks(&u, 0, g->count);
  else pl_for(c, run_blocks, &u, g->count, g->block, g->work);
  return c->status == PL_OK;
}
