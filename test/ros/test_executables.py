"""What is typed wrong is said at once, with an exit code that a script can go by."""

from __future__ import annotations

import pytest


def test_help(start) -> None:
    process = start("pipeline", "--help")
    assert process.wait() == 0
    for text in ("camera", "inference", "tracking", "overlay", "monitor", "--must-start", "--ros-args", "params-file"):
        assert text in process.log


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("pipeline", "camera", "telescope"), "unknown node telescope; there are camera, "),
        (("camera", "--loud"), "unrecognized arguments: --loud"),
    ],
)
def test_wrong_arguments(start, arguments, told) -> None:
    process = start(*arguments)
    assert process.wait() == 2
    assert told in process.log
    assert "Traceback" not in process.log


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("score_threshold", "high", "score_threshold must be a number, got 'high' (a text)"),
        ("score_threshold", 7.5, "score_threshold must be in -1 .. 1"),
        ("backend", "abacus", "backend must be one of auto, onnxruntime"),
        ("threads", 2.5, "threads must be a whole number, got 2.5"),
    ],
)
def test_wrong_parameters_end_the_start(start, name, value, told) -> None:
    process = start("inference", parameters={name: value})
    assert process.wait() == 1
    assert len(process.lines(r"\[ERROR\]")) == 1
    assert told in process.log
    assert "Traceback" not in process.log


@pytest.mark.parametrize("content", [None, "inference:\n  ros__parameters: [1, 2"])
def test_a_parameter_file_that_cannot_be_read(start, tmp_path, content) -> None:
    file = tmp_path / "parameters.yaml"
    if content is not None:
        file.write_text(content)
    process = start("inference", parameter_files=(file,))
    assert process.wait() == 2
    assert "inference: cannot start" in process.log
    assert str(file) in process.log
    assert "Traceback" not in process.log
