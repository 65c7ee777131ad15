"""`edge_vision diagnose training LOG.csv`: what its loss curves say, by which rule, and what to do."""

from __future__ import annotations

import argparse
import io
import json
import sys

from edge_vision.cli.dataset_check import check_writable, write

DESCRIPTION = (
    "Reads the CSV log of a training (Keras, Ultralytics, Lightning, or columns epoch, train_loss, val_loss) and names "
    "what its loss curves show, with the rule, the figures and thresholds behind it and a remedy. Exit code 0: a good "
    "fit; 1: something is wrong, it is named; 2: the log cannot be read; 3: nothing can be told (too few epochs, or no "
    "rule applies)."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("log", metavar="LOG.csv", help="the training's log")
    parser.add_argument("--train", metavar="COLUMN", default="", help="training loss (default: known by its name)")
    parser.add_argument("--val", metavar="COLUMN", default="", help="validation loss")
    parser.add_argument("--score", metavar="COLUMN", default="", help="accuracy or mAP in validation")
    parser.add_argument("--plot", metavar="FILE.png", default=argparse.SUPPRESS, help="the curves, annotated (or .svg)")
    parser.add_argument("--html", metavar="FILE", default=argparse.SUPPRESS, help="a page with plot and all rules")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(arguments: argparse.Namespace) -> int:
    from edge_vision.datasets import DatasetError, curve_plot, plots
    from edge_vision.datasets.curve_report import as_dict, page, text
    from edge_vision.datasets.learning_curves import diagnose
    from edge_vision.datasets.training_log import read_training_log

    plot, html = getattr(arguments, "plot", None), getattr(arguments, "html", None)
    if (plot or html) and (problem := plots.problem()):
        return _fail(problem)
    try:
        check_writable([file for file in (plot, html) if file])
        log = read_training_log(arguments.log, train=arguments.train, val=arguments.val, score=arguments.score)
        diagnosis = diagnose(log)
        if plot:
            target = io.BytesIO()
            curve_plot.draw(diagnosis, target, "svg" if plot.endswith(".svg") else "png")
            write(plot, target.getvalue())
        if html:
            write(html, page(diagnosis).encode())
    except (DatasetError, OSError) as error:
        return _fail(str(error))
    print(json.dumps(as_dict(diagnosis), indent=2, allow_nan=False) if arguments.json else text(diagnosis))
    return {"good fit": 0, "too short": 3, "undecided": 3}.get(diagnosis.name, 1)


def _fail(message: str) -> int:
    print(f"edge_vision diagnose: {message}", file=sys.stderr)
    return 2
