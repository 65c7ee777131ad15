"""Sharpening that knows blur and noise: a Wiener filter, and behind it one that looks at each place.

Wiener (1949): of a picture with spectrum S, blurred by a filter H, with noise of power N, the estimate with the least
mean square error is the picture times G = H / (H^2 + N/S). That is right on average over the picture: flat parts keep
too much noise, edges lose too much detail. So G here trusts twice as much as it should (N is halved), and what it
brings in two bands of detail is then weighed at each place by the share of its local energy that noise cannot explain
(the local Wiener filter of Lee 1980, with the noise that G lets through each band known from G)::

    weight = max(0, 1 - c noise / energy),   energy: mean square of the band in 5x5 px

PSNR and SSIM of both steps are higher than those of the best Wiener filter alone (docs/enhance.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.enhance.fourier import MARGIN, Tiling, filtered_tiles, packed_frequencies, tiling
from edge_vision.enhance.spectrum import Spectrum

_TRUST = 0.5  # of N/S in the first step
_FLOOR = 2e-4  # of N/S: no blur is Gaussian to more digits than that
_MOTION_FLOOR = 1e-2  # nor is any motion that even; its response has zeros, beside which the least error is multiplied
_WINDOW = (5, 5)
_CAUTION = 1.5  # c of the module
_ROUNDING = 1 / 12  # DN²
_REACH = MARGIN - 6  # px beyond a tile that the second step is given: more than half of both boxes and the window
LARGEST_BLUR = 4.0  # px: beyond, too little is left to bring back


@dataclass(frozen=True, slots=True)
class PointSpread:
    """What blurs: a Gaussian of ``sigma`` px and, where ``length`` > 0, motion over that many px along ``angle``
    (degrees, clockwise from +x in the image)."""

    sigma: float
    length: float = 0.0
    angle: float = 0.0


@dataclass(frozen=True, slots=True)
class _Design:
    """gain: of the packed spectrum of a tile; sides: px of the boxes that divide detail into bands, one applied after
    the other; shares: of the noise's variance that is found in each band."""

    tiles: Tiling
    gain: NDArray
    sides: tuple[int, ...]
    shares: tuple[float, ...]


def sharpen(image: NDArray, spread: PointSpread, noise: float, spectrum: Spectrum | None = None) -> NDArray:
    """``image`` with its blur taken back as far as its noise allows.

    image: (H, W) or (H, W, 3) BGR; of colour images the luma is sharpened and its change given to all channels. noise:
    standard deviation of the luma in DN. spectrum: of the image (`measure_spectrum`); None: that of usual pictures.
    Raises ValueError for negative or non-finite figures.
    """
    _check(spread, noise)
    plane = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) if image.ndim == 3 else image
    power = noise * noise + _ROUNDING
    known = spectrum is not None and spectrum.known
    amplitude, exponent = (
        (spectrum.amplitude, spectrum.exponent) if known and spectrum else (_usual_amplitude(plane), 2.5)
    )
    design = _design(*plane.shape, *_rounded(spread, power / max(amplitude, 1e-9), exponent))
    result = np.empty_like(image)
    for place, inside, sharp in filtered_tiles(plane, design.gain, design.tiles):
        near = sharp[tuple(slice(side.start - _REACH, side.stop + _REACH) for side in inside)]
        weighed = _weighed(near, design, power)[_REACH:-_REACH, _REACH:-_REACH]
        if image.ndim == 2:
            cv2.add(weighed, 0.0, dst=result[place], dtype=cv2.CV_8U)  # type: ignore[call-overload]
        else:
            change = cv2.subtract(weighed, plane[place], dtype=cv2.CV_16S)
            cv2.add(image[place], cv2.merge([change] * 3), dst=result[place], dtype=cv2.CV_8U)
    return result


def unsharp(image: NDArray, sigma: float, amount: float, noise: float = 0.0) -> NDArray:
    """Unsharp masking: ``amount`` times what a Gaussian of ``sigma`` px takes away is added.

    noise: standard deviation in DN; changes up to three times what it makes are left out, or sharpening would be noise.
    """
    if not (sigma > 0 and amount >= 0 and noise >= 0):
        raise ValueError(f"unsharp: sigma {sigma}, amount {amount} and noise {noise} must be 0 or more, sigma above 0")
    detail = cv2.subtract(image, cv2.GaussianBlur(image, (0, 0), sigma), dtype=cv2.CV_16S)
    limit = round(3 * noise)
    if limit:
        size = np.abs(detail)
        detail = np.sign(detail) * np.maximum(size - limit, 0)
    return cv2.addWeighted(image, 1.0, detail, amount, 0, dtype=cv2.CV_8U)  # type: ignore[return-value,call-overload]


def _weighed(sharp: NDArray, design: _Design, power: float) -> NDArray:
    """The second step of the module."""
    rest = sharp
    result: NDArray | None = None
    for side, share in zip(design.sides, design.shares, strict=True):
        smooth = cv2.blur(rest, (side, side))
        detail = cv2.subtract(rest, smooth)
        energy = cv2.sqrBoxFilter(detail, cv2.CV_32F, _WINDOW)
        np.maximum(energy, np.float32(1e-3), out=energy)
        weight = np.divide(np.float32(-_CAUTION * share * power), energy, out=energy)
        weight += np.float32(1)
        np.maximum(weight, 0, out=weight)
        detail *= weight
        result = detail if result is None else cv2.add(result, detail, dst=result)
        rest = smooth
    assert result is not None
    return cv2.add(result, rest, dst=result)


def _rounded(spread: PointSpread, ratio: float, exponent: float) -> tuple[PointSpread, float, float]:
    """The same figures on a grid fine enough to change nothing, so that a stream's frames share a design."""
    grid = PointSpread(round(spread.sigma * 40) / 40, round(spread.length * 4) / 4, round(spread.angle / 3) * 3.0)
    return grid, math.exp(round(math.log(ratio) * 5) / 5), round(exponent * 10) / 10


@lru_cache(maxsize=4)
def _design(height: int, width: int, spread: PointSpread, ratio: float, exponent: float) -> _Design:
    """ratio: N/A, with S = A f^-exponent. Takes about as long as four images; four designs are kept."""
    tiles = tiling(height, width)
    fy, fx = packed_frequencies(*tiles.transformed)
    square = fy * fy + fx * fx
    response = np.exp(np.float32(-2 * np.pi**2 * spread.sigma**2) * square)
    if spread.length > 1:
        angle = math.radians(spread.angle)
        response *= np.sinc(spread.length * (fx * np.float32(math.cos(angle)) + fy * np.float32(math.sin(angle))))
    prior = np.float32(_TRUST * ratio) * np.power(square, np.float32(exponent / 2))
    floor = np.float32(_TRUST * (_MOTION_FLOOR if spread.length > 1 else _FLOOR))
    gain = (response / (response * response + prior + floor)).astype(np.float32)
    gain[0, 0] = 1.0  # the mean stays
    least = max(spread.sigma, 0.7)
    sides = _box_side(least), _box_side(2 * least)
    shares, above = [], np.ones_like(gain)
    for side in sides:
        below = above * _box_response(fy, side) * _box_response(fx, side)
        shares.append(float(np.square(gain * (above - below)).mean()))
        above = below
    return _Design(tiles, gain, sides, tuple(shares))


def _box_side(sigma: float) -> int:
    """The odd side of the box whose standard deviation is nearest: that of n px is sqrt((n^2 - 1) / 12)."""
    return max(3, 2 * round((math.sqrt(12 * sigma * sigma + 1) - 1) / 2) + 1)


def _box_response(frequency: NDArray, side: int) -> NDArray:
    """Frequency response of the mean over ``side`` (odd) pixels: the Dirichlet kernel, as a sum of cosines."""
    total = np.ones_like(frequency)
    for shift in range(1, side // 2 + 1):
        total += 2 * np.cos(np.float32(2 * np.pi * shift) * frequency)
    return total / np.float32(side)


def _usual_amplitude(plane: NDArray) -> float:
    """A of a picture with this variance and the usual exponent: the variance is A times the integral of 2 pi f^-1.5
    from one period in the image to 0.5 cycles/px."""
    lowest = 1 / max(plane.shape)
    return float(np.var(plane[::4, ::4])) / (4 * math.pi * (lowest**-0.5 - 0.5**-0.5))


def _check(spread: PointSpread, noise: float) -> None:
    for name, value in (("blur", spread.sigma), ("motion length", spread.length), ("noise", noise)):
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} is {value}: give a finite number, 0 or more")
    if not math.isfinite(spread.angle):
        raise ValueError(f"motion angle is {spread.angle}: give degrees")
