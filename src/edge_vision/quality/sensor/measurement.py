"""From a descriptor's images to the figures: reading, statistics, photon transfer, nonuniformity, protocol."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.quality.sensor.descriptor import Descriptor, ImageSet
from edge_vision.quality.sensor.errors import SensorDataError
from edge_vision.quality.sensor.photon_transfer import PhotonTransfer, photon_transfer, photons
from edge_vision.quality.sensor.protocol import Clause, clauses
from edge_vision.quality.sensor.spatial import Nonuniformity, nonuniformity
from edge_vision.quality.sensor.statistics import Pair, Stack, Temporal, pair_statistics, stack_statistics

CHANNELS = ("auto", "blue", "green", "red")
NO_SERIES = "no series of more than two images, dark and at 50 % of saturation"


@dataclass(frozen=True, slots=True)
class SensorOptions:
    """What images cannot tell. pixel_pitch: µm, of square pixels. wavelength: nm. irradiance: µW/cm² on the sensor.

    bits: of the values, where the descriptor does not say. channel: of colour images, one of `CHANNELS`; auto is green.
    """

    pixel_pitch: float | None = None
    wavelength: float | None = None
    irradiance: float | None = None
    bits: int | None = None
    channel: str = "auto"

    def __post_init__(self) -> None:
        for name in ("pixel_pitch", "wavelength", "irradiance"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise SensorDataError(f"{name.replace('_', ' ')} is {value:g}", "it must be more than 0")
        if self.bits is not None and not 1 <= self.bits <= 16:
            raise SensorDataError(f"{self.bits} bits", "images of 1 to 16 bits can be measured")
        if self.channel not in CHANNELS:
            raise SensorDataError(f"channel {self.channel!r}", f"known are {', '.join(CHANNELS)}")
        if self.irradiance is not None and (self.pixel_pitch is None or self.wavelength is None):
            missing = "pixel pitch" if self.pixel_pitch is None else "wavelength"
            raise SensorDataError(
                f"an irradiance without the {missing}", "photons a pixel follow from all three: give the other, too"
            )


@dataclass(frozen=True, slots=True)
class Images:
    """Statistics of all images of a measurement. colour: the channel, where images had colours.

    full_shares: of the bright steps, pixels at the largest value, 0..1. dark_series_exposure: s, as bright_.
    """

    bits: int
    width: int
    height: int
    temporal: Temporal
    dark: Stack | None = None
    bright: Stack | None = None
    dark_series_exposure: float | None = None
    bright_series_exposure: float | None = None
    full_shares: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    colour: str = ""


@dataclass(frozen=True, slots=True)
class SensorReport:
    """All that was found. nonuniformity: None with its reason in ``unknown``. photon_source: who counted photons."""

    name: str
    images: Images
    options: SensorOptions
    figures: PhotonTransfer
    nonuniformity: Nonuniformity | None
    clauses: tuple[Clause, ...]
    unknown: Mapping[str, str]
    photon_source: str
    information: Mapping[str, str]
    warnings: tuple[str, ...] = ()


def measure(
    descriptor: Descriptor, options: SensorOptions | None = None, progress: Callable[[int], object] | None = None
) -> SensorReport:
    """Reads the images and evaluates them. progress: called with the number of images read since the last call.

    Raises SensorDataError for images that cannot be read, do not fit together or cannot be evaluated.
    """
    options = options or SensorOptions()
    return evaluate(read_images(descriptor, options, progress), options, descriptor)


def evaluate(images: Images, options: SensorOptions, descriptor: Descriptor | None = None) -> SensorReport:
    """Figures of statistics that were read before."""
    figures = photon_transfer(images.temporal)
    unknown = dict(figures.unknown)
    found = None
    if images.dark is not None and images.bright is not None:
        found = nonuniformity(images.dark, images.bright, figures.system_gain)
        for kind, parts, limit, unit in (
            ("dsnu", found.dsnu, found.dsnu_limit, "e-"),
            ("prnu", found.prnu, found.prnu_limit, "%"),
        ):
            for part, value in parts.items():
                if value is None:
                    unknown[f"{kind}_{part}"] = f"below the measurement limit (about {limit:.2g} {unit} in total)"
    else:
        unknown["nonuniformity"] = NO_SERIES
    if images.temporal.photons is None:
        source = "unknown"
    elif options.irradiance is not None:
        source = f"irradiance of {options.irradiance:g} µW/cm² at {options.wavelength:g} nm"
    else:
        source = "descriptor"
    return SensorReport(
        name="/".join(descriptor.path.resolve().parts[-2:]) if descriptor else "",
        images=images,
        options=options,
        figures=figures,
        nonuniformity=found,
        clauses=clauses(images, figures, found),
        unknown=unknown,
        photon_source=source,
        information=descriptor.information if descriptor else {},
        warnings=descriptor.warnings if descriptor else (),
    )


def read_images(
    descriptor: Descriptor, options: SensorOptions | None = None, progress: Callable[[int], object] | None = None
) -> Images:
    """Statistics of a descriptor's images."""
    options = options or SensorOptions()
    bright, dark, series = _sorted_sets(descriptor)
    pool = ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1))
    try:
        reader = _Reader(descriptor, options, pool, progress)
        reader.look_at(bright[0])
        pairs = reader.pairs([*bright, *dark])
        stacks = {is_dark: reader.stack(one) for is_dark, one in series.items()}
    finally:
        pool.shutdown(cancel_futures=True)  # after an error or Ctrl-C the rest need not be read
    lit, unlit = pairs[: len(bright)], pairs[len(bright) :]
    return Images(
        bits=reader.bits,
        width=reader.width,
        height=reader.height,
        temporal=temporal_series(bright, lit, dark, unlit, options),
        dark=stacks.get(True),
        bright=stacks.get(False),
        dark_series_exposure=series[True].exposure_ns * 1e-9 if True in series else None,
        bright_series_exposure=series[False].exposure_ns * 1e-9 if False in series else None,
        full_shares=np.array([pair.full_share for pair in lit]),
        colour=reader.colour,
    )


def temporal_series(
    bright: Sequence[ImageSet],
    lit: Sequence[Pair],
    dark: Sequence[ImageSet],
    unlit: Sequence[Pair],
    options: SensorOptions | None = None,
) -> Temporal:
    """The photon transfer series of sets and their pairs' statistics; bright sorted by light, dark by exposure."""
    options = options or SensorOptions()
    exposure = np.array([one.exposure_ns * 1e-9 for one in bright])
    counts: NDArray[np.float64] | None = None
    if options.irradiance is not None and options.pixel_pitch is not None and options.wavelength is not None:
        counts = np.asarray(photons(exposure, options.pixel_pitch**2, options.wavelength, options.irradiance))
    elif all(one.photons is not None for one in bright):
        counts = np.array([one.photons for one in bright], np.float64)
    rows = {one.exposure_ns: place for place, one in enumerate(dark)}
    of_step = [rows[one.exposure_ns] for one in bright]
    dark_mean = np.array([pair.mean for pair in unlit])
    dark_variance = np.array([pair.variance for pair in unlit])
    return Temporal(
        exposure=exposure,
        photons=counts,
        mean=np.array([pair.mean for pair in lit]),
        variance=np.array([pair.variance for pair in lit]),
        dark_mean=dark_mean[of_step],
        dark_variance=dark_variance[of_step],
        dark_exposures=np.array([one.exposure_ns * 1e-9 for one in dark]),
        dark_means=dark_mean,
        dark_variances=dark_variance,
        dark_zero_share=max(pair.zero_share for pair in unlit),
    )


def _sorted_sets(descriptor: Descriptor) -> tuple[list[ImageSet], list[ImageSet], dict[bool, ImageSet]]:
    """Bright pairs by light, dark pairs by exposure, and the series by whether it is dark."""
    bright = [one for one in descriptor.sets if not one.spatial and not one.dark]
    dark = sorted((one for one in descriptor.sets if not one.spatial and one.dark), key=lambda one: one.exposure_ns)
    if not bright or not dark:
        kind = "bright" if not bright else "dark"
        raise SensorDataError(
            f"no {kind} pairs of images", "two bright and two dark images are needed at every exposure", descriptor.path
        )
    exposures = {one.exposure_ns for one in dark}
    for one in bright:
        if one.exposure_ns not in exposures:
            raise SensorDataError(
                f"no dark images of {one.exposure_ns:g} ns",
                "take two at every exposure that has bright ones",
                descriptor.path,
                one.line,
            )
    counted = [one.photons is not None for one in bright]
    if any(counted) and not all(counted):
        odd = bright[counted.index(False)]
        raise SensorDataError(
            f"the bright images of {odd.exposure_ns:g} ns have no photon count, others have",
            "give it for all or for none",
            descriptor.path,
            odd.line,
        )
    bright.sort(key=lambda one: (one.exposure_ns, one.photons or 0) if not all(counted) else (one.photons or 0,))
    series: dict[bool, ImageSet] = {}
    for one in descriptor.sets:
        if one.spatial and one.dark in series:
            kind = "dark" if one.dark else "bright"
            raise SensorDataError(
                f"a second {kind} series of more than two images", "one is measured", descriptor.path, one.line
            )
        if one.spatial:
            series[one.dark] = one
    return bright, dark, series


class _Reader:
    """Reads images and holds them to what the first one and the descriptor say."""

    def __init__(
        self,
        descriptor: Descriptor,
        options: SensorOptions,
        pool: ThreadPoolExecutor,
        progress: Callable[[int], object] | None,
    ) -> None:
        self.descriptor = descriptor
        self.channel = "green" if options.channel == "auto" else options.channel
        self.bits = options.bits or descriptor.bits or 0
        self.width, self.height = descriptor.width or 0, descriptor.height or 0
        self.colour = ""
        self._pool = pool
        self._progress = progress or (lambda _count: None)

    def look_at(self, first: ImageSet) -> None:
        """Size and bits of the first image, where nobody said them."""
        image = _decode(first.images[0], first.line, self.descriptor.path)
        if not self.bits:
            if image.dtype != np.uint8:
                raise SensorDataError(
                    "the bits of the values are not known", "give --bits, such as 12", self.descriptor.path
                )
            self.bits = 8
        if not self.width:
            self.height, self.width = image.shape[:2]
        if image.ndim == 3 and not _grey(image):
            self.colour = self.channel

    def pairs(self, sets: Sequence[ImageSet]) -> list[Pair]:
        return list(self._pool.map(self._pair, sets))

    def stack(self, one: ImageSet) -> Stack:
        return stack_statistics(self._series(one))

    def _pair(self, one: ImageSet) -> Pair:
        first, second = (self._read(image, one.line) for image in one.images)
        self._progress(2)
        return pair_statistics(first, second, self._largest)

    def _series(self, one: ImageSet) -> Iterator[NDArray]:
        batch = 8  # that many are in memory
        for start in range(0, len(one.images), batch):
            names = one.images[start : start + batch]
            for image in self._pool.map(lambda name: self._read(name, one.line), names):
                yield image
                self._progress(1)

    @property
    def _largest(self) -> int:
        return (1 << self.bits) - 1

    def _read(self, path: Path, line: int | None) -> NDArray:
        image = _decode(path, line, self.descriptor.path)
        if image.shape[:2] != (self.height, self.width):
            raise SensorDataError(
                f"{path.name} is {image.shape[1]}x{image.shape[0]}, not {self.width}x{self.height}",
                "all images are of one size, that of line n",
                self.descriptor.path,
                line,
            )
        if image.ndim == 3:
            image = np.ascontiguousarray(image[..., ("blue", "green", "red").index(self.channel)])
        if self.bits < 16 and (most := int(image.max())) > self._largest:
            raise SensorDataError(
                f"{path.name} has values up to {most}, more than {self.bits} bits hold",
                "give --bits 16 where the values are shifted up to the top of 16 bits; else correct the bits",
                self.descriptor.path,
                line,
            )
        return image


def _grey(image: NDArray) -> bool:
    return bool((image[..., :1] == image[..., 1:3]).all())


def _decode(path: Path, line: int | None, descriptor: Path) -> NDArray:
    try:
        data = np.fromfile(path, np.uint8)
    except FileNotFoundError:
        raise SensorDataError(
            f"no such image: {path}", "paths in a descriptor are relative to it", descriptor, line
        ) from None
    except OSError as error:
        raise SensorDataError(f"{path} cannot be read ({error.strerror})", "", descriptor, line) from error
    try:
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
    except cv2.error:
        image = None
    if image is None or image.dtype not in (np.uint8, np.uint16) or image.ndim not in (2, 3):
        raise SensorDataError(
            f"{path} is no image of 8 or 16 bits", f"images are {', '.join(SUFFIXES_READ)}", descriptor, line
        )
    return image


SUFFIXES_READ = ("PNG", "TIFF", "BMP", "PGM")
