/* inspect.c: programs as text: what runs, where it stands in the script, how much it moves and computes. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "execute.h"

typedef struct {
  pl_context *c;
  char *text;
  size_t n, capacity;
} writer;

static void put(writer *w, const char *format, ...) {
  for (;;) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(w->text + w->n, w->capacity - w->n, format, args);
    va_end(args);
    if (n < 0) return;
    if (w->n + (size_t)n < w->capacity) {
      w->n += (size_t)n;
      return;
    }
    char *grown = pl_memory_grow(w->c, w->text, 2 * w->capacity + (size_t)n);
    if (!grown) return;
    w->text = grown;
    w->capacity = 2 * w->capacity + (size_t)n;
  }
}

static double bytes_of(const pl_spec *s) {
  return s->dtype == PL_DTYPES ? 0 : (double)pl_spec_count(s) * (double)pl_dtype_size(s->dtype);
}

static void put_spec(writer *w, const pl_spec *s) {
  char text[PL_TEXT];
  if (s->dtype == PL_DTYPES) put(w, "factor");
  else put(w, "%s%s", s->dtype == PL_F64 ? "" : pl_dtype_name(s->dtype), pl_shape_text(text, s->rank, s->shape));
}

static void put_amount(writer *w, double x, const char *unit) {
  static const char *const prefix[] = {"", "k", "M", "G", "T"};
  int i = 0;
  for (; x >= 999.5 && i < 4; i++) x /= 1000;
  put(w, "%.3g %s%s", x, prefix[i], unit);
}

/* Operations of an op on its own, roughly: products count two for each pair. */
static double flops_of(const pl_unit *q, const pl_executable *e) {
  const uint32_t *o = e->operands + q->operands;
  double out = q->n_out ? (double)pl_spec_count(&e->specs[o[q->n_in]]) : 0;
  if (q->op == PL_OP(gemm)) {
    const pl_spec *a = &e->specs[o[0]];
    return 2 * out * a->shape[q->attrs[0].i ? a->rank - 2 : a->rank - 1];
  }
  if (q->op == PL_OP(spmv)) return 2 * (double)pl_spec_count(&e->specs[o[0]]);
  if (q->op->kind == PL_REDUCE) return (double)pl_spec_count(&e->specs[o[0]]);
  return q->op->kind == PL_MOVE ? 0 : out;
}

typedef struct {
  double flops, bytes;
} cost;

static cost put_body(writer *w, pl_body *b, int depth);

static cost put_unit(writer *w, const pl_executable *e, int k, int depth) {
  const pl_unit *q = &e->units[k];
  char line[PL_TEXT];
  cost sum = {0, 0};
  put(w, "%*s%3d  ", 2 * depth, "", k + 1);
  if (q->kind == PL_UNIT_GROUP) {
    const pl_group *g = q->group;
    char shape[PL_TEXT];
    put(w, "fused %s:", pl_shape_text(shape, g->rank, g->shape));
    for (int m = 0; m < g->n_micro; m++) {
      put(w, " %s", g->micro[m].name);
      sum.flops += (double)g->count * g->micro[m].ops;
    }
    for (int i = 0; i < g->n_external; i++)
      if (g->external[i].how != PL_READ_NUMBER) sum.bytes += (double)g->count * g->external[i].size;
    put(w, "; reads");
    for (int i = 0; i < g->n_external; i++) {
      const pl_external *x = &g->external[i];
      put(w, " v%d%s", x->value,
          x->how == PL_READ_VIEW || x->how == PL_READ_PERIODIC ? "[view]"
          : x->how == PL_READ_NUMBER                           ? "[number]"
                                                               : "");
    }
  } else {
    const uint32_t *o = e->operands + q->operands;
    put(w, "%s(", q->op->name);
    for (int i = 0; i < q->n_in; i++) {
      put(w, "%sv%u", i ? ", " : "", o[i]);
      sum.bytes += bytes_of(&e->specs[o[i]]);
    }
    put(w, ") ->");
    for (int i = q->n_in; i < q->n_in + q->n_out; i++) {
      put(w, " v%u ", o[i]);
      put_spec(w, &e->specs[o[i]]);
      sum.bytes += bytes_of(&e->specs[o[i]]);
    }
    sum.flops = flops_of(q, e);
  }
  put(w, "; ");
  put_amount(w, sum.bytes, "B");
  put(w, ", ");
  put_amount(w, sum.flops, "flop");
  if (*pl_line_text(w->c, q->line, line)) put(w, "  -- %s", line);
  put(w, "\n");
  if (q->kind == PL_UNIT_STEP) {
    double times = 1;
    if (q->op == PL_OP(scan)) times = (double)q->attrs[1].list[3];
    if (q->op == PL_OP(scan_reverse)) times = (double)q->attrs[2].list[3];
    for (int i = 0; q->op->attrs[i].name; i++)
      if (q->attrs[i].type == PL_ATTR_OBJECT && q->attrs[i].object && q->attrs[i].object->type == &pl_body_type) {
        put(w, "%*s     %s:\n", 2 * depth, "", q->op->attrs[i].name);
        cost inner = put_body(w, (pl_body *)q->attrs[i].object, depth + 2);
        sum.bytes += times * inner.bytes;
        sum.flops += times * inner.flops;
      }
  }
  return sum;
}

static cost put_body(writer *w, pl_body *b, int depth) {
  const pl_executable *e = pl_body_executable(w->c, b, PL_OPTIMIZED);
  cost sum = {0, 0};
  if (!e) return sum;
  put(w, "%*sinputs", 2 * depth, "");
  for (int i = 0; i < b->n_in; i++) {
    put(w, " v%d ", i);
    put_spec(w, &b->specs[i]);
  }
  put(w, "\n");
  for (int k = 0; k < e->n_units; k++) {
    cost c = put_unit(w, e, k, depth);
    sum.bytes += c.bytes;
    sum.flops += c.flops;
  }
  put(w, "%*soutputs", 2 * depth, "");
  for (int i = 0; i < b->n_out; i++) put(w, " v%u", b->outputs[i]);
  put(w, "; %d instructions in %d units, ", (int)b->code.n, e->n_units);
  put_amount(w, (double)e->arena, "B");
  put(w, " of memory\n");
  return sum;
}

char *pl_body_text(pl_context *c, pl_body *b) {
  writer w = {c, c->status ? NULL : pl_memory_new(c, 4096), 0, 4096};
  if (!w.text) return NULL;
  w.text[0] = 0;
  cost sum = put_body(&w, b, 0);
  put(&w, "in all ");
  put_amount(&w, sum.bytes, "B");
  put(&w, " moved, ");
  put_amount(&w, sum.flops, "flop");
  put(&w, "\n");
  return w.text;
}

void pl_text_free(pl_context *c, char *text) { pl_memory_free(c, text); }
