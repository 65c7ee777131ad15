"""Camera, inference, tracking and overlay:  ros2 launch edge_vision detect.launch.py source:=/dev/video0

What is started and with which parameters is decided in edge_vision.deployment; this file hands it to launch.
"""

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction
from launch.events.process import ProcessExited
from launch.logging import get_logger
from launch_ros.actions import Node
from launch_ros.utilities import make_namespace_absolute, prefix_namespace

from edge_vision.deployment import ARGUMENTS, Argument, Process, plan
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity

log = get_logger("edge_vision")


def generate_launch_description() -> LaunchDescription:
    given: dict[str, str] = {}
    return LaunchDescription(
        [
            OpaqueFunction(function=_note_given, args=[given]),
            *[_declared(argument) for argument in ARGUMENTS],
            OpaqueFunction(function=_start, args=[given]),
        ]
    )


def _note_given(context: LaunchContext, given: dict[str, str]) -> None:
    """Before defaults are filled in: only what was given is stronger than the user's parameter file."""
    given.clear()
    known = context.launch_configurations
    given.update({argument.name: known[argument.name] for argument in ARGUMENTS if argument.name in known})


def _declared(argument: Argument) -> DeclareLaunchArgument:
    # Python launch files pass str(True) as often as 'true'.
    choices = [*argument.choices, "True", "False"] if argument.boolean else argument.choices
    return DeclareLaunchArgument(
        argument.name, default_value=argument.default, description=argument.description, choices=choices
    )


def _start(context: LaunchContext, given: dict[str, str]) -> list[LaunchDescriptionEntity]:
    for argument in ARGUMENTS:  # a default must not look given to a second camera's launch in the same context
        if argument.name not in given:
            context.launch_configurations.pop(argument.name, None)
    outer = context.launch_configurations.get("ros_namespace")
    namespace = make_namespace_absolute(prefix_namespace(outer, given.get("namespace", ""))) or ""
    decided = plan({**given, "namespace": namespace})
    actions: list[LaunchDescriptionEntity] = [LogInfo(msg=note) for note in decided.notes]
    actions += [_node(process, decided.environment) for process in decided.processes]
    if decided.rviz is not None:
        try:
            get_package_prefix(decided.rviz.package)
            actions.append(_node(decided.rviz, decided.environment))
        except PackageNotFoundError:
            log.warning("use_rviz:=true, but rviz2 is not installed (apt: ros-$ROS_DISTRO-rviz2); going on without it")
    return actions


def _node(process: Process, environment: dict[str, str]) -> Node:
    process.prepare()
    return Node(
        package=process.package,
        executable=process.executable,
        exec_name=process.name,
        namespace=process.namespace or None,
        arguments=list(process.arguments),
        parameters=list(process.parameter_files),
        remappings=list(process.remaps),
        ros_arguments=list(process.log_arguments),
        additional_env=dict(environment),
        output="screen",
        on_exit=_report,
    )


def _report(event: ProcessExited, context: LaunchContext) -> None:
    if event.returncode and not context.is_shutdown:
        log.error(
            f"{event.process_name} ended with exit code {event.returncode}; its lines above say why. "
            "What else was started goes on."
        )
