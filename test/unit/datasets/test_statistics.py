from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from edge_vision.datasets import Dataset, Issue, Sample, plots
from edge_vision.datasets.page import dataset_page
from edge_vision.datasets.report import as_dict, markdown, warnings_of
from edge_vision.datasets.statistics import BETA, measure_dataset


def sample(boxes: list[tuple[float, ...]], ids: list[int], size=(640, 480), split="train", sequence="a") -> Sample:
    array = np.array(boxes, np.float64).reshape(-1, 4)
    return Sample(Path("/x.jpg"), *size, array, np.array(ids, np.int64), split, sequence)


@pytest.fixture
def dataset() -> Dataset:
    samples = [sample([(0, 0, 20, 20), (0, 0, 64, 16), (0, 0, 100, 100)], [0, 1, 0]) for _ in range(40)]
    samples += [sample([], [], split="val", sequence="b"), sample([(0, 0, 640, 480)], [0], (1280, 960), "val", "b")]
    return Dataset(Path("/set"), "coco", "detection", ("nut", "bolt", "gear"), tuple(samples))


def test_figures_are_those_counted_by_hand(dataset):
    s = measure_dataset(dataset, (320, 240), 16)
    assert (s.images, s.objects, s.sequences) == (42, 121, 2)
    assert [c.objects for c in s.classes] == [81, 40, 0]
    assert s.imbalance == pytest.approx(81 / 40)
    assert s.classes[1].effective == pytest.approx((1 - BETA**40) / (1 - BETA))
    # Areas 400 (small), 1024 (no longer small), 10000 (large) and a huge one.
    assert (s.small, s.medium, s.large) == pytest.approx((40 / 121, 40 / 121, 41 / 121))
    # Shorter sides in the input: 10, 8, 50, 160 px.
    assert s.below_stride == pytest.approx(80 / 121)
    assert s.shorter[:3].tolist() == [10, 8, 50]
    assert s.aspect[:3].tolist() == [1, 4, 1]
    assert s.relative[-1] == pytest.approx(0.25)
    assert s.sizes == {(640, 480): 41, (1280, 960): 1}
    assert s.per_image.tolist() == [3] * 40 + [0, 1]


def test_every_warning_has_its_figure_and_threshold(dataset):
    s = measure_dataset(dataset, (320, 240), 16)
    warned = {v.name: v for v in s.verdicts if v.warned}
    assert set(warned) == {
        "objects of the rarest class",
        "classes without objects",
        "classes missing in val",
        "below the finest stride",
        "small in the input",
    }
    assert warned["objects of the rarest class"].figure == 40
    assert "bolt: 40, at least 50" in warned["objects of the rarest class"].text
    assert all(v.remedy for v in warned.values())
    assert all(not v.remedy for v in s.verdicts if not v.warned)
    fine = measure_dataset(dataset, (1280, 960), 8)
    assert "below the finest stride" not in {v.name for v in fine.verdicts if v.warned}


def test_one_wrong_label_is_a_warning_and_a_background_image_is_none(dataset):
    def warned(kind: str) -> bool:
        other = Dataset(dataset.path, "coco", "detection", dataset.labels, dataset.samples, (Issue(kind, "x"),))
        return measure_dataset(other).verdicts[0].warned

    assert warned("no area")
    assert not warned("unlabelled image")


def test_classification_has_no_boxes_and_no_verdicts_on_them():
    samples = tuple(Sample(Path(f"{i}.jpg"), 64, 64, class_ids=np.array([i % 2 * (i % 30 == 1)])) for i in range(600))
    s = measure_dataset(Dataset(Path("/set"), "image folders", "classification", ("a", "b"), samples))
    assert {v.name for v in s.verdicts if v.warned} == {"class imbalance", "objects of the rarest class"}
    assert s.imbalance == 29
    found = as_dict(Dataset(Path("/set"), "image folders", "classification", ("a", "b"), samples), s, None)
    json.dumps(found, allow_nan=False)


def test_reports_say_the_same_figures(dataset, tmp_path):
    s = measure_dataset(dataset, (320, 240), 16)
    found = json.loads(json.dumps(as_dict(dataset, s, None), allow_nan=False))
    assert found["boxes"]["below_stride"] == pytest.approx(80 / 121)
    assert found["boxes"]["side_px"]["p100"] == pytest.approx(math.sqrt(640 * 480))
    text = markdown(dataset, s, None)
    page = dataset_page(dataset, s, None)
    for name, words, remedy in warnings_of(s, None):
        assert f"- **{name}**: {words}. {remedy}." in text
        assert words in page
    assert page.count("<svg") == 1
    plots.draw(s, tmp_path / "x.png", "png")
    assert (tmp_path / "x.png").read_bytes()[:4] == b"\x89PNG"


def test_a_dataset_without_one_object_can_be_measured_and_drawn(tmp_path):
    empty = Dataset(Path("/set"), "coco", "detection", ("a",), (sample([], []),))
    s = measure_dataset(empty)
    assert math.isnan(s.imbalance)
    assert {v.name for v in s.verdicts if v.warned} == {"classes without objects", "images without objects"}
    json.dumps(as_dict(empty, s, None), allow_nan=False)
    plots.draw(s, tmp_path / "x.png", "png")
