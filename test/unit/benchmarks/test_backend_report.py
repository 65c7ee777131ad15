"""The files of `edge_vision bench backends`, and the comparison of several boxes."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import cv2
import pytest

from edge_vision.benchmarks import backend_boxes, backend_chart, backend_report
from edge_vision.benchmarks.backend_auto import Auto
from edge_vision.benchmarks.backend_study import Study, as_dict, read_study
from edge_vision.benchmarks.backends import EQUAL, FAILED, UNVERIFIED, VERIFIED, Row
from edge_vision.benchmarks.by_hand_pairs import Pair


def row(backend: str, precision: str, p50: float, proof: str = EQUAL, **more) -> Row:
    figures = {
        "threads": 1,
        "version": "1.2",
        "runs": 100,
        "p50_ms": p50,
        "p95_ms": p50 * 1.2,
        "p99_ms": p50 * 1.5,
        "mean_ms": p50,
        "infer_p50_ms": p50 + 1,
        "runs_per_s": 1e3 / p50,
        "frames_per_s": 1e3 / (p50 + 1),
        "load_s": 0.1,
    }
    return Row(backend, "cpu", precision, proof=proof, **{**figures, **more})


def study(name: str = "box <1>", factor: float = 1.0, **machine) -> Study:
    facts = {"name": name, "model": "Board & Co", "cores": 4, "memory_gib": 8.0, "python": "3.12.1", **machine}
    return Study(
        facts,
        {"name": "parts", "decoder": "yolox", "input": "320x240 nhwc uint8", "sha256": {"model.onnx": "ab" * 32}},
        {"threads": "1"},
        (
            row("openvino", "fp32", 4.0 * factor),
            row("onnxruntime", "fp32", 5.0 * factor, VERIFIED),
            row("openvino", "int8", 2.0 * factor, FAILED, proof_note="3 of 10 boxes matched"),
            row("ncnn", "fp16", 3.0 * factor, UNVERIFIED),
            Row("litert", "", "", reason="reads .tflite; the model has <model.onnx>"),
        ),
        (
            Pair("onnxruntime", "1.2", 1, "model.onnx", 5.05, 5.0, 300, 6.5, 6.0, 200, 0.2, False, 0.0, (6, 6, 6)),
            Pair("tvm", reason="it is not installed"),
        ),
        Auto("openvino cpu fp32 x1", "fastest of 3", 4.0 * factor, "openvino cpu fp32 x1", 4.0 * factor),
        ("power: none told",),
    )


def written(folder: Path, content: Study) -> Path:
    path = folder / f"{content.machine['name']}.json".replace("<", "").replace(">", "")
    path.write_text(json.dumps(as_dict(content), allow_nan=False))
    return path


def test_the_table_has_the_fastest_first_and_the_best_that_is_proven_marked() -> None:
    lines = backend_report.text(study()).splitlines()
    body = [line for line in lines if line.startswith(("openvino 1", "onnxruntime 1", "ncnn 1"))][:4]
    assert [line.split()[3] for line in body] == ["int8", "fp16", "fp32", "fp32"]
    assert [line.endswith("*") for line in body] == [False, False, True, False]
    shown = "\n".join(lines)
    assert "openvino cpu int8 x1 failed: 3 of 10 boxes matched" in shown
    assert "reads .tflite" in shown
    assert "others had the processor in 20% of all" in shown
    assert "tvm: not compared, it is not installed" in shown
    assert "auto picks openvino cpu fp32 x1: p50 4.00 ms, 1.00 times the fastest proven" in shown
    assert "2 of 3 limits kept" in shown


def test_columns_of_what_no_row_tells_are_left_out() -> None:
    heads, _ = backend_report.measured_table(study().rows)
    assert "W" not in heads
    assert "deg C" not in heads
    warm = replace(study().rows[0], temperature_c=61.0, power_w=7.25, energy_mj=29.0, throttled="no")
    heads, rows = backend_report.measured_table([warm, study().rows[1]])
    told = [dict(zip(heads, cells, strict=True)) for cells in rows]
    assert [(cells["deg C"], cells["W"], cells["mJ/run"], cells["throttled"]) for cells in told] == [
        ("61", "7.2", "29.0", "no"),
        ("-", "-", "-", "-"),
    ]


def test_limits_are_checked_and_what_is_not_known_is_not_kept() -> None:
    found = study()
    assert [check.name for check in found.missed] == ["onnxruntime: engine's infer, p50"]
    busy = replace(found, pairs=(replace(found.pairs[0], busy=True),))
    assert len(busy.missed) == 2
    assert [cells[-1] for cells in backend_report.by_hand_table(busy.pairs)[1]] == ["busy", "busy"]
    unknown = replace(found, auto=Auto("x", problem="not measured"), pairs=())
    assert math.isnan(unknown.missed[0].value)


def test_json_there_and_back(tmp_path) -> None:
    before = study()
    path = written(tmp_path, before)
    content = json.loads(path.read_text())
    assert content["by_hand"][0]["run_within"] is True
    assert content["by_hand"][0]["infer_within"] is False
    assert content["auto"]["ratio"] == 1.0
    assert content["rows"][4]["p50_ms"] is None
    assert read_study(path) == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no measurement of backends"),
        ("[]", "not written by"),
        ('{"command": "bench pipeline"}', "not written by"),
        ('{"command": "bench backends", "format": 9}', "format 9"),
        ('{"command": "bench backends", "format": 1}', "is no measurement"),
    ],
)
def test_a_file_that_is_no_measurement(tmp_path, text, said) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=said) as error:
        read_study(path)
    assert str(path) in str(error.value)


def test_a_file_that_is_not_there(tmp_path) -> None:
    with pytest.raises(ValueError, match="No such file"):
        read_study(tmp_path / "none.json")


def test_csv_has_every_row_and_empty_cells_for_what_is_not_known() -> None:
    lines = list(csv.DictReader(io.StringIO(backend_report.as_csv(study()))))
    assert len(lines) == 5
    assert lines[0]["machine"] == "box <1>"
    assert float(lines[0]["p50_ms"]) == 4.0
    assert lines[0]["power_w"] == ""
    assert lines[4]["reason"] == "reads .tflite; the model has <model.onnx>"


class Tags(HTMLParser):
    """Counts tags, checks that those with an end are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.seen.append(tag)
        self.sources += [
            value for key, value in attrs if key in ("src", "href") and value and not value.startswith("#")
        ]
        if tag not in ("meta", "br", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag


def checked(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    tags.close()
    assert tags.open == []
    return tags


def test_the_page_stands_alone_with_chart_and_tables() -> None:
    pytest.importorskip("matplotlib")
    drawing = backend_chart.svg("parts", "a box", backend_chart.groups_of(study()))
    ElementTree.fromstring(drawing)
    page = backend_report.as_html(study(), drawing)
    tags = checked(page)
    assert tags.seen.count("svg") == 1
    assert tags.seen.count("table") == 3
    assert tags.sources == []
    assert "box &lt;1&gt;" in page
    assert "Board &amp; Co" in page
    assert "<model.onnx>" not in page
    assert page.count('class="best"') == 1
    assert page.count('class="no"') == 1


@pytest.mark.parametrize("count", [1, 3, 40])
def test_the_chart_opens_and_grows_with_its_rows(tmp_path, count) -> None:
    pytest.importorskip("matplotlib")
    rows = tuple(row("onnxruntime", "fp32", 1.0 + index, threads=index + 1) for index in range(count))
    groups = backend_chart.groups_of(replace(study(), rows=rows))
    assert len(groups[0].bars) == count
    backend_chart.draw("parts", "a box", groups, tmp_path / "chart.png", "png")
    image = cv2.imread(str(tmp_path / "chart.png"))
    assert image.shape[0] > 40 * count
    assert image.std() > 5


def test_bars_say_what_is_not_proven() -> None:
    groups = backend_chart.groups_of(study())
    bars = {(group.heading, bar.backend): bar for group in groups for bar in group.bars}
    assert bars["int8", "openvino"].doubtful
    assert bars["int8", "openvino"].note == "2.00 ms (failed)"
    assert bars["fp32", "openvino"].best
    assert not bars["fp32", "onnxruntime"].doubtful


# --- several boxes --------------------------------------------------------------------------------------------------


def test_boxes_side_by_side(tmp_path) -> None:
    slow = study("pi", 3.0, price=80.0)
    quick = study("nuc", 1.0, price=200.0)
    quick = replace(quick, rows=(replace(quick.rows[0], power_w=10.0, energy_mj=40.0), *quick.rows[1:]))
    studies = [read_study(written(tmp_path, box)) for box in (slow, quick)]
    found = backend_boxes.entries(studies)
    assert [entry.row.p50_ms for entry in found] == sorted(entry.row.p50_ms for entry in found)
    best = {entry.box: entry for entry in found if entry.best}
    assert {box: entry.row.name for box, entry in best.items()} == dict.fromkeys(("pi", "nuc"), "openvino cpu fp32 x1")
    assert best["nuc"].ratio == 1.0
    assert best["pi"].ratio == pytest.approx(3.0)
    assert best["pi"].frames_per_price == pytest.approx(1000 / 13 / 80)
    assert best["nuc"].frames_per_joule == pytest.approx(25.0)
    assert best["pi"].frames_per_joule is None
    shown = backend_boxes.text(studies)
    assert "frames/s/price" in shown
    assert "note:" not in shown
    assert [group.heading for group in backend_boxes.groups(studies)] == ["nuc: Board & Co", "pi: Board & Co"]
    lines = list(csv.DictReader(io.StringIO(backend_boxes.as_csv(studies))))
    assert len(lines) == len(found) == 8
    assert json.loads(json.dumps(backend_boxes.as_dict(studies), allow_nan=False))["rows"][0]["box"] == "nuc"


def test_boxes_that_cannot_be_compared_are_said_to_be_so() -> None:
    other = replace(study("b"), model={**study().model, "sha256": {"model.onnx": "cd" * 32}})
    assert "files of the same name differ" in backend_boxes.doubts([study("a"), other])[0]
    renamed = replace(other, model={**other.model, "name": "another"})
    assert "different models: another, parts" in backend_boxes.doubts([study("a"), renamed])[0]
    assert "more than one box is called a" in backend_boxes.doubts([study("a"), study("a")])[0]


def test_the_page_of_several_boxes(tmp_path) -> None:
    pytest.importorskip("matplotlib")
    studies = [study("a"), study("b", 2.0)]
    drawing = backend_chart.svg("parts", "boxes", backend_boxes.groups(studies))
    page = backend_boxes.as_html(studies, drawing)
    assert checked(page).seen.count("table") == 2
