"""Checkpoints and logs of a training: written whole, and taken up again only by the training that wrote them."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edge_vision.optimize.data import Split
from edge_vision.whole_files import write_bytes

CHECKPOINT = "checkpoint.pt"
LOG = "training.csv"


def save(work: Path, state: Mapping[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_bytes(work / CHECKPOINT, buffer.getvalue())


def load(work: Path, fingerprint: str) -> tuple[dict[str, Any] | None, str]:
    """The state of a training with this fingerprint, and a line for people where there is one that does not fit."""
    path = work / CHECKPOINT
    if not path.is_file():
        return None, ""
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        found = state["fingerprint"]
    except Exception:  # torch.load raises what its zip, pickle and storage readers do
        return None, f"{path.name} cannot be read; the training begins anew"
    if found != fingerprint:
        return None, f"{path.name} is of other settings, weights or data; the training begins anew"
    return state, ""


def write_log(work: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Losses by epoch as CSV, in columns that `edge_vision diagnose training` reads."""
    if not rows:
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: f"{v:.7g}" if isinstance(v, float) else v for k, v in row.items()})
    write_bytes(work / LOG, text.getvalue().encode())


def fingerprint(*things: Any) -> str:
    """What a training depends on, as a digest. Images count by a sample of their pixels."""
    digest = hashlib.sha256()
    for thing in things:
        if isinstance(thing, Split):
            _add_split(digest, thing)
        elif isinstance(thing, bytes):
            digest.update(thing)
        else:  # addresses of objects differ from run to run
            digest.update(re.sub(r" at 0x[0-9a-f]+", "", repr(thing)).encode())
        digest.update(b"\0")
    return digest.hexdigest()


def _add_split(digest: Any, split: Split) -> None:
    images = split.images
    digest.update(repr(images.shape).encode())
    digest.update(np.ascontiguousarray(images[:, 3::16, 5::16]).tobytes())
    if isinstance(split.truth, tuple):
        for found in split.truth:
            digest.update(np.ascontiguousarray(found.boxes).tobytes())
            digest.update(np.ascontiguousarray(found.class_ids).tobytes())
    else:
        digest.update(np.ascontiguousarray(split.truth).tobytes())
