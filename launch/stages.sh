# What the scripts that train from a clone share; they source it from the project's root.
export LC_ALL=C
ferro=build/release/bin/ferro
times=()

# stage NAME COMMAND...: runs it and keeps its seconds for the summary.
stage() {
  local name=$1 begin=$EPOCHREALTIME
  shift
  printf '\n== %s\n' "$name"
  "$@"
  times+=(--seconds "$name=$(awk -v a="$begin" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }')")
}

build() {
  cmake --preset release >/dev/null
  cmake --build --preset release --target ferro
}

# evaluate NAME MODEL OPTIONS...: into $run/eval/NAME.json and .jsonl.
evaluate() {
  local name=$1 model=$2
  shift 2
  mkdir -p "$run/eval"
  "$ferro" eval --model "$model" --json "$run/eval/$name.json" --out "$run/eval/$name.jsonl" "$@"
}

# report OPTIONS...: the table of the three evaluations, and summary.json.
report() {
  "$ferro" report --base "$run/eval/base" --sft "$run/eval/sft" --grpo "$run/eval/grpo" "${times[@]}" --out "$run/summary.json" "$@"
}
