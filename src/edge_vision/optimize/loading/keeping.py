"""Images made once and kept: a folder of the cache, named by everything that they depend on, whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_vision.paths import cache_directory

FORMAT = 1
_IMAGES, _ROWS = "images.npy", "rows.npz"


class Item(NamedTuple):
    """An image (H, W, 3) uint8, rows of its truth (N, 5) float32: class and box xyxy, and the number of its clip."""

    image: NDArray[np.uint8]
    rows: NDArray[np.float32]
    clip: int


class Kept(NamedTuple):
    """images (N, H, W, 3), a view of the file; rows: truth of each; clips (N,)."""

    images: NDArray[np.uint8]
    rows: tuple[NDArray[np.float32], ...]
    clips: NDArray[np.int64]


def kept(
    name: str,
    depends: Mapping[str, Any],
    count: int,
    size: tuple[int, int],
    make: Callable[[], Iterable[Item]],
    cache: Path | None = None,
) -> Kept:
    """The `count` images of size (width, height) that `make` gives, from the cache where they are there.

    Fewer than `count` may come, more are left. They are read from the file as they are looked at, so that data larger
    than memory can be gone through. cache: folder, None for the user's. Where it cannot be written, a temporary one of
    the process is used. Raises what `make` raises; nothing is left behind then.
    """
    content = json.dumps({"format": FORMAT, **depends, "count": count, "size": size}, sort_keys=True, default=str)
    key = hashlib.sha256(content.encode()).hexdigest()[:20]
    try:
        root = cache if cache is not None else cache_directory("optimize", "data")
        root.mkdir(parents=True, exist_ok=True)
    except OSError:
        root = Path(tempfile.mkdtemp(prefix="edge_vision-data-"))
    folder = root / f"{name}-{key}"
    if not (folder / _ROWS).is_file():
        _make(folder, count, size, make)
    return _read(folder)


def _make(folder: Path, count: int, size: tuple[int, int], make: Callable[[], Iterable[Item]]) -> None:
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        images = np.lib.format.open_memmap(scratch / _IMAGES, "w+", np.uint8, (count, size[1], size[0], 3))
        rows: list[NDArray[np.float32]] = []
        clips: list[int] = []
        for item in make():
            if len(rows) == count:
                break
            images[len(rows)] = item.image
            rows.append(np.asarray(item.rows, np.float32).reshape(-1, 5))
            clips.append(item.clip)
        images.flush()
        del images
        table = np.concatenate([np.zeros((0, 5), np.float32), *rows])
        with (scratch / _ROWS).open("wb") as stream:
            np.savez(stream, rows=table, counts=[len(r) for r in rows], clips=np.array(clips, np.int64))
            stream.flush()
            os.fsync(stream.fileno())
        try:
            scratch.rename(folder)
        except OSError:
            if not (folder / _ROWS).is_file():  # else another process was faster
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _read(folder: Path) -> Kept:
    with np.load(folder / _ROWS) as stored:
        counts, table, clips = stored["counts"], stored["rows"], stored["clips"]
    images = np.load(folder / _IMAGES, mmap_mode="r")[: len(clips)]
    rows = tuple(np.split(table, np.cumsum(counts)[:-1])) if len(counts) else ()
    return Kept(images, rows, clips)


def sources_digest(places: Iterable[Path]) -> str:
    """Of Python files, and of those in folders: what a program makes depends on the program."""
    digest = hashlib.sha256()
    for place in places:
        for file in sorted(place.glob("*.py")) if place.is_dir() else [place]:
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
