"""What the studies of distillation print: one row a seed, alone beside distilled."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from edge_vision.optimize.measure.accuracy import Accuracy, Drop, drop


@dataclass(frozen=True)
class Row:
    seed: int
    alone: Accuracy
    taught: Accuracy

    @property
    def gain(self) -> Drop:
        return drop(self.taught, self.alone)  # by how much the one alone is below


def finished(row: Row) -> Row:
    """Printed as soon as it is known: a study takes long."""
    figures = {"seed": row.seed, "alone": row.alone.value, "taught": row.taught.value, "gain": row.gain.value}
    print(json.dumps(figures), flush=True)
    return row


def told(teacher: Accuracy, rows: Sequence[Row]) -> str:
    """A Markdown table; points with the 95 % interval of the paired difference."""
    lines = [
        f"\nTeacher: {100 * teacher.value:.1f} % ({100 * teacher.low:.1f} to {100 * teacher.high:.1f}).\n",
        "| seed | alone | distilled | gain in points (95 %) |",
        "|---|---|---|---|",
    ]
    for row in rows:
        gain = row.gain
        points = f"{100 * gain.value:+.1f} ({100 * gain.low:.1f} to {100 * gain.high:.1f})"
        lines.append(f"| {row.seed} | {100 * row.alone.value:.1f} % | {100 * row.taught.value:.1f} % | {points} |")
    mean = sum(row.gain.value for row in rows) / len(rows)
    seeds = f"{len(rows)} seed{'s' if len(rows) > 1 else ''}"
    return "\n".join([*lines, f"\nMean gain {100 * mean:.1f} points over {seeds}."])
