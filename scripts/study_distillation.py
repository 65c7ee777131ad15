#!/usr/bin/env python3
"""How much better a small classifier is for having been taught by a large one: alone and distilled, some seeds each.

    python scripts/train_classifier.py --bundle build/classifier/teacher
    python scripts/study_distillation.py --teacher build/classifier/teacher --work build/classifier/study

Both are the same network from the same random weights, on the same images in the same order for the same epochs; only
the loss differs. Every training keeps its checkpoint, and its bundle when it is done: an interrupted study goes on.
Prints a Markdown table; points are of top-1 on the test clips, with the 95 % interval of the paired difference.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from train_classifier import DATA, Setting, opened, progress, trained

from edge_vision.optimize.architectures import pixels
from edge_vision.optimize.data import Data
from edge_vision.optimize.loading import load_data
from edge_vision.optimize.measure.accuracy import Accuracy, accuracy, drop
from edge_vision.optimize.network import Network
from edge_vision.optimize.saving import write_bundle
from edge_vision.simulation import LABELS


def measured(setting: Setting, data: Data, work: Path, threads: int, teacher: Network | None) -> Accuracy:
    """Of the network that is in `work`, or is trained there."""
    folder = work / f"{'taught' if teacher else 'alone'}_{setting.seed}"
    if (folder / "bundle" / "model.yaml").is_file():
        return accuracy(opened(folder / "bundle"), data.test)
    network = trained(setting, data, folder, threads, teacher)
    write_bundle(network, folder / "bundle", provenance=dataclasses.asdict(setting))
    return accuracy(network, data.test)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True, help="bundle of train_classifier.py")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", default=DATA)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    usual = Setting(width=0.35, last=128)
    for name, kind in Setting.__annotations__.items():
        if name != "seed":
            convert = {"int": int, "float": float}[kind]
            parser.add_argument(f"--{name.replace('_', '-')}", type=convert, default=getattr(usual, name))
    args = parser.parse_args()
    teacher = opened(args.teacher)
    spec = teacher.input
    data = load_data(args.data, pixels(spec.width, spec.height), "classify", LABELS, bar=progress)
    best = accuracy(teacher, data.test)
    rows = []
    for seed in range(1, args.seeds + 1):
        given = {name: getattr(args, name) for name in Setting.__annotations__ if name != "seed"}
        setting = Setting(seed=seed, **given)
        alone = measured(setting, data, args.work, args.threads, None)
        taught = measured(setting, data, args.work, args.threads, teacher)
        gain = drop(taught, alone)  # by how much the one alone is below
        rows.append((seed, alone.value, taught.value, gain))
        print(json.dumps({"seed": seed, "alone": alone.value, "taught": taught.value, "gain": gain.value}), flush=True)
    print(f"\nTeacher: {100 * best.value:.1f} % ({100 * best.low:.1f} to {100 * best.high:.1f}).\n")
    print("| seed | alone | distilled | gain in points (95 %) |\n|---|---|---|---|")
    for seed, before, after, gain in rows:
        interval = f"{100 * gain.low:.1f} to {100 * gain.high:.1f}"
        print(f"| {seed} | {100 * before:.1f} % | {100 * after:.1f} % | {100 * gain.value:+.1f} ({interval}) |")
    mean = sum(row[3].value for row in rows) / len(rows)
    print(f"\nMean gain {100 * mean:.1f} points over {len(rows)} seeds.")


if __name__ == "__main__":
    sys.exit(main())
