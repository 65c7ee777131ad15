"""The training loop, its losses and constraints, on networks and images small enough for a test."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch")
onnx = pytest.importorskip("onnx", reason="training needs onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from edge_vision.datasets.training_log import read_training_log  # noqa: E402
from edge_vision.datatypes import Detections, Frame  # noqa: E402
from edge_vision.inference.preprocess import InputSpec, Preprocessor  # noqa: E402
from edge_vision.optimize.data import Split  # noqa: E402
from edge_vision.optimize.training.constraints import KeepClusters, KeepZeros  # noqa: E402
from edge_vision.optimize.training.detection_loss import DetectorDistillation, by_cells, head_tensors  # noqa: E402
from edge_vision.optimize.training.errors import TrainingError  # noqa: E402
from edge_vision.optimize.training.graph import TorchGraph  # noqa: E402
from edge_vision.optimize.training.inputs import Augmentation, input_tensor  # noqa: E402
from edge_vision.optimize.training.loop import fit, hold_out  # noqa: E402
from edge_vision.optimize.training.losses import (  # noqa: E402
    Combined,
    CrossEntropy,
    Distillation,
    FeatureMatching,
    logits_of,
)
from edge_vision.optimize.training.normalising import with_normalisation, without_normalisation  # noqa: E402
from edge_vision.optimize.training.schedule import Schedule  # noqa: E402

SPEC = InputSpec(16, 12, name="x", layout="nhwc", dtype="uint8", colour="bgr")


def classifier(width: int = 8, seed: int = 0, classes: int = 3, softmax: bool = False) -> onnx.ModelProto:
    """Pixels to logits: two convolutions, a mean, a matrix."""
    rng = np.random.default_rng(seed)

    def weights(*shape: int, inputs: int) -> np.ndarray:
        return rng.normal(0, np.sqrt(2 / inputs), shape).astype(np.float32)

    constants = {
        "w1": weights(width, 3, 3, 3, inputs=27) / 255,
        "b1": np.zeros(width, np.float32),
        "w2": weights(width, width, 3, 3, inputs=9 * width),
        "b2": np.zeros(width, np.float32),
        "w3": weights(classes, width, inputs=width),
        "b3": np.zeros(classes, np.float32),
    }
    last = "logits" if softmax else "y"
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["t"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["c", "w1", "b1"], ["h1"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["h1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["h2"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["h2"], ["r2"]),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w3", "b3"], [last], transB=1),
        *([helper.make_node("Softmax", ["logits"], ["y"], axis=1)] if softmax else []),
    ]
    return _model(nodes, constants, [1, 12, 16, 3])


def detector(width: int = 8, seed: int = 0) -> onnx.ModelProto:
    """Pixels to YOLOX-like rows of one level of 3 x 4 cells: 4 box terms, objectness, 2 classes."""
    rng = np.random.default_rng(seed)
    constants = {
        "w1": rng.normal(0, 0.4, (width, 3, 3, 3)).astype(np.float32) / 255,
        "b1": np.zeros(width, np.float32),
        "wb": rng.normal(0, 0.6, (5, width, 1, 1)).astype(np.float32),
        "bb": np.array([0.5, 0.5, 1, 1, -2], np.float32),
        "wc": rng.normal(0, 0.6, (2, width, 1, 1)).astype(np.float32),
        "bc": np.zeros(2, np.float32),
        "s0": np.array([0]),
        "s4": np.array([4]),
        "s5": np.array([5]),
        "one": np.array([1]),
        "shape": np.array([1, 7, 12]),
    }
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["t"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["c", "w1", "b1"], ["h1"], pads=[1, 1, 1, 1], strides=[4, 4]),
        helper.make_node("Relu", ["h1"], ["r1"]),
        helper.make_node("Conv", ["r1", "wb", "bb"], ["boxes"]),
        helper.make_node("Conv", ["r1", "wc", "bc"], ["classes"]),
        helper.make_node("Slice", ["boxes", "s0", "s4", "one"], ["place"]),
        helper.make_node("Slice", ["boxes", "s4", "s5", "one"], ["object"]),
        helper.make_node("Sigmoid", ["object"], ["object_p"]),
        helper.make_node("Sigmoid", ["classes"], ["classes_p"]),
        helper.make_node("Concat", ["place", "object_p", "classes_p"], ["all"], axis=1),
        helper.make_node("Reshape", ["all", "shape"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["y"], perm=[0, 2, 1]),
    ]
    return _model(nodes, constants, [1, 12, 16, 3])


def _model(nodes, constants, shape) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, shape)],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def coloured(count: int = 96, seed: int = 0) -> Split:
    """Noise with one channel brighter: its number is the class. Clips of eight images."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, count)
    images = rng.integers(60, 140, (count, 12, 16, 3))
    images[np.arange(count), :, :, truth] += 50
    return Split(images.astype(np.uint8), truth.astype(np.int64), np.arange(count) // 8)


def unlabelled(count: int = 64, seed: int = 0) -> Split:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 12, 16, 3)).astype(np.uint8)
    return Split(images, tuple(Detections() for _ in range(count)), np.arange(count) // 8)


def weights_of(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {i.name: numpy_helper.to_array(i) for i in proto.graph.initializer}


def quick(**changes) -> Schedule:
    return dataclasses.replace(Schedule(epochs=4, batch=16, rate=0.02), **changes)


# -- inputs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("colour", ["bgr", "rgb", "mono"])
@pytest.mark.parametrize(
    "values",
    [
        {"dtype": "uint8"},
        {},
        {"scale": 1 / 255},
        {"mean": (123.7, 116.3, 103.5), "std": (58.4, 57.1, 57.4)},
        {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
    ],
)
def test_inputs_are_those_of_the_engine_bit_by_bit(layout, colour, values):
    if colour == "mono" and "mean" in values:
        values = {**values, "mean": values["mean"][:1], "std": values["std"][:1]}
    spec = InputSpec(16, 12, layout=layout, colour=colour, **values)
    images = np.random.default_rng(0).integers(0, 256, (3, 12, 16, 3)).astype(np.uint8)
    found = input_tensor(images, spec).numpy()
    engine = Preprocessor(spec)
    for image, tensor in zip(images, found, strict=True):
        np.testing.assert_array_equal(tensor, engine(Frame(image))[0][0])
        assert tensor.dtype == engine.tensor.dtype


def test_images_of_another_size_are_refused():
    with pytest.raises(TrainingError, match="16 x 12"):
        input_tensor(np.zeros((2, 8, 8, 3), np.uint8), SPEC)


def test_augmentation_without_options_changes_nothing_and_with_them_is_repeatable():
    images = coloured(8).images
    assert Augmentation()(images, np.random.default_rng(0)) is images
    varied = Augmentation(True, True, 0.2, 0.3, 0.1)
    first = varied(images, np.random.default_rng(5))
    assert not np.array_equal(first, images)
    np.testing.assert_array_equal(first, varied(images, np.random.default_rng(5)))
    assert first.shape == images.shape
    assert first.dtype == np.uint8


def test_a_shift_moves_the_image_and_repeats_its_border():
    image = np.arange(12 * 16, dtype=np.uint8).reshape(1, 12, 16, 1).repeat(3, 3)
    found = Augmentation(shift=0.3)(image, np.random.default_rng(2))[0, :, :, 0].astype(int)
    # Neighbours differ by 1 to the right and by 16 below, but in the repeated border.
    assert set(np.diff(found, axis=1).ravel()) == {0, 1}
    assert set(np.diff(found, axis=0).ravel()) == {0, 16}


def test_only_flips_that_are_asked_for():
    image = np.arange(16, dtype=np.uint8)[None, None, :, None].repeat(12, 1).repeat(3, 3)
    results = [Augmentation(horizontal_flip=True)(image, np.random.default_rng(s))[0, 0, 0, 0] for s in range(16)]
    assert set(results) == {0, 15}
    columns = image.transpose(0, 2, 1, 3)
    results = [Augmentation(horizontal_flip=True)(columns, np.random.default_rng(s))[0, 0, 0, 0] for s in range(16)]
    assert set(results) == {0}


# -- the loop ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_a_classifier_learns(optimiser, tmp_path):
    rate = 0.02 if optimiser == "adamw" else 0.3
    split = coloured()
    found = fit(
        classifier(),
        split,
        SPEC,
        CrossEntropy(0.05),
        quick(epochs=8, optimiser=optimiser, rate=rate),
        validation=coloured(48, seed=9),
        work=tmp_path,
    )
    assert found.history[-1]["val_accuracy"] > 0.9
    assert found.history[-1]["train_loss"] < 0.5 * found.history[0]["train_loss"]
    log = read_training_log(tmp_path / "training.csv")
    assert len(log) == 8
    assert log.columns == {"train": "train_loss", "val": "val_loss", "score": "val_accuracy"}
    # What was trained is what runs.
    with torch.no_grad():
        answers = TorchGraph(found.proto)(torch.from_numpy(split.images))["y"].argmax(1).numpy()
    assert (answers == split.truth).mean() > 0.9


def test_a_classifier_that_ends_in_a_softmax_learns_from_its_logits():
    proto = classifier(softmax=True)
    assert logits_of(TorchGraph(proto)) == "logits"
    found = fit(proto, coloured(), SPEC, CrossEntropy(), quick(epochs=6), validation=coloured(48, seed=9))
    assert found.history[-1]["val_accuracy"] > 0.9


class Stopping:
    """A bar that interrupts the training at a step."""

    def __init__(self, after: int) -> None:
        self.left = after

    def update(self, n=1) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt

    def set_postfix_str(self, s: str) -> None:
        return

    def close(self) -> None:
        return


def test_a_resumed_training_ends_as_if_it_had_never_stopped(tmp_path):
    def run(work, **options):
        loss = Combined((0.3, CrossEntropy()), (0.7, Distillation()), (0.5, FeatureMatching([("r2", "r2")])))
        return fit(
            classifier(),
            coloured(),
            SPEC,
            loss,
            quick(ema=0.9),
            teacher=classifier(12, seed=5),
            constraints=[KeepZeros()],
            augmentation=Augmentation(shift=0.1, brightness=0.2),
            validation=coloured(16, seed=3),
            work=work,
            seed=4,
            **options,
        )

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", bar=lambda title, total: Stopping(14))  # in the third epoch of six steps
    resumed = run(tmp_path / "parts")
    assert resumed.resumed == 2
    assert resumed.history == whole.history
    for name, value in weights_of(whole.proto).items():
        np.testing.assert_array_equal(weights_of(resumed.proto)[name], value)
    again = run(tmp_path / "parts")
    assert again.resumed == 4
    assert again.proto == resumed.proto
    assert {p.name for p in (tmp_path / "parts").iterdir()} == {"checkpoint.pt", "training.csv"}


@pytest.mark.parametrize(
    "changes", [{"schedule": quick(rate=0.01)}, {"seed": 1}, {"split": coloured(seed=8)}, {"proto": classifier(seed=7)}]
)
def test_a_checkpoint_of_another_training_is_not_taken_up(tmp_path, changes):
    def run(proto=None, split=None, schedule=None, seed=0):
        split, schedule = split or coloured(), schedule or quick(epochs=1)
        return fit(proto or classifier(), split, SPEC, CrossEntropy(), schedule, work=tmp_path, seed=seed)

    run()
    found = run(**changes)
    assert found.resumed == 0
    assert "begins anew" in found.notes[0]
    assert run(**changes).notes == ()


def test_a_broken_checkpoint_is_said_and_not_taken_up(tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"PK\x03\x04 half a file")
    found = fit(classifier(), coloured(), SPEC, CrossEntropy(), quick(epochs=1), work=tmp_path)
    assert "cannot be read" in found.notes[0]
    assert len(found.history) == 1


def test_seeds_make_trainings_differ_and_repeat():
    def run(seed):
        return weights_of(fit(classifier(), coloured(), SPEC, CrossEntropy(), quick(epochs=1), seed=seed).proto)["w2"]

    np.testing.assert_array_equal(run(0), run(0))
    assert not np.array_equal(run(0), run(1))


def test_a_loss_that_is_no_number_stops_the_training_with_a_remedy(tmp_path):
    proto = classifier()
    for tensor in proto.graph.initializer:
        if tensor.name == "w2":
            tensor.CopyFrom(numpy_helper.from_array(np.full((8, 8, 3, 3), np.inf, np.float32), "w2"))
    with pytest.raises(TrainingError, match=r"epoch 1, step 1.*Lower the rate"):
        fit(proto, coloured(), SPEC, CrossEntropy(), quick(), work=tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_no_images_and_no_such_device_are_errors():
    with pytest.raises(TrainingError, match="no images"):
        fit(classifier(), coloured().part(np.zeros(96, bool)), SPEC, CrossEntropy(), quick())
    with pytest.raises(TrainingError, match="none of auto, cpu, cuda"):
        fit(classifier(), coloured(), SPEC, CrossEntropy(), quick(), device="npu")


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"rate": -1.0}, {"warm_up": 1.0}, {"optimiser": "adam"}, {"ema": 1.5}, {"batch": 0}]
)
def test_schedules_name_what_cannot_be(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Schedule(**wrong)


def test_the_rate_rises_and_falls_along_a_cosine():
    schedule = Schedule(warm_up=0.1, final=0.01)
    factors = [schedule.factor(p) for p in np.linspace(0, 1, 101)]
    assert np.argmax(factors) == 10
    assert max(factors) == pytest.approx(1.0)
    assert factors[-1] == pytest.approx(0.01)
    assert (np.diff(factors[10:]) <= 0).all()


def test_clips_are_held_out_whole():
    split = coloured(96)
    part, held = hold_out(split, 0.2, seed=1)
    assert held is not None
    assert not set(part.sequences) & set(held.sequences)
    assert len(part) + len(held) == 96
    assert 8 <= len(held) <= 24
    assert hold_out(split, 0.0)[1] is None
    one_clip = dataclasses.replace(split, sequences=np.zeros(96, np.int64))
    assert hold_out(one_clip, 0.2)[1] is None


# -- losses -----------------------------------------------------------------------------------------------------------


def test_a_student_learns_a_teachers_answers_without_labels():
    split = coloured()
    teacher = fit(classifier(12, seed=3), split, SPEC, CrossEntropy(), quick(epochs=12)).proto
    nonsense = dataclasses.replace(split, truth=np.roll(split.truth, 1))
    student = fit(classifier(seed=1), nonsense, SPEC, Distillation(2.0), quick(epochs=12), teacher=teacher)
    assert student.history[-1]["train_loss"] < 0.5 * student.history[0]["train_loss"]
    with torch.no_grad():
        answers = TorchGraph(student.proto)(torch.from_numpy(split.images))["y"].argmax(1).numpy()
    assert (answers == split.truth).mean() > 0.85


def test_losses_of_a_student_that_is_its_teacher_are_zero():
    graph = TorchGraph(classifier()).eval()
    x = torch.from_numpy(coloured(8).images)
    loss = Combined((1.0, Distillation(3.0)), (1.0, FeatureMatching([("r1", "r1"), ("f", "f")])))
    loss.prepare(graph, graph, [x])
    with torch.no_grad():
        tensors = graph.compute(x, loss.student_tensors)
        assert float(loss(tensors, tensors, None)) == pytest.approx(0.0, abs=1e-6)


def test_features_of_other_widths_are_matched_through_an_adaptor_that_is_trained():
    loss = FeatureMatching([("r2", "r2"), ("f", "f")])
    found = fit(classifier(4), coloured(), SPEC, loss, quick(epochs=5), teacher=classifier(8, seed=2))
    assert found.history[-1]["train_loss"] < 0.7 * found.history[0]["train_loss"]
    shapes = [tuple(p.shape) for p in loss.parameters()]
    assert shapes == [(8, 4, 1, 1), (8,), (8, 4), (8,)]


def test_what_does_not_fit_together_is_named():
    small, large = TorchGraph(classifier()), TorchGraph(classifier(classes=4))
    x = torch.from_numpy(coloured(4).images)
    with pytest.raises(TrainingError, match="needs a teacher"):
        Distillation().prepare(small, None, [x])
    loss = Distillation()
    loss.prepare(small, large, [x])
    with pytest.raises(TrainingError, match="3 and 4 classes"):
        loss(small.compute(x, ("y",)), large.compute(x, ("y",)), None)
    with pytest.raises(TrainingError, match="cannot be matched"):
        FeatureMatching([("r2", "f")]).prepare(small, small, [x])
    with pytest.raises(TrainingError, match="class id"):
        CrossEntropy()({"": torch.zeros(1)}, {}, None)


def test_a_detector_learns_a_teachers_raw_outputs():
    teacher = detector(12, seed=3)
    for heads in (0.0, 0.5):
        loss = DetectorDistillation(4, heads=heads)
        found = fit(detector(12, seed=1), unlabelled(), SPEC, loss, quick(epochs=12), teacher=teacher)
        assert found.history[-1]["train_loss"] < 0.35 * found.history[0]["train_loss"], heads
        assert "val_accuracy" not in found.history[-1]


@pytest.mark.parametrize("objectness", [None, 4])
def test_a_detector_that_is_its_teacher_has_no_loss_and_one_that_differs_has(objectness):
    graph, other = TorchGraph(detector()).eval(), TorchGraph(detector(seed=4)).eval()
    x = torch.from_numpy(unlabelled(8).images)
    loss = DetectorDistillation(objectness, heads=1.0)
    loss.prepare(graph, graph, [x])
    with torch.no_grad():
        same, different = graph.compute(x, loss.student_tensors), other.compute(x, loss.student_tensors)
        assert float(loss(same, same, None)) == pytest.approx(0.0, abs=1e-4)
        assert float(loss(different, same, None)) > 0.1


def test_scores_are_told_from_coordinates_and_heads_are_found():
    graph = TorchGraph(detector()).eval()
    assert head_tensors(graph) == ("boxes", "classes")
    loss = DetectorDistillation(4)
    loss.prepare(graph, graph, [torch.from_numpy(unlabelled(8).images)])
    assert loss.scores[0].tolist() == [False] * 4 + [True] * 3


def test_boxes_count_where_the_teacher_sees_objects():
    graph = TorchGraph(detector()).eval()
    x = torch.from_numpy(unlabelled(4).images)
    loss = DetectorDistillation(4)
    loss.prepare(graph, graph, [x])
    with torch.no_grad():
        teacher = {"y": graph(x)["y"].clone()}
        teacher["y"][:, :, 4] = 0.001
        teacher["y"][:, 5, 4] = 0.9
        values = []
        for cell in (5, 6):
            student = {"y": teacher["y"].clone()}
            student["y"][:, cell, 0] += 1.0
            values.append(float(loss(student, teacher, None)))
    assert values[0] > 300 * values[1] > 0


def test_outputs_are_read_by_cells_whatever_their_order():
    assert by_cells(torch.zeros(2, 1500, 12)).shape == (2, 1500, 12)
    assert by_cells(torch.zeros(2, 84, 8400)).shape == (2, 8400, 84)
    assert by_cells(torch.zeros(2, 85, 22, 22)).shape == (2, 484, 85)


def test_detectors_of_other_outputs_are_refused():
    small, large = TorchGraph(detector()), TorchGraph(classifier())
    with pytest.raises(TrainingError, match="is not like"):
        DetectorDistillation().prepare(small, large, [torch.from_numpy(unlabelled(4).images)])


# -- constraints ------------------------------------------------------------------------------------------------------


def with_weights(proto: onnx.ModelProto, **changed: np.ndarray) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for tensor in copy.graph.initializer:
        if tensor.name in changed:
            tensor.CopyFrom(numpy_helper.from_array(changed[tensor.name].astype(np.float32), tensor.name))
    return copy


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_zeros_stay_zero_and_the_rest_is_trained(optimiser, ema):
    before = weights_of(classifier())["w2"]
    mask = np.random.default_rng(0).random(before.shape) < 0.6
    proto = with_weights(classifier(), w2=np.where(mask, 0, before))
    constraint = KeepZeros()
    schedule = quick(optimiser=optimiser, ema=ema, weight_decay=0.01)
    after = weights_of(fit(proto, coloured(), SPEC, CrossEntropy(), schedule, constraints=[constraint]).proto)["w2"]
    assert constraint.names == ["w2"]
    np.testing.assert_array_equal(after == 0, mask)
    assert not np.array_equal(after, np.where(mask, 0, before))


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_clusters_move_as_one_and_their_zero_stays(optimiser, ema):
    centres = np.array([-0.3, -0.1, 0, 0.15, 0.4], np.float32)
    members = np.random.default_rng(0).integers(0, 5, (8, 8, 3, 3))
    proto = with_weights(classifier(), w2=centres[members])
    constraint = KeepClusters()
    schedule = quick(optimiser=optimiser, ema=ema, weight_decay=0.01)
    after = weights_of(fit(proto, coloured(), SPEC, CrossEntropy(), schedule, constraints=[constraint]).proto)["w2"]
    assert constraint.names == ["w2"]
    moved = []
    for cluster in range(5):
        values = np.unique(after[members == cluster])
        assert len(values) == 1, cluster
        moved.append(values[0])
    assert moved[2] == 0
    assert all(m != c for m, c, k in zip(moved, centres, range(5), strict=True) if k != 2)


def test_the_average_of_a_mask_that_grew_has_its_zeros():
    class Growing:
        def begin(self, weights) -> None:
            self.weight = weights["w2"]

        def before_step(self, progress: float) -> None:
            return

        def after_step(self, progress: float) -> None:
            with torch.no_grad():
                self.weight[: int(4 * progress)] = 0

        def __repr__(self) -> str:
            return "Growing()"

    found = fit(classifier(), coloured(), SPEC, CrossEntropy(), quick(ema=0.99), constraints=[Growing()])
    after = weights_of(found.proto)["w2"]
    assert not after[:4].any()
    assert after[4:].all()


# -- normalisation for the time of a training -------------------------------------------------------------------------


@pytest.mark.parametrize("make", [classifier, detector])
def test_normalisation_that_is_put_in_changes_nothing_and_comes_out_again(make):
    proto = make()
    graph = TorchGraph(proto).eval()
    x = torch.from_numpy(unlabelled(16).images)
    richer, names = with_normalisation(graph, [x[:8], x[8:]])
    assert set(names) == ({"h1", "h2"} if make is classifier else {"h1"})
    assert sum(node.op_type == "BatchNormalization" for node in richer.graph.node) == len(names)
    with torch.no_grad():
        wanted = graph(x)["y"].numpy()
        np.testing.assert_allclose(TorchGraph(richer).eval()(x)["y"].numpy(), wanted, rtol=1e-3, atol=1e-4)
        folded = without_normalisation(richer, names)
        np.testing.assert_allclose(TorchGraph(folded).eval()(x)["y"].numpy(), wanted, rtol=1e-3, atol=1e-4)
    assert [n.op_type for n in folded.graph.node] == [n.op_type for n in proto.graph.node]
    assert weights_of(folded).keys() == weights_of(proto).keys()


def test_a_training_with_normalisation_gives_a_graph_without_and_keeps_zeros():
    before = weights_of(classifier())["w2"]
    mask = np.random.default_rng(0).random(before.shape) < 0.6
    proto = with_weights(classifier(), w2=np.where(mask, 0, before))
    split = coloured()
    schedule = quick(epochs=8)
    found = fit(proto, split, SPEC, CrossEntropy(), schedule, normalise=True, constraints=[KeepZeros()])
    assert [n.op_type for n in found.proto.graph.node] == [n.op_type for n in proto.graph.node]
    np.testing.assert_array_equal(weights_of(found.proto)["w2"] == 0, mask)
    with torch.no_grad():
        answers = TorchGraph(found.proto)(torch.from_numpy(split.images))["y"].argmax(1).numpy()
    assert (answers == split.truth).mean() > 0.9
