"""What a process that runs nodes does once, before anything else: memory, threads, Fast DDS, rclpy."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_vision.paths import share_directory

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def keep_freed_memory() -> bool:
    """Makes glibc reuse the memory of freed images instead of returning it to the kernel.

    A new 6 MB block is otherwise mapped, zeroed page by page and unmapped at every frame, in rclpy, in Fast DDS and in
    OpenCV alike; `edge_vision bench transport` shows what that costs. Returns False where the C library has no mallopt.
    """
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 32 * 1024 * 1024)  # the largest that glibc takes (DEFAULT_MMAP_THRESHOLD_MAX)
        libc.mallopt(_M_TRIM_THRESHOLD, 256 * 1024 * 1024)
    except (OSError, AttributeError):
        return False
    return True


def single_threaded_blas() -> bool:
    """Has NumPy's OpenBLAS calculate on the calling thread alone; returns whether it was found.

    Its threads wait for more to do by spinning for 2^28 cycles, 0.1 s, after every product that they had a part in:
    five a second keep half a core busy, beside which inference takes a quarter longer (`edge_vision bench pipeline
    --only composed quality`). The products of nodes are small. A number that the user has set stays.
    """
    if any(os.environ.get(name) for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")):
        return False
    import numpy  # noqa: F401  which loads it

    found = False
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:  # not Linux
        return False
    paths = {line.split(maxsplit=5)[5] for line in lines if "openblas" in line.rpartition("/")[2]}
    for path in paths:
        library = ctypes.CDLL(path)
        for name in ("scipy_openblas_set_num_threads64_", "openblas_set_num_threads64_", "openblas_set_num_threads"):
            if hasattr(library, name):
                getattr(library, name)(1)
                found = True
                break
    return found


def use_shared_memory_profile() -> str | None:
    """Points Fast DDS at config/fastdds.xml unless the user has a profile of their own; returns the file in use."""
    for variable in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"):
        if os.environ.get(variable):
            return os.environ[variable]
    profile = share_directory() / "config" / "fastdds.xml"
    if not profile.is_file():
        return None
    os.environ["FASTDDS_DEFAULT_PROFILES_FILE"] = str(profile)
    os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(profile)
    return str(profile)


def prepare_process() -> None:
    """Settings of the whole process; call before rclpy is initialised."""
    keep_freed_memory()
    single_threaded_blas()
    use_shared_memory_profile()
    # The interpreter's default of 5 ms between thread switches is as long as a whole inference.
    sys.setswitchinterval(0.0005)


def initialise(arguments: Sequence[str] | None = None) -> None:
    """Prepares the process and initialises rclpy without its signal handlers: the container has its own."""
    prepare_process()
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    rclpy.init(args=list(arguments) if arguments is not None else None, signal_handler_options=SignalHandlerOptions.NO)
