#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char name_of_disk[] = "file of states";

typedef struct {
  pl_resource base;
  int fd;
  char path[]; /* for messages */
} disk;

static bool disk_error(pl_context *c, const char *what, const char *path, int why) {
  pl_error(c, PL_ERROR_STATE, "cannot %s in '%s': %s", what, path, strerror(why ? why : EIO));
  return false;
}

static void disk_destroy(pl_context *c, pl_resource *r) {
  close(((disk *)r)->fd);
  pl_memory_free(c, r);
}

pl_resource *pl_disk_new(pl_context *c, int n, const int64_t *path) {
  static const char in_folder[] = "/perilune-XXXXXX", after[] = "XXXXXX";
  disk *d = pl_memory_new(c, sizeof *d + (size_t)n + sizeof in_folder);
  if (!d) return NULL;
  *d = (disk){.base = {.destroy = disk_destroy, .name = name_of_disk}, .fd = -1};
  for (int i = 0; i < n; i++) d->path[i] = (char)path[i];
  d->path[n] = 0;
  struct stat info;
  bool folder = !stat(d->path, &info) && S_ISDIR(info.st_mode);
  strcpy(d->path + n, folder ? in_folder : after);
  d->fd = mkostemp(d->path, O_CLOEXEC);
  int why = errno;
  if (d->fd >= 0) unlink(d->path);
  d->path[n] = 0;
  if (d->fd >= 0) return &d->base;
  disk_error(c, "make a file for a loop's states", d->path, why);
  pl_memory_free(c, d);
  return NULL;
}

pl_resource *pl_disk_of(pl_context *c, const pl_slot *s) { return pl_slot_resource(c, s, name_of_disk); }

/* Beyond a limit on the size of files the kernel also sends a signal, which must not end the host. */
static ssize_t write_some(int fd, const char *data, size_t bytes, off_t at) {
  sigset_t signals, pending, before;
  sigemptyset(&signals);
  sigaddset(&signals, SIGXFSZ);
  sigpending(&pending);
  pthread_sigmask(SIG_BLOCK, &signals, &before);
  ssize_t n = pwrite(fd, data, bytes, at);
  int why = errno;
  if (n < 0 && why == EFBIG && !sigismember(&pending, SIGXFSZ))
    while (sigtimedwait(&signals, NULL, &(struct timespec){0, 0}) < 0 && errno == EINTR) continue;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  errno = why;
  return n;
}

bool pl_disk_write(pl_context *c, pl_resource *r, int64_t at, const void *data, size_t bytes) {
  const disk *d = (disk *)r;
  for (size_t done = 0; done < bytes;) {
    ssize_t n = write_some(d->fd, (const char *)data + done, bytes - done, (off_t)at + (off_t)done);
    if (n > 0) done += (size_t)n;
    else if (n == 0 || errno != EINTR) return disk_error(c, "write a loop's states", d->path, n ? errno : ENOSPC);
  }
  return true;
}

bool pl_disk_read(pl_context *c, pl_resource *r, int64_t at, void *data, size_t bytes) {
  const disk *d = (disk *)r;
  for (size_t done = 0; done < bytes;) {
    ssize_t n = pread(d->fd, (char *)data + done, bytes - done, (off_t)at + (off_t)done);
    if (n > 0) done += (size_t)n;
    else if (n == 0 || errno != EINTR) return disk_error(c, "read a loop's states", d->path, n ? errno : EIO);
  }
  return true;
}
