"""Quantised graphs in training: exact rounding, codes that stay codes, gradients, zeros and clusters; and the passes
that train."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch")
onnx = pytest.importorskip("onnx", reason="training needs onnx")
ort = pytest.importorskip("onnxruntime", reason="the reference is ONNX Runtime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from edge_vision.datatypes import Detections  # noqa: E402
from edge_vision.optimize.architectures.plain import plain_cnn  # noqa: E402
from edge_vision.optimize.architectures.writing import pixels  # noqa: E402
from edge_vision.optimize.data import Data, Split  # noqa: E402
from edge_vision.optimize.network import Network  # noqa: E402
from edge_vision.optimize.passes import Context, PassError, optimisation_pass  # noqa: E402
from edge_vision.optimize.training.graph import TorchGraph  # noqa: E402
from edge_vision.optimize.training.loop import fit  # noqa: E402
from edge_vision.optimize.training.losses import CrossEntropy  # noqa: E402
from edge_vision.optimize.training.schedule import Schedule  # noqa: E402

RNG = np.random.default_rng(1)
LABELS = ("blue", "green", "red")


def model_of(nodes, constants, shape, outputs=("y",), opset=17):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [
            v if isinstance(v, onnx.TensorProto) else numpy_helper.from_array(np.asarray(v), k)
            for k, v in constants.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def reference(model, x: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {session.get_inputs()[0].name: x[i : i + 1]})[0] for i in range(len(x))])


def outputs_of(model, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return next(iter(TorchGraph(model).eval()(torch.from_numpy(x)).values())).numpy()


def pair(name: str, scale: str, zero: str, **attributes):
    return [
        helper.make_node("QuantizeLinear", [name, scale, zero], [f"{name}_q"], **attributes),
        helper.make_node("DequantizeLinear", [f"{name}_q", scale, zero], [f"{name}_dq"], **attributes),
    ]


def quantised_convolution() -> onnx.ModelProto:
    """x -> Q -> DQ -> Conv of int8 weights by channel and an int32 bias -> Q -> DQ."""
    weights = RNG.normal(0, 0.3, (5, 3, 3, 3)).astype(np.float32)
    scale = (np.abs(weights).max((1, 2, 3)) / 127).astype(np.float32)
    bias = RNG.normal(0, 0.5, 5)
    constants = {
        "s": np.float32(0.03),
        "z": np.uint8(120),
        "w": np.rint(weights / scale[:, None, None, None]).astype(np.int8),
        "ws": scale,
        "wz": np.zeros(5, np.int8),
        "b": np.rint(bias / (0.03 * scale)).astype(np.int32),
        "bs": (np.float32(0.03) * scale).astype(np.float32),
        "bz": np.zeros(5, np.int32),
        "ys": np.float32(0.05),
        "yz": np.uint8(110),
    }
    nodes = [
        *pair("x", "s", "z"),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["w_dq"], axis=0),
        helper.make_node("DequantizeLinear", ["b", "bs", "bz"], ["b_dq"], axis=0),
        helper.make_node("Conv", ["x_dq", "w_dq", "b_dq"], ["c"], pads=[1, 1, 1, 1]),
        *pair("c", "ys", "yz"),
        helper.make_node("Identity", ["c_dq"], ["y"]),
    ]
    return model_of(nodes, constants, [1, 3, 8, 9])


def array_of(model, name: str) -> np.ndarray:
    return next(numpy_helper.to_array(i) for i in model.graph.initializer if i.name == name)


def coloured(count: int = 96, seed: int = 0) -> Split:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, count)
    images = rng.integers(60, 140, (count, 16, 16, 3))
    images[np.arange(count), :, :, truth] += 40
    return Split(images.astype(np.uint8), truth.astype(np.int64), np.arange(count) // 8)


@pytest.fixture(scope="module")
def data() -> Data:
    return Data(
        "coloured", LABELS, coloured(), coloured(32, 5), coloured(48, 6), lambda w, h: pytest.fail("no other size")
    )


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> Network:
    network = plain_cnn(LABELS, pixels(16, 16), channels=(8, 16, 16))
    found = fit(network.proto, data.train, network.input, CrossEntropy(), Schedule(epochs=12, batch=16, rate=0.02))
    chosen = optimisation_pass("clean_up")
    work = tmp_path_factory.mktemp("clean_up")
    return chosen.apply(network.with_graph(found.proto), chosen.Options(), Context(work)).network


def accuracy(network: Network, split: Split) -> float:
    """By ONNX Runtime, as it will run."""
    return float((reference(network.proto, split.images).reshape(len(split), -1).argmax(1) == split.truth).mean())


# -- the graph --------------------------------------------------------------------------------------------------------


def test_a_quantised_layer_gives_what_onnx_runtime_gives():
    model = quantised_convolution()
    x = RNG.normal(0, 1.5, (4, 3, 8, 9)).astype(np.float32)
    difference = np.abs(outputs_of(model, x) - reference(model, x))
    # The order of the sums decides a few values that lie halfway between two codes.
    assert np.quantile(difference, 0.99) < 1e-5
    assert difference.max() <= 0.05 + 1e-5


@pytest.mark.parametrize("opset", [13, 21])
@pytest.mark.parametrize(("kind", "zero"), [(np.int8, -3), (np.uint8, 100)])
def test_pairs_round_like_onnx_runtime(kind, zero, opset):
    constants = {"s": np.float32(0.02), "z": kind(zero)}
    nodes = [*pair("x", "s", "z"), helper.make_node("Relu", ["x_dq"], ["y"])]
    x = RNG.normal(0, 2, (3, 40)).astype(np.float32)
    model = model_of(nodes, constants, [1, 40], opset=opset)
    np.testing.assert_allclose(outputs_of(model, x), reference(model, x), atol=1e-6)


def test_what_lies_between_codes_is_computed_on_codes():
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("MaxPool", ["q"], ["m"], kernel_shape=[2, 2]),
        helper.make_node("Transpose", ["m"], ["t"], perm=[0, 2, 3, 1]),
        helper.make_node("DequantizeLinear", ["t", "s", "z"], ["y"]),
    ]
    model = model_of(nodes, {"s": np.float32(0.02), "z": np.uint8(100)}, [1, 3, 4, 5])
    x = RNG.normal(0, 1, (3, 3, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(outputs_of(model, x), reference(model, x), atol=1e-6)
    images = torch.from_numpy(x).requires_grad_()
    TorchGraph(model)(images)["y"].sum().backward()
    assert images.grad is not None
    assert images.grad.any()


def test_weights_of_four_bits_in_blocks_are_read_and_written():
    codes = RNG.integers(-8, 8, (16, 4)).astype(np.int8)
    scales = RNG.uniform(0.05, 0.1, (4, 4)).astype(np.float32)
    weights = helper.make_tensor("w", TensorProto.INT4, codes.shape, codes.ravel().tolist())
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["dq"], axis=0, block_size=4),
        helper.make_node("MatMul", ["x", "dq"], ["y"]),
    ]
    model = model_of(nodes, {"w": weights, "s": scales}, [1, 16], opset=21)
    x = RNG.normal(0, 1, (3, 16)).astype(np.float32)
    np.testing.assert_allclose(outputs_of(model, x), reference(model, x), rtol=1e-5, atol=1e-5)
    graph = TorchGraph(model)
    with torch.no_grad():
        graph.parameter("w")[0, 0] = 100.0
    written = graph.write_back()
    assert written.graph.initializer[0].data_type == TensorProto.INT4
    assert int(numpy_helper.to_array(written.graph.initializer[0])[0, 0]) == 7
    np.testing.assert_array_equal(
        numpy_helper.to_array(written.graph.initializer[0]).astype(int)[1:], codes.astype(int)[1:]
    )


def test_gradients_go_through_the_rounding_and_stop_where_values_are_clipped():
    constants = {"s": np.float32(0.1), "z": np.int8(0)}
    model = model_of([*pair("x", "s", "z"), helper.make_node("Identity", ["x_dq"], ["y"])], constants, [1, 3])
    x = torch.tensor([[0.33, 50.0, -50.0]], requires_grad=True)
    found = TorchGraph(model)(x)["y"]
    np.testing.assert_allclose(found.detach().numpy(), [[0.3, 12.7, -12.8]], rtol=1e-6)
    found.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[1.0, 0.0, 0.0]]


def test_scales_are_trained_where_that_is_asked_for_and_biases_follow():
    model = quantised_convolution()
    graph = TorchGraph(model, train_scales=True)
    assert set(graph.parameters_by_name("scale")) == {"s", "ys"}
    x = torch.from_numpy(RNG.normal(0, 3, (4, 3, 8, 9)).astype(np.float32))
    graph(x)["y"].square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in graph.parameters_by_name("scale").values())
    with torch.no_grad():
        graph.parameter("s").mul_(1.25)
        wanted = graph.eval()(x)["y"].numpy()
    written = graph.write_back()
    assert float(array_of(written, "s")) == pytest.approx(0.03 * 1.25)
    np.testing.assert_allclose(array_of(written, "bs"), 0.03 * 1.25 * array_of(model, "ws"), rtol=1e-5)
    assert array_of(written, "b").dtype == np.int32
    difference = np.abs(reference(written, x.numpy()) - wanted)
    assert np.quantile(difference, 0.99) < 1e-5


def test_the_gradient_of_a_scale_is_that_of_learned_step_sizes():
    """Esser et al. 2020, equation 3: -v/s + round(v/s) inside, the limit outside; divided by sqrt(N Qp)."""
    from edge_vision.optimize.training.quantised import rounded

    x, scale = torch.tensor([0.33, -0.12, 50.0, -50.0]), torch.tensor(0.1, requires_grad=True)
    rounded(x, scale, None, (-128, 127), 0).sum().backward()
    expected = (3 - 3.3) + (-1 + 1.2) + 127 - 128
    assert scale.grad is not None
    assert float(scale.grad) == pytest.approx(expected / np.sqrt(4 * 127), rel=1e-4)


def test_an_untrained_quantised_graph_comes_back_as_it_was():
    model = quantised_convolution()
    written = TorchGraph(model).write_back()
    for before, after in zip(model.graph.initializer, written.graph.initializer, strict=True):
        assert before.data_type == after.data_type
        np.testing.assert_array_equal(numpy_helper.to_array(before), numpy_helper.to_array(after))


# -- the passes -------------------------------------------------------------------------------------------------------


def run(name: str, network: Network, data: Data | None, work: Path, teacher: Network | None = None, **options):
    chosen = optimisation_pass(name)
    return chosen.apply(network, chosen.Options(**options), Context(work, data, teacher, threads=1))


def test_training_with_the_rounding_gives_a_graph_of_integers(trained, data, tmp_path):
    found = run("qat", trained, data, tmp_path, epochs=2, batch=16, rate=1e-3)
    proto = found.network.proto
    kinds = {numpy_helper.to_array(i).dtype for i in proto.graph.initializer if len(i.dims) == 4}
    assert kinds == {np.dtype(np.int8)}
    assert accuracy(found.network, data.test) >= accuracy(trained, data.test) - 0.05
    assert found.facts["epochs"] == 2
    assert "int8" in found.facts
    # Trained and not only rounded: codes differ from those of the pass int8 alone.
    rounded = run("int8", trained, data, tmp_path)
    differ = [
        not np.array_equal(numpy_helper.to_array(a), numpy_helper.to_array(b))
        for a, b in zip(rounded.network.proto.graph.initializer, proto.graph.initializer, strict=True)
    ]
    assert any(differ)
    again = run("qat", found.network, data, tmp_path / "again", teacher=trained, epochs=1)
    assert "int8" not in again.facts


def test_training_with_the_rounding_keeps_zeros_and_clusters(trained, data, tmp_path):
    proto = trained.copied_graph()
    sparse, clustered = [i for i in proto.graph.initializer if len(i.dims) == 4][1:3]  # int8 rewrites the first
    name = clustered.name
    values = numpy_helper.to_array(sparse).copy()
    mask = RNG.random(values.shape) < 0.5
    values[mask] = 0
    sparse.CopyFrom(numpy_helper.from_array(values, sparse.name))
    centres = np.array([-0.4, -0.15, 0, 0.1, 0.3], np.float32)
    members = RNG.integers(0, 5, tuple(clustered.dims))
    clustered.CopyFrom(numpy_helper.from_array(centres[members], name))
    found = run("qat", trained.with_graph(proto), data, tmp_path, epochs=2, batch=16, rate=3e-3)
    codes = {i.name: numpy_helper.to_array(i) for i in found.network.proto.graph.initializer}
    assert codes[sparse.name].dtype == codes[name].dtype == np.int8
    assert not codes[sparse.name][mask].any()
    assert len(np.unique(codes[name])) <= 5
    assert all(len(np.unique(codes[name][members == k])) == 1 for k in range(5))
    assert not codes[name][members == 2].any()


def test_fine_tuning_mends_what_was_broken_and_keeps_its_zeros(trained, data, tmp_path):
    proto = trained.copied_graph()
    masks = {}
    for tensor in proto.graph.initializer:
        if len(tensor.dims) == 4:
            values = numpy_helper.to_array(tensor).copy()
            masks[tensor.name] = np.abs(values) < np.quantile(np.abs(values), 0.8)
            values[masks[tensor.name]] = 0
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    broken = trained.with_graph(proto)
    found = run("fine_tune", broken, data, tmp_path, teacher=trained, epochs=10, batch=16, rate=5e-3, alpha=0.5)
    assert accuracy(found.network, data.test) > max(0.9, accuracy(broken, data.test))
    for tensor in found.network.proto.graph.initializer:
        if tensor.name in masks:
            assert not numpy_helper.to_array(tensor)[masks[tensor.name]].any()
    assert found.facts["KeepZeros"] == len(masks)


def test_a_student_of_its_own_is_distilled_from_a_file(trained, data, tmp_path):
    student = plain_cnn(LABELS, pixels(16, 16), channels=(8, 16), seed=3)
    onnx.save(student.proto, str(tmp_path / "student.onnx"))
    found = run(
        "distil", trained, data, tmp_path / "work", teacher=trained, student=str(tmp_path / "student.onnx"),
        epochs=16, batch=16, rate=0.02,
    )  # fmt: skip
    sizes = [int(np.prod(i.dims)) for i in found.network.proto.graph.initializer]
    assert sum(sizes) == sum(int(np.prod(i.dims)) for i in student.proto.graph.initializer)
    assert accuracy(found.network, data.test) > 0.9
    with pytest.raises(PassError, match="Name an ONNX file"):
        run("distil", trained, data, tmp_path / "work", teacher=trained, student=str(tmp_path / "none.onnx"))


def test_what_a_pass_lacks_is_named(trained, data, tmp_path):
    with pytest.raises(PassError, match="--data"):
        run("fine_tune", trained, None, tmp_path)
    with pytest.raises(PassError, match="--teacher"):
        run("distil", trained, data, tmp_path)
    with pytest.raises(PassError, match="no teacher"):
        run("fine_tune", trained, data, tmp_path, alpha=0.5)
    wrong = Data(
        "wrong", LABELS, Split(data.train.images, data.train.truth + 1, data.train.sequences), *[data.test] * 2, data.at
    )
    with pytest.raises(PassError, match="class ids go from 1 to 3"):
        run("fine_tune", trained, wrong, tmp_path)
    boxes = Split(data.train.images, tuple(Detections() for _ in range(96)), data.train.sequences)
    with pytest.raises(PassError, match="class ids"):
        run("fine_tune", trained, Data("boxes", LABELS, boxes, boxes, boxes, data.at), tmp_path)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("fine_tune", {"alpha": 1.5}),
        ("fine_tune", {"epochs": 0}),
        ("distil", {"temperature": 0.0}),
        ("distil", {"alpha": 0.0}),
        ("qat", {"device": "npu"}),
        ("qat", {"optimiser": "adam"}),
    ],
)
def test_options_name_what_cannot_be(name, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        optimisation_pass(name).Options(**wrong)
