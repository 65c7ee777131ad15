from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_vision.cli.main import main
from edge_vision.simulation import LABELS, Conveyor, ConveyorOptions


def frames_of_the_twin(folder: Path, leaking: bool) -> Path:
    """Six clips of four frames, as COCO in two splits: by frame, or by clip."""
    (folder / "images").mkdir(parents=True)
    categories = [{"id": i, "name": name} for i, name in enumerate(LABELS, 1)]
    files: dict = {s: {"images": [], "annotations": [], "categories": categories} for s in ("train", "val")}
    number = 0
    for clip in range(6):
        conveyor = Conveyor(ConveyorOptions(seed=clip + 1, width=320, height=240))
        for frame in range(4):
            number += 1
            shot = conveyor.render(60 + 2 * frame)
            name = f"clip{clip}_{frame:04d}.png"
            cv2.imwrite(str(folder / "images" / name), shot.frame.image)
            content = files["val" if (frame == 1 if leaking else clip == 2) else "train"]
            content["images"].append({"id": number, "file_name": name, "width": 320, "height": 240})
            for (x1, y1, x2, y2), kind in zip(shot.truth.boxes.tolist(), shot.truth.class_ids.tolist(), strict=True):
                box = [x1, y1, x2 - x1, y2 - y1]
                content["annotations"].append({"image_id": number, "category_id": kind + 1, "bbox": box})
    for split, content in files.items():
        (folder / f"instances_{split}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def leaky(tmp_path_factory) -> Path:
    return frames_of_the_twin(tmp_path_factory.mktemp("leaky"), leaking=True)


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    return frames_of_the_twin(tmp_path_factory.mktemp("clean"), leaking=False)


def test_a_leaky_dataset_is_told_with_a_page_and_a_sheet(leaky, tmp_path, capsys):
    files = {kind: tmp_path / name for kind, name in (("html", "p.html"), ("sheet", "s.png"), ("plot", "p.png"))}
    options = [part for kind, file in files.items() for part in (f"--{kind}", str(file))]
    markdown = tmp_path / "report.md"
    assert main(["dataset", "check", str(leaky), *options, "--markdown", str(markdown), "--json", "-"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["splits"] == {"train": 18, "val": 6}
    assert found["leaks"]["leaking"] == {"val": 6}
    assert len(found["leaks"]["shared_sequences"]) == 6
    names = [warning["name"] for warning in found["warnings"]]
    assert names[:2] == ["clips in several splits", "near-duplicates across splits"]
    assert "6 of 6 images of val (100.0%)" in markdown.read_text()
    assert "near-duplicates" in files["html"].read_text()
    sheet = cv2.imread(str(files["sheet"]))
    assert sheet is not None
    assert np.ptp(sheet) > 200
    assert cv2.imread(str(files["plot"])) is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.html", "p.png", "report.md", "s.png"]


def test_a_clean_dataset_has_no_leaks(clean, capsys):
    main(["dataset", "check", str(clean), "--json", "-"])
    found = json.loads(capsys.readouterr().out)
    assert found["leaks"]["clean"]
    assert not {"clips in several splits", "near-duplicates across splits"} & {w["name"] for w in found["warnings"]}


def test_one_split_alone_has_nothing_to_leak_to(leaky, capsys):
    main(["dataset", "check", str(leaky), "--splits", "val", "--json", "-"])
    found = json.loads(capsys.readouterr().out)
    assert found["leaks"] is None
    assert found["images"] == 6
    assert main(["dataset", "check", str(leaky), "--splits", "nightly"]) == 2
    assert "there are: train, val" in capsys.readouterr().err.lower()


def test_a_split_keeps_clips_together_and_passes_its_own_check(leaky, tmp_path, capsys):
    output = tmp_path / "splits"
    code = main(["dataset", "split", str(leaky), "--output", str(output), "--ratios", "train=2,val=1", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert code == 0, found["notes"]
    assert found["joined_sequences"] == 0
    assert {name: split["images"] for name, split in found["splits"].items()} == {"train": 16, "val": 8}
    main(["dataset", "check", str(output), "--json", "-"])
    assert json.loads(capsys.readouterr().out)["leaks"]["clean"]
    assert main(["dataset", "split", str(leaky), "--output", str(output)]) == 2
    assert "not empty" in capsys.readouterr().err


def test_clips_that_show_the_same_are_joined_whatever_they_are_called(leaky, tmp_path, capsys):
    group = ["--group-by", r"(clip\d_\d+)"]  # as if every frame were a clip
    shared = ["dataset", "split", str(leaky), "--ratios", "train=2,val=1", "--json", *group]
    main([*shared, "--output", str(tmp_path / "a")])
    found = json.loads(capsys.readouterr().out)
    assert found["joined_sequences"] == 18
    main([*shared, "--output", str(tmp_path / "b"), "--trust-names"])
    assert json.loads(capsys.readouterr().out)["joined_sequences"] == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["check", "{missing}"], "there is no such file or folder"),
        (["check", "{empty}"], "is empty"),
        (["check", "{leaky}", "--html", "{missing}/x.html"], "make it first"),
        (["check", "{leaky}", "--group-by", "("], "no regular expression"),
        (["split", "{leaky}", "--output", "{missing}", "--format", "yolo"], "needs YOLO"),
        (["split", "{leaky}", "--output", "{missing}", "--group-by", "clip"], "1 sequences cannot be dealt out"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_code_2(leaky, tmp_path, capsys, options, words):
    (tmp_path / "empty").mkdir()
    places = {"missing": tmp_path / "missing", "empty": tmp_path / "empty", "leaky": leaky}
    assert main(["dataset", *(part.format(**places) if part[0] == "{" else part for part in options)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert words in error
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("arguments", [["--ratios", "train"], ["--ratios", "train=x"]])
def test_ratios_that_are_none(leaky, capsys, arguments):
    with pytest.raises(SystemExit) as raised:
        main(["dataset", "split", str(leaky), "--output", "x", *arguments])
    assert raised.value.code == 2
    assert "write train=0.8,val=0.2" in capsys.readouterr().err


def test_the_leak_checks_rates_on_the_twin(capsys):
    assert main(["dataset", "measure", "sim://conveyor?width=320&height=240", "--clips", "6", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert min(found["hits"].values()) == 1
    assert found["false_pairs"] == 0
    assert found["different_pairs"] == 7 * 6 * 5


def test_the_shared_videos_next_frames_are_found(shared_data, capsys):
    video = shared_data / "video" / "one-by-one-person-detection.mp4"
    assert main(["dataset", "measure", str(video), "--clips", "6", "--apart", "50", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["hits"]["1 frames on"] == 1
    assert found["hits"]["JPEG of quality 30"] == 1
