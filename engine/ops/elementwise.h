/* elementwise.h: what rows of elementwise ops are written with: partial derivatives, samples, rows. */
#ifndef PL_OPS_ELEMENTWISE_H
#define PL_OPS_ELEMENTWISE_H

#include "../op.h"

#define PARTIAL(name) \
  static pl_value name##_partial(pl_context *c, int k, const pl_value *in, pl_value y, const pl_attr *attrs)
#define UNUSED (void)k, (void)in, (void)y, (void)attrs, (void)c
#define X in[0]
#define Z in[1]
#define NUMBER(v) pl_like(c, X, v)
#define ONE NUMBER(1)
#define CALL1(op, x) PL_UNARY(op, c, x)
#define CALL2(op, x, z) PL_BINARY(op, c, x, z)

static inline pl_value mask_number(pl_context *c, pl_value mask, pl_value like) {
  pl_slot *s = pl_slot_get(c, like);
  return s ? pl_cast(c, mask, (pl_dtype)s->dtype) : PL_NONE;
}

/* c[0] + c[1] x^2 + ... + c[n - 1] x^(2n - 2) */
static inline pl_value even_series(pl_context *c, pl_value x, int n, const double *coefficients) {
  pl_value s = PL_UNARY(square, c, x), sum = pl_like(c, x, coefficients[n - 1]);
  for (int k = n - 2; k >= 0; k--) sum = PL_BINARY(add, c, PL_BINARY(mul, c, sum, s), pl_like(c, x, coefficients[k]));
  return sum;
}

/* ---- samples: shapes of every kind, entries in the op's smooth domain ---- */

static inline bool sample_unary(pl_context *c, pl_sampler_random *r, int k, pl_sample *s, double lo, double hi) {
  s->n = 1;
  switch (k) {
    case 0: s->in[0] = pl_sample_tensor(c, r, lo, hi, 2, 3, 4); return true;
    case 1: s->in[0] = pl_sample_tensor(c, r, lo, hi, 0); return true;
    case 2: s->in[0] = pl_sample_tensor(c, r, lo, hi, 1, 1); return true;
    case 3: s->in[0] = pl_sample_tensor(c, r, lo, hi, 2, 3, 0); return true;
    case 4: s->in[0] = pl_sample_tensor(c, r, lo, hi, 1, 2051); return true;
    default: return false;
  }
}
static inline bool sample_binary(pl_context *c, pl_sampler_random *r, int k, pl_sample *s, double lo, double hi,
                                 double lo2, double hi2) {
  s->n = 2;
#define PAIR(first, second)            \
  s->in[0] = first, s->in[1] = second; \
  return true
#define A(...) pl_sample_tensor(c, r, lo, hi, __VA_ARGS__)
#define B(...) pl_sample_tensor(c, r, lo2, hi2, __VA_ARGS__)
  switch (k) {
    case 0: PAIR(A(2, 3, 4), B(2, 3, 4));
    case 1: PAIR(A(2, 3, 4), B(1, 4));
    case 2: PAIR(A(2, 3, 1), B(2, 1, 4));
    case 3: PAIR(A(0), B(1, 5));
    case 4: PAIR(A(1, 5), B(0));
    case 5: PAIR(A(1, 0), B(1, 1));
    case 6: PAIR(A(1, 1), B(0));
    case 7: PAIR(A(3, 2, 1, 700), B(2, 3, 1));
    case 8:
      s->in[0] = A(1, 6);
      s->in[1] = s->in[0];
      pl_retain(c, s->in[0]);
      return true; /* aliased */
    default: return false;
  }
}
#define SAMPLE1(name, lo, hi)                                                                  \
  static inline bool name##_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) { \
    return sample_unary(c, r, k, s, lo, hi);                                                   \
  }
#define SAMPLE2(name, lo, hi, lo2, hi2)                                                        \
  static inline bool name##_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) { \
    return sample_binary(c, r, k, s, lo, hi, lo2, hi2);                                        \
  }

SAMPLE1(wide, -2, 2)
SAMPLE1(positive, 0.3, 3)
SAMPLE2(pair, -2, 2, -1.5, 1.5)
SAMPLE2(quotient, -2, 2, 0.5, 2)
static inline bool remainder_sample(pl_context *c, pl_sampler_random *r, int k,
                                    pl_sample *s) { /* away from the jumps */
  return k < 8 && sample_binary(c, r, k, s, 1.15, 1.35, 0.5, 0.55);
}

#define UNARY(op, text, set, smp, ...)                                                                            \
  {                                                                                                               \
    .name = #op, .formula = text, .kind = PL_ELEMENTWISE, .inputs = 1, .outputs = 1, .dtypes = set, .result = -1, \
    .partial = op##_partial, .sample = smp##_sample, __VA_ARGS__                                                  \
  }
#define COSTLY(op, text, set, smp, ...)                                                                           \
  {                                                                                                               \
    .name = #op, .formula = text, .kind = PL_ELEMENTWISE, .inputs = 1, .outputs = 1, .dtypes = set, .result = -1, \
    .partial = op##_partial, .sample = smp##_sample, .work = 10, __VA_ARGS__                                      \
  }
#define BINARY(op, text, set, smp, ...)                                                                           \
  {                                                                                                               \
    .name = #op, .formula = text, .kind = PL_ELEMENTWISE, .inputs = 2, .outputs = 1, .dtypes = set, .result = -1, \
    .partial = op##_partial, .sample = smp##_sample, .in_place = true, __VA_ARGS__                                \
  }
#endif
