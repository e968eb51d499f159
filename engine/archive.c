/* archive.c: programs on disk. A file is
 *
 *   "PERILUNE", byte-order mark, format version            (8, 4 and 4 bytes)
 *   ops: name; name and type of each attribute             their numbers are the file's own
 *   sources: names of scripts, for the lines of errors
 *   objects: patterns, plans and bodies, each behind those that it refers to, the program itself last
 *   captured: the values of the program's last inputs; text: whatever the host keeps beside it
 *   checksum                                               (8 bytes)
 *
 * in the machine's byte order, without padding. A body holds its inputs' dtypes and shapes, constants, instructions
 * (op, source, line, numbers of values read, attributes) and outputs; results are numbered in order, and their shapes
 * are not stored: loading a body traces it again, instruction by instruction, so that every shape rule judges what the
 * file says. What shape rules take for granted (kinds of objects, ranges of attributes) is checked here first. Nothing
 * is allocated that is out of proportion to what is left of the file. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "body.h"
#include "ops/user.h"
#include "pattern.h"

static const char magic[8] = "PERILUNE";
enum {
  VERSION = 1,
  MARK = 0x01020304,
  DEEPEST = 100,   /* programs within programs: what frees them is recursive */
  BLOCK = 1 << 20, /* bytes of a file that are hashed at once */
  LONGEST_NAME = 4096,
  HEADER = 16,
  LINES = 0xfffff
};
typedef enum { KIND_PATTERN, KIND_PLAN, KIND_BODY } object_kind;

/* ---- what an op's row says of its attributes, for both ways ---- */

static pl_attr_type type_of(const pl_attr_spec *spec) {
  switch (spec->kind) {
    case PL_AS_REAL: return PL_ATTR_REAL;
    case PL_AS_AXES:
    case PL_AS_INTS:
    case PL_AS_SHAPE: return PL_ATTR_INTS;
    case PL_AS_OBJECT: return PL_ATTR_OBJECT;
    default: return PL_ATTR_INT;
  }
}

static object_kind kind_of(const pl_attr_spec *spec) {
  return !strcmp(spec->name, "pattern") ? KIND_PATTERN : !strcmp(spec->name, "plan") ? KIND_PLAN : KIND_BODY;
}

static const pl_object_type *const types[] = {&pl_pattern_type, &pl_plan_type, &pl_body_type};

/* An op's name in a file; rows of ops defined at run time (user.h) are the identity and a number. */
static const char *name_of(const pl_op *op, char *name) {
  if (!op->user) return op->name;
  snprintf(name, LONGEST_NAME, "%s:%d", op->user->identity, (int)(op - op->user->op));
  return name;
}

/* Which op is meant by the name in a file. */
static const pl_op *find_op(pl_context *c, char *name) {
  char *at = strrchr(name, ':');
  if (!at) return pl_op_find(name);
  *at = 0;
  const pl_op *op = pl_op_find_in(c, name);
  int row = atoi(at + 1);
  if (!op || row < 0 || row >= op->user->n_rows) return NULL;
  return op + row;
}

/* ---- saving ---- */

typedef struct {
  char *data;
  size_t n, capacity;
} buffer;

typedef struct {
  const void **items;
  int n, capacity;
} list;

typedef struct {
  pl_context *c;
  buffer out; /* the objects */
  list ops, sources, objects;
} saver;

static void put(saver *s, const void *p, size_t n) {
  if (s->c->status || !n) return;
  buffer *b = &s->out;
  if (b->n + n > b->capacity) {
    size_t capacity = 2 * b->capacity + n + 1024;
    char *grown = pl_memory_grow(s->c, b->data, capacity);
    if (!grown) return;
    b->data = grown;
    b->capacity = capacity;
  }
  memcpy(b->data + b->n, p, n);
  b->n += n;
}
static void put_byte(saver *s, int x) { put(s, &(uint8_t){(uint8_t)x}, 1); }
static void put_short(saver *s, int x) { put(s, &(uint16_t){(uint16_t)x}, 2); }
static void put_int(saver *s, int64_t x) { put(s, &(uint32_t){(uint32_t)x}, 4); }
static void put_long(saver *s, int64_t x) { put(s, &x, 8); }
static void put_name(saver *s, const char *name) {
  size_t n = strnlen(name, LONGEST_NAME);
  put_short(s, (int)n);
  put(s, name, n);
}

static int find(const list *t, const void *p) {
  for (int i = 0; i < t->n; i++)
    if (t->items[i] == p) return i;
  return -1;
}

/* The number of p in the list, where it is added when it is new. */
static int number_of(pl_context *c, list *t, const void *p) {
  int i = find(t, p);
  if (i >= 0) return i;
  if (t->n == t->capacity) {
    int capacity = 2 * t->capacity + 32;
    const void **grown = pl_memory_grow(c, t->items, (size_t)capacity * sizeof *grown);
    if (!grown) return 0;
    t->items = grown;
    t->capacity = capacity;
  }
  t->items[t->n] = p;
  return t->n++;
}

static void put_spec(saver *s, const pl_spec *spec) {
  put_byte(s, spec->dtype);
  put_byte(s, spec->rank);
  put(s, spec->shape, (size_t)spec->rank * sizeof *spec->shape);
}

/* The slot of a tensor whose numbers can be read. */
static const pl_slot *known_tensor(pl_context *c, pl_value v, const char *what) {
  pl_slot *s = pl_slot_get(c, v);
  if (!s) return NULL;
  if (s->flags & PL_FLAG_RESOURCE) {
    pl_error(c, PL_ERROR_TYPE,
             "%s of the program is a %s, which cannot be saved: make it inside the function that is compiled, from "
             "tensors",
             what, s->data ? ((pl_resource *)s->data)->name : "resource");
    return NULL;
  }
  return pl_data(c, v) ? s : NULL;
}

static void put_tensor(saver *s, pl_value v, const char *what) {
  const pl_slot *t = known_tensor(s->c, v, what);
  pl_spec spec;
  if (!t) return;
  pl_spec_of(t, &spec);
  put_spec(s, &spec);
  put(s, t->data, (size_t)t->count * pl_dtype_size(spec.dtype));
}

static void put_pattern(saver *s, const pl_pattern *p) {
  put_int(s, p->rows);
  put_int(s, p->cols);
  put_int(s, p->nnz);
  put(s, p->row_ptr, ((size_t)p->rows + 1) * sizeof *p->row_ptr);
  put(s, p->col, (size_t)p->nnz * sizeof *p->col);
}

static bool no_resources(pl_context *c, const pl_body *b, int n_in) {
  for (int i = 0; i < n_in; i++)
    if (b->specs[i].dtype == PL_DTYPES) {
      pl_error(c, PL_ERROR_TYPE,
               "input %d of the program is a resource (a matrix factor), which cannot be saved: make it inside the "
               "function that is compiled, from tensors",
               i + 1);
      return false;
    }
  for (int i = 0; i < b->n_out; i++)
    if (b->specs[b->outputs[i]].dtype == PL_DTYPES) {
      pl_error(c, PL_ERROR_TYPE, "result %d of a program is a resource (a matrix factor), which cannot be saved",
               i + 1);
      return false;
    }
  return true;
}

static int put_object(saver *s, const pl_object *o, int depth);

static void put_plan(saver *s, const pl_plan *p, int depth) {
  int out = put_object(s, &p->out->base, depth), via = p->via ? put_object(s, &p->via->base, depth) : -1;
  put_byte(s, KIND_PLAN);
  put_byte(s, p->kind);
  put_int(s, out);
  put_int(s, via + 1);
  put(s, p->sizes, sizeof p->sizes);
  put_int(s, p->n);
  for (int r = 0; r < 3; r++) put(s, p->triple[r], (size_t)p->n * sizeof *p->triple[r]);
}

static void put_attr(saver *s, const pl_op *op, int i, const pl_attr *a) {
  put_byte(s, a->type);
  switch (a->type) {
    case PL_ATTR_INTS:
      put_int(s, a->n);
      if (a->n > 0) put(s, a->list, (size_t)a->n * sizeof *a->list);
      break;
    case PL_ATTR_OBJECT: put_int(s, find(&s->objects, a->object)); break;
    default: put_long(s, a->i);
  }
  if (a->type != (int)type_of(&op->attrs[i]))
    pl_error(s->c, PL_ERROR_TYPE, "%s: attribute %s is of another type than the op's row says: it cannot be saved",
             op->name, op->attrs[i].name);
}

static void put_body(saver *s, const pl_body *b, int depth) {
  pl_context *c = s->c;
  if (b->n_in > PL_MAX_INPUTS || b->n_out > PL_MAX_OUTPUTS)
    pl_error(c, PL_ERROR_ARGUMENT, "a program of %d inputs and %d results: at most %d and %d can be saved", b->n_in,
             b->n_out, PL_MAX_INPUTS, PL_MAX_OUTPUTS);
  if (c->status || !no_resources(c, b, 0)) return;
  for (int64_t k = 0; k < b->code.n && !c->status; k++) { /* first what it refers to */
    const pl_instruction *q = &b->code.instructions[k];
    for (int i = 0; i < pl_attr_count(q->op); i++)
      if (q->attrs[i].type == PL_ATTR_OBJECT) {
        const pl_object *o = q->attrs[i].object;
        if (!o || o->type != types[kind_of(&q->op->attrs[i])])
          pl_error(c, PL_ERROR_TYPE, "%s: its %s is a %s, which cannot be saved", q->op->name, q->op->attrs[i].name,
                   o ? o->type->name : "missing object");
        else put_object(s, o, depth);
      }
  }
  put_byte(s, KIND_BODY);
  put_int(s, b->n_in);
  put_int(s, b->n_constants);
  put_int(s, b->n_out);
  put_int(s, b->code.n);
  for (int i = 0; i < b->n_in; i++) put_spec(s, &b->specs[i]);
  for (int i = 0; i < b->n_constants; i++) {
    const pl_slot *t = pl_slot_find(c, b->constants[i]);
    put_byte(s, t && (t->flags & PL_FLAG_CONSTANT)); /* a number of a rule: further traces copy it too */
    put_tensor(s, b->constants[i], "a constant");
  }
  uint32_t next = (uint32_t)(b->n_in + b->n_constants);
  for (int64_t k = 0; k < b->code.n && !c->status; k++) {
    const pl_instruction *q = &b->code.instructions[k];
    const uint32_t *o = b->code.operands + q->operands;
    int source = (int)(q->line >> 20);
    put_int(s, number_of(c, &s->ops, q->op));
    put_int(s, source > 0 && source <= c->n_sources ? number_of(c, &s->sources, c->sources[source - 1]) + 1 : 0);
    put_int(s, q->line & LINES);
    put_short(s, q->n_in);
    put_short(s, q->n_out);
    put(s, o, q->n_in * sizeof *o);
    for (int i = 0; i < pl_attr_count(q->op); i++) put_attr(s, q->op, i, &q->attrs[i]);
    for (int i = 0; i < q->n_out; i++)
      if (o[q->n_in + i] != next++) pl_error(c, PL_ERROR_STATE, "a program whose results are not in order");
  }
  put(s, b->outputs, (size_t)b->n_out * sizeof *b->outputs);
}

/* Appends an object behind those that it refers to; its number. */
static int put_object(saver *s, const pl_object *o, int depth) {
  int old = find(&s->objects, o);
  if (old >= 0 || s->c->status) return old;
  if (depth > DEEPEST) {
    pl_error(s->c, PL_ERROR_ARGUMENT, "programs are nested more than %d deep: they cannot be saved", DEEPEST);
    return -1;
  }
  if (o->type == &pl_body_type) {
    put_body(s, (const pl_body *)o, depth + 1);
  } else if (o->type == &pl_plan_type) {
    put_plan(s, (const pl_plan *)o, depth + 1);
  } else {
    put_byte(s, KIND_PATTERN);
    put_pattern(s, (const pl_pattern *)o);
  }
  return number_of(s->c, &s->objects, o);
}

/* A file that is hashed while it is written. */
typedef struct {
  FILE *f;
  char *block;
  size_t n;
  uint64_t hash;
  bool failed;
} sink;

static void flush_block(sink *w) {
  w->hash = pl_hash(w->hash, w->block, w->n);
  w->failed = w->failed || fwrite(w->block, 1, w->n, w->f) != w->n;
  w->n = 0;
}

static void pour(sink *w, const void *p, size_t n) {
  for (const char *from = p; n;) {
    size_t part = BLOCK - w->n < n ? BLOCK - w->n : n;
    memcpy(w->block + w->n, from, part);
    w->n += part;
    from += part;
    n -= part;
    if (w->n == BLOCK) flush_block(w);
  }
}

/* All that the file holds, in order; tensors go straight from their own memory. */
static void write_all(saver *s, sink *w, int program, int n_captured, const pl_value *captured, const char *text,
                      size_t text_length) {
  pl_context *c = s->c;
  buffer objects = s->out;
  s->out = (buffer){0};
  put(s, magic, sizeof magic);
  put_int(s, MARK);
  put_int(s, VERSION);
  put_int(s, s->ops.n);
  for (int k = 0; k < s->ops.n; k++) {
    const pl_op *op = s->ops.items[k];
    char name[LONGEST_NAME];
    put_name(s, name_of(op, name));
    put_byte(s, pl_attr_count(op));
    for (int i = 0; i < pl_attr_count(op); i++) {
      put_name(s, op->attrs[i].name);
      put_byte(s, (int)type_of(&op->attrs[i]));
    }
  }
  put_int(s, s->sources.n);
  for (int k = 0; k < s->sources.n; k++) put_name(s, s->sources.items[k]);
  put_int(s, s->objects.n);
  pour(w, s->out.data, s->out.n);
  pour(w, objects.data, objects.n);
  pl_memory_free(c, objects.data);
  s->out.n = 0;
  put_int(s, program);
  put_int(s, n_captured);
  for (int i = 0; i < n_captured && !c->status; i++) {
    const pl_slot *t = known_tensor(c, captured[i], "a captured value");
    pl_spec spec;
    if (!t) break;
    pl_spec_of(t, &spec);
    put_spec(s, &spec);
    pour(w, s->out.data, s->out.n);
    s->out.n = 0;
    pour(w, t->data, (size_t)t->count * pl_dtype_size(spec.dtype));
  }
  put_long(s, (int64_t)text_length);
  pour(w, s->out.data, s->out.n);
  pour(w, text, text_length);
  flush_block(w);
  w->failed = w->failed || fwrite(&w->hash, sizeof w->hash, 1, w->f) != 1;
}

static bool file_error(pl_context *c, const char *what, const char *path) {
  pl_error(c, PL_ERROR_STATE, "cannot %s '%s': %s", what, path, strerror(errno ? errno : EIO));
  return false;
}

/* A new file beside the path, under a name that nobody has. */
static FILE *open_beside(pl_context *c, const char *path, char *name, size_t size) {
  for (int k = 0; k < 100; k++) {
    snprintf(name, size, "%s.%ld.%d.tmp", path, (long)getpid(), k);
    int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0) {
      FILE *f = fdopen(fd, "wb");
      if (f) return f;
      close(fd);
      unlink(name);
      break;
    }
    if (errno != EEXIST) break;
  }
  file_error(c, "write", path);
  return NULL;
}

/* So that the new name is there after a crash, too; file systems that cannot are excused. */
static void sync_folder(char *name) {
  int fd = open(dirname(name), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  fsync(fd);
  close(fd);
}

static bool fits_captured(pl_context *c, const pl_body *b, int n, const pl_value *captured) {
  if (n < 0 || n > b->n_in) {
    pl_error(c, PL_ERROR_ARGUMENT, "%d captured values of a program with %d inputs", n, b->n_in);
    return false;
  }
  for (int i = 0; i < n; i++) {
    const pl_slot *s = known_tensor(c, captured[i], "a captured value");
    const pl_spec *want = &b->specs[b->n_in - n + i];
    if (!s) return false;
    if (s->dtype == (uint8_t)want->dtype && s->rank == want->rank &&
        !memcmp(s->shape, want->shape, s->rank * sizeof *s->shape))
      continue;
    char x[PL_TEXT], y[PL_TEXT];
    pl_error(c, PL_ERROR_SHAPE, "captured value %d is %s %s, the program was made for %s %s", i + 1,
             pl_dtype_name((pl_dtype)s->dtype), pl_shape_text(x, s->rank, s->shape), pl_dtype_name(want->dtype),
             pl_shape_text(y, want->rank, want->shape));
    return false;
  }
  return true;
}

bool pl_body_save(pl_context *c, const pl_body *b, int n_captured, const pl_value *captured, const char *text,
                  size_t text_length, const char *path) {
  if (c->status || !no_resources(c, b, b->n_in) || !fits_captured(c, b, n_captured, captured)) return false;
  saver s = {.c = c};
  sink w = {0};
  size_t size = strlen(path) + 64;
  char *name = pl_memory_new(c, size);
  w.block = pl_memory_new(c, BLOCK);
  int program = put_object(&s, &b->base, 0);
  if (name && w.block && !c->status && (w.f = open_beside(c, path, name, size))) {
    errno = 0;
    write_all(&s, &w, program, n_captured, captured, text, text_length);
    if (!c->status && (w.failed || fflush(w.f) || fsync(fileno(w.f)))) file_error(c, "write", path);
    if (fclose(w.f) && !c->status) file_error(c, "write", path);
    if (!c->status && rename(name, path)) file_error(c, "write", path);
    if (c->status) unlink(name);
    else sync_folder(name);
  }
  pl_memory_free(c, name);
  pl_memory_free(c, w.block);
  pl_memory_free(c, s.out.data);
  pl_memory_free(c, s.ops.items);
  pl_memory_free(c, s.sources.items);
  pl_memory_free(c, s.objects.items);
  return c->status == PL_OK;
}

/* ---- loading ---- */

typedef struct {
  pl_context *c;
  FILE *f;
  uint64_t left; /* bytes before the checksum */
  uint32_t n_ops, n_sources, n_objects;
  const pl_op **ops;
  int *sources;
  pl_object **objects; /* held */
  uint8_t *depth;      /* of each */
} loader;

#define LIE(l, ...) pl_error((l)->c, PL_ERROR_ARGUMENT, __VA_ARGS__)

static void get(loader *l, void *p, uint64_t n) {
  if (n && !l->c->status && (n > l->left || fread(p, 1, (size_t)n, l->f) != (size_t)n)) LIE(l, "it ends too early");
  if (l->c->status) return;
  l->left -= n;
}
static uint8_t get_byte(loader *l) {
  uint8_t x = 0;
  get(l, &x, sizeof x);
  return x;
}
static uint16_t get_short(loader *l) {
  uint16_t x = 0;
  get(l, &x, sizeof x);
  return x;
}
static uint32_t get_int(loader *l) {
  uint32_t x = 0;
  get(l, &x, sizeof x);
  return l->c->status ? 0 : x;
}
static int64_t get_long(loader *l) {
  int64_t x = 0;
  get(l, &x, sizeof x);
  return x;
}

/* How many of something follow, each of at least that many bytes. */
static uint32_t get_count(loader *l, uint64_t least, const char *what) {
  uint32_t n = get_int(l);
  if (n <= l->left / least && n <= INT32_MAX - 1) return n;
  LIE(l, "%u %s do not fit into what is left of it", n, what);
  return 0;
}

static void get_name(loader *l, char *name) {
  uint16_t n = get_short(l);
  if (n > LONGEST_NAME) LIE(l, "a name of %u bytes", n);
  else get(l, name, n);
  if (l->c->status) n = 0;
  name[n] = 0;
  for (uint16_t i = 0; i < n; i++)
    if ((unsigned char)name[i] < 32) LIE(l, "a name with control characters");
}

static void *room(loader *l, uint64_t n, size_t size) { return pl_memory_new(l->c, (size_t)(n + 1) * size); }

static void read_ops(loader *l) {
  char name[LONGEST_NAME + 1];
  uint32_t n = get_count(l, 3, "ops");
  if (l->c->status || !(l->ops = room(l, n, sizeof *l->ops))) return;
  for (; l->n_ops < n && !l->c->status; l->n_ops++) {
    get_name(l, name);
    const pl_op *op = l->c->status ? NULL : find_op(l->c, name);
    if (!op && !l->c->status && strchr(name, '#'))
      LIE(l, "it needs the op '%.*s' of a C file (content %s): load that file first, with pl.load_op",
          (int)(strchr(name, '#') - name), name, strchr(name, '#') + 1);
    else if (!op) LIE(l, "it needs the op '%s', which there is not here", name);
    else if (op->expand) LIE(l, "'%s' is made of other ops and is no instruction", name);
    int n_attrs = get_byte(l);
    if (op && n_attrs != pl_attr_count(op))
      LIE(l, "op '%s' has %d attributes there and %d here", op->name, n_attrs, pl_attr_count(op));
    for (int i = 0; i < n_attrs && !l->c->status; i++) {
      get_name(l, name);
      if (get_byte(l) != (uint8_t)type_of(&op->attrs[i]) || strcmp(name, op->attrs[i].name))
        LIE(l, "op '%s' has an attribute '%s' there, '%s' here, or of another type", op->name, name, op->attrs[i].name);
    }
    l->ops[l->n_ops] = op;
  }
}

static void read_sources(loader *l) {
  char name[LONGEST_NAME + 1];
  uint32_t n = get_count(l, 2, "sources");
  if (l->c->status || !(l->sources = room(l, n, sizeof *l->sources))) return;
  for (; l->n_sources < n && !l->c->status; l->n_sources++) {
    get_name(l, name);
    l->sources[l->n_sources] = l->c->status ? 0 : pl_source(l->c, name);
  }
}

static bool get_spec(loader *l, pl_spec *spec, bool resources) {
  int dtype = get_byte(l), rank = get_byte(l);
  *spec = (pl_spec){(pl_dtype)dtype, rank, {0}};
  if (rank > PL_MAX_RANK || dtype > PL_DTYPES || (dtype == PL_DTYPES && (rank || !resources))) {
    LIE(l, "a tensor of dtype %d and rank %d", dtype, rank);
    return false;
  }
  get(l, spec->shape, (uint64_t)rank * sizeof *spec->shape);
  if (l->c->status) return false;
  if (pl_spec_count(spec) < 0) {
    char text[PL_TEXT];
    LIE(l, "a tensor of shape %s", pl_shape_text(text, rank, spec->shape));
    return false;
  }
  return true;
}

/* The caller's own. */
static pl_value get_tensor(loader *l) {
  pl_context *c = l->c;
  pl_spec spec;
  if (!get_spec(l, &spec, false)) return PL_NONE;
  uint64_t bytes = (uint64_t)pl_spec_count(&spec) * pl_dtype_size(spec.dtype);
  if (bytes > l->left) LIE(l, "it ends within a tensor");
  if (c->status) return PL_NONE;
  pl_pause(c);
  pl_value v = pl_value_new(c, &spec, NULL);
  pl_resume(c);
  pl_slot *s = pl_slot_find(c, v);
  if (!s) return PL_NONE;
  get(l, s->data, bytes);
  for (int64_t i = 0; spec.dtype == PL_BOOL && i < s->count && !c->status; i++)
    if (((const uint8_t *)s->data)[i] > 1) LIE(l, "a bool that is neither true nor false");
  return v;
}

static int32_t *get_indices(loader *l, uint64_t n) {
  if (n > l->left / sizeof(int32_t)) LIE(l, "it ends within a sparse matrix");
  int32_t *p = l->c->status ? NULL : room(l, n, sizeof *p);
  if (p) get(l, p, n * sizeof *p);
  return p;
}

static pl_object *read_pattern(loader *l) {
  pl_context *c = l->c;
  uint32_t size[3];
  get(l, size, sizeof size);
  if (c->status) return NULL;
  if (size[0] > INT32_MAX - 1 || size[1] > INT32_MAX - 1 || size[2] > INT32_MAX - 1)
    LIE(l, "a sparse matrix of negative size");
  int32_t *ptr = get_indices(l, (uint64_t)size[0] + 1), *col = ptr ? get_indices(l, size[2]) : NULL;
  bool ok = !c->status && ptr && col && ptr[0] == 0 && ptr[size[0]] == (int32_t)size[2];
  for (uint32_t i = 0; ok && i < size[0]; i++) ok = ptr[i] <= ptr[i + 1]; /* so none lies outside */
  for (uint32_t i = 0; ok && i < size[0]; i++)
    for (int32_t k = ptr[i]; ok && k < ptr[i + 1]; k++)
      ok = col[k] >= 0 && (uint32_t)col[k] < size[1] && (k == ptr[i] || col[k - 1] < col[k]);
  if (!ok) LIE(l, "a sparse matrix whose rows are not lists of its columns");
  pl_pattern *p = c->status ? NULL : pl_pattern_new(c, (int32_t)size[0], (int32_t)size[1], ptr, col);
  pl_memory_free(c, ptr);
  pl_memory_free(c, col);
  return (pl_object *)p;
}

/* An object that stands before in the file; NULL, and the error set, unless it is one of that kind. */
static pl_object *get_object(loader *l, uint32_t i, object_kind kind) {
  if (l->c->status) return NULL;
  if (i < l->n_objects && l->objects[i]->type == types[kind]) return l->objects[i];
  LIE(l, "object %u is no %s that stands before what refers to it", i, types[kind]->name);
  return NULL;
}

static pl_object *read_plan(loader *l) {
  pl_context *c = l->c;
  int kind = get_byte(l);
  pl_pattern *out = (pl_pattern *)get_object(l, get_int(l), KIND_PATTERN), *via = NULL;
  uint32_t v = get_int(l), n;
  if (v) via = (pl_pattern *)get_object(l, v - 1, KIND_PATTERN);
  int32_t sizes[3] = {0}, *triple[3] = {NULL};
  get(l, sizes, sizeof sizes);
  n = get_count(l, 3 * sizeof(int32_t), "terms of a product");
  if (c->status) return NULL;
  bool ok = kind == PL_PLAN_GRAM ? via && sizes[0] == via->nnz && out->nnz == via->rows
                                 : (kind == PL_PLAN_PRODUCT || kind == PL_PLAN_KRON) && !via && sizes[0] == out->nnz;
  for (int r = 0; r < 3 && ok; r++) {
    ok = sizes[r] >= 0 && (triple[r] = get_indices(l, n));
    for (uint32_t t = 0; ok && t < n; t++) ok = triple[r][t] >= 0 && triple[r][t] < sizes[r];
  }
  if (!ok) LIE(l, "a sparse product whose terms lie outside of its matrices");
  if (!c->status) return (pl_object *)pl_plan_new(c, (pl_plan_kind)kind, out, via, sizes, n, triple);
  for (int r = 0; r < 3; r++) pl_memory_free(c, triple[r]);
  return NULL;
}

/* Attributes within what their kinds allow: shape rules count on that where nobody could say otherwise. */
static bool attr_fits(const pl_op *op, int i, const pl_attr *a) {
  pl_attr_kind kind = op->attrs[i].kind;
  if (a->type == PL_ATTR_INT) {
    if (kind == PL_AS_FLAG) return a->i == 0 || a->i == 1;
    if (kind == PL_AS_DTYPE) return a->i >= 0 && a->i < PL_DTYPES;
    if (kind == PL_AS_AXIS) return a->i >= -PL_MAX_RANK && a->i < PL_MAX_RANK;
    if (op == PL_OP(sparse_product)) return a->i >= 0 && a->i < 3; /* its role */
    return a->i >= INT32_MIN && a->i <= INT32_MAX;
  }
  if (a->type != PL_ATTR_INTS || a->n < 0) return true;
  if (kind == PL_AS_INTS && op->step) return true; /* their shape rules see to them */
  if (a->n > PL_MAX_RANK) return false;
  int64_t count = 1;
  for (int k = 0; k < a->n; k++) {
    int64_t x = a->list[k];
    if (kind == PL_AS_AXES && (x < -PL_MAX_RANK || x >= PL_MAX_RANK)) return false;
    if (x < -INT32_MAX || x > INT32_MAX || (kind == PL_AS_SHAPE && x < -1)) return false;
    if (kind == PL_AS_SHAPE && x > 0 && (count *= x) > INT32_MAX) return false;
  }
  return true;
}

/* One instruction of a body. */
typedef struct {
  const pl_op *op;
  int n_in, n_out;
  uint32_t *operands; /* PL_MAX_INPUTS of them */
  pl_attr attrs[PL_MAX_ATTRS];
  int64_t *lists[PL_MAX_ATTRS];
} reading;

static void read_attrs(loader *l, reading *q, int *depth) {
  pl_context *c = l->c;
  for (int i = 0; i < pl_attr_count(q->op) && !c->status; i++) {
    pl_attr *a = &q->attrs[i];
    *a = (pl_attr){.type = get_byte(l)};
    if (c->status) return;
    if (a->type != (int)type_of(&q->op->attrs[i])) {
      LIE(l, "attribute '%s' of op '%s' is of another type", q->op->attrs[i].name, q->op->name);
    } else if (a->type == PL_ATTR_INTS) {
      a->n = (int32_t)get_int(l);
      if (a->n < -1 || (a->n > 0 && (uint64_t)a->n > l->left / sizeof(int64_t))) LIE(l, "a list of %d numbers", a->n);
      if (c->status || a->n <= 0) continue;
      if (!(q->lists[i] = room(l, (uint64_t)a->n, sizeof(int64_t)))) return;
      get(l, q->lists[i], (uint64_t)a->n * sizeof(int64_t));
      a->list = q->lists[i];
    } else if (a->type == PL_ATTR_OBJECT) {
      uint32_t k = get_int(l);
      a->object = get_object(l, k, kind_of(&q->op->attrs[i]));
      if (a->object && l->depth[k] >= *depth) *depth = l->depth[k] + 1;
    } else {
      a->i = get_long(l);
    }
    if (!c->status && !attr_fits(q->op, i, a))
      LIE(l, "attribute '%s' of op '%s' is out of range", q->op->attrs[i].name, q->op->name);
  }
}

/* Ops whose first input is a factor. */
static bool reads_factor(const pl_op *op) {
  return op == PL_OP(factored_solve) || op == PL_OP(sparse_qr_solve) || op == PL_OP(factor_logdet) ||
         op == PL_OP(inverse_chain);
}

/* May the op be applied to these, as far as its shape rule would not ask? */
static bool inputs_fit(loader *l, const reading *q, const pl_value *in) {
  pl_context *c = l->c;
  bool ok = true;
  pl_spec *specs = room(l, (uint64_t)q->n_in, sizeof *specs);
  if (!specs) return false;
  for (int i = 0; i < q->n_in; i++) {
    pl_spec_of(pl_slot_find(c, in[i]), &specs[i]);
    if (specs[i].dtype == PL_DTYPES && !q->op->step && !(reads_factor(q->op) && i == 0)) ok = false;
  }
  if (!ok) LIE(l, "op '%s' is given a resource", q->op->name);
  if (ok && q->n_in == 0 && q->op != PL_OP(zeros))
    LIE(l, "op '%s' reads nothing: its result would be a constant", q->op->name);
  if (ok && q->op == PL_OP(number) &&
      (q->n_in != 1 || specs[0].dtype != PL_F64 || specs[0].rank != 1 || q->attrs[0].i < 0 ||
       q->attrs[0].i > specs[0].shape[0] - PL_CELL_MARGIN))
    LIE(l, "a number from outside of their list");
  pl_memory_free(c, specs);
  return c->status == PL_OK;
}

/* Reads an instruction and traces it; appends it to the code. *n is the number of values so far. */
static void read_instruction(loader *l, pl_tape *t, pl_program *code, pl_value **values, uint64_t *n,
                             uint64_t *capacity, reading *q, pl_value *in, int *depth) {
  pl_context *c = l->c;
  uint32_t op = get_int(l), source = get_int(l), line = get_int(l);
  q->n_in = get_short(l);
  q->n_out = get_short(l);
  if (c->status) return;
  if (op >= l->n_ops || source > l->n_sources || line > LINES || q->n_in > PL_MAX_INPUTS || q->n_out > PL_MAX_OUTPUTS) {
    LIE(l, "it has no op, or no line, of that number");
    return;
  }
  q->op = l->ops[op];
  get(l, q->operands, (uint64_t)q->n_in * sizeof *q->operands);
  for (int i = 0; i < q->n_in && !c->status; i++)
    if (q->operands[i] < *n) in[i] = (*values)[q->operands[i]];
    else LIE(l, "op '%s' reads value %u, which is not there yet", q->op->name, q->operands[i]);
  if (!c->status) read_attrs(l, q, depth);
  if (c->status || !inputs_fit(l, q, in)) return;
  if (pl_op_results(q->op, q->attrs) != q->n_out) {
    LIE(l, "op '%s' has %d results, not %d", q->op->name, pl_op_results(q->op, q->attrs), q->n_out);
    return;
  }
  if (*n + (uint64_t)q->n_out > *capacity) {
    *capacity = 2 * *capacity + (uint64_t)q->n_out;
    pl_value *grown = pl_memory_grow(c, *values, (size_t)*capacity * sizeof *grown);
    if (!grown) return;
    *values = grown;
  }
  c->line = source ? (uint32_t)l->sources[source - 1] << 20 | line : line;
  int64_t before = t->program.n;
  if (!pl_apply(c, q->op, q->n_in, in, q->attrs, *values + *n)) return;
  if (t->program.n != before + 1 || t->program.instructions[before].op != q->op) {
    LIE(l, "op '%s' does not compute in the dtypes that it is given", q->op->name);
    return;
  }
  uint32_t out[PL_MAX_OUTPUTS];
  for (int i = 0; i < q->n_out; i++) out[i] = (uint32_t)(*n)++;
  pl_program_append(c, code, q->op, q->n_in, q->operands, q->attrs, q->n_out, out);
}

static pl_object *read_body(loader *l, int *depth) {
  pl_context *c = l->c;
  uint32_t n_in = get_count(l, 2, "inputs"), n_constants = get_count(l, 3, "constants"),
           n_out = get_count(l, 4, "results"), n_code = get_count(l, 16, "instructions"), made = 0;
  if (n_in > PL_MAX_INPUTS || n_out > PL_MAX_OUTPUTS) LIE(l, "a program of %u inputs and %u results", n_in, n_out);
  if (c->status) return NULL;
  uint64_t n = (uint64_t)n_in + n_constants, capacity = n + 1;
  pl_spec *specs = room(l, n, sizeof *specs);
  pl_value *values = room(l, n, sizeof *values), *constants = room(l, n_constants, sizeof *constants),
           *in = room(l, PL_MAX_INPUTS, sizeof *in);
  uint32_t *operands = room(l, PL_MAX_INPUTS, sizeof *operands), *outputs = room(l, n_out, sizeof *outputs);
  pl_program code = {0};
  pl_tape *t = NULL;
  pl_body *b = NULL;
  for (uint32_t i = 0; i < n_in && !c->status; i++) get_spec(l, &specs[i], true);
  for (; made < n_constants && !c->status; made++) {
    int number = get_byte(l);
    constants[made] = get_tensor(l);
    pl_slot *s = pl_slot_find(c, constants[made]);
    if (!s) break;
    if (number) s->flags |= PL_FLAG_CONSTANT;
    pl_spec_of(s, &specs[n_in + made]);
  }
  if (!c->status) t = pl_trace_open(c, (int)n, specs, values);
  for (uint32_t k = 0; k < n_code && t && !c->status; k++) {
    reading q = {.operands = operands};
    read_instruction(l, t, &code, &values, &n, &capacity, &q, in, depth);
    for (int i = 0; i < PL_MAX_ATTRS; i++) pl_memory_free(c, q.lists[i]);
  }
  if (t) pl_trace_abandon(c, t);
  if (!c->status) get(l, outputs, (uint64_t)n_out * sizeof *outputs);
  for (uint32_t i = 0; i < n_out && !c->status; i++) {
    pl_slot *s = outputs[i] < n ? pl_slot_find(c, values[outputs[i]]) : NULL;
    if (!s || (s->flags & PL_FLAG_RESOURCE)) LIE(l, "its result %u is no tensor that it makes", i + 1);
  }
  if (*depth > DEEPEST) LIE(l, "programs nested more than %d deep", DEEPEST);
  if (!c->status && (b = pl_body_new(c, (int)n_in, (int)n_out, (int)n_constants, (int)n))) {
    for (uint64_t i = 0; i < n; i++) pl_spec_of(pl_slot_find(c, values[i]), &b->specs[i]);
    if (n_out) memcpy(b->outputs, outputs, n_out * sizeof *outputs);
    if (n_constants) memcpy(b->constants, constants, n_constants * sizeof *constants);
    b->n_constants = (int32_t)n_constants;
    b->code = code;
    code = (pl_program){0};
    made = 0;
    b = pl_body_intern(c, b);
  }
  for (uint32_t i = 0; i < made; i++) pl_release(c, constants[i]);
  if (t) pl_tape_free(c, t);
  pl_program_free(c, &code);
  void *parts[] = {specs, values, constants, in, operands, outputs};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) pl_memory_free(c, parts[i]);
  return (pl_object *)b;
}

static void read_objects(loader *l) {
  uint32_t n = get_count(l, 13, "objects");
  if (l->c->status || !(l->objects = room(l, n, sizeof *l->objects)) || !(l->depth = room(l, n, 1))) return;
  for (uint32_t k = 0; k < n && !l->c->status; k++) {
    int kind = get_byte(l), depth = 0;
    pl_object *o = l->c->status           ? NULL
                   : kind == KIND_PATTERN ? read_pattern(l)
                   : kind == KIND_PLAN    ? read_plan(l)
                   : kind == KIND_BODY    ? read_body(l, &depth)
                                          : NULL;
    if (!o) {
      LIE(l, "there is no kind %d of objects", kind);
      return;
    }
    l->objects[l->n_objects] = o;
    l->depth[l->n_objects++] = (uint8_t)depth;
  }
}

/* Is it ours, of this version, and whole? Leaves the file behind the header. */
static void check_file(loader *l) {
  char head[8];
  uint32_t numbers[2];
  struct stat info;
  if (fstat(fileno(l->f), &info) || !S_ISREG(info.st_mode)) {
    LIE(l, "it is not a file");
    return;
  }
  if (info.st_size < HEADER || fread(head, sizeof head, 1, l->f) != 1 || memcmp(head, magic, sizeof magic) ||
      fread(numbers, sizeof numbers, 1, l->f) != 1) {
    LIE(l, "it does not begin as one");
    return;
  }
  if (numbers[0] == __builtin_bswap32(MARK)) LIE(l, "it was written on a machine with another byte order");
  else if (numbers[0] != MARK) LIE(l, "it does not begin as one");
  else if (numbers[1] != VERSION)
    LIE(l,
        "it has version %u of the format, this Perilune (%s) reads version %d: save it again with this one, or load it "
        "with the one that wrote it",
        numbers[1], PL_VERSION, VERSION);
  if (l->c->status) return;
  char *block = pl_memory_new(l->c, BLOCK);
  if (!block) return;
  uint64_t hash = 0, end = 0, left = (uint64_t)info.st_size;
  bool whole = left >= HEADER + sizeof end;
  rewind(l->f);
  for (left -= whole ? sizeof end : 0; whole;) { /* the last block may be empty, as in flush_block */
    size_t n = left < BLOCK ? (size_t)left : BLOCK;
    whole = fread(block, 1, n, l->f) == n;
    hash = pl_hash(hash, block, n);
    left -= n;
    if (n < BLOCK) break;
  }
  whole = whole && fread(&end, sizeof end, 1, l->f) == 1 && end == hash;
  pl_memory_free(l->c, block);
  if (!whole) LIE(l, "it is damaged: its end is missing, or bytes have changed");
  l->left = (uint64_t)info.st_size - HEADER - sizeof end;
  if (!l->c->status && fseek(l->f, HEADER, SEEK_SET)) LIE(l, "it cannot be read");
}

/* The program, retained; captured values and the text, the caller's. */
static pl_body *read_all(loader *l, int most, pl_value *captured, int *n_captured, char **text, size_t *text_length) {
  pl_context *c = l->c;
  check_file(l);
  if (!c->status) read_ops(l);
  if (!c->status) read_sources(l);
  if (!c->status) read_objects(l);
  if (c->status) return NULL;
  pl_body *b = (pl_body *)get_object(l, get_int(l), KIND_BODY);
  uint32_t n = get_count(l, 2, "captured values");
  if (!c->status && (n > (uint32_t)b->n_in || n > (uint32_t)most)) LIE(l, "%u captured values are too many", n);
  for (int i = 0; !c->status && i < b->n_in; i++)
    if (b->specs[i].dtype == PL_DTYPES) LIE(l, "its input %d is a resource", i + 1);
  for (uint32_t i = 0; i < n && !c->status; i++) {
    pl_value v = get_tensor(l);
    if (v != PL_NONE) captured[(*n_captured)++] = v;
  }
  if (!c->status) fits_captured(c, b, (int)n, captured);
  uint64_t length = (uint64_t)get_long(l);
  if (!c->status && length != l->left)
    LIE(l, "a text of %llu bytes, %llu are left", (unsigned long long)length, (unsigned long long)l->left);
  if (!c->status && !(*text = malloc((size_t)length + 1)))
    pl_error(c, PL_ERROR_MEMORY, "out of memory for a text of %llu bytes", (unsigned long long)length);
  if (c->status) return NULL;
  get(l, *text, length);
  (*text)[length] = 0;
  *text_length = (size_t)length;
  if (c->status) return NULL;
  pl_object_retain(&b->base);
  return b;
}

pl_body *pl_body_load(pl_context *c, const char *path, int most, pl_value *captured, int *n_captured, char **text,
                      size_t *text_length) {
  *n_captured = 0;
  *text = NULL;
  *text_length = 0;
  if (c->status) return NULL;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe would let us wait */
  loader l = {.c = c, .f = fd < 0 ? NULL : fdopen(fd, "rb")};
  if (!l.f) {
    if (fd >= 0) close(fd);
    file_error(c, "read", path);
    return NULL;
  }
  pl_body *b = read_all(&l, most, captured, n_captured, text, text_length);
  fclose(l.f);
  for (uint32_t i = 0; i < l.n_objects; i++) pl_object_release(l.objects[i]);
  pl_memory_free(c, l.ops);
  pl_memory_free(c, l.sources);
  pl_memory_free(c, l.objects);
  pl_memory_free(c, l.depth);
  if (b) return b;
  for (int i = 0; i < *n_captured; i++) pl_release(c, captured[i]);
  free(*text);
  *n_captured = 0;
  *text = NULL;
  pl_status status = c->status;
  if (status == PL_ERROR_MEMORY || status == PL_ERROR_INTERRUPT) return NULL;
  char reason[sizeof c->message];
  memcpy(reason, c->message, sizeof reason);
  pl_clear(c);
  pl_error(c, status, "'%s' is not a program that can be loaded: %s", path, reason);
  return NULL;
}
