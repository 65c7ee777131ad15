"""`View`: what one image of a board gave, which corners and where. All of calibration works on these."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The board's points that one image shows. Raises ValueError where the arrays do not fit each other.

    ``ids`` are indices into ``Board.points``, ascending, each once; ``pixels`` are the same points in the image, where
    whole numbers are pixel centres (OpenCV's convention: the image's top left corner is at -0.5, -0.5).
    The figures are None where nobody measured them, as in corners that were read from a file.
    """

    name: str
    """The image's file name, or the like: how reports call the view."""
    ids: NDArray[np.int64]
    """(N,)"""
    pixels: NDArray[np.float64]
    """(N, 2) x, y"""
    image_size: tuple[int, int]
    """(width, height) px"""
    stamp: int = 0
    """ns of the image's header, 0 where it has none"""
    spacing: float | None = None
    """px: the least distance of two neighbouring corners in this view"""
    edge_width: float | None = None
    """px: the median over the corners of their edges' blur, 10 to 90 % of the step from dark to light"""
    motion: float | None = None
    """px: by how much edges are wider across one direction than across the other: the smear of a moving board"""
    saturated: float | None = None
    """share, 0 to 1, of the board's edges whose white is at the end of the range and spreads into the dark"""
    tilt: float | None = None
    """degrees between the line of sight and the board's normal, as foreshortening tells it (no intrinsics needed)"""
    warnings: tuple[str, ...] = ()
    """What should be known of this view that was kept, in words"""

    def __post_init__(self) -> None:
        ids = np.asarray(self.ids, np.int64)
        pixels = np.asarray(self.pixels, np.float64)
        if ids.ndim != 1 or pixels.shape != (len(ids), 2):
            raise ValueError(f"view {self.name}: ids {ids.shape} and pixels {pixels.shape} must be (N,) and (N, 2)")
        object.__setattr__(self, "ids", ids)
        object.__setattr__(self, "pixels", pixels)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why an image gave no view. The falsy answer of `detect`."""

    code: str
    """one of REJECTIONS"""
    reason: str
    """a sentence for the person who holds the board, with the remedy"""

    def __bool__(self) -> bool:
        return False


REJECTIONS = (
    "not_found",
    "wrong_size",
    "inverted",
    "few_corners",
    "small",
    "oblique",
    "moving",
    "blurred",
    "saturated",
    "contrast",
    "bent",
)
"""What `Rejected.code` can be."""
