"""input_size and drop_heads: other images and fewer cells, refused where the old ones are built in."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_vision.datatypes import Detections
from edge_vision.inference.bundle import Bundle, Thresholds, load_bundle
from edge_vision.inference.preprocess import InputSpec
from edge_vision.optimize.data import Data, Split
from edge_vision.optimize.graphs.running import random_images, run, session_of, tensors
from edge_vision.optimize.graphs.shapes import static_shapes
from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import Context, Outcome, PassError, clean_up, drop_heads, input_size

SPEC = InputSpec(64, 32, scale=1 / 255)
FLOAT = TensorProto.FLOAT


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(tmp_path, threads=1)


def bundled(repository: Path) -> Network:
    bundle = load_bundle(repository / "models" / "conveyor_parts")
    return Network(onnx.load(str(bundle.variants[0].path)), bundle)


def network_of(
    nodes: list, tables: dict[str, np.ndarray], *, task: str = "detect", opset: int = 17, open_size: bool = False
) -> Network:
    sizes = ["batch", 3, "rows", "columns"] if open_size else [1, 3, SPEC.height, SPEC.width]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", FLOAT, sizes)],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tables.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    bundle = Bundle("test", task, "yolox", ("a",), SPEC, Thresholds(), (), Path("."), Path("model.yaml"))
    return Network(proto, bundle)


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def sizes_of(outcome: Outcome) -> tuple[int, ...]:
    return static_shapes(outcome.network.proto)[outcome.network.proto.graph.output[0].name]


@pytest.mark.parametrize("tidied", [False, True])
@pytest.mark.parametrize(("width", "height"), [(256, 192), (640, 480), (320, 256)])
def test_bundled_detector(repository: Path, context: Context, tidied: bool, width: int, height: int) -> None:
    network = bundled(repository)
    if tidied:
        network = clean_up.apply(network, clean_up.Options(), context).network
    outcome = input_size.apply(network, input_size.Options(width, height), context)
    assert sizes_of(outcome) == (1, width * height // 64 + width * height // 256, 12)
    assert (outcome.network.input.width, outcome.network.input.height) == (width, height)
    assert (network.input.width, network.input.height) == (320, 240)
    assert outcome.facts["kept_macs"] == pytest.approx(width * height / (320 * 240), rel=1e-3)


def test_a_detector_of_sizes_written_into_it_sees_the_same_in_a_padded_image(
    repository: Path, context: Context
) -> None:
    """An object in the middle of a larger image is found as it was: cells are in the right order."""
    network = clean_up.apply(bundled(repository), clean_up.Options(), context).network
    outcome = input_size.apply(network, input_size.Options(448, 240, multiple=16), context)
    image = np.full((1, 240, 320, 3), 114, np.uint8)
    image[:, 80:150, 100:190] = random_images(network.input, 1)[:, 80:150, 100:190]
    wide = np.full((1, 240, 448, 3), 114, np.uint8)
    wide[:, :, 64:384] = image
    old = run(session_of(network.proto), image)[0][0, :1200].reshape(30, 40, 12)
    new = run(session_of(outcome.network.proto), wide)[0][0, : 30 * 56].reshape(30, 56, 12)
    # Away from the borders, which lie elsewhere in the two.
    assert np.abs(old[11:17, 14:22] - new[11:17, 22:30]).max() < 1e-4


def test_channel_shuffles_written_out_are_taken_over(shared_data: Path, context: Context) -> None:
    bundle = load_bundle(shared_data / "models" / "fastestdet_coco.onnx")
    network = Network(onnx.load(str(bundle.variants[0].path)), bundle)
    outcome = input_size.apply(network, input_size.Options(416, 320), context)
    assert sizes_of(outcome) == (1, 85, 20, 26)
    assert len(outcome.facts["sizes_written_anew"]) == 26


def test_scale_rounds_to_the_decoders_stride(repository: Path, context: Context) -> None:
    outcome = input_size.apply(bundled(repository), input_size.Options(scale=0.75), context)
    assert outcome.facts["size"] == [[320, 240], [240, 176]]


def test_sizes_of_resize_slice_and_a_whole_pool(context: Context) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Resize", ["a", "", "", "sizes"], ["b"], mode="nearest"),
        helper.make_node("Slice", ["b", "starts", "ends", "axes"], ["c"]),
        helper.make_node("AveragePool", ["c"], ["d"], kernel_shape=[32, 64]),
        helper.make_node("Reshape", ["d", "flat"], ["e"]),
        helper.make_node("Gemm", ["e", "g"], ["y"]),
    ]
    tables = {
        "w": weights(4, 3, 3, 3),
        "sizes": ints(1, 4, 32, 64),
        "starts": ints(0, 0),
        "ends": ints(32, 64),
        "axes": ints(2, 3),
        "flat": ints(1, 4),
        "g": weights(4, 2),
    }
    network = network_of(nodes, tables, task="classify")
    outcome = input_size.apply(network, input_size.Options(128, 64), context)
    assert "GlobalAveragePool" in {node.op_type for node in outcome.network.proto.graph.node}
    assert sizes_of(outcome) == (1, 2)
    assert static_shapes(outcome.network.proto)["c"] == (1, 4, 64, 128)


def test_an_open_number_of_images_stays_open(context: Context) -> None:
    network = network_of([helper.make_node("Conv", ["x", "w"], ["y"])], {"w": weights(4, 3, 1, 1)}, open_size=True)
    outcome = input_size.apply(network, input_size.Options(128, 64), context)
    dims = outcome.network.proto.graph.input[0].type.tensor_type.shape.dim
    assert dims[0].dim_param == "batch"
    assert [dim.dim_value for dim in dims[1:]] == [3, 64, 128]


@pytest.mark.parametrize(
    ("nodes", "tables", "task"),
    [
        ([helper.make_node("Add", ["x", "grid"], ["y"])], {"grid": weights(1, 3, 32, 64)}, "detect"),
        (
            [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Gemm", ["f", "g"], ["y"])],
            {"g": weights(3 * 32 * 64, 2)},
            "classify",
        ),
        (
            [helper.make_node("Slice", ["x", "s", "e", "a"], ["y"])],
            {"s": ints(0), "e": ints(20), "a": ints(3)},
            "detect",
        ),
    ],
)
def test_what_is_built_in_is_refused(nodes: list, tables: dict, task: str, context: Context) -> None:
    with pytest.raises(PassError, match="Export the model anew"):
        input_size.apply(network_of(nodes, tables, task=task), input_size.Options(128, 64), context)


@pytest.mark.parametrize(
    ("options", "problem"),
    [({"width": 320, "height": 240}, "already"), ({"width": 300, "height": 240}, "multiple of 16")],
)
def test_sizes_that_cannot_be(repository: Path, context: Context, options: dict, problem: str) -> None:
    with pytest.raises(PassError, match=problem):
        input_size.apply(bundled(repository), input_size.Options(**options), context)


@pytest.mark.parametrize("options", [{"width": -1}, {"scale": 0}])
def test_options_name_what_cannot_be(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        input_size.Options(**options)


# drop_heads -----------------------------------------------------------------------------------------------------------

SIZE_OF = {8: 14.0, 16: 30.0}


def two_levels(levels: tuple[int, ...] = (8, 16)) -> Network:
    """Cells of stride 8 and 16 whose boxes are of one size each, sure where the image is bright in their middle."""
    nodes, tables, joined = [], {"one": ints(1, 6, -1)}, []
    for stride in levels:
        # One filter a term: x, y, w, h, objectness, class. The box is centred on the cell, of SIZE_OF the stride.
        kernel = np.zeros((6, 3, stride, stride), np.float32)
        middle = slice(stride // 2 - 1, stride // 2 + 1)
        kernel[4, :, middle, middle] = 4.0
        bias = np.array([0.5, 0.5, *[np.log(SIZE_OF[stride] / stride)] * 2, -20, 20], np.float32)
        tables |= {f"w{stride}": kernel, f"b{stride}": bias, f"s{stride}": ints(4), f"e{stride}": ints(6)}
        tables |= {f"z{stride}": ints(0), f"a{stride}": ints(1)}
        nodes += [
            helper.make_node("Conv", ["x", f"w{stride}", f"b{stride}"], [f"c{stride}"], strides=[stride, stride]),
            helper.make_node("Slice", [f"c{stride}", f"z{stride}", f"s{stride}", f"a{stride}"], [f"box{stride}"]),
            helper.make_node("Slice", [f"c{stride}", f"s{stride}", f"e{stride}", f"a{stride}"], [f"raw{stride}"]),
            helper.make_node("Sigmoid", [f"raw{stride}"], [f"p{stride}"]),
            helper.make_node("Concat", [f"box{stride}", f"p{stride}"], [f"all{stride}"], axis=1),
            helper.make_node("Reshape", [f"all{stride}", "one"], [f"flat{stride}"]),
        ]
        joined.append(f"flat{stride}")
    nodes += [
        helper.make_node("Concat", joined, ["both"], axis=2),
        helper.make_node("Transpose", ["both"], ["y"], perm=[0, 2, 1]),
    ]
    network = network_of(nodes, tables)
    return network.with_graph(network.proto, decoder_options={"strides": list(levels)})


def objects(side: float, count: int = 6) -> Data:
    """Images with one bright square each, of a side as one of the levels makes it."""
    rng = np.random.default_rng(0)
    images = np.zeros((count, 32, 64, 3), np.uint8)
    truth = []
    for image in images:
        step = 16
        x, y = step * rng.integers(4) + step / 2, step * rng.integers(2) + step / 2
        if side < 20:
            x, y = x - 4, y - 4
        low, high = np.array([x, y]) - side / 2, np.array([x, y]) + side / 2
        image[max(0, int(low[1])) : int(high[1]), max(0, int(low[0])) : int(high[0])] = 255
        box = np.array([[*low, *high]], np.float32)
        truth.append(Detections(box, np.ones(1, np.float32), np.zeros(1, np.int64), ("a",)))
    split = Split(images, tuple(truth), np.arange(count))
    data = Data("squares", ("a",), split, split, split, lambda w, h: data)
    return data


def test_a_head_without_objects_goes(context: Context) -> None:
    network = two_levels()
    outcome = drop_heads.apply(network, drop_heads.Options(), dataclasses.replace(context, data=objects(SIZE_OF[8])))
    assert outcome.facts["found_by_stride"] == {"8": 6, "16": 0}
    assert outcome.network.bundle.decoder_options["strides"] == [8]
    assert network.bundle.decoder_options["strides"] == [8, 16]
    assert sizes_of(outcome) == (1, 32, 6)
    names = {tensor.name for tensor in outcome.network.proto.graph.initializer}
    assert "w8" in names
    assert "w16" not in names
    batch = tensors(random_images(SPEC, 2), SPEC)
    before, after = (run(session_of(n.proto), batch)[0] for n in (network, outcome.network))
    assert (before[:, :32] == after).all()


def test_the_other_head_goes_with_large_objects(context: Context) -> None:
    outcome = drop_heads.apply(
        two_levels(), drop_heads.Options(), dataclasses.replace(context, data=objects(SIZE_OF[16]))
    )
    assert outcome.network.bundle.decoder_options["strides"] == [16]
    assert sizes_of(outcome) == (1, 8, 6)


def test_all_heads_needed_is_told(context: Context) -> None:
    options = drop_heads.Options(least=0.0)
    outcome = drop_heads.apply(two_levels(), options, dataclasses.replace(context, data=objects(SIZE_OF[8])))
    assert outcome.network.proto.ByteSize() == two_levels().proto.ByteSize()
    assert any("every head finds" in line for line in outcome.refused)


def test_named_strides_of_the_bundled_detector(repository: Path, context: Context) -> None:
    network = bundled(repository)
    images = random_images(network.input, 2)
    empty = tuple(Detections(labels=network.labels) for _ in images)
    split = Split(images, empty, np.arange(2))
    data = Data("random", network.labels, split, split, split, lambda w, h: data)
    context = dataclasses.replace(context, data=data)
    outcome = drop_heads.apply(network, drop_heads.Options(strides=(8,)), context)
    assert sizes_of(outcome) == (1, 300, 12)
    assert outcome.facts["kept_macs"] < 0.9
    before, after = (run(session_of(n.proto), images)[0] for n in (network, outcome.network))
    np.testing.assert_allclose(before[:, 1200:], after, atol=1e-5)
    untold = drop_heads.apply(network, drop_heads.Options(), context)
    assert any("no object of the training images was found" in line for line in untold.refused)
    with pytest.raises(PassError, match="no head of stride 32"):
        drop_heads.apply(network, drop_heads.Options(strides=(32,)), context)
    with pytest.raises(PassError, match="no head would be left"):
        drop_heads.apply(network, drop_heads.Options(strides=(8, 16)), context)


def test_other_networks_stay_as_they_are(shared_data: Path, context: Context) -> None:
    bundle = load_bundle(shared_data / "models" / "fastestdet_coco.onnx")
    network = Network(onnx.load(str(bundle.variants[0].path)), bundle)
    same = drop_heads.apply(network, drop_heads.Options(), context)
    assert same.network is network
    assert "does not let its strides be chosen" in same.refused[0]
    with pytest.raises(PassError, match="does not let its strides be chosen"):  # by name it was meant
        drop_heads.apply(network, drop_heads.Options(strides=(8,)), context)
    classifier = Network(network.proto, dataclasses.replace(bundle, task="classify"))
    same = drop_heads.apply(classifier, drop_heads.Options(), context)
    assert same.network is classifier
    assert "no detection heads" in same.refused[0]
    with pytest.raises(PassError, match="needs training images"):
        drop_heads.apply(two_levels(), drop_heads.Options(), context)


@pytest.mark.parametrize("options", [{"least": 1}, {"images": 0}])
def test_drop_heads_options_name_what_cannot_be(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        drop_heads.Options(**options)
