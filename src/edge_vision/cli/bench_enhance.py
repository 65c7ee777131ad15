"""`edge_vision bench enhance`: what enhancing is worth, and what it costs."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

DESCRIPTION = (
    "Runs the bundled detector on frames of the twin that are dark, too bright or flat, without and with enhancement, "
    "sharpens a picture that was blurred in nine ways, and times every stage."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--frames", type=int, default=40, help="frames of each condition")
    parser.add_argument("--image", metavar="FILE", help="picture to blur and sharpen (default: a frame of the twin)")
    parser.add_argument("--picture", metavar="FILE", help="write frames before and after to this image file, and end")
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON, - for stdout")
    parser.add_argument("--check", action="store_true", help="exit with 1 where anything got worse")


def run(arguments: argparse.Namespace) -> int:
    import cv2

    from edge_vision.benchmarks import enhance
    from edge_vision.simulation import Conveyor, ConveyorOptions

    if arguments.picture:
        if not cv2.imwrite(arguments.picture, enhance.picture()):
            return _fail(f"{arguments.picture} cannot be written; give a file that ends in .png or .jpg")
        return 0
    if arguments.frames < 1:
        return _fail(f"--frames {arguments.frames}: give 1 or more")
    if arguments.image:
        image = cv2.imread(arguments.image, cv2.IMREAD_GRAYSCALE)
        if image is None:
            return _fail(f"{arguments.image} is no image that can be read")
    else:
        image = cv2.cvtColor(Conveyor(ConveyorOptions(seed=1, noise=False)).render(5).frame.image, cv2.COLOR_BGR2GRAY)

    quiet = arguments.json == "-"
    lines: list[str] = []

    def say(text: str) -> None:
        lines.append(text)
        if not quiet:
            print(text, flush=True)

    say(f"mAP on {arguments.frames} frames a condition\n{'condition':16} {'without':>8} {'with':>8}  applied")
    gains = []
    for gain in enhance.detection_gains(frames=arguments.frames):
        gains.append(gain)
        say(f"{gain.condition:16} {gain.before:8.3f} {gain.after:8.3f}  {', '.join(gain.applied) or 'nothing'}")
    say(f"\nblur and noise taken back\n{'blur px':>8} {'noise DN':>8} {'PSNR dB':>16} {'SSIM':>16}")
    restored = list(enhance.restored(image))
    for row in restored:
        decibels = f"{row.psnr_before:.2f} > {row.psnr_after:.2f}"
        similar = f"{row.ssim_before:.3f} > {row.ssim_after:.3f}"
        say(f"{row.blur:8.1f} {row.noise:8.0f} {decibels:>16} {similar:>16}")
    sizes = ((640, 480), (1920, 1080))
    times = {f"{width}x{height}": enhance.stage_times(width, height) for width, height in sizes}
    say(f"\nms a frame (bgr8)          {' '.join(f'{size:>10}' for size in times)}")
    for name in next(iter(times.values())):
        say(f"{name:26} {' '.join(f'{stages[name]:10.1f}' for stages in times.values())}")
    if arguments.json:
        document = {
            "detection": [asdict(gain) for gain in gains],
            "restored": [asdict(row) for row in restored],
            "milliseconds": times,
        }
        written = json.dumps(document, indent=2)
        if quiet:
            print(written)
        else:
            Path(arguments.json).write_text(written + "\n")
    worse = any(gain.after < gain.before - 0.01 for gain in gains)
    worse |= any(row.psnr_after < row.psnr_before - 0.01 or row.ssim_after < row.ssim_before - 1e-3 for row in restored)
    return 1 if arguments.check and worse else 0


def _fail(text: str) -> int:
    print(f"edge_vision bench enhance: {text}", file=sys.stderr)
    return 2
