/* eigvals.c: eigenvalues of general real matrices by LAPACK, complex as pairs (real, imaginary). With right and left
 * eigenvectors, A X = X W, Y^H X = I, and P = Y^H dA X: dw = diag(P), dX = X (F o P), dY = -Y (F o P)^H, F_ij =
 * 1/(w_j - w_i) off the diagonal (M. Giles, LNCSE 64, 2008). Vectors are free to be scaled, x by z and y by 1/conj(z);
 * these derivatives are those of one choice, and what is made of products of both (all derivatives of w) is right. */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "linalg.h"

extern void dgeev_(const char *left, const char *right, const int *n, double *a, const int *lda, double *wr, double *wi,
                   double *vl, const int *ldvl, double *vr, const int *ldvr, double *work, const int *lwork, int *info,
                   size_t, size_t);

/* ---- general_eigenvalues: {batch, n, n} -> {batch, n, 2}, ascending by real, then imaginary part ---- */

typedef struct {
  double re, im;
  int at;
} eigenvalue;
static int by_value(const void *a, const void *b) {
  const eigenvalue *x = a, *y = b;
  if (x->re != y->re) return x->re < y->re ? -1 : 1;
  if (x->im != y->im) return x->im < y->im ? -1 : 1;
  return x->at - y->at;
}
static void values_each(const void *args, int64_t lo, int64_t hi) {
  const pl_stack_job *j = args;
  const int n = j->n, lwork = 40 * n, one = 1;
  for (int64_t i = lo; i < hi; i++) {
    double *a = pl_stack_work(j), *re = a + (int64_t)n * n, *im = re + n, *work = im + n;
    eigenvalue *w = (eigenvalue *)work;
    if (!pl_stack_load(j, j->a, i, (int64_t)n * n, a)) {
      pl_stack_store(j, j->out[0], i, 2 * (int64_t)n, NULL);
      continue;
    }
    dgeev_("N", "N", &n, a, &n, re, im, NULL, &one, NULL, &one, work, &lwork, &j->info[i], 1, 1);
    for (int p = 0; p < n; p++) w[p] = (eigenvalue){re[p], im[p], p};
    qsort(w, (size_t)n, sizeof *w, by_value);
    for (int p = 0; p < n; p++) {
      re[2 * p] = w[p].re; /* over re and im, which are copied */
      re[2 * p + 1] = w[p].im;
    }
    pl_stack_store(j, j->out[0], i, 2 * (int64_t)n, re);
  }
}
static void no_convergence(const pl_call *call, int64_t failed, int failure) {
  char which[PL_TEXT];
  pl_error(call->c, PL_ERROR_NUMERIC, "eigvals: the iteration for the matrix%s did not converge (LAPACK's geev: %d)",
           pl_stack_which(which, failed, call->in[0]->shape[0]), failure);
}
static void general_eigenvalues_run(const pl_call *call, pl_slot **out) {
  const pl_slot *a = call->in[0];
  int64_t n = a->shape[1];
  if (a->count == 0) return;
  pl_stack_job j = {.dtype = (pl_dtype)a->dtype,
                    .n = (int)n,
                    .a = a->data,
                    .out = {out[0]->data},
                    .each = (size_t)(n * (n + 42)) * 8};
  int64_t failed = pl_stack_run(call, values_each, &j, a->shape[0], 10 * (double)n * (double)n * (double)n);
  if (failed >= 0) no_convergence(call, failed, j.failure);
}
static bool general_eigenvalues_shape(const pl_call *call, pl_spec *out) {
  const int32_t *a = call->in[0]->shape;
  pl_spec_shape(out, 3, a[0], a[1], 2);
  return pl_is_stack(call, 0, true);
}

/* ---- eigenvectors: A, w -> Re X, Im X, Re Y, Im Y, columns in the order of w; an error where w_i has no derivative
 * ---- */

enum { REPEATED = 1 << 28, DEFECTIVE = 1 << 29 };

/* Column p of LAPACK's real form, of length n: the complex vector of eigenvalue p. */
static void complex_column(const double *v, const double *im, int64_t n, int64_t p, double *re_to, double *im_to) {
  const double *re = v + (im[p] < 0 ? p - 1 : p) * n, *other = re + n;
  for (int64_t q = 0; q < n; q++) {
    re_to[q] = re[q];
    im_to[q] = im[p] > 0 ? other[q] : im[p] < 0 ? -other[q] : 0;
  }
}
/* LAPACK's eigenvalue nearest to (re, im) that is not taken. */
static int64_t nearest(int64_t n, const double *wr, const double *wi, const bool *taken, double re, double im) {
  int64_t best = -1;
  double least = INFINITY;
  for (int64_t p = 0; p < n; p++) {
    double d = hypot(wr[p] - re, wi[p] - im);
    if (taken[p] || d >= least) continue;
    least = d;
    best = p;
  }
  return best;
}
/* 0, or what is wrong with eigenvalue p: its distance from another, or the condition 1/|y^H x|, is that of rounding. */
static int examine(int64_t n, const double *w, int64_t p, double condition, double least) {
  for (int64_t q = 0; q < n; q++)
    if (q != p && hypot(w[2 * p] - w[2 * q], w[2 * p + 1] - w[2 * q + 1]) <= least) return REPEATED + (int)p;
  return condition < 1 / (20 * sqrt(DBL_EPSILON)) ? 0 : DEFECTIVE + (int)p;
}
static void vectors_each(const void *args, int64_t lo, int64_t hi) {
  const pl_stack_job *j = args;
  const int n = j->n, lwork = 40 * n;
  const int64_t m = n;
  for (int64_t i = lo; i < hi; i++) {
    double *a = pl_stack_work(j), *left = a + m * m, *right = left + m * m, *wr = right + m * m, *wi = wr + m,
           *w = wi + m, *x = w + 2 * m, *y = x + 2 * m, *work = y + 2 * m;
    bool *taken = (bool *)(work + lwork);
    bool finite = pl_stack_load(j, j->a, i, m * m, a);
    finite = pl_stack_load(j, j->b, i, 2 * m, w) && finite;
    if (!finite) {
      for (int k = 0; k < 4; k++) pl_stack_store(j, j->out[k], i, m * m, NULL);
      continue;
    }
    dgeev_("V", "V", &n, a, &n, wr, wi, left, &n, right, &n, work, &lwork, &j->info[i], 1, 1);
    memset(taken, 0, (size_t)m);
    double size = 0;
    for (int64_t p = 0; p < m; p++) size = fmax(size, hypot(w[2 * p], w[2 * p + 1]));
    double least = (double)m * size * (j->dtype == PL_F64 ? DBL_EPSILON : (double)FLT_EPSILON);
    for (int64_t p = 0; p < m && !j->info[i]; p++) {
      int64_t at = nearest(m, wr, wi, taken, w[2 * p], w[2 * p + 1]);
      taken[at] = true;
      /* of A', LAPACK's matrix: its right vectors are conj(y), its left ones conj(x) */
      complex_column(left, wi, m, at, x, x + m);
      complex_column(right, wi, m, at, y, y + m);
      double re = 0, im = 0;
      for (int64_t q = 0; q < m; q++) {
        x[m + q] = -x[m + q];
        y[m + q] = -y[m + q];
        re += y[q] * x[q] + y[m + q] * x[m + q]; /* y^H x */
        im += y[q] * x[m + q] - y[m + q] * x[q];
      }
      double square = re * re + im * im;
      j->info[i] = examine(m, w, p, 1 / sqrt(square), least);
      for (int64_t q = 0; q < m; q++) { /* y/conj(y^H x) */
        double v[] = {x[q], x[m + q], (y[q] * re - y[m + q] * im) / square, (y[q] * im + y[m + q] * re) / square};
        for (int k = 0; k < 4; k++) {
          int64_t to = (i * m + q) * m + p;
          if (j->dtype == PL_F64) ((double *)j->out[k])[to] = v[k];
          else ((float *)j->out[k])[to] = (float)v[k];
        }
      }
    }
  }
}
static void eigenvectors_run(const pl_call *call, pl_slot **out) {
  const pl_slot *a = call->in[0];
  int64_t n = a->shape[1];
  if (a->count == 0) return;
  pl_stack_job j = {.dtype = (pl_dtype)a->dtype,
                    .n = (int)n,
                    .a = a->data,
                    .b = call->in[1]->data,
                    .out = {out[0]->data, out[1]->data, out[2]->data, out[3]->data},
                    .each = (size_t)(n * (3 * n + 49)) * 8};
  int64_t failed = pl_stack_run(call, vectors_each, &j, a->shape[0], 25 * (double)n * (double)n * (double)n);
  if (failed < 0) return;
  char which[PL_TEXT];
  if (j.failure < REPEATED) no_convergence(call, failed, j.failure);
  else
    pl_error(call->c, PL_ERROR_NUMERIC, "eigvals: eigenvalue %d of the matrix%s is %s: it has no derivative",
             (j.failure & (REPEATED - 1)) + 1, pl_stack_which(which, failed, a->shape[0]),
             j.failure & DEFECTIVE ? "defective, or too nearly so" : "repeated");
}
static bool eigenvectors_shape(const pl_call *call, pl_spec *out) {
  const int32_t *a = call->in[0]->shape, *w = call->in[1]->shape;
  if (!pl_is_stack(call, 0, true)) return false;
  if (call->in[1]->rank != 3 || w[0] != a[0] || w[1] != a[1] || w[2] != 2) {
    pl_shape_error(call, "the eigenvalues do not fit");
    return false;
  }
  for (int k = 0; k < 4; k++) pl_spec_shape(&out[k], 3, a[0], a[1], a[1]);
  return true;
}

/* ---- complex arithmetic of pairs; a part may be PL_ZERO ---- */

typedef struct {
  pl_value re, im;
} pair;

/* a b, of matrices; ha: of a^H, hb: of b^H */
static pair product(pl_context *c, pair a, pair b, bool ha, bool hb) {
  pl_value rr = pl_product(c, a.re, b.re, ha, hb), ii = pl_product(c, a.im, b.im, ha, hb);
  pl_value ri = pl_product(c, a.re, b.im, ha, hb), ir = pl_product(c, a.im, b.re, ha, hb);
  if (ha != hb) {
    pair y = {pl_plus(c, rr, ii), ha ? pl_minus(c, ri, ir) : pl_minus(c, ir, ri)};
    return y;
  }
  pl_value im = pl_plus(c, ri, ir);
  return (pair){pl_minus(c, rr, ii), ha ? pl_negative(c, im) : im};
}
static pair minus(pl_context *c, pair a, pair b) { return (pair){pl_minus(c, a.re, b.re), pl_minus(c, a.im, b.im)}; }
/* x_ij/(w_j - w_i), 0 on the diagonal; conjugate: divided by the conjugate */
static pair over_gaps(pl_context *c, pl_value w, pair x, bool conjugate) {
  pl_slot *s = pl_slot_get(c, w);
  if (!s) return (pair){PL_NONE, PL_NONE};
  int64_t batch = s->shape[0], n = s->shape[1];
  pl_value gap[2];
  for (int k = 0; k < 2; k++) {
    pl_value part = pl_part(c, w, 2, k, 1, 1);
    gap[k] = PL_BINARY(sub, c, pl_reshape_to(c, part, 3, (int64_t[]){batch, 1, n}),
                       pl_reshape_to(c, part, 3, (int64_t[]){batch, n, 1}));
  }
  if (conjugate) gap[1] = pl_negative(c, gap[1]);
  pl_value square = PL_BINARY(add, c, PL_UNARY(square, c, gap[0]), PL_UNARY(square, c, gap[1]));
  square = PL_BINARY(add, c, square, pl_eye_like(c, w, n)); /* the gap there is 0 */
  pl_value re = pl_plus(c, pl_times(c, x.re, gap[0]), pl_times(c, x.im, gap[1]));
  pl_value im = pl_minus(c, pl_times(c, x.im, gap[0]), pl_times(c, x.re, gap[1]));
  return (pair){PL_BINARY(div, c, re, square), PL_BINARY(div, c, im, square)};
}

/* ---- derivatives ---- */

/* Only the order of w is read. */
static void eigenvectors_jvp(pl_jvp *j) {
  pl_context *c = j->c;
  if (j->t[0] == PL_ZERO) {
    for (int k = 0; k < 4; k++) j->dt[k] = PL_ZERO;
    return;
  }
  pair X = {j->out[0], j->out[1]}, Y = {j->out[2], j->out[3]}, dA = {j->t[0], PL_ZERO};
  pair K = over_gaps(c, j->in[1], product(c, Y, product(c, dA, X, false, false), true, false), false);
  pair dX = product(c, X, K, false, false), dY = product(c, Y, K, false, true);
  j->dt[0] = dX.re;
  j->dt[1] = dX.im;
  j->dt[2] = pl_negative(c, dY.re);
  j->dt[3] = pl_negative(c, dY.im);
}
static void eigenvectors_vjp(pl_vjp *v) { /* Re Y (conj(F) o (X^H gX - gY^H Y)) X^H */
  pl_context *c = v->c;
  if (!v->need[0]) return;
  pair X = {v->out[0], v->out[1]}, Y = {v->out[2], v->out[3]}, gX = {v->g[0], v->g[1]}, gY = {v->g[2], v->g[3]};
  pair g = minus(c, product(c, X, gX, true, false), product(c, gY, Y, true, false));
  g = over_gaps(c, v->in[1], g, true);
  pl_vjp_give(v, 0, product(c, product(c, Y, g, false, false), X, false, true).re);
}
static bool vectors_of(pl_context *c, pl_value a, pl_value w, pair *X, pair *Y) {
  pl_value four[4];
  if (!pl_apply(c, PL_OP(eigenvectors), 2, (pl_value[]){a, w}, NULL, four)) return false;
  *X = (pair){four[0], four[1]};
  *Y = (pair){four[2], four[3]};
  return true;
}
static void general_eigenvalues_vjp(pl_vjp *v) { /* Re Y diag(g) X^H */
  pl_context *c = v->c;
  pair X, Y;
  pl_slot *s = pl_slot_get(c, v->g[0]);
  if (!s || !vectors_of(c, v->in[0], v->out[0], &X, &Y)) return;
  int64_t row[] = {s->shape[0], 1, s->shape[1]};
  pl_value re = pl_reshape_to(c, pl_part(c, v->g[0], 2, 0, 1, 1), 3, row);
  pl_value im = pl_reshape_to(c, pl_part(c, v->g[0], 2, 1, 1, 1), 3, row);
  pair scaled = {PL_BINARY(sub, c, PL_BINARY(mul, c, Y.re, re), PL_BINARY(mul, c, Y.im, im)),
                 PL_BINARY(add, c, PL_BINARY(mul, c, Y.re, im), PL_BINARY(mul, c, Y.im, re))};
  pl_vjp_give(v, 0, product(c, scaled, X, false, true).re);
}
static void general_eigenvalues_jvp(pl_jvp *j) { /* diag(Y^H dA X) */
  pl_context *c = j->c;
  pair X, Y;
  if (!vectors_of(c, j->in[0], j->out[0], &X, &Y)) return;
  pl_value re = pl_product(c, j->t[0], X.re, false, false), im = pl_product(c, j->t[0], X.im, false, false);
  pl_value parts[] = {pl_sum_axis(c, PL_BINARY(add, c, PL_BINARY(mul, c, Y.re, re), PL_BINARY(mul, c, Y.im, im)), 1),
                      pl_sum_axis(c, PL_BINARY(sub, c, PL_BINARY(mul, c, Y.re, im), PL_BINARY(mul, c, Y.im, re)), 1)};
  j->dt[0] = pl_apply1(c, PL_OP(stack), 2, parts, &PL_INT(2));
}

/* ---- what users see ---- */

PL_EXPAND(eigvals) {
  (void)n, (void)attrs;
  pl_slot x;
  pl_value a = pl_stacked(c, op, in[0], true, &x);
  if (a == PL_NONE) return false;
  out[0] = pl_unstacked(c, PL_UNARY(general_eigenvalues, c, a), &x, 2, (int64_t[]){x.shape[x.rank - 1], 2});
  return out[0] != PL_NONE;
}

/* ---- samples: a rotation beside real eigenvalues, all apart ---- */

static pl_value turned(pl_context *c, pl_value x) {
  pl_slot *s = pl_slot_get(c, x);
  int64_t n = s ? s->shape[s->rank - 1] : 0;
  for (int64_t i = 0; s && n > 1 && i < s->count; i += n * n) {
    double *a = (double *)s->data + i;
    a[n] = -(a[1] = 2);
  }
  return x;
}
#define APART(...) turned(c, pl_sample_matrices(c, r, 0.2, 1, 1, __VA_ARGS__))
PL_SAMPLE(stack) {
  if (k > 1) return false;
  s->n = 1;
  s->in[0] = k ? APART(3, 1, 5, 5) : APART(3, 2, 3, 3);
  return true;
}
PL_SAMPLE(vectors) { /* whole numbers are not active: the vectors' scale is free, so that slopes tell nothing */
  (void)r;
  if (k > 0) return false;
  s->n = 2;
  s->in[0] = pl_tensor(c, PL_I64, 3, (int64_t[]){1, 2, 2}, (int64_t[]){0, 1, -4, 0});
  s->in[1] = pl_tensor(c, PL_I64, 3, (int64_t[]){1, 2, 2}, (int64_t[]){0, -2, 0, 2});
  return true;
}
PL_SAMPLE(matrices) {
  if (k > 2) return false;
  s->n = 1;
  s->in[0] = k == 0 ? APART(2, 4, 4) : k == 1 ? APART(4, 2, 1, 3, 3) : APART(3, 2, 1, 1);
  return true;
}

pl_op pl_ops_eigvals[] = {
    {PL_STACK_ROW(general_eigenvalues, "eigenvalues of stacks", 1, 1, stack)},
    {PL_STACK_ROW(eigenvectors, "right and left eigenvectors of stacks, in the order of w", 2, 4, vectors)},
    {PL_USER_ROW(
         eigvals,
         "eigenvalues of square matrices, complex: the last axis is (real part, imaginary part); ascending by real, "
         "then imaginary part",
         1, 1, matrices),
     .shapes = "{..., n, n} -> {..., n, 2}",
     .derivative = "by left and right eigenvectors, any order; of a repeated or defective eigenvalue: an error",
     .accuracy = "backward stable; in f64, whatever the dtype", .source = "LAPACK geev; Giles 2008"},
    {0},
};
