"""Sharpening takes back known blur under known noise, with both measured and not told, and never does harm."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge_vision.datatypes import Frame
from edge_vision.enhance import EnhanceParameters, Enhancer
from edge_vision.enhance.denoising import METHODS, denoise
from edge_vision.enhance.sharpening import PointSpread, sharpen, unsharp
from edge_vision.enhance.spectrum import measure_spectrum
from edge_vision.quality.full_reference import psnr, ssim
from edge_vision.simulation import Conveyor, ConveyorOptions

# PSNR and SSIM of the best Wiener filter with a 1/f^2 prior over all its settings, as the facts of the issue have it.
PUBLISHED = {
    (1.0, 0): (34.69, 0.933),
    (1.0, 2): (31.26, 0.837),
    (1.0, 5): (29.59, 0.800),
    (1.5, 2): (29.44, 0.796),
    (2.5, 0): (28.50, 0.772),
    (2.5, 5): (26.51, 0.682),
}
CASES = [(blur, noise) for blur in (1.0, 1.5, 2.5) for noise in (0, 2, 5)]


def degraded(image: np.ndarray, blur: float, noise: float) -> np.ndarray:
    soft = cv2.GaussianBlur(image.astype(np.float64), (0, 0), blur) if blur else image.astype(np.float64)
    soft += noise * np.random.default_rng(0).normal(size=image.shape)
    return np.clip(np.rint(soft), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def camera(shared_data) -> np.ndarray:
    return cv2.imread(str(shared_data / "quality" / "skimage_cc0" / "camera.png"), cv2.IMREAD_GRAYSCALE)


@pytest.fixture(scope="module")
def twin() -> np.ndarray:
    return Conveyor(ConveyorOptions(seed=1, noise=False)).render(5).frame.image


def best_wiener(image: np.ndarray, reference: np.ndarray, blur: float) -> tuple[float, float]:
    """Best PSNR over its ratio of a plain Wiener filter with a 1/f^2 prior that is told the blur; with its SSIM."""
    padded = np.pad(image.astype(np.float64), 32, mode="reflect")
    f2 = np.fft.fftfreq(padded.shape[0])[:, None] ** 2 + np.fft.rfftfreq(padded.shape[1])[None] ** 2
    response, spectrum = np.exp(-2 * np.pi**2 * blur**2 * f2), np.fft.rfft2(padded)
    scores = []
    for ratio in np.geomspace(3e-3, 3, 11):
        result = np.fft.irfft2(spectrum * response / (response**2 + ratio * f2), padded.shape)[32:-32, 32:-32]
        result = np.clip(np.rint(result), 0, 255).astype(np.uint8)
        scores.append((psnr(result, reference), ssim(result, reference)))
    return max(scores)


@pytest.mark.parametrize(("blur", "noise"), CASES)
def test_measured_blur_and_noise_beat_the_best_wiener_that_is_told_them(camera, blur, noise) -> None:
    image = degraded(camera, blur, noise)
    wanted = PUBLISHED.get((blur, noise)) or best_wiener(image, camera, blur)
    enhancer = Enhancer(EnhanceParameters(brightness="off"))
    result = enhancer.enhance(Frame(image, encoding="mono8")).image
    assert enhancer.applied == ("wiener",)
    assert psnr(result, camera) >= wanted[0] - 0.005  # the table has two decimals
    assert ssim(result, camera) >= wanted[1] - 0.0005


@pytest.mark.parametrize(("blur", "noise"), CASES)
def test_told_blur_and_noise_raise_both_figures(camera, blur, noise) -> None:
    image = degraded(camera, blur, noise)
    result = sharpen(image, PointSpread(blur), noise)
    assert psnr(result, camera) > psnr(image, camera) + 1
    assert ssim(result, camera) > ssim(image, camera)


@pytest.mark.parametrize("blur", [0.0, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("noise", [0, 2, 5, 10])
def test_no_frame_gets_worse(camera, twin, blur, noise) -> None:
    for reference in (camera, twin):
        image = degraded(reference, blur, noise)
        enhancer = Enhancer()
        result = enhancer.enhance(Frame(image, encoding="mono8" if image.ndim == 2 else "bgr8")).image
        if result is image:
            continue
        colour = image.ndim == 3
        said = (enhancer.applied, enhancer.figures)
        assert psnr(result, reference, colour=colour) >= psnr(image, reference, colour=colour) - 0.01, said
        assert ssim(result, reference) >= ssim(image, reference) - 0.001, said


def test_clean_frames_are_handed_back_themselves(camera, twin) -> None:
    for image in (camera, twin, Conveyor(ConveyorOptions(seed=2)).render(40).frame.image):
        enhancer = Enhancer()
        frame = Frame(image)
        assert enhancer.enhance(frame) is frame
        assert enhancer.applied == ()


@pytest.mark.parametrize("blur", [1.0, 1.5, 2.5])
@pytest.mark.parametrize("noise", [0.0, 5.0])
def test_the_spectrum_tells_blur(camera, blur, noise) -> None:
    found = measure_spectrum(degraded(camera, blur, noise), noise)
    assert found.blur == pytest.approx(np.hypot(blur, 0.26), rel=0.12)  # 0.26: the picture's own


def test_what_has_no_detail_has_no_spectrum() -> None:
    assert not measure_spectrum(np.full((100, 100), 80, np.uint8), 1.0).known
    assert not measure_spectrum(np.zeros((20, 300), np.uint8), 1.0).known
    assert not measure_spectrum(np.zeros((100, 100), np.uint8), float("nan")).known


def test_motion_is_taken_back_along_its_direction(camera) -> None:
    moved = [
        cv2.warpAffine(
            camera.astype(np.float32),
            np.float32([[1, 0, x], [0, 1, 0]]),
            camera.shape[::-1],
            borderMode=cv2.BORDER_REFLECT,
        )
        for x in np.linspace(-4.5, 4.5, 37)
    ]
    image = np.clip(np.rint(np.mean(moved, 0)), 0, 255).astype(np.uint8)
    right = sharpen(image, PointSpread(0.0, 9.0, 0.0), 0.5)
    wrong = sharpen(image, PointSpread(0.0, 9.0, 90.0), 0.5)
    assert psnr(right, camera) > psnr(image, camera) + 2
    assert psnr(wrong, camera) < psnr(image, camera)


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (481, 641), (60, 64, 3)])
def test_any_size(shape) -> None:
    image = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    result = sharpen(image, PointSpread(1.0), 5.0)
    assert result.shape == shape
    assert result.dtype == np.uint8
    assert Enhancer().enhance(Frame(image)).image.shape == shape


def test_a_flat_image_stays_flat() -> None:
    image = np.full((300, 400), 90, np.uint8)
    assert np.array_equal(sharpen(image, PointSpread(2.0), 1.0), image)


@pytest.mark.parametrize(
    ("spread", "noise"), [(PointSpread(-1), 0), (PointSpread(1), float("nan")), (PointSpread(np.inf), 0)]
)
def test_figures_that_cannot_be_are_refused(spread, noise) -> None:
    with pytest.raises(ValueError, match="give a finite number"):
        sharpen(np.zeros((8, 8), np.uint8), spread, noise)


def test_unsharp_leaves_noise_alone(camera) -> None:
    image = degraded(camera, 1.0, 0)
    assert psnr(unsharp(image, 1.0, 1.0), camera) > psnr(image, camera) + 1
    flat = degraded(np.full((200, 200), 100, np.uint8), 0, 5)
    assert unsharp(flat, 1.0, 1.0).std() > 1.3 * flat.std()
    assert unsharp(flat, 1.0, 1.0, noise=5).std() < 1.1 * flat.std()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("noise", [5.0, 15.0])
def test_denoising_raises_both_figures(camera, method, noise) -> None:
    image = degraded(camera, 0, noise)
    result = denoise(image, noise, method)
    assert psnr(result, camera) > psnr(image, camera) + 2
    assert ssim(result, camera) > ssim(image, camera) + 0.05


def test_denoising_of_colour_takes_each_channel_by_its_own_noise(twin) -> None:
    image = twin.copy()
    image[..., 2] = degraded(twin[..., 2], 0, 10)
    result = denoise(image, (0.0, 0.0, 10.0))
    assert np.abs(result[..., :2].astype(int) - twin[..., :2]).max() <= 1
    assert psnr(result[..., 2], twin[..., 2]) > psnr(image[..., 2], twin[..., 2]) + 4
    with pytest.raises(ValueError, match="one for each of 3 channels"):
        denoise(image, (1.0, 2.0))
    with pytest.raises(ValueError, match="unknown method"):
        denoise(image, 1.0, "magic")
