"""`edge_vision sensor capture` drives a real camera node of the twin, and measures what it takes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

K = 0.0242 * 4095 / 255  # DN/e- of the twin at 12 bits


def command(*arguments: str) -> list[str]:
    code = "import sys; from edge_vision.cli.main import main; sys.exit(main())"
    return [sys.executable, "-c", code, "sensor", "capture", *arguments]


def run(*arguments: str, timeout: float = 110, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=timeout, check=False, input=stdin
    )


def twin(start, cap: Path, namespace: str, **parameters):
    source = f"sim://flat?bits=12&width=128&height=96&prnu=1&dsnu=6&fps=150&cap={cap}"
    return start("camera", parameters={"source": source, **parameters}, namespace=namespace)


def test_the_twin_is_captured_and_measured(observer, start, tmp_path) -> None:
    cap = tmp_path / "cap"
    twin(start, cap, "/cell")
    report = tmp_path / "report.json"
    done = run(
        *("--camera", "/cell/camera", "--output", str(tmp_path / "set"), "--json", str(report)),
        *("--steps", "20", "--series", "16", "--exposure-unit-us", "1", "--settle", "3"),
        *("--cap-on", f"touch {cap}", "--cap-off", f"rm {cap}", "--gain", "1.0"),
    )
    assert done.returncode == 0, done.stderr
    assert "system gain" in done.stdout
    assert not cap.exists()
    data = json.loads(report.read_text())
    figures = data["figures"]
    assert figures["system_gain"] == pytest.approx(K, rel=0.02)
    assert figures["dark_noise_electrons"] == pytest.approx(8.0, rel=0.02)
    assert figures["ceiling_electrons"] == pytest.approx((4095 - 4 * 4095 / 255) / K, rel=0.02)
    assert data["nonuniformity"]["prnu_percent"]["total"] == pytest.approx(1.0, rel=0.02)
    assert data["nonuniformity"]["dsnu_electrons"]["total"] == pytest.approx(6.0, rel=0.02)
    assert data["information"]["Camera"] == "/cell/camera"
    # The camera is as it was.
    assert observer.parameter("/cell/camera", "exposure") == -1.0
    assert observer.parameter("/cell/camera", "gain") == -1.0


def test_without_a_command_the_user_is_asked(start, tmp_path) -> None:
    """Here nobody covers the lens: that is seen, and the camera gets its exposure back."""
    twin(start, tmp_path / "cap", "/asked", exposure=0.0005)
    options = ("--camera", "/asked/camera", "--steps", "6", "--series", "3", "--exposure-unit-us", "1", "--settle", "2")
    done = run(*options, "--output", str(tmp_path / "set"), stdin="\n")
    assert done.returncode == 2
    assert "press Enter" in done.stdout + done.stderr
    assert "it is not dark" in done.stderr
    done = run(*options, "--output", str(tmp_path / "again"))
    assert done.returncode == 2
    assert "--cap-on" in done.stderr


def test_an_interrupted_capture_gives_the_camera_back(observer, start, tmp_path) -> None:
    process = twin(start, tmp_path / "cap", "/cut", exposure=0.0007)
    arguments = ["--camera", "/cut/camera", "--output", str(tmp_path / "set"), "--exposure-unit-us", "1"]
    capture = subprocess.Popen(command(*arguments), stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        observer.spin_until(lambda: any((tmp_path / "set").glob("bright_*.png")), "the first image", process)
        capture.send_signal(signal.SIGINT)
        assert capture.wait(30) == 130, capture.stderr.read() if capture.stderr else ""
    finally:
        capture.kill()
        capture.wait(10)
    assert observer.parameter("/cut/camera", "exposure") == 0.0007
    assert not (tmp_path / "set" / "descriptor.txt").exists()


def test_what_is_not_there_is_named(start, tmp_path) -> None:
    output = ("--output", str(tmp_path / "set"))
    done = run("--camera", "/nowhere/camera", *output)
    assert done.returncode == 2
    assert "no node /nowhere/camera within" in done.stderr
    start("overlay", namespace="/other")
    done = run("--camera", "/other/overlay", *output)
    assert done.returncode == 2
    assert "has no parameter 'exposure'" in done.stderr
    # A camera node whose source has no exposure refuses it with its reason.
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((48, 64), 100, np.uint8))
    start("camera", parameters={"source": str(tmp_path / "grey.png"), "loop": True}, namespace="/still")
    done = run("--camera", "/still/camera", *output)
    assert done.returncode == 2
    assert "/still/camera refuses exposure" in done.stderr
