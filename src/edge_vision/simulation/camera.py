"""The twin's camera: plumb_bob geometry and a linear EMVA 1288 sensor.

Geometry (OpenCV's model, REP 104 ``plumb_bob``), pixel centres at whole numbers::

    x, y = ideal normalised coordinates;  r2 = x^2 + y^2;  g = 1 + k1 r2 + k2 r2^2 + k3 r2^3
    xd = x g + 2 p1 x y + p2 (r2 + 2 x^2);  yd = y g + p1 (r2 + 2 y^2) + 2 p2 x y
    u = fx xd + cx;  v = fy yd + cy

Sensor (EMVA 1288 release 4.0, linear model, section 2), for a radiance L in 0..1 of the scene's white::

    mu_e   = L * light * electrons_per_second * exposure      mean electrons
    var_e  = mu_e + read_noise^2                              shot and read noise, e-^2
    K      = conversion * gain                                DN/e-
    mean   = black_level + K mu_e                             DN
    var    = K^2 var_e  (+ 1/12 of quantisation)              DN^2
    DN     = clip(round(mean + sqrt(var) z), 0, min(255, black_level + K full_well))
                                                              z ~ N(0, 1), independent in space and time

Shot noise is drawn as a normal variable of the Poisson distribution's mean and variance, which a photon transfer
measurement cannot tell from Poisson counts above a few electrons.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sensor:
    """What turns radiance into digital numbers; units as in the module's equations."""

    exposure: float = 0.004
    gain: float = 1.0
    electrons_per_second: float = 2.9e6
    full_well: float = 10_500.0
    read_noise: float = 8.0
    conversion: float = 0.0242
    black_level: float = 4.0

    @property
    def K(self) -> float:
        """Overall system gain in DN/e-."""
        return self.conversion * self.gain

    @property
    def electrons_at_white(self) -> float:
        """Mean electrons of a pixel that sees radiance 1 in one exposure, before saturation."""
        return self.electrons_per_second * self.exposure


def intrinsics(width: int, height: int) -> NDArray[np.float64]:
    """K (3, 3) of the twin's lens for an image of that size: f = 1.25 heights, the centre a little off."""
    f = 1.25 * height
    unit = height / 480.0
    return np.array([[f, 0, width / 2 - 0.5 + 3.1 * unit], [0, f, height / 2 - 0.5 - 2.3 * unit], [0, 0, 1.0]])


# k1, k2, p1, p2, k3: a mild barrel, 4 % at the corners of a 4:3 image.
LENS = np.array([-0.125, 0.035, 0.0006, -0.0004, 0.0])


def distort(points: NDArray, K: NDArray, D: NDArray) -> NDArray:
    """Pixels of an ideal pinhole image, (..., 2), to pixels of the distorted image (pixel centres whole)."""
    k1, k2, p1, p2, k3 = D
    x = (points[..., 0] - K[0, 2]) / K[0, 0]
    y = (points[..., 1] - K[1, 2]) / K[1, 1]
    r2 = x * x + y * y
    g = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    xd = x * g + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    yd = y * g + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    return np.stack([xd * K[0, 0] + K[0, 2], yd * K[1, 1] + K[1, 2]], -1)


def undistort(points: NDArray, K: NDArray, D: NDArray, iterations: int = 20) -> NDArray:
    """The inverse of `distort` by fixed-point iteration (converges for mild lenses as this one)."""
    k1, k2, p1, p2, k3 = D
    xd = (points[..., 0] - K[0, 2]) / K[0, 0]
    yd = (points[..., 1] - K[1, 2]) / K[1, 1]
    x, y = xd, yd
    for _ in range(iterations):
        r2 = x * x + y * y
        g = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        x, y = (
            (xd - 2 * p1 * x * y - p2 * (r2 + 2 * x * x)) / g,
            (yd - p1 * (r2 + 2 * y * y) - 2 * p2 * x * y) / g,
        )
    return np.stack([x * K[0, 0] + K[0, 2], y * K[1, 1] + K[1, 2]], -1)


def undistortion_map(width: int, height: int, K: NDArray, D: NDArray) -> NDArray:
    """(height, width, 2) float32: where in the ideal image every pixel of the distorted image looks.

    Solved on every eighth pixel and interpolated between: the lens is smooth, the error below 0.01 px.
    """
    step = 8
    ys, xs = np.mgrid[0 : height + step : step, 0 : width + step : step].astype(np.float64)
    nodes = undistort(np.stack([xs, ys], -1), K, D).astype(np.float32)
    shrink = np.array([[1 / step, 0, 0], [0, 1 / step, 0]])
    return cv2.warpAffine(nodes, shrink, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def _half_normal_table() -> NDArray[np.float32]:
    """256 equally likely values with mean 0 and variance exactly 1/2, the quantiles of a normal variable.

    The sum of two draws has unit variance and 65,536 outcomes; its kurtosis differs from a normal's by 2 %.
    """
    samples = np.sort(np.random.default_rng(0).normal(size=256 * 4000)).reshape(256, -1).mean(1)
    samples = (samples - samples[::-1]) / 2  # symmetric, so the mean is zero
    return (samples / samples.std() * np.sqrt(0.5)).astype(np.float32)


_HALF_NORMAL = _half_normal_table()
_STRIP = 1 << 16  # samples


def noise_generator(key: tuple[int, ...]) -> np.random.Generator:
    """The generator of one frame's noise; frames of different keys (seed, index, ...) are independent."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(key)))


def standard_noise(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray:
    """Noise (float32) of mean 0 and variance 1, independent for every element, from two table look-ups of random
    bytes: three times as fast as NumPy's and OpenCV's normal generators, which would be most of a frame's cost."""
    count = math.prod(shape)
    raw = rng.bit_generator.random_raw(-(-count // 4)).view(np.uint8)
    z = cv2.LUT(raw[:count].reshape(shape[0], -1), _HALF_NORMAL)
    cv2.add(z, cv2.LUT(raw[count : 2 * count].reshape(shape[0], -1), _HALF_NORMAL), dst=z)
    return z.reshape(shape)


def expose(
    radiance: NDArray, sensor: Sensor, key: tuple[int, ...] | None = None, light: NDArray | float = 1.0
) -> NDArray[np.uint8]:
    """The sensor's digital numbers for a radiance image: the module's equations, pure in its arguments.

    radiance (H, W) or (H, W, 3): uint8 (255 is white) or float32 (1 is white). light: float32 factor of the same
    shape, or a number. key: what the noise is drawn from; None gives the noise-free image (mean DN, rounded).
    """
    white = sensor.K * sensor.electrons_at_white / (255.0 if radiance.dtype == np.uint8 else 1.0)
    # Electrons above the full well never reach the converter; most often the converter saturates first.
    ceiling = sensor.black_level + sensor.K * sensor.full_well
    black = (sensor.black_level,) * 4
    rng = None if key is None else noise_generator(key)
    out = np.empty(radiance.shape, np.uint8)
    # Rows in strips that stay in the cache, and two buffers for all of them: half the time of whole images.
    rows = max(1, _STRIP // max(1, radiance[0].size))
    buffers = np.empty((2, min(rows, len(radiance)), *radiance.shape[1:]), np.float32)
    for top in range(0, len(radiance), rows):
        strip = radiance[top : top + rows]
        mean, sigma = buffers[:, : len(strip)]
        if isinstance(light, np.ndarray):
            cv2.multiply(strip, light[top : top + rows], dst=mean, scale=white, dtype=cv2.CV_32F)
        else:
            np.multiply(strip, np.float32(white * light), out=mean)
        if rng is not None:
            np.multiply(mean, np.float32(sensor.K), out=sigma)
            sigma += np.float32((sensor.K * sensor.read_noise) ** 2)
            np.sqrt(sigma, out=sigma)
            cv2.accumulateProduct(sigma, standard_noise(mean.shape, rng), mean)
        if ceiling < 255:
            np.minimum(mean, np.float32(ceiling - sensor.black_level), out=mean)
        # Rounds and saturates to 0..255, which NumPy's astype does not.
        cv2.add(mean, black, dst=out[top : top + rows], dtype=cv2.CV_8U)  # type: ignore[call-overload]
    return out
