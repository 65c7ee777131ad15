"""Hardware profiles: which backends and devices to try on a kind of machine, in what order, with how many threads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from edge_vision.inference.backends import BACKENDS
from edge_vision.inference.errors import ModelError
from edge_vision.inference.hardware import Hardware, detect_hardware
from edge_vision.inference.schema import Section, read_yaml
from edge_vision.paths import share_directory

PRECISIONS = ("fp32", "fp16", "bf16", "int8")

KNOWN_DEVICES: Mapping[str, tuple[str, ...]] = {
    # ONNX Runtime's execution providers by their short names.
    "onnxruntime": (
        *("cpu", "cuda", "tensorrt", "tensorrt_rtx", "openvino", "coreml", "xnnpack", "qnn"),
        *("dml", "migraphx", "rocm", "webgpu", "cann", "acl", "dnnl"),
    ),
    "openvino": ("cpu", "gpu", "npu", "auto", "hetero"),
    "tensorrt": ("cuda",),
    "litert": ("cpu", "edgetpu"),
    "ncnn": ("cpu",),
    "opencv": ("cpu", "opencl", "cuda", "vulkan", "npu"),
    "tvm": ("cpu",),
    "torch": ("cpu",),
}
"""What a profile may name: backend -> devices. One of several is counted from 0: `cuda:1`, OpenVINO's `gpu.1`,
`edgetpu:usb:1`."""

_NUMBER = re.compile(r"[:.](?:(?:usb|pci):)?\d+$|(?<=openvino):(?:gpu|npu)(?:\.\d+)?$")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A backend on a device. precisions: those that `precision:=auto` may take here, () for the profile's."""

    backend: str
    device: str = "cpu"
    precisions: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.backend if self.device == "cpu" else f"{self.backend} {self.device}"


@dataclass(frozen=True, slots=True)
class Profile:
    """A file of config/hardware, or one like it.

    kind: of machine; candidates: the first choice first; precisions: what `precision:=auto` may take, once verified
    against fp32; reserved_cores: left to the other nodes; most_threads: no more than this for one model, 0 for no
    limit; on_host: the accelerator is an addition to a machine, whose own candidates and threads come after
    (`choose_profile`); notes: why, for people. backends: the candidates' that this version has, each once.
    """

    kind: str
    candidates: tuple[Candidate, ...]
    precisions: tuple[str, ...] = PRECISIONS
    reserved_cores: int = 1
    most_threads: int = 4
    on_host: bool = False
    notes: str = ""
    backends: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        named = dict.fromkeys(candidate.backend for candidate in self.candidates)
        object.__setattr__(self, "backends", tuple(name for name in named if name in BACKENDS))

    def threads(self, cores: int, physical_cores: int = 0) -> int:
        """Threads of inference on a machine of `cores` logical ones: at least one.

        No more than `physical_cores`, where known (0: not): a second thread on one core shares its vector units.
        """
        threads = max(1, cores - self.reserved_cores)
        for most in (self.most_threads, physical_cores):
            threads = min(threads, most) if most else threads
        return threads

    def precisions_of(self, candidate: Candidate) -> tuple[str, ...]:
        """What `precision:=auto` may take on one of the candidates."""
        return candidate.precisions or self.precisions


def load_profile(kind: str | Path, folder: Path | None = None) -> Profile:
    """A profile as its file has it.

    kind: a kind of machine, looked for in `folder` (default: the project's config/hardware), or the path of a file
    of one's own, known by its `.yaml` or a slash. Raises ModelError for an unknown kind or a file that is not right.
    """
    name = str(kind)
    folder = folder or share_directory() / "config" / "hardware"
    if "/" in name or name.endswith((".yaml", ".yml")):
        path = Path(name).expanduser()
        if not path.is_file():
            raise ModelError(path, "there is no such hardware profile", f"see the examples in {folder}")
    else:
        path = folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.yaml"))) or "none"
        raise ModelError(
            path, f"there is no hardware profile {name!r}", f"choose auto, the path of a file, or one of: {known}"
        )
    return _read(path)


def choose_profile(hardware: str = "auto", folder: Path | None = None) -> tuple[Profile, Hardware]:
    """The profile to use here, and the machine as it was found.

    hardware: `auto`, a kind, or a profile's path (`profile_name`). A profile for an accelerator that is added to a
    machine (Coral) is followed by the candidates of that machine and takes its threads.
    """
    machine = detect_hardware()
    profile = load_profile(profile_name(hardware, machine), folder)
    return on_machine(profile, machine, folder), machine


def profile_name(hardware: str, machine: Hardware) -> str:
    """The profile that is meant: `auto` is the machine's own, `raspberry_pi` that of the Pi at hand, if it is one."""
    if hardware == "auto":
        return machine.kind
    if hardware == "raspberry_pi" and machine.host.startswith("raspberry_pi"):
        return machine.host
    return hardware


def on_machine(profile: Profile, machine: Hardware, folder: Path | None = None) -> Profile:
    """A profile with what it takes over from the machine's own, where it says `on_host`; otherwise as it is."""
    if not profile.on_host:
        return profile
    host = load_profile(machine.host, folder)
    own = {(candidate.backend, candidate.device) for candidate in profile.candidates}
    more = tuple(candidate for candidate in host.candidates if (candidate.backend, candidate.device) not in own)
    return replace(
        profile,
        candidates=profile.candidates + more,
        reserved_cores=host.reserved_cores,
        most_threads=host.most_threads,
        on_host=False,
        notes=" ".join(part for part in (profile.notes, host.notes) if part),
    )


def _read(path: Path) -> Profile:
    section = Section(read_yaml(path), path)
    threads = section.section("threads", {})
    profile = Profile(
        kind=section.take("kind", str, path.stem),
        candidates=tuple(_candidate(item) for item in section.sections("candidates")),
        precisions=_precisions(section) or PRECISIONS,
        reserved_cores=_count(threads, "reserve", 1),
        most_threads=_count(threads, "limit", 4),
        on_host=section.take("on_host", bool, False),
        notes=section.take("notes", str, "").strip(),
    )
    if not profile.candidates:
        raise section.error("candidates", "is empty", "name a backend, e.g. - {backend: onnxruntime}")
    pairs = [(candidate.backend, candidate.device) for candidate in profile.candidates]
    for index, pair in enumerate(pairs):
        if pair in pairs[:index]:
            raise section.error(f"candidates[{index}]", f"names {' '.join(pair)} again", "name each once")
    threads.finish()
    section.finish()
    return profile


def _candidate(section: Section) -> Candidate:
    backend = section.take("backend", str, choices=tuple(KNOWN_DEVICES))
    device = section.take("device", str, "cpu")
    if _NUMBER.sub("", device) not in KNOWN_DEVICES[backend]:
        raise section.error("device", f"is {device!r}", f"choose one of {', '.join(KNOWN_DEVICES[backend])}")
    candidate = Candidate(backend, device, _precisions(section))
    section.finish()
    return candidate


def _precisions(section: Section) -> tuple[str, ...]:
    names = section.take("precisions", list, [])
    for name in names:
        if name not in PRECISIONS:
            raise section.error("precisions", f"names {name!r}", f"known: {', '.join(PRECISIONS)}")
    return tuple(names)


def _count(section: Section, key: str, default: int) -> int:
    value = section.take(key, int, default)
    if value < 0:
        raise section.error(key, f"is {value}", "give 0 or more")
    return value
