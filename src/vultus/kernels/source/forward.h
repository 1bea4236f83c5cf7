// From Gaussians to pixels.
#pragma once
#include <math.h>
#include <string.h>
#include <time.h>

#include "harmonics.h"
#include "lists.h"

namespace {

double seconds() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

// ---- projection ----

void color_of(const SplatScene& s, const View& v, int64_t i, float* out) {
  if (s.sh_degree < 0) {
    const float* from = s.colors + i * s.channels;
    int c = 0;
    for (; c + W <= s.channels; c += W) storeu(out + c, loadu(from + c));
    for (; c < s.channels; c++) out[c] = from[c];
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
  const int n = s.sh_degree < 0 ? s.channels : 3 * s.sh_stored;
  const float* c = s.colors + i * n;
  V zeros = splat(0.f);
  int k = 0;
  for (; k + W <= n; k += W) {
    V v = loadu(c + k);
    zeros = zeros + (v - v);
  }
  float zero = k ? sum(zeros) : 0.f;
  for (; k < n; k++) zero += c[k] - c[k];
  return zero == 0.f;
}

// Those of the Gaussians first ... first + lanes - 1 in `wanted` (bits) that have no other colours than finite ones.
unsigned with_finite_colors(const SplatScene& s, int64_t first, int lanes, unsigned wanted) {
  const int n = s.sh_degree < 0 ? s.channels : 3 * s.sh_stored;
  unsigned found = 0;
  if (n * W <= 64 && lanes == W) {  // a bit for every number
    uint64_t numbers = 0;
    for (int k = 0; k < n; k++) numbers |= uint64_t(bits(finite(loadu(s.colors + first * n + k * W)))) << (k * W);
    const uint64_t all = (uint64_t(1) << n) - 1;
    for (int l = 0; l < W; l++) found |= unsigned((numbers >> (l * n) & all) == all) << l;
    return found & wanted;
  }
  for (int l = 0; l < lanes; l++)
    if (wanted >> l & 1) found |= unsigned(colors_finite(s, first + l)) << l;
  return found;
}

// Tiles [x0, x1) x [y0, y1), and half the box of alpha >= ALPHA_CUTOFF in whole pixels.
struct Extents {
  alignas(64) int32_t x0[W], x1[W], y0[W], y1[W], rx[W], ry[W];
  unsigned on_image;  // lanes whose box overlaps the image; those of them that reach no pixel centre have x0 >= x1
};

inline void store(int32_t* to, I a) { memcpy(to, &a, sizeof a); }

// One dimension of it: the centre, half the exact box, and the size of the image. Returns the lanes on the image.
inline M extent_along(V center, V half, int size, int32_t* tile0, int32_t* tile1, int32_t* radius) {
  const V zero = splat(0.f), limit = splat(float(size));
  const V r = ceil_positive(smaller(half, splat(1073741824.f)));
  store(radius, whole(r));
  half = half * splat(1.0001f) + splat(0.01f);  // more than the rounding of the ellipse test
  const V first = ceil_positive(smaller(larger(center - half - splat(0.5f), zero), limit));
  const V last_plus_1 = smaller(larger(center + half + splat(0.5f), zero), limit);
  const I begin = whole(first), end = whole(last_plus_1);
  const I tiles = (end + 15) >> 4;
  store(tile0, begin >> 4);
  store(tile1, whole(keep(gt(real(end), first), real(tiles))));
  return both(gt(center + r, zero), gt(limit, center - r));
}

// What the original rasteriser cuts off: tiles outside a square of three standard deviations.
void cut_as_inria(const SplatScene& s, const Projected& o, int l, Extents& e) {
  const float middle = 0.5f * (o.s00[l] + o.s11[l]), mx = o.mx[l] - 0.5f, my = o.my[l] - 0.5f;
  const float r = ceilf(3.f * sqrtf(middle + sqrtf(most(0.1f, middle * middle - o.det[l]))));
  auto tile = [](float pixel, int limit) { return int32_t(least(most(truncf(pixel / TILE), 0.f), float(limit))); };
  auto cut = [&](float center, int size, int32_t& tile0, int32_t& tile1) {
    const int tiles = (size + TILE - 1) / TILE, low = tile(center - r, tiles), high = tile(center + r + TILE - 1, tiles);
    if (tile0 < low) tile0 = low;
    if (tile1 > high) tile1 = high;
    return low < high;
  };
  const bool x_reached = cut(mx, s.width, e.x0[l], e.x1[l]), y_reached = cut(my, s.height, e.y0[l], e.y1[l]);
  e.on_image = (e.on_image & ~(1u << l)) | unsigned(x_reached && y_reached) << l;
  e.rx[l] = e.ry[l] = int32_t(least(r, 1073741824.f));
}

// Projects the Gaussians [first, last) into `records` at their own index.
ChunkSummary project_chunk(const SplatScene& s, const State& st, SplatImage& image, Record* records, int64_t first,
                           int64_t last) {
  ChunkSummary summary = {0, ~0u, 0};
  for (int64_t group = first; group < last; group += W) {
    Shapes shapes;
    Projected o;
    load_shapes(s, group, last, shapes);
    const M drawable = project(s, st.view, shapes, o);
    const int used = last - group < W ? int(last - group) : int(W);
    const unsigned bright = with_finite_colors(s, group, used, bits(both(drawable, ge(o.opacity, splat(ALPHA_CUTOFF)))));
    const V zero = splat(0.f), lo = log2(larger(o.opacity, splat(ALPHA_CUTOFF)));  // of the bright ones; log2 takes no others
    // alpha >= ALPHA_CUTOFF within sqrt(2 ln(opacity / cutoff)) standard deviations
    const V sigmas = smaller(root(larger((lo - splat(LOG2_CUTOFF)) * splat(2.f / LOG2E), zero)), splat(TIGHT_SIGMAS));
    Extents e;
    const M x_on_image = extent_along(o.mx, sigmas * root(o.s00), s.width, e.x0, e.x1, e.rx);
    const M y_on_image = extent_along(o.my, sigmas * root(o.s11), s.height, e.y0, e.y1, e.ry);
    e.on_image = bits(both(x_on_image, y_on_image));
    enum { X, Y, NA, NB, NC, LO, VERTEX, Z, COLUMNS };
    const V na = splat(-0.5f * LOG2E) * o.a, nb = splat(-LOG2E) * o.b;
    const V columns[COLUMNS] = {keep(finite(o.mx), o.mx), keep(finite(o.my), o.my), na, nb, splat(-0.5f * LOG2E) * o.c, lo,
                                splat(-0.5f) * nb / na, keep(finite(o.z), o.z)};
    alignas(64) float lanes[COLUMNS][W];
    for (int c = 0; c < COLUMNS; c++) store(lanes[c], columns[c]);
    for (int l = 0; l < used; l++) {
      const int64_t i = group + l;
      bool drawn = bright >> l & 1;
      if (drawn && s.inria_extent) cut_as_inria(s, o, l, e);
      drawn = drawn && (e.on_image >> l & 1);
      image.radii[2 * i] = drawn ? e.rx[l] : 0;
      image.radii[2 * i + 1] = drawn ? e.ry[l] : 0;
      drawn = drawn && e.x0[l] < e.x1[l] && e.y0[l] < e.y1[l];
      image.means2d[2 * i] = lanes[X][l];
      image.means2d[2 * i + 1] = lanes[Y][l];
      image.depths[i] = lanes[Z][l];
      st.rank[i] = drawn ? 0 : -1;
      if (!drawn) continue;
      Record& r = records[i];
      r.tiles = {int16_t(e.x0[l]), int16_t(e.y0[l]), int16_t(e.x1[l]), int16_t(e.y1[l])};
      r.index = int32_t(i);
      r.x = lanes[X][l], r.y = lanes[Y][l], r.lo = lanes[LO][l], r.vertex = lanes[VERTEX][l];
      r.na = lanes[NA][l], r.nb = lanes[NB][l], r.nc = lanes[NC][l];
      if (st.direct) {
        if (s.sh_degree >= 0) {
          color_of(s, st.view, i, r.f);
        } else {  // always as many, because a copy of a few would be a call
          const float* color = s.colors + i * s.channels;
          UNROLLED for (int c = 0; c < DIRECT_CHANNELS; c++) r.f[c] = color[c < s.channels ? c : 0];
        }
        if (st.with_depth) r.f[s.channels] = lanes[Z][l];
      }
      const uint32_t key = depth_key(lanes[Z][l]);
      summary.visible++;
      if (key < summary.nearest) summary.nearest = key;
      if (key > summary.farthest) summary.farthest = key;
    }
  }
  return summary;
}

// ---- tiles ----

struct TileTask {
  const SplatScene* scene;
  State* st;
  SplatImage* image;
  int first_tile;  // of the band
};

// Features of the Gaussian of rank `rank` and index `index`, readable in whole vectors.
inline const float* features_of(const SplatScene& s, const State& st, int32_t rank, int32_t index) {
  return st.copied ? st.features + size_t(rank) * st.padded : s.colors + size_t(index) * s.channels;
}

// Walks the list of a tile in batches: body(first entry, entries) after the alphas are known. Returns the entries visited.
// transmittance and stride: as for open_tile. With `known`, the forward pass has noted what the entries reach.
template <class F>
inline int for_batches(const State& st, Tile& t, int begin, int entries, Batch& b, const float* transmittance, int stride,
                       bool known, const F& body) {
  const int32_t* ids = st.ids + begin;
  int e = 0;
  while (e < entries && t.open()) {
    const int count = entries - e < BATCH ? entries - e : int(BATCH);
    BlockSet* noted = st.noted ? st.noted + begin + e : nullptr;
    if (known) collect_jobs<true>(st.records, t, ids + e, count, entries - e, b, noted);
    else collect_jobs<false>(st.records, t, ids + e, count, entries - e, b, noted);
    evaluate_jobs(b);
    body(e, count);
    e += count;
    if (known) continue;
    for (int s = 0; s < STRIPS; s++) t.live[s] = open_blocks(transmittance, stride, s);
  }
  return e;
}

inline void write_pixel(const TileTask& k, size_t pixel, float T, const float* color) {
  const SplatScene& s = *k.scene;
  float* out = k.image->color + pixel * s.channels;
  int c = 0;
  if (s.background) {
    for (; c + W <= s.channels; c += W) storeu(out + c, fma(splat(T), loadu(s.background + c), loadu(color + c)));
    for (; c < s.channels; c++) out[c] = T * s.background[c] + color[c];
  } else {
    for (; c + W <= s.channels; c += W) storeu(out + c, loadu(color + c));
    for (; c < s.channels; c++) out[c] = color[c];
  }
  k.image->alpha[pixel] = 1.f - T;
  if (k.image->depth) k.image->depth[pixel] = color[s.channels];
  if (k.st->transmittance) k.st->transmittance[pixel] = T;
}

// Up to DIRECT_CHANNELS channels: pixels are the lanes.
template <int C>
void forward_direct(const TileTask& k, int tile, int64_t* work, Batch& batch) {
  State& st = *k.st;
  enum { STRIDE = (1 + C) * W };  // of a block: transmittance, channels
  alignas(64) float sums[BLOCKS * STRIDE];
  memset(sums, 0, sizeof sums);
  Tile t;
  open_tile(k.scene->width, k.scene->height, st.tiles_x, tile, t, sums, STRIDE);
  const int begin = st.offsets[tile - k.first_tile], entries = st.offsets[tile - k.first_tile + 1] - begin;
  const V alpha_max = splat(st.alpha_max);
  const int visited = for_batches(st, t, begin, entries, batch, sums, STRIDE, false, [&](int, int) {
    work[1] += batch.size;
    for (int j = 0; j < batch.size; j++) {
      float* slot = sums + batch.block[j] * STRIDE;
      const float* color = batch.color[batch.place[j] / STRIPS];
      const Step step = blend(load(batch.alpha[j]), alpha_max, slot);
      for (int c = 0; c < C; c++) {
        float* a = slot + (1 + c) * W;
        store(a, fma(step.weight, splat(color[c]), load(a)));
      }
    }
  });
  st.processed[tile] = visited;
  work[0] += visited;
  for_pixels(t, k.scene->width, [&](int block, int lane, size_t pixel) {
    const float* p = sums + block * STRIDE + lane;
    float color[C];
    for (int c = 0; c < C; c++) color[c] = p[(1 + c) * W];
    write_pixel(k, pixel, fabsf(p[0]), color);
  });
}

// Calls body(first channel, number of vectors as a constant) for pairs of vectors of channels.
template <int N>
struct Vectors {
  enum { COUNT = N };
};
template <class F>
inline void for_channel_pairs(int padded, const F& body) {
  int c = 0;
  for (; c + 2 * W <= padded; c += 2 * W) body(c, Vectors<2>());
  if (c < padded) body(c, Vectors<1>());
}

// What the Gaussians contribute to one block, kept until there are enough for a small matrix product.
enum { WAITING = 16 };
struct Contributions {
  int count;
  const float* features[WAITING];
  alignas(64) float weights[WAITING][W];
};

// sums[lane][channel] += weights^T features
void add_contributions(Contributions& waiting, float* sums, int padded) {
  enum { PIXELS = W < 16 ? 4 : 8 };  // so that the sums of that many pixels stay in registers
  for_channel_pairs(padded, [&](int c, auto vectors) {
    enum { N = decltype(vectors)::COUNT };
    for (int p = 0; p < W; p += PIXELS) {
      float* to = sums + p * padded + c;
      V a[PIXELS][N];
      for (int q = 0; q < PIXELS; q++)
        for (int i = 0; i < N; i++) a[q][i] = load(to + q * padded + i * W);
      for (int e = 0; e < waiting.count; e++) {
        const float *f = waiting.features[e] + c, *w = waiting.weights[e] + p;
        V feature[N];
        for (int i = 0; i < N; i++) feature[i] = loadu(f + i * W);
        for (int q = 0; q < PIXELS; q++) {
          const V weight = splat(w[q]);
          for (int i = 0; i < N; i++) a[q][i] = fma(weight, feature[i], a[q][i]);
        }
      }
      for (int q = 0; q < PIXELS; q++)
        for (int i = 0; i < N; i++) store(to + q * padded + i * W, a[q][i]);
    }
  });
  waiting.count = 0;
}

struct WideScratch {
  Contributions waiting[BLOCKS];
  alignas(64) float transmittance[BLOCKS][W];
};

// Fetches what the batch that starts at `first` will read.
inline void prefetch_features(const SplatScene& s, const State& st, const int32_t* ids, int first, int entries) {
  for (int e = first; e < first + BATCH && e < entries; e++) {
    const float* next = features_of(s, st, ids[e], st.records[ids[e]].index);
    for (int c = 0; c < st.channels; c += 16) __builtin_prefetch(next + c);
  }
}

// Any number of channels: weights first, then channels are the lanes.
void forward_wide(const TileTask& k, int tile, int64_t* work, Batch& batch, WideScratch& x, float* sums) {
  State& st = *k.st;
  const SplatScene& s = *k.scene;
  const int padded = st.padded;
  memset(sums, 0, sizeof(float) * TILE * TILE * padded);
  for (Contributions& c : x.waiting) c.count = 0;
  Tile t;
  open_tile(s.width, s.height, st.tiles_x, tile, t, x.transmittance[0], W);
  const int begin = st.offsets[tile - k.first_tile], entries = st.offsets[tile - k.first_tile + 1] - begin;
  const int32_t* ids = st.ids + begin;
  const V alpha_max = splat(st.alpha_max), zero = splat(0.f);
  const int visited = for_batches(st, t, begin, entries, batch, x.transmittance[0], W, false, [&](int first, int count) {
    work[1] += batch.size;
    prefetch_features(s, st, ids, first + count, entries);
    for (int j = 0; j < batch.size; j++) {
      const int block = batch.block[j], g = batch.place[j] / STRIPS;
      const Step step = blend(load(batch.alpha[j]), alpha_max, x.transmittance[block]);
      Contributions& waiting = x.waiting[block];
      store(waiting.weights[waiting.count], step.weight);
      waiting.features[waiting.count] = features_of(s, st, ids[first + g], batch.index[g]);
      waiting.count += bits(gt(step.weight, zero)) != 0;
      if (waiting.count == WAITING) add_contributions(waiting, sums + size_t(block) * W * padded, padded);
    }
  });
  for (int block = 0; block < BLOCKS; block++) add_contributions(x.waiting[block], sums + size_t(block) * W * padded, padded);
  st.processed[tile] = visited;
  work[0] += visited;
  for_pixels(t, s.width, [&](int block, int lane, size_t pixel) {
    write_pixel(k, pixel, fabsf(x.transmittance[block][lane]), sums + (size_t(block) * W + lane) * padded);
  });
}

struct Worker {
  Batch batch;
  WideScratch wide;
  alignas(64) int64_t work[8];  // entries visited, jobs; a cache line of its own
};

void forward_tile(const TileTask& k, int tile, Worker& w, float* sums) {
  if (!k.st->direct) return forward_wide(k, tile, w.work, w.batch, w.wide, sums);
  switch (k.st->channels) {
    case 1: return forward_direct<1>(k, tile, w.work, w.batch);
    case 2: return forward_direct<2>(k, tile, w.work, w.batch);
    case 3: return forward_direct<3>(k, tile, w.work, w.batch);
    case 4: return forward_direct<4>(k, tile, w.work, w.batch);
    case 5: return forward_direct<5>(k, tile, w.work, w.batch);
    default: return forward_direct<6>(k, tile, w.work, w.batch);
  }
}

int forward_in(const SplatScene& s, SplatImage& image, Workspace* state, Workspace* x) {
  double now = seconds();
  auto lap = [&](double& phase) {
    double then = now;
    now = seconds();
    phase = now - then;
  };
  State* stp = reserve<State>(state, S_STATE, 1);
  if (!stp) return SPLAT_NO_MEMORY;
  State& st = *stp;
  if (!make_view(s, st.view)) return SPLAT_BAD_CAMERA;
  st.tiles_x = (s.width + TILE - 1) / TILE;
  st.tiles_y = (s.height + TILE - 1) / TILE;
  st.with_depth = image.depth != nullptr;
  st.channels = s.channels + st.with_depth;
  st.padded = (st.channels + W - 1) / W * W;
  st.direct = st.channels <= DIRECT_CHANNELS;
  st.copied = !st.direct && (st.padded != s.channels || s.sh_degree >= 0);
  st.alpha_max = s.alpha_max;
  const size_t tiles = size_t(st.tiles_x) * st.tiles_y;
  const int64_t chunks = (s.count + CHUNK - 1) / CHUNK;
  st.rank = reserve<int32_t>(state, S_RANK, s.count);
  st.row_entries = reserve<int64_t>(state, S_ROWS, st.tiles_y);
  st.offsets = reserve<int32_t>(state, S_OFFSETS, tiles + 1);
  st.processed = reserve<int32_t>(state, S_PROCESSED, tiles);
  st.transmittance = s.keep_state ? reserve<float>(state, S_TRANSMITTANCE, size_t(s.width) * s.height) : nullptr;
  Record* projected = reserve<Record>(x, X_RECORDS, s.count);
  ChunkSummary* summaries = reserve<ChunkSummary>(x, X_SUMS, chunks);
  if (!st.rank || !st.row_entries || !st.offsets || !st.processed || !projected || !summaries) return SPLAT_NO_MEMORY;
  if (s.keep_state && !st.transmittance) return SPLAT_NO_MEMORY;

  run(s.threads, chunks, [&](int64_t task, int) {
    int64_t first = task * CHUNK, last = first + CHUNK < s.count ? first + CHUNK : s.count;
    summaries[task] = project_chunk(s, st, image, projected, first, last);
  });
  st.visible = 0;
  for (int64_t c = 0; c < chunks; c++) st.visible += summaries[c].visible;
  lap(image.seconds[0]);

  const Drawn* order = sort_by_depth(image.depths, st.rank, s.count, summaries, x, st.visible, s.threads);
  st.records = reserve<Record>(state, S_RECORDS, st.visible);
  st.ranges = reserve<Range>(state, S_RANGES, st.visible);
  st.features = st.copied ? reserve<float>(state, S_FEATURES, size_t(st.visible) * st.padded) : nullptr;
  if (!order || !st.records || !st.ranges || (st.copied && !st.features)) return SPLAT_NO_MEMORY;
  run(s.threads, (st.visible + CHUNK - 1) / CHUNK, [&](int64_t task, int) {
    int64_t first = task * CHUNK, last = first + CHUNK < st.visible ? first + CHUNK : st.visible;
    for (int64_t i = first; i < last; i++) {
      if (i + 16 < last) __builtin_prefetch(&projected[order[i + 16].index]);
      const int32_t index = order[i].index;
      const Record& r = st.records[i] = projected[index];
      st.ranges[i] = r.tiles;
      if (s.keep_state) st.rank[index] = int32_t(i);
      if (!st.copied) continue;
      float* f = st.features + size_t(i) * st.padded;
      color_of(s, st.view, index, f);
      for (int c = s.channels; c < st.padded; c++) f[c] = 0.f;
      if (st.with_depth) f[s.channels] = image.depths[index];
    }
  });
  lap(image.seconds[1]);

  const int workers = s.threads > 1 ? s.threads : 1;
  const size_t per_worker = sizeof(Worker) + (st.direct ? 0 : sizeof(float) * TILE * TILE * st.padded);
  char* scratch = reserve<char>(x, X_TILE, per_worker * workers);
  if (!scratch || !count_entries(st, x, s.threads)) return SPLAT_NO_MEMORY;
  for (int w = 0; w < workers; w++) memset(reinterpret_cast<Worker*>(scratch + per_worker * w)->work, 0, 64);
  image.entries = image.processed = image.evaluated = 0;
  image.seconds[2] = image.seconds[3] = 0;
  for (int row = 0, end; row < st.tiles_y; row = end) {
    double part;
    end = band_end(st, row);
    st.lists_complete = row == 0 && end == st.tiles_y;
    if (!build_lists(st, state, x, s.threads, row, end, s.keep_state && st.lists_complete)) return SPLAT_NO_MEMORY;
    image.entries += st.offsets[(end - row) * st.tiles_x];
    lap(part);
    image.seconds[2] += part;
    TileTask k = {&s, &st, &image, row * st.tiles_x};
    run(s.threads, int64_t(end - row) * st.tiles_x, [&](int64_t task, int worker) {
      char* mine = scratch + per_worker * worker;
      forward_tile(k, k.first_tile + int(task), *reinterpret_cast<Worker*>(mine), reinterpret_cast<float*>(mine + sizeof(Worker)));
    });
    lap(part);
    image.seconds[3] += part;
  }
  for (int w = 0; w < workers; w++) {
    const Worker& worker = *reinterpret_cast<Worker*>(scratch + per_worker * w);
    image.processed += worker.work[0];
    image.evaluated += worker.work[1] * W;
  }
  return SPLAT_OK;
}

int forward(const SplatScene* scene, SplatImage* image, Workspace** kept) {
  Workspace *state = workspace_take(), *x = workspace_take();
  int error = state && x ? forward_in(*scene, *image, state, x) : int(SPLAT_NO_MEMORY);
  workspace_give(x);
  *kept = nullptr;
  if (error == SPLAT_OK && scene->keep_state) {
    *kept = state;
  } else {
    workspace_give(state);
  }
  return error;
}

}  // namespace
