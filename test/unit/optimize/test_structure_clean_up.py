"""clean_up: the same outputs from fewer nodes, in standard ONNX, with layers that keep their names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_vision.inference.bundle import Bundle, Thresholds, load_bundle
from edge_vision.inference.preprocess import InputSpec
from edge_vision.optimize.graphs.folding import fold_affine
from edge_vision.optimize.graphs.running import compare, random_images, tensors
from edge_vision.optimize.graphs.view import View
from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import Context, PassError
from edge_vision.optimize.passes.clean_up import Options, apply

SPEC = InputSpec(16, 8, scale=1 / 255)


def bundle_of(spec: InputSpec = SPEC) -> Bundle:
    return Bundle("test", "detect", "yolox", ("a", "b"), spec, Thresholds(), (), Path("."), Path("model.yaml"))


def network_of(nodes: list, tables: dict[str, np.ndarray], output: str = "y", sizes: list | None = None) -> Network:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes or [1, 3, 8, 16])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in tables.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return Network(proto, bundle_of())


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(tmp_path, threads=1)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture
def untidy() -> Network:
    """Batch normalisation, scalings, a dropout, identities, sizes computed while running, and a node for nobody."""
    nodes = [
        helper.make_node("Conv", ["x", "first.weight"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", "gamma", "beta", "mean", "variance"], ["b"], epsilon=1e-3),
        helper.make_node("Identity", ["b"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Dropout", ["d"], ["e"]),
        helper.make_node("Conv", ["e", "second.weight", "second.bias"], ["f"]),
        helper.make_node("Mul", ["two", "f"], ["g"]),
        helper.make_node("Sub", ["shift", "g"], ["h"]),
        helper.make_node("Shape", ["h"], ["size"]),
        helper.make_node("Gather", ["size", "one_index"], ["height"], axis=0),
        helper.make_node("Concat", ["head", "height", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["h", "target"], ["y"], doc_string="note"),
        helper.make_node("Relu", ["a"], ["nobody"]),
    ]
    tables = {
        "first.weight": normal(4, 3, 3, 3),
        "gamma": normal(4, seed=1),
        "beta": normal(4, seed=2),
        "mean": normal(4, seed=3),
        "variance": np.abs(normal(4, seed=4)) + 0.1,
        "second.weight": normal(5, 4, 1, 1, seed=5),
        "second.bias": normal(5, seed=6),
        "two": np.float32(2).reshape(()),
        "shift": normal(1, 5, 1, 1, seed=7),
        "one_index": np.array([1], np.int64),
        "head": np.array([1], np.int64),
        "rest": np.array([-1], np.int64),
    }
    return network_of(nodes, tables)


def test_outputs_stay_and_the_rest_goes(untidy: Network, context: Context) -> None:
    outcome = apply(untidy, Options(), context)
    proto = outcome.network.proto
    assert [node.op_type for node in proto.graph.node] == ["Conv", "Relu", "Conv", "Reshape"]
    assert [layer.name for layer in View(proto).layers] == ["first.weight", "second.weight"]
    assert outcome.facts["nodes"] == [13, 4]
    assert outcome.facts["folded_into_layers"] == 3
    batch = tensors(random_images(SPEC, 3, seed=5), SPEC)
    assert compare(untidy.proto, proto, batch).relative < 1e-5
    assert not proto.graph.value_info
    assert not any(node.doc_string for node in proto.graph.node)
    assert {item.domain for item in proto.opset_import} == {""}
    assert proto.ir_version == 8
    assert len(untidy.proto.graph.node) == 13  # the given one is not touched


def test_gemm_takes_what_follows_it(context: Context) -> None:
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["g"], transB=1),
        helper.make_node("BatchNormalization", ["g", "gamma", "beta", "mean", "variance"], ["n"]),
        helper.make_node("Div", ["n", "three"], ["y"]),
    ]
    tables = {
        "w": normal(4, 3),
        "b": normal(4),
        "gamma": normal(4, seed=1),
        "beta": normal(4, seed=2),
        "mean": normal(4, seed=3),
        "variance": np.ones(4, np.float32),
        "three": np.full((1, 4), 3, np.float32),
    }
    network = network_of(nodes, tables)
    outcome = apply(network, Options(), context)
    assert "BatchNormalization" not in {node.op_type for node in outcome.network.proto.graph.node}
    assert outcome.facts["folded_into_layers"] == 2
    assert outcome.facts["largest_difference"] < 1e-5


def test_what_is_read_twice_or_differs_from_place_to_place_stays(context: Context) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Mul", ["a", "map"], ["b"]),
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Add", ["c", "two"], ["d"]),
        helper.make_node("Add", ["d", "c"], ["e"]),
        helper.make_node("Add", ["b", "e"], ["y"]),
    ]
    tables = {"w": normal(2, 3, 1, 1), "map": normal(1, 1, 8, 16), "two": np.float32(2).reshape(())}
    network = network_of(nodes, tables)
    proto = network.copied_graph()
    assert fold_affine(proto) == 0
    assert apply(network, Options(), context).facts["largest_difference"] < 1e-5


def test_weights_of_two_layers_are_not_changed_for_one(context: Context) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Mul", ["a", "two"], ["b"]),
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Add", ["b", "c"], ["y"]),
    ]
    network = network_of(nodes, {"w": normal(2, 3, 1, 1), "two": np.float32(2).reshape(())})
    outcome = apply(network, Options(), context)
    assert outcome.facts["folded_into_layers"] == 1
    assert outcome.facts["largest_difference"] < 1e-5


def test_an_open_number_of_images_stays_open_unless_fixed(context: Context) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Shape", ["a"], ["size"]),
        helper.make_node("Reshape", ["a", "size"], ["y"]),
    ]
    network = network_of(nodes, {"w": normal(2, 3, 1, 1)}, sizes=["batch", 3, "height", "width"])
    kept = apply(network, Options(), context).network.proto
    dims = kept.graph.input[0].type.tensor_type.shape.dim
    assert dims[0].dim_param == "batch"
    assert [d.dim_value for d in dims[1:]] == [3, 8, 16]
    fixed = apply(network, Options(fix_batch=True), context).network.proto
    assert [d.dim_value for d in fixed.graph.output[0].type.tensor_type.shape.dim] == [1, 2, 8, 16]
    assert "Shape" not in {node.op_type for node in fixed.graph.node}


def test_equal_sizes_are_kept_once_and_equal_biases_each(context: Context) -> None:
    zero = np.zeros(2, np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"]),
        helper.make_node("Conv", ["x", "w2", "b2"], ["b"]),
        helper.make_node("Reshape", ["a", "s1"], ["c"]),
        helper.make_node("Reshape", ["b", "s2"], ["d"]),
        helper.make_node("Concat", ["c", "d"], ["y"], axis=2),
    ]
    size = np.array([1, 2, -1], np.int64)
    tables = {
        "w1": normal(2, 3, 1, 1),
        "w2": normal(2, 3, 1, 1, seed=1),
        "b1": zero,
        "b2": zero,
        "s1": size,
        "s2": size,
    }
    outcome = apply(network_of(nodes, tables), Options(), context)
    names = {tensor.name for tensor in outcome.network.proto.graph.initializer}
    assert {"w1", "w2", "b1", "b2"} <= names
    assert outcome.facts["doubles"] == 1


def test_a_graph_that_onnxruntime_refuses_is_an_error(context: Context) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"]), helper.make_node("NoSuchOperator", ["y"], ["z"])]
    network = network_of(nodes, {"w": normal(2, 3, 1, 1)}, output="z")
    with pytest.raises(PassError, match="ONNX Runtime does not take this graph"):
        apply(network, Options(), context)


def test_options_name_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="tolerance"):
        Options(tolerance=0)


def test_a_quantised_graph_stays_as_the_quantiser_made_it(context: Context) -> None:
    scales = {f"scale{i}": np.float32(0.02 * (i + 1)).reshape(()) for i in range(2)}
    zero = {"zero": np.int8(0).reshape(())}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale0", "zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "scale0", "zero"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "scale1", "zero"], ["wd"]),
        helper.make_node("Conv", ["xd", "wd"], ["a"]),
        helper.make_node("Identity", ["a"], ["b"]),
        helper.make_node("Mul", ["b", "two"], ["y"]),
    ]
    weight = np.random.default_rng(0).integers(-128, 128, (4, 3, 1, 1)).astype(np.int8)
    network = network_of(nodes, {"w": weight, "two": np.float32(2).reshape(()), **scales, **zero})
    outcome = apply(network, Options(), context)
    kinds = [node.op_type for node in outcome.network.proto.graph.node]
    assert sorted(kinds) == ["Conv", "DequantizeLinear", "DequantizeLinear", "Mul", "QuantizeLinear"]
    assert [layer.quantised for layer in View(outcome.network.proto).layers] == [True]
    assert outcome.facts["largest_difference"] == 0


def test_bundled_detector(repository: Path, context: Context) -> None:
    bundle = load_bundle(repository / "models" / "conveyor_parts")
    network = Network(onnx.load(str(bundle.variants[0].path)), bundle)
    outcome = apply(network, Options(), context)
    kinds = {node.op_type for node in outcome.network.proto.graph.node}
    assert not kinds & {"Shape", "Constant", "Identity"}
    assert outcome.facts["nodes"] == [103, 72]
    assert outcome.facts["largest_difference"] < 1e-5
    names = [{layer.name for layer in View(proto).layers} for proto in (network.proto, outcome.network.proto)]
    assert names[0] == names[1]


def test_real_detector(shared_data: Path, context: Context) -> None:
    bundle = load_bundle(shared_data / "models" / "fastestdet_coco.onnx")
    network = Network(onnx.load(str(bundle.variants[0].path)), bundle)
    outcome = apply(network, Options(), context)
    assert outcome.facts["nodes"][1] < outcome.facts["nodes"][0]
    assert outcome.facts["largest_difference"] < 1e-4
    assert outcome.refused == ()
