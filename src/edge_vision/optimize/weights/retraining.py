"""Training that goes with a change of weights, from the options of a pass to the trained graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import onnx

from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import Context, PassError
from edge_vision.optimize.training.options import LearningOptions


@dataclass(frozen=True)
class Retraining(LearningOptions):
    """As all that learn (`training.options.LearningOptions`); epochs: 0 for none."""

    epochs: int = 0
    rate: float = 1e-3
    alpha: float = 0.5

    def __post_init__(self) -> None:
        if self.epochs:
            LearningOptions.__post_init__(self)
        self.check_learning()


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

    loss, teacher = running.best_loss(network, options, context.teacher, name)
    held = [*constraints, *running.kept(options, network)]
    trained, facts = running.train(name, network, options, context, loss, teacher=teacher, constraints=held)
    return trained.proto, {"training": facts}
