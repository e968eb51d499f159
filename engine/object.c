#include "object.h"

#include <string.h>

uint64_t pl_hash(uint64_t h, const void *data, size_t bytes) {
  /* FNV-1a over words with a final mix (splitmix64): content that differs is told apart by `equal`, so it need only
   * spread well. */
  const unsigned char *p = data;
  h ^= 0xcbf29ce484222325u;
  for (; bytes >= 8; bytes -= 8, p += 8) {
    uint64_t w;
    memcpy(&w, p, 8);
    h = (h ^ w) * 0x100000001b3u;
    h ^= h >> 29;
  }
  for (; bytes; bytes--, p++) h = (h ^ *p) * 0x100000001b3u;
  h ^= h >> 30;
  h *= 0xbf58476d1ce4e5b9u;
  h ^= h >> 27;
  h *= 0x94d049bb133111ebu;
  return h ^ (h >> 31);
}

static bool grow_table(pl_context *c) {
  int64_t capacity = c->objects_capacity ? 2 * c->objects_capacity : 64;
  pl_object **table = pl_memory_new(c, (size_t)capacity * sizeof *table);
  if (!table) return false;
  memset(table, 0, (size_t)capacity * sizeof *table);
  for (int64_t i = 0; i < c->objects_capacity; i++) {
    pl_object *o = c->objects[i];
    if (!o) continue;
    int64_t k = (int64_t)(o->hash & (uint64_t)(capacity - 1));
    while (table[k]) k = (k + 1) & (capacity - 1);
    table[k] = o;
  }
  pl_memory_free(c, c->objects);
  c->objects = table;
  c->objects_capacity = capacity;
  return true;
}

pl_object *pl_object_intern(pl_context *c, pl_object *o) {
  if (c->status || (2 * (c->n_objects + 1) > c->objects_capacity && !grow_table(c))) {
    o->type->destroy(c, o);
    return NULL;
  }
  int64_t mask = c->objects_capacity - 1, k = (int64_t)(o->hash & (uint64_t)mask);
  for (; c->objects[k]; k = (k + 1) & mask) {
    pl_object *old = c->objects[k];
    if (old->hash == o->hash && old->type == o->type && o->type->equal(old, o)) {
      o->type->destroy(c, o);
      old->refs++;
      return old;
    }
  }
  c->objects[k] = o;
  o->interned = true;
  c->n_objects++;
  return o;
}

void pl_object_retain(pl_object *o) { o->refs++; }

void pl_object_release(pl_object *o) {
  if (!o || --o->refs > 0) return;
  pl_context *c = o->context;
  if (o->interned) {
    int64_t mask = c->objects_capacity - 1, k = (int64_t)(o->hash & (uint64_t)mask);
    while (c->objects[k] != o) k = (k + 1) & mask;
    c->objects[k] = NULL;
    c->n_objects--;
    /* close the gap: later members of the probe sequence move up */
    for (int64_t j = (k + 1) & mask; c->objects[j]; j = (j + 1) & mask) {
      int64_t home = (int64_t)(c->objects[j]->hash & (uint64_t)mask);
      if (((j - home) & mask) >= ((j - k) & mask)) {
        c->objects[k] = c->objects[j];
        c->objects[j] = NULL;
        k = j;
      }
    }
  }
  o->type->destroy(c, o);
}

void pl_objects_free(pl_context *c) {
  /* Objects hold each other: all are pinned, then they let go of one another, then each goes. */
  int64_t n = 0;
  for (int64_t i = 0; i < c->objects_capacity; i++)
    if (c->objects[i]) {
      c->objects[n++] = c->objects[i];
      c->objects[n - 1]->refs++;
      c->objects[n - 1]->interned = false;
    }
  for (int64_t i = 0; i < n; i++)
    if (c->objects[i]->type->clear) c->objects[i]->type->clear(c, c->objects[i]);
  for (int64_t i = 0; i < n; i++) c->objects[i]->type->destroy(c, c->objects[i]);
  c->n_objects = c->objects_capacity = 0;
  pl_memory_free(c, c->objects);
  c->objects = NULL;
}
