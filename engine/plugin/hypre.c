/* hypre.c: BoomerAMG of the hypre library (V. E. Henson and U. M. Yang, Applied Numerical Mathematics 41, 2002), one V
 * cycle as a preconditioner. The library is opened when it is asked for, and Open MPI with it, which hypre is built on:
 * it is started for this process alone, unless somebody has. What these two do in memory is not counted, and they do
 * not answer interrupts. */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "../solve/precondition.h"

/* hypre's and MPI's handles are pointers; its integers are int32_t, as by default. */
typedef struct {
  int (*mpi_initialized)(int *), (*mpi_finalized)(int *), (*mpi_init)(int *, char ***), (*mpi_finalize)(void);
  int (*init)(void), (*clear_errors)(void);
  int (*matrix_create)(void *, int, int, int, int, void **), (*matrix_type)(void *, int), (*matrix_start)(void *);
  int (*matrix_set)(void *, int, int *, const int *, const int *, const double *), (*matrix_assemble)(void *);
  int (*matrix_object)(void *, void **), (*matrix_destroy)(void *);
  int (*vector_create)(void *, int, int, void **), (*vector_type)(void *, int), (*vector_start)(void *);
  int (*vector_set)(void *, int, const int *, const double *), (*vector_assemble)(void *);
  int (*vector_get)(void *, int, const int *, double *), (*vector_object)(void *, void **), (*vector_destroy)(void *);
  int (*amg_create)(void **), (*amg_tolerance)(void *, double), (*amg_iterations)(void *, int);
  int (*amg_print)(void *, int), (*amg_setup)(void *, void *, void *, void *);
  int (*amg_solve)(void *, void *, void *, void *), (*amg_solve_transpose)(void *, void *, void *, void *);
  int (*amg_destroy)(void *);
} functions;
static const char *const symbols[] = {"MPI_Initialized",
                                      "MPI_Finalized",
                                      "MPI_Init",
                                      "MPI_Finalize",
                                      "HYPRE_Init",
                                      "HYPRE_ClearAllErrors",
                                      "HYPRE_IJMatrixCreate",
                                      "HYPRE_IJMatrixSetObjectType",
                                      "HYPRE_IJMatrixInitialize",
                                      "HYPRE_IJMatrixSetValues",
                                      "HYPRE_IJMatrixAssemble",
                                      "HYPRE_IJMatrixGetObject",
                                      "HYPRE_IJMatrixDestroy",
                                      "HYPRE_IJVectorCreate",
                                      "HYPRE_IJVectorSetObjectType",
                                      "HYPRE_IJVectorInitialize",
                                      "HYPRE_IJVectorSetValues",
                                      "HYPRE_IJVectorAssemble",
                                      "HYPRE_IJVectorGetValues",
                                      "HYPRE_IJVectorGetObject",
                                      "HYPRE_IJVectorDestroy",
                                      "HYPRE_BoomerAMGCreate",
                                      "HYPRE_BoomerAMGSetTol",
                                      "HYPRE_BoomerAMGSetMaxIter",
                                      "HYPRE_BoomerAMGSetPrintLevel",
                                      "HYPRE_BoomerAMGSetup",
                                      "HYPRE_BoomerAMGSolve",
                                      "HYPRE_BoomerAMGSolveT",
                                      "HYPRE_BoomerAMGDestroy"};
enum { SYMBOLS = sizeof symbols / sizeof *symbols, PARCSR = 5555 };
_Static_assert(sizeof(functions) == SYMBOLS * sizeof(void *), "one symbol a function");

typedef struct {
  pl_preconditioner base;
  functions f;
  void *matrix, *solver, *vectors[2]; /* IJ objects; r and z */
  void *parallel, *parts[2];          /* ParCSR objects that belong to them */
  int32_t *rows;
} boomer;

static bool open_library(pl_context *c, functions *f, void **self) {
  const char *given = getenv("PERILUNE_HYPRE");
  const char *const names[] = {given ? given : "libHYPRE.so", "libHYPRE-2.32.0.so", "libHYPRE-2.28.0.so",
                               "libHYPRE-2.26.0.so"};
  void *library = NULL;
  for (int i = 0; i < (given ? 1 : 4) && !library; i++) library = dlopen(names[i], RTLD_NOW | RTLD_GLOBAL);
  if (!library) {
    pl_error(
        c, PL_ERROR_STATE,
        "hypre cannot be opened (%s): install it (Debian: libhypre-dev), say where it is in the environment variable "
        "PERILUNE_HYPRE, or take \"multigrid\", which is Perilune's own",
        dlerror());
    return false;
  }
  void **to = (void **)f;
  for (int i = 0; i < SYMBOLS; i++)
    if (!(to[i] = dlsym(library, symbols[i]))) {
      pl_error(c, PL_ERROR_STATE, "hypre has no %s: another version is needed", symbols[i]);
      return false;
    }
  if (!(*self = dlsym(library, "ompi_mpi_comm_self"))) {
    pl_error(c, PL_ERROR_STATE, "hypre is built on another MPI than Open MPI: take \"multigrid\"");
    return false;
  }
  int started = 0, ended = 0;
  f->mpi_initialized(&started);
  if (started) f->mpi_finalized(&ended);
  if (ended) {
    pl_error(c, PL_ERROR_STATE, "hypre: MPI has been ended");
    return false;
  }
  if (!started) {
    setenv("OMPI_MCA_ess_singleton_isolated", "1", 0); /* no daemon for a process alone */
    if (f->mpi_init(NULL, NULL)) {
      pl_error(c, PL_ERROR_STATE, "hypre: MPI cannot be started");
      return false;
    }
    atexit((void (*)(void))f->mpi_finalize);
  }
  f->init();
  return true;
}

static void destroy(pl_context *c, pl_resource *r) {
  boomer *m = (boomer *)r;
  int ended = 0;
  if (m->f.mpi_finalized) m->f.mpi_finalized(&ended);
  if (!ended) {
    if (m->solver) m->f.amg_destroy(m->solver);
    for (int i = 0; i < 2; i++)
      if (m->vectors[i]) m->f.vector_destroy(m->vectors[i]);
    if (m->matrix) m->f.matrix_destroy(m->matrix);
  }
  pl_memory_free(c, m->rows);
  pl_memory_free(c, m);
}

static void apply(pl_context *c, pl_preconditioner *base, bool transpose, const double *r, double *z) {
  boomer *m = (boomer *)base;
  (void)c;
  memset(z, 0, (size_t)base->n * sizeof *z);
  m->f.vector_set(m->vectors[0], base->n, m->rows, r);
  m->f.vector_set(m->vectors[1], base->n, m->rows, z);
  (transpose ? m->f.amg_solve_transpose : m->f.amg_solve)(m->solver, m->parallel, m->parts[0], m->parts[1]);
  m->f.clear_errors(); /* one cycle converges to nothing */
  m->f.vector_get(m->vectors[1], base->n, m->rows, z);
}

static bool fill(boomer *m, const pl_pattern *p, const double *values, const double *diagonal, void *self,
                 int32_t *counts) {
  const functions *f = &m->f;
  int32_t n = p->rows;
  for (int32_t i = 0; i < n; i++) {
    m->rows[i] = i;
    counts[i] = p->row_ptr[i + 1] - p->row_ptr[i];
  }
  bool failed = f->matrix_create(self, 0, n - 1, 0, n - 1, &m->matrix) || f->matrix_type(m->matrix, PARCSR) ||
                f->matrix_start(m->matrix) || f->matrix_set(m->matrix, n, counts, m->rows, p->col, values) ||
                f->matrix_assemble(m->matrix) || f->matrix_object(m->matrix, &m->parallel);
  for (int i = 0; i < 2 && !failed; i++)
    failed = f->vector_create(self, 0, n - 1, &m->vectors[i]) || f->vector_type(m->vectors[i], PARCSR) ||
             f->vector_start(m->vectors[i]) || f->vector_set(m->vectors[i], n, m->rows, diagonal) ||
             f->vector_assemble(m->vectors[i]) || f->vector_object(m->vectors[i], &m->parts[i]);
  return !failed && !f->amg_create(&m->solver) && !f->amg_tolerance(m->solver, 0) && !f->amg_iterations(m->solver, 1) &&
         !f->amg_print(m->solver, 0) && !f->amg_setup(m->solver, m->parallel, m->parts[0], m->parts[1]);
}

pl_preconditioner *pl_hypre(pl_context *c, pl_pattern *p, const double *values, const pl_precondition_setup *o) {
  (void)o;
  boomer *m = pl_memory_new(c, sizeof *m);
  if (!m) return NULL;
  memset(m, 0, sizeof *m);
  m->base = (pl_preconditioner){.base = {.destroy = destroy, .name = "preconditioner"},
                                .kind = PL_PRECONDITION_HYPRE,
                                .n = p->rows,
                                .apply = apply};
  void *self;
  int32_t *counts = NULL;
  double *diagonal = pl_memory_new(c, ((size_t)p->rows + 1) * sizeof *diagonal);
  bool ok = diagonal && pl_diagonal(c, p, values, "hypre", diagonal) && open_library(c, &m->f, &self) &&
            (m->rows = pl_memory_new(c, ((size_t)p->rows + 1) * sizeof *m->rows)) != NULL &&
            (counts = pl_memory_new(c, ((size_t)p->rows + 1) * sizeof *counts)) != NULL;
  if (ok && p->rows > 0 && !fill(m, p, values, diagonal, self, counts)) {
    m->f.clear_errors();
    pl_error(c, PL_ERROR_NUMERIC, "hypre cannot set up its multigrid for this matrix");
    ok = false;
  }
  pl_memory_free(c, diagonal);
  pl_memory_free(c, counts);
  if (ok) return &m->base;
  destroy(c, &m->base.base);
  return NULL;
}
