"""The tracking node's appearance: images of its detections, the network on their crops, what is told of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Detections, Frame, Tracks
from edge_vision.inference import InferenceError
from edge_vision.inference.bundle import MODEL_SUFFIXES
from edge_vision.inference.embedding import Embedder
from edge_vision.inference.packing import is_packed
from edge_vision.inference.security import BundlePolicy, open_bundle
from edge_vision.paths import find_model
from edge_vision.ros import adapters
from edge_vision.ros.mailbox import Every
from edge_vision.ros.node import Unusable
from edge_vision.tracking.crop_choice import CropChoice
from edge_vision.tracking.pairing import StampPairs

if TYPE_CHECKING:
    from edge_vision.ros.node import VisionNode

WAITING_FRAMES = 4  # that the node's thread has not taken yet
BEHIND = 2  # detections that wait while others are looked at; from there on they are tracked by boxes alone

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
    def bundle_policy(self) -> str: ...
    @property
    def trusted_keys(self) -> str: ...
    @property
    def bundle_key(self) -> str: ...
    @property
    def image_transport(self) -> str: ...
    @property
    def input_mode(self) -> str: ...


@dataclass(frozen=True)
class Overdue:
    """An input beside the detections: these have waited for their image for long enough."""

    detections: Detections


class AppearanceInputs:
    """Features for a tracking node: made when it is configured, only where there is a model. Everything happens on the
    thread that runs the node's callbacks, but for `every_second`.

    tracks: of the last update, which the node sets; refused: images that could not be read, and runs that failed;
    hurried: detections not looked at because others waited already.
    """

    def __init__(self, node: VisionNode, parameters: AppearanceParameters, update: Update) -> None:
        """Loads the model and subscribes image_raw; update: gets the detections and their features. Unusable where the
        model cannot be used."""
        self._node = node
        self._update = update
        path = find_model(parameters.appearance_model)
        try:
            policy = BundlePolicy(parameters.bundle_policy, parameters.trusted_keys, parameters.bundle_key)
            decoder = "embedding" if path.suffix in MODEL_SUFFIXES or is_packed(path) else None
            log = node.get_logger()
            with open_bundle(path, policy, warn=log.warning, decoder=decoder) as bundle:
                self.embedder = Embedder.load(bundle, backend=parameters.appearance_backend, log=log.info)
        except InferenceError as error:
            raise Unusable(f"appearance_model: {error}") from error
        node.get_logger().info(f"appearance: {self.embedder.description}")
        self.choice = CropChoice(parameters.appearance_crops, parameters.appearance_every)
        self.pairs = StampPairs(self._deliver)
        self.tracks = Tracks()
        self.crops = self.refused = self.hurried = 0
        self._waiting_at_tick: Detections | None = None
        self._keeps_up = parameters.input_mode == "latest"
        self._detections = node.subscription(Detections, "detections", self._take)
        compressed = parameters.image_transport == "compressed"
        frames = node.subscription(
            Frame,
            "image_raw",
            self.pairs.add_frame,
            adapter=adapters.COMPRESSED_IMAGE if compressed else adapters.IMAGE,
            counted=False,
        )
        frames.mailbox.hold(WAITING_FRAMES)  # while crops are embedded, images wait rather than replace each other

    def _take(self, item: Detections | Overdue) -> None:
        if isinstance(item, Overdue):
            self.pairs.give_up(item.detections)
        else:
            self.pairs.add_detections(item)

    def every_second(self) -> None:
        """On any thread: what has waited since the last time has waited for long enough; without this, the last
        detections of a stream would never be tracked if their image was lost."""
        waiting = self.pairs.waiting
        if waiting is not None and waiting is self._waiting_at_tick:
            assert isinstance(self._detections.mailbox, Every)  # as all results have
            self._detections.mailbox.offer(Overdue(waiting), wait=False)
        self._waiting_at_tick = waiting

    def _deliver(self, detections: Detections, frame: Frame | None) -> None:
        self._update(detections, None if frame is None else self._features(detections, frame))

    def _features(self, detections: Detections, frame: Frame) -> NDArray[np.float32] | None:
        """(N, D), NaN for those that were not chosen; None where nothing is known."""
        if self._keeps_up and len(self._detections.mailbox) >= BEHIND:
            self.hurried += 1
            return None
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

    def stop(self) -> None:
        """When no more inputs come: nothing waits any longer."""
        self.pairs.forget()

    def close(self) -> None:
        self.embedder.close()

    def status(self) -> dict[str, str]:
        """For the diagnostics."""
        return {
            "appearance": self.embedder.description.model,
            "appearance backend": f"{self.embedder.description.backend} {self.embedder.description.device}",
            "crops embedded": str(self.crops),
            "detections without image": str(self.pairs.missed),
            "detections skipped, being behind": str(self.hurried),
            "images refused": str(self.refused),
        }
