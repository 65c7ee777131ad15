"""Pictures to be measured, by name, and the reference of each: files of images, or frames of any source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge_vision.datatypes import Frame
from edge_vision.quality.errors import QualityError
from edge_vision.sources import SourceError, open_source
from edge_vision.sources.base import BaseSource, encoding_of
from edge_vision.sources.images import SUFFIXES, find_images, load_image


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture, or why there is none."""

    name: str
    frame: Frame | None = None
    problem: str = ""


class Pictures(Protocol):
    """Pictures one after another. length: None if unknown; timed: stamps tell seconds."""

    uri: str
    description: str
    length: int | None
    timed: bool
    warnings: list[str]

    def __iter__(self) -> Iterator[Shown]: ...
    def __enter__(self) -> Pictures: ...
    def __exit__(self, *_: object) -> None: ...


class ImageFiles:
    """Image files by name. One that cannot be read is told of and the next is taken."""

    timed = False

    def __init__(self, uri: str, paths: Sequence[str]) -> None:
        self.uri = uri
        self.paths = list(paths)
        self.length: int | None = len(self.paths)
        self.description = f"image {uri}" if self.paths == [uri] else f"{len(self.paths)} images of {uri}"
        self.warnings: list[str] = []

    def __iter__(self) -> Iterator[Shown]:
        return (self.show(path, index) for index, path in enumerate(self.paths))

    def __enter__(self) -> ImageFiles:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""

    def show(self, path: str, index: int = 0) -> Shown:
        name = Path(path).name
        try:
            image = load_image(path)
        except SourceError as error:
            return Shown(name, problem=str(error))
        # Stamps tell images apart; a tenth of a second is what image sources use, too.
        return Shown(name, Frame(image, index * 100_000_000, sequence=index, encoding=encoding_of(image)))


class SourceFrames:
    """Frames of a video, a camera or the twin, called by their number."""

    timed = True

    def __init__(self, source: BaseSource) -> None:
        self._source = source
        self.uri = source.uri
        self.description = source.description
        self.length = source.length
        self.warnings = source.warnings

    def __iter__(self) -> Iterator[Shown]:
        index = 0
        while (sample := self._source.read()) is not None:
            yield Shown(f"frame {index}", sample.frame)
            index += 1

    def __enter__(self) -> SourceFrames:
        return self

    def __exit__(self, *_: object) -> None:
        self._source.close()


class OneForAll(ImageFiles):
    """One image, again and again, read once."""

    def __iter__(self) -> Iterator[Shown]:
        shown = self.show(self.paths[0])
        if shown.frame is None:
            raise SourceError(shown.problem)
        while True:
            yield shown


class Matching(ImageFiles):
    """For each of the pictures the image that has its name; None in `found` where there is none."""

    def __init__(self, uri: str, found: Sequence[str | None], names: Sequence[str]) -> None:
        super().__init__(uri, [path for path in found if path])
        self._found, self._names = list(found), list(names)

    def __iter__(self) -> Iterator[Shown]:
        for path, name in zip(self._found, self._names, strict=True):
            yield self.show(path) if path else Shown(name, problem=f"no image called {name} in {self.uri}")


def open_pictures(uri: str) -> Pictures:
    """Files of images where `uri` names an image, a folder or a pattern of images, else any source's frames.

    Raises SourceError where there are none.
    """
    plain = "://" not in uri and (Path(uri).is_dir() or Path(uri).suffix.lower() in SUFFIXES)
    if plain:
        return ImageFiles(uri, find_images(uri))
    return SourceFrames(open_source(uri))


def open_references(uri: str, pictures: Pictures) -> Pictures:
    """The reference of each picture: the one image there is; by file name between folders, or in their order where no
    name is in both and there are as many; else in order. Raises SourceError where there are none, QualityError where
    they cannot be told which is whose."""
    references = open_pictures(uri)
    if not isinstance(references, ImageFiles):
        return references
    if len(references.paths) == 1:
        return OneForAll(uri, references.paths)
    if not isinstance(pictures, ImageFiles):
        return references
    by_name = {Path(path).stem: path for path in references.paths}
    found = [by_name.get(Path(path).stem) for path in pictures.paths]
    if any(found):
        return Matching(uri, found, [Path(path).name for path in pictures.paths])
    if len(references.paths) != len(pictures.paths):
        raise QualityError(
            f"{len(pictures.paths)} images of {pictures.uri} have {len(references.paths)} references in {uri} and no "
            "name is in both",
            "give references the names of their images",
        )
    return references
