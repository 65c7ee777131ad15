"""Frames of the twin for training: rendered once, then augmented anew for every epoch."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from edge_vision.simulation import Conveyor, ConveyorOptions

WIDTH, HEIGHT, PAD = 320, 240, 114
TRAINING_SEEDS, VALIDATION_SEEDS = 100_000, 90_000
UNLABELLED_SEEDS = 300_000  # frames like those of training that no bundled model has learnt from
FRAMES_PER_SEED = 16


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


def batches(
    images: np.ndarray, truths: list[np.ndarray], size: int, rng: np.random.Generator, strength: float
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
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
