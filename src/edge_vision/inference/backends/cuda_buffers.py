"""The few CUDA calls that a TensorRT session needs: a stream, pinned host memory, device memory, copies, graphs.

Through `ctypes` on the driver's own library, libcuda, which is there wherever a GPU works at all: neither the CUDA
toolkit's libcudart (whose name changes with each version and lies elsewhere on a Jetson) nor the package cuda-python,
which JetPack lacks, is needed. TensorRT uses the device's primary context, and so do these.

Names, signatures and the `_v2` of some of them: CUDA Driver API reference.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
from collections.abc import Callable
from ctypes import POINTER, byref, c_char, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.errors import BackendError

LIBRARIES = ("libcuda.so.1", "libcuda.so", "nvcuda.dll")
REMEDY = (
    "install NVIDIA's driver (nvidia-smi must list the GPU; in a container: the NVIDIA container toolkit, --gpus all)"
)

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: the stream does not wait for the default one
_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads' calls do not break the capture
_MAJOR, _MINOR, _INTEGRATED = 75, 76, 18  # CUdevice_attribute

_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
    "cuDeviceGetCount": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (POINTER(c_char), c_int, c_int),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuDevicePrimaryCtxRelease_v2": (c_int,),
    "cuCtxSetCurrent": (c_void_p,),
    "cuStreamCreate": (POINTER(c_void_p), c_uint),
    "cuStreamDestroy_v2": (c_void_p,),
    "cuStreamSynchronize": (c_void_p,),
    "cuMemAlloc_v2": (POINTER(c_uint64), c_size_t),
    "cuMemFree_v2": (c_uint64,),
    "cuMemHostAlloc": (POINTER(c_void_p), c_size_t, c_uint),
    "cuMemFreeHost": (c_void_p,),
    "cuMemcpyHtoDAsync_v2": (c_uint64, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_uint64, c_size_t, c_void_p),
    "cuStreamBeginCapture_v2": (c_void_p, c_int),
    "cuStreamEndCapture": (c_void_p, POINTER(c_void_p)),
    "cuGraphInstantiateWithFlags": (POINTER(c_void_p), c_void_p, c_uint64),
    "cuGraphLaunch": (c_void_p, c_void_p),
    "cuGraphDestroy": (c_void_p,),
    "cuGraphExecDestroy": (c_void_p,),
}


def find_driver() -> ctypes.CDLL:
    """The driver's library. Raises BackendError, with the remedy, where there is none."""
    for name in LIBRARIES:
        with contextlib.suppress(OSError):
            return ctypes.CDLL(name)
    raise BackendError(f"there is no CUDA driver here ({LIBRARIES[0]} is not found)", REMEDY)


def load_driver() -> ctypes.CDLL:
    """The driver's library, initialised. Raises BackendError, with the remedy, where there is none or no GPU."""
    library = find_driver()
    for name, arguments in _SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = list(arguments), c_int
    check(library, "cuInit", library.cuInit(0))
    return library


def check(driver: Any, call: str, status: int) -> None:
    """Raises BackendError where a call of the driver did not return CUDA_SUCCESS."""
    if status == 0:
        return
    text = c_char_p()
    found = driver.cuGetErrorString(status, byref(text)) == 0 and text.value
    reason = text.value.decode() if found and text.value else f"error {status}"
    raise BackendError(f"CUDA: {call} failed: {reason}", REMEDY if call == "cuInit" else "")


class Gpu:
    """One GPU: its primary context, made current, and a stream of its own.

    name: as the driver has it; capability: (major, minor). A context belongs to threads: `enter` in each that calls.
    """

    def __init__(self, index: int = 0, driver: Any = None) -> None:
        """Raises BackendError where the driver or the device is missing."""
        self.driver = driver or load_driver()
        self.index = index
        count = c_int()
        self.call("cuDeviceGetCount", byref(count))
        if not 0 <= index < count.value:
            names = ", ".join(f"gpu.{i}" for i in range(count.value)) or "none"
            raise BackendError(f"there is no GPU {index}", f"the driver lists {names}")
        device = c_int()
        self.call("cuDeviceGet", byref(device), index)
        self.device = device.value
        text = ctypes.create_string_buffer(256)
        self.call("cuDeviceGetName", text, len(text), self.device)
        self.name = text.value.decode("utf-8", "replace")
        self.capability = (self.attribute(_MAJOR), self.attribute(_MINOR))
        self.integrated = bool(self.attribute(_INTEGRATED))
        context = c_void_p()
        self.call("cuDevicePrimaryCtxRetain", byref(context), self.device)
        self.context: c_void_p | None = context
        self.stream = c_void_p()
        self.graph: c_void_p | None = None
        try:
            self.enter()
            self.call("cuStreamCreate", byref(self.stream), _NON_BLOCKING)
        except BackendError:
            self.close()
            raise

    def call(self, name: str, *arguments: Any) -> None:
        check(self.driver, name, getattr(self.driver, name)(*arguments))

    def attribute(self, number: int) -> int:
        value = c_int()
        self.call("cuDeviceGetAttribute", byref(value), number, self.device)
        return value.value

    def enter(self) -> None:
        """Make the context that of the calling thread."""
        self.call("cuCtxSetCurrent", self.context)

    def wait(self) -> None:
        """Until all that was put into the stream is done."""
        self.call("cuStreamSynchronize", self.stream)

    def capture(self, work: Callable[[], None]) -> None:
        """Record what `work` puts into the stream, for `launch`. Raises BackendError where it cannot be recorded."""
        graph, executable = c_void_p(), c_void_p()
        self.call("cuStreamBeginCapture_v2", self.stream, _THREAD_LOCAL)
        try:
            work()
        finally:
            status = self.driver.cuStreamEndCapture(self.stream, byref(graph))
        check(self.driver, "cuStreamEndCapture", status)
        try:
            self.call("cuGraphInstantiateWithFlags", byref(executable), graph, 0)
        finally:
            self.driver.cuGraphDestroy(graph)
        self.graph = executable

    def launch(self) -> None:
        """Put what was recorded into the stream: one call instead of one a kernel."""
        self.call("cuGraphLaunch", self.graph, self.stream)

    def close(self) -> None:
        """Give the stream and the context back. May be called twice."""
        if self.context is None:
            return
        self.driver.cuCtxSetCurrent(self.context)
        if self.graph is not None:
            self.driver.cuGraphExecDestroy(self.graph)
        if self.stream:
            self.driver.cuStreamDestroy_v2(self.stream)
        self.driver.cuDevicePrimaryCtxRelease_v2(self.device)
        self.context, self.graph = None, None


class Buffer:
    """One tensor twice: `host`, an array in pinned memory, which the GPU copies from and to by itself, and `pointer`,
    its address on the device."""

    def __init__(self, gpu: Gpu, shape: tuple[int, ...], dtype: Any) -> None:
        self.gpu = gpu
        self.bytes = max(math.prod(shape) * np.dtype(dtype).itemsize, 1)
        self.page = c_void_p()
        self.open = True
        self.address = c_uint64()
        gpu.call("cuMemHostAlloc", byref(self.page), self.bytes, 0)
        try:
            gpu.call("cuMemAlloc_v2", byref(self.address), self.bytes)
        except BackendError:
            gpu.driver.cuMemFreeHost(self.page)
            raise
        memory = (c_char * self.bytes).from_address(self.page.value or 0)
        self.host: NDArray = np.frombuffer(memory, dtype, count=math.prod(shape)).reshape(shape)

    @property
    def pointer(self) -> int:
        return self.address.value

    def upload(self) -> None:
        """Put the copy to the device into the stream."""
        self.gpu.call("cuMemcpyHtoDAsync_v2", self.address, self.page, self.bytes, self.gpu.stream)

    def download(self) -> None:
        """Put the copy from the device into the stream."""
        self.gpu.call("cuMemcpyDtoHAsync_v2", self.page, self.address, self.bytes, self.gpu.stream)

    def close(self) -> None:
        """Free both. Arrays made from `host` are invalid from here on. May be called twice."""
        if self.open:
            self.gpu.driver.cuMemFree_v2(self.address)
            self.gpu.driver.cuMemFreeHost(self.page)
            self.open = False
