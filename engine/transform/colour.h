/* colour.h: colourings of patterns, after A. H. Gebremedhin, F. Manne, A. Pothen, What color is your Jacobian? Graph
 * coloring for computing derivatives, SIAM Review 47(4), 2005: columns of one colour are computed by one product.
 * Colours count from 0; each of these returns how many there are, or -1 with the error set. */
#ifndef PL_COLOUR_H
#define PL_COLOUR_H

#include "../pattern.h"

/* No two entries of a row have columns of one colour (rows: of a column, rows). */
int32_t pl_colour_columns(pl_context *c, pl_pattern *p, int32_t *colour);
int32_t pl_colour_rows(pl_context *c, pl_pattern *p, int32_t *colour);
/* Of a symmetric pattern: neighbours differ, and every path over four vertices has three colours. */
int32_t pl_colour_star(pl_context *c, pl_pattern *p, int32_t *colour);
/* For each entry (i, j) where it is read, 0-based in the compressed {colours, ...}: of columns colour[j]*rows + i, of
 * rows colour[i]*cols + j; of a star colouring colour[j]*n + i where j is alone with its colour in row i, else
 * colour[i]*n + j. */
void pl_recover_columns(const pl_pattern *p, const int32_t *colour, int64_t *map);
void pl_recover_rows(const pl_pattern *p, const int32_t *colour, int64_t *map);
bool pl_recover_star(pl_context *c, const pl_pattern *p, const int32_t *colour, int32_t colours, int64_t *map);

#endif
