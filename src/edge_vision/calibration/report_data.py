"""A calibration's report, its record in the calibration file and the difference of two as data for JSON and YAML."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_vision.calibration.assessment import TILT_BINS, Assessment
from edge_vision.calibration.difference import Difference
from edge_vision.calibration.report import CalibrationReport
from edge_vision.calibration.verdict import Verdict


def as_dict(report: CalibrationReport) -> dict[str, Any]:
    """For JSON: px, m, degrees and shares of 1; None where unknown, never NaN."""
    a, v = report.assessment, report.verdict
    c, r, u, coverage = a.calibration, a.residuals, a.uncertainty, a.coverage
    validation = a.cross_validation
    sigmas = c.sigmas
    return _clean(
        {
            "camera_name": report.camera_name,
            "source": report.source,
            "verdict": str(v.level),
            "reasons": [
                {
                    "figure": reason.name,
                    "level": str(reason.level),
                    "value": reason.value,
                    "unit": reason.unit,
                    "good": reason.good,
                    "usable": reason.usable,
                    "text": reason.text,
                    "remedy": reason.remedy,
                }
                for reason in v.reasons
            ],
            "next_views": [
                {
                    "text": s.text,
                    "gain": s.gain,
                    "tilt_degrees": s.tilt,
                    "outline": s.outline.tolist(),
                    "rotation": s.rotation.tolist(),
                    "translation": s.translation.tolist(),
                }
                for s in report.suggestions
            ],
            "image_size": list(c.image_size),
            "model": c.model,
            "K": c.K.tolist(),
            "D": c.D.tolist(),
            "parameters": {name: {"value": value, "sigma": sigmas.get(name)} for name, value in c.values.items()},
            "covariance": {"names": list(c.names), "matrix": c.covariance.tolist()},
            "board": {
                "kind": report.board.kind,
                "columns": report.board.columns,
                "rows": report.board.rows,
                "spacing": report.board.spacing,
                "marker": report.board.marker,
                "dictionary": report.board.dictionary,
                "bow": None if c.bow is None else c.bow.tolist(),
            },
            "residuals": {
                "rms": r.rms,
                "rms_x": r.rms_x,
                "rms_y": r.rms_y,
                "noise": c.noise,
                "worst": {"view": r.worst[0], "corner": r.worst[1], "distance": r.worst[2]},
                "corners": c.corner_count,
                "outlier_share": r.outlier_share,
                "region_rms": r.region_rms.tolist(),
                "region_mean": r.region_mean.tolist(),
                "region_count": r.region_count.tolist(),
            },
            "uncertainty": {
                "centre": u.centre,
                "corners": list(u.corners),
                "mean": a.mean_uncertainty,
                "map": u.sigmas.tolist(),
                "map_pixels": u.pixels.tolist(),
            },
            "cross_validation": None
            if validation is None
            else {
                "ratio": validation.ratio,
                "difference": validation.difference.lengths.tolist(),
                "expected": validation.expected.tolist(),
            },
            "cross_validation_note": a.cross_validation_note,
            "coverage": {
                "cells": coverage.cells.astype(int).tolist(),
                "cell_share": coverage.cell_share,
                "hull": coverage.hull,
                "tilt_bins_degrees": list(TILT_BINS),
                "tilt_counts": coverage.tilt_counts.tolist(),
                "tilted_sides": dict(zip(("right", "left", "top", "bottom"), coverage.tilted_to(), strict=True)),
            },
            "straightness": a.straightness,
            "focal_depth_correlation": a.depth_correlation,
            "views": [
                {
                    "name": name,
                    "corners": len(ids),
                    "rms": rms,
                    "tilt_degrees": tilt,
                    "distance": distance,
                    "image_share": share,
                    "rotation": rotation,
                    "translation": translation,
                }
                for name, ids, rms, tilt, distance, share, rotation, translation in zip(
                    c.views,
                    c.ids,
                    c.view_rms.tolist(),
                    coverage.tilts.tolist(),
                    coverage.distances.tolist(),
                    coverage.sizes.tolist(),
                    c.rotations.tolist(),
                    c.translations.tolist(),
                    strict=True,
                )
            ],
            "outliers": [
                {"view": outlier.view, "corner": outlier.id, "residual": list(outlier.residual)}
                for outlier in c.outliers
            ],
            "removed_views": [{"name": each.name, "reason": each.reason} for each in c.removed],
            "rejected_images": [{"name": name, "reason": reason} for name, reason in report.rejected],
            "candidates": [
                {
                    "model": each.model,
                    "terms": list(each.terms),
                    "bow": each.bow,
                    "hold_out": each.hold_out,
                    "corner_sigma": each.corner_sigma,
                    "verdict": each.verdict,
                }
                for each in report.candidates
            ],
            "images": report.images,
            "files": dict(report.files),
            "notes": [*c.notes, *report.notes],
            "seconds": dict(report.seconds),
        }
    )


def as_record(assessment: Assessment, verdict: Verdict) -> dict[str, Any]:
    """The figures that a calibration file keeps beside the calibration, so that it can be judged later."""
    a = assessment
    c, u = a.calibration, a.uncertainty
    return _clean(
        {
            "verdict": str(verdict.level),
            "reasons": [reason.text for reason in verdict.blamed],
            "rms": c.rms,
            "noise": c.noise,
            "views": len(c.views),
            "corners": c.corner_count,
            "uncertainty_centre": u.centre,
            "uncertainty_corners": list(u.corners),
            "cross_validation": None if a.cross_validation is None else a.cross_validation.ratio,
            "coverage": a.coverage.hull,
            "sigmas": c.sigmas,
            "bow": None if c.bow is None else c.bow.tolist(),
        }
    )


def difference_dict(found: Difference, names: tuple[str, str]) -> dict[str, Any]:
    """For JSON: px, rad, m."""
    return _clean(
        {
            "a": names[0],
            "b": names[1],
            "image_size": list(found.image_size),
            "distance": found.distance,
            "rms": found.rms,
            "largest": found.largest,
            "centre": found.centre,
            "corners": list(found.corners),
            "rotation": found.rotation.tolist(),
            "translation": found.translation.tolist(),
            "pixels": found.pixels.tolist(),
            "vectors": found.vectors.tolist(),
        }
    )


def _clean(value: Any) -> Any:
    """None for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: _clean(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(each) for each in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
