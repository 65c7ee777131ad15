"""What the edges of a board tell of an image: how wide they are, whether it moved, whether white is at its end."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.boards import Board
from edge_vision.calibration.detection_lattice import lattice, spread

_MOST_EDGES = 200
_SAMPLES = 41
_SPREAD = 0.5  # px
_LONGEST_REACH = 10.0  # px; farther away the light changes too
_TENTH_TO_NINETENTHS = 2.5631 * np.sqrt(np.pi)  # of a blurred step: 10-90 % width over the integral of q (1 - q)


class EdgeFigures(NamedTuple):
    width: float
    """px, 10 to 90 %, the median over the edges"""
    motion: float
    """px: how far the board moved while the shutter was open, as far as edges across and along differ"""
    saturated: float
    """share of the edges whose white is at the end of the range and spreads into the dark"""
    contrast: float
    """grey levels between dark and bright, the median over the edges"""


def edge_figures(
    gray: NDArray[np.uint8], board: Board, ids: NDArray[np.int64], pixels: NDArray[np.float64]
) -> EdgeFigures | None:
    """By the profiles across the middles of the board's edges; None where fewer than four are in view.

    For a step blurred by a Gaussian of sigma s, the integral of q (1 - q) over the profile q (0 to 1) is s / sqrt(pi),
    and 10 to 90 % are 2.563 s. A movement adds to the squared width of each edge by the squared cosine between its
    normal and the movement.
    """
    table = lattice(board)
    full = spread(board, ids, pixels)
    a, b = full[table.edges[:, 0]], full[table.edges[:, 1]]
    both = np.isfinite(a[:, 0] + b[:, 0])
    a, b = a[both], b[both]
    if len(a) > _MOST_EDGES:
        chosen = np.linspace(0, len(a) - 1, _MOST_EDGES).astype(np.int64)
        a, b = a[chosen], b[chosen]
    length = np.hypot(*(b - a).T)
    normal = (b - a)[:, ::-1] * [1, -1] / np.maximum(length, 1e-9)[:, None]
    reach = np.minimum(table.reach * length, _LONGEST_REACH)
    # (edges, lines, samples, 2): three lines across each edge, averaged against noise
    offsets = np.linspace(-1, 1, _SAMPLES)[None, None, :, None] * (reach[:, None] * normal)[:, None, None, :]
    places = a[:, None] + (b - a)[:, None] * np.array([0.4, 0.5, 0.6])[None, :, None]
    samples = places[:, :, None] + offsets
    height, width = gray.shape
    inside = ((samples >= 0) & (samples <= [width - 1, height - 1])).all((1, 2, 3)) & (reach >= 1.5)
    if inside.sum() < 4:
        return None
    where = samples[inside].astype(np.float32).reshape(-1, 3 * _SAMPLES, 2)
    profile = cv2.remap(gray, where[..., 0], where[..., 1], cv2.INTER_LINEAR).reshape(-1, 3, _SAMPLES).mean(1)
    low, high = profile[:, :5].mean(1), profile[:, -5:].mean(1)
    contrast = np.abs(high - low)
    clear = contrast >= 8
    if clear.sum() < 4:
        return EdgeFigures(0.0, 0.0, 0.0, float(np.median(contrast)))
    # Clipped, or the overshoot of a camera that sharpens would make edges narrower than none.
    q = np.clip((profile[clear] - low[clear, None]) / (high - low)[clear, None], 0, 1)
    step = 2 * reach[inside][clear] / (_SAMPLES - 1)
    widths = np.maximum((q * (1 - q)).sum(1) * step * _TENTH_TO_NINETENTHS, 0)
    bright = np.maximum(low, high)[clear]
    # Overexposed white spreads into the dark squares: edges leave the lines between corners, which stay where they are.
    level = np.where((high > low)[clear, None], q, 1 - q)  # 0 dark, 1 bright
    spread_out = reach[inside][clear] * (2 * level.mean(1) - 1)
    return EdgeFigures(
        float(np.median(widths)),
        _motion(widths, normal[inside][clear]),
        float(((bright >= 254) & (spread_out > _SPREAD)).mean()),
        float(np.median(contrast)),
    )


def _motion(widths: NDArray[np.float64], normals: NDArray[np.float64]) -> float:
    """By w^2 = a + b cos 2t + c sin 2t over the normals' angle t: the movement's share has the amplitude 2 |b, c|.

    Of a board that is seen head-on the normals have two directions only, which tell nothing of c: what the normals do
    not tell is held at zero (ridge), and a smear along a diagonal is only seen as width.
    """
    x, y = normals.T
    system = np.column_stack([np.ones(len(x)), x * x - y * y, 2 * x * y])
    squared, used = widths**2, np.ones(len(x), bool)
    solution = np.zeros(3)
    for _ in range(3):
        held = 0.1 * used.sum() * np.diag([0.0, 1.0, 1.0])
        solution = np.linalg.solve(system[used].T @ system[used] + held, system[used].T @ squared[used])
        misfit = np.abs(squared - system @ solution)
        used = misfit <= 4 * np.median(misfit) + 0.5
    amplitude = float(np.hypot(solution[1], solution[2]))
    return float(np.sqrt(2 * amplitude)) / 0.76  # a movement by L widens 10-90 %, as measured here, to 0.76 L
