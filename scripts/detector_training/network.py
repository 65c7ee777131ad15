"""The detector: a small convolutional network with YOLOX's outputs."""

from __future__ import annotations

import math

import torch
from detector_training.frames import HEIGHT, WIDTH
from torch import Tensor, nn
from torch.nn import functional as F

from edge_vision.optimize.training.box_loss import Cells
from edge_vision.simulation import LABELS

STRIDES = (8, 16)
CELLS = Cells(WIDTH, HEIGHT, STRIDES)


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int | None = None) -> nn.Sequential:
    padding = kernel // 2 if padding is None else padding
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


def separable(channels: int) -> nn.Sequential:
    """Depthwise 3x3 and pointwise convolution."""
    depthwise = nn.Conv2d(channels, channels, 3, 1, 1, groups=channels, bias=False)
    return nn.Sequential(depthwise, nn.BatchNorm2d(channels), *conv(channels, channels, 1))


class Residual(nn.Module):
    """A bottleneck of half width with a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(channels, channels // 2, 1), conv(channels // 2, channels, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Detector(nn.Module):
    """Images (B, 240, 320, 3) uint8 BGR to raw YOLOX outputs (B, 1500, 5 + classes), logits while training.

    A 6x6 patch convolution of stride 4 starts it: the two usual convolutions of stride 2 on large maps would cost
    more than half of the whole network. scale: of all channels; 0.5 is a student of a quarter of the cost.
    """

    def __init__(self, classes: int = len(LABELS), scale: float = 1.0) -> None:
        super().__init__()
        first, second, third, width = (max(8, round(count * scale / 8) * 8) for count in (32, 64, 96, 64))
        self.stage4 = nn.Sequential(conv(3, first, 6, 4, 1), Residual(first))
        self.stage8 = nn.Sequential(conv(first, second, 3, 2), Residual(second), Residual(second))
        self.stage16 = nn.Sequential(conv(second, third, 3, 2), Residual(third), Residual(third))
        self.lateral8, self.lateral16 = conv(second, width, 1), conv(third, width, 1)
        self.fuse = separable(width)
        self.class_towers = nn.ModuleList(separable(width) for _ in STRIDES)
        self.box_towers = nn.ModuleList(separable(width) for _ in STRIDES)
        self.class_heads = nn.ModuleList(nn.Conv2d(width, classes, 1) for _ in STRIDES)
        self.box_heads = nn.ModuleList(nn.Conv2d(width, 5, 1) for _ in STRIDES)
        for head, boxes, stride in zip(self.class_heads, self.box_heads, STRIDES, strict=True):
            nn.init.constant_(head.bias, math.log(0.05))
            nn.init.constant_(boxes.bias, 0.5)
            with torch.no_grad():
                boxes.bias[2:4] = math.log(36 / stride)  # the parts' usual size
                boxes.bias[4] = math.log(0.01)

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stage8(self.stage4(images))
        deep = self.lateral16(self.stage16(x))
        return self.fuse(self.lateral8(x) + F.interpolate(deep, scale_factor=2)), deep

    def forward(self, images: Tensor) -> Tensor:
        x = images.permute(0, 3, 1, 2).float()
        if self.training or not hasattr(self, "folded"):
            x = x / 255
        levels = []
        for i, feature in enumerate(self.features(x)):
            boxes, classes = (
                self.box_heads[i](self.box_towers[i](feature)),
                self.class_heads[i](self.class_towers[i](feature)),
            )
            if not self.training:
                boxes = torch.cat([boxes[:, :4], boxes[:, 4:].sigmoid()], 1)
                classes = classes.sigmoid()
            levels.append(torch.cat([boxes, classes], 1).flatten(2))
        return torch.cat(levels, 2).transpose(1, 2)


def fold(model: Detector) -> Detector:
    """Batch normalisation and the division by 255 folded into the convolutions, for export."""

    def fold_into(module: nn.Module) -> None:
        for child in module.children():
            fold_into(child)
        if isinstance(module, nn.Sequential):
            kept: list[nn.Module] = []
            for layer in module:
                if isinstance(layer, nn.BatchNorm2d):
                    kept[-1] = nn.utils.fusion.fuse_conv_bn_eval(kept[-1], layer)
                else:
                    kept.append(layer)
            module._modules.clear()
            for i, layer in enumerate(kept):
                module.add_module(str(i), layer)

    model.eval()
    fold_into(model)
    with torch.no_grad():
        model.stage4[0][0].weight /= 255
    model.folded = True
    return model
