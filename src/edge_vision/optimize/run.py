"""Running a recipe: step after step, each kept on disk, so that an interrupted run goes on where it was.

A step's result lies in a folder named by everything that it depends on (the model, the steps before, its options, data,
teacher, seed). Recipes that begin alike share their beginning, and what is changed is made anew.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_vision.inference.preprocess import InputSpec
from edge_vision.optimize.data import Data
from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import Bar, Context, PassError, optimisation_pass
from edge_vision.optimize.recipe import Recipe, Step
from edge_vision.whole_files import write_bytes

FORMAT = 1  # of a step's folder: those of another number are made anew
_MODEL, _DONE = "model.onnx", "step.json"


@dataclass(frozen=True)
class Stage:
    """A network on its way. step: what made it, None for the one that the run began with; label: for people; facts,
    refused: of its outcome; seconds: that the step took when it was made; key: of its folder."""

    label: str
    network: Network
    step: Step | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    seconds: float = 0.0
    key: str = ""
    reused: bool = False


@dataclass(frozen=True)
class Settings:
    """work: folder that keeps the steps; bar: makes progress bars; threads: 0 for the runtimes' own rule;
    training_threads: 0 for all cores."""

    work: Path
    seed: int = 0
    threads: int = 0
    training_threads: int = 0
    bar: Callable[[str, int], Bar] | None = None
    log: Callable[[str], None] = lambda line: None


def apply_recipe(
    network: Network, recipe: Recipe, data: Data | None, settings: Settings, teacher: Network | None = None
) -> tuple[Stage, ...]:
    """The network as it was given and after each step of the recipe.

    teacher: what distilling steps learn from, `network` where it is None; then, after a step that changes what is
    answered (another input size, fewer heads), the network that this step made, since nobody learns from answers of
    another shape. Raises PassError where a step cannot be done, or needs what is not there (which is said before the
    first step is begun).
    """
    check_needs(recipe, data is not None)
    given = teacher is not None
    teacher = teacher or network
    taught = digest(teacher.proto)
    stages = [Stage("original", network, key=digest(network.proto))]
    for step in recipe.steps:
        before = stages[-1]
        relevant = {
            "format": FORMAT,
            "before": before.key,
            "step": step.as_dict(),
            **_files(step),
            "data": data.name if data else "",
            "teacher": taught if step.needs & {"teacher", "train"} else "",
            "seed": settings.seed,
        }
        key = hashlib.sha256(json.dumps(relevant, sort_keys=True, default=str).encode()).hexdigest()[:20]
        stages.append(_stage(step, before, key, data, teacher, settings))
        if not given and _answers(stages[-1].network) != _answers(before.network):
            teacher = stages[-1].network
            taught = digest(teacher.proto)
    return tuple(stages)


def _files(step: Step) -> dict[str, str]:
    """Digests of the files that a step's options name (`student: model.onnx`): another content is another step."""
    named = (value for value in dataclasses.asdict(step.options).values() if isinstance(value, str) and value)
    paths = (Path(value).expanduser() for value in named)
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.is_file()}


def _answers(network: Network) -> list[tuple[int | str, ...]]:
    """Shapes of the input and the outputs."""
    outputs = [output.type.tensor_type.shape.dim for output in network.proto.graph.output]
    size = (network.input.width, network.input.height)
    return [size, *(tuple(dim.dim_value or dim.dim_param for dim in dims) for dims in outputs)]


def check_needs(recipe: Recipe, data: bool) -> None:
    """Raises PassError where a step of the recipe needs what is not there: data, or PyTorch."""
    for step in recipe.steps:
        if not data and step.needs & {"calibration", "train"}:
            raise PassError(step.name, "needs images", "give --data")
        if "torch" in step.needs:
            try:
                import torch  # noqa: F401
            except ImportError:
                raise PassError(step.name, "trains, which needs PyTorch", "pip install 'edge_vision[torch]'") from None


def _stage(step: Step, before: Stage, key: str, data: Data | None, teacher: Network, settings: Settings) -> Stage:
    folder = settings.work / "steps" / f"{step.name}_{key}"
    stage = _kept(folder, step, before, key)
    if stage is not None:
        settings.log(f"{step}: as it was made before")
        return stage
    settings.log(f"{step} ...")
    work = folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    size = before.network.input.width, before.network.input.height
    context = Context(
        work=work,
        data=data.at(*size) if data else None,
        teacher=teacher,
        seed=settings.seed,
        threads=settings.threads,
        training_threads=settings.training_threads,
        **({"bar": settings.bar} if settings.bar else {}),
    )
    begun = time.monotonic()
    outcome = optimisation_pass(step.name).apply(before.network, step.options, context)
    seconds = time.monotonic() - begun
    stage = Stage(str(step), outcome.network, step, outcome.facts, outcome.refused, seconds, key)
    _keep(folder, stage)
    shutil.rmtree(work, ignore_errors=True)  # checkpoints: the step is done
    return stage


def _keep(folder: Path, stage: Stage) -> None:
    """The model first and its description last: a folder without one was interrupted."""
    bundle = stage.network.bundle
    done = {
        "label": stage.label,
        "facts": dict(stage.facts),
        "refused": list(stage.refused),
        "seconds": stage.seconds,
        "input": dataclasses.asdict(bundle.input),
        "decoder_options": dict(bundle.decoder_options),
    }
    write_bytes(folder / _MODEL, stage.network.proto.SerializeToString())
    write_bytes(folder / _DONE, json.dumps(done, indent=1, default=_plain).encode())


def _kept(folder: Path, step: Step, before: Stage, key: str) -> Stage | None:
    import onnx

    try:
        done = json.loads((folder / _DONE).read_text(encoding="utf-8"))
        proto = onnx.load(folder / _MODEL)
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in done["input"].items()}
        network = before.network.with_graph(proto, input=InputSpec(**fields), decoder_options=done["decoder_options"])
        return Stage(
            done["label"], network, step, done["facts"], tuple(done["refused"]), done["seconds"], key, reused=True
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    except Exception as error:  # protobuf's DecodeError is no ValueError
        if type(error).__name__ != "DecodeError":
            raise
        return None


def digest(proto: Any) -> str:
    """What a model is known by."""
    return hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest()[:20]


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays as JSON has them."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (set, frozenset, Sequence)):
        return list(value)
    raise TypeError(f"{type(value).__name__} in a step's facts")
