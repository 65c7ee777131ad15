"""What Linux tells of how the machine feels: temperature and throttling, from files below a root.

Nothing raises, and what a system does not tell is None: never 0, never "no".
"""

from __future__ import annotations

from pathlib import Path

from edge_vision.system_files import listed, number, read_number, read_text

_THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"
_NOW = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
_PLAUSIBLE = (-40.0, 150.0)  # degrees; zones that are off read -274 or 0 K


def temperature_c(root: str | Path = "/") -> float | None:
    """The hottest thermal zone in degrees Celsius (Linux, Documentation/driver-api/thermal/sysfs-api.rst)."""
    readings = []
    for zone in listed(Path(root) / "sys/class/thermal", "thermal_zone*"):
        millidegrees = read_number(zone / "temp")
        if millidegrees is not None and _PLAUSIBLE[0] < millidegrees / 1000 < _PLAUSIBLE[1]:
            readings.append(millidegrees / 1000)
    return max(readings, default=None)


def throttled(root: str | Path = "/") -> str | None:
    """Whether a Raspberry Pi slows itself down now, in words; `no` where it does not; None on other machines."""
    return throttled_bits(read_text(Path(root) / _THROTTLED))


def throttled_bits(text: str) -> str | None:
    """The firmware's flags in words, from what `vcgencmd get_throttled` (`throttled=0x50005`) or the file says.

    Bits 0 to 3 are of now, 16 to 19 since the start (raspberrypi.com/documentation/computers/os.html#get_throttled).
    """
    try:
        bits = int(text.strip().rpartition("=")[2], 16)
    except ValueError:
        return None
    return ", ".join(name for bit, name in _NOW.items() if bits >> bit & 1) or "no"


def throttle_events(root: str | Path = "/") -> int | None:
    """How often the cores and packages of an x86 processor were slowed down by heat since the start."""
    counts = [
        read_number(file)
        for cpu in listed(Path(root) / "sys/devices/system/cpu", "cpu[0-9]*")
        for file in listed(cpu / "thermal_throttle", "*_throttle_count")
    ]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def frequency_share(root: str | Path = "/") -> float | None:
    """The processors' clock as a share of their highest, the mean of those that tell (cpufreq; kHz)."""
    shares = []
    for cpu in listed(Path(root) / "sys/devices/system/cpu", "cpu[0-9]*"):
        current = number(read_text(cpu / "cpufreq/scaling_cur_freq"))
        highest = number(read_text(cpu / "cpufreq/cpuinfo_max_freq"))
        if current and highest:
            shares.append(current / highest)
    return sum(shares) / len(shares) if shares else None
