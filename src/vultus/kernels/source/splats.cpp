// Splat rasterisation, compiled once per instruction set (VULTUS_ISA names it).
//
// An image is cut into tiles of 16 x 16 pixels. Gaussians are projected (projection.h) and sorted once by depth, so that
// every tile's list comes out sorted (lists.h). A tile works through its list one batch of Gaussians at a time
// (tiles.h): first it finds the blocks of pixels that each of them reaches, then it computes all their alphas in one flat
// loop, and only then blends them in order (forward.h, backward.h). Exponents are in base 2 with the opacity folded in.
#include "backward.h"

namespace {

// ---- the machine's ceiling, for benchmarks ----

// Lanes per second of independent multiply-adds in registers, on `threads` threads.
double multiply_add_rate(int threads) {
  const int64_t rounds = 1000000;
  enum { CHAINS = 10 };
  if (threads < 1) threads = 1;
  float sink = 0;
  const double begin = seconds();
  run(threads, threads, [&](int64_t, int) {
    V a[CHAINS], b = splat(0.999f), c = splat(1e-3f);
    for (int i = 0; i < CHAINS; i++) a[i] = splat(1e-3f * float(i));
    for (int64_t n = 0; n < rounds; n++)
      for (int i = 0; i < CHAINS; i++) a[i] = fma(a[i], b, c);
    for (int i = 1; i < CHAINS; i++) a[0] = a[0] + a[i];
    float s = sum(a[0]);
    __atomic_store(&sink, &s, __ATOMIC_RELAXED);
  });
  return double(rounds) * CHAINS * W * threads / (seconds() - begin);
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
