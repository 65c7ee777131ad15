"""Machines recognised from recorded trees of /proc, /sys, /dev and /etc (boards/README.md)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_vision.inference import detect_hardware
from edge_vision.inference.accelerators import USED, Accelerator
from edge_vision.inference.hardware import KINDS, Hardware
from edge_vision.inference.profiles import choose_profile
from edge_vision.paths import share_directory

BOARDS = Path(__file__).parent / "boards"
MIB = 1 << 20

# board: kind, SoC, processor, logical and physical cores, MiB of memory
EXPECTED = {
    "raspberry_pi_3b_plus": ("raspberry_pi", "BCM2837", "Cortex-A53", 4, 0, 910),
    "raspberry_pi_zero_2_w": ("raspberry_pi", "BCM2837", "Cortex-A53", 4, 0, 416),
    "raspberry_pi_4b": ("raspberry_pi_4", "BCM2711", "Cortex-A72", 4, 0, 3793),
    "raspberry_pi_cm4": ("raspberry_pi_4", "BCM2711", "Cortex-A72", 4, 0, 1850),
    "raspberry_pi_5": ("raspberry_pi_5", "BCM2712", "Cortex-A76", 4, 0, 8051),
    "raspberry_pi_cm5": ("raspberry_pi_5", "BCM2712", "Cortex-A76", 4, 0, 4049),
    "raspberry_pi_5_coral_usb": ("coral", "BCM2712", "Cortex-A76", 4, 0, 4044),
    "container_on_raspberry_pi_5": ("raspberry_pi_5", "BCM2712", "Cortex-A76", 2, 0, 2048),
    "jetson_nano": ("jetson", "Tegra X1 (tegra210)", "Cortex-A57", 4, 0, 3964),
    "jetson_xavier_nx": ("jetson", "Xavier (tegra194)", "NVIDIA Carmel", 6, 0, 6755),
    "jetson_orin_nano": ("jetson", "Orin (tegra234)", "Cortex-A78AE", 6, 0, 7619),
    "jetson_agx_orin": ("jetson", "Orin (tegra234)", "Cortex-A78AE", 12, 0, 62832),
    "container_on_jetson_orin_nano": ("jetson", "Orin (tegra234)", "Cortex-A78AE", 6, 0, 7619),
    "intel_nuc": ("intel_gpu", "", "11th Gen Intel(R) Core(TM) i5-1135G7 @ 2.40GHz", 8, 4, 15786),
    "intel_core_ultra": ("intel_npu", "", "Intel(R) Core(TM) Ultra 7 155H", 22, 16, 31625),
    "laptop_nvidia": ("nvidia", "", "12th Gen Intel(R) Core(TM) i7-12700H", 6, 4, 31742),
    "container_without_gpus": ("intel", "", "12th Gen Intel(R) Core(TM) i7-12700H", 1, 1, 1024),
    "amd_box": ("cpu", "", "AMD Ryzen 7 7840HS w/ Radeon 780M Graphics", 4, 2, 27933),
    "arm_server": ("cpu", "", "Neoverse N1", 2, 0, 128000),
    "coral_pcie": ("coral", "", "Intel(R) Core(TM) i3-8100 CPU @ 3.60GHz", 4, 4, 7822),
}

ACCELERATORS = {
    "raspberry_pi_5_coral_usb": ["edgetpu Coral USB Accelerator (/dev/bus/usb/004/003)"],
    "coral_pcie": ["edgetpu Coral PCIe Accelerator (/dev/apex_0)"],
    "jetson_nano": ["tegra_gpu GPU of the Tegra X1 (tegra210) (integrated)"],
    "intel_nuc": ["intel_gpu Intel GPU [8086:9a49] (/dev/dri/renderD128)"],
    "intel_core_ultra": [
        "intel_gpu Intel GPU [8086:7d55] (/dev/dri/renderD128)",
        "intel_npu Intel NPU of Meteor Lake [8086:7d1d] (/dev/accel/accel0)",
    ],
    "laptop_nvidia": [
        "nvidia_gpu NVIDIA GeForce RTX 3060 Laptop GPU (PCI 0000:01:00.0)",
        "intel_gpu Intel GPU [8086:46a6] (/dev/dri/renderD128)",
    ],
    "amd_box": [
        "amd_gpu AMD GPU [1002:15bf] (/dev/dri/renderD128): no backend",
        "amd_npu AMD NPU [1022:1502] (/dev/accel/accel0): no backend",
    ],
    "raspberry_pi_4b": [],
}


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def of(found: Hardware, kind: str) -> Accelerator:
    return next(one for one in found.accelerators if one.kind == kind)


def test_every_recorded_board_is_looked_at() -> None:
    assert {path.name for path in BOARDS.iterdir() if path.is_dir()} == set(EXPECTED)


@pytest.mark.parametrize("board", EXPECTED)
def test_boards_are_recognised(board: str) -> None:
    found = detect_hardware(BOARDS / board)
    kind, soc, processor, cores, physical, memory = EXPECTED[board]
    assert (found.kind, found.soc, found.processor) == (kind, soc, processor)
    assert (found.cores, found.physical_cores, found.memory // MIB) == (cores, physical, memory)
    assert found.reason
    assert found.container == board.startswith("container")


@pytest.mark.parametrize("board", ACCELERATORS)
def test_accelerators_are_listed(board: str) -> None:
    found = detect_hardware(BOARDS / board).accelerators
    assert [f"{one.kind} {one}" for one in found] == ACCELERATORS[board]


def test_what_is_told_of_a_board() -> None:
    pi = detect_hardware(BOARDS / "raspberry_pi_5")
    assert pi.model == "Raspberry Pi 5 Model B Rev 1.0"
    assert pi.reason == "the device tree names Raspberry Pi 5 Model B Rev 1.0"
    assert pi.flags == ("asimd", "asimdhp", "asimddp")  # fp16 arithmetic and int8 dot product, which a Pi 4 lacks
    assert detect_hardware(BOARDS / "raspberry_pi_4b").flags == ("asimd",)
    assert (pi.system, pi.kernel, pi.l4t) == ("Ubuntu 24.04.1 LTS", "6.8.0-1013-raspi", "")
    nuc = detect_hardware(BOARDS / "intel_nuc")
    assert nuc.model == "11th Gen Intel(R) Core(TM) i5-1135G7 @ 2.40GHz"
    assert nuc.flags == ("avx2", "avx512f", "avx512_vnni")
    boards = ("jetson_nano", "jetson_xavier_nx", "jetson_orin_nano")
    assert [detect_hardware(BOARDS / board).l4t for board in boards] == ["32.7.1", "35.4.1", "36.4.3"]


def test_the_machine_that_a_coral_is_plugged_into_is_known() -> None:
    pi = detect_hardware(BOARDS / "raspberry_pi_5_coral_usb")
    assert pi.host == "raspberry_pi_5"
    assert pi.reason.startswith(
        "there is Coral USB Accelerator (/dev/bus/usb/004/003) on a machine of kind raspberry_pi_5"
    )
    assert detect_hardware(BOARDS / "coral_pcie").host == "intel"
    assert detect_hardware(BOARDS / "raspberry_pi_5").host == "raspberry_pi_5"


def test_a_board_is_recognised_from_what_a_container_leaves(tmp_path: Path) -> None:
    pi = detect_hardware(BOARDS / "container_on_raspberry_pi_5")
    assert pi.reason == "/proc/cpuinfo names Raspberry Pi 5 Model B Rev 1.0"
    jetson = detect_hardware(BOARDS / "container_on_jetson_orin_nano")
    assert "/sys/devices/soc0 names Tegra, NVIDIA Jetson Orin Nano" in jetson.reason
    mounted = plant(tmp_path, {"etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 1", ".dockerenv": ""})
    found = detect_hardware(mounted)
    assert (found.kind, found.l4t, found.soc) == ("jetson", "36.4.3", "Tegra")
    assert of(found, "tegra_gpu").problem == "start the container with --runtime nvidia"


@pytest.mark.parametrize(
    ("name", "revision", "kind"),
    [
        ("Raspberry Pi 400 Rev 1.0", "c03130", "raspberry_pi_4"),
        ("Raspberry Pi 500 Rev 1.0", "d04190", "raspberry_pi_5"),
        ("Raspberry Pi 2 Model B Rev 1.1", "a01041", "raspberry_pi"),
        ("Raspberry Pi Compute Module 4 Rev 1.1", "", "raspberry_pi_4"),
        ("Raspberry Pi 500 Rev 1.0", "no number", "raspberry_pi_5"),
        ("Raspberry Pi Model B Rev 2", "000e", "raspberry_pi"),  # old style: no processor in the code
    ],
)
def test_the_revision_code_tells_the_pi(tmp_path: Path, name: str, revision: str, kind: str) -> None:
    found = detect_hardware(plant(tmp_path, {"proc/cpuinfo": f"Revision\t: {revision}\nModel\t\t: {name}\n"}))
    assert (found.kind, found.model) == (kind, name)


def test_a_gpu_that_the_container_was_not_given_is_named_and_not_used() -> None:
    found = detect_hardware(BOARDS / "container_without_gpus")
    assert of(found, "nvidia_gpu").problem == "start the container with --gpus all or --runtime nvidia"
    assert "--gpus all" in found.reason


def test_nvidia_cards_with_another_driver_or_under_windows(tmp_path: Path) -> None:
    card = {"dev/dri/renderD128": "", "sys/class/drm/renderD128/device/vendor": "0x10de\n"}
    card |= {"sys/class/drm/renderD128/device/uevent": "DRIVER=nouveau\nPCI_ID=10DE:2504\n"}
    found = detect_hardware(plant(tmp_path / "nouveau", card))
    assert found.kind == "cpu"
    assert of(found, "nvidia_gpu").problem == "driver nouveau has no CUDA: install NVIDIA's"
    windows = detect_hardware(plant(tmp_path / "wsl", {"dev/dxg": "", "usr/lib/wsl/lib/libcuda.so.1": ""}))
    assert (windows.kind, of(windows, "nvidia_gpu").where) == ("nvidia", "/dev/dxg")


def test_a_device_that_this_user_cannot_open_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "renderD" not in str(path) and real(path, mode))
    nuc = detect_hardware(BOARDS / "intel_nuc")
    assert nuc.kind == "intel"
    assert "add the user to the group render" in of(nuc, "intel_gpu").problem
    assert "add the user to the group render" in nuc.reason
    assert detect_hardware(BOARDS / "intel_core_ultra").kind == "intel_npu"


def test_corals_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    bus = shutil.copytree(BOARDS / "raspberry_pi_5_coral_usb", tmp_path / "pi")
    shutil.rmtree(bus / "dev")
    found = detect_hardware(bus)
    assert found.kind == "raspberry_pi_5"
    assert "--device" in of(found, "edgetpu").problem
    card = shutil.copytree(BOARDS / "coral_pcie", tmp_path / "pc")
    shutil.rmtree(card / "dev")
    found = detect_hardware(card)
    assert found.kind == "intel"
    assert of(found, "edgetpu") == Accelerator(
        "edgetpu",
        "Coral PCIe Accelerator",
        "PCI 0000:01:00.0",
        "no /dev/apex_*: load the drivers gasket and apex, or pass it into the container",
    )


def test_a_coral_before_its_firmware_and_on_a_slow_port(tmp_path: Path) -> None:
    device = "sys/bus/usb/devices/1-1.4/"
    ids = {"idVendor": "1a6e\n", "idProduct": "089a\n", "busnum": "1\n", "devnum": "12\n", "speed": "480\n"}
    stick = {device + name: text for name, text in ids.items()} | {"dev/bus/usb/001/012": ""}
    found = detect_hardware(plant(tmp_path, stick))
    assert str(of(found, "edgetpu")) == "Coral USB Accelerator, on USB 2 (/dev/bus/usb/001/012)"


def test_an_accelerator_without_a_backend_changes_no_kind(tmp_path: Path) -> None:
    found = detect_hardware(plant(shutil.copytree(BOARDS / "raspberry_pi_5", tmp_path / "pi"), {"dev/hailo0": ""}))
    assert found.kind == "raspberry_pi_5"
    assert of(found, "hailo").problem == "no backend"
    assert "hailo" not in USED


def test_an_empty_tree_is_a_cpu(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "nowhere"):
        found = detect_hardware(root)
        assert (found.kind, found.host, found.cores, found.memory, found.flags) == ("cpu", "cpu", 1, 0, ())
        assert found.accelerators == ()


READ = sorted(
    {str(path.relative_to(board)) for board in BOARDS.iterdir() for path in board.rglob("*") if path.is_file()}
)
LINES = sorted(
    {line for path in BOARDS.rglob("*") if path.is_file() for line in path.read_text(errors="replace").splitlines()}
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.dictionaries(
        st.sampled_from(READ),
        st.one_of(
            st.binary(max_size=200),
            # Real lines in the wrong files and places, cut off and with numbers that no machine has.
            st.lists(st.sampled_from(LINES), max_size=8).map(lambda lines: "\n".join(lines).encode()[:-1]),
            st.text(alphabet="0123456789²-,:./x \t\n\0", max_size=60).map(str.encode),
        ),
        max_size=12,
    )
)
def test_rubbish_in_the_files_is_no_error(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    root = tmp_path_factory.mktemp("rubbish")
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    found = detect_hardware(root)
    assert found.kind in KINDS
    assert found.host in KINDS
    assert found.host != "coral"
    assert 1 <= found.cores <= 1 << 16
    assert 0 <= found.physical_cores <= found.cores
    assert found.memory >= 0


def test_folders_where_files_should_be_are_no_error(tmp_path: Path) -> None:
    for name in READ:
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    assert detect_hardware(tmp_path).kind in KINDS


def test_this_machine_is_recognised_and_has_a_profile() -> None:
    profile, machine = choose_profile()
    assert machine.kind in KINDS
    assert profile.kind == machine.kind
    assert 1 <= machine.cores <= (os.cpu_count() or 1)
    assert machine.memory > 0


def test_the_share_folder(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGE_VISION_SHARE", raising=False)
    assert (share_directory() / "config" / "hardware" / "cpu.yaml").is_file()
    (tmp_path / "config" / "hardware").mkdir(parents=True)
    monkeypatch.setenv("EDGE_VISION_SHARE", str(tmp_path))
    assert share_directory() == tmp_path
    monkeypatch.setenv("EDGE_VISION_SHARE", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"EDGE_VISION_SHARE is .*nowhere"):
        share_directory()
