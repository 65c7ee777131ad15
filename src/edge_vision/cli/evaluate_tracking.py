"""`edge_vision evaluate tracking GT DET`: HOTA, MOTA, IDF1 and identity switches on sequences with truth."""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.cli import twin_sequences
from edge_vision.evaluation import mot_files, sequences, tracking_table
from edge_vision.evaluation.sequences import TrackingSequence
from edge_vision.evaluation.track_records import SCORE_SCALES, TrackedBoxes
from edge_vision.evaluation.tracking import evaluate_tracking
from edge_vision.evaluation.tracking_table import Result

DESCRIPTION = (
    "Tracks the detections DET and scores the tracks against the truth GT, by TrackEval with MOTChallenge's and "
    "KITTI's preprocessing. Where DET has ids it is a result, and scored as it is."
)


# Frames of a sequence in, tracks out with the ns of every update (empty where nothing was timed).
Contender = Callable[[TrackingSequence, NDArray[np.int64]], tuple[list[TrackedBoxes], NDArray[np.int64]]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "truth",
        metavar="GT",
        help="truth: a folder of sequences, or a file (MOT, KITTI), or a scene of the twin (sim://conveyor?...)",
    )
    parser.add_argument(
        "boxes", metavar="DET", help="detections or results: a folder, or a file; for the twin: a model that finds them"
    )
    parser.add_argument("--frames", type=int, default=1000, help="of the twin, each sequence")
    parser.add_argument("--seeds", type=_numbers, default=(9001, 9002, 9003), metavar="N,...", help="of the twin")
    parser.add_argument(
        "--preset", nargs="+", default=["edge_vision"], help="tracker presets, one or several to compare"
    )
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="parameters of the tracker")
    parser.add_argument("--sequences", nargs="+", default=["*"], metavar="PATTERN", help="only sequences so called")
    parser.add_argument(
        "--groups",
        nargs="+",
        default=[],
        metavar="NAME=PATTERN,...",
        help="groups of sequences, such as cars=KITTI*; 'prefix' makes them of the letters that names begin with; or a "
        "YAML file of name: [patterns]",
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="see every Nth frame only")
    parser.add_argument("--drop", type=float, default=0.0, metavar="SHARE", help="lose this share of frames at random")
    parser.add_argument("--seed", type=int, default=0, help="of the frames that are lost")
    parser.add_argument(
        "--draws",
        type=int,
        default=1,
        metavar="N",
        help="draw N times which frames are seen, and score all draws together: --drop with seed, seed + 1 and so on, "
        "--every from frame 1, 2 and so on",
    )
    parser.add_argument("--warps", action="store_true", help="give the trackers the camera's motion, from gmc.txt")
    parser.add_argument(
        "--scores",
        choices=SCORE_SCALES,
        default="auto",
        help="of the detections; auto: logits when any is outside 0..1",
    )
    parser.add_argument("--fps", type=float, default=0.0, help="frame rate where there is no seqinfo.ini")
    parser.add_argument("--kitti-type", default="car", help="what counts in KITTI's label files")
    parser.add_argument("--classes", type=_numbers, default=None, metavar="N,...", help="what counts in MOT truth")
    parser.add_argument(
        "--distractors",
        type=_numbers,
        default=mot_files.DISTRACTORS,
        metavar="N,...",
        help="classes of MOT truth on which results are removed, neither right nor wrong (MOT20: add 6)",
    )
    parser.add_argument("--peers", action="store_true", help="track with every other tracker that is installed, too")
    parser.add_argument(
        "--peer-python", nargs="+", default=[], metavar="PYTHON", help="interpreters that have more of them (norfair)"
    )
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN", help="only peers so called")
    parser.add_argument(
        "--results", type=Path, metavar="DIR", help="write the tracks as MOT files, one a sequence (first draw)"
    )
    parser.add_argument(
        "--video", type=Path, metavar="FILE.mp4", help="draw the tracks where the sequence has images (first draw)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables as Markdown")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the figures as CSV")


def run(args: argparse.Namespace) -> int:
    from edge_vision.benchmarks.other_python import PeerFailed
    from edge_vision.inference import InferenceError

    try:
        results, notes = evaluate(args)
    except (PeerFailed, ImportError) as error:
        return _fail(error, 1)
    except (ValueError, OSError, InferenceError) as error:
        return _fail(error, 2)
    if args.json:
        trackers = [{"name": r.name, **r.scores.as_dict(), "ms": dict(r.ms)} for r in results]
        print(json.dumps({"trackers": trackers, "notes": notes}, indent=2))
    else:
        print(tracking_table.text(results), *notes, sep="\n")
    return 0


def evaluate(args: argparse.Namespace) -> tuple[list[Result], list[str]]:
    """Track, score, write what was asked for. Raises ValueError and OSError that name the file and the remedy."""
    from tqdm import tqdm

    _check_draws(args)
    data = _data(args)
    draws = range(args.draws)
    # Every draw is a sequence of its own to the score, so that a group adds up over all of them.
    drawn = {_draw_name(sequence.name, draw): (sequence, draw) for sequence in data for draw in draws}
    groups = {
        group: [_draw_name(name, draw) for name in names for draw in draws]
        for group, names in sequences.group_names(args.groups, [sequence.name for sequence in data]).items()
    }
    frames = {name: _frames(args, *one) for name, one in drawn.items()}
    truth = {name: sequences.truth_frames(sequence.truth, frames[name]) for name, (sequence, _) in drawn.items()}
    results: list[Result] = []
    tracked: dict[str, dict[str, list[TrackedBoxes]]] = {}
    with ExitStack() as stack:
        contenders, notes = _contenders(args, data, stack)
        notes.insert(0, _protocol(args, data, frames))
        bar = stack.enter_context(
            tqdm(total=len(drawn) * len(contenders), desc="tracking", unit="sequence", file=sys.stderr)
        )
        for name, contender in contenders.items():
            tracked[name], taken = {}, {}
            for drawn_name, (sequence, _) in drawn.items():
                bar.set_postfix_str(f"{name}, {drawn_name}")
                tracked[name][drawn_name], taken[drawn_name] = contender(sequence, frames[drawn_name])
                bar.update()
            results.append(Result(name, evaluate_tracking(truth, tracked[name], groups), _mean_ms(taken, groups)))
    return results, notes + _write(args, results, data, frames, tracked)


def _check_draws(args: argparse.Namespace) -> None:
    """Before any work: ValueError where draws would not differ."""
    if args.draws < 1:
        raise ValueError(f"--draws {args.draws}: give a whole number from 1 up")
    if args.draws > 1 and args.every == 1 and not args.drop:
        raise ValueError(
            f"--draws {args.draws}: every frame is seen, there is nothing to draw; give --every or --drop, or leave "
            "--draws out"
        )
    if args.draws > args.every > 1 and not args.drop:
        raise ValueError(
            f"--draws {args.draws}: one frame in {args.every} can be drawn in {args.every} ways only; give at most "
            f"--draws {args.every}, or --drop as well"
        )


def _draw_name(name: str, draw: int) -> str:
    """What a draw (from 0) of a sequence is called: the first is the sequence itself."""
    return f"{name}, draw {draw + 1}" if draw else name


def _frames(args: argparse.Namespace, sequence: TrackingSequence, draw: int) -> NDArray[np.int64]:
    start = 1 + draw % args.every if args.every > 1 else 1
    return sequences.chosen_frames(
        sequence.info.length, args.every, args.drop, args.seed + draw, sequence.name, start=start
    )


def _data(args: argparse.Namespace) -> list[TrackingSequence]:
    if args.truth.startswith(twin_sequences.SCHEME):
        return twin_sequences.twin_sequences(args.truth, args.boxes, frames=args.frames, seeds=args.seeds)
    return [
        sequences.load_sequence(
            *found,
            kind=args.kitti_type,
            classes=args.classes,
            distractors=args.distractors,
            scores=args.scores,
            frame_rate=args.fps,
            warps=args.warps,
        )
        for found in sequences.find_sequences(Path(args.truth), Path(args.boxes), names=args.sequences)
    ]


def _contenders(
    args: argparse.Namespace, data: Sequence[TrackingSequence], stack: ExitStack
) -> tuple[dict[str, Contender], list[str]]:
    """What is scored, by name, and notes about what could not be. stack: ends the interpreters of peers."""
    ready = [sequence.name for sequence in data if sequence.boxes.tracked]
    if ready and len(ready) == len(data):
        if args.peers or args.peer_python:
            raise ValueError(f"{args.boxes} holds results, nothing is left to track for peers; give them detections")
        return {Path(args.boxes).stem: _as_it_is}, []
    if ready:
        raise ValueError(
            f"{args.boxes} holds results for {', '.join(ready)} and detections for others; score them one after "
            "another, with --sequences"
        )
    contenders: dict[str, Contender] = {}
    notes: list[str] = []
    settings = _settings(args.set)
    for preset in args.preset:
        if not args.warps or args.peers:  # peers without warps are compared to ours without
            contenders[preset] = _ours(preset, settings, False)
        if args.warps:
            contenders[f"{preset} + warps"] = _ours(preset, settings, True)
    if args.peers or args.peer_python:
        from edge_vision.benchmarks.peer_process import LocalPeers, PeerProcess

        places: list[Any] = [LocalPeers()]
        for python in args.peer_python:
            places.append(PeerProcess(python))
            stack.callback(places[-1].close)
        found: dict[str, str] = {}
        for place in places:
            for peer in place.peers:
                wanted = any(fnmatch(peer.name, pattern) for pattern in args.only)
                if wanted and peer.name not in contenders and (args.warps or not peer.warps):
                    contenders[peer.name] = _peer(place, peer.name, peer.warps, args.every)
            found |= place.versions()
        gone = {package: why for package, why in places[0].missing.items() if package not in found}
        notes.append("peers: " + (", ".join(f"{name} {number}" for name, number in found.items()) or "none"))
        notes += [f"not compared: {name}, {why}" for name, why in gone.items()]
    return contenders, notes


def _as_it_is(sequence: TrackingSequence, frames: NDArray[np.int64]) -> tuple[list[TrackedBoxes], NDArray[np.int64]]:
    return sequences.tracked_frames(sequence.boxes, frames), np.zeros(0, np.int64)


def _ours(preset: str, settings: Mapping[str, Any], warps: bool) -> Contender:
    from edge_vision.tracking import Tracker

    Tracker.from_preset(preset, **settings)  # wrong names are told before any work
    if warps and "warp" not in inspect.signature(Tracker.update).parameters:
        raise ValueError("this tracker takes no camera motion; leave --warps out")

    def track(sequence: TrackingSequence, frames: NDArray[np.int64]) -> tuple[list[TrackedBoxes], NDArray[np.int64]]:
        from edge_vision.benchmarks import peer_process
        from edge_vision.benchmarks.tracking_peers import Ours

        given = _warps(sequence, frames) if warps else None
        run = peer_process.track(Ours(preset, **settings), _detections(sequence, frames), given)
        return run.frames, run.ns

    return track


def _peer(place: Any, name: str, warps: bool, every: int) -> Contender:
    def track(sequence: TrackingSequence, frames: NDArray[np.int64]) -> tuple[list[TrackedBoxes], NDArray[np.int64]]:
        given = _warps(sequence, frames) if warps else None
        run = place.track(name, _detections(sequence, frames), sequence.info.frame_rate / every, given)
        return run.frames, run.ns

    return track


def _detections(sequence: TrackingSequence, frames: NDArray[np.int64]) -> list[Any]:
    return sequences.detections(sequence.boxes, frames, sequence.info.frame_rate, sequence.labels)


def _warps(sequence: TrackingSequence, frames: NDArray[np.int64]) -> NDArray[np.float64] | None:
    return None if sequence.warps is None else sequences.compose_warps(sequence.warps, frames)


def _mean_ms(taken: Mapping[str, NDArray[np.int64]], groups: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Mean ms of an update by sequence, by group, and of all ("")."""
    units = {name: [name] for name in taken} | {name: list(names) for name, names in groups.items()} | {"": list(taken)}
    samples = {unit: np.concatenate([taken[name] for name in names]) for unit, names in units.items()}
    return {unit: float(ns.mean()) * 1e-6 for unit, ns in samples.items() if len(ns)}


def _protocol(
    args: argparse.Namespace, data: Sequence[TrackingSequence], frames: Mapping[str, NDArray[np.int64]]
) -> str:
    several = args.draws > 1
    seen = f"{sum(map(len, frames.values()))} frames of {len(data)} sequences"
    parts = [f"{seen} in {args.draws} draws taken together" if several else seen]
    if args.every > 1:
        starts = f" (from frame 1 to {min(args.draws, args.every)} on)" if several else ""
        parts.append(f"1 frame in {args.every}{starts}")
    if args.drop:
        seeds = f"seeds {args.seed} to {args.seed + args.draws - 1}" if several else f"seed {args.seed}"
        parts.append(f"{args.drop:.0%} of the frames dropped ({seeds})")
    if args.warps:
        moving = [sequence.name for sequence in data if sequence.warps is not None]
        parts.append(f"with the camera's motion for {len(moving)} sequences" if moving else "no gmc.txt: without warps")
    return ", ".join(parts) + "; TrackEval, distractors removed"


def _write(
    args: argparse.Namespace,
    results: Sequence[Result],
    data: Sequence[TrackingSequence],
    frames: Mapping[str, NDArray[np.int64]],
    tracked: Mapping[str, Mapping[str, list[TrackedBoxes]]],
) -> list[str]:
    """The files that were asked for; what is to be told of them. Tracks and videos are of the first draw."""
    notes = []
    if args.markdown:
        args.markdown.write_text(tracking_table.markdown(results), encoding="utf-8")
    if args.csv:
        args.csv.write_text(tracking_table.table_csv(results), encoding="utf-8")
    if args.results:
        for name, found in tracked.items():
            folder = args.results if len(tracked) == 1 else args.results / re.sub(r"[^\w.+-]+", "_", name).strip("_")
            folder.mkdir(parents=True, exist_ok=True)
            for sequence in data:
                records = sequences.as_records(found[sequence.name], frames[sequence.name])
                mot_files.write_boxes(folder / f"{sequence.name}.txt", records)
        notes.append(f"tracks written to {args.results}")
    if args.video:
        from edge_vision.cli.tracking_video import write_videos

        found = next(iter(tracked.values()))
        notes += write_videos(args.video, data, frames, found)
    if args.draws > 1 and (args.results or args.video):
        notes.append("tracks and videos that were written are of the first draw")
    return notes


def _settings(pairs: Sequence[str]) -> dict[str, Any]:
    import yaml

    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ValueError(f"--set {pair}: write NAME=VALUE, such as lost_after=2.0")
        try:
            settings[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ValueError(f"--set {pair}: '{value}' is no value") from None
    return settings


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no list of class numbers: write 2,7,8,12") from None


def _fail(error: Exception, code: int) -> int:
    print(f"edge_vision evaluate tracking: {error}", file=sys.stderr)
    return code
