// The depth order of the Gaussians, and from it the list of every tile.
#pragma once
#include <string.h>

#include "threads.h"
#include "tiles.h"

namespace {

const int CHUNK = 1024;  // Gaussians per task
const int64_t ENTRIES_AT_ONCE = int64_t(1) << 25;  // tile-list entries in memory, unless one tile row needs more

struct State {
  View view;
  int64_t visible;
  int channels, padded;  // with the depth as last channel, and that rounded up to whole vectors
  bool with_depth, direct, lists_complete;
  bool copied;  // features are in `features`, in depth order; else used where the caller has them
  int tiles_x, tiles_y;
  float alpha_max;
  Record* records;
  Range* ranges;      // of the records
  int32_t* offsets;   // [tiles + 1], relative to the first tile of the band
  int32_t* ids;
  BlockSet* noted;  // what the forward pass found the entries of `ids` to reach, if a backward pass may follow
  float* transmittance;  // only if a backward pass may follow
  int32_t* processed;
  float* features;  // [visible, padded]
  int32_t* rank;    // [count], -1 where not drawn
  int64_t* row_entries;  // [tiles_y]
};

enum StateSlot { S_STATE, S_RECORDS, S_OFFSETS, S_IDS, S_TRANSMITTANCE, S_PROCESSED, S_FEATURES, S_RANK, S_ROWS, S_RANGES, S_NOTED };
enum ScratchSlot { X_RECORDS, X_KEYS, X_KEYS2, X_BINS, X_OWNERS, X_GRID, X_MOMENTS, X_SUMS, X_TILE, X_BACKGROUND, X_BASE, X_POSE };

template <class F>
void run(int threads, int64_t tasks, const F& body) {
  parallel_for(
      threads, tasks,
      [](void* context, int64_t task, int worker) { (*static_cast<const F*>(context))(task, worker); },
      const_cast<void*>(static_cast<const void*>(&body)));
}

// What the projection says about a chunk of Gaussians: how many are drawn, and between which depths (as sortable keys).
struct ChunkSummary {
  int64_t visible;
  uint32_t nearest, farthest;
};

inline uint32_t depth_key(float depth) {
  uint32_t key;
  memcpy(&key, &depth, sizeof key);  // positive floats sort like integers
  return key;
}

// A drawn Gaussian and its depth as a key.
struct Drawn {
  uint32_t key;
  int32_t index;
};

// The drawn Gaussians in depth order, equal depths in index order: a radix sort of as many passes of 11 bits
// as the range of depths needs. The result does not depend on the number of threads.
Drawn* sort_by_depth(const float* depths, const int32_t* rank, int64_t count, ChunkSummary* chunks, Workspace* x,
                     int64_t visible, int threads) {
  enum { DIGIT = 11, BINS = 1 << DIGIT, MOST_PARTS = 64 };
  const int parts = visible < 10000 || threads < 1 ? 1 : threads < MOST_PARTS ? threads : int(MOST_PARTS);
  Drawn* from = reserve<Drawn>(x, X_KEYS, visible);
  Drawn* to = reserve<Drawn>(x, X_KEYS2, visible);
  uint32_t* starts = reserve<uint32_t>(x, X_BINS, size_t(parts) * BINS);  // [part][bin]
  if (!from || !to || !starts) return nullptr;
  uint32_t nearest = ~0u, farthest = 0;
  int64_t before = 0;
  const int64_t n_chunks = (count + CHUNK - 1) / CHUNK;
  for (int64_t c = 0; c < n_chunks; c++) {
    const int64_t n = chunks[c].visible;
    chunks[c].visible = before;  // from now on: where the chunk's entries begin
    before += n;
    if (!n) continue;
    if (chunks[c].nearest < nearest) nearest = chunks[c].nearest;
    if (chunks[c].farthest > farthest) farthest = chunks[c].farthest;
  }
  run(parts, n_chunks, [&](int64_t c, int) {
    int64_t n = chunks[c].visible, last = (c + 1) * CHUNK < count ? (c + 1) * CHUNK : count;
    for (int64_t i = c * CHUNK; i < last; i++)
      if (rank[i] >= 0) from[n++] = {depth_key(depths[i]) - nearest, int32_t(i)};
  });
  for (int shift = 0; visible && shift < 32 && (farthest - nearest) >> shift; shift += DIGIT) {
    auto part_begin = [&](int64_t part) { return visible * part / parts; };
    run(parts, parts, [&](int64_t part, int) {
      uint32_t* mine = starts + part * BINS;
      memset(mine, 0, sizeof(uint32_t) * BINS);
      for (int64_t i = part_begin(part); i < part_begin(part + 1); i++) mine[from[i].key >> shift & (BINS - 1)]++;
    });
    uint32_t total = 0;
    for (int bin = 0; bin < BINS; bin++)
      for (int part = 0; part < parts; part++) {
        uint32_t n = starts[part * BINS + bin];
        starts[part * BINS + bin] = total;
        total += n;
      }
    run(parts, parts, [&](int64_t part, int) {
      uint32_t* mine = starts + part * BINS;
      for (int64_t i = part_begin(part); i < part_begin(part + 1); i++) {
        const Drawn d = from[i];
        to[mine[d.key >> shift & (BINS - 1)]++] = d;
      }
    });
    Drawn* sorted = to;
    to = from;
    from = sorted;
  }
  return from;
}

// Where a band of tile rows that starts at `row` must end to keep its lists in bounds.
int band_end(const State& st, int row) {
  int64_t total = 0;
  int end = row;
  while (end < st.tiles_y && (end == row || total + st.row_entries[end] <= ENTRIES_AT_ONCE)) total += st.row_entries[end++];
  return end;
}

// The Gaussians in depth order are cut into parts, so that each thread lists its own.
inline int list_parts(const State& st, int threads) { return st.visible < 10000 || threads < 1 ? 1 : threads; }
inline int64_t part_begin(const State& st, int64_t part, int parts) { return st.visible * part / parts; }

// How many Gaussians of every part reach each tile, by a two-dimensional running sum of corner marks; how many in all
// reach each row of tiles.
bool count_entries(const State& st, Workspace* x, int threads) {
  const int stride = st.tiles_x + 1, size = stride * (st.tiles_y + 1), parts = list_parts(st, threads);
  int32_t* grids = reserve<int32_t>(x, X_GRID, size_t(size) * parts);
  if (!grids) return false;
  run(parts, parts, [&](int64_t part, int) {
    int32_t* grid = grids + size * part;
    memset(grid, 0, sizeof(int32_t) * size);
    for (int64_t i = part_begin(st, part, parts); i < part_begin(st, part + 1, parts); i++) {
      const Range r = st.ranges[i];
      grid[r.y0 * stride + r.x0]++;
      grid[r.y0 * stride + r.x1]--;
      grid[r.y1 * stride + r.x0]--;
      grid[r.y1 * stride + r.x1]++;
    }
    for (int y = 0; y < st.tiles_y; y++) {
      int32_t along = 0;
      for (int t = 0; t < st.tiles_x; t++) {
        along += grid[y * stride + t];
        grid[y * stride + t] = along + (y ? grid[(y - 1) * stride + t] : 0);
      }
    }
  });
  for (int y = 0; y < st.tiles_y; y++) {
    st.row_entries[y] = 0;
    for (int part = 0; part < parts; part++)
      for (int t = 0; t < st.tiles_x; t++) st.row_entries[y] += grids[size_t(size) * part + y * stride + t];
  }
  return true;
}

// Lists of the tile rows [row0, row1). Needs count_entries.
bool build_lists(State& st, Workspace* state, Workspace* x, int threads, int row0, int row1, bool note) {
  const int32_t* grids = static_cast<int32_t*>(x->buffers[X_GRID].data);
  const int stride = st.tiles_x + 1, size = stride * (st.tiles_y + 1), parts = list_parts(st, threads);
  const int tiles = (row1 - row0) * st.tiles_x;
  int32_t* cursors = reserve<int32_t>(x, X_BASE, size_t(tiles) * parts);
  if (!cursors) return false;
  int32_t total = 0;
  for (int t = 0; t < tiles; t++) {
    st.offsets[t] = total;
    for (int part = 0; part < parts; part++) {
      cursors[size_t(tiles) * part + t] = total;
      total += grids[size_t(size) * part + (row0 + t / st.tiles_x) * stride + t % st.tiles_x];
    }
  }
  st.offsets[tiles] = total;
  int32_t* ids = st.ids = reserve<int32_t>(state, S_IDS, total);
  if (!ids) return false;
  st.noted = note ? reserve<BlockSet>(state, S_NOTED, total) : nullptr;
  if (note && !st.noted) return false;
  run(parts, parts, [&](int64_t part, int) {
    int32_t* cursor = cursors + size_t(tiles) * part;
    for (int64_t i = part_begin(st, part, parts); i < part_begin(st, part + 1, parts); i++) {
      const Range r = st.ranges[i];
      const int y0 = r.y0 > row0 ? r.y0 : row0, y1 = r.y1 < row1 ? r.y1 : row1, width = r.x1 - r.x0;
      int32_t* line = cursor + (y0 - row0) * st.tiles_x + r.x0;
      for (int y = y0; y < y1; y++, line += st.tiles_x)
        for (int t = 0; t < width; t++) ids[line[t]++] = int32_t(i);
    }
  });
  return true;
}

}  // namespace
