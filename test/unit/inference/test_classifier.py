"""Classification bundles and the classifier: crops in, probabilities out, on every backend here that reads ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_vision.datatypes import Frame
from edge_vision.inference import BackendError, Engine, ModelError, load_bundle
from edge_vision.inference.backends import backend
from edge_vision.inference.classifier import Classifier
from edge_vision.inference.conversion.bundle_writer import describe
from edge_vision.inference.embedding import Embedder
from edge_vision.inference.opening import Choice
from edge_vision.inference.worker import Worker

COLOURS = np.array([(0, 0, 255), (0, 255, 0), (255, 0, 0), (0, 255, 255), (255, 255, 255), (20, 20, 20)], np.float32)
NAMES = ["red", "green", "blue", "yellow", "white", "black"]

CARD = """
format: 1
name: colours
task: classify
labels: [{labels}]
input: {{width: 16, height: 24, layout: nchw, dtype: float32, colour: bgr, resize: stretch, batch: {batch}}}
variants: [{{backend: onnxruntime, file: model.onnx}}]
"""


def write_model(path: Path, batch: int | str = "batch", softmax: bool = False, flat: bool = True) -> Path:
    """The nearest of six colours to the mean of the crop: logits that are linear in it, or their softmax."""
    sharp = 1e-3
    weights = (2 * sharp * COLOURS)[:, :, None, None]
    bias = -sharp * (COLOURS**2).sum(1)
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["mean"]),
        helper.make_node("Conv", ["mean", "weights", "bias"], ["scores"], kernel_shape=[1, 1]),
    ]
    last = "scores"
    if flat:
        nodes.append(helper.make_node("Flatten", [last], ["row"], axis=1))
        last = "row"
    if softmax:
        nodes.append(helper.make_node("Softmax", [last], ["probabilities"], axis=1))
        last = "probabilities"
    shape = [batch, 6] + [1, 1] * (not flat)
    graph = helper.make_graph(
        nodes,
        "nearest_colour",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, 24, 16])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(w.astype(np.float32), n) for n, w in (("weights", weights), ("bias", bias))],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def bundle_folder(folder: Path, labels: list[str] = NAMES, more: str = "", **model: Any) -> Path:
    write_model(folder / "model.onnx", **model)
    batch = model.get("batch", 4)
    card = CARD.format(labels=", ".join(labels), batch=batch if isinstance(batch, int) else 4)
    (folder / "model.yaml").write_text(card + more)
    return folder


def stripes() -> tuple[Frame, NDArray]:
    image = np.zeros((120, 240, 3), np.uint8)
    for place, colour in enumerate(COLOURS):
        image[:, 40 * place : 40 * place + 40] = colour
    boxes = np.array([[40 * k + 4, 10, 40 * k + 36, 100] for k in range(len(COLOURS))], np.float32)
    return Frame(image), boxes


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "opencv"])
@pytest.mark.parametrize("batch", ["batch", 4, 1])
@pytest.mark.parametrize("softmax", [False, True])
def test_each_crop_gets_its_class_whatever_the_batch(
    tmp_path: Path, name: str, batch: int | str, softmax: bool
) -> None:
    reason = backend(name).available()
    if reason:
        pytest.skip(f"{name}: {reason}")
    frame, boxes = stripes()
    bundle = load_bundle(bundle_folder(tmp_path, batch=batch, softmax=softmax))
    with Classifier.load(bundle, backend=name) as classifier:
        found = classifier.classify(frame, boxes)
        assert classifier.labels == tuple(NAMES)
    assert (found.shape, found.dtype) == ((6, 6), np.float32)
    assert found.argmax(1).tolist() == list(range(6))
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    logits = 1e-3 * (2 * COLOURS @ COLOURS.T - (COLOURS**2).sum(1))
    expected = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(found, expected / expected.sum(1, keepdims=True), atol=1e-4)


def test_a_whole_frame_is_one_row_and_boxes_outside_have_none(tmp_path: Path) -> None:
    frame, boxes = stripes()
    with Classifier.load(load_bundle(bundle_folder(tmp_path))) as classifier:
        assert classifier.classify(Frame(np.full((50, 70, 3), (0, 0, 250), np.uint8))).argmax(1).tolist() == [0]
        odd = np.array([[300, 10, 340, 100], [np.nan, 0, 10, 10], [10, 10, 10, 90]], np.float32)
        found = classifier.classify(frame, np.concatenate([boxes[:1], odd]))
        assert np.isnan(found).all(1).tolist() == [False, True, True, True]
        assert classifier.classify(frame, np.zeros((0, 4), np.float32)).shape == (0, 6)
    with pytest.raises(BackendError, match="Load it again"):
        classifier.classify(frame)


def test_logits_or_probabilities_by_the_option_else_by_a_run(tmp_path: Path) -> None:
    frame, boxes = stripes()
    measured = Classifier.load(load_bundle(bundle_folder(tmp_path / "a"))).classify(frame, boxes)
    raw = bundle_folder(tmp_path / "b", more="decoder_options: {softmax: false}\n")
    logits = Classifier.load(load_bundle(raw)).classify(frame, boxes)
    assert logits.min() < -1
    np.testing.assert_allclose(measured.argmax(1), logits.argmax(1))
    twice = bundle_folder(tmp_path / "c", more="decoder_options: {softmax: true}\n", softmax=True)
    assert Classifier.load(load_bundle(twice)).classify(frame, boxes).max() < 0.5  # flattened by the second softmax
    wrong = bundle_folder(tmp_path / "d", more="decoder_options: {softmax: maybe}\n")
    with pytest.raises(ModelError, match=r"decoder_options.softmax: is 'maybe'.*true or false"):
        Classifier.load(load_bundle(wrong))


def test_a_bare_file_is_a_classifier_when_it_is_said_so(tmp_path: Path) -> None:
    path = write_model(tmp_path / "net.onnx", flat=False)
    bundle = load_bundle(path, decoder="classification", mean=0.0, std=1.0, colour="bgr")
    assert (bundle.task, bundle.labels[0], len(bundle.labels)) == ("classify", "class_0", 6)
    frame, boxes = stripes()
    with Classifier.load(bundle) as classifier:
        assert classifier.classify(frame, boxes).argmax(1).tolist() == list(range(6))
    folder = tmp_path / "described"
    write_model(folder / "net.onnx", flat=False)
    described = load_bundle(folder / "net.onnx", decoder="classification", labels=NAMES)
    (folder / "model.yaml").write_text(describe(described))
    again = load_bundle(folder)
    assert (again.task, again.labels, again.input) == ("classify", tuple(NAMES), described.input)


def test_what_is_wrong_is_said_with_the_remedy(tmp_path: Path) -> None:
    bundle = load_bundle(bundle_folder(tmp_path / "a"))
    with pytest.raises(ModelError, match=r"is for classify, which finds no boxes.*Classifier.load"):
        Engine.load(bundle)
    with pytest.raises(ModelError, match=r"task classify, and gives no embeddings"):
        Embedder.load(bundle)
    with pytest.raises(ModelError, match=r"labels: 2 names for 6 classes.*one name a class"):
        Classifier.load(load_bundle(bundle_folder(tmp_path / "b", labels=["one", "two"])))
    letterbox = bundle_folder(tmp_path / "c")
    card = (letterbox / "model.yaml").read_text()
    (letterbox / "model.yaml").write_text(card.replace("stretch", "letterbox"))
    with pytest.raises(ModelError, match=r"input.resize: is letterbox.*Write stretch"):
        Classifier.load(load_bundle(letterbox))
    (letterbox / "model.yaml").write_text(card.replace("labels: [red, green, blue, yellow, white, black]\n", ""))
    with pytest.raises(ModelError, match="labels"):
        load_bundle(letterbox)


def test_its_candidates_can_be_measured_in_processes_of_their_own(tmp_path: Path) -> None:
    bundle = load_bundle(bundle_folder(tmp_path, batch=1))
    with Worker(60.0) as worker:
        loaded = worker.open(bundle, Choice("onnxruntime", "cpu", "fp32", 1, bundle.variants[0]))
        assert loaded.description.backend == "onnxruntime"
        assert len(worker.times(3)) == 3
        rows = worker.raw([np.full((24, 16, 3), (250, 0, 0), np.uint8)])
    assert rows[0][0].argmax() == 2
