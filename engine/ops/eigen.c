/* eigen.c: eigenvalues and eigenvectors of symmetric matrices by LAPACK, each matrix by one thread. With P = V' dA V:
 * dw = diag(P), dV = V (F o P), F_ij = 1/(w_j - w_i) off the diagonal (M. Giles, Collected matrix derivative results
 * for forward and reverse mode AD, LNCSE 64, 2008). Where eigenvalues coincide, eigenvectors have no derivative: asking
 * for it is an error; eigenvalues alone keep theirs. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "linalg.h"

extern void dsyevd_(const char *vectors, const char *uplo, const int *n, double *a, const int *lda, double *w,
                    double *work, const int *lwork, int *iwork, const int *liwork, int *info, size_t, size_t);

/* ---- symmetric_eigen: of (A + A')/2, {batch, n, n} -> w {batch, n} ascending, V {batch, n, n} by columns ---- */

static double read(const void *p, pl_dtype dtype, int64_t i) {
  return dtype == PL_F64 ? ((const double *)p)[i] : (double)((const float *)p)[i];
}
static void write(void *p, pl_dtype dtype, int64_t i, double x) {
  if (dtype == PL_F64) ((double *)p)[i] = x;
  else ((float *)p)[i] = (float)x;
}
static void eigen_each(const void *args, int64_t lo, int64_t hi) {
  const pl_stack_job *j = args;
  const int n = j->n, lwork = 1 + 6 * n + 2 * n * n, liwork = 3 + 5 * n;
  const int64_t m = n;
  for (int64_t i = lo; i < hi; i++) {
    double *v = pl_stack_work(j), *w = v + m * m, *work = w + m;
    bool finite = pl_stack_load(j, j->a, i, m * m, v);
    for (int64_t p = 0; p < m; p++)
      for (int64_t q = 0; q <= p; q++) v[p * m + q] = v[q * m + p] = 0.5 * (v[p * m + q] + v[q * m + p]);
    if (!finite) {
      pl_stack_store(j, j->out[0], i, m, NULL);
      pl_stack_store(j, j->out[1], i, m * m, NULL);
      continue;
    }
    dsyevd_("V", "U", &n, v, &n, w, work, &lwork, (int *)(work + lwork), &liwork, &j->info[i], 1, 1);
    pl_stack_store(j, j->out[0], i, m, w);
    for (int64_t q = 0; q < m; q++) { /* the largest component is positive: no sign is left to chance */
      int64_t most = 0;
      for (int64_t p = 1; p < m; p++)
        if (fabs(v[q * m + p]) > fabs(v[q * m + most]) * (1 + 1e-8)) most = p;
      double sign = v[q * m + most] < 0 ? -1 : 1;
      for (int64_t p = 0; p < m; p++) write(j->out[1], j->dtype, (i * m + p) * m + q, sign * v[q * m + p]);
    }
  }
}
static void symmetric_eigen_run(const pl_call *call, pl_slot **out) {
  const pl_slot *a = call->in[0];
  int64_t n = a->shape[1];
  if (a->count == 0) return;
  pl_stack_job j = {.n = (int)n, .dtype = (pl_dtype)a->dtype, .a = a->data, .out = {out[0]->data, out[1]->data}};
  j.each = (size_t)(3 * n * n + 7 * n + 1) * 8 + (size_t)(3 + 5 * n) * sizeof(int);
  if (pl_stack_run(call, eigen_each, &j, a->shape[0], 9 * (double)n * (double)n * (double)n / 4) >= 0)
    pl_error(call->c, PL_ERROR_NUMERIC, "eigh: the iteration did not converge (LAPACK's syevd: %d)", j.failure);
}
static bool symmetric_eigen_shape(const pl_call *call, pl_spec *out) {
  const int32_t *a = call->in[0]->shape;
  if (!pl_is_stack(call, 0, true)) return false;
  pl_spec_shape(&out[0], 2, a[0], a[1], 0);
  pl_spec_shape(&out[1], 3, a[0], a[1], a[1]);
  return true;
}

/* ---- eigen_gaps: w, M -> M_ij/(w_j - w_i), 0 on the diagonal ---- */

static bool eigen_gaps_shape(const pl_call *call, pl_spec *out) {
  if (call->attrs[0].i < PL_GAPS_EIGH || call->attrs[0].i > PL_GAPS_TURNING) {
    pl_error(call->c, PL_ERROR_ARGUMENT, "eigen_gaps: no such kind, %lld", (long long)call->attrs[0].i);
    return false;
  }
  const pl_slot *w = call->in[0], *m = call->in[1];
  if (w->rank != 2 || m->rank != 3 || m->shape[0] != w->shape[0] || m->shape[1] != w->shape[1] ||
      m->shape[2] != w->shape[1]) {
    pl_shape_error(call, "eigenvalues and matrices of their number are needed");
    return false;
  }
  out->rank = 3;
  memcpy(out->shape, m->shape, sizeof out->shape);
  return true;
}
static void eigen_gaps_run(const pl_call *call, pl_slot **out) {
  const pl_slot *w = call->in[0], *m = call->in[1];
  pl_dtype dtype = (pl_dtype)w->dtype;
  int64_t n = w->shape[1];
  for (int64_t b = 0; b < w->shape[0]; b++) {
    bool sparse = call->attrs[0].i >= PL_GAPS_SPARSE, turning = call->attrs[0].i == PL_GAPS_TURNING;
    double scale = 0, most = 0;
    for (int64_t i = 0; i < n; i++) scale = fmax(scale, fabs(read(w->data, dtype, b * n + i)));
    for (int64_t i = 0; sparse && i < n * n; i++) most = fmax(most, fabs(read(m->data, dtype, b * n * n + i)));
    double least = scale * (sparse ? 1e-9 : (double)n * (dtype == PL_F64 ? DBL_EPSILON : (double)FLT_EPSILON));
    for (int64_t i = 0; i < n; i++)
      for (int64_t j = 0; j < n; j++) {
        int64_t at = (b * n + i) * n + j;
        double x = read(m->data, dtype, at), gap = read(w->data, dtype, b * n + j) - read(w->data, dtype, b * n + i);
        double part = turning ? x - read(m->data, dtype, (b * n + j) * n + i) : x;
        if (i == j || x == 0 || (sparse && fabs(gap) <= least && fabs(part) <= 1e-8 * most)) {
          write(out[0]->data, dtype, at, 0);
        } else if (fabs(gap) <= least) {
          pl_error(call->c, PL_ERROR_NUMERIC,
                   "%s %lld and %lld coincide (%g): their vectors have no derivative; use the values alone, or a "
                   "function of the matrix that does not go through the vectors",
                   (const char *[]){"eigh: eigenvalues", "svd: singular values", "eigsh: eigenvalues",
                                    "eigsh: eigenvalues"}[call->attrs[0].i],
                   (long long)(i < j ? i : j) + 1, (long long)(i < j ? j : i) + 1, read(w->data, dtype, b * n + i));
          return;
        } else {
          write(out[0]->data, dtype, at, x / gap);
        }
      }
  }
}
pl_value pl_over_gaps(pl_context *c, pl_value w, pl_value m, pl_gaps of) {
  return pl_call2(c, PL_OP(eigen_gaps), w, m, &PL_INT(of));
}
static pl_value divided(pl_context *c, pl_value w, pl_value m) { return pl_over_gaps(c, w, m, PL_GAPS_EIGH); }
static void eigen_gaps_vjp(pl_vjp *v) {
  pl_context *c = v->c;
  if (v->need[1]) pl_vjp_give(v, 1, pl_over_gaps(c, v->in[0], v->g[0], (pl_gaps)v->attrs[0].i));
  if (!v->need[0]) return;
  pl_value t = pl_over_gaps(c, v->in[0], PL_BINARY(mul, c, v->g[0], v->out[0]), (pl_gaps)v->attrs[0].i);
  pl_vjp_give(v, 0, PL_BINARY(sub, c, pl_sum_axis(c, t, 2), pl_sum_axis(c, t, 1)));
}
static void eigen_gaps_jvp(pl_jvp *j) { /* (dM - Q (dw_j - dw_i))/(w_j - w_i) */
  pl_context *c = j->c;
  pl_value d = j->t[1];
  if (j->t[0] != PL_ZERO) {
    pl_slot *s = pl_slot_get(c, j->t[0]);
    if (!s) return;
    int64_t b = s->shape[0], n = s->shape[1];
    pl_value gaps = PL_BINARY(sub, c, pl_reshape_to(c, j->t[0], 3, (int64_t[]){b, 1, n}),
                              pl_reshape_to(c, j->t[0], 3, (int64_t[]){b, n, 1}));
    d = pl_minus(c, d, PL_BINARY(mul, c, j->out[0], gaps));
  }
  j->dt[0] = pl_over_gaps(c, j->in[0], d, (pl_gaps)j->attrs[0].i);
}

/* ---- the derivatives of symmetric_eigen ---- */

static void symmetric_eigen_vjp(pl_vjp *v) { /* V (diag(gw) + F o (V' gV)) V' */
  pl_context *c = v->c;
  pl_value w = v->out[0], V = v->out[1], g = PL_ZERO;
  if (v->g[1] != PL_ZERO)
    g = pl_product(c, pl_product(c, V, divided(c, w, pl_product(c, V, v->g[1], true, false)), false, false), V, false,
                   true);
  if (v->g[0] != PL_ZERO) {
    pl_slot *s = pl_slot_get(c, w);
    if (!s) return;
    pl_value scaled = PL_BINARY(mul, c, V, pl_reshape_to(c, v->g[0], 3, (int64_t[]){s->shape[0], 1, s->shape[1]}));
    g = pl_plus(c, g, pl_product(c, scaled, V, false, true));
  }
  pl_vjp_give(v, 0, pl_symmetric(c, g));
}
static void symmetric_eigen_jvp(pl_jvp *j) {
  pl_context *c = j->c;
  pl_value w = j->out[0], V = j->out[1];
  pl_value P = pl_product(c, pl_product(c, V, pl_symmetric(c, j->t[0]), true, false), V, false, false);
  j->dt[0] = pl_call1(c, PL_OP(diagonal), P, &PL_INT(0));
  j->dt[1] = pl_product(c, V, divided(c, w, P), false, false);
}

/* ---- what users see ---- */

static bool eigen(pl_context *c, const pl_op *op, pl_value x, pl_value *out, bool vectors) {
  pl_slot a;
  pl_value both[2], v = pl_stacked(c, op, x, true, &a);
  if (v == PL_NONE || !pl_apply(c, PL_OP(symmetric_eigen), 1, &v, NULL, both)) return false;
  int64_t n = a.shape[a.rank - 1];
  out[0] = pl_unstacked(c, both[0], &a, 1, &n);
  if (vectors) out[1] = pl_unstacked(c, both[1], &a, 2, (int64_t[]){n, n});
  return c->status == PL_OK;
}
PL_EXPAND(eigh) {
  (void)n, (void)attrs;
  return eigen(c, op, in[0], out, true);
}
PL_EXPAND(eigvalsh) {
  (void)n, (void)attrs;
  return eigen(c, op, in[0], out, false);
}

/* ---- samples: eigenvalues about 1, 2, 3 ... ---- */

#define SEPARATED(...) pl_sample_matrices(c, r, 0.1, 1, 1, __VA_ARGS__)
PL_SAMPLE(stack) {
  if (k > 1) return false;
  s->n = 1;
  s->in[0] = k ? SEPARATED(3, 1, 5, 5) : SEPARATED(3, 2, 3, 3);
  return true;
}
PL_SAMPLE(gaps) {
  if (k > 1) return false;
  s->n = 2;
  s->attrs[0] = PL_INT(k);
  s->in[0] = pl_tensor(c, PL_F64, 2, (int64_t[]){2, 3}, (double[]){1, 2.5, 3, -1, 0.5, 4});
  s->in[1] = pl_sample_tensor(c, r, -1, 1, 3, 2, 3, 3);
  return true;
}
PL_SAMPLE(matrices) {
  if (k > 1) return false;
  s->n = 1;
  s->in[0] = k ? SEPARATED(4, 2, 1, 3, 3) : SEPARATED(2, 4, 4);
  return true;
}

pl_op pl_ops_eigen[] = {
    {PL_STACK_ROW(symmetric_eigen, "eigenvalues and eigenvectors of stacks", 1, 2, stack)},
    {PL_STACK_ROW(eigen_gaps, "M_ij/(w_j - w_i), 0 on the diagonal", 2, 1, gaps),
     .attrs = {{"of", PL_AS_INT, false, 0}}},
    {PL_USER_ROW(
         eigh,
         "eigenvalues, ascending, and eigenvectors, in columns, of A's symmetric part; their largest component is "
         "positive",
         1, 2, matrices),
     .shapes = "{..., n, n} -> {..., n}, {..., n, n}",
     .derivative = "none (an error) of the vectors of equal eigenvalues",
     .source = "LAPACK syevd; derivative: J. R. Magnus, Econometric Theory 1, 1985"},
    {PL_USER_ROW(eigvalsh, "eigenvalues, ascending, of A's symmetric part", 1, 1, matrices),
     .shapes = "{..., n, n} -> {..., n}"},
    {0},
};
