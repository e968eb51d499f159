#include "context.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "object.h"
#include "pattern.h"
#include "record.h"
#include "schedule.h"
#include "value.h"

/* ---- errors ---- */

void pl_error(pl_context *c, pl_status status, const char *format, ...) {
  if (!c || c->status) return; /* the first error is the cause */
  c->status = status;
  va_list args;
  va_start(args, format);
  vsnprintf(c->message, sizeof c->message, format, args);
  va_end(args);
}

pl_status pl_error_status(const pl_context *c) { return c->status; }
const char *pl_error_message(const pl_context *c) { return c->message; }
void pl_clear(pl_context *c) { c->status = PL_OK; }
void pl_interrupt(pl_context *c) { atomic_store(&c->interrupted, 1); }

void pl_clear_interrupt(pl_context *c) { atomic_store(&c->interrupted, 0); }
bool pl_interrupt_pending(const pl_context *c) { return atomic_load(&c->interrupted) > 0; }
bool pl_running(const pl_context *c) { return c->running > 0; }

const char *pl_shape_text(char *text, int rank, const int32_t *shape) {
  int n = snprintf(text, PL_TEXT, "{");
  for (int i = 0; i < rank && n < PL_TEXT; i++)
    n += snprintf(text + n, (size_t)(PL_TEXT - n), i ? ", %d" : "%d", shape[i]);
  if (n < PL_TEXT) snprintf(text + n, (size_t)(PL_TEXT - n), "}");
  return text;
}

/* ---- memory ---- */

/* A block's header; the caller's bytes start 64 bytes after it. */
typedef struct {
  size_t size;   /* header included */
  int32_t class; /* -1: not kept */
  void *next;
} block;

enum { HEADER = 64, SMALL = 4096, SMALL_CLASSES = SMALL / 64 };

/* Under AddressSanitizer what is cached, and the room behind what was asked for, must not be touched. */
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
static void guard(void *p, size_t bytes, size_t room) {
  ASAN_UNPOISON_MEMORY_REGION(p, bytes);
  ASAN_POISON_MEMORY_REGION((char *)p + bytes, room - bytes);
}
#else
static inline void guard(void *p, size_t bytes, size_t room) { (void)p, (void)bytes, (void)room; }
#endif

/* Classes: multiples of 64 up to 4096, then four a doubling, so that at most a quarter is wasted. */
static int size_class(size_t size, size_t *rounded) {
  if (size <= SMALL) {
    *rounded = (size + 63) & ~(size_t)63;
    return (int)(*rounded / 64) - 1;
  }
  int log = 63 - __builtin_clzll(size - 1); /* 2^log < size <= 2^(log+1) */
  size_t step = (size_t)1 << (log - 2);
  size_t k = (size - ((size_t)1 << log) + step - 1) / step; /* 1 .. 4 */
  *rounded = ((size_t)1 << log) + k * step;
  int class = SMALL_CLASSES + (log - 12) * 4 + (int)k - 1;
  return class < PL_CLASSES ? class : -1;
}

static void release_cache(pl_context *c) {
  for (int i = 0; i < PL_CLASSES; i++) {
    for (block *b = c->free_blocks[i], *next; b; b = next) {
      next = b->next;
      free(b);
    }
    c->free_blocks[i] = NULL;
  }
  c->cached = 0;
}

static void *no_room(pl_context *c, size_t bytes) {
  pl_error(
      c, PL_ERROR_MEMORY,
      "out of memory: %.1f MB more are needed, %.1f MB of the budget of %.1f MB are in use; make the problem smaller, "
      "keep fewer values alive, or raise the budget",
      (double)bytes / 1e6, (double)c->used / 1e6, (double)c->budget / 1e6);
  return NULL;
}

void *pl_memory_new(pl_context *c, size_t bytes) {
  size_t size;
  if (bytes > (size_t)1 << 46) return no_room(c, bytes);
  int class = size_class(bytes + HEADER, &size);
  if (c->fail_after >= 0 && c->fail_after-- == 0) return no_room(c, bytes);
  block *b = class >= 0 ? c->free_blocks[class] : NULL;
  if (b) {
    c->free_blocks[class] = b->next;
    c->cached -= size;
  } else {
    if (c->used + size > c->budget) return no_room(c, bytes);
    if (c->used + c->cached + size > c->budget) release_cache(c);
    /* Huge pages for what is huge: a page fault for each 4 KB would cost more than filling them. */
    size_t alignment = size >= (size_t)4 << 20 ? (size_t)2 << 20 : 64;
    b = aligned_alloc(alignment, (size + alignment - 1) & ~(alignment - 1));
    if (!b) {
      release_cache(c);
      b = aligned_alloc(64, size);
      if (!b) return no_room(c, bytes);
    } else if (alignment > 64) {
      madvise(b, size, MADV_HUGEPAGE);
    }
    b->size = size;
    b->class = class;
  }
  c->used += size;
  if (c->used > c->peak) c->peak = c->used;
  guard((char *)b + HEADER, bytes, size - HEADER);
  return (char *)b + HEADER;
}

void pl_memory_free(pl_context *c, void *p) {
  if (!p) return;
  block *b = (block *)((char *)p - HEADER);
  c->used -= b->size;
  /* Keep what was used lately, but not more than is in use plus a quarter of the budget. */
  if (b->class >= 0 && c->cached + b->size <= c->budget / 4) {
    b->next = c->free_blocks[b->class];
    c->free_blocks[b->class] = b;
    c->cached += b->size;
    guard(p, 0, b->size - HEADER);
  } else {
    free(b);
  }
}

void *pl_memory_grow(pl_context *c, void *p, size_t bytes) {
  if (!p) return pl_memory_new(c, bytes);
  size_t old = ((block *)((char *)p - HEADER))->size - HEADER;
  if (bytes <= old) {
    guard(p, bytes, old);
    return p;
  }
  void *q = pl_memory_new(c, bytes);
  if (!q) return NULL;
  guard(p, old, old);
  memcpy(q, p, old);
  pl_memory_free(c, p);
  return q;
}

bool pl_memory_count(pl_context *c, int64_t bytes) {
  if (bytes > 0 && c->used + (size_t)bytes > c->budget) {
    no_room(c, (size_t)bytes);
    return false;
  }
  c->used = (size_t)((int64_t)c->used + bytes);
  if (c->used > c->peak) c->peak = c->used;
  return true;
}

static size_t read_limit(const char *path) {
  size_t limit = 0;
  FILE *f = fopen(path, "r");
  if (f) {
    if (fscanf(f, "%zu", &limit) != 1) limit = 0; /* "max" */
    fclose(f);
  }
  return limit;
}

static size_t default_budget(void) {
  size_t ram = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
  size_t v2 = read_limit("/sys/fs/cgroup/memory.max"), v1 = read_limit("/sys/fs/cgroup/memory/memory.limit_in_bytes");
  if (v2 && v2 < ram) ram = v2;
  if (v1 && v1 < ram) ram = v1;
  return ram / 5 * 4;
}

void pl_set_budget(pl_context *c, size_t bytes) {
  c->budget = bytes ? bytes : default_budget();
  if (c->used + c->cached > c->budget) release_cache(c);
}

size_t pl_budget(const pl_context *c) { return c->budget; }
size_t pl_bytes_used(const pl_context *c) { return c->used; }
size_t pl_bytes_peak(const pl_context *c) { return c->peak; }
int64_t pl_live_values(const pl_context *c) { return c->live; }

/* ---- scopes ---- */

bool pl_scope_push(pl_context *c, pl_scope *s, uint32_t slot) {
  if (s->n == s->capacity) {
    int64_t capacity = s->capacity ? 2 * s->capacity : 64;
    uint32_t *grown = pl_memory_grow(c, s->slots, (size_t)capacity * sizeof *grown);
    if (!grown) return false;
    s->slots = grown;
    s->capacity = capacity;
  }
  s->slots[s->n++] = slot;
  return true;
}

static bool save(pl_context *c) {
  if (c->n_saved == PL_MAX_SCOPES) {
    pl_error(c, PL_ERROR_STATE, "more than %d nested scopes", PL_MAX_SCOPES);
    return false;
  }
  c->saved[c->n_saved].scope = c->scope;
  c->saved[c->n_saved++].recording = c->recording;
  return true;
}

void pl_scope_begin(pl_context *c) {
  if (save(c)) c->scope = &c->scopes[c->n_saved - 1];
}

void pl_scope_end(pl_context *c) {
  if (c->n_saved == 0) return;
  pl_scope *s = &c->scopes[--c->n_saved]; /* which need not be the open one: a region may have been left open */
  c->scope = c->saved[c->n_saved].scope;
  for (int64_t i = s->n; i-- > 0;)
    if (s->slots[i]) pl_release(c, pl_slot_at(c, s->slots[i])->handle);
  s->n = 0;
  pl_doomed_free(c);
}

void pl_pause(pl_context *c) {
  if (!save(c)) return;
  c->scope = NULL;
  c->recording = NULL;
  c->paused++;
}

void pl_resume(pl_context *c) {
  if (c->n_saved == 0 || c->paused == 0) return;
  c->paused--;
  c->n_saved--;
  c->scope = c->saved[c->n_saved].scope;
  c->recording = c->saved[c->n_saved].recording;
  pl_doomed_free(c);
}

bool pl_recording(const pl_context *c) { return c->recording != NULL; }
bool pl_owns(const pl_context *c) { return c->scope == NULL; }

/* ---- life ---- */

pl_context *pl_context_new(void) {
  static _Atomic unsigned contexts; /* numbers contexts, so that handles of two are told apart */
  pl_context *c = calloc(1, sizeof *c);
  if (!c) return NULL;
  c->tag = (uint64_t)(atomic_fetch_add(&contexts, 1) % 255 + 1) << 56;
  c->fail_after = -1;
  c->budget = default_budget();
  pl_set_threads(c, 0);
  pl_ops_start();
  return c;
}

void pl_context_free(pl_context *c) {
  if (!c) return;
  c->freeing = true;
  c->status = PL_OK;
  pl_doomed_free(c);
  pl_memo_free(c);
  pl_suspended_free(c);
  pl_values_free(c);
  for (int i = 0; i < PL_MAX_SCOPES; i++) pl_memory_free(c, c->scopes[i].slots);
  pl_objects_free(c);
  pl_user_ops_free(c);
  pl_fft_plans_free(c);
  for (int i = 0; i < c->n_sources; i++) free(c->sources[i]);
  free(c->sources);
  release_cache(c);
  free(c);
}

int pl_source(pl_context *c, const char *name) {
  for (int i = 0; i < c->n_sources; i++)
    if (!strcmp(c->sources[i], name)) return i + 1;
  if (c->n_sources >= 4000) return 0;
  char **grown = realloc(c->sources, (size_t)(c->n_sources + 1) * sizeof *grown);
  if (!grown) return 0;
  c->sources = grown;
  if (!(grown[c->n_sources] = strdup(name))) return 0;
  return ++c->n_sources;
}

void pl_set_line(pl_context *c, int source, int line) { c->line = (uint32_t)source << 20 | ((uint32_t)line & 0xfffff); }
