"""Measures pictures one after another and keeps the worst of them to look at."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import NS_PER_S, Frame
from edge_vision.quality.errors import QualityError
from edge_vision.quality.full_reference import WINDOW, FullReference, compare, ssim_map
from edge_vision.quality.no_reference import QualityAnalyser, QualityParameters
from edge_vision.quality.pair import luma
from edge_vision.quality.series import Entry, Picture
from edge_vision.quality.series_report import place, reason

_SIDE = 480  # pixels of a kept picture's longer side
_REFERENCE = "furthest from the reference"


class Watcher:
    """Pictures of one camera in, an `Entry` for each out.

    bits: that values of 16-bit pictures have in truth. keep_pictures: hold on to the worst picture of each cause,
    and to the one furthest from the reference. timed: stamps tell seconds (they do not for files of images).
    """

    def __init__(self, *, bits: int | None = None, keep_pictures: bool = False, timed: bool = True) -> None:
        self._analyser = QualityAnalyser(QualityParameters(bits=bits))
        self._bits = bits
        self._keep = keep_pictures
        self._timed = timed
        self._first: int | None = None
        self._worst: dict[str, tuple[float, list[Picture]]] = {}

    def add(self, index: int, name: str, frame: Frame, reference: NDArray | None = None) -> Entry:
        """Measure a frame, and compare its luma with that of a reference where there is one."""
        if self._first is None:
            self._first = frame.stamp
        seconds = (frame.stamp - self._first) / NS_PER_S if self._timed else math.nan
        report = compared = None
        problem = ""
        try:
            report = self._analyser.analyse(frame)
            if reference is not None:
                compared = self._compare(frame.image, reference)
        except QualityError as error:
            problem = str(error)
        entry = Entry(index, name, seconds, report, compared, problem)
        if self._keep:
            self._remember(entry, frame.image, reference)
        return entry

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """The kept ones: against the reference first, then by severity."""
        last = sorted((cause for cause in self._worst if cause != _REFERENCE), key=lambda cause: -self._worst[cause][0])
        order = [cause for cause in (_REFERENCE, *last) if cause in self._worst]
        return tuple(picture for cause in order for picture in self._worst[cause][1])

    def _compare(self, image: NDArray, reference: NDArray) -> FullReference:
        # Grey against colour is compared by luma: a grey camera's video comes back from its decoder in colour.
        bits = self._bits if image.dtype == np.uint16 else None
        return compare(luma(image), luma(reference), bits=bits)

    def _remember(self, entry: Entry, image: NDArray, reference: NDArray | None) -> None:
        for verdict in entry.blamed:
            if verdict.severity > self._worst.get(verdict.cause, (0.0,))[0]:
                caption = f"{verdict.cause}: {place(entry)}, {reason(verdict)}"
                self._worst[verdict.cause] = verdict.severity, [Picture(caption, _jpeg(image))]
        if entry.compared is None or reference is None:
            return
        distance = 1 - entry.compared.ssim
        if distance > self._worst.get(_REFERENCE, (-1.0,))[0]:
            pictures = [
                Picture(f"{_REFERENCE}: {place(entry)}, SSIM {entry.compared.ssim:.4f}", _jpeg(image)),
                Picture("its reference", _jpeg(reference)),
            ]
            if min(image.shape[:2]) >= WINDOW:
                similarity = ssim_map(luma(image), luma(reference))
                pictures.append(Picture("SSIM of each place: black 0, white 1", _jpeg(similarity.clip(0, 1) * 255)))
            self._worst[_REFERENCE] = distance, pictures


def _jpeg(image: NDArray) -> bytes:
    if image.dtype == np.uint16:
        image = image / max(float(image.max()) / 255, 1.0)
    image = image.astype(np.uint8, copy=False)
    scale = _SIDE / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, 88))
    assert done
    return data.tobytes()
