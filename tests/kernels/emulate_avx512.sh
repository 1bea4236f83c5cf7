#!/usr/bin/env bash
# The kernel's tests on the x86-64-v4 code, with its AVX-512 intrinsics emulated on AVX2 (gcc, Linux, SIMDe's headers):
# tests/kernels/emulate_avx512.sh [python]. The emulated code takes the place of the v3 code. $SIMDE: where the headers are.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${1:-python}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
source=src/vultus/kernels/source
flags="-std=c++17 -O2 -fno-exceptions -fno-rtti -fno-math-errno -ffp-contract=off -Wno-psabi -fPIC -pthread -msse4.2 -mpopcnt"
avx2="-mavx -mavx2 -mfma -mbmi -mbmi2 -mlzcnt -mf16c -mmovbe"
g++ $flags -DVULTUS_ISA=v2 -c $source/splats.cpp -o "$folder/v2.o"
g++ $flags $avx2 ${SIMDE:+-I"$SIMDE"} -include tests/kernels/avx512_emulated.h -DVULTUS_ISA=v3 -c $source/splats.cpp -o "$folder/v3.o"
g++ $flags -DVULTUS_ISA=v4 -c $source/splats.cpp -o "$folder/v4.o"  # never chosen
g++ $flags -shared $source/{library,threads,meshes}.cpp "$folder"/v?.o -o "$folder/kernels.so" -lm
PYTHONPATH=src VULTUS_KERNELS="$folder/kernels.so" VULTUS_ISA=v3 "$python" -m pytest -q -p no:cacheprovider \
  tests/kernels/test_kernel_library.py tests/splats/test_splat_raster.py tests/splats/test_splat_extremes.py \
  tests/splats/test_splat_properties.py tests/golden/test_splatting.py -k "not cuda and not compiler and not missing"
