"""What a calibration found: parameters, how sure they are, what each view and corner said, and what was left out.

Pixels are OpenCV's: the centre of the top left pixel is (0, 0). Lengths are metres. A pose is board to camera:
``x_camera = R(rotation) @ x_board + translation``, with a Rodrigues vector; the camera's axes are x right, y down,
z ahead.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import CameraInfo

Floats = NDArray[np.float64]

INTRINSICS = ("fx", "fy", "cx", "cy")

DISTORTION = {
    "plumb_bob": ("k1", "k2", "p1", "p2", "k3"),
    "rational_polynomial": ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
    "equidistant": ("k1", "k2", "k3", "k4"),
}
"""The coefficients of each camera model, in the order of sensor_msgs/CameraInfo.d (p1, p2 are t1, t2 there)."""

BOW = ("bow_x", "bow_y")


class CalibrationError(ValueError):
    """Views that cannot be solved. The message is made of where, problem and remedy."""

    def __init__(self, problem: str, remedy: str = "", where: str = "") -> None:
        self.problem = problem
        self.remedy = remedy
        self.where = where
        message = f"{where}: {problem}" if where else problem
        super().__init__(f"{message}. {remedy[:1].upper()}{remedy[1:]}." if remedy else message)


@dataclass(frozen=True)
class Outlier:
    """A corner that the solution was not fitted to: its view, its id on the board, and its residual (dx, dy) in px."""

    view: str
    id: int
    residual: tuple[float, float]

    @property
    def distance(self) -> float:
        return float(np.hypot(*self.residual))


@dataclass(frozen=True)
class RemovedView:
    """A view that the solution was not fitted to, and why, in words for people."""

    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class Calibration:
    """A camera's intrinsics with their covariance, the poses of the board, and what became of every view and corner.

    ``parameters`` are fx, fy, cx, cy, the coefficients of the model and, where it was estimated, the board's bow: all
    of them, free or not, as ``parameter_names`` names them. Those that were estimated are ``names``, in the order of
    the rows of ``covariance``.
    """

    model: str
    """plumb_bob, rational_polynomial or equidistant."""
    image_size: tuple[int, int]
    """Width, height."""
    K: Floats
    """(3, 3) camera matrix, px."""
    D: Floats
    """(n,) coefficients, all of the model's (DISTORTION); 0 where one was not estimated."""
    names: tuple[str, ...]
    """The P parameters that were estimated: of fx, fy, cx, cy, k1, …, bow_x, bow_y."""
    covariance: Floats
    """(P, P) of ``names``, px and m, marginal over the poses: from J'J, noise variance by 2N - p."""
    views: tuple[str, ...]
    """Names of the V views that were kept."""
    rotations: Floats
    """(V, 3) Rodrigues vectors, board to camera."""
    translations: Floats
    """(V, 3) m, board to camera."""
    ids: tuple[NDArray[np.int64], ...]
    """Of each kept view, the (N_i,) corners that were fitted: rows of the board's points."""
    pixels: tuple[Floats, ...]
    """Of each kept view, where these corners were seen, (N_i, 2)."""
    residuals: tuple[Floats, ...]
    """Of each kept view, (N_i, 2) seen minus projected, px."""
    rms: float
    """px, OpenCV's definition: root of the mean squared 2-D distance of the fitted corners."""
    noise: float
    """px an axis: root of the sum of squares over 2N - p, p counting poses too."""
    outliers: tuple[Outlier, ...] = ()
    removed: tuple[RemovedView, ...] = ()
    bow: Floats | None = None
    """(2,) m: the board's points lie at z = bow_x (1 - u^2) + bow_y (1 - v^2), u and v in [-1, 1] over its extent."""
    iterations: int = 0
    notes: tuple[str, ...] = ()
    """What the solver decided by itself, in words: a model that was chosen, a term that was left at zero."""
    pose_sigmas: Floats = field(default_factory=lambda: np.zeros((0, 6)))
    """(V, 6) one-sigma of each view's rotation (rad) and translation (m), joint with the intrinsics."""

    @property
    def parameter_names(self) -> tuple[str, ...]:
        return (*INTRINSICS, *DISTORTION[self.model], *(BOW if self.bow is not None else ()))

    @property
    def parameters(self) -> Floats:
        """(n,) values of ``parameter_names``."""
        K = self.K
        bow = [] if self.bow is None else [self.bow]
        return np.concatenate([[K[0, 0], K[1, 1], K[0, 2], K[1, 2]], self.D, *bow])

    @property
    def sigmas(self) -> dict[str, float]:
        """One-sigma of each estimated parameter, px (focal lengths, centre), 1 (coefficients), m (bow)."""
        return dict(zip(self.names, np.sqrt(np.diag(self.covariance)).tolist(), strict=True))

    @property
    def values(self) -> dict[str, float]:
        """Every parameter by its name."""
        return dict(zip(self.parameter_names, self.parameters.tolist(), strict=True))

    @property
    def corner_count(self) -> int:
        return sum(len(ids) for ids in self.ids)

    @property
    def view_rms(self) -> Floats:
        """(V,) px, of each kept view by the definition of ``rms``."""
        return np.array([np.sqrt(np.mean(np.sum(each**2, axis=1))) for each in self.residuals])

    def full_covariance(self) -> Floats:
        """(n, n) over ``parameter_names``: zeros in the rows of what was not estimated."""
        all_names = self.parameter_names
        rows = [all_names.index(name) for name in self.names]
        full = np.zeros((len(all_names), len(all_names)))
        full[np.ix_(rows, rows)] = self.covariance
        return full

    def camera_info(self, camera_name: str = "", frame_id: str = "") -> CameraInfo:
        """As ROS has it, with R = I and P = [K | 0] (what CameraInfo's text asks of a single camera)."""
        return CameraInfo(
            width=self.image_size[0],
            height=self.image_size[1],
            K=self.K.copy(),
            D=self.D.copy(),
            R=np.eye(3),
            P=np.hstack([self.K, np.zeros((3, 1))]),
            distortion_model=self.model,
            camera_name=camera_name,
            frame_id=frame_id,
        )


@dataclass(frozen=True, eq=False)
class StereoCalibration:
    """Where a camera stands as seen from the first: ``x_this = R @ x_first + T``. Sigmas are one-sigma."""

    R: Floats
    """(3, 3)."""
    T: Floats
    """(3,) m."""
    covariance: Floats
    """(6, 6) of a small rotation (rad, applied on the left of R) and T (m), marginal over everything else."""
    rms: float
    """px, 2-D, over the corners of both cameras."""
    epipolar_rms: float
    """px: root mean square distance of a corner from the epipolar line of its partner, in undistorted pixels."""
    pairs: tuple[str, ...]
    """Names of the views that both cameras saw and that were fitted."""
    corner_count: int
    """Corners that both saw in these."""
    first: Calibration
    second: Calibration
    """The two cameras, refined where the solve was joint."""
    removed: tuple[RemovedView, ...] = ()

    @property
    def baseline(self) -> float:
        """m."""
        return float(np.linalg.norm(self.T))

    @property
    def baseline_sigma(self) -> float:
        """m."""
        direction = self.T / self.baseline
        return float(np.sqrt(direction @ self.covariance[3:, 3:] @ direction))
