/* report.c: records and messages of iterations. */
#include "report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

double pl_dot(const double *x, const double *y, int64_t n) {
  double sum[4] = {0};
  int64_t i = 0;
  for (; i + 4 <= n; i += 4)
    for (int k = 0; k < 4; k++) sum[k] += x[i + k] * y[i + k];
  for (; i < n; i++) sum[0] += x[i] * y[i];
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}
double pl_norm2(const double *x, int64_t n) {
  double sum = 0, scale = 0;
  for (int64_t i = 0; i < n; i++) scale = fmax(scale, fabs(x[i]));
  if (!(scale > 0) || isinf(scale)) return isnan(scale) ? NAN : scale;
  for (int64_t i = 0; i < n; i++) sum += x[i] / scale * (x[i] / scale);
  return scale * sqrt(sum);
}
double pl_largest(const double *x, int64_t n) {
  double most = 0;
  for (int64_t i = 0; i < n; i++) most = fmax(most, fabs(x[i]));
  return most;
}
bool pl_all_finite(const double *x, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    if (!isfinite(x[i])) return false;
  return true;
}

void pl_equation_name(const pl_attr *names, int64_t k, char *text) {
  const int64_t *p = names ? names->list : NULL, *end = names ? p + names->n : NULL;
  while (end - p >= 3 && p[1] >= 0 && p[1] <= PL_MAX_RANK && end - p >= 3 + p[1]) {
    int64_t count = p[0], rank = p[1], n = p[2 + rank];
    const int64_t *shape = p + 2, *name = p + 3 + rank;
    if (n < 0 || n > end - name) break;
    if (k < count) {
      int64_t at[PL_MAX_RANK];
      int used = 0;
      for (int64_t i = 0; i < n && used < PL_TEXT / 2; i++) text[used++] = (char)name[i];
      for (int64_t a = rank; a-- > 0; k /= shape[a] > 0 ? shape[a] : 1) at[a] = k % (shape[a] > 0 ? shape[a] : 1) + 1;
      for (int64_t a = 0; a < rank; a++)
        used += snprintf(text + used, (size_t)(PL_TEXT - used), a ? ", %d" : "[%d", (int)at[a]);
      snprintf(text + used, (size_t)(PL_TEXT - used), rank ? "]" : "");
      return;
    }
    k -= count;
    p = name + n;
  }
  snprintf(text, PL_TEXT, "equation %lld", (long long)k + 1);
}

pl_attr pl_names(int n, const int64_t *list) {
  static const int64_t none = 0;
  return (pl_attr)PL_INTS(n, list ? list : &none);
}

pl_spec pl_record_spec(int64_t iterations) { return (pl_spec){PL_I64, 1, {(int32_t)(R_HISTORY + iterations + 1)}}; }

void pl_progress_note(const pl_activation *a, const pl_progress *p) {
  ((double *)a->out[1]->data)[R_HISTORY + p->iteration] = p->norm;
}

pl_next pl_progress_end(pl_activation *a, const pl_progress *p, const double *u, pl_solve_end end) {
  double *numbers = a->out[1]->data; /* their bits */
  if (u != a->out[0]->data) memcpy(a->out[0]->data, u, (size_t)a->out[0]->count * sizeof *u);
  numbers[R_END] = end;
  numbers[R_ITERATIONS] = (double)p->iteration;
  numbers[R_RESIDUAL] = p->norm;
  numbers[R_FIRST] = p->first;
  numbers[R_EVALUATIONS] = (double)p->evaluations;
  numbers[R_JACOBIANS] = (double)p->jacobians;
  numbers[R_LINEAR] = (double)p->linear;
  for (int64_t k = p->iteration + 1; k <= p->most; k++) numbers[R_HISTORY + k] = NAN;
  return PL_NEXT_DONE;
}

enum { TELL = 700 };
/* The norms on the way and the largest residuals. */
static void tell(const pl_activation *a, const pl_progress *p, const double *r, char *text) {
  const double *history = (const double *)a->out[1]->data + R_HISTORY;
  int used = snprintf(text, TELL, "the residual's norm went");
  for (int64_t k = 0; k <= p->iteration; k++) {
    if (k == 4 && p->iteration > 8) {
      used += snprintf(text + used, (size_t)(TELL - used), " ...");
      k = p->iteration - 3;
    }
    used += snprintf(text + used, (size_t)(TELL - used), " %.3g", history[k]);
  }
  used += snprintf(text + used, (size_t)(TELL - used), "; the worst equations are ");
  int64_t worst[3], n = 0;
  for (; n < 3 && n < p->n; n++) {
    worst[n] = -1;
    for (int64_t i = 0; i < p->n; i++) {
      bool taken = false;
      for (int64_t k = 0; k < n; k++) taken = taken || worst[k] == i;
      if (!taken && (worst[n] < 0 || !(fabs(r[i]) <= fabs(r[worst[n]])))) worst[n] = i;
    }
    char name[PL_TEXT];
    pl_equation_name(p->names, worst[n], name);
    used += snprintf(text + used, (size_t)(TELL - used), "%s%.60s (%.3g)", n ? ", " : "", name, r[worst[n]]);
  }
}

pl_next pl_progress_fail(pl_context *c, pl_activation *a, const pl_progress *p, const double *u, const double *r,
                         pl_solve_end end, const char *what, const char *advice) {
  pl_clear(c);
  if (p->unchecked) return pl_progress_end(a, p, u, end);
  char text[TELL];
  tell(a, p, r, text);
  pl_error(c, PL_ERROR_NUMERIC, "%s %s (iteration %lld): %s. %s", p->name, what, (long long)p->iteration, text, advice);
  return PL_NEXT_FAIL;
}
