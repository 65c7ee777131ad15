"""Frames from image files: one, a folder of them, or a glob pattern."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Frame
from edge_vision.sources.base import BaseSource, Clock, Sample, SourceError, encoding_of, resize
from edge_vision.sources.opencv import quiet

SUFFIXES = frozenset((
    ".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pnm",
    ".jp2", ".avif", ".ras", ".sr",
))  # fmt: skip
DEFAULT_RATE = 10.0


class Images(BaseSource):
    """Image files one after another at ``fps`` (10), in natural order; each may have a size of its own.

    Grey images come as ``mono8`` or ``mono16``, colour as ``bgr8`` (16-bit colour is reduced to 8 bit), turned as their
    EXIF orientation says. Files that cannot be read are left out, counted in ``unreadable`` and told in ``warnings``.
    Raises SourceError where there are no images, and at the end where not one could be read.
    """

    def __init__(
        self,
        path: str,
        *,
        width: int | None = None,
        height: int | None = None,
        fps: float | None = None,
        loop: bool = False,
        frame_id: str = "",
        start_stamp: int = 0,
    ) -> None:
        super().__init__(path)
        self._paths = find_images(path)
        self._found = len(self._paths)
        self._next = 0
        self.unreadable = 0
        self.rate = fps or DEFAULT_RATE
        self.length = None if loop else len(self._paths)
        self._loop = loop
        self._size = width, height
        self._frame_id = frame_id
        self._clock = Clock(start_stamp, self.rate)
        self._sequence = 0
        kind = "image" if [path] == self._paths else f"{len(self._paths)} images"
        self.description = f"{kind} {path}, {self.rate:g} fps{', looping' if loop else ''}"

    def read(self) -> Sample | None:
        while not self._closed.is_set():
            if self._next == len(self._paths):
                if not self._paths:
                    raise SourceError(
                        f"{self.uri}: none of the {self._found} images could be read; the first: {self.warnings[0]}"
                    )
                if not self._loop:
                    return None
                self._next = 0
                self._clock.restart()
            path = self._paths[self._next]
            try:
                image = load_image(path)
            except SourceError as error:
                self.unreadable += 1
                self.warnings.append(str(error))
                del self._paths[self._next]  # tell of it once, not in every loop
                continue
            self._next += 1
            image = resize(image, *self._size)
            frame = Frame(image, self._clock.stamp(), self._frame_id, self._sequence, encoding_of(image))
            self._sequence += 1
            return Sample(frame)
        return None


def load_image(path: str) -> NDArray:
    """(H, W, 3) uint8 BGR, or (H, W) uint8 or uint16. Raises SourceError for what is no whole image."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error
    if data.size == 0:
        raise SourceError(f"cannot read {path}: the file is empty")
    if jpeg_is_cut(data):
        raise SourceError(f"cannot read {path}: the JPEG is cut off before its end")
    try:
        with quiet():
            image = cv2.imdecode(data, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
    except cv2.error as error:
        raise SourceError(f"cannot read {path}: {error.err}") from error
    if image is None:
        raise SourceError(f"cannot read {path}: it is damaged or no image that OpenCV can decode")
    if image.ndim == 3 and image.dtype == np.uint16:
        image = cv2.convertScaleAbs(image, alpha=1 / 257)
    try:
        encoding_of(image)
    except SourceError as error:
        raise SourceError(f"cannot read {path}: {error}; convert it to 8-bit PNG") from error
    return image


def jpeg_is_cut(data: NDArray[np.uint8]) -> bool:
    """Whether a JPEG lacks its end, which decoders fill with grey instead of refusing.

    ITU-T T.81, B.1: the last scan (marker FFDA) is followed by an end of image (FFD9); inside the coded data
    a byte FF is always followed by 00 or a restart marker, so neither can be mistaken.
    """
    if data[:3].tobytes() != b"\xff\xd8\xff":
        return False
    raw = data.tobytes()
    return raw.rfind(b"\xff\xd9") < raw.rfind(b"\xff\xda")


def find_images(path: str) -> list[str]:
    """The image files that a file name, a folder (not its sub-folders) or a glob pattern stands for, natural order."""
    if os.path.isfile(path):
        return [path]
    if os.path.isdir(path):
        files = [entry.path for entry in os.scandir(path) if entry.is_file()]
        images = [file for file in files if Path(file).suffix.lower() in SUFFIXES]
        if not images:
            holds = (
                f"{len(files)} other files, such as {sorted(map(os.path.basename, files))[0]}" if files else "no files"
            )
            raise SourceError(
                f"no images in the folder {path}: it holds {holds}; give a folder of .png, .jpg, … "
                f"files, a pattern such as '{os.path.join(path, '**', '*.png')}', or one file"
            )
    else:
        images = [file for file in glob.iglob(path, recursive=True) if os.path.isfile(file)]
        if not images:
            raise SourceError(f"no file fits the pattern {path}; the current folder is {os.getcwd()}")
    return sorted(images, key=natural_key)


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sorts frame2 before frame10."""
    return [
        (0, int(part), part) if part.isdecimal() else (1, 0, part.lower()) for part in re.split(r"(\d+)", text) if part
    ]
