"""TensorRT: what can be held without a GPU.

Headers, versions, cache and parameters are plain functions. The calls of CUDA go through a small library that stands in
for the driver, compiled here (`cuda_stub.c`). Parsing and building run for real where a TensorRT is installed:
TensorRT-RTX builds without a GPU.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edge_vision.inference.backends import SessionOptions, cuda_buffers, missing_package, tensorrt_
from edge_vision.inference.backends.cuda_buffers import Buffer, Gpu
from edge_vision.inference.backends.engine_cache import cache_entry, engine_folder
from edge_vision.inference.backends.tensorrt_builder import (
    build_engine,
    collecting_logger,
    engine_facts,
    float_inputs,
    plan_mismatch,
    read_plan_header,
)
from edge_vision.inference.errors import BackendError, ModelError

PLAN = b"ftrt" + bytes(20) + bytes((10, 3, 0, 30)) + bytes(100)
RTX = b"vtrt" + bytes(20) + bytes((1, 7, 1, 116)) + bytes(100)


# ---------------------------------------------------------------------------------------------- files and versions


def test_the_header_says_who_built_an_engine() -> None:
    header, rtx = read_plan_header(PLAN), read_plan_header(RTX)
    assert header is not None
    assert rtx is not None
    assert (str(header), header.offset) == ("tensorrt 10.3.0.30", 0)
    assert str(rtx) == "tensorrt_rtx 1.7.1.116"


def test_the_text_that_ultralytics_writes_in_front_is_skipped() -> None:
    text = b'{"task": "detect"}'
    header = read_plan_header(len(text).to_bytes(4, "little") + text + PLAN)
    assert header is not None
    assert header.offset == 4 + len(text)


@given(st.binary(max_size=200))
def test_other_bytes_are_no_engine(data: bytes) -> None:
    header = read_plan_header(data)
    assert header is None or data[header.offset :][:4] in (b"ftrt", b"ptrt", b"vtrt")


@pytest.mark.parametrize(
    ("flavour", "version", "same"),
    [
        ("tensorrt", "10.3.0", True),
        ("tensorrt", "10.3.0.30", True),
        ("tensorrt", "10.3.0.26", False),
        ("tensorrt", "11.4.0.106", False),
        ("tensorrt_rtx", "10.3.0.30", False),
    ],
)
def test_an_engine_of_another_version_is_told(flavour: str, version: str, same: bool) -> None:
    header = read_plan_header(PLAN)
    assert header is not None
    reason = plan_mismatch(header, flavour, version)
    assert (reason is None) == same
    if reason:
        assert "tensorrt 10.3.0.30" in reason
        assert f"{flavour} {version} is installed" in reason


def test_engines_that_cannot_be_read_are_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "model.engine"
    path.write_bytes(PLAN)
    assert tensorrt_.load_plan(path, "tensorrt", "10.3.0.30") == (PLAN, None)
    assert "11.4.0 is installed" in (tensorrt_.load_plan(path, "tensorrt", "11.4.0")[1] or "")
    with pytest.raises(ModelError, match=r"built by tensorrt 10.3.0.30.*Give the .onnx instead"):
        tensorrt_.load_plan(path, "tensorrt_rtx", "1.7.1.116")
    path.write_bytes(b"not an engine")
    with pytest.raises(ModelError, match="no TensorRT engine"):
        tensorrt_.load_plan(path, "tensorrt", "10.3.0.30")


@pytest.mark.parametrize(("name", "index"), [("cuda", 0), ("cuda:0", 0), ("cuda:3", 3)])
def test_devices_are_counted(name: str, index: int) -> None:
    assert tensorrt_.device_index(name) == index


@pytest.mark.parametrize("name", ["cpu", "gpu", "cuda:first", "cuda.1"])
def test_other_devices_are_refused(name: str) -> None:
    with pytest.raises(BackendError, match=r"no device.*(?i:use cuda)"):
        tensorrt_.device_index(name)


def test_uint8_inputs_are_declared_float_and_nothing_else_changes(repository: Path) -> None:
    path = repository / "models" / "conveyor_parts" / "model.onnx"
    content, names = float_inputs(path.read_bytes())
    assert names == ("images",)
    changed, original = onnx.load_from_string(content), onnx.load(path)
    assert changed.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    changed.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    assert changed == original


def test_float_inputs_are_left_as_they_are(write_model) -> None:
    data = write_model({"y": np.zeros(1)}).read_bytes()
    assert float_inputs(data) == (data, ())


# ---------------------------------------------------------------------------------------------------------- cache


def test_an_engine_is_known_by_all_that_it_depends_on(tmp_path: Path) -> None:
    model, other = tmp_path / "model.onnx", tmp_path / "other.onnx"
    model.write_bytes(b"weights")
    other.write_bytes(b"other weights")
    usual: dict[str, Any] = {
        "flavour": "tensorrt",
        "version": "10.3.0",
        "gpu": "Orin",
        "capability": (8, 7),
        "precision": "fp16",
        "shapes": {"images": (1, 3, 320, 320)},
    }
    changes: list[dict[str, Any]] = [
        {},
        {"flavour": "tensorrt_rtx"},
        {"version": "10.3.1"},
        {"gpu": "Xavier"},
        {"capability": (7, 2)},
        {"precision": "fp32"},
        {"shapes": {"images": (1, 3, 640, 640)}},
    ]
    entries = [cache_entry(tmp_path, model, ".engine", engine_facts(**{**usual, **change})) for change in changes]
    entries.append(cache_entry(tmp_path, other, ".engine", engine_facts(**usual)))
    assert len({entry.file for entry in entries}) == len(changes) + 1
    moved = tmp_path / "folder" / "model.onnx"
    moved.parent.mkdir()
    moved.write_bytes(b"weights")
    assert cache_entry(tmp_path, moved, ".engine", engine_facts(**usual)).file == entries[0].file


def test_an_entry_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(b"weights")
    folder = tmp_path / "cache"
    folder.mkdir()
    entry = cache_entry(folder, model, ".engine", {"version": "1"})
    assert entry.find() is None
    building = entry.build()
    building.__enter__().write_bytes(b"half")
    assert not building.__exit__(RuntimeError, RuntimeError("out of memory"), None)
    assert (entry.find(), list(folder.iterdir())) == (None, [])
    with entry.build() as new:
        new.write_bytes(b"engine")
    assert entry.find() == entry.file
    assert cache_entry(folder, model, ".engine", {"version": "2"}).find() is None
    for damage in (b"engin", b"enginf", b""):
        entry.file.write_bytes(damage)
        assert entry.find() is None
    entry.file.write_bytes(b"engine")
    for card in ("", "{", "[]", '{"facts": {}}'):
        entry.card.write_text(card)
        assert entry.find() is None
    entry.drop()
    entry.drop()
    assert list(folder.iterdir()) == []


def test_the_folder_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_VISION_CACHE", str(tmp_path / "root"))
    assert engine_folder(SessionOptions(), "tensorrt") == tmp_path / "root" / "tensorrt"
    named = engine_folder(SessionOptions(cache=tmp_path / "mine"), "tensorrt")
    assert (named, named.is_dir()) == (tmp_path / "mine", True)
    (tmp_path / "file").write_text("")
    with pytest.raises(BackendError, match=r"no folder for compiled engines.*EDGE_VISION_CACHE"):
        engine_folder(SessionOptions(cache=tmp_path / "file" / "below"), "tensorrt")


# ------------------------------------------------------------------------------------ CUDA, with a driver's stand-in


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build the driver's stand-in with")
    library = tmp_path_factory.mktemp("cuda") / "libcuda_stub.so"
    source = Path(__file__).with_name("cuda_stub.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-w", "-o", library, source], check=True, timeout=60)
    return library


@pytest.fixture
def driver(stub: Path, monkeypatch: pytest.MonkeyPatch) -> ctypes.CDLL:
    monkeypatch.setattr(cuda_buffers, "LIBRARIES", (str(stub),))
    return cuda_buffers.load_driver()


def test_a_buffer_goes_to_the_device_and_back(driver: ctypes.CDLL) -> None:
    gpu = Gpu()
    assert (gpu.name, gpu.capability) == ("Stub GPU", (8, 7))
    buffer = Buffer(gpu, (2, 3, 5), np.float32)
    wanted = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)
    buffer.host[:] = wanted
    buffer.upload()
    on_device = (ctypes.c_float * 30).from_address(buffer.pointer)
    np.testing.assert_array_equal(np.ctypeslib.as_array(on_device).reshape(2, 3, 5), wanted)
    buffer.host[:] = 0
    buffer.download()
    gpu.wait()
    np.testing.assert_array_equal(buffer.host, wanted)
    for _ in range(2):
        buffer.close()
        gpu.close()
    assert driver.stub_open_things() == 0


def test_what_is_recorded_runs_when_launched(driver: ctypes.CDLL) -> None:
    gpu = Gpu()
    buffer = Buffer(gpu, (4,), np.uint8)
    gpu.capture(buffer.upload)
    buffer.host[:] = 7
    gpu.launch()
    assert ctypes.c_uint8.from_address(buffer.pointer).value == 7
    buffer.close()
    gpu.close()
    assert driver.stub_open_things() == 0


def test_what_the_driver_says_is_passed_on(driver: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendError, match=r"no GPU 1.*gpu.0"):
        Gpu(1)
    gpu = Gpu()
    with pytest.raises(BackendError, match="cuMemAlloc_v2 failed: stub failed"):
        Buffer(gpu, (1 << 40, 1 << 10), np.float32)
    gpu.close()
    assert driver.stub_open_things() == 0
    monkeypatch.setenv("CUDA_STUB_NO_DEVICE", "1")
    with pytest.raises(BackendError, match="no CUDA-capable device"):
        cuda_buffers.load_driver()


def test_without_a_driver_the_reason_and_the_remedy(monkeypatch: pytest.MonkeyPatch, write_model) -> None:
    monkeypatch.setattr(cuda_buffers, "LIBRARIES", ("libcuda-that-is-not-there.so",))
    with pytest.raises(BackendError, match=r"no CUDA driver here.*nvidia-smi"):
        tensorrt_.devices()
    reason = tensorrt_.available() or ""
    assert "not installed" in reason or "no CUDA driver" in reason
    with pytest.raises(BackendError, match=r"not installed|no CUDA driver"):
        tensorrt_.open(write_model({"y": np.zeros(1)}), SessionOptions("cuda"))


class PassingContext:
    """An execution context that copies the input `x` to the output `y` and its negative to `z`, by their addresses."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        self.shapes = shapes
        self.addresses: dict[str, int] = {}

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        size = int(np.prod(self.shapes["x"]))
        tensors = {
            name: np.ctypeslib.as_array((ctypes.c_float * size).from_address(address))
            for name, address in self.addresses.items()
        }
        tensors["y"][:] = tensors["x"]
        tensors["z"][:] = -tensors["x"]
        return bool(stream)


def _passing_engine(trt: Any, names: tuple[str, ...], shape: tuple[int, ...]) -> Any:
    modes = {name: trt.TensorIOMode.INPUT if name == "x" else trt.TensorIOMode.OUTPUT for name in names}
    return SimpleNamespace(
        num_io_tensors=len(names),
        get_tensor_name=lambda index: names[index],
        get_tensor_mode=modes.get,
        get_tensor_shape=lambda name: shape,
        get_tensor_dtype=lambda name: "float",
        create_execution_context=lambda: PassingContext(dict.fromkeys(names, shape)),
    )


def test_a_session_moves_inputs_and_outputs(driver: ctypes.CDLL) -> None:
    """The session's own work (order, copies, reuse, the end), around an engine that only passes through."""
    trt = SimpleNamespace(
        __name__="tensorrt",
        TensorIOMode=SimpleNamespace(INPUT="in", OUTPUT="out"),
        nptype=lambda kind: {"float": np.float32}[kind],
    )
    engine = _passing_engine(trt, ("y", "x", "z"), (1, 2, 3))
    options = SessionOptions("cuda", "fp16", outputs=("z", "y"))
    session = tensorrt_.TensorRtSession(trt, Gpu(), (None, engine, None), options)
    assert [str(spec) for spec in session.inputs] == ["x float32 [1, 2, 3]"]
    assert [spec.name for spec in session.outputs] == ["z", "y"]
    for seed in range(2):
        tensor = np.random.default_rng(seed).normal(size=(1, 2, 3)).astype(np.float32)
        z, y = session.run([tensor])
        np.testing.assert_array_equal(y, tensor)
        np.testing.assert_array_equal(z, -tensor)
    with pytest.raises(TypeError):
        session.run([np.zeros((1, 2, 3), np.uint8)])
    assert "Stub GPU" in session.describe().runtime_version
    session.close()
    session.close()
    assert driver.stub_open_things() == 0


# ------------------------------------------------------------------------------------ the real thing, where installed


@pytest.fixture(scope="module")
def trt() -> Any:
    for name in ("tensorrt_rtx", "tensorrt"):
        if missing_package(name) is None:
            module = pytest.importorskip(name)
            try:
                module.Builder(collecting_logger(module))
            except (TypeError, RuntimeError) as error:
                pytest.skip(f"{name} builds on a machine with a GPU only: {error}")
            return module
    pytest.skip("neither tensorrt nor tensorrt_rtx is installed")


def test_real_engines_are_built_and_say_their_version(trt: Any, repository: Path, tmp_path: Path) -> None:
    model = repository / "models" / "conveyor_parts" / "model.onnx"  # uint8 before a Transpose, which TensorRT has not
    data = build_engine(trt, collecting_logger(trt), model, "fp32", {}, tmp_path / "timing.cache")
    header = read_plan_header(data)
    assert header is not None
    assert plan_mismatch(header, trt.__name__, trt.__version__) is None
    assert (tmp_path / "timing.cache").stat().st_size > 0
    again = build_engine(trt, collecting_logger(trt), model, "fp32", {}, tmp_path / "timing.cache")
    assert read_plan_header(again) == header


def test_real_builds_fix_open_sizes(trt: Any, write_model) -> None:
    model = write_model({"y": np.ones(3)}, shape=(1, 3, "h", "w"))
    with pytest.raises(ModelError, match="leaves sizes open"):
        build_engine(trt, collecting_logger(trt), model, "fp32", {})
    assert read_plan_header(build_engine(trt, collecting_logger(trt), model, "fp32", {"images": (1, 3, 8, 8)}))


def test_real_refusals_name_the_operator_and_the_precision(trt: Any, write_model) -> None:
    model = write_model({"y": np.ones(3)})
    if not hasattr(trt.BuilderFlag, "FP16"):
        with pytest.raises(BackendError, match="no fp16 of an fp32 file"):
            build_engine(trt, collecting_logger(trt), model, "fp16", {})
    with pytest.raises(BackendError, match="no precision bf16"):
        build_engine(trt, collecting_logger(trt), model, "bf16", {})
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Frobnicate", ["x"], ["y"])], "test", values[:1], values[1:])
    onnx.save(helper.make_model(graph), model)
    with pytest.raises(ModelError, match=r"at operator Frobnicate.*(?i:use backend onnxruntime)"):
        build_engine(trt, collecting_logger(trt), model, "fp32", {})


def test_on_a_gpu_it_finds_what_onnxruntime_finds(repository: Path, tmp_path: Path) -> None:
    reason = tensorrt_.available()
    if reason or not tensorrt_.devices():
        pytest.skip(f"needs TensorRT and an NVIDIA GPU: {reason or 'the driver lists none'}")
    from edge_vision.inference.backends import onnxruntime_

    model = repository / "models" / "conveyor_parts" / "model.onnx"
    image = np.random.default_rng(0).integers(0, 256, (1, 240, 320, 3), dtype=np.uint8)
    reference = onnxruntime_.open(model, SessionOptions()).run([image])[0]
    for recorded in ("0", "1"):
        os.environ[tensorrt_.CUDA_GRAPH] = recorded
        try:
            session = tensorrt_.open(model, SessionOptions("cuda", cache=tmp_path))
        finally:
            del os.environ[tensorrt_.CUDA_GRAPH]
        np.testing.assert_allclose(session.run([image])[0], reference, atol=1e-2)
        session.close()
