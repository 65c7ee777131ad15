"""What a dataset is, whatever its files look like: samples with boxes or a class, and what was wrong with them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.datasets.errors import DatasetError

Task = Literal["detection", "classification"]

KINDS = {
    "missing image": "annotated, but the file is not there; left out",
    "unreadable image": "the file is no image or is cut off; left out",
    "no size": "neither the annotation nor the file's header tells width and height; left out",
    "size differs": "the annotation tells another width and height than the file; the file's are used",
    "image twice": "the same file is listed more than once; read once",
    "malformed label": "a label that does not parse; left out",
    "not finite": "a box with NaN or infinity in it; left out",
    "unknown class": "a class id outside the table of classes; left out",
    "no area": "a box without width or height (below a hundredth of a pixel); left out",
    "outside": "a box wholly outside its image; left out",
    "partly outside": "a box that reaches more than a pixel beyond its image; kept as it is",
    "duplicate box": "the same class and box once more in one image; left out",
    "unlabelled image": "an image for which no annotation exists at all (an empty label file is a background image)",
    "stray label": "a label without an image; left out",
}
"""Kinds of issue, and what each means and what becomes of it."""

HARMLESS = ("unlabelled image", "partly outside")
"""Kinds that need not be wrong: boxes drawn beyond the border, pictures of the background."""


@dataclass(frozen=True, slots=True)
class Issue:
    """Something wrong with one image or label. kind: of `KINDS`; where: file, and line or record; text: the figures."""

    kind: str
    where: str
    text: str = ""


def _no_boxes() -> NDArray[np.float64]:
    return np.zeros((0, 4))


def _no_ids() -> NDArray[np.int64]:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """An image and its labels; the pixels are read when `load` is called and not before.

    boxes: (N, 4) float64 xyxy in continuous pixels of the image, (0, 0) its top left corner; none for classification.
    class_ids: (N,) int64, places in the dataset's labels; exactly one for classification. width, height: px as
    OpenCV loads the file (EXIF orientation applied). sequence: the clip that the image is a frame of; number: its place
    there, -1 where not known. split: "train", "val", "test", ... or "".
    """

    image: Path
    width: int
    height: int
    boxes: NDArray[np.float64] = field(default_factory=_no_boxes)
    class_ids: NDArray[np.int64] = field(default_factory=_no_ids)
    split: str = ""
    sequence: str = ""
    number: int = -1

    def load(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 BGR. Raises DatasetError where the file cannot be decoded."""
        image = cv2.imread(str(self.image), cv2.IMREAD_COLOR)
        if image is None:
            raise DatasetError(self.image, "cannot be decoded", "replace the file or take it out of the set")
        return image  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Samples of one task with one table of classes. kind: the layout that it was read from ("coco", "yolo", ...)."""

    path: Path
    kind: str
    task: Task
    labels: tuple[str, ...]
    samples: tuple[Sample, ...]
    issues: tuple[Issue, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, training first, as far as samples say which they are in."""
        order = {"train": 0, "val": 1, "test": 2}
        return tuple(sorted({s.split for s in self.samples if s.split}, key=lambda name: (order.get(name, 3), name)))

    def in_split(self, split: str) -> tuple[Sample, ...]:
        return tuple(sample for sample in self.samples if sample.split == split)

    def issue_counts(self) -> dict[str, int]:
        """How many of each kind there are, in the order of `KINDS`; kinds without any are left out."""
        counts = Counter(issue.kind for issue in self.issues)
        return {kind: counts[kind] for kind in KINDS if counts[kind]}
