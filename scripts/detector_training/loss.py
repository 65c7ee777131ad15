"""YOLOX's loss: SimOTA assignment, GIoU, and binary cross-entropies (Ge et al. 2021, arXiv:2107.08430)."""

from __future__ import annotations

import torch
from detector_training.frames import HEIGHT, WIDTH
from detector_training.network import CELL_STRIDES, CELLS, STRIDES, decode
from torch import Tensor
from torch.nn import functional as F

from edge_vision.simulation import LABELS


def overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and GIoU (Rezatofighi et al. 2019) of boxes that broadcast."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared
    iou = shared / union.clamp(min=1e-6)
    hull = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    hull = hull.prod(-1).clamp(min=1e-6)
    return iou, iou - (hull - union) / hull


def candidates(middle: Tensor) -> tuple[Tensor, Tensor]:
    """Cells whose centre may lie within 2 strides of each object's: (B, M, 50) numbers, and which of them do."""
    offsets = torch.stack(torch.meshgrid(torch.arange(-2, 3), torch.arange(-2, 3), indexing="ij"), -1).reshape(-1, 2)
    numbers, near, first = [], [], 0
    for stride in STRIDES:
        w, h = WIDTH // stride, HEIGHT // stride
        cell = (middle / stride).floor().long()[:, :, None] + offsets
        x, y = cell[..., 0], cell[..., 1]
        distance = ((cell + 0.5) * stride - middle[:, :, None]).abs().amax(-1)
        near.append((x >= 0) & (x < w) & (y >= 0) & (y < h) & (distance < 2 * stride))
        numbers.append(first + y.clamp(0, h - 1) * w + x.clamp(0, w - 1))
        first += w * h
    return torch.cat(numbers, -1), torch.cat(near, -1)


@torch.no_grad()
def assign(boxes: Tensor, logits: Tensor, truth: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """SimOTA for a batch: which object (index into truth, -1 for none) each cell learns, and their IoU, (B, A) both.

    boxes (B, A, 4), logits (B, A, 1 + C), truth (B, M, 5), present (B, M).
    """
    batch, cells = boxes.shape[:2]
    objects = truth.shape[1]
    number, near = candidates((truth[..., 1:3] + truth[..., 3:5]) / 2)
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
    centres = ((CELLS + 0.5) * CELL_STRIDES)[number]
    inside = (centres > truth[:, :, None, 1:3]).all(-1) & (centres < truth[:, :, None, 3:5]).all(-1)
    cost = class_cost.reshape(iou.shape) - 3 * (iou + 1e-8).log() + 1e4 * ~inside + 1e9 * ~near
    keep = iou.topk(10, -1).values.sum(-1).round().long().clamp(min=1)
    lowest = cost.topk(10, -1, largest=False)
    chosen = (torch.arange(10) < keep[..., None]) & (lowest.values < 1e8)
    # A cell that two objects want goes to the cheaper.
    image, object_, rank = chosen.nonzero(as_tuple=True)
    place = lowest.indices[image, object_, rank]
    cell = number[image, object_, place]
    cheapest = torch.full((batch, cells), torch.inf)
    cheapest.view(-1).scatter_reduce_(0, image * cells + cell, cost[image, object_, place], "amin")
    won = cost[image, object_, place] <= cheapest[image, cell]
    index = torch.full((batch, cells), -1)
    shared = torch.zeros(batch, cells)
    index[image[won], cell[won]] = object_[won]
    shared[image[won], cell[won]] = iou[image[won], object_[won], place[won]]
    return index, shared


def loss_of(raw: Tensor, truth: Tensor, present: Tensor) -> tuple[Tensor, dict[str, float]]:
    """YOLOX's loss: 5 x box + objectness + class, each per matched cell."""
    boxes = decode(raw)
    index, iou = assign(boxes.detach(), raw[..., 4:].detach(), truth, present)
    matched = index >= 0
    count = matched.sum().clamp(min=1)
    objects = truth.gather(1, index.clamp(min=0)[..., None].expand(-1, -1, 5))[matched]
    _, giou = overlap(boxes[matched], objects[:, 1:])
    box = (1 - giou).sum() / count
    centre = (objects[:, 1:3] + objects[:, 3:]) / 2
    stride = CELL_STRIDES.expand(len(raw), -1, -1)[matched]
    cell = CELLS.expand(len(raw), -1, -1)[matched]
    size = (objects[:, 3:] - objects[:, 1:3]).clamp(min=1)
    l1 = F.l1_loss(raw[matched][:, :4], torch.cat([centre / stride - cell, (size / stride).log()], 1))
    objectness = F.binary_cross_entropy_with_logits(raw[..., 4], matched.float(), reduction="sum") / count
    target = F.one_hot(objects[:, 0].long(), len(LABELS)) * iou[matched][:, None]
    classes = F.binary_cross_entropy_with_logits(raw[matched][:, 5:], target, reduction="sum") / count
    total = 5 * box + objectness + classes + 2 * l1
    terms = {"box": box, "obj": objectness, "cls": classes, "l1": l1}
    return total, {name: float(term.detach()) for name, term in terms.items()}
