"""ONNX Runtime: providers and their options as pure functions, and what a session does on the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_vision.inference.backends import SessionOptions, onnxruntime_
from edge_vision.inference.backends.onnxruntime_providers import (
    CPU,
    Device,
    device_names,
    makes_fp16,
    parse_device,
    provider_list,
    provider_options,
    why_not_loaded,
)
from edge_vision.inference.backends.shapes import stored_precision, wanted_shape
from edge_vision.inference.errors import BackendError, ModelError
from edge_vision.inference.onnx_header import TensorSpec

onnxruntime = pytest.importorskip("onnxruntime")

JETSON = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
TABLES = {"boxes": np.arange(12).reshape(1, 3, 4), "scores": np.full((1, 3), 0.5)}


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("cpu", Device("cpu")),
        ("cuda", Device("cuda")),
        ("cuda:1", Device("cuda", "1")),
        ("openvino:gpu.1", Device("openvino", "gpu.1")),
        ("Tensorrt", Device("tensorrt")),
    ],
)
def test_devices_are_providers_by_short_name(name: str, device: Device) -> None:
    assert parse_device(name) == device


@pytest.mark.parametrize("name", ["gpu", "cpu:1", "cuda:first", "", "cuda:1:2"])
def test_what_is_no_device_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(BackendError, match="no device"):
        parse_device(name)


def test_the_builds_providers_are_named_cpu_first_and_azure_left_out() -> None:
    assert device_names([*JETSON, "AzureExecutionProvider"]) == ("cpu", "cuda", "tensorrt")


def test_the_cpu_takes_what_is_left_and_cuda_what_tensorrt_leaves(tmp_path: Path) -> None:
    options = SessionOptions("tensorrt:1", "fp16", cache=tmp_path)
    chain = provider_list(parse_device("tensorrt:1"), options, JETSON)
    assert [item if isinstance(item, str) else item[0] for item in chain] == JETSON
    assert chain[0][1]["trt_fp16_enable"] == "True"
    assert chain[0][1]["trt_engine_cache_path"] == str(tmp_path)
    assert {chain[0][1]["device_id"], chain[1][1]["device_id"]} == {"1"}
    assert provider_list(parse_device("cpu"), SessionOptions(), JETSON) == [CPU]


def test_a_provider_that_the_build_lacks_is_named() -> None:
    with pytest.raises(BackendError, match=r"no QNNExecutionProvider.*cpu, cuda, tensorrt"):
        provider_list(Device("qnn"), SessionOptions("qnn"), JETSON)


def test_options_of_each_provider(tmp_path: Path) -> None:
    def of(name: str, precision: str = "fp32") -> dict[str, str]:
        return provider_options(parse_device(name), SessionOptions(name, precision, 3, cache=tmp_path))

    assert of("xnnpack") == {"intra_op_num_threads": "3"}
    assert of("openvino")["num_of_threads"] == "3"
    # bf16 would be taken where the CPU has it.
    assert json.loads(of("openvino")["load_config"])["CPU"]["INFERENCE_PRECISION_HINT"] == "f32"
    assert json.loads(of("openvino:gpu", "fp16")["load_config"])["GPU"]["INFERENCE_PRECISION_HINT"] == "f16"
    assert of("openvino:gpu")["cache_dir"] == str(tmp_path)
    assert of("cuda:2")["device_id"] == "2"
    assert of("cuda")["use_tf32"] == "0"
    assert of("qnn", "fp16")["enable_htp_fp16_precision"] == "1"
    assert of("qnn", "fp32")["backend_path"] == "libQnnCpu.so"
    assert of("coreml", "fp16")["ModelFormat"] == "MLProgram"
    assert of("migraphx:1", "fp16") == {"device_id": "1", "migraphx_fp16_enable": "1"}
    assert of("dml:1") == {"device_id": "1"}
    assert all(isinstance(value, str) for name in ("cuda", "tensorrt", "qnn") for value in of(name).values())


def test_fp16_is_made_where_the_provider_can() -> None:
    assert makes_fp16(Device("tensorrt"))
    assert makes_fp16(Device("openvino", "gpu"))
    assert not makes_fp16(Device("openvino"))
    assert not makes_fp16(Device("cuda"))


def test_an_unloadable_library_is_named_by_the_linker(tmp_path: Path) -> None:
    (tmp_path / "capi").mkdir()
    assert "libonnxruntime_providers_shared.so" in why_not_loaded("cuda", tmp_path)


def test_fp16_asked_of_an_fp32_file_on_the_cpu_is_refused(write_model) -> None:
    with pytest.raises(BackendError, match="computes a file in fp32 as fp32 on cpu, not in fp16"):
        onnxruntime_.open(write_model(TABLES), SessionOptions(precision="fp16"))


def test_a_device_that_this_build_lacks_is_refused_with_those_it_has(write_model) -> None:
    missing = next(name for name in ("coreml", "dml") if name not in onnxruntime_.devices())
    with pytest.raises(BackendError, match=r"has no .*cpu"):
        onnxruntime_.open(write_model(TABLES), SessionOptions(missing))


def test_outputs_can_be_chosen_and_ordered(write_model) -> None:
    session = onnxruntime_.open(write_model(TABLES), SessionOptions(outputs=("scores", "boxes")))
    scores, boxes = session.run([np.zeros((1, 3, 64, 96), np.float32)])
    assert [spec.name for spec in session.outputs] == ["scores", "boxes"]
    np.testing.assert_array_equal(scores, TABLES["scores"].astype(np.float32))
    np.testing.assert_array_equal(boxes, TABLES["boxes"].astype(np.float32))
    with pytest.raises(BackendError, match=r"no output 'masks'.*boxes, scores"):
        onnxruntime_.open(write_model(TABLES), SessionOptions(outputs=("masks",)))


@pytest.mark.parametrize("open_outputs", [False, True])
def test_bound_buffers_give_the_same(write_model, monkeypatch: pytest.MonkeyPatch, open_outputs: bool) -> None:
    """The way of devices with memory of their own, walked on the CPU."""
    monkeypatch.setattr(onnxruntime_, "FAR_MEMORY", ("cpu",))
    session = onnxruntime_.open(write_model(TABLES, open_outputs=open_outputs), SessionOptions())
    assert session.binding is not None
    for value in (0, 1):
        boxes, scores = session.run([np.full((1, 3, 64, 96), value, np.float32)])
        np.testing.assert_array_equal(boxes, TABLES["boxes"].astype(np.float32))
        np.testing.assert_array_equal(scores, TABLES["scores"].astype(np.float32))


def test_a_file_that_is_none_is_a_model_error(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a model at all")
    with pytest.raises(ModelError, match="cannot open it"):
        onnxruntime_.open(path, SessionOptions())


def _stored(tmp_path: Path, kind: int, operator: str) -> Path:
    weights = numpy_helper.from_array(np.ones(4, helper.tensor_dtype_to_np_dtype(kind)), "weights")
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "weights"], ["y"])],
        "test",
        [helper.make_tensor_value_info("x", kind, [4])],
        [helper.make_tensor_value_info("y", kind, [4])],
        [weights],
    )
    path = tmp_path / f"{operator}{kind}.onnx"
    onnx.save(helper.make_model(graph), path)
    return path


def test_the_precision_of_a_file_is_read_from_it(tmp_path: Path) -> None:
    assert stored_precision(_stored(tmp_path, TensorProto.FLOAT, "Add")) == "fp32"
    assert stored_precision(_stored(tmp_path, TensorProto.FLOAT16, "Add")) == "fp16"
    assert stored_precision(_stored(tmp_path, TensorProto.FLOAT, "QuantizeLinear")) == "int8"
    assert stored_precision(tmp_path / "model.ort") == ""
    (tmp_path / "text.onnx").write_text("hello")
    assert stored_precision(tmp_path / "text.onnx") == ""


def test_open_sizes_are_filled_and_fixed_ones_stay() -> None:
    spec = TensorSpec("x", (None, 3, None, 96), "float32")
    assert wanted_shape(spec, {"x": (1, 3, 64, 128)}, True) == (1, 3, 64, 96)
    assert wanted_shape(spec, {"": (1, 3, 64, 128)}, True) == (1, 3, 64, 96)
    assert wanted_shape(spec, {"": (1, 3, 64, 128)}, False) == spec.shape
    assert wanted_shape(spec, {"x": (1, 3)}, True) == spec.shape
    assert wanted_shape(TensorSpec("x", (), "float32"), {"x": (1, 2)}, True) == (1, 2)
