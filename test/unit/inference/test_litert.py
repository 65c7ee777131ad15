"""The litert backend on small TFLite files, written for the case with the schema that the package brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_vision.inference.backends import SessionOptions, litert_
from edge_vision.inference.errors import BackendError, ModelError

if litert_.available():
    pytest.skip(f"litert: {litert_.available()}", allow_module_level=True)
schema = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="this litert brings no schema to write with")
flatbuffers = pytest.importorskip("flatbuffers", reason="flatbuffers is not installed: no TFLite file can be written")

SHAPE = (1, 4, 6, 3)
TYPES = {"float32": "FLOAT32", "int8": "INT8", "uint8": "UINT8"}
Quantisation = tuple[float, int]


def write(
    path: Path, operator: str, takes: str, gives: str, quantised: Quantisation | None = None, open_batch: bool = False
) -> Path:
    """A file of one operator from `image` (of type `takes`) to `result` (of type `gives`), both of SHAPE."""

    def tensor(name: str, kind: str) -> Any:
        made = schema.TensorT()
        made.name, made.shape, made.buffer = name.encode(), list(SHAPE), 0
        made.type = getattr(schema.TensorType, TYPES[kind])
        if open_batch:
            made.shapeSignature = [-1, *SHAPE[1:]]
        if quantised and kind != "float32":
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = [quantised[0]], [quantised[1]]
        return made

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, operator)
    step = schema.OperatorT()
    step.opcodeIndex, step.inputs, step.outputs = 0, [0], [1]
    graph = schema.SubGraphT()
    graph.tensors = [tensor("image", takes), tensor("result", gives)]
    graph.inputs, graph.outputs, graph.operators = [0], [1], [step]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [schema.BufferT()]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)


def test_float_values_come_back(tmp_path: Path, image) -> None:
    session = litert_.open(write(tmp_path / "m.tflite", "RELU", "float32", "float32"), SessionOptions(threads=2))
    values = image.astype(np.float32) - 100
    (result,) = session.run([values])
    np.testing.assert_array_equal(result, np.maximum(values, 0))
    assert [str(spec) for spec in session.inputs] == ["image float32 [1, 4, 6, 3]"]
    assert [str(spec) for spec in session.outputs] == ["result float32 [1, 4, 6, 3]"]
    described = session.describe()
    assert (described.backend, described.device, described.precision, described.threads) == ("litert", "cpu", "fp32", 2)
    assert described.runtime_version == litert_.version() != ""
    session.close()


def test_results_may_be_held_over_further_runs(tmp_path: Path, image) -> None:
    session = litert_.open(write(tmp_path / "m.tflite", "RELU", "float32", "float32"), SessionOptions())
    first = session.run([image.astype(np.float32)])[0]
    second = session.run([np.zeros(SHAPE, np.float32)])[0]
    np.testing.assert_array_equal(first, image)
    assert not second.any()
    strided = np.asfortranarray(image.astype(np.float32))
    strided.flags.writeable = False
    np.testing.assert_array_equal(session.run([strided])[0], image)


def test_int8_models_take_pixels_as_they_are(tmp_path: Path, image) -> None:
    file = write(tmp_path / "m.tflite", "DEQUANTIZE", "int8", "float32", (1 / 255, -128))
    session = litert_.open(file, SessionOptions(precision="int8"))
    assert session.inputs[0].dtype == "uint8"
    np.testing.assert_allclose(session.run([image])[0], image / 255, atol=1e-6)
    # Real values are quantised, and limited to what the type holds.
    np.testing.assert_allclose(session.run([np.float32(image) / 255])[0], image / 255, atol=1e-6)
    assert session.run([np.full(SHAPE, 7, np.float32)])[0].max() == pytest.approx(1)
    assert session.describe().precision == "int8"


def test_int8_of_another_zero_point_takes_real_values(tmp_path: Path) -> None:
    file = write(tmp_path / "m.tflite", "DEQUANTIZE", "int8", "float32", (0.5, 3))
    session = litert_.open(file, SessionOptions(precision="int8"))
    assert session.inputs[0].dtype == "float32"
    values = np.linspace(-60, 60, np.prod(SHAPE)).reshape(SHAPE).astype(np.float32)
    np.testing.assert_allclose(session.run([values])[0], np.rint(values / 0.5) * 0.5, atol=1e-6)


def test_quantised_outputs_come_as_real_values(tmp_path: Path) -> None:
    file = write(tmp_path / "m.tflite", "QUANTIZE", "float32", "uint8", (0.25, 10))
    session = litert_.open(file, SessionOptions(precision="int8"))
    assert session.outputs[0].dtype == "float32"
    values = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE) / 2
    (result,) = session.run([values])
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, values, atol=1e-6)


def test_a_batch_left_open_is_fixed_by_the_caller(tmp_path: Path, image) -> None:
    file = write(tmp_path / "m.tflite", "RELU", "float32", "float32", open_batch=True)
    shape = (2, *SHAPE[1:])
    session = litert_.open(file, SessionOptions(input_shapes={"image": shape}))
    assert session.inputs[0].shape == shape
    assert session.run([np.ones(shape, np.float32)])[0].shape == shape


def test_outputs_are_chosen_by_name(tmp_path: Path) -> None:
    file = write(tmp_path / "m.tflite", "RELU", "float32", "float32")
    assert [o.name for o in litert_.open(file, SessionOptions(outputs=("result",))).outputs] == ["result"]
    with pytest.raises(ModelError, match=r"m\.tflite: outputs: has no output 'boxes'; it has result"):
        litert_.open(file, SessionOptions(outputs=("boxes",)))


def test_a_tensor_of_another_shape_is_refused(tmp_path: Path) -> None:
    session = litert_.open(write(tmp_path / "m.tflite", "RELU", "float32", "float32"), SessionOptions())
    with pytest.raises(BackendError, match=r"shape \(1, 3, 4, 6\) for image float32 \[1, 4, 6, 3\]"):
        session.run([np.zeros((1, 3, 4, 6), np.float32)])
    session.run([np.zeros(SHAPE, np.float32)])  # and the session goes on


@pytest.mark.parametrize("share", [0, 6, 8, 60, 99])
def test_a_file_that_is_cut_off_or_none_is_refused(tmp_path: Path, share: int) -> None:
    whole = write(tmp_path / "m.tflite", "RELU", "float32", "float32").read_bytes()
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(whole[: share if share < 10 else len(whole) * share // 100])
    with pytest.raises(ModelError, match=r"bad\.tflite: .*[Cc]onvert"):
        litert_.open(bad, SessionOptions())
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        litert_.open(tmp_path / "none.tflite", SessionOptions())


def test_devices_without_their_library_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "m.tflite", "RELU", "float32", "float32")
    with pytest.raises(BackendError, match="no device gpu here"):
        litert_.open(file, SessionOptions(device="gpu"))
    monkeypatch.setenv(litert_.EDGETPU_LIBRARY, str(tmp_path / "libedgetpu.so.1"))
    assert litert_.devices() == ("cpu",)
    with pytest.raises(BackendError, match=r"names .*libedgetpu\.so\.1, which is not there\. Install libedgetpu1-std"):
        litert_.open(file, SessionOptions(device="edgetpu"))
    # A library that is no delegate.
    (tmp_path / "libedgetpu.so.1").write_bytes(b"\x7fELF nothing")
    assert litert_.devices() == ("cpu", "edgetpu")
    with pytest.raises(BackendError, match=r"library .* refuses: .*\. Check that the accelerator is plugged in"):
        litert_.open(file, SessionOptions(device="edgetpu:usb:0"))
