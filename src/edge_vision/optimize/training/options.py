"""Options that passes which train have in common. No PyTorch here: recipes are checked without it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingOptions:
    """epochs, batch, rate, weight_decay, warm_up, ema: see `training.schedule.Schedule`. optimiser: `adamw` or `sgd`.
    shift, brightness, colour, horizontal_flip, vertical_flip: see `training.inputs.Augmentation`. validation: share of
    the training clips that is kept aside to watch the loss. keep_sparsity, keep_clusters: what earlier passes made of
    the weights stays. normalise: convolutions have batch normalisation while they are trained, folded in afterwards;
    not where weights are quantised or clustered. device: `auto`, `cpu` or `cuda`.
    """

    epochs: int = 10
    batch: int = 32
    rate: float = 1e-3
    weight_decay: float = 1e-4
    warm_up: float = 0.05
    ema: float = 0.0
    optimiser: str = "adamw"
    shift: float = 0.05
    brightness: float = 0.1
    colour: float = 0.05
    horizontal_flip: bool = False
    vertical_flip: bool = False
    validation: float = 0.1
    keep_sparsity: bool = True
    keep_clusters: bool = True
    normalise: bool = True
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, low in (("epochs", 1), ("batch", 1), ("rate", 0), ("weight_decay", 0)):
            if getattr(self, name) < low:
                raise ValueError(f"{name} is {getattr(self, name)}; it has to be at least {low}")
        for name in ("warm_up", "ema", "shift", "brightness", "colour", "validation"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it has to be at least 0 and below 1")
        if self.optimiser not in ("adamw", "sgd"):
            raise ValueError(f"optimiser is {self.optimiser!r}; it can be adamw or sgd")
        if self.device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device is {self.device!r}; it can be auto, cpu or cuda")


@dataclass(frozen=True)
class LearningOptions(TrainingOptions):
    """As all that train, and what is learnt from. alpha, temperature, smoothing: of a classifier's loss,
    (1 - alpha) x labels + alpha x teacher, the labels smoothed. heads: weight of a detector's last convolutions beside
    its outputs. labels: weight of a detector's true boxes beside its teacher's answers; with decoders other than yolox
    there is the teacher alone.
    """

    alpha: float = 0.0
    temperature: float = 4.0
    smoothing: float = 0.0
    heads: float = 0.5
    labels: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_learning()

    def check_learning(self) -> None:
        """Raises ValueError for what cannot be learnt from."""
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha is {self.alpha}; it has to be between 0 and 1")
        if self.temperature <= 0 or not 0 <= self.smoothing < 1 or self.heads < 0 or self.labels < 0:
            raise ValueError("temperature has to be above 0, smoothing between 0 and 1, heads and labels at least 0")
