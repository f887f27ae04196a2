#!/usr/bin/env bash
# The tiny model on the real FER+ faces: SFT, GRPO, evaluation on the test faces. The valid split alone chooses the model.
#   FERRO_FACES_DIR=/path/to/ferplus48 bash launch/ferplus.sh      # a folder with labels.csv (path, label, split, votes_*) and images
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. launch/stages.sh
: "${FERRO_FACES_DIR:?set it to the folder with labels.csv and the images}"
faces=$FERRO_FACES_DIR
run=runs/ferplus_tiny
asked=(--config configs/ferplus_tiny_grpo.yaml --data "$run/data/rl_test.json" --image-root "$faces" --dataset ferplus)

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

stage setup bash launch/setup.sh
stage build build
stage rows make_rows
stage model_init init_model
stage eval_base evaluate base "$run/base" "${asked[@]}"
stage train_sft train sft configs/ferplus_tiny.yaml
stage eval_sft evaluate sft "$run/sft/best" "${asked[@]}"
stage train_grpo train grpo configs/ferplus_tiny_grpo.yaml
stage eval_grpo evaluate grpo "$run/grpo/best" "${asked[@]}" --compare "$run/eval/sft.jsonl"

printf '\n== result: FER+ test faces\n'
report
echo "Everything is in $run."
