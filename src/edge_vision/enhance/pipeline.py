"""A frame made better where its figures say that something is wrong, and handed back as it is where nothing is.

In this order: brightness, denoising or sharpening (which denoises), undistortion. The noise is measured on the
picture as it came and follows the tone, so that a dark picture that was stretched is denoised for the noise that the
stretch made visible; undistortion comes last, since it makes noise and blur uneven.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.rectification import Rectifier
from edge_vision.datatypes import NS_PER_S, CameraInfo, Frame, QualityReport
from edge_vision.enhance import brightness, denoising
from edge_vision.enhance.brightness import Tone, ToneFollower, ToneTargets
from edge_vision.enhance.sharpening import LARGEST_BLUR, PointSpread, sharpen, unsharp
from edge_vision.enhance.spectrum import Spectrum, measure_spectrum
from edge_vision.quality.exposure import exposure_of, grey_histogram
from edge_vision.quality.grey import grey_of
from edge_vision.quality.no_reference import analyse

BRIGHTNESS = ("auto", "off", "gamma", "stretch", "clahe", "camera")
SHARPEN = ("wiener", "unsharp", "off")
DENOISE = ("guided", "bilateral", "nlm", "off")

_GAMMA_GOAL = 60.0  # DN, of the median


@dataclass(frozen=True)
class EnhanceParameters:
    """brightness: one of `BRIGHTNESS`; auto stretches or corrects by gamma where it is needed, gamma, stretch and
    clahe do that to every frame, camera and off nothing (the camera is the node's business). sharpen: of `SHARPEN`;
    denoise: of `DENOISE`. undistort: where the camera's calibration is known.

    least_blur: px, from which is sharpened; least_loss: DN², of the mean square that blur takes from the picture,
    from which is sharpened: a smooth picture loses little by blur, and more by what is invented (12 is a PSNR of 37.3
    dB). least_noise: DN, from which is denoised: below, the grain of the scene is as strong. motion: also take motion
    blur back, where the report has some; right for a camera that moves as a whole, wrong for a still one that sees
    things move. unsharp_amount: of unsharp masking.
    """

    brightness: str = "auto"
    sharpen: str = "wiener"
    denoise: str = "guided"
    undistort: bool = True
    least_blur: float = 0.75
    least_loss: float = 12.0
    least_noise: float = 4.0
    motion: bool = False
    unsharp_amount: float = 0.7
    tone: ToneTargets = field(default_factory=ToneTargets)

    def __post_init__(self) -> None:
        for name, known in (("brightness", BRIGHTNESS), ("sharpen", SHARPEN), ("denoise", DENOISE)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; there are {', '.join(known)}")
        for name in ("least_blur", "least_loss", "least_noise", "unsharp_amount"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}: give a number, 0 or more")


@dataclass(frozen=True, slots=True)
class Figures:
    """What sharpening and denoising go by, measured now and then. noise: DN of luma; channels: DN of each channel;
    blur: px; spread: what is to be taken back, None where nothing is."""

    noise: float
    channels: tuple[float, ...]
    spectrum: Spectrum
    spread: PointSpread | None


Stage = Callable[[str], AbstractContextManager]


def _untimed(_: str) -> AbstractContextManager:
    return nullcontext()


class Enhancer:
    """Enhances the frames of one camera in their order; see `EnhanceParameters`. One thread.

    Brightness is measured on every frame, the rest every ``seconds`` of header time. ``applied``: what was done to
    the last frame, such as ("stretch", "wiener").
    """

    def __init__(
        self, parameters: EnhanceParameters | None = None, *, seconds: float = 0.5, stage: Stage = _untimed
    ) -> None:
        self.parameters = parameters or EnhanceParameters()
        self.applied: tuple[str, ...] = ()
        self.figures: Figures | None = None
        self.exposure: QualityReport | None = None
        self._seconds = seconds
        self._stage = stage
        self._tones = ToneFollower(self.parameters.tone)
        self._measured: tuple[int, tuple[int, ...]] | None = None  # stamp and shape
        self._rectifier: Rectifier | None = None
        self._info: CameraInfo | None = None

    def set_camera(self, info: CameraInfo | None) -> None:
        """The camera's calibration, for undistortion. Raises ValueError for one that cannot be used."""
        if info is None or self._info is None or not _same_lens(info, self._info):
            self._rectifier = None if info is None else Rectifier(info)
        self._info = info

    @property
    def info(self) -> CameraInfo | None:
        """Of the enhanced images: without distortion where they are undistorted."""
        if self._rectifier is None or not self.parameters.undistort or self._info is None:
            return self._info
        return self._rectifier.info

    def enhance(self, frame: Frame, report: QualityReport | None = None) -> Frame:
        """The frame, better or itself. report: of this camera, the newest there is; None: measured here.

        16-bit images are undistorted only. Raises ValueError for an image that is neither mono nor BGR, and for one of
        another size than the calibration.
        """
        p, image = self.parameters, frame.image
        if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
            raise ValueError(f"an image of shape {image.shape} cannot be enhanced: give mono (H, W) or BGR (H, W, 3)")
        applied: list[str] = []
        if image.dtype == np.uint8 and image.size:
            image = self._better(frame, report, applied)
        if p.undistort and self._rectifier is not None and not self._rectifier.identity:
            with self._stage("undistort"):
                image = self._rectifier(image)
            applied.append("undistort")
        self.applied = tuple(applied)
        return frame if image is frame.image else replace(frame, image=image)

    def _better(self, frame: Frame, report: QualityReport | None, applied: list[str]) -> NDArray:
        p, image = self.parameters, frame.image
        with self._stage("measure"):
            grey = grey_of(image).grey
            exposure = exposure_of(grey_histogram(grey))
            self.exposure = seen = QualityReport(
                p1=exposure.p1,
                median=exposure.median,
                p99=exposure.p99,
                clipped_bright=exposure.clipped_bright,
                clipped_dark=exposure.clipped_dark,
                stamp=frame.stamp,
            )
            if p.sharpen != "off" or p.denoise != "off":
                self._measure(frame, grey, report)
        with self._stage("brightness"):
            tone = self._tone(seen)
            if tone is not None:
                image = brightness.apply_tone(image, tone)
                applied.append(tone.name)
            elif p.brightness == "clahe":
                image = brightness.equalised(image)
                applied.append("clahe")
        return self._cleaner(image, tone.gain if tone else 1.0, applied)

    def _tone(self, seen: QualityReport) -> Tone | None:
        p = self.parameters
        if p.brightness in ("off", "camera", "clahe"):
            return None
        if p.brightness == "gamma":
            return brightness.gamma_for(seen.median, _GAMMA_GOAL)
        return self._tones.update(seen, always=p.brightness == "stretch")

    def _cleaner(self, image: NDArray, gain: float, applied: list[str]) -> NDArray:
        p, figures = self.parameters, self.figures
        if figures is None or not math.isfinite(figures.noise):
            return image
        spectrum = replace(figures.spectrum, amplitude=figures.spectrum.amplitude * gain * gain)
        worth = figures.spread is not None and spectrum.loss(figures.spread.sigma) >= p.least_loss
        if figures.spread is not None and worth and p.sharpen != "off":
            with self._stage("sharpen"):
                # A stretch multiplies the steps of rounding as well, and they then are noise.
                noise = _toned(figures.noise, gain)
                if p.sharpen == "wiener":
                    image = sharpen(image, figures.spread, noise, spectrum)
                else:
                    image = unsharp(image, figures.spread.sigma, p.unsharp_amount, noise)
            applied.append(p.sharpen)
            if p.sharpen == "wiener":
                return image
        channels = tuple(_toned(sigma, gain) for sigma in figures.channels)
        if p.denoise != "off" and float(np.mean(channels)) >= p.least_noise:
            with self._stage("denoise"):
                image = denoising.denoise(image, channels, p.denoise)
            applied.append(p.denoise)
        return image

    def _measure(self, frame: Frame, grey: NDArray, report: QualityReport | None) -> None:
        """Brings `figures` up to date, where it is time to."""
        shape = frame.image.shape
        if self._measured is not None and self._measured[1] == shape:
            age = frame.stamp - self._measured[0]
            if 0 <= age < self._seconds * NS_PER_S:
                return
        elif self._measured is not None:
            self.figures = None
        self._measured = frame.stamp, shape
        if report is None or not math.isfinite(report.noise_sigma):
            report = analyse(frame.image)
        noise = report.noise_sigma
        channels = report.noise_channels
        if len(channels) != (1 if frame.image.ndim == 2 else 3) or not all(map(math.isfinite, channels)):
            channels = (noise,) if frame.image.ndim == 2 else (noise,) * 3
        spectrum = measure_spectrum(grey, noise) if self.parameters.sharpen != "off" else Spectrum()
        sharpening = self.figures is not None and self.figures.spread is not None
        spread = self._spread(report, spectrum, sharpening)
        self.figures = Figures(noise, channels, spectrum, spread)

    def _spread(self, report: QualityReport, spectrum: Spectrum, sharpening: bool) -> PointSpread | None:
        """What to take back: what spectrum and edges agree on. A scene that is smooth by itself has a spectrum like
        that of a blurred one, but sharp edges somewhere; soft edges alone may be shadows."""
        p = self.parameters
        sigma, edges, motion = spectrum.blur, report.blur_sigma, report.motion_length
        if not (math.isfinite(sigma) and math.isfinite(edges)) or report.edges == 0:
            return None
        if p.motion and math.isfinite(motion) and motion * motion > 12 * edges * edges and motion >= 3:
            return PointSpread(min(edges, LARGEST_BLUR), motion, report.motion_angle)
        across = math.hypot(edges, motion / math.sqrt(12)) if math.isfinite(motion) else edges
        sigma = min(sigma, _EDGES_AT_MOST * across, LARGEST_BLUR)
        return PointSpread(sigma) if sigma >= p.least_blur * (0.9 if sharpening else 1.0) else None


_EDGES_AT_MOST = 1.3  # spectral over edge blur: above, the spectrum is the scene's


def enhance(frame: Frame, report: QualityReport | None = None, parameters: EnhanceParameters | None = None) -> Frame:
    """One frame by itself; see `Enhancer`, which has to be used for streams. No undistortion: no camera is known."""
    return Enhancer(parameters).enhance(frame, report)


def _toned(sigma: float, gain: float) -> float:
    """Noise (DN, rounding not counted) behind a tone curve of that slope."""
    return math.sqrt(sigma * sigma + (1 / 12 if gain > 1.5 else 0.0)) * gain


def _same_lens(a: CameraInfo, b: CameraInfo) -> bool:
    return (a.width, a.height, a.distortion_model) == (b.width, b.height, b.distortion_model) and all(
        np.array_equal(x, y) for x, y in ((a.K, b.K), (a.D, b.D), (a.R, b.R), (a.P, b.P))
    )
