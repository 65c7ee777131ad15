"""What one training does, step by step and epoch by epoch; `loop.fit` is how to call it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_vision.inference.preprocess import InputSpec
from edge_vision.optimize.data import Split
from edge_vision.optimize.passes import Bar
from edge_vision.optimize.training import checkpoint
from edge_vision.optimize.training.constraints import Constraint
from edge_vision.optimize.training.errors import TrainingError
from edge_vision.optimize.training.graph import TorchGraph
from edge_vision.optimize.training.inputs import Augmentation, Moves, boxes_of, input_tensor
from edge_vision.optimize.training.losses import Loss, logits_of
from edge_vision.optimize.training.portions import batches, sample_of
from edge_vision.optimize.training.schedule import Schedule, optimiser, set_rate


@dataclass(frozen=True)
class Fitted:
    """proto: the graph with its trained weights. history: one row an epoch, as in the log: epoch, train_loss, val_loss
    and val_accuracy (where known), rate. resumed: epochs that an earlier run had done. notes: what people should know.
    speed: training images a second, 0 where nothing was left to do."""

    proto: onnx.ModelProto
    history: tuple[dict[str, float], ...]
    resumed: int = 0
    notes: tuple[str, ...] = ()
    device: str = "cpu"
    seconds: float = 0.0
    speed: float = 0.0


@dataclass
class Networks:
    """What the steps of one training share."""

    graph: TorchGraph
    teacher: TorchGraph | None
    loss: Loss
    spec: InputSpec
    device: torch.device
    classes: bool

    def answers(self, images: NDArray[np.uint8], truth: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        inputs = input_tensor(images, self.spec, self.device)
        wanted = (logits_of(self.graph),) if self.classes else ()
        student = self.graph.compute(inputs, tuple(dict.fromkeys((*self.loss.student_tensors, *wanted))))
        known: dict[str, Tensor] = {}
        if self.teacher is not None and self.loss.teacher_tensors:
            with torch.no_grad():
                known = self.teacher.compute(inputs, tuple(dict.fromkeys(self.loss.teacher_tensors)))
        return self.loss(student, known, truth), student


class Trainer:
    def __init__(
        self,
        run: Networks,
        split: Split,
        validation: Split | None,
        schedule: Schedule,
        augmentation: Augmentation,
        constraints: Sequence[Constraint],
        seed: int,
    ) -> None:
        self.run, self.split, self.validation, self.schedule = run, split, validation, schedule
        self.augmentation, self.constraints, self.seed = augmentation, constraints, seed
        self.batch = min(schedule.batch, len(split))
        self.steps = len(split) // self.batch
        run.graph.eval()
        run.loss.prepare(
            run.graph,
            run.teacher,
            [input_tensor(split.images[part], run.spec, run.device) for part in batches(sample_of(split), self.batch)],
        )
        run.loss.to(run.device)
        self.weights = run.graph.weights()
        for constraint in constraints:
            constraint.begin(self.weights)
        self.own = [p for p in run.loss.parameters() if p.requires_grad]
        self.optimiser = optimiser(run.graph, self.own, schedule)
        self.average: dict[str, Tensor] = {}
        if schedule.ema:
            self.average = {k: v.detach().clone() for k, v in run.graph.named_parameters()}

    def train(self, work: Path | None, sign: str, bar: Callable[[str, int], Bar], title: str) -> Fitted:
        history: list[dict[str, float]] = []
        notes: list[str] = []
        if work is not None:
            state, note = checkpoint.load(work, sign)
            notes += [note] if note else []
            if state is not None:
                history = self._restore(state)
        resumed = len(history)
        begun, speed = time.perf_counter(), 0.0
        progress = bar(title, self.steps * (self.schedule.epochs - resumed))
        try:
            for epoch in range(resumed, self.schedule.epochs):
                started = time.perf_counter()
                row: dict[str, float] = {"epoch": epoch + 1, "train_loss": self._epoch(epoch, progress)}
                speed = self.steps * self.batch / max(time.perf_counter() - started, 1e-9)
                with self._averaged():
                    row |= self._validate()
                history.append(
                    {**row, "rate": self.schedule.rate * self.schedule.factor((epoch + 1) / self.schedule.epochs)}
                )
                progress.set_postfix_str(", ".join(f"{k} {v:.4g}" for k, v in row.items() if k != "epoch"))
                if work is not None:
                    checkpoint.save(work, {"fingerprint": sign, **self._state(history)})
                    checkpoint.write_log(work, history)
        finally:
            progress.close()
        with self._averaged():
            proto = self.run.graph.write_back()
        return Fitted(
            proto, tuple(history), resumed, tuple(notes), str(self.run.device), time.perf_counter() - begun, speed
        )

    def _epoch(self, epoch: int, progress: Bar) -> float:
        graph, run = self.run.graph, self.run
        graph.train()
        run.loss.train()
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.split))
        total = 0.0
        for step in range(self.steps):
            chosen = np.sort(order[step * self.batch : (step + 1) * self.batch])
            images, moves = self.augmentation.moving(self.split.images[chosen], rng)
            value, _ = run.answers(images, self._truth(self.split, chosen, moves))
            along = (epoch * self.steps + step) / (self.schedule.epochs * self.steps)
            self._step(value, along)
            number = float(value.detach())
            if not np.isfinite(number):
                raise TrainingError(
                    f"the loss is {number} in epoch {epoch + 1}, step {step + 1}",
                    "lower the rate, or lengthen the warm-up",
                )
            total += number
            progress.update(1)
            if (step + 1) % max(1, self.steps // 10) == 0:
                progress.set_postfix_str(f"epoch {epoch + 1}, loss {total / (step + 1):.4g}")
        return total / self.steps

    def _step(self, value: Tensor, along: float) -> None:
        """One step of the optimiser, at a progress of 0 to 1 (1 is reached by the last step)."""
        count = self.schedule.epochs * self.steps
        after = min(1.0, along + 1 / count)
        set_rate(self.optimiser, self.schedule, along)
        self.optimiser.zero_grad(set_to_none=True)
        value.backward()
        for constraint in self.constraints:
            constraint.before_step(after)
        if self.schedule.clip:
            nn.utils.clip_grad_norm_([*self.run.graph.parameters(), *self.own], self.schedule.clip)
        self.optimiser.step()
        for constraint in self.constraints:
            constraint.after_step(after)
        if self.average:
            # Slower towards the end only: an average over the first steps would remember where they began.
            decay = min(self.schedule.ema, (1 + round(along * count)) / (10 + round(along * count)))
            names = list(self.average)
            now = dict(self.run.graph.named_parameters())
            torch._foreach_lerp_([self.average[n] for n in names], [now[n].detach() for n in names], 1 - decay)

    def _truth(self, split: Split, chosen: NDArray, moves: Moves | None = None) -> Tensor | None:
        if isinstance(split.truth, tuple):
            if not self.run.loss.wants_boxes:
                return None
            height, width = split.images.shape[1:3]
            return torch.from_numpy(boxes_of([split.truth[k] for k in chosen], moves, width, height)).to(
                self.run.device
            )
        return torch.from_numpy(np.asarray(split.truth[chosen], np.int64)).to(self.run.device)

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        """With the running average as the weights. What is zero stays so: masks that grew have left the average
        behind."""
        if not self.average:
            yield
            return
        parameters = dict(self.run.graph.named_parameters())
        kept = {name: p.detach().clone() for name, p in parameters.items()}
        weights = {id(w) for w in self.weights.values()}
        with torch.no_grad():
            for name, parameter in parameters.items():
                value = self.average[name]
                parameter.copy_(torch.where(parameter == 0, parameter, value) if id(parameter) in weights else value)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in parameters.items():
                    parameter.copy_(kept[name])

    def _validate(self) -> dict[str, float]:
        split = self.validation
        if split is None or not len(split):
            return {}
        self.run.graph.eval()
        self.run.loss.eval()
        total, right = 0.0, 0
        with torch.no_grad():
            for part in batches(np.arange(len(split)), self.batch):
                truth = self._truth(split, part)
                value, student = self.run.answers(split.images[part], truth)
                total += float(value) * len(part)
                if self.run.classes and truth is not None:
                    right += int((student[logits_of(self.run.graph)].flatten(1).argmax(1) == truth).sum())
        row = {"val_loss": total / len(split)}
        return row | {"val_accuracy": right / len(split)} if self.run.classes else row

    def _state(self, history: list[dict[str, float]]) -> dict[str, Any]:
        return {
            "history": history,
            "graph": self.run.graph.state_dict(),
            "loss": self.run.loss.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average,
            "constraints": [c.state_dict() if hasattr(c, "state_dict") else None for c in self.constraints],
        }

    def _restore(self, state: dict[str, Any]) -> list[dict[str, float]]:
        self.run.graph.load_state_dict(state["graph"])
        self.run.loss.load_state_dict(state["loss"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average = {k: v.to(self.run.device) for k, v in state["average"].items()}
        for constraint, kept in zip(self.constraints, state["constraints"], strict=True):
            if kept is not None and hasattr(constraint, "load_state_dict"):
                constraint.load_state_dict(kept)
        return list(state["history"])
