#!/usr/bin/env python3
"""How much better a small detector is for having been taught by a large one: alone and distilled, some seeds each.

    python scripts/study_detector_distillation.py --work build/detector_study

The student is the bundled detector's architecture with half of its channels (a quarter of its cost), trained by
scripts/train_detector.py from random weights. It begins with the same weights each time and is shown as many frames:

* alone, the `--frames` that have labels;
* with `--same`, distilled on the same frames, from labels and the teacher's raw outputs;
* distilled on `--unlabelled` others as well, which the teacher has not seen, either: its raw outputs, and the boxes
  that it is sure of in place of labels. A teacher needs none, and frames without labels are what a robot has most of.

An interrupted study goes on. Prints Markdown tables; points are of mAP50-95 on test clips of `sim://conveyor`, with
the 95 % interval of the paired difference.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "src"))

from distillation_table import Row, finished, told  # noqa: E402
from quick_form import arguments  # noqa: E402
from train_classifier import progress  # noqa: E402
from train_detector import export, provenance_of, train  # noqa: E402
from train_detector import parser as training_parser  # noqa: E402

from edge_vision.optimize.command import load_network  # noqa: E402
from edge_vision.optimize.data import Data  # noqa: E402
from edge_vision.optimize.loading import load_data  # noqa: E402
from edge_vision.optimize.measure.accuracy import Accuracy, accuracy  # noqa: E402
from edge_vision.simulation import LABELS  # noqa: E402


def measured(args: argparse.Namespace, seed: int, kind: str, data: Data) -> Accuracy:
    """Of the network that is in the study's folder, or is trained there."""
    folder = args.work / f"{kind}_{seed}"
    if not (folder / "bundle" / "model.yaml").is_file():
        others = args.unlabelled if kind == "transfer" else 0
        given = [f"--{name}={getattr(args, name)}" for name in ("frames", "batch", "rate", "scale", "threads")]
        given += [f"--epochs={max(5, round(args.shown / (args.frames + others)))}", f"--unlabelled={others}"]
        given += [f"--seed={seed}", f"--work={folder}", f"--rendered={args.work}", "--resume"]
        given += [f"--teacher={args.teacher}", f"--taught={args.taught}"] if kind != "alone" else []
        setting = training_parser().parse_args(given)
        export(train(setting), folder / "bundle", provenance_of(setting))
    return accuracy(load_network(str(folder / "bundle")), data.test)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, default=REPOSITORY / "models" / "conveyor_parts")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=32, help="with labels")
    parser.add_argument("--unlabelled", type=int, default=1568, help="besides, without labels")
    parser.add_argument("--same", action="store_true", help="distil on the frames with labels alone, too")
    parser.add_argument("--shown", type=int, default=16000, help="frames in all epochs together")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--scale", type=float, default=0.5)
    parser.add_argument(
        "--taught", type=float, default=0.3, help="weight of the teacher's raw outputs beside the boxes"
    )
    parser.add_argument("--threads", type=int, default=2)
    args = arguments(parser, {"seeds": 1, "frames": 64, "unlabelled": 256, "shown": 960})
    teacher = load_network(str(args.teacher))
    data = load_data("sim://conveyor?train=10&calibration=10&test=400", teacher.input, "detect", LABELS, bar=progress)
    same, more = [], []
    for seed in range(1, args.seeds + 1):
        alone = measured(args, seed, "alone", data)
        more.append(finished(Row(seed, alone, measured(args, seed, "transfer", data))))
        if args.same:
            same.append(finished(Row(seed, alone, measured(args, seed, "taught", data))))
    best = accuracy(teacher, data.test)
    print(f"\n{args.frames} frames with labels; distilled on these and on {args.unlabelled} without:")
    print(told(best, more))
    if same:
        print("\nDistilled on the frames with labels alone:")
        print(told(best, same))


if __name__ == "__main__":
    sys.exit(main())
