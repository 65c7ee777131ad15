"""The files of a packaged bundle, where it lies in a folder or in an archive: their names, and the bytes of one."""

from __future__ import annotations

import contextlib
import lzma
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from edge_vision.inference.errors import ModelError
from edge_vision.inference.security.seal import PACKAGE_AGAIN, SEAL, SIGNATURE

ARCHIVE = ".evb"
"""Suffix of a bundle in one file: a ZIP archive of what would be its folder."""

_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OSError,
    ValueError,
)
"""What zipfile raises for one archive or another that was changed."""


class Source(Protocol):
    """path: of the folder or archive."""

    path: Path

    def names(self) -> set[str]:
        """All files, as a seal names them, without the seal's own two."""
        ...

    def open(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """The bytes of one file. Raises ModelError where it is not there, or while it is read."""
        ...

    def close(self) -> None: ...


def source_of(path: Path) -> Source | None:
    """The packaged bundle at `path`, a folder, its model.yaml or an archive; None for what was not packaged.

    Raises ModelError for an archive that is none.
    """
    if path.suffix == ARCHIVE and path.is_file():
        return ArchiveSource(path)
    folder = path if path.is_dir() else path.parent if path.name == "model.yaml" else None
    return FolderSource(folder) if folder is not None and (folder / SEAL).exists() else None


class FolderSource:
    """See `Source`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> set[str]:
        found = set()
        for folder, _, files in os.walk(self.path):
            found |= {(Path(folder) / file).relative_to(self.path).as_posix() for file in files}
        return found - {SEAL, SIGNATURE}

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        try:
            descriptor = os.open(self.path / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as stream:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise ModelError(self.path / name, "is no file", PACKAGE_AGAIN)
                yield cast(BinaryIO, stream)
        except OSError as error:
            raise ModelError(self.path / name, f"cannot be read: {error.strerror}", PACKAGE_AGAIN) from error

    def close(self) -> None:
        pass


class ArchiveSource:
    """See `Source`. Nothing is unpacked by the names in the archive."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._readable():
            self._archive = zipfile.ZipFile(path)
        found = [info.filename for info in self._archive.infolist()]
        if len(found) != len(set(found)):
            self._archive.close()
            raise ModelError(path, "holds two files of one name", PACKAGE_AGAIN)
        self._names = set(found)

    def names(self) -> set[str]:
        return self._names - {SEAL, SIGNATURE}

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        with self._readable():
            if name not in self._names:
                raise ModelError(self.path, f"{name} is missing in the archive", PACKAGE_AGAIN)
            info = self._archive.getinfo(name)
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise zipfile.BadZipFile(f"compression {info.compress_type}")
            with self._archive.open(info) as stream:
                yield cast(BinaryIO, stream)

    def close(self) -> None:
        self._archive.close()

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except _UNREADABLE as error:
            problem = f"is no whole archive of a bundle: {error or type(error).__name__}"
            raise ModelError(self.path, problem, "copy it again: it was changed or cut off") from error
