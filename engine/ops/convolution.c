/* convolution.c: convolutions of networks and of signals. All are one bilinear map and its two adjoints, on
 * x {batch, groups channels, d, h, w}, weights {groups rows, channels, window...} and y {batch, groups rows, ...}:
 *
 *   conv          y[m, j] = sum over channels c and taps k of w[m, c, k] x[c, j stride - before + k dilation]
 *   conv_input    x[c, i] = sum over m, j, k with i = j stride - before + k dilation of w[m, c, k] y[m, j]
 *   conv_weights  w[m, c, k] = sum over the batch and j of y[m, j] x[c, j stride - before + k dilation]
 *
 * where x is 0 beyond its ends. Attribute `sizes` are the result's last three, whatever they are; so each is linear in
 * both inputs, and the derivatives of the three are each other. Fewer axes are axes of 1. */
#include <omp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "../../kernels/shapes.h"
#include "../schedule.h"
#include "convolution.h"

enum { STRIDE, BEFORE, DILATION, SIZES, GROUPS, CONV_ATTRS };

/* ---- shapes of the three ---- */

static bool geometry_fits(const pl_call *call) {
  for (int i = STRIDE; i <= SIZES; i++) {
    const pl_attr *list = &call->attrs[i];
    bool ok = list->n == 3;
    for (int d = 0; ok && d < 3; d++) ok = i == BEFORE || list->list[d] >= (i == SIZES ? 0 : 1);
    if (ok) continue;
    pl_error(call->c, PL_ERROR_ARGUMENT, "%s: %s needs three numbers, none too small", call->op->name,
             call->op->attrs[i].name);
    return false;
  }
  if (call->in[0]->rank == 5 && call->in[1]->rank == 5) return true;
  pl_shape_error(call, "five axes are needed");
  return false;
}
static bool result_shape(const pl_call *call, pl_spec *out, int64_t first, int64_t second) {
  *out = (pl_spec){out->dtype, 5, {(int32_t)first, (int32_t)second}};
  bool ok = second <= INT32_MAX;
  for (int d = 0; d < 3; d++) {
    ok = ok && call->attrs[SIZES].list[d] <= INT32_MAX;
    out->shape[2 + d] = (int32_t)call->attrs[SIZES].list[d];
  }
  if (ok && pl_spec_count(out) >= 0) return true;
  pl_shape_error(call, "the result has more than 2^31 - 1 elements");
  return false;
}
/* Do groups divide n, into parts of `each` where that is not 0? */
static bool divides(const pl_call *call, int64_t n, int64_t each) {
  int64_t groups = call->attrs[GROUPS].i;
  if (groups >= 1 && n % groups == 0 && (each < 0 || n / groups == each)) return true;
  pl_shape_error(call, "the channels do not fit the groups");
  return false;
}
static bool conv_shape(const pl_call *call, pl_spec *out) {
  if (!geometry_fits(call)) return false;
  const int32_t *x = call->in[0]->shape, *w = call->in[1]->shape;
  return divides(call, x[1], w[1]) && divides(call, w[0], -1) && result_shape(call, out, x[0], w[0]);
}
static bool conv_input_shape(const pl_call *call, pl_spec *out) {
  if (!geometry_fits(call)) return false;
  const int32_t *y = call->in[0]->shape, *w = call->in[1]->shape;
  int64_t groups = call->attrs[GROUPS].i;
  if (y[1] != w[0]) {
    pl_shape_error(call, "the channels differ");
    return false;
  }
  return divides(call, w[0], -1) && result_shape(call, out, y[0], groups > INT32_MAX ? groups : groups * w[1]);
}
static bool conv_weights_shape(const pl_call *call, pl_spec *out) {
  if (!geometry_fits(call)) return false;
  const int32_t *x = call->in[0]->shape, *y = call->in[1]->shape;
  if (x[0] != y[0]) {
    pl_shape_error(call, "the batches differ");
    return false;
  }
  return divides(call, x[1], -1) && divides(call, y[1], -1) &&
         result_shape(call, out, y[1], x[1] / call->attrs[GROUPS].i);
}

/* ---- the work ---- */

/* Taps of an axis: tap[i] of the window reads shift[i]*stride + phase[i] beyond the first. */
typedef struct {
  int64_t n, *tap, *place;
} taps;

typedef struct {
  pl_context *c;
  pl_dtype dtype;
  conv_args a;
  int64_t window[3];
  int64_t row, channel; /* strides of the weights in windows */
  int64_t group;
  taps taps[3];
  const char *weights;
  char *packed;
  int64_t *index; /* of each term's weight */
  pl_kernel kernel;
  size_t bytes; /* of one thread's copy */
} job;

static int64_t volume(const int64_t *size) { return size[0] * size[1] * size[2]; }
static int64_t boxes_of(const conv_args *a) { return a->axis[0].boxes * a->axis[1].boxes * a->axis[2].boxes; }

static void set_reach(job *j, int d) {
  conv_axis *s = &j->a.axis[d];
  int64_t most = 0;
  for (int64_t i = 0; i < j->taps[d].n; i++)
    if (j->taps[d].place[i] > most) most = j->taps[d].place[i];
  s->phases = most + 1 < s->stride ? most + 1 : s->stride;
  s->reach = most / s->stride;
}

/* conv and conv_weights: every tap; results lie side by side. */
static void forward_axis(job *j, int d, const pl_attr *attrs, int64_t in, int64_t out) {
  j->a.axis[d] = (conv_axis){.in = in,
                             .stride = attrs[STRIDE].list[d],
                             .first = -attrs[BEFORE].list[d],
                             .count = out,
                             .out = out,
                             .out_stride = 1};
  j->taps[d].n = j->window[d];
  for (int64_t k = 0; k < j->window[d]; k++) {
    j->taps[d].tap[k] = k;
    j->taps[d].place[k] = k * attrs[DILATION].list[d];
  }
  set_reach(j, d);
}
/* conv_input: elements i = phase + stride*n, which taps with phase + before - k dilation = 0 modulo the stride reach.
 */
static void adjoint_axis(job *j, int d, const pl_attr *attrs, int64_t in, int64_t out, int64_t phase) {
  int64_t stride = attrs[STRIDE].list[d], least = 0;
  taps *t = &j->taps[d];
  t->n = 0;
  for (int64_t k = 0; k < j->window[d]; k++) {
    int64_t at = phase + attrs[BEFORE].list[d] - k * attrs[DILATION].list[d];
    if (at % stride) continue;
    t->tap[t->n] = k;
    t->place[t->n] = at / stride;
    if (t->n == 0 || t->place[t->n] < least) least = t->place[t->n];
    t->n++;
  }
  for (int64_t i = 0; i < t->n; i++) t->place[i] -= least;
  j->a.axis[d] = (conv_axis){.in = in,
                             .stride = 1,
                             .first = least,
                             .count = (out - phase + stride - 1) / stride,
                             .out = out,
                             .out_first = phase,
                             .out_stride = stride};
  set_reach(j, d);
}

/* Boxes whose copies fit in the second cache with room for weights, and several units of work for threads; of sizes
 * alone. */
enum { BOX_BYTES = 3 << 17, IMAGES_BYTES = 1 << 20, ROW = 4096, LEAST_ROW = 128, UNITS = 8, WORTH_UNITS = 1 << 17 };

static double copy_size(const conv_args *a) {
  double n = (double)a->channels;
  for (int d = 0; d < 3; d++) n *= (double)a->axis[d].phases * (double)(a->axis[d].box + a->axis[d].reach);
  return n;
}
static int64_t halved(int64_t n, int64_t grain) { return ((n + 1) / 2 + grain - 1) / grain * grain; }
/* Halves the box along an axis, unless its margins would then cost too much: they are copied for each box. */
static bool halve(conv_args *a, int d, int64_t grain) {
  conv_axis *s = a->axis;
  int64_t old = s[d].box;
  s[d].box = halved(old, grain);
  double each = 2 * (double)(a->channels * (s[0].box + s[0].reach)) + (double)a->rows * (double)a->terms / 2;
  for (int i = 0; i < 3; i++) each *= (double)s[i].phases;
  if (copy_size(a) <= each * (double)(s[1].box * s[2].box)) return true;
  s[d].box = old;
  return false;
}
static void choose_boxes(job *j) {
  conv_args *a = &j->a;
  conv_axis *s = a->axis;
  double size = (double)pl_dtype_size(j->dtype), work = (double)a->rows * (double)a->terms;
  s[0].box = 1;
  s[1].box = s[1].count;
  s[2].box = s[2].count < ROW ? s[2].count : ROW;
  while (size * copy_size(a) > BOX_BYTES && s[1].box > 1 && halve(a, 1, 1)) continue;
  while (size * copy_size(a) > BOX_BYTES && s[2].box > LEAST_ROW && halve(a, 2, 16)) continue;
  for (;;) {
    for (int d = 0; d < 3; d++) s[d].boxes = (s[d].count + s[d].box - 1) / s[d].box;
    bool few = a->batch * a->groups * boxes_of(a) < UNITS && work * (double)(s[1].box * s[2].box) > WORTH_UNITS;
    if (few && s[1].box > 4 && halve(a, 1, 1)) continue;
    if (few && s[2].box > 2 * LEAST_ROW && halve(a, 2, 16)) continue;
    break;
  }
  a->block = a->rows;
  while (a->batch * a->groups * boxes_of(a) * ((a->rows + a->block - 1) / a->block) < UNITS && a->block > 16)
    a->block = halved(a->block, PL_CONV_PANEL);
  a->blocks = (a->rows + a->block - 1) / a->block;
}

/* The place in the copy and the weight of each term. */
static bool list_terms(job *j) {
  conv_args *a = &j->a;
  const conv_axis *s = a->axis;
  int64_t *offset = pl_memory_new(j->c, (size_t)(2 * a->terms) * sizeof *offset + 64), size[3], t = 0;
  a->offset = offset;
  if (!offset) return false;
  j->index = offset + a->terms;
  for (int d = 0; d < 3; d++) size[d] = s[d].box + s[d].reach;
  int64_t plane = volume(size);
  for (int64_t c = 0; c < a->channels; c++)
    for (int64_t p = 0; p < j->taps[0].n; p++)
      for (int64_t q = 0; q < j->taps[1].n; q++)
        for (int64_t r = 0; r < j->taps[2].n; r++, t++) {
          int64_t at[] = {j->taps[0].place[p], j->taps[1].place[q], j->taps[2].place[r]}, phase = c, shift = 0;
          for (int d = 0; d < 3; d++) {
            phase = phase * s[d].phases + at[d] % s[d].stride;
            shift = shift * size[d] + at[d] / s[d].stride;
          }
          offset[t] = phase * plane + shift;
          j->index[t] = c * j->channel * volume(j->window) +
                        (j->taps[0].tap[p] * j->window[1] + j->taps[1].tap[q]) * j->window[2] + j->taps[2].tap[r];
        }
  return true;
}

/* Panels of weights lo .. hi of all groups. */
static void pack(const void *args, int64_t lo, int64_t hi) {
  const job *j = args;
  const conv_args *a = &j->a;
  int64_t panels = (a->rows + PL_CONV_PANEL - 1) / PL_CONV_PANEL, row = j->row * volume(j->window);
  bool wide = j->dtype == PL_F64;
  for (int64_t p = lo; p < hi; p++) {
    int64_t first = p % panels * PL_CONV_PANEL, rest = a->rows - first;
    int64_t from = p / panels * j->group * volume(j->window) + first * row, to = p * PL_CONV_PANEL * a->terms;
    for (int64_t t = 0; t < a->terms; t++)
      for (int r = 0; r < PL_CONV_PANEL; r++, to++) {
        int64_t at = from + (r < rest ? r : 0) * row + j->index[t];
        if (wide) ((uint64_t *)j->packed)[to] = ((const uint64_t *)j->weights)[at];
        else ((uint32_t *)j->packed)[to] = ((const uint32_t *)j->weights)[at];
      }
  }
}

/* A unit of work on the copy that belongs to the thread; alone, the number may be that of a host's team. */
static void on_thread(const void *args, int64_t lo, int64_t hi) {
  const job *j = args;
  conv_args a = j->a;
  a.work = (char *)a.work + (size_t)(omp_get_thread_num() % j->c->threads) * j->bytes;
  j->kernel(&a, lo, hi);
}
/* Work space of each thread: copies of some images of x and, where their rows are short, of so many channels of y's
 * adjoint, with a mask. */
static bool copies(job *j, int64_t images, int64_t channels) {
  enum { VECTOR = 16, SHORT = 4 * VECTOR };
  conv_args *a = &j->a;
  const conv_axis *s = a->axis;
  bool several = s[2].box <= SHORT && boxes_of(a) == 1;
  double size = (double)pl_dtype_size(j->dtype), space = copy_size(a) + VECTOR;
  double plane = (double)s[1].box * (double)(s[2].box + s[2].reach) + VECTOR;
  a->images = several ? (int64_t)(IMAGES_BYTES / (size * space)) : 1;
  if (a->images > images) a->images = images;
  if (a->images < 1) a->images = 1;
  a->space = space < 0x1p44 ? (int64_t)space : 0;
  if (s[2].box > SHORT) channels = 0;
  double bytes = size * ((double)a->images * (space + (double)channels * plane) + plane);
  j->bytes = bytes < 0x1p44 ? ((size_t)bytes + 127) & ~(size_t)63 : (size_t)1 << 44;
  return (a->work = pl_memory_new(j->c, j->bytes * (size_t)j->c->threads)) != NULL;
}

/* y from x and packed weights, for one set of taps. */
static void run_forward(job *j) {
  conv_args *a = &j->a;
  pl_context *c = j->c;
  for (int d = 0; d < 3; d++)
    if (a->axis[d].count == 0) return;
  a->terms = a->channels * j->taps[0].n * j->taps[1].n * j->taps[2].n;
  choose_boxes(j);
  int64_t panels = a->groups * ((a->rows + PL_CONV_PANEL - 1) / PL_CONV_PANEL), each = a->terms * PL_CONV_PANEL;
  if (copies(j, 1, 0) && list_terms(j) &&
      (j->packed = pl_memory_new(c, (size_t)(panels * each) * pl_dtype_size(j->dtype) + 64))) {
    pl_for(c, pack, j, panels, 1, (double)each);
    a->w = j->packed;
    j->kernel = PL_KERNEL_OF(conv_forward, j->dtype);
    double flops = (double)a->block * (double)a->terms * (double)(a->axis[1].box * a->axis[2].box);
    if (!c->status)
      pl_for(c, on_thread, j, a->batch * a->groups * a->blocks * boxes_of(a), 1, flops / 8 + copy_size(a));
  }
  pl_memory_free(c, j->packed);
  pl_memory_free(c, (void *)a->offset);
  pl_memory_free(c, a->work);
  j->packed = NULL;
  a->offset = NULL;
  a->work = NULL;
}

/* Sizes of x, the window and y, with room for the taps; false where memory is short. */
static bool start(job *j, const pl_call *call, const pl_slot *x, const pl_slot *y, const int32_t *window) {
  int64_t total = 0;
  *j = (job){.c = call->c, .dtype = (pl_dtype)x->dtype};
  j->a.groups = call->attrs[GROUPS].i;
  j->a.batch = x->shape[0];
  j->a.channels = x->shape[1] / j->a.groups;
  j->a.rows = y->shape[1] / j->a.groups;
  for (int d = 0; d < 3; d++) total += j->window[d] = window[d];
  int64_t *p = pl_memory_new(j->c, (size_t)(2 * total) * sizeof *p + 64);
  if (!p) return false;
  for (int d = 0; d < 3; d++) {
    j->taps[d].tap = p;
    j->taps[d].place = p += window[d];
    p += window[d];
  }
  return true;
}
static void stop(job *j) { pl_memory_free(j->c, j->taps[0].tap); }

static void conv_run(const pl_call *call, pl_slot **out) {
  const pl_slot *x = call->in[0], *w = call->in[1];
  job j;
  if (out[0]->count == 0 || !start(&j, call, x, out[0], w->shape + 2)) return;
  j.weights = w->data;
  j.row = j.a.channels;
  j.channel = 1;
  j.group = j.a.rows * j.a.channels;
  j.a.x = x->data;
  j.a.y = out[0]->data;
  for (int d = 0; d < 3; d++) forward_axis(&j, d, call->attrs, x->shape[2 + d], out[0]->shape[2 + d]);
  run_forward(&j);
  stop(&j);
}
static void conv_input_run(const pl_call *call, pl_slot **out) {
  const pl_slot *y = call->in[0], *w = call->in[1];
  const int64_t *stride = call->attrs[STRIDE].list;
  job j;
  if (out[0]->count == 0 || !start(&j, call, y, out[0], w->shape + 2)) return;
  j.weights = w->data;
  j.row = 1;
  j.channel = j.a.rows;
  j.group = j.a.rows * j.a.channels;
  j.a.x = y->data;
  j.a.y = out[0]->data;
  int64_t phases[3], at[3];
  bool sparse = false;
  for (int d = 0; d < 3; d++) {
    phases[d] = stride[d] < out[0]->shape[2 + d] ? stride[d] : out[0]->shape[2 + d];
    sparse = sparse || stride[d] > 1;
  }
  if (sparse) memset(out[0]->data, 0, (size_t)out[0]->count * pl_dtype_size(j.dtype)); /* where no tap reaches */
  for (at[0] = 0; at[0] < phases[0]; at[0]++)
    for (at[1] = 0; at[1] < phases[1]; at[1]++)
      for (at[2] = 0; at[2] < phases[2] && !call->c->status; at[2]++) {
        for (int d = 0; d < 3; d++) adjoint_axis(&j, d, call->attrs, y->shape[2 + d], out[0]->shape[2 + d], at[d]);
        if (!sparse || (j.taps[0].n && j.taps[1].n && j.taps[2].n)) run_forward(&j);
      }
  stop(&j);
}

/* Parts of the batch are summed apart, as many as the sizes say, and then in order. */
static void conv_weights_run(const pl_call *call, pl_slot **out) {
  enum { PARTS = 8, PART_BYTES = 1 << 25 };
  const pl_slot *x = call->in[0], *y = call->in[1];
  pl_context *c = call->c;
  job j;
  size_t size = pl_dtype_size((pl_dtype)x->dtype), bytes = (size_t)out[0]->count * size;
  if (x->count == 0 || y->count == 0) memset(out[0]->data, 0, bytes);
  if (x->count == 0 || y->count == 0 || out[0]->count == 0 || !start(&j, call, x, y, out[0]->shape + 2)) return;
  conv_args *a = &j.a;
  a->x = x->data;
  a->w = y->data;
  for (int d = 0; d < 3; d++) forward_axis(&j, d, call->attrs, x->shape[2 + d], y->shape[2 + d]);
  a->terms = a->channels * volume(j.window);
  choose_boxes(&j);
  int64_t units = a->batch * boxes_of(a), parts = (int64_t)(PART_BYTES / bytes);
  if (parts > PARTS) parts = PARTS;
  if (parts > units) parts = units;
  if (parts < 1) parts = 1;
  a->depth = (units + parts - 1) / parts;
  parts = (units + a->depth - 1) / a->depth;
  char *sums = parts > 1 ? pl_memory_new(c, (size_t)parts * bytes + 64) : NULL;
  a->y = parts > 1 ? sums : out[0]->data;
  if (a->y && copies(&j, a->depth, a->block) && list_terms(&j)) {
    j.kernel = PL_KERNEL_OF(conv_weights, j.dtype);
    double flops = (double)a->block * (double)a->terms * (double)(a->axis[1].box * a->axis[2].box);
    pl_for(c, on_thread, &j, parts * a->groups * a->blocks, 1, (double)a->depth * (flops / 8 + copy_size(a)));
    if (parts > 1) memcpy(out[0]->data, sums, bytes);
    for (int64_t i = 1; i < parts && !c->status; i++) {
      const void *args[] = {out[0]->data, sums + (size_t)i * bytes, out[0]->data};
      PL_OP(add)->fn[j.dtype](args, 0, out[0]->count);
    }
  }
  pl_memory_free(c, sums);
  pl_memory_free(c, (void *)a->offset);
  pl_memory_free(c, a->work);
  stop(&j);
}

/* ---- derivatives: each other ---- */

/* One of the three on p and q, with a result of the sizes of `like`; PL_ZERO if one is. */
static pl_value related(pl_context *c, const pl_op *op, pl_value p, pl_value q, pl_value like, const pl_attr *attrs) {
  if (p == PL_ZERO || q == PL_ZERO) return PL_ZERO;
  const pl_slot *s = pl_slot_get(c, like);
  if (!s) return PL_NONE;
  int64_t sizes[] = {s->shape[2], s->shape[3], s->shape[4]};
  pl_attr same[CONV_ATTRS];
  memcpy(same, attrs, sizeof same);
  same[SIZES] = PL_INTS(3, sizes);
  return pl_call2(c, op, p, q, same);
}
static void conv_vjp(pl_vjp *v) {
  pl_value x = v->in[0], w = v->in[1], g = v->g[0];
  if (v->need[0]) pl_vjp_give(v, 0, related(v->c, PL_OP(conv_input), g, w, x, v->attrs));
  if (v->need[1]) pl_vjp_give(v, 1, related(v->c, PL_OP(conv_weights), x, g, w, v->attrs));
}
static void conv_input_vjp(pl_vjp *v) {
  pl_value y = v->in[0], w = v->in[1], g = v->g[0];
  if (v->need[0]) pl_vjp_give(v, 0, related(v->c, PL_OP(conv), g, w, y, v->attrs));
  if (v->need[1]) pl_vjp_give(v, 1, related(v->c, PL_OP(conv_weights), g, y, w, v->attrs));
}
static void conv_weights_vjp(pl_vjp *v) {
  pl_value x = v->in[0], y = v->in[1], g = v->g[0];
  if (v->need[0]) pl_vjp_give(v, 0, related(v->c, PL_OP(conv_input), y, g, x, v->attrs));
  if (v->need[1]) pl_vjp_give(v, 1, related(v->c, PL_OP(conv), x, g, y, v->attrs));
}
static void bilinear_jvp(pl_jvp *j) {
  pl_value first = j->t[0] == PL_ZERO ? PL_ZERO : pl_call2(j->c, j->op, j->t[0], j->in[1], j->attrs);
  pl_value second = j->t[1] == PL_ZERO ? PL_ZERO : pl_call2(j->c, j->op, j->in[0], j->t[1], j->attrs);
  j->dt[0] = pl_plus(j->c, first, second);
}

/* ---- what users call ---- */

void pl_window_error(const pl_call *call, const char *format, ...) {
  char text[256];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  pl_shape_error(call, text);
}
bool pl_triple_of(const pl_call *call, int attr, int axes, int64_t least, int64_t standard, pl_triple missing,
                  pl_triple *out) {
  const pl_attr *list = &call->attrs[attr];
  const char *name = call->op->attrs[attr].name;
  *out = missing;
  if (list->n <= 0) return true; /* {} is no option */
  if (list->n != 1 && list->n != axes) {
    pl_window_error(call, "%s is one number, or one for each of %d axes, not %d numbers", name, axes, list->n);
    return false;
  }
  for (int d = 0; d < 3; d++) {
    int a = d - (3 - axes);
    out->at[d] = a < 0 ? standard : list->list[list->n == 1 ? 0 : a];
    if (out->at[d] >= (a < 0 ? 0 : least) && out->at[d] <= INT32_MAX) continue;
    pl_window_error(call, "%s is %lld to 2^31 - 1, not %lld", name, (long long)least, (long long)out->at[d]);
    return false;
  }
  return true;
}
int64_t pl_window_count(const pl_call *call, int axes, int d, int64_t window, int64_t dilation, int64_t stride,
                        int64_t padding) {
  const pl_slot *x = call->in[0];
  if (d < 3 - axes) return 1;
  int64_t n = x->shape[x->rank - 3 + d] + 2 * padding, covered = window < 1 ? 0 : dilation * (window - 1) + 1;
  if (covered >= 1 && covered <= n) return (n - covered) / stride + 1;
  if (covered < 1) pl_window_error(call, "the window is empty");
  else
    pl_window_error(call,
                    "the window covers %lld elements of axis %d, which has %lld with its padding: make it smaller, or "
                    "the padding larger",
                    (long long)covered, x->rank - 2 + d, (long long)n);
  return -1;
}
pl_value pl_as_images(pl_context *c, pl_value x, int axes, int64_t first, int64_t second) {
  const pl_slot *s = pl_slot_get(c, x);
  if (!s) return PL_NONE;
  int64_t shape[] = {first, second, 1, 1, 1};
  for (int a = 1; a <= axes; a++) shape[5 - a] = s->shape[s->rank - a];
  return pl_reshape_to(c, x, 5, shape);
}
pl_value pl_convolution(pl_context *c, const pl_op *op, pl_value p, pl_value q, pl_triple stride, pl_triple before,
                        pl_triple dilation, pl_triple sizes, int64_t groups) {
  return pl_call2(c, op, p, q,
                  (pl_attr[]){PL_INTS(3, stride.at), PL_INTS(3, before.at), PL_INTS(3, dilation.at),
                              PL_INTS(3, sizes.at), PL_INT(groups)});
}

/* Ranks, groups and channels: x {batch, channels of x, ...}, w {...} with `outer` and `inner` its channels for all
 * groups and for one. */
static bool channels_fit(const pl_call *call, int axes, int64_t groups, bool transposed) {
  const pl_slot *x = call->in[0], *w = call->in[1];
  if (x->rank != axes + 2 || w->rank != axes + 2) {
    pl_window_error(call, "x {batch, channels, ...} and weights %s need %d axes each",
                    transposed ? "{channels, out/groups, window...}" : "{out, channels/groups, window...}", axes + 2);
    return false;
  }
  if (groups < 1 || x->shape[1] % groups || w->shape[0] % groups)
    pl_window_error(call, "%lld groups do not divide %d channels and %d of the weights", (long long)groups, x->shape[1],
                    w->shape[0]);
  else if (transposed && w->shape[0] != x->shape[1])
    pl_window_error(call, "x has %d channels, the weights are for %d", x->shape[1], w->shape[0]);
  else if (!transposed && w->shape[1] != x->shape[1] / groups)
    pl_window_error(call, "x has %lld channels a group, the weights are for %d", (long long)(x->shape[1] / groups),
                    w->shape[1]);
  else return true;
  return false;
}
/* The result {batch, channels, sizes...} of a convolution of p and q as images, without axes of 1 in front. */
static bool finish(const pl_call *call, const pl_op *op, int axes, int64_t channels, pl_triple stride,
                   pl_triple padding, pl_triple dilation, pl_triple sizes, int64_t groups, pl_value *out) {
  pl_context *c = call->c;
  const pl_slot *x = call->in[0], *w = call->in[1];
  int64_t shape[] = {x->shape[0], channels, 0, 0, 0};
  double count = (double)x->shape[0] * (double)channels;
  for (int a = 0; a < axes; a++) count *= (double)(shape[2 + a] = sizes.at[3 - axes + a]);
  if (count > INT32_MAX || channels > INT32_MAX) {
    pl_window_error(call, "the result has %.3g elements; at most 2^31 - 1 are possible", count);
    return false;
  }
  int64_t batch = x->shape[0], in = x->shape[1], rows = w->shape[0], each = w->shape[1];
  pl_value p = pl_as_images(c, call->handles[0], axes, batch, in),
           q = pl_as_images(c, call->handles[1], axes, rows, each);
  pl_value v = pl_convolution(c, op, p, q, stride, padding, dilation, sizes, groups);
  return (*out = pl_reshape_to(c, v, axes + 2, shape)) != PL_NONE;
}

static bool convolve_images(pl_context *c, const pl_op *op, int axes, const pl_value *in, const pl_attr *attrs,
                            pl_value *out) {
  pl_slot *slots[] = {pl_slot_get(c, in[0]), pl_slot_get(c, in[1])};
  if (!slots[0] || !slots[1]) return false;
  pl_slot x = *slots[0], w = *slots[1], *both[] = {&x, &w};
  pl_call call = {c, op, 2, both, in, attrs};
  pl_triple stride, padding, dilation, sizes;
  if (!channels_fit(&call, axes, attrs[3].i, false) || !pl_triple_of(&call, 0, axes, 1, 1, ones, &stride) ||
      !pl_triple_of(&call, 1, axes, 0, 0, zeros, &padding) || !pl_triple_of(&call, 2, axes, 1, 1, ones, &dilation))
    return false;
  for (int d = 0; d < 3; d++) {
    int64_t window = d < 3 - axes ? 1 : w.shape[axes - 1 + d];
    sizes.at[d] = pl_window_count(&call, axes, d, window, dilation.at[d], stride.at[d], padding.at[d]);
    if (sizes.at[d] < 0) return false;
  }
  return finish(&call, PL_OP(conv), axes, w.shape[0], stride, padding, dilation, sizes, attrs[3].i, out);
}

static bool transpose_images(pl_context *c, const pl_op *op, int axes, const pl_value *in, const pl_attr *attrs,
                             pl_value *out) {
  pl_slot *slots[] = {pl_slot_get(c, in[0]), pl_slot_get(c, in[1])};
  if (!slots[0] || !slots[1]) return false;
  pl_slot x = *slots[0], w = *slots[1], *both[] = {&x, &w};
  pl_call call = {c, op, 2, both, in, attrs};
  pl_triple stride, padding, more, dilation, sizes = ones;
  if (!channels_fit(&call, axes, attrs[3].i, true) || !pl_triple_of(&call, 0, axes, 1, 1, ones, &stride) ||
      !pl_triple_of(&call, 1, axes, 0, 0, zeros, &padding) || !pl_triple_of(&call, 2, axes, 0, 0, zeros, &more) ||
      !pl_triple_of(&call, 4, axes, 1, 1, ones, &dilation))
    return false;
  for (int d = 3 - axes; d < 3; d++) {
    int64_t n = x.shape[axes - 1 + d], window = w.shape[axes - 1 + d];
    int64_t longest = stride.at[d] > dilation.at[d] ? stride.at[d] : dilation.at[d];
    if (more.at[d] >= longest) {
      pl_window_error(&call, "output_padding %lld is not less than the stride or the dilation, %lld",
                      (long long)more.at[d], (long long)longest);
      return false;
    }
    sizes.at[d] = (n - 1) * stride.at[d] - 2 * padding.at[d] + dilation.at[d] * (window - 1) + more.at[d] + 1;
    if (n < 1 || window < 1 || sizes.at[d] < 1) {
      pl_window_error(&call, "axis %d of the result would have %lld elements", axes + d, (long long)sizes.at[d]);
      return false;
    }
  }
  return finish(&call, PL_OP(conv_input), axes, w.shape[1] * attrs[3].i, stride, padding, dilation, sizes, attrs[3].i,
                out);
}

#define IMAGES(name, axes, f)                                                                                \
  static bool name##_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs, \
                            pl_value *out) {                                                                 \
    (void)n;                                                                                                 \
    return f(c, op, axes, in, attrs, out);                                                                   \
  }
IMAGES(conv1d, 1, convolve_images)
IMAGES(conv2d, 2, convolve_images)
IMAGES(conv3d, 3, convolve_images)
IMAGES(conv_transpose1d, 1, transpose_images)
IMAGES(conv_transpose2d, 2, transpose_images)
IMAGES(conv_transpose3d, 3, transpose_images)

/* ---- signals ---- */

/* Results from element `first` of all n + m - 1 on, `sizes` of them; attributes same, valid. */
static bool signal_part(const pl_call *call, pl_triple *first, pl_triple *sizes) {
  const pl_slot *x = call->in[0], *z = call->in[1];
  bool same = call->attrs[0].i, valid = call->attrs[1].i, longer = true, shorter = true;
  if (x->rank != z->rank || x->rank < 1 || x->rank > 3) {
    pl_shape_error(call, "two of 1 to 3 axes, as many each, are needed");
    return false;
  }
  if (same && valid) {
    pl_shape_error(call, "it is either same or valid");
    return false;
  }
  *first = zeros;
  *sizes = ones;
  double count = 1;
  for (int a = 0; a < x->rank; a++) {
    int64_t n = x->shape[a], m = z->shape[a], *at = &first->at[3 - x->rank + a], *size = &sizes->at[3 - x->rank + a];
    if (n == 0 || m == 0) {
      pl_shape_error(call, "neither may be empty");
      return false;
    }
    longer = longer && n >= m;
    shorter = shorter && n <= m;
    *at = same ? (m - 1) / 2 : valid ? (n < m ? n : m) - 1 : 0;
    *size = same ? n : valid ? (n < m ? m - n : n - m) + 1 : n + m - 1;
    count *= (double)*size;
  }
  if (valid && !longer && !shorter)
    pl_shape_error(call, "for valid one must be at least as long as the other along every axis");
  else if (count > INT32_MAX) pl_shape_error(call, "the result has more than 2^31 - 1 elements");
  else return true;
  return false;
}
static bool signal(pl_context *c, const pl_op *op, bool flipped, const pl_value *in, const pl_attr *attrs,
                   pl_value *out) {
  pl_slot *slots[] = {pl_slot_get(c, in[0]), pl_slot_get(c, in[1])};
  pl_triple before, sizes;
  if (!slots[0] || !slots[1]) return false;
  pl_slot x = *slots[0], z = *slots[1], *both[] = {&x, &z};
  pl_call call = {c, op, 2, both, in, attrs};
  if (!signal_part(&call, &before, &sizes)) return false;
  int axes = x.rank;
  bool turned = z.count > x.count; /* the shorter one is the window */
  pl_value p = pl_as_images(c, in[turned], axes, 1, 1), q = pl_as_images(c, in[!turned], axes, 1, 1);
  for (int a = 0; a < axes && !flipped; a++) {
    int64_t *at = &before.at[3 - axes + a];
    *at = z.shape[a] - 1 - *at;
    if (turned) *at = sizes.at[3 - axes + a] - 1 - *at; /* which runs backwards */
  }
  pl_value v = pl_convolution(c, flipped ? PL_OP(conv_input) : PL_OP(conv), p, q, ones, before, ones, sizes, 1);
  v = pl_reshape_to(c, v, axes, sizes.at + 3 - axes);
  if (turned && !flipped) v = pl_call1(c, PL_OP(flip), v, &PL_INTS(-1, NULL));
  return (*out = v) != PL_NONE;
}
static bool convolve_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                            pl_value *out) {
  (void)n;
  return signal(c, op, true, in, attrs, out);
}
static bool correlate_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                             pl_value *out) {
  (void)n;
  return signal(c, op, false, in, attrs, out);
}

/* ---- samples ---- */

#define T(...) pl_sample_tensor(c, r, -1, 1, __VA_ARGS__)
/* x, weights and results of: plain; strided, padded, dilated; groups; depthwise; a window of all; a stride beyond it;
 * an empty batch; more channels than a panel, rows longer than vectors */
static const struct {
  int x[5], w[5], y[5], stride[3], before[3], dilation[3], groups;
} cases[] = {{{2, 3, 1, 5, 6}, {4, 3, 1, 3, 2}, {2, 4, 1, 3, 5}, {1, 1, 1}, {0, 0, 0}, {1, 1, 1}, 1},
             {{2, 2, 4, 5, 7}, {3, 2, 2, 3, 3}, {2, 3, 3, 3, 4}, {2, 2, 2}, {1, 1, 2}, {1, 1, 2}, 1},
             {{1, 4, 1, 6, 5}, {6, 2, 1, 2, 3}, {1, 6, 1, 4, 3}, {1, 1, 2}, {0, 0, 1}, {1, 2, 1}, 2},
             {{2, 3, 1, 4, 9}, {3, 1, 1, 3, 3}, {2, 3, 1, 4, 9}, {1, 1, 1}, {0, 1, 1}, {1, 1, 1}, 3},
             {{1, 2, 1, 1, 6}, {2, 2, 1, 1, 6}, {1, 2, 1, 1, 1}, {1, 1, 1}, {0, 0, 0}, {1, 1, 1}, 1},
             {{1, 1, 1, 1, 8}, {2, 1, 1, 1, 2}, {1, 2, 1, 1, 3}, {1, 1, 3}, {0, 0, 0}, {1, 1, 1}, 1},
             {{0, 2, 1, 4, 4}, {3, 2, 1, 2, 2}, {0, 3, 1, 3, 3}, {1, 1, 1}, {0, 0, 0}, {1, 1, 1}, 1},
             {{2, 2, 1, 3, 37}, {11, 2, 1, 2, 3}, {2, 11, 1, 2, 35}, {1, 1, 1}, {0, 0, 0}, {1, 1, 1}, 1}};
enum { CASES = sizeof cases / sizeof *cases };
static pl_value tensor_of(pl_context *c, pl_sampler_random *r, const int *n) {
  return T(5, n[0], n[1], n[2], n[3], n[4]);
}
/* Which of x, w, y are the two inputs, and the result. */
static bool bilinear(pl_context *c, pl_sampler_random *r, int k, pl_sample *s, int first, int second, int result) {
  if (k >= CASES) return false;
  const int *shapes[] = {cases[k].x, cases[k].w, cases[k].y}, *sizes = shapes[result] + 2;
  s->n = 2;
  s->in[0] = tensor_of(c, r, shapes[first]);
  s->in[1] = tensor_of(c, r, shapes[second]);
  PL_SAMPLE_LIST(STRIDE, cases[k].stride[0], cases[k].stride[1], cases[k].stride[2]);
  PL_SAMPLE_LIST(BEFORE, cases[k].before[0], cases[k].before[1], cases[k].before[2]);
  PL_SAMPLE_LIST(DILATION, cases[k].dilation[0], cases[k].dilation[1], cases[k].dilation[2]);
  PL_SAMPLE_LIST(SIZES, sizes[0], sizes[1], sizes[2]);
  s->attrs[GROUPS] = PL_INT(cases[k].groups);
  return true;
}
PL_SAMPLE(conv) { return bilinear(c, r, k, s, 0, 1, 2); }
PL_SAMPLE(conv_input) { return bilinear(c, r, k, s, 2, 1, 0); }
PL_SAMPLE(conv_weights) { return bilinear(c, r, k, s, 0, 2, 1); }

PL_SAMPLE(images1) {
  s->n = 2;
  for (int i = 0; i < 3; i++) s->attrs[i] = PL_INTS(-1, NULL);
  s->attrs[3] = PL_INT(1);
  if (k == 0) s->in[0] = T(3, 2, 3, 8), s->in[1] = T(3, 4, 3, 3);
  if (k == 1) s->in[0] = T(3, 2, 4, 9), s->in[1] = T(3, 4, 2, 2), s->attrs[3] = PL_INT(2), PL_SAMPLE_LIST(0, 2);
  return k <= 1;
}
PL_SAMPLE(images2) {
  s->n = 2;
  for (int i = 0; i < 3; i++) s->attrs[i] = PL_INTS(-1, NULL);
  s->attrs[3] = PL_INT(1);
  if (k == 0) s->in[0] = T(4, 2, 3, 5, 6), s->in[1] = T(4, 2, 3, 3, 2), PL_SAMPLE_LIST(1, 1);
  if (k == 1)
    s->in[0] = T(4, 1, 2, 7, 6), s->in[1] = T(4, 2, 2, 2, 3), PL_SAMPLE_LIST(0, 3, 1), PL_SAMPLE_LIST(2, 1, 2);
  return k <= 1;
}
PL_SAMPLE(images3) {
  s->n = 2;
  for (int i = 0; i < 3; i++) s->attrs[i] = PL_INTS(-1, NULL);
  s->attrs[3] = PL_INT(1);
  s->in[0] = k ? PL_NONE : T(5, 1, 2, 3, 4, 5);
  s->in[1] = k ? PL_NONE : T(5, 2, 2, 2, 3, 2);
  PL_SAMPLE_LIST(0, 1, 2, 1);
  return k == 0;
}
PL_SAMPLE(transposed1) {
  s->n = 2;
  for (int i = 0; i < 3; i++) s->attrs[i] = PL_INTS(-1, NULL);
  s->attrs[3] = PL_INT(1);
  s->attrs[4] = PL_INTS(-1, NULL);
  if (k == 0) s->in[0] = T(3, 2, 3, 5), s->in[1] = T(3, 3, 4, 3);
  if (k == 1) {
    s->in[0] = T(3, 2, 4, 5), s->in[1] = T(3, 4, 2, 3), s->attrs[3] = PL_INT(2);
    PL_SAMPLE_LIST(0, 2), PL_SAMPLE_LIST(1, 1), PL_SAMPLE_LIST(2, 1), PL_SAMPLE_LIST(4, 2);
  }
  return k <= 1;
}
PL_SAMPLE(transposed2) {
  if (!transposed1_sample(c, r, k, s)) return false;
  for (int i = 0; i < 2; i++) {
    const pl_slot *old = pl_slot_get(c, s->in[i]);
    int m = old->shape[0], q = old->shape[1];
    pl_release(c, s->in[i]);
    s->in[i] = i ? T(4, m, q, 2, 3) : T(4, m, q, 3, 4);
  }
  return true;
}
PL_SAMPLE(transposed3) {
  if (!transposed1_sample(c, r, k, s)) return false;
  for (int i = 0; i < 2; i++) {
    const pl_slot *old = pl_slot_get(c, s->in[i]);
    int m = old->shape[0], q = old->shape[1];
    pl_release(c, s->in[i]);
    s->in[i] = i ? T(5, m, q, 2, 2, 3) : T(5, m, q, 3, 2, 2);
  }
  return true;
}
PL_SAMPLE(signals) {
  s->n = 2;
  s->attrs[0] = PL_INT(k % 3 == 1);
  s->attrs[1] = PL_INT(k % 3 == 2);
  if (k < 3) s->in[0] = T(1, 9), s->in[1] = T(1, 4);
  else if (k < 6) s->in[0] = T(1, 3), s->in[1] = T(1, 8);
  else s->in[0] = T(2, 4, 5), s->in[1] = T(2, 2, 3);
  return k < 9;
}

#define BILINEAR(op, text)                                                                                           \
  .name = #op, .formula = text, .kind = PL_LINEAR, .inputs = 2, .outputs = 1, .internal = true, .dtypes = PL_FLOATS, \
  .shape = op##_shape, .run = op##_run, .vjp = op##_vjp, .jvp = bilinear_jvp, .sample = op##_sample,                 \
  .attrs = {{"stride", PL_AS_INTS, true, 0},                                                                         \
            {"before", PL_AS_INTS, true, 0},                                                                         \
            {"dilation", PL_AS_INTS, true, 0},                                                                       \
            {"sizes", PL_AS_INTS, true, 0},                                                                          \
            {"groups", PL_AS_INT, false, 1}}
#define SUMS "a sum of products, rounded once each, along channels and window in order"
#define IMAGE_ROW(op, in, w, y, smp)                                                                                 \
  .name = #op,                                                                                                       \
  .formula =                                                                                                         \
      "cross-correlation of networks: the sum over channels and window of w x, x 0 beyond its ends; numbers, "       \
      "or one an axis; a bias is added with + b:reshape(out, 1, ...)",                                               \
  .shapes = "{batch, channels, " in "}, {out, channels/groups, " w "} -> {batch, out, " y "}", .kind = PL_COMPOSITE, \
  .accuracy = SUMS, .source = "PyTorch's " #op, .inputs = 2, .outputs = 1, .expand = op##_expand,                    \
  .sample = smp##_sample,                                                                                            \
  .attrs = {{"stride", PL_AS_INTS, false, 0},                                                                        \
            {"padding", PL_AS_INTS, false, 0},                                                                       \
            {"dilation", PL_AS_INTS, false, 0},                                                                      \
            {"groups", PL_AS_INT, false, 1}}
#define TRANSPOSED_ROW(op, in, w, y, smp)                                                                            \
  .name = #op,                                                                                                       \
  .formula = "the adjoint of " #op                                                                                   \
             " without transpose_, in x: sizes (n - 1) stride - 2 padding + dilation (window - 1) "                  \
             "+ output_padding + 1",                                                                                 \
  .shapes = "{batch, channels, " in "}, {channels, out/groups, " w "} -> {batch, out, " y "}", .kind = PL_COMPOSITE, \
  .accuracy = SUMS, .source = "PyTorch's " #op, .inputs = 2, .outputs = 1, .expand = op##_expand,                    \
  .sample = smp##_sample,                                                                                            \
  .attrs = {{"stride", PL_AS_INTS, false, 0},                                                                        \
            {"padding", PL_AS_INTS, false, 0},                                                                       \
            {"output_padding", PL_AS_INTS, false, 0},                                                                \
            {"groups", PL_AS_INT, false, 1},                                                                         \
            {"dilation", PL_AS_INTS, false, 0}}
#define SIGNAL_ROW(op, text, from)                                                                                \
  .name = #op, .formula = text, .shapes = "{n...}, {m...} -> {n + m - 1 ...}; 1 to 3 axes", .kind = PL_COMPOSITE, \
  .accuracy = "a sum of products, in order", .source = from, .inputs = 2, .outputs = 1, .expand = op##_expand,    \
  .sample = signals_sample, .attrs = {{"same", PL_AS_FLAG, false, 0}, {"valid", PL_AS_FLAG, false, 0}}

pl_op pl_ops_convolution[] = {
    {BILINEAR(conv, "the sum over channels and window of w x[j stride - before + k dilation]")},
    {BILINEAR(conv_input, "the adjoint of conv in x")},
    {BILINEAR(conv_weights, "the adjoint of conv in the weights")},
    {IMAGE_ROW(conv1d, "n", "window", "m", images1)},
    {IMAGE_ROW(conv2d, "h, w", "window_h, window_w", "m, n", images2)},
    {IMAGE_ROW(conv3d, "d, h, w", "window_d, window_h, window_w", "l, m, n", images3)},
    {TRANSPOSED_ROW(conv_transpose1d, "n", "window", "m", transposed1)},
    {TRANSPOSED_ROW(conv_transpose2d, "h, w", "window_h, window_w", "m, n", transposed2)},
    {TRANSPOSED_ROW(conv_transpose3d, "d, h, w", "window_d, window_h, window_w", "l, m, n", transposed3)},
    {SIGNAL_ROW(
        convolve,
        "y_k = sum over l of x_l h_{k-l}, all of it; same: the middle, of x's shape; valid: where no zeros of the "
        "margin enter",
        "SciPy's signal.convolve")},
    {SIGNAL_ROW(
        correlate,
        "y_k = sum over l of x_l h_{l-k+m-1}, all of it; same: the middle, of x's shape; valid: where no zeros of "
        "the margin enter",
        "SciPy's signal.correlate")},
    {0},
};
