"""Enhancing gives the detector back what bad light took, and takes nothing where light was good."""

from __future__ import annotations

import cv2
import pytest

pytest.importorskip("pycocotools", reason="detection scores need pycocotools")
pytest.importorskip("onnxruntime", reason="the study runs on onnxruntime")

from edge_vision.benchmarks.enhance import CONDITIONS, detection_gains, picture, stage_times
from edge_vision.cli import main


def test_detections_rise_by_ten_points_or_are_as_good_as_they_were() -> None:
    named = {condition.name: condition for condition in CONDITIONS}
    chosen = ("normal", "exposure 1/10", "exposure 2x", "light 3x", "contrast 0.15")
    gains = {gain.condition: gain for gain in detection_gains(tuple(named[name] for name in chosen), frames=8)}
    for name in ("exposure 1/10", "light 3x", "contrast 0.15"):
        assert gains[name].after >= gains[name].before + 0.10, gains[name]
        assert gains[name].applied[0] == "stretch"
    for name in ("normal", "exposure 2x"):
        assert gains[name].after == gains[name].before, gains[name]
        assert gains[name].applied == ()


def test_every_stage_has_a_time() -> None:
    times = stage_times(160, 120, rounds=1)
    assert {"wiener", "guided", "undistort", "nothing to do"} <= set(times)
    assert all(0 < value < 60_000 for value in times.values())


def test_the_picture_is_brighter_below(tmp_path, monkeypatch) -> None:
    image = picture(160)
    assert image.shape == (240, 640, 3)
    dark, bright = image[:120, :160], image[120:, :160]
    assert bright.mean() > 4 * dark.mean()
    path = tmp_path / "enhance.png"
    monkeypatch.setattr("sys.argv", ["edge_vision", "bench", "enhance", "--picture", str(path)])
    assert main.main() == 0
    assert cv2.imread(str(path)).shape == (480, 1280, 3)
