"""Model bundles: what a network is for, what it eats and what its outputs mean, and the files that hold it.

A bundle is a folder with `model.yaml` (format in docs/inference.md), that file itself, or a bare `.onnx`. One that was
packaged (signed, encrypted) is opened through `security`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_vision.datatypes import Labels
from edge_vision.inference import preprocess
from edge_vision.inference.backends import BACKENDS
from edge_vision.inference.decoders import TASKS, task_of
from edge_vision.inference.errors import ModelError
from edge_vision.inference.labels import KNOWN
from edge_vision.inference.packing import SUFFIX as PACKED
from edge_vision.inference.packing import is_packed
from edge_vision.inference.preprocess import InputSpec
from edge_vision.inference.schema import REQUIRED, Section, read_yaml
from edge_vision.inference.unpacked import Unpacked

FORMAT = 1
MOST_IMAGES = 256  # in a batch
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
MODEL_SUFFIXES = (".onnx", ".ort", ".xml", ".tflite", ".param", ".engine", ".plan", ".pt2", ".pte", ".torchscript")
"""Files that hold a model by themselves; `.param` and `.xml` have their weights in a `.bin` beside them."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """score: least score of a detection; iou: overlap above which the lower of two boxes is dropped;
    class_agnostic: also across classes."""

    score: float = 0.3
    iou: float = 0.5
    max_detections: int = 300
    class_agnostic: bool = False


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """An output of a variant: its name in the file, and the order of axes that makes it what the decoder reads, ()
    where it is that already (a TFLite file often has channels last)."""

    name: str
    transpose: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Variant:
    """One file of a model.

    backend: that it was made for; sha256: of the file, "" where not stated; measured: figures, free of form; input: how
    this file is fed where that is not as the bundle says, None where it is; outputs: those to read and in which order,
    () for all of the file as they are. Of a packed model (`packing`), path and sha256 are those of the ONNX file that
    it holds, and unpacked is what keeps that there.
    """

    backend: str
    precision: str
    path: Path
    sha256: str = ""
    measured: Mapping[str, Any] = field(default_factory=dict, hash=False)
    input: InputSpec | None = None
    outputs: tuple[OutputSpec, ...] = ()
    unpacked: Unpacked | None = field(default=None, compare=False, repr=False)

    @property
    def file(self) -> Path:
        """As it lies in the bundle: packed, where it is."""
        return self.unpacked.packed if self.unpacked else self.path

    @property
    def digest(self) -> str:
        """The sum of the file: the stated one, which was compared when the bundle was loaded, else computed."""
        return self.sha256 or model_sha256(self.path)


@dataclass(frozen=True)
class Bundle:
    """A model ready to be opened by `Engine.load`, by `Embedder.load` where its task is re-identification, and by
    `Classifier.load` where it is classify.

    labels is empty where only the outputs tell how many classes there are, and where there are none. seal: who signed
    it, "" where it was not packaged; scratch: the only place for what is made from an encrypted model, None for the
    caches.
    """

    name: str
    task: str
    decoder: str
    labels: Labels
    input: InputSpec
    thresholds: Thresholds
    variants: tuple[Variant, ...]
    folder: Path
    file: Path
    decoder_options: Mapping[str, Any] = field(default_factory=dict)
    license: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    seal: str = ""
    scratch: Path | None = None


def load_bundle(
    path: str | Path,
    *,
    decoder: str | None = None,
    labels: Sequence[str] | str | Path | None = None,
    decoder_options: Mapping[str, Any] | None = None,
    **input_overrides: Any,
) -> Bundle:
    """The model at `path`: a bundle's folder, its model.yaml, or a bare file of `MODEL_SUFFIXES` or packed.

    decoder: name of a decoder, overriding what the file says or its outputs look like. labels: the class names, a
    file with one a line, or a table's name (coco, coco90, coco91). input_overrides: fields of `InputSpec`
    (colour="rgb", resize="letterbox", width=640).

    Raises ModelError, with the file, the key, what is wrong and the remedy, for everything that cannot be used: a
    missing file, a wrong or unknown key, a file whose sha256 is not the one stated, a file that is not ONNX, outputs
    that fit no decoder, a packaged bundle that was changed or is encrypted.
    """
    path = Path(path).expanduser()
    known = tuple(name for decoders in TASKS.values() for name in decoders)
    if decoder is not None and decoder not in known:
        raise ModelError(path, f"there is no decoder {decoder!r}", f"choose one of {', '.join(known)}")
    if not path.exists():
        raise ModelError(
            path, "there is no such file or folder", "check the path; a bundle is a folder with model.yaml"
        )
    seal = _check_seal(path)
    if path.is_dir():
        path = path / "model.yaml"
        if not path.is_file():
            raise ModelError(
                path, "missing", f"name a folder that holds model.yaml, or an .onnx file{_nearby(path.parent)}"
            )
    if path.suffix in MODEL_SUFFIXES:
        from edge_vision.inference.bare import bare_bundle

        bundle = bare_bundle(path, decoder, input_overrides)
    elif is_packed(path):
        bundle = _bare_packed(path, decoder, input_overrides)
    elif path.suffix in (".yaml", ".yml"):
        bundle = _from_yaml(path)
    else:
        raise ModelError(
            path,
            f"is no model file (suffix {path.suffix!r})",
            f"give a bundle's folder, or one of {', '.join((*MODEL_SUFFIXES, PACKED))}",
        )
    if input_overrides:
        given = Section(input_overrides, path, "input override ")
        bundle = dataclasses.replace(
            bundle,
            input=read_input(given, dataclasses.asdict(bundle.input)),
            variants=tuple(_overridden(variant, input_overrides, path) for variant in bundle.variants),
        )
    changes: dict[str, Any] = {"seal": seal} if seal else {}
    if decoder:
        changes |= {"decoder": decoder, "task": task_of(decoder)}
    if labels is not None:
        changes["labels"] = tuple(labels) if not isinstance(labels, (str, Path)) else _named_labels(labels, Path())
    if decoder_options is not None:
        found = {} if path.suffix in (".yaml", ".yml") else bundle.decoder_options  # of a bare file, from its metadata
        changes["decoder_options"] = {**found, **decoder_options}
    return dataclasses.replace(bundle, **changes) if changes else bundle


def _bare_packed(path: Path, decoder: str | None, overrides: Mapping[str, Any]) -> Bundle:
    from edge_vision.inference.bare import bare_bundle

    unpacked = Unpacked(path)
    try:
        bundle = bare_bundle(unpacked.path, decoder, overrides)
    except ModelError as error:
        raise ModelError(path, error.problem, error.remedy, error.key) from error
    variants = tuple(_unpacked(variant, unpacked) for variant in bundle.variants)
    return dataclasses.replace(bundle, variants=variants, folder=path.parent, file=path)


def _unpacked(variant: Variant, unpacked: Unpacked) -> Variant:
    return dataclasses.replace(variant, path=unpacked.path, sha256=unpacked.sha256, unpacked=unpacked)


def _check_seal(path: Path) -> str:
    """Of a bundle that was packaged, the files are those that were: who signed it, "" for others. Raises ModelError."""
    folder = path if path.is_dir() else path.parent
    if path.suffix == ".evb":
        remedy = "the inference node opens it; `edge_vision package FILE -o FOLDER` unpacks it"
        raise ModelError(path, "is a packaged bundle in one file", remedy)
    if (path.is_dir() or path.suffix in (".yaml", ".yml")) and (folder / "seal.json").is_file():
        from edge_vision.inference.security import check_folder

        return str(check_folder(folder))
    return ""


def _overridden(variant: Variant, overrides: Mapping[str, Any], path: Path) -> Variant:
    """The variant with its own input overridden too, but for what is the file's own: name, layout and type."""
    if variant.input is None:
        return variant
    content = {key: value for key, value in overrides.items() if key not in ("name", "layout", "dtype")}
    given = Section(content, path, "input override ")
    return dataclasses.replace(variant, input=read_input(given, dataclasses.asdict(variant.input)))


def _nearby(folder: Path) -> str:
    found = sorted(file.name for file in folder.glob("*.onnx"))
    return f" (here: {', '.join(found)})" if found else ""


def _from_yaml(path: Path) -> Bundle:
    root = Section(read_yaml(path), path)
    version = root.take("format", int)
    if version != FORMAT:
        raise root.error("format", f"is {version}", f"this version of edge_vision reads format {FORMAT}")
    spec = root.section("input")
    task = root.take("task", str, choices=tuple(TASKS))
    finds_boxes = task == "detect"
    bundle = Bundle(
        name=root.take("name", str),
        task=task,
        decoder=root.take("decoder", str, REQUIRED if finds_boxes else next(iter(TASKS[task])), tuple(TASKS[task])),
        labels=_labels(root) if task != "re-identification" else (),
        input=read_input(spec, {}),
        thresholds=_thresholds(root.section("thresholds", {})) if finds_boxes else Thresholds(),
        variants=(),
        folder=path.parent,
        file=path,
        decoder_options=root.take("decoder_options", dict, {}),
        license=root.take("license", str, ""),
        provenance=root.take("provenance", dict, {}),
    )
    variants = tuple(_variant(section, path.parent, bundle.input) for section in root.sections("variants"))
    if not finds_boxes:  # written by tools that know bundles of detectors
        root.taken += [key for key in ("labels", "thresholds") if not root.content.get(key)]
    root.finish()
    if finds_boxes and bundle.input.batch != 1:
        raise spec.error("batch", f"is {bundle.input.batch}", "frames come one at a time: leave it out for a detector")
    if not variants:
        raise root.error("variants", "is empty", "list at least one file of the model")
    return dataclasses.replace(bundle, variants=variants)


def read_input(section: Section, defaults: Mapping[str, Any]) -> InputSpec:
    """An `InputSpec` from a mapping; a key that is absent takes its default, or is required."""

    def get(key: str, fallback: Any = REQUIRED) -> Any:
        return defaults.get(key, fallback)

    colour = section.take("colour", str, get("colour"), preprocess.COLOURS)
    channels = 1 if colour == "mono" else 3
    spec = InputSpec(
        width=section.take("width", int, get("width")),
        height=section.take("height", int, get("height")),
        name=section.take("name", str, get("name", "")),
        layout=section.take("layout", str, get("layout"), preprocess.LAYOUTS),
        dtype=section.take("dtype", str, get("dtype"), preprocess.DTYPES),
        colour=colour,
        scale=section.take("scale", float, get("scale", 1.0)),
        mean=section.numbers("mean", get("mean", (0.0,) * channels), channels),
        std=section.numbers("std", get("std", (1.0,) * channels), channels),
        resize=section.take("resize", str, get("resize"), preprocess.RESIZE_RULES),
        pad_value=section.take("pad_value", int, get("pad_value", 114)),
        interpolation=section.take(
            "interpolation", str, get("interpolation", "linear"), tuple(preprocess.INTERPOLATIONS)
        ),
        batch=section.take("batch", int, get("batch", 1)),
    )
    section.finish()
    for key in ("width", "height"):
        if not 1 <= getattr(spec, key) <= 16384:
            raise section.error(key, f"is {getattr(spec, key)}", "give a size in pixels, 1 to 16384")
    if not 1 <= spec.batch <= MOST_IMAGES:
        raise section.error("batch", f"is {spec.batch}", f"give how many images a run takes, 1 to {MOST_IMAGES}")
    if not 0 <= spec.pad_value <= 255:
        raise section.error("pad_value", f"is {spec.pad_value}", "give a pixel value, 0 to 255")
    if not all(spec.std):
        raise section.error("std", f"is {list(spec.std)}", "give divisors other than 0 (1 for none)")
    if spec.dtype == "uint8" and spec.normalised:
        remedy = "use scale 1, mean 0 and std 1, with the normalisation inside the model; or dtype float32"
        raise section.error("dtype", "is uint8, which cannot hold normalised values", remedy)
    return spec


def _thresholds(section: Section) -> Thresholds:
    default = Thresholds()
    thresholds = Thresholds(
        score=section.take("score", float, default.score),
        iou=section.take("iou", float, default.iou),
        max_detections=section.take("max_detections", int, default.max_detections),
        class_agnostic=section.take("class_agnostic", bool, default.class_agnostic),
    )
    section.finish()
    for key in ("score", "iou"):
        if not 0 <= getattr(thresholds, key) <= 1:
            raise section.error(key, f"is {getattr(thresholds, key)}", "give a number from 0 to 1")
    if thresholds.max_detections < 1:
        raise section.error("max_detections", f"is {thresholds.max_detections}", "give at least 1")
    return thresholds


def _labels(root: Section) -> Labels:
    value = root.content.get("labels")
    if isinstance(value, str):
        root.taken.append("labels")
        return _named_labels(value, root.file.parent)
    names = root.take("labels", list)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise root.error("labels", f"is {names!r}", "list the class names as text (quote those like yes, no or 1)")
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise root.error("labels", f"names {', '.join(twice)} twice", "give every class a name of its own")
    return tuple(names)


def _named_labels(name: str | Path, folder: Path) -> Labels:
    """A table known by its name, such as coco, or a labels file."""
    return KNOWN[name] if isinstance(name, str) and name in KNOWN else read_labels(folder / name)


def read_labels(path: Path) -> Labels:
    """Class names from a text file, one a line; blank lines at the end are ignored."""
    if not path.is_file():
        raise ModelError(path, "there is no such labels file", "give a text file with one class name a line", "labels")
    names = tuple(line.strip() for line in path.read_text(encoding="utf-8").strip().splitlines())
    if not names or not all(names):
        raise ModelError(path, "holds no names, or empty lines between them", "write one class name a line", "labels")
    return names


def _variant(section: Section, folder: Path, usual: InputSpec) -> Variant:
    given = section.section("input", {})
    outputs = section.sections("outputs", [])
    variant = Variant(
        backend=section.take("backend", str, choices=tuple(BACKENDS)),
        precision=section.take("precision", str, "fp32", PRECISIONS),
        path=folder / section.take("file", str),
        sha256=section.take("sha256", str, "").lower(),
        measured=section.take("measured", dict, {}),
        input=read_input(given, dataclasses.asdict(usual)) if given.content else None,
        outputs=tuple(_output(output) for output in outputs),
    )
    section.finish()
    if not variant.path.is_file():
        raise section.error("file", f"names {variant.path}, which is not there", "restore the file or correct the name")
    if variant.sha256:
        found = model_sha256(variant.path)
        if found != variant.sha256:
            problem = f"is {variant.sha256[:16]}..., but {variant.path.name} has {found[:16]}..."
            remedy = "the file was changed or not fully copied: restore it, or write the new sum if the change is meant"
            raise section.error("sha256", problem, f"{remedy} ({found})")
    return _unpacked(variant, Unpacked(variant.path)) if is_packed(variant.path) else variant


def _output(section: Section) -> OutputSpec:
    axes = section.take("transpose", list, [])
    if sorted(axes) != list(range(len(axes))):
        raise section.error("transpose", f"is {axes}", "give the order of the axes, e.g. [0, 3, 1, 2]")
    spec = OutputSpec(section.take("name", str), tuple(axes))
    section.finish()
    return spec


def model_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a model's file; where its weights lie beside it (`.param` and `.xml` with their `.bin`),
    of the two, one after the other (`cat model.param model.bin | sha256sum`)."""
    digest = hashlib.sha256()
    for file in model_files(path):
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def model_files(path: Path) -> tuple[Path, ...]:
    """The file of a variant and, where there is one, the file of its weights."""
    weights = path.with_suffix(".bin")
    return (path, weights) if path.suffix in (".param", ".xml") and weights.is_file() else (path,)
