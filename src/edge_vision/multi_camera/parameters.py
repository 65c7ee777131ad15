"""What joining depends on; lengths are metres on the plane, times seconds of header time."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class JoinParameters:
    """Parameters of `MultiCamera`; every one can be set under ``association`` in the rig file.

    box_noise: standard deviation of the anchor, relative to the box' size sqrt(width x height); pixel_noise: px,
    added to it; correlation: how many frames in a row share one error of a tracker: covariances that come with the
    tracks, which are those of filtered boxes, are multiplied by it; alignment: m, how well the cameras'
    calibrations agree on the plane; max_deviation: m, positions less certain than this are not used (near the
    horizon; objects long unseen are not handed over); initial_speed: m/s, standard deviation of the velocity of a
    new object; agility: random walk of the velocity, m/s per sqrt(s); gate: squared Mahalanobis distance up to
    which a track may join an object (chi-square of 2 degrees of freedom: 9.21 is 99 %); keep_gate: the wider one
    (18.4 is 99.99 %) beyond which tracks of one object have drifted apart; class_penalty: added to the squared
    distance where the classes differ (inf: never joined); absence_penalty: the same where the object's own track of
    that camera is only missing and may come back; split_after: s apart before they are split; merge_after: s
    together before two objects become one; lost_after: s that an unseen object is carried on by prediction;
    restart_after: s, a stamp that is this much older than the newest starts anew (a bag that loops).
    """

    box_noise: float = 0.08
    pixel_noise: float = 1.0
    correlation: float = 4.0
    alignment: float = 0.02
    max_deviation: float = 2.0
    initial_speed: float = 2.0
    agility: float = 0.5
    gate: float = 9.21
    keep_gate: float = 18.4
    class_penalty: float = 4.0
    absence_penalty: float = 4.0
    split_after: float = 0.3
    merge_after: float = 0.3
    lost_after: float = 2.0
    restart_after: float = 2.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
                raise ValueError(f"{field.name} is {value!r}: it must be a number of 0 or more")
            if math.isinf(value) and field.name != "class_penalty":
                raise ValueError(f"{field.name} is infinite: only class_penalty may be")
        if self.keep_gate < self.gate:
            raise ValueError(f"keep_gate ({self.keep_gate}) must not be below gate ({self.gate})")
        if self.box_noise == 0 and self.pixel_noise == 0:
            raise ValueError("box_noise and pixel_noise are both 0: no detector is exact")
