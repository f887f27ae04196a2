#!/usr/bin/env python3
"""PEFT opens the adapters that ferro writes, ferro those that PEFT writes, and both compute the same log-probs.

Usage: peft_round_trip.py FERRO

Trains a small model with an adapter by the program FERRO, opens the adapter with PEFT on transformers' model, and compares
the log-probs of the same answers, unmerged and merged; then the same with adapters that PEFT made. Skipped
(FERRO_SKIPPED) where Python has no torch, transformers or peft. Bound: that of transformers_round_trip.py.
"""

import json
import sys
import tempfile
import warnings
from pathlib import Path

from transformers_round_trip import QUESTION, TOLERANCE, Ferro, cases, draw_pictures, ferro_lines, inputs_of, reference_logprobs

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

try:
    import peft
except ImportError as missing:
    print(f"FERRO_SKIPPED: {missing}")
    sys.exit(0)

CONFIG = """
model_name_or_path: {folder}/base
output_dir: {folder}/{name}
max_steps: 6
per_device_train_batch_size: 4
data: {{train_file: {folder}/rows.json}}
optimizer: {{learning_rate: 1.0e-2}}
lora: {{r: 6, alpha: 12, dropout: 0.1, target_modules: {targets}}}
train: {{vision: {vision}}}
"""


def prepare(ferro, folder):
    pictures = draw_pictures(folder)
    rows = [{"image_path": f"{index}.png", "question": QUESTION, "response": answer}
            for index, answer in enumerate(("The brows are raised.", "The lips are parted.", "Nothing moves.", "A smile."))]
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    ferro("model", "init", "--tokenizer-text", folder / "rows.json", "--vocab-size", 400, "--keep-brightness", "--out",
          folder / "base")
    return pictures


def transformers_model(folder):
    return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def compare(ferro, what, model, options, processor, pictures, base_options=None):
    """Largest difference of the log-probs of an answer that ferro samples; with the base, they must differ."""
    worst = 0.0
    for case, images, content in cases(pictures, False):
        if case not in ("text", "one image"):
            continue
        ask = ["--prompt", QUESTION, *images]
        answer, _ = ferro_lines(ferro("generate", *options, *ask, "-t", 1, "-n", 12, "--seed", 4, "--logprobs"))
        ids = " ".join(map(str, answer))
        _, ours = ferro_lines(ferro("score", *options, *ask, "--ids", ids, "--logprobs"))
        _, theirs = reference_logprobs(model, inputs_of(processor, content), answer)
        worst = max(worst, (ours - theirs).abs().max().item())
        if base_options:
            _, base = ferro_lines(ferro("score", *base_options, *ask, "--ids", ids, "--logprobs"))
            assert (base - ours).abs().max().item() > 100 * TOLERANCE, f"{what}: the adapter changes nothing"
    assert worst <= TOLERANCE, f"{what}: log-probs differ by {worst}"
    print(f"{what}: largest difference {worst:.2g} (tolerance {TOLERANCE:g})")


def ferro_to_peft(ferro, folder, pictures, processor):
    base = folder / "base"
    for name, targets, vision in (("all", "[all-linear]", "true"), ("text", "[q_proj, v_proj, mlp.up_proj]", "false")):
        config = folder / f"{name}.yaml"
        config.write_text(CONFIG.format(folder=folder, name=name, targets=targets, vision=vision), encoding="utf-8")
        ferro("train", "sft", "-c", config)
        adapter = folder / name / "adapter"
        model = peft.PeftModel.from_pretrained(transformers_model(base), adapter).eval()
        loaded = sum(1 for key in model.state_dict() if ".lora_A." in key)
        written = len(json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["target_modules"])
        assert loaded == written, f"{name}: PEFT adapts {loaded} layers, ferro {written}"
        options = ["--model", base, "--adapter", adapter]
        compare(ferro, f"{name}: PEFT {peft.__version__} on ferro's adapter", model, options, processor, pictures,
                ["--model", base])
        compare(ferro, f"{name}: merged by PEFT, and by ferro", model.merge_and_unload(), ["--model", folder / name / "model"],
                processor, pictures)
        ferro("model", "merge", base, adapter, "--out", folder / f"{name}-merged")
        tensors = [(folder / path / "model.safetensors").read_bytes() for path in (f"{name}/model", f"{name}-merged")]
        assert tensors[0] == tensors[1], f"{name}: `ferro model merge` is not what the run saved"


def peft_to_ferro(ferro, folder, pictures, processor):
    torch.manual_seed(3)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", exclude_modules=".*patch_embed.*",
                             init_lora_weights=False)
    model = peft.get_peft_model(transformers_model(folder / "base"), config).eval()
    model.save_pretrained(folder / "theirs")
    compare(ferro, "ferro on PEFT's adapter", model, ["--model", folder / "base", "--adapter", folder / "theirs"], processor,
            pictures, ["--model", folder / "base"])


def main():
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder, ferro = Path(scratch), Ferro(sys.argv[1])
        pictures = prepare(ferro, folder)
        processor = AutoProcessor.from_pretrained(folder / "base")
        ferro_to_peft(ferro, folder, pictures, processor)
        peft_to_ferro(ferro, folder, pictures, processor)


if __name__ == "__main__":
    main()
