"""The launch arguments: the one place for their names, defaults, choices and descriptions."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_vision.inference.backends import BACKENDS
from edge_vision.inference.bundle import PRECISIONS
from edge_vision.inference.hardware import KINDS
from edge_vision.inference.security import POLICIES

BOOLEAN = ("true", "false")
NO_SOURCE = ("", "none")
"""Values of `source` that mean: no camera node."""

# A token of a ROS name may not begin with a digit (design.ros2.org/articles/topic_and_service_names.html).
_TOKEN = r"[A-Za-z_]\w*"
_NAMESPACE = re.compile(rf"/?({_TOKEN}(/{_TOKEN})*/?)?")
_TOPIC = re.compile(rf"/?{_TOKEN}(/{_TOKEN})*")
# What quality:=only has no use for.
_OF_RESULTS = ("model", "backend", "precision", "detections_topic", "rig", "sources", "counters", "enhance", "use_rviz")
_TOPICS = ("image_topic", "detections_topic", "imu_topic", "odometry_topic", "set_camera_info")


class DeploymentError(ValueError):
    """What was asked for cannot be started; the text names what is wrong and what would be right."""


@dataclass(frozen=True, slots=True)
class Argument:
    """A launch argument; every value is a text, as `name:=value` gives it. choices: None where any text may come."""

    name: str
    default: str
    description: str
    choices: tuple[str, ...] | None = None

    @property
    def boolean(self) -> bool:
        """Whether true and false are among the choices, in whatever case."""
        return set(BOOLEAN) <= set(self.choices or ())


ARGUMENTS: tuple[Argument, ...] = (
    Argument(
        "source",
        "sim://conveyor",
        "Where frames come from: sim://conveyor?..., a video file, an image folder or glob, /dev/video0, an rtsp:// "
        "or http:// URL, a gst:// pipeline; none: no camera node. With image_topic alone there is none either.",
    ),
    Argument(
        "model",
        "conveyor_parts",
        "Model bundle (its folder or model.yaml), .onnx file, or the name of a bundled model.",
    ),
    Argument(
        "hardware",
        "auto",
        "Hardware profile (config/hardware), which names the backends to try; auto: what this machine is found to be.",
        ("auto", *KINDS),
    ),
    Argument(
        "backend",
        "auto",
        "Inference backend; auto: the fastest of the hardware profile that runs the model right, measured at first "
        "start and remembered.",
        ("auto", *BACKENDS),
    ),
    Argument(
        "precision",
        "auto",
        "Arithmetic of the model; auto: the fastest of fp32 and those that `edge_vision verify` has passed.",
        ("auto", *PRECISIONS),
    ),
    Argument(
        "bundle_policy",
        "any",
        "Models that may be opened; signed: only bundles that one of trusted_keys signed (docs/bundle_security.md).",
        POLICIES,
    ),
    Argument("trusted_keys", "", "Public keys of those who sign bundles: a file, or a folder of *.pub files."),
    Argument(
        "bundle_key",
        "",
        "Where the key of encrypted bundles is: file:PATH, env:NAME or command:PROGRAM ARGUMENTS; never the key.",
    ),
    Argument(
        "image_topic",
        "",
        "Topic of the images, image_raw where empty. Without source they come from whoever publishes there; with it "
        "the camera node publishes there. camera_info goes beside it; a name that ends in /compressed is subscribed "
        "as CompressedImage.",
    ),
    Argument(
        "detections_topic",
        "",
        "Topic of somebody else's detections (vision_msgs/Detection2DArray). Then there is no camera and no inference "
        "node: they are tracked, and drawn where image_topic is given.",
    ),
    Argument(
        "rig",
        "",
        "YAML rig file of several cameras (docs/multi_camera.md). Then multi_camera gives their objects one id; each "
        "camera is a namespace of its name below `namespace`.",
    ),
    Argument(
        "sources",
        "",
        "With rig: cameras that are to be started, as camera=source, separated by spaces, each with the nodes that the "
        "other arguments ask for. The rig's other cameras run already.",
    ),
    Argument("namespace", "", "Namespace of all nodes and topics: one a camera, such as front."),
    Argument(
        "composed",
        "true",
        "true: all nodes in one process, where frames are handed over without copying; false: one process a node.",
        BOOLEAN,
    ),
    Argument("tracking", "true", "Follow the detected objects over time; false: overlay shows detections.", BOOLEAN),
    Argument(
        "camera_motion",
        "auto",
        "What tells how a moving camera turns, so that tracks stay with their objects (docs/camera_motion.md): imu, "
        "odometry, tf or the images (flow); auto: imu or odom where somebody publishes it.",
        ("auto", "off", "imu", "odometry", "tf", "flow"),
    ),
    Argument("imu_topic", "", "Topic of the robot's sensor_msgs/Imu for camera_motion; empty: imu."),
    Argument("odometry_topic", "", "Topic of the robot's nav_msgs/Odometry for camera_motion; empty: odom."),
    Argument(
        "counters", "", "YAML file of lines and zones that tracks are counted at (docs/counting.md); empty: no counter."
    ),
    Argument(
        "quality",
        "false",
        "Tell how good the images are on image_quality (docs/quality_node.md); only: that alone, with no model, on "
        "image_topic or a source that is given.",
        (*BOOLEAN, "only"),
    ),
    Argument("quality_rate", "", "Quality reports per second, 0: of every frame; empty: as the parameter files say."),
    Argument("reference_image", "", "With quality: file of an image that all are compared with (PSNR, SSIM)."),
    Argument(
        "enhance",
        "false",
        "Brightness, sharpness, noise and distortion of the images are seen to before inference (docs/enhance.md).",
        BOOLEAN,
    ),
    Argument("overlay", "true", "Draw results on the images, and rviz markers (only while somebody looks).", BOOLEAN),
    Argument("use_rviz", "false", "Also start rviz2.", BOOLEAN),
    Argument("rviz_config", "", "rviz2 configuration; empty: config/rviz/detect.rviz of this package."),
    Argument(
        "params_file",
        "",
        "Parameter file of yours. It wins over the defaults (config/detect.yaml); launch arguments that are given win "
        "over it.",
    ),
    Argument("use_sim_time", "false", "Take the time from /clock (simulation, rosbag).", BOOLEAN),
    Argument(
        "log_level", "info", "Least severity that the nodes log.", ("debug", "info", "warn", "error", "fatal")
    ),
)  # fmt: skip


def checked(values: Mapping[str, str]) -> dict[str, str]:
    """The values given, in their normal form (booleans in lower case). DeploymentError for a wrong name or value, and
    for values that do not go together."""
    result = normal_form(values, ARGUMENTS)
    _check_quality(result)
    if result.get("counters") and result.get("tracking") == "false":
        raise DeploymentError(f"counters:={result['counters']}: counted are tracks; leave tracking:=true")
    _check_rig(result)
    return result


def normal_form(values: Mapping[str, str], arguments: Sequence[Argument]) -> dict[str, str]:
    """As `checked`, of any arguments, each by itself."""
    known = {argument.name: argument for argument in arguments}
    result = {}
    for name, value in values.items():
        argument = known.get(name)
        if argument is None:
            raise DeploymentError(f"unknown launch argument {name!r}; there are {', '.join(known)}")
        result[name] = _checked(argument, value)
    return result


def _check_quality(given: Mapping[str, str]) -> None:
    wanted = given.get("quality", "false")
    for name in ("quality_rate", "reference_image"):
        if given.get(name) and wanted == "false":
            raise DeploymentError(f"{name}:={given[name]} is for the quality node: give quality:=true as well")
    rate = given.get("quality_rate", "")
    try:
        good = not rate or 0 <= float(rate) <= 1000
    except ValueError:
        good = False
    if not good:
        raise DeploymentError(f"quality_rate:={rate} must be a number from 0 (every frame) to 1000")
    if wanted != "only":
        return
    for name in _OF_RESULTS:
        if given.get(name) not in (None, "", "false"):
            raise DeploymentError(
                f"{name}:={given[name]} is for other nodes than quality:=only starts; quality:=true does"
            )


def _check_rig(given: Mapping[str, str]) -> None:
    if not given.get("rig"):
        if given.get("sources"):
            raise DeploymentError(f"sources:={given['sources']}: give rig:=FILE as well, or one camera by source")
        return
    for name in ("source", "image_topic", "detections_topic"):
        if given.get(name):
            raise DeploymentError(
                f"{name}:={given[name]} is for one camera: with rig:={given['rig']} name the cameras in sources"
            )
    if given.get("tracking") == "false":
        raise DeploymentError(f"rig:={given['rig']}: joined are tracks; leave tracking:=true")
    if not given.get("sources"):
        idle = [name for name in ("model", "backend", "precision", "counters", "overlay") if given.get(name)]
        if idle:
            raise DeploymentError(f"{idle[0]}:={given[idle[0]]} is for cameras that are started: name them in sources")


def is_namespace(text: str) -> bool:
    """Whether the text would do for a relative ROS namespace."""
    return not text.startswith("/") and bool(text) and _NAMESPACE.fullmatch(text) is not None


def camera_sources(text: str, cameras: Sequence[str]) -> dict[str, str]:
    """Camera -> source, of the argument `sources`. DeploymentError for other cameras than those given."""
    try:
        entries = shlex.split(text)
    except ValueError as error:
        raise DeploymentError(f"sources:={text}: {error}") from None
    result = {}
    for entry in entries:
        name, separator, source = entry.partition("=")
        if not (separator and source) or name not in cameras or name in result:
            raise DeploymentError(
                f"sources: {entry!r} must be camera=source, once for each of {', '.join(cameras)}, separated by "
                "spaces; a source with spaces in quotes"
            )
        result[name] = source
    return result


def _checked(argument: Argument, value: str) -> str:
    if not isinstance(value, str):
        raise DeploymentError(f"launch argument {argument.name} must be a text, got {value!r}")
    value = value.strip()
    if argument.boolean:
        value = value.lower()
    if argument.choices and value not in argument.choices:
        raise DeploymentError(f"{argument.name}:={value} is not possible; choose one of {', '.join(argument.choices)}")
    if argument.name == "namespace" and not _NAMESPACE.fullmatch(value):
        raise DeploymentError(
            f"namespace:={value} is no ROS namespace; "
            "use letters, digits and _ between slashes, such as front or /robot/front"
        )
    if argument.name in _TOPICS and value and not _TOPIC.fullmatch(value):
        raise DeploymentError(
            f"{argument.name}:={value} is no ROS topic name; "
            "use letters, digits and _ between slashes, such as /front/image_raw"
        )
    return value
