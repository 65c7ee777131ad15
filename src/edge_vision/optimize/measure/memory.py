"""Resident memory of a fresh process that opens and runs a model, above what the runtime takes for a tiny one."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_vision.datatypes import Frame
from edge_vision.inference.backends import backend
from edge_vision.inference.bundle import Bundle, Variant
from edge_vision.inference.errors import InferenceError
from edge_vision.inference.opening import Choice, open_choice
from edge_vision.inference.preprocess import Preprocessor
from edge_vision.inference.tuning import check_images
from edge_vision.optimize.measure.apart import choice_of, run_apart
from edge_vision.optimize.measure.latency import ORIGINAL
from edge_vision.system_files import read_text, value_of

_RUNS = 5


@dataclass(frozen=True, slots=True)
class Memory:
    """One model on one backend, in bytes of resident memory above those of a process that does the same with a tiny
    model (where a backend reads no ONNX: of one without the runtime).

    loaded: with the model open; running: after some runs; peak: the most at any time. baseline: all of that process
    after its runs. Medians of several processes. problem: why there are no figures, "" where there are.
    """

    model: str
    backend: str
    loaded: int = 0
    running: int = 0
    peak: int = 0
    baseline: int = 0
    problem: str = ""


def measure_memory(
    original: Bundle,
    models: Mapping[str, Bundle],
    backends: Sequence[str] = ("onnxruntime", "openvino"),
    *,
    device: str = "cpu",
    threads: int = 1,
    repeats: int = 3,
    timeout: float = 120.0,
    step: Callable[[str], object] = lambda backend: None,
) -> tuple[Memory, ...]:
    """Memory of the original and of models by backend, the original first.

    repeats: processes for each, in turns; timeout: seconds for one. What cannot be run is a row with its problem.
    """
    rows: list[Memory] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in backends:
            step(name)
            named = {ORIGINAL: original, **models}
            rows += _on_backend(name, named, (device, threads), repeats, timeout, Path(folder))
    return tuple(rows)


def _on_backend(
    name: str, models: Mapping[str, Bundle], where: tuple[str, int], repeats: int, timeout: float, folder: Path
) -> list[Memory]:
    choices: dict[str, tuple[Bundle, Choice]] = {}
    problems: dict[str, str] = {}
    for label, bundle in models.items():
        try:
            choices[label] = bundle, choice_of(bundle, name, *where)
        except InferenceError as error:
            problems[label] = error.problem
    if choices and ".onnx" in backend(name).FORMATS:
        tiny = tiny_bundle(folder, next(iter(choices.values()))[0])
        choices[""] = tiny, choice_of(tiny, name, *where)
    seen: dict[str, list[_Footprint]] = {label: [] for label in choices}
    for _ in range(repeats):
        for label in [label for label in choices if label not in problems]:
            try:
                seen[label].append(run_apart(f"{__name__}.footprint", choices[label], timeout))
            except InferenceError as error:
                problems[label] = error.problem
    if "" in problems:
        problems |= dict.fromkeys(models, f"a tiny model: {problems['']}")
    rows = []
    for label in models:
        if label in problems:
            rows.append(Memory(label, name, problem=problems[label]))
            continue
        found = seen[label]
        base = seen.get("")
        own = {key: _median(base, key) if base else _median(found, "before") for key in ("loaded", "running", "peak")}
        loaded, running, peak = (_median(found, key) - own[key] for key in ("loaded", "running", "peak"))
        rows.append(Memory(label, name, max(loaded, 0), max(running, 0), max(peak, 0), own["running"]))
    return rows


@dataclass(frozen=True, slots=True)
class _Footprint:
    """Resident bytes of a process: with no runtime, with the model open, after runs, at most."""

    before: int
    loaded: int
    running: int
    peak: int


def _median(found: Sequence[_Footprint], key: str) -> int:
    return int(np.median([getattr(one, key) for one in found]))


def footprint(job: tuple[Bundle, Choice]) -> _Footprint:
    """Of this process; runs in one of its own."""
    bundle, choice = job
    before = _resident("VmRSS")
    opened = open_choice(bundle, choice)
    loaded = _resident("VmRSS")
    tensor = Preprocessor(opened.input)(Frame(check_images(opened.input)[1]))[0]
    for _ in range(_RUNS):
        opened.run(tensor)
    return _Footprint(before, loaded, _resident("VmRSS"), _resident("VmHWM"))


def _resident(key: str) -> int:
    return int(value_of(read_text(Path("/proc/self/status")), key).removesuffix("kB")) * 1024


def tiny_bundle(folder: Path, like: Bundle) -> Bundle:
    """A model of one addition, fed like another bundle's."""
    from onnx import TensorProto, helper

    spec = dataclasses.replace(like.input, name="x", width=8, height=8)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
    nodes: list[Any] = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["f", "f"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", kind, spec.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, spec.shape)],
    )
    path = folder / "tiny.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return dataclasses.replace(like, input=spec, variants=(Variant("onnxruntime", "fp32", path),))
