"""The engine whole: real runtimes, real models, small ones written for the case."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_vision.datatypes import Frame
from edge_vision.inference import BackendError, Bundle, Engine, ModelError, load_bundle
from edge_vision.inference.backends import BACKENDS, backend

AVAILABLE = [
    pytest.param(name, marks=pytest.mark.skipif(bool(why), reason=f"{name}: {why}"))
    for name in BACKENDS
    for why in [backend(name).available() or (".onnx" not in backend(name).FORMATS and "reads no ONNX file")]
]
OBJECTS = [(40.0, 30.0, 20.0, 10.0, 0.9, 1), (70.0, 20.0, 16.0, 16.0, 0.6, 0), (41.0, 30.0, 20.0, 10.0, 0.5, 1)]


@pytest.fixture
def parts(write_model, make_yolox_rows) -> Bundle:
    """A model that finds the `OBJECTS` in whatever it sees; the third lies in the cell of the first."""
    outputs = {"output": make_yolox_rows(OBJECTS[:2], 3, False)}
    return load_bundle(
        write_model(outputs, (1, 64, 96, 3), "uint8"), labels=["nut", "bolt", "washer"], resize="letterbox"
    )


def frame(height: int = 128, width: int = 192, **fields: object) -> Frame:
    return Frame(np.zeros((height, width, 3), np.uint8), **fields)


def photographs(shared_data: Path) -> list[NDArray]:
    return [cv2.imread(str(path)) for path in sorted((shared_data / "images").glob("*.jpg"))]


@pytest.mark.parametrize("name", AVAILABLE)
def test_boxes_come_back_in_source_pixels_with_the_frames_identity(parts: Bundle, name: str) -> None:
    with Engine.load(parts, backend=name) as engine:
        found = engine.infer(frame(stamp=123, frame_id="camera_1"))  # twice the network's size, no padding
        assert (found.stamp, found.frame_id, found.labels) == (123, "camera_1", ("nut", "bolt", "washer"))
        np.testing.assert_allclose(found.boxes, [[60, 50, 100, 70], [124, 24, 156, 56]], atol=1e-3)
        np.testing.assert_allclose(found.scores, [0.9, 0.6], atol=1e-6)
        assert found.class_ids.tolist() == [1, 0]
        assert found.boxes.dtype == np.float32
        assert found.class_ids.dtype == np.int64
        # 96x96: padded left and right by 16 pixels of the network, scaled by 64/96; the second is cut at the edge.
        square = engine.infer(frame(96, 96))
        np.testing.assert_allclose(square.boxes, [[21, 37.5, 51, 52.5], [69, 18, 93, 42]], atol=1e-3)


def test_boxes_are_limited_to_the_image_and_those_in_the_padding_dropped(write_model, make_yolox_rows) -> None:
    outputs = {"output": make_yolox_rows([(20.0, 30.0, 20.0, 10.0, 0.9, 0), (4.0, 4.0, 6.0, 6.0, 0.8, 0)], 1, False)}
    bundle = load_bundle(write_model(outputs, (1, 64, 96, 3), "uint8"), resize="letterbox")
    found = Engine.load(bundle).infer(frame(64, 64))  # the image lies at x 16..80
    np.testing.assert_allclose(found.boxes, [[0, 25, 14, 35]], atol=1e-3)


def test_the_three_steps_are_infer(parts: Bundle) -> None:
    engine = Engine.load(parts)
    prepared = engine.preprocess(frame(stamp=7))
    found = engine.postprocess(engine.run(prepared), prepared)
    whole = engine.infer(frame(stamp=7))
    np.testing.assert_array_equal(found.boxes, whole.boxes)
    assert found.stamp == whole.stamp == 7


def test_thresholds_change_while_running(parts: Bundle) -> None:
    engine = Engine.load(parts, score_threshold=0.7)
    assert engine.infer(frame()).class_ids.tolist() == [1]
    engine.set_thresholds(score=0.5)
    assert engine.infer(frame()).class_ids.tolist() == [1, 0]
    engine.set_thresholds(classes=["nut"])
    assert engine.infer(frame()).class_ids.tolist() == [0]
    engine.set_thresholds(classes=[1, "washer"])
    assert engine.infer(frame()).class_ids.tolist() == [1]
    engine.set_thresholds(classes=[])
    engine.set_thresholds(max_detections=1)
    assert engine.infer(frame()).class_ids.tolist() == [1]
    engine.set_thresholds(score=0.95, iou=0.1)
    empty = engine.infer(frame(stamp=5))
    assert (len(empty), empty.stamp, empty.boxes.shape, empty.labels[0]) == (0, 5, (0, 4), "nut")
    before = engine.thresholds
    for wrong in ({"score": 1.5}, {"iou": -0.1}, {"max_detections": 0}, {"classes": ["screw"]}, {"classes": [3]}):
        with pytest.raises(ValueError, match=r"between 0 and 1|at least 1|no class"):
            engine.set_thresholds(**wrong)
    assert engine.thresholds == before


def test_a_closed_engine_says_so(parts: Bundle) -> None:
    engine = Engine.load(parts)
    engine.close()
    engine.close()
    with pytest.raises(BackendError, match="closed"):
        engine.infer(frame())


def test_wishes_that_cannot_be_met(parts: Bundle) -> None:
    with pytest.raises(BackendError, match=r"there is no backend 'caffe'\. Choose one of onnxruntime, openvino"):
        Engine.load(parts, backend="caffe")
    with pytest.raises(BackendError, match="onnxruntime has no device 'gpu'"):
        Engine.load(parts, backend="onnxruntime", device="gpu")
    with pytest.raises(ModelError, match="no file for precision int8 on backend onnxruntime"):
        Engine.load(parts, backend="onnxruntime", precision="int8")
    with pytest.raises(ModelError, match="there is no hardware profile 'toaster'"):
        Engine.load(parts, hardware="toaster")
    with pytest.raises(ValueError, match="no class 'screw'"):
        Engine.load(parts, classes=["screw"])
    if backend("openvino").available() is None:
        with pytest.raises(BackendError, match=r"openvino has no device npu9 here\. Choose one of .*cpu"):
            Engine.load(parts, backend="openvino", device="npu9")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"labels": ["a", "b"]}, "labels: 2 names for 3 classes"),
        (
            {"colour": "mono"},
            r"input: layout, size and colour make \[1, 64, 96, 1\]; the model's input is images uint8 \[1, 64, 96",
        ),
        ({"dtype": "float32"}, r"input\.dtype: is float32; .*Write uint8"),
        ({"name": "x"}, r"input\.name: is 'x'; the model's input is images"),
        ({"decoder": "fastestdet"}, "outputs do not fit decoder fastestdet"),
        ({"decoder_options": {"strides": [8]}}, "correct decoder_options.strides|Correct decoder_options.strides"),
    ],
)
def test_a_card_that_contradicts_its_model(parts: Bundle, overrides: dict, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Engine.load(load_bundle(parts.file, **overrides))


def test_a_file_that_only_looks_like_onnx_is_a_model_error(parts: Bundle, tmp_path: Path) -> None:
    whole = parts.file.read_bytes()
    parts.file.write_bytes(whole.replace(b"ReduceMean", b"ReduceMoan"))
    with pytest.raises(ModelError, match=r"no backend can open the model: .*onnxruntime .* cannot open it"):
        Engine.load(load_bundle(parts.file))
    parts.file.write_text("no model")
    with pytest.raises(ModelError, match="not an ONNX model: it is a text file"):
        Engine.load(parts)


def test_layouts_and_types_of_input(write_model, make_yolox_rows) -> None:
    rows = make_yolox_rows(OBJECTS[:1], 2, False)
    for shape, dtype in (
        ((1, 3, 64, 96), "float32"),
        ((1, 64, 96, 3), "float32"),
        ((1, 3, 64, 96), "uint8"),
        ((1, 1, 64, 96), "float16"),
    ):
        engine = Engine.load(load_bundle(write_model({"output": rows}, shape, dtype)))
        assert engine.preprocess(frame()).tensor.shape == shape
        np.testing.assert_allclose(engine.infer(frame()).boxes, [[60, 50, 100, 70]], atol=1e-3)


def test_the_shared_model_finds_what_is_in_the_photographs(shared_data: Path) -> None:
    engine = Engine.load(load_bundle(shared_data / "models" / "fastestdet_coco.onnx"))
    names = []
    for image in photographs(shared_data):
        found = engine.infer(Frame(image))
        names.append([engine.labels[i] for i, score in zip(found.class_ids, found.scores, strict=True) if score > 0.6])
        assert (found.boxes >= 0).all()
        assert (found.boxes[:, 2] <= image.shape[1]).all()
        assert (found.boxes[:, 3] <= image.shape[0]).all()
    assert names[0].count("person") >= 3  # baseball
    assert names[1] == ["bus"]
    assert names[2].count("person") >= 3
    assert names[3].count("person") >= 4  # football
    assert names[4].count("dog") == 2
    bus = engine.infer(Frame(photographs(shared_data)[1])).boxes[0]
    np.testing.assert_allclose(bus, [47, 82, 582, 417], atol=15)  # by eye


def test_colour_order_of_the_frame_does_not_matter(shared_data: Path) -> None:
    engine = Engine.load(load_bundle(shared_data / "models" / "fastestdet_coco.onnx"))
    image = photographs(shared_data)[2]
    expected = engine.infer(Frame(image))
    others = {
        "rgb8": np.ascontiguousarray(image[:, :, ::-1]),
        "bgra8": cv2.cvtColor(image, cv2.COLOR_BGR2BGRA),
        "rgba8": cv2.cvtColor(image, cv2.COLOR_BGR2RGBA),
    }
    for encoding, pixels in others.items():
        found = engine.infer(Frame(pixels, encoding=encoding))
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=1.0)
        assert found.class_ids.tolist() == expected.class_ids.tolist()


@pytest.mark.skipif(bool(backend("openvino").available()), reason="openvino is not installed")
def test_both_backends_find_the_same(shared_data: Path) -> None:
    bundle = load_bundle(shared_data / "models" / "fastestdet_coco.onnx")
    one, other = Engine.load(bundle, backend="onnxruntime"), Engine.load(bundle, backend="openvino")
    assert other.description.precision == "fp32"
    for image in photographs(shared_data):
        locked = image.view()
        locked.flags.writeable = False
        a, b = one.infer(Frame(locked)), other.infer(Frame(locked))
        assert a.class_ids.tolist() == b.class_ids.tolist()
        np.testing.assert_allclose(a.boxes, b.boxes, atol=0.05)
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-3)


@pytest.mark.parametrize("name", AVAILABLE)
def test_the_processs_own_arithmetic_keeps_its_small_numbers(parts: Bundle, name: str) -> None:
    Engine.load(parts, backend=name).infer(frame())
    assert np.float64(1e-310) * np.float64(0.5) > 0  # runtimes can switch the calling thread to flush these to zero


def test_importing_loads_no_runtime() -> None:
    code = (
        "import sys, edge_vision.inference as i; print(sorted({'onnxruntime', 'openvino', 'onnx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
