"""The tracking node's camera motion: which topics tell it, what is said where they do not, and the warps from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from edge_vision.datatypes import NS_PER_S, CameraInfo, Detections, Frame
from edge_vision.ros import adapters, motion_adapters, qos
from edge_vision.ros.motion_adapters import AngularVelocity, Orientation, Transforms, subscribe_promptly
from edge_vision.ros.node import Unusable
from edge_vision.tracking.attitude import AttitudeHistory, Gyroscope, Missing
from edge_vision.tracking.ego_motion import BodySource, EgoMotion, FlowFeed, TreeSource, parse_mount
from edge_vision.tracking.transform_tree import TransformTree
from edge_vision.tracking.warps import Homography

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_vision.ros.node import VisionNode
    from edge_vision.ros.transport import Subscription

WAYS = ("auto", "off", "imu", "odometry", "tf", "flow")
TOPICS = {"imu": "imu", "odometry": "odom", "tf": "/tf", "flow": "image_raw"}
_AUTOMATIC = ("imu", "odometry")  # what is taken by itself where somebody publishes it, the best first
_NOBODY = "off: nobody publishes imu or odom"
_NO_TF = (
    "the messages of tf2_msgs are not installed here (apt: ros-$ROS_DISTRO-tf2-msgs; ROS from PyPI has no such "
    "package, so build it in a workspace)"
)


class MotionParameters(Protocol):
    """What the node's parameters have for this."""

    @property
    def camera_motion(self) -> str: ...
    @property
    def camera_rotation(self) -> str: ...
    @property
    def fixed_frame(self) -> str: ...
    @property
    def motion_patience(self) -> float: ...
    @property
    def motion_offset(self) -> float: ...
    @property
    def rectified(self) -> bool: ...
    @property
    def image_transport(self) -> str: ...


class CameraMotion:
    """Warps for a tracking node. Made when it is configured; `every_second` and the messages come on the executor's
    thread, `warp` is called by the one that tracks."""

    def __init__(self, node: VisionNode, parameters: MotionParameters) -> None:
        """Unusable where the way that was asked for cannot be gone."""
        self._node = node
        self._parameters = parameters
        self._mount = parse_mount(parameters.camera_rotation)
        self.feed: EgoMotion | FlowFeed | None = None
        self.way = "off"
        self._why = "off" if parameters.camera_motion == "off" else _NOBODY
        self._info: CameraInfo | None = None
        self._size: tuple[int, int] | None = None
        self._peek: Subscription | None = None
        self._problem = ""
        self._told = (0, 0)
        self._reach: NDArray | None = None
        if parameters.camera_motion not in ("auto", "off"):
            self._begin(parameters.camera_motion)

    # --- which way ---------------------------------------------------------------------------------------------------

    def _begin(self, way: str) -> None:
        p = self._parameters
        if way == "flow":
            self.feed = feed = FlowFeed(patience=p.motion_patience)
            self._listen(self._image_adapter(), TOPICS["flow"], feed.keep, qos.IMAGE_INPUT)
        else:
            self._begin_sensor(way, p)
        self.way, self._why = way, ""
        self._node.get_logger().info(
            f"camera motion from {way}, on {self._node.resolve_topic_name(TOPICS[way])}"
            + (" (found by camera_motion:=auto)" if p.camera_motion == "auto" else "")
        )

    def _begin_sensor(self, way: str, p: MotionParameters) -> None:
        needs_tf = way == "tf" or self._mount is None
        tree = TransformTree() if needs_tf else None
        adapter = self._tf_adapter(way) if needs_tf else None
        source: BodySource | TreeSource
        if way == "tf":
            assert tree is not None
            source = TreeSource(tree, p.fixed_frame.lstrip("/"))
        else:
            source = BodySource(Gyroscope() if way == "imu" else AttitudeHistory(), self._mount, tree)
        self.feed = feed = EgoMotion(source, p.motion_patience, p.motion_offset, p.rectified)

        def take_rate(sample: AngularVelocity) -> None:
            source.learn_frames(body_frame=sample.frame_id.lstrip("/"))
            history.add_rate(sample.stamp, sample.rate)
            feed.arrived()

        def take_orientation(sample: Orientation) -> None:
            source.learn_frames(body_frame=sample.child_frame_id)
            history.add(sample.stamp, sample.rotation)
            feed.arrived()

        history: Any = getattr(source, "history", None)
        if way == "imu":
            self._listen(motion_adapters.IMU, TOPICS[way], take_rate, motion_adapters.SENSOR)
        elif way == "odometry":
            self._listen(motion_adapters.ODOMETRY, TOPICS[way], take_orientation, motion_adapters.SENSOR)
        if tree is not None and adapter is not None:
            self._listen_to_tf(tree, adapter, feed, moving=way == "tf")
        self._listen(motion_adapters.CAMERA_INFO, "camera_info", self._learn_camera, qos.RESULT)
        self._peek = self._listen(self._image_adapter(), "image_raw", self._learn_size, qos.IMAGE_INPUT)

    def _tf_adapter(self, way: str) -> adapters.Adapter[Transforms]:
        try:
            return motion_adapters.transforms_adapter()
        except ImportError:
            if way == "tf":
                remedy = "use camera_motion:=imu or odometry with camera_rotation"
            else:
                remedy = "say how the camera is mounted on the sensor's body with camera_rotation (forward, or angles)"
            raise Unusable(f"camera_motion:={way}: {_NO_TF}; or {remedy}") from None

    def _listen_to_tf(
        self, tree: TransformTree, adapter: adapters.Adapter[Transforms], feed: EgoMotion, moving: bool
    ) -> None:
        def take(item: Transforms) -> None:
            for transform in item.transforms:
                tree.set(transform)
            feed.arrived()

        def take_static(item: Transforms) -> None:
            for transform in item.transforms:
                tree.set(transform, static=True)

        self._listen(adapter, "/tf_static", take_static, motion_adapters.TF_STATIC)
        if moving:
            self._listen(adapter, "/tf", take, motion_adapters.TF)

    def _listen(self, adapter: adapters.Adapter, topic: str, callback: Any, profile: Any) -> Subscription:
        return subscribe_promptly(self._node, adapter, topic, callback, profile)

    def _image_adapter(self) -> adapters.Adapter[Frame]:
        compressed = self._parameters.image_transport == "compressed"
        return adapters.COMPRESSED_IMAGE if compressed else adapters.IMAGE

    # --- what comes --------------------------------------------------------------------------------------------------

    def _learn_size(self, frame: Frame) -> None:
        """One image tells whether camera_info is for images of this size; then no more are taken."""
        if self._size is None:
            self._size = frame.width, frame.height
            if self._info is not None:
                self._learn_camera(self._info)
            self._node.container.call_soon(self._end_peek)

    def _end_peek(self) -> None:
        peek, self._peek = self._peek, None
        if peek is not None and peek in self._node._subscriptions_:
            self._node._subscriptions_.remove(peek)
            if self._node.active:
                peek.close()

    def _learn_camera(self, info: CameraInfo) -> None:
        self._info = info
        feed = self.feed
        if isinstance(feed, EgoMotion):
            try:
                feed.learn_camera(info, self._size)
                if feed.lens is not None:
                    self._problem = ""
            except ValueError as error:
                self._problem = str(error)

    # --- what is given -----------------------------------------------------------------------------------------------

    def warp(self, detections: Detections, boxes: NDArray | None) -> Homography | Missing | None:
        """For `Tracker.update` where it is an array. boxes: the tracks of the last update."""
        feed = self.feed
        if isinstance(feed, EgoMotion):
            info = self._info
            frame = detections.frame_id or ("" if info is None else info.frame_id)
            source: Any = feed.source
            source.learn_frames(optical_frame=frame.lstrip("/"))
            self._reach = detections.boxes
            return feed.warp(detections.stamp)
        return None if feed is None else feed.warp(detections.stamp, boxes)

    def every_second(self) -> None:
        """Looks for a way where none is gone yet; says what is missing."""
        feed = self.feed
        if feed is None:
            if self._parameters.camera_motion == "auto":
                self._look()
            return
        now = feed.given, sum(feed.missing.values())
        given, missing = now[0] - self._told[0], now[1] - self._told[1]
        self._told = now
        if missing and not given and self._parameters.camera_motion != "auto":
            self._node.warn_once(f"camera_motion:={self.way} gives no warps: {self._remedy()}")
        info, reach = self._info, self._reach
        if info is not None and self._size is None and reach is not None and len(reach) and info.width:
            x, y = reach[:, 2:].max(axis=0).tolist()
            if x > 1.1 * info.width or y > 1.1 * info.height:
                self._node.warn_once(
                    f"boxes reach beyond the {info.width} x {info.height} px of camera_info: it is for smaller images, "
                    "and warps from it are wrong. Publish the camera_info of these images"
                )

    def reconfigure(self, new: MotionParameters) -> None:
        """What can change live."""
        if self.feed is not None:
            self.feed.patience = new.motion_patience
        if isinstance(self.feed, EgoMotion):
            self.feed.offset = new.motion_offset
        self._parameters = new

    def _look(self) -> None:
        for way in _AUTOMATIC:
            if self._node.count_publishers(self._node.resolve_topic_name(TOPICS[way])):
                try:
                    self._begin(way)
                except Unusable as error:
                    self._why = f"off: {error}"
                return
        self._why = _NOBODY

    def _remedy(self) -> str:
        """Of what is missing most of late."""
        feed = self.feed
        assert feed is not None
        worst = feed.missing.most_common(1)[0][0]
        topic = self._node.resolve_topic_name(TOPICS[self.way])
        body, optical = feed.source.frames if isinstance(feed, EgoMotion) else ("", "")  # type: ignore[attr-defined]
        remedies = {
            Missing.NOTHING: f"is {topic} published? Remap it, or give imu_topic or odometry_topic to the launch",
            Missing.LATE: "do both sensors use one clock? motion_offset shifts one against the other, motion_patience "
            "waits longer",
            Missing.EARLY: "do both sensors use one clock? motion_offset shifts one against the other",
            Missing.GAP: f"{topic} is slower than 5 Hz, or loses messages",
            Missing.MOUNT: f"publish static transforms between {body!r} and {optical!r}, or give camera_rotation; a "
            "camera that moves against the sensor needs camera_motion:=tf",
            Missing.FRAMES: f"fixed_frame is {body!r}, the detections are in {optical!r}; known are "
            + (", ".join(self._known_frames()) or "none"),
            Missing.CALIBRATION: self._problem or "publish camera_info beside the images, or use camera_motion:=flow",
            Missing.PICTURE: f"is {topic} published, with the stamps that the detections have?",
            Missing.FEATURES: "the images are dark, blurred or without texture",
            Missing.TURNED: "it turned by more than 60 degrees between two images",
        }
        return f"{worst.value} ({remedies[worst]})"

    def _known_frames(self) -> tuple[str, ...]:
        source: Any = self.feed.source if isinstance(self.feed, EgoMotion) else None
        tree: TransformTree | None = getattr(source, "tree", None)
        return () if tree is None else tree.frames

    def status(self) -> dict[str, str]:
        """For the diagnostics."""
        feed = self.feed
        if feed is None:
            return {"camera motion": self._why}
        found = {
            "camera motion": self.way + (" (auto)" if self._parameters.camera_motion == "auto" else ""),
            "warps given": str(feed.given),
            "warps missing": str(sum(feed.missing.values())),
        }
        if feed.missing:
            found["warps missing because"] = "; ".join(f"{why.value}: {n}" for why, n in feed.missing.most_common())
        if isinstance(feed, FlowFeed):
            found["flow [ms]"] = f"{feed.flow.milliseconds:.1f}"
            return found
        newest = feed.source.newest()
        if newest is not None:
            found["age of newest motion [s]"] = f"{(self._node.now_ns() - newest) / NS_PER_S:.3f}"
        history = getattr(feed.source, "history", None)
        if isinstance(history, Gyroscope):
            found["gyroscope bias [rad/s]"] = " ".join(f"{value:.4f}" for value in history.bias)
        if self._problem:
            found["camera calibration"] = self._problem
        elif feed.lens is not None and feed.lens.scaled:
            found["camera calibration"] = "scaled to the size of the images"
        elif feed.lens is not None and feed.lens.distortion_ignored:
            found["camera calibration"] = "distortion model not known, distortion ignored"
        return found
