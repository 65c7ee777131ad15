"""The figures of a report as rows for people: symbol, name, value, unit, remark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_vision.quality.sensor.measurement import SensorReport


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. section: of the standard. value: as text, ``unknown`` where there is none, its reason in note."""

    group: str
    name: str
    symbol: str
    value: str
    unit: str
    section: str
    note: str = ""


_Spec = tuple[str, str, str, str, str]  # key, name, symbol, unit, section

_SENSITIVITY: tuple[_Spec, ...] = (
    ("quantum_efficiency", "quantum efficiency", "η", "%", "6.6"),
    ("responsivity", "responsivity", "R", "", "6.6"),
    ("system_gain", "system gain", "K", "DN/e⁻", "6.6"),
    ("inverse_gain", "electrons a DN", "1/K", "e⁻/DN", "6.6"),
    ("gain_with_offset", "system gain, line with offset", "K′", "DN/e⁻", "ours"),
)
_NOISE: tuple[_Spec, ...] = (
    ("dark_noise_dn", "temporal dark noise", "σ_y.dark", "DN", "6.6"),
    ("dark_noise_electrons", "temporal dark noise", "σ_d", "e⁻", "6.6"),
    ("threshold_electrons", "absolute sensitivity threshold", "μ_e.min", "e⁻", "2.4"),
    ("threshold_photons", "absolute sensitivity threshold", "μ_p.min", "photons", "2.4"),
    ("dark_current_mean", "dark current, from the mean", "μ_I.mean", "e⁻/s", "7.1"),
    ("dark_current_variance", "dark current, from the variance", "μ_I.var", "e⁻/s", "7.1"),
)
_RANGE: tuple[_Spec, ...] = (
    ("saturation_electrons", "saturation capacity", "μ_e.sat", "e⁻", "2.4"),
    ("saturation_photons", "saturation capacity", "μ_p.sat", "photons", "2.4"),
    ("ceiling_electrons", "end of the signal", "μ_e.end", "e⁻", "ours"),
    ("snr_max", "largest SNR", "SNR_max", "", "2.3"),
    ("snr_max_db", "largest SNR", "", "dB", "2.3"),
    ("snr_max_bits", "largest SNR", "", "bit", "2.3"),
    ("dynamic_range", "dynamic range", "DR", "", "2.4"),
    ("dynamic_range_db", "dynamic range", "", "dB", "2.4"),
    ("linearity_error_min", "linearity error, lowest", "LE_min", "%", "6.7"),
    ("linearity_error_max", "linearity error, highest", "LE_max", "%", "6.7"),
)
_AREA = (
    ("threshold_photons", "threshold an area", "μ_p.min.area", "photons/µm²", "2.4"),
    ("saturation_photons", "saturation an area", "μ_p.sat.area", "photons/µm²", "2.4"),
    ("saturation_electrons", "saturation an area", "μ_e.sat.area", "e⁻/µm²", "2.4"),
)
_PERCENT = {"quantum_efficiency"}


def rows(report: SensorReport) -> list[Row]:
    """All figures, in the order of the standard's data sheet."""
    result: list[Row] = []
    for group, specs in (("Sensitivity", _SENSITIVITY), ("Dark noise", _NOISE), ("Range", _RANGE)):
        result += [_row(report, group, spec) for spec in specs]
    if report.options.pixel_pitch is not None:
        area = report.options.pixel_pitch**2
        result += [
            Row("Range", name, symbol, number(None if value is None else value / area), unit, section)
            for key, name, symbol, unit, section in _AREA
            if (value := getattr(report.figures, key)) is not None
        ]
    return result + _spatial_rows(report)


def number(value: float | None) -> str:
    """Five digits, or ``unknown``."""
    return "unknown" if value is None else f"{value:.5g}" if abs(value) < 99999.5 else f"{value:.0f}"


def size_text(report: SensorReport) -> str:
    """``640 x 480 pixels of 5.6 µm: 3.58 x 2.69 mm``, as far as it is known."""
    images, pitch = report.images, report.options.pixel_pitch
    pixels = f"{images.width} x {images.height} pixels"
    if pitch is None:
        return pixels
    return f"{pixels} of {pitch:g} µm: {images.width * pitch / 1000:.3g} x {images.height * pitch / 1000:.3g} mm"


def _row(report: SensorReport, group: str, spec: _Spec) -> Row:
    key, name, symbol, unit, section = spec
    figures = report.figures
    value = 1 / figures.system_gain if key == "inverse_gain" else getattr(figures, key)
    if key == "responsivity":
        unit = "DN/photon" if figures.quantum_efficiency is not None else "DN/s"
    if value is not None and key in _PERCENT:
        value *= 100
    note = report.unknown.get(key, "") if value is None else _remark(report, key)
    return Row(group, name, symbol, number(value), unit, section, note)


def _remark(report: SensorReport, key: str) -> str:
    figures = report.figures
    if figures.dark_noise_is_limit:
        if key in ("dark_noise_dn", "dark_noise_electrons", "threshold_electrons", "threshold_photons"):
            return "at most: the dark noise is lost in the converter's steps"
        if key in ("dynamic_range", "dynamic_range_db"):
            return "at least"
        if key == "system_gain":
            return "biased: the dark noise is lost in the converter's steps; K′ is not"
        if key in ("saturation_electrons", "ceiling_electrons", "quantum_efficiency", "snr_max"):
            return "biased with K"
    if key == "quantum_efficiency":
        return f"photons from: {report.photon_source}"
    if key == "gain_with_offset":
        return "check: differs from K where the noise has another part that does not follow from the signal"
    if key == "ceiling_electrons":
        return "where the signal stays in the end: full well or converter, whichever is lower"
    return ""


def _spatial_rows(report: SensorReport) -> list[Row]:
    found = report.nonuniformity
    if found is None:
        reason = report.unknown.get("nonuniformity", "")
        return [
            Row("Nonuniformity", "dark signal", "DSNU", "unknown", "e⁻", "8.2", reason),
            Row("Nonuniformity", "photo response", "PRNU", "unknown", "%", "8.2", reason),
        ]
    result = []
    for kind, name, values, unit in (
        ("dsnu", "dark signal", found.dsnu, "e⁻"),
        ("prnu", "photo response", found.prnu, "%"),
    ):
        for part, value in values.items():
            whole = part == "total"
            symbol = kind.upper() + ("" if whole else f".{part}")
            text = "below limit" if value is None else number(value)
            note = report.unknown.get(f"{kind}_{part}", "")
            result.append(Row("Nonuniformity", name if whole else f"  of {part}s", symbol, text, unit, "8.2", note))
    return result


def text(report: SensorReport) -> str:
    """The report for a terminal."""
    lines = [f"{report.name}: {size_text(report)}, {report.images.bits} bit"]
    lines += [f"note: {note}" for note in report.warnings]
    group = ""
    for row in rows(report):
        if row.group != group:
            group = row.group
            lines += ["", group]
        value = f"{row.value} {row.unit}" if row.value != "unknown" else row.value
        lines.append(f"  {row.name:<34}{row.symbol:<14}{value:<22}{row.note}".rstrip())
    return "\n".join([*lines, "", *_clause_lines(report)])


def _clause_lines(report: SensorReport) -> Sequence[str]:
    from edge_vision.quality.sensor.protocol import VERDICT, unmet

    missed = unmet(report.clauses)
    lines = [f"{VERDICT}. Clauses of the protocol that were not met: {len(missed) or 'none that images can show'}"]
    lines += [f"  {clause.section}  {clause.requirement}: {clause.found}" for clause in missed]
    unseen = [clause for clause in report.clauses if clause.met is None]
    lines += ["Clauses that images cannot show:"]
    return lines + [f"  {clause.section}  {clause.requirement}" for clause in unseen]
