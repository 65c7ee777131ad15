"""The report of an optimisation: its files, what they say, and how the page fits a browser."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed")

from onnx import TensorProto, helper, numpy_helper

from edge_vision.optimize.measure.compute import measure_compute
from edge_vision.optimize.measure.latency import Latency
from edge_vision.optimize.measure.memory import Memory
from edge_vision.optimize.measure.size import measure_size
from edge_vision.optimize.report import (
    Report,
    Score,
    StepReport,
    TrialReport,
    Verdict,
    building,
    plots,
    read_report,
    tables,
    write_report,
)
from edge_vision.optimize.report.data import as_dict, from_dict, plain
from edge_vision.optimize.report.page import report_page
from edge_vision.optimize.report.text import markdown


def network(channels: int, zeros: int = 0):
    weights = np.random.default_rng(channels).normal(size=(channels, 3, 3, 3)).astype(np.float32)
    weights.reshape(-1)[:zeros] = 0
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "head.w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 10, 10])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, channels, 8, 8])],
        [numpy_helper.from_array(weights, "head.w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def step(name: str, channels: int, accuracy: float, ratio: float, **more: Any) -> StepReport:
    proto = network(channels, more.pop("zeros", 0))
    latency = Latency(
        name, "onnxruntime", "1.2", "fp32", 1, 2.0 * ratio, 3.0 * ratio, 4.0, 0.1, 99, 9, ratio, ratio, ratio
    )
    absent = Latency(name, "openvino", problem="it is <not> here")
    return StepReport(
        name=name,
        size=measure_size(proto, packed=False),
        compute=measure_compute(proto),
        accuracy=Score(accuracy, accuracy - 0.01, accuracy + 0.01),
        drop=Score(0.9 - accuracy, 0.89 - accuracy, 0.91 - accuracy),
        latency=(latency, absent),
        memory=(Memory(name, "onnxruntime", 1000, 2000, 3_000_000, 9),),
        **more,
    )


@pytest.fixture
def report() -> Report:
    steps = (
        step("original", 32, 0.9, 1.0),
        step("prune (sparsity 0.5)", 32, 0.897, 1.01, zeros=432, facts={"layers": {"head.w": 0.5}, "k": (1, 2)}),
        step("channels", 8, 0.893, 0.4, refused=("head.b | its readers are 4 | left alone",), seconds=61.4),
    )
    trials = (
        TrialReport("small", {"steps": ["int8"]}, 0.893, 0.007, 0.4, 900.0, 1e4, front=True, chosen=True),
        TrialReport("smaller", {"steps": ["int4"]}, 0.85, 0.05, 0.3, 500.0, 1e4, front=True),
        TrialReport("none", why="needs <PyTorch>"),
    )
    return Report(
        model="parts & more",
        task="classify",
        data="twin",
        metric="top-1",
        images=400,
        clips=8,
        device="cpu",
        threads=1,
        max_drop=0.01,
        target="size",
        backends=("onnxruntime", "openvino"),
        steps=steps,
        verdict=Verdict(True, "small keeps the budget", ("one note",)),
        chosen="small",
        trials=trials,
        command="edge_vision optimize m",
        load_average=(0.5, 1.25),
        machine={"machine": "a box"},
    )


@pytest.fixture
def no_plots(monkeypatch):
    monkeypatch.setattr(plots, "problem", lambda: plots.MISSING)


def test_json_gives_the_report_back(report, tmp_path, no_plots):
    write_report(report, tmp_path / "new")
    file = tmp_path / "new" / "report.json"
    again = read_report(file)
    # A tuple among the facts comes back as the list that JSON has.
    assert plain(again) == plain(report)
    assert again.steps[0] == report.steps[0]
    assert (again.verdict, again.trials, again.load_average) == (report.verdict, report.trials, report.load_average)
    totals = json.loads(file.read_text())["steps"][1]["totals"]
    assert totals["parameters"] == 32 * 27
    assert totals["non_zeros"] == 32 * 27 - 432
    assert totals["macs"] == 64 * 32 * 27


def test_numbers_that_are_none_stay_so(report):
    score = Score(0.5)
    changed = dataclasses.replace(report, steps=(dataclasses.replace(report.steps[0], accuracy=score),))
    text = json.dumps(as_dict(changed), allow_nan=False)
    again = from_dict(json.loads(text)).steps[0].accuracy
    assert again is not None
    assert again.value == 0.5
    assert math.isnan(again.low)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda c: c.update(format=99), "no report of edge_vision optimize in format 1"),
        (lambda c: c.update(metric=3), r"report\.metric: is 3"),
        (lambda c: c["steps"][1].pop("name"), r"report\.steps\[1\]: "),
        (lambda c: c["steps"][0]["size"].update(file="big"), r"report\.steps\[0\]\.size\.file: is 'big'"),
        (lambda c: c.update(steps={}), r"report\.steps: is {}, no list"),
        (lambda c: c["steps"][0].update(input=[1]), r"steps\[0\]\.input: has 1 items, not 2"),
    ],
)
def test_what_is_no_report_is_refused_with_the_place(report, tmp_path, change, place):
    content = as_dict(report)
    change(content)
    file = tmp_path / "r.json"
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=place):
        read_report(file)
    file.write_text(file.read_text()[:-20])
    with pytest.raises(ValueError, match=re.escape(str(file))):
        read_report(file)


def test_the_table_has_every_figure(report):
    heads, rows = tables.step_table(report)
    table = [dict(zip(heads, row, strict=True)) for row in rows]
    assert [row["step"] for row in table] == ["original", "prune (sparsity 0.5)", "channels"]
    assert table[0]["parameters"] == "864"
    assert table[1]["non-zeros"] == "432 (50% zeros)"
    assert table[2]["MACs"] == "13.8 k (4.00x)"
    assert table[2]["drop, points"] == "+0.70 [-0.30, +1.70]"
    assert table[2]["top-1 %"] == "89.30 [88.30, 90.30]"
    assert table[2]["onnxruntime p50 / p95 ms"] == "0.800 / 1.200"
    assert table[2]["onnxruntime ratio"] == "0.40 [0.40, 0.40]"
    assert table[2]["onnxruntime RSS"] == "3.00 MB"
    assert not any(head.startswith("openvino") for head in heads)
    assert (table[0]["drop, points"], table[0]["onnxruntime ratio"]) == ("-", "1")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (7, "7"),
        (999, "999"),
        (999.96, "1.00 k"),
        (1234, "1.23 k"),
        (55_278, "55.3 k"),
        (184_204_800, "184 M"),
    ],
)
def test_counts_have_three_digits(value, text):
    assert tables.count(value) == text


def test_what_was_refused_is_said(report):
    rows = tables.refused_table(report)[1]
    assert ["channels", "head.b | its readers are 4 | left alone"] in rows
    assert ["original", "openvino: it is <not> here"] in rows
    assert ["recipe none", "needs <PyTorch>"] in rows


def test_markdown_keeps_its_tables_whole(report):
    text = markdown(report, ("steps.png",))
    assert text.startswith("# parts & more: optimised for size with small\n\n**Met.** small keeps the budget")
    assert "![steps](steps.png)" in text
    assert "head.b \\| its readers" in text
    assert "at most 1 point below" in text
    widths: list[int] = []
    for line in text.splitlines():
        if line.startswith("|"):
            widths.append(len(re.findall(r"(?<!\\)\|", line)))
        elif widths:
            assert len(set(widths)) == 1
            assert len(widths) > 2
            widths = []
    assert text.count("<details>") == text.count("</details>") == 3


def test_a_missed_budget_is_not_met_anywhere(report, no_plots):
    missed = dataclasses.replace(report, verdict=Verdict(False, "nothing keeps it; the closest is small"), chosen="")
    assert "**Not met.** nothing keeps it; the closest is small" in markdown(missed)
    page = report_page(missed)
    assert "class='verdict bad'><b>Not met.</b>" in page
    assert "class='verdict good'" not in page


def test_files_are_whole(report, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    files = write_report(report, tmp_path)
    assert {file.name for file in files} == {
        *("report.json", "report.md", "report.html", "steps.png", "trade.png", "layers.png")
    }
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in files}
    before = {file: file.read_bytes() for file in files}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    monkeypatch.setattr(plots, "names", lambda report: (plots.STEPS,))
    with pytest.raises(OSError, match="No space"):
        write_report(dataclasses.replace(report, model="other"), tmp_path)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", [plots.STEPS, plots.TRADE, plots.LAYERS])
def test_figures_say_what_they_show(report, name):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    found = plots.svg(report, name)
    words = {
        plots.STEPS: ("original", "channels", "budget", "89.30", "onnxruntime"),
        plots.TRADE: ("Accuracy against latency", "budget", "small"),
        plots.LAYERS: ("head.w", "Multiply-accumulates"),
    }[name]
    for word in words:
        assert word in found
    assert "var(--ink)" in found
    assert "#20262c" not in found


def test_figures_without_much_to_show(report):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    alone = dataclasses.replace(report, steps=report.steps[:1], trials=())
    assert plots.names(alone) == (plots.LAYERS,)
    bare = dataclasses.replace(report.steps[1], accuracy=None, drop=None, latency=(), memory=())
    first = dataclasses.replace(report.steps[0], accuracy=None, drop=None, latency=(), memory=())
    unmeasured = dataclasses.replace(report, steps=(first, bare), trials=())
    assert plots.names(unmeasured) == (plots.STEPS, plots.LAYERS)
    nothing = dataclasses.replace(report, steps=(), verdict=Verdict(False, "no recipe could be done"))
    assert plots.names(nothing) == ()
    assert "no recipe could be done" in report_page(nothing)
    assert "no recipe could be done" in markdown(nothing)
    for one in (alone, unmeasured):
        assert "<svg" in report_page(one)


def test_without_matplotlib_there_is_a_page(report, tmp_path, no_plots):
    files = write_report(report, tmp_path)
    assert {file.suffix for file in files} == {".json", ".md", ".html"}
    page = (tmp_path / "report.html").read_text()
    assert "plots need matplotlib" in page
    assert "<svg" not in page


def test_text_of_others_is_no_markup(report, no_plots):
    page = report_page(report)
    assert "it is &lt;not&gt; here" in page
    assert "parts &amp; more" in page
    assert "<not>" not in page


def test_the_page_fits_a_browser_in_light_and_dark(report, tmp_path):
    pytest.importorskip("selenium", reason="selenium is not installed")
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("chromium or chromedriver is not installed")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    file = tmp_path / "r.html"
    file.write_text(report_page(report), encoding="utf-8")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    flags = "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-background-networking"
    for flag in (*flags.split(), "--disable-dev-shm-usage", f"--user-data-dir={tmp_path / 'chromium'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        papers = []
        for scheme in ("light", "dark"):
            media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
            browser.set_window_size(1000, 800)
            browser.get(file.as_uri())
            script = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
            width, shown = browser.execute_script(script)
            assert width <= shown  # the wide table scrolls by itself
            papers.append(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
            ink = browser.execute_script("return getComputedStyle(document.querySelector('svg text')).fill")
            assert ink == browser.execute_script("return getComputedStyle(document.body).color")
        assert papers[0] != papers[1]
        assert not browser.get_log("browser")
    finally:
        browser.quit()


def test_a_command_names_no_home(monkeypatch):
    monkeypatch.setenv("HOME", "/somebody")
    assert building.command(["edge_vision", "optimize", "/somebody/a b", "--x"]) == "edge_vision optimize '~/a b' --x"


def test_what_the_figures_hold_for_is_known():
    found = building.machine_facts()
    assert found["cores"]
    assert building.versions()["numpy"] == np.__version__


def test_steps_are_measured_together(tmp_path: Path):
    """Two steps of one name are told apart."""
    import onnx

    from edge_vision.inference.bundle import Bundle, Thresholds, Variant
    from edge_vision.inference.preprocess import InputSpec
    from edge_vision.optimize.network import Network
    from edge_vision.optimize.run import Stage

    spec = InputSpec(10, 10, "x", "nchw", "float32", "rgb", 1.0, (0.0,) * 3, (1.0,) * 3, "stretch")
    bundles, steps = [], []
    for index, channels in enumerate((32, 16, 8)):
        path = tmp_path / f"{index}.onnx"
        onnx.save(network(channels), path)
        variant = Variant("onnxruntime", "fp32", path)
        bundles.append(Bundle("n", "detect", "yolox", ("a",), spec, Thresholds(), (variant,), tmp_path, path))
        stage = Stage(
            "same" if index else "original", Network(network(channels), bundles[-1]), facts={"a": np.int64(3)}
        )
        steps.append(building.step_report(stage))
    told: list[str] = []
    done, run = building.measured_together(steps, bundles, ("onnxruntime",), seconds=0.02, repeats=1, step=told.append)
    assert told == ["latency on onnxruntime", "memory on onnxruntime"]
    assert [one.size.parameters for one in done] == [864, 432, 216]
    assert [one.latency[0].model for one in done] == ["original", "same", "same"]
    assert [row.model for row in run.rows] == ["original", "1", "2"]
    assert [one.latency[0].p50_ms for one in done] == [row.p50_ms for row in run.rows]
    assert all(one.memory_on("onnxruntime") for one in done)
    assert done[1].facts == {"a": 3}
    assert done[1].input == (10, 10)
