/* disk.h: a file for what does not fit in memory, as a resource. It has no name: nothing is left behind, even by a
 * crash. */
#ifndef PL_DISK_H
#define PL_DISK_H

#include "value.h"

/* In the folder, or with what the path ends in as the beginning of its name. The path is n bytes, none of them 0. NULL,
 * and the error set, when it cannot be made. */
pl_resource *pl_disk_new(pl_context *c, int n, const int64_t *path);
/* The file in a slot; NULL, and the error set, for anything else. */
pl_resource *pl_disk_of(pl_context *c, const pl_slot *s);
/* False, and the error set, when not all of it can be written, or read. */
bool pl_disk_write(pl_context *c, pl_resource *r, int64_t at, const void *data, size_t bytes);
bool pl_disk_read(pl_context *c, pl_resource *r, int64_t at, void *data, size_t bytes);

#endif
