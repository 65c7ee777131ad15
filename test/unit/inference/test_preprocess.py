"""Resize rules, colours, layouts and the way back."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_vision.datatypes import Frame
from edge_vision.inference import InputSpec
from edge_vision.inference.preprocess import RESIZE_RULES, Preprocessor, geometry

SIZES = st.integers(1, 4096)


def picture(height: int, width: int, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, channels) if channels > 1 else (height, width), dtype=np.uint8)


def straightforward(image: NDArray, spec: InputSpec) -> NDArray[np.float64]:
    """What `spec` says, in steps and doubles, for a BGR image: (H, W, 3)."""
    if spec.resize == "stretch":
        width, height = spec.width, spec.height
    else:
        ratio = min(spec.width / image.shape[1], spec.height / image.shape[0])
        width, height = round(image.shape[1] * ratio), round(image.shape[0] * ratio)
    left = (spec.width - width) // 2 if spec.resize == "letterbox" else 0
    top = (spec.height - height) // 2 if spec.resize == "letterbox" else 0
    canvas = np.full((spec.height, spec.width, 3), spec.pad_value, np.uint8)
    canvas[top : top + height, left : left + width] = cv2.resize(image, (width, height))
    if spec.colour == "rgb":
        canvas = canvas[:, :, ::-1]
    return (canvas.astype(np.float64) * spec.scale - spec.mean) / spec.std


@settings(deadline=None, max_examples=300)
@given(
    width=SIZES,
    height=SIZES,
    network=st.tuples(st.integers(32, 1280), st.integers(32, 1280)),
    rule=st.sampled_from(RESIZE_RULES),
    corners=st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4),
)
def test_boxes_go_to_the_network_and_back_within_a_thousandth_of_a_pixel(width, height, network, rule, corners) -> None:
    place = geometry(InputSpec(*network, resize=rule), width, height)
    x1, x2 = sorted((corners[0] * width, corners[1] * width))
    y1, y2 = sorted((corners[2] * height, corners[3] * height))
    box = np.array([[x1, y1, x2, y2]], np.float32)
    inside = place.to_network(box)
    left, top, w, h = place.content
    assert (inside >= np.array([left, top, left, top]) - 1e-3).all()
    assert (inside <= np.array([left + w, top + h, left + w, top + h]) + 1e-3).all()
    assert left + w <= network[0]
    assert top + h <= network[1]
    np.testing.assert_allclose(place.to_source(inside), box, atol=1e-3)


@pytest.mark.parametrize("rule", RESIZE_RULES)
@pytest.mark.parametrize(("height", "width"), [(480, 640), (1080, 1920), (333, 400), (120, 160)])
def test_a_drawn_rectangle_is_found_where_its_box_is_mapped(rule: str, height: int, width: int) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    x1, y1, x2, y2 = width // 5, height // 4, width // 2, height * 3 // 4
    image[y1:y2, x1:x2] = 255
    spec = InputSpec(
        320, 240, layout="nhwc", dtype="uint8", colour="bgr", resize=rule, pad_value=0, interpolation="area"
    )
    tensor, place = Preprocessor(spec)(Frame(image))
    bright = tensor[0, :, :, 0].astype(np.float64) / 255
    # Edges to sub-pixel accuracy: where half of the rectangle's brightness is summed up, from the profile's mass.
    columns, rows = bright.max(0), bright.max(1)
    found_width, found_height = columns.sum(), rows.sum()
    centre_x = (columns * (np.arange(320) + 0.5)).sum() / found_width
    centre_y = (rows * (np.arange(240) + 0.5)).sum() / found_height
    box = np.array(
        [
            [
                centre_x - found_width / 2,
                centre_y - found_height / 2,
                centre_x + found_width / 2,
                centre_y + found_height / 2,
            ]
        ]
    )
    step = 1 / place.scale.min()  # source pixels in one of the network's
    np.testing.assert_allclose(place.to_source(box), [[x1, y1, x2, y2]], atol=0.1 * max(step, 1))


@pytest.mark.parametrize(
    ("layout", "dtype", "colour", "resize"),
    list(itertools.product(["nhwc", "nchw"], ["uint8", "float32", "float16"], ["bgr", "rgb"], RESIZE_RULES)),
)
def test_tensors_are_what_the_specification_says(layout: str, dtype: str, colour: str, resize: str) -> None:
    normal = {} if dtype == "uint8" else {"scale": 1 / 255, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3)}
    spec = InputSpec(64, 48, layout=layout, dtype=dtype, colour=colour, resize=resize, **normal)
    prepare = Preprocessor(spec)
    for height, width in ((100, 77), (20, 90), (20, 90), (48, 64)):  # the padding is laid anew when the size changes
        image = picture(height, width, seed=height)
        tensor, _ = prepare(Frame(image))
        expected = straightforward(image, spec)
        found = tensor[0] if layout == "nhwc" else tensor[0].transpose(1, 2, 0)
        assert tensor.shape == spec.shape
        assert tensor.dtype == dtype
        np.testing.assert_allclose(
            found.astype(np.float64), expected, atol={"uint8": 0, "float32": 2e-6, "float16": 4e-3}[dtype]
        )


def test_a_scale_alone_needs_no_bias() -> None:
    for layout in ("nhwc", "nchw"):
        spec = InputSpec(64, 48, layout=layout, colour="bgr", scale=1 / 255, resize="stretch")
        image = picture(48, 64)
        tensor, _ = Preprocessor(spec)(Frame(image))
        found = tensor[0] if layout == "nhwc" else tensor[0].transpose(1, 2, 0)
        np.testing.assert_allclose(found, image / 255, atol=1e-6)


@pytest.mark.parametrize("colour", ["bgr", "rgb", "mono"])
@pytest.mark.parametrize("encoding", ["bgr8", "rgb8", "mono8", "mono16", "bgra8", "rgba8"])
@pytest.mark.parametrize("size", [(48, 64), (96, 128), (24, 32)])
def test_every_encoding_gives_the_same_picture(encoding: str, colour: str, size: tuple[int, int]) -> None:
    smooth = cv2.GaussianBlur(picture(*size), (9, 9), 3)
    if encoding.startswith("mono"):
        smooth = cv2.cvtColor(cv2.cvtColor(smooth, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    frame = {
        "bgr8": smooth,
        "rgb8": smooth[:, :, ::-1],
        "mono8": smooth[:, :, 0],
        "mono16": smooth[:, :, 0].astype(np.uint16) * 257,
        "bgra8": np.dstack([smooth, picture(*size, 1)]),
        "rgba8": np.dstack([smooth[:, :, ::-1], picture(*size, 1)]),
    }[encoding]
    spec = InputSpec(64, 48, layout="nhwc", dtype="uint8", colour=colour, resize="stretch")
    tensor, _ = Preprocessor(spec)(Frame(frame, encoding=encoding))
    expected = cv2.resize(smooth, (64, 48))
    if colour == "rgb":
        expected = expected[:, :, ::-1]
    elif colour == "mono":
        expected = cv2.cvtColor(expected, cv2.COLOR_BGR2GRAY)[:, :, None]
    assert np.abs(tensor[0].astype(int) - expected).max() <= 1  # the order of conversion and interpolation rounds


def test_views_and_read_only_images_are_read_as_they_are() -> None:
    whole = picture(120, 200)
    spec = InputSpec(64, 48, layout="nhwc", dtype="uint8", colour="bgr", resize="stretch")
    prepare = Preprocessor(spec)
    for view in (whole[10:110, 20:180], whole[::2, ::2], whole[::-1], whole[:, ::-1, ::-1]):
        expected = prepare(Frame(np.ascontiguousarray(view)))[0].copy()
        locked = view.view()
        locked.flags.writeable = False
        np.testing.assert_array_equal(prepare(Frame(locked))[0], expected)


def test_the_tensor_is_one_buffer() -> None:
    prepare = Preprocessor(InputSpec(64, 48))
    first, _ = prepare(Frame(picture(100, 100)))
    second, _ = prepare(Frame(picture(30, 60)))
    assert first is second
    assert second.flags.c_contiguous


@pytest.mark.parametrize(
    ("image", "encoding", "message"),
    [
        (picture(8, 8), "yuv422", "encoding 'yuv422' cannot be read; convert them to bgr8"),
        (picture(8, 8, 1), "bgr8", r"encoding bgr8 has an image of shape \(8, 8\) uint8; give \(H, W, 3\)"),
        (picture(8, 8), "mono8", r"give \(H, W\) uint8"),
        (picture(8, 8, 1), "mono16", r"give \(H, W\) uint16"),
        (np.zeros((0, 8, 3), np.uint8), "bgr8", "not empty"),
        (np.zeros((8, 8, 3), np.float32), "bgr8", "float32"),
    ],
)
def test_what_is_no_such_image_is_refused(image: NDArray, encoding: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Preprocessor(InputSpec(64, 48))(Frame(image, encoding=encoding))
