"""How right a network is, and how sure that is: top-1 of classifiers, COCO mAP of detectors, with intervals over clips.

Images of one clip are alike, so what is drawn again are clips and not images (cluster bootstrap; Field and Welsh 2007,
J. R. Stat. Soc. B 69, 369-390). The draws depend on the split alone: two networks measured on it see the same ones, so
that the difference of theirs is paired.
"""

from __future__ import annotations

import dataclasses
import tempfile
import zlib
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Detections, Frame
from edge_vision.evaluation.detection import MAX_DETECTIONS, coco_protocol
from edge_vision.inference.backends import backend as backend_module
from edge_vision.inference.classifier import Classifier
from edge_vision.inference.engine import Engine
from edge_vision.inference.errors import BackendError
from edge_vision.inference.opening import Choice, open_choice
from edge_vision.optimize.data import Split
from edge_vision.optimize.measure.average_precision import Matches, average_precision
from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import Bar
from edge_vision.optimize.saving import write_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator

DRAWS = 1000
LEVEL = 0.95
SCORE_THRESHOLD = 0.001  # the precision-recall curve needs the unlikely ones too

R = TypeVar("R", Classifier, Engine)


@dataclass(frozen=True)
class Accuracy:
    """value: of `metric` ("top-1" or "mAP50-95"), 0..1, on `images` images of `clips` clips. low, high: 95 % interval.

    draws (B,): the metric on each draw of clips; of: which images these were, for `drop`.
    """

    value: float
    low: float
    high: float
    metric: str
    images: int
    clips: int
    draws: NDArray[np.float64] = field(repr=False, compare=False)
    of: str = field(default="", repr=False)


@dataclass(frozen=True)
class Drop:
    """How much the second of two networks is below the first, in the metric's unit (0.01 is a point); negative where it
    is above. low, high: 95 % interval of the paired difference."""

    value: float
    low: float
    high: float


def accuracy(
    network: Network, split: Split, *, backend: str = "onnxruntime", threads: int = 1, bar: Bar | None = None
) -> Accuracy:
    """The accuracy of a network on a split whose images fit its input, run by a real backend on the CPU.

    threads: of the backend. bar: is updated with 1 for every image. Raises InferenceError where the backend cannot run
    it, ValueError for a split without images, of another task, or of another size than the network's input.
    """
    check_split(network, split)
    if network.task == "classify":
        return top1(classified(network, split, backend=backend, threads=threads, bar=bar), split)
    return mean_average_precision(detected(network, split, backend=backend, threads=threads, bar=bar), split)


def drop(before: Accuracy, after: Accuracy) -> Drop:
    """By how much `after` is below `before`. Raises ValueError where they are not of the same images and metric."""
    if (before.of, before.metric) != (after.of, after.metric):
        raise ValueError("the two accuracies are not of the same images: measure both on one split")
    low, high = _interval(before.draws - after.draws)
    return Drop(before.value - after.value, low, high)


def check_split(network: Network, split: Split) -> None:
    """Raises ValueError where the split does not fit the network."""
    spec = network.input
    if not len(split):
        raise ValueError("the split has no images")
    if isinstance(split.truth, tuple) != (network.task == "detect"):
        raise ValueError(f"the split's truth is not that of the task {network.task}")
    if split.images.shape[1:3] != (spec.height, spec.width):
        size = f"{split.images.shape[2]} x {split.images.shape[1]}"
        raise ValueError(f"the images are {size}, the network takes {spec.width} x {spec.height}: use Data.at")


def classified(
    network: Network, split: Split, *, backend: str = "onnxruntime", threads: int = 1, bar: Bar | None = None
) -> NDArray[np.float32]:
    """Probabilities (N, classes) of every image. Arguments and errors as of `accuracy`."""
    with _opened(network, Classifier, backend, threads) as classifier:
        rows = np.empty((len(split), len(network.labels)), np.float32)
        for index, image in enumerate(split.images):
            rows[index] = classifier.classify(Frame(image))[0]
            if bar is not None:
                bar.update(1)
    return rows


def detected(
    network: Network, split: Split, *, backend: str = "onnxruntime", threads: int = 1, bar: Bar | None = None
) -> list[Detections]:
    """Detections of every image down to a score of 0.001, at most 100. Arguments and errors as of `accuracy`."""
    found = []
    with _opened(network, Engine, backend, threads) as engine:
        engine.set_thresholds(score=SCORE_THRESHOLD, max_detections=MAX_DETECTIONS)
        for image in split.images:
            found.append(engine.infer(Frame(image)))
            if bar is not None:
                bar.update(1)
    return found


@contextmanager
def _opened(network: Network, kind: type[R], backend: str, threads: int) -> Iterator[R]:
    """The network as a bundle, opened by the backend named, whatever precision it may choose by itself."""
    module = backend_module(backend)
    if ".onnx" not in module.FORMATS:
        raise BackendError(f"backend {backend} reads no ONNX file", "convert the bundle, or name another backend")
    plain = dataclasses.replace(network.bundle, input=dataclasses.replace(network.input, resize="stretch"))
    with tempfile.TemporaryDirectory(prefix="edge_vision-accuracy-") as folder:
        # The images are of the input's size already: resizing leaves them as they are, whatever the rule.
        written = write_bundle(Network(network.proto, plain), Path(folder) / "bundle")
        variant = written.variants[0]
        opened = open_choice(written, Choice(backend, "cpu", variant.precision, threads, variant))
        with kind.open(written, opened) as runner:
            yield runner


def top1(probabilities: NDArray[np.float32], split: Split) -> Accuracy:
    """Share of the images whose likeliest class is the true one. Rows with NaN are wrong."""
    assert isinstance(split.truth, np.ndarray)
    finite = np.isfinite(probabilities).all(1)
    right = finite & (np.nan_to_num(probabilities, nan=-1.0).argmax(1) == split.truth)
    _, clips = np.unique(split.sequences, return_inverse=True)
    count = int(clips.max()) + 1
    size, hits = np.bincount(clips, minlength=count), np.bincount(clips, right, minlength=count)
    weights = draw_clips(count)
    return _result("top-1", float(right.mean()), (weights @ hits) / (weights @ size), split, count)


def mean_average_precision(detections: Sequence[Detections], split: Split) -> Accuracy:
    """COCO mAP50-95 as pycocotools computes it; on the draws by the same rule with weighted images."""
    assert isinstance(split.truth, tuple)
    matches = Matches.of(coco_protocol(split.truth, detections), len(split))
    _, clips = np.unique(split.sequences, return_inverse=True)
    count = int(clips.max()) + 1
    value = float(average_precision(matches, np.ones((1, len(split))))[0])
    draws = average_precision(matches, draw_clips(count)[:, clips])
    return _result("mAP50-95", value, draws, split, count)


def draw_clips(clips: int, draws: int = DRAWS) -> NDArray[np.float64]:
    """(draws, clips): how often each clip is drawn when as many as there are are drawn with replacement; always the
    same for one number of clips."""
    rng = np.random.default_rng(clips)
    return rng.multinomial(clips, np.full(clips, 1 / clips), draws).astype(np.float64)


def _result(metric: str, value: float, draws: NDArray[np.float64], split: Split, clips: int) -> Accuracy:
    low, high = _interval(draws)
    # The draws are those of the clips by number: which images those are tells whether two networks saw the same.
    sample = split.images[:: max(1, len(split) // 8)]
    of = f"{len(split)}:{zlib.crc32(split.sequences.tobytes())}:{zlib.crc32(sample.tobytes())}"
    return Accuracy(value, low, high, metric, len(split), clips, draws, of)


def _interval(draws: NDArray[np.float64]) -> tuple[float, float]:
    """Percentile interval; NaN (a draw in which no object was left) is passed over."""
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(draws, [tail, 1 - tail])
    return float(low), float(high)
