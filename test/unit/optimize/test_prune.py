"""Zeros where they are meant to be, as many as asked for, and kept while the rest is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("onnx", reason="onnx is not installed")

import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_vision.inference.bundle import load_bundle
from edge_vision.optimize.data import Data, Split
from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import Context, PassError
from edge_vision.optimize.passes.prune import Options, apply
from edge_vision.optimize.weights.sparsity import polynomial, smallest, smallest_of_all, two_of_four

LABELS = ("a", "b", "c")
CARD = """format: 1
name: toy
task: classify
decoder: classification
labels: [a, b, c]
input: {width: 12, height: 12, layout: nchw, dtype: float32, colour: bgr, scale: 0.00392156862745098, resize: stretch}
variants: [{backend: onnxruntime, precision: fp32, file: model.onnx}]
"""


def classifier(seed: int = 0) -> onnx.ModelProto:
    """Convolution, depthwise, two pointwise with a sum around one, mean, Gemm."""
    rng = np.random.default_rng(seed)

    def tensor(name: str, *shape: int) -> onnx.TensorProto:
        fan = int(np.prod(shape[1:]))
        return numpy_helper.from_array((rng.normal(size=shape) * np.sqrt(2 / fan)).astype(np.float32), name)

    tensors = [
        tensor("first", 16, 3, 3, 3),
        tensor("depthwise", 16, 1, 3, 3),
        tensor("wide", 32, 16, 1, 1),
        tensor("square", 32, 32, 3, 3),
        tensor("head", 3, 32),
        numpy_helper.from_array(np.zeros(3, np.float32), "bias"),
    ]
    nodes = [
        helper.make_node("Conv", ["images", "first"], ["c0"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "depthwise"], ["c1"], pads=[1, 1, 1, 1], group=16),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "wide"], ["c2"]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("Conv", ["r2", "square"], ["c3"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c3", "r2"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["r3"]),
        helper.make_node("GlobalAveragePool", ["r3"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "head", "bias"], ["logits"], transB=1),
    ]
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 12, 12])
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])
    graph = helper.make_graph(nodes, "toy", [image], [out], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def network(tmp_path: Path) -> Network:
    proto = classifier()
    onnx.save(proto, tmp_path / "model.onnx")
    (tmp_path / "model.yaml").write_text(CARD, encoding="utf-8")
    return Network(proto, load_bundle(tmp_path))


def patches(count: int, seed: int) -> Split:
    """Images whose brightest colour is their class."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, count)
    images = rng.integers(0, 120, (count, 12, 12, 3))
    images[np.arange(count), :, :, truth] += 100
    return Split(images.astype(np.uint8), truth.astype(np.int64), np.arange(count) // 8)


def data() -> Data:
    train = patches(96, 0)
    return Data("toy", LABELS, train, train, patches(96, 1), lambda width, height: data())


def weights(network: Network) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in network.proto.graph.initializer}


def zeros(array: np.ndarray) -> float:
    return 1 - np.count_nonzero(array) / array.size


def test_layers_lose_their_share_and_others_nothing(network: Network, tmp_path: Path) -> None:
    outcome = apply(network, Options(sparsity=0.7, scope="layer", layers={"wi.*": 0.25}), Context(tmp_path))
    before, after = weights(network), weights(outcome.network)
    assert zeros(after["square"]) == pytest.approx(0.7, abs=1e-3)
    assert zeros(after["wide"]) == 0.25
    for name in ("first", "depthwise", "head", "bias"):
        np.testing.assert_array_equal(after[name], before[name])
    kept = after["square"] != 0
    np.testing.assert_array_equal(after["square"][kept], before["square"][kept])
    assert np.abs(before["square"][~kept]).max() <= np.abs(before["square"][kept]).min()
    assert outcome.facts["layers"] == {"wide": 0.25, "square": round(zeros(after["square"]), 4)}
    assert [line.split(":")[0] for line in outcome.refused] == ["first", "depthwise", "head"]
    assert zeros(weights(network)["square"]) == 0  # what was given is not touched


@pytest.mark.parametrize("importance", ["lamp", "magnitude"])
def test_all_layers_together_lose_the_share(network: Network, tmp_path: Path, importance: str) -> None:
    options = Options(sparsity=0.6, importance=importance, keep_first=False, keep_depthwise=False, least_size=0)
    after = weights(apply(network, options, Context(tmp_path)).network)
    layers = [after[name] for name in ("first", "depthwise", "wide", "square")]
    assert 1 - sum(map(np.count_nonzero, layers)) / sum(a.size for a in layers) == pytest.approx(0.6, abs=1e-3)
    assert len({round(zeros(layer), 2) for layer in layers}) > 1


def test_two_of_every_four_along_the_inputs(network: Network, tmp_path: Path) -> None:
    after = weights(apply(network, Options(pattern="2:4", keep_heads=False, least_size=0), Context(tmp_path)).network)
    for name in ("wide", "square"):
        groups = np.moveaxis(after[name], 1, -1).reshape(-1, 4)
        assert ((groups != 0).sum(axis=1) == 2).all()
    assert ((after["head"].reshape(-1, 4) != 0).sum(axis=1) == 2).all()
    assert zeros(after["first"]) == 0


def test_names_and_limits_choose_layers(network: Network, tmp_path: Path) -> None:
    after = weights(apply(network, Options(exclude=("squ.*",)), Context(tmp_path)).network)
    assert (zeros(after["square"]), zeros(after["wide"])) == (0, 0.5)
    after = weights(apply(network, Options(only=("square",)), Context(tmp_path)).network)
    assert (zeros(after["square"]), zeros(after["wide"])) == (0.5, 0)
    with pytest.raises(PassError, match="no layer to prune"):
        apply(network, Options(least_size=10**6), Context(tmp_path))


def test_quantised_layers_are_refused(network: Network, tmp_path: Path) -> None:
    proto = network.copied_graph()
    for tensor in proto.graph.initializer:
        if tensor.name == "square":
            tensor.CopyFrom(numpy_helper.from_array(np.ones((32, 32, 3, 3), np.int8), "codes"))
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(0.01), "scale"))
    proto.graph.node.insert(0, helper.make_node("DequantizeLinear", ["codes", "scale"], ["square"]))
    outcome = apply(network.with_graph(proto), Options(), Context(tmp_path))
    assert any(line.startswith("codes: its weights are int8") for line in outcome.refused)
    assert list(outcome.facts["layers"]) == ["wide"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 1.0}, "sparsity is 1.0"),
        ({"layers": {"x": -0.1}}, r"layers\.x is -0.1"),
        ({"end": 0.0}, "end is 0.0"),
        ({"exclude": ("(",)}, "no regular expression"),
        ({"alpha": 2.0}, "alpha"),
        ({"epochs": -1}, "epochs is -1"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Options(**options)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.1, 1))
def test_the_schedule_grows_from_first_to_last(first: float, progress: float, end: float) -> None:
    last = first + (1 - first) * 0.9
    found = polynomial(progress, first, last, 0.0, end)
    assert first - 1e-9 <= found <= last + 1e-9
    assert polynomial(min(progress + 0.1, 1), first, last, 0.0, end) >= found - 1e-9
    assert polynomial(0, first, last, 0.0, end) == pytest.approx(first)
    assert polynomial(1, first, last, 0.0, end) == pytest.approx(last)


@given(st.integers(1, 200), st.floats(0, 0.99), st.integers(0, 99))
def test_masks_have_the_size_asked_for(size: int, sparsity: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=size)
    weight[rng.random(size) < 0.3] = 0
    mask = smallest(weight, sparsity)
    assert mask.sum() == round(sparsity * size)
    assert not mask.any() or np.abs(weight[mask]).max() <= np.abs(weight[~mask]).min(initial=np.inf)
    both = smallest_of_all({"a": weight, "b": 10 * weight}, sparsity)
    assert sum(m.sum() for m in both.values()) <= round(sparsity * 2 * size)


def test_what_is_no_multiple_of_four_stays() -> None:
    mask = two_of_four(np.ones((2, 6)), axis=1)
    np.testing.assert_array_equal(mask.sum(axis=1), [2, 2])
    assert not mask[:, 4:].any()


@pytest.mark.parametrize("schedule", ["polynomial", "constant"])
def test_training_recovers_and_keeps_the_zeros(network: Network, tmp_path: Path, schedule: str) -> None:
    pytest.importorskip("torch", reason="PyTorch trains: pip install torch")
    options = Options(
        sparsity=0.8, schedule=schedule, epochs=3, batch=16, rate=3e-3, alpha=0.0, validation=0.0, device="cpu"
    )
    outcome = apply(network, options, Context(tmp_path, data(), network, threads=1))
    after = weights(outcome.network)
    layers = [after["wide"], after["square"]]
    assert 1 - sum(map(np.count_nonzero, layers)) / sum(a.size for a in layers) == pytest.approx(0.8, abs=1e-3)
    loss = outcome.facts["training"]["train_loss"]
    assert loss[1] < loss[0]
    assert not np.array_equal(after["first"], weights(network)["first"])


def test_training_without_data_is_refused(network: Network, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch trains: pip install torch")
    with pytest.raises(PassError, match="needs images"):
        apply(network, Options(epochs=1), Context(tmp_path, None, network))
