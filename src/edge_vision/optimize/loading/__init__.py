"""Images with their truth for passes and measurements: of the digital twin, or of a dataset on disk.

data = load_data("sim://parts", network.input, network.task, network.labels)
"""

from edge_vision.optimize.loading.common import DataError, Limits
from edge_vision.optimize.loading.opening import load_data

__all__ = ["DataError", "Limits", "load_data"]
