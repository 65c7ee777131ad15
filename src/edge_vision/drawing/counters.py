"""Lines and zones with their counts, on an image."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Counts, Region
from edge_vision.drawing.overlay import FONT, Style, image_style, text_size
from edge_vision.drawing.palette import DARK, LIGHT, Colour

_LINE: Colour = (0x42, 0xE4, 0xF0)  # yellow, and for zones sky blue, of the same palette as the objects
_ZONE: Colour = (0xE9, 0xB4, 0x56)
_MOST_CLASSES = 4  # a plate with more rows would hide the scene; the rest are summed up


def draw_counts(image: NDArray[np.uint8], counts: Counts, *, scale: float = 1.0) -> None:
    """Draws every region and a plate with its counts into (H, W, 3) uint8 BGR `image`; coordinates are its pixels.

    An arrow on a line points to its `in` side. Regions wholly outside of the image are clipped away.
    """
    height, width = image.shape[:2]
    style = image_style(width, height, scale)
    for region in counts.regions:
        colour = _LINE if region.kind == "line" else _ZONE
        points = np.clip(np.array(region.points, np.float64), -8 * width, 8 * width).round().astype(np.int32)
        outline = [points.reshape(-1, 1, 2)]
        for shade, thickness in ((DARK, style.line + 2), (colour, style.line)):
            cv2.polylines(image, outline, region.kind == "zone", shade, thickness, cv2.LINE_AA)
            if region.kind == "line":
                _arrow(image, region, shade, thickness, 8 * style.line)
    for row, region in enumerate(counts.regions):  # after all outlines, so that none runs through a text
        _plate(image, region, rows_of(counts, row), style)


def rows_of(counts: Counts, row: int) -> list[str]:
    """What a region's plate says: its totals, then class by class where there is more than one."""
    zone = counts.regions[row].kind == "zone"

    def said(name: str, columns: NDArray | slice) -> str:
        ins, outs, present = (int(t[row, columns].sum()) for t in (counts.ins, counts.outs, counts.present))
        return f"{name}: {present} now, {ins} in, {outs} out" if zone else f"{name}: {ins} in, {outs} out"

    met = np.flatnonzero(counts.ins[row] + counts.outs[row])
    lines = [said(counts.regions[row].name, slice(None))]
    if len(met) < 2:
        return lines
    order = met[np.argsort(-(counts.ins[row] + counts.outs[row])[met], kind="stable")]
    for column in order[:_MOST_CLASSES].tolist():
        class_id = int(counts.class_ids[column])
        known = 0 <= class_id < len(counts.labels) and counts.labels[class_id]
        lines.append(said(f"  {known or class_id}", np.array([column])))
    if len(order) > _MOST_CLASSES:
        lines.append(said("  others", order[_MOST_CLASSES:]))
    return lines


def _arrow(image: NDArray, region: Region, colour: Colour, thickness: int, length: float) -> None:
    """From the middle of a line to its right-hand side, which with y downwards is (-dy, dx)."""
    start, end = np.array(region.points[0]), np.array(region.points[1])
    middle, along = (start + end) / 2, end - start
    right = np.array([-along[1], along[0]]) / max(float(np.hypot(*along)), 1e-9)
    tip = middle + right * length
    if np.abs((*middle, *tip)).max() < 1e6:
        ends = [tuple(int(v) for v in p.round()) for p in (middle, tip)]
        cv2.arrowedLine(image, ends[0], ends[1], colour, thickness, cv2.LINE_AA, tipLength=0.45)


def _plate(image: NDArray, region: Region, lines: list[str], style: Style) -> None:
    """Dark, with light text: beside the end of a line that is nearer the top, in a zone's upper left corner."""
    height, width = image.shape[:2]
    sizes = [text_size(line, style.font, style.stroke) for line in lines]
    row = max(high + deep for _, high, deep in sizes) + style.pad
    wide, tall = max(w for w, _, _ in sizes) + 2 * style.pad, len(lines) * row + style.pad
    points = np.array(region.points)
    if region.kind == "line":
        x, y = points[points[:, 1].argmin()]
        gap = 2.0 * style.line
    else:
        x, y = points.min(0)
        gap = style.line
    left = int(np.clip(x + gap, 0, max(0, width - wide)))
    top = int(np.clip(y + gap, 0, max(0, height - tall)))
    area = image[top : top + tall, left : left + wide]
    if not area.size:
        return
    cv2.convertScaleAbs(area, dst=area, alpha=0.3)
    for i, (line, (_, high, _)) in enumerate(zip(lines, sizes, strict=True)):
        origin = (left + style.pad, top + style.pad + i * row + high)
        cv2.putText(image, line, origin, FONT, style.font, LIGHT, style.stroke, cv2.LINE_AA)
