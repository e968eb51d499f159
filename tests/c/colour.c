/* Colourings and recovery on known patterns and random ones; patterns of programs against entries found by differences.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "body.h"
#include "sparse.h"
#include "transform/colour.h"
#include "transform/linearize.h"
#include "transform/sparsity.h"

typedef bool (*predicate)(int i, int j, int n);
static bool tridiagonal(int i, int j, int n) { return (void)n, abs(i - j) <= 1; }
static bool laplacian(int i, int j, int n) { return i == j || abs(i - j) == n || (abs(i - j) == 1 && i / n == j / n); }
static bool arrow(int i, int j, int n) { return (void)n, i == j || i == 0 || j == 0; }
static bool last_row(int i, int j, int n) { return i == j || i == n - 1; }

static pl_pattern *pattern(pl_context *c, int rows, int cols, predicate f, int n) {
  int32_t *ptr = malloc(((size_t)rows + 1) * sizeof *ptr), *col = malloc((size_t)rows * (size_t)cols * sizeof *col),
          k = 0;
  for (int i = 0; i < rows; i++) {
    ptr[i] = k;
    for (int j = 0; j < cols; j++)
      if (f(i, j, n)) col[k++] = j;
  }
  ptr[rows] = k;
  pl_pattern *p = pl_pattern_new(c, rows, cols, ptr, col);
  free(ptr);
  free(col);
  return p;
}

/* No row has two entries of one colour. */
static void orthogonal(const pl_pattern *p, const int32_t *colour, int colours) {
  int *seen = calloc((size_t)colours + 1, sizeof *seen);
  for (int i = 0; i < p->rows; i++)
    for (int k = p->row_ptr[i]; k < p->row_ptr[i + 1]; k++) {
      int j = colour[p->col[k]];
      assert_in_range(j, 0, colours - 1);
      if (seen[j] == i + 1) fail_msg("row %d has two columns of colour %d", i, j);
      seen[j] = i + 1;
    }
  free(seen);
}

static double entry(int i, int j) { return 1 + (double)((i + 1) * (j + 1) % 97) + (i + j) * 0.01; } /* symmetric */

/* The entries from the matrix times the seeds of the colours, by the map. */
static void recovered(const pl_pattern *p, const int32_t *colour, int colours, bool rows, const int64_t *map) {
  int length = rows ? p->cols : p->rows;
  double *C = calloc((size_t)colours * (size_t)length + 1, sizeof *C);
  for (int i = 0; i < p->rows; i++)
    for (int k = p->row_ptr[i]; k < p->row_ptr[i + 1]; k++) {
      int j = p->col[k];
      C[rows ? colour[i] * length + j : colour[j] * length + i] += entry(i, j);
    }
  for (int i = 0; i < p->rows; i++)
    for (int k = p->row_ptr[i]; k < p->row_ptr[i + 1]; k++)
      if (C[map[k]] != entry(i, p->col[k])) fail_msg("entry (%d, %d) is read as %g", i, p->col[k], C[map[k]]);
  free(C);
}

static int columns(pl_context *c, pl_pattern *p) {
  int32_t *colour = malloc(((size_t)p->cols + 1) * sizeof *colour);
  int64_t *map = malloc(((size_t)p->nnz + 1) * sizeof *map);
  int n = pl_colour_columns(c, p, colour);
  orthogonal(p, colour, n);
  pl_recover_columns(p, colour, map);
  recovered(p, colour, n, false, map);
  free(colour);
  free(map);
  return n;
}
static int rows(pl_context *c, pl_pattern *p) {
  int32_t *colour = malloc(((size_t)p->rows + 1) * sizeof *colour);
  int64_t *map = malloc(((size_t)p->nnz + 1) * sizeof *map);
  int n = pl_colour_rows(c, p, colour);
  pl_recover_rows(p, colour, map);
  recovered(p, colour, n, true, map);
  free(colour);
  free(map);
  return n;
}
static int star(pl_context *c, pl_pattern *p) {
  int32_t *colour = malloc(((size_t)p->cols + 1) * sizeof *colour);
  int64_t *map = malloc(((size_t)p->nnz + 1) * sizeof *map);
  int n = pl_colour_star(c, p, colour);
  assert_true(pl_recover_star(c, p, colour, n, map));
  recovered(p, colour, n, false, map);
  /* neighbours differ */
  for (int i = 0; i < p->rows; i++)
    for (int k = p->row_ptr[i]; k < p->row_ptr[i + 1]; k++)
      assert_true(p->col[k] == i || colour[p->col[k]] != colour[i]);
  free(colour);
  free(map);
  return n;
}

static void known_patterns(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  pl_pattern *t = pattern(c, 200, 200, tridiagonal, 0), *l = pattern(c, 900, 900, laplacian, 30),
             *a = pattern(c, 150, 150, arrow, 0), *r = pattern(c, 60, 60, last_row, 60);
  assert_int_equal(columns(c, t), 3);
  assert_int_equal(rows(c, t), 3);
  int n = columns(c, l);
  assert_in_range(n, 5, 8);
  assert_int_equal(columns(c, a), 150);
  assert_int_equal(star(c, a), 2);
  assert_in_range(star(c, t), 3, 3);
  assert_in_range(star(c, l), 4, 7);
  assert_int_equal(columns(c, r), 60);
  assert_int_equal(rows(c, r), 2);
  pl_pattern *none = pattern(c, 4, 0, tridiagonal, 0);
  int32_t colour[4];
  assert_int_equal(pl_colour_columns(c, none, colour), 0);
  assert_int_equal(pl_colour_star(c, none, colour), -1);
  assert_int_equal(c->status, PL_ERROR_SHAPE);
  pl_clear(c);
  pl_pattern *all[] = {t, l, a, r, none};
  for (int i = 0; i < 5; i++) pl_object_release(&all[i]->base);
  pl_context_free(c);
}

static uint64_t seed;
static bool random_symmetric(int i, int j, int n) {
  uint64_t x = (uint64_t)(i < j ? i * n + j : j * n + i) * 0x9e3779b97f4a7c15u ^ seed;
  x ^= x >> 31;
  x *= 0xbf58476d1ce4e5b9u;
  return (x >> 40) % 12 == 0;
}
static bool random_any(int i, int j, int n) { return random_symmetric(i, j + 1000, n); }

static void random_patterns(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  for (seed = 1; seed <= 60; seed++) {
    int n = 3 + (int)(seed % 40);
    pl_pattern *s = pattern(c, n, n, random_symmetric, n), *p = pattern(c, n, 2 * n, random_any, 3000);
    star(c, s);
    columns(c, p);
    rows(c, p);
    pl_object_release(&s->base);
    pl_object_release(&p->base);
  }
  pl_context_free(c);
}

/* ---- patterns of programs ---- */

static pl_value vector(pl_context *c, int n, double first, double step) {
  pl_value v = pl_tensor(c, PL_F64, 1, (int64_t[]){n}, NULL);
  double *p = pl_slot_find(c, v)->data;
  for (int i = 0; i < n; i++) p[i] = first + step * i + 0.01 * ((i * 7) % 5);
  return v;
}
static pl_value indices(pl_context *c, int n, const int64_t *x) { return pl_tensor(c, PL_I64, 1, (int64_t[]){n}, x); }
static pl_value call1(pl_context *c, const char *op, pl_value x, const pl_attr *attrs) {
  return pl_apply1(c, pl_op_find(op), 1, &x, attrs);
}
static pl_value call2(pl_context *c, const char *op, pl_value x, pl_value y, const pl_attr *attrs) {
  return pl_apply1(c, pl_op_find(op), 2, (pl_value[]){x, y}, attrs);
}
static pl_value call3(pl_context *c, const char *op, pl_value x, pl_value y, pl_value z, const pl_attr *attrs) {
  return pl_apply1(c, pl_op_find(op), 3, (pl_value[]){x, y, z}, attrs);
}

enum { N = 6 };
static pl_sparse matrix; /* {N, N} */
typedef pl_value (*function)(pl_context *c, pl_value x, pl_value index);

static pl_value f_elementwise(pl_context *c, pl_value x, pl_value index) {
  (void)index;
  pl_value column = call1(c, "reshape", x, &PL_INTS(2, ((int64_t[]){2, 3})));
  pl_value row =
      call1(c, "slice", x,
            (pl_attr[]){PL_INTS(1, ((int64_t[]){5})), PL_INTS(1, ((int64_t[]){-2})), PL_INTS(1, ((int64_t[]){3}))});
  pl_value y = call2(c, "mul", column, call1(c, "exp", row, NULL), NULL); /* {2, 3}*{3} */
  return call1(c, "transpose", y, &PL_INTS(-1, NULL));
}
static pl_value f_gather(pl_context *c, pl_value x, pl_value index) {
  pl_value y = call2(c, "gather", x, index, &PL_INT(0));
  pl_value z = call3(c, "add_at", call1(c, "square", x, NULL), index, call1(c, "sin", y, NULL), &PL_INT(0));
  return call3(c, "put", z, index, call2(c, "mul", y, y, NULL), &PL_INT(0));
}
static pl_value f_reductions(pl_context *c, pl_value x, pl_value index) {
  (void)index;
  pl_value m = call1(c, "reshape", x, &PL_INTS(2, ((int64_t[]){2, 3})));
  int64_t first = 0, second = -1;
  pl_value parts[] = {call1(c, "sum", m, (pl_attr[]){PL_INTS(1, &first), PL_INT(0)}),
                      call1(c, "prod", m, (pl_attr[]){PL_INTS(1, &second), PL_INT(0)}),
                      call1(c, "max", m, (pl_attr[]){PL_INTS(1, &second), PL_INT(0)}),
                      call1(c, "cumsum", x, (pl_attr[]){PL_INT(0), PL_INT(1)})};
  return pl_apply1(c, pl_op_find("concat"), 4, parts, &PL_INT(0));
}
static pl_value f_products(pl_context *c, pl_value x, pl_value index) {
  (void)index;
  pl_value m = call1(c, "reshape", x, &PL_INTS(2, ((int64_t[]){2, 3})));
  pl_value g = call2(c, "gemm", m, m, (pl_attr[]){PL_INT(0), PL_INT(1)}); /* {2, 2} */
  pl_value s = pl_sparse_apply(c, matrix, call1(c, "square", x, NULL));
  pl_value d = call2(c, "sddmm", x, s, (pl_attr[]){PL_OBJECT(matrix.pattern), PL_INT(0)});
  pl_value parts[] = {call1(c, "ravel", g, NULL), s, d};
  return pl_apply1(c, pl_op_find("concat"), 3, parts, &PL_INT(0));
}
static pl_value f_ends(pl_context *c, pl_value x, pl_value index) { /* nothing moves but by the last term */
  (void)index;
  pl_value y =
      call2(c, "add", call1(c, "sign", x, NULL), call1(c, "stop_gradient", call1(c, "exp", x, NULL), NULL), NULL);
  return call2(
      c, "add", y,
      call1(c, "slice", x,
            (pl_attr[]){PL_INTS(1, ((int64_t[]){2})), PL_INTS(1, ((int64_t[]){1})), PL_INTS(1, ((int64_t[]){1}))}),
      NULL);
}

static pl_body *trace(pl_context *c, function f, int n, pl_value *inputs, bool wrapped) {
  pl_value traced[8];
  pl_trace *t = pl_trace_like(c, 2, inputs, 2, traced);
  pl_value y = f(c, traced[0], traced[1]);
  pl_body *b = y == PL_NONE ? NULL : pl_trace_end(c, t, 1, &y);
  assert_int_equal(pl_trace_captures(c, t, inputs + 2), n - 2);
  for (int i = 2; i < n; i++) pl_retain(c, inputs[i]);
  pl_trace_free(c, t);
  if (!b) fail_msg("%s", c->message);
  if (!wrapped) return b;
  /* the same inside a call */
  t = pl_trace_like(c, n, inputs, n, traced);
  y = pl_apply1(c, pl_op_find("call"), n, traced, (pl_attr[]){PL_OBJECT(pl_body_object(b)), PL_INT(0)});
  pl_body *outer = pl_trace_end(c, t, 1, &y);
  pl_trace_free(c, t);
  pl_body_release(b);
  return outer;
}

/* The pattern is that of the dense Jacobian by unit tangents, entry by entry. */
static void check_program(pl_context *c, function f, int n, const char *name) {
  pl_value inputs[8] = {vector(c, N, 0.4, 0.3), indices(c, 4, (int64_t[]){2, 5, 2, 6})};
  for (int wrapped = 0; wrapped < 2; wrapped++) {
    pl_body *b = trace(c, f, n, inputs, wrapped);
    pl_pattern *p = pl_body_jacobian_pattern(c, b, inputs, 0, 0);
    if (!p) fail_msg("%s: %s", name, c->message);
    uint8_t active[8] = {1};
    pl_linearization l;
    assert_true(pl_body_linearize(c, b, active, &l));
    pl_value early[64], operands[64], dy;
    assert_true(
        pl_apply(c, pl_op_find("call"), n, inputs, (pl_attr[]){PL_OBJECT(pl_body_object(l.early)), PL_INT(0)}, early));
    for (int k = 0; k < l.n_kept; k++) operands[1 + k] = l.kept[k] < n ? inputs[l.kept[k]] : early[l.kept[k] - n];
    int m = p->rows;
    for (int j = 0; j < N; j++) {
      double unit[N] = {0};
      unit[j] = 1;
      operands[0] = pl_tensor(c, PL_F64, 1, (int64_t[]){N}, unit);
      assert_true(pl_apply(c, pl_op_find("call"), 1 + l.n_kept, operands,
                           (pl_attr[]){PL_OBJECT(pl_body_object(l.tangent)), PL_INT(0)}, &dy));
      const double *d = pl_data(c, dy);
      for (int i = 0; i < m; i++) {
        bool there = false;
        for (int k = p->row_ptr[i]; k < p->row_ptr[i + 1]; k++) there = there || p->col[k] == j;
        bool extreme = f == f_reductions && i >= 5 && i < 7; /* max: one of those that may be the largest */
        bool replaced = f == f_gather && d[i] == 0;          /* put: the last of repeated ones */
        if (d[i] != 0 ? !there : there && !extreme && !replaced)
          fail_msg("%s: entry (%d, %d) is %g and %sin the pattern", name, i, j, d[i], there ? "" : "not ");
      }
      /* the transpose: the same entry */
      pl_body *T = pl_body_transposed(c, l.tangent, 1);
      pl_value row[64], gx;
      for (int k = 0; k < l.n_kept; k++) row[1 + k] = operands[1 + k];
      double *w = calloc((size_t)m, sizeof *w);
      w[m / 2] = 1;
      pl_spec spec;
      pl_spec_of(pl_slot_find(c, dy), &spec);
      int64_t shape[] = {spec.shape[0], spec.shape[1]};
      row[0] = pl_tensor(c, PL_F64, spec.rank, shape, w);
      free(w);
      assert_true(pl_apply(c, pl_op_find("call"), 1 + l.n_kept, row,
                           (pl_attr[]){PL_OBJECT(pl_body_object(T)), PL_INT(0)}, &gx));
      assert_true(fabs(((const double *)pl_data(c, gx))[j] - d[m / 2]) < 1e-14);
    }
    pl_object_release(&p->base);
    pl_body_release(b);
  }
}

static pl_sparse test_matrix(pl_context *c) {
  double i[] = {1, 1, 2, 3, 4, 5, 6, 6}, j[] = {1, 3, 2, 6, 4, 1, 5, 6}, v[] = {1, 2, 3, 4, 5, 6, 7, 8};
  int64_t n = 8;
  return pl_sparse_triplets(c, pl_tensor(c, PL_F64, 1, &n, i), pl_tensor(c, PL_F64, 1, &n, j),
                            pl_tensor(c, PL_F64, 1, &n, v), N, N);
}

static void programs(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  matrix = test_matrix(c);
  check_program(c, f_elementwise, 2, "elementwise");
  check_program(c, f_gather, 2, "gather");
  check_program(c, f_reductions, 2, "reductions");
  check_program(c, f_products, 3, "products");
  check_program(c, f_ends, 2, "ends");
  pl_context_free(c);
}

/* The compression is remembered with the index data: other indices give another, the same ones the same. */
static void remembered(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  pl_value inputs[8] = {vector(c, N, 0.4, 0.3), indices(c, 4, (int64_t[]){2, 5, 2, 6})};
  pl_body *b = trace(c, f_gather, 2, inputs, false);
  pl_compression k, again, other;
  assert_true(pl_body_compression(c, b, inputs, 0, 0, false, &k));
  inputs[1] = indices(c, 4, (int64_t[]){2, 5, 2, 6});
  assert_true(pl_body_compression(c, b, inputs, 0, 0, false, &again));
  assert_ptr_equal(k.pattern, again.pattern);
  assert_int_equal(k.seeds, again.seeds);
  inputs[1] = indices(c, 4, (int64_t[]){1, 2, 3, 4});
  assert_true(pl_body_compression(c, b, inputs, 0, 0, false, &other));
  assert_int_not_equal(k.seeds, other.seeds);
  inputs[1] = indices(c, 4, (int64_t[]){2, 5, 2, 6});
  assert_true(pl_body_compression(c, b, inputs, 0, 0, false, &again));
  assert_int_equal(k.seeds, again.seeds);
  /* not known: everything that is gathered */
  pl_pattern *p = pl_body_jacobian_pattern(c, b, NULL, 0, 0);
  assert_int_equal(p->nnz, N * N);
  pl_object_release(&p->base);
  /* errors */
  assert_false(pl_body_compression(c, b, inputs, 1, 0, false, &again));
  assert_int_equal(c->status, PL_ERROR_ARGUMENT);
  pl_clear(c);
  assert_false(pl_body_compression(c, b, inputs, 0, 0, true, &again));
  assert_int_equal(c->status, PL_ERROR_SHAPE);
  pl_clear(c);
  assert_false(pl_body_compression(c, b, inputs, 0, 1, false, &again));
  assert_int_equal(c->status, PL_ERROR_TYPE);
  pl_clear(c);
  pl_body_release(b);
  pl_context_free(c);
}

static pl_value f_running(pl_context *c, pl_value x, pl_value index) {
  (void)index;
  return call1(c, "cumsum", x, (pl_attr[]){PL_INT(0), PL_INT(0)});
}

static void budget(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  pl_value inputs[8] = {vector(c, 20000, 0, 1), indices(c, 1, (int64_t[]){1})};
  pl_body *b = trace(c, f_running, 2, inputs, false);
  pl_set_budget(c, 50 << 20); /* its pattern has 2e8 entries */
  assert_null(pl_body_jacobian_pattern(c, b, inputs, 0, 0));
  assert_int_equal(c->status, PL_ERROR_MEMORY);
  if (!strstr(c->message, "too dense")) fail_msg("message: %s", c->message);
  pl_clear(c);
  pl_body_release(b);
  pl_context_free(c);
}

/* Every allocation failed in turn: an error, and nothing lost. */
static void faults(void **state) {
  (void)state;
  int failed = 0;
  for (int n = 0; n < 400; n++) {
    pl_context *c = pl_context_new();
    matrix = test_matrix(c);
    pl_value inputs[8] = {vector(c, N, 0.4, 0.3), indices(c, 4, (int64_t[]){2, 5, 2, 6})};
    pl_body *b = trace(c, n & 1 ? f_gather : f_products, n & 1 ? 2 : 3, inputs, true);
    pl_compression k;
    pl_linearization l;
    c->fail_after = n / 2;
    bool ok = pl_body_compression(c, b, inputs, 0, 0, false, &k) && pl_body_linearize(c, b, (uint8_t[8]){1}, &l) &&
              pl_body_transposed(c, l.tangent, 1);
    c->fail_after = -1;
    assert_true(ok == (c->status == PL_OK));
    failed += !ok;
    pl_clear(c);
    assert_true(pl_body_compression(c, b, inputs, 0, 0, false, &k));
    pl_body_release(b);
    pl_context_free(c);
  }
  assert_true(failed > 100);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(known_patterns), cmocka_unit_test(random_patterns),
                                     cmocka_unit_test(programs),       cmocka_unit_test(remembered),
                                     cmocka_unit_test(budget),         cmocka_unit_test(faults)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
