"""How many cores and how much memory a process may use: affinity, cgroup v1 and v2."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_vision.system_files import numbers_of, read_text, setting_of, usable_cores, usable_memory, value_of

FOUR = "\n".join(f"processor\t: {i}\nphysical id\t: 0\ncore id\t\t: {i // 2}\n" for i in range(4)) + "\n"


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, (4, 2)),
        ({"proc/self/status": "Cpus_allowed_list:\t0-1\n"}, (2, 1)),
        ({"proc/self/status": "Cpus_allowed_list:\t0,2\n"}, (2, 2)),
        ({"proc/self/status": "Cpus_allowed_list:\t8-9\n"}, (4, 2)),  # of another machine: no reason to stop
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, (4, 2)),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "350000 100000\n"}, (3, 2)),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, (1, 1)),
        # The smallest quota on the way up counts, and the way up does not leave the tree.
        (
            {
                "proc/self/cgroup": "0::/a/../b\n",
                "sys/fs/cgroup/a/cpu.max": "200000 100000\n",
                "sys/fs/cgroup/a/b/cpu.max": "300000 100000\n",
            },
            (2, 2),
        ),
        (
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/docker/x\n0::/\n",
                "sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us": "100000\n",
                "sys/fs/cgroup/cpu/docker/x/cpu.cfs_period_us": "50000\n",
            },
            (2, 2),
        ),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, (4, 2)),
        ({"sys/fs/cgroup/cpu.max": "9" * 400 + " 1\n"}, (4, 2)),
    ],
)
def test_usable_cores(tmp_path: Path, files: dict[str, str], cores: tuple[int, int]) -> None:
    assert usable_cores(plant(tmp_path, files), FOUR) == cores


def test_cores_where_cpuinfo_tells_nothing(tmp_path: Path) -> None:
    online = {"proc/self/status": "Cpus_allowed_list:\t0-63\n", "sys/devices/system/cpu/online": "0-5\n"}
    assert usable_cores(plant(tmp_path, online), "") == (6, 0)
    assert usable_cores(tmp_path / "nowhere", "processor\t: 0\nBogoMIPS\t: 1\n") == (1, 0)


def test_usable_memory(tmp_path: Path) -> None:
    assert usable_memory(plant(tmp_path, {"proc/meminfo": "MemTotal:  1000 kB\n"})) == 1024000
    plant(tmp_path, {"proc/self/cgroup": "0::/pod\n", "sys/fs/cgroup/pod/memory.max": "500000\n"})
    assert usable_memory(tmp_path) == 500000
    plant(tmp_path, {"sys/fs/cgroup/pod/memory.max": "max\n"})
    assert usable_memory(tmp_path) == 1024000
    plant(tmp_path, {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"})
    assert usable_memory(tmp_path) == 1024000
    assert usable_memory(plant(tmp_path, {"proc/meminfo": "MemTotal:  ² kB\n"})) == 0


def test_small_readers(tmp_path: Path) -> None:
    assert numbers_of("0-2,5, 7-7") == {0, 1, 2, 5, 7}
    assert numbers_of("x,3-1,1-99999999") == frozenset()
    assert value_of("a : \nb\t: 1:2\na: 3", "a", "b") == "3"
    assert setting_of('PRETTY_NAME="Debian 12"\nID=debian', "PRETTY_NAME") == "Debian 12"
    assert read_text(tmp_path / "a\0b") == ""
    (tmp_path / "text").write_bytes(b"\0 x\xff \0")
    assert read_text(tmp_path / "text") == "x\N{REPLACEMENT CHARACTER}"
