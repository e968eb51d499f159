/* method.h: how an optimizer is written. A method is a row: names and ranges of its settings, and functions over a
 * struct that begins with pl_optimizer. What all methods share (limits, bounds, the best point, the report) is
 * optimizer.c's. When o->x is a new point `next` finds a trial, o->trial; `tell` hears what f is there, and either
 * accepts it (pl_min_accept), sets another trial, or ends by o->status. */
#ifndef PL_METHOD_H
#define PL_METHOD_H

#include <float.h>
#include <math.h>

#include "context.h"
#include "optimizer.h"

typedef struct pl_min_method pl_min_method;

struct pl_optimizer {
  const pl_min_method *method;
  pl_context *c;
  int64_t n;
  double *memory; /* holds the vectors below, then the method's own */
  double *x, *g;  /* where the last iteration ended */
  double *trial, *trial_g, *best_x, *best_g, *lower, *upper;
  double f, f_start, norm, norm_start, best_f, step; /* norm: of the projected gradient at x */
  bool bounded, asked, pending;                      /* pending: the next trial is to be found */
  int64_t iterations, evaluations;
  pl_min_status status;
  double *settings; /* in the order of the row's list */
};

struct pl_min_method {
  const char *name, *text;
  const pl_setting_info *settings;                /* PL_MIN_LIMITS first; ends with a NULL name */
  size_t size;                                    /* of the method's struct */
  int (*vectors)(const pl_optimizer *o);          /* how many vectors of n it needs for itself */
  bool (*open)(pl_optimizer *o, double *vectors); /* false, and the error set; the vectors are zero. May be NULL */
  void (*next)(pl_optimizer *o);                  /* the first trial from o->x, where o->f and o->g are known */
  bool (*tell)(pl_optimizer *o, double f, bool finite); /* o->trial_g is the gradient: was an iteration completed? */
  void (*close)(pl_optimizer *o);                       /* frees what open made; may be NULL */
};

/* The settings of all methods, and their places. */
enum { PL_MIN_AT_ITERATIONS, PL_MIN_AT_EVALUATIONS, PL_MIN_AT_ATOL, PL_MIN_OWN };
#define PL_MIN_LIMITS                                                                                             \
  {"iterations", "at most so many", 1000, 0, 1e15, true, "a whole number, 0 or above"},                           \
      {"evaluations", "at most so many; 10 an iteration", NAN, 0, 1e17, true, "a whole number, 0 or above"}, {    \
    "atol", "stop when no entry of the projected gradient is above this", 1e-12, 0, INFINITY, false, "0 or above" \
  }

static inline double pl_min_clip(const pl_optimizer *o, int64_t i, double x) {
  return fmax(o->lower[i], fmin(o->upper[i], x));
}
/* Sums in fixed blocks: accurate, and the same on any machine of one instruction set. */
double pl_min_dot(int64_t n, const double *a, const double *b);
/* The trial, where the function is f, becomes o->x: an iteration is completed. Ends where a limit is reached or a
 * tolerance met; rtol (NAN: none) is that of the value. */
void pl_min_accept(pl_optimizer *o, double f, double rtol);

#endif
