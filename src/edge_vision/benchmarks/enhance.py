"""What enhancing is worth: detections on bad frames with and without it, known degradations undone, and its time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.rectification import Rectifier
from edge_vision.datatypes import Frame, Tracks
from edge_vision.enhance import EnhanceParameters, Enhancer
from edge_vision.enhance.brightness import apply_tone, equalised, stretched
from edge_vision.enhance.denoising import denoise
from edge_vision.enhance.sharpening import PointSpread, sharpen, unsharp
from edge_vision.enhance.spectrum import measure_spectrum
from edge_vision.evaluation.detection import evaluate_detections
from edge_vision.inference import load_bundle
from edge_vision.inference.engine import Engine
from edge_vision.paths import find_model
from edge_vision.quality.full_reference import psnr, ssim
from edge_vision.simulation import Conveyor, ConveyorOptions

_STEP = 25  # frames of the twin between two that are looked at


@dataclass(frozen=True, slots=True)
class Condition:
    """A way in which frames are bad. options: of the twin; contrast, offset, noise: what fog or a wrong camera makes of
    its grey values (DN)."""

    name: str
    options: dict
    contrast: float = 1.0
    offset: float = 0.0
    noise: float = 0.0


CONDITIONS = (
    Condition("normal", {}),
    Condition("exposure 1/2", {"exposure": 0.002}),
    Condition("exposure 1/4", {"exposure": 0.001}),
    Condition("exposure 1/10", {"exposure": 0.0004}),
    Condition("exposure 1/20", {"exposure": 0.0002}),
    Condition("exposure 2x", {"exposure": 0.008}),
    Condition("light 3x", {"light": 3.0}),
    Condition("light 5x", {"light": 5.0}),
    Condition("contrast 0.3", {}, 0.3, 110, 1),
    Condition("contrast 0.15", {}, 0.15, 110, 1),
    Condition("washed out", {}, 0.4, 150, 1),
)


@dataclass(frozen=True, slots=True)
class Gain:
    """mAP (COCO, 0..1) of one condition without and with enhancement; applied: what was done to the last frame."""

    condition: str
    before: float
    after: float
    applied: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Restored:
    """A blurred, noisy frame: PSNR (dB) and SSIM before and after."""

    blur: float
    noise: float
    psnr_before: float
    psnr_after: float
    ssim_before: float
    ssim_after: float


def frames_of(condition: Condition, count: int, seed: int = 7) -> Iterator[tuple[Frame, Tracks]]:
    """Frames of the twin with their truth, made bad."""
    scene = Conveyor(replace(ConveyorOptions(seed=seed), **condition.options))
    rng = np.random.default_rng(seed)
    for index in range(count):
        rendered = scene.render(index * _STEP)
        frame = rendered.frame
        if condition.contrast != 1.0:
            values = frame.image * condition.contrast + condition.offset
            values += rng.normal(0, condition.noise, values.shape)
            frame = replace(frame, image=np.clip(np.rint(values), 0, 255).astype(np.uint8))
        yield frame, rendered.truth


def detection_gains(
    conditions: tuple[Condition, ...] = CONDITIONS,
    *,
    frames: int = 40,
    model: str = "conveyor_parts",
    backend: str = "onnxruntime",
    parameters: EnhanceParameters | None = None,
) -> Iterator[Gain]:
    """The detector's mAP on each condition, without and with an `Enhancer` before it. Errors as of `Engine.load`."""
    with Engine.load(load_bundle(find_model(model)), backend=backend, score_threshold=0.01) as engine:
        for condition in conditions:
            enhancer = Enhancer(parameters)
            truths, plain, enhanced = [], [], []
            for frame, truth in frames_of(condition, frames):
                truths.append(truth)
                plain.append(engine.infer(frame))
                enhanced.append(engine.infer(enhancer.enhance(frame)))
            before, after = (evaluate_detections(truths, found).map50_95 for found in (plain, enhanced))
            yield Gain(condition.name, before, after, enhancer.applied)


def restored(image: NDArray) -> Iterator[Restored]:
    """``image`` (H, W), blurred and noisy in nine ways, sharpened by what is measured on it."""
    for blur in (1.0, 1.5, 2.5):
        for noise in (0.0, 2.0, 5.0):
            bad: NDArray = cv2.GaussianBlur(image.astype(np.float64), (0, 0), blur)
            bad += noise * np.random.default_rng(0).normal(size=image.shape)
            bad = np.clip(np.rint(bad), 0, 255).astype(np.uint8)
            good = Enhancer(EnhanceParameters(brightness="off")).enhance(Frame(bad, encoding="mono8")).image
            yield Restored(blur, noise, psnr(bad, image), psnr(good, image), ssim(bad, image), ssim(good, image))


def stage_times(width: int, height: int, rounds: int = 15) -> dict[str, float]:
    """Milliseconds (least of ``rounds``) of each stage on a colour frame of the twin of that size."""
    scene = Conveyor(ConveyorOptions(width=width, height=height, seed=1))
    image = cv2.GaussianBlur(scene.render(5).frame.image, (0, 0), 1.5)
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    spectrum, tone = measure_spectrum(grey, 2.0), stretched(20, 60)
    rectifier = Rectifier(scene.camera_info())
    still, clean = Enhancer(EnhanceParameters(undistort=False)), Frame(scene.render(5).frame.image)
    stages: dict[str, Callable[[], object]] = {
        "nothing to do": lambda: still.enhance(clean),
        "stretch or gamma": lambda: apply_tone(image, tone),
        "clahe": lambda: equalised(image),
        "wiener": lambda: sharpen(image, PointSpread(1.5), 2.0, spectrum),
        "unsharp": lambda: unsharp(image, 1.5, 0.7, 2.0),
        "guided": lambda: denoise(image, 5.0),
        "bilateral": lambda: denoise(image, 5.0, "bilateral"),
        "undistort": lambda: rectifier(image),
        "measure (twice a second)": lambda: Enhancer(EnhanceParameters(brightness="off")).enhance(clean),
    }
    for run in stages.values():
        run()
    times = dict.fromkeys(stages, float("inf"))
    for _ in range(rounds):  # in turns: what else the machine does meets all of them
        for name, run in stages.items():
            start = time.perf_counter()
            run()
            times[name] = min(times[name], (time.perf_counter() - start) * 1e3)
    return times


def picture(width: int = 320) -> NDArray[np.uint8]:
    """Before (upper row) and after (lower row), of the twin: underexposed, fog, blur with noise, the lens."""
    scene = Conveyor(ConveyorOptions(seed=4))
    clear = scene.render(30).frame
    blurred = cv2.GaussianBlur(clear.image, (0, 0), 2.0) + np.random.default_rng(1).normal(0, 3, clear.image.shape)
    fog, dark = Condition("", {}, 0.15, 110, 1), Condition("", {"exposure": 0.0002})
    bad = [
        next(frames_of(dark, 1, seed=4))[0],
        next(frames_of(fog, 1, seed=4))[0],
        Frame(np.clip(np.rint(blurred), 0, 255).astype(np.uint8)),
        clear,
    ]
    columns = []
    for number, frame in enumerate(bad):
        enhancer = Enhancer()
        if number == len(bad) - 1:
            enhancer.set_camera(scene.camera_info())
        pair = [frame.image, enhancer.enhance(frame).image]
        if number == 2:  # what is lost and won by blur is seen at full size
            pair = [image[120:360, 160 : 160 + width] for image in pair]
        shown = [cv2.resize(image, (width, width * 3 // 4), interpolation=cv2.INTER_AREA) for image in pair]
        columns.append(np.vstack(shown))
    return np.hstack(columns)
