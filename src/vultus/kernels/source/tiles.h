// Tiles, the blocks of pixels they are made of, and how far a batch of Gaussians covers them.
//
// A tile is 16 x 16 pixels, cut into blocks of one vector: 4 pixels wide and W / 4 high, because a squarer block wastes
// fewer lanes on a round Gaussian than a row of W pixels does. A column of blocks is a strip.
#pragma once
#include <string.h>

#include "projection.h"
#include "simd.h"

namespace {

enum {
  TILE = 16,
  BLOCK_COLUMNS = 4,
  BLOCK_ROWS = W / BLOCK_COLUMNS,
  STRIPS = TILE / BLOCK_COLUMNS,
  STRIP_BLOCKS = TILE / BLOCK_ROWS,
  BLOCKS = STRIPS * STRIP_BLOCKS,
  BATCH = 32,           // Gaussians that a tile works on at once
  ABREAST = 2,          // jobs whose alphas are computed in lockstep
  DIRECT_CHANNELS = 6,  // up to here colours live in the record
};
const float LOG2E = 1.44269504088896f;
const float LOG2_CUTOFF = -7.99435343685886f;
const float STOP = 1e-4f;

// Tiles [x0, x1) x [y0, y1).
struct Range {
  int16_t x0, y0, x1, y1;
};

// A Gaussian on the image. alpha = 2^(lo + na dx^2 + nb dx dy + nc dy^2), at the pixel offset (dx, dy).
struct alignas(64) Record {
  float x, y, na, nb, nc, lo;
  float vertex;  // -0.5 nb / na: dx / dy of the largest alpha in a row
  int32_t index;
  Range tiles;
  float f[DIRECT_CHANNELS];
};

// Some of a tile's blocks, as bits.
template <int N>
struct Bits {
  typedef uint32_t Type;
};
template <>
struct Bits<64> {
  typedef uint64_t Type;
};
typedef Bits<BLOCKS>::Type BlockSet;

struct Places {
  alignas(64) float x[STRIPS][W], y[STRIP_BLOCKS][W];  // pixel centres of a block's lanes, in the tile
  alignas(64) float rows[TILE];  // pixel rows, in an order that puts the rows of one block W / BLOCK_ROWS lanes apart
  constexpr Places() : x(), y(), rows() {
    for (int lane = 0; lane < W; lane++) {
      for (int s = 0; s < STRIPS; s++) x[s][lane] = float(s * BLOCK_COLUMNS + lane % BLOCK_COLUMNS) + 0.5f;
      for (int b = 0; b < STRIP_BLOCKS; b++) y[b][lane] = float(b * BLOCK_ROWS + lane / BLOCK_COLUMNS) + 0.5f;
    }
    for (int p = 0; p < TILE; p++) rows[p] = float(p % STRIP_BLOCKS * BLOCK_ROWS + p / STRIP_BLOCKS) + 0.5f;
  }
};
constexpr Places PLACES;

const uint64_t EVERY_BYTE = 0x0101010101010101u;

// A batch's Gaussians, with centres relative to the tile, and its jobs: the blocks that each of them reaches.
struct Batch {
  float x[BATCH], y[BATCH], na[BATCH], nb[BATCH], nc[BATCH], lo[BATCH];
  float color[BATCH][DIRECT_CHANNELS];
  int32_t index[BATCH];
  uint8_t jobs[BATCH];  // per Gaussian
  int size;             // jobs in all
  uint8_t block[BATCH * BLOCKS + 8], place[BATCH * BLOCKS + 8];  // of a job; place = Gaussian * STRIPS + strip; some
                                                                 // valid ones follow the last
  // Per place, the exponent as a polynomial in dy without the square, which is nc: its linear and its constant term.
  alignas(64) float linear[BATCH * STRIPS][W], constant[BATCH * STRIPS][W];
  alignas(64) float alpha[BATCH * BLOCKS + ABREAST][W];  // of a job; 0 below the cut-off, not yet limited to alpha_max
};

struct Tile {
  float x0, y0;
  int rows, columns;      // inside the image
  uint32_t live[STRIPS];  // blocks of which some pixel is still open
  bool open() const {
    uint32_t any = 0;
    for (uint32_t l : live) any |= l;
    return any != 0;
  }
};

// Blocks of a strip of which some pixel is still open. The transmittance of block b is at transmittance + b * stride.
inline uint32_t open_blocks(const float* transmittance, int stride, int strip) {
  uint32_t open = 0;
  for (int b = 0; b < STRIP_BLOCKS; b++)
    if (bits(gt(load(transmittance + (strip * STRIP_BLOCKS + b) * stride), splat(0.f)))) open |= 1u << b;
  return open;
}

// A tile at rest: transmittance 1 in the image and -1, which stands for a closed pixel, outside.
void open_tile(int width, int height, int tiles_x, int tile, Tile& t, float* transmittance, int stride) {
  int tx = tile % tiles_x, ty = tile / tiles_x;
  t.x0 = float(tx * TILE), t.y0 = float(ty * TILE);
  t.columns = width - tx * TILE < TILE ? width - tx * TILE : TILE;
  t.rows = height - ty * TILE < TILE ? height - ty * TILE : TILE;
  for (int s = 0; s < STRIPS; s++) {
    const M column = le(load(PLACES.x[s]), splat(float(t.columns)));
    for (int b = 0; b < STRIP_BLOCKS; b++) {
      const M inside = both(column, le(load(PLACES.y[b]), splat(float(t.rows))));
      store(transmittance + (s * STRIP_BLOCKS + b) * stride, select(inside, splat(1.f), splat(-1.f)));
    }
    t.live[s] = open_blocks(transmittance, stride, s);
  }
}

// Adds the jobs of Gaussian g in a strip: the blocks `reached`, as bits.
inline void add_jobs(Batch& b, int g, int s, uint32_t reached, V x, V na, V nb, V lo, int& size) {
  const int place = g * STRIPS + s;
  const V dx = load(PLACES.x[s]) - x;
  store(b.linear[place], nb * dx);
  store(b.constant[place], fma(dx * dx, na, lo));
  for (int part = 0; part < STRIP_BLOCKS; part += 8) {
    const uint32_t mask = reached >> part & 255;
    const uint64_t blocks = BITS.places[mask] + EVERY_BYTE * uint64_t(s * STRIP_BLOCKS + part);
    const uint64_t places = EVERY_BYTE * uint64_t(place);
    memcpy(b.block + size, &blocks, 8);
    memcpy(b.place + size, &places, 8);
    size += __builtin_popcount(mask);
  }
}

// Fills a batch with the Gaussians `ids` and finds the blocks that they reach: per row of pixels the largest exponent
// within the strip is compared with the cut-off. What it finds it notes in `noted`, one set per Gaussian, unless that is null;
// or it has been noted before (KNOWN). `left` ids are there, `count` of them for this batch.
template <bool KNOWN>
void collect_jobs(const Record* records, const Tile& t, const int32_t* ids, int count, int left, Batch& b, BlockSet* noted) {
  int size = 0;
  const V slack = splat(LOG2_CUTOFF - 1e-3f);
  for (int g = 0; g < count; g++) {
    const Record& r = records[ids[g]];
    if (g + 8 < left) __builtin_prefetch(&records[ids[g + 8]]);
    const float x = r.x - t.x0, y = r.y - t.y0;
    b.x[g] = x, b.y[g] = y, b.na[g] = r.na, b.nb[g] = r.nb, b.nc[g] = r.nc, b.lo[g] = r.lo, b.index[g] = r.index;
    memcpy(b.color[g], r.f, sizeof r.f);
    const V na = splat(r.na), nb = splat(r.nb), lo = splat(r.lo);
    const int before = size;
    if (KNOWN) {
      const BlockSet blocks = noted[g];
      for (int s = 0; s < STRIPS; s++) {
        const uint32_t reached = uint32_t(blocks >> (s * STRIP_BLOCKS)) & ((1u << STRIP_BLOCKS) - 1);
        add_jobs(b, g, s, reached, splat(x), na, nb, lo, size);
      }
    } else {
      enum { PARTS = TILE / W };
      V peak[PARTS], rb[PARTS], rc[PARTS];
      for (int v = 0; v < PARTS; v++) {
        V dy = load(PLACES.rows + v * W) - splat(y);
        rb[v] = dy * nb;
        rc[v] = fma(dy * dy, splat(r.nc), lo);
        peak[v] = dy * splat(r.vertex);
      }
      BlockSet blocks = 0;
      for (int s = 0; s < STRIPS; s++) {
        const V low = splat(float(s * BLOCK_COLUMNS) + 0.5f - x), high = splat(float((s + 1) * BLOCK_COLUMNS) - 0.5f - x);
        uint32_t reached = 0;
        for (int v = 0; v < PARTS; v++) {
          V dx = smaller(larger(peak[v], low), high);
          reached |= bits(ge(fma(dx, fma(dx, na, rb[v]), rc[v]), slack)) << (v * W);
        }
        for (int fold = TILE / 2; fold >= STRIP_BLOCKS; fold /= 2) reached |= reached >> fold;
        reached &= t.live[s];
        blocks |= BlockSet(reached) << (s * STRIP_BLOCKS);
        add_jobs(b, g, s, reached, splat(x), na, nb, lo, size);
      }
      if (noted) noted[g] = blocks;
    }
    b.jobs[g] = uint8_t(size - before);
  }
  b.size = size;
  memset(b.block + size, 0, ABREAST);  // evaluate_jobs may go on to the jobs after the last
  memset(b.place + size, 0, ABREAST);
}

// The alphas of all jobs. Apart from the blending, which must go in depth order, and several at a time in lockstep:
// one job alone is a long chain of dependent instructions.
void evaluate_jobs(Batch& b) {
  for (int j = 0; j < b.size; j += ABREAST) {
    V exponent[ABREAST], alpha[ABREAST];
    for (int i = 0; i < ABREAST; i++) {
      const int place = b.place[j + i], g = place / STRIPS;
      const V dy = load(PLACES.y[b.block[j + i] % STRIP_BLOCKS]) - splat(b.y[g]);
      const V e = fma(dy, fma(dy, splat(b.nc[g]), load(b.linear[place])), load(b.constant[place]));
      exponent[i] = smaller(e, splat(b.lo[g]));  // above only by rounding
    }
    exp2(exponent, alpha);
    for (int i = 0; i < ABREAST; i++) store(b.alpha[j + i], keep(ge(exponent[i], splat(LOG2_CUTOFF)), alpha[i]));
  }
}

struct Step {
  V alpha, before, weight;
  M open;
};

// Blends one job: moves the transmittance at `slot` on. A pixel that would get darker than STOP is closed before the job:
// its transmittance is negative from then on. No branches, because which pixels close cannot be predicted.
inline Step blend(V raw, V alpha_max, float* slot) {
  Step s;
  s.alpha = smaller(raw, alpha_max);
  s.before = load(slot);
  const V after = fnma(s.before, s.alpha, s.before);
  s.open = gt(after, splat(STOP));
  s.weight = keep(s.open, s.alpha * s.before);
  store(slot, select(s.open, after, negative(s.before)));
  return s;
}

// Calls body(block, lane, index of the pixel in the image) for the pixels of a tile that are inside the image.
template <class F>
inline void for_pixels(const Tile& t, int width, const F& body) {
  for (int row = 0; row < t.rows; row++) {
    const size_t line = (size_t(t.y0) + row) * width + size_t(t.x0);
    const int first = row % BLOCK_ROWS * BLOCK_COLUMNS;
    for (int c = 0; c < t.columns; c++)
      body(c / BLOCK_COLUMNS * STRIP_BLOCKS + row / BLOCK_ROWS, first + c % BLOCK_COLUMNS, line + c);
  }
}

}  // namespace
