"""The trained network as a model bundle: ONNX, its card, and the figures that were measured."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
import yaml
from detector_training.frames import HEIGHT, PAD, WIDTH
from detector_training.network import STRIDES, Detector, fold

from edge_vision.simulation import LABELS


def export(model: Detector, folder: Path, provenance: dict) -> Path:
    """Writes model.onnx and model.yaml into ``folder``; the measured figures are added by `measure`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    images = torch.zeros(1, HEIGHT, WIDTH, 3, dtype=torch.uint8)
    names = {"input_names": ["images"], "output_names": ["output"]}
    torch.onnx.export(fold(model), (images,), str(path), opset_version=17, dynamo=False, **names)
    bundle = {
        "format": 1,
        "name": folder.name,
        "task": "detect",
        "decoder": "yolox",
        "labels": list(LABELS),
        "input": {
            "name": "images",
            "width": WIDTH,
            "height": HEIGHT,
            "layout": "nhwc",
            "dtype": "uint8",
            "colour": "bgr",
            "scale": 1.0,
            "mean": [0, 0, 0],
            "std": [1, 1, 1],
            "resize": "letterbox",
            "pad_value": PAD,
        },
        "decoder_options": {"strides": list(STRIDES)},
        "thresholds": {"score": 0.3, "iou": 0.5, "max_detections": 300},
        "variants": [
            {
                "backend": "onnxruntime",
                "precision": "fp32",
                "file": path.name,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
        ],
        "license": "Apache-2.0",
        "provenance": provenance,
    }
    write_bundle(folder, bundle)
    return folder


def write_bundle(folder: Path, bundle: dict) -> None:
    text = yaml.safe_dump(bundle, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
    header = "# Written by scripts/train_detector.py; see docs/training.md.\n"
    (folder / "model.yaml").write_text(header + text, encoding="utf-8")


def measure(folder: Path) -> None:
    """Adds to the bundle what `edge_vision evaluate` finds on 500 frames of seeds never trained on."""
    from edge_vision.cli.evaluate import evaluate_bundle

    scores = evaluate_bundle(folder)
    bundle = yaml.safe_load((folder / "model.yaml").read_text(encoding="utf-8"))
    figures = {"map50_95": round(scores.map50_95, 4), "map50": round(scores.map50, 4), "frames": scores.frames}
    bundle["variants"][0]["measured"] = figures
    write_bundle(folder, bundle)
    print(json.dumps({"bundle": folder.name, **figures}))
