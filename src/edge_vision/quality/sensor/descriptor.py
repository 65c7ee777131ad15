"""Which images belong to a measurement: EMVA 1288 descriptor files, and folders whose file names say it.

A descriptor is lines of text (EMVA 1288 working group, data set format)::

    v 4.0                       release of the standard, optional
    n 12 640 480                bits, width, height
    l PixelPitch_um 5.6         a name and a value for the report
    b 40000.0 120.0             bright: exposure in ns, mean photons a pixel
    i images/b_000_1.png        its images, relative to the descriptor: two are a temporal pair, more a spatial series
    i images/b_000_2.png
    d 40000.0                   dark: exposure in ns, and its images
    i images\\d_000_1.png

``#`` begins a comment. Decimal commas, ``\\`` in paths, any line ends, a byte order mark and Latin-1 text are taken as
they come. ``b`` without photons (ours; not in the format) says that they are not known.

A folder without a descriptor is read by its file names, ``KIND_EXPOSURE[_PHOTONSp]_NUMBER.SUFFIX``::

    bright_1500us_1.png  bright_1500us_2.png     dark_1500us_1.png ...
    bright_1.5ms_4388p_1.tif                     with a photon count
    bright_series_750us_001.png ...              the L images of the spatial measurement, also dark_series_...
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath

from edge_vision.quality.sensor.errors import SensorDataError

SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".pgm")
_UNITS_NS = {"ns": 1.0, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9}
_FILE_NAME = re.compile(
    r"(?P<kind>bright|dark)(?P<series>_series)?_(?P<exposure>\d+(?:[.,]\d+)?)(?P<unit>ns|us|µs|ms|s)"
    r"(?:_(?P<photons>\d+(?:[.,]\d+)?)p)?_(?P<number>\d+)",
    re.IGNORECASE,
)
_FORMAT = "see docs/sensor.md for the format"


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Images of one setting. photons: mean a pixel, 0 for dark, None where not known. line: of the descriptor."""

    exposure_ns: float
    photons: float | None
    images: tuple[Path, ...]
    dark: bool
    spatial: bool
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A measurement's images. bits, width, height: None where the descriptor does not say them."""

    path: Path
    sets: tuple[ImageSet, ...]
    bits: int | None = None
    width: int | None = None
    height: int | None = None
    version: str = ""
    information: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def images(self) -> int:
        """How many image files there are."""
        return sum(len(one.images) for one in self.sets)


def open_measurement(path: str | Path) -> Descriptor:
    """The descriptor at ``path``: a descriptor file, a folder that holds one, or a folder of well-named images.

    Raises SensorDataError for anything else, with the file and the line.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        found = sorted(file for file in path.glob("*.txt") if _looks_like_descriptor(file))
        if len(found) > 1:
            names = ", ".join(file.name for file in found)
            raise SensorDataError(f"more than one descriptor: {names}", "name the one to measure", path)
        return read_descriptor(found[0]) if found else read_folder(path)
    return read_descriptor(path)


def read_descriptor(path: str | Path) -> Descriptor:
    """Reads a descriptor file. Raises SensorDataError with the line that cannot be read; images are not opened."""
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise SensorDataError("no such file or folder", "name a descriptor or a folder of images", path) from None
    except OSError as error:
        raise SensorDataError(f"cannot be read ({error.strerror})", "", path) from error
    if b"\0" in content:
        raise SensorDataError("is no text file", f"name the descriptor or its folder, {_FORMAT}", path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    return parse_descriptor(text, path)


def parse_descriptor(text: str, path: str | Path) -> Descriptor:
    """The descriptor in ``text``; ``path``: the file it stands for, from whose folder image paths are taken."""
    return _Parser(Path(path)).parse(text)


class _Parser:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.sets: list[ImageSet] = []
        self.format: tuple[int, int, int] | None = None
        self.version = ""
        self.information: dict[str, str] = {}
        self.warnings: list[str] = []
        self._open: tuple[float, float | None, bool, int] | None = None
        self._images: list[Path] = []

    def parse(self, text: str) -> Descriptor:
        for number, raw in enumerate(text.splitlines(), 1):
            line = raw.strip()
            if not line or line.startswith("#"):
                continue
            key, *rest = line.split(maxsplit=1)
            self._line(key.lower(), rest[0] if rest else "", number)
        self._close()
        bits, width, height = self.format or (None, None, None)
        if not self.sets:
            raise SensorDataError("names no images", f"it needs lines that begin with b, d and i; {_FORMAT}", self.path)
        return Descriptor(
            self.path, tuple(self.sets), bits, width, height, self.version, self.information, tuple(self.warnings)
        )

    def _line(self, key: str, rest: str, number: int) -> None:
        words = rest.split(" #")[0].split()
        if key == "i":
            if self._open is None:
                raise self._error("an image before any b or d", "say with b or d what it shows", number)
            if not rest:
                raise self._error("an i without a path", "write: i folder/image.png", number)
            self._images.append(self.path.parent / PureWindowsPath(rest).as_posix())
            return
        if key in ("b", "d"):
            self._close()
            most = 2 if key == "b" else 1
            if not 1 <= len(words) <= most:
                wanted = "b EXPOSURE_NS PHOTONS" if key == "b" else "d EXPOSURE_NS"
                raise self._error(f"{key} has {len(words)} values", f"write: {wanted}", number)
            exposure = self._number(words[0], "exposure", number)
            photons = 0.0 if key == "d" else self._number(words[1], "photon count", number) if len(words) == 2 else None
            dark = photons == 0.0
            self._open = (exposure, photons, dark, number)
        elif key == "n":
            if self.format is not None:
                raise self._error("a second n", "all images have one size: keep one line n", number)
            if len(words) != 3 or not all(word.isdecimal() and int(word) > 0 for word in words):
                raise self._error(f"'n {rest}' is not bits, width and height", "write: n 12 640 480", number)
            bits, width, height = (int(word) for word in words)
            if bits > 16:
                raise self._error(f"{bits} bits", "images of at most 16 bits can be measured", number)
            self.format = (bits, width, height)
        elif key == "v":
            self.version = rest
        elif key == "l":
            name, _, value = rest.partition(" ")
            self.information[name] = value.strip()
        else:
            self.warnings.append(f"line {number} is not understood and left out: {key} {rest}".rstrip())

    def _close(self) -> None:
        """The set that was open is complete."""
        if self._open is None:
            return
        exposure, photons, dark, number = self._open
        if len(self._images) < 2:
            raise self._error(
                f"{len(self._images)} image{'s' * (len(self._images) != 1)} of this setting",
                "two are needed for temporal noise, more for spatial nonuniformity",
                number,
            )
        spatial = len(self._images) > 2
        _refuse_second(self.sets, exposure, photons, spatial, self.path, number)
        self.sets.append(ImageSet(exposure, photons, tuple(self._images), dark, spatial, number))
        self._open, self._images = None, []

    def _number(self, text: str, what: str, number: int) -> float:
        try:
            value = float(text.replace(",", "."))
        except ValueError:
            raise self._error(f"{what} {text!r} is no number", "", number) from None
        if not 0 <= value < float("inf"):
            raise self._error(f"{what} is {text}", "it must be a finite number, not below 0", number)
        return value

    def _error(self, problem: str, remedy: str, number: int) -> SensorDataError:
        return SensorDataError(problem, remedy, self.path, number)


def _refuse_second(
    sets: Iterable[ImageSet], exposure: float, photons: float | None, spatial: bool, path: Path, line: int | None
) -> None:
    for one in sets:
        if (one.exposure_ns, one.photons, one.spatial) == (exposure, photons, spatial):
            lit = "dark" if photons == 0 else "bright" if photons is None else f"{photons:g} photons"
            kind = "series" if spatial else "pair"
            first = f" (the first is at line {one.line})" if one.line else ""
            raise SensorDataError(
                f"a second {kind} of {exposure:g} ns, {lit}{first}", "keep one of the two", path, line
            )


def read_folder(path: str | Path) -> Descriptor:
    """A measurement from file names (see the module). Raises SensorDataError where they make none."""
    path = Path(path)
    groups: dict[tuple[bool, bool, float, float | None], list[Path]] = {}
    others = []
    for file in sorted(path.rglob("*")):
        if file.suffix.lower() not in SUFFIXES:
            continue
        match = _FILE_NAME.fullmatch(file.stem)
        if match is None:
            others.append(file.name)
            continue
        dark = match["kind"].lower() == "dark"
        exposure = round(float(match["exposure"].replace(",", ".")) * _UNITS_NS[match["unit"].lower()], 6)
        photons = 0.0 if dark else float(match["photons"].replace(",", ".")) if match["photons"] else None
        groups.setdefault((dark, bool(match["series"]), exposure, photons), []).append(file)
    if not groups:
        raise SensorDataError(
            "holds no descriptor and no image that is named as a measurement's",
            "names are like bright_1500us_1.png and dark_1500us_1.png, see docs/sensor.md; "
            "`edge_vision sensor capture` makes both",
            path,
        )
    sets = []
    for (dark, series, exposure, photons), images in sorted(groups.items(), key=lambda one: (*one[0][:3], _rank(one))):
        if len(images) < 2 or (not series and len(images) > 2):
            wanted = "three or more" if series else "two"
            raise SensorDataError(
                f"{len(images)} images like {images[0].name}",
                f"{wanted} are needed; a longer series is named bright_series_... or dark_series_...",
                path,
            )
        sets.append(ImageSet(exposure, photons, tuple(images), dark, series))
    warnings = (f"{len(others)} other images are left out, such as {others[0]}",) if others else ()
    return Descriptor(path, tuple(sets), warnings=warnings)


def _rank(group: tuple[tuple[bool, bool, float, float | None], list[Path]]) -> float:
    photons = group[0][3]
    return -1.0 if photons is None else photons


def _looks_like_descriptor(path: Path) -> bool:
    try:
        with path.open(encoding="latin-1") as file:
            head = file.read(1 << 16)
    except OSError:
        return False
    keys = {line.split(maxsplit=1)[0] for line in head.splitlines() if line.strip() and line[0] != "#"}
    return "i" in keys and bool(keys & {"b", "d"})


def write_descriptor(
    path: str | Path,
    sets: Sequence[ImageSet],
    bits: int,
    width: int,
    height: int,
    information: Mapping[str, str] | None = None,
) -> None:
    """Writes a descriptor of the images, by paths relative to it where they lie beside or below. Raises OSError."""
    path = Path(path)
    lines = ["# EMVA 1288 data, written by edge_vision sensor capture", "v 4.0", f"n {bits} {width} {height}"]
    lines += [f"l {name} {value}" for name, value in (information or {}).items()]
    for one in sets:
        photons = "" if one.dark or one.photons is None else f" {one.photons:.10g}"
        lines.append(f"{'d' if one.dark else 'b'} {one.exposure_ns:.12g}{photons}")
        for image in one.images:
            below = image.is_relative_to(path.parent)
            lines.append(f"i {(image.relative_to(path.parent) if below else image).as_posix()}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
