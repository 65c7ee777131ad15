"""Camera, inference, tracking and overlay:  ros2 launch edge_vision detect.launch.py source:=/dev/video0

What is started and with which parameters is decided in edge_vision.deployment; this file hands it to launch.
"""

from edge_vision.deployment import ARGUMENTS, plan
from edge_vision.ros.launching import description_of
from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    return description_of(ARGUMENTS, plan)
