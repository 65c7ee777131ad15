"""The machine that a training runs on: device, threads, memory."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

import torch

from edge_vision.optimize.training.errors import TrainingError


def chosen_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise TrainingError(f"device {name!r} is none of auto, cpu, cuda", "take auto")
    if name == "cuda" and not torch.cuda.is_available():
        raise TrainingError("PyTorch finds no GPU", "take device: cpu, or install PyTorch with CUDA")
    return torch.device(name)


@contextlib.contextmanager
def settings(threads: int) -> Iterator[None]:
    """Threads, and denormal numbers as zero: what training leaves in unused weights slows CPUs down tenfold."""
    before = torch.get_num_threads()
    _keep_memory()
    torch.set_flush_denormal(True)
    if threads > 0:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)


def _keep_memory() -> None:
    """Has glibc keep freed memory: without it each batch's tensors are mapped, zeroed and unmapped by the kernel, which
    cost half of a detector's training time."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD, its largest value
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        libc.mallopt(-2, 256 << 20)  # M_TOP_PAD
