"""Raw errors, mAP and tolerances, on arrays small enough to see through."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_vision.datatypes import Detections, Tracks
from edge_vision.inference import ModelError, Variant
from edge_vision.inference.opening import EngineDescription
from edge_vision.verification.figures import Figures, compare, out_of, raw_errors, reference_of
from edge_vision.verification.matching import Matches
from edge_vision.verification.running import Run
from edge_vision.verification.tolerances import DEFAULTS, Tolerance, tolerance_of

LABELS = ("nut", "bolt")
A, B = [10.0, 10.0, 50.0, 40.0], [100.0, 20.0, 160.0, 80.0]


def a_run(*frames: tuple[list[list[float]], list[float]], raw: float = 0.0) -> Run:
    detections = tuple(
        Detections(
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(scores, np.float32),
            np.zeros(len(scores), np.int64),
            LABELS,
        )
        for boxes, scores in frames
    )
    description = EngineDescription("m", Path("m.onnx"), "onnxruntime", "1", "cpu", "fp32", 1, "cpu", "")
    return Run(description, detections, ([np.array([0.0, 4.0 + raw])],), False, 1.0)


def test_raw_errors_are_shares_of_the_range_over_all_frames() -> None:
    reference = [[np.array([0.0, 1.0]), np.array([5.0])], [np.array([3.0, 4.0]), np.array([5.0])]]
    candidate = [[np.array([0.0, 1.2]), np.array([5.0])], [np.array([3.0, 3.9]), np.array([5.0])]]
    first, second = raw_errors(reference, candidate, names=("boxes", "scores"))
    assert (first.output, second.output) == ("boxes", "scores")
    assert (first.absolute, first.relative) == (pytest.approx(0.2), pytest.approx(0.05))
    assert (second.absolute, second.relative) == (0.0, 0.0)


def test_lists_of_detections_are_compared_in_any_order() -> None:
    rows = np.random.default_rng(1).random((1, 20, 6))
    assert raw_errors([[rows]], [[rows[:, ::-1]]], final=True)[0].absolute == 0.0
    assert raw_errors([[rows]], [[rows[:, ::-1]]], final=False)[0].absolute > 0.1
    assert raw_errors([[rows]], [[rows[:, :7]]], final=True) == ()


def test_other_shapes_and_what_is_not_finite() -> None:
    with pytest.raises(ValueError, match="its outputs are of shape 3, the reference's of 2"):
        raw_errors([[np.zeros(2)]], [[np.zeros(3)]])
    (error,) = raw_errors([[np.zeros(2)]], [[np.array([0.0, np.nan])]])
    assert error.absolute == error.relative == float("inf")


def test_map_without_truth_is_against_the_reference_s_boxes_at_the_threshold() -> None:
    run = a_run(([A, B], [0.9, 0.8]), ([A, B], [0.7, 0.1]))  # the last is below the threshold: no object
    reference = reference_of(run, 0.3, None)
    assert (reference.map50_95, reference.known_truth) == (pytest.approx(1.0), False)
    same = compare(reference, run)
    assert (same.map50_95, same.map_drop, same.matches.reference) == (pytest.approx(1.0), pytest.approx(0.0), 3)
    # Two of three objects found, all above anything false: precision 1 up to recall 2/3, in 101 points 67 of them.
    fewer = compare(reference, a_run(([A], [0.9]), ([A], [0.7])))
    assert fewer.map50_95 == pytest.approx(67 / 101)
    assert fewer.worst_frame == 0
    assert out_of(fewer, Tolerance(agreement=0.9)) == "mAP against the reference's boxes is 0.6634 (0.9 needed)"
    assert out_of(fewer, Tolerance(map_drop=0.0)) == ""  # of frames with a truth of their own


def test_map_with_truth_is_both_s_against_it() -> None:
    truth = [
        Tracks(np.array([A, B], np.float32), np.ones(2, np.float32), np.zeros(2, np.int64), labels=LABELS),
    ]
    reference = reference_of(a_run(([A], [0.9])), 0.3, truth)
    better = compare(reference, a_run(([A, B], [0.9, 0.8])))
    assert (reference.map50_95, better.map50_95) == (pytest.approx(51 / 101), pytest.approx(1.0))
    assert better.map_drop == pytest.approx(-50 / 101)
    assert out_of(better, Tolerance(map_drop=0.0, agreement=2.0)) == ""
    assert out_of(better, Tolerance(matched=0.99)) == "matched 50 % of the boxes (99 % needed)"


def figures(**changes: object) -> Figures:
    usual: dict = {
        "matches": Matches(1000, 1000, 1000, 1000, 1000),
        "frames": (),
        "raw": (),
        "final": False,
        "map50_95": 1.0,
        "reference_map": 1.0,
        "known_truth": True,
        "p50": 1.0,
    }
    return Figures(**(usual | changes))


def test_problems_are_told_with_their_limits() -> None:
    (raw,) = raw_errors([[np.array([0.0, 1.0])]], [[np.array([0.0, 1.5])]])
    bad = figures(matches=Matches(1000, 1000, 931, 931, 931, 0.07), raw=(raw,), map50_95=0.97)
    assert out_of(bad, Tolerance(0.98, 1e-3, 0.05, 0.005, None)) == (
        "matched 93.1 % of the boxes (98 % needed); raw outputs differ by 5.0e-01 of their range (1e-03 allowed); "
        "scores differ by up to 0.070 (0.05 allowed); mAP falls by 0.0300 (0.005 allowed)"
    )
    # Rounding must not make a failure look like a pass.
    assert "98.96 %" in out_of(figures(matches=Matches(10_000, 10_000, 9_896, 9_896, 9_896)), Tolerance(matched=0.99))


def test_raw_errors_that_are_not_finite_fail_and_those_of_lists_are_not_judged() -> None:
    (raw,) = raw_errors([[np.array([0.0, 1.0])]], [[np.array([0.0, np.nan])]])
    assert "inf of their range" in out_of(figures(raw=(raw,)), DEFAULTS["fp32"])
    assert out_of(figures(raw=(raw,), final=True), DEFAULTS["fp32"]) == ""


def test_the_variant_and_the_caller_change_the_limits() -> None:
    stated = Variant("onnxruntime", "int8", Path("m.onnx"), measured={"tolerance": {"matched": 0.8, "raw": 0.5}})
    assert tolerance_of("int8", stated).matched == 0.8
    assert tolerance_of("int8", stated, {"matched": 0.7, "fp16.raw": 0.1}) == Tolerance(
        matched=0.7, raw=0.5, map_drop=DEFAULTS["int8"].map_drop, agreement=DEFAULTS["int8"].agreement
    )
    with pytest.raises(ValueError, match=r"no tolerance 'int9\.matched'; known are matched, raw, score"):
        tolerance_of("int8", stated, {"int9.matched": 0.7})
    wrong = Variant("onnxruntime", "int8", Path("m.onnx"), measured={"tolerance": {"mached": 0.8}})
    with pytest.raises(ModelError, match=r"measured\.tolerance"):
        tolerance_of("int8", wrong)
