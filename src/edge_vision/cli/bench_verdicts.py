"""`edge_vision bench verdicts`: how often the no-reference verdicts name what is wrong with a picture."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_vision.benchmarks.quality_verdicts import Outcome

DESCRIPTION = (
    "Spoils frames of the twin in one known way each, and counts how often that cause is named, and how often clean "
    "frames are blamed. Thresholds were chosen on other scenes."
)
NEEDED_RIGHT, MOST_BLAMED = 0.98, 0.01


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--spoiled", type=int, default=1000, help="spoiled frames in all")
    parser.add_argument("--clean", type=int, default=340, help="clean frames")
    parser.add_argument("--seeds", choices=("report", "tuning"), default="report", help="scenes to take")
    parser.add_argument("--only", default="", metavar="CAUSE", help="one cause, or ok for the clean frames")
    parser.add_argument("--wrong", action="store_true", help="also print the figures of what was judged wrong")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 below 98 %% of the causes or above 1 %% of the clean ones"
    )


def run(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from edge_vision.benchmarks.degradations import DEGRADATIONS
    from edge_vision.benchmarks.quality_verdicts import REPORT_SEEDS, TUNING_SEEDS, confusion_table, outcomes

    if arguments.only not in ("", "ok", *DEGRADATIONS):
        print(
            f"edge_vision bench verdicts: no cause is called {arguments.only}: there are ok, {', '.join(DEGRADATIONS)}",
            file=sys.stderr,
        )
        return 2
    seeds = REPORT_SEEDS if arguments.seeds == "report" else TUNING_SEEDS
    judged = outcomes(arguments.spoiled, arguments.clean, seeds, only=arguments.only)
    total = arguments.spoiled + arguments.clean if not arguments.only else None
    results = list(tqdm(judged, total=total, unit="frame", leave=False, file=sys.stderr))
    right, blamed = _shares(results)
    if arguments.json:
        wrong = [{"cause": o.cause, "what": o.what, "named": o.report.cause} for o in results if not o.right]
        print(json.dumps({"frames": len(results), "right": right, "clean blamed": blamed, "wrong": wrong}, indent=2))
    else:
        if arguments.wrong:
            print(*_figures(results), sep="\n")
        print(confusion_table(results))
    missed = (right is not None and right < NEEDED_RIGHT) or (blamed is not None and blamed > MOST_BLAMED)
    return 1 if arguments.check and missed else 0


def _shares(results: Sequence[Outcome]) -> tuple[float | None, float | None]:
    """Share of the spoiled frames that were judged right, and of the clean ones that were blamed; None without any."""
    spoiled = [outcome.right for outcome in results if outcome.cause != "ok"]
    clean = [outcome.right for outcome in results if outcome.cause == "ok"]
    return sum(spoiled) / len(spoiled) if spoiled else None, 1 - sum(clean) / len(clean) if clean else None


def _figures(results: Sequence[Outcome]) -> list[str]:
    lines = []
    for outcome in results:
        if not outcome.right:
            told = [v for v in outcome.report.verdicts if v.blamed or v.cause == outcome.cause]
            figures = ", ".join(f"{v.cause}: {v.name} {v.figure:.3g} (limit {v.threshold:g})" for v in told)
            lines.append(f"{outcome.cause}, {outcome.what}: {figures}")
    return lines
