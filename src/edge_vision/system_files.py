"""Reading what Linux tells of a machine in /proc, /sys and /dev, below a root that tests put elsewhere.

Nothing here raises: a file that is missing, closed to this user or full of rubbish reads as empty.
"""

from __future__ import annotations

from pathlib import Path

MOST_BYTES = 1 << 20  # /proc/cpuinfo of 256 processors is 400 kB


def read_text(path: Path) -> str:
    """A file's text without white space and NULs at its ends; "" where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES).decode("utf-8", "replace").strip(" \t\r\n\0")
    except (OSError, ValueError):  # ValueError: a NUL in a path that came out of another file
        return ""


def read_number(path: Path) -> int | None:
    return number(read_text(path))


def exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def listed(folder: Path, pattern: str) -> list[Path]:
    """What matches in a folder, sorted; [] where it cannot be listed."""
    try:
        return sorted(folder.glob(pattern))
    except (OSError, ValueError):
        return []


def number(text: str) -> int | None:
    """A decimal number, or None."""
    try:
        return int(text)
    except ValueError:
        return None


def value_of(text: str, *keys: str) -> str:
    """The value of the first `key : value` line, for the first of `keys` that has one."""
    lines = [line.partition(":") for line in text.splitlines()]
    for key in keys:
        for name, _, value in lines:
            if name.strip() == key and value.strip():
                return value.strip()
    return ""


def setting_of(text: str, key: str) -> str:
    """The value of a `KEY=value` line (uevent, os-release), without quotes."""
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name.strip() == key:
            return value.strip().strip("\"'")
    return ""


def numbers_of(text: str) -> frozenset[int]:
    """The kernel's lists of numbers, such as `0-3,8`. What does not parse is left out."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        low, high = number(first), number(last or first)
        if low is not None and high is not None and 0 <= low <= high < 1 << 16:
            found.update(range(low, high + 1))
    return frozenset(found)


# --- what this process may use ---------------------------------------------------------------------------------------


def usable_cores(root: Path, processors: str) -> tuple[int, int]:
    """(logical processors that this process may use, cores that they are on; 0 where that is not told).

    processors: the text of /proc/cpuinfo. The processors are those of the process's affinity (which a cpuset
    narrows), no more than its cgroup's quota pays for: threads beyond it are stopped until the next period.
    """
    blocks = [block for block in processors.split("\n\n") if value_of(block, "processor")]
    allowed = numbers_of(value_of(read_text(root / "proc/self/status"), "Cpus_allowed_list"))
    mine = [block for block in blocks if not allowed or number(value_of(block, "processor")) in allowed] or blocks
    logical = len(mine) or len(allowed & numbers_of(read_text(root / "sys/devices/system/cpu/online"))) or 1
    cores = {(value_of(block, "physical id"), value_of(block, "core id")) for block in mine}
    physical = len(cores) if all(core for _, core in cores) else 0
    quota = _quota(root)
    if quota:
        logical, physical = min(logical, quota), min(physical, quota)
    return logical, physical


def usable_memory(root: Path) -> int:
    """Bytes of memory: the machine's, or less where the cgroup has a limit; 0 where unknown."""
    words = value_of(read_text(root / "proc/meminfo"), "MemTotal").split()
    total = max(0, (number(words[0]) or 0) * 1024) if words else 0
    limits = [read_number(folder / "memory.max") for folder in _cgroups(root, "")]
    limits += [read_number(folder / "memory.limit_in_bytes") for folder in _cgroups(root, "memory")]
    smallest = min((limit for limit in limits if limit is not None and limit > 0), default=0)
    return min(total, smallest) if total and smallest else total


def _quota(root: Path) -> int:
    """Whole processors that the cgroups' CPU quotas pay for, at least 1; 0 for no quota."""
    shares: list[float] = []
    for folder in _cgroups(root, ""):
        words = read_text(folder / "cpu.max").split()  # quota or "max", period, in us (Linux, cgroup-v2.rst)
        if len(words) == 2:
            shares.append(_share(number(words[0]), number(words[1])))
    shares += [
        _share(read_number(folder / "cpu.cfs_quota_us"), read_number(folder / "cpu.cfs_period_us"))
        for folder in _cgroups(root, "cpu")
    ]
    found = [share for share in shares if share > 0]
    return max(1, int(min(found))) if found else 0


def _share(quota: int | None, period: int | None) -> float:
    # Bounded, so that rubbish cannot overflow the division.
    return min(quota, 1 << 40) / min(period, 1 << 40) if quota and period and quota > 0 and period > 0 else 0.0


def _cgroups(root: Path, controller: str) -> list[Path]:
    """This process's cgroup folder and those above it. controller: of cgroup v1, "" for the one tree of v2."""
    base = root / "sys/fs/cgroup" / controller if controller else root / "sys/fs/cgroup"
    for line in read_text(root / "proc/self/cgroup").splitlines():
        number_, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if (controller in names.split(",")) if controller else (number_ == "0" and not names):
            parts = [part for part in path.split("/")[:32] if part not in ("", ".", "..")]
            return [base, *(base.joinpath(*parts[: depth + 1]) for depth in range(len(parts)))]
    return [base]
