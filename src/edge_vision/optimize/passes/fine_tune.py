"""Train what an earlier pass has changed until it is as good as before.

Classifiers learn from labels, and from the teacher as far as `alpha` says. Detectors learn the teacher's raw outputs on
the training images, which needs no labels and no loss of the detector's family.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import Context, Outcome, PassError
from edge_vision.optimize.training.options import TrainingOptions

SUMMARY = "train the weights on, keeping zeros and clusters"
NEEDS = frozenset({"train", "torch"})


@dataclass(frozen=True)
class Options(TrainingOptions):
    """As all that train (`training.options.TrainingOptions`), and: alpha: share of the teacher in a classifier's loss,
    0 for labels alone. temperature: of the teacher's and student's answers. smoothing: of labels. heads: weight of a
    detector's last convolutions beside its outputs. normalise: convolutions have batch normalisation while they are
    trained, folded in afterwards; not for quantised or clustered weights.
    """

    epochs: int = 8
    rate: float = 1e-3
    alpha: float = 0.0
    temperature: float = 4.0
    smoothing: float = 0.0
    heads: float = 0.5
    normalise: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha is {self.alpha}; it has to be between 0 and 1")
        if self.temperature <= 0 or not 0 <= self.smoothing < 1 or self.heads < 0:
            raise ValueError("temperature has to be above 0, smoothing between 0 and 1, heads at least 0")


def apply(network: Network, options: Options, context: Context) -> Outcome:
    from edge_vision.optimize.training import running

    if network.task == "classify":
        teacher = context.teacher if options.alpha else None
        loss = running.classifier_loss(options.alpha, options.temperature, options.smoothing, teacher, "fine_tune")
    else:
        teacher = context.teacher
        if teacher is None:
            raise PassError(
                "fine_tune", "a detector learns from a teacher", "give the model that the recipe began with"
            )
        loss = running.detector_loss(network, options.heads)
    tuned, facts = running.train(
        "fine_tune", network, options, context, loss, teacher=teacher, normalise=options.normalise
    )
    return Outcome(tuned, facts)
