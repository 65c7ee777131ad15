"""Where a machine tells the power that it takes: RAPL, monitors of Jetsons and other boards, batteries, NVIDIA GPUs.

Every source is found below a root (`/sys` as recorded, in tests). What a system does not tell is absent, never 0.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_vision.system_files import exists, listed, number, read_number, read_text

SCOPES = ("system", "processor", "gpu", "part")
"""What a source measures; `part` is contained in another one, or of no interest to inference alone."""

_WHOLE_RAILS = ("VDD_IN", "POM_5V_IN")  # the input of a Jetson module


@dataclass(frozen=True, slots=True)
class Source:
    """A place that tells power. Either `watts()` now, or `joules()` on a counter that wraps at `wraps_at` joules."""

    name: str
    scope: str
    watts: Callable[[], float | None] | None = None
    joules: Callable[[], float | None] | None = None
    wraps_at: float = 0.0


def find_sources(root: str | Path = "/") -> tuple[list[Source], list[str]]:
    """The sources that can be read now, and for people: those that are there but closed, with what would open them."""
    root = Path(root)
    found: list[Source] = []
    closed: list[str] = []
    _rapl(root, found, closed)
    _hwmon(root, found)
    _old_jetson(root, found)
    _batteries(root, found)
    return found, closed


def headline(sources: Sequence[Source]) -> list[str]:
    """Names of the sources that together are the power of the machine: the whole system's, else processor and GPU."""
    whole = [source.name for source in sources if source.scope == "system"]
    return whole[:1] or [source.name for source in sources if source.scope in ("processor", "gpu")]


def _rapl(root: Path, found: list[Source], closed: list[str]) -> None:
    """Intel's and AMD's energy counters (Linux, Documentation/power/powercap/powercap.rst; uJ)."""
    for zone in listed(root / "sys/class/powercap", "intel-rapl:*"):
        name = read_text(zone / "name")
        if not name:
            continue
        counter = zone / "energy_uj"
        if read_number(counter) is None:
            if exists(counter):
                closed.append(f"{name}'s energy counter is closed to this user: sudo chmod a+r {counter}")
            continue
        scope = "system" if name == "psys" else "processor" if name.startswith("package") else "part"
        span = (read_number(zone / "max_energy_range_uj") or 0) * 1e-6
        found.append(Source(f"rapl {name}", scope, joules=_scaled(counter, 1e-6), wraps_at=span))


def _hwmon(root: Path, found: list[Source]) -> None:
    """Monitors of boards and GPUs (Linux, Documentation/hwmon/sysfs-interface.rst: mV, mA, uW)."""
    for chip in listed(root / "sys/class/hwmon", "hwmon*"):
        name = read_text(chip / "name")
        if name == "ina3221":
            for label_file in listed(chip, "in*_label"):
                channel = label_file.name.removeprefix("in").removesuffix("_label")
                label = read_text(label_file)
                volts, amperes = chip / f"in{channel}_input", chip / f"curr{channel}_input"
                if read_number(volts) is None or read_number(amperes) is None:
                    continue  # such as in7, the sum of shunt voltages
                scope = "system" if label in _WHOLE_RAILS else "part"
                found.append(Source(f"ina3221 {label}", scope, watts=_product(volts, amperes, 1e-6)))
            continue
        for file in listed(chip, "power*_input") + listed(chip, "power*_average"):
            if read_number(file) is None:
                continue
            label = read_text(chip / f"{file.name.split('_')[0]}_label")
            scope = "gpu" if name in ("amdgpu", "i915", "xe", "nouveau") else "part"
            found.append(Source(" ".join(filter(None, (name, label))), scope, watts=_scaled(file, 1e-6)))


def _old_jetson(root: Path, found: list[Source]) -> None:
    """Jetsons of L4T 32 and before: NVIDIA's own driver of the INA3221 (mW)."""
    for device in listed(root / "sys/bus/i2c/drivers/ina3221x", "*/iio:device*"):
        for file in listed(device, "in_power*_input"):
            channel = file.name.removeprefix("in_power").removesuffix("_input")
            label = read_text(device / f"rail_name_{channel}")
            if label and read_number(file) is not None:
                scope = "system" if label in _WHOLE_RAILS else "part"
                found.append(Source(f"ina3221 {label}", scope, watts=_scaled(file, 1e-3)))


def _batteries(root: Path, found: list[Source]) -> None:
    """A battery that is being emptied gives what the whole machine takes (uW, or uV times uA)."""
    for battery in listed(root / "sys/class/power_supply", "*"):
        if read_text(battery / "type") != "Battery" or read_text(battery / "status") != "Discharging":
            continue
        power, volts, amperes = (battery / name for name in ("power_now", "voltage_now", "current_now"))
        if read_number(power) is not None:
            found.append(Source(f"battery {battery.name}", "system", watts=_scaled(power, 1e-6)))
        elif read_number(volts) is not None and read_number(amperes) is not None:
            found.append(Source(f"battery {battery.name}", "system", watts=_product(volts, amperes, 1e-12)))


def _scaled(file: Path, unit: float) -> Callable[[], float | None]:
    def read() -> float | None:
        value = read_number(file)
        return None if value is None else abs(value) * unit

    return read


def _product(volts: Path, amperes: Path, unit: float) -> Callable[[], float | None]:
    def read() -> float | None:
        u, i = read_number(volts), read_number(amperes)
        return None if u is None or i is None else abs(u * i) * unit

    return read


# --- NVIDIA's GPUs ---------------------------------------------------------------------------------------------------

_QUERY = "index,power.draw,temperature.gpu"


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One line of nvidia-smi: watts and degrees Celsius, None where the GPU does not tell."""

    index: int
    power_w: float | None
    temperature_c: float | None


def parse_gpu(line: str) -> GpuReading | None:
    """`0, 78.53, 41`, where a field may be `[N/A]` or `[Not Supported]`; None for another line."""
    fields = [field.strip() for field in line.split(",")]
    index = number(fields[0])
    if index is None or len(fields) != 3:
        return None
    return GpuReading(index, _decimal(fields[1]), _decimal(fields[2]))


def _decimal(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


class NvidiaSmi:
    """`nvidia-smi` kept running, ten lines a second: its newest readings. Starting it for each would cost 50 ms."""

    def __init__(self, command: Sequence[str] = ()) -> None:
        """command: instead of nvidia-smi with its options. Without one on the path there are no readings."""
        self.latest: dict[int, GpuReading] = {}
        self._process: subprocess.Popen[str] | None = None
        found = shutil.which("nvidia-smi")
        options = [f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits", "-lms", "100"]
        given = list(command) or ([found, *options] if found else [])
        if not given:
            return
        try:
            self._process = subprocess.Popen(
                given,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, "LC_ALL": "C"},
            )
        except OSError:
            return
        self._first = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        self._first.wait(3.0)

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            reading = parse_gpu(line)
            if reading:
                self.latest[reading.index] = reading
                self._first.set()
        self._first.set()

    def sources(self) -> list[Source]:
        return [
            Source(f"nvidia-smi GPU {index}", "gpu", watts=lambda index=index: self.latest[index].power_w)  # type: ignore[misc]
            for index, reading in sorted(self.latest.items())
            if reading.power_w is not None
        ]

    def temperature_c(self) -> float | None:
        """The hottest GPU's."""
        readings = [reading.temperature_c for reading in self.latest.values()]
        return max((value for value in readings if value is not None), default=None)

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
