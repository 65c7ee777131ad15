"""Binarised convolutions: bits against the same sums in float, graphs trained and shipped, and the pass."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx", reason="binarised graphs need onnx")
ort = pytest.importorskip("onnxruntime", reason="the reference is ONNX Runtime")

from onnx import numpy_helper  # noqa: E402

from edge_vision.optimize.architectures.plain import plain_cnn  # noqa: E402
from edge_vision.optimize.architectures.writing import pixels  # noqa: E402
from edge_vision.optimize.binary import bits  # noqa: E402
from edge_vision.optimize.binary.graphs import binary_layers  # noqa: E402
from edge_vision.optimize.binary.kernel import BinaryConvolution  # noqa: E402
from edge_vision.optimize.binary.network import BinaryNetwork, binary_bytes  # noqa: E402
from edge_vision.optimize.data import Data, Split  # noqa: E402
from edge_vision.optimize.network import Network  # noqa: E402
from edge_vision.optimize.passes import Context, Outcome, PassError, optimisation_pass  # noqa: E402

LABELS = ("blue", "green", "red")


def float_sums(positive, weights, strides, pads) -> np.ndarray:
    """The convolution of signs as its definition has it."""
    top, left, bottom, right = pads
    x = np.pad(np.where(positive, 1.0, -1.0), ((0, 0), (top, bottom), (left, right)), constant_values=1.0)
    signs = np.where(weights >= 0, 1.0, -1.0)
    windows = np.lib.stride_tricks.sliding_window_view(x, weights.shape[2:], (1, 2))
    return np.einsum("chwyx,ocyx->ohw", windows[:, :: strides[0], :: strides[1]], signs)


@settings(max_examples=40)
@given(
    channels=st.integers(1, 140),
    outputs=st.integers(1, 9),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    seed=st.integers(0, 10**6),
)
def test_sums_of_bits_are_those_of_the_definition(channels, outputs, kernel, strides, pads, seed):
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 1, (outputs, channels, *kernel))
    positive = rng.random((channels, 5, 6)) < 0.5
    found = BinaryConvolution(weights, strides, pads)(positive)
    np.testing.assert_array_equal(found, float_sums(positive, weights, strides, pads))


def test_signs_are_stored_in_one_bit_each():
    weights = np.random.default_rng(0).normal(0, 1, (5, 7, 3, 3))
    packed = bits.packed_bytes(weights)
    assert packed.nbytes == -(-weights.size // 8) == BinaryConvolution(weights).stored_bytes
    np.testing.assert_array_equal(bits.unpacked(packed, weights.shape), np.where(weights >= 0, 1, -1))


def test_bits_are_counted_the_same_without_numpy_2(monkeypatch):
    words = np.random.default_rng(0).integers(0, 2**63, (3, 50), dtype=np.uint64)
    expected = [[int(w).bit_count() for w in row] for row in words]
    np.testing.assert_array_equal(bits.bit_count(words), expected)
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    try:
        old = importlib.reload(bits)
        np.testing.assert_array_equal(old.bit_count(words), expected)
    finally:
        monkeypatch.undo()
        importlib.reload(bits)


def coloured(count: int = 96, seed: int = 0) -> Split:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, count)
    images = rng.integers(60, 140, (count, 32, 32, 3))
    images[np.arange(count), :, :, truth] += 40
    return Split(images.astype(np.uint8), truth.astype(np.int64), np.arange(count) // 8)


@pytest.fixture(scope="module")
def data() -> Data:
    return Data("coloured", LABELS, coloured(), coloured(16, 5), coloured(48, 6), lambda w, h: pytest.fail("one size"))


def run(network: Network, data: Data, work: Path, **options) -> Outcome:
    chosen = optimisation_pass("binarise")
    return chosen.apply(network, chosen.Options(batch=16, **options), Context(work, data, threads=1))


@pytest.fixture(scope="module")
def binarised(data, tmp_path_factory) -> Outcome:
    pytest.importorskip("torch", reason="training needs PyTorch")
    network = plain_cnn(LABELS, pixels(32, 32), channels=(32, 32, 32))
    clean = optimisation_pass("clean_up")
    network = clean.apply(network, clean.Options(), Context(tmp_path_factory.mktemp("clean"))).network
    return run(network, data, tmp_path_factory.mktemp("work"), epochs=24, rate=0.01)


def logits(proto, images: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: images[i : i + 1]})[0] for i in range(len(images))])


def test_a_binarised_network_learns_and_runs_in_onnx_runtime(binarised, data):
    found = logits(binarised.network.proto, data.test.images).reshape(len(data.test), -1).argmax(1)
    assert (found == data.test.truth).mean() > 0.9
    assert binarised.facts["layers"] == ["layer2.weight", "layer3.weight"]
    assert any("first" in line for line in binarised.refused)


def test_its_weights_are_stored_as_bits(binarised):
    proto = binarised.network.proto
    assert binary_bytes(proto) == binarised.facts["binary_bytes"] == 2 * 32 * 32 * 9 // 8
    floats = [numpy_helper.to_array(i) for i in proto.graph.initializer if i.data_type == 1]
    assert max(f.size for f in floats) <= 32 * 3 * 9
    layers = binary_layers(proto)
    assert [layer.weights.shape for layer in layers] == [(32, 32, 3, 3)] * 2
    assert all(set(np.unique(layer.weights)) == {-1.0, 1.0} for layer in layers)


def test_computing_with_bits_gives_the_sums_of_float_exactly(binarised, data):
    proto = binarised.network.proto
    whole = onnx.ModelProto()
    whole.CopyFrom(proto)
    layers = binary_layers(proto)
    for layer in layers:
        whole.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in (layer.source, layer.output))
    session = ort.InferenceSession(whole.SerializeToString(), providers=["CPUExecutionProvider"])
    network = BinaryNetwork(proto)
    for image in data.test.images[:4]:
        result, *inner = session.run(None, {session.get_inputs()[0].name: image[None]})
        for place in range(len(layers)):
            np.testing.assert_array_equal(network.binary(place, inner[2 * place]), inner[2 * place + 1])
        np.testing.assert_allclose(network(image[None])[0], result, rtol=1e-4, atol=1e-4)


def test_a_graph_without_binarised_convolutions_is_refused():
    with pytest.raises(ValueError, match="apply the pass"):
        BinaryNetwork(plain_cnn(LABELS, pixels(32, 32)).proto)


def test_layers_that_cannot_be_binarised_are_named(data, tmp_path):
    pytest.importorskip("torch", reason="training needs PyTorch")
    network = plain_cnn(LABELS, pixels(32, 32), channels=(8, 16))
    with pytest.raises(PassError, match=r"8 inputs are fewer than 32"):
        run(network, data, tmp_path)


def test_gradients_pass_signs_near_their_threshold():
    torch = pytest.importorskip("torch", reason="training needs PyTorch")
    from edge_vision.optimize.training.operators import binarised as signs

    x = torch.tensor([[-0.2, 0.1, 0.3, -0.1, 0.0, 30.0]], requires_grad=True)
    threshold = torch.zeros(1, 1, requires_grad=True)
    found = signs(x, threshold, clipped=True)
    assert found.tolist() == [[-1.0, 1.0, 1.0, -1.0, 1.0, 1.0]]
    found.sum().backward()
    assert x.grad is not None
    assert threshold.grad is not None
    assert x.grad.tolist() == [[1.0] * 5 + [0.0]]
    assert float(threshold.grad) == -5.0
