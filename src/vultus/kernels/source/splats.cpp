// Splat rasterisation, compiled once per instruction set (VULTUS_ISA names it).
//
// An image is cut into 16 x 16 tiles. Gaussians are sorted once by depth, so that every tile's list comes out sorted.
// A tile works through its list 32 Gaussians at a time: first the segments (W pixels of a row) that a Gaussian reaches
// are collected as jobs, then one flat loop evaluates the jobs. Exponents are in base 2 with the opacity folded in:
// alpha = 2^(lo + na dx^2 + nb dx dy + nc dy^2).
//
// The backward pass repeats the forward pass of each tile with the same arithmetic and keeps one running sum per pixel:
// Z = T_end (dL/dA - b . dL/dC) - sum over Gaussians behind of w (f . dL/dC), from which
// dL/dalpha = T (f . dL/dC) + Z / (1 - alpha). Sums per Gaussian and tile are stored and added up in tile order, so
// that results do not depend on the number of threads.
#include <math.h>
#include <string.h>
#include <time.h>

#include "harmonics.h"
#include "projection.h"
#include "simd.h"
#include "splats.h"
#include "threads.h"

namespace {

enum {
  TILE = 16,
  SUBS = TILE / W,           // segments per tile row
  SEGMENTS = TILE * SUBS,    // per tile
  BATCH = 32,                // Gaussians whose jobs are collected at once
  DIRECT_CHANNELS = 6,       // up to here colours live in the record and sums in registers
  CHUNK = 1024,              // Gaussians per task
};
const int64_t ENTRIES_AT_ONCE = int64_t(1) << 25;       // tile-list entries in memory, unless one tile row needs more
const int64_t MOMENT_FLOATS_AT_ONCE = int64_t(1) << 26; // of the backward pass, unless one tile needs more
const float LOG2E = 1.44269504088896f;
const float LOG2_CUTOFF = -7.99435343685886f;
const float STOP = 1e-4f;

struct alignas(64) Record {
  float x, y, na, nb, nc, lo;
  float vertex;  // -0.5 / na
  int32_t index;
  int16_t x0, y0, x1, y1;  // tiles [x0, x1) x [y0, y1)
  float f[DIRECT_CHANNELS];
};

struct State {
  View view;
  int64_t visible;
  int channels, padded;  // with the depth as last channel, and that rounded up to whole vectors
  bool with_depth, direct, lists_complete;
  int tiles_x, tiles_y;
  float alpha_max;
  Record* records;
  int32_t* offsets;  // [tiles + 1], relative to the first tile of the band
  int32_t* ids;
  float* transmittance;
  int32_t* processed;
  float* features;  // [visible, padded]
  int32_t* rank;    // [count], -1 where not drawn
  int64_t* row_entries;  // [tiles_y]
};

enum StateSlot { S_STATE, S_RECORDS, S_OFFSETS, S_IDS, S_TRANSMITTANCE, S_PROCESSED, S_FEATURES, S_RANK, S_ROWS };
enum ScratchSlot { X_RECORDS, X_KEYS, X_KEYS2, X_IDS, X_IDS2, X_GRID, X_MOMENTS, X_SUMS, X_TILE, X_BACKGROUND, X_BASE, X_POSE };

template <class F>
void run(int threads, int64_t tasks, const F& body) {
  parallel_for(
      threads, tasks,
      [](void* context, int64_t task, int worker) { (*static_cast<const F*>(context))(task, worker); },
      const_cast<void*>(static_cast<const void*>(&body)));
}

// ---- projection ----

void color_of(const SplatScene& s, const View& v, int64_t i, float* out) {
  if (s.sh_degree < 0) {
    memcpy(out, s.colors + i * s.channels, sizeof(float) * s.channels);
    return;
  }
  float d[3], Y[25];
  for (int k = 0; k < 3; k++) d[k] = s.means[3 * i + k] - float(v.center[k]);
  float n = 1.f / most(sqrtf(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]), 1e-12f);
  sh_basis(s.sh_degree, d[0] * n, d[1] * n, d[2] * n, Y);
  const float* c = s.colors + i * 3 * s.sh_stored;
  int used = (s.sh_degree + 1) * (s.sh_degree + 1);
  for (int ch = 0; ch < 3; ch++) {
    float sum = 0.5f;
    for (int k = 0; k < used; k++) sum += Y[k] * c[3 * k + ch];
    out[ch] = sum > 0.f || sum != sum ? sum : 0.f;
  }
}

bool colors_finite(const SplatScene& s, int64_t i) {
  int n = s.sh_degree < 0 ? s.channels : 3 * s.sh_stored;
  const float* c = s.colors + i * n;
  float zero = 0.f;
  for (int k = 0; k < n; k++) zero += c[k] - c[k];
  return zero == 0.f;
}

// Pixel box of a Gaussian as tiles; false if it reaches no pixel centre.
bool tile_range(const SplatScene& s, const Projected& o, int32_t* radii, Record& r) {
  float sigmas = least(TIGHT_SIGMAS, sqrtf(2 * logf(most(o.opacity * 255.f, 1.f))));
  float bx = sigmas * sqrtf(o.s00), by = sigmas * sqrtf(o.s11);
  float width = float(s.width), height = float(s.height), rx = ceilf(bx), ry = ceilf(by);
  int tx0 = 0, ty0 = 0, tx1 = (s.width + TILE - 1) / TILE, ty1 = (s.height + TILE - 1) / TILE;
  if (s.inria_extent) {
    float middle = 0.5f * (o.s00 + o.s11);
    rx = ry = ceilf(3.f * sqrtf(middle + sqrtf(most(0.1f, middle * middle - o.det))));
    auto tile = [](float pixel, int limit) { return int(least(most(truncf(pixel / TILE), 0.f), float(limit))); };
    tx0 = tile(o.mx - 0.5f - rx, tx1), tx1 = tile(o.mx - 0.5f + rx + TILE - 1, tx1);
    ty0 = tile(o.my - 0.5f - ry, ty1), ty1 = tile(o.my - 0.5f + ry + TILE - 1, ty1);
    if (tx0 >= tx1 || ty0 >= ty1) return false;
  } else if (o.mx + rx <= 0 || o.mx - rx >= width || o.my + ry <= 0 || o.my - ry >= height) {
    return false;
  }
  radii[0] = int32_t(least(rx, 1073741824.f));
  radii[1] = int32_t(least(ry, 1073741824.f));
  bx = bx * 1.0001f + 0.01f, by = by * 1.0001f + 0.01f;  // more than the rounding of the ellipse test
  int px0 = int(ceilf(most(o.mx - bx - 0.5f, 0.f))), px1 = int(floorf(least(o.mx + bx - 0.5f, width - 1)));
  int py0 = int(ceilf(most(o.my - by - 0.5f, 0.f))), py1 = int(floorf(least(o.my + by - 0.5f, height - 1)));
  if (px0 > px1 || py0 > py1 || px1 < 0 || py1 < 0) return false;
  r.x0 = int16_t(px0 / TILE > tx0 ? px0 / TILE : tx0), r.x1 = int16_t(px1 / TILE + 1 < tx1 ? px1 / TILE + 1 : tx1);
  r.y0 = int16_t(py0 / TILE > ty0 ? py0 / TILE : ty0), r.y1 = int16_t(py1 / TILE + 1 < ty1 ? py1 / TILE + 1 : ty1);
  return r.x0 < r.x1 && r.y0 < r.y1;
}

void project_chunk(const SplatScene& s, const State& st, SplatImage& image, Record* records, int64_t first, int64_t last) {
  for (int64_t i = first; i < last; i++) {
    Record& r = records[i];
    Projected o;
    o.mx = o.my = o.z = 0.f;
    int32_t* radii = image.radii + 2 * i;
    radii[0] = radii[1] = 0;
    st.rank[i] = -1;
    bool drawn = project_one(s, st.view, i, o) && o.opacity >= ALPHA_CUTOFF && colors_finite(s, i);
    drawn = drawn && tile_range(s, o, radii, r);
    image.means2d[2 * i] = o.mx;
    image.means2d[2 * i + 1] = o.my;
    image.depths[i] = finite(o.z) ? o.z : 0.f;
    if (!drawn) continue;
    st.rank[i] = 0;
    r.x = o.mx, r.y = o.my;
    r.na = -0.5f * LOG2E * o.a, r.nb = -LOG2E * o.b, r.nc = -0.5f * LOG2E * o.c;
    r.lo = log2f(o.opacity);
    r.vertex = -0.5f / r.na;
    r.index = int32_t(i);
    if (st.direct) {
      color_of(s, st.view, i, r.f);
      if (st.with_depth) r.f[s.channels] = o.z;
    }
  }
}

// Indices of the drawn Gaussians in depth order, equal depths in index order; three passes of 11 bits.
int32_t* sort_by_depth(const float* depths, const int32_t* rank, int64_t count, Workspace* x, int64_t visible) {
  uint32_t* keys = reserve<uint32_t>(x, X_KEYS, visible);
  uint32_t* keys2 = reserve<uint32_t>(x, X_KEYS2, visible);
  int32_t* ids = reserve<int32_t>(x, X_IDS, visible);
  int32_t* ids2 = reserve<int32_t>(x, X_IDS2, visible);
  if (!keys || !keys2 || !ids || !ids2) return nullptr;
  static const int PASSES = 3, BINS = 2048;
  int32_t starts[PASSES][BINS];
  memset(starts, 0, sizeof starts);
  int64_t n = 0;
  for (int64_t i = 0; i < count; i++) {
    if (rank[i] < 0) continue;
    uint32_t key;
    memcpy(&key, depths + i, sizeof key);  // positive floats sort like integers
    keys[n] = key;
    ids[n++] = int32_t(i);
    for (int p = 0; p < PASSES; p++) starts[p][(key >> (11 * p)) & (BINS - 1)]++;
  }
  for (int p = 0; p < PASSES; p++) {
    int32_t total = 0;
    for (int b = 0; b < BINS; b++) {
      int32_t c = starts[p][b];
      starts[p][b] = total;
      total += c;
    }
    for (int64_t i = 0; i < n; i++) {
      int32_t to = starts[p][(keys[i] >> (11 * p)) & (BINS - 1)]++;
      keys2[to] = keys[i];
      ids2[to] = ids[i];
    }
    uint32_t* k = keys;
    keys = keys2, keys2 = k;
    int32_t* d = ids;
    ids = ids2, ids2 = d;
  }
  return ids;
}

// ---- tile lists ----

// How many Gaussians reach each tile row, and from that where a band of rows that starts at `row` must end.
int band_end(const State& st, int row) {
  int64_t total = 0;
  int end = row;
  while (end < st.tiles_y && (end == row || total + st.row_entries[end] <= ENTRIES_AT_ONCE)) total += st.row_entries[end++];
  return end;
}

// counts[tile] by a two-dimensional running sum of corner marks.
bool count_entries(const State& st, Workspace* x) {
  int stride = st.tiles_x + 1;
  int32_t* grid = reserve<int32_t>(x, X_GRID, size_t(stride) * (st.tiles_y + 1));
  if (!grid) return false;
  memset(grid, 0, sizeof(int32_t) * stride * (st.tiles_y + 1));
  for (int64_t i = 0; i < st.visible; i++) {
    const Record& r = st.records[i];
    grid[r.y0 * stride + r.x0]++;
    grid[r.y0 * stride + r.x1]--;
    grid[r.y1 * stride + r.x0]--;
    grid[r.y1 * stride + r.x1]++;
  }
  for (int y = 0; y < st.tiles_y; y++) {
    int32_t along = 0;
    st.row_entries[y] = 0;
    for (int t = 0; t < st.tiles_x; t++) {
      along += grid[y * stride + t];
      int32_t above = y ? grid[(y - 1) * stride + t] : 0;
      grid[y * stride + t] = above + along;
      st.row_entries[y] += above + along;
    }
  }
  return true;
}

// Lists of the tile rows [row0, row1). Needs count_entries.
bool build_lists(State& st, Workspace* state, Workspace* x, int threads, int row0, int row1) {
  const int32_t* grid = static_cast<int32_t*>(x->buffers[X_GRID].data);
  int stride = st.tiles_x + 1, tiles = (row1 - row0) * st.tiles_x;
  int32_t* cursor = reserve<int32_t>(x, X_BASE, tiles);
  if (!cursor) return false;
  int32_t total = 0;
  for (int t = 0; t < tiles; t++) {
    st.offsets[t] = cursor[t] = total;
    total += grid[(row0 + t / st.tiles_x) * stride + t % st.tiles_x];
  }
  st.offsets[tiles] = total;
  st.ids = reserve<int32_t>(state, S_IDS, total);
  if (!st.ids) return false;
  // Each task fills whole tile rows of about equal total length, scanning all Gaussians.
  int64_t tasks = total < 20000 ? 1 : threads;
  run(threads, tasks, [&](int64_t task, int) {
    auto boundary = [&](int64_t k) {
      int row = row0;
      int64_t before = 0, wanted = int64_t(total) * k / tasks;
      while (row < row1 && before < wanted) before += st.row_entries[row++];
      return k == tasks ? row1 : row;
    };
    int first = boundary(task), last = boundary(task + 1);
    if (first >= last) return;
    for (int64_t i = 0; i < st.visible; i++) {
      const Record& r = st.records[i];
      int y0 = r.y0 > first ? r.y0 : first, y1 = r.y1 < last ? r.y1 : last;
      for (int y = y0; y < y1; y++) {
        int32_t* line = cursor + (y - row0) * st.tiles_x;
        for (int t = r.x0; t < r.x1; t++) st.ids[line[t]++] = int32_t(i);
      }
    }
  });
  return true;
}

// ---- tiles ----

// The Gaussians that a tile works on at once, with centres relative to the tile, and the segments they reach.
struct Batch {
  Record records[BATCH];
  alignas(64) float rb[BATCH][TILE], rc[BATCH][TILE];  // by row: exponent = na dx^2 + rb dx + rc
  uint8_t segment[BATCH * SEGMENTS + 8], local[BATCH * SEGMENTS + 8];
  uint8_t count[BATCH][SUBS];
  int size;
};

// Positions of the set bits of a byte, as bytes.
struct BitTable {
  uint64_t places[256];
  constexpr BitTable() : places() {
    for (int mask = 0; mask < 256; mask++) {
      int n = 0;
      for (int bit = 0; bit < 8; bit++)
        if (mask >> bit & 1) places[mask] |= uint64_t(bit) << (8 * n++);
    }
  }
};
constexpr BitTable BITS;
const uint64_t EVERY_BYTE = 0x0101010101010101u;

struct Tile {
  float x0, y0;
  int rows, columns;      // inside the image
  uint32_t live[SUBS];    // rows of which some pixel is still open
  V pixels[SUBS];         // x of the pixel centres, relative to the tile
  bool open() const {
    uint32_t any = 0;
    for (uint32_t l : live) any |= l;
    return any != 0;
  }
};

alignas(64) const float RAMP[16] = {0.5f, 1.5f, 2.5f, 3.5f, 4.5f, 5.5f, 6.5f, 7.5f, 8.5f, 9.5f, 10.5f, 11.5f, 12.5f, 13.5f, 14.5f, 15.5f};

// A tile at rest: `transmittance` is 1 in the image and -1 (closed) outside.
void open_tile(const State& st, int tile, Tile& t, float* transmittance, int stride) {
  int tx = tile % st.tiles_x, ty = tile / st.tiles_x;
  t.x0 = float(tx * TILE), t.y0 = float(ty * TILE);
  int columns = st.view.width - tx * TILE, rows = st.view.height - ty * TILE;
  t.columns = columns < TILE ? columns : TILE;
  t.rows = rows < TILE ? rows : TILE;
  for (int sub = 0; sub < SUBS; sub++) {
    V ramp = load(RAMP + sub * W);
    t.pixels[sub] = ramp;
    V inside = select(le(ramp, splat(float(t.columns))), splat(1.f), splat(-1.f));
    t.live[sub] = sub * W < t.columns ? (1u << t.rows) - 1 : 0;
    for (int row = 0; row < TILE; row++)
      store(transmittance + (sub * TILE + row) * stride, row < t.rows ? inside : splat(-1.f));
  }
}

void collect_jobs(const State& st, const Tile& t, const int32_t* ids, int count, Batch& b) {
  int size = 0;
  const V slack = splat(LOG2_CUTOFF - 1e-3f);
  for (int g = 0; g < count; g++) {
    Record& r = b.records[g] = st.records[ids[g]];
    if (g + 4 < count) __builtin_prefetch(&st.records[ids[g + 4]]);
    r.x -= t.x0, r.y -= t.y0;
    V dxs[SUBS], rb[SUBS], rc[SUBS];
    const V na = splat(r.na);
    for (int v = 0; v < SUBS; v++) {
      V dy = load(RAMP + v * W) - splat(r.y);
      rb[v] = dy * splat(r.nb);
      rc[v] = fma(dy * dy, splat(r.nc), splat(r.lo));
      dxs[v] = rb[v] * splat(r.vertex);  // where the exponent is largest along the row
      store(b.rb[g] + v * W, rb[v]);
      store(b.rc[g] + v * W, rc[v]);
    }
    for (int sub = 0; sub < SUBS; sub++) {
      const V low = splat(float(sub * W) + 0.5f - r.x), high = splat(float(sub * W + W) - 0.5f - r.x);
      uint32_t reached = 0;
      for (int v = 0; v < SUBS; v++) {
        V dx = smaller(larger(dxs[v], low), high);
        reached |= bits(ge(fma(dx, fma(dx, na, rb[v]), rc[v]), slack)) << (v * W);
      }
      reached &= t.live[sub];
      int before = size;
      for (int half = 0; half < 2; half++) {
        uint32_t mask = reached >> (8 * half) & 255;
        uint64_t segments = BITS.places[mask] + EVERY_BYTE * uint64_t(sub * TILE + 8 * half), local = EVERY_BYTE * uint64_t(g);
        memcpy(b.segment + size, &segments, 8);
        memcpy(b.local + size, &local, 8);
        size += __builtin_popcount(mask);
      }
      b.count[g][sub] = uint8_t(size - before);
    }
  }
  b.size = size;
}

struct Hit {
  M drawn;
  V raw, alpha, before, weight;
};

// Evaluates Gaussian g of the batch at one segment and moves the transmittance (at `slot`) on. A closed pixel has its transmittance negated.
inline Hit evaluate(const Batch& b, int g, int segment, Tile& t, float alpha_max, float* slot, V dx) {
  Hit h;
  const Record& r = b.records[g];
  const int row = segment % TILE;
  V exponent = fma(dx, fma(dx, splat(r.na), splat(b.rb[g][row])), splat(b.rc[g][row]));
  exponent = smaller(exponent, splat(r.lo));
  V before = load(slot);
  M drawn = both(ge(exponent, splat(LOG2_CUTOFF)), gt(before, splat(0.f)));
  h.raw = exp2(exponent);
  h.alpha = smaller(h.raw, splat(alpha_max));
  V after = fnma(before, h.alpha, before);
  M stopped = both(drawn, le(after, splat(STOP)));
  V kept = before;
  if (__builtin_expect(bits(stopped) != 0, 0)) {
    kept = select(stopped, splat(0.f) - before, before);
    drawn = without(drawn, stopped);
    if (!bits(gt(kept, splat(0.f)))) t.live[segment / TILE] &= ~(1u << row);
  }
  h.drawn = drawn;
  h.before = before;
  h.weight = keep(drawn, h.alpha * before);
  store(slot, select(drawn, after, kept));
  return h;
}

struct TileTask {
  const SplatScene* scene;
  State* st;
  SplatImage* image;
  int first_tile;  // of the band
};

// Writes a tile's pixels. sums: [segment][transmittance, channels...][lane].
void finish_tile(const TileTask& k, const Tile& t, const float* sums, int stride) {
  const SplatScene& s = *k.scene;
  const State& st = *k.st;
  for (int row = 0; row < t.rows; row++) {
    size_t line = (size_t(t.y0) + row) * s.width + size_t(t.x0);
    for (int c = 0; c < t.columns; c++) {
      int segment = (c / W) * TILE + row, lane = c % W;
      float T = fabsf(sums[segment * stride + lane]);
      size_t pixel = line + c;
      st.transmittance[pixel] = T;
      k.image->alpha[pixel] = 1.f - T;
      const float* color = sums + segment * stride + W + lane;
      float* out = k.image->color + pixel * s.channels;
      for (int ch = 0; ch < s.channels; ch++)
        out[ch] = color[ch * W] + (s.background ? T * s.background[ch] : 0.f);
      if (st.with_depth) k.image->depth[pixel] = color[s.channels * W];
    }
  }
}

template <int C>
void forward_direct(const TileTask& k, int tile, int64_t* work, Batch& batch) {
  State& st = *k.st;
  enum { STRIDE = (1 + C) * W };
  alignas(64) float sums[SEGMENTS * STRIDE];
  memset(sums, 0, sizeof sums);
  Tile t;
  open_tile(st, tile, t, sums, STRIDE);
  int begin = st.offsets[tile - k.first_tile], end = st.offsets[tile - k.first_tile + 1], e = begin;
  while (e < end && t.open()) {
    int count = end - e < BATCH ? end - e : int(BATCH);
    collect_jobs(st, t, st.ids + e, count, batch);
    e += count;
    work[1] += batch.size;
    for (int j = 0; j < batch.size; j++) {
      const int segment = batch.segment[j], g = batch.local[j];
      const Record& r = batch.records[g];
      float* slot = sums + segment * STRIDE;
      V dx = t.pixels[SUBS == 1 ? 0 : segment / TILE] - splat(r.x);
      Hit h = evaluate(batch, g, segment, t, st.alpha_max, slot, dx);
      for (int c = 0; c < C; c++) {
        float* a = slot + (1 + c) * W;
        store(a, fma(h.weight, splat(r.f[c]), load(a)));
      }
    }
  }
  st.processed[tile] = e - begin;
  work[0] += e - begin;
  finish_tile(k, t, sums, STRIDE);
}

// Calls body(first channel, number of vectors as a constant) for blocks of at most four vectors of channels.
template <int N>
struct Vectors {
  enum { COUNT = N };
};
template <class F>
inline void for_channel_blocks(int padded, const F& body) {
  int c = 0;
  for (; c + 4 * W <= padded; c += 4 * W) body(c, Vectors<4>());
  switch ((padded - c) / W) {
    case 3: return body(c, Vectors<3>());
    case 2: return body(c, Vectors<2>());
    case 1: return body(c, Vectors<1>());
  }
}

// Any number of channels: channels are the lanes, and only the pixels that are drawn are touched.
void forward_wide(const TileTask& k, int tile, int64_t* work, Batch& batch, float* sums) {
  State& st = *k.st;
  const SplatScene& s = *k.scene;
  const int padded = st.padded;
  alignas(64) float transmittance[SEGMENTS * W], weights[W];
  memset(sums, 0, sizeof(float) * TILE * TILE * padded);
  Tile t;
  open_tile(st, tile, t, transmittance, W);
  int begin = st.offsets[tile - k.first_tile], end = st.offsets[tile - k.first_tile + 1], e = begin;
  while (e < end && t.open()) {
    int count = end - e < BATCH ? end - e : int(BATCH);
    collect_jobs(st, t, st.ids + e, count, batch);
    for (int j = 0; j < batch.size; j++) {
      const int segment = batch.segment[j], g = batch.local[j];
      V dx = t.pixels[SUBS == 1 ? 0 : segment / TILE] - splat(batch.records[g].x);
      Hit h = evaluate(batch, g, segment, t, st.alpha_max, transmittance + segment * W, dx);
      unsigned drawn = bits(h.drawn);
      if (!drawn) continue;
      store(weights, h.weight);
      const float* f = st.features + size_t(st.ids[e + g]) * padded;
      float* pixels = sums + size_t(segment) * W * padded;
      for_channel_blocks(padded, [&](int c, auto vectors) {
        const int n = decltype(vectors)::COUNT;
        V color[n];
        for (int i = 0; i < n; i++) color[i] = load(f + c + i * W);
        for (unsigned left = drawn; left; left &= left - 1) {
          int lane = __builtin_ctz(left);
          float* a = pixels + lane * padded + c;
          V w = splat(weights[lane]);
          for (int i = 0; i < n; i++) store(a + i * W, fma(w, color[i], load(a + i * W)));
        }
      });
    }
    e += count;
    work[1] += batch.size;
  }
  st.processed[tile] = e - begin;
  work[0] += e - begin;
  for (int row = 0; row < t.rows; row++) {
    size_t line = (size_t(t.y0) + row) * s.width + size_t(t.x0);
    for (int c = 0; c < t.columns; c++) {
      int segment = (c / W) * TILE + row, lane = c % W;
      float T = fabsf(transmittance[segment * W + lane]);
      size_t pixel = line + c;
      st.transmittance[pixel] = T;
      k.image->alpha[pixel] = 1.f - T;
      const float* color = sums + (size_t(segment) * W + lane) * padded;
      float* out = k.image->color + pixel * s.channels;
      for (int ch = 0; ch < s.channels; ch++) out[ch] = color[ch] + (s.background ? T * s.background[ch] : 0.f);
      if (st.with_depth) k.image->depth[pixel] = color[s.channels];
    }
  }
}

int forward(const SplatScene* scene, SplatImage* image, Workspace** kept) {
  const SplatScene& s = *scene;
  Workspace *state = workspace_take(), *x = workspace_take();
  auto give_up = [&](int error) {
    workspace_give(state);
    workspace_give(x);
    return error;
  };
  if (!state || !x) return give_up(SPLAT_NO_MEMORY);
  State* stp = reserve<State>(state, S_STATE, 1);
  if (!stp) return give_up(SPLAT_NO_MEMORY);
  State& st = *stp;
  if (!make_view(s, st.view)) return give_up(SPLAT_BAD_CAMERA);
  st.tiles_x = (s.width + TILE - 1) / TILE;
  st.tiles_y = (s.height + TILE - 1) / TILE;
  st.with_depth = image->depth != nullptr;
  st.channels = s.channels + st.with_depth;
  st.padded = (st.channels + W - 1) / W * W;
  st.direct = st.channels <= DIRECT_CHANNELS;
  st.alpha_max = s.alpha_max;
  st.rank = reserve<int32_t>(state, S_RANK, s.count);
  st.row_entries = reserve<int64_t>(state, S_ROWS, st.tiles_y);
  st.offsets = reserve<int32_t>(state, S_OFFSETS, size_t(st.tiles_x) * st.tiles_y + 1);
  st.processed = reserve<int32_t>(state, S_PROCESSED, size_t(st.tiles_x) * st.tiles_y);
  st.transmittance = reserve<float>(state, S_TRANSMITTANCE, size_t(s.width) * s.height);
  Record* projected = reserve<Record>(x, X_RECORDS, s.count);
  if (!st.rank || !st.row_entries || !st.offsets || !st.processed || !st.transmittance || !projected)
    return give_up(SPLAT_NO_MEMORY);

  run(s.threads, (s.count + CHUNK - 1) / CHUNK, [&](int64_t task, int) {
    int64_t first = task * CHUNK, last = first + CHUNK < s.count ? first + CHUNK : s.count;
    project_chunk(s, st, *image, projected, first, last);
  });
  st.visible = 0;
  for (int64_t i = 0; i < s.count; i++) st.visible += st.rank[i] >= 0;
  int32_t* order = sort_by_depth(image->depths, st.rank, s.count, x, st.visible);
  st.records = reserve<Record>(state, S_RECORDS, st.visible);
  st.features = st.direct ? nullptr : reserve<float>(state, S_FEATURES, size_t(st.visible) * st.padded);
  if (!order || !st.records || (!st.direct && !st.features)) return give_up(SPLAT_NO_MEMORY);
  run(s.threads, (st.visible + CHUNK - 1) / CHUNK, [&](int64_t task, int) {
    int64_t first = task * CHUNK, last = first + CHUNK < st.visible ? first + CHUNK : st.visible;
    for (int64_t i = first; i < last; i++) {
      if (i + 8 < last) __builtin_prefetch(&projected[order[i + 8]]);
      st.records[i] = projected[order[i]];
      st.rank[order[i]] = int32_t(i);
      if (st.direct) continue;
      float* f = st.features + size_t(i) * st.padded;
      color_of(s, st.view, order[i], f);
      for (int c = s.channels; c < st.padded; c++) f[c] = 0.f;
      if (st.with_depth) f[s.channels] = image->depths[order[i]];
    }
  });
  int workers = s.threads > 1 ? s.threads : 1;
  size_t wide = st.direct ? 0 : size_t(TILE) * TILE * st.padded;
  size_t per_worker = (sizeof(Batch) + 63) / 64 * 64 + wide * sizeof(float) + 64;  // the last bytes keep counters apart
  char* scratch = reserve<char>(x, X_TILE, per_worker * workers);
  if (!count_entries(st, x) || !scratch) return give_up(SPLAT_NO_MEMORY);
  for (int w = 0; w < workers; w++) memset(scratch + per_worker * (w + 1) - 64, 0, 64);
  int64_t entries = 0;
  bool ok = true;
  for (int row = 0, end; row < st.tiles_y && ok; row = end) {
    end = band_end(st, row);
    st.lists_complete = row == 0 && end == st.tiles_y;
    ok = build_lists(st, state, x, s.threads, row, end);
    if (!ok) break;
    entries += st.offsets[(end - row) * st.tiles_x];
    TileTask k = {scene, &st, image, row * st.tiles_x};
    run(s.threads, int64_t(end - row) * st.tiles_x, [&](int64_t task, int worker) {
      char* mine = scratch + per_worker * worker;
      Batch& batch = *reinterpret_cast<Batch*>(mine);
      float* sums = reinterpret_cast<float*>(mine + (sizeof(Batch) + 63) / 64 * 64);
      int64_t* work = reinterpret_cast<int64_t*>(mine + per_worker - 64);
      int tile = k.first_tile + int(task);
      if (!st.direct) return forward_wide(k, tile, work, batch, sums);
      switch (st.channels) {
        case 1: return forward_direct<1>(k, tile, work, batch);
        case 2: return forward_direct<2>(k, tile, work, batch);
        case 3: return forward_direct<3>(k, tile, work, batch);
        case 4: return forward_direct<4>(k, tile, work, batch);
        case 5: return forward_direct<5>(k, tile, work, batch);
        default: return forward_direct<6>(k, tile, work, batch);
      }
    });
  }
  if (!ok) return give_up(SPLAT_NO_MEMORY);
  image->entries = entries;
  image->processed = image->evaluated = 0;
  for (int w = 0; w < workers; w++) {
    const int64_t* work = reinterpret_cast<int64_t*>(scratch + per_worker * (w + 1) - 64);
    image->processed += work[0];
    image->evaluated += work[1] * W;
  }
  workspace_give(x);
  if (s.keep_state) {
    *kept = state;
  } else {
    workspace_give(state);
    *kept = nullptr;
  }
  return SPLAT_OK;
}

// ---- backward ----

struct BackTask {
  const SplatScene* scene;
  State* st;
  const SplatGradients* g;
  int first_tile;       // of the band
  const int64_t* base;  // row of `moments` where a tile's entries begin, by tile of the group
  int group_first;
  float* moments;  // [entries][MOMENTS + channels + (absgrad ? 2 : 0)]
  float* background;  // [tiles][channels]
  int channels, columns;
};

// Cotangents of a tile, channel c of pixel (row, column) handed to put(segment, lane, c, value); returns Z through
// put_z. Also sums T_end * dL/dC for the background.
template <class Put, class PutZ>
void load_cotangents(const BackTask& k, int tile, const Tile& t, Put put, PutZ put_z) {
  const SplatScene& s = *k.scene;
  const State& st = *k.st;
  const SplatGradients& g = *k.g;
  float* background = k.background ? k.background + size_t(tile) * s.channels : nullptr;
  if (background) memset(background, 0, sizeof(float) * s.channels);
  for (int row = 0; row < t.rows; row++) {
    size_t line = (size_t(t.y0) + row) * s.width + size_t(t.x0);
    for (int c = 0; c < t.columns; c++) {
      int segment = (c / W) * TILE + row, lane = c % W;
      size_t pixel = line + c;
      float T = st.transmittance[pixel], z = g.alpha ? T * g.alpha[pixel] : 0.f;
      if (g.color) {
        const float *v = g.color + pixel * s.channels, *color = g.color_image + pixel * s.channels;
        for (int ch = 0; ch < s.channels; ch++) {
          put(segment, lane, ch, v[ch]);
          z -= color[ch] * v[ch];
          if (background) background[ch] += T * v[ch];
        }
      }
      if (g.depth) {
        put(segment, lane, s.channels, g.depth[pixel]);
        z -= g.depth_image[pixel] * g.depth[pixel];
      }
      put_z(segment, lane, z);
    }
  }
}

template <int C, bool ABS>
void backward_direct(const BackTask& k, int tile, Batch& batch) {
  State& st = *k.st;
  enum { STRIDE = (2 + C) * W, SUMS = MOMENTS + C + (ABS ? 2 : 0) };  // transmittance, Z, cotangents
  alignas(64) float pixels[SEGMENTS * STRIDE];
  memset(pixels, 0, sizeof pixels);
  Tile t;
  open_tile(st, tile, t, pixels, STRIDE);
  load_cotangents(
      k, tile, t, [&](int segment, int lane, int c, float v) { pixels[segment * STRIDE + (2 + c) * W + lane] = v; },
      [&](int segment, int lane, float z) { pixels[segment * STRIDE + W + lane] = z; });
  int e = st.offsets[tile - k.first_tile], end = e + st.processed[tile];
  float* out = k.moments + k.base[tile - k.group_first] * SUMS;
  const V zero = splat(0.f), one = splat(1.f);
  while (e < end) {
    int count = end - e < BATCH ? end - e : int(BATCH);
    collect_jobs(st, t, st.ids + e, count, batch);
    e += count;
    const uint8_t* job = batch.segment;
    for (int g = 0; g < count; g++, out += SUMS) {
      const Record& r = batch.records[g];
      V total[SUMS];
      for (V& v : total) v = zero;
      V f[C];
      for (int c = 0; c < C; c++) f[c] = splat(r.f[c]);
      bool any = false;
      for (int sub = 0; sub < SUBS; sub++) {
        int jobs = batch.count[g][sub];
        if (!jobs) continue;
        any = true;
        const V dx = t.pixels[sub] - splat(r.x);
        V s0 = zero, sy = zero, syy = zero, ax = zero, ay = zero, colors[C];
        for (int c = 0; c < C; c++) colors[c] = zero;
        for (const uint8_t* last = job + jobs; job < last; job++) {
          float* slot = pixels + *job * STRIDE;
          Hit h = evaluate(batch, g, *job, t, st.alpha_max, slot, dx);
          V seen = zero;
          for (int c = 0; c < C; c++) {
            V v = load(slot + (2 + c) * W);
            seen = fma(f[c], v, seen);
            colors[c] = fma(h.weight, v, colors[c]);
          }
          V z = fma(h.weight, seen, load(slot + W));
          store(slot + W, z);
          V d_alpha = fma(z, reciprocal(one - h.alpha), h.before * seen);
          // The clamp at alpha_max passes no gradient.
          V a = keep(both(h.drawn, le(h.raw, splat(st.alpha_max))), h.alpha * d_alpha);
          V dy = splat(RAMP[*job % TILE] - r.y), a_dy = a * dy;
          s0 = s0 + a;
          sy = sy + a_dy;
          syy = fma(a_dy, dy, syy);
          if (ABS) {
            // nb = -log2(e) b and na = -log2(e)/2 a, so the offsets through the conic follow up to that factor.
            ax = ax + magnitude(a * fma(dx, splat(2 * r.na), splat(r.nb) * dy));
            ay = ay + magnitude(a * fma(dx, splat(r.nb), splat(2 * r.nc) * dy));
          }
        }
        V s_dx = s0 * dx;
        total[0] = total[0] + s0;
        total[1] = total[1] + s_dx;
        total[2] = total[2] + sy;
        total[3] = fma(s_dx, dx, total[3]);
        total[4] = fma(sy, dx, total[4]);
        total[5] = total[5] + syy;
        for (int c = 0; c < C; c++) total[MOMENTS + c] = total[MOMENTS + c] + colors[c];
        if (ABS) {
          total[SUMS - 2] = total[SUMS - 2] + ax;
          total[SUMS - 1] = total[SUMS - 1] + ay;
        }
      }
      if (any)
        sums(total, out);
      else
        memset(out, 0, sizeof(float) * SUMS);
    }
  }
}

template <bool ABS>
void backward_wide(const BackTask& k, int tile, Batch& batch, float* scratch) {
  State& st = *k.st;
  const int channels = st.channels, padded = st.padded, columns = k.columns;
  float* by_pixel = scratch;                                  // [pixel][padded]
  float* by_channel = by_pixel + size_t(TILE) * TILE * padded;  // [segment][channel][lane]
  float* color_sums = by_channel + size_t(TILE) * TILE * padded;
  alignas(64) float pixels[SEGMENTS * 2 * W], weights[W];
  memset(pixels, 0, sizeof pixels);
  memset(by_pixel, 0, sizeof(float) * TILE * TILE * padded * 2);
  Tile t;
  open_tile(st, tile, t, pixels, 2 * W);
  load_cotangents(
      k, tile, t,
      [&](int segment, int lane, int c, float v) {
        by_pixel[(size_t(segment) * W + lane) * padded + c] = v;
        by_channel[(size_t(segment) * channels + c) * W + lane] = v;
      },
      [&](int segment, int lane, float z) { pixels[segment * 2 * W + W + lane] = z; });
  int e = st.offsets[tile - k.first_tile], end = e + st.processed[tile];
  float* out = k.moments + k.base[tile - k.group_first] * columns;
  const V zero = splat(0.f), one = splat(1.f);
  while (e < end) {
    int count = end - e < BATCH ? end - e : int(BATCH);
    collect_jobs(st, t, st.ids + e, count, batch);
    const uint8_t* job = batch.segment;
    for (int g = 0; g < count; g++, out += columns) {
      const Record& r = batch.records[g];
      const float* f = st.features + size_t(st.ids[e + g]) * padded;
      V total[MOMENTS + 2];
      for (V& v : total) v = zero;
      memset(color_sums, 0, sizeof(float) * padded);
      for (int sub = 0; sub < SUBS; sub++) {
        const V dx = t.pixels[sub] - splat(r.x);
        V s0 = zero, sy = zero, syy = zero;
        for (const uint8_t* last = job + batch.count[g][sub]; job < last; job++) {
          float* slot = pixels + *job * 2 * W;
          Hit h = evaluate(batch, g, *job, t, st.alpha_max, slot, dx);
          unsigned drawn = bits(h.drawn);
          if (!drawn) continue;
          const float* v = by_channel + size_t(*job) * channels * W;
          V seen = zero, seen2 = zero;
          int c = 0;
          for (; c + 2 <= channels; c += 2) {
            seen = fma(splat(f[c]), load(v + c * W), seen);
            seen2 = fma(splat(f[c + 1]), load(v + (c + 1) * W), seen2);
          }
          if (c < channels) seen = fma(splat(f[c]), load(v + c * W), seen);
          seen = seen + seen2;
          V z = fma(h.weight, seen, load(slot + W));
          store(slot + W, z);
          V d_alpha = fma(z, reciprocal(one - h.alpha), h.before * seen);
          V a = keep(both(h.drawn, le(h.raw, splat(st.alpha_max))), h.alpha * d_alpha);
          V dy = splat(RAMP[*job % TILE] - r.y), a_dy = a * dy;
          s0 = s0 + a;
          sy = sy + a_dy;
          syy = fma(a_dy, dy, syy);
          if (ABS) {
            total[6] = total[6] + magnitude(a * fma(dx, splat(2 * r.na), splat(r.nb) * dy));
            total[7] = total[7] + magnitude(a * fma(dx, splat(r.nb), splat(2 * r.nc) * dy));
          }
          store(weights, h.weight);
          const float* row = by_pixel + size_t(*job) * W * padded;
          for_channel_blocks(padded, [&](int first, auto vectors) {
            const int n = decltype(vectors)::COUNT;
            V s[n];
            for (int i = 0; i < n; i++) s[i] = load(color_sums + first + i * W);
            for (unsigned left = drawn; left; left &= left - 1) {
              int lane = __builtin_ctz(left);
              const float* p = row + lane * padded + first;
              V w = splat(weights[lane]);
              for (int i = 0; i < n; i++) s[i] = fma(w, load(p + i * W), s[i]);
            }
            for (int i = 0; i < n; i++) store(color_sums + first + i * W, s[i]);
          });
        }
        V s_dx = s0 * dx;
        total[0] = total[0] + s0;
        total[1] = total[1] + s_dx;
        total[2] = total[2] + sy;
        total[3] = fma(s_dx, dx, total[3]);
        total[4] = fma(sy, dx, total[4]);
        total[5] = total[5] + syy;
      }
      float moments[MOMENTS + 2];
      sums(total, moments);
      memcpy(out, moments, sizeof(float) * MOMENTS);
      memcpy(out + MOMENTS, color_sums, sizeof(float) * channels);
      if (ABS) memcpy(out + MOMENTS + channels, moments + MOMENTS, sizeof(float) * 2);
    }
    e += count;
  }
}

// Adds the entries of the tiles [first, last) to the sums per Gaussian, in tile order, for the ranks [r0, r1).
void add_entries(const BackTask& k, int first, int last, int64_t r0, int64_t r1, float* totals) {
  const State& st = *k.st;
  for (int tile = first; tile < last; tile++) {
    const int32_t* ids = st.ids + st.offsets[tile - k.first_tile];
    int low = 0, high = st.processed[tile];
    for (int n = high; low < n;) {
      int middle = (low + n) / 2;
      if (ids[middle] < r0) low = middle + 1;
      else n = middle;
    }
    const float* from = k.moments + (k.base[tile - k.group_first] + low) * k.columns;
    for (int i = low; i < high && ids[i] < r1; i++, from += k.columns) {
      float* to = totals + size_t(ids[i]) * k.columns;
      for (int c = 0; c < k.columns; c++) to[c] += from[c];
    }
  }
}

inline void put(float* out, int64_t at, int n, const float* values, bool add) {
  if (!out) return;
  for (int i = 0; i < n; i++) out[at * n + i] = (add ? out[at * n + i] : 0.f) + values[i];
}

void color_backward(const SplatScene& s, const View& v, int64_t i, const float* color_gradient, const float* color,
                    float* sh_gradient, bool add, ProjectedGradient& g, PoseGradient* pose) {
  float d[3], Y[25], weights[25], masked[3];
  for (int k = 0; k < 3; k++) d[k] = s.means[3 * i + k] - float(v.center[k]);
  float n = 1.f / most(sqrtf(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]), 1e-12f);
  for (float& c : d) c *= n;
  sh_basis(s.sh_degree, d[0], d[1], d[2], Y);
  for (int ch = 0; ch < 3; ch++) masked[ch] = color[ch] > 0.f ? color_gradient[ch] : 0.f;
  int used = (s.sh_degree + 1) * (s.sh_degree + 1);
  const float* c = s.colors + i * 3 * s.sh_stored;
  float* out = sh_gradient ? sh_gradient + i * 3 * s.sh_stored : nullptr;
  for (int k = 0; k < s.sh_stored; k++) {
    if (k < used) weights[k] = c[3 * k] * masked[0] + c[3 * k + 1] * masked[1] + c[3 * k + 2] * masked[2];
    if (!out) continue;
    for (int ch = 0; ch < 3; ch++) out[3 * k + ch] = (add ? out[3 * k + ch] : 0.f) + (k < used ? Y[k] * masked[ch] : 0.f);
  }
  if (s.sh_degree == 0) return;
  float along[3] = {0, 0, 0};
  sh_basis_gradient(s.sh_degree, d[0], d[1], d[2], weights, along);
  float radial = along[0] * d[0] + along[1] * d[1] + along[2] * d[2];
  for (int k = 0; k < 3; k++) {
    float across = (along[k] - radial * d[k]) * n;
    g.mean[k] += across;
    if (pose) pose->center[k] -= across;
  }
}

void gaussian_gradients(const SplatScene& s, const State& st, const SplatGradients& g, const float* totals, int columns,
                        int channels, int64_t first, int64_t last, PoseGradient* pose) {
  const float zeros[4] = {0, 0, 0, 0};
  const bool with_depth = g.depth != nullptr;
  const int a = g.accumulate;
  int per_color = s.sh_degree < 0 ? s.channels : 3 * s.sh_stored;
  for (int64_t i = first; i < last; i++) {
    int32_t rank = st.rank[i];
    if (rank < 0) {
      if (g.means && !(a & 1)) put(g.means, i, 3, zeros, false);
      if (g.rotations && !(a & 2)) put(g.rotations, i, 4, zeros, false);
      if (g.scales && !(a & 4)) put(g.scales, i, 3, zeros, false);
      if (g.opacities && !(a & 8)) put(g.opacities, i, 1, zeros, false);
      if (g.colors && !(a & 16)) memset(g.colors + i * per_color, 0, sizeof(float) * per_color);
      put(g.means2d, i, 2, zeros, false);
      put(g.absgrad, i, 2, zeros, false);
      continue;
    }
    const float* t = totals + size_t(rank) * columns;
    Projected o;
    ProjectedGradient p;
    project_one(s, st.view, i, o);
    project_one_backward(s, st.view, i, o, t, with_depth ? t[MOMENTS + s.channels] : 0.f, p, pose);
    if (s.sh_degree < 0) {
      put(g.colors, i, s.channels, t + MOMENTS, a & 16);
    } else {
      const float* color = st.direct ? st.records[rank].f : st.features + size_t(rank) * st.padded;
      color_backward(s, st.view, i, t + MOMENTS, color, g.colors, a & 16, p, pose);
    }
    put(g.means, i, 3, p.mean, a & 1);
    put(g.rotations, i, 4, p.rotation, a & 2);
    put(g.scales, i, 3, p.scale, a & 4);
    put(g.opacities, i, 1, &p.opacity, a & 8);
    const float mean2d[2] = {p.mx, p.my};
    put(g.means2d, i, 2, mean2d, false);
    if (g.absgrad) {
      const float* abs = t + MOMENTS + channels;
      const float absolute[2] = {abs[0] / LOG2E, abs[1] / LOG2E};
      put(g.absgrad, i, 2, absolute, false);
    }
  }
}

void camera_gradients(const View& v, const SplatGradients& g, const PoseGradient* poses, int64_t count) {
  PoseGradient total;
  memset(&total, 0, sizeof total);
  for (int64_t i = 0; i < count; i++) {
    for (int k = 0; k < 12; k++) total.view[k] += poses[i].view[k];
    for (int k = 0; k < 4; k++) total.intrinsics[k] += poses[i].intrinsics[k];
    for (int k = 0; k < 3; k++) total.center[k] += poses[i].center[k];
  }
  // The centre is the last column of the inverse of the whole matrix, so the last row has a gradient too.
  double last_row[4];
  double along = 0;
  for (int c = 0; c < 3; c++) along += total.center[c] * v.center[c];
  for (int c = 0; c < 4; c++) last_row[c] = -along * (c < 3 ? v.center[c] : 1.);
  for (int r = 0; r < 3; r++) {
    double u = 0;
    for (int k = 0; k < 3; k++) u += v.inverse[3 * k + r] * total.center[k];
    for (int c = 0; c < 3; c++) total.view[4 * r + c] -= u * v.center[c];
    total.view[4 * r + 3] -= u;
  }
  if (g.view)
    for (int k = 0; k < 16; k++)
      g.view[k] = (g.accumulate & 32 ? g.view[k] : 0.f) + float(k < 12 ? total.view[k] : last_row[k - 12]);
  if (g.intrinsics) {
    static const int PLACE[4] = {0, 4, 2, 5};
    if (!(g.accumulate & 64)) memset(g.intrinsics, 0, sizeof(float) * 9);
    for (int k = 0; k < 4; k++) g.intrinsics[PLACE[k]] += float(total.intrinsics[k]);
  }
}

template <bool ABS>
void backward_tile(const BackTask& k, int tile, Batch& batch, float* scratch) {
  if (!k.st->direct) return backward_wide<ABS>(k, tile, batch, scratch);
  switch (k.channels) {
    case 1: return backward_direct<1, ABS>(k, tile, batch);
    case 2: return backward_direct<2, ABS>(k, tile, batch);
    case 3: return backward_direct<3, ABS>(k, tile, batch);
    case 4: return backward_direct<4, ABS>(k, tile, batch);
    case 5: return backward_direct<5, ABS>(k, tile, batch);
    default: return backward_direct<6, ABS>(k, tile, batch);
  }
}

int backward_in(const SplatScene& s, Workspace* state, const SplatGradients& g, Workspace* x) {
  State& st = *static_cast<State*>(state->buffers[S_STATE].data);
  int tiles = st.tiles_x * st.tiles_y, workers = s.threads > 1 ? s.threads : 1;
  BackTask k;
  k.scene = &s, k.st = &st, k.g = &g;
  k.channels = st.direct ? s.channels + (g.depth != nullptr) : st.channels;
  k.columns = MOMENTS + k.channels + (s.absgrad ? 2 : 0);
  size_t wide = st.direct ? 0 : size_t(TILE) * TILE * st.padded * 2 + st.padded;
  size_t batch_bytes = (sizeof(Batch) + 63) / 64 * 64, per_worker = (batch_bytes + wide * sizeof(float) + 63) / 64 * 64;
  char* scratch = reserve<char>(x, X_TILE, per_worker * workers);
  float* totals = reserve<float>(x, X_SUMS, size_t(st.visible) * k.columns);
  int64_t chunks = (s.count + CHUNK - 1) / CHUNK;
  bool with_pose = g.view || g.intrinsics;
  PoseGradient* poses = with_pose ? reserve<PoseGradient>(x, X_POSE, chunks + 1) : nullptr;
  int64_t* base = reserve<int64_t>(x, X_KEYS, tiles + 1);
  k.background = g.background ? reserve<float>(x, X_BACKGROUND, size_t(tiles) * s.channels) : nullptr;
  if (!scratch || !totals || !base || (with_pose && !poses) || (g.background && !k.background)) return SPLAT_NO_MEMORY;
  memset(totals, 0, sizeof(float) * st.visible * k.columns);
  if (!st.lists_complete && !count_entries(st, x)) return SPLAT_NO_MEMORY;
  int64_t ranges = st.visible < 2000 ? 1 : s.threads;
  for (int row = 0, row_end; row < st.tiles_y; row = row_end) {
    row_end = st.lists_complete ? st.tiles_y : band_end(st, row);
    if (!st.lists_complete && !build_lists(st, state, x, s.threads, row, row_end)) return SPLAT_NO_MEMORY;
    k.first_tile = row * st.tiles_x;
    int band_last = row_end * st.tiles_x;
    for (int first = k.first_tile, last; first < band_last; first = last) {
      int64_t entries = 0;
      for (last = first; last < band_last; last++) {
        if (last > first && (entries + st.processed[last]) * k.columns > MOMENT_FLOATS_AT_ONCE) break;
        base[last - first] = entries;
        entries += st.processed[last];
      }
      k.base = base, k.group_first = first;
      k.moments = reserve<float>(x, X_MOMENTS, size_t(entries) * k.columns);
      if (!k.moments) return SPLAT_NO_MEMORY;
      run(s.threads, last - first, [&](int64_t task, int worker) {
        char* mine = scratch + per_worker * worker;
        Batch& batch = *reinterpret_cast<Batch*>(mine);
        float* rest = reinterpret_cast<float*>(mine + batch_bytes);
        if (s.absgrad)
          backward_tile<true>(k, first + int(task), batch, rest);
        else
          backward_tile<false>(k, first + int(task), batch, rest);
      });
      run(s.threads, ranges, [&](int64_t task, int) {
        add_entries(k, first, last, st.visible * task / ranges, st.visible * (task + 1) / ranges, totals);
      });
    }
  }
  if (poses) memset(poses, 0, sizeof(PoseGradient) * (chunks + 1));
  run(s.threads, chunks, [&](int64_t task, int) {
    int64_t first = task * CHUNK, last = first + CHUNK < s.count ? first + CHUNK : s.count;
    gaussian_gradients(s, st, g, totals, k.columns, k.channels, first, last, poses ? poses + task : nullptr);
  });
  if (with_pose) camera_gradients(st.view, g, poses, chunks);
  if (g.background)
    for (int c = 0; c < s.channels; c++) {
      double total = g.accumulate & 128 ? g.background[c] : 0.;
      for (int tile = 0; tile < tiles; tile++) total += k.background[size_t(tile) * s.channels + c];
      g.background[c] = float(total);
    }
  return SPLAT_OK;
}

int backward(const SplatScene* scene, Workspace* state, const SplatGradients* gradients) {
  Workspace* x = workspace_take();
  if (!x) return SPLAT_NO_MEMORY;
  int error = backward_in(*scene, state, *gradients, x);
  workspace_give(x);
  return error;
}

// ---- the machine's ceiling, for benchmarks ----

double multiply_add_rate(int threads) {
  const int64_t rounds = 2000000;
  const int chains = 10;
  if (threads < 1) threads = 1;
  float sink = 0;
  timespec begin, end;
  clock_gettime(CLOCK_MONOTONIC, &begin);
  run(threads, threads, [&](int64_t, int) {
    V a[chains], b = splat(0.999f), c = splat(1e-3f);
    for (int i = 0; i < chains; i++) a[i] = splat(1e-3f * float(i));
    for (int64_t n = 0; n < rounds; n++)
      for (int i = 0; i < chains; i++) a[i] = fma(a[i], b, c);
    for (int i = 1; i < chains; i++) a[0] = a[0] + a[i];
    float s = sum(a[0]);
    __atomic_store(&sink, &s, __ATOMIC_RELAXED);
  });
  clock_gettime(CLOCK_MONOTONIC, &end);
  double seconds = double(end.tv_sec - begin.tv_sec) + 1e-9 * double(end.tv_nsec - begin.tv_nsec);
  return double(rounds) * chains * W * threads / seconds;
}

}  // namespace

#define VULTUS_NAME2(isa) vultus_splats_##isa
#define VULTUS_NAME(isa) VULTUS_NAME2(isa)
#define VULTUS_TEXT2(isa) #isa
#define VULTUS_TEXT(isa) VULTUS_TEXT2(isa)
extern "C" {
extern const SplatKernels VULTUS_NAME(VULTUS_ISA);
const SplatKernels VULTUS_NAME(VULTUS_ISA) = {VULTUS_TEXT(VULTUS_ISA), forward, backward, multiply_add_rate};
}
