"""launch_runner.py FILE name:=value ...: what `ros2 launch` does with a launch file, without the ros2 command."""

import signal
import sys

from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

from launch import LaunchDescription, LaunchService

if __name__ == "__main__":
    # A shell starts what runs in its background with SIGINT ignored, and launch relies on Python's own handler.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    file, *given = sys.argv[1:]
    service = LaunchService(argv=given, noninteractive=True)
    arguments = [tuple(argument.split(":=", 1)) for argument in given]
    source = PythonLaunchDescriptionSource(file)
    service.include_launch_description(
        LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments)])
    )
    sys.exit(service.run())
