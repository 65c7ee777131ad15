"""Bundles that are signed and encrypted: proven before a runtime sees a byte of them, unpacked where nobody else reads.

    with open_bundle(path, BundlePolicy("signed", trusted_keys="keys/", key="file:/etc/robot/model.key")) as bundle:
        engine = Engine.load(bundle)

What is guaranteed, and what is not, is in docs/bundle_security.md. The Python package `cryptography` is imported only
where a signature is made or checked, or something is encrypted.
"""

from edge_vision.inference.security.guard import ANY, POLICIES, BundlePolicy, check_folder, inspect, open_bundle
from edge_vision.inference.security.keys import (
    KeyProblem,
    SecretKey,
    SigningKey,
    new_encryption_key,
    new_signing_key,
    read_encryption_key,
    read_signing_key,
    read_trusted_keys,
)
from edge_vision.inference.security.packaging import package
from edge_vision.inference.security.seal import Seal

__all__ = [
    "ANY",
    "POLICIES",
    "BundlePolicy",
    "KeyProblem",
    "Seal",
    "SecretKey",
    "SigningKey",
    "check_folder",
    "inspect",
    "new_encryption_key",
    "new_signing_key",
    "open_bundle",
    "package",
    "read_encryption_key",
    "read_signing_key",
    "read_trusted_keys",
]
