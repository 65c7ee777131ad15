"""`edge_vision sensor measure|capture`: EMVA 1288 figures of a camera, and the images that they need."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_vision.quality.sensor import SensorOptions, SensorReport

DESCRIPTION = (
    "Measures a camera by EMVA 1288 release 4.0 (linear): gain, noise, quantum efficiency, saturation, SNR, dynamic "
    "range, linearity, dark current, nonuniformity. `measure` evaluates images, `capture` takes them with the camera "
    "node."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    ways = parser.add_subparsers(dest="way", required=True, metavar="measure|capture")
    formatter = argparse.ArgumentDefaultsHelpFormatter
    measure = ways.add_parser("measure", help="evaluate images", description=_MEASURE, formatter_class=formatter)
    measure.add_argument(
        "images", metavar="DESCRIPTOR|FOLDER", help="EMVA 1288 descriptor file, a folder with one, or well-named images"
    )
    _add_sensor(measure)
    measure.add_argument("--bits", type=int, help="of the values, where the descriptor does not say")
    measure.add_argument(
        "--channel", choices=("auto", "blue", "green", "red"), default="auto", help="of colour images; auto: green"
    )
    _add_outputs(measure)


_MEASURE = (
    "Evaluate images of dark and even light: two of each at every exposure, and a longer series dark and at 50 % of "
    "saturation. Exit code 2: the images cannot be measured."
)


def _add_sensor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pixel-pitch-um", type=float, metavar="UM", help="of square pixels; for figures an area")
    parser.add_argument(
        "--sensor-width-mm", type=float, metavar="MM", help="instead of the pixel pitch: of all columns"
    )
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
    return _measure(args)


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
