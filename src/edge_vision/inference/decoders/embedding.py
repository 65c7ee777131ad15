"""A row of numbers for each crop: re-identification networks, whose rows lie close together for the same object.

One output (N, D) or (N, D, 1, 1), as OSNet (torchreid), fast-reid, OpenVINO's person- and vehicle-reidentification and
most others have. Models of this task are fed crops (`embedding.Embedder`) and find no boxes. Many are trained at 256 x
128 on RGB with ImageNet's mean and deviation, which is the default here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from edge_vision.inference.decoders import NOTHING, Built, Candidates, Setup
from edge_vision.inference.onnx_header import TensorSpec

EXPECTS = "one output [crops, D] or [crops, D, 1, 1]: an embedding of each crop (task re-identification, no boxes)"
DEFAULT_INPUT: Mapping[str, Any] = {
    "colour": "rgb",
    "scale": 1.0,
    "mean": (123.675, 116.28, 103.53),
    "std": (58.395, 57.12, 57.375),
    "resize": "stretch",
}
DEFAULT_THRESHOLDS: Mapping[str, float] = {"score": 0.0, "iou": 1.0}


def classes_in(outputs: Sequence[TensorSpec], input_width: int, input_height: int) -> int | None:
    """None: a row of numbers may as well be a classifier's."""
    return None


def build(setup: Setup) -> Built:
    """Checks the shape; the decoder finds nothing, in whatever."""
    setup.check_options("embedding", {})
    if len(setup.sample) != 1:
        remedy = "list the embedding alone under `outputs` of the variant"
        raise setup.misfit("embedding", f"{len(setup.sample)} outputs", remedy)
    shape = setup.sample[0].shape
    if len(shape) < 2 or shape[1] < 2 or any(size != 1 for size in shape[2:]):
        raise setup.misfit(
            "embedding", "not one row a crop", "export the network with its pooling and without its head"
        )

    def decode(outputs: Sequence[NDArray], threshold: float) -> Candidates:
        return NOTHING

    return Built(decode, 0, suppress=True)
