"""COCO scores on cases small enough to do by hand."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pytest

from edge_vision.cli import evaluate
from edge_vision.datatypes import Detections
from edge_vision.evaluation.detection import evaluate_detections

LABELS = ("nut", "bolt", "gear")


@pytest.fixture(autouse=True)
def _needs_pycocotools() -> None:
    pytest.importorskip("pycocotools", reason="pycocotools is not installed: pip install pycocotools")


def frame(*rows: tuple[float, float, float, float, int], scores: list[float] | None = None) -> Detections:
    data = np.array(rows, np.float32).reshape(-1, 5)
    values = np.ones(len(data), np.float32) if scores is None else np.array(scores, np.float32)
    return Detections(data[:, :4], values, data[:, 4].astype(np.int64), LABELS)


NUT, BOLT = (10.0, 10.0, 50.0, 50.0, 0), (100.0, 20.0, 180.0, 60.0, 1)


def test_the_truth_scores_one() -> None:
    scores = evaluate_detections([frame(NUT, BOLT), frame(BOLT)], [frame(NUT, BOLT), frame(BOLT)])
    assert (scores.map50_95, scores.map50, scores.map75, scores.recall) == pytest.approx((1, 1, 1, 1))
    assert (scores.frames, scores.objects, scores.detections) == (2, 3, 3)
    assert [(row.label, row.objects) for row in scores.per_class] == [("nut", 1), ("bolt", 2)]
    assert [row.map50 for row in scores.per_class] == pytest.approx([1.0, 1.0])


def test_nothing_found_scores_zero() -> None:
    scores = evaluate_detections([frame(NUT), frame()], [frame(), frame()])
    assert (scores.map50_95, scores.map50, scores.recall, scores.detections) == (0, 0, 0, 0)


def test_half_found() -> None:
    """Recall 0.5 at precision 1: 51 of the protocol's 101 recall levels are reached."""
    scores = evaluate_detections([frame(NUT), frame(NUT)], [frame(NUT), frame()])
    assert scores.map50 == pytest.approx(51 / 101)
    assert scores.recall == pytest.approx(0.5)


def test_a_shifted_box_counts_up_to_its_iou() -> None:
    # 40 x 40 shifted by 7: IoU = 33 * 40 / (2 * 1600 - 1320) = 0.702, good for 0.50 .. 0.70, five of ten.
    scores = evaluate_detections([frame(NUT)], [frame((17.0, 10.0, 57.0, 50.0, 0))])
    assert scores.map50 == pytest.approx(1.0)
    assert scores.map75 == 0
    assert scores.map50_95 == pytest.approx(0.5)


@pytest.mark.parametrize(("score", "expected"), [(0.2, 1.0), (0.99, 0.5)])
def test_a_false_alarm_costs_only_above_what_is_right(score: float, expected: float) -> None:
    found = frame(NUT, (200.0, 200.0, 240.0, 240.0, 0), scores=[0.9, score])
    assert evaluate_detections([frame(NUT)], [found]).map50 == pytest.approx(expected)


def test_the_class_must_be_right() -> None:
    scores = evaluate_detections([frame(NUT, BOLT)], [frame((*NUT[:4], 1), BOLT, scores=[0.5, 0.9])])
    assert {row.label: row.map50 for row in scores.per_class} == pytest.approx({"nut": 0.0, "bolt": 1.0})


def test_a_second_box_on_one_object_is_a_false_alarm() -> None:
    truth = [frame(NUT), frame(NUT)]
    twice = frame(NUT, NUT, scores=[0.9, 0.8])
    # In order of score: hit 0.9, double 0.8, hit 0.7: precision 1 up to recall 0.5, then 2/3.
    scores = evaluate_detections(truth, [twice, frame(NUT, scores=[0.7])])
    assert scores.map50 == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)


def test_objects_of_the_first_annotation_count() -> None:
    """pycocotools reads a matched annotation id 0 as no match; the ids given to it must begin at 1."""
    assert evaluate_detections([frame(NUT)], [frame(NUT)]).map50 == pytest.approx(1.0)


def test_scores_are_plain_data() -> None:
    data = evaluate_detections([frame(NUT)], [frame(NUT)]).as_dict()
    assert data["per_class"][0] == pytest.approx({"label": "nut", "map50_95": 1.0, "map50": 1.0, "objects": 1})
    assert json.loads(json.dumps(data)) == data | {"per_class": list(data["per_class"])}


def test_lengths_must_match() -> None:
    with pytest.raises(ValueError, match="2 frames of truth but 1 of detections"):
        evaluate_detections([frame(NUT), frame()], [frame()])


def test_without_objects_there_is_no_score() -> None:
    with pytest.raises(ValueError, match="no object in the truth"):
        evaluate_detections([frame()], [frame(NUT)])


def test_seeds_of_the_command_line() -> None:
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    assert parser.parse_args([]).seeds == tuple(range(9001, 9011))
    assert parser.parse_args(["--seeds", "4-6"]).seeds == (4, 5, 6)
    assert parser.parse_args(["--seeds", "8,3"]).seeds == (8, 3)
    for text in ("x", "7-3", "-5"):
        with pytest.raises(SystemExit):
            parser.parse_args([f"--seeds={text}"])


def test_a_wrong_source_or_model_is_told(capsys: pytest.CaptureFixture[str], tmp_path) -> None:
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    assert evaluate.run(parser.parse_args(["--source", "sim://ocean", "--model", str(tmp_path)])) == 2
    assert "sim://conveyor" in capsys.readouterr().err
    assert evaluate.run(parser.parse_args(["--model", str(tmp_path / "none")])) == 2
    assert "none" in capsys.readouterr().err


def test_a_bare_name_is_that_of_a_bundled_model(repository, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert evaluate.find_model("conveyor_parts") == repository / "models" / "conveyor_parts"
    assert evaluate.find_model("no_such_model").name == "no_such_model"
    (tmp_path / "conveyor_parts").mkdir()
    assert not evaluate.find_model("conveyor_parts").is_absolute()
