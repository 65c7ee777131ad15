"""Bare model files: what they tell, what is measured, and what is asked."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edge_vision.datatypes import Frame
from edge_vision.inference import Engine, ModelError, file_metadata, load_bundle
from edge_vision.inference.backends import backend
from edge_vision.inference.bare import bare_bundle
from edge_vision.inference.errors import BackendError
from edge_vision.inference.labels import COCO, COCO_IDS, KNOWN, default_labels


def yolov8_output(classes: int = 2, further: int = 0) -> NDArray:
    output = np.zeros((1, 4 + classes + further, 126), np.float32)
    x, y = np.meshgrid(np.arange(12) * 8 + 4, np.arange(8) * 8 + 4)
    output[0, 0, :96], output[0, 1, :96] = x.ravel(), y.ravel()
    output[0, : 4 + classes, 30] = [40, 30, 20, 10, *[0.1] * (classes - 1), 0.9]
    output[0, 4 + classes :] = 55
    return output


@pytest.fixture
def write_ir(write_model, tmp_path: Path):
    """As `write_model`, for OpenVINO's own format."""
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")

    def write(*arguments: object, **options: object) -> Path:
        path = tmp_path / "model.xml"
        openvino.save_model(openvino.convert_model(write_model(*arguments, **options)), path, compress_to_fp16=False)
        return path

    return write


def test_an_ir_file_is_opened_by_the_backend_that_reads_it(write_ir, tmp_path: Path) -> None:
    path = write_ir({"output0": yolov8_output()})
    bundle = bare_bundle(path, None, {})
    assert (bundle.name, bundle.decoder, bundle.labels) == ("model", "yolov8", ("class_0", "class_1"))
    assert (bundle.input.width, bundle.input.height, bundle.input.layout) == (96, 64, "nchw")
    assert [(v.backend, v.precision, v.path) for v in bundle.variants] == [("openvino", "fp32", path)]
    card = {"names": {0: "helmet", 1: "vest"}, "imgsz": [64, 96], "task": "detect", "license": "AGPL-3.0"}
    (tmp_path / "metadata.yaml").write_text(yaml.safe_dump(card))
    bundle = bare_bundle(path, None, {})
    assert (bundle.labels, bundle.license) == (("helmet", "vest"), "AGPL-3.0")
    engine = Engine.load(load_bundle(path), backend="openvino")
    found = engine.infer(Frame(np.zeros((64, 96, 3), np.uint8)))
    engine.close()
    assert [found.labels[i] for i in found.class_ids] == ["vest"]
    np.testing.assert_allclose(found.boxes, [[30, 25, 50, 35]])


def test_an_ir_file_of_open_size_must_be_told_it(write_ir) -> None:
    path = write_ir({"output0": yolov8_output()}, (1, 3, "h", "w"))
    with pytest.raises(ModelError, match="leaves the image's size open"):
        bare_bundle(path, None, {})
    bundle = bare_bundle(path, None, {"width": 96, "height": 64})
    assert (bundle.decoder, bundle.input.width) == ("yolov8", 96)


def test_outputs_that_a_converter_has_turned_are_not_read_as_another_family(write_ir) -> None:
    turned = np.random.default_rng(0).random((1, 7, 126))  # YOLOX's rows, as columns
    path = write_ir({"output": turned})
    with pytest.raises(ModelError, match=r"have the shape of yolov8, but not its values.*edge_vision convert"):
        bare_bundle(path, None, {})
    assert bare_bundle(path, "yolov8", {}).decoder == "yolov8"


def test_a_format_that_nothing_here_reads_says_what_to_install(write_ir, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_ir({"output0": yolov8_output()})
    monkeypatch.setattr(backend("openvino"), "available", lambda: "the Python package openvino is not installed")
    with pytest.raises(BackendError, match=r"\.xml is read by openvino.*pip install openvino|pip install openvino"):
        bare_bundle(path, None, {})


def test_pose_and_segmentation_files_are_read_for_their_boxes(write_model) -> None:
    names = {"names": "{0: 'person', 1: 'dog'}"}
    pose = load_bundle(write_model({"output0": yolov8_output(2, 51)}, metadata={"task": "pose", **names}))
    assert (pose.decoder, pose.labels, pose.decoder_options) == ("yolov8", ("person", "dog"), {"classes": 2})
    outputs = {"output0": yolov8_output(2, 32), "output1": np.zeros((1, 32, 16, 24))}
    segment = load_bundle(write_model(outputs, metadata={"task": "segment", **names}))
    assert (segment.decoder, segment.decoder_options) == ("yolov8", {})  # the prototypes tell
    for bundle in (pose, segment):
        with Engine.load(bundle, backend="onnxruntime") as engine:
            found = engine.infer(Frame(np.zeros((64, 96, 3), np.uint8)))
        assert [found.labels[i] for i in found.class_ids] == ["dog"]


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("obb", "'obb' by its metadata: its boxes are rotated.*detect, segment, pose"),
        ("classify", "'classify' by its metadata: it names the whole image"),
        ("semantic", "'semantic' by its metadata. Use a model for one of detect"),
    ],
)
def test_tasks_without_boxes_are_refused(write_model, task: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_bundle(write_model({"output0": yolov8_output()}, metadata={"task": task}))
    with pytest.raises(ModelError, match="what classification models have, which find no boxes"):
        load_bundle(write_model({"logits": np.zeros((1, 1000))}))


def test_two_families_that_fit_are_a_question_with_its_answer(write_model) -> None:
    rng = np.random.default_rng(0)
    path = write_model({"output": rng.normal(0, 3, (1, 126, 40))})  # probabilities in neither's place
    with pytest.raises(ModelError) as caught:
        load_bundle(path)
    message = str(caught.value)
    assert "which made it? Its outputs output float32 [1, 126, 40], for an input of 96x64" in message
    assert "yolox (one output [1, N, 5+classes]" in message
    assert "nanodet (one output [1, N, classes+32]" in message
    for answer in ("decoder:=yolox", "--decoder yolox", "decoder: yolox"):
        assert answer in message
    assert load_bundle(path, decoder="nanodet").input.mean == (103.53, 116.28, 123.675)


def test_two_families_are_told_apart_by_a_run(write_model) -> None:
    rows = np.random.default_rng(0).random((1, 126, 40))
    assert load_bundle(write_model({"output": rows})).decoder == "yolox"
    rows[..., -32:] = rows[..., -32:] * 9 - 5
    bundle = load_bundle(write_model({"output": rows}))
    assert (bundle.decoder, bundle.input.resize) == ("nanodet", "letterbox")  # strides 8, 16, 32: v0.x


def test_rows_in_fractions_are_fed_as_rtdetr_is(write_model) -> None:
    rows = np.random.default_rng(0).random((1, 300, 6))
    rows[..., 5] = 1
    assert load_bundle(write_model({"output0": rows})).input.resize == "stretch"
    rows[..., :2] *= 40
    rows[..., 2:4] = rows[..., :2] + 9
    bundle = load_bundle(write_model({"output0": rows}))
    assert (bundle.decoder, bundle.input.resize) == ("end_to_end", "letterbox")


def write_rtdetr(path: Path) -> Path:
    """Boxes that are the second input's size times a half and a quarter, as `orig_target_sizes` scales them."""
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, (1, 3, 64, 96))
    size = helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, (1, 2))
    outputs = [
        helper.make_tensor_value_info("labels", TensorProto.INT64, (1, 2)),
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, (1, 2, 4)),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, (1, 2)),
    ]
    constants = {
        "label_table": np.array([[7, 80]]), "score_table": np.array([[0.9, 0.8]], np.float32),
        "fractions": np.array([[[0, 0, 0.5, 0.5], [0.25, 0.25, 1, 1]]], np.float32), "zero": np.zeros((), np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Cast", ["orig_target_sizes"], ["pair"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["pair", "pair"], ["sides"], axis=1),
        helper.make_node("Mul", ["fractions", "sides"], ["boxes"]),
        helper.make_node("Add", ["score_table", "nothing"], ["scores"]),
        helper.make_node("Identity", ["label_table"], ["labels"]),
    ]
    tables = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "rtdetr", [image, size], outputs, tables)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_rtdetr_is_given_the_size_that_it_asks_for(tmp_path: Path) -> None:
    bundle = load_bundle(write_rtdetr(tmp_path / "rtdetr.onnx"), labels=COCO)
    assert (bundle.decoder, bundle.input.name, bundle.input.resize) == ("rtdetr", "images", "stretch")
    with Engine.load(bundle, backend="onnxruntime") as engine:
        found = engine.infer(Frame(np.zeros((128, 96, 3), np.uint8)))
    np.testing.assert_allclose(found.boxes, [[0, 0, 48, 64], [24, 32, 96, 128]])
    assert [found.labels[i] for i in found.class_ids] == ["truck", "class_80"]


def test_other_inputs_are_refused(tmp_path: Path) -> None:
    path = write_rtdetr(tmp_path / "rtdetr.onnx")
    with pytest.raises(ModelError, match="the model has 2 inputs"):
        load_bundle(path, decoder="end_to_end")


def test_quantised_pixels_are_fed_as_they_are(write_model) -> None:
    outputs = {
        "detection_boxes": np.zeros((1, 10, 4)), "detection_classes": np.ones((1, 10)),
        "detection_scores": np.zeros((1, 10)), "num_detections": np.zeros(1),
    }  # fmt: skip
    bundle = load_bundle(write_model(outputs, (1, 64, 96, 3), "uint8"))
    assert (bundle.decoder, bundle.input.dtype, bundle.input.mean) == ("ssd", "uint8", (0.0, 0.0, 0.0))
    assert load_bundle(write_model(outputs, (1, 64, 96, 3))).input.mean == (127.5, 127.5, 127.5)


# --- metadata ---


def append_archive(path: Path, members: dict[str, str]) -> Path:
    """A file of some bytes with a zip archive behind them, as TensorFlow Lite's metadata is kept."""
    path.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(range(256)) * 4)
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


def test_labels_in_a_tflite_file(tmp_path: Path) -> None:
    found = file_metadata.beside(append_archive(tmp_path / "a.tflite", {"labelmap.txt": "person\nbicycle\n???\n???\n"}))
    assert found.labels() == ("person", "bicycle", "unused_2", "unused_3")


@pytest.mark.parametrize("write", [json.dumps, str])
def test_ultralytics_metadata_in_a_tflite_file(tmp_path: Path, write) -> None:
    card = {"names": {0: "helmet", 1: "vest"}, "imgsz": [320, 640], "task": "segment"}
    found = file_metadata.beside(append_archive(tmp_path / "a.tflite", {"metadata.json": write(card)}))
    assert (found.labels(), found.size(), found.task) == (("helmet", "vest"), (640, 320), "segment")


def test_files_without_metadata(tmp_path: Path) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(b"TFL3")
    found = file_metadata.beside(path)
    assert (found.labels(), found.size(), found.task) == ((), None, "detect")
    (tmp_path / "metadata.yaml").write_text("names: [a: b")
    assert file_metadata.beside(tmp_path / "b.xml").labels() == ()


def test_known_tables_of_names() -> None:
    assert (len(COCO), len(COCO_IDS), len(KNOWN["coco90"])) == (80, 91, 90)
    assert all(len(set(table)) == len(table) for table in KNOWN.values())
    # Category ids as COCO's annotation files have them.
    for index, name in ((1, "person"), (13, "stop sign"), (27, "backpack"), (67, "dining table"), (90, "toothbrush")):
        assert COCO_IDS[index] == name
    assert COCO_IDS[12] == "unused_12"
    assert default_labels(91) == COCO_IDS
    assert default_labels(2) == ("class_0", "class_1")
