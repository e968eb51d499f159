/* matrix_functions.c: the exponential by scaling and squaring with Pade approximants (N. Higham, The scaling and
 * squaring method for the matrix exponential revisited, SIAM J. Matrix Anal. Appl. 26, 2005; the scaling by norms of
 * powers, A. Al-Mohy, N. Higham, A new scaling and squaring algorithm for the matrix exponential, ibid. 31, 2009), and
 * powers. The derivative of exp at A along E is the upper right part of exp of [[A, E], [0, A]], its adjoint that at
 * A'. */
#include <cblas.h>
#include <float.h>
#include <math.h>

#include "linalg.h"

extern void dgesv_(const int *n, const int *k, double *a, const int *lda, int *pivots, double *b, const int *ldb,
                   int *info);

/* ---- exponential: {batch, n, n} ---- */

/* The [m/m] approximants: coefficients b_j of the numerator, and the norm up to which they are exact to rounding. */
typedef struct {
  int m;
  double theta, b[14];
} pade;
static const pade approximants[] = {
    {3, 1.495585217958292e-2, {120, 60, 12, 1}},
    {5, 2.539398330063230e-1, {30240, 15120, 3360, 420, 30, 1}},
    {7, 9.504178996162932e-1, {17297280, 8648640, 1995840, 277200, 25200, 1512, 56, 1}},
    {9, 2.097847961257068, {17643225600, 8821612800, 2075673600, 302702400, 30270240, 2162160, 110880, 3960, 90, 1}},
    {13,
     4.25,
     {64764752532480000, 32382376266240000, 7771770303897600, 1187353796428800, 129060195264000, 10559470521600,
      670442572800, 33522128640, 1323241920, 40840800, 960960, 16380, 182, 1}},
};

/* All matrices here commute, so that it does not matter whether they lie by rows or by columns. */
static void multiply(int n, const double *a, const double *b, double *y) {
  cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, n, n, 1, a, n, b, n, 0, y, n);
}
static void add_scaled(int64_t count, double f, const double *x, double *y) {
  for (int64_t i = 0; i < count; i++) y[i] += f * x[i];
}
static double largest_sum(int n, const double *a) {
  double most = 0;
  for (int64_t i = 0; i < n; i++) {
    double sum = 0;
    for (int64_t k = 0; k < n; k++) sum += fabs(a[i * n + k]);
    most = fmax(most, sum);
  }
  return most;
}
/* How many more halvings the rounding in |A|^27 asks for (Al-Mohy & Higham, eq. 5.1 and alg. 5.1). */
static int more_halvings(int n, const double *a, double scale, double *work) {
  double *x = work, *y = work + n, norm = largest_sum(n, a) * scale;
  for (int i = 0; i < n; i++) x[i] = 1;
  for (int power = 0; power < 27; power++) {
    for (int64_t i = 0; i < n; i++) {
      double sum = 0;
      for (int64_t k = 0; k < n; k++) sum += fabs(a[i * n + k]) * scale * x[k];
      y[i] = sum;
    }
    memcpy(x, y, (size_t)n * sizeof *x);
  }
  double most = 0, c27 = 1 / 1.1325077560602111e35; /* |c_27| = 13!^2/(26! 27!) */
  for (int i = 0; i < n; i++) most = fmax(most, x[i]);
  double alpha = c27 * most / norm;
  if (!(alpha > 0) || !isfinite(alpha)) return 0;
  double bits = ceil(log2(alpha / (DBL_EPSILON / 2)) / 26);
  return bits > 0 ? (int)bits : 0;
}
/* Work memory for one matrix. */
typedef struct {
  int n;
  int64_t count;
  double *a, *a2, *a4, *a6, *odd, *even, *t;
} space;

static void powers(const space *w, int up_to) {
  multiply(w->n, w->a, w->a, w->a2);
  if (up_to >= 4) multiply(w->n, w->a2, w->a2, w->a4);
  if (up_to >= 6) multiply(w->n, w->a2, w->a4, w->a6);
}
/* From norms of powers; of what these overflow, from the norm. */
static int halvings_of(const space *w, double norm, double theta) {
  double limit = norm;
  if (norm < 1e50) {
    powers(w, 6);
    limit = fmin(norm, fmax(pow(largest_sum(w->n, w->a4), 0.25), pow(largest_sum(w->n, w->a6), 1.0 / 6)));
  }
  int halvings = limit > theta ? (int)ceil(log2(limit / theta)) : 0;
  return halvings + more_halvings(w->n, w->a, ldexp(1, -halvings), w->t);
}
/* y += A^6 (b[4] A^6 + b[2] A^4 + b[0] A^2) */
static void highest(const space *w, const double *b, double *y) {
  memset(w->t, 0, (size_t)w->count * sizeof *w->t);
  add_scaled(w->count, b[4], w->a6, w->t);
  add_scaled(w->count, b[2], w->a4, w->t);
  add_scaled(w->count, b[0], w->a2, w->t);
  multiply(w->n, w->a6, w->t, y);
}
/* The numerator's even terms, and the odd ones divided by A. */
static void numerator(const space *w, const pade *p) {
  const double *b = p->b, *const power[] = {w->a2, w->a4, w->a6};
  memset(w->odd, 0, (size_t)w->count * sizeof *w->odd);
  memset(w->even, 0, (size_t)w->count * sizeof *w->even);
  if (p->m == 13) {
    highest(w, b + 9, w->odd);
    highest(w, b + 8, w->even);
  }
  if (p->m == 9) {
    multiply(w->n, w->a4, w->a4, w->t);
    add_scaled(w->count, b[9], w->t, w->odd);
    add_scaled(w->count, b[8], w->t, w->even);
  }
  for (int q = 0; q < 3 && 2 * q + 2 < p->m; q++) {
    add_scaled(w->count, b[2 * q + 3], power[q], w->odd);
    add_scaled(w->count, b[2 * q + 2], power[q], w->even);
  }
  for (int64_t q = 0; q < w->n; q++) {
    w->odd[q * w->n + q] += b[1];
    w->even[q * w->n + q] += b[0];
  }
}
static void exponential_each(const void *args, int64_t lo, int64_t hi) {
  const pl_stack_job *j = args;
  const int n = j->n;
  const int64_t count = (int64_t)n * n;
  for (int64_t i = lo; i < hi; i++) {
    double *a = pl_stack_work(j);
    space w = {n, count, a, a + count, a + 2 * count, a + 3 * count, a + 4 * count, a + 5 * count, a + 6 * count};
    if (!pl_stack_load(j, j->a, i, count, a)) {
      pl_stack_store(j, j->out[0], i, count, NULL);
      continue;
    }
    double norm = largest_sum(n, a);
    const pade *p = approximants;
    while (p->m < 13 && norm > p->theta) p++;
    int halvings = p->m == 13 ? halvings_of(&w, norm, p->theta) : 0;
    for (int64_t q = 0; halvings && q < count; q++) a[q] = ldexp(a[q], -halvings);
    powers(&w, p->m - 1);
    numerator(&w, p);
    multiply(n, a, w.odd, w.t); /* U; (V - U) X = V + U */
    for (int64_t q = 0; q < count; q++) {
      w.odd[q] = w.even[q] - w.t[q];
      w.even[q] += w.t[q];
    }
    dgesv_(&n, &n, w.odd, &n, (int *)w.a, w.even, &n, &j->info[i]);
    double *x = w.even, *y = w.t;
    for (int s = 0; s < halvings; s++) {
      multiply(n, x, x, y);
      double *swap = x;
      x = y;
      y = swap;
    }
    pl_stack_store(j, j->out[0], i, count, x);
  }
}
static void exponential_run(const pl_call *call, pl_slot **out) {
  const pl_slot *a = call->in[0];
  int64_t n = a->shape[1];
  if (a->count == 0) return;
  pl_stack_job j = {.dtype = (pl_dtype)a->dtype,
                    .n = (int)n,
                    .a = a->data,
                    .out = {out[0]->data},
                    .each = (size_t)(7 * n * n + 2 * n) * 8};
  if (pl_stack_run(call, exponential_each, &j, a->shape[0], 16 * (double)n * (double)n * (double)n) >= 0)
    pl_error(call->c, PL_ERROR_NUMERIC, "expm: the approximant's denominator is singular");
}
static bool exponential_shape(const pl_call *call, pl_spec *out) {
  const int32_t *a = call->in[0]->shape;
  pl_spec_shape(out, 3, a[0], a[1], a[2]);
  return pl_is_stack(call, 0, true);
}
/* The derivative at A along E. */
static pl_value along(pl_context *c, pl_value A, pl_value E) {
  pl_slot *s = pl_slot_get(c, A);
  if (!s) return PL_NONE;
  int64_t n = s->shape[1];
  pl_value rows = pl_joined(c, pl_joined(c, A, E, 2), pl_joined(c, pl_zeros_like(c, A), A, 2), 1);
  return pl_part(c, pl_part(c, PL_UNARY(exponential, c, rows), 1, 0, 1, n), 2, n, 1, n);
}
static void exponential_vjp(pl_vjp *v) { pl_vjp_give(v, 0, along(v->c, pl_transpose_last(v->c, v->in[0]), v->g[0])); }
static void exponential_jvp(pl_jvp *j) { j->dt[0] = along(j->c, j->in[0], j->t[0]); }

/* ---- what users see ---- */

PL_EXPAND(expm) {
  (void)n, (void)attrs;
  pl_slot x;
  pl_value a = pl_stacked(c, op, in[0], true, &x);
  if (a == PL_NONE) return false;
  out[0] = pl_unstacked(c, PL_UNARY(exponential, c, a), &x, 2, (int64_t[]){x.shape[x.rank - 1], x.shape[x.rank - 1]});
  return out[0] != PL_NONE;
}
PL_EXPAND(matrix_power) { /* by squaring */
  (void)n;
  pl_slot x;
  pl_value a = pl_stacked(c, op, in[0], true, &x), y = PL_NONE;
  if (a == PL_NONE) return false;
  int64_t size = x.shape[x.rank - 1];
  uint64_t k = attrs[0].i < 0 ? 0 - (uint64_t)attrs[0].i : (uint64_t)attrs[0].i;
  if (attrs[0].i < 0) a = PL_UNARY(inv, c, a);
  if (k == 0) y = pl_broadcast_like(c, pl_eye_like(c, a, size), a);
  for (; k && !c->status; k >>= 1) {
    if (k & 1) y = y == PL_NONE ? a : pl_product(c, y, a, false, false);
    if (k > 1) a = pl_product(c, a, a, false, false);
  }
  out[0] = y == in[0] ? PL_UNARY(identity, c, y) : pl_unstacked(c, y, &x, 2, (int64_t[]){size, size});
  return out[0] != PL_NONE;
}

/* ---- samples: of norms for several approximants, and with squarings ---- */

PL_SAMPLE(stack) {
  if (k > 1) return false;
  s->n = 1;
  s->in[0] = k ? pl_sample_matrices(c, r, 1, 2, 1, 3, 1, 4, 4) : pl_sample_tensor(c, r, -0.2, 0.2, 3, 2, 3, 3);
  return true;
}
PL_SAMPLE(matrices) {
  if (k > 4) return false;
  s->n = 1;
  s->attrs[0] = PL_INT(k == 0 ? 5 : k == 1 ? -2 : k == 2 ? 1 : k == 3 ? 2 : 0);
  s->in[0] = k == 0   ? pl_sample_tensor(c, r, -1, 1, 2, 3, 3)
             : k == 1 ? pl_sample_matrices(c, r, 0.1, 1, 0.2, 4, 2, 1, 3, 3)
             : k == 2 ? pl_sample_tensor(c, r, -1, 1, 3, 2, 1, 1)
                      : pl_sample_tensor(c, r, -0.5, 0.5, 3, 2, 2, 2);
  return true;
}

pl_op pl_ops_matrix_functions[] = {
    {PL_STACK_ROW(exponential, "the exponential of stacks", 1, 1, stack)},
    {PL_USER_ROW(expm, "the matrix exponential, the sum of A^k/k!", 1, 1, matrices),
     .shapes = "{..., n, n} -> {..., n, n}",
     .derivative = "by the exponential of a matrix of twice the size; any order",
     .accuracy = "as the condition of the problem allows: to some eps |A| for normal A; in f64, whatever the dtype",
     .source = "Higham 2005; Al-Mohy & Higham 2009"},
    {PL_USER_ROW(matrix_power, "A A ... A, k times, by squaring; of the inverse where k is negative; I where k is 0", 1,
                 1, matrices),
     .shapes = "{..., n, n} -> {..., n, n}", .attrs = {{"k", PL_AS_INT, true, 0}}},
    {0},
};
