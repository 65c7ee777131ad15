"""Any image as 8-bit BGR, for people to look at."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def to_bgr8(image: NDArray, out: NDArray | None = None, bits: int = 8) -> tuple[NDArray[np.uint8], int]:
    """A writable (H, W, 3) uint8 BGR image of ``image``, and the bit depth seen so far.

    image: (H, W), (H, W, 1), (H, W, 3) BGR or (H, W, 4) BGRA. uint8 as it is; wider integers are shifted down from
    the largest bit depth seen (``bits`` or what the values need: a 12-bit sensor in 16-bit words is not left dark);
    floating point in 0..1 (or, where values exceed 1, in 0..255) and bool are stretched. out: where to, possibly
    ``image`` itself; otherwise a new array. ValueError for other shapes, empty images or an ``out`` that does not fit.
    """
    image = np.asarray(image)
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or channels not in (1, 3, 4) or 0 in image.shape:
        raise ValueError(f"cannot draw on an array of shape {image.shape}: expected (H, W), (H, W, 3) or (H, W, 4)")
    height, width = image.shape[:2]
    if out is not None and (
        out.shape != (height, width, 3)
        or out.dtype != np.uint8
        or not out.flags.writeable
        or not out.flags.c_contiguous
    ):
        raise ValueError(
            f"'out' must be a writable contiguous uint8 array {(height, width, 3)}, got {out.dtype} {out.shape}"
        )
    if image.dtype != np.uint8:
        image, bits = _to_uint8(image, bits)
    target = np.empty((height, width, 3), np.uint8) if out is None else out
    if channels == 3:
        if target is not image:
            np.copyto(target, image)
    else:
        code = cv2.COLOR_BGRA2BGR if channels == 4 else cv2.COLOR_GRAY2BGR
        cv2.cvtColor(np.ascontiguousarray(image), code, dst=target)
    return target, bits


def _to_uint8(image: NDArray, bits: int) -> tuple[NDArray[np.uint8], int]:
    if image.dtype == np.bool_:
        return image.astype(np.uint8) * np.uint8(255), bits
    if np.issubdtype(image.dtype, np.integer):
        brightest = max(0, int(image.max()))
        bits = max(bits, brightest.bit_length())
        return (np.maximum(image, 0) >> (bits - 8)).astype(np.uint8), bits
    if np.issubdtype(image.dtype, np.floating):
        sound = np.nan_to_num(image.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        stretch = 255.0 if sound.max() <= 1.0 else 1.0
        return np.clip(sound * stretch + 0.5, 0.0, 255.0).astype(np.uint8), bits
    raise ValueError(f"cannot draw on an image of {image.dtype}: expected numbers")
