"""Two images made comparable: their luma and range of values, or an error that says why they cannot be compared."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.quality.errors import QualityError

BITS = (8, 10, 12, 14, 16)
LUMA_WEIGHTS = (0.299, 0.587, 0.114)  # of R, G, B: Rec. ITU-R BT.601-7, 2.5.1
_CONTAINERS = {np.dtype(np.uint8): 8, np.dtype(np.uint16): 16}


class ComparisonError(QualityError):
    """An image cannot be measured, or not against this reference."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images of one shape and type, and the difference between the largest and the smallest value they can have."""

    image: NDArray
    reference: NDArray
    data_range: float


def luma(image: NDArray) -> NDArray:
    """(H, W) of the image's type: mono as it is (no copy), BGR as 0.299 R + 0.587 G + 0.114 B (BT.601), rounded.

    image: (H, W), (H, W, 1) or (H, W, 3) BGR; uint8, uint16, float32 or float64. Raises ComparisonError otherwise.
    """
    _check(image, "the image")
    if image.ndim == 2:
        return image
    if image.shape[2] == 1:
        return image[:, :, 0]
    if image.dtype == np.float64:  # which cvtColor does not take
        return image @ np.array(LUMA_WEIGHTS[::-1])
    return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)


def pair(
    image: NDArray,
    reference: NDArray,
    *,
    bits: int | None = None,
    data_range: float | None = None,
    colour: bool = False,
) -> Pair:
    """Both images as they can be compared: luma, or with `colour` all channels.

    bits: 8, 10, 12, 14 or 16 that values of uint16 have in truth (12-bit cameras send them in 16); default all of the
    type. data_range: in its place, any number; floating-point images must have it, since theirs cannot be guessed.
    Raises ComparisonError where sizes, types or numbers of channels differ, and for NaN, infinite or too large values.
    """
    _check(image, "the image")
    _check(reference, "the reference")
    if image.shape[:2] != reference.shape[:2]:
        raise ComparisonError(
            f"the image is {_size(image)} and the reference {_size(reference)}",
            "give a reference of the same camera mode, or crop or resize one of them",
        )
    if image.dtype != reference.dtype:
        raise ComparisonError(
            f"the image is of {image.dtype} and the reference of {reference.dtype}",
            "take both in one encoding (8 bit against 16 bit has no common scale)",
        )
    if _channels(image) != _channels(reference):
        raise ComparisonError(
            f"the image has {_channels(image)} channel(s) and the reference {_channels(reference)}: encodings differ",
            "take both in one encoding, or compare edge_vision.quality.pair.luma of each",
        )
    span = _data_range(image.dtype, bits, data_range)
    if bits is not None and image.dtype == np.uint16:
        largest = max(int(image.max()), int(reference.max()))
        if largest > span:
            raise ComparisonError(f"a value of {largest} does not fit {bits} bits", "give the bit depth of the camera")
    if colour:
        return Pair(image, reference, span)
    return Pair(luma(image), luma(reference), span)


def _check(image: NDArray, which: str) -> None:
    if not isinstance(image, np.ndarray):
        raise ComparisonError(f"{which} is a {type(image).__name__}", "give a NumPy array (frame.image of a Frame)")
    if image.ndim not in (2, 3) or _channels(image) not in (1, 3):
        raise ComparisonError(
            f"{which} has the shape {image.shape}", "give mono (H, W) or BGR (H, W, 3); drop an alpha channel"
        )
    if image.dtype not in _CONTAINERS and image.dtype not in (np.float32, np.float64):
        raise ComparisonError(f"{which} is of {image.dtype}", "give uint8, uint16, float32 or float64")
    if image.size == 0:
        raise ComparisonError(f"{which} is empty, {_size(image)}", "give one with at least one pixel")
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise ComparisonError(f"{which} has NaN or infinite values", "replace them, or mask their rows out")


def _data_range(dtype: np.dtype, bits: int | None, data_range: float | None) -> float:
    if data_range is not None:
        if bits is not None:
            raise ComparisonError("both bits and data_range are given", "give one of them")
        if not 0 < data_range < float("inf"):
            raise ComparisonError(f"data_range is {data_range}", "give a number above 0")
        return float(data_range)
    container = _CONTAINERS.get(dtype)
    if container is None:
        raise ComparisonError(
            f"the range of values of {dtype} images is not known", "give data_range, 1.0 for values of 0 to 1"
        )
    if bits is None:
        return float(2**container - 1)
    if bits not in BITS or bits > container:
        known = ", ".join(str(b) for b in BITS if b <= container)
        raise ComparisonError(f"{bits} is no bit depth of {dtype} images", f"give one of {known}")
    return float(2**bits - 1)


def _channels(image: NDArray) -> int:
    return 1 if image.ndim == 2 else image.shape[2]


def _size(image: NDArray) -> str:
    return f"{image.shape[1]} x {image.shape[0]} pixels"
