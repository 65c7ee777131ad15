"""A process to start: its executable, its ROS arguments, its command line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_vision.deployment.arguments import DeploymentError
from edge_vision.deployment.parameter_files import GeneratedFile

PACKAGE = "edge_vision"


@dataclass(frozen=True, slots=True)
class Process:
    """One process, in the terms that both a launch file and a plain command line need.

    arguments: before the ROS arguments; namespace: absolute, "" for the root; parameter_files: the later ones win;
    generated: those of them that `prepare` writes; remaps: (from, to).
    """

    name: str
    executable: str
    nodes: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    namespace: str = ""
    parameter_files: tuple[Path, ...] = ()
    generated: tuple[GeneratedFile, ...] = ()
    remaps: tuple[tuple[str, str], ...] = ()
    log_arguments: tuple[str, ...] = ()
    package: str = PACKAGE

    @property
    def ros_arguments(self) -> tuple[str, ...]:
        """Everything that follows --ros-args."""
        result: list[str] = ["-r", f"__ns:={self.namespace}"] if self.namespace else []
        for path in self.parameter_files:
            result += ["--params-file", str(path)]
        for old, new in self.remaps:
            result += ["-r", f"{old}:={new}"]
        return (*result, *self.log_arguments)

    def prepare(self) -> None:
        """Writes the generated parameter files; call before starting. DeploymentError where that cannot be."""
        for file in self.generated:
            file.write()

    def command(self, folder: Path) -> list[str]:
        """The command line, for the executables in `folder` (see `executable_directory`); prepares the process."""
        self.prepare()
        ros = ["--ros-args", *self.ros_arguments] if self.ros_arguments else []
        return [str(folder / self.executable), *self.arguments, *ros]


def executable_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """lib/edge_vision of the installed package, by AMENT_PREFIX_PATH. Raises DeploymentError with the remedy."""
    prefixes = [Path(prefix) for prefix in environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    for prefix in prefixes:
        folder = prefix / "lib" / PACKAGE
        if (folder / "pipeline").is_file():
            return folder
    tried = f"under none of {', '.join(map(str, prefixes))}" if prefixes else "AMENT_PREFIX_PATH is empty"
    raise DeploymentError(
        f"the built nodes are not found ({tried}); build them with scripts/setup.sh, then in this shell: "
        ". scripts/env.sh (in a colcon workspace: colcon build, then . install/setup.bash)"
    )
