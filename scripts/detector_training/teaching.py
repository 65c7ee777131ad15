"""A bundled detector as the teacher of a smaller one, for the same training loop."""

from __future__ import annotations

from pathlib import Path

import torch
from detector_training.network import HEIGHT, WIDTH
from torch import Tensor

from edge_vision.optimize.command import load_network
from edge_vision.optimize.training.detection_loss import OBJECTNESS, DetectorDistillation
from edge_vision.optimize.training.graph import TorchGraph


class Teacher:
    """Answers of a bundle's ONNX file, and how far a student's are from them."""

    def __init__(self, bundle: Path, sample: Tensor) -> None:
        """sample: some training images (B, 240, 320, 3) uint8, on which the spread of the answers is measured."""
        network = load_network(str(bundle))
        self._graph = TorchGraph(network.proto, input_shape=(1, HEIGHT, WIDTH, 3)).eval()
        self._output = self._graph.outputs[0]
        self._loss = DetectorDistillation(OBJECTNESS.get(str(network.bundle.decoder)))
        self._loss.outputs = ((self._output, self._output),)
        with torch.no_grad():
            self._loss.measure([self._graph.compute(sample, (self._output,))])

    @torch.no_grad()
    def answers(self, images: Tensor) -> Tensor:
        """images as above; (B, 1500, 5 + classes): boxes as the layout has them, scores in 0..1."""
        return self._graph.compute(images, (self._output,))[self._output]

    def loss(self, images: Tensor, raw: Tensor) -> Tensor:
        """images as above, raw: the student's outputs for them (B, 1500, 5 + classes), logits."""
        known = {self._output: self.answers(images)}
        answers = torch.cat([raw[..., :4], raw[..., 4:].sigmoid()], -1)
        return self._loss({self._output: answers}, known, None)
