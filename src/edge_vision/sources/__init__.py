"""Where frames come from: the twin, files, folders, cameras, streams, all behind one `open_source`.

with open_source("belt.mp4", loop=True) as source:
    while (sample := source.read()) is not None:
        use(sample.frame)
"""

from edge_vision.sources.base import AUTOMATIC, Sample, Source, SourceError, SourceLost, hide_credentials
from edge_vision.sources.memory import MemorySource
from edge_vision.sources.opening import KINDS, open_source
from edge_vision.sources.pacing import Pacer
from edge_vision.sources.reconnecting import Reconnecting

__all__ = [
    "AUTOMATIC",
    "KINDS",
    "MemorySource",
    "Pacer",
    "Reconnecting",
    "Sample",
    "Source",
    "SourceError",
    "SourceLost",
    "hide_credentials",
    "open_source",
]
