"""Frames in, better frames out; where it is asked to, it also has the camera expose better."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParametersAtomically

from edge_vision.calibration.camera_info_store import is_calibrated
from edge_vision.datatypes import NS_PER_S, CameraInfo, Frame, QualityReport
from edge_vision.enhance import EnhanceParameters, Enhancer, ExposureController, ExposureLimits, Setting
from edge_vision.enhance.pipeline import BRIGHTNESS, DENOISE, SHARPEN
from edge_vision.ros.node import VisionNode
from edge_vision.ros.parameters import NodeParameters, parameter
from edge_vision.ros.quality_adapters import IMAGE_QUALITY

_REPORT_LIFE_S = 2.0  # an image_quality older than that is not believed
_PATIENCE_S = 3.0  # for an answer of the camera


@dataclass(frozen=True)
class EnhanceNodeParameters(NodeParameters):
    brightness: str = parameter(
        "auto",
        "auto: stretch or gamma where a frame is too dark, too bright or flat; stretch, gamma, clahe: every frame; "
        "camera: the camera node's exposure and gain are controlled instead; off.",
        choices=BRIGHTNESS,
    )
    sharpen: str = parameter(
        "wiener", "How blur is taken back where there is some, as far as noise allows.", choices=SHARPEN
    )
    denoise: str = parameter("guided", "How noise is reduced where there is much.", choices=DENOISE)
    undistort: bool = parameter(True, "Take the lens' distortion out where camera_info tells it.")
    motion: bool = parameter(False, "Also take motion blur back; for a camera that moves as a whole.")
    least_blur: float = parameter(0.75, "Blur in px from which frames are sharpened.", range=(0.0, 100.0))
    least_noise: float = parameter(4.0, "Noise in DN from which frames are denoised.", range=(0.0, 255.0))
    camera: str = parameter("camera", "Name of the camera node whose exposure is controlled.", read_only=True)
    target: float = parameter(
        0.18, "brightness camera: the median's share of full scale in linear light.", range=(0.01, 0.9)
    )
    exposure: float = parameter(0.004, "brightness camera: seconds of exposure to begin with.", range=(1e-6, 10.0))
    exposure_min: float = parameter(2e-5, "brightness camera: shortest exposure in seconds.", range=(1e-6, 10.0))
    exposure_max: float = parameter(
        0.02, "brightness camera: longest exposure in seconds, as motion allows.", range=(1e-6, 10.0)
    )
    gain_max: float = parameter(
        8.0, "brightness camera: largest gain, in the camera's unit; 1 leaves gain alone.", range=(1.0, 1e6)
    )


class EnhanceNode(VisionNode[EnhanceNodeParameters]):
    """image_raw, camera_info, image_quality -> image_enhanced, image_enhanced/camera_info."""

    parameters_type = EnhanceNodeParameters

    def configure(self) -> None:
        self._enhancer = self._new_enhancer(self.parameters)
        self._quality: QualityReport | None = None
        self._lens: CameraInfo | None = None
        self._controller = self._new_controller(self.parameters)
        self._asked_at: int | None = None
        self._changes = 0
        self._client = self.create_client(
            SetParametersAtomically, f"{self.parameters.camera}/set_parameters_atomically"
        )
        self.frames = self.publisher(Frame, "image_enhanced")
        self.infos = self.publisher(CameraInfo, "image_enhanced/camera_info", counted=False)
        self.subscription(Frame, "image_raw", self.enhance)
        self.subscription(CameraInfo, "camera_info", self.learn_camera, counted=False)
        self.subscription(QualityReport, "image_quality", self.learn_quality, adapter=IMAGE_QUALITY, counted=False)
        self._publish, self._total = self.stage("publish"), self.stage("age")

    def cleanup(self) -> None:
        if hasattr(self, "_client"):
            self.destroy_client(self._client)
            del self._client

    def learn_camera(self, info: CameraInfo) -> None:
        self._lens = info  # before what may raise: the images' camera_info goes out all the same
        self._enhancer.set_camera(info if is_calibrated(info) else None)

    def learn_quality(self, report: QualityReport) -> None:
        self._quality = report

    def enhance(self, frame: Frame) -> None:
        report = self._quality
        if report is not None and abs(frame.stamp - report.stamp) > _REPORT_LIFE_S * NS_PER_S:
            report = None
        enhancer = self._enhancer
        better = enhancer.enhance(frame, report)
        with self._publish:
            self.frames.publish(better)
            info = enhancer.info or self._lens
            if info is not None and self.infos.has_subscribers:
                self.infos.publish(replace(info, stamp=frame.stamp, frame_id=frame.frame_id))
        self._total.add(max(0, self.now_ns() - frame.stamp))
        if self._controller is not None and enhancer.exposure is not None:
            self._expose(enhancer.exposure)

    # --- the camera's exposure ---------------------------------------------------------------------------------------

    def _expose(self, seen: QualityReport) -> None:
        controller = self._controller
        assert controller is not None
        if controller.waiting:
            asked = self._asked_at
            if asked is not None and self._steady_ns() - asked > _PATIENCE_S * NS_PER_S:
                self._asked_at = None
                controller.forget()
                self.warn_once(
                    f"{self.parameters.camera} does not answer: brightness:=camera needs a camera node of edge_vision; "
                    "give its name as the parameter camera, or brightness auto"
                )
            return
        setting = controller.update(seen.median, seen.clipped_bright)
        if setting is not None:
            self._asked_at = self._steady_ns()
            self.container.call_soon(lambda: self._ask(controller, setting))

    def _ask(self, controller: ExposureController, setting: Setting) -> None:
        """On the executor's thread."""
        if not hasattr(self, "_client"):
            return
        if not self._client.service_is_ready():
            controller.forget()
            self.warn_once(
                f"no node {self.parameters.camera} with parameters is there yet: its exposure stays as it is"
            )
            return
        wanted = [("exposure", setting.exposure)]
        if setting.gain != controller.setting.gain:
            wanted.append(("gain", setting.gain))
        values = [
            Parameter(name=name, value=ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=value))
            for name, value in wanted
        ]
        future = self._client.call_async(SetParametersAtomically.Request(parameters=values))
        future.add_done_callback(lambda answer: self._answered(controller, answer))

    def _answered(self, controller: ExposureController, answer: Any) -> None:
        result = answer.result().result
        self._changes += bool(result.successful)
        controller.answered(result.successful)
        if not result.successful:
            self.warn_once(f"{self.parameters.camera} refuses: {result.reason}")

    @staticmethod
    def _steady_ns() -> int:
        return time.monotonic_ns()

    # --- parameters --------------------------------------------------------------------------------------------------

    def _new_enhancer(self, p: EnhanceNodeParameters) -> Enhancer:
        parameters = EnhanceParameters(
            brightness=p.brightness,
            sharpen=p.sharpen,
            denoise=p.denoise,
            undistort=p.undistort,
            least_blur=p.least_blur,
            least_noise=p.least_noise,
            motion=p.motion,
        )
        return Enhancer(parameters, stage=self.stage)

    @staticmethod
    def _new_controller(p: EnhanceNodeParameters) -> ExposureController | None:
        if p.brightness != "camera":
            return None
        limits = ExposureLimits((p.exposure_min, p.exposure_max), (1.0, p.gain_max))
        begin = min(max(p.exposure, p.exposure_min), p.exposure_max)
        return ExposureController(Setting(begin, 1.0), limits, target=p.target)

    def reconfigure(self, new: EnhanceNodeParameters) -> None:
        enhancer, controller = self._new_enhancer(new), self._new_controller(new)
        if not hasattr(self, "_enhancer"):
            return
        if self._lens is not None and is_calibrated(self._lens):
            enhancer.set_camera(self._lens)
        self._enhancer = enhancer  # an image that is being worked on ends with the one it began with
        if _control(new) != _control(self.parameters):
            self._controller, self._asked_at = controller, None

    def status(self) -> dict[str, str]:
        enhancer: Enhancer | None = getattr(self, "_enhancer", None)
        if enhancer is None:
            return {}
        said = {"applied": ", ".join(enhancer.applied) or "nothing"}
        figures, controller = enhancer.figures, self._controller
        if figures is not None:
            said["noise DN"] = f"{figures.noise:.2f}"
            if math.isfinite(figures.spectrum.blur):
                said["blur px"] = f"{figures.spectrum.blur:.2f}"
        if controller is not None:
            said["exposure"] = f"{controller.setting.exposure:.6f}"
            said["gain"] = f"{controller.setting.gain:.3f}"
            said["exposure changes"] = str(self._changes)
        return said


def _control(p: EnhanceNodeParameters) -> tuple:
    return p.brightness, p.target, p.exposure, p.exposure_min, p.exposure_max, p.gain_max
