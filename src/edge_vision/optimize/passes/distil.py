"""Train a small network on what a large one answers.

The student is the network as earlier passes left it (`width`, `depthwise`, `channels`), or a model of its own. Answers:
Hinton et al. 2015 (arXiv:1503.02531) for classifiers, raw outputs for detectors; inner tensors: Romero et al. 2015
(arXiv:1412.6550).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import Context, Outcome, PassError
from edge_vision.optimize.training.options import LearningOptions

SUMMARY = "train a small network on the answers of a large one"
NEEDS = frozenset({"train", "teacher", "torch"})


@dataclass(frozen=True)
class Options(LearningOptions):
    """As all that learn (`training.options.LearningOptions`), and: features: inner tensors to match, each `name` or
    `student's name=teacher's name`; feature_weight: of them. student: an ONNX file with the same outputs to train
    instead of the network as it is.
    """

    epochs: int = 30
    rate: float = 2e-3
    alpha: float = 0.9
    features: tuple[str, ...] = ()
    feature_weight: float = 1.0
    student: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "features", tuple(self.features))  # a recipe's list
        if not self.alpha:
            raise ValueError("alpha is 0: nothing is learnt from the teacher; fine_tune learns from labels alone")
        if self.feature_weight < 0:
            raise ValueError(f"feature_weight is {self.feature_weight}; it has to be at least 0")


def apply(network: Network, options: Options, context: Context) -> Outcome:
    from edge_vision.optimize.training import running

    if context.teacher is None:
        raise PassError("distil", "there is no teacher", "give one with --teacher")
    student = _student(network, options.student)
    loss = running.loss_of(network, options, context.teacher, "distil")
    loss = running.with_features(loss, options.features, options.feature_weight)
    trained, facts = running.train("distil", student, options, context, loss, teacher=context.teacher)
    return Outcome(trained, facts)


def _student(network: Network, file: str) -> Network:
    if not file:
        return network
    import onnx

    path = Path(file).expanduser()
    try:
        return network.with_graph(onnx.load(str(path)))
    except Exception as error:  # files that are none, and protobuf's own errors
        raise PassError("distil", f"{path}: {error}", "name an ONNX file as `student`") from error
