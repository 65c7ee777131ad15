"""What there is to verify: every file of a bundle on every backend, device and precision that it can run on here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_vision.inference.backends import BACKENDS, Backend, backend
from edge_vision.inference.bundle import PRECISIONS, Bundle
from edge_vision.inference.errors import InferenceError, ModelError
from edge_vision.inference.opening import Choice, of_precision, readable, require


@dataclass(frozen=True, slots=True)
class Absent:
    """A backend that nothing is verified on here: why, and what would change that."""

    backend: str
    reason: str
    remedy: str = ""


def plan(
    bundle: Bundle,
    threads: int,
    backends: Sequence[str] | None = None,
    devices: Sequence[str] | None = None,
    precisions: Sequence[str] | None = None,
) -> tuple[list[Choice], list[Absent]]:
    """The candidates, the reference among them, and the backends that are out; None leaves nothing out.

    Raises BackendError or ValueError for a name that there is not.
    """
    for precision in precisions or ():
        if precision not in PRECISIONS:
            raise ValueError(f"there is no precision {precision!r}: choose among {', '.join(PRECISIONS)}")
    choices: list[Choice] = []
    absent: list[Absent] = []
    for name in backends or BACKENDS:
        backend(name)
        try:
            module = require(name)
            here = module.devices()
            found = _of_backend(bundle, name, module, threads, [d for d in here if not devices or d in devices])
        except InferenceError as error:
            absent.append(Absent(name, error.problem, error.remedy))
            continue
        chosen = [choice for choice in found if not precisions or choice.precision in precisions]
        if not chosen:
            given = sorted({choice.precision for choice in found}, key=PRECISIONS.index)
            absent.append(
                Absent(name, f"has {', '.join(here)} in {', '.join(given)} here")
                if given
                else Absent(name, f"has {', '.join(here)} here")
            )
        choices += chosen
    return choices, absent


def _of_backend(bundle: Bundle, name: str, module: Backend, threads: int, devices: Sequence[str]) -> list[Choice]:
    variants = readable(bundle, name, module)
    if not variants:
        files = ", ".join(variant.path.name for variant in bundle.variants)
        raise ModelError(
            bundle.file,
            f"reads {', '.join(module.FORMATS)}; the model has {files}",
            f"`edge_vision convert --to {name}` makes one",
        )
    offered = {variant.precision for variant in variants} | set(module.PRECISIONS)
    return [
        Choice(name, device, precision, threads, variant)
        for device in devices
        for precision in PRECISIONS
        if precision in offered
        for variant in of_precision(variants, precision, module)
    ]


def reference_choice(bundle: Bundle, threads: int) -> Choice:
    """fp32 ONNX Runtime on the CPU. Raises ModelError where the bundle has no fp32 ONNX file, BackendError where the
    runtime is not here."""
    require("onnxruntime")
    files = [v for v in bundle.variants if v.path.suffix == ".onnx" and v.precision == "fp32"]
    own = [variant for variant in files if variant.backend == "onnxruntime"]
    if not files:
        listed = ", ".join(f"{variant.path.name} ({variant.precision})" for variant in bundle.variants)
        problem = f"has no fp32 .onnx file, which the others are compared with; it has {listed}"
        raise ModelError(bundle.file, problem, "add the file that they were made from", "variants")
    return Choice("onnxruntime", "cpu", "fp32", threads, (own or files)[0])
