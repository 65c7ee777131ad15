"""Multiply-accumulates and activation memory against counts by hand."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed")

import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_vision.optimize.measure.compute import Layer, measure_compute

F = TensorProto.FLOAT


def model(nodes, inputs, outputs, constants=None, opset=17, domains=()):
    def value(name, kind, shape):
        return helper.make_tensor_value_info(name, kind, shape)

    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(nodes, "g", [value(*i) for i in inputs], [value(*o) for o in outputs], tensors)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def weight(*shape):
    return np.ones(shape, np.float32)


def layers(proto) -> dict[str, Layer]:
    return {layer.name: layer for layer in measure_compute(proto).layers}


def test_a_convolution_takes_its_kernel_an_output_element():
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Conv", ["y", "d"], ["z"], group=16, pads=[1, 1, 1, 1]),
    ]
    constants = {"w": weight(16, 3, 3, 3), "b": np.zeros(16, np.float32), "d": weight(16, 1, 3, 3)}
    found = layers(model(nodes, [("x", F, [1, 3, 8, 10])], [("z", F, [1, 16, 4, 5])], constants))
    assert found["w"].macs == 16 * 4 * 5 * 3 * 9
    assert found["w"].weight_bytes == (16 * 3 * 9 + 16) * 4
    assert (found["w"].kernel, found["w"].depthwise) == ((3, 3), False)
    assert found["d"].macs == 16 * 4 * 5 * 9
    assert found["d"].depthwise
    assert found["w"].read_bytes == 3 * 8 * 10 * 4
    assert found["d"].written_bytes == 16 * 4 * 5 * 4


def test_a_transposed_convolution_takes_its_kernel_an_input_element():
    nodes = [helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2])]
    proto = model(nodes, [("x", F, [1, 4, 5, 6])], [("y", F, None)], {"w": weight(4, 7, 2, 2)})
    assert layers(proto)["w"].macs == 4 * 5 * 6 * 7 * 4


@pytest.mark.parametrize("transposed", [0, 1])
def test_matrix_products_take_the_inner_axis(transposed):
    shape = [12, 5] if transposed else [5, 12]
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["y"], transA=transposed),
        helper.make_node("MatMul", ["y", "v"], ["z"]),
        helper.make_node("Transpose", ["z"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["z", "t"], ["u"]),
    ]
    found = measure_compute(
        model(nodes, [("x", F, shape)], [("u", F, [5, 5])], {"w": weight(12, 8), "v": weight(8, 3)})
    )
    assert [layer.macs for layer in found.layers] == [5 * 12 * 8, 5 * 8 * 3, 0, 5 * 3 * 5]
    assert found.macs_by_kind == {"fp32": 480 + 120 + 75}


def test_other_operations_are_counted_by_element():
    nodes = [
        helper.make_node("MaxPool", ["x"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Sigmoid", ["p"], ["s"]),
        helper.make_node("GlobalAveragePool", ["s"], ["g"]),
        helper.make_node("Softmax", ["g"], ["y"], axis=1),
        helper.make_node("Transpose", ["y"], ["z"], perm=[0, 2, 3, 1]),
    ]
    found = measure_compute(model(nodes, [("x", F, [1, 4, 6, 6])], [("z", F, [1, 1, 1, 4])]))
    assert [layer.operations for layer in found.layers] == [36 * 4, 36, 36, 12, 0]
    assert found.macs == 0
    assert not found.uncounted


def test_an_open_batch_is_one_and_other_open_sizes_are_refused():
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    proto = model(nodes, [("x", F, ["N", 3, 4, 4])], [("y", F, ["N", 2, 4, 4])], {"w": weight(2, 3, 1, 1)})
    assert measure_compute(proto).macs == 2 * 16 * 3
    proto = model(nodes, [("x", F, ["N", 3, "H", 4])], [("y", F, ["N", 2, "H", 4])], {"w": weight(2, 3, 1, 1)})
    with pytest.raises(ValueError, match="input x leaves the size of axis 2 open"):
        measure_compute(proto)
    assert measure_compute(proto, {"x": (1, 3, 8, 4)}).macs == 2 * 32 * 3
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"  # the caller's is left alone


def test_the_peak_of_a_chain_is_its_widest_pair():
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["p"]),  # 3 -> 8 channels of 16 elements
        helper.make_node("Conv", ["p", "b"], ["q"]),  # 8 -> 6
        helper.make_node("Conv", ["q", "c"], ["r"]),  # 6 -> 2
    ]
    constants = {"a": weight(8, 3, 1, 1), "b": weight(6, 8, 1, 1), "c": weight(2, 6, 1, 1)}
    found = measure_compute(model(nodes, [("x", F, [1, 3, 4, 4])], [("r", F, [1, 2, 4, 4])], constants))
    assert found.peak_bytes == (8 + 6) * 16 * 4
    assert found.peak_at == "b"
    assert dict(found.peak_tensors) == {"p": 8 * 64, "q": 6 * 64}


def test_a_skip_connection_stays_alive_and_its_sum_is_in_place():
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["p"]),
        helper.make_node("Conv", ["p", "b"], ["q"]),
        helper.make_node("Relu", ["q"], ["qr"]),  # a part of the convolution
        helper.make_node("Conv", ["qr", "c"], ["r"]),
        helper.make_node("Add", ["p", "r"], ["s"]),
        helper.make_node("Sigmoid", ["s"], ["t"]),  # in place
        helper.make_node("Flatten", ["t"], ["y"]),
    ]
    constants = {name: weight(8, 8 if name != "a" else 2, 1, 1) for name in "abc"}
    found = measure_compute(model(nodes, [("x", F, [1, 2, 4, 4])], [("y", F, [1, 128])], constants))
    assert found.peak_bytes == 3 * 8 * 16 * 4  # p, q, r
    assert found.peak_at == "c"
    assert [layer.op for layer in found.layers] == ["Conv", "Conv", "Relu", "Conv", "Add", "Sigmoid"]


def test_the_graphs_own_input_is_not_written_over():
    nodes = [helper.make_node("Abs", ["x"], ["y"])]
    assert measure_compute(model(nodes, [("x", F, [10])], [("y", F, [10])])).peak_bytes == 80


def quantised(last: str, activation: bool = True) -> onnx.ModelProto:
    """x -> Q -> DQ -> Conv -> (Relu) -> Q -> DQ -> MaxPool -> Q -> DQ -> `last`"""

    def q(name, source):
        return helper.make_node("QuantizeLinear", [source, "s", "z"], [name])

    def dq(name, source):
        return helper.make_node("DequantizeLinear", [source, "s", "z"], [name])

    nodes = [q("xq", "x"), dq("xd", "xq"), dq("wd", "w"), helper.make_node("Conv", ["xd", "wd"], ["c"])]
    if activation:
        nodes.append(helper.make_node("Relu", ["c"], ["r"]))
    nodes += [q("cq", "r" if activation else "c"), dq("cd", "cq")]
    nodes += [helper.make_node("MaxPool", ["cd"], ["m"], kernel_shape=[2, 2], strides=[2, 2]), q("mq", "m")]
    nodes += [dq("md", "mq"), helper.make_node(last, ["md"], ["y"])]
    constants = {"s": np.float32(0.1), "z": np.int8(0), "w": np.ones((8, 3, 1, 1), np.int8)}
    return model(nodes, [("x", F, [1, 3, 4, 4])], [("y", F, [1, 8, 2, 2])], constants)


@pytest.mark.parametrize("activation", [True, False])
def test_a_quantised_layer_is_one_step_on_integers(activation):
    found = measure_compute(quantised("Sigmoid", activation))
    steps = [(layer.op, layer.kind) for layer in found.layers]
    fused = [("Relu", "int8")] if activation else []
    assert steps == [
        ("QuantizeLinear", "int8"),
        ("Conv", "int8"),
        *fused,
        ("MaxPool", "int8"),
        ("DequantizeLinear", "fp32"),
        ("Sigmoid", "fp32"),
    ]
    convolution = found.layers[1]
    assert (convolution.read_bytes, convolution.written_bytes, convolution.weight_bytes) == (48, 128, 24)
    assert convolution.name == "w"
    assert found.macs_by_kind == {"int8": 8 * 16 * 3}
    assert found.peak_bytes == 48 * 4 + 48  # the float input and its integers; later 48 + 128, 128 + 32, 32 * 5


def test_integer_tensors_take_a_quarter():
    small, large = measure_compute(quantised("Sigmoid")), layers(quantised("Sigmoid"))["w"]
    assert large.written_bytes * 4 == 8 * 16 * 4
    assert small.operations == 48 + 128 + 32 * 4 + 32 + 32  # Q, Relu, 2 x 2 of the pool, DQ, Sigmoid


def test_weights_alone_quantised_compute_in_float():
    nodes = [
        helper.make_node("QuantizeLinear", ["w", "s", "z"], ["wq"]),
        helper.make_node("DequantizeLinear", ["wq", "s", "z"], ["wd"]),
        helper.make_node("Conv", ["x", "wd"], ["y"]),
    ]
    constants = {"s": np.float32(0.1), "z": np.int8(0), "w": weight(8, 3, 1, 1)}
    (layer,) = measure_compute(model(nodes, [("x", F, [1, 3, 4, 4])], [("y", F, [1, 8, 4, 4])], constants)).layers
    assert (layer.kind, layer.name, layer.weight_bytes) == ("fp32", "w", 24)


@pytest.mark.parametrize("same", [True, False])
def test_integers_that_stay_what_they_are(same):
    """Pixels come in as integers: uint8 -> DQ -> Q -> DQ -> Conv is a convolution of these integers."""
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s", "z"], ["a"]),
        helper.make_node("QuantizeLinear", ["a", "t", "z"], ["b"]),
        helper.make_node("DequantizeLinear", ["b", "t", "z"], ["c"]),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["d"]),
        helper.make_node("Conv", ["c", "d"], ["y"]),
    ]
    constants = {"s": np.float32(0.5), "t": np.float32(0.5 if same else 0.25), "z": np.uint8(0)}
    constants["w"] = np.ones((8, 3, 1, 1), np.uint8)
    found = measure_compute(model(nodes, [("x", TensorProto.UINT8, [1, 3, 4, 4])], [("y", F, [1, 8, 4, 4])], constants))
    assert [layer.op for layer in found.layers] == (
        ["Conv"] if same else ["DequantizeLinear", "QuantizeLinear", "Conv"]
    )
    assert found.layers[-1].kind == "int8"
    assert found.layers[-1].read_bytes == 48
    assert found.peak_bytes == 48 + 8 * 64


def test_shapes_that_inference_lacks_come_from_a_run():
    """An operator of another domain hides every shape behind it."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    nodes = [
        helper.make_node("QuickGelu", ["x"], ["g"], domain="com.microsoft"),
        helper.make_node("Conv", ["g", "w"], ["y"]),
    ]
    proto = model(
        nodes, [("x", F, [1, 3, 4, 4])], [("y", F, None)], {"w": weight(2, 3, 1, 1)}, domains=("com.microsoft",)
    )
    found = measure_compute(proto)
    assert found.macs == 2 * 16 * 3
    assert found.peak_bytes == (3 + 3) * 64
    assert not found.unknown


def test_what_is_not_known_is_named():
    nodes = [helper.make_node("Mystery", ["x"], ["y"], domain="somebody.else")]
    found = measure_compute(model(nodes, [("x", F, [4])], [("y", F, None)], domains=("somebody.else",)))
    assert found.uncounted == {"Mystery": 1}
    assert found.unknown == ("y",)


def test_the_table_of_operators_adds_up():
    found = measure_compute(quantised("Sigmoid"))
    assert sum(row.macs for row in found.by_operator) == found.macs
    assert sum(row.operations for row in found.by_operator) == found.operations
    assert sum(row.count for row in found.by_operator) == len(found.layers)
    assert found.by_operator[0].op == "Conv"
