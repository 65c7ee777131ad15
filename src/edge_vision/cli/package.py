"""`edge_vision package`: a bundle signed, encrypted, in one file; checked; and the keys for it."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from edge_vision.inference.errors import InferenceError
from edge_vision.paths import find_model

DESCRIPTION = (
    "Sign and encrypt a bundle, check one, make keys. A secret KEY is a file's path, or a reference: file:PATH, "
    "env:NAME or command:PROGRAM ARGUMENTS. docs/bundle_security.md tells what is guaranteed."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", nargs="?", help="bundled model, bundle folder, model file or packaged bundle")
    parser.add_argument("-o", "--out", type=Path, help="where to: a new folder, or with --archive a new file")
    parser.add_argument("--sign", action="append", metavar="KEY", help="Ed25519 private key; may be repeated")
    parser.add_argument("--encrypt", metavar="KEY", help="key to encrypt with (AES-256-GCM)")
    parser.add_argument("--archive", action="store_true", help="one file (.evb) instead of a folder")
    parser.add_argument("--verify", action="store_true", help="check every file's hash, and with --trust who signed")
    parser.add_argument("--trust", metavar="PUB", help="public key, or folder of them: BUNDLE must be signed by one")
    parser.add_argument("--key", metavar="KEY", help="key that BUNDLE is encrypted with, to check or repackage it")
    parser.add_argument("--new-signing-key", type=Path, metavar="FILE", help="make a key pair: FILE and FILE.pub")
    parser.add_argument("--new-encryption-key", type=Path, metavar="FILE", help="make a key to encrypt with")


def run(args: argparse.Namespace) -> int:
    wrong = _misused(args)
    if wrong:
        print(f"edge_vision package: {wrong}", file=sys.stderr)
        return 2
    try:
        with _terminated_like_interrupted():
            return _run(args)
    except (InferenceError, OSError) as error:
        print(f"edge_vision package: {error}", file=sys.stderr)
        return 1


def _misused(args: argparse.Namespace) -> str:
    keys = args.new_signing_key or args.new_encryption_key
    asked = [name for name, there in (("a new key", keys), ("--verify", args.verify), ("-o OUT", args.out)) if there]
    if len(asked) != 1:
        return f"asks for {' and '.join(asked) or 'nothing'}: give one of -o OUT, --verify, --new-...-key FILE"
    if bool(args.bundle) == bool(keys):
        return "a new key needs no BUNDLE" if keys else "name the BUNDLE"
    if not args.out and (args.sign or args.encrypt or args.archive):
        return "--sign, --encrypt and --archive need -o OUT"
    return ""


def _run(args: argparse.Namespace) -> int:
    from edge_vision.inference import security

    if args.new_signing_key:
        public, key_id = security.new_signing_key(args.new_signing_key.expanduser())
        print(f"{args.new_signing_key}: keep it secret, and a copy of it safe")
        print(f"{public}: give it to those who are to trust it (fingerprint {key_id})")
    if args.new_encryption_key:
        security.new_encryption_key(args.new_encryption_key.expanduser())
        print(f"{args.new_encryption_key}: who has it reads the bundles, who lost it does not")
    if args.new_signing_key or args.new_encryption_key:
        return 0
    reference = _reference(args.key) if args.key else ""
    policy = security.BundlePolicy("signed" if args.trust else "any", args.trust or "", reference)
    path = find_model(args.bundle)
    if args.verify:
        begun = time.perf_counter()
        seal = security.inspect(path, policy, warn=_warn)
        took = (time.perf_counter() - begun) * 1e3
        print(f"{path}: {seal.name}, {seal.files} files, {seal.size / 1e6:.2f} MB: whole; {seal} (in {took:.0f} ms)")
        if not args.trust:
            print("  --trust PUB tells whether somebody whom you trust signed it", file=sys.stderr)
        if seal.encrypted and not args.key:
            print("  --key KEY tells whether it decrypts", file=sys.stderr)
        return 0
    signing = [security.read_signing_key(key, _warn, bare_path=True) for key in args.sign or ()]
    encryption = security.read_encryption_key(args.encrypt, _warn, bare_path=True) if args.encrypt else None
    out, seal = security.package(
        path, args.out, signing=signing, encryption=encryption, archive=args.archive, policy=policy, warn=_warn
    )
    print(f"{out}: {seal.name}, {seal.files} files, {seal.size / 1e6:.2f} MB; {seal}")
    return 0


def _reference(key: str) -> str:
    """A path as it is, or a reference, as a reference."""
    return key if key.startswith(("file:", "env:", "command:")) else f"file:{key}"


def _warn(line: str) -> None:
    print(f"edge_vision package: warning: {line}", file=sys.stderr)


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM, which a supervisor sends, cleans up as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
