/* newton.h: what a loaded program's newton op must be checked for. */
#ifndef PL_NEWTON_H
#define PL_NEWTON_H

#include "../op.h"

/* Do its programs, its pattern and its inputs fit each other? */
bool pl_newton_fits(const pl_attr *attrs, int n, const pl_spec *in);

#endif
