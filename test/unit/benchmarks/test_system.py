"""Temperature, throttling and power from recorded trees of /sys, and from a GPU tool that prints recorded lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vision import health
from edge_vision.benchmarks.power import GpuReading, NvidiaSmi, Source, find_sources, headline, parse_gpu
from edge_vision.benchmarks.system import Monitor

PI = {
    "sys/class/thermal/thermal_zone0/temp": "48312\n",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "600000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "1800000\n",
}
LAPTOP = {
    "sys/class/thermal/thermal_zone0/temp": "27800\n",
    "sys/class/thermal/thermal_zone1/temp": "-274000\n",
    "sys/class/thermal/thermal_zone2/temp": "61000\n",
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "3\n",
    "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count": "4\n",
    "sys/class/powercap/intel-rapl:0/name": "package-0\n",
    "sys/class/powercap/intel-rapl:0/energy_uj": "262143000000\n",
    "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "262143328850\n",
    "sys/class/powercap/intel-rapl:0:0/name": "core\n",
    "sys/class/powercap/intel-rapl:0:0/energy_uj": "1000\n",
    "sys/class/power_supply/BAT0/type": "Battery\n",
    "sys/class/power_supply/BAT0/status": "Charging\n",
    "sys/class/power_supply/BAT0/power_now": "9000000\n",
}
ORIN = {
    "sys/class/hwmon/hwmon3/name": "ina3221\n",
    "sys/class/hwmon/hwmon3/in1_label": "VDD_IN\n",
    "sys/class/hwmon/hwmon3/in1_input": "5080\n",
    "sys/class/hwmon/hwmon3/curr1_input": "1000\n",
    "sys/class/hwmon/hwmon3/in2_label": "VDD_CPU_GPU_CV\n",
    "sys/class/hwmon/hwmon3/in2_input": "5080\n",
    "sys/class/hwmon/hwmon3/curr2_input": "250\n",
    "sys/class/hwmon/hwmon3/in7_label": "sum of shunt voltages\n",
}
NANO = {
    "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/rail_name_0": "POM_5V_IN\n",
    "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power0_input": "2345\n",
}


def tree(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_raspberry_pi_that_throttles(tmp_path) -> None:
    root = tree(tmp_path, PI)
    assert health.temperature_c(root) == pytest.approx(48.312)
    assert health.throttled(root) == "under-voltage, throttled"
    assert health.frequency_share(root) == pytest.approx(1 / 3)
    assert health.throttle_events(root) is None
    with Monitor(root, period=10) as monitor:
        span = monitor.since(monitor.mark())
    assert span.throttled == "under-voltage, throttled"
    assert span.power_w is None
    assert span.temperature_c == pytest.approx(48.312)


@pytest.mark.parametrize(
    ("text", "words"),
    [("throttled=0x0\n", "no"), ("throttled=0x50000", "no"), ("8", "soft temperature limit"), ("", None), ("x", None)],
)
def test_the_firmwares_flags(text, words) -> None:
    assert health.throttled_bits(text) == words


def test_zones_that_are_off_are_no_temperature(tmp_path) -> None:
    root = tree(tmp_path, LAPTOP)
    assert health.temperature_c(root) == 61.0
    assert health.throttle_events(root) == 7
    assert health.throttled(root) is None


def test_a_system_that_tells_nothing(tmp_path) -> None:
    with Monitor(tmp_path) as monitor:
        span = monitor.since(monitor.mark())
        assert monitor.empty
    assert (span.temperature_c, span.throttled, span.frequency_share, span.energy_j, span.power_w) == (None,) * 5


def test_rapl_counts_the_package_and_not_its_cores_twice(tmp_path) -> None:
    found, closed = find_sources(tree(tmp_path, LAPTOP))
    assert [source.name for source in found] == ["rapl package-0", "rapl core"]
    assert headline(found) == ["rapl package-0"]  # the battery is being charged
    assert closed == []


def test_energy_of_a_counter_that_wraps(tmp_path) -> None:
    root = tree(tmp_path, LAPTOP)
    with Monitor(root, period=10) as monitor:
        start = monitor.mark()
        (root / "sys/class/powercap/intel-rapl:0/energy_uj").write_text("2000000\n")
        (root / "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count").write_text("5\n")
        span = monitor.since(start)
    assert span.energy_j == pytest.approx(2.0 + 0.32885, abs=1e-6)
    assert span.power_w == pytest.approx(span.energy_j / span.seconds)
    assert span.throttled == "slowed down by heat 2 times"


def test_power_is_integrated_over_time(tmp_path) -> None:
    watts = iter([4.0, 4.0, 6.0, 6.0])
    source = Source("board", "system", watts=lambda: next(watts))
    with Monitor(tmp_path, period=10, sources=[source]) as monitor:
        start = monitor.mark()
        time.sleep(0.02)
        span = monitor.since(start)
    assert span.power_w == pytest.approx(5.0, rel=0.05)  # from 4 to 6 W


@pytest.mark.parametrize(("files", "name", "watts"), [(ORIN, "VDD_IN", 5.08), (NANO, "POM_5V_IN", 2.345)])
def test_the_input_rail_of_a_jetson_is_the_system(tmp_path, files, name, watts) -> None:
    found, _ = find_sources(tree(tmp_path, files))
    assert headline(found) == [f"ina3221 {name}"]
    source = next(source for source in found if source.scope == "system")
    assert source.watts is not None
    assert source.watts() == pytest.approx(watts)
    assert "sum of shunt voltages" not in " ".join(source.name for source in found)


def test_a_battery_that_is_emptied_is_the_system(tmp_path) -> None:
    battery = {
        "sys/class/power_supply/BAT1/type": "Battery",
        "sys/class/power_supply/BAT1/status": "Discharging",
        "sys/class/power_supply/BAT1/voltage_now": "12000000",
        "sys/class/power_supply/BAT1/current_now": "-1500000",
        "sys/class/power_supply/AC/type": "Mains",
    }
    found, _ = find_sources(tree(tmp_path, LAPTOP | battery))
    assert headline(found) == ["battery BAT1"]
    source = next(source for source in found if source.scope == "system")
    assert source.watts is not None
    assert source.watts() == pytest.approx(18.0)


@pytest.mark.skipif(sys.platform != "linux", reason="needs permissions as on Linux")
def test_a_closed_counter_says_how_to_open_it(tmp_path, monkeypatch) -> None:
    root = tree(tmp_path, LAPTOP)
    counter = root / "sys/class/powercap/intel-rapl:0/energy_uj"
    # Root reads everything, so a counter that gives no number stands for one that is closed.
    counter.write_text("")
    found, closed = find_sources(root)
    assert [source.name for source in found] == ["rapl core"]
    assert closed == [f"package-0's energy counter is closed to this user: sudo chmod a+r {counter}"]


@pytest.mark.parametrize(
    ("line", "reading"),
    [
        ("0, 78.53, 41", GpuReading(0, 78.53, 41.0)),
        ("1, [N/A], 41", GpuReading(1, None, 41.0)),
        ("0, [Not Supported], [N/A]", GpuReading(0, None, None)),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", None),
        ("", None),
    ],
)
def test_lines_of_nvidia_smi(line, reading) -> None:
    assert parse_gpu(line) == reading


@given(st.text())
def test_no_line_of_nvidia_smi_raises(line) -> None:
    reading = parse_gpu(line)
    assert reading is None or isinstance(reading, GpuReading)


def test_the_gpu_tool_is_read_while_it_runs() -> None:
    script = "import time\nfor line in ('0, 80.0, 50', '1, [N/A], 55'): print(line, flush=True)\ntime.sleep(30)"
    smi = NvidiaSmi([sys.executable, "-c", script])
    try:
        deadline = time.monotonic() + 10
        while len(smi.latest) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [source.name for source in smi.sources()] == ["nvidia-smi GPU 0"]
        assert smi.temperature_c() == 55.0
    finally:
        smi.close()


def test_a_gpu_tool_that_fails_is_no_gpu() -> None:
    smi = NvidiaSmi([sys.executable, "-c", "print('NVIDIA-SMI has failed')"])
    assert smi.sources() == []
    assert smi.temperature_c() is None
    smi.close()
