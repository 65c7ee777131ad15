"""The machine that asks as a target: its constants from a few seconds of measurement through ONNX Runtime, its error
from networks that they were not fitted to."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge_vision.inference.hardware import Hardware, detect_hardware
from edge_vision.optimize.estimate.checking import Row
from edge_vision.optimize.estimate.fitting import Prior, error_of, fit
from edge_vision.optimize.estimate.graph import model_of
from edge_vision.optimize.estimate.probes import CHAINS, NETWORKS
from edge_vision.optimize.estimate.roofline import Constants, Error, Work, seconds, work
from edge_vision.optimize.estimate.targets import Memory, Setting, Target
from edge_vision.paths import cache_directory

if TYPE_CHECKING:
    import onnx
    import onnxruntime

PRIOR = Prior((2.0, 1.0, 1.0, 1 / 3), bandwidth=1e10, call=5e-6)
"""Any machine of these years with a cache; the level of the rates comes from the measurements."""
ROUNDS, SECONDS_A_GRAPH = 6, 0.2
_VERSION = 1
"""Of the cached file: another number has everything measured again."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """constants and error of a precision; rows: the networks that the error comes from."""

    constants: Constants
    error: Error
    rows: tuple[Row, ...]


def this_machine(
    threads: int,
    precisions: Sequence[str] = ("fp32", "int8"),
    *,
    fresh: bool = False,
    log: Callable[[str], None] = lambda line: None,
) -> tuple[Target, tuple[Row, ...]]:
    """The target `this` for a number of threads, and the networks that its error was measured on. Cached; fresh:
    measure again. Takes about ten seconds a precision. Raises ImportError without onnx."""
    hardware = detect_hardware()
    settings: list[Setting] = []
    rows: list[Row] = []
    for precision in precisions:
        file = cache_directory("estimate") / f"{precision}_{threads}.json"
        found = None if fresh else _cached(file, hardware)
        if found is None:
            log(f"measuring this machine in {precision} with {threads} thread(s), once")
            found = calibrate(precision, threads)
            _write(file, found, hardware)
        rows += found.rows
        settings.append(_setting(precision, threads, found))
    ram = Memory(
        total=hardware.memory or 0,
        own=60_000_000,
        weights=2.0,
        source="this machine's memory; runtime: Python with NumPy and ONNX Runtime (63 MB with the bundled detector)",
    )
    title = f"this machine, {hardware.model}, {hardware.cores} cores"
    return Target("this", title, "linux", tuple(settings), ram, None, Path("this")), tuple(rows)


def calibrate(precision: str, threads: int, networks: Mapping[str, Callable] | None = None) -> Calibration:
    """Measures `CHAINS` and `networks` (None: `NETWORKS`) in turns and fits to the former."""
    networks = NETWORKS if networks is None else networks
    int8 = precision == "int8"
    graphs = {name: build(int8) for name, build in (*CHAINS.items(), *networks.items())}
    times = measure(graphs, threads)
    works = {name: work(model_of(graph, name).operations, precision) for name, graph in graphs.items()}
    constants = fit([(works[name], times[name]) for name in CHAINS], PRIOR)
    ratios = np.array([seconds(works[name], constants) / times[name] for name in networks])
    error = error_of(ratios)
    rows = tuple(_row(name, precision, threads, works[name], times[name], constants, error) for name in networks)
    return Calibration(constants, error, rows)


def check_graph(
    proto: onnx.ModelProto, name: str, precision: str, threads: int, target: Target, known: Sequence[Row] = ()
) -> Row:
    """A model of one's own, measured and estimated. known: of `this_machine`; some of them are measured again beside
    it, and the row's note says so where the machine is not as fast as when it was calibrated."""
    setting = next(setting for setting in target.settings if precision in setting.takes)
    done = work(model_of(proto, name).operations, setting.arithmetic)
    before = {row.network: row.measured for row in known if row.setting == setting.name and row.network in NETWORKS}
    again = dict(sorted(before.items(), key=lambda item: item[1])[:3])
    times = measure({name: proto} | {other: NETWORKS[other](precision == "int8") for other in again}, threads)
    row = _row(name, precision, threads, done, times[name], setting.constants, setting.error)
    slower = float(np.median([times[other] * 1e3 / took for other, took in again.items()])) if again else 1.0
    if 1 / _AS_BEFORE < slower < _AS_BEFORE:
        return row
    return replace(row, note=f"this machine takes {slower:.2f} times as long now as when it was calibrated: --fresh")


_AS_BEFORE = 1.15
"""Within this factor a machine is as fast as before."""


def _row(name: str, precision: str, threads: int, done: Work, took: float, constants: Constants, error: Error) -> Row:
    guess = seconds(done, constants) * 1e3
    source = f"measured here, {precision}, ONNX Runtime, {threads} thread(s)"
    return Row("this", f"onnxruntime-{precision}", name, took * 1e3, guess, *error.interval(guess), True, source, "")


def measure(graphs: Mapping[str, onnx.ModelProto], threads: int) -> dict[str, float]:
    """Seconds of a run of each through ONNX Runtime: the least of several rounds in turns, so that a machine that is
    busy for a while slows all alike. One thread's time is that in which it had a core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    clock = time.thread_time if threads == 1 else time.perf_counter
    sessions, feeds = {}, {}
    found: dict[str, float] = {}
    for name, graph in graphs.items():
        session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        sessions[name] = session
        feeds[name] = {given.name: _image(given.shape, given.type) for given in session.get_inputs()}
        session.run(None, feeds[name])
        found[name] = _least(session, feeds[name], 3, clock)
    for _ in range(ROUNDS):
        for name, session in sessions.items():
            count = int(np.clip(SECONDS_A_GRAPH / ROUNDS / found[name], 2, 500))
            found[name] = min(found[name], _least(session, feeds[name], count, clock))
    return found


def _least(session: onnxruntime.InferenceSession, feed: dict, count: int, clock: Callable[[], float]) -> float:
    """The shortest of `count` runs. A virtual machine's clock of a thread may stand still for a run: that is none."""
    best = np.inf
    while count > 0 or best == np.inf:
        count -= 1
        start = clock()
        session.run(None, feed)
        took = clock() - start
        best = min(best, took) if took > 0 else best
    return float(best)


def _image(shape: Sequence[int], kind: str) -> np.ndarray:
    random = np.random.default_rng(0)
    if kind == "tensor(uint8)":
        return random.integers(0, 255, shape, np.uint8)
    return random.random(shape, np.float32)


def _setting(precision: str, threads: int, found: Calibration) -> Setting:
    takes = ("int8",) if precision == "int8" else ("fp32", "fp16")
    return Setting(
        name=f"onnxruntime-{precision}", runtime="onnxruntime", device="cpu", threads=threads, arithmetic=precision,
        takes=takes, source="measured here", clock=1.0, prior=PRIOR, constants=found.constants, error=found.error,
    )  # fmt: skip


def _key(hardware: Hardware) -> dict[str, str | int]:
    import onnxruntime

    return {
        "version": _VERSION,
        "machine": f"{platform.machine()} {hardware.model}",
        "flags": " ".join(hardware.flags),
        "cores": hardware.cores,
        "onnxruntime": onnxruntime.__version__,
    }


def _cached(file: Path, hardware: Hardware) -> Calibration | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["key"] != _key(hardware):
            return None
        rows = tuple(Row(**row) for row in content["rows"])
        return Calibration(Constants(**content["constants"]), Error(**content["error"]), rows)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(file: Path, found: Calibration, hardware: Hardware) -> None:
    content = {
        "key": _key(hardware),
        "constants": asdict(found.constants),
        "error": asdict(found.error),
        "rows": [asdict(row) for row in found.rows],
    }
    part = file.with_suffix(".part")
    part.write_text(json.dumps(content, indent=2), encoding="utf-8")
    part.replace(file)
