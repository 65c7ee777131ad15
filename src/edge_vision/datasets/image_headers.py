"""Width and height of image files from their headers, without decoding: PNG, JPEG, BMP, WebP; others are decoded.

Formats: ISO/IEC 15948 (PNG), ITU-T T.81 annex B (JPEG), CIPA DC-008 (EXIF orientation), RFC 9649 (WebP).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import cv2

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm")
_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height


def is_image(path: Path) -> bool:
    """By its suffix; hidden files (macOS leaves ._name.jpg beside every image) are none."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def image_size(path: Path) -> tuple[int, int] | None:
    """(width, height) as `cv2.imread` gives them, None for what is no image. Raises OSError where there is no file."""
    with path.open("rb") as file:
        head = file.read(32)
        try:
            size = _by_header(head, file)
        except (struct.error, IndexError):
            size = None
    if size is None and head:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        return None if image is None else (image.shape[1], image.shape[0])
    return size if size and min(size) > 0 else None


def _by_header(head: bytes, file: BinaryIO) -> tuple[int, int] | None:
    if head[:8] == b"\x89PNG\r\n\x1a\n" and head[12:16] == b"IHDR":
        return struct.unpack(">II", head[16:24])
    if head[:2] == b"\xff\xd8":
        file.seek(2)
        return _jpeg(file)
    if head[:2] == b"BM":
        width, height = struct.unpack("<ii", head[18:26])
        return width, abs(height)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _webp(head)
    return None


def _webp(head: bytes) -> tuple[int, int] | None:
    if head[12:16] == b"VP8 ":
        width, height = struct.unpack("<HH", head[26:30])
        return width & 0x3FFF, height & 0x3FFF
    if head[12:16] == b"VP8L":
        bits = struct.unpack("<I", head[21:25])[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return None  # VP8X may carry an orientation: decode


def _jpeg(file: BinaryIO) -> tuple[int, int] | None:
    turned = False
    while True:
        marker = file.read(2)
        while marker[1:] == b"\xff":  # fill bytes
            marker = b"\xff" + file.read(1)
        if len(marker) < 2 or marker[0] != 0xFF:
            return None
        code = marker[1]
        if code == 0x01 or 0xD0 <= code <= 0xD8:
            continue
        length = struct.unpack(">H", file.read(2))[0]
        if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">xHH", file.read(5))
            return (height, width) if turned else (width, height)
        if code in (0xD9, 0xDA):
            return None
        if code == 0xE1:
            turned = turned or _orientation(file.read(length - 2)) in _TURNED
        else:
            file.seek(length - 2, 1)


def _orientation(segment: bytes) -> int:
    """The orientation in an APP1 segment; 1, upright, where it has none."""
    if segment[:6] != b"Exif\0\0" or len(segment) < 14:
        return 1
    tiff = segment[6:]
    order = "<" if tiff[:2] == b"II" else ">"
    try:
        start = struct.unpack(order + "I", tiff[4:8])[0]
        for place in range(struct.unpack(order + "H", tiff[start : start + 2])[0]):
            entry = tiff[start + 2 + 12 * place : start + 14 + 12 * place]
            if struct.unpack(order + "H", entry[:2])[0] == 0x0112:
                return struct.unpack(order + "H", entry[8:10])[0]
    except struct.error:
        pass
    return 1
