"""detect.launch.py for a Raspberry Pi with a camera: its hardware profile, and the first V4L2 device as source."""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir

from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "source", default_value="/dev/video0", description="As of detect.launch.py, but the first camera."
            ),
            IncludeLaunchDescription(
                PathJoinSubstitution([ThisLaunchFileDir(), "detect.launch.py"]),
                launch_arguments={"hardware": "raspberry_pi", "source": LaunchConfiguration("source")}.items(),
            ),
        ]
    )
