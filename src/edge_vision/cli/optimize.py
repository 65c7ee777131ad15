"""`edge_vision optimize`: from a trained model to the bundle that the `inference` node runs, within a budget."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_vision.optimize.search import TARGETS

DESCRIPTION = (
    "Make a model smaller and faster without losing more accuracy than the budget, and prove what every step cost."
)
AUTO = "auto"
MISSED = 3
"""Exit code where the budget cannot be met."""

BACKENDS = ("onnxruntime", "openvino")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", help="bundled model, bundle folder or .onnx file")
    parser.add_argument(
        "--data", help="sim://conveyor, sim://parts, a dataset's folder or description (docs/datasets.md)"
    )
    parser.add_argument(
        "--max-drop", type=float, default=0.01, metavar="D", help="accuracy that may be lost: 0.01 is a point"
    )
    parser.add_argument("--target", choices=TARGETS, default="latency", help="what is to become small")
    parser.add_argument(
        "--device", default=AUTO, help=f"backend that it is for: {', '.join(BACKENDS)}; auto: the fastest"
    )
    parser.add_argument(
        "--backends",
        type=_backends,
        default=BACKENDS,
        metavar="NAMES",
        help="backends that the report measures on, and auto chooses from",
    )
    parser.add_argument(
        "--recipe",
        action="append",
        metavar="NAME|FILE",
        help="recipes to try, shipped ones by name (--list); otherwise all that need no training, with --train all",
    )
    parser.add_argument("--train", action="store_true", help="try recipes that train, too (minutes to an hour)")
    parser.add_argument("--search", metavar="NAME|FILE", help="search this space of recipes instead")
    parser.add_argument("--trials", type=int, default=20, help="recipes that a search tries")
    parser.add_argument("--teacher", help="model to learn from where a recipe distils; otherwise MODEL itself")
    parser.add_argument("--out", type=Path, default=Path("optimized"), help="folder for bundle and report")
    parser.add_argument("--work", type=Path, help="folder for steps made and checkpoints, to go on with; OUT/work")
    parser.add_argument("--train-images", type=int, help="images to train on at most")
    parser.add_argument("--test-images", type=int, help="images to judge on at most")
    parser.add_argument(
        "--quick", action="store_true", help="fewer images and shorter measurements: to see that it goes"
    )
    parser.add_argument("--packed", action="store_true", help="write the bundle with its weights entropy-coded")
    parser.add_argument("--closest", action="store_true", help="where no recipe keeps the budget write the closest")
    parser.add_argument("--threads", type=int, default=1, help="threads of the backends")
    parser.add_argument("--training-threads", type=int, default=0, help="threads that train; 0: all cores")
    parser.add_argument("--seed", type=int, default=0, help="everything random follows from it")
    parser.add_argument("--dry-run", action="store_true", help="check everything, say what would be done, and end")
    parser.add_argument(
        "--list",
        nargs="?",
        const="",
        metavar="PASS",
        help="passes and shipped recipes; of one pass, what its options mean",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(args: argparse.Namespace) -> int:
    if args.list is not None:
        return _list(args.list, args.json)
    if not args.model or not args.data:
        return _fail("give a model and --data; --list shows what can be done to it", 2)
    if not 0 <= args.max_drop < 1:
        return _fail(f"--max-drop is {args.max_drop:g}. Give a share from 0 up: 0.01 is a point", 2)
    for name in ("trials", "threads", "train_images", "test_images"):
        value = getattr(args, name)
        if value is not None and value < 1:
            return _fail(f"--{name.replace('_', '-')} is {value}. Give a number from 1 up", 2)
    if args.training_threads < 0:
        return _fail(f"--training-threads is {args.training_threads}. Give 0 for all cores, or a number of them", 2)
    try:
        import onnx  # noqa: F401

        from edge_vision.optimize.command import Request, carry_out
        from edge_vision.optimize.report.building import command as shown
    except ImportError as error:
        return _fail(f"{error}. Install with: pip install 'edge_vision[optimize]'", 2)
    from edge_vision.inference.errors import InferenceError
    from edge_vision.optimize.loading import DataError
    from edge_vision.optimize.passes import PassError
    from edge_vision.optimize.recipe import RecipeError

    request = Request(
        model=args.model,
        data=args.data,
        max_drop=args.max_drop,
        target=args.target,
        backend=args.device,
        backends=args.backends,
        recipes=tuple(args.recipe or ()),
        train=args.train,
        space=args.search or "",
        trials=args.trials,
        teacher=args.teacher or "",
        out=args.out,
        work=args.work or args.out / "work",
        train_images=args.train_images,
        test_images=args.test_images,
        quick=args.quick,
        packed=args.packed,
        closest=args.closest,
        threads=args.threads,
        training_threads=args.training_threads,
        seed=args.seed,
        dry_run=args.dry_run,
        command=shown(["edge_vision", "optimize", *_given()]),
    )
    try:
        done = carry_out(request, _say)
    except (RecipeError, PassError, InferenceError, DataError, ValueError, OSError, ImportError) as error:
        return _fail(str(error), 1)
    print(json.dumps(done.as_dict(), indent=2) if args.json else done.text())
    return 0 if done.met else MISSED


def _backends(text: str) -> tuple[str, ...]:
    from edge_vision.inference.backends import BACKENDS as KNOWN

    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in KNOWN:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(KNOWN)}")
    if not names:
        raise argparse.ArgumentTypeError(f"names nothing; choose from {', '.join(KNOWN)}")
    return names


def _given() -> Sequence[str]:
    """What was typed, for the report."""
    return sys.argv[2:] if len(sys.argv) > 2 and sys.argv[1] == "optimize" else ()


def _catalogue() -> dict[str, Any]:
    import dataclasses

    from edge_vision.optimize.passes import PASSES, optimisation_pass
    from edge_vision.optimize.recipe import read_recipe, shipped_recipes

    passes = {
        name: {
            "summary": module.SUMMARY,
            "needs": sorted(module.NEEDS),
            "options": dataclasses.asdict(module.Options()),
        }
        for name, module in ((name, optimisation_pass(name)) for name in PASSES)
    }
    recipes = {name: read_recipe(name).as_dict() for name in shipped_recipes()}
    return {"passes": passes, "recipes": recipes}


def _list(name: str, as_json: bool) -> int:
    import inspect

    from edge_vision.optimize.passes import PASSES, optimisation_pass

    if name and name not in PASSES:
        return _fail(f"there is no pass {name!r}: {', '.join(PASSES)}", 2)
    if not name:
        print(json.dumps(_catalogue(), indent=2) if as_json else _listed())
        return 0
    module = optimisation_pass(name)
    about = _catalogue()["passes"][name]
    print(json.dumps(about, indent=2) if as_json else f"{name}: {module.SUMMARY}\n")
    if not as_json:
        for kind in reversed(module.Options.__mro__[:-1]):
            if kind.__doc__ and "__doc__" in vars(kind):
                print(inspect.cleandoc(kind.__doc__) + "\n")
        print("\n".join(f"{key}: {value}" for key, value in about["options"].items()))
    return 0


def _listed() -> str:
    known = _catalogue()
    lines = ["passes:"]
    for name, about in known["passes"].items():
        needs = f" (needs {', '.join(about['needs'])})" if about["needs"] else ""
        lines.append(f"  {name:<12}{about['summary']}{needs}")
        lines.append(" " * 14 + ", ".join(f"{key} {value}" for key, value in about["options"].items()))
    lines += ["", "recipes:"]
    for name, recipe in known["recipes"].items():
        lines.append(f"  {name:<16}{recipe['summary']}")
        lines.append(" " * 18 + " -> ".join(next(iter(step)) for step in recipe["steps"]))
    return "\n".join(lines)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _fail(message: str, code: int) -> int:
    print(f"edge_vision optimize: {message}", file=sys.stderr)
    return code
