"""Boards on paper, true to scale: PDF, SVG, PNG with a ruler to check the printer by; rasters for tests and twins."""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.boards import Board, BoardError
from edge_vision.calibration.opencv_aruco import marker_cells

PAPERS = {
    "a4": (210.0, 297.0),
    "letter": (215.9, 279.4),
    "a3": (297.0, 420.0),
    "a2": (420.0, 594.0),
    "a1": (594.0, 841.0),
    "a0": (841.0, 1189.0),
}
"""Sheets (width, height) in mm, upright."""

_MARGIN = 6.0  # mm that printers leave white
_FOOT = 13.0  # mm for ruler and name
_MM_A_POINT = 25.4 / 72
_MOST_PIXELS = 400_000_000


@dataclass(frozen=True)
class Pattern:
    """What is black on a sheet, in mm from its top left corner, x right, y down."""

    width: float
    height: float
    rectangles: NDArray[np.float64]
    """(N, 4) left, top, right, bottom"""
    circles: NDArray[np.float64]
    """(N, 3) centre x, y, radius"""
    texts: tuple[tuple[float, float, float, str], ...]
    """(x, baseline y, height of capitals, text)"""
    points: NDArray[np.float64]
    """(M, 2) where `Board.points` are"""


def board_pattern(board: Board, margin: float | None = None) -> Pattern:
    """The bare board with a white margin (mm; default half its spacing, at least 5 mm) around. Raises BoardError."""
    margin = max(5.0, board.spacing * 500) if margin is None else margin
    low, high = board.outline[:, :2].min(0), board.outline[:, :2].max(0)
    width, height = (float(side) * 1000 + 2 * margin for side in high - low)

    def place(points: NDArray[np.float64]) -> Any:
        xy = (points[..., :2] - low) * 1000.0 + margin
        if board.kind == "aprilgrid":  # its y is up
            xy[..., 1] = height - xy[..., 1]
        return xy

    rectangles: list[NDArray[np.float64]] = []
    points = place(board.points)
    circles = np.zeros((0, 3))
    if board.kind in ("chessboard", "charuco"):
        across, down = (n + (board.kind == "chessboard") for n in (board.columns, board.rows))
        dark = 1 if board.legacy and board.rows % 2 == 0 else 0
        square = board.spacing * 1000
        squares = [(x, y) for y in range(down) for x in range(across) if (x + y) % 2 == dark]
        origins = np.array(squares, np.float64) * square + margin
        rectangles.append(np.hstack([origins, origins + square]))
    if board.kind == "aprilgrid":
        gap = (board.spacing - board.marker) * 1000
        x, y = np.meshgrid(np.arange(board.columns + 1), np.arange(board.rows + 1))
        origins = np.column_stack([x.ravel(), y.ravel()]).astype(np.float64) * (board.spacing * 1000) + margin
        rectangles.append(np.hstack([origins, origins + gap]))
    for number, corners in enumerate(place(board.markers)):
        cells = marker_cells(board.dictionary, board.first_marker + number, board.border)
        if board.kind == "aprilgrid":  # AprilTag's own drawing, which Kalibr prints, is OpenCV's turned by 180 degrees
            cells = cells[::-1, ::-1]
        rectangles.append(_runs(cells) * (board.marker * 1000 / len(cells)) + np.tile(corners[0], 2))
    if board.kind in ("circles", "acircles"):
        circles = np.column_stack([points, np.full(len(points), board.marker * 500)])
    return Pattern(width, height, np.concatenate([*rectangles, np.zeros((0, 4))]), circles, texts=(), points=points)


def sheet_pattern(board: Board, paper: str = "auto") -> tuple[Pattern, str]:
    """A board on a sheet with ruler and name, and the sheet's name. Raises BoardError where it is too large.

    ``paper``: one of PAPERS; "auto" takes the smallest of the A series that holds it, or "board"; "board" a sheet as
    large as needed.
    """
    bare = board_pattern(board, 0.0)
    rim = max(5.0, board.spacing * 250)  # white, without which the outer squares are not found
    need = bare.width + 2 * max(rim, _MARGIN), bare.height + max(rim, _MARGIN) + rim + _FOOT + _MARGIN

    def fitting(name: str) -> tuple[float, float] | None:
        short, long = PAPERS[name]
        return next((s for s in ((short, long), (long, short)) if need[0] <= s[0] and need[1] <= s[1]), None)

    if paper == "auto":
        paper = next((name for name in PAPERS if name.startswith("a") and fitting(name)), "board")
    if paper == "board":
        size: tuple[float, float] | None = (max(need[0], 70.0), need[1])
    elif paper in PAPERS:
        size = fitting(paper)
    else:
        raise BoardError(f"paper {paper!r} is not known; known are {', '.join(PAPERS)}, auto, board")
    if size is None:
        larger = [name for name in PAPERS if fitting(name)]
        raise BoardError(
            f"the board with its margin and ruler needs {need[0]:.0f} x {need[1]:.0f} mm, {paper} has "
            f"{PAPERS[paper][0]:.0f} x {PAPERS[paper][1]:.0f}; take {', '.join([*larger, 'board'])} or smaller squares"
        )
    width, height = size
    left = (width - bare.width) / 2
    top = (height - _FOOT - _MARGIN - bare.height + max(rim, _MARGIN) - rim) / 2
    rectangles, texts = _foot(board, width, height)
    return Pattern(
        width,
        height,
        np.concatenate([bare.rectangles + [left, top, left, top], rectangles]),
        bare.circles + [left, top, 0],
        texts,
        bare.points + [left, top],
    ), paper


def rasterise(pattern: Pattern, pixels_a_mm: float) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A sheet as a grey image, and where its points are in it, (M, 2) px with pixel centres at whole numbers.

    Every pixel is as dark as its area is covered, so that edges are where they are to a fraction of a pixel.
    """
    columns, rows = round(pattern.width * pixels_a_mm), round(pattern.height * pixels_a_mm)
    if columns * rows > _MOST_PIXELS:
        raise BoardError(
            f"{columns} x {rows} pixels are too many; take a lower --dpi, or a PDF or SVG, which have none"
        )
    ink = np.zeros((rows, columns), np.float32)
    for left, top, right, bottom in pattern.rectangles * pixels_a_mm:
        x0, y0 = max(int(left), 0), max(int(top), 0)
        x, y = np.arange(x0, min(int(np.ceil(right)), columns)), np.arange(y0, min(int(np.ceil(bottom)), rows))
        across = np.minimum(x + 1, right) - np.maximum(x, left)
        down = np.minimum(y + 1, bottom) - np.maximum(y, top)
        ink[y0 : y0 + len(y), x0 : x0 + len(x)] += np.outer(down, across).astype(np.float32)
    for cx, cy, radius in pattern.circles * pixels_a_mm:
        x0, y0 = max(int(cx - radius - 1), 0), max(int(cy - radius - 1), 0)
        y, x = np.mgrid[y0 : min(int(cy + radius + 2), rows), x0 : min(int(cx + radius + 2), columns)]
        distance = np.hypot(x + 0.5 - cx, y + 0.5 - cy)
        ink[y0 : y0 + y.shape[0], x0 : x0 + y.shape[1]] += np.clip(radius - distance + 0.5, 0, 1).astype(np.float32)
    image = np.clip(np.rint(255 * (1 - ink)), 0, 255).astype(np.uint8)
    for left, baseline, capitals, text in pattern.texts:
        scale = capitals * pixels_a_mm / 21  # OpenCV's capitals are 21 px high at scale 1
        at = round(left * pixels_a_mm), round(baseline * pixels_a_mm)
        cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, 0, max(1, round(scale * 2)), cv2.LINE_AA)
    return image, pattern.points * pixels_a_mm - 0.5


def write_board(board: Board, path: str | os.PathLike[str], *, paper: str = "auto", dpi: float = 300) -> str:
    """Writes a sheet to print: .pdf, .svg or .png; returns its paper. Raises BoardError, OSError."""
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in (".pdf", ".svg", ".png"):
        raise BoardError(f"{target}: boards are written as .pdf, .svg or .png")
    pattern, paper = sheet_pattern(board, paper)
    if suffix == ".svg":
        target.write_text(_svg(pattern, str(board)), encoding="utf-8")
    elif suffix == ".png":
        image, _ = rasterise(pattern, dpi / 25.4)
        target.write_bytes(_png(image, dpi))
    else:
        _write_pdf(pattern, target, str(board))
    return paper


def ruler_length(width: float) -> int:
    """mm: how long the ruler on a sheet of that width (mm) is."""
    return 100 if width >= 100 + 2 * _MARGIN else 50


def _runs(cells: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(N, 4) left, top, right, bottom, in cells, of the black runs of each row."""
    runs = []
    for y, row in enumerate(cells):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(np.int8), [0]])))
        runs += [(start, y, end, y + 1) for start, end in edges.reshape(-1, 2)]
    return np.array(runs, np.float64)


def _foot(
    board: Board, width: float, height: float
) -> tuple[NDArray[np.float64], tuple[tuple[float, float, float, str], ...]]:
    """Ruler, name and advice at the bottom of a sheet."""
    length = ruler_length(width)
    left, line = _MARGIN, height - _MARGIN - 5.0
    bars = [(left - 0.1, line, left + length + 0.1, line + 0.2)]
    ticks = range(0, length + 1, 10)
    bars += [(left + t - 0.1, line - (4 if t % 50 == 0 else 2), left + t + 0.1, line) for t in ticks]
    wide = width >= 190
    lines = (
        ["Print at 100 %, without fitting to", "the page, then measure this ruler."] if wide else ["Print at 100 %."]
    )
    texts = [(left + 1.5, line - 3.0, 1.8, f"{length} mm")]
    texts += [(left + length + 4, line - 2.4 + 3.4 * i, 1.8, text) for i, text in enumerate(lines)]
    texts.append((left, line + 4.6, 2.0 if wide else 1.3, str(board)))
    return np.array(bars), tuple(texts)


def _svg(pattern: Pattern, title: str) -> str:
    """One path for all that is rectangular, so that no hairline shows where two meet."""
    path = "".join(f"M{x0:.6g} {y0:.6g}H{x1:.6g}V{y1:.6g}H{x0:.6g}Z" for x0, y0, x1, y1 in pattern.rectangles)
    width, height = f"{pattern.width:g}", f"{pattern.height:g}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}mm" height="{height}mm" '
            f'viewBox="0 0 {width} {height}">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{width}" height="{height}" fill="white"/>',
            f'<path d="{path}"/>',
            *(f'<circle cx="{x:.6g}" cy="{y:.6g}" r="{r:.6g}"/>' for x, y, r in pattern.circles),
            *(
                f'<text x="{x:.6g}" y="{y:.6g}" font-family="sans-serif" font-size="{size / 0.72:.4g}">'
                f"{escape(text)}</text>"
                for x, y, size, text in pattern.texts
            ),
            "</svg>\n",
        ]
    )


def _png(image: NDArray[np.uint8], dpi: float) -> bytes:
    """A PNG that says how large its pixels are (chunk pHYs, after IHDR; W3C PNG 11.3.5.3), which OpenCV leaves out."""
    done, encoded = cv2.imencode(".png", image)
    if not done:
        raise BoardError("OpenCV could not encode the PNG; write a PDF or SVG")
    data = encoded.tobytes()
    body = b"pHYs" + struct.pack(">IIB", round(dpi / 0.0254), round(dpi / 0.0254), 1)
    chunk = struct.pack(">I", 9) + body + struct.pack(">I", zlib.crc32(body))
    header = 8 + 4 + 4 + 13 + 4  # signature; length, type, data and checksum of IHDR
    return data[:header] + chunk + data[header:]


def _write_pdf(pattern: Pattern, target: Path, title: str) -> None:
    """By matplotlib's PDF backend, which draws vectors in points."""
    try:
        from matplotlib.backends.backend_pdf import FigureCanvasPdf
        from matplotlib.figure import Figure
        from matplotlib.patches import Circle, PathPatch
        from matplotlib.path import Path as Outline
    except ImportError:
        raise BoardError("PDF needs matplotlib: pip install 'edge_vision[report]', or write an .svg") from None

    figure = Figure(figsize=(pattern.width / 25.4, pattern.height / 25.4))
    FigureCanvasPdf(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, pattern.width)
    axes.set_ylim(pattern.height, 0)
    boxes = pattern.rectangles
    vertices = np.stack([boxes[:, [0, 1]], boxes[:, [2, 1]], boxes[:, [2, 3]], boxes[:, [0, 3]], boxes[:, [0, 1]]], 1)
    codes = np.tile([Outline.MOVETO, *[Outline.LINETO] * 3, Outline.CLOSEPOLY], len(boxes))
    axes.add_patch(PathPatch(Outline(vertices.reshape(-1, 2), codes), facecolor="black", linewidth=0))
    for x, y, radius in pattern.circles:
        axes.add_patch(Circle((x, y), radius, facecolor="black", linewidth=0))
    for x, y, capitals, text in pattern.texts:
        axes.text(x, y, text, fontsize=capitals / 0.73 / _MM_A_POINT, family="sans-serif", va="baseline")
    figure.savefig(target, format="pdf", metadata={"Title": title, "CreationDate": None})
