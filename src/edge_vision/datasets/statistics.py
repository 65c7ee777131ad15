"""What a dataset holds: classes, sizes and shapes of boxes, images; and a verdict where a figure passes a threshold."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_vision.datasets.description import HARMLESS, Dataset

SMALL, MEDIUM = 32.0**2, 96.0**2
"""px^2: COCO's borders of small, medium and large (cocodataset.org/#detection-eval), here of the box's area."""
BETA = 0.999
"""Of the effective number of samples, (1 - beta^n) / (1 - beta): Cui et al. 2019, Class-Balanced Loss, eq. 3."""

IMBALANCE = 10.0
FEWEST_OBJECTS = 50
BELOW_STRIDE = 0.01
SMALL_IN_INPUT = 0.5
LONG_SHAPE, LONG_SHARE = 5.0, 0.05
BACKGROUND = 0.5
MANY_BOXES = 100


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """objects: boxes (or images, when classifying); images: that hold any; share: of all objects; effective: number."""

    label: str
    objects: int
    images: int
    share: float
    effective: float
    by_split: dict[str, int]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One thing looked at. figure is compared with threshold; warned: it is beyond it; text says both, remedy helps."""

    name: str
    figure: float
    threshold: float
    warned: bool
    text: str
    remedy: str


@dataclass(frozen=True, slots=True)
class DatasetStatistics:
    """Figures of a dataset; boxes in pixels of their images, and of the network's input where letterboxed into it.

    imbalance: objects of the most over those of the least frequent class that has any. side: (N,) square root of the
    area, px; input_side: the same in the input; shorter: (N,) the shorter side in the input, px; relative: (N,) share
    of the image's area; aspect: (N,) width / height; classes: (N,). per_image: (M,) boxes. sizes: images by (width,
    height). small, medium, large: shares of boxes by COCO's borders. below_stride: share whose shorter side in the
    input is less than stride.
    """

    images: int
    objects: int
    sequences: int
    by_split: dict[str, int]
    classes: tuple[ClassFigures, ...]
    imbalance: float
    input_size: tuple[int, int]
    stride: int
    side: NDArray[np.float64]
    input_side: NDArray[np.float64]
    shorter: NDArray[np.float64]
    relative: NDArray[np.float64]
    aspect: NDArray[np.float64]
    class_ids: NDArray[np.int64]
    per_image: NDArray[np.int64]
    sizes: dict[tuple[int, int], int]
    small: float
    medium: float
    large: float
    below_stride: float
    issues: dict[str, int]
    verdicts: tuple[Verdict, ...]


def measure_dataset(dataset: Dataset, input_size: tuple[int, int] = (640, 640), stride: int = 8) -> DatasetStatistics:
    """input_size: (width, height) px of the detector's input; stride: its finest, px. No pixels are read."""
    samples = dataset.samples
    boxes = np.concatenate([s.boxes for s in samples]) if samples else np.zeros((0, 4))
    ids = np.concatenate([s.class_ids for s in samples])
    per_image = np.array([len(s.boxes) for s in samples], np.int64)
    dims = np.array([(s.width, s.height) for s in samples], np.float64)
    wh = boxes[:, 2:] - boxes[:, :2]
    area = wh.prod(1)
    scale = np.repeat(np.minimum(input_size[0] / dims[:, 0], input_size[1] / dims[:, 1]), per_image)
    side, shorter = np.sqrt(area), wh.min(1) * scale if len(wh) else np.zeros(0)
    detection = dataset.task == "detection"
    classes = _classes(dataset)
    present = [one.objects for one in classes if one.objects]
    imbalance = max(present) / min(present) if present else math.nan
    count = max(1, len(area))
    statistics = DatasetStatistics(
        images=len(samples),
        objects=len(ids),
        sequences=len({s.sequence for s in samples}),
        by_split=dict(Counter(s.split for s in samples)),
        classes=classes,
        imbalance=imbalance,
        input_size=input_size,
        stride=stride,
        side=side,
        input_side=side * scale,
        shorter=shorter,
        relative=area / np.repeat(dims.prod(1), per_image),
        aspect=wh[:, 0] / wh[:, 1] if len(wh) else np.zeros(0),
        class_ids=ids if detection else np.zeros(0, np.int64),
        per_image=per_image,
        sizes=dict(Counter((s.width, s.height) for s in samples).most_common()),
        issues=dataset.issue_counts(),
        small=float((area < SMALL).sum() / count),
        medium=float(((area >= SMALL) & (area < MEDIUM)).sum() / count),
        large=float((area >= MEDIUM).sum() / count),
        below_stride=float((shorter < stride).sum() / count),
        verdicts=(),
    )
    return _with_verdicts(statistics, dataset)


def _classes(dataset: Dataset) -> tuple[ClassFigures, ...]:
    n = len(dataset.labels)
    objects, images = np.zeros(n, int), np.zeros(n, int)
    by_split: dict[str, NDArray] = {}
    for sample in dataset.samples:
        counts = np.bincount(sample.class_ids, minlength=n)
        objects += counts
        images += counts > 0
        by_split.setdefault(sample.split, np.zeros(n, int))
        by_split[sample.split] += counts
    total = max(1, int(objects.sum()))
    return tuple(
        ClassFigures(
            label,
            int(objects[k]),
            int(images[k]),
            float(objects[k] / total),
            float((1 - BETA ** int(objects[k])) / (1 - BETA)),
            {split: int(row[k]) for split, row in by_split.items()},
        )
        for k, label in enumerate(dataset.labels)
    )


def _with_verdicts(s: DatasetStatistics, dataset: Dataset) -> DatasetStatistics:
    verdicts = []

    def judge(name: str, figure: float, threshold: float, text: str, remedy: str, *, above: bool = True) -> None:
        warned = figure > threshold if above else figure < threshold
        verdicts.append(Verdict(name, figure, threshold, bool(warned), text, remedy if warned else ""))

    present = [one for one in s.classes if one.objects]
    bad = sum(count for kind, count in s.issues.items() if kind not in HARMLESS)
    share = bad / max(1, s.images + s.objects)
    judge(
        "labels and files",
        bad,
        0,
        f"{bad} issues with {s.images} images and {s.objects} objects ({share:.2%}), limit 0",
        "go through the list of issues and correct the labels",
    )
    if present:
        most, least = max(present, key=lambda c: c.objects), min(present, key=lambda c: c.objects)
        judge(
            "class imbalance",
            s.imbalance,
            IMBALANCE,
            f"{most.label} {most.objects} : {least.label} {least.objects} = {s.imbalance:.1f}, limit {IMBALANCE:g}",
            "record more of the rare classes, sample their images more often, or weight classes by effective number",
        )
        judge(
            "objects of the rarest class",
            least.objects,
            FEWEST_OBJECTS,
            f"{least.label}: {least.objects}, at least {FEWEST_OBJECTS}",
            "too few to learn or to measure by: record more",
            above=False,
        )
    absent = [one.label for one in s.classes if not one.objects]
    judge(
        "classes without objects",
        len(absent),
        0,
        f"{len(absent)} of {len(s.classes)}" + (f": {', '.join(absent[:8])}" if absent else ""),
        "take them out of the table or record them",
    )
    for split in dataset.splits:
        if split == dataset.splits[0] or len(dataset.splits) < 2:
            continue
        missing = [c.label for c in present if not c.by_split.get(split)]
        judge(
            f"classes missing in {split}",
            len(missing),
            0,
            f"{len(missing)} of {len(present)}" + (f": {', '.join(missing[:8])}" if missing else ""),
            "what is not there cannot be measured: split again, or record more clips of them",
        )
    if dataset.task == "detection":
        _judge_boxes(s, judge)
    return replace(s, verdicts=tuple(verdicts))


def _judge_boxes(s: DatasetStatistics, judge) -> None:  # type: ignore[no-untyped-def]
    width, height = s.input_size
    judge(
        "below the finest stride",
        s.below_stride,
        BELOW_STRIDE,
        f"{s.below_stride:.1%} of the boxes are narrower than {s.stride} px in an input of {width} x {height}, limit "
        f"{BELOW_STRIDE:.0%}",
        "a larger input, tiles, or a detector with a finer stride",
    )
    tiny = float((s.input_side**2 < SMALL).mean()) if len(s.input_side) else 0.0
    judge(
        "small in the input",
        tiny,
        SMALL_IN_INPUT,
        f"{tiny:.1%} of the boxes have less than 32 x 32 px in an input of {width} x {height}, limit "
        f"{SMALL_IN_INPUT:.0%}",
        "keep the head of the finest stride, and try a larger input",
    )
    long = float((np.maximum(s.aspect, 1 / np.maximum(s.aspect, 1e-9)) > LONG_SHAPE).mean()) if len(s.aspect) else 0.0
    judge(
        "long boxes",
        long,
        LONG_SHARE,
        f"{long:.1%} are more than {LONG_SHAPE:g} times as long as wide, limit {LONG_SHARE:.0%}",
        "anchors of that shape, or rotated boxes",
    )
    empty = float((s.per_image == 0).mean())
    judge(
        "images without objects",
        empty,
        BACKGROUND,
        f"{empty:.1%}, limit {BACKGROUND:.0%}",
        "up to a tenth of background teaches what is none; more only costs time",
    )
    most = int(s.per_image.max(initial=0))
    judge(
        "boxes in one image",
        most,
        MANY_BOXES,
        f"{most} at most, limit {MANY_BOXES} (the COCO protocol scores the best {MANY_BOXES})",
        "raise the detector's largest number of detections",
    )
