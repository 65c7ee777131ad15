"""From a pass to the training loop and back: options, data and teacher of a context, and what is said of the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge_vision.inference.decoders.common import USUAL_STRIDES
from edge_vision.optimize.data import Split
from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import Context, PassError
from edge_vision.optimize.training.box_loss import BoxLabels
from edge_vision.optimize.training.constraints import Constraint, KeepClusters, KeepZeros
from edge_vision.optimize.training.detection_loss import OBJECTNESS, DetectorDistillation
from edge_vision.optimize.training.errors import TrainingError
from edge_vision.optimize.training.graph import TorchGraph
from edge_vision.optimize.training.inputs import Augmentation
from edge_vision.optimize.training.loop import Fitted, fit, hold_out
from edge_vision.optimize.training.losses import Combined, CrossEntropy, Distillation, FeatureMatching, Loss
from edge_vision.optimize.training.options import LearningOptions, TrainingOptions
from edge_vision.optimize.training.schedule import Schedule


def detector_loss(network: Network, heads: float = 0.0) -> DetectorDistillation:
    """Learning a teacher's raw outputs, with what the decoder's family says of them."""
    return DetectorDistillation(OBJECTNESS.get(str(network.bundle.decoder)), heads=heads)


def label_loss(network: Network) -> BoxLabels | None:
    """Learning true boxes; None for decoders of which that is not known."""
    decoder, options = str(network.bundle.decoder), network.bundle.decoder_options
    if decoder != "yolox" or options.get("decoded"):
        return None
    strides = options.get("strides") or USUAL_STRIDES[0]
    return BoxLabels(network.input.width, network.input.height, [int(stride) for stride in strides])


def classifier_loss(alpha: float, temperature: float, smoothing: float, teacher: Network | None, name: str) -> Loss:
    """(1 - alpha) x labels + alpha x teacher."""
    if alpha and teacher is None:
        raise PassError(name, "alpha is above 0 and there is no teacher", "give a teacher, or alpha: 0")
    return Combined((1 - alpha, CrossEntropy(smoothing)), (alpha, Distillation(temperature)))


def loss_of(network: Network, options: LearningOptions, teacher: Network | None, name: str) -> Loss:
    """What the options say is learnt. Raises PassError where a teacher is needed and there is none."""
    if network.task == "classify":
        return classifier_loss(options.alpha, options.temperature, options.smoothing, teacher, name)
    if teacher is None:
        raise PassError(name, "a detector learns from a teacher", "give the model that the recipe began with")
    answers = detector_loss(network, options.heads)
    labels = label_loss(network) if options.labels else None
    return Combined((1.0, answers), (options.labels, labels)) if labels else answers


def best_loss(
    network: Network, options: LearningOptions, teacher: Network | None, name: str
) -> tuple[Loss, Network | None]:
    """The same, from labels alone where a classifier has no teacher; and the teacher where one is asked."""
    if network.task == "classify" and (teacher is None or not options.alpha):
        return classifier_loss(0.0, options.temperature, options.smoothing, None, name), None
    return loss_of(network, options, teacher, name), teacher


def with_features(loss: Loss, features: Sequence[str], weight: float) -> Loss:
    """The loss and a matching of inner tensors, each `name` or `student's name=teacher's name`."""
    if not features or not weight:
        return loss
    pairs = [(a, b or a) for a, _, b in (name.partition("=") for name in features)]
    return Combined((1.0, loss), (weight, FeatureMatching(pairs)))


def training_split(name: str, network: Network, context: Context) -> Split:
    """Images to learn from. Raises PassError where there are none, or without class ids for a classifier."""
    if context.data is None or not len(context.data.train):
        raise PassError(name, "needs images to train with", "give a data set with --data")
    split = context.data.train
    if network.task == "classify":
        if isinstance(split.truth, tuple):
            raise PassError(name, "a classifier learns from class ids, and the data set has boxes", "give crops")
        classes = len(network.labels)
        if len(split.truth) and not 0 <= int(split.truth.min()) <= int(split.truth.max()) < classes:
            raise PassError(
                name,
                f"class ids go from {split.truth.min()} to {split.truth.max()}, and the model has {classes} labels",
                "make the data set's labels those of the model",
            )
    return split


def train(
    name: str,
    network: Network,
    options: LearningOptions,
    context: Context,
    loss: Loss,
    *,
    teacher: Network | None = None,
    constraints: Sequence[Constraint] | None = None,
    **settings: Any,
) -> tuple[Network, dict[str, Any]]:
    """The trained network and facts for the report. constraints: by default what the options say to keep.
    Batch normalisation (see `loop.fit`) is left out where weights are quantised or clustered, which it would undo."""
    split = training_split(name, network, context)
    part, watched = hold_out(split, options.validation, context.seed)
    held: list[Constraint] = list(constraints) if constraints is not None else kept(options, network)
    normalise = options.normalise and not is_quantised(network) and not is_clustered(network)
    schedule = Schedule(
        epochs=options.epochs,
        batch=options.batch,
        rate=options.rate,
        optimiser=options.optimiser,
        weight_decay=options.weight_decay,
        warm_up=options.warm_up,
        ema=options.ema,
    )
    varied = Augmentation(
        options.horizontal_flip, options.vertical_flip, options.shift, options.brightness, options.colour
    )
    try:
        fitted = fit(
            network.proto,
            part,
            network.input,
            loss,
            schedule,
            teacher=None if teacher is None else teacher.proto,
            constraints=held,
            validation=watched,
            augmentation=varied,
            work=context.work,
            seed=context.seed,
            threads=context.training_threads,
            device=options.device,
            bar=context.bar,
            title=name,
            normalise=normalise,
            **settings,
        )
    except TrainingError as error:
        raise PassError(name, error.problem, error.remedy) from error
    facts = facts_of(fitted, part, watched, held)
    if options.labels and network.task == "detect" and label_loss(network) is None:
        facts["notes"].append(f"true boxes are not learnt with decoder {network.bundle.decoder}, the teacher's are")
    return network.with_graph(fitted.proto), facts


def is_quantised(network: Network) -> bool:
    return any(node.op_type == "DequantizeLinear" for node in network.proto.graph.node)


def is_clustered(network: Network) -> bool:
    """Whether `KeepClusters` finds anything to keep."""
    found = KeepClusters()
    found.begin(TorchGraph(network.proto, input_shape=network.input.shape).weights())
    return bool(found.names)


def kept(options: TrainingOptions, network: Network) -> list[Constraint]:
    """Constraints that keep what earlier passes made. Codes of 8 bits are never more than 256 values, and some percent
    of them are 0: of a quantised network a quarter as many values count as clustered, a tenth of zeros as sparse."""
    most, least = (64, 0.1) if is_quantised(network) else (256, 0.02)
    return [
        *([KeepZeros(least)] if options.keep_sparsity else []),
        *([KeepClusters(most)] if options.keep_clusters else []),
    ]


def facts_of(fitted: Fitted, split: Split, watched: Split | None, held: Sequence[Constraint]) -> dict[str, Any]:
    """What a report says of a training."""
    first, last = (fitted.history[0], fitted.history[-1]) if fitted.history else ({}, {})
    facts: dict[str, Any] = {
        "images": len(split),
        "validation_images": 0 if watched is None else len(watched),
        "epochs": len(fitted.history),
        "resumed_after": fitted.resumed,
        "device": fitted.device,
        "seconds": round(fitted.seconds, 1),
        "images_per_second": round(fitted.speed, 1),
        "notes": list(fitted.notes),
    }
    facts |= _curve(first, last)
    for constraint in held:
        names = getattr(constraint, "names", None)
        if names is not None:
            facts[type(constraint).__name__] = len(names)
    return facts


def _curve(first: Mapping[str, float], last: Mapping[str, float]) -> dict[str, Any]:
    return {
        name: [round(first[name], 5), round(last[name], 5)]
        for name in ("train_loss", "val_loss", "val_accuracy")
        if name in first and name in last
    }
