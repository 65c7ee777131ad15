"""The pass int8 and the room that it is made of, on a small detector and classifier with random weights."""

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

from edge_vision.inference.bundle import Bundle, Thresholds, load_bundle
from edge_vision.inference.preprocess import InputSpec
from edge_vision.optimize.data import Data, Split
from edge_vision.optimize.graphs.view import View
from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import Context, PassError, optimisation_pass
from edge_vision.optimize.quantisation import finish, lowering, quantised_graph
from edge_vision.optimize.quantisation.placement import place, tail_nodes
from edge_vision.optimize.quantisation.preparing import prepare
from edge_vision.optimize.quantisation.scales import LIMITS, activation_scale, quantised, weight_scales

INT8 = optimisation_pass("int8")
REPOSITORY = Path(__file__).parents[3]
SIZE = 32


class Graph:
    """A graph in the making, with seeded weights."""

    def __init__(self, channels_last: bool = True) -> None:
        self.rng = np.random.default_rng(5)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray] = {}
        self.inputs = [("images", TensorProto.UINT8, [1, SIZE, SIZE, 3])]
        if not channels_last:
            self.inputs = [("images", TensorProto.FLOAT, [1, 3, SIZE, SIZE])]

    def add(self, kind: str, *inputs: str, **attributes) -> str:
        output = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, name: str, value) -> str:
        self.constants[name] = np.asarray(value)
        return name

    def conv(
        self, x: str, name: str, inputs: int, outputs: int, size: int = 3, stride: int = 1, pad: int | None = None
    ):
        weight = self.rng.normal(0, np.sqrt(2 / (inputs * size * size)), (outputs, inputs, size, size))
        self.constant(f"{name}.weight", weight.astype(np.float32))
        self.constant(f"{name}.bias", self.rng.normal(0, 0.1, outputs).astype(np.float32))
        pads = [size // 2 if pad is None else pad] * 4
        return self.add("Conv", x, f"{name}.weight", f"{name}.bias", strides=[stride] * 2, pads=pads)

    def proto(self, output: str, opset: int = 17) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "test",
            [helper.make_tensor_value_info(*given) for given in self.inputs],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        return onnx.shape_inference.infer_shapes(proto)


def detector() -> onnx.ModelProto:
    """Stem, a residual block, a coarser map enlarged and added, two heads, and the decode tail of YOLOX."""
    g = Graph()
    x = g.add("Cast", g.add("Transpose", "images", perm=[0, 3, 1, 2]), to=1)
    x = g.add("Mul", x, g.constant("unit", np.float32(1 / 255)))
    x = g.add("Relu", g.conv(x, "stem", 3, 16, stride=2))
    fine = g.add("Add", x, g.add("Relu", g.conv(x, "block", 16, 16)))
    coarse = g.add("Relu", g.conv(fine, "down", 16, 16, stride=2))
    scales = g.constant("scales", np.array([1, 1, 2, 2], np.float32))
    enlarged = g.add("Resize", coarse, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric",
                     nearest_mode="floor")  # fmt: skip
    joined = g.add("Add", fine, enlarged)
    boxes = g.conv(joined, "boxes", 16, 4, size=1)
    scores = g.add("Sigmoid", g.conv(joined, "scores", 16, 3, size=1))
    # Pixels beside probabilities in one tensor, as YOLO exports have it.
    pixels = g.add("Mul", g.add("Exp", boxes), g.constant("stride", np.float32(8)))
    rows = g.add("Reshape", g.add("Concat", pixels, scores, axis=1), g.constant("rows", np.array([1, 7, -1])))
    return g.proto(g.add("Transpose", rows, perm=[0, 2, 1]))


def classifier() -> onnx.ModelProto:
    """MobileNet's kind: Clip to 6, a depthwise convolution, batch normalisation, float channels-first input."""
    g = Graph(channels_last=False)
    low, high = g.constant("low", np.float32(0)), g.constant("high", np.float32(6))
    x = g.add("Clip", g.conv("images", "stem", 3, 16, stride=2), low, high)
    g.constant("depthwise.weight", g.rng.normal(0, 0.5, (16, 1, 3, 3)).astype(np.float32))
    x = g.add("Conv", x, "depthwise.weight", group=16, pads=[1] * 4)
    for key, value in {"scale": 1.5, "shift": 0.1, "mean": 0.2, "var": 0.7}.items():
        g.constant(key, np.full(16, value, np.float32))
    x = g.add("Clip", g.add("BatchNormalization", x, "scale", "shift", "mean", "var"), low, high)
    x = g.add("Clip", g.conv(x, "last", 16, 32, size=1), low, high)
    x = g.add("Flatten", g.add("GlobalAveragePool", x))
    g.constant("classifier.weight", g.rng.normal(0, 0.3, (3, 32)).astype(np.float32))
    return g.proto(g.add("Softmax", g.add("Gemm", x, "classifier.weight", transB=1)))


def network(proto: onnx.ModelProto) -> Network:
    channels_last = proto.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    dtype, layout, scale = ("uint8", "nhwc", 1.0) if channels_last else ("float32", "nchw", 1 / 255)
    spec = InputSpec(SIZE, SIZE, layout=layout, dtype=dtype, scale=scale)
    return Network(proto, Bundle("test", "detect", "yolox", ("a", "b", "c"), spec, Thresholds(), (), Path(), Path()))


def images(count: int = 12, size: int = SIZE, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth pictures with some noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, size // 8, size // 8, 3)).repeat(8, 1).repeat(8, 2)
    return np.clip(coarse + rng.normal(0, 8, coarse.shape), 0, 255).astype(np.uint8)


def context(tmp_path: Path, count: int = 12) -> Context:
    found = images(count)
    split = Split(found, np.zeros(count, np.int64), np.arange(count) // 2)
    return Context(tmp_path, Data("pictures", ("a", "b", "c"), split, split, split, no_other_size))


def no_other_size(width: int, height: int) -> Data:
    raise AssertionError("int8 keeps the size of the input")


def outputs(proto: onnx.ModelProto, given: NDArray) -> NDArray:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: one[None]})[0] for one in given])


def tensors(given: Network, count: int = 6) -> NDArray:
    found = images(count, seed=9)
    if given.input.dtype == "uint8":
        return found
    return np.ascontiguousarray((found[..., ::-1].astype(np.float32) / 255).transpose(0, 3, 1, 2))


def initialisers(proto: onnx.ModelProto) -> dict[str, NDArray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def kernels(proto: onnx.ModelProto, folder: Path) -> list[str]:
    """What ONNX Runtime really computes with."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]


@pytest.fixture(scope="module")
def quick() -> INT8.Options:
    return INT8.Options(calibration="minmax", activations="uint8", reduce_range="no")


@pytest.mark.parametrize("make", [detector, classifier])
def test_int8_tensors_are_int8_and_outputs_close(make, quick, tmp_path: Path) -> None:
    before = network(make())
    outcome = INT8.apply(before, quick, context(tmp_path))
    after = outcome.network.proto
    onnx.checker.check_model(after)
    found = initialisers(after)
    layers = View(after).layers
    kept_float = set(outcome.facts["float_layers"])
    assert {layer.name for layer in layers} == {layer.name for layer in View(before.proto).layers}
    for layer in layers:
        assert found[layer.name].dtype == (np.float32 if layer.name in kept_float else np.int8), layer.name
        assert layer.quantised == (layer.name not in kept_float)
    assert [v.name for v in after.graph.output] == [v.name for v in before.proto.graph.output]
    assert [v.name for v in after.graph.input] == ["images"]
    old, new = outputs(before.proto, tensors(before)), outputs(after, tensors(before))
    assert 10 * np.log10(old.var() / np.square(new - old).mean()) > 25
    assert outcome.facts["sqnr_db"] > 20
    assert before.proto == network(make()).proto  # not touched


def test_integer_kernels_run(quick, tmp_path: Path) -> None:
    after = INT8.apply(network(detector()), quick, context(tmp_path)).network.proto
    used = kernels(after, tmp_path)
    assert used.count("QLinearConv") == 3
    assert "Conv" not in used
    assert "FusedConv" not in used
    assert "Cast" not in used  # pixels go in as they are
    assert sum(kind.startswith("MatMulInteger") for kind in used) == 2  # the heads: integers in, float out


def test_decode_tail_stays_float(quick, tmp_path: Path) -> None:
    proto = prepare("int8", detector())
    view = View(proto)
    tail = {view.producers[name].op_type for name in tail_nodes(view)}
    assert tail == {"Exp", "Sigmoid", "Mul", "Concat", "Reshape", "Transpose"}
    placement = place(view)
    assert len(placement.heads) == 2
    assert not set(placement.heads) & set(placement.tensors)

    after = INT8.apply(network(detector()), quick, context(tmp_path)).network.proto
    inside = View(after)
    for node in after.graph.node:
        if node.op_type in ("Sigmoid", "Exp", "Concat"):
            readers = [reader.op_type for reader in inside.consumers[node.output[0]]]
            assert "QuantizeLinear" not in readers
    # One scale for boxes and scores would leave scores of 0 and 1 alone, 8 pixels a step.
    scores = outputs(after, images(2))[..., 4:]
    assert len(np.unique(scores)) > 100


def test_heads_may_be_rounded_too(quick, tmp_path: Path) -> None:
    options = dataclasses.replace(quick, heads="int8")
    before = network(detector())
    rounded = INT8.apply(before, options, context(tmp_path)).network.proto
    error = [np.square(outputs(proto, tensors(before)) - outputs(before.proto, tensors(before))).mean()
             for proto in (rounded, INT8.apply(before, quick, context(tmp_path)).network.proto)]  # fmt: skip
    assert error[1] < error[0]


def test_zeros_stay_zero_and_clusters_few(quick, tmp_path: Path) -> None:
    proto = detector()
    rng = np.random.default_rng(0)
    values = {}
    for tensor in proto.graph.initializer:
        if tensor.name in ("block.weight", "down.weight"):
            weight = numpy_helper.to_array(tensor).copy()
            if tensor.name == "down.weight":  # clustered: 15 values and zero
                weight = rng.choice(np.linspace(-0.4, 0.5, 15, dtype=np.float32), weight.shape)
            weight[rng.random(weight.shape) < 0.5] = 0
            values[tensor.name] = weight
            tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
    outcome = INT8.apply(network(proto), quick, context(tmp_path))
    found = initialisers(outcome.network.proto)
    for name, weight in values.items():
        assert (found[name][weight == 0] == 0).all()
    assert len(np.unique(found["down.weight"])) <= len(np.unique(values["down.weight"])) == 16
    assert outcome.facts["one_scale_for_clusters"] == ["down.weight"]
    scale = next(n for n in outcome.network.proto.graph.node if n.input[0] == "down.weight").input[1]
    assert found[scale].shape == ()
    # The rounding of a value is that of its cluster.
    pairs = np.stack([values["down.weight"].ravel(), found["down.weight"].ravel()])
    assert len(np.unique(pairs, axis=1).T) == 16


def test_calibration_is_chosen_by_measurement(tmp_path: Path) -> None:
    options = INT8.Options(activations="uint8", reduce_range="no")
    facts = INT8.apply(network(detector()), options, context(tmp_path)).facts
    errors = facts["error_by_calibration"]
    assert set(errors) == {"minmax", "entropy", "percentile"}
    assert errors[facts["calibration"]] == min(errors.values())
    assert facts["calibration_images"] + facts["held_back_images"] <= 12


def test_sensitive_layers_go_back_to_float(quick, tmp_path: Path) -> None:
    before = network(detector())
    free = INT8.apply(before, quick, context(tmp_path))
    limit = free.facts["error"] / 2
    outcome = INT8.apply(before, dataclasses.replace(quick, max_error=limit), context(tmp_path))
    facts = outcome.facts
    sensitivity, taken = facts["sensitivity"], facts["taken_back"]
    assert set(sensitivity) == {layer.name for layer in View(before.proto).layers}
    assert 1 <= len(taken) <= 2
    assert list(taken) == sorted(sensitivity, key=lambda layer: -sensitivity[layer])[: len(taken)]
    assert facts["error"] < free.facts["error"]
    found = initialisers(outcome.network.proto)
    assert all(found[layer].dtype == np.float32 for layer in taken)
    assert all(any(line.startswith(f"{layer}:") for line in outcome.refused) for layer in taken)

    none = INT8.apply(before, dataclasses.replace(quick, max_error=limit, fallback="none"), context(tmp_path)).facts
    assert none["taken_back"] == {}
    assert not none["within_max_error"]


def test_named_layers_stay_float(quick, tmp_path: Path) -> None:
    outcome = INT8.apply(network(detector()), dataclasses.replace(quick, float_layers=("stem.weight",)),
                         context(tmp_path))  # fmt: skip
    assert outcome.facts["float_layers"] == ["stem.weight"]
    assert initialisers(outcome.network.proto)["stem.weight"].dtype == np.float32


@pytest.mark.parametrize("activations", ["uint8", "int8"])
def test_weights_of_seven_bits_and_both_types_of_activations(activations: str, tmp_path: Path) -> None:
    options = INT8.Options(calibration="minmax", activations=activations, reduce_range="yes")
    before = network(detector())
    after = INT8.apply(before, options, context(tmp_path)).network.proto
    found = initialisers(after)
    for layer in View(after).layers:
        assert 60 <= np.abs(found[layer.name].astype(int)).max() <= 63
    zeros = {found[n.input[2]].dtype for n in after.graph.node if n.op_type == "QuantizeLinear"}
    assert zeros == {np.dtype(activations)}
    old, new = outputs(before.proto, images(4)), outputs(after, images(4))
    assert 10 * np.log10(old.var() / np.square(new - old).mean()) > 20


def test_trainable_form_ends_as_the_same_integers(quick, tmp_path: Path) -> None:
    before = network(detector())
    trained = quantised_graph(before, quick, context(tmp_path), weights_as="float")
    weights = initialisers(trained.proto)
    view = View(trained.proto)
    for layer in view.layers:
        assert weights[layer.name].dtype == np.float32
        assert layer.quantised
    shipped = finish(trained.proto)
    direct = INT8.apply(before, quick, context(tmp_path)).network.proto
    assert {k: v.tolist() for k, v in initialisers(shipped).items() if v.dtype == np.int8 and v.ndim} == {
        k: v.tolist() for k, v in initialisers(direct).items() if v.dtype == np.int8 and v.ndim
    }
    np.testing.assert_allclose(outputs(shipped, images(3)), outputs(trained.proto, images(3)), atol=2e-2, rtol=0)
    assert len(shipped.SerializeToString()) <= len(direct.SerializeToString()) + 64


def test_bundled_detector_is_three_and_a_half_times_smaller(quick, tmp_path: Path) -> None:
    folder = REPOSITORY / "models" / "conveyor_parts"
    before = Network(onnx.load(folder / "model.onnx"), load_bundle(folder))
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (4, 15, 20, 3)).repeat(16, 1).repeat(16, 2).astype(np.uint8)
    split = Split(pictures, np.zeros(4, np.int64), np.arange(4))
    given = Context(tmp_path, Data("pictures", before.labels, split, split, split, no_other_size))
    outcome = INT8.apply(before, dataclasses.replace(quick, fallback="none"), given)
    size = len(outcome.network.proto.SerializeToString())
    assert (folder / "model.onnx").stat().st_size / size >= 3.5
    assert outcome.facts["int8_layers"] == len(View(before.proto).layers)
    assert kernels(outcome.network.proto, tmp_path).count("QLinearConv") == 25


STEMS = [(3, 2, 1), (6, 4, 1), (5, 2, 2), (7, 2, 3), (6, 2, 2), (3, 2, 0), (4, 4, 0), (3, 1, 1), (7, 4, 3)]


@pytest.mark.parametrize(("size", "stride", "pad"), STEMS)
@pytest.mark.parametrize("activated", [True, False])
def test_lowering_does_not_change_the_function(size: int, stride: int, pad: int, activated: bool) -> None:
    g = Graph()
    x = g.conv(g.add("Cast", g.add("Transpose", "images", perm=[0, 3, 1, 2]), to=1), "stem", 3, 8, size, stride, pad)
    x = g.add("Relu", x) if activated else x
    scales = g.constant("scales", np.array([1, 1, 2, 2], np.float32))
    x = g.conv(g.add("Resize", x, "", scales, mode="nearest"), "head", 8, 4, size=1)
    proto = g.proto(g.add("Sigmoid", x))
    lowered = onnx.ModelProto()
    lowered.CopyFrom(proto)
    done = lowering.lower(lowered, place(View(lowered)).heads)
    assert len(done) == (3 if stride == 1 else 4)
    assert "Resize" not in {node.op_type for node in lowered.graph.node}
    np.testing.assert_allclose(outputs(lowered, images(2)), outputs(proto, images(2)), atol=1e-4)


@pytest.mark.parametrize(("size", "stride", "pad"), STEMS)
def test_lowering_of_channels_first_images(size: int, stride: int, pad: int) -> None:
    g = Graph(channels_last=False)
    proto = g.proto(g.conv(g.add("Relu", g.conv("images", "stem", 3, 8, size, stride, pad)), "next", 8, 4))
    lowered = onnx.ModelProto()
    lowered.CopyFrom(proto)
    assert bool(lowering.lower(lowered)) == (stride > 1)
    given = np.random.default_rng(0).normal(size=(2, 3, SIZE, SIZE)).astype(np.float32)
    np.testing.assert_allclose(outputs(lowered, given), outputs(proto, given), atol=1e-4)


def test_what_cannot_be_lowered_is_left() -> None:
    g = Graph(channels_last=False)
    proto = g.proto(g.conv(g.add("Relu", "images"), "stem", 3, 8, stride=2))
    same = onnx.ModelProto()
    same.CopyFrom(proto)
    assert lowering.lower(same, ()) == ()
    assert same == proto


def error_of(proto: onnx.ModelProto, given: Context, **options) -> PassError:
    with pytest.raises(PassError) as found:
        INT8.apply(network(proto), INT8.Options(calibration="minmax", **options), given)
    assert found.value.name == "int8"
    assert found.value.remedy
    return found.value


def test_bad_input_is_told(tmp_path: Path) -> None:
    given = context(tmp_path)
    assert "no calibration images" in error_of(detector(), Context(tmp_path)).problem
    empty = given.data
    assert empty is not None
    nothing = dataclasses.replace(empty, calibration=empty.calibration.part(np.zeros(12, bool)))
    assert "empty" in error_of(detector(), Context(tmp_path, nothing)).problem
    assert "float_layers names 'none'" in error_of(detector(), given, float_layers=("none",)).problem

    done = INT8.apply(network(detector()), INT8.Options(calibration="minmax"), given).network.proto
    assert "quantised already" in error_of(done, given).problem

    g = Graph()
    g.inputs = [("images", TensorProto.UINT8, ["n", SIZE, SIZE, 3])]
    open_sizes = g.proto(g.conv(g.add("Cast", g.add("Transpose", "images", perm=[0, 3, 1, 2]), to=1), "c", 3, 4))
    assert "open sizes (n, 32" in error_of(open_sizes, given).problem

    g = Graph(channels_last=False)
    assert "no convolution" in error_of(g.proto(g.add("Relu", "images")), given).problem
    unknown = g.proto(g.add("FlyToTheMoon", g.conv("images", "c", 3, 4)))
    unknown.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    assert "cannot load" in error_of(unknown, given).problem
    g = Graph(channels_last=False)
    assert (
        "calibration images are"
        in error_of(g.proto(g.conv("images", "c", 3, 4)), dataclasses.replace(given, data=wider(given.data))).problem
    )


def wider(given: Data | None) -> Data:
    assert given is not None
    split = Split(images(4, 64), np.zeros(4, np.int64), np.zeros(4, np.int64))
    return dataclasses.replace(given, calibration=split)


@pytest.mark.parametrize("option", [{"percentile": 40.0}, {"images": 0}, {"max_error": 0.0}, {"most_float": 2.0}])
def test_options_name_what_is_wrong(option: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        INT8.Options(**option)


def test_old_opsets_are_brought_up(quick, tmp_path: Path) -> None:
    g = Graph(channels_last=False)
    proto = g.proto(g.add("Relu", g.conv(g.add("Relu", g.conv("images", "a", 3, 8)), "b", 8, 4)), opset=11)
    after = INT8.apply(network(proto), quick, context(tmp_path)).network.proto
    assert {entry.version for entry in after.opset_import if entry.domain == ""} == {13}
    assert after.graph.input[0].name == "images"


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), st.sampled_from(["int8", "uint8"]))
def test_scales_hold_zero_exactly_and_the_range_nearly(one: float, other: float, dtype: str) -> None:
    low, high = min(one, other, 0.0), max(one, other, 0.0)
    scale = activation_scale(one if one < other else other, max(one, other), dtype)
    smallest, largest = LIMITS[dtype]
    assert smallest <= scale.zero_point <= largest
    if high - low > 1e-30:
        assert scale.low <= low + scale.scale * 0.51
        assert scale.high >= high - scale.scale * 0.51


@given(st.integers(1, 5), st.integers(0, 2**31), st.sampled_from([7, 8]))
def test_weights_are_within_half_a_step(channels: int, seed: int, bits: int) -> None:
    rng = np.random.default_rng(seed)
    weight = (rng.normal(size=(channels, 3, 2, 2)) * 10.0 ** rng.integers(-6, 3)).astype(np.float32)
    weight[0, 0] = 0
    scales = weight_scales(weight, 0, bits=bits)
    integers = quantised(weight, scales, 0)
    assert integers.dtype == np.int8
    assert np.abs(integers.astype(int)).max() <= 2 ** (bits - 1) - 1
    assert not integers[weight == 0].any()
    back = integers * scales.reshape(-1, 1, 1, 1)
    assert (np.abs(back - weight) <= scales.reshape(-1, 1, 1, 1) * 0.5001).all()


def test_a_bias_always_fits_32_bits() -> None:
    weight = np.full((2, 1, 1, 1), 1e-7, np.float32)
    bias = np.array([1000.0, 0.0], np.float32)
    scales = weight_scales(weight, 0, bias=bias, input_scale=1e-3)
    steps = bias.astype(np.float64) / (scales * 1e-3)
    assert np.abs(steps).max() < 2**31
    assert scales[1] == pytest.approx(1e-7 / 127)
