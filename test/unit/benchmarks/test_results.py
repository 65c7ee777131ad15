"""What becomes of measured figures: statistics, targets, table, JSON."""

from __future__ import annotations

import json
import math

import pytest

from edge_vision.benchmarks.results import NAN, Check, Report, Row, Section, as_dict, difference, text
from edge_vision.evaluation.latency import summarize

MS = 1_000_000


@pytest.fixture
def report() -> Report:
    rows = (
        Row("plain loop", summarize([4 * MS, 4 * MS, 8 * MS]), 0, 0.25, 101.0),
        Row("composed pipeline", summarize([6 * MS] * 3), 2, 0.5, 250.0),
        Row("nothing came", summarize([])),
    )
    checks = (Check("ratio", 1.5, 1.15), Check("memory", 250.0, 350.0, " MiB"))
    stages = {"run": summarize([3 * MS])}
    section = Section("640 x 480", rows, stages, checks, ("a note",), "plain loop")
    return Report("bench pipeline", "a machine", {"rate": "30 fps"}, (section,))


def test_difference_is_taken_frame_by_frame() -> None:
    left = difference([10 * MS, 20 * MS, 30 * MS], [1 * MS, 2 * MS, 3 * MS], [4 * MS, 4 * MS, 4 * MS])
    assert (left.count, left.p50) == (3, 14.0)  # of 5, 14 and 23


@pytest.mark.parametrize(("total", "part"), [([], []), ([5], []), ([5, 6], [1])])
def test_difference_of_frames_that_do_not_match_is_empty(total, part) -> None:
    assert difference(total, part).count == 0


@pytest.mark.parametrize(
    ("value", "passed"), [(1.1, True), (1.15, True), (1.16, False), (NAN, False), (math.inf, False)]
)
def test_a_target_is_kept_up_to_its_limit_and_missed_where_nothing_was_measured(value, passed) -> None:
    assert Check("ratio", value, 1.15).passed is passed


def test_missed_targets_are_known_by_name(report) -> None:
    assert [check.name for check in report.missed] == ["ratio"]


def test_text_has_every_figure_on_its_line(report) -> None:
    lines = text(report).splitlines()
    line = {name: next(row for row in lines if row.startswith(name)) for name in ("plain", "composed", "nothing")}
    assert line["plain"].split()[2:] == ["4.000", "7.600", "7.920", "1.00", "3", "0", "0.25", "101"]
    assert line["composed"].split()[2:] == ["6.000", "6.000", "6.000", "1.50", "3", "2", "0.50", "250"]
    assert line["nothing"].split()[2:] == ["-", "-", "-", "-", "0", "-", "-", "-"]
    assert "MISSED ratio: 1.500 (at most 1.15)" in lines
    assert "kept   memory: 250.000 (at most 350 MiB)" in lines
    assert lines[-1] == "1 of 2 targets kept"


def test_columns_stand_below_their_heads(report) -> None:
    lines = text(report).splitlines()
    head = next(row for row in lines if "p50 ms" in row)
    row = next(row for row in lines if row.startswith("composed"))
    assert len(head) == len(row)
    assert head.index("p50 ms") + len("p50 ms") == row.index("6.000") + len("6.000")


def test_a_section_without_baseline_has_no_ratios() -> None:
    section = Section("hops", (Row("ours", summarize([MS])),))
    assert "ratio" not in text(Report("bench transport", "m", {}, (section,)))


def test_json_is_strict_and_complete(report) -> None:
    read = json.loads(json.dumps(as_dict(report), allow_nan=False))
    section = read["sections"][0]
    assert [row["name"] for row in section["rows"]] == ["plain loop", "composed pipeline", "nothing came"]
    assert section["rows"][1] == {
        "name": "composed pipeline",
        "frames": 3,
        "p50_ms": 6.0,
        "p95_ms": 6.0,
        "p99_ms": 6.0,
        "mean_ms": 6.0,
        "max_ms": 6.0,
        "dropped": 2,
        "cpu_cores": 0.5,
        "rss_mib": 250.0,
    }
    assert section["rows"][2]["p50_ms"] is None
    assert section["stages"]["run"]["p50_ms"] == 3.0
    assert [check["passed"] for check in section["checks"]] == [False, True]
    assert read["passed"] is False
