"""SSD and EfficientDet with their selection in the graph, as TensorFlow's, Caffe's and the ONNX zoo's exports have it.

TensorFlow and TFLite: boxes (1, M, 4) as ymin, xmin, ymax, xmax in fractions of the image, classes (1, M), scores (1,
M) by falling score, count (1,). TFLite's classes count from 0 without background; `detection_classes` of a frozen
graph or an ONNX file count from 1. The order of a TFLite file's outputs depends on the exporter, and their names tell
little: boxes and count are told by shape, classes from scores by their values on a sample. Caffe (`detection_out`), and
OpenVINO's Open Model Zoo: one output (1, 1, N, 7) of image, class from 1, score, x1, y1, x2, y2 in fractions; a
negative image number ends the list. Sources: tensorflow/models export_tflite_ssd_graph.py and
export_tflite_graph_lib_tf2.py; tfhub.dev efficientdet/lite; Caffe SSD's DetectionOutput layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.decoders import NOTHING, Built, Candidates, Decode, Setup
from edge_vision.inference.decoders.common import finished, names, option, probabilities, whole, whole_numbers
from edge_vision.inference.errors import ModelError
from edge_vision.inference.onnx_header import TensorSpec

EXPECTS = (
    "boxes [1, M, 4], classes [1, M], scores [1, M] and count [1] in any order, or one output [1, 1, N, 7] "
    "(detection_out)"
)
NAMES = (frozenset({"detection_boxes", "detection_classes", "detection_scores"}), frozenset({"detection_out"}))
DEFAULT_INPUT: Mapping[str, Any] = {"colour": "rgb", "mean": (127.5,) * 3, "std": (127.5,) * 3, "resize": "stretch"}
DEFAULT_THRESHOLDS: Mapping[str, float] = {"score": 0.5, "iou": 0.6}
OPTIONS = {
    "order": "a list that says what each output is, of boxes, classes, scores, count and other; measured where absent",
    "first_class": "the number of the first class: 0 in TFLite files, 1 in detection_classes and detection_out",
}
ROLES = ("boxes", "classes", "scores", "count")


def _one_table(outputs: Sequence[TensorSpec]) -> bool:
    shape = outputs[0].shape
    return len(outputs) == 1 and len(shape) == 4 and shape[:2] == (1, 1) and shape[3] == 7


def _by_name(outputs: Sequence[TensorSpec]) -> dict[str, int] | None:
    named = names(outputs)
    wanted = {"boxes": "detection_boxes", "classes": "detection_classes", "scores": "detection_scores"}
    if not set(wanted.values()) <= set(named):
        return None
    return {role: named.index(name) for role, name in (*wanted.items(), ("count", "num_detections")) if name in named}


def _by_shape(outputs: Sequence[TensorSpec]) -> tuple[int, list[int], int] | None:
    """(boxes, the two of classes and scores, count), where the outputs are just those four."""
    shapes = [whole(spec.shape) for spec in outputs]
    if len(shapes) != 4 or any(shape is None for shape in shapes):
        return None
    boxes = [i for i, shape in enumerate(shapes) if shape and len(shape) == 3 and shape[0] == 1 and shape[2] == 4]
    if len(boxes) != 1:
        return None
    rows = outputs[boxes[0]].shape[:2]
    pair = [i for i, shape in enumerate(shapes) if shape == rows]
    rest = [i for i in range(4) if i not in (*boxes, *pair)]
    scalar = len(rest) == 1 and set(outputs[rest[0]].shape) <= {1}
    return (boxes[0], pair, rest[0]) if len(pair) == 2 and scalar else None


def classes_in(outputs: Sequence[TensorSpec], input_width: int, input_height: int) -> int | None:
    return 0 if _one_table(outputs) or _by_name(outputs) or _by_shape(outputs) else None


def default_input(
    outputs: Sequence[TensorSpec], width: int, height: int, properties: Mapping[str, str], sample: Callable[[], Any]
) -> Mapping[str, Any]:
    return {**DEFAULT_INPUT, "colour": "bgr"} if _one_table(outputs) else DEFAULT_INPUT


def _roles(setup: Setup) -> dict[str, int]:
    """What each output is: as stated, as named, or by shape and values."""
    order = setup.options.get("order")
    if order is not None:
        if not isinstance(order, (list, tuple)) or len(order) != len(setup.outputs) or not set(ROLES[:3]) <= set(order):
            remedy = f"list one of {', '.join(ROLES)} and other for each of the {len(setup.outputs)} outputs"
            raise ModelError(setup.file, f"is {order!r}", remedy, "decoder_options.order")
        return {role: list(order).index(role) for role in ROLES if role in order}
    named = _by_name(setup.outputs)
    if named:
        return named
    found = _by_shape(setup.outputs)
    if found is None:
        raise setup.misfit("ssd", "not boxes [1, M, 4], classes [1, M], scores [1, M] and count [1]")
    boxes, pair, count = found
    fits = [
        (classes, scores)
        for classes, scores in (pair, pair[::-1])
        if whole_numbers(setup.sample[classes]) and probabilities(setup.sample[scores])
    ]
    if len(fits) == 2:
        # Nothing but zeros and ones, as when nothing is found: order of the file. TF 2's files have scores first.
        stateful = any(spec.name.startswith("StatefulPartitionedCall") for spec in setup.outputs)
        fits = [(pair[1], pair[0]) if stateful else (pair[0], pair[1])]
    if not fits:
        problem = "neither output [1, M] holds class numbers with scores in the other"
        raise setup.misfit("ssd", problem, "state decoder_options.order, such as [boxes, classes, scores, count]")
    return {"boxes": boxes, "classes": fits[0][0], "scores": fits[0][1], "count": count}


def build(setup: Setup) -> Built:
    setup.check_options("ssd", OPTIONS)
    first = option(setup, "ssd", "first_class", int)
    size = np.array([setup.input_width, setup.input_height], np.float32)
    if setup.outputs and _one_table(setup.outputs):
        return finished(setup, _table_decoder(size, 1 if first is None else first), None, suppress=False)
    roles = _roles(setup)
    if first is None:
        first = 1 if names(setup.outputs)[roles["classes"]] == "detection_classes" else 0
    return finished(setup, _lists_decoder(roles, size, first), None, suppress=False)


def _lists_decoder(roles: Mapping[str, int], size: NDArray[np.float32], first: int) -> Decode:
    at_boxes, at_classes, at_scores, at_count = *(roles[role] for role in ROLES[:3]), roles.get("count")
    factors = np.tile(size, 2)

    def decode(outputs: Sequence[NDArray], threshold: float) -> Candidates:
        scores = outputs[at_scores].reshape(-1)
        if at_count is not None:
            scores = scores[: int(outputs[at_count].reshape(-1)[0])]  # what follows is whatever lay there
        index = (scores >= threshold).nonzero()[0]
        if not len(index):
            return NOTHING
        boxes = outputs[at_boxes].reshape(-1, 4).take(index, 0)[:, [1, 0, 3, 2]] * factors
        class_ids = outputs[at_classes].reshape(-1).take(index).astype(np.int64) - first
        return _real(boxes, scores.take(index), class_ids)

    return decode


def _table_decoder(size: NDArray[np.float32], first: int) -> Decode:
    factors = np.tile(size, 2)

    def decode(outputs: Sequence[NDArray], threshold: float) -> Candidates:
        rows = outputs[0].reshape(-1, 7)
        ends = (rows[:, 0] < 0).nonzero()[0]
        if len(ends):
            rows = rows[: ends[0]]
        chosen = rows[rows[:, 2] >= threshold]
        if not len(chosen):
            return NOTHING
        return _real(chosen[:, 3:] * factors, chosen[:, 2].copy(), chosen[:, 1].astype(np.int64) - first)

    return decode


def _real(boxes: NDArray[np.float32], scores: NDArray[np.float32], class_ids: NDArray[np.int64]) -> Candidates:
    """Without rows of background, which is the number before the first class's."""
    keep = class_ids >= 0
    if keep.all():
        return Candidates(boxes, scores, class_ids)
    return Candidates(boxes[keep], scores[keep], class_ids[keep])
