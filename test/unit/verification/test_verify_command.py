"""`edge_vision verify` as it is typed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from edge_vision.cli import verify

pytest.importorskip("pycocotools", reason="pycocotools is not installed: pip install pycocotools")


def typed(*words: str) -> int:
    parser = argparse.ArgumentParser()
    verify.add_arguments(parser)
    return verify.run(parser.parse_args(list(words)))


def test_equal_is_0_and_different_1_with_a_picture(
    tmp_path: Path,
    make_bundle: Callable[..., Path],
    make_detector: Callable[..., None],
    objects: tuple,
    pictures: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = make_bundle(tmp_path / "model")
    usual = [str(folder), "--frames", str(pictures), "--count", "3", "--backend", "onnxruntime", "--threads", "1"]
    assert typed(*usual, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["passed"], content["frames"], content["rows"][0]["state"]) == (True, 3, "passed")
    assert (folder / "verification.json").is_file()

    make_detector(folder / "other.onnx", objects[1:], quantised=True)
    make_bundle(folder, {"backend": "onnxruntime", "precision": "int8", "file": "other.onnx"})
    table, image = tmp_path / "table.md", tmp_path / "worst.png"
    assert typed(*usual, "--markdown", str(table), "--picture", str(image)) == 1
    assert "failed: matched 75 % of the boxes (90 % needed)" in capsys.readouterr().out
    assert "| onnxruntime cpu int8 (other.onnx) |" in table.read_text(encoding="utf-8")
    drawn = cv2.imread(str(image))
    assert drawn is not None
    assert drawn.shape[1] == 96 * 14
    assert typed(*usual, "--dry-run", "--precision", "int8", "--tolerance", "int8.matched=0.7", "agreement=0.5") == 0
    assert "passed" in capsys.readouterr().out
    assert "75 %" in (folder / "verification.json").read_text(encoding="utf-8")  # as the run before wrote it


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["MODEL"], "needs frames that show what it detects: give --frames"),
        (["MODEL", "--frames", "nowhere.mp4"], "no such file: nowhere.mp4"),
        (["MODEL", "--frames", "PICTURES", "--count", "0"], "give at least 1"),
        (["MODEL", "--frames", "PICTURES", "--backend", "onxruntime"], "there is no backend 'onxruntime'"),
        (["MODEL", "--frames", "PICTURES", "--precision", "int4"], "there is no precision 'int4'"),
        (["MODEL", "--frames", "PICTURES", "--tolerance", "mached=1"], "there is no tolerance 'mached'"),
        (["none.onnx"], "there is no such file or folder"),
    ],
)
def test_what_is_wrong_is_told_with_exit_code_2(
    words: list[str],
    expected: str,
    tmp_path: Path,
    make_bundle: Callable[..., Path],
    pictures: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = {"MODEL": str(make_bundle(tmp_path / "model")), "PICTURES": str(pictures)}
    assert typed(*(real.get(word, word) for word in words)) == 2
    assert expected in capsys.readouterr().err


def test_words_that_cannot_be_read_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["model", "--tolerance", "matched"], ["model", "--backend", ","]):
        with pytest.raises(SystemExit) as ended:
            typed(*words)
        assert ended.value.code == 2
