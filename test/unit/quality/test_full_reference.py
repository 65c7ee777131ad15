"""Full-reference figures: the authors' published values, a slow double-precision SSIM beside ours, the edge cases."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate1d

from edge_vision.quality.full_reference import compare, gaussian, mse, psnr, snr, ssim, ssim_map
from edge_vision.quality.multi_scale import ms_ssim
from edge_vision.quality.pair import ComparisonError, luma

# ece.uwaterloo.ca/~z70wang/research/ssim: three decimals.
AUTHORS_SSIM = {"blur": 0.694, "contrast": 0.913, "meanshift": 0.988}
# structural_similarity of scikit-image 0.26 with gaussian_weights, sigma 1.5, no sample covariance.
SCIKIT_IMAGE_SSIM = {"blur": 0.693991, "contrast": 0.913267, "meanshift": 0.988359}
# libiqa's own test of its Wang mode.
LIBIQA_MS_SSIM = {"blur": 0.91875, "contrast": 0.97275, "meanshift": 0.99938}


@pytest.fixture(scope="module")
def einstein(shared_data):
    folder = shared_data / "quality" / "einstein"
    names = ("einstein", *AUTHORS_SSIM)
    return {name: cv2.imread(str(folder / f"{name}.bmp"), cv2.IMREAD_GRAYSCALE) for name in names}


@pytest.fixture(scope="module")
def camera(shared_data):
    return cv2.imread(str(shared_data / "quality" / "skimage_cc0" / "camera.png"), cv2.IMREAD_GRAYSCALE)


def slow_ssim_map(x, y, data_range=255.0):
    """Equation 13 of Wang 2004, word for word, in double precision."""
    x, y = x.astype(np.float64), y.astype(np.float64)

    def mean(z):
        rows = correlate1d(z, gaussian(), axis=0)
        return correlate1d(rows, gaussian(), axis=1)[5:-5, 5:-5]

    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mx, my = mean(x), mean(y)
    var_x, var_y, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    return (2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (var_x + var_y + c2))


def textured(seed, shape=(64, 80), dtype=np.uint8, top=255):
    rng = np.random.default_rng(seed)
    rough = cv2.GaussianBlur(rng.random(shape), (0, 0), 1.5)
    rough = (rough - rough.min()) / (rough.max() - rough.min())
    return np.round(rough * top).astype(dtype)


# --- published values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", AUTHORS_SSIM)
def test_ssim_is_the_authors(einstein, name):
    value = ssim(einstein[name], einstein["einstein"])
    assert round(value, 3) == AUTHORS_SSIM[name]
    assert value == pytest.approx(SCIKIT_IMAGE_SSIM[name], abs=1e-6)


def test_ssim_of_a_flipped_image(einstein):
    assert ssim(einstein["einstein"][::-1], einstein["einstein"]) == pytest.approx(0.287613, abs=1e-6)


@pytest.mark.parametrize("name", LIBIQA_MS_SSIM)
def test_ms_ssim_is_the_published(einstein, name):
    found = ms_ssim(einstein[name], einstein["einstein"], variant="libiqa")
    assert found == pytest.approx(LIBIQA_MS_SSIM[name], abs=5e-5)
    # The author's way of scaling down is a coarser filter, with a result nearby.
    assert ms_ssim(einstein[name], einstein["einstein"]) == pytest.approx(found, abs=0.01)


def test_ms_ssim_is_the_product_of_slow_terms(einstein):
    """The author's msssim.m, step by step."""
    x, y = (einstein[name].astype(np.float64) for name in ("blur", "einstein"))
    expected, c1 = 1.0, 6.5025
    for weight in (0.0448, 0.2856, 0.3001, 0.2363, 0.1333):
        whole = slow_ssim_map(x, y)
        mx, my = (correlate1d(correlate1d(z, gaussian(), axis=0), gaussian(), axis=1)[5:-5, 5:-5] for z in (x, y))
        luminance = (2 * mx * my + c1) / (mx * mx + my * my + c1)
        expected *= np.mean(whole if weight == 0.1333 else whole / luminance) ** weight
        x, y = ((z[::2, ::2] + z[1::2, ::2] + z[::2, 1::2] + z[1::2, 1::2]) / 4 for z in (x, y))
    assert ms_ssim(einstein["blur"], einstein["einstein"]) == pytest.approx(expected, abs=1e-6)


def test_psnr_and_ssim_of_the_noisy_camera_image(camera):
    """IPOL's imdiff gives 22.409353 dB and SSIM 0.357959 for this noise; both stand in scikit-image's own tests."""
    rng = np.random.default_rng(5)
    spread = rng.integers(-44, 45, camera.shape)
    noisy = np.clip(camera.astype(int) + spread, 0, 255).astype(np.uint8)
    error = np.mean((camera.astype(np.float64) - noisy) ** 2)
    assert psnr(noisy, camera) == pytest.approx(10 * math.log10(255**2 / error), abs=1e-9)
    assert ssim(noisy, camera) == pytest.approx(slow_ssim_map(noisy, camera).mean(), abs=1e-6)


# --- against the definition, in all types ----------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "bits"), [(np.uint8, 8), *((np.uint16, bits) for bits in (8, 10, 12, 14, 16))])
def test_ssim_by_definition_at_every_depth(dtype, bits):
    top = 2**bits - 1
    x, y = textured(1, dtype=dtype, top=top), textured(2, dtype=dtype, top=top)
    found = ssim_map(x, y, bits=bits)
    assert found.dtype == np.float32
    assert found.shape == (54, 70)
    np.testing.assert_allclose(found, slow_ssim_map(x, y, top), atol=5e-5)
    assert ssim(x, y, bits=bits) == pytest.approx(slow_ssim_map(x, y, top).mean(), abs=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ssim_of_floating_point_images(dtype):
    x, y = (textured(seed).astype(dtype) / dtype(255) for seed in (3, 4))
    assert ssim(x, y, data_range=1.0) == pytest.approx(slow_ssim_map(x, y, 1.0).mean(), abs=1e-6)
    assert psnr(x, y, data_range=1.0) == pytest.approx(-10 * math.log10(np.mean((x - y).astype(float) ** 2)), abs=1e-6)


def test_bright_flat_images_keep_their_accuracy():
    """E[xy] - E[x] E[y] in float32 loses 4 digits here; taking the middle off first does not."""
    rng = np.random.default_rng(0)
    x, y = (250 + rng.integers(0, 5, (200, 300)).astype(np.uint8) for _ in range(2))
    assert ssim(x, y) == pytest.approx(slow_ssim_map(x, y).mean(), abs=1e-6)


def test_more_rows_than_a_strip_and_a_last_strip_of_one_row():
    wide = textured(5, (33 + 2 * 22, 9000))  # a strip has 22 rows here, and 67 rows of windows leave 1
    other = textured(6, wide.shape)
    np.testing.assert_allclose(ssim_map(wide, other), slow_ssim_map(wide, other), atol=5e-5)


def test_rows_that_are_not_contiguous():
    x, y = textured(7, (60, 120)), textured(8, (60, 120))
    assert ssim(x[::2, ::2], y[::2, ::2]) == ssim(x[::2, ::2].copy(), y[::2, ::2].copy())
    assert psnr(x[:, ::2], y[:, ::2]) == psnr(x[:, ::2].copy(), y[:, ::2].copy())


def test_colour_is_compared_as_luma():
    rng = np.random.default_rng(9)
    x, y = (rng.integers(0, 256, (40, 50, 3), dtype=np.uint8) for _ in range(2))
    np.testing.assert_allclose(luma(x), x @ np.array([0.114, 0.587, 0.299]), atol=0.51)
    np.testing.assert_allclose(luma(x / 255), x / 255 @ np.array([0.114, 0.587, 0.299]), atol=1e-12)
    assert ssim(x, y) == ssim(luma(x), luma(y))
    assert mse(x, y) == mse(luma(x), luma(y))
    assert mse(x, y, colour=True) == pytest.approx(np.mean((x.astype(float) - y) ** 2), rel=1e-12)
    assert psnr(x, y, colour=True) == pytest.approx(cv2.PSNR(x, y), abs=1e-6)


def test_snr_is_of_the_reference():
    x, y = textured(10), textured(11)
    power, error = np.sum(y.astype(float) ** 2), np.sum((x.astype(float) - y) ** 2)
    assert snr(x, y) == pytest.approx(10 * math.log10(power / error), abs=1e-9)


def test_the_peak_of_psnr_follows_the_bits():
    x, y = textured(12, dtype=np.uint16, top=1023), textured(13, dtype=np.uint16, top=1023)
    assert psnr(x, y) - psnr(x, y, bits=10) == pytest.approx(20 * math.log10(65535 / 1023), abs=1e-9)


def test_compare_has_all_figures():
    x, y = textured(14, (180, 200)), textured(15, (180, 200))
    found = compare(x, y)
    assert (found.mse, found.psnr, found.snr) == (mse(x, y), psnr(x, y), snr(x, y))
    assert (found.ssim, found.ms_ssim) == (ssim(x, y), ms_ssim(x, y))
    assert compare(x[:100], y[:100]).ms_ssim is None
    assert compare(x, y, with_ms_ssim=False).ms_ssim is None


# --- edge cases ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "image", [textured(16, (176, 176)), np.zeros((176, 180), np.uint8), np.full((177, 199), 255, np.uint8)]
)
def test_identical_images(image):
    found = compare(image, image.copy())
    assert (found.mse, found.psnr, found.snr, found.ssim, found.ms_ssim) == (0, math.inf, math.inf, 1, 1)


@pytest.mark.parametrize(("a", "b"), [(0, 255), (120, 128), (255, 254), (0, 1)])
def test_constant_images(a, b):
    x, y = (np.full((20, 30), value, np.uint8) for value in (a, b))
    c1 = 6.5025
    assert mse(x, y) == (a - b) ** 2
    assert ssim(x, y) == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1), abs=1e-6)


def test_black_reference():
    black, grey = np.zeros((20, 20), np.uint8), np.full((20, 20), 9, np.uint8)
    assert snr(grey, black) == -math.inf
    assert snr(black, grey) == 0
    assert math.isfinite(psnr(grey, black))


def test_an_inverted_image_has_ms_ssim_zero():
    image = textured(17, (180, 180))
    assert ssim(255 - image, image) < 0
    assert ms_ssim(255 - image, image) == 0
    assert ms_ssim(255 - image, image, variant="libiqa") == 0


def test_images_of_one_pixel():
    one, other = np.array([[3]], np.uint8), np.array([[5]], np.uint8)
    assert mse(one, other) == 4
    assert psnr(one, other) == pytest.approx(10 * math.log10(255**2 / 4))
    for measure, least in ((ssim, 11), (ssim_map, 11), (ms_ssim, 176)):
        with pytest.raises(ComparisonError, match=f"1 x 1 pixels.* at least {least} pixels"):
            measure(one, other)


@pytest.mark.parametrize(
    ("image", "reference", "given", "told"),
    [
        (np.zeros((20, 30), np.uint8), np.zeros((30, 20), np.uint8), {}, "30 x 20 pixels and the reference 20 x 30"),
        (np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint16), {}, "uint8 and the reference of uint16"),
        (np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20), np.uint8), {}, "3 channel.* encodings differ"),
        (np.zeros((20, 20, 4), np.uint8), np.zeros((20, 20, 4), np.uint8), {}, "alpha channel"),
        (np.zeros((0, 20), np.uint8), np.zeros((0, 20), np.uint8), {}, "is empty"),
        (np.zeros((20, 20), np.int32), np.zeros((20, 20), np.int32), {}, "int32"),
        (np.zeros((20, 20)), np.zeros((20, 20)), {}, "Give data_range"),
        (np.full((20, 20), np.nan), np.zeros((20, 20)), {"data_range": 1.0}, "the image has NaN"),
        (np.zeros((20, 20)), np.full((20, 20), np.inf), {"data_range": 1.0}, "the reference has NaN or infinite"),
        (np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8), {"bits": 10}, "no bit depth of uint8"),
        (np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8), {"data_range": 0.0}, "above 0"),
        (np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8), {"bits": 8, "data_range": 9.0}, "one of them"),
        (np.full((20, 20), 5000, np.uint16), np.zeros((20, 20), np.uint16), {"bits": 12}, "5000 does not fit 12"),
        ([[1, 2]], np.zeros((20, 20), np.uint8), {}, "is a list"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_a_remedy(image, reference, given, told):
    for measure in (ssim, psnr):
        with pytest.raises(ComparisonError, match=told) as raised:
            measure(image, reference, **given)
        assert isinstance(raised.value, ValueError)
        assert raised.value.remedy


# --- properties ------------------------------------------------------------------------------------------------------

images = st.builds(
    lambda seed, low, high: np.random.default_rng(seed).integers(
        min(low, high), max(low, high) + 1, (24, 31), np.uint8
    ),
    st.integers(0, 2**32 - 1),
    st.integers(0, 255),
    st.integers(0, 255),
)


@settings(max_examples=60, deadline=None)
@given(images, images)
def test_ssim_is_symmetric_bounded_and_by_definition(x, y):
    value = ssim(x, y)
    assert -1 <= value <= 1
    assert value == pytest.approx(ssim(y, x), abs=1e-6)
    assert value == pytest.approx(slow_ssim_map(x, y).mean(), abs=1e-5)
    assert ssim(x, x.copy()) == 1


@settings(max_examples=40, deadline=None)
@given(images, images)
def test_figures_do_not_depend_on_where_things_are(x, y):
    for turn in (np.flipud, np.fliplr, np.transpose):
        assert ssim(turn(x), turn(y)) == pytest.approx(ssim(x, y), abs=1e-6)
        assert mse(turn(x), turn(y)) == mse(x, y)


@settings(max_examples=40, deadline=None)
@given(images, images, st.integers(0, 100))
def test_a_common_shift_of_brightness_leaves_the_error(x, y, shift):
    x, y = (image.astype(np.uint16) for image in (x, y))
    up = np.uint16(shift)
    assert mse(x + up, y + up) == mse(x, y)
    assert psnr(x + up, y + up, bits=10) == psnr(x, y, bits=10)


@settings(max_examples=30, deadline=None)
@given(images, images, st.sampled_from([2, 4, 16, 257]))
def test_a_common_scale_with_its_range_leaves_ssim_and_psnr(x, y, factor):
    a, b = (image.astype(np.uint16) * np.uint16(factor) for image in (x, y))
    assert ssim(a, b, data_range=255.0 * factor) == pytest.approx(ssim(x, y), abs=1e-5)
    assert psnr(a, b, data_range=255.0 * factor) == pytest.approx(psnr(x, y), abs=1e-9)
