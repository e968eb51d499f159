/* fft_library.c: opens the plugin that transforms lines, on the user's word alone. */
#include "fft_library.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "context.h"

/* In the folder of the shared object that this code is in. */
static void beside_us(char *path, size_t size, const char *file) {
  Dl_info us;
  const char *end = dladdr((void *)pl_fft_backend, &us) && us.dli_fname ? strrchr(us.dli_fname, '/') : NULL;
  snprintf(path, size, "%.*s%s", end ? (int)(end + 1 - us.dli_fname) : 0, end ? us.dli_fname : "", file);
}

bool pl_fft_backend(pl_context *c, const char *name) {
  if (c->status) return false;
  if (!strcmp(name, "own")) return c->fft = NULL, true;
  if (strcmp(name, "fftw") != 0) {
    pl_error(c, PL_ERROR_ARGUMENT, "Fourier transforms are \"own\" or by \"fftw\", not by \"%.40s\"", name);
    return false;
  }
  const char *given = getenv("PERILUNE_FFTW");
  char path[PATH_MAX];
  if (given) snprintf(path, sizeof path, "%s", given);
  else beside_us(path, sizeof path, "perilune_fftw.so");
  void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL); /* and it stays: plans outlive a change of mind */
  if (!plugin) {
    pl_error(c, PL_ERROR_STATE,
             "fftw cannot be opened (%.400s): install FFTW (Debian: libfftw3-dev), configure with PERILUNE_GPL=ON and "
             "build again; or say where perilune_fftw.so is in the environment variable PERILUNE_FFTW; or take "
             "\"own\", Perilune's transforms",
             dlerror());
    return false;
  }
  const pl_fft_library *library = dlsym(plugin, "pl_fft_plugin");
  if (!library || strcmp(library->version, PL_VERSION) != 0) {
    pl_error(c, PL_ERROR_STATE, "%.400s is not FFTW for Perilune %s: build it again", path, PL_VERSION);
    dlclose(plugin);
    return false;
  }
  return c->fft = library, true;
}
