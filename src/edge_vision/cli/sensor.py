"""`edge_vision sensor measure|capture`: EMVA 1288 figures of a camera, and the images that they need."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_vision.quality.sensor import SensorOptions, SensorReport

DESCRIPTION = (
    "Measures a camera by EMVA 1288 release 4.0 (linear): gain, noise, quantum efficiency, saturation, SNR, dynamic "
    "range, linearity, dark current, nonuniformity. `measure` evaluates images, `capture` takes them with the camera "
    "node."
)


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Tells defaults where there are some."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, "") else super()._get_help_string(action)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    ways = parser.add_subparsers(dest="way", required=True, metavar="measure|capture")
    formatter = _Formatter
    measure = ways.add_parser("measure", help="evaluate images", description=_MEASURE, formatter_class=formatter)
    measure.add_argument(
        "images", metavar="DESCRIPTOR|FOLDER", help="EMVA 1288 descriptor file, a folder with one, or well-named images"
    )
    _add_sensor(measure)
    measure.add_argument(
        "--sensor-width-mm", type=float, metavar="MM", help="instead of the pixel pitch: of all columns"
    )
    measure.add_argument("--bits", type=int, help="of the values, where the descriptor does not say")
    measure.add_argument(
        "--channel", choices=("auto", "blue", "green", "red"), default="auto", help="of colour images; auto: green"
    )
    _add_outputs(measure)
    taking = ways.add_parser(
        "capture", help="take the images, then evaluate them", description=_CAPTURE, formatter_class=formatter
    )
    taking.add_argument("--output", required=True, metavar="DIR", help="new folder for images and descriptor")
    taking.add_argument("--camera", default="/camera", metavar="NODE", help="the running camera node")
    taking.add_argument("--topic", default="", help="its images (default: image_raw in the node's namespace)")
    taking.add_argument("--gain", type=float, help="of the camera while it is measured (default: as it is)")
    taking.add_argument("--steps", type=int, default=50, help="exposures up to saturation")
    taking.add_argument("--series", type=int, default=50, help="images of the dark and of the bright series")
    taking.add_argument("--max-exposure-ms", type=float, default=2000.0, metavar="MS", help="where the search ends")
    taking.add_argument(
        "--exposure-unit-us",
        type=float,
        default=100.0,
        metavar="US",
        help="exposures are whole multiples of it: 100 for V4L2 cameras, 1 for sim://",
    )
    taking.add_argument(
        "--settle", type=int, default=5, metavar="FRAMES", help="dropped after every change of exposure"
    )
    taking.add_argument(
        "--cap-on", metavar="COMMAND", help="shell command that darkens (light off, cap on) instead of being asked to"
    )
    taking.add_argument("--cap-off", metavar="COMMAND", help="shell command that undoes it")
    _add_sensor(taking)
    _add_outputs(taking)
    taking.set_defaults(bits=None, channel="auto", sensor_width_mm=None)


_CAPTURE = (
    "Take the images of a measurement with a running camera node before an even light, and evaluate them. It finds "
    "saturation, takes two images at each of many exposures and a series at 50 % of saturation, asks for the lens to "
    "be covered, and takes the same in the dark. Everything automatic in the camera must be off, the light steady and "
    "even. "
    "Exit code 2: light, camera or arguments do not allow it."
)
_MEASURE = (
    "Evaluate images of dark and even light: two of each at every exposure, and a longer series dark and at 50 % of "
    "saturation. Exit code 2: the images cannot be measured."
)


def _add_sensor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pixel-pitch-um", type=float, metavar="UM", help="of square pixels; for figures an area")
    parser.add_argument("--wavelength-nm", type=float, metavar="NM", help="of the light")
    parser.add_argument(
        "--irradiance-uw-cm2",
        type=float,
        metavar="E",
        help="on the sensor, by a calibrated meter; gives the photon count with pixel pitch and wavelength",
    )


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON; - prints it instead of the table")
    parser.add_argument("--markdown", metavar="FILE", help="write the report as Markdown")
    parser.add_argument("--html", metavar="FILE", help="write the report as a page with plots (needs matplotlib)")


def run(args: argparse.Namespace) -> int:
    return _capture(args) if args.way == "capture" else _measure(args)


def _measure(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from edge_vision.quality.sensor import SensorDataError, measure, open_measurement

    try:
        descriptor = open_measurement(args.images)
        options = _options(args, descriptor.width, descriptor.information)
        with tqdm(total=descriptor.images, unit="image", desc="reading", file=sys.stderr, leave=False) as bar:
            report = measure(descriptor, options, bar.update)
    except SensorDataError as error:
        return _fail(str(error), 2)
    return write_report(report, args)


def _options(args: argparse.Namespace, width: int | None, information: Mapping[str, str]) -> SensorOptions:
    from edge_vision.quality.sensor import SensorDataError, SensorOptions

    def value(name: str, given: float | None) -> float | None:
        text = information.get(name)
        if given is not None or not text:
            return given
        try:
            return float(text.split()[0].replace(",", "."))
        except ValueError:
            raise SensorDataError(
                f"line 'l {name} {text}' of the descriptor is no number", "correct or remove it"
            ) from None

    pitch = value("PixelPitch_um", args.pixel_pitch_um)
    if args.sensor_width_mm is not None:
        if args.pixel_pitch_um is not None:
            raise SensorDataError("--pixel-pitch-um and --sensor-width-mm say the same", "give one of them")
        if not width:
            raise SensorDataError("--sensor-width-mm needs the images' width in a line n", "give --pixel-pitch-um")
        pitch = args.sensor_width_mm * 1000 / width
    return SensorOptions(
        pixel_pitch=pitch,
        wavelength=value("Wavelength_nm", args.wavelength_nm),
        irradiance=args.irradiance_uw_cm2,
        bits=args.bits,
        channel=args.channel,
    )


def _capture(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from edge_vision.quality.sensor import SensorDataError
    from edge_vision.quality.sensor.capture import CapturePlan, capture

    try:
        from edge_vision.ros.sensor_capture import NodeCamera
    except ImportError as error:
        return _fail(f"no ROS environment ({error}): run scripts/setup.sh, then . scripts/env.sh", 1)
    try:
        unit = args.exposure_unit_us * 1e-6
        longest = args.max_exposure_ms * 1e-3
        options = _options(args, None, {})
        plan = CapturePlan(args.steps, args.series, unit, max(unit, min(1e-3, longest)), longest, options)
        with NodeCamera(args.camera, args.topic, args.settle) as camera:
            if args.gain is not None:
                camera.set("gain", args.gain)
            with tqdm(unit="image", desc="capturing", file=sys.stderr) as bar:

                def tell(frames: int, total: int, what: str) -> None:
                    bar.total = total or None
                    bar.set_description(what, refresh=False)
                    bar.update(frames)

                def cover(dark: bool) -> None:
                    _cover(args, dark, bar.write)

                path = capture(camera, args.output, plan, cover, _information(args), tell)
    except SensorDataError as error:
        return _fail(str(error), 2)
    print(f"images and descriptor: {path}")
    args.images = str(path)
    return _measure(args)


def _cover(args: argparse.Namespace, dark: bool, write: Callable[[str], None]) -> None:
    """Darkens the sensor or undoes it, by command or by asking. Raises SensorDataError."""
    import subprocess

    from edge_vision.quality.sensor import SensorDataError

    command = args.cap_on if dark else args.cap_off
    if command:
        code = subprocess.run(command, shell=True, check=False).returncode
        if code:
            raise SensorDataError(f"`{command}` ended with {code}", "correct --cap-on and --cap-off")
    elif dark:
        write("Cover the lens, or switch the light off, so that no light falls on the sensor; then press Enter.")
        try:
            input()
        except EOFError:
            raise SensorDataError("nobody to ask for the cap", "give --cap-on with a command that darkens") from None
    elif not args.cap_on:
        write("Done: the lens may be uncovered.")


def _information(args: argparse.Namespace) -> dict[str, str]:
    given = {
        "Camera": args.camera,
        "Gain": args.gain,
        "PixelPitch_um": args.pixel_pitch_um,
        "Wavelength_nm": args.wavelength_nm,
        "Irradiance_uW_cm2": args.irradiance_uw_cm2,
    }
    return {name: str(value) for name, value in given.items() if value is not None}


def write_report(report: SensorReport, args: argparse.Namespace) -> int:
    """Prints and writes what was asked for; the exit code."""
    from edge_vision.quality.sensor.report import as_dict, html, markdown
    from edge_vision.quality.sensor.table import text

    data = json.dumps(as_dict(report), indent=2, allow_nan=False) if args.json else ""
    try:
        if args.json and args.json != "-":
            Path(args.json).write_text(data + "\n", encoding="utf-8")
        if args.markdown:
            Path(args.markdown).write_text(markdown(report), encoding="utf-8")
        if args.html:
            Path(args.html).write_text(html(report), encoding="utf-8")
    except ImportError as error:
        return _fail(str(error), 1)
    except OSError as error:
        return _fail(f"{error.filename}: cannot be written ({error.strerror}); name another file", 1)
    print(data if args.json == "-" else text(report))
    return 0


def _fail(message: str, code: int) -> int:
    print(f"edge_vision sensor: {message}", file=sys.stderr)
    return code
