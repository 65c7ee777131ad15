"""A folder that its process alone reads, whose files cannot be changed and vanish with the process.

The files are memfds (anonymous memory, memfd_create(2)), sealed against every write, and the folder holds links to them
(`/proc/<pid>/fd/<n>`), by which any runtime, and the processes that try candidates, open them like other files. Once
the folder is closed the memory goes when the last runtime that maps it lets go. A process that is killed leaves links
to nothing, which the next one that makes such a folder removes, and what was put into `scratch`.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from edge_vision.inference.errors import BackendError

PREFIX = "edge_vision-bundle-"
NEWBORN_SECONDS = 60.0  # a folder that is younger may be about to be locked
_SEALS = sum(getattr(fcntl, f"F_SEAL_{name}", 0) for name in ("WRITE", "SHRINK", "GROW", "SEAL"))  # of Linux

Write = Callable[[bytes], None]

_open: set[PrivateFolder] = set()


def memory_folders() -> tuple[Path, ...]:
    """Folders in memory: of all, and of this user where there is one."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return (Path("/dev/shm"), *([Path(runtime)] if runtime else []))


class PrivateFolder:
    """path: of mode 0700; scratch: a folder in it for what runtimes make of the model.

    Raises BackendError where there is no folder in memory to make it in.
    """

    def __init__(self) -> None:
        places = [folder for folder in memory_folders() if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)]
        if not places:
            listed = " or ".join(map(str, memory_folders()))
            problem = f"there is no folder in memory that can be written to unpack the bundle to ({listed})"
            raise BackendError(problem, "mount a tmpfs there")
        base = places[0]
        _sweep(base)
        self._descriptors: list[int] = []
        self._process = os.getpid()
        _clean_up_at_termination()
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        _open.add(self)
        self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)  # lives as long as this process or the folder
        self._scratch = self.path / ".scratch"

    @property
    def scratch(self) -> Path:
        self._scratch.mkdir(mode=0o700, exist_ok=True)
        return self._scratch

    def write(self, name: str, fill: Callable[[Write], None]) -> None:
        """A file; it can be read, and not be changed, once `fill`, which gets what writes to it, has come back.

        name: with `/` between folders. Raises BackendError where there is no room.
        """
        place = self.path / name
        with _room():
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if hasattr(os, "memfd_create"):
                descriptor = os.memfd_create(place.name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
                self._descriptors.append(descriptor)
            else:
                descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)

        def write(block: bytes) -> None:
            rest = memoryview(block)
            with _room():
                while rest:
                    rest = rest[os.write(descriptor, rest) :]

        fill(write)
        os.fchmod(descriptor, 0o400)
        if hasattr(os, "memfd_create"):
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            place.symlink_to(f"/proc/{os.getpid()}/fd/{descriptor}")
        else:
            os.close(descriptor)

    def without_links(self) -> None:
        """Put ordinary files, still of memory, in the place of the links: for a runtime that follows links and looks
        for a file beside the model. Should the process be killed, they are there until the next one tidies."""
        for link in [place for place in self.path.rglob("*") if place.is_symlink()]:
            with _room():
                content = link.read_bytes()
                link.unlink()
                link.write_bytes(content)
                link.chmod(0o400)

    def close(self) -> None:
        """Remove the folder. May be called twice."""
        if self not in _open or os.getpid() != self._process:  # in a fork it is the parent's
            return
        shutil.rmtree(self.path, ignore_errors=True)
        for descriptor in [*self._descriptors, self._lock]:
            os.close(descriptor)
        _open.discard(self)
        on_main = threading.current_thread() is threading.main_thread()
        if not _open and on_main and signal.getsignal(signal.SIGTERM) is _terminated:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def __enter__(self) -> PrivateFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        problem = f"the bundle cannot be unpacked to memory: {error.strerror}"
        raise BackendError(problem, "give the machine, or its container, more memory (/dev/shm)") from error


def _sweep(base: Path) -> None:
    """Remove what killed processes of this user left: folders that nobody holds the lock of."""
    for folder in base.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # somebody else's, or gone meanwhile
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                status = os.fstat(descriptor)
                old = time.time() - status.st_mtime > NEWBORN_SECONDS
                if status.st_uid == os.getuid() and stat.S_IMODE(status.st_mode) == 0o700 and old:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def _clean_up_at_termination() -> None:
    """SIGTERM ends a Python process without any cleaning up, where nobody has said otherwise: now with this one."""
    on_main = threading.current_thread() is threading.main_thread()  # others may not set handlers
    if on_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminated)


def _terminated(number: int, _frame: object) -> None:
    _close_all()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


@atexit.register
def _close_all() -> None:
    """Of threads that were still loading when the process ended."""
    for folder in list(_open):
        folder.close()
