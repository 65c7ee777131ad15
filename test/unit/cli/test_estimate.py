"""`edge_vision estimate` as a user calls it."""

from __future__ import annotations

import argparse
import json

import pytest

pytest.importorskip("onnx", reason="estimates read ONNX graphs")

from edge_vision.cli import estimate as command


def call(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(arguments))


def test_the_bundled_detector_on_all_targets(capsys):
    assert call("conveyor_parts") == 0
    shown = capsys.readouterr().out
    for name in ("raspberry_pi_4", "raspberry_pi_5", "jetson_nano", "jetson_orin_nano", "cortex_m7", "esp32_s3"):
        assert name in shown
    assert "fits" in shown


def test_json_and_markdown_say_the_same(capsys, tmp_path):
    page = tmp_path / "page.md"
    assert call("conveyor_parts", "--target", "pi5,m7", "--json", "--markdown", str(page)) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["target"] for one in found] == ["raspberry_pi_5", "cortex_m7"]
    for one in found:
        latency = one["latencies"][0]
        assert latency["low"] < latency["ms"] < latency["high"]
        assert one["ram"]["fits"] is True
    assert "| raspberry_pi_5 |" in page.read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [page]


def test_a_model_that_fits_nowhere_is_exit_code_1(capsys):
    assert call("conveyor_parts", "--target", "esp32_s3") == 1
    assert "does not fit" in capsys.readouterr().out


def test_errors_against_published_points(capsys):
    assert call("--errors", "--target", "cortex_m7") == 0
    shown = capsys.readouterr().out
    assert "resnet8" in shown
    assert "STM32H747I-DISCO" in shown
    assert "points lie within" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("no_such_model",), "no_such_model"),
        (("conveyor_parts", "--target", "toaster"), "raspberry_pi_4"),
        (("conveyor_parts", "--target", ","), "names none"),
        (("conveyor_parts", "--target", "pi4", "--threads", "9"), "1 to 4"),
        (("conveyor_parts", "--threads", "-1"), "--threads"),
        (("conveyor_parts", "--target", "m7", "--precision", "fp32"), "--precision int8"),
        (("conveyor_parts", "--errors", "--target", "pi4"), "--target this"),
        ((), "--errors"),
    ],
)
def test_what_cannot_be_is_told_with_the_remedy(arguments, message, capsys):
    assert call(*arguments) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("edge_vision estimate: ")
    assert message in shown
