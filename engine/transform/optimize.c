/* optimize.c: from a body to an executable. Plain: each instruction is a unit of its own, the reference that the
 * optimized form is tested against. Optimized: equal instructions once, multiplications by one and operations on
 * constants done now, slices and broadcasts read where they lie, elementwise ops fused. Both: dead values share memory
 * by liveness. No rewriting changes a bit of any result. */
#include <assert.h>
#include <string.h>

#include "execute.h"
#include "schedule.h"

/* What is known of a value while units are made. */
typedef struct {
  int32_t same;  /* another value with the same content, or itself */
  int32_t root;  /* whose memory it shares (reshape, number), or itself */
  int64_t bytes; /* behind the root's start */
  int32_t maker; /* index of its instruction, -1: input or constant */
  bool view;     /* may be read in place through strides: */
  int32_t base;  /* of this value */
  int64_t offset, stride[PL_MAX_RANK];
  bool memory;  /* somebody needs it in memory */
  int32_t unit; /* that makes it; -1: there from the start */
  int32_t reg;  /* within its group */
  int32_t last; /* unit of its last use; INT32_MAX: an output */
} fact;

typedef struct {
  const pl_op *op;
  const pl_attr *attrs;
  uint32_t line;
  int n_in, n_out;
  uint32_t *operands;
  bool live;
} step_;

enum { SHAPES = 256 };

typedef struct {
  pl_context *c;
  pl_body *b;
  pl_executable *e;
  bool optimize;
  fact *fact;
  int n_values, values_capacity;
  step_ *steps;
  int n_steps;
  struct group_members { /* of each group unit */
    int32_t *list;
    int n, capacity, n_views;
    int32_t older;                 /* the group before it with the same hash of its shape, or -1 */
    int32_t views[PL_GROUP_VIEWS]; /* operands that are not read as they lie, or are numbers */
  } * members;
  int32_t newest[SHAPES]; /* group by hash of shape */
  /* by value, for the group that is being finished, and -1, 0, -1 between: the member that makes it, how many read it,
   * and the last one that does */
  int32_t *member, *uses, *last;
  int32_t *order; /* instruction of each unit, -1: a group */
} build;

static int32_t same(const build *u, int32_t v) {
  while (u->fact[v].same != v) v = u->fact[v].same;
  return v;
}

static int64_t count_of(const pl_spec *s) { return s->dtype == PL_DTYPES ? 0 : pl_spec_count(s); }

static bool is_scalar_constant(const build *u, int32_t v, double *x) {
  const pl_place *p = &u->e->places[v];
  if (p->kind != PL_AT_CONSTANT) return false;
  pl_slot *s = pl_slot_find(u->c, u->e->constants[p->index]);
  if (!s || s->count != 1 || (s->flags & PL_FLAG_RESOURCE)) return false;
  *x = pl_item(u->c, s->handle);
  return true;
}

/* A constant made here; its value's number, or -1. */
static int32_t new_constant(build *u, pl_value handle) {
  pl_executable *e = u->e;
  pl_slot *s = pl_slot_find(u->c, handle);
  if (!s || u->n_values == u->values_capacity) return -1;
  pl_value *grown = pl_memory_grow(u->c, e->constants, ((size_t)e->n_constants + 1) * sizeof *grown);
  if (!grown) return -1;
  e->constants = grown;
  int32_t v = u->n_values++;
  e->constants[e->n_constants] = handle;
  pl_retain(u->c, handle);
  pl_spec_of(s, &e->specs[v]);
  e->places[v] = (pl_place){PL_AT_CONSTANT, e->n_constants++, 0};
  u->fact[v] = (fact){.same = v, .root = v, .maker = -1, .unit = -1, .base = v};
  return v;
}

/* Is it element k of a slice's content that operand i gives? Then it lies in memory. */
static bool is_region(const step_ *q, int i) {
  return i == 1 && (q->op == PL_OP(slice_set) || q->op == PL_OP(slice_add));
}

/* May it be a member of a fused group? */
static bool is_elementwise(const step_ *q) {
  if (q->op->kind == PL_ELEMENTWISE) return q->n_in <= PL_GROUP_IN;
  return q->op == PL_OP(cast) || ((q->op == PL_OP(slice_set) || q->op == PL_OP(slice_add)) && q->attrs[0].n > 0);
}

/* The kernel that computes the step, given its operands' specs. */
static pl_kernel kernel_of(const build *u, const step_ *q) {
  static const char *const casts[] = {"cast_f64", "cast_f32", "cast_i64", "cast_bool"};
  if (q->op == PL_OP(slice_set) || q->op == PL_OP(slice_add))
    return pl_kernel_find("slice_block", u->e->specs[q->operands[0]].dtype);
  if (q->op == PL_OP(cast))
    return pl_kernel_find(casts[u->e->specs[q->operands[0]].dtype], u->e->specs[q->operands[1]].dtype);
  int k = q->op->masks & 1 && q->n_in > 1 && !(q->op->masks & 2) ? 1 : 0; /* where: behind the mask */
  return q->op->fn[u->e->specs[q->operands[k]].dtype];
}

/* ---- views ---- */

static void own_strides(const pl_spec *s, int64_t *stride) {
  int64_t n = 1;
  for (int a = s->rank - 1; a >= 0; a--) {
    stride[a] = n;
    n *= s->shape[a];
  }
}

/* Strides of a value seen as itself or as a view. */
static void strides_of(const build *u, int32_t v, int64_t *offset, int64_t *stride, int32_t *base) {
  const fact *f = &u->fact[v];
  if (f->view) {
    *offset = f->offset;
    *base = f->base;
    memcpy(stride, f->stride, sizeof f->stride);
  } else {
    *offset = 0;
    *base = v;
    own_strides(&u->e->specs[v], stride);
  }
}

static void make_view(build *u, const step_ *q) {
  const pl_op *op = q->op;
  int32_t out = (int32_t)q->operands[q->n_in], x = q->n_in ? (int32_t)q->operands[0] : -1;
  fact *f = &u->fact[out];
  const pl_spec *so = &u->e->specs[out];
  int64_t stride[PL_MAX_RANK] = {0};
  if (op == PL_OP(zeros)) {
    pl_pause(u->c);
    pl_value zero = pl_constant(u->c, so->dtype, 0);
    pl_resume(u->c);
    int32_t v = new_constant(u, zero);
    if (v < 0) return;
    *f = (fact){.same = out, .root = out, .maker = f->maker, .view = true, .base = v, .unit = -1};
    return;
  }
  if (x < 0) return;
  strides_of(u, x, &f->offset, stride, &f->base);
  const pl_spec *sx = &u->e->specs[x];
  if (op == PL_OP(broadcast_to)) {
    for (int a = 0; a < so->rank; a++) {
      int b = a - (so->rank - sx->rank);
      f->stride[a] = b < 0 || sx->shape[b] == 1 ? 0 : stride[b];
    }
  } else if (op == PL_OP(slice)) {
    for (int a = 0; a < so->rank; a++) {
      f->offset += so->shape[a] ? stride[a] * q->attrs[0].list[a] : 0;
      f->stride[a] = stride[a] * q->attrs[1].list[a];
    }
  } else { /* transpose */
    const pl_attr *axes = &q->attrs[0];
    for (int a = 0; a < so->rank; a++) {
      int64_t from = axes->n < 0 ? so->rank - 1 - a : axes->list[a] < 0 ? axes->list[a] + so->rank : axes->list[a];
      f->stride[a] = stride[from];
    }
  }
  f->view = true;
}

static bool viewable(const pl_op *op) {
  return op == PL_OP(broadcast_to) || op == PL_OP(slice) || op == PL_OP(transpose) || op == PL_OP(zeros);
}

/* ---- folding ---- */

typedef struct {
  uint64_t hash;
  int32_t step;
} seen;

static bool equal_steps(const step_ *p, const step_ *q) {
  pl_instruction a = {.op = p->op, .attrs = p->attrs, .n_in = (uint16_t)p->n_in, .n_out = (uint16_t)p->n_out},
                 b = {.op = q->op, .attrs = q->attrs, .n_in = (uint16_t)q->n_in, .n_out = (uint16_t)q->n_out};
  return !memcmp(p->operands, q->operands, (size_t)p->n_in * sizeof *p->operands) && pl_instruction_equal(&a, &b);
}

/* Does y = op(...) say no more than one of its operands? */
static int32_t simpler(build *u, const step_ *q) {
  int32_t out = (int32_t)q->operands[q->n_in];
  double x;
  for (int k = 0; k < 2 && q->n_in == 2; k++) {
    int32_t v = (int32_t)q->operands[k], w = (int32_t)q->operands[1 - k];
    bool one = (q->op == PL_OP(mul) || (q->op == PL_OP(chain) && k == 0) || (q->op == PL_OP(div) && k == 1));
    if (!one) continue;
    int32_t base = u->fact[v].view ? u->fact[v].base : v;
    if (is_scalar_constant(u, base, &x) && x == 1 && u->e->specs[w].rank == u->e->specs[out].rank &&
        !memcmp(u->e->specs[w].shape, u->e->specs[out].shape, (size_t)u->e->specs[w].rank * sizeof(int32_t)))
      return w;
  }
  return -1;
}

static bool fold_constants(build *u, const step_ *q) {
  if (!is_elementwise(q) || is_region(q, 1)) return false;
  pl_value in[PL_GROUP_IN];
  double x;
  for (int i = 0; i < q->n_in; i++) {
    if (!is_scalar_constant(u, (int32_t)q->operands[i], &x)) return false;
    in[i] = u->e->constants[u->e->places[q->operands[i]].index];
  }
  pl_pause(u->c);
  pl_value out = pl_apply1(u->c, q->op, q->n_in, in, q->attrs);
  pl_resume(u->c);
  int32_t v = out == PL_NONE ? -1 : new_constant(u, out);
  pl_release(u->c, out);
  if (v >= 0) u->fact[q->operands[q->n_in]].same = v;
  return v >= 0;
}

static bool read_steps(build *u) {
  pl_context *c = u->c;
  pl_body *b = u->b;
  int64_t room = 64;
  while (room < 4 * b->code.n) room *= 2;
  seen *table = pl_memory_new(c, (size_t)room * sizeof *table);
  if (!table) return false;
  for (int64_t i = 0; i < room; i++) table[i].step = -1;
  for (int64_t k = 0; k < b->code.n && !c->status; k++) {
    const pl_instruction *q = &b->code.instructions[k];
    step_ *s = &u->steps[u->n_steps];
    *s = (step_){q->op, q->attrs, q->line, q->n_in, q->n_out, u->e->operands + q->operands, true};
    for (int i = 0; i < s->n_in; i++) s->operands[i] = (uint32_t)same(u, (int32_t)s->operands[i]);
    int32_t out = (int32_t)s->operands[s->n_in];
    for (int i = s->n_in; i < s->n_in + s->n_out; i++) u->fact[s->operands[i]].maker = u->n_steps;
    if (s->op->share || s->op == PL_OP(number)) {
      int32_t x = (int32_t)s->operands[0];
      const pl_spec *from = &u->e->specs[x], *to = &u->e->specs[out];
      if (u->optimize && s->op->share && from->rank == to->rank &&
          !memcmp(from->shape, to->shape, (size_t)to->rank * sizeof *to->shape)) {
        u->fact[out].same = x;
        continue;
      }
      u->fact[out].root = u->fact[x].root;
      u->fact[out].bytes = u->fact[x].bytes + (s->op == PL_OP(number) ? 8 * s->attrs[0].i : 0);
    }
    if (u->optimize) {
      int32_t other = simpler(u, s);
      if (other >= 0) {
        u->fact[out].same = other;
        continue;
      }
      if (fold_constants(u, s)) continue;
      pl_instruction again = *q;
      uint64_t h = pl_hash(pl_instruction_hash(7, &again), s->operands, (size_t)s->n_in * sizeof *s->operands);
      int64_t i = (int64_t)(h & (uint64_t)(room - 1));
      while (table[i].step >= 0 && !(table[i].hash == h && equal_steps(&u->steps[table[i].step], s)))
        i = (i + 1) & (room - 1);
      if (table[i].step >= 0) {
        const step_ *old = &u->steps[table[i].step];
        for (int j = 0; j < s->n_out; j++)
          u->fact[s->operands[s->n_in + j]].same = (int32_t)old->operands[old->n_in + j];
        continue;
      }
      table[i] = (seen){h, u->n_steps};
      if (viewable(s->op)) make_view(u, s);
    }
    u->n_steps++;
  }
  pl_memory_free(c, table);
  return c->status == PL_OK;
}

/* ---- liveness of steps, and who needs memory ---- */

static void need_memory(build *u, int32_t v) {
  fact *f = &u->fact[v];
  if (f->memory) return;
  f->memory = true;
  if (f->root != v) {
    need_memory(u, f->root);
    if (f->maker >= 0) u->steps[f->maker].live = true;
    return;
  }
  if (f->maker >= 0) u->steps[f->maker].live = true;
}

/* Backwards: which steps are needed, what must lie in memory. */
static void mark(build *u) {
  for (int k = 0; k < u->n_steps; k++) u->steps[k].live = false;
  for (int i = 0; i < u->b->n_out; i++) need_memory(u, same(u, (int32_t)u->b->outputs[i]));
  for (int k = u->n_steps - 1; k >= 0; k--) {
    step_ *s = &u->steps[k];
    if (!s->live) continue;
    bool element = u->optimize && is_elementwise(s);
    for (int i = 0; i < s->n_in; i++) {
      int32_t v = (int32_t)s->operands[i];
      fact *f = &u->fact[v];
      if (!element || is_region(s, i)) {
        need_memory(u, v);
      } else if (f->view) {
        need_memory(u, f->base); /* the view itself only if others want it */
      } else if (f->root != v) {
        need_memory(u, v); /* an alias: of what lies in memory */
      } else if (f->maker >= 0) {
        u->steps[f->maker].live = true;
        if (!is_elementwise(&u->steps[f->maker])) need_memory(u, v);
      }
    }
  }
}

/* ---- units ---- */

static int32_t unit_of(const build *u, int32_t v) { return u->fact[u->fact[v].root].unit; }

static bool same_shape(const pl_spec *a, int rank, const int32_t *shape) {
  return a->rank == rank && !memcmp(a->shape, shape, (size_t)rank * sizeof *shape);
}

/* How an elementwise step reads an operand: the value whose memory or register it needs. */
static int32_t source_of(const build *u, int32_t v, bool *view) {
  const fact *f = &u->fact[v];
  *view = f->view && !f->memory;
  return *view ? f->base : v;
}

static int32_t *newest_of(build *u, int rank, const int32_t *shape) {
  return &u->newest[pl_hash((uint64_t)rank, shape, (size_t)rank * sizeof *shape) % SHAPES];
}

/* Adds to the views of a group those that step s reads through a register, each once; false: there is no room. */
static bool add_views(const build *u, const step_ *s, struct group_members *m) {
  const pl_spec *so = &u->e->specs[s->operands[s->n_in]];
  int n = m->n_views;
  for (int i = 0; i < s->n_in; i++) {
    bool view;
    int32_t v = (int32_t)s->operands[i];
    source_of(u, v, &view);
    if (is_region(s, i) || (!view && same_shape(&u->e->specs[v], so->rank, so->shape))) continue;
    int k = 0;
    while (k < n && m->views[k] != v) k++;
    if (k < n) continue;
    if (n == PL_GROUP_VIEWS) return false;
    m->views[n++] = v;
  }
  m->n_views = n;
  return true;
}

static bool join_group(build *u, int k, int *group) {
  const step_ *s = &u->steps[k];
  const pl_spec *so = &u->e->specs[s->operands[s->n_in]];
  int32_t least = -1; /* a group before this one is too early */
  for (int i = 0; i < s->n_in; i++) {
    bool view = false;
    int32_t v = is_region(s, i) ? (int32_t)s->operands[i] : source_of(u, (int32_t)s->operands[i], &view);
    int32_t at = unit_of(u, v);
    bool direct = !view && u->fact[v].root == v && same_shape(&u->e->specs[v], so->rank, so->shape);
    direct = direct && !is_region(s, i);
    if (at >= 0 && !(direct && u->e->units[at].kind == PL_UNIT_GROUP)) at++;
    if (at > least) least = at;
  }
  for (int32_t g = *newest_of(u, so->rank, so->shape); g >= 0 && g >= least; g = u->members[g].older)
    if (same_shape(so, u->e->units[g].group->rank, u->e->units[g].group->shape) &&
        u->members[g].n < PL_GROUP_MICRO / 4 && add_views(u, s, &u->members[g])) {
      *group = g;
      return true;
    }
  return false;
}

static bool add_member(build *u, int g, int32_t step) {
  struct group_members *m = &u->members[g];
  if (m->n == m->capacity) {
    int capacity = 2 * m->capacity + 8;
    int32_t *grown = pl_memory_grow(u->c, m->list, (size_t)capacity * sizeof *grown);
    if (!grown) return false;
    m->list = grown;
    m->capacity = capacity;
  }
  m->list[m->n++] = step;
  return true;
}

static bool make_units(build *u) {
  pl_context *c = u->c;
  pl_executable *e = u->e;
  for (int k = 0; k < u->n_steps && !c->status; k++) {
    step_ *s = &u->steps[k];
    int32_t out = s->n_out ? (int32_t)s->operands[s->n_in] : -1;
    if (!s->live) continue;
    if (s->op->share || s->op == PL_OP(number)) continue; /* an alias */
    if (u->fact[out].view && !u->fact[out].memory) continue;
    int g = -1;
    if (u->optimize && is_elementwise(s)) {
      const pl_spec *so = &e->specs[out];
      if (!join_group(u, k, &g)) {
        g = e->n_units++;
        pl_group *group = pl_memory_new(c, sizeof *group);
        if (!group) return false;
        *group = (pl_group){.rank = so->rank, .count = count_of(so)};
        memcpy(group->shape, so->shape, sizeof group->shape);
        e->units[g] = (pl_unit){.kind = PL_UNIT_GROUP, .op = s->op, .line = s->line, .group = group};
        int32_t *newest = newest_of(u, so->rank, so->shape);
        u->members[g].older = *newest;
        *newest = g;
        add_views(u, s, &u->members[g]);
      }
      if (!add_member(u, g, k)) return false;
    } else {
      g = e->n_units++;
      e->units[g] = (pl_unit){.kind = s->op->make   ? PL_UNIT_MAKE
                                      : s->op->step ? PL_UNIT_STEP
                                                    : PL_UNIT_RUN,
                              .op = s->op,
                              .attrs = s->attrs,
                              .line = s->line,
                              .operands = (uint32_t)(s->operands - e->operands),
                              .n_in = s->n_in,
                              .n_out = s->n_out};
    }
    for (int i = s->n_in; i < s->n_in + s->n_out; i++) u->fact[s->operands[i]].unit = g;
  }
  /* what another unit reads must lie in memory */
  for (int g = 0; g < e->n_units; g++)
    for (int m = 0; m < u->members[g].n; m++) {
      const step_ *s = &u->steps[u->members[g].list[m]];
      for (int i = 0; i < s->n_in; i++) {
        bool view = false;
        int32_t v = is_region(s, i) ? (int32_t)s->operands[i] : source_of(u, (int32_t)s->operands[i], &view);
        if (u->fact[v].unit != g || is_region(s, i)) u->fact[u->fact[v].root].memory = u->fact[v].memory = true;
      }
    }
  return c->status == PL_OK;
}

/* ---- groups ---- */

static int32_t external(build *u, pl_group *g, pl_reading how, int32_t value, int size, int64_t offset,
                        const int64_t *stride) {
  for (int k = 0; k < g->n_external; k++) {
    const pl_external *e = &g->external[k];
    if (e->how == how && e->value == value && e->offset == offset && e->size == size &&
        (how != PL_READ_VIEW || !memcmp(e->stride, stride, (size_t)g->rank * sizeof *stride)))
      return k;
  }
  pl_external *grown = pl_memory_grow(u->c, g->external, ((size_t)g->n_external + 1) * sizeof *grown);
  if (!grown) return -1;
  g->external = grown;
  pl_external *e = &grown[g->n_external];
  *e = (pl_external){.how = how, .size = (uint8_t)size, .value = value, .offset = offset, .scratch = -1};
  if (how == PL_READ_VIEW) {
    memcpy(e->stride, stride, (size_t)g->rank * sizeof *stride);
    e->limit = count_of(&u->e->specs[value]) - offset;
    e->gather = pl_kernel_find("view_block", size == 8 ? PL_F64 : size == 4 ? PL_F32 : PL_BOOL);
  }
  return g->n_external++;
}

/* Is the view contiguous over the group's shape? */
static bool contiguous(const pl_group *g, const int64_t *stride) {
  int64_t n = 1;
  for (int a = g->rank - 1; a >= 0; a--) {
    if (g->shape[a] != 1 && stride[a] != n) return false;
    n *= g->shape[a];
  }
  return true;
}

/* Where a member reads operand v: register r >= 0, or external -1 - k. */
static int32_t read_operand(build *u, int unit, pl_group *g, int32_t v) {
  bool view;
  int32_t source = source_of(u, v, &view);
  int size = (int)pl_dtype_size(u->e->specs[v].dtype);
  const fact *f = &u->fact[source];
  if (!view && f->unit == unit && !f->memory && f->root == source) return f->reg;
  int64_t stride[PL_MAX_RANK] = {0}, offset = 0;
  const pl_spec *s = &u->e->specs[v];
  if (view) {
    offset = u->fact[v].offset;
    int extra = g->rank - s->rank;
    for (int a = 0; a < g->rank; a++)
      stride[a] = a < extra || s->shape[a - extra] == 1 ? 0 : u->fact[v].stride[a - extra];
  } else {
    int64_t own[PL_MAX_RANK];
    own_strides(s, own);
    int extra = g->rank - s->rank;
    for (int a = 0; a < g->rank; a++) stride[a] = a < extra || s->shape[a - extra] == 1 ? 0 : own[a - extra];
  }
  bool flat = true;
  for (int a = 0; a < g->rank; a++) flat = flat && (stride[a] == 0 || g->shape[a] == 1);
  int32_t k = contiguous(g, stride) ? external(u, g, PL_READ_WHOLE, source, size, offset, stride)
              : flat                ? external(u, g, PL_READ_NUMBER, source, size, offset, stride)
                                    : external(u, g, PL_READ_VIEW, source, size, offset, stride);
  return -1 - k;
}

enum { LONG_ROW = 40 }; /* from here on a kernel's call for each row costs less than copying the rows together */

/* An addition of a product, or of a sum, that nobody else reads is one kernel with it, as is the chain rule behind a
 * change of sign: is member i such a one, and of which member? The operand that holds it is returned in `at`. */
static const char *joined_kernel(const build *u, const struct group_members *m, int i, const int32_t *uses,
                                 const int32_t *member, bool sums, int *of, int *at) {
  const step_ *s = &u->steps[m->list[i]];
  bool add = s->op == PL_OP(add), sub = s->op == PL_OP(sub);
  if (s->op == PL_OP(chain) && !sums && u->e->specs[s->operands[2]].dtype <= PL_F32) { /* what a difference passes on */
    int32_t v = (int32_t)s->operands[0], j = member[v];
    if (j < 0 || uses[v] != 1 || u->fact[v].memory || u->fact[v].view || u->steps[m->list[j]].op != PL_OP(neg))
      return NULL;
    *of = j;
    *at = 0;
    return "neg_chain";
  }
  if ((!add && !sub) || u->e->specs[s->operands[2]].dtype > PL_F32) return NULL;
  for (int k = 0; k < 2; k++) {
    int32_t v = (int32_t)s->operands[k], j = member[v];
    if (j < 0 || uses[v] != 1 || u->fact[v].memory || u->fact[v].view) continue;
    const step_ *p = &u->steps[m->list[j]];
    if (s->operands[0] == s->operands[1] || (p->op == PL_OP(add)) != sums) continue;
    if (p->op != PL_OP(mul) && (sub || (p->op != PL_OP(chain) && !sums))) continue;
    *of = j;
    *at = k;
    return sums ? "add_add" : p->op == PL_OP(chain) ? "chain_add" : add ? "mul_add" : k == 1 ? "mul_sub" : "sub_mul";
  }
  return NULL;
}

/* How long what repeats along the leading axes is; 0: the view is none. */
static int64_t period_of(const pl_group *g, const int64_t *stride) {
  int64_t n = 1;
  int a = g->rank - 1;
  for (; a >= 0 && (stride[a] == n || g->shape[a] == 1); a--) n *= g->shape[a];
  for (; a >= 0; a--)
    if (stride[a] != 0 && g->shape[a] != 1) return 0;
  return n > 1 && n <= PL_BLOCK / 2 ? n : 0;
}

typedef struct {
  const char *kernel; /* NULL: the op's own */
  int n;              /* operands; 0: left out */
  int32_t v[PL_GROUP_IN];
} joined;

static bool finish_group(build *u, int unit) {
  pl_context *c = u->c;
  pl_group *g = u->e->units[unit].group;
  struct group_members *m = &u->members[unit];
  g->micro = pl_memory_new(c, (size_t)m->n * sizeof *g->micro);
  int32_t *last = u->last, *member = u->member, *uses = u->uses;
  int32_t(*in)[PL_GROUP_IN] = pl_memory_new(c, (size_t)m->n * sizeof *in);
  int32_t *out = pl_memory_new(c, (size_t)m->n * sizeof *out);
  joined *ops = pl_memory_new(c, (size_t)m->n * sizeof *ops);
  if (!g->micro || !in || !out || !ops) {
    pl_memory_free(c, ops);
    pl_memory_free(c, in);
    pl_memory_free(c, out);
    return false;
  }
  /* operands of each member: a product that is joined to a sum gives its own */
  for (int i = 0; i < m->n; i++) {
    const step_ *s = &u->steps[m->list[i]];
    member[s->operands[s->n_in]] = i;
    for (int k = 0; k < s->n_in; k++) uses[s->operands[k]]++;
    ops[i] = (joined){.kernel = NULL, .n = s->n_in};
    for (int k = 0; k < s->n_in; k++) ops[i].v[k] = (int32_t)s->operands[k];
  }
  for (int sums = 0; sums < 2; sums++)
    for (int i = 0; i < m->n; i++) {
      int of, at;
      if (ops[i].kernel || ops[i].n == 0) continue;
      const char *kernel = joined_kernel(u, m, i, uses, member, sums, &of, &at);
      if (!kernel || ops[of].kernel || ops[of].n == 0) continue;
      int32_t other = ops[i].v[1 - at];
      ops[i] = ops[of].n == 1 ? (joined){kernel, 2, {ops[of].v[0], other}}
                              : (joined){kernel, 3, {other, ops[of].v[0], ops[of].v[1]}};
      ops[of].n = 0; /* left out */
    }
  for (int i = 0; i < m->n; i++) {
    const step_ *s = &u->steps[m->list[i]];
    last[s->operands[s->n_in]] = i;
    for (int k = 0; k < ops[i].n; k++) {
      const fact *f = &u->fact[ops[i].v[k]];
      if (!f->view && f->unit == unit) last[ops[i].v[k]] = i;
    }
  }
  bool taken[PL_GROUP_REGISTERS] = {false};
  int registers = 0;
  for (int i = 0; i < m->n && !c->status; i++) {
    if (!ops[i].n) continue;
    const step_ *s = &u->steps[m->list[i]];
    const joined *o = &ops[i];
    int32_t y = (int32_t)s->operands[s->n_in];
    for (int k = 0; k < o->n; k++)
      in[i][k] = is_region(s, k) ? -1 - external(u, g, PL_READ_REGION, o->v[k], 0, 0, NULL)
                                 : read_operand(u, unit, g, o->v[k]);
    if (u->fact[y].memory) {
      out[i] = -1 - external(u, g, PL_READ_WHOLE, y, (int)pl_dtype_size(u->e->specs[y].dtype), 0, NULL);
    } else {
      /* an operand that dies here leaves its register to the result: kernels read an element before they write it */
      for (int k = 0; k < o->n; k++)
        if (in[i][k] >= 0 && last[o->v[k]] == i) taken[in[i][k]] = false;
      int r = 0;
      bool wider = s->op == PL_OP(cast) || s->op->result >= 0 || (s->op->masks && s->op->result < 0);
      if (wider) /* element sizes differ: it must not write over what it still reads */
        for (int k = 0; k < o->n; k++)
          if (in[i][k] >= 0) taken[in[i][k]] = true;
      while (r < PL_GROUP_REGISTERS && taken[r]) r++;
      if (wider)
        for (int k = 0; k < o->n; k++)
          if (in[i][k] >= 0 && last[o->v[k]] == i) taken[in[i][k]] = false;
      if (r == PL_GROUP_REGISTERS) { /* too many at once: this one goes through memory */
        u->fact[y].memory = true;
        out[i] = -1 - external(u, g, PL_READ_WHOLE, y, (int)pl_dtype_size(u->e->specs[y].dtype), 0, NULL);
        continue;
      }
      taken[r] = true;
      if (r >= registers) registers = r + 1;
      u->fact[y].reg = out[i] = r;
    }
    if (u->fact[y].memory)
      for (int k = 0; k < o->n; k++)
        if (in[i][k] >= 0 && last[o->v[k]] == i) taken[in[i][k]] = false;
  }
  bool views = false, slices = false;
  for (int k = 0; k < g->n_external; k++)
    views = views || (g->external[k].how == PL_READ_VIEW && g->external[k].stride[g->rank - 1] == 1);
  for (int i = 0; i < m->n; i++) slices = slices || is_region(&u->steps[m->list[i]], 1);
  g->sliced = slices;
  bool walked = g->rows = views && !slices && g->shape[g->rank - 1] >= LONG_ROW;
  /* views that repeat are laid out once, where there is room for two registers each */
  int copied = registers + walked;
  int64_t longest = 64;
  for (int k = 0; k < g->n_external; k++) {
    const pl_external *x = &g->external[k];
    int64_t period = x->how == PL_READ_VIEW && !walked ? period_of(g, x->stride) : 0;
    copied += x->how == PL_READ_NUMBER || x->how == PL_READ_VIEW ? 1 + (period > 0) : 0;
    while (longest < period) longest *= 2;
  }
  bool repeat = copied * longest * 8 <= PL_GROUP_SCRATCH;
  for (int k = 0; k < g->n_external; k++) {
    pl_external *x = &g->external[k];
    if (x->how != PL_READ_NUMBER && x->how != PL_READ_VIEW) continue;
    x->scratch = registers++;
    int64_t period = repeat && !walked && x->how == PL_READ_VIEW ? period_of(g, x->stride) : 0;
    if (!period) continue;
    x->how = PL_READ_PERIODIC;
    x->limit = period;
    registers++;
  }
  if (walked) registers++; /* the last row's */
  g->n_registers = registers;
  int64_t block = PL_BLOCK;
  while (block > 64 && registers * block * 8 > PL_GROUP_SCRATCH) block /= 2;
  assert(registers * block * 8 <= PL_GROUP_SCRATCH); /* PL_GROUP_VIEWS */
  g->block = block;
  g->work = 0;
  for (int i = 0; i < m->n && !c->status; i++) {
    if (!ops[i].n) continue;
    const step_ *s = &u->steps[m->list[i]];
    pl_micro *q = &g->micro[g->n_micro++];
    *q = (pl_micro){
        .fn = ops[i].kernel ? pl_kernel_find(ops[i].kernel, u->e->specs[s->operands[0]].dtype) : kernel_of(u, s),
        .one = g->count == 1 && (ops[i].kernel || s->op->kind == PL_ELEMENTWISE) && !s->op->masks && s->op->result < 0
                   ? pl_kernel_find_one(ops[i].kernel   ? ops[i].kernel
                                        : s->op->kernel ? s->op->kernel
                                                        : s->op->name,
                                        u->e->specs[s->operands[0]].dtype)
                   : NULL,
        .name = ops[i].kernel ? ops[i].kernel : s->op->name,
        .ops = ops[i].kernel ? 2 : 1,
        .op = s->op,
        .line = s->line,
        .n_in = (uint8_t)ops[i].n};
    for (int k = 0; k < ops[i].n; k++) q->in[k] = (uint16_t)(in[i][k] >= 0 ? in[i][k] : registers - 1 - in[i][k]);
    q->out = (uint16_t)(out[i] >= 0 ? out[i] : registers - 1 - out[i]);
    if (is_region(s, 1)) q->slice = s->attrs;
    if (s->op->kind == PL_ELEMENTWISE && s->op->attrs[0].name) {
      double reals[2] = {0};
      int n = 0;
      while (s->op->attrs[n].name && n < 2) reals[n] = s->attrs[n].r, n++;
      q->n_reals_bytes =
          (uint8_t)(pl_kernel_reals((char *)q->reals, u->e->specs[s->operands[0]].dtype, n, reals) - (char *)q->reals);
    }
    g->work += s->op->work ? s->op->work : q->ops;
  }
  for (int i = 0; i < m->n; i++) {
    const step_ *s = &u->steps[m->list[i]];
    for (int k = 0; k <= s->n_in; k++) {
      member[s->operands[k]] = last[s->operands[k]] = -1;
      uses[s->operands[k]] = 0;
    }
  }
  pl_memory_free(c, in);
  pl_memory_free(c, out);
  pl_memory_free(c, ops);
  return c->status == PL_OK;
}

/* ---- memory ---- */

typedef struct {
  int64_t start, size;
} gap;

static void use(build *u, int32_t v, int32_t unit) {
  fact *f = &u->fact[u->fact[v].root];
  if (f->last != INT32_MAX && f->last < unit) f->last = unit;
}

static int64_t padded(const pl_spec *s) {
  int64_t bytes = count_of(s) * (int64_t)pl_dtype_size(s->dtype);
  return (bytes + 127) & ~(int64_t)63;
}

/* Best fit among the gaps that dead values left. */
static int64_t take(build *u, gap **gaps, int *n, int *capacity, int64_t size) {
  (void)capacity;
  int best = -1;
  for (int i = 0; i < *n; i++)
    if ((*gaps)[i].size >= size && (best < 0 || (*gaps)[i].size < (*gaps)[best].size)) best = i;
  if (best >= 0) {
    int64_t start = (*gaps)[best].start;
    (*gaps)[best].start += size;
    (*gaps)[best].size -= size;
    if ((*gaps)[best].size == 0) (*gaps)[best] = (*gaps)[--*n];
    return start;
  }
  int64_t start = u->e->arena;
  for (int i = 0; i < *n; i++) /* one at the end grows */
    if ((*gaps)[i].start + (*gaps)[i].size == u->e->arena) {
      start = (*gaps)[i].start;
      (*gaps)[i] = (*gaps)[--*n];
      break;
    }
  u->e->arena = start + size;
  return start;
}

static bool give(build *u, gap **gaps, int *n, int *capacity, int64_t start, int64_t size) {
  for (int i = 0; i < *n; i++)
    if ((*gaps)[i].start + (*gaps)[i].size == start) { /* joins the one before, and perhaps the one behind */
      start = (*gaps)[i].start;
      size += (*gaps)[i].size;
      (*gaps)[i--] = (*gaps)[--*n];
    } else if (start + size == (*gaps)[i].start) {
      size += (*gaps)[i].size;
      (*gaps)[i--] = (*gaps)[--*n];
    }
  if (*n == *capacity) {
    *capacity = 2 * *capacity + 16;
    gap *grown = pl_memory_grow(u->c, *gaps, (size_t)*capacity * sizeof *grown);
    if (!grown) return false;
    *gaps = grown;
  }
  (*gaps)[(*n)++] = (gap){start, size};
  return true;
}

static bool plan_memory(build *u) {
  pl_context *c = u->c;
  pl_executable *e = u->e;
  pl_body *b = u->b;
  for (int v = 0; v < u->n_values; v++) u->fact[v].last = -1;
  for (int k = 0; k < e->n_units; k++) {
    const pl_unit *q = &e->units[k];
    if (q->kind == PL_UNIT_GROUP)
      for (int i = 0; i < q->group->n_external; i++) use(u, q->group->external[i].value, k);
    else
      for (int i = 0; i < q->n_in + q->n_out; i++) use(u, (int32_t)e->operands[q->operands + (uint32_t)i], k);
  }
  /* outputs go straight where the caller wants them, when they are computed here and nobody else claims them */
  e->copies = pl_memory_new(c, (2 * (size_t)b->n_out + 2) * sizeof *e->copies);
  e->late = pl_memory_new(c, ((size_t)u->n_values + (size_t)b->n_out + 1) * sizeof *e->late);
  e->made = pl_memory_new(c, ((size_t)e->n_units + 1) * sizeof *e->made);
  if (!e->copies || !e->late || !e->made) return false;
  for (int i = 0; i < b->n_out; i++) {
    int32_t v = same(u, (int32_t)b->outputs[i]), r = u->fact[v].root;
    if (e->specs[v].dtype == PL_DTYPES) continue;
    if (e->places[r].kind == PL_AT_NOWHERE && u->fact[r].unit >= 0 && u->fact[v].bytes == 0 &&
        count_of(&e->specs[r]) == count_of(&e->specs[v])) {
      e->places[r] = (pl_place){PL_AT_OUTPUT, i, 0};
    } else {
      e->copies[2 * e->n_copies] = i;
      e->copies[2 * e->n_copies++ + 1] = v;
    }
    u->fact[r].last = INT32_MAX;
  }
  gap *gaps = NULL;
  int n_gaps = 0, capacity = 0;
  /* values by the unit that makes them, and by the one after which they die */
  int32_t *head = pl_memory_new(c, 2 * ((size_t)e->n_units + 1) * sizeof *head);
  int32_t *next = pl_memory_new(c, 2 * ((size_t)u->n_values + 1) * sizeof *next);
  bool ok = head && next;
  int32_t *dies = head + e->n_units + 1, *next_dead = next + u->n_values + 1;
  for (int k = 0; ok && k <= e->n_units; k++) head[k] = dies[k] = -1;
  for (int v = u->n_values - 1; ok && v >= 0; v--) {
    const fact *f = &u->fact[v];
    if (f->root != v || f->unit < 0 || e->places[v].kind != PL_AT_NOWHERE || e->specs[v].dtype == PL_DTYPES) continue;
    if (e->units[f->unit].kind == PL_UNIT_GROUP && !f->memory) continue;
    next[v] = head[f->unit];
    head[f->unit] = v;
    int32_t end = f->last < f->unit ? f->unit : f->last;
    if (end != INT32_MAX) {
      next_dead[v] = dies[end];
      dies[end] = v;
    }
  }
  for (int k = 0; ok && k < e->n_units; k++) {
    for (int32_t v = head[k]; v >= 0; v = next[v])
      e->places[v] = (pl_place){PL_AT_ARENA, 0, take(u, &gaps, &n_gaps, &capacity, padded(&e->specs[v]))};
    for (int32_t v = dies[k]; ok && v >= 0; v = next_dead[v])
      ok = give(u, &gaps, &n_gaps, &capacity, e->places[v].offset, padded(&e->specs[v]));
  }
  pl_memory_free(c, gaps);
  pl_memory_free(c, head);
  pl_memory_free(c, next);
  if (!ok) return false;
  for (int v = 0; v < u->n_values; v++)
    if (e->places[v].kind == PL_AT_OUTPUT) e->late[e->n_late++] = v;
  e->simple = true;
  for (int k = 0; k < e->n_units; k++) e->simple = e->simple && e->units[k].op->kind != PL_OPAQUE;
  for (int v = 0; v < u->n_values; v++) {
    const fact *f = &u->fact[v];
    e->simple = e->simple && count_of(&e->specs[v]) <= 4 * PL_BLOCK;
    if (e->specs[v].dtype == PL_DTYPES && f->maker >= 0 && f->root == v && f->unit >= 0) {
      e->places[v].kind = PL_AT_RESOURCE;
      e->made[e->n_made++] = v;
    }
    if (f->root == v) continue;
    const pl_place *r = &e->places[f->root];
    e->places[v] = (pl_place){PL_AT_ALIAS, f->root, f->bytes};
    if (r->kind == PL_AT_INPUT || r->kind == PL_AT_OUTPUT) e->late[e->n_late++] = v;
  }
  return true;
}

pl_executable *pl_executable_build(pl_context *c, pl_body *b, int how) {
  pl_executable *e = pl_memory_new(c, sizeof *e);
  if (!e) return NULL;
  *e = (pl_executable){.body = b};
  build u = {.c = c, .b = b, .e = e, .optimize = how == PL_OPTIMIZED};
  for (int i = 0; i < SHAPES; i++) u.newest[i] = -1;
  u.values_capacity = b->n_values + (int)b->code.n + 8;
  u.n_values = b->n_values;
  e->n_operands = (int)b->code.n_operands;
  size_t values = (size_t)u.values_capacity + 1, steps = (size_t)b->code.n + 1;
  e->specs = pl_memory_new(c, values * sizeof *e->specs);
  e->places = pl_memory_new(c, values * sizeof *e->places);
  e->operands = pl_memory_new(c, ((size_t)e->n_operands + 1) * sizeof *e->operands);
  e->units = pl_memory_new(c, steps * sizeof *e->units);
  e->constants = pl_memory_new(c, ((size_t)b->n_constants + 1) * sizeof *e->constants);
  u.fact = pl_memory_new(c, values * sizeof *u.fact);
  u.steps = pl_memory_new(c, steps * sizeof *u.steps);
  u.members = pl_memory_new(c, steps * sizeof *u.members);
  u.member = pl_memory_new(c, 3 * values * sizeof *u.member);
  bool ok =
      e->specs && e->places && e->operands && e->units && e->constants && u.fact && u.steps && u.members && u.member;
  if (ok) {
    u.last = u.member + values;
    u.uses = u.last + values;
    memset(u.member, -1, 2 * values * sizeof *u.member);
    memset(u.uses, 0, values * sizeof *u.uses);
    memset(u.members, 0, steps * sizeof *u.members);
    memset(e->units, 0, steps * sizeof *e->units);
    memcpy(e->specs, b->specs, (size_t)b->n_values * sizeof *e->specs);
    if (e->n_operands) memcpy(e->operands, b->code.operands, (size_t)e->n_operands * sizeof *e->operands);
    for (int v = 0; v < b->n_values; v++) {
      u.fact[v] = (fact){.same = v, .root = v, .maker = -1, .base = v, .unit = -1};
      e->places[v] = (pl_place){v < b->n_in                    ? PL_AT_INPUT
                                : v < b->n_in + b->n_constants ? PL_AT_CONSTANT
                                                               : PL_AT_NOWHERE,
                                v < b->n_in ? v : v - b->n_in, 0};
    }
    for (int i = 0; i < b->n_constants; i++) {
      e->constants[e->n_constants++] = b->constants[i];
      pl_retain(c, b->constants[i]);
    }
    for (int v = b->n_values; v < u.values_capacity; v++) e->places[v] = (pl_place){PL_AT_NOWHERE, 0, 0};
    ok = read_steps(&u);
  }
  if (ok) {
    mark(&u);
    ok = make_units(&u);
  }
  for (int k = 0; ok && k < e->n_units; k++)
    if (e->units[k].kind == PL_UNIT_GROUP) ok = finish_group(&u, k);
  ok = ok && plan_memory(&u);
  e->n_values = u.n_values;
  for (int k = 0; u.members && k < e->n_units; k++) pl_memory_free(c, u.members[k].list);
  pl_memory_free(c, u.fact);
  pl_memory_free(c, u.steps);
  pl_memory_free(c, u.members);
  pl_memory_free(c, u.member);
  if (ok) return e;
  pl_executable_free(c, e);
  return NULL;
}
