"""One run of `edge_vision bench backends`: the machine, the model and all that was found, as JSON takes it and back."""

from __future__ import annotations

import json
import math
import platform
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edge_vision import __version__
from edge_vision.benchmarks.backend_auto import LIMIT, Auto
from edge_vision.benchmarks.backends import Row, row_from
from edge_vision.benchmarks.by_hand_pairs import OFFSET_MS, SHARE, Pair, pair_from
from edge_vision.benchmarks.results import Check
from edge_vision.inference.bundle import Bundle, model_sha256
from edge_vision.inference.hardware import Hardware

FORMAT = 1
COMMAND = "bench backends"


@dataclass(frozen=True, slots=True)
class Study:
    """machine, model, settings: facts by name, for people and for `compare` (see `machine_facts`, `model_facts`)."""

    machine: Mapping[str, Any]
    model: Mapping[str, Any]
    settings: Mapping[str, Any]
    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...] = ()
    auto: Auto | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def checks(self) -> tuple[Check, ...]:
        """Each figure that has a limit, against it."""
        found = []
        for pair in self.pairs:
            for what, ours, by_hand in (
                ("run", pair.run_ms, pair.run_by_hand_ms),
                ("infer", pair.infer_ms, pair.infer_by_hand_ms),
            ):
                if ours is not None and by_hand is not None:
                    limit = round(by_hand * SHARE + OFFSET_MS, 3)
                    value = math.nan if pair.busy else ours  # not known is not kept
                    found.append(Check(f"{pair.backend}: engine's {what}, p50", value, limit, " ms"))
        if self.auto is not None:
            ratio = self.auto.ratio
            found.append(Check("auto, times the fastest proven", math.nan if ratio is None else ratio, LIMIT))
        return tuple(found)

    @property
    def missed(self) -> list[Check]:
        return [check for check in self.checks if not check.passed]


def machine_facts(machine: Hardware, name: str = "", price: float | None = None) -> dict[str, Any]:
    """name: of the box, its host's by default; price: in whatever currency, the same for all boxes compared."""
    return {
        "name": name or socket.gethostname(),
        "model": machine.model,
        "kind": machine.kind,
        "processor": machine.processor,
        "accelerators": [str(found) for found in machine.accelerators if not found.problem],
        "cores": machine.cores,
        "memory_gib": round(machine.memory / 2**30, 1),
        "flags": list(machine.flags),
        "system": machine.system,
        "kernel": machine.kernel,
        "python": platform.python_version(),
        "price": price,
    }


def model_facts(bundle: Bundle) -> dict[str, Any]:
    files = {variant.path.name: model_sha256(variant.path) for variant in bundle.variants}
    spec = bundle.input
    shape = f"{spec.width}x{spec.height} {spec.layout} {spec.dtype}"
    return {"name": bundle.name, "decoder": bundle.decoder, "input": shape, "sha256": files}


def as_dict(study: Study) -> dict[str, Any]:
    """As JSON takes it; a figure that was not measured is null."""
    auto = study.auto
    return {
        "format": FORMAT,
        "command": COMMAND,
        "edge_vision": __version__,
        "machine": dict(study.machine),
        "model": dict(study.model),
        "settings": dict(study.settings),
        "rows": [asdict(row) for row in study.rows],
        "by_hand": [
            asdict(pair) | {"run_within": pair.run_within, "infer_within": pair.infer_within} for pair in study.pairs
        ],
        "auto": None if auto is None else asdict(auto) | {"ratio": auto.ratio, "passed": auto.passed},
        "checks": [
            {
                "name": check.name,
                "value": None if math.isnan(check.value) else check.value,
                "limit": check.limit,
                "passed": check.passed,
            }
            for check in study.checks
        ],
        "notes": list(study.notes),
    }


def read_study(path: Path) -> Study:
    """A study from the file that `--json` wrote. Raises ValueError, with the file and what is wrong, for another
    file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("command") != COMMAND:
            raise ValueError("it was not written by `edge_vision bench backends --json`")
        if content["format"] != FORMAT:
            raise ValueError(f"it is of format {content['format']}, this version reads {FORMAT}")
        auto = content.get("auto")
        kept = ("picked", "why", "p50_ms", "fastest", "fastest_ms", "problem", "alone")
        return Study(
            machine={"name": path.stem, **content["machine"]},
            model=content["model"],
            settings=content["settings"],
            rows=tuple(row_from(row) for row in content["rows"]),
            pairs=tuple(pair_from(pair) for pair in content.get("by_hand", ())),
            auto=None if auto is None else replace(Auto(), **{key: auto[key] for key in kept if key in auto}),
            notes=tuple(content.get("notes", ())),
        )
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: is no measurement of backends: {error}") from error
