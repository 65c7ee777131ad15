"""The file format of an encrypted file: AES-256-GCM in chunks that can neither be swapped, dropped, added nor cut off.

    header   magic 8 | version 1 | log2 of the chunk's size 1 | key's mark 8 | bundle's id 16 | salt 32
    chunks   ciphertext of at most 2^log2 bytes | tag 16;  all but the last are full

The construction is STREAM (Hoang, Reyhanitabar, Rogaway, Vizar: Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance, CRYPTO 2015), with a key for each file as in Tink's AES-GCM-HKDF streaming: HKDF-SHA256 (RFC 5869) of
the key and 32 random bytes of salt gives the file's AES key and 7 bytes that its nonces begin with; the rest of the
12-byte nonce (NIST SP 800-38D, 8.2.1) is the chunk's number, 4 bytes, and a byte that is 1 for the last chunk alone. A
nonce therefore repeats under one AES key only if 32 random bytes do. The header and the file's name are associated
data of every chunk: a file does not decrypt under another name, nor beside files of another packaging.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from edge_vision.inference.security.keys import SecretKey, library

MAGIC = b"EVSEALED"
VERSION = 1
CHUNK_LOG2 = 20  # 1 MiB: memory for two of them, and 16 bytes of tag each
LARGEST_CHUNK_LOG2 = 24
TAG = 16
ID_BYTES = 16
MOST_CHUNKS = 1 << 32
_HEADER = struct.Struct(">8sBB8s16s32s")
HEADER_BYTES = _HEADER.size

Write = Callable[[bytes], object]


class Damaged(ValueError):
    """The file is not what was encrypted under this name with this key; the text says what shows it."""


class OtherKey(ValueError):
    """The file was encrypted with another key."""


@dataclass(frozen=True, slots=True)
class _Cipher:
    """What chunks are worked with: `aes` and the nonces' beginning of one file, and its associated data."""

    aes: object
    prefix: bytes
    associated: bytes

    def nonce(self, index: int, last: bool) -> bytes:
        if index >= MOST_CHUNKS:
            raise Damaged("it is larger than the format allows")
        return self.prefix + struct.pack(">IB", index, last)


def key_mark(key: SecretKey) -> bytes:
    """8 bytes that tell keys apart and nothing of them."""
    return _derive(key, b"", b"edge_vision bundle key mark 1", 8)


def _derive(key: SecretKey, salt: bytes, info: bytes, length: int) -> bytes:
    hashes, hkdf = library("hazmat.primitives.hashes"), library("hazmat.primitives.kdf.hkdf")
    return hkdf.HKDF(hashes.SHA256(), length, salt or None, info).derive(key.reveal())


def _cipher(key: SecretKey, header: bytes, name: str) -> _Cipher:
    salt = header[-32:]
    material = _derive(key, salt, b"edge_vision bundle file 1", 32 + 7)
    aes = library("hazmat.primitives.ciphers.aead").AESGCM(material[:32])
    return _Cipher(aes, material[32:], header + name.encode("utf-8"))


def encrypt(
    source: BinaryIO, write: Write, key: SecretKey, name: str, bundle_id: bytes, chunk_log2: int = CHUNK_LOG2
) -> None:
    """Encrypt what `source` still holds. name: that the file has in the bundle; bundle_id: 16 bytes, of this packaging.

    chunk_log2: 4 to 24. Raises BackendError where the package cryptography is missing.
    """
    header = _HEADER.pack(MAGIC, VERSION, chunk_log2, key_mark(key), bundle_id, os.urandom(32))
    cipher = _cipher(key, header, name)
    write(header)
    size = 1 << chunk_log2
    index, block = 0, _read(source, size)
    while True:
        following = _read(source, size) if len(block) == size else b""
        write(cipher.aes.encrypt(cipher.nonce(index, not following), block, cipher.associated))  # type: ignore[attr-defined]
        if not following:
            return
        index, block = index + 1, following


def decrypt(source: BinaryIO, write: Write, key: SecretKey, name: str, bundle_id: bytes) -> None:
    """The way back. What was written before an error is genuine, but not whole: it must be thrown away.

    Raises OtherKey, Damaged (changed, cut off, of another name or packaging), BackendError as `encrypt`.
    """
    header = _read(source, HEADER_BYTES)
    if len(header) < HEADER_BYTES or not header.startswith(MAGIC):
        raise Damaged("it does not begin as an encrypted file does")
    _, version, chunk_log2, mark, found_id, _ = _HEADER.unpack(header)
    if version != VERSION or not 4 <= chunk_log2 <= LARGEST_CHUNK_LOG2:
        raise Damaged(f"its header is of version {version} with chunks of 2^{chunk_log2} bytes")
    if mark != key_mark(key):
        raise OtherKey("it was encrypted with another key")
    if found_id != bundle_id:
        raise Damaged("it is of another packaging than the bundle")
    cipher = _cipher(key, header, name)
    invalid = library("exceptions").InvalidTag
    size = (1 << chunk_log2) + TAG
    index, block = 0, _read(source, size)
    while True:
        following = _read(source, size) if len(block) == size else b""
        try:
            if len(block) < TAG:
                raise Damaged("it is cut off")
            plain = cipher.aes.decrypt(cipher.nonce(index, not following), block, cipher.associated)  # type: ignore[attr-defined]
        except invalid:
            raise Damaged("it was changed, cut off or renamed after it was encrypted") from None
        write(plain)
        if not following:
            return
        index, block = index + 1, following


def _read(source: BinaryIO, size: int) -> bytes:
    """`size` bytes, less only at the end."""
    block = source.read(size)
    while 0 < len(block) < size and (more := source.read(size - len(block))):
        block += more
    return block
