/* execute.h: bodies made ready to run, and the runner. An executable is a list of units: fused groups of elementwise
 * ops, single ops, ops that make resources, and ops with sub-programs; and the plan of where each value lies. A frame
 * is one run of it: stand-in slots, whose data point into the frame's own memory, into the inputs, or where the caller
 * wants the outputs. The runner is not recursive: frames and activations of ops form a stack in the heap, which an
 * interrupt leaves as it is, to be continued. */
#ifndef PL_EXECUTE_H
#define PL_EXECUTE_H

#include "body.h"

enum { PL_PLAIN, PL_OPTIMIZED };

typedef enum {
  PL_UNIT_RUN,   /* op->run */
  PL_UNIT_MAKE,  /* op->make */
  PL_UNIT_STEP,  /* op->step */
  PL_UNIT_GROUP, /* fused elementwise ops */
} pl_unit_kind;

typedef struct {
  pl_unit_kind kind;
  const pl_op *op;
  const pl_attr *attrs;
  uint32_t line, operands; /* operands: where its inputs, then outputs, start in executable->operands */
  int n_in, n_out;
  struct pl_group *group;
} pl_unit;

typedef enum {
  PL_AT_INPUT,    /* number `index` */
  PL_AT_CONSTANT, /* number `index` */
  PL_AT_ARENA,    /* offset */
  PL_AT_OUTPUT,   /* where the caller wants output `index` */
  PL_AT_ALIAS,    /* offset bytes behind value `index` */
  PL_AT_RESOURCE, /* made by a unit, held by the frame */
  PL_AT_NOWHERE,  /* in registers of a group, or read through a view */
} pl_place_kind;

typedef struct {
  pl_place_kind kind;
  int32_t index;
  int64_t offset;
} pl_place;

typedef struct pl_executable {
  pl_body *body; /* its owner */
  pl_spec *specs;
  pl_place *places;
  uint32_t *operands;
  pl_unit *units;
  int32_t *late;       /* what moves with the caller: values at outputs, then aliases of inputs and outputs */
  int32_t *made;       /* resources that units make */
  int32_t *copies;     /* outputs that lie elsewhere: k, value; copied when a run ends */
  pl_value *constants; /* the body's, and those made here */
  int n_values, n_units, n_late, n_copies, n_operands, n_constants, n_made;
  bool simple;           /* short, and without sub-programs */
  int64_t arena;         /* bytes of a frame's memory */
  struct pl_frame *idle; /* a frame to use again */
} pl_executable;

typedef struct pl_frame {
  const pl_executable *exe;
  pl_slot *slots;     /* one a value */
  pl_slot **operands; /* parallel to exe->operands */
  char *arena;
  void **outputs; /* where they go; NULL: a resource */
  int64_t pc;
  bool started;
} pl_frame;

/* The body's executable, made when first asked for. */
pl_executable *pl_body_executable(pl_context *c, pl_body *b, int how);
pl_executable *pl_executable_build(pl_context *c, pl_body *b, int how); /* transform/optimize.c */

pl_frame *pl_frame_new(pl_context *c, pl_body *b);
void pl_executable_free(pl_context *c, pl_executable *e);
void pl_frame_free(pl_context *c, pl_frame *f);
void pl_frame_input(pl_frame *f, int k, const pl_slot *from); /* shares its data; from may be another stand-in */
void pl_frame_input_at(pl_frame *f, int k, void *data);
void pl_frame_output(pl_frame *f, int k, void *data);
const pl_slot *pl_frame_result(const pl_frame *f, int k); /* a resource, after the run */
void pl_frame_start(pl_frame *f); /* inputs and outputs are bound: the next CALL runs from the beginning */

/* Runs an op with sub-programs at top level. */
bool pl_run_op(pl_context *c, const pl_call *call, int n_out, const pl_value *outputs, pl_slot **out);

/* ---- fused groups (fuse.c) ---- */

/* Registers for results, views and numbers read through registers, and one more (run_rows) must fit the scratch memory
 * in blocks of 64 elements. */
enum {
  PL_GROUP_IN = 3,
  PL_GROUP_REGISTERS = 48,
  PL_GROUP_VIEWS = 47,
  PL_GROUP_SCRATCH = 48 << 10,
  PL_GROUP_MICRO = 512
};

typedef enum { PL_READ_WHOLE, PL_READ_NUMBER, PL_READ_VIEW, PL_READ_PERIODIC, PL_READ_REGION } pl_reading;

/* A value outside the group: read, or written (always whole). Periodic: repeated along the leading axes; laid out once,
 * longer than a block by its period (limit), in two registers. A region is what is put into a slice. */
typedef struct {
  pl_reading how;
  uint8_t size;    /* of an element */
  int32_t value;   /* whose memory */
  int32_t scratch; /* register that a number or a view is brought into */
  int64_t offset;  /* elements */
  int64_t stride[PL_MAX_RANK];
  int64_t limit;    /* elements of the value that is viewed, behind the offset */
  pl_kernel gather; /* of a view */
} pl_external;

typedef struct {
  pl_kernel fn;
  pl_kernel_one one;             /* in a group of one element, where there is one */
  uint16_t in[PL_GROUP_IN], out; /* registers, then externals */
  uint8_t n_in, n_reals_bytes;
  double reals[2];
  const char *name; /* of the kernel */
  uint8_t ops;      /* that it does: two where a pair is joined */
  const pl_op *op;
  const pl_attr *slice; /* of slice_set and slice_add: fn is slice_block then, its second operand a region */
  uint32_t line;
} pl_micro;

typedef struct pl_group {
  int rank;
  int32_t shape[PL_MAX_RANK];
  int64_t count, block;
  bool sliced; /* has slice_set or slice_add */
  bool rows;   /* row by row: views whose rows are long are then read where they lie */
  int n_micro, n_registers, n_external;
  pl_micro *micro;
  pl_external *external;
  double work;
} pl_group;

/* False, with the error set, when a result is not finite: "log at script.lua:3 first gave a NaN or infinity: argument 1
 * {3} from -1 to 2". */
bool pl_check_finite(pl_context *c, const pl_op *op, uint32_t line, int n_in, pl_slot *const *in, int n_out,
                     pl_slot *const *out);

bool pl_group_run(pl_context *c, const pl_group *g, const pl_slot *slots);

#endif
