/* value.h: slots and buffers behind the handles. */
#ifndef PL_VALUE_H
#define PL_VALUE_H

#include "context.h"

enum { PL_SLOT_BITS = 24, PL_CHUNK_BITS = 12, PL_CHUNK = 1 << PL_CHUNK_BITS };

/* Data shared by the tensors that are views of the whole of it (reshape, detach). It precedes the data by 64 bytes. */
typedef struct {
  int32_t refs;
  const uint64_t *version; /* a borrowed array's counter of writes, or NULL */
  uint64_t seen;           /* its count when the tensor was made */
  void (*release)(void *owner);
  void *owner;
} pl_buffer;

/* Base of a resource: a value that is not a tensor. */
typedef struct pl_resource {
  void (*destroy)(pl_context *c, struct pl_resource *r);
  const char *name;
  int64_t bytes; /* counted by whoever makes it */
  int32_t refs;  /* holders beside the first */
} pl_resource;

enum {
  PL_FLAG_RESOURCE = 1,
  PL_FLAG_PARAMETER = 2, /* active under another handle in an open region: must not be read directly */
  PL_FLAG_BORROWED = 4,  /* its buffer has a version to check */
  PL_FLAG_TRACED = 8,    /* stands for a value of a program being traced: it has a shape and no data */
  PL_FLAG_ACTIVE = 16,   /* depends on the inputs of an open region */
  PL_FLAG_CONSTANT = 32, /* a number of a rule, or of a body: not captured but copied into the body */
  PL_FLAG_NUMBER = 64,   /* a number that a traced function met: a cell of its numbers when it is recorded */
  PL_FLAG_LENT = 128,    /* its memory is another's, for a while: what would share it copies it */
  PL_FLAG_CHECK = PL_FLAG_PARAMETER | PL_FLAG_BORROWED,
};

typedef struct pl_slot {
  pl_value handle; /* whose slot this is; 0 when free */
  void *data;      /* 64-byte aligned unless borrowed; padded to whole 64-byte vectors, and one more */
  pl_buffer *buffer;
  int64_t count;
  int32_t refs;
  uint8_t dtype, rank, flags, parameters; /* parameters: how many open regions made it one */
  uint32_t recording;                     /* serial of the recording it was born in, 0: none */
  uint32_t instruction;                   /* length of the program at its birth: its own instruction, for a result */
  uint32_t captured;                      /* serial of the last recording that captured it */
  uint32_t stamp; /* serial of the last sweep for which it is active, and its adjoint or tangent there */
  pl_value adjoint;
  int32_t shape[PL_MAX_RANK];
  uint32_t generation;
  uint32_t next_free;
  uint32_t local; /* its number in the body that is being closed */
} pl_slot;

static inline uint32_t pl_slot_index(pl_value v) { return (uint32_t)(v >> 32) & ((1u << PL_SLOT_BITS) - 1); }

static inline pl_slot *pl_slot_at(const pl_context *c, uint32_t i) {
  return &c->chunks[i >> PL_CHUNK_BITS][i & (PL_CHUNK - 1)];
}

/* The slot of a live handle, or NULL without an error. */
static inline pl_slot *pl_slot_find(const pl_context *c, pl_value v) {
  uint32_t i = pl_slot_index(v);
  if (i >= c->n_slots) return NULL;
  pl_slot *s = pl_slot_at(c, i);
  return s->handle == v && v > PL_ZERO ? s : NULL;
}

/* The slot of a live handle; NULL, with the error set, for any other. */
pl_slot *pl_slot_get(pl_context *c, pl_value v);

/* Shape of a tensor to be made; dtype PL_DTYPES: a resource. */
typedef struct {
  pl_dtype dtype;
  int rank;
  int32_t shape[PL_MAX_RANK];
} pl_spec;

int64_t pl_spec_count(const pl_spec *spec); /* -1 when it does not fit int32 indices */

/* A new value with one reference, owned by the scope, else by the caller. share: a slot whose buffer it views, or NULL
 * for a fresh, uninitialized one (its padding is zero). */
pl_value pl_value_new(pl_context *c, const pl_spec *spec, const pl_slot *share);
pl_value pl_value_resource(pl_context *c, pl_resource *r); /* takes r over; destroys it on an error; NULL: none yet */
pl_value pl_value_traced(pl_context *c, const pl_spec *spec); /* without data; belongs to the open trace */
void pl_spec_of(const pl_slot *s, pl_spec *spec);
bool pl_spec_equal(const pl_spec *a, const pl_spec *b);
/* A handle to a tensor's memory that is not ours and must stay until the handle is ended: then it is dead, or, where a
 * recording or somebody else holds it, has memory of its own. */
pl_value pl_value_over(pl_context *c, const pl_slot *s);
void pl_value_over_end(pl_context *c, pl_value v);
/* A copy of a slot's tensor. */
pl_value pl_value_copy(pl_context *c, const pl_spec *spec, const pl_slot *from);
/* The resource of this name in a slot; NULL, with the error set, for anything else. */
bool pl_slot_unknown(pl_context *c, const pl_slot *s); /* true, with the error set, for a traced value */
pl_resource *pl_slot_resource(pl_context *c, const pl_slot *s, const char *name);
pl_resource *pl_resource_get(pl_context *c, pl_value v, const char *name);
void pl_slot_free(pl_context *c, pl_slot *s);
/* Is the handle the only one to its buffer, so that it may be written in place? */
bool pl_value_unique(pl_context *c, pl_value v);
void pl_values_free(pl_context *c); /* all of them, at the context's end */
/* Fails when a flagged slot must not be read: see PL_FLAG_CHECK. */
bool pl_slot_check(pl_context *c, pl_slot *s);

#endif
