"""The pass int4 on a small network with random weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_vision.inference.bundle import Bundle, Thresholds
from edge_vision.inference.preprocess import InputSpec
from edge_vision.optimize.data import Data, Split
from edge_vision.optimize.measure.size import measure_size
from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import Context, PassError, optimisation_pass
from edge_vision.optimize.quantisation import weight_only

INT4 = optimisation_pass("int4")
SIZE = 16
NO_LIMIT = 1e9


def network(clustered: bool = False) -> Network:
    """Three convolutions, one of them depthwise, pooling and a linear layer behind a product."""
    rng = np.random.default_rng(3)

    def weights(*shape: int) -> NDArray[np.float32]:
        found = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
        found[rng.random(shape) < 0.3] = 0
        return np.round(found * 10) / 10 if clustered else found

    constants = {
        "a": weights(32, 3, 3, 3),
        "depthwise": weights(32, 1, 3, 3),
        "b": weights(64, 32, 3, 3),
        "matrix": weights(64, 48),
        "linear": weights(5, 48),
    }
    nodes = [
        helper.make_node("Conv", ["images", "a"], ["x1"], pads=[1] * 4),
        helper.make_node("Relu", ["x1"], ["x2"]),
        helper.make_node("Conv", ["x2", "depthwise"], ["x3"], pads=[1] * 4, group=32),
        helper.make_node("Conv", ["x3", "b"], ["x4"], pads=[1] * 4),
        helper.make_node("Relu", ["x4"], ["x5"]),
        helper.make_node("GlobalAveragePool", ["x5"], ["x6"]),
        helper.make_node("Flatten", ["x6"], ["x7"]),
        helper.make_node("MatMul", ["x7", "matrix"], ["x8"]),
        helper.make_node("Relu", ["x8"], ["x9"]),
        helper.make_node("Gemm", ["x9", "linear"], ["scores"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    spec = InputSpec(SIZE, SIZE, scale=1 / 255)
    return Network(proto, Bundle("test", "classify", "", ("a",) * 5, spec, Thresholds(), (), Path(), Path()))


def images(count: int = 8) -> NDArray[np.uint8]:
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (count, SIZE // 4, SIZE // 4, 3)).repeat(4, 1).repeat(4, 2).astype(np.uint8)


def context(tmp_path: Path) -> Context:
    split = Split(images(), np.zeros(8, np.int64), np.arange(8))
    return Context(tmp_path, Data("pictures", ("a",) * 5, split, split, split, no_other_size))


def no_other_size(width: int, height: int) -> Data:
    raise AssertionError("int4 keeps the size of the input")


def outputs(proto: onnx.ModelProto) -> NDArray:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    batch = np.ascontiguousarray((images()[..., ::-1] / 255).astype(np.float32).transpose(0, 3, 1, 2))
    return np.concatenate([session.run(None, {"images": image[None]})[0] for image in batch])


def stored(proto: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in proto.graph.initializer}


@pytest.mark.parametrize("form", ["cast", "dequantise"])
@pytest.mark.parametrize("block", [0, 16, 32])
def test_weights_have_four_bits_and_outputs_are_close(form: str, block: int, tmp_path: Path) -> None:
    before = network()
    options = INT4.Options(form=form, block=block, max_error=NO_LIMIT)
    outcome = INT4.apply(before, options, context(tmp_path))
    after = outcome.network.proto
    onnx.checker.check_model(after)
    found = stored(after)
    for name in ("b", "matrix"):
        assert found[name].data_type == TensorProto.INT4
        assert len(found[name].raw_data) == -(-np.prod(found[name].dims) // 2)
    assert outcome.facts["int4_layers"] == 2
    left = {line.split(":")[0] for line in outcome.refused}
    assert left == {"a", "depthwise", "linear"}
    assert all("weights only" in line for line in outcome.refused)
    assert all(found[name].data_type == TensorProto.FLOAT for name in left)
    old, new = outputs(before.proto), outputs(after)
    assert 10 * np.log10(old.var() / np.square(new - old).mean()) > 10
    assert len(after.SerializeToString()) < 0.25 * len(before.proto.SerializeToString())


def test_cast_form_is_float_once_loaded(tmp_path: Path) -> None:
    after = INT4.apply(network(), INT4.Options(max_error=NO_LIMIT), context(tmp_path)).network.proto
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(after.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kinds = {node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node}
    assert not kinds & {"Cast", "Mul", "DequantizeLinear"}


@pytest.mark.parametrize("block", [0, 16])
def test_both_forms_are_measured_alike(block: int, tmp_path: Path) -> None:
    """The weights are 4-bit numbers in either form, with as many zeros and distinct numbers."""
    found = []
    for form in ("dequantise", "cast"):
        options = INT4.Options(form=form, block=block, max_error=NO_LIMIT)
        outcome = INT4.apply(network(), options, context(tmp_path))
        found.append({tensor.name: tensor for tensor in measure_size(outcome.network.proto, packed=False).weights})
    assert found[0].keys() == found[1].keys()
    assert any(tensor.kind == "int4" for tensor in found[1].values())
    for name, dequantised in found[0].items():
        cast = found[1][name]
        assert (cast.kind, cast.bytes, cast.non_zeros, cast.distinct) == (
            dequantised.kind,
            dequantised.bytes,
            dequantised.non_zeros,
            dequantised.distinct,
        )


def test_both_forms_give_the_same(tmp_path: Path) -> None:
    both = [
        INT4.apply(network(), INT4.Options(form=form, max_error=NO_LIMIT), context(tmp_path)).network.proto
        for form in ("cast", "dequantise")
    ]
    np.testing.assert_allclose(*(outputs(proto) for proto in both), atol=1e-5)


def test_sensitive_layers_get_eight_bits(tmp_path: Path) -> None:
    free = INT4.apply(network(), INT4.Options(max_error=NO_LIMIT), context(tmp_path)).facts
    options = INT4.Options(max_error=free["error"] / 1.5, form="dequantise")
    outcome = INT4.apply(network(), options, context(tmp_path))
    facts = outcome.facts
    taken = facts["int8_layers"]
    assert taken
    assert taken == sorted(facts["sensitivity"], key=lambda name: -facts["sensitivity"][name])[: len(taken)]
    for name in taken:
        assert stored(outcome.network.proto)[name].data_type == TensorProto.INT8
        assert any(line.startswith(f"{name}: 8 bits") for line in outcome.refused)
    assert facts["within_max_error"]
    assert facts["error"] <= options.max_error < free["error"]


def test_clusters_stay_clusters_and_zeros_zero(tmp_path: Path) -> None:
    before = network(clustered=True)
    options = INT4.Options(max_error=NO_LIMIT, form="dequantise")
    found = stored(INT4.apply(before, options, context(tmp_path)).network.proto)
    for name in ("b", "matrix"):
        old = numpy_helper.to_array(stored(before.proto)[name])
        new = numpy_helper.to_array(found[name]).astype(np.int8)
        pairs = np.unique(np.stack([old.ravel(), new.ravel()]), axis=1)
        assert pairs.shape[1] == len(np.unique(old))
        assert not new[old == 0].any()


def test_bad_input_is_told(tmp_path: Path) -> None:
    def problem(given: Network, where: Context, **options) -> str:
        with pytest.raises(PassError) as found:
            INT4.apply(given, INT4.Options(**options), where)
        assert found.value.remedy
        return found.value.problem

    good = context(tmp_path)
    assert "no calibration images" in problem(network(), Context(tmp_path))
    assert good.data is not None
    empty = dataclasses.replace(good.data, calibration=good.data.calibration.part(np.zeros(8, bool)))
    assert "empty" in problem(network(), Context(tmp_path, empty))
    assert "no layer can have 4 bits" in problem(network(), good, smallest=10**6)
    done = INT4.apply(network(), INT4.Options(max_error=NO_LIMIT, form="dequantise"), good).network
    assert "quantised already" in problem(done, good)
    for wrong in ({"block": 24}, {"block": 8}, {"images": 0}, {"max_error": 0.0}, {"smallest": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            INT4.Options(**wrong)


@given(st.integers(0, 2**31), st.sampled_from([4, 8]), st.sampled_from([0, 16]), st.sampled_from([0, 1]))
def test_rounding_is_within_its_limits(seed: int, bits: int, block: int, outputs_axis: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (8, 32, 3, 3) if outputs_axis == 0 else (32, 8)
    weight = (rng.normal(size=shape) * 10.0 ** rng.integers(-8, 3)).astype(np.float32)
    weight[0] = 0
    found = weight_only.rounded(weight, outputs_axis, bits, block)
    assert np.abs(found.integers.astype(int)).max() <= 2 ** (bits - 1) - 1
    assert not found.integers[weight == 0].any()
    back = found.values()
    assert back.shape == weight.shape
    assert np.square(back - weight).sum() <= np.square(weight).sum() * (0.05 if bits == 4 else 0.001)
