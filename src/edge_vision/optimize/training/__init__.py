"""Training on ONNX graphs: a graph runs in PyTorch with its own initialisers as parameters, and what was trained is
written back into the same graph. Needs PyTorch, which is imported here and nowhere else: import these modules lazily
(but for `options`, which does without).
"""

import os

# PyTorch's threads wait for each other by spinning, as long as the user does not say otherwise. On two cores that
# something else uses as well, two threads then trained conveyor_parts at 12 images a second; at 40 with a short spin.
# The runtime reads this once, when PyTorch is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
