"""Pictures for people: detections and tracks drawn onto the image they were found in."""

from edge_vision.drawing.counters import draw_counts
from edge_vision.drawing.overlay import OverlayOptions, OverlayRenderer

__all__ = ["OverlayOptions", "OverlayRenderer", "draw_counts"]
