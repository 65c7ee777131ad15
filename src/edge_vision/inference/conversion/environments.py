"""Environments of their own for converters whose requirements do not go with ours: made once, on demand, in the
cache.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edge_vision.inference.conversion.contract import ConversionError, Progress
from edge_vision.paths import cache_directory

_STAMP = "ready"
_LOG = "pip.log"
_INSTALL_LIMIT = 1200  # s
_OFFLINE = ("NameResolutionError", "NewConnectionError", "ConnectTimeout", "ProxyError", "Network is unreachable")


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment to be.

    requirements: everything that goes in, pinned; nothing else is installed (pip's --no-deps). oldest, newest: Python
    versions that the requirements have wheels for, both included. size: MB on disk, for people.
    """

    name: str
    version: str
    requirements: tuple[str, ...]
    oldest: tuple[int, int] = (3, 10)
    newest: tuple[int, int] = (3, 99)
    size: int = 0

    @property
    def override(self) -> str:
        """The environment variable that names the Python to make it with."""
        return f"EDGE_VISION_PYTHON_{self.name.upper().replace('-', '_')}"

    @property
    def folder(self) -> Path:
        """Where it lies once made."""
        content = "\n".join((*self.requirements, platform.machine()))
        digest = hashlib.sha256(content.encode()).hexdigest()[:8]
        return cache_directory("environments") / f"{self.name}-{self.version}-{digest}"

    @property
    def ready(self) -> bool:
        """Whether it is there and its Python is still."""
        return (self.folder / _STAMP).is_file() and (self.folder / "bin" / "python").exists()


def unavailable(environment: Environment) -> str | None:
    """None where the environment is there or can be made, otherwise why not and what helps."""
    if environment.ready:
        return None
    try:
        find_python(environment)
    except ConversionError as error:
        return f"{error.problem}; {error.remedy}"
    return None


def find_python(environment: Environment) -> Path:
    """A Python that `environment` can be made with: the one that its variable names, this one, those on PATH, pyenv's
    and uv's. Raises ConversionError with the remedy where there is none."""
    oldest, newest = environment.oldest, environment.newest
    wanted = ".".join(map(str, oldest)) if oldest == newest else f"{oldest[0]}.{oldest[1]} to {newest[0]}.{newest[1]}"
    if newest[1] == 99:
        wanted = f"{oldest[0]}.{oldest[1]} or newer"
    named = os.environ.get(environment.override)
    if named:
        problem = _unfit(Path(named), environment)
        if problem:
            raise ConversionError(f"{environment.override} names {named}, {problem}", f"name a Python {wanted}")
        return Path(named)
    tried = []
    for python in _pythons(environment):
        problem = _unfit(python, environment)
        if problem is None:
            return python
        tried.append(f"{python} {problem}")
    version = ".".join(map(str, oldest))
    listed = f" ({'; '.join(tried[:4])})" if tried else ""
    raise ConversionError(
        f"{environment.name} {environment.version} needs Python {wanted}, and none is here{listed}",
        f"install one (`apt install python{version}-venv`, `pyenv install {version}`, `uv python install {version}`), "
        f"or name one in {environment.override}",
    )


def _pythons(environment: Environment) -> Iterator[Path]:
    if environment.oldest <= sys.version_info[:2] <= environment.newest:
        yield Path(sys.executable)
    minors = range(environment.oldest[1], min(environment.newest[1], environment.oldest[1] + 10) + 1)
    for minor in minors:
        found = shutil.which(f"python3.{minor}")
        if found:
            yield Path(found)
    roots = (Path("~/.pyenv/versions"), Path("~/.local/share/uv/python"))
    for root in roots:
        for minor in minors:
            yield from sorted(root.expanduser().glob(f"*3.{minor}*/bin/python3.{minor}"), reverse=True)


def _unfit(python: Path, environment: Environment) -> str | None:
    """Why a Python cannot be used; None where it can. It is run: pyenv's shims are there for versions that are not."""
    code = "import sys, venv, ensurepip; print(*sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=30, env=_clean())
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"which does not run ({error})"
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return f"which cannot make virtual environments ({last})"
    found = tuple(int(part) for part in done.stdout.split())
    if not environment.oldest <= found <= environment.newest:
        return f"which is Python {'.'.join(map(str, found))}"
    return None


def ensure(environment: Environment, progress: Progress) -> Path:
    """The folder of the environment, made if it is not there. Several processes may ask at once: one makes it.

    Raises ConversionError, with pip's last words and where the whole output lies: no fitting Python, no network, a
    requirement that cannot be had.
    """
    folder = environment.folder
    if environment.ready:
        return folder
    with _locked(folder.with_name(f"{folder.name}.lock"), environment, progress):
        if not environment.ready:
            _make(environment, find_python(environment), progress)
    return folder


@contextmanager
def _locked(file: Path, environment: Environment, progress: Progress) -> Iterator[None]:
    with file.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"another process is making the environment of {environment.name}: waiting for it")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _make(environment: Environment, python: Path, progress: Progress) -> None:
    folder = environment.folder
    shutil.rmtree(folder, ignore_errors=True)
    size = f", about {environment.size} MB" if environment.size else ""
    progress(f"making an environment for {environment.name} {environment.version} in {folder} (once{size})")
    log = folder.with_name(f"{folder.name}.{_LOG}")
    try:
        with log.open("w", encoding="utf-8") as output:
            step([python, "-m", "venv", folder], output, environment, log)
            pip = [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
            options = ["--no-deps", "--only-binary=:all:", "--retries", "2", "--timeout", "30", "--no-compile"]
            progress(f"installing {', '.join(environment.requirements)}")
            step([*pip, *options, *environment.requirements], output, environment, log)
    except BaseException:  # an interruption, too, leaves no half of it
        shutil.rmtree(folder, ignore_errors=True)
        raise
    log.replace(folder / _LOG)
    (folder / _STAMP).write_text(f"{python}\n", encoding="utf-8")


def step(command: Sequence[object], output: IO[str], environment: Environment, log: Path) -> None:
    """A step of making an environment, its output written to `output`, the file `log`. Raises ConversionError with the
    reason where it fails."""
    try:
        done = subprocess.run(
            [str(part) for part in command], stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env=_clean(), timeout=_INSTALL_LIMIT
        )  # fmt: skip
        code = done.returncode
    except subprocess.TimeoutExpired:
        code = -1
    if code == 0:
        return
    text = log.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.splitlines() if line.strip()]
    if code == -1:
        problem, remedy = f"it took longer than {_INSTALL_LIMIT} s", "try again on a faster connection"
    elif any(word in text for word in _OFFLINE):
        problem = "the package index cannot be reached"
        remedy = "connect this machine to the network once, or convert on another machine and copy the bundle here"
    else:
        problem = next(
            (line for line in reversed(lines) if "ERROR" in line), lines[-1] if lines else f"exit code {code}"
        )
        remedy = "see the whole output there"
    what = f"the environment of {environment.name} {environment.version} could not be made"
    raise ConversionError(f"{what}: {problem} ({log})", remedy)


def run(environment: Environment, command: Sequence[object], folder: Path, limit: float = 600) -> str:
    """Run a command of a ready environment in `folder`; its output. The environment's programs come first on PATH.

    Raises ConversionError with the last lines of the output where it fails or takes longer than `limit` seconds.
    """
    programs = environment.folder / "bin"
    variables = _clean() | {"PATH": os.pathsep.join((str(programs), os.environ.get("PATH", os.defpath)))}
    try:
        done = subprocess.run(
            [str(part) for part in command], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, env=variables, timeout=limit, text=True, errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        remedy = "convert on a faster machine and copy the bundle here"
        raise ConversionError(f"{environment.name} took longer than {limit:.0f} s", remedy) from error
    except OSError as error:
        remedy = f"remove {environment.folder}, so that it is made anew"
        raise ConversionError(f"{environment.name} cannot be started: {error}", remedy) from error
    if done.returncode:
        raise ConversionError(
            f"{environment.name} {environment.version} failed (exit code {done.returncode}): {last_lines(done.stdout)}",
            "see whether it supports the model's operators",
        )
    return done.stdout


def last_lines(text: str, count: int = 3) -> str:
    """The end of a program's output, on one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-count:])[-500:] or "it says nothing"


def _clean() -> dict[str, str]:
    """The process's variables without those that lead a Python to another one's packages."""
    return {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
