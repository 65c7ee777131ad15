"""At most so many different weights, chosen as well as can be, and shared after training too."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("sklearn", reason="scikit-learn is not installed")

import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_vision.inference.bundle import load_bundle
from edge_vision.optimize.data import Data, Split
from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import Context, PassError
from edge_vision.optimize.passes import prune as pruning
from edge_vision.optimize.passes.cluster import Options, apply
from edge_vision.optimize.weights.clusters import INITIALISATIONS, best_centroids, clustered, error
from edge_vision.optimize.weights.selection import Selection, choose
from edge_vision.optimize.weights.statistics import importance_of, input_moments

CARD = """format: 1
name: toy
task: classify
decoder: classification
labels: [a, b, c]
input: {width: 10, height: 10, layout: nchw, dtype: float32, colour: bgr, scale: 0.00392156862745098, resize: stretch}
variants: [{backend: onnxruntime, precision: fp32, file: model.onnx}]
"""


def classifier() -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    shapes = {"first": (8, 3, 3, 3), "middle": (24, 8, 3, 3), "narrow": (16, 24, 1, 1), "head": (16, 3)}
    tensors = [
        numpy_helper.from_array((rng.normal(size=s) * np.sqrt(2 / np.prod(s[1:]))).astype(np.float32), name)
        for name, s in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["images", "first"], ["c0"], strides=[2, 2]),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "middle"], ["c1"], pads=[1, 1, 0, 0], strides=[2, 2]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "narrow"], ["c2"]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("ReduceMean", ["r2"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "head"], ["logits"]),
    ]
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 10, 10])
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])
    graph = helper.make_graph(nodes, "toy", [image], [out], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def network(tmp_path: Path) -> Network:
    proto = classifier()
    onnx.save(proto, tmp_path / "model.onnx")
    (tmp_path / "model.yaml").write_text(CARD, encoding="utf-8")
    return Network(proto, load_bundle(tmp_path))


def data() -> Data:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 64)
    images = rng.integers(0, 120, (64, 10, 10, 3))
    images[np.arange(64), :, :, truth] += 100
    split = Split(images.astype(np.uint8), truth.astype(np.int64), np.arange(64) // 8)
    return Data("toy", ("a", "b", "c"), split, split, split, lambda width, height: data())


def weights(network: Network) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in network.proto.graph.initializer}


@pytest.mark.parametrize("init", INITIALISATIONS)
def test_a_tensor_has_at_most_so_many_values(network: Network, tmp_path: Path, init: str) -> None:
    outcome = apply(network, Options(clusters=8, init=init, layers={"nar.*": 5}), Context(tmp_path))
    before, after = weights(network), weights(outcome.network)
    assert outcome.facts["layers"] == {"middle": len(np.unique(after["middle"])), "narrow": 5}
    assert len(np.unique(after["middle"])) <= 8
    assert 0 < error(before["middle"], after["middle"]) < 0.1
    np.testing.assert_array_equal(after["first"], before["first"])
    np.testing.assert_array_equal(after["head"], before["head"])


def test_zeros_stay_and_count_as_a_value(network: Network, tmp_path: Path) -> None:
    sparse = pruning.apply(network, pruning.Options(sparsity=0.6, scope="layer"), Context(tmp_path)).network
    after = weights(apply(sparse, Options(clusters=8), Context(tmp_path)).network)
    for name in ("middle", "narrow"):
        assert len(np.unique(after[name])) == 8
        np.testing.assert_array_equal(after[name] == 0, weights(sparse)[name] == 0)
    freely = weights(apply(sparse, Options(clusters=8, keep_sparsity=False), Context(tmp_path)).network)
    assert len(np.unique(freely["middle"])) <= 8


def test_groups_of_channels_have_values_of_their_own(network: Network, tmp_path: Path) -> None:
    outcome = apply(network, Options(clusters=4, groups=3, keep_heads=False, least_size=0), Context(tmp_path))
    after = weights(outcome.network)
    for part in np.array_split(after["middle"], 3):
        assert len(np.unique(part)) == 4
    assert len(np.unique(after["middle"])) == 12
    for part in np.array_split(after["head"], 3, axis=1):
        assert len(np.unique(part)) <= 4
    one = apply(network, Options(clusters=4), Context(tmp_path))
    assert outcome.facts["error"] < one.facts["error"]


def test_the_best_clusters_are_found() -> None:
    rng = np.random.default_rng(2)
    values = np.sort(rng.integers(-40, 40, 14).astype(np.float32))
    found = clustered(values, 3)
    best = min(
        sum(float(np.square(p - p.mean()).sum()) for p in np.split(values.astype(np.float64), [i, j]))
        for i, j in itertools.combinations(range(1, len(values)), 2)
    )
    assert float(np.square(values - found).sum()) == pytest.approx(best, rel=1e-5)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 400), st.integers(2, 20), st.integers(0, 99), st.sampled_from(INITIALISATIONS), st.booleans())
def test_clusters_hold_for_any_weights(size: int, count: int, seed: int, init: str, keep_zeros: bool) -> None:
    rng = np.random.default_rng(seed)
    values = rng.standard_t(3, size).astype(np.float32)
    values[rng.random(size) < 0.4] = 0
    found = clustered(values, count, init=init, keep_zeros=keep_zeros, importance=rng.random(size) + 0.1)
    assert len(np.unique(found)) <= count
    assert found.dtype == np.float32
    if keep_zeros:
        np.testing.assert_array_equal(found == 0, values == 0)
    assert values.min() - 1e-6 <= found.min() <= found.max() <= values.max() + 1e-6


def test_the_best_start_is_no_worse_than_another() -> None:
    values = np.random.default_rng(3).standard_t(4, 5000).astype(np.float32)
    errors = {init: error(values, clustered(values, 12, init=init)) for init in INITIALISATIONS}
    assert errors["optimal"] <= min(errors.values()) * 1.002
    assert len(best_centroids(np.float32([1, 1, 2]), 5)) == 2


def test_errors_count_by_what_inputs_carry(network: Network, tmp_path: Path) -> None:
    chosen, _ = choose(network.proto, Selection(keep_first=False, keep_heads=False, least_size=0))
    images = np.random.default_rng(4).random((3, 3, 10, 10)).astype(np.float32)
    moments = input_moments(network.proto, chosen, images)
    assert {name: len(m.mean) for name, m in moments.items()} == {"first": 27, "middle": 72, "narrow": 24, "head": 16}
    patches = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
    rows = patches.transpose(0, 2, 3, 1, 4, 5).reshape(-1, 27).astype(np.float64)
    np.testing.assert_allclose(moments["first"].second, rows.T @ rows / len(rows), rtol=1e-5)
    np.testing.assert_allclose(moments["first"].mean, rows.mean(0), rtol=1e-5)
    first = chosen[0]
    np.testing.assert_allclose(
        importance_of(first.weight, moments, first)[2].reshape(-1), np.diag(moments["first"].second)
    )
    head = chosen[-1]
    carried = np.diag(moments["head"].second)  # some inputs are never seen, and are not worth nothing for that
    expected = np.maximum(carried, 1e-3 * carried.mean())
    np.testing.assert_allclose(importance_of(head.weight, moments, head)[:, 1], expected)

    def output_error(importance: str) -> float:
        outcome = apply(network, Options(clusters=4, importance=importance), Context(tmp_path, data()))
        apart = (weights(network)["narrow"] - weights(outcome.network)["narrow"]).reshape(16, 24).astype(np.float64)
        return float(np.trace(apart @ seen["narrow"].second @ apart.T))

    batch = data().calibration.images.transpose(0, 3, 1, 2).astype(np.float32) / 255
    seen = input_moments(network.proto, chosen, batch)
    assert output_error("inputs") < output_error("equal")


def test_images_that_are_missing_are_told(network: Network, tmp_path: Path) -> None:
    with pytest.raises(PassError, match="needs calibration images"):
        apply(network, Options(importance="inputs"), Context(tmp_path))
    with pytest.raises(PassError, match="no layer to cluster"):
        apply(network, Options(only=("none",)), Context(tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"clusters": 1}, "clusters is 1"), ({"layers": {"x": 300}}, r"layers\.x is 300"), ({"groups": 0}, "groups")],
)
def test_options_that_cannot_be_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Options(**options)


def test_training_moves_clusters_as_one(network: Network, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch trains: pip install torch")
    sparse = pruning.apply(network, pruning.Options(sparsity=0.5, scope="layer"), Context(tmp_path)).network
    options = Options(clusters=6, epochs=3, batch=16, rate=3e-3, alpha=0.0, validation=0.0, device="cpu")
    outcome = apply(sparse, options, Context(tmp_path, data(), network, threads=1))
    after = weights(outcome.network)
    plain = weights(apply(sparse, Options(clusters=6), Context(tmp_path)).network)
    for name in ("middle", "narrow"):
        assert len(np.unique(after[name])) <= 6
        np.testing.assert_array_equal(after[name] == 0, weights(sparse)[name] == 0)
        assert not np.array_equal(after[name], plain[name])
    assert outcome.facts["training"]["KeepClusters"] == 2
    assert outcome.facts["training"]["train_loss"][1] < outcome.facts["training"]["train_loss"][0]
