"""The twin's board scene: a printed board at any pose before a wall, seen through a lens of one of three models.

A pixel of the board is what its ray meets on the sheet (bent where ``bow`` says so), averaged over the pixel by four
samples of a copy of the sheet that is about as fine as they are: corners of the image lie where the lens projects them,
to a few thousandths of a pixel. The sensor is `edge_vision.simulation.camera`'s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import NS_PER_S, Frame
from edge_vision.simulation.board_options import BoardOptions
from edge_vision.simulation.camera import expose
from edge_vision.simulation.lens import Lens
from edge_vision.simulation.movement import Choreography, Pose, between, shown_poses
from edge_vision.simulation.wall import wall

FRAME_ID = "camera_optical_frame"
_INK, _PAPER, _BACK = 0.05, 0.88, 110  # reflectance of print and paper; grey of the sheet's back
_COARSE = 8  # px of the grid on which the board is looked for
_A_SUB_POSE, _MOST_SUB_POSES = 1.5, 6  # px between the poses of one exposure, and how many at most
_NO_MAP: Any = None  # remap's second: x and y are both in the first


@dataclass(frozen=True, eq=False)
class Sheet:
    """A printed board as a picture."""

    image: NDArray[np.uint8]
    """(h, w), 255 is white"""
    to_pixels: NDArray[np.float64]
    """(2, 3): from the board's x, y in m to pixels of ``image``, whose centres are whole numbers"""
    extent: NDArray[np.float64]
    """(2, 2) m: least and largest x, y of the board's points, over which a bow is told"""

    @property
    def printed_up(self) -> bool:
        """Whether the board's z comes out of the printed side: its x, y run the other way round than the picture's."""
        return bool(np.linalg.det(self.to_pixels[:, :2]) < 0)

    @property
    def outline(self) -> NDArray[np.float64]:
        """(4, 3) m: the corners of the paper in the board's frame."""
        h, w = self.image.shape
        corners = np.array([[-0.5, -0.5], [w - 0.5, -0.5], [w - 0.5, h - 0.5], [-0.5, h - 0.5]])
        xy = (corners - self.to_pixels[:, 2]) @ np.linalg.inv(self.to_pixels[:, :2]).T
        return np.column_stack([xy, np.zeros(4)])


class BoardScene:
    """The scene of some options with one board. Frames depend on the options, the index and the pose shown alone.

    Not safe for use from two threads at once.
    """

    def __init__(self, options: BoardOptions, sheet: Sheet) -> None:
        self.options = o = options
        self.sheet = sheet
        self.lens: Lens = o.lens()
        outline = sheet.outline
        self._pivot = outline.mean(0)
        poses = shown_poses(self.lens, o.width, o.height, outline, sheet.printed_up)
        self._choreography = Choreography(poses, self._pivot)
        self._shown: tuple[Pose, Pose] | None = None

    # -- what is true ---------------------------------------------------------------------------------------------

    def pose(self, index: int) -> Pose:
        """The board's pose in frame ``index``: as `show` said, else its own way from pose to pose."""
        return self._poses(index)[1]

    def deflected(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points of the board (N, 3) with its bow: z grows by bow (1 - u^2) + bow_y (1 - v^2), u, v -1..1 over its
        points."""
        points = np.array(points, np.float64)
        points[:, 2] += self._bow(points[:, 0], points[:, 1])
        return points

    def project(self, points: NDArray[np.float64], pose: Pose) -> NDArray[np.float64]:
        """True pixels (N, 2) of points of the board (N, 3), its bow included, seen or not."""
        return self.lens.project(self.deflected(points) @ pose.rotation.T + pose.translation)

    def stamp(self, index: int, start_stamp: int = 0) -> int:
        """Header time of a frame in ns: the middle of its exposure."""
        return start_stamp + round(index * NS_PER_S / self.options.fps)

    # -- what happens ---------------------------------------------------------------------------------------------

    def show(self, pose: Pose, before: Pose | None = None) -> None:
        """Takes the board to a pose, where it stays; before: where it was when the shutter opened, for motion blur."""
        self._shown = before or pose, pose

    def set_sensor(self, *, exposure: float, gain: float) -> None:
        """Changes the camera's exposure (s) and gain from the next frame on. Raises ValueError out of range."""
        if (exposure, gain) != (self.options.exposure, self.options.gain):
            self.options = replace(self.options, exposure=exposure, gain=gain)

    # -- the pixels -----------------------------------------------------------------------------------------------

    def render(self, index: int, start_stamp: int = 0) -> Frame:
        """Frame ``index`` of the camera, bgr8."""
        o = self.options
        image = expose(self.radiance(index), o.sensor, (o.seed, index, 5) if o.noise else None, o.light)
        return Frame(image, self.stamp(index, start_stamp), FRAME_ID, index)

    def radiance(self, index: int) -> NDArray[np.uint8]:
        """The scene before the sensor: (H, W, 3), 255 is white under full light."""
        self._prepare()
        start, end = self._poses(index)
        image = self._wall.copy()
        self._paste(image, self._sub_poses(start, end))
        if self.options.blur:
            cv2.GaussianBlur(image, (0, 0), self.options.blur, dst=image)
        if self._dark is not None:
            image[self._dark] = 0
        return image

    def _prepare(self) -> None:
        """What every frame shares, made at the first: rays, wall, the sheet in ever coarser copies."""
        if hasattr(self, "_rays"):
            return
        o = self.options
        # A pixel more on every side: samples of the outermost pixels lie between them and their neighbours.
        self._rays, seen = self.lens.rays(o.width, o.height, 1)
        self._coarse = np.ascontiguousarray(self._rays[::_COARSE, ::_COARSE]).astype(np.float64)
        inner = seen[1:-1, 1:-1]
        self._dark = None if inner.all() else ~inner
        self._wall = wall(self._rays[1:-1, 1:-1], o.seed)
        print_ = 255 - self.sheet.image if o.inverted else self.sheet.image
        levels = 6
        height, width = (-(-side // (1 << levels)) << levels for side in print_.shape)
        paper = np.full((height, width), print_[0, 0], np.uint8)  # as wide and high as can be halved again and again
        paper[: print_.shape[0], : print_.shape[1]] = print_
        table = np.rint(255 * (_INK + (_PAPER - _INK) * np.arange(256) / 255)).astype(np.uint8)
        self._copies = [np.asarray(cv2.LUT(paper, table), np.uint8)]
        for _ in range(levels):
            self._copies.append(_halved(self._copies[-1]))

    def _poses(self, index: int) -> tuple[Pose, Pose]:
        """Where the board is when the shutter opens and when it closes; without motion blur twice the latter."""
        o = self.options
        if self._shown is not None:
            start, end = self._shown
        else:
            t = 0.0 if o.still else index / o.fps
            end = self._choreography.pose(t)
            start = end if o.still else self._choreography.pose(max(t - o.exposure, 0.0))
        return (start if o.motion_blur else end), end

    def _sub_poses(self, start: Pose, end: Pose) -> list[Pose]:
        """Poses during the exposure."""
        if start is end:
            return [end]
        outline = self.sheet.outline
        before, after = (self.lens.project(outline @ pose.rotation.T + pose.translation) for pose in (start, end))
        moved = np.nanmax(np.abs(before - after), initial=0.0)
        count = int(min(max(math.ceil(moved / _A_SUB_POSE), 1), _MOST_SUB_POSES))
        return [between(start, end, (i + 0.5) / count, self._pivot) for i in range(count)] if count > 1 else [end]

    def _paste(self, image: NDArray[np.uint8], poses: list[Pose]) -> None:
        """Lays the board, averaged over its poses, into ``image``."""
        looks = [look for pose in poses if (look := self._look(pose)) is not None]
        if not looks:
            return
        x0, y0 = (min(look.box[i] for look in looks) for i in (0, 1))
        x1, y1 = (max(look.box[i] for look in looks) for i in (2, 3))
        board, cover = self._sample(looks[0], (x0, y0, x1, y1))
        if len(poses) > 1:
            sums = board.astype(np.float32), cover.astype(np.float32)
            for look in looks[1:]:
                for total, part in zip(sums, self._sample(look, (x0, y0, x1, y1)), strict=True):
                    cv2.accumulate(part, total)
            board, cover = (np.rint(total / len(poses)).astype(np.uint8) for total in sums)
        roi = image[y0:y1, x0:x1]
        cv2.multiply(roi, cv2.cvtColor(cv2.bitwise_not(cover), cv2.COLOR_GRAY2BGR), dst=roi, scale=1 / 255)
        cv2.add(roi, cv2.cvtColor(board, cv2.COLOR_GRAY2BGR), dst=roi)

    def _look(self, pose: Pose) -> _Look | None:
        """How the board shows at a pose; None where it does not."""
        R, t = pose.rotation, pose.translation
        centre = -R.T @ t  # of the camera, in the board's frame
        if abs(centre[2]) < 1e-6:  # edge on
            return None
        # The ray d meets the board's plane at x = (c_x e_z - c_z e_x) / e_z with e = R' d, ahead where e_z c_z < 0.
        meet = np.stack([centre[0] * R[:, 2] - centre[2] * R[:, 0], centre[1] * R[:, 2] - centre[2] * R[:, 1], R[:, 2]])
        meet *= -np.sign(centre[2])
        to_pixels = np.vstack([self.sheet.to_pixels, [0, 0, 1]])
        met = self._coarse @ (to_pixels @ meet).T
        with np.errstate(divide="ignore", invalid="ignore"):
            xy = met[..., :2] / met[..., 2:]
        h, w = self.sheet.image.shape
        slack = 0.03 * max(w, h) if self.options.bow or self.options.bow_y else 0.0
        inside = (met[..., 2] > 0) & (xy > -0.5 - slack).all(-1) & (xy < [w - 0.5 + slack, h - 0.5 + slack]).all(-1)
        if not inside.any():
            return None
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        box = (
            max((int(columns[0]) - 1) * _COARSE - 1, 0),
            max((int(rows[0]) - 1) * _COARSE - 1, 0),
            min((int(columns[-1]) + 1) * _COARSE, self.options.width),
            min((int(rows[-1]) + 1) * _COARSE, self.options.height),
        )
        return _Look(meet, centre, box, _pixels_a_pixel(xy, inside), bool((centre[2] > 0) == self.sheet.printed_up))

    def _sample(self, look: _Look, box: tuple[int, int, int, int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The board in a box of the image (left, top, right, bottom): its grey times its cover, and its cover."""
        x0, y0, x1, y1 = box
        level = int(np.clip(math.ceil(math.log2(max(look.density, 1e-3) / 2) - 0.25), 0, len(self._copies) - 1))
        scale = 0.5**level
        h, w = self.sheet.image.shape
        to_copy = np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2], [0, 0, 1]])
        to_copy = to_copy @ np.vstack([self.sheet.to_pixels, [0, 0, 1]])
        rays = self._rays[y0 : y1 + 2, x0 : x1 + 2]
        bent = bool(self.options.bow or self.options.bow_y)
        met = cv2.transform(rays, look.meet if bent else to_copy @ look.meet)
        x, y, ahead = cv2.split(met)
        behind = ahead <= 0
        some_behind = bool(behind.any())
        if some_behind:
            ahead[behind] = 1.0
        cv2.divide(x, ahead, dst=x)
        cv2.divide(y, ahead, dst=y)
        if bent:
            x, y = self._on_bow(x, y, look.centre)
            x, y = (a * np.float32(p) + b * np.float32(q) + np.float32(r) for (p, q, r), a, b in
                    zip(to_copy[:2], (x, x), (y, y), strict=True))  # fmt: skip
        if some_behind:
            x[behind] = -1e6
        # Twice as fine: samples a quarter of a pixel off the pixels' centres; the margin goes again.
        size = 2 * rays.shape[1], 2 * rays.shape[0]
        fine = cv2.resize(cv2.merge((x, y)), size, interpolation=cv2.INTER_LINEAR)[2:-2, 2:-2]
        low = (-0.5 * scale + (scale - 1) / 2,) * 2
        high = ((w - 0.5) * scale + (scale - 1) / 2, (h - 0.5) * scale + (scale - 1) / 2)
        shown = cv2.inRange(fine, low, high)
        if look.printed:
            grey: NDArray = cv2.remap(self._copies[level], fine, _NO_MAP, cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE)
        else:
            grey = np.full(shown.shape, _BACK, np.uint8)
        cv2.bitwise_and(grey, shown, dst=grey)
        return _halved(grey), _halved(shown)

    def _bow(self, x: NDArray, y: NDArray) -> NDArray:
        """m that the board is deeper at points of its plane."""
        (left, top), (right, bottom) = self.sheet.extent
        u = (2 * x - (left + right)) / (right - left)
        v = (2 * y - (top + bottom)) / (bottom - top)
        return self.options.bow * 1e-3 * (1 - u * u) + self.options.bow_y * 1e-3 * (1 - v * v)

    def _on_bow(self, x: NDArray, y: NDArray, centre: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
        """Where rays that meet the board's plane at x, y meet the bowed board: two steps of the fixed point, whose
        error falls by the bow's slope, a hundredth, in each."""
        slope_x, slope_y = (x - centre[0]) / -centre[2], (y - centre[1]) / -centre[2]
        on_x, on_y = x, y
        for _ in range(2):
            z = self._bow(on_x, on_y)
            on_x, on_y = x + z * slope_x, y + z * slope_y
        return on_x.astype(np.float32), on_y.astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Look:
    """How the board shows at a pose: ``meet`` takes a ray to where it meets the board's plane, x w, y w, w in m."""

    meet: NDArray[np.float64]
    centre: NDArray[np.float64]
    box: tuple[int, int, int, int]
    density: float
    printed: bool


def _halved(image: NDArray) -> NDArray[np.uint8]:
    """The mean of each 2x2."""
    return np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)


def _pixels_a_pixel(xy: NDArray[np.float64], inside: NDArray[np.bool_]) -> float:
    """Pixels of the sheet along a pixel of the image, the mean over where the board is seen."""
    whole = inside[:-1, :-1] & inside[1:, :-1] & inside[:-1, 1:]
    if not whole.any():
        return 1e3
    right, down = (xy[:-1, 1:] - xy[:-1, :-1])[whole], (xy[1:, :-1] - xy[:-1, :-1])[whole]
    area = np.abs(right[:, 0] * down[:, 1] - right[:, 1] * down[:, 0])
    return float(np.sqrt(area.mean()) / _COARSE)
