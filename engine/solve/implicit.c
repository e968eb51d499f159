/* implicit.c: the implicit function theorem as a rule for ops. */
#include "implicit.h"

#include "../ops/control.h"
#include "krylov.h"

#include <string.h>

enum { DERIVED_JACOBIAN = 90, DERIVED_DIAGONAL, DERIVED_LINEAR, DERIVED_PART, DERIVED_BOTH, DERIVED_DEFECT };

static pl_value call1(pl_context *c, pl_body *b, const pl_value *in) {
  return pl_apply1(c, PL_OP(call), b->n_in, in, (pl_attr[]){PL_OBJECT(&b->base), PL_INT(0)});
}

/* ---- derived bodies ---- */

static pl_body *dependent(pl_context *c, pl_derived *d, const char *name) {
  if (!d || (d->body && d->body->n_out > 0)) return d ? d->body : NULL;
  pl_error(c, PL_ERROR_NUMERIC, "%s: the equations do not depend on the unknown", name);
  return NULL;
}

static pl_body *product(pl_context *c, pl_body *f, bool transpose, const char *name) {
  uint8_t only_u[PL_MAX_INPUTS] = {1}, one[] = {1};
  return dependent(c, transpose ? pl_body_vjp(c, f, only_u, one, NULL) : pl_body_jvp(c, f, only_u, NULL), name);
}

pl_body *pl_implicit_tangent(pl_context *c, pl_body *f, const char *name) { return product(c, f, false, name); }

/* What a derived body is written with: from its inputs to its result. */
typedef pl_value (*formula)(pl_context *c, pl_body *f, pl_value *in, const void *data);

static pl_body *derive(pl_context *c, pl_body *f, int kind, int n_key, const uint64_t *key, int n, const pl_spec *specs,
                       formula make, const void *data) {
  pl_derived *old = pl_derived_find(f, kind, n_key, key);
  if (old) return old->body;
  pl_value in[PL_MAX_INPUTS + 4], out;
  pl_tape *t = pl_trace_open(c, n, specs, in);
  if (!t) return NULL;
  pl_body *b = NULL;
  out = make(c, f, in, data);
  if (out != PL_NONE) b = pl_trace_close(c, t, 1, &out, true, 0, NULL, NULL);
  pl_trace_free(c, t);
  if (!b) return NULL;
  pl_derived *kept = pl_derived_keep(c, f, kind, n_key, key, b, 0, NULL);
  return kept ? kept->body : NULL;
}

static pl_value inlined(pl_context *c, const pl_body *b, const pl_value *in) {
  pl_value out[PL_MAX_OUTPUTS];
  return pl_inlined(c, b, in, out) ? out[0] : PL_NONE;
}

/* A few colours: products side by side, so that one loop has them all; many: a batch. */
enum { FEW_COLOURS = 4 };
typedef struct {
  const pl_compression *k;
  const pl_body *product, *many;
} seeded;

static pl_value values_formula(pl_context *c, pl_body *f, pl_value *in, const void *data) {
  const seeded *s = data;
  const int64_t n = f->specs[0].shape[0], all = s->k->colours * n;
  pl_value rows;
  in[f->n_in] = pl_zeros_of(c, &f->specs[f->outputs[0]]); /* stands for F, which is not read */
  if (s->many) {
    in[f->n_in + 1] = s->k->seeds;
    rows = pl_reshape_to(c, inlined(c, s->many, in), 1, &all);
  } else {
    pl_value row[FEW_COLOURS];
    for (int64_t k = 0; k < s->k->colours; k++) {
      in[f->n_in + 1] = pl_reshape_to(c, pl_part(c, s->k->seeds, 0, k, 1, 1), 1, &n);
      row[k] = inlined(c, s->product, in);
    }
    rows = pl_apply1(c, PL_OP(concat), (int)s->k->colours, row, &PL_INT(0));
  }
  return pl_call2(c, PL_OP(gather), rows, s->k->map, &PL_INT(0));
}

pl_body *pl_implicit_values(pl_context *c, pl_body *f, const pl_compression *k, const char *name) {
  uint64_t key[] = {(uint64_t)(uintptr_t)k->pattern, k->map};
  pl_derived *old = pl_derived_find(f, DERIVED_JACOBIAN, 2, key);
  if (old) return old->body;
  pl_body *one = product(c, f, k->reverse, name);
  if (!one) return NULL;
  seeded s = {k, one, NULL};
  if (k->colours > FEW_COLOURS || k->colours == 0) {
    uint8_t flags[PL_MAX_INPUTS + 2] = {0}, wanted[] = {1};
    flags[f->n_in + 1] = 1;
    pl_derived *many = pl_body_batch(c, one, k->colours, flags, wanted);
    if (!many || !many->body) return NULL;
    s.many = many->body;
  }
  return derive(c, f, DERIVED_JACOBIAN, 2, key, f->n_in, f->specs, values_formula, &s);
}

static pl_value diagonal_formula(pl_context *c, pl_body *f, pl_value *in, const void *data) {
  in[f->n_in] = pl_zeros_of(c, &f->specs[f->outputs[0]]);
  in[f->n_in + 1] = pl_broadcast_like(c, pl_constant(c, PL_F64, 1), in[0]);
  return inlined(c, data, in);
}

pl_body *pl_implicit_diagonal(pl_context *c, pl_body *f, const char *name) {
  pl_body *one = product(c, f, false, name);
  return one ? derive(c, f, DERIVED_DIAGONAL, 0, NULL, f->n_in, f->specs, diagonal_formula, one) : NULL;
}

pl_body *pl_implicit_both(pl_context *c, pl_body *f, pl_body *diagonal) {
  pl_derived *old = pl_derived_find(f, DERIVED_BOTH, 0, NULL);
  if (old) return old->body;
  pl_value in[PL_MAX_INPUTS], out[2];
  pl_tape *t = pl_trace_open(c, f->n_in, f->specs, in);
  if (!t) return NULL;
  pl_body *b = NULL;
  if (pl_inlined(c, f, in, out) && pl_inlined(c, diagonal, in, out + 1))
    b = pl_trace_close(c, t, 2, out, true, 0, NULL, NULL);
  pl_trace_free(c, t);
  pl_derived *kept = b ? pl_derived_keep(c, f, DERIVED_BOTH, 0, NULL, b, 0, NULL) : NULL;
  return kept ? kept->body : NULL;
}

static pl_value defect_formula(pl_context *c, pl_body *f, pl_value *in, const void *data) {
  (void)data;
  return PL_BINARY(sub, c, in[0], inlined(c, f, in));
}

pl_body *pl_implicit_defect(pl_context *c, pl_body *f) {
  return derive(c, f, DERIVED_DEFECT, 0, NULL, f->n_in, f->specs, defect_formula, NULL);
}

static pl_value part_formula(pl_context *c, pl_body *f, pl_value *in, const void *data) {
  pl_value out[PL_MAX_OUTPUTS];
  if (!pl_inlined(c, f, in, out)) return PL_NONE;
  const pl_spec *s = &f->specs[f->outputs[*(const int *)data]];
  int64_t n = 1;
  for (int a = 0; a < s->rank; a++) n *= s->shape[a];
  return pl_reshape_to(c, out[*(const int *)data], 1, &n);
}

pl_body *pl_implicit_part(pl_context *c, pl_body *f, int k) {
  return derive(c, f, DERIVED_PART, 1, (uint64_t[]){(uint64_t)k}, f->n_in, f->specs, part_formula, &k);
}

pl_plan *pl_plan_shift(pl_context *c, pl_pattern *p) {
  int32_t n = p->rows, *ptr = pl_memory_new(c, ((size_t)n + 1) * sizeof *ptr);
  for (int32_t i = 0; ptr && i <= n; i++) ptr[i] = i;
  pl_pattern *diagonal = ptr ? pl_pattern_new(c, n, n, ptr, ptr) : NULL;
  pl_memory_free(c, ptr);
  pl_plan *plan = diagonal ? pl_plan_get(c, PL_PLAN_SUM, p, diagonal) : NULL;
  pl_object_release((pl_object *)diagonal);
  return plan;
}

/* ---- linear solves with the Jacobian at the solution ---- */

/* (w, u, theta...) -> J w, or J' w */
static pl_value linear_formula(pl_context *c, pl_body *f, pl_value *in, const void *data) {
  pl_value args[PL_MAX_INPUTS + 2];
  memcpy(args, in + 1, (size_t)f->n_in * sizeof *args);
  args[f->n_in] = args[f->n_in + 1] = in[0]; /* the first stands for F, which is not read */
  return inlined(c, data, args);
}

static pl_body *linear(pl_context *c, const pl_implicit *i, bool transpose) {
  pl_body *f = i->residual, *one = product(c, f, transpose, i->name);
  if (!one) return NULL;
  if (f->n_in + 2 > PL_MAX_INPUTS) {
    pl_error(c, PL_ERROR_ARGUMENT, "%s: derivatives of equations of %d tensors; at most %d are possible", i->name,
             f->n_in, PL_MAX_INPUTS - 2);
    return NULL;
  }
  pl_spec specs[PL_MAX_INPUTS];
  specs[0] = f->specs[0];
  memcpy(specs + 1, f->specs, (size_t)f->n_in * sizeof *specs);
  return derive(c, f, DERIVED_LINEAR, 1, (uint64_t[]){transpose}, f->n_in + 1, specs, linear_formula, one);
}

static pl_value solve_products(pl_context *c, const pl_implicit *i, const pl_value *in, pl_value b, bool transpose) {
  pl_krylov_system s = {.apply = linear(c, i, transpose), .n_theta = i->residual->n_in, .theta = in};
  if (!s.apply || !(s.transpose = linear(c, i, !transpose))) return PL_NONE;
  pl_krylov_options o = pl_krylov_defaults();
  o.method = PL_GMRES;
  o.rtol = 1e-11;
  pl_value out[5];
  return pl_krylov(c, &s, b, PL_NONE, &o, out) ? out[0] : PL_NONE;
}

/* J^-1 x or J'^-1 x; in: u and theta. */
static pl_value solve_at(pl_context *c, const pl_implicit *i, const pl_value *in, pl_value x, bool transpose) {
  if (i->kind == PL_JACOBIAN_PRODUCTS) return solve_products(c, i, in, x, transpose);
  pl_value values = call1(c, i->jacobian, in);
  if (i->kind == PL_JACOBIAN_DIAGONAL) return PL_BINARY(div, c, x, values);
  pl_object *pattern = &i->pattern->base;
  pl_value f = pl_call1(c, PL_OP(factor), values, (pl_attr[]){PL_OBJECT(pattern), PL_INT(i->method)});
  return pl_call3(c, PL_OP(factored_solve), f, values, x, (pl_attr[]){PL_OBJECT(pattern), PL_INT(transpose)});
}

static pl_value proved(pl_context *c, const pl_implicit *i, pl_value x, pl_value record) {
  return i->unproved && x != PL_ZERO ? PL_BINARY(if_converged, c, x, record) : x;
}

void pl_implicit_vjp(pl_vjp *v, const pl_implicit *i) {
  pl_context *c = v->c;
  pl_body *f = i->residual;
  pl_value in[PL_MAX_INPUTS + 2], gx[PL_MAX_OUTPUTS];
  uint8_t need[PL_MAX_INPUTS] = {0}, given[] = {1};
  if (v->g[0] == PL_ZERO) return;
  in[0] = v->out[0];
  for (int k = 1; k < f->n_in; k++) {
    in[k] = v->in[k];
    need[k] = v->need[k] && f->specs[k].dtype <= PL_F32;
  }
  pl_derived *d = pl_body_vjp(c, f, need, given, NULL);
  if (!d || !d->body || d->body->n_out == 0) return;
  pl_value lambda = solve_at(c, i, in, proved(c, i, v->g[0], v->out[1]), true);
  in[f->n_in] = lambda; /* stands for F, which is not read */
  in[f->n_in + 1] = pl_negative(c, lambda);
  if (!pl_apply(c, PL_OP(call), f->n_in + 2, in, (pl_attr[]){PL_OBJECT(&d->body->base), PL_INT(0)}, gx)) return;
  for (int k = 1; k < f->n_in; k++)
    if (d->list[k] >= 0) pl_vjp_give(v, k, gx[d->list[k]]);
}

void pl_implicit_jvp(pl_jvp *j, const pl_implicit *i) {
  pl_context *c = j->c;
  pl_body *f = i->residual;
  pl_value in[2 * PL_MAX_INPUTS + 1];
  uint8_t active[PL_MAX_INPUTS] = {0};
  int n = f->n_in;
  in[0] = j->out[0];
  for (int k = 1; k < n; k++) in[k] = j->in[k];
  in[n++] = j->out[0]; /* stands for F, which is not read */
  for (int k = 1; k < f->n_in; k++)
    if (j->t[k] != PL_ZERO) {
      active[k] = 1;
      in[n++] = j->t[k];
    }
  pl_derived *d = n > f->n_in + 1 ? pl_body_jvp(c, f, active, NULL) : NULL;
  if (!d || !d->body || d->list[0] < 0) return;
  pl_value df = proved(c, i, call1(c, d->body, in), j->out[1]);
  j->dt[0] = pl_negative(c, solve_at(c, i, in, df, false));
}

/* ---- rows ---- */

static bool converged_shape(const pl_call *call, pl_spec *out) {
  if (call->in[1]->dtype != PL_I64 || call->in[1]->rank != 1 || call->in[1]->count < 1) {
    pl_error(call->c, PL_ERROR_SHAPE, "if_converged: the second input is the record of a solve");
    return false;
  }
  pl_spec_of(call->in[0], out);
  return true;
}
static void converged_run(const pl_call *call, pl_slot **out) {
  if (*(const int64_t *)call->in[1]->data != 0)
    pl_error(call->c, PL_ERROR_NUMERIC,
             "a solve that did not converge has no derivative: look at report.converged before its result is used "
             "(it was called with check = false)");
  else memcpy(out[0]->data, call->in[0]->data, (size_t)call->in[0]->count * pl_dtype_size((pl_dtype)out[0]->dtype));
}
static void converged_vjp(pl_vjp *v) { pl_vjp_give(v, 0, v->g[0]); }
static void converged_jvp(pl_jvp *j) { j->dt[0] = j->t[0]; }

static bool reals_shape(const pl_call *call, pl_spec *out) {
  pl_spec_of(call->in[0], out);
  out->dtype = PL_F64;
  return true;
}
static void reals_run(const pl_call *call, pl_slot **out) {
  memcpy(out[0]->data, call->in[0]->data, (size_t)call->in[0]->count * sizeof(double));
}

PL_SAMPLE(converged) {
  if (k > 0) return false;
  s->n = 2;
  s->in[0] = pl_sample_tensor(c, r, -1, 1, 1, 3);
  s->in[1] = pl_tensor(c, PL_I64, 1, (int64_t[]){2}, NULL);
  return true;
}
PL_SAMPLE(reals) {
  if (k > 0) return false;
  double x[3];
  for (int i = 0; i < 3; i++) x[i] = pl_sample_uniform(r, -1, 1);
  s->n = 1;
  s->in[0] = pl_tensor(c, PL_I64, 1, (int64_t[]){3}, x);
  return true;
}

int pl_implicit_results(const pl_attr *attrs) {
  (void)attrs;
  return PL_NEWTON_OUTPUTS;
}

pl_op pl_ops_implicit[] = {
    {.name = "if_converged",
     .formula = "x, where the record of a solve begins with 0; an error otherwise",
     .kind = PL_OPAQUE,
     .inputs = 2,
     .outputs = 1,
     .internal = true,
     .dtypes = PL_ANY,
     .keeps = PL_KEEPS_ALL,
     .shape = converged_shape,
     .run = converged_run,
     .vjp = converged_vjp,
     .jvp = converged_jvp,
     .sample = converged_sample},
    {.name = "reals_of",
     .formula = "the f64 numbers whose bits these i64 numbers are",
     .kind = PL_OPAQUE,
     .inputs = 1,
     .outputs = 1,
     .internal = true,
     .dtypes = PL_IN_I64,
     .shape = reals_shape,
     .run = reals_run,
     .sample = reals_sample},
    {0},
};
