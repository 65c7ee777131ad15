"""From a bundle to a variant more: the part of a conversion that is the same for all converters."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Frame
from edge_vision.inference.backends import SessionOptions, backend
from edge_vision.inference.bundle import Bundle, OutputSpec, Variant, model_files, model_sha256
from edge_vision.inference.conversion import bundle_writer, graph
from edge_vision.inference.conversion.contract import (
    TOLERANCES,
    Conversion,
    ConversionError,
    Produced,
    Progress,
    Source,
    converter,
)
from edge_vision.inference.conversion.matching import match
from edge_vision.inference.decoders import extra_inputs
from edge_vision.inference.errors import BackendError, ModelError
from edge_vision.inference.opening import require
from edge_vision.inference.preprocess import InputSpec, Preprocessor


def home(bundle: Bundle, out: Path | None = None) -> Bundle:
    """The bundle that conversions of `bundle` go into.

    A bundle's own folder; for a bare model file a new bundle, `<stem>_bundle` beside it (or here, where that cannot be
    written). out: another folder, which gets a copy of the bundle, or holds one of the same model already.

    Raises ModelError where `out` holds another model's bundle, OSError where it cannot be written.
    """
    return bundle_writer.home(bundle, out)


def convert(
    bundle: Bundle,
    target: str,
    precision: str = "fp32",
    out: Path | None = None,
    *,
    force: bool = False,
    progress: Progress = lambda line: None,
) -> Conversion:
    """Convert the fp32 ONNX file of `bundle` for the backend `target` and add the result to the bundle (see `home`).

    The result is compared with ONNX Runtime's on a random image before it is taken. force: also where the bundle has
    such a variant, which is replaced.

    Raises ConversionError (the converter is missing, fails, cannot do that precision, or its result differs by more
    than `TOLERANCES`), BackendError (the runtime that would check it is not installed), ModelError (the bundle or its
    file).
    """
    begun = time.perf_counter()
    module = converter(target)
    if precision not in module.PRECISIONS:
        made = ", ".join(module.PRECISIONS)
        raise ConversionError(f"conversion to {target} does not make {precision}", f"choose one of {made}")
    there = [
        v for v in bundle.variants if (v.backend, v.precision, v.path.suffix) == (target, precision, module.SUFFIX)
    ]
    if there and not force:
        problem = f"the bundle has {there[0].path.name} for {target} in {precision} already"
        raise ConversionError(problem, "use --force to make it anew")
    missing = module.available()
    if missing:
        raise ConversionError(f"conversion to {target} cannot be done here: {missing}", f"it needs {module.NEEDS}")
    require(target)
    with TemporaryDirectory(prefix="edge_vision_convert_") as scratch:
        folder = Path(scratch)
        prepared = prepare(bundle, module.PLAIN, folder)
        results = folder / "results"
        results.mkdir()
        produced = module.convert(prepared.source, precision, results, progress)
        progress(f"comparing {produced.path.name} with ONNX Runtime")
        checked = check(target, precision, produced, prepared)
        own = home(bundle, out)
        stem = f"{prepared.original.stem}_{target}_{precision}"
        path = _move(produced.path, own.folder / f"{stem}{produced.path.suffix}")
        variant = Variant(
            backend=target,
            precision=precision,
            path=path,
            sha256=model_sha256(path),
            measured={"raw_error": float(f"{checked.error:.2g}"), **produced.notes},
            input=checked.spec if checked.spec != bundle.input else None,
            outputs=checked.outputs,
        )
        bundle_writer.add_variant(own, variant, module.SUFFIX)
    size = sum(file.stat().st_size for file in model_files(path))
    return Conversion(target, precision, variant, own.folder, size, checked.error, time.perf_counter() - begun)


def _move(source: Path, destination: Path) -> Path:
    """The model's file and the weights beside it, under the name of `destination`."""
    for file in model_files(source):
        target = destination.with_suffix(file.suffix)
        shutil.move(file, target)
        target.chmod(0o644)  # one converter writes programs
    return destination


@dataclass(frozen=True)
class Prepared:
    """What is converted, and what it is compared with.

    original: the bundle's file; image: a frame of the network's size in noise; references: ONNX Runtime's outputs for
    it, in fp32.
    """

    source: Source
    original: Path
    image: Frame
    references: Sequence[NDArray]


def prepare(bundle: Bundle, plain: bool, folder: Path) -> Prepared:
    """The bundle's ONNX file with its sizes fixed and one input; plain: without the head that cameras like (graph.py).

    A file that is so already is left as it is. Raises ModelError where the bundle has no fp32 ONNX file or it cannot be
    run, BackendError where ONNX Runtime is missing.
    """
    originals = [v for v in bundle.variants if v.path.suffix == ".onnx" and v.precision == "fp32" and v.input is None]
    if not originals:
        raise ModelError(bundle.file, "has no fp32 .onnx file, which conversions start from", "add one", "variants")
    path = originals[0].path
    model = graph.load(path)
    session = require("onnxruntime").open(path, SessionOptions())
    try:
        names = {spec.name for spec in session.inputs}
        spec = bundle.input
        constants = extra_inputs(bundle.decoder, session.inputs, spec.width, spec.height) if len(names) > 1 else {}
        images = names - set(constants)
        if len(images) != 1 or (spec.name and spec.name not in images):
            listed = ", ".join(map(str, session.inputs))
            raise ModelError(path, f"has not one input for the image: {listed}", "correct input.name in the bundle")
        spec = replace(spec, name=images.pop())
        image = noise(spec)
        tensor, _ = Preprocessor(spec)(image)
        inputs = [tensor if one.name == spec.name else constants[one.name] for one in session.inputs]
        try:
            references = [np.array(array) for array in session.run(inputs)]
        except Exception as error:  # onnxruntime's own classes
            problem = f"ONNX Runtime cannot run it: {str(error).strip().splitlines()[0]}"
            raise ModelError(path, problem, "correct the bundle's input, or export the model again") from error
        outputs = {one.name: array.shape for one, array in zip(session.outputs, references, strict=True)}
    finally:
        session.close()
    source = path
    if not graph.is_fixed(model):
        graph.fix(model, spec, constants, outputs)
        source = folder / "fixed.onnx"
    fed = spec
    if plain:
        fed = graph.make_plain(model, spec)
        source = folder / "plain.onnx"
    if source != path:
        graph.save(model, source)
    if plain:
        graph.simplify(source)
    return Prepared(Source(source, fed, tuple(outputs)), path, image, references)


def noise(spec: InputSpec) -> Frame:
    """A frame of the network's size in uniform noise, the same every time."""
    shape = (spec.height, spec.width, 3) if spec.channels == 3 else (spec.height, spec.width)
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return Frame(image, encoding="bgr8" if spec.channels == 3 else "mono8")


@dataclass(frozen=True)
class Checked:
    """error: the greatest of all outputs; spec: how the file is fed, its input's real name included."""

    error: float
    spec: InputSpec
    outputs: tuple[OutputSpec, ...]


def check(target: str, precision: str, produced: Produced, prepared: Prepared) -> Checked:
    """Open what was produced with its backend and compare it with the references.

    Raises ConversionError where it cannot be opened or run, or differs by more than the tolerance.
    """
    spec = produced.spec
    shapes = {spec.name: spec.shape, "": spec.shape}
    try:
        options = SessionOptions(backend(target).devices()[0], precision, input_shapes=shapes)
        session = backend(target).open(produced.path, options)
    except (ModelError, BackendError) as error:
        problem = f"the result cannot be opened by {target}: {error.problem}"
        raise ConversionError(problem, "use another backend for this model") from error
    try:
        taken = session.inputs[0]
        if len(session.inputs) != 1 or (taken.shape and taken.shape != spec.shape) or taken.dtype != spec.dtype:
            found = ", ".join(map(str, session.inputs))
            problem = f"the result takes {found} instead of {spec.dtype} {list(spec.shape)}"
            raise ConversionError(problem, "use another backend for this model")
        tensor, _ = Preprocessor(spec)(prepared.image)
        results = [np.array(array) for array in session.run([tensor])]
        names = [one.name for one in session.outputs]
    except BackendError as error:
        raise ConversionError(f"the result cannot be run: {error.problem}", "use another backend") from error
    finally:
        session.close()
    matches = match(results, prepared.references)
    if matches is None:
        made = ", ".join(str(list(array.shape)) for array in results)
        wanted = ", ".join(str(list(array.shape)) for array in prepared.references)
        problem = f"the result's outputs have the shapes {made} instead of {wanted}"
        raise ConversionError(problem, "use another backend for this model")
    worst = max(error for _, _, error in matches)
    tolerance = TOLERANCES[precision]
    if worst > tolerance:
        problem = (
            f"the result differs from ONNX Runtime by {worst:.2g} of the output's range; {tolerance:g} is accepted"
        )
        raise ConversionError(f"{problem} for {precision}", "use another precision, or another backend for this model")
    as_is = [(index, axes) for index, axes, _ in matches] == [(index, ()) for index in range(len(names))]
    outputs = () if as_is else tuple(OutputSpec(names[index], axes) for index, axes, _ in matches)
    return Checked(worst, replace(spec, name=taken.name), outputs)
