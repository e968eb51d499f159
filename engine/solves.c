/* solves.c: solves with sparse matrices made of other ops: fixed unknowns, null spaces. Their derivatives are their
 * parts'. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "op.h"
#include "pattern.h"
#include "sparse.h"

#define PATTERN(a) ((pl_pattern *)(a).pattern)

void pl_sparse_counts(const pl_context *c, int64_t *analyses, int64_t *plans) {
  *analyses = c->analyses;
  *plans = c->memo_misses;
}

pl_value pl_sparse_factor(pl_context *c, pl_sparse a, pl_solver method) {
  return pl_call1(c, PL_OP(factor), a.values, (pl_attr[]){PL_OBJECT(a.pattern), PL_INT(method)});
}

pl_value pl_sparse_solve(pl_context *c, pl_value factor, pl_sparse a, pl_value b, bool transpose) {
  return pl_call3(c, PL_OP(factored_solve), factor, a.values, b, (pl_attr[]){PL_OBJECT(a.pattern), PL_INT(transpose)});
}

pl_value pl_sparse_logdet(pl_context *c, pl_value factor, pl_sparse a, pl_value *sign) {
  pl_value out[2] = {PL_NONE, PL_NONE};
  pl_apply(c, PL_OP(factor_logdet), 2, (pl_value[]){factor, a.values}, &PL_OBJECT(a.pattern), out);
  if (sign) *sign = out[1];
  else if (pl_owns(c)) pl_release(c, out[1]);
  return out[0];
}

/* Is b {n} or {n, k} for a square A? */
static bool fits(pl_context *c, pl_sparse a, pl_value b, pl_info *info) {
  if (!pl_describe(c, b, info)) return false;
  if (PATTERN(a)->rows != PATTERN(a)->cols)
    pl_error(c, PL_ERROR_SHAPE, "solve: the matrix {%d, %d} is not square", PATTERN(a)->rows, PATTERN(a)->cols);
  else if ((info->rank != 1 && info->rank != 2) || info->shape[0] != PATTERN(a)->rows)
    pl_error(c, PL_ERROR_SHAPE, "solve: the right-hand side has %s %lld; the matrix is {%d, %d}",
             info->rank == 1 || info->rank == 2 ? "length" : "another rank, or length",
             (long long)(info->rank ? info->shape[0] : 1), PATTERN(a)->rows, PATTERN(a)->cols);
  return c->status == PL_OK;
}

/* One number, {fixed} or {fixed, k} as the right-hand side has its columns. */
static pl_value at_fixed(pl_context *c, pl_value value, const pl_info *b, int64_t n) {
  pl_info info;
  if (!pl_describe(c, value, &info)) return PL_NONE;
  if (info.rank > b->rank || (info.rank && info.shape[0] != n)) {
    pl_error(c, PL_ERROR_SHAPE,
             "solve: the values of the %lld fixed unknowns are one number, {%lld}%s; they have %d axes and length %lld",
             (long long)n, (long long)n, b->rank == 2 ? " or a row for each" : "", info.rank,
             (long long)(info.rank ? info.shape[0] : 1));
    return PL_NONE;
  }
  value = pl_cast(c, value, PL_F64);
  if (info.rank == 1 && b->rank == 2) value = pl_reshape_to(c, value, 2, (int64_t[]){n, 1});
  return pl_call1(c, PL_OP(broadcast_to), value, &PL_INTS(b->rank, ((int64_t[]){n, b->shape[1]})));
}

pl_value pl_sparse_solve_fixed(pl_context *c, pl_sparse a, pl_value b, pl_value fixed, pl_value value, pl_solver method,
                               bool transpose) {
  pl_info rhs, list;
  if (!fits(c, a, b, &rhs) || !pl_describe(c, fixed, &list)) return PL_NONE;
  if (list.dtype == PL_BOOL && (list.rank != 1 || list.count != PATTERN(a)->rows)) {
    pl_error(c, PL_ERROR_SHAPE, "solve: the mask of fixed unknowns has %lld entries; the matrix is {%d, %d}",
             (long long)list.count, PATTERN(a)->rows, PATTERN(a)->cols);
    return PL_NONE;
  }
  bool alone = pl_temporaries_begin(c);
  pl_attr axis = PL_INT(0);
  if (list.dtype == PL_BOOL) fixed = pl_call1(c, PL_OP(nonzero), fixed, NULL);
  pl_sparse ff, fc;
  pl_value free, x = PL_NONE;
  if (pl_sparse_split(c, a, fixed, &ff, &fc, &free)) {
    b = pl_cast(c, b, PL_F64);
    pl_value known = pl_zeros_like(c, b), left = b;
    if (value != PL_NONE) {
      fixed = pl_cast(c, fixed, PL_I64);
      known = pl_call3(c, PL_OP(put), known, fixed, at_fixed(c, value, &rhs, pl_slot_get(c, fixed)->count), &axis);
      left = pl_minus(c, b, transpose ? pl_sparse_apply_transposed(c, a, known) : pl_sparse_apply(c, a, known));
    }
    left = pl_call2(c, PL_OP(gather), left, free, &axis);
    pl_value u = pl_sparse_solve(c, pl_sparse_factor(c, ff, method), ff, left, transpose);
    if (c->status == PL_ERROR_NUMERIC) {
      size_t n = strlen(c->message);
      snprintf(c->message + n, sizeof c->message - n, " (rows and columns are counted among the free unknowns)");
    }
    x = pl_call3(c, PL_OP(put), known, free, u, &axis);
    pl_object_release(ff.pattern);
    pl_object_release(fc.pattern);
  }
  return pl_temporaries_end(c, alone, x);
}

/* ---- null spaces ---- */

enum { MOST_NULL = 64 };

/* An orthonormal basis {n, k} of the columns of q by Gram and Schmidt's method, twice, and k rows that determine its
 * elements, by elimination with row pivoting. */
static bool orthonormal(pl_context *c, int64_t n, int64_t k, double *q, int64_t *rows) {
  double *work = pl_memory_new(c, (size_t)(n * k) * sizeof *work);
  if (!work) return false;
  for (int64_t j = 0; j < k; j++) {
    double before = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) before += q[i * k + j] * q[i * k + j];
    for (int pass = 0; pass < 2; pass++)
      for (int64_t l = 0; l < j; l++) {
        double dot = 0;
        for (int64_t i = 0; i < n; i++) dot += q[i * k + l] * q[i * k + j];
        for (int64_t i = 0; i < n; i++) q[i * k + j] -= dot * q[i * k + l];
      }
    for (int64_t i = 0; i < n; i++) norm += q[i * k + j] * q[i * k + j];
    if (!(norm > 1e-20 * before)) {
      pl_error(c, PL_ERROR_NUMERIC, "solve: vector %lld of the null space is a combination of those before it",
               (long long)j + 1);
      break;
    }
    for (int64_t i = 0; i < n; i++) q[i * k + j] /= sqrt(norm);
  }
  memcpy(work, q, (size_t)(n * k) * sizeof *work);
  for (int64_t j = 0; j < k && !c->status; j++) {
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
      if (fabs(work[i * k + j]) > fabs(work[best * k + j])) best = i;
    rows[j] = best + 1;
    for (int64_t l = j + 1; l < k; l++) {
      double factor = work[best * k + l] / work[best * k + j];
      for (int64_t i = 0; i < n; i++) work[i * k + l] -= factor * work[i * k + j];
    }
  }
  pl_memory_free(c, work);
  return c->status == PL_OK;
}

static pl_value basis(pl_context *c, int64_t n, pl_value null, int64_t *k, int64_t *rows) {
  pl_info info = {.rank = 1, .shape = {n}};
  *k = 1;
  if (null != PL_NONE) {
    if (!pl_describe(c, null, &info)) return PL_NONE;
    *k = info.rank == 2 ? info.shape[1] : 1;
    if ((info.rank != 1 && info.rank != 2) || info.dtype == PL_BOOL || info.shape[0] != n || *k < 1 || *k > MOST_NULL ||
        *k > n) {
      pl_error(c, PL_ERROR_SHAPE, "solve: the null space is \"constant\", {%lld} or {%lld, k} with k up to %d",
               (long long)n, (long long)n, MOST_NULL);
      return PL_NONE;
    }
    if (!pl_known(c, null) || pl_slot_get(c, null)->flags & PL_FLAG_ACTIVE) {
      pl_error(c, PL_ERROR_STATE,
               "solve: the null space must be constant: it must not depend on a function's arguments");
      return PL_NONE;
    }
  }
  int64_t count = n * *k;
  double *q = pl_memory_new(c, (size_t)count * sizeof *q);
  const void *z = null == PL_NONE || !q ? NULL : pl_data(c, null);
  for (int64_t i = 0; q && i < count; i++)
    q[i] = !z                     ? 1
           : info.dtype == PL_F64 ? ((const double *)z)[i]
           : info.dtype == PL_F32 ? (double)((const float *)z)[i]
                                  : (double)((const int64_t *)z)[i];
  pl_value v = PL_NONE;
  if (q && !c->status && orthonormal(c, n, *k, q, rows)) v = pl_tensor(c, PL_F64, 2, (int64_t[]){n, *k}, q);
  pl_memory_free(c, q);
  return v;
}

/* x - Q Q'x */
static pl_value without(pl_context *c, pl_value q, pl_value x) {
  return pl_minus(c, x, pl_product(c, q, pl_product(c, q, x, true, false), false, false));
}

pl_value pl_sparse_solve_null(pl_context *c, pl_sparse a, pl_value b, pl_value null, pl_solver method) {
  pl_info rhs;
  if (!fits(c, a, b, &rhs)) return PL_NONE;
  int64_t n = PATTERN(a)->rows, rows[MOST_NULL], k;
  bool alone = pl_temporaries_begin(c);
  pl_value q = basis(c, n, null, &k, rows), x = PL_NONE;
  if (q != PL_NONE) {
    b = pl_reshape_to(c, pl_cast(c, b, PL_F64), 2, (int64_t[]){n, rhs.rank == 2 ? rhs.shape[1] : 1});
    b = pl_call3(c, PL_OP(check_null), a.values, q, without(c, q, b), &PL_OBJECT(a.pattern));
    x = pl_sparse_solve_fixed(c, a, b, pl_tensor(c, PL_I64, 1, &k, rows), PL_NONE, method, false);
    x = pl_reshape_to(c, without(c, q, x), rhs.rank, rhs.shape);
  }
  return pl_temporaries_end(c, alone, x);
}

/* ---- least squares ---- */

pl_value pl_sparse_lstsq(pl_context *c, pl_sparse a, pl_value b) {
  bool alone = pl_temporaries_begin(c), wide = PATTERN(a)->rows < PATTERN(a)->cols;
  pl_sparse tall = wide ? pl_sparse_transpose(c, a) : a;
  pl_value x = PL_NONE;
  if (tall.pattern)
    x = pl_call3(c, PL_OP(sparse_qr_solve), pl_call1(c, PL_OP(sparse_qr), tall.values, &PL_OBJECT(tall.pattern)),
                 tall.values, b, (pl_attr[]){PL_OBJECT(tall.pattern), PL_INT(wide)});
  if (wide) pl_object_release(tall.pattern);
  return pl_temporaries_end(c, alone, x);
}

/* ---- eigenvalues ---- */

static pl_sparse identity(pl_context *c, int64_t n) {
  pl_value i = pl_tensor(c, PL_I64, 1, &n, NULL);
  pl_slot *s = i == PL_NONE ? NULL : pl_slot_get(c, i);
  for (int64_t k = 0; s && k < n; k++) ((int64_t *)s->data)[k] = k + 1;
  return pl_sparse_triplets(c, i, i, pl_constant(c, PL_F64, 1), n, n);
}

/* a on the pattern of a + b */
static pl_sparse widened(pl_context *c, pl_sparse a, pl_sparse b) {
  pl_sparse zero = pl_sparse_scale(c, b, pl_constant(c, PL_F64, 0));
  pl_sparse sum = zero.pattern ? pl_sparse_add(c, a, zero) : zero;
  pl_object_release(zero.pattern);
  return sum;
}

bool pl_sparse_eigsh(pl_context *c, pl_sparse a, pl_sparse m, int64_t k, int which, double sigma, double rtol,
                     int64_t restarts, pl_value *w, pl_value *v) {
  pl_value out[2] = {PL_NONE, PL_NONE};
  *w = *v = PL_NONE;
  if (PATTERN(a)->rows != PATTERN(a)->cols) {
    pl_error(c, PL_ERROR_SHAPE, "eigsh: the matrix {%d, %d} is not square", PATTERN(a)->rows, PATTERN(a)->cols);
    return false;
  }
  bool alone = pl_temporaries_begin(c), own = !m.pattern;
  if (own) m = identity(c, PATTERN(a)->rows);
  pl_sparse wide = m.pattern ? widened(c, a, m) : m, mass = wide.pattern ? widened(c, m, a) : wide; /* or none */
  if (mass.pattern)
    pl_apply(c, PL_OP(sparse_eigs), 2, (pl_value[]){wide.values, mass.values},
             (pl_attr[]){PL_OBJECT(wide.pattern), PL_INT(k), PL_INT(which), PL_REALV(sigma), PL_REALV(rtol),
                         PL_INT(restarts)},
             out);
  pl_object_release(wide.pattern);
  pl_object_release(mass.pattern);
  if (own) pl_object_release(m.pattern);
  if (alone && out[1] != PL_NONE) pl_retain(c, out[1]);
  *w = pl_temporaries_end(c, alone, out[0]);
  *v = out[1];
  return *w != PL_NONE;
}
