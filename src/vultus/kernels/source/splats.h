// The C interface of splat rasterisation. Mirrored field by field in vultus/splats/cpu.py.
#pragma once
#include <stdint.h>

struct SplatScene {
  int64_t count;
  int32_t channels, width, height, threads;
  int32_t sh_degree, sh_stored;  // degree in use (-1: plain features) and coefficients per Gaussian in memory
  int32_t antialiased, inria_extent, normalise, absgrad, keep_state;
  float alpha_max, near, compensation_floor;
  const float *means, *rotations, *scales, *opacities, *colors;  // colors: features [N D] or sh [N K 3]
  const float *view, *intrinsics, *background;                    // [4 4], [3 3], [D] or null
};

struct SplatImage {
  float *color, *alpha, *depth;  // [H W D], [H W], [H W] or null
  float *means2d, *depths;       // [N 2], [N]
  int32_t* radii;                // [N 2]
  int64_t entries, processed, evaluated;  // work done: tile-list entries, those before the early stop, pixels tested
  double seconds[4];  // spent on projecting, sorting by depth, tile lists, compositing
};

struct SplatGradients {
  const float *color, *alpha, *depth;  // cotangents, null where there is none
  const float *color_image, *depth_image;
  int32_t accumulate;  // bit i: add to the i-th output below instead of overwriting it
  // Outputs in the order of the bits; null where not wanted.
  float *means, *rotations, *scales, *opacities, *colors, *view, *intrinsics, *background, *means2d, *absgrad;
};

enum SplatError { SPLAT_OK = 0, SPLAT_NO_MEMORY = 1, SPLAT_BAD_CAMERA = 2 };

typedef int (*SplatForward)(const SplatScene*, SplatImage*, struct Workspace** state);
typedef int (*SplatBackward)(const SplatScene*, struct Workspace* state, const SplatGradients*);
struct SplatKernels {
  const char* name;
  SplatForward forward;
  SplatBackward backward;
  double (*multiply_add_rate)(int threads);  // lanes per second, of independent multiply-adds
};
