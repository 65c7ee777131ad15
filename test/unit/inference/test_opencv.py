"""OpenCV's dnn module: equal to ONNX Runtime, the process's number of threads, errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_vision.inference.backends import SessionOptions, onnxruntime_, opencv_
from edge_vision.inference.errors import BackendError, ModelError


def _detector(repository: Path) -> Path:
    return repository / "models" / "conveyor_parts" / "model.onnx"


def _fixed(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    return tuple(size or 1 for size in shape)


def _compare(path: Path) -> float:
    """Greatest difference from ONNX Runtime."""
    ours, reference = opencv_.open(path, SessionOptions()), onnxruntime_.open(path, SessionOptions())
    spec = ours.inputs[0]
    noise = np.random.default_rng(1).integers(0, 256, _fixed(spec.shape)).astype(spec.dtype)
    tensor = noise if spec.dtype == "uint8" else noise / np.float32(255)
    pairs = zip(ours.run([tensor]), reference.run([tensor]), strict=True)
    difference = max(float(np.abs(mine - other).max()) for mine, other in pairs)
    assert [spec.shape for spec in ours.outputs] == [spec.shape for spec in reference.outputs]
    ours.close()
    return difference


def test_the_bundled_detector_and_its_uint8_image(repository: Path) -> None:
    assert _compare(_detector(repository)) < 1e-4


def test_a_float_model(shared_data: Path) -> None:
    assert _compare(shared_data / "models" / "fastestdet_coco.onnx") < 1e-3


def test_results_do_not_change_with_the_next_run(repository: Path) -> None:
    session = opencv_.open(_detector(repository), SessionOptions())
    shape = _fixed(session.inputs[0].shape)
    first = session.run([np.zeros(shape, np.uint8)])[0]
    kept = first.copy()
    session.run([np.full(shape, 200, np.uint8)])
    np.testing.assert_array_equal(first, kept)
    session.close()


@pytest.fixture
def two_threads():
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    yield
    cv2.setNumThreads(before)


@pytest.mark.usefixtures("two_threads")
def test_the_processs_threads_are_the_sessions_while_one_is_open(repository: Path) -> None:
    first = opencv_.open(_detector(repository), SessionOptions(threads=1))
    assert cv2.getNumThreads() == 1
    second = opencv_.open(_detector(repository), SessionOptions(threads=1))
    first.close()
    first.close()
    assert cv2.getNumThreads() == 1
    second.close()
    assert cv2.getNumThreads() == 2
    with pytest.raises(BackendError, match="no output"):
        opencv_.open(_detector(repository), SessionOptions(threads=1, outputs=("masks",)))
    assert cv2.getNumThreads() == 2


def test_outputs_can_be_chosen_and_ordered(write_model: Callable[..., Path]) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["high"]), helper.make_node("Neg", ["x"], ["low"])]
    path = write_model({"unused": np.zeros(1)})
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 4, 4]) for name in ("x", "high", "low")]
    graph = helper.make_graph(nodes, "test", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    tensor = np.linspace(-1, 1, 32, dtype=np.float32).reshape(1, 2, 4, 4)
    session = opencv_.open(path, SessionOptions(outputs=("low", "high")))
    low, high = session.run([tensor])
    np.testing.assert_allclose(low, -tensor)
    np.testing.assert_allclose(high, np.maximum(tensor, 0))
    session.close()


def test_a_device_that_this_build_lacks_is_refused_with_those_it_has(repository: Path) -> None:
    missing = next(name for name in ("cuda", "vulkan", "npu") if name not in opencv_.devices())
    with pytest.raises(BackendError, match=f"no device {missing}.*cpu"):
        opencv_.open(_detector(repository), SessionOptions(missing))
    with pytest.raises(BackendError, match="no device tpu"):
        opencv_.open(_detector(repository), SessionOptions("tpu"))


def test_a_precision_that_the_cpu_lacks_is_refused(repository: Path) -> None:
    if _has("DNN_TARGET_CPU_FP16"):
        pytest.skip("this build of OpenCV computes in fp16 on the CPU")
    with pytest.raises(BackendError, match="not in fp16"):
        opencv_.open(_detector(repository), SessionOptions(precision="fp16"))


def _has(target: str) -> bool:
    number = getattr(cv2.dnn, target, None)
    return number is not None and number in cv2.dnn.getAvailableTargets(cv2.dnn.DNN_BACKEND_OPENCV)


def test_an_operator_that_it_lacks_is_named(write_model: Callable[..., Path]) -> None:
    path = write_model({"unused": np.zeros(1)})
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Frobnicate", ["x"], ["y"])], "test", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    with pytest.raises(ModelError, match=r"Frobnicate.*(?i:use backend onnxruntime)"):
        opencv_.open(path, SessionOptions())


def test_a_file_that_is_none_is_a_model_error(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a model at all")
    with pytest.raises(ModelError, match="not an ONNX model"):
        opencv_.open(path, SessionOptions())
