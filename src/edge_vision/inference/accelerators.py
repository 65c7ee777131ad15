"""Accelerators that Linux shows: GPUs, NPUs and Edge TPUs, and why one of them cannot be used as things are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from edge_vision.system_files import exists, listed, read_text, setting_of, value_of

USED = ("nvidia_gpu", "tegra_gpu", "intel_gpu", "intel_npu", "edgetpu")
"""The kinds that a backend can use. The others (amd_gpu, amd_npu, hailo) are named, so that nobody wonders."""

_NVIDIA, _INTEL, _AMD = "0x10de", "0x8086", "0x1002"
_AMD_PLATFORM = "0x1022"  # the vendor of AMD's processors, XDNA NPUs among them

# PCI ids of Intel's NPUs: the table of the kernel's driver, drivers/accel/ivpu/ivpu_drv.h.
_INTEL_NPUS = {
    "0x7d1d": "Meteor Lake",
    "0xad1d": "Arrow Lake",
    "0x643e": "Lunar Lake",
    "0xb03e": "Panther Lake",
}

# Edge TPU by USB: 1a6e:089a until its firmware was loaded at the first use, 18d1:9302 from then on. By PCIe: 1ac1:089a.
_EDGETPU_USB = (("1a6e", "089a"), ("18d1", "9302"))
_EDGETPU_PCI = ("0x1ac1", "0x089a")


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A device beside the CPU.

    kind: one of `USED`, or amd_gpu, amd_npu, hailo; name: for people; where: its device file or bus address;
    problem: why it cannot be used as things are, with what helps; "" where nothing speaks against it.
    """

    kind: str
    name: str
    where: str
    problem: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.where})" + (f": {self.problem}" if self.problem else "")


def find_accelerators(root: Path, *, tegra: str = "", container: bool = False) -> tuple[Accelerator, ...]:
    """The accelerators below `root`. tegra: the name of the Jetson's SoC, "" for none. Never raises."""
    found = _tegra(root, tegra, container) if tegra else []
    found += _nvidia(root, container)
    found += _graphics(root, nvidia_driver=bool(found))
    found += _npus(root)
    found += _edgetpus(root)
    found += [
        Accelerator("hailo", "Hailo", f"/dev/{node.name}", "no backend") for node in listed(root, "dev/hailo[0-9]*")
    ]
    return tuple(found)


def _tegra(root: Path, soc: str, container: bool) -> list[Accelerator]:
    closed = container and not any(exists(root / "dev" / name) for name in ("nvmap", "nvgpu", "nvhost-gpu"))
    problem = "start the container with --runtime nvidia" if closed else ""
    return [Accelerator("tegra_gpu", f"GPU of the {soc}", "integrated", problem)]


def _nvidia(root: Path, container: bool) -> list[Accelerator]:
    """GPUs of NVIDIA's own driver. Its device files are made at the first use, so only a container must have them."""
    has_node = exists(root / "dev/nvidiactl")
    problem = "" if has_node or not container else "start the container with --gpus all or --runtime nvidia"
    cards = listed(root / "proc/driver/nvidia/gpus", "*/information")
    if cards:
        return [
            Accelerator(
                "nvidia_gpu", value_of(read_text(card), "Model") or "NVIDIA GPU", f"PCI {card.parent.name}", problem
            )
            for card in cards
        ]
    if has_node:
        return [Accelerator("nvidia_gpu", "NVIDIA GPU", "/dev/nvidiactl")]
    if exists(root / "dev/dxg") and exists(root / "usr/lib/wsl/lib/libcuda.so.1"):
        return [Accelerator("nvidia_gpu", "NVIDIA GPU of the Windows host", "/dev/dxg")]
    return []


def _graphics(root: Path, nvidia_driver: bool) -> list[Accelerator]:
    found = []
    for node in listed(root, "dev/dri/renderD*"):
        device = root / "sys/class/drm" / node.name / "device"
        vendor, where = read_text(device / "vendor").lower(), f"/dev/dri/{node.name}"
        if vendor == _INTEL:
            found.append(Accelerator("intel_gpu", _pci_name("Intel GPU", device), where, _closed(node, "render")))
        elif vendor == _AMD:
            found.append(Accelerator("amd_gpu", _pci_name("AMD GPU", device), where, "no backend"))
        elif vendor == _NVIDIA and not nvidia_driver:
            driver = setting_of(read_text(device / "uevent"), "DRIVER") or "unknown"
            problem = f"driver {driver} has no CUDA: install NVIDIA's"
            found.append(Accelerator("nvidia_gpu", _pci_name("NVIDIA GPU", device), where, problem))
    return found


def _npus(root: Path) -> list[Accelerator]:
    found = []
    for node in listed(root, "dev/accel/accel*"):
        device = root / "sys/class/accel" / node.name / "device"
        vendor, where = read_text(device / "vendor").lower(), f"/dev/accel/{node.name}"
        if vendor == _INTEL:
            generation = _INTEL_NPUS.get(read_text(device / "device").lower(), "")
            name = _pci_name("Intel NPU" + (f" of {generation}" if generation else ""), device)
            found.append(Accelerator("intel_npu", name, where, _closed(node, "render")))
        elif vendor in (_AMD, _AMD_PLATFORM):
            found.append(Accelerator("amd_npu", _pci_name("AMD NPU", device), where, "no backend"))
    return found


def _edgetpus(root: Path) -> list[Accelerator]:
    found = []
    for device in listed(root, "sys/bus/usb/devices/*"):
        if (read_text(device / "idVendor").lower(), read_text(device / "idProduct").lower()) in _EDGETPU_USB:
            bus, address = read_text(device / "busnum"), read_text(device / "devnum")
            known = bus.isascii() and bus.isdigit() and address.isascii() and address.isdigit()
            path = f"dev/bus/usb/{bus.zfill(3)}/{address.zfill(3)}" if known else "dev/bus/usb"
            slow = ", on USB 2" if read_text(device / "speed") in ("12", "480") else ""
            closed = _closed(root / path, "plugdev")
            found.append(Accelerator("edgetpu", f"Coral USB Accelerator{slow}", f"/{path}", closed))
    cards = [
        device
        for device in listed(root, "sys/bus/pci/devices/*")
        if (read_text(device / "vendor").lower(), read_text(device / "device").lower()) == _EDGETPU_PCI
    ]
    nodes = listed(root, "dev/apex_*")
    name, missing = (
        "Coral PCIe Accelerator",
        "no /dev/apex_*: load the drivers gasket and apex, or pass it into the container",
    )
    found += [Accelerator("edgetpu", name, f"/dev/{node.name}", _closed(node, "apex")) for node in nodes]
    return found + [Accelerator("edgetpu", name, f"PCI {card.name}", missing) for card in cards[len(nodes) :]]


def _pci_name(name: str, device: Path) -> str:
    """`name` with vendor:device, which is what people search the web for."""
    numbers = [read_text(device / part).lower().removeprefix("0x") for part in ("vendor", "device")]
    return f"{name} [{':'.join(numbers)}]" if all(len(number) == 4 for number in numbers) else name


def _closed(node: Path, group: str) -> str:
    """Why this user cannot open a device file, or ""."""
    if not exists(node):
        return "its device file is missing: pass it into the container with --device"
    if not os.access(node, os.R_OK | os.W_OK):
        return f"this user may not open it: add the user to the group {group}, or the container with --group-add"
    return ""
