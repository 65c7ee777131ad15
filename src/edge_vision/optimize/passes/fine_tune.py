"""Train what an earlier pass has changed until it is as good as before.

Classifiers learn from labels, and from the teacher as far as `alpha` says. Detectors learn the teacher's raw outputs on
the training images, which needs no labels and no loss of the detector's family.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import Context, Outcome
from edge_vision.optimize.training.options import LearningOptions

SUMMARY = "train the weights on, keeping zeros and clusters"
NEEDS = frozenset({"train", "torch"})


@dataclass(frozen=True)
class Options(LearningOptions):
    """As all that learn (`training.options.LearningOptions`)."""

    epochs: int = 8
    rate: float = 1e-3


def apply(network: Network, options: Options, context: Context) -> Outcome:
    from edge_vision.optimize.training import running

    teacher = context.teacher if network.task == "detect" or options.alpha else None
    loss = running.loss_of(network, options, teacher, "fine_tune")
    tuned, facts = running.train("fine_tune", network, options, context, loss, teacher=teacher)
    return Outcome(tuned, facts)
