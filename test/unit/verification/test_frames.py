"""Which frames are taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_vision.sources import SourceError
from edge_vision.verification.frames import TWIN, take_frames, usual_source


def values(folder: Path, count: int) -> list[int]:
    return [int(image[0, 0, 0]) for image in take_frames(str(folder), count).images]


def test_frames_are_spread_from_the_first_to_the_last(pictures: Path) -> None:
    assert values(pictures, 4) == [0, 40, 70, 110]  # of 0 .. 11: 0, 3.67, 7.33, 11
    assert values(pictures, 1) == [0]
    assert values(pictures, 12) == values(pictures, 100) == [10 * index for index in range(12)]


def test_a_scene_has_its_truth_and_frames_half_a_second_apart() -> None:
    frames = take_frames("sim://conveyor?seed=3&width=160&height=120", 3)
    assert frames.truth is not None
    assert [round(truth.stamp / 1e9, 1) for truth in frames.truth] == [0.0, 0.5, 1.0]
    assert len(frames.images) == 3
    assert frames.images[0].shape == (120, 160, 3)


def test_what_cannot_be_read_is_told(tmp_path: Path, pictures: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        take_frames(str(tmp_path / "belt.mp4"))
    with pytest.raises(ValueError, match="give at least 1"):
        take_frames(str(pictures), 0)


def test_only_the_twin_s_own_classes_have_a_usual_source() -> None:
    labels = ("hex_nut", "bolt", "washer", "gear", "bracket", "spring", "defective_nut")
    assert usual_source(labels) == TWIN
    assert usual_source(labels[:3]) is None
    assert usual_source(()) is None
