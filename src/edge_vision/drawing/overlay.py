"""Boxes, labels, ids, trails and status lines on an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Detections, Tracks, TrackState
from edge_vision.drawing.image import to_bgr8
from edge_vision.drawing.palette import DARK, LIGHT, Colour, colour_of, text_colour
from edge_vision.drawing.trails import Trails

FONT = cv2.FONT_HERSHEY_SIMPLEX
COLOUR_BY = ("auto", "class", "id")


@dataclass(frozen=True, slots=True)
class OverlayOptions:
    """What is drawn.

    labels, ids, scores: parts of a tag; trail: seconds of header time that a track's path stays visible (0: none);
    colour_by: "class", "id", or "auto" (tracks by id, detections by class);
    scale: multiplies the sizes of lines and letters, which follow the image's size by themselves.
    """

    labels: bool = True
    ids: bool = True
    scores: bool = True
    trail: float = 1.5
    colour_by: str = "auto"
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.colour_by not in COLOUR_BY:
            raise ValueError(
                f"overlay option 'colour_by' must be one of {', '.join(COLOUR_BY)}, got {self.colour_by!r}"
            )
        if not self.trail >= 0:
            raise ValueError(f"overlay option 'trail' must be zero or more seconds, got {self.trail}")
        if not 0 < self.scale < math.inf:
            raise ValueError(f"overlay option 'scale' must be more than zero, got {self.scale}")


@dataclass(frozen=True, slots=True)
class Style:
    """Sizes in px for one image size."""

    line: int
    seam: int  # width of the dark line under it, 0: none
    font: float
    stroke: int
    pad: int


@lru_cache(maxsize=16)
def image_style(width: int, height: int, scale: float) -> Style:
    # Letters grow slower than the image: at 320x240 they must stay legible, at 1080p they need not be poster-sized.
    unit = math.sqrt(width * height / (640 * 480))
    line = max(2, round(2 * unit**0.8 * scale))
    font = 0.48 * max(unit, 0.7) ** 0.8 * scale
    return Style(
        line=line,
        seam=line + 2 if unit > 0.8 else 0,  # on small images a seam would cover more than it separates
        font=font,
        stroke=max(1, round(1.3 * font)),
        pad=max(2, round(5 * font)),
    )


@lru_cache(maxsize=512)
def text_size(text: str, font: float, stroke: int) -> tuple[int, int, int]:
    """Width, height above the baseline, depth below it, in px."""
    (width, height), depth = cv2.getTextSize(text, FONT, font, stroke)
    return width, height, depth


class OverlayRenderer:
    """Draws the results of one camera. Keeps the trails of tracks from call to call."""

    def __init__(self, options: OverlayOptions | None = None) -> None:
        self.options = options or OverlayOptions()
        self._trails = Trails(self.options.trail)
        self._bits = 8

    def reset(self) -> None:
        """Forget the trails."""
        self._trails.clear()

    def draw(
        self,
        image: NDArray,
        objects: Detections | Tracks,
        *,
        lines: Sequence[str] = (),
        out: NDArray | None = None,
    ) -> NDArray[np.uint8]:
        """The image with ``objects`` drawn on it and ``lines`` of text in a translucent bar at the top.

        image: (H, W, 3) uint8 BGR; also (H, W), (H, W, 1), (H, W, 4) and other number types, as `to_bgr8` shows them.
        out: (H, W, 3) uint8 array to draw into, ``image`` itself to draw in place; left out, a new one. Returns it.
        Boxes may lie partly or wholly outside of the image; boxes that are not finite are passed over. ValueError for
        what is no image.
        """
        canvas, self._bits = to_bgr8(image, out, self._bits)
        height, width = canvas.shape[:2]
        style = image_style(width, height, self.options.scale)
        tracks = objects if isinstance(objects, Tracks) else None
        boxes = self._visible(objects.boxes, width, height)
        colours = self._colours(objects)
        if tracks is not None and self.options.trail > 0:
            centres = (objects.boxes[:, :2] + objects.boxes[:, 2:]) * 0.5
            self._trails.add(tracks.stamp, tracks.ids, centres)
            self._trails.draw(canvas, tracks.ids, colours, style.line)
        top = self._bar_height(lines, style)
        for index, box in boxes:
            self._box(
                canvas, box, colours[index], style, tracks is not None and tracks.states[index] == TrackState.LOST
            )
        # All tags come after all boxes, so that no line runs through a text.
        for index, box in boxes:
            text = self._tag_text(objects, tracks, index)
            if text:
                self._tag(canvas, box, text, colours[index], style, top)
        if lines:
            self._bar(canvas, lines, style, top)
        return canvas

    @staticmethod
    def _visible(boxes: NDArray, width: int, height: int) -> list[tuple[int, tuple[int, int, int, int]]]:
        """Index and integer corners of the boxes that touch the image, the far ones clipped to its surroundings."""
        if not len(boxes):
            return []
        with np.errstate(invalid="ignore"):
            shown = (boxes[:, 2] > 0) & (boxes[:, 3] > 0) & (boxes[:, 0] < width) & (boxes[:, 1] < height)
            shown &= np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        rows = np.flatnonzero(shown)
        # A box covers pixels floor(x1) .. ceil(x2) - 1; 16 px outside keeps the hidden edges hidden.
        corners = boxes[rows].astype(np.float64)
        corners[:, :2] = np.floor(np.maximum(corners[:, :2], -16.0))
        corners[:, 2:] = np.ceil(np.minimum(corners[:, 2:], (width + 16.0, height + 16.0))) - 1.0
        return list(zip(rows.tolist(), map(tuple, corners.astype(np.int64).tolist()), strict=True))  # type: ignore[arg-type]

    def _colours(self, objects: Detections | Tracks) -> list[Colour]:
        by_id = isinstance(objects, Tracks) and self.options.colour_by != "class"
        numbers = objects.ids if by_id else objects.class_ids  # type: ignore[union-attr]
        return [colour_of(number) for number in numbers.tolist()]

    def _tag_text(self, objects: Detections | Tracks, tracks: Tracks | None, index: int) -> str:
        options = self.options
        parts = []
        if options.labels:
            class_id = int(objects.class_ids[index])
            parts.append(objects.labels[class_id] if 0 <= class_id < len(objects.labels) else str(class_id))
        if options.ids and tracks is not None:
            parts.append(str(tracks.ids[index]))
        if options.scores:
            parts.append(f"{objects.scores[index]:.2f}")
        return " ".join(parts)

    @staticmethod
    def _box(canvas: NDArray, box: tuple[int, int, int, int], colour: Colour, style: Style, lost: bool) -> None:
        x1, y1, x2, y2 = box
        if not lost:
            if style.seam:  # keeps the line visible on a background of its own colour
                cv2.rectangle(canvas, (x1, y1), (x2, y2), DARK, style.seam)
            cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, style.line)
            return
        # Only the corners: the box is a guess.
        corner = max(4 * style.line, min(x2 - x1, y2 - y1) // 4)
        for x, across in ((x1, corner), (x2, -corner)):
            for y, down in ((y1, corner), (y2, -corner)):
                elbow = np.array([(x + across, y), (x, y), (x, y + down)], np.int32)
                if style.seam:
                    cv2.polylines(canvas, [elbow], False, DARK, style.seam)
                cv2.polylines(canvas, [elbow], False, colour, style.line)

    @staticmethod
    def _tag(
        canvas: NDArray, box: tuple[int, int, int, int], text: str, colour: Colour, style: Style, top: int
    ) -> None:
        """The text on a plate of the object's colour: above the box, or inside where there is no room above."""
        height, width = canvas.shape[:2]
        wide, high, deep = text_size(text, style.font, style.stroke)
        plate_width, plate_height = wide + 2 * style.pad, high + deep + style.pad
        left = max(0, min(box[0] - style.line // 2, width - plate_width))
        above = box[1] - plate_height - style.line // 2
        upper = above if above >= top else max(top, min(box[1], height - plate_height))
        cv2.rectangle(canvas, (left, upper), (left + plate_width - 1, upper + plate_height - 1), colour, cv2.FILLED)
        origin = (left + style.pad, upper + style.pad // 2 + high)
        cv2.putText(canvas, text, origin, FONT, style.font, text_colour(colour), style.stroke, cv2.LINE_AA)

    @staticmethod
    def _bar_height(lines: Sequence[str], style: Style) -> int:
        if not lines:
            return 0
        _, high, deep = text_size("Ag0", style.font, style.stroke)
        return len(lines) * (high + deep + style.pad) + style.pad

    @staticmethod
    def _bar(canvas: NDArray, lines: Sequence[str], style: Style, bar_height: int) -> None:
        bar = canvas[:bar_height]
        cv2.convertScaleAbs(bar, dst=bar, alpha=0.4)
        _, high, deep = text_size("Ag0", style.font, style.stroke)
        for row, line in enumerate(lines):
            baseline = style.pad + row * (high + deep + style.pad) + high
            cv2.putText(canvas, line, (2 * style.pad, baseline), FONT, style.font, LIGHT, style.stroke, cv2.LINE_AA)
