/* precondition.c: the ops of preconditioners, and the simplest one. */
#include "precondition.h"

#include <math.h>
#include <string.h>

#include "../ops/sparse_rows.h"
#include "../schedule.h"
#include "krylov.h"

bool pl_diagonal(pl_context *c, const pl_pattern *p, const double *values, const char *who, double *d) {
  for (int32_t i = 0; i < p->rows; i++) {
    int32_t k = p->row_ptr[i];
    while (k < p->row_ptr[i + 1] && p->col[k] != i) k++;
    d[i] = k < p->row_ptr[i + 1] ? values[k] : 0;
    if (d[i] == 0) {
      pl_error(c, PL_ERROR_NUMERIC,
               "%s: row %d of the matrix has no diagonal entry other than 0; number the unknowns "
               "so that it has, or solve without this preconditioner",
               who, i + 1);
      return false;
    }
  }
  return true;
}

/* ---- jacobi ---- */

typedef struct {
  pl_preconditioner base;
  double inverse[];
} jacobi;

static void jacobi_destroy(pl_context *c, pl_resource *r) { pl_memory_free(c, r); }
static void scale_rows(const void *args, int64_t lo, int64_t hi) {
  const double *d = ((const double *const *)args)[0], *r = ((const double *const *)args)[1];
  double *z = ((double *const *)args)[2];
  for (int64_t i = lo; i < hi; i++) z[i] = d[i] * r[i];
}
static void jacobi_apply(pl_context *c, pl_preconditioner *m, bool transpose, const double *r, double *z) {
  (void)transpose;
  pl_for(c, scale_rows, (const void *[]){((jacobi *)m)->inverse, r, z}, m->n, 8, 2);
}
pl_preconditioner *pl_jacobi(pl_context *c, pl_pattern *p, const double *values, const pl_precondition_setup *o) {
  (void)o;
  jacobi *m = pl_memory_new(c, sizeof *m + ((size_t)p->rows + 1) * sizeof *m->inverse);
  if (!m) return NULL;
  m->base = (pl_preconditioner){.base = {.destroy = jacobi_destroy, .name = "preconditioner"},
                                .kind = PL_PRECONDITION_JACOBI,
                                .n = p->rows,
                                .apply = jacobi_apply};
  if (!pl_diagonal(c, p, values, "jacobi", m->inverse)) {
    pl_memory_free(c, m);
    return NULL;
  }
  for (int32_t i = 0; i < p->rows; i++) m->inverse[i] = 1 / m->inverse[i];
  return &m->base;
}

/* ---- ops ---- */

static double real_at(const pl_attr *list, int k) {
  double x;
  memcpy(&x, &list->list[k], sizeof x);
  return x;
}

/* Attributes: pattern, kind, options {strength's bits, block, degree}. Inputs: values, and perhaps vectors {n, k}. */
static pl_resource *preconditioner_make(const pl_call *call) {
  static pl_precondition_maker *const makers[] = {pl_jacobi, pl_ilu, pl_ichol, pl_multigrid, pl_hypre};
  pl_context *c = call->c;
  pl_pattern *p = PATTERN(call->attrs);
  const pl_attr *list = &call->attrs[2];
  int64_t kind = call->attrs[1].i;
  if (call->n > 2 || list->type != PL_ATTR_INTS || list->n != 3 || kind < 0 || kind >= PL_PRECONDITIONERS) {
    pl_error(c, PL_ERROR_ARGUMENT, "preconditioner: there is none of kind %lld", (long long)kind);
    return NULL;
  }
  if (p->rows != p->cols) {
    pl_error(c, PL_ERROR_SHAPE, "a preconditioner needs a square matrix, not {%d, %d}", p->rows, p->cols);
    return NULL;
  }
  if (!pl_sparse_is_vector(call, 0, p->nnz, "the matrix's values")) return NULL;
  const double *values = call->in[0]->data;
  for (int32_t i = 0; i < p->rows; i++)
    for (int32_t k = p->row_ptr[i]; k < p->row_ptr[i + 1]; k++)
      if (!isfinite(values[k])) {
        pl_error(c, PL_ERROR_NUMERIC, "preconditioner: the matrix's entry in row %d, column %d is %g", i + 1,
                 p->col[k] + 1, values[k]);
        return NULL;
      }
  pl_precondition_setup o = {{real_at(list, 0), list->list[1], list->list[2]}, NULL, 0};
  if (call->n > 1) {
    const pl_slot *v = call->in[1];
    if (v->rank != 2 || v->shape[0] != p->rows || v->shape[1] < 1) {
      char text[PL_TEXT];
      pl_error(c, PL_ERROR_SHAPE, "preconditioner: the vectors have shape %s, {%d, k} is needed",
               pl_shape_text(text, v->rank, v->shape), p->rows);
      return NULL;
    }
    o.vectors = v->data;
    o.n_vectors = v->shape[1];
  }
  if (!(o.base.strength >= 0) || o.base.block < 1 || o.base.block > p->rows + 1 || o.base.degree < 1 ||
      o.base.degree > 20) {
    pl_error(c, PL_ERROR_ARGUMENT, "multigrid: strength is 0 or more, block 1 or more, degree 1 to 20");
    return NULL;
  }
  pl_preconditioner *m = makers[kind](c, p, values, &o);
  if (m) c->preconditioners++;
  return m ? &m->base : NULL;
}

static bool precondition_shape(const pl_call *call, pl_spec *out) {
  const pl_slot *r = call->in[1];
  bool traced = call->in[0]->flags & PL_FLAG_TRACED;
  pl_preconditioner *m = traced ? NULL : (pl_preconditioner *)pl_slot_resource(call->c, call->in[0], "preconditioner");
  if (!m && !traced) return false;
  if (r->rank != 1 || (m && m->n != r->shape[0])) {
    char text[PL_TEXT];
    pl_error(call->c, PL_ERROR_SHAPE, "precondition: a residual %s; it must be a vector as long as the matrix has rows",
             pl_shape_text(text, r->rank, r->shape));
    return false;
  }
  pl_spec_of(r, out);
  return true;
}
static void precondition_run(const pl_call *call, pl_slot **out) {
  pl_preconditioner *m = (pl_preconditioner *)pl_slot_resource(call->c, call->in[0], "preconditioner");
  if (m && m->n != call->in[1]->shape[0]) /* the shape rule could not see it in a trace */
    pl_error(call->c, PL_ERROR_SHAPE, "the preconditioner belongs to a matrix {%d, %d}, the residual is {%d}", m->n,
             m->n, call->in[1]->shape[0]);
  else if (m) m->apply(call->c, m, call->attrs[0].i, call->in[1]->data, out[0]->data);
}
static pl_value precondition(pl_context *c, pl_value m, pl_value r, bool transpose) {
  return r == PL_ZERO ? r : pl_call2(c, PL_OP(precondition), m, r, &PL_INT(transpose));
}
static void precondition_vjp(pl_vjp *v) { pl_vjp_give(v, 1, precondition(v->c, v->in[0], v->g[0], !v->attrs[0].i)); }
static void precondition_jvp(pl_jvp *j) { j->dt[0] = precondition(j->c, j->in[0], j->t[1], j->attrs[0].i); }

pl_preconditioner_options pl_preconditioner_defaults(void) { return (pl_preconditioner_options){0.08, 1, 2}; }

pl_value pl_sparse_preconditioner(pl_context *c, pl_sparse a, pl_preconditioner_kind kind,
                                  const pl_preconditioner_options *options, pl_value vectors) {
  pl_preconditioner_options o = options ? *options : pl_preconditioner_defaults();
  int64_t list[] = {0, o.block, o.degree};
  memcpy(&list[0], &o.strength, sizeof o.strength);
  return pl_apply1(c, PL_OP(preconditioner), vectors == PL_NONE ? 1 : 2, (pl_value[]){a.values, vectors},
                   (pl_attr[]){PL_OBJECT(a.pattern), PL_INT(kind), PL_INTS(3, list)});
}

pl_value pl_precondition(pl_context *c, pl_value m, pl_value r, bool transpose) {
  return pl_call2(c, PL_OP(precondition), m, r, &PL_INT(transpose));
}

int64_t pl_preconditioners_made(const pl_context *c) { return c->preconditioners; }

/* ---- samples ---- */

static pl_value sample_values(pl_context *c, pl_sampler_random *r, const pl_pattern *p) {
  pl_value v = pl_sample_tensor(c, r, -1, 1, 1, p->nnz);
  pl_slot *s = pl_slot_get(c, v);
  for (int32_t i = 0; s && i < p->rows; i++)
    for (int32_t k = p->row_ptr[i]; k < p->row_ptr[i + 1]; k++)
      if (p->col[k] == i) ((double *)s->data)[k] += 6;
  return v;
}
static bool preconditioner_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  if (k >= PL_PRECONDITION_HYPRE) return false;
  pl_pattern *p = pl_sample_pattern(c, 6, 6);
  if (!p) return false;
  double strength = 0.08;
  s->n = 1;
  s->object = &p->base;
  s->in[0] = sample_values(c, r, p);
  s->attrs[0] = PL_OBJECT(s->object);
  s->attrs[1] = PL_INT(k);
  PL_SAMPLE_LIST(2, 0, 1, 2);
  memcpy(&s->lists[2][0], &strength, sizeof strength);
  return true;
}
static bool precondition_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  if (k >= 2 * PL_PRECONDITION_HYPRE || !preconditioner_sample(c, r, k / 2, s)) return false;
  pl_value values = s->in[0];
  s->in[0] = pl_call1(c, PL_OP(preconditioner), values, s->attrs);
  pl_release(c, values);
  s->n = 2;
  s->in[1] = pl_sample_tensor(c, r, -1, 1, 1, 6);
  s->attrs[0] = PL_INT(k & 1);
  return true;
}

pl_op pl_ops_precondition[] = {
    {ROW("preconditioner", "what approximates the inverse of a sparse matrix", -1), .kind = PL_OPAQUE,
     .dtypes = PL_IN_F64, .attrs = {OBJECT("pattern"), INT("kind"), {"options", PL_AS_INTS, true, 0}},
     .make = preconditioner_make, .sample = preconditioner_sample},
    {ROW("precondition", "about A^-1 r, or A'^-1 r, by a preconditioner of A", 2), .kind = PL_LINEAR, .keeps = 1,
     .dtypes = PL_IN_F64, .attrs = {FLAG("transpose")}, .shape = precondition_shape, .run = precondition_run,
     .vjp = precondition_vjp, .jvp = precondition_jvp, .sample = precondition_sample},
    {0},
};
