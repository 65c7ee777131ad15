"""`SampleStore`: samples on their way to the archive. What cannot be written stays in memory and is tried again."""

from __future__ import annotations

import threading
from collections import deque
from pathlib import Path

import numpy as np

from edge_vision.calibration.archive import Sample, encode, next_run, write_head, write_sample
from edge_vision.calibration.boards import Board


class SampleStore:
    """Takes samples from any thread; `write` does the work. parent: folder of runs, "" where none is kept.

    With and without a folder images become PNGs, which take a third of the memory of pixels or less.
    """

    def __init__(self, parent: str, camera_name: str, board: Board) -> None:
        self.problem = ""
        """Why samples cannot be written, with the remedy; empty where they can."""
        self._parent = parent
        self._camera_name = camera_name
        self._board = board
        self._waiting: deque[tuple[int, Sample]] = deque()
        self._number = 0  # of the run, for samples that wait while a new one begins
        self._written = 0
        self._lock = threading.Lock()  # of writing, not of adding: deques are safe
        self._folders: dict[int, Path] = {}

    @property
    def folder(self) -> str:
        """Of this run; empty where none is kept, or nothing was written yet."""
        folder = self._folders.get(self._number)
        return str(folder) if folder is not None else ""

    @property
    def waits(self) -> bool:
        """Whether there are samples that `write` was not called for."""
        return self._written < len(self._waiting)

    def add(self, sample: Sample) -> None:
        self._waiting.append((self._number, sample))

    def new_run(self) -> None:
        """Samples added from now on go into a folder of their own."""
        self._number += 1

    def write(self) -> bool:
        """Writes what waits, as far as that goes; whether all is written. Never raises: see `problem`."""
        with self._lock:
            while self._waiting:
                number, sample = self._waiting[0]
                try:
                    if isinstance(sample.image, np.ndarray):
                        sample.image = encode(sample.image)
                    if self._parent:
                        sample.image = write_sample(self._folder_of(number), sample)
                except OSError as error:
                    for _, other in self._waiting:
                        if isinstance(other.image, np.ndarray):
                            other.image = encode(other.image)
                    self._written = len(self._waiting)
                    self.problem = (
                        f"cannot write the archive {error.filename or self._parent} ({error.strerror or error}): "
                        f"{self._written} samples are in memory alone; make it writable, or save them to another folder"
                    )
                    return False
                self._waiting.popleft()
            self._written, self.problem = 0, ""
            return True

    def _folder_of(self, number: int) -> Path:
        if number not in self._folders:
            folder = next_run(self._parent, self._camera_name)
            write_head(folder, self._board, self._camera_name)
            self._folders[number] = folder
        return self._folders[number]
