"""What a conveyor scene can be asked to be, and how ``sim://`` URIs say it for every scene."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import parse_qsl, urlsplit

_WORDS = {"on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}


@dataclass(frozen=True)
class ConveyorOptions:
    """Options of the conveyor twin; the keys of its URI are these names. Units in docs/simulation.md.

    width, height: pixels. fps: frames a second. seed: everything random follows from it. frames: length, None is
    endless. density: share of the places on the belt that hold a part, 0..1. speed: mean belt speed in px/s of a
    480-line image. variation: how far the speed swings about its mean, 0..0.6. rotation: largest turning rate of a
    part in degrees/s. exposure: s. gain: factor on DN/e-. light: factor on the scene's illumination. noise: shot
    and read noise. read_noise: e-. blur: motion blur. distortion: factor on the lens' plumb_bob coefficients.
    shift: how far down the belt the camera is mounted, in pixels of a 480-line image: two cameras over one belt are
    two scenes of one seed and different shifts, in which a part has the same id.

    Raises ValueError naming the option where a value is out of its range.
    """

    width: int = 640
    height: int = 480
    fps: float = 30.0
    seed: int = 0
    frames: int | None = None
    density: float = 0.5
    speed: float = 140.0
    variation: float = 0.3
    rotation: float = 12.0
    exposure: float = 0.004
    gain: float = 1.0
    light: float = 1.0
    noise: bool = True
    read_noise: float = 8.0
    blur: bool = True
    distortion: float = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        ranges: dict[str, tuple[float, float]] = {
            "width": (32, 16384),
            "height": (32, 16384),
            "fps": (0.01, 10_000),
            "seed": (0, 2**63 - 1),
            "frames": (1, 2**62),
            "density": (0, 1),
            "speed": (0, 100_000),
            "variation": (0, 0.6),
            "rotation": (0, 3600),
            "exposure": (1e-7, 1),
            "gain": (1e-3, 1e3),
            "light": (0, 1e3),
            "read_noise": (0, 1e4),
            "distortion": (-1, 2),
            "shift": (-100_000, 100_000),
        }
        check_ranges("conveyor", self, ranges)
        if self.width > 4 * self.height:
            raise ValueError(f"conveyor image of {self.width}x{self.height}: at most four times as wide as high")

    @classmethod
    def from_uri(cls, uri: str) -> ConveyorOptions:
        """Options from ``sim://conveyor?key=value&...``; what is not named keeps its default.

        Raises ValueError for another scheme or scene, an unknown key or a value that cannot be read.
        """
        return cls(**read_options(uri, "conveyor", cls))


def scene_of(uri: str) -> str:
    """The scene that a ``sim://scene?key=value`` names."""
    parts = urlsplit(uri)
    return parts.netloc or parts.path.strip("/")


def named_options(uri: str) -> dict[str, str]:
    """The options of a ``sim://`` URI as they are written there."""
    return dict(parse_qsl(urlsplit(uri).query, keep_blank_values=True))


def read_options(uri: str, scene: str, options: type) -> dict[str, Any]:
    """The fields of a scene's dataclass of options that a URI gives.

    Raises ValueError for another scheme or scene, an unknown key or a value that cannot be read.
    """
    if urlsplit(uri).scheme != "sim" or scene_of(uri) != scene:
        raise ValueError(f"'{uri}' is not this scene of the twin: expected sim://{scene}?key=value&...")
    kinds = {field.name: str(field.type) for field in fields(options)}
    values = {}
    for key, text in named_options(uri).items():
        if key not in kinds:
            raise ValueError(f"unknown option '{key}' in '{uri}'; known are: {', '.join(kinds)}")
        values[key] = _read_value(key, text, kinds[key], uri)
    return values


def check_ranges(scene: str, options: object, ranges: dict[str, tuple[float, float]]) -> None:
    """Raises ValueError naming the first option of a scene that is not within its range; None is within all."""
    for name, (low, high) in ranges.items():
        value = getattr(options, name)
        if value is not None and not low <= value <= high:
            raise ValueError(f"{scene} option '{name}' is {value}: it must be in {low:g} .. {high:g}")


def _read_value(key: str, text: str, kind: str, uri: str) -> int | float | bool | str | None:
    kind, _, rest = kind.partition(" | ")
    try:
        if rest and text.lower() in ("none", ""):
            return None
        return _WORDS[text.lower()] if kind == "bool" else {"float": float, "int": int, "str": str}[kind](text)
    except (KeyError, ValueError):
        wanted = {"bool": "on or off", "float": "a number"}.get(kind, "a whole number")
        raise ValueError(f"option '{key}' in '{uri}' is '{text}': expected {wanted}") from None
