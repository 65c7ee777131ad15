"""Outputs that the graph has selected, DETR's, SSD's and tables of scores and boxes: written out, and by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from edge_vision.inference import ModelError
from edge_vision.inference.decoders import Built, Candidates, Setup, decoder
from edge_vision.inference.decoders.anchors import generate_anchors
from edge_vision.inference.onnx_header import TensorSpec

WIDTH, HEIGHT = 200, 100
Expected = list[tuple[list[float], float, int]]


def build(name: str, outputs: dict[str, NDArray], folder: Path = Path(), **options: object) -> Built:
    specs = tuple(TensorSpec(key, array.shape, array.dtype.name) for key, array in outputs.items())
    return decoder(name).build(Setup(folder / "m.onnx", WIDTH, HEIGHT, specs, tuple(outputs.values()), options))


def decode(built: Built, outputs: dict[str, NDArray], threshold: float) -> Candidates:
    before = [array.copy() for array in outputs.values()]
    found = built.decode(list(outputs.values()), threshold)
    for array, old in zip(outputs.values(), before, strict=True):
        np.testing.assert_array_equal(array, old)  # they are the runtime's
    return found


def compare(found: Candidates, expected: Expected) -> None:
    assert len(found.scores) == len(expected)
    assert found.boxes.dtype == found.scores.dtype == np.float32
    assert found.class_ids.dtype == np.int64
    assert found.boxes.shape == (len(expected), 4)
    for box, score, class_id, (right_box, right_score, right_class) in zip(*found, expected, strict=True):
        np.testing.assert_allclose(box, right_box, rtol=1e-4, atol=1e-3)
        assert score == pytest.approx(right_score, rel=1e-4)
        assert class_id == right_class


def xyxy(cx: float, cy: float, w: float, h: float) -> list[float]:
    return [(cx - w / 2) * WIDTH, (cy - h / 2) * HEIGHT, (cx + w / 2) * WIDTH, (cy + h / 2) * HEIGHT]


def floats(array: object) -> NDArray[np.float32]:
    return np.array(array, np.float32)


# --- a row a box ---


@pytest.mark.parametrize("further", [0, 32])
def test_end_to_end_pixels(further: int) -> None:
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 90, (300, 2))
    rows = np.concatenate(
        [
            low,
            low + rng.uniform(0, 90, (300, 2)),
            np.sort(rng.random((300, 1)), 0)[::-1],
            rng.integers(0, 80, (300, 1)),
        ],
        1,
    )
    outputs = {"output0": floats([np.concatenate([rows, rng.normal(0, 9, (300, further))], 1)])}
    built = build("end_to_end", outputs)
    assert (built.classes, built.suppress) == (None, False)
    expected = [(row[:4], row[4], int(row[5])) for row in outputs["output0"][0].tolist() if row[4] >= 0.4]
    compare(decode(built, outputs, 0.4), expected)
    compare(decode(built, outputs, 1.0), [])


def test_end_to_end_of_ultralytics_rtdetr() -> None:
    rng = np.random.default_rng(1)
    rows = floats(rng.random((1, 300, 6)))
    rows[..., 5] = rng.integers(0, 80, 300)
    outputs = {"output0": rows}
    expected = [(xyxy(*row[:4]), row[4], int(row[5])) for row in rows[0].tolist() if row[4] >= 0.5]
    compare(decode(build("end_to_end", outputs), outputs, 0.5), expected)
    older = {"output0": floats(rng.random((1, 300, 4 + 6)))}
    expected = [
        (xyxy(*row[:4]), max(row[4:]), int(np.argmax(row[4:])))
        for row in older["output0"][0].tolist()
        if max(row[4:]) >= 0.9
    ]
    built = build("end_to_end", older)
    assert built.classes == 6
    compare(decode(built, older, 0.9), expected)


def test_end_to_end_by_hand_and_by_options() -> None:
    outputs = {"output0": np.zeros((1, 100, 6), np.float32)}  # a sample in which nothing is found tells nothing
    built = build("end_to_end", outputs)
    outputs["output0"][0, 0] = [10, 20, 60, 40, 0.9, 3]
    compare(decode(built, outputs, 0.25), [([10, 20, 60, 40], 0.9, 3)])
    stated = build("end_to_end", outputs, boxes="cxcywh", normalised=True, columns="score_class")
    outputs["output0"][0, 0] = [0.5, 0.5, 0.5, 0.2, 0.9, 3]
    compare(decode(stated, outputs, 0.25), [([50, 40, 150, 60], 0.9, 3)])


def test_end_to_end_of_neither_form() -> None:
    with pytest.raises(ModelError, match=r"column 4 is no score with a class number after it"):
        build("end_to_end", {"output0": floats(np.random.default_rng(0).normal(0, 5, (1, 300, 6)))})
    with pytest.raises(ModelError, match=r"decoder_options\.boxes: is 'xywh'.*Give one of xyxy, cxcywh"):
        build("end_to_end", {"output0": np.zeros((1, 300, 6), np.float32)}, boxes="xywh")


# --- DETR ---


@pytest.mark.parametrize("names", [("labels", "boxes", "scores"), ("12", "13", "14")])
@pytest.mark.parametrize("normalised", [False, True])
def test_rtdetr(names: tuple[str, str, str], normalised: bool) -> None:
    rng = np.random.default_rng(2)
    boxes = floats(rng.uniform(0, 1 if normalised else 90, (1, 300, 4)))
    arrays = rng.integers(0, 80, (1, 300)), boxes, floats(rng.random((1, 300)))
    outputs = dict(zip(names, arrays, strict=True))
    size = [WIDTH, HEIGHT] * 2 if normalised else [1] * 4
    expected = [
        ([v * s for v, s in zip(box, size, strict=True)], score, label)
        for label, box, score in zip(*(a[0].tolist() for a in arrays), strict=True)
        if score >= 0.6
    ]
    built = build("rtdetr", outputs)
    assert (built.classes, built.suppress) == (None, False)
    compare(decode(built, outputs, 0.6), expected)


@pytest.mark.parametrize("threshold", [0.0, 0.01, 0.5, 0.9, 1.0])
def test_rfdetr(threshold: float) -> None:
    rng = np.random.default_rng(3)
    outputs = {
        "dets": floats(rng.random((1, 40, 4))),
        "labels": floats(rng.normal(-2, 3, (1, 40, 5))),
        "masks": np.zeros((1, 40, 10, 10), np.float32),
    }
    expected = [
        (xyxy(*outputs["dets"][0, q].tolist()), 1 / (1 + math.exp(-v)), c)
        for q in range(40)
        for c, v in enumerate(outputs["labels"][0, q].tolist())
        if 1 / (1 + math.exp(-v)) >= threshold
    ]
    built = build("rfdetr", outputs)
    assert (built.classes, built.suppress) == (5, False)
    compare(decode(built, outputs, threshold), expected)
    fewer = build("rfdetr", outputs, classes=4)
    compare(decode(fewer, outputs, threshold), [row for row in expected if row[2] < 4])


def test_rfdetr_by_hand() -> None:
    outputs = {"dets": np.zeros((1, 2, 4), np.float32), "labels": np.full((1, 2, 91), -9, np.float32)}
    outputs["dets"][0, 1] = [0.5, 0.5, 0.1, 0.4]
    outputs["labels"][0, 1, [1, 90]] = [0.0, math.log(9)]
    found = decode(build("rfdetr", outputs), outputs, 0.5)
    compare(found, [([90, 30, 110, 70], 0.5, 1), ([90, 30, 110, 70], 0.9, 90)])


# --- SSD ---


def lists(seed: int, count: int, first: int = 0) -> dict[str, NDArray]:
    """boxes, classes, scores and count of a TensorFlow detector that found `count` of 10."""
    rng = np.random.default_rng(seed)
    scores = np.sort(rng.random((1, 10)), 1)[:, ::-1]
    classes = rng.integers(first, 90, (1, 10))
    arrays = rng.uniform(-0.1, 1.1, (1, 10, 4)), classes, scores, [count]
    return dict(zip(("boxes", "classes", "scores", "count"), map(floats, arrays), strict=True))


def lists_written_out(found: dict[str, NDArray], threshold: float, first: int = 0) -> Expected:
    rows = []
    for i in range(int(found["count"][0])):
        y1, x1, y2, x2 = found["boxes"][0, i].tolist()
        score = float(found["scores"][0, i])
        if score >= threshold:
            box = [x1 * WIDTH, y1 * HEIGHT, x2 * WIDTH, y2 * HEIGHT]
            rows.append((box, score, int(found["classes"][0, i]) - first))
    return rows


TF1 = {
    "boxes": "TFLite_Detection_PostProcess", "classes": "TFLite_Detection_PostProcess:1",
    "scores": "TFLite_Detection_PostProcess:2", "count": "TFLite_Detection_PostProcess:3",
}  # fmt: skip
TF2 = {
    "scores": "StatefulPartitionedCall:1", "boxes": "StatefulPartitionedCall:3", "count": "StatefulPartitionedCall:0",
    "classes": "StatefulPartitionedCall:2",
}  # fmt: skip
NUMBERED = {"count": "3", "classes": "1", "boxes": "0", "scores": "2"}
ZOO = {
    "boxes": "detection_boxes:0", "classes": "detection_classes:0", "scores": "detection_scores:0",
    "count": "num_detections:0",
}  # fmt: skip


@pytest.mark.parametrize(
    ("naming", "first"), [(TF1, 0), (TF2, 0), (NUMBERED, 0), (ZOO, 1)], ids=["TF1", "TF2", "numbered", "zoo"]
)
@pytest.mark.parametrize("count", [0, 7, 10])
def test_ssd_in_any_order(naming: dict[str, str], first: int, count: int) -> None:
    found = lists(4, count, first)
    outputs = {name: found[role] for role, name in naming.items()}
    built = build("ssd", outputs)
    assert (built.classes, built.suppress) == (None, False)
    compare(decode(built, outputs, 0.3), lists_written_out(found, 0.3, first))


@pytest.mark.parametrize("naming", [TF1, TF2], ids=["TF1", "TF2"])
def test_ssd_of_an_empty_sample_goes_by_the_customs_of_its_exporter(naming: dict[str, str]) -> None:
    found = lists(5, 10)
    built = build("ssd", {name: np.zeros_like(found[role]) for role, name in naming.items()})
    outputs = {name: found[role] for role, name in naming.items()}
    compare(decode(built, outputs, 0.3), lists_written_out(found, 0.3))


def test_ssd_order_and_first_class_may_be_stated() -> None:
    found = lists(6, 10, 1)
    outputs = {"a": found["scores"], "b": found["classes"], "c": found["boxes"]}  # no count
    built = build("ssd", outputs, order=["scores", "classes", "boxes"], first_class=1)
    compare(decode(built, outputs, 0.3), lists_written_out(found, 0.3, 1))
    with pytest.raises(ModelError, match=r"decoder_options\.order: is \['boxes'\].*list one of|List one of"):
        build("ssd", outputs, order=["boxes"])
    with pytest.raises(ModelError, match="not boxes"):
        build("ssd", outputs)


def test_ssd_of_scores_that_are_none() -> None:
    found = lists(7, 10)
    with pytest.raises(ModelError, match=r"neither output \[1, M\] holds class numbers.*decoder_options\.order"):
        build("ssd", found | {"scores": found["scores"] * 9, "classes": found["classes"] + np.float32(0.5)})


def test_detection_out_by_hand() -> None:
    table = np.zeros((1, 1, 6, 7), np.float32)
    table[0, 0] = [
        [0, 15, 0.9, 0.1, 0.2, 0.5, 0.6],
        [0, 0, 0.8, 0.1, 0.2, 0.5, 0.6],  # background
        [0, 1, 0.7, -0.1, 0.0, 1.0, 1.2],
        [0, 2, 0.2, 0.0, 0.0, 1.0, 1.0],
        [-1, 0, 0, 0, 0, 0, 0],
        [0, 3, 0.99, 0.0, 0.0, 1.0, 1.0],  # after the end
    ]
    built = build("ssd", {"detection_out": table})
    expected: Expected = [([20, 20, 100, 60], 0.9, 14), ([-20, 0, 200, 120], 0.7, 0)]
    compare(decode(built, {"detection_out": table}, 0.5), expected)
    counted = build("ssd", {"detection_out": table}, first_class=0)
    assert decode(counted, {"detection_out": table}, 0.5).class_ids.tolist() == [15, 0, 1]


def test_detection_out_of_another_length_than_the_sample() -> None:
    built = build("ssd", {"detection_out": np.zeros((1, 1, 1, 7), np.float32)})
    assert len(built.decode([np.zeros((1, 1, 0, 7), np.float32)], 0.5).scores) == 0


# --- anchors ---


def anchors_written_out(maps: list[tuple[int, int]], low: float, high: float) -> list[list[float]]:
    """tensorflow/models' multiple_grid_anchor_generator with its defaults, one box at a time."""
    levels = len(maps)
    scales = [low + (high - low) * i / (levels - 1) for i in range(levels)] + [1.0]
    boxes = []
    for level, (rows, columns) in enumerate(maps):
        shapes = [(0.1, 1.0), (scales[0], 2.0), (scales[0], 0.5)]
        if level:
            shapes = [(scales[level], ratio) for ratio in (1.0, 2.0, 0.5, 3.0, 0.3333)]
            shapes.append((math.sqrt(scales[level] * scales[level + 1]), 1.0))
        for y in range(rows):
            for x in range(columns):
                for scale, ratio in shapes:
                    h, w = scale / math.sqrt(ratio), scale * math.sqrt(ratio)
                    boxes.append([(y + 0.5) / rows, (x + 0.5) / columns, h, w])
    return boxes


def test_generated_anchors() -> None:
    maps = [(19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]
    anchors = generate_anchors(300, 300, {})
    assert len(anchors) == 1917  # as the published SSD-MobileNet has
    np.testing.assert_allclose(anchors, anchors_written_out(maps, 0.2, 0.95), rtol=1e-5)
    given = generate_anchors(1, 1, {"feature_maps": [[4, 7], 2], "min_scale": 0.3, "max_scale": 0.9})
    np.testing.assert_allclose(given, anchors_written_out([(4, 7), (2, 2)], 0.3, 0.9), rtol=1e-5)


def raw(seed: int, count: int, activation: str) -> dict[str, NDArray]:
    rng = np.random.default_rng(seed)
    table = rng.normal(0, 2, (1, count, 4))
    if activation == "none":
        table = rng.random((1, count, 4))
    return {
        "raw_outputs/box_encodings": floats(rng.normal(0, 2, (1, count, 4))),
        "raw_outputs/class_predictions": floats(table),
    }


def raw_written_out(outputs: dict[str, NDArray], anchors: NDArray, activation: str, threshold: float) -> Expected:
    found = []
    encodings, table = (array[0].tolist() for array in outputs.values())
    for (ty, tx, th, tw), row, (ya, xa, ha, wa) in zip(encodings, table, anchors.tolist(), strict=True):
        scores = {
            "none": lambda row=row: row,
            "sigmoid": lambda row=row: [1 / (1 + math.exp(-v)) for v in row],
            "softmax": lambda row=row: [math.exp(v) / sum(math.exp(u) for u in row) for v in row],
        }[activation]()
        class_id = int(np.argmax(scores[1:]))
        score = scores[1 + class_id]
        if score < threshold:
            continue
        cy, cx, h, w = ty / 10 * ha + ya, tx / 10 * wa + xa, math.exp(th / 5) * ha, math.exp(tw / 5) * wa
        found.append((xyxy(cx, cy, w, h), score, class_id))
    return found


@pytest.mark.parametrize("activation", ["none", "sigmoid", "softmax"])
@pytest.mark.parametrize("threshold", [0.0001, 0.5, 0.8])
@pytest.mark.parametrize("suffix", [".npy", ".yaml"])
def test_ssd_raw_with_anchors_of_a_file(tmp_path: Path, activation: str, threshold: float, suffix: str) -> None:
    anchors = floats(np.random.default_rng(8).uniform(0.1, 0.9, (30, 4)))
    file = tmp_path / f"anchors{suffix}"
    if suffix == ".npy":
        np.save(file, anchors)
    else:
        file.write_text(yaml.safe_dump(anchors.tolist()))
    outputs = raw(9, 30, activation)
    built = build("ssd_raw", outputs, tmp_path, anchors=file.name, activation=activation)
    assert (built.classes, built.suppress) == (3, True)
    compare(decode(built, outputs, threshold), raw_written_out(outputs, anchors, activation, threshold))


def test_ssd_raw_with_generated_anchors_and_measured_activation() -> None:
    generator = {"feature_maps": [[4, 6], [2, 3]]}
    anchors = generate_anchors(WIDTH, HEIGHT, generator)
    for activation in ("none", "sigmoid"):
        outputs = raw(10, len(anchors), activation)
        built = build("ssd_raw", outputs, generator=generator)
        compare(decode(built, outputs, 0.6), raw_written_out(outputs, anchors, activation, 0.6))
    squeezed = {
        "raw_outputs/box_encodings": outputs["raw_outputs/box_encodings"][:, :, None],
        "raw_outputs/class_predictions": outputs["raw_outputs/class_predictions"],
    }
    found = decode(build("ssd_raw", squeezed, generator=generator), squeezed, 0.6)
    compare(found, raw_written_out(outputs, anchors, "sigmoid", 0.6))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"\d+ anchors of decoder_options\.generator for 30 rows.*decoder_options\.anchors"),
        ({"anchors": "none.npy"}, r"decoder_options\.anchors: cannot be read as anchors"),
        ({"generator": {"strides": [8]}}, r"decoder_options\.generator: has no strides.*feature_maps"),
        ({"activation": "relu"}, r"decoder_options\.activation: is 'relu'.*Give one of none, sigmoid, softmax"),
    ],
)
def test_anchors_that_cannot_be_used(tmp_path: Path, options: dict, message: str) -> None:
    np.save(tmp_path / "right.npy", np.full((30, 4), 0.5, np.float32))
    given = {"anchors": "right.npy", **options} if "activation" in options else options
    with pytest.raises(ModelError, match=message):
        build("ssd_raw", raw(11, 30, "none"), tmp_path, **given)


# --- scores and boxes ---


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("pixels", [True, False])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.9])
def test_ultraface(background: bool, pixels: bool, threshold: float) -> None:
    rng = np.random.default_rng(12)
    table = floats(rng.random((1, 50, 3)))
    if background:
        table /= table.sum(2, keepdims=True)
    low = rng.random((1, 50, 2))
    boxes = floats(np.concatenate([low, low + rng.random((1, 50, 2))], 2)) * np.float32(90 if pixels else 1)
    outputs = {"scores": table, "boxes": boxes}
    size = [1] * 4 if pixels else [WIDTH, HEIGHT] * 2
    first = 1 if background else 0
    expected = []
    for row, box in zip(table[0].tolist(), boxes[0].tolist(), strict=True):
        class_id = int(np.argmax(row[first:]))
        if row[first + class_id] >= threshold:
            expected.append(([v * s for v, s in zip(box, size, strict=True)], row[first + class_id], class_id))
    built = build("ultraface", outputs)
    assert (built.classes, built.suppress) == (3 - first, True)
    compare(decode(built, outputs, threshold), expected)


def test_ultraface_by_hand() -> None:
    outputs = {"boxes": np.zeros((1, 4, 4), np.float32), "scores": floats([[[1, 0], [0.2, 0.8], [1, 0], [0.6, 0.4]]])}
    outputs["boxes"][0, 1] = [0.25, 0.5, 0.5, 0.75]
    compare(decode(build("ultraface", outputs), outputs, 0.7), [([50, 50, 100, 75], 0.8, 0)])
    with pytest.raises(ModelError, match=r"the scores are not in 0\.\.1"):
        build("ultraface", outputs | {"scores": outputs["scores"] * 9})
