"""The twin's camera before an even light, for sensor measurement (EMVA 1288): ``sim://flat?bits=12&prnu=0.5``.

The sensor is that of `edge_vision.simulation.camera`, with what an even scene can show besides::

    electrons = light * electrons_per_second * exposure * (1 + prnu p) + dsnu d + dark_current * exposure

p and d are patterns of the seed with mean 0 and variance 1 over the image, the same in all frames. At 8 bits the frames
come from `camera.expose` itself; above, the converter has finer steps over the same range of charge: K and the black
level grow by (2^bits - 1) / 255.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import NS_PER_S, Frame
from edge_vision.simulation.camera import Sensor, expose, noise_generator, standard_noise
from edge_vision.simulation.options import check_ranges, read_options

FRAME_ID = "camera_optical_frame"
BITS = (8, 10, 12, 14, 16)


@dataclass(frozen=True)
class FlatFieldOptions:
    """Options of the even scene; the keys of its URI are these names.

    width, height: pixels. fps, seed, frames: as of the conveyor. exposure: s. gain: factor on DN/e-. light: factor on
    the scene's white. bits: of the values, above 8 in 16-bit frames. read_noise, full_well: e-. dark_current: e-/s.
    dsnu: e-. prnu: %. covered: the cap is on. cap: a file; while it is there the cap is on.

    Raises ValueError naming the option where a value is out of its range.
    """

    width: int = 320
    height: int = 240
    fps: float = 30.0
    seed: int = 0
    frames: int | None = None
    exposure: float = 0.002
    gain: float = 1.0
    light: float = 1.0
    bits: int = 8
    read_noise: float = 8.0
    full_well: float = 10_500.0
    dark_current: float = 0.0
    dsnu: float = 0.0
    prnu: float = 0.0
    covered: bool = False
    cap: str = ""

    def __post_init__(self) -> None:
        ranges: dict[str, tuple[float, float]] = {
            "width": (4, 16384),
            "height": (4, 16384),
            "fps": (0.01, 10_000),
            "seed": (0, 2**63 - 1),
            "frames": (1, 2**62),
            "exposure": (1e-7, 1000),
            "gain": (1e-3, 1e3),
            "light": (0, 1e3),
            "read_noise": (0, 1e4),
            "full_well": (1, 1e9),
            "dark_current": (0, 1e9),
            "dsnu": (0, 1e6),
            "prnu": (0, 30),
        }
        check_ranges("flat", self, ranges)
        if self.bits not in BITS:
            raise ValueError(f"flat option 'bits' is {self.bits}: it must be one of {', '.join(map(str, BITS))}")

    @classmethod
    def from_uri(cls, uri: str) -> FlatFieldOptions:
        """Options from ``sim://flat?key=value&...``; what is not named keeps its default.

        Raises ValueError for another scheme or scene, an unknown key or a value that cannot be read.
        """
        return cls(**read_options(uri, "flat", cls))

    @property
    def sensor(self) -> Sensor:
        """The sensor with its converter: K in DN/e- and the black level in DN of ``bits``."""
        base = Sensor(self.exposure, self.gain, read_noise=self.read_noise, full_well=self.full_well)
        if self.bits == 8:
            return base
        finer = ((1 << self.bits) - 1) / 255
        return replace(base, conversion=base.conversion * finer, black_level=base.black_level * finer)


class FlatField:
    """The even scene of some options. Frames depend on options and index alone; not for two threads at once."""

    def __init__(self, options: FlatFieldOptions | None = None) -> None:
        self.options = o = options or FlatFieldOptions()
        self._dsnu = _pattern((o.height, o.width), (o.seed, 11)) * np.float32(o.dsnu) if o.dsnu else np.float32(0)
        self._prnu = _pattern((o.height, o.width), (o.seed, 12)) * np.float32(o.prnu / 100) if o.prnu else np.float32(0)

    @property
    def covered(self) -> bool:
        """Whether the cap is on now."""
        return self.options.covered or bool(self.options.cap and os.path.exists(self.options.cap))

    def set_sensor(self, exposure: float | None = None, gain: float | None = None) -> None:
        """Of the frames from now on. Raises ValueError out of range."""
        changes = {name: value for name, value in (("exposure", exposure), ("gain", gain)) if value is not None}
        self.options = replace(self.options, **changes)  # type: ignore[arg-type]

    def stamp(self, index: int, start_stamp: int = 0) -> int:
        """Header time of a frame in ns."""
        return start_stamp + round(index * NS_PER_S / self.options.fps)

    def render(self, index: int, start_stamp: int = 0) -> Frame:
        """Frame ``index``: mono8, above 8 bits mono16 with values in the low bits."""
        image = self.image(index, self.covered)
        encoding = "mono8" if image.dtype == np.uint8 else "mono16"
        return Frame(image, self.stamp(index, start_stamp), FRAME_ID, index, encoding)

    def image(self, index: int, covered: bool = False) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """The image of frame ``index``, (height, width)."""
        o, sensor = self.options, self.options.sensor
        light = 0.0 if covered else o.light
        extra = (self._dsnu + np.float32(o.dark_current * o.exposure)) / np.float32(sensor.electrons_at_white)
        radiance = np.empty((o.height, o.width), np.float32)
        np.multiply(self._prnu, np.float32(light), out=radiance)
        radiance += np.float32(light)
        radiance += extra
        key = (o.seed, 13, index, covered, round(o.exposure * NS_PER_S))
        return expose(radiance, sensor, key) if o.bits == 8 else _expose_wide(radiance, sensor, o.bits, key)


def _pattern(shape: tuple[int, int], key: tuple[int, ...]) -> NDArray[np.float32]:
    """A fixed pattern of mean 0 and variance 1 (ddof 1, as EMVA's s²)."""
    z = np.random.default_rng(key).normal(size=shape)
    return ((z - z.mean()) / z.std(ddof=1)).astype(np.float32)


def _expose_wide(radiance: NDArray[np.float32], sensor: Sensor, bits: int, key: tuple[int, ...]) -> NDArray[np.uint16]:
    """As `camera.expose`, with values of up to 16 bits."""
    mean = radiance * np.float32(sensor.K * sensor.electrons_at_white)
    sigma = np.sqrt(np.maximum(mean * np.float32(sensor.K) + np.float32((sensor.K * sensor.read_noise) ** 2), 0))
    cv2.accumulateProduct(sigma, standard_noise(mean.shape, noise_generator(key)), mean)
    mean += np.float32(sensor.black_level)
    most = min((1 << bits) - 1, sensor.black_level + sensor.K * sensor.full_well)
    return np.rint(np.clip(mean, 0, most)).astype(np.uint16)
