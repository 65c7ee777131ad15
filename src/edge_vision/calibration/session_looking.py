"""`Looker`: what one frame after the other shows, what becomes of it, in words, and why there is no board in it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import cv2

from edge_vision.calibration.boards import Board
from edge_vision.calibration.detection import DetectionOptions, detect
from edge_vision.calibration.sampling import Selection, displacement
from edge_vision.calibration.session_state import Guidance, SessionOptions
from edge_vision.calibration.views import Rejected, View
from edge_vision.datatypes import Frame

KEPT = "kept"
_WORDS = {
    "not_found": "no board",
    "wrong_size": "a board of another size",
    "few_corners": "too few corners",
    "small": "too far",
    "oblique": "too oblique",
    "contrast": "too little contrast",
}
"""What a person is told for the code of a rejection; others are told as they are."""

_DOUBTED = (8, 40, 120)
"""Frames without a board after which a slow search looks why, then each last number of frames."""
_SOON = 300_000_000
"""ns between two frames that tell the board's speed; from those farther apart it could have been anywhere"""
_STREAK = 10
"""frames of one kind in a row, that are told as such"""


@dataclass(frozen=True, eq=False)
class Look:
    """What became of a frame."""

    frame: Frame
    looked: str
    """in two or three words"""
    message: str = ""
    """for people, with the remedy; empty where there is nothing to tell"""
    view: View | None = None
    """what it shows, kept or not"""


class Looker:
    """Looks at one frame at a time. `counts` says how often frames were not kept, by reason."""

    def __init__(self, board: Board, options: SessionOptions) -> None:
        self.board = board
        self.options = options
        self.counts: Counter[str] = Counter()
        self.doubted: Frame | None = None
        """A frame that somebody with time should look at (`explain`)."""
        self._before: View | None = None
        self._seen = False
        self._unseen = 0
        self._streak = ("", 0)
        self._why: Rejected | None = None

    def look(self, frame: Frame, selection: Selection | None, guidance: Guidance | None) -> Look:
        """Detects and decides. Never raises for what a frame may be."""
        found = self._examine(frame, selection, guidance)
        if found.looked == KEPT:
            self._streak = ("", 0)
            return found
        self.counts[found.looked] += 1
        count = self._streak[1] + 1 if self._streak[0] == found.looked else 1
        self._streak = (found.looked, count)
        if count >= _STREAK and found.message and not self._never_seen():
            return Look(frame, found.looked, f"{count} frames in a row: {found.message}", found.view)
        return found

    def detect(self, frame: Frame) -> View | Rejected:
        """The board in a frame, and what is wrong with the frame where it is none."""
        try:
            return detect(frame.image, self.board, stamp=frame.stamp)
        except (ValueError, cv2.error) as error:
            return Rejected("not_found", f"not an image: {error}")

    def explain(self, frame: Frame) -> None:
        """Searches slowly for why no board is found (0.1 to 1 s; not for the thread that looks)."""
        found: View | Rejected = detect(
            frame.image, self.board, options=DetectionOptions(thorough=True, explain=True), stamp=frame.stamp
        )
        if isinstance(found, View):
            text = "the board is there, but only a slow search finds it: nearer, stiller, more and more even light"
            self._why = Rejected("not_found", text)
        elif found.code != "not_found" or "dictionary" in found.reason:
            self._why = found

    def _examine(self, frame: Frame, selection: Selection | None, guidance: Guidance | None) -> Look:
        size = (frame.width, frame.height) if frame.image.ndim >= 2 else (0, 0)
        if selection is not None and selection.views and size != selection.image_size:
            width, height = selection.image_size
            text = (
                f"this image is {size[0]}x{size[1]}, the {len(selection.views)} samples are {width}x{height}: they are "
                f"kept; set the camera back to {width}x{height}, or save, reset and begin anew"
            )
            return Look(frame, "another image size", text)
        found = self.detect(frame)
        if isinstance(found, Rejected):
            return self._nothing(frame, found)
        self._seen, self._unseen, self._why, self.doubted = True, 0, None, None
        before, self._before = self._before, found
        speed = self._speed(found, before)
        limit = self.options.max_speed * frame.width / 1280
        if speed > limit:
            text = f"the board moves by {speed:.0f} px a second ({limit:.0f} at most): hold it still"
            return Look(frame, "moving", text, found)
        if selection is None or guidance is None:
            return Look(frame, KEPT, "the first view", found)
        if len(selection.views) >= self.options.most_views:
            return Look(frame, "enough views", f"{len(selection.views)} views are kept: no more are taken", found)
        decision = selection.decide(found, guidance.knowledge, guidance.sides, guidance.asked, self.options.least_gain)
        return Look(frame, KEPT if decision.keep else "adds too little", decision.reason, found)

    def _nothing(self, frame: Frame, found: Rejected) -> Look:
        self._before = None
        if found.reason.startswith("not an image"):
            return Look(frame, "not an image", f"{found.reason}: check the camera's encoding")
        if found.code != "not_found":
            self._seen, self._unseen = True, 0
            return Look(frame, _WORDS.get(found.code, found.code), found.reason)
        self._unseen += 1
        if not self._seen and (self._unseen in _DOUBTED or self._unseen % _DOUBTED[-1] == 0):
            self.doubted = frame
        if self._why is not None:
            looked = _WORDS.get(self._why.code, self._why.code)
            return Look(frame, looked, self._why.reason)
        if self._never_seen():
            return Look(frame, _WORDS["not_found"], self._never())
        return Look(frame, _WORDS["not_found"])

    def _never_seen(self) -> bool:
        return not self._seen and self._unseen >= _DOUBTED[-1] and self._why is None

    def _never(self) -> str:
        board = self.board
        what = {
            "chessboard": f"{board.columns}x{board.rows} inner corners (not squares)",
            "charuco": f"a ChArUco board of {board.columns}x{board.rows} squares with markers of {board.dictionary}",
            "aprilgrid": f"{board.columns}x{board.rows} tags of {board.dictionary}",
        }.get(board.kind, f"{board.kind} of {board.columns}x{board.rows}")
        return (
            f"the board was never seen in {self._unseen} frames: is its size right? {what} are looked for; show all of "
            "it, sharp and evenly lit"
        )

    def _speed(self, view: View, before: View | None) -> float:
        """px a second between two frames; 0 where they are too far apart to tell."""
        if before is None or not 0 < view.stamp - before.stamp <= _SOON:
            return 0.0
        moved = displacement(view, before)
        return 0.0 if moved == float("inf") else moved / (view.stamp - before.stamp) * 1e9
