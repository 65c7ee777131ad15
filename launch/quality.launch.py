"""How good somebody's images are, with no model of ours:

    ros2 launch edge_vision quality.launch.py image_topic:=/front/image_raw
    ros2 launch edge_vision quality.launch.py image_topic:=/front/image_raw reference_image:=good.png rate:=0

Arguments of detect.launch.py for images and nodes can be given too: namespace, params_file, source (our camera node).
"""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir

from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            DeclareLaunchArgument("image_topic", default_value="image_raw", description="Topic of sensor_msgs/Image."),
            DeclareLaunchArgument("rate", default_value="", description="As quality_rate of detect.launch.py."),
            IncludeLaunchDescription(
                PathJoinSubstitution([ThisLaunchFileDir(), "detect.launch.py"]),
                launch_arguments={
                    "quality": "only",
                    "image_topic": LaunchConfiguration("image_topic"),
                    "quality_rate": LaunchConfiguration("rate"),
                }.items(),
            ),
        ]
    )
