"""`detect`: an image and a board -> a `View` with corners at full resolution, or why there is none.

The board is searched in a small copy of the image; its corners are then refined in the image itself with a half window
of a quarter of that view's own least corner spacing, at most 15 px: with half a spacing, as ROS's camera_calibration
takes, neighbouring edges come into the window and the focal length of the classic OpenCV images is 5 % off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.boards import Board
from edge_vision.calibration.detection_chessboard import find_chessboard, other_size
from edge_vision.calibration.detection_circles import WARNING, find_circles, refine_circles
from edge_vision.calibration.detection_figures import EdgeFigures, edge_figures
from edge_vision.calibration.detection_lattice import lattice, least_spacing, misplaced, tilt
from edge_vision.calibration.detection_markers import find_marked, other_dictionary
from edge_vision.calibration.detection_settling import half_window, refine_corners, settle
from edge_vision.calibration.views import Rejected, View

__all__ = ["DetectionOptions", "Rejected", "View", "detect", "to_gray"]


@dataclass(frozen=True, slots=True)
class DetectionOptions:
    """What a view must be to be kept. The figures are those of `View`."""

    max_motion: float = 4.0
    """px that the board may move while the shutter is open"""
    max_edge_width: float = 6.0
    """px, 10 to 90 %"""
    max_saturated: float = 0.6
    """share of the edges whose white is at the end of the range and spreads into the dark"""
    min_contrast: float = 25.0
    """grey levels between dark and bright squares"""
    max_tilt: float = 72.0
    """degrees"""
    min_spacing: float = 5.0
    """px between neighbouring corners"""
    min_corners: int = 8
    """for boards that may be in view in part"""
    thorough: bool = False
    """search also where it takes long: for images from files, not for a live camera"""
    explain: bool = False
    """where no board is found, look whether it is of another size, another dictionary or inverted (slow)"""


def detect(
    image: NDArray[Any],
    board: Board,
    *,
    options: DetectionOptions | None = None,
    name: str = "",
    stamp: int = 0,
) -> View | Rejected:
    """The board's corners in an image: (h, w) grey, (h, w, 3) BGR or (h, w, 4) BGRA, uint8, uint16 or float.

    Corners too near to the image's border to be refined are left out; the view is kept. Raises ValueError for an array
    that is no image, BoardError where OpenCV cannot find markers at all.
    """
    options = options or DetectionOptions()
    gray = to_gray(image)
    found = _find(gray, board, options)
    if isinstance(found, Rejected):
        return found
    ids, pixels = found
    spacing = least_spacing(board, ids, pixels)
    if spacing == 0:  # no two that are neighbours
        return _few(len(ids), options.min_corners)
    if spacing < options.min_spacing:
        return Rejected("small", f"corners are only {spacing:.1f} px apart: bring the board nearer")
    warnings: tuple[str, ...] = ()
    if board.kind in ("circles", "acircles"):
        pixels, warnings = refine_circles(gray, pixels, spacing), (WARNING,)
    else:
        half = half_window(lattice(board).window, spacing)
        if board.partial:
            ids, pixels = settle(gray, board, ids, pixels, half)
        else:
            kept, pixels = refine_corners(gray, pixels, half)
            ids = ids[kept]
    good = ~misplaced(board, ids, pixels)
    ids, pixels = ids[good], pixels[good]
    if (reason := _too_few(board, ids, options)) is not None:
        return reason
    if (spacing := least_spacing(board, ids, pixels)) == 0:
        return _few(len(ids), options.min_corners)
    figures = edge_figures(gray, board, ids, pixels)
    view = View(
        name=name,
        ids=ids,
        pixels=pixels,
        image_size=(gray.shape[1], gray.shape[0]),
        stamp=stamp,
        spacing=spacing,
        edge_width=figures.width if figures else None,
        motion=figures.motion if figures else None,
        saturated=figures.saturated if figures else None,
        tilt=tilt(board, ids, pixels),
        warnings=warnings,
    )
    unfit = _unfit(view, figures, options)
    return view if unfit is None else unfit


def to_gray(image: NDArray[Any]) -> NDArray[np.uint8]:
    """(h, w) uint8. Raises ValueError for an array that is no image."""
    image = np.asarray(image)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (3, 4)) or 0 in image.shape:
        raise ValueError(f"an image is (h, w), (h, w, 3) BGR or (h, w, 4) BGRA, this is {image.shape}")
    if image.dtype == np.uint16 or image.dtype.kind == "f":  # 10 to 16 bit cameras: what is there over 8 bit
        top = float(image.max()) or 1.0
        image = np.clip(image * (255.0 / top), 0, 255).astype(np.uint8)
    elif image.dtype != np.uint8:
        raise ValueError(f"an image is uint8, uint16 or float, this is {image.dtype}")
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY if image.shape[2] == 3 else cv2.COLOR_BGRA2GRAY)
    return np.ascontiguousarray(image)


def _find(
    gray: NDArray[np.uint8], board: Board, options: DetectionOptions
) -> tuple[NDArray[np.int64], NDArray[np.float64]] | Rejected:
    if board.partial:
        ids, pixels, inverted = find_marked(gray, board, thorough=options.thorough)
        if inverted and len(ids):
            return _inverted()
        if len(ids):
            return ids, pixels
        if options.explain and (other := other_dictionary(gray, board)):
            return Rejected(
                "not_found", f"no marker of {board.dictionary}, but some of {other}: correct the dictionary"
            )
        return Rejected("not_found", "none of the board's markers is in view: bring it nearer, still and evenly lit")
    find = find_chessboard if board.kind == "chessboard" else find_circles
    grid = find(gray, board, thorough=options.thorough)
    if grid is not None:
        return np.arange(board.columns * board.rows), grid.reshape(-1, 2)
    what = "corners" if board.kind == "chessboard" else "circles"
    if options.explain:
        if find(255 - gray, board, thorough=False) is not None:
            return _inverted()
        size = other_size(gray) if board.kind == "chessboard" else None
        if size and set(size) != {board.columns, board.rows}:
            return Rejected(
                "wrong_size",
                f"a chessboard with {size[0]}x{size[1]} inner corners is in view, the board's file says "
                f"{board.columns}x{board.rows}: correct columns and rows (inner corners, not squares)",
            )
    return Rejected(
        "not_found",
        f"no {board.columns}x{board.rows} {what} in view: show the whole board, still and evenly lit",
    )


def _inverted() -> Rejected:
    return Rejected("inverted", "the board is light on dark: print it dark on white, or switch off the inversion")


def _too_few(board: Board, ids: NDArray[np.int64], options: DetectionOptions) -> Rejected | None:
    """Less than four in general position tell nothing about a camera; all in one row neither."""
    least = options.min_corners if board.partial else max(4, board.columns * board.rows // 2)
    rows, columns = np.divmod(ids, board.point_columns)
    if len(ids) < least or len(np.unique(rows)) < 2 or len(np.unique(columns)) < 2:
        return _few(len(ids), least)
    return None


def _few(count: int, least: int) -> Rejected:
    return Rejected("few_corners", f"only {count} corners could be placed, {least} are needed: show more of it")


def _unfit(view: View, figures: EdgeFigures | None, options: DetectionOptions) -> Rejected | None:
    """The first reason, the one to mend first, not to keep a view."""
    assert view.spacing is not None
    if view.spacing < options.min_spacing:
        return Rejected("small", f"corners are only {view.spacing:.1f} px apart: bring the board nearer")
    if figures is not None:
        if figures.contrast < options.min_contrast:
            return Rejected(
                "contrast", f"dark and white differ by {figures.contrast:.0f} of 255: more light or exposure"
            )
        if figures.motion > options.max_motion:
            return Rejected(
                "moving", f"the image is smeared by {figures.motion:.1f} px: hold the board still, or more light"
            )
        if figures.width > options.max_edge_width:
            return Rejected("blurred", f"edges are {figures.width:.1f} px wide: focus, hold still, or step back")
        if figures.saturated > options.max_saturated:
            return Rejected(
                "saturated", f"white spreads into the dark at {figures.saturated:.0%} of the edges: less exposure"
            )
    if view.tilt is not None and view.tilt > options.max_tilt:
        return Rejected("oblique", f"the board is tilted by about {view.tilt:.0f} degrees: turn it towards the camera")
    return None
