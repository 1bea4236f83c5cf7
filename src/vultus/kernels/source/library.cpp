// The exported C interface, and the choice of the instruction set at run time.
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <stdlib.h>
#include <string.h>

#include "meshes.h"
#include "splats.h"
#include "threads.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

#if defined(__x86_64__)
extern "C" const SplatKernels vultus_splats_v2, vultus_splats_v3, vultus_splats_v4;
#else
extern "C" const SplatKernels vultus_splats_generic;
#endif

namespace {

#if defined(__x86_64__)
// Levels of the x86-64 ABI that both processor and operating system support. Asked of the processor directly: not
// every compiler's runtime library has __builtin_cpu_supports.
int x86_level() {
  unsigned a, b, c, d, features;
  if (!__get_cpuid(1, &a, &b, &features, &d)) return 2;
  const unsigned fma = 1u << 12, xsave = 1u << 27, avx = 1u << 28, f16c = 1u << 29;
  if ((features & (fma | xsave | avx | f16c)) != (fma | xsave | avx | f16c)) return 2;
  unsigned saved, high;  // which registers the operating system saves
  __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
  if ((saved & 0x6) != 0x6 || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 2;
  const unsigned bmi1 = 1u << 3, avx2 = 1u << 5, bmi2 = 1u << 8;
  if ((b & (bmi1 | avx2 | bmi2)) != (bmi1 | avx2 | bmi2)) return 2;
  const unsigned f = 1u << 16, dq = 1u << 17, cd = 1u << 28, bw = 1u << 30, vl = 1u << 31;
  if ((saved & 0xe6) != 0xe6 || (b & (f | dq | cd | bw | vl)) != (f | dq | cd | bw | vl)) return 3;
  return 4;
}
#endif

// VULTUS_ISA=v2|v3 asks for an older instruction set than the processor has, for tests.
const SplatKernels* choose() {
#if defined(__x86_64__)
  int level = x86_level();
  const char* wanted = getenv("VULTUS_ISA");
  if (wanted && !strcmp(wanted, "v2")) level = 2;
  if (wanted && !strcmp(wanted, "v3") && level > 3) level = 3;
  return level >= 4 ? &vultus_splats_v4 : level == 3 ? &vultus_splats_v3 : &vultus_splats_v2;
#else
  return &vultus_splats_generic;
#endif
}

const SplatKernels* kernels() {
  static const SplatKernels* chosen;
  const SplatKernels* k = __atomic_load_n(&chosen, __ATOMIC_ACQUIRE);
  if (!k) __atomic_store_n(&chosen, k = choose(), __ATOMIC_RELEASE);
  return k;
}

}  // namespace

EXPORT int vultus_abi() { return 3; }
EXPORT const char* vultus_instruction_set() { return kernels()->name; }

EXPORT int vultus_splats_forward(const SplatScene* scene, SplatImage* image, Workspace** state) {
  return kernels()->forward(scene, image, state);
}

EXPORT int vultus_splats_backward(const SplatScene* scene, Workspace* state, const SplatGradients* gradients) {
  return kernels()->backward(scene, state, gradients);
}

EXPORT double vultus_multiply_add_rate(int threads) { return kernels()->multiply_add_rate(threads); }

EXPORT void* vultus_memory_take(size_t bytes) { return memory_take(bytes); }
EXPORT void vultus_memory_give(void* data) { memory_give(data); }

EXPORT void vultus_release(Workspace* state) { workspace_give(state); }

EXPORT int vultus_draw_mesh(const MeshScene* scene, MeshImage* image) { return draw_mesh(scene, image); }
