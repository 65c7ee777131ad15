"""The grey image that the no-reference figures are measured on, and what is known about its values.

Luma is 0.299 R + 0.587 G + 0.114 B (Rec. ITU-R BT.601-7; OpenCV's ``COLOR_BGR2GRAY``) of the values as they are,
without linearising; a mono image is its own luma. Figures are in DN of an 8-bit scale: 16-bit images are scaled by 255
/ (2^bits - 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.quality.errors import QualityError

LUMA_BGR = (0.114, 0.587, 0.299)
_LUMA_ROUNDING = (1 + sum(w * w for w in LUMA_BGR)) / 12  # that of the three channels, and that of their sum


@dataclass(frozen=True, slots=True)
class Grey:
    """An image made ready to be measured.

    grey (H, W) uint8: luma, rounded. source: the image itself, (H, W) or (H, W, 3), uint8 or uint16. scale: DN of
    the 8-bit scale in one step of ``source``. rounding: variance in DN² that rounding added to ``grey``.
    """

    grey: NDArray[np.uint8]
    source: NDArray
    scale: float
    bits: int
    rounding: float

    @property
    def colour(self) -> bool:
        return self.source.ndim == 3


def grey_of(image: NDArray, bits: int | None = None) -> Grey:
    """The luma of a mono or BGR image, uint8 or uint16, of any size from 1x1.

    bits: how many bits of a uint16 image are used (10 or 12 in many cameras); None: all 16. Ignored for uint8.
    Raises QualityError for anything else: another shape, floats (NaN with them), an empty image.
    """
    if not isinstance(image, np.ndarray):
        raise QualityError(f"the image is a {type(image).__name__}", "give a NumPy array (frame.image of a Frame)")
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise QualityError(
            f"an image of shape {image.shape} is neither mono nor BGR", "pass (H, W), (H, W, 1) or (H, W, 3)"
        )
    if image.size == 0:
        raise QualityError(f"an image of shape {image.shape} has no pixels", "pass at least 1x1")
    if image.dtype == np.uint8:
        if image.ndim == 2:
            return Grey(image, image, 1.0, 8, 1 / 12)
        return Grey(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), image, 1.0, 8, _LUMA_ROUNDING)  # type: ignore[arg-type]
    if image.dtype != np.uint16:
        holes = np.issubdtype(image.dtype, np.floating) and not np.isfinite(image).all()
        raise QualityError(
            f"an image of {image.dtype}{' with NaN or infinite values' if holes else ''} cannot be measured",
            "pass uint8 or uint16 as the camera gives it; scale floats to 0..255, round and convert them",
        )
    bits = 16 if bits is None else bits
    if not 8 <= bits <= 16:
        raise QualityError(f"{bits} bits of a uint16 image", "bits must be 8 to 16")
    scale = 255.0 / (2**bits - 1)
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    eight = cv2.convertScaleAbs(grey, alpha=scale)
    return Grey(eight, image, scale, bits, (1 + scale * scale) / 12)  # type: ignore[arg-type]


def pyramid_of(grey: NDArray[np.uint8], least: int = 16) -> list[NDArray[np.uint8]]:
    """The image, and halved (means of 2x2, rounded; an odd last row or column is left out) while both sides stay at
    ``least`` px or more."""
    levels = [grey]
    while min(levels[-1].shape) >= 2 * least:
        levels.append(halved(levels[-1]))
    return levels


def halved(grey: NDArray) -> NDArray:
    """Means of 2x2 pixels of uint8. OpenCV has a fast way for exact halves, ten times that of other ratios."""
    height, width = grey.shape[0] // 2, grey.shape[1] // 2
    even = grey[: 2 * height, : 2 * width]
    return cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA)
