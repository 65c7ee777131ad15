"""A bundle for a bare model file: what the file itself tells, filled up with the family's customs.

ONNX is read without any runtime. Other formats are opened by the backend that reads them, and so is an ONNX file whose
shapes, or whose decoder, only a run can tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference import file_metadata
from edge_vision.inference.backends import BACKENDS, Session, SessionOptions, backend
from edge_vision.inference.bundle import PRECISIONS, Bundle, Thresholds, Variant, read_input
from edge_vision.inference.decoders import (
    DECODERS,
    Setup,
    default_input,
    extra_inputs,
    known_decoders,
    plausible,
    recognise,
    task_of,
)
from edge_vision.inference.decoders import decoder as decoder_module
from edge_vision.inference.errors import BackendError, ModelError
from edge_vision.inference.file_metadata import Metadata
from edge_vision.inference.labels import default_labels
from edge_vision.inference.onnx_header import TensorSpec, read_onnx_header
from edge_vision.inference.preprocess import DTYPES
from edge_vision.inference.schema import Section

CROPS = 8  # that are embedded or classified in one run where the file leaves the batch open

HOW_TO_ANSWER = (
    "say which: `decoder:={}` at launch, `--decoder {}` on the command line, or `decoder: {}` in a model.yaml"
)


def bare_bundle(path: Path, decoder: str | None, overrides: Mapping[str, Any]) -> Bundle:
    """The bundle of the model file at `path`; see `load_bundle` for the arguments and errors.

    Raises BackendError where the file's format is read by no backend that is installed.
    """
    file = _File(path, overrides, decoder)
    try:
        return _bundle(file, decoder, overrides)
    finally:
        file.close()


def _bundle(file: _File, decoder: str | None, overrides: Mapping[str, Any]) -> Bundle:
    path, metadata, tensor = file.path, file.metadata, file.image
    layout, width, height = file.layout, file.width, file.height
    outputs = file.outputs
    # Files of other formats may state shapes that a run does not keep to (TFLite: 1 where a size is open).
    if file.converted or any(None in spec.shape or not spec.shape for spec in outputs):
        outputs = file.measured()[0]
    name = decoder or _recognised(file, outputs)
    others = [spec.name for spec in file.inputs if spec.name != tensor.name]
    missing = set(others) - set(extra_inputs(name, file.inputs, width, height))
    if missing:
        found = ", ".join(str(spec) for spec in file.inputs)
        problem = f"the model has {len(file.inputs)} inputs: {found}"
        raise ModelError(path, problem, "use a model with one image as input")
    family = decoder_module(name)
    defaults = default_input(name, outputs, width, height, metadata.text(), lambda: file.measured()[1])
    defaults = dict(defaults) | {"width": width, "height": height, "layout": layout, "name": tensor.name}
    defaults["batch"] = file.batch
    defaults["dtype"] = overrides.get("dtype", tensor.dtype)
    if defaults["dtype"] not in DTYPES:
        raise ModelError(path, f"input {tensor.name} is {tensor.dtype}", f"use a model with one of {', '.join(DTYPES)}")
    if defaults["dtype"] == "uint8":
        # Pixels as they are: the normalisation is inside the graph, or in the scale of a quantised input.
        defaults |= {"scale": 1.0, "mean": (0.0,) * 3, "std": (1.0,) * 3}
    if file.channels == 1:
        defaults["colour"] = "mono"
        for key in {"mean", "std"} & set(defaults):
            defaults[key] = (float(np.mean(defaults[key])),)
    classes = family.classes_in(outputs, width, height) or 0
    labels = metadata.labels()
    options = {"classes": len(labels)} if metadata.task in ("segment", "pose") and 0 < len(labels) < classes else {}
    return Bundle(
        name=path.stem,
        task=task_of(name),
        decoder=name,
        labels=labels or default_labels(classes),
        input=read_input(Section({}, path), defaults),
        thresholds=Thresholds(score=family.DEFAULT_THRESHOLDS["score"], iou=family.DEFAULT_THRESHOLDS["iou"]),
        variants=(Variant(file.backend, file.precision, path),),
        folder=path.parent,
        file=path,
        decoder_options=options,
        license=str(metadata.properties.get("license", "")),
    )


def _recognised(file: _File, outputs: Sequence[TensorSpec]) -> str:
    """The decoder whose outputs these are. Raises ModelError for none, and with a question for several."""
    found = ", ".join(str(spec) for spec in outputs)
    where = f"for an input of {file.width}x{file.height}"
    fitting = recognise(outputs, file.width, file.height)
    if fitting and (len(fitting) > 1 or file.converted):
        specs, sample = file.measured()
        likely = plausible(fitting, Setup(file.path, file.width, file.height, specs, sample))
        if file.converted and not likely:
            problem = f"its outputs {found}, {where}, have the shape of {' or '.join(fitting)}, but not its values"
            remedy = "the converter may have transposed them: convert with `edge_vision convert`, which puts that right"
            raise ModelError(file.path, problem, f"{remedy}; or name the decoder if it is right nevertheless")
        fitting = likely or fitting
    if not fitting:
        problem = f"its outputs fit no decoder: {found}, {where}"
        if len(outputs) == 1 and len(outputs[0].shape) == 2:
            problem += (
                "; one row for the whole image is what classification models have, which find no boxes (decoder "
                "classification), and re-identification models (decoder embedding), which tracking takes as its "
                "appearance_model"
            )
        remedy = f"name the decoder, or export the model in one of the layouts known: {known_decoders()}"
        raise ModelError(file.path, problem, remedy)
    if len(fitting) > 1:
        kinds = " or ".join(f"{name} ({decoder_module(name).EXPECTS})" for name in fitting)
        problem = f"which made it? Its outputs {found}, {where}, can be those of {kinds}"
        raise ModelError(file.path, problem, HOW_TO_ANSWER.format(*[fitting[0]] * 3), "decoder")
    return fitting[0]


class _File:
    """A model file, with a session on it once something can only be measured.

    converted: it is not ONNX; inputs, outputs: as the file tells them; image: the input that takes the image, whose
    size is `width` x `height` in `layout` with `channels`.
    """

    def __init__(self, path: Path, overrides: Mapping[str, Any], decoder: str | None = None) -> None:
        self.path = path
        self.session: Session | None = None
        self._measured: tuple[tuple[TensorSpec, ...], tuple[NDArray, ...]] | None = None
        self.backend, self.precision = "onnxruntime", "fp32"
        self.converted = path.suffix != ".onnx"
        if not self.converted:
            header = read_onnx_header(path)
            self.inputs, self.outputs = header.inputs, header.outputs
            self.metadata = Metadata(path, header.metadata)
        else:
            self.metadata = file_metadata.beside(path)
            self._open({})
        try:
            self.image = self._image()
            self.layout, self.width, self.height = _image_size(path, self.image, self.metadata, overrides)
            self.batch = _batch(path, self.image, overrides, decoder)
        except ModelError:
            self.close()
            raise
        shape = self.image.shape
        self.channels = (shape[1 if self.layout == "nchw" else 3] if shape else None) or 3

    def _image(self) -> TensorSpec:
        images = [spec for spec in self.inputs if len(spec.shape) in (0, 4)]
        if len(images) == 1:
            return images[0]
        found = ", ".join(str(spec) for spec in self.inputs)
        if len(self.inputs) == 1:
            remedy = "use a model with an input [1, 3, H, W] or [1, H, W, 3]"
            raise ModelError(self.path, f"input {found} is no image", remedy)
        problem = f"the model has {len(self.inputs)} inputs: {found}"
        raise ModelError(self.path, problem, "use a model with one image as input")

    def _open(self, shapes: Mapping[str, tuple[int, ...]]) -> Session:
        """A session by the first backend that reads such files here."""
        readers = [name for name in BACKENDS if self.path.suffix in backend(name).FORMATS]
        # Those whose own format it is come first.
        readers.sort(key=lambda name: backend(name).FORMATS[0] != self.path.suffix)
        usable = next((name for name in readers if backend(name).available() is None), None)
        if usable is None:
            problem = f"{self.path.suffix} is read by {', '.join(readers) or 'no backend'}, and none of them works here"
            remedy = "; or ".join(f"{backend(name).REMEDY} ({backend(name).available()})" for name in readers)
            raise BackendError(problem, remedy or "give an .onnx file", str(self.path))
        session = backend(usable).open(self.path, SessionOptions(input_shapes=shapes))
        if self.converted:
            self.backend = usable
            precision = session.describe().precision
            self.precision = precision if precision in PRECISIONS else "fp32"
            self.inputs, self.outputs = session.inputs, session.outputs
        self.session = session
        return session

    def measured(self) -> tuple[tuple[TensorSpec, ...], tuple[NDArray, ...]]:
        """Outputs of one run on noise, with the shapes that it gave."""
        if self._measured is None:
            self._measured = self._run()
        return self._measured

    def _run(self) -> tuple[tuple[TensorSpec, ...], tuple[NDArray, ...]]:
        planes, size, batch = self.channels, (self.height, self.width), self.batch
        shape = (batch, planes, *size) if self.layout == "nchw" else (batch, *size, planes)
        noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        image = noise if self.image.dtype == "uint8" else (noise / 255).astype(self.image.dtype)
        # A session that knew no size was opened for another one, or for none.
        session = self.session if self.session and None not in self.image.shape and self.image.shape else None
        if session is None:
            self.close()
            session = self._open({self.image.name: shape})
        extras: dict[str, NDArray] = {}
        for name in DECODERS:
            extras |= extra_inputs(name, session.inputs, self.width, self.height)
        try:
            arrays = session.run([image if s.name == self.image.name else extras[s.name] for s in session.inputs])
        except Exception as error:  # each runtime raises classes of its own
            reason = (str(error).splitlines() or [""])[0]
            problem = f"does not run on an input of {self.width}x{self.height}: {reason}"
            raise ModelError(self.path, problem, "name the right width and height") from error
        arrays = [array.copy() for array in arrays]
        specs = tuple(TensorSpec(s.name, a.shape, a.dtype.name) for s, a in zip(session.outputs, arrays, strict=True))
        return specs, tuple(arrays)

    def close(self) -> None:
        if self.session is not None:
            self.session.close()
            self.session = None


def _image_size(
    path: Path, tensor: TensorSpec, metadata: Metadata, overrides: Mapping[str, Any]
) -> tuple[str, int, int]:
    """(layout, width, height) of the input tensor, filled up from overrides and metadata where the file leaves it
    open."""
    shape = tensor.shape or (None,) * 4
    layout = overrides.get("layout") or ("nhwc" if shape[3] in (1, 3) and shape[1] not in (1, 3) else "nchw")
    height, width = (shape[2], shape[3]) if layout == "nchw" else (shape[1], shape[2])
    known = metadata.size() or (None, None)
    width = overrides.get("width") or width or known[0]
    height = overrides.get("height") or height or known[1]
    if not isinstance(width, int) or not isinstance(height, int):
        raise ModelError(path, f"input {tensor} leaves the image's size open", "name it: width and height", "input")
    return layout, width, height


def _batch(path: Path, tensor: TensorSpec, overrides: Mapping[str, Any], decoder: str | None) -> int:
    """Images of one run: what the file says, and where it leaves that open what is asked for or usual for the task."""
    fixed = tensor.shape[0] if tensor.shape else None
    crops = decoder is not None and task_of(decoder) != "detect"
    if fixed not in (1, None) and not crops:
        raise ModelError(path, f"input {tensor} takes {fixed} images at once", "export the model with a batch of 1")
    return fixed or overrides.get("batch") or (CROPS if crops and tensor.shape else 1)
