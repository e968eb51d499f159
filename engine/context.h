/* context.h: the state that everything else hangs on. A pl_context owns slots, buffers, interned objects, the open
 * recording and the last error; there are no globals but the counter that numbers contexts. */
#ifndef PL_CONTEXT_H
#define PL_CONTEXT_H

#include <stdatomic.h>

#include "perilune.h"

/* Memory with a header of its size, 64-byte aligned and counted against the budget. Blocks come from free lists by size
 * class (fresh pages cost more than the arithmetic done on them). NULL, and the error set, when there is no room. The
 * contents are not initialized. */
void *pl_memory_new(pl_context *c, size_t bytes);
void *pl_memory_grow(pl_context *c, void *p, size_t bytes); /* keeps the contents; p may be NULL */
void pl_memory_free(pl_context *c, void *p);                /* p may be NULL */
/* Counts bytes that a library allocated on our behalf; false, and the error set, when they pass the budget. */
bool pl_memory_count(pl_context *c, int64_t bytes);

enum { PL_CLASSES = 192, PL_CONSTANTS = 256, PL_MAX_SCOPES = 64 };

/* The slots of new values, in order of birth; 0 where one was freed early. */
typedef struct {
  uint32_t *slots;
  int64_t n, capacity;
} pl_scope;

typedef struct {
  uint64_t bits;
  pl_value value;
  int dtype;
} pl_constant_entry;

struct pl_context {
  /* hot */
  pl_status status;
  _Atomic int interrupted;   /* 1: the user asked to stop; faults: -n: the n-th question from now finds that */
  struct pl_tape *recording; /* the open one, or NULL */
  int paused;                /* depth of pl_pause */
  pl_scope *scope;           /* who owns new values; NULL: the caller */
  struct pl_slot **chunks;   /* slots in chunks, so that their addresses stay */
  uint32_t free_slot;        /* head of the free list, 0: none */
  uint32_t n_slots, n_chunks;
  uint64_t tag;        /* the context's 8 bits of a handle, shifted */
  uint32_t recordings; /* serial of the last recording */
  uint32_t line;       /* source << 20 | line of the ops recorded next */
  uint32_t stamp;      /* serial of the last derivative sweep */
  int threads;
  struct pl_user_op *user_ops; /* defined and loaded here, the latest first (ops/host.c) */
  struct {
    uint32_t serial; /* a user's op runs while this recording is open, whose values must not be read; 0: none is */
    int paused, depth;
  } host;
  bool read_unknown;        /* somebody asked for the data of a value that is being traced */
  int applying;             /* depth of ops in ops */
  int running;              /* depth of programs that run: a user's op may start another */
  struct pl_run *suspended; /* the last interrupted program */
  int64_t stops;            /* how many were */
  bool plain;               /* programs run instruction by instruction */
  bool check_finite;        /* and the first NaN or infinity is an error */
  bool located;             /* the error's message says where */
  bool freeing;             /* the context ends: nothing is kept for later */
  struct {                  /* given back where that cannot be: see pl_doomed_free */
    struct pl_region *regions;
    struct pl_tape *traces;
  } doomed;

  /* memory */
  void *free_blocks[PL_CLASSES];
  size_t used, cached, peak, budget;
  int64_t live;
  int fail_after; /* faults: the n-th allocation from now fails; -1 never */

  pl_constant_entry constants[PL_CONSTANTS];
  pl_value retired[16]; /* constants pushed out of the table, kept a little longer */
  uint32_t n_retired;
  struct pl_object **objects; /* interned, open addressing */
  int64_t n_objects, objects_capacity;
  struct pl_memo *memo; /* plans of patterns (plan.c) */
  int64_t memo_hits, memo_misses;
  int64_t analyses;                 /* symbolic ones of direct solvers */
  int64_t preconditioners;          /* how many were made */
  struct pl_fft_plan *transforms;   /* the latest first (fft.c) */
  const struct pl_fft_library *fft; /* whose transforms are taken; NULL: ours */
  char **sources;
  int n_sources;

  struct {
    pl_scope *scope;
    struct pl_tape *recording;
  } saved[PL_MAX_SCOPES]; /* by pl_scope_begin and pl_pause */
  int n_saved;
  pl_scope scopes[PL_MAX_SCOPES];

  char message[1024];
};

/* Has the user asked to stop? For pieces of work, on any thread: who waits for them calls pl_interrupted. */
static inline bool pl_to_stop(pl_context *c) {
  int asked = atomic_load_explicit(&c->interrupted, memory_order_relaxed);
  if (!asked) return false;
  if (asked < 0 && atomic_fetch_add(&c->interrupted, 1) == -1) atomic_store(&c->interrupted, asked = 1);
  return asked > 0;
}

/* True, with the error set, when the user asked to stop. Called at every op and every block of a long one. */
static inline bool pl_interrupted(pl_context *c) {
  if (!pl_to_stop(c)) return false;
  if (c->status == PL_OK) {
    atomic_store(&c->interrupted, 0);
    pl_error(c, PL_ERROR_INTERRUPT, "interrupted!");
  }
  return true;
}

void pl_suspended_free(pl_context *c); /* execute.c */
void pl_user_ops_free(pl_context *c);  /* ops/host.c */
void pl_fft_plans_free(pl_context *c); /* fft.c */

bool pl_scope_push(pl_context *c, pl_scope *s, uint32_t slot);

/* ---- text for messages ---- */

enum { PL_TEXT = 160 };
/* "{3, 4}"; returns text, which has PL_TEXT bytes. */
const char *pl_shape_text(char *text, int rank, const int32_t *shape);

#endif
