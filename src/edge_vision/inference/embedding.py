"""What objects look like, as rows of numbers: a re-identification network on the crops of boxes.

    embedder = Embedder.load(load_bundle("osnet_x0_25"))
    features = embedder.embed(frame, detections.boxes)      # (N, D), unit rows; NaN where a box shows nothing

`edge_vision.tracking` associates by such rows; it does not know where they come from.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Frame
from edge_vision.inference.crop_network import LEAST_SIDE, WARM_UP, CropNetwork

__all__ = ["LEAST_SIDE", "WARM_UP", "Embedder"]


class Embedder(CropNetwork):
    """A re-identification network, loaded and warm: see `CropNetwork`."""

    TASK = "re-identification"
    GIVES = "embeddings"
    REMEDY = "give a bundle of task re-identification, or a bare file with decoder embedding"

    @property
    def dimension(self) -> int:
        """D, the length of a row."""
        return self.width

    def embed(self, frame: Frame, boxes: NDArray) -> NDArray[np.float32]:
        """Features (N, D) float32 of what is inside `boxes` (N, 4) xyxy in the frame's pixels, each of length one.

        Rows of boxes that show nothing (not finite, less than 2 px inside the image), or for which the network gives no
        direction, are NaN. Errors as of `rows`.
        """
        return _normalised(self.rows(frame, boxes))


def _normalised(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows divided, in place, by their length; NaN where they have none."""
    length = np.sqrt(np.einsum("ij,ij->i", features, features))
    features /= np.where(np.isfinite(length) & (length > 1e-12), length, np.nan)[:, None]
    return features
