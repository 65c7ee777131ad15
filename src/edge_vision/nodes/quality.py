"""Frames in, quality reports out: how good the camera's picture is by itself, and against a reference."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from dataclasses import dataclass, fields, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import NS_PER_S, Frame, QualityReport
from edge_vision.quality.errors import QualityError
from edge_vision.quality.full_reference import WINDOW, compare, ssim_map
from edge_vision.quality.no_reference import QualityAnalyser, QualityParameters
from edge_vision.quality.pair import luma
from edge_vision.quality.remedies import advice, figure_text
from edge_vision.quality.verdicts import Thresholds
from edge_vision.ros import adapters
from edge_vision.ros.node import Unusable, VisionNode
from edge_vision.ros.parameters import NodeParameters, parameter
from edge_vision.ros.quality_adapters import IMAGE_QUALITY, mono_or_bgr

_KEPT = 8  # images that wait for their references, and references that wait for their images
_PATIENCE_S = 1.0  # of header time that a report waits for its reference
_MOST_WAY_S = 0.1  # that a frame waits at most for the other nodes to be through with theirs
_WAY_STEP_S = 0.001
_LIMITS = (1e-6, 1e9)  # from "any picture" to "none"


@dataclass(frozen=True)
class QualityNodeParameters(NodeParameters):
    # 6: lamps swing at 100 or 120 Hz, and what divides 100, as 5 does, sees them in one phase again and again.
    rate: float = parameter(
        6.0, "Reports per second at most, each of the newest frame; 0: every frame.", range=(0.0, 1000.0)
    )
    bits: int = parameter(0, "Bits that values of 16-bit images have in truth, 8 to 16; 0: all.", range=(0, 16))
    channel_noise: bool = parameter(False, "Also measure the noise of each colour, which takes a tenth longer.")
    use_reference: bool = parameter(
        False, "Compare with the image of the same stamp on the topic `reference`.", read_only=True
    )
    reference_image: str = parameter("", "File of an image that all are compared with; empty: none.")
    limit_black: float = parameter(Thresholds.black, "DN that 99 % of the pixels are above, or black.", range=_LIMITS)
    limit_frozen: float = parameter(Thresholds.frozen, "Measured frames alike from which it is frozen.", range=_LIMITS)
    limit_occluded: float = parameter(
        Thresholds.occluded, "Share of the image that stays put and blank.", range=_LIMITS
    )
    limit_clipped: float = parameter(Thresholds.clipped, "Share of pixels at the upper end.", range=_LIMITS)
    limit_bright: float = parameter(Thresholds.bright, "DN of the mean.", range=_LIMITS)
    limit_dark: float = parameter(Thresholds.dark, "DN that 99 % of the pixels are below, or dark.", range=_LIMITS)
    limit_low_contrast: float = parameter(
        Thresholds.low_contrast, "(p99 - p1) / (p99 + p1) below which contrast is low.", range=_LIMITS
    )
    limit_colour_cast: float = parameter(Thresholds.colour_cast, "Octaves off neutral.", range=_LIMITS)
    limit_blocky: float = parameter(Thresholds.blocky, "Steps across the 8x8 grid over those inside.", range=_LIMITS)
    limit_motion: float = parameter(Thresholds.motion, "Pixels of motion blur.", range=_LIMITS)
    limit_blurred: float = parameter(Thresholds.blurred, "Pixels of blur (sigma).", range=_LIMITS)
    limit_noisy: float = parameter(Thresholds.noisy, "DN of noise (sigma).", range=_LIMITS)
    limit_flicker: float = parameter(Thresholds.flicker, "Relative swing of the light.", range=_LIMITS)
    image_transport: str = parameter("raw", "As of the inference node.", choices=("raw", "compressed"), read_only=True)


class QualityNode(VisionNode[QualityNodeParameters]):
    """image_raw (anybody's), reference -> image_quality, ssim_map."""

    parameters_type = QualityNodeParameters

    def configure(self) -> None:
        p = self.parameters
        self._file = _read(p.reference_image)
        self._analyser = QualityAnalyser(_analysis(p))
        self._due_at = 0
        self._measured: int | None = None  # stamp of the newest report
        self._pending: OrderedDict[int, tuple[QualityReport, Frame]] = OrderedDict()
        self._references: OrderedDict[int, Frame] = OrderedDict()
        self._newest: QualityReport | None = None
        self._blamed: Counter[str] = Counter()
        self._unmatched = 0
        self._misfit = ""  # why the newest comparison could not be made
        self.reports = self.publisher(QualityReport, "image_quality", adapter=IMAGE_QUALITY)
        self.maps = self.publisher(Frame, "ssim_map", counted=False)
        adapter = adapters.COMPRESSED_IMAGE if p.image_transport == "compressed" else adapters.IMAGE
        self.subscription(Frame, "image_raw", self.measure, adapter=adapter, needed=self._due)
        if p.use_reference:
            self.subscription(Frame, "reference", self.learn_reference, counted=False)
        self._analyse, self._compare, self._publish = (self.stage(n) for n in ("analyse", "compare", "publish"))

    def activate(self) -> None:
        self._pending.clear()
        self._references.clear()

    def _due(self) -> bool:
        """By the clock on the wall: what is bounded is the cost. Asked by the threads that bring frames, so that none
        wakes this node in vain."""
        return self.parameters.input_mode == "every" or time.monotonic_ns() >= self._due_at

    def measure(self, frame: Frame) -> None:
        if not self._take(frame.stamp):
            return
        self._give_way()
        frame = mono_or_bgr(frame)
        with self._analyse:
            report = self._analyser.analyse(frame)
        if self._file is not None:
            report = self._compared(report, frame, self._file)
        elif self.parameters.use_reference:
            self._pair(report, frame)
            return
        self._tell(report)

    def _take(self, stamp: int) -> bool:
        rate = self.parameters.rate
        if rate <= 0:
            return True
        period = NS_PER_S / rate
        if self.parameters.input_mode == "every":  # recordings: the same frames at any speed
            last = self._measured
            if last is not None and last <= stamp < last + period:
                return False
            self._measured = stamp
            return True
        now = time.monotonic_ns()
        late = now - self._due_at
        if late < 0:
            return False
        self._due_at = round(self._due_at + period if late < period else now + period)
        return True

    def _give_way(self) -> None:
        """Lets the other nodes of this process be through with the frame first: results are waited for, figures not."""
        p = self.parameters
        if p.rate <= 0 or p.input_mode == "every":
            return
        others = [node for node in self.container.nodes if node is not self]
        until = time.monotonic() + min(_MOST_WAY_S, 0.5 / p.rate)
        while others:
            time.sleep(_WAY_STEP_S)  # first of all: some may be given the frame only now
            if all(node.idle() for node in others) or time.monotonic() > until:
                return

    def _tell(self, report: QualityReport) -> None:
        self._newest = report
        self._blamed.update(v.cause for v in report.verdicts if v.blamed)
        self._blamed["reports"] += 1
        with self._publish:
            self.reports.publish(report)

    # --- references --------------------------------------------------------------------------------------------------

    def learn_reference(self, frame: Frame) -> None:
        waiting = self._pending.pop(frame.stamp, None)
        if waiting is not None:
            self._tell(self._compared(*waiting, mono_or_bgr(frame).image))
            return
        self._references[frame.stamp] = frame
        if len(self._references) > _KEPT:
            self._references.popitem(last=False)

    def _pair(self, report: QualityReport, frame: Frame) -> None:
        reference = self._references.pop(report.stamp, None)
        if reference is not None:
            self._tell(self._compared(report, frame, mono_or_bgr(reference).image))
            return
        self._pending[report.stamp] = report, frame
        oldest = report.stamp - _PATIENCE_S * NS_PER_S
        while len(self._pending) > _KEPT or not oldest <= next(iter(self._pending)) <= report.stamp:
            _, (alone, _) = self._pending.popitem(last=False)
            self._unmatched += 1
            self._tell(alone)

    def _compared(self, report: QualityReport, frame: Frame, reference: NDArray) -> QualityReport:
        """The report with the figures against the reference; as it is where the two do not fit."""
        bits = self.parameters.bits if frame.image.dtype == np.uint16 else 0
        try:
            with self._compare:
                image, reference = luma(frame.image), luma(reference)
                found = compare(image, reference, bits=bits or None)
                watched = self.maps.has_subscribers
                similarity = ssim_map(image, reference, bits=bits or None) if watched else None
        except QualityError as error:
            self._misfit = str(error)
            self.warn_once(f"not compared with the reference: {error}")
            return report
        self._misfit = ""
        if similarity is not None:
            self.maps.publish(Frame(_picture(similarity), frame.stamp, frame.frame_id, frame.sequence, "mono8"))
        return replace(
            report,
            mse=found.mse,
            psnr=found.psnr,
            reference_snr=found.snr,
            ssim=found.ssim,
            ms_ssim=float("nan") if found.ms_ssim is None else found.ms_ssim,
        )

    # --- parameters and diagnostics ----------------------------------------------------------------------------------

    def reconfigure(self, new: QualityNodeParameters) -> None:
        analysis = _analysis(new)
        if not hasattr(self, "_analyser"):
            return
        if new.reference_image != self.parameters.reference_image:
            self._file = _read(new.reference_image)
        self._analyser.parameters = analysis  # what it remembers of the frames before stays
        self._due_at = 0

    def warning(self) -> str | None:
        report: QualityReport | None = getattr(self, "_newest", None)
        misfit = getattr(self, "_misfit", "")
        said = advice(report) if report is not None else None
        return said or (f"not compared with the reference: {misfit}" if misfit else None)

    def status(self) -> dict[str, str]:
        report: QualityReport | None = getattr(self, "_newest", None)
        if report is None:
            return {}
        found = {"picture": report.cause}
        found |= {v.cause: figure_text(v) for v in report.verdicts if v.blamed}
        counts = dict(self._blamed)
        reports = counts.pop("reports")
        found |= {f"reports of {cause}": f"{count} of {reports}" for cause, count in sorted(counts.items())}
        if np.isfinite(report.ssim):
            found |= {"SSIM": f"{report.ssim:.4f}", "PSNR [dB]": f"{report.psnr:.2f}"}
        if self.parameters.use_reference:
            found["reports without reference"] = str(self._unmatched)
        return found


def _analysis(p: QualityNodeParameters) -> QualityParameters:
    if 0 < p.bits < 8:
        raise Unusable(f"bits is {p.bits}; give 8 to 16, or 0 for all bits of the image")
    limits = {field.name: getattr(p, f"limit_{field.name}") for field in fields(Thresholds)}
    return QualityParameters(p.bits or None, p.channel_noise, Thresholds(**limits))


def _read(name: str) -> NDArray | None:
    if not name:
        return None
    image = cv2.imread(name, cv2.IMREAD_UNCHANGED)
    if image is None:
        raise Unusable(f"reference_image {name}: there is no such file, or it is no picture; give a PNG or JPEG")
    return np.ascontiguousarray(image[:, :, :3]) if image.ndim == 3 else image


def _picture(similarity: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(H, W) of the source's size, black 0 and white 1: the half window that the map lacks repeats its border."""
    half = WINDOW // 2
    grey = cv2.convertScaleAbs(np.maximum(similarity, 0), alpha=255)
    return cv2.copyMakeBorder(grey, half, half, half, half, cv2.BORDER_REPLICATE)  # type: ignore[return-value]
