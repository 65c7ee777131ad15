"""The tracking node's appearance: images of its detections, the network on their crops, what is told of both."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Detections, Frame, Tracks
from edge_vision.inference import InferenceError, load_bundle
from edge_vision.inference.bundle import MODEL_SUFFIXES
from edge_vision.inference.embedding import Embedder
from edge_vision.paths import find_model
from edge_vision.ros import adapters
from edge_vision.ros.node import Unusable
from edge_vision.tracking.crop_choice import CropChoice
from edge_vision.tracking.pairing import StampPairs

if TYPE_CHECKING:
    from edge_vision.ros.node import VisionNode

WAITING_FRAMES = 4  # that the node's thread has not taken yet

Update = Callable[[Detections, "NDArray[np.float32] | None"], None]


class AppearanceParameters(Protocol):
    """What the node's parameters have for this."""

    @property
    def appearance_model(self) -> str: ...
    @property
    def appearance_backend(self) -> str: ...
    @property
    def appearance_crops(self) -> int: ...
    @property
    def appearance_every(self) -> int: ...
    @property
    def image_transport(self) -> str: ...


class AppearanceInputs:
    """Features for a tracking node: made when it is configured, only where there is a model. Everything happens on the
    thread that runs the node's callbacks.

    tracks: of the last update, which the node sets; refused: images that could not be read, and runs that failed.
    """

    def __init__(self, node: VisionNode, parameters: AppearanceParameters, update: Update) -> None:
        """Loads the model and subscribes image_raw; update: gets the detections and their features. Unusable where the
        model cannot be used."""
        self._node = node
        self._update = update
        path = find_model(parameters.appearance_model)
        try:
            bundle = load_bundle(path, decoder="embedding" if path.suffix in MODEL_SUFFIXES else None)
            self.embedder = Embedder.load(bundle, backend=parameters.appearance_backend, log=node.get_logger().info)
        except InferenceError as error:
            raise Unusable(f"appearance_model: {error}") from error
        node.get_logger().info(f"appearance: {self.embedder.description}")
        self.choice = CropChoice(parameters.appearance_crops, parameters.appearance_every)
        self.pairs = StampPairs(self._deliver)
        self.tracks = Tracks()
        self.crops = self.refused = 0
        compressed = parameters.image_transport == "compressed"
        frames = node.subscription(
            Frame,
            "image_raw",
            self.pairs.add_frame,
            adapter=adapters.COMPRESSED_IMAGE if compressed else adapters.IMAGE,
            counted=False,
        )
        frames.mailbox.hold(WAITING_FRAMES)  # while crops are embedded, images wait rather than replace each other

    def _deliver(self, detections: Detections, frame: Frame | None) -> None:
        self._update(detections, None if frame is None else self._features(detections, frame))

    def _features(self, detections: Detections, frame: Frame) -> NDArray[np.float32] | None:
        """(N, D), NaN for those that were not chosen; None where nothing is known."""
        with self._node.stage("embed"):
            rows = self.choice(detections, self.tracks)
            if not rows.size:
                return None
            features = np.full((len(detections), self.embedder.dimension), np.nan, np.float32)
            try:
                features[rows] = self.embedder.embed(frame, detections.boxes[rows])
            except (InferenceError, ValueError) as error:  # tracked by boxes alone rather than not at all
                self.refused += 1
                self._node.warn_once(f"tracked without appearance: {error}")
                return None
            self.crops += len(rows)
            return features

    def close(self) -> None:
        self.embedder.close()

    def status(self) -> dict[str, str]:
        """For the diagnostics."""
        return {
            "appearance": self.embedder.description.model,
            "appearance backend": f"{self.embedder.description.backend} {self.embedder.description.device}",
            "crops embedded": str(self.crops),
            "detections without image": str(self.pairs.missed),
            "images refused": str(self.refused),
        }
