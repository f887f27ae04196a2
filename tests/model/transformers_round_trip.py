#!/usr/bin/env python3
"""transformers opens the folders that ferro writes, and computes the same log-probs.

Usage: transformers_round_trip.py FERRO [--keep FOLDER]

Writes small models with the program FERRO (one file and shards, tied and untied, float32 and bfloat16), opens each with
transformers' model, processor and tokenizer classes, and compares the log-probs of the same answers to the same
questions: text, one image, two images, a video, and pictures that are resized first. Those go through transformers'
image processor on Pillow, which ferro equals bit by bit; the default one, on torchvision, rounds otherwise: what that
does to pixel values and log-probs is measured and printed, not bounded. Skipped (FERRO_SKIPPED) where Python has no torch or transformers.

Bound: both compute in float32 from the same weights. The log-probs of these models differ by at most 3.6e-6 (measured
with transformers 5.17 and torch 2.11; 4.57 is the same); 5e-5 is allowed. Video positions by the other rule change them by 0.06.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
try:
    import torch
    import transformers
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
except ImportError as missing:
    print(f"FERRO_SKIPPED: {missing}")
    sys.exit(0)

TOLERANCE = 5e-5
SIDE = 48  # Pixels; the preset's processor makes 4 image tokens of it.
ODD_SIZES = [(130, 70), (61, 150)]  # Width and height, of no whole number of image tokens.
POSITION_RULE = "hub" if transformers.__version__.startswith("4.") else "transformers5"
QUESTION = "What expression does this face show? Größe, 表情."


class Ferro:
    def __init__(self, program):
        self.program = program

    def __call__(self, *words):
        run = subprocess.run([self.program, *map(str, words)], capture_output=True, text=True, encoding="utf-8")
        if run.returncode != 0:
            sys.exit(f"ferro {' '.join(map(str, words))}\nended with {run.returncode}:\n{run.stderr}")
        return run.stdout


def pillow_image_processor(folder):
    """transformers 5 names it so; before, the class without a suffix was the one on Pillow."""
    kind = getattr(transformers, "Qwen2VLImageProcessorPil", None) or transformers.Qwen2VLImageProcessor
    return kind.from_pretrained(folder)


def draw_pictures(folder):
    numbers = random.Random(5)
    paths = []
    for index, (width, height) in enumerate([(SIDE, SIDE)] * 4 + ODD_SIZES):
        picture = Image.new("RGB", (width, height))
        picture.putdata([tuple(numbers.randrange(256) for _ in range(3)) for _ in range(width * height)])
        paths.append(folder / f"{index}.png")
        picture.save(paths[-1])
    return paths


def write_models(ferro, folder):
    """Folder by name; all but the first have the shape and companions of the first."""
    rows = [{"image_path": "0.png", "question": QUESTION, "response": "The brows are raised, the lips are parted."}]
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    models = {"preset": folder / "preset"}
    ferro("model", "init", "--tokenizer-text", folder / "rows.json", "--vocab-size", 400, "--keep-brightness",
          "--image-size", SIDE, "--out", models["preset"])
    like = {}
    for tied in (True, False):
        like[tied] = folder / f"like-{tied}"
        like[tied].mkdir()
        for file in models["preset"].iterdir():
            if file.suffix != ".safetensors":
                (like[tied] / file.name).write_bytes(file.read_bytes())
        config = json.loads((like[tied] / "config.json").read_text(encoding="utf-8"))
        config["tie_word_embeddings"] = tied
        (like[tied] / "config.json").write_text(json.dumps(config), encoding="utf-8")
        # As a published model's: pictures keep their shape, within limits; the preset forces a square.
        images = json.loads((like[tied] / "preprocessor_config.json").read_text(encoding="utf-8"))
        images["min_pixels"], images["max_pixels"] = SIDE * SIDE // 4, SIDE * SIDE * 4
        images["size"] = {"shortest_edge": images["min_pixels"], "longest_edge": images["max_pixels"]}
        images.pop("ferro_forced_size")
        (like[tied] / "preprocessor_config.json").write_text(json.dumps(images), encoding="utf-8")
    for tied in (True, False):
        for dtype in ("float32", "bfloat16"):
            for shards in (False, True):
                name = f"{'tied' if tied else 'untied'}-{dtype}-{'shards' if shards else 'single'}"
                models[name] = folder / name
                ferro("model", "init", "--like", like[tied] / "config.json", "--out", models[name], "--seed", 3,
                      "--dtype", dtype, "--max-shard-size", "1MB" if shards else "5GB")
                written = len(list(models[name].glob("*.safetensors")))
                assert (written > 1) == shards, f"{name}: {written} files of weights"
    return models


def cases(pictures, resized):
    """Name, ferro's options, transformers' content."""
    image = lambda index: {"type": "image", "image": str(pictures[index])}
    text = {"type": "text", "text": QUESTION}
    yield "text", [], [text]
    yield "one image", ["--image", pictures[0]], [image(0), text]
    yield "two images", ["--image", pictures[1], "--image", pictures[2]], [image(1), image(2), text]
    frames = {"type": "video", "video": [Image.open(path) for path in pictures[:4]]}
    yield "video", ["--video", *pictures[:4], "--fps", 2, "--position-rule", POSITION_RULE], [frames, text]
    if resized:
        options = [word for path in pictures[4:] for word in ("--image", path)]
        yield "resized images", options, [*map(image, range(4, len(pictures))), text]


def inputs_of(processor, content):
    messages = [{"role": "user", "content": content}]
    videos = [part["video"] for part in content if part["type"] == "video"]
    if videos:
        # The frames as they are: two a second, resized like the images.
        rendered = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        size = {"shortest_edge": SIDE * SIDE, "longest_edge": SIDE * SIDE * 8}
        metadata = [{"total_num_frames": len(video), "fps": 2.0} for video in videos]
        kwargs = dict(do_sample_frames=False, video_metadata=metadata, size=size)
        return processor(text=[rendered], videos=videos, videos_kwargs=kwargs, return_tensors="pt")
    return processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=True,
                                         return_tensors="pt")


def reference_logprobs(model, inputs, answer):
    """Log-prob of each answer token, image and video placeholders left out of the distribution."""
    prompt = inputs["input_ids"]
    ids = torch.cat([prompt, torch.tensor([answer])], dim=1)
    more = {key: value for key, value in inputs.items() if key not in ("input_ids", "attention_mask")}
    if "mm_token_type_ids" in more:
        more["mm_token_type_ids"] = torch.nn.functional.pad(more["mm_token_type_ids"], (0, len(answer)))
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **more).logits[0].float()
    logits = logits[prompt.shape[1] - 1:-1]
    logits[:, [model.config.image_token_id, model.config.video_token_id]] = -torch.inf
    return logits, torch.log_softmax(logits, -1)[torch.arange(len(answer)), torch.tensor(answer)]


def ferro_lines(text):
    """Ids and log-probs of `--logprobs` output."""
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    return [int(row[1]) for row in rows], torch.tensor([float.fromhex(row[2]) for row in rows])


def print_default_processor(model, name, on_pillow, by_default, answer, expected):
    _, logprobs = reference_logprobs(model, by_default, answer)
    pixels = (by_default["pixel_values"] - on_pillow["pixel_values"]).abs()
    print(f"transformers {transformers.__version__} {name}, resized images by its default image processor: pixel values "
          f"differ by at most {pixels.max().item():.2g}, {pixels.mean().item():.2g} on average, {(pixels > 1e-6).float().mean().item():.2%} of them; "
          f"log-probs by {(logprobs - expected).abs().max().item():.2g}")


def compare(ferro, name, folder, pictures, all_cases):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    default = AutoProcessor.from_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder)
    processor.image_processor = pillow_image_processor(folder)
    model, info = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, output_loading_info=True,
                                                              attn_implementation="eager")
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not info[kind], f"{name}: {kind} {info[kind]}"
    model.eval()
    worst = 0.0
    for case, options, content in cases(pictures, name != "preset"):
        if not all_cases and case != "one image":
            continue
        ask = ["--model", folder, "--prompt", QUESTION, *options]
        inputs = inputs_of(processor, content)
        sampled, _ = ferro_lines(ferro("generate", *ask, "-t", 1, "-n", 12, "--seed", 4, "--logprobs"))
        greedy, _ = ferro_lines(ferro("generate", *ask, "-n", 12, "--logprobs"))
        for answer in (sampled, greedy):
            ids = " ".join(map(str, answer))
            scored, ours = ferro_lines(ferro("score", *ask, "--ids", ids, "--logprobs"))
            assert scored == answer
            logits, theirs = reference_logprobs(model, inputs, answer)
            difference = (ours - theirs).abs().max().item()
            worst = max(worst, difference)
            assert difference <= TOLERANCE, f"{name}, {case}: log-probs differ by {difference}"
        if case == "resized images":
            print_default_processor(model, name, inputs, inputs_of(default, content), greedy, theirs)
        # Each greedy token is transformers' likeliest, but for ties within the noise.
        behind = (logits.max(-1).values - logits[torch.arange(len(greedy)), torch.tensor(greedy)]).max().item()
        assert behind <= 2 * TOLERANCE, f"{name}, {case}: a greedy token is {behind} below the likeliest"
        printed = ferro("generate", *ask, "-n", 12)
        assert printed == tokenizer.decode(greedy, skip_special_tokens=True) + "\n", f"{name}, {case}: other text"
    print(f"golden transformers {transformers.__version__} {name}: largest difference {worst:.2g} "
          f"(tolerance {TOLERANCE:g})")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("ferro")
    parser.add_argument("--keep", type=Path, help="write the models here and leave them")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(exist_ok=True)
        ferro = Ferro(options.ferro)
        pictures = draw_pictures(folder)
        for name, model in write_models(ferro, folder).items():
            compare(ferro, name, model, pictures, name in ("preset", "untied-bfloat16-shards"))


if __name__ == "__main__":
    main()
