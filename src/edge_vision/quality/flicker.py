"""Light that swings with the mains, from frame to frame and from row to row.

Lamps on 50 and 60 Hz mains swing at 100 and 120 Hz. A camera samples that far too seldom, but its stamps tell at which
times: the light's curve is fitted by a sine of 100 and of 120 Hz at those times, which needs no thought about aliasing.
Where the frames come in step with the lamp (25 or 50 fps at 100 Hz) all of them see the same phase and there is
nothing to see. A rolling shutter exposes each row at its own time and so shows stripes that wander from frame to frame.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from statistics import median

import numpy as np
from numpy.typing import NDArray

MAINS_HZ = (100.0, 120.0)
_WINDOW = 48  # frames
_LEAST = 16
_LEAST_CYCLES = 2.0  # of the aliased swing within the window: a slower one may be the scene's
_LEAST_SWING = 0.004  # relative: a smaller one is not looked into
_EXPLAINED = 0.6  # share of the curve's variance
_STRIPES = slice(1, 12)  # cycles over the height of the image


@dataclass(frozen=True, slots=True)
class Flicker:
    """amplitude: relative, of the light from frame to frame at ``hz``; stripes: relative, over the rows. 0 where there
    is none, NaN where it cannot be told (yet)."""

    amplitude: float = math.nan
    hz: float = math.nan
    stripes: float = math.nan


class FlickerMeter:
    """Light curves of the newest frames."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=_WINDOW)
        self._light: deque[float] = deque(maxlen=_WINDOW)
        self._stripes: deque[float] = deque(maxlen=_LEAST)
        self._before: NDArray | None = None
        self._level = 0.0

    def update(self, thumbnail: NDArray, stamp: int) -> Flicker:
        """thumbnail (R, C): means in DN of parts of the image; stamp: ns."""
        logs = np.log(thumbnail + np.float32(1.0))
        if self._before is not None:
            change = logs - self._before
            # What moves changes some places, the light all of them.
            rows = np.sort(change, 1)[:, change.shape[1] // 2]
            shift = float(np.sort(rows)[len(rows) // 2])
            self._level += shift
            self._stripes.append(_stripes(rows - shift))
        self._before = logs
        seconds = stamp * 1e-9
        if self._times and seconds <= self._times[-1]:
            self._times.clear()  # no times, or time was set back
            self._light.clear()
        self._times.append(seconds)
        self._light.append(self._level)
        stripes = median(self._stripes) if len(self._stripes) >= _LEAST // 2 else math.nan
        return Flicker(*self._swing(), stripes)

    def _swing(self) -> tuple[float, float]:
        count = len(self._times)
        if count < _LEAST:
            return math.nan, math.nan
        if max(self._light) - min(self._light) < 2 * _LEAST_SWING:
            return 0.0, math.nan
        times = np.array(self._times) - self._times[0]
        light = np.array(self._light)
        trend = np.stack([np.ones(count), times / times[-1], np.square(times / times[-1])], 1)
        light = light - trend @ np.linalg.lstsq(trend, light, rcond=None)[0]
        total = float(light @ light)
        step = float(np.median(np.diff(times)))
        best, judged = (0.0, math.nan, 0.0), False
        for hz in MAINS_HZ:
            cycles = hz * step
            if abs(cycles - round(cycles)) / step * times[-1] < _LEAST_CYCLES:
                continue
            judged = True
            phase = 2 * np.pi * hz * times
            waves = np.stack([np.cos(phase), np.sin(phase)], 1)
            weights = np.linalg.lstsq(waves, light, rcond=1e-3)[0]
            fitted = waves @ weights
            explained = float(fitted @ fitted) / max(total, 1e-12)
            if explained > max(best[2], _EXPLAINED):
                best = math.sqrt(2 * float(fitted @ fitted) / count), hz, explained
        return best[:2] if judged else (math.nan, math.nan)


def _stripes(rows: NDArray) -> float:
    """Amplitude of the strongest sine over the rows, 0 where it is not most of what there is."""
    count = len(rows)
    if float(rows.max() - rows.min()) < 2 * _LEAST_SWING:
        return 0.0
    real, imaginary = np.square(rows.dot(_waves(count))).reshape(2, -1)
    power = (real + imaginary).tolist()
    total = sum(power)
    inside = power[_STRIPES]
    place = inside.index(max(inside)) + _STRIPES.start
    near = sum(power[max(place - 1, 1) : place + 2])
    if total <= 0 or near < _EXPLAINED * total:
        return 0.0
    # A Hann window spreads a sine of amplitude 1 over three bins, of (count / 4)^2 (1 + 2 / 4) together.
    return 4 * math.sqrt(near / 1.5) / count


@lru_cache(maxsize=4)
def _waves(count: int) -> NDArray[np.float64]:
    """(count, 2 (count // 2 + 1)): what takes the mean and a sloping line off ``count`` values, puts a Hann window on
    them and makes the real and the imaginary parts of the discrete Fourier transform of that."""
    level, line = np.ones(count), np.linspace(-1, 1, count)
    flat = np.eye(count) - np.outer(level, level) / count - np.outer(line, line) / float(line @ line)
    spectrum = np.fft.rfft(np.hanning(count)[:, None] * flat, axis=0).T
    return np.concatenate([spectrum.real, spectrum.imag], 1)
