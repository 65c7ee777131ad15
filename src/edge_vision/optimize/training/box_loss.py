"""What a detector of YOLOX's family learns from boxes (Ge et al. 2021, arXiv:2107.08430).

SimOTA says which cells answer for which object, GIoU (Rezatofighi et al. 2019, arXiv:1902.09630) and L1 how far their
boxes are off, binary cross-entropies the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from edge_vision.inference.decoders.common import cells, count, grid
from edge_vision.optimize.training.errors import TrainingError
from edge_vision.optimize.training.graph import TorchGraph
from edge_vision.optimize.training.losses import Loss, Tensors

REACH = 2  # cells around an object's centre that may answer for it
CANDIDATES = 10  # cells that an object takes at most
BOX, L1 = 5.0, 2.0  # weights beside objectness and classes
NO_CLASS = -1


class Cells:
    """The cells of a head: places (A, 2) column and row, strides (A, 1), in the order of the output's rows."""

    def __init__(self, width: int, height: int, strides: Sequence[int]) -> None:
        table = torch.from_numpy(grid(width, height, strides))
        self.places, self.strides = table[:, :2].contiguous(), table[:, 2:].contiguous()
        self.levels = [(stride, *cells(width, height, stride)) for stride in strides]

    def __len__(self) -> int:
        return len(self.places)

    def to(self, device: torch.device) -> Cells:
        self.places, self.strides = self.places.to(device), self.strides.to(device)
        return self

    def boxes(self, raw: Tensor) -> Tensor:
        """Raw outputs (..., A, 4+) as xyxy boxes in input pixels: cx = (x + gx) s, w = exp(w) s."""
        centre = (raw[..., :2] + self.places) * self.strides
        half = torch.exp(raw[..., 2:4].clamp(max=6)) * self.strides / 2
        return torch.cat([centre - half, centre + half], -1)

    def near(self, middle: Tensor) -> tuple[Tensor, Tensor]:
        """Cells whose centre may lie within `REACH` strides of each object's middle (B, M, 2): (B, M, K) numbers, and
        which of them do."""
        span = torch.arange(-REACH, REACH + 1, device=middle.device)
        offsets = torch.stack(torch.meshgrid(span, span, indexing="ij"), -1).reshape(-1, 2)
        numbers, near, first = [], [], 0
        for stride, columns, rows in self.levels:
            cell = (middle / stride).floor().long()[:, :, None] + offsets
            x, y = cell[..., 0], cell[..., 1]
            distance = ((cell + 0.5) * stride - middle[:, :, None]).abs().amax(-1)
            near.append((x >= 0) & (x < columns) & (y >= 0) & (y < rows) & (distance < REACH * stride))
            numbers.append(first + y.clamp(0, rows - 1) * columns + x.clamp(0, columns - 1))
            first += columns * rows
        return torch.cat(numbers, -1), torch.cat(near, -1)


def overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and GIoU of boxes that broadcast."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared
    iou = shared / union.clamp(min=1e-6)
    hull = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    hull = hull.prod(-1).clamp(min=1e-6)
    return iou, iou - (hull - union) / hull


@torch.no_grad()
def assign(places: Cells, boxes: Tensor, logits: Tensor, truth: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """SimOTA for a batch: which object (index into truth, -1 for none) each cell learns, and their IoU, (B, A) both.

    boxes (B, A, 4), logits (B, A, 1 + C), truth (B, M, 5) class and xyxy, present (B, M).
    """
    batch, total = boxes.shape[:2]
    objects = truth.shape[1]
    number, near = places.near((truth[..., 1:3] + truth[..., 3:5]) / 2)
    near &= present[..., None]
    flat = number.reshape(batch, -1)
    found = boxes.gather(1, flat[..., None].expand(-1, -1, 4)).reshape(batch, objects, -1, 4)
    iou = overlap(truth[:, :, None, 1:], found)[0] * near
    score = (logits[..., :1].sigmoid() * logits[..., 1:].sigmoid()).sqrt().clamp(1e-6, 1 - 1e-6)
    # Binary cross-entropy to the one-hot class, as a constant of the cell and a difference of the class.
    base = -torch.log1p(-score).sum(-1)
    change = torch.log1p(-score) - score.log()
    picked = truth[..., 0].long()[..., None].expand(-1, -1, number.shape[-1]).reshape(batch, -1)
    class_cost = base.gather(1, flat) + change.reshape(batch, -1).gather(1, flat * score.shape[-1] + picked)
    centres = ((places.places + 0.5) * places.strides)[number]
    inside = (centres > truth[:, :, None, 1:3]).all(-1) & (centres < truth[:, :, None, 3:5]).all(-1)
    cost = class_cost.reshape(iou.shape) - 3 * (iou + 1e-8).log() + 1e4 * ~inside + 1e9 * ~near
    most = min(CANDIDATES, cost.shape[-1])
    keep = iou.topk(most, -1).values.sum(-1).round().long().clamp(min=1)
    lowest = cost.topk(most, -1, largest=False)
    chosen = (torch.arange(most, device=boxes.device) < keep[..., None]) & (lowest.values < 1e8)
    # A cell that two objects want goes to the cheaper.
    image, object_, rank = chosen.nonzero(as_tuple=True)
    place = lowest.indices[image, object_, rank]
    cell = number[image, object_, place]
    cheapest = torch.full((batch, total), torch.inf, device=boxes.device)
    cheapest.view(-1).scatter_reduce_(0, image * total + cell, cost[image, object_, place], "amin")
    won = cost[image, object_, place] <= cheapest[image, cell]
    index = torch.full((batch, total), -1, device=boxes.device)
    shared = torch.zeros(batch, total, device=boxes.device)
    index[image[won], cell[won]] = object_[won]
    shared[image[won], cell[won]] = iou[image[won], object_[won], place[won]]
    return index, shared


def box_loss(places: Cells, raw: Tensor, truth: Tensor, present: Tensor) -> tuple[Tensor, dict[str, float]]:
    """5 x GIoU + 2 x L1 + objectness + class, each per matched cell. raw (B, A, 5 + C): boxes relative to the cells,
    then logits; truth and present as for `assign`."""
    boxes = places.boxes(raw)
    index, iou = assign(places, boxes.detach(), raw[..., 4:].detach(), truth, present)
    matched = index >= 0
    number = matched.sum().clamp(min=1)
    objects = truth.gather(1, index.clamp(min=0)[..., None].expand(-1, -1, 5))[matched]
    _, giou = overlap(boxes[matched], objects[:, 1:])
    box = (1 - giou).sum() / number
    centre = (objects[:, 1:3] + objects[:, 3:]) / 2
    stride = places.strides.expand(len(raw), -1, -1)[matched]
    cell = places.places.expand(len(raw), -1, -1)[matched]
    size = (objects[:, 3:] - objects[:, 1:3]).clamp(min=1)
    wanted = torch.cat([centre / stride - cell, (size / stride).log()], 1)
    l1 = F.l1_loss(raw[matched][:, :4], wanted) if len(wanted) else raw.sum() * 0
    objectness = F.binary_cross_entropy_with_logits(raw[..., 4], matched.float(), reduction="sum") / number
    target = F.one_hot(objects[:, 0].long(), raw.shape[-1] - 5) * iou[matched][:, None]
    classes = F.binary_cross_entropy_with_logits(raw[matched][:, 5:], target, reduction="sum") / number
    total = BOX * box + objectness + classes + L1 * l1
    terms = {"box": box, "obj": objectness, "cls": classes, "l1": l1}
    return total, {name: float(term.detach()) for name, term in terms.items()}


class BoxLabels(Loss):
    """`box_loss` of a network whose one output has YOLOX's rows, scores as probabilities."""

    wants_boxes = True

    def __init__(self, width: int, height: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.size, self.head = (width, height), tuple(strides)
        self.places = Cells(width, height, strides)
        self.description = f"box labels, strides {list(strides)}"
        self.output = ""

    def prepare(self, student: TorchGraph, teacher: TorchGraph | None, sample: Sequence[Tensor]) -> None:
        self.output = student.outputs[0]
        shape = student.shapes[self.output]
        wanted = count(*self.size, self.head)
        if len(student.outputs) != 1 or len(shape) != 3 or shape[1] != wanted or shape[2] < 6:
            raise TrainingError(
                f"'{self.output}' {list(shape)} has not the {wanted} rows of strides {list(self.head)}",
                "correct decoder_options.strides, or learn from the teacher alone (labels: 0)",
            )
        self.places.to(sample[0].device)

    @property
    def student_tensors(self) -> tuple[str, ...]:
        return (self.output,)

    def forward(self, student: Tensors, teacher: Tensors, truth: Tensor | None) -> Tensor:
        if truth is None:
            raise TrainingError("boxes are to be learnt, and the images have none", "give a detector's data")
        rows = student[self.output]
        raw = torch.cat([rows[..., :4], torch.logit(rows[..., 4:], eps=1e-6)], -1)
        return box_loss(self.places, raw, truth.clamp(min=0), truth[..., 0] != NO_CLASS)[0]
