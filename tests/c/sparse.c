/* Sparse algebra against dense arithmetic, the direct solvers, interning and the memo. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "op.h"
#include "pattern.h"
#include "sparse.h"

enum { N = 7 };

static pl_value tensor(pl_context *c, int rank, int64_t n, int64_t m, const double *x) {
  return pl_tensor(c, PL_F64, rank, (int64_t[]){n, m}, x);
}

/* A random matrix {rows, cols} with about half its entries, and the diagonal; also as dense numbers. */
static pl_sparse random_matrix(pl_context *c, pl_sampler_random *r, int rows, int cols, double *dense) {
  double i[100], j[100], v[100];
  int n = 0;
  memset(dense, 0, sizeof(double) * (size_t)(rows * cols));
  for (int pass = 0; pass < 2; pass++) /* twice: duplicates add up */
    for (int a = rows - 1; a >= 0; a--)
      for (int b = 0; b < cols; b++)
        if ((a == b || pl_sample_uniform(r, 0, 1) < 0.3) && n < 100) {
          i[n] = a + 1, j[n] = b + 1;
          v[n] = pl_sample_uniform(r, -1, 1) + (a == b ? 4 : 0);
          dense[a * cols + b] += v[n++];
        }
  return pl_sparse_triplets(c, tensor(c, 1, n, 0, i), tensor(c, 1, n, 0, j), tensor(c, 1, n, 0, v), rows, cols);
}

static void expect(pl_context *c, pl_value v, int n, const double *x, double tolerance) {
  if (c->status) fail_msg("%s", c->message);
  const double *p = pl_data(c, v);
  assert_non_null(p);
  for (int i = 0; i < n; i++)
    if (!(fabs(p[i] - x[i]) <= tolerance)) fail_msg("entry %d is %.17g, not %.17g", i, p[i], x[i]);
}

static void algebra(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  pl_sampler_random r = {5};
  double a[N * N], b[N * N], e[N * 4], x[N * 3], y[N * N * 4];
  pl_sparse A = random_matrix(c, &r, N, N, a), B = random_matrix(c, &r, N, N, b), E = random_matrix(c, &r, N, 4, e);
  expect(c, pl_sparse_dense(c, A), N * N, a, 1e-14);
  pl_sparse T = pl_sparse_transpose(c, E);
  for (int i = 0; i < N; i++)
    for (int j = 0; j < 4; j++) y[j * N + i] = e[i * 4 + j];
  expect(c, pl_sparse_dense(c, T), N * 4, y, 1e-14);
  for (int i = 0; i < N * N; i++) y[i] = a[i] + b[i];
  expect(c, pl_sparse_dense(c, pl_sparse_add(c, A, B)), N * N, y, 1e-14);
  for (int i = 0; i < N; i++)
    for (int j = 0; j < 4; j++) {
      y[i * 4 + j] = 0;
      for (int k = 0; k < N; k++) y[i * 4 + j] += a[i * N + k] * e[k * 4 + j];
    }
  expect(c, pl_sparse_dense(c, pl_sparse_multiply(c, A, E)), N * 4, y, 1e-13);
  double d[N];
  for (int i = 0; i < N; i++) d[i] = pl_sample_uniform(&r, 0.5, 2);
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 4; j++) {
      y[i * 4 + j] = 0;
      for (int k = 0; k < N; k++) y[i * 4 + j] += e[k * 4 + i] * d[k] * e[k * 4 + j];
    }
  expect(c, pl_sparse_dense(c, pl_sparse_gram(c, E, tensor(c, 1, N, 0, d))), 16, y, 1e-13);
  for (int i = 0; i < N * 3; i++) x[i] = pl_sample_uniform(&r, -1, 1);
  for (int i = 0; i < N; i++)
    for (int j = 0; j < 3; j++) {
      y[i * 3 + j] = 0;
      for (int k = 0; k < N; k++) y[i * 3 + j] += a[i * N + k] * x[k * 3 + j];
    }
  expect(c, pl_sparse_apply(c, A, tensor(c, 2, N, 3, x)), N * 3, y, 1e-13);
  double k2[4] = {0}, f[4] = {1, 2, 0, 3}, g[4] = {5, 0, 6, 7};
  (void)k2;
  pl_value ij[2] = {tensor(c, 1, 3, 0, (double[]){1, 1, 2}), tensor(c, 1, 3, 0, (double[]){1, 2, 2})};
  pl_sparse F = pl_sparse_triplets(c, ij[0], ij[1], tensor(c, 1, 3, 0, (double[]){1, 2, 3}), 2, 2);
  pl_value kl[2] = {tensor(c, 1, 3, 0, (double[]){1, 2, 2}), tensor(c, 1, 3, 0, (double[]){1, 1, 2})};
  pl_sparse G = pl_sparse_triplets(c, kl[0], kl[1], tensor(c, 1, 3, 0, (double[]){5, 6, 7}), 2, 2);
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 4; j++) y[i * 4 + j] = f[i / 2 * 2 + j / 2] * g[i % 2 * 2 + j % 2];
  expect(c, pl_sparse_dense(c, pl_sparse_kron(c, F, G)), 16, y, 1e-14);
  pl_context_free(c);
}

static void solvers(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  pl_sampler_random r = {8};
  double a[N * N], x[N * 2], b[N * 2];
  pl_sparse A = random_matrix(c, &r, N, N, a);
  for (int i = 0; i < N * 2; i++) x[i] = pl_sample_uniform(&r, -1, 1);
  for (int t = 0; t < 2; t++)
    for (pl_solver m = PL_SOLVER_AUTO; m <= PL_SOLVER_UMFPACK; m++) {
      for (int i = 0; i < N; i++)
        for (int j = 0; j < 2; j++) {
          b[i * 2 + j] = 0;
          for (int k = 0; k < N; k++) b[i * 2 + j] += (t ? a[k * N + i] : a[i * N + k]) * x[k * 2 + j];
        }
      pl_value F = pl_sparse_factor(c, A, m);
      expect(c, pl_sparse_solve(c, F, A, tensor(c, 2, N, 2, b), t), N * 2, x, 1e-12);
    }
  /* symmetric positive definite: A'A by Cholesky */
  pl_sparse S = pl_sparse_gram(c, A, tensor(c, 0, 0, 0, (double[]){1}));
  pl_value F = pl_sparse_factor(c, S, PL_SOLVER_CHOLMOD), rhs = pl_sparse_apply(c, S, tensor(c, 2, N, 2, x));
#ifdef PL_HAVE_GPL
  assert_string_equal(pl_factor_name(c, F), "CHOLMOD");
#endif
  expect(c, pl_sparse_solve(c, F, S, rhs, false), N * 2, x, 1e-11);
  pl_context_free(c);
}

static void expect_error(pl_context *c, pl_status status, const char *text) {
  assert_int_equal(c->status, status);
  if (!strstr(c->message, text)) fail_msg("message: %s", c->message);
  pl_clear(c);
}

static pl_sparse small(pl_context *c, int n, const double *dense) {
  double i[25], j[25], v[25];
  int k = 0;
  for (int a = 0; a < n * n; a++)
    if (dense[a] != 0) i[k] = a / n + 1, j[k] = a % n + 1, v[k++] = dense[a];
  return pl_sparse_triplets(c, tensor(c, 1, k, 0, i), tensor(c, 1, k, 0, j), tensor(c, 1, k, 0, v), n, n);
}

static void singular(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  double empty[] = {1, 2, 0, 0, 0, 0, 1, 1, 1}; /* row 2 has no entry */
  assert_int_equal(pl_sparse_factor(c, small(c, 3, empty), PL_SOLVER_AUTO), PL_NONE);
  expect_error(c, PL_ERROR_NUMERIC, "row 2");
  double neumann[] = {1, -1, 0, -1, 2, -1, 0, -1, 1};
  for (pl_solver m = PL_SOLVER_KLU; m <= PL_SOLVER_CHOLMOD; m++) {
    assert_int_equal(pl_sparse_factor(c, small(c, 3, neumann), m), PL_NONE);
    assert_int_equal(c->status, PL_ERROR_NUMERIC);
    assert_non_null(strstr(c->message, "row"));
    pl_clear(c);
  }
#ifdef PL_HAVE_GPL
  double indefinite[] = {1, 0, 0, 0, -2, 0, 0, 0, 3};
  pl_sparse_factor(c, small(c, 3, indefinite), PL_SOLVER_CHOLMOD);
  expect_error(c, PL_ERROR_NUMERIC, "row 2");
#endif
  double nan[] = {1, 0, 0, 0, NAN, 0, 0, 0, 3};
  pl_sparse_factor(c, small(c, 3, nan), PL_SOLVER_AUTO);
  expect_error(c, PL_ERROR_NUMERIC, "row 2, column 2");
  pl_sparse tall = pl_sparse_triplets(c, tensor(c, 1, 1, 0, (double[]){3}), tensor(c, 1, 1, 0, (double[]){1}),
                                      tensor(c, 1, 1, 0, (double[]){1}), 3, 2);
  pl_sparse_factor(c, tall, PL_SOLVER_AUTO);
  expect_error(c, PL_ERROR_SHAPE, "{3, 2} is not square");
  pl_sparse_triplets(c, tensor(c, 1, 1, 0, (double[]){4}), tensor(c, 1, 1, 0, (double[]){1}),
                     tensor(c, 1, 1, 0, (double[]){1}), 3, 2);
  expect_error(c, PL_ERROR_INDEX, "row 4 (entry 1) is out of range 1 to 3");
  pl_context_free(c);
}

static void interning(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  double a[] = {1, 2, 0, 0, 4, 0, 1, 1, 1}, b[] = {5, 6, 0, 0, 7, 0, 8, 9, 10}, d[] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  pl_sparse A = small(c, 3, a), B = small(c, 3, b), I = small(c, 3, d);
  assert_ptr_equal(A.pattern, B.pattern);
  pl_sparse first = pl_sparse_add(c, I, A);
  int64_t misses = c->memo_misses;
  for (int k = 0; k < 100; k++) {
    pl_sparse again = pl_sparse_add(c, I, B);
    assert_ptr_equal(again.pattern, first.pattern);
    pl_sparse_release(c, again);
  }
  assert_int_equal(c->memo_misses, misses);
  /* a thousand different pairs do not grow the memo */
  size_t used = 0;
  for (int k = 0; k < 1000; k++) {
    double e[25] = {0};
    for (int i = 0; i < 5; i++) e[i * 6] = 1;
    for (int i = 0; i < 10; i++)
      if (k >> i & 1) e[i * 2 + (i * 2) / 6] = 1;
    pl_scope_begin(c);
    pl_sparse E = small(c, 5, e), T = pl_sparse_transpose(c, E), P = pl_sparse_multiply(c, E, T);
    pl_scope_end(c);
    pl_object_release(E.pattern);
    pl_object_release(T.pattern);
    pl_object_release(P.pattern);
    if (k == 499) used = pl_bytes_used(c);
  }
  assert_true(pl_bytes_used(c) < used + used / 5);
  pl_context_free(c);
}

/* ---- each function by itself: without memory, and what it leaves behind ---- */

typedef struct {
  pl_context *c;
  pl_sparse a, b, s; /* {7, 7}, {7, 7}, {7, 4} */
  pl_value d, index, w, t, number;
  const char *path;
  pl_sparse m[2];
  pl_value v[2];
} bench;

enum { CALLS = 24 };
static void call(bench *e, int k) {
  pl_context *c = e->c;
  pl_sparse grid[] = {e->a, {NULL, PL_NONE}, e->b, e->s};
  memset(e->m, 0, sizeof e->m);
  memset(e->v, 0, sizeof e->v);
  switch (k) {
    case 0: e->m[0] = pl_sparse_add(c, e->a, e->b); break;
    case 1: e->m[0] = pl_sparse_subtract(c, e->a, e->b); break;
    case 2: e->m[0] = pl_sparse_hadamard(c, e->a, e->b); break;
    case 3: e->m[0] = pl_sparse_multiply(c, e->a, e->s); break;
    case 4: e->m[0] = pl_sparse_transpose(c, e->s); break;
    case 5: e->m[0] = pl_sparse_kron(c, e->s, e->s); break;
    case 6: e->m[0] = pl_sparse_gram(c, e->s, e->d); break;
    case 7: e->m[0] = pl_sparse_gram(c, e->a, e->w); break;
    case 8: e->m[0] = pl_sparse_scale_rows(c, e->a, e->d); break;
    case 9: e->m[0] = pl_sparse_scale_columns(c, e->a, e->d); break;
    case 10: e->m[0] = pl_sparse_block(c, 2, 2, grid); break;
    case 11: e->m[0] = pl_sparse_incidence(c, e->index, e->index, N); break;
    case 12: e->m[0] = pl_sparse_select(c, e->a, e->index, PL_NONE); break;
    case 13: e->m[0] = pl_sparse_select(c, e->a, e->index, e->index); break;
    case 14: e->v[0] = pl_sparse_pick(c, e->a, e->index, e->index); break;
    case 15: e->v[0] = pl_sparse_element(c, e->a, 2, 2); break;
    case 16: e->v[0] = pl_sparse_diagonal(c, e->a, 1); break;
    case 17: e->v[0] = pl_sparse_norm(c, e->a, PL_NORM_ONE); break;
    case 18: e->v[0] = pl_sparse_dense(c, e->a); break;
    case 19: e->m[0] = pl_sparse_from_dense(c, e->t, 0.5); break;
    case 20: pl_sparse_split(c, e->a, e->index, &e->m[0], &e->m[1], &e->v[0]); break;
    case 21: e->m[0] = pl_sparse_dirichlet(c, e->a, e->index, e->d, e->number, &e->v[0]); break;
    case 22: pl_sparse_load(c, e->path, &e->m[0], &e->v[0]); break;
    default: e->v[0] = pl_sparse_apply_transposed(c, e->a, e->d);
  }
}
static void drop(bench *e) {
  for (int k = 0; k < 2; k++) {
    if (e->m[k].pattern) pl_sparse_release(e->c, e->m[k]);
    pl_release(e->c, e->v[k]);
  }
}

/* In a context of its own, so that nothing is remembered but what fails. */
static bench begin(const char *path) {
  pl_context *c = pl_context_new();
  pl_sampler_random r = {21};
  double dense[N * N], x[4] = {5, 2, 7, 3};
  bench e = {.c = c, .path = path};
  e.a = random_matrix(c, &r, N, N, dense);
  e.t = pl_sparse_dense(c, e.a);
  e.b = random_matrix(c, &r, N, N, dense);
  e.s = random_matrix(c, &r, N, 4, dense);
  e.d = pl_sample_tensor(c, &r, 0.5, 2, 1, N);
  e.w = pl_sample_tensor(c, &r, 0.5, 2, 3, 1, N, N);
  e.index = tensor(c, 1, 4, 0, x);
  e.number = pl_scalar(c, PL_F64, 3);
  pl_sparse_save(c, path, e.a);
  assert_int_equal(c->status, PL_OK);
  return e;
}

static void without_memory(void **state) {
  (void)state;
  char path[] = "/tmp/perilune_sparse_XXXXXX";
  int file = mkstemp(path);
  assert_true(file >= 0);
  for (int k = 0; k < CALLS; k++) {
    bool done = false;
    for (int at = 0; !done; at++) {
      bench e = begin(path);
      int64_t live = pl_live_values(e.c);
      e.c->fail_after = at;
      call(&e, k);
      done = e.c->status == PL_OK;
      e.c->fail_after = -1;
      if (!done) {
        if (e.c->status != PL_ERROR_MEMORY) fail_msg("call %d, at %d: %s", k, at, e.c->message);
        assert_true(!e.m[0].pattern && !e.m[1].pattern && e.v[0] == PL_NONE);
        pl_clear(e.c);
      }
      drop(&e);
      pl_memo_free(e.c); /* and the maps that it holds */
      if (pl_live_values(e.c) > live)
        fail_msg("call %d, at %d: %d values are left", k, at, (int)(pl_live_values(e.c) - live));
      call(&e, k); /* the engine goes on */
      if (e.c->status) fail_msg("call %d after %d: %s", k, at, e.c->message);
      pl_context_free(e.c);
    }
  }
  close(file);
  unlink(path);
}

/* What the solver reads: rows and columns taken out, by dense arithmetic. */
static void split(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  pl_sampler_random r = {3};
  double a[N * N], want[N * N];
  pl_sparse A = random_matrix(c, &r, N, N, a), ff, fc;
  pl_value free, fixed = tensor(c, 1, 3, 0, (double[]){6, 1, 4});
  static const int f[] = {1, 2, 4, 6}, k[] = {5, 0, 3};
  assert_true(pl_sparse_split(c, A, fixed, &ff, &fc, &free));
  for (int i = 0; i < 4; i++) assert_int_equal(((const int64_t *)pl_data(c, free))[i], f[i] + 1);
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 4; j++) want[i * 4 + j] = a[f[i] * N + f[j]];
  expect(c, pl_sparse_dense(c, ff), 16, want, 0);
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 3; j++) want[i * 3 + j] = a[f[i] * N + k[j]];
  expect(c, pl_sparse_dense(c, fc), 12, want, 0);
  int64_t found, made, before;
  pl_sparse_memo(c, &found, &before);
  pl_sparse_split(c, A, tensor(c, 1, 3, 0, (double[]){6, 1, 4}), &ff, &fc, &free); /* other tensors, the same indices */
  pl_sparse_memo(c, &found, &made);
  assert_int_equal(made, before);
  pl_context_free(c);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(algebra),        cmocka_unit_test(solvers),
                                     cmocka_unit_test(singular),       cmocka_unit_test(interning),
                                     cmocka_unit_test(without_memory), cmocka_unit_test(split)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
