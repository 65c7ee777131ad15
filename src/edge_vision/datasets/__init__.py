"""Datasets: read in the usual layouts, checked, split by sequence, searched for leaks, counted; training curves."""

from edge_vision.datasets.description import Dataset, Issue, Sample
from edge_vision.datasets.errors import DatasetError
from edge_vision.datasets.reading import read_dataset

__all__ = ["Dataset", "DatasetError", "Issue", "Sample", "read_dataset"]
