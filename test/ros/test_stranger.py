"""A process that knows only rclpy, sensor_msgs and vision_msgs beside a pipeline of ours."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

COUNT = 30


@pytest.fixture(scope="module")
def heard(start_shared, model, square_images) -> dict:
    """What the stranger got from a pipeline that plays the folder of images again and again."""
    pipeline = start_shared(
        "pipeline",
        "camera",
        "inference",
        "tracking",
        parameters={
            "source": square_images,
            "model": model,
            "loop": True,
            "fps": 25.0,
            "frame_id": "dock_camera",
            "input_mode": "every",
        },
    )
    stranger = start_shared.script(Path(__file__).parent / "stranger.py", "listen", str(COUNT))
    assert stranger.pid != pipeline.pid
    assert stranger.wait() == 0, stranger.log
    assert pipeline.alive, pipeline.log
    return json.loads(stranger.log.splitlines()[-1])


def test_the_stranger_knows_nothing_of_the_project(heard) -> None:
    assert heard["modules"] == []


@pytest.mark.parametrize("kind", ["detections", "tracks"])
def test_results_carry_the_stamps_and_frame_of_their_images(heard, kind) -> None:
    images = {image["stamp"] for image in heard["images"]}
    arrays = heard[kind]
    assert len(arrays) >= COUNT
    stamps = [a["stamp"] for a in arrays]
    assert stamps == sorted(set(stamps)), "each image has one result, in order"
    first, last = min(images), max(images)
    inside = [stamp for stamp in stamps if first <= stamp <= last]
    # The images come best effort, so a few may be missing among them; the results' stamps are no others.
    assert len(set(inside) & images) >= 0.8 * len(inside) > 0
    for a in arrays:
        assert a["frame"] == "dock_camera"
        for element in a["elements"]:
            assert (element["stamp"], element["frame"]) == (a["stamp"], "dock_camera")


@pytest.mark.parametrize("kind", ["detections", "tracks"])
def test_empty_results_are_published_too(heard, kind) -> None:
    counts = {len(a["elements"]) for a in heard[kind]}
    assert counts == {0, 1}
    stamps = [a["stamp"] for a in heard[kind]]
    steps = [later - earlier for earlier, later in itertools.pairwise(stamps)]
    assert max(steps) < 1.5 * 10**9 / 25, "no image is left out, with or without an object"


def test_boxes_and_classes(heard, square_box) -> None:
    boxes = {tuple(box) for index in range(20) if (box := square_box(index))}
    found = [element for a in heard["detections"] for element in a["elements"]]
    for element in found:
        (x, y), (w, h) = element["centre"], element["size"]
        assert (x - w / 2, y - h / 2, x + w / 2, y + h / 2) in boxes
        assert element["class_id"] == "0"
        assert element["score"] == pytest.approx(1.0, abs=1e-3)
        assert element["results"] == 1


def test_a_track_keeps_its_id_and_follows(heard) -> None:
    by_id: dict[str, list] = {}
    for a in heard["tracks"]:
        for element in a["elements"]:
            assert element["class_id"] == "0"
            by_id.setdefault(element["id"], []).append((a["stamp"], element["centre"][0]))
    assert all(track_id.isdigit() for track_id in by_id)
    longest = max(by_id.values(), key=len)
    assert len(longest) >= 8
    (t0, x0), (t1, x1) = longest[0], longest[-1]
    assert (x1 - x0) / ((t1 - t0) * 1e-9) == pytest.approx(8 * 25, rel=0.15), "pixels per second of header time"


def test_who_comes_late_gets_the_labels(heard) -> None:
    assert heard["labels"][0] == {"0": "blue", "1": "green", "2": "red"}
