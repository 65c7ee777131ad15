"""The file of lines and zones: what is read, and what is said of what cannot be."""

from __future__ import annotations

import pytest

from edge_vision.counting import CountingError, Line, Zone, read_layout

GOOD = """
units: fractions
lines:
  - {name: door, start: [0.5, 1], end: [0.5, 0]}
zones:
  - name: bin
    polygon: [[0, 0], [0.25, 0], [0.25, 0.5]]
"""


def written(tmp_path, text: str):
    path = tmp_path / "counters.yaml"
    path.write_text(text)
    return path


def test_fractions_become_pixels_of_the_image(tmp_path) -> None:
    layout = read_layout(written(tmp_path, GOOD))
    assert layout.units == "fractions"
    scaled = layout.in_pixels(640, 480)
    assert scaled.lines == (Line("door", (320, 480), (320, 0)),)
    assert scaled.zones == (Zone("bin", ((0, 0), (160, 0), (160, 240))),)
    assert scaled.in_pixels(1, 1) == scaled


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lines: [", "not readable as YAML"),
        ("- 1", "the file: is [1]; give the keys units, lines, zones"),
        ("{}", "neither lines nor zones"),
        ("line: []", "unknown key 'line'; there are units, lines, zones"),
        ("units: metres\nlines: []", "units: is 'metres'; give one of pixels, fractions"),
        ("lines: {name: a}", "lines: is {'name': 'a'}; give a list"),
        ("lines: [3]", "lines[0]: is 3; give the keys name, start, end"),
        ("lines: [{start: [0, 9], end: [9, 9]}]", "lines[0].name: is None"),
        ("lines: [{name: a, start: [0, 9], stop: [9, 9]}]", "lines[0]: unknown key 'stop'"),
        ("lines: [{name: a, start: [0, 9]}]", "lines[0].end: is None; give two numbers"),
        ("lines: [{name: a, start: [0, .nan], end: [9, 9]}]", "lines[0].start: is [0, nan]"),
        ("lines: [{name: a, start: [9, 9], end: [9, 9]}]", "lines[0]: starts and ends at [9.0, 9.0]"),
        ("zones: [{name: a, polygon: [[0, 0], [9, 9], [0, 0]]}]", "zones[0].polygon: has 2 different corners"),
        ("zones: [{name: a, polygon: [[0, 0], [9, x], [0, 0]]}]", "zones[0].polygon[1]: is [9, 'x']"),
        ("zones: [{name: a}]", "zones[0].polygon: is None; give a list"),
        ("units: fractions\nlines: [{name: a, start: [0, 9], end: [0, 0]}]", "lines[0].start: is [0, 9]; fractions"),
        ("lines: [{name: a, start: [0, 1], end: [0.5, 0]}]", "add `units: fractions`"),
        (
            "lines: [{name: a, start: [0, 9], end: [0, 0]}]\nzones: [{name: a, polygon: [[0, 0], [9, 9], [0, 9]]}]",
            "the name 'a' is given 2 times",
        ),
    ],
)
def test_what_cannot_be_is_named_with_file_key_and_remedy(tmp_path, text: str, expected: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(CountingError) as error:
        read_layout(path)
    assert str(error.value).startswith(f"{path}: ")
    assert expected in str(error.value)


def test_a_file_that_is_not_there(tmp_path) -> None:
    with pytest.raises(CountingError, match=r"none\.yaml: cannot be read \(No such file"):
        read_layout(tmp_path / "none.yaml")
