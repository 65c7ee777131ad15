"""The rotations of a tf tree: which frame hangs on which, and how it was turned when.

What tf2's buffer does for transforms, for rotations alone: they are all that a far scene's image depends on.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from edge_vision.tracking.attitude import AttitudeHistory, Missing
from edge_vision.tracking.rotations import IDENTITY, Quaternion, inverse, multiply


@dataclass(frozen=True, slots=True)
class Transform:
    """Orientation of ``child`` in ``parent`` at a stamp (ns): rotates vectors of the child frame into the parent."""

    parent: str
    child: str
    stamp: int
    rotation: Quaternion


@dataclass(frozen=True, slots=True)
class _Link:
    """From a frame to its parent: by a history, or for ever."""

    parent: str
    fixed: Quaternion | None
    history: AttitudeHistory


_Path = tuple[tuple[_Link, ...], tuple[_Link, ...]]


class TransformTree:
    """Frames by name. Written by one thread, read by another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._links: dict[str, _Link] = {}
        self._paths: dict[tuple[str, str], _Path | None] = {}

    def set(self, transform: Transform, static: bool = False) -> None:
        """One transform of /tf, or with ``static`` of /tf_static. A child that gets another parent begins anew."""
        link = self._links.get(transform.child)
        if link is None or link.parent != transform.parent or static or link.fixed is not None:
            fixed = transform.rotation if static else None
            if link is not None and link.parent == transform.parent and link.fixed == fixed is not None:
                return  # said again
            link = _Link(transform.parent, fixed, AttitudeHistory())
            with self._lock:
                self._links[transform.child] = link
                self._paths = {}
        if not static:
            link.history.add(transform.stamp, transform.rotation)

    @property
    def frames(self) -> tuple[str, ...]:
        """Every frame known."""
        links = dict(self._links)
        return tuple(sorted({*links, *(link.parent for link in links.values())}))

    def rotation(self, parent: str, child: str, stamp: int) -> Quaternion | Missing:
        """Orientation of ``child`` in ``parent`` at a stamp, over any number of transforms."""
        path = self._path(parent, child)
        return Missing.FRAMES if path is None else _along(path, stamp)

    def static_rotation(self, parent: str, child: str) -> Quaternion | Missing:
        """As `rotation` where only static transforms lie between the two; Missing.MOUNT elsewhere."""
        path = self._path(parent, child)
        if path is None or any(link.fixed is None for side in path for link in side):
            return Missing.MOUNT
        return _along(path, 0)

    def newest(self, parent: str, child: str) -> int | None:
        """Up to when the rotation is told: the oldest of the newest stamps on the way. None: not at all, or static."""
        path = self._path(parent, child)
        stamps = [link.history.newest for side in path or () for link in side if link.fixed is None]
        told = [stamp for stamp in stamps if stamp is not None]
        return min(told) if told and len(told) == len(stamps) else None

    def _path(self, parent: str, child: str) -> _Path | None:
        """The links up from the child and up from the parent to where they meet; None where they do not."""
        with self._lock:
            key = parent, child
            if key not in self._paths:
                self._paths[key] = self._find(parent, child)
            return self._paths[key]

    def _find(self, parent: str, child: str) -> _Path | None:
        up, down = self._ancestors(child), self._ancestors(parent)
        meeting = next((frame for frame in up if frame in down), None)
        if meeting is None:
            return None
        links = self._links
        return (
            tuple(links[frame] for frame in up[: up.index(meeting)]),
            tuple(links[frame] for frame in down[: down.index(meeting)]),
        )

    def _ancestors(self, frame: str) -> list[str]:
        """The frame itself, its parent, and so on; a loop ends where it closes."""
        result = [frame]
        while (link := self._links.get(result[-1])) is not None and link.parent not in result:
            result.append(link.parent)
        return result


def _along(path: _Path, stamp: int) -> Quaternion | Missing:
    sides = []
    for side in path:
        total = IDENTITY
        for link in side:
            rotation = link.history.at(stamp) if link.fixed is None else link.fixed
            if isinstance(rotation, Missing):
                return rotation
            total = multiply(rotation, total)
        sides.append(total)
    up, down = sides
    return multiply(inverse(down), up)
