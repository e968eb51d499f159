/* fft.h: discrete Fourier transforms along the middle axis of {outer, n, inner}. Plans (factors and twiddles) stay with
 * the context, the latest ones. Bits depend on n and dtype alone (and on the library, where the user chose one): not on
 * where a line stands, on the other lines or on threads. */
#ifndef PL_FFT_H
#define PL_FFT_H

#include "op.h"

typedef enum {
  PL_FFT_COMPLEX, /* y_k = scale sum over j of e^(-2 pi i j k/n) x_j; backward: e^(+ ...) */
  PL_FFT_REAL,    /* the same of real x, k <= n/2; backward: from these frequencies to real y, of length n */
  PL_FFT_COSINE,  /* y_k = scale sum over j of cos(pi k (2 j + 1)/(2 n)) x_j, y_0 times `first`; backward: the transpose
                   */
} pl_fft_kind;

typedef struct {
  pl_fft_kind kind;
  pl_dtype dtype;
  const void *x; /* may be y where both are complex */
  void *y;
  int64_t outer, n, inner;
  bool backward;
  bool once; /* real: frequencies other than 0 and n/2 count once, not twice for their conjugates */
  double scale, first;
} pl_fft_job;

void pl_fft(pl_context *c, const pl_fft_job *job);

#endif
