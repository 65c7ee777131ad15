"""ONNX Runtime's execution providers: their short names, and how each is set up for low latency.

Options: the page of each provider in ONNX Runtime's documentation ("Execution Providers").
"""

from __future__ import annotations

import ctypes
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_vision.inference.backends import SessionOptions
from edge_vision.inference.backends.engine_cache import engine_folder
from edge_vision.inference.errors import BackendError

CPU = "CPUExecutionProvider"

PROVIDERS: Mapping[str, str] = {
    "cpu": CPU,
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "tensorrt_rtx": "NvTensorRTRTXExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "dml": "DmlExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "webgpu": "WebGpuExecutionProvider",
    "cann": "CANNExecutionProvider",
    "acl": "ACLExecutionProvider",
    "dnnl": "DnnlExecutionProvider",
}
"""Device name -> provider."""

FAR_MEMORY = ("cuda", "tensorrt", "tensorrt_rtx", "migraphx", "rocm")
"""Devices with memory of their own, whose inputs and outputs are bound."""

_LIBRARIES = {"cuda": "cuda", "tensorrt": "tensorrt", "openvino": "openvino", "migraphx": "migraphx", "rocm": "rocm"}


@dataclass(frozen=True, slots=True)
class Device:
    """A device name taken apart: kind is a key of `PROVIDERS`; part says which one: an index, or OpenVINO's `gpu`."""

    kind: str
    part: str = ""

    @property
    def index(self) -> int:
        return int(self.part or 0)


def parse_device(name: str) -> Device:
    """`cuda`, `cuda:1`, `openvino:gpu`, ... Raises BackendError for what is no device of ONNX Runtime."""
    match = re.fullmatch(r"([a-z_]+)(?::([\w.]+))?", name.lower())
    if not match or match.group(1) not in PROVIDERS:
        raise BackendError(f"onnxruntime has no device {name!r}", f"choose one of {', '.join(PROVIDERS)}")
    kind, part = match.group(1), match.group(2) or ""
    if part and (kind == "cpu" or (kind != "openvino" and not part.isdigit())):
        raise BackendError(f"onnxruntime has no device {name!r}", f"use {kind}, or {kind}:N for one of several")
    return Device(kind, part)


def makes_fp16(device: Device) -> bool:
    """Whether it computes an fp32 file in fp16 when asked to."""
    if device.kind == "openvino":
        return device.part not in ("", "cpu")
    return device.kind in ("tensorrt", "coreml", "qnn", "migraphx")


def device_names(listed: Sequence[str]) -> tuple[str, ...]:
    """The short names of the providers that a build lists, cpu first; those without one (Azure's) are left out."""
    return tuple(sorted((name for name, full in PROVIDERS.items() if full in listed), key=lambda name: name != "cpu"))


def provider_list(device: Device, options: SessionOptions, listed: Sequence[str]) -> list[Any]:
    """What `InferenceSession(providers=)` takes: the one wanted, with options; who takes what it leaves; the CPU.

    listed: the providers of the installed build. Raises BackendError where the wanted one is not among them.
    """
    wanted = PROVIDERS[device.kind]
    if wanted not in listed:
        remedy = f"use one of {', '.join(device_names(listed))}, or install a build of onnxruntime with {wanted}"
        raise BackendError(f"this build of onnxruntime has no {wanted}", remedy)
    if device.kind == "cpu":
        return [CPU]
    chain: list[Any] = [(wanted, provider_options(device, options))]
    if device.kind == "tensorrt" and PROVIDERS["cuda"] in listed:
        chain.append((PROVIDERS["cuda"], _cuda(device, options)))
    return [*chain, CPU]


def provider_options(device: Device, options: SessionOptions) -> dict[str, str]:
    """Options of one provider, as text."""
    make = {
        "cuda": _cuda,
        "tensorrt": _tensorrt,
        "tensorrt_rtx": _tensorrt_rtx,
        "openvino": _openvino,
        "coreml": _coreml,
        "xnnpack": _xnnpack,
        "qnn": _qnn,
        "migraphx": _migraphx,
    }.get(device.kind)
    if make is not None:
        return make(device, options)
    return {"device_id": str(device.index)} if device.kind in ("dml", "rocm", "cann") else {}


def _cuda(device: Device, options: SessionOptions) -> dict[str, str]:
    return {
        "device_id": str(device.index),
        # Tries every algorithm of cuDNN at the first run, which is in the warm-up.
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "cudnn_conv_use_max_workspace": "1",
        "do_copy_in_default_stream": "1",
        "use_tf32": "0",  # ten bits of mantissa are not fp32
    }


def _tensorrt(device: Device, options: SessionOptions) -> dict[str, str]:
    folder = str(engine_folder(options, "onnxruntime_tensorrt"))
    return {
        "device_id": str(device.index),
        "trt_fp16_enable": str(options.precision == "fp16"),
        "trt_int8_enable": str(options.precision == "int8"),
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": folder,
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": folder,
    }


def _tensorrt_rtx(device: Device, options: SessionOptions) -> dict[str, str]:
    folder = str(engine_folder(options, "onnxruntime_tensorrt_rtx"))
    return {"device_id": str(device.index), "nv_runtime_cache_path": folder}


def _openvino(device: Device, options: SessionOptions) -> dict[str, str]:
    kind = (device.part or "cpu").upper()
    # Left alone, OpenVINO takes bf16 where the CPU has it.
    hint = "f16" if options.precision == "fp16" else "f32"
    settings = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
    made = {"device_type": kind, "load_config": json.dumps({kind.split(".")[0]: settings})}
    if kind == "CPU":
        return {**made, "num_of_threads": str(options.threads)}
    return {**made, "cache_dir": str(engine_folder(options, "onnxruntime_openvino"))}


def _coreml(device: Device, options: SessionOptions) -> dict[str, str]:
    # Its ML programs compute in fp16 wherever the neural engine does; the older format keeps fp32 on CPU and GPU.
    if options.precision == "fp16":
        return {"ModelFormat": "MLProgram", "MLComputeUnits": "ALL"}
    return {"ModelFormat": "NeuralNetwork", "MLComputeUnits": "CPUAndGPU"}


def _xnnpack(device: Device, options: SessionOptions) -> dict[str, str]:
    return {"intra_op_num_threads": str(options.threads)}  # a pool of its own; the session's is to be one


def _qnn(device: Device, options: SessionOptions) -> dict[str, str]:
    if options.precision == "fp32":
        return {"backend_path": "libQnnCpu.so"}
    made = {"backend_path": "libQnnHtp.so", "htp_performance_mode": "burst"}
    return {**made, "enable_htp_fp16_precision": "1"} if options.precision == "fp16" else made


def _migraphx(device: Device, options: SessionOptions) -> dict[str, str]:
    return {"device_id": str(device.index), "migraphx_fp16_enable": str(int(options.precision == "fp16"))}


NO_DEVICE = "its library loads, but no such device can be used (driver missing or too old?)"


def why_not_loaded(kind: str, package: Path) -> str:
    """The reason why a provider that the build lists did not come up, as the dynamic linker tells it.

    ONNX Runtime prints it and goes on without the provider. package: onnxruntime's folder.
    """
    name = _LIBRARIES.get(kind)
    if name is None:
        return "its library or its device is missing"
    try:
        ctypes.CDLL(str(package / "capi" / "libonnxruntime_providers_shared.so"), ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(package / "capi" / f"libonnxruntime_providers_{name}.so"))
    except OSError as error:
        return str(error)
    return NO_DEVICE
