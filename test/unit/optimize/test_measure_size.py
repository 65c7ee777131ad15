"""Bytes, parameters, zeros and distinct values against models made for it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed")

import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_vision.optimize.measure.size import measure_size

RNG = np.random.default_rng(3)


def model(nodes, constants, shape=(1, 4, 8, 8), opset=21):
    tensors = [
        array if isinstance(array, onnx.TensorProto) else numpy_helper.from_array(np.asarray(array), name)
        for name, array in constants.items()
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def conv(weight="w", bias="b"):
    return helper.make_node("Conv", ["x", weight, bias], ["y"])


def sparse(shape=(8, 4, 3, 3), zeros=100):
    weights = RNG.uniform(0.5, 1.5, shape).astype(np.float32)
    weights.reshape(-1)[:zeros] = 0
    return weights


def test_a_float_model():
    weights = sparse()
    proto = model([conv()], {"w": weights, "b": np.ones(8, np.float32), "shape": np.array([1, 2])})
    found = measure_size(proto)
    assert found.file == len(proto.SerializeToString())
    assert found.parameters == 288 + 8
    assert found.non_zeros == 188 + 8
    assert found.sparsity == pytest.approx(100 / 288)
    assert found.distinct == found.distinct_most == 189
    assert found.by_kind == {"fp32": 296 * 4, "int64": 16}
    assert found.graph == found.file - 296 * 4 - 16
    assert [(t.name, t.role, t.op, t.kind) for t in found.tensors] == [
        ("w", "weight", "Conv", "fp32"),
        ("b", "bias", "Conv", "fp32"),
    ]


def test_clustered_weights_zip_small():
    random = sparse((64, 4, 3, 3), 0)
    clustered = RNG.choice(np.float32([-0.5, 0, 0.25, 1]), random.shape)
    bias = {"b": np.zeros(64, np.float32)}
    plain, small = (measure_size(model([conv()], {"w": w, **bias})) for w in (random, clustered))
    assert small.distinct == 4
    assert small.file == plain.file
    assert small.zipped < plain.zipped / 4
    assert small.packed is None or small.packed < small.zipped


def codes():
    weights = RNG.integers(-3, 4, (8, 4, 3, 3)).astype(np.int8)
    scales = RNG.uniform(0.01, 0.1, 8).astype(np.float32)
    return weights, scales


def dequantised(name, axis=0, **more):
    return helper.make_node("DequantizeLinear", [name, "s", "z"], [f"{name}_d"], axis=axis, **more)


def test_integers_in_the_file():
    weights, scales = codes()
    bias = helper.make_node("DequantizeLinear", ["b", "bs"], ["b_d"], axis=0)
    constants = {"w": weights, "s": scales, "z": np.zeros(8, np.int8), "b": np.ones(8, np.int32), "bs": scales}
    found = measure_size(model([dequantised("w"), bias, conv("w_d", "b_d")], constants))
    (weight,) = found.weights
    assert (weight.kind, weight.stored, weight.distinct, weight.bytes) == ("int8", "int8", 7, 288)
    assert weight.non_zeros == np.count_nonzero(weights)
    assert found.parameters == 296  # scales and zero points are none
    assert found.by_kind == {"int8": 288 + 8, "fp32": 64, "int32": 32}


def test_float_weights_that_are_quantised_are_counted_as_integers():
    """What runs are the integers: float values that round to one are one, those that round to 0 are 0."""
    weights, scales = codes()
    spread = scales.reshape(-1, 1, 1, 1)
    floats = (weights + RNG.uniform(-0.3, 0.3, weights.shape)).astype(np.float32) * spread
    nodes = [helper.make_node("QuantizeLinear", ["w", "s", "z"], ["q"], axis=0), dequantised("q"), conv("q_d")]
    constants = {"w": floats, "s": scales, "z": np.zeros(8, np.int8), "b": np.zeros(8, np.float32)}
    (weight,) = measure_size(model(nodes, constants)).weights
    assert (weight.name, weight.kind, weight.stored, weight.bytes) == ("w", "int8", "fp32", 288 * 4)
    assert weight.distinct == 7
    assert weight.non_zeros == np.count_nonzero(weights)


def test_a_zero_point_is_the_zero():
    weights = np.full((8, 4, 3, 3), 128, np.uint8)
    weights[0, 0] = 130
    nodes = [dequantised("w"), conv("w_d")]
    constants = {"w": weights, "s": np.float32(0.1), "z": np.uint8(128), "b": np.zeros(8, np.float32)}
    (weight,) = measure_size(model(nodes, constants)).weights
    assert (weight.non_zeros, weight.distinct) == (9, 2)


def test_two_numbers_of_4_bits_share_a_byte():
    values = RNG.integers(-8, 8, (16, 32))
    tensor = helper.make_tensor("w", TensorProto.INT4, values.shape, values.flatten().tolist())
    zero = helper.make_tensor("z", TensorProto.INT4, (16, 2), [0] * 32)
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["d"], axis=1, block_size=16),
        helper.make_node("MatMul", ["x", "d"], ["y"]),
    ]
    found = measure_size(
        model(nodes, {"w": tensor, "s": np.ones((16, 2), np.float32), "z": zero}, (1, 16)), packed=False
    )
    (weight,) = found.weights
    assert (weight.kind, weight.bytes, weight.elements) == ("int4", 256, 512)
    assert weight.distinct == 16
    assert weight.non_zeros == np.count_nonzero(values)


@pytest.mark.parametrize("points", [None, 3])
def test_weights_packed_in_bytes_for_onnxruntime(points):
    """MatMulNBits: N x K weights as N x blocks x bytes, the lower four bits first."""
    values = RNG.integers(0, 16, (6, 32)).astype(np.uint8)
    inputs = ["x", "w", "s"] + (["z"] if points is not None else [])
    node = helper.make_node("MatMulNBits", inputs, ["y"], domain="com.microsoft", K=32, N=6, bits=4, block_size=16)
    constants = {"w": (values[:, ::2] | values[:, 1::2] << 4).reshape(6, 2, 8), "s": np.ones(12, np.float32)}
    if points is not None:
        constants["z"] = np.full(6, points * 17, np.uint8)
    proto = model([node], constants, (1, 32))
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    found = measure_size(proto, packed=False)
    (weight,) = found.tensors
    assert (weight.kind, weight.elements, weight.bytes, weight.shape) == ("uint4", 192, 96, (6, 32))
    assert weight.distinct == len(np.unique(values))
    assert weight.non_zeros == np.count_nonzero(values != (8 if points is None else points))


def test_weights_that_are_unpacked_when_the_graph_is_loaded():
    """One bit a weight, made -1 and +1 by nodes; and a table with an index a weight."""
    signs = RNG.integers(0, 2, (8, 4, 3, 3)).astype(np.uint8)
    nodes = [
        helper.make_node("BitShift", ["bits", "shifts"], ["shifted"], direction="RIGHT"),
        helper.make_node("Mod", ["shifted", "two"], ["each"]),
        helper.make_node("Cast", ["each"], ["zeros_and_ones"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["zeros_and_ones", "double"], ["doubled"]),
        helper.make_node("Sub", ["doubled", "one"], ["signs"]),
        helper.make_node("Reshape", ["signs", "shape"], ["w"]),
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Gather", ["table", "indices"], ["v"]),
        helper.make_node("Conv", ["c", "v"], ["y"]),
    ]
    constants = {
        "bits": np.packbits(signs).reshape(-1, 1),
        "shifts": np.arange(7, -1, -1, dtype=np.uint8),
        "two": np.uint8(2),
        "double": np.float32(2),
        "one": np.float32(1),
        "shape": np.array(signs.shape),
        "table": np.float32([-1, 0, 0.5]),
        "indices": RNG.integers(0, 3, (5, 8, 1, 1)),
    }
    found = measure_size(model(nodes, constants), packed=False)
    binary, clustered = found.weights
    assert (binary.name, binary.kind, binary.stored, binary.bytes) == ("bits", "binary", "uint8", 36)
    assert (binary.shape, binary.elements, binary.distinct, binary.non_zeros) == ((8, 4, 3, 3), 288, 2, 288)
    assert (clustered.name, clustered.elements, clustered.distinct) == ("indices", 40, 3)
    assert clustered.non_zeros == np.count_nonzero(constants["indices"] != 1)
    assert found.distinct == 4  # -1, 1, 0, 0.5


def test_weights_in_another_file_are_refused(tmp_path):
    proto = model([conv()], {"w": sparse(), "b": np.zeros(8, np.float32)})
    file = tmp_path / "m.onnx"
    onnx.save(proto, file, save_as_external_data=True, location="m.bin", size_threshold=0)
    with pytest.raises(ValueError, match="in a file of their own"):
        measure_size(onnx.load(file, load_external_data=False))
    assert measure_size(onnx.load(file)).parameters == 296
