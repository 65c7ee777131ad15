"""Compiled engines on disk: what a runtime builds for this machine once, and takes again at the next start.

An entry is two files, the engine and a `.json` that says what it was built from and its SHA-256. The name holds a
digest of everything that the engine depends on, so that a new runtime, another GPU or an edited model is another entry;
a damaged or half-written one is no entry. The folder may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_vision.inference.backends import SessionOptions
from edge_vision.inference.errors import BackendError
from edge_vision.paths import cache_directory


def engine_folder(options: SessionOptions, backend: str) -> Path:
    """Where `backend` keeps its engines. Raises BackendError where that folder cannot be made."""
    try:
        if options.cache is None:
            return cache_directory(backend)
        options.cache.mkdir(parents=True, exist_ok=True)
        return options.cache
    except OSError as error:
        remedy = "name a folder that can be written with the environment variable EDGE_VISION_CACHE"
        raise BackendError(f"no folder for compiled engines: {error}", remedy) from error


@dataclass(frozen=True)
class CacheEntry:
    """The place of one engine: `file`, and the `facts` that it was built from."""

    file: Path
    facts: Mapping[str, str]

    @property
    def card(self) -> Path:
        return self.file.with_suffix(".json")

    def find(self) -> Path | None:
        """The engine's file where it is there and whole, else None."""
        try:
            card = json.loads(self.card.read_text("utf-8"))
            if card["facts"] == dict(self.facts) and card["sha256"] == _sha256(self.file.read_bytes()):
                return self.file
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    @contextlib.contextmanager
    def build(self) -> Iterator[Path]:
        """A path to write the engine to, in the same folder; it becomes the entry when the block ends without an error.

        Two processes that build the same entry at once do not disturb each other: the later one replaces the earlier.
        """
        with tempfile.TemporaryDirectory(dir=self.file.parent, prefix=".building-") as folder:
            new = Path(folder) / self.file.name
            yield new
            content = {"facts": dict(self.facts), "sha256": _sha256(new.read_bytes())}
            card = Path(folder) / self.card.name
            card.write_text(json.dumps(content, indent=1), "utf-8")
            os.replace(new, self.file)
            os.replace(card, self.card)

    def drop(self) -> None:
        """Forget the entry."""
        for file in (self.card, self.file):
            file.unlink(missing_ok=True)


def cache_entry(folder: Path, model: Path, suffix: str, facts: Mapping[str, str]) -> CacheEntry:
    """The entry of `model` built under `facts` (runtime's version, device, precision, shapes, ...), there or not.

    The model's content counts, not its name or place.
    """
    facts = {"model": _sha256(model.read_bytes()), **facts}
    digest = _sha256(json.dumps(facts, sort_keys=True).encode())[:20]
    return CacheEntry(folder / f"{model.stem}-{digest}{suffix}", facts)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
