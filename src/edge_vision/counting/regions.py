"""Lines and zones, and the YAML file that they are read from (docs/counting.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

Point = tuple[float, float]
UNITS = ("pixels", "fractions")


class CountingError(ValueError):
    """A file of lines and zones that cannot be used: which file, which key, what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class Line:
    """Counts who crosses it. `in` is towards the right hand of one who walks from start to end as seen in the image::

        end                     start --------> end
         ^                               |
         |  --> in                       v in
         |
        start

    In numbers, y pointing down: a point p lies on the `in` side where (end - start) x (p - start) >= 0.
    """

    name: str
    start: Point
    end: Point


@dataclass(frozen=True, slots=True)
class Zone:
    """Counts who is in it, comes and goes. polygon: corners in order; where it crosses itself, even-odd."""

    name: str
    polygon: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """What is counted. units of all coordinates: "pixels" of the source image or "fractions" of its size."""

    lines: tuple[Line, ...] = ()
    zones: tuple[Zone, ...] = ()
    units: str = "pixels"

    def in_pixels(self, width: int, height: int) -> Layout:
        """The same for an image of that size, in pixels."""
        if self.units == "pixels":
            return self

        def scaled(point: Point) -> Point:
            return point[0] * width, point[1] * height

        lines = tuple(replace(line, start=scaled(line.start), end=scaled(line.end)) for line in self.lines)
        zones = tuple(replace(zone, polygon=tuple(map(scaled, zone.polygon))) for zone in self.zones)
        return Layout(lines, zones)


def read_layout(path: Path | str) -> Layout:
    """The lines and zones of a YAML file. Raises CountingError."""
    path = Path(path).expanduser()
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CountingError(f"{path}: cannot be read ({error.strerror}); give a file as in docs/counting.md") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CountingError(
            f"{path}: not readable as YAML: {' '.join(str(error).split())}; correct that line"
        ) from None
    content = _mapping(content, path, "the file", ("units", "lines", "zones"))
    units = content.get("units", "pixels")
    if units not in UNITS:
        raise CountingError(f"{path}: units: is {units!r}; give one of {', '.join(UNITS)}")
    lines = tuple(_line(entry, path, f"lines[{i}]", units) for i, entry in enumerate(_entries(content, "lines", path)))
    zones = tuple(_zone(entry, path, f"zones[{i}]", units) for i, entry in enumerate(_entries(content, "zones", path)))
    if not lines and not zones:
        raise CountingError(f"{path}: has neither lines nor zones; add one, as in docs/counting.md")
    names = [line.name for line in lines] + [zone.name for zone in zones]
    for name in names:
        if names.count(name) > 1:
            raise CountingError(f"{path}: the name {name!r} is given {names.count(name)} times; give each its own")
    points = [p for line in lines for p in (line.start, line.end)] + [p for zone in zones for p in zone.polygon]
    if units == "pixels" and all(0 <= value <= 1 for point in points for value in point):
        raise CountingError(f"{path}: all coordinates are in 0..1, in pixels; add `units: fractions` if that is meant")
    return Layout(lines, zones, units)


def _entries(content: Mapping[str, Any], key: str, path: Path) -> list:
    entries = content.get(key)
    if entries is None:
        return []
    if not isinstance(entries, list):
        raise CountingError(f"{path}: {key}: is {entries!r}; give a list, each entry beginning with `- name:`")
    return entries


def _mapping(value: Any, path: Path, where: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise CountingError(f"{path}: {where}: is {value!r}; give the keys {', '.join(known)}")
    for key in value:
        if key not in known:
            raise CountingError(f"{path}: {where}: unknown key {key!r}; there are {', '.join(known)}")
    return value


def _name(entry: Mapping[str, Any], path: Path, where: str) -> str:
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise CountingError(f"{path}: {where}.name: is {name!r}; give a text, which the counts go by")
    return name


def _line(entry: Any, path: Path, where: str, units: str) -> Line:
    entry = _mapping(entry, path, where, ("name", "start", "end"))
    name = _name(entry, path, where)
    start, end = (_point(entry.get(key), path, f"{where}.{key}", units) for key in ("start", "end"))
    if start == end:
        raise CountingError(f"{path}: {where}: starts and ends at {list(start)}; move one of the two")
    return Line(name, start, end)


def _zone(entry: Any, path: Path, where: str, units: str) -> Zone:
    entry = _mapping(entry, path, where, ("name", "polygon"))
    name, corners = _name(entry, path, where), entry.get("polygon")
    if not isinstance(corners, list):
        raise CountingError(f"{path}: {where}.polygon: is {corners!r}; give a list of [x, y]")
    polygon = tuple(_point(corner, path, f"{where}.polygon[{i}]", units) for i, corner in enumerate(corners))
    if len(set(polygon)) < 3:
        raise CountingError(f"{path}: {where}.polygon: has {len(set(polygon))} different corners; give three or more")
    return Zone(name, polygon)


def _point(value: Any, path: Path, where: str, units: str) -> Point:
    good = isinstance(value, list) and len(value) == 2
    if not good or not all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in value):
        raise CountingError(f"{path}: {where}: is {value!r}; give two numbers, [x, y]")
    if units == "fractions" and not all(0 <= v <= 1 for v in value):
        raise CountingError(f"{path}: {where}: is {value!r}; fractions of the image are 0..1 (or set `units: pixels`)")
    return float(value[0]), float(value[1])
