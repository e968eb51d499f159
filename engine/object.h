/* object.h: static objects that attributes refer to (sparse patterns, plans, later sub-programs): immutable, reference-
 * counted, interned by content, so that equal content is one address and whatever was derived from it is found again.
 */
#ifndef PL_OBJECT_H
#define PL_OBJECT_H

#include "context.h"

typedef struct {
  const char *name;
  bool (*equal)(const pl_object *a, const pl_object *b);
  void (*destroy)(pl_context *c, pl_object *o); /* frees what it holds and itself */
  void (*clear)(pl_context *c, pl_object *o);   /* may be NULL: lets go of other objects; destroy follows */
} pl_object_type;

/* The first member of every object. */
struct pl_object {
  const pl_object_type *type;
  pl_context *context;
  uint64_t hash;
  int32_t refs;
  bool interned;
};

/* Takes over the caller's reference to o (hash set) and returns a reference to the one object with its content: o
 * itself, or an older equal one, o being destroyed. NULL, and o destroyed, on an error. */
pl_object *pl_object_intern(pl_context *c, pl_object *o);
void pl_object_retain(pl_object *o);
void pl_object_release(pl_object *o); /* NULL is fine */
void pl_objects_free(pl_context *c);  /* all that are left, at the context's end */
uint64_t pl_hash(uint64_t seed, const void *data, size_t bytes);

#endif
