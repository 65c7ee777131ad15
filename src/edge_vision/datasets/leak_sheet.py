"""The near-duplicates of a leak check as one picture: a pair a row, what each is and how alike they are."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.datasets.description import Dataset, Sample
from edge_vision.datasets.leaks import NearDuplicate

_WIDTH, _HEIGHT, _GAP, _TEXT = 320, 240, 12, 42
_INK, _FAINT, _PAPER = (44, 38, 32), (118, 107, 95), (255, 255, 255)


def choose(pairs: Sequence[NearDuplicate], dataset: Dataset, most: int) -> list[NearDuplicate]:
    """At most so many pairs, the most alike first, but of different clips as long as there are any."""
    chosen: list[NearDuplicate] = []
    seen: dict[tuple[str, str], int] = {}
    ranked = []
    for order, pair in enumerate(pairs):
        clips = (dataset.samples[pair.first].sequence, dataset.samples[pair.second].sequence)
        seen[clips] = seen.get(clips, 0) + 1
        ranked.append((seen[clips], order, pair))
    for _, _, pair in sorted(ranked, key=lambda one: one[:2]):
        if len(chosen) == most:
            break
        chosen.append(pair)
    return chosen


def draw_sheet(dataset: Dataset, pairs: Sequence[NearDuplicate], most: int = 12) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 BGR: two pairs abreast, each image with its split and file name."""
    chosen = choose(pairs, dataset, most)
    columns = 2 if len(chosen) > 1 else 1
    rows = -(-len(chosen) // columns)
    cell_w, cell_h = 2 * _WIDTH + 2 * _GAP + 16, _HEIGHT + _TEXT + 26
    sheet = np.full((rows * cell_h + _GAP, columns * cell_w + _GAP, 3), 255, np.uint8)
    for place, pair in enumerate(chosen):
        top, left = _GAP + place // columns * cell_h, _GAP + place % columns * cell_w
        words = f"correlation {pair.correlation:.3f}, {pair.bits} of 64 bits apart, differs by {pair.difference:.0f} DN"
        _write(sheet, words, left, top + 12, _INK)
        for side, index in enumerate((pair.first, pair.second)):
            sample = dataset.samples[index]
            x, y = left + side * (_WIDTH + _GAP // 2), top + 20
            picture = _fit(sample.load())
            sheet[y : y + _HEIGHT, x : x + _WIDTH] = picture
            _write(sheet, sample.split or "-", x, y + _HEIGHT + 14, _INK)
            _write(sheet, _short(sample), x, y + _HEIGHT + 30, _FAINT)
    return sheet


def _fit(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    scale = min(_WIDTH / image.shape[1], _HEIGHT / image.shape[0])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    out = np.full((_HEIGHT, _WIDTH, 3), 238, np.uint8)
    top, left = (_HEIGHT - size[1]) // 2, (_WIDTH - size[0]) // 2
    out[top : top + size[1], left : left + size[0]] = small
    return out


def _short(sample: Sample) -> str:
    name = f"{sample.image.parent.name}/{sample.image.name}".encode("ascii", "replace").decode()
    return name if len(name) <= 42 else "..." + name[-39:]


def _write(sheet: NDArray[np.uint8], text: str, x: int, y: int, colour: tuple[int, int, int]) -> None:
    cv2.putText(sheet, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)
