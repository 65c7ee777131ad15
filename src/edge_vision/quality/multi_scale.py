"""MS-SSIM: SSIM at five scales (Wang, Simoncelli, Bovik: Multi-scale structural similarity for image quality
assessment, Asilomar 2003)."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.quality.full_reference import K1, K2, WINDOW, gaussian, similarity
from edge_vision.quality.pair import ComparisonError, pair

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
SMALLEST = WINDOW * 2 ** (len(WEIGHTS) - 1)  # pixels a side: the window has to fit the smallest scale

# Low-pass half of the biorthogonal 9/7 wavelet (Cohen, Daubechies, Feauveau 1992), scaled to sum 1.
_HALF = (0.8526986790, 0.3774028556, -0.1106244044, -0.0238494650, 0.0378284555)
_WAVELET = np.array([*_HALF[:0:-1], *_HALF]) / (_HALF[0] + 2 * sum(_HALF[1:]))

Variant = Literal["wang", "libiqa"]


def ms_ssim(
    image: NDArray,
    reference: NDArray,
    *,
    bits: int | None = None,
    data_range: float | None = None,
    variant: Variant = "wang",
) -> float:
    """Multi-scale structural similarity of luma, 0 to 1.

    Luminance of the coarsest of five scales times contrast-structure of each, to the powers .0448 .2856 .3001 .2363
    .1333. variant "wang": the author's code: scaled down by the mean of 2 x 2 pixels, and the mean of contrast times
    structure. "libiqa": that library's, whose figures are published: 9/7 wavelet filter, and the means of contrast and
    of structure apart; slower. They differ by up to 0.01. A mean below zero (an inverted image) counts as 0, since it
    has no real power.

    Arguments and errors as of `full_reference.ssim`, and at least 176 pixels a side.
    """
    both = pair(image, reference, bits=bits, data_range=data_range)
    x, y = both.image, both.reference
    if min(x.shape) < SMALLEST:
        raise ComparisonError(
            f"the images are {x.shape[1]} x {x.shape[0]} pixels, and MS-SSIM halves them four times",
            f"give images of at least {SMALLEST} pixels a side, or use SSIM",
        )
    if variant not in ("wang", "libiqa"):
        raise ComparisonError(f"there is no MS-SSIM called {variant!r}", 'give "wang" or "libiqa"')
    terms, halve = (_terms, _mean_of_four) if variant == "wang" else (_terms_apart, _wavelet_low)
    product = 1.0
    for scale, weight in enumerate(WEIGHTS):
        last = scale == len(WEIGHTS) - 1
        product *= terms(x, y, both.data_range, last, weight)
        if not last:
            x, y = halve(x), halve(y)
    return product


def _terms(x: NDArray, y: NDArray, data_range: float, last: bool, weight: float) -> float:
    whole, structure = similarity(x, y, data_range)
    return max(whole if last else structure, 0.0) ** weight


def _mean_of_four(image: NDArray) -> NDArray:
    """(ceil(H / 2), ceil(W / 2)) float32; an odd last row or column is repeated, as by the author's code."""
    image = image.astype(np.float32, copy=False)
    height, width = image.shape
    if height % 2 or width % 2:
        image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    return cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def _terms_apart(x: NDArray, y: NDArray, data_range: float, last: bool, weight: float) -> float:
    """In double precision and without haste: for comparison with what is published."""
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    x, y = x.astype(np.float64), y.astype(np.float64)
    mean_x, mean_y = _window(x), _window(y)
    var_x = np.maximum(_window(x * x) - mean_x**2, 0)
    var_y = np.maximum(_window(y * y) - mean_y**2, 0)
    covariance = _window(x * y) - mean_x * mean_y
    deviations = np.sqrt(var_x * var_y)
    contrast = np.mean((2 * deviations + c2) / (var_x + var_y + c2))
    structure = np.mean((covariance + c2 / 2) / (deviations + c2 / 2))
    term = float(contrast) ** weight * max(float(structure), 0.0) ** weight
    if last:
        luminance = np.mean((2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1))
        term *= float(luminance) ** weight
    return term


def _window(image: NDArray[np.float64]) -> NDArray:
    edge = WINDOW // 2
    return cv2.sepFilter2D(image, cv2.CV_64F, gaussian(), gaussian())[edge:-edge, edge:-edge]


def _wavelet_low(image: NDArray) -> NDArray:
    image = image.astype(np.float64)
    return cv2.sepFilter2D(image, cv2.CV_64F, _WAVELET, _WAVELET, borderType=cv2.BORDER_REFLECT)[::2, ::2].copy()
