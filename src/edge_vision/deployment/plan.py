"""From launch arguments to processes: which nodes, where, with which parameters, and why."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from edge_vision.deployment.arguments import ARGUMENTS, DeploymentError, checked
from edge_vision.deployment.parameter_files import Scalar
from edge_vision.deployment.parts import (
    NODES,
    Parameters,
    Plan,
    absolute,
    camera_wanted,
    check_transport,
    environment_of,
    existing_file,
    image_remaps,
    image_topic_of,
    parameters_note,
    processes_of,
    rviz_process,
    user_file_of,
    warnings_of,
)
from edge_vision.deployment.rig_plan import rig_plan
from edge_vision.inference.errors import ModelError
from edge_vision.inference.hardware import Hardware, detect_hardware
from edge_vision.inference.profiles import load_profile, on_machine, profile_name

# Which node takes a launch argument as its parameter of the same name.
_NODE_OF = {"source": "camera", "camera_motion": "tracking"} | dict.fromkeys(
    ("model", "hardware", "backend", "precision", "bundle_policy", "trusted_keys", "bundle_key"), "inference"
)
_OTHERWISE = ("counters", "quality_rate", "reference_image", "rig", "use_sim_time")  # become parameters as well
# Topics of others by the argument that names them.
_INPUTS = {"detections_topic": "detections", "imu_topic": "imu", "odometry_topic": "odom"}
_TAKE_ENHANCED = ("inference", "tracking", "counter", "overlay", "recorder")
_TAKE_IMAGES = ("quality", "inference", "tracking", "overlay", "recorder")


def plan(
    values: Mapping[str, str],
    *,
    extra_nodes: Sequence[str] = (),
    parameters: Mapping[str, Mapping[str, Scalar]] | None = None,
    environ: Mapping[str, str] = os.environ,
    machine: Hardware | None = None,
) -> Plan:
    """Decides what to start; starts and writes nothing.

    values: the launch arguments that were *given*; the others have their defaults and leave it to the parameter files.
    extra_nodes: of `NODES`, beyond those that the arguments ask for. parameters: by node, or "/**" for all of them,
    stronger than everything else. machine: instead of the one that this is. Raises DeploymentError.
    """
    given = checked(values)
    if given.get("rig"):
        more: dict[str, Any] = {
            "extra_nodes": extra_nodes,
            "parameters": parameters,
            "environ": environ,
            "machine": machine,
        }
        return rig_plan(
            given,
            parameters=lambda own, nodes: _parameters(own, nodes, "", False, parameters or {}),
            camera=lambda own: plan(own, **more),
            note=lambda user_file: parameters_note(user_file, _carried(given)),
            environ=environ,
        )
    value = {argument.name: argument.default for argument in ARGUMENTS} | given
    image_topic, compressed = image_topic_of(value["image_topic"])
    foreign = value["detections_topic"]
    elsewhere = bool(image_topic or foreign or value["quality"] == "only")
    has_camera = camera_wanted(given, value, elsewhere)
    if has_camera and foreign:
        raise DeploymentError(
            f"source:={value['source']} and detections_topic:={foreign} exclude each other: frames of ours, or "
            "detections of another node"
        )
    check_transport(value["image_topic"], has_camera)
    if value["enhance"] == "true" and (foreign or compressed):
        raise DeploymentError(
            "enhance:=true: it takes uncompressed images and gives them to our inference; leave detections_topic and "
            "/compressed away, or enhance:=false"
        )
    nodes = _nodes(value, has_camera, extra_nodes)
    namespace = absolute(value["namespace"])
    profile_note, kind = _hardware(value["hardware"], machine)
    if value["counters"]:
        given["counters"] = str(existing_file("counters", value["counters"], "docs/counting.md"))
    if value["reference_image"]:
        given["reference_image"] = str(
            existing_file("reference_image", value["reference_image"], "docs/quality_node.md")
        )
    given_parameters = _parameters(given, nodes, kind, compressed, parameters or {})
    inputs = ((topic, value[argument]) for argument, topic in _INPUTS.items())
    enhanced = _enhanced_remaps() if "enhance" in nodes else ()
    remaps = (
        enhanced
        + image_remaps(image_topic)
        + tuple((topic, other) for topic, other in inputs if other not in ("", topic))
    )
    user_file = user_file_of(value["params_file"])

    groups = {"pipeline": nodes} if value["composed"] == "true" else {node: (node,) for node in nodes}
    processes = processes_of(groups, given_parameters, namespace, user_file, remaps, value["log_level"], environ)
    environment, environment_note = environment_of(environ)
    notes = [
        profile_note if "inference" in nodes else "",
        _nodes_note(value, groups, has_camera, image_topic),
        parameters_note(user_file, _carried(given)),
        environment_note,
        *warnings_of(user_file, [namespace]),
    ]
    rviz = rviz_process(value["rviz_config"], namespace, remaps) if value["use_rviz"] == "true" else None
    return Plan(processes, environment, tuple(note for note in notes if note), rviz)


def _nodes(value: Mapping[str, str], has_camera: bool, extra: Sequence[str]) -> tuple[str, ...]:
    unknown = [node for node in extra if node not in NODES]
    if unknown:
        raise DeploymentError(f"unknown node {', '.join(unknown)}; there are {', '.join(NODES)}")
    foreign = bool(value["detections_topic"])
    wanted = {"monitor", *extra} | (set() if foreign else {"inference"}) | ({"camera"} if has_camera else set())
    wanted |= {node for node in ("tracking", "overlay") if value[node] == "true"}
    if foreign and not value["image_topic"]:
        wanted -= {"overlay"}  # nothing to draw on
    if value["quality"] == "only":
        wanted = {"monitor", *extra} | ({"camera"} if has_camera else set())
    wanted |= {"quality"} if value["quality"] != "false" else set()
    wanted |= {"counter"} if value["counters"] else set()
    wanted |= {"enhance"} if value["enhance"] == "true" else set()
    return tuple(node for node in NODES if node in wanted)


def _enhanced_remaps() -> tuple[tuple[str, str], ...]:
    """Enhanced images and their camera_info in place of the camera's, for all that look at results: boxes are in pixels
    of the image that they were found in. These rules come first, and the first that fits a name wins."""
    pairs = (
        ("image_raw", "image_enhanced"),
        ("image_raw/shared", "image_enhanced/shared"),
        ("camera_info", "image_enhanced/camera_info"),
    )
    return tuple((f"{node}:{topic}", other) for node in _TAKE_ENHANCED for topic, other in pairs)


def _parameters(
    given: Mapping[str, str],
    nodes: Sequence[str],
    kind: str,
    compressed: bool,
    more: Mapping[str, Mapping[str, Scalar]],
) -> Parameters:
    """What beats the parameter files: consequences of the arguments, the arguments, then what the caller adds."""
    result: Parameters = {node: {} for node in nodes}
    if compressed:
        for node in _TAKE_IMAGES:
            result.get(node, {})["image_transport"] = "compressed"
    if given.get("tracking") == "false" and "overlay" in result:
        result["overlay"]["objects"] = "detections"
    for name, node in _NODE_OF.items():
        if name in given and node in result:
            result[node][name] = kind if name == "hardware" else given[name]
    if given.get("counters") and "counter" in result:
        result["counter"]["file"] = given["counters"]
    if "quality" in result:
        if given.get("quality_rate"):
            result["quality"]["rate"] = float(given["quality_rate"])
        if given.get("reference_image"):
            result["quality"]["reference_image"] = given["reference_image"]
    if given.get("rig") and "multi_camera" in result:
        result["multi_camera"]["rig"] = given["rig"]
    if "use_sim_time" in given:
        for values in result.values():
            values["use_sim_time"] = given["use_sim_time"] == "true"
    unknown = [node for node in more if node != "/**" and node not in NODES]
    if unknown:
        raise DeploymentError(f"parameters for unknown node {', '.join(unknown)}; there are {', '.join(NODES)} and /**")
    for node, values in result.items():
        values.update({**more.get("/**", {}), **more.get(node, {})})
    return result


def _hardware(wanted: str, machine: Hardware | None) -> tuple[str, str]:
    """The note about the hardware profile, and its kind."""
    machine = machine or detect_hardware()
    kind = profile_name(wanted, machine)
    try:
        profile = on_machine(load_profile(kind), machine)
    except ModelError as error:
        raise DeploymentError(f"hardware:={wanted}: {error}") from None
    threads = profile.threads(machine.cores, machine.physical_cores)
    found = f"{machine.model}, {machine.cores} core{'s' if machine.cores != 1 else ''}"
    why = machine.reason if wanted == "auto" else f"as asked for; auto would say {machine.kind}: {machine.reason}"
    note = (
        f"hardware {kind} on {found}: {why}. Backends to choose from: {', '.join(map(str, profile.candidates))}; "
        f"{threads} thread{'s' if threads != 1 else ''}. {' '.join(profile.notes.split())}"
    )
    return note.rstrip(), kind


def _nodes_note(
    value: Mapping[str, str], groups: Mapping[str, Sequence[str]], has_camera: bool, image_topic: str
) -> str:
    composed = value["composed"] == "true"
    nodes = ", ".join(node for members in groups.values() for node in members)
    note = f"nodes {nodes} in {'one process' if composed else f'{len(groups)} processes'}"
    if has_camera:
        return note
    if value["detections_topic"]:
        return f"{note}; no camera and no inference node: detections come from {value['detections_topic']}"
    return f"{note}; no camera node: images come from {value['image_topic'] or 'image_raw'}"


def _carried(given: Mapping[str, str]) -> list[str]:
    """The arguments that become parameters."""
    return [name for name, text in given.items() if text and (name in _NODE_OF or name in _OTHERWISE)]
