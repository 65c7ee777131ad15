"""Packaging a bundle: its files copied, encrypted where asked, listed and signed; whole at its place or not there."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import secrets
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from edge_vision.inference import bundle as bundles
from edge_vision.inference.bundle import Bundle
from edge_vision.inference.errors import ModelError
from edge_vision.inference.security import container
from edge_vision.inference.security.guard import ANY, BLOCK, ENCRYPTED, BundlePolicy, Means, means_of, open_with
from edge_vision.inference.security.keys import SecretKey, SigningKey, Warn
from edge_vision.inference.security.seal import SEAL, SIGNATURE, Manifest, Seal, SealedFile, is_plain, sign
from edge_vision.inference.security.sources import ARCHIVE

CARDS = (".yaml", ".yml")


def package(
    path: str | Path,
    out: Path,
    *,
    signing: Sequence[SigningKey] = (),
    encryption: SecretKey | None = None,
    archive: bool = False,
    policy: BundlePolicy = ANY,
    warn: Warn | None = None,
) -> tuple[Path, Seal]:
    """Package the bundle (or model file, or packaged bundle under `policy`) at `path` to `out`; what that is now.

    out: a folder that is not there yet, or with `archive` a file, to which the suffix .evb is added where it lacks.
    With neither signing nor encryption the seal still tells a damaged copy. The result is opened once before it gets
    its name: it is whole or not there. Raises the errors of `open_bundle`, and ModelError where `out` is there or a
    file cannot be packaged; OSError where it cannot be written.
    """
    if archive and out.suffix != ARCHIVE:
        out = out.with_name(out.name + ARCHIVE)
    if not archive and out.suffix == ARCHIVE:
        raise ModelError(out, f"ends with {ARCHIVE}, which is for archives", "add --archive, or name a folder")
    if os.path.lexists(out):
        raise ModelError(out, "is there already", "name another place, or remove it first")
    out.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary,
        contextlib.ExitStack() as stack,
    ):
        own = stack.enter_context(open_with(path, means_of(policy, warn)))
        made = Path(temporary) / f"bundle{ARCHIVE if archive else ''}"
        folder = _with_card(own, Path(temporary) / "card")
        encryption_id = secrets.token_bytes(container.ID_BYTES) if encryption else b""
        with _ArchiveWriter(made, encryption is None) if archive else _FolderWriter(made) as writer:
            files = [_add(writer, folder, name, encryption, encryption_id) for name in _names(folder)]
            ordered = tuple(sorted(files, key=lambda file: file.path))
            content = Manifest(own.name, bundles.FORMAT, ordered, encryption_id.hex()).content()
            writer.add(SEAL, content)
            if signing:
                writer.add(SIGNATURE, sign(content, signing))
        trusted = {key.key_id: key.private.public_key() for key in signing}
        with open_with(made, Means(bool(signing), trusted, (lambda: encryption) if encryption else None)) as proven:
            if (proven.labels, proven.input, len(proven.variants)) != (own.labels, own.input, len(own.variants)):
                raise ModelError(out, "is not the bundle that it was made from", "report this")
        _name_it(made, out)
    signers = tuple(trusted)
    return out, Seal(own.name, len(files), sum(file.size for file in files), signers, (), encryption is not None)


def _with_card(bundle: Bundle, scratch: Path) -> Path:
    """The bundle's folder; one that is made of it where it is a bare file."""
    if bundle.file.suffix in CARDS:
        if bundle.file.name != "model.yaml":
            raise ModelError(bundle.file, "is not named model.yaml", "rename it")
        return bundle.folder
    from edge_vision.inference.conversion import home

    return home(dataclasses.replace(bundle, seal="", scratch=None), scratch).folder


def _names(folder: Path) -> list[str]:
    """The files to package: all, but for hidden ones and an earlier seal."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        names = [(Path(place) / name).relative_to(folder).as_posix() for name in files if not name.startswith(".")]
        found += [name for name in names if name not in (SEAL, SIGNATURE)]
    for name in found:
        if not is_plain(name) or not (folder / name).is_file():
            raise ModelError(folder / name, "cannot be packaged: its name or kind is unusual", "rename or remove it")
    return sorted(found)


class _FolderWriter:
    """Files below a folder, on disk when the block ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()

    @contextlib.contextmanager
    def new_file(self, name: str) -> Iterator[BinaryIO]:
        place = self.path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())

    def add(self, name: str, content: bytes) -> None:
        with self.new_file(name) as stream:
            stream.write(content)

    def __enter__(self) -> _FolderWriter:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class _ArchiveWriter:
    """Files in a ZIP archive. compress: what is encrypted does not get smaller."""

    def __init__(self, path: Path, compress: bool) -> None:
        self.path = path
        self._stream = path.open("xb")
        self._archive = zipfile.ZipFile(self._stream, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED)
        self._kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED

    @contextlib.contextmanager
    def new_file(self, name: str) -> Iterator[BinaryIO]:
        info = zipfile.ZipInfo(name)  # of a date that is always the same
        info.compress_type = self._kind
        info.external_attr = 0o644 << 16
        with self._archive.open(info, "w", force_zip64=True) as stream:
            yield stream  # type: ignore[misc]

    def add(self, name: str, content: bytes) -> None:
        with self.new_file(name) as stream:
            stream.write(content)

    def __enter__(self) -> _ArchiveWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            self._archive.close()
            if kind is None:
                self._stream.flush()
                os.fsync(self._stream.fileno())
        finally:
            self._stream.close()


def _add(
    writer: _FolderWriter | _ArchiveWriter, folder: Path, name: str, key: SecretKey | None, encryption_id: bytes
) -> SealedFile:
    """One file into the package; how it lies there."""
    digest, size = hashlib.sha256(), 0
    stored = name + ENCRYPTED if key else name
    with (folder / name).open("rb") as source, writer.new_file(stored) as out:

        def write(block: bytes) -> None:
            nonlocal size
            digest.update(block)
            size += len(block)
            out.write(block)

        if key is not None:
            container.encrypt(source, write, key, name, encryption_id)
        else:
            _pump(source, write)
    return SealedFile(stored, size, digest.hexdigest())


def _pump(source: BinaryIO, write: Callable[[bytes], None]) -> None:
    while block := source.read(BLOCK):
        write(block)


def _name_it(made: Path, out: Path) -> None:
    """Move to its place at once, over nothing that has come there meanwhile."""
    try:
        if made.is_dir():
            made.chmod(0o755)
            made.rename(out)  # fails where a folder with something in it, or a file, is
        else:
            made.chmod(0o644)
            os.link(made, out)
    except FileExistsError as error:
        raise ModelError(out, "has come to be there meanwhile", "name another place") from error
    parent = os.open(out.parent, os.O_RDONLY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)
