"""What a tracker can be told, and the presets."""

from __future__ import annotations

import math
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
    new_score: what a detection needs to start a track, and at least score_margin more than high_score;
    score_reach: high_score follows the valley in the histogram of the detector's scores, up to so far from the value
        given (`scores`); 0: it stays;

    Association (a pair is possible where its similarity is above the gate):
    match_gate: confident detections with confirmed and lost tracks;
    low_gate: weak detections with confirmed tracks;
    low_slack: how far low_gate gives way where the prediction is unsure, as at low frame rates: it is divided by
        1 + low_slack x (standard deviation of the predicted place - 0.1, in sizes of the box; 0.2 at most); not in
        the cascade;
    tentative_gate: confident detections with tentative tracks;
    cascade: these three one after the other (ByteTrack). False: all at once, by similarity x the ratio of
        match_gate to the gate of the pair's kind, so a better pair of any kind wins; weak detections do not continue
        lost and tentative tracks;
    fuse_score: the similarity of confident detections is IoU x score instead of IoU;
    direction: how much a detection in the direction in which the track was moving counts more, one against it less
        (OC-SORT's momentum, measured between observations); 0: nothing;
    shape: how much less a pair counts at most because the heights differ, from 2 standard deviations on; 0: nothing;
    observed_gate: a further look for unmatched tracks: their last *detected* box overlaps a confident detection by
        more than this (OC-SORT's recovery); after a gap, the velocity is then taken from the two detections; 1: none;
    grow: a second look for tracks so young that their velocity is a guess: confident detections that are left may
        continue them where both boxes, grown by this many standard deviations of the track's predicted position,
        overlap above grow_gate. Meets fast objects at low frame rates, whose boxes no longer touch; 0: none;
    class_agnostic: boxes of another class may continue a track, whose class is then voted (score-weighted majority);
        False: only boxes of the same class;
    class_change: a pair of different classes counts this fraction less, so that another object of the right class
        wins, and a poor fit of the wrong class is none (with class_agnostic);
    double_iou: of two detections of different classes that overlap by more, only the one that scores higher is taken
        (with class_agnostic): one object, found as two; 1: both;
    class_memory: the most votes (sum of scores) that a track's class can save up against another.

    Appearance (where the tracker is given features, `appearance`):
    appearance_weight: how much the look counts: an overlap counts up to half of this more or less by it; 0: nothing;
    appearance_gate: how sure it must be, 0..1, that a track which was lost, or has ended, is found again by its look
        alone; 1: never;
    remembered_for: a track that has ended can come back so by its look until it was unseen for longer.

    Motion:
    noise: of the Kalman filter, relative to the size of the box (`motion.MotionNoise`);
    least_agility: the noise's agility follows the scene down to this fraction of it (`agility`); 1: it stays;
    velocity_lasts: where things are seen to change their ways, velocities fade within so many seconds; inf: nowhere.

    Life:
    confirm_hits, confirm_score, confirm_after: a track is confirmed when it has gathered this many detections, this
        sum of scores, and lived for this many seconds (all three): weak detections need more frames than strong ones;
    clutter: confirm_score is this fraction higher where no track that starts is seen again, and less so the more are:
        a detector with many false ones has to be surer;
    sure_score: a track that starts from a detection with this score is confirmed at once where nearly all that start
        are seen again (`life.SURE_SHARE`); 1: none;
    confirm_first: tracks of the first frame (or the first after a restart) are confirmed at once;
    tentative_lost_after: an unconfirmed track is dropped when unseen for longer; 0: at its first miss;
    lost_after: a confirmed track is dropped when unseen for longer;
    duplicate_iou: of a lost and a living track that overlap by more, the younger is dropped; 1: none;
    restart_after: a longer step between stamps drops all tracks, as a step backwards does (ids go on).

    Output:
    output_box: of a track seen in this frame, the Kalman filter's box ("filtered", smoother) or the detector's
        ("detected"); an unseen track has the predicted box;
    coast: a confirmed track that is not seen goes on being reported, as lost, at its predicted place, while the chance
        that its object is there is at least this (`steps.shown`); 1: never;
    publish_tentative, publish_lost: report these, too.
    """

    low_score: float = 0.1
    high_score: float = 0.6
    new_score: float = 0.7
    score_margin: float = 0.0
    score_reach: float = 0.0
    match_gate: float = 0.1
    low_gate: float = 0.5
    low_slack: float = 0.0
    tentative_gate: float = 0.3
    cascade: bool = True
    fuse_score: bool = True
    direction: float = 0.0
    observed_gate: float = 1.0
    grow: float = 0.0
    grow_gate: float = 0.2
    shape: float = 0.0
    class_agnostic: bool = True
    class_change: float = 0.0
    class_memory: float = 10.0
    double_iou: float = 1.0
    confirm_hits: int = 2
    confirm_score: float = 0.0
    confirm_after: float = 0.0
    clutter: float = 0.0
    sure_score: float = 1.0
    confirm_first: bool = True
    tentative_lost_after: float = 0.0
    lost_after: float = 1.0
    duplicate_iou: float = 0.85
    restart_after: float = 3.0
    output_box: str = "filtered"
    coast: float = 1.0
    publish_tentative: bool = False
    publish_lost: bool = False
    least_agility: float = 1.0
    velocity_lasts: float = math.inf
    appearance_weight: float = 0.9
    appearance_gate: float = 0.93
    remembered_for: float = 10.0
    noise: MotionNoise = field(default_factory=MotionNoise)

    def __post_init__(self) -> None:
        for name in (
            "low_score",
            "high_score",
            "new_score",
            "match_gate",
            "low_gate",
            "tentative_gate",
            "observed_gate",
            "class_change",
            "score_margin",
            "score_reach",
            "sure_score",
            "coast",
            "least_agility",
            "appearance_weight",
            "appearance_gate",
            "duplicate_iou",
        ):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"tracker parameter {name!r} must lie in 0..1, got {value}")
        if self.low_score > self.high_score:
            raise ValueError(
                f"tracker parameter 'low_score' ({self.low_score}) must not exceed 'high_score' ({self.high_score})"
            )
        names = (
            "direction",
            "low_slack",
            "grow",
            "class_memory",
            "confirm_score",
            "confirm_after",
            "clutter",
            "tentative_lost_after",
            "lost_after",
            "restart_after",
            "remembered_for",
        )
        for name in names:
            value = getattr(self, name)
            if not value >= 0.0:
                raise ValueError(f"tracker parameter {name!r} must be zero or more, got {value}")
        if not self.velocity_lasts > 0.0:
            raise ValueError(f"tracker parameter 'velocity_lasts' must be more than zero, got {self.velocity_lasts}")
        if self.confirm_hits < 1:
            raise ValueError(f"tracker parameter 'confirm_hits' must be at least 1, got {self.confirm_hits}")
        if self.output_box not in OUTPUT_BOXES:
            raise ValueError(
                f"tracker parameter 'output_box' must be one of {', '.join(OUTPUT_BOXES)}, got {self.output_box!r}"
            )


PRESETS: dict[str, TrackerParameters] = {
    # One assignment in which a detection's overlap has to make up for a low score; tracks that start need evidence.
    "edge_vision": TrackerParameters(
        high_score=0.45,
        new_score=0.6,
        score_margin=0.1,
        score_reach=0.15,
        cascade=False,
        match_gate=0.15,
        low_gate=0.75,
        low_slack=3.0,
        tentative_gate=0.25,
        shape=0.2,
        lost_after=1.5,
        confirm_score=0.85,
        clutter=3.3,
        sure_score=0.8,
        coast=0.5,
        grow=2.0,
        class_change=0.4,
        double_iou=0.75,
        duplicate_iou=1.0,
        least_agility=0.5,
        velocity_lasts=0.85,
        noise=MotionNoise(agility=2.0),
    ),
    # ByteTrack's published thresholds.
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
        duplicate_iou=1.0,
    ),
    # OC-SORT (Cao et al., Observation-Centric SORT, CVPR 2023): direction of motion, recovery from the last
    # observation, velocity renewed after a gap; no weak detections.
    "ocsort": TrackerParameters(
        low_score=0.6,
        high_score=0.6,
        new_score=0.6,
        match_gate=0.3,
        tentative_gate=0.3,
        fuse_score=False,
        direction=0.2,
        observed_gate=0.3,
        confirm_hits=3,
        duplicate_iou=1.0,
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
