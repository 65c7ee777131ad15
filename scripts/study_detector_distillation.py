#!/usr/bin/env python3
"""How much better a small detector is for having been taught by a large one: alone and distilled, some seeds each.

    python scripts/study_detector_distillation.py --work build/detector_study

The student is the bundled detector's architecture with half of its channels (a quarter of its cost), trained by
scripts/train_detector.py from random weights. Both have the same weights to begin with, the same frames in the same
order and the same epochs; the one alone learns from labels, the distilled one from the teacher's raw outputs as well.
An interrupted study goes on. Prints a Markdown table; points are of mAP50-95 on the test clips of `sim://conveyor`,
with the 95 % interval of the paired difference.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "src"))

from distillation_table import Row, finished, told  # noqa: E402
from train_classifier import progress  # noqa: E402
from train_detector import export, provenance_of, train  # noqa: E402
from train_detector import parser as training_parser  # noqa: E402

from edge_vision.optimize.command import load_network  # noqa: E402
from edge_vision.optimize.data import Data  # noqa: E402
from edge_vision.optimize.loading import load_data  # noqa: E402
from edge_vision.optimize.measure.accuracy import Accuracy, accuracy  # noqa: E402
from edge_vision.simulation import LABELS  # noqa: E402


def measured(args: argparse.Namespace, seed: int, teacher: Path | None, data: Data) -> Accuracy:
    """Of the network that is in the study's folder, or is trained there."""
    folder = args.work / f"{'taught' if teacher else 'alone'}_{seed}"
    if not (folder / "bundle" / "model.yaml").is_file():
        given = [
            f"--{name}={getattr(args, name)}" for name in ("frames", "epochs", "batch", "rate", "scale", "threads")
        ]
        given += [f"--seed={seed}", f"--work={folder}", f"--rendered={args.work}", "--resume"]
        given += [f"--teacher={teacher}", f"--taught={args.taught}"] if teacher else []
        setting = training_parser().parse_args(given)
        export(train(setting), folder / "bundle", provenance_of(setting))
    return accuracy(load_network(str(folder / "bundle")), data.test)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, default=REPOSITORY / "models" / "conveyor_parts")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=1600)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--scale", type=float, default=0.5)
    parser.add_argument("--taught", type=float, default=1.0, help="weight of the teacher's answers beside the labels")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    teacher = load_network(str(args.teacher))
    data = load_data("sim://conveyor?train=10&calibration=10&test=400", teacher.input, "detect", LABELS, bar=progress)
    rows = []
    for seed in range(1, args.seeds + 1):
        row = Row(seed, measured(args, seed, None, data), measured(args, seed, args.teacher, data))
        rows.append(finished(row))
    print(told(accuracy(teacher, data.test), rows))


if __name__ == "__main__":
    sys.exit(main())
