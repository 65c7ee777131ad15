"""ncnn: ARM boards above all (its kernels are written for them), x86-64 too. Reads `.param` with the `.bin` beside it.

(The trailing underscore keeps the module's name apart from the package's.)
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.backends import SessionDescription, SessionOptions, missing_package, package_version
from edge_vision.inference.errors import BackendError, ModelError
from edge_vision.inference.onnx_header import TensorSpec

FORMATS = (".param",)
PRECISIONS = ("fp32", "fp16", "bf16")
NEEDS = "the Python package ncnn"
REMEDY = "pip install ncnn"

_MAGIC = "7767517"
_CONVERT = "convert the model again (`edge_vision convert MODEL --to ncnn`)"


def available() -> str | None:
    return missing_package("ncnn")


def version() -> str:
    return package_version("ncnn")


def devices() -> tuple[str, ...]:
    return ("cpu",)


def open(path: Path, options: SessionOptions) -> NcnnSession:
    """A session on a .param file. Raises BackendError (not installed, unknown device), ModelError (the file)."""
    if options.device != "cpu":
        raise BackendError(f"ncnn runs on cpu here, not on {options.device}", "use device cpu")
    ncnn = _import()
    graph = read_param(path)
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise ModelError(path, f"its weights {weights.name} are not beside it", "copy both files of the model")
    for name in options.outputs:
        if name not in graph.blobs:
            raise ModelError(path, f"has no blob {name!r}; its outputs are {', '.join(graph.outputs)}", key="outputs")
    precision = _possible(ncnn, options.precision, weights)
    net = ncnn.Net()
    net.opt.num_threads = options.threads
    net.opt.openmp_blocktime = 0  # for builds with LLVM's OpenMP; for GNU's see `_import`
    # A tensor that a later layer takes is gone by the time it is read, and ncnn crashes: then all are kept.
    net.opt.lightmode = set(options.outputs) <= set(graph.outputs)
    half, brain = precision == "fp16", precision == "bf16"
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = half
    net.opt.use_bf16_packed = net.opt.use_bf16_storage = brain
    if net.load_param(str(path)) != 0:
        raise ModelError(path, f"ncnn {version()} cannot read it (its reason is on stderr)", _CONVERT)
    if net.load_model(str(weights)) != 0:
        raise ModelError(
            weights, f"ncnn {version()} cannot read it: not the weights of {path.name}, or cut off", _CONVERT
        )
    return NcnnSession(ncnn, net, graph, options, precision)


def _import() -> Any:
    """The package, its threads told to sleep while they wait.

    Left alone, the threads of GNU's OpenMP (in the Linux wheels; it has no other switch than the environment, read when
    the library is loaded) spin for milliseconds: with two of them on two shared cores that took 0.6 to 0.9 instead of
    0.27 core at 20 Hz, and made single runs of 340 to 820 instead of 18 ms. A user's own setting stands.
    """
    own = "OMP_WAIT_POLICY" in os.environ or "GOMP_SPINCOUNT" in os.environ
    if not own:
        os.environ["OMP_WAIT_POLICY"] = "passive"
    try:
        import ncnn
    except ImportError as error:
        raise BackendError(f"ncnn cannot be imported: {error}", REMEDY) from error
    finally:
        if not own:
            del os.environ["OMP_WAIT_POLICY"]
    return ncnn


@dataclass(frozen=True, slots=True)
class ParamGraph:
    """What a .param file says.

    inputs: shapes by blob name, without the batch, () where it does not say; outputs: the blobs that no layer consumes;
    blobs: all; shareable: the inputs that may be read where they lie. Not so an input that a layer computes in place
    (ReLU, for one): ncnn crashes on memory that is not its own there (its issue 1543, open).
    """

    inputs: Mapping[str, tuple[int, ...]]
    outputs: tuple[str, ...]
    blobs: frozenset[str]
    shareable: frozenset[str]


_NEVER_IN_PLACE = frozenset(("Convolution", "ConvolutionDepthWise", "Pooling"))


def read_param(path: Path) -> ParamGraph:
    """The graph in a text .param file. Raises ModelError for another file.

    The format is in ncnn's wiki ("param and model file structure"): a magic number; the counts of layers and blobs; and
    a line a layer: type, name, numbers of inputs and outputs, their blobs, key=value.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ModelError(path, "is no text; ncnn's binary .param.bin is not read", _CONVERT) from error
    except OSError as error:
        raise ModelError(path, f"cannot be read: {error.strerror}", "check the path and its permissions") from error
    if lines[0].strip() != _MAGIC:
        raise ModelError(path, f"is no ncnn model: its first line is {lines[0][:40]!r} instead of {_MAGIC}", _CONVERT)
    layers = [line.split() for line in lines[2:] if line.strip()]
    try:
        expected = int(lines[1].split()[0])
        graph = _graph(layers)
    except (ValueError, IndexError) as error:
        raise ModelError(path, f"is no ncnn model: {error}", _CONVERT) from error
    if len(layers) != expected or not graph.inputs:
        problem = f"is cut off: {len(layers)} of {expected} layers, {len(graph.inputs)} inputs"
        raise ModelError(path, problem, _CONVERT)
    return graph


def _graph(layers: Sequence[list[str]]) -> ParamGraph:
    inputs: dict[str, tuple[int, ...]] = {}
    produced: dict[str, None] = {}  # a set that keeps the order
    consumers: dict[str, set[str]] = {}
    for kind, _, takes, gives, *rest in layers:
        count, total = int(takes), int(takes) + int(gives)
        if total > len(rest):
            raise ValueError("a layer's blobs are missing")
        for blob in rest[:count]:
            consumers.setdefault(blob, set()).add(kind)
        produced.update(dict.fromkeys(rest[count:total]))
        if kind == "Input":
            sizes = dict(pair.split("=", 1) for pair in rest[total:])
            # 0 width, 1 height, 11 depth, 2 channels; the outermost first, as NumPy has them.
            shape = tuple(int(sizes[key]) for key in ("2", "11", "1", "0") if key in sizes)
            inputs.update(dict.fromkeys(rest[count:total], shape))
    outputs = tuple(blob for blob in produced if blob not in consumers)
    shareable = frozenset(blob for blob in inputs if consumers.get(blob, {""}) <= _NEVER_IN_PLACE)
    return ParamGraph(inputs, outputs, frozenset(produced), shareable)


_HALF_WEIGHTS = b"\x47\x6b\x30\x01"  # the tag in front of half-precision weights (0x01306B47)


def _possible(ncnn: Any, asked: str, weights: Path) -> str:
    """The precision that a model is run in when asked for one.

    ncnn makes half precision of an fp32 file on ARM alone. A file of half-precision weights is fp16 everywhere, also
    where they are unpacked and computed with in fp32.
    """
    if asked == "fp16" and not (ncnn.cpu_support_arm_asimdhp() or ncnn.cpu_support_arm_vfpv4()):
        with weights.open("rb") as stream:
            return "fp16" if stream.read(4) == _HALF_WEIGHTS else "fp32"
    return asked if asked in PRECISIONS else "fp32"


class NcnnSession:
    """See `Session`. A new extractor a run (they are cheap and keep intermediate results); an input is read where it
    lies if it can be (see `ParamGraph`).

    ncnn knows no batch: it is taken off the inputs and put back on the outputs. Results are views of memory of their
    own, which no later run touches; planes of a size that is no multiple of 16 bytes are padded: such views have
    strides. Output shapes are known after a run only, and input shapes only where the file or the caller says.
    """

    def __init__(self, ncnn: Any, net: Any, graph: ParamGraph, options: SessionOptions, precision: str) -> None:
        self.options, self.precision = options, precision
        self.net = net
        self.make_mat = ncnn.Mat
        self.inputs = tuple(
            TensorSpec(name, _shape(options.input_shapes, name, sizes), "float32")
            for name, sizes in graph.inputs.items()
        )
        self.outputs = tuple(TensorSpec(name, (), "float32") for name in options.outputs or graph.outputs)
        self.names = [spec.name for spec in self.outputs]
        self.shareable = graph.shareable

    def run(self, inputs: Sequence[NDArray]) -> list[NDArray]:
        extractor = self.net.create_extractor()
        mats = []  # they must live until the last result is out
        for spec, array in zip(self.inputs, inputs, strict=True):
            if array.shape[0] != 1:
                problem = f"ncnn takes one image a run, and was given {array.shape[0]}"
                raise BackendError(problem, "write input.batch: 1 in the bundle, or use another backend")
            if array.dtype != np.float32 or (spec.shape and array.shape != spec.shape):
                problem = f"ncnn was given {array.dtype} {list(array.shape)} for {spec}"
                raise BackendError(problem, "correct the input's size, layout (nchw) and dtype (float32) in the bundle")
            mat = self.make_mat(np.ascontiguousarray(array[0]))
            if spec.name not in self.shareable:
                mat = mat.clone()
            mats.append(mat)
            extractor.input(spec.name, mat)
        results = []
        for name in self.names:
            code, mat = extractor.extract(name)
            if code != 0 or mat.empty():
                problem = f"ncnn failed while computing {name} (code {code})"
                raise BackendError(problem, "check the input's size, or convert the model again")
            results.append(np.array(mat, copy=False)[np.newaxis])
        return results

    def describe(self) -> SessionDescription:
        return SessionDescription("ncnn", version(), "cpu", self.precision, self.options.threads)

    def close(self) -> None:
        self.net = None


def _shape(shapes: Mapping[str, tuple[int, ...]], name: str, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """A tensor's shape: as the caller says, else as the file does, batch put in front."""
    return shapes.get(name) or ((1, *sizes) if sizes else shapes.get("", ()))
