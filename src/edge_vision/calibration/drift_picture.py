"""A check as a picture: where features or corners are off, as arrows over the image, with verdict and scale."""

from __future__ import annotations

import textwrap
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.drift import Check

_COLOURS = {"valid": (80, 170, 60), "unknown": (150, 150, 150), "doubtful": (0, 165, 255), "drifted": (50, 50, 220)}
"""BGR of each verdict."""
_SEEN, _OTHER, _LENS = (0, 220, 255), (140, 140, 140), (255, 120, 40)
_LONG = 0.05  # of the width: the length of a long arrow
_SCALES = (1, 2, 5, 10, 20, 50, 100, 200, 500)


def draw_check(image: NDArray[Any], check: Check, width: int = 1280) -> NDArray[np.uint8]:
    """(h, w, 3) BGR: a grey or BGR image, darkened, at ``width`` px, and below it what the arrows mean and the verdict.

    Arrows begin where the stored calibration (or the reference) has a point and lead to where it was seen, many times
    too long; thin grey ones were not judged by. Blue ones: the shift that the intrinsics explain.
    """
    grey = image if image.ndim == 2 else cv2.cvtColor(np.ascontiguousarray(image[..., :3]), cv2.COLOR_BGR2GRAY)
    zoom = width / grey.shape[1]
    small = cv2.resize(grey, (width, round(grey.shape[0] * zoom)), interpolation=cv2.INTER_AREA)
    canvas = cv2.cvtColor((small * 0.45).astype(np.uint8), cv2.COLOR_GRAY2BGR)
    scale = _scale(check, grey.shape[1])
    seen = np.isfinite(check.residuals).all(axis=1)
    for judged in (False, True):
        rows = np.flatnonzero(seen & (check.trusted == judged))
        # A board's corner is told at where it was seen, a feature at where the reference has it: as good as one place.
        for point, vector in zip(check.pixels[rows], check.residuals[rows], strict=True):
            _arrow(canvas, point, vector * scale, zoom, _SEEN if judged else _OTHER, 2 if judged else 1)
    if check.shift is not None:
        known = check.shift.known
        for point, vector in zip(check.shift.pixels[known], check.shift.vectors[known], strict=True):
            _arrow(canvas, point, vector * scale, zoom, _LENS, 2)
    return np.vstack([canvas, _legend(check, scale, width, zoom)]).astype(np.uint8)


def _scale(check: Check, width: int) -> int:
    """How many times too long arrows are drawn, so that most end near."""
    lengths = [np.hypot(*check.residuals[check.trusted].T)]
    if check.shift is not None:
        lengths.append(np.hypot(*check.shift.vectors[check.shift.known].T))
    longest = max((float(np.percentile(d, 90)) for each in lengths if len(d := each[np.isfinite(each)])), default=0.0)
    if longest <= 0:
        return 1
    wanted = _LONG * width / longest
    return max((each for each in _SCALES if each <= wanted), default=1)


def _arrow(canvas: Any, point: Any, vector: Any, zoom: float, colour: tuple[int, int, int], thick: int) -> None:
    reach = canvas.shape[0] + canvas.shape[1]
    vector = np.clip(vector * zoom, -reach, reach)
    start = (point + 0.5) * zoom
    tip = tuple(round(float(v)) for v in start + vector)
    begin = tuple(round(float(v)) for v in start)
    cv2.circle(canvas, begin, thick, colour, -1, cv2.LINE_AA)
    if np.hypot(*vector) > 1.5:
        length = float(np.hypot(*vector))
        cv2.arrowedLine(canvas, begin, tip, colour, thick, cv2.LINE_AA, tipLength=min(0.3, 8 / length))


def _legend(check: Check, scale: int, width: int, zoom: float) -> NDArray[np.uint8]:
    size, line = 0.5 * max(1.0, width / 1280), round(22 * max(1.0, width / 1280))
    words = textwrap.wrap(_plain(check.text), int(width / (line * 0.43)))
    legend = np.full((line * (len(words) + 2), width, 3), 30, np.uint8)
    legend[: line // 4] = _COLOURS[check.verdict]
    for row, text in enumerate(words):
        place = (line // 2, line * (row + 1) + line // 4)
        cv2.putText(legend, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, (240, 240, 240), 1, cv2.LINE_AA)
    y = line * (len(words) + 1) + line // 4
    unit = next((each for each in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if each * scale * zoom >= 30), 100)
    bar = round(unit * scale * zoom)
    cv2.line(legend, (line // 2, y - 5), (line // 2 + bar, y - 5), (240, 240, 240), 2)
    x = line + bar
    for text, colour in (
        (f"= {unit:g} px", (240, 240, 240)),
        ("seen, judged by", _SEEN),
        ("seen, not judged by", _OTHER),
        ("what a change of the lens explains", _LENS),
    ):
        cv2.putText(legend, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)
        x += cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)[0][0] + line
    return legend


def _plain(text: str) -> str:
    """In the letters that OpenCV's fonts have."""
    return text.replace("±", "+-").encode("ascii", "replace").decode()
