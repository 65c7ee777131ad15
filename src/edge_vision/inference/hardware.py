"""What machine this is, read from the files that Linux shows, below a root that tests can put elsewhere."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_vision.inference.accelerators import Accelerator, find_accelerators
from edge_vision.system_files import (
    exists,
    read_number,
    read_text,
    setting_of,
    usable_cores,
    usable_memory,
    value_of,
)

KINDS = (
    "cpu",
    "intel",
    "intel_gpu",
    "intel_npu",
    "nvidia",
    "jetson",
    "raspberry_pi",
    "raspberry_pi_4",
    "raspberry_pi_5",
    "coral",
)
"""Kinds of machine; each has its profile in config/hardware."""

ACCELERATING_FLAGS = (
    "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16",  # x86-64
    "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "neon",  # ARM
)  # fmt: skip
"""CPU features that decide what inference runs fast."""

_TEGRAS = {
    "tegra210": "Tegra X1",
    "tegra186": "Tegra X2",
    "tegra194": "Xavier",
    "tegra234": "Orin",
    "tegra264": "Thor",
}
# The same by /sys/devices/soc0/soc_id, which is there in containers too, where the device tree is not.
_TEGRA_IDS = {33: "tegra210", 24: "tegra186", 25: "tegra194", 35: "tegra234", 38: "tegra264"}

# The four processor bits of a Raspberry Pi's revision code (raspberrypi.com, "New-style revision codes").
_PI_PROCESSORS = ("BCM2835", "BCM2836", "BCM2837", "BCM2711", "BCM2712")
_PI_KINDS = {"BCM2711": "raspberry_pi_4", "BCM2712": "raspberry_pi_5"}

_ARM_CORES: Mapping[tuple[str, str], str] = {
    ("0x41", "0xd03"): "Cortex-A53",
    ("0x41", "0xd05"): "Cortex-A55",
    ("0x41", "0xd07"): "Cortex-A57",
    ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd0b"): "Cortex-A76",
    ("0x41", "0xd0c"): "Neoverse N1",
    ("0x41", "0xd40"): "Neoverse V1",
    ("0x41", "0xd42"): "Cortex-A78AE",
    ("0x41", "0xd49"): "Neoverse N2",
    ("0x41", "0xd4f"): "Neoverse V2",
    ("0x41", "0xd83"): "Neoverse V3AE",
    ("0x4e", "0x004"): "NVIDIA Carmel",
    ("0xc0", "0xac3"): "Ampere-1",
}
"""Names of ARM cores by implementer and part, where the kernel gives numbers alone."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """A machine as inference sees it.

    kind: one of `KINDS`; model: of the board or processor; cores: logical ones that this process may use (affinity,
    cgroup quota); memory: bytes of RAM that it may use, 0 where unknown; flags: those of `ACCELERATING_FLAGS` that
    the processor has; reason: what the kind was decided by.
    host: the kind without an accelerator that was added to it (Coral), otherwise the kind; soc, processor: names, ""
    where unknown; physical_cores: 0 where unknown; accelerators: also those that cannot be used, with the problem;
    system: the distribution; kernel: its release; l4t: the release of NVIDIA's Jetson Linux; container: in one.
    """

    kind: str
    model: str
    cores: int
    memory: int
    flags: tuple[str, ...]
    reason: str
    host: str = ""
    soc: str = ""
    processor: str = ""
    physical_cores: int = 0
    accelerators: tuple[Accelerator, ...] = ()
    system: str = ""
    kernel: str = ""
    l4t: str = ""
    container: bool = False

    def __post_init__(self) -> None:
        if not self.host:
            object.__setattr__(self, "host", self.kind)


@dataclass(frozen=True, slots=True)
class _Board:
    """What kind of board it is, "" for none that is known by its name; why; its model and SoC."""

    kind: str = ""
    reason: str = ""
    model: str = ""
    soc: str = ""


def detect_hardware(root: str | Path = "/") -> Hardware:
    """The machine whose /proc, /sys, /dev and /etc lie under `root`.

    Reads files alone: no process is started, nothing is imported. Never raises: what cannot be read is left empty.
    """
    root = Path(root)
    cpuinfo = read_text(root / "proc/cpuinfo")
    container = any(exists(root / mark) for mark in (".dockerenv", "run/.containerenv", "run/systemd/container"))
    board = _board(root, cpuinfo)
    tegra = board.soc if board.kind == "jetson" else ""
    accelerators = find_accelerators(root, tegra=tegra, container=container)
    processor = _processor(cpuinfo)
    host, host_reason = _host(board, accelerators, cpuinfo, processor)
    kind, reason = _addition(host, host_reason, accelerators)
    cores, physical = usable_cores(root, cpuinfo)
    return Hardware(
        kind=kind,
        model=board.model or processor or value_of(cpuinfo, "Hardware") or platform.machine(),
        cores=cores,
        memory=usable_memory(root),
        flags=_flags(cpuinfo),
        reason=reason,
        host=host,
        soc=board.soc,
        processor=processor,
        physical_cores=physical,
        accelerators=accelerators,
        system=setting_of(read_text(root / "etc/os-release"), "PRETTY_NAME"),
        kernel=read_text(root / "proc/sys/kernel/osrelease"),
        l4t=_l4t(root),
        container=container,
    )


def _host(board: _Board, accelerators: tuple[Accelerator, ...], cpuinfo: str, processor: str) -> tuple[str, str]:
    """(kind, reason) of the machine itself, the most specific first. An accelerator counts where it can be used."""
    if board.kind == "jetson":
        return board.kind, board.reason
    usable = {found.kind: found for found in reversed(accelerators) if not found.problem}
    if "nvidia_gpu" in usable:
        return "nvidia", f"NVIDIA's driver has {usable['nvidia_gpu']}"
    if board.kind:
        return board.kind, board.reason
    for kind in ("intel_npu", "intel_gpu"):
        if kind in usable:
            return kind, f"there is {usable[kind]}"
    closed = "".join(f"; {found}" for found in accelerators if found.kind in ("nvidia_gpu", "intel_gpu", "intel_npu"))
    if value_of(cpuinfo, "vendor_id") == "GenuineIntel":
        return "intel", f"the processor is Intel's ({processor}), without a GPU or NPU that can be used{closed}"
    return "cpu", f"no board, GPU or NPU that is known and can be used{closed}"


def _addition(host: str, reason: str, accelerators: tuple[Accelerator, ...]) -> tuple[str, str]:
    """(kind, reason) with an accelerator that somebody plugged in: it was bought for this, unless a GPU is there."""
    for found in accelerators:
        if found.kind == "edgetpu" and not found.problem and host not in ("jetson", "nvidia"):
            return "coral", f"there is {found} on a machine of kind {host} ({reason})"
    return host, reason


def _board(root: Path, cpuinfo: str) -> _Board:
    """The single-board computer, from the device tree, or what is left of it in a container (which hides it)."""
    tree = root / "proc/device-tree"
    if not exists(tree):
        tree = root / "sys/firmware/devicetree/base"
    model = read_text(tree / "model").replace("\0", " ")
    compatible = read_text(tree / "compatible").split("\0")
    return _jetson(root, model, compatible) or _raspberry_pi(cpuinfo, model, compatible) or _Board(model=model)


def _jetson(root: Path, model: str, compatible: list[str]) -> _Board | None:
    chip = next((name.removeprefix("nvidia,") for name in compatible if name.startswith("nvidia,tegra")), "")
    if chip or "Jetson" in model:
        return _Board("jetson", f"the device tree names {model or chip}", model, _tegra(chip))
    soc = root / "sys/devices/soc0"
    if read_text(soc / "family") == "Tegra":
        chip = _TEGRA_IDS.get(read_number(soc / "soc_id") or 0, "")
        model = read_text(soc / "machine") or "NVIDIA Jetson"
        return _Board("jetson", f"/sys/devices/soc0 names Tegra, {model}", model, _tegra(chip))
    if _l4t(root):
        return _Board("jetson", f"/etc/nv_tegra_release names L4T {_l4t(root)}", model or "NVIDIA Jetson", _tegra(""))
    return None


def _tegra(chip: str) -> str:
    return f"{_TEGRAS[chip]} ({chip})" if chip in _TEGRAS else chip or "Tegra"


def _raspberry_pi(cpuinfo: str, model: str, compatible: list[str]) -> _Board | None:
    name, source = model, "the device tree"
    if "Raspberry Pi" not in name:
        # Docker hides the device tree; the board's name is also at the end of /proc/cpuinfo.
        name, source = value_of(cpuinfo, "Model"), "/proc/cpuinfo"
        if "Raspberry Pi" not in name:
            return None
    chips = [part.removeprefix("brcm,").upper() for part in compatible if part.startswith("brcm,bcm")]
    soc = chips[0] if chips else _soc_of_revision(value_of(cpuinfo, "Revision"))
    kind = _PI_KINDS.get(soc, "")
    if not kind:
        generation = re.search(r"Raspberry Pi (?:Compute Module )?([45])(?:00)?\b", name)
        kind = f"raspberry_pi_{generation[1]}" if generation and not soc else "raspberry_pi"
    return _Board(kind, f"{source} names {name}", name, soc)


def _soc_of_revision(code: str) -> str:
    """The processor in a revision code: NOQuuuWuFMMMCCCCPPPPTTTTTTTTRRRR, where F says that it is a new-style one."""
    try:
        bits = int(code, 16)
    except ValueError:
        return ""
    index = bits >> 12 & 0xF
    return _PI_PROCESSORS[index] if bits >> 23 & 1 and index < len(_PI_PROCESSORS) else ""


def _l4t(root: Path) -> str:
    """The release in /etc/nv_tegra_release: `# R36 (release), REVISION: 4.3, ...` is 36.4.3; "" where there is none."""
    found = re.match(r"#\s*R(\d+)\s*\(release\)(?:,\s*REVISION:\s*([\d.]+))?", read_text(root / "etc/nv_tegra_release"))
    return ".".join(part for part in found.groups() if part).rstrip(".") if found else ""


def _processor(cpuinfo: str) -> str:
    core = _ARM_CORES.get((value_of(cpuinfo, "CPU implementer"), value_of(cpuinfo, "CPU part")), "")
    return core or value_of(cpuinfo, "model name")


def _flags(cpuinfo: str) -> tuple[str, ...]:
    found = set(value_of(cpuinfo, "flags", "Features").split())
    return tuple(flag for flag in ACCELERATING_FLAGS if flag in found)
