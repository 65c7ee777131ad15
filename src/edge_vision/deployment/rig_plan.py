"""A rig of cameras: one node that joins them, and those of its cameras that are to be started."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from edge_vision.deployment.arguments import DeploymentError, camera_sources, is_namespace
from edge_vision.deployment.parts import (
    Parameters,
    Plan,
    absolute,
    environment_of,
    existing_file,
    processes_of,
    rviz_process,
    user_file_of,
    warnings_of,
)
from edge_vision.deployment.process import Process


def rig_plan(
    given: Mapping[str, str],
    parameters: Callable[[Mapping[str, str], tuple[str, ...]], Parameters],
    camera: Callable[[Mapping[str, str]], Plan],
    note: Callable[[Path | None], str],
    environ: Mapping[str, str],
) -> Plan:
    """multi_camera, and the cameras that are to be started, each below the namespace that it is in.

    parameters: of nodes, from arguments; camera: the plan of one, from arguments; note: on the parameters.
    """
    file = existing_file("rig", given["rig"], "docs/multi_camera.md")
    names = _cameras_of(file)
    sources = camera_sources(given.get("sources", ""), names)
    namespace, log_level = absolute(given.get("namespace", "")), given.get("log_level", "info")
    user_file = user_file_of(given.get("params_file", ""))
    own = ("rig", "sources", "use_rviz", "rviz_config")
    shared = {name: value for name, value in given.items() if name not in own}
    cameras = {
        name: camera({**shared, "source": source, "namespace": f"{namespace}/{name}"})
        for name, source in sources.items()
    }
    node = ("multi_camera",)
    own_parameters = parameters({**given, "rig": str(file)}, node)
    processes = processes_of({node[0]: node}, own_parameters, namespace, user_file, (), log_level, environ)
    environment, environment_note = environment_of(environ)
    elsewhere = [name for name in names if name not in sources]
    notes = [
        *([next(iter(cameras.values())).notes[0]] if cameras else []),
        f"cameras started: {', '.join(f'{name} ({source})' for name, source in sources.items())}" if sources else "",
        f"tracks expected from elsewhere: {', '.join(f'{namespace}/{n}/tracks/state' for n in elsewhere)}"
        if elsewhere
        else "",
        note(user_file),
        environment_note,
        *warnings_of(user_file, [namespace, *(f"{namespace}/{name}" for name in names)]),
    ]
    rviz = None
    if given.get("use_rviz") == "true":
        rviz = rviz_process(given.get("rviz_config", ""), namespace, (), "multi_camera.rviz", ("objects/markers",))
    return Plan(
        (*processes, *(_with_global_ids(process) for camera in cameras.values() for process in camera.processes)),
        environment,
        tuple(note for note in notes if note),
        rviz,
    )


def _cameras_of(rig: Path) -> list[str]:
    """The names of the rig's cameras, each of which has to do for a namespace."""
    from edge_vision.multi_camera import RigError, read_rig

    try:
        names = [camera.name for camera in read_rig(rig).cameras]
    except RigError as error:
        raise DeploymentError(f"rig:={error}") from None
    for name in names:
        if not is_namespace(name):
            raise DeploymentError(
                f"rig:={rig}: the camera {name!r} is no ROS namespace; use letters, digits and _ between slashes"
            )
    return names


def _with_global_ids(process: Process) -> Process:
    """Overlays of a rig's cameras show the ids that objects have in all of them."""
    if "overlay" not in process.nodes:
        return process
    return replace(process, remaps=(*process.remaps, ("overlay:tracks", "tracks/global")))
