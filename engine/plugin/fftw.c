/* fftw.c: lines transformed by FFTW 3 (M. Frigo and S. G. Johnson, The design and implementation of FFTW3, Proc. IEEE
 * 93(2), 2005), in a shared object of its own: FFTW is under the GPL. Plans are estimated, never measured, for a
 * measurement would let bits depend on the hour. What FFTW allocates is not counted, and a line answers no interrupt.
 */
#include <fftw3.h>
#include <pthread.h>

#include "../fft_library.h"

static pthread_mutex_t planner = PTHREAD_MUTEX_INITIALIZER; /* FFTW has one for the whole process */

#define PRECISION(name, fftw, number)                                                                                \
  static void *plan_##name(bool real, bool backward, int n) {                                                        \
    fftw##_complex *x = fftw##_alloc_complex((size_t)n), *y = fftw##_alloc_complex((size_t)n); /* not touched */     \
    void *plan = NULL;                                                                                               \
    if (x && y && !real) plan = fftw##_plan_dft_1d(n, x, y, backward ? FFTW_BACKWARD : FFTW_FORWARD, FFTW_ESTIMATE); \
    else if (x && y && backward) plan = fftw##_plan_dft_c2r_1d(n, x, (number *)y, FFTW_ESTIMATE);                    \
    else if (x && y) plan = fftw##_plan_dft_r2c_1d(n, (number *)x, y, FFTW_ESTIMATE);                                \
    fftw##_free(x);                                                                                                  \
    fftw##_free(y);                                                                                                  \
    return plan;                                                                                                     \
  }                                                                                                                  \
  static void run_##name(bool real, bool backward, void *plan, void *x, void *y) {                                   \
    if (!real) fftw##_execute_dft(plan, x, y);                                                                       \
    else if (backward) fftw##_execute_dft_c2r(plan, x, y);                                                           \
    else fftw##_execute_dft_r2c(plan, x, y);                                                                         \
  }
PRECISION(f64, fftw, double)
PRECISION(f32, fftwf, float)

static void *plan_new(pl_dtype dtype, bool real, bool backward, int64_t n) {
  pthread_mutex_lock(&planner);
  void *plan = dtype == PL_F64 ? plan_f64(real, backward, (int)n) : plan_f32(real, backward, (int)n);
  pthread_mutex_unlock(&planner);
  return plan;
}
static void plan_free(pl_dtype dtype, void *plan) {
  pthread_mutex_lock(&planner);
  if (dtype == PL_F64) fftw_destroy_plan(plan);
  else fftwf_destroy_plan(plan);
  pthread_mutex_unlock(&planner);
}
static void run(pl_dtype dtype, bool real, bool backward, void *plan, const void *x, void *y) {
  if (dtype == PL_F64) run_f64(real, backward, plan, (void *)x, y);
  else run_f32(real, backward, plan, (void *)x, y);
}

PL_API const pl_fft_library pl_fft_plugin = {
    .version = PL_VERSION, .alignment = 16, .plan = plan_new, .free = plan_free, .run = run};
