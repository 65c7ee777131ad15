"""ONNX graphs in PyTorch: every operator against ONNX Runtime at the graph's own batch and at others, gradients against
finite differences, and the way back into the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch")
onnx = pytest.importorskip("onnx", reason="training needs onnx")
ort = pytest.importorskip("onnxruntime", reason="the reference is ONNX Runtime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from edge_vision.optimize.architectures.mobilenet_v2 import mobilenet_v2  # noqa: E402
from edge_vision.optimize.architectures.writing import pixels  # noqa: E402
from edge_vision.optimize.training.detection_loss import head_tensors  # noqa: E402
from edge_vision.optimize.training.errors import TrainingError  # noqa: E402
from edge_vision.optimize.training.graph import TorchGraph  # noqa: E402
from edge_vision.paths import find_model  # noqa: E402

RNG = np.random.default_rng(3)
SHAPE = (1, 6, 8, 10)


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(0, 1, shape).astype(np.float32)


def graph_of(nodes, constants=None, shape=SHAPE, opset=17, outputs=("y",), kind=TensorProto.FLOAT):
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def reference(model, x: np.ndarray, names=None) -> list[np.ndarray]:
    """ONNX Runtime, image by image, nothing fused."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    runs = [session.run(names, {session.get_inputs()[0].name: x[i : i + 1]}) for i in range(len(x))]
    return [np.concatenate(parts) for parts in zip(*runs, strict=True)]


def check(model, shape=SHAPE, batch=3, tolerance=1e-5, x=None) -> None:
    x = floats(batch, *shape[1:]) if x is None else x
    graph = TorchGraph(model).eval()
    with torch.no_grad():
        found = graph(torch.from_numpy(x))
    for name, wanted in zip([o.name for o in model.graph.output], reference(model, x), strict=True):
        np.testing.assert_allclose(found[name].numpy(), wanted, rtol=tolerance, atol=tolerance)


def node(kind, *inputs, outputs=("y",), **attributes):
    return helper.make_node(kind, list(inputs), list(outputs), **attributes)


PLAIN = [
    "Relu",
    "Sigmoid",
    "Tanh",
    "Exp",
    "Abs",
    "Neg",
    "Erf",
    "Floor",
    "Softplus",
    "HardSwish",
    "Identity",
    "Sign",
    "HardSigmoid",
    "LeakyRelu",
    "Elu",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Flatten",
    "Softmax",
    "LogSoftmax",
]
ONE_BY_ONE = {
    **{name: (node(name, "x"), {}) for name in PLAIN},
    "Clip": (node("Clip", "x", "low", "high"), {"low": np.float32(-0.5), "high": np.float32(0.7)}),
    "Clip from 0 to 6": (node("Clip", "x", "low", "high"), {"low": np.float32(0), "high": np.float32(6)}),
    "Clip below": (node("Clip", "x", "low"), {"low": np.float32(-0.5)}),
    "HardSigmoid of MobileNetV3": (node("HardSigmoid", "x", alpha=1 / 6, beta=0.5), {}),
    "LeakyRelu 0.3": (node("LeakyRelu", "x", alpha=0.3), {}),
    "PRelu": (node("PRelu", "x", "s"), {"s": floats(6, 1, 1)}),
    "Add": (node("Add", "x", "c"), {"c": floats(6, 1, 1)}),
    "Sub": (node("Sub", "x", "c"), {"c": floats(1, 6, 8, 10)}),
    "Mul": (node("Mul", "c", "x"), {"c": np.float32(2.5)}),
    "Div": (node("Div", "x", "c"), {"c": np.float32(2.5)}),
    "Pow": (node("Pow", "x", "c"), {"c": np.float32(2)}),
    "Min": (node("Min", "x", "c"), {"c": np.float32(0.1)}),
    "Max": (node("Max", "x", "c"), {"c": np.float32(0.1)}),
    "MatMul": (node("MatMul", "x", "c"), {"c": floats(10, 4)}),
    "Conv": (node("Conv", "x", "w", "b", pads=[1, 1, 1, 1]), {"w": floats(4, 6, 3, 3), "b": floats(4)}),
    "Conv, stride and dilation": (
        node("Conv", "x", "w", strides=[2, 1], dilations=[1, 2], pads=[1, 2, 1, 2]),
        {"w": floats(4, 6, 3, 3)},
    ),
    "Conv, groups": (node("Conv", "x", "w", group=3), {"w": floats(6, 2, 3, 3)}),
    "Conv, uneven padding": (node("Conv", "x", "w", pads=[0, 1, 2, 0]), {"w": floats(4, 6, 3, 3)}),
    "Conv, SAME_UPPER": (node("Conv", "x", "w", auto_pad="SAME_UPPER", strides=[2, 2]), {"w": floats(4, 6, 3, 3)}),
    "Conv, SAME_LOWER": (node("Conv", "x", "w", auto_pad="SAME_LOWER", strides=[2, 2]), {"w": floats(4, 6, 4, 4)}),
    "ConvTranspose": (node("ConvTranspose", "x", "w", strides=[2, 2], pads=[1, 1, 1, 1]), {"w": floats(6, 4, 4, 4)}),
    "MaxPool": (node("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), {}),
    "MaxPool, ceil": (node("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1), {}),
    "MaxPool, uneven": (node("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]), {}),
    "AveragePool": (node("AveragePool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), {}),
    "AveragePool, padding counts": (
        node("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
        {},
    ),
    "AveragePool, uneven": (node("AveragePool", "x", kernel_shape=[2, 2], pads=[0, 0, 1, 1]), {}),
    "BatchNormalization": (
        node("BatchNormalization", "x", "s", "b", "m", "v"),
        {"s": floats(6), "b": floats(6), "m": floats(6), "v": floats(6) ** 2 + 0.1},
    ),
    "InstanceNormalization": (node("InstanceNormalization", "x", "s", "b"), {"s": floats(6), "b": floats(6)}),
    "LayerNormalization": (node("LayerNormalization", "x", "s", "b"), {"s": floats(10), "b": floats(10)}),
    "Pad": (node("Pad", "x", "p", "v"), {"p": np.array([0, 0, 1, 2, 0, 0, 0, 1]), "v": np.float32(3)}),
    "Pad, reflect": (node("Pad", "x", "p", mode="reflect"), {"p": np.array([0, 0, 1, 2, 0, 0, 0, 1])}),
    "Pad, edge": (node("Pad", "x", "p", mode="edge"), {"p": np.array([0, 0, 1, 2, 0, 0, 0, 1])}),
    "ReduceMean": (node("ReduceMean", "x", axes=[2, 3], keepdims=0), {}),
    "ReduceSum": (node("ReduceSum", "x", "a"), {"a": np.array([1])}),
    "ReduceMax": (node("ReduceMax", "x", axes=[-1]), {}),
    "ReduceL2": (node("ReduceL2", "x", axes=[1]), {}),
    "Softmax over channels": (node("Softmax", "x", axis=1), {}),
    "Transpose": (node("Transpose", "x", perm=[0, 2, 3, 1]), {}),
    "Reshape": (node("Reshape", "x", "s"), {"s": np.array([1, 6, -1])}),
    "Reshape, 0": (node("Reshape", "x", "s"), {"s": np.array([0, 0, 80])}),
    "Reshape, -1 first": (node("Reshape", "x", "s"), {"s": np.array([-1, 480])}),
    "Squeeze": (node("Squeeze", "x", "a"), {"a": np.array([2])}, (1, 6, 1, 10)),
    "Unsqueeze": (node("Unsqueeze", "x", "a"), {"a": np.array([2])}),
    "Slice": (
        node("Slice", "x", "s", "e", "a", "t"),
        {"s": np.array([1, -4]), "e": np.array([5, 1000]), "a": np.array([1, 3]), "t": np.array([2, 1])},
    ),
    "Slice, backwards": (
        node("Slice", "x", "s", "e", "a", "t"),
        {"s": np.array([-1]), "e": np.array([-(2**62)]), "a": np.array([3]), "t": np.array([-1])},
    ),
    "Slice of the whole batch": (
        node("Slice", "x", "s", "e"),
        {"s": np.array([0, 2]), "e": np.array([1, 5])},
    ),
    "Gather": (node("Gather", "x", "i", axis=1), {"i": np.array([3, 0, -1])}),
    "Gather, one": (node("Gather", "x", "i", axis=2), {"i": np.array(2)}),
    "Expand": (node("Expand", "x", "s"), {"s": np.array([1, 6, 8, 10])}, (1, 6, 1, 1)),
    "Tile": (node("Tile", "x", "s"), {"s": np.array([1, 2, 1, 3])}),
    "DepthToSpace": (node("DepthToSpace", "x", blocksize=2), {}, (1, 8, 4, 5)),
    "DepthToSpace, CRD": (node("DepthToSpace", "x", blocksize=2, mode="CRD"), {}, (1, 8, 4, 5)),
    "SpaceToDepth": (node("SpaceToDepth", "x", blocksize=2), {}),
    "Cast": (node("Cast", "x", to=TensorProto.FLOAT), {}),
    "Gemm": (node("Gemm", "x", "w", "b", transB=1), {"w": floats(4, 12), "b": floats(4)}, (1, 12)),
    "Gemm, factors": (
        node("Gemm", "x", "w", "b", alpha=0.5, beta=2.0),
        {"w": floats(12, 4), "b": floats(1, 4)},
        (1, 12),
    ),
    "QuantizeLinear": (
        node("QuantizeLinear", "x", "s", "z", outputs=("q",)),
        {"s": np.float32(0.02), "z": np.uint8(100)},
    ),
}


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_each_operator_gives_what_onnx_runtime_gives(name):
    made, constants, *rest = ONE_BY_ONE[name]
    shape = rest[0] if rest else SHAPE
    nodes = [made]
    if name == "QuantizeLinear":
        nodes.append(node("DequantizeLinear", "q", "s", "z"))
    check(graph_of(nodes, constants, shape), shape)


@pytest.mark.parametrize("factor", [2, 1.5, 0.5])
@pytest.mark.parametrize(
    ("mode", "rule", "nearest"),
    [
        ("nearest", "asymmetric", "floor"),
        ("nearest", "half_pixel", "round_prefer_floor"),
        ("nearest", "half_pixel", "round_prefer_ceil"),
        ("nearest", "align_corners", "ceil"),
        ("linear", "half_pixel", "floor"),
        ("linear", "align_corners", "floor"),
        ("linear", "asymmetric", "floor"),
        ("linear", "pytorch_half_pixel", "floor"),
    ],
)
def test_resizing_follows_the_rules_of_coordinates(mode, rule, nearest, factor):
    made = node(
        "Resize", "x", "", "s", mode=mode, coordinate_transformation_mode=rule, nearest_mode=nearest
    )  # sizes 8 x 10
    check(graph_of([made], {"s": np.array([1, 1, factor, factor], np.float32)}))
    sizes = np.array([1, 6, int(8 * factor), int(10 * factor)])
    made = node("Resize", "x", "", "", "s", mode=mode, coordinate_transformation_mode=rule, nearest_mode=nearest)
    check(graph_of([made], {"s": sizes}))


def test_old_opsets_keep_axes_and_limits_as_attributes():
    nodes = [
        node("Clip", "x", outputs=("a",), min=-1.0, max=1.0),
        node("Upsample", "a", "s", outputs=("b",), mode="nearest"),
        node("Slice", "b", outputs=("c",), axes=[2], starts=[1], ends=[9]),
        node("Unsqueeze", "c", outputs=("d",), axes=[1]),
        node("Squeeze", "d", outputs=("e",), axes=[1]),
        node("Pad", "e", outputs=("f",), pads=[0, 0, 1, 1, 0, 0, 1, 1]),
        node("Softmax", "f"),
    ]
    check(graph_of(nodes, {"s": np.array([1, 1, 2, 2], np.float32)}, opset=9))


def test_several_outputs_of_a_split():
    nodes = [
        node("Split", "x", "s", outputs=("a", "b"), axis=1),
        node("Sigmoid", "b", outputs=("c",)),
        node("Concat", "c", "a", axis=1),
    ]
    check(graph_of(nodes, {"s": np.array([4, 2])}))


def test_shapes_worked_out_in_the_graph_fit_any_batch():
    """As PyTorch writes x.view(x.shape[0], x.shape[1], -1)."""
    nodes = [
        node("Shape", "x", outputs=("s",)),
        node("Gather", "s", "first", outputs=("n",), axis=0),
        node("Slice", "s", "one", "two", outputs=("c",)),
        node("Unsqueeze", "n", "zero", outputs=("n1",)),
        node("Concat", "n1", "c", "rest", outputs=("target",), axis=0),
        node("Reshape", "x", "target", outputs=("flat",)),
        node("Transpose", "flat", perm=[0, 2, 1]),
    ]
    constants = {
        "first": np.array(0),
        "one": np.array([1]),
        "two": np.array([2]),
        "zero": np.array([0]),
        "rest": np.array([-1]),
    }
    check(graph_of(nodes, constants), batch=5)


def test_channel_shuffles_for_one_image_fit_any_batch():
    """ShuffleNetV2 as its exporters write it: the batch is merged with the channels, and moved to the second axis."""
    nodes = [
        node("Reshape", "x", "halves", outputs=("a",)),
        node("Transpose", "a", outputs=("b",), perm=[1, 0, 2]),
        node("Reshape", "b", "five", outputs=("c",)),
        node("Gather", "c", "second", axis=0),
    ]
    constants = {"halves": np.array([3, 2, 80]), "five": np.array([2, -1, 3, 8, 10]), "second": np.array(1)}
    check(graph_of(nodes, constants), batch=4)


def test_a_reshape_that_tears_images_apart_is_refused():
    nodes = [
        node("Transpose", "x", outputs=("t",), perm=[1, 0, 2, 3]),
        node("Reshape", "t", "s"),
    ]
    with pytest.raises(TrainingError, match=r"Reshape node 'y'.*free batch axis"):
        TorchGraph(graph_of(nodes, {"s": np.array([4, 120])}))


@pytest.mark.parametrize(
    ("made", "constants", "message"),
    [
        (node("Loop", "x"), {}, "Loop node 'y'"),
        (node("NonMaxSuppression", "x", "x"), {}, "does not know this operator"),
        (node("Gather", "x", "i", axis=0), {"i": np.array(0)}, "takes some images of a batch"),
        (node("Slice", "x", "s", "e"), {"s": np.array([0]), "e": np.array([0])}, "cuts the batch"),
        (node("Relu", "nothing"), {}, "which nothing before it makes"),
        (node("Add", "x", "c"), {"c": floats(5)}, "Add node 'y'"),
    ],
)
def test_what_cannot_be_trained_is_named_with_its_node(made, constants, message):
    with pytest.raises(TrainingError, match=message):
        TorchGraph(graph_of([made], constants))


def test_half_precision_is_refused_with_a_remedy():
    weights = {"w": floats(4, 6, 1, 1).astype(np.float16)}
    with pytest.raises(TrainingError, match="before the pass `half`"):
        TorchGraph(graph_of([node("Conv", "x", "w")], weights, kind=TensorProto.FLOAT16))


def test_an_open_size_needs_the_bundles_input():
    model = graph_of([node("Relu", "x")], shape=("n", 3, "h", "w"))
    with pytest.raises(TrainingError, match="leaves its size open"):
        TorchGraph(model)
    found = TorchGraph(model, input_shape=(1, 3, 4, 5))(torch.ones(2, 3, 4, 5))["y"]
    assert found.shape == (2, 3, 4, 5)


def small_net():
    nodes = [
        node("Conv", "x", "w", "b", outputs=("a",), pads=[1, 1, 1, 1]),
        node("BatchNormalization", "a", "scale", "shift", "mean", "var", outputs=("n",), momentum=0.8),
        node("Relu", "n", outputs=("r",)),
        node("Conv", "r", "dw", outputs=("d",), group=4),
        node("Sigmoid", "d", outputs=("g",)),
        node("Mul", "d", "g", outputs=("s",)),
        node("GlobalAveragePool", "s", outputs=("p",)),
        node("Flatten", "p", outputs=("f",)),
        node("Gemm", "f", "gw", "gb", transB=1),
    ]
    constants = {
        "w": floats(4, 6, 3, 3) * 0.2,
        "b": floats(4),
        "scale": floats(4),
        "shift": floats(4),
        "mean": floats(4),
        "var": floats(4) ** 2 + 0.5,
        "dw": floats(4, 1, 3, 3) * 0.3,
        "gw": floats(3, 4),
        "gb": floats(3),
    }
    return graph_of(nodes, constants)


def test_gradients_are_those_of_finite_differences():
    graph = TorchGraph(small_net()).double().eval()
    graph.freeze_statistics = True
    x = torch.from_numpy(floats(2, *SHAPE[1:])).double()

    def loss() -> torch.Tensor:
        return graph(x)["y"].square().sum()

    loss().backward()
    for name, parameter in graph.parameters_by_name().items():
        index = tuple(0 for _ in parameter.shape)
        with torch.no_grad():
            before = float(parameter[index])
            parameter[index] = before + 1e-5
            above = float(loss())
            parameter[index] = before - 1e-5
            below = float(loss())
            parameter[index] = before
        assert float(parameter.grad[index]) == pytest.approx((above - below) / 2e-5, rel=1e-4, abs=1e-6), name


def test_batch_normalisation_trains_with_the_batch_and_writes_its_statistics_back():
    model = small_net()
    graph = TorchGraph(model).train()
    x = floats(8, *SHAPE[1:])
    graph(torch.from_numpy(x))
    inner = reference(_with_output(model, "a"), x)[1]
    mean = numpy_helper.to_array(next(i for i in model.graph.initializer if i.name == "mean"))
    written = graph.write_back()
    after = {i.name: numpy_helper.to_array(i) for i in written.graph.initializer}
    np.testing.assert_allclose(after["mean"], 0.8 * mean + 0.2 * inner.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert not np.array_equal(after["var"], numpy_helper.to_array(model.graph.initializer[5]))


def _with_output(model, name):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.append(helper.make_empty_tensor_value_info(name))
    return copy


def test_a_frozen_graph_keeps_its_statistics():
    model = small_net()
    graph = TorchGraph(model, freeze_statistics=True).train()
    graph(torch.from_numpy(floats(8, *SHAPE[1:])))
    np.testing.assert_array_equal(graph.parameter("mean").numpy(), numpy_helper.to_array(model.graph.initializer[4]))


def test_untrained_graphs_come_back_as_they_were_and_trained_ones_run_as_trained():
    model = small_net()
    graph = TorchGraph(model).eval()
    assert graph.write_back() == model
    with torch.no_grad():
        for parameter in graph.parameters():
            parameter.mul_(1.5)
    x = floats(3, *SHAPE[1:])
    with torch.no_grad():
        wanted = graph(torch.from_numpy(x))["y"].numpy()
    np.testing.assert_allclose(reference(graph.write_back(), x)[0], wanted, rtol=1e-4, atol=1e-4)
    assert reference(model, x)[0] == pytest.approx(reference(small_net_copy(model), x)[0])


def small_net_copy(model):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def test_only_weights_are_parameters_and_not_a_detectors_grids():
    nodes = [
        node("Constant", outputs=("w",), value=numpy_helper.from_array(floats(6, 6, 1, 1))),
        node("Conv", "x", "w", outputs=("a",)),
        node("Add", "a", "bias", outputs=("b",)),
        node("Sigmoid", "b", outputs=("c",)),
        node("Add", "c", "grid", outputs=("d",)),
        node("Mul", "d", "stride"),
    ]
    constants = {"bias": floats(6, 1, 1), "grid": floats(1, 1, 8, 10), "stride": np.float32(8)}
    graph = TorchGraph(graph_of(nodes, constants))
    assert set(graph.parameters_by_name()) == {"w", "bias"}
    assert set(graph.weights()) == {"w"}
    with torch.no_grad():
        graph.parameter("w").zero_()
    written = graph.write_back()
    assert not numpy_helper.to_array(written.graph.node[0].attribute[0].t).any()


def test_inner_tensors_are_whole_although_activations_write_over_their_inputs():
    model = small_net()
    graph = TorchGraph(model).eval()
    x = floats(2, *SHAPE[1:])
    with torch.no_grad():
        found = graph(torch.from_numpy(x), wanted=["n", "r"])
        alone = graph.compute(torch.from_numpy(x), ("n",))["n"]
    wanted = reference(_with_output(model, "n"), x)[1]
    np.testing.assert_allclose(found["n"].numpy(), wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(alone.numpy(), wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["r"].numpy(), wanted.clip(min=0), rtol=1e-4, atol=1e-5)
    with pytest.raises(TrainingError, match="no tensor 'nothing'"):
        graph(torch.from_numpy(x), wanted=["nothing"])


def test_the_bundled_detector_gives_what_onnx_runtime_gives():
    model = onnx.load(str(find_model("conveyor_parts") / "model.onnx"))
    x = RNG.integers(0, 256, (2, 240, 320, 3)).astype(np.uint8)
    check(model, tolerance=1e-4, x=x)


def test_a_shuffling_detector_gives_what_onnx_runtime_gives(shared_data: Path):
    model = onnx.load(str(shared_data / "models" / "fastestdet_coco.onnx"))
    check(model, tolerance=1e-4, x=RNG.random((2, 3, 352, 352)).astype(np.float32))


def test_a_tail_with_bins_and_anchors_fits_any_batch_and_is_not_trained():
    """YOLOv8's: boxes as distributions over four bins, a softmax, their mean by a convolution of 0, 1, 2, 3."""
    nodes = [
        node("Conv", "x", "w", "b", outputs=("head",)),
        node("Reshape", "head", "flat", outputs=("rows",)),
        node("Split", "rows", "parts", outputs=("boxes", "classes"), axis=1),
        node("Reshape", "boxes", "bins", outputs=("binned",)),
        node("Transpose", "binned", outputs=("turned",), perm=[0, 2, 1, 3]),
        node("Softmax", "turned", outputs=("shares",), axis=1),
        node("Conv", "shares", "count", outputs=("mean",)),
        node("Reshape", "mean", "four", outputs=("sides",)),
        node("Slice", "sides", "zero", "two", "one", outputs=("left",)),
        node("Slice", "sides", "two", "four_", "one", outputs=("right",)),
        node("Sub", "anchors", "left", outputs=("begin",)),
        node("Add", "anchors", "right", outputs=("end",)),
        node("Sigmoid", "classes", outputs=("scores",)),
        node("Concat", "begin", "end", "scores", axis=1),
    ]
    constants = {
        "w": floats(18, 6, 1, 1),
        "b": floats(18),
        "flat": np.array([1, 18, -1]),
        "parts": np.array([16, 2]),
        "bins": np.array([1, 4, 4, 80]),
        "count": np.arange(4, dtype=np.float32).reshape(1, 4, 1, 1),
        "four": np.array([1, 4, 80]),
        "zero": np.array([0]),
        "one": np.array([1]),
        "two": np.array([2]),
        "four_": np.array([4]),
        "anchors": floats(1, 2, 80),
    }
    model = graph_of(nodes, constants)
    check(model, batch=4)
    graph = TorchGraph(model)
    assert set(graph.parameters_by_name()) == {"w", "b"}
    assert head_tensors(graph) == ("head",)


def test_a_bias_behind_a_turned_product_is_trained_and_belongs_to_its_layer():
    """As quantised heads are written: a matrix, the channels moved back, the bias."""
    nodes = [
        node("Transpose", "x", outputs=("last",), perm=[0, 2, 3, 1]),
        node("MatMul", "last", "w", outputs=("product",)),
        node("Transpose", "product", outputs=("first",), perm=[0, 3, 1, 2]),
        node("Add", "first", "b", outputs=("head",)),
        node("Sigmoid", "head"),
    ]
    graph = TorchGraph(graph_of(nodes, {"w": floats(6, 5), "b": floats(1, 5, 1, 1)}))
    assert set(graph.parameters_by_name()) == {"w", "b"}
    assert head_tensors(graph) == ("head",)


def test_mobilenet_gives_what_onnx_runtime_gives():
    network = mobilenet_v2(("a", "b", "c"), pixels(64, 64), width=0.25)
    check(network.proto, tolerance=1e-4, x=RNG.integers(0, 256, (3, 64, 64, 3)).astype(np.uint8))
