"""Hardware profiles: those of the project, a user's own, and what is wrong with one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from edge_vision.inference import ModelError
from edge_vision.inference.backends import BACKENDS
from edge_vision.inference.hardware import KINDS, Hardware, detect_hardware
from edge_vision.inference.profiles import (
    KNOWN_DEVICES,
    PRECISIONS,
    Candidate,
    Profile,
    choose_profile,
    load_profile,
    on_machine,
    profile_name,
)

BOARDS = Path(__file__).parent / "boards"


def names(profile: Profile) -> list[str]:
    return [str(candidate) for candidate in profile.candidates]


def write(folder: Path, text: str, name: str = "own.yaml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_profile_that_leaves_a_core(kind: str) -> None:
    profile = load_profile(kind)
    assert profile.kind == kind
    assert profile.candidates
    assert profile.notes
    assert profile.threads(1) == 1
    assert 1 <= profile.threads(4) < 4
    assert profile.threads(64) <= 8


def test_no_profile_is_without_a_kind(repository: Path) -> None:
    assert {path.stem for path in (repository / "config" / "hardware").glob("*.yaml")} == set(KINDS)


def test_every_backend_can_be_named() -> None:
    assert set(BACKENDS) <= set(KNOWN_DEVICES)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "coral"])
def test_every_machine_can_fall_back_to_its_cpu_in_fp32(kind: str) -> None:
    """onnxruntime's wheel is a dependency of the package and has a build for each of these machines."""
    profile = load_profile(kind)
    last = next(one for one in profile.candidates if (one.backend, one.device) == ("onnxruntime", "cpu"))
    assert "fp32" in profile.precisions_of(last)


def test_what_comes_first() -> None:
    assert names(load_profile("cpu"))[:2] == ["onnxruntime", "openvino"]
    assert names(load_profile("intel"))[0] == "openvino"
    assert names(load_profile("intel_gpu"))[:2] == ["openvino gpu", "openvino"]
    assert names(load_profile("intel_npu"))[:3] == ["openvino npu", "openvino gpu", "openvino"]
    for kind in ("jetson", "nvidia"):
        assert names(load_profile(kind))[:4] == [
            "tensorrt cuda", "onnxruntime tensorrt", "onnxruntime cuda", "onnxruntime",
        ]  # fmt: skip
    for kind in ("raspberry_pi", "raspberry_pi_4", "raspberry_pi_5"):
        assert names(load_profile(kind))[0] == "ncnn"
    assert names(load_profile("coral")) == ["litert edgetpu"]


def test_precisions_of_a_candidate() -> None:
    profile = load_profile("intel_npu")
    npu, _, cpu = profile.candidates[:3]
    assert profile.precisions_of(npu) == ("fp16", "int8")
    assert profile.precisions_of(cpu) == profile.precisions == PRECISIONS


def test_threads_stay_within_the_physical_cores() -> None:
    profile = Profile("cpu", (Candidate("onnxruntime"),), reserved_cores=1, most_threads=4)
    assert [profile.threads(cores) for cores in (1, 2, 4, 5, 64)] == [1, 1, 3, 4, 4]
    assert profile.threads(4, physical_cores=2) == 2
    assert profile.threads(8, physical_cores=0) == 4
    assert Profile("cpu", (Candidate("onnxruntime"),), most_threads=0).threads(64) == 63


def test_an_own_profile_by_its_path(tmp_path: Path) -> None:
    text = """
        candidates:
          - {backend: openvino, device: gpu.1, precisions: [fp16]}
          - {backend: tensorrt, device: "cuda:1"}
          - {backend: litert, device: "edgetpu:usb:1"}
          - {backend: onnxruntime}
        precisions: [fp32]
        threads: {reserve: 0, limit: 2}
    """
    path = write(tmp_path, text)
    profile = load_profile(path)
    assert profile == Profile(
        kind="own",
        candidates=(
            Candidate("openvino", "gpu.1", ("fp16",)),
            Candidate("tensorrt", "cuda:1"),
            Candidate("litert", "edgetpu:usb:1"),
            Candidate("onnxruntime"),
        ),
        precisions=("fp32",),
        reserved_cores=0,
        most_threads=2,
    )
    assert choose_profile(str(path))[0] == profile
    assert asdict(profile)["candidates"][0] == {"backend": "openvino", "device": "gpu.1", "precisions": ("fp16",)}
    with pytest.raises(
        ModelError, match=r"gone\.yaml: there is no such hardware profile\. See the examples in .*hardware"
    ):
        load_profile(tmp_path / "gone.yaml")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "candidates: [{backend: onnx-runtime}]",
            r"candidates\[0\]\.backend: is 'onnx-runtime'.*did you mean onnxruntime",
        ),
        (
            "candidates: [{backend: openvino, device: gup}]",
            r"candidates\[0\]\.device: is 'gup'.*one of cpu, gpu, npu, auto",
        ),
        ("candidates: [{backend: ncnn, device: cuda}]", r"candidates\[0\]\.device: is 'cuda'\. Choose one of cpu"),
        ("candidates: [{backend: ncnn, devise: cpu}]", r"candidates\[0\]\.devise: unknown key.*did you mean device"),
        ("candidates: [{backend: ncnn, precisions: [fp8]}]", r"candidates\[0\]\.precisions: names 'fp8'.*fp32, fp16"),
        ("candidates: [ncnn]", r"candidates\[0\]: is 'ncnn', text\. Give a mapping"),
        ("candidates: []", r"candidates: is empty\. Name a backend"),
        ("candidates: [{backend: ncnn}, {backend: ncnn}]", r"candidates\[1\]: names ncnn cpu again"),
        ("backends: [ncnn]", "candidates: missing"),
        ("candidates: [{backend: ncnn}]\nthreads: {reserved: 1}", r"threads\.reserved: unknown key.*mean reserve"),
        ("candidates: [{backend: ncnn}]\nthreads: {limit: -1}", r"threads\.limit: is -1\. Give 0 or more"),
        ("candidates: [{backend: ncnn}]\non_host: 1", "on_host: is 1"),
    ],
)
def test_profiles_that_are_wrong(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        load_profile(write(tmp_path, text))


def test_an_unknown_kind_is_told_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"no hardware profile 'toaster'\. Choose auto, the path.*: coral, cpu, intel"):
        load_profile("toaster")


def test_raspberry_pi_means_the_pi_at_hand() -> None:
    five, coral = (detect_hardware(BOARDS / board) for board in ("raspberry_pi_5", "raspberry_pi_5_coral_usb"))
    assert profile_name("auto", five) == profile_name("raspberry_pi", five) == "raspberry_pi_5"
    assert (profile_name("auto", coral), profile_name("raspberry_pi", coral)) == ("coral", "raspberry_pi_5")
    assert profile_name("raspberry_pi_4", five) == "raspberry_pi_4"
    assert profile_name("raspberry_pi", detect_hardware(BOARDS / "intel_nuc")) == "raspberry_pi"


def test_an_added_accelerator_is_followed_by_the_machines_own_candidates() -> None:
    machine = detect_hardware(BOARDS / "raspberry_pi_5_coral_usb")
    host = load_profile("raspberry_pi_5")
    profile = on_machine(load_profile("coral"), machine)
    assert names(profile) == ["litert edgetpu", *names(host)]
    assert profile.kind == "coral"
    assert profile.threads(4) == host.threads(4)
    assert on_machine(host, machine) is host


def test_a_user_may_replace_the_projects_profiles(tmp_path: Path) -> None:
    write(tmp_path, "kind: cpu\ncandidates: [{backend: opencv}]", "cpu.yaml")
    write(tmp_path, "kind: coral\ncandidates: [{backend: litert, device: edgetpu}]\non_host: true", "coral.yaml")
    machine = Hardware("coral", "PC", 4, 0, (), "", host="cpu")
    assert names(on_machine(load_profile("coral", tmp_path), machine, tmp_path)) == ["litert edgetpu", "opencv"]
