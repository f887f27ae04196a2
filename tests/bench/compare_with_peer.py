#!/usr/bin/env python3
"""Times the training steps of ferro and of TRL on the same work, one after the other, and prints ratios.

usage: compare_with_peer.py PEER_PYTHON [--work ../shared/bench] [--bench build/release/tests/step_bench] [--steps 8]
PEER_PYTHON: an interpreter with torch, transformers and trl; the folder of --work has peer_trl.py and work/<size>/.
Each program runs twice, in turn, and the faster run counts; 2 threads each.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile


def run(command, environment):
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with {result.returncode}:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
    return result.stdout


def ours(arguments, size, environment):
    """GRPO and SFT in processes of their own, as the peer's: each has its own peak of memory."""
    merged = {}
    for part in ("grpo", "sft"):
        rate = [f"rate={merged['floor_gflops']}"] if merged else []
        text = run([arguments.bench, os.path.join(arguments.work, "work", size), f"reps={arguments.steps}", f"part={part}", *rate], environment)
        print("\n".join(line for line in text.splitlines() if not line.startswith("{")))
        own = json.loads(next(line for line in text.splitlines() if line.startswith("{")))
        own[f"{part}_peak_mib"] = own.pop("peak_mib")
        merged.update(own)
    return merged


def theirs(arguments, size, environment):
    script = os.path.join(arguments.work, "peer_trl.py")
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out.json")
        # The first two of its steps are left out of its own figures.
        run([arguments.peer, script, "grpo", size.upper(), "64", str(arguments.steps + 2), out], environment)
        grpo = json.load(open(out))
        run([arguments.peer, script, "sft", size.upper(), "float32", str(arguments.steps), out], environment)
        sft = json.load(open(out))
    return {"reference": grpo["reference_s"], "train": grpo["train_s"], "sft": sft["step_s"],
            "grpo_rss": grpo["peak_rss_mib"], "sft_rss": sft["peak_rss_mib"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer")
    parser.add_argument("--work", default="../shared/bench")
    parser.add_argument("--bench", default="build/release/tests/step_bench")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--sizes", nargs="+", default=["tiny", "small"])
    arguments = parser.parse_args()
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    own, peer = [], []
    for _ in range(2):
        own.append({size: ours(arguments, size, environment) for size in arguments.sizes})
        peer.append({size: theirs(arguments, size, environment) for size in arguments.sizes})
        print("load average", os.getloadavg()[0])
    print(f"\n{'size':6} {'part':16} {'ferro s':>9} {'TRL s':>9} {'ratio':>6}")
    for size in arguments.sizes:
        rows = {"reference": lambda p: p["reference"]["min"], "train": lambda p: p["train"]["min"],
                "reference+train": lambda p: p["reference"]["min"] + p["train"]["min"], "sft": lambda p: p["sft"]["min"]}
        for part, of_peer in rows.items():
            fast, slow = min(o[size][part]["min_s"] for o in own), min(of_peer(p[size]) for p in peer)
            print(f"{size:6} {part:16} {fast:9.4f} {slow:9.4f} {slow / fast:6.2f}")
        for part in ("grpo", "sft"):
            print(f"{size:6} {part:4} peak memory MiB: ferro {max(o[size][f'{part}_peak_mib'] for o in own):.0f}, "
                  f"TRL {max(p[size][f'{part}_rss'] for p in peer):.0f}")


if __name__ == "__main__":
    main()
