"""Keys: where they are read from, how new ones are made, and who is trusted.

A secret is named by a reference, never given as a value, so that a parameter dump, a log or `ps` shows the name alone:

    file:PATH        the content of a file
    env:NAME         the content of an environment variable
    command:PROGRAM ARGUMENTS     what a program prints (a TPM, a key server), started without a shell
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import re
import secrets
import shlex
import stat
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from edge_vision.inference.errors import BackendError, InferenceError

KEY_BYTES = 32  # AES-256
LARGEST_SECRET = 1 << 16  # bytes: what is longer is no key
COMMAND_SECONDS = 30.0
FORMS = "file:PATH, env:NAME or command:PROGRAM ARGUMENTS"
PUBLIC_SUFFIXES = (".pub", ".pem")

Warn = Callable[[str], None]

_LIKE_A_KEY = re.compile(r"[0-9A-Za-z+/_-]{43}=?|[0-9a-fA-F]{64}")
"""What stands in the place of a path and may be the key itself: it is not repeated."""


class KeyProblem(InferenceError):
    """A key cannot be read, is none, or is not the right one. Never holds any of the key."""


class SecretKey:
    """The 32 bytes of an encryption key, which no message, dump or pickle shows."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        if len(value) != KEY_BYTES:
            raise KeyProblem(f"an encryption key has {KEY_BYTES} bytes, not {len(value)}", _NEW_ENCRYPTION_KEY)
        self._value = bytes(value)

    def reveal(self) -> bytes:
        return self._value

    def __repr__(self) -> str:
        return "SecretKey(hidden)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an encryption key is not copied to other processes")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 private key (RFC 8032). key_id: the fingerprint of its public half."""

    private: Any  # of the library, which shows nothing of it either
    key_id: str

    def sign(self, data: bytes) -> bytes:
        """64 bytes."""
        return self.private.sign(data)


TrustedKeys = Mapping[str, Any]
"""Public keys by their fingerprint."""

_NEW_ENCRYPTION_KEY = "`edge_vision package --new-encryption-key FILE` makes one"
_NEW_SIGNING_KEY = "`edge_vision package --new-signing-key FILE` makes one"


def library(module: str) -> Any:
    """A module of the package cryptography. Raises BackendError, with the remedy, where it is not installed."""
    try:
        return import_module(f"cryptography.{module}")
    except ImportError as error:
        problem = f"signed and encrypted bundles need the Python package cryptography: {error}"
        raise BackendError(problem, "pip install cryptography") from error


def read_encryption_key(reference: str, warn: Warn | None = None, *, bare_path: bool = False) -> SecretKey:
    """The key that `reference` names: 64 hexadecimal digits, base64 of 32 bytes, or 32 bytes that are no text.

    warn: told when others can read the key's file; bare_path: whether a path without `file:` will do. Raises
    KeyProblem, which names the place and nothing of its content.
    """
    found = read_secret(reference, "bundle key", warn, bare_path=bare_path)
    text = found.strip()
    with contextlib.suppress(ValueError, binascii.Error):
        if len(text) == 2 * KEY_BYTES:
            return SecretKey(binascii.unhexlify(text))
    with contextlib.suppress(ValueError, binascii.Error):
        if 43 <= len(text) <= 44:
            return SecretKey(base64.b64decode(text.rstrip(b"=") + b"=", altchars=b"-_", validate=True))
    if len(found) == KEY_BYTES and not found.isascii():
        return SecretKey(found)
    problem = f"{_place(reference)} holds no key of {KEY_BYTES} bytes (64 hexadecimal digits, or 44 of base64)"
    raise KeyProblem(problem, f"a password is no key: {_NEW_ENCRYPTION_KEY}")


def read_secret(reference: str, what: str, warn: Warn | None = None, *, bare_path: bool = False) -> bytes:
    """The bytes that a reference leads to. what: for messages. Raises KeyProblem."""
    form, colon, rest = reference.partition(":")
    if bare_path and form not in ("file", "env", "command"):
        form, colon, rest = "file", ":", reference
    if not colon or form not in ("file", "env", "command") or not rest.strip():
        # The text itself is not repeated: somebody may have put the key there.
        raise KeyProblem(f"the {what} is not given as a reference", f"write {FORMS}; never the key itself")
    if form == "env":
        value = os.environ.get(rest)
        if not value:
            raise KeyProblem(f"the {what} is to be in the environment variable {rest}, which is not set", "set it")
        return os.fsencode(value)
    return _from_command(rest, what) if form == "command" else _from_file(rest, what, warn)


def _from_file(path: str, what: str, warn: Warn | None) -> bytes:
    file = Path(path).expanduser()
    try:
        with file.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):
                raise KeyProblem(f"the {what}'s file {file} is no file", "name the file that holds the key")
            content = stream.read(LARGEST_SECRET)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        shown = "file" if _LIKE_A_KEY.fullmatch(path) else f"file {file}"
        raise KeyProblem(f"the {what}'s {shown} cannot be read: {reason}", "check the path and its owner") from None
    if stat.S_ISREG(mode) and mode & 0o077 and warn:
        warn(f"the {what}'s file {file} can be read by others (mode {mode & 0o777:04o}): chmod 600 {file}")
    return content


def _from_command(line: str, what: str) -> bytes:
    try:
        command = shlex.split(line)
    except ValueError as error:
        raise KeyProblem(f"the command for the {what} cannot be read: {error}", "close its quotes") from None
    program = Path(command[0]).name if command else ""
    remedy = "run it by hand as the user of the node"
    try:
        # What it prints on stderr may hold the key as well: neither is shown.
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        problem = f"the command {program} for the {what} took longer than {COMMAND_SECONDS:.0f} s"
        raise KeyProblem(problem, remedy) from None
    except (OSError, IndexError) as error:
        reason = getattr(error, "strerror", None) or "it is empty"
        raise KeyProblem(f"the command {program} for the {what} cannot be started: {reason}", remedy) from None
    if done.returncode != 0 or not done.stdout:
        ended = f"ended with {done.returncode}" if done.returncode else "printed nothing"
        raise KeyProblem(f"the command {program} for the {what} {ended}", remedy)
    return done.stdout[:LARGEST_SECRET]


def _place(reference: str) -> str:
    form, _, rest = reference.partition(":")
    if form == "command":
        return f"the output of {Path(rest.split()[0]).name}"
    return f"the environment variable {rest}" if form == "env" else f"the file {rest or reference}"


def read_signing_key(reference: str, warn: Warn | None = None, *, bare_path: bool = False) -> SigningKey:
    """An Ed25519 private key in PEM (PKCS #8, as OpenSSL writes it). Raises KeyProblem, BackendError."""
    serialization, ed25519 = library("hazmat.primitives.serialization"), _ed25519()
    content = read_secret(reference, "signing key", warn, bare_path=bare_path)
    try:
        private = serialization.load_pem_private_key(content, password=None)
    except TypeError:
        remedy = "write it without one: `openssl pkey -in FILE -out NEW`, and chmod 600 NEW"
        raise KeyProblem(f"the signing key in {_place(reference)} has a password", remedy) from None
    except Exception:  # ValueError or the library's own; its text could tell of the content
        raise KeyProblem(f"{_place(reference)} holds no private key in PEM", _NEW_SIGNING_KEY) from None
    if not isinstance(private, ed25519.Ed25519PrivateKey):
        raise KeyProblem(f"{_place(reference)} holds a private key that is not Ed25519", _NEW_SIGNING_KEY)
    return SigningKey(private, fingerprint(private.public_key()))


def read_trusted_keys(place: str | Path, warn: Warn | None = None) -> TrustedKeys:
    """The public keys in a file, or in a folder's files that end with .pub or .pem.

    Raises KeyProblem for a place without any, and for a file that holds another thing.
    """
    serialization, ed25519 = library("hazmat.primitives.serialization"), _ed25519()
    path = Path(place).expanduser()
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in PUBLIC_SUFFIXES)
        if not files:
            remedy = "put the signers' public keys there (*.pub)"
            raise KeyProblem(f"the folder {path} of trusted keys holds no {' or '.join(PUBLIC_SUFFIXES)} file", remedy)
    keys: dict[str, Any] = {}
    for file in files:
        try:
            mode = file.stat().st_mode
            key = serialization.load_pem_public_key(file.read_bytes()[:LARGEST_SECRET])
        except OSError as error:
            problem = f"the trusted key {file} cannot be read: {error.strerror}"
            raise KeyProblem(problem, "name a public key, or a folder of them") from None
        except Exception:  # ValueError or the library's own
            raise KeyProblem(f"{file} holds no public key in PEM", "remove it, or name another folder") from None
        if not isinstance(key, ed25519.Ed25519PublicKey):
            raise KeyProblem(f"{file} holds a public key that is not Ed25519", "remove it, or name another folder")
        keys[fingerprint(key)] = key
        if mode & 0o022 and warn:
            warn(f"the trusted key {file} can be changed by others (mode {mode & 0o777:04o}): chmod 644 {file}")
    if path.is_dir() and path.stat().st_mode & 0o022 and warn:
        warn(f"others can put keys into the folder of trusted keys: chmod 755 {path}")
    return keys


def fingerprint(public: Any) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a public key's 32 bytes."""
    serialization = library("hazmat.primitives.serialization")
    raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:16]


def _ed25519() -> Any:
    return library("hazmat.primitives.asymmetric.ed25519")


def new_encryption_key(file: Path) -> None:
    """Write a new key, base64, readable by its owner alone. Raises KeyProblem where the file is there already."""
    _write_new(file, base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n", 0o600)


def new_signing_key(file: Path) -> tuple[Path, str]:
    """Write a new private key, and its public half to FILE.pub; the path of that and its fingerprint.

    Raises KeyProblem where one of the two is there already; then neither is written.
    """
    serialization = library("hazmat.primitives.serialization")
    public_file = file.with_name(f"{file.name}.pub")
    private = _ed25519().Ed25519PrivateKey.generate()
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    public = private.public_key()
    _write_new(public_file, public.public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo), 0o644)
    try:
        _write_new(file, private.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain), 0o600)
    except BaseException:
        public_file.unlink()
        raise
    return public_file, fingerprint(public)


def _write_new(file: Path, content: bytes, mode: int) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        problem = f"{file} is there already, and a key that is lost is lost"
        raise KeyProblem(problem, "name another file, or move that one away") from None
    except OSError as error:
        raise KeyProblem(f"{file} cannot be written: {error.strerror}", "name another place") from None
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)  # whatever the umask
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        file.unlink()
        raise
