"""How good is this camera's picture, told from the picture alone: one report a frame.

`analyse` looks at one image; `QualityAnalyser` looks at a stream, and so can tell what takes time: noise from two
frames of a still scene, frozen pictures, dirt that stays put, light that flickers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Frame, QualityReport
from edge_vision.quality.exposure import exposure_of, grey_histogram, zone_means
from edge_vision.quality.grey import grey_of
from edge_vision.quality.noise import blocks_of, noise_of


@dataclass(frozen=True)
class QualityParameters:
    """What `QualityAnalyser` can be told. bits: of uint16 images, None is 16."""

    bits: int | None = None


def analyse(image: NDArray, parameters: QualityParameters | None = None) -> QualityReport:
    """The report on one mono or BGR image, uint8 or uint16. Raises QualityError for anything else."""
    return QualityAnalyser(parameters).analyse(Frame(image))


class QualityAnalyser:
    """Reports on the frames of one camera, in their order. Not safe for use from two threads at once."""

    def __init__(self, parameters: QualityParameters | None = None) -> None:
        self.parameters = parameters or QualityParameters()

    def analyse(self, frame: Frame) -> QualityReport:
        """The report on the camera's next frame. Raises QualityError for an image that cannot be measured; the next
        frame is then taken as if that one had not come."""
        measured = grey_of(frame.image, self.parameters.bits)
        exposure = exposure_of(grey_histogram(measured.grey))
        noise = noise_of(blocks_of(measured.grey), measured.rounding, exposure.mean)
        height, width = measured.grey.shape
        floor = max(noise.sigma, 0.5) if math.isfinite(noise.sigma) else 0.5
        return QualityReport(
            width=width,
            height=height,
            channels=3 if measured.colour else 1,
            bits=measured.bits,
            noise_sigma=noise.sigma,
            noise_single=noise.sigma,
            snr=20 * math.log10(max(exposure.mean, 1e-3) / noise.sigma) if noise.sigma > 0 else math.nan,
            dynamic_range=20 * math.log10(max(exposure.p999, 0.5) / floor),
            mean=exposure.mean,
            median=exposure.median,
            p1=exposure.p1,
            p99=exposure.p99,
            rms_contrast=exposure.rms_contrast,
            contrast=exposure.contrast,
            clipped_dark=exposure.clipped_dark,
            clipped_bright=exposure.clipped_bright,
            entropy=exposure.entropy,
            zones=np.asarray(zone_means(measured.grey)),
            mean_sample_value=exposure.mean_sample_value,
            missing_levels=exposure.missing_levels,
            stamp=frame.stamp,
            frame_id=frame.frame_id,
        )
