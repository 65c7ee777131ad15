"""Published networks as tables of operators, from their papers: what the published measurements were made with.

Batch normalisation and activations are folded into the convolutions, as every runtime does; biases are not counted.
Each function names its paper; `ARCHITECTURES` is what target files call them, `name@size` gives another input size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from edge_vision.optimize.estimate.operations import Operation
from edge_vision.optimize.estimate.sketch import Sketch


def rounded(channels: float) -> int:
    """To a multiple of 8, never below 90 % (MobileNetV2's rule)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def alexnet(size: int = 227, one_tower: bool = False) -> Sketch:
    """Krizhevsky 2012 (two towers as groups, as ncnn's); one_tower: torchvision's, from Krizhevsky 2014."""
    if one_tower:
        net = Sketch(224).conv(64, 11, 4).at(55, 55, 64).pool(3, 2, True).conv(192, 5).pool(3, 2, True).conv(384)
        return net.conv(256).conv(256).pool(3, 2, True).linear(4096).linear(4096).linear(1000)
    net = Sketch(size).conv(96, 11, 4, valid=True).pool(3, 2, True).conv(256, 5, group=2).pool(3, 2, True)
    net.conv(384).conv(384, group=2).conv(256, group=2).pool(3, 2, True)
    return net.linear(4096).linear(4096).linear(1000)


def vgg(convolutions: Sequence[int], size: int = 224) -> Sketch:
    """Simonyan 2015; convolutions of each of the five stages."""
    net = Sketch(size)
    for channels, count in zip((64, 128, 256, 512, 512), convolutions, strict=True):
        for _ in range(count):
            net.conv(channels)
        net.pool()
    return net.linear(4096).linear(4096).linear(1000)


def resnet(blocks: Sequence[int], bottleneck: bool, size: int = 224, stride_first: bool = False) -> Sketch:
    """He 2016. stride_first: the stride on a bottleneck's 1 x 1, as in the paper and Caffe; else on its 3 x 3."""
    net = Sketch(size).conv(64, 7, 2).pool(3, 2)
    for stage, count in enumerate(blocks):
        for block in range(count):
            stride = 2 if stage and not block else 1
            inner = 64 << stage
            out = inner * 4 if bottleneck else inner
            start = net.place
            if bottleneck:
                net.conv(inner, 1, stride if stride_first else 1)
                net.conv(inner, 3, 1 if stride_first else stride).conv(out, 1)
            else:
                net.conv(out, 3, stride).conv(out)
            end = net.place
            if start != end:
                net.at(*start).conv(out, 1, stride).at(*end)
            net.add()
    return net.global_pool().linear(1000)


def resnet_cifar(per_stage: int, classes: int = 10) -> Sketch:
    """He 2016, section 4.2: 1 block a stage is MLPerf Tiny's ResNet-8 (Banbury 2021), 5 are ResNet-32."""
    net = Sketch(32).conv(16)
    for stage in range(3):
        for block in range(per_stage):
            stride = 2 if stage and not block else 1
            start = net.place
            net.conv(16 << stage, 3, stride).conv(16 << stage)
            end = net.place
            if start != end:
                net.at(*start).conv(16 << stage, 1, stride).at(*end)
            net.add()
    return net.global_pool().linear(classes)


def densenet(blocks: Sequence[int], growth: int = 32, first: int = 64, size: int = 224) -> Sketch:
    """Huang 2017. The normalisation before each convolution is not folded: it is counted as moving."""
    net = Sketch(size).conv(first, 7, 2).pool(3, 2)
    for stage, count in enumerate(blocks):
        for _ in range(count):
            channels = net.channels
            net.activation().conv(4 * growth, 1).conv(growth).concat(channels + growth)
        if stage < len(blocks) - 1:
            net.activation().conv(net.channels // 2, 1).pool()
    return net.activation().global_pool().linear(1000)


def squeezenet(version: float = 1.1, size: int = 227, padded: bool = False) -> Sketch:
    """Iandola 2016. padded: its last convolution by a pixel, as in Caffe's file."""
    net = Sketch(size)
    fires: tuple[int, ...]
    if version == 1.0:
        net.conv(96, 7, 2, valid=True).pool(3, 2, True)
        fires, pools = (16, 16, 32, 32, 48, 48, 64, 64), (2, 6)
    else:
        net.conv(64, 3, 2, valid=True).pool(3, 2, True)
        fires, pools = (16, 16, 32, 32, 48, 48, 64, 64), (1, 3)
    for index, squeeze in enumerate(fires):
        net.conv(squeeze, 1)
        place = net.place
        net.conv(4 * squeeze, 1).at(*place).conv(4 * squeeze).concat(8 * squeeze)
        if index in pools:
            net.pool(3, 2, True)
    if padded:
        net.at(net.height + 2, net.width + 2, net.channels)
    return net.conv(1000, 1).global_pool()


def googlenet(size: int = 224) -> Sketch:
    """Szegedy 2015, without the auxiliary heads."""
    net = Sketch(size).conv(64, 7, 2).pool(3, 2).conv(64, 1).conv(192).pool(3, 2)
    modules = [
        (64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64), None,
        (192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128), None,
        (256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128),
    ]  # fmt: skip
    for module in modules:
        if module is None:
            net.pool(3, 2)
            continue
        one, reduce3, three, reduce5, five, pooled = module
        place = net.place
        net.conv(one, 1).at(*place).conv(reduce3, 1).conv(three).at(*place).conv(reduce5, 1).conv(five, 5)
        net.at(*place).pool(3, 1).conv(pooled, 1).concat(one + three + five + pooled)
    return net.global_pool().linear(1000)


MOBILENET_V1_BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)
"""Channels at width 1 and stride of each pair of a depthwise and a pointwise convolution."""
MOBILENET_V2_BLOCKS = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip
"""Expansion, channels at width 1, how many blocks, stride of the first of them."""


def mobilenet_v1(width: float = 1.0, size: int = 224, classes: int = 1000, channels: int = 3) -> Sketch:
    """Howard 2017."""
    net = Sketch(size, channels).conv(int(32 * width), 3, 2)
    for out, stride in MOBILENET_V1_BLOCKS:
        net.depthwise(3, stride).conv(int(out * width), 1)
    return net.global_pool().linear(classes)


def mobilenet_v2(width: float = 1.0, size: int = 224, classes: int = 1000, expand_first: bool = False) -> Sketch:
    """Sandler 2018. expand_first: a 1 x 1 convolution in the first block too, as in Caffe's file."""
    net = Sketch(size).conv(rounded(32 * width), 3, 2)
    if expand_first:
        net.conv(net.channels, 1)
    for expand, out, count, stride in MOBILENET_V2_BLOCKS:
        for index in range(count):
            _inverted(net, expand, rounded(out * width), 3, stride if index == 0 else 1)
    return net.conv(rounded(1280 * max(1.0, width)), 1).global_pool().linear(classes)


def _inverted(net: Sketch, expand: float, out: int, kernel: int, stride: int, squeeze: int = 0) -> None:
    """An inverted residual; squeeze: hidden channels of squeeze and excite, 0 for none."""
    channels = net.channels
    if expand != 1:
        net.conv(round(channels * expand), 1)
    net.depthwise(kernel, stride)
    if squeeze:
        net.squeeze_excite(squeeze)
    net.conv(out, 1)
    if stride == 1 and out == channels:
        net.add()


def mnasnet(size: int = 224) -> Sketch:
    """MnasNet-B1, Tan 2019."""
    net = Sketch(size).conv(32, 3, 2).depthwise().conv(16, 1)
    for expand, out, count, kernel, stride in (
        (3, 24, 3, 3, 2), (3, 40, 3, 5, 2), (6, 80, 3, 5, 2), (6, 96, 2, 3, 1), (6, 192, 4, 5, 2), (6, 320, 1, 3, 1),
    ):  # fmt: skip
        for index in range(count):
            _inverted(net, expand, out, kernel, stride if index == 0 else 1)
    return net.conv(1280, 1).global_pool().linear(1000)


def mobilenet_v3(size: int = 224) -> Sketch:
    """MobileNetV3-Large, Howard 2019; hard swish folded."""
    net = Sketch(size).conv(16, 3, 2)
    for kernel, hidden, out, squeeze, stride in (
        (3, 16, 16, 0, 1), (3, 64, 24, 0, 2), (3, 72, 24, 0, 1), (5, 72, 40, 1, 2), (5, 120, 40, 1, 1),
        (5, 120, 40, 1, 1), (3, 240, 80, 0, 2), (3, 200, 80, 0, 1), (3, 184, 80, 0, 1), (3, 184, 80, 0, 1),
        (3, 480, 112, 1, 1), (3, 672, 112, 1, 1), (5, 672, 160, 1, 2), (5, 960, 160, 1, 1), (5, 960, 160, 1, 1),
    ):  # fmt: skip
        expand = hidden / net.channels
        _inverted(net, expand, out, kernel, stride, rounded(hidden / 4) if squeeze else 0)
    return net.conv(960, 1).global_pool().conv(1280, 1).linear(1000)


def efficientnet_b0(size: int = 224) -> Sketch:
    """Tan 2019; swish folded."""
    net = Sketch(size).conv(32, 3, 2)
    for expand, out, count, kernel, stride in (
        (1, 16, 1, 3, 1), (6, 24, 2, 3, 2), (6, 40, 2, 5, 2), (6, 80, 3, 3, 2), (6, 112, 3, 5, 1), (6, 192, 4, 5, 2),
        (6, 320, 1, 3, 1),
    ):  # fmt: skip
        for index in range(count):
            _inverted(net, expand, out, kernel, stride if index == 0 else 1, max(1, net.channels // 4))
    return net.conv(1280, 1).global_pool().linear(1000)


def fd_mobilenet(width: float = 0.25, size: int = 224, classes: int = 5) -> Sketch:
    """Qin 2018: MobileNetV1 that shrinks the image within its first layers."""
    net = Sketch(size).conv(int(32 * width), 3, 2)
    for out, stride in ((64, 2), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 4, (1024, 1)):
        net.depthwise(3, stride).conv(int(out * width), 1)
    return net.global_pool().linear(classes)


def mobilenet_ssd(size: int = 300, classes: int = 21) -> Sketch:
    """MobileNetV1 with the SSD head of Liu 2016 on six maps, 3 anchors on the first, 6 on the others, 1 x 1 heads."""
    net = Sketch(size).conv(32, 3, 2)
    places = []
    for index, (out, stride) in enumerate(MOBILENET_V1_BLOCKS):
        net.depthwise(3, stride).conv(out, 1)
        if index in (10, 12):
            places.append(net.place)
    for inner, out in ((256, 512), (128, 256), (128, 256), (64, 128)):
        net.conv(inner, 1).conv(out, 3, 2)
        places.append(net.place)
    for index, place in enumerate(places):
        anchors = 6 if index else 3
        net.at(*place).conv(anchors * 4, 1).at(*place).conv(anchors * classes, 1)
    return net


def yolov4_tiny(size: int = 416, classes: int = 80) -> Sketch:
    """Wang 2021 (Scaled-YOLOv4), leaky ReLU folded."""
    net = Sketch(size).conv(32, 3, 2).conv(64, 3, 2)
    middle = (0, 0, 0)
    for channels in (64, 128, 256):
        net.conv(channels)
        whole = net.place
        net.at(*whole[:2], channels // 2).conv(channels // 2).conv(channels // 2).concat(channels).conv(channels, 1)
        if channels == 256:
            middle = net.place
        net.concat(2 * channels).pool()
    net.conv(512).conv(256, 1)
    neck = net.place
    net.conv(512).conv(3 * (classes + 5), 1)
    net.at(*neck).conv(128, 1).resize().at(*middle[:2], 128).concat(128 + middle[2])
    return net.conv(256).conv(3 * (classes + 5), 1)


def yolov8(width: float = 0.25, depth: float = 0.33, top: int = 1024, size: int = 640, classes: int = 80) -> Sketch:
    """The published layout of YOLOv8 (Jocher 2023): n, s, m by width and depth; SiLU folded, decoding left out."""

    def wide(channels: int) -> int:
        return rounded(min(channels, top) * width)

    def deep(count: int) -> int:
        return max(1, round(count * depth))

    def c2f(out: int, count: int, shortcut: bool) -> None:
        half = out // 2
        net.conv(out, 1)
        height, breadth, _ = net.place
        net.at(height, breadth, half)
        for _ in range(count):
            net.conv(half).conv(half)
            if shortcut:
                net.add()
        net.concat((2 + count) * half).conv(out, 1)

    net = Sketch(size).conv(wide(64), 3, 2)
    maps = []
    for out, count in ((128, 3), (256, 6), (512, 6), (1024, 3)):
        net.conv(wide(out), 3, 2)
        c2f(wide(out), deep(count), True)
        maps.append(net.place)
    net.conv(net.channels // 2, 1).pool(5, 1).pool(5, 1).pool(5, 1).concat(net.channels * 4).conv(wide(1024), 1)
    bottom = net.place
    net.resize().concat(bottom[2] + maps[2][2])
    c2f(wide(512), deep(3), False)
    middle = net.place
    net.resize().concat(middle[2] + maps[1][2])
    c2f(wide(256), deep(3), False)
    heads = [net.place]
    net.conv(net.channels, 3, 2).concat(net.channels + middle[2])
    c2f(wide(512), deep(3), False)
    heads.append(net.place)
    net.conv(net.channels, 3, 2).concat(net.channels + bottom[2])
    c2f(wide(1024), deep(3), False)
    heads.append(net.place)
    boxes, scores = max(16, heads[0][2] // 4, 64), max(heads[0][2], min(classes, 100))
    for place in heads:
        net.at(*place).conv(boxes).conv(boxes).conv(64, 1)
        net.at(*place).conv(scores).conv(scores).conv(classes, 1)
    return net


def ds_cnn() -> Sketch:
    """MLPerf Tiny's keyword spotting (Banbury 2021): 49 x 10 features, 64 channels."""
    net = Sketch((49, 10), 1).conv(64, (10, 4), 2)
    for _ in range(4):
        net.depthwise().conv(64, 1)
    return net.global_pool().linear(12)


def autoencoder() -> Sketch:
    """MLPerf Tiny's anomaly detection (Banbury 2021): 640 features, fully connected."""
    net = Sketch(1, 640)
    for out in (128, 128, 128, 128, 8, 128, 128, 128, 128, 640):
        net.linear(out)
    return net


ARCHITECTURES: dict[str, Callable[[int], Sketch]] = {
    "alexnet": lambda size: alexnet(size or 227),
    "alexnet_one_tower": lambda size: alexnet(one_tower=True),
    "vgg11": lambda size: vgg((1, 1, 2, 2, 2), size or 224),
    "vgg13": lambda size: vgg((2, 2, 2, 2, 2), size or 224),
    "vgg16": lambda size: vgg((2, 2, 3, 3, 3), size or 224),
    "resnet18": lambda size: resnet((2, 2, 2, 2), False, size or 224),
    "resnet34": lambda size: resnet((3, 4, 6, 3), False, size or 224),
    "resnet50": lambda size: resnet((3, 4, 6, 3), True, size or 224),
    "resnet50_caffe": lambda size: resnet((3, 4, 6, 3), True, size or 224, stride_first=True),
    "resnet101": lambda size: resnet((3, 4, 23, 3), True, size or 224),
    "resnet152": lambda size: resnet((3, 8, 36, 3), True, size or 224),
    "resnet8": lambda size: resnet_cifar(1),
    "resnet32_cifar": lambda size: resnet_cifar(5, 100),
    "densenet121": lambda size: densenet((6, 12, 24, 16), size=size or 224),
    "densenet169": lambda size: densenet((6, 12, 32, 32), size=size or 224),
    "squeezenet1_0": lambda size: squeezenet(1.0, size or 224),
    "squeezenet1_1_caffe": lambda size: squeezenet(1.1, size or 227, padded=True),
    "squeezenet1_1": lambda size: squeezenet(1.1, size or 227),
    "googlenet": lambda size: googlenet(size or 224),
    "mobilenet_v1": lambda size: mobilenet_v1(1.0, size or 224),
    "mobilenet_v1_0.5": lambda size: mobilenet_v1(0.5, size or 224),
    "mobilenet_v1_0.25": lambda size: mobilenet_v1(0.25, size or 224),
    "mobilenet_v1_0.5_flowers": lambda size: mobilenet_v1(0.5, size or 224, 5),
    "mobilenet_v1_0.25_flowers": lambda size: mobilenet_v1(0.25, size or 224, 5),
    "mobilenet_v1_0.25_grey": lambda size: mobilenet_v1(0.25, size or 96, 2, channels=1),
    "mobilenet_v1_0.25_person": lambda size: mobilenet_v1(0.25, size or 96, 2),
    "mobilenet_v2_caffe": lambda size: mobilenet_v2(1.0, size or 224, expand_first=True),
    "mobilenet_v2": lambda size: mobilenet_v2(1.0, size or 224),
    "mobilenet_v2_1.4": lambda size: mobilenet_v2(1.4, size or 224),
    "mobilenet_v2_0.35": lambda size: mobilenet_v2(0.35, size or 224),
    "mobilenet_v2_0.35_flowers": lambda size: mobilenet_v2(0.35, size or 224, 5),
    "mobilenet_v3": lambda size: mobilenet_v3(size or 224),
    "mnasnet": lambda size: mnasnet(size or 224),
    "efficientnet_b0": lambda size: efficientnet_b0(size or 224),
    "fd_mobilenet_0.25": lambda size: fd_mobilenet(0.25, size or 224),
    "mobilenet_ssd": lambda size: mobilenet_ssd(size or 300),
    "yolov4_tiny": lambda size: yolov4_tiny(size or 416),
    "yolov8n": lambda size: yolov8(0.25, 0.33, 1024, size or 640),
    "yolov8s": lambda size: yolov8(0.5, 0.33, 1024, size or 640),
    "yolov8m": lambda size: yolov8(0.75, 0.67, 768, size or 640),
    "ds_cnn": lambda size: ds_cnn(),
    "autoencoder": lambda size: autoencoder(),
}
"""Name -> sketch for an input size in pixels, 0 for the published one."""


@lru_cache(maxsize=256)
def architecture(name: str) -> tuple[Operation, ...]:
    """The operators of a network of `ARCHITECTURES`, by `name` or `name@size`. Raises KeyError for another name."""
    base, _, size = name.partition("@")
    return tuple(ARCHITECTURES[base](int(size or 0)).operations)
