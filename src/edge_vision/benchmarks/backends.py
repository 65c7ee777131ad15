"""`edge_vision bench backends`: every way to run a model here, and what one of them took.

A way is a file of the bundle on a backend, device and precision with a number of threads (`Choice`); what cannot be run
is a row as well, with the reason. `backend_runs` measures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from edge_vision.inference.backends import BACKENDS, backend
from edge_vision.inference.bundle import PRECISIONS, Bundle
from edge_vision.inference.errors import InferenceError
from edge_vision.inference.opening import Choice, of_precision, readable
from edge_vision.inference.records import Record, find_record

VERIFIED, EQUAL, DIFFERS, FAILED, UNVERIFIED = "verified", "equal", "differs", "failed", "not verified"
"""How a candidate is proven: a record of `edge_vision verify` that passed; fp32 without a record, whose raw outputs
were equal to fp32 ONNX Runtime's in this measurement (what `auto` goes by), or were not; a record that failed;
nothing."""
PROVEN = (VERIFIED, EQUAL)

_UNDISTURBED = 0.93
"""Of a core, for one thread that computes without a pause."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What to measure. Empty tuples: all; threads: () for what the profile gives a pipeline; seconds: of measuring, all
    candidates together, after they are open; rounds: turns of each, 0 for as many as are worth it; rate: frames a
    second of the paced part."""

    threads: tuple[int, ...] = ()
    backends: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    seconds: float = 60.0
    rounds: int = 0
    rate: float = 20.0


@dataclass(frozen=True, slots=True)
class Row:
    """A candidate and what it took; None for what was not measured or what the system does not tell.

    Milliseconds: p50, p95, p99, mean and max of the backend's call, one after the other; infer_*: of all of `infer`,
    from a frame of the network's size to detections; paced_p50: of the call at `paced_rate` frames a second; first: of
    the first run. runs: how many calls the percentiles are of. runs_per_s, frames_per_s: 1 / mean of the two.

    load_s: to open the model as at every start; build_s: as at the first, where something is compiled and kept.
    MiB of the candidate's process: rss_mib now, peak_mib at its highest, growth_mib over that before the runtime was
    loaded. Busy cores: cores while runs follow each other, cores_paced at `paced_rate` (pre-processing included),
    cores_idle while others run. temperature_c, frequency_share, power_w: while it ran, see `system.Span`; energy_mj: of
    one call, of the whole machine.

    proof: one of the above, with its note; reason: why it was not measured, "" where it was.
    """

    backend: str
    device: str
    precision: str
    threads: int = 0
    file: str = ""
    version: str = ""
    proof: str = ""
    proof_note: str = ""
    reason: str = ""
    runs: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    mean_ms: float | None = None
    max_ms: float | None = None
    infer_p50_ms: float | None = None
    infer_p95_ms: float | None = None
    runs_per_s: float | None = None
    frames_per_s: float | None = None
    first_ms: float | None = None
    load_s: float | None = None
    build_s: float | None = None
    rss_mib: float | None = None
    peak_mib: float | None = None
    growth_mib: float | None = None
    cores: float | None = None
    cores_paced: float | None = None
    cores_idle: float | None = None
    paced_rate: float | None = None
    paced_p50_ms: float | None = None
    temperature_c: float | None = None
    throttled: str | None = None
    frequency_share: float | None = None
    power_w: float | None = None
    energy_mj: float | None = None
    joules: Mapping[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """`openvino cpu fp32 x2`."""
        parts = [self.backend, self.device, self.precision, f"x{self.threads}" if self.threads else ""]
        return " ".join(part for part in parts if part)

    @property
    def measured(self) -> bool:
        return self.p50_ms is not None

    @property
    def proven(self) -> bool:
        """Whether it gives what the model should: it may be chosen without a word."""
        return self.measured and self.proof in PROVEN


def row_from(values: Mapping[str, Any]) -> Row:
    """A row read back from JSON; unknown keys, of later versions, are left out. Raises TypeError where one is
    missing."""
    known = {item.name for item in fields(Row)}
    return Row(**{key: value for key, value in values.items() if key in known})


def candidates(
    bundle: Bundle, settings: Settings, threads: int, records: Sequence[Record]
) -> tuple[list[tuple[Choice, Row]], list[Row]]:
    """The candidates with their rows still without figures, and the rows of what cannot be run here.

    threads: where the settings name none. A device that is not the processor is tried with one number of threads alone,
    since they only feed it.
    """
    runnable: list[tuple[Choice, Row]] = []
    out: list[Row] = []
    for name in settings.backends or tuple(BACKENDS):
        try:
            module = backend(name)
            missing = module.available()
            devices = () if missing else module.devices()
        except InferenceError as error:
            out.append(Row(name, "", "", reason=_reason(error)))
            continue
        version = module.version()
        variants = readable(bundle, name, module) if not missing else []
        if missing or not variants:
            files = ", ".join(variant.path.name for variant in bundle.variants)
            unread = f"reads {', '.join(module.FORMATS)}; the model has {files}: `edge_vision convert` makes one"
            out.append(Row(name, "", "", version=version, reason=f"{missing}: {module.REMEDY}" if missing else unread))
            continue
        wanted = [device for device in devices if not settings.devices or _fits(device, settings.devices)]
        if not wanted:
            reason = f"has no device {' or '.join(settings.devices)} here, only {', '.join(devices)}"
            out.append(Row(name, "", "", version=version, reason=reason))
        for device in wanted:
            counts = (settings.threads or (threads,)) if device == "cpu" else (settings.threads or (threads,))[-1:]
            for precision in settings.precisions or PRECISIONS:
                variant = next(of_precision(variants, precision, module, device), None)
                if variant is None:
                    continue
                record = find_record(records, variant, name, device, precision)
                proof, note = _proof(record)
                for count in counts:
                    row = Row(name, device, precision, count, variant.path.name, version, proof, note)
                    runnable.append((Choice(name, device, precision, count, variant), row))
    return runnable, out


def _fits(device: str, wanted: Sequence[str]) -> bool:
    """`gpu` names all of `gpu`, `gpu.0` and `gpu:1`."""
    return device in wanted or device.replace(":", ".").split(".")[0] in wanted


def _proof(record: Record | None) -> tuple[str, str]:
    if record is None:
        return UNVERIFIED, ""
    return (VERIFIED, "") if record.passed else (FAILED, record.problem)


def _reason(error: InferenceError) -> str:
    return f"{error.problem}; {error.remedy}" if error.remedy else error.problem


def fastest(rows: Sequence[Row]) -> Row | None:
    """The measured row with the least p50 of those that are proven; None where none is."""
    return min((row for row in rows if row.proven), key=lambda row: row.p50_ms or 0.0, default=None)


def disturbed(rows: Sequence[Row]) -> str:
    """Words about other processes that had the processor while this ran; "" where there is no sign of any."""
    shares = [row.cores for row in rows if row.threads == 1 and row.device == "cpu" and row.cores is not None]
    if not shares or min(shares) >= _UNDISTURBED:
        return ""
    return (
        f"other processes had the processor too: with one thread, runs one after the other got {min(shares):.2f} to "
        f"{max(shares):.2f} of a core. Repeat it when the machine is quiet."
    )
