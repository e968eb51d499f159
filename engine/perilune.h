/* perilune.h: the door of the engine.
 *
 * Perilune records array programs, differentiates them to any order and drives optimizations over them. This header is
 * all that a host needs; the Lua binding in lua/ uses nothing else that a C program could not.
 *
 *   pl_context *c = pl_context_new();
 *   pl_value x = pl_scalar(c, PL_F64, 3.0), in, y, g;
 *   pl_region *r = pl_region_open(c, 1, &x, &in);              // from here on ops are recorded
 *   y = pl_apply1(c, pl_op_find("square"), 1, &in, NULL);
 *   pl_region_close(r);
 *   pl_region_vjp(r, 1, &y, NULL, &g, NULL, true);             // g = dy/dx = 6, owned by the caller
 *   printf("%g\n", pl_item(c, g));
 *   pl_region_free(r); pl_release(c, g); pl_release(c, x); pl_context_free(c);
 *
 * Values. A pl_value is a handle: 8 bits of context, 24 of slot, 32 of generation. It names an immutable dense tensor
 * (row-major, contiguous, rank <= 8) or an opaque resource such as a matrix factor. A handle whose value is gone is
 * detected and is an error, never a wrong answer.
 *
 * Ownership. Outside a recording, whatever returns a value gives the caller one reference, dropped by pl_release.
 * Inside a recording (and inside a pl_scope) new values belong to it and die with it; pl_retain keeps one beyond that.
 *
 * Errors. Every failure sets the context's error: a status and a message that says what happened with which shapes.
 * While it is set every call that takes the context is a no-op returning PL_NONE, so a sequence of calls may be checked
 * once, at its end; pl_clear forgets it. The engine never prints, exits, aborts or jumps.
 *
 * Threads. A context is used by one thread at a time; contexts in different threads do not meet. pl_interrupt alone
 * may be called from a signal handler or another thread. */
#ifndef PERILUNE_H
#define PERILUNE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PL_API __attribute__((visibility("default")))
#define PL_VERSION "0.1.0"

typedef struct pl_context pl_context;
typedef struct pl_region pl_region;
typedef struct pl_op pl_op;
typedef struct pl_object pl_object; /* an interned static object: a sparse pattern, a plan */
typedef uint64_t pl_value;

#define PL_NONE ((pl_value)0) /* no value: an error happened, or nothing was given */
#define PL_ZERO ((pl_value)1) /* the symbolic zero of any shape; only tangents and adjoints may be it */

enum { PL_MAX_RANK = 8, PL_MAX_INPUTS = 1024, PL_MAX_OUTPUTS = 1024 };

typedef enum { PL_F64, PL_F32, PL_I64, PL_BOOL, PL_DTYPES } pl_dtype;

typedef enum {
  PL_OK,
  PL_ERROR_ARGUMENT,  /* a value that makes no sense here */
  PL_ERROR_SHAPE,     /* shapes that do not fit */
  PL_ERROR_TYPE,      /* a dtype or kind of value that does not fit */
  PL_ERROR_INDEX,     /* an index or slice out of range */
  PL_ERROR_STALE,     /* a handle whose value is gone, or that another context made */
  PL_ERROR_STATE,     /* the right call at the wrong time; data changed behind a recording */
  PL_ERROR_MEMORY,    /* the budget or the machine has no room */
  PL_ERROR_NUMERIC,   /* a singular matrix, a failed solve */
  PL_ERROR_INTERRUPT, /* pl_interrupt was called */
} pl_status;

/* ---- context ---- */

PL_API pl_context *pl_context_new(void); /* NULL when out of memory */
PL_API void pl_context_free(pl_context *c);
PL_API pl_status pl_error_status(const pl_context *c);
PL_API const char *pl_error_message(const pl_context *c); /* valid until the next error */
PL_API void pl_error(pl_context *c, pl_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));
PL_API void pl_clear(pl_context *c);
PL_API void pl_interrupt(pl_context *c);                /* the running or next op fails with PL_ERROR_INTERRUPT */
PL_API void pl_clear_interrupt(pl_context *c);          /* forgets one that came too late */
PL_API bool pl_interrupt_pending(const pl_context *c);  /* asked for and not yet answered */
PL_API bool pl_running(const pl_context *c);            /* is a program running (and a host's function in it)? */
PL_API void pl_set_threads(pl_context *c, int threads); /* 0: as many as the machine has */
PL_API int pl_threads(const pl_context *c);
/* Who does Fourier transforms from now on, in programs compiled before, too: "own" (at first), or "fftw", a plugin that
 * is looked for beside this library or where the environment variable PERILUNE_FFTW says; false, and the error set,
 * where it is not there. Results are the same to rounding. */
PL_API bool pl_fft_backend(pl_context *c, const char *name);
/* Bytes of tensor data, resources and caches. The default budget is 80 % of RAM or of the cgroup's limit. */
PL_API void pl_set_budget(pl_context *c, size_t bytes);
PL_API size_t pl_budget(const pl_context *c);
PL_API size_t pl_bytes_used(const pl_context *c);
PL_API size_t pl_bytes_peak(const pl_context *c);
PL_API int64_t pl_live_values(const pl_context *c);

/* ---- values ---- */

typedef struct {
  pl_dtype dtype;
  int rank;
  int64_t shape[PL_MAX_RANK];
  int64_t count;
  bool resource; /* opaque: dtype and shape mean nothing */
  bool recorded; /* belongs to a live recording */
} pl_info;

PL_API const char *pl_dtype_name(pl_dtype dtype); /* "f64" ... */
PL_API size_t pl_dtype_size(pl_dtype dtype);
/* A tensor holding a copy of data (count items of dtype; bool is one byte), zeros where data is NULL. */
PL_API pl_value pl_tensor(pl_context *c, pl_dtype dtype, int rank, const int64_t *shape, const void *data);
PL_API pl_value pl_scalar(pl_context *c, pl_dtype dtype, double x); /* rank 0 */
/* A 0-d constant shared by all who ask for the same number: the caller owns nothing and must not release it. */
PL_API pl_value pl_constant(pl_context *c, pl_dtype dtype, double x);
/* A number of the host's code. While a function is traced it is one that later runs may replace (a value of the trace),
 * else a constant, which the caller must not release. */
PL_API pl_value pl_number(pl_context *c, pl_dtype dtype, double x);
/* May it still be read: alive, and where it stands for the caller's array, not written since? Sets no error. */
PL_API bool pl_fresh(const pl_context *c, pl_value v);
PL_API bool pl_known(const pl_context *c, pl_value v); /* has it data to read? not while it is being traced */
/* A tensor over the caller's array, not copied. The array must stay until `release(owner)` is called. Where version is
 * given, using the tensor after *version changed is an error: count it up at each write. Kernels read whole vectors: 64
 * bytes behind the array must be readable, too. */
PL_API pl_value pl_borrow(pl_context *c, pl_dtype dtype, int rank, const int64_t *shape, void *data,
                          const uint64_t *version, void (*release)(void *owner), void *owner);
PL_API bool pl_describe(pl_context *c, pl_value v, pl_info *info); /* false, and the error set, when stale */
PL_API int pl_dtype_of(const pl_context *c, pl_value v);           /* -1 for what is no live tensor; sets no error */
PL_API const void *pl_data(pl_context *c, pl_value v);             /* valid while v is */
PL_API double pl_item(pl_context *c, pl_value v);                  /* the number in a tensor of one element */
PL_API void pl_retain(pl_context *c, pl_value v);
PL_API void pl_release(pl_context *c, pl_value v);    /* silent on a stale handle: finalizers may be late */
PL_API pl_value pl_detach(pl_context *c, pl_value v); /* the same data under a handle that no recording owns */

/* New values belong to the scope until it ends, unless retained. */
PL_API void pl_scope_begin(pl_context *c);
PL_API void pl_scope_end(pl_context *c);
/* A program (a compiled function, a loop) that pl_interrupt stopped stays in the context, the last one, until it is
 * continued or another is stopped. pl_continue runs on and writes its results, at most that many, as the caller's own;
 * returns how many, or -1 with the error set (interrupted again: it can be continued again). */
PL_API int64_t pl_suspended(const pl_context *c); /* 0: there is none; else another number for each stop */
PL_API int pl_continue(pl_context *c, int most, pl_value *outputs);

/* Between these two nothing is recorded and new values are the caller's. */
PL_API void pl_pause(pl_context *c);
PL_API void pl_resume(pl_context *c);
PL_API bool pl_recording(const pl_context *c); /* would an op be recorded? */
PL_API bool pl_owns(const pl_context *c);      /* are new values the caller's (no recording, no scope)? */

/* ---- ops ---- */

typedef enum { PL_ATTR_INT, PL_ATTR_REAL, PL_ATTR_INTS, PL_ATTR_OBJECT } pl_attr_type;

/* One typed attribute. A list with n = -1 means "not given" (all axes, say). */
typedef struct {
  int32_t type, n;
  union {
    int64_t i;
    double r;
    const int64_t *list;
    pl_object *object;
  };
} pl_attr;

#define PL_INT(v) ((pl_attr){.type = PL_ATTR_INT, .i = (v)})
#define PL_REALV(v) ((pl_attr){.type = PL_ATTR_REAL, .r = (v)})
#define PL_INTS(count, v) ((pl_attr){.type = PL_ATTR_INTS, .n = (int32_t)(count), .list = (v)})
#define PL_OBJECT(v) ((pl_attr){.type = PL_ATTR_OBJECT, .object = (v)})

/* How a host reads an attribute from its user: axes and indices are 0-based and half-open here, 1-based there. */
typedef enum {
  PL_AS_INT,
  PL_AS_REAL,
  PL_AS_FLAG,
  PL_AS_AXIS,
  PL_AS_AXES,
  PL_AS_INTS,
  PL_AS_SHAPE,
  PL_AS_DTYPE,
  PL_AS_OBJECT
} pl_attr_kind;

typedef struct {
  const char *name;
  pl_attr_kind kind;
  bool required;
  double standard; /* the default of a number; a list that is not given has n = -1 */
} pl_attr_spec;

enum { PL_MAX_ATTRS = 6 };

PL_API const pl_op *pl_op_find(const char *name);
PL_API const pl_op *pl_op_at(int i); /* NULL past the last */
PL_API const char *pl_op_name(const pl_op *op);
/* What help says of an op, one line each; all but the formula may be NULL. */
typedef struct {
  const char *formula, *shapes, *derivative, *accuracy, *source;
} pl_op_doc;
PL_API pl_op_doc pl_op_help(const pl_op *op);
PL_API bool pl_op_internal(const pl_op *op);             /* made by other ops and rules, not offered to users */
PL_API int pl_op_inputs(const pl_op *op);                /* -1: any number, as one list */
PL_API int pl_op_outputs(const pl_op *op);               /* -1: it depends on the attributes */
PL_API const pl_attr_spec *pl_op_attrs(const pl_op *op); /* ends at a NULL name */

/* Runs an op, and records it where a recording is open. attrs holds one entry for each of the op's specs (NULL when it
 * has none). Writes pl_op_outputs(op) values; false, and PL_NONE, on an error. */
PL_API bool pl_apply(pl_context *c, const pl_op *op, int n, const pl_value *inputs, const pl_attr *attrs,
                     pl_value *outputs);
PL_API pl_value pl_apply1(pl_context *c, const pl_op *op, int n, const pl_value *inputs, const pl_attr *attrs);

/* Where in the user's script the next recorded ops stand. The name is copied once. */
PL_API int pl_source(pl_context *c, const char *name);
PL_API void pl_set_line(pl_context *c, int source, int line);

/* ---- derivatives ---- */

/* Opens a region of the recording (and the recording itself, when none is open). inputs[k] stands for x[k] inside: it
 * is what derivatives are taken with respect to. Until the region closes, using an owned x[k] itself is an error, for
 * its gradient would be lost. Regions nest. names (may be NULL) are for messages. */
PL_API pl_region *pl_region_open(pl_context *c, int n, const pl_value *x, const char *const *names, pl_value *inputs);
PL_API void pl_region_close(pl_region *r); /* later ops are not part of it */
PL_API void pl_region_free(pl_region *r);  /* closes; the outermost ends the recording and its values die */
/* g[k] = sum_j seeds[j] * dy[j]/dx[k]; seeds may be NULL for ones (then each y[j] must have one element). `last` lets
 * an outermost region free its values as the sweep passes. reached (may be NULL) tells which x had a path to a y. */
PL_API bool pl_region_vjp(pl_region *r, int n_y, const pl_value *y, const pl_value *seeds, pl_value *g, bool *reached,
                          bool last);
/* dy[j] = sum_k dy[j]/dx[k] * t[k]. The region may still be open: the tangent program is then part of it. t[k] may be
 * PL_ZERO. */
PL_API bool pl_region_jvp(pl_region *r, int n_y, const pl_value *y, const pl_value *t, pl_value *dy);

#ifdef __cplusplus
}
#endif
#endif
