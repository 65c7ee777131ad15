"""Drivers and runtimes asked for their devices, in processes of their own."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from edge_vision.inference import probing
from edge_vision.inference.probing import Probe, probe_runtimes


def ask(code: str, timeout: float = 20.0) -> Probe:
    return probing._ask("test", (sys.executable, "-S", "-c", code), timeout)


def test_answers_and_failures_of_a_source() -> None:
    assert ask("print(' a, 1 '); print(); print('b')") == Probe("test", ("a, 1", "b"))
    assert ask("pass").problem == "lists no device"
    assert ask("import gone_with_the_wind").problem == "not installed"
    assert ask("raise SystemExit('no driver')").problem == "failed: no driver"
    assert ask("raise SystemExit(9)").problem == "failed: 9"
    assert probing._ask("test", ("/nowhere/nvidia-smi",), 1.0).problem == "not installed"
    assert probing._ask("test", (__file__,), 1.0).problem.startswith("cannot be started: Permission denied")


def test_a_source_that_hangs_is_ended() -> None:
    assert ask("import time; time.sleep(60)", timeout=0.2).problem == "no answer within 0.2 s: its driver may hang"


def test_openvino_names_the_processor() -> None:
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    found = {probe.source: probe for probe in probe_runtimes(60.0)}
    assert set(found) == {"nvidia-smi", "openvino"}
    assert found["openvino"].problem == ""
    assert any(line.startswith("cpu: ") for line in found["openvino"].devices)
