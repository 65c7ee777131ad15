"""`edge_vision bench backends MODEL`: which hardware, which runtime?"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_vision.inference.errors import InferenceError

DESCRIPTION = (
    "Runs a model on every backend, device and precision that this machine has, in turns, each in its own process. "
    "Shows latency, throughput, start-up, memory, use of the processor and, where the system tells, temperature, "
    "throttling and power."
)

_QUICK_S = 6.0
_AGAIN_S, _AGAIN = 10.0, 40  # seconds and turns of the two that are measured again for --check-auto
_BY_HAND_S, _BY_HAND_QUICK_S = 10.0, 3.0
_SIZE = (640, 480)  # of the twin's image, for the comparison by hand


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", default="conveyor_parts", help="bundled model, bundle folder or model file")
    parser.add_argument("--decoder", default="", help="decoder of a bare model file (default: recognised)")
    what = parser.add_argument_group("what to measure (default: all there is)")
    what.add_argument("--backend", type=_names, default=(), metavar="A,B", help="these backends alone")
    what.add_argument("--device", type=_names, default=(), metavar="A,B", help="these devices alone: cpu, gpu, ...")
    what.add_argument("--precision", type=_precisions, default=(), metavar="A,B", help="fp32, fp16, bf16, int8")
    what.add_argument("--threads", type=_counts, default=(), metavar="1,2", help="counts (default: the profile's)")
    what.add_argument("--hardware", default="auto", help="hardware profile, for the number of threads and for auto")
    how = parser.add_argument_group("how long")
    how.add_argument("--seconds", type=_positive, default=60.0, help="of measuring, all candidates together")
    how.add_argument("--quick", action="store_true", help="some seconds instead, for a first look")
    how.add_argument("--rate", type=_positive, default=20.0, help="frames a second of the paced part")
    more = parser.add_argument_group("beside the table")
    more.add_argument("--by-hand", action="store_true", help="compare the engine with each library called by hand")
    more.add_argument("--image", default="", help="image file for --by-hand (default: one of the twin)")
    more.add_argument(
        "--check-auto", action="store_true", help="what `auto` picks; exit with 1 if above 1.1 x the best"
    )
    more.add_argument("--no-table", action="store_true", help="with --by-hand: that alone")
    more.add_argument("--check", action="store_true", help="exit with 1 when any limit is missed")
    several = "show the JSON files of several boxes side by side; measures nothing"
    more.add_argument("--compare", nargs="+", metavar="FILE", default=argparse.SUPPRESS, help=several)
    files = parser.add_argument_group("files")
    files.add_argument(
        "--json", metavar="FILE", default="", help="the figures as JSON, - for stdout, without the table"
    )
    files.add_argument("--csv", metavar="FILE", default="", help="the table for spreadsheets")
    files.add_argument("--html", metavar="FILE", default="", help="a page with chart and tables, by itself")
    files.add_argument("--png", metavar="FILE", default="", help="the chart")
    files.add_argument("--name", default="", help="of this box in comparisons (default: its host name)")
    files.add_argument("--price", type=_positive, default=None, help="of this box, for frames a second by price")


def run(arguments: argparse.Namespace) -> int:
    from edge_vision.benchmarks import backend_chart

    problem = backend_chart.problem() if arguments.html or arguments.png else None
    if problem:
        return _fail(problem)
    if arguments.no_table and (not arguments.by_hand or arguments.check_auto):
        return _fail("--no-table goes with --by-hand, and without --check-auto, which looks into the table", 2)
    try:
        if "compare" in arguments:
            return _compare(arguments)
        study = _measure(arguments)
        _write(arguments, _Output.of(study))
    except InferenceError as error:
        return _fail(str(error))
    except (ValueError, OSError) as error:
        return _fail(str(error))
    if not arguments.no_table and not any(row.measured for row in study.rows):
        return _fail("nothing could be measured; the reasons are above")
    if arguments.check and study.missed:
        return 1
    return 1 if arguments.check_auto and not (study.auto and study.auto.passed) else 0


def _compare(arguments: argparse.Namespace) -> int:
    from edge_vision.benchmarks import backend_boxes
    from edge_vision.benchmarks.backend_study import read_study

    studies = [read_study(Path(file)) for file in arguments.compare]
    if not backend_boxes.entries(studies):
        return _fail("none of the files holds a row that was measured")
    _write(arguments, _Output.of_boxes(studies))
    return 0


def _measure(arguments: argparse.Namespace) -> Any:
    from edge_vision.benchmarks.backend_study import Study, machine_facts, model_facts
    from edge_vision.benchmarks.backends import Settings, candidates
    from edge_vision.inference.backends import backend
    from edge_vision.inference.bundle import load_bundle
    from edge_vision.inference.profiles import choose_profile
    from edge_vision.inference.records import read_records
    from edge_vision.paths import find_model

    for name in arguments.backend:
        backend(name)  # raises for a name that is none
    if arguments.by_hand:
        _image(arguments.image)  # likewise: before a minute of measuring
    bundle = load_bundle(find_model(arguments.model), decoder=arguments.decoder or None)
    profile, machine = choose_profile(arguments.hardware)
    threads = profile.threads(machine.cores, machine.physical_cores)
    settings = Settings(
        threads=arguments.threads,
        backends=arguments.backend,
        devices=arguments.device,
        precisions=arguments.precision,
        seconds=arguments.seconds,
        rate=arguments.rate,
    )
    if arguments.quick:
        settings = replace(settings, seconds=_QUICK_S)
    load = os.getloadavg()[0]  # of others, before the measurement makes its own
    found, out = candidates(bundle, settings, threads, read_records(bundle))
    rows: list[Any] = []
    notes: list[str] = []
    auto = None
    facts = machine_facts(machine, arguments.name, arguments.price)
    if not arguments.no_table:
        rows, notes, idle = _table(bundle, found, settings)
        facts["idle_power_w"] = idle
    if arguments.check_auto:
        from edge_vision.benchmarks.backend_auto import check_auto

        asked = arguments.threads[0] if len(arguments.threads) == 1 else threads

        def again(wanted: Sequence[Any]) -> list[Any]:
            names = {row.name for row in wanted}
            two = [(choice, row) for choice, row in found if row.name in names]
            return _table(bundle, two, replace(settings, seconds=min(settings.seconds, _AGAIN_S), rounds=_AGAIN))[0]

        auto = check_auto(bundle, rows, arguments.hardware, asked, again, _say)
    pairs = _by_hand(arguments, bundle, found, threads) if arguments.by_hand else []
    shown = {
        "threads": ",".join(str(count) for count in arguments.threads or (threads,)),
        "profile": profile.kind,
        "measuring": f"{settings.seconds:g} s in turns",
        "load before": f"{load:.1f}",
    }
    return Study(facts, model_facts(bundle), shown, (*rows, *out), tuple(pairs), auto, tuple(notes))


def _table(bundle: Any, found: Any, settings: Any) -> tuple[list[Any], list[str], float | None]:
    """The rows; what is to be said of the machine; its power while nothing ran."""
    import time

    from tqdm import tqdm

    from edge_vision.benchmarks.backend_runs import measure, steps
    from edge_vision.benchmarks.backends import disturbed
    from edge_vision.benchmarks.system import Monitor

    with Monitor() as monitor, tqdm(total=steps(len(found), settings), unit="step", file=sys.stderr) as bar:
        idle = None
        if monitor.headline:
            bar.set_description("idle")
            start = monitor.mark()
            time.sleep(1.0)
            idle = monitor.since(start).power_w
        rows = measure(bundle, found, settings, monitor, _told(bar))
        notes = [f"power: {', '.join(monitor.headline)}; {idle:.1f} W while idle"] if idle is not None else []
        notes += [*monitor.closed, *filter(None, [disturbed(rows)])]
        return rows, notes, idle


def _by_hand(arguments: argparse.Namespace, bundle: Any, found: Any, threads: int) -> list[Any]:
    from tqdm import tqdm

    from edge_vision.benchmarks.by_hand_pairs import compare

    image = _image(arguments.image)
    seconds = _BY_HAND_QUICK_S if arguments.quick else _BY_HAND_S
    counts = arguments.threads or (threads,)
    choices = [
        choice
        for choice, _ in found
        if choice.device == "cpu" and choice.precision == "fp32" and choice.threads == counts[0]
    ]
    pairs = []
    with tqdm(choices, unit="library", file=sys.stderr) as bar:
        for choice in bar:
            bar.set_description(f"by hand: {choice.backend}")
            pairs.append(compare(bundle, choice, image, seconds))
    return pairs


def _image(path: str) -> Any:
    """(H, W, 3) BGR. Raises ValueError for a file that is no image."""
    if path:
        import cv2

        image = cv2.imread(path)
        if image is None:
            raise ValueError(f"{path}: there is no image that can be read; name a file of JPEG or PNG")
        return image
    from edge_vision.simulation import Conveyor, ConveyorOptions

    scene = Conveyor(ConveyorOptions(width=_SIZE[0], height=_SIZE[1], fps=30, seed=0))
    return scene.render(60).frame.image


def _told(bar: Any) -> Callable[[str], object]:
    def tell(what: str) -> None:
        bar.set_description(what)
        bar.update()

    return tell


# --- output ----------------------------------------------------------------------------------------------------------


class _Output:
    """What is written, of one box or of several."""

    def __init__(self, text: str, content: dict[str, Any], csv: str, html: Callable[[str], str], chart: Any) -> None:
        self.text, self.content, self.csv, self.html, self.chart = text, content, csv, html, chart

    @classmethod
    def of(cls, study: Any) -> _Output:
        from edge_vision.benchmarks import backend_chart, backend_report
        from edge_vision.benchmarks.backend_study import as_dict

        chart = (
            f"{study.model['name']}: which runtime",
            backend_report.machine_line(study.machine),
            backend_chart.groups_of(study),
        )
        csv = backend_report.as_csv(study)
        return cls(
            backend_report.text(study), as_dict(study), csv, lambda svg: backend_report.as_html(study, svg), chart
        )

    @classmethod
    def of_boxes(cls, studies: Any) -> _Output:
        from edge_vision.benchmarks import backend_boxes

        names = ", ".join(str(study.machine["name"]) for study in studies)
        chart = (f"{studies[0].model['name']}: which hardware, which runtime", names, backend_boxes.groups(studies))
        csv = backend_boxes.as_csv(studies)
        content = backend_boxes.as_dict(studies)
        return cls(backend_boxes.text(studies), content, csv, lambda svg: backend_boxes.as_html(studies, svg), chart)


def _write(arguments: argparse.Namespace, output: _Output) -> None:
    from edge_vision.benchmarks import backend_chart

    if arguments.json != "-":
        print(output.text)
    if arguments.json:
        written = json.dumps(output.content, indent=2, allow_nan=False)
        if arguments.json == "-":
            print(written)
        else:
            Path(arguments.json).write_text(written + "\n", encoding="utf-8")
    if arguments.csv:
        Path(arguments.csv).write_text(output.csv, encoding="utf-8")
    if arguments.png:
        title, subtitle, groups = output.chart
        backend_chart.draw(title, subtitle, groups, Path(arguments.png), "png")
    if arguments.html:
        Path(arguments.html).write_text(output.html(backend_chart.svg(*output.chart)), encoding="utf-8")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.replace(" ", "").split(",") if name)


def _precisions(text: str) -> tuple[str, ...]:
    from edge_vision.inference.bundle import PRECISIONS

    names = _names(text)
    for name in names:
        if name not in PRECISIONS:
            raise argparse.ArgumentTypeError(f"{name!r} is no precision: {', '.join(PRECISIONS)}")
    return names


def _counts(text: str) -> tuple[int, ...]:
    names = _names(text)
    if not names or not all(name.isdigit() and 0 < int(name) <= 1024 for name in names):
        raise argparse.ArgumentTypeError(f"'{text}' must be numbers of threads, such as 1,2,4")
    return tuple(dict.fromkeys(int(name) for name in names))


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' must be a number above 0")
    return value


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _fail(message: str, code: int = 1) -> int:
    print(f"edge_vision bench backends: {message}", file=sys.stderr)
    return code
