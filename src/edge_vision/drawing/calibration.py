"""The picture of a calibration on its way: what is covered, what was found, where to hold the board next."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import CalibrationStatus
from edge_vision.drawing.image import to_bgr8
from edge_vision.drawing.overlay import FONT, Style, image_style, text_size
from edge_vision.drawing.palette import DARK, LIGHT, PALETTE, Colour

_SEEN, _KEPT, _NEXT = PALETTE[0], PALETTE[2], PALETTE[4]  # sky blue, bluish green, yellow
_VERDICTS: dict[str, Colour] = {"not yet": PALETTE[1], "usable": PALETTE[0], "good": PALETTE[2]}
_TINT = 0.22
"""of the green over what is covered: seen on grey and on white, and the board stays visible below it"""


def draw_preview(image: NDArray, status: CalibrationStatus, width: int = 960) -> NDArray[np.uint8]:
    """A new (h, w, 3) uint8 BGR image, at most ``width`` px wide: the frame, and on it how far its calibration is.

    Green: the cells of the coverage in which corners were seen; circles: the corners found in this frame, green where
    it was kept; yellow: the edge of the board in the view to add next. Above: verdict, views, uncertainty, what became
    of the frame; below: the next view in words, or what happened. image: as `to_bgr8` takes it; ValueError for what is
    no image. Of an image of another size than the status' samples only the words are drawn.
    """
    canvas = _scaled(image, width)
    height, wide = canvas.shape[:2]
    style = image_style(wide, height, 1.0)
    if status.width and (image.shape[1], image.shape[0]) == (status.width, status.height):
        _cells(canvas, status.cells)
        scale = wide / status.width
        _corners(canvas, status, scale, style)
        if status.state == "collecting":
            _outline(canvas, status.next_outline, scale, style)
    _bar(canvas, [_heading(status)], style, _VERDICTS.get(status.verdict, PALETTE[1]), top=True)
    _bar(canvas, _wrapped(_words(status), wide, style), style, _NEXT, top=False)
    return canvas


def _scaled(image: NDArray, width: int) -> NDArray[np.uint8]:
    """Smaller, where it is wider, before anything else is done to it. Its pixels are not touched."""
    image = np.asarray(image)
    if image.ndim in (2, 3) and image.shape[1] > width and image.dtype in (np.uint8, np.uint16):
        size = (width, max(1, round(image.shape[0] * width / image.shape[1])))
        # Areas by a fraction take seven times as long, and below 2 nobody sees the difference.
        whole = image.shape[1] >= 2 * width
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if whole else cv2.INTER_LINEAR)
    return to_bgr8(image)[0]


def _cells(canvas: NDArray[np.uint8], cells: NDArray[np.bool_]) -> None:
    height, width = canvas.shape[:2]
    rows, columns = cells.shape
    down = np.linspace(0, height, rows + 1).astype(int)
    across = np.linspace(0, width, columns + 1).astype(int)
    tinted = canvas.copy()
    for row, column in np.argwhere(cells):
        tinted[down[row] : down[row + 1], across[column] : across[column + 1]] = _KEPT
    cv2.addWeighted(canvas, 1 - _TINT, tinted, _TINT, 0, dst=canvas)


def _corners(canvas: NDArray[np.uint8], status: CalibrationStatus, scale: float, style: Style) -> None:
    colour = _KEPT if status.looked == "kept" else _SEEN
    radius = 2 * style.line
    for x, y in np.rint(((status.corners + 0.5) * scale - 0.5) * 16).astype(int).tolist():
        cv2.circle(canvas, (x, y), radius << 4, DARK, style.line + 1, cv2.LINE_AA, 4)
        cv2.circle(canvas, (x, y), radius << 4, colour, style.line, cv2.LINE_AA, 4)


def _outline(canvas: NDArray[np.uint8], outline: NDArray, scale: float, style: Style) -> None:
    if len(outline) < 3 or not np.isfinite(outline).all():
        return
    # A board that overhangs the image far: OpenCV's fixed point has room for 16 bits.
    points = np.clip(((outline + 0.5) * scale - 0.5) * 16, -500_000, 500_000)
    line = np.rint(points).astype(np.int32)
    cv2.polylines(canvas, [line], True, DARK, 2 * style.line + 2, cv2.LINE_AA, 4)
    cv2.polylines(canvas, [line], True, _NEXT, 2 * style.line - 1, cv2.LINE_AA, 4)


def _heading(status: CalibrationStatus) -> str:
    parts = [status.state if status.state != "collecting" else status.looked or "collecting"]
    parts += [f"{status.views} views", status.verdict.upper()]
    if np.isfinite(status.uncertainty_corners):
        parts.append(f"corners +-{status.uncertainty_corners:.2g} px")
    return "  |  ".join(parts)


def _words(status: CalibrationStatus) -> str:
    seen = status.looked in ("", "kept", "adds too little", "no board")
    if status.state == "collecting" and status.next_view and seen:
        return f"next: {status.next_view}"
    return status.message


def _wrapped(text: str, width: int, style: Style, most: int = 3) -> list[str]:
    """Lines that fit; OpenCV's letters are ASCII."""
    text = text.replace("°", " degrees").encode("ascii", "replace").decode()
    lines: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and text_size(longer, style.font, style.stroke)[0] > width - 6 * style.pad:
            lines.append(line)
            longer = word
        line = longer
    lines.append(line)
    if len(lines) > most:
        lines = [*lines[: most - 1], f"{lines[most - 1][:-4]} ..."]
    return lines


def _bar(canvas: NDArray[np.uint8], lines: list[str], style: Style, colour: Colour, *, top: bool) -> None:
    _, high, deep = text_size("Ag0", style.font, style.stroke)
    step = high + deep + style.pad
    height = min(len(lines) * step + style.pad, canvas.shape[0])
    bar = canvas[:height] if top else canvas[canvas.shape[0] - height :]
    cv2.convertScaleAbs(bar, dst=bar, alpha=0.3)
    bar[:, : 2 * style.pad] = colour
    for row, line in enumerate(lines):
        origin = (4 * style.pad, style.pad + row * step + high)
        cv2.putText(bar, line, origin, FONT, style.font, LIGHT, style.stroke, cv2.LINE_AA)
