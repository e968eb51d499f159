/* lu.c: triangular factors by Gaussian elimination with row exchanges (LAPACK). With C = L^-1 P' dA U^-1 of a square
 * matrix, dL = L C's part below the diagonal, dU = the rest of C times U; a wide or tall matrix is a square one with
 * columns or rows added, which are those of U and L by substitution. */
#include <math.h>

#include "linalg.h"

/* ---- lu_factor: {batch, m, n} -> P {batch, m, m}, L {batch, m, k}, U {batch, k, n}, k = min(m, n) ---- */

static void factor_each(const void *args, int64_t lo, int64_t hi) {
  const pl_stack_job *j = args;
  const int m = j->m, n = j->n;
  const int64_t k = m < n ? m : n, rows = m;
  for (int64_t i = lo; i < hi; i++) {
    double *lu = pl_stack_work(j), *y = lu + rows * n; /* lu: by columns; y: a factor, by rows, as ours are */
    int *pivots = (int *)(y + rows * (rows > n ? rows : n)), *row = pivots + k;
    bool finite = pl_stack_load(j, j->a, i, rows * n, y);
    for (int64_t p = 0; finite && p < rows; p++)
      for (int64_t q = 0; q < n; q++) lu[q * rows + p] = y[p * n + q];
    int info = 0, scale = 0; /* a zero pivot is no failure: U is singular */
    double most = 0;
    for (int64_t p = 0; finite && p < rows * n; p++) most = fabs(lu[p]) > most ? fabs(lu[p]) : most;
    if (most > 0 && (most < 1e-200 || most > 1e200)) scale = -ilogb(most); /* OpenBLAS multiplies by 1/pivot */
    for (int64_t p = 0; scale && p < rows * n; p++) lu[p] = ldexp(lu[p], scale);
    if (finite) dgetrf_(&m, &n, lu, &m, pivots, &info);
    for (int64_t p = 0; p < rows; p++) row[p] = (int)p;
    for (int64_t p = 0; finite && p < k; p++) {
      int other = pivots[p] - 1, t = row[p];
      row[p] = row[other];
      row[other] = t;
    }
    memset(y, 0, (size_t)(rows * rows) * sizeof *y);
    for (int64_t p = 0; p < rows; p++) y[row[p] * rows + p] = 1;
    pl_stack_store(j, j->out[0], i, rows * rows, finite ? y : NULL);
    for (int64_t p = 0; p < rows; p++)
      for (int64_t q = 0; q < k; q++) y[p * k + q] = q < p ? lu[q * rows + p] : q == p;
    pl_stack_store(j, j->out[1], i, rows * k, finite ? y : NULL);
    for (int64_t p = 0; p < k; p++)
      for (int64_t q = 0; q < n; q++) y[p * n + q] = q < p ? 0 : lu[q * rows + p];
    for (int64_t p = 0; scale && p < k * n; p++) y[p] = ldexp(y[p], -scale);
    pl_stack_store(j, j->out[2], i, k * n, finite ? y : NULL);
  }
}
static void lu_factor_run(const pl_call *call, pl_slot **out) {
  const pl_slot *a = call->in[0];
  int64_t m = a->shape[1], n = a->shape[2];
  if (a->shape[0] == 0 || m == 0) return;
  pl_stack_job j = {.dtype = (pl_dtype)a->dtype,
                    .m = (int)m,
                    .n = (int)n,
                    .a = a->data,
                    .out = {out[0]->data, out[1]->data, out[2]->data},
                    .each = (size_t)(m * n + m * (m > n ? m : n)) * 8 + (size_t)(2 * m) * sizeof(int)};
  pl_stack_run(call, factor_each, &j, a->shape[0], (double)(m * n) * (double)(m < n ? m : n));
}
static bool lu_factor_shape(const pl_call *call, pl_spec *out) {
  if (!pl_is_stack(call, 0, false)) return false;
  const int32_t *a = call->in[0]->shape;
  int32_t k = a[1] < a[2] ? a[1] : a[2];
  pl_spec_shape(&out[0], 3, a[0], a[1], a[1]);
  pl_spec_shape(&out[1], 3, a[0], a[1], k);
  pl_spec_shape(&out[2], 3, a[0], k, a[2]);
  return true;
}

/* ---- derivatives ---- */

/* The factors' square parts, L1 {k, k} and U1 {k, k}, and what is beyond them: L2 of a tall, U2 of a wide matrix. */
typedef struct {
  pl_value P, L1, L2, U1, U2;
  int64_t m, n, k;
} parts;

/* The first k along an axis, and the others. */
static void cut(pl_context *c, pl_value x, int axis, int64_t k, int64_t size, pl_value *first, pl_value *rest) {
  *first = x == PL_ZERO || size == k ? x : pl_part(c, x, axis, 0, 1, k);
  *rest = x == PL_ZERO || size == k ? PL_ZERO : pl_part(c, x, axis, k, 1, size - k);
}
static bool parts_of(pl_context *c, const pl_value *out, parts *p) {
  pl_slot *l = pl_slot_get(c, out[1]), *u = pl_slot_get(c, out[2]);
  if (!l || !u) return false;
  p->P = out[0];
  p->m = l->shape[1], p->k = l->shape[2], p->n = u->shape[2];
  cut(c, out[1], 1, p->k, p->m, &p->L1, &p->L2);
  cut(c, out[2], 2, p->k, p->n, &p->U1, &p->U2);
  p->U1 = PL_UNARY(full_rank, c, p->U1);
  return c->status == PL_OK;
}
static pl_value below(pl_context *c, pl_value x) { return x == PL_ZERO ? x : pl_call1(c, PL_OP(tril), x, &PL_INT(-1)); }
static pl_value above(pl_context *c, pl_value x) { return x == PL_ZERO ? x : pl_half_of(c, x, true); }
static pl_value left(pl_context *c, pl_value L, pl_value x, bool transpose) { /* L^-1 x, L^-T x */
  return x == PL_ZERO ? x : pl_substituted(c, L, x, false, transpose);
}
static void lu_factor_jvp(pl_jvp *j) {
  pl_context *c = j->c;
  parts p;
  if (!parts_of(c, j->out, &p)) return;
  pl_value D = pl_product(c, p.P, j->t[0], true, false), rows, more_rows, D1, more_columns;
  cut(c, D, 1, p.k, p.m, &rows, &more_rows);
  cut(c, rows, 2, p.k, p.n, &D1, &more_columns);
  pl_value C = pl_over_triangle(c, left(c, p.L1, D1, false), p.U1, false);
  pl_value dL = pl_product(c, p.L1, below(c, C), false, false), dU = pl_product(c, above(c, C), p.U1, false, false);
  j->dt[0] = PL_ZERO;
  j->dt[1] =
      p.m == p.k
          ? dL
          : pl_joined(c, dL,
                      pl_over_triangle(c, pl_minus(c, more_rows, pl_product(c, p.L2, dU, false, false)), p.U1, false),
                      1);
  j->dt[2] =
      p.n == p.k
          ? dU
          : pl_joined(c, dU, left(c, p.L1, pl_minus(c, more_columns, pl_product(c, dL, p.U2, false, false)), false), 2);
}
static void lu_factor_vjp(pl_vjp *v) {
  pl_context *c = v->c;
  parts p;
  pl_value gL1, gL2, gU1, gU2;
  if ((v->g[1] == PL_ZERO && v->g[2] == PL_ZERO) || !parts_of(c, v->out, &p)) return;
  cut(c, v->g[1], 1, p.k, p.m, &gL1, &gL2);
  cut(c, v->g[2], 2, p.k, p.n, &gU1, &gU2);
  pl_value rows = pl_over_triangle(c, gL2, p.U1, true), columns = left(c, p.L1, gU2, true);
  gU1 = pl_minus(c, gU1, pl_product(c, p.L2, rows, true, false));
  gL1 = pl_minus(c, gL1, pl_product(c, columns, p.U2, false, true));
  pl_value gC =
      pl_plus(c, below(c, pl_product(c, p.L1, gL1, true, false)), above(c, pl_product(c, gU1, p.U1, false, true)));
  pl_value g = pl_over_triangle(c, left(c, p.L1, gC, true), p.U1, true);
  if (p.m > p.k) g = pl_joined(c, g, rows == PL_ZERO ? pl_zeros_like(c, p.L2) : rows, 1);
  if (p.n > p.k) g = pl_joined(c, g, columns == PL_ZERO ? pl_zeros_like(c, p.U2) : columns, 2);
  pl_vjp_give(v, 0, pl_product(c, p.P, g, false, false));
}

/* ---- what users see ---- */

PL_EXPAND(lu) {
  (void)n, (void)attrs;
  pl_slot x;
  pl_value three[3], a = pl_stacked(c, op, in[0], false, &x);
  if (a == PL_NONE || !pl_apply(c, PL_OP(lu_factor), 1, &a, NULL, three)) return false;
  int64_t rows = x.shape[x.rank - 2], columns = x.shape[x.rank - 1], k = rows < columns ? rows : columns;
  out[0] = pl_unstacked(c, three[0], &x, 2, (int64_t[]){rows, rows});
  out[1] = pl_unstacked(c, three[1], &x, 2, (int64_t[]){rows, k});
  out[2] = pl_unstacked(c, three[2], &x, 2, (int64_t[]){k, columns});
  return c->status == PL_OK;
}

/* ---- samples: rows far from an exchange, but for one that is made ---- */

static pl_value exchanged(pl_context *c, pl_value x) {
  pl_slot *s = pl_slot_get(c, x);
  if (!s) return x;
  double *a = s->data;
  for (int64_t q = 0, n = s->shape[s->rank - 1]; q < n; q++) {
    double t = a[q];
    a[q] = a[n + q];
    a[n + q] = t;
  }
  return x;
}
#define NEAR(...) exchanged(c, pl_sample_matrices(c, r, 0.2, 2, 0.3, __VA_ARGS__))
PL_SAMPLE(stack) {
  if (k > 2) return false;
  s->n = 1;
  s->in[0] = k == 0 ? NEAR(3, 2, 3, 3) : k == 1 ? NEAR(3, 1, 5, 3) : NEAR(3, 2, 2, 4);
  return true;
}
PL_SAMPLE(matrices) {
  if (k > 3) return false;
  s->n = 1;
  s->in[0] = k == 0   ? NEAR(2, 4, 4)
             : k == 1 ? NEAR(4, 2, 1, 4, 3)
             : k == 2 ? NEAR(2, 3, 5)
                      : pl_sample_tensor(c, r, 1, 2, 3, 2, 1, 1);
  return true;
}

pl_op pl_ops_lu[] = {
    {PL_STACK_ROW(lu_factor, "P, L and U of stacks", 1, 3, stack)},
    {PL_USER_ROW(
         lu,
         "P, L, U with A = P L U: P a permutation matrix, L lower triangular with ones on its diagonal, U upper "
         "triangular; rows are exchanged for the largest pivot",
         1, 3, matrices),
     .shapes = "{..., m, n} -> {..., m, m}, {..., m, k}, {..., k, n}, k = min(m, n)",
     .derivative = "at fixed P, where the first k rows of P' A and columns are independent, else an error; any order",
     .accuracy = "backward stable; in f64, whatever the dtype", .source = "LAPACK getrf"},
    {0},
};
