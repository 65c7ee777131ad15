"""Undistortion: lines that are straight in the world, the twin's own lens, and camera_info that cannot be used."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from edge_vision.datatypes import CameraInfo, Frame
from edge_vision.enhance import EnhanceParameters, Enhancer
from edge_vision.enhance.undistortion import Undistorter
from edge_vision.quality.full_reference import psnr
from edge_vision.simulation import Conveyor, ConveyorOptions


def test_the_twins_lens_is_taken_out() -> None:
    bent = Conveyor(ConveyorOptions(seed=1, noise=False))
    straight = Conveyor(ConveyorOptions(seed=1, noise=False, distortion=0.0))
    undistorter = Undistorter(bent.camera_info())
    inside = slice(40, -40), slice(40, -40)
    for index in (5, 40):
        wanted = straight.render(index).frame.image[inside]
        image = bent.render(index).frame.image
        assert psnr(undistorter(image)[inside], wanted) > psnr(image[inside], wanted) + 10
    assert not undistorter.info.D.any()
    assert np.array_equal(undistorter.info.K, bent.K)
    assert np.array_equal(undistorter.info.P[:, :3], bent.K)
    assert undistorter.info.width == 640


def test_points_of_a_fisheye_go_where_opencv_says() -> None:
    K = np.array([[200.0, 0, 160], [0, 200, 120], [0, 0, 1]])
    D = np.array([0.1, -0.02, 0.005, -0.001])
    info = CameraInfo(320, 240, K, D, distortion_model="equidistant")
    points = np.array([[[60.0, 70]], [[250, 200]], [[160, 120]]])
    bent = cv2.fisheye.distortPoints((points - [160, 120]) / 200, K, D)
    image = np.zeros((240, 320), np.uint8)
    for x, y in bent[:, 0]:
        cv2.circle(image, (round(x * 16), round(y * 16)), 48, 255, -1, cv2.LINE_AA, 4)
    found = cv2.connectedComponentsWithStats((Undistorter(info)(image) > 128).astype(np.uint8))[3][1:]
    assert np.sort(found, 0) == pytest.approx(np.sort(points[:, 0], 0), abs=0.7)


def test_a_lens_without_distortion_costs_nothing() -> None:
    K = np.array([[200.0, 0, 160], [0, 200, 120], [0, 0, 1]])
    undistorter = Undistorter(CameraInfo(320, 240, K))
    image = np.zeros((240, 320), np.uint8)
    assert undistorter.identity
    assert undistorter(image) is image


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
        Undistorter(replace(GOOD, **change))


def test_an_image_of_another_size_says_so() -> None:
    with pytest.raises(ValueError, match="64x48 and camera_info 640x480"):
        Undistorter(GOOD)(np.zeros((48, 64), np.uint8))


def test_in_the_pipeline_it_is_last_and_by_wish() -> None:
    frame = Conveyor(ConveyorOptions(seed=1)).render(5).frame
    enhancer = Enhancer()
    enhancer.set_camera(GOOD)
    assert enhancer.enhance(frame).image is not frame.image
    assert enhancer.applied == ("undistort",)
    assert not enhancer.info.D.any()
    kept = Enhancer(EnhanceParameters(undistort=False))
    kept.set_camera(GOOD)
    assert kept.enhance(frame) is frame
    assert np.array_equal(kept.info.D, GOOD.D)
    sixteen = Frame((frame.image[..., 0].astype(np.uint16) << 8), encoding="mono16")
    assert enhancer.enhance(sixteen).image.dtype == np.uint16
