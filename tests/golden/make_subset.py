"""Writes the part of a full golden folder that lives in this folder.

Usage: python3 tests/golden/make_subset.py FULL_GOLDEN_FOLDER [TARGET_FOLDER]

Everything is copied as it is: no tensor is computed here. What is left out is left out of manifest.json too, so that tests driven by the
manifest see a set of the same form with fewer cases.
"""
import json
import math
import shutil
import struct
import sys
from pathlib import Path

FORWARD_CASES = ["a", "c", "d_left", "d_right", "e"]
# Of the parameters of the training case: one block of each kind, everything small, no embedding.
TRAINED = ["visual.blocks.1.", "visual.merger.ln_q", "visual.merger.mlp.2", "model.layers.2.", "model.norm"]
IMAGES_LEFT_OUT = ["grad_1000x700", "grad_1280x960", "grad_100x75"]
PICTURE_BYTES = 13_000  # Larger resized pictures are left out: their checksum stays.
LOSS_CASES_KEPT = 2  # Every second one, and all with an entropy bonus.
ADVANTAGES_KEPT = 2

full = Path(sys.argv[1])
target = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).resolve().parent
manifest = json.loads((full / "manifest.json").read_text())


def copy(name):
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(full / name, target / name)


def write_json(name, content):
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    (target / name).write_text(json.dumps(content, separators=(",", ":")) + "\n")


def write_tensors(name, keep):
    """The tensors of a safetensors file whose names `keep` accepts; returns the number of them."""
    data = (full / name).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    entries = json.loads(data[8:8 + length])
    header, body = {}, b""
    if "__metadata__" in entries:
        header["__metadata__"] = entries.pop("__metadata__")
    for key, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
        if not keep(key):
            continue
        begin, end = entry["data_offsets"]
        header[key] = {**entry, "data_offsets": [len(body), len(body) + end - begin]}
        body += data[8 + length + begin:8 + length + end]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    (target / name).write_bytes(struct.pack("<Q", len(text)) + text + body)
    return len(header) - ("__metadata__" in header)


def keep_model():
    model = manifest["model"]
    single = [c for c in model["checkpoints"] if c["layout"] == "single" and c["dtype"] == "bfloat16"]
    model["checkpoints"] = single[:1]
    folder = single[0]["path"]
    for path in sorted((full / folder).iterdir()):
        copy(f"{folder}/{path.name}")
    copy(model["naming"])


def keep_forward():
    forward = manifest["forward"]
    forward["cases"] = {name: forward["cases"][name] for name in FORWARD_CASES}
    for case in forward["cases"].values():
        copy(case["file"])
    del forward["shapes"]
    copy(forward["rope_index"]["file"])
    copy(forward["window_index"]["file"])


def keep_training():
    training = manifest["training"]
    copy(training["file"])
    copy("training/batch.safetensors")
    kept = lambda name: any(name.startswith(prefix) for prefix in TRAINED)
    training["parameters"] = write_tensors(training["grads"], kept)
    write_tensors(training["final_weights"], kept)


def keep_generation():
    generation = manifest["generation"]
    greedy = generation["greedy"]
    greedy["cases"] = {name: case for name, case in greedy["cases"].items() if case["forward_case"] in FORWARD_CASES}
    answers = json.loads((full / greedy["file"]).read_text())
    write_json(greedy["file"], {name: answers[name] for name in greedy["cases"]})
    del generation["step_logits"], generation["sampling"]


def keep_images():
    image = manifest["image"]
    records = json.loads((full / image["file"]).read_text())
    entries, kept, tensors = [], [], {image["lut_pil"]["tensor"], image["lut_torchvision"]["tensor"]}
    for entry in image["images"]:
        if any(name in entry["file"] for name in IMAGES_LEFT_OUT):
            continue
        kept.append(records["images"][entry["record"]])
        entry["record"] = len(kept) - 1
        entry["rows_torchvision"] = entry["full_pixel_values"] = None
        if entry["rows_pil"]:
            tensors.add(entry["rows_pil"]["tensor"])
        for key in ["resized_png", "resized_png_horizontal_first", "decoded_oriented_png", "on_white_png"]:
            path = entry[key]
            if path and ((full / path).stat().st_size > PICTURE_BYTES or key == "resized_png_horizontal_first"):
                entry[key] = None
            elif path:
                copy(path)
        copy(entry["file"])
        entries.append(entry)
    image["images"], records["images"] = entries, kept
    write_json(image["file"], records)
    write_tensors("image/pixels.safetensors", tensors.__contains__)
    copy(image["smart_resize"]["file"])
    cases = [c for c in image["pillow_resize"]["cases"]
             if (target / c["input"]).exists() and (full / c["output"]).stat().st_size <= PICTURE_BYTES]
    outputs = {c["output"] for c in cases}
    for case in cases:
        copy(case["output"])
        case["output_horizontal_first"] = None
    image["pillow_resize"]["cases"] = cases
    resized = json.loads((full / image["pillow_resize"]["file"]).read_text())
    resized["cases"] = [c for c in resized["cases"] if f"image/{c['output']}" in outputs]
    write_json(image["pillow_resize"]["file"], resized)


def keep_losses():
    loss = manifest["grpo"]["loss"]
    stored = json.loads((full / loss["cases_file"]).read_text())
    bonus = set(loss["with_grad_entropies"])
    stored["cases"] = [case for i, case in enumerate(stored["cases"]) if i % LOSS_CASES_KEPT == 0 or case["name"] in bonus]
    names = [case["name"] for case in stored["cases"]]
    write_json(loss["cases_file"], stored)
    loss["cases"] = names
    loss["trainers"] = {trainer: sum(case["trainer"] == trainer for case in stored["cases"]) for trainer in loss["trainers"]}
    copy(loss["inputs_file"])
    write_tensors(loss["expected_file"], lambda key: key.split("/")[0] in names)
    unifer = manifest["grpo"]["unifer_loss"]
    copy(unifer["cases_file"])
    copy(unifer["expected_file"])


def keep_advantages():
    advantages = manifest["grpo"]["advantages"]
    stored = json.loads((full / advantages["file"]).read_text())
    double = set(advantages["only_in_double"])
    stored["cases"] = [case for i, case in enumerate(stored["cases"]) if i % ADVANTAGES_KEPT == 0 or case["name"] in double]
    write_json(advantages["file"], stored)
    advantages["cases"] = [case["name"] for case in stored["cases"]]
    advantages["trainers"] = {t: sum(case["trainer"] == t for case in stored["cases"]) for t in advantages["trainers"]}


for old in ["model", "forward", "training", "generation", "image", "grpo"]:
    shutil.rmtree(target / old, ignore_errors=True)
keep_model()
keep_forward()
keep_training()
keep_generation()
keep_images()
keep_losses()
keep_advantages()
del manifest["tokenizer"], manifest["chat"], manifest["grpo"]["e2e"], manifest["grpo"]["ferbench"]
manifest["informational"] = []
files = sorted(p for p in target.rglob("*") if p.is_file() and p.suffix not in (".py", ".md") and p.name != "manifest.json")
if "files" in manifest:
    manifest["files"] = {str(p.relative_to(target)): p.stat().st_size for p in files}
write_json("manifest.json", manifest)
total = sum(p.stat().st_size for p in files) + (target / "manifest.json").stat().st_size
print(f"{len(files) + 1} files, {total:,} bytes ({math.ceil(total / 1e4) / 100} MB)")
