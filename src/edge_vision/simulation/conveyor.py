"""The digital twin's scene: parts on a moving belt, seen by the twin's camera, with the truth of every frame.

Frames are addressed by index: `Conveyor.render` and `Conveyor.truth` depend on the options and the index alone,
so frames can be made in any order, in any process, and are the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import NS_PER_S, CameraInfo, Frame, Tracks, TrackState
from edge_vision.simulation.belt import BELT_TOP, TEXTURE_LENGTH, belt_texture, draw_rails
from edge_vision.simulation.camera import LENS, Sensor, distort, expose, intrinsics, undistort, undistortion_map
from edge_vision.simulation.layout import BeltLayout, Part
from edge_vision.simulation.options import ConveyorOptions
from edge_vision.simulation.parts import LABELS
from edge_vision.simulation.sprites import SHADOW_REACH, part_sprites
from edge_vision.simulation.visibility import paint, visible_box

FRAME_ID = "camera_optical_frame"

_MIN_VISIBLE = 0.25  # parts of which less is to be seen are not in the truth


@dataclass(frozen=True, slots=True)
class SimulatedFrame:
    """One frame with everything that is true of it.

    masks: (N, H, W) bool, the visible pixels of every object of ``truth``, or None if not asked for. clean: the
    noise-free image of the same exposure, uint8 BGR, or None if not asked for.
    """

    frame: Frame
    truth: Tracks
    masks: NDArray[np.bool_] | None = None
    clean: NDArray[np.uint8] | None = None


class Conveyor:
    """The conveyor scene of some options. Not safe for use from two threads at once."""

    def __init__(self, options: ConveyorOptions | None = None) -> None:
        self.options = o = options or ConveyorOptions()
        self.scale = o.height / 480.0
        self.K = intrinsics(o.width, o.height)
        self.D = LENS * o.distortion
        self.sensor = Sensor(exposure=o.exposure, gain=o.gain, read_noise=o.read_noise)
        self._margin = self._canvas_margin()
        self.layout = BeltLayout(o, self._margin / self.scale)
        self._start = float(np.random.default_rng([o.seed, 3]).uniform(0, TEXTURE_LENGTH))
        self._sprites = part_sprites(self.scale)

    def set_sensor(self, *, exposure: float, gain: float) -> None:
        """Changes the camera's exposure (s) and gain from the next frame on, as a camera's driver does.

        Raises ValueError for what `ConveyorOptions` refuses.
        """
        if (exposure, gain) != (self.options.exposure, self.options.gain):
            self.options = replace(self.options, exposure=exposure, gain=gain)
            self.sensor = replace(self.sensor, exposure=exposure, gain=gain)

    # -- the truth ------------------------------------------------------------------------------------------------

    def camera_info(self, start_stamp: int = 0) -> CameraInfo:
        """The true intrinsics: P is K (the rectified image keeps the same K)."""
        P = np.concatenate([self.K, np.zeros((3, 1))], 1)
        return CameraInfo(
            self.options.width,
            self.options.height,
            self.K.copy(),
            self.D.copy(),
            P=P,
            camera_name="conveyor_twin",
            stamp=start_stamp,
            frame_id=FRAME_ID,
        )

    def stamp(self, index: int, start_stamp: int = 0) -> int:
        """Header time of a frame in ns: the middle of its exposure."""
        return start_stamp + round(index * NS_PER_S / self.options.fps)

    def truth(self, index: int, start_stamp: int = 0) -> Tracks:
        """What is to be seen in frame ``index``, without rendering it.

        Boxes bound the visible pixels of each part in the distorted image, clipped to it. Parts of which less than
        a quarter shows (covered by others or outside the image) are left out. velocities: of the part's centre in
        px/s of the distorted image; ages: seconds since its centre came into the image (or the scene began).
        """
        return self._truth(index, start_stamp)[0]

    def masks(self, index: int) -> NDArray[np.bool_]:
        """Visible pixels of the objects of ``truth(index)``: (N, H, W) bool, in the same order."""
        _, kept, painted = self._truth(index, 0, paint_all=True)
        assert painted is not None
        return np.stack([painted == place + 1 for place in kept]) if len(kept) else np.zeros((0, *painted.shape), bool)

    def _to_image(self, points: NDArray) -> NDArray:
        """Units to distorted pixels in continuous coordinates (pixel centres at .5)."""
        return distort(points * self.scale - 0.5, self.K, self.D) + 0.5

    def _truth(
        self, index: int, start_stamp: int, paint_all: bool = False
    ) -> tuple[Tracks, list[int], NDArray[np.uint8] | None]:
        """The truth, which of the painted outlines it keeps, and those outlines' image (number + 1 at each pixel)."""
        o, t = self.options, index / self.options.fps
        parts, travel = self.layout.parts(t)
        points, starts, boxes = self._outlines(parts, travel, t)
        shapes = self._sprites.shapes
        limits = np.array([o.width, o.height, o.width, o.height], np.float64)
        clipped = np.clip(boxes, 0, limits)
        sides = clipped[:, 2:] - clipped[:, :2]
        inside = np.flatnonzero((sides > 0).all(1))
        whole = (boxes == clipped).all(1)
        # Only where an upper part's box meets a lower one's, or the image cuts it, must pixels be counted.
        below, above = clipped[:, None], clipped[None, :]
        meets = (below[..., :2] < above[..., 2:]).all(-1) & (above[..., :2] < below[..., 2:]).all(-1)
        meets &= np.arange(len(parts))[:, None] < np.arange(len(parts))[None, :]
        doubtful = set(np.flatnonzero(meets.any(1) | ~whole).tolist()) & set(inside.tolist())
        painted = None
        if doubtful or paint_all:
            painted = np.zeros((o.height, o.width), np.uint8)
            needed = set(inside.tolist()) if paint_all else doubtful | set(np.flatnonzero(meets.any(0)).tolist())
            for i in sorted(needed):
                fixed = np.round((points[starts[i] : starts[i + 1]] - 0.5) * 16).astype(np.int32)
                paint(painted, np.split(fixed, shapes[parts[i].class_id].ring_starts), i + 1, boxes[i])
        kept = []
        for i in inside.tolist():
            if i in doubtful:
                assert painted is not None
                least = _MIN_VISIBLE * shapes[parts[i].class_id].area * (parts[i].size * self.scale) ** 2
                box = visible_box(painted, i + 1, clipped[i], least)
                if box is None:
                    continue
                clipped[i] = box
            kept.append(i)
        chosen = [parts[i] for i in kept]
        centres = np.array([[travel - part.u, part.y] for part in chosen]).reshape(-1, 2)
        step = self.layout.belt_speed(t) * 1e-3  # a central difference over 2 ms
        ahead, behind = (self._to_image(centres + np.array([d, 0.0])) for d in (step, -step))
        n = len(chosen)
        tracks = Tracks(
            boxes=clipped[kept].astype(np.float32).reshape(n, 4),
            scores=np.ones(n, np.float32),
            class_ids=np.array([part.class_id for part in chosen], np.int64),
            ids=np.array([part.id for part in chosen], np.int64),
            velocities=((ahead - behind) / 2e-3).astype(np.float32),
            ages=np.array([t - self.layout.entry_time(part.u) for part in chosen], np.float32),
            states=np.full(n, TrackState.CONFIRMED, np.uint8),
            labels=LABELS,
            stamp=self.stamp(index, start_stamp),
            frame_id=FRAME_ID,
        )
        return tracks, kept, painted

    def _outlines(self, parts: list[Part], travel: float, t: float) -> tuple[NDArray, NDArray, NDArray]:
        """All parts' outline points in distorted pixels (P, 2), where each part's begin (N + 1,), boxes (N, 4)."""
        if not parts:
            return np.zeros((0, 2)), np.zeros(1, np.int64), np.zeros((0, 4))
        rings = [self._sprites.shapes[part.class_id].rings for part in parts]
        counts = [len(ring) for ring in rings]
        starts = np.concatenate([[0], np.cumsum(counts)])
        rows = np.array([(p.angle + p.turning * t, p.size, travel - p.u, p.y) for p in parts])
        c, s = np.cos(rows[:, 0]) * rows[:, 1], np.sin(rows[:, 0]) * rows[:, 1]
        c, s, x0, y0 = np.repeat(np.stack([c, s, rows[:, 2], rows[:, 3]]), counts, axis=1)
        x, y = np.concatenate(rings).T
        points = self._to_image(np.stack([x * c - y * s + x0, x * s + y * c + y0], -1))
        low, high = np.minimum.reduceat(points, starts[:-1]), np.maximum.reduceat(points, starts[:-1])
        return points, starts, np.concatenate([low, high], 1)

    # -- the pixels -----------------------------------------------------------------------------------------------

    def _canvas_margin(self) -> int:
        """Pixels around the ideal image that the lens sees beyond its edges."""
        w, h = self.options.width - 1, self.options.height - 1
        border = np.array([[x * w, y * h] for a in np.linspace(0, 1, 17) for x, y in ((a, 0), (a, 1), (0, a), (1, a))])
        seen = undistort(border, self.K, self.D)
        return int(max(0.0, -seen.min(), (seen - [w, h]).max()) + 3)

    def _prepare(self) -> None:
        """What every frame shares, made at the first rendering: canvas, belt, lens map, light."""
        if hasattr(self, "_canvas"):
            return
        o, m = self.options, self._margin
        self._canvas = np.zeros((o.height + 2 * m, o.width + 2 * m, 3), np.uint8)
        top = -m / self.scale
        draw_rails(self._canvas, self.scale, top, top + o.shift, o.seed)
        y0 = round(BELT_TOP * self.scale) + m
        texture = belt_texture(self.scale, o.seed)
        self._belt_rows = slice(max(y0, 0), min(y0 + texture.shape[0], self._canvas.shape[0]))
        texture = texture[: self._belt_rows.stop - self._belt_rows.start]
        self._texture_length = texture.shape[1]
        copies = 1 + math.ceil((self._canvas.shape[1] + 2) / self._texture_length)
        self._texture = np.concatenate([texture] * copies, 1)[:, : self._texture_length + self._canvas.shape[1] + 2]
        self._lens = None
        if self.D.any():
            ideal = undistortion_map(o.width, o.height, self.K, self.D) + np.float32(m)
            self._lens = cv2.convertMaps(ideal[..., 0], ideal[..., 1], cv2.CV_16SC2)
        self._light = self._illumination()

    def _illumination(self) -> NDArray[np.float32]:
        """(H, W, 3) factor: a lamp left above the belt, and the lens' natural vignetting (cos^4)."""
        o = self.options
        y, x = np.mgrid[0 : o.height, 0 : o.width].astype(np.float32)
        dx, dy = (x - self.K[0, 2]) / self.K[0, 0], (y - self.K[1, 2]) / self.K[1, 1]
        vignette = 1 / np.square(1 + dx * dx + dy * dy)
        lamp = 0.86 + 0.26 * np.exp(-(np.square(dx + 0.16) + np.square(dy + 0.12)) / 0.22)
        field = (o.light * vignette * lamp).astype(np.float32)
        return np.ascontiguousarray(np.repeat(field[..., None], 3, 2))

    def radiance(self, index: int) -> NDArray:
        """The distorted scene before the sensor: (H, W, 3) uint8, 255 is white under full light."""
        self._prepare()
        o, m = self.options, self._margin
        t = index / o.fps
        parts, travel = self.layout.parts(t)
        belt = self._canvas[self._belt_rows]
        # The texture moves with the parts: pixel x shows texture at x - travel. Two whole-pixel crops, mixed.
        phase = (-(travel + self._start) * self.scale - m) % self._texture_length
        whole = int(phase)
        part_of = phase - whole
        width = self._canvas.shape[1]
        crops = self._texture[:, whole : whole + width], self._texture[:, whole + 1 : whole + 1 + width]
        cv2.addWeighted(crops[0], 1 - part_of, crops[1], part_of, 0, dst=belt)
        for part in parts:
            angle = part.angle + part.turning * t
            x = (travel - part.u) * self.scale + m
            y = part.y * self.scale + m - self._belt_rows.start
            self._blit(belt, part, angle, x, y)
        if o.blur:
            kernel = _box_kernel(abs(self.layout.belt_speed(t)) * self.scale * o.exposure)
            if kernel.size > 1:
                cv2.filter2D(belt, -1, kernel, dst=belt, borderType=cv2.BORDER_REPLICATE)
        if self._lens is None:
            return self._canvas[m : m + o.height, m : m + o.width]
        return cv2.remap(self._canvas, *self._lens, cv2.INTER_LINEAR)

    def _blit(self, belt: NDArray, part: Part, angle: float, x: float, y: float) -> None:
        """Lays a part with its centre at continuous pixel coordinates x, y onto the belt."""
        c, s = math.cos(angle) * part.size, math.sin(angle) * part.size
        across, along = self._sprites.shapes[part.class_id].half_size
        reach_x, reach_y = abs(c) * across + abs(s) * along, abs(s) * across + abs(c) * along
        left, top, right, bottom = SHADOW_REACH
        x0 = max(0, math.floor(x - (reach_x + left) * self.scale))
        y0 = max(0, math.floor(y - (reach_y + top) * self.scale))
        x1 = min(belt.shape[1], math.ceil(x + (reach_x + right) * self.scale))
        y1 = min(belt.shape[0], math.ceil(y + (reach_y + bottom) * self.scale))
        if x0 >= x1 or y0 >= y1:
            return
        sprite = self._sprites.get(part.class_id, part.finish, angle)
        half = sprite.shape[0] / 2 - 0.5
        matrix = np.array(
            [
                [c, -s, x - 0.5 - x0 - c * half + s * half],
                [s, c, y - 0.5 - y0 - s * half - c * half],
            ]
        )
        patch = cv2.warpAffine(sprite, matrix, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR, borderValue=(0, 0, 0, 255))
        share = cv2.cvtColor(patch[..., 3], cv2.COLOR_GRAY2BGR)
        roi = belt[y0:y1, x0:x1]
        cv2.multiply(roi, share, dst=roi, scale=1 / 255)
        cv2.add(roi, cv2.cvtColor(patch, cv2.COLOR_BGRA2BGR), dst=roi)

    def render(self, index: int, start_stamp: int = 0, *, masks: bool = False, clean: bool = False) -> SimulatedFrame:
        """Frame ``index`` of the camera with its truth. masks, clean: whether to make those as well."""
        o = self.options
        radiance = self.radiance(index)
        # Two cameras over one belt have noise of their own.
        place = () if o.shift == 0.0 else (round(o.shift * 256) & 0xFFFFFFFF,)
        key = (o.seed, index, 2, *place) if o.noise else None
        image = expose(radiance, self.sensor, key, self._light)
        frame = Frame(image, self.stamp(index, start_stamp), FRAME_ID, index)
        return SimulatedFrame(
            frame,
            self.truth(index, start_stamp),
            self.masks(index) if masks else None,
            expose(radiance, self.sensor, None, self._light) if clean else None,
        )


def _box_kernel(length: float) -> NDArray[np.float32]:
    """The (1, n) kernel of a motion of ``length`` pixels: a box with fractional ends, n odd; 1 up to one pixel, over
    which a pixel integrates anyway."""
    half = length / 2
    n = 2 * math.ceil(max(half - 0.5, 0)) + 1
    kernel = np.ones(n, np.float32)
    if n > 1:
        kernel[0] = kernel[-1] = half - (n - 2) / 2
    return (kernel / kernel.sum())[None, :]
