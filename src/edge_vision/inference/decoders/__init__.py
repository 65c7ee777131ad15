"""Decoders: what a network puts out, turned into boxes in network pixels, scores and class ids.

A decoder is one module of this folder with

* `EXPECTS`: one line for people, the outputs that it reads;
* `DEFAULT_INPUT`, `DEFAULT_THRESHOLDS`: how models of the family are fed when nothing says otherwise;
* `classes_in(outputs, input_width, input_height)`: how many classes outputs of these shapes hold, 0 where they are
  the family's without telling, None where they are not the family's;
* `build(setup)`: checks a sample of real outputs against the family's layout and returns a `Built`, whose `decode`
  takes raw outputs and a score threshold and gives `Candidates`;

and, where it has them,

* `NAMES`: sets of output names, any of which marks the family;
* `plausible(setup)`: whether the values of a sample can be the family's, asked where shapes fit
  several, and of files whose converter may have turned the outputs;
* `default_input(outputs, width, height, properties, sample)`: DEFAULT_INPUT where members of the family differ;
  properties: the file's metadata, sample: a function that gives the outputs of a run;
* `extra_inputs(inputs, width, height)`: constant inputs beside the image.

To add one: write the module and name it in `DECODERS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.errors import ModelError
from edge_vision.inference.onnx_header import TensorSpec

DECODERS: Mapping[str, str] = {
    name: f"{__name__}.{name}"
    for name in (
        "fastestdet",
        "yolov8",
        "yolox",
        "yolov5",
        "end_to_end",
        "nanodet",
        "rtdetr",
        "rfdetr",
        "ssd",
        "ssd_raw",
        "ultraface",
    )
}
"""Those that find boxes."""

EMBEDDINGS: Mapping[str, str] = {"embedding": f"{__name__}.embedding"}
"""Those that describe what is in a crop: read by `embedding.Embedder`, named and never recognised."""

CLASSIFIERS: Mapping[str, str] = {"classification": f"{__name__}.classification"}
"""Those that tell what a crop or a whole image shows: read by `classifier.Classifier`, named and never recognised."""

TASKS: Mapping[str, Mapping[str, str]] = {
    "detect": DECODERS,
    "re-identification": EMBEDDINGS,
    "classify": CLASSIFIERS,
}
"""What a bundle can be for, with the decoders of each task."""


class Candidates(NamedTuple):
    """Boxes (N, 4) float32 xyxy in network pixels, scores (N,) float32 at or above the threshold, class_ids (N,)
    int64."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]


NOTHING = Candidates(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
"""What a decoder returns where no row reaches the threshold."""

Decode = Callable[[Sequence[NDArray], float], Candidates]
"""(raw outputs of one image, least score) -> Candidates, before non-maximum suppression."""


@dataclass(frozen=True)
class Setup:
    """What a decoder is built from.

    sample: outputs of one run, in the order of `outputs`; file: the model, for messages.
    """

    file: Path
    input_width: int
    input_height: int
    outputs: tuple[TensorSpec, ...]
    sample: tuple[NDArray, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    def misfit(self, name: str, problem: str, remedy: str = "") -> ModelError:
        """The error for outputs that are not what decoder `name` reads."""
        found = ", ".join(str(spec) for spec in self.outputs)
        return ModelError(
            self.file,
            f"the outputs do not fit decoder {name}: {problem}; found {found}; {name} expects {decoder(name).EXPECTS}",
            remedy or f"name the decoder that the model was made for (known: {', '.join(DECODERS)})",
        )

    def check_options(self, name: str, known: Mapping[str, str]) -> None:
        """Refuse options that the decoder does not have; `known` explains each."""
        for key in self.options:
            if key not in known:
                listed = "; ".join(f"{k}: {v}" for k, v in known.items()) or "none"
                raise ModelError(
                    self.file, f"decoder {name} has no such option", f"known: {listed}", f"decoder_options.{key}"
                )


class Built(NamedTuple):
    """A decoder ready to run.

    classes: how many the outputs hold; None where only the labels tell (class ids then index those, from 0).
    suppress: whether boxes of one object are still to be reduced to one; False where the graph has done that, so that a
    threshold and an order by score are all that is left.
    """

    decode: Decode
    classes: int | None
    suppress: bool = True


class Decoder(Protocol):
    """What a module of this folder offers."""

    EXPECTS: str
    DEFAULT_INPUT: Mapping[str, Any]
    DEFAULT_THRESHOLDS: Mapping[str, float]

    def classes_in(self, outputs: Sequence[TensorSpec], input_width: int, input_height: int) -> int | None: ...

    def build(self, setup: Setup) -> Built: ...


def decoder(name: str) -> Decoder:
    """The decoder module called `name`; KeyError for one that no task has."""
    return cast(Decoder, importlib.import_module({**DECODERS, **EMBEDDINGS, **CLASSIFIERS}[name]))


def task_of(name: str) -> str:
    """The task whose models decoder `name` reads."""
    return next(task for task, names in TASKS.items() if name in names)


def extra_inputs(name: str, inputs: Sequence[TensorSpec], width: int, height: int) -> dict[str, NDArray]:
    """Constant inputs beside the image that models of decoder `name` take, by name; {} for nearly all.

    inputs: all of the model's; width, height: of the network's image.
    """
    make = getattr(decoder(name), "extra_inputs", None)
    return dict(make(inputs, width, height)) if make else {}


def default_input(
    name: str,
    outputs: Sequence[TensorSpec],
    width: int,
    height: int,
    properties: Mapping[str, str],
    sample: Callable[[], Sequence[NDArray]],
) -> Mapping[str, Any]:
    """How a model of decoder `name` with these outputs is fed when nothing says otherwise. sample: gives outputs of a
    run, called where only values can tell."""
    make = getattr(decoder(name), "default_input", None)
    return dict(make(outputs, width, height, properties, sample) if make else decoder(name).DEFAULT_INPUT)


def recognise(outputs: Sequence[TensorSpec], input_width: int, input_height: int) -> tuple[str, ...]:
    """Names of the decoders that these outputs can belong to, by names and shapes: those marked by the names of the
    outputs if there are any, else all whose shapes fit; () for none."""
    from edge_vision.inference.decoders.common import names

    fitting = [name for name in DECODERS if decoder(name).classes_in(outputs, input_width, input_height) is not None]
    found = set(names(outputs))
    marks = {
        name: max((len(m) for m in getattr(decoder(name), "NAMES", ()) if m <= found), default=0) for name in fitting
    }
    strongest = max(marks.values(), default=0)
    return tuple(name for name in fitting if marks[name] == strongest)


def plausible(fitting: Sequence[str], setup: Setup) -> tuple[str, ...]:
    """Those of `fitting` whose layout the values of `setup.sample` can be."""
    asked = [(name, getattr(decoder(name), "plausible", None)) for name in fitting]
    return tuple(name for name, test in asked if test is None or test(setup))


def known_decoders() -> str:
    """All decoders with what each expects, for error messages."""
    return "; ".join(f"{name}: {decoder(name).EXPECTS}" for name in DECODERS)
