"""Channels that live and die together, tensors without some of them, and the passes that choose which."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge_vision.inference.bundle import Bundle, Thresholds, load_bundle
from edge_vision.inference.preprocess import InputSpec
from edge_vision.optimize.architectures import mobilenet_v2, pixels
from edge_vision.optimize.data import Data, Split
from edge_vision.optimize.graphs.channels import Channels
from edge_vision.optimize.graphs.editing import set_initialisers
from edge_vision.optimize.graphs.importance import input_energies, unit_scores
from edge_vision.optimize.graphs.running import compare, random_images, tensors
from edge_vision.optimize.graphs.shapes import multiply_accumulates, static_shapes
from edge_vision.optimize.graphs.shrinking import Costs, channels_of, prepared, shrink
from edge_vision.optimize.graphs.view import View
from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import Context, PassError, channels, width

SPEC = InputSpec(16, 8, scale=1 / 255)
FLOAT = TensorProto.FLOAT


class Builder:
    """A graph that grows; tensors are (name, channels, rows, columns)."""

    def __init__(self, seed: int, kinds: str = "Relu Sigmoid Clip") -> None:
        self.rng = np.random.default_rng(seed)
        self.kinds = kinds.split()
        self.nodes: list[onnx.NodeProto] = []
        self.tables: dict[str, np.ndarray] = {}
        self.count = 0

    def table(self, value: np.ndarray, name: str = "") -> str:
        name = name or f"t{len(self.tables)}"
        self.tables[name] = value
        return name

    def normal(self, *shape: int) -> np.ndarray:
        scale = np.sqrt(1 / max(1, np.prod(shape[1:])))
        return (self.rng.normal(size=shape) * scale).astype(np.float32)

    def node(self, kind: str, inputs: list[str], **attributes: object) -> str:
        self.count += 1
        name = f"v{self.count}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def conv(self, x: tuple, size: int, kernel: int = 3, stride: int = 1, depthwise: bool = False) -> tuple:
        name, inputs, rows, columns = x
        shape = (inputs, 1, kernel, kernel) if depthwise else (size, inputs, kernel, kernel)
        number = len(self.tables)
        weight = self.table(self.normal(*shape), f"layer{number}.weight")
        bias = self.table(self.normal(shape[0]), f"layer{number}.bias")
        half = kernel // 2
        made = self.node(
            "Conv",
            [name, weight, bias],
            group=inputs if depthwise else 1,
            pads=[half] * 4,
            strides=[stride, stride],
        )
        return made, shape[0], -(-rows // stride), -(-columns // stride)

    def active(self, x: tuple) -> tuple:
        kind = self.kinds[self.rng.integers(len(self.kinds))]
        limits = [self.table(np.float32(v).reshape(())) for v in (-0.5, 2)] if kind == "Clip" else []
        return (self.node(kind, [x[0], *limits]), *x[1:])

    def normalised(self, x: tuple) -> tuple:
        gamma, beta, mean = (self.table(self.normal(x[1], 1)[:, 0]) for _ in range(3))
        variance = self.table(self.rng.uniform(0.5, 2, x[1]).astype(np.float32))
        return (self.node("BatchNormalization", [x[0], gamma, beta, mean, variance]), *x[1:])

    def scaled(self, x: tuple) -> tuple:
        return (self.node("Mul", [self.table(self.normal(x[1], 1, 1)), x[0]]), *x[1:])

    def residual(self, x: tuple) -> tuple:
        inner = self.active(self.conv(x, int(self.rng.integers(2, 7)), 1))
        return (self.node("Add", [x[0], self.conv(inner, x[1])[0]]), *x[1:])

    def depthwise(self, x: tuple) -> tuple:
        return self.active(self.conv(x, x[1], depthwise=True))

    def excited(self, x: tuple) -> tuple:
        pooled = (self.node("GlobalAveragePool", [x[0]]), x[1], 1, 1)
        gate = self.conv(self.active(self.conv(pooled, 3, 1)), x[1], 1)
        return (self.node("Mul", [x[0], self.node("Sigmoid", [gate[0]])]), *x[1:])

    def branched(self, x: tuple) -> tuple:
        parts = [self.active(self.conv(x, int(self.rng.integers(2, 5)), 1)), x, self.depthwise(x)]
        return (self.node("Concat", [p[0] for p in parts], axis=1), sum(p[1] for p in parts), *x[2:])

    def halved(self, x: tuple) -> tuple:
        size = x[1] // 2
        bounds = [self.table(np.array(v, np.int64)) for v in ([0], [size], [1])]
        first = self.node("Slice", [x[0], *bounds])
        bounds = [self.table(np.array(v, np.int64)) for v in ([size], [2**31 - 1], [1])]
        second = self.node("Slice", [x[0], *bounds])
        changed = self.active(self.conv((second, x[1] - size, *x[2:]), 4))
        return (self.node("Concat", [changed[0], first], axis=1), 4 + size, *x[2:])

    def parted(self, x: tuple) -> tuple:
        size = x[1] // 2
        sizes = self.table(np.array([size, x[1] - size], np.int64))
        self.count += 2
        names = [f"v{self.count - 1}a", f"v{self.count}b"]
        self.nodes.append(helper.make_node("Split", [x[0], sizes], names, axis=1))
        return self.active(self.conv((names[1], x[1] - size, *x[2:]), 5, 1))

    def shuffled(self, x: tuple) -> tuple:
        if x[1] % 2:
            return x
        apart = self.table(np.array([1, 2, x[1] // 2, x[2], x[3]], np.int64))
        together = self.table(np.array([1, -1, x[2], x[3]], np.int64))
        turned = self.node("Transpose", [self.node("Reshape", [x[0], apart])], perm=[0, 2, 1, 3, 4])
        return (self.node("Reshape", [turned, together]), *x[1:])

    def chosen(self, x: tuple) -> tuple:
        places = self.rng.permutation(x[1])
        return (self.node("Gather", [x[0], self.table(places.astype(np.int64))], axis=1), *x[1:])

    def resized(self, x: tuple) -> tuple:
        sizes = self.table(np.array([1, x[1], 2 * x[2], 2 * x[3]], np.int64))
        big = self.node("Resize", [x[0], "", "", sizes], mode="nearest")
        return (self.node("MaxPool", [big], kernel_shape=[2, 2], strides=[2, 2]), *x[1:])

    def padded(self, x: tuple) -> tuple:
        pads = self.table(np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
        wide = self.node("Pad", [x[0], pads])
        return (self.node("AveragePool", [wide], kernel_shape=[3, 3], strides=[1, 1]), *x[1:])

    def classified(self, x: tuple) -> str:
        flat = self.node("Flatten", [self.node("AveragePool", [x[0]], kernel_shape=[2, 2], strides=[2, 2])])
        size = x[1] * (x[2] // 2) * (x[3] // 2)
        hidden = self.node(
            "Gemm", [flat, self.table(self.normal(6, size), "g1.weight"), self.table(self.normal(6))], transB=1
        )
        active = self.node("Relu", [hidden])
        product = self.node("MatMul", [active, self.table(self.normal(6, 5), "g2.weight")])
        return self.node("Add", [product, self.table(self.normal(5))])

    def detected(self, x: tuple) -> str:
        head = self.node("Sigmoid", [self.conv(x, 6, 1)[0]])
        size = self.table(np.array([1, 6, -1], np.int64))
        return self.node("Transpose", [self.node("Reshape", [head, size])], perm=[0, 2, 1])

    def network(self, output: str) -> Network:
        graph = helper.make_graph(
            self.nodes,
            "random",
            [helper.make_tensor_value_info("x", FLOAT, [1, 3, 8, 16])],
            [helper.make_tensor_value_info(output, FLOAT, None)],
            [numpy_helper.from_array(value, name) for name, value in self.tables.items()],
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return Network(proto, bundle_of())


# fmt: off
BLOCKS = (
    "residual", "depthwise", "excited", "branched", "halved", "parted", "shuffled", "chosen",
    "resized", "padded", "normalised", "scaled", "active",
)
PLAIN = (
    "residual", "depthwise", "branched", "halved", "parted", "shuffled", "chosen", "resized",
    "padded", "active",
)
# fmt: on


def bundle_of(spec: InputSpec = SPEC) -> Bundle:
    return Bundle("test", "detect", "yolox", ("a",), spec, Thresholds(), (), Path("."), Path("model.yaml"))


def random_network(seed: int, blocks: list[str], tail: str, kinds: str = "Relu Sigmoid Clip") -> Network:
    builder = Builder(seed, kinds)
    x = builder.active(builder.conv(("x", 3, 8, 16), 8))
    for block in blocks:
        x = getattr(builder, block)(x)
    x = builder.active(builder.conv(x, 8))
    return builder.network(getattr(builder, tail)(x))


def masked(proto: onnx.ModelProto, found: Channels, removed: np.ndarray, role: str) -> onnx.ModelProto:
    """The graph of full size, in which nobody reads the removed channels (role input) or none are made (output)."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    tables = {tensor.name: numpy_helper.to_array(tensor).copy() for tensor in copy.graph.initializer}
    for slot in found.slots:
        if slot.role == role or (role == "output" and slot.role == "along"):
            np.moveaxis(tables[slot.name], slot.axis, 0)[np.isin(slot.units, removed)] = 0
    set_initialisers(copy, tables)
    return copy


def some_units(found: Channels, seed: int) -> np.ndarray:
    """About half of every group, never all."""
    rng = np.random.default_rng(seed)
    parts = [rng.permutation(group.units)[: len(group.units) // 2] for group in found.groups]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def batch_of(count: int = 2) -> np.ndarray:
    return tensors(random_images(SPEC, count, seed=3), SPEC)


@settings(max_examples=40)
@given(
    st.integers(0, 10**6),
    st.lists(st.sampled_from(BLOCKS), max_size=5),
    st.sampled_from(["classified", "detected"]),
)
def test_without_channels_is_as_if_nobody_read_them(seed: int, blocks: list[str], tail: str) -> None:
    network = random_network(seed, blocks, tail)
    proto = prepared(network.proto, SPEC)
    found = channels_of(proto)
    assert found.groups  # the last convolution's, at least
    removed = some_units(found, seed)
    smaller = shrink(proto, found, removed)
    onnx.checker.check_model(smaller, full_check=True)
    assert compare(masked(proto, found, removed, "input"), smaller, batch_of(), 1).relative < 1e-5
    assert sum(multiply_accumulates(smaller).values()) == Costs(proto, found).total(removed)
    sizes = [sum(np.prod(t.dims) for t in p.graph.initializer if t.data_type == FLOAT) for p in (proto, smaller)]
    assert sizes[1] < sizes[0]


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.lists(st.sampled_from(PLAIN), max_size=5), st.sampled_from(["classified", "detected"]))
def test_channels_that_are_zero_go_without_a_trace(seed: int, blocks: list[str], tail: str) -> None:
    """With ReLU what nothing makes is zero, and a score of zero."""
    network = random_network(seed, blocks, tail, "Relu")
    proto = prepared(network.proto, SPEC)
    found = channels_of(proto)
    removed = some_units(found, seed)
    silent = masked(proto, found, removed, "output")
    scores = unit_scores(silent, found, "l2")
    assert all(scores[unit] == 0 for unit in removed.tolist())
    assert compare(silent, shrink(silent, found, removed), batch_of(), 1).relative < 1e-5


def test_groups_of_a_residual_network() -> None:
    network = random_network(0, ["residual", "depthwise"], "detected")
    found = channels_of(prepared(network.proto, SPEC))
    layers = {group.layers for group in found.groups}
    assert any(len(names) == 3 for names in layers)  # stem, the block's last, and the depthwise of both
    head = next(layer for layer in View(network.proto).layers if layer.name == _names(network)[-1])
    assert any(line.startswith(head.name) and "output of the graph" in line for line in found.refused)


def _names(network: Network) -> list[str]:
    return [layer.name for layer in View(network.proto).layers]


def test_a_grouped_convolution_and_a_softmax_over_channels_fix_theirs() -> None:
    builder = Builder(0)
    x = builder.conv(("x", 3, 8, 16), 8)
    weight = builder.table(builder.normal(8, 4, 3, 3), "grouped")
    grouped = builder.node("Conv", [x[0], weight], group=2, pads=[1, 1, 1, 1])
    soft = builder.node("Softmax", [builder.conv((grouped, 8, 8, 16), 8)[0]], axis=1)
    network = builder.network(builder.detected((soft, 8, 8, 16)))
    found = channels_of(prepared(network.proto, SPEC))
    assert found.groups == ()
    assert any("grouped" in line for line in found.refused)
    assert any("Softmax" in line for line in found.refused)


def test_weights_shared_by_two_layers_lose_the_same_channels() -> None:
    builder = Builder(0)
    stems = [builder.active(builder.conv(("x", 3, 8, 16), 8)) for _ in range(2)]
    weight = builder.table(builder.normal(6, 8, 1, 1), "shared")
    towers = [(builder.node("Relu", [builder.node("Conv", [stem[0], weight])]), 6, 8, 16) for stem in stems]
    both = (builder.node("Concat", [tower[0] for tower in towers], axis=2), 6, 16, 16)
    network = builder.network(builder.detected(both))
    proto = prepared(network.proto, SPEC)
    found = channels_of(proto)
    assert sorted(len(group.units) for group in found.groups) == [6, 8]
    removed = some_units(found, 1)
    smaller = shrink(proto, found, removed)
    assert compare(masked(proto, found, removed, "input"), smaller, batch_of(), 1).relative < 1e-5


# the pass -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(tmp_path, threads=1)


def with_data(context: Context, spec: InputSpec = SPEC, count: int = 12) -> Context:
    images = random_images(spec, count, seed=8)
    split = Split(images, np.zeros(count, np.int64), np.arange(count))
    data = Data("random", ("a",), split, split, split, lambda w, h: data)
    return dataclasses.replace(context, data=data)


def wide_network() -> Network:
    builder = Builder(4, "Relu")
    x = builder.active(builder.conv(("x", 3, 8, 16), 32))
    x = builder.residual(x)
    x = builder.active(builder.conv(x, 48))
    x = builder.depthwise(x)
    return builder.network(builder.detected(builder.active(builder.conv(x, 24, 1))))


@pytest.mark.parametrize("criterion", ["l2", "l1", "batch_norm", "activation"])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_target_macs_is_met_in_multiples(criterion: str, scope: str, context: Context) -> None:
    network = wide_network()
    options = channels.Options(target_macs=0.5, criterion=criterion, scope=scope, reconstruct=False)
    outcome = channels.apply(network, options, with_data(context))
    before, after = outcome.facts["macs"]
    assert after <= 0.5 * before
    assert sum(multiply_accumulates(outcome.network.proto).values()) == after
    counts = [kept for total, kept in outcome.facts["layers"].values() if kept != total]
    assert counts
    assert all(count % 8 == 0 for count in counts)
    shapes = static_shapes(outcome.network.proto)
    assert all(shapes[name][0] == kept for name, (_, kept) in outcome.facts["layers"].items())


def test_a_target_out_of_reach_is_told(context: Context) -> None:
    outcome = channels.apply(wide_network(), channels.Options(target_macs=0.01), context)
    assert any("target_macs 0.01 is not reached" in line for line in outcome.refused)
    assert outcome.facts["kept_macs"] > 0.01


def test_exclude_keeps_a_group(context: Context) -> None:
    first = _names(wide_network())[0]
    outcome = channels.apply(wide_network(), channels.Options(ratio=0.5, exclude=(first,)), context)
    assert outcome.facts["layers"][first] == [32, 32]
    assert any(first in line and "excluded" in line for line in outcome.refused)


def test_reconstruction_brings_outputs_nearer(context: Context) -> None:
    network = wide_network()
    context = with_data(context, count=24)
    options = channels.Options(ratio=0.3, criterion="activation", reconstruct=False)
    cut = channels.apply(network, options, context)
    fitted = channels.apply(network, dataclasses.replace(options, reconstruct=True), context)
    facts = fitted.facts["reconstruction"]
    assert facts["error_fitted"] < facts["error_cut"]
    unseen = tensors(random_images(SPEC, 4, seed=77), SPEC)
    assert (
        compare(network.proto, fitted.network.proto, unseen).largest
        < compare(network.proto, cut.network.proto, unseen).largest
    )


def test_energies_are_mean_squares(context: Context) -> None:
    network = wide_network()
    proto = prepared(network.proto, SPEC)
    batch = batch_of(3)
    energies = input_energies(proto, channels_of(proto), batch)
    first = View(proto).layers[0].node
    assert first.input[0] not in energies  # the image has no units
    assert all((energy >= 0).all() for energy in energies.values())
    assert set(energies) == {s.node.input[0] for s in channels_of(proto).slots if s.role == "input"}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"ratio": 1.0}, "ratio"),
        ({"criterion": "taste"}, "criterion"),
        ({"scope": "none"}, "scope"),
        ({"multiple": 0}, "multiple"),
        ({"most": 1.0}, "most"),
        ({"target_macs": 2}, "target_macs"),
        ({"ridge": 0}, "ridge"),
        ({"images": 0}, "images"),
    ],
)
def test_options_name_what_cannot_be(options: dict, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        channels.Options(**options)


def test_no_data_for_activations(context: Context) -> None:
    with pytest.raises(PassError, match="calibration images"):
        channels.apply(wide_network(), channels.Options(criterion="activation"), context)


def test_a_quantised_network_is_refused(context: Context) -> None:
    builder = Builder(0)
    x = builder.conv(("x", 3, 8, 16), 16)
    scale, zero = builder.table(np.float32(0.1).reshape(())), builder.table(np.int8(0).reshape(()))
    q = builder.node("QuantizeLinear", [x[0], scale, zero])
    network = builder.network(builder.detected((builder.node("DequantizeLinear", [q, scale, zero]), *x[1:])))
    with pytest.raises(PassError, match="quantised already"):
        channels.apply(network, channels.Options(), context)


def test_nothing_to_remove_is_an_error(context: Context) -> None:
    builder = Builder(0)
    network = builder.network(builder.detected(("x", 3, 8, 16)))
    with pytest.raises(PassError, match="no channel of this network can be removed"):
        channels.apply(network, channels.Options(), context)


def bundled(repository: Path) -> Network:
    bundle = load_bundle(repository / "models" / "conveyor_parts")
    return Network(onnx.load(str(bundle.variants[0].path)), bundle)


def test_bundled_detector_at_half_its_macs(repository: Path, context: Context) -> None:
    network = bundled(repository)
    outcome = channels.apply(network, channels.Options(target_macs=0.5), context)
    assert 0.45 < outcome.facts["kept_macs"] <= 0.5
    heads = [line for line in outcome.refused if "output of the graph" in line]
    assert len(heads) == 4
    batch = tensors(random_images(network.input), network.input)
    assert np.isfinite(compare(network.proto, outcome.network.proto, batch, 1).largest)  # sizes are the same


def test_real_detector_with_channel_shuffles(shared_data: Path, context: Context) -> None:
    bundle = load_bundle(shared_data / "models" / "fastestdet_coco.onnx")
    network = Network(onnx.load(str(bundle.variants[0].path)), bundle)
    proto = prepared(network.proto, network.input)
    found = channels_of(proto)
    removed = some_units(found, 0)
    batch = tensors(random_images(network.input, 1), network.input)
    smaller = shrink(proto, found, removed)
    assert compare(masked(proto, found, removed, "input"), smaller, batch, 1).relative < 1e-4
    outcome = channels.apply(network, channels.Options(ratio=0.25), context)
    assert outcome.facts["kept_macs"] < 0.8


def small_mobilenet() -> Network:
    return mobilenet_v2(("a", "b", "c"), pixels(32, 32), width=0.5, last=64, seed=3)


def test_mobilenet_v2_with_batch_normalisation(context: Context) -> None:
    network = small_mobilenet()
    proto = prepared(network.proto, network.input)
    assert "BatchNormalization" in {node.op_type for node in proto.graph.node}  # training goes on with it
    found = channels_of(proto)
    assert len(found.refused) == 1  # the classifier's own
    removed = some_units(found, 0)
    batch = tensors(random_images(network.input, 1), network.input)
    smaller = shrink(proto, found, removed)
    assert compare(masked(proto, found, removed, "input"), smaller, batch, 1).relative < 1e-4
    outcome = channels.apply(network, channels.Options(target_macs=0.5, multiple=8), context)
    assert 0.45 < outcome.facts["kept_macs"] <= 0.5
    student = width.apply(network, width.Options(0.5, depth=0.8, weights="random"), context)
    assert len(student.facts["blocks_dropped"]) == 2
    assert np.isfinite(compare(network.proto, student.network.proto, batch, 1).largest)


# width ----------------------------------------------------------------------------------------------------------------


def test_a_student_of_half_the_width(context: Context) -> None:
    outcome = width.apply(wide_network(), width.Options(0.5), context)
    counts = outcome.facts["layers"].values()
    assert {kept / total for total, kept in counts if total in (32, 48)} == {0.5}
    assert all(kept >= 8 or kept == total for total, kept in counts)
    assert outcome.facts["kept_macs"] < 0.35


def test_random_weights_are_the_seeds(context: Context) -> None:
    made = [
        width.apply(wide_network(), width.Options(0.5, weights="random"), dataclasses.replace(context, seed=seed))
        for seed in (1, 1, 2)
    ]
    first, second, third = (
        [numpy_helper.to_array(t) for t in outcome.network.proto.graph.initializer] for outcome in made
    )
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    assert any((a != b).any() for a, b in zip(first, third, strict=True))
    layer = View(made[0].network.proto).layers[-2]
    weight = View(made[0].network.proto).constant(layer.name)
    assert weight is not None
    assert np.isclose(weight.std(), np.sqrt(2 / weight[0].size), rtol=0.3)


def test_depth_drops_residual_blocks(repository: Path, context: Context) -> None:
    network = bundled(repository)
    outcome = width.apply(network, width.Options(1.0, depth=0.5), context)
    assert len(outcome.facts["blocks_dropped"]) == 2
    assert len(View(outcome.network.proto).layers) == len(View(network.proto).layers) - 4
    batch = tensors(random_images(network.input), network.input)
    assert np.isfinite(compare(network.proto, outcome.network.proto, batch, 1).largest)


def test_nothing_smaller_is_an_error(context: Context) -> None:
    with pytest.raises(PassError, match="nothing becomes smaller"):
        width.apply(wide_network(), width.Options(1.0), context)


@pytest.mark.parametrize("options", [{"multiplier": 0}, {"depth": 1.5}, {"weights": "old"}, {"multiple": 0}])
def test_width_options_name_what_cannot_be(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        width.Options(**options)
