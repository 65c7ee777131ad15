"""Machines recognised from recorded trees of /proc, /sys and /dev; profiles; where the data files lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_vision.inference import ModelError, detect_hardware
from edge_vision.inference.hardware import KINDS
from edge_vision.inference.profiles import choose_profile, load_profile
from edge_vision.paths import share_directory

X86 = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Core(TM) i5-1135G7 @ 2.40GHz
flags\t\t: fpu sse4_2 avx2 avx512f avx512_vnni

processor\t: 1
model name\t: Intel(R) Core(TM) i5-1135G7 @ 2.40GHz
flags\t\t: fpu sse4_2 avx2 avx512f avx512_vnni
"""
ARM = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes asimdhp asimddp
CPU part\t: 0xd0b

processor\t: 1
Features\t: fp asimd evtstrm aes asimdhp asimddp

Model\t\t: Raspberry Pi 5 Model B Rev 1.0
"""
TREES = {
    "raspberry_pi": {
        "proc/cpuinfo": ARM,
        "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        "proc/device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0",
        "proc/meminfo": "MemTotal:        8244272 kB\nMemFree: 1 kB\n",
    },
    "jetson": {
        "proc/cpuinfo": ARM.replace("Model\t\t: Raspberry Pi 5 Model B Rev 1.0\n", ""),
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
        "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0",
        "etc/nv_tegra_release": "# R36 (release), REVISION: 3.0",
    },
    "nvidia": {
        "proc/cpuinfo": X86,
        "proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t\t NVIDIA GeForce RTX 3060\nIRQ: 1\n",
        "dev/dri/renderD128": "",
        "sys/class/drm/renderD128/device/vendor": "0x8086\n",
    },
    "intel": {
        "proc/cpuinfo": X86,
        "dev/dri/renderD128": "",
        "sys/class/drm/renderD128/device/vendor": "0x8086\n",
    },
    "cpu": {
        "proc/cpuinfo": X86,
        "dev/dri/renderD128": "",
        "sys/class/drm/renderD128/device/vendor": "0x1002\n",
    },
}


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


@pytest.mark.parametrize("kind", KINDS)
def test_machines_are_recognised(tmp_path: Path, kind: str) -> None:
    found = detect_hardware(plant(tmp_path, TREES[kind]))
    assert found.kind == kind
    assert found.cores == 2
    assert found.reason


def test_what_is_told_of_a_machine(tmp_path: Path) -> None:
    board = detect_hardware(plant(tmp_path / "pi", TREES["raspberry_pi"]))
    assert board.model == "Raspberry Pi 5 Model B Rev 1.0"
    assert board.memory == 8244272 * 1024
    assert board.flags == ("asimd", "asimdhp", "asimddp")
    assert "Raspberry Pi 5" in board.reason
    box = detect_hardware(plant(tmp_path / "box", TREES["intel"]))
    assert box.model == "Intel(R) Core(TM) i5-1135G7 @ 2.40GHz"
    assert box.flags == ("avx2", "avx512f", "avx512_vnni")
    assert box.reason == "/dev/dri/renderD128 is an Intel GPU"
    npu = {"proc/cpuinfo": X86, "dev/accel/accel0": "", "sys/class/accel/accel0/device/vendor": "0x8086"}
    assert "NPU" in detect_hardware(plant(tmp_path / "npu", npu)).reason
    card = detect_hardware(plant(tmp_path / "card", TREES["nvidia"]))
    assert "NVIDIA GeForce RTX 3060" in card.reason


def test_an_empty_tree_is_a_cpu(tmp_path: Path) -> None:
    found = detect_hardware(tmp_path)
    assert (found.kind, found.cores, found.memory, found.flags) == ("cpu", 1, 0, ())


def test_this_machine_is_recognised_and_has_a_profile() -> None:
    profile, machine = choose_profile()
    assert machine.kind in KINDS
    assert profile.kind == machine.kind
    assert machine.cores >= 1
    assert machine.memory > 0


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_profile_that_leaves_a_core(kind: str) -> None:
    profile = load_profile(kind)
    assert profile.kind == kind
    assert profile.backends
    assert profile.threads(1) == 1
    assert 1 <= profile.threads(4) < 4
    assert profile.threads(64) <= 8


def test_profiles_that_are_wrong(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no hardware profile 'toaster'\. Choose auto, the path.*: coral, cpu"):
        load_profile("toaster")
    plant(tmp_path, {"cpu.yaml": "kind: cpu\ncandidates: [{backend: onnx}]\n"})
    with pytest.raises(ModelError, match=r"candidates\[0\]\.backend: is 'onnx'.*did you mean onnxruntime"):
        load_profile("cpu", tmp_path)
    plant(tmp_path, {"cpu.yaml": "kind: cpu\ncandidates: [{backend: openvino}]\nthreads: {reserved: 1}\n"})
    with pytest.raises(ModelError, match=r"threads\.reserved: unknown key.*did you mean reserve"):
        load_profile("cpu", tmp_path)


def test_the_share_folder(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGE_VISION_SHARE", raising=False)
    assert (share_directory() / "config" / "hardware" / "cpu.yaml").is_file()
    (tmp_path / "config" / "hardware").mkdir(parents=True)
    monkeypatch.setenv("EDGE_VISION_SHARE", str(tmp_path))
    assert share_directory() == tmp_path
    monkeypatch.setenv("EDGE_VISION_SHARE", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"EDGE_VISION_SHARE is .*nowhere"):
        share_directory()
