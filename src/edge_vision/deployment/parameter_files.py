"""Parameter files: what the arguments come to, written for ROS, and the user's own file looked through.

Parameters travel in files, not as ``-p node:name:=value``: rcl matches such a rule against the full node name, so it
reaches no node that is in a namespace, and its values would be YAML that nobody quoted.

ROS merges the files by the *pattern* of an entry, and applies the patterns in the order in which they first occurred,
whatever is more specific. So each layer needs patterns that no other uses, or a late one would slip below an early
one: config/detect.yaml has ``/**/**/camera``, people write ``/**``, ``/**/camera`` or ``/front/camera``, and the
arguments of the launch come last as ``/**/**/**/camera``. All mean: camera, in whatever namespace.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from edge_vision.deployment.arguments import DeploymentError

Scalar = bool | int | float | str

DEFAULTS_PATTERN = "/**/**/"
ARGUMENTS_PATTERN = "/**/**/**/"


@dataclass(frozen=True, slots=True)
class GeneratedFile:
    """A parameter file whose name is made of its content: the same parameters, the same file."""

    path: Path
    text: str

    def write(self) -> Path:
        """Writes the file unless it is there. DeploymentError where that cannot be."""
        folder = self.path.parent
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            if folder.stat().st_uid != os.getuid():  # nodes would read what somebody else wrote
                raise PermissionError(f"{folder} belongs to another user")
            if not self.path.is_file():
                handle, temporary = tempfile.mkstemp(dir=folder, suffix=".part")
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(self.text)
                os.replace(temporary, self.path)
        except OSError as error:
            raise DeploymentError(
                f"cannot write the parameter file {self.path}: {error}; set TMPDIR to a folder of yours with room"
            ) from None
        return self.path


def generate(parameters: Mapping[str, Mapping[str, Scalar]], folder: Path) -> GeneratedFile:
    """The parameters of each node (by its plain name) as a file in `folder`; nothing is written yet."""
    content = {
        ARGUMENTS_PATTERN + node: {"ros__parameters": dict(values)} for node, values in parameters.items() if values
    }
    text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=2**16)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return GeneratedFile(folder / f"{digest}.yaml", text)


def scratch_directory(environ: Mapping[str, str]) -> Path:
    """Where generated files go: of this user alone, gone at the next start of the machine."""
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if runtime and os.access(runtime, os.W_OK | os.X_OK):
        return Path(runtime) / "edge_vision"
    return Path(environ.get("TMPDIR") or tempfile.gettempdir()) / f"edge_vision-{os.getuid()}"


def read(path: Path) -> dict[str, Any]:
    """The entries (node pattern -> parameters) of a parameter file. DeploymentError for one that ROS could not use."""
    remedy = "it needs entries such as  /**/inference: {ros__parameters: {backend: openvino}}"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DeploymentError(f"params_file:={path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise DeploymentError(f"params_file:={path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise DeploymentError(f"params_file:={path} is no parameter file; {remedy}")
    entries: dict[str, Any] = {}
    _collect(content, "", entries)
    if not entries:
        raise DeploymentError(f"params_file:={path} has no ros__parameters; {remedy}")
    return entries


def _collect(content: Mapping[Any, Any], prefix: str, entries: dict[str, Any]) -> None:
    """Namespaces may be nested mappings: `front: {camera: {ros__parameters: ...}}`."""
    for key, value in content.items():
        if key == "ros__parameters":
            entries[prefix] = value
        elif isinstance(value, Mapping):
            _collect(value, f"{prefix}/{str(key).strip('/')}", entries)


def matches(pattern: str, full_name: str) -> bool:
    """Whether an entry concerns the node, as rcl has it: `*` is one token of the name, `**` any number of them."""
    expression = "".join(
        r"(/\w+)*" if part == "**" else r"/\w+" if part == "*" else "/" + re.escape(part)
        for part in pattern.strip("/").split("/")
    )
    return re.fullmatch(expression, full_name) is not None


def unmatched(path: Path, full_names: Iterable[str]) -> list[str]:
    """The entries of a user's file that concern none of the nodes: ROS says nothing about them."""
    names = list(full_names)
    return [pattern for pattern in read(path) if not any(matches(pattern, name) for name in names)]
