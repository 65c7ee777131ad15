"""What every reader shares: images found and measured once, labels checked, what is wrong with them listed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_vision.datasets.description import Dataset, Issue, Sample, Task
from edge_vision.datasets.errors import DatasetError
from edge_vision.datasets.image_headers import image_size, is_image

LEAST_SIDE = 0.01  # px: a box that is narrower holds nothing
BEYOND = 1.0  # px beyond the border that rounding explains

Progress = Callable[[int], None]


class Collector:
    """Gathers the samples and issues of one dataset while a reader goes through its files."""

    def __init__(
        self, path: Path, kind: str, task: Task, labels: Sequence[str], advance: Progress | None = None
    ) -> None:
        self.path, self.kind, self.task, self.labels = path, kind, task, tuple(labels)
        self.issues: list[Issue] = []
        self._samples: list[Sample] = []
        self._seen: set[tuple[str, str]] = set()
        self._advance = advance

    def note(self, kind: str, where: str | os.PathLike[str], text: str = "") -> None:
        self.issues.append(Issue(kind, str(where), text))

    def measure(self, image: Path, split: str, told: tuple[int, int] | None = None) -> tuple[int, int] | None:
        """Width and height in px of an image that may be used; None, with the issue noted, of one that may not.

        told: the size that the annotations give, where they do.
        """
        if self._advance is not None:
            self._advance(1)
        key = (split, os.path.abspath(image))
        if key in self._seen:
            self.note("image twice", image, f"in {split or 'the dataset'}")
            return None
        self._seen.add(key)
        try:
            size = image_size(image)
        except OSError:
            self.note("missing image", image)
            return None
        if size is None:
            self.note("unreadable image", image, f"{image.stat().st_size} bytes")
            return None
        if told is not None and min(told) <= 0:
            self.note(
                "no size", image, f"annotated with {told[0]} x {told[1]}; the file's {size[0]} x {size[1]} is used"
            )
        elif told is not None and told != size:
            self.note("size differs", image, f"annotated {told[0]} x {told[1]}, the file is {size[0]} x {size[1]}")
        return size

    def add(
        self,
        image: Path,
        size: tuple[int, int],
        boxes: NDArray[np.float64],
        class_ids: NDArray[np.int64],
        *,
        split: str = "",
        sequence: str = "",
        number: int = -1,
        where: Callable[[int], str] | None = None,
    ) -> None:
        """Add an image with the boxes of it that can be used. where: names label i for people (file and line)."""
        if self.task == "detection" and len(boxes):
            kept = self._usable(boxes, class_ids, size, where or (lambda i: f"{image}, box {i}"))
            boxes, class_ids = boxes[kept], class_ids[kept]
        self._samples.append(Sample(image, size[0], size[1], boxes, class_ids, split, sequence, number))

    def _usable(
        self,
        boxes: NDArray[np.float64],
        class_ids: NDArray[np.int64],
        size: tuple[int, int],
        where: Callable[[int], str],
    ) -> NDArray[np.bool_]:
        width, height = size
        finite: NDArray[np.bool_] = np.asarray(np.isfinite(boxes).all(axis=1))
        known = (class_ids >= 0) & (class_ids < len(self.labels))
        safe = np.where(finite[:, None], boxes, 0.0)
        area: NDArray[np.bool_] = np.asarray(((safe[:, 2:] - safe[:, :2]) >= LEAST_SIDE).all(1))
        inside = (safe[:, 0] < width) & (safe[:, 1] < height) & (safe[:, 2] > 0) & (safe[:, 3] > 0)
        over = (safe < -BEYOND).any(1) | (safe[:, 2] > width + BEYOND) | (safe[:, 3] > height + BEYOND)
        kept: NDArray[np.bool_] = np.asarray(finite & known & area & inside)
        over = np.asarray(over)
        good = np.flatnonzero(kept)
        rows = np.concatenate([class_ids[good, None].astype(np.float64), np.round(safe[good], 2)], 1)
        first = np.zeros(len(good), bool)
        first[np.unique(rows, axis=0, return_index=True)[1]] = True
        kept[good[~first]] = False
        for i in np.flatnonzero(~kept | over).tolist():
            text = f"xyxy {', '.join(f'{v:.6g}' for v in boxes[i])} in {width} x {height}"
            if not finite[i]:
                self.note("not finite", where(i), text)
            elif not known[i]:
                self.note("unknown class", where(i), f"class {class_ids[i]}, the table has 0 to {len(self.labels) - 1}")
            elif not area[i]:
                self.note("no area", where(i), text)
            elif not inside[i]:
                self.note("outside", where(i), text)
            elif not kept[i]:
                self.note("duplicate box", where(i), text)
            else:
                self.note("partly outside", where(i), text)
        return kept

    def dataset(self) -> Dataset:
        """Raises DatasetError where not one image could be used."""
        if not self._samples:
            problem = f"not one usable image in it (read as {self.kind})"
            if self.issues:
                first = self.issues[0]
                problem += f"; {len(self.issues)} issues, the first: {first.kind}, {first.where} {first.text}".rstrip()
            raise DatasetError(self.path, problem, "give the folder or file that the images belong to")
        return Dataset(self.path, self.kind, self.task, self.labels, tuple(self._samples), tuple(self.issues))


def images_below(folder: Path) -> list[Path]:
    """All images in a folder and its sub-folders, sorted. [] where there is no such folder."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [path for name in names if is_image(path := Path(place, name))]
    return sorted(found)


def has_images(folder: Path) -> bool:
    """Whether images lie directly in a folder."""
    try:
        return any(is_image(path) for path in folder.iterdir())
    except OSError:
        return False


def first_folder(candidates: Iterable[Path], name: str) -> Path | None:
    """The first of the folders that has a file of that name."""
    return next((folder for folder in candidates if (folder / name).is_file()), None)


def split_name(text: str) -> str:
    """`train`, `val` or `test` where a folder or file name tells one ("instances_val2017", "valid"), else ""."""
    lowered = text.lower()
    for split, words in (("train", ("train",)), ("val", ("val", "dev")), ("test", ("test",))):
        if any(word in lowered for word in words):
            return split
    return ""
