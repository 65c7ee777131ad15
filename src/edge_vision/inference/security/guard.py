"""Opening a bundle under a policy: what was packaged is proven, decrypted and unpacked to memory, and then loaded.

Every file is read once. The bytes that were hashed and decrypted are the bytes that the runtime is given, from a
private folder (private.py): what happens to the bundle after it was checked changes nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from edge_vision.inference import bundle as bundles
from edge_vision.inference.bundle import Bundle
from edge_vision.inference.errors import BackendError, ModelError
from edge_vision.inference.labels import KNOWN
from edge_vision.inference.schema import read_yaml
from edge_vision.inference.security import container
from edge_vision.inference.security.keys import (
    KeyProblem,
    SecretKey,
    TrustedKeys,
    Warn,
    read_encryption_key,
    read_trusted_keys,
)
from edge_vision.inference.security.private import PrivateFolder
from edge_vision.inference.security.seal import (
    LARGEST_SEAL,
    PACKAGE_AGAIN,
    SEAL,
    SIGNATURE,
    Manifest,
    Seal,
    SealedFile,
    check_signatures,
    parse_manifest,
)
from edge_vision.inference.security.sources import FolderSource, Source, source_of
from edge_vision.system_files import read_text

POLICIES = ("any", "signed")
ENCRYPTED = ".enc"  # of every file's name in an encrypted bundle
BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class BundlePolicy:
    """What may be opened, and with what.

    policy: `any`, or `signed` for bundles alone that a trusted key signed; trusted_keys: a public key's file or a
    folder of them; key: the reference to the encryption key (keys.py), never the key.
    """

    policy: str = "any"
    trusted_keys: str = ""
    key: str = ""


ANY = BundlePolicy()


@dataclass(frozen=True, slots=True)
class Means:
    """A policy with its keys read."""

    signed: bool = False
    trusted: TrustedKeys = dataclasses.field(default_factory=dict)
    key: Callable[[], SecretKey] | None = None  # only read where something is encrypted


def means_of(policy: BundlePolicy, warn: Warn | None = None) -> Means:
    """Raises KeyProblem, BackendError; ValueError for a policy that there is not."""
    if policy.policy not in POLICIES:
        raise ValueError(f"the policy {policy.policy!r} is none of {', '.join(POLICIES)}")
    if policy.policy == "signed" and not policy.trusted_keys:
        raise KeyProblem("the policy `signed` trusts nobody", "name public keys: trusted_keys, a file or a folder")
    trusted = read_trusted_keys(policy.trusted_keys, warn) if policy.trusted_keys else {}
    key = (lambda: read_encryption_key(policy.key, warn)) if policy.key else None
    return Means(policy.policy == "signed", trusted, key)


@contextlib.contextmanager
def open_bundle(
    path: str | Path, policy: BundlePolicy = ANY, *, warn: Warn | None = None, **overrides: Any
) -> Iterator[Bundle]:
    """The bundle at `path`, a folder, model.yaml, model file or packaged archive, as `load_bundle` gives it.

    Its files are there until the block ends: load the engine in it. overrides: as `load_bundle` takes them; warn: told
    of keys that others can read or change. Raises, besides what `load_bundle` does, ModelError for a bundle that the
    policy refuses or that was changed, KeyProblem for a key that is missing or wrong, BackendError where the package
    cryptography is not installed.
    """
    with open_with(path, means_of(policy, warn), **overrides) as bundle:
        yield bundle


@contextlib.contextmanager
def open_with(path: str | Path, means: Means, **overrides: Any) -> Iterator[Bundle]:
    """`open_bundle` with the keys read."""
    path = Path(path).expanduser()
    with _source(path) as source:
        if source is None:
            if means.signed:
                problem = "is not signed, and the policy is to open signed bundles only"
                raise ModelError(path, problem, "`edge_vision package BUNDLE -o OUT --sign KEY` signs one")
            with _released(bundles.load_bundle(path, **overrides)) as bundle:
                yield bundle
            return
        with contextlib.ExitStack() as stack:
            manifest, seal = _checked_seal(source, means)
            _fits_in_memory(source, manifest)
            key = _key(source, seal, means)
            folder = stack.enter_context(PrivateFolder())
            with _named(folder.path, source.path):
                _unpack(source, manifest, key, folder)
                _refuse_outside(folder.path)
                bundle = stack.enter_context(_released(bundles.load_bundle(folder.path, **overrides)))
                if (bundle.name, bundles.FORMAT) != (manifest.name, manifest.bundle_format):
                    problem = f"is the seal of {manifest.name}, format {manifest.bundle_format}"
                    raise ModelError(source.path / SEAL, f"{problem}; model.yaml is of {bundle.name}", PACKAGE_AGAIN)
                scratch = folder.scratch if seal.encrypted else None
                yield dataclasses.replace(bundle, seal=str(seal), scratch=scratch)


@contextlib.contextmanager
def _released(bundle: Bundle) -> Iterator[Bundle]:
    """What was unpacked for the bundle goes with the block."""
    try:
        yield bundle
    finally:
        for variant in bundle.variants:
            if variant.unpacked is not None:
                variant.unpacked.close()


def inspect(path: str | Path, policy: BundlePolicy = ANY, *, warn: Warn | None = None) -> Seal:
    """Check a packaged bundle as `open_bundle` does, without loading it; what is encrypted is decrypted, into nothing,
    where the policy has a key. Errors as of `open_bundle`, and ModelError for a bundle that was not packaged."""
    means = means_of(policy, warn)
    path = Path(path).expanduser()
    with _source(path) as source:
        if source is None:
            raise ModelError(path, f"is no packaged bundle: it has no {SEAL}", "`edge_vision package` makes one")
        manifest, seal = _checked_seal(source, means)
        key = means.key() if seal.encrypted and means.key else None
        for file in manifest.files:
            _copy(source, file, lambda _: None, manifest, key)
        return seal


def check_folder(folder: Path) -> Seal:
    """Compare a packaged folder with its seal: for those that load it without a policy.

    Raises ModelError where it was changed, or is encrypted.
    """
    source = FolderSource(folder)
    manifest, seal = _checked_seal(source, Means())
    if seal.encrypted:
        remedy = "the inference node opens it with its parameter bundle_key; `edge_vision package` unpacks it"
        raise ModelError(folder, "is encrypted", remedy)
    for file in manifest.files:
        _copy(source, file, lambda _: None, manifest, None)
    return seal


@contextlib.contextmanager
def _source(path: Path) -> Iterator[Source | None]:
    source = source_of(path)
    try:
        yield source
    finally:
        if source is not None:
            source.close()


def _checked_seal(source: Source, means: Means) -> tuple[Manifest, Seal]:
    """The manifest, its signatures checked and the files' names compared with those that there are."""
    shown = source.path / SEAL
    content = _whole(source, SEAL)
    good: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    if SIGNATURE in _all_names(source):
        signatures = _whole(source, SIGNATURE)
        good, unknown = check_signatures(content, signatures, means.trusted, source.path / SIGNATURE)
    if means.signed and not good:
        who = f"was signed by {', '.join(unknown)}, whom nobody here trusts" if unknown else "is not signed"
        remedy = "put the signer's public key among the trusted ones if you trust it, or sign it with a trusted key"
        raise ModelError(source.path, f"{who}, and the policy is to open signed bundles only", remedy)
    manifest = parse_manifest(content, shown)
    listed, there = {file.path for file in manifest.files}, source.names()
    for names, what in ((listed - there, "is missing"), (there - listed, "was added after it was packaged")):
        if names:
            raise ModelError(source.path, f"{min(names)} {what}", PACKAGE_AGAIN)
    plain = [file.path for file in manifest.files if not file.path.endswith(ENCRYPTED)]
    if manifest.encryption_id and plain:
        raise ModelError(shown, f"{plain[0]} is not encrypted, in a bundle that is", PACKAGE_AGAIN)
    size = sum(file.size for file in manifest.files)
    return manifest, Seal(manifest.name, len(listed), size, good, unknown, bool(manifest.encryption_id))


def _all_names(source: Source) -> set[str]:
    with contextlib.suppress(ModelError), source.open(SIGNATURE):
        return {SIGNATURE}
    return set()


def _whole(source: Source, name: str) -> bytes:
    with source.open(name) as stream:
        content = stream.read(LARGEST_SEAL + 1)
    if len(content) > LARGEST_SEAL:
        raise ModelError(source.path / name, "is too large to be a seal", PACKAGE_AGAIN)
    return content


def _fits_in_memory(source: Source, manifest: Manifest) -> None:
    """An archive can hold little and claim much."""
    needed = sum(file.size for file in manifest.files)
    line = next((line for line in read_text(Path("/proc/meminfo")).splitlines() if "MemAvailable" in line), "")
    available = int(line.split()[1]) << 10 if line else needed
    if needed > available:
        problem = f"takes {needed >> 20} MiB to unpack, and {available >> 20} MiB of memory are free"
        raise ModelError(source.path, problem, "free some memory, or use a smaller model")


def _key(source: Source, seal: Seal, means: Means) -> SecretKey | None:
    """The key of an encrypted bundle, None for another. Raises KeyProblem."""
    if not seal.encrypted:
        return None
    if means.key is None:
        remedy = "name where its key is: parameter bundle_key, or --key (file:, env: or command:)"
        raise KeyProblem("is encrypted, and no key is given", remedy, str(source.path))
    return means.key()


def _unpack(source: Source, manifest: Manifest, key: SecretKey | None, folder: PrivateFolder) -> None:
    for file in manifest.files:
        folder.write(
            file.path.removesuffix(ENCRYPTED) if key else file.path,
            lambda write, file=file: _copy(source, file, write, manifest, key),  # type: ignore[misc]
        )
    if _has_external_data(folder.path):
        folder.without_links()


def _refuse_outside(folder: Path) -> None:
    """Raises ModelError where model.yaml names a file that is not in the bundle, and so was not proven."""
    card = folder / "model.yaml"
    if not card.is_file():
        return  # which load_bundle tells
    content = read_yaml(card)
    variants = content.get("variants")
    listed = variants if isinstance(variants, list) else []  # load_bundle tells what is wrong with it
    named = [(f"variants.{i}.file", v.get("file")) for i, v in enumerate(listed) if isinstance(v, dict)]
    labels = content.get("labels")
    named += [("labels", labels)] if isinstance(labels, str) and labels not in KNOWN else []
    for key, name in named:
        if isinstance(name, str) and (Path(name).is_absolute() or ".." in Path(name).parts):
            raise ModelError(card, f"names {name}, which is not in the bundle", "put the file into its folder", key)


def _has_external_data(folder: Path) -> bool:
    """Whether an ONNX file there has weights in a file beside it, which it names: ONNX Runtime and OpenVINO resolve
    links before they look for that."""
    files = [place for place in folder.rglob("*") if place.is_file()]
    for model in (place for place in files if place.suffix == ".onnx"):
        content = model.read_bytes()
        if any(other.name.encode() in content for other in files if other != model):
            return True
    return False


def _copy(
    source: Source, file: SealedFile, write: Callable[[bytes], object], manifest: Manifest, key: SecretKey | None
) -> None:
    """The bytes of one file to `write`, decrypted where there is a key. Raises ModelError unless they are those of the
    manifest, KeyProblem where it is not the right key: what was written is then to be thrown away."""
    shown = source.path / file.path
    with source.open(file.path) as stream:
        reader = _Hashing(stream, file.size)
        problem: ValueError | None = None
        try:
            if key is None:
                while block := reader.read(BLOCK):
                    write(block)
            else:
                name = file.path.removesuffix(ENCRYPTED)
                container.decrypt(reader, write, key, name, bytes.fromhex(manifest.encryption_id))  # type: ignore[arg-type]
        except (container.Damaged, container.OtherKey) as error:
            problem = error
        while reader.read(BLOCK):  # to the end: the sum tells whether the file was changed
            pass
        if reader.size != file.size or reader.digest.hexdigest() != file.sha256:
            raise ModelError(shown, f"was changed or cut off after it was packaged ({SEAL} tells)", PACKAGE_AGAIN)
        if isinstance(problem, container.OtherKey):
            raise KeyProblem("was encrypted with another key than the one given", "give the right key", str(shown))
        if problem is not None:
            raise ModelError(shown, f"cannot be decrypted: {problem}", PACKAGE_AGAIN)


class _Hashing:
    """Reads at most a byte more than `limit`, and hashes what it hands out."""

    def __init__(self, stream: BinaryIO, limit: int) -> None:
        self.stream, self.left = stream, limit + 1
        self.size, self.digest = 0, hashlib.sha256()

    def read(self, size: int) -> bytes:
        block = self.stream.read(min(size, self.left))
        self.left -= len(block)
        self.size += len(block)
        self.digest.update(block)
        return block


@contextlib.contextmanager
def _named(private: Path, shown: Path) -> Iterator[None]:
    """Errors of what is in the private folder name the bundle that the user knows."""

    def told(text: str) -> str:
        return text.replace(str(private), str(shown))

    try:
        yield
    except ModelError as error:
        file = Path(told(str(error.file)))
        raise ModelError(file, told(error.problem), told(error.remedy), error.key) from error.__cause__
    except BackendError as error:
        raise BackendError(told(error.problem), told(error.remedy), told(error.where)) from error.__cause__
