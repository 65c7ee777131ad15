"""`edge_vision quality` on real files: what it prints, writes and answers."""

from __future__ import annotations

import base64
import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import cv2
import numpy as np
import pytest

import edge_vision
from edge_vision.cli import quality_pictures
from edge_vision.cli.main import main
from edge_vision.quality.errors import QualityError
from edge_vision.quality.full_reference import compare
from edge_vision.simulation import Conveyor, ConveyorOptions


@pytest.fixture(scope="module")
def scenes():
    conveyor = Conveyor(ConveyorOptions(width=320, height=240, seed=3))
    return [conveyor.render(10 * index).frame.image for index in range(4)]


@pytest.fixture
def folders(tmp_path, scenes):
    """Pictures of which the second is blurred and the last is dark, and their references."""
    pictures, references = tmp_path / "pictures", tmp_path / "references"
    pictures.mkdir()
    references.mkdir()
    for index, scene in enumerate(scenes):
        shown = [scene, cv2.GaussianBlur(scene, (0, 0), 2.5), scene, (scene * 0.1).astype(np.uint8)][index]
        cv2.imwrite(str(pictures / f"part{index}.png"), shown)
        cv2.imwrite(str(references / f"part{index}.png"), scene)
    return pictures, references


def written(folder, *arguments):
    target = folder / "figures.json"
    code = main(["quality", *map(str, arguments), "--json", str(target)])
    return code, json.loads(target.read_text())


def test_an_image_beside_its_reference(tmp_path, folders, scenes, capsys):
    pictures, references = folders
    code, found = written(tmp_path, pictures / "part1.png", "--reference", references / "part1.png")
    assert code == 0
    expected = compare(cv2.imread(str(pictures / "part1.png")), scenes[1])
    picture = found["pictures"][0]
    for name in ("mse", "psnr", "snr", "ssim", "ms_ssim"):
        assert picture["reference"][name] == pytest.approx(getattr(expected, name))
    assert not picture["reference"]["identical"]
    assert picture["report"]["width"] == 320
    assert np.shape(picture["report"]["zones"]) == (3, 3)
    shown = capsys.readouterr().out
    assert re.search(rf"^SSIM +{expected.ssim:.4f}$", shown, re.MULTILINE)
    assert re.search(r"^blurred .*blur_sigma .* px \(limit ", shown, re.MULTILINE)


def test_folders_are_paired_by_name_and_summed_up(tmp_path, folders, capsys):
    pictures, references = folders
    (references / "part2.png").unlink()
    code, found = written(tmp_path, pictures, "--reference", references)
    assert code == 1
    entries = found["pictures"]
    assert [entry["name"] for entry in entries] == ["part0.png", "part1.png", "part2.png", "part3.png"]
    assert entries[0]["reference"] == {"mse": 0, "psnr": None, "snr": None, "ssim": 1, "ms_ssim": 1, "identical": True}
    assert entries[2]["problem"] == f"no image called part2.png in {references}"
    figures = {one["figure"]: one for one in found["summary"]}
    assert figures["reference_ssim"]["worst_index"] == 3
    assert figures["reference_ssim"]["median"] == pytest.approx(entries[1]["reference"]["ssim"])
    causes = {one["cause"]: one for one in found["verdicts"]}
    assert causes["blurred"]["worst_index"] == 1
    assert causes["dark"]["worst_index"] == 3
    shown = capsys.readouterr().out
    assert "4 pictures measured" in shown
    assert "1 of 4 could not be measured:" in shown


def test_other_names_are_paired_in_order_when_there_are_as_many(tmp_path, folders):
    pictures, references = folders
    for path in references.iterdir():
        path.rename(path.with_name(f"truth{path.stem[-1]}.png"))
    _, found = written(tmp_path, pictures, "--reference", references)
    assert [entry["reference"]["identical"] for entry in found["pictures"]] == [True, False, True, False]
    (references / "truth0.png").unlink()
    with (
        quality_pictures.open_pictures(str(pictures)) as opened,
        pytest.raises(QualityError, match=r"4 images .* 3 references"),
    ):
        quality_pictures.open_references(str(references), opened)


def test_one_reference_serves_every_picture_of_a_video(tmp_path, scenes, capsys):
    video = tmp_path / "belt.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 10, (320, 240))
    for index in range(12):
        writer.write(scenes[0] if index < 6 else cv2.GaussianBlur(scenes[0], (0, 0), 3))
    writer.release()
    still = tmp_path / "still.png"
    cv2.imwrite(str(still), cv2.cvtColor(scenes[0], cv2.COLOR_BGR2GRAY))  # grey against colour, by luma
    code, found = written(tmp_path, video, "--reference", still, "--every", 3)
    assert code == 0
    entries = found["pictures"]
    assert [entry["index"] for entry in entries] == [0, 3, 6, 9]
    assert [entry["seconds"] for entry in entries] == pytest.approx([0, 0.3, 0.6, 0.9], abs=0.01)
    ssims = [entry["reference"]["ssim"] for entry in entries]
    assert min(ssims[:2]) > max(ssims[2:]) + 0.1
    assert "every 3rd" in capsys.readouterr().out
    assert len(written(tmp_path, video, "--frames", 2)[1]["pictures"]) == 2
    both = written(tmp_path, video, "--reference", video)[1]["pictures"]
    assert all(entry["reference"]["identical"] for entry in both)


def test_the_csv_has_a_row_a_picture(tmp_path, folders):
    pictures, references = folders
    target = tmp_path / "figures.csv"
    assert main(["quality", str(pictures), "--reference", str(references), "--csv", str(target)]) == 0
    rows = list(csv.DictReader(target.read_text().splitlines()))
    assert [row["name"] for row in rows] == [f"part{index}.png" for index in range(4)]
    assert rows[0]["reference_psnr"] == "inf"
    assert float(rows[1]["blur_sigma"]) > 1.5 > float(rows[0]["blur_sigma"])
    assert float(rows[3]["severity_dark"]) >= 1
    assert rows[0]["seconds"] == ""


def test_the_page_stands_alone(tmp_path, folders):
    pytest.importorskip("matplotlib")
    pictures, references = folders
    target = tmp_path / "page.html"
    assert main(["quality", str(pictures), "--reference", str(references), "--html", str(target)]) == 0
    page = target.read_text()
    for heading in ("Verdicts", "Over time", "Worst pictures", "Figures"):
        assert f"<h2>{heading}</h2>" in page
    assert not re.search(r"(src|href)='(?!data:)", page)
    drawing = ET.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
    words = " ".join("".join(element.itertext()) for element in drawing.iter())
    assert "SSIM" in words
    assert "verdicts" in words
    jpegs = [base64.b64decode(data) for data in re.findall(r"base64,([^']+)'", page)]
    assert len(jpegs) >= 4  # the furthest, its reference, the map; the blurred one, the dark one
    assert all(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is not None for data in jpegs)


def test_names_are_escaped_on_the_page(tmp_path, scenes):
    pytest.importorskip("matplotlib")
    picture, target = tmp_path / "a<b>&c.png", tmp_path / "page.html"
    cv2.imwrite(str(picture), scenes[0])
    assert main(["quality", str(picture), "--html", str(target)]) == 0
    assert "a&lt;b&gt;&amp;c.png" in target.read_text()
    assert "a<b>" not in target.read_text()


def test_check_answers_with_the_exit_code(tmp_path, folders):
    pictures, _ = folders
    assert main(["quality", str(pictures / "part0.png"), "--check"]) == 0
    assert main(["quality", str(pictures / "part3.png"), "--check"]) == 1


def test_a_damaged_file_is_told_of_and_the_others_are_measured(tmp_path, folders, capsys):
    pictures, _ = folders
    (pictures / "part1.png").write_bytes(b"\x89PNG no more")
    code, found = written(tmp_path, pictures)
    assert code == 1
    assert found["measured"] == 3
    assert "part1.png" in found["pictures"][1]["problem"]
    assert "1 of 4 could not be measured" in capsys.readouterr().out


def test_a_reference_of_another_size_is_a_problem_of_the_picture(tmp_path, folders):
    pictures, references = folders
    cv2.imwrite(str(references / "part0.png"), np.zeros((100, 100, 3), np.uint8))
    code, found = written(tmp_path, pictures, "--reference", references)
    assert code == 1
    assert "320 x 240 pixels and the reference 100 x 100" in found["pictures"][0]["problem"]
    assert found["pictures"][0]["report"]["width"] == 320


def test_sixteen_bit_pictures_take_their_bits(tmp_path):
    rng = np.random.default_rng(0)
    scene = cv2.GaussianBlur(rng.integers(0, 4096, (200, 200), np.uint16), (0, 0), 1)
    other = np.clip(scene.astype(int) + rng.integers(-40, 41, scene.shape), 0, 4095).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), other)
    cv2.imwrite(str(tmp_path / "b.png"), scene)
    arguments = (tmp_path / "a.png", "--reference", tmp_path / "b.png")
    wide, narrow = (written(tmp_path, *arguments, *bits)[1]["pictures"][0] for bits in ((), ("--bits", 12)))
    gap = narrow["reference"]["psnr"] - wide["reference"]["psnr"]
    assert gap == pytest.approx(20 * math.log10(4095 / 65535), abs=1e-9)
    assert narrow["report"]["bits"] == 12


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere.png"], "nowhere.png"),
        (["nowhere.mp4"], "nowhere.mp4"),
        (["{picture}", "--reference", "nowhere.png"], "nowhere.png"),
        (["{picture}", "--json", "nowhere/figures.json"], "there is no folder nowhere"),
        (["{folder}"], "no images in the folder"),
    ],
)
def test_what_cannot_be_done_ends_with_2_and_the_reason(tmp_path, folders, capsys, arguments, told):
    given = {"picture": str(folders[0] / "part0.png"), "folder": str(tmp_path)}
    assert main(["quality", *(argument.format(**given) for argument in arguments)]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["a.png", "--every", "0"], ["a.png", "--bits", "9"], []])
def test_wrong_arguments_end_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["quality", *arguments])
    assert ended.value.code == 2


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["quality", "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for option in ("--reference", "--every", "--frames", "--bits", "--csv", "--json", "--html", "--check"):
        assert option in shown


def test_json_alone_goes_to_standard_output(folders, capsys):
    assert main(["quality", str(folders[0]), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["measured"] == 4


def test_the_twin_is_measured_for_as_long_as_asked(tmp_path):
    code, found = written(tmp_path, "sim://conveyor?width=320&height=240", "--frames", 3, "--every", 2)
    assert code == 0
    assert [picture["index"] for picture in found["pictures"]] == [0, 2, 4]


def test_an_interrupt_ends_the_measuring_and_keeps_what_there_is(tmp_path):
    target = tmp_path / "figures.json"
    code = "import sys; from edge_vision.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "quality", "sim://conveyor?width=160&height=120", "--json", str(target)]
    paths = os.pathsep.join(filter(None, [str(Path(edge_vision.__path__[0]).parent), os.environ.get("PYTHONPATH")]))
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": paths},
    ) as child:
        try:
            told = b""
            while not re.search(rb"[1-9]\d*picture", told):  # tqdm's line, once it has counted
                more = os.read(child.stderr.fileno(), 4096)
                assert more, told
                told += more
            child.send_signal(signal.SIGINT)
            child.communicate(timeout=60)
        finally:
            child.kill()
    assert child.returncode == 130
    assert len(json.loads(target.read_text())["pictures"]) >= 1
