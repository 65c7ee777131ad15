"""Keys: where they come from, what is none, and that they show nowhere."""

from __future__ import annotations

import base64
import importlib
import logging
import os
import pickle
import shutil
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from edge_vision.inference import BackendError
from edge_vision.inference.security import (
    BundlePolicy,
    KeyProblem,
    SecretKey,
    keys,
    new_encryption_key,
    new_signing_key,
    open_bundle,
    read_encryption_key,
    read_signing_key,
    read_trusted_keys,
)

pytest.importorskip("cryptography", reason="cryptography signs and encrypts: pip install cryptography")


def test_references_in_all_forms(tmp_path: Path, monkeypatch) -> None:
    value = bytes(range(100, 132))
    file = tmp_path / "with space" / "k"
    file.parent.mkdir()
    for text in (
        value.hex().encode(),
        base64.b64encode(value) + b"\n",
        base64.urlsafe_b64encode(value),
        value,
    ):
        file.write_bytes(text)
        file.chmod(0o600)
        assert read_encryption_key(f"file:{file}").reveal() == value
        assert read_encryption_key(f"command:cat '{file}'").reveal() == value
    monkeypatch.setenv("MODEL_KEY", value.hex())
    assert read_encryption_key("env:MODEL_KEY").reveal() == value
    # No shell: what one would take for a second command is an argument.
    with pytest.raises(KeyProblem, match="holds no key"):
        read_encryption_key(f"command:echo {value.hex()}; cat {file}")


SECRET = "c0ffee" * 10 + "beef"


@pytest.mark.parametrize(
    "reference",
    [
        SECRET,
        f"key:{SECRET}",
        "",
        "file:",
        "env:",
        "command:",
        "command:'",
        f"file:/nowhere/{'x' * 8}",
        "env:EDGE_VISION_NOT_SET",
        "command:edge_vision_no_such_program",
        f"command:sh -c 'echo {SECRET}; echo {SECRET} >&2; exit 3'",
        f"command:sh -c 'echo {SECRET}x'",
        f"command:sh -c 'echo {SECRET} >&2'",
        "command:true",
        f"file:{SECRET}",
        f"file:{'Ab/' * 14}c=",
    ],
)
def test_a_key_that_cannot_be_had_is_told_without_it(reference: str, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(KeyProblem) as caught:
        read_encryption_key(reference)
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(vars(caught.value))
    assert SECRET not in told
    assert "Ab/Ab/" not in told
    assert SECRET not in caplog.text
    assert caught.value.remedy


def test_a_password_is_no_key(tmp_path: Path) -> None:
    for text in ("correct horse battery staple 1234", "a" * 32, "zz" * 32, "", "0" * 63):
        file = tmp_path / "k"
        file.write_text(text)
        with pytest.raises(KeyProblem, match="A password is no key"):
            read_encryption_key(f"file:{file}")


def test_keys_do_not_show(key) -> None:
    secret = read_encryption_key(f"file:{key.encryption}")
    signer = read_signing_key(f"file:{key.signing}")
    text = key.encryption.read_text().strip()
    for shown in (repr(secret), str(secret), f"{secret}", repr(signer), repr({"k": secret}), repr(key.policy())):
        assert text not in shown
        assert secret.reveal().hex() not in shown
        assert "PRIVATE" not in shown
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(KeyProblem):
        SecretKey(b"short")


def test_new_keys_are_private_and_overwrite_nothing(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        new_encryption_key(tmp_path / "e")
        public, key_id = new_signing_key(tmp_path / "s")
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("e", "s", "s.pub")] == [0o600, 0o600, 0o644]
    assert list(read_trusted_keys(public)) == [key_id] == [read_signing_key(f"file:{tmp_path / 's'}").key_id]
    for taken in ("e", "s", "s.pub"):
        content = (tmp_path / taken).read_bytes()
        with pytest.raises(KeyProblem, match="there already"):
            new_encryption_key(tmp_path / taken)
        assert (tmp_path / taken).read_bytes() == content
    (tmp_path / "s.pub").unlink()
    with pytest.raises(KeyProblem, match="there already"):
        new_signing_key(tmp_path / "s")
    assert not (tmp_path / "s.pub").exists()
    with pytest.raises(KeyProblem, match="cannot be written"):
        new_encryption_key(tmp_path / "nowhere" / "e")


def test_keys_that_others_can_read_or_change_are_warned_of(key, tmp_path: Path) -> None:
    told: list[str] = []
    read_encryption_key(f"file:{key.encryption}", told.append)
    read_signing_key(f"file:{key.signing}", told.append)
    read_trusted_keys(key.trusted, told.append)
    assert not told
    open_key = tmp_path / "open"
    shutil.copyfile(key.encryption, open_key)
    open_key.chmod(0o640)
    read_encryption_key(f"file:{open_key}", told.append)
    assert "can be read by others (mode 0640): chmod 600" in told.pop()
    trusted = tmp_path / "trusted"
    trusted.mkdir(mode=0o755)
    shutil.copyfile(key.trusted, trusted / "a.pub")
    (trusted / "a.pub").chmod(0o666)
    trusted.chmod(0o777)
    read_trusted_keys(trusted, told.append)
    assert len(told) == 2
    assert "can be changed by others" in told[0]
    assert "can put keys into the folder" in told[1]


def test_what_is_no_signing_or_trusted_key(key, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as ser
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    pem, pkcs8 = ser.Encoding.PEM, ser.PrivateFormat.PKCS8
    other = ec.generate_private_key(ec.SECP256R1())
    locked = ed25519.Ed25519PrivateKey.generate().private_bytes(pem, pkcs8, ser.BestAvailableEncryption(b"x"))
    file = tmp_path / "k.pem"
    for content, said in (
        (b"hello", "no private key in PEM"),
        (key.signing.read_bytes()[:-60], "no private key in PEM"),
        (Path(key.trusted).read_bytes(), "no private key in PEM"),
        (other.private_bytes(pem, pkcs8, ser.NoEncryption()), "not Ed25519"),
        (locked, "has a password"),
    ):
        file.write_bytes(content)
        with pytest.raises(KeyProblem, match=said):
            read_signing_key(f"file:{file}")
    for content, said in (
        (b"hello", "no public key in PEM"),
        (key.signing.read_bytes(), "no public key in PEM"),
        (other.public_key().public_bytes(pem, ser.PublicFormat.SubjectPublicKeyInfo), "not Ed25519"),
    ):
        file.write_bytes(content)
        with pytest.raises(KeyProblem, match=said):
            read_trusted_keys(file)
    empty = tmp_path / "empty"
    empty.mkdir()
    for place, said in ((empty, "holds no .pub or .pem"), (tmp_path / "nowhere", "cannot be read")):
        with pytest.raises(KeyProblem, match=said):
            read_trusted_keys(place)


def test_without_cryptography_only_what_needs_it_stops(make, key, plain: Path, monkeypatch, refused) -> None:
    signed, hashed, encrypted = make("signed"), make(), make("encrypted")
    real = importlib.import_module

    def hidden(name: str, *rest):
        if name.split(".")[0] == "cryptography":
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *rest)

    monkeypatch.setattr(keys, "import_module", hidden)
    for path in (plain, hashed, signed):  # hashes need no library
        with open_bundle(path) as bundle:
            assert bundle.name == "parts"
    for path, policy in ((signed, key.policy()), (encrypted, BundlePolicy(key=f"file:{key.encryption}"))):
        assert "pip install cryptography" in refused(path, policy, BackendError)
    with pytest.raises(BackendError, match="pip install cryptography"):
        new_signing_key(plain / "s")
    assert not list(plain.glob("s*"))


def test_importing_imports_no_cryptography() -> None:
    code = "import sys, edge_vision.inference.security; sys.exit('cryptography' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, timeout=60).returncode == 0
