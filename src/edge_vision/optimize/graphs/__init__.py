"""ONNX graphs read and rewritten: what a pass needs to know of a graph, and the steps that several passes share.

* `view`: who makes and who reads a tensor, constants, weighted layers;
* `shapes`: the sizes of every tensor, and multiply-accumulates;
* `editing`: constants set, nodes taken out, what nobody reads removed;
* `folding`: constants computed once, batch normalisation folded into the layer before it;
* `running`: a graph run in ONNX Runtime, and two graphs compared;
* `units`, `following`, `rearranging`, `channels`: channels that live and die together;
* `importance`, `choosing`, `shrinking`, `reconstruction`: which of them go, and tensors without them;
* `residual`: blocks that a network can do without; `resizing`: another size of image.
"""
