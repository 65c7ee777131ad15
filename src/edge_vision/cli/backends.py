"""`edge_vision backends`: the runtimes that can run a model here, and the machine as it was found."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from edge_vision.inference.backends import BACKENDS, backend
from edge_vision.inference.errors import BackendError, InferenceError
from edge_vision.inference.hardware import Hardware
from edge_vision.inference.probing import probe_runtimes
from edge_vision.inference.profiles import Profile, choose_profile

DESCRIPTION = "List the inference backends, which of them work here, and the hardware found."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--hardware", default="auto", help="look at another profile: a kind of machine or a file (default: of this one)"
    )


def survey(hardware: str = "auto") -> dict[str, Any]:
    """What the command shows: `hardware`, `profile`, `runtimes` (what drivers and runtimes say) and `backends`, each of
    plain values."""
    profile, machine = choose_profile(hardware)
    threads = profile.threads(machine.cores, machine.physical_cores)
    return {
        "hardware": asdict(machine),
        "profile": asdict(profile) | {"threads": threads},
        "runtimes": [asdict(probe) for probe in probe_runtimes()],
        "backends": [_examine(name) for name in BACKENDS],
    }


def _examine(name: str) -> dict[str, Any]:
    module = backend(name)
    problem, remedy = module.available(), module.REMEDY
    devices: tuple[str, ...] = ()
    if problem is None:
        try:
            devices = module.devices()
        except BackendError as error:
            problem, remedy = error.problem, error.remedy or remedy
    return {
        "name": name,
        "available": problem is None,
        "version": module.version(),
        "devices": list(devices),
        "precisions": list(module.PRECISIONS),
        "formats": list(module.FORMATS),
        "needs": module.NEEDS,
        "problem": problem,
        "remedy": remedy if problem else None,
    }


def run(args: argparse.Namespace) -> int:
    try:
        profile, machine = choose_profile(args.hardware)
        found = survey(args.hardware)
    except InferenceError as error:
        print(error, file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    for name, text in _machine(machine, profile, found):
        print(f"{name:<13}{text}")
    print()
    rows = [("backend", "version", "devices", "precisions", "formats", "state")]
    for entry in found["backends"]:
        state = "available" if entry["available"] else f"{entry['problem']}: {entry['remedy']}"
        lists = (", ".join(entry[key]) or "-" for key in ("devices", "precisions", "formats"))
        rows.append((entry["name"], entry["version"] or "-", *lists, state))
    _print(rows)
    return 0


def _machine(machine: Hardware, profile: Profile, found: dict[str, Any]) -> list[tuple[str, str]]:
    memory = f", {machine.memory / 2**30:.1f} GiB" if machine.memory else ""
    system = [machine.system, machine.l4t and f"L4T {machine.l4t}", machine.container and "in a container"]
    lines = [
        ("hardware", f"{machine.kind}: {machine.model}, {machine.cores} cores{memory}"),
        ("", f"{machine.reason}; CPU flags: {' '.join(machine.flags) or 'none that matter'}"),
        ("system", ", ".join(str(part) for part in system if part) or "unknown"),
        *(("accelerator", str(accelerator)) for accelerator in machine.accelerators),
    ]
    lines += [(probe["source"], "; ".join(probe["devices"]) or probe["problem"]) for probe in found["runtimes"]]
    candidates = ", ".join(str(candidate) for candidate in profile.candidates)
    threads = found["profile"]["threads"]
    lines.append(("profile", f"{profile.kind}: {candidates}; {threads} thread{'s' if threads != 1 else ''}"))
    return lines


def _print(rows: Sequence[Sequence[str]]) -> None:
    """Columns side by side; the last, which may be long, as it is."""
    last = len(rows[0]) - 1
    widths = [max(len(row[column]) for row in rows) for column in range(last)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[last]]))
