/* Bad calls of every op that users see, made from the op's first samples by changing one thing at a time: an input's
 * rank, size, dtype or entries, an attribute's number or list, the number of inputs. Each must give a valid result or
 * an error that names the op and says with what; nothing crashes, hangs, passes the budget or stays behind. */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "body.h"
#include "execute.h"

enum { BUDGET = 64 << 20, SECONDS = 20, LIST = 16 };

static char doing[300]; /* the call that is made: what a crash was in */
static int calls, refused, wrong;

#define WRONG(...) (printf("%s: ", doing), printf(__VA_ARGS__), printf("\n"), wrong++)

static void crashed(int signal_) {
  char text[400];
  int n = snprintf(text, sizeof text, "signal %d in %s\n", signal_, doing);
  if (write(2, text, (size_t)n) != n) _exit(2);
  _exit(1);
}

/* Is the message one that helps: of the op, with a number, a shape, a dtype or the attribute that is meant? */
static bool helps(const pl_op *op, const char *message) {
  static const char *const words[] = {"bool", "NaN", "nan", "inf", "empty", "no elements", "single number"};
  if (!strstr(message, op->name) || strstr(message, "(null)")) return false;
  bool named = strpbrk(message, "0123456789{");
  for (size_t k = 0; k < sizeof words / sizeof *words; k++) named = named || strstr(message, words[k]);
  for (int k = 0; k < pl_attr_count(op); k++) named = named || strstr(message, op->attrs[k].name);
  return named;
}

/* What the error says must help; that of a derivative (op NULL) is of one of the ops that its rule is made of. */
static void judge(pl_context *c, const pl_op *op) {
  const char *message = pl_error_message(c), *memory = strstr(message, "out of memory: ");
  double more = 1;
  if (!pl_error_status(c)) WRONG("it fails without an error");
  else if (op ? !helps(op, message) : strstr(message, "(null)") != NULL) WRONG("the error says: %s", message);
  if (memory && sscanf(memory, "out of memory: %lf", &more) == 1 && more < 1)
    WRONG("it runs until the memory is used: %s", message);
  if (getenv("PL_SHOW")) printf("    %s -> %s\n", doing, message);
  pl_clear(c);
}
/* Tracing what can be run gives the same shapes. */
static void trace_also(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs,
                       const pl_spec *specs) {
  pl_value inputs[PL_MAX_SAMPLE + 1], out[PL_MAX_OUTPUTS];
  pl_spec spec;
  pl_trace *t = pl_trace_like(c, n, in, n, inputs);
  if (!t || !pl_apply(c, op, n, inputs, attrs, out)) WRONG("it cannot be traced: %s", pl_error_message(c));
  for (int i = 0; i < op->outputs && !c->status; i++) {
    pl_spec_of(pl_slot_get(c, out[i]), &spec);
    if (spec.dtype != PL_DTYPES && !pl_spec_equal(&spec, &specs[i])) WRONG("traced, result %d has another shape", i);
  }
  pl_clear(c);
  pl_trace_free(c, t);
}
/* Its derivative is there, or an error says why not. */
static void differentiate_also(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs) {
  pl_value x[PL_MAX_SAMPLE + 1], active[PL_MAX_SAMPLE + 1], inputs[PL_MAX_SAMPLE + 1], out[PL_MAX_OUTPUTS],
      g[PL_MAX_SAMPLE + 1], seed;
  int at[PL_MAX_SAMPLE + 1], n_active = 0;
  for (int i = 0; i < n; i++) {
    pl_slot *s = pl_slot_get(c, in[i]);
    if (!(s->flags & PL_FLAG_RESOURCE) && s->dtype <= PL_F32) {
      x[n_active] = in[i];
      at[n_active++] = i;
    }
  }
  if (!n_active) return;
  pl_region *r = pl_region_open(c, n_active, x, NULL, active);
  memcpy(inputs, in, (size_t)n * sizeof *in);
  for (int i = 0; i < n_active; i++) inputs[at[i]] = active[i];
  bool ok = pl_apply(c, op, n, inputs, attrs, out);
  pl_region_close(r);
  pl_slot *y = ok ? pl_slot_get(c, out[0]) : NULL;
  if (y && !(y->flags & PL_FLAG_RESOURCE) && y->dtype <= PL_F32) {
    int64_t shape[PL_MAX_RANK];
    for (int a = 0; a < y->rank; a++) shape[a] = y->shape[a];
    seed = pl_tensor(c, (pl_dtype)y->dtype, y->rank, shape, NULL);
    ok = pl_region_vjp(r, 1, out, &seed, g, NULL, true);
    for (int i = 0; ok && i < n_active; i++) {
      pl_spec have, want;
      pl_spec_of(pl_slot_get(c, g[i]), &have);
      pl_spec_of(pl_slot_get(c, x[i]), &want);
      if (!pl_spec_equal(&have, &want)) WRONG("the gradient has another shape than input %d", at[i]);
      pl_release(c, g[i]);
    }
  }
  if (!ok) judge(c, NULL);
  pl_region_free(r);
  if (y) pl_release(c, seed);
}

static void attempt(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs, const char *what,
                    long long number) {
  snprintf(doing, sizeof doing, "%s: %s %lld", op->name, what, number);
  pl_value out[PL_MAX_OUTPUTS];
  pl_spec specs[PL_MAX_OUTPUTS];
  pl_info info;
  alarm(SECONDS);
  calls++;
  if (pl_apply(c, op, n, in, attrs, out)) {
    if (pl_error_status(c)) WRONG("it succeeds with the error %s", pl_error_message(c));
    for (int i = 0; i < op->outputs; i++) {
      pl_slot *s = pl_slot_get(c, out[i]);
      if (!s || !pl_describe(c, out[i], &info)) {
        WRONG("result %d: %s", i, pl_error_message(c));
        pl_clear(c);
        return;
      }
      pl_spec_of(s, &specs[i]);
      if (!info.resource && (info.rank > PL_MAX_RANK || pl_spec_count(&specs[i]) != info.count))
        WRONG("result %d of rank %d has %lld elements", i, info.rank, (long long)info.count);
      pl_release(c, out[i]);
    }
    if (strcmp(op->name, "nonzero")) trace_also(c, op, n, in, attrs, specs); /* its result's size depends on the data */
    differentiate_also(c, op, n, in, attrs);
  } else {
    refused++;
    for (int i = 0; i < op->outputs; i++)
      if (out[i] != PL_NONE) WRONG("it fails with a result");
    if (op->kind == PL_ELEMENTWISE && !strcmp(what, "entries"))
      WRONG("out of domain is no error, but: %s", pl_error_message(c));
    judge(c, op);
  }
  if (pl_bytes_used(c) > BUDGET) WRONG("%zu bytes are in use", pl_bytes_used(c));
  pl_value one = pl_constant(c, PL_F64, 1), two = pl_apply1(c, pl_op_find("add"), 2, (pl_value[]){one, one}, NULL);
  if (pl_item(c, two) != 2) WRONG("the context does not work any more: %s", pl_error_message(c));
  pl_release(c, two);
}

/* ---- inputs ---- */

/* Of the dtype, with entries that suit most ops. */
static pl_value filled(pl_context *c, pl_dtype dtype, int rank, const int64_t *shape, double number) {
  pl_value v = pl_tensor(c, dtype, rank, shape, NULL);
  pl_slot *s = pl_slot_get(c, v);
  for (int64_t i = 0; s && i < s->count; i++) switch (dtype) {
      case PL_F64: ((double *)s->data)[i] = number; break;
      case PL_F32: ((float *)s->data)[i] = (float)number; break;
      case PL_I64: ((int64_t *)s->data)[i] = number < -9e18 ? INT64_MIN : (int64_t)number; break;
      default: ((uint8_t *)s->data)[i] = 1;
    }
  return v;
}
static void with_input(pl_context *c, const pl_op *op, const pl_sample *s, int i, pl_value v, const char *what,
                       long long number) {
  pl_value in[PL_MAX_SAMPLE];
  memcpy(in, s->in, sizeof in);
  in[i] = v;
  attempt(c, op, s->n, in, s->attrs, what, number);
  pl_release(c, v);
}
static void bad_inputs(pl_context *c, const pl_op *op, const pl_sample *s) {
  static const double entries[] = {0, -1, 1000, -1e18, 4e18, -9.3e18};
  static const double floats[] = {NAN, INFINITY, -INFINITY, 0, -1, 1e300, -1e300, 5e-324};
  for (int i = 0; i < s->n; i++) {
    pl_slot *x = pl_slot_get(c, s->in[i]);
    if (x->flags & PL_FLAG_RESOURCE) {
      with_input(c, op, s, i, filled(c, PL_F64, 0, NULL, 1), "a number instead of resource", i);
      continue;
    }
    pl_dtype dtype = (pl_dtype)x->dtype;
    int rank = x->rank;
    int64_t shape[PL_MAX_RANK + 1], eight[PL_MAX_RANK] = {1, 1, 1, 1, 1, 1, 1, 1};
    for (int a = 0; a < rank; a++) shape[a] = x->shape[a];
    with_input(c, op, s, i, filled(c, dtype, 0, NULL, 1), "rank 0 for input", i);
    with_input(c, op, s, i, filled(c, dtype, 1, (int64_t[]){0}, 1), "{0} for input", i);
    with_input(c, op, s, i, filled(c, dtype, PL_MAX_RANK, eight, 1), "rank 8 for input", i);
    eight[7] = eight[6] = 3;
    with_input(c, op, s, i, filled(c, dtype, PL_MAX_RANK, eight, 1), "rank 8, 9 elements, for input", i);
    if (rank < PL_MAX_RANK) {
      memmove(shape + 1, shape, sizeof *shape * (size_t)rank);
      shape[0] = 2;
      with_input(c, op, s, i, filled(c, dtype, rank + 1, shape, 1), "one more axis for input", i);
      memmove(shape, shape + 1, sizeof *shape * (size_t)rank);
    }
    if (rank > 0) with_input(c, op, s, i, filled(c, dtype, rank - 1, shape, 1), "one axis less for input", i);
    for (int a = 0; a < rank; a++)
      for (int k = 0; k < 3; k++) {
        int64_t old = shape[a];
        shape[a] = k == 2 ? old + 1 : k;
        with_input(c, op, s, i, filled(c, dtype, rank, shape, 1), "another size on axis", a);
        shape[a] = old;
      }
    for (int d = 0; d < PL_DTYPES; d++) with_input(c, op, s, i, filled(c, (pl_dtype)d, rank, shape, 1), "dtype", d);
    for (size_t k = 0; k < sizeof entries / sizeof *entries && dtype == PL_I64; k++)
      with_input(c, op, s, i, filled(c, dtype, rank, shape, entries[k]), "entries", (long long)k);
    for (size_t k = 0; k < sizeof floats / sizeof *floats && dtype <= PL_F32; k++)
      with_input(c, op, s, i, filled(c, dtype, rank, shape, floats[k]), "entries", (long long)k);
  }
  pl_value more[PL_MAX_SAMPLE + 1];
  memcpy(more, s->in, sizeof s->in);
  if (s->n) more[s->n] = s->in[0];
  if (s->n) attempt(c, op, s->n + 1, more, s->attrs, "one input too many", s->n + 1);
  if (s->n) attempt(c, op, s->n - 1, more, s->attrs, "one input too few", s->n - 1);
}

/* ---- attributes ---- */

static const int64_t whole[] = {
    0, 1, -1, 2, 3, -2, 8, -9, 1 << 20, INT32_MAX, 1LL << 31, 1LL << 32, 1LL << 62, -(1LL << 62), INT64_MAX, INT64_MIN};
static const double reals[] = {NAN, INFINITY, -INFINITY, 0, -1, 1, 1e300, -1e300, 5e-324};
enum { WHOLE = sizeof whole / sizeof *whole, REALS = sizeof reals / sizeof *reals };

static void bad_list(pl_context *c, const pl_op *op, const pl_sample *s, pl_attr *attrs, int k) {
  static const int sizes[] = {0, 1, 2, 7, 8, 9, LIST};
  const pl_attr old = attrs[k];
  int64_t list[LIST];
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    for (int w = 0; w < WHOLE; w++) {
      for (int e = 0; e < LIST; e++) list[e] = whole[w];
      attrs[k] = PL_INTS(sizes[i], list);
      attempt(c, op, s->n, s->in, attrs, op->attrs[k].name, (long long)whole[w]);
    }
  attrs[k] = PL_INTS(-1, NULL);
  attempt(c, op, s->n, s->in, attrs, op->attrs[k].name, -1);
  for (int e = 0; e < old.n; e++)
    for (int w = 0; w < WHOLE; w++) {
      memcpy(list, old.list, (size_t)old.n * sizeof *list);
      list[e] = whole[w];
      attrs[k] = PL_INTS(old.n, list);
      attempt(c, op, s->n, s->in, attrs, op->attrs[k].name, (long long)whole[w]);
    }
  attrs[k] = old;
}
static void bad_attrs(pl_context *c, const pl_op *op, const pl_sample *s) {
  pl_attr attrs[PL_MAX_ATTRS];
  memcpy(attrs, s->attrs, sizeof attrs);
  for (int k = 0; k < pl_attr_count(op); k++) {
    const pl_attr old = attrs[k];
    const pl_attr_spec *spec = &op->attrs[k];
    switch (spec->kind) {
      case PL_AS_AXES:
      case PL_AS_INTS:
      case PL_AS_SHAPE: bad_list(c, op, s, attrs, k); break;
      case PL_AS_REAL:
        for (int i = 0; i < REALS; i++) {
          attrs[k] = PL_REALV(reals[i]);
          attempt(c, op, s->n, s->in, attrs, spec->name, i);
        }
        break;
      case PL_AS_OBJECT: break;
      default:
        for (int i = 0; i < WHOLE; i++) {
          attrs[k] = PL_INT(whole[i]);
          attempt(c, op, s->n, s->in, attrs, spec->name, (long long)whole[i]);
        }
    }
    attrs[k] = old;
  }
}

static void bad_input(void **state) {
  (void)state;
  setvbuf(stdout, NULL, _IOLBF, 0);
  signal(SIGALRM, crashed);
  signal(SIGSEGV, crashed);
  signal(SIGFPE, crashed);
  pl_context *c = pl_context_new();
  pl_set_budget(c, BUDGET);
  const char *only = getenv("PL_OP");
  for (int i = 0; pl_op_at(i); i++) {
    const pl_op *op = pl_op_at(i);
    if (op->internal || op->step || (only && strcmp(only, op->name))) continue;
    int before = calls, errors = refused;
    int64_t live = 0;
    for (int pass = 0; pass < 2; pass++) { /* the second finds all constants in place */
      live = pl_live_values(c);
      pl_sampler_random random = {0x1234567};
      for (int sample = 0; sample < 3; sample++) {
        pl_sample s = {.n = 0};
        if (!op->sample(c, &random, sample, &s)) break;
        bad_inputs(c, op, &s);
        bad_attrs(c, op, &s);
        for (int k = 0; k < s.n; k++) pl_release(c, s.in[k]);
        pl_object_release(s.object);
        pl_object_release(s.second);
      }
    }
    if (pl_live_values(c) > live + 16) WRONG("the op leaks %lld values", (long long)(pl_live_values(c) - live));
    printf("%-20s %4d calls, %4d refused\n", op->name, (calls - before) / 2, (refused - errors) / 2);
  }
  alarm(0);
  pl_context_free(c);
  if (wrong) fail_msg("%d calls went wrong", wrong);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(bad_input)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
