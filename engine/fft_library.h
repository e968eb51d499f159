/* fft_library.h: a library that transforms lines in place of ours (fft.c), in a shared object perilune_NAME.so of its
 * own. Such a plugin needs nothing of the engine but this header; its table is called pl_fft_plugin. */
#ifndef PL_FFT_LIBRARY_H
#define PL_FFT_LIBRARY_H

#include "perilune.h"

typedef struct pl_fft_library {
  const char *version; /* PL_VERSION of this header */
  size_t alignment;    /* bytes, of the lines it takes */
  /* Of one line of n complex numbers, or (`real`) between n real numbers and their n/2 + 1 first frequencies; without
   * any factor. Bits depend on the arguments alone. NULL where there is no memory. May be called by any thread. */
  void *(*plan)(pl_dtype dtype, bool real, bool backward, int64_t n);
  void (*free)(pl_dtype dtype, void *plan);
  /* x and y do not overlap; what stays in x is undefined where it goes back to real numbers. Many threads may share a
   * plan. */
  void (*run)(pl_dtype dtype, bool real, bool backward, void *plan, const void *x, void *y);
} pl_fft_library;

#endif
