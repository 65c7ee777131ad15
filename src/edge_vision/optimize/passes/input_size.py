"""Another size of the network's input: fewer pixels, fewer multiply-accumulates."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import onnx

from edge_vision.optimize.graphs.resizing import BakedIn, resize_input
from edge_vision.optimize.graphs.running import CannotRun, random_images, run, session_of, tensors
from edge_vision.optimize.graphs.shapes import (
    DynamicShape,
    input_shape,
    multiply_accumulates,
    stated_outputs,
    static_shapes,
)
from edge_vision.optimize.graphs.shrinking import is_quantised, prepared
from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import Context, Outcome, PassError

NAME = "input_size"
SUMMARY = "another size of the network's input"
NEEDS: frozenset[str] = frozenset()
USUAL_MULTIPLE = 32
REMEDY = "export the model anew for that size, or leave this step out"


@dataclass(frozen=True)
class Options:
    """width, height: of the new input in pixels; where 0, `scale` times the old one, to the nearest `multiple`.
    multiple: 0 for the largest stride of the decoder, or 32 where that is not known."""

    width: int = 0
    height: int = 0
    scale: float = 0.75
    multiple: int = 0

    def __post_init__(self) -> None:
        for name in ("width", "height", "multiple"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: give a number of pixels, or 0")
        if not 0 < self.scale <= 4:
            raise ValueError(f"scale is {self.scale}: give a factor such as 0.75")


def apply(network: Network, options: Options, context: Context) -> Outcome:
    """The network for another size of image. Its data has to follow: `data.at(width, height)`. Accuracy changes, small
    objects first."""
    spec = network.input
    multiple = options.multiple or max(network.bundle.decoder_options.get("strides") or (USUAL_MULTIPLE,))
    width = options.width or _rounded(spec.width * options.scale, multiple)
    height = options.height or _rounded(spec.height * options.scale, multiple)
    if (width, height) == (spec.width, spec.height):
        raise PassError(NAME, f"the input has {width} x {height} already", "give another width, height or scale")
    if width % multiple or height % multiple:
        raise PassError(
            NAME,
            f"{width} x {height} is no multiple of {multiple}, the network's largest stride",
            f"give {_rounded(width, multiple)} x {_rounded(height, multiple)}, or another multiple",
        )
    new_spec = dataclasses.replace(spec, width=width, height=height)
    sizes: list[int | str] = list(new_spec.shape)
    stated = input_shape(network.proto)
    if stated and isinstance(stated[0], str):
        sizes[0] = stated[0]
    try:
        proto = prepared(network.proto, spec)
        before = sum(multiply_accumulates(proto).values())
        old = static_shapes(proto)
        written = resize_input(proto, sizes, spec.name)
        stated_outputs(proto)
        found = run(session_of(proto, 1), tensors(random_images(new_spec, 1), new_spec))
        after = sum(multiply_accumulates(proto).values())
    except BakedIn as error:
        remedy = "put this step before the quantisation" if is_quantised(network.proto) else REMEDY
        raise PassError(NAME, f"the old size is built in: {error}", remedy) from error
    except (CannotRun, DynamicShape) as error:
        raise PassError(NAME, f"the graph does not run with {width} x {height} ({error})", REMEDY) from error
    except Exception as error:  # of onnxruntime's own many types: what does not fit is seen only when it runs
        raise PassError(NAME, f"the graph does not run with {width} x {height} ({str(error)[:200]})", REMEDY) from error
    _check_outputs(network, proto, old, (width, height), [value.shape for value in found])
    facts = {
        "size": [[spec.width, spec.height], [width, height]],
        "macs": [before, after],
        "kept_macs": round(after / before, 4) if before else math.nan,
        "sizes_written_anew": written,
    }
    return Outcome(network.with_graph(proto, input=new_spec), facts)


def _rounded(size: float, multiple: int) -> int:
    return max(1, math.floor(size / multiple + 0.5)) * multiple


def _check_outputs(
    network: Network,
    proto: onnx.ModelProto,
    old: dict[str, tuple[int, ...]],
    size: tuple[int, int],
    found: list[tuple[int, ...]],
) -> None:
    """A detector with a number for each cell has as many more as the image; a classifier has as many as before."""
    for output, shape in zip(proto.graph.output, found, strict=True):
        before = old.get(output.name)
        if before is None:
            continue
        if network.task == "classify" and before[1:] != shape[1:]:
            raise PassError(NAME, f"output {output.name} is {shape} and was {before}", REMEDY)
        if network.task == "detect":
            grown = math.prod(shape) / math.prod(before)
            pixels = size[0] * size[1] / (network.input.width * network.input.height)
            if before != shape and not 0.5 < grown / pixels < 2:
                raise PassError(NAME, f"output {output.name} is {shape} and was {before}, not as many as cells", REMEDY)
