"""The command line of `edge_vision bench`, up to where something is measured; and the part of it that needs no ROS."""

from __future__ import annotations

import json

import pytest

from edge_vision.cli import bench
from edge_vision.cli.main import main


@pytest.fixture
def no_ros(monkeypatch) -> None:
    monkeypatch.setattr(bench, "_has_ros", lambda: False)


@pytest.mark.parametrize("what", ["pipeline", "transport"])
def test_help_explains_every_option(what, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        main(["bench", what, "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    for option in ("--sizes", "--frames", "--rate", "--only", "--json", "--check"):
        assert option in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pipeline", "--sizes", "640"], "'640' is no image size: write WIDTHxHEIGHT"),
        (["pipeline", "--sizes", "4x4"], "'4x4' is no image size"),
        (["pipeline", "--frames", "0"], "'0' must be a whole number above 0"),
        (["transport", "--rate", "fast"], "'fast' must be a number above 0"),
        (["transport", "--only", "nothing"], "invalid choice: 'nothing'"),
        ([], "WHAT"),
    ],
)
def test_wrong_arguments_end_with_2_and_say_what_is_wrong(arguments, said, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        main(["bench", *arguments])
    assert end.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["pipeline"], ["pipeline", "--only", "plain", "start"], ["transport"]])
def test_what_needs_ros_says_how_to_get_it(no_ros, arguments, capsys) -> None:
    assert main(["bench", *arguments]) == 1
    assert "scripts/env.sh" in capsys.readouterr().err


def test_a_model_that_is_not_there(no_ros, capsys) -> None:
    assert main(["bench", "pipeline", "--only", "plain", "--model", "no_such_model"]) == 1
    assert "no model no_such_model" in capsys.readouterr().err


def test_a_model_that_cannot_be_read(no_ros, tmp_path, capfd) -> None:
    (tmp_path / "text.onnx").write_text("no model at all\n")
    arguments = ["--model", str(tmp_path / "text.onnx"), "--sizes", "64x48", "--frames", "2"]
    assert main(["bench", "pipeline", "--only", "plain", *arguments]) == 1
    assert "text.onnx" in capfd.readouterr().err


def test_the_plain_loop_is_measured_without_ros(no_ros, shared_data, tmp_path, capsys) -> None:
    model = str(shared_data / "models" / "fastestdet_coco.onnx")
    written = tmp_path / "figures.json"
    arguments = ["--model", model, "--sizes", "64x48", "--frames", "4", "--rate", "100", "--json", str(written)]
    assert main(["bench", "pipeline", "--only", "plain", *arguments]) == 0
    shown = capsys.readouterr().out
    figures = json.loads(written.read_text())
    rows = {row["name"]: row for row in figures["sections"][0]["rows"]}
    assert {name: row["frames"] for name, row in rows.items()} == {
        "bare backend call": 4,
        "bare backend call, in a row": 4,
        "plain loop": 4,
    }
    assert all(name in shown for name in rows)
    loop, stages = rows["plain loop"], figures["sections"][0]["stages"]
    assert loop["max_ms"] > stages["plain loop: run"]["p50_ms"] > 0
    assert loop["rss_mib"] > 10
