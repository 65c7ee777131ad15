"""`Camera`: a model, its parameters and the image's size, that projects; out of a `CameraInfo` or a `Calibration`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration import models
from edge_vision.calibration.result import DISTORTION, INTRINSICS, Calibration
from edge_vision.datatypes import CameraInfo

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Camera:
    """Pixels are OpenCV's (0, 0 is the middle of the top left one), the frame x right, y down, z ahead."""

    model: str
    image_size: tuple[int, int]
    parameters: Floats
    """(n,) fx, fy, cx, cy and the coefficients, as ``parameter_names`` has them"""

    @staticmethod
    def of(source: CameraInfo | Calibration | Camera) -> Camera:
        """Raises CalibrationError for what no model here has (as OpenCV's thin prism coefficients)."""
        if isinstance(source, Camera):
            return source
        if isinstance(source, Calibration):
            return Camera(source.model, source.image_size, models.parameters_of(source.model, source.K, source.D))
        model = "plumb_bob" if source.distortion_model == "none" else source.distortion_model
        return Camera(model, (source.width, source.height), models.parameters_of(model, source.K, source.D))

    @staticmethod
    def nominal(image_size: tuple[int, int], model: str = "plumb_bob") -> Camera:
        """What an unknown camera is taken for: 60 degrees wide without distortion, 120 where equidistant."""
        width, height = image_size
        longest = max(image_size)
        focal = longest / np.radians(120) if model == "equidistant" else longest / 2 / np.tan(np.radians(30))
        coefficients = np.zeros(len(DISTORTION[model]))
        middle = [(width - 1) / 2, (height - 1) / 2]
        return Camera(model, image_size, np.concatenate([[focal, focal], middle, coefficients]))

    @property
    def parameter_names(self) -> tuple[str, ...]:
        return (*INTRINSICS, *DISTORTION[self.model])

    def project(self, points: Floats) -> Floats:
        """Pixels (N, 2) of points or rays (N, 3); NaN where there are none."""
        return models.project(self.model, self.parameters, points)

    def project_with_jacobians(self, points: Floats) -> tuple[Floats, Floats, Floats]:
        """Pixels (N, 2), and their derivatives by the parameters (N, 2, n) and by the points (N, 2, 3)."""
        pixels, by_parameters, by_points = models.project_with_jacobian(
            self.model, self.parameters, np.ascontiguousarray(points.T)
        )
        return pixels.T, np.moveaxis(by_parameters, 2, 0), np.moveaxis(by_points, 2, 0)

    def unproject(self, pixels: Floats) -> Floats:
        """Unit rays (N, 3) of pixels (N, 2); NaN where the model has none."""
        return models.unproject(self.model, self.parameters, pixels)
