/* fuse.c: runs a group of elementwise ops over one index space block by block: what passes between them stays in
 * registers, blocks of at most a thousand elements that lie in L1. Slices, transposes and broadcasts are read in place.
 * The kernels are those of eager execution and f(x_i) depends on x_i alone, so the results have the same bits. */
#include <assert.h>
#include <string.h>

#include "../kernels/shapes.h"
#include "execute.h"
#include "schedule.h"

enum { REGISTERS = PL_GROUP_REGISTERS + PL_GROUP_VIEWS + 1, SCRATCH = PL_GROUP_SCRATCH + 64 * REGISTERS };
_Static_assert(REGISTERS * 64 * 8 <= PL_GROUP_SCRATCH, "blocks of 64 elements fit");

typedef struct {
  const pl_group *g;
  char *base[PL_GROUP_MICRO + 64]; /* of each external, at element 0 */
} bound;

/* Elements lo .. hi of a view, contiguous in dst, which may be overrun by a vector. */
static void gather_view(const pl_group *g, const pl_external *e, const char *base, char *dst, int64_t lo, int64_t hi) {
  view_args a = {.x = base, .y = dst, .lo = lo, .hi = hi, .rank = g->rank, .limit = e->limit};
  for (int d = 0; d < g->rank; d++) {
    a.shape[d] = g->shape[d];
    a.stride[d] = e->stride[d];
  }
  e->gather(&a, 0, 1);
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

/* y = x with w put or added on a slice, for elements lo .. hi. */
static void slice_block(const pl_group *g, const pl_micro *q, const void *x, const void *w, void *y, int64_t lo,
                        int64_t hi) {
  slice_block_args a = {.x = x, .w = w, .y = y, .lo = lo, .hi = hi, .rank = g->rank, .add = q->op == PL_OP(slice_add)};
  for (int d = 0; d < g->rank; d++) {
    a.shape[d] = g->shape[d];
    a.start[d] = q->slice[0].list[d];
    a.step[d] = q->slice[1].list[d];
    a.count[d] = q->slice[2].list[d];
  }
  q->fn(&a, 0, 1);
}

static inline void run_micro(const pl_micro *q, char *const *p, int64_t count) {
  struct {
    const void *p[PL_GROUP_IN + 1 + 2];
  } a;
  int n = q->n_in;
  a.p[0] = p[q->in[0]];
  a.p[1] = p[q->in[1]];
  a.p[2] = p[q->in[2]];
  a.p[n] = p[q->out];
  if (q->n_reals_bytes) memcpy(&a.p[n + 1], q->reals, sizeof q->reals);
  q->fn(&a, 0, count);
}

/* A kernel in the scheduler's eyes: elements lo .. hi. */
static void run_blocks(const void *args, int64_t lo, int64_t hi) {
  const bound *u = args;
  const pl_group *g = u->g;
  _Alignas(64) char scratch[SCRATCH];
  char *p[REGISTERS + PL_GROUP_MICRO + 64];
  int64_t block = g->block, width = block * 8 + 64; /* room behind each, for whole vectors */
  for (int r = 0; r < g->n_registers; r++) p[r] = scratch + r * width;
  char **outside = p + g->n_registers;
  int64_t first = hi - lo < block ? hi - lo : block;
  first = (first + 15) & ~(int64_t)15;
  for (int k = 0; k < g->n_external; k++) {
    const pl_external *e = &g->external[k];
    if (e->how == PL_READ_WHOLE) continue;
    if (e->how == PL_READ_REGION) {
      outside[k] = u->base[k];
      continue;
    }
    outside[k] = scratch + e->scratch * width;
    if (e->how == PL_READ_PERIODIC) { /* period by period, doubling */
      int64_t have = e->limit, want = block + e->limit;
      memcpy(outside[k], u->base[k], (size_t)(have * e->size));
      for (; have < want; have *= 2) {
        int64_t more = have < want - have ? have : want - have;
        memcpy(outside[k] + have * e->size, outside[k], (size_t)(more * e->size));
      }
    }
    if (e->how == PL_READ_NUMBER) fill(outside[k], u->base[k], e->size, e->size == 1 ? 8 * first : first);
  }
  for (int64_t b = lo; b < hi; b += block) {
    int64_t end = b + block < hi ? b + block : hi;
    for (int k = 0; k < g->n_external; k++) {
      const pl_external *e = &g->external[k];
      if (e->how == PL_READ_WHOLE) outside[k] = u->base[k] + b * e->size;
      else if (e->how == PL_READ_VIEW) gather_view(g, e, u->base[k], outside[k], b, end);
      else if (e->how == PL_READ_PERIODIC) outside[k] = scratch + e->scratch * width + b % e->limit * e->size;
    }
    for (int m = 0; m < g->n_micro; m++) {
      const pl_micro *q = &g->micro[m];
      if (q->slice) slice_block(g, q, p[q->in[0]], p[q->in[1]], p[q->out], b, end);
      else run_micro(q, p, end - b);
    }
  }
}

enum { OVERRUN = 8 }; /* elements that a kernel reads and writes beyond the last, at most, in f64 and f32 of vectors */

/* Rows that all kernels read and write in place (p, of registers and externals, of the first row): the pointers of each
 * kernel move on by fixed steps. */
static void walk_rows(const pl_group *g, char *const *p, const int64_t *step, int64_t rows, int64_t width) {
  struct {
    intptr_t p[PL_GROUP_IN + 1 + 2], step[PL_GROUP_IN + 1];
  } call[PL_GROUP_MICRO / 4];
  assert(g->n_micro <= PL_GROUP_MICRO / 4);
  for (int m = 0; m < g->n_micro; m++) {
    const pl_micro *q = &g->micro[m];
    memset(call[m].step, 0, sizeof call[m].step);
    for (int i = 0; i <= q->n_in; i++) {
      int k = i < q->n_in ? q->in[i] : q->out;
      call[m].p[i] = (intptr_t)p[k];
      call[m].step[i] = step[k];
    }
    if (q->n_reals_bytes) memcpy(&call[m].p[q->n_in + 1], q->reals, sizeof q->reals);
  }
  for (int64_t row = 0; row < rows; row++)
    for (int m = 0; m < g->n_micro; m++) {
      g->micro[m].fn(call[m].p, 0, width);
      for (int i = 0; i <= PL_GROUP_IN; i++) call[m].p[i] += call[m].step[i];
    }
}

/* The same by rows lo .. hi of the last axis. A kernel's last vector may reach into the next row: of what is read it
 * does not matter, unless the array ends; what is written there is written again by the next row, so the last row of a
 * piece goes through a register. */
static void run_rows(const void *args, int64_t lo, int64_t hi) {
  const bound *u = args;
  const pl_group *g = u->g;
  _Alignas(64) char scratch[SCRATCH];
  char *p[REGISTERS + PL_GROUP_MICRO + 64];
  int64_t step[REGISTERS + PL_GROUP_MICRO + 64];
  int last = g->rank - 1;
  int64_t width = g->shape[last], block = g->block < width ? g->block : width, room = g->block * 8 + 64;
  for (int r = 0; r < g->n_registers; r++) p[r] = scratch + r * room;
  memset(step, 0, (size_t)(g->n_registers + g->n_external) * sizeof *step);
  char **outside = p + g->n_registers;
  for (int k = 0; k < g->n_external; k++) {
    const pl_external *e = &g->external[k];
    if (e->how != PL_READ_NUMBER) continue;
    int64_t n = (block + 15) & ~(int64_t)15;
    outside[k] = scratch + e->scratch * room;
    fill(outside[k], u->base[k], e->size, e->size == 1 ? 8 * n : n);
  }
  /* externals that move from row to row: by a fixed step, until an outer axis turns */
  struct {
    int k;
    int64_t step;
    char *at, *last; /* of this row; where whole vectors may still be read; NULL: always brought together */
  } moving[PL_GROUP_MICRO + 64];
  int n = 0;
  for (int k = 0; k < g->n_external; k++) {
    const pl_external *e = &g->external[k];
    if (e->how == PL_READ_NUMBER) continue;
    moving[n].k = k;
    moving[n].step = (e->how == PL_READ_WHOLE ? width : last ? e->stride[last - 1] : 0) * e->size;
    moving[n].last = e->how == PL_READ_WHOLE ? (char *)UINTPTR_MAX
                     : e->stride[last] == 1  ? u->base[k] + (e->limit - block - 2 * OVERRUN) * e->size
                                             : NULL;
    step[g->n_registers + k] = moving[n].step;
    n++;
  }
  int64_t turn = lo; /* the row at which all is found anew */
  for (int64_t row = lo; row < hi;) {
    if (row == turn) {
      int64_t index[PL_MAX_RANK], rest = row;
      for (int d = last - 1; d >= 0; d--) {
        index[d] = rest % g->shape[d];
        rest /= g->shape[d];
      }
      turn = last ? row + g->shape[last - 1] - index[last - 1] : hi;
      for (int i = 0; i < n; i++) {
        const pl_external *e = &g->external[moving[i].k];
        int64_t offset = row * width;
        if (e->how == PL_READ_VIEW) {
          offset = 0;
          for (int d = 0; d < last; d++) offset += index[d] * e->stride[d];
        }
        moving[i].at = u->base[moving[i].k] + offset * e->size;
      }
    }
    int64_t rows = block < width ? 0 : (turn < hi ? turn : hi - 1) - row; /* that lie in place */
    for (int i = 0; i < n && rows > 0; i++)
      if (moving[i].at > moving[i].last) rows = 0;
      else if (moving[i].step > 0) {
        uintptr_t more = ((uintptr_t)moving[i].last - (uintptr_t)moving[i].at) / (uintptr_t)moving[i].step;
        if (more < (uintptr_t)rows) rows = (int64_t)more + 1;
      }
    if (rows > 0) {
      for (int i = 0; i < n; i++) outside[moving[i].k] = moving[i].at;
      walk_rows(g, p, step, rows, width);
      for (int i = 0; i < n; i++) moving[i].at += rows * moving[i].step;
      row += rows;
      continue;
    }
    for (int64_t b = 0; b < width; b += block) {
      int64_t end = b + block < width ? b + block : width;
      for (int i = 0; i < n; i++) {
        int k = moving[i].k;
        const pl_external *e = &g->external[k];
        char *here = moving[i].at + b * e->size;
        if (here <= moving[i].last) {
          outside[k] = here;
        } else {
          outside[k] = scratch + e->scratch * room;
          gather_view(g, e, u->base[k], outside[k], row * width + b, row * width + end);
        }
      }
      bool final = row + 1 == hi && end == width;
      for (int m = 0; m < g->n_micro; m++) {
        const pl_micro *q = &g->micro[m];
        int k = q->out - g->n_registers;
        if (k < 0 || !final) {
          run_micro(q, p, end - b);
        } else { /* then read from there by the rest of the row */
          char *to = outside[k];
          outside[k] = scratch + (g->n_registers - 1) * room;
          run_micro(q, p, end - b);
          memcpy(to, outside[k], (size_t)((end - b) * g->external[k].size));
          outside[k] = to;
        }
      }
    }
    for (int i = 0; i < n; i++) moving[i].at += moving[i].step;
    row++;
  }
}

/* A group of one element: numbers are read where they are. */
static void run_one(const bound *u) {
  const pl_group *g = u->g;
  _Alignas(64) char scratch[64 * PL_GROUP_REGISTERS];
  char *p[PL_GROUP_REGISTERS + PL_GROUP_MICRO + 64];
  for (int r = 0; r < g->n_registers; r++) p[r] = scratch + 64 * r;
  for (int k = 0; k < g->n_external; k++) p[g->n_registers + k] = u->base[k];
  for (int m = 0; m < g->n_micro; m++) {
    const pl_micro *q = &g->micro[m];
    if (q->one) q->one(p[q->in[0]], p[q->in[1]], p[q->in[2]], p[q->out]);
    else run_micro(q, p, 1);
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
  if (g->count == 1 && !g->sliced) {
    run_one(&u);
  } else if (g->rows) {
    int64_t width = g->shape[g->rank - 1], rows = g->count / width;
    pl_for(c, run_rows, &u, rows, 1, g->work * (double)width);
  } else if (g->count <= g->block) run_blocks(&u, 0, g->count);
  else pl_for(c, run_blocks, &u, g->count, g->block, g->work);
  return c->status == PL_OK;
}
