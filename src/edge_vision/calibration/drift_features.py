"""The features of a scene that stands still: a reference of where they are, and finding them again.

A reference is the median of some frames, so that what passes is not in it, with those of its corners that stay put and
look alike in each of them. They are found again by following them (Lucas, Kanade; in pyramids, Bouguet 2000) in images
whose local mean and contrast are taken out, so that light matters little; where too few are found that way, after
turning the image back by what ORB features (Rublee 2011) agree on.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.camera_info_file import size_mismatch
from edge_vision.calibration.drift import Check, Limits, Stored
from edge_vision.calibration.drift_board import size_check
from edge_vision.calibration.drift_scene import LEAST_FEATURES, agreement, judge_scene
from edge_vision.calibration.result import CalibrationError
from edge_vision.whole_files import write_bytes

Floats = NDArray[np.float64]
Gray = NDArray[np.uint8]

FEWEST_FRAMES = 3
_FEATURES = 500
_WINDOW = 21  # px
_LOCAL = 0.012  # of the width: sigma of what local mean and contrast are taken over
_ALIKE = 0.7  # normalised correlation of a feature's surroundings
_BACK = 0.5  # px by which a feature followed there and back may miss itself
_STEADY = 0.35  # px that a reference's feature may be off its place in any of the frames
_CHANGED = 45  # of 255, of a normalised image, by which what does not move may differ
_PLENTY = 120  # features, or they may stand near each other
_ENOUGH_FOUND = 0.35  # of the features must agree, or the image is turned back first
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Reference:
    """What the camera saw when it was mounted."""

    image: Gray
    """(h, w)"""
    points: Floats
    """(N, 2) px"""
    noise: float
    """px an axis, of a feature from frame to frame"""
    camera: str = ""
    """The camera's name"""
    stamp: int = 0
    """ns of the newest of its frames"""

    @property
    def image_size(self) -> tuple[int, int]:
        return (self.image.shape[1], self.image.shape[0])


def take_reference(images: Sequence[Gray], *, camera: str = "", stamp: int = 0) -> Reference:
    """The reference of a scene in grey images (h, w) uint8, best some seconds apart. Raises CalibrationError.

    At least FEWEST_FRAMES, or one alone (then what moves is not told from what stays).
    """
    if not images or len({image.shape for image in images}) > 1:
        raise CalibrationError("a reference needs images of one size", "give some of the same camera, unscaled")
    median = images[0] if len(images) == 1 else np.median(np.stack(images), axis=0).astype(np.uint8)
    flat, others = normalised(median), [normalised(image) for image in images]
    mask, points, noise = _still(others), np.zeros((0, 2)), 0.0
    # Where the scene has few features, also such as stand near each other.
    for distance in (max(8.0, flat.shape[1] / 50), 6.0):
        points, noise = _steady(flat, others, _corners(flat, mask, distance))
        if len(points) >= _PLENTY:
            break
    points = points[:_FEATURES]  # the strongest come first
    if len(points) < 2 * LEAST_FEATURES:
        raise CalibrationError(
            f"the scene has only {len(points)} features that stay where they are, {2 * LEAST_FEATURES} are needed",
            "give it light, focus the lens, let nothing pass while the reference is taken, or check with a board",
        )
    return Reference(np.ascontiguousarray(median), points, noise, camera, stamp)


class SceneCheck:
    """Finds a reference's features again in later images and judges the stored calibration by them."""

    def __init__(self, stored: Stored, reference: Reference, limits: Limits | None = None) -> None:
        """Raises CalibrationError where the reference is of another image size than the calibration."""
        if reference.image_size != stored.camera.image_size:
            sizes = [f"{width}x{height}" for width, height in (reference.image_size, stored.camera.image_size)]
            raise CalibrationError(
                f"the reference is of {sizes[0]} px, the calibration of {sizes[1]} px",
                "take the reference anew, with the camera set as when it was calibrated",
            )
        self.stored = stored
        self.reference = reference
        self.limits = limits or Limits()
        self._flat = normalised(reference.image)
        self._orb: tuple[Sequence[cv2.KeyPoint], NDArray[np.uint8]] | None = None

    def find(self, image: Gray) -> Floats:
        """(N, 2) px where the reference's features are in a grey image of its size, NaN where they were not found."""
        flat, camera = normalised(image), self.stored.camera
        points = self.reference.points
        best = _follow(self._flat, flat, points)
        most = agreement(camera, points, best)
        H = self._turned(flat) if most < _ENOUGH_FOUND else None
        if H is None:
            return best
        back = cv2.warpPerspective(flat, H, self.reference.image_size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        there = _follow(self._flat, back, points)  # type: ignore[arg-type]
        found = cv2.perspectiveTransform(there.reshape(-1, 1, 2), H).reshape(-1, 2).astype(np.float64)
        return found if agreement(camera, points, found) > most else best

    def check(self, *images: Gray) -> Check:
        """The verdict by one image, or by the median of where features are in several."""
        for image in images:
            mismatch = size_mismatch(self.stored.info, image.shape[1], image.shape[0])
            if mismatch is not None:
                return size_check(mismatch, self.stored)
        found = np.stack([self.find(image) for image in images])
        if len(found) > 1:
            often = np.isfinite(found[..., 0]).mean(axis=0) >= 0.5
            middle = np.full(found.shape[1:], np.nan)
            middle[often] = np.nanmedian(found[:, often], axis=0)
            found = middle[None]
        return judge_scene(self.stored, self.reference.points, found[0], self.limits, self.reference.noise)

    def _turned(self, flat: Gray) -> Floats | None:
        """(3, 3) homography from the reference into the image by ORB, None where there is none to believe."""
        orb = cv2.ORB_create(1500)  # type: ignore[attr-defined]
        if self._orb is None:
            self._orb = orb.detectAndCompute(self._flat, None)
        keys, own = self._orb
        others, theirs = orb.detectAndCompute(flat, None)
        if own is None or theirs is None or len(theirs) < 2:
            return None
        pairs = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(own, theirs, k=2)
        good = [pair[0] for pair in pairs if len(pair) == 2 and pair[0].distance < 0.8 * pair[1].distance]
        if len(good) < LEAST_FEATURES:
            return None
        a = np.array([keys[m.queryIdx].pt for m in good], np.float32)
        b = np.array([others[m.trainIdx].pt for m in good], np.float32)
        H, inliers = cv2.findHomography(a, b, cv2.RANSAC, 5.0, maxIters=2000, confidence=0.999)
        if H is None or inliers.sum() < max(LEAST_FEATURES, 0.2 * len(good)):
            return None
        return np.asarray(H, np.float64)


def _still(images: Sequence[Gray]) -> Gray:
    """(h, w) 255 where normalised images are alike and away from the border, 0 elsewhere."""
    shape = images[0].shape
    border = max(8, shape[1] // 100)
    mask = np.zeros(shape, np.uint8)
    mask[border:-border, border:-border] = 255
    if len(images) > 1:
        calm = [cv2.blur(image, (5, 5)) for image in images]
        spread = np.max(calm, axis=0) - np.min(calm, axis=0)
        mask[cv2.dilate((spread > _CHANGED).astype(np.uint8), np.ones((_WINDOW, _WINDOW), np.uint8)) > 0] = 0
    return mask


def _corners(flat: Gray, mask: Gray, distance: float) -> Floats:
    """(N, 2) px, strongest first, at least ``distance`` px apart."""
    calm = cv2.GaussianBlur(flat, (0, 0), 1.0)
    found = cv2.goodFeaturesToTrack(calm, 3 * _FEATURES, 0.02, distance, mask=mask, blockSize=5)
    return np.zeros((0, 2)) if found is None else found.reshape(-1, 2).astype(np.float64)


def _steady(flat: Gray, images: Sequence[Gray], points: Floats) -> tuple[Floats, float]:
    """The points that are found in each of the images where they are in ``flat``, and how they tremble, px an axis."""
    if len(images) < 2 or not len(points):
        return points, 0.0
    moved = np.stack([_follow(flat, image, points) for image in images]) - points
    always = np.isfinite(moved).all(axis=(0, 2))
    points, moved = points[always], moved[:, always]
    if not len(points):
        return points, 0.0
    moved = moved - np.median(moved, axis=1, keepdims=True)  # the whole image may tremble
    steady = (np.hypot(moved[..., 0], moved[..., 1]) < _STEADY).all(axis=0)
    if not steady.any():
        return points[steady], 0.0
    return points[steady], float(np.sqrt(np.mean(moved[:, steady] ** 2) * len(images) / (len(images) - 1)))


def normalised(gray: Gray) -> Gray:
    """The image with its local mean and contrast taken out: 128 with a standard deviation of 40, where it has any."""
    sigma = max(4.0, _LOCAL * gray.shape[1])
    # A box thrice is a Gaussian but for a few percent, and its cost does not grow with sigma.
    width = int(np.sqrt(4 * sigma**2 + 1)) | 1
    image = gray.astype(np.float32)
    mean, square = image, image * image
    for _ in range(3):
        mean, square = cv2.blur(mean, (width, width)), cv2.blur(square, (width, width))  # type: ignore[assignment]
    deviation = np.sqrt(np.maximum(square - mean * mean, 0)) + 3.0  # DN: noise alone is not blown up
    return np.clip((image - mean) * (40.0 / deviation) + 128.0, 0, 255).astype(np.uint8)


def _follow(a: Gray, b: Gray, points: Floats) -> Floats:
    """(N, 2) px in b of what is at points (N, 2) in a; NaN where it is not found, not found back, or looks other."""
    if not len(points):
        return points.copy()
    options = {
        "winSize": (_WINDOW, _WINDOW),
        "maxLevel": 2,
        "criteria": (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 0.005),
    }
    start = points.astype(np.float32).reshape(-1, 1, 2)
    there, ok_there, _ = cv2.calcOpticalFlowPyrLK(a, b, start, None, **options)  # type: ignore[call-overload]
    back, ok_back, _ = cv2.calcOpticalFlowPyrLK(b, a, there, None, **options)  # type: ignore[call-overload]
    missed = np.hypot(*(back - start).reshape(-1, 2).T)
    good = (ok_there.ravel() == 1) & (ok_back.ravel() == 1) & (missed < _BACK)
    result = np.full_like(points, np.nan)
    size = (_WINDOW, _WINDOW)
    for index in np.flatnonzero(good):
        one = cv2.getRectSubPix(a, size, tuple(map(float, start[index, 0]))).astype(np.float32)
        two = cv2.getRectSubPix(b, size, tuple(map(float, there[index, 0]))).astype(np.float32)
        one, two = one - one.mean(), two - two.mean()
        norm = float(np.sqrt(np.sum(one * one) * np.sum(two * two)))
        if norm > 0 and float(np.sum(one * two)) / norm > _ALIKE:
            result[index] = there[index, 0]
    return result


# --- the file ---------------------------------------------------------------------------------------------------------


def write_reference(path: str | os.PathLike[str], reference: Reference) -> None:
    """An .npz, whole or not at all; makes its folder. Raises OSError."""
    content = io.BytesIO()
    np.savez_compressed(
        content,
        format=np.int64(_FORMAT),
        image=reference.image,
        points=reference.points,
        noise=np.float64(reference.noise),
        camera=np.array(reference.camera),
        stamp=np.int64(reference.stamp),
    )
    write_bytes(Path(path).expanduser(), content.getvalue())


def read_reference(path: str | os.PathLike[str]) -> Reference:
    """Raises CalibrationError where there is none, or it is no reference."""
    target = Path(path).expanduser()
    remedy = "take one with `edge_vision calibrate check … --take-reference`, or the node's service ~/take_reference"
    try:
        with np.load(target, allow_pickle=False) as content:
            if int(content["format"]) != _FORMAT:
                raise CalibrationError(f"{target} is a reference of another version", remedy)
            reference = Reference(
                np.ascontiguousarray(content["image"]),
                np.asarray(content["points"], np.float64),
                float(content["noise"]),
                str(content["camera"]),
                int(content["stamp"]),
            )
    except FileNotFoundError:
        raise CalibrationError(f"there is no reference {target}", remedy) from None
    except OSError as error:
        raise CalibrationError(f"cannot read the reference {target}: {error.strerror or error}", remedy) from None
    except CalibrationError:
        raise
    except (KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise CalibrationError(f"{target} is no reference ({type(error).__name__})", remedy) from None
    points, image = reference.points, reference.image
    if image.ndim != 2 or image.dtype != np.uint8 or points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise CalibrationError(f"{target} is no reference", remedy)
    return reference
