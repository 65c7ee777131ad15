"""MobileNetV2 and the plain network: graphs as the paper has them, seeded, that run as bundles."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edge_vision.datatypes import Frame
from edge_vision.inference.classifier import Classifier
from edge_vision.optimize.architectures import mobilenet_v2, pixels, plain_cnn
from edge_vision.optimize.architectures.mobilenet_v2 import rounded
from edge_vision.optimize.network import Network
from edge_vision.optimize.saving import write_bundle

LABELS = ("bolt", "gear", "nut")


def weights(network: Network) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in network.proto.graph.initializer}


def test_width_one_has_the_parameters_of_the_paper() -> None:
    network = mobilenet_v2(tuple(f"class_{i}" for i in range(1000)), pixels(224, 224))
    onnx.checker.check_model(network.proto, full_check=True)
    trained = [a for name, a in weights(network).items() if not name.endswith((".mean", ".var")) and a.ndim]
    # The paper says 3.4 M; torchvision's and Keras' have just these.
    assert sum(array.size for array in trained) == 3_504_872
    kinds = [node.op_type for node in network.proto.graph.node]
    assert (kinds.count("Conv"), kinds.count("BatchNormalization"), kinds.count("Add")) == (52, 52, 10)
    assert kinds[:3] == ["Cast", "Transpose", "Mul"]


@pytest.mark.parametrize(("width", "parameters"), [(0.35, 396_128), (0.5, 687_680), (0.75, 1_355_424)])
def test_narrower_ones_have_those_of_keras_without_its_head(width: float, parameters: int) -> None:
    network = mobilenet_v2(LABELS, pixels(64, 64), width=width)
    body = {k: a for k, a in weights(network).items() if not k.endswith((".mean", ".var")) and a.ndim}
    assert sum(array.size for k, array in body.items() if not k.startswith("classifier")) == parameters


def test_the_same_seed_gives_the_same_weights_spread_by_the_fan_out() -> None:
    first, again, other = (weights(mobilenet_v2(LABELS, pixels(64, 64), width=0.35, seed=s)) for s in (1, 1, 2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["stem.weight"], other["stem.weight"])
    std = first["last.weight"].std()
    assert std == pytest.approx(np.sqrt(2 / 1280), rel=0.02)


@pytest.mark.parametrize("probabilities", [False, True])
def test_it_runs_as_a_bundle(tmp_path, probabilities: bool) -> None:  # type: ignore[no-untyped-def]
    network = mobilenet_v2(LABELS, pixels(48, 64), width=0.35, last=64, probabilities=probabilities)
    bundle = write_bundle(network, tmp_path / "net")
    assert (bundle.task, bundle.labels, bundle.input) == ("classify", LABELS, network.input)
    image = np.random.default_rng(0).integers(0, 256, (80, 70, 3), dtype=np.uint8)
    with Classifier.load(bundle, backend="onnxruntime") as classifier:
        found = classifier.classify(Frame(image), np.array([[0, 0, 70, 80], [10, 10, 30, 40]]))
    assert found.shape == (2, 3)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


def test_floats_in_planes_give_the_same_as_pixels(tmp_path) -> None:  # type: ignore[no-untyped-def]
    image = Frame(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    spec = pixels(32, 32)
    planes = dataclasses.replace(spec, layout="nchw", dtype="float32", scale=1 / 255)
    rows = []
    for name, given in (("pixels", spec), ("planes", planes)):
        bundle = write_bundle(plain_cnn(LABELS, given, seed=3), tmp_path / name)
        with Classifier.load(bundle, backend="onnxruntime") as classifier:
            rows.append(classifier.classify(image))
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-6)


def test_a_batch_left_as_it_is_asked_for() -> None:
    spec = dataclasses.replace(pixels(32, 32), batch=4)
    network = plain_cnn(LABELS, spec)
    dims = [d.dim_value for d in network.proto.graph.input[0].type.tensor_type.shape.dim]
    assert dims == [4, 32, 32, 3]


def test_channels_are_multiples_of_eight() -> None:
    assert [rounded(c) for c in (1, 11.2, 12, 24 * 0.75, 33.6, 320 * 0.35)] == [8, 16, 16, 24, 32, 112]


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two classes"):
        mobilenet_v2(("one",), pixels(64, 64))
    with pytest.raises(ValueError, match="width is 0"):
        mobilenet_v2(LABELS, pixels(64, 64), width=0)
    with pytest.raises(ValueError, match="too small"):
        mobilenet_v2(LABELS, pixels(16, 64))
    with pytest.raises(ValueError, match="one layer"):
        plain_cnn(LABELS, pixels(32, 32), channels=())
