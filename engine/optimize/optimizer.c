/* optimizer.c: what all optimizers share, and the table of methods. */
#include <stdio.h>
#include <string.h>

#include "method.h"

extern const pl_min_method pl_lbfgs_method, pl_adam_method;
static const pl_min_method *const methods[] = {&pl_lbfgs_method, &pl_adam_method};
enum { METHODS = sizeof methods / sizeof *methods };

double pl_min_dot(int64_t n, const double *a, const double *b) {
  double total = 0;
  for (int64_t lo = 0; lo < n; lo += 512) {
    int64_t hi = lo + 512 < n ? lo + 512 : n;
    double s = 0;
    for (int64_t i = lo; i < hi; i++) s += a[i] * b[i];
    total += s;
  }
  return total;
}

/* ---- the table ---- */

static const pl_min_method *find_method(const char *name) {
  for (int i = 0; i < METHODS; i++)
    if (!strcmp(methods[i]->name, name)) return methods[i];
  return NULL;
}

const char *pl_optimizer_method(int i) { return i >= 0 && i < METHODS ? methods[i]->name : NULL; }

const char *pl_optimizer_text(const char *method) {
  const pl_min_method *m = find_method(method);
  return m ? m->text : NULL;
}

static int count_settings(const pl_min_method *m) {
  int n = 0;
  while (m->settings[n].name) n++;
  return n;
}

const pl_setting_info *pl_optimizer_setting(const char *method, int i) {
  const pl_min_method *m = find_method(method);
  return m && i >= 0 && i < count_settings(m) ? &m->settings[i] : NULL;
}

/* ", a, b" */
static void append_name(char *text, size_t size, const char *name) {
  size_t at = strlen(text);
  snprintf(text + at, size - at, "%s%s", at ? ", " : "", name);
}

bool pl_optimizer_set(pl_optimizer *o, const char *setting, double value) {
  const pl_min_method *m = o->method;
  char names[512] = "";
  for (int i = 0; m->settings[i].name; i++) {
    const pl_setting_info *s = &m->settings[i];
    append_name(names, sizeof names, s->name);
    if (strcmp(s->name, setting)) continue;
    if (!(value >= s->least && value <= s->most) || (s->whole && value != floor(value))) {
      pl_error(o->c, PL_ERROR_ARGUMENT, "%s: %s is %s, not %g", m->name, setting, s->range, value);
      return false;
    }
    o->settings[i] = value;
    return true;
  }
  pl_error(o->c, PL_ERROR_ARGUMENT, "%s has no option '%s'; it has %s", m->name, setting, names);
  return false;
}

/* ---- life ---- */

static bool check_bounds(pl_context *c, int64_t n, const double *lower, const double *upper) {
  for (int64_t i = 0; i < n; i++) {
    double lo = lower ? lower[i] : -INFINITY, hi = upper ? upper[i] : INFINITY;
    if (lo <= hi) continue;
    pl_error(c, PL_ERROR_ARGUMENT, "the bounds of variable %lld are empty: %g to %g", (long long)i + 1, lo, hi);
    return false;
  }
  return true;
}

static bool read_settings(pl_optimizer *o, const pl_setting *settings) {
  const pl_min_method *m = o->method;
  int n = count_settings(m);
  o->settings = pl_memory_new(o->c, (size_t)n * sizeof *o->settings);
  if (!o->settings) return false;
  for (int i = 0; i < n; i++) o->settings[i] = m->settings[i].value;
  for (; settings && settings->name; settings++)
    if (!pl_optimizer_set(o, settings->name, settings->value)) return false;
  double *most = &o->settings[PL_MIN_AT_EVALUATIONS];
  if (isnan(*most)) *most = 10 * o->settings[PL_MIN_AT_ITERATIONS] + 10;
  return true;
}

static bool make_vectors(pl_optimizer *o, const double *x0, const double *lower, const double *upper) {
  double **shared[] = {&o->x, &o->g, &o->trial, &o->trial_g, &o->best_x, &o->best_g, &o->lower, &o->upper};
  enum { SHARED = sizeof shared / sizeof *shared };
  size_t vectors = SHARED + (size_t)o->method->vectors(o), bytes = (size_t)(o->n + 8) * sizeof(double);
  o->memory = pl_memory_new(o->c, vectors * bytes);
  if (!o->memory) return false;
  memset(o->memory, 0, vectors * bytes);
  double *at = o->memory;
  for (int i = 0; i < SHARED; i++, at += o->n) *shared[i] = at;
  for (int64_t i = 0; i < o->n; i++) {
    o->lower[i] = lower ? lower[i] : -INFINITY;
    o->upper[i] = upper ? upper[i] : INFINITY;
    o->bounded = o->bounded || isfinite(o->lower[i]) || isfinite(o->upper[i]);
    o->x[i] = o->trial[i] = o->best_x[i] = pl_min_clip(o, i, x0[i]);
  }
  return !o->method->open || o->method->open(o, at);
}

pl_optimizer *pl_optimizer_new(pl_context *c, const char *method, const pl_setting *settings, int64_t n,
                               const double *x0, const double *lower, const double *upper) {
  if (pl_error_status(c)) return NULL;
  const pl_min_method *m = find_method(method);
  if (!m) {
    char names[512] = "";
    for (int i = 0; i < METHODS; i++) append_name(names, sizeof names, methods[i]->name);
    pl_error(c, PL_ERROR_ARGUMENT, "there is no method '%s'; there are %s", method, names);
    return NULL;
  }
  if (!check_bounds(c, n, lower, upper)) return NULL;
  pl_optimizer *o = pl_memory_new(c, m->size);
  if (!o) return NULL;
  memset(o, 0, m->size);
  o->method = m;
  o->c = c;
  o->n = n;
  o->f = o->best_f = NAN;
  if (read_settings(o, settings) && make_vectors(o, x0, lower, upper)) return o;
  pl_optimizer_free(o);
  return NULL;
}

void pl_optimizer_free(pl_optimizer *o) {
  if (!o) return;
  if (o->method->close) o->method->close(o);
  pl_memory_free(o->c, o->settings);
  pl_memory_free(o->c, o->memory);
  pl_memory_free(o->c, o);
}

/* ---- asking and telling ---- */

const double *pl_optimizer_ask(pl_optimizer *o) {
  if (o->pending && o->status == PL_MIN_RUNNING) {
    o->pending = false;
    o->method->next(o);
  }
  if (o->status != PL_MIN_RUNNING) return NULL;
  o->asked = true;
  return o->trial;
}

void pl_optimizer_stop(pl_optimizer *o) {
  if (o->status == PL_MIN_RUNNING) o->status = PL_MIN_STOPPED;
}

static double projected_norm(const pl_optimizer *o, const double *x, const double *g) {
  double norm = 0;
  for (int64_t i = 0; i < o->n; i++) {
    if (!isfinite(g[i])) return INFINITY;
    norm = fmax(norm, fabs(pl_min_clip(o, i, x[i] - g[i]) - x[i]));
  }
  return norm;
}

void pl_min_accept(pl_optimizer *o, double f, double rtol) {
  double old = o->f;
  memcpy(o->x, o->trial, (size_t)o->n * sizeof *o->x);
  memcpy(o->g, o->trial_g, (size_t)o->n * sizeof *o->g);
  o->f = f;
  o->iterations++;
  o->norm = projected_norm(o, o->x, o->g);
  o->pending = true;
  if (o->norm <= o->settings[PL_MIN_AT_ATOL]) o->status = PL_MIN_GRADIENT;
  else if (old - f <= rtol * fmax(fabs(old), fabs(f))) o->status = PL_MIN_VALUE;
  else if ((double)o->iterations >= o->settings[PL_MIN_AT_ITERATIONS]) o->status = PL_MIN_ITERATIONS;
  else if ((double)o->evaluations >= o->settings[PL_MIN_AT_EVALUATIONS]) o->status = PL_MIN_EVALUATIONS;
}

static void begin(pl_optimizer *o, double f, bool finite) {
  o->f = o->f_start = f;
  o->pending = true;
  memcpy(o->g, o->trial_g, (size_t)o->n * sizeof *o->g);
  o->norm = o->norm_start = projected_norm(o, o->x, o->g);
  if (!finite) o->status = PL_MIN_BAD_START;
  else if (o->norm <= o->settings[PL_MIN_AT_ATOL]) o->status = PL_MIN_GRADIENT;
  else if (o->settings[PL_MIN_AT_ITERATIONS] < 1) o->status = PL_MIN_ITERATIONS;
  else if (o->settings[PL_MIN_AT_EVALUATIONS] < 2) o->status = PL_MIN_EVALUATIONS;
}

bool pl_optimizer_tell(pl_optimizer *o, double f, const double *gradient) {
  if (o->status != PL_MIN_RUNNING || !o->asked) return false;
  o->asked = false;
  o->evaluations++;
  memcpy(o->trial_g, gradient, (size_t)o->n * sizeof *gradient);
  bool finite = isfinite(f);
  for (int64_t i = 0; i < o->n && finite; i++) finite = isfinite(gradient[i]);
  if (finite && !(o->best_f <= f)) {
    o->best_f = f;
    memcpy(o->best_x, o->trial, (size_t)o->n * sizeof *o->best_x);
    memcpy(o->best_g, gradient, (size_t)o->n * sizeof *gradient);
  }
  if (o->evaluations > 1) return o->method->tell(o, f, finite);
  begin(o, f, finite);
  return false;
}

pl_min_report pl_optimizer_report(const pl_optimizer *o) {
  static const struct {
    const char *name, *message;
    bool converged;
  } texts[] = {
      [PL_MIN_RUNNING] = {"running", "not finished", false},
      [PL_MIN_GRADIENT] = {"gradient", "converged: the gradient is below atol", true},
      [PL_MIN_VALUE] = {"value", "converged: the value changes by less than rtol", true},
      [PL_MIN_PRECISION] = {"precision", "converged: no further decrease is possible in floating point", true},
      [PL_MIN_ITERATIONS] = {"iterations", "stopped: the limit of iterations is reached", false},
      [PL_MIN_EVALUATIONS] = {"evaluations", "stopped: the limit of evaluations is reached", false},
      [PL_MIN_LINE_SEARCH] = {"line search",
                              "failed: no lower value along a descent direction; the gradient may be wrong (check_grad "
                              "tells) or the function not smooth",
                              false},
      [PL_MIN_STOPPED] = {"stopped", "stopped by the caller", false},
      [PL_MIN_BAD_START] = {"bad start", "failed: the value or the gradient is not finite at the start", false},
      [PL_MIN_DIVERGED] = {"diverged", "failed: the value or the gradient is no longer finite; a smaller rate may help",
                           false},
  };
  return (pl_min_report){o->status,
                         texts[o->status].converged,
                         texts[o->status].name,
                         texts[o->status].message,
                         {o->best_x, o->best_g, o->best_f, projected_norm(o, o->best_x, o->best_g)},
                         {o->x, o->g, o->f, o->norm},
                         o->step,
                         o->iterations,
                         o->evaluations};
}
