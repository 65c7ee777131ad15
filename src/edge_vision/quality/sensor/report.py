"""A report as JSON, Markdown and one HTML page without outside parts."""

from __future__ import annotations

import html as escaping
from dataclasses import asdict
from typing import Any

from edge_vision.quality.sensor import plots
from edge_vision.quality.sensor.measurement import SensorReport
from edge_vision.quality.sensor.protocol import VERDICT, Clause
from edge_vision.quality.sensor.table import Row, number, rows, size_text

_ANSWERS = {True: "met", False: "not met", None: "cannot be seen"}
_COUNTERS = ("saturation", "sensitivity_last", "linearity_first", "linearity_last")


def as_dict(report: SensorReport) -> dict[str, Any]:
    """For JSON: figures in the units of `PhotonTransfer` and `Nonuniformity`, None where unknown, never NaN."""
    images, options, found = report.images, report.options, report.nonuniformity
    figures = asdict(report.figures)
    figures.pop("unknown")
    steps = {name: figures.pop(name) for name in _COUNTERS}
    series = images.temporal
    return {
        "standard": "EMVA 1288 release 4.0 Linear",
        "verdict": VERDICT,
        "name": report.name,
        "sensor": {
            "width": images.width,
            "height": images.height,
            "bits": images.bits,
            "pixel_pitch_um": options.pixel_pitch,
            "wavelength_nm": options.wavelength,
            "irradiance_uw_cm2": options.irradiance,
            "channel": images.colour or None,
        },
        "photons_from": report.photon_source,
        "figures": figures,
        "nonuniformity": None
        if found is None
        else {
            "dsnu_electrons": found.dsnu,
            "prnu_percent": found.prnu,
            "dsnu_limit_electrons": found.dsnu_limit,
            "prnu_limit_percent": found.prnu_limit,
        },
        "unknown": dict(report.unknown),
        "clauses": [{**asdict(clause), "answer": _ANSWERS[clause.met]} for clause in report.clauses],
        "steps": {
            **steps,
            "exposure_s": series.exposure.tolist(),
            "photons": None if series.photons is None else series.photons.tolist(),
            "mean_dn": series.mean.tolist(),
            "variance_dn2": series.variance.tolist(),
            "dark_mean_dn": series.dark_mean.tolist(),
            "dark_variance_dn2": series.dark_variance.tolist(),
        },
        "information": dict(report.information),
        "warnings": list(report.warnings),
    }


def markdown(report: SensorReport) -> str:
    """Tables of figures and clauses."""
    lines = [f"# Sensor measurement: {report.name}", "", f"**{VERDICT}** (EMVA 1288 release 4.0, linear)", ""]
    lines += [f"- {name}: {value}" for name, value in _facts(report)]
    group = ""
    for row in rows(report):
        if row.group != group:
            group = row.group
            lines += [
                "",
                f"## {group}",
                "",
                "| figure | symbol | value | unit | clause | remark |",
                "|---|---|---|---|---|---|",
            ]
        lines.append(f"| {row.name.strip()} | {row.symbol} | {row.value} | {row.unit} | {row.section} | {row.note} |")
    lines += ["", "## Protocol", "", "| clause | asked for | | found |", "|---|---|---|---|"]
    lines += [f"| {c.section} | {c.requirement} | **{_ANSWERS[c.met]}** | {c.found} |" for c in report.clauses]
    return "\n".join(lines) + "\n"


def html(report: SensorReport) -> str:
    """A page with figures, plots and clauses. Raises ImportError without matplotlib."""
    pictures = "".join(f"<figure>{plots.svg(report, name)}</figure>" for name in plots.NAMES)
    facts = "".join(f"<dt>{_e(name)}</dt><dd>{_e(value)}</dd>" for name, value in _facts(report))
    missed = [clause for clause in report.clauses if clause.met is False]
    words = (
        f"{len(missed)} clause{'s' * (len(missed) != 1)} of the protocol not met"
        if missed
        else "no clause of the protocol missed that images can show"
    )
    return (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>Sensor measurement: {_e(report.name)}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>Sensor measurement: {_e(report.name)}</h1>"
        f"<p class='verdict'><b>{_e(VERDICT)}</b> (EMVA 1288 release 4.0, linear): {words}.</p>"
        f"<dl>{facts}</dl>{_tiles(report)}<h2>Figures</h2>{_figure_table(report)}<h2>Plots</h2>{pictures}"
        f"<h2>Protocol</h2>{_clause_table(report.clauses)}</main></body></html>\n"
    )


def _facts(report: SensorReport) -> list[tuple[str, str]]:
    images = report.images
    result = [("sensor", size_text(report)), ("values", f"{images.bits} bit")]
    if images.colour:
        result.append(("channel", f"{images.colour} of colour images"))
    result.append(("photons from", report.photon_source))
    series = [f"{len(images.temporal.light)} steps of two bright and two dark images"]
    if images.dark is not None and images.bright is not None:
        series.append(f"series of {images.dark.count} dark and {images.bright.count} bright")
    result.append(("images", ", ".join(series)))
    result += [(name, value) for name, value in report.information.items() if name and value]
    return result + [("note", note) for note in report.warnings]


def _tiles(report: SensorReport) -> str:
    f, found = report.figures, report.nonuniformity
    least = "≤ " if f.dark_noise_is_limit else ""
    tiles = [
        ("quantum efficiency", "unknown" if f.quantum_efficiency is None else f"{100 * f.quantum_efficiency:.1f} %"),
        ("system gain", f"{f.system_gain:.4g} DN/e⁻"),
        ("dark noise", f"{least}{f.dark_noise_electrons:.3g} e⁻"),
        ("saturation", f"{number(f.saturation_electrons)} e⁻"),
        ("largest SNR", f"{f.snr_max_db:.1f} dB"),
        ("dynamic range", f"{'≥ ' if f.dark_noise_is_limit else ''}{f.dynamic_range_db:.1f} dB"),
    ]
    if found is not None:
        dsnu, prnu = found.dsnu["total"], found.prnu["total"]
        tiles += [
            ("DSNU", f"< {found.dsnu_limit:.2g} e⁻" if dsnu is None else f"{dsnu:.3g} e⁻"),
            ("PRNU", f"< {found.prnu_limit:.2g} %" if prnu is None else f"{prnu:.3g} %"),
        ]
    cells = "".join(f"<div><span>{_e(name)}</span><b>{_e(value)}</b></div>" for name, value in tiles)
    return f"<section class='tiles'>{cells}</section>"


def _figure_table(report: SensorReport) -> str:
    body, group = [], ""
    for row in rows(report):
        if row.group != group:
            group = row.group
            body.append(f"<tr class='group'><th colspan='6'>{_e(group)}</th></tr>")
        body.append(_figure_row(row))
    head = "".join(f"<th>{name}</th>" for name in ("figure", "symbol", "value", "unit", "clause", "remark"))
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"


def _figure_row(row: Row) -> str:
    faint = " class='unknown'" if row.value in ("unknown", "below limit") else ""
    return (
        f"<tr{faint}><td>{_e(row.name)}</td><td>{_e(row.symbol)}</td><td class='number'>{_e(row.value)}</td>"
        f"<td>{_e(row.unit)}</td><td>{_e(row.section)}</td><td class='note'>{_e(row.note)}</td></tr>"
    )


def _clause_table(found: tuple[Clause, ...]) -> str:
    kinds = {True: "met", False: "missed", None: "unseen"}
    body = "".join(
        f"<tr class='{kinds[clause.met]}'><td>{_e(clause.section)}</td><td>{_e(clause.requirement)}</td>"
        f"<td class='answer'>{_ANSWERS[clause.met]}</td><td>{_e(clause.found)}</td></tr>"
        for clause in found
    )
    head = "<th>clause</th><th>asked for</th><th></th><th>found</th>"
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _e(text: str) -> str:
    return escaping.escape(text)


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #20262c; background: #fff; margin: 0 }
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem }
h1 { font-size: 1.5rem; margin: 0 0 .3rem } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem }
.verdict { background: #fff6e5; border-left: 4px solid #d9912b; padding: .5rem .8rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 1rem 0 }
dt { color: #5f6b76 } dd { margin: 0 }
.tiles { display: flex; flex-wrap: wrap; gap: .6rem }
.tiles div { border: 1px solid #d8dee4; border-radius: 6px; padding: .5rem .8rem; min-width: 7.5rem }
.tiles span { display: block; color: #5f6b76; font-size: .8rem } .tiles b { font-size: 1.1rem; white-space: nowrap }
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem; border-bottom: 1px solid #e4e8ec }
thead th { color: #5f6b76; font-weight: 600; font-size: .85rem }
.group th { padding-top: .8rem; border-bottom: 2px solid #d8dee4 }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.note { color: #5f6b76; font-size: .85rem }
td:first-child { white-space: nowrap }
.unknown .number { color: #8a6d1f } .answer { white-space: nowrap; font-weight: 600 }
.missed .answer { color: #b3261e } .met .answer { color: #2e7d4f } .unseen .answer { color: #5f6b76 }
figure { margin: 1rem 0 } svg { max-width: 100%; height: auto }
"""
