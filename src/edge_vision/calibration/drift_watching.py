"""Watches a camera's stored calibration: images in, now and then; a verdict each, an alarm where it lasts."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.boards import Board
from edge_vision.calibration.camera_info_file import size_mismatch
from edge_vision.calibration.detection import detect
from edge_vision.calibration.drift import Check, DriftWatch, Limits, Stored, worse
from edge_vision.calibration.drift_board import BoardCheck, size_check
from edge_vision.calibration.drift_features import FEWEST_FRAMES, Reference, SceneCheck, take_reference
from edge_vision.calibration.result import CalibrationError
from edge_vision.calibration.views import View

Gray = NDArray[np.uint8]

_KEPT = 5  # images from which a reference is taken


class Watcher:
    """Judges by a board where one is given and seen, and by a reference where there is one. One thread calls `look`."""

    def __init__(self, board: Board | None = None, limits: Limits | None = None, hold: float = 10.0) -> None:
        self.board = board
        self.limits = limits or Limits()
        self.watch = DriftWatch(hold)
        self.stored: Stored | None = None
        self.reference: Reference | None = None
        self._board_check: BoardCheck | None = None
        self._scene_check: SceneCheck | None = None
        self._problem = ""
        self._images: deque[tuple[int, Gray]] = deque(maxlen=_KEPT)

    @property
    def alarm(self) -> Check | None:
        return self.watch.alarm

    @property
    def newest(self) -> Check | None:
        return self.watch.newest

    def use(self, stored: Stored | None = None, reference: Reference | None = None) -> None:
        """Takes another calibration or reference; views of the board and an alarm of the one before are forgotten."""
        self.stored = stored or self.stored
        self.reference = reference or self.reference
        self.watch = DriftWatch(self.watch.hold)
        self._board_check = self._scene_check = None
        self._problem = ""
        if self.stored is None:
            return
        if self.board is not None:
            self._board_check = BoardCheck(self.stored, self.board, self.limits)
        if self.reference is not None:
            try:
                self._scene_check = SceneCheck(self.stored, self.reference, self.limits)
            except CalibrationError as error:
                self._problem = str(error)

    def limit(self, limits: Limits, hold: float) -> None:
        """Other limits from now on."""
        self.limits = limits
        self.watch.hold = hold
        for check in (self._board_check, self._scene_check):
            if check is not None:
                check.limits = limits

    def look(self, gray: Gray, stamp: int) -> Check:
        """The verdict by an image (h, w) uint8 whose stamp is ns."""
        check = self._judge(gray)
        if not self._images or stamp != self._images[-1][0]:
            self._images.append((stamp, gray))
        self.watch.update(check, stamp)
        return check

    def take_reference(self, camera: str = "") -> Reference:
        """Of the newest images looked at; not used yet. Raises CalibrationError."""
        images = [entry for entry in list(self._images) if entry[1].shape == self._images[-1][1].shape]
        if len(images) < FEWEST_FRAMES:
            raise CalibrationError(
                f"{len(images)} images were looked at so far, {FEWEST_FRAMES} are needed",
                "wait until as many were (see rate), or look whether the camera's images come",
            )
        return take_reference([gray for _, gray in images], camera=camera, stamp=images[-1][0])

    def _judge(self, gray: Gray) -> Check:
        if self.stored is None:
            return Check("unknown", "views", "there is no calibration to check", "calibrate the camera first")
        mismatch = size_mismatch(self.stored.info, gray.shape[1], gray.shape[0])
        if mismatch is not None:
            return size_check(mismatch, self.stored)
        checks = []
        if self._scene_check is not None:
            checks.append(self._scene_check.check(gray))
        elif self._problem:
            checks.append(Check("unknown", "scene", self._problem))
        if self._board_check is not None:
            checks.append(self._by_board(self._board_check, gray))
        if not checks:
            return Check(
                "unknown", "scene", "there is no reference", "take one: call ~/take_reference, or name a board"
            )
        return checks[0] if len(checks) == 1 else worse(*checks)

    @staticmethod
    def _by_board(check: BoardCheck, gray: Gray) -> Check:
        found = detect(gray, check.board)
        if not isinstance(found, View):
            return Check("unknown", "views", f"the board was not seen ({found.code})", found.reason)
        check.add(found)
        return check.check()
