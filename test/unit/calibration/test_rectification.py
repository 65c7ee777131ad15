"""Rectification: as the library's own, the twin's lens, and camera_info that cannot be used."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from edge_vision.calibration.rectification import Rectifier
from edge_vision.datatypes import CameraInfo
from edge_vision.quality.full_reference import psnr
from edge_vision.simulation import Conveyor, ConveyorOptions


def test_the_twins_lens_is_taken_out() -> None:
    bent = Conveyor(ConveyorOptions(seed=1, noise=False))
    straight = Conveyor(ConveyorOptions(seed=1, noise=False, distortion=0.0))
    rectifier = Rectifier(bent.camera_info())
    inside = slice(40, -40), slice(40, -40)
    for index in (5, 40):
        wanted = straight.render(index).frame.image[inside]
        image = bent.render(index).frame.image
        assert psnr(rectifier(image)[inside], wanted) > psnr(image[inside], wanted) + 10
    assert not rectifier.info.D.any()
    assert np.array_equal(rectifier.info.K, bent.K)
    assert np.array_equal(rectifier.info.P[:, :3], bent.K)
    assert rectifier.info.width == 640


def test_points_of_a_fisheye_go_where_opencv_says() -> None:
    K = np.array([[200.0, 0, 160], [0, 200, 120], [0, 0, 1]])
    D = np.array([0.1, -0.02, 0.005, -0.001])
    info = CameraInfo(320, 240, K, D, distortion_model="equidistant")
    points = np.array([[[60.0, 70]], [[250, 200]], [[160, 120]]])
    bent = cv2.fisheye.distortPoints((points - [160, 120]) / 200, K, D)
    image = np.zeros((240, 320), np.uint8)
    for x, y in bent[:, 0]:
        cv2.circle(image, (round(x * 16), round(y * 16)), 48, 255, -1, cv2.LINE_AA, 4)
    found = cv2.connectedComponentsWithStats((Rectifier(info)(image) > 128).astype(np.uint8))[3][1:]
    assert np.sort(found, 0) == pytest.approx(np.sort(points[:, 0], 0), abs=0.7)


def test_a_lens_without_distortion_costs_nothing() -> None:
    K = np.array([[200.0, 0, 160], [0, 200, 120], [0, 0, 1]])
    rectifier = Rectifier(CameraInfo(320, 240, K))
    image = np.zeros((240, 320), np.uint8)
    assert rectifier.identity
    assert rectifier(image) is image


K = np.array([[310.0, 0, 158.3], [0, 307, 121.8], [0, 0, 1]])
P = np.array([[270.0, 0, 165, 0], [0, 280, 118, 0], [0, 0, 1, 0]])
LENSES = {
    "plumb_bob": np.array([-0.28, 0.09, 1e-3, -7e-4, -0.01]),
    "rational_polynomial": np.array([0.4, -0.2, 4e-4, -3e-4, 0.02, 0.7, -0.1, 0.01]),
    "equidistant": np.array([-0.03, 0.012, -0.004, 0.0006]),
}


def scene(channels: int, dtype: type) -> np.ndarray:
    """Smooth (an image that a lens could give) over the type's whole range."""
    rng = np.random.default_rng(5)
    image = cv2.GaussianBlur(rng.random((240, 320, 3)).astype(np.float32), (0, 0), 2.5)
    image = cv2.normalize(image, None, 0, 1, cv2.NORM_MINMAX) * np.iinfo(dtype).max
    image = np.rint(image).astype(dtype)
    return image if channels == 3 else np.ascontiguousarray(image[..., 0])


@pytest.mark.parametrize("model", LENSES)
@pytest.mark.parametrize(("channels", "dtype"), [(3, np.uint8), (1, np.uint8), (1, np.uint16)])
@pytest.mark.parametrize("new", [None, P])
def test_pixels_are_those_of_the_librarys_own(model: str, channels: int, dtype: type, new: np.ndarray | None) -> None:
    image, D = scene(channels, dtype), LENSES[model]
    info = CameraInfo(320, 240, K, D, distortion_model=model, **({} if new is None else {"P": new}))
    camera = K if new is None else new[:, :3]
    if model == "equidistant":
        wanted = cv2.fisheye.undistortImage(image, K, D, None, camera)
    else:
        wanted = cv2.undistort(image, K, D, None, camera)
    found = Rectifier(info)(image)
    assert found.shape == image.shape
    assert found.dtype == image.dtype
    # Fixed-point maps have steps of 1/32 px; so have the library's.
    full = float(np.iinfo(dtype).max)
    assert np.abs(found.astype(float) - wanted).max() <= 0.012 * full
    assert np.abs(found.astype(float) - wanted).mean() <= 0.0005 * full


@pytest.mark.parametrize("model", LENSES)
def test_a_direction_goes_where_P_and_R_say(model: str) -> None:
    """Against the projection itself, independent of remapping: a dot at the image of a ray lands at P R ray."""
    turn = cv2.Rodrigues(np.array([0.02, -0.05, 0.01]))[0]
    rays = np.array([[-0.25, 0.2, 1], [0.2, -0.15, 1], [0.05, 0.1, 1]])
    project = cv2.fisheye.projectPoints if model == "equidistant" else cv2.projectPoints
    pixels = project(rays[:, None], np.zeros(3), np.zeros(3), K, LENSES[model])[0][:, 0]
    image = np.zeros((240, 320), np.uint8)
    for x, y in pixels:
        cv2.circle(image, (round(x * 64), round(y * 64)), 4 * 64, 255, -1, cv2.LINE_AA, 6)
    info = CameraInfo(320, 240, K, LENSES[model], R=turn, P=P, distortion_model=model)
    found = cv2.connectedComponentsWithStats((Rectifier(info)(image) > 128).astype(np.uint8))[3][1:]
    wanted = rays @ turn.T @ P[:, :3].T
    wanted = wanted[:, :2] / wanted[:, 2:]
    order = np.argsort(found[:, 0]), np.argsort(wanted[:, 0])
    assert found[order[0]] == pytest.approx(wanted[order[1]], abs=0.5)


def test_what_the_lens_did_not_see_is_black() -> None:
    wide = np.array([[150.0, 0, 160, 0], [0, 150, 120, 0], [0, 0, 1, 0]])
    info = CameraInfo(320, 240, K, LENSES["plumb_bob"], P=wide)
    found = Rectifier(info)(np.full((240, 320), 200, np.uint8))
    assert found[0, 0] == found[-1, -1] == 0
    assert found[120, 160] == 200


def test_zeros_of_a_fisheye_are_the_ideal_one_and_none_at_all_are_a_pinhole() -> None:
    image = scene(1, np.uint8)
    pinhole = CameraInfo(320, 240, K, np.zeros(0), distortion_model="equidistant")
    assert Rectifier(pinhole)(image) is image
    fisheye = CameraInfo(320, 240, K, np.zeros(4), distortion_model="equidistant")
    assert not np.array_equal(Rectifier(fisheye)(image), image)


GOOD = Conveyor(ConveyorOptions()).camera_info()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"distortion_model": "thin_prism"}, "is not known"),
        ({"K": np.zeros((3, 3))}, "not calibrated"),
        ({"D": np.full(5, np.nan)}, "not finite"),
        ({"D": np.zeros(3)}, "not 3"),
        ({"D": np.zeros(5), "distortion_model": "equidistant"}, "4 distortion coefficients"),
    ],
)
def test_a_calibration_that_cannot_be_used_says_why(change, said) -> None:
    with pytest.raises(ValueError, match=said):
        Rectifier(replace(GOOD, **change))


def test_an_image_of_another_size_says_so() -> None:
    with pytest.raises(ValueError, match="64x48 and camera_info 640x480"):
        Rectifier(GOOD)(np.zeros((48, 64), np.uint8))
