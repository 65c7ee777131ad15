"""Frames of the twin with a calibration board: ``sim://board?board=charuco_9x7_25mm&model=equidistant``."""

from __future__ import annotations

import time
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.boards import Board, find_board
from edge_vision.calibration.printing import board_pattern, rasterise
from edge_vision.datatypes import CameraInfo
from edge_vision.simulation.board_options import BoardOptions
from edge_vision.simulation.board_scene import BoardScene, Sheet
from edge_vision.simulation.movement import Pose, between
from edge_vision.sources.base import Sample
from edge_vision.sources.scene import SimulatedScene

_FINENESS = 2.5  # pixels of the sheet's long side for one of the image's: finer than the samples where it fills it
_RESTING_S = 0.2  # a board that was not moved for so long stands still


class SimulatedBoard(SimulatedScene):
    """The board's scene. Until somebody moves it, the board shows itself from pose to pose."""

    what = "board"

    def _options(self, uri: str) -> BoardOptions:
        return BoardOptions.from_uri(uri)

    def _open(self, options: BoardOptions) -> BoardScene:
        board = find_board(options.board)
        self.what = f"board ({board})"
        self._moves: tuple[tuple[float, Pose], ...] = ()
        return BoardScene(options, sheet_of(board, _FINENESS * max(options.width, options.height)))

    def _sample(self, index: int, start_stamp: int) -> Sample:
        moves = self._moves
        if moves:
            at, pose = moves[-1]
            before = None
            if len(moves) == 2 and time.monotonic() - at < _RESTING_S:
                # It came from its last pose; while the shutter was open, by as much of that as fits.
                began, last = moves[0]
                share = self._scene.options.exposure / max(at - began, 1e-3)
                before = between(pose, last, min(share, 1.0), self._scene.sheet.outline.mean(0))
            self._scene.show(pose, before)
        return Sample(self._scene.render(index, start_stamp))

    def move_board(self, rotation: NDArray[np.float64], translation: NDArray[np.float64]) -> None:
        """Takes the board to a pose, from any thread; from now on it stays where it was moved to.

        x = rotation (3, 3) X + translation (3,) m, from the board's frame to the camera's optical one. Raises
        ValueError where that is no pose.
        """
        rotation, translation = np.array(rotation, np.float64), np.array(translation, np.float64)
        if rotation.shape != (3, 3) or translation.shape != (3,) or not np.isfinite(translation).all():
            raise ValueError(f"a pose is a rotation (3, 3) and a translation (3,), not {rotation} and {translation}")
        if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) or np.linalg.det(rotation) < 0:
            raise ValueError(f"no rotation: {rotation.tolist()}")
        self._moves = (*self._moves[-1:], (time.monotonic(), Pose(rotation, translation)))

    def camera_info(self) -> CameraInfo | None:
        """The truth where the URI says ``calibrated=true``; a camera that nobody calibrated knows nothing."""
        if not self._began_with.calibrated:
            return None
        return self._began_with.camera_info(frame_id=self._frame_id)


@lru_cache(maxsize=2)
def sheet_of(board: Board, side: float) -> Sheet:
    """A board as a picture whose longer side has so many pixels, its white margin included."""
    pattern = board_pattern(board)
    image, pixels = rasterise(pattern, side / max(pattern.width, pattern.height))
    points = board.points[:, :2]
    to_pixels = np.linalg.lstsq(np.column_stack([points, np.ones(len(points))]), pixels, rcond=None)[0].T
    return Sheet(image, np.asarray(to_pixels, np.float64), np.array([points.min(0), points.max(0)]))
