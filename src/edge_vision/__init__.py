"""Edge vision for ROS 2: calibrated images, quality figures, detections and tracks.

The rooms (`sources`, `inference`, `tracking`, ...) are plain Python and need no ROS;
only `edge_vision.ros` and `edge_vision.nodes` import it. See docs/architecture.md.
"""

__version__ = "0.1.0"
