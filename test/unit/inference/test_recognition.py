"""Which decoder outputs belong to: by names, shapes and, where those fit several, by values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_vision.inference.decoders import DECODERS, Setup, default_input, extra_inputs, plausible, recognise
from edge_vision.inference.onnx_header import TensorSpec

VGA, COCO_SIZE = (640, 640), (416, 416)


def specs(outputs: dict[str, tuple[int, ...]], dtypes: dict[str, str] | None = None) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, shape, (dtypes or {}).get(name, "float32")) for name, shape in outputs.items())


@pytest.mark.parametrize(
    ("outputs", "size", "names"),
    [
        # One row of the facts page each; where two fit, both are named.
        ({"output": (1, 8400, 85)}, VGA, {"yolox", "nanodet"}),
        ({"output": (1, 3549, 25)}, COCO_SIZE, {"yolox"}),
        ({"output": (1, 1500, 11)}, (320, 240), {"yolox"}),
        ({"output0": (1, 84, 8400)}, VGA, {"yolov8"}),
        ({"output0": (1, 5, 2100)}, (320, 320), {"yolov8"}),
        ({"output0": (1, 116, 8400), "output1": (1, 32, 160, 160)}, VGA, {"yolov8"}),
        ({"output0": (1, 116, 8400), "output1": (1, 160, 160, 32)}, VGA, {"yolov8"}),
        ({"output0": (1, 25200, 85)}, VGA, {"yolov5"}),
        ({"output0": (1, 25200, 117), "output1": (1, 32, 160, 160)}, VGA, {"yolov5"}),
        ({"output0": (1, 25200, 85), "a": (1, 3, 80, 80, 85), "b": (1, 3, 40, 40, 85)}, VGA, {"yolov5"}),
        ({"output0": (1, 102000, 85)}, (1280, 1280), {"yolov5"}),  # P6: strides 8 to 64
        ({"output0": (1, 300, 6)}, VGA, {"end_to_end"}),
        ({"output0": (1, 300, 6)}, (320, 320), {"end_to_end"}),  # 3 x cells of stride 32 too, which no YOLOv5 has
        ({"output0": (1, 300, 6)}, (320, 240), {"end_to_end", "yolox"}),  # cells of stride 16
        ({"output0": (1, 100, 6)}, VGA, {"end_to_end"}),
        ({"output0": (1, 300, 84)}, VGA, {"end_to_end"}),
        ({"output0": (1, 300, 38), "output1": (1, 32, 160, 160)}, VGA, {"end_to_end"}),
        ({"output": (1, 126, 6)}, (96, 64), {"end_to_end", "yolox"}),
        ({"output": (1, 2125, 112)}, (320, 320), {"nanodet", "yolox"}),
        ({"output": (1, 3598, 112)}, COCO_SIZE, {"nanodet", "yolox"}),
        ({"output": (1, 2100, 33)}, (320, 320), {"nanodet", "yolox"}),
        ({"758": (1, 85, 22, 22)}, (352, 352), {"fastestdet"}),
        ({"758": (1, 22, 22, 85)}, (352, 352), {"fastestdet"}),
        ({"labels": (1, 300), "boxes": (1, 300, 4), "scores": (1, 300)}, VGA, {"rtdetr"}),
        ({"dets": (1, 300, 4), "labels": (1, 300, 91)}, (384, 384), {"rfdetr"}),
        ({"dets": (1, 100, 4), "labels": (1, 100, 91), "masks": (1, 100, 78, 78)}, (312, 312), {"rfdetr"}),
        ({"dets": (1, 300, 4), "labels": (1, 300, 4)}, (384, 384), {"rfdetr"}),
        ({"a": (1, 300, 4), "b": (1, 300, 91)}, (384, 384), {"rfdetr", "ssd_raw", "ultraface"}),
        ({"scores": (1, 4420, 2), "boxes": (1, 4420, 4)}, (320, 240), {"ultraface"}),
        ({"a": (1, 4420, 2), "b": (1, 4420, 4)}, (320, 240), {"ssd_raw", "ultraface"}),
        (
            {"raw_outputs/box_encodings": (1, 1917, 4), "raw_outputs/class_predictions": (1, 1917, 91)},
            (300, 300),
            {"ssd_raw"},
        ),
        (
            {
                "TFLite_Detection_PostProcess": (1, 10, 4), "TFLite_Detection_PostProcess:1": (1, 10),
                "TFLite_Detection_PostProcess:2": (1, 10), "TFLite_Detection_PostProcess:3": (1,),
            },
            (300, 300),
            {"ssd"},
        ),
        (
            {
                "StatefulPartitionedCall:1": (1, 10), "StatefulPartitionedCall:3": (1, 10, 4),
                "StatefulPartitionedCall:0": (1,), "StatefulPartitionedCall:2": (1, 10),
            },
            (320, 320),
            {"ssd"},
        ),
        (
            {
                "detection_boxes:0": (1, 100, 4), "detection_classes:0": (1, 100), "detection_scores:0": (1, 100),
                "num_detections:0": (1,),
            },
            (300, 300),
            {"ssd"},
        ),
        ({"detection_out": (1, 1, 100, 7)}, (300, 300), {"ssd"}),
        ({"logits": (1, 1000)}, (224, 224), set()),
        ({"masks": (1, 21, 100, 100)}, (513, 513), set()),
    ],
)  # fmt: skip
def test_by_names_and_shapes(outputs: dict[str, tuple[int, ...]], size: tuple[int, int], names: set[str]) -> None:
    assert set(recognise(specs(outputs), *size)) == names


def test_integer_labels_mark_rtdetr_without_names() -> None:
    outputs = {"12": (1, 300), "13": (1, 300, 4), "14": (1, 300)}
    assert recognise(specs(outputs, {"12": "int64"}), *VGA) == ("rtdetr",)
    assert recognise(specs(outputs), *VGA) == ()


def test_every_decoder_can_be_recognised() -> None:
    marks = test_by_names_and_shapes.pytestmark[0].args[1]
    assert set().union(*(names for _, _, names in marks)) == set(DECODERS)


def narrowed(size: tuple[int, int], **outputs: NDArray) -> set[str]:
    """The decoders left by names, shapes and values."""
    tensors = tuple(np.asarray(array, np.float32) for array in outputs.values())
    found = tuple(TensorSpec(name, array.shape, "float32") for name, array in zip(outputs, tensors, strict=True))
    return set(plausible(recognise(found, *size), Setup(Path("m.onnx"), *size, found, tensors)))


def random(*shape: int, seed: int = 0) -> NDArray:
    return np.random.default_rng(seed).random(shape)


def logits(*shape: int) -> NDArray:
    return np.random.default_rng(1).normal(0, 3, shape)


def test_nanodet_and_yolox_by_values() -> None:
    rows = random(1, 2125, 112)
    assert narrowed((320, 320), output=rows) == {"yolox"}
    rows[..., -32:] = logits(1, 2125, 32)
    assert narrowed((320, 320), output=rows) == {"nanodet"}
    assert narrowed((320, 320), output=logits(1, 2125, 112)) == set()  # neither: asked


def test_yolov8_by_where_its_boxes_lie() -> None:
    x, y = np.meshgrid(np.arange(12) * 8 + 4, np.arange(8) * 8 + 4)
    output = np.full((1, 6, 126), 32.0)
    output[0, 0, :96], output[0, 1, :96] = x.ravel() + 9, y.ravel() - 9
    assert narrowed((96, 64), output0=output) == {"yolov8"}
    output[0, :4] /= 96
    assert narrowed((96, 64), output0=output) == {"yolov8"}
    assert narrowed((96, 64), output0=random(1, 6, 126)) == set()  # YOLOX's, turned: relative to the cells


def test_end_to_end_and_yolox_by_values() -> None:
    rows = random(1, 126, 6)
    assert narrowed((96, 64), output=rows) == {"yolox"}
    rows[..., 5] = 7
    assert narrowed((96, 64), output=rows) == {"end_to_end"}
    assert narrowed((96, 64), output=np.zeros((1, 126, 6))) == {"end_to_end"}  # nothing found
    rows[..., 5] = 0  # the only class
    rows[..., 4] = np.sort(rows[..., 4])[:, ::-1]
    assert narrowed((96, 64), output=rows) == {"end_to_end"}


def test_scores_and_boxes_by_values() -> None:
    scores, centres = random(1, 300, 4 + 1), random(1, 300, 4, seed=2)
    corners = np.concatenate([centres[..., :2], centres[..., :2] + centres[..., 2:]], 2)
    assert narrowed((320, 320), a=scores, b=corners) == {"ultraface"}
    assert narrowed((320, 320), a=logits(1, 300, 5), b=centres) == {"rfdetr"}
    assert narrowed((320, 320), a=scores, b=logits(1, 300, 4)) == {"ssd_raw"}
    assert narrowed((320, 320), a=logits(1, 300, 5), b=logits(1, 300, 4)) == {"ssd_raw"}


def no_sample() -> tuple[NDArray, ...]:
    raise AssertionError("asked for a run, which these outputs do not need")


def test_members_of_a_family_are_fed_their_own_way() -> None:
    def fed(name: str, outputs: dict, size: tuple[int, int], sample=no_sample, **properties: str) -> dict:
        return dict(default_input(name, specs(outputs), *size, properties, sample))

    plus = fed("nanodet", {"output": (1, 2125, 112)}, (320, 320))
    assert (plus["colour"], plus["resize"], plus["mean"]) == ("bgr", "stretch", (103.53, 116.28, 123.675))
    assert fed("nanodet", {"output": (1, 2100, 112)}, (320, 320))["resize"] == "letterbox"

    rows = {"output0": (1, 300, 6)}
    assert fed("end_to_end", rows, VGA, description="Ultralytics YOLO26n model")["resize"] == "letterbox"
    assert fed("end_to_end", rows, VGA, description="Ultralytics rtdetr-l model")["resize"] == "stretch"
    pixels = np.sort(random(1, 300, 6) * 640, 2)
    assert fed("end_to_end", rows, VGA, lambda: (pixels,))["resize"] == "letterbox"
    assert fed("end_to_end", rows, VGA, lambda: (random(1, 300, 6),))["resize"] == "stretch"

    assert fed("ssd", {"detection_out": (1, 1, 100, 7)}, (300, 300))["colour"] == "bgr"
    assert fed("yolov8", {"output0": (1, 84, 8400)}, VGA)["scale"] == 1 / 255


def test_constant_inputs() -> None:
    inputs = (TensorSpec("images", (1, 3, 640, 480), "float32"), TensorSpec("orig_target_sizes", (1, 2), "int64"))
    given = extra_inputs("rtdetr", inputs, 480, 640)
    assert {name: array.tolist() for name, array in given.items()} == {"orig_target_sizes": [[480, 640]]}
    assert given["orig_target_sizes"].dtype == np.int64
    assert extra_inputs("yolox", inputs, 480, 640) == {}
