"""half and depthwise: fewer bits, and convolutions in two parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge_vision.inference.bundle import Bundle, Thresholds, load_bundle
from edge_vision.inference.preprocess import InputSpec
from edge_vision.optimize.graphs.running import compare, random_images, tensors
from edge_vision.optimize.graphs.shapes import multiply_accumulates
from edge_vision.optimize.graphs.view import View
from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import Context, PassError, depthwise, half
from edge_vision.optimize.passes.depthwise import separated

SPEC = InputSpec(16, 8, scale=1 / 255)
FLOAT = TensorProto.FLOAT


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(tmp_path, threads=1)


def bundled(repository: Path) -> Network:
    bundle = load_bundle(repository / "models" / "conveyor_parts")
    return Network(onnx.load(str(bundle.variants[0].path)), bundle)


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def network_of(nodes: list, tables: dict[str, np.ndarray], opset: int = 17) -> Network:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", FLOAT, [1, 3, 8, 16])],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tables.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    bundle = Bundle("test", "detect", "yolox", ("a",), SPEC, Thresholds(), (), Path("."), Path("model.yaml"))
    return Network(proto, bundle)


def two_layers(opset: int = 17) -> Network:
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], pads=[1, 1, 1, 1], strides=[2, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["y"], pads=[1, 1, 1, 1]),
    ]
    return network_of(nodes, {"w1": weights(16, 3, 3, 3), "b1": weights(16), "w2": weights(8, 16, 3, 3)}, opset)


def types(network: Network) -> dict[str, int]:
    return {tensor.name: tensor.data_type for tensor in network.proto.graph.initializer}


def test_float16_throughout_but_for_inputs_and_outputs(repository: Path, context: Context) -> None:
    network = bundled(repository)
    outcome = half.apply(network, half.Options(), context)
    proto = outcome.network.proto
    onnx.checker.check_model(proto, full_check=True)
    assert outcome.facts["bytes"][1] < 0.52 * outcome.facts["bytes"][0]
    assert {proto.graph.input[0].type.tensor_type.elem_type, proto.graph.output[0].type.tensor_type.elem_type} == {
        TensorProto.UINT8,
        FLOAT,
    }
    layers = {layer.name for layer in View(network.proto).layers}
    assert {types(outcome.network)[name] for name in layers} == {TensorProto.FLOAT16}
    assert outcome.facts["rms_difference"] < 0.005


@pytest.mark.parametrize(("kind", "number"), [("fp16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)])
def test_stored_in_16_bits_and_computed_in_32(kind: str, number: int, repository: Path, context: Context) -> None:
    network = bundled(repository)
    outcome = half.apply(network, half.Options(kind, compute="float32"), context)
    assert outcome.facts["bytes"][1] < 0.53 * outcome.facts["bytes"][0]
    assert [layer.name for layer in View(outcome.network.proto).layers] == [
        layer.name for layer in View(network.proto).layers
    ]
    assert all(types(outcome.network)[layer.name] == number for layer in View(network.proto).layers)
    # Biases and what is computed stay as they were: rounding of the weights is all that may be seen.
    assert outcome.facts["rms_difference"] < (0.002 if kind == "fp16" else 0.02)


def test_kept_layers_stay_float32(context: Context) -> None:
    for options in (half.Options(keep=("w2",)), half.Options(compute="float32", keep=("w2",))):
        outcome = half.apply(two_layers(), options, context)
        assert types(outcome.network)["w1"] == TensorProto.FLOAT16
        assert types(outcome.network)["w2"] == FLOAT
        assert len(outcome.refused) == 1


def test_what_overflows_is_an_error(context: Context) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"]), helper.make_node("Conv", ["a", "v"], ["y"])]
    large = {"w": 3e4 * np.ones((4, 3, 1, 1), np.float32), "v": 1e-5 * weights(2, 4, 1, 1)}
    with pytest.raises(PassError, match="reach more than 65504, the most that float16 holds: a"):
        half.apply(network_of(nodes, large), half.Options(), context)
    assert half.apply(network_of(nodes, large), half.Options(compute="float32"), context).facts["rms_difference"] < 0.01
    assert half.apply(network_of(nodes, large), half.Options(keep=("Conv",)), context).facts["rms_difference"] < 0.01
    larger = {"w": 1e6 * np.ones((4, 3, 1, 1), np.float32), "v": weights(2, 4, 1, 1)}
    with pytest.raises(PassError, match=r"w \(1e\+06\)"):
        half.apply(network_of(nodes, larger), half.Options(), context)


def test_an_old_operator_set_has_no_bfloat16(context: Context) -> None:
    with pytest.raises(PassError, match="opset 11"):
        half.apply(two_layers(opset=11), half.Options("bf16"), context)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"type": "fp8"}, "type"),
        ({"compute": "int"}, "compute"),
        ({"type": "bf16", "compute": "half"}, "bf16"),
        ({"tolerance": 0}, "tolerance"),
    ],
)
def test_half_options_name_what_cannot_be(options: dict, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        half.Options(**options)


# depthwise ------------------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(st.integers(1, 9), st.integers(1, 6), st.sampled_from([(3, 3), (1, 3), (5, 5)]), st.integers(1, 3))
def test_the_nearest_of_its_rank(outputs: int, inputs: int, size: tuple[int, int], rank: int) -> None:
    weight = weights(outputs, inputs, *size, seed=outputs)
    depth, point, energy = separated(weight, rank)
    used = depth.shape[0] // inputs
    product = np.einsum("oir,irhw->oihw", point.reshape(outputs, inputs, used), depth.reshape(inputs, used, *size))
    error = np.square(product - weight).sum() / np.square(weight).sum()
    assert np.isclose(1 - error, energy, atol=1e-5)
    for i in range(inputs):  # no matrix of the rank is nearer (Eckart and Young)
        values = np.linalg.svd(weight[:, i].reshape(outputs, -1), compute_uv=False)
        left = np.square(product[:, i] - weight[:, i]).sum()
        assert np.isclose(left, np.square(values[rank:]).sum(), atol=1e-4)


def test_a_separable_convolution_is_found_again(context: Context) -> None:
    true = weights(16, 8, 1, 1) * weights(1, 8, 3, 3)
    nodes = [
        helper.make_node("Conv", ["x", "stem"], ["a"]),
        helper.make_node("Conv", ["a", "w", "b"], ["y"], pads=[2, 2, 2, 2], strides=[2, 2], dilations=[2, 2]),
    ]
    network = network_of(nodes, {"stem": weights(8, 3, 1, 1), "w": true, "b": weights(16)})
    outcome = depthwise.apply(network, depthwise.Options(), context)
    batch = tensors(random_images(SPEC, 2), SPEC)
    assert compare(network.proto, outcome.network.proto, batch).relative < 1e-5
    assert outcome.facts["layers"]["w"]["energy"] == 1
    assert outcome.facts["macs"][1] == sum(multiply_accumulates(outcome.network.proto).values())
    assert outcome.facts["macs"][1] < outcome.facts["macs"][0]


def test_more_filters_are_nearer_and_cost_more(context: Context) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "stem"], ["a"]),
        helper.make_node("Conv", ["a", "w"], ["y"], pads=[1, 1, 1, 1]),
    ]
    network = network_of(nodes, {"stem": weights(8, 3, 1, 1), "w": weights(64, 8, 3, 3)})
    found = [depthwise.apply(network, depthwise.Options(rank=rank), context) for rank in (1, 3)]
    batch = tensors(random_images(SPEC, 2), SPEC)
    far, near = (compare(network.proto, outcome.network.proto, batch).rms for outcome in found)
    assert near < far
    assert found[0].facts["macs"][1] < found[1].facts["macs"][1] < found[1].facts["macs"][0]


def test_bundled_detector_in_separable_parts(repository: Path, context: Context) -> None:
    network = bundled(repository)
    outcome = depthwise.apply(network, depthwise.Options(exclude=("stage4*",)), context)
    assert len(outcome.facts["layers"]) == 6
    assert outcome.facts["kept_macs"] < 0.6
    assert any("groups already" in line for line in outcome.refused)
    batch = tensors(random_images(network.input, 1), network.input)
    assert np.isfinite(compare(network.proto, outcome.network.proto, batch).largest)


def test_nothing_to_replace_is_an_error(context: Context) -> None:
    with pytest.raises(PassError, match="no convolution can be replaced"):
        depthwise.apply(two_layers(), depthwise.Options(least_energy=1.0), context)
    with pytest.raises(PassError, match="no convolution can be replaced"):
        depthwise.apply(two_layers(), depthwise.Options(layers=("none",)), context)


@pytest.mark.parametrize("options", [{"rank": 0}, {"least_energy": 2}, {"least_saving": 0.5}])
def test_depthwise_options_name_what_cannot_be(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        depthwise.Options(**options)
