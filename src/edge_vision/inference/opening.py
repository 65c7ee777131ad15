"""Opening a model: one variant of a bundle on one backend, fed as that file wants it and read as the decoder does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.backends import Backend, Session, SessionOptions, backend, precisions_on
from edge_vision.inference.bundle import Bundle, Variant
from edge_vision.inference.decoders import extra_inputs
from edge_vision.inference.errors import BackendError, InferenceError, ModelError
from edge_vision.inference.preprocess import InputSpec

LEAVES_FILES = {("tvm", ".onnx"), ("torch", ".pt2")}
"""(backend, suffix) whose runtimes write parts of the model to temporary files of their own while they open it."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to run a bundle. precision: that the backend is asked to compute in."""

    backend: str
    device: str
    precision: str
    threads: int
    variant: Variant

    def __str__(self) -> str:
        """As people and caches know it: `openvino gpu fp16 (model.onnx)`."""
        return f"{self.backend} {self.device} {self.precision} ({self.variant.file.name})"


@dataclass(frozen=True, slots=True)
class Timing:
    """What a candidate took, in milliseconds."""

    candidate: str
    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class EngineDescription:
    """What an engine runs on, and why.

    model: the bundle's name; file: the variant opened; reason: why this backend; rejected: (candidate, why not) for
    those that were out; hardware: the profile used; measured: the candidates that were compared, the fastest first.
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
    measured: tuple[Timing, ...] = ()

    def __str__(self) -> str:
        runtime = f"{self.backend} {self.runtime_version}"
        threads = f"{self.threads} thread{'s' if self.threads != 1 else ''}"
        lines = [f"{self.model} on {runtime}, {self.device}, {self.precision}, {threads}: {self.reason}"]
        lines += [f"{timing.candidate}: p50 {timing.p50:.2f} ms, p95 {timing.p95:.2f} ms" for timing in self.measured]
        reasons: dict[str, list[str]] = {}
        for name, why in self.rejected:
            reasons.setdefault(why, []).append(name)
        lines += [f"not {', '.join(names)}: {why}" for why, names in reasons.items()]
        return "\n".join(lines)


@dataclass(frozen=True)
class Opened:
    """A session with what is needed to feed and read it.

    input: how the image goes in; `run` takes the image's tensor alone.
    """

    session: Session
    choice: Choice
    input: InputSpec
    output_names: tuple[str, ...]
    transposes: tuple[tuple[int, ...], ...] = ()
    constants: tuple[NDArray | None, ...] = ()  # further inputs by position, None where the image goes
    description: EngineDescription = field(kw_only=True)

    def run(self, tensor: NDArray) -> list[NDArray]:
        """Raw outputs as the decoder reads them, valid until the next run. Raises BackendError where the runtime
        fails."""
        inputs = [tensor if array is None else array for array in self.constants] if self.constants else (tensor,)
        try:
            outputs = self.session.run(inputs)
        except Exception as error:  # each runtime raises classes of its own
            described = self.session.describe()
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise BackendError(f"{described.backend} failed while running the model: {reason}") from error
        if not self.transposes:
            return outputs
        return [
            output.transpose(axes) if axes else output for output, axes in zip(outputs, self.transposes, strict=True)
        ]


def require(name: str) -> Backend:
    """The backend called `name`, which can be used here. Raises BackendError with the reason where it cannot."""
    module = backend(name)
    missing = module.available()
    if missing:
        raise BackendError(f"backend {name} cannot be used: {missing}", module.REMEDY)
    return module


def open_choice(bundle: Bundle, choice: Choice, *, reason: str = "asked for", hardware: str = "") -> Opened:
    """Open what was chosen. Raises BackendError (the runtime), ModelError (the file, or it is not what the bundle
    says)."""
    module = require(choice.backend)
    variant = choice.variant
    if bundle.scratch is not None and (choice.backend, variant.path.suffix) in LEAVES_FILES:
        problem = f"backend {choice.backend} leaves parts of {variant.path.suffix} on disk; the bundle is encrypted"
        raise BackendError(problem, "use another backend")
    spec = variant.input or bundle.input
    options = SessionOptions(
        device=choice.device,
        precision=choice.precision,
        threads=choice.threads,
        input_shapes={spec.name: spec.shape},
        outputs=tuple(output.name for output in variant.outputs),
        cache=bundle.scratch,
    )
    session = module.open(variant.path, options)
    try:
        constants = _inputs(bundle, variant, session, spec)
    except InferenceError:
        session.close()
        raise
    real = session.describe()
    description = EngineDescription(
        model=bundle.name,
        file=variant.file,
        backend=real.backend,
        runtime_version=real.runtime_version,
        device=real.device,
        precision=real.precision,
        threads=real.threads,
        hardware=hardware,
        reason=reason,
    )
    axes = tuple(output.transpose for output in variant.outputs)
    names = tuple(output.name for output in session.outputs)
    return Opened(session, choice, spec, names, axes if any(axes) else (), constants, description=description)


def _inputs(bundle: Bundle, variant: Variant, session: Session, spec: InputSpec) -> tuple[NDArray | None, ...]:
    """Compare the model's image input with what the bundle says, where the model states it; the arrays for the
    others."""
    found = ", ".join(str(one) for one in session.inputs)
    images = [one for one in session.inputs if one.name == spec.name] or [
        one for one in session.inputs if len(one.shape) in (0, 4)
    ]
    constants: Mapping[str, NDArray] = {}
    if len(session.inputs) > 1:
        constants = extra_inputs(bundle.decoder, session.inputs, spec.width, spec.height)
    others = [one.name for one in session.inputs if one not in images[:1] and one.name not in constants]
    if not images or others:
        problem = f"the model has {len(session.inputs)} inputs: {found}"
        raise ModelError(variant.path, problem, "use a model with one image input")
    model = images[0]
    where = bundle.file
    if spec.name and spec.name != model.name:
        problem = f"is {spec.name!r}; the model's input is {found}"
        raise ModelError(where, problem, "correct the name or leave it out", "input.name")
    if spec.dtype != model.dtype:
        raise ModelError(where, f"is {spec.dtype}; the model's input is {found}", f"write {model.dtype}", "input.dtype")
    differs = any(m is not None and m != s for m, s in zip(model.shape, spec.shape, strict=False))
    if model.shape and (len(model.shape) != 4 or differs):
        raise ModelError(
            where,
            f"layout, size and colour make {list(spec.shape)}; the model's input is {found}",
            "correct layout (nchw or nhwc), width, height or colour (mono for one channel)",
            "input",
        )
    if len(session.inputs) == 1:
        return ()
    return tuple(None if one is model else np.ascontiguousarray(constants[one.name]) for one in session.inputs)


def readable(bundle: Bundle, name: str, module: Backend) -> list[Variant]:
    """The variants that a backend can open: those made for it, then ONNX; others' own files only where there is
    neither."""
    found = [variant for variant in bundle.variants if variant.path.suffix in module.FORMATS]
    own = [variant for variant in found if variant.backend == name]
    common = [variant for variant in found if variant.backend != name and variant.path.suffix == ".onnx"]
    return own + common or found


def of_precision(variants: list[Variant], precision: str, module: Backend, device: str = "cpu") -> Iterator[Variant]:
    """Those that give this precision on a device: files of the precision, then fp32 ones that the backend can
    convert."""
    yield from (variant for variant in variants if variant.precision == precision)
    if precision in precisions_on(module, device):
        yield from (variant for variant in variants if variant.precision == "fp32" != precision)
