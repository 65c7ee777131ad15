"""The seal of a bundle: the list of its files with size and SHA-256, and who signed that list.

`seal.json` holds the list in one canonical form (JSON with sorted keys and no spaces, UTF-8, one line), `seal.sig` a
line for each signature: `ed25519 FINGERPRINT BASE64`. What is signed (RFC 8032) is a text that says what it is for,
followed by the bytes of `seal.json` as they are; they are parsed only after that.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from edge_vision.inference.errors import ModelError
from edge_vision.inference.security.keys import SigningKey, TrustedKeys, library

SEAL, SIGNATURE = "seal.json", "seal.sig"
FORMAT = 1
PURPOSE = b"edge_vision bundle seal 1\n"
LARGEST_SEAL = 1 << 22  # bytes
MOST_SIGNATURES = 16
PACKAGE_AGAIN = "restore the bundle, or package it again"


@dataclass(frozen=True, slots=True)
class SealedFile:
    """A file as it lies in the bundle. path: relative, with `/`; size in bytes; sha256: hexadecimal."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """name and bundle_format: as model.yaml has them; encryption_id: 32 hexadecimal digits that the encrypted files
    share, "" where nothing is encrypted; files: sorted by path."""

    name: str
    bundle_format: int
    files: tuple[SealedFile, ...]
    encryption_id: str = ""

    def content(self) -> bytes:
        """The bytes of seal.json."""
        fields = {"format": FORMAT, **asdict(self)}
        return (json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n").encode("utf-8")


@dataclass(frozen=True, slots=True)
class Seal:
    """What is known of a bundle. signed_by: fingerprints of the trusted keys that signed it; claimed: those named by
    signatures that could not be checked."""

    name: str
    files: int
    size: int
    signed_by: tuple[str, ...] = ()
    claimed: tuple[str, ...] = ()
    encrypted: bool = False

    def __str__(self) -> str:
        if self.signed_by:
            parts = [f"signed by {', '.join(self.signed_by)}"]
        elif self.claimed:
            parts = [f"signature of {', '.join(self.claimed)} not checked"]
        else:
            parts = ["not signed"]
        return ", ".join(parts + ["encrypted"] * self.encrypted)


def parse_manifest(content: bytes, shown: Path) -> Manifest:
    """The manifest in the bytes of a seal.json; shown: its path, for messages. Raises ModelError where it is none."""
    try:
        fields = json.loads(content.decode("utf-8"))
        if fields["format"] != FORMAT:
            problem = f"is of format {fields['format']}"
            raise ModelError(shown, problem, f"this version of edge_vision reads format {FORMAT}")
        files = tuple(_file(entry) for entry in fields["files"])
        manifest = Manifest(
            _typed(fields["name"], str), _typed(fields["bundle_format"], int), files, fields["encryption_id"]
        )
        if not re.fullmatch(r"([0-9a-f]{32})?", _typed(manifest.encryption_id, str)):
            raise ValueError("encryption_id is none")
        paths = [file.path for file in files]
        if paths != sorted(set(paths)) or manifest.content() != content:
            raise ValueError("it is not in the one form that it may have")
        folders = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
        if folders & set(paths):
            raise ValueError("a path is a file and a folder")
    except (
        ValueError,
        KeyError,
        TypeError,
        RecursionError,
    ) as error:
        raise ModelError(shown, f"is no seal of a bundle: {error!r}", PACKAGE_AGAIN) from None
    return manifest


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{kind.__name__} expected")
    return value


def _file(entry: Any) -> SealedFile:
    if set(entry) != {"path", "size", "sha256"}:
        raise ValueError("a file's entry has other keys")
    file = SealedFile(_typed(entry["path"], str), _typed(entry["size"], int), _typed(entry["sha256"], str))
    if not is_plain(file.path) or file.size < 0 or not re.fullmatch("[0-9a-f]{64}", file.sha256):
        raise ValueError(f"the entry of {file.path!r} is not right")
    return file


def is_plain(path: str) -> bool:
    """Whether a path stays inside its bundle, and is written in one way only."""
    parts = path.split("/")
    safe = all(part not in ("", ".", "..") and not part.startswith(".") for part in parts)
    return safe and path not in (SEAL, SIGNATURE) and path.isprintable() and "\\" not in path and len(path) < 1000


def sign(content: bytes, keys: Iterable[SigningKey]) -> bytes:
    """The content of seal.sig for that of seal.json."""
    lines = [f"ed25519 {key.key_id} {base64.b64encode(key.sign(PURPOSE + content)).decode()}\n" for key in keys]
    return "".join(lines).encode()


def check_signatures(
    content: bytes, signatures: bytes, trusted: TrustedKeys, shown: Path
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(fingerprints of trusted keys that signed `content`, other fingerprints that are named).

    Raises ModelError where seal.sig is malformed, and where a signature that a trusted key is said to have made is not
    its signature of this seal.json.
    """
    good: list[str] = []
    unknown: list[str] = []
    for key_id, signature in _signatures(signatures, shown):
        if key_id not in trusted:
            unknown.append(key_id)
            continue
        try:
            trusted[key_id].verify(signature, PURPOSE + content)
        except library("exceptions").InvalidSignature:
            problem = f"the signature of the trusted key {key_id} is not of this {SEAL}: one of the two was changed"
            raise ModelError(shown, problem, PACKAGE_AGAIN) from None
        good.append(key_id)
    return tuple(good), tuple(unknown)


def _signatures(content: bytes, shown: Path) -> list[tuple[str, bytes]]:
    found = []
    lines = content.split(b"\n")
    try:
        if lines.pop() != b"" or not 1 <= len(lines) <= MOST_SIGNATURES:
            raise ValueError("cut off, or too long")
        for line in lines:
            kind, key_id, text = line.decode("ascii").split(" ")
            signature = base64.b64decode(text, validate=True)
            canonical = base64.b64encode(signature).decode() == text
            if kind != "ed25519" or not re.fullmatch("[0-9a-f]{16}", key_id) or len(signature) != 64 or not canonical:
                raise ValueError("no line of an Ed25519 signature")
            found.append((key_id, signature))
    except (ValueError, binascii.Error) as error:
        raise ModelError(shown, f"is no list of signatures: {error}", PACKAGE_AGAIN) from None
    return found
