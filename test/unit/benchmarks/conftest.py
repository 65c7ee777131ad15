"""A detector of one convolution, small enough to be measured in milliseconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_vision.inference import load_bundle
from edge_vision.inference.bundle import Bundle

CELL, CLASSES = 16, 2


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """FastestDet's layout on 96x64: one convolution over each cell of 16x16, a sigmoid, and smaller boxes."""
    channels = 5 + CLASSES
    rng = np.random.default_rng(3)
    weights = rng.normal(0, 0.4, (channels, 3, CELL, CELL)).astype(np.float32)
    factors = np.ones((1, channels, 1, 1), np.float32)
    factors[0, 3:5] = -4.0
    nodes = [
        helper.make_node("Conv", ["images", "weights"], ["raw"], strides=[CELL, CELL], kernel_shape=[CELL, CELL]),
        helper.make_node("Sigmoid", ["raw"], ["shares"]),
        helper.make_node("Mul", ["shares", "factors"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 96])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, channels, 64 // CELL, 96 // CELL])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(factors, "factors")],
    )
    path = tmp_path_factory.mktemp("tiny") / "tiny.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.fixture(scope="session")
def tiny_bundle(tiny_model) -> Bundle:
    return load_bundle(tiny_model, decoder="fastestdet")
