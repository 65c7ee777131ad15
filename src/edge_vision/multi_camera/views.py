"""What a camera sees of the plane."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_vision.multi_camera.parameters import JoinParameters
from edge_vision.multi_camera.rig import RigCamera

_COLUMNS, _ROWS = 17, 65


def footprint(camera: RigCamera, parameters: JoinParameters) -> NDArray[np.float64]:
    """The part of the plane where its positions are used, as the corners (M, 2) of a polygon in m; (0, 2): nothing.

    From the image's lower edge up to where a box of usual noise is known worse than ``max_deviation``, or the horizon.
    """
    width, height = camera.plane.size
    u, v = np.meshgrid(np.linspace(0.0, width, _COLUMNS), np.linspace(height, 0.0, _ROWS))
    noise = parameters.pixel_noise + parameters.box_noise * 0.1 * height
    spread = np.broadcast_to(noise * noise * np.eye(2), (u.size, 2, 2))
    places, covariances = camera.plane.measure(np.stack([u, v], -1).reshape(-1, 2), spread)
    deviation = np.trace(covariances, axis1=1, axis2=2)
    known = (deviation <= 2 * parameters.max_deviation**2).reshape(_ROWS, _COLUMNS)  # False for NaN
    reach = np.logical_and.accumulate(known, axis=0).sum(axis=0)
    columns = np.flatnonzero(reach)
    places = places.reshape(_ROWS, _COLUMNS, 2)
    near, far = places[0, columns], places[reach[columns] - 1, columns]
    return np.concatenate([near, far[::-1]])
