"""How good is this camera's picture, told from the picture alone: one report a frame.

`analyse` looks at one image; `QualityAnalyser` looks at a stream, and so can tell what takes time: noise from two
frames of a still scene, frozen pictures, dirt that stays put, light that flickers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Frame, QualityReport
from edge_vision.quality.artefacts import blockiness_of, colour_cast_of
from edge_vision.quality.blur import blur_of
from edge_vision.quality.exposure import exposure_of, grey_histogram, zone_means
from edge_vision.quality.grey import Grey, grey_of, pyramid_of
from edge_vision.quality.noise import Blocks, Noise, blocks_of, channel_noise, noise_of, two_frame_noise
from edge_vision.quality.temporal import ChangeMeter
from edge_vision.quality.verdicts import Thresholds, judge

_LAPLACIAN_GAIN = 20.0  # 4^2 + 4 * 1^2: what the Laplacian makes of the variance of white noise
_STILL = 0.6  # share of the image that may move, for noise from two frames
_ZONE_PIXELS = 55_000  # whose means tell those of a larger image to 0.1 DN a halving
_LEAST_MOTION = 2.0  # px: a shorter length is the scene's


@dataclass(frozen=True)
class QualityParameters:
    """What `QualityAnalyser` can be told.

    bits: that values of uint16 images have in truth, None is 16. channels: whether to measure the noise of each channel
    of colour images as well, which takes a tenth of the time.
    """

    bits: int | None = None
    channels: bool = False
    thresholds: Thresholds = field(default_factory=Thresholds)


def analyse(image: NDArray, parameters: QualityParameters | None = None) -> QualityReport:
    """The report on one mono or BGR image, uint8 or uint16. Raises QualityError for anything else."""
    return QualityAnalyser(parameters).analyse(Frame(image))


class QualityAnalyser:
    """Reports on the frames of one camera, in their order. Not safe for use from two threads at once.

    A change of size or of the number of channels starts the comparison of frames anew.
    """

    def __init__(self, parameters: QualityParameters | None = None) -> None:
        self.parameters = parameters or QualityParameters()
        self._change = ChangeMeter()
        self._blocks: Blocks | None = None
        self._kind: tuple[object, ...] = ()

    def analyse(self, frame: Frame) -> QualityReport:
        """The report on the camera's next frame. Raises QualityError for an image that cannot be measured; the next
        frame is then taken as if that one had not come."""
        measured = grey_of(frame.image, self.parameters.bits)
        kind = (measured.source.shape, measured.source.dtype)
        if kind != self._kind:
            self._kind, self._blocks, self._change = kind, None, ChangeMeter()
        grey = measured.grey
        pyramid = pyramid_of(grey)
        exposure = exposure_of(grey_histogram(grey))
        # 16 bits of mono are measured as they are; colour has been through an 8-bit luma.
        fine = measured.bits > 8 and not measured.colour
        rounding = measured.scale**2 / 12 if fine else measured.rounding
        blocks = blocks_of(measured.source if fine else grey, measured.scale if fine else 1.0)
        single = noise_of(blocks, rounding, exposure.mean)
        change = self._change.update(pyramid, frame.stamp, _seen(single.sigma, measured))
        double = math.nan
        # Where most of the image moves there is nothing to be learned from two frames.
        if self._blocks is not None and not change.frozen_frames and change.moving_share < _STILL:
            double = two_frame_noise(blocks, self._blocks, rounding, exposure.mean)[0].sigma
        self._blocks = blocks
        noise = double if math.isfinite(double) else single.sigma
        seen = _seen(noise, measured)
        blur = blur_of(pyramid, 0.0 if math.isnan(seen) else seen)
        occluded = change.occluded_share
        limits = self.parameters.thresholds
        if exposure.p99 < limits.dark or exposure.contrast < limits.low_contrast or blur.sigma >= limits.blurred:
            # The whole picture is blank: nothing passes in it that a spot could be told by.
            self._change.forget_spots()
            occluded = math.nan
        cast = colour_cast_of(measured.source, measured.scale) if measured.colour else (math.nan,) * 3
        figures: dict[str, Any] = dict(  # noqa: C408
            width=frame.width,
            height=frame.height,
            channels=3 if measured.colour else 1,
            bits=measured.bits,
            noise_sigma=noise,
            noise_method="two_frame" if math.isfinite(double) else "single",
            noise_single=single.sigma,
            noise_two_frame=double,
            noise_channels=_channels(measured, blocks, noise, rounding) if self.parameters.channels else (),
            snr=20 * math.log10(max(exposure.mean, 1e-3) / noise) if noise > 0 else math.nan,
            dynamic_range=20 * math.log10(max(exposure.p999, 0.5) / (max(noise, 0.5) if noise > 0 else 0.5)),
            sharpness=_sharpness(grey, seen, exposure.rms_contrast),
            blur_sigma=blur.sigma,
            motion_length=blur.length,
            motion_angle=blur.angle if blur.length >= _LEAST_MOTION else math.nan,
            edges=blur.edges,
            mean=exposure.mean,
            median=exposure.median,
            p1=exposure.p1,
            p99=exposure.p99,
            rms_contrast=exposure.rms_contrast,
            contrast=exposure.contrast,
            clipped_dark=exposure.clipped_dark,
            clipped_bright=exposure.clipped_bright,
            entropy=exposure.entropy,
            zones=zone_means(next((level for level in pyramid if level.size <= _ZONE_PIXELS), pyramid[-1])),
            mean_sample_value=exposure.mean_sample_value,
            colour_cast=cast[0],
            cast_red=cast[1],
            cast_blue=cast[2],
            blockiness=blockiness_of(grey),
            missing_levels=exposure.missing_levels,
            frozen_frames=change.frozen_frames,
            frozen_s=change.frozen_s,
            moving_share=change.moving_share,
            occluded_share=occluded,
            flicker=change.flicker.amplitude,
            flicker_hz=change.flicker.hz,
            row_banding=change.flicker.stripes,
            stamp=frame.stamp,
            frame_id=frame.frame_id,
        )
        cause, verdicts = judge(SimpleNamespace(**figures), limits)
        return QualityReport(cause, verdicts, **figures)


def _seen(noise: float, measured: Grey) -> float:
    """Noise in DN of the rounded luma."""
    return math.sqrt(noise * noise + measured.rounding) if math.isfinite(noise) else math.nan


def _channels(measured: Grey, blocks: Blocks, noise: float, rounding: float) -> tuple[float, ...]:
    if not measured.colour:
        return (noise,)
    step = measured.scale**2 / 12
    return channel_noise(measured.source, blocks, Noise(noise, 0), measured.scale, (step, rounding))


def _sharpness(grey: NDArray[np.uint8], noise: float, spread: float) -> float:
    """Variance of the Laplacian over that of the image, both less the noise's share; NaN without contrast."""
    noise = 0.0 if math.isnan(noise) else noise * noise
    contrast = spread * spread - noise
    rows = _band(grey)
    if contrast < 1.0 or min(rows.shape) < 3:
        return math.nan
    answer = cv2.Laplacian(rows, cv2.CV_16S)[1:-1]
    variance = cv2.norm(answer, cv2.NORM_L2SQR) / answer.size
    return max(variance - _LAPLACIAN_GAIN * noise, 0.0) / contrast


def _band(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The middle rows of a large image."""
    height = min(grey.shape[0], max(64, 48_000 // max(grey.shape[1], 1)))
    top = (grey.shape[0] - height) // 2
    return grey[top : top + height]
