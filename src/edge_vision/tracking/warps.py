"""What a warp is: where the pixels of the previous frame lie in this one (apart from what makes them, so that a tracker
alone loads no OpenCV)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Homography = NDArray[np.float64]


def as_homography(warp: NDArray) -> Homography:
    """(2, 3) or (3, 3) -> (3, 3) float64, its last entry one where that can be. ValueError otherwise."""
    matrix = np.asarray(warp, np.float64)
    if matrix.shape == (2, 3):
        matrix = np.vstack([matrix, [0.0, 0.0, 1.0]])
    if matrix.shape != (3, 3):
        raise ValueError(f"a warp is a 2 x 3 affine or a 3 x 3 homography, got an array of shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError("the warp holds NaN or infinity: pass None for a frame whose camera motion is not known")
    return matrix / matrix[2, 2] if abs(matrix[2, 2]) > 1e-12 else matrix
