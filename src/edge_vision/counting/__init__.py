"""Counters: objects that cross lines and stay in zones, by class."""

from edge_vision.counting.counter import ANCHORS, Counter
from edge_vision.counting.regions import CountingError, Layout, Line, Zone, read_layout

__all__ = ["ANCHORS", "Counter", "CountingError", "Layout", "Line", "Zone", "read_layout"]
