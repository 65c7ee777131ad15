"""Each decoder against its layout written out row by row, and by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_vision.inference import ModelError
from edge_vision.inference.decoders import DECODERS, Candidates, Setup, decoder
from edge_vision.inference.onnx_header import TensorSpec

WIDTH, HEIGHT = 96, 64


def setup(*sample: NDArray, **options: object) -> Setup:
    specs = tuple(TensorSpec(f"out{i}", array.shape, "float32") for i, array in enumerate(sample))
    return Setup(Path("model.onnx"), WIDTH, HEIGHT, specs, sample, options)


def compare(found: Candidates, expected: list[tuple[list[float], float, int]]) -> None:
    assert len(found.scores) == len(expected)
    assert found.boxes.dtype == np.float32
    assert found.boxes.shape == (len(expected), 4)
    for box, score, class_id, (right_box, right_score, right_class) in zip(*found, expected, strict=True):
        np.testing.assert_allclose(box, right_box, rtol=1e-4, atol=1e-3)
        assert score == pytest.approx(right_score, rel=1e-4)
        assert class_id == right_class


def yolox_written_out(output: NDArray, strides: list[int], decoded: bool, threshold: float) -> list:
    cells = [(gx, gy, s) for s in strides for gy in range(math.ceil(HEIGHT / s)) for gx in range(math.ceil(WIDTH / s))]
    found = []
    for row, (gx, gy, s) in zip(output[0].tolist(), cells, strict=True):
        class_id = max(range(len(row) - 5), key=lambda c: row[5 + c])
        score = row[4] * row[5 + class_id]
        if score < threshold:
            continue
        x, y, w, h = row[:4]
        if not decoded:
            x, y, w, h = (x + gx) * s, (y + gy) * s, math.exp(w) * s, math.exp(h) * s
        found.append(([x - w / 2, y - h / 2, x + w / 2, y + h / 2], score, class_id))
    return found


@pytest.mark.parametrize("strides", [[8, 16, 32], [8, 16], [16, 32], [8, 16, 32, 64]])
@pytest.mark.parametrize("decoded", [False, True])
@pytest.mark.parametrize("threshold", [0.0001, 0.3, 0.7, 1.0])
def test_yolox(strides: list[int], decoded: bool, threshold: float) -> None:
    rng = np.random.default_rng(len(strides))
    count = sum(math.ceil(WIDTH / s) * math.ceil(HEIGHT / s) for s in strides)
    output = rng.normal(0, 1, (1, count, 5 + 7)).astype(np.float32)
    output[:, :, 4:] = rng.random((1, count, 8)) ** 0.3
    built = decoder("yolox").build(setup(output, strides=strides, decoded=decoded))
    assert built.classes == 7
    before = output.copy()
    compare(built.decode([output], threshold), yolox_written_out(output, strides, decoded, threshold))
    np.testing.assert_array_equal(output, before)


def test_yolox_by_hand() -> None:
    output = np.zeros((1, 96 + 24 + 6, 6), np.float32)
    output[0, 96 + 1 * 6 + 2] = [
        0.25,
        0.5,
        math.log(2),
        0,
        0.8,
        0.5,
    ]  # stride 16, column 2, row 1: centre (36, 24), 32x16
    built = decoder("yolox").build(setup(output, decoded=False))
    compare(built.decode([output], 0.3), [([20.0, 16.0, 52.0, 32.0], 0.4, 0)])


@pytest.mark.parametrize("decoded", [False, True])
def test_yolox_sees_whether_boxes_are_decoded(make_yolox_rows, decoded: bool) -> None:
    output = make_yolox_rows([(40.0, 30.0, 20.0, 10.0, 0.9, 1)], 3, decoded)
    built = decoder("yolox").build(setup(output))
    compare(built.decode([output], 0.5), [([30.0, 25.0, 50.0, 35.0], 0.9, 1)])


def test_yolox_of_an_untrained_head_stays_finite() -> None:
    output = np.full((1, 126, 6), 1.0, np.float32)
    output[..., 2:4] = 1e4
    boxes = decoder("yolox").build(setup(output, decoded=False)).decode([output], 0.5).boxes
    assert np.isfinite(boxes).all()


@pytest.mark.parametrize("threshold", [0.0001, 0.5, 0.97, 1.0])
def test_yolov8(threshold: float) -> None:
    rng = np.random.default_rng(1)
    output = rng.uniform(0, 90, (1, 4 + 5, 126)).astype(np.float32)
    output[:, 4:] = rng.random((1, 5, 126))
    expected = []
    for column in range(126):
        cx, cy, w, h = output[0, :4, column].tolist()
        class_id = int(np.argmax(output[0, 4:, column]))
        score = float(output[0, 4 + class_id, column])
        if score >= threshold:
            expected.append(([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], score, class_id))
    built = decoder("yolov8").build(setup(output))
    assert built.classes == 5
    compare(built.decode([output], threshold), expected)


@pytest.mark.parametrize("threshold", [0.0001, 0.5, 0.8, 1.0])
def test_fastestdet(threshold: float) -> None:
    rng = np.random.default_rng(2)
    output = rng.normal(0, 1, (1, 5 + 6, 4, 6)).astype(np.float32)
    output[:, 0] = rng.random((4, 6))
    output[:, 5:] = rng.random((6, 4, 6))
    expected = []
    for gy in range(4):
        for gx in range(6):
            obj, tx, ty, tw, th, *classes = output[0, :, gy, gx].tolist()
            class_id = int(np.argmax(classes))
            score = obj**0.6 * classes[class_id] ** 0.4
            if score < threshold:
                continue
            cx, cy = (math.tanh(tx) + gx) / 6 * WIDTH, (math.tanh(ty) + gy) / 4 * HEIGHT
            w, h = WIDTH / (1 + math.exp(-tw)), HEIGHT / (1 + math.exp(-th))
            expected.append(([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], score, class_id))
    built = decoder("fastestdet").build(setup(output))
    assert built.classes == 6
    compare(built.decode([output], threshold), expected)


@pytest.mark.parametrize("name", list(DECODERS))
def test_outputs_that_do_not_fit_are_named_with_what_is_expected(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        decoder(name).build(setup(np.zeros((1, 1000), np.float32)))
    message = str(caught.value)
    assert f"do not fit decoder {name}" in message
    assert "out0 float32 [1, 1000]" in message
    assert decoder(name).EXPECTS in message


def test_strides_that_do_not_give_the_rows_are_counted() -> None:
    with pytest.raises(ModelError, match=r"strides \[8, 16\] give 120 rows for an input of 96x64, the model has 126"):
        decoder("yolox").build(setup(np.zeros((1, 126, 8), np.float32), strides=[8, 16]))


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ModelError, match=r"decoder_options\.stride: decoder yolox has no such option\. Known: strides"):
        decoder("yolox").build(setup(np.zeros((1, 126, 8), np.float32), stride=8))
