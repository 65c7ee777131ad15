"""What a tracker can be told, and the presets."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

from edge_vision.tracking.motion import MotionNoise

OUTPUT_BOXES = ("filtered", "detected")


@dataclass(frozen=True, slots=True)
class TrackerParameters:
    """Parameters of `Tracker`. Times are seconds of header time, scores and overlaps lie in 0..1.

    Scores:
    low_score: detections below are ignored;
    high_score: detections from here on are matched first and may start tracks; those between low and high only
        continue confirmed tracks (ByteTrack's second stage). Equal to low_score, there is no second stage;
    new_score: what a detection needs to start a track.

    Association (a pair is possible where its similarity is above the gate):
    match_gate: confident detections with confirmed and lost tracks;
    low_gate: weak detections with confirmed tracks;
    tentative_gate: confident detections with tentative tracks;
    fuse_score: the similarity of confident detections is IoU x score instead of IoU;
    grow: a second look for tracks so young that their velocity is a guess: confident detections that are left may
        continue them where both boxes, grown by this many standard deviations of the track's predicted position,
        overlap above grow_gate. Meets fast objects at low frame rates, whose boxes no longer touch; 0: none;
    class_agnostic: boxes of another class may continue a track, whose class is then voted (score-weighted majority);
        False: only boxes of the same class;
    class_memory: the most votes (sum of scores) that a track's class can save up against another.

    Life:
    confirm_hits, confirm_score, confirm_after: a track is confirmed when it has gathered this many detections, this
        sum of scores, and lived for this many seconds (all three): weak detections need more frames than strong ones;
    confirm_first: tracks of the first frame (or the first after a restart) are confirmed at once;
    tentative_lost_after: an unconfirmed track is dropped when unseen for longer; 0: at its first miss;
    lost_after: a confirmed track is dropped when unseen for longer;
    restart_after: a longer step between stamps drops all tracks, as a step backwards does (ids go on).

    Output:
    output_box: of a track seen in this frame, the Kalman filter's box ("filtered", smoother) or the detector's
        ("detected"); an unseen track has the predicted box;
    publish_tentative, publish_lost: report these, too.
    """

    low_score: float = 0.1
    high_score: float = 0.6
    new_score: float = 0.7
    match_gate: float = 0.1
    low_gate: float = 0.5
    tentative_gate: float = 0.3
    fuse_score: bool = True
    grow: float = 0.0
    grow_gate: float = 0.2
    class_agnostic: bool = True
    class_memory: float = 10.0
    confirm_hits: int = 2
    confirm_score: float = 0.0
    confirm_after: float = 0.0
    confirm_first: bool = True
    tentative_lost_after: float = 0.0
    lost_after: float = 1.0
    restart_after: float = 3.0
    output_box: str = "filtered"
    publish_tentative: bool = False
    publish_lost: bool = False
    noise: MotionNoise = field(default_factory=MotionNoise)

    def __post_init__(self) -> None:
        for name in ("low_score", "high_score", "new_score", "match_gate", "low_gate", "tentative_gate"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"tracker parameter {name!r} must lie in 0..1, got {value}")
        if self.low_score > self.high_score:
            raise ValueError(
                f"tracker parameter 'low_score' ({self.low_score}) must not exceed 'high_score' ({self.high_score})"
            )
        names = (
            "grow",
            "class_memory",
            "confirm_score",
            "confirm_after",
            "tentative_lost_after",
            "lost_after",
            "restart_after",
        )
        for name in names:
            value = getattr(self, name)
            if not value >= 0.0:
                raise ValueError(f"tracker parameter {name!r} must be zero or more, got {value}")
        if self.confirm_hits < 1:
            raise ValueError(f"tracker parameter 'confirm_hits' must be at least 1, got {self.confirm_hits}")
        if self.output_box not in OUTPUT_BOXES:
            raise ValueError(
                f"tracker parameter 'output_box' must be one of {', '.join(OUTPUT_BOXES)}, got {self.output_box!r}"
            )


PRESETS: dict[str, TrackerParameters] = {
    # Lower scores may start a track, but must gather more evidence: small and quantised detectors score low.
    "edge_vision": TrackerParameters(high_score=0.5, new_score=0.5, confirm_score=1.5, grow=2.0),
    # The published thresholds.
    "bytetrack": TrackerParameters(),
    # One stage, plain IoU; lost tracks are kept for a second (the original's one frame costs 7 points of IDF1).
    "sort": TrackerParameters(
        low_score=0.6,
        high_score=0.6,
        new_score=0.6,
        match_gate=0.3,
        tentative_gate=0.3,
        fuse_score=False,
        confirm_hits=3,
    ),
}


def preset(name: str, **overrides: Any) -> TrackerParameters:
    """The parameters of a preset with some replaced; ValueError names what is unknown and what there is."""
    if name not in PRESETS:
        raise ValueError(f"unknown tracker preset {name!r}: choose one of {', '.join(PRESETS)}")
    known = {entry.name for entry in fields(TrackerParameters)}
    unknown = sorted(set(overrides) - known)
    if unknown:
        raise ValueError(f"unknown tracker parameter {', '.join(unknown)}: there are {', '.join(sorted(known))}")
    return replace(PRESETS[name], **overrides)
