"""OpenVINO: devices, precision, open sizes, the sharing of arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_vision.inference.backends import SessionOptions, openvino_
from edge_vision.inference.errors import BackendError, ModelError

pytest.importorskip("openvino")

TABLES = {"boxes": np.arange(12).reshape(1, 3, 4), "scores": np.full((1, 3), 0.5)}
IMAGE = (1, 3, 64, 96)


@pytest.mark.parametrize("device", ["cpu", "auto", "auto:cpu", "hetero:cpu"])
def test_the_cpu_by_each_of_its_names(write_model, tmp_path: Path, device: str) -> None:
    session = openvino_.open(write_model(TABLES), SessionOptions(device, cache=tmp_path / "cache"))
    boxes, scores = session.run([np.ones(IMAGE, np.float32)])
    np.testing.assert_array_equal(boxes, TABLES["boxes"].astype(np.float32))
    np.testing.assert_array_equal(scores, TABLES["scores"].astype(np.float32))
    described = session.describe()
    assert described.precision == "fp32"
    assert described.device.startswith(device)
    if device == "auto":
        assert described.device == "auto (cpu)" or "gpu" in openvino_.devices()


@pytest.mark.parametrize("device", ["tpu", "hetero:tpu", "auto:tpu", "gpu.7"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(write_model, device: str) -> None:
    with pytest.raises(BackendError, match=r"no device.*cpu"):
        openvino_.open(write_model(TABLES), SessionOptions(device))


def test_open_sizes_are_fixed_before_compiling(write_model) -> None:
    path = write_model(TABLES, shape=("batch", 3, "height", 96))
    assert openvino_.open(path, SessionOptions()).inputs[0].shape == (None, 3, None, 96)
    for name in ("images", ""):
        session = openvino_.open(path, SessionOptions(input_shapes={name: IMAGE}))
        assert session.inputs[0].shape == IMAGE


def test_sizes_of_the_file_are_not_overruled(write_model) -> None:
    session = openvino_.open(write_model(TABLES), SessionOptions(input_shapes={"images": (1, 3, 32, 32)}))
    assert session.inputs[0].shape == IMAGE


def test_outputs_can_be_chosen_and_ordered(write_model) -> None:
    session = openvino_.open(write_model(TABLES), SessionOptions(outputs=("scores", "boxes")))
    scores, boxes = session.run([np.zeros(IMAGE, np.float32)])
    assert [spec.name for spec in session.outputs] == ["scores", "boxes"]
    assert (scores.shape, boxes.shape) == ((1, 3), (1, 3, 4))
    with pytest.raises(BackendError, match="no output 'masks'"):
        openvino_.open(write_model(TABLES), SessionOptions(outputs=("masks",)))


def test_what_is_written_into_a_bound_array_counts_and_read_only_arrays_are_copied(repository: Path) -> None:
    session = openvino_.open(repository / "models" / "conveyor_parts" / "model.onnx", SessionOptions())
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, session.inputs[0].shape, dtype=np.uint8) for _ in range(2)]  # type: ignore[arg-type]
    reused, results = images[0].copy(), []
    for image in images:
        reused[:] = image
        results.append(session.run([reused])[0].copy())
    assert np.abs(results[0] - results[1]).max() > 0
    for image, expected in zip(images, results, strict=True):
        image.flags.writeable = False
        np.testing.assert_array_equal(session.run([image])[0], expected)
        np.testing.assert_array_equal(session.run([image[:, :, ::-1][:, :, ::-1]])[0], expected)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_precision_described_is_that_of_the_arithmetic(repository: Path, precision: str) -> None:
    """A CPU without half-precision arithmetic takes fp32 in its place, or emulates it."""
    path = repository / "models" / "conveyor_parts" / "model.onnx"
    exact, coarse = (openvino_.open(path, SessionOptions(precision=name)) for name in ("fp32", precision))
    assert exact.describe().precision == "fp32"
    image = np.random.default_rng(0).integers(0, 256, (1, 240, 320, 3), dtype=np.uint8)
    error = np.abs(exact.run([image])[0] - coarse.run([image])[0]).max()
    assert coarse.describe().precision == (precision if error > 1e-4 else "fp32")


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("fp16", 0.05)])
def test_its_own_format_is_written_and_read(repository: Path, tmp_path: Path, precision: str, tolerance: float) -> None:
    from edge_vision.inference import load_bundle
    from edge_vision.inference.conversion import Source, openvino_ir

    bundle = load_bundle(repository / "models" / "conveyor_parts")
    original = bundle.variants[0].path
    source = Source(original, bundle.input, ("output",))
    made = openvino_ir.convert(source, precision, tmp_path, print)
    assert made.path.with_suffix(".bin").stat().st_size < original.stat().st_size * (
        0.6 if precision == "fp16" else 1.1
    )
    image = np.random.default_rng(0).integers(0, 256, (1, 240, 320, 3), dtype=np.uint8)
    ours, reference = (openvino_.open(path, SessionOptions()).run([image])[0] for path in (made.path, original))
    assert np.abs(ours - reference).max() < tolerance


def test_a_file_that_is_none_is_a_model_error(tmp_path: Path) -> None:
    for name in ("model.onnx", "model.xml", "model.tflite"):
        path = tmp_path / name
        path.write_bytes(b"not a model at all")
        with pytest.raises(ModelError, match="cannot open it"):
            openvino_.open(path, SessionOptions())
