"""The report in its forms, and the command."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from edge_vision.cli.main import main
from edge_vision.quality.sensor import SensorReport, plots
from edge_vision.quality.sensor.report import as_dict, html, markdown
from edge_vision.quality.sensor.table import rows, text


def test_json_has_every_figure_or_the_reason(coarse: SensorReport, report: SensorReport) -> None:
    for one in (coarse, report):
        data = json.loads(json.dumps(as_dict(one), allow_nan=False))
        missing = [name for name, value in data["figures"].items() if value is None]
        assert set(missing) <= set(data["unknown"])
        assert len(data["steps"]["mean_dn"]) == 60
        assert data["verdict"] == "EMVA 1288 style, not compliant"
        assert {clause["answer"] for clause in data["clauses"]} <= {"met", "not met", "cannot be seen"}


def test_unknown_and_limits_are_words_in_the_table(coarse: SensorReport) -> None:
    by_symbol = {row.symbol: row for row in rows(coarse) if row.symbol}
    assert by_symbol["η"].value == "unknown"
    assert "irradiance" in by_symbol["η"].note
    assert by_symbol["σ_d"].note.startswith("at most")
    assert by_symbol["K"].note.startswith("biased")
    lines = text(coarse)
    assert re.search(r"quantum efficiency +η +unknown +no photon count", lines)
    assert "Clauses of the protocol that were not met: 2" in lines


def test_markdown_tables_are_whole(report: SensorReport) -> None:
    page = markdown(report)
    tables = [line for line in page.splitlines() if line.startswith("|")]
    assert all(line.count("|") in (5, 7) for line in tables)
    assert f"{report.figures.snr_max_db:.5g} | dB" in page


class Tags(HTMLParser):
    """Whether every element is closed, and what it refers to outside of itself."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)
        self.outside += [
            value for name, value in attrs if name in ("src", "href", "xlink:href") and value and value[0] != "#"
        ]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_stands_alone(report: SensorReport) -> None:
    pytest.importorskip("matplotlib")
    page = html(report)
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.outside == []
    assert page.count("<svg") == 3
    for words in ("Photon transfer", "Linearity", "dynamic range", "not compliant", "DSNU"):
        assert words in page


def test_plots_show_the_points(report: SensorReport, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    import cv2

    for name in plots.NAMES:
        plots.png(report, name, tmp_path / f"{name}.png")
        image = cv2.imread(str(tmp_path / f"{name}.png")).astype(int)
        blue = np.abs(image - (0xB3, 0x6D, 0x2F)).max(-1) < 40
        assert blue.mean() > 0.001


def test_the_command(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    folder = str(shared_data / "sensor" / "set1_crop64")
    files = [str(tmp_path / name) for name in ("a.json", "a.md", "a.html")]
    options = ["--json", files[0], "--markdown", files[1], "--html", files[2], "--sensor-width-mm", "0.3584"]
    assert main(["sensor", "measure", folder, *options]) == 0
    printed = capsys.readouterr()
    assert "44.491 %" in printed.out
    assert "64 x 64 pixels of 5.6 µm" in printed.out
    data = json.loads(Path(files[0]).read_text())
    assert data["figures"]["system_gain"] == pytest.approx(0.284162, rel=1e-4)
    assert data["sensor"]["pixel_pitch_um"] == pytest.approx(5.6)
    assert Path(files[1]).read_text().startswith("# Sensor measurement")
    assert main(["sensor", "measure", folder, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["figures"] == data["figures"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["measure", "/nonexistent/set.txt"], 2, "no such file or folder"),
        (["measure", ".", "--irradiance-uw-cm2", "3"], 2, ""),
    ],
)
def test_what_cannot_be_done(arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sensor", *arguments]) == code
    assert words in capsys.readouterr().err


def test_help_needs_no_runtime() -> None:
    """`--help` imports neither OpenCV nor ROS."""
    code = (
        "import sys; from edge_vision.cli.main import main\n"
        "try: main(['sensor', 'measure', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'cv2', 'rclpy', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "--pixel-pitch-um" in done.stdout
