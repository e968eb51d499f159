/* gmres.h: A x = b by restarted GMRES, asking for products with A one at a time.
 *   Y. Saad, M. H. Schultz, SIAM J. Sci. Stat. Comput. 7 (1986) 856.
 *
 *   more = pl_gmres_begin(c, &g, b, tolerance);        // |b - A x| <= tolerance is wanted
 *   while (more) { g.out = A g.in; more = pl_gmres_next(&g); }
 *   ... g.x, g.residual */
#ifndef PL_GMRES_H
#define PL_GMRES_H

#include "../context.h"

enum { PL_GMRES_COLUMNS = 40, PL_GMRES_PRODUCTS = 4000 };

typedef struct {
  int64_t n, stride; /* of vectors: whole cache lines, and one more */
  double *memory, *basis, *x, *in, *out;
  double h[(PL_GMRES_COLUMNS + 1) * PL_GMRES_COLUMNS]; /* column j at h + j (COLUMNS + 1) */
  double cosine[PL_GMRES_COLUMNS], sine[PL_GMRES_COLUMNS], g[PL_GMRES_COLUMNS + 1];
  int columns;
  int64_t products;
  double tolerance, residual;
} pl_gmres;

bool pl_gmres_new(pl_context *c, pl_gmres *g, int64_t n);
void pl_gmres_free(pl_context *c, pl_gmres *g);
bool pl_gmres_begin(pl_gmres *g, const double *b, double tolerance);
bool pl_gmres_next(pl_gmres *g);

#endif
