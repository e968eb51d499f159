/* Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3,
 * SC11). Number i depends on (seed, stream, position + i) alone: the same on any device and number of threads. */
#include "kernel.h"
#include "shapes.h"

PL_FN void philox(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t out[4]) {
  uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32), c2 = (uint32_t)stream, c3 = (uint32_t)(stream >> 32);
  uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
  for (int r = 0; r < 10; r++) {
    const uint64_t p0 = (uint64_t)0xD2511F53u*c0, p1 = (uint64_t)0xCD9E8D57u*c2;
    c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
    c1 = (uint32_t)p1;
    c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
    c3 = (uint32_t)p0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/* In (0, 1): 52 bits, centred, so that neither end is met. */
PL_FN double unit(uint32_t hi, uint32_t lo) { return ((double)((uint64_t)hi << 20 | lo >> 12) + 0.5)*0x1p-52; }

PL_FN uint64_t counter_of(const random_args *a, int64_t i) {
  return a->positions ? (uint64_t)a->positions[i / a->count] + (uint64_t)(i % a->count) : a->position + (uint64_t)i;
}

#if PL_FLOATING
typedef random_args random_uniform_args;
PL_ROW_KERNEL(random_uniform) {
  uint32_t w[4];
  philox(a.seed, a.stream, counter_of(&a, i), w);
  ((real *)a.y)[i] = (real)(a.lo + (a.hi - a.lo)*unit(w[0], w[1]));
}

/* Box-Muller */
typedef random_args random_normal_args;
PL_ROW_KERNEL(random_normal) {
  uint32_t w[4];
  philox(a.seed, a.stream, counter_of(&a, i), w);
  const double u = unit(w[0], w[1]), v = unit(w[2], w[3]);
#undef log
#undef sqrt
#undef cos
  ((real *)a.y)[i] = (real)(sqrt(-2*log(u))*cos(6.283185307179586477*v));
}
#elif PL_DTYPE_ID == 2
/* lo .. hi inclusive: the high word of a 64 x 64 bit product; its bias is below 2^-64 times the width. */
typedef random_args random_integers_args;
PL_ROW_KERNEL(random_integers) {
  uint32_t w[4];
  philox(a.seed, a.stream, counter_of(&a, i), w);
  const uint64_t x = (uint64_t)w[0] << 32 | w[1], width = (uint64_t)((int64_t)a.hi - (int64_t)a.lo) + 1;
  const uint64_t xl = (uint32_t)x, xh = x >> 32, wl = (uint32_t)width, wh = width >> 32;
  const uint64_t middle = ((xl*wl) >> 32) + (uint32_t)(xh*wl) + (xl*wh & 0xffffffffu);
  const uint64_t high = xh*wh + (xh*wl >> 32) + (xl*wh >> 32) + (middle >> 32);
  ((real *)a.y)[i] = (int64_t)a.lo + (int64_t)high;
}
#endif
