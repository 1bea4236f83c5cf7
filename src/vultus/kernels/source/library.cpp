// The exported C interface, and the choice of the instruction set at run time.
#include <stdlib.h>
#include <string.h>

#include "splats.h"
#include "threads.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

#if defined(__x86_64__)
extern "C" const SplatKernels vultus_splats_v2, vultus_splats_v3, vultus_splats_v4;
#else
extern "C" const SplatKernels vultus_splats_generic;
#endif

namespace {

// VULTUS_ISA=v2|v3 asks for an older instruction set than the processor has, for tests.
const SplatKernels* choose() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  const char* wanted = getenv("VULTUS_ISA");
  if (wanted && !strcmp(wanted, "v2")) return &vultus_splats_v2;
  if (wanted && !strcmp(wanted, "v3") && v3) return &vultus_splats_v3;
  return v4 ? &vultus_splats_v4 : v3 ? &vultus_splats_v3 : &vultus_splats_v2;
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

EXPORT int vultus_abi() { return 1; }
EXPORT const char* vultus_instruction_set() { return kernels()->name; }

EXPORT int vultus_splats_forward(const SplatScene* scene, SplatImage* image, Workspace** state) {
  return kernels()->forward(scene, image, state);
}

EXPORT int vultus_splats_backward(const SplatScene* scene, Workspace* state, const SplatGradients* gradients) {
  return kernels()->backward(scene, state, gradients);
}

EXPORT void vultus_release(Workspace* state) { workspace_give(state); }
