/* Discrete Fourier transforms: the self-sorting mixed-radix algorithm of Stockham, decimation in frequency (C. Van Loan,
 * Computational Frameworks for the Fast Fourier Transform, SIAM, 1992). A pass of radix r splits lines of r m numbers
 * into r lines of m: y[r p + j] = w^(p j) sum over k of e^(-2 pi i j k/r) x[p + m k], for all q behind these at once.
 *
 * Work is done on blocks of 8 complex numbers, 8 real parts, then 8 imaginary ones. They are the same place of 8 lines;
 * or, of a line of 8 m contiguous numbers, 8 neighbours: the first pass, of radix 8, takes neighbouring p and transposes.
 * The sums and products made for one number are the same either way (and none is contracted), and so are its bits. On a
 * GPU all this is cuFFT's. */
#include "kernel.h"
#include "shapes.h"

#if PL_FLOATING && !defined __CUDACC__
#pragma GCC diagnostic ignored "-Wpsabi" /* vectors are passed to inlined functions only */
enum { LANES = FOURIER_LANES, BLOCK = 2*LANES, MAX_RADIX = 13 };
typedef real vec __attribute__((vector_size(LANES*sizeof(real)), aligned(sizeof(real)), may_alias));
typedef struct { vec re, im; } complexes;
#define ALWAYS static inline __attribute__((always_inline))
#define MIX(...) ((vec)__builtin_shufflevector(__VA_ARGS__))
#define UNROLL _Pragma("GCC unroll 16") for

ALWAYS void swap(complexes *t) {
  const vec re = t->re;
  t->re = t->im;
  t->im = re;
}
/* packed: re, im, re, im ... */
ALWAYS complexes load(const real *p, int packed) {
  const vec a = *(const vec *)p, b = *(const vec *)(p + LANES);
  if (!packed) return (complexes){a, b};
  return (complexes){MIX(a, b, 0, 2, 4, 6, 8, 10, 12, 14), MIX(a, b, 1, 3, 5, 7, 9, 11, 13, 15)};
}
ALWAYS void store(real *p, complexes t, int packed) {
  *(vec *)p = packed ? MIX(t.re, t.im, 0, 8, 1, 9, 2, 10, 3, 11) : t.re;
  *(vec *)(p + LANES) = packed ? MIX(t.re, t.im, 4, 12, 5, 13, 6, 14, 7, 15) : t.im;
}
ALWAYS void transpose(vec *t) {
  for (int i = 0; i < 8; i += 2) {
    const vec a = t[i], b = t[i + 1];
    t[i] = MIX(a, b, 0, 8, 2, 10, 4, 12, 6, 14);
    t[i + 1] = MIX(a, b, 1, 9, 3, 11, 5, 13, 7, 15);
  }
  for (int i = 0; i < 6; i += i == 1 ? 3 : 1) {
    const vec a = t[i], b = t[i + 2];
    t[i] = MIX(a, b, 0, 1, 8, 9, 4, 5, 12, 13);
    t[i + 2] = MIX(a, b, 2, 3, 10, 11, 6, 7, 14, 15);
  }
  for (int i = 0; i < 4; i++) {
    const vec a = t[i], b = t[i + 4];
    t[i] = MIX(a, b, 0, 1, 2, 3, 8, 9, 10, 11);
    t[i + 4] = MIX(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

/* ---- butterflies: t_j = sum over k of e^(-2 pi i j k/r) t_k ---- */

ALWAYS complexes plus(complexes a, complexes b) { return (complexes){a.re + b.re, a.im + b.im}; }
ALWAYS complexes minus(complexes a, complexes b) { return (complexes){a.re - b.re, a.im - b.im}; }
ALWAYS complexes turned(complexes a) { return (complexes){a.im, -a.re}; } /* times -i */

ALWAYS void butterfly_2(complexes *a, complexes *b) {
  const complexes t = *a;
  *a = plus(t, *b);
  *b = minus(t, *b);
}
ALWAYS void butterfly_4(complexes *t0, complexes *t1, complexes *t2, complexes *t3) {
  butterfly_2(t0, t2);
  butterfly_2(t1, t3);
  *t3 = turned(*t3);
  butterfly_2(t0, t1);
  butterfly_2(t2, t3); /* t0, t2, t1, t3 are in order */
  const complexes t = *t1;
  *t1 = *t2;
  *t2 = t;
}
ALWAYS void butterfly_8(complexes *t) {
  const real c = (real)0.70710678118654752440;
  complexes e[4], o[4];
  UNROLL (int k = 0; k < 4; k++) {
    e[k] = t[2*k];
    o[k] = t[2*k + 1];
  }
  butterfly_4(&e[0], &e[1], &e[2], &e[3]);
  butterfly_4(&o[0], &o[1], &o[2], &o[3]);
  o[1] = (complexes){(o[1].re + o[1].im)*c, (o[1].im - o[1].re)*c};
  o[2] = turned(o[2]);
  o[3] = (complexes){(o[3].im - o[3].re)*c, (o[3].re + o[3].im)*-c};
  UNROLL (int k = 0; k < 4; k++) {
    t[k] = plus(e[k], o[k]);
    t[k + 4] = minus(e[k], o[k]);
  }
}
/* Of an odd radix, by sums and differences of entries k and r - k. */
ALWAYS void butterfly_odd(complexes *t, const int r, const real *root) {
  complexes s[MAX_RADIX/2 + 1], d[MAX_RADIX/2 + 1], first = t[0];
  UNROLL (int k = 1; k <= r/2; k++) {
    s[k] = plus(t[k], t[r - k]);
    d[k] = minus(t[k], t[r - k]);
    first = plus(first, s[k]);
  }
  UNROLL (int j = 1; j <= r/2; j++) {
    complexes a = t[0], b = {(vec){0}, (vec){0}};
    UNROLL (int k = 1; k <= r/2; k++) {
      const real cosine = root[2*(j*k % r)], sine = root[2*(j*k % r) + 1];
      a = (complexes){a.re + s[k].re*cosine, a.im + s[k].im*cosine};
      b = (complexes){b.re + d[k].re*sine, b.im + d[k].im*sine};
    }
    b = turned(b);
    t[j] = plus(a, b);
    t[r - j] = minus(a, b);
  }
  t[0] = first;
}
ALWAYS void butterfly(complexes *t, const int r, const real *root) {
  if (r == 2) butterfly_2(&t[0], &t[1]);
  else if (r == 4) butterfly_4(&t[0], &t[1], &t[2], &t[3]);
  else if (r == 8) butterfly_8(t);
  else if (r > 1) butterfly_odd(t, r, root);
}

/* ---- passes ---- */

/* m and `behind` in blocks; x and y: steps from block to block */
typedef struct {
  const real *x, *twiddle, *root;
  real *y, scale;
  int64_t x_step, x_swap, y_step, y_swap, m, behind;
  int r;
} pass;

ALWAYS void run_pass(const pass a, const int r, const int from_packed, const int last, const int to_packed) {
  const int64_t far = (r - 1)*a.m; /* the twiddles' imaginary parts */
  for (int64_t p = 0; p < a.m; p++)
    for (int64_t q = 0; q < a.behind; q++) {
      complexes t[MAX_RADIX];
      UNROLL (int k = 0; k < r; k++) {
        t[k] = load(a.x + (q + a.behind*(p + a.m*k))*a.x_step, from_packed);
        if (from_packed && a.x_swap) swap(&t[k]);
      }
      butterfly(t, r, a.root);
      UNROLL (int j = 0; j < r; j++) {
        if (last) {
          t[j] = (complexes){t[j].re*a.scale, t[j].im*a.scale};
        } else if (j > 0) {
          const real re = a.twiddle[(j - 1)*a.m + p], im = a.twiddle[far + (j - 1)*a.m + p];
          t[j] = (complexes){t[j].re*re - t[j].im*im, t[j].re*im + t[j].im*re};
        }
        if (to_packed && a.y_swap) swap(&t[j]);
        store(a.y + (q + a.behind*(r*p + j))*a.y_step, t[j], to_packed);
      }
    }
}
#define PASSES(name, from_packed, last, to_packed)                    \
  static void name(const pass *a) {                                   \
    switch (a->r) {                                                   \
      case 1: run_pass(*a, 1, from_packed, last, to_packed); break;   \
      case 2: run_pass(*a, 2, from_packed, last, to_packed); break;   \
      case 3: run_pass(*a, 3, from_packed, last, to_packed); break;   \
      case 4: run_pass(*a, 4, from_packed, last, to_packed); break;   \
      case 5: run_pass(*a, 5, from_packed, last, to_packed); break;   \
      case 7: run_pass(*a, 7, from_packed, last, to_packed); break;   \
      case 8: run_pass(*a, 8, from_packed, last, to_packed); break;   \
      default: run_pass(*a, a->r, from_packed, last, to_packed);      \
    }                                                                 \
  }
PASSES(pass_between, 0, 0, 0)
PASSES(pass_first, 1, 0, 0)
PASSES(pass_last, 0, 1, 0)
PASSES(pass_last_out, 0, 1, 1)
PASSES(pass_only, 1, 1, 0)
PASSES(pass_only_out, 1, 1, 1)

/* Passes from number `from` on, from x (of lines: packed) to y, or, where that is NULL, to one of two buffers, which is
 * returned; x may be the first of them. */
static real *run_passes(const fourier_args *a, int64_t from, const real *x, int64_t x_step, int packed, real *y, real *one,
                        real *two) {
  const fourier_plan *f = a->plan;
  pass s = {.x = x, .x_step = x_step, .x_swap = a->x_swap, .behind = 1, .m = f->n, .scale = (real)a->scale};
  for (int64_t i = 0; i < from; i++) s.m /= f->radix[i];
  for (int64_t i = from; i < f->passes; i++) {
    const int last = i == f->passes - 1, out = last && y;
    s.r = (int)f->radix[i];
    s.m /= s.r;
    s.twiddle = (const real *)f->twiddle[i];
    s.root = (const real *)f->root[i];
    s.y = out ? y : s.x == one ? two : one;
    s.y_step = out ? a->y_step*(from ? LANES : 1) : BLOCK;
    s.y_swap = a->y_swap;
    if (packed) (last ? out ? pass_only_out : pass_only : pass_first)(&s);
    else (last ? out ? pass_last_out : pass_last : pass_between)(&s);
    s.behind *= s.r;
    s.x = s.y;
    s.x_step = BLOCK;
    packed = 0;
  }
  return s.y;
}

/* The first pass, of radix 8, over neighbours in a line; the last ones are done again where m is no multiple of 8. */
static void pass_along(const fourier_args *a, const real *x, real *y) {
  const int64_t m = a->plan->n/8;
  const real *w = (const real *)a->plan->twiddle[0];
  for (int64_t i = 0; i < m; i += LANES) {
    const int64_t p = i + LANES <= m ? i : m - LANES;
    complexes t[8];
    vec re[8], im[8];
    UNROLL (int k = 0; k < 8; k++) {
      t[k] = load(x + 2*(p + m*k), 1);
      if (a->x_swap) swap(&t[k]);
    }
    butterfly_8(t);
    re[0] = t[0].re;
    im[0] = t[0].im;
    UNROLL (int j = 1; j < 8; j++) {
      const vec c = *(const vec *)(w + (j - 1)*m + p), s = *(const vec *)(w + (6 + j)*m + p);
      re[j] = t[j].re*c - t[j].im*s;
      im[j] = t[j].re*s + t[j].im*c;
    }
    transpose(re);
    transpose(im);
    UNROLL (int k = 0; k < 8; k++) store(y + (p + k)*BLOCK, (complexes){re[k], im[k]}, 0);
  }
}

/* ---- a line alone, of any smooth length: real parts, then, `imag` behind them, imaginary ones ---- */

/* A pass over 8 neighbours s = q + behind p, of which the last ones are done again. Where fewer than 8 lie behind, results
 * are scattered, and the twiddles are there for each s. */
ALWAYS void pass_alone(const pass a, const int64_t imag, const int r, const int from_packed, const int narrow, const int last) {
  const int64_t total = a.m*a.behind, run = narrow ? total : a.behind, far = (r - 1)*(narrow ? total : a.m);
  for (int64_t p = 0; p < total; p += run)
    for (int64_t i = 0; i < run; i += LANES) {
      const int64_t s = p + (i + LANES <= run ? i : run - LANES), row = p/a.behind;
      complexes t[MAX_RADIX];
      UNROLL (int k = 0; k < r; k++) {
        const real *x = a.x + (from_packed ? 2 : 1)*(s + total*k);
        t[k] = from_packed ? load(x, 1) : (complexes){*(const vec *)x, *(const vec *)(x + imag)};
        if (from_packed && a.x_swap) swap(&t[k]);
      }
      butterfly(t, r, a.root);
      UNROLL (int j = 0; j < r; j++) {
        if (last) {
          t[j] = (complexes){t[j].re*a.scale, t[j].im*a.scale};
        } else if (j > 0 && narrow) {
          const vec re = *(const vec *)(a.twiddle + (j - 1)*total + s), im = *(const vec *)(a.twiddle + far + (j - 1)*total + s);
          t[j] = (complexes){t[j].re*re - t[j].im*im, t[j].re*im + t[j].im*re};
        } else if (j > 0) {
          const real re = a.twiddle[(j - 1)*a.m + row], im = a.twiddle[far + (j - 1)*a.m + row];
          t[j] = (complexes){t[j].re*re - t[j].im*im, t[j].re*im + t[j].im*re};
        }
        if (last && a.y_swap) swap(&t[j]);
      }
      if (narrow) {
        UNROLL (int l = 0; l < LANES; l++) {
          real *y = a.y + s + l + (s + l)/a.behind*a.behind*(r - 1);
          UNROLL (int j = 0; j < r; j++) {
            y[j*a.behind] = t[j].re[l];
            y[j*a.behind + imag] = t[j].im[l];
          }
        }
      } else {
        real *y = a.y + (last ? 2 : 1)*(s + p*(r - 1));
        UNROLL (int j = 0; j < r; j++) {
          real *to = y + (last ? 2 : 1)*j*a.behind;
          if (last) store(to, t[j], 1);
          else *(vec *)to = t[j].re, *(vec *)(to + imag) = t[j].im;
        }
      }
    }
}
#define ALONE(name, from_packed, narrow, last)                                  \
  static void name(const pass *a, int64_t imag) {                               \
    switch (a->r) {                                                             \
      case 2: pass_alone(*a, imag, 2, from_packed, narrow, last); break;        \
      case 3: pass_alone(*a, imag, 3, from_packed, narrow, last); break;        \
      case 4: pass_alone(*a, imag, 4, from_packed, narrow, last); break;        \
      case 5: pass_alone(*a, imag, 5, from_packed, narrow, last); break;        \
      case 7: pass_alone(*a, imag, 7, from_packed, narrow, last); break;        \
      case 8: pass_alone(*a, imag, 8, from_packed, narrow, last); break;        \
      case 11: pass_alone(*a, imag, 11, from_packed, narrow, last); break;      \
      default: pass_alone(*a, imag, 13, from_packed, narrow, last);             \
    }                                                                           \
  }
ALONE(alone_first, 1, 1, 0)
ALONE(alone_narrow, 0, 1, 0)
ALONE(alone_wide, 0, 0, 0)
ALONE(alone_last, 0, 0, 1)

static void run_alone(const fourier_args *a, const real *x, real *y, real *one, real *two) {
  const fourier_plan *f = a->plan;
  const int64_t imag = f->n + LANES;
  pass s = {.x = x, .x_swap = a->x_swap, .y_swap = a->y_swap, .behind = 1, .m = f->n, .scale = (real)a->scale};
  for (int64_t i = 0; i < f->passes; i++) {
    const int last = i == f->passes - 1, narrow = s.behind < LANES;
    s.r = (int)f->radix[i];
    s.m /= s.r;
    s.twiddle = (const real *)(f->spread[i] ? f->spread[i] : f->twiddle[i]);
    s.root = (const real *)f->root[i];
    s.y = last ? y : s.x == one ? two : one;
    (i == 0 ? alone_first : last ? alone_last : narrow ? alone_narrow : alone_wide)(&s, imag);
    s.behind *= s.r;
    s.x = s.y;
  }
}

/* ---- lines to blocks and back ---- */

static void gather(const fourier_args *a, real *y) {
  const real *x = (const real *)a->x;
  const int64_t n = a->plan->n;
  int64_t k = 0;
  if (a->count == LANES && a->x_step == 2)
    for (; k + LANES/2 <= n; k += LANES/2) {
      vec t[LANES];
      UNROLL (int l = 0; l < LANES; l++) t[l] = *(const vec *)(x + l*a->x_line + 2*k);
      transpose(t);
      UNROLL (int l = 0; l < LANES; l++) *(vec *)(y + k*BLOCK + (a->x_swap ? l ^ 1 : l)*LANES) = t[l];
    }
  for (; k < n; k++)
    for (int l = 0; l < LANES; l++) {
      const real *p = x + l*a->x_line + k*a->x_step;
      y[k*BLOCK + l] = l < a->count ? p[a->x_swap] : 0;
      y[k*BLOCK + LANES + l] = l < a->count ? p[!a->x_swap] : 0;
    }
}
static void scatter(const fourier_args *a, const real *x) {
  real *y = (real *)a->y;
  const int64_t n = a->plan->n;
  int64_t k = 0;
  if (a->count == LANES && a->y_step == 2)
    for (; k + LANES/2 <= n; k += LANES/2) {
      vec t[LANES];
      UNROLL (int l = 0; l < LANES; l++) t[l] = *(const vec *)(x + k*BLOCK + (a->y_swap ? l ^ 1 : l)*LANES);
      transpose(t);
      UNROLL (int l = 0; l < LANES; l++) *(vec *)(y + l*a->y_line + 2*k) = t[l];
    }
  for (; k < n; k++)
    for (int l = 0; l < a->count; l++) {
      real *p = y + l*a->y_line + k*a->y_step;
      p[a->y_swap] = x[k*BLOCK + l];
      p[!a->y_swap] = x[k*BLOCK + LANES + l];
    }
}
static void multiply(const fourier_args *a, real *y) {
  const real *lane = (const real *)a->lane, *block = (const real *)a->block;
  for (int64_t k = 0; k < a->plan->n; k++) {
    const complexes u = load(lane + k*BLOCK, 0), t = load(y + k*BLOCK, 0);
    const real c = block[2*k*a->index], s = block[2*k*a->index + 1];
    const vec re = u.re*c - u.im*s, im = u.re*s + u.im*c;
    store(y + k*BLOCK, (complexes){t.re*re - t.im*im, t.re*im + t.im*re}, 0);
  }
}

typedef fourier_args fourier_lines_args;
PL_ROW_KERNEL(fourier_lines) {
  const fourier_plan *f = a.plan;
  real *one = (real *)a.work, *two = one + f->n*BLOCK;
  (void)i;
  if (f->radix[0] == 8 && f->n >= 8*LANES && a.x_step == 2 && a.y_step == 2 && !a.lane) {
    for (int64_t l = 0; l < a.count; l++) {
      pass_along(&a, (const real *)a.x + l*a.x_line, one);
      run_passes(&a, 1, one, BLOCK, 0, (real *)a.y + l*a.y_line, one, two);
    }
    return;
  }
  if (f->alone && a.count <= FOURIER_ALONE && a.x_step == 2 && a.y_step == 2 && !a.lane) {
    for (int64_t l = 0; l < a.count; l++)
      run_alone(&a, (const real *)a.x + l*a.x_line, (real *)a.y + l*a.y_line, one, one + 2*(f->n + LANES));
    return;
  }
  const int whole = a.count == LANES, in = whole && a.x_line == 2, out = whole && a.y_line == 2 && !a.lane;
  if (!in) gather(&a, one);
  real *y = run_passes(&a, 0, in ? (const real *)a.x : one, in ? a.x_step : BLOCK, in, out ? (real *)a.y : 0, one, two);
  if (a.lane) multiply(&a, y);
  if (!out) scatter(&a, y);
}

/* ---- before and behind ---- */

PL_ROW_KERNEL(fourier_product) {
  const real *x = (const real *)a.x + i*a.x_step, *z = (const real *)a.z + 2*i, scale = (real)a.scale;
  const real re = x[a.x_swap], im = x[!a.x_swap];
  real *y = (real *)a.y + i*a.y_step;
  y[a.y_swap] = (re*z[0] - im*z[1])*scale;
  y[!a.y_swap] = (re*z[1] + im*z[0])*scale;
}

/* Steps below work on groups i of 8 numbers k and their mirror images; at the ends, and where groups meet, on one. */
ALWAYS vec back(vec a) { return MIX(a, a, 7, 6, 5, 4, 3, 2, 1, 0); }
ALWAYS complexes load_back(const real *p) {
  const complexes t = load(p, 1);
  return (complexes){back(t.re), back(t.im)};
}
ALWAYS void store_back(real *p, complexes t) { store(p, (complexes){back(t.re), back(t.im)}, 1); }

/* With E = x_k + x*_(h-k), D = x_k - x*_(h-k) and t = -i w^k (backward: its conjugate): y_k = E + t D,
 * y*_(h-k) = E - t D. */
#define FOLD(type, name)                                                                                     \
  ALWAYS void name(type *re, type *im, type *mirror_re, type *mirror_im, type z_re, type z_im, real sign, real scale) { \
    const type e_re = *re + *mirror_re, e_im = *im - *mirror_im, d_re = *re - *mirror_re, d_im = *im + *mirror_im; \
    const type s = z_re*sign, t_re = d_re*z_im - d_im*s, t_im = d_re*s + d_im*z_im;                          \
    *re = (e_re + t_re)*scale;                                                                               \
    *im = (e_im + t_im)*scale;                                                                               \
    *mirror_re = (e_re - t_re)*scale;                                                                        \
    *mirror_im = (t_im - e_im)*scale;                                                                        \
  }
FOLD(real, fold)
FOLD(vec, fold_group)

static void fold_ends(const fourier_fold_args *a) {
  const real *x = (const real *)a->x, edge = (real)a->edge;
  const real first = x[0], second = x[a->backward ? a->n : 1];
  real *y = (real *)a->y;
  y[0] = (first + second)*edge;
  y[1] = a->backward ? (first - second)*edge : 0;
  if (a->backward) return;
  y[a->n] = (first - second)*edge;
  y[a->n + 1] = 0;
}
/* Of odd n, the n frequencies are there, and the conjugates are left out or put in. */
static void fold_odd(const fourier_fold_args *a, int64_t k) {
  const real scale = (real)(k ? a->interior : a->edge), re = ((const real *)a->x)[2*k]*scale,
             im = k ? ((const real *)a->x)[2*k + 1]*scale : 0;
  real *y = (real *)a->y + 2*k, *mirror = (real *)a->y + 2*(a->n - k);
  y[0] = re;
  y[1] = im;
  if (!a->backward || k == 0) return;
  mirror[0] = re;
  mirror[1] = -im;
}
PL_ROW_KERNEL(fourier_fold) {
  const real *x = (const real *)a.x, *z = (const real *)a.z, sign = a.backward ? 1 : -1, scale = (real)a.interior;
  real *y = (real *)a.y;
  const int64_t h = a.n/2, last = a.n & 1 ? h : h/2, k0 = i*LANES, m = h - k0 - (LANES - 1);
  if (i > 0 && !(a.n & 1) && k0 + LANES <= m) {
    complexes p = load(x + 2*k0, 1), q = load_back(x + 2*m), w = load(z + 2*k0, 1);
    fold_group(&p.re, &p.im, &q.re, &q.im, w.re, w.im, sign, scale);
    store(y + 2*k0, p, 1);
    store_back(y + 2*m, q);
    return;
  }
  for (int64_t k = k0; k < k0 + LANES && k <= last; k++) {
    if (a.n & 1) {
      fold_odd(&a, k);
    } else if (k == 0) {
      fold_ends(&a);
    } else {
      const int64_t j = h - k;
      real p[] = {x[2*k], x[2*k + 1]}, q[] = {x[2*j], x[2*j + 1]};
      fold(&p[0], &p[1], &q[0], &q[1], z[2*k], z[2*k + 1], sign, scale);
      y[2*j] = q[0];
      y[2*j + 1] = q[1];
      y[2*k] = p[0];
      y[2*k + 1] = p[1];
    }
  }
}

/* y_k - i y_(n-k) = e^(-i pi k/(2 n)) x_k, and back (J. Makhoul, A fast cosine transform in one and two dimensions, IEEE
 * Trans. ASSP 28(1), 1980) */
PL_ROW_KERNEL(fourier_cosine) {
  const real *x = (const real *)a.x, *z = (const real *)a.z, scale = (real)a.scale;
  real *y = (real *)a.y;
  const int64_t k0 = i*LANES, m = a.n - k0 - (LANES - 1);
  if (i > 0 && k0 + LANES <= m) {
    const complexes t = load(x + 2*k0, 1), w = load(z + 2*k0, 1);
    *(vec *)(y + k0) = (t.re*w.re - t.im*w.im)*scale;
    *(vec *)(y + m) = back(-(t.re*w.im + t.im*w.re)*scale);
    return;
  }
  for (int64_t k = k0; k < k0 + LANES && 2*k <= a.n; k++) {
    const real each = k ? scale : (real)(a.scale*a.first);
    if (k) y[a.n - k] = -(x[2*k]*z[2*k + 1] + x[2*k + 1]*z[2*k])*scale;
    y[k] = (x[2*k]*z[2*k] - x[2*k + 1]*z[2*k + 1])*each;
  }
}
typedef fourier_cosine_args fourier_cosine_back_args;
PL_ROW_KERNEL(fourier_cosine_back) {
  const real *x = (const real *)a.x, *z = (const real *)a.z, scale = (real)a.scale;
  real *y = (real *)a.y;
  const int64_t k0 = i*LANES, m = a.n - k0 - (LANES - 1);
  if (i > 0 && k0 + LANES <= m) {
    const vec re = *(const vec *)(x + k0), im = -back(*(const vec *)(x + m));
    const complexes w = load(z + 2*k0, 1);
    store(y + 2*k0, (complexes){(re*w.re + im*w.im)*scale, (im*w.re - re*w.im)*scale}, 1);
    return;
  }
  for (int64_t k = k0; k < k0 + LANES && 2*k <= a.n; k++) {
    const real re = x[k], im = k && 2*k < a.n ? -x[a.n - k] : 0, each = k ? scale : (real)(a.scale*a.first);
    y[2*k] = (re*z[2*k] + im*z[2*k + 1])*each;
    y[2*k + 1] = (im*z[2*k] - re*z[2*k + 1])*each;
  }
}

PL_ROW_KERNEL(fourier_copy) {
  const real *x = (const real *)a.x + i*a.x_step;
  real *y = (real *)a.y + i*a.y_step;
  for (int64_t l = 0; l < a.count; l++) y[l*a.y_line] = x[l*a.x_line];
}

PL_ROW_KERNEL(fourier_weigh) {
  const int end = a.ends && (i == 0 || (a.last && i == a.n - 1));
  const real *x = (const real *)a.x + 2*i, factor = (real)(end ? a.edge : a.factor);
  real *y = (real *)a.y + 2*i;
  y[0] = x[0]*factor;
  y[1] = end ? 0 : x[1]*factor;
}
#endif

#if PL_FLOATING
typedef complex_args complex_product_args;
PL_ROW_KERNEL(complex_product) {
  const real *x = (const real *)a.x + 2*i, *z = (const real *)a.z + 2*i, s = (real)a.sign*z[1];
  const real re = x[0]*z[0] - x[1]*s, im = x[1]*z[0] + x[0]*s;
  real *y = (real *)a.y + 2*i;
  y[0] = re;
  y[1] = im;
}
#endif
