#include "op.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "../kernels/kernel.h"

/* ---- the table ---- */

static pl_op *const families[] = {pl_ops_elementwise,      pl_ops_functions, pl_ops_reduce,      pl_ops_move,
                                  pl_ops_matmul,           pl_ops_order,     pl_ops_running,     pl_ops_statistics,
                                  pl_ops_rolling,          pl_ops_arrange,   pl_ops_linalg,      pl_ops_eigen,
                                  pl_ops_eigvals,          pl_ops_qr,        pl_ops_lu,          pl_ops_svd,
                                  pl_ops_matrix_functions, pl_ops_banded,    pl_ops_random,      pl_ops_scatter,
                                  pl_ops_special,          pl_ops_filters,   pl_ops_convolution, pl_ops_interpolate,
                                  pl_ops_fourier,          pl_ops_sparse,    pl_ops_solve,       pl_ops_least_squares,
                                  pl_ops_logdet,           pl_ops_eigsh,     pl_ops_control,     pl_ops_loops,
                                  pl_ops_newton,           pl_ops_implicit,  pl_ops_root,        pl_ops_fixed_point,
                                  pl_ops_argmin,           pl_ops_krylov,    pl_ops_precondition};
enum { FAMILIES = sizeof families / sizeof *families };

extern const pl_kernel_entry __start_pl_kernels[], __stop_pl_kernels[];

int pl_isa(void) {
#if defined __x86_64__
  __builtin_cpu_init();
  bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512vl");
  return v4 ? 2 : v3 ? 1 : 0;
#else
  return 0;
#endif
}

/* The best version that this machine runs. */
static const pl_kernel_entry *find(const char *name, pl_dtype dtype) {
  int isa = pl_isa(), best = -1;
  const pl_kernel_entry *found = NULL;
  for (const pl_kernel_entry *e = __start_pl_kernels; e < __stop_pl_kernels; e++)
    if (e->dtype == (int)dtype && e->isa <= isa && e->isa > best && !strcmp(e->name, name)) {
      best = e->isa;
      found = e;
    }
  return found;
}

pl_kernel pl_kernel_find(const char *name, pl_dtype dtype) {
  const pl_kernel_entry *e = find(name, dtype);
  return e ? e->fn : NULL;
}

pl_kernel_one pl_kernel_find_one(const char *name, pl_dtype dtype) {
  const pl_kernel_entry *e = find(name, dtype);
  return e ? e->one : NULL;
}

static void start(void) {
  int id = 0;
  for (int f = 0; f < FAMILIES; f++)
    for (pl_op *op = families[f]; op->name; op++) {
      op->id = id++;
      if (op->kind != PL_ELEMENTWISE && !op->draws) continue;
      for (int d = 0; d < PL_DTYPES; d++)
        if (op->dtypes >> d & 1) op->fn[d] = pl_kernel_find(op->kernel ? op->kernel : op->name, (pl_dtype)d);
    }
}

void pl_ops_start(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, start);
}

const pl_op *pl_op_at(int i) {
  for (int f = 0; f < FAMILIES; f++)
    for (const pl_op *op = families[f]; op->name; op++)
      if (i-- == 0) return op;
  return NULL;
}

const pl_op *pl_op_find(const char *name) {
  for (int f = 0; f < FAMILIES; f++)
    for (const pl_op *op = families[f]; op->name; op++)
      if (!strcmp(op->name, name)) return op;
  return NULL;
}

const pl_op *pl_op_need(const char *name) { return pl_op_find(name); }
const char *pl_op_name(const pl_op *op) { return op->name; }
pl_op_doc pl_op_help(const pl_op *op) {
  const char *shapes = op->kind != PL_ELEMENTWISE ? op->shapes
                       : op->inputs == 1          ? "{...} -> {...}"
                                                  : "inputs broadcast";
  return (pl_op_doc){op->formula, shapes, op->derivative ? op->derivative : op->no_derivative, op->accuracy,
                     op->source};
}
bool pl_op_internal(const pl_op *op) { return op->internal; }
int pl_op_inputs(const pl_op *op) { return op->inputs; }
int pl_op_outputs(const pl_op *op) { return op->outputs; }
const pl_attr_spec *pl_op_attrs(const pl_op *op) { return op->attrs; }

/* ---- what rules are written with ---- */

pl_value pl_call1(pl_context *c, const pl_op *op, pl_value x, const pl_attr *attrs) {
  return pl_apply1(c, op, 1, &x, attrs);
}

pl_value pl_call2(pl_context *c, const pl_op *op, pl_value x, pl_value y, const pl_attr *attrs) {
  pl_value in[] = {x, y};
  return pl_apply1(c, op, 2, in, attrs);
}

pl_value pl_call3(pl_context *c, const pl_op *op, pl_value x, pl_value y, pl_value z, const pl_attr *attrs) {
  pl_value in[] = {x, y, z};
  return pl_apply1(c, op, 3, in, attrs);
}

pl_value pl_plus(pl_context *c, pl_value x, pl_value y) {
  return x == PL_ZERO ? y : y == PL_ZERO ? x : PL_BINARY(add, c, x, y);
}

pl_value pl_negative(pl_context *c, pl_value x) { return x == PL_ZERO ? x : PL_UNARY(neg, c, x); }

pl_value pl_minus(pl_context *c, pl_value x, pl_value y) {
  return y == PL_ZERO ? x : x == PL_ZERO ? pl_negative(c, y) : PL_BINARY(sub, c, x, y);
}

pl_value pl_times(pl_context *c, pl_value x, pl_value y) {
  return x == PL_ZERO || y == PL_ZERO ? PL_ZERO : PL_BINARY(mul, c, x, y);
}

pl_value pl_chain(pl_context *c, pl_value g, pl_value d) {
  if (g == PL_ZERO || d == PL_ZERO) return PL_ZERO;
  if (d == PL_ONE) return g;
  if (d == PL_MINUS_ONE) return pl_negative(c, g);
  return PL_BINARY(chain, c, g, d);
}

bool pl_temporaries_begin(pl_context *c) {
  bool alone = !c->scope;
  if (alone) pl_scope_begin(c);
  return alone;
}
pl_value pl_temporaries_end(pl_context *c, bool began, pl_value v) {
  if (!began) return v;
  if (v != PL_NONE) pl_retain(c, v);
  pl_scope_end(c);
  return v;
}

pl_value pl_like(pl_context *c, pl_value x, double number) {
  pl_slot *s = pl_slot_get(c, x);
  return s ? pl_constant(c, (pl_dtype)s->dtype, number) : PL_NONE;
}

pl_value pl_reshape_to(pl_context *c, pl_value x, int rank, const int64_t *shape) {
  return x == PL_ZERO ? x : pl_call1(c, PL_OP(reshape), x, &PL_INTS(rank, shape));
}

static int shape_of(pl_context *c, pl_value v, int64_t *shape) {
  pl_slot *s = pl_slot_get(c, v);
  if (!s) return -1;
  for (int i = 0; i < s->rank; i++) shape[i] = s->shape[i];
  return s->rank;
}

static bool same_shape(const pl_slot *x, const pl_slot *y) {
  return x->rank == y->rank && !memcmp(x->shape, y->shape, x->rank * sizeof *x->shape);
}

pl_value pl_reshape_like(pl_context *c, pl_value x, pl_value model) {
  int64_t shape[PL_MAX_RANK];
  int rank = shape_of(c, model, shape);
  return rank < 0 ? PL_NONE : pl_reshape_to(c, x, rank, shape);
}

pl_value pl_broadcast_like(pl_context *c, pl_value x, pl_value model) {
  int64_t shape[PL_MAX_RANK];
  int rank = shape_of(c, model, shape);
  if (rank < 0 || x == PL_ZERO) return rank < 0 ? PL_NONE : x;
  pl_slot *s = pl_slot_get(c, x);
  if (s && same_shape(s, pl_slot_get(c, model))) return x;
  return pl_call1(c, PL_OP(broadcast_to), x, &PL_INTS(rank, shape));
}

pl_value pl_sum_to(pl_context *c, pl_value g, pl_value model) {
  pl_slot *from = g == PL_ZERO ? NULL : pl_slot_get(c, g), *to = pl_slot_get(c, model);
  if (!from || !to || same_shape(from, to)) return g;
  int64_t axes[PL_MAX_RANK];
  int n = 0, extra = from->rank - to->rank;
  for (int a = 0; a < from->rank; a++)
    if (a < extra || to->shape[a - extra] != from->shape[a]) axes[n++] = a;
  if (n) g = pl_call1(c, PL_OP(sum), g, (pl_attr[]){PL_INTS(n, axes), PL_INT(0)});
  return pl_reshape_like(c, g, model);
}

pl_value pl_zeros_like(pl_context *c, pl_value x) {
  pl_slot *s = pl_slot_get(c, x);
  if (!s) return PL_NONE;
  int64_t shape[PL_MAX_RANK];
  int rank = shape_of(c, x, shape);
  return pl_apply1(c, PL_OP(zeros), 0, NULL, (pl_attr[]){PL_INTS(rank, shape), PL_INT(s->dtype)});
}

pl_value pl_cast(pl_context *c, pl_value x, pl_dtype dtype) {
  if (x == PL_ZERO) return x;
  pl_slot *s = pl_slot_get(c, x);
  if (!s || s->dtype == (uint8_t)dtype) return s ? x : PL_NONE;
  return pl_call1(c, PL_OP(cast), x, &PL_INT(dtype));
}

pl_value pl_floats(pl_context *c, pl_value x) {
  pl_slot *s = pl_slot_get(c, x);
  return s && s->dtype > PL_F32 ? pl_cast(c, x, PL_F64) : x;
}
pl_value pl_transpose_last(pl_context *c, pl_value x) {
  pl_slot *s = x == PL_ZERO ? NULL : pl_slot_get(c, x);
  if (!s || s->rank < 2) return x;
  int64_t order[PL_MAX_RANK];
  for (int i = 0; i < s->rank; i++) order[i] = i;
  order[s->rank - 1] = s->rank - 2;
  order[s->rank - 2] = s->rank - 1;
  return pl_call1(c, PL_OP(transpose), x, &PL_INTS(s->rank, order));
}
pl_value pl_symmetric(pl_context *c, pl_value x) {
  return PL_BINARY(mul, c, PL_BINARY(add, c, x, pl_transpose_last(c, x)), pl_like(c, x, 0.5));
}
pl_value pl_product(pl_context *c, pl_value a, pl_value b, bool ta, bool tb) {
  return a == PL_ZERO || b == PL_ZERO ? PL_ZERO : pl_call2(c, PL_OP(gemm), a, b, (pl_attr[]){PL_INT(ta), PL_INT(tb)});
}
pl_value pl_part(pl_context *c, pl_value x, int axis, int64_t start, int64_t step, int64_t count) {
  pl_slot *s = pl_slot_get(c, x);
  if (!s) return PL_NONE;
  int64_t starts[PL_MAX_RANK] = {0}, steps[PL_MAX_RANK], counts[PL_MAX_RANK];
  int rank = s->rank;
  for (int a = 0; a < rank; a++) {
    steps[a] = 1;
    counts[a] = s->shape[a];
  }
  starts[axis] = start;
  steps[axis] = step;
  counts[axis] = count;
  return pl_call1(c, PL_OP(slice), x, (pl_attr[]){PL_INTS(rank, starts), PL_INTS(rank, steps), PL_INTS(rank, counts)});
}

void pl_no_derivative(pl_context *c, const pl_op *op) {
  pl_error(c, PL_ERROR_TYPE, "%s has no derivative%s%s", op->name, op->no_derivative ? ": " : "",
           op->no_derivative ? op->no_derivative : "");
}

/* ---- shapes ---- */

int pl_axis(const pl_call *call, int64_t axis, int rank) {
  int64_t a = axis < 0 ? axis + rank : axis;
  if (a >= 0 && a < rank) return (int)a;
  char text[PL_TEXT];
  pl_error(call->c, PL_ERROR_INDEX, "%s: there is no axis %lld in shape %s", call->op->name,
           (long long)(axis < 0 || axis == INT64_MAX ? axis : axis + 1),
           call->n ? pl_shape_text(text, call->in[0]->rank, call->in[0]->shape) : "{}");
  return -1;
}

bool pl_axes(const pl_call *call, const pl_attr *list, int rank, uint32_t *set) {
  *set = 0;
  if (list->n < 0) *set = (1u << rank) - 1;
  for (int i = 0; i < list->n; i++) {
    int a = pl_axis(call, list->list[i], rank);
    if (a < 0) return false;
    if (*set >> a & 1) {
      pl_error(call->c, PL_ERROR_ARGUMENT, "%s: axis %d is given twice", call->op->name, a + 1);
      return false;
    }
    *set |= 1u << a;
  }
  return true;
}

void pl_shape_error(const pl_call *call, const char *what) {
  char text[4][PL_TEXT];
  char shapes[4 * PL_TEXT + 8] = "";
  for (int i = 0; i < call->n && i < 4; i++) {
    if (i) strcat(shapes, i + 1 == call->n || i == 3 ? " and " : ", ");
    strcat(shapes, pl_shape_text(text[i], call->in[i]->rank, call->in[i]->shape));
  }
  pl_error(call->c, PL_ERROR_SHAPE, "%s: shapes %s: %s", call->op->name, shapes, what);
}

bool pl_broadcast_shapes(const pl_call *call, int n, pl_slot *const *in, pl_spec *out) {
  int rank = 0;
  for (int i = 0; i < n; i++)
    if (in[i]->rank > rank) rank = in[i]->rank;
  out->rank = rank;
  for (int a = 0; a < rank; a++) {
    int32_t size = 1;
    for (int i = 0; i < n; i++) {
      int b = a - (rank - in[i]->rank);
      int32_t m = b < 0 ? 1 : in[i]->shape[b];
      if (m == size || m == 1) continue;
      if (size != 1) {
        pl_shape_error(call, "they do not broadcast: sizes must be equal or 1, counted from the last axis");
        return false;
      }
      size = m;
    }
    out->shape[a] = size;
  }
  return true;
}

/* ---- samples ---- */

double pl_sample_uniform(pl_sampler_random *r, double lo, double hi) {
  uint64_t z = (r->state += 0x9e3779b97f4a7c15u); /* splitmix64 */
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  z ^= z >> 31;
  return lo + (hi - lo) * ((double)(z >> 11) * 0x1p-53);
}

pl_value pl_sample_tensor(pl_context *c, pl_sampler_random *r, double lo, double hi, int rank, ...) {
  int64_t shape[PL_MAX_RANK], count = 1;
  va_list args;
  va_start(args, rank);
  for (int i = 0; i < rank; i++) count *= shape[i] = va_arg(args, int);
  va_end(args);
  pl_value v = pl_tensor(c, PL_F64, rank, shape, NULL);
  pl_slot *s = pl_slot_get(c, v);
  for (int64_t i = 0; s && i < count; i++) ((double *)s->data)[i] = pl_sample_uniform(r, lo, hi);
  return v;
}

void pl_split_axis(const pl_slot *x, int axis, int64_t *outer, int64_t *r, int64_t *inner) {
  *outer = *inner = 1;
  for (int a = 0; a < axis; a++) *outer *= x->shape[a];
  *r = x->shape[axis];
  for (int a = axis + 1; a < x->rank; a++) *inner *= x->shape[a];
}
