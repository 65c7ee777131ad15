"""Embedding bundles and the embedder: crops in, unit rows out, on every backend here that reads ONNX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_vision.cli.main import main
from edge_vision.datatypes import Frame
from edge_vision.inference import BackendError, Engine, InputSpec, ModelError, load_bundle
from edge_vision.inference.backends import backend
from edge_vision.inference.crops import Crops
from edge_vision.inference.embedding import Embedder

Writer = Callable[..., Path]

CARD = """
format: 1
name: colours
task: re-identification
input: {{width: 32, height: 64, layout: nchw, dtype: float32, colour: rgb, resize: stretch, batch: {batch}}}
variants: [{{backend: onnxruntime, file: model.onnx}}]
"""


def bundle_folder(folder: Path, write: Writer, batch: int = 4, fixed: bool = False) -> Path:
    write(folder / "model.onnx", batch=batch if fixed else "batch")
    (folder / "model.yaml").write_text(CARD.format(batch=batch))
    return folder


def stripes() -> tuple[Frame, NDArray]:
    """An image of upright bars in six colours, BGR, and their boxes."""
    colours = [(0, 0, 255), (0, 255, 0), (255, 0, 0), (0, 255, 255), (255, 255, 255), (20, 20, 20)]
    image = np.zeros((120, 240, 3), np.uint8)
    for place, colour in enumerate(colours):
        image[:, 40 * place : 40 * place + 40] = colour
    boxes = np.array([[40 * k + 4, 10, 40 * k + 36, 100] for k in range(len(colours))], np.float32)
    return Frame(image), boxes


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "opencv"])
@pytest.mark.parametrize(("batch", "fixed"), [(4, False), (1, False), (4, True), (1, True)])
def test_rows_are_of_unit_length_and_the_same_whatever_the_batch(
    tmp_path: Path, write_embedding_model: Writer, name: str, batch: int, fixed: bool
) -> None:
    reason = backend(name).available()
    if reason:
        pytest.skip(f"{name}: {reason}")
    frame, boxes = stripes()
    folder = bundle_folder(tmp_path, write_embedding_model, batch, fixed)
    with Embedder.load(load_bundle(folder), backend=name) as embedder:
        features = embedder.embed(frame, boxes)
        assert embedder.dimension == 108
        assert embedder.description.backend == name
        alone = np.concatenate([embedder.embed(frame, boxes[k : k + 1]) for k in range(len(boxes))])
    assert features.dtype == np.float32
    assert features.shape == (6, 108)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(features, alone, atol=1e-5)
    cosine = features @ features.T
    assert cosine[~np.eye(6, dtype=bool)].max() < 0.2  # six colours, told apart
    red = features[0].reshape(27, 4).sum(1)
    assert red.argmax() == 18  # of 3 x 3 x 3 colours in RGB: (1, 0, 0)


def test_boxes_that_show_nothing_have_no_features(tmp_path: Path, write_embedding_model: Writer) -> None:
    frame, boxes = stripes()
    odd = np.array(
        [[-50, -50, -10, -10], [300, 10, 340, 100], [np.nan, 0, 10, 10], [10, 10, 10, 90], [0, 0, np.inf, 50]],
        np.float32,
    )
    with Embedder.load(load_bundle(bundle_folder(tmp_path, write_embedding_model))) as embedder:
        features = embedder.embed(frame, np.concatenate([odd[:3], boxes[:2], odd[3:]]))
        assert embedder.embed(frame, np.zeros((0, 4), np.float32)).shape == (0, 108)
        partly = embedder.embed(frame, np.array([[-30, -20, 36, 100]], np.float32))
        np.testing.assert_allclose(partly, embedder.embed(frame, np.array([[0, 0, 36, 100]], np.float32)))
    assert np.isnan(features).all(axis=1).tolist() == [True, True, True, False, False, True, True]


@pytest.mark.parametrize("encoding", ["rgb8", "bgra8", "rgba8"])
def test_the_encoding_makes_no_difference(tmp_path: Path, write_embedding_model: Writer, encoding: str) -> None:
    frame, boxes = stripes()
    code = {"rgb8": cv2.COLOR_BGR2RGB, "bgra8": cv2.COLOR_BGR2BGRA, "rgba8": cv2.COLOR_BGR2RGBA}[encoding]
    other = Frame(cv2.cvtColor(frame.image, code), encoding=encoding)
    with Embedder.load(load_bundle(bundle_folder(tmp_path, write_embedding_model))) as embedder:
        np.testing.assert_allclose(embedder.embed(other, boxes), embedder.embed(frame, boxes), atol=1e-6)


def test_a_bare_file_is_an_embedding_when_it_is_said_so(tmp_path: Path, write_embedding_model: Writer) -> None:
    path = write_embedding_model(tmp_path / "osnet.onnx", squeeze=False)
    with pytest.raises(ModelError, match=r"re-identification models \(decoder embedding\)"):
        load_bundle(write_embedding_model(tmp_path / "flat.onnx", batch=1))
    bundle = load_bundle(path, decoder="embedding")
    assert (bundle.task, bundle.input.batch, bundle.input.resize) == ("re-identification", 8, "stretch")
    assert bundle.input.std == (58.395, 57.12, 57.375)
    plain = load_bundle(path, decoder="embedding", mean=0.0, std=1.0, batch=3)
    assert plain.input.batch == 3
    frame, boxes = stripes()
    with Embedder.load(plain) as embedder:
        assert embedder.embed(frame, boxes).shape == (6, 108)
    fixed = load_bundle(write_embedding_model(tmp_path / "fixed.onnx", batch=5), decoder="embedding")
    assert fixed.input.batch == 5


def test_what_is_wrong_is_said_with_the_remedy(
    tmp_path: Path, repository: Path, write_embedding_model: Writer, write_model: Callable[..., Path]
) -> None:
    folder = bundle_folder(tmp_path / "a", write_embedding_model)
    bundle = load_bundle(folder)
    with pytest.raises(ModelError, match=r"finds no boxes.*appearance_model"):
        Engine.load(bundle)
    with pytest.raises(ModelError, match=r"is for the task detect, and gives no embeddings"):
        Embedder.load(load_bundle(repository / "models" / "conveyor_parts"))
    card = folder / "model.yaml"
    text = card.read_text()
    for old, new, message in [
        ("re-identification", "reid", r"task.*is 'reid'.*detect, re-identification"),
        ("stretch", "letterbox", r"input\.resize.*Write stretch"),
        ("batch: 4", "batch: 0", r"input\.batch.*1 to 256"),
        ("batch: 4", "batches: 4", r"unknown key.*did you mean batch"),
        ("variants", "labels: [person]\nvariants", r"labels.*unknown key"),
        ("width: 32", "width: 48", r"the model's input is images float32 \[4, 3, 64, 32\]"),
        ("variants", "decoder: yolox\nvariants", r"decoder.*is 'yolox'.*Give one of embedding"),
    ]:
        card.write_text(text.replace(old, new, 1))
        with pytest.raises(ModelError, match=message):
            Embedder.load(load_bundle(folder))
    two = write_model({"logits": np.zeros((1, 10)), "rows": np.zeros((1, 6))}, shape=(1, 3, 64, 32))
    with pytest.raises(ModelError, match=r"do not fit decoder embedding: 2 outputs.*List the embedding alone"):
        Embedder.load(load_bundle(two, decoder="embedding"))
    maps = write_model({"maps": np.zeros((1, 10, 4, 2))}, shape=(1, 3, 64, 32), name="maps.onnx")
    with pytest.raises(ModelError, match=r"not one row a crop.*[Ee]xport the network with its pooling"):
        Embedder.load(load_bundle(maps, decoder="embedding"))
    frame, boxes = stripes()
    embedder = Embedder.load(bundle)
    with pytest.raises(ValueError, match="encoding 'yuv422'"):
        embedder.embed(Frame(frame.image, encoding="yuv422"), boxes)
    embedder.close()
    with pytest.raises(BackendError, match="closed"):
        embedder.embed(frame, boxes)


def test_conversion_works_and_verification_says_that_it_is_for_boxes(
    tmp_path: Path, write_embedding_model: Writer, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("openvino", "onnxruntime"):
        if reason := backend(name).available():
            pytest.skip(f"{name}: {reason}")
    folder = bundle_folder(tmp_path, write_embedding_model)
    frame, boxes = stripes()
    with Embedder.load(load_bundle(folder)) as embedder:
        expected = embedder.embed(frame, boxes)
    assert main(["convert", str(folder), "--to", "openvino"]) == 0
    bundle = load_bundle(folder)
    assert [variant.backend for variant in bundle.variants] == ["onnxruntime", "openvino"]
    assert (bundle.task, bundle.input.batch) == ("re-identification", 4)
    with Embedder.load(bundle, backend="openvino") as embedder:
        np.testing.assert_allclose(embedder.embed(frame, boxes), expected, atol=1e-4)
    assert main(["verify", str(folder)]) == 2
    assert "is for re-identification; what is verified are the boxes of detectors" in capsys.readouterr().err


@settings(max_examples=40, deadline=None)
@given(
    layout=st.sampled_from(["nchw", "nhwc"]),
    dtype=st.sampled_from(["float32", "float16"]),
    colour=st.sampled_from(["rgb", "bgr", "mono"]),
    encoding=st.sampled_from(["bgr8", "rgb8", "mono8", "mono16", "bgra8"]),
    corners=st.tuples(st.integers(0, 40), st.integers(0, 30), st.integers(1, 50), st.integers(1, 30)),
    seed=st.integers(0, 1000),
)
def test_crops_are_what_resize_convert_and_normalise_give(
    layout: str, dtype: str, colour: str, encoding: str, corners: tuple[int, int, int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    channels = {"mono8": (), "mono16": (), "bgra8": (4,)}.get(encoding, (3,))
    kind = np.uint16 if encoding == "mono16" else np.uint8
    image = rng.integers(0, np.iinfo(kind).max, (60, 90, *channels), dtype=kind, endpoint=True)
    count = 1 if colour == "mono" else 3
    mean, std = tuple(rng.uniform(0, 1, count)), tuple(rng.uniform(0.2, 2, count))
    spec = InputSpec(
        10, 14, layout=layout, dtype=dtype, colour=colour, scale=1 / 255, mean=mean, std=std, resize="stretch", batch=3
    )
    x, y, width, height = corners
    box = [x, y, min(x + width, 90), min(y + height, 60)]
    tensor = Crops(spec).fill(Frame(image, encoding=encoding), [[0, 0, 90, 60], box])
    small = cv2.resize(image[box[1] : box[3], box[0] : box[2]], (10, 14))
    if encoding == "mono16":
        small = cv2.convertScaleAbs(small, alpha=1 / 257)
    bgr = {
        "bgr8": lambda p: p,
        "rgb8": lambda p: p[..., ::-1],
        "bgra8": lambda p: p[..., :3],
    }.get(encoding, lambda p: np.repeat(p[..., None], 3, 2))(small)
    bgr = np.ascontiguousarray(bgr)
    if colour == "mono":
        pixels = small[..., None] if small.ndim == 2 else cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)[..., None]
    else:
        pixels = bgr if colour == "bgr" else bgr[..., ::-1]
    expected = (pixels / 255 - np.array(mean)) / np.array(std)
    found = tensor[1] if layout == "nhwc" else tensor[1].transpose(1, 2, 0)
    np.testing.assert_allclose(found, expected, atol=1e-5 if dtype == "float32" else 2e-2)
    assert tensor.shape == spec.shape
    assert tensor.dtype == dtype
    assert not tensor[2].any()


def test_pixels_go_as_they_are_into_a_network_of_bytes() -> None:
    spec = InputSpec(20, 30, layout="nhwc", dtype="uint8", colour="bgr", resize="stretch", batch=2)
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    tensor = Crops(spec).fill(Frame(image), [[10, 0, 30, 30]])
    np.testing.assert_array_equal(tensor[0], image[:, 10:30])
