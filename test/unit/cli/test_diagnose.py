from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import pytest

from edge_vision.cli.main import main


def write(path: Path, epochs: int = 40, kind: str = "good") -> Path:
    rows = ["epoch,loss,val_loss"]
    for e in range(epochs):
        train = 2 * (0.1 + 0.9 * math.exp(-e / 4))
        val = train * 1.05 + (0.05 * max(0, e - 12) if kind == "over" else 0)
        rows.append(f"{e + 1},{math.nan if kind == 'nan' and e > 5 else train},{val}")
    path.write_text("\n".join(rows))
    return path


@pytest.mark.parametrize(
    ("kind", "epochs", "code", "name"),
    [
        ("good", 40, 0, "good fit"),
        ("over", 40, 1, "overfitting"),
        ("nan", 40, 1, "diverged"),
        ("good", 5, 3, "too short"),
    ],
)
def test_code_and_name(tmp_path, capsys, kind, epochs, code, name):
    log = write(tmp_path / "log.csv", epochs, kind)
    assert main(["diagnose", "training", str(log), "--json"]) == code
    found = json.loads(capsys.readouterr().out)
    assert found["diagnosis"] == name
    assert found["remedy"]


def test_text_plot_and_page_are_written(tmp_path, capsys):
    log = write(tmp_path / "log.csv", kind="over")
    options = ["--plot", str(tmp_path / "p.png"), "--html", str(tmp_path / "p.html")]
    assert main(["diagnose", "training", str(log), *options]) == 1
    out = capsys.readouterr().out
    assert "overfitting" in out
    assert "because (end - lowest) / fall of the validation loss" in out
    assert "remedy: take the checkpoint" in out
    picture = cv2.imread(str(tmp_path / "p.png"))
    assert picture is not None
    assert picture.shape[1] > 600
    assert "Thick lines: smoothed" in (tmp_path / "p.html").read_text()
    assert main(["diagnose", "training", str(log), "--plot", str(tmp_path / "p.svg")]) == 1
    assert "<svg" in (tmp_path / "p.svg").read_text()


@pytest.mark.parametrize("epochs", [1, 2, 3, 7])
def test_short_logs_can_be_drawn(tmp_path, capsys, epochs):
    for kind in ("good", "nan"):
        log = write(tmp_path / "log.csv", epochs, kind)
        main(["diagnose", "training", str(log), "--html", str(tmp_path / "p.html")])
        assert "<svg" in (tmp_path / "p.html").read_text()


def test_what_is_no_log_is_code_2(tmp_path, capsys):
    log = tmp_path / "log.csv"
    log.write_text("a,b\n1,2\n")
    assert main(["diagnose", "training", str(log)]) == 2
    assert "Name it with --train" in capsys.readouterr().err
    assert main(["diagnose", "training", str(tmp_path / "none.csv")]) == 2
    assert main(["diagnose", "training", str(write(log)), "--plot", str(tmp_path / "no/p.png")]) == 2
    assert "make it first" in capsys.readouterr().err
