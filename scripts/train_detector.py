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
import hashlib
import json
import math
import multiprocessing
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "src"))

from edge_vision.datatypes import Detections  # noqa: E402
from edge_vision.evaluation.detection import evaluate_detections  # noqa: E402
from edge_vision.simulation import LABELS, Conveyor, ConveyorOptions  # noqa: E402

WIDTH, HEIGHT, STRIDES, PAD = 320, 240, (8, 16), 114
TRAINING_SEEDS, VALIDATION_SEEDS = 100_000, 90_000
FRAMES_PER_SEED = 16


# -- frames ------------------------------------------------------------------------------------------------------------


def scene_options(seed: int) -> ConveyorOptions:
    """The scene of a training seed: half of them the twin's defaults, half with everything varied."""
    rng = np.random.default_rng([seed, 7])
    if seed < TRAINING_SEEDS or rng.random() < 0.5:
        return ConveyorOptions(seed=seed)
    width, height = [(640, 480), (640, 480), (640, 480), (800, 600), (1280, 720), (1920, 1080)][rng.integers(6)]
    exposure = 0.004 * 2.0 ** rng.uniform(-1, 1)
    return ConveyorOptions(
        seed=seed,
        width=width,
        height=height,
        density=rng.uniform(0.2, 0.8),
        speed=rng.uniform(30, 300),
        exposure=exposure,
        # Brightness within 0.55 .. 1.4 of the default's, whatever the exposure.
        gain=0.004 / exposure * 2.0 ** rng.uniform(-0.85, 0.5),
        light=rng.uniform(0.85, 1.1),
        noise=bool(rng.random() < 0.9),
        read_noise=rng.uniform(2, 25),
        distortion=rng.uniform(0, 1.2),
    )


def letterbox(image: np.ndarray, boxes: np.ndarray, interpolation: int) -> tuple[np.ndarray, np.ndarray]:
    """Image and boxes (N, 4) in the network's input: centred letterbox, padded with 114."""
    h, w = image.shape[:2]
    scale = min(WIDTH / w, HEIGHT / h)
    nw, nh = round(w * scale), round(h * scale)
    left, top = (WIDTH - nw) // 2, (HEIGHT - nh) // 2
    out = np.full((HEIGHT, WIDTH, 3), PAD, np.uint8)
    cv2.resize(image, (nw, nh), dst=out[top : top + nh, left : left + nw], interpolation=interpolation)
    return out, boxes * [nw / w, nh / h, nw / w, nh / h] + [left, top, left, top]


def render_seed(seed: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """The frames of one seed, (16, 240, 320, 3) uint8, and the truth of each, (N, 5) class and box."""
    cv2.setNumThreads(1)
    conveyor = Conveyor(scene_options(seed))
    rng = np.random.default_rng([seed, 8])
    images, truths = [], []
    for index in np.cumsum(rng.integers(40, 120, FRAMES_PER_SEED)):
        shot = conveyor.render(int(index))
        # Runtimes differ in how they shrink an image; so do the frames.
        interpolation = cv2.INTER_LINEAR if rng.random() < 0.7 else cv2.INTER_AREA
        image, boxes = letterbox(shot.frame.image, shot.truth.boxes, interpolation)
        images.append(image)
        truths.append(np.concatenate([shot.truth.class_ids[:, None], boxes], 1).astype(np.float32))
    return np.stack(images), truths


def rendered(path: Path, first_seed: int, frames: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Frames and truth of the seeds from ``first_seed`` on; rendered once and kept at ``path``."""
    if path.exists():
        with np.load(path) as data:
            return data["images"], np.split(data["truth"], data["splits"])
    seeds = range(first_seed, first_seed + math.ceil(frames / FRAMES_PER_SEED))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        parts = list(tqdm(pool.imap(render_seed, seeds), total=len(seeds), desc=f"rendering {path.stem}"))
    images = np.concatenate([part[0] for part in parts])
    truths = [truth for part in parts for truth in part[1]]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, images=images, truth=np.concatenate(truths), splits=np.cumsum([len(t) for t in truths])[:-1])
    return images, truths


def augment(image: np.ndarray, truth: np.ndarray, rng: np.random.Generator, strength: float) -> tuple:
    """Flips, brightness, colour balance, and for a share ``strength`` of the frames scale and shift."""
    truth = truth.copy()
    if rng.random() < 0.5 * strength:
        zoom = rng.uniform(0.85, 1.2)
        tx, ty = rng.uniform(-20, 20), rng.uniform(-14, 14)
        x0, y0 = WIDTH / 2 * (1 - zoom) + tx, HEIGHT / 2 * (1 - zoom) + ty
        # In continuous coordinates x' = zoom x + x0; pixel centres lie half a pixel further.
        matrix = np.array([[zoom, 0, x0 + (zoom - 1) / 2], [0, zoom, y0 + (zoom - 1) / 2]])
        image = cv2.warpAffine(image, matrix, (WIDTH, HEIGHT), borderValue=(PAD,) * 3)
        moved = truth[:, 1:] * zoom + [x0, y0, x0, y0]
        truth[:, 1:] = np.clip(moved, 0, [WIDTH, HEIGHT, WIDTH, HEIGHT])
        area = np.prod(truth[:, 3:] - truth[:, 1:3], 1)
        truth = truth[area > 0.3 * np.prod(moved[:, 2:] - moved[:, :2], 1)]
    if rng.random() < 0.5:
        image = image[:, ::-1]
        truth[:, [1, 3]] = WIDTH - truth[:, [3, 1]]
    if rng.random() < 0.5:
        image = image[::-1]
        truth[:, [2, 4]] = HEIGHT - truth[:, [4, 2]]
    if rng.random() < 0.7:
        gain = rng.uniform(0.75, 1.3) * rng.uniform(0.94, 1.06, 3)
        ramp = np.arange(256)[:, None] * gain + rng.uniform(-10, 10)
        image = cv2.LUT(np.ascontiguousarray(image), np.clip(ramp, 0, 255).astype(np.uint8)[None])
    return image, truth


# -- network -----------------------------------------------------------------------------------------------------------


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int | None = None) -> nn.Sequential:
    padding = kernel // 2 if padding is None else padding
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


def separable(channels: int) -> nn.Sequential:
    """Depthwise 3x3 and pointwise convolution."""
    depthwise = nn.Conv2d(channels, channels, 3, 1, 1, groups=channels, bias=False)
    return nn.Sequential(depthwise, nn.BatchNorm2d(channels), *conv(channels, channels, 1))


class Residual(nn.Module):
    """A bottleneck of half width with a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(channels, channels // 2, 1), conv(channels // 2, channels, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Detector(nn.Module):
    """Images (B, 240, 320, 3) uint8 BGR to raw YOLOX outputs (B, 1500, 5 + classes), logits while training.

    A 6x6 patch convolution of stride 4 starts it: the two usual convolutions of stride 2 on large maps would cost
    more than half of the whole network.
    """

    def __init__(self, classes: int = len(LABELS), width: int = 64) -> None:
        super().__init__()
        self.stage4 = nn.Sequential(conv(3, 32, 6, 4, 1), Residual(32))
        self.stage8 = nn.Sequential(conv(32, 64, 3, 2), Residual(64), Residual(64))
        self.stage16 = nn.Sequential(conv(64, 96, 3, 2), Residual(96), Residual(96))
        self.lateral8, self.lateral16 = conv(64, width, 1), conv(96, width, 1)
        self.fuse = separable(width)
        self.class_towers = nn.ModuleList(separable(width) for _ in STRIDES)
        self.box_towers = nn.ModuleList(separable(width) for _ in STRIDES)
        self.class_heads = nn.ModuleList(nn.Conv2d(width, classes, 1) for _ in STRIDES)
        self.box_heads = nn.ModuleList(nn.Conv2d(width, 5, 1) for _ in STRIDES)
        for head, boxes, stride in zip(self.class_heads, self.box_heads, STRIDES, strict=True):
            nn.init.constant_(head.bias, math.log(0.05))
            nn.init.constant_(boxes.bias, 0.5)
            with torch.no_grad():
                boxes.bias[2:4] = math.log(36 / stride)  # the parts' usual size
                boxes.bias[4] = math.log(0.01)

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stage8(self.stage4(images))
        deep = self.lateral16(self.stage16(x))
        return self.fuse(self.lateral8(x) + F.interpolate(deep, scale_factor=2)), deep

    def forward(self, images: Tensor) -> Tensor:
        x = images.permute(0, 3, 1, 2).float()
        if self.training or not hasattr(self, "folded"):
            x = x / 255
        levels = []
        for i, feature in enumerate(self.features(x)):
            boxes, classes = (
                self.box_heads[i](self.box_towers[i](feature)),
                self.class_heads[i](self.class_towers[i](feature)),
            )
            if not self.training:
                boxes = torch.cat([boxes[:, :4], boxes[:, 4:].sigmoid()], 1)
                classes = classes.sigmoid()
            levels.append(torch.cat([boxes, classes], 1).flatten(2))
        return torch.cat(levels, 2).transpose(1, 2)


def fold(model: Detector) -> Detector:
    """Batch normalisation and the division by 255 folded into the convolutions, for export."""

    def fold_into(module: nn.Module) -> None:
        for child in module.children():
            fold_into(child)
        if isinstance(module, nn.Sequential):
            kept: list[nn.Module] = []
            for layer in module:
                if isinstance(layer, nn.BatchNorm2d):
                    kept[-1] = nn.utils.fusion.fuse_conv_bn_eval(kept[-1], layer)
                else:
                    kept.append(layer)
            module._modules.clear()
            for i, layer in enumerate(kept):
                module.add_module(str(i), layer)

    model.eval()
    fold_into(model)
    with torch.no_grad():
        model.stage4[0][0].weight /= 255
    model.folded = True
    return model


def grid() -> tuple[Tensor, Tensor]:
    """Cell coordinates (1500, 2) and strides (1500, 1) in the order of the outputs."""
    cells, strides = [], []
    for stride in STRIDES:
        h, w = HEIGHT // stride, WIDTH // stride
        y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        cells.append(torch.stack([x, y], -1).reshape(-1, 2))
        strides.append(torch.full((h * w, 1), stride))
    return torch.cat(cells).float(), torch.cat(strides).float()


CELLS, CELL_STRIDES = grid()


def decode(raw: Tensor) -> Tensor:
    """Raw outputs (..., 1500, 4+) to xyxy boxes in input pixels: cx = (x + gx) s, w = exp(w) s."""
    centre = (raw[..., :2] + CELLS) * CELL_STRIDES
    half = torch.exp(raw[..., 2:4].clamp(max=6)) * CELL_STRIDES / 2
    return torch.cat([centre - half, centre + half], -1)


# -- loss --------------------------------------------------------------------------------------------------------------


def overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and GIoU (Rezatofighi et al. 2019) of boxes that broadcast."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared
    iou = shared / union.clamp(min=1e-6)
    hull = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    hull = hull.prod(-1).clamp(min=1e-6)
    return iou, iou - (hull - union) / hull


def candidates(middle: Tensor) -> tuple[Tensor, Tensor]:
    """Cells whose centre may lie within 2 strides of each object's: (B, M, 50) numbers, and which of them do."""
    offsets = torch.stack(torch.meshgrid(torch.arange(-2, 3), torch.arange(-2, 3), indexing="ij"), -1).reshape(-1, 2)
    numbers, near, first = [], [], 0
    for stride in STRIDES:
        w, h = WIDTH // stride, HEIGHT // stride
        cell = (middle / stride).floor().long()[:, :, None] + offsets
        x, y = cell[..., 0], cell[..., 1]
        distance = ((cell + 0.5) * stride - middle[:, :, None]).abs().amax(-1)
        near.append((x >= 0) & (x < w) & (y >= 0) & (y < h) & (distance < 2 * stride))
        numbers.append(first + y.clamp(0, h - 1) * w + x.clamp(0, w - 1))
        first += w * h
    return torch.cat(numbers, -1), torch.cat(near, -1)


@torch.no_grad()
def assign(boxes: Tensor, logits: Tensor, truth: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """SimOTA for a batch: which object (index into truth, -1 for none) each cell learns, and their IoU, (B, A) both.

    boxes (B, A, 4), logits (B, A, 1 + C), truth (B, M, 5), present (B, M).
    """
    batch, cells = boxes.shape[:2]
    objects = truth.shape[1]
    number, near = candidates((truth[..., 1:3] + truth[..., 3:5]) / 2)
    near &= present[..., None]
    flat = number.reshape(batch, -1)
    found = boxes.gather(1, flat[..., None].expand(-1, -1, 4)).reshape(batch, objects, -1, 4)
    iou = overlap(truth[:, :, None, 1:], found)[0] * near
    score = (logits[..., :1].sigmoid() * logits[..., 1:].sigmoid()).sqrt().clamp(1e-6, 1 - 1e-6)
    # Binary cross-entropy to the one-hot class, as a constant of the cell and a difference of the class.
    base = -torch.log1p(-score).sum(-1)
    change = torch.log1p(-score) - score.log()
    picked = truth[..., 0].long()[..., None].expand(-1, -1, number.shape[-1]).reshape(batch, -1)
    class_cost = base.gather(1, flat) + change.reshape(batch, -1).gather(1, flat * score.shape[-1] + picked)
    centres = ((CELLS + 0.5) * CELL_STRIDES)[number]
    inside = (centres > truth[:, :, None, 1:3]).all(-1) & (centres < truth[:, :, None, 3:5]).all(-1)
    cost = class_cost.reshape(iou.shape) - 3 * (iou + 1e-8).log() + 1e4 * ~inside + 1e9 * ~near
    keep = iou.topk(10, -1).values.sum(-1).round().long().clamp(min=1)
    lowest = cost.topk(10, -1, largest=False)
    chosen = (torch.arange(10) < keep[..., None]) & (lowest.values < 1e8)
    # A cell that two objects want goes to the cheaper.
    image, object_, rank = chosen.nonzero(as_tuple=True)
    place = lowest.indices[image, object_, rank]
    cell = number[image, object_, place]
    cheapest = torch.full((batch, cells), torch.inf)
    cheapest.view(-1).scatter_reduce_(0, image * cells + cell, cost[image, object_, place], "amin")
    won = cost[image, object_, place] <= cheapest[image, cell]
    index = torch.full((batch, cells), -1)
    shared = torch.zeros(batch, cells)
    index[image[won], cell[won]] = object_[won]
    shared[image[won], cell[won]] = iou[image[won], object_[won], place[won]]
    return index, shared


def loss_of(raw: Tensor, truth: Tensor, present: Tensor) -> tuple[Tensor, dict[str, float]]:
    """YOLOX's loss: 5 x box + objectness + class, each per matched cell."""
    boxes = decode(raw)
    index, iou = assign(boxes.detach(), raw[..., 4:].detach(), truth, present)
    matched = index >= 0
    count = matched.sum().clamp(min=1)
    objects = truth.gather(1, index.clamp(min=0)[..., None].expand(-1, -1, 5))[matched]
    _, giou = overlap(boxes[matched], objects[:, 1:])
    box = (1 - giou).sum() / count
    centre = (objects[:, 1:3] + objects[:, 3:]) / 2
    stride = CELL_STRIDES.expand(len(raw), -1, -1)[matched]
    cell = CELLS.expand(len(raw), -1, -1)[matched]
    size = (objects[:, 3:] - objects[:, 1:3]).clamp(min=1)
    l1 = F.l1_loss(raw[matched][:, :4], torch.cat([centre / stride - cell, (size / stride).log()], 1))
    objectness = F.binary_cross_entropy_with_logits(raw[..., 4], matched.float(), reduction="sum") / count
    target = F.one_hot(objects[:, 0].long(), len(LABELS)) * iou[matched][:, None]
    classes = F.binary_cross_entropy_with_logits(raw[matched][:, 5:], target, reduction="sum") / count
    total = 5 * box + objectness + classes + 2 * l1
    terms = {"box": box, "obj": objectness, "cls": classes, "l1": l1}
    return total, {name: float(term.detach()) for name, term in terms.items()}


def keep_memory() -> None:
    """Has glibc keep freed memory: without it each batch's tensors are mapped, zeroed and unmapped by the kernel,
    which cost half of the training's time."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD, its largest value
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        libc.mallopt(-2, 256 << 20)  # M_TOP_PAD


# -- training ----------------------------------------------------------------------------------------------------------


def batches(images: np.ndarray, truths: list[np.ndarray], size: int, rng: np.random.Generator, strength: float):
    """One epoch of augmented batches: (B, 240, 320, 3) uint8, truth (B, M, 5), present (B, M)."""
    order = rng.permutation(len(images))
    for start in range(0, len(order) - size + 1, size):
        pairs = [augment(images[i], truths[i], rng, strength) for i in order[start : start + size]]
        most = max(1, max(len(truth) for _, truth in pairs))
        padded = np.zeros((size, most, 5), np.float32)
        padded[..., 3:] = 1
        present = np.zeros((size, most), bool)
        for i, (_, truth) in enumerate(pairs):
            padded[i, : len(truth)], present[i, : len(truth)] = truth, True
        stack = np.stack([image for image, _ in pairs])
        yield torch.from_numpy(stack), torch.from_numpy(padded), torch.from_numpy(present)


@torch.no_grad()
def detect(model: Detector, images: np.ndarray) -> list[Detections]:
    """Detections in network pixels; class-wise NMS at IoU 0.65 for a quick look while training."""
    model.eval()
    found = []
    for start in range(0, len(images), 32):
        raw = model(torch.from_numpy(images[start : start + 32]))
        for boxes, scores in zip(decode(raw).numpy(), (raw[..., 4:5] * raw[..., 5:]).numpy(), strict=True):
            cells, classes = np.nonzero(scores > 0.01)
            values = scores[cells, classes]
            xywh = np.concatenate([boxes[cells, :2], boxes[cells, 2:] - boxes[cells, :2]], 1)
            shifted = xywh + np.stack([classes * 4096, classes * 0, classes * 0, classes * 0], 1)
            kept = np.array(cv2.dnn.NMSBoxes(shifted.tolist(), values.tolist(), 0.01, 0.65), np.int64).ravel()[:100]
            found.append(Detections(boxes[cells[kept]], values[kept], classes[kept].astype(np.int64), LABELS))
    return found


def train(args: argparse.Namespace) -> Detector:
    keep_memory()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    images, truths = rendered(args.work / "training.npz", TRAINING_SEEDS, args.frames)
    validation, known = rendered(args.work / "validation.npz", VALIDATION_SEEDS, 160)
    answers = [Detections(t[:, 1:], np.ones(len(t), np.float32), t[:, 0].astype(np.int64), LABELS) for t in known]
    model = Detector().to(memory_format=torch.channels_last)
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
    warm, total = 2 * steps, args.epochs * steps
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda n: min(n / warm, 0.01 + 0.495 * (1 + math.cos(math.pi * min(1, max(0, n - warm) / (total - warm))))),
    )
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
            loss, terms = loss_of(model(stack), truth, present)
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
            scores = evaluate_detections(answers, detect(average.module, validation))
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


# -- export ------------------------------------------------------------------------------------------------------------


def export(model: Detector, folder: Path, provenance: dict) -> Path:
    """Writes model.onnx and model.yaml into ``folder``; the measured figures are added by `measure`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    images = torch.zeros(1, HEIGHT, WIDTH, 3, dtype=torch.uint8)
    names = {"input_names": ["images"], "output_names": ["output"]}
    torch.onnx.export(fold(model), (images,), str(path), opset_version=17, dynamo=False, **names)
    bundle = {
        "format": 1,
        "name": folder.name,
        "task": "detect",
        "decoder": "yolox",
        "labels": list(LABELS),
        "input": {
            "name": "images",
            "width": WIDTH,
            "height": HEIGHT,
            "layout": "nhwc",
            "dtype": "uint8",
            "colour": "bgr",
            "scale": 1.0,
            "mean": [0, 0, 0],
            "std": [1, 1, 1],
            "resize": "letterbox",
            "pad_value": PAD,
        },
        "decoder_options": {"strides": list(STRIDES)},
        "thresholds": {"score": 0.3, "iou": 0.5, "max_detections": 300},
        "variants": [
            {
                "backend": "onnxruntime",
                "precision": "fp32",
                "file": path.name,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
        ],
        "license": "Apache-2.0",
        "provenance": provenance,
    }
    write_bundle(folder, bundle)
    return folder


def write_bundle(folder: Path, bundle: dict) -> None:
    text = yaml.safe_dump(bundle, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
    header = "# Written by scripts/train_detector.py; see docs/training.md.\n"
    (folder / "model.yaml").write_text(header + text, encoding="utf-8")


def measure(folder: Path) -> None:
    """Adds to the bundle what `edge_vision evaluate` finds on 500 frames of seeds never trained on."""
    from edge_vision.cli.evaluate import evaluate_bundle

    scores = evaluate_bundle(folder)
    bundle = yaml.safe_load((folder / "model.yaml").read_text(encoding="utf-8"))
    figures = {"map50_95": round(scores.map50_95, 4), "map50": round(scores.map50, 4), "frames": scores.frames}
    bundle["variants"][0]["measured"] = figures
    write_bundle(folder, bundle)
    print(json.dumps({"bundle": folder.name, **figures}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=REPOSITORY / "build" / "training", help="frames and checkpoints")
    parser.add_argument("--bundle", type=Path, default=REPOSITORY / "models" / "conveyor_parts")
    parser.add_argument("--frames", type=int, default=3200)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in --work")
    args = parser.parse_args()
    model = train(args)
    settings = {key: getattr(args, key) for key in ("seed", "frames", "epochs", "batch", "rate")}
    provenance = {
        "script": "scripts/train_detector.py",
        **settings,
        "training_seeds": f"{TRAINING_SEEDS} and up",
        "torch": str(torch.__version__),
    }
    measure(export(model, args.bundle, provenance))


if __name__ == "__main__":
    main()
