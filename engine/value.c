#include "value.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "record.h"

const char *pl_dtype_name(pl_dtype dtype) {
  static const char *const names[] = {"f64", "f32", "i64", "bool"};
  return (unsigned)dtype < PL_DTYPES ? names[dtype] : "?";
}

size_t pl_dtype_size(pl_dtype dtype) {
  static const size_t sizes[] = {8, 4, 8, 1};
  return (unsigned)dtype < PL_DTYPES ? sizes[dtype] : 0;
}

/* ---- slots ---- */

static pl_slot *take_slot(pl_context *c) {
  if (!c->free_slot) {
    if (c->n_slots + PL_CHUNK > 1u << PL_SLOT_BITS) {
      pl_error(c, PL_ERROR_MEMORY, "more than %d million values are alive", (1 << PL_SLOT_BITS) / 1000000);
      return NULL;
    }
    pl_slot **chunks = pl_memory_grow(c, c->chunks, (c->n_chunks + 1) * sizeof *chunks);
    if (!chunks) return NULL;
    c->chunks = chunks;
    pl_slot *chunk = pl_memory_new(c, PL_CHUNK * sizeof *chunk);
    if (!chunk) return NULL;
    memset(chunk, 0, PL_CHUNK * sizeof *chunk);
    chunks[c->n_chunks++] = chunk;
    uint32_t first = c->n_slots;
    c->n_slots += PL_CHUNK;
    for (uint32_t i = PL_CHUNK; i-- > 0;) { /* slot 0 is never used: 0 ends lists */
      if (first + i == 0) continue;
      chunk[i].next_free = c->free_slot;
      c->free_slot = first + i;
    }
  }
  uint32_t i = c->free_slot;
  pl_slot *s = pl_slot_at(c, i);
  c->free_slot = s->next_free;
  s->generation++;
  s->handle = c->tag | (uint64_t)i << 32 | s->generation;
  s->flags = 0;
  s->parameters = 0;
  s->captured = 0;
  s->stamp = 0;
  s->refs = 1;
  c->live++;
  return s;
}

static void drop_buffer(pl_context *c, pl_buffer *b) {
  if (!b || --b->refs > 0) return;
  if (b->release) b->release(b->owner);
  pl_memory_free(c, b);
}

void pl_slot_free(pl_context *c, pl_slot *s) {
  uint32_t i = pl_slot_index(s->handle);
  s->handle = 0;
  c->live--;
  if (s->flags & PL_FLAG_RESOURCE) {
    pl_resource *r = s->data;
    if (r && --r->refs < 0) r->destroy(c, r);
  } else {
    drop_buffer(c, s->buffer);
  }
  s->buffer = NULL;
  s->data = NULL;
  s->next_free = c->free_slot;
  c->free_slot = i;
}

/* Gives a new value to the scope, if there is one. */
static pl_value born(pl_context *c, pl_slot *s) {
  s->recording = 0;
  s->instruction = 0;
  if (c->recording && (!c->recording->traced || (s->flags & PL_FLAG_TRACED))) {
    s->recording = c->recording->serial; /* what is made with its data inside a trace is known, and captured */
    s->instruction = (uint32_t)c->recording->program.n;
  }
  if (c->scope && !pl_scope_push(c, c->scope, pl_slot_index(s->handle))) {
    pl_slot_free(c, s);
    return PL_NONE;
  }
  return s->handle;
}

int64_t pl_spec_count(const pl_spec *spec) {
  int64_t count = 1;
  bool empty = false;
  for (int i = 0; i < spec->rank; i++) {
    if (spec->shape[i] < 0) return -1;
    if (spec->shape[i] == 0) empty = true;
    else if ((count *= spec->shape[i]) > INT32_MAX) return -1;
  }
  return empty ? 0 : count;
}

/* A buffer for that many bytes and its data; uninitialized but for the padding. */
static pl_buffer *new_buffer(pl_context *c, size_t bytes, void **data) {
  size_t padded = (bytes + 63) & ~(size_t)63;
  if (!padded) padded = 64;
  pl_buffer *b = pl_memory_new(c, 64 + padded + 64);
  if (!b) return NULL;
  *b = (pl_buffer){.refs = 1};
  *data = (char *)b + 64;
  /* kernels run whole vectors: the rest of the last one is read too, and one more behind a row that a loop walks over,
   * which may start anywhere */
  memset((char *)*data + padded - 64, 0, 128);
  return b;
}

pl_value pl_value_new(pl_context *c, const pl_spec *spec, const pl_slot *share) {
  if (c->status) return PL_NONE;
  int64_t count = pl_spec_count(spec);
  if (count < 0) {
    char text[PL_TEXT];
    pl_error(c, PL_ERROR_SHAPE, "a tensor of shape %s has more than 2^31 - 1 elements",
             pl_shape_text(text, spec->rank, spec->shape));
    return PL_NONE;
  }
  pl_buffer *b;
  void *data;
  if (share) {
    b = share->buffer;
    b->refs++;
    data = share->data;
  } else {
    if (!(b = new_buffer(c, (size_t)count * pl_dtype_size(spec->dtype), &data))) return PL_NONE;
  }
  pl_slot *s = take_slot(c);
  if (!s) {
    drop_buffer(c, b);
    return PL_NONE;
  }
  s->data = data;
  s->buffer = b;
  s->count = count;
  s->dtype = (uint8_t)spec->dtype;
  s->rank = (uint8_t)spec->rank;
  for (int i = 0; i < spec->rank; i++) s->shape[i] = spec->shape[i];
  if (b->version) s->flags |= PL_FLAG_BORROWED;
  return born(c, s);
}

pl_value pl_value_traced(pl_context *c, const pl_spec *spec) {
  int64_t count = spec->dtype == PL_DTYPES ? 0 : pl_spec_count(spec);
  if (count < 0) {
    char text[PL_TEXT];
    pl_error(c, PL_ERROR_SHAPE, "a tensor of shape %s has more than 2^31 - 1 elements",
             pl_shape_text(text, spec->rank, spec->shape));
    return PL_NONE;
  }
  pl_slot *s = c->status ? NULL : take_slot(c);
  if (!s) return PL_NONE;
  s->data = NULL;
  s->buffer = NULL;
  s->count = count;
  s->flags = PL_FLAG_TRACED;
  if (spec->dtype == PL_DTYPES) {
    s->dtype = PL_F64;
    s->rank = 0;
    s->flags |= PL_FLAG_RESOURCE;
  } else {
    s->dtype = (uint8_t)spec->dtype;
    s->rank = (uint8_t)spec->rank;
    for (int i = 0; i < spec->rank; i++) s->shape[i] = spec->shape[i];
  }
  return born(c, s);
}

void pl_spec_of(const pl_slot *s, pl_spec *spec) {
  *spec = (pl_spec){.dtype = s->flags & PL_FLAG_RESOURCE ? PL_DTYPES : (pl_dtype)s->dtype, .rank = s->rank};
  for (int i = 0; i < s->rank; i++) spec->shape[i] = s->shape[i];
}

bool pl_spec_equal(const pl_spec *a, const pl_spec *b) {
  return a->dtype == b->dtype && a->rank == b->rank && !memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape);
}

pl_value pl_value_over(pl_context *c, const pl_slot *model) {
  pl_slot *s = c->status ? NULL : take_slot(c);
  if (!s) return PL_NONE;
  pl_buffer *b = pl_memory_new(c, sizeof *b);
  s->buffer = b;
  if (!b) {
    pl_slot_free(c, s);
    return PL_NONE;
  }
  *b = (pl_buffer){.refs = 2}; /* never unique: nothing is written in place */
  s->data = model->data;
  s->count = model->count;
  s->dtype = model->dtype;
  s->rank = model->rank;
  s->flags = PL_FLAG_LENT;
  s->recording = s->instruction = 0;
  memcpy(s->shape, model->shape, sizeof s->shape);
  return s->handle;
}

void pl_value_over_end(pl_context *c, pl_value v) {
  pl_slot *s = pl_slot_find(c, v);
  if (!s) return;
  s->buffer->refs = 1;
  if (s->refs > 1) {
    size_t bytes = (size_t)s->count * pl_dtype_size((pl_dtype)s->dtype);
    void *data = NULL;
    pl_buffer *b = new_buffer(c, bytes, &data);
    if (b && bytes) memcpy(data, s->data, bytes);
    drop_buffer(c, s->buffer);
    s->buffer = b;
    s->data = data;
    s->flags &= (uint8_t)~PL_FLAG_LENT;
    if (!b) s->flags |= PL_FLAG_TRACED; /* without memory: a shape without data, which whoever holds it must not read */
  }
  pl_release(c, v);
}

pl_value pl_value_copy(pl_context *c, const pl_spec *spec, const pl_slot *from) {
  pl_value v = pl_value_new(c, spec, NULL);
  if (v != PL_NONE)
    memcpy(pl_slot_find(c, v)->data, from->data, (size_t)from->count * pl_dtype_size((pl_dtype)from->dtype));
  return v;
}

pl_value pl_value_resource(pl_context *c, pl_resource *r) {
  pl_slot *s = c->status ? NULL : take_slot(c);
  if (!s) {
    if (r) r->destroy(c, r);
    return PL_NONE;
  }
  s->data = r;
  s->buffer = NULL;
  s->count = 0;
  s->dtype = PL_F64;
  s->rank = 0;
  s->flags = PL_FLAG_RESOURCE;
  return born(c, s);
}

/* ---- handles ---- */

pl_slot *pl_slot_get(pl_context *c, pl_value v) {
  if (c->status) return NULL;
  pl_slot *s = pl_slot_find(c, v);
  if (s) return s;
  if (v == PL_NONE) pl_error(c, PL_ERROR_ARGUMENT, "a value is missing");
  else if (v < 16) pl_error(c, PL_ERROR_ARGUMENT, "a symbolic zero is not a tensor");
  else if ((v >> 56 << 56) != c->tag) pl_error(c, PL_ERROR_STALE, "this value belongs to another context");
  else
    pl_error(c, PL_ERROR_STALE,
             "this tensor belonged to a derivative, or to an op's call, that has ended: return it from the function, "
             ":detach() it inside, or compute it under pl.constant");
  return NULL;
}

bool pl_slot_check(pl_context *c, pl_slot *s) {
  if ((s->flags & PL_FLAG_BORROWED) && *s->buffer->version != s->buffer->seen) {
    pl_error(
        c, PL_ERROR_STATE,
        "the buffer was written after this tensor was made from it; make the tensor again with :tensor(), or copy it "
        "with :detach() before writing");
    return false;
  }
  if ((s->flags & PL_FLAG_PARAMETER) && (c->recording || (c->host.serial && c->paused == c->host.paused))) {
    const char *name = pl_parameter_name(c, s->handle);
    pl_error(c, PL_ERROR_STATE,
             "the parameter%s%s is used directly inside the function that is differentiated with respect to it, so its "
             "gradient would be lost: use the function's argument, or :detach() it first if it is meant as a constant",
             *name ? " " : "", name);
    return false;
  }
  return true;
}

bool pl_slot_unknown(pl_context *c, const pl_slot *s) {
  if (!(s->flags & PL_FLAG_TRACED)) return false;
  c->read_unknown = true;
  pl_error(c, PL_ERROR_STATE,
           "this value is not known here: the function is traced once to make a program, only shapes exist while it "
           "is. Use pl.where or pl.cond instead of an if on a value, pl.while_loop for a loop that ends on one, and "
           "return what you want to see");
  return true;
}

pl_resource *pl_slot_resource(pl_context *c, const pl_slot *s, const char *name) {
  pl_resource *r = s->flags & PL_FLAG_RESOURCE ? s->data : NULL;
  if (!r || strcmp(r->name, name)) {
    pl_error(c, PL_ERROR_TYPE, "expected a %s, not a %s", name, r ? r->name : "tensor");
    return NULL;
  }
  return r;
}

pl_resource *pl_resource_get(pl_context *c, pl_value v, const char *name) {
  pl_slot *s = pl_slot_get(c, v);
  return s && !pl_slot_unknown(c, s) ? pl_slot_resource(c, s, name) : NULL;
}

bool pl_value_unique(pl_context *c, pl_value v) {
  pl_slot *s = pl_slot_find(c, v);
  return s && s->refs == 1 && !(s->flags & (PL_FLAG_RESOURCE | PL_FLAG_BORROWED | PL_FLAG_TRACED)) &&
         s->buffer->refs == 1 && !s->buffer->release;
}

void pl_retain(pl_context *c, pl_value v) {
  pl_slot *s = pl_slot_find(c, v);
  if (s) s->refs++;
}

void pl_release(pl_context *c, pl_value v) {
  pl_slot *s = pl_slot_find(c, v);
  if (s && --s->refs == 0) pl_slot_free(c, s);
}

/* ---- making and reading ---- */

static bool make_spec(pl_context *c, pl_dtype dtype, int rank, const int64_t *shape, pl_spec *spec) {
  if (c->status) return false;
  if ((unsigned)dtype >= PL_DTYPES || rank < 0 || rank > PL_MAX_RANK) {
    pl_error(c, PL_ERROR_SHAPE, "a tensor of rank %d: the rank is 0 to %d", rank, PL_MAX_RANK);
    return false;
  }
  *spec = (pl_spec){dtype, rank, {0}};
  for (int i = 0; i < rank; i++) {
    if (shape[i] < 0 || shape[i] > INT32_MAX) {
      pl_error(c, PL_ERROR_SHAPE, "a dimension of size %lld: sizes are 0 to 2^31 - 1", (long long)shape[i]);
      return false;
    }
    spec->shape[i] = (int32_t)shape[i];
  }
  return true;
}

pl_value pl_tensor(pl_context *c, pl_dtype dtype, int rank, const int64_t *shape, const void *data) {
  pl_spec spec;
  if (!make_spec(c, dtype, rank, shape, &spec)) return PL_NONE;
  pl_value v = pl_value_new(c, &spec, NULL);
  if (v == PL_NONE) return v;
  pl_slot *s = pl_slot_find(c, v);
  size_t bytes = (size_t)s->count * pl_dtype_size(dtype);
  if (!bytes) return v;
  if (data) memcpy(s->data, data, bytes);
  else memset(s->data, 0, bytes);
  return v;
}

static void store(pl_dtype dtype, void *p, double x) {
  switch (dtype) {
    case PL_F64: *(double *)p = x; break;
    case PL_F32: *(float *)p = (float)x; break;
    case PL_I64: *(int64_t *)p = (int64_t)x; break;
    default: *(uint8_t *)p = x != 0;
  }
}

pl_value pl_scalar(pl_context *c, pl_dtype dtype, double x) {
  int64_t item;
  store(dtype, &item, x);
  return pl_tensor(c, dtype, 0, NULL, &item);
}

pl_value pl_constant(pl_context *c, pl_dtype dtype, double x) {
  if (c->status) return PL_NONE;
  uint64_t bits;
  memcpy(&bits, &x, 8);
  uint64_t h = (bits ^ (uint64_t)dtype) * 0x9e3779b97f4a7c15u;
  pl_constant_entry *e = &c->constants[h >> 56];
  if (e->value != PL_NONE && e->bits == bits && e->dtype == (int)dtype) return e->value;
  pl_scope *scope = c->scope;
  struct pl_tape *recording = c->recording;
  c->scope = NULL; /* it is the context's, not the recording's */
  c->recording = NULL;
  pl_value v = pl_scalar(c, dtype, x);
  c->scope = scope;
  c->recording = recording;
  if (v == PL_NONE) return v;
  /* The number that was here may be in use by the caller's next op: it dies with the entry after it. */
  pl_release(c, c->retired[c->n_retired & 15]);
  c->retired[c->n_retired++ & 15] = e->value;
  *e = (pl_constant_entry){bits, v, (int)dtype};
  pl_slot_find(c, v)->flags |= PL_FLAG_CONSTANT;
  return v;
}

pl_value pl_borrow(pl_context *c, pl_dtype dtype, int rank, const int64_t *shape, void *data, const uint64_t *version,
                   void (*release)(void *owner), void *owner) {
  pl_spec spec;
  pl_buffer *b = NULL;
  pl_slot *s = NULL;
  if (make_spec(c, dtype, rank, shape, &spec)) {
    int64_t count = pl_spec_count(&spec);
    size_t bytes = count < 0 ? 0 : (size_t)count * pl_dtype_size(dtype);
    if (count < 0) pl_error(c, PL_ERROR_SHAPE, "a tensor has at most 2^31 - 1 elements");
    else if ((uintptr_t)data % 64 || bytes % 64) {
      /* kernels need whole aligned vectors: such an array is copied */
      pl_value v = pl_tensor(c, dtype, rank, shape, data);
      if (v != PL_NONE && version) {
        pl_slot *t = pl_slot_find(c, v);
        t->buffer->version = version;
        t->buffer->seen = *version;
        t->buffer->release = release;
        t->buffer->owner = owner;
        t->flags |= PL_FLAG_BORROWED;
      } else if (release) {
        release(owner);
      }
      return v;
    } else if ((b = pl_memory_new(c, sizeof *b)) && (s = take_slot(c))) {
      *b = (pl_buffer){1, version, version ? *version : 0, release, owner};
      s->data = data;
      s->buffer = b;
      s->count = count;
      s->dtype = (uint8_t)dtype;
      s->rank = (uint8_t)rank;
      for (int i = 0; i < rank; i++) s->shape[i] = spec.shape[i];
      if (version) s->flags |= PL_FLAG_BORROWED;
      return born(c, s);
    }
  }
  pl_memory_free(c, b);
  if (release) release(owner);
  return PL_NONE;
}

pl_value pl_detach(pl_context *c, pl_value v) {
  pl_slot *s = pl_slot_get(c, v);
  if (!s || ((s->flags & PL_FLAG_BORROWED) && !pl_slot_check(c, s))) return PL_NONE; /* of a parameter: a constant */
  if (s->flags & PL_FLAG_RESOURCE) {
    pl_error(c, PL_ERROR_TYPE, "only tensors can be detached");
    return PL_NONE;
  }
  if (s->flags & PL_FLAG_TRACED) {
    c->read_unknown = true;
    pl_error(c, PL_ERROR_STATE,
             "detach copies a value out of a recording, but this function is traced and its values are not known yet: "
             "pl.stop_gradient(x) is the same number with no derivative");
    return PL_NONE;
  }
  pl_spec spec = {s->dtype, s->rank, {0}};
  memcpy(spec.shape, s->shape, sizeof spec.shape);
  pl_pause(c);
  pl_value d = s->flags & (PL_FLAG_BORROWED | PL_FLAG_LENT) ? pl_value_copy(c, &spec, s) : pl_value_new(c, &spec, s);
  pl_resume(c);
  return d;
}

bool pl_fresh(const pl_context *c, pl_value v) {
  pl_slot *s = pl_slot_find(c, v);
  return s && !((s->flags & PL_FLAG_BORROWED) && *s->buffer->version != s->buffer->seen);
}

bool pl_known(const pl_context *c, pl_value v) {
  pl_slot *s = pl_slot_find(c, v);
  return s && !(s->flags & PL_FLAG_TRACED);
}

int pl_dtype_of(const pl_context *c, pl_value v) {
  pl_slot *s = pl_slot_find(c, v);
  return s && !(s->flags & PL_FLAG_RESOURCE) ? s->dtype : -1;
}

bool pl_describe(pl_context *c, pl_value v, pl_info *info) {
  pl_slot *s = pl_slot_get(c, v);
  if (!s) return false;
  info->dtype = s->dtype;
  info->rank = s->rank;
  info->count = s->count;
  for (int i = 0; i < s->rank; i++) info->shape[i] = s->shape[i];
  info->resource = s->flags & PL_FLAG_RESOURCE;
  info->recorded = s->recording != 0 && c->recording && s->recording == c->recording->serial;
  return true;
}

const void *pl_data(pl_context *c, pl_value v) {
  pl_slot *s = pl_slot_get(c, v);
  if (!s || ((s->flags & PL_FLAG_BORROWED) && !pl_slot_check(c, s))) return NULL;
  if (pl_slot_unknown(c, s)) return NULL;
  if (s->flags & PL_FLAG_RESOURCE) {
    pl_error(c, PL_ERROR_TYPE, "a %s holds no numbers to read", ((pl_resource *)s->data)->name);
    return NULL;
  }
  return s->data;
}

double pl_item(pl_context *c, pl_value v) {
  const void *p = pl_data(c, v);
  if (!p) return NAN;
  pl_slot *s = pl_slot_find(c, v);
  if (s->count != 1) {
    char text[PL_TEXT];
    pl_error(c, PL_ERROR_SHAPE, "a tensor of shape %s is not one number", pl_shape_text(text, s->rank, s->shape));
    return NAN;
  }
  switch (s->dtype) {
    case PL_F64: return *(const double *)p;
    case PL_F32: return *(const float *)p;
    case PL_I64: return (double)*(const int64_t *)p;
    default: return *(const uint8_t *)p;
  }
}

/* At the context's end every value dies, whoever held it. Tensors first: resources may hold objects that hold values.
 */
void pl_values_free(pl_context *c) {
  for (int resources = 0; resources < 2; resources++)
    for (uint32_t i = 0; i < c->n_slots; i++) {
      pl_slot *s = pl_slot_at(c, i);
      if (s->handle && ((s->flags & PL_FLAG_RESOURCE) != 0) == resources) pl_slot_free(c, s);
    }
  for (uint32_t i = 0; i < c->n_chunks; i++) pl_memory_free(c, c->chunks[i]);
  pl_memory_free(c, c->chunks);
  c->n_slots = c->n_chunks = c->free_slot = 0;
}
