/* main.c: the host: runs scripts, -e code, and a prompt. */
#include <cblas.h>
#include <editline/readline.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "binding.h"

char *openblas_get_config(void);
int openblas_get_parallel(void);

/* The signal handler's only way to the state: a process has one host. */
static lua_State *host_state;
static pl_context *host_context;
static volatile sig_atomic_t pending, waiting; /* an interrupt not yet answered; a prompt that waits for a line */

static void interrupt_hook(lua_State *L, lua_Debug *ar) {
  (void)ar;
  lua_sethook(L, NULL, 0, 0);
  pending = 0;
  pl_context *c = host_context;
  if (c && !pl_interrupt_pending(c)) return;      /* the engine has answered it */
  if (c && !pl_running(c)) pl_clear_interrupt(c); /* a program that runs under this is yet to be stopped */
  luaL_error(L, "interrupted!");
}

static void on_interrupt(int signal) {
  (void)signal;
  if (waiting) return; /* nothing runs: the line stays to be edited */
  if (pending && (!host_context || pl_interrupt_pending(host_context)))
    _exit(130); /* a second Ctrl-C: something does not answer */
  pending = 1;
  if (host_context) pl_interrupt(host_context);
  lua_sethook(host_state, interrupt_hook, LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT, 1);
}

/* After a run: whatever was pending is over. */
static void settle(lua_State *L) {
  lua_sethook(L, NULL, 0, 0);
  pending = 0;
  if (host_context) pl_clear_interrupt(host_context);
}

/* The message with the user's frames under it; Perilune's own are left out. */
static int traceback(lua_State *L) {
  if (!lua_isstring(L, 1)) {
    if (lua_isnoneornil(L, 1) || !luaL_callmeta(L, 1, "__tostring"))
      lua_pushfstring(L, "(error object is a %s)", luaL_typename(L, 1));
    lua_replace(L, 1);
  }
  lua_settop(L, 1);
  lua_Debug ar;
  int shown = 0;
  for (int level = 1; lua_getstack(L, level, &ar) && shown < 8; level++) {
    lua_getinfo(L, "Sln", &ar);
    if (ar.currentline <= 0 || !strncmp(ar.source, "@perilune:", 10)) continue;
    lua_pushfstring(L, "\n    %s:%d: in %s%s%s", ar.short_src, ar.currentline,
                    *ar.what == 'm' ? "the script" : "function", ar.name ? " " : "", ar.name ? ar.name : "");
    shown++;
  }
  if (shown < 2) lua_settop(L, 1); /* one frame says nothing that the message does not */
  lua_concat(L, lua_gettop(L));
  return 1;
}

static int protected_call(lua_State *L, int args, int results) {
  int base = lua_gettop(L) - args;
  lua_pushcfunction(L, traceback);
  lua_insert(L, base);
  int status = lua_pcall(L, args, results, base);
  lua_remove(L, base);
  settle(L);
  if (status) {
    fflush(stdout);
    fprintf(stderr, "perilune: %s\n", lua_tostring(L, -1));
    lua_pop(L, 1);
    lua_gc(L, LUA_GCCOLLECT, 0); /* what the failed run held goes back */
  }
  return status;
}

static int print_error(lua_State *L) {
  fflush(stdout);
  fprintf(stderr, "perilune: %s\n", lua_tostring(L, -1));
  lua_pop(L, 1);
  return 1;
}

static void make_global(lua_State *L) {
  lua_getglobal(L, "require");
  lua_pushliteral(L, "perilune");
  if (lua_pcall(L, 1, 1, 0) == 0) lua_setglobal(L, "pl");
  else print_error(L);
}

static int run_string(lua_State *L, const char *code) {
  make_global(L);
  if (luaL_loadbuffer(L, code, strlen(code), "=-e")) return print_error(L);
  return protected_call(L, 0, 0) ? 1 : 0;
}

static void set_arguments(lua_State *L, int argc, char **argv, int script) {
  lua_createtable(L, argc - script, script + 1);
  for (int i = 0; i < argc; i++) {
    lua_pushstring(L, argv[i]);
    lua_rawseti(L, -2, i - script);
  }
  lua_setglobal(L, "arg");
}

static int run_script(lua_State *L, int argc, char **argv, int script) {
  set_arguments(L, argc, argv, script);
  if (luaL_loadfile(L, strcmp(argv[script], "-") ? argv[script] : NULL)) return print_error(L);
  for (int i = script + 1; i < argc; i++) lua_pushstring(L, argv[i]);
  return protected_call(L, argc - script - 1, 0) ? 1 : 0;
}

/* ---- the prompt ---- */

static char *history_path(void) {
  static char path[4096];
  const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
  if (state && *state) snprintf(path, sizeof path, "%s", state);
  else if (home && *home) snprintf(path, sizeof path, "%s/.local/state", home);
  else return NULL;
  for (char *p = path + 1;; p++) { /* mkdir -p */
    if (*p && *p != '/') continue;
    char end = *p;
    *p = 0;
    mkdir(path, 0700);
    *p = end;
    if (!end) break;
  }
  strncat(path, "/perilune", sizeof path - strlen(path) - 1);
  mkdir(path, 0700);
  strncat(path, "/history", sizeof path - strlen(path) - 1);
  return path;
}

static bool is_incomplete(lua_State *L) {
  size_t n;
  const char *message = lua_tolstring(L, -1, &n);
  return n >= 7 && !strcmp(message + n - 7, "'<eof>'");
}

/* Compiles a line, as an expression first; 0: ready, 1: more is needed, 2: wrong (the message is on the stack). */
static int compile(lua_State *L, const char *text, bool *silent) {
  size_t n = strlen(text);
  while (n && (text[n - 1] == ' ' || text[n - 1] == '\n')) n--;
  *silent = n && text[n - 1] == ';';
  lua_pushliteral(L, "return ");
  lua_pushlstring(L, text, *silent ? n - 1 : n);
  lua_concat(L, 2);
  size_t m;
  const char *expression = lua_tolstring(L, -1, &m);
  int status = luaL_loadbuffer(L, expression, m, "=prompt");
  lua_remove(L, -2);
  if (status == 0) return 0;
  lua_pop(L, 1);
  status = luaL_loadbuffer(L, text, strlen(text), "=prompt");
  if (status == 0) return 0;
  return is_incomplete(L) ? 1 : 2;
}

static void print_results(lua_State *L, int n) {
  if (n == 0) return;
  luaL_checkstack(L, n + 2, "too many results");
  lua_getglobal(L, "print");
  lua_insert(L, -n - 1);
  protected_call(L, n, 0);
}

static char *read_line(bool terminal, const char *prompt) {
  if (terminal) return readline(prompt);
  char *line = NULL;
  size_t size = 0;
  ssize_t n = getline(&line, &size, stdin);
  if (n < 0) {
    free(line);
    return NULL;
  }
  if (n && line[n - 1] == '\n') line[n - 1] = 0;
  return line;
}

static int prompt(lua_State *L) {
  bool terminal = isatty(0);
  char *path = terminal ? history_path() : NULL;
  make_global(L);
  if (terminal) {
    printf("Perilune %s; exit or Ctrl-D ends\n", PL_VERSION);
    rl_catch_signals = 0; /* Ctrl-C is ours: libedit's own handling ends the line editing for good */
    using_history();
    if (path) read_history(path);
  }
  char *text = NULL;
  for (;;) {
    waiting = terminal;
    char *line = read_line(terminal, text ? ">> " : "> ");
    bool dropped = waiting == 2;
    waiting = 0;
    settle(L);
    if (!line && dropped) { /* Ctrl-C, not the end of the input */
      free(text);
      text = NULL;
      printf("\n");
      continue;
    }
    if (!line) break;
    if (!text && (!strcmp(line, "exit") || !strcmp(line, "quit"))) {
      free(line);
      break;
    }
    if (text) {
      size_t n = strlen(text) + strlen(line) + 2;
      char *longer = malloc(n);
      if (!longer) break;
      snprintf(longer, n, "%s\n%s", text, line);
      free(text);
      free(line);
      text = longer;
    } else {
      text = line;
    }
    if (strspn(text, " \t\n") == strlen(text)) {
      free(text);
      text = NULL;
      continue;
    }
    bool silent;
    int base = lua_gettop(L), state = compile(L, text, &silent);
    if (state == 1) {
      lua_settop(L, base);
      continue;
    }
    if (terminal) {
      add_history(text);
      if (path) write_history(path);
    }
    free(text);
    text = NULL;
    if (state == 2) print_error(L);
    else if (protected_call(L, 0, LUA_MULTRET) == 0 && !silent) print_results(L, lua_gettop(L) - base);
    lua_settop(L, base);
    fflush(stdout);
  }
  if (text) { /* the input ended in the middle */
    bool silent;
    if (compile(L, text, &silent)) print_error(L);
    free(text);
  }
  if (terminal) printf("\n");
  return 0;
}

/* ---- what is here ---- */

static void check_program(const char *what, const char *name, const char *missing) {
  char command[256], line[256] = "";
  snprintf(command, sizeof command, "command -v %s 2>/dev/null", name);
  FILE *p = popen(command, "r");
  if (p) {
    if (!fgets(line, sizeof line, p)) *line = 0;
    pclose(p);
  }
  line[strcspn(line, "\n")] = 0;
  printf("%-14s %s\n", what, *line ? line : missing);
}

static int doctor(lua_State *L) {
  static const char *const parallel[] = {"sequential", "pthreads", "OpenMP"};
  int blas = openblas_get_parallel();
  printf("perilune       %s (%s)\n", PL_VERSION, PL_BUILD);
  lua_getglobal(L, "jit");
  lua_getfield(L, -1, "version");
  printf("language       %s\n", lua_tostring(L, -1));
  printf("BLAS           %s, threads by %s%s\n", openblas_get_config(), parallel[blas >= 0 && blas < 3 ? blas : 0],
         blas == 2 ? "" : "  <- slow beside OpenMP loops: install libopenblas-openmp-dev and build again");
  printf("sparse solvers KLU%s\n",
#ifdef PL_HAVE_GPL
         ", UMFPACK, CHOLMOD"
#else
         " only (built without the GPL's libraries)"
#endif
  );
  const char *level = "baseline";
#if defined __x86_64__
  __builtin_cpu_init();
  level = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")
              ? "x86-64-v4"
          : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? "x86-64-v3"
                                                                            : "x86-64";
#endif
  printf("CPU            %s, %d threads\n", level, pl_threads(host_context));
  printf("memory budget  %.1f GB\n", (double)pl_budget(host_context) / 1e9);
  check_program("compiler", "gcc", "missing: install gcc");
  check_program("cmake", "cmake", "missing: install cmake");
  check_program("busted", "busted", "missing: install lua-busted (for the tests)");
  check_program("nvcc", "nvcc", "none: kernels are not compiled for CUDA");
  return 0;
}

static const char usage[] =
    "perilune [script.lua | -] [arguments ...]   run a script; without one, a prompt\n"
    "perilune -e 'code'                          run code; pl is a global\n"
    "perilune doctor                             what is here and what is missing\n"
    "perilune --version, --help\n";

typedef struct {
  int argc;
  char **argv;
  int status;
} command_line;

static int run(lua_State *L, command_line *line) {
  int argc = line->argc;
  char **argv = line->argv;
  if (argc < 2) return prompt(L);
  const char *first = argv[1];
  if (!strcmp(first, "--help") || !strcmp(first, "-h")) return fputs(usage, stdout), 0;
  if (!strcmp(first, "--version") || !strcmp(first, "-v")) return printf("perilune %s\n", PL_VERSION), 0;
  if (!strcmp(first, "doctor")) return doctor(L);
  if (!strcmp(first, "-i")) return prompt(L);
  if (!strcmp(first, "-e")) {
    if (argc < 3) return fprintf(stderr, "perilune: -e needs code\n%s", usage), 2;
    set_arguments(L, argc, argv, 2);
    return run_string(L, argv[2]);
  }
  if (*first == '-' && first[1]) return fprintf(stderr, "perilune: unknown option %s\n%s", first, usage), 2;
  return run_script(L, argc, argv, 1);
}

int main(int argc, char **argv) {
  lua_State *L = luaL_newstate();
  if (!L) return fprintf(stderr, "perilune: out of memory\n"), 1;
  luaL_openlibs(L);
  lua_gc(L, LUA_GCSETPAUSE, 400); /* handles are small; the binding steps the collector by what they hold */
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "preload");
  lua_pushcfunction(L, luaopen_perilune);
  lua_setfield(L, -2, "perilune");
  lua_settop(L, 0);
  lua_pushcfunction(L, luaopen_perilune);
  if (lua_pcall(L, 0, 0, 0)) return print_error(L);
  host_state = L;
  host_context = perilune_context(L);
  struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};
  sigaction(SIGINT, &action, NULL);
  command_line line = {argc, argv, 0};
  int status = run(L, &line);
  fflush(stdout);
  host_context = NULL;
  lua_close(L);
  return status;
}
