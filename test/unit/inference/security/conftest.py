"""Keys, a small bundle, and what packages it."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from edge_vision.inference import ModelError
from edge_vision.inference.security import (
    BundlePolicy,
    new_encryption_key,
    new_signing_key,
    open_bundle,
    package,
    private,
    read_encryption_key,
    read_signing_key,
)

pytest.importorskip("cryptography", reason="cryptography signs and encrypts: pip install cryptography")


@dataclass(frozen=True)
class Keys:
    """Paths of two signing keys and two encryption keys."""

    signing: Path
    other_signing: Path
    encryption: Path
    other_encryption: Path

    @property
    def trusted(self) -> str:
        return f"{self.signing}.pub"

    def policy(self, policy: str = "signed") -> BundlePolicy:
        return BundlePolicy(policy, self.trusted, f"file:{self.encryption}")


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("keys")
    found = Keys(*(folder / name for name in ("signing", "other_signing", "encryption", "other_encryption")))
    for path in (found.signing, found.other_signing):
        new_signing_key(path)
    for path in (found.encryption, found.other_encryption):
        new_encryption_key(path)
    return found


@pytest.fixture
def plain(write_model, make_yolox_rows, tmp_path: Path) -> Path:
    """A small bundle with two model files of one name's beginning, and a file more."""
    rows = make_yolox_rows([(40, 30, 20, 16, 0.9, 1)], 2, True)
    folder = tmp_path / "plain"
    folder.mkdir()
    for name, shift in (("model.onnx", 0.0), ("other.onnx", 1.0)):
        made = write_model({"output": rows + shift}, (1, 64, 96, 3), "uint8", name=name)
        made.rename(folder / name)
    variants = [{"backend": "onnxruntime", "file": name} for name in ("model.onnx", "other.onnx")]
    card = {
        "format": 1, "name": "parts", "task": "detect", "decoder": "yolox", "labels": ["nut", "bolt"],
        "input": {
            "width": 96, "height": 64, "layout": "nhwc", "dtype": "uint8", "colour": "bgr", "resize": "letterbox"
        },
        "decoder_options": {"strides": [8, 16, 32]},
        "variants": variants,
    }  # fmt: skip
    (folder / "model.yaml").write_text(yaml.safe_dump(card))
    (folder / "notes").mkdir()
    (folder / "notes" / "README.md").write_text("how it was trained\n")
    return folder


@pytest.fixture
def make(key: Keys, plain: Path, tmp_path: Path):
    """Packages a bundle, the plain one unless another is given; `how` is any of signed, encrypted, archive."""
    count = itertools.count()

    def run(*how: str, source: Path | None = None) -> Path:
        signing = [read_signing_key(f"file:{key.signing}")] if "signed" in how else []
        encryption = read_encryption_key(f"file:{key.encryption}") if "encrypted" in how else None
        out = tmp_path / f"packaged{next(count)}"
        return package(
            source or plain, out, signing=signing, encryption=encryption, archive="archive" in how
        )[0]  # fmt: skip

    return run


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where private folders are made, a place of the test's own: others may run beside it."""
    folder = tmp_path / "memory"
    folder.mkdir()
    monkeypatch.setattr(private, "memory_folders", lambda: (folder,))
    return folder


@pytest.fixture
def leftovers(memory: Path) -> Callable[[], set[str]]:
    """Names of the private folders that there are."""
    return lambda: {path.name for path in memory.glob(f"{private.PREFIX}*")}


@pytest.fixture
def refused(leftovers) -> Callable[..., str]:
    """A function that tells the message with which a bundle is refused; no block was entered, nothing left behind."""

    def run(path: Path, policy: BundlePolicy, kind: type[Exception] = ModelError) -> str:
        before = leftovers()
        with pytest.raises(kind) as caught, open_bundle(path, policy):
            pytest.fail(f"{path} was opened")
        assert leftovers() == before
        return str(caught.value)

    return run


@pytest.fixture
def flip() -> Callable[..., None]:
    """A function that changes one bit of a file."""

    def run(path: Path, index: int, bit: int = 0) -> None:
        content = bytearray(path.read_bytes())
        content[index] ^= 1 << bit
        path.write_bytes(content)

    return run


@pytest.fixture
def write_seal() -> Callable[..., None]:
    """A function that writes the seal of what is there now, as an attacker would; changes: of its keys."""

    def run(path: Path, **changes: object) -> None:
        content = json.loads((path / "seal.json").read_text())
        for entry in content["files"]:
            file = path / entry["path"]
            entry |= {"size": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        content |= changes
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
        (path / "seal.json").write_text(text, encoding="utf-8")

    return run
