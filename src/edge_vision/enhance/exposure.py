"""Automatic exposure: what the camera is asked for, from how bright its pictures are.

The law, in linear light: exposure *= target / median, at most doubled or halved at a time, and left alone within a band
around the target. Light is ``(DN / 255)^(1/s)``, where s is the camera's response: 1 for linear cameras, about 1/2.2
for those that deliver sRGB. Which it is shows as soon as the exposure has been changed: s = d log DN / d log exposure.

Frames that were under way when a change was made say nothing about it. So nothing is decided for some frames after each
change: a law that looks at the old frames would correct the same error twice, and swing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

SRGB = 1 / 2.2
_LEAST_RESPONSE, _MOST_RESPONSE = 0.35, 1.1
_CLIPPED = 0.01  # share of clipped pixels from which exposure is not raised
_BURNT = 0.05  # and from which it is lowered
_STEP = 2.0


@dataclass(frozen=True, slots=True)
class Setting:
    """exposure: s; gain: in the camera's unit."""

    exposure: float
    gain: float


@dataclass(frozen=True, slots=True)
class ExposureLimits:
    """exposure: s, from to; the upper end is what motion allows. gain: from to; equal ends leave it alone."""

    exposure: tuple[float, float] = (2e-5, 0.02)
    gain: tuple[float, float] = (1.0, 8.0)

    def __post_init__(self) -> None:
        for name, (low, high) in (("exposure", self.exposure), ("gain", self.gain)):
            if not 0 < low <= high < math.inf:
                raise ValueError(f"{name} limits are {low:g} .. {high:g}: give two numbers above 0, the smaller first")


class ExposureController:
    """Decides one camera's exposure and gain, a frame at a time.

    target: the median's share of full scale in linear light (0.18 is 118 DN in sRGB, 46 DN of a linear camera).
    response: s of the module, None to learn it. begin, hold: ratios off the target at which it begins to correct and
    is content. settle: frames that a change takes to be seen, at most, those while it is being asked for not counted.
    """

    def __init__(
        self,
        setting: Setting,
        limits: ExposureLimits | None = None,
        *,
        target: float = 0.18,
        response: float | None = None,
        begin: float = 1.20,
        hold: float = 1.07,
        settle: int = 4,
    ) -> None:
        if not 0 < target < 1:
            raise ValueError(f"target is {target}: give a share of full scale in linear light, such as 0.18")
        self.limits = limits or ExposureLimits()
        self.setting = setting
        self.response = SRGB if response is None else response
        self._learning = response is None
        self._target = target
        self._begin, self._hold, self._settle = begin, hold, settle
        self._wait = 0
        self._asked: Setting | None = None
        self._before: tuple[float, float] | None = (
            None  # log of exposure times gain, and of the median, before the change
        )
        self._correcting = False
        self._caution = self._last = 1.0

    @property
    def waiting(self) -> bool:
        """Whether the camera has been asked for something and has not answered."""
        return self._asked is not None

    def update(self, median: float, clipped_bright: float) -> Setting | None:
        """What to ask the camera for after a frame of that median (DN of 255) and share of pixels at full scale; None:
        nothing. What it answered is told by `answered` before the next change."""
        if self._asked is not None or not (math.isfinite(median) and math.isfinite(clipped_bright)):
            return None
        if self._wait > 0:
            self._wait -= 1
            return None
        self._learn(median)
        factor = self._factor(median, clipped_bright)
        off = max(factor, 1 / factor)
        self._correcting = off > (self._hold if self._correcting else self._begin)
        if not self._correcting:
            self._caution, self._last = 1.0, 1.0
            return None
        if (factor - 1) * (self._last - 1) < 0:  # to and fro: whatever is wrong, smaller steps end it
            self._caution *= 0.6
        self._last = factor
        wanted = self._split(min(max(factor, 1 / _STEP), _STEP) ** self._caution)
        if wanted == self.setting:  # at a limit
            return None
        self._asked = wanted
        self._before = (_log_exposure(self.setting), math.log(median)) if 2 < median < 250 else None
        return wanted

    def forget(self) -> None:
        """The camera has not been reached: as if it had not been asked, and some frames' rest before it is again."""
        self._asked = self._before = None
        self._wait = 10 * self._settle

    def answered(self, accepted: bool) -> None:
        """The camera has taken the change, or refused it: then that direction ends at what it has."""
        asked = self._asked
        if asked is None:
            return
        if accepted:
            self.setting = asked
            self._wait = self._settle
        else:
            self._before = None
            self._limit(asked)
        self._asked = None  # last: another thread may be waiting for it

    def _limit(self, asked: Setting) -> None:
        """What was refused is beyond what there is."""
        for name in ("exposure", "gain"):
            have, wished = getattr(self.setting, name), getattr(asked, name)
            low, high = getattr(self.limits, name)
            if wished > have:
                high = max(have, low)
            elif wished < have:
                low = min(have, high)
            self.limits = replace(self.limits, **{name: (low, high)})

    def _factor(self, median: float, clipped: float) -> float:
        """What light should be multiplied by."""
        light = (min(max(median, 0.5), 254.5) / 255) ** (1 / self.response)
        factor = self._target / light
        if clipped > _BURNT:
            factor = min(factor, 1 / 1.3)  # how far above full scale it is cannot be seen
        elif clipped > _CLIPPED:
            factor = min(factor, 1.0)
        return factor

    def _learn(self, median: float) -> None:
        """The response, from the change that has just been seen."""
        before, self._before = self._before, None
        if not self._learning or before is None or not 2 < median < 250:
            return
        step = _log_exposure(self.setting) - before[0]
        if abs(step) > math.log(1.15):
            seen = min(max((math.log(median) - before[1]) / step, _LEAST_RESPONSE), _MOST_RESPONSE)
            self.response += 0.7 * (seen - self.response)

    def _split(self, factor: float) -> Setting:
        """Brighter: exposure first, as it costs no noise, then gain. Darker: gain first."""
        low, high = self.limits.exposure
        least, most = self.limits.gain
        exposure, gain = self.setting.exposure, self.setting.gain
        if factor > 1:
            longer = max(min(exposure * factor, high), exposure)
            gain = max(min(gain * factor * exposure / longer, most), gain)
            return Setting(longer, gain)
        less = min(max(gain * factor, least), gain)
        exposure = min(max(exposure * factor * gain / less, low), exposure)
        return Setting(exposure, less)


def _log_exposure(setting: Setting) -> float:
    return math.log(setting.exposure * setting.gain)
