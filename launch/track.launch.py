"""Tracks of somebody else's detections, with no camera and no model of ours:

    ros2 launch edge_vision track.launch.py detections_topic:=/detector/detections

All arguments of detect.launch.py can be given; with image_topic the tracks are drawn too.
"""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir

from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "detections_topic", default_value="detections", description="Topic of vision_msgs/Detection2DArray."
            ),
            IncludeLaunchDescription(
                PathJoinSubstitution([ThisLaunchFileDir(), "detect.launch.py"]),
                launch_arguments={"detections_topic": LaunchConfiguration("detections_topic")}.items(),
            ),
        ]
    )
