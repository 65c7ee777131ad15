"""Tracks of one camera as positions on the plane, with how well each is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Tracks
from edge_vision.multi_camera.parameters import JoinParameters
from edge_vision.multi_camera.rig import RigCamera

_BORDER = 2.0  # px: a box that comes this near to the image's edge may go on beyond it


def measure(
    camera: RigCamera, tracks: Tracks, parameters: JoinParameters
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Positions (N, 2) m of the boxes' anchors, and covariances (N, 2, 2) m²; NaN for what is not on the plane or known
    worse than ``max_deviation``; and which boxes the image's edge cuts (N,) where that moves their anchor.

    How well the boxes are known is what their tracker says, where it does, else ``box_noise`` relative to each. A box
    cut by the image's edge does not tell where its object ends: half of its side is added to the deviation across it.
    """
    boxes = tracks.boxes.astype(np.float64)
    sides = boxes[:, 2:] - boxes[:, :2]
    middle = 0.5 * (boxes[:, :2] + boxes[:, 2:])
    bottom = camera.anchor == "bottom"
    points = np.column_stack([middle[:, 0], boxes[:, 3]]) if bottom else middle
    if tracks.covariances is None:
        deviation = parameters.box_noise * np.sqrt(np.maximum(sides.prod(axis=1), 0.0)) + parameters.pixel_noise
        spread = np.repeat((deviation * deviation)[:, None], 2, axis=1)
    else:
        spread = np.zeros((len(boxes), 2))
    width, height = camera.plane.size
    cut = np.stack([boxes[:, 0] <= _BORDER, boxes[:, 2] >= width - _BORDER], 1).any(axis=1)
    low = boxes[:, 3] >= height - _BORDER
    if not bottom:
        low = low | (boxes[:, 1] <= _BORDER)
    spread += np.square(0.5 * np.stack([cut, low], 1) * np.maximum(sides, sides[:, ::-1]))
    pixel = spread[:, :, None] * np.eye(2)
    if tracks.covariances is not None:
        pixel += parameters.correlation * _anchor_covariances(tracks.covariances, bottom)
    positions, covariance = camera.plane.measure(points, pixel)
    covariance += parameters.alignment**2 * np.eye(2)
    known = np.trace(covariance, axis1=1, axis2=2) <= 2 * parameters.max_deviation**2  # False for NaN
    positions[~known] = np.nan
    return positions, covariance, cut | low


def _anchor_covariances(centres: NDArray, bottom: bool) -> NDArray[np.float64]:
    """(N, 2, 2) px² of the anchors from those of the boxes' centres.

    The middle of the lower edge is the centre and half the height. Edges that are found independently of each other
    make the centre's and half the height's variance the same: the lower edge has both.
    """
    covariances = np.array(centres, np.float64)
    if bottom:
        covariances[:, 1, 1] *= 2.0
    return covariances
