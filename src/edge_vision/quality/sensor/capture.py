"""Taking the images of a measurement: an exposure sweep to saturation, series at its half, and the same in the dark.

Knows a camera only as something with an exposure time and frames (`Camera`); `edge_vision.ros.sensor_capture` is one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.quality.sensor.descriptor import ImageSet, write_descriptor
from edge_vision.quality.sensor.errors import SensorDataError
from edge_vision.quality.sensor.measurement import SensorOptions
from edge_vision.quality.sensor.photon_transfer import photons, saturation_index
from edge_vision.quality.sensor.statistics import pair_statistics

DESCRIPTOR = "descriptor.txt"
Progress = Callable[[int, int, str], None]

_BEYOND = 1.12
"""How far the sweep goes on past saturation, that its place is seen."""

_FLAT_GROWTH = 1.05
"""Twice the exposure that raises the mean by less has reached the end of the signal."""


class Camera(Protocol):
    """A camera before an even light, with everything automatic switched off but what it is told here."""

    def expose(self, seconds: float) -> None:
        """Sets the exposure time. Raises SensorDataError where it is refused."""

    def frames(self, count: int) -> Sequence[NDArray]:
        """The next frames wholly taken with the exposure that was set: (H, W) or (H, W, 3), uint8 or uint16."""


@dataclass(frozen=True, slots=True)
class CapturePlan:
    """steps: up to saturation (some more follow). series: frames of the spatial series. unit: s, what exposures are
    whole multiples of (V4L2: 100 µs). first, longest: s, where the search of saturation begins and where it gives up.
    """

    steps: int = 50
    series: int = 50
    unit: float = 1e-4
    first: float = 1e-3
    longest: float = 2.0
    options: SensorOptions = field(default_factory=SensorOptions)

    def __post_init__(self) -> None:
        if self.steps < 5 or self.series < 3:
            raise SensorDataError(
                f"{self.steps} steps and series of {self.series}", "at least 5 steps and series of 3 make a measurement"
            )
        if not (0 < self.unit <= self.first <= self.longest):
            raise SensorDataError(
                f"exposures in units of {self.unit:g} s, from {self.first:g} s to {self.longest:g} s",
                "each must be more than 0 and not more than the next",
            )


def capture(
    camera: Camera,
    folder: str | Path,
    plan: CapturePlan,
    cover: Callable[[bool], None],
    information: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Takes the images into ``folder`` (made; it must be empty) and writes their descriptor, whose path it returns.

    cover(True): called when everything bright is taken; returns when no light falls on the sensor. cover(False): the
    light may come back. progress(frames, total, what): so many more frames are kept, of a total (0: not known
    yet).

    Raises SensorDataError where the light is too weak or too strong, or the dark is not dark.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise SensorDataError("the folder holds files already", "name a new one with --output", folder)
    folder.mkdir(parents=True, exist_ok=True)
    run = _Run(camera, folder, plan, progress)
    run.tell(0, "looking for saturation")
    exposures = run.find_exposures()
    bright = run.sweep(exposures, "bright")
    half = run.half_of_saturation(exposures)
    bright.append(run.series(half, "bright"))
    cover(True)
    try:
        run.check_dark(exposures[-1])
        dark = run.sweep(exposures, "dark")
        dark.append(run.series(half, "dark"))
    finally:
        cover(False)
    path = folder / DESCRIPTOR
    write_descriptor(path, [*bright, *dark], run.bits, run.width, run.height, information)
    return path


@dataclass(frozen=True, slots=True)
class _Look:
    exposure: float
    mean: float
    variance: float


class _Run:
    def __init__(self, camera: Camera, folder: Path, plan: CapturePlan, progress: Progress | None) -> None:
        self.camera, self.folder, self.plan, self._progress = camera, folder, plan, progress
        self.total = 0
        self.bits = self.width = self.height = 0
        self.means: list[float] = []
        self.variances: list[float] = []
        self.dark_level = 0.0

    def find_exposures(self) -> list[float]:
        """Equal steps up to a little beyond saturation, in s, multiples of the plan's unit."""
        plan = self.plan
        seen = [self._look(self._rounded(plan.unit))]
        seen.append(self._look(max(self._rounded(plan.first), 2 * plan.unit)))
        # Doubled up to where the mean stays: there the variance has collapsed, too, or it is not saturation.
        while not (seen[-1].mean < _FLAT_GROWTH * seen[-2].mean and seen[-1].mean > 1.3 * seen[0].mean):
            exposure = self._rounded(2 * seen[-1].exposure)
            if exposure > plan.longest:
                raise self._no_saturation(seen)
            seen.append(self._look(exposure))
        end = seen[-1].mean
        if seen[-1].variance >= 0.5 * max(look.variance for look in seen):
            raise SensorDataError(
                f"the mean stays at {end:.4g} from {seen[-2].exposure * 1e3:g} ms on, but that is not saturation",
                "the camera does not take these exposures: switch its automatic off and lower its frame rate, or give "
                "more light",
            )
        below: list[_Look] = []  # two exposures well within the linear range
        exposure = seen[-1].exposure
        while len(below) < 2:
            exposure, longer = self._rounded(exposure / 2), exposure
            if exposure >= longer:
                raise SensorDataError(
                    f"an exposure of {exposure * 1e3:g} ms is too near to saturation",
                    "give less light, or name the camera's finer unit with --exposure-unit-us",
                )
            look = self._look(exposure)
            if look.mean < 0.6 * end:
                below.insert(0, look)
        low, high = below
        slope = (high.mean - low.mean) / (high.exposure - low.exposure)
        self.dark_level = max(0.0, low.mean - slope * low.exposure)
        full = (end - self.dark_level) / slope
        step = math.floor(full / plan.steps / plan.unit + 1e-6) * plan.unit
        if step < plan.unit:
            raise SensorDataError(
                f"saturation comes at {full * 1e3:.3g} ms, too soon for {plan.steps} steps of {plan.unit * 1e6:g} µs",
                "give less light, less --gain or fewer --steps, or name the camera's finer unit with "
                "--exposure-unit-us",
            )
        count = math.ceil(full * _BEYOND / step)
        self.total = 4 * count + 2 * plan.series
        return [step * number for number in range(1, count + 1)]

    def _no_saturation(self, seen: Sequence[_Look]) -> SensorDataError:
        if seen[-1].mean < 1.3 * seen[0].mean:
            return SensorDataError(
                f"the mean is {seen[-1].mean:.4g} at any exposure",
                "there is no light, or too much for the shortest exposure, or the camera ignores its exposure",
            )
        return SensorDataError(
            f"the mean still grows at {seen[-1].exposure * 1e3:g} ms (to {seen[-1].mean:.4g})",
            "give more light, or a larger --max-exposure-ms",
        )

    def tell(self, frames: int, what: str) -> None:
        if self._progress is not None:
            self._progress(frames, self.total, what)

    def sweep(self, exposures: Sequence[float], kind: str) -> list[ImageSet]:
        """Two frames of every exposure."""
        sets = []
        for exposure in exposures:
            self.camera.expose(exposure)
            frames = self._frames(2)
            if kind == "bright":
                pair = pair_statistics(_one_channel(frames[0]), _one_channel(frames[1]))
                self.means.append(pair.mean)
                self.variances.append(pair.variance)
            sets.append(self._kept(frames, exposure, kind, series=False))
            self.tell(2, f"{kind} {exposure * 1e3:.3g} ms")
        return sets

    def half_of_saturation(self, exposures: Sequence[float]) -> float:
        """The exposure at which the signal is half of that at saturation, in s."""
        place = saturation_index(np.array(self.variances))
        half = (self.means[place] + self.dark_level) / 2
        return self._rounded(float(np.interp(half, self.means[: place + 1], exposures[: place + 1])))

    def series(self, exposure: float, kind: str) -> ImageSet:
        self.camera.expose(exposure)
        images: list[Path] = []
        while len(images) < self.plan.series:
            frames = self._frames(min(10, self.plan.series - len(images)))
            images += [
                self._write(frame, exposure, f"{kind}_series", len(images) + n) for n, frame in enumerate(frames)
            ]
            self.tell(len(frames), f"{kind} series")
        return ImageSet(exposure * 1e9, self._photons(exposure, kind), tuple(images), kind == "dark", True)

    def check_dark(self, exposure: float) -> None:
        """Raises SensorDataError where at the longest exposure the covered camera still sees light."""
        mean = self._look(exposure).mean
        share = (mean - self.dark_level) / max(1e-9, max(self.means) - self.dark_level)
        if share > 0.1:
            raise SensorDataError(
                f"it is not dark: the covered camera still has {share:.0%} of its range", "cover the sensor, try again"
            )

    def _look(self, exposure: float) -> _Look:
        self.camera.expose(exposure)
        first, second = self._frames(2)
        pair = pair_statistics(_one_channel(first), _one_channel(second))
        return _Look(exposure, pair.mean, pair.variance)

    def _frames(self, count: int) -> Sequence[NDArray]:
        frames = self.camera.frames(count)
        for frame in frames:
            if frame.dtype not in (np.uint8, np.uint16):
                raise SensorDataError(f"frames of {frame.dtype}", "images of 8 or 16 bits are measured")
            if self.width and frame.shape[:2] != (self.height, self.width):
                raise SensorDataError(f"the frames changed from {self.width}x{self.height}", "keep one size")
            self.height, self.width = frame.shape[:2]
            most = int(frame.max())
            # At the end of the signal the largest value tells the bits of wide frames.
            self.bits = 8 if frame.dtype == np.uint8 else max(self.bits, 9, most.bit_length())
        return frames

    def _kept(self, frames: Sequence[NDArray], exposure: float, kind: str, series: bool) -> ImageSet:
        images = tuple(self._write(frame, exposure, kind, number) for number, frame in enumerate(frames))
        return ImageSet(exposure * 1e9, self._photons(exposure, kind), images, kind == "dark", series)

    def _write(self, frame: NDArray, exposure: float, kind: str, number: int) -> Path:
        path = self.folder / f"{kind}_{exposure * 1e6:.10g}us_{number:03d}.png"
        # PNG's fastest level: the sweep must not wait for the disk.
        if not cv2.imwrite(str(path), frame, (cv2.IMWRITE_PNG_COMPRESSION, 1)):
            raise SensorDataError(f"{path} cannot be written", "check the folder's space and permissions")
        return path

    def _photons(self, exposure: float, kind: str) -> float | None:
        o = self.plan.options
        if kind == "dark":
            return 0.0
        if o.irradiance is None or o.pixel_pitch is None or o.wavelength is None:
            return None
        return float(photons(exposure, o.pixel_pitch**2, o.wavelength, o.irradiance))

    def _rounded(self, exposure: float) -> float:
        unit = self.plan.unit
        return max(1, round(exposure / unit)) * unit


def _one_channel(frame: NDArray) -> NDArray:
    """Green of a colour frame, else the frame."""
    return frame if frame.ndim == 2 else np.ascontiguousarray(frame[..., 1])
