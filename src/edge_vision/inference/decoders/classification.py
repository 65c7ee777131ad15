"""A row of class scores for each crop or image: classification networks.

One output (N, classes) or (N, classes, 1, 1), logits or probabilities, as torchvision, timm, Keras and most others
have. Models of this task are fed crops (`classifier.Classifier`) and find no boxes. Many are trained at 224 x 224 on
RGB with ImageNet's mean and deviation, which is the default here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.decoders import NOTHING, Built, Candidates, Setup
from edge_vision.inference.decoders.common import option, probabilities
from edge_vision.inference.onnx_header import TensorSpec

EXPECTS = "one output [crops, classes] or [crops, classes, 1, 1]: a score of each class (task classify, no boxes)"
DEFAULT_INPUT: Mapping[str, Any] = {
    "colour": "rgb",
    "scale": 1.0,
    "mean": (123.675, 116.28, 103.53),
    "std": (58.395, 57.12, 57.375),
    "resize": "stretch",
}
DEFAULT_THRESHOLDS: Mapping[str, float] = {"score": 0.0, "iou": 1.0}
OPTIONS = {"softmax": "true where the output is logits, false where probabilities; measured where absent"}
_SUM = 0.1  # how far the sum of a row of probabilities may be from 1: 8 bits round each of them


def classes_in(outputs: Sequence[TensorSpec], input_width: int, input_height: int) -> int | None:
    """The length of a row; None where there is not just one row a crop."""
    shape = outputs[0].shape if len(outputs) == 1 else ()
    row = len(shape) >= 2 and shape[1] is not None and shape[1] > 1 and all(size in (1, None) for size in shape[2:])
    return shape[1] if row else None


def build(setup: Setup) -> Built:
    """Checks shape and options; the decoder finds no boxes, in whatever."""
    setup.check_options("classification", OPTIONS)
    option(setup, "classification", "softmax", bool)
    if len(setup.sample) != 1:
        remedy = "list the class scores alone under `outputs` of the variant"
        raise setup.misfit("classification", f"{len(setup.sample)} outputs", remedy)
    shape = setup.sample[0].shape
    if len(shape) < 2 or shape[1] < 2 or any(size != 1 for size in shape[2:]):
        raise setup.misfit("classification", "not one row of classes a crop", "export the network with its head")

    def decode(outputs: Sequence[NDArray], threshold: float) -> Candidates:
        return NOTHING

    return Built(decode, shape[1], suppress=True)


def needs_softmax(setup: Setup) -> bool:
    """Whether the rows are logits: by option `softmax`, else by the sample's values and their sum."""
    given = option(setup, "classification", "softmax", bool)
    if given is not None:
        return given
    rows = setup.sample[0].reshape(len(setup.sample[0]), -1).astype(np.float64)
    return not (probabilities(rows) and bool((np.abs(rows.sum(1) - 1) <= _SUM).all()))
