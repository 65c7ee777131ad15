"""The twin's pictures spoiled by one known cause each, as physically as may be: before the sensor where the cause lies
in light or optics, behind it where it lies in the processing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Frame
from edge_vision.simulation import Conveyor, ConveyorOptions, Sensor, expose

Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Case:
    """Frames of one camera, the last of which is judged. what: the degradation's size, in words; throughout: whether
    every frame is judged."""

    cause: str
    what: str
    frames: Iterable[Frame]
    throughout: bool = False


@dataclass(frozen=True, slots=True)
class Scene:
    """A stretch of a scene without noise, and the sensor that sees it."""

    conveyor: Conveyor
    start: int

    @property
    def sensor(self) -> Sensor:
        return self.conveyor.sensor

    def radiance(self, i: int) -> NDArray[np.float32]:
        """(H, W, 3) float32, 1 is white under the light of that place."""
        clean = self.conveyor.render(self.start + i).frame.image
        sensor = self.sensor
        return (clean.astype(np.float32) - sensor.black_level) / (sensor.K * sensor.electrons_at_white)

    def frame(self, i: int, image: NDArray) -> Frame:
        return Frame(image, self.conveyor.stamp(self.start + i), "camera", i)

    def shoot(self, i: int, radiance: NDArray | None = None, sensor: Sensor | None = None) -> Frame:
        """Frame i of the stretch as the sensor takes it, noise and all; radiance: what it sees, if not the scene."""
        key = (self.conveyor.options.seed, self.start + i, 77)
        seen = self.radiance(i) if radiance is None else np.ascontiguousarray(radiance, np.float32)
        return self.frame(i, expose(seen, sensor or self.sensor, key))


@lru_cache(maxsize=64)
def _conveyor(options: ConveyorOptions) -> Conveyor:
    return Conveyor(options)


_DENSITIES = (0.15, 0.4, 0.6, 0.9)


def scene(rng: Rng, seeds: range, *, fps: float = 30.0, large: float = 0.08, **options: object) -> Scene:
    """A random stretch of a random scene. large: share of 1080p, which only the first four seeds have."""
    big = rng.random() < large
    seed = int(rng.choice(seeds[:4] if big else seeds))
    known = ConveyorOptions(
        width=1920 if big else 640,
        height=1080 if big else 480,
        fps=fps,
        seed=seed,
        density=_DENSITIES[seed % 4],
        noise=False,
        **options,  # type: ignore[arg-type]
    )
    return Scene(_conveyor(known), int(rng.integers(0, 2000)))


def _steady(scene: Scene, cause: str, what: str, spoil: Callable[[NDArray], NDArray], count: int = 2) -> Case:
    return Case(cause, what, tuple(scene.shoot(i, spoil(scene.radiance(i))) for i in range(count)))


def _other_sensor(scene: Scene, cause: str, what: str, sensor: Sensor, light: float = 1.0, count: int = 2) -> Case:
    frames = tuple(scene.shoot(i, scene.radiance(i) * np.float32(light), sensor) for i in range(count))
    return Case(cause, what, frames)


def _log_uniform(rng: Rng, low: float, high: float) -> float:
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))


def clean(rng: Rng, seeds: range) -> Case:
    """Exposure times of 2.5 to 6 ms about the default of 4; one in five long enough for all that takes time."""
    exposure = _log_uniform(rng, 0.0025, 0.006)
    long = rng.random() < 0.2
    s = scene(rng, seeds, fps=10.0 if long and rng.random() < 0.5 else 30.0, large=0.0 if long else 0.15)
    sensor = replace(s.sensor, exposure=exposure)
    frames = tuple(s.shoot(i, sensor=sensor) for i in range(20 if long else 2))
    size = "x".join(map(str, reversed(frames[0].image.shape[:2])))
    return Case("ok", f"{size}, {exposure * 1e3:.1f} ms, {len(frames)} frames", frames)


def long_stream(rng: Rng, seeds: range, cause: str, seconds: float = 10.0) -> Case:
    """Ten seconds at 15 to 30 frames a second, three in four of 320x240, of which no frame may be blamed on anything
    else: what takes time to tell takes time to be told wrongly as well. cause: "ok", "dark" or "blurred"."""
    large, fps = rng.random() < 0.25, float(rng.choice([15.0, 20.0, 30.0]))
    width, height, seed = 640 if large else 320, 480 if large else 240, int(rng.choice(seeds))
    options = ConveyorOptions(width=width, height=height, fps=fps, seed=seed, density=_DENSITIES[seed % 4], noise=False)
    s = Scene(Conveyor(options), int(rng.integers(0, 2000)))
    factor = _log_uniform(rng, 7, 14) if cause == "dark" else 1.0
    sigma = float(rng.uniform(1.8, 3)) if cause == "blurred" else 0.0
    sensor = replace(s.sensor, exposure=s.sensor.exposure / factor)

    def frames() -> Iterator[Frame]:
        for i in range(round(seconds * fps)):
            radiance = s.radiance(i)
            yield s.shoot(i, cv2.GaussianBlur(radiance, (0, 0), sigma) if sigma else radiance, sensor)

    what = f"{seconds:.0f} s of {width}x{height} at {fps:.0f} fps, seed {seed}"
    return Case(cause, f"{what}, exposure / {factor:.1f}, blur {sigma:.1f} px", frames(), throughout=True)


def dark(rng: Rng, seeds: range) -> Case:
    s, factor = scene(rng, seeds), _log_uniform(rng, 5, 20)
    return _other_sensor(s, "dark", f"exposure / {factor:.1f}", replace(s.sensor, exposure=s.sensor.exposure / factor))


def black(rng: Rng, seeds: range) -> Case:
    s = scene(rng, seeds)
    sensor = replace(s.sensor, gain=_log_uniform(rng, 1, 8))
    return _other_sensor(s, "black", f"no light, gain {sensor.gain:.1f}", sensor, light=0.0)


def clipped(rng: Rng, seeds: range) -> Case:
    s, factor = scene(rng, seeds), _log_uniform(rng, 3, 8)
    return _other_sensor(
        s, "clipped", f"exposure x {factor:.1f}", replace(s.sensor, exposure=s.sensor.exposure * factor)
    )


def blurred(rng: Rng, seeds: range) -> Case:
    s, sigma = scene(rng, seeds), float(rng.uniform(1.5, 4))
    return _steady(s, "blurred", f"sigma {sigma:.1f} px", lambda r: cv2.GaussianBlur(r, (0, 0), sigma))


def motion_kernel(length: float, degrees: float) -> NDArray[np.float32]:
    """The square kernel of a straight motion of ``length`` px, drawn at five times the resolution."""
    n, fine = 2 * math.ceil(length / 2) + 1, 5
    kernel = np.zeros((n * fine, n * fine), np.float32)
    t = np.linspace(-length / 2, length / 2, 40 * n)
    x = ((n / 2 + t * math.cos(math.radians(degrees))) * fine).astype(int).clip(0, n * fine - 1)
    y = ((n / 2 + t * math.sin(math.radians(degrees))) * fine).astype(int).clip(0, n * fine - 1)
    np.add.at(kernel, (y, x), 1)
    kernel = kernel.reshape(n, fine, n, fine).sum((1, 3))
    return kernel / kernel.sum()


def motion_blurred(rng: Rng, seeds: range) -> Case:
    """Three in four: the camera shakes, all the picture moves, any direction. Else the belt runs fast under a long
    exposure."""
    if rng.random() < 0.25:
        length = float(rng.uniform(9, 20))
        s = scene(rng, seeds, large=0.0, exposure=0.02, light=0.2, speed=length / 0.02, variation=0.0)
        frames = tuple(s.shoot(i) for i in range(2))
        return Case("motion_blurred", f"belt, {length:.0f} px", frames)
    s, length, angle = scene(rng, seeds), float(rng.uniform(8, 24)), float(rng.uniform(0, 180))
    kernel = motion_kernel(length, angle)
    what = f"shake, {length:.0f} px at {angle:.0f} deg"
    return _steady(s, "motion_blurred", what, lambda r: cv2.filter2D(r, -1, kernel, borderType=cv2.BORDER_REPLICATE))


def noisy(rng: Rng, seeds: range) -> Case:
    """Half: Gaussian noise of 8 to 25 DN a channel. Half: little light and much gain."""
    s = scene(rng, seeds)
    if rng.random() < 0.5:
        sigma = float(rng.uniform(8, 25))
        frames = []
        for i in range(2):
            image = s.shoot(i).image
            noise = np.random.default_rng([s.start, i]).normal(0, sigma, image.shape)
            frames.append(s.frame(i, np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)))
        return Case("noisy", f"sigma {sigma:.0f} DN", tuple(frames))
    gain = _log_uniform(rng, 28, 80)
    return _other_sensor(
        s, "noisy", f"gain {gain:.0f}", replace(s.sensor, gain=gain, exposure=s.sensor.exposure / gain)
    )


def low_contrast(rng: Rng, seeds: range) -> Case:
    """Veiling light: a share of the contrast is left, over a grey."""
    s, left, veil = scene(rng, seeds), float(rng.uniform(0.12, 0.35)), float(rng.uniform(0.35, 0.6))
    return _steady(s, "low_contrast", f"{left:.2f} left", lambda r: r * np.float32(left) + np.float32(veil))


def colour_cast(rng: Rng, seeds: range) -> Case:
    s, size, angle = scene(rng, seeds), float(rng.uniform(0.5, 1.2)), float(rng.uniform(0, 2 * math.pi))
    red, blue = size * math.cos(angle), size * math.sin(angle)
    gains = 2.0 ** np.array([blue, 0.0, red])
    gains /= gains @ [0.114, 0.587, 0.299]
    what = f"R {red:+.1f}, B {blue:+.1f} octaves"
    return _steady(s, "colour_cast", what, lambda r: r * gains.astype(np.float32))


def blocky(rng: Rng, seeds: range) -> Case:
    s, quality = scene(rng, seeds), int(rng.integers(4, 16))
    frames = []
    for i in range(2):
        coded = cv2.imencode(".jpg", s.shoot(i).image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR)
        assert decoded is not None
        frames.append(s.frame(i, decoded))
    return Case("blocky", f"JPEG {quality}", tuple(frames))


def frozen(rng: Rng, seeds: range) -> Case:
    s, repeats = scene(rng, seeds), int(rng.integers(6, 30))
    first = [s.shoot(i) for i in range(2)]
    frames = [*first, *(s.frame(2 + i, first[-1].image.copy()) for i in range(repeats))]
    return Case("frozen", f"{repeats} frames", tuple(frames))


def occluded(rng: Rng, seeds: range) -> Case:
    """A spot out of focus on the lens, near the belt: dark, grey or brown, its middle opaque; 6 s of 5 frames
    a second: dirt is told by what passes around it."""
    s = scene(rng, seeds, fps=5.0, large=0.0)
    height, width = s.conveyor.options.height, s.conveyor.options.width
    radius = float(rng.uniform(0.09, 0.22)) * height
    cx, cy = float(rng.uniform(0.1, 0.9)) * width, float(rng.uniform(0.25, 0.75)) * height
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    stretch, turn = float(rng.uniform(0.7, 1.4)), float(rng.uniform(0, math.pi))
    u = (x - cx) * math.cos(turn) + (y - cy) * math.sin(turn)
    v = (y - cy) * math.cos(turn) - (x - cx) * math.sin(turn)
    distance = np.sqrt(np.square(u * stretch) + np.square(v / stretch))
    soft = float(rng.uniform(0.15, 0.35))
    cover = np.clip((1 - distance / radius) / soft + 0.5, 0, 1)[..., None].astype(np.float32)
    colour = np.float32(rng.uniform(0.0, 0.3)) * np.array([0.8, 0.95, 1.0], np.float32)
    frames = tuple(s.shoot(i, s.radiance(i) * (1 - cover) + cover * colour) for i in range(30))
    return Case("occluded", f"radius {radius:.0f} px", frames)


def flicker(rng: Rng, seeds: range) -> Case:
    """Mains light on a global or (half of the cases) rolling shutter, at rates that do not hide it; 24 frames."""
    hz = float(rng.choice([100.0, 120.0]))
    fps = float(rng.choice([30.0, 15.0, 24.0, 60.0] if hz == 100 else [25.0, 50.0, 20.7, 33.0]))
    s = scene(rng, seeds, fps=fps, large=0.0)
    swing, phase = float(rng.uniform(0.05, 0.3)), float(rng.uniform(0, 2 * math.pi))
    readout = float(rng.uniform(0.012, 0.03)) if rng.random() < 0.5 else 0.0
    rows = np.arange(s.conveyor.options.height, dtype=np.float64) / s.conveyor.options.height * readout
    frames = []
    for i in range(24):
        t = i / fps + rows
        light = 1 + swing * np.sin(2 * math.pi * hz * t + phase)
        frames.append(s.shoot(i, s.radiance(i) * light.astype(np.float32)[:, None, None]))
    kind = f"rolling {readout * 1e3:.0f} ms" if readout else "global"
    return Case("flicker", f"{hz:.0f} Hz at {fps:g} fps, {swing:.2f}, {kind}", tuple(frames))


DEGRADATIONS: dict[str, Callable[[Rng, range], Case]] = {
    f.__name__: f
    for f in (
        dark, black, clipped, blurred, motion_blurred, noisy, low_contrast, colour_cast, blocky, frozen, occluded,
    flicker )
}  # fmt: skip
