"""Rendered views of printed boards before a cluttered wall, with the truth: for the time and error of the detection."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.boards import Board
from edge_vision.calibration.printing import board_pattern, rasterise

Floats = NDArray[np.float64]

SIZE = (1280, 720)
BOARDS = {
    "chessboard": Board("chessboard", 9, 6, 0.025),
    "charuco": Board("charuco", 9, 7, 0.03, 0.022, "4x4_100"),
    "aprilgrid": Board("aprilgrid", 6, 6, 0.03, 0.0231),
    "circles": Board("circles", 7, 5, 0.03),
    "acircles": Board("acircles", 4, 11, 0.02),
}
_SUPERSAMPLED = 3
_BLUR, _NOISE = 0.8, 2.0  # px; grey levels
_FOCAL = 0.9  # of the image's width


@dataclass(frozen=True, eq=False)
class BoardScene:
    name: str
    image: NDArray[np.uint8]
    """(h, w)"""
    to_image: Floats
    """(3, 3) from the board's plane, metres, to the image"""

    def pixels(self, points: Floats) -> Floats:
        """(..., 2) px of points (..., >= 2) of the board's plane"""
        flat = points[..., :2].reshape(-1, 2)
        seen = np.column_stack([flat, np.ones(len(flat))]) @ self.to_image.T
        return (seen[:, :2] / seen[:, 2:]).reshape(*points.shape[:-1], 2)


def scenes(board: Board, seeds: int) -> Iterator[BoardScene]:
    """Near, in the middle, far, tilted by 40 degrees and in a corner; of boards that may be, partly out of view too.

    ``seeds`` of each, with another direction of the tilt, roll, wall and noise.
    """
    kinds: dict[str, dict[str, float]] = {
        "near": {"fill": 1.1 if board.partial else 1.05},
        "middle": {"fill": 0.75},
        "far": {"fill": 0.4, "right": 0.15, "down": -0.08},
        "tilted": {"angle": 40, "fill": 0.8},
        "corner": {"fill": 0.55, "right": -0.28, "down": 0.12, "angle": 25},
    }
    if board.partial:
        kinds["partial"] = {"fill": 1.6, "right": 0.3, "down": 0.15}
    for name, place in kinds.items():
        for seed in range(seeds):
            generator = np.random.default_rng([seed, 3])
            axis, roll = float(generator.uniform(0, 360)), float(generator.uniform(-25, 25))
            yield _rendered(board, name, generator, axis=axis, roll=roll, **place)


def _rendered(
    board: Board,
    name: str,
    generator: np.random.Generator,
    *,
    fill: float,
    axis: float,
    roll: float,
    angle: float = 0.0,
    right: float = 0.0,
    down: float = 0.0,
) -> BoardScene:
    """``fill``: the board's diagonal over the image's height; ``right``, ``down``: its middle, over its distance."""
    width, height = SIZE
    K = np.array([[_FOCAL * width, 0, (width - 1) / 2], [0, _FOCAL * width, (height - 1) / 2], [0, 0, 1]])
    turn = np.radians(angle) * np.array([np.cos(np.radians(axis)), np.sin(np.radians(axis)), 0])
    R = cv2.Rodrigues(turn)[0] @ cv2.Rodrigues(np.array([0, 0, np.radians(roll)]))[0]
    if board.kind == "aprilgrid":  # its y is up
        R = R @ np.diag([1.0, -1.0, -1.0])
    distance = K[0, 0] * np.linalg.norm(np.ptp(board.outline, 0)) / (height * fill)
    T = distance * np.array([right, down, 1.0]) - R @ board.outline.mean(0)
    H = K @ np.column_stack([R[:, 0], R[:, 1], T])
    raster, drawn = rasterise(board_pattern(board, margin=board.spacing * 1000), 2.2 * K[0, 0] / distance / 1000)
    to_board, _ = cv2.findHomography(drawn, board.points[:, :2], 0)
    n = _SUPERSAMPLED
    finer = np.array([[n, 0, (n - 1) / 2], [0, n, (n - 1) / 2], [0, 0, 1.0]]) @ H @ to_board
    large = (n * width, n * height)
    print_ = cv2.resize(cv2.warpPerspective(raster, finer, large), SIZE, interpolation=cv2.INTER_AREA)
    covered = cv2.warpPerspective(np.full_like(raster, 255), finer, large)
    share = cv2.resize(covered, SIZE, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    image = print_ + (1 - share) * _wall(generator)
    image = 25 + 0.75 * cv2.GaussianBlur(image, (0, 0), _BLUR) + generator.normal(0, _NOISE, image.shape)
    return BoardScene(name, np.clip(image, 0, 255).astype(np.uint8), H)


def _wall(generator: np.random.Generator) -> NDArray[np.float32]:
    """Soft light, and some rectangles and discs with hard edges."""
    width, height = SIZE
    soft = generator.uniform(40, 210, (height // 40 + 2, width // 40 + 2)).astype(np.float32)
    wall = np.asarray(cv2.resize(soft, SIZE, interpolation=cv2.INTER_CUBIC), np.float32)
    for number in range(25):
        x, y = int(generator.integers(0, width)), int(generator.integers(0, height))
        a, b = (int(side) for side in generator.integers(10, 160, 2))
        grey = float(generator.uniform(20, 235))
        if number % 5 < 3:
            cv2.rectangle(wall, (x, y), (x + a, y + b), grey, -1)
        else:
            cv2.circle(wall, (x, y), a // 3 + 3, grey, -1)
    return wall
