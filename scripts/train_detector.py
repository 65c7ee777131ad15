#!/usr/bin/env python3
"""Trains the bundled demo detector `conveyor_parts` on the digital twin and writes its model bundle.

    python scripts/train_detector.py --work build/training            # render, train, export, evaluate
    python scripts/train_detector.py --work build/training --resume   # go on after an interruption

An anchor-free detector in YOLOX's output layout (Ge et al. 2021, arXiv:2107.08430): input 320x240, strides 8 and
16, SimOTA assignment, exported with pre-processing and batch normalisation folded into the graph. PyTorch CPU is
needed here and nowhere else: `pip install "edge_vision[train]"`. docs/training.md has the figures.

Frames are rendered from seeds >= 100,000; every seed below that is never trained on and free for evaluation.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "src"))

from detector_training.bundle import export, measure  # noqa: E402
from detector_training.frames import (  # noqa: E402
    TRAINING_SEEDS,
    UNLABELLED_SEEDS,
    VALIDATION_SEEDS,
    batches,
    rendered,
)
from detector_training.network import CELLS, Detector  # noqa: E402
from detector_training.teaching import Teacher  # noqa: E402
from quick_form import arguments  # noqa: E402

from edge_vision.datatypes import Detections  # noqa: E402
from edge_vision.evaluation.detection import evaluate_detections  # noqa: E402
from edge_vision.optimize.training.box_loss import box_loss  # noqa: E402
from edge_vision.simulation import LABELS  # noqa: E402

QUICK = {"frames": 480, "epochs": 5, "work": "build/quick", "bundle": "build/quick/bundle"}  # not over the bundled one
SURE = 0.5  # score from which the teacher's boxes stand in for labels


def keep_memory() -> None:
    """Has glibc keep freed memory: without it each batch's tensors are mapped, zeroed and unmapped by the kernel,
    which cost half of the training's time."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD, its largest value
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        libc.mallopt(-2, 256 << 20)  # M_TOP_PAD


@torch.no_grad()
def detect(model: Callable[[Tensor], Tensor], images: np.ndarray) -> list[Detections]:
    """Detections in network pixels; class-wise NMS at IoU 0.65 for a quick look while training.

    model: of images (B, 240, 320, 3) uint8 the answers (B, 1500, 5 + classes), scores in 0..1.
    """
    found = []
    for start in range(0, len(images), 32):
        raw = model(torch.from_numpy(images[start : start + 32]))
        for boxes, scores in zip(CELLS.boxes(raw).numpy(), (raw[..., 4:5] * raw[..., 5:]).numpy(), strict=True):
            cells, classes = np.nonzero(scores > 0.01)
            values = scores[cells, classes]
            xywh = np.concatenate([boxes[cells, :2], boxes[cells, 2:] - boxes[cells, :2]], 1)
            shifted = xywh + np.stack([classes * 4096, classes * 0, classes * 0, classes * 0], 1)
            kept = np.array(cv2.dnn.NMSBoxes(shifted.tolist(), values.tolist(), 0.01, 0.65), np.int64).ravel()[:100]
            found.append(Detections(boxes[cells[kept]], values[kept], classes[kept].astype(np.int64), LABELS))
    return found


def answered(teacher: Teacher, images: np.ndarray) -> list[np.ndarray]:
    """What the teacher is rather sure of in each image, in place of labels: (N, 5) class and box, as `rendered`'s."""
    truths = []
    for found in detect(teacher.answers, images):
        sure = found.scores >= SURE
        truths.append(np.concatenate([found.class_ids[sure, None], found.boxes[sure]], 1).astype(np.float32))
    return truths


def train(args: argparse.Namespace) -> Detector:
    keep_memory()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    frames = args.rendered or args.work
    images, truths = rendered(frames / f"training_{args.frames}.npz", TRAINING_SEEDS, args.frames)
    validation, known = rendered(frames / "validation.npz", VALIDATION_SEEDS, 160)
    answers = [Detections(t[:, 1:], np.ones(len(t), np.float32), t[:, 0].astype(np.int64), LABELS) for t in known]
    model = Detector(scale=args.scale).to(memory_format=torch.channels_last)
    teacher = Teacher(args.teacher, torch.from_numpy(images[:64])) if args.teacher else None
    if teacher is not None and args.unlabelled:
        more, _ = rendered(frames / f"unlabelled_{args.unlabelled}.npz", UNLABELLED_SEEDS, args.unlabelled)
        images, truths = np.concatenate([images, more]), [*truths, *answered(teacher, more)]
    average = torch.optim.swa_utils.AveragedModel(
        model,
        avg_fn=lambda old, new, n: old + (new - old) * max(1 - 0.9995, 1 / (10 + int(n)) * 4),
        use_buffers=True,
    )
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.03}, {"params": rest, "weight_decay": 0.0}], lr=args.rate
    )
    steps = len(images) // args.batch
    total = args.epochs * steps
    warm = max(1, min(2 * steps, total // 7))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda n: min(n / warm, 0.01 + 0.495 * (1 + math.cos(math.pi * min(1, max(0, n - warm) / (total - warm))))),
    )
    args.work.mkdir(parents=True, exist_ok=True)
    checkpoint, start = args.work / "checkpoint.pt", 0
    if args.resume and checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        start = state["epoch"]
        for thing, key in ((model, "model"), (average, "average"), (optimiser, "optimiser"), (schedule, "schedule")):
            thing.load_state_dict(state[key])
    for epoch in range(start, args.epochs):
        model.train()
        rng = np.random.default_rng([args.seed, epoch])
        strength = 1.0 if epoch < args.epochs * 0.8 else 0.2  # the last epochs see frames as they will be
        begun, sums = time.time(), {}
        bar = tqdm(batches(images, truths, args.batch, rng, strength), total=steps, desc=f"epoch {epoch + 1}")
        for stack, truth, present in bar:
            raw = model(stack)
            loss, terms = box_loss(CELLS, raw, truth, present)
            if teacher is not None:
                apart = teacher.loss(stack, raw)
                loss, terms = loss + args.taught * apart, {**terms, "teacher": float(apart.detach())}
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 20.0)
            optimiser.step()
            schedule.step()
            average.update_parameters(model)
            for key, value in terms.items():
                sums[key] = sums.get(key, 0.0) + value / steps
            bar.set_postfix({key: f"{value:.3f}" for key, value in terms.items()})
        line = {"epoch": epoch + 1, "seconds": round(time.time() - begun), **{k: round(v, 4) for k, v in sums.items()}}
        if (epoch + 1) % 5 == 0 or epoch < 3 or epoch + 1 == args.epochs:
            scores = evaluate_detections(answers, detect(average.module.eval(), validation))
            line |= {"map50_95": round(scores.map50_95, 4), "map50": round(scores.map50, 4)}
        print(json.dumps(line), flush=True)
        torch.save(
            {
                "epoch": epoch + 1,
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optimiser": optimiser.state_dict(),
                "schedule": schedule.state_dict(),
            },
            checkpoint,
        )
    return average.module


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=REPOSITORY / "build" / "training", help="frames and checkpoints")
    parser.add_argument("--rendered", type=Path, help="folder of the frames; default: --work")
    parser.add_argument("--bundle", type=Path, default=REPOSITORY / "models" / "conveyor_parts")
    parser.add_argument("--frames", type=int, default=3200)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--scale", type=float, default=1.0, help="of all channels; 0.5 costs a quarter")
    parser.add_argument("--teacher", type=Path, help="bundle to learn from besides the labels")
    parser.add_argument("--taught", type=float, default=1.0, help="weight of the teacher's answers")
    parser.add_argument(
        "--unlabelled", type=int, default=0, help="frames beside --frames that only the teacher tells something about"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in --work")
    return parser


def provenance_of(args: argparse.Namespace) -> dict:
    settings = {key: getattr(args, key) for key in ("seed", "frames", "epochs", "batch", "rate", "scale")}
    if args.teacher:
        settings |= {"teacher": args.teacher.name, "taught": args.taught, "unlabelled": args.unlabelled}
    return {
        "script": "scripts/train_detector.py",
        **settings,
        "training_seeds": f"{TRAINING_SEEDS} and up",
        "torch": str(torch.__version__),
    }


def main() -> None:
    args = arguments(parser(), QUICK)
    measure(export(train(args), args.bundle, provenance_of(args)))


if __name__ == "__main__":
    main()
