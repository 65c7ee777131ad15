"""`edge_vision backends`."""

from __future__ import annotations

import argparse
import json

import pytest

from edge_vision.cli import backends as command
from edge_vision.inference.backends import BACKENDS, backend


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(arguments))


def test_the_table_names_every_backend_and_the_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    text = capsys.readouterr().out
    for name in BACKENDS:
        assert name in text
    assert text.startswith("hardware  ")


def test_json_says_why_a_backend_is_out_and_what_helps(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend("openvino"), "available", lambda: "the Python package openvino is not installed")
    assert run("--json", "--hardware", "raspberry_pi") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["profile"]["kind"] == "raspberry_pi"
    entries = {entry["name"]: entry for entry in found["backends"]}
    assert entries["onnxruntime"]["available"]
    assert entries["onnxruntime"]["devices"] == ["cpu"]
    assert entries["openvino"]["remedy"] == "pip install openvino"
    assert not entries["openvino"]["available"]


def test_an_unknown_profile_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--hardware", "toaster") == 2
    assert "no hardware profile 'toaster'" in capsys.readouterr().err
