"""Frames in, detections out: runs a model on the best backend that the hardware has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from edge_vision.datatypes import Detections, Frame, LabelInfo, QualityReport
from edge_vision.inference import Engine, InferenceError
from edge_vision.inference.backends import BACKENDS
from edge_vision.inference.bundle import PRECISIONS
from edge_vision.inference.hardware import KINDS
from edge_vision.inference.security import POLICIES, BundlePolicy, open_bundle
from edge_vision.paths import find_model
from edge_vision.ros import adapters, qos
from edge_vision.ros.node import VisionNode
from edge_vision.ros.parameters import NodeParameters, parameter
from edge_vision.ros.quality_adapters import IMAGE_QUALITY
from edge_vision.ros.quality_gate import MODES, QualityGate


@dataclass(frozen=True)
class InferenceParameters(NodeParameters):
    model: str = parameter(
        "conveyor_parts",
        "Model bundle (folder, model.yaml or packaged .evb), a model file (.onnx, .tflite, ...), or the name of a "
        "bundled model.",
    )
    decoder: str = parameter("", "Decoder of a bare model file; empty: recognised from its outputs.")
    hardware: str = parameter(
        "auto",
        f"Hardware profile, which names the backends to try; auto: what the machine is; or the path of a file. "
        f"Known: {', '.join(KINDS)}.",
    )
    backend: str = parameter(
        "auto",
        "Inference backend; auto: the fastest of the hardware profile that runs the model right, measured at first "
        "start and remembered.",
        choices=("auto", *BACKENDS),
    )
    device: str = parameter("auto", "Device of the backend, e.g. cpu, gpu; auto: the profile's.")
    precision: str = parameter(
        "auto",
        "Arithmetic of the model; auto: the fastest of fp32 and those that `edge_vision verify` has passed.",
        choices=("auto", *PRECISIONS),
    )
    threads: int = parameter(
        0, "CPU threads of the backend, 0 for the profile's rule (cores - 1, at most 4).", range=(0, 256)
    )
    score_threshold: float = parameter(-1.0, "Least score of a detection, -1 for the model's own.", range=(-1.0, 1.0))
    iou_threshold: float = parameter(
        -1.0, "Overlap from which the weaker box goes (NMS), -1 for the model's own.", range=(-1.0, 1.0)
    )
    max_detections: int = parameter(0, "Most detections an image, 0 for the model's own.", range=(0, 10000))
    classes: str = parameter("", "Names or numbers of the classes to report, separated by commas; empty: all.")
    image_transport: str = parameter(
        "raw",
        "raw: sensor_msgs/Image on image_raw; compressed: CompressedImage on image_raw/compressed.",
        choices=("raw", "compressed"),
        read_only=True,
    )
    quality_gate: str = parameter(
        "off",
        "What becomes of frames while image_quality (docs/quality_node.md) says that the picture is bad; mark: they "
        "are counted and told of in the diagnostics; skip: no inference, empty detections are published.",
        choices=MODES,
    )
    quality_gate_causes: str = parameter(
        "", "Causes that make a picture bad for quality_gate, separated by commas; empty: all."
    )
    quality_gate_age: float = parameter(
        2.0, "Seconds after which an image_quality no longer counts: frames then pass.", range=(0.0, 3600.0)
    )
    bundle_policy: str = parameter(
        "any",
        "Models that may be opened; signed: only bundles that one of trusted_keys signed (docs/bundle_security.md). "
        "What is packaged is compared with its hashes in any case.",
        choices=POLICIES,
        read_only=True,
    )
    trusted_keys: str = parameter(
        "", "Public keys of those who sign bundles: a file, or a folder of *.pub files.", read_only=True
    )
    bundle_key: str = parameter(
        "",
        "Where the key of encrypted bundles is: file:PATH, env:NAME or command:PROGRAM ARGUMENTS; never the key.",
        read_only=True,
    )


# Parameters that the running engine takes over; any other change loads a new engine.
_GATE = ("quality_gate", "quality_gate_causes", "quality_gate_age")
_LIVE = ("score_threshold", "iou_threshold", "max_detections", "classes", *_GATE)


class InferenceNode(VisionNode[InferenceParameters]):
    """image_raw -> detections; label_info says once what the class ids mean."""

    parameters_type = InferenceParameters
    expected_errors = (*VisionNode.expected_errors, InferenceError)

    def configure(self) -> None:
        self._prepared: tuple[InferenceParameters, Engine] | None = None  # loaded for a change that is under way
        self._gate = _gate(self.parameters)
        self.engine = self._load(self.parameters)
        self.detections = self.publisher(Detections, "detections")
        self.label_info = self.publisher(LabelInfo, "label_info", profile=qos.LATCHED, counted=False)
        adapter = adapters.COMPRESSED_IMAGE if self.parameters.image_transport == "compressed" else adapters.IMAGE
        self.subscription(Frame, "image_raw", self.infer, adapter=adapter)
        self.subscription(
            QualityReport,
            "image_quality",
            self.learn_quality,
            adapter=IMAGE_QUALITY,
            counted=False,
            needed=lambda: self._gate.mode != "off",
        )
        self._preprocess, self._run = self.stage("preprocess"), self.stage("run")
        self._postprocess, self._publish = self.stage("postprocess"), self.stage("publish")

    def activate(self) -> None:
        self._announce()

    def cleanup(self) -> None:
        if hasattr(self, "engine"):
            self.engine.close()
            del self.engine

    def learn_quality(self, report: QualityReport) -> None:
        self._gate.learn(report)

    def infer(self, frame: Frame) -> None:
        engine = self.engine  # one engine for the whole frame, whatever is switched meanwhile
        gate = self._gate
        if gate.mode != "off" and not gate.passes(frame.stamp) and gate.mode == "skip":
            with self._publish:
                self.detections.publish(Detections(labels=engine.labels, stamp=frame.stamp, frame_id=frame.frame_id))
            return
        with self._preprocess:
            prepared = engine.preprocess(frame)
        with self._run:
            raw = engine.run(prepared)
        with self._postprocess:
            detections = engine.postprocess(raw, prepared)
        with self._publish:
            self.detections.publish(detections)

    def prepare(self, new: InferenceParameters) -> Callable[[], None] | None:
        if not hasattr(self, "engine") or self._only_live(new):
            return None

        def load() -> None:
            self._prepared = None  # one that was loaded and then not taken
            self._prepared = new, self._load(new)

        return load

    def reconfigure(self, new: InferenceParameters) -> None:
        if not hasattr(self, "engine"):
            return  # not configured yet: configure takes the new values
        gate = _gate(new)
        if self._only_live(new):
            self._set_thresholds(self.engine, new)
        else:
            # The new model is loaded and warm before the old one goes; should it fail, the old one stays.
            prepared, self._prepared = self._prepared, None
            engine = prepared[1] if prepared and self._same_model(prepared[0], new) else self._load(new)
            self._set_thresholds(engine, new)  # may have changed since
            self.engine = engine  # the old one is closed when the frame in work lets go of it
        if any(getattr(new, name) != getattr(self.parameters, name) for name in _GATE):
            gate.carry_over(self._gate)
            self._gate = gate
        if self.active:
            self._announce()

    def _only_live(self, new: InferenceParameters) -> bool:
        return self._same_model(new, self.parameters)

    @staticmethod
    def _same_model(one: InferenceParameters, other: InferenceParameters) -> bool:
        return replace(one, **{name: getattr(other, name) for name in _LIVE}) == other

    def status(self) -> dict[str, str]:
        if not hasattr(self, "engine"):
            return {}
        description = self.engine.description
        return {
            "model": description.model,
            "backend": f"{description.backend} {description.runtime_version}",
            "device": description.device,
            "precision": description.precision,
            "threads": str(description.threads),
            "hardware": description.hardware,
            "chosen because": description.reason,
            **({"bundle": self.engine.bundle.seal} if self.engine.bundle.seal else {}),
            **{f"not {name}": why for name, why in description.rejected},
            **self._gate.status(),
        }

    def warning(self) -> str | None:
        gate: QualityGate | None = getattr(self, "_gate", None)
        why = gate.reason() if gate is not None else None
        if gate is None or why is None:
            return None
        return f"frames are {'skipped' if gate.mode == 'skip' else 'marked'} for their quality ({why})"

    def _load(self, p: InferenceParameters) -> Engine:
        log = self.get_logger()
        policy = BundlePolicy(p.bundle_policy, p.trusted_keys, p.bundle_key)
        with open_bundle(find_model(p.model), policy, warn=log.warning, decoder=p.decoder or None) as bundle:
            engine = Engine.load(
                bundle,
                backend=p.backend,
                device=p.device,
                precision=p.precision,
                threads=p.threads,
                hardware=p.hardware,
                log=log.info,
            )
        self._set_thresholds(engine, p)
        self.get_logger().info(str(engine.description))
        return engine

    @staticmethod
    def _set_thresholds(engine: Engine, p: InferenceParameters) -> None:
        own = engine.bundle.thresholds
        names = [name.strip() for name in p.classes.split(",") if name.strip()]
        engine.set_thresholds(
            score=own.score if p.score_threshold < 0 else p.score_threshold,
            iou=own.iou if p.iou_threshold < 0 else p.iou_threshold,
            max_detections=p.max_detections or own.max_detections,
            classes=[int(name) if name.isdigit() else name for name in names],
        )

    def _announce(self) -> None:
        self.label_info.publish(LabelInfo(self.engine.labels, self.engine.thresholds.score))


def _gate(p: InferenceParameters) -> QualityGate:
    return QualityGate(p.quality_gate, p.quality_gate_causes, p.quality_gate_age)
