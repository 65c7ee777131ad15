"""What the launch files share: arguments and a plan of `edge_vision.deployment`, as a description for `ros2 launch`.

`launch` comes with ROS from apt only (docs/launch.md): nothing but launch files may import this module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction
from launch.events.process import ProcessExited
from launch.launch_context import LaunchContext
from launch.launch_description import LaunchDescription
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.logging import get_logger
from launch_ros.actions import Node
from launch_ros.utilities import make_namespace_absolute, prefix_namespace

from edge_vision.deployment import Argument, Plan, Process

log = get_logger("edge_vision")


def description_of(arguments: Sequence[Argument], plan: Callable[[Mapping[str, str]], Plan]) -> LaunchDescription:
    """Declares all arguments at the top; starts what `plan` makes of those that were given."""
    given: dict[str, str] = {}
    names = [argument.name for argument in arguments]
    return LaunchDescription(
        [
            OpaqueFunction(function=_note_given, args=[names, given]),
            *[_declared(argument) for argument in arguments],
            OpaqueFunction(function=_start, args=[names, given, plan]),
        ]
    )


def _note_given(context: LaunchContext, names: Sequence[str], given: dict[str, str]) -> None:
    """Before defaults are filled in: only what was given is stronger than the user's parameter file."""
    given.clear()
    known = context.launch_configurations
    given.update({name: known[name] for name in names if name in known})


def _declared(argument: Argument) -> DeclareLaunchArgument:
    # Python launch files pass str(True) as often as 'true'.
    choices = [*(argument.choices or ()), "True", "False"] if argument.boolean else argument.choices
    return DeclareLaunchArgument(
        argument.name, default_value=argument.default, description=argument.description, choices=choices
    )


def _start(
    context: LaunchContext, names: Sequence[str], given: dict[str, str], plan: Callable[[Mapping[str, str]], Plan]
) -> list[LaunchDescriptionEntity]:
    for name in names:  # a default must not look given to a second camera's launch in the same context
        if name not in given:
            context.launch_configurations.pop(name, None)
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


def _node(process: Process, environment: Mapping[str, str]) -> Node:
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
