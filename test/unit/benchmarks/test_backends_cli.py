"""The command line of `edge_vision bench backends`: exit codes, messages, files."""

from __future__ import annotations

import argparse
import json

import cv2
import pytest

from edge_vision.benchmarks import backend_chart
from edge_vision.cli import bench_backends


def command(*arguments: str) -> int:
    parser = argparse.ArgumentParser(prog="edge_vision bench backends")
    bench_backends.add_arguments(parser)
    return bench_backends.run(parser.parse_args(arguments))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--threads", "0"], "'0' must be numbers of threads"),
        (["--threads", "two"], "'two' must be numbers of threads"),
        (["--precision", "fp8"], "'fp8' is no precision: fp32, fp16"),
        (["--seconds", "-1"], "'-1' must be a number above 0"),
        (["--rate", "nan"], "'nan' must be a number above 0"),
        (["--compare"], "expected at least one argument"),
    ],
)
def test_wrong_arguments_end_with_2(arguments, said, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        command(*arguments)
    assert end.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no_such_model"], "there is no such file or folder"),
        (["--backend", "caffe"], "there is no backend 'caffe'"),
        (["--compare", "none.json"], "none.json: cannot be read"),
    ],
)
def test_what_cannot_be_done_ends_with_1_and_says_why(arguments, said, capsys) -> None:
    assert command(*arguments) == 1
    assert said in capsys.readouterr().err


def test_parts_that_need_each_other(capsys) -> None:
    assert command("--no-table") == 2
    assert command("--no-table", "--by-hand", "--check-auto") == 2
    assert "--no-table goes with --by-hand" in capsys.readouterr().err


def test_without_matplotlib_a_chart_is_refused_before_anything_is_measured(monkeypatch, capsys) -> None:
    monkeypatch.setattr(backend_chart, "find_spec", lambda name: None)
    assert command("--png", "chart.png") == 1
    assert "pip install 'edge_vision[report]'" in capsys.readouterr().err


def test_a_run_with_all_its_files_and_then_two_boxes(tiny_model, tmp_path, capsys) -> None:
    pytest.importorskip("matplotlib")
    names = {kind: tmp_path / f"one.{kind}" for kind in ("json", "csv", "html", "png")}
    files = [part for kind, path in names.items() for part in (f"--{kind}", str(path))]
    common = [str(tiny_model), "--decoder", "fastestdet", "--backend", "onnxruntime", "--device", "cpu"]
    short = ["--precision", "fp32", "--threads", "1", "--seconds", "0.3"]
    assert command(*common, *short, "--name", "one", "--price", "50", *files) == 0
    shown = capsys.readouterr()
    assert "onnxruntime" in shown.out
    assert "equal to ORT *" in shown.out
    assert "onnxruntime cpu fp32 x1" in shown.err  # the progress
    content = json.loads(names["json"].read_text())
    assert content["machine"]["price"] == 50
    assert content["rows"][0]["p50_ms"] > 0
    assert names["csv"].read_text().startswith("machine,model,backend,")
    assert "<svg" in names["html"].read_text()
    assert cv2.imread(str(names["png"])) is not None

    content["machine"]["name"] = "two"
    (tmp_path / "two.json").write_text(json.dumps(content))
    assert command("--compare", str(names["json"]), str(tmp_path / "two.json"), "--json", "-") == 0
    compared = json.loads(capsys.readouterr().out)
    assert [box["name"] for box in compared["boxes"]] == ["one", "two"]
    assert [row["best"] for row in compared["rows"]] == [True, True]


def test_nothing_that_can_be_measured_ends_with_1(tiny_model, capsys) -> None:
    assert command(str(tiny_model), "--decoder", "fastestdet", "--backend", "onnxruntime", "--device", "dsp") == 1
    shown = capsys.readouterr()
    assert "has no device dsp here" in shown.out
    assert "nothing could be measured" in shown.err
