"""An archive of a run: the images that were kept and the corners found in them, so that it can be repeated.

A folder: `session.json` (format, camera, board), and for each sample `0001.png` and `0001.json`, the corners in full
digits. Files appear whole, the image before its corners: a sample is there when its corners are.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.boards import Board, BoardError
from edge_vision.calibration.views import View
from edge_vision.whole_files import write_bytes

FORMAT = 1
HEAD = "session.json"
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
_FIGURES = ("spacing", "edge_width", "motion", "saturated", "tilt")


class ArchiveError(ValueError):
    """A folder that holds no archive, or one that cannot be used; the message says what to do."""


@dataclass(eq=False)
class Sample:
    """A view that was kept, and its image: as it came, as the bytes of a PNG, as the file that holds it, or None."""

    view: View
    image: NDArray[Any] | bytes | Path | None

    def png(self) -> bytes | None:
        """The bytes of its image's file; None where there is no image. Raises OSError."""
        if isinstance(self.image, Path):
            return self.image.read_bytes()
        return encode(self.image) if isinstance(self.image, np.ndarray) else self.image


@dataclass(frozen=True, eq=False)
class Archive:
    """What a folder holds."""

    folder: Path
    camera_name: str
    board: Board
    samples: tuple[Sample, ...]


def encode(image: NDArray[Any]) -> bytes:
    """A PNG of (h, w), (h, w, 3) BGR or (h, w, 4), uint8 or uint16. Of another type: as 8 bit grey."""
    if image.dtype not in (np.uint8, np.uint16):
        from edge_vision.calibration.detection import to_gray

        image = to_gray(image)
    # Level 1: three times as fast as the default, a tenth larger.
    done, data = cv2.imencode(".png", np.ascontiguousarray(image), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise OSError(f"OpenCV cannot write a PNG of {image.shape} {image.dtype}")
    return bytes(data)


def next_run(parent: str | os.PathLike[str], camera_name: str) -> Path:
    """The folder of a new run, not there yet: `parent/camera_name-001`, or the number after the last."""
    parent = Path(parent).expanduser()
    last = max((number for number, _ in _runs(parent, camera_name)), default=0)
    return parent / f"{camera_name}-{last + 1:03d}"


def write_head(folder: Path, board: Board, camera_name: str) -> None:
    """Makes the folder an archive. Raises OSError."""
    content = {"format": FORMAT, "camera_name": camera_name, "board": asdict(board)}
    write_bytes(folder / HEAD, (json.dumps(content, indent=2) + "\n").encode())


def write_sample(folder: Path, sample: Sample) -> Path | None:
    """Into the folder, under the view's name; the image's file. Raises OSError."""
    view, image = sample.view, sample.png()
    if image is not None:
        write_bytes(folder / f"{view.name}.png", image)
    content = {
        "ids": view.ids.tolist(),
        "pixels": view.pixels.tolist(),
        "image_size": list(view.image_size),
        "stamp": view.stamp,
        "warnings": list(view.warnings),
        **{name: getattr(view, name) for name in _FIGURES},
    }
    write_bytes(folder / f"{view.name}.json", (json.dumps(content) + "\n").encode())
    return folder / f"{view.name}.png" if image is not None else None


def read_archive(folder: str | os.PathLike[str]) -> Archive:
    """An archive, or the newest of those in a folder. Raises ArchiveError, OSError."""
    folder = Path(folder).expanduser()
    if not (folder / HEAD).is_file():
        inner = [(path.stat().st_mtime_ns, path.parent) for path in folder.glob(f"*/{HEAD}")]
        if not inner:
            raise ArchiveError(f"{folder} holds no samples of a calibration: name a folder that an archive was kept in")
        folder = max(inner)[1]
    head = _read(folder / HEAD)
    if head.get("format") != FORMAT:
        raise ArchiveError(
            f"{folder / HEAD} is of format {head.get('format')}, this version reads {FORMAT}: load its images instead"
        )
    try:
        known = {field.name for field in fields(Board)}
        board = Board(**{key: value for key, value in head["board"].items() if key in known})
        name = str(head["camera_name"])
    except (KeyError, TypeError, AttributeError, BoardError) as error:
        raise ArchiveError(f"{folder / HEAD} does not describe its board: {error}") from error
    return Archive(folder, name, board, tuple(_samples(folder, board)))


def images_in(folder: str | os.PathLike[str]) -> list[Path]:
    """The image files of a folder, by name."""
    return sorted(path for path in Path(folder).expanduser().iterdir() if path.suffix.lower() in IMAGES)


def _samples(folder: Path, board: Board) -> Iterator[Sample]:
    for path in sorted(folder.glob("*.json")):
        if path.name == HEAD or path.name.startswith(".") or not _is_sample(content := _read(path)):
            continue
        try:
            view = View(
                path.stem,
                np.array(content["ids"], np.int64),
                np.array(content["pixels"], np.float64).reshape(-1, 2),
                (int(content["image_size"][0]), int(content["image_size"][1])),
                int(content.get("stamp", 0)),
                warnings=tuple(content.get("warnings", ())),
                **{name: content.get(name) for name in _FIGURES},
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ArchiveError(f"{path} does not hold a view's corners ({error}): delete it") from error
        if len(view) and not (view.ids.min() >= 0 and view.ids.max() < len(board.points)):
            raise ArchiveError(f"{path} names corners that the board ({board}) does not have: delete it")
        image = path.with_suffix(".png")
        yield Sample(view, image if image.is_file() else None)


def _is_sample(content: dict[str, Any]) -> bool:
    return "ids" in content and "pixels" in content


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArchiveError(f"{path} is no JSON ({error}): delete it, or take it from a copy") from error
    return content if isinstance(content, dict) else {}


def _runs(parent: Path, camera_name: str) -> Iterator[tuple[int, Path]]:
    pattern = re.compile(re.escape(camera_name) + r"-(\d+)")
    if parent.is_dir():
        for path in parent.iterdir():
            if match := pattern.fullmatch(path.name):
                yield int(match[1]), path
