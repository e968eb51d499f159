/* The factorization and solve of laplace.lua by CHOLMOD itself, as a C program would call it: analysed before, BLAS on
 * one thread, a factor anew each time. Prints seconds, the least of some: factorization with solve, and the solve
 * alone. */
#ifdef PL_HAVE_GPL
#include <cblas.h>
#include <cholmod.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
static double edge(int i) { return 1 + (double)((unsigned)i * 2654435761u) / 4294967296.0; }

int main(int argc, char **argv) {
  int n = argc > 1 ? atoi(argv[1]) : 300, rounds = argc > 2 ? atoi(argv[2]) : 15, at = 0;
  cholmod_common c;
  cholmod_start(&c);
  cholmod_sparse *a = cholmod_allocate_sparse(n * n, n * n, 3 * n * n, 1, 1, -1, CHOLMOD_REAL, &c);
  int *p = a->p, *row = a->i;
  double *x = a->x;
  for (int i = 0; i < n; i++)
    for (int j = 0; j < n; j++) { /* the lower triangle, by columns */
      int k = i * n + j;
      double down = edge(2 * k), right = edge(2 * k + 1);
      p[k] = at;
      row[at] = k;
      x[at++] = down + right + (i ? edge(2 * (k - n)) : 1) + (j ? edge(2 * (k - 1) + 1) : 1);
      if (j + 1 < n) row[at] = k + 1, x[at++] = -right;
      if (i + 1 < n) row[at] = k + n, x[at++] = -down;
    }
  p[n * n] = at;
  openblas_set_num_threads(1);
  omp_set_max_active_levels(0);
  c.final_ll = 1;
  cholmod_factor *symbolic = cholmod_analyze(a, &c);
  cholmod_dense *b = cholmod_ones(n * n, 1, CHOLMOD_REAL, &c);
  double best = 1e9, least = 1e9;
  for (int r = 0; r < rounds; r++) {
    double t0 = now();
    cholmod_factor *l = cholmod_copy_factor(symbolic, &c);
    cholmod_factorize(a, l, &c);
    double t1 = now();
    cholmod_dense *u = cholmod_solve(CHOLMOD_A, l, b, &c);
    double t2 = now();
    if (t2 - t0 < best) best = t2 - t0;
    if (t2 - t1 < least) least = t2 - t1;
    cholmod_free_dense(&u, &c);
    cholmod_free_factor(&l, &c);
  }
  printf("%.6f %.6f\n", best, least);
  cholmod_free_factor(&symbolic, &c);
  cholmod_free_dense(&b, &c);
  cholmod_free_sparse(&a, &c);
  cholmod_finish(&c);
  return 0;
}
#else
int main(void) { return 0; }
#endif
