"""`edge_vision dataset split DATASET`: whole sequences dealt out to splits, balanced by class."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from edge_vision.cli.dataset_check import add_reading_arguments, fail, read

if TYPE_CHECKING:
    from edge_vision.datasets.splitting import SplitResult

DESCRIPTION = (
    "Deals the sequences of a dataset out to splits, never single frames of a clip, as near to the ratio and the "
    "balance of classes as they allow; sequences that hold near-duplicates of each other stay together. The same "
    "seed gives the same splits. Exit code 0: done; 1: done, but the ratio or a class could not be met; 2: it cannot "
    "be done."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", help="folder, COCO .json or data.yaml")
    parser.add_argument("--output", metavar="FOLDER", required=True, help="new folder for the files of the splits")
    parser.add_argument("--ratios", type=ratios, default="train=0.7,val=0.15,test=0.15", help="split=share,...")
    parser.add_argument("--seed", type=int, default=0, help="another one, another deal")
    parser.add_argument(
        "--format", choices=("auto", "coco", "yolo", "list"), default="auto", help="auto: as it was, COCO, or lists"
    )
    add_reading_arguments(parser)
    parser.add_argument("--trust-names", action="store_true", help="do not look for near-duplicates across sequences")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from edge_vision.datasets import DatasetError
    from edge_vision.datasets.leaks import join_sequences
    from edge_vision.datasets.split_files import split_facts, write_splits
    from edge_vision.datasets.splitting import split_dataset

    try:
        dataset = read(arguments)
        joined = 0
        if not arguments.trust_names:
            with tqdm(total=len(dataset), desc="looking for near-duplicates", unit="image", file=sys.stderr) as bar:
                together, _ = join_sequences(dataset, bar.update)
            joined = len(together) - len(set(together.values()))
            samples = tuple(replace(sample, sequence=together[sample.sequence]) for sample in dataset.samples)
            dataset = replace(dataset, samples=samples)
        result = split_dataset(dataset, arguments.ratios, arguments.seed)
        files = write_splits(result, arguments.output, arguments.format)
    except (DatasetError, OSError) as error:
        return fail(str(error))
    if arguments.json:
        facts = split_facts(result) | {"joined_sequences": joined, "files": [str(file) for file in files]}
        print(json.dumps(facts, indent=2))
    else:
        print(table(result, joined))
        print("\nwritten: " + ", ".join(str(file) for file in files))
    return 1 if result.notes else 0


def table(result: SplitResult, joined: int) -> str:
    from edge_vision.datasets.report import markdown_table

    heads = ["split", "images", "share", "wanted", "sequences", *result.dataset.labels[:12]]
    rows = [
        [
            name,
            str(result.images[name]),
            f"{result.reached[name]:.1%}",
            f"{result.wanted[name]:.1%}",
            str(len(result.sequences[name])),
            *(str(count) for count in result.objects[name][:12]),
        ]
        for name in result.wanted
    ]
    lines = [markdown_table((heads, rows))]
    if joined:
        lines.append(f"{joined} sequences were joined to others because they hold near-duplicates of them.")
    lines += [f"note: {note}" for note in result.notes]
    if result.dataset.issues:
        lines.append(
            f"{len(result.dataset.issues)} issues with images and labels: edge_vision dataset check lists them."
        )
    return "\n".join(lines)


def ratios(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in text.split(","):
        name, sign, share = part.partition("=")
        try:
            found[name.strip()] = float(share)
        except ValueError:
            sign = ""
        if not sign or not name.strip().replace("_", "").isalnum():
            raise argparse.ArgumentTypeError(f"'{text}' is no ratio: write train=0.8,val=0.2")
    return found
