#!/usr/bin/env bash
# Sets up, builds and tests. Options are ctest's: `bash tests/run.sh -L golden`, `-R name`, `-L bench`.
# With `-L golden` it ends with a table: the largest difference of each comparison with golden files beside its tolerance.
# Without a label of its own, a run leaves out bench (measurements), slurm and gpu (which need more than this machine).
#   FERRO_PRESET=asan|tsan|dev     another preset of CMakePresets.json than release
#   FERRO_GOLDEN_DIR=folder        golden files, instead of ../shared/golden (or, where that is absent, the part in tests/golden)
#   FERRO_REQUIRE_GOLDEN=1         fail when a golden test is skipped or none ran
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
preset=${FERRO_PRESET:-release}
build=$root/build/$preset
jobs=$(nproc)

bash launch/setup.sh

# Worker threads that wait for each other by spinning would starve the tests that run beside them.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:strict_string_checks=1:allocator_may_return_null=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1:second_deadlock_stack=1:suppressions=$root/tests/tsan.supp}
run=()
if [ "$preset" = tsan ] && command -v setarch >/dev/null; then
  run=(setarch "$(uname -m)" -R)  # g++ 12's TSan does not know the address layouts of newer kernels.
fi

started=$(date +%s)
if ! cmake --preset "$preset" >"$root/.deps/configure-$preset.log" 2>&1; then
  tail -n 30 "$root/.deps/configure-$preset.log"
  exit 1
fi
"${run[@]}" cmake --build "$build" -j "$jobs"
echo "build ($preset): $(($(date +%s) - started)) s"

default_labels=(-LE '^(bench|slurm|gpu)$')
table=
for option in "$@"; do
  case $option in golden | -Lgolden | --label-regex=golden) table=1 ;; esac
  case $option in
    -L | -LE | -L* | --label-regex* | --label-exclude*) default_labels=() ;;
    -N | --show-only*) exec ctest --test-dir "$build" "$@" ;;
  esac
done

rm -f "$build/tests.xml"
status=0
"${run[@]}" ctest --test-dir "$build" -j "$jobs" --output-on-failure --no-tests=error --output-junit "$build/tests.xml" \
  "${default_labels[@]}" "$@" || status=$?
[ -s "$build/tests.xml" ] || { echo "no test ran"; exit 1; }

# ctest hides what passing tests print; its log has it, until ctest is called again. One line per comparison, in the order of
# their names.
differences=$build/golden-differences.txt
{ grep -h '^golden ' "$build/Testing/Temporary/LastTest.log" || true; } | sort | awk '
  match($0, /: largest difference [^ ]+ \(tolerance [^)]*\)$/) {
    split(substr($0, RSTART + 21), part, " ")
    sub(/\)$/, "", part[3])
    printf "%-100s %12s %12s\n", substr($0, 8, RSTART - 8), part[1], part[3]
    next
  }
  match($0, /: [0-9]+ of [0-9]+ differ \(exact\)$/) {
    split(substr($0, RSTART + 2), part, " ")
    printf "%-100s %12s %12s\n", substr($0, 8, RSTART - 8), part[1] " of " part[3], "exact"
    next
  }
  { others = others substr($0, 8) "\n" }
  END { printf "%s", others }' >"$differences"

ctest --test-dir "$build" -N -L '^golden$' | sed -n 's/^ *Test *#[0-9]*: //p' >"$build/golden-tests.txt"
# A test that ctest could not start has `notrun` too; only SKIP_* is a test that said so itself.
awk -v summary="$build/tests-summary.txt" '
  FNR == NR { golden[$0] = 1; next }
  function attribute(name,   text) {
    text = $0
    if (!sub(".* " name "=\"", "", text)) return ""
    sub("\".*", "", text)
    gsub("&quot;", "\"", text); gsub("&lt;", "<", text); gsub("&gt;", ">", text); gsub("&apos;", "\047", text)
    gsub("&amp;", "\\&", text)
    return text
  }
  function count(kind) {
    if (test == "") return
    total[kind]++
    if (test in golden) total["golden " kind]++
    if (kind == "skipped") names = names "  skipped: " test "\n"
    test = ""
  }
  /<testcase / {
    count("failed")
    test = attribute("name")
    outcome = attribute("status")
    if (outcome == "run") count("passed")
    else if (outcome == "disabled") count("skipped")
    else if (outcome != "notrun") count("failed")
  }
  /<skipped message="SKIP_/ { count("skipped") }
  END {
    count("failed")
    printf "%s", names
    printf "%d %d %d %d %d %d\n", total["passed"], total["failed"], total["skipped"],
      total["golden passed"], total["golden failed"], total["golden skipped"] >summary
  }' "$build/golden-tests.txt" "$build/tests.xml"
read -r passed failed skipped golden_passed golden_failed golden_skipped <"$build/tests-summary.txt"

if [ -n "$table" ] && [ -s "$differences" ]; then
  printf '\n%-100s %12s %12s\n' "golden comparison" difference tolerance
  cat "$differences"
  echo
fi

golden=${FERRO_GOLDEN_DIR:-$root/../shared/golden}
if [ -d "$golden" ]; then
  echo "golden folder: $(cd "$golden" && pwd): $golden_passed passed, $golden_failed failed, $golden_skipped skipped"
elif [ -z "${FERRO_GOLDEN_DIR:-}" ]; then
  echo "golden folder: the full one is absent, so the part in tests/golden: $golden_passed passed, $golden_failed failed, $golden_skipped skipped"
else
  echo "golden folder: none at $golden: $golden_skipped golden tests skipped"
fi
if [ -n "${FERRO_REQUIRE_GOLDEN:-}" ] && { [ "$golden_passed" -eq 0 ] || [ "$golden_skipped" -ne 0 ]; }; then
  echo "golden files must be used here (FERRO_REQUIRE_GOLDEN), and were not by every golden test"
  status=1
fi
[ $((passed + failed)) -gt 0 ] || { echo "no test ran"; status=1; }
[ "$failed" -eq 0 ] || status=1
echo "$passed passed, $failed failed, $skipped skipped"
exit "$status"
