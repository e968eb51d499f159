/* colour.c: greedy colourings, vertices of many neighbours first, or in their own order where that takes fewer colours.
 */
#include "colour.h"

#include <string.h>

static int32_t *new_ints(pl_context *c, int64_t n) { return pl_memory_new(c, (size_t)(n + 1) * sizeof(int32_t)); }

/* One side of a bipartite graph: the vertices v meet at hubs[ptr[v]] ...; hub h joins members[at[h]] ... */
typedef struct {
  int32_t n, hubs;
  const int32_t *ptr, *hub, *at, *member;
} side;

/* order: by falling weight, equal ones in their own order. */
static bool largest_first(pl_context *c, int32_t n, const int64_t *weight, int32_t *order) {
  /* counting sort over the weights, which pass n only where vertices meet many times: those come first as they are */
  int32_t *count = new_ints(c, (int64_t)n + 2);
  if (!count) return false;
  memset(count, 0, ((size_t)n + 2) * sizeof *count);
#define RANK(v) (weight[v] >= n ? 0 : n - (int32_t)weight[v])
  for (int32_t v = 0; v < n; v++) count[RANK(v) + 1]++;
  for (int32_t k = 0; k <= n; k++) count[k + 1] += count[k];
  for (int32_t v = 0; v < n; v++) order[count[RANK(v)]++] = v;
#undef RANK
  pl_memory_free(c, count);
  return true;
}

/* forbidden has room for n + 1 marks, which differ from all vertices. */
static int32_t smallest(const int32_t *forbidden, int32_t v) {
  int32_t k = 0;
  while (forbidden[k] == v) k++;
  return k;
}

static int32_t greedy(pl_context *c, const side *s, const int32_t *order, int32_t *forbidden, int32_t *colour) {
  int32_t colours = 0;
  for (int32_t v = 0; v < s->n; v++) colour[v] = forbidden[v] = -1;
  forbidden[s->n] = -1;
  for (int32_t t = 0; t < s->n; t++) {
    int32_t v = order ? order[t] : t;
    if (t % 256 == 0 && pl_interrupted(c)) return -1;
    for (int32_t e = s->ptr[v]; e < s->ptr[v + 1]; e++)
      for (int32_t h = s->hub[e], k = s->at[h]; k < s->at[h + 1]; k++)
        if (colour[s->member[k]] >= 0) forbidden[colour[s->member[k]]] = v;
    colour[v] = smallest(forbidden, v);
    if (colour[v] >= colours) colours = colour[v] + 1;
  }
  return colours;
}

/* Every vertex its own. */
static int32_t all_different(int32_t n, int32_t *colour) {
  for (int32_t v = 0; v < n; v++) colour[v] = v;
  return n;
}

enum { DENSE = 4 }; /* each its own colour costs at most that many times the least number */

static int32_t colour_side(pl_context *c, const side *s, int32_t *colour) {
  int32_t n = s->n, best = -1, most = 0;
  double work = 0;
  for (int32_t h = 0; h < s->hubs; h++) {
    int32_t length = s->at[h + 1] - s->at[h];
    if (length > most) most = length;
    work += (double)length * length;
  }
  if (most == n || (work > 2e10 && most > n / DENSE)) return all_different(n, colour);
  int32_t *order = new_ints(c, n), *forbidden = new_ints(c, n + 1), *other = new_ints(c, n);
  int64_t *weight = pl_memory_new(c, ((size_t)n + 1) * sizeof *weight);
  if (order && forbidden && other && weight) {
    for (int32_t v = 0; v < n; v++) {
      weight[v] = 0;
      for (int32_t e = s->ptr[v]; e < s->ptr[v + 1]; e++) weight[v] += s->at[s->hub[e] + 1] - s->at[s->hub[e]] - 1;
    }
    if (largest_first(c, n, weight, order)) best = greedy(c, s, order, forbidden, colour);
    if (best > most) { /* it may be done with fewer */
      int32_t natural = greedy(c, s, NULL, forbidden, other);
      if (natural >= 0 && natural < best) {
        memcpy(colour, other, (size_t)n * sizeof *colour);
        best = natural;
      }
    }
  }
  pl_memory_free(c, order);
  pl_memory_free(c, forbidden);
  pl_memory_free(c, other);
  pl_memory_free(c, weight);
  return c->status ? -1 : best;
}

int32_t pl_colour_columns(pl_context *c, pl_pattern *p, int32_t *colour) {
  if (c->status || !pl_pattern_columns(c, p)) return -1;
  side s = {p->cols, p->rows, p->col_ptr, p->row, p->row_ptr, p->col};
  return colour_side(c, &s, colour);
}

int32_t pl_colour_rows(pl_context *c, pl_pattern *p, int32_t *colour) {
  if (c->status || !pl_pattern_columns(c, p)) return -1;
  side s = {p->rows, p->cols, p->row_ptr, p->col, p->col_ptr, p->row};
  return colour_side(c, &s, colour);
}

/* The greedy star colouring (section 4 of the paper; algorithm 4.1 of Gebremedhin, Tarafdar, Manne, Pothen, SIAM J.
 * Sci. Comput. 29, 2007). A colour is forbidden for v when a neighbour has it; when a vertex behind a neighbour without
 * colour has it; and when v - w - x - y would have two, w and y having one. For the last each w has a list of those
 * neighbours x that have another neighbour of w's colour, so that a vertex with many neighbours costs no more than they
 * are. */
typedef struct {
  uint64_t key;         /* vertex x and a colour, + 1 */
  int32_t count, first; /* x's neighbours of that colour */
} meeting;
typedef struct {
  int32_t x, next;
} link;

int32_t pl_colour_star(pl_context *c, pl_pattern *p, int32_t *colour) {
  int32_t n = p->rows, colours = 0, n_links = 0;
  if (c->status) return -1;
  if (p->rows != p->cols) {
    pl_error(c, PL_ERROR_SHAPE, "a star colouring needs a symmetric pattern, not one of {%d, %d}", p->rows, p->cols);
    return -1;
  }
  if (n > 500 && p->nnz > (int64_t)n * n / DENSE) return all_different(n, colour);
  uint64_t size = 64;
  while (size < 2 * (uint64_t)p->nnz) size *= 2;
  int32_t *order = new_ints(c, n), *forbidden = new_ints(c, n + 1), *head = new_ints(c, n);
  int64_t *weight = pl_memory_new(c, ((size_t)n + 1) * sizeof *weight);
  meeting *meetings = pl_memory_new(c, size * sizeof *meetings);
  link *links = pl_memory_new(c, ((size_t)p->nnz + 1) * sizeof *links);
  bool ok = order && forbidden && head && weight && meetings && links;
  for (int32_t v = 0; ok && v < n; v++) {
    weight[v] = p->row_ptr[v + 1] - p->row_ptr[v];
    colour[v] = head[v] = forbidden[v] = -1;
  }
  ok = ok && largest_first(c, n, weight, order);
  if (ok) {
    forbidden[n] = -1;
    memset(meetings, 0, size * sizeof *meetings);
  }
#define EACH(e, u)           \
  int32_t e = p->row_ptr[u]; \
  e < p->row_ptr[u + 1];     \
  e++
#define LINK(w) (links[n_links] = (link){x, head[w]}, head[w] = n_links++)
  for (int32_t t = 0; ok && t < n; t++) {
    int32_t v = order[t];
    if (t % 256 == 0 && pl_interrupted(c)) break;
    for (EACH(a, v)) {
      int32_t w = p->col[a];
      if (w == v) continue;
      if (colour[w] >= 0) {
        forbidden[colour[w]] = v;
        for (int32_t k = head[w]; k >= 0; k = links[k].next)
          if (links[k].x != v && colour[links[k].x] >= 0) forbidden[colour[links[k].x]] = v;
      } else {
        for (EACH(b, w))
          if (p->col[b] != v && colour[p->col[b]] >= 0) forbidden[colour[p->col[b]]] = v;
      }
    }
    colour[v] = smallest(forbidden, v);
    if (colour[v] >= colours) colours = colour[v] + 1;
    for (EACH(a, v)) {
      int32_t x = p->col[a];
      if (x == v) continue;
      uint64_t key = (uint64_t)x * (uint64_t)n + (uint64_t)colour[v] + 1, k = pl_hash(5, &key, 8) & (size - 1);
      while (meetings[k].key && meetings[k].key != key) k = (k + 1) & (size - 1);
      meeting *m = &meetings[k];
      if (m->count == 0) m->first = v;
      m->key = key;
      if (++m->count == 2) LINK(m->first);
      if (m->count >= 2) LINK(v);
    }
  }
#undef EACH
#undef LINK
  void *parts[] = {order, forbidden, head, weight, meetings, links};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) pl_memory_free(c, parts[i]);
  return c->status ? -1 : colours;
}

/* ---- recovery ---- */

void pl_recover_columns(const pl_pattern *p, const int32_t *colour, int64_t *map) {
  for (int32_t i = 0; i < p->rows; i++)
    for (int32_t k = p->row_ptr[i]; k < p->row_ptr[i + 1]; k++) map[k] = (int64_t)colour[p->col[k]] * p->rows + i;
}

void pl_recover_rows(const pl_pattern *p, const int32_t *colour, int64_t *map) {
  for (int32_t i = 0; i < p->rows; i++)
    for (int32_t k = p->row_ptr[i]; k < p->row_ptr[i + 1]; k++) map[k] = (int64_t)colour[i] * p->cols + p->col[k];
}

bool pl_recover_star(pl_context *c, const pl_pattern *p, const int32_t *colour, int32_t colours, int64_t *map) {
  int32_t *count = new_ints(c, colours);
  if (!count) return false;
  memset(count, 0, ((size_t)colours + 1) * sizeof *count);
  for (int32_t i = 0; i < p->rows; i++) {
    for (int32_t k = p->row_ptr[i]; k < p->row_ptr[i + 1]; k++) count[colour[p->col[k]]]++;
    for (int32_t k = p->row_ptr[i]; k < p->row_ptr[i + 1]; k++) {
      int32_t j = p->col[k];
      map[k] = count[colour[j]] == 1 ? (int64_t)colour[j] * p->rows + i : (int64_t)colour[i] * p->rows + j;
    }
    for (int32_t k = p->row_ptr[i]; k < p->row_ptr[i + 1]; k++) count[colour[p->col[k]]] = 0;
  }
  pl_memory_free(c, count);
  return true;
}
