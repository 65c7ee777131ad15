"""The bundle of a network: what the `inference` node runs."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from edge_vision.inference.bundle import FORMAT, Bundle, Variant, load_bundle
from edge_vision.inference.records import Record, write_records
from edge_vision.optimize.network import Network

CARD = "model.yaml"


def precision_of(proto: Any) -> str:
    """`int8`, `fp16`, `bf16` or `fp32`: what most of a graph's arithmetic is in."""
    from onnx import TensorProto

    if any(node.op_type in ("DequantizeLinear", "QLinearConv", "ConvInteger") for node in proto.graph.node):
        return "int8"
    kinds = [tensor.data_type for tensor in proto.graph.initializer if len(tensor.dims) > 1]
    for kind, name in ((TensorProto.FLOAT16, "fp16"), (TensorProto.BFLOAT16, "bf16")):
        if kinds.count(kind) > len(kinds) / 2:
            return name
    return "fp32"


def write_bundle(
    network: Network,
    folder: Path,
    *,
    measured: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    packed: bool = False,
) -> Bundle:
    """Writes `folder` (model.yaml and the model) whole, in the place of one that is there, and loads it.

    measured: figures for the variant's entry; provenance: is added to the original's; packed: the model's weights
    entropy-coded (`packing`), unpacked by who loads it. Raises ModelError where the result would not load.
    """
    bundle = network.bundle
    precision = precision_of(network.proto)
    content = network.proto.SerializeToString()
    name = "model.onnx"
    if packed:
        from edge_vision.inference.packing import SUFFIX
        from edge_vision.optimize.packing import pack

        content, name = pack(network.proto), f"model{SUFFIX}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        (scratch / name).write_bytes(content)
        variant = Variant("onnxruntime", precision, scratch / name, measured=dict(measured or {}))
        (scratch / CARD).write_text(_card(bundle, variant, provenance or {}), encoding="utf-8")
        load_bundle(scratch)
        scratch.chmod(0o755)
        if folder.exists():
            _replace(scratch, folder)
        else:
            scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return load_bundle(folder)


def _replace(new: Path, folder: Path) -> None:
    """The old folder is moved aside first: a rename cannot replace what is not empty."""
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
    folder.rename(aside / "old")
    try:
        new.rename(folder)
    except OSError:
        (aside / "old").rename(folder)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _card(bundle: Bundle, variant: Variant, provenance: Mapping[str, Any]) -> str:
    spec = {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(bundle.input).items()}
    entry: dict[str, Any] = {
        "backend": variant.backend,
        "precision": variant.precision,
        "file": variant.path.name,
        "sha256": variant.digest,
    }
    if variant.measured:
        entry["measured"] = dict(variant.measured)
    content: dict[str, Any] = {
        "format": FORMAT,
        "name": bundle.name,
        "task": bundle.task,
        "decoder": bundle.decoder,
        "labels": list(bundle.labels),
        "input": spec,
        "decoder_options": dict(bundle.decoder_options),
    }
    if bundle.task == "detect":
        content["thresholds"] = dataclasses.asdict(bundle.thresholds)
    content |= {
        "variants": [entry],
        "license": bundle.license,
        "provenance": dict(bundle.provenance) | dict(provenance),
    }
    kept = {key: value for key, value in content.items() if value not in ({}, "", [])}
    text = yaml.safe_dump(kept, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
    made = provenance.get("script") or f"edge_vision optimize from {bundle.name}"
    return f"# Written by {made}; see docs/optimize.md.\n{text}"


def prove(bundle: Bundle, proofs: Sequence[tuple[str, str, Mapping[str, Any], bool, str]]) -> None:
    """Records of what was measured, so that a node may choose the model by itself: (backend, version of its runtime,
    figures, whether the budget was kept, otherwise why not) of each backend that ran it."""
    variant = bundle.variants[0]
    records = [
        Record(
            backend=backend,
            device="cpu",
            precision=variant.precision,
            file=variant.path.name,
            sha256=variant.digest,
            runtime_version=version,
            passed=passed,
            problem=problem,
            measured=dict(figures),
        )
        for backend, version, figures, passed, problem in proofs
    ]
    write_records(bundle, records)


def exclusive(folder: Path) -> None:
    """Raises FileExistsError where `folder` holds what this program has not written."""
    if folder.exists() and (not folder.is_dir() or any(os.scandir(folder))):
        card = folder / CARD
        if not card.is_file() or "edge_vision optimize" not in card.read_text(encoding="utf-8")[:80]:
            raise FileExistsError(f"{folder} is there and no bundle of `edge_vision optimize`. Name another folder.")
