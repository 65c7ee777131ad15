"""Which view of the board to add next: the candidate that lowers the uncertainty most, in words and as an outline.

Candidates are poses that a person can take up: the board at nine places of the image, as near as it fits, at a middle
distance and far, facing the camera or tilted about the vertical or the horizontal either way. Each is scored by the
information that it would add (`knowledge`). Among those nearly as good as the best, the one that covers most of what
no view has covered yet is taken, so that the verdict's coverage is met on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.boards import Board
from edge_vision.calibration.knowledge import ENOUGH_GAIN, Knowledge, known_from, locate
from edge_vision.calibration.projection import Camera
from edge_vision.calibration.result import Calibration
from edge_vision.calibration.views import View

Floats = NDArray[np.float64]

COVERAGE_CELLS = 10
"""Cells of the coverage grid along each side of the image."""

_NEARLY_BEST, _NEARLY_BEST_LATE = 0.75, 0.3
_LATE = 0.08  # gains below it: the parameters are known well, what counts now is coverage
_TILTS = (0.0, 25.0, 45.0)
_SIZES = {"near": 0.92, "at a middle distance": 0.6, "far": 0.4}
_OVERHANGING = {"very near": 1.3, **_SIZES}
_ROWS, _COLUMNS = ("top", "", "bottom"), ("left", "", "right")
_DIRECTIONS = ("right", "left", "top", "bottom")


@dataclass(frozen=True, eq=False)
class Suggestion:
    """A view worth taking."""

    text: str
    """As "near (0.31 m), top left, tilted 45 degrees about the vertical, right side towards the camera"."""
    outline: Floats
    """(N, 2) px: the closed line along which the board's edge should appear."""
    rotation: Floats
    """(3, 3) board to camera"""
    translation: Floats
    """(3,) m"""
    gain: float
    """The share by which the uncertainty is expected to fall, 0 to 1."""
    tilt: float
    """degrees between the line of sight and the board's normal"""


@dataclass(frozen=True, eq=False)
class _Candidates:
    rotations: Floats
    translations: Floats
    words: tuple[tuple[str, str, float, int], ...]
    """distance, place, tilt in degrees, index of the side that is nearer"""
    visible: NDArray[np.bool_]
    pixels: Floats


def suggest(knowledge: Knowledge, views: Sequence[View] = (), count: int = 1) -> tuple[Suggestion, ...]:
    """The best views to add, the first first; each later one as if those before it had been taken.

    views: those that there are, for what they cover. Empty where no pose of the board gives a usable view.
    """
    candidates = _candidates(knowledge.camera, knowledge.board)
    if not len(candidates.rotations):
        return ()
    covered = coverage_cells([view.pixels for view in views], knowledge.camera.image_size)
    middle = knowledge.board.points.mean(axis=0)
    poses = [pose for view in views if (pose := locate(knowledge.camera, knowledge.board, view))]
    tilts = [tilt_direction(R, R @ middle + t) for R, t in poses]
    directions = [direction for angle, direction in tilts if angle >= 15]
    result: list[Suggestion] = []
    taken: list[int] = []
    for _ in range(min(count, len(candidates.rotations))):
        gains = knowledge.gains(candidates.rotations, candidates.translations, candidates.visible)
        gains[taken] = -1.0
        best = _choose(candidates, gains, covered, directions, knowledge.camera.image_size)
        result.append(_suggestion(knowledge, candidates, best, float(gains[best])))
        taken.append(best)
        seen = candidates.visible[best]
        view = View("", np.flatnonzero(seen), candidates.pixels[best, seen], knowledge.camera.image_size)
        if count > 1:
            knowledge = knowledge.added(view)
            covered |= coverage_cells([view.pixels], view.image_size)
            directions.append(candidates.words[best][3])
    return tuple(result)


def is_worth_adding(knowledge: Knowledge, view: View, least: float = ENOUGH_GAIN) -> tuple[bool, float]:
    """Whether a view lowers the uncertainty by more than ``least`` (a share), and by what share it does."""
    gain = knowledge.gain(view)
    return gain > least, gain


def choose_views(calibration: Calibration, board: Board, views: Sequence[View], most: int) -> list[View]:
    """At most so many of the views, those that tell most of the camera, in their order.

    Greedy: each time the one that lowers the uncertainty most is taken, from a camera that nobody has calibrated on.
    calibration: a first one, for poses and sizes, of some of the views.
    """
    knowledge = known_from(calibration, board).forgotten()
    known = [view for view in views if knowledge.gain(view) > 0]
    information = [knowledge.information_of(view) for view in known]
    chosen: list[int] = []
    while len(chosen) < min(most, len(known)):
        left = [index for index in range(len(known)) if index not in chosen]
        gains = knowledge.gains_of(np.array([information[index] for index in left]))
        best = left[int(np.argmax(gains))]
        chosen.append(best)
        knowledge = knowledge.told(information[best])
    return [known[index] for index in sorted(chosen)]


def coverage_cells(pixels: Sequence[Floats], image_size: tuple[int, int]) -> NDArray[np.bool_]:
    """(10, 10): the cells of the image, rows from the top, in which a corner was seen."""
    cells = np.zeros((COVERAGE_CELLS, COVERAGE_CELLS), bool)
    for each in pixels:
        column, row = (
            np.clip(((each[:, axis] + 0.5) * COVERAGE_CELLS / image_size[axis]).astype(int), 0, COVERAGE_CELLS - 1)
            for axis in (0, 1)
        )
        cells[row, column] = True
    return cells


def tilt_direction(rotation: Floats, translation: Floats) -> tuple[float, int]:
    """The board's tilt: degrees between the line of sight and its normal, and which side of it is nearer.

    rotation (3, 3), translation (3,) of the board in the camera's frame. The side, as the image shows it: 0 right, 1
    left, 2 top, 3 bottom. A board that faces the camera has a side too, by chance.
    """
    sight = translation / np.linalg.norm(translation)
    normal = rotation[:, 2] * np.sign(rotation[:, 2] @ sight)
    # The normal as seen along the line of sight: it leans away from the nearer side.
    across, down, _ = _facing(sight).T @ normal
    angle = float(np.degrees(np.arccos(np.clip(normal @ sight, -1, 1))))
    if abs(across) >= abs(down):
        return angle, 0 if across > 0 else 1
    return angle, 2 if down < 0 else 3


def _choose(
    candidates: _Candidates, gains: Floats, covered: NDArray[np.bool_], directions: Sequence[int], size: tuple[int, int]
) -> int:
    best = float(gains.max())
    nearly = np.flatnonzero(gains >= best * (_NEARLY_BEST if best > _LATE else _NEARLY_BEST_LATE))
    if best <= _LATE:
        # A side that was never turned to the camera keeps the verdict from good: now it comes first.
        missing = {side for side in range(4) if side not in directions}
        sides = [index for index, (_, _, tilt, side) in enumerate(candidates.words) if tilt and side in missing]
        usable = [index for index in sides if gains[index] > 0]
        nearly = np.array([max(usable, key=lambda index: gains[index])]) if usable else nearly
    least = min((directions.count(side) for side in range(4)), default=0)

    def new(index: int) -> tuple[float, float]:
        cells = coverage_cells([candidates.pixels[index, candidates.visible[index]]], size)
        _, _, tilt, side = candidates.words[index]
        rare = tilt > 0 and directions.count(side) == least
        return float(np.sum(cells & ~covered)) + 3 * rare, float(gains[index])

    return max(nearly.tolist(), key=new)


def _suggestion(knowledge: Knowledge, candidates: _Candidates, index: int, gain: float) -> Suggestion:
    R, t = candidates.rotations[index], candidates.translations[index]
    distance, place, tilt, side = candidates.words[index]
    text = f"{distance} ({np.linalg.norm(t):.2g} m), {place}, "
    if tilt:
        axis = "vertical" if side < 2 else "horizontal"
        text += f"tilted {tilt:g} degrees about the {axis}, {_DIRECTIONS[side]} side towards the camera"
    else:
        text += "facing the camera"
    return Suggestion(text, board_outline(knowledge.camera, knowledge.board, R, t), R, t, gain, tilt)


def board_outline(camera: Camera, board: Board, rotation: Floats, translation: Floats, steps: int = 12) -> Floats:
    """(N, 2) px: the edge of the board at a pose, curved as the lens curves it; points that it has no place for left
    out."""
    around = _edge(board, steps)
    pixels = camera.project(around @ rotation.T + translation)
    return pixels[np.isfinite(pixels).all(axis=1)]


def _edge(board: Board, steps: int) -> Floats:
    """(4 steps, 3) m: points around the printed pattern, as far apart along each side."""
    corners = board.outline
    share = np.linspace(0, 1, steps, endpoint=False)[:, None]
    return np.concatenate([a + share * (b - a) for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True)])


def _candidates(camera: Camera, board: Board) -> _Candidates:
    """Every pose that shows enough of the board; C x M arrays."""
    sizes = _OVERHANGING if board.partial else _SIZES
    turns, words = [], []
    for tilt in _TILTS:
        for side in range(4 if tilt else 1):
            turns.append(_tilted(tilt, side))
            words.append((tilt, side))
    spread = [
        (turn, size, row, column)
        for turn in range(len(turns))
        for size in sizes
        for row in range(3)
        for column in range(3)
    ]
    own = np.diag([1.0, -1.0, -1.0]) if board.kind == "aprilgrid" else np.eye(3)
    tilted = np.array([turns[turn] @ own for turn, *_ in spread])
    fill = np.array([sizes[size] for _, size, *_ in spread])
    places = np.array([(column - 1, row - 1) for *_, row, column in spread], np.float64)
    rotations, translations = _placed(camera, board, tilted, fill, places)
    seen = np.einsum("cij,mj->cmi", rotations, board.points) + translations[:, None]
    pixels = camera.project(seen.reshape(-1, 3)).reshape(*seen.shape[:2], 2)
    # A lens model bends back beyond its field of view: what does not lead back to its ray is not seen.
    rays = camera.unproject(pixels.reshape(-1, 2)).reshape(seen.shape)
    true_rays = seen / np.linalg.norm(seen, axis=-1, keepdims=True)
    width, height = camera.image_size
    with np.errstate(invalid="ignore"):
        visible = (np.sum(rays * true_rays, axis=-1) > 1 - 1e-6) & (pixels >= 0).all(axis=-1)
        visible &= (pixels[..., 0] <= width - 1) & (pixels[..., 1] <= height - 1)
    share = visible.mean(axis=1)
    keep = np.flatnonzero(
        share >= 0.35 if board.partial else (share == 1) & _whole(camera, board, rotations, translations)
    )
    return _Candidates(
        rotations[keep],
        translations[keep],
        tuple((spread[i][1], _place(spread[i][2], spread[i][3]), *words[spread[i][0]]) for i in keep),
        visible[keep],
        pixels[keep],
    )


def _whole(camera: Camera, board: Board, rotations: Floats, translations: Floats) -> NDArray[np.bool_]:
    """(C,) whether the board's edge is in the image, too."""
    edge = _edge(board, 6)
    pixels = camera.project((np.einsum("cij,mj->cmi", rotations, edge) + translations[:, None]).reshape(-1, 3))
    with np.errstate(invalid="ignore"):
        inside = (pixels >= 0).all(axis=1) & (pixels <= np.array(camera.image_size) - 1).all(axis=1)
    return np.all(inside.reshape(len(rotations), -1), axis=1)


def _placed(camera: Camera, board: Board, tilted: Floats, fill: Floats, places: Floats) -> tuple[Floats, Floats]:
    """Poses at which the board fills that share of the image, flush with its edges: the pattern's edge, which detectors
    need, or where a part is enough the points.

    tilted (C, 3, 3) as seen along the line of sight; fill (C,) of the width or height; places (C, 2), -1 to 1.
    """
    middle_point = board.points.mean(axis=0)
    points = (board.points if board.partial else _edge(board, 6)) - middle_point
    size = np.array(camera.image_size, np.float64)
    margin = 0.01 * size.max()
    middle = np.repeat((size - 1)[None] / 2, len(tilted), axis=0)
    wanted = middle + places * size / 6
    focal = camera.parameters[0]
    distance = focal * np.ptp(points, axis=0)[:2].max() / (fill * size.min())
    for _ in range(9):
        rays = camera.unproject(np.clip(wanted, 0, size - 1))
        rays = np.where(np.isfinite(rays).all(axis=1, keepdims=True), rays, [0.0, 0.0, 1.0])
        rotations = np.array([_facing(ray) for ray in rays]) @ tilted
        centres = rays * distance[:, None]
        seen = np.einsum("cij,mj->cmi", rotations, points) + centres[:, None]
        pixels = camera.project(seen.reshape(-1, 3)).reshape(*seen.shape[:2], 2)
        with np.errstate(invalid="ignore"):
            low, high = np.nanmin(pixels, axis=1), np.nanmax(pixels, axis=1)
        extent = high - low
        bad = ~np.isfinite(extent).all(axis=1) | (extent < 1).any(axis=1)
        low[bad], high[bad], extent[bad] = middle[bad], middle[bad] + 1, 1.0
        room = size - 1 - 2 * margin
        target = middle + places * np.abs(room - extent) / 2
        wanted = wanted + np.clip(target - (low + high) / 2, -size / 4, size / 4)
        distance = distance * np.clip((extent / (fill[:, None] * room)).max(axis=1), 0.7, 1.4)
    return rotations, centres - np.einsum("cij,j->ci", rotations, middle_point)


def _facing(sight: Floats) -> Floats:
    """(3, 3) the smallest rotation that takes the optical axis to this direction."""
    x, y, z = sight
    if z < -0.999:
        return np.diag([1.0, -1.0, -1.0])
    return np.array(
        [[1 - x * x / (1 + z), -x * y / (1 + z), x], [-x * y / (1 + z), 1 - y * y / (1 + z), y], [-x, -y, z]]
    )


def _tilted(degrees: float, side: int) -> Floats:
    """(3, 3) a board that faced the camera with its right, left, top or bottom side turned towards it."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    if side < 2:
        s = s if side == 0 else -s
        return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    s = s if side == 2 else -s
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def _place(row: int, column: int) -> str:
    words = " ".join(word for word in (_ROWS[row], _COLUMNS[column]) if word)
    return words or "in the middle"
