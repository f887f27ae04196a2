#!/usr/bin/env bash
# Fuzzes for long: `bash tests/fuzz/run.sh [seconds] [target...]` (600 seconds, all targets). With clang's libFuzzer where it is
# installed, otherwise with the project's own driver under g++. What a finding needs is left in build/fuzz/findings.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
seconds=${1:-600}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || for file in tests/fuzz/*_target.cpp; do
  name=$(basename "$file" _target.cpp)
  targets+=("$name")
done

preset=fuzz
probe=$(mktemp --suffix=.cpp)
trap 'rm -f "$probe" "$probe.out"' EXIT
echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }' >"$probe"
clang++ -fsanitize=fuzzer,address,undefined "$probe" -o "$probe.out" 2>/dev/null || preset=asan
build=$root/build/$preset
cmake --preset "$preset" >/dev/null
cmake --build "$build" --target fuzz -j "$(nproc)"

findings=$root/build/fuzz/findings
mkdir -p "$findings"
cd "$findings"
status=0
for name in "${targets[@]}"; do
  corpus=$root/tests/fuzz/corpus/$name
  dictionary=$root/tests/fuzz/dictionary/$name.dict
  if [ "$preset" = fuzz ]; then
    mkdir -p "$root/build/fuzz/corpus/$name"
    "$build/tests/fuzz_$name" -max_total_time="$seconds" -timeout=120 -rss_limit_mb=2048 -max_len=16384 -print_final_stats=1 \
      -artifact_prefix="$findings/$name-" -dict="$dictionary" "$root/build/fuzz/corpus/$name" "$corpus" >"$name.log" 2>&1 || status=1
    grep -hE 'exec_per_sec|executed_units|SUMMARY|finding:' "$name.log" | sed "s/^/$name: /" || true
  else
    "$build/tests/fuzz_$name" --seconds "$seconds" --seed "$(date +%s)" --dictionary "$dictionary" "$corpus" || status=1
  fi
done
[ "$status" -eq 0 ] || echo "findings lie in $findings"
exit "$status"
