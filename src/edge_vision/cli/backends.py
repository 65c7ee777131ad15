"""`edge_vision backends`: the runtimes that can run a model here, and the machine as it was found."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

from edge_vision.inference.backends import BACKENDS, backend
from edge_vision.inference.errors import BackendError, InferenceError
from edge_vision.inference.profiles import choose_profile

DESCRIPTION = "List the inference backends, which of them work here, and the hardware found."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--hardware", default="auto", help="look at the profile of another kind of machine (default: of this one)"
    )


def survey(hardware: str = "auto") -> dict[str, Any]:
    """What the command shows: `hardware`, `profile` and `backends`, each a mapping of plain values."""
    profile, machine = choose_profile(hardware)
    return {
        "hardware": asdict(machine),
        "profile": asdict(profile) | {"threads": profile.threads(machine.cores)},
        "backends": [_examine(name) for name in BACKENDS],
    }


def _examine(name: str) -> dict[str, Any]:
    module = backend(name)
    problem = module.available()
    devices: tuple[str, ...] = ()
    if problem is None:
        try:
            devices = module.devices()
        except BackendError as error:
            problem = error.problem
    return {
        "name": name,
        "available": problem is None,
        "version": module.version(),
        "devices": list(devices),
        "precisions": list(module.PRECISIONS),
        "formats": list(module.FORMATS),
        "problem": problem,
        "remedy": module.REMEDY if problem else None,
    }


def run(args: argparse.Namespace) -> int:
    try:
        found = survey(args.hardware)
    except InferenceError as error:
        print(error, file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    machine, profile = found["hardware"], found["profile"]
    memory = f", {machine['memory'] / 2**30:.1f} GiB" if machine["memory"] else ""
    print(f"hardware  {machine['kind']}: {machine['model']}, {machine['cores']} cores{memory}")
    print(f"          {machine['reason']}; flags: {' '.join(machine['flags']) or 'none that matter'}")
    print(
        f"profile   {profile['kind']}: {', '.join(profile['backends'])} in this order, {profile['threads']} thread(s)"
    )
    print()
    rows = [("backend", "version", "devices", "precisions", "state")]
    for entry in found["backends"]:
        state = "available" if entry["available"] else f"{entry['problem']}: {entry['remedy']}"
        devices = ", ".join(entry["devices"]) or "-"
        rows.append((entry["name"], entry["version"] or "-", devices, ", ".join(entry["precisions"]), state))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]))
    return 0
