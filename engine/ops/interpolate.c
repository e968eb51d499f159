/* interpolate.c: interpolation of values at places, one axis or a grid, at points between them. Beyond the first and
 * the last place the value stays that of the end, with derivative 0; at a place the derivative is that of the interval
 * to its right, at the last place of the one to its left. On a grid one primitive with the order of its derivative
 * along each axis, and its adjoint, are closed under both modes. */
#include <stdio.h>
#include <string.h>

#include "../../kernels/shapes.h"
#include "../op.h"
#include "../schedule.h"

/* Do the numbers ascend? `where` says of which axis they are. */
static bool ascending(pl_context *c, const char *name, const pl_slot *places, const char *where) {
  for (int64_t k = 1; k < places->count; k++) {
    double a = places->dtype == PL_F64 ? ((double *)places->data)[k - 1] : ((float *)places->data)[k - 1];
    double b = places->dtype == PL_F64 ? ((double *)places->data)[k] : ((float *)places->data)[k];
    if (b > a) continue;
    pl_error(c, PL_ERROR_ARGUMENT, "%s: places must ascend%s: place %lld is %g, the one before it %g", name, where,
             (long long)k + 1, b, a);
    return false;
  }
  return true;
}

/* ---- interval: places, x; the 1-based number, 1 to n - 1, of the one that x is in, that at the end beyond it ---- */

static bool interval_shape(const pl_call *call, pl_spec *out) {
  const pl_slot *places = call->in[0], *x = call->in[1];
  if (places->rank != 1 || places->count < 2) {
    pl_shape_error(call, "places are a vector of two or more");
    return false;
  }
  out->dtype = PL_I64;
  out->rank = x->rank;
  memcpy(out->shape, x->shape, sizeof out->shape);
  return true;
}
static void interval_run(const pl_call *call, pl_slot **out) {
  const pl_slot *places = call->in[0], *x = call->in[1];
  order_args a = {.x = places->data, .z = x->data, .y = out[0]->data, .r = places->count};
  if (!ascending(call->c, "interpolation", places, "")) return;
  pl_for(call->c, PL_KERNEL_OF(interval, x->dtype), &a, out[0]->count, 1, 20);
}

/* Of rows, from start on, as many as there are but one. */
static pl_value but_one(pl_context *c, pl_value x, int64_t start) {
  pl_slot *s = pl_slot_get(c, x);
  return s ? pl_part(c, x, s->rank - 1, start, 1, s->shape[s->rank - 1] - 1) : PL_NONE;
}
/* ---- curves: x, places {n}, values {..., n} -> {..., x...} ---- */

typedef struct {
  pl_context *c;
  pl_value places, values, k, t; /* the interval of each x, and how far x, moved into the places, lies in it */
  pl_value h, slope;             /* {n - 1} and {..., n - 1}: of the intervals */
  int64_t n;
} curve;

static pl_value minus(pl_context *c, pl_value x, pl_value z) { return PL_BINARY(sub, c, x, z); }
static pl_value plus(pl_context *c, pl_value x, pl_value z) { return PL_BINARY(add, c, x, z); }
static pl_value times(pl_context *c, pl_value x, pl_value z) { return PL_BINARY(mul, c, x, z); }
static pl_value over(pl_context *c, pl_value x, pl_value z) { return PL_BINARY(div, c, x, z); }
static pl_value scaled(pl_context *c, pl_value x, double f) { return PL_BINARY(mul, c, x, pl_like(c, x, f)); }
static pl_value choose(pl_context *c, pl_value mask, pl_value x, pl_value z) { return PL_WHERE(c, mask, x, z); }
/* Entries start ... start + count - 1 along the last axis. */
static pl_value last_axis(pl_context *c, pl_value x, int64_t start, int64_t count) {
  pl_slot *s = pl_slot_get(c, x);
  return s ? pl_part(c, x, s->rank - 1, start, 1, count) : PL_NONE;
}
static pl_value entry(const curve *u, int64_t k) {
  return pl_reshape_to(u->c, last_axis(u->c, u->places, k, 1), 0, NULL);
}
static pl_value at(const curve *u, pl_value table) { return pl_call2(u->c, PL_OP(gather), table, u->k, &PL_INT(-1)); }

static bool curve_of(pl_context *c, const pl_op *op, int n, const pl_value *in, int64_t least, curve *u) {
  pl_slot *s[3];
  pl_value v[3];
  for (int i = 0; i < 3; i++)
    if (!(s[i] = pl_slot_get(c, in[i]))) return false;
  pl_call call = {c, op, n, s, in, NULL};
  if (s[1]->rank != 1 || s[2]->rank < 1 || s[2]->shape[s[2]->rank - 1] != s[1]->count || s[1]->count < least) {
    char text[96];
    snprintf(text, sizeof text, "places are a vector, values are as many along their last axis, %lld or more",
             (long long)least);
    pl_shape_error(&call, text);
    return false;
  }
  u->c = c;
  u->n = s[1]->count;
  for (int i = 0; i < 3; i++) v[i] = pl_floats(c, in[i]);
  u->places = v[1];
  u->values = v[2];
  u->k = pl_call2(c, PL_OP(interval), v[1], v[0], NULL);
  pl_value first = entry(u, 0), last = entry(u, u->n - 1);
  pl_value x = choose(c, PL_BINARY(lt, c, v[0], first), first, v[0]);
  x = choose(c, PL_BINARY(gt, c, v[0], last), last, x);
  u->t = minus(c, x, at(u, u->places));
  u->h = minus(c, but_one(c, v[1], 1), but_one(c, v[1], 0));
  u->slope = over(c, minus(c, but_one(c, v[2], 1), but_one(c, v[2], 0)), u->h);
  return c->status == PL_OK;
}

static bool interp_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                          pl_value *out) {
  (void)attrs;
  curve u;
  if (!curve_of(c, op, n, in, 2, &u)) return false;
  out[0] = plus(c, at(&u, u.values), times(c, at(&u, u.slope), u.t));
  return out[0] != PL_NONE;
}

/* Hermite's cubics of the values and these slopes s: y + t (s + t (p + t q)), of both ends of an interval
 * p = (3 d - 2 s_0 - s_1)/h, q = (s_0 + s_1 - 2 d)/h^2. */
static bool hermite(const curve *u, pl_value s, pl_value *out) {
  pl_context *c = u->c;
  pl_value s0 = but_one(c, s, 0), s1 = but_one(c, s, 1), h = u->h, d = u->slope;
  pl_value q = over(c, minus(c, plus(c, s0, s1), scaled(c, d, 2)), h);
  pl_value p = over(c, minus(c, minus(c, d, s0), times(c, q, h)), h);
  q = over(c, q, h);
  pl_value y = plus(c, at(u, p), times(c, u->t, at(u, q)));
  y = plus(c, at(u, s), times(c, u->t, y));
  out[0] = plus(c, at(u, u->values), times(c, u->t, y));
  return out[0] != PL_NONE;
}

static pl_value joined(pl_context *c, int n, const pl_value *parts) {
  return pl_apply1(c, PL_OP(concat), n, parts, &PL_INT(-1));
}

/* What is said of the slopes at an end: corner s_0 + beside s_1 = side, of the interval there (h, d) and the next (g,
 * e). */
typedef struct {
  pl_value corner, beside, side;
} end_row;
static end_row natural_end(pl_context *c, pl_value h, pl_value d) { /* no second derivative */
  return (end_row){scaled(c, h, 2), h, scaled(c, times(c, h, d), 3)};
}
static end_row smooth_end(pl_context *c, pl_value h, pl_value d, pl_value g, pl_value e) { /* one cubic on both */
  pl_value both = plus(c, h, g), near = times(c, times(c, plus(c, h, scaled(c, both, 2)), g), d);
  return (end_row){g, both, over(c, plus(c, near, times(c, times(c, h, h), e)), both)};
}
/* x {..., n} of right sides {..., n} and one matrix: right sides are columns. */
static pl_value solved(pl_context *c, const pl_value *bands, pl_value b) {
  pl_slot *s = pl_slot_get(c, b);
  if (!s) return PL_NONE;
  int64_t n = s->shape[s->rank - 1], rows[] = {s->count / n, n};
  pl_value columns = pl_transpose_last(c, pl_reshape_to(c, b, 2, rows));
  const pl_value in[] = {bands[0], bands[1], bands[2], columns};
  return pl_reshape_like(c, pl_transpose_last(c, pl_apply1(c, PL_OP(tridiagonal_solve), 4, in, NULL)), b);
}
/* Slopes such that the second derivative is continuous: C. de Boor, A Practical Guide to Splines, 1978, chapter IV. */
static bool cubic_spline_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                                pl_value *out) {
  curve u;
  const bool smooth = attrs[0].i;
  if (!curve_of(c, op, n, in, smooth ? 4 : 2, &u)) return false;
  int64_t m = u.n - 1; /* intervals */
  end_row ends[2];
  for (int i = 0; i < 2; i++) {
    pl_value h = last_axis(c, u.h, i ? m - 1 : 0, 1), d = last_axis(c, u.slope, i ? m - 1 : 0, 1);
    int64_t next = i ? m - 2 : 1;
    ends[i] =
        smooth ? smooth_end(c, h, d, last_axis(c, u.h, next, 1), last_axis(c, u.slope, next, 1)) : natural_end(c, h, d);
  }
  pl_value left = but_one(c, u.h, 0), right = but_one(c, u.h, 1);
  pl_value side = plus(c, times(c, right, but_one(c, u.slope, 0)), times(c, left, but_one(c, u.slope, 1)));
  /* the first entry below and the last above the diagonal are not read */
  const pl_value lower[] = {ends[0].corner, right, ends[1].beside}, upper[] = {ends[0].beside, left, ends[1].corner};
  const pl_value diagonal[] = {ends[0].corner, scaled(c, plus(c, left, right), 2), ends[1].corner};
  const pl_value sides[] = {ends[0].side, scaled(c, side, 3), ends[1].side};
  /* divided by what is of each row's size, so that no place is too small */
  const pl_value sizes[] = {ends[0].corner, plus(c, left, right), ends[1].corner}, size = joined(c, 3, sizes);
  const pl_value bands[] = {over(c, joined(c, 3, lower), size), over(c, joined(c, 3, diagonal), size),
                            over(c, joined(c, 3, upper), size)};
  return hermite(&u, solved(c, bands, over(c, joined(c, 3, sides), size)), out);
}

/* pchip's slope at an end, of the interval there (h, d) and the next (g, e): that of the parabola, unless it would not
 * be monotone. */
static pl_value end_slope(pl_context *c, pl_value h, pl_value d, pl_value g, pl_value e) {
  pl_value s = over(c, minus(c, times(c, plus(c, scaled(c, h, 2), g), d), times(c, h, e)), plus(c, h, g));
  pl_value zero = pl_like(c, d, 0), steep = scaled(c, d, 3);
  pl_value turns = PL_BINARY(ne, c, PL_UNARY(sign, c, d), PL_UNARY(sign, c, e));
  pl_value over_steep = PL_BINARY(gt, c, PL_UNARY(abs, c, s), PL_UNARY(abs, c, steep));
  pl_value bounded = choose(c, PL_BINARY(logical_and, c, turns, over_steep), steep, s);
  return choose(c, PL_BINARY(ne, c, PL_UNARY(sign, c, s), PL_UNARY(sign, c, d)), zero, bounded);
}
/* F. Fritsch, J. Butland, A method for constructing local monotone piecewise cubic interpolants, SIAM J. Sci. Stat.
 * Comput. 5, 1984: the weighted harmonic mean of the slopes on both sides, 0 where they differ in sign. */
static bool pchip_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                         pl_value *out) {
  (void)attrs;
  curve u;
  if (!curve_of(c, op, n, in, 2, &u)) return false;
  int64_t m = u.n - 1;
  pl_value h = u.h, d = u.slope;
  if (m == 1) return hermite(&u, joined(c, 2, (pl_value[]){d, d}), out);
  pl_value left = but_one(c, h, 0), right = but_one(c, h, 1), dl = but_one(c, d, 0), dr = but_one(c, d, 1);
  pl_value w1 = plus(c, scaled(c, right, 2), left), w2 = plus(c, right, scaled(c, left, 2));
  pl_value same = PL_BINARY(gt, c, times(c, PL_UNARY(sign, c, dl), PL_UNARY(sign, c, dr)), pl_like(c, d, 0));
  pl_value mean = over(c, plus(c, w1, w2), plus(c, over(c, w1, dl), over(c, w2, dr)));
  pl_value middle = choose(c, same, mean, pl_like(c, d, 0));
  pl_value ends[2];
  for (int i = 0; i < 2; i++) {
    int64_t outer = i ? m - 1 : 0, inner = i ? m - 2 : 1;
    ends[i] = end_slope(c, last_axis(c, h, outer, 1), last_axis(c, d, outer, 1), last_axis(c, h, inner, 1),
                        last_axis(c, d, inner, 1));
  }
  return hermite(&u, joined(c, 3, (pl_value[]){ends[0], middle, ends[1]}), out);
}

/* ---- on a grid: values (base), points x along each axis, places along each or none, and for the adjoint what is
 * added; attributes cubic, nu: the order of the derivative along each axis ---- */

typedef struct {
  pl_context *c;
  const pl_attr *attrs;
  int axes, between; /* inputs behind the values: points and places */
  const pl_value *in;
} grid;

static grid grid_of(pl_context *c, int n, const pl_value *in, const pl_attr *attrs, bool adjoint) {
  return (grid){c, attrs, attrs[1].n, n - 1 - adjoint, in};
}
/* The op that users know. */
static const pl_op *grid_name(int axes, bool cubic) {
  return axes == 3 ? PL_OP(trilinear) : cubic ? PL_OP(bicubic) : PL_OP(bilinear);
}
static bool grid_fits(const pl_call *call, bool adjoint) {
  const pl_attr *nu = &call->attrs[1];
  const bool cubic = call->attrs[0].i;
  int axes = nu->n, between = call->n - 1 - adjoint;
  bool possible = (axes == 2 || (axes == 3 && !cubic)) && (between == axes || between == 2 * axes);
  for (int d = 0; possible && d < axes; d++) possible = nu->list[d] >= 0 && nu->list[d] <= (cubic ? 3 : 1);
  if (!possible) {
    pl_error(call->c, PL_ERROR_ARGUMENT, "%s: there is no such grid", call->op->name);
    return false;
  }
  const pl_slot *values = call->in[0], *x = call->in[1];
  const char *name = grid_name(axes, cubic)->name;
  char text[PL_TEXT];
  if (values->rank < axes) {
    pl_error(call->c, PL_ERROR_SHAPE, "%s: values of shape %s are no grid of %d axes", name,
             pl_shape_text(text, values->rank, values->shape), axes);
    return false;
  }
  for (int d = 0; d < axes; d++) {
    const pl_slot *y = call->in[1 + d], *places = between > axes ? call->in[1 + axes + d] : NULL;
    int size = values->shape[values->rank - axes + d], least = cubic ? 3 : 2;
    if (size < least) {
      pl_error(call->c, PL_ERROR_SHAPE, "%s: the grid's axis %d has %d values; %d or more are needed", name, d + 1,
               size, least);
      return false;
    }
    if (places && (places->rank != 1 || places->count != size)) {
      pl_error(call->c, PL_ERROR_SHAPE, "%s: the grid's axis %d has %d values, its places are of shape %s", name, d + 1,
               size, pl_shape_text(text, places->rank, places->shape));
      return false;
    }
    if (y->rank != x->rank || memcmp(x->shape, y->shape, x->rank * sizeof *x->shape)) {
      pl_shape_error(call, "the points' coordinates are of one shape");
      return false;
    }
  }
  if (values->rank - axes + x->rank <= PL_MAX_RANK) return true;
  pl_error(call->c, PL_ERROR_SHAPE, "%s: the result has more than 8 axes", name);
  return false;
}
static bool grid_shape(const pl_call *call, pl_spec *out) {
  if (!grid_fits(call, false)) return false;
  const pl_slot *values = call->in[0], *x = call->in[1];
  out->dtype = (pl_dtype)values->dtype;
  for (int a = 0; a < values->rank - call->attrs[1].n; a++) out->shape[out->rank++] = values->shape[a];
  for (int a = 0; a < x->rank; a++) out->shape[out->rank++] = x->shape[a];
  return true;
}
static bool grid_add_shape(const pl_call *call, pl_spec *out) {
  if (!grid_fits(call, true) ||
      !grid_shape(&(pl_call){call->c, call->op, call->n - 1, call->in, call->handles, call->attrs}, out))
    return false;
  const pl_slot *base = call->in[0], *w = call->in[call->n - 1];
  if (w->rank != out->rank || memcmp(w->shape, out->shape, w->rank * sizeof *w->shape)) {
    pl_shape_error(call, "what is added has one number a field and point");
    return false;
  }
  out->rank = base->rank;
  memcpy(out->shape, base->shape, sizeof out->shape);
  return true;
}
/* The kernel's arguments but for values, y and the work's division. */
static bool grid_arguments(const pl_call *call, bool adjoint, grid_args *a) {
  const pl_slot *values = call->in[0];
  int axes = call->attrs[1].n;
  a->size = 1;
  a->points = call->in[1]->count;
  for (int d = 0; d < axes; d++) {
    const pl_slot *places = call->n - 1 - adjoint > axes ? call->in[1 + axes + d] : NULL;
    char where[32];
    snprintf(where, sizeof where, " along axis %d", d + 1);
    if (places && !ascending(call->c, grid_name(axes, call->attrs[0].i)->name, places, where)) return false;
    a->x[d] = call->in[1 + d]->data;
    a->places[d] = places ? places->data : NULL;
    a->n[d] = values->shape[values->rank - axes + d];
    a->nu[d] = call->attrs[1].list[d];
    a->size *= a->n[d];
  }
  a->fields = values->count / a->size;
  return a->fields > 0 && a->points > 0;
}
/* An estimate of a point's cost. */
static double grid_work(const pl_call *call) { return call->attrs[0].i ? 100 : call->attrs[1].n == 3 ? 40 : 20; }
static void grid_run(const pl_call *call, pl_slot **out) {
  grid_args a = {.values = call->in[0]->data, .y = out[0]->data};
  pl_dtype t = (pl_dtype)out[0]->dtype;
  if (!grid_arguments(call, false, &a)) return;
  pl_kernel fn = call->attrs[1].n == 3   ? PL_KERNEL_OF(trilinear, t)
                 : call->attrs[0].i != 0 ? PL_KERNEL_OF(bicubic, t)
                                         : PL_KERNEL_OF(bilinear, t);
  pl_for(call->c, fn, &a, out[0]->count, 1, grid_work(call));
}
static void grid_add_run(const pl_call *call, pl_slot **out) {
  enum { PIECE = 1 << 20, WORTH = 1 << 12 }; /* points between two looks for an interrupt; so that stripes pay */
  grid_args a = {.values = call->in[call->n - 1]->data, .y = out[0]->data};
  pl_dtype t = (pl_dtype)out[0]->dtype;
  if (out[0]->data != call->in[0]->data)
    memcpy(out[0]->data, call->in[0]->data, (size_t)out[0]->count * pl_dtype_size(t));
  if (!grid_arguments(call, true, &a)) return;
  pl_kernel fn = call->attrs[1].n == 3   ? PL_KERNEL_OF(trilinear_add, t)
                 : call->attrs[0].i != 0 ? PL_KERNEL_OF(bicubic_add, t)
                                         : PL_KERNEL_OF(bilinear_add, t);
  a.stripes = a.points < WORTH ? 1 : pl_threads(call->c);
  if (a.stripes > a.n[0]) a.stripes = a.n[0];
  for (; a.lo < a.points && !call->c->status; a.lo = a.hi) {
    a.hi = a.lo + PIECE < a.points ? a.lo + PIECE : a.points;
    pl_for(call->c, fn, &a, a.fields * a.stripes, 1, grid_work(call) * (double)(a.hi - a.lo));
  }
}

/* op(first, points and places, last or nothing), with one order more along axis `higher` where that is not -1: PL_ZERO
 * where that is 0 everywhere. */
static pl_value grid_apply(const grid *g, const pl_op *op, pl_value first, pl_value last, int higher) {
  pl_value in[PL_MAX_SAMPLE] = {first};
  int64_t nu[3];
  for (int d = 0; d < g->axes; d++) nu[d] = g->attrs[1].list[d] + (d == higher);
  if (higher >= 0 && nu[higher] > (g->attrs[0].i ? 3 : 1)) return PL_ZERO;
  memcpy(in + 1, g->in + 1, (size_t)g->between * sizeof *in);
  in[1 + g->between] = last;
  return pl_apply1(g->c, op, 1 + g->between + (last != PL_NONE), in, (pl_attr[]){g->attrs[0], PL_INTS(g->axes, nu)});
}
static bool moved_places(const grid *g, int d) {
  pl_error(
      g->c, PL_ERROR_TYPE,
      "%s has no derivative with respect to the grid's places (axis %d). Of a linear one: map the points to places "
      "1 ... n first, by interp(x, places, arange(1, n)), and leave the places out",
      grid_name(g->axes, g->attrs[0].i)->name, d + 1);
  return false;
}
/* g times the derivative of <w, y> along each axis, to the points. */
static void grid_points_vjp(pl_vjp *v, const grid *g, pl_value values, pl_value w) {
  for (int d = 0; d < g->axes; d++) {
    if (g->between > g->axes && v->need[1 + g->axes + d] && !moved_places(g, d)) return;
    if (!v->need[1 + d]) continue;
    pl_value dy = grid_apply(g, PL_OP(interpolate), values, PL_NONE, d);
    if (dy != PL_ZERO) pl_vjp_give(v, 1 + d, pl_sum_to(g->c, pl_chain(g->c, w, dy), v->in[1 + d]));
  }
}
static void grid_vjp(pl_vjp *v) {
  grid g = grid_of(v->c, v->n, v->in, v->attrs, false);
  pl_value more[PL_MAX_SAMPLE];
  memcpy(more, v->in + 1, (size_t)g.between * sizeof *more);
  more[g.between] = v->g[0];
  pl_vjp_give_into(v, 0, PL_OP(interpolate_add), g.between + 1, more, v->attrs);
  grid_points_vjp(v, &g, v->in[0], v->g[0]);
}
static void grid_add_vjp(pl_vjp *v) {
  grid g = grid_of(v->c, v->n, v->in, v->attrs, true);
  pl_vjp_give(v, 0, v->g[0]);
  if (v->need[v->n - 1]) pl_vjp_give(v, v->n - 1, grid_apply(&g, PL_OP(interpolate), v->g[0], PL_NONE, -1));
  grid_points_vjp(v, &g, v->g[0], v->in[v->n - 1]);
}
static void grid_jvp(pl_jvp *j) {
  grid g = grid_of(j->c, j->n, j->in, j->attrs, false);
  pl_value dy = j->t[0] == PL_ZERO ? PL_ZERO : grid_apply(&g, PL_OP(interpolate), j->t[0], PL_NONE, -1);
  for (int d = 0; d < g.axes; d++) {
    if (g.between > g.axes && j->t[1 + g.axes + d] != PL_ZERO && !moved_places(&g, d)) return;
    if (j->t[1 + d] == PL_ZERO) continue;
    pl_value slope = grid_apply(&g, PL_OP(interpolate), j->in[0], PL_NONE, d);
    if (slope != PL_ZERO) dy = pl_plus(j->c, dy, pl_chain(j->c, j->t[1 + d], slope));
  }
  j->dt[0] = dy;
}
static void grid_add_jvp(pl_jvp *j) {
  grid g = grid_of(j->c, j->n, j->in, j->attrs, true);
  pl_value w = j->in[j->n - 1], dw = j->t[j->n - 1], dy = j->t[0], zeros = pl_zeros_like(j->c, j->in[0]);
  if (dw != PL_ZERO) dy = grid_apply(&g, PL_OP(interpolate_add), dy == PL_ZERO ? zeros : dy, dw, -1);
  for (int d = 0; d < g.axes; d++) {
    if (g.between > g.axes && j->t[1 + g.axes + d] != PL_ZERO && !moved_places(&g, d)) return;
    if (j->t[1 + d] == PL_ZERO) continue;
    pl_value more =
        grid_apply(&g, PL_OP(interpolate_add), dy == PL_ZERO ? zeros : dy, pl_chain(j->c, j->t[1 + d], w), d);
    if (more != PL_ZERO) dy = more;
  }
  j->dt[0] = dy;
}

/* bilinear, bicubic, trilinear: points along each axis, places along each or none, values */
static bool on_grid(pl_context *c, const pl_op *op, int n, const pl_value *in, int axes, bool cubic, pl_value *out) {
  if (n != axes + 1 && n != 2 * axes + 1) {
    pl_error(c, PL_ERROR_ARGUMENT,
             "%s takes %d coordinates of the points, %d vectors of places or none, and the values: %d "
             "or %d tensors, not %d",
             op->name, axes, axes, axes + 1, 2 * axes + 1, n);
    return false;
  }
  pl_slot *x[3];
  for (int d = 0; d < axes; d++)
    if (!(x[d] = pl_slot_get(c, in[d]))) return false;
  pl_spec points = {.rank = 0};
  if (!pl_broadcast_shapes(&(pl_call){c, op, axes, x, in, NULL}, axes, x, &points)) return false;
  pl_value all[PL_MAX_SAMPLE] = {in[n - 1]};
  int64_t shape[PL_MAX_RANK];
  for (int a = 0; a < points.rank; a++) shape[a] = points.shape[a];
  for (int k = 0; k < n - 1; k++)
    all[k + 1] = k < axes ? pl_call1(c, PL_OP(broadcast_to), in[k], &PL_INTS(points.rank, shape)) : in[k];
  out[0] = pl_apply1(c, PL_OP(interpolate), n, all, (pl_attr[]){PL_INT(cubic), PL_INTS(axes, ((int64_t[]){0, 0, 0}))});
  return out[0] != PL_NONE;
}
#define ON_GRID(name, axes, cubic)                                                                           \
  static bool name##_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs, \
                            pl_value *out) {                                                                 \
    (void)attrs;                                                                                             \
    return on_grid(c, op, n, in, axes, cubic, out);                                                          \
  }
ON_GRID(bilinear, 2, false)
ON_GRID(bicubic, 2, true)
ON_GRID(trilinear, 3, false)

/* ---- samples ---- */

/* Points well inside cells of a grid of n places, one beyond; uneven places k + (k mod 2)/4. */
static pl_value between(pl_context *c, pl_sampler_random *r, int n, int rank, const int64_t *shape) {
  pl_value v = pl_tensor(c, PL_F64, rank, shape, NULL);
  pl_slot *s = pl_slot_get(c, v);
  for (int64_t i = 0; s && i < s->count; i++)
    ((double *)s->data)[i] = (double)(int)pl_sample_uniform(r, 1, n) + pl_sample_uniform(r, 0.3, 0.7);
  if (s && s->count > 3) ((double *)s->data)[3] = n + 0.5;
  return v;
}
/* i64, so that nobody asks for the derivative in them */
static pl_value uneven(pl_context *c, int n) {
  static const int64_t places[] = {1, 2, 4, 5, 7};
  return pl_tensor(c, PL_I64, 1, (int64_t[]){n}, places);
}
PL_SAMPLE(grid) {
  static const int sizes[3] = {5, 4, 3};
  int axes = k % 4 == 3 ? 3 : 2;
  bool places = k >= 4, fields = k % 4 == 2;
  if (k > 7) return false;
  int64_t *nu = s->lists[1];
  for (int d = 0; d < 3; d++) nu[d] = k % 4 == 1 ? d + 1 : k == 4 && d == 1;
  s->attrs[0] = PL_INT(k % 4 == 1 || k % 4 == 2);
  s->attrs[1] = PL_INTS(axes, nu);
  s->in[0] = axes == 3 ? pl_sample_tensor(c, r, -1, 1, 3, 5, 4, 3)
             : fields  ? pl_sample_tensor(c, r, -1, 1, 3, 2, 5, 4)
                       : pl_sample_tensor(c, r, -1, 1, 2, 5, 4);
  int rank = fields ? 2 : k == 0 ? 0 : 1;
  s->n = 1;
  for (int d = 0; d < axes; d++) s->in[s->n++] = between(c, r, sizes[d], rank, (int64_t[]){fields ? 2 : 6, 3});
  for (int d = 0; d < axes && places; d++) s->in[s->n++] = uneven(c, sizes[d]);
  return true;
}
PL_SAMPLE(grid_add) {
  if (!grid_sample(c, r, k, s)) return false;
  pl_value y = pl_apply1(c, PL_OP(interpolate), s->n, s->in, s->attrs);
  s->in[s->n++] = pl_call2(c, PL_OP(sub), y, pl_constant(c, PL_F64, 0.3), NULL);
  pl_release(c, y);
  return true;
}
PL_SAMPLE(interval) {
  if (k > 0) return false;
  s->n = 2;
  s->in[0] = pl_tensor(c, PL_F64, 1, (int64_t[]){4}, (double[]){-1, 0, 0.5, 2});
  s->in[1] = pl_sample_tensor(c, r, -2, 3, 2, 3, 2);
  return true;
}
PL_SAMPLE(curve) { /* inside of intervals, and beyond both ends; slopes of one sign and of two */
  static const double values[] = {0.1, 0.5, 0.7, 1.3, 0.2, -0.1, -0.9, -1};
  (void)r;
  if (k > 2) return false;
  s->n = 3;
  s->in[0] = pl_tensor(c, PL_F64, k == 2 ? 0 : 2, (int64_t[]){2, 3}, (double[]){-0.5, 0.2, 0.71, 1.4, 1.7, 3.2});
  s->in[1] = pl_tensor(c, PL_F64, 1, (int64_t[]){4}, (double[]){0, 0.5, 1, 2});
  s->in[2] = pl_tensor(c, PL_F64, k == 1 ? 2 : 1, k == 1 ? (int64_t[]){2, 4} : (int64_t[]){4}, values);
  return true;
}
PL_SAMPLE(spline) {
  s->attrs[0] = PL_INT(k == 1);
  return curve_sample(c, r, k, s);
}
/* points, places (given: i64, as above), values */
static bool grid_op(pl_context *c, pl_sampler_random *r, int k, pl_sample *s, int axes) {
  if (k > 2) return false;
  for (int d = 0; d < axes; d++) s->in[s->n++] = between(c, r, 5 - d, k ? 1 : 0, (int64_t[]){6});
  for (int d = 0; d < axes && k == 1; d++) s->in[s->n++] = uneven(c, 5 - d);
  if (k == 2) s->in[0] = between(c, r, 5, 2, (int64_t[]){2, 1});
  s->in[s->n++] = axes == 3 ? pl_sample_tensor(c, r, -1, 1, 3, 5, 4, 3) : pl_sample_tensor(c, r, -1, 1, 3, 2, 5, 4);
  return true;
}
PL_SAMPLE(plane) { return grid_op(c, r, k, s, 2); }
PL_SAMPLE(space) { return grid_op(c, r, k, s, 3); }

#define GRID(op, text, smp)                                                                              \
  .name = #op, .formula = text, .kind = PL_COMPOSITE, .inputs = -1, .outputs = 1, .expand = op##_expand, \
  .derivative = GRID_DERIVATIVE, .sample = smp##_sample
#define GRID_DERIVATIVE \
  "to any order in points and values, none in places; at a place that of the cell to its right, 0 beyond"
#define GRID_PART(op, text, shp)                                                                                      \
  .name = #op, .formula = text, .kind = PL_OPAQUE, .internal = true, .inputs = -1, .outputs = 1, .dtypes = PL_FLOATS, \
  .attrs = {{"cubic", PL_AS_FLAG, true, 0}, {"nu", PL_AS_INTS, true, 0}}, .shape = shp##_shape, .run = shp##_run,     \
  .vjp = shp##_vjp, .jvp = shp##_jvp, .sample = shp##_sample

#define CURVE(op, text, smp)                                                                            \
  .name = #op, .formula = text, .kind = PL_COMPOSITE, .inputs = 3, .outputs = 1, .expand = op##_expand, \
  .shapes = "{x...}, {n}, {..., n} -> {..., x...}", .sample = smp##_sample

pl_op pl_ops_interpolate[] = {
    {CURVE(interp, "linear between values at ascending places, constant beyond: interp(x, places, values)", curve),
     .derivative = "in all three; at a place that of the interval to its right, at the last to its left; 0 beyond",
     .accuracy = "of second order in the distance of places"},
    {CURVE(cubic_spline,
           "cubic between values at ascending places with two continuous derivatives, constant beyond: cubic_spline(x, "
           "places, "
           "values); natural (second derivative 0 at the ends), or not_a_knot (third continuous beside them)",
           spline),
     .attrs = {{"not_a_knot", PL_AS_FLAG, false, 0}}, .derivative = "in all three; 0 beyond the ends",
     .source = "C. de Boor, A Practical Guide to Splines, 1978, chapter IV"},
    {CURVE(
         pchip,
         "cubic between values at ascending places, monotone where they are, constant beyond: pchip(x, places, values)",
         curve),
     .derivative = "in all three; 0 beyond the ends; the slope at a place where values turn is 0, with derivative 0",
     .accuracy = "of third order in the distance of even places, where values do not turn; else of second",
     .source = "F. Fritsch, J. Butland, SIAM J. Sci. Stat. Comput. 5, 1984"},
    {.name = "interval",
     .formula = "1-based interval of ascending places that x is in, the first or last beyond",
     .kind = PL_OPAQUE,
     .internal = true,
     .leading = 1 << 1,
     .inputs = 2,
     .outputs = 1,
     .dtypes = PL_FLOATS,
     .shape = interval_shape,
     .run = interval_run,
     .sample = interval_sample},
    {GRID(bilinear, "linear in each axis between values on a grid", plane),
     .shapes = "{p...}, {p...}[, {n}, {m}], {..., n, m} -> {..., p...}"},
    {GRID(bicubic,
          "cubic convolution of values on a grid: once continuously differentiable, of third order, exact for "
          "quadratics",
          plane),
     .shapes = "{p...}, {p...}[, {n}, {m}], {..., n, m} -> {..., p...}, n and m at least 3",
     .source = "R. Keys, Cubic convolution interpolation for digital image processing, IEEE Trans. ASSP 29(6), 1981, a "
               "= -1/2"},
    {GRID(trilinear, "linear in each axis between values on a grid of three", space),
     .shapes = "{p...}, {p...}, {p...}[, {n}, {m}, {l}], {..., n, m, l} -> {..., p...}"},
    {GRID_PART(interpolate, "values of a grid at points, or a derivative", grid)},
    {GRID_PART(interpolate_add, "the adjoint of interpolate, added to a base", grid_add), .in_place = true},
    {0},
};
