#!/usr/bin/env bash
# The tiny model on the real FER+ faces: SFT, GRPO, evaluation on the test faces. The valid split alone chooses the model.
#   FERRO_FACES_DIR=/path/to/ferplus48 bash launch/ferplus.sh      # a folder with labels.csv (path, label, split, votes_*) and images
set -euo pipefail
export LC_ALL=C

cd "$(dirname "${BASH_SOURCE[0]}")/.."
: "${FERRO_FACES_DIR:?set it to the folder with labels.csv and the images}"
faces=$FERRO_FACES_DIR
run=runs/ferplus_tiny
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
  bash launch/setup.sh
  cmake --preset release >/dev/null
  cmake --build --preset release --target ferro
}

# Each training face four times, its label drawn from its votes.
make_rows() {
  "$ferro" data from-labels --faces "$faces" --out "$run/data" --style label --copies 4 --question "Expression?"
}

init_model() {
  "$ferro" model init --preset tiny --tokenizer-text "$run/data/sft_train.json" --vocab-size 512 --out "$run/base" --overwrite
}

train() {
  "$ferro" train "$1" -c "$2" --set "data.image_root=$faces"
}

# evaluate NAME MODEL [OPTIONS]: on the test faces.
evaluate() {
  local name=$1 model=$2
  shift 2
  mkdir -p "$run/eval"
  "$ferro" eval --model "$model" --config configs/ferplus_tiny_grpo.yaml --data "$run/data/rl_test.json" --image-root "$faces" \
    --dataset ferplus --json "$run/eval/$name.json" --out "$run/eval/$name.jsonl" "$@"
}

stage build build
stage rows make_rows
stage model_init init_model
stage eval_base evaluate base "$run/base"
stage train_sft train sft configs/ferplus_tiny.yaml
stage eval_sft evaluate sft "$run/sft/best"
stage train_grpo train grpo configs/ferplus_tiny_grpo.yaml
stage eval_grpo evaluate grpo "$run/grpo/best" --compare "$run/eval/sft.jsonl"

printf '\n== result: FER+ test faces\n'
"$ferro" report --base "$run/eval/base" --sft "$run/eval/sft" --grpo "$run/eval/grpo" "${times[@]}" --out "$run/summary.json"
echo "Everything is in $run."
