"""Several cameras, one id an object:

    ros2 launch edge_vision multi_camera.launch.py rig:=rig.yaml                          # their pipelines run already
    ros2 launch edge_vision multi_camera.launch.py rig:=rig.yaml sources:="door=/dev/video0 hall=/dev/video2"

All arguments of detect.launch.py can be given; they are for the cameras that are started.
"""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir

from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            DeclareLaunchArgument("rig", description="YAML rig file of the cameras (docs/multi_camera.md)."),
            IncludeLaunchDescription(
                PathJoinSubstitution([ThisLaunchFileDir(), "detect.launch.py"]),
                launch_arguments={"rig": LaunchConfiguration("rig")}.items(),
            ),
        ]
    )
