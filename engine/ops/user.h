/* user.h: what ops made at run time have in common (host.c, load.c). */
#ifndef PL_OPS_USER_H
#define PL_OPS_USER_H

#include "../op.h"
#include "../user_op.h"

/* The list of a context's user ops. */
typedef struct pl_user_op {
  struct pl_user_op *next;
  const pl_op *op; /* the first of its rows: the op itself, then its derivatives */
  int n_rows;
  const char *identity;
  void (*free)(pl_context *c, struct pl_user_op *u);
} pl_user_op;

/* False, with the error set, when an op may not be called that. */
bool pl_user_op_name(pl_context *c, const char *name);
void pl_user_op_add(pl_context *c, pl_user_op *u);

#endif
