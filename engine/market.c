/* market.c: matrices in files of MatrixMarket (Boisvert, Pozo, Remington: The Matrix Market exchange formats, NISTIR
 * 5935, 1996). The file is not trusted: nothing is made room for because a header says so. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "op.h"
#include "pattern.h"
#include "sparse.h"

enum { LINE = 1025 }; /* the format's limit is 1,024 characters */
typedef enum { GENERAL, SYMMETRIC, SKEW } symmetry;

typedef struct {
  pl_context *c;
  FILE *file;
  const char *path;
  int64_t line;
  char text[LINE + 1];
  bool coordinates, pattern, integers;
  symmetry symmetry;
} reader;

static bool lie(const reader *r, const char *what) {
  pl_error(r->c, PL_ERROR_ARGUMENT, "%s, line %lld: %s", r->path, (long long)r->line, what);
  return false;
}
#define LIE(r, ...) (snprintf(message, sizeof message, __VA_ARGS__), lie(r, message))

static bool next_line(reader *r) {
  if (!fgets(r->text, sizeof r->text, r->file)) {
    if (ferror(r->file)) pl_error(r->c, PL_ERROR_ARGUMENT, "%s cannot be read: %s", r->path, strerror(errno));
    return false;
  }
  r->line++;
  if (strlen(r->text) >= LINE && r->text[LINE - 1] != '\n') return lie(r, "is longer than 1,024 characters");
  if (r->line % 4096 == 0 && pl_interrupted(r->c)) return false;
  return true;
}

/* The next line that is neither empty nor a comment. */
static bool next_data(reader *r) {
  while (next_line(r)) {
    const char *p = r->text + strspn(r->text, " \t\r\n");
    if (*p && *p != '%') return true;
  }
  return false;
}

static bool read_header(reader *r) {
  char message[300], banner[65] = "", object[65] = "", format[65] = "", field[65] = "", shape[65] = "", more[2];
  if (!next_line(r)) return r->c->status ? false : (pl_error(r->c, PL_ERROR_ARGUMENT, "%s is empty", r->path), false);
  int words = sscanf(r->text, "%64s %64s %64s %64s %64s %1s", banner, object, format, field, shape, more);
  if (words < 1 || strcasecmp(banner, "%%MatrixMarket"))
    return lie(r, "is no header of MatrixMarket, \"%%MatrixMarket matrix coordinate real general\"");
  if (words != 5) return lie(r, "the header has not the four words that follow %%MatrixMarket");
  if (strcasecmp(object, "matrix")) return LIE(r, "holds a %s, not a matrix", object);
  r->coordinates = !strcasecmp(format, "coordinate");
  if (!r->coordinates && strcasecmp(format, "array"))
    return LIE(r, "the format is \"%s\"; it is coordinate or array", format);
  if (!strcasecmp(field, "complex")) return lie(r, "complex matrices are not supported");
  r->pattern = !strcasecmp(field, "pattern");
  r->integers = !strcasecmp(field, "integer");
  if (!r->pattern && !r->integers && strcasecmp(field, "real") && strcasecmp(field, "double"))
    return LIE(r, "the field is \"%s\"; it is real, integer or pattern", field);
  if (r->pattern && !r->coordinates) return lie(r, "an array cannot be a pattern");
  static const char *const shapes[] = {"general", "symmetric", "skew-symmetric"};
  for (int k = 0; k < 3; k++)
    if (!strcasecmp(shape, shapes[k]))
      return r->symmetry = (symmetry)k, !(r->pattern && k == SKEW) || lie(r, "a pattern cannot be skew-symmetric");
  if (!strcasecmp(shape, "hermitian")) return lie(r, "hermitian matrices are not supported");
  return LIE(r, "the symmetry is \"%s\"; it is general, symmetric or skew-symmetric", shape);
}

/* Whole numbers at *text, which moves behind them. */
static bool read_whole(char **text, int64_t *out) {
  char *end;
  errno = 0;
  long long v = strtoll(*text, &end, 10);
  if (end == *text || errno || !strchr(" \t\r\n", *end)) return false;
  *text = end;
  *out = v;
  return true;
}
static bool read_number(char **text, double *out) {
  char *end;
  *out = strtod(*text, &end);
  if (end == *text || !strchr(" \t\r\n", *end)) return false;
  *text = end;
  return true;
}
static bool at_end(const char *text) { return !text[strspn(text, " \t\r\n")]; }

static bool read_sizes(reader *r, int n, int64_t *size) {
  char message[200];
  if (!next_data(r)) return r->c->status ? false : lie(r, "the file ends before its sizes");
  char *text = r->text;
  for (int k = 0; k < n; k++)
    if (!read_whole(&text, &size[k])) return LIE(r, "%d sizes are needed, whole numbers", n);
  if (!at_end(text)) return LIE(r, "there is more than %d sizes", n);
  for (int k = 0; k < 2; k++)
    if (size[k] < 0 || size[k] >= INT32_MAX)
      return LIE(r, "%lld is no number of %s: it is 0 to 2^31 - 2", (long long)size[k], k ? "columns" : "rows");
  if (r->symmetry != GENERAL && size[0] != size[1])
    return LIE(r, "a symmetric matrix is square, not %lld by %lld", (long long)size[0], (long long)size[1]);
  return true;
}

/* Columns of numbers that grow as they are read. */
typedef struct {
  int64_t *i, *j;
  double *v;
  int64_t n, room;
} entries;

static bool add_entry(pl_context *c, entries *e, int64_t i, int64_t j, double v) {
  if (e->n == e->room) {
    int64_t room = e->room ? 2 * e->room : 1024;
    int64_t *p = pl_memory_grow(c, e->i, (size_t)room * sizeof *p);
    if (p) e->i = p;
    int64_t *q = p ? pl_memory_grow(c, e->j, (size_t)room * sizeof *q) : NULL;
    if (q) e->j = q;
    double *w = q ? pl_memory_grow(c, e->v, (size_t)room * sizeof *w) : NULL;
    if (!w) return false;
    e->v = w;
    e->room = room;
  }
  e->i[e->n] = i;
  e->j[e->n] = j;
  e->v[e->n++] = v;
  return true;
}

static bool read_entries(reader *r, const int64_t *size, entries *e) {
  char message[200];
  if (size[2] < 0) return LIE(r, "%lld is no number of entries", (long long)size[2]);
  for (int64_t k = 0; k < size[2]; k++) {
    int64_t i, j;
    double v = 1;
    if (!next_data(r))
      return r->c->status ? false
                          : LIE(r, "the file ends after %lld of %lld entries", (long long)k, (long long)size[2]);
    char *text = r->text;
    if (!read_whole(&text, &i) || !read_whole(&text, &j)) return lie(r, "a row and a column are needed, whole numbers");
    if (!r->pattern && !read_number(&text, &v)) return lie(r, "the value is no number");
    if (!at_end(text)) return lie(r, "there is more than an entry");
    if (i < 1 || i > size[0] || j < 1 || j > size[1])
      return LIE(r, "entry (%lld, %lld) is outside of a matrix {%lld, %lld}", (long long)i, (long long)j,
                 (long long)size[0], (long long)size[1]);
    if (r->integers && v != floor(v)) return lie(r, "the value is no whole number");
    if (r->symmetry != GENERAL && (j > i || (r->symmetry == SKEW && i == j)))
      return LIE(r, "entry (%lld, %lld) of a symmetric matrix is not %s the diagonal", (long long)i, (long long)j,
                 r->symmetry == SKEW ? "below" : "on or below");
    if (!add_entry(r->c, e, i, j, v)) return false;
    if (r->symmetry != GENERAL && i != j && !add_entry(r->c, e, j, i, r->symmetry == SKEW ? -v : v)) return false;
  }
  return next_data(r) ? LIE(r, "there are more than the %lld entries announced", (long long)size[2]) : !r->c->status;
}

static bool read_coordinates(reader *r, pl_sparse *a) {
  pl_context *c = r->c;
  int64_t size[3];
  entries e = {NULL, NULL, NULL, 0, 0};
  bool ok = read_sizes(r, 3, size) && read_entries(r, size, &e);
  if (ok) {
    bool alone = pl_temporaries_begin(c);
    pl_value i = pl_tensor(c, PL_I64, 1, &e.n, e.i), j = pl_tensor(c, PL_I64, 1, &e.n, e.j),
             v = pl_tensor(c, PL_F64, 1, &e.n, e.v);
    *a = pl_sparse_triplets(c, i, j, v, size[0], size[1]);
    pl_temporaries_end(c, alone, a->pattern ? a->values : PL_NONE);
  }
  pl_memory_free(c, e.i);
  pl_memory_free(c, e.j);
  pl_memory_free(c, e.v);
  return ok && a->pattern;
}

/* Columns one after another; below the diagonal only, where the matrix is symmetric. */
static bool read_array(reader *r, pl_value *dense) {
  pl_context *c = r->c;
  char message[200];
  int64_t size[2];
  if (!read_sizes(r, 2, size)) return false;
  entries e = {NULL, NULL, NULL, 0, 0};
  bool ok = true;
  for (int64_t j = 0; ok && j < size[1]; j++)
    for (int64_t i = r->symmetry == GENERAL ? 0 : r->symmetry == SYMMETRIC ? j : j + 1; ok && i < size[0]; i++) {
      double v;
      if (!next_data(r)) {
        ok = !c->status && LIE(r, "the file ends within column %lld of %lld", (long long)j + 1, (long long)size[1]);
        break;
      }
      char *text = r->text;
      if (!read_number(&text, &v) || !at_end(text)) ok = lie(r, "one number is needed");
      else if (r->integers && v != floor(v)) ok = lie(r, "the value is no whole number");
      else ok = add_entry(c, &e, i, j, v);
    }
  if (ok && next_data(r)) ok = lie(r, "there are more numbers than the matrix has");
  pl_value t = ok && !c->status ? pl_tensor(c, PL_F64, 2, size, NULL) : PL_NONE;
  pl_slot *s = t == PL_NONE ? NULL : pl_slot_get(c, t);
  for (int64_t k = 0; s && k < e.n; k++) {
    double *x = s->data;
    x[e.i[k] * size[1] + e.j[k]] = e.v[k];
    if (r->symmetry != GENERAL) x[e.j[k] * size[1] + e.i[k]] = r->symmetry == SKEW ? -e.v[k] : e.v[k];
  }
  pl_memory_free(c, e.i);
  pl_memory_free(c, e.j);
  pl_memory_free(c, e.v);
  return (*dense = t) != PL_NONE;
}

static FILE *open_file(pl_context *c, const char *path, const char *mode) {
  FILE *file = c->status ? NULL : fopen(path, mode);
  if (!file && !c->status)
    pl_error(c, PL_ERROR_ARGUMENT, "%s cannot be %s: %s", path, *mode == 'r' ? "opened" : "written", strerror(errno));
  return file;
}

bool pl_sparse_load(pl_context *c, const char *path, pl_sparse *a, pl_value *dense) {
  *a = (pl_sparse){NULL, PL_NONE};
  *dense = PL_NONE;
  reader r = {.c = c, .file = open_file(c, path, "r"), .path = path};
  if (!r.file) return false;
  bool ok = read_header(&r) && (r.coordinates ? read_coordinates(&r, a) : read_array(&r, dense));
  fclose(r.file);
  return ok;
}

/* The data of a tensor of floats. */
static const void *floats(pl_context *c, pl_value v, pl_info *info) {
  const void *data = pl_describe(c, v, info) ? pl_data(c, v) : NULL;
  if (data && info->dtype != PL_F64 && info->dtype != PL_F32) {
    pl_error(c, PL_ERROR_TYPE, "a matrix of f64 or f32 is saved, not of %s", pl_dtype_name(info->dtype));
    return NULL;
  }
  return data;
}
static void write_number(FILE *file, pl_dtype dtype, const void *data, int64_t k) {
  if (dtype == PL_F64) fprintf(file, "%.17g\n", ((const double *)data)[k]);
  else fprintf(file, "%.9g\n", (double)((const float *)data)[k]);
}
static bool close_file(pl_context *c, FILE *file, const char *path) {
  bool bad = ferror(file);
  if ((fclose(file) || bad) && !c->status)
    pl_error(c, PL_ERROR_ARGUMENT, "%s cannot be written: %s", path, strerror(errno));
  return !c->status;
}

bool pl_sparse_save(pl_context *c, const char *path, pl_sparse a) {
  const pl_pattern *p = (pl_pattern *)a.pattern;
  pl_info info;
  const void *data = floats(c, a.values, &info);
  FILE *file = data ? open_file(c, path, "w") : NULL;
  if (!file) return false;
  fprintf(file, "%%%%MatrixMarket matrix coordinate real general\n%d %d %d\n", p->rows, p->cols, p->nnz);
  for (int32_t i = 0; i < p->rows && !pl_interrupted(c); i++)
    for (int32_t k = p->row_ptr[i]; k < p->row_ptr[i + 1]; k++) {
      fprintf(file, "%d %d ", i + 1, p->col[k] + 1);
      write_number(file, info.dtype, data, k);
    }
  return close_file(c, file, path);
}

bool pl_sparse_save_dense(pl_context *c, const char *path, pl_value matrix) {
  pl_info info;
  const void *data = floats(c, matrix, &info);
  if (data && info.rank != 2) {
    pl_error(c, PL_ERROR_SHAPE, "save: a matrix is needed, not a tensor with %d axes", info.rank);
    return false;
  }
  FILE *file = data ? open_file(c, path, "w") : NULL;
  if (!file) return false;
  fprintf(file, "%%%%MatrixMarket matrix array real general\n%lld %lld\n", (long long)info.shape[0],
          (long long)info.shape[1]);
  for (int64_t j = 0; j < info.shape[1] && !pl_interrupted(c); j++)
    for (int64_t i = 0; i < info.shape[0]; i++) write_number(file, info.dtype, data, i * info.shape[1] + j);
  return close_file(c, file, path);
}
