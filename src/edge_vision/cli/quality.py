"""`edge_vision quality PICTURES`: is this camera's picture good enough, and how close is it to a reference?"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from edge_vision.cli.quality_pictures import Shown, open_pictures, open_references
from edge_vision.quality.errors import QualityError
from edge_vision.sources import KINDS, SourceError

if TYPE_CHECKING:
    from edge_vision.quality.series import Entry, Series
    from edge_vision.quality.watcher import Watcher

DESCRIPTION = (
    "Measures pictures by themselves (noise, blur, exposure, contrast, ...; one verdict a cause, with the figure and "
    "threshold behind it), and with --reference how close they come to it (PSNR, SSIM, MS-SSIM). Exit code 0: done; "
    "1: some pictures could not be measured, or with --check one is blamed; 2: it cannot be done as asked."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    examples = ", ".join(uri for uri, _ in KINDS)
    parser.add_argument("pictures", help=f"image, folder, video or camera: {examples}".replace("%", "%%"))
    parser.add_argument(
        "--reference",
        metavar="PICTURES",
        help="compare with it: one image with every picture, images of a folder by name, a video frame by frame",
    )
    parser.add_argument("--every", type=_count, default=1, metavar="N", help="measure every Nth picture alone")
    parser.add_argument(
        "--frames", type=_count, metavar="N", default=argparse.SUPPRESS, help="stop after N measured (cameras: Ctrl-C)"
    )
    parser.add_argument("--bits", type=int, choices=(8, 10, 12, 14, 16), help="that 16-bit pictures have in truth")
    parser.add_argument("--csv", metavar="FILE", default=argparse.SUPPRESS, help="one row a picture")
    parser.add_argument("--json", metavar="FILE", default=argparse.SUPPRESS, help="everything; - for stdout, no table")
    parser.add_argument("--html", metavar="FILE", default=argparse.SUPPRESS, help="a page with plots over time")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a picture is blamed for anything")


def run(arguments: argparse.Namespace) -> int:
    from edge_vision.quality import series_plots
    from edge_vision.quality.series_report import text

    files = {kind: getattr(arguments, kind, None) for kind in ("csv", "json", "html")}
    if files["html"] and (problem := series_plots.problem()):
        return _fail(problem)
    try:
        _check_writable([file for file in files.values() if file and file != "-"])
        series, interrupted = measure(arguments)
    except (SourceError, QualityError, OSError) as error:
        return _fail(str(error))
    if not series.entries:
        return 130 if interrupted else _fail(f"{series.source}: there is not one picture in it")
    try:
        written = _write(files, series)
    except OSError as error:
        return _fail(f"cannot write {error.filename}: {error.strerror}")
    print(written if files["json"] == "-" else text(series))
    if interrupted:
        return 130
    blamed = arguments.check and any(entry.blamed for entry in series.entries)
    return 1 if series.problems or blamed else 0


def measure(arguments: argparse.Namespace) -> tuple[Series, bool]:
    """What the arguments ask for, and whether it was ended by Ctrl-C; what was measured until then is kept.

    Raises SourceError where pictures cannot be had, QualityError where references do not fit them.
    """
    from tqdm import tqdm

    from edge_vision.quality.series import Series
    from edge_vision.quality.watcher import Watcher

    most = getattr(arguments, "frames", None)
    entries: list[Entry] = []
    interrupted = False
    with ExitStack() as stack:
        pictures = stack.enter_context(open_pictures(arguments.pictures))
        references = None
        if arguments.reference:
            references = stack.enter_context(open_references(arguments.reference, pictures))
        watcher = Watcher(
            bits=arguments.bits,
            keep_pictures=bool(getattr(arguments, "html", None)),
            timed=pictures.timed,
        )
        total = None if pictures.length is None else -(-pictures.length // arguments.every)
        total = min(filter(None, (total, most)), default=None)
        shown = zip(pictures, references, strict=False) if references else ((one, None) for one in pictures)
        with tqdm(total=total, desc="measuring", unit="picture", file=sys.stderr, disable=total == 1) as bar:
            try:
                for index, (picture, reference) in enumerate(shown):
                    if index % arguments.every == 0:
                        entries.append(_entry(watcher, index, picture, reference))
                        bar.update()
                    if len(entries) == most:
                        break
            except KeyboardInterrupt:
                interrupted = True
        warnings = [*pictures.warnings, *(references.warnings if references else ())]
        series = Series(
            pictures.uri,
            pictures.description,
            tuple(entries),
            references.uri if references else "",
            arguments.every,
            tuple(warnings),
            watcher.pictures,
        )
    return series, interrupted


def _write(files: Mapping[str, str | None], series: Series) -> str:
    """The files that were asked for; the JSON. Raises OSError."""
    from edge_vision.quality.series_page import page
    from edge_vision.quality.series_report import as_csv, as_dict

    written = json.dumps(as_dict(series), indent=2, allow_nan=False) if files["json"] else ""
    if files["json"] and files["json"] != "-":
        Path(files["json"]).write_text(written + "\n", encoding="utf-8")
    if files["csv"]:
        Path(files["csv"]).write_text(as_csv(series), encoding="utf-8")
    if files["html"]:
        Path(files["html"]).write_text(page(series), encoding="utf-8")
    return written


def _entry(watcher: Watcher, index: int, picture: Shown, reference: Shown | None) -> Entry:
    from edge_vision.quality.series import Entry

    problem = picture.problem or (reference.problem if reference else "")
    if picture.frame is None or problem:
        return Entry(index, picture.name, problem=problem)
    image = reference.frame.image if reference and reference.frame else None
    return watcher.add(index, picture.name, picture.frame, image)


def _check_writable(files: list[str]) -> None:
    """Before an hour of measuring, not after."""
    for file in files:
        folder = Path(file).expanduser().parent
        if not folder.is_dir():
            raise OSError(f"cannot write {file}: there is no folder {folder}; make it first")
        if not os.access(folder, os.W_OK):
            raise OSError(f"cannot write {file}: the folder {folder} may not be written to; name another")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' must be a whole number above 0")
    return int(text)


def _fail(message: str) -> int:
    print(f"edge_vision quality: {message}", file=sys.stderr)
    return 2
