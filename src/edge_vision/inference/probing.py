"""What the installed drivers and runtimes say of this machine's accelerators: a second source beside `detect_hardware`.

Slow (a process each, an import of a second) and able to hang in a broken driver, so it runs only when somebody asks
(`edge_vision backends`), outside this process and with a time limit.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

_NVIDIA_SMI = ("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
_OPENVINO = (
    sys.executable,
    "-c",
    "import openvino\n"
    "core = openvino.Core()\n"
    "for name in core.available_devices:\n"
    "    print(name.lower() + ': ' + core.get_property(name, 'FULL_DEVICE_NAME'))",
)


@dataclass(frozen=True, slots=True)
class Probe:
    """The answer of one source. devices: a line each; problem: why there is none, "" where it answered."""

    source: str
    devices: tuple[str, ...]
    problem: str = ""


def probe_runtimes(timeout: float = 10.0) -> tuple[Probe, ...]:
    """Ask nvidia-smi for the GPUs of NVIDIA's driver, and OpenVINO for its devices. Never raises.

    timeout: seconds for each; what takes longer is ended and named as the problem.
    """
    return (_ask("nvidia-smi", _NVIDIA_SMI, timeout), _ask("openvino", _OPENVINO, timeout))


def _ask(source: str, command: Sequence[str], timeout: float) -> Probe:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except FileNotFoundError:
        return Probe(source, (), "not installed")
    except subprocess.TimeoutExpired:
        return Probe(source, (), f"no answer within {timeout:g} s: its driver may hang")
    except OSError as error:
        return Probe(source, (), f"cannot be started: {error.strerror or error}")
    lines = tuple(line.strip() for line in done.stdout.splitlines() if line.strip())
    if done.returncode == 0:
        return Probe(source, lines, "" if lines else "lists no device")
    said = (done.stderr.strip() or done.stdout.strip()).splitlines()
    missing = bool(said) and "No module named" in said[-1]
    return Probe(source, (), "not installed" if missing else f"failed: {said[-1] if said else done.returncode}")
