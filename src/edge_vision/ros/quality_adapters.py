"""QualityReport as edge_vision/ImageQuality and back, and images as the quality room takes them."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import cv2
import numpy as np

from edge_vision.datatypes import Frame, QualityReport, Verdict
from edge_vision.msg import ImageQuality, QualityVerdict
from edge_vision.ros.adapters import Adapter, BadMessage, set_header, stamp_ns

# Fields that need more than an assignment.
_APART = ("verdicts", "noise_channels", "zones", "stamp", "frame_id")
_PLAIN = tuple(field.name for field in fields(QualityReport) if field.name not in _APART)
_FLOATS = {field.name for field in fields(QualityReport) if field.type == "float"}
_TO_BGR = {"rgb8": cv2.COLOR_RGB2BGR, "bgra8": cv2.COLOR_BGRA2BGR, "rgba8": cv2.COLOR_RGBA2BGR}


def quality_to_message(report: QualityReport) -> ImageQuality:
    message = ImageQuality()
    set_header(message.header, report)
    for name in _PLAIN:
        value = getattr(report, name)
        setattr(message, name, float(value) if name in _FLOATS else value)  # rclpy aborts over an int in a float field
    message.noise_channels = [float(sigma) for sigma in report.noise_channels]
    message.zones = np.asarray(report.zones, np.float64).ravel()
    message.identical = math.isinf(report.psnr)
    message.verdicts = [
        QualityVerdict(
            cause=v.cause,
            name=v.name,
            unit=v.unit,
            figure=float(v.figure),
            threshold=float(v.threshold),
            severity=float(v.severity),
            blamed=v.blamed,
        )
        for v in report.verdicts
    ]
    return message


def quality_from_message(message: ImageQuality) -> QualityReport:
    """BadMessage for one without a cause: nobody has filled it in."""
    if not message.cause:
        raise BadMessage('ImageQuality without a cause: fill it in, "ok" where nothing is blamed')
    return QualityReport(
        **{name: getattr(message, name) for name in _PLAIN},
        verdicts=tuple(Verdict(v.cause, v.figure, v.threshold, v.severity, v.name, v.unit) for v in message.verdicts),
        noise_channels=tuple(message.noise_channels),
        zones=np.array(message.zones, np.float64).reshape(3, 3),
        stamp=stamp_ns(message.header.stamp),
        frame_id=message.header.frame_id,
    )


def mono_or_bgr(frame: Frame) -> Frame:
    """The frame itself where it is mono or BGR, else its colours as BGR, without alpha."""
    code = _TO_BGR.get(frame.encoding)
    return frame if code is None else replace(frame, image=cv2.cvtColor(frame.image, code), encoding="bgr8")


IMAGE_QUALITY = Adapter(QualityReport, ImageQuality, quality_to_message, quality_from_message)
