"""YOLOv5, NanoDet and Ultralytics' further exports against their layouts written out row by row, and by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_vision.inference import ModelError
from edge_vision.inference.decoders import Built, Candidates, Setup, decoder
from edge_vision.inference.onnx_header import TensorSpec

WIDTH, HEIGHT = 96, 64
CELLS = {8: (12, 8), 16: (6, 4), 32: (3, 2), 64: (2, 1)}


def build(name: str, *sample: NDArray, **options: object) -> Built:
    specs = tuple(TensorSpec(f"out{i}", array.shape, array.dtype.name) for i, array in enumerate(sample))
    return decoder(name).build(Setup(Path("model.onnx"), WIDTH, HEIGHT, specs, sample, options))


def compare(found: Candidates, expected: list[tuple[list[float], float, int]]) -> None:
    assert len(found.scores) == len(expected)
    assert found.boxes.dtype == found.scores.dtype == np.float32
    assert found.boxes.shape == (len(expected), 4)
    for box, score, class_id, (right_box, right_score, right_class) in zip(*found, expected, strict=True):
        np.testing.assert_allclose(box, right_box, rtol=1e-4, atol=2e-3)
        assert score == pytest.approx(right_score, rel=1e-4)
        assert class_id == right_class


def xyxy(cx: float, cy: float, w: float, h: float) -> list[float]:
    return [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]


def yolov5_rows(seed: int, columns: int) -> NDArray:
    rng = np.random.default_rng(seed)
    rows = rng.random((1, 378, columns), np.float32) ** 0.4
    rows[..., :4] = rng.uniform(0, 90, (1, 378, 4))
    return rows


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("masks", [0, 32])
@pytest.mark.parametrize("normalised", [False, True])
def test_yolov5(threshold: float, masks: int, normalised: bool) -> None:
    rows = yolov5_rows(3, 5 + 4 + masks)
    if normalised:
        rows[..., :4] /= 90
    prototypes = (np.zeros((1, 32, 16, 24), np.float32),) if masks else ()
    expected = []
    for row in rows[0].tolist():
        cx, cy, w, h, objectness = row[:5]
        class_id = max(range(4), key=lambda c, row=row: row[5 + c])
        score = objectness * row[5 + class_id]
        if normalised:
            cx, cy, w, h = cx * WIDTH, cy * HEIGHT, w * WIDTH, h * HEIGHT
        if score >= threshold:
            expected.append((xyxy(cx, cy, w, h), score, class_id))
    before = rows.copy()
    built = build("yolov5", rows, *prototypes)
    assert (built.classes, built.suppress) == (4, True)
    compare(built.decode([rows, *prototypes], threshold), expected)
    np.testing.assert_array_equal(rows, before)


def test_yolov5_by_hand() -> None:
    rows = np.zeros((1, 378, 7), np.float32)
    rows[0, :, :2] = 48
    rows[0, 200] = [40, 30, 20, 10, 0.5, 0.1, 0.8]
    compare(build("yolov5", rows).decode([rows], 0.25), [([30, 25, 50, 35], 0.4, 1)])


@pytest.mark.parametrize("threshold", [0.0001, 0.6, 1.0])
@pytest.mark.parametrize("kind", ["detect", "segment", "segment channels last", "pose"])
@pytest.mark.parametrize("normalised", [False, True])
def test_yolov8_beside_masks_and_keypoints(threshold: float, kind: str, normalised: bool) -> None:
    rng = np.random.default_rng(4)
    further = {"detect": 0, "pose": 51}.get(kind, 32)
    output = rng.normal(0, 40, (1, 4 + 3 + further, 126)).astype(np.float32)
    output[:, :4] = rng.random((1, 4, 126)) * (1 if normalised else 90)
    output[:, 4:7] = rng.random((1, 3, 126)) ** 0.3
    outputs = [output]
    if kind.startswith("segment"):
        outputs.append(np.zeros((1, 16, 24, 32) if kind.endswith("last") else (1, 32, 16, 24), np.float32))
    scale = (WIDTH, HEIGHT) if normalised else (1, 1)
    expected = []
    for column in range(126):
        cx, cy, w, h, *classes = output[0, :7, column].tolist()
        class_id = int(np.argmax(classes))
        if output[0, 4 + class_id, column] >= np.float32(threshold):
            box = xyxy(cx * scale[0], cy * scale[1], w * scale[0], h * scale[1])
            expected.append((box, classes[class_id], class_id))
    built = build("yolov8", *outputs, **({"classes": 3} if kind == "pose" else {}))
    assert built.classes == 3
    compare(built.decode(outputs, threshold), expected)


def test_keypoints_are_not_taken_for_classes() -> None:
    output = np.random.default_rng(0).uniform(0, 90, (1, 56, 126)).astype(np.float32)
    with pytest.raises(ModelError, match=r"rows 4 to 55 are no probabilities.*state decoder_options\.classes"):
        build("yolov8", output)
    with pytest.raises(ModelError, match=r"decoder_options\.classes: is 99, for outputs that have room for 52"):
        build("yolov8", output, classes=99)
    with pytest.raises(ModelError, match=r"decoder_options\.normalised: is 'yes'.*Give true or false"):
        build("yolov8", np.zeros((1, 6, 126), np.float32), normalised="yes")


def test_half_precision_outputs_are_read_in_float32() -> None:
    output = np.zeros((1, 6, 126), np.float16)
    output[0, :, 5] = [40, 30, 20, 10, 0, 0.5]
    compare(build("yolov8", output).decode([output], 0.25), [([30, 25, 50, 35], 0.5, 1)])


def nanodet_rows(seed: int, strides: list[int], classes: int) -> NDArray:
    rng = np.random.default_rng(seed)
    count = sum(CELLS[s][0] * CELLS[s][1] for s in strides)
    rows = rng.normal(0, 2, (1, count, classes + 32)).astype(np.float32)
    rows[..., :classes] = rng.random((1, count, classes)) ** 0.5
    return rows


def nanodet_written_out(rows: NDArray, strides: list[int], centre: float, threshold: float) -> list:
    cells = [(gx, gy, s) for s in strides for gy in range(CELLS[s][1]) for gx in range(CELLS[s][0])]
    classes = rows.shape[2] - 32
    found = []
    for row, (gx, gy, s) in zip(rows[0].tolist(), cells, strict=True):
        class_id = max(range(classes), key=lambda c, row=row: row[c])
        if row[class_id] < threshold:
            continue
        sides = []
        for side in range(4):
            weights = [math.exp(v) for v in row[classes + 8 * side : classes + 8 * side + 8]]
            sides.append(s * sum(i * w for i, w in enumerate(weights)) / sum(weights))
        x, y = (gx + centre) * s, (gy + centre) * s
        found.append(([x - sides[0], y - sides[1], x + sides[2], y + sides[3]], row[class_id], class_id))
    return found


@pytest.mark.parametrize(
    ("strides", "centre", "options"),
    [
        ([8, 16, 32, 64], 0.0, {}),
        ([8, 16, 32], 0.5, {}),
        ([8, 16, 32], 0.0, {"variant": "plus"}),
        ([8, 16, 32, 64], 0.25, {"centre": 0.25}),
        ([16, 32], 0.5, {"variant": "v0", "strides": [16, 32]}),
    ],
)
@pytest.mark.parametrize("threshold", [0.0001, 0.7, 1.0])
def test_nanodet(strides: list[int], centre: float, options: dict, threshold: float) -> None:
    rows = nanodet_rows(5, strides, 5)
    built = build("nanodet", rows, **options)
    assert built.classes == 5
    compare(built.decode([rows], threshold), nanodet_written_out(rows, strides, centre, threshold))


def test_nanodet_by_hand() -> None:
    rows = np.zeros((1, 128, 34), np.float32)
    row = rows[0, 96 + 1 * 6 + 2]  # stride 16, column 2, row 1: measured from (32, 16)
    row[1] = 0.9
    for side, distance in enumerate((1, 0, 2, 1)):
        row[2 + 8 * side + distance] = 50  # all weight on one distance
    compare(build("nanodet", rows).decode([rows], 0.35), [([16, 16, 64, 32], 0.9, 1)])


def test_a_nanodet_of_unknown_levels_is_asked_about() -> None:
    rows = nanodet_rows(6, [16, 32], 2)
    with pytest.raises(ModelError, match=r"strides \[16, 32\] belong to neither.*decoder_options\.variant: plus or v0"):
        build("nanodet", rows)
    with pytest.raises(ModelError, match=r"decoder_options\.variant: is 'pro'.*Give one of plus, v0"):
        build("nanodet", rows, variant="pro")


def test_fastestdet_with_channels_last() -> None:
    rng = np.random.default_rng(2)
    output = rng.random((1, 5 + 6, 4, 6), np.float32)
    turned = np.ascontiguousarray(output.transpose(0, 2, 3, 1))
    for array in (turned, output.transpose(0, 2, 3, 1)):
        found = build("fastestdet", array).decode([array], 0.5)
        expected = build("fastestdet", output).decode([output], 0.5)
        assert len(found.scores) > 0
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from(["yolov5", "yolov8", "nanodet", "yolox"]),
    seed=st.integers(0, 10**6),
    low=st.floats(0.0, 1.0),
    high=st.floats(0.0, 1.0),
)
def test_a_higher_threshold_leaves_a_part_of_the_same_boxes(name: str, seed: int, low: float, high: float) -> None:
    """Whatever the shortcut that a decoder takes, thresholding is the only thing that the threshold does."""
    low, high = sorted((low, high))
    output = {
        "yolov5": lambda: yolov5_rows(seed, 8),
        "yolox": lambda: yolov5_rows(seed, 8)[:, :126],
        "yolov8": lambda: np.ascontiguousarray(yolov5_rows(seed, 8)[:, :126].transpose(0, 2, 1)),
        "nanodet": lambda: nanodet_rows(seed, [8, 16, 32, 64], 3),
    }[name]()
    built = build(name, output, **({"decoded": True} if name == "yolox" else {}))
    more, fewer = built.decode([output], low), built.decode([output], high)
    keep = more.scores >= high
    for a, b in zip(more, fewer, strict=True):
        np.testing.assert_array_equal(a[keep], b)
    assert (more.scores >= np.float32(low)).all()
    assert (more.boxes[:, 2:] >= more.boxes[:, :2]).all()
