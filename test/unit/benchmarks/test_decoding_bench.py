"""The measurement of decoding: its tensor, and what its figures say."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from edge_vision.benchmarks.decoding import OURS, Settings, build_decoder, make_output, measure
from edge_vision.benchmarks.results import Report, text
from edge_vision.inference.nms import non_maximum_suppression


@pytest.mark.parametrize("candidates", [0, 40, 300])
def test_the_tensor_holds_as_many_candidates_as_asked_for(candidates: int) -> None:
    settings = Settings(candidates=candidates)
    output = make_output(settings)
    assert output.shape == (1, 84, 8400)
    assert (output[0, 4:].max(0) >= settings.score).sum() == candidates
    boxes, scores, class_ids = build_decoder(output)([output], settings.score)
    kept = non_maximum_suppression(boxes, scores, class_ids, settings.iou, settings.most)
    assert len(kept) <= candidates
    if candidates == 300:
        assert len(kept) < 100  # they overlap: suppression has work to do
        assert len(np.unique(class_ids)) > 3


def test_the_figures_and_who_is_missing() -> None:
    calls: list[int] = []
    section = measure(Settings(calls=3, candidates=50), calls.append)
    assert calls == [1, 1, 1]
    assert section.rows[0].name == section.baseline == OURS
    assert [row.latency.count for row in section.rows] == [3] * len(section.rows)
    assert {f"{OURS} decode", f"{OURS} NMS"} == set(section.stages)
    assert len(section.checks) == len(section.rows)
    shown = text(Report("bench decoding", "", {}, (section,)))
    for package in ("ultralytics", "supervision"):
        if find_spec(package) is None:
            assert f"{package}: not installed" in shown
