"""A training's diagnosis as text, JSON and an HTML page."""

from __future__ import annotations

import math
from typing import Any

from edge_vision.datasets.learning_curves import NAMES, REMEDIES, Diagnosis, Rule
from edge_vision.datasets.report import Table


def as_dict(diagnosis: Diagnosis) -> dict[str, Any]:
    """Everything, for JSON; numbers that are none are null."""
    d = diagnosis
    return {
        "log": d.log.path,
        "columns": d.log.columns,
        "epochs": len(d.log),
        "diagnosis": d.name,
        "title": d.title,
        "remedy": d.remedy,
        "also": list(d.also),
        "best_epoch": d.best,
        "rule": _rule(d.rule),
        "rules": [_rule(rule) for rule in d.rules],
    }


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "name": rule.name,
        "applies": rule.applies,
        "epoch": rule.epoch,
        "conditions": [
            {
                "figure": c.text,
                "value": c.value if math.isfinite(c.value) else None,
                "sign": c.sign,
                "threshold": c.threshold,
                "holds": c.holds,
            }
            for c in rule.conditions
        ],
    }


def text(diagnosis: Diagnosis) -> str:
    """For the terminal."""
    d = diagnosis
    read = ", ".join(f"{name} = {column}" for name, column in d.log.columns.items())
    lines = [f"{d.log.path}: {len(d.log)} epochs ({read})", "", d.title]
    lines += [f"  because {condition}" for condition in d.rule.conditions]
    lines.append(f"  remedy: {d.remedy}")
    if d.best is not None and d.name not in ("too short", "diverged"):
        lines.append(f"  lowest validation loss (smoothed): epoch {d.best:g}")
    for name in d.also:
        lines.append(f"also: {NAMES[name]}")
        for rule in d.rules:
            if rule.name == name and rule.applies:
                lines += [f"  because {condition}" for condition in rule.conditions]
        lines.append(f"  remedy: {REMEDIES[name]}")
    if d.log.val is None:
        lines.append("note: there is no validation loss: nothing is said of overfitting, nor of a good fit")
    return "\n".join(lines)


def rule_table(diagnosis: Diagnosis) -> Table:
    rows = [
        [rule.name, "applies" if rule.applies else "no", "; ".join(str(c) for c in rule.conditions)]
        for rule in diagnosis.rules
    ]
    return ["rule", "", "conditions, all of which must hold"], rows


def page(diagnosis: Diagnosis) -> str:
    """A page that needs no other file. Raises ImportError without matplotlib."""
    from edge_vision.datasets import curve_plot
    from edge_vision.datasets.page import e, table_html, whole_page

    d = diagnosis
    kind = {"good fit": "good", "undecided": "fair", "too short": "fair"}.get(d.name, "bad")
    because = "".join(f"<li>{e(str(condition))}</li>" for condition in d.rule.conditions)
    parts = [
        "<h1>Diagnosis of a training</h1>",
        f"<p class='facts'>{e(d.log.path)}, {len(d.log)} epochs</p>",
        f"<div class='verdict {kind}'><b>{e(d.title)}</b><ul>{because}</ul><i>{e(d.remedy)}</i></div>",
        *(f"<p>Also: {e(NAMES[name])}. <i>{e(REMEDIES[name])}</i></p>" for name in d.also),
        f"<figure>{curve_plot.svg(d)}</figure>",
        "<h2>Rules</h2>",
        table_html(rule_table(d)),
        "<p class='note'>The first rule that applies, in the order of docs/diagnose_training.md, is the diagnosis. "
        "Thick lines: smoothed.</p>",
    ]
    return whole_page("Diagnosis of a training", parts)
