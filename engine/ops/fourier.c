/* fourier.c: Fourier, cosine and sine transforms, and what complex numbers need beside them. A complex tensor is a real
 * one with a last axis of 2: the real and the imaginary part. Axes count those before it. Primitive rows are linear,
 * and their adjoints are transforms again: the one of {real to half of the frequencies} is the way back in which each
 * of these counts once. */
#include <math.h>
#include <string.h>

#include "../../kernels/shapes.h"
#include "../fft.h"
#include "../schedule.h"

/* ---- fourier, real_fourier, fourier_real: attribute 0 is the axes; the last one is that of the real numbers ---- */

/* Each axis once, none of them empty; the last axis of `pairs` is 2. */
static bool axes_fit(const pl_call *call, bool pairs) {
  const pl_slot *x = call->in[0];
  const pl_attr *axes = &call->attrs[0];
  uint32_t set;
  bool fit = axes->n > 0 && (!pairs || (x->rank > 0 && x->shape[x->rank - 1] == 2));
  if (fit && !pl_axes(call, axes, x->rank - pairs, &set)) return false;
  for (int i = 0; fit && i < axes->n; i++) fit = axes->list[i] >= 0 && x->shape[axes->list[i]] > 0;
  if (!fit) pl_shape_error(call, "axes of one element or more are needed, and pairs on the last one");
  return fit;
}
static bool fourier_shape(const pl_call *call, pl_spec *out) {
  pl_spec_of(call->in[0], out);
  return axes_fit(call, true);
}
static bool real_fourier_shape(const pl_call *call, pl_spec *out) {
  const pl_attr *axes = &call->attrs[0];
  pl_spec_of(call->in[0], out);
  if (!axes_fit(call, false)) return false;
  if (out->rank == PL_MAX_RANK) {
    pl_error(call->c, PL_ERROR_SHAPE, "%s: the result has one axis more; at most %d are possible", call->op->name,
             PL_MAX_RANK);
    return false;
  }
  int32_t *n = &out->shape[axes->list[axes->n - 1]];
  *n = *n / 2 + 1;
  out->shape[out->rank++] = 2;
  return true;
}
static bool fourier_real_shape(const pl_call *call, pl_spec *out) {
  const pl_attr *axes = &call->attrs[0];
  int64_t n = call->attrs[1].i;
  pl_spec_of(call->in[0], out);
  if (!axes_fit(call, true)) return false;
  int32_t *half = &out->shape[axes->list[axes->n - 1]];
  if (n < 1 || n > INT32_MAX || n / 2 + 1 != *half) {
    pl_error(call->c, PL_ERROR_ARGUMENT, "%s: %d frequencies are not those of %lld numbers", call->op->name, *half,
             (long long)n);
    return false;
  }
  *half = (int32_t)n;
  out->rank--;
  return true;
}

/* The axis of a tensor of that shape; `pairs`: its last axis is that of the parts. */
static pl_fft_job job_of(pl_fft_kind kind, const pl_slot *x, int axis, bool pairs) {
  pl_fft_job j = {.kind = kind, .dtype = (pl_dtype)x->dtype, .x = x->data, .scale = 1};
  pl_split_axis(x, axis, &j.outer, &j.n, &j.inner);
  if (pairs) j.inner /= 2;
  return j;
}
/* Along all axes but the last `left` of the list; the first of them is read from x, the others in y. */
static void along_axes(const pl_call *call, const pl_slot *x, void *y, int left, bool backward, double scale) {
  const pl_attr *axes = &call->attrs[0];
  for (int i = 0; i < axes->n - left; i++) {
    pl_fft_job j = job_of(PL_FFT_COMPLEX, x, (int)axes->list[i], true);
    if (i || left) j.x = y;
    j.y = y;
    j.backward = backward;
    if (i == 0) j.scale = scale;
    pl_fft(call->c, &j);
  }
}
static void fourier_run(const pl_call *call, pl_slot **out) {
  along_axes(call, call->in[0], out[0]->data, 0, call->attrs[1].i, call->attrs[2].r);
}
static void real_fourier_run(const pl_call *call, pl_slot **out) {
  const pl_attr *axes = &call->attrs[0];
  pl_fft_job j = job_of(PL_FFT_REAL, call->in[0], (int)axes->list[axes->n - 1], false);
  j.y = out[0]->data;
  j.scale = call->attrs[1].r;
  j.once = call->attrs[2].i;
  pl_fft(call->c, &j);
  along_axes(call, out[0], out[0]->data, 1, false, 1);
}
static void fourier_real_run(const pl_call *call, pl_slot **out) {
  const pl_attr *axes = &call->attrs[0];
  const pl_slot *x = call->in[0];
  pl_fft_job j = job_of(PL_FFT_REAL, x, (int)axes->list[axes->n - 1], true);
  size_t bytes = (size_t)x->count * pl_dtype_size(j.dtype);
  void *work = axes->n > 1 ? pl_memory_new(call->c, bytes + 64) : NULL;
  if (axes->n > 1) {
    if (!work) return;
    memcpy(work, x->data, bytes);
    along_axes(call, x, work, 1, true, 1);
    j.x = work;
  }
  j.y = out[0]->data;
  j.n = call->attrs[1].i;
  j.backward = true;
  j.scale = call->attrs[2].r;
  j.once = call->attrs[3].i;
  pl_fft(call->c, &j);
  pl_memory_free(call->c, work);
}

static void fourier_vjp(pl_vjp *v) {
  const pl_attr *a = v->attrs;
  pl_vjp_give(v, 0, pl_call1(v->c, PL_OP(fourier), v->g[0], (pl_attr[]){a[0], PL_INT(!a[1].i), a[2]}));
}
static void real_fourier_vjp(pl_vjp *v) {
  const pl_attr *a = v->attrs;
  pl_slot *x = pl_slot_get(v->c, v->in[0]);
  if (!x) return;
  pl_attr back[] = {a[0], PL_INT(x->shape[a[0].list[a[0].n - 1]]), a[1], a[2]};
  pl_vjp_give(v, 0, pl_call1(v->c, PL_OP(fourier_real), v->g[0], back));
}
static void fourier_real_vjp(pl_vjp *v) {
  const pl_attr *a = v->attrs;
  pl_vjp_give(v, 0, pl_call1(v->c, PL_OP(real_fourier), v->g[0], (pl_attr[]){a[0], a[2], a[3]}));
}

/* ---- cosine: attributes axis, transpose, scale, first ---- */

static bool cosine_shape(const pl_call *call, pl_spec *out) {
  const pl_slot *x = call->in[0];
  pl_spec_of(x, out);
  int axis = pl_axis(call, call->attrs[0].i, x->rank);
  if (axis >= 0 && x->shape[axis] == 0) pl_shape_error(call, "the axis is empty");
  return axis >= 0 && x->shape[axis] > 0;
}
static void cosine_run(const pl_call *call, pl_slot **out) {
  const pl_slot *x = call->in[0];
  pl_fft_job j = job_of(PL_FFT_COSINE, x, pl_axis(call, call->attrs[0].i, x->rank), false);
  j.y = out[0]->data;
  j.backward = call->attrs[1].i;
  j.once = true;
  j.scale = call->attrs[2].r;
  j.first = call->attrs[3].r;
  pl_fft(call->c, &j);
}
static void cosine_vjp(pl_vjp *v) {
  const pl_attr *a = v->attrs;
  pl_vjp_give(v, 0, pl_call1(v->c, PL_OP(cosine), v->g[0], (pl_attr[]){a[0], PL_INT(!a[1].i), a[2], a[3]}));
}

/* ---- complex_product: x z, or x times the conjugate of z, of one shape ---- */

static bool complex_product_shape(const pl_call *call, pl_spec *out) {
  const pl_slot *x = call->in[0], *z = call->in[1];
  pl_spec_of(x, out);
  if (x->rank > 0 && x->shape[x->rank - 1] == 2 && x->rank == z->rank &&
      !memcmp(x->shape, z->shape, (size_t)x->rank * sizeof *x->shape))
    return true;
  pl_shape_error(call, "pairs on the last axis are needed, of equal shapes");
  return false;
}
static void complex_product_run(const pl_call *call, pl_slot **out) {
  complex_args a = {call->in[0]->data, call->in[1]->data, out[0]->data, call->attrs[0].i ? -1 : 1};
  pl_for(call->c, PL_KERNEL_OF(complex_product, out[0]->dtype), &a, out[0]->count / 2, 64, 4);
}
static pl_value times(pl_context *c, pl_value x, pl_value z, bool conjugate) {
  return x == PL_ZERO || z == PL_ZERO ? PL_ZERO : pl_call2(c, PL_OP(complex_product), x, z, &PL_INT(conjugate));
}
static void complex_product_vjp(pl_vjp *v) {
  bool conjugate = v->attrs[0].i;
  if (v->need[0]) pl_vjp_give(v, 0, times(v->c, v->g[0], v->in[1], !conjugate));
  if (!v->need[1]) return;
  pl_vjp_give(v, 1, conjugate ? times(v->c, v->in[0], v->g[0], true) : times(v->c, v->g[0], v->in[0], true));
}
static void complex_product_jvp(pl_jvp *j) {
  bool conjugate = j->attrs[0].i;
  j->dt[0] = pl_plus(j->c, times(j->c, j->t[0], j->in[1], conjugate), times(j->c, j->in[0], j->t[1], conjugate));
}

/* ---- what users see ---- */

#define UNUSED (void)op, (void)n, (void)attrs

static bool done(pl_value out) { return out != PL_NONE; }

/* A copy of the slot (slots move when values are made); the number of its axes, without that of the parts where it is
 * complex. */
static bool shape_of(pl_context *c, const pl_op *op, pl_value v, bool pairs, pl_slot *x, int *rank) {
  pl_slot *s = pl_slot_get(c, v);
  if (!s) return false;
  *x = *s;
  *rank = s->rank - pairs;
  if (!pairs || (s->rank > 0 && s->shape[s->rank - 1] == 2)) return true;
  char text[PL_TEXT];
  pl_error(c, PL_ERROR_SHAPE,
           "%s: shape %s is not complex: real and imaginary parts are pairs along a last axis of 2; complex(re, im) "
           "makes them",
           op->name, pl_shape_text(text, s->rank, s->shape));
  return false;
}
static bool axis_of(pl_context *c, const pl_op *op, const pl_slot *x, int rank, int64_t axis, int64_t *found) {
  *found = axis < 0 ? axis + rank : axis;
  char text[PL_TEXT];
  pl_shape_text(text, x->rank, x->shape);
  if (*found < 0 || *found >= rank) {
    pl_error(c, PL_ERROR_INDEX, "%s: there is no axis %lld in shape %s%s", op->name,
             (long long)(axis < 0 || axis == INT64_MAX ? axis : axis + 1), text,
             rank < x->rank ? ", whose last one is the parts'" : "");
    return false;
  }
  if (x->shape[*found] > 0) return true;
  pl_error(c, PL_ERROR_SHAPE, "%s: axis %lld of shape %s is empty", op->name, (long long)*found + 1, text);
  return false;
}

typedef enum { COMPLEX, TO_HALF, FROM_HALF } form;
typedef struct {
  form form;
  bool backward;
  int n_axes;
  int64_t axes[PL_MAX_RANK];
  int64_t n; /* of FROM_HALF: length of the last of these axes */
} transform;

/* The factor by NumPy's norms: 1/N backward, or `ortho`, its root either way, or `forward`, 1/N there. */
static bool scale_of(pl_context *c, const pl_op *op, double numbers, bool backward, bool ortho, bool forward,
                     double *scale) {
  *scale = ortho ? 1 / sqrt(numbers) : backward != forward ? 1 / numbers : 1;
  if (!ortho || !forward) return true;
  pl_error(c, PL_ERROR_ARGUMENT, "%s: ortho and forward exclude each other", op->name);
  return false;
}
static bool run_transform(pl_context *c, const pl_op *op, pl_value v, const pl_slot *x, const transform *t, bool ortho,
                          bool forward, pl_value *out) {
  double numbers = 1, scale;
  for (int i = 0; i < t->n_axes; i++)
    numbers *= t->form == FROM_HALF && i == t->n_axes - 1 ? (double)t->n : (double)x->shape[t->axes[i]];
  if (!scale_of(c, op, numbers, t->backward, ortho, forward, &scale)) return false;
  pl_attr axes = PL_INTS(t->n_axes, t->axes);
  if (t->form == COMPLEX)
    *out = pl_call1(c, PL_OP(fourier), v, (pl_attr[]){axes, PL_INT(t->backward), PL_REALV(scale)});
  else if (t->form == TO_HALF)
    *out = pl_call1(c, PL_OP(real_fourier), v, (pl_attr[]){axes, PL_REALV(scale), PL_INT(1)});
  else *out = pl_call1(c, PL_OP(fourier_real), v, (pl_attr[]){axes, PL_INT(t->n), PL_REALV(scale), PL_INT(0)});
  return done(*out);
}
/* How many real numbers there were: as said, or an even number where it can be. */
static bool real_length(pl_context *c, const pl_op *op, int64_t asked, int64_t frequencies, int64_t *n) {
  int64_t even = frequencies > 1 ? 2 * (frequencies - 1) : 1;
  *n = asked ? asked : even;
  if (*n >= 1 && *n <= INT32_MAX && *n / 2 + 1 == frequencies) return true;
  pl_error(c, PL_ERROR_ARGUMENT, "%s: n = %lld does not fit the axis of %lld frequencies: n is %lld or %lld", op->name,
           (long long)*n, (long long)frequencies, (long long)even, (long long)(2 * frequencies - 1));
  return false;
}

/* attributes n, axis, ortho, forward: cut or filled up with zeros to n, where that is given */
static bool along_one(pl_context *c, const pl_op *op, form form, bool backward, pl_value v, const pl_attr *attrs,
                      pl_value *out) {
  transform t = {.form = form, .backward = backward, .n_axes = 1};
  pl_slot x;
  int rank;
  if (!shape_of(c, op, v, form != TO_HALF, &x, &rank) || !axis_of(c, op, &x, rank, attrs[1].i, &t.axes[0]))
    return false;
  int axis = (int)t.axes[0];
  int64_t n = attrs[0].i, had = x.shape[axis];
  if (n < 0 || n > INT32_MAX) {
    pl_error(c, PL_ERROR_ARGUMENT, "%s: n = %lld; it is the length along the axis, at least 1", op->name, (long long)n);
    return false;
  }
  if (form == FROM_HALF) {
    if (!real_length(c, op, n, had, &t.n)) return false;
  } else if (n && n < had) {
    v = pl_part(c, v, axis, 0, 1, n);
  } else if (n > had) {
    int64_t width[2 * PL_MAX_RANK] = {0};
    width[2 * axis + 1] = n - had;
    v = pl_call1(c, PL_OP(pad), v, (pl_attr[]){PL_INTS(2 * x.rank, width), PL_REALV(0)});
  }
  pl_slot *s = pl_slot_get(c, v);
  if (!s) return false;
  x = *s;
  return run_transform(c, op, v, &x, &t, attrs[2].i, attrs[3].i, out);
}
PL_EXPAND(fft) { return (void)n, along_one(c, op, COMPLEX, false, in[0], attrs, out); }
PL_EXPAND(ifft) { return (void)n, along_one(c, op, COMPLEX, true, in[0], attrs, out); }
PL_EXPAND(rfft) { return (void)n, along_one(c, op, TO_HALF, false, in[0], attrs, out); }
PL_EXPAND(irfft) { return (void)n, along_one(c, op, FROM_HALF, true, in[0], attrs, out); }

/* Along a list of axes, or the last `most` (0: all). */
static bool along_many(pl_context *c, const pl_op *op, form form, bool backward, pl_value v, const pl_attr *list,
                       int most, int64_t n, bool ortho, bool forward, pl_value *out) {
  transform t = {.form = form, .backward = backward, .n_axes = list->n};
  pl_slot x;
  int rank;
  uint32_t seen = 0;
  if (!shape_of(c, op, v, form != TO_HALF, &x, &rank)) return false;
  if (list->n < 0) t.n_axes = most ? most : rank;
  for (int i = 0; i < t.n_axes; i++) {
    if (!axis_of(c, op, &x, rank, list->n < 0 ? i - t.n_axes : list->list[i], &t.axes[i])) return false;
    if (seen >> t.axes[i] & 1) {
      pl_error(c, PL_ERROR_ARGUMENT, "%s: axis %lld is given twice", op->name, (long long)t.axes[i] + 1);
      return false;
    }
    seen |= 1u << t.axes[i];
  }
  if (t.n_axes == 0) {
    pl_error(c, PL_ERROR_SHAPE, "%s needs an axis; none is %s", op->name, list->n == 0 ? "given" : "there");
    return false;
  }
  if (form == FROM_HALF && !real_length(c, op, n, x.shape[t.axes[t.n_axes - 1]], &t.n)) return false;
  return run_transform(c, op, v, &x, &t, ortho, forward, out);
}
#define MANY(name, form, backward, most)                                                                       \
  PL_EXPAND(name) {                                                                                            \
    return (void)n, along_many(c, op, form, backward, in[0], &attrs[0], most, 0, attrs[1].i, attrs[2].i, out); \
  }
MANY(fft2, COMPLEX, false, 2)
MANY(ifft2, COMPLEX, true, 2)
MANY(rfft2, TO_HALF, false, 2)
MANY(fftn, COMPLEX, false, 0)
MANY(ifftn, COMPLEX, true, 0)
MANY(rfftn, TO_HALF, false, 0)
PL_EXPAND(irfft2) {
  return (void)n, along_many(c, op, FROM_HALF, true, in[0], &attrs[1], 2, attrs[0].i, attrs[2].i, attrs[3].i, out);
}
PL_EXPAND(irfftn) {
  return (void)n, along_many(c, op, FROM_HALF, true, in[0], &attrs[1], 0, attrs[0].i, attrs[2].i, attrs[3].i, out);
}

/* ---- cosine and sine transforms, types 1 to 3: attributes type, axis, ortho ---- */

/* 0, 1, 2 ... along an axis, to be broadcast */
static pl_value count_along(pl_context *c, const pl_slot *x, int axis) {
  int64_t shape[PL_MAX_RANK];
  for (int a = 0; a < x->rank; a++) shape[a] = a == axis ? x->shape[axis] : 1;
  pl_attr up[] = {PL_REALV(0), PL_REALV(1), PL_INT(x->shape[axis]), PL_INT(x->dtype == PL_F32 ? PL_F32 : PL_F64)};
  return pl_reshape_to(c, pl_apply1(c, PL_OP(range), 0, NULL, up), x->rank, shape);
}
static pl_value reversed(pl_context *c, pl_value v, int axis, int64_t n) {
  return pl_part(c, v, axis, n > 0 ? n - 1 : 0, -1, n);
}
/* x with signs 1, -1, 1 ... along the axis */
static pl_value alternated(pl_context *c, pl_value v, const pl_slot *x, int axis) {
  pl_value k = count_along(c, x, axis), odd = PL_BINARY(mod, c, k, pl_like(c, k, 2));
  pl_value sign = PL_BINARY(sub, c, pl_like(c, k, 1), PL_BINARY(mul, c, odd, pl_like(c, k, 2)));
  return PL_BINARY(mul, c, v, sign);
}
/* Part 0 (real) or 1 of pairs. */
static pl_value part_of(pl_context *c, pl_value v, int k) {
  pl_slot *s = pl_slot_get(c, v);
  if (!s) return PL_NONE;
  pl_slot x = *s;
  int64_t shape[PL_MAX_RANK];
  for (int a = 0; a < x.rank; a++) shape[a] = x.shape[a];
  return pl_reshape_to(c, pl_part(c, v, x.rank - 1, k, 1, 1), x.rank - 1, shape);
}
static pl_value joined(pl_context *c, int n, const pl_value *parts, int axis) {
  return pl_apply1(c, PL_OP(concat), n, parts, &PL_INT(axis));
}
static pl_value real_transform(pl_context *c, pl_value v, int axis, double scale) {
  int64_t along = axis;
  return pl_call1(c, PL_OP(real_fourier), v, (pl_attr[]){PL_INTS(1, &along), PL_REALV(scale), PL_INT(1)});
}

/* By the even or odd continuation (period 2 n - 2, 2 n + 2), whose transform is real or imaginary. */
static pl_value first_kind(pl_context *c, pl_value v, const pl_slot *x, int axis, bool sine, double scale) {
  int64_t n = x->shape[axis];
  if (!sine) {
    pl_value both[] = {v, n > 2 ? pl_part(c, v, axis, n - 2, -1, n - 2) : PL_NONE};
    return part_of(c, real_transform(c, n > 2 ? joined(c, 2, both, axis) : v, axis, scale), 0);
  }
  pl_value zero = pl_zeros_like(c, pl_part(c, v, axis, 0, 1, 1));
  pl_value parts[] = {zero, v, zero, PL_UNARY(neg, c, reversed(c, v, axis, n))};
  return part_of(c, pl_part(c, real_transform(c, joined(c, 4, parts, axis), axis, -scale), axis, 1, 1, n), 1);
}
/* The orthonormal one takes the two ends by the root of 2, and gives them by its reciprocal. */
static pl_value first_cosine(pl_context *c, pl_value v, const pl_slot *x, int axis, double scale, bool ortho) {
  int64_t n = x->shape[axis];
  if (!ortho) return first_kind(c, v, x, axis, false, scale);
  pl_value k = count_along(c, x, axis), other = PL_BINARY(sub, c, k, pl_like(c, k, (double)(n - 1)));
  pl_value end = PL_BINARY(eq, c, PL_BINARY(mul, c, k, other), pl_like(c, k, 0));
  pl_value weight = PL_WHERE(c, end, pl_like(c, k, M_SQRT2), pl_like(c, k, 1));
  return PL_BINARY(div, c, first_kind(c, PL_BINARY(mul, c, v, weight), x, axis, false, scale), weight);
}
static bool trigonometric(pl_context *c, const pl_op *op, pl_value v, const pl_attr *attrs, bool sine, bool inverse,
                          pl_value *out) {
  pl_slot x;
  int rank;
  int64_t found, type = attrs[0].i;
  bool ortho = attrs[2].i;
  if (!shape_of(c, op, v, false, &x, &rank) || !axis_of(c, op, &x, rank, attrs[1].i, &found)) return false;
  int axis = (int)found;
  v = pl_floats(c, v);
  double n = (double)x.shape[axis];
  if (type < 1 || type > 3 || (type == 1 && !sine && n < 2)) {
    pl_error(c, PL_ERROR_ARGUMENT,
             type == 1 ? "%s: type %lld needs at least 2 numbers" : "%s: type %lld; there are 1, 2 and 3", op->name,
             (long long)type);
    return false;
  }
  if (type == 1) {
    double period = sine ? 2 * (n + 1) : 2 * (n - 1), scale = ortho ? 1 / sqrt(period) : inverse ? 1 / period : 1;
    *out = sine ? first_kind(c, v, &x, axis, true, scale) : first_cosine(c, v, &x, axis, scale, ortho);
    return done(*out);
  }
  bool third = (type == 3) != inverse; /* each is the other's inverse, times 2 n */
  double scale = ortho ? sqrt(2 / n) : inverse ? 1 / n : 2, first = ortho ? M_SQRT1_2 : third ? 0.5 : 1;
  /* sin(pi (k + 1) (2 j + 1)/(2 n)) is (-1)^j cos(pi (n - 1 - k) (2 j + 1)/(2 n)) */
  if (sine) v = third ? reversed(c, v, axis, x.shape[axis]) : alternated(c, v, &x, axis);
  v = pl_call1(c, PL_OP(cosine), v, (pl_attr[]){PL_INT(axis), PL_INT(third), PL_REALV(scale), PL_REALV(first)});
  if (sine) v = third ? alternated(c, v, &x, axis) : reversed(c, v, axis, x.shape[axis]);
  return done(*out = v);
}
PL_EXPAND(dct) { return (void)n, trigonometric(c, op, in[0], attrs, false, false, out); }
PL_EXPAND(idct) { return (void)n, trigonometric(c, op, in[0], attrs, false, true, out); }
PL_EXPAND(dst) { return (void)n, trigonometric(c, op, in[0], attrs, true, false, out); }
PL_EXPAND(idst) { return (void)n, trigonometric(c, op, in[0], attrs, true, true, out); }

/* ---- shifts: attribute axis, a list ---- */

static bool shifted(pl_context *c, const pl_op *op, pl_value v, const pl_attr *list, bool back, pl_value *out) {
  pl_slot *s = pl_slot_get(c, v);
  if (!s) return false;
  pl_slot x = *s;
  pl_call call = {c, op, 1, &s, &v, list};
  uint32_t set;
  if (list->n < 0 && x.rank > 1) {
    char text[PL_TEXT];
    pl_error(c, PL_ERROR_ARGUMENT, "%s: say along which axes of shape %s: the last one may be that of complex parts",
             op->name, pl_shape_text(text, x.rank, x.shape));
    return false;
  }
  if (!pl_axes(&call, list, x.rank, &set)) return false;
  for (int a = 0; a < x.rank; a++)
    if (set >> a & 1) {
      int64_t half = x.shape[a] / 2;
      v = pl_call1(c, PL_OP(roll), v, (pl_attr[]){PL_INT(back ? -half : half), PL_INT(a)});
    }
  return done(*out = set ? v : PL_UNARY(identity, c, v));
}
PL_EXPAND(fftshift) { return (void)n, shifted(c, op, in[0], attrs, false, out); }
PL_EXPAND(ifftshift) { return (void)n, shifted(c, op, in[0], attrs, true, out); }

/* ---- complex numbers ---- */

static bool is_complex(pl_context *c, const pl_op *op, pl_value v) {
  pl_slot x;
  int rank;
  return shape_of(c, op, v, true, &x, &rank);
}
/* Two tensors of one shape. */
static bool alike(pl_context *c, const pl_op *op, const pl_value *in, pl_value *x) {
  pl_slot *slots[] = {pl_slot_get(c, in[0]), pl_slot_get(c, in[1])};
  if (!slots[0] || !slots[1]) return false;
  pl_call call = {c, op, 2, slots, in, NULL};
  pl_spec spec = {.rank = 0};
  int64_t shape[PL_MAX_RANK];
  if (!pl_broadcast_shapes(&call, 2, slots, &spec)) return false;
  for (int a = 0; a < spec.rank; a++) shape[a] = spec.shape[a];
  for (int i = 0; i < 2; i++) {
    const pl_slot *s = pl_slot_get(c, in[i]);
    bool same = s->rank == spec.rank && !memcmp(s->shape, spec.shape, (size_t)spec.rank * sizeof *s->shape);
    x[i] = same ? in[i] : pl_call1(c, PL_OP(broadcast_to), in[i], &PL_INTS(spec.rank, shape));
  }
  return c->status == PL_OK;
}
PL_EXPAND(complex) {
  (void)n, (void)attrs;
  pl_value x[2];
  if (!alike(c, op, in, x)) return false;
  return done(out[0] = pl_apply1(c, PL_OP(stack), 2, x, &PL_INT(-1)));
}
PL_EXPAND(complex_mul) {
  UNUSED;
  pl_value x[2];
  if (!is_complex(c, op, in[0]) || !is_complex(c, op, in[1]) || !alike(c, op, in, x)) return false;
  return done(out[0] = times(c, x[0], x[1], false));
}
PL_EXPAND(real) {
  UNUSED;
  return is_complex(c, op, in[0]) && done(out[0] = part_of(c, in[0], 0));
}
PL_EXPAND(imag) {
  UNUSED;
  return is_complex(c, op, in[0]) && done(out[0] = part_of(c, in[0], 1));
}
PL_EXPAND(conj) {
  UNUSED;
  if (!is_complex(c, op, in[0])) return false;
  pl_dtype dtype = (pl_dtype)pl_slot_get(c, in[0])->dtype;
  pl_attr signs[] = {PL_REALV(1), PL_REALV(-2), PL_INT(2), PL_INT(dtype == PL_BOOL ? PL_F64 : dtype)};
  return done(out[0] = PL_BINARY(mul, c, in[0], pl_apply1(c, PL_OP(range), 0, NULL, signs)));
}
PL_EXPAND(complex_abs) {
  UNUSED;
  return is_complex(c, op, in[0]) && done(out[0] = PL_BINARY(hypot, c, part_of(c, in[0], 0), part_of(c, in[0], 1)));
}
PL_EXPAND(angle) {
  UNUSED;
  return is_complex(c, op, in[0]) && done(out[0] = PL_BINARY(atan2, c, part_of(c, in[0], 1), part_of(c, in[0], 0)));
}

/* ---- samples ---- */

#define TENSOR(...) pl_sample_tensor(c, r, -1, 1, __VA_ARGS__)

PL_SAMPLE(fourier) {
  s->n = 1;
  s->attrs[1] = PL_INT(k & 1);
  s->attrs[2] = PL_REALV(k == 1 ? 0.25 : 1);
  if (k == 0) PL_SAMPLE_LIST(0, 0), s->in[0] = TENSOR(2, 6, 2);
  if (k == 1) PL_SAMPLE_LIST(0, 1), s->in[0] = TENSOR(4, 2, 7, 3, 2);
  if (k == 2) PL_SAMPLE_LIST(0, 2, 0), s->in[0] = TENSOR(4, 4, 2, 5, 2);
  if (k == 3) PL_SAMPLE_LIST(0, 0), s->in[0] = TENSOR(2, 17, 2); /* a prime that is no radix */
  return k < 4;
}
PL_SAMPLE(real_fourier) {
  s->n = 1;
  s->attrs[1] = PL_REALV(k == 1 ? 0.25 : 1);
  s->attrs[2] = PL_INT(k < 2);
  if (k == 0) PL_SAMPLE_LIST(0, 0), s->in[0] = TENSOR(1, 6);
  if (k == 1) PL_SAMPLE_LIST(0, 1), s->in[0] = TENSOR(3, 2, 5, 3);
  if (k == 2) PL_SAMPLE_LIST(0, 0, 1), s->in[0] = TENSOR(2, 3, 4);
  if (k == 3) PL_SAMPLE_LIST(0, 0, 1), s->in[0] = TENSOR(2, 3, 1);
  return k < 4;
}
PL_SAMPLE(fourier_real) {
  s->n = 1;
  s->attrs[1] = PL_INT(k == 0 ? 6 : k == 1 ? 5 : 4);
  s->attrs[2] = PL_REALV(k == 1 ? 0.25 : 1);
  s->attrs[3] = PL_INT(k < 2);
  if (k == 0) PL_SAMPLE_LIST(0, 0), s->in[0] = TENSOR(2, 4, 2);
  if (k == 1) PL_SAMPLE_LIST(0, 1), s->in[0] = TENSOR(4, 2, 3, 2, 2);
  if (k == 2) PL_SAMPLE_LIST(0, 0, 1), s->in[0] = TENSOR(3, 3, 3, 2);
  return k < 3;
}
PL_SAMPLE(cosine) {
  s->n = 1;
  s->attrs[0] = PL_INT(k > 1);
  s->attrs[1] = PL_INT(k & 1);
  s->attrs[2] = PL_REALV(2);
  s->attrs[3] = PL_REALV(0.5);
  s->in[0] = k < 2 ? TENSOR(1, 6) : TENSOR(3, 2, 5, 3);
  return k < 4;
}
PL_SAMPLE(product) {
  if (k > 1) return false;
  s->n = 2;
  s->attrs[0] = PL_INT(k);
  s->in[0] = TENSOR(2, 5, 2);
  s->in[1] = TENSOR(2, 5, 2);
  return true;
}
/* n, axis, ortho, forward */
static bool one_axis(pl_context *c, pl_sampler_random *r, int k, pl_sample *s, bool pairs) {
  s->n = 1;
  s->attrs[0] = PL_INT(k == 1 ? 4 : k == 2 ? 9 : 0);
  s->attrs[1] = PL_INT(k == 2 ? -2 : -1);
  s->attrs[2] = PL_INT(k == 1);
  s->attrs[3] = PL_INT(k == 2);
  if (pairs) s->in[0] = k == 0 ? TENSOR(2, 8, 2) : k < 3 ? TENSOR(3, 6, 5, 2) : TENSOR(3, 0, 1, 2);
  else s->in[0] = k == 0 ? TENSOR(1, 8) : k < 3 ? TENSOR(2, 6, 5) : TENSOR(2, 0, 1);
  return k < 4;
}
PL_SAMPLE(complex_axis) { return one_axis(c, r, k, s, true); }
PL_SAMPLE(real_axis) { return one_axis(c, r, k, s, false); }
PL_SAMPLE(half_axis) {
  s->n = 1;
  s->attrs[0] = PL_INT(k == 1 ? 5 : 0);
  s->attrs[1] = PL_INT(-1);
  s->attrs[2] = PL_INT(k == 1);
  s->attrs[3] = PL_INT(0);
  s->in[0] = k == 0 ? TENSOR(2, 5, 2) : TENSOR(3, 2, 3, 2);
  return k < 2;
}
/* axis, ortho, forward */
static bool axes_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s, bool pairs) {
  s->n = 1;
  s->attrs[0] = PL_INTS(-1, NULL);
  if (k == 1) PL_SAMPLE_LIST(0, 1, -3);
  s->attrs[1] = PL_INT(k == 1);
  s->attrs[2] = PL_INT(k == 2);
  if (pairs) s->in[0] = k == 1 ? TENSOR(4, 2, 3, 4, 2) : TENSOR(3, 4, 3, 2);
  else s->in[0] = k == 1 ? TENSOR(3, 2, 3, 4) : TENSOR(2, 4, 3);
  return k < 3;
}
PL_SAMPLE(complex_axes) { return axes_sample(c, r, k, s, true); }
PL_SAMPLE(real_axes) { return axes_sample(c, r, k, s, false); }
PL_SAMPLE(half_axes) {
  s->n = 1;
  s->attrs[0] = PL_INT(k == 1 ? 3 : 0);
  s->attrs[1] = PL_INTS(-1, NULL);
  if (k == 1) PL_SAMPLE_LIST(1, 2, 0);
  s->attrs[2] = PL_INT(k == 1);
  s->attrs[3] = PL_INT(0);
  s->in[0] = k == 1 ? TENSOR(4, 2, 3, 2, 2) : TENSOR(3, 3, 4, 2);
  return k < 2;
}
PL_SAMPLE(trigonometric) {
  s->n = 1;
  s->attrs[0] = PL_INT(k % 3 + 1);
  s->attrs[1] = PL_INT(k > 2 ? 0 : -1);
  s->attrs[2] = PL_INT(k > 2);
  s->in[0] = k < 3 ? TENSOR(1, 6) : TENSOR(2, 5, 2);
  return k < 6;
}
PL_SAMPLE(shift) {
  s->n = 1;
  s->attrs[0] = PL_INTS(-1, NULL);
  if (k == 1) PL_SAMPLE_LIST(0, 0, 1);
  s->in[0] = k == 0 ? TENSOR(1, 5) : TENSOR(3, 3, 4, 2);
  return k < 2;
}
PL_SAMPLE(parts) {
  if (k > 1) return false;
  s->n = 2;
  s->in[0] = TENSOR(2, 3, 4);
  s->in[1] = k ? TENSOR(0) : TENSOR(2, 3, 4);
  return true;
}
PL_SAMPLE(complexes) {
  s->n = 1;
  s->in[0] = k == 0 ? TENSOR(3, 3, 2, 2) : TENSOR(1, 2);
  return k < 2;
}
PL_SAMPLE(two_complexes) {
  s->n = 2;
  s->in[0] = TENSOR(3, 3, 2, 2);
  s->in[1] = k ? TENSOR(2, 2, 2) : TENSOR(3, 3, 2, 2);
  return k < 2;
}

#define LINEAR(op, text, smp)                                                                                        \
  .name = #op, .formula = text, .kind = PL_LINEAR, .inputs = 1, .outputs = 1, .internal = true, .dtypes = PL_FLOATS, \
  .linear = true, .run = op##_run, .vjp = op##_vjp, .sample = smp##_sample
#define COMPOSED(op, text, shapes_, inputs_, smp)                                                         \
  .name = #op, .formula = text, .shapes = shapes_, .kind = PL_COMPOSITE, .inputs = inputs_, .outputs = 1, \
  .expand = op##_expand, .sample = smp##_sample
#define FAST                                                                                                  \
  .accuracy =                                                                                                 \
      "relative rms error below eps sqrt(1 + log2 n), eps 2.2e-16 or 1.2e-7; a third of it where n has no "   \
      "prime factor above 13",                                                                                \
  .source =                                                                                                   \
      "C. Van Loan, Computational Frameworks for the Fast Fourier Transform, SIAM, 1992; of primes above 13 " \
      "L. Bluestein, IEEE Trans. AU-18(4), 1970"
#define NORMS \
  {"ortho", PL_AS_FLAG, false, 0}, { "forward", PL_AS_FLAG, false, 0 }
#define ALONG .attrs = {{"n", PL_AS_INT, false, 0}, {"axis", PL_AS_AXIS, false, -1}, NORMS}, FAST
#define AXES .attrs = {{"axis", PL_AS_AXES, false, 0}, NORMS}, FAST
#define AXES_N .attrs = {{"n", PL_AS_INT, false, 0}, {"axis", PL_AS_AXES, false, 0}, NORMS}, FAST
#define TYPE                                                                                                  \
  .attrs = {{"type", PL_AS_INT, false, 2}, {"axis", PL_AS_AXIS, false, -1}, {"ortho", PL_AS_FLAG, false, 0}}, \
  .accuracy = "as that of rfft; types and factors are SciPy's",                                               \
  .source = "J. Makhoul, A fast cosine transform in one and two dimensions, IEEE Trans. ASSP 28(1), 1980"

pl_op pl_ops_fourier[] = {
    {LINEAR(fourier, "discrete Fourier transform along axes of pairs, times a number", fourier), .shape = fourier_shape,
     .attrs = {{"axis", PL_AS_AXES, true, 0}, {"backward", PL_AS_FLAG, false, 0}, {"scale", PL_AS_REAL, false, 1}}},
    {LINEAR(real_fourier, "the same of real numbers: the half of the frequencies, once or twice", real_fourier),
     .shape = real_fourier_shape,
     .attrs = {{"axis", PL_AS_AXES, true, 0}, {"scale", PL_AS_REAL, false, 1}, {"once", PL_AS_FLAG, false, 1}}},
    {LINEAR(fourier_real, "from half of the frequencies, which count once or twice, to n real numbers", fourier_real),
     .shape = fourier_real_shape,
     .attrs = {{"axis", PL_AS_AXES, true, 0},
               {"n", PL_AS_INT, true, 0},
               {"scale", PL_AS_REAL, false, 1},
               {"once", PL_AS_FLAG, false, 0}}},
    {LINEAR(cosine, "y_k = scale sum_j cos(pi k (2 j + 1)/(2 n)) x_j, y_0 times `first`; or the transpose", cosine),
     .shape = cosine_shape,
     .attrs = {{"axis", PL_AS_AXIS, true, 0},
               {"transpose", PL_AS_FLAG, false, 0},
               {"scale", PL_AS_REAL, false, 1},
               {"first", PL_AS_REAL, false, 1}}},
    {.name = "complex_product",
     .formula = "x z of pairs, or x times the conjugate of z",
     .kind = PL_OPAQUE,
     .inputs = 2,
     .outputs = 1,
     .leading = 3,
     .internal = true,
     .dtypes = PL_FLOATS,
     .shape = complex_product_shape,
     .run = complex_product_run,
     .vjp = complex_product_vjp,
     .jvp = complex_product_jvp,
     .sample = product_sample,
     .attrs = {{"conjugate", PL_AS_FLAG, false, 0}}},

    {COMPOSED(fft,
              "sum_j e^(-2 pi i j k/n) x_j of pairs (real, imaginary) along an axis (the last before theirs), which is "
              "cut or filled up with zeros to n; `ortho` divides by sqrt n, `forward` by n",
              "{..., n, ..., 2} -> {..., n, ..., 2}", 1, complex_axis),
     ALONG, .derivative = "with respect to real and imaginary parts"},
    {COMPOSED(ifft, "1/n sum_k e^(2 pi i j k/n) x_k; `ortho` divides by sqrt n, `forward` by 1",
              "{..., n, ..., 2} -> {..., n, ..., 2}", 1, complex_axis),
     ALONG},
    {COMPOSED(rfft, "fft of real numbers: pairs, frequencies 0 to n/2", "{..., n, ...} -> {..., n/2 + 1, ..., 2}", 1,
              real_axis),
     ALONG},
    {COMPOSED(irfft,
              "back from rfft to n numbers (an even n by default); the imaginary parts at 0 and n/2 are not read",
              "{..., n/2 + 1, ..., 2} -> {..., n, ...}", 1, half_axis),
     ALONG},
    {COMPOSED(fft2, "fft along two axes (the last before the pairs')", "{..., n, m, 2} -> {..., n, m, 2}", 1,
              complex_axes),
     AXES},
    {COMPOSED(ifft2, "back from fft2", "{..., n, m, 2} -> {..., n, m, 2}", 1, complex_axes), AXES},
    {COMPOSED(rfft2, "rfft along the second of two axes (the last), then fft along the first",
              "{..., n, m} -> {..., n, m/2 + 1, 2}", 1, real_axes),
     AXES},
    {COMPOSED(irfft2, "back from rfft2; n: the length of the second axis, even by default",
              "{..., n, m/2 + 1, 2} -> {..., n, m}", 1, half_axes),
     AXES_N},
    {COMPOSED(fftn, "fft along axes (all by default, but the pairs')", "{..., 2} -> {..., 2}", 1, complex_axes), AXES},
    {COMPOSED(ifftn, "back from fftn", "{..., 2} -> {..., 2}", 1, complex_axes), AXES},
    {COMPOSED(rfftn, "rfft along the last of the axes (all by default), then fft along the others",
              "{..., n} -> {..., n/2 + 1, 2}", 1, real_axes),
     AXES},
    {COMPOSED(irfftn, "back from rfftn; n: the length of the last of the axes, even by default",
              "{..., n/2 + 1, 2} -> {..., n}", 1, half_axes),
     AXES_N},
    {COMPOSED(
         dct,
         "cosine transform along an axis (the last by default): 2 sum_j cos(pi k (2 j + 1)/(2 n)) x_j for j, k = 0 "
         "... n - 1; type 3: x_0 + 2 sum_(j > 0) cos(pi (2 k + 1) j/(2 n)) x_j; type 1: x_0 + (-1)^k x_(n-1) + 2 "
         "sum_(0 < j < n-1) cos(pi k j/(n - 1)) x_j; `ortho` makes the matrix orthogonal",
         "{..., n, ...} -> {..., n, ...}", 1, trigonometric),
     TYPE},
    {COMPOSED(idct, "back from dct of the same type", "{..., n, ...} -> {..., n, ...}", 1, trigonometric), TYPE},
    {COMPOSED(
         dst,
         "sine transform along an axis (the last by default): 2 sum_j sin(pi (k + 1) (2 j + 1)/(2 n)) x_j for j, k "
         "= 0 ... n - 1; type 3: (-1)^k x_(n-1) + 2 sum_(j < n-1) sin(pi (2 k + 1) (j + 1)/(2 n)) x_j; type 1: 2 "
         "sum_j sin(pi (k + 1) (j + 1)/(n + 1)) x_j; `ortho` makes the matrix orthogonal",
         "{..., n, ...} -> {..., n, ...}", 1, trigonometric),
     TYPE},
    {COMPOSED(idst, "back from dst of the same type", "{..., n, ...} -> {..., n, ...}", 1, trigonometric), TYPE},
    {COMPOSED(fftshift, "frequency 0 to the middle of axes, which may be left out for a vector", "{...} -> {...}", 1,
              shift),
     .attrs = {{"axis", PL_AS_AXES, false, 0}}},
    {COMPOSED(ifftshift, "back from fftshift", "{...} -> {...}", 1, shift), .attrs = {{"axis", PL_AS_AXES, false, 0}}},
    {COMPOSED(complex, "pairs of a real and an imaginary part, along a new last axis", "{...}, {...} -> {..., 2}", 2,
              parts)},
    {COMPOSED(real, "the real parts of pairs", "{..., 2} -> {...}", 1, complexes)},
    {COMPOSED(imag, "the imaginary parts of pairs", "{..., 2} -> {...}", 1, complexes)},
    {COMPOSED(conj, "pairs with the other sign of the imaginary part", "{..., 2} -> {..., 2}", 1, complexes)},
    {COMPOSED(complex_abs, "sqrt(re^2 + im^2) of pairs, without overflow", "{..., 2} -> {...}", 1, complexes),
     .derivative = "0 at 0"},
    {COMPOSED(angle, "the angle of pairs, -pi to pi", "{..., 2} -> {...}", 1, complexes), .derivative = "0 at 0"},
    {COMPOSED(complex_mul, "the complex product of pairs; leading axes broadcast", "{..., 2}, {..., 2} -> {..., 2}", 2,
              two_complexes)},
    {0},
};
