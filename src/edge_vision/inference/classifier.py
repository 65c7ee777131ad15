"""What crops, or whole images, show: a classification network.

classifier = Classifier.load(load_bundle("parts_classifier"))
probabilities = classifier.classify(frame, detections.boxes)    # (N, classes); NaN where a box shows nothing
classifier.labels[probabilities[0].argmax()]
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Frame, Labels
from edge_vision.inference.bundle import Bundle
from edge_vision.inference.crop_network import CropNetwork
from edge_vision.inference.decoders import Setup
from edge_vision.inference.decoders.classification import needs_softmax
from edge_vision.inference.errors import ModelError
from edge_vision.inference.labels import default_labels
from edge_vision.inference.opening import Opened


class Classifier(CropNetwork):
    """A classification network, loaded and warm: see `CropNetwork`. labels: the name of each column."""

    TASK = "classify"
    GIVES = "classes of crops"
    REMEDY = "give a bundle of task classify, or a bare file with decoder classification"

    def __init__(self, bundle: Bundle, opened: Opened, setup: Setup) -> None:
        """See `Classifier.load`. Raises ModelError where there are more or fewer labels than classes."""
        super().__init__(bundle, opened, setup)
        self.labels: Labels = bundle.labels or default_labels(self.width)
        if len(self.labels) != self.width:
            problem = f"{len(self.labels)} names for {self.width} classes of the output"
            raise ModelError(bundle.file, problem, "list one name a class, in the order of training", "labels")
        self.bundle = dataclasses.replace(bundle, labels=self.labels)
        self._softmax = needs_softmax(setup)

    def classify(self, frame: Frame, boxes: NDArray | None = None) -> NDArray[np.float32]:
        """Probabilities (N, classes) float32 of what is inside `boxes` (N, 4) xyxy in the frame's pixels; one row for
        the whole frame where `boxes` is None.

        Rows of boxes that show nothing (not finite, less than 2 px inside the image) are NaN. Errors as of `rows`.
        """
        if boxes is None:
            boxes = np.array([[0, 0, frame.width, frame.height]], np.float32)
        rows = self.rows(frame, boxes)
        return softmax(rows) if self._softmax else rows


def softmax(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows (N, classes) of logits, in place, as probabilities; NaN stays."""
    rows -= rows.max(axis=1, keepdims=True, initial=-np.inf)
    np.exp(rows, out=rows)
    rows /= rows.sum(axis=1, keepdims=True)
    return rows
