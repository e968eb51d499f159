/* Transforms against sums in long double: relative root mean square errors, for every method and both dtypes; faults.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "helpers.h"
#include "op.h"

static double noise(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return (double)(int64_t)*state * 0x1p-63;
}
static double at(pl_context *c, pl_value v, int64_t i) {
  const void *p = pl_data(c, v);
  return pl_dtype_of(c, v) == PL_F64 ? ((const double *)p)[i] : (double)((const float *)p)[i];
}
static pl_value pairs(pl_context *c, pl_dtype dtype, int64_t n) {
  pl_value wide = pl_tensor(c, PL_F64, 2, (int64_t[]){n, 2}, NULL);
  uint64_t state = 12345;
  double *x = (double *)pl_data(c, wide);
  for (int64_t i = 0; i < 2 * n; i++) x[i] = noise(&state);
  pl_value v = pl_cast(c, wide, dtype);
  if (v != wide) pl_release(c, wide);
  return v;
}
static pl_value along(pl_context *c, const char *op, pl_value x) {
  return pl_apply1(c, pl_op_find(op), 1, &x, (pl_attr[]){PL_INT(0), PL_INT(0), PL_INT(0), PL_INT(0)});
}

/* cos and sin of 2 pi i/n */
static long double *circle(int64_t n) {
  long double *table = malloc((size_t)(2 * n) * sizeof *table), turn = 8 * atanl(1);
  for (int64_t i = 0; i < n; i++) sincosl(turn * (long double)i / (long double)n, &table[2 * i + 1], &table[2 * i]);
  return table;
}
/* Root mean square error over some frequencies (all of short transforms), relative to that of the result. */
static double error_of(pl_context *c, pl_value x, pl_value y, const long double *table, int64_t n, bool real) {
  long double off = 0, size = 0; /* by Parseval */
  for (int64_t j = 0; j < (real ? n : 2 * n); j++) size += at(c, x, j) * at(c, x, j);
  int64_t count = 0, last = real ? n / 2 : n - 1, stride = last / (n > 2000 ? 4 : n) + 1;
  for (int64_t k = 0; k <= last; k += stride, count++) {
    long double re = 0, im = 0;
    for (int64_t j = 0, e = 0; j < n; j++, e = (e + k) % n) {
      long double a = at(c, x, real ? j : 2 * j), b = real ? 0 : at(c, x, 2 * j + 1);
      re += a * table[2 * e] + b * table[2 * e + 1];
      im += b * table[2 * e] - a * table[2 * e + 1];
    }
    long double dr = at(c, y, 2 * k) - re, di = at(c, y, 2 * k + 1) - im;
    off += dr * dr + di * di;
  }
  return (double)sqrtl(off / ((long double)count * size));
}

static void accuracy(void **state) {
  (void)state;
  static const int64_t more[] = {97,   128,   169,   243,   625,    1000,    1009,    1024,  2048, 3 * 7 * 11 * 13,
                                 8192, 16384, 65536, 65537, 100000, 1000000, 1048576, 999983};
  pl_context *c = pl_context_new();
  double worst[2] = {0};
  for (int i = 1; i < 65 + (int)(sizeof more / sizeof *more); i++) {
    int64_t n = i < 65 ? i : more[i - 65];
    long double *table = circle(n);
    for (int dtype = PL_F64; dtype <= PL_F32; dtype++) {
      double eps = dtype == PL_F64 ? 0x1p-52 : 0x1p-23, unit = eps * sqrt(log2((double)n) + 1);
      pl_value x = pairs(c, (pl_dtype)dtype, n), y = along(c, "fft", x), z = along(c, "ifft", y);
      pl_value r = pl_apply1(c, pl_op_find("reshape"), 1, &x, &PL_INTS(1, ((int64_t[]){2 * n}))),
               head = slice(c, r, 0, 1, n), w = along(c, "rfft", head);
      double e = error_of(c, x, y, table, n, false) / unit, f = error_of(c, head, w, table, n, true) / unit, back = 0;
      for (int64_t k = 0; k < 2 * n; k++) back += pow(at(c, z, k) - at(c, x, k), 2);
      back = sqrt(back / (double)n) / unit;
      if (n > 64)
        printf("%8lld %s: fft %.2f, rfft %.2f, back %.2f eps sqrt(1 + log2 n)\n", (long long)n,
               pl_dtype_name((pl_dtype)dtype), e, f, back);
      if (!(e < 1) || !(f < 1) || !(back < 1.5)) fail_msg("fft of %lld numbers: %g, %g, %g", (long long)n, e, f, back);
      worst[dtype] = fmax(worst[dtype], fmax(e, f));
      pl_value all[] = {x, y, z, r, head, w};
      for (int k = 0; k < 6; k++) pl_release(c, all[k]);
    }
    free(table);
  }
  printf("worst: f64 %.2f, f32 %.2f eps sqrt(1 + log2 n)\n", worst[0], worst[1]);
  assert_int_equal(pl_live_values(c), 0);
  pl_context_free(c);
}

/* Every allocation fails in turn, every question whether to stop is answered with yes: an error, and no harm. */
static void faults_of(const char *backend) {
  static const struct {
    const char *op;
    int64_t n;
  } cases[] = {{"fft", 24}, {"fft", 59}, {"fft", 16384}, {"fft", 20011}, {"rfft", 30}, {"rfft", 35}, {"dct", 22}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    for (int what = 0; what < 2; what++) {
      bool done = false;
      for (int k = 0; !done; k++) {
        pl_context *c = pl_context_new();
        pl_value x = pairs(c, PL_F64, cases[i].n);
        assert_true(pl_fft_backend(c, backend));
        if (what) atomic_store(&c->interrupted, -1 - k);
        else c->fail_after = k;
        pl_value y = pl_apply1(c, pl_op_find(cases[i].op), 1, &x,
                               (pl_attr[]){PL_INT(cases[i].op[0] == 'd' ? 2 : 0), PL_INT(0), PL_INT(0), PL_INT(0)});
        done = y != PL_NONE;
        if (!done) assert_int_equal(pl_error_status(c), what ? PL_ERROR_INTERRUPT : PL_ERROR_MEMORY);
        pl_clear(c);
        c->fail_after = -1;
        atomic_store(&c->interrupted, 0);
        pl_release(c, y);
        pl_release(c, x);
        assert_int_equal(pl_live_values(c), 0);
        pl_context_free(c);
        if (what && k > 60) break; /* long ones ask often */
      }
    }
}

static void faults(void **state) {
  (void)state;
  faults_of("own");
  pl_context *c = pl_context_new();
  bool installed = pl_fft_backend(c, "fftw");
  pl_context_free(c);
  if (installed) faults_of("fftw");
}

/* Plans are kept, and not without bounds. */
static void plans(void **state) {
  (void)state;
  pl_context *c = pl_context_new();
  size_t after[2];
  for (int round = 0; round < 2; round++) {
    for (int64_t n = 1; n <= 300; n++) {
      pl_value x = pairs(c, PL_F64, n), y = along(c, "fft", x);
      pl_release(c, x);
      pl_release(c, y);
    }
    after[round] = pl_bytes_used(c);
  }
  assert_true(after[0] == after[1] && after[0] < 1 << 20);
  pl_context_free(c);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(accuracy), cmocka_unit_test(faults), cmocka_unit_test(plans)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
