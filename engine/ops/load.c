/* load.c: ops from C files (kernels/perilune_op.h): compiled into a shared object in the user's cache, named by the
 * hash of what goes into it. An elementwise op becomes elementwise rows: itself, its partial derivatives and, where the
 * file gives them, those of second order; so it is fused, broadcast and run on threads like a built-in one. An op on
 * whole arrays is one of host.c, whose rules call the file's functions. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "user.h"

extern char **environ;
extern const struct pl_text { const char *name, *text; } pl_texts[]; /* the headers */

enum { PATH = 1024, HEX = 33, MOST_INPUTS = 6, ARGUMENTS = 48 };
enum { MOST_SECOND = MOST_INPUTS * (MOST_INPUTS + 1) / 2, MOST_FILE = 1 << 24 };
enum { PARTIAL = 1, SECOND = PARTIAL + MOST_INPUTS, ROWS = SECOND + MOST_SECOND }; /* rows of an elementwise op */

/* As in perilune_op.h. */
typedef struct {
  const char *name, *formula;
  int inputs, array;
} file_op;
typedef struct {
  void *data;
  int64_t count;
  const int64_t *shape;
  int32_t rank;
} array;
typedef void (*array_forward)(const array *x, const array *y);
typedef void (*array_rule)(const array *seeds, const array *y, const array *x, const array *results);

/* ---- the compiler ---- */

static void hex_of(char *hex, uint64_t seed, const char *const *parts) {
  uint64_t a = seed, b = ~seed;
  for (; *parts; parts++) {
    size_t n = strlen(*parts);
    a = pl_hash(a + n, *parts, n);
    b = pl_hash(b * 31 + n, *parts, n);
  }
  snprintf(hex, HEX, "%016llx%016llx", (unsigned long long)a, (unsigned long long)b);
}

static const char *const flags[] = {"-std=gnu11",
                                    "-O3",
                                    "-fPIC",
                                    "-fvisibility=hidden",
                                    "-fno-math-errno",
                                    "-fwrapv",
                                    "-fno-trapping-math",
                                    "-ffp-contract=off",
                                    "-fopenmp-simd",
                                    "-DNDEBUG",
                                    NULL};
static const char *const machine[][3] = {
    {NULL}, {"-march=x86-64-v3", NULL}, {"-march=x86-64-v4", "-mprefer-vector-width=512", NULL}};

/* The text of a file, to be freed; NULL, and the error set, when it cannot be read. */
static char *read_file(pl_context *c, const char *path) {
  FILE *f = fopen(path, "rb");
  struct stat s;
  char *text = NULL;
  if (!f || fstat(fileno(f), &s)) {
    pl_error(c, PL_ERROR_ARGUMENT, "cannot read %s: %s", path, strerror(errno));
  } else if (!S_ISREG(s.st_mode) || s.st_size > MOST_FILE) {
    pl_error(c, PL_ERROR_ARGUMENT, "%s is no C file", path);
  } else if (!(text = calloc(1, (size_t)s.st_size + 1)) || fread(text, 1, (size_t)s.st_size, f) != (size_t)s.st_size) {
    pl_error(c, PL_ERROR_ARGUMENT, "cannot read %s", path);
    free(text);
    text = NULL;
  }
  if (f) fclose(f);
  return text;
}

static bool write_file(const char *path, const char *text) {
  FILE *f = fopen(path, "wb");
  if (!f) return false;
  bool ok = fputs(text, f) >= 0;
  return fclose(f) == 0 && ok;
}

/* The folder of compiled ops, made where it is missing. Code is loaded from it: it must be the user's alone. */
static bool cache_folder(pl_context *c, char *path) {
  const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
  int n = base && *base == '/'   ? snprintf(path, PATH, "%s/perilune/ops", base)
          : home && *home == '/' ? snprintf(path, PATH, "%s/.cache/perilune/ops", home)
                                 : 0;
  if (n <= 0 || n >= PATH - 128) {
    pl_error(c, PL_ERROR_STATE, "there is no place for compiled ops: set XDG_CACHE_HOME or HOME to a folder");
    return false;
  }
  for (char *p = path + 1;; p++) {
    if (*p && *p != '/') continue;
    char end = *p;
    *p = 0;
    bool made = mkdir(path, 0700) == 0 || errno == EEXIST || errno == EISDIR;
    if (!made) pl_error(c, PL_ERROR_STATE, "cannot make the folder %s for compiled ops: %s", path, strerror(errno));
    *p = end;
    if (!made) return false;
    if (!end) break;
  }
  struct stat s;
  if (stat(path, &s) || s.st_uid != geteuid() || s.st_mode & 022) {
    pl_error(c, PL_ERROR_STATE, "the folder %s for compiled ops must belong to you, and others must not write to it",
             path);
    return false;
  }
  return true;
}

/* Runs a command with its output in a file. 0: it succeeded, else its status, or -1 when it cannot be run. */
static int command(char *const *arguments, const char *log) {
  posix_spawn_file_actions_t files;
  if (posix_spawn_file_actions_init(&files)) return -1;
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 1, log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&files, 1, 2);
  pid_t child;
  int status = posix_spawnp(&child, arguments[0], &files, NULL, arguments, environ);
  posix_spawn_file_actions_destroy(&files);
  if (status) return -1;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

typedef struct {
  char folder[PATH], compiler[PATH];
  char *words[ARGUMENTS]; /* of the command; the first are the compiler's */
  int n_words;
} build;

static bool word(build *b, const char *text) {
  if (b->n_words == ARGUMENTS - 1) return false;
  b->words[b->n_words++] = (char *)text;
  b->words[b->n_words] = NULL;
  return true;
}

static bool run_compiler(pl_context *c, build *b, const char *source) {
  char log[PATH + 16];
  snprintf(log, sizeof log, "%s/log", b->folder);
  int status = command(b->words, log);
  if (status == 0) return true;
  if (status < 0 || status == 127) {
    pl_error(c, PL_ERROR_STATE, "%s cannot be compiled: the C compiler %s is not found; install one, or name one in CC",
             source, b->words[0]);
    return false;
  }
  char text[900] = "";
  FILE *f = fopen(log, "rb");
  size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
  if (f) fclose(f);
  while (n && text[n - 1] == '\n') n--;
  text[n] = 0;
  pl_error(c, PL_ERROR_ARGUMENT, "%s does not compile:\n%s", source, n ? text : "(the compiler says nothing)");
  return false;
}

static bool compile(pl_context *c, build *b, const char *path, const char *target) {
  char include[PATH + 8], object[2][PATH + 16], shared[PATH + 16], name[PATH + 64];
  const char *const types[] = {"double", "float"}, *const dtypes[] = {"f64", "f32"};
  snprintf(b->compiler, sizeof b->compiler, "%s", getenv("CC") && *getenv("CC") ? getenv("CC") : "cc");
  char *rest = NULL;
  b->n_words = 0;
  for (char *w = strtok_r(b->compiler, " ", &rest); w; w = strtok_r(NULL, " ", &rest))
    if (!word(b, w)) break;
  int first = b->n_words;
  if (first < 1 || first > ARGUMENTS - 32) {
    pl_error(c, PL_ERROR_ARGUMENT, "CC does not name a compiler");
    return false;
  }
  for (const struct pl_text *t = pl_texts; t->name; t++) {
    snprintf(name, sizeof name, "%s/%s", b->folder, t->name);
    if (write_file(name, t->text)) continue;
    pl_error(c, PL_ERROR_STATE, "cannot write %s: %s", name, strerror(errno));
    return false;
  }
  snprintf(include, sizeof include, "-I%s", b->folder);
  for (int d = 0; d < 2; d++) {
    char real[32], dtype[32], id[32];
    snprintf(real, sizeof real, "-DPL_REAL=%s", types[d]);
    snprintf(dtype, sizeof dtype, "-DPL_DTYPE=%s", dtypes[d]);
    snprintf(id, sizeof id, "-DPL_DTYPE_ID=%d", d);
    snprintf(object[d], sizeof object[d], "%s/%s.o", b->folder, dtypes[d]);
    snprintf(name, sizeof name, "%s%s", *path == '-' ? "./" : "", path);
    b->n_words = first;
    for (int i = 0; flags[i]; i++) word(b, flags[i]);
    for (int i = 0; machine[pl_isa()][i]; i++) word(b, machine[pl_isa()][i]);
    const char *const more[] = {real, dtype, id,   "-DPL_ISA=file", "-DPL_ISA_ID=0", include, "-x", "c",
                                "-c", name,  "-o", object[d]};
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) word(b, more[i]);
    if (!run_compiler(c, b, path)) return false;
  }
  snprintf(shared, sizeof shared, "%s/op.so", b->folder);
  b->n_words = first;
  const char *const link[] = {"-shared", "-o", shared, object[0], object[1], "-lm"};
  for (size_t i = 0; i < sizeof link / sizeof *link; i++) word(b, link[i]);
  if (!run_compiler(c, b, path)) return false;
  if (rename(shared, target) == 0) return true;
  pl_error(c, PL_ERROR_STATE, "cannot write %s: %s", target, strerror(errno));
  return false;
}

static bool compile_in(pl_context *c, const char *cache, const char *path, const char *target) {
  build b;
  snprintf(b.folder, sizeof b.folder, "%.*s/.build-XXXXXX", PATH - 32, cache);
  if (!mkdtemp(b.folder)) {
    pl_error(c, PL_ERROR_STATE, "cannot write to %s: %s", cache, strerror(errno));
    return false;
  }
  bool ok = compile(c, &b, path, target);
  char name[PATH + 64];
  const char *const left[] = {"log", "f64.o", "f32.o", "op.so"};
  for (size_t i = 0; i < sizeof left / sizeof *left; i++) {
    snprintf(name, sizeof name, "%s/%s", b.folder, left[i]);
    unlink(name);
  }
  for (const struct pl_text *t = pl_texts; t->name; t++) {
    snprintf(name, sizeof name, "%s/%s", b.folder, t->name);
    unlink(name);
  }
  rmdir(b.folder);
  return ok;
}

/* ---- elementwise ---- */

typedef struct {
  pl_user_op base;
  void *library;
  int n;
  char identity[64 + 1 + HEX];
  pl_op rows[ROWS]; /* the op, its partial derivatives, and theirs */
  char names[ROWS][72];
} loaded;

static const loaded *loaded_of(const pl_op *op) { return (const loaded *)op->user; }

/* dy/dx_k of the op, or the second derivative with j behind a partial k. */
static const pl_op *slope(pl_context *c, const pl_op *op, int k) {
  const loaded *u = loaded_of(op);
  const pl_op *d = NULL;
  const char *order = "third";
  if (op == u->rows) {
    d = &u->rows[PARTIAL + k];
    if (!d->fn[PL_F64])
      pl_error(c, PL_ERROR_TYPE, "op %s has no derivative: its C file gives none; add PL_PARTIALS { d[0] = ...; }",
               op->name);
    return d->fn[PL_F64] ? d : NULL;
  }
  if (op < u->rows + SECOND) {
    int i = (int)(op - u->rows) - PARTIAL;
    d = &u->rows[SECOND + (i > k ? i * (i + 1) / 2 + k : k * (k + 1) / 2 + i)];
    if (d->fn[PL_F64]) return d;
    order = "second";
  }
  pl_error(c, PL_ERROR_TYPE, "the C file of op %s does not give its %s derivative%s", u->rows[0].name, order,
           *order == 's' ? "; add PL_SECOND { h[0][0] = ...; }" : "");
  return NULL;
}

/* A partial derivative reads x.. and y; the second derivatives are total ones, y being a function of x. */
static pl_value slope_at(pl_context *c, const pl_op *op, int k, const pl_value *in, pl_value out) {
  int n = loaded_of(op)->n;
  const pl_op *d = slope(c, op, k);
  pl_value args[MOST_INPUTS + 1];
  memcpy(args, in, (size_t)n * sizeof *args);
  args[n] = op->inputs > n ? in[n] : out;
  return d ? pl_apply1(c, d, n + 1, args, NULL) : PL_NONE;
}

static void loaded_vjp(pl_vjp *v) {
  int n = loaded_of(v->op)->n;
  for (int k = 0; k < n && v->c->status == PL_OK; k++)
    if (v->need[k]) pl_vjp_give(v, k, pl_chain(v->c, v->g[0], slope_at(v->c, v->op, k, v->in, v->out[0])));
}

static void loaded_jvp(pl_jvp *j) {
  int n = loaded_of(j->op)->n;
  pl_value sum = PL_ZERO;
  for (int k = 0; k < n && j->c->status == PL_OK; k++)
    if (j->t[k] != PL_ZERO)
      sum = pl_plus(j->c, sum, pl_chain(j->c, j->t[k], slope_at(j->c, j->op, k, j->in, j->out[0])));
  j->dt[0] = sum;
}

static void free_loaded(pl_context *c, pl_user_op *op) {
  loaded *u = (loaded *)op;
  dlclose(u->library);
  pl_memory_free(c, u);
}

static pl_op row_of(loaded *u, char *name, const char *formula, int inputs, pl_kernel f64, pl_kernel f32) {
  return (pl_op){.name = name,
                 .formula = formula,
                 .kind = PL_ELEMENTWISE,
                 .inputs = (int8_t)inputs,
                 .outputs = 1,
                 .dtypes = PL_FLOATS,
                 .result = -1,
                 .internal = name != u->names[0],
                 .vjp = loaded_vjp,
                 .jvp = loaded_jvp,
                 .fn = {[PL_F64] = f64, [PL_F32] = f32},
                 .user = &u->base};
}

static pl_user_op *load_elementwise(pl_context *c, void *library, const file_op *op, const char *hash) {
  const pl_kernel *f64 = dlsym(library, "pl_forward_f64"), *f32 = dlsym(library, "pl_forward_f32");
  if (!f64 || !f32 || op->inputs < 1 || op->inputs > MOST_INPUTS) {
    pl_error(c, PL_ERROR_ARGUMENT, "op %s: its C file has no PL_FORWARD { return ...; }", op->name);
    return NULL;
  }
  loaded *u = pl_memory_new(c, sizeof *u);
  if (!u) return NULL;
  memset(u, 0, sizeof *u);
  u->library = library;
  u->n = op->inputs;
  snprintf(u->identity, sizeof u->identity, "%.63s#%s", op->name, hash);
  char(*name)[72] = u->names;
  snprintf(*name, sizeof *name, "%.63s", op->name);
  u->rows[0] = row_of(u, *name++, op->formula, u->n, *f64, *f32);
  const pl_kernel *d64 = dlsym(library, "pl_partial_f64"), *d32 = dlsym(library, "pl_partial_f32");
  const pl_kernel *h64 = dlsym(library, "pl_second_f64"), *h32 = dlsym(library, "pl_second_f32");
  for (int k = 0; k < u->n; k++) {
    snprintf(*name, sizeof *name, "%.50s.d%d", op->name, k + 1);
    u->rows[PARTIAL + k] = row_of(u, *name++, op->formula, u->n + 1, d64 ? d64[k] : NULL, d32 ? d32[k] : NULL);
    for (int j = 0; j <= k; j++) {
      int i = k * (k + 1) / 2 + j;
      snprintf(*name, sizeof *name, "%.40s.d%d%d", op->name, k + 1, j + 1);
      u->rows[SECOND + i] = row_of(u, *name++, op->formula, u->n + 1, h64 ? h64[i] : NULL, h32 ? h32[i] : NULL);
    }
  }
  u->base = (pl_user_op){.op = u->rows, .n_rows = ROWS, .identity = u->identity, .free = free_loaded};
  pl_user_op_add(c, &u->base);
  return &u->base;
}

/* ---- whole arrays ---- */

typedef struct {
  void *library;
  bool defined;
  array_forward forward[2];
  array_rule vjp[2], jvp[2];
  char identity[64 + 1 + HEX];
} arrays;

static void free_arrays(void *data) {
  arrays *u = data;
  if (u->defined) dlclose(u->library); /* else whoever opened it does */
  free(u);
}

static bool array_of(pl_context *c, pl_value v, pl_info *info, array *a) {
  const void *data = pl_data(c, v);
  if (!data || !pl_describe(c, v, info)) return false;
  *a = (array){(void *)data, info->count, info->shape, info->rank};
  return true;
}

enum { MOST_ARRAYS = 2 * PL_USER_INPUTS + 2 };

static bool array_call(const pl_rule *r, const pl_value *in, pl_value *out, int seeds, const array_rule *rule) {
  const arrays *u = r->data;
  pl_info info[MOST_ARRAYS], result_info[PL_USER_INPUTS];
  array a[MOST_ARRAYS], results[PL_USER_INPUTS];
  int d = r->expected[0].dtype == PL_F32;
  for (int i = 0; i < r->n_in; i++)
    if (!array_of(r->c, in[i], &info[i], &a[i])) return false;
  for (int k = 0; k < r->n_out; k++) {
    out[k] = pl_tensor(r->c, r->expected[k].dtype, r->expected[k].rank, r->expected[k].shape, NULL);
    if (out[k] != PL_NONE && array_of(r->c, out[k], &result_info[k], &results[k])) continue;
    for (int j = 0; j <= k; j++) pl_release(r->c, out[j]);
    return false;
  }
  if (rule) rule[d](a, a + seeds, a + seeds + 1, results);
  else u->forward[d](a, results);
  return true;
}
static bool run_array(const pl_rule *r, const pl_value *in, pl_value *out) { return array_call(r, in, out, 0, NULL); }
static bool run_array_vjp(const pl_rule *r, const pl_value *in, pl_value *out) {
  return array_call(r, in, out, 1, ((const arrays *)r->data)->vjp);
}
static bool run_array_jvp(const pl_rule *r, const pl_value *in, pl_value *out) {
  return array_call(r, in, out, (r->n_in - 1) / 2, ((const arrays *)r->data)->jvp);
}

static pl_user_op *load_arrays(pl_context *c, void *library, const file_op *op, const char *hash) {
  arrays *u = calloc(1, sizeof *u);
  if (!u) {
    pl_error(c, PL_ERROR_MEMORY, "out of memory");
    return NULL;
  }
  u->library = library;
  const char *const dtypes[] = {"f64", "f32"};
  for (int d = 0; d < 2; d++) {
    char name[32];
    snprintf(name, sizeof name, "pl_array_forward_%s", dtypes[d]);
    u->forward[d] = (array_forward)dlsym(library, name);
    snprintf(name, sizeof name, "pl_array_vjp_%s", dtypes[d]);
    u->vjp[d] = (array_rule)dlsym(library, name);
    snprintf(name, sizeof name, "pl_array_jvp_%s", dtypes[d]);
    u->jvp[d] = (array_rule)dlsym(library, name);
  }
  if (!u->forward[0] || !u->forward[1]) {
    pl_error(c, PL_ERROR_ARGUMENT, "op %s: its C file has no PL_ARRAY_FORWARD { ... }", op->name);
    free_arrays(u);
    return NULL;
  }
  snprintf(u->identity, sizeof u->identity, "%.63s#%s", op->name, hash);
  const pl_op *made = pl_op_define(c, &(pl_op_definition){.name = op->name,
                                                          .formula = op->formula,
                                                          .inputs = op->inputs,
                                                          .outputs = 1,
                                                          .floats = true,
                                                          .data = u,
                                                          .release = free_arrays,
                                                          .forward = run_array,
                                                          .vjp = u->vjp[0] ? run_array_vjp : NULL,
                                                          .jvp = u->jvp[0] ? run_array_jvp : NULL});
  if (!made) return NULL; /* and what it held is gone */
  u->defined = true;
  made->user->identity = u->identity;
  return made->user;
}

/* ---- loading ---- */

static const pl_op *load_library(pl_context *c, const char *file, const char *path, const char *hash) {
  void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    pl_error(c, PL_ERROR_ARGUMENT, "%s cannot be loaded: %.700s", path, dlerror());
    return NULL;
  }
  const file_op *op = dlsym(library, "pl_file");
  pl_user_op *u = NULL;
  if (!op || !op->name || !op->formula)
    pl_error(c, PL_ERROR_ARGUMENT, "%s defines no op: it needs PL_OP(name, formula, inputs)", path);
  else if (pl_user_op_name(c, op->name))
    u = op->array ? load_arrays(c, library, op, hash) : load_elementwise(c, library, op, hash);
  if (!u) dlclose(library);
  return u ? u->op : NULL;
}

const pl_op *pl_op_load(pl_context *c, const char *path) {
  if (c->status) return NULL;
  char cache[PATH], target[PATH + HEX + 8], hash[HEX], key[HEX];
  const char *parts[16];
  int n = 0;
  char *text = read_file(c, path);
  if (!text) return NULL;
  parts[n++] = text;
  for (const struct pl_text *t = pl_texts; t->name; t++) parts[n++] = t->text;
  parts[n] = NULL;
  hex_of(hash, 1, parts);
  free(text);
  for (const pl_user_op *u = c->user_ops; u; u = u->next) {
    const char *at = strchr(u->identity, '#');
    if (at && !strcmp(at + 1, hash)) return u->op;
  }
  if (!cache_folder(c, cache)) return NULL;
  n = 0;
  parts[n++] = hash;
  const char *all[sizeof flags / sizeof *flags + 4];
  memcpy(all, parts, sizeof *all);
  for (int i = 0; flags[i]; i++) all[n++] = flags[i];
  for (int i = 0; machine[pl_isa()][i]; i++) all[n++] = machine[pl_isa()][i];
  all[n] = NULL;
  hex_of(key, 2, all);
  snprintf(target, sizeof target, "%s/%s.so", cache, key);
  if (access(target, R_OK) && !compile_in(c, cache, path, target)) return NULL;
  return load_library(c, target, path, hash);
}
