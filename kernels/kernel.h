/* kernel.h: the dialect in which every formula is written once, compiled by the C compiler and by nvcc.
 *
 *   typedef struct { const real *x; real *y; real b; } softplus_args;
 *   PL_KERNEL(softplus) { real z = a.b*a.x[i]; a.y[i] = ...; }
 *
 * A file is compiled for each instruction set and dtype, with PL_REAL the dtype (f64, f32, i64, u8) called `real`.
 * PL_KERNEL bodies compute element i from elements i alone: they are vectorized. Their arguments are the inputs' pointers,
 * the output's, then real parameters. Buffers are 64-byte aligned and padded, and whole vectors are computed, so that
 * f(x_i) does not depend on i, n or who computes it. PL_ROW_KERNEL bodies do a piece of work i of any size, write nothing
 * that another i reads or writes, and take the structs declared in shapes.h.
 *
 * On the CPU a kernel is name_range(args, lo, hi) in a table that the engine reads (the linker section pl_kernels); under
 * nvcc it is a grid-stride kernel. What accumulates is never `restrict`. */
#ifndef PL_KERNEL_H
#define PL_KERNEL_H

#include <math.h>
#include <stdint.h>

typedef struct {
  const char *name;
  int isa, dtype;
  void (*fn)(const void *args, int64_t lo, int64_t hi);
  void (*one)(const void *x, const void *z, const void *w, void *y); /* a single element; NULL: there is none */
} pl_kernel_entry;

#ifdef PL_REAL
typedef PL_REAL real;
#define PL_FLOATING (PL_DTYPE_ID <= 1)

#ifdef __CUDACC__
#define PL_FN static inline __host__ __device__
#define PL_KERNEL(name)                                                                          \
  static __device__ void name##_at(const name##_args &a, int64_t i);                             \
  extern "C" __global__ void name##_cuda(name##_args a, int64_t lo, int64_t hi) {                \
    for (int64_t i = lo + blockIdx.x*(int64_t)blockDim.x + threadIdx.x; i < hi; i += (int64_t)gridDim.x*blockDim.x) \
      name##_at(a, i);                                                                           \
  }                                                                                              \
  static __device__ void name##_at(const name##_args &a, int64_t i)
#define PL_ROW_KERNEL PL_KERNEL
#define PL_EXACT_KERNEL PL_KERNEL
#define PL_ONE(...)
#else
#define PL_FN static inline
#define PL_ONE(...) __VA_ARGS__
#define PL_ENTRY(name, one)                                                                                 \
  static void name##_range(const void *args, int64_t lo, int64_t hi);                                       \
  __attribute__((section("pl_kernels"), used, aligned(8))) static const pl_kernel_entry name##_entry = {    \
      #name, PL_ISA_ID, PL_DTYPE_ID, name##_range, one};
#define PL_KERNEL(name) PL_VECTOR_KERNEL(name, 0)
/* With a function for a single element: only for what is rounded alike alone and in vectors (no calls of libmvec). */
#define PL_EXACT_KERNEL(name)                                                                               \
  static void name##_one(const void *x, const void *z, const void *w, void *y);                             \
  PL_VECTOR_KERNEL(name, name##_one)
#define PL_VECTOR_KERNEL(name, one)                                       \
  PL_ENTRY(name, one)                                                     \
  PL_FN void name##_at(const name##_args a, int64_t i);                   \
  static void name##_range(const void *args, int64_t lo, int64_t hi) {    \
    const name##_args a = *(const name##_args *)args;                     \
    const int64_t whole = 64 / (int64_t)sizeof(real);                     \
    hi = lo + ((hi - lo + whole - 1) & -whole); /* whole vectors */        \
    _Pragma("omp simd") for (int64_t i = lo; i < hi; i++) name##_at(a, i); \
  }                                                                       \
  PL_FN void name##_at(const name##_args a, int64_t i)
#define PL_ROW_KERNEL(name)                                             \
  PL_ENTRY(name, 0)                                                     \
  PL_FN void name##_at(const name##_args a, int64_t i);                 \
  static void name##_range(const void *args, int64_t lo, int64_t hi) {  \
    const name##_args a = *(const name##_args *)args;                   \
    for (int64_t i = lo; i < hi; i++) name##_at(a, i);                  \
  }                                                                     \
  PL_FN void name##_at(const name##_args a, int64_t i)

/* glibc's vector functions (libmvec, at most 4 ulp) without -ffast-math: its own header declares them for that only. */
#if defined __GNUC__ && !defined __clang__ && defined __x86_64__
#define PL_VECTOR(f)                                                                             \
  extern double f(double) __attribute__((const, nothrow, leaf, simd("notinbranch")));            \
  extern float f##f(float) __attribute__((const, nothrow, leaf, simd("notinbranch")));
PL_VECTOR(exp) PL_VECTOR(log) PL_VECTOR(log1p) PL_VECTOR(expm1) PL_VECTOR(sin) PL_VECTOR(cos) PL_VECTOR(tan) PL_VECTOR(tanh)
PL_VECTOR(asin) PL_VECTOR(acos) PL_VECTOR(atan) PL_VECTOR(sinh) PL_VECTOR(cosh) PL_VECTOR(asinh) PL_VECTOR(acosh) PL_VECTOR(atanh)
PL_VECTOR(exp2) PL_VECTOR(log2) PL_VECTOR(log10) PL_VECTOR(cbrt) PL_VECTOR(erf) PL_VECTOR(erfc)
#define PL_VECTOR2(f)                                                                            \
  extern double f(double, double) __attribute__((const, nothrow, leaf, simd("notinbranch")));    \
  extern float f##f(float, float) __attribute__((const, nothrow, leaf, simd("notinbranch")));
PL_VECTOR2(pow) PL_VECTOR2(atan2) PL_VECTOR2(hypot)
#endif
#endif

/* The math of `real`. */
#if PL_DTYPE_ID == 1
#define exp(x) expf(x)
#define log(x) logf(x)
#define log1p(x) log1pf(x)
#define expm1(x) expm1f(x)
#define sin(x) sinf(x)
#define cos(x) cosf(x)
#define tan(x) tanf(x)
#define tanh(x) tanhf(x)
#define pow(x, z) powf(x, z)
#define sqrt(x) sqrtf(x)
#define fabs(x) fabsf(x)
#define floor(x) floorf(x)
#define ceil(x) ceilf(x)
#define trunc(x) truncf(x)
#define rint(x) rintf(x)
#define fmod(x, z) fmodf(x, z)
#define asin(x) asinf(x)
#define acos(x) acosf(x)
#define atan(x) atanf(x)
#define sinh(x) sinhf(x)
#define cosh(x) coshf(x)
#define asinh(x) asinhf(x)
#define acosh(x) acoshf(x)
#define atanh(x) atanhf(x)
#define exp2(x) exp2f(x)
#define log2(x) log2f(x)
#define log10(x) log10f(x)
#define cbrt(x) cbrtf(x)
#define erf(x) erff(x)
#define erfc(x) erfcf(x)
#define atan2(x, z) atan2f(x, z)
#define hypot(x, z) hypotf(x, z)
#endif
#endif
#endif
