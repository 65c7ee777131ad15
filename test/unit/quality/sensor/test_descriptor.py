"""Descriptor files as they come, and what is said about those that cannot be read."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_vision.quality.sensor import (
    ImageSet,
    SensorDataError,
    open_measurement,
    parse_descriptor,
    read_descriptor,
    read_folder,
    write_descriptor,
)

GOOD = """\
# a comment
v 4.0
n 12 640 480
l Vendor Some One
b\t40000,0  120.5  # words
i images\\b 0\\1.png
i images/b 0/2.png
d 40000.0
i d1.png
i d2.png
d 80000
i s1.png
i s2.png
i s3.png
"""


def test_lenient_reading() -> None:
    found = parse_descriptor(GOOD.replace("\n", "\r\n"), "/data/set.txt")
    assert (found.bits, found.width, found.height, found.version) == (12, 640, 480, "4.0")
    assert found.information == {"Vendor": "Some One"}
    bright, dark, series = found.sets
    assert (bright.exposure_ns, bright.photons, bright.dark, bright.spatial) == (40000.0, 120.5, False, False)
    assert bright.images == (Path("/data/images/b 0/1.png"), Path("/data/images/b 0/2.png"))
    assert (dark.dark, dark.spatial) == (True, False)
    assert (series.dark, series.spatial) == (True, True)
    assert found.images == 7


def test_photons_may_be_unknown() -> None:
    found = parse_descriptor("b 10\ni 1.png\ni 2.png\n", "x")
    assert found.sets[0].photons is None
    assert not found.sets[0].dark


def test_a_byte_order_mark_and_latin_1_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert len(read_descriptor(path).sets) == 3
    path.write_bytes(GOOD.replace("Some One", "Müller").encode("latin-1"))
    assert read_descriptor(path).information == {"Vendor": "Müller"}


def test_unknown_lines_are_told_and_left_out() -> None:
    found = parse_descriptor(GOOD + "q what is this\n", "x")
    assert found.warnings == ("line 15 is not understood and left out: q what is this",)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("i a.png\n", 1, "before any b or d"),
        ("v 4\nb 10 20\ni a.png\n", 2, "1 image of this setting"),
        ("v 4\nb 10 20\n", 2, "0 images"),
        ("b ten 20\n", 1, "'ten' is no number"),
        ("b 10 20 30\n", 1, "b has 3 values"),
        ("b -5 20\n", 1, "exposure is -5"),
        ("b nan 20\n", 1, "exposure is nan"),
        ("d\n", 1, "d has 0 values"),
        ("n 12 640\n", 1, "bits, width and height"),
        ("n 24 640 480\n", 1, "24 bits"),
        ("n 8 4 4\n\nn 8 4 4\n", 3, "second n"),
        ("b 10 20\ni\n", 2, "without a path"),
        ("d 10\ni a\ni b\nd 10\ni c\ni d\n", 4, r"second pair of 10 ns, dark \(the first is at line 1\)"),
    ],
)
def test_errors_name_the_line(text: str, line: int, message: str) -> None:
    with pytest.raises(SensorDataError, match=message) as caught:
        parse_descriptor(text, "set.txt")
    assert caught.value.line == line
    assert f"set.txt, line {line}: " in str(caught.value)


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = parse_descriptor(text, "x.txt")
    except SensorDataError:
        return
    assert found.sets


numbers = st.floats(0, 1e12, allow_nan=False).map(lambda x: float(f"{x:.10g}"))


@settings(deadline=None)
@given(st.lists(st.tuples(numbers, st.one_of(st.none(), numbers.filter(bool))), max_size=6, unique_by=lambda p: p[0]))
def test_what_is_written_is_read_back(points: list) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        sets = [
            ImageSet(t, p, (Path(folder) / f"b{n}_1.png", Path(folder) / "sub" / f"b{n}_2.png"), False, False)
            for n, (t, p) in enumerate(points)
        ]
        sets.append(ImageSet(5.0, 0.0, tuple(Path(folder) / f"d{n}.png" for n in range(3)), True, True))
        path = Path(folder) / "set.txt"
        write_descriptor(path, sets, 10, 64, 48, {"Camera": "twin"})
        found = read_descriptor(path)
        assert [(s.exposure_ns, s.photons, s.images, s.dark, s.spatial) for s in found.sets] == [
            (s.exposure_ns, s.photons, s.images, s.dark, s.spatial) for s in sets
        ]
        assert (found.bits, found.width, found.height, found.information) == (10, 64, 48, {"Camera": "twin"})


def picture(path: Path) -> None:
    cv2.imwrite(str(path), np.zeros((4, 4), np.uint8))


def test_a_folder_is_read_by_its_names(tmp_path: Path) -> None:
    names = ["bright_1.5ms_1", "bright_1.5ms_2", "dark_1500us_01", "dark_1500us_02"]
    names += [f"{kind}_series_750us_{n:03d}" for kind in ("bright", "dark") for n in range(3)]
    for name in [*names, "cat"]:
        picture(tmp_path / f"{name}.png")
    found = read_folder(tmp_path)
    kinds = {(s.exposure_ns, s.dark, s.spatial, len(s.images)) for s in found.sets}
    assert kinds == {
        (1.5e6, False, False, 2),
        (1.5e6, True, False, 2),
        (7.5e5, False, True, 3),
        (7.5e5, True, True, 3),
    }
    assert found.warnings == ("1 other images are left out, such as cat.png",)


def test_photons_in_names(tmp_path: Path) -> None:
    for n in (1, 2):
        picture(tmp_path / f"bright_10us_120p_{n}.png")
    assert read_folder(tmp_path).sets[0].photons == 120


def test_three_images_of_a_pair(tmp_path: Path) -> None:
    for n in (1, 2, 3):
        picture(tmp_path / f"bright_10us_{n}.png")
    with pytest.raises(SensorDataError, match=r"3 images like bright_10us_1.png.*bright_series_"):
        read_folder(tmp_path)


def test_what_a_path_may_be(tmp_path: Path) -> None:
    with pytest.raises(SensorDataError, match="no such file or folder"):
        open_measurement(tmp_path / "nothing")
    with pytest.raises(SensorDataError, match="no descriptor and no image"):
        open_measurement(tmp_path)
    picture(tmp_path / "a.png")
    with pytest.raises(SensorDataError, match="no text file"):
        open_measurement(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("just notes")
    (tmp_path / "one.txt").write_text(GOOD)
    assert open_measurement(tmp_path).path == tmp_path / "one.txt"
    (tmp_path / "two.txt").write_text(GOOD)
    with pytest.raises(SensorDataError, match=r"one\.txt, two\.txt"):
        open_measurement(tmp_path)
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(SensorDataError, match="names no images"):
        open_measurement(tmp_path / "empty.txt")
