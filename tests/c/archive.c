/* Programs on disk: round trips, and files that lie. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "body.h"
#include "helpers.h"
#include "pattern.h"
#include "sparse.h"

enum { N = 5, MOST = 64, BLOCK = 1 << 20 };
static char folder[] = "/tmp/perilune_archive_XXXXXX", path[64], other[64];

static void ok(pl_context *c) {
  if (pl_error_status(c)) fail_msg("%s", pl_error_message(c));
}
/* ---- files ---- */

static unsigned char *read_file(const char *name, size_t *n) {
  FILE *f = fopen(name, "rb");
  assert_non_null(f);
  fseek(f, 0, SEEK_END);
  *n = (size_t)ftell(f);
  rewind(f);
  unsigned char *p = malloc(*n + 1);
  assert_int_equal(fread(p, 1, *n, f), *n);
  fclose(f);
  return p;
}
static void write_file(const char *name, const void *p, size_t n) {
  FILE *f = fopen(name, "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(p, 1, n, f), n);
  fclose(f);
}
/* Of small files. */
static void mend_checksum(unsigned char *p, size_t n) {
  assert_true(n < BLOCK);
  uint64_t h = pl_hash(0, p, n - 8);
  memcpy(p + n - 8, &h, 8);
}

/* ---- programs ---- */

static pl_value op(pl_context *c, const char *name, int n, const pl_value *in, const pl_attr *attrs) {
  return pl_apply1(c, pl_op_find(name), n, in, attrs);
}
static pl_value op1(pl_context *c, const char *name, pl_value x, const pl_attr *attrs) {
  return op(c, name, 1, &x, attrs);
}
static pl_value op2(pl_context *c, const char *name, pl_value x, pl_value y, const pl_attr *attrs) {
  return op(c, name, 2, (pl_value[]){x, y}, attrs);
}
static const pl_attr ALL[] = {{.type = PL_ATTR_INTS, .n = -1}, {.type = PL_ATTR_INT}};

/* A program and all of its inputs: those of the trace, then what it captured. */
typedef struct {
  pl_body *body;
  int n, n_captured;
  pl_value in[MOST];
} program;

static void begin(pl_context *c, program *p, pl_trace **t, pl_value *x) {
  ok(c);
  assert_non_null(*t = pl_trace_like(c, p->n, p->in, p->n, x));
}
/* Captured values are retained: they outlive the trace. */
static void finish(pl_context *c, program *p, pl_trace *t, int n_out, const pl_value *out) {
  ok(c);
  pl_set_line(c, pl_source(c, "model.lua"), 9);
  p->body = pl_trace_end(c, t, n_out, out);
  ok(c);
  p->n_captured = pl_trace_captures(c, t, p->in + p->n);
  for (int i = 0; i < p->n_captured; i++) pl_retain(c, p->in[p->n + i]);
  p->n += p->n_captured;
  pl_trace_free(c, t);
}
static void drop(pl_context *c, program *p) {
  for (int i = 0; i < p->n; i++) pl_release(c, p->in[i]);
  pl_body_release(p->body);
}

/* Every kind of attribute and dtype, constants, numbers, zeros. */
static program everything(pl_context *c) {
  program p = {.n = 3};
  pl_trace *t;
  pl_value x[3], out[8];
  uint8_t mask[] = {1, 0, 1, 1, 0, 1};
  int64_t index[] = {3, 1};
  p.in[0] = op1(c, "reshape", ramp(c, 6, 0.3, 0.2), &PL_INTS(2, ((int64_t[]){2, 3})));
  p.in[1] = pl_tensor(c, PL_BOOL, 2, (int64_t[]){2, 3}, mask);
  p.in[2] = pl_tensor(c, PL_I64, 1, (int64_t[]){2}, index);
  pl_value owned = ramp(c, 3, 2, 1);
  begin(c, &p, &t, x);
  pl_set_line(c, pl_source(c, "model.lua"), 3);
  pl_value y = op1(c, "softplus", x[0], &PL_REALV(2.5));
  y = op(c, "where", 3, (pl_value[]){x[1], y, pl_constant(c, PL_F64, -0.25)}, NULL);
  pl_set_line(c, pl_source(c, "other.lua"), 70);
  y = op2(c, "mul", y, pl_number(c, PL_F64, 1.75), NULL);
  y = op2(c, "add", y, owned, NULL);
  out[0] = op1(c, "cast", y, &PL_INT(PL_F32));
  out[1] = op2(c, "gather", y, x[2], &PL_INT(1));
  out[2] = op1(c, "sum", y, (pl_attr[]){PL_INTS(1, &(int64_t){-1}), PL_INT(1)});
  out[3] = op1(c, "transpose", y, &PL_INTS(-1, NULL));
  out[4] = op1(
      c, "slice", y,
      (pl_attr[]){PL_INTS(2, ((int64_t[]){1, 2})), PL_INTS(2, ((int64_t[]){-1, -2})), PL_INTS(2, ((int64_t[]){2, 2}))});
  out[5] = op2(c, "add", x[2], pl_number(c, PL_I64, 4), NULL);
  pl_value z = op(c, "zeros", 0, NULL, (pl_attr[]){PL_INTS(2, ((int64_t[]){2, 3})), PL_INT(PL_F64)});
  out[6] = op2(c, "sub", z, op1(c, "sum", y, ALL), NULL);
  out[7] = x[1];
  finish(c, &p, t, 8, out);
  pl_release(c, owned);
  return p;
}

/* Traces a body in the open trace; its inputs, given and captured, are appended. */
typedef pl_value (*step)(pl_context *c, const pl_value *x);
static pl_body *inner(pl_context *c, int n, int whole, pl_value *in, int *n_in, step f, int n_out, pl_value keep) {
  pl_value x[MOST], out[2];
  pl_trace *t = pl_trace_like(c, n, in, whole, x);
  assert_non_null(t);
  x[n] = keep;
  out[0] = f(c, x);
  out[1] = out[0];
  pl_body *b = pl_trace_end(c, t, n_out, out);
  ok(c);
  *n_in = n + pl_trace_captures(c, t, in + n);
  for (int i = n; i < *n_in; i++) pl_retain(c, in[i]); /* the context's end frees them */
  pl_trace_free(c, t);
  return b;
}
static pl_value advance(pl_context *c, const pl_value *x) { /* state, x -> tanh(captured*state) + 0.5 x */
  return op2(c, "add", op1(c, "tanh", op2(c, "mul", x[0], x[2], NULL), NULL),
             op2(c, "mul", x[1], pl_number(c, PL_F64, 0.5), NULL), NULL);
}
static pl_value small(pl_context *c, const pl_value *x) {
  return op2(c, "lt", op1(c, "sum", x[0], ALL), pl_number(c, PL_F64, 40), NULL);
}
static pl_value twice(pl_context *c, const pl_value *x) { return op2(c, "mul", x[0], x[1], NULL); }
static pl_value lesser(pl_context *c, const pl_value *x) { return op2(c, "sub", x[0], pl_number(c, PL_F64, 1), NULL); }

/* scan (stored, or with checkpoints), while, cond and call. */
static program loops(pl_context *c, int64_t checkpoints) {
  program p = {.n = 3};
  pl_trace *t;
  pl_value x[3], in[MOST], out[4];
  p.in[0] = ramp(c, N, 0.1, 0.1);
  p.in[1] = op1(c, "reshape", ramp(c, 6 * N, -1, 0.07), &PL_INTS(2, ((int64_t[]){6, N})));
  p.in[2] = pl_tensor(c, PL_F64, 0, NULL, &(double){1.3});
  begin(c, &p, &t, x);
  pl_set_line(c, pl_source(c, "loop.lua"), 12);
  int n, n_cond, n_step;
  in[0] = x[0], in[1] = x[1];
  pl_body *b = inner(c, 2, 1, in, &n, advance, 2, x[2]);
  int64_t layout[] = {1, 1, 1, 6, 0, 0};
  pl_apply(c, pl_op_find("scan"), n, in,
           (pl_attr[]){PL_OBJECT(pl_body_object(b)), PL_INTS(6, layout), PL_INTS(checkpoints ? 1 : 0, &checkpoints)},
           out);
  pl_body_release(b);
  pl_value state = op1(c, "abs", out[0], NULL), stack = out[1], from[MOST];
  in[0] = from[0] = state;
  pl_body *cond = inner(c, 1, 1, in, &n_cond, small, 1, PL_NONE), *body = inner(c, 1, 1, from, &n_step, twice, 1, x[2]);
  for (int i = 1; i < n_step; i++) in[n_cond + i - 1] = from[i];
  int64_t list[] = {1, n_cond - 1, 1000, 0};
  pl_apply(c, pl_op_find("while"), n_cond + n_step - 1, in,
           (pl_attr[]){PL_OBJECT(pl_body_object(cond)), PL_OBJECT(pl_body_object(body)), PL_INTS(4, list)}, out);
  pl_body_release(cond);
  state = out[0];
  in[0] = op2(c, "gt", x[2], pl_constant(c, PL_F64, 1), NULL);
  in[1] = state;
  pl_body *yes = inner(c, 1, 1, in + 1, &n, lesser, 1, PL_NONE);
  in[1 + n] = state;
  for (int i = 1; i < n_step; i++) in[1 + n + i] = from[i];
  pl_value chosen =
      op(c, "cond", 1 + n + n_step, in, (pl_attr[]){PL_OBJECT(pl_body_object(yes)), PL_OBJECT(pl_body_object(body))});
  from[0] = chosen;
  pl_value called = op(c, "call", n_step, from, (pl_attr[]){PL_OBJECT(pl_body_object(body)), PL_INT(1)});
  pl_body_release(yes);
  pl_body_release(body);
  out[0] = op2(c, "add", op1(c, "sum", called, ALL), op1(c, "sum", stack, ALL), NULL);
  finish(c, &p, t, 1, out);
  return p;
}

/* The program of its value and gradients. */
static program gradient(pl_context *c, program p, int wanted) {
  uint8_t need[MOST] = {0}, reached[MOST];
  for (int i = 0; i < wanted; i++) need[i] = 1;
  pl_body *b = pl_body_with_gradient(c, p.body, need, reached);
  ok(c);
  pl_body_release(p.body);
  p.body = b;
  return p;
}

static pl_sparse matrix(pl_context *c, pl_value values) {
  int32_t ptr[N + 1] = {0}, col[3 * N], n = 0;
  for (int i = 0; i < N; i++) {
    for (int j = i - 1; j <= i + 1; j++)
      if (j >= 0 && j < N) col[n++] = j;
    ptr[i + 1] = n;
  }
  return (pl_sparse){(pl_object *)pl_pattern_new(c, N, N, ptr, col), values};
}
static pl_value solve_step(pl_context *c, const pl_value *x) { /* state, x; captured: the factor and the values */
  pl_sparse a = matrix(c, x[3]);
  pl_value y = pl_sparse_solve(c, x[2], a, op2(c, "add", x[0], x[1], NULL), false);
  pl_object_release(a.pattern);
  return y;
}

/* A solve, a matrix product, and steps that solve with a factor made outside of them. */
static program sparse(pl_context *c) {
  program p = {.n = 3};
  pl_trace *t;
  pl_value x[3], in[MOST], keep[MOST], out[4], y[2];
  double v[3 * N - 2];
  for (int i = 0; i < 3 * N - 2; i++) v[i] = i % 3 == 0 ? 5 + i : -1;
  p.in[0] = pl_tensor(c, PL_F64, 1, (int64_t[]){3 * N - 2}, v);
  p.in[1] = ramp(c, N, 1, 0.5);
  p.in[2] = op1(c, "reshape", ramp(c, 4 * N, -1, 0.1), &PL_INTS(2, ((int64_t[]){4, N})));
  begin(c, &p, &t, x);
  pl_sparse a = matrix(c, x[0]), b = pl_sparse_multiply(c, a, a), k = pl_sparse_gram(c, a, x[1]);
  pl_value f = pl_sparse_factor(c, a, PL_SOLVER_KLU);
  y[0] = pl_sparse_solve(c, f, a, pl_sparse_apply(c, b, x[1]), true);
  y[1] = pl_sparse_apply(c, k, y[0]);
  in[0] = y[1], in[1] = x[2];
  pl_value inputs[4];
  pl_trace *u = pl_trace_like(c, 2, in, 1, inputs);
  inputs[2] = f, inputs[3] = x[0];
  keep[0] = solve_step(c, inputs);
  pl_body *s = pl_trace_end(c, u, 1, keep);
  ok(c);
  int n = 2 + pl_trace_captures(c, u, in + 2);
  pl_trace_free(c, u);
  int64_t layout[] = {1, 1, 0, 4, 0, 0};
  out[0] = op(c, "scan", n, in, (pl_attr[]){PL_OBJECT(pl_body_object(s)), PL_INTS(6, layout), PL_INTS(0, NULL)});
  out[0] = op1(c, "sum", op2(c, "mul", out[0], y[0], NULL), ALL);
  pl_body_release(s);
  pl_object_release(a.pattern);
  pl_object_release(b.pattern);
  pl_object_release(k.pattern);
  finish(c, &p, t, 1, out);
  return p;
}

/* ---- round trips ---- */

static void save(pl_context *c, const program *p, const char *name) {
  pl_body_save(c, p->body, p->n_captured, p->in + p->n - p->n_captured, "tree\0s", 6, name);
  ok(c);
}
static int outputs_of(const pl_body *b) { return b->n_out; }
static void run(pl_context *c, pl_body *b, int n, const pl_value *in, pl_value *out) {
  pl_apply(c, pl_op_find("call"), n, in, (pl_attr[]){PL_OBJECT(pl_body_object(b)), PL_INT(0)}, out);
}
static size_t bytes_of(const pl_slot *s) { return (size_t)s->count * pl_dtype_size((pl_dtype)s->dtype); }

static void round_trip(pl_context *c, program p) {
  ok(c);
  save(c, &p, path);
  pl_value captured[MOST], out[MOST], again[MOST];
  int n, first = p.n - p.n_captured;
  char *text;
  size_t length;
  /* at home: the same program */
  pl_body *b = pl_body_load(c, path, MOST, captured, &n, &text, &length);
  ok(c);
  assert_ptr_equal(b, p.body);
  assert_int_equal(n, p.n_captured);
  assert_int_equal(length, 6);
  assert_memory_equal(text, "tree\0s", 7);
  free(text);
  for (int i = 0; i < n; i++) {
    pl_slot *s = pl_slot_find(c, captured[i]), *t = pl_slot_find(c, p.in[first + i]);
    assert_int_equal(s->dtype, t->dtype);
    assert_memory_equal(s->data, t->data, bytes_of(t));
    pl_release(c, captured[i]);
  }
  pl_body_release(b);
  /* elsewhere: the same results, and the same file from it */
  pl_context *d = pl_context_new();
  pl_source(d, "first.lua"); /* sources have other numbers there */
  b = pl_body_load(d, path, MOST, captured, &n, &text, &length);
  ok(d);
  free(text);
  pl_value in[MOST];
  for (int i = 0; i < p.n; i++) {
    pl_slot *s = pl_slot_find(c, p.in[i]);
    int64_t shape[PL_MAX_RANK];
    for (int a = 0; a < s->rank; a++) shape[a] = s->shape[a];
    in[i] = i < first ? pl_tensor(d, (pl_dtype)s->dtype, s->rank, shape, s->data) : captured[i - first];
  }
  run(c, p.body, p.n, p.in, out);
  ok(c);
  run(d, b, p.n, in, again);
  ok(d);
  for (int i = 0; i < outputs_of(b); i++) {
    pl_slot *s = pl_slot_find(c, out[i]), *t = pl_slot_find(d, again[i]);
    assert_int_equal(s->dtype, t->dtype);
    assert_int_equal(s->rank, t->rank);
    assert_memory_equal(s->shape, t->shape, s->rank * sizeof *s->shape);
    assert_memory_equal(s->data, t->data, bytes_of(s));
    for (int64_t j = 0; s->dtype == PL_F64 && j < s->count; j++) assert_true(isfinite(((double *)s->data)[j]));
    pl_release(c, out[i]);
  }
  char line[PL_TEXT], here[PL_TEXT];
  for (int64_t k = 0; k < b->code.n; k++)
    assert_string_equal(pl_line_text(d, b->code.instructions[k].line, line),
                        pl_line_text(c, p.body->code.instructions[k].line, here));
  pl_body_save(d, b, n, captured, "tree\0s", 6, other);
  ok(d);
  size_t n1, n2;
  unsigned char *one = read_file(path, &n1), *two = read_file(other, &n2);
  assert_int_equal(n1, n2);
  assert_memory_equal(one, two, n1);
  free(one);
  free(two);
  pl_body_release(b);
  pl_context_free(d);
  drop(c, &p);
}

static void round_trips(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  round_trip(c, everything(c));
  round_trip(c, loops(c, 0));
  round_trip(c, loops(c, 2));
  round_trip(c, gradient(c, loops(c, 0), 2));
  round_trip(c, gradient(c, loops(c, 2), 3)); /* scan_reverse from checkpoints, and of a while loop */
  round_trip(c, sparse(c));
  round_trip(c, gradient(c, sparse(c), 2));
  pl_context_free(c);
}

/* Longer than the blocks that are hashed at once, and just as long as some. */
static void large(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  for (int k = 0; k < 3; k++) {
    program p = {.n = 1};
    pl_trace *t;
    pl_value x[1], out[1];
    p.in[0] = ramp(c, 1, 2, 0);
    size_t size;
    int64_t count = 300000;
    if (k > 0) { /* a file of exactly one block before its checksum */
      free(read_file(path, &size));
      count = (BLOCK - (int64_t)(size - 8 - 300000 * 8)) / 8 + (k == 2);
    }
    pl_value big = pl_tensor(c, PL_F64, 1, &count, NULL);
    for (int64_t i = 0; i < count; i++) ((double *)pl_slot_find(c, big)->data)[i] = sin((double)i);
    begin(c, &p, &t, x);
    out[0] = op1(c, "sum", op2(c, "mul", x[0], big, NULL), ALL);
    finish(c, &p, t, 1, out);
    pl_release(c, big);
    char text[16] = {0};
    if (k == 0) pl_body_save(c, p.body, 1, p.in + 1, text, 0, path);
    else pl_body_save(c, p.body, 1, p.in + 1, text, (size_t)(BLOCK - (int64_t)(size - 8 - 300000 * 8)) % 8, other);
    ok(c);
    if (k == 1) {
      free(read_file(other, &size));
      assert_int_equal(size, BLOCK + 8);
      free(read_file(path, &size));
    }
    pl_value captured[1];
    int n;
    char *read;
    pl_body *b = pl_body_load(c, k ? other : path, 1, captured, &n, &read, &size);
    ok(c);
    free(read);
    assert_ptr_equal(b, p.body);
    assert_memory_equal(pl_data(c, captured[0]), pl_data(c, p.in[1]), (size_t)count * 8);
    pl_release(c, captured[0]);
    pl_body_release(b);
    drop(c, &p);
  }
  pl_context_free(c);
}

/* Nested bodies stand once in the file, however often they are used. */
static void shared(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  size_t sizes[2];
  for (int k = 0; k < 2; k++) {
    program p = {.n = 1};
    pl_trace *t;
    pl_value x[1], in[MOST];
    p.in[0] = ramp(c, 3, 1, 1);
    begin(c, &p, &t, x);
    int n;
    in[0] = x[0];
    pl_body *b = inner(c, 1, 1, in, &n, lesser, 1, PL_NONE);
    for (int i = 0; i < 2 + k; i++) in[0] = op(c, "call", n, in, (pl_attr[]){PL_OBJECT(pl_body_object(b)), PL_INT(0)});
    pl_body_release(b);
    finish(c, &p, t, 1, in);
    save(c, &p, path);
    free(read_file(path, &sizes[k]));
    drop(c, &p);
  }
  assert_int_equal(sizes[1] - sizes[0], 16 + 2 * 4 + 5 + 9); /* one instruction of two inputs and two attributes */
  pl_context_free(c);
}

/* ---- errors ---- */

static pl_body *load(pl_context *c, const char *name) {
  pl_value captured[MOST];
  int n;
  char *text;
  size_t length;
  pl_body *b = pl_body_load(c, name, MOST, captured, &n, &text, &length);
  free(text);
  for (int i = 0; i < n; i++) pl_release(c, captured[i]);
  assert_true(b != NULL || pl_error_status(c));
  return b;
}
static int files_in_folder(void) {
  char command[128], answer[16] = "";
  snprintf(command, sizeof command, "ls -A %s | wc -l", folder);
  FILE *f = popen(command, "r");
  assert_non_null(fgets(answer, sizeof answer, f));
  pclose(f);
  return atoi(answer);
}

static void resources(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  unlink(path);
  pl_sparse a = matrix(c, ramp(c, 3 * N - 2, 9, 7));
  pl_value f = pl_sparse_factor(c, a, PL_SOLVER_KLU);
  program p = {.n = 1};
  pl_trace *t;
  pl_value x[1], y;
  p.in[0] = ramp(c, N, 1, 1);
  begin(c, &p, &t, x);
  y = pl_sparse_solve(c, f, a, x[0], false);
  finish(c, &p, t, 1, &y);
  assert_false(pl_body_save(c, p.body, p.n_captured, p.in + 1, "", 0, path));
  assert_error(c, PL_ERROR_TYPE, "matrix factor");
  assert_int_equal(access(path, F_OK), -1);
  drop(c, &p);
  p = (program){.n = 1};
  p.in[0] = ramp(c, N, 1, 1);
  begin(c, &p, &t, x);
  y = pl_sparse_factor(c, matrix(c, op2(c, "add", ramp(c, 3 * N - 2, 9, 7), x[0], NULL)), PL_SOLVER_KLU);
  pl_clear(c); /* shapes do not fit */
  y = pl_sparse_factor(c, (pl_sparse){a.pattern, op1(c, "reshape", x[0], &PL_INTS(1, &(int64_t){N}))}, PL_SOLVER_KLU);
  finish(c, &p, t, 1, &y);
  assert_false(pl_body_save(c, p.body, 0, NULL, "", 0, path));
  assert_error(c, PL_ERROR_TYPE, "result 1");
  /* the wrong number or shape of captured values */
  assert_false(pl_body_save(c, p.body, 2, p.in, "", 0, path));
  assert_error(c, PL_ERROR_TYPE, "result 1");
  drop(c, &p);
  p = everything(c);
  assert_false(pl_body_save(c, p.body, 1, p.in, "", 0, path));
  assert_error(c, PL_ERROR_SHAPE, "captured value 1 is f64 {2, 3}, the program was made for f64 {");
  assert_false(pl_body_save(c, p.body, 99, p.in, "", 0, path));
  assert_error(c, PL_ERROR_ARGUMENT, "99 captured values");
  drop(c, &p);
  pl_context_free(c);
}

/* A factor of one matrix does not solve with another, though a trace cannot see it. */
static void wrong_factor(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  program p = {.n = 2};
  pl_trace *t;
  pl_value x[2], y;
  p.in[0] = ramp(c, 2, 1, 1);
  p.in[1] = ramp(c, 3 * N - 2, 9, 7);
  begin(c, &p, &t, x);
  pl_sparse a = {(pl_object *)pl_pattern_new(c, 2, 2, (int32_t[]){0, 1, 2}, (int32_t[]){0, 1}), x[0]},
            b = matrix(c, x[1]);
  y = pl_sparse_solve(c, pl_sparse_factor(c, a, PL_SOLVER_KLU), b, pl_constant(c, PL_F64, 1), false);
  pl_clear(c);
  y = pl_sparse_solve(c, pl_sparse_factor(c, a, PL_SOLVER_KLU), b,
                      op1(c, "slice", x[1],
                          (pl_attr[]){PL_INTS(1, &(int64_t){0}), PL_INTS(1, &(int64_t){1}), PL_INTS(1, &(int64_t){N})}),
                      false);
  finish(c, &p, t, 1, &y);
  run(c, p.body, p.n, p.in, &y);
  assert_error(c, PL_ERROR_ARGUMENT, "another matrix");
  pl_object_release(a.pattern);
  pl_object_release(b.pattern);
  drop(c, &p);
  pl_context_free(c);
}

static void unwritable(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  program p = everything(c), q = loops(c, 0);
  save(c, &p, path);
  int files = files_in_folder();
  char missing[128];
  snprintf(missing, sizeof missing, "%s/none/x", folder);
  assert_false(pl_body_save(c, p.body, 0, NULL, "", 0, missing));
  assert_error(c, PL_ERROR_STATE, "No such file");
  assert_false(pl_body_save(c, p.body, 0, NULL, "", 0, folder));
  assert_error(c, PL_ERROR_STATE, "directory");
  /* a full disk, in the middle of the file: the older one stays */
  struct rlimit limit, small_limit;
  getrlimit(RLIMIT_FSIZE, &limit);
  small_limit = limit;
  small_limit.rlim_cur = 300;
  signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &small_limit);
  bool saved = pl_body_save(c, q.body, q.n_captured, q.in + 3, "", 0, path);
  setrlimit(RLIMIT_FSIZE, &limit);
  assert_false(saved);
  assert_error(c, PL_ERROR_STATE, "cannot write");
  assert_int_equal(files_in_folder(), files);
  pl_body *b = load(c, path);
  ok(c);
  assert_ptr_equal(b, p.body);
  pl_body_release(b);
  save(c, &q, path); /* and then it is replaced */
  assert_int_equal(files_in_folder(), files);
  b = load(c, path);
  assert_ptr_equal(b, q.body);
  pl_body_release(b);
  assert_null(load(c, missing));
  assert_error(c, PL_ERROR_STATE, "cannot read");
  assert_null(load(c, folder));
  assert_true(pl_error_status(c) != PL_OK);
  pl_clear(c);
  drop(c, &p);
  drop(c, &q);
  pl_context_free(c);
}

static void headers(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  program p = everything(c);
  save(c, &p, path);
  size_t n;
  unsigned char *file = read_file(path, &n);
  file[12] = 7;
  write_file(other, file, n);
  assert_null(load(c, other));
  assert_error(c, PL_ERROR_ARGUMENT, "version 7 of the format, this Perilune (0.1.0) reads version 1");
  file[12] = 1;
  uint32_t mark;
  memcpy(&mark, file + 8, 4);
  mark = __builtin_bswap32(mark);
  memcpy(file + 8, &mark, 4);
  write_file(other, file, n);
  assert_null(load(c, other));
  assert_error(c, PL_ERROR_ARGUMENT, "byte order");
  file[0] = 'X';
  write_file(other, file, n);
  assert_null(load(c, other));
  assert_error(c, PL_ERROR_ARGUMENT, "does not begin");
  free(file);
  /* an op that there is not */
  file = read_file(path, &n);
  for (size_t i = 0; i + 8 < n; i++)
    if (!memcmp(file + i, "softplus", 8)) memcpy(file + i, "hardplus", 8);
  mend_checksum(file, n);
  write_file(other, file, n);
  assert_null(load(c, other));
  assert_error(c, PL_ERROR_ARGUMENT, "it needs the op 'hardplus'");
  free(file);
  /* more captured values than there is room for */
  pl_value captured[1];
  int m;
  char *text;
  assert_null(pl_body_load(c, path, 1, captured, &m, &text, &n));
  assert_error(c, PL_ERROR_ARGUMENT, "2 captured values");
  assert_int_equal(m, 0);
  assert_null(text);
  drop(c, &p);
  pl_context_free(c);
}

/* ---- hostile files ---- */

static pl_context *running;
static void stop(int signal_) {
  (void)signal_;
  pl_interrupt(running);
}

/* A program that came through is run, on zeros, when it is small; it may fail, but not crash. */
static void try_run(pl_context *c, pl_body *b) {
  pl_value in[MOST], out[PL_MAX_OUTPUTS];
  int64_t total = 0;
  for (int v = 0; v < b->n_values; v++) total += b->specs[v].dtype == PL_DTYPES ? 0 : pl_spec_count(&b->specs[v]);
  if (total > 100000 || b->n_in > MOST) return;
  for (int i = 0; i < b->n_in; i++) {
    int64_t shape[PL_MAX_RANK];
    for (int a = 0; a < b->specs[i].rank; a++) shape[a] = b->specs[i].shape[a];
    in[i] = pl_tensor(c, b->specs[i].dtype, b->specs[i].rank, shape, NULL);
  }
  running = c;
  struct itimerval second = {.it_value = {0, 200000}}, none = {.it_value = {0}};
  setitimer(ITIMER_REAL, &second, NULL);
  run(c, b, b->n_in, in, out);
  setitimer(ITIMER_REAL, &none, NULL);
  if (c->status == PL_OK)
    for (int i = 0; i < b->n_out; i++) pl_release(c, out[i]);
  pl_clear(c);
  pl_clear_interrupt(c);
  for (int i = 0; i < b->n_in; i++) pl_release(c, in[i]);
}

/* Cuts a file at every length, and changes bytes of it: with the checksum as it was, always an error; with one that
 * fits, an error or a program that is safe to run. Nothing leaks. */
static void attack(program (*make)(pl_context *c), int flips, int *came_through) {
  pl_context *c = pl_context_new();
  program p = make(c);
  save(c, &p, path);
  size_t n, cut;
  unsigned char *file = read_file(path, &n), *bad = malloc(n);
  drop(c, &p);
  pl_context_free(c);
  c = pl_context_new();
  pl_set_budget(c, 64 << 20);
  assert_true(n < 8192);
  for (cut = 0; cut < n; cut++) {
    write_file(other, file, cut);
    assert_null(load(c, other));
    assert_int_equal(pl_error_status(c), PL_ERROR_ARGUMENT);
    pl_clear(c);
    if (cut < 24) continue;
    memcpy(bad, file, cut);
    mend_checksum(bad, cut);
    write_file(other, bad, cut);
    assert_null(load(c, other));
    pl_clear(c);
  }
  signal(SIGALRM, stop);
  int64_t live = pl_live_values(c), objects = c->n_objects;
  size_t used = 0;
  pl_sampler_random r = {2026};
  *came_through = 0;
  for (int k = 0; k < flips; k++) {
    memcpy(bad, file, n);
    int changes = 1 + k % 2;
    for (int j = 0; j < changes; j++) {
      size_t i = (size_t)pl_sample_uniform(&r, 16, (double)n - 8);
      uint8_t bits = (uint8_t)(1 + (int)pl_sample_uniform(&r, 0, 255));
      static const uint8_t edges[] = {0, 1, 2, 3, 4, 7, 8, 9, 127, 128, 254, 255};
      bad[i] = k % 3 == 0 ? edges[(int)pl_sample_uniform(&r, 0, sizeof edges)] : bad[i] ^ bits;
    }
    if (!memcmp(bad, file, n)) continue;
    if (k % 4 == 0) {
      write_file(other, bad, n);
      assert_null(load(c, other));
      assert_error(c, PL_ERROR_ARGUMENT, "damaged");
    }
    mend_checksum(bad, n);
    write_file(other, bad, n);
    pl_body *b = load(c, other);
    if (b) {
      (*came_through)++;
      try_run(c, b);
      pl_body_release(b);
    }
    pl_clear(c);
    if (c->n_sources > 3000) { /* names of sources stay */
      pl_context_free(c);
      c = pl_context_new();
      pl_set_budget(c, 64 << 20);
      live = objects = 0;
      used = SIZE_MAX / 2;
    }
    assert_int_equal(c->n_objects, objects);
    assert_true(pl_live_values(c) <= live + 40); /* constants may stay */
    if (k == 500) used = pl_bytes_used(c);
    if (k > 500) assert_true(pl_bytes_used(c) <= used + 100000); /* tables grow, blocks are not lost */
    assert_null(c->recording);
    assert_null(c->scope);
  }
  free(file);
  free(bad);
  pl_context_free(c);
}
static program plain_loops(pl_context *c) { return loops(c, 0); }
static program checkpointed(pl_context *c) { return gradient(c, loops(c, 2), 1); }
static void hostile(void **state) {
  (void)state;
  int through[4];
  attack(everything, 5000, &through[0]);
  attack(plain_loops, 5000, &through[1]);
  attack(sparse, 5000, &through[2]);
  attack(checkpointed, 5000, &through[3]);
  for (int k = 0; k < 4; k++) assert_true(through[k] > 20); /* changed numbers are no lies */
}

/* Allocations that fail, one after the other. */
static void failing_allocations(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  program p = gradient(c, sparse(c), 2);
  save(c, &p, path);
  drop(c, &p);
  pl_context_free(c);
  c = pl_context_new();
  pl_body *b = NULL;
  int k = 0;
  for (; !b && k < 5000; k++) {
    int64_t live = pl_live_values(c);
    size_t used = pl_bytes_used(c);
    c->fail_after = k;
    b = load(c, path);
    c->fail_after = -1;
    if (b) break;
    assert_error(c, PL_ERROR_MEMORY, "out of memory");
    assert_int_equal(c->n_objects, 0);
    assert_true(pl_live_values(c) <= live + 2);
    assert_true(pl_bytes_used(c) <= used + 1000000); /* tables that stay: slots, objects */
  }
  assert_true(b && k > 30);
  for (int j = 0; j < 5000; j++) {
    c->fail_after = j;
    bool saved = pl_body_save(c, b, 0, NULL, "", 0, other);
    c->fail_after = -1;
    if (saved) break;
    assert_error(c, PL_ERROR_MEMORY, "out of memory");
    assert_true(j < 4999);
  }
  assert_int_equal(files_in_folder(), 2);
  pl_body_release(b);
  pl_context_free(c);
}

int main(void) {
  if (!mkdtemp(folder)) return 1;
  snprintf(path, sizeof path, "%s/one", folder);
  snprintf(other, sizeof other, "%s/two", folder);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(round_trips),  cmocka_unit_test(large),      cmocka_unit_test(shared),
      cmocka_unit_test(resources),    cmocka_unit_test(unwritable), cmocka_unit_test(headers),
      cmocka_unit_test(wrong_factor), cmocka_unit_test(hostile),    cmocka_unit_test(failing_allocations)};
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  unlink(path);
  unlink(other);
  rmdir(folder);
  return failed;
}
