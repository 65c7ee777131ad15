"""How close an image is to a reference: MSE, PSNR, SNR, SSIM, and MS-SSIM (in `multi_scale.py`), on mono or luma.

Higher is better but for MSE. What they give where formulas divide by zero:

| images | MSE | PSNR | SNR | SSIM, MS-SSIM |
|---|---|---|---|---|
| identical, constant ones too | 0 | inf | inf | 1 exactly |
| constant a and b | (a-b)² | finite | finite | SSIM (2ab + C1) / (a² + b² + C1): the contrast term is 1 |
| black reference, image not | > 0 | finite | -inf | finite |

JSON knows no infinity: writers must leave it out or say so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.quality.pair import ComparisonError, pair

WINDOW = 11
SIGMA = 1.5
K1, K2 = 0.01, 0.03
_RADIUS = WINDOW // 2
_STRIP = 1 << 17  # values of a strip: its nine arrays stay in the cache between the steps
_FITS = (74, 181)  # means of 8-bit images: what is left of values is at most 181, and its square fits int16


def gaussian() -> NDArray[np.float64]:
    """(11,) the window of SSIM: Gaussian of sigma 1.5, sum 1 (Wang 2004, III.B)."""
    weights = np.exp(-(np.arange(-_RADIUS, _RADIUS + 1) ** 2) / (2 * SIGMA**2))
    return weights / weights.sum()


_KERNEL = gaussian().astype(np.float32)


@dataclass(frozen=True, slots=True)
class FullReference:
    """The figures of one image against its reference. psnr, snr: dB, inf for identical images; ms_ssim: None for
    images below 176 pixels a side."""

    mse: float
    psnr: float
    snr: float
    ssim: float
    ms_ssim: float | None


def compare(
    image: NDArray,
    reference: NDArray,
    *,
    bits: int | None = None,
    data_range: float | None = None,
    with_ms_ssim: bool = True,
) -> FullReference:
    """All the figures on luma, for the price of one conversion. Arguments and errors as of `ssim`."""
    from edge_vision.quality.multi_scale import SMALLEST, ms_ssim

    both = pair(image, reference, bits=bits, data_range=data_range)
    error, power = _squared_error(both.image, both.reference), _power(both.reference)
    large = min(both.image.shape) >= SMALLEST
    return FullReference(
        error,
        _psnr(error, both.data_range),
        _snr(power, error),
        ssim(both.image, both.reference, data_range=both.data_range),
        ms_ssim(both.image, both.reference, data_range=both.data_range) if with_ms_ssim and large else None,
    )


def mse(image: NDArray, reference: NDArray, *, colour: bool = False) -> float:
    """Mean squared error in squared units of the images, in double precision.

    image, reference: (H, W) or (H, W, 3) BGR of one shape and type: uint8, uint16, float32, float64. colour: over all
    channels instead of luma. Raises ComparisonError (a ValueError).
    """
    both = pair(image, reference, data_range=1.0, colour=colour)
    return _squared_error(both.image, both.reference)


def psnr(
    image: NDArray,
    reference: NDArray,
    *,
    bits: int | None = None,
    data_range: float | None = None,
    colour: bool = False,
) -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(peak² / MSE); inf for identical images.

    The peak is 2**bits - 1, or data_range. Arguments and errors as of `ssim`; colour as of `mse`.
    """
    both = pair(image, reference, bits=bits, data_range=data_range, colour=colour)
    return _psnr(_squared_error(both.image, both.reference), both.data_range)


def snr(image: NDArray, reference: NDArray, *, colour: bool = False) -> float:
    """Reference signal-to-noise ratio in dB, 10 log10(sum reference² / sum (image - reference)²).

    Not symmetric. inf for identical images (black ones too), -inf for a black reference of an image that is not.
    Arguments and errors as of `mse`.
    """
    both = pair(image, reference, data_range=1.0, colour=colour)
    return _snr(_power(both.reference), _squared_error(both.image, both.reference))


def ssim(image: NDArray, reference: NDArray, *, bits: int | None = None, data_range: float | None = None) -> float:
    """Structural similarity, -1 to 1, of luma: mean of `ssim_map`.

    image, reference: (H, W) or (H, W, 3) BGR of one shape and type, at least 11 pixels a side: uint8, uint16, float32
    or float64. bits: 8, 10, 12, 14 or 16 that uint16 values have in truth (default: 16); data_range: in its place,
    any range, required for floating-point images. Raises ComparisonError (a ValueError) for all else.

    Wang, Bovik, Sheikh, Simoncelli: Image quality assessment: from error visibility to structural similarity, IEEE
    TIP 13(4), 2004, as the authors' own code has it: Gaussian window of 11 and sigma 1.5, population covariance,
    K1 0.01, K2 0.03, no scaling down, windows that lie inside the image.
    """
    both = pair(image, reference, bits=bits, data_range=data_range)
    return similarity(both.image, both.reference, both.data_range)[0]


def ssim_map(
    image: NDArray, reference: NDArray, *, bits: int | None = None, data_range: float | None = None
) -> NDArray[np.float32]:
    """(H - 10, W - 10) float32 SSIM of every window that lies inside; [r, c] is centred on pixel (r + 5, c + 5).

    Arguments and errors as of `ssim`.
    """
    both = pair(image, reference, bits=bits, data_range=data_range)
    height, width = both.image.shape
    target = np.empty((max(height - 2 * _RADIUS, 0), max(width - 2 * _RADIUS, 0)), np.float32)
    similarity(both.image, both.reference, both.data_range, target)
    return target


def similarity(
    image: NDArray, reference: NDArray, data_range: float, target: NDArray[np.float32] | None = None
) -> tuple[float, float]:
    """Means of SSIM and of its contrast-structure term over all windows. image, reference: (H, W) of one type, checked.

    target: (H - 10, W - 10), gets the map of SSIM.

    SSIM needs the windows' means, variances and covariance of x and y, which is five filters. With d = x - y four do,
    and nothing is lost by cancellation where the images are alike (E: filtered, c: means):

        contrast-structure = n / (n + E[d²] - E[d]²)    with n = 2 (E[xy] - E[x] E[y]) + C2
        luminance          = m / (m + E[d]²)            with m = 2 E[x] E[y] + C1

    n and E[d²] - E[d]² stay the same when a constant is taken off x and another off y: their means, so that squares are
    small and float32 is accurate enough. Where the squares of 8-bit images then fit int16, that is filtered faster.
    Strips of rows go through all steps in the cache.
    """
    height, width = image.shape
    if min(height, width) < WINDOW:
        raise ComparisonError(
            f"the images are {width} x {height} pixels, and SSIM has a window of {WINDOW} x {WINDOW}",
            f"give images of at least {WINDOW} pixels a side, or use MSE and PSNR",
        )
    c1, c2 = np.float32((K1 * data_range) ** 2), np.float32((K2 * data_range) ** 2)
    centre_x, centre_y = cv2.mean(image)[0], cv2.mean(reference)[0]
    kind: type = np.float32
    if image.dtype == np.uint8 and _FITS[0] <= min(centre_x, centre_y) and max(centre_x, centre_y) <= _FITS[1]:
        kind, centre_x, centre_y = np.int16, round(centre_x), round(centre_y)
    centre_x, centre_y = kind(centre_x), kind(centre_y)
    shift_x, shift_y, two = np.float32(centre_x), np.float32(centre_y), np.float32(2)
    shift_d = shift_x - shift_y
    rows = min(max(_STRIP // width, 2 * WINDOW), height - 2 * _RADIUS)
    raw = np.empty((3, rows + 2 * _RADIUS, width), kind)
    work = np.empty((6, rows + 2 * _RADIUS, width), np.float32)
    inside = slice(_RADIUS, width - _RADIUS)
    total = structure = 0.0
    for top in range(0, height - 2 * _RADIUS, rows):
        count = min(rows, height - 2 * _RADIUS - top)
        taken = slice(top, top + count + 2 * _RADIUS)
        x, y, product = raw[:, : count + 2 * _RADIUS]
        square, *filtered, free = work[:, : count + 2 * _RADIUS]
        np.subtract(image[taken], centre_x, out=x, dtype=kind, casting="unsafe")
        np.subtract(reference[taken], centre_y, out=y, dtype=kind, casting="unsafe")
        np.multiply(x, y, out=product)
        d = np.subtract(x, y, out=y)
        np.copyto(square, d)
        np.multiply(square, square, out=square)
        for plane, result in zip((x, d, product, square), filtered, strict=True):
            cv2.sepFilter2D(plane, cv2.CV_32F, _KERNEL, _KERNEL, dst=result)

        # From here on whole rows: the columns at the sides are left out only where it is summed up.
        e_x, e_d, e_xy, e_dd, e_y = (plane[_RADIUS:-_RADIUS] for plane in (*filtered, free))
        means = square[_RADIUS:-_RADIUS]
        np.subtract(e_x, e_d, out=e_y)
        np.multiply(e_x, e_y, out=means)
        n = np.subtract(e_xy, means, out=e_xy)
        np.multiply(n, two, out=n)
        np.add(n, c2, out=n)
        square_of_mean = np.multiply(e_d, e_d, out=means)
        np.subtract(e_dd, square_of_mean, out=e_dd)
        # A variance, which rounding can put below 0; np.maximum takes three times as long.
        cv2.max(e_dd, 0.0, dst=e_dd)  # type: ignore[call-overload]
        np.add(e_dd, n, out=e_dd)
        contrast = np.divide(n, e_dd, out=n)
        structure += cv2.sumElems(contrast[:, inside])[0]
        np.add(e_x, shift_x, out=e_x)
        np.add(e_y, shift_y, out=e_y)
        np.add(e_d, shift_d, out=e_d)
        np.multiply(e_d, e_d, out=e_d)
        m = np.multiply(e_x, e_y, out=means)
        np.multiply(m, two, out=m)
        np.add(m, c1, out=m)
        np.add(e_d, m, out=e_d)
        np.divide(m, e_d, out=m)
        np.multiply(m, contrast, out=m)
        total += cv2.sumElems(m[:, inside])[0]
        if target is not None:
            target[top : top + count] = m[:, inside]
    windows = (height - 2 * _RADIUS) * (width - 2 * _RADIUS)
    return total / windows, structure / windows


def _squared_error(image: NDArray, reference: NDArray) -> float:
    if image.dtype.kind == "f":
        return float(np.mean(np.square(np.subtract(image, reference, dtype=np.float64))))
    return round(cv2.norm(image, reference, cv2.NORM_L2SQR)) / image.size  # rounded: OpenCV 5 squares a root


def _power(image: NDArray) -> float:
    if image.dtype.kind == "f":
        return float(np.mean(np.square(image, dtype=np.float64)))
    return round(cv2.norm(image, cv2.NORM_L2SQR)) / image.size


def _psnr(error: float, peak: float) -> float:
    return 10 * math.log10(peak * peak / error) if error else math.inf


def _snr(power: float, error: float) -> float:
    if not error:
        return math.inf
    return 10 * math.log10(power / error) if power else -math.inf
