"""Learning true boxes: where they go when images are varied, which cells answer for them, and what a training makes of
it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="training needs PyTorch")
onnx = pytest.importorskip("onnx", reason="training needs onnx")

from edge_vision.datatypes import Detections  # noqa: E402
from edge_vision.inference.bundle import load_bundle  # noqa: E402
from edge_vision.optimize.data import Data, Split  # noqa: E402
from edge_vision.optimize.network import Network  # noqa: E402
from edge_vision.optimize.passes import Context, optimisation_pass  # noqa: E402
from edge_vision.optimize.training import running  # noqa: E402
from edge_vision.optimize.training.box_loss import NO_CLASS, BoxLabels, Cells, assign, box_loss, overlap  # noqa: E402
from edge_vision.optimize.training.errors import TrainingError  # noqa: E402
from edge_vision.optimize.training.graph import TorchGraph  # noqa: E402
from edge_vision.optimize.training.inputs import Augmentation, Moves, boxes_of  # noqa: E402

WIDTH, HEIGHT = 64, 48
CELLS = Cells(WIDTH, HEIGHT, (8, 16))


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 40), st.integers(2, 30), st.integers(1, 20), st.integers(1, 16), st.integers(0, 10**6))
def test_boxes_go_where_their_pixels_go(left: int, top: int, width: int, height: int, seed: int) -> None:
    image = np.zeros((1, HEIGHT, WIDTH, 3), np.uint8)
    image[0, top : top + height, left : left + width] = 255
    varied = Augmentation(horizontal_flip=True, vertical_flip=True, shift=0.02)  # the border stays black
    found, moves = varied.moving(image, np.random.default_rng(seed))
    box = np.array([[left, top, left + width, top + height]], np.float32)
    (moved,) = moves.boxes(0, box, WIDTH, HEIGHT)
    rows, columns = np.nonzero(found[0, :, :, 0])
    assert moved.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_array_equal(varied(image, np.random.default_rng(seed)), found)


def test_what_has_left_the_image_is_not_learnt() -> None:
    moves = Moves(np.zeros((2, 2), bool), np.array([[-30, 0]] * 2))
    boxes = np.array([[0, 0, 20, 20], [20, 0, 60, 20], [28, 4, 36, 12]], np.float32)
    truth = Detections(boxes, np.ones(3, np.float32), np.array([0, 1, 2]))
    padded = boxes_of([truth, Detections()], moves, WIDTH, HEIGHT)
    assert padded.shape == (2, 3, 5)
    assert padded[0, :, 0].tolist() == [1, 2, NO_CLASS]
    np.testing.assert_array_equal(padded[0, :2, 1:], [[0, 0, 30, 20], [0, 4, 6, 12]])
    assert (padded[1, :, 0] == NO_CLASS).all()
    assert boxes_of([Detections()], None, WIDTH, HEIGHT).shape == (1, 1, 5)


def test_overlaps_by_hand() -> None:
    a = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 1, 1]])
    b = torch.tensor([[0.0, 0, 2, 2], [1, 0, 3, 2], [3, 0, 4, 1]])
    iou, giou = overlap(a, b)
    torch.testing.assert_close(iou, torch.tensor([1.0, 1 / 3, 0.0]))
    torch.testing.assert_close(giou, torch.tensor([1.0, 1 / 3, -0.5]))  # the last two leave half of their hull empty


def perfect(truth: torch.Tensor) -> torch.Tensor:
    """Raw outputs of three classes of which every cell says the first object, and only those near it that they do."""
    raw = torch.zeros(1, len(CELLS), 8)
    class_id, box = int(truth[0, 0, 0]), truth[0, 0, 1:]
    centre, size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    raw[0, :, :2] = centre / CELLS.strides - CELLS.places
    raw[0, :, 2:4] = (size / CELLS.strides).log()
    inside = (((CELLS.places + 0.5) * CELLS.strides - centre).abs() < size / 2).all(1)
    raw[0, :, 4] = torch.where(inside, 8.0, -8.0)
    raw[0, :, 5:] = -8.0
    raw[0, :, 5 + class_id] = 8.0
    return raw


def test_cells_near_an_object_answer_for_it() -> None:
    truth = torch.tensor([[[1.0, 16, 12, 40, 36], [0, 0, 0, 1, 1]]])
    raw = perfect(truth)
    index, iou = assign(CELLS, CELLS.boxes(raw), raw[..., 4:], truth, torch.tensor([[True, False]]))
    chosen = (index[0] == 0).nonzero()[:, 0]
    assert 1 <= len(chosen) <= 10
    strides = CELLS.strides[chosen]
    assert (((CELLS.places[chosen] + 0.5) * strides - torch.tensor([28, 24])).abs() < 2 * strides).all()
    torch.testing.assert_close(iou[0, chosen], torch.ones(len(chosen)))
    assert (index[0] != 1).all()  # the second is no object


def test_who_says_the_truth_has_next_to_no_loss() -> None:
    truth = torch.tensor([[[1.0, 16, 12, 40, 36]]])
    present = torch.ones(1, 1, dtype=torch.bool)
    raw = perfect(truth).requires_grad_()
    index, _ = assign(CELLS, CELLS.boxes(raw).detach(), raw[..., 4:].detach(), truth, present)
    with torch.no_grad():
        raw[0, :, 4] = torch.where(index[0] >= 0, 8.0, -8.0)
    right, terms = box_loss(CELLS, raw, truth, present)
    assert right.item() < 0.1
    assert set(terms) == {"box", "obj", "cls", "l1"}
    off = raw.detach().clone()
    off[..., :2] += 0.5
    assert float(box_loss(CELLS, off, truth, present)[0]) > right.item() + 0.5
    nothing, _ = box_loss(CELLS, raw, truth, torch.zeros(1, 1, dtype=torch.bool))
    nothing.backward()
    assert torch.isfinite(raw.grad).all()


@pytest.fixture(scope="module")
def detector(repository: Path) -> Network:
    bundle = load_bundle(repository / "models" / "conveyor_parts")
    return Network(onnx.load(str(bundle.variants[0].path)), bundle)


def test_the_detector_knows_its_own_answers_better_than_others(detector: Network) -> None:
    loss = running.label_loss(detector)
    assert loss is not None
    graph = TorchGraph(detector.proto, input_shape=detector.input.shape).eval()
    image = torch.randint(0, 256, (1, 240, 320, 3), dtype=torch.uint8)
    loss.prepare(graph, None, [image])
    with torch.no_grad():
        answers = graph.compute(image, loss.student_tensors)
    best = int((answers["output"][0, :, 4] * answers["output"][0, :, 5:].amax(1)).argmax())
    box = Cells(320, 240, (8, 16)).boxes(answers["output"])[0, best]
    own = torch.cat([answers["output"][0, best, 5:].argmax()[None].float(), box.clamp(0, 320)])[None, None]
    other = torch.tensor([[[float((own[0, 0, 0] + 1) % 7), 3, 3, 9, 9]]])
    assert float(loss(answers, {}, own)) < float(loss(answers, {}, other))
    with pytest.raises(TrainingError, match="have none"):
        loss(answers, {}, None)


def test_other_heads_are_refused(detector: Network) -> None:
    graph = TorchGraph(detector.proto, input_shape=detector.input.shape).eval()
    with pytest.raises(TrainingError, match="has not the 1200 rows"):
        BoxLabels(320, 240, (8,)).prepare(graph, None, [])


def test_a_training_learns_from_labels_beside_the_teacher(detector: Network, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    images = rng.integers(0, 256, (8, 240, 320, 3), np.uint8)
    one = Detections(np.array([[40, 40, 90, 80]], np.float32), np.ones(1, np.float32), np.array([2]))
    split = Split(images, (one, Detections()) * 4, np.arange(8))
    data = Data("noise", split, split, split, detector.labels, lambda width, height: data)
    tune = optimisation_pass("fine_tune")
    common = {"epochs": 1, "batch": 4, "validation": 0.3}
    found = {}
    for labels in (0.0, 1.0):
        work = tmp_path / str(labels)
        options = tune.Options(**common, labels=labels)
        found[labels] = tune.apply(detector, options, Context(work, data, detector)).facts["train_loss"][0]
    assert found[1.0] > found[0.0] + 0.1  # the teacher sees no part in noise, and the labels say that there is one
    with pytest.raises(ValueError, match="labels at least 0"):
        tune.Options(labels=-1)
    other = Network(detector.proto, dataclasses.replace(detector.bundle, decoder="nanodet"))
    facts = tune.apply(other, tune.Options(**common, labels=1.0), Context(tmp_path / "other", data, other)).facts
    assert facts["train_loss"][0] < found[1.0] - 0.1
    assert "true boxes are not learnt with decoder nanodet" in facts["notes"][-1]
