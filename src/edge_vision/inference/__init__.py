"""Models on images: bundles, pre-processing, backends, decoders and the engine that joins them.

    engine = Engine.load(load_bundle("models/conveyor_parts"))
    detections = engine.infer(frame)

No runtime is imported before a model is opened, so importing this package is cheap. See docs/inference.md.
"""

from edge_vision.inference.bundle import Bundle, InputSpec, Thresholds, Variant, load_bundle
from edge_vision.inference.engine import Engine, Prepared
from edge_vision.inference.errors import BackendError, InferenceError, ModelError
from edge_vision.inference.hardware import Hardware, detect_hardware
from edge_vision.inference.opening import EngineDescription

__all__ = [
    "BackendError",
    "Bundle",
    "Engine",
    "EngineDescription",
    "Hardware",
    "InferenceError",
    "InputSpec",
    "ModelError",
    "Prepared",
    "Thresholds",
    "Variant",
    "detect_hardware",
    "load_bundle",
]
