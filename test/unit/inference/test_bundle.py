"""Bundles: the format, what overrides it, and every way it can be wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from edge_vision.inference import ModelError, load_bundle
from edge_vision.inference.bundle import model_sha256
from edge_vision.inference.labels import COCO

ROWS = np.zeros((1, 126, 7))  # YOLOX for 96x64 and two classes


@pytest.fixture
def card(write_model, tmp_path: Path) -> dict[str, Any]:
    """A right model.yaml's content, with its file beside it."""
    model = write_model({"output": ROWS}, (1, 64, 96, 3), "uint8")
    return {
        "format": 1,
        "name": "parts",
        "task": "detect",
        "decoder": "yolox",
        "labels": ["nut", "bolt"],
        "input": {
            "name": "images", "width": 96, "height": 64, "layout": "nhwc", "dtype": "uint8", "colour": "bgr",
            "scale": 1.0, "mean": [0, 0, 0], "std": [1, 1, 1], "resize": "letterbox", "pad_value": 114,
        },
        "decoder_options": {"strides": [8, 16, 32]},
        "thresholds": {"score": 0.3, "iou": 0.5, "max_detections": 300},
        "variants": [
            {
                "backend": "onnxruntime", "precision": "fp32", "file": "model.onnx", "sha256": model_sha256(model),
                "measured": {"map50_95": 0.8},
            }
        ],
        "license": "Apache-2.0",
        "provenance": {"script": "train.py", "seed": 1},
    }  # fmt: skip


def write(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "model.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_a_bundle_is_read_from_its_folder_or_its_file(card, tmp_path: Path) -> None:
    path = write(tmp_path, card)
    bundle = load_bundle(tmp_path)
    assert bundle == load_bundle(path) == load_bundle(str(path))
    assert (bundle.name, bundle.task, bundle.decoder, bundle.labels) == ("parts", "detect", "yolox", ("nut", "bolt"))
    assert bundle.folder == tmp_path
    assert bundle.input.shape == (1, 64, 96, 3)
    assert bundle.input.pad_value == 114
    assert bundle.thresholds.max_detections == 300
    assert bundle.decoder_options == {"strides": [8, 16, 32]}
    assert bundle.variants[0].path == tmp_path / "model.onnx"
    assert bundle.variants[0].measured == {"map50_95": 0.8}
    assert bundle.license == "Apache-2.0"
    assert bundle.provenance["seed"] == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        bundle.name = "other"  # type: ignore[misc]


def test_labels_may_be_a_file(card, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("nut\nhex bolt\n\n")
    write(tmp_path, card | {"labels": "names.txt"})
    assert load_bundle(tmp_path).labels == ("nut", "hex bolt")


def test_what_the_caller_names_overrides_the_file(card, tmp_path: Path) -> None:
    write(tmp_path, card)
    bundle = load_bundle(tmp_path, labels=["a", "b"], decoder_options={}, resize="stretch", colour="rgb")
    assert bundle.labels == ("a", "b")
    assert bundle.decoder_options == {}
    assert bundle.input.resize == "stretch"
    assert bundle.input.colour == "rgb"
    assert bundle.input.width == 96
    with pytest.raises(ModelError, match=r"input override resise: unknown key.*did you mean resize"):
        load_bundle(tmp_path, resise="stretch")


def change(card: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy of `card` with the dotted key set, or removed for ...; a number in the key is an index."""
    copy = yaml.safe_load(yaml.safe_dump(card))
    *parents, last = key.split(".")
    place = copy
    for parent in parents:
        place = place[int(parent)] if parent.isdigit() else place[parent]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return copy


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("decoder", ..., r"decoder: missing\. Add `decoder:` with one of fastestdet, yolov8, yolox"),
        ("decoder", "yolo", r"decoder: is 'yolo'\. Give one of .*"),
        ("decoder", "yolov", r"did you mean yolov8\?"),
        ("name", 5, r"name: is 5, a whole number\. Give text"),
        ("format", 2, r"format: is 2\. This version of edge_vision reads format 1"),
        ("task", "segment", r"task: is 'segment'\. Give one of detect"),
        ("labels", [], r"labels: is \[\]\. List the class names"),
        ("labels", ["nut", True], "quote those like yes, no or 1"),
        ("labels", ["nut", "nut"], "labels: names nut twice"),
        ("labels", "names.txt", r"names\.txt: labels: there is no such labels file"),
        ("treshold", 3, r"treshold: unknown key\. Known here: .*did you mean thresholds"),
        ("input.width", "320", r"input\.width: is '320', text\. Give a whole number"),
        ("input.width", 0, r"input\.width: is 0\. Give a size in pixels"),
        ("input.height", ..., r"input\.height: missing"),
        ("input.resize", "pad", r"input\.resize: is 'pad'\. Give one of letterbox, letterbox_corner, stretch"),
        ("input.mean", [1, 2], r"input\.mean: is \[1, 2\]\. Give a list of 3 numbers"),
        ("input.std", [1, 0, 1], r"input\.std: .*divisors other than 0"),
        ("input.scale", 0.5, r"input\.dtype: is uint8, which cannot hold normalised values"),
        ("input.pad_value", 300, r"input\.pad_value: is 300\. Give a pixel value, 0 to 255"),
        ("input.color", "bgr", r"input\.color: unknown key.*did you mean colour"),
        ("thresholds.score", 1.5, r"thresholds\.score: is 1\.5\. Give a number from 0 to 1"),
        ("thresholds.iou", True, r"thresholds\.iou: is True, .*Give a number"),
        ("thresholds.max_detections", 0, r"thresholds\.max_detections: is 0"),
        ("variants", [], "variants: is empty"),
        ("variants", ["model.onnx"], r"variants\[0\]: is 'model\.onnx', text\. Give a mapping"),
        ("variants.0.backend", "caffe", r"variants\[0\]\.backend: is 'caffe'\. Give one of onnxruntime, openvino"),
        ("variants.0.file", "other.onnx", r"variants\[0\]\.file: names .*other\.onnx, which is not there"),
        (
            "variants.0.sha256",
            "00" * 32,
            r"variants\[0\]\.sha256: is 0000000000000000\.\.\., but model\.onnx has [0-9a-f]{16}",
        ),
        ("input", 3, r"input: is 3, a whole number\. Give a mapping"),
    ],
)
def test_every_mistake_names_file_key_and_remedy(card, tmp_path: Path, key: str, value: Any, message: str) -> None:
    path = write(tmp_path, change(card, key, value))
    with pytest.raises(ModelError, match=message) as caught:
        load_bundle(path)
    assert str(tmp_path) in str(caught.value)
    assert caught.value.key.split(".")[0].split("[")[0] == key.split(".")[0]
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("content", "message"),
    [("a: [1", "not readable as YAML"), ("- a\n- b\n", "holds a list instead of keys"), ("", "holds nothing instead")],
)
def test_a_file_that_is_no_card(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "model.yaml").write_text(content)
    with pytest.raises(ModelError, match=message):
        load_bundle(tmp_path)


def test_paths_that_hold_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no such file or folder"):
        load_bundle(tmp_path / "nothing.onnx")
    (tmp_path / "stray.onnx").write_text("x")
    with pytest.raises(ModelError, match=r"model\.yaml: missing.*\(here: stray\.onnx\)"):
        load_bundle(tmp_path)
    with pytest.raises(ModelError, match="it is a text file"):
        load_bundle(tmp_path / "stray.onnx")
    (tmp_path / "model.pt").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"no model file \(suffix '\.pt'\)"):
        load_bundle(tmp_path / "model.pt")
    with pytest.raises(ModelError, match="there is no decoder 'yolo'"):
        load_bundle(tmp_path / "stray.onnx", decoder="yolo")


def test_the_shared_model_needs_no_card(shared_data: Path) -> None:
    bundle = load_bundle(shared_data / "models" / "fastestdet_coco.onnx")
    assert bundle.decoder == "fastestdet"
    assert bundle.labels == COCO
    assert (bundle.input.width, bundle.input.height, bundle.input.layout) == (352, 352, "nchw")
    assert (bundle.input.colour, bundle.input.resize) == ("bgr", "stretch")
    assert bundle.input.scale == pytest.approx(1 / 255)


def test_ultralytics_metadata_fills_in(write_model) -> None:
    metadata = {"names": "{0: 'helmet', 1: 'vest'}", "imgsz": "[64, 96]", "task": "detect", "stride": "32"}
    outputs = {"output0": np.zeros((1, 6, 126))}
    bundle = load_bundle(write_model(outputs, (1, 3, "height", "width"), metadata=metadata))
    assert bundle.decoder == "yolov8"
    assert bundle.labels == ("helmet", "vest")
    assert (bundle.input.width, bundle.input.height) == (96, 64)
    assert (bundle.input.colour, bundle.input.resize) == ("rgb", "letterbox")
    with pytest.raises(ModelError, match=r"metadata\.task: is a model for the task 'obb'"):
        load_bundle(write_model(outputs, metadata=metadata | {"task": "obb"}))
    odd = load_bundle(write_model(outputs, metadata={"names": "not a literal"}))
    assert odd.labels == ("class_0", "class_1")


def test_a_bare_uint8_model_is_fed_pixels(write_model) -> None:
    bundle = load_bundle(write_model({"output0": np.zeros((1, 6, 126))}, (1, 64, 96, 3), "uint8"))
    assert (bundle.input.layout, bundle.input.dtype, bundle.input.scale) == ("nhwc", "uint8", 1.0)


def test_open_output_shapes_are_measured(write_model) -> None:
    path = write_model({"output": ROWS}, open_outputs=True)
    assert load_bundle(path).decoder == "yolox"


def test_an_open_image_size_must_be_named(write_model) -> None:
    path = write_model({"output": ROWS}, (1, 3, "h", "w"))
    with pytest.raises(ModelError, match=r"leaves the image's size open.*Name it: width and height"):
        load_bundle(path)
    bundle = load_bundle(path, width=96, height=64)
    assert (bundle.decoder, bundle.input.width, bundle.input.height) == ("yolox", 96, 64)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 10), "is no image"),
        ((4, 3, 64, 96), "takes 4 images at once.*batch of 1"),
    ],
)
def test_inputs_that_are_no_image(write_model, shape: tuple, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_bundle(write_model({"output": ROWS}, shape))


def test_outputs_that_fit_no_decoder_are_listed_with_what_would(write_model) -> None:
    with pytest.raises(ModelError) as caught:
        load_bundle(write_model({"logits": np.zeros((1, 1000))}))
    message = str(caught.value)
    assert "its outputs fit no decoder: logits float32 [1, 1000]" in message
    for name in ("yolox: one output [1, N, 5+classes]", "yolov8: one output", "fastestdet: one output"):
        assert name in message
