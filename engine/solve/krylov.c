/* krylov.c: A x = b by preconditioned Krylov methods as one op: conjugate gradients (Hestenes and Stiefel 1952),
 * minimal residuals (Paige and Saunders 1975), restarted GMRES (Saad and Schultz 1986) and BiCGStab (van der Vorst
 * 1992), the last two preconditioned from the right, so that their residuals are the true ones.
 *
 * A method works on recurrences until these say that it has converged; then the true residual is computed, and it
 * starts again from there, if need be. Products with A and the preconditioner are programs, run as children of the op:
 * each method is a coroutine, which leaves at each product (PRODUCT) and goes on behind it. */
#include "krylov.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../../kernels/shapes.h"
#include "../execute.h"
#include "../ops/control.h"
#include "../schedule.h"

/* Attributes: apply (x, theta... -> A x), its transpose, precondition (r, phi... -> z), its transpose, options. Inputs:
 * b, where to start, theta, phi. Outputs: as pl_krylov. Reals among the options are their bits. */
enum { O_METHOD, O_ITERATIONS, O_RESTART, O_RTOL, O_ATOL, O_FLAGS, N_OPTIONS };
enum {
  CHECK = 1,
  HISTORY = 2,
  STARTED = 4,    /* the start is not zero */
  ADJOINTS = 8,   /* the transposes are given; else they are apply and precondition once more, and made when needed */
  DERIVATIVE = 16 /* a solve of a derivative */
};
#define HAS(attrs, flag) (((attrs)[4].list[O_FLAGS] & (flag)) != 0)
#define APPLY(attrs) ((pl_body *)(attrs)[0].object)
#define PRECONDITION(attrs) ((pl_body *)(attrs)[2].object)

static const char *const names[] = {"cg", "minres", "gmres", "bicgstab"};

static double real_option(const pl_attr *attrs, int k) {
  double x;
  memcpy(&x, &attrs[4].list[k], sizeof x);
  return x;
}
static bool is_identity(const pl_body *b) { return b->n_in == 1 && b->outputs[0] == 0; }

/* ---- shapes ---- */

static int krylov_results(const pl_attr *attrs) {
  return attrs[4].type == PL_ATTR_INTS && attrs[4].n == N_OPTIONS && HAS(attrs, HISTORY) ? 5 : 4;
}
/* Are all four programs from vectors to vectors of one length, and take the same further inputs by pairs? */
static bool krylov_fits(const pl_attr *attrs) {
  if (!are_programs(attrs, 4) || attrs[4].type != PL_ATTR_INTS || attrs[4].n != N_OPTIONS) return false;
  const int64_t *o = attrs[4].list;
  if (o[O_METHOD] < 0 || o[O_METHOD] >= PL_KRYLOV_METHODS || o[O_ITERATIONS] < 0 || o[O_ITERATIONS] >= INT32_MAX ||
      o[O_RESTART] < 1 || o[O_RESTART] >= INT32_MAX)
    return false;
  const pl_spec *x = &APPLY(attrs)->specs[0];
  for (int k = 0; k < 4; k++) {
    const pl_body *b = (const pl_body *)attrs[k].object, *first = (const pl_body *)attrs[k & 2].object;
    if (b->n_in < 1 || b->n_out != 1 || b->n_in != first->n_in || !pl_spec_equal(&b->specs[0], x) ||
        !pl_spec_equal(&b->specs[b->outputs[0]], x))
      return false;
    for (int i = 1; i < b->n_in; i++)
      if (!pl_spec_equal(&b->specs[i], &first->specs[i])) return false;
  }
  return x->rank == 1 && x->dtype == PL_F64;
}
static bool krylov_shape(const pl_call *call, pl_spec *out) {
  if (!krylov_fits(call->attrs)) return pl_misfit(call->c, call->op);
  const pl_body *a = APPLY(call->attrs), *m = PRECONDITION(call->attrs);
  const pl_spec *x = &a->specs[0];
  if (pl_count_error(call, a->n_in + m->n_in)) return false;
  for (int i = 0; i < 2; i++) {
    pl_spec s;
    pl_spec_of(call->in[i], &s);
    if (!pl_spec_equal(&s, x)) {
      pl_error(call->c, PL_ERROR_SHAPE, "krylov: %s must be {%d} of f64", i ? "the start" : "the right-hand side",
               x->shape[0]);
      return false;
    }
  }
  if (!pl_check_inputs(call, a, 2, 1, a->n_in - 1) || !pl_check_inputs(call, m, a->n_in + 1, 1, m->n_in - 1))
    return false;
  out[0] = *x;
  out[1] = (pl_spec){PL_I64, 0, {0}};
  out[2] = (pl_spec){PL_F64, 0, {0}};
  out[3] = (pl_spec){PL_BOOL, 0, {0}};
  if (HAS(call->attrs, HISTORY)) out[4] = (pl_spec){PL_F64, 1, {(int32_t)call->attrs[4].list[O_ITERATIONS] + 1}};
  return true;
}

/* ---- state ---- */

typedef enum { RUNNING, SMALL, FULL, LIMIT, STALLED, BROKEN, INDEFINITE, BAD_PRECONDITIONER, NOT_FINITE } reason;

enum { VECTORS = 10 };

typedef struct {
  int at, inside;  /* where the driver, and the method, go on; lines of this file */
  pl_frame *a, *m; /* m: NULL without a preconditioner */
  double *memory, *x, *r, *best, *v[VECTORS], *basis, *partial, *history;
  const double *b; /* where its size would make squares overflow or vanish: 1/scale of it, and so are x and all norms */
  double scale;
  double tolerance, size, norm, last, least; /* size: |b|; last: |r| of the last cycle; least: at best */
  int64_t n, each, iteration, limit, m_basis;
  reason why;
  double rho, alpha, beta, omega;           /* of the methods */
  double oldb, dbar, epsln, phibar, cs, sn; /* minres */
  double *h, *g, *c, *d;                    /* gmres: columns of H, right side, rotations */
  int64_t j;
} krylov;

static double dot(pl_context *c, const krylov *s, const double *x, const double *y) {
  int64_t blocks = (s->n + KRYLOV_BLOCK - 1) / KRYLOV_BLOCK;
  krylov_dot_args a = {x, y, s->partial, s->n};
  pl_for(c, PL_KERNEL_OF(krylov_dot, PL_F64), &a, blocks, 1, 2 * KRYLOV_BLOCK);
  double sum = 0;
  for (int64_t i = 0; i < blocks; i++) sum += s->partial[i];
  return sum;
}
static double norm2(pl_context *c, const krylov *s, const double *x) {
  double square = dot(c, s, x, x);
  if (square > 1e-280 && square < 1e280) return sqrt(square);
  double scale = 0, sum = 0; /* squares would be too small or too large */
  for (int64_t i = 0; i < s->n; i++) {
    if (isnan(x[i])) return NAN;
    scale = fmax(scale, fabs(x[i]));
  }
  if (!(scale > 0) || isinf(scale)) return scale;
  for (int64_t i = 0; i < s->n; i++) sum += x[i] / scale * (x[i] / scale);
  return scale * sqrt(sum);
}
/* z = a x + b y */
static void combine(pl_context *c, const krylov *s, double a, const double *x, double b, const double *y, double *z) {
  struct {
    const double *x, *y;
    double *z, a, b;
  } args = {x, y, z, a, b};
  pl_for(c, PL_KERNEL_OF(krylov_combine, PL_F64), &args, s->n, 8, 2);
}
static void copy(const krylov *s, double *to, const double *from) { memcpy(to, from, (size_t)s->n * sizeof *to); }

static bool iterated(krylov *s, double norm) { /* true: the cycle ends */
  s->norm = norm;
  if (++s->iteration <= s->limit && s->history) s->history[s->iteration] = norm;
  if (!isfinite(norm)) s->why = NOT_FINITE;
  else if (norm <= s->tolerance) s->why = SMALL;
  else if (s->iteration >= s->limit) s->why = LIMIT;
  return s->why != RUNNING;
}

static void product(pl_activation *a, pl_frame *f, double *x, double *y) {
  pl_frame_input_at(f, 0, x);
  pl_frame_output(f, 0, y);
  pl_frame_start(f);
  a->child = f;
}
#define PRODUCT(where, f, x, y) \
  do {                          \
    product(a, f, x, y);        \
    where = __LINE__;           \
    return PL_NEXT_CALL;        \
    case __LINE__:;             \
  } while (0)
#define RESUMES(where)          \
  where = __LINE__;             \
  __attribute__((fallthrough)); \
  case __LINE__:
#define APPLIED(x, y) PRODUCT(s->inside, s->a, x, y)
#define PRECONDITIONED(x, y)             \
  do {                                   \
    if (!s->m) copy(s, y, x);            \
    else PRODUCT(s->inside, s->m, x, y); \
  } while (0)
#define ENDS(reason)     \
  {                      \
    s->why = reason;     \
    return PL_NEXT_DONE; \
  }

/* ---- methods: from x and r = b - A x until `why` is said ---- */

static pl_next cg(pl_context *c, pl_activation *a, krylov *s) {
  double *z = s->m ? s->v[0] : s->r, *p = s->v[1], *q = s->v[2];
  switch (s->inside) {
    case 0:
      s->rho = 0;
      for (;;) {
        if (s->m) PRODUCT(s->inside, s->m, s->r, z);
        s->beta = s->rho;
        s->rho = dot(c, s, s->r, z);
        if (!isfinite(s->rho)) ENDS(NOT_FINITE);
        if (!(s->rho > 0)) ENDS(BAD_PRECONDITIONER);
        if (s->beta == 0) copy(s, p, z);
        else combine(c, s, 1, z, s->rho / s->beta, p, p);
        APPLIED(p, q);
        s->alpha = dot(c, s, p, q);
        if (!isfinite(s->alpha)) ENDS(NOT_FINITE);
        if (!(s->alpha > 0)) ENDS(INDEFINITE);
        s->alpha = s->rho / s->alpha;
        combine(c, s, 1, s->x, s->alpha, p, s->x);
        combine(c, s, 1, s->r, -s->alpha, q, s->r);
        if (iterated(s, norm2(c, s, s->r))) return PL_NEXT_DONE;
      }
  }
  return PL_NEXT_FAIL;
}

/* The residual in the 2-norm follows from the rotations: r_k = sn^2 r_k-1 - phibar cs r2/beta. */
static pl_next minres(pl_context *c, pl_activation *a, krylov *s) {
  double *y = s->v[0], *v = s->v[1], *w = s->v[2], *w1 = s->v[3], *w2 = s->v[4], *r1 = s->v[5], *r2 = s->v[6];
  switch (s->inside) {
    case 0:
      copy(s, r2, s->r);
      PRECONDITIONED(r2, y);
      s->rho = dot(c, s, r2, y);
      if (!isfinite(s->rho)) ENDS(NOT_FINITE);
      if (!(s->rho > 0)) ENDS(BAD_PRECONDITIONER);
      s->phibar = s->beta = sqrt(s->rho);
      s->oldb = s->dbar = s->epsln = s->sn = 0;
      s->cs = -1;
      memset(w, 0, (size_t)s->n * sizeof *w);
      memset(w2, 0, (size_t)s->n * sizeof *w);
      do {
        combine(c, s, 1 / s->beta, y, 0, y, v);
        APPLIED(v, y);
        if (s->oldb != 0) combine(c, s, 1, y, -s->beta / s->oldb, r1, y);
        s->alpha = dot(c, s, v, y);
        combine(c, s, 1, y, -s->alpha / s->beta, r2, y);
        copy(s, r1, r2);
        copy(s, r2, y);
        PRECONDITIONED(r2, y);
        s->oldb = s->beta;
        s->rho = dot(c, s, r2, y);
        if (!isfinite(s->rho)) ENDS(NOT_FINITE);
        if (s->rho < 0) ENDS(BAD_PRECONDITIONER);
        s->beta = sqrt(s->rho);
        double oldeps = s->epsln, delta = s->cs * s->dbar + s->sn * s->alpha;
        double gbar = s->sn * s->dbar - s->cs * s->alpha;
        s->epsln = s->sn * s->beta;
        s->dbar = -s->cs * s->beta;
        double gamma = hypot(gbar, s->beta);
        if (gamma == 0) ENDS(BROKEN);
        s->cs = gbar / gamma;
        s->sn = s->beta / gamma;
        double phi = s->cs * s->phibar;
        s->phibar *= s->sn;
        combine(c, s, 1, v, -oldeps, w2, w1); /* w1 <- (v - oldeps w_k-2 - delta w_k-1)/gamma, then they change names */
        combine(c, s, 1 / gamma, w1, -delta / gamma, w, w1);
        copy(s, w2, w);
        copy(s, w, w1);
        combine(c, s, 1, s->x, phi, w, s->x);
        double z = s->beta > 0 ? -s->phibar * s->cs / s->beta : 0;
        combine(c, s, s->sn * s->sn, s->r, z, r2, s->r);
      } while (!iterated(s, norm2(c, s, s->r)));
      return PL_NEXT_DONE;
  }
  return PL_NEXT_FAIL;
}

/* H y = g, and x moves by M V y. Columns of H are rotated as they come. */
static void gmres_combination(pl_context *c, krylov *s, double *u) {
  int64_t m = s->m_basis + 1;
  for (int64_t i = s->j - 1; i >= 0; i--) {
    double y = s->g[i];
    for (int64_t k = i + 1; k < s->j; k++) y -= s->h[k * m + i] * s->g[k];
    s->g[i] = s->h[i * m + i] == 0 ? 0 : y / s->h[i * m + i];
  }
  memset(u, 0, (size_t)s->n * sizeof *u);
  for (int64_t i = 0; i < s->j; i++) combine(c, s, 1, u, s->g[i], s->basis + i * s->each, u);
}
static pl_next gmres(pl_context *c, pl_activation *a, krylov *s) {
  double *z = s->v[0], *u = s->v[1];
  int64_t m = s->m_basis + 1;
  switch (s->inside) {
    case 0:
      combine(c, s, 1 / s->norm, s->r, 0, s->r, s->basis);
      s->g[0] = s->norm;
      s->j = 0;
      do {
        PRECONDITIONED(s->basis + s->j * s->each, z);
        APPLIED(z, s->basis + (s->j + 1) * s->each);
        double *w = s->basis + (s->j + 1) * s->each, *h = s->h + s->j * m, before = norm2(c, s, w);
        for (int64_t i = 0; i <= s->j; i++) { /* modified Gram-Schmidt */
          h[i] = dot(c, s, w, s->basis + i * s->each);
          combine(c, s, 1, w, -h[i], s->basis + i * s->each, w);
        }
        double below = norm2(c, s, w);
        if (below <= DBL_EPSILON * before) below = 0; /* the space is complete */
        else combine(c, s, 1 / below, w, 0, w, w);
        for (int64_t i = 0; i < s->j; i++) {
          double up = h[i];
          h[i] = s->c[i] * up + s->d[i] * h[i + 1];
          h[i + 1] = s->c[i] * h[i + 1] - s->d[i] * up;
        }
        double size = hypot(h[s->j], below);
        s->c[s->j] = size > 0 ? h[s->j] / size : 1;
        s->d[s->j] = size > 0 ? below / size : 0;
        h[s->j] = size;
        s->g[s->j + 1] = -s->d[s->j] * s->g[s->j];
        s->g[s->j] *= s->c[s->j];
        s->j++;
        if (iterated(s, size > 0 ? fabs(s->g[s->j]) : s->norm)) break;
        if (below == 0) s->why = BROKEN;
        else if (s->j == s->m_basis) s->why = FULL;
      } while (s->why == RUNNING);
      if (s->why == NOT_FINITE) return PL_NEXT_DONE;
      gmres_combination(c, s, u);
      PRECONDITIONED(u, z);
      combine(c, s, 1, s->x, 1, z, s->x);
      return PL_NEXT_DONE;
  }
  return PL_NEXT_FAIL;
}

static pl_next bicgstab(pl_context *c, pl_activation *a, krylov *s) {
  double *start = s->v[0], *p = s->v[1], *v = s->v[2], *y = s->v[3], *z = s->v[4], *t = s->v[5];
  switch (s->inside) {
    case 0:
      copy(s, start, s->r);
      copy(s, p, s->r);
      s->rho = dot(c, s, start, s->r);
      for (;;) {
        PRECONDITIONED(p, y);
        APPLIED(y, v);
        s->alpha = dot(c, s, start, v);
        if (!isfinite(s->alpha)) ENDS(NOT_FINITE);
        if (fabs(s->alpha) <= DBL_MIN) ENDS(BROKEN);
        s->alpha = s->rho / s->alpha;
        combine(c, s, 1, s->x, s->alpha, y, s->x);
        combine(c, s, 1, s->r, -s->alpha, v, s->r);
        if (norm2(c, s, s->r) <= s->tolerance) {
          iterated(s, norm2(c, s, s->r));
          return PL_NEXT_DONE;
        }
        PRECONDITIONED(s->r, z);
        APPLIED(z, t);
        double tt = dot(c, s, t, t), tr = dot(c, s, t, s->r);
        if (!isfinite(tt) || !isfinite(tr)) ENDS(NOT_FINITE);
        if (!(tt > 0)) ENDS(BROKEN);
        s->omega = tr / tt;
        combine(c, s, 1, s->x, s->omega, z, s->x);
        combine(c, s, 1, s->r, -s->omega, t, s->r);
        if (iterated(s, norm2(c, s, s->r))) return PL_NEXT_DONE;
        s->beta = s->rho;
        s->rho = dot(c, s, start, s->r);
        if (s->omega == 0 || fabs(s->rho) <= 1e-14 * s->norm * norm2(c, s, start)) ENDS(BROKEN);
        s->beta = s->rho / s->beta * (s->alpha / s->omega);
        combine(c, s, 1, p, -s->omega, v, p);
        combine(c, s, 1, s->r, s->beta, p, p);
      }
  }
  return PL_NEXT_FAIL;
}

typedef pl_next (*method)(pl_context *c, pl_activation *a, krylov *s);
static const method methods[] = {cg, minres, gmres, bicgstab};

/* ---- the driver ---- */

/* x'(A y) = y'(A x) for two vectors that nobody chose: an operator that is not symmetric fails it. */
static void fill(const krylov *s, double *x, uint64_t seed) {
  for (int64_t i = 0; i < s->n; i++) { /* splitmix64 */
    uint64_t z = (seed += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    x[i] = (double)(int64_t)(z ^ (z >> 31)) * 0x1p-63;
  }
}
static bool symmetric(pl_context *c, const krylov *s, const pl_attr *attrs) {
  double xy = dot(c, s, s->v[0], s->v[3]), yx = dot(c, s, s->v[1], s->v[2]);
  double size = norm2(c, s, s->v[0]) * norm2(c, s, s->v[3]) + norm2(c, s, s->v[1]) * norm2(c, s, s->v[2]);
  if (!isfinite(size) || fabs(xy - yx) <= 1e-10 * size) return true; /* what is not finite is found later */
  pl_error(c, PL_ERROR_NUMERIC,
           "%s needs a symmetric operator: for two test vectors x'(A y) is %.10g, but y'(A x) is %.10g; use gmres or "
           "bicgstab, or symmetrize it",
           names[attrs[4].list[O_METHOD]], xy, yx);
  return false;
}

static bool prepare(pl_context *c, pl_activation *a, krylov *s) {
  const int64_t *o = a->attrs[4].list;
  s->n = a->in[0]->count;
  s->each = (s->n + 15) & ~(int64_t)7; /* whole vectors, and one more */
  s->limit = o[O_ITERATIONS];
  s->b = a->in[0]->data;
  s->m_basis = o[O_METHOD] == PL_GMRES ? (o[O_RESTART] < s->n ? o[O_RESTART] : s->n) : 0;
  int64_t blocks = s->n / KRYLOV_BLOCK + 1, m = s->m_basis;
  int64_t vectors = 3 + VECTORS + (m ? m + 1 : 0); /* x is the output */
  s->memory = pl_memory_new(c, (size_t)(vectors * s->each + blocks + (m + 4) * (m + 1)) * sizeof *s->memory);
  if (!s->memory) return false;
  double *at = s->memory;
  s->x = a->out[0]->data;
  s->r = at;
  s->best = at + s->each;
  for (int i = 0; i < VECTORS; i++) s->v[i] = at + (2 + i) * s->each;
  double *scaled = at + (2 + VECTORS) * s->each;
  s->basis = scaled + s->each;
  s->partial = at + vectors * s->each;
  s->h = s->partial + blocks;
  s->g = s->h + (m + 1) * (m + 1);
  s->c = s->g + m + 1;
  s->d = s->c + m + 1;
  if (a->n_out > 4) {
    s->history = a->out[4]->data;
    for (int64_t i = 0; i <= s->limit; i++) s->history[i] = NAN;
  }
  const pl_body *apply = APPLY(a->attrs), *m_body = PRECONDITION(a->attrs);
  if (!(s->a = pl_frame_new(c, APPLY(a->attrs)))) return false;
  if (!is_identity(m_body) && !(s->m = pl_frame_new(c, PRECONDITION(a->attrs)))) return false;
  for (int i = 1; i < apply->n_in; i++) pl_frame_input(s->a, i, a->in[1 + i]);
  for (int i = 1; i < m_body->n_in; i++) pl_frame_input(s->m, i, a->in[apply->n_in + i]);
  memcpy(s->x, a->in[1]->data, (size_t)s->n * sizeof *s->x);
  s->size = norm2(c, s, s->b);
  s->scale = 1;
  if (isfinite(s->size) && s->size > 0 && (s->size < 1e-100 || s->size > 1e100)) {
    s->scale = ldexp(1, ilogb(s->size));
    combine(c, s, 1 / s->scale, s->b, 0, s->b, scaled);
    combine(c, s, 1 / s->scale, s->x, 0, s->x, s->x);
    s->b = scaled;
    s->size = norm2(c, s, s->b);
  }
  s->tolerance = fmax(real_option(a->attrs, O_RTOL) * s->size, real_option(a->attrs, O_ATOL) / s->scale);
  s->last = s->least = INFINITY;
  return true;
}

static pl_next finish(pl_context *c, pl_activation *a, krylov *s, bool converged) {
  if (s->scale != 1) {
    combine(c, s, s->scale, s->x, 0, s->x, s->x);
    s->norm *= s->scale;
    for (int64_t i = 0; s->history && i <= s->limit; i++) s->history[i] *= s->scale;
  }
  *(int64_t *)a->out[1]->data = s->iteration;
  *(double *)a->out[2]->data = s->norm;
  *(bool *)a->out[3]->data = converged;
  return PL_NEXT_DONE;
}

static pl_next give_up(pl_context *c, pl_activation *a, krylov *s) {
  const int64_t *o = a->attrs[4].list;
  if (!HAS(a->attrs, CHECK)) {
    if (s->least < s->norm || isnan(s->norm)) {
      copy(s, s->x, s->best);
      s->norm = s->least;
    }
    return finish(c, a, s, false);
  }
  char text[200];
  const char *name = names[o[O_METHOD]], *role = HAS(a->attrs, DERIVATIVE) ? " (the solve of a derivative)" : "";
  snprintf(text, sizeof text, "after %lld iterations the residual is %.3g of the right-hand side, %.3g was asked for",
           (long long)s->iteration, s->least / s->size, s->tolerance / s->size);
  switch (s->why) {
    case INDEFINITE:
      pl_error(
          c, PL_ERROR_NUMERIC,
          "cg%s needs a positive definite operator: in iteration %lld p'A p is %.3g; use minres (symmetric), gmres "
          "or bicgstab, or look for a wrong sign",
          role, (long long)s->iteration + 1, s->alpha);
      break;
    case BAD_PRECONDITIONER:
      pl_error(c, PL_ERROR_NUMERIC,
               "%s%s needs a positive definite preconditioner: in iteration %lld r'M r is %.3g; use another one, or "
               "gmres",
               name, role, (long long)s->iteration + 1, s->rho);
      break;
    case NOT_FINITE:
      if (!isfinite(s->size)) pl_error(c, PL_ERROR_NUMERIC, "%s%s: the right-hand side is not finite", name, role);
      else
        pl_error(c, PL_ERROR_NUMERIC,
                 "%s%s: in iteration %lld the operator or the preconditioner gives NaN or infinity; look at its values",
                 name, role, (long long)s->iteration + 1);
      break;
    case BROKEN:
      pl_error(c, PL_ERROR_NUMERIC, "%s%s breaks down: %s; is the operator singular? Try gmres, or another start", name,
               role, text);
      break;
    case STALLED:
      pl_error(
          c, PL_ERROR_NUMERIC,
          "%s%s gets no further: %s; the operator is singular or rounding keeps it from more: try a preconditioner, "
          "a larger rtol%s",
          name, role, text, o[O_METHOD] == PL_GMRES ? ", a larger restart" : "");
      break;
    default:
      pl_error(c, PL_ERROR_NUMERIC,
               "%s%s did not converge: %s; try a preconditioner, more iterations%s, or a larger rtol", name, role, text,
               o[O_METHOD] == PL_GMRES ? ", a larger restart" : "");
  }
  return PL_NEXT_FAIL;
}

/* The true residual is known: what next? */
static bool goes_on(krylov *s) {
  reason why = s->why;
  if (s->norm < s->least) {
    s->least = s->norm;
    copy(s, s->best, s->x);
  }
  if (!isfinite(s->norm)) s->why = NOT_FINITE;
  else if (s->norm <= s->tolerance) s->why = SMALL;
  else if (s->iteration >= s->limit) s->why = LIMIT;
  else if (why != RUNNING && !(s->norm <= (why == FULL ? 1 - 1e-9 : 0.5) * s->last))
    s->why = why == SMALL || why == FULL ? STALLED : why;
  else s->why = RUNNING;
  s->last = s->norm;
  return s->why == RUNNING;
}

static pl_next krylov_step(pl_context *c, pl_activation *a) {
  krylov *s = a->state;
  const int64_t *o = a->attrs[4].list;
  switch (s->at) {
    case 0:
      if (!prepare(c, a, s)) return PL_NEXT_FAIL;
      if (s->size == 0) { /* then so is x */
        memset(s->x, 0, (size_t)s->n * sizeof *s->x);
        if (s->history) s->history[0] = 0;
        return finish(c, a, s, true);
      }
      if (o[O_METHOD] <= PL_MINRES && !HAS(a->attrs, DERIVATIVE)) {
        fill(s, s->v[0], 1);
        fill(s, s->v[1], 2);
        PRODUCT(s->at, s->a, s->v[0], s->v[2]);
        PRODUCT(s->at, s->a, s->v[1], s->v[3]);
        if (!symmetric(c, s, a->attrs)) return PL_NEXT_FAIL;
      }
      do {
        if (s->iteration > 0 || HAS(a->attrs, STARTED)) {
          PRODUCT(s->at, s->a, s->x, s->v[0]);
          combine(c, s, 1, s->b, -1, s->v[0], s->r);
        } else {
          copy(s, s->r, s->b);
        }
        s->norm = norm2(c, s, s->r);
        if (s->history) s->history[s->iteration] = s->norm;
        if (!goes_on(s)) break;
        s->inside = 0;
        RESUMES(s->at) {
          pl_next next = methods[o[O_METHOD]](c, a, s);
          if (next != PL_NEXT_DONE) return next;
        }
        if (c->status) return PL_NEXT_FAIL;
      } while (s->why != NOT_FINITE);
      return s->why == SMALL ? finish(c, a, s, true) : give_up(c, a, s);
  }
  return PL_NEXT_FAIL;
}

static void krylov_stop(pl_context *c, pl_activation *a) {
  krylov *s = a->state;
  pl_frame_free(c, s->a);
  pl_frame_free(c, s->m);
  pl_memory_free(c, s->memory);
  a->child = NULL;
}

/* ---- derivatives: A dx = db - dA x; A' lambda = g, b_bar = lambda, theta_bar = -lambda' dA/dtheta x ---- */

enum { DERIVED_TRANSPOSE = 96 };

/* Kept by the body. */
static pl_body *transposed(pl_context *c, pl_body *b) {
  static const uint64_t key[] = {0};
  if (is_identity(b)) return b;
  pl_derived *old = pl_derived_find(b, DERIVED_TRANSPOSE, 1, key);
  if (old) return old->body;
  uint8_t need[PL_MAX_INPUTS] = {1}, given[] = {1};
  pl_derived *d = pl_body_vjp(c, b, need, given, NULL);
  if (!d) return NULL;
  if (!d->body || d->body->n_out == 0) {
    pl_error(c, PL_ERROR_NUMERIC, "an operator's result does not depend on the vector it is given");
    return NULL;
  }
  pl_value in[PL_MAX_INPUTS + 2], out;
  pl_spec specs[PL_MAX_INPUTS];
  memcpy(specs, b->specs, (size_t)b->n_in * sizeof *specs);
  specs[0] = b->specs[b->outputs[0]];
  pl_tape *t = pl_trace_open(c, b->n_in, specs, in);
  if (!t) return NULL;
  pl_body *result = NULL;
  in[b->n_in + 1] = in[0];
  in[0] = pl_zeros_of(c, &b->specs[0]); /* x and A x: what is linear does not read them */
  in[b->n_in] = pl_zeros_of(c, &specs[0]);
  if (pl_inlined(c, d->body, in, &out)) result = pl_trace_close(c, t, 1, &out, true, 0, NULL, NULL);
  pl_trace_abandon(c, t);
  pl_tape_free(c, t);
  if (!result) return NULL;
  pl_derived *kept = pl_derived_keep(c, b, DERIVED_TRANSPOSE, 1, key, result, 0, NULL);
  return kept ? kept->body : NULL;
}

pl_body *pl_body_transpose(pl_context *c, pl_body *b) {
  if (c->status) return NULL;
  if (b->n_in < 1 || b->n_out != 1 || !is_float(&b->specs[0]) || !is_float(&b->specs[b->outputs[0]])) {
    pl_error(c, PL_ERROR_ARGUMENT, "only a program from a tensor of floats to another one has a transpose");
    return NULL;
  }
  pl_body *t = transposed(c, b);
  if (t) pl_object_retain(&t->base);
  return t;
}

/* A^-1 b or A'^-1 b, with theta and phi those of `in`. */
static pl_value solve(pl_context *c, const pl_attr *attrs, int n, const pl_value *in, pl_value b, pl_value converged,
                      bool transpose) {
  pl_value args[PL_MAX_INPUTS], out[5];
  int64_t list[N_OPTIONS];
  pl_attr more[5];
  if (b == PL_ZERO || n > PL_MAX_INPUTS) return b;
  memcpy(list, attrs[4].list, sizeof list);
  memcpy(more, attrs, sizeof more);
  if (!HAS(attrs, CHECK)) b = pl_call2(c, PL_OP(krylov_converged), b, converged, NULL);
  list[O_FLAGS] = CHECK | DERIVATIVE | (list[O_FLAGS] & ADJOINTS);
  more[4] = PL_INTS(N_OPTIONS, list);
  if (transpose) {
    for (int k = 0; k < 4; k++) {
      pl_body *to = (pl_body *)attrs[k ^ 1].object;
      if (!HAS(attrs, ADJOINTS) && !(k & 1) && !(to = transposed(c, to))) return PL_NONE;
      more[k] = PL_OBJECT(&to->base);
    }
    list[O_FLAGS] |= ADJOINTS;
  }
  memcpy(args, in, (size_t)n * sizeof *args);
  args[0] = b;
  args[1] = pl_zeros_of(c, &APPLY(attrs)->specs[0]);
  return pl_apply(c, PL_OP(krylov), n, args, more, out) ? out[0] : PL_NONE;
}

static void krylov_vjp(pl_vjp *v) {
  pl_context *c = v->c;
  pl_body *f = APPLY(v->attrs);
  pl_value in[PL_MAX_INPUTS + 2], gx[PL_MAX_OUTPUTS];
  uint8_t need[PL_MAX_INPUTS] = {0}, given[] = {1};
  if (v->g[0] == PL_ZERO) return; /* where it started, and how it got there, do not matter */
  pl_value lambda = solve(c, v->attrs, v->n, v->in, v->g[0], v->out[3], true);
  if (v->need[0]) pl_vjp_give(v, 0, lambda);
  bool some = false;
  in[0] = v->out[0];
  for (int i = 1; i < f->n_in; i++) {
    in[i] = v->in[i + 1];
    need[i] = v->need[i + 1] && is_float(&f->specs[i]);
    some |= need[i];
  }
  pl_derived *d = some ? pl_body_vjp(c, f, need, given, NULL) : NULL;
  if (!d || !d->body || d->body->n_out == 0) return;
  in[f->n_in] = lambda; /* stands for A x, which is not read */
  in[f->n_in + 1] = pl_negative(c, lambda);
  if (!pl_apply(c, PL_OP(call), f->n_in + 2, in, (pl_attr[]){PL_OBJECT(&d->body->base), PL_INT(0)}, gx)) return;
  for (int i = 1; i < f->n_in; i++)
    if (d->list[i] >= 0) pl_vjp_give(v, i + 1, gx[d->list[i]]);
}

static void krylov_jvp(pl_jvp *j) {
  pl_context *c = j->c;
  pl_body *f = APPLY(j->attrs);
  pl_value in[2 * PL_MAX_INPUTS + 1], db = j->t[0];
  uint8_t active[PL_MAX_INPUTS] = {0};
  int n = 0;
  in[n++] = j->out[0];
  for (int i = 1; i < f->n_in; i++) in[n++] = j->in[i + 1];
  in[n++] = j->out[0]; /* stands for A x, which is not read */
  for (int i = 1; i < f->n_in; i++)
    if (j->t[i + 1] != PL_ZERO) {
      active[i] = 1;
      in[n++] = j->t[i + 1];
    }
  pl_derived *d = n > f->n_in + 1 ? pl_body_jvp(c, f, active, NULL) : NULL;
  if (d && d->body && d->list[0] >= 0) {
    pl_value dax;
    if (!pl_apply(c, PL_OP(call), n, in, (pl_attr[]){PL_OBJECT(&d->body->base), PL_INT(0)}, &dax)) return;
    db = pl_minus(c, db, dax);
  }
  if (db != PL_ZERO) j->dt[0] = solve(c, j->attrs, j->n, j->in, db, j->out[3], false);
}

/* ---- what a derivative of a solve without `check` goes through ---- */

static bool converged_shape(const pl_call *call, pl_spec *out) {
  if (call->in[1]->dtype != PL_BOOL || call->in[1]->count != 1) {
    pl_error(call->c, PL_ERROR_ARGUMENT, "krylov_converged: the second input says whether it has");
    return false;
  }
  pl_spec_of(call->in[0], out);
  return true;
}
static void converged_run(const pl_call *call, pl_slot **out) {
  const pl_slot *x = call->in[0];
  if (!*(const bool *)call->in[1]->data)
    pl_error(call->c, PL_ERROR_NUMERIC,
             "the derivative of a solve that did not converge is wanted: without {check = false} it would have been an "
             "error");
  else memcpy(out[0]->data, x->data, (size_t)x->count * pl_dtype_size((pl_dtype)x->dtype));
}
static pl_value require(pl_context *c, pl_value g, pl_value converged) {
  return g == PL_ZERO ? g : pl_call2(c, PL_OP(krylov_converged), g, converged, NULL);
}
static void converged_vjp(pl_vjp *v) { pl_vjp_give(v, 0, require(v->c, v->g[0], v->in[1])); }
static void converged_jvp(pl_jvp *j) { j->dt[0] = require(j->c, j->t[0], j->in[1]); }

/* ---- making the call ---- */

pl_krylov_options pl_krylov_defaults(void) { return (pl_krylov_options){PL_CG, 0, 30, 1e-10, 0, true, false}; }

static pl_body *identity(pl_context *c, const pl_spec *x) {
  pl_value in;
  pl_tape *t = pl_trace_open(c, 1, x, &in);
  if (!t) return NULL;
  pl_body *b = pl_trace_close(c, t, 1, &in, true, 0, NULL, NULL);
  pl_trace_abandon(c, t);
  pl_tape_free(c, t);
  return b;
}

static bool check_vector(pl_context *c, pl_value v, const pl_spec *x, const char *what) {
  pl_slot *s = pl_slot_get(c, v);
  pl_spec spec;
  if (!s) return false;
  pl_spec_of(s, &spec);
  if (pl_spec_equal(&spec, x)) return true;
  char text[PL_TEXT];
  pl_error(c, PL_ERROR_SHAPE, "solve: %s has shape %s (%s); the operator {%d, %d} needs {%d} of f64", what,
           pl_shape_text(text, s->rank, s->shape), spec_name(&spec), x->shape[0], x->shape[0], x->shape[0]);
  return false;
}

bool pl_krylov(pl_context *c, const pl_krylov_system *s, pl_value b, pl_value start, const pl_krylov_options *options,
               pl_value *outputs) {
  pl_krylov_options o = options ? *options : pl_krylov_defaults();
  if (c->status) return false;
  const pl_body *f = s->apply;
  const pl_spec *x = &f->specs[0];
  if (f->n_in != s->n_theta + 1 || f->n_out != 1 || x->rank != 1 || x->dtype != PL_F64 ||
      !pl_spec_equal(x, &f->specs[f->outputs[0]])) {
    pl_error(c, PL_ERROR_SHAPE, "solve: an operator takes a vector {n} of f64 and returns another one");
    return false;
  }
  if (s->n_theta + s->n_phi + 2 > PL_MAX_INPUTS) {
    pl_error(c, PL_ERROR_ARGUMENT,
             "solve: the operator and its preconditioner read %d tensors; at most %d are possible",
             s->n_theta + s->n_phi, PL_MAX_INPUTS - 2);
    return false;
  }
  if (!check_vector(c, b, x, "the right-hand side") || (start != PL_NONE && !check_vector(c, start, x, "the start")))
    return false;
  if (!(o.rtol >= 0) || !(o.atol >= 0) || o.iterations < 0 || o.restart < 1) {
    pl_error(c, PL_ERROR_ARGUMENT, "solve: rtol and atol are 0 or more, iterations and restart 1 or more");
    return false;
  }
  bool started = start != PL_NONE, symmetric_method = o.method <= PL_MINRES;
  pl_body *none = s->precondition ? NULL : identity(c, x), *m = s->precondition ? s->precondition : none;
  pl_body *at = s->transpose && !symmetric_method ? s->transpose : s->apply, *mt = m;
  if (at != s->apply && m && !(mt = transposed(c, m))) m = NULL;
  bool ok = false;
  if (m) {
    pl_value args[PL_MAX_INPUTS] = {b, started ? start : pl_zeros_of(c, x)};
    for (int i = 0; i < s->n_theta; i++) args[2 + i] = s->theta[i];
    for (int i = 0; i < s->n_phi; i++) args[2 + s->n_theta + i] = s->phi[i];
    int64_t limit = 10 * (int64_t)x->shape[0];
    limit = limit < 100 ? 100 : limit > 10000 ? 10000 : limit;
    int64_t list[N_OPTIONS] = {[O_METHOD] = o.method,
                               [O_ITERATIONS] = o.iterations ? o.iterations : limit,
                               [O_RESTART] = o.restart,
                               [O_FLAGS] = (o.check ? CHECK : 0) | (o.history ? HISTORY : 0) | (started ? STARTED : 0) |
                                           (symmetric_method || at != s->apply ? ADJOINTS : 0)};
    memcpy(&list[O_RTOL], &o.rtol, sizeof o.rtol);
    memcpy(&list[O_ATOL], &o.atol, sizeof o.atol);
    pl_attr attrs[] = {PL_OBJECT(&s->apply->base), PL_OBJECT(&at->base), PL_OBJECT(&m->base), PL_OBJECT(&mt->base),
                       PL_INTS(N_OPTIONS, list)};
    ok = pl_apply(c, PL_OP(krylov), 2 + s->n_theta + s->n_phi, args, attrs, outputs);
    if (!started && !c->scope) pl_release(c, args[1]);
  }
  if (none) pl_object_release(&none->base);
  return ok;
}

/* ---- samples ---- */

/* A x = 4 x + d (d'x) + 0.3 flip(x): symmetric positive definite */
static int sample_apply(pl_context *c, const pl_value *x, pl_value *out) {
  pl_value sum = pl_sample_total(c, PL_BINARY(mul, c, x[0], x[1]));
  pl_value flip = pl_call1(c, PL_OP(flip), x[0], &PL_INTS(-1, NULL));
  out[0] = PL_BINARY(add, c, PL_BINARY(mul, c, x[0], pl_constant(c, PL_F64, 4)), PL_BINARY(mul, c, x[1], sum));
  out[0] = PL_BINARY(add, c, out[0], PL_BINARY(mul, c, flip, pl_constant(c, PL_F64, 0.3)));
  return 1;
}
/* (4 + d) x + d flip(x): not symmetric */
static int sample_skew(pl_context *c, const pl_value *x, pl_value *out) {
  pl_value flip = pl_call1(c, PL_OP(flip), x[0], &PL_INTS(-1, NULL));
  out[0] = PL_BINARY(mul, c, x[0], PL_BINARY(add, c, x[1], pl_constant(c, PL_F64, 4)));
  out[0] = PL_BINARY(add, c, out[0], PL_BINARY(mul, c, x[1], flip));
  return 1;
}
static int sample_scale(pl_context *c, const pl_value *x, pl_value *out) {
  out[0] = PL_BINARY(mul, c, x[0], pl_constant(c, PL_F64, 0.2));
  return 1;
}
static bool krylov_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  if (k >= 2 * PL_KRYLOV_METHODS) return false;
  int method = k / 2;
  static const pl_spec five[] = {{PL_F64, 1, {5}}, {PL_F64, 1, {5}}};
  pl_body *a = pl_sample_body(c, 2, five, method <= PL_MINRES ? sample_apply : sample_skew);
  pl_body *m = k & 1 ? pl_sample_body(c, 1, five, sample_scale) : identity(c, five);
  s->n = 3;
  for (int i = 0; i < 3; i++) s->in[i] = pl_sample_tensor(c, r, -1, 1, 1, 5);
  s->attrs[0] = s->attrs[1] = PL_OBJECT(a ? &a->base : NULL);
  s->attrs[2] = s->attrs[3] = PL_OBJECT(m ? &m->base : NULL);
  double rtol = 1e-14;
  PL_SAMPLE_LIST(4, method, 100, 30, 0, 0, CHECK | STARTED | (method <= PL_MINRES ? ADJOINTS : 0));
  memcpy(&s->lists[4][O_RTOL], &rtol, sizeof rtol);
  return pl_sampled(s, a, m);
}

static bool converged_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s) {
  if (k > 0) return false;
  s->n = 2;
  s->in[0] = pl_sample_tensor(c, r, -1, 1, 1, 5);
  s->in[1] = pl_scalar(c, PL_BOOL, 1);
  return true;
}

pl_op pl_ops_krylov[] = {
    {CONTROL("krylov", "x with A x = b by a Krylov method"),
     .attrs = {OBJECT("apply"), OBJECT("transpose"), OBJECT("precondition"), OBJECT("precondition_transpose"),
               LIST("options")},
     .shape = krylov_shape, .results = krylov_results, .step = krylov_step, .state_size = sizeof(krylov),
     .stop = krylov_stop, .vjp = krylov_vjp, .jvp = krylov_jvp, .sample = krylov_sample},
    {.name = "krylov_converged",
     .formula = "x, where the solve has converged, else an error",
     .kind = PL_LINEAR,
     .inputs = 2,
     .outputs = 1,
     .internal = true,
     .dtypes = PL_FLOATS,
     .keeps = 2,
     .shape = converged_shape,
     .run = converged_run,
     .vjp = converged_vjp,
     .jvp = converged_jvp,
     .sample = converged_sample},
    {0},
};
