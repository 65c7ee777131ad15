"""Detections in, tracks out: motion model, association, trackers. From boxes and stamps alone."""

from edge_vision.tracking.motion import MotionNoise
from edge_vision.tracking.parameters import PRESETS, TrackerParameters
from edge_vision.tracking.tracker import Tracker

__all__ = ["PRESETS", "MotionNoise", "Tracker", "TrackerParameters"]
