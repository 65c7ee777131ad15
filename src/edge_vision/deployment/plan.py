"""From launch arguments to processes: which nodes, where, with which parameters, and why."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edge_vision.deployment import parameter_files
from edge_vision.deployment.arguments import (
    ARGUMENTS,
    NO_SOURCE,
    DeploymentError,
    camera_sources,
    checked,
    is_namespace,
)
from edge_vision.deployment.parameter_files import Scalar
from edge_vision.deployment.process import Process
from edge_vision.inference.errors import ModelError
from edge_vision.inference.hardware import Hardware, detect_hardware
from edge_vision.inference.profiles import load_profile, on_machine, profile_name
from edge_vision.paths import share_directory

NODES = (
    "camera",
    "quality",
    "enhance",
    "inference",
    "tracking",
    "counter",
    "multi_camera",
    "overlay",
    "monitor",
    "recorder",
)
"""What can be started, in the order in which data flows; each is also the name of its executable."""

# Which node takes a launch argument as its parameter of the same name.
_NODE_OF = {"source": "camera", "camera_motion": "tracking"} | dict.fromkeys(
    ("model", "hardware", "backend", "precision"), "inference"
)
_OTHERWISE = ("counters", "quality_rate", "reference_image", "rig", "use_sim_time")  # become parameters as well
# Topics of others by the argument that names them.
_INPUTS = {"detections_topic": "detections", "imu_topic": "imu", "odometry_topic": "odom"}
_COMPRESSED = "/compressed"
_TAKE_ENHANCED = ("inference", "tracking", "counter", "overlay", "recorder")
_TAKE_IMAGES = ("quality", "inference", "tracking", "overlay", "recorder")
_RVIZ_TOPICS = ("image_raw", "overlay", "markers", "camera_info")
_PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")

Parameters = dict[str, dict[str, Scalar]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start. environment: to be set for every process; notes: what was decided and why, for the log."""

    processes: tuple[Process, ...]
    environment: Mapping[str, str]
    notes: tuple[str, ...]
    rviz: Process | None = None


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
        return _rig_plan(given, extra_nodes, parameters or {}, environ, machine)
    value = {argument.name: argument.default for argument in ARGUMENTS} | given
    image_topic, compressed = _image_topic(value["image_topic"])
    foreign = value["detections_topic"]
    elsewhere = image_topic or foreign or value["quality"] == "only"
    has_camera = value["source"] not in NO_SOURCE and ("source" in given or not elsewhere)
    if has_camera and foreign:
        raise DeploymentError(
            f"source:={value['source']} and detections_topic:={foreign} exclude each other: frames of ours, or "
            "detections of another node"
        )
    if has_camera and compressed:
        raise DeploymentError(
            f"image_topic:={value['image_topic']}: the camera node publishes images uncompressed; "
            "leave /compressed away, or source:=none to take them from another node"
        )
    if value["enhance"] == "true" and (foreign or compressed):
        raise DeploymentError(
            "enhance:=true: it takes uncompressed images and gives them to our inference; leave detections_topic and "
            "/compressed away, or enhance:=false"
        )
    nodes = _nodes(value, has_camera, extra_nodes)
    namespace = _absolute(value["namespace"])
    profile_note, kind = _hardware(value["hardware"], machine)
    if value["counters"]:
        given["counters"] = str(_file("counters", value["counters"], "docs/counting.md"))
    if value["reference_image"]:
        given["reference_image"] = str(_file("reference_image", value["reference_image"], "docs/quality_node.md"))
    given_parameters = _parameters(given, nodes, kind, compressed, parameters or {})
    inputs = ((topic, value[argument]) for argument, topic in _INPUTS.items())
    enhanced = _enhanced_remaps() if "enhance" in nodes else ()
    remaps = (
        enhanced + _remaps(image_topic) + tuple((topic, other) for topic, other in inputs if other not in ("", topic))
    )
    user_file = _user_file(value["params_file"])

    groups = {"pipeline": nodes} if value["composed"] == "true" else {node: (node,) for node in nodes}
    processes = _processes(groups, given_parameters, namespace, user_file, remaps, value["log_level"], environ)
    environment, environment_note = _environment(environ)
    notes = [
        profile_note if "inference" in nodes else "",
        _nodes_note(value, groups, has_camera, image_topic),
        _parameters_note(user_file, given),
        environment_note,
        *_warnings(user_file, [namespace]),
    ]
    rviz = _rviz(value["rviz_config"], namespace, remaps) if value["use_rviz"] == "true" else None
    return Plan(processes, environment, tuple(note for note in notes if note), rviz)


def _rig_plan(
    given: Mapping[str, str],
    extra_nodes: Sequence[str],
    parameters: Mapping[str, Mapping[str, Scalar]],
    environ: Mapping[str, str],
    machine: Hardware | None,
) -> Plan:
    """multi_camera, and the cameras that are to be started, each below the namespace that it is in."""
    file = _file("rig", given["rig"], "docs/multi_camera.md")
    names = _cameras_of(file)
    sources = camera_sources(given.get("sources", ""), names)
    namespace, log_level = _absolute(given.get("namespace", "")), given.get("log_level", "info")
    user_file = _user_file(given.get("params_file", ""))
    own = ("rig", "sources", "use_rviz", "rviz_config")
    shared = {name: value for name, value in given.items() if name not in own}
    cameras = {
        name: plan(
            {**shared, "source": source, "namespace": f"{namespace}/{name}"},
            extra_nodes=extra_nodes,
            parameters=parameters,
            environ=environ,
            machine=machine,
        )
        for name, source in sources.items()
    }
    node = ("multi_camera",)
    own_parameters = _parameters({**given, "rig": str(file)}, node, "", False, parameters)
    processes = _processes({node[0]: node}, own_parameters, namespace, user_file, (), log_level, environ)
    environment, environment_note = _environment(environ)
    elsewhere = [name for name in names if name not in sources]
    notes = [
        *([next(iter(cameras.values())).notes[0]] if cameras else []),
        f"cameras started: {', '.join(f'{name} ({source})' for name, source in sources.items())}" if sources else "",
        f"tracks expected from elsewhere: {', '.join(f'{namespace}/{n}/tracks/state' for n in elsewhere)}"
        if elsewhere
        else "",
        _parameters_note(user_file, given),
        environment_note,
        *_warnings(user_file, [namespace, *(f"{namespace}/{name}" for name in names)]),
    ]
    rviz = None
    if given.get("use_rviz") == "true":
        rviz = _rviz(given.get("rviz_config", ""), namespace, (), "multi_camera.rviz", ("objects/markers",))
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


def _processes(
    groups: Mapping[str, Sequence[str]],
    parameters: Parameters,
    namespace: str,
    user_file: Path | None,
    remaps: tuple[tuple[str, str], ...],
    log_level: str,
    environ: Mapping[str, str],
) -> tuple[Process, ...]:
    """A process for each group of nodes, named after its executable."""
    common = [share_directory() / "config" / "detect.yaml", *([user_file] if user_file else [])]
    processes = []
    for name, members in groups.items():
        own = {node: parameters[node] for node in members if parameters[node]}
        generated = (parameter_files.generate(own, parameter_files.scratch_directory(environ)),) if own else ()
        processes.append(
            Process(
                name=name,
                executable=name,
                nodes=tuple(members),
                arguments=tuple(members) if name == "pipeline" else (),
                namespace=namespace,
                parameter_files=(*common, *(file.path for file in generated)),
                generated=generated,
                remaps=remaps,
                log_arguments=_log_arguments(log_level, members, namespace),
            )
        )
    return tuple(processes)


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


def _image_topic(topic: str) -> tuple[str, bool]:
    """The topic of the images without the suffix of the transport, and whether that is `compressed`."""
    if topic.endswith(_COMPRESSED):
        return topic[: -len(_COMPRESSED)], True
    return topic, False


def _remaps(image_topic: str) -> tuple[tuple[str, str], ...]:
    """image_raw, what lies below it, and camera_info beside it, which is where image_transport looks for it."""
    if image_topic in ("", "image_raw"):
        return ()
    parent = image_topic.rpartition("/")[0]
    info = f"{parent}/camera_info" if parent or image_topic.startswith("/") else "camera_info"
    below = tuple((f"image_raw{suffix}", f"{image_topic}{suffix}") for suffix in ("", "/shared", _COMPRESSED))
    return below if info == "camera_info" else (*below, ("camera_info", info))


def _enhanced_remaps() -> tuple[tuple[str, str], ...]:
    """Enhanced images and their camera_info in place of the camera's, for all that look at results: boxes are in pixels
    of the image that they were found in. These rules come first, and the first that fits a name wins."""
    pairs = (
        ("image_raw", "image_enhanced"),
        ("image_raw/shared", "image_enhanced/shared"),
        ("camera_info", "image_enhanced/camera_info"),
    )
    return tuple((f"{node}:{topic}", other) for node in _TAKE_ENHANCED for topic, other in pairs)


def _absolute(namespace: str) -> str:
    stripped = namespace.strip("/")
    return f"/{stripped}" if stripped else ""


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


def _user_file(name: str) -> Path | None:
    return _file("params_file", name, "config/detect.yaml") if name else None


def _file(argument: str, name: str, example: str) -> Path:
    path = Path(name).expanduser().absolute()
    if not path.is_file():
        raise DeploymentError(f"{argument}:={name}: there is no such file; {example} shows what one looks like")
    return path


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


def _log_arguments(level: str, nodes: Sequence[str], namespace: str) -> tuple[str, ...]:
    """For debug the nodes' own loggers only: DDS and rcl would drown them."""
    if level == "info":
        return ()
    if level != "debug":
        return "--log-level", level
    prefix = namespace.strip("/").replace("/", ".") + "." if namespace else ""
    loggers = [*(prefix + node for node in nodes), "edge_vision"]
    return tuple(item for logger in loggers for item in ("--log-level", f"{logger}:=debug"))


def _environment(environ: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """Fast DDS through shared memory, unless the user has a profile of their own."""
    for variable in _PROFILE_VARIABLES:
        if environ.get(variable):
            return {}, f"Fast DDS profile: {environ[variable]}, as {variable} says"
    profile = share_directory() / "config" / "fastdds.xml"
    return dict.fromkeys(_PROFILE_VARIABLES, str(profile)), f"Fast DDS profile: {profile} (shared memory)"


def _rviz(
    config: str,
    namespace: str,
    remaps: tuple[tuple[str, str], ...],
    default: str = "detect.rviz",
    shown: Sequence[str] = _RVIZ_TOPICS,
) -> Process:
    path = Path(config).expanduser().absolute() if config else share_directory() / "config" / "rviz" / default
    if not path.is_file():
        raise DeploymentError(f"rviz_config:={config}: {path} is not there; leave it empty for the package's own")
    # The file names topics from the root, so that it also serves without us; here they go into the namespace.
    moved = dict(remaps)
    topics = tuple((f"/{topic}", moved.get(topic, topic)) for topic in shown if namespace or topic in moved)
    return Process("rviz2", "rviz2", (), ("-d", str(path)), namespace, remaps=topics, package="rviz2")


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


def _parameters_note(user_file: Path | None, given: Mapping[str, str]) -> str:
    carried = [name for name, text in given.items() if text and (name in _NODE_OF or name in _OTHERWISE)]
    layers = ["config/detect.yaml", *([str(user_file)] if user_file else [])]
    layers += [f"the arguments {', '.join(carried)}"] if carried else []
    return f"parameters, the later ones win: {', '.join(layers)}"


def _warnings(user_file: Path | None, namespaces: Sequence[str]) -> list[str]:
    if user_file is None:
        return []
    lost = parameter_files.unmatched(user_file, [f"{place}/{node}" for place in namespaces for node in NODES])
    return [
        f"warning: {user_file}: the entry {pattern} is for no node of this launch, ROS will not use it; "
        f"the nodes are {namespaces[-1]}/camera and so on, /**/camera means camera in any namespace"
        for pattern in lost
    ]
