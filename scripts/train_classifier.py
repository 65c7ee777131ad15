#!/usr/bin/env python3
"""Trains a classifier of the digital twin's parts and writes its model bundle.

    python scripts/train_classifier.py --bundle build/classifier/teacher     # MobileNetV2, width 1
    python scripts/train_classifier.py --bundle build/classifier/student --width 0.35 --last 128 \\
        --teacher build/classifier/teacher

MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381) on crops of 64 x 64 pixels, from random weights, by the training
loop of `edge_vision.optimize.training`. With --teacher it learns from that model's answers as well as from the labels
(Hinton et al. 2015, arXiv:1503.02531). An interrupted run goes on after its last whole epoch when it is called again.
PyTorch is needed: `pip install "edge_vision[optimize,train]"`.

The accuracy that is printed and written into the bundle is of test clips: their seeds are below those of training.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "src"))

import quick_form  # noqa: E402
import torch  # noqa: E402
from tqdm import tqdm  # noqa: E402

from edge_vision.optimize.architectures import mobilenet_v2, pixels, plain_cnn  # noqa: E402
from edge_vision.optimize.command import load_network  # noqa: E402
from edge_vision.optimize.data import Data  # noqa: E402
from edge_vision.optimize.loading import DataError, load_data  # noqa: E402
from edge_vision.optimize.measure.accuracy import Accuracy, accuracy  # noqa: E402
from edge_vision.optimize.network import Network  # noqa: E402
from edge_vision.optimize.saving import write_bundle  # noqa: E402
from edge_vision.optimize.training.errors import TrainingError  # noqa: E402
from edge_vision.optimize.training.inputs import Augmentation  # noqa: E402
from edge_vision.optimize.training.loop import fit  # noqa: E402
from edge_vision.optimize.training.losses import (  # noqa: E402
    Combined,
    CrossEntropy,
    Distillation,
    FeatureMatching,
    Loss,
)
from edge_vision.optimize.training.schedule import Schedule  # noqa: E402
from edge_vision.simulation import LABELS  # noqa: E402

DATA = "sim://parts"
FEATURES = "features"  # both architectures call so what their last layer reads
# Parts lie at any angle, and mirrored ones are of the same class.
VARIED = Augmentation(horizontal_flip=True, vertical_flip=True, shift=0.08, brightness=0.3, colour=0.08)


@dataclass(frozen=True)
class Setting:
    """What a training depends on besides its data. plain: channels of a plain CNN's layers, such as 16,32,64,64, in
    place of MobileNetV2; width: MobileNetV2's multiplier; last: its channels before the classifier, 0 for the paper's.
    alpha: weight of the teacher's answers against the labels; temperature: that they are compared at; hint: weight of
    the teacher's features (what its last layer reads), which the student's are to tell by a linear map (Romero et al.
    2015, arXiv:1412.6550)."""

    plain: str = ""
    width: float = 1.0
    last: int = 0
    epochs: int = 12
    batch: int = 32
    rate: float = 2e-3
    weight_decay: float = 0.02
    seed: int = 1
    alpha: float = 0.9
    temperature: float = 4.0
    hint: float = 0.0


def untrained(setting: Setting, labels: tuple[str, ...], width: int, height: int) -> Network:
    """The setting's network with weights drawn from its seed, for images of `width` x `height` pixels."""
    spec = pixels(width, height)
    if setting.plain:
        channels = tuple(int(text) for text in setting.plain.split(","))
        return plain_cnn(labels, spec, channels=channels, seed=setting.seed)
    return mobilenet_v2(labels, spec, width=setting.width, last=setting.last or None, seed=setting.seed)


def trained(setting: Setting, data: Data, work: Path, threads: int, teacher: Network | None = None) -> Network:
    """A network trained on the data; `work` keeps its checkpoint, from which an interrupted training goes on."""
    height, width = data.train.images.shape[1:3]
    network = untrained(setting, data.labels, width, height)
    loss: Loss = CrossEntropy()
    if teacher is not None:
        hint = FeatureMatching([(FEATURES, FEATURES)])
        loss = Combined(
            (1 - setting.alpha, loss), (setting.alpha, Distillation(setting.temperature)), (setting.hint, hint)
        )
    schedule = Schedule(setting.epochs, setting.batch, setting.rate, weight_decay=setting.weight_decay)
    fitted = fit(
        network.proto,
        data.train,
        network.input,
        loss,
        schedule,
        teacher=teacher.proto if teacher else None,
        validation=data.calibration,
        augmentation=VARIED,
        work=work,
        seed=setting.seed,
        threads=threads,
        bar=lambda title, total: tqdm(total=total, desc=title, unit="step"),
        title=f"{setting.plain or f'width {setting.width:g}'}, seed {setting.seed}" + (", taught" if teacher else ""),
    )
    for note in fitted.notes:
        print(note, file=sys.stderr)
    return network.with_graph(fitted.proto)


def arguments() -> argparse.Namespace:
    usual = Setting()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="folder of the bundle that is written")
    parser.add_argument("--work", type=Path, help="folder of the checkpoint; default: beside the bundle")
    parser.add_argument("--data", default=DATA, help="as `load_data` takes it, e.g. sim://parts?train=6000")
    parser.add_argument("--size", type=int, default=64, help="pixels of a side of the input")
    parser.add_argument("--teacher", type=Path, help="bundle of a trained classifier to learn from")
    parser.add_argument("--threads", type=int, default=2)
    for name, kind in Setting.__annotations__.items():
        convert = {"int": int, "float": float, "str": str}[kind]
        parser.add_argument(f"--{name.replace('_', '-')}", type=convert, default=getattr(usual, name))
    return quick_form.arguments(parser, {"data": f"{DATA}?train=800&calibration=200&test=1000", "epochs": 6})


def main() -> int:
    args = arguments()
    setting = Setting(**{name: getattr(args, name) for name in Setting.__annotations__})
    work = args.work or args.bundle.parent / f"{args.bundle.name}_training"
    try:
        data = load_data(args.data, pixels(args.size, args.size), "classify", LABELS, bar=progress)
        teacher = load_network(str(args.teacher)) if args.teacher else None
        network = trained(setting, data, work, args.threads, teacher)
    except (DataError, TrainingError, ValueError) as error:
        print(f"train_classifier: {error}", file=sys.stderr)
        return 2
    result = accuracy(network, data.test)
    names = ("epochs", "batch", "rate", "weight_decay", *(("alpha", "temperature", "hint") if teacher else ()))
    provenance = {
        "script": "scripts/train_classifier.py",
        "data": data.name,
        **{name: getattr(setting, name) for name in names},
        **({"teacher": args.teacher.name} if args.teacher else {}),
        "torch": str(torch.__version__),
    }
    write_bundle(network, args.bundle, measured=figures(result), provenance=provenance)
    print(json.dumps({"bundle": str(args.bundle), **figures(result)}))
    return 0


def progress(title: str, total: int) -> tqdm:
    return tqdm(total=total, desc=title, unit="image")


def figures(result: Accuracy) -> dict[str, float]:
    """Rounded, for people and files."""
    return {
        "top1": round(result.value, 4),
        "low": round(result.low, 4),
        "high": round(result.high, 4),
        "images": result.images,
    }


if __name__ == "__main__":
    sys.exit(main())
