"""Networks built from nothing, as ONNX graphs with batch normalisation, for `training`.

    network = mobilenet_v2(LABELS, pixels(64, 64), width=0.35, seed=1)

Weights are drawn from `seed`; nothing is trained.
"""

from edge_vision.optimize.architectures.mobilenet_v2 import mobilenet_v2
from edge_vision.optimize.architectures.plain import plain_cnn
from edge_vision.optimize.architectures.writing import pixels

__all__ = ["mobilenet_v2", "pixels", "plain_cnn"]
