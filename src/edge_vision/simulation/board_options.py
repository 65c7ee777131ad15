"""What a scene with a calibration board can be asked to be: ``sim://board?board=charuco_9x7_25mm&model=equidistant``."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edge_vision.datatypes import CameraInfo
from edge_vision.simulation.camera import Sensor
from edge_vision.simulation.lens import COEFFICIENTS, FOCAL, Lens
from edge_vision.simulation.options import check_ranges, read_options


@dataclass(frozen=True)
class BoardOptions:
    """Options of the board's scene; the keys of its URI are these names. Units in docs/simulation.md.

    width, height: pixels. fps, seed, frames: as of the conveyor. board: a bundled board's name, or the path of a YAML.
    model: the lens'. fx, fy, cx, cy: pixels; None: the twin's own. D: the model's coefficients with commas between;
    "": the twin's own. distortion: factor on the coefficients. bow, bow_y: mm that the board's middle is deeper than
    its left and right, its upper and lower edge. inverted: white on black. blur: sigma of the lens' blur in pixels.
    motion_blur: of a board that moves. exposure: s. gain: factor on DN/e-. light: factor on the scene's white. noise:
    shot and read noise. read_noise: e-. still: the board waits at its first pose. calibrated: the source tells its
    camera_info.

    Raises ValueError naming the option where a value is out of its range.
    """

    width: int = 640
    height: int = 480
    fps: float = 15.0
    seed: int = 0
    frames: int | None = None
    board: str = "charuco_9x7_25mm"
    model: str = "plumb_bob"
    fx: float | None = None
    fy: float | None = None
    cx: float | None = None
    cy: float | None = None
    D: str = ""
    distortion: float = 1.0
    bow: float = 0.0
    bow_y: float = 0.0
    inverted: bool = False
    blur: float = 0.6
    motion_blur: bool = True
    exposure: float = 0.008
    gain: float = 1.0
    light: float = 0.45
    noise: bool = True
    read_noise: float = 8.0
    still: bool = False
    calibrated: bool = False

    def __post_init__(self) -> None:
        ranges: dict[str, tuple[float, float]] = {
            "width": (32, 8192),
            "height": (32, 8192),
            "fps": (0.01, 10_000),
            "seed": (0, 2**63 - 1),
            "frames": (1, 2**62),
            "fx": (1, 1e6),
            "fy": (1, 1e6),
            "cx": (-1e6, 1e6),
            "cy": (-1e6, 1e6),
            "distortion": (-2, 2),
            "bow": (-50, 50),
            "bow_y": (-50, 50),
            "blur": (0, 20),
            "exposure": (1e-7, 1),
            "gain": (1e-3, 1e3),
            "light": (0, 1e3),
            "read_noise": (0, 1e4),
        }
        check_ranges("board", self, ranges)
        if self.model not in COEFFICIENTS:
            raise ValueError(f"board option 'model' is '{self.model}': it must be one of {', '.join(COEFFICIENTS)}")
        if self.D:
            self._coefficients()

    @classmethod
    def from_uri(cls, uri: str) -> BoardOptions:
        """Options from ``sim://board?key=value&...``; what is not named keeps its default.

        Raises ValueError for another scheme or scene, an unknown key or a value that cannot be read.
        """
        return cls(**read_options(uri, "board", cls))

    def lens(self) -> Lens:
        """The true lens."""
        unit = self.width / 640
        fx = self.fx if self.fx is not None else self.fy if self.fy is not None else FOCAL[self.model] * self.width
        fy = self.fy if self.fy is not None else fx
        cx = self.cx if self.cx is not None else (self.width - 1) / 2 + 3.1 * unit
        cy = self.cy if self.cy is not None else (self.height - 1) / 2 - 2.3 * unit
        return Lens(self.model, np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]), self._coefficients())

    def camera_info(self, stamp: int = 0, frame_id: str = "") -> CameraInfo:
        """The truth, whether the source tells it or not: P is K."""
        lens = self.lens()
        P = np.concatenate([lens.K, np.zeros((3, 1))], 1)
        return CameraInfo(
            self.width, self.height, lens.K, lens.D, P=P, distortion_model=self.model, camera_name="board_twin",
            stamp=stamp, frame_id=frame_id,
        )  # fmt: skip

    @property
    def sensor(self) -> Sensor:
        return replace(Sensor(), exposure=self.exposure, gain=self.gain, read_noise=self.read_noise)

    def _coefficients(self) -> np.ndarray:
        own = COEFFICIENTS[self.model]
        if not self.D:
            return np.array(own) * self.distortion
        try:
            given = [float(text) for text in self.D.split(",")]
        except ValueError:
            raise ValueError(f"board option 'D' is '{self.D}': expected numbers with commas between") from None
        if len(given) > len(own):
            raise ValueError(f"board option 'D' has {len(given)} coefficients: {self.model} has {len(own)}")
        return np.array(given + [0.0] * (len(own) - len(given))) * self.distortion
