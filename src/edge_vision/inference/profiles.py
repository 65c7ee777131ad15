"""Hardware profiles: which backends to try on a kind of machine, in what order, with how many threads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_vision.inference.backends import BACKENDS
from edge_vision.inference.errors import ModelError
from edge_vision.inference.hardware import KINDS, Hardware, detect_hardware
from edge_vision.inference.schema import Section, read_yaml
from edge_vision.paths import share_directory


@dataclass(frozen=True, slots=True)
class Profile:
    """`config/hardware/<kind>.yaml`.

    backends: candidates, the first choice first; device and precision: what `auto` means; reserved_cores: left to
    the other nodes; most_threads: no more than this for one model, 0 for no limit; notes: why, for people.
    """

    kind: str
    backends: tuple[str, ...]
    device: str
    precision: str
    reserved_cores: int
    most_threads: int
    notes: str

    def threads(self, cores: int) -> int:
        """Threads of inference on a machine of `cores`: at least one."""
        threads = max(1, cores - self.reserved_cores)
        return min(threads, self.most_threads) if self.most_threads else threads


def load_profile(kind: str, folder: Path | None = None) -> Profile:
    """The profile of a kind of machine, from `folder` or the project's config/hardware.

    Raises ModelError for an unknown kind or a file that is not right.
    """
    folder = folder or share_directory() / "config" / "hardware"
    path = folder / f"{kind}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.yaml"))) or "none"
        raise ModelError(path, f"there is no hardware profile {kind!r}", f"choose auto or one of: {known}")
    section = Section(read_yaml(path), path)
    names = section.take("backends", list)
    for name in names:
        if name not in BACKENDS:
            raise section.error("backends", f"names {name!r}", f"known: {', '.join(BACKENDS)}")
    threads = section.section("threads", {})
    profile = Profile(
        kind=section.take("kind", str, choices=KINDS),
        backends=tuple(names),
        device=section.take("device", str, "cpu"),
        precision=section.take("precision", str, "fp32"),
        reserved_cores=threads.take("reserve", int, 1),
        most_threads=threads.take("limit", int, 4),
        notes=section.take("notes", str, "").strip(),
    )
    threads.finish()
    section.finish()
    return profile


def choose_profile(hardware: str = "auto", folder: Path | None = None) -> tuple[Profile, Hardware]:
    """The profile of this machine (`auto`) or of the kind named, and the machine as it was found."""
    machine = detect_hardware()
    return load_profile(machine.kind if hardware == "auto" else hardware, folder), machine
