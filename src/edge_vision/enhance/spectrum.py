"""What the power spectrum of one picture tells: how blurred it is, and what its own detail looks like.

Natural pictures have a power spectrum that falls as a power of the frequency, S(f) = A f^-a with a about 2.5 (Field
1987; 2 by most measurements of wide scenes, more where there are surfaces), a Gaussian blur of sigma px multiplies it
by exp(-4 pi^2 sigma^2 f^2), and noise of a known variance N adds N everywhere. So

    log(P(f) - N) = log A - a log f - 4 pi^2 sigma^2 f^2

is linear in its three unknowns. a is held near 2.5: at strong blur few frequencies stand above the noise, and a free
slope would trade for blur. A and a are at the same time the prior of a Wiener filter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.enhance.fourier import packed_frequencies

_SIDE = 512  # px: of the middle of the image, that is looked at
_LEAST_SIDE = 48
_RINGS = 48  # of frequency, up to 0.5 cycles/px
_LOWEST = 0.02  # cycles/px: below, it is the scene's layout
_USUAL_EXPONENT = 2.5
_HOLD = 6.0  # how firmly the exponent is held: as this many squared rings
_LEAST_RINGS = 5


@dataclass(frozen=True, slots=True)
class Spectrum:
    """blur: Gaussian sigma in px, of lens, pixel and scene together. amplitude (DN²) and exponent: S(f) = amplitude
    f^-exponent of the picture without blur and noise. All NaN where the picture has too little detail to tell."""

    blur: float = math.nan
    amplitude: float = math.nan
    exponent: float = math.nan

    @property
    def known(self) -> bool:
        return math.isfinite(self.blur)

    def loss(self, sigma: float) -> float:
        """Mean square in DN² that a Gaussian blur of ``sigma`` px takes from the picture: the integral of
        (1 - H(f))^2 S(f) over the plane of frequencies up to 0.5 cycles/px. NaN where the spectrum is not known."""
        f = (np.arange(128) + 0.5) / 256
        lost = np.square(1 - np.exp(-2 * np.pi**2 * sigma * sigma * f * f)) * self.amplitude * f**-self.exponent
        return float((lost * 2 * np.pi * f).sum() / 256)


@lru_cache(maxsize=4)
def _rings(height: int, width: int) -> tuple[NDArray, NDArray, NDArray]:
    """Ring number at every place of the packed spectrum (the corners in one more), places a ring, the window."""
    fy, fx = packed_frequencies(height, width)
    ring = np.minimum(np.hypot(fy, fx) * (2 * _RINGS), _RINGS).astype(np.intp).ravel()
    count = np.bincount(ring, minlength=_RINGS + 1)[:_RINGS]
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    return ring, count, window


def measure_spectrum(grey: NDArray, noise: float) -> Spectrum:
    """grey (H, W) uint8; noise: its standard deviation in DN, rounding not counted. 3 ms at 640x480 and above."""
    height, width = grey.shape
    rows, columns = min(height, _SIDE), min(width, _SIDE)
    if min(rows, columns) < _LEAST_SIDE or not math.isfinite(noise):
        return Spectrum()
    top, left = (height - rows) // 2, (width - columns) // 2
    ring, count, window = _rings(rows, columns)
    plane = grey[top : top + rows, left : left + columns].astype(np.float32)
    plane -= plane.mean()
    plane *= window
    packed = cv2.dft(plane).ravel()
    # Real and imaginary part each hold half of a coefficient's power.
    power: NDArray = np.bincount(ring, packed * packed, minlength=_RINGS + 1)[:_RINGS] * 2
    power /= np.maximum(count, 1) * float(np.vdot(window, window))
    floor = noise * noise + 1 / 12
    return _fit(power - floor, floor, count)


def _fit(signal: NDArray, floor: float, count: NDArray) -> Spectrum:
    """signal: power less noise in each ring; floor: the noise's power; count: places a ring."""
    frequency = (np.arange(_RINGS) + 0.5) / (2 * _RINGS)
    clear = (count > 0) & (signal > floor * (0.3 + 3 / np.sqrt(np.maximum(count, 1))))
    high = frequency > _LOWEST
    lost = np.flatnonzero(~clear & high)  # from the first ring on that noise covers, nothing is believed
    usable = high & (frequency < (frequency[lost[0]] if len(lost) else 1.0))
    if np.count_nonzero(usable) < _LEAST_RINGS:
        return Spectrum()
    f = frequency[usable]
    rows = np.stack([np.ones_like(f), -np.log(f), -4 * np.pi**2 * f * f], 1)
    rows = np.vstack([rows, [0.0, _HOLD, 0.0]])
    values = np.append(np.log(signal[usable]), _HOLD * _USUAL_EXPONENT)
    level, exponent, square = np.linalg.lstsq(rows, values, rcond=None)[0].tolist()
    return Spectrum(math.sqrt(max(square, 0.0)), math.exp(level), exponent)
