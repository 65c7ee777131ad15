"""`edge_vision bench quality` with few calls on small images: that it measures what it says."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from edge_vision.benchmarks import quality, quality_peer
from edge_vision.benchmarks.quality import BY_HAND, OURS, PEER, Settings, by_hand, degraded, measure, work
from edge_vision.benchmarks.quality_peer import PeerFailed, ScikitImage
from edge_vision.cli.main import main
from edge_vision.quality.full_reference import ssim

needs_scikit_image = pytest.mark.skipif(not find_spec("skimage"), reason="scikit-image is not installed here")


def test_filters_by_hand_give_the_same_ssim():
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (60, 70), dtype=np.uint8)
    assert by_hand(degraded(image, 2), image) == pytest.approx(ssim(degraded(image, 2), image), abs=1e-4)


def test_contenders_take_turns_and_the_work_is_announced():
    settings = Settings(calls=3, sizes=((192, 176), (64, 48)), report=False)
    steps: list[int] = []
    sections = measure(settings, steps.append)
    assert sum(steps) == work(settings) == 6
    assert [section.title for section in sections] == ["SSIM at 192x176, grey, 8 bit", "SSIM at 64x48, grey, 8 bit"]
    for section in sections:
        rows = {row.name: row.latency for row in section.rows}
        assert set(rows) >= {OURS, BY_HAND}
        assert all(latency.count == 3 and latency.p50 > 0 for latency in rows.values())
        assert f"{OURS} PSNR" in section.stages
        assert (f"{OURS} MS-SSIM" in section.stages) == section.title.startswith("SSIM at 192")
        assert (PEER in rows) == bool(section.checks) == any(note.startswith(PEER) for note in section.notes)


def test_the_report_of_frames_is_timed(monkeypatch):
    monkeypatch.setattr(quality, "REPORT_LIMITS_MS", {(160, 120): 4.0})
    (section,) = measure(Settings(calls=2, sizes=()))
    assert section.title == "no-reference report at 160x120, BGR"
    assert section.checks[0].limit == 4.0
    assert section.rows[0].latency.count == 2


def test_an_interpreter_that_cannot_be_used_says_why(tmp_path):
    with pytest.raises(PeerFailed, match="cannot be started: No such file"):
        ScikitImage(str(tmp_path / "python"))
    no_packages = tmp_path / "python3"
    no_packages.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    no_packages.chmod(0o755)
    with pytest.raises(PeerFailed, match="has ended"):
        ScikitImage(str(no_packages))
    peer, reasons = quality_peer.find([str(tmp_path / "python")])
    if peer is None:
        assert len(reasons) == 2
        assert "no scikit-image" in reasons[0]
    else:
        peer.close()


@needs_scikit_image
def test_scikit_image_agrees():
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (60, 70), dtype=np.uint8)
    with ScikitImage(sys.executable) as peer:
        peer.load(degraded(image, 4), image, 255.0)
        value, ns = peer.call("ssim")
    assert value == pytest.approx(ssim(degraded(image, 4), image), abs=1e-5)
    assert ns > 0


def test_the_command_writes_its_figures(tmp_path, capsys):
    target = tmp_path / "figures.json"
    assert main(["bench", "quality", "--sizes", "64x48", "--calls", "2", "--no-report", "--json", str(target)]) == 0
    assert "SSIM at 64x48" in capsys.readouterr().out
    written = json.loads(target.read_text())
    assert written["command"] == "bench quality"
    assert written["sections"][0]["rows"][0]["name"] == OURS
    with pytest.raises(SystemExit) as ended:
        main(["bench", "quality", "--calls", "0"])
    assert ended.value.code == 2
