// From gradients of pixels to gradients of Gaussians.
//
// The forward pass of each tile is repeated with the same arithmetic, with one running sum per pixel:
// Z = T_end (dL/dA - b . dL/dC) - sum over Gaussians behind of w (f . dL/dC), from which
// dL/dalpha = T (f . dL/dC) + Z / (1 - alpha). Which blocks of pixels a Gaussian reaches is known from the forward pass, unless the
// image was drawn in bands. Sums per Gaussian and tile are stored and added up in tile order, so that results do not depend on
// the number of threads.
#pragma once
#include "forward.h"

namespace {

const int64_t MOMENT_FLOATS_AT_ONCE = int64_t(1) << 22;  // unless one tile needs more

enum { ROWS_AHEAD = 8, FEATURES_AHEAD = 4 };

struct BackTask {
  const SplatScene* scene;
  State* st;
  const SplatGradients* g;
  int first_tile;       // of the band
  const int64_t* base;  // row of `moments` where a tile's entries begin, by tile of the group
  int group_first;
  float* moments;   // [entries][columns]; a tile fills as many rows as it has entries that reach a pixel
  int32_t* owners;  // of the rows: ranks
  int32_t* filled;  // rows by tile of the group
  float* background;  // [tiles][channels]
  int channels, columns;  // columns: MOMENTS, with absgrad two more, and the channels; wide ones padded
};

// Cotangents of a tile: those of one pixel are handed to put(block, lane, first channel, channels, values), its Z to put_z.
// Sums T_end * dL/dC for the background.
template <class Put, class PutZ>
void load_cotangents(const BackTask& k, int tile, const Tile& t, Put put, PutZ put_z) {
  const SplatScene& s = *k.scene;
  const State& st = *k.st;
  const SplatGradients& g = *k.g;
  const int channels = s.channels;
  float* background = k.background ? k.background + size_t(tile) * channels : nullptr;
  if (background) memset(background, 0, sizeof(float) * channels);
  for_pixels(t, s.width, [&](int block, int lane, size_t pixel) {
    float T = st.transmittance[pixel], z = g.alpha ? T * g.alpha[pixel] : 0.f;
    if (g.color) {
      const float *v = g.color + pixel * channels, *color = g.color_image + pixel * channels;
      put(block, lane, 0, channels, v);
      int c = 0;
      for (int line = 0; line < channels; line += 16) {  // of the pixel below
        __builtin_prefetch(v + size_t(s.width) * channels + line);
        __builtin_prefetch(color + size_t(s.width) * channels + line);
      }
      if (channels >= W) {
        V product = splat(0.f);
        for (; c + W <= channels; c += W) {
          const V values = loadu(v + c);
          product = fma(loadu(color + c), values, product);
          if (background) storeu(background + c, fma(splat(T), values, loadu(background + c)));
        }
        z -= sum(product);
      }
      for (; c < channels; c++) {
        z -= color[c] * v[c];
        if (background) background[c] += T * v[c];
      }
    }
    if (g.depth) {
      put(block, lane, channels, 1, g.depth + pixel);
      z -= g.depth_image[pixel] * g.depth[pixel];
    }
    put_z(block, lane, z);
  });
}

inline void prefetch_row(const float* row, int columns) {
  for (int c = 0; c < columns; c += 16) __builtin_prefetch(row + c);
}

// Fetches the memory that will be written some Gaussians later: stores that wait for it hold up all that follow.
inline void prefetch_sums(float* row, int columns) {
  for (int c = 0; c < columns; c += 16) __builtin_prefetch(row + ROWS_AHEAD * columns + c, 1);
}

// Adds what one job says about its Gaussian. seen = f . dL/dC, z = Z after the job.
template <bool ABS>
inline void add_moments(const Batch& b, int job, const Step& step, V raw, V alpha_max, V seen, V z, V* total) {
  const int place = b.place[job], g = place / STRIPS;
  const V dx = load(PLACES.x[place % STRIPS]) - splat(b.x[g]), dy = load(PLACES.y[b.block[job] % STRIP_BLOCKS]) - splat(b.y[g]);
  const V d_alpha = fma(z, reciprocal(splat(1.f) - step.alpha), step.before * seen);
  const V a = keep(both(step.open, le(raw, alpha_max)), step.alpha * d_alpha);  // the limit alpha_max passes no gradient
  const V a_dx = a * dx, a_dy = a * dy;
  total[0] = total[0] + a;
  total[1] = total[1] + a_dx;
  total[2] = total[2] + a_dy;
  total[3] = fma(a_dx, dx, total[3]);
  total[4] = fma(a_dx, dy, total[4]);
  total[5] = fma(a_dy, dy, total[5]);
  if (ABS) {
    // nb = -log2(e) b and na = -log2(e)/2 a, so the offsets through the conic follow up to that factor.
    const V nb = splat(b.nb[g]);
    total[6] = total[6] + magnitude(a * fma(dx, splat(2 * b.na[g]), nb * dy));
    total[7] = total[7] + magnitude(a * fma(dx, nb, splat(2 * b.nc[g]) * dy));
  }
}

template <int C, bool ABS>
void backward_direct(const BackTask& k, int tile, Batch& batch) {
  State& st = *k.st;
  enum { STRIDE = (2 + C) * W, EXTRA = ABS ? 2 : 0, SUMS = MOMENTS + EXTRA + C };  // of a block: transmittance, Z, cotangents
  alignas(64) float pixels[BLOCKS * STRIDE];
  memset(pixels, 0, sizeof pixels);
  Tile t;
  open_tile(k.scene->width, k.scene->height, st.tiles_x, tile, t, pixels, STRIDE);
  load_cotangents(
      k, tile, t,
      [&](int block, int lane, int first, int channels, const float* v) {
        float* to = pixels + block * STRIDE + (2 + first) * W + lane;
        for (int c = 0; c < channels; c++) to[c * W] = v[c];
      },
      [&](int block, int lane, float z) { pixels[block * STRIDE + W + lane] = z; });
  const int row = tile - k.group_first, begin = st.offsets[tile - k.first_tile];
  float* out = k.moments + k.base[row] * SUMS;
  int32_t* owner = k.owners + k.base[row];
  const V alpha_max = splat(st.alpha_max);
  for_batches(st, t, begin, st.processed[tile], batch, pixels, STRIDE, st.noted != nullptr, [&](int first, int count) {
    int j = 0;
    for (int g = 0; g < count; g++) {
      if (!batch.jobs[g]) continue;
      prefetch_sums(out, SUMS);
      V total[SUMS];
      UNROLLED for (int i = 0; i < SUMS; i++) total[i] = splat(0.f);
      for (const int last = j + batch.jobs[g]; j < last; j++) {
        float* slot = pixels + batch.block[j] * STRIDE;
        const V raw = load(batch.alpha[j]);
        const Step step = blend(raw, alpha_max, slot);
        V seen = splat(0.f);
        for (int c = 0; c < C; c++) {
          const V v = load(slot + (2 + c) * W);
          seen = fma(splat(batch.color[g][c]), v, seen);
          total[MOMENTS + EXTRA + c] = fma(step.weight, v, total[MOMENTS + EXTRA + c]);
        }
        const V z = fma(step.weight, seen, load(slot + W));
        store(slot + W, z);
        add_moments<ABS>(batch, j, step, raw, alpha_max, seen, z, total);
      }
      sums(total, out);
      out += SUMS;
      *owner++ = st.ids[begin + first + g];
    }
  });
  k.filled[row] = int32_t(owner - (k.owners + k.base[row]));
}

// What the blending of a batch's jobs found: job by job; and pair by pair of a Gaussian and a pixel that it changed, because many
// lanes of a job change nothing and with many channels should cost nothing.
struct Blended {
  enum { AT_ONCE = 4, MOST = BATCH * (TILE * TILE + AT_ONCE) + 16 };  // pairs of a Gaussian: a multiple of AT_ONCE
  uint8_t jobs[BATCH];  // per Gaussian, those that changed a pixel
  uint16_t job[BATCH * BLOCKS + 1], lanes[BATCH * BLOCKS + 1];  // of these: their place in the batch, the lanes they changed
  alignas(64) float before[BATCH * BLOCKS + 1][W];  // of these: the transmittance in these lanes, 0 in the others
  uint8_t pixel[MOST];  // block * W + lane
  float pair_weight[MOST], seen[MOST];
  int first[BATCH + 1];  // pair of a Gaussian
};

// Blends a batch's jobs.
void blend_jobs(const Batch& batch, int count, V alpha_max, float* transmittance, int stride, Blended& x) {
  const V zero = splat(0.f);
  int kept = 0, n = 0;
  for (int g = 0, j = 0; g < count; g++) {
    const int before = kept;
    x.first[g] = n;
    for (const int last = j + batch.jobs[g]; j < last; j++) {
      const int block = batch.block[j];
      const Step step = blend(load(batch.alpha[j]), alpha_max, transmittance + block * stride);
      const M changed = gt(step.weight, zero);
      const unsigned lanes = bits(changed);
      store(x.before[kept], keep(changed, step.before));
      x.job[kept] = uint16_t(j);
      x.lanes[kept] = uint16_t(lanes);
      kept += lanes != 0;
      pack(x.pair_weight + n, step.weight, lanes);
      for (int part = 0; part < W; part += 8) {
        const unsigned byte = lanes >> part & 255;
        const uint64_t pixels = BITS.places[byte] + EVERY_BYTE * uint64_t(block * W + part);
        memcpy(x.pixel + n, &pixels, 8);
        n += __builtin_popcount(byte);
      }
    }
    x.jobs[g] = uint8_t(kept - before);
    // Filled up with pairs of weight 0, without a branch, because their number cannot be predicted.
    for (int i = 0; i < Blended::AT_ONCE - 1; i++) x.pixel[n + i] = x.pixel[x.first[g]], x.pair_weight[n + i] = 0.f;
    n = (n + Blended::AT_ONCE - 1) / Blended::AT_ONCE * Blended::AT_ONCE;
  }
  x.first[count] = n;
}

// For the pairs of one Gaussian and N vectors of channels: f . dL/dC is added to `seen` (or put there, if these channels are the
// FIRST), the sum of weight * dL/dC is put to `out`. cotangents: of these channels, at pixel * padded. A pair meets each value of
// dL/dC once, for both products.
template <int N, bool FIRST>
inline void pair_products(Blended& x, int begin, int end, const float* f, const float* cotangents, int padded, float* out) {
  enum { PAIRS = Blended::AT_ONCE };
  V total[N], feature[N];
  UNROLLED for (int i = 0; i < N; i++) total[i] = splat(0.f);
  UNROLLED for (int i = 0; i < N; i++) feature[i] = loadu(f + i * W);
  for (int n = begin; n < end; n += PAIRS) {
    V seen[PAIRS];
    for (int p = 0; p < PAIRS; p++) {
      const float* v = cotangents + x.pixel[n + p] * padded;
      const V weight = splat(x.pair_weight[n + p]);
      seen[p] = splat(0.f);
      for (int i = 0; i < N; i++) {
        const V value = load(v + i * W);
        seen[p] = fma(feature[i], value, seen[p]);
        total[i] = fma(weight, value, total[i]);
      }
    }
    float* to = x.seen + n;
    if (FIRST) {
      sums(seen, to);
    } else {
      float more[PAIRS];
      sums(seen, more);
      for (int p = 0; p < PAIRS; p++) to[p] += more[p];
    }
  }
  UNROLLED for (int i = 0; i < N; i++) storeu(out + i * W, total[i]);
}

// The same for all channels.
void add_products(Blended& x, int g, const float* f, const float* cotangents, int padded, float* out) {
  const int begin = x.first[g], end = x.first[g + 1];
  int c = 0;
  auto products = [&](auto vectors, auto is_first) {
    enum { N = decltype(vectors)::COUNT };
    pair_products<N, decltype(is_first)::COUNT != 0>(x, begin, end, f + c, cotangents + c, padded, out + c);
    c += N * W;
  };
  if (padded >= 4 * W) products(Vectors<4>(), Vectors<1>());
  else if (padded >= 2 * W) products(Vectors<2>(), Vectors<1>());
  else products(Vectors<1>(), Vectors<1>());
  while (c + 4 * W <= padded) products(Vectors<4>(), Vectors<0>());
  while (c + 2 * W <= padded) products(Vectors<2>(), Vectors<0>());
  while (c < padded) products(Vectors<1>(), Vectors<0>());
}

template <bool ABS>
void backward_wide(const BackTask& k, int tile, Batch& batch, Blended& x, float* cotangents) {
  State& st = *k.st;
  const SplatScene& s = *k.scene;
  const int padded = st.padded;
  enum { EXTRA = ABS ? 2 : 0 };
  alignas(64) float pixels[BLOCKS * 2 * W];
  memset(pixels, 0, sizeof pixels);
  Tile t;
  open_tile(s.width, s.height, st.tiles_x, tile, t, pixels, 2 * W);
  if (t.rows < TILE || t.columns < TILE || padded > s.channels) memset(cotangents, 0, sizeof(float) * TILE * TILE * padded);
  load_cotangents(
      k, tile, t,
      [&](int block, int lane, int first, int channels, const float* v) {
        float* to = cotangents + size_t(block * W + lane) * padded + first;
        int c = 0;
        for (; c + W <= channels; c += W) store(to + c, loadu(v + c));
        for (; c < channels; c++) to[c] = v[c];
      },
      [&](int block, int lane, float z) { pixels[block * 2 * W + W + lane] = z; });
  const int row = tile - k.group_first, list = st.offsets[tile - k.first_tile];
  float* out = k.moments + k.base[row] * k.columns;
  int32_t* owner = k.owners + k.base[row];
  const int32_t* ids = st.ids + list;
  const V alpha_max = splat(st.alpha_max), zero = splat(0.f);
  for_batches(st, t, list, st.processed[tile], batch, pixels, 2 * W, st.noted != nullptr, [&](int first, int count) {
    prefetch_features(s, st, ids, first + count, st.processed[tile]);
    blend_jobs(batch, count, alpha_max, pixels, 2 * W, x);
    float* products = out + MOMENTS + EXTRA;
    for (int g = 0; g < count; g++) {
      if (g + FEATURES_AHEAD < count)
        prefetch_row(features_of(s, st, ids[first + g + FEATURES_AHEAD], batch.index[g + FEATURES_AHEAD]), padded);
      if (!x.jobs[g]) continue;
      const float* f = features_of(s, st, ids[first + g], batch.index[g]);
      prefetch_sums(products, k.columns);
      add_products(x, g, f, cotangents, padded, products);
      products += k.columns;
    }
    // In a loop of its own, because what the products have stored last is still on its way.
    for (int g = 0, i = 0; g < count; g++) {
      if (!x.jobs[g]) continue;
      V total[MOMENTS + EXTRA];
      UNROLLED for (int m = 0; m < MOMENTS + EXTRA; m++) total[m] = zero;
      const float* seen_by_pair = x.seen + x.first[g];
      for (const int last = i + x.jobs[g]; i < last; i++) {
        const int j = x.job[i];
        float* slot = pixels + batch.block[j] * 2 * W + W;
        const V raw = load(batch.alpha[j]), alpha = smaller(raw, alpha_max), before = load(x.before[i]);
        const Step step = {alpha, before, alpha * before, gt(before, zero)};
        const V seen = unpack(seen_by_pair, x.lanes[i], step.open);
        seen_by_pair += __builtin_popcount(x.lanes[i]);
        const V z = fma(step.weight, seen, load(slot));
        store(slot, z);
        add_moments<ABS>(batch, j, step, raw, alpha_max, seen, z, total);
      }
      sums(total, out);
      out += k.columns;
      *owner++ = ids[first + g];
    }
  });
  k.filled[row] = int32_t(owner - (k.owners + k.base[row]));
}

// Adds the entries of the tiles [first, last) to the sums per Gaussian, in tile order, for the ranks [r0, r1).
void add_entries(const BackTask& k, int first, int last, int64_t r0, int64_t r1, float* totals) {
  for (int tile = first; tile < last; tile++) {
    const int64_t base = k.base[tile - k.group_first];
    const int32_t* owners = k.owners + base;
    int low = 0;
    const int rows = k.filled[tile - k.group_first];
    for (int n = rows; low < n;) {
      int middle = (low + n) / 2;
      if (owners[middle] < r0) low = middle + 1;
      else n = middle;
    }
    const float* from = k.moments + (base + low) * k.columns;
    for (int i = low; i < rows && owners[i] < r1; i++, from += k.columns) {
      float* to = totals + size_t(owners[i]) * k.columns;
      if (i + 8 < rows) prefetch_row(totals + size_t(owners[i + 8]) * k.columns, k.columns);
      for (int c = 0; c < k.columns; c++) to[c] += from[c];
    }
  }
}

inline void put(float* out, int64_t at, int n, const float* values, bool add) {
  if (!out) return;
  out += at * n;
  if (add) {
    for (int i = 0; i < n; i++) out[i] += values[i];
  } else {
    memcpy(out, values, sizeof(float) * n);
  }
}

// Gradients of SH coefficients; `mean` gets what reaches the centre through the viewing direction.
void color_backward(const SplatScene& s, const View& v, int64_t i, const float* color_gradient, const float* color,
                    float* sh_gradient, bool add, float* mean) {
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
  for (int k = 0; k < 3; k++) mean[k] = 0.f;
  if (s.sh_degree == 0) return;
  float along[3] = {0, 0, 0};
  sh_basis_gradient(s.sh_degree, d[0], d[1], d[2], weights, along);
  float radial = along[0] * d[0] + along[1] * d[1] + along[2] * d[2];
  for (int k = 0; k < 3; k++) mean[k] = (along[k] - radial * d[k]) * n;
}

// Gradients of the Gaussians [first, last) from their sums over tiles.
void gaussian_gradients(const SplatScene& s, const State& st, const SplatGradients& g, const float* totals, int columns,
                        int64_t first, int64_t last, PoseGradient* pose) {
  const int a = g.accumulate, extra = s.absgrad ? 2 : 0;
  const int per_color = s.sh_degree < 0 ? s.channels : 3 * s.sh_stored;
  enum { MEAN = 0, ROTATION = 3, SCALE = 7, OPACITY = 10, MX, MY, OUTPUTS };
  alignas(64) float in[MOMENTS + 1][W], out[OUTPUTS][W];
  for (int64_t group = first; group < last; group += W) {
    const int lanes = last - group < W ? int(last - group) : int(W);
    bool any = false;
    memset(in, 0, sizeof in);
    for (int64_t i = group + 2 * W; i < group + 3 * W && i < last; i++)
      if (st.rank[i] >= 0) prefetch_row(totals + size_t(st.rank[i]) * columns, columns);
    for (int l = 0; l < lanes; l++) {
      const int32_t rank = st.rank[group + l];
      if (rank < 0) continue;
      any = true;
      const float* t = totals + size_t(rank) * columns;
      for (int m = 0; m < MOMENTS; m++) in[m][l] = t[m];
      if (g.depth) in[MOMENTS][l] = t[MOMENTS + extra + s.channels];
    }
    Shapes shapes;
    Projected o;
    ProjectedGradient p;
    if (any) {
      V moments[MOMENTS];
      for (int m = 0; m < MOMENTS; m++) moments[m] = load(in[m]);
      load_shapes(s, group, last, shapes);
      project(s, st.view, shapes, o);
      project_backward(s, st.view, shapes, o, moments, load(in[MOMENTS]), p);
      for (int k = 0; k < 3; k++) store(out[MEAN + k], p.mean[k]), store(out[SCALE + k], p.scale[k]);
      for (int k = 0; k < 4; k++) store(out[ROTATION + k], p.rotation[k]);
      store(out[OPACITY], p.opacity);
      store(out[MX], p.mx);
      store(out[MY], p.my);
    }
    for (int l = 0; l < lanes; l++) {
      const int64_t i = group + l;
      const int32_t rank = st.rank[i];
      float values[OUTPUTS] = {0}, absolute[2] = {0, 0};
      if (rank >= 0) {
        const float *t = totals + size_t(rank) * columns, *color_gradient = t + MOMENTS + extra;
        for (int k = 0; k < OUTPUTS; k++) values[k] = out[k][l];
        if (s.absgrad) absolute[0] = t[MOMENTS] / LOG2E, absolute[1] = t[MOMENTS + 1] / LOG2E;
        if (pose) pose_backward(st.view, shapes, o, p, l, *pose);
        if (s.sh_degree < 0) {
          put(g.colors, i, s.channels, color_gradient, a & 16);
        } else {
          float through[3];
          const float* color = st.direct ? st.records[rank].f : st.features + size_t(rank) * st.padded;
          color_backward(s, st.view, i, color_gradient, color, g.colors, a & 16, through);
          for (int k = 0; k < 3; k++) {
            values[MEAN + k] += through[k];
            if (pose) pose->center[k] -= through[k];
          }
        }
      } else if (g.colors && !(a & 16)) {
        memset(g.colors + i * per_color, 0, sizeof(float) * per_color);
      }
      put(g.means, i, 3, values + MEAN, a & 1);
      put(g.rotations, i, 4, values + ROTATION, a & 2);
      put(g.scales, i, 3, values + SCALE, a & 4);
      put(g.opacities, i, 1, values + OPACITY, a & 8);
      put(g.means2d, i, 2, values + MX, false);
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

struct BackWorker {
  Batch batch;
  Blended wide;
};

template <bool ABS>
void backward_tile(const BackTask& k, int tile, BackWorker& w, float* scratch) {
  if (!k.st->direct) return backward_wide<ABS>(k, tile, w.batch, w.wide, scratch);
  switch (k.channels) {
    case 1: return backward_direct<1, ABS>(k, tile, w.batch);
    case 2: return backward_direct<2, ABS>(k, tile, w.batch);
    case 3: return backward_direct<3, ABS>(k, tile, w.batch);
    case 4: return backward_direct<4, ABS>(k, tile, w.batch);
    case 5: return backward_direct<5, ABS>(k, tile, w.batch);
    default: return backward_direct<6, ABS>(k, tile, w.batch);
  }
}

int backward_in(const SplatScene& s, Workspace* state, const SplatGradients& g, Workspace* x) {
  State& st = *static_cast<State*>(state->buffers[S_STATE].data);
  int tiles = st.tiles_x * st.tiles_y, workers = s.threads > 1 ? s.threads : 1;
  BackTask k;
  k.scene = &s, k.st = &st, k.g = &g;
  k.channels = st.direct ? s.channels + (g.depth != nullptr) : st.channels;
  k.columns = MOMENTS + (s.absgrad ? 2 : 0) + (st.direct ? k.channels : st.padded);
  const size_t per_worker = sizeof(BackWorker) + (st.direct ? 0 : sizeof(float) * TILE * TILE * st.padded);
  char* scratch = reserve<char>(x, X_TILE, per_worker * workers);
  float* totals = reserve<float>(x, X_SUMS, size_t(st.visible) * k.columns);
  int64_t chunks = (s.count + CHUNK - 1) / CHUNK;
  bool with_pose = g.view || g.intrinsics;
  PoseGradient* poses = with_pose ? reserve<PoseGradient>(x, X_POSE, chunks + 1) : nullptr;
  int64_t* base = reserve<int64_t>(x, X_KEYS, tiles + 1);
  k.filled = reserve<int32_t>(x, X_KEYS2, tiles);
  k.background = g.background ? reserve<float>(x, X_BACKGROUND, size_t(tiles) * s.channels) : nullptr;
  if (!scratch || !totals || !base || !k.filled || (with_pose && !poses) || (g.background && !k.background)) return SPLAT_NO_MEMORY;
  memset(totals, 0, sizeof(float) * st.visible * k.columns);
  if (!st.lists_complete && !count_entries(st, x, s.threads)) return SPLAT_NO_MEMORY;
  int64_t ranges = st.visible < 2000 ? 1 : s.threads;
  for (int row = 0, row_end; row < st.tiles_y; row = row_end) {
    row_end = st.lists_complete ? st.tiles_y : band_end(st, row);
    if (!st.lists_complete && !build_lists(st, state, x, s.threads, row, row_end, false)) return SPLAT_NO_MEMORY;
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
      k.owners = reserve<int32_t>(x, X_OWNERS, entries);
      if (!k.moments || !k.owners) return SPLAT_NO_MEMORY;
      run(s.threads, last - first, [&](int64_t task, int worker) {
        char* mine = scratch + per_worker * worker;
        BackWorker& w = *reinterpret_cast<BackWorker*>(mine);
        float* rest = reinterpret_cast<float*>(mine + sizeof(BackWorker));
        if (s.absgrad)
          backward_tile<true>(k, first + int(task), w, rest);
        else
          backward_tile<false>(k, first + int(task), w, rest);
      });
      run(s.threads, ranges, [&](int64_t task, int) {
        add_entries(k, first, last, st.visible * task / ranges, st.visible * (task + 1) / ranges, totals);
      });
    }
  }
  if (poses) memset(poses, 0, sizeof(PoseGradient) * (chunks + 1));
  run(s.threads, chunks, [&](int64_t task, int) {
    int64_t first = task * CHUNK, last = first + CHUNK < s.count ? first + CHUNK : s.count;
    gaussian_gradients(s, st, g, totals, k.columns, first, last, poses ? poses + task : nullptr);
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

}  // namespace
