#!/usr/bin/env python3
"""How much better a small classifier is for having been taught by a large one: alone and distilled, some seeds each.

    python scripts/train_classifier.py --bundle build/classifier/teacher
    python scripts/study_distillation.py --teacher build/classifier/teacher --work build/classifier/study

The student begins with the same random weights each time and is trained for as many steps:

* alone, on the images that have labels (the first `--labelled` of the training images);
* distilled on the same images, from labels and the teacher's answers;
* distilled on other images, which the teacher has not seen, either, from its answers alone: a teacher needs no labels,
  and images without any are what a robot has plenty of.

Every training keeps its checkpoint, and its bundle when it is done: an interrupted study goes on. Prints Markdown
tables; points are of top-1 on the test clips, with the 95 % interval of the paired difference.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np
from train_classifier import Setting, progress, trained

from distillation_table import Row, finished, told  # isort: skip  # train_classifier finds the package
from quick_form import arguments  # isort: skip
from edge_vision.optimize.architectures import pixels
from edge_vision.optimize.command import load_network
from edge_vision.optimize.data import Data
from edge_vision.optimize.loading import load_data
from edge_vision.optimize.measure.accuracy import Accuracy, accuracy
from edge_vision.optimize.network import Network
from edge_vision.optimize.saving import write_bundle
from edge_vision.simulation import LABELS


def measured(
    setting: Setting, data: Data, work: Path, kind: str, threads: int, teacher: Network | None = None
) -> Accuracy:
    """Of the network that is in `work`, or is trained there."""
    folder = work / f"{kind}_{setting.seed}"
    if (folder / "bundle" / "model.yaml").is_file():
        return accuracy(load_network(str(folder / "bundle")), data.test)
    network = trained(setting, data, folder, threads, teacher)
    script = "scripts/study_distillation.py"
    write_bundle(network, folder / "bundle", provenance={"script": script, **dataclasses.asdict(setting)})
    return accuracy(network, data.test)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True, help="bundle of train_classifier.py")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--labelled", type=int, default=300, help="training images whose labels are used")
    parser.add_argument("--seen", type=int, default=4000, help="training images that the teacher has learnt from")
    parser.add_argument("--unlabelled", type=int, default=4000, help="images after those, for the teacher to answer")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    usual = Setting(plain="16,32,64,64", epochs=100, alpha=0.5)
    for name, kind in Setting.__annotations__.items():
        if name != "seed":
            convert = {"int": int, "float": float, "str": str}[kind]
            parser.add_argument(f"--{name.replace('_', '-')}", type=convert, default=getattr(usual, name))
    args = arguments(parser, {"seeds": 1, "epochs": 20, "unlabelled": 1000})
    teacher = load_network(str(args.teacher))
    count = args.seen + args.unlabelled
    everything = load_data(f"sim://parts?train={count}", pixels(*_size(teacher)), "classify", LABELS, bar=progress)
    few = dataclasses.replace(everything, train=everything.train.part(np.arange(args.labelled)))
    others = dataclasses.replace(everything, train=everything.train.part(np.arange(args.seen, count)))
    same, transfer = [], []
    for seed in range(1, args.seeds + 1):
        given = {name: getattr(args, name) for name in Setting.__annotations__ if name != "seed"}
        setting = Setting(seed=seed, **given)
        alone = measured(setting, few, args.work, "alone", args.threads)
        taught = measured(setting, few, args.work, "taught", args.threads, teacher)
        same.append(finished(Row(seed, alone, taught)))
        epochs = max(1, round(args.epochs * len(few.train) / len(others.train)))
        answers = dataclasses.replace(setting, alpha=1.0, epochs=epochs)
        taught = measured(answers, others, args.work, "transfer", args.threads, teacher)
        transfer.append(finished(Row(seed, alone, taught)))
    best = accuracy(teacher, everything.test)
    print(f"\n{args.labelled} images with labels; distilled on the same images:")
    print(told(best, same))
    print(f"\nDistilled on {len(others.train)} images that the teacher has not seen, of which no label was used:")
    print(told(best, transfer))


def _size(network: Network) -> tuple[int, int]:
    return network.input.width, network.input.height


if __name__ == "__main__":
    sys.exit(main())
