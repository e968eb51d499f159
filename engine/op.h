/* op.h: the row of the op table, and what rules are written with.
 *
 * A row says everything about an op. Elementwise rows need a kernel of the same name (kernels/) and partial
 * derivatives; other primitive rows give shape, run, vjp and jvp; composite rows give only `expand`, which calls other
 * ops. Derivative rules call ops, never kernels, so that every derivative can be recorded and differentiated again. */
#ifndef PL_OP_H
#define PL_OP_H

#include "object.h"
#include "value.h"

typedef enum { PL_ELEMENTWISE, PL_MOVE, PL_REDUCE, PL_LINEAR, PL_OPAQUE, PL_COMPOSITE } pl_op_class;

/* Symbolic partial derivatives, for partial() only. */
#define PL_ONE ((pl_value)2)
#define PL_MINUS_ONE ((pl_value)3)

/* Which dtypes an op computes in; inputs are promoted to their common one first, then to f64 if that is not in the set.
 */
enum { PL_IN_F64 = 1, PL_IN_F32 = 2, PL_IN_I64 = 4, PL_IN_BOOL = 8, PL_FLOATS = 3, PL_NUMBERS = 7, PL_ANY = 15 };

enum { PL_KEEPS_ALL = 0xff };

typedef struct {
  pl_context *c;
  const pl_op *op;
  int n;                   /* inputs */
  pl_slot *const *in;      /* their slots */
  const pl_value *handles; /* and handles */
  const pl_attr *attrs;
} pl_call;

/* Reverse: rules read g (one an output; PL_ZERO where nothing arrives, never all) and give contributions to inputs k
 * for which need[k], with pl_vjp_give. */
typedef struct {
  pl_context *c;
  const pl_op *op;
  int n;
  const pl_value *in, *out, *g;
  const bool *need;
  const pl_attr *attrs;
} pl_vjp;

/* Forward: rules read the tangents t of the inputs (PL_ZERO allowed, never all) and set those of the outputs, dt. */
typedef struct {
  pl_context *c;
  const pl_op *op;
  int n;
  const pl_value *in, *out, *t;
  pl_value *dt;
  const pl_attr *attrs;
} pl_jvp;

/* An op with sub-programs in the middle of its work: the runner (execute.c) keeps these on a stack in the heap. `step`
 * says what comes next: run `child` (its inputs bound by pl_frame_bind; step is called again when it is done), done, or
 * failed with the error set. Between steps everything is in `state`, so that an interrupted run can go on. */
typedef enum { PL_NEXT_CALL, PL_NEXT_DONE, PL_NEXT_FAIL } pl_next;
typedef struct pl_activation {
  const pl_op *op;
  const pl_attr *attrs;
  uint32_t line;
  int n_in, n_out;
  pl_slot **in, **out; /* outputs are allocated */
  void *state;
  struct pl_frame *child;
  struct pl_activation *parent;
} pl_activation;

enum { PL_MAX_SAMPLE = 8 };

/* A valid call for the conformance test. */
typedef struct {
  int n;
  pl_value in[PL_MAX_SAMPLE];
  pl_attr attrs[PL_MAX_ATTRS];
  int64_t lists[PL_MAX_ATTRS][PL_MAX_RANK]; /* room for list attributes */
  pl_object *object, *second;               /* released by the test */
} pl_sample;

typedef struct {
  uint64_t state;
} pl_sampler_random;

/* kernel(args, lo, hi): indices lo <= i < hi; args points at the inputs' pointers, the outputs' pointers, then the real
 * parameters in the kernel's dtype. */
typedef void (*pl_kernel)(const void *args, int64_t lo, int64_t hi);
/* An elementwise kernel for one element. */
typedef void (*pl_kernel_one)(const void *x, const void *z, const void *w, void *y);

struct pl_op {
  /* For help and the manual: one line; shapes of inputs and results, "{..., n, n}, {..., n} -> {..., n}" (elementwise
   * rows need none); what is a convention in the derivative, or missing; how far results may be off; where it is from.
   */
  const char *name, *formula, *shapes, *derivative, *accuracy, *source;
  pl_op_class kind;
  int8_t inputs, outputs; /* inputs -1: any number >= 1 */
  bool internal;          /* not offered to users */
  uint8_t work;           /* elementwise: an element's cost in additions, where it is more than about two */
  bool in_place;          /* run may be given an output that is input 0's buffer */
  uint8_t dtypes;         /* of its numeric inputs */
  int8_t result;          /* elementwise: dtype of the result, -1 that of the inputs */
  uint8_t masks;          /* bit k: input k is bool, whatever the others are */
  uint8_t keeps;          /* bit k: input k keeps its dtype (indices, resources): no promotion; or PL_KEEPS_ALL */
  const char *kernel;     /* elementwise: when its name differs */
  pl_attr_spec attrs[PL_MAX_ATTRS + 1];

  bool (*shape)(const pl_call *call, pl_spec *out); /* not elementwise, not resources */
  void (*run)(const pl_call *call, pl_slot **out);  /* out: allocated */
  pl_resource *(*make)(const pl_call *call);        /* instead of shape and run: the output is a resource */
  bool share;                                       /* the output is input 0's data in another shape: no run */
  pl_value (*partial)(pl_context *c, int k, const pl_value *in, pl_value out, const pl_attr *attrs); /* elementwise */
  void (*vjp)(pl_vjp *v);
  void (*jvp)(pl_jvp *j);
  const char *no_derivative; /* why there is none, where the reason helps */
  bool constant;             /* the result counts as one: no derivative goes through it */
  bool discrete;   /* steps, which would hide a gradient: an input that a derivative is taken by is an error */
  bool stacks;     /* inputs and results have one first axis, whose entries it treats one by one */
  uint8_t leading; /* bit k: input k, and with it the result, may have more axes in front */
  bool draws;      /* random numbers; its inputs are position, seed, stream and parameters (ops/random.c) */
  bool linear;     /* in all its float inputs together: jvp is the op itself on the tangents; needs no jvp */
  bool (*expand)(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs, pl_value *out);
  int id;                  /* place in the table, */
  pl_kernel fn[PL_DTYPES]; /* and the kernel for this machine: set when the first context is made */
  bool (*sample)(pl_context *c, pl_sampler_random *r, int k, pl_sample *s); /* false: no k-th sample */

  /* Ops that hold sub-programs (ops/control.c). outputs is -1 then, and results() tells. */
  int (*results)(const pl_attr *attrs);
  /* Called when the op is about to be recorded inside a region, active inputs flagged: may call itself with other
   * attributes that keep what the derivative reads (more outputs; the first ones are those asked for). */
  bool (*augment)(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs, pl_value *out,
                  bool *done);
  size_t state_size; /* of step's state, zeroed before the first call */
  pl_next (*step)(pl_context *c, pl_activation *a);
  void (*stop)(pl_context *c, pl_activation *a); /* frees what the state holds; the frame is freed by the runner */
  struct pl_user_op *user;                       /* of a user's op and its derivatives */
};

static inline int pl_attr_count(const pl_op *op) {
  int n = 0;
  while (n < PL_MAX_ATTRS && op->attrs[n].name) n++;
  return n;
}

static inline int pl_op_results(const pl_op *op, const pl_attr *attrs) {
  return op->outputs >= 0 ? op->outputs : op->results(attrs);
}

/* ---- the table ---- */

void pl_ops_start(void); /* resolves kernels; once */
/* The kernel of a name that belongs to no row (reductions, moves ...). */
pl_kernel pl_kernel_find(const char *name, pl_dtype dtype);
pl_kernel_one pl_kernel_find_one(const char *name, pl_dtype dtype); /* NULL where it is not rounded like the other */
#define PL_KERNEL_OF(name, dtype)                                    \
  ({                                                                 \
    static pl_kernel _Atomic pl_kernels_[PL_DTYPES];                 \
    pl_kernel k_ = pl_kernels_[dtype];                               \
    if (!k_) pl_kernels_[dtype] = k_ = pl_kernel_find(#name, dtype); \
    k_;                                                              \
  })
int pl_isa(void); /* 0: baseline, 1: x86-64-v3, 2: x86-64-v4 */

/* Each family's rows; a null name ends them. */
extern pl_op pl_ops_elementwise[], pl_ops_functions[], pl_ops_reduce[], pl_ops_move[], pl_ops_matmul[], pl_ops_order[],
    pl_ops_running[], pl_ops_statistics[], pl_ops_rolling[], pl_ops_arrange[], pl_ops_linalg[], pl_ops_eigen[],
    pl_ops_eigvals[], pl_ops_qr[], pl_ops_lu[], pl_ops_svd[], pl_ops_matrix_functions[], pl_ops_banded[],
    pl_ops_random[], pl_ops_scatter[], pl_ops_special[], pl_ops_filters[], pl_ops_convolution[], pl_ops_interpolate[],
    pl_ops_fourier[], pl_ops_sparse[], pl_ops_solve[], pl_ops_least_squares[], pl_ops_logdet[], pl_ops_eigsh[],
    pl_ops_control[], pl_ops_loops[], pl_ops_newton[], pl_ops_krylov[], pl_ops_precondition[], pl_ops_implicit[],
    pl_ops_root[], pl_ops_fixed_point[], pl_ops_argmin[];

/* The row of a name known to exist, for rules: PL_OP(add) is looked up once a call site. */
const pl_op *pl_op_need(const char *name);
#define PL_OP(name)                                \
  ({                                               \
    static const pl_op *_Atomic pl_found_;         \
    const pl_op *op_ = pl_found_;                  \
    if (!op_) pl_found_ = op_ = pl_op_need(#name); \
    op_;                                           \
  })

/* ---- what rules are written with: ops, with PL_ZERO understood ---- */

pl_value pl_call1(pl_context *c, const pl_op *op, pl_value x, const pl_attr *attrs);
pl_value pl_call2(pl_context *c, const pl_op *op, pl_value x, pl_value y, const pl_attr *attrs);
pl_value pl_call3(pl_context *c, const pl_op *op, pl_value x, pl_value y, pl_value z, const pl_attr *attrs);
#define PL_UNARY(name, c, x) pl_call1(c, PL_OP(name), x, NULL)
#define PL_BINARY(name, c, x, y) pl_call2(c, PL_OP(name), x, y, NULL)
#define PL_WHERE(c, mask, x, z) pl_call3(c, PL_OP(where), mask, x, z, NULL)

/* Between these two, outside recordings, temporaries die; the result v is kept. */
bool pl_temporaries_begin(pl_context *c);
pl_value pl_temporaries_end(pl_context *c, bool began, pl_value v);

pl_value pl_plus(pl_context *c, pl_value x, pl_value y);             /* either may be PL_ZERO */
pl_value pl_minus(pl_context *c, pl_value x, pl_value y);            /* either may be PL_ZERO */
pl_value pl_negative(pl_context *c, pl_value x);                     /* PL_ZERO stays */
pl_value pl_times(pl_context *c, pl_value x, pl_value y);            /* PL_ZERO if one is */
pl_value pl_chain(pl_context *c, pl_value g, pl_value d);            /* g*d, 0 where g is 0; d may be PL_ONE ... */
pl_value pl_like(pl_context *c, pl_value x, double number);          /* constant of x's dtype */
pl_value pl_reshape_like(pl_context *c, pl_value x, pl_value model); /* PL_ZERO stays */
pl_value pl_reshape_to(pl_context *c, pl_value x, int rank, const int64_t *shape);
pl_value pl_broadcast_like(pl_context *c, pl_value x, pl_value model);
pl_value pl_sum_to(pl_context *c, pl_value g, pl_value model); /* adjoint of broadcasting model's shape to g's */
pl_value pl_zeros_like(pl_context *c, pl_value x);
pl_value pl_cast(pl_context *c, pl_value x, pl_dtype dtype);
pl_value pl_floats(pl_context *c, pl_value x);         /* as it is, or f64 where it is not of floats */
pl_value pl_transpose_last(pl_context *c, pl_value x); /* swaps the last two axes */
pl_value pl_symmetric(pl_context *c, pl_value x);      /* (x + x')/2, of the last two axes */
pl_value pl_product(pl_context *c, pl_value a, pl_value b, bool ta, bool tb); /* gemm; PL_ZERO if one is */
/* x[start + step k], k < count, along an axis. */
pl_value pl_part(pl_context *c, pl_value x, int axis, int64_t start, int64_t step, int64_t count);

void pl_no_derivative(pl_context *c, const pl_op *op); /* sets the error */

/* Adds a contribution to the adjoint of input k. */
void pl_vjp_give(pl_vjp *v, int k, pl_value g);
/* The same through op(adjoint of input k, more...), which must add to its first input (add_at, slice_add): in place
 * when nobody else sees the adjoint. */
void pl_vjp_give_into(pl_vjp *v, int k, const pl_op *op, int n_more, const pl_value *more, const pl_attr *attrs);

/* ---- shape helpers ---- */

/* The axis from an attribute (negative from the end); -1, and the error set, when out of range. */
int pl_axis(const pl_call *call, int64_t axis, int rank);
/* A shape as {outer, r, inner} around an axis. */
void pl_split_axis(const pl_slot *x, int axis, int64_t *outer, int64_t *r, int64_t *inner);
/* Bit set of reduced axes from a list attribute (n = -1: all); false on an error. */
bool pl_axes(const pl_call *call, const pl_attr *list, int rank, uint32_t *set);
/* One message for two shapes that do not fit. */
void pl_shape_error(const pl_call *call, const char *what);
bool pl_broadcast_shapes(const pl_call *call, int n, pl_slot *const *in, pl_spec *out);

#define PL_EXPAND(name)                                                                                      \
  static bool name##_expand(pl_context *c, const pl_op *op, int n, const pl_value *in, const pl_attr *attrs, \
                            pl_value *out)

/* What rows of reductions say of shapes. */
#define PL_REDUCED "{...} -> the axes that stay; {} of all; with keep 1 for each reduced"

/* ---- samples ---- */

#define PL_SAMPLE(name) static bool name##_sample(pl_context *c, pl_sampler_random *r, int k, pl_sample *s)
/* Attribute `slot` of s is the list of these numbers. */
#define PL_SAMPLE_LIST(slot, ...)                                                      \
  (memcpy(s->lists[slot], (int64_t[]){__VA_ARGS__}, sizeof((int64_t[]){__VA_ARGS__})), \
   s->attrs[slot] = PL_INTS(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), s->lists[slot]))

double pl_sample_uniform(pl_sampler_random *r, double lo, double hi);
/* A tensor of the shape with entries in [lo, hi); rank 0 where rank is 0. */
pl_value pl_sample_tensor(pl_context *c, pl_sampler_random *r, double lo, double hi, int rank, ...);

/* ---- execution (runner.c) ---- */

/* As pl_apply; `donate` lets an in_place op write into input 0's buffer when that is unique. */
bool pl_execute(pl_context *c, const pl_op *op, int n, const pl_value *inputs, const pl_attr *attrs, pl_value *outputs,
                bool donate);

#endif
