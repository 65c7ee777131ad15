"""Processor time and memory of this process or another, as Linux tells them (proc(5))."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_MEGABYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Usage:
    """cpu_s: processor seconds since the process began, all threads, user and system; rss_mb: resident memory now;
    peak_mb: at its highest (both in MiB, shared pages included)."""

    cpu_s: float
    rss_mb: float
    peak_mb: float


def usage(pid: int | str = "self", *, without: Path | None = None) -> Usage:
    """Raises ProcessLookupError where there is no such process.

    without: a mapped file whose pages are not counted (the frames that a measurement brings along).
    """
    folder = Path("/proc") / str(pid)
    try:
        ticks = (folder / "stat").read_text().rpartition(")")[2].split()
        status = (folder / "status").read_text()
        mapped = mapped_kb((folder / "smaps").read_text(), str(without)) if without else 0
    except OSError as error:
        raise ProcessLookupError(f"no process {pid} to look at: {error}") from None
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    cpu = (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")
    rss, peak = (_kilobytes(fields.get(name, "0 kB")) - mapped for name in ("VmRSS", "VmHWM"))
    return Usage(cpu, rss * 1024 / _MEGABYTE, peak * 1024 / _MEGABYTE)


def _kilobytes(text: str) -> int:
    return int(text.split()[0])


def mapped_kb(smaps: str, path: str) -> int:
    """Resident kilobytes of all mappings of one file, from the text of /proc/PID/smaps."""
    total, wanted = 0, False
    for line in smaps.splitlines():
        head = line.split(maxsplit=5)
        if head and not head[0].endswith(":"):  # the first line of a mapping: addresses, rights, ..., path
            wanted = len(head) == 6 and head[5] == path
        elif wanted and head[0] == "Rss:":
            total += int(head[1])
    return total
