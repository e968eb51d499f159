/* line_search.h: a step that satisfies the strong Wolfe conditions
 *   phi(a) <= phi(0) + c1 a phi'(0),   |phi'(a)| <= c2 |phi'(0)|,
 * by the safeguarded interpolation of J. J. More and D. J. Thuente, Line search algorithms with guaranteed sufficient
 * decrease, ACM TOMS 20(3), 1994. The caller evaluates phi. */
#ifndef PL_LINE_SEARCH_H
#define PL_LINE_SEARCH_H

#include <stdbool.h>

typedef enum {
  PL_SEARCH_EVALUATE, /* give phi and phi' at `step` */
  PL_SEARCH_DONE,     /* `step`, the last one evaluated, satisfies the conditions */
  PL_SEARCH_LIMIT,    /* `step` decreases enough and is the largest allowed */
  PL_SEARCH_FAILED,   /* no such step at working precision; the best is `best` */
} pl_search_status;

typedef struct {
  double step;         /* the trial */
  double best, f_best; /* the lowest value seen, where it decreases */
  double c1, c2, least, most;
  /* the interval of uncertainty: x its best end, y the other */
  double f0, g0, x, fx, gx, y, fy, gy, low, high, width, width1;
  bool bracketed, first_stage;
  int evaluations;
} pl_line_search;

/* phi(0), phi'(0) < 0, the first trial and the largest step. */
void pl_line_search_start(pl_line_search *s, double f0, double g0, double step, double most);
/* What phi and phi' are at s->step; either may be NaN or infinite: then the step shortens. */
pl_search_status pl_line_search_next(pl_line_search *s, double f, double g);

#endif
