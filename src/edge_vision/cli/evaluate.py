"""`edge_vision evaluate`: the COCO scores of a detector on the digital twin, or with `tracking` those of a tracker."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edge_vision.cli import evaluate_tracking
from edge_vision.datatypes import Detections, Tracks
from edge_vision.evaluation.detection import MAX_DETECTIONS, DetectionScores, evaluate_detections
from edge_vision.paths import find_model

DESCRIPTION = "Score a detector by the COCO protocol on the digital twin, whose truth is exact."

DEFAULT_MODEL = "conveyor_parts"
DEFAULT_SOURCE = "sim://conveyor"
# The bundled detector was trained on seeds from 100,000 up and watched on some from 90,000: these are new to it.
DEFAULT_SEEDS = tuple(range(9001, 9011))
DEFAULT_FRAMES = 500
SCORE_THRESHOLD = 0.001
# Every 15th frame: half a second of belt between two, so that frames differ.
FRAME_STEP = 15


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default=DEFAULT_MODEL, help="bundled model, bundle folder or .onnx file")
    parser.add_argument("--source", default=DEFAULT_SOURCE, help="scene of the twin, sim://conveyor?key=value&...")
    parser.add_argument("--frames", type=int, default=DEFAULT_FRAMES, help="frames in all")
    parser.add_argument(
        "--seeds",
        type=_seeds,
        default="9001-9010",
        metavar="A-B|A,B,...",
        help="seeds of the scenes; the bundled detector was trained on none below 100000",
    )
    parser.add_argument("--backend", default="auto", help="inference backend")
    parser.add_argument("--device", default="auto", help="its device")
    parser.add_argument("--precision", default="auto", help="its precision")
    parser.add_argument("--threads", type=int, default=0, help="threads of the backend, 0 for the profile's rule")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    others = parser.add_subparsers(dest="what", metavar="tracking", help="score a tracker instead: HOTA, MOTA, IDF1")
    tracking = others.add_parser(
        "tracking",
        description=evaluate_tracking.DESCRIPTION,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    evaluate_tracking.add_arguments(tracking)


def run(args: argparse.Namespace) -> int:
    if getattr(args, "what", None) == "tracking":
        return evaluate_tracking.run(args)
    from edge_vision.inference import InferenceError

    try:
        scores, described = _evaluate(
            args.model,
            source=args.source,
            frames=args.frames,
            seeds=args.seeds,
            backend=args.backend,
            device=args.device,
            precision=args.precision,
            threads=args.threads,
        )
    except (InferenceError, ImportError, ValueError, OSError) as error:
        print(f"edge_vision evaluate: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(described | scores.as_dict(), indent=2))
    else:
        print(table(scores, described))
    return 0


def evaluate_bundle(
    model: Path | str,
    *,
    source: str = DEFAULT_SOURCE,
    frames: int = DEFAULT_FRAMES,
    seeds: Sequence[int] = DEFAULT_SEEDS,
    backend: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    threads: int = 0,
) -> DetectionScores:
    """The scores of a model bundle on ``frames`` frames of the twin, spread evenly over ``seeds``.

    source: ``sim://conveyor?...``; its own seed and length are replaced. The detector runs with a score threshold
    of 0.001 and at most 100 detections a frame, as the COCO protocol wants. Raises ValueError for a source that is
    no scene of the twin or a model with other classes, and what `Engine.load` raises.
    """
    return _evaluate(
        model,
        source=source,
        frames=frames,
        seeds=seeds,
        backend=backend,
        device=device,
        precision=precision,
        threads=threads,
    )[0]


def _evaluate(
    model: Path | str,
    *,
    source: str,
    frames: int,
    seeds: Sequence[int],
    backend: str,
    device: str,
    precision: str,
    threads: int,
) -> tuple[DetectionScores, dict]:
    from tqdm import tqdm

    from edge_vision.inference import Engine, load_bundle
    from edge_vision.simulation import LABELS, Conveyor, ConveyorOptions

    if frames < 1 or not seeds:
        raise ValueError("nothing to evaluate: give at least one frame and one seed")
    options = ConveyorOptions.from_uri(source)
    engine = Engine.load(
        load_bundle(find_model(model)),
        backend=backend,
        device=device,
        precision=precision,
        threads=threads,
        score_threshold=SCORE_THRESHOLD,
        max_detections=MAX_DETECTIONS,
    )
    if tuple(engine.labels) != LABELS:
        raise ValueError(f"{model} knows the classes {', '.join(engine.labels)}; the twin has {', '.join(LABELS)}")
    truth: list[Tracks] = []
    found: list[Detections] = []
    with tqdm(total=frames, desc="evaluating", unit="frame", file=sys.stderr) as bar:
        for place, seed in enumerate(seeds):
            conveyor = Conveyor(replace(options, seed=seed, frames=None))
            # The first seeds take what does not divide evenly.
            for index in range((frames + len(seeds) - 1 - place) // len(seeds)):
                shot = conveyor.render(index * FRAME_STEP)
                truth.append(shot.truth)
                found.append(engine.infer(shot.frame))
                bar.update()
    described = {
        "model": str(model),
        "source": source,
        "seeds": list(seeds),
        "backend": engine.description.backend,
        "precision": engine.description.precision,
    }
    return evaluate_detections(truth, found), described


def table(scores: DetectionScores, described: dict) -> str:
    """The scores as text for people."""
    lines = [
        f"{described['model']} by {described['backend']}, {described['precision']}: {scores.frames} frames of "
        f"{described['source']}, seeds {_span(described['seeds'])}",
        "",
        f"{'class':<16}{'objects':>8}{'mAP50-95':>10}{'mAP50':>8}",
    ]
    lines += [f"{row.label:<16}{row.objects:>8}{row.map50_95:>10.3f}{row.map50:>8.3f}" for row in scores.per_class]
    lines += [
        f"{'all':<16}{scores.objects:>8}{scores.map50_95:>10.3f}{scores.map50:>8.3f}",
        "",
        f"mAP75 {scores.map75:.3f}, average recall {scores.recall:.3f} (COCO protocol, {MAX_DETECTIONS} detections "
        "a frame at most)",
    ]
    return "\n".join(lines)


def _seeds(text: str) -> tuple[int, ...]:
    """Seeds from ``9001-9010`` or ``1,2,5``."""
    try:
        first, dash, last = text.partition("-")
        values = range(int(first), int(last) + 1) if dash else [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no list of seeds: write 9001-9010 or 1,2,5") from None
    if not values or min(values) < 0:
        raise argparse.ArgumentTypeError(f"'{text}' names no seeds: they are whole numbers from 0 up")
    return tuple(values)


def _span(seeds: Sequence[int]) -> str:
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]}-{seeds[-1]}"
    return ", ".join(str(seed) for seed in seeds)
