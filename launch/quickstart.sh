#!/usr/bin/env bash
# From a clone to a trained model: sets up, builds, draws faces, trains a tiny model from random weights by SFT and GRPO, and
# prints what each step brought on faces of people it never saw. Runs on two CPU cores; runs/quickstart holds all it makes.
#   bash launch/quickstart.sh [seed]
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. launch/stages.sh
seed=${1:-1}
run=runs/quickstart
labels=4000 reasoning=1000 rl=12000 held_out=2000
asked=(--config configs/quickstart_grpo.yaml --data "$run/data/held_out/rl.json")

# faces NAME COUNT FIRST_IDENTITY IDENTITIES: pools share no person.
faces() {
  "$ferro" data faces --out "$run/data/$1" --seed "$seed" --count "$2" --first-identity "$3" --identities "$4" --overwrite
}

draw_faces() {
  faces labels "$labels" 0 2000
  faces reasoning "$reasoning" 3000 800
  faces rl "$rl" 6000 9000
  faces held_out "$held_out" 100000 1000
}

init_model() {
  "$ferro" model init --preset tiny --tokenizer-text "$run/data/reasoning/sft.json" --vocab-size 512 \
    --out "$run/base" --seed "$seed" --overwrite
}

stage setup bash launch/setup.sh
stage build build
stage faces draw_faces
stage model_init init_model
stage eval_base evaluate base "$run/base" "${asked[@]}"
stage train_sft_labels "$ferro" train sft -c configs/quickstart_sft_labels.yaml --set "seed=$seed"
stage train_sft "$ferro" train sft -c configs/quickstart_sft.yaml --set "seed=$seed"
stage eval_sft evaluate sft "$run/sft/model" "${asked[@]}"
stage train_grpo "$ferro" train grpo -c configs/quickstart_grpo.yaml --set "seed=$seed"
stage eval_grpo evaluate grpo "$run/grpo/model" "${asked[@]}" --compare "$run/eval/sft.jsonl"

printf '\n== result\n'
report --faces $((labels + reasoning + rl)) --seed "$seed"
cat <<TEXT

Everything is in $run: data/, base/, sft_labels/, sft/ and grpo/ (run folders), eval/, summary.json.
Next:
  $ferro generate --model $run/grpo/model --config configs/quickstart_grpo.yaml \\
      --image $run/data/held_out/images/000000.png --prompt "What expression does this face show?"
  $ferro model inspect $run/grpo/model
  less $run/grpo/metrics.jsonl
  FERRO_FACES_DIR=/path/to/ferplus48 bash launch/ferplus.sh     # the same on real faces
TEXT
