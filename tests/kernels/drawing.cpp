// Draws one image and its gradients through the C interface and writes all numbers to standard output, as floats. Built for
// another processor and run in an emulator, it shows whether the kernels of that processor draw the same
// (test_foreign_processors.py). Arguments: splats, pixels a side, channels.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <vector>

#include "splats.h"

struct Workspace;
extern "C" {
int vultus_splats_forward(const SplatScene* scene, SplatImage* image, Workspace** state);
int vultus_splats_backward(const SplatScene* scene, Workspace* state, const SplatGradients* gradients);
void vultus_release(Workspace* state);
}

typedef std::vector<float> Floats;

// Between 0 and 1, the same on every machine.
static float random_number() {
  static uint32_t state = 12345;
  state = state * 1664525u + 1013904223u;
  return float(state >> 8) * (1.f / 16777216.f);
}

static Floats random_floats(size_t count, float low, float high) {
  Floats values(count);
  for (float& v : values) v = low + (high - low) * random_number();
  return values;
}

static void write(const Floats& values) { fwrite(values.data(), sizeof(float), values.size(), stdout); }

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const int count = atoi(argv[1]), size = atoi(argv[2]), channels = atoi(argv[3]);
  const size_t n = size_t(count), pixels = size_t(size) * size_t(size);
  const Floats means = random_floats(3 * n, -0.5f, 0.5f), rotations = random_floats(4 * n, -1.f, 1.f);
  const Floats scales = random_floats(3 * n, 0.005f, 0.06f), opacities = random_floats(n, 0.f, 1.f);
  const Floats colors = random_floats(n * size_t(channels), -1.f, 1.f), background = random_floats(size_t(channels), 0.f, 1.f);
  const float view[16] = {1, 0, 0, 0.05f, 0, 1, 0, -0.02f, 0, 0, 1, 2.f, 0, 0, 0, 1};
  const float focal = 1.5f * float(size), middle = 0.5f * float(size), intrinsics[9] = {focal, 0, middle, 0, focal, middle, 0, 0, 1};
  SplatScene scene = {};
  scene.count = count, scene.channels = channels, scene.width = scene.height = size, scene.threads = 2;
  scene.sh_degree = -1, scene.antialiased = 1, scene.normalise = 1, scene.keep_state = 1;
  scene.alpha_max = 0.99f, scene.near = 0.01f, scene.compensation_floor = 0.005f;
  scene.means = means.data(), scene.rotations = rotations.data(), scene.scales = scales.data();
  scene.opacities = opacities.data(), scene.colors = colors.data(), scene.background = background.data();
  scene.view = view, scene.intrinsics = intrinsics;

  Floats color(pixels * size_t(channels)), alpha(pixels), depth(pixels), means2d(2 * n), depths(n);
  std::vector<int32_t> radii(2 * n);
  SplatImage image = {};
  image.color = color.data(), image.alpha = alpha.data(), image.depth = depth.data();
  image.means2d = means2d.data(), image.depths = depths.data(), image.radii = radii.data();
  Workspace* state = nullptr;
  if (vultus_splats_forward(&scene, &image, &state) != SPLAT_OK) return 3;

  const Floats color_in = random_floats(color.size(), -1.f, 1.f), alpha_in = random_floats(pixels, -1.f, 1.f);
  Floats by_mean(3 * n), by_rotation(4 * n), by_scale(3 * n), by_opacity(n), by_color(colors.size()), by_view(16), by_intrinsics(9);
  Floats by_background(size_t(channels), 0.f), by_means2d(2 * n);
  SplatGradients gradients = {};
  gradients.color = color_in.data(), gradients.alpha = alpha_in.data();
  gradients.color_image = color.data(), gradients.depth_image = depth.data();
  gradients.means = by_mean.data(), gradients.rotations = by_rotation.data(), gradients.scales = by_scale.data();
  gradients.opacities = by_opacity.data(), gradients.colors = by_color.data(), gradients.view = by_view.data();
  gradients.intrinsics = by_intrinsics.data(), gradients.background = by_background.data();
  gradients.means2d = by_means2d.data();
  if (vultus_splats_backward(&scene, state, &gradients) != SPLAT_OK) return 4;
  vultus_release(state);
  for (const Floats* values : {&color, &alpha, &depth, &by_mean, &by_rotation, &by_scale, &by_opacity, &by_color, &by_view,
                               &by_intrinsics, &by_background, &by_means2d})
    write(*values);
  return 0;
}
