"""Convolutions with weights and activations of one bit, trained so.

Signs with a factor for each output channel: XNOR-Net (Rastegari et al. 2016, arXiv:1603.05279); thresholds for each
input channel: ReActNet (Liu et al. 2020, arXiv:2003.03488). What comes out runs in any ONNX runtime, which computes the
signs in float and gains nothing but the size; `optimize.binary` computes with bits on the CPU. Accuracy falls by more
than any other pass costs: it is for layers with many channels, and needs long training.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import Context, Outcome, PassError
from edge_vision.optimize.training.options import LearningOptions

NAME = "binarise"
SUMMARY = "convolutions of one bit, weights and activations, trained so"
NEEDS = frozenset({"train", "torch"})


@dataclass(frozen=True)
class Options(LearningOptions):
    """As all that learn (`training.options.LearningOptions`), and: layers, exclude: patterns of the names of weights to
    binarise, and to leave alone. least_channels: inputs that a layer has to have. The first layer and the last before
    the outputs stay as they are.
    """

    epochs: int = 20
    rate: float = 1e-3
    weight_decay: float = 0.0
    layers: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    least_channels: int = 32
    alpha: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "exclude", tuple(self.exclude))
        if self.least_channels < 1:
            raise ValueError(f"least_channels is {self.least_channels}; it has to be at least 1")

    def wants(self, name: str) -> bool:
        """Whether a weight's name is asked for."""
        return any(fnmatchcase(name, p) for p in self.layers) and not any(fnmatchcase(name, p) for p in self.exclude)


def apply(network: Network, options: Options, context: Context) -> Outcome:
    from edge_vision.optimize.binary.graphs import shipped
    from edge_vision.optimize.training import running
    from edge_vision.optimize.training.binarising import with_signs

    split = running.training_split(NAME, network, context)
    loss, teacher = running.best_loss(network, options, context.teacher, NAME)
    proto, done, refused = with_signs(network, split, options.wants, options.least_channels)
    if not done:
        raise PassError(
            NAME, "no convolution can be binarised", "lower least_channels, or name other layers: " + "; ".join(refused)
        )
    trained, facts = running.train(NAME, network.with_graph(proto), options, context, loss, teacher=teacher)
    weights = sum(done.values())
    facts = {"layers": list(done), "binary_weights": weights, "binary_bytes": -(-weights // 8), **facts}
    return Outcome(trained.with_graph(shipped(trained.proto)), facts, tuple(refused))
