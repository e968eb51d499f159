/* Convolutions (cross-correlations) y[m, j] = sum over channels c and taps k of w[m, c, k] x[c, j*stride + first + e_k], as
 * products of a matrix of weights with shifted views of x: K. Chellapilla, S. Puri, P. Simard, High performance convolutional
 * neural networks for document processing, IWFHR 2006, but that no matrix of views is made. A box of x is copied with its
 * margin of zeros, and each residue of the stride apart, so that neighbours in y read neighbours there: each tap is then a
 * vector at a fixed distance. Each result is summed along (c, k) in order, so that its bits do not depend on where it stands.
 * On a GPU this is cuDNN's. */
#include "kernel.h"
#include "shapes.h"

#if PL_FLOATING && !defined __CUDACC__
#if PL_ISA_ID == 2
#define WIDTH 64
#elif PL_ISA_ID == 1
#define WIDTH 32
#else
#define WIDTH 16
#endif
typedef real vec __attribute__((vector_size(WIDTH), aligned(sizeof(real)), may_alias));
enum { LANES = WIDTH/sizeof(real), PANEL = PL_CONV_PANEL, GROUP = 6 };
#ifdef __clang__
#pragma clang fp contract(fast)
#define FUSED
#else
#define FUSED __attribute__((optimize("fp-contract=fast"))) /* one rounding for a product and its sum */
#endif

/* ---- the box of x ---- */

typedef struct {
  int64_t box, lo[3], size[3]; /* its first output and how many, an axis */
  int64_t pitch;               /* of rows in the copy */
} place;

static place place_of(const conv_args *a, int64_t box) {
  place p = {.box = box};
  for (int d = 2; d >= 0; d--) {
    const conv_axis *s = &a->axis[d];
    p.lo[d] = box % s->boxes*s->box;
    p.size[d] = s->count - p.lo[d] < s->box ? s->count - p.lo[d] : s->box;
    box /= s->boxes;
  }
  p.pitch = a->axis[2].box + a->axis[2].reach;
  return p;
}

/* n elements of a row of x from place `at` on, a stride apart; 0 where there are none. */
static void copy_row(const real *x, const conv_axis *s, int64_t at, int64_t n, real *y) {
  int64_t lo = at < 0 ? (-at + s->stride - 1)/s->stride : 0, hi = s->in > at ? (s->in - at + s->stride - 1)/s->stride : 0;
  if (lo > n) lo = n;
  if (hi > n) hi = n;
  if (hi < lo) hi = lo;
  for (int64_t j = 0; j < lo; j++) y[j] = 0;
  if (s->stride == 1)
    for (int64_t j = lo; j < hi; j++) y[j] = x[at + j];
  else
    for (int64_t j = lo; j < hi; j++) y[j] = x[at + j*s->stride];
  for (int64_t j = hi; j < n; j++) y[j] = 0;
}

static void copy_box(const conv_args *a, const place *p, int64_t first_channel, real *y) {
  const conv_axis *d = a->axis, *h = d + 1, *w = d + 2;
  const int64_t rows = h->box + h->reach, deep = d->box + d->reach, count = d->in*h->in*w->in;
  const conv_axis nothing = {.in = 0, .stride = 1};
  for (int64_t c = 0; c < a->channels; c++) {
    const real *x = (const real *)a->x + (first_channel + c)*count;
    for (int64_t phase = 0; phase < d->phases*h->phases*w->phases; phase++) {
      const int64_t fw = phase % w->phases, fh = phase/w->phases % h->phases, fd = phase/w->phases/h->phases;
      for (int64_t i = 0; i < deep; i++)
        for (int64_t j = 0; j < rows; j++, y += p->pitch) {
          const int64_t xd = (p->lo[0] + i)*d->stride + d->first + fd, xh = (p->lo[1] + j)*h->stride + h->first + fh;
          const int inside = xd >= 0 && xd < d->in && xh >= 0 && xh < h->in;
          copy_row(x + (inside ? (xd*h->in + xh)*w->in : 0), inside ? w : &nothing, p->lo[2]*w->stride + w->first + fw, p->pitch, y);
        }
    }
  }
  for (int64_t j = 0; j < LANES; j++) y[j] = 0; /* the last vector may reach beyond */
}

/* ---- y ---- */

/* R rows of a panel of weights by N vectors of the copy. */
#define TILE(R, N)                                                                                              \
  FUSED static void tile_##R##_##N(const conv_args *a, const real *w, const real *const *x, vec *y) {           \
    vec sum[R][N];                                                                                              \
    for (int r = 0; r < R; r++)                                                                                 \
      for (int v = 0; v < N; v++) sum[r][v] = (vec){0};                                                         \
    for (int64_t k = 0; k < a->terms; k++, w += PANEL) {                                                        \
      const int64_t at = a->offset[k];                                                                          \
      vec z[N];                                                                                                 \
      for (int v = 0; v < N; v++) z[v] = *(const vec *)(x[v] + at);                                             \
      for (int r = 0; r < R; r++)                                                                               \
        for (int v = 0; v < N; v++) sum[r][v] += w[r]*z[v];                                                     \
    }                                                                                                           \
    for (int r = 0; r < R; r++)                                                                                 \
      for (int v = 0; v < N; v++) y[r*GROUP + v] = sum[r][v];                                                   \
  }
TILE(2, 6) TILE(1, 6)
#if PL_ISA_ID == 2
TILE(8, 3) TILE(8, 2) TILE(8, 1) TILE(4, 6)
#else
TILE(4, 3)
#endif

/* `rows` rows of a panel by n vectors. */
static void panel(const conv_args *a, const real *w, int64_t rows, const real *const *x, int64_t n, vec *y) {
  if (rows == 1) tile_1_6(a, w, x, y);
  else if (rows == 2) tile_2_6(a, w, x, y);
#if PL_ISA_ID == 2
  else if (rows <= 4) tile_4_6(a, w, x, y);
  else
    for (int64_t v = 0; v < n; v += 3)
      if (n - v >= 3) tile_8_3(a, w, x + v, y + v);
      else if (n - v == 2) tile_8_2(a, w, x + v, y + v);
      else tile_8_1(a, w, x + v, y + v);
#else
  else
    for (int64_t v = 0; v < n; v += 3)
      for (int64_t r = 0; r < rows; r += 4) tile_4_3(a, w + r, x + v, y + v + r*GROUP);
#endif
}

/* Lanes of a vector from a row and column of the copy on go to their places of y: as many as lie in the box. */
typedef struct { int64_t row, column, lanes; } span;
static inline void put(const conv_args *a, const place *p, const real *sum, span v, real *y) {
  const conv_axis *h = &a->axis[1], *w = &a->axis[2];
  for (; v.lanes > 0 && v.row < p->size[1]; v.row++) {
    const int64_t rest = p->size[2] - v.column, n = rest < v.lanes ? rest : v.lanes, used = p->pitch - v.column;
    real *to = y + (h->out_first + (p->lo[1] + v.row)*h->out_stride)*w->out + w->out_first + (p->lo[2] + v.column)*w->out_stride;
    if (n == LANES && w->out_stride == 1) *(vec *)to = *(const vec *)sum;
    else
      for (int64_t l = 0; l < n; l++) to[l*w->out_stride] = sum[l];
    sum += used;
    v.lanes -= used;
    v.column = 0;
  }
}

typedef conv_args conv_forward_args;
PL_ROW_KERNEL(conv_forward) {
  const conv_axis *s = a.axis;
  const int64_t boxes = s[0].boxes*s[1].boxes*s[2].boxes, block = i/boxes % a.blocks, group = i/boxes/a.blocks;
  const int64_t from = block*a.block, rows = a.rows - from < a.block ? a.rows - from : a.block;
  const place p = place_of(&a, i % boxes);
  copy_box(&a, &p, group*a.channels, (real *)a.work);
  /* Vectors begin anew in each row, or run through the rows and their margins, whichever are fewer. */
  const int64_t each = (p.size[2] + LANES - 1)/LANES, apart = each*p.size[1];
  const int64_t through = ((p.size[1] - 1)*p.pitch + p.size[2] + LANES - 1)/LANES;
  const int run = through < apart;
  const int64_t vectors = run ? through : apart, plane = s[0].out*s[1].out*s[2].out;
  const int64_t panels = (a.rows + PANEL - 1)/PANEL;
  const real *w = (const real *)a.w + (group % a.groups*panels + from/PANEL)*PANEL*a.terms;
  real *y = (real *)a.y + (group*a.rows + from)*plane + (s[0].out_first + p.lo[0]*s[0].out_stride)*s[1].out*s[2].out;
  for (int64_t v = 0; v < vectors; v += GROUP) {
    const int64_t n = vectors - v < GROUP ? vectors - v : GROUP;
    const real *x[GROUP];
    span at[GROUP];
    vec sum[PANEL*GROUP];
    for (int64_t k = 0; k < GROUP; k++) {
      const int64_t u = k < n ? v + k : v, row = run ? u*LANES/p.pitch : u/each, column = run ? u*LANES - row*p.pitch : (u - row*each)*LANES;
      at[k] = (span){row, column, run || column + LANES <= p.size[2] ? LANES : p.size[2] - column};
      x[k] = (const real *)a.work + row*p.pitch + column;
    }
    for (int64_t m = 0; m < rows; m += PANEL) {
      const int64_t r = rows - m < PANEL ? rows - m : PANEL;
      panel(&a, w + m*a.terms, r, x, n, sum);
      for (int64_t j = 0; j < r; j++)
        for (int64_t k = 0; k < n; k++)
          put(&a, &p, (const real *)&sum[j*GROUP + k], at[k], y + (m + j)*plane);
    }
  }
}

/* ---- the adjoint in w ---- */

#if PL_DTYPE_ID == 0
typedef int64_t lane_bits;
#else
typedef int32_t lane_bits;
#endif
typedef lane_bits mask __attribute__((vector_size(WIDTH), aligned(sizeof(real)), may_alias));
FUSED static inline vec masked(const real *x, mask m) { return (vec)(*(const mask *)x & m); }

/* Else the compiler reads it again for each product. */
#if defined __x86_64__
#define IN_REGISTER(u) __asm__("" : "+v"(u))
#else
#define IN_REGISTER(u) (void)0
#endif

/* What is summed: rows of a box in the copy and in g {channel, row}, of `whole` elements and then masked vectors. */
typedef struct {
  const real *g;
  const mask *masks;
  int64_t rows, whole, masked, pitch, row, channel;
} field;

/* Sums over it at R places times M channels of g; {R, M} vectors. */
#define DOTS(R, M)                                                                                              \
  FUSED static void dots_##R##_##M(const field *f, const real *const *x, const real *g, vec *y) {               \
    vec sum[R][M], v[M];                                                                                        \
    const int64_t whole = f->whole, channel = f->channel;                                                       \
    for (int r = 0; r < R; r++)                                                                                 \
      for (int m = 0; m < M; m++) sum[r][m] = (vec){0};                                                         \
    for (int64_t i = 0; i < f->rows; i++) {                                                                     \
      const int64_t at = i*f->pitch;                                                                            \
      const real *z = g + i*f->row;                                                                             \
      for (int64_t j = 0; j < whole; j += LANES) {                                                              \
        for (int m = 0; m < M; m++) v[m] = *(const vec *)(z + m*channel + j);                                   \
        for (int r = 0; r < R; r++) {                                                                           \
          vec u = *(const vec *)(x[r] + at + j);                                                                \
          IN_REGISTER(u);                                                                                       \
          for (int m = 0; m < M; m++) sum[r][m] += u*v[m];                                                      \
        }                                                                                                       \
      }                                                                                                         \
      for (int64_t k = 0; k < f->masked; k++) {                                                                 \
        const int64_t j = whole + k*LANES;                                                                      \
        const mask inside = f->masks[k];                                                                        \
        for (int m = 0; m < M; m++) v[m] = masked(z + m*channel + j, inside);                                   \
        for (int r = 0; r < R; r++) {                                                                           \
          const vec u = masked(x[r] + at + j, inside);                                                          \
          for (int m = 0; m < M; m++) sum[r][m] += u*v[m];                                                      \
        }                                                                                                       \
      }                                                                                                         \
    }                                                                                                           \
    for (int r = 0; r < R; r++)                                                                                 \
      for (int m = 0; m < M; m++) y[r*M + m] = sum[r][m];                                                       \
  }
#if PL_ISA_ID == 2
enum { PLACES = 8, ROWS = 3 };
DOTS(8, 3) DOTS(8, 2) DOTS(8, 1)
#else
enum { PLACES = 4, ROWS = 2 };
DOTS(4, 2) DOTS(4, 1)
#endif

/* Of all lanes, by halves. */
typedef real half_vec __attribute__((vector_size(32), aligned(sizeof(real)), may_alias));
typedef real quarter_vec __attribute__((vector_size(16), aligned(sizeof(real)), may_alias));
static inline real total(const vec *v) {
#if WIDTH == 64
  const half_vec h = ((const half_vec *)v)[0] + ((const half_vec *)v)[1];
#elif WIDTH == 32
  const half_vec h = *(const half_vec *)v;
#endif
#if WIDTH >= 32
  const quarter_vec q = ((const quarter_vec *)&h)[0] + ((const quarter_vec *)&h)[1];
#else
  const quarter_vec q = *(const quarter_vec *)v;
#endif
#if PL_DTYPE_ID == 0
  return q[0] + q[1];
#else
  return (q[0] + q[2]) + (q[1] + q[3]);
#endif
}

/* Vectors of a box in rows as long as those of the copy, where that takes clearly fewer than row by row; else 0. */
static int64_t run_through(const place *p) {
  const int64_t through = (p->size[1]*p->pitch + LANES - 1)/LANES, apart = p->size[1]*((p->size[2] + LANES - 1)/LANES);
  return 4*through <= 3*apart ? through : 0;
}
/* The box in g, row by row, the rest of a row masked. */
static field rows_of(const conv_args *a, const place *p, const real *g, mask *masks) {
  const conv_axis *s = a->axis;
  const int64_t rest = p->size[2] % LANES;
  for (int64_t l = 0; l < LANES; l++) masks[0][l] = l < rest ? -1 : 0;
  return (field){.g = g, .masks = masks, .rows = p->size[1], .whole = p->size[2] - rest, .masked = rest > 0, .pitch = p->pitch,
                 .row = s[2].out, .channel = s[0].out*s[1].out*s[2].out};
}
/* g of some images, in rows as long as those of the copy; what lies between them is masked. */
static field images_of(const conv_args *a, const place *p, const real *g, int64_t images, int64_t channels, int64_t through, mask *masks) {
  const conv_axis *s = a->axis;
  const int64_t n = through*LANES, row = s[2].out, channel = s[0].out*s[1].out*row;
  real *copy = (real *)masks + n;
  for (int64_t l = 0; l < n; l++) ((lane_bits *)masks)[l] = l < p->size[1]*p->pitch && l % p->pitch < p->size[2] ? -1 : 0;
  for (int64_t k = 0; k < images; k++)
    for (int64_t m = 0; m < channels; m++)
      for (int64_t i = 0; i < p->size[1]; i++)
        for (int64_t j = 0; j < p->size[2]; j++)
          copy[(k*channels + m)*n + i*p->pitch + j] = g[(k*a->groups*a->rows + m)*channel + i*row + j];
  return (field){.g = copy, .masks = masks, .rows = images, .masked = through, .pitch = a->space, .row = channels*n, .channel = n};
}

/* Adds the box's part to rows {rows, terms} of y. */
static void add_box(const conv_args *a, const field *f, int64_t rows, real *y) {
  vec sum[PLACES*ROWS];
  for (int64_t m = 0; m < rows; m += ROWS) {
    const int64_t r = rows - m < ROWS ? rows - m : ROWS;
    const real *x[PLACES], *g = f->g + m*f->channel;
    for (int64_t k = 0; k < a->terms; k += PLACES) {
      for (int64_t t = 0; t < PLACES; t++) x[t] = (const real *)a->work + a->offset[k + t < a->terms ? k + t : k];
#if PL_ISA_ID == 2
      if (r == 3) dots_8_3(f, x, g, sum);
      else if (r == 2) dots_8_2(f, x, g, sum);
      else dots_8_1(f, x, g, sum);
#else
      if (r == 2) dots_4_2(f, x, g, sum);
      else dots_4_1(f, x, g, sum);
#endif
      for (int64_t t = 0; t < PLACES && k + t < a->terms; t++)
        for (int64_t j = 0; j < r; j++) y[(m + j)*a->terms + k + t] += total(&sum[t*r + j]);
    }
  }
}

typedef conv_args conv_weights_args;
PL_ROW_KERNEL(conv_weights) {
  const conv_axis *s = a.axis;
  const int64_t boxes = s[0].boxes*s[1].boxes*s[2].boxes, group = i/a.blocks % a.groups, piece = i/a.blocks/a.groups;
  const int64_t from = i % a.blocks*a.block, rows = a.rows - from < a.block ? a.rows - from : a.block;
  const int64_t first = piece*a.depth, last = first + a.depth < a.batch*boxes ? first + a.depth : a.batch*boxes;
  real *y = (real *)a.y + ((piece*a.groups + group)*a.rows + from)*a.terms;
  for (int64_t k = 0; k < rows*a.terms; k++) y[k] = 0;
  for (int64_t b = first, n; b < last; b += n) {
    const place p = place_of(&a, b % boxes);
    const int64_t image = b/boxes*a.groups + group, through = run_through(&p);
    n = !through ? 1 : last - b < a.images ? last - b : a.images;
    real *work = (real *)a.work;
    for (int64_t k = 0; k < n; k++) copy_box(&a, &p, (image + k*a.groups)*a.channels, work + k*a.space);
    mask *masks = (mask *)(work + a.images*a.space);
    const real *g = (const real *)a.w + (((image*a.rows + from)*s[0].out + p.lo[0])*s[1].out + p.lo[1])*s[2].out + p.lo[2];
    const field f = through ? images_of(&a, &p, g, n, rows, through, masks) : rows_of(&a, &p, g, masks);
    add_box(&a, &f, rows, y);
  }
}
#endif

/* ---- the largest of windows ---- */

#if PL_DTYPE_ID <= 2
#if PL_FLOATING
#define IS_NAN(x) ((x) != (x))
#else
#define IS_NAN(x) 0
#endif
/* n results of a row so far, against x a stride apart, the first of them at `place`. */
PL_FN void keep_larger(const real *x, int64_t stride, int64_t place, int64_t n, real *best, int64_t *y) {
  for (int64_t j = 0; j < n; j++) {
    const real v = x[j*stride], b = best[j];
    const int larger = (v > b) | (IS_NAN(v) & !IS_NAN(b)) | (y[j] == 0);
    best[j] = larger ? v : b;
    y[j] = larger ? place + j*stride : y[j];
  }
}

typedef pool_args pool_places_args;
PL_ROW_KERNEL(pool_places) { /* a window's elements one after another, so that the first of equals stays */
  enum { BLOCK = 256 };
  const int64_t plane = a.in[0]*a.in[1]*a.in[2], rows = a.out[0]*a.out[1], s = a.stride[2];
  const real *x = (const real *)a.x + i*plane;
  real best[BLOCK];
  for (int64_t row = 0; row < rows; row++)
    for (int64_t from = 0; from < a.out[2]; from += BLOCK) {
      const int64_t n = a.out[2] - from < BLOCK ? a.out[2] - from : BLOCK, d = row/a.out[1]*a.stride[0] - a.before[0],
                    h = row % a.out[1]*a.stride[1] - a.before[1], w = from*s - a.before[2];
      int64_t *y = a.y + (i*rows + row)*a.out[2] + from;
      for (int64_t j = 0; j < n; j++) y[j] = best[j] = 0;
      for (int64_t p = d < 0 ? 0 : d; p < d + a.window[0] && p < a.in[0]; p++)
        for (int64_t q = h < 0 ? 0 : h; q < h + a.window[1] && q < a.in[1]; q++)
          for (int64_t r = w; r < w + a.window[2] && r < a.in[2]; r++) {
            const int64_t lo = r < 0 ? (-r + s - 1)/s : 0, hi = (a.in[2] - r + s - 1)/s < n ? (a.in[2] - r + s - 1)/s : n;
            const int64_t at = (p*a.in[1] + q)*a.in[2] + r + lo*s;
            if (lo < hi) keep_larger(x + at, s, i*plane + at + 1, hi - lo, best + lo, y + lo);
          }
    }
}
#endif
