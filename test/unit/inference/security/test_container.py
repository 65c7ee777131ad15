"""The format of an encrypted file."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_vision.inference.security import (
    SecretKey,
    container,
)

pytest.importorskip("cryptography", reason="cryptography signs and encrypts: pip install cryptography")


ID = bytes(range(16))
KEY = SecretKey(bytes(range(32)))


def sealed(content: bytes, name: str = "model.onnx", log2: int = 4) -> bytes:
    out = io.BytesIO()
    container.encrypt(io.BytesIO(content), out.write, KEY, name, ID, log2)
    return out.getvalue()


def opened(content: bytes, name: str = "model.onnx", key: SecretKey = KEY, bundle_id: bytes = ID) -> bytes:
    out = io.BytesIO()
    container.decrypt(io.BytesIO(content), out.write, key, name, bundle_id)
    return out.getvalue()


@settings(max_examples=100)
@given(st.binary(max_size=100), st.integers(4, 7))
def test_files_come_back(content: bytes, log2: int) -> None:
    box = sealed(content, log2=log2)
    assert opened(box) == content
    chunks = max(1, -(-len(content) // (1 << log2)))
    assert len(box) == container.HEADER_BYTES + len(content) + 16 * chunks
    assert sealed(content, log2=log2) != box  # of another key, by its salt


@settings(max_examples=150)
@given(st.binary(min_size=1, max_size=80), st.data())
def test_any_change_to_an_encrypted_file_is_seen(content: bytes, data: st.DataObject) -> None:
    box = sealed(content)
    index = data.draw(st.integers(0, len(box) - 1))
    changed = bytearray(box)
    changed[index] ^= data.draw(st.integers(1, 255))
    length = data.draw(st.integers(0, len(box) - 1))
    for bad in (bytes(changed), box[:length], box + data.draw(st.binary(min_size=1, max_size=40))):
        with pytest.raises((container.Damaged, container.OtherKey)):
            opened(bad)


@settings(max_examples=100)
@given(st.binary(min_size=33, max_size=120), st.data())
def test_chunks_cannot_be_moved_repeated_or_dropped(content: bytes, data: st.DataObject) -> None:
    box = sealed(content)
    header, body = box[: container.HEADER_BYTES], box[container.HEADER_BYTES :]
    chunks = [body[start : start + 32] for start in range(0, len(body), 32)]
    order = data.draw(st.lists(st.integers(0, len(chunks) - 1), max_size=len(chunks) + 1))
    if order == list(range(len(chunks))):
        return
    with pytest.raises(container.Damaged):
        opened(header + b"".join(chunks[index] for index in order))


def test_name_packaging_and_key_belong_to_a_file() -> None:
    box = sealed(b"weights")
    with pytest.raises(container.Damaged, match="renamed"):
        opened(box, "other.onnx")
    with pytest.raises(container.Damaged, match="another packaging"):
        opened(box, bundle_id=bytes(16))
    with pytest.raises(container.OtherKey):
        opened(box, key=SecretKey(bytes(32)))
    # A header that claims the other key's mark, and one that claims the other packaging.
    marked = bytearray(box)
    marked[10:18] = container.key_mark(SecretKey(bytes(32)))
    with pytest.raises(container.Damaged, match="changed"):
        opened(bytes(marked), key=SecretKey(bytes(32)))
    marked = bytearray(box)
    marked[18:34] = bytes(16)
    with pytest.raises(container.Damaged, match="changed"):
        opened(bytes(marked), bundle_id=bytes(16))


def test_nonces_do_not_repeat(monkeypatch) -> None:
    """Of all chunks of many files under one key: (AES key, nonce) occurs once."""
    seen = []
    make_cipher = container._cipher

    def spy(key, header, name):
        cipher = make_cipher(key, header, name)

        class Recording:
            @staticmethod
            def encrypt(nonce, data, associated):
                seen.append((container._derive(key, header[-32:], b"edge_vision bundle file 1", 39)[:32], nonce))
                return cipher.aes.encrypt(nonce, data, associated)

        return replace(cipher, aes=Recording)

    monkeypatch.setattr(container, "_cipher", spy)
    for _ in range(20):
        sealed(bytes(100))
    assert len(seen) == len(set(seen)) == 20 * 7


def test_large_files_take_little_memory(tmp_path: Path) -> None:
    """Chunks are worked on one after another: 64 MiB go through in what a few chunks take."""
    import tracemalloc

    content = np.random.default_rng(0).bytes(1 << 20)

    class Endless(io.RawIOBase):
        left = 64

        def read(self, size: int = -1) -> bytes:
            self.left -= 1
            return content if self.left >= 0 else b""

    tracemalloc.start()
    with (tmp_path / "box").open("wb") as out:
        container.encrypt(Endless(), out.write, KEY, "a", ID)
    digest = hashlib.sha256()
    with (tmp_path / "box").open("rb") as box:
        container.decrypt(box, digest.update, KEY, "a", ID)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert digest.digest() == hashlib.sha256(content * 64).digest()
    assert peak < 12 << 20
