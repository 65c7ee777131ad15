"""Which backend runs a model here: the candidates of the hardware profile, and why each other one is out.

A candidate is a file of the bundle on a backend, device and precision. It may be chosen by itself where it is proven:
fp32 is compared with ONNX Runtime when it is measured for the first time, every other precision needs a record by
`edge_vision verify`, and what failed there is chosen only by someone who names it. Of several candidates the fastest is
taken (`tuning.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from edge_vision.inference.backends import backend, precisions_on
from edge_vision.inference.bundle import Bundle, Variant
from edge_vision.inference.errors import BackendError, InferenceError, ModelError
from edge_vision.inference.hardware import Hardware
from edge_vision.inference.onnx_header import read_onnx_header
from edge_vision.inference.opening import Choice, Opened, of_precision, open_choice, readable, require
from edge_vision.inference.profiles import Candidate, Profile, choose_profile
from edge_vision.inference.records import Record, find_record, read_records
from edge_vision.inference.tuning import Comparison, compare

AUTO = "auto"
SWITCH = "EDGE_VISION_TUNING"
"""Environment variable; `off`: nothing is measured, the first candidate of the profile that works is taken."""

Log = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wish:
    """What the caller asked for; `auto` and 0 leave it to the profile."""

    backend: str = AUTO
    device: str = AUTO
    precision: str = AUTO
    threads: int = 0
    hardware: str = AUTO


def open_session(bundle: Bundle, wish: Wish, log: Log | None = None) -> Opened:
    """Open the bundle as wished for; what is left open is decided by measurement.

    log: is told, a line at a time, that candidates are being measured, which takes seconds, once. Raises ModelError (no
    file of the bundle can be opened) or BackendError (nothing installed, or not what was asked for).
    """
    profile, machine = choose_profile(wish.hardware)
    for path in {variant.path for variant in bundle.variants if variant.path.suffix == ".onnx"}:
        read_onnx_header(path)  # a file that is no model is no backend's fault
    choices, refused = candidates(bundle, wish, profile, machine)
    rejected = [(name, _why(error)) for name, error in refused]
    comparison = Comparison(tuple(choices), (), (), "")
    if len(choices) > 1 and os.environ.get(SWITCH, "on") != "off":
        comparison = compare(bundle, choices, machine, log)
        rejected += comparison.rejected
    failures: list[InferenceError] = []
    for choice in comparison.order:
        try:
            opened = open_choice(bundle, choice, hardware=profile.kind)
        except InferenceError as error:
            failures.append(error)
            rejected.append((str(choice), _why(error)))
            continue
        reason = _reason(wish, profile, machine, comparison)
        description = replace(opened.description, reason=reason, rejected=tuple(rejected), measured=comparison.timings)
        return replace(opened, description=description)
    raise _failure(bundle, wish, profile, failures, refused, rejected)


def candidates(
    bundle: Bundle, wish: Wish, profile: Profile, machine: Hardware
) -> tuple[list[Choice], list[tuple[str, InferenceError]]]:
    """The choices that the wish leaves, in the profile's order, and (candidate, why) of each that is out."""
    records = read_records(bundle)
    threads = wish.threads if wish.threads > 0 else profile.threads(machine.cores, machine.physical_cores)
    choices: list[Choice] = []
    refused: list[tuple[str, InferenceError]] = []
    for candidate in _named(wish, profile):
        try:
            module = require(candidate.backend)
            makes = precisions_on(module, candidate.device)
            variants = readable(bundle, candidate.backend, module)
            if not variants:
                files = ", ".join(variant.path.name for variant in bundle.variants)
                problem = f"backend {candidate.backend} reads {', '.join(module.FORMATS)}; the model has {files}"
                raise ModelError(
                    bundle.file, problem, f"`edge_vision convert --to {candidate.backend}` makes one", "variants"
                )
        except InferenceError as error:
            refused.append((str(candidate), error))
            continue
        explicit = wish.precision != AUTO
        found: list[Choice] = []
        for precision in (wish.precision,) if explicit else profile.precisions_of(candidate):
            for variant in of_precision(variants, precision, module, candidate.device):
                found.append(Choice(candidate.backend, candidate.device, precision, threads, variant))
                break
        if not found and explicit:
            there = ", ".join(sorted({variant.precision for variant in variants} | set(makes)))
            problem = f"no file for precision {wish.precision} on backend {candidate.backend}"
            refused.append(
                (str(candidate), ModelError(bundle.file, problem, f"choose one of {there}, or auto", "variants"))
            )
        elif not found:  # only in precisions that the profile leaves out
            found = [Choice(candidate.backend, candidate.device, variants[0].precision, threads, variants[0])]
        for choice in found:
            doubt = _doubt(choice, records, wish)
            if doubt:
                refused.append((str(choice), doubt))
            elif choice not in choices:
                choices.append(choice)
    return choices, refused


def _named(wish: Wish, profile: Profile) -> list[Candidate]:
    """The profile's candidates that the wish leaves; one that the profile does not list where the wish names it."""
    found = [
        candidate
        for candidate in profile.candidates
        if wish.backend in (AUTO, candidate.backend) and wish.device in (AUTO, candidate.device)
    ]
    if found:
        return found
    names: Sequence[str] = profile.backends if wish.backend == AUTO else (wish.backend,)
    return [Candidate(name, "cpu" if wish.device == AUTO else wish.device) for name in names]


_UNVERIFIED = BackendError("not verified", "run `edge_vision verify` on the model, or name the precision")


def _doubt(choice: Choice, records: Sequence[Record], wish: Wish) -> InferenceError | None:
    """Why a choice may not be made by itself; None where it may, or where the user named it."""
    record = find_record(records, choice.variant, choice.backend, choice.device, choice.precision)
    if record is not None and not record.passed:
        if wish.backend != AUTO and wish.precision != AUTO:
            return None
        return BackendError(f"failed its verification: {record.problem}", "name backend and precision to run it anyway")
    if choice.precision == "fp32" or wish.precision != AUTO or (wish.backend != AUTO and _only(choice.variant)):
        return None
    if record is None:
        return _UNVERIFIED
    version = backend(choice.backend).version()
    if not record.runtime_version.startswith(version):  # another version may round otherwise
        problem = f"verified with {choice.backend} {record.runtime_version}, and this is {version}"
        return BackendError(problem, "run `edge_vision verify` again")
    return None


def _only(variant: Variant) -> bool:
    """Whether the file itself is of another precision than fp32, so that it is what its owner wants to run."""
    return variant.precision != "fp32"


def _why(error: InferenceError) -> str:
    return f"{error.problem}; {error.remedy}" if error.remedy else error.problem


def _reason(wish: Wish, profile: Profile, machine: Hardware, comparison: Comparison) -> str:
    asked = [
        f"{name} {value}" for name, value in (("backend", wish.backend), ("precision", wish.precision)) if value != AUTO
    ]
    named = (
        f"profile {profile.kind} asked for" if wish.hardware != AUTO else f"profile {profile.kind}: {machine.reason}"
    )
    if comparison.timings:
        how = f"fastest of {len(comparison.timings)} measured ({comparison.when})"
    elif comparison.when:
        how = comparison.when
    elif len(comparison.order) == 1:
        how = "the only candidate"
    else:
        how = "first of the profile that opens the model"
    return f"asked for ({', '.join(asked)}); {how}" if asked else f"{how}; {named}"


def _failure(
    bundle: Bundle,
    wish: Wish,
    profile: Profile,
    failures: Sequence[InferenceError],
    refused: Sequence[tuple[str, InferenceError]],
    rejected: Sequence[tuple[str, str]],
) -> InferenceError:
    """What to say where nothing could be opened: `failures` are the candidates that were tried."""
    card = [error for error in failures if isinstance(error, ModelError) and error.file == bundle.file and error.key]
    if card:
        return card[0]  # the card contradicts the model, whoever opens it
    if wish.backend != AUTO and (failures or refused):
        return failures[0] if failures else refused[0][1]
    listed = "; ".join(f"{name}: {why}" for name, why in rejected if why != _why(_UNVERIFIED)) or "none can be tried"
    if any(isinstance(error, ModelError) for error in (*failures, *(error for _, error in refused))):
        return ModelError(bundle.file, f"no backend can open the model: {listed}")
    return BackendError(f"no backend of the {profile.kind} profile can be used: {listed}", "install one of them")
