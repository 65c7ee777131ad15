"""Writing bundles: a new one for a bare model file, a copy, and a variant more in an existing model.yaml.

What a person wrote into a model.yaml stays as it is: comments, order and spelling; only the entry in question is
touched.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from edge_vision.inference.bundle import FORMAT, Bundle, Variant, load_bundle, model_files
from edge_vision.inference.errors import ModelError
from edge_vision.inference.preprocess import InputSpec

CARD = "model.yaml"
WIDTH = 120


def home(bundle: Bundle, out: Path | None = None) -> Bundle:
    """See `conversion.home`."""
    bare = bundle.file.suffix not in (".yaml", ".yml")
    if out is None:
        if bundle.seal:
            raise ModelError(
                bundle.folder, "is packaged: another file in it would break its seal", "convert first, then package it"
            )
        if not bare:
            return bundle
        place = bundle.folder if os.access(bundle.folder, os.W_OK) else Path.cwd()
        out = place / f"{bundle.file.stem}_bundle"
    if (out / CARD).is_file():
        return _same(bundle, load_bundle(out))
    out.mkdir(parents=True, exist_ok=True)
    for variant in bundle.variants:
        for file in model_files(variant.path if bare else variant.file):
            target = out / file.name if bare else out / file.relative_to(bundle.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    if bare:
        return _write(out / CARD, describe(dataclasses.replace(bundle, folder=out)))
    content = bundle.file.read_text(encoding="utf-8")
    labels = yaml.safe_load(content).get("labels")
    if isinstance(labels, str):
        shutil.copyfile(bundle.folder / labels, out / labels)
    return _write(out / CARD, content)


def _same(bundle: Bundle, there: Bundle) -> Bundle:
    wanted = {variant.digest for variant in bundle.variants if variant.path.suffix == ".onnx"}
    found = {variant.digest for variant in there.variants if variant.path.suffix == ".onnx"}
    if wanted & found:
        return there
    raise ModelError(there.file, f"is the bundle of another model than {bundle.file}", "name another folder with --out")


def describe(bundle: Bundle) -> str:
    """The text of a model.yaml for `bundle`, whose files lie in its folder."""
    content: dict[str, Any] = {
        "format": FORMAT,
        "name": bundle.name,
        "task": bundle.task,
        "decoder": bundle.decoder,
        "labels": list(bundle.labels),
        "input": _input(bundle.input, None),
        "decoder_options": dict(bundle.decoder_options),
        "thresholds": dataclasses.asdict(bundle.thresholds) if bundle.task == "detect" else {},
        "variants": [
            _entry(
                dataclasses.replace(v, path=bundle.folder / v.path.name, sha256=v.digest),
                bundle,
            )
            for v in bundle.variants
        ],
        "license": bundle.license,
        "provenance": dict(bundle.provenance),
    }
    kept = {key: value for key, value in content.items() if value not in ({}, "")}
    return f"# Written by edge_vision convert from {bundle.file.name}; see docs/inference.md.\n" + _dump(kept)


def _dump(content: object) -> str:
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=WIDTH, allow_unicode=True)


def _input(spec: InputSpec, usual: InputSpec | None) -> dict[str, Any]:
    """Fields of an input, those alone that differ from `usual` where that is given."""
    fields = {name: _plain(value) for name, value in dataclasses.asdict(spec).items()}
    if usual is None:
        return fields
    before = {name: _plain(value) for name, value in dataclasses.asdict(usual).items()}
    return {name: value for name, value in fields.items() if value != before[name]}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _entry(variant: Variant, bundle: Bundle) -> dict[str, Any]:
    """A variant as model.yaml has it."""
    entry: dict[str, Any] = {
        "backend": variant.backend,
        "precision": variant.precision,
        "file": variant.path.relative_to(bundle.folder).as_posix(),
        "sha256": variant.sha256,
    }
    if variant.input is not None:
        entry["input"] = _input(variant.input, bundle.input)
    if variant.outputs:
        entry["outputs"] = [
            {"name": output.name, "transpose": list(output.transpose)} if output.transpose else {"name": output.name}
            for output in variant.outputs
        ]
    if variant.measured:
        entry["measured"] = dict(variant.measured)
    return {key: value for key, value in entry.items() if value not in ({}, "")}


def add_variant(bundle: Bundle, variant: Variant, suffix: str = "") -> Bundle:
    """Put `variant`, whose file lies in the bundle's folder, into its model.yaml; the bundle as it is then.

    It takes the place of one with the same backend and precision whose file ends with `suffix` (that of the variant's
    file unless given), and stands at the end otherwise. Raises ModelError where the result would not load; the file is
    then what it was.
    """
    suffix = suffix or variant.path.suffix
    text = bundle.file.read_text(encoding="utf-8")
    same = [
        index
        for index, old in enumerate(bundle.variants)
        if (old.backend, old.precision, old.path.suffix) == (variant.backend, variant.precision, suffix)
    ]
    entry = _entry(variant, bundle)
    return _write(bundle.file, splice(text, entry, same[0] if same else None))


def splice(text: str, entry: Mapping[str, Any], index: int | None) -> str:
    """The text of a model.yaml with `entry` as its variant number `index`, or as one more for None; the rest
    untouched."""
    root: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    node = next(value for key, value in root.value if key.value == "variants")
    if node.flow_style:  # [{...}, {...}]: written anew as a block
        items = yaml.safe_load(text)["variants"]
        place = slice(len(items), None) if index is None else slice(index, index + 1)
        items[place] = [dict(entry)]
        return f"{text[: node.start_mark.index].rstrip()}\n{_dump(items).rstrip()}{text[_end(node) :]}"
    first = node.value[0].start_mark
    indent = first.column - (first.index - text.rfind("-", 0, first.index))  # of the dashes
    if index is None:
        last = _end(node.value[-1])
        line_end = text.find("\n", last)
        line_end = len(text) if line_end < 0 else line_end
        return f"{text[:line_end]}\n{_block(entry, indent)}{text[line_end:]}"
    old = node.value[index]
    start = text.rfind("-", 0, old.start_mark.index) - indent
    return f"{text[:start]}{_block(entry, indent)}{text[_end(old) :]}"


def _block(entry: Mapping[str, Any], indent: int) -> str:
    """A sequence item in block style, without its last line end."""
    lines = _dump([dict(entry)]).rstrip("\n").splitlines()
    return "\n".join(" " * indent + line for line in lines)


def _end(node: Any) -> int:
    """Where the text of a YAML node ends: its last scalar or bracket (a block's own mark is behind what follows)."""
    if isinstance(node, yaml.ScalarNode) or node.flow_style:
        return node.end_mark.index
    last = node.value[-1]
    return _end(last[1] if isinstance(last, tuple) else last)


def _write(file: Path, text: str) -> Bundle:
    """Replace `file` at once, after it was seen to load."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=".model-", suffix=".yaml")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        load_bundle(temporary)
        temporary.chmod(file.stat().st_mode & 0o777 if file.exists() else 0o644)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    return load_bundle(file)
