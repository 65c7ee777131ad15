"""Which backend runs a model here: the candidates of the hardware profile, in order, and why each other one is out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_vision.inference.backends import Backend, Session, SessionOptions, backend
from edge_vision.inference.bundle import Bundle, Variant
from edge_vision.inference.errors import BackendError, InferenceError, ModelError
from edge_vision.inference.hardware import Hardware
from edge_vision.inference.onnx_header import read_onnx_header
from edge_vision.inference.profiles import Profile, choose_profile

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class EngineDescription:
    """What an engine runs on, and why.

    model: the bundle's name; file: the variant opened; reason: why this backend; rejected: (backend, why not) for
    the candidates that came before it; hardware: the profile used.
    """

    model: str
    file: Path
    backend: str
    runtime_version: str
    device: str
    precision: str
    threads: int
    hardware: str
    reason: str
    rejected: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        runtime = f"{self.backend} {self.runtime_version}"
        threads = f"{self.threads} thread{'s' if self.threads != 1 else ''}"
        lines = [f"{self.model} on {runtime}, {self.device}, {self.precision}, {threads}: {self.reason}"]
        lines += [f"not {name}: {why}" for name, why in self.rejected]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Wish:
    """What the caller asked for; `auto` and 0 leave it to the profile."""

    backend: str = AUTO
    device: str = AUTO
    precision: str = AUTO
    threads: int = 0
    hardware: str = AUTO


def open_session(bundle: Bundle, wish: Wish) -> tuple[Session, EngineDescription]:
    """Open the bundle with the backend wished for, or with the first candidate of the profile that can.

    Raises ModelError (no file of the bundle can be opened) or BackendError (nothing installed, or not what was
    asked for).
    """
    profile, machine = choose_profile(wish.hardware)
    for path in {variant.path for variant in bundle.variants if variant.path.suffix == ".onnx"}:
        read_onnx_header(path)  # a file that is no model is no backend's fault
    if wish.backend != AUTO:
        return _open(bundle, wish.backend, wish, profile, machine, f"asked for (backend {wish.backend})", ())
    rejected: list[tuple[str, str]] = []
    model_errors: list[ModelError] = []
    for name in profile.backends:
        try:
            reason = _why(profile, machine, wish)
            return _open(bundle, name, wish, profile, machine, reason, tuple(rejected))
        except InferenceError as error:
            rejected.append((name, f"{error.problem}; {error.remedy}" if error.remedy else error.problem))
            if isinstance(error, ModelError):
                model_errors.append(error)
    listed = "; ".join(f"{name}: {why}" for name, why in rejected)
    if model_errors:
        raise ModelError(bundle.file, f"no backend can open the model: {listed}")
    raise BackendError(f"no backend of the {profile.kind} profile can be used: {listed}", "install one of them")


def _why(profile: Profile, machine: Hardware, wish: Wish) -> str:
    order = f"first of the {profile.kind} profile ({', '.join(profile.backends)}) that opens the model"
    return f"{order}; profile asked for" if wish.hardware != AUTO else f"{order}; {machine.reason}"


def _open(
    bundle: Bundle,
    name: str,
    wish: Wish,
    profile: Profile,
    machine: Hardware,
    reason: str,
    rejected: tuple[tuple[str, str], ...],
) -> tuple[Session, EngineDescription]:
    module = backend(name)
    missing = module.available()
    if missing:
        raise BackendError(f"backend {name} cannot be used: {missing}", module.REMEDY)
    variant, precision = choose_variant(bundle, name, module, wish.precision, profile.precision)
    options = SessionOptions(
        device=profile.device if wish.device == AUTO else wish.device,
        precision=precision,
        threads=wish.threads if wish.threads > 0 else profile.threads(machine.cores),
    )
    session = module.open(variant.path, options)
    real = session.describe()
    description = EngineDescription(
        model=bundle.name,
        file=variant.path,
        backend=real.backend,
        runtime_version=real.runtime_version,
        device=real.device,
        precision=real.precision,
        threads=real.threads,
        hardware=profile.kind,
        reason=reason,
        rejected=rejected,
    )
    return session, description


def choose_variant(bundle: Bundle, name: str, module: Backend, wished: str, preferred: str) -> tuple[Variant, str]:
    """The file of the bundle for a backend, and the precision it will compute in.

    A file made for the backend comes before one that it reads as well; a file of the precision before an fp32 one
    that the backend can convert. `auto` prefers the profile's precision, and takes what there is otherwise.
    """
    readable = [variant for variant in bundle.variants if variant.path.suffix in module.FORMATS]
    readable.sort(key=lambda variant: variant.backend != name)
    if not readable:
        files = ", ".join(variant.path.name for variant in bundle.variants)
        problem = f"backend {name} reads {', '.join(module.FORMATS)}; the model has {files}"
        raise ModelError(bundle.file, problem, "choose another backend, or add a variant for this one", "variants")
    for precision in (preferred,) if wished == AUTO else (wished,):
        for variant in _of_precision(readable, precision, module):
            return variant, precision
    if wished == AUTO:
        return readable[0], readable[0].precision
    there = ", ".join(sorted({variant.precision for variant in readable} | set(module.PRECISIONS)))
    problem = f"no file for precision {wished} on backend {name}"
    raise ModelError(bundle.file, problem, f"choose one of {there}, or auto", "variants")


def _of_precision(variants: list[Variant], precision: str, module: Backend) -> Iterator[Variant]:
    yield from (variant for variant in variants if variant.precision == precision)
    if precision in module.PRECISIONS:
        yield from (variant for variant in variants if variant.precision == "fp32")
