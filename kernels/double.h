/* double.h: for kernels that compute in double precision whatever the dtype: `exp`, `log` ... are double's from here on. */
#ifndef PL_KERNELS_DOUBLE_H
#define PL_KERNELS_DOUBLE_H

#include "kernel.h"

#if PL_FLOATING
#undef exp
#undef log
#undef log1p
#undef expm1
#undef sin
#undef cos
#undef tan
#undef floor
#undef fabs
#undef sqrt
#undef pow
#undef hypot
#undef erf
#undef erfc
#endif
#endif
