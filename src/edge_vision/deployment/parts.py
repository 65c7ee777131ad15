"""What every plan is made of: nodes, processes, remaps of images, the environment, and what is said about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_vision.deployment import parameter_files
from edge_vision.deployment.arguments import NO_SOURCE, DeploymentError
from edge_vision.deployment.parameter_files import Scalar
from edge_vision.deployment.process import Process
from edge_vision.paths import share_directory

NODES = (
    "camera",
    "calibration",
    "calibration_check",
    "board_hand",
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

COMPRESSED = "/compressed"
_BESIDE = ("camera_info", "set_camera_info", "image_rect", "image_rect/shared")
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


def processes_of(
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
                log_arguments=log_arguments(log_level, members, namespace),
            )
        )
    return tuple(processes)


def image_topic_of(topic: str) -> tuple[str, bool]:
    """The topic of the images without the suffix of the transport, and whether that is `compressed`."""
    if topic.endswith(COMPRESSED):
        return topic[: -len(COMPRESSED)], True
    return topic, False


def camera_wanted(given: Mapping[str, str], value: Mapping[str, str], elsewhere: bool) -> bool:
    """Whether a camera node is to be started. given: the arguments that were; value: of all arguments; elsewhere: the
    images may come from somebody else."""
    return value["source"] not in NO_SOURCE and ("source" in given or not elsewhere)


def check_transport(image_topic: str, has_camera: bool) -> None:
    """DeploymentError where a camera node of ours would have to publish what it does not."""
    if has_camera and image_topic_of(image_topic)[1]:
        raise DeploymentError(
            f"image_topic:={image_topic}: the camera node publishes images uncompressed; "
            "leave /compressed away, or source:=none to take them from another node"
        )


def image_remaps(image_topic: str) -> tuple[tuple[str, str], ...]:
    """image_raw, what lies below it, and what belongs beside it: camera_info, where image_transport looks for it."""
    if image_topic in ("", "image_raw"):
        return ()
    parent = image_topic.rpartition("/")[0]
    below = tuple((f"image_raw{suffix}", f"{image_topic}{suffix}") for suffix in ("", "/shared", COMPRESSED))
    if not parent and not image_topic.startswith("/"):
        return below
    return (*below, *((name, f"{parent}/{name}") for name in _BESIDE))


def absolute(namespace: str) -> str:
    stripped = namespace.strip("/")
    return f"/{stripped}" if stripped else ""


def user_file_of(name: str) -> Path | None:
    return existing_file("params_file", name, "config/detect.yaml") if name else None


def existing_file(argument: str, name: str, example: str) -> Path:
    path = Path(name).expanduser().absolute()
    if not path.is_file():
        raise DeploymentError(f"{argument}:={name}: there is no such file; {example} shows what one looks like")
    return path


def log_arguments(level: str, nodes: Sequence[str], namespace: str) -> tuple[str, ...]:
    """For debug the nodes' own loggers only: DDS and rcl would drown them."""
    if level == "info":
        return ()
    if level != "debug":
        return "--log-level", level
    prefix = namespace.strip("/").replace("/", ".") + "." if namespace else ""
    loggers = [*(prefix + node for node in nodes), "edge_vision"]
    return tuple(item for logger in loggers for item in ("--log-level", f"{logger}:=debug"))


def environment_of(environ: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """Fast DDS through shared memory, unless the user has a profile of their own."""
    for variable in _PROFILE_VARIABLES:
        if environ.get(variable):
            return {}, f"Fast DDS profile: {environ[variable]}, as {variable} says"
    profile = share_directory() / "config" / "fastdds.xml"
    return dict.fromkeys(_PROFILE_VARIABLES, str(profile)), f"Fast DDS profile: {profile} (shared memory)"


def rviz_process(
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


def warnings_of(user_file: Path | None, namespaces: Sequence[str]) -> list[str]:
    if user_file is None:
        return []
    lost = parameter_files.unmatched(user_file, [f"{place}/{node}" for place in namespaces for node in NODES])
    return [
        f"warning: {user_file}: the entry {pattern} is for no node of this launch, ROS will not use it; "
        f"the nodes are {namespaces[-1]}/camera and so on, /**/camera means camera in any namespace"
        for pattern in lost
    ]


def parameters_note(user_file: Path | None, carried: Sequence[str]) -> str:
    """carried: the arguments that become parameters."""
    layers = ["config/detect.yaml", *([str(user_file)] if user_file else [])]
    layers += [f"the arguments {', '.join(carried)}"] if carried else []
    return f"parameters, the later ones win: {', '.join(layers)}"
