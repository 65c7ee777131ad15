"""What machine this is, read from the files that Linux shows, below a root that tests can put elsewhere."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

KINDS = ("cpu", "intel", "jetson", "nvidia", "raspberry_pi")

ACCELERATING_FLAGS = (
    "avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_tile", "amx_int8",  # x86-64
    "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "neon",  # ARM
)  # fmt: skip
"""CPU features that decide what inference runs fast."""

INTEL_VENDOR = "0x8086"


@dataclass(frozen=True, slots=True)
class Hardware:
    """A machine as inference sees it.

    kind: one of `KINDS`; model: of the board or processor; cores: logical; memory: bytes of RAM, 0 where unknown;
    flags: those of `ACCELERATING_FLAGS` that the processor has; reason: what the kind was decided by.
    """

    kind: str
    model: str
    cores: int
    memory: int
    flags: tuple[str, ...]
    reason: str

    @property
    def host(self) -> str:
        """The kind without an accelerator that was added to it."""
        return self.kind


def detect_hardware(root: str | Path = "/") -> Hardware:
    """The machine whose /proc, /sys and /dev lie under `root`. Never raises: what cannot be read is left empty."""
    root = Path(root)
    processors = _text(root / "proc/cpuinfo")
    kind, reason, board = _kind(root)
    return Hardware(
        kind=kind,
        model=board or _value(processors, "model name", "Model", "Hardware") or platform.machine(),
        cores=_cores(root, processors),
        memory=_memory(_text(root / "proc/meminfo")),
        flags=_flags(processors),
        reason=reason,
    )


def _kind(root: Path) -> tuple[str, str, str]:
    """(kind, reason, board model), the most specific first."""
    board = _text(root / "proc/device-tree/model") or _text(root / "sys/firmware/devicetree/base/model")
    compatible = _text(root / "proc/device-tree/compatible").replace("\0", " ")
    if "Raspberry Pi" in board:
        return "raspberry_pi", f"the device tree names {board}", board
    if "nvidia,tegra" in compatible or "Jetson" in board or (root / "etc/nv_tegra_release").is_file():
        return "jetson", f"the device tree or L4T release names {board or 'an NVIDIA Tegra'}", board
    cards = sorted((root / "proc/driver/nvidia/gpus").glob("*/information"))
    if cards:
        model = _value(_text(cards[0]), "Model") or "an NVIDIA GPU"
        return "nvidia", f"/proc/driver/nvidia lists {model}", board
    if (root / "dev/nvidiactl").exists():
        return "nvidia", "/dev/nvidiactl exists", board
    accelerator = _intel_accelerator(root)
    if accelerator:
        return "intel", accelerator, board
    return "cpu", "no board, GPU or NPU that is known was found", board


def _intel_accelerator(root: Path) -> str:
    """The Intel GPU or NPU that can be opened, or "". A processor alone is not enough: it is served as `cpu`."""
    for node in sorted((root / "dev/dri").glob("renderD*")):
        vendor = _text(root / "sys/class/drm" / node.name / "device/vendor")
        if vendor == INTEL_VENDOR:
            return f"/dev/dri/{node.name} is an Intel GPU"
    for node in sorted((root / "dev/accel").glob("accel*")):
        vendor = _text(root / "sys/class/accel" / node.name / "device/vendor")
        if vendor == INTEL_VENDOR:
            return f"/dev/accel/{node.name} is an Intel NPU"
    return ""


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "replace").strip().rstrip("\0")
    except OSError:
        return ""


def _value(text: str, *keys: str) -> str:
    """The first `key : value` line's value, for the first of `keys` that there is."""
    for key in keys:
        for line in text.splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key and value.strip():
                return value.strip()
    return ""


def _cores(root: Path, processors: str) -> int:
    if root == Path("/") and hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))  # what this process may use, not what the machine has
    return max(1, sum(line.startswith("processor") for line in processors.splitlines()))


def _memory(text: str) -> int:
    words = _value(text, "MemTotal").split()
    return int(words[0]) * 1024 if words and words[0].isdigit() else 0


def _flags(processors: str) -> tuple[str, ...]:
    found = set(_value(processors, "flags", "Features").split())
    return tuple(flag for flag in ACCELERATING_FLAGS if flag in found)
