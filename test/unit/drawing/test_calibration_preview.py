"""The preview shows what is covered, found and asked for where it is, and never fails on an image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_vision.datatypes import CalibrationStatus
from edge_vision.drawing.calibration import _wrapped, draw_preview
from edge_vision.drawing.overlay import image_style
from edge_vision.drawing.palette import PALETTE

KEPT, NEXT = PALETTE[2], PALETTE[4]
NEXT_VIEW = "near (0.36 m), top right, tilted 45 degrees about the horizontal, bottom side towards the camera"


def status(width: int = 640, height: int = 480, **changes) -> CalibrationStatus:
    cells = np.zeros((10, 10), bool)
    cells[5, 2] = True
    outline = np.array([[0.3, 0.3], [0.8, 0.3], [0.8, 0.7], [0.3, 0.7]]) * [width, height]
    found = CalibrationStatus(
        state="collecting",
        seen=True,
        looked="kept",
        corners=np.array([[0.5 * width, 0.5 * height]], np.float32),
        views=7,
        width=width,
        height=height,
        cells=cells,
        uncertainty_corners=0.23,
        next_view=NEXT_VIEW,
        next_outline=outline.astype(np.float32),
        message="view 7 kept",
    )
    return replace(found, **changes)


def is_near(pixel, colour, tolerance: int = 30) -> bool:
    return bool(np.abs(pixel.astype(int) - colour).max() <= tolerance)


@pytest.mark.parametrize("size", [(640, 480), (1920, 1080), (320, 240)])
def test_all_is_where_it_is(size):
    width, height = size
    image = np.full((height, width, 3), 128, np.uint8)
    shown = draw_preview(image, status(width, height))
    assert shown.shape[1] == min(width, 960)
    scale = shown.shape[1] / width
    assert (image == 128).all()

    def at(x: float, y: float):
        return shown[round(y * height * scale), round(x * width * scale)]

    assert is_near(at(0.8, 0.5), NEXT)
    assert (at(0.25, 0.55) != 128).any()  # the covered cell
    assert (at(0.15, 0.55) == 128).all()  # the one beside it
    ring = shown[round(0.45 * height * scale) : round(0.55 * height * scale), round(0.5 * width * scale)]
    assert any(is_near(pixel, KEPT) for pixel in ring)
    assert (shown[:5].max(axis=(1, 2)) < 128).all() or (shown[:5, 30:].min() < 60)


def test_of_another_size_only_words_are_drawn():
    shown = draw_preview(np.full((480, 640), 128, np.uint8), status(1280, 720))
    middle = shown[60:400]
    assert (middle == 128).all()
    assert (shown[:20] != 128).any()
    assert (shown[-20:] != 128).any()


def test_the_outline_is_shown_while_views_are_collected():
    image = np.full((480, 640, 3), 128, np.uint8)
    asked, done = (draw_preview(image, status(state=state)) for state in ("collecting", "done"))
    assert is_near(asked[240, 512], NEXT)
    assert (done[240, 512] == 128).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_any_image_is_shown(dtype):
    assert draw_preview(np.ones((30, 40), dtype), CalibrationStatus()).shape == (30, 40, 3)
    with pytest.raises(ValueError, match="cannot draw"):
        draw_preview(np.zeros((0, 4), np.uint8), CalibrationStatus())


def test_outlines_that_cannot_be_drawn_are_passed_over():
    image = np.full((480, 640, 3), 128, np.uint8)
    for outline in (np.full((4, 2), np.nan), np.full((4, 2), 1e9), np.zeros((1, 2))):
        assert draw_preview(image, status(next_outline=outline.astype(np.float32))).shape == image.shape


def test_words_fit_and_are_letters_that_opencv_has():
    style = image_style(640, 480, 1.0)
    lines = _wrapped("größe 45° " * 40, 640, style)
    assert len(lines) == 3
    assert lines[-1].endswith("...")
    assert all(line.isascii() for line in lines)
    assert len(_wrapped(NEXT_VIEW, 320, image_style(320, 240, 1.0))) <= 3
