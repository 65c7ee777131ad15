"""Networks in 8-bit (and 4-bit) integers, as ONNX graphs of QuantizeLinear and DequantizeLinear pairs.

* `preparing`: what can be quantised, and the graph made ready; `placement`: which layers and tensors, and the decode
  tail that stays float; `ranges`: calibration by onnxruntime.quantization; `scales`; `qdq`: the pairs written;
* `stem`, `lowering`: parts of a graph said as integer kernels like them;
* `quantising`: the steps together, the best calibration chosen and sensitive layers taken back by measurement;
* `small`: the file as it is shipped; `weight_only`: weights in 4 bits, computed in float.
"""

from edge_vision.optimize.quantisation.options import Quantisation
from edge_vision.optimize.quantisation.quantising import Result, quantised_graph
from edge_vision.optimize.quantisation.small import finish

__all__ = ["Quantisation", "Result", "finish", "quantised_graph"]
