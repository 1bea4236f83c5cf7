#!/usr/bin/env bash
# The kernel's tests under the address and undefined-behaviour sanitizers (gcc, Linux): tests/kernels/sanitize.sh [python]
# once per instruction set, or those that ISAS names.
# Stops at the first finding. Leaks are not looked for: the interpreter and torch leave blocks behind on purpose.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${1:-python}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PYTHONPATH=src CXX=${CXX:-g++}
"$python" -m vultus.kernels.build --sanitize --output "$folder/kernels.so"
export VULTUS_KERNELS="$folder/kernels.so"
export LD_PRELOAD="$($CXX -print-file-name=libasan.so):$($CXX -print-file-name=libubsan.so)"
export ASAN_OPTIONS=detect_leaks=0:halt_on_error=1:allocator_may_return_null=1
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
for isa in ${ISAS:-v2 v3 v4}; do
  found=$(VULTUS_ISA=$isa "$python" -c "from vultus import kernels; print(kernels.status().instruction_set)")
  if [ "$found" != "$isa" ]; then
    echo "== $isa: NOT RUN, this processor does not have it"
    continue
  fi
  echo "== $isa"
  VULTUS_ISA=$isa "$python" -m pytest -q -p no:cacheprovider tests/kernels tests/splats/test_splat_raster.py \
    tests/splats/test_splat_extremes.py tests/splats/test_splat_properties.py tests/golden/test_splatting.py tests/meshes \
    -k "not cuda and not compiler and not missing"
done
