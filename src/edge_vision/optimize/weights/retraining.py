"""Training that goes with a change of weights, from the options of a pass to the trained graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import onnx

from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import Context, PassError
from edge_vision.optimize.training.options import TrainingOptions


@dataclass(frozen=True)
class Retraining(TrainingOptions):
    """As all that train (`training.options.TrainingOptions`), and: epochs: 0 for none. alpha: the teacher's share in a
    classifier's loss, where there is a teacher, 0 for labels alone; temperature: of its answers. heads: weight of a
    detector's last convolutions beside its outputs."""

    epochs: int = 0
    rate: float = 3e-4
    alpha: float = 0.5
    temperature: float = 4.0
    heads: float = 0.5

    def __post_init__(self) -> None:
        if self.epochs:
            TrainingOptions.__post_init__(self)
        if not 0 <= self.alpha <= 1 or self.temperature <= 0 or self.heads < 0:
            raise ValueError("alpha has to be between 0 and 1, temperature above 0, heads at least 0")


def retrained(
    network: Network, options: Retraining, context: Context, constraints: Sequence[Any], name: str
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The graph after `options.epochs` of training under constraints (`training.constraints.Constraint`), and facts for
    the report. Raises PassError where there is no data, teacher (of a detector) or PyTorch."""
    if find_spec("torch") is None:
        raise PassError(
            name, "PyTorch is not installed, and epochs asks for training", "pip install torch, or epochs: 0"
        )
    from edge_vision.optimize.training import running

    teacher = context.teacher
    if network.task == "classify":
        alpha = options.alpha if teacher is not None else 0.0
        loss: Any = running.classifier_loss(alpha, options.temperature, 0.0, teacher, name)
    elif teacher is None:
        raise PassError(name, "a detector learns from a teacher", "give the model that the recipe began with")
    else:
        loss = running.detector_loss(network, options.heads)
    held = [*constraints, *running.kept(options, network)]
    trained, facts = running.train(name, network, options, context, loss, teacher=teacher, constraints=held)
    return trained.proto, {"training": facts}
