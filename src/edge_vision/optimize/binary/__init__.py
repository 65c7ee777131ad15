"""Binarised convolutions: weights and activations of one bit.

* `bits`: signs packed into bytes and words; `kernel`: the convolution by exclusive or and bit count;
* `graphs`: how a binarised convolution stands in an ONNX graph, and weights that are stored as bits in it;
* `network`: a graph with such convolutions run with bits on the CPU, the rest by ONNX Runtime.
"""
