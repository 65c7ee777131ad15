"""The overlay draws what it is told, on any image, and nothing else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_vision.datatypes import Detections, Tracks, TrackState
from edge_vision.drawing import OverlayOptions, OverlayRenderer
from edge_vision.drawing.palette import DARK, LIGHT, PALETTE, colour_of, text_colour

GREY = np.full((480, 640, 3), 90, np.uint8)


def detections(boxes: list[list[float]], class_id: int = 0) -> Detections:
    count = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(count, 4),
        np.full(count, 0.93, np.float32),
        np.full(count, class_id, np.int64),
        ("bolt", "nut"),
    )


def tracks(
    boxes: list[list[float]], ids: list[int], stamp: int = 0, state: TrackState = TrackState.CONFIRMED
) -> Tracks:
    found = detections(boxes)
    return Tracks(
        boxes=found.boxes,
        scores=found.scores,
        class_ids=found.class_ids,
        ids=np.array(ids, np.int64),
        velocities=np.zeros((len(ids), 2), np.float32),
        ages=np.zeros(len(ids), np.float32),
        states=np.full(len(ids), state, np.uint8),
        labels=found.labels,
        stamp=stamp,
    )


def changed(image: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    return (image != drawn).any(axis=-1)


def test_nothing_to_draw_is_an_own_copy() -> None:
    drawn = OverlayRenderer().draw(GREY, Detections())
    assert (drawn == GREY).all()
    assert not np.shares_memory(drawn, GREY)


def test_box_lies_on_its_pixels() -> None:
    """Continuous box (100, 150, 200, 250): its outline runs through pixels 100..199 and 150..249."""
    drawn = OverlayRenderer().draw(GREY, detections([[100, 150, 200, 250]]))
    colour = np.array(colour_of(0))
    assert (drawn[200, [100, 199]] == colour).all()
    assert (drawn[[150, 249], 150] == colour).all()
    marked = changed(GREY, drawn)
    assert not marked[160:240, 110:190].any()
    assert marked[100:149, 100:200].any(), "the tag stands above the box"
    assert not marked[260:].any()


def test_tag_stays_inside_the_image() -> None:
    drawn = OverlayRenderer().draw(GREY, detections([[600, 2, 639, 40]]))
    rows, columns = np.nonzero(changed(GREY, drawn))
    assert rows.min() <= 3
    assert columns.min() < 596, "the tag has moved left as a whole"


def test_text_parts_can_be_left_out() -> None:
    plain = OverlayRenderer(OverlayOptions(labels=False, ids=False, scores=False))
    drawn = plain.draw(GREY, detections([[100, 150, 200, 250]]))
    assert not changed(GREY, drawn)[:145].any()


def test_status_bar_is_translucent_and_on_top() -> None:
    bright = np.full((480, 640, 3), 200, np.uint8)
    bright[:, 320:] = 100
    drawn = OverlayRenderer().draw(bright, Detections(), lines=("30.0 fps", "openvino CPU"))
    marked = changed(bright, drawn)
    height = int(marked.any(axis=1).sum())
    assert 20 < height < 100
    assert marked[:height].mean() > 0.98  # a few edges of letters have the image's own grey
    assert not marked[height:].any()
    assert drawn[2, 310, 0] == 2 * drawn[2, 330, 0], "the image shows through"


def test_trail_follows_fades_and_ends() -> None:
    renderer = OverlayRenderer(OverlayOptions(trail=1.0, labels=False, ids=False, scores=False))
    for step in range(31):
        x = 100 + 10 * step
        stamp = step * 33_333_333
        drawn = renderer.draw(GREY, tracks([[x - 20, 300, x + 20, 340]], [5], stamp))
    # Behind the box, along y = 320, back to where it was a second ago.
    contrast = np.abs(drawn[316:325, :, :].astype(int) - 90).sum(axis=2).max(axis=0)
    assert contrast[340:360].min() > contrast[120:140].max() > 0
    assert contrast[:95].max() == 0
    # The id is gone: so is its trail; a new object elsewhere draws none of it.
    later = renderer.draw(GREY, tracks([[10, 10, 40, 40]], [6], 31 * 33_333_333))
    assert not changed(GREY, later)[100:].any()
    assert len(renderer._trails) == 2
    renderer.draw(GREY, tracks([], [], 10_000_000_000))
    assert len(renderer._trails) == 0


def test_time_that_runs_backwards_clears_the_trails() -> None:
    renderer = OverlayRenderer(OverlayOptions(labels=False, ids=False, scores=False))
    for step in range(10):
        renderer.draw(GREY, tracks([[50 * step, 300, 50 * step + 40, 340]], [5], 10**12 + step * 10**8))
    drawn = renderer.draw(GREY, tracks([[50, 100, 90, 140]], [5], 0))
    assert not changed(GREY, drawn)[160:].any()


def test_lost_track_shows_only_its_corners() -> None:
    renderer = OverlayRenderer(OverlayOptions(labels=False, ids=False, scores=False))
    lost = renderer.draw(GREY, tracks([[100, 100, 300, 300]], [1], state=TrackState.LOST))
    assert (lost[100, 110] == colour_of(1)).all()
    assert not (lost[100, 200] == colour_of(1)).all()


@pytest.mark.parametrize("size", [(240, 320), (480, 640), (1080, 1920), (30, 30), (1, 1), (2000, 20)])
def test_any_size(size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 90, np.uint8)
    height, width = size
    drawn = OverlayRenderer().draw(image, tracks([[0, 0, width, height]], [1]), lines=("a", "b"))
    assert drawn.shape == image.shape
    assert changed(image, drawn).any()


@pytest.mark.parametrize(
    "image",
    [
        np.full((48, 64), 90, np.uint8),
        np.full((48, 64, 1), 90, np.uint8),
        np.full((48, 64, 4), 90, np.uint8),
        np.full((48, 64), 90 << 8 | 0x8000, np.uint16),
        np.full((48, 64, 3), 0.4, np.float32),
        np.full((48, 64), 90.0, np.float64),
        np.full((48, 64), 90, np.int32),
        np.ones((48, 64), bool),
        np.full((48, 128, 3), 90, np.uint8)[:, ::2],
    ],
    ids=lambda image: f"{image.dtype}{image.shape}",
)
def test_any_image_becomes_8_bit_bgr(image: np.ndarray) -> None:
    before = image.copy()
    drawn = OverlayRenderer().draw(image, detections([[10, 20, 30, 40]]))
    assert drawn.shape == (48, 64, 3)
    assert drawn.dtype == np.uint8
    assert (drawn[0, 0] > 50).all()
    assert (image == before).all()


def test_twelve_bits_in_sixteen_are_not_dark() -> None:
    renderer = OverlayRenderer()
    drawn = renderer.draw(np.full((48, 64), 4095, np.uint16), Detections())
    assert (drawn == 255).all()
    assert (renderer.draw(np.full((48, 64), 15, np.uint16), Detections()) == 0).all(), "the depth does not flicker"


def test_read_only_image_is_fine_and_out_is_used() -> None:
    image = GREY.copy()
    image.flags.writeable = False
    out = np.empty_like(GREY)
    assert OverlayRenderer().draw(image, detections([[10, 20, 30, 40]]), out=out) is out
    own = GREY.copy()
    assert OverlayRenderer().draw(own, detections([[10, 20, 30, 40]]), out=own) is own
    assert changed(GREY, own).any()
    assert (own == out).all()


def test_what_is_no_image_is_refused() -> None:
    renderer = OverlayRenderer()
    for shape in ((4,), (0, 10, 3), (10, 10, 2), (2, 10, 10, 3)):
        with pytest.raises(ValueError, match="cannot draw on an array of shape"):
            renderer.draw(np.zeros(shape, np.uint8), Detections())
    with pytest.raises(ValueError, match="'out'"):
        renderer.draw(GREY, Detections(), out=np.zeros((10, 10, 3), np.uint8))
    with pytest.raises(ValueError, match="expected numbers"):
        renderer.draw(np.full((10, 10), "a"), Detections())
    with pytest.raises(ValueError, match="colour_by"):
        OverlayOptions(colour_by="mood")


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 8), st.just(4)), elements=st.floats(width=32)))
def test_any_box(boxes: np.ndarray) -> None:
    """NaN, infinite, inverted, far outside: never an error, and only boxes over the image leave a mark."""
    image = np.full((60, 80, 3), 90, np.uint8)
    count = len(boxes)
    ones = np.ones(count, np.float32)
    renderer, plain = OverlayRenderer(), OverlayRenderer(OverlayOptions(trail=0.0))
    ids = np.arange(count)
    velocities = np.zeros((count, 2), np.float32)
    for stamp in (0, 10**8):
        with np.errstate(all="ignore"):
            found = Tracks(boxes, ones, ids, ids, velocities, ones, ones.astype(np.uint8), (), stamp)
            renderer.draw(image, found)
            drawn = plain.draw(image, found)
    with np.errstate(all="ignore"):
        seen = (boxes[:, 0] < 80) & (boxes[:, 1] < 60) & (boxes[:, 2] > 0) & (boxes[:, 3] > 0)
        seen &= np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    assert changed(image, drawn).any() == seen.any()


def test_colours_differ_and_carry_legible_text() -> None:
    assert len(set(PALETTE)) == len(PALETTE) == 14
    assert colour_of(3) == colour_of(3 + len(PALETTE))
    assert text_colour((255, 255, 255)) == DARK
    assert text_colour((0, 0, 0)) == LIGHT
    for colour in PALETTE:
        plate = cv2.cvtColor(np.full((1, 1, 3), colour, np.uint8), cv2.COLOR_BGR2GRAY)[0, 0]
        assert abs(int(plate) - text_colour(colour)[0]) > 70
