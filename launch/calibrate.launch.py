"""A camera is calibrated, or its calibration checked, without a screen:

    ros2 launch edge_vision calibrate.launch.py source:=/dev/video0 board:=my_board.yaml web:=true
    ros2 launch edge_vision calibrate.launch.py image_topic:=/front/image_raw autocommit:=true     # somebody's camera
    ros2 launch edge_vision calibrate.launch.py source:=sim://board                                # nothing needed
    ros2 launch edge_vision calibrate.launch.py mode:=check source:=/dev/video0 board:=my_board.yaml

What is started and with which parameters is decided in edge_vision.deployment; this file hands it to launch.
"""

from edge_vision.deployment import CALIBRATION_ARGUMENTS, calibration_plan
from edge_vision.ros.launching import description_of
from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    return description_of(CALIBRATION_ARGUMENTS, calibration_plan)
