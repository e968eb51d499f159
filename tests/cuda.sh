#!/usr/bin/env bash
# cuda.sh nvcc kernels: compiles every kernel as CUDA for each dtype.
set -u
nvcc=$1 kernels=$2
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
jobs_() {
  local id=0
  for dtype in f64=double f32=float i64=int64_t u8=uint8_t; do
    for file in "$kernels"/*.c; do
      printf '%s\0%s\0%s\0%s\0' "$file" "${dtype#*=}" "${dtype%=*}" "$id"
    done
    id=$((id + 1))
  done
}
compile() {
  "$1" -x cu -std=c++17 -c "$3" -o "$2/$(basename "$3").$5.o" -DPL_REAL="$4" -DPL_DTYPE="$5" -DPL_DTYPE_ID="$6" -DPL_ISA=cuda -DPL_ISA_ID=9 \
    -diag-suppress 177,550 || { echo "FAILED: $3 ($5)" >&2; exit 255; }
}
export -f compile
jobs_ | xargs -0 -n 4 -P 2 bash -c 'compile "$@"' compile "$nvcc" "$out" || exit 1
n=$(ls "$out" | wc -l)
echo "$n objects"
[ "$n" -gt 0 ]
