"""A packed model, unpacked to memory for as long as something refers to it."""

from __future__ import annotations

import weakref
from pathlib import Path

from edge_vision.inference.packing import SUFFIX, content_sha256, unpack_file


class Unpacked:
    """packed: the file as it lies in the bundle; path: the ONNX file that it holds, in a folder that this process alone
    reads (`security.private`); sha256: that file's, hexadecimal.

    The file goes when the object does, or is closed. Sent to another process it names the file, which this one keeps.
    Raises ModelError where the packed file is damaged, BackendError where there is no memory for it.
    """

    def __init__(self, packed: Path) -> None:
        from edge_vision.inference.security.private import PrivateFolder  # its package knows bundles, which know this

        content = unpack_file(packed)
        folder = PrivateFolder()
        self._close = weakref.finalize(self, folder.close)
        name = packed.name[: -len(SUFFIX)] + ".onnx"
        folder.write(name, lambda write: write(content))
        self.packed, self.path, self.sha256 = packed, folder.path / name, content_sha256(packed)

    def close(self) -> None:
        """Let go of the memory. May be called twice."""
        self._close()

    def __reduce__(self) -> tuple[object, ...]:
        return _borrowed, (self.packed, self.path, self.sha256)


def _borrowed(packed: Path, path: Path, sha256: str) -> Unpacked:
    unpacked = object.__new__(Unpacked)
    unpacked.packed, unpacked.path, unpacked.sha256 = packed, path, sha256
    unpacked._close = weakref.finalize(unpacked, lambda: None)
    return unpacked
